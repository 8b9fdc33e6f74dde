/* check.c: no figure without a look at what was computed.
 *
 * The scalar tier is the specification and slow, so it is asked for parts: eight outputs of each kind of
 * linear in each type that the model has, and eight rows (a prompt of six, two decoded tokens) through
 * the first two blocks and the final norm. Both see the same weights in the same pages.
 */
#include "bench/bench_internal.h"

#include <math.h>

enum {
    CHECK_OUTPUTS = 8,
    CHECK_TOKENS = 45,
    CHECK_SPAN = 64,
    CHECK_BLOCKS = 2,
    PROMPT_ROWS = 6,
    CHECK_ROWS = 8
};

/* Root mean square of the difference, beside that of the outputs. Decode rows are sums of the same
 * integers in another order; prompts may go through panels of 8 bits of precision. */
static const double TOLERANCE = 2e-3, PANEL_TOLERANCE = 2e-2;

graft_status check_within(const float *got, const float *want, int64_t n, double tolerance,
                          const char *what, graft_error *error)
{
    double difference = 0, size = 0;
    for (int64_t i = 0; i < n; i++) {
        difference += ((double)got[i] - want[i]) * ((double)got[i] - want[i]);
        size += (double)want[i] * want[i];
    }
    double relative = sqrt(difference / size);
    if (relative <= tolerance)
        return GRAFT_OK;
    return error_set(error, GRAFT_NUMERIC,
                     "%s: the result differs from the scalar tier's by %.2g of its size, so there "
                     "is no figure",
                     what, relative);
}

graft_status check_close(const float *got, const float *want, int64_t n, bool through_panels,
                         const char *what, graft_error *error)
{
    return check_within(got, want, n, through_panels ? PANEL_TOLERANCE : TOLERANCE, what, error);
}

/* ---- products ----------------------------------------------------------------------------- */

struct product_check {
    struct bench *b;
    const struct matrix *weight;
    enum way way;
    float *x;      /* [n_tok, product_inputs] */
    float *y;      /* [n_tok, product_outputs] */
    void *scratch; /* of one worker */
    void *act;     /* x as the product takes it */
    int n_tok;
    const char *what;
};

struct product_work {
    const struct product *product;
    int64_t begin, end;
    void *scratch;
};

static void product_share(void *context, int worker, int n_workers)
{
    (void)worker, (void)n_workers;
    const struct product_work *w = context;
    product_run(w->product, w->begin, w->end, w->scratch);
}

/* Inside a region, where the floating-point state is graft's. */
static void run_span(const struct product_check *c, const struct kernels *k, int64_t begin,
                     int64_t end)
{
    const struct product p = {.kernels = k,
                              .weight = c->weight,
                              .way = c->way,
                              .x = c->act,
                              .n_tok = c->n_tok,
                              .y = c->y};
    struct product_work w = {&p, begin, end, c->scratch};
    pool_run_alone(product_share, &w);
}

/* The tier does a span as wide as any of its tiles, in the middle; the scalar tier the last outputs of
 * it, or all where it may not begin anywhere. */
static graft_status check_product(const struct product_check *c, graft_error *error)
{
    float got[CHECK_TOKENS][CHECK_OUTPUTS];
    graft_status status = GRAFT_OK;
    int64_t n = product_outputs(c->weight, c->way);
    int64_t grain = c->way == WAY_TRANSPOSED ? transposed_grain(c->weight) : 1;
    int64_t span = grain > CHECK_SPAN ? grain : CHECK_SPAN;
    int64_t begin = n > span ? n / 2 / span * span : 0;
    int64_t end = n - begin > span ? begin + span : n;
    int64_t first = end - begin > CHECK_OUTPUTS ? end - CHECK_OUTPUTS : begin;
    run_span(c, c->b->runtime->kernels, begin, end);
    for (int t = 0; t < c->n_tok; t++)
        memcpy(got[t], c->y + t * n + first, (size_t)(end - first) * sizeof(float));
    run_span(c, c->b->scalar.kernels, c->way == WAY_TRANSPOSED ? begin : first, end);
    for (int t = 0; t < c->n_tok && status == GRAFT_OK; t++)
        status = check_close(got[t], c->y + t * n + first, end - first, c->way != WAY_DECODE,
                             c->what, error);
    return status;
}

static graft_status check_weight(struct bench *b, const struct matrix *w, enum way way, int n_tok,
                                 const char *what, graft_error *error)
{
    struct product_check c = {.b = b, .weight = w, .way = way, .what = what, .n_tok = n_tok};
    graft_status status = GRAFT_OK;
    int64_t n_in = product_inputs(w, way);
    c.x = mem_calloc(b->mem, (size_t)(n_tok * n_in), sizeof(float));
    c.y = mem_calloc(b->mem, (size_t)(n_tok * product_outputs(w, way)), sizeof(float));
    c.scratch = mem_alloc(b->mem, product_scratch_bytes(w->n_in));
    if (c.x) {
        fill_random(c.x, n_tok * n_in, 7);
        c.act = product_input(b->mem, b->runtime->kernels, w, way, c.x, n_tok);
    }
    if (c.x && c.y && c.scratch && c.act)
        status = check_product(&c, error);
    else
        status = error_set(error, GRAFT_NO_MEMORY, "no memory for a check");
    mem_free(b->mem, c.x);
    mem_free(b->mem, c.y);
    mem_free(b->mem, c.scratch);
    mem_free(b->mem, c.act);
    return status;
}

/* Is it the first block whose weight of this kind has its type? */
static bool is_first_of_type(const struct model *m, int kind, int layer)
{
    for (int i = 0; i < layer; i++)
        if (kind_weight(m, kind, i)->type == kind_weight(m, kind, layer)->type)
            return false;
    return true;
}

