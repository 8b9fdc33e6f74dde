/* attention.c: from the linears' q, k, v to att, forth and back: norms of heads, rotation, softmax over one example.
 *
 * On the way back q, k and v are made again from z, which costs little beside keeping them. Rotation is
 * orthogonal but for YaRN's factor, which both ways have: back, only the sine changes its sign.
 */
#include "training_internal.h"

#include <math.h>

struct attention_pass {
    struct train_tape *tape;
    int layer;
    bool back;
};

static void rotate(const struct train_tape *t, int64_t token, const float *sines, float *x)
{
    const struct config *c = &t->model->config;
    const float *cos = t->cos + token * (c->d_head / 2), *sin = sines + token * (c->d_head / 2);
    if (c->rope.interleaved)
        t->kernels->rope_interleaved(x, cos, sin, c->d_head);
    else
        t->kernels->rope(x, cos, sin, c->d_head);
}

/* The heads of one token, in place. */
static void make_heads(const struct train_tape *t, int64_t token, int norm, int n_heads, float *x)
{
    const struct config *c = &t->model->config;
    const float *weight = tape_norm(t, norm);
    for (int i = 0; i < n_heads; i++, x += c->d_head) {
        if (weight)
            t->kernels->rmsnorm(x, weight, c->d_head, c->norm_eps, x);
        rotate(t, token, t->sin, x);
    }
}

static void heads_work(void *context, int worker, int n_workers)
{
    const struct attention_pass *p = context;
    const struct train_tape *t = p->tape;
    const struct config *c = &t->model->config;
    const struct group *g = layer_group(t, p->layer, GROUP_QKV);
    int64_t begin, end, d_q = (int64_t)c->n_head * c->d_head, d_kv = (int64_t)c->n_kv * c->d_head;
    pool_split(t->batch->n_tok, 1, worker, n_workers, &begin, &end);
    for (int64_t i = begin; i < end; i++) {
        site_finish(t, g->sites[0], t->held[KEPT_Q] + i * d_q, t->q + i * d_q);
        site_finish(t, g->sites[1], t->held[KEPT_K] + i * d_kv, t->k + i * d_kv);
        site_finish(t, g->sites[2], t->held[KEPT_V] + i * d_kv, t->v + i * d_kv);
        make_heads(t, i, model_norm(p->layer, NORM_Q), c->n_head, t->q + i * d_q);
        make_heads(t, i, model_norm(p->layer, NORM_K), c->n_kv, t->k + i * d_kv);
    }
}

/* One KV head of one example. */
static void attend(const struct attention_pass *p, int example, int head, float *scratch)
{
    const struct train_tape *t = p->tape;
    const struct config *c = &t->model->config;
    int n_group = c->n_head / c->n_kv, first = t->batch->starts[example];
    int64_t d_q = (int64_t)c->n_head * c->d_head, d_kv = (int64_t)c->n_kv * c->d_head;
    int64_t q = first * d_q + (int64_t)head * n_group * c->d_head;
    int64_t kv = first * d_kv + (int64_t)head * c->d_head;
    const struct self_attention_args args = {.q = t->q + q,
                                             .k = t->k + kv,
                                             .v = t->v + kv,
                                             .out = t->held[KEPT_ATT] + q,
                                             .lse = t->held[KEPT_LSE] + (int64_t)first * c->n_head +
                                                    (int64_t)head * n_group,
                                             .dout = t->datt + q,
                                             .dq = t->dq + q,
                                             .dk = t->dk + kv,
                                             .dv = t->dv + kv,
                                             .q_stride = d_q,
                                             .kv_stride = d_kv,
                                             .out_stride = d_q,
                                             .lse_stride = c->n_head,
                                             .window = c->windows[p->layer],
                                             .n_tok = t->batch->starts[example + 1] - first,
                                             .n_group = n_group,
                                             .d_head = c->d_head,
                                             .scale = (float)(1.0 / sqrt((double)c->d_head)),
                                             .scratch = scratch};
    if (p->back)
        t->kernels->self_attention_backward(&args);
    else
        t->kernels->self_attention(&args);
}

