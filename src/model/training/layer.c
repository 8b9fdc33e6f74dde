/* layer.c: the wiring of one layer, forth and back, and what it keeps in between.
 *
 * The activations of the layer in hand are floats (`held`). They lie where they are kept, or, when that is as bf16 or
 * not at all, in a room that all layers share; then the way back begins by filling it again, from what was kept
 * or by computing the layer from what went into it.
 */
#include "training_internal.h"

/* ---- what is kept ------------------------------------------------------------------------- */

static void **kept_of(const struct train_tape *t, int layer)
{
    return t->kept + (int64_t)layer * KEPT_COUNT;
}

static bool is_exact(const struct train_tape *t, int kept)
{
    return !t->options.half || kept == KEPT_LSE || kept == KEPT_U;
}

static void hold(struct train_tape *t, int layer)
{
    for (int i = 0; i < KEPT_COUNT; i++) {
        void *kept = kept_of(t, layer)[i];
        t->held[i] = kept && is_exact(t, i) ? kept : t->room[i];
    }
}

struct copy_pass {
    struct train_tape *tape;
    int layer;
    bool store;
};

/* Between the room and bf16. */
static void copy_work(void *context, int worker, int n_workers)
{
    const struct copy_pass *p = context;
    const struct train_tape *t = p->tape;
    for (int i = 0; i < KEPT_COUNT; i++) {
        uint16_t *kept = kept_of(t, p->layer)[i];
        int64_t begin, end, n = kept_width(t, p->layer, (enum kept)i) * t->batch->n_tok;
        if (!kept || is_exact(t, i))
            continue;
        pool_split(n, 64, worker, n_workers, &begin, &end);
        if (p->store)
            t->kernels->bf16_store(t->held[i] + begin, end - begin, kept + begin);
        else
            t->kernels->bf16_load(kept + begin, end - begin, t->held[i] + begin);
    }
}

static void copy_kept(struct train_tape *t, int layer, bool store)
{
    struct copy_pass p = {t, layer, store};
    if (t->options.half)
        tape_region(t, copy_work, &p, INT64_MAX);
}

/* ---- steps -------------------------------------------------------------------------------- */

static struct group_pass pass_of(struct train_tape *t, int layer, enum group_id id, const float *x)
{
    const struct group *g = layer_group(t, layer, id);
    return (struct group_pass){.tape = t,
                               .group = g,
                               .n_tok = t->batch->n_tok,
                               .x = x,
                               .u = t->held[KEPT_U] + g->first_u * t->batch->n_tok};
}

static struct group_pass pass_qkv(struct train_tape *t, int layer)
{
    struct group_pass p = pass_of(t, layer, GROUP_QKV, t->h);
    p.z[0] = t->held[KEPT_Q];
    p.z[1] = t->held[KEPT_K];
    p.z[2] = t->held[KEPT_V];
    return p;
}

static struct group_pass pass_o(struct train_tape *t, int layer)
{
    struct group_pass p = pass_of(t, layer, GROUP_O, t->held[KEPT_ATT]);
    p.z[0] = t->held[KEPT_O];
    return p;
}

static struct group_pass pass_mlp(struct train_tape *t, int layer)
{
    struct group_pass p = pass_of(t, layer, GROUP_MLP, t->h);
    p.z[0] = t->held[KEPT_GATE];
    p.z[1] = t->held[KEPT_UP];
    return p;
}

static struct group_pass pass_down(struct train_tape *t, int layer)
{
    struct group_pass p = pass_of(t, layer, GROUP_DOWN, t->wide);
    p.z[0] = t->held[KEPT_DOWN];
    return p;
}

struct add_pass {
    struct train_tape *tape;
    const struct site *site;
    const float *z;
    float *copy;
};

/* x += y of a linear, and a copy of x. */
static void add_work(void *context, int worker, int n_workers)
{
    const struct add_pass *p = context;
    const struct train_tape *t = p->tape;
    int64_t begin, end, width = t->model->config.d_model;
    pool_split(t->batch->n_tok, 1, worker, n_workers, &begin, &end);
    for (int64_t i = begin; i < end; i++) {
        if (p->site)
            t->kernels->add(t->x + i * width,
                            site_row(t, p->site, p->z + i * width, t->workers[worker].row), width);
        if (p->copy)
            memcpy(p->copy + i * width, t->x + i * width, (size_t)width * sizeof(float));
    }
}

