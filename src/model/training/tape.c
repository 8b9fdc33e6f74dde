/* tape.c: a tape and its memory: what is trained, laid out for products, and the plan of activations.
 *
 * All memory is taken at open from one arena. A plan that only counts gives the estimate, by the same code.
 */
#include "training_internal.h"

#include <math.h>

/* Every chunk of rows goes over the whole gradient of a head that is trained: longer ones then, in bounds. */
enum {
    LOSS_ROWS = 64,
    MOST_LOSS_ROWS = 512,
    LOSS_BYTES = 64 << 20, /* of logits */
    MAX_TOKENS = 1 << 20
};

/* ---- checks ------------------------------------------------------------------------------- */

static graft_status check_delta(const struct train_delta *d, const char *what, int index,
                                graft_error *error)
{
    if (d->rank < 0 || d->rank > INT32_MAX)
        return error_set(error, GRAFT_INVALID_ARGUMENT, "%s %d: rank %lld", what, index,
                         (long long)d->rank);
    if (!d->rank)
        return GRAFT_OK;
    if (!d->a.value || !d->b.value)
        return error_set(error, GRAFT_INVALID_ARGUMENT, "%s %d: a factor is missing", what, index);
    if (!isfinite(d->scale))
        return error_set(error, GRAFT_INVALID_ARGUMENT, "%s %d: the scale is not finite", what,
                         index);
    if (!(d->dropout >= 0 && d->dropout < 1))
        return error_set(error, GRAFT_INVALID_ARGUMENT,
                         "%s %d: a dropout of %g is not in 0 (included) to 1 (not)", what, index,
                         (double)d->dropout);
    return GRAFT_OK;
}

static const float *base_bias(const struct model *m, int site)
{
    return site == model_head_site(m) ? NULL
                                      : m->layers[site / LINEAR_COUNT].bias[site % LINEAR_COUNT];
}

static graft_status check_set(const struct model *m, const struct train_set *set,
                              graft_error *error)
{
    graft_status status = check_delta(&set->embed_delta, "embedding", 0, error);
    if (status == GRAFT_OK && (set->embed_delta.dropout != 0 || set->embed_delta.bias.value))
        return error_set(error, GRAFT_INVALID_ARGUMENT,
                         "the delta of an embedding has no dropout and no bias");
    for (int i = 0; i < model_n_sites(m) && status == GRAFT_OK; i++) {
        status = check_delta(&set->sites[i].delta, "site", i, error);
        if (status == GRAFT_OK && set->sites[i].bias.value && !base_bias(m, i))
            status = error_set(error, GRAFT_INVALID_ARGUMENT, "site %d: the model has no bias", i);
    }
    for (int i = 0; i < model_n_norms(m) && status == GRAFT_OK && set->norms; i++)
        if (set->norms[i].value && !model_norm_weight(m, i))
            status = error_set(error, GRAFT_INVALID_ARGUMENT, "norm %d: the model has none", i);
    return status;
}

/* ---- what is trained ---------------------------------------------------------------------- */

static struct matrix over(const float *value, int64_t n_out, int64_t n_in)
{
    return (struct matrix){.type = GRAFT_TYPE_F32,
                           .n_out = n_out,
                           .n_in = n_in,
                           .data = value,
                           .row_bytes = (size_t)n_in * sizeof(float)};
}

static void init_site(struct train_tape *t, int index)
{
    const struct train_site *set = site_set(t, index);
    const struct matrix *base = model_site_weight(t->model, index);
    struct site *s = &t->sites[index];
    *s = (struct site){.set = set, .weight = base, .rank = set->delta.rank};
    s->bias = set->bias.value ? set->bias.value : base_bias(t->model, index);
    s->own = over(set->weight.value, base->n_out, base->n_in);
    if (set->weight.value)
        s->weight = &s->own;
    s->a = over(set->delta.a.value, s->rank, base->n_in);
    s->b = over(set->delta.b.value, s->rank, base->n_out);
}

static bool has_gradient(const struct train_site *s)
{
    return s->weight.grad || s->bias.grad ||
           (s->delta.rank &&
            (s->delta.a.grad || s->delta.b.grad || s->delta.magnitude.grad || s->delta.bias.grad));
}