graft_status check_products(struct bench *b, graft_error *error)
{
    static const char *const WAYS[WAY_COUNT] = {"decode", "prefill", "transposed"};
    /* One row and several go by kernels of their own; a prompt by its widest tiles, and what is left. */
    static const int TOKENS[WAY_COUNT][2] = {{1, 16}, {1, CHECK_TOKENS}, {1, CHECK_TOKENS}};
    graft_status status = GRAFT_OK;
    for (int kind = 0; kind < KIND_COUNT; kind++)
        for (int layer = 0; layer < kind_layers(b->model, kind); layer++)
            for (int way = 0; way < WAY_COUNT && status == GRAFT_OK; way++) {
                const struct matrix *w = kind_weight(b->model, kind, layer);
                char what[CASE_NAME_SIZE];
                if (!is_first_of_type(b->model, kind, layer) ||
                    (kind == KIND_HEAD && way == WAY_TRANSPOSED)) /* all of it, for one output */
                    continue;
                snprintf(what, sizeof what, "%s %s, %s", kind_name(kind), graft_type_name(w->type),
                         WAYS[way]);
                for (int i = 0; i < (int)ARRAY_LEN(TOKENS[way]) && status == GRAFT_OK; i++)
                    status = check_weight(b, w, (enum way)way, TOKENS[way][i], what, error);
            }
    b->checked = "8 outputs of every linear of every type";
    return status;
}

/* ---- blocks ------------------------------------------------------------------------------- */

/* The same weights as a model of few blocks on some runtime. */
static struct model model_view(const struct model *m, graft_runtime *runtime)
{
    struct model view = *m;
    view.runtime = runtime;
    view.config.n_layer = m->config.n_layer < CHECK_BLOCKS ? m->config.n_layer : CHECK_BLOCKS;
    return view;
}

/* The final states of a prompt and of tokens decoded after it, [CHECK_ROWS, d_model]. */
static graft_status run_rows(const struct model *m, const struct delta_set *deltas,
                             struct kv_pool *pool, struct workspace *ws, float *out,
                             graft_error *error)
{
    struct row rows[CHECK_ROWS];
    struct kv_seq *seq = NULL;
    int64_t width = m->config.d_model;
    graft_status status = kv_seq_open(pool, &seq, error);
    for (int i = 0; i < CHECK_ROWS && status == GRAFT_OK; i++)
        rows[i] = (struct row){.token = (graft_token_id)((i * 7919 + 11) % m->config.n_vocab),
                               .pos = i,
                               .seq = seq,
                               .role = i < PROMPT_ROWS ? ROLE_PREFILL : ROLE_DECODE,
                               .deltas = deltas,
                               .want_hidden = true};
    for (int i = 0; i < CHECK_ROWS && status == GRAFT_OK;) {
        int n = i < PROMPT_ROWS ? PROMPT_ROWS : 1;
        status = model_forward(m, rows + i, n, ws, error);
        for (int j = 0; j < n && status == GRAFT_OK; j++)
            memcpy(out + (i + j) * width, workspace_hidden(ws, j), (size_t)width * sizeof(float));
        i += n;
    }
    kv_seq_close(&seq);
    return status;
}

/* With an adapter all blocks: its members are numbered by them. */
static graft_status run_view(struct bench *b, graft_runtime *runtime, const struct adapter *adapter,
                             float *out, graft_error *error)
{
    struct model view = model_view(b->model, runtime);
    struct delta_set *deltas = NULL;
    struct kv_pool *pool = NULL;
    struct workspace *ws = NULL;
    const struct kv_pool_options options = bench_kv_options(b, 4);
    graft_status status = GRAFT_OK;
    if (adapter) {
        const struct delta_member member = adapter_member(adapter, 1);
        view.config.n_layer = b->model->config.n_layer;
        status = delta_set_open(&view, &member, 1, &deltas, error);
    }
    if (status == GRAFT_OK)
        status = kv_pool_open(&view, &options, &pool, error);
    if (status == GRAFT_OK)
        status = workspace_open(&view, CHECK_ROWS, &ws, error);
    if (status == GRAFT_OK)
        status = run_rows(&view, deltas, pool, ws, out, error);
    workspace_close(&ws);
    kv_pool_close(&pool);
    delta_set_close(&deltas);
    return status;
}

graft_status check_model_with(struct bench *b, const struct adapter *adapter, graft_error *error)
{
    size_t n = (size_t)CHECK_ROWS * (size_t)b->model->config.d_model;
    graft_status status = bench_progress(b, 0, 1, "checking results", error);
    if (status == GRAFT_OK)
        status = check_products(b, error);
    if (status != GRAFT_OK)
        return status;
    float *got = mem_calloc(b->mem, 2 * n, sizeof *got);
    if (!got)
        return error_set(error, GRAFT_NO_MEMORY, "no memory for a check");
    status = run_view(b, b->runtime, adapter, got, error);
    if (status == GRAFT_OK)
        status = run_view(b, &b->scalar, adapter, got + n, error);
    int blocks = adapter ? b->model->config.n_layer : CHECK_BLOCKS; /* whose errors add up */
    if (status == GRAFT_OK)
        status = check_within(got, got + n, (int64_t)n,
                              PANEL_TOLERANCE * sqrt((double)blocks / CHECK_BLOCKS),
                              adapter ? "all blocks with an adapter" : "two blocks", error);
    mem_free(b->mem, got);
    b->checked = adapter ? "8 outputs of every linear of every type, 8 rows with an adapter"
                         : "8 outputs of every linear of every type, 8 rows through two blocks";
    return status;
}

graft_status check_model(struct bench *b, graft_error *error)
{
    return check_model_with(b, NULL, error);
}