static void add_output(struct train_tape *t, const struct group_pass *from, float *copy)
{
    struct add_pass p = {t, from ? from->group->sites[0] : NULL, from ? from->z[0] : NULL, copy};
    tape_region(t, add_work, &p, (int64_t)t->batch->n_tok * t->model->config.d_model * 2);
}

/* ---- forth -------------------------------------------------------------------------------- */

/* From x, a copy of which is in place as KEPT_X; `again`: without what comes out, which nobody needs then. */
static void compute(struct train_tape *t, int layer, bool again)
{
    norm_forward(t, model_norm(layer, NORM_ATTN), t->held[KEPT_X], t->h);
    struct group_pass qkv = pass_qkv(t, layer), o = pass_o(t, layer), mlp = pass_mlp(t, layer),
                      down = pass_down(t, layer);
    group_forward(&qkv);
    attention_forward(t, layer);
    group_forward(&o);
    add_output(t, &o, t->held[KEPT_MID]);
    norm_forward(t, model_norm(layer, NORM_MLP), t->held[KEPT_MID], t->h);
    group_forward(&mlp);
    mlp_forward(t, layer);
    if (again) {
        group_down(&down);
        return;
    }
    group_forward(&down);
    add_output(t, &down, NULL);
}

void layer_forward(struct train_tape *t, int layer)
{
    hold(t, layer);
    add_output(t, NULL, t->held[KEPT_X]);
    compute(t, layer, false);
    copy_kept(t, layer, true);
}

/* ---- back --------------------------------------------------------------------------------- */

static void recall(struct train_tape *t, int layer)
{
    hold(t, layer);
    copy_kept(t, layer, false);
    if (!t->options.checkpoint) {
        mlp_forward(t, layer);
        return;
    }
    memcpy(t->x, t->held[KEPT_X],
           (size_t)t->batch->n_tok * (size_t)t->model->config.d_model * sizeof(float));
    compute(t, layer, true);
}

/* What the loss says of a sum, as the dy of a linear that is one of its terms: a copy where that becomes dz. */
static float *branch(struct train_tape *t, const struct group_pass *p)
{
    size_t bytes = (size_t)t->batch->n_tok * (size_t)t->model->config.d_model * sizeof(float);
    if (!p->group->sites[0]->gain)
        return t->dx;
    memcpy(t->y, t->dx, bytes);
    return t->y;
}

static bool goes_on(const struct train_tape *t, int layer)
{
    const struct trained *norms = t->set->norms;
    return layer > t->first_layer || t->embed_trained ||
           (norms && norms[model_norm(layer, NORM_ATTN)].grad);
}

void layer_backward(struct train_tape *t, int layer)
{
    int n_tok = t->batch->n_tok;
    recall(t, layer);
    struct group_pass qkv = pass_qkv(t, layer), o = pass_o(t, layer), mlp = pass_mlp(t, layer),
                      down = pass_down(t, layer);
    down.dy[0] = branch(t, &down);
    down.dx = t->second_wide;
    group_backward(&down);

    mlp_backward(t, layer);
    norm_forward(t, model_norm(layer, NORM_MLP), t->held[KEPT_MID], t->h);
    mlp.dy[0] = t->second_wide;
    mlp.dy[1] = t->wide;
    mlp.dx = t->dh;
    group_backward(&mlp);
    norm_backward(t, model_norm(layer, NORM_MLP), t->held[KEPT_MID], t->dh, n_tok, NULL, t->dx);

    o.dy[0] = branch(t, &o);
    o.dx = t->datt;
    group_backward(&o);

    attention_backward(t, layer);
    norm_forward(t, model_norm(layer, NORM_ATTN), t->held[KEPT_X], t->h);
    qkv.dy[0] = t->dq;
    qkv.dy[1] = t->dk;
    qkv.dy[2] = t->dv;
    qkv.dx = goes_on(t, layer) ? t->dh : NULL;
    group_backward(&qkv);
    if (qkv.dx)
        norm_backward(t, model_norm(layer, NORM_ATTN), t->held[KEPT_X], t->dh, n_tok, NULL, t->dx);
}