static void attend_work(void *context, int worker, int n_workers)
{
    (void)n_workers;
    const struct attention_pass *p = context;
    struct train_tape *t = p->tape;
    int n_kv = t->model->config.n_kv;
    long long n = (long long)t->batch->n_examples * n_kv, item;
    while ((item = atomic_fetch_add_explicit(&t->next_item, 1, memory_order_relaxed)) < n)
        attend(p, (int)(item / n_kv), (int)(item % n_kv), t->workers[worker].attention);
}

static void attend_all(struct attention_pass *p)
{
    struct train_tape *t = p->tape;
    const struct config *c = &t->model->config;
    int64_t pairs = 0;
    for (int e = 0; e < t->batch->n_examples; e++) {
        int64_t n = t->batch->starts[e + 1] - t->batch->starts[e];
        pairs += n * n / 2;
    }
    atomic_store(&t->next_item, 0);
    tape_region(t, attend_work, p, pairs * c->n_head * c->d_head * 2);
}

void attention_forward(struct train_tape *t, int layer)
{
    struct attention_pass p = {t, layer, false};
    const struct config *c = &t->model->config;
    tape_region(t, heads_work, &p, (int64_t)t->batch->n_tok * (c->n_head + 2 * c->n_kv) * 256);
    attend_all(&p);
}

/* ---- back --------------------------------------------------------------------------------- */

/* From what the loss says of the heads of a token as attention takes them to what it says of y, in place. `raw`: y
 * of the linear; read, as is dy written, where heads have a norm. */
static void unmake_heads(const struct train_tape *t, int64_t token, int norm, int n_heads,
                         const float *raw, float *dy, float *d)
{
    const struct config *c = &t->model->config;
    const float *weight = tape_norm(t, norm);
    float *grad = t->set->norms ? t->set->norms[norm].grad : NULL;
    for (int i = 0; i < n_heads; i++, d += c->d_head, raw += c->d_head) {
        rotate(t, token, t->minus_sin, d);
        if (!weight)
            continue;
        memcpy(dy, d, (size_t)c->d_head * sizeof(*d));
        memset(d, 0, (size_t)c->d_head * sizeof(*d));
        t->kernels->rmsnorm_backward(raw, weight, dy, c->d_head, c->norm_eps, d, grad);
    }
}

static void heads_back_work(void *context, int worker, int n_workers)
{
    const struct attention_pass *p = context;
    const struct train_tape *t = p->tape;
    const struct config *c = &t->model->config;
    const struct group *g = layer_group(t, p->layer, GROUP_QKV);
    float *room = t->workers[worker].row, *dy = t->workers[worker].second_row;
    int64_t begin, end, d_q = (int64_t)c->n_head * c->d_head, d_kv = (int64_t)c->n_kv * c->d_head;
    pool_split(t->batch->n_tok, 1, worker, n_workers, &begin, &end);
    for (int64_t i = begin; i < end; i++) {
        const float *raw = site_row(t, g->sites[0], t->held[KEPT_Q] + i * d_q, room);
        unmake_heads(t, i, model_norm(p->layer, NORM_Q), c->n_head, raw, dy, t->dq + i * d_q);
        raw = site_row(t, g->sites[1], t->held[KEPT_K] + i * d_kv, room);
        unmake_heads(t, i, model_norm(p->layer, NORM_K), c->n_kv, raw, dy, t->dk + i * d_kv);
    }
}

void attention_backward(struct train_tape *t, int layer)
{
    struct attention_pass p = {t, layer, true};
    const struct config *c = &t->model->config;
    const struct trained *norms = t->set->norms;
    int64_t work = (int64_t)t->batch->n_tok * (c->n_head + 2 * c->n_kv) * 256;
    tape_region(t, heads_work, &p, work);
    attend_all(&p);
    if (norms && (norms[model_norm(layer, NORM_Q)].grad || norms[model_norm(layer, NORM_K)].grad))
        pool_run_alone(heads_back_work, &p); /* sums over all tokens: one hand */
    else
        tape_region(t, heads_back_work, &p, work);
}