/* The first layer with anything trained in it. */
static int find_first_layer(const struct train_tape *t)
{
    int n_layer = t->model->config.n_layer, layer = 0;
    for (; layer < n_layer; layer++) {
        for (int i = 0; i < LINEAR_COUNT; i++)
            if (has_gradient(site_set(t, model_site(layer, (enum linear_id)i))))
                return layer;
        for (int i = 0; i < NORM_COUNT && t->set->norms; i++)
            if (t->set->norms[model_norm(layer, (enum norm_id)i)].grad)
                return layer;
    }
    return layer;
}

static void find_trained(struct train_tape *t)
{
    const struct train_delta *d = &t->set->embed_delta;
    struct embedding *e = &t->embedding;
    const struct matrix *base = &t->model->embed;
    for (int i = 0; i < model_n_sites(t->model); i++)
        init_site(t, i);
    e->own = over(t->set->embed.value, base->n_out, base->n_in);
    e->weight = t->set->embed.value ? &e->own : base;
    e->rank = d->rank;
    e->b = over(d->b.value, d->rank, base->n_in);
    t->embed_trained =
        t->set->embed.grad || (d->rank && (d->a.grad || d->b.grad || d->magnitude.grad));
    t->first_layer = t->embed_trained ? 0 : find_first_layer(t);
}

/* ---- groups ------------------------------------------------------------------------------- */

static graft_status init_group(struct train_tape *t, struct group *g, int first_site, int n,
                               graft_error *error)
{
    *g = (struct group){.n = n, .index = (int)(g - t->groups)};
    g->n_in = t->sites[first_site].weight->n_in;
    g->format = PANEL_BF16;
    for (int i = 0; i < n; i++) {
        struct site *s = &t->sites[first_site + i];
        enum panel_format format = kernels_delta_format(t->kernels, s->weight->type);
        float dropout = s->set->delta.dropout;
        g->sites[i] = s;
        g->first_rank[i] = g->n_ranks;
        g->format = format < g->format ? format : g->format; /* the most exact: they share A x */
        if (s->rank && g->n_ranks && dropout != g->dropout)
            return error_set(error, GRAFT_INVALID_ARGUMENT,
                             "site %d has a dropout of %g, and another that reads the same input "
                             "of %g",
                             first_site + i, (double)dropout, (double)g->dropout);
        if (s->rank)
            g->dropout = dropout;
        g->n_ranks += s->rank;
    }
    return GRAFT_OK;
}

static graft_status init_groups(struct train_tape *t, graft_error *error)
{
    static const struct {
        enum linear_id first;
        int n;
    } GROUPS[GROUP_COUNT] = {{LINEAR_Q, 3}, {LINEAR_O, 1}, {LINEAR_GATE, 2}, {LINEAR_DOWN, 1}};
    graft_status status = GRAFT_OK;
    for (int layer = 0; layer < t->model->config.n_layer; layer++) {
        int64_t ranks = 0;
        for (int id = 0; id < GROUP_COUNT && status == GRAFT_OK; id++) {
            struct group *g = layer_group(t, layer, (enum group_id)id);
            status = init_group(t, g, model_site(layer, GROUPS[id].first), GROUPS[id].n, error);
            g->first_u = ranks;
            ranks += g->n_ranks;
        }
    }
    if (status != GRAFT_OK)
        return status;
    return init_group(t, head_group(t), model_head_site(t->model), 1, error);
}

/* ---- the plan of memory ------------------------------------------------------------------- */

struct plan {
    struct arena *arena; /* NULL: only counts */
    size_t bytes;
    bool failed;
};

static void *take(struct plan *p, int64_t count, size_t each)
{
    size_t bytes = 0;
    void *out = NULL;
    if (!size_mul((size_t)(count > 0 ? count : 1), each, &bytes) || !size_add(bytes, 63, &bytes) ||
        !size_add(p->bytes, bytes / 64 * 64, &p->bytes))
        p->failed = true;
    else if (p->arena && !p->failed) {
        out = arena_alloc(p->arena, bytes / 64 * 64);
        p->failed = !out;
    }
    return out;
}

static float *take_floats(struct plan *p, int64_t count)
{
    return take(p, count, sizeof(float));
}

static void take_tiles(struct plan *p, struct matrix *tiles, enum panel_format format, int64_t rank,
                       int64_t n)
{
    size_t each = format == PANEL_BF16 ? sizeof(uint16_t) : sizeof(float);
    *tiles = (struct matrix){.type = format == PANEL_BF16 ? GRAFT_TYPE_BF16 : GRAFT_TYPE_F32,
                             .n_out = lowrank_b_rows(rank, n),
                             .n_in = LOWRANK_TILE,
                             .row_bytes = LOWRANK_TILE * each};
    tiles->data = take(p, tiles->n_out * LOWRANK_TILE, each);
}

