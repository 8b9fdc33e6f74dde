/* decode.c: tokens per second, one at a time and for several sequences together.
 *
 * A step is one model_forward of a decode row with logits for each sequence; sampling is not in it. The
 * sequences that are stepped together each have blocks of their own. Before each sample they go back
 * to where they began. What bounds a step is reading: all weights once, and the keys and values of every
 * sequence.
 */
#include "bench/bench_internal.h"

enum { CASES_MAX = GRAFT_BENCH_LIST_MAX * GRAFT_BENCH_LIST_MAX, ROWS_MAX = 64 };

struct decode_case {
    int context, n_rows;
    struct workspace *ws;
    struct kv_seq *seqs[ROWS_MAX];
};

struct decode {
    struct bench *b;
    struct workspace *ws;
    struct kv_pool *pool;
    struct kv_seq *seed;
    struct decode_case *of;   /* [n] */
    struct bench_case *cases; /* [n] */
    int n;
};

static graft_status step(struct bench *b, const struct decode_case *d, int index,
                         graft_error *error)
{
    struct row rows[ROWS_MAX];
    int n_vocab = b->model->config.n_vocab;
    for (int i = 0; i < d->n_rows; i++)
        rows[i] = (struct row){.token = (graft_token_id)((index * 7919 + i * 104729) % n_vocab),
                               .pos = (int32_t)kv_seq_length(d->seqs[i]),
                               .seq = d->seqs[i],
                               .role = ROLE_DECODE,
                               .want_logits = true};
    return model_forward(b->model, rows, d->n_rows, d->ws, error);
}

static graft_status run_decode(struct bench *b, void *context, struct seconds *seconds,
                               graft_error *error)
{
    struct decode_case *d = context;
    graft_status status = GRAFT_OK;
    for (int i = 0; i < d->n_rows; i++)
        kv_seq_trim(d->seqs[i], d->context);
    double begun = time_seconds();
    for (int i = 0; i < b->options->tokens && status == GRAFT_OK; i++)
        status = step(b, d, i, error);
    seconds->by[CLOCK_WALL] = wall_seconds(begun);
    return status;
}

/* Bytes that one step of a case reads: positions are the mean over a sample. */
static double step_bytes(const struct bench *b, const struct decode_case *d)
{
    const struct config *c = &b->model->config;
    const struct kv_pool_options kv = bench_kv_options(b, 0);
    double position =
        (double)(kv_head_bytes(kv.k_type, c->d_head) + kv_head_bytes(kv.v_type, c->d_head)) *
        c->n_kv * c->n_layer;
    double positions = d->context + (b->options->tokens + 1) / 2.0;
    return model_token_bytes(b->model) +
           d->n_rows * (position * positions + (double)b->model->embed.row_bytes);
}

/* Compared with the same context and one row, else with the first context and as many rows. */
static int baseline_of(const struct decode *d, int index)
{
    const struct decode_case *c = &d->of[index];
    for (int i = 0; i < index && c->n_rows > 1; i++)
        if (d->of[i].context == c->context && d->of[i].n_rows == 1)
            return i;
    for (int i = 0; i < index && c->n_rows == 1; i++)
        if (d->of[i].n_rows == 1)
            return i;
    return -1;
}

static graft_status add_case(struct decode *d, int context, int n_rows, graft_error *error)
{
    struct bench *b = d->b;
    struct decode_case *c = &d->of[d->n];
    struct bench_case *out = &d->cases[d->n];
    *c = (struct decode_case){.context = context, .n_rows = n_rows, .ws = d->ws};
    *out = (struct bench_case){.unit = "tokens/s",
                               .work = (double)n_rows * b->options->tokens,
                               .clock = CLOCK_WALL,
                               .limit = LIMIT_READ,
                               .limit_work = step_bytes(b, c) * b->options->tokens,
                               .run = run_decode,
                               .context = c};
    snprintf(out->name, sizeof out->name, n_rows > 1 ? "context %d, %d rows" : "context %d",
             context, n_rows);
    out->baseline = baseline_of(d, d->n++);
    graft_status status = GRAFT_OK;
    for (int i = 0; i < n_rows && status == GRAFT_OK; i++)
        status = kv_seq_repeat(d->seed, context, &c->seqs[i], error);
    return status;
}

static int64_t blocks_of(const struct graft_bench_options *o)
{
    int64_t blocks = 0;
    for (int r = 0; r < o->n_rows; r++)
        for (int c = 0; c < o->n_contexts; c++)
            blocks += o->rows[r] * ((int64_t)(o->contexts[c] + o->tokens) / KV_BLOCK + 1);
    return blocks;
}

static graft_status open_decode(struct decode *d, graft_error *error)
{
    const graft_bench_options *o = d->b->options;
    int most_rows = KV_BLOCK; /* as many as the first block takes at once */
    for (int i = 0; i < o->n_rows; i++)
        most_rows = o->rows[i] > most_rows ? o->rows[i] : most_rows;
    d->of = mem_calloc(d->b->mem, CASES_MAX, sizeof *d->of);
    d->cases = mem_calloc(d->b->mem, CASES_MAX, sizeof *d->cases);
    if (!d->of || !d->cases)
        return error_set(error, GRAFT_NO_MEMORY, "no memory for cases");
    graft_status status = workspace_open(d->b->model, most_rows, &d->ws, error);
    if (status == GRAFT_OK)
        status = bench_kv_open(d->b, blocks_of(o), d->ws, &d->pool, &d->seed, error);
    for (int r = 0; r < o->n_rows; r++)
        for (int c = 0; c < o->n_contexts && status == GRAFT_OK; c++)
            status = add_case(d, o->contexts[c], o->rows[r], error);
    return status;
}

static void close_decode(struct decode *d)
{
    for (int i = 0; i < d->n; i++)
        for (int r = 0; r < ROWS_MAX; r++)
            kv_seq_close(&d->of[i].seqs[r]);
    kv_seq_close(&d->seed);
    kv_pool_close(&d->pool);
    workspace_close(&d->ws);
    mem_free(d->b->mem, d->of);
    mem_free(d->b->mem, d->cases);
}

graft_status bench_decode(struct bench *b, graft_error *error)
{
    struct decode d = {.b = b};
    graft_status status = check_model(b, error);
    if (status == GRAFT_OK)
        status = open_decode(&d, error);
    if (status == GRAFT_OK)
        status = bench_measure(b, d.cases, d.n, error);
    close_decode(&d);
    return status;
}
