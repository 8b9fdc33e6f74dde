/* linear.c: the products of a model one by one: where a token's time goes, and which are slow.
 *
 * A case is one kind of linear met in one way: rows to decode, a prompt, or backward (transposed). A sample runs it in every block in turn, as a forward pass
 * comes by them, so that weights come from memory and not from a cache; one region, split as the model
 * splits it. Time is processor time of the busiest worker.
 */
#include "bench/bench_internal.h"

enum { CASES_MAX = KIND_COUNT * (GRAFT_BENCH_LIST_MAX + 2) };

struct linear_case {
    struct bench *b;
    int kind, n_tok;
    enum way way;
    void *inputs[GRAFT_TYPE_COUNT]; /* by the weight's type: rows as its product takes them */
    float *y;                       /* shared: nobody reads it */
    uint8_t *scratch;               /* [threads, product_scratch_bytes] */
};

struct linear_bench {
    struct bench *b;
    float *x, *y;
    uint8_t *scratch;
    struct linear_case *of;   /* [CASES_MAX] */
    struct bench_case *cases; /* [CASES_MAX] */
    int n;
};

static void linear_share(void *context, int worker, int n_workers)
{
    const struct linear_case *c = context;
    const struct model *m = c->b->model;
    for (int layer = 0; layer < kind_layers(m, c->kind); layer++) {
        const struct matrix *w = kind_weight(m, c->kind, layer);
        const struct product p = {.kernels = m->runtime->kernels,
                                  .weight = w,
                                  .way = c->way,
                                  .x = c->inputs[w->type],
                                  .n_tok = c->n_tok,
                                  .y = c->y};
        int64_t begin, end;
        pool_split(product_outputs(w, c->way), product_grain(w, c->way), worker, n_workers, &begin,
                   &end);
        product_run(&p, begin, end, c->scratch + (size_t)worker * product_scratch_bytes(w->n_in));
    }
}

static graft_status run_linear(struct bench *b, void *context, struct seconds *seconds,
                               graft_error *error)
{
    (void)error;
    *seconds = run_timed(b->runtime->pool, false, linear_share, context);
    return GRAFT_OK;
}

static graft_status prepare_inputs(struct linear_bench *l, struct linear_case *c,
                                   graft_error *error)
{
    struct bench *b = l->b;
    for (int layer = 0; layer < kind_layers(b->model, c->kind); layer++) {
        const struct matrix *w = kind_weight(b->model, c->kind, layer);
        if (!c->inputs[w->type])
            c->inputs[w->type] =
                product_input(b->mem, b->runtime->kernels, w, c->way, l->x, c->n_tok);
        if (!c->inputs[w->type])
            return error_set(error, GRAFT_NO_MEMORY, "no memory for inputs");
    }
    return GRAFT_OK;
}

/* `baseline` as in struct bench_case. */
static graft_status add_case(struct linear_bench *l, int kind, enum way way, int n_tok,
                             int baseline, graft_error *error)
{
    static const char *const WAYS[WAY_COUNT] = {"decode", "prefill", "transposed"};
    const struct model *m = l->b->model;
    struct linear_case *c = &l->of[l->n];
    struct bench_case *out = &l->cases[l->n++];
    double bytes = 0, flops = 0;
    for (int layer = 0; layer < kind_layers(m, kind); layer++) {
        const struct matrix *w = kind_weight(m, kind, layer);
        bytes += (double)weight_bytes(w);
        flops += 2.0 * (double)w->n_out * (double)w->n_in * n_tok;
    }
    *c = (struct linear_case){
        .b = l->b, .kind = kind, .n_tok = n_tok, .way = way, .y = l->y, .scratch = l->scratch};
    bool reads = way == WAY_DECODE;
    int peak = limits_peak_for(&l->b->limits, m->runtime->kernels, kind_weight(m, kind, 0)->type);
    *out = (struct bench_case){.unit = reads ? "GB/s" : "GFLOP/s",
                               .work = (reads ? bytes : flops) * 1e-9,
                               .clock = CLOCK_WORKERS,
                               .limit = reads ? LIMIT_READ : peak,
                               .limit_work = reads ? bytes : flops,
                               .baseline = baseline,
                               .run = run_linear,
                               .context = c};
    snprintf(out->name, sizeof out->name, "%s, %s %d row%s", kind_name(kind), WAYS[way], n_tok,
             n_tok > 1 ? "s" : "");
    return prepare_inputs(l, c, error);
}

/* The cases of one kind. A prompt has one row of logits, so the head is decoded only. */
static graft_status add_kind(struct linear_bench *l, int kind, graft_error *error)
{
    const graft_bench_options *o = l->b->options;
    graft_status status = GRAFT_OK;
    for (int i = 0; i < o->n_rows && status == GRAFT_OK; i++)
        status = add_case(l, kind, WAY_DECODE, o->rows[i], -1, error);
    if (status == GRAFT_OK && kind != KIND_HEAD)
        status = add_case(l, kind, WAY_PREFILL, o->tokens, -1, error);
    if (status == GRAFT_OK && kind != KIND_HEAD)
        status = add_case(l, kind, WAY_TRANSPOSED, o->tokens, l->n - 1, error);
    return status;
}

static graft_status open_linear(struct linear_bench *l, graft_error *error)
{
    struct bench *b = l->b;
    const graft_bench_options *o = b->options;
    const struct config *c = &b->model->config;
    int64_t widest = c->d_ff, d_q = (int64_t)c->n_head * c->d_head;
    widest = widest > c->d_model ? widest : c->d_model;
    widest = widest > d_q ? widest : d_q;
    int most = o->tokens, most_decode = 1;
    for (int i = 0; i < o->n_rows; i++)
        most_decode = o->rows[i] > most_decode ? o->rows[i] : most_decode;
    most = most > most_decode ? most : most_decode;
    int64_t outputs = most * widest, head = (int64_t)most_decode * c->n_vocab;
    size_t threads = (size_t)pool_threads(b->runtime->pool);
    l->of = mem_calloc(b->mem, CASES_MAX, sizeof *l->of);
    l->cases = mem_calloc(b->mem, CASES_MAX, sizeof *l->cases);
    l->x = mem_calloc(b->mem, (size_t)(most * widest), sizeof(float));
    l->y = mem_calloc(b->mem, (size_t)(outputs > head ? outputs : head), sizeof(float));
    l->scratch = mem_alloc(b->mem, threads * product_scratch_bytes(widest));
    if (!l->of || !l->cases || !l->x || !l->y || !l->scratch)
        return error_set(error, GRAFT_NO_MEMORY, "no memory for products");
    fill_random(l->x, most * widest, 3);
    graft_status status = GRAFT_OK;
    for (int kind = 0; kind < KIND_COUNT && status == GRAFT_OK; kind++)
        status = add_kind(l, kind, error);
    return status;
}

graft_status bench_linear(struct bench *b, graft_error *error)
{
    struct linear_bench l = {.b = b};
    graft_status status = check_products(b, error);
    if (status == GRAFT_OK)
        status = open_linear(&l, error);
    if (status == GRAFT_OK)
        status = bench_measure(b, l.cases, l.n, error);
    for (int i = 0; i < l.n; i++)
        for (int type = 0; type < GRAFT_TYPE_COUNT; type++)
            mem_free(b->mem, l.of[i].inputs[type]);
    mem_free(b->mem, l.of);
    mem_free(b->mem, l.cases);
    mem_free(b->mem, l.x);
    mem_free(b->mem, l.y);
    mem_free(b->mem, l.scratch);
    return status;
}