static int64_t max64(int64_t a, int64_t b)
{
    return a > b ? a : b;
}

static void plan_factors(struct train_tape *t, struct plan *p)
{
    int64_t most_wa = 0, most_rank = 0;
    for (int i = 0; i <= t->model->config.n_layer * GROUP_COUNT; i++)
        for (int j = 0; j < t->groups[i].n; j++) {
            struct site *s = t->groups[i].sites[j];
            int64_t n_out = s->weight->n_out;
            if (!s->rank)
                continue;
            take_tiles(p, &s->a_tiles, t->groups[i].format, s->rank, s->weight->n_in);
            take_tiles(p, &s->b_tiles, t->groups[i].format, s->rank, n_out);
            if (!s->set->delta.magnitude.value)
                continue;
            s->gain = take_floats(p, n_out);
            s->inverse = take_floats(p, n_out);
            s->squares = take(p, n_out, sizeof(double));
            most_wa = max64(most_wa, s->rank * n_out);
            most_rank = max64(most_rank, s->rank);
        }
    struct embedding *e = &t->embedding;
    if (e->rank) {
        int64_t width = t->model->config.d_model;
        take_tiles(p, &e->b_tiles, PANEL_F32, e->rank, width);
        e->u = take_floats(p, t->options.max_tok * e->rank);
        if (t->set->embed_delta.magnitude.value) {
            e->gain = take_floats(p, width);
            e->inverse = take_floats(p, width);
            e->squares = take(p, width, sizeof(double));
            most_wa = max64(most_wa, 2 * e->rank * width); /* in doubles */
            most_rank = max64(most_rank, e->rank);
        }
    }
    t->wa = take_floats(p, most_wa);
    t->aa = take(p, most_rank * most_rank, sizeof(double));
}

int64_t kept_width(const struct train_tape *t, int layer, enum kept kept)
{
    const struct config *c = &t->model->config;
    const struct group *last = layer_group(t, layer, GROUP_DOWN);
    switch (kept) {
    case KEPT_Q:
    case KEPT_ATT:
        return (int64_t)c->n_head * c->d_head;
    case KEPT_K:
    case KEPT_V:
        return (int64_t)c->n_kv * c->d_head;
    case KEPT_LSE:
        return c->n_head;
    case KEPT_GATE:
    case KEPT_UP:
        return c->d_ff;
    case KEPT_U:
        return last->first_u + last->n_ranks;
    default:
        return c->d_model;
    }
}

/* Is it needed on the way back, and dearer to make again than to keep? */
static bool is_kept(const struct train_tape *t, int layer, enum kept kept)
{
    const struct train_delta *o = &site_set(t, model_site(layer, LINEAR_O))->delta,
                             *down = &site_set(t, model_site(layer, LINEAR_DOWN))->delta;
    if (layer < t->first_layer)
        return false;
    if (kept == KEPT_DOWN)
        return down->rank && down->magnitude.value;
    if (t->options.checkpoint)
        return kept == KEPT_X;
    return kept != KEPT_O || (o->rank && o->magnitude.value);
}

static void plan_layers(struct train_tape *t, struct plan *p)
{
    size_t before = p->bytes;
    bool room[KEPT_COUNT] = {false};
    int64_t width[KEPT_COUNT] = {0}, max_tok = t->options.max_tok;
    int n_layer = t->model->config.n_layer;
    for (int layer = 0; layer < n_layer; layer++)
        for (int i = 0; i < KEPT_COUNT; i++) {
            enum kept kind = (enum kept)i;
            int64_t n = kept_width(t, layer, kind);
            bool exact = !t->options.half || kind == KEPT_LSE || kind == KEPT_U;
            bool kept = is_kept(t, layer, kind);
            void *at = kept ? take(p, max_tok * n, exact ? sizeof(float) : sizeof(uint16_t)) : NULL;
            t->kept[(int64_t)layer * KEPT_COUNT + i] = at;
            room[i] = room[i] || !kept || !exact;
            width[i] = max64(width[i], n);
        }
    t->kept_bytes = p->bytes - before;
    for (int i = 0; i < KEPT_COUNT; i++)
        t->room[i] = room[i] ? take_floats(p, max_tok * width[i]) : NULL;
}

static void plan_stream(struct train_tape *t, struct plan *p)
{
    const struct config *c = &t->model->config;
    int64_t n = t->options.max_tok, d_q = (int64_t)c->n_head * c->d_head;
    int64_t d_kv = (int64_t)c->n_kv * c->d_head, most_ranks = t->embedding.rank, dropped = 0;
    for (int i = 0; i <= c->n_layer * GROUP_COUNT; i++) {
        const struct group *g = &t->groups[i];
        most_ranks = max64(most_ranks, g->n_ranks);
        dropped = g->dropout > 0 ? max64(dropped, g->n_in) : dropped;
    }
    float **const streams[] = {&t->x, &t->dx, &t->h, &t->dh, &t->y};
    for (size_t i = 0; i < ARRAY_LEN(streams); i++)
        *streams[i] = take_floats(p, n * c->d_model);
    t->q = take_floats(p, n * d_q);
    t->k = take_floats(p, n * d_kv);
    t->v = take_floats(p, n * d_kv);
    t->dq = take_floats(p, n * d_q);
    t->dk = take_floats(p, n * d_kv);
    t->dv = take_floats(p, n * d_kv);
    t->datt = take_floats(p, n * d_q);
    t->wide = take_floats(p, n * c->d_ff);
    t->second_wide = take_floats(p, n * c->d_ff);
    t->mask_bytes = (dropped + 7) / 8;
    t->dropped = dropped ? take_floats(p, n * dropped) : NULL;
    t->mask = take(p, n, (size_t)max64(1, t->mask_bytes));
    t->du = take_floats(p, n * most_ranks);
    t->cos = take_floats(p, n * (c->d_head / 2));
    t->sin = take_floats(p, n * (c->d_head / 2));
    t->minus_sin = take_floats(p, n * (c->d_head / 2));
    t->example = take(p, n, sizeof(*t->example));
    t->pos = take(p, n, sizeof(*t->pos));
    t->loss_tokens = take(p, n, sizeof(*t->loss_tokens));
}

static void plan_loss(struct train_tape *t, struct plan *p)
{
    const struct group *head = head_group(t);
    int64_t n = t->options.loss_rows, n_out = head->sites[0]->weight->n_out;
    bool dora = head->sites[0]->rank && head->sites[0]->set->delta.magnitude.value;
    t->hidden = take_floats(p, n * head->n_in);
    t->dhidden = take_floats(p, n * head->n_in);
    t->logits = take_floats(p, n * n_out);
    t->head_z = dora ? take_floats(p, n * n_out) : t->logits;
    t->head_u = take_floats(p, n * head->n_ranks);
    t->nll = take(p, n, sizeof(*t->nll));
    t->right = take(p, n, sizeof(*t->right));
}

static void plan_workers(struct train_tape *t, struct plan *p)
{
    const struct config *c = &t->model->config;
    int64_t widest = max64(max64(c->d_model, c->d_ff), (int64_t)c->n_head * c->d_head);
    for (int i = 0; i < t->n_workers; i++)
        t->workers[i] = (struct train_worker){
            .scratch = take(p, 1, prefill_scratch_bytes(widest)),
            .attention = take_floats(p, self_attention_scratch_floats(
                                            t->options.max_tok, c->n_head / c->n_kv, c->d_head)),
            .row = take_floats(p, widest),
            .second_row = take_floats(p, widest)};
}

static bool plan_all(struct train_tape *t, struct arena *arena)
{
    struct plan p = {.arena = arena};
    plan_factors(t, &p);
    plan_layers(t, &p);
    plan_stream(t, &p);
    plan_loss(t, &p);
    plan_workers(t, &p);
    t->bytes = p.bytes;
    return !p.failed;
}

/* ---- open --------------------------------------------------------------------------------- */

static graft_status check_options(const struct train_options *o, graft_error *error)
{
    if (o->max_tok < 1 || o->max_tok > MAX_TOKENS)
        return error_set(error, GRAFT_INVALID_ARGUMENT, "a batch of 1 to %d tokens, not %d",
                         MAX_TOKENS, o->max_tok);
    if (o->loss_rows < 0)
        return error_set(error, GRAFT_INVALID_ARGUMENT, "%d rows of logits", o->loss_rows);
    return GRAFT_OK;
}

static int choose_loss_rows(const struct train_tape *t)
{
    int64_t rows = LOSS_BYTES / ((int64_t)model_n_logits(t->model) * (int64_t)sizeof(float));
    if (!site_set(t, model_head_site(t->model))->weight.grad || rows < LOSS_ROWS)
        return LOSS_ROWS;
    return rows < MOST_LOSS_ROWS ? (int)(rows / LOSS_ROWS * LOSS_ROWS) : MOST_LOSS_ROWS;
}

/* A tape without its memory. */
static graft_status prepare(const struct model *model, const struct train_set *set,
                            const struct train_options *options, struct train_tape **out,
                            graft_error *error)
{
    graft_status status = check_options(options, error);
    if (status == GRAFT_OK)
        status = check_set(model, set, error);
    if (status != GRAFT_OK)
        return status;
    struct mem *mem = &model->runtime->mem;
    struct train_tape *t = mem_calloc(mem, 1, sizeof(*t));
    if (!t)
        return error_set(error, GRAFT_NO_MEMORY, "no memory for a tape");
    *out = t;
    t->model = model;
    t->set = set;
    t->options = *options;
    t->kernels = model->runtime->kernels;
    if (options->half) {
        kernels_round_floats(t->kernels, &t->rounded);
        t->kernels = &t->rounded;
    }
    t->pool = model->runtime->pool;
    t->mem = mem;
    t->n_workers = pool_threads(t->pool);
    if (!t->options.loss_rows)
        t->options.loss_rows = choose_loss_rows(t);
    if (t->options.loss_rows > options->max_tok)
        t->options.loss_rows = options->max_tok;
    arena_init(&t->arena, mem, SIZE_MAX / 2);
    t->sites = mem_calloc(mem, (size_t)model_n_sites(model), sizeof(*t->sites));
    t->groups =
        mem_calloc(mem, (size_t)model->config.n_layer * GROUP_COUNT + 1, sizeof(*t->groups));
    t->kept = mem_calloc(mem, (size_t)model->config.n_layer * KEPT_COUNT, sizeof(*t->kept));
    t->workers = mem_calloc(mem, (size_t)t->n_workers, sizeof(*t->workers));
    if (!t->sites || !t->groups || !t->kept || !t->workers)
        return error_set(error, GRAFT_NO_MEMORY, "no memory for a tape");
    find_trained(t);
    return init_groups(t, error);
}

graft_status train_tape_open(const struct model *model, const struct train_set *set,
                             const struct train_options *options, struct train_tape **out,
                             graft_error *error)
{
    struct train_tape *t = NULL;
    graft_status status = prepare(model, set, options, &t, error);
    if (status == GRAFT_OK && !plan_all(t, &t->arena))
        status = error_set(error, GRAFT_NO_MEMORY, "no memory for the activations of %d tokens",
                           options->max_tok);
    if (status == GRAFT_OK)
        *out = t;
    else
        train_tape_close(&t);
    return status;
}

graft_status train_tape_measure(const struct model *model, const struct train_set *set,
                                const struct train_options *options, size_t *bytes,
                                size_t *kept_bytes, graft_error *error)
{
    struct train_tape *t = NULL;
    graft_status status = prepare(model, set, options, &t, error);
    if (status == GRAFT_OK && !plan_all(t, NULL))
        status = error_set(error, GRAFT_LIMIT, "the activations of %d tokens are too large",
                           options->max_tok);
    if (status == GRAFT_OK) {
        *bytes = t->bytes;
        *kept_bytes = t->kept_bytes;
    }
    train_tape_close(&t);
    return status;
}

void train_tape_close(struct train_tape **tape)
{
    struct train_tape *t = *tape;
    if (!t)
        return;
    arena_free(&t->arena);
    mem_free(t->mem, t->sites);
    mem_free(t->mem, t->groups);
    mem_free(t->mem, t->kept);
    mem_free(t->mem, t->workers);
    mem_free(t->mem, t);
    *tape = NULL;
}

/* The arena has numbers of passes alone: what says where they lie is beside it. */
graft_status train_tape_wipe(struct train_tape *t, graft_error *error)
{
    arena_wipe(&t->arena);
    for (int i = 0; i < model_n_sites(t->model); i++)
        t->sites[i].have_squares = false;
    t->embedding.have_squares = false;
    t->batch = NULL;
    t->n_loss = 0;
    return train_tape_refresh(t, error);
}

size_t train_tape_bytes(const struct train_tape *tape)
{
    return tape->bytes;
}

size_t train_tape_kept_bytes(const struct train_tape *tape)
{
    return tape->kept_bytes;
}

void tape_region(const struct train_tape *t, pool_work work, void *context, int64_t multiplies)
{
    runtime_region(t->model->runtime, work, context, multiplies);
}
