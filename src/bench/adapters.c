/* adapters.c: what an adapter costs beside the base model, in alternation.
 *
 * Sixteen random adapters are resident from the beginning, so the base is timed with them around. A decode sample is
 * a few steps after 128 tokens, a prefill sample one pass of a prompt without the head. A mixed batch has
 * sixteen rows, under one adapter or each under another: what it reads more are the factors.
 */
#include "bench/bench_internal.h"

enum { ADAPTERS = 16, CONTEXT = 128, STEPS = 16, CASES = 6 };

struct adapters;
struct adapters_case {
    struct adapters *all;
    enum role role;
    int n_rows;     /* sequences, or tokens of a prompt */
    int n_adapters; /* 0: the base; 1: the first; else row i has the i-th */
};

struct adapters {
    struct adapter *adapter[ADAPTERS];
    struct mix *mix[ADAPTERS];
    struct workspace *ws;
    struct kv_pool *pool;
    struct kv_seq *seed, *seqs[ADAPTERS], *prompt;
    struct row *rows;
    struct adapters_case of[CASES];
    struct bench_case cases[CASES];
    int n;
};

static const struct delta_set *deltas_of(const struct adapters_case *c, int row)
{
    return c->n_adapters ? mix_deltas(c->all->mix[row % c->n_adapters]) : NULL;
}

static void fill_rows(const struct bench *b, const struct adapters_case *c, int step)
{
    struct adapters *a = c->all;
    int n_vocab = b->model->config.n_vocab;
    for (int i = 0; i < c->n_rows; i++) {
        bool decode = c->role == ROLE_DECODE;
        struct kv_seq *seq = decode ? a->seqs[i] : a->prompt;
        a->rows[i] =
            (struct row){.token = (graft_token_id)(((int64_t)step * 7919 + i * 104729) % n_vocab),
                         .pos = decode ? (int32_t)kv_seq_length(seq) : i,
                         .seq = seq,
                         .role = c->role,
                         .deltas = deltas_of(c, i),
                         .want_logits = decode};
    }
}

static graft_status run_case(struct bench *b, void *context, struct seconds *seconds,
                             graft_error *error)
{
    struct adapters_case *c = context;
    bool decode = c->role == ROLE_DECODE;
    int steps = decode ? STEPS : 1;
    graft_status status = GRAFT_OK;
    for (int i = 0; decode && i < c->n_rows; i++)
        kv_seq_trim(c->all->seqs[i], CONTEXT);
    kv_seq_trim(c->all->prompt, 0);
    double begun = time_seconds();
    for (int step = 0; step < steps && status == GRAFT_OK; step++) {
        fill_rows(b, c, step);
        status = model_forward(b->model, c->all->rows, c->n_rows, c->all->ws, error);
    }
    seconds->by[CLOCK_WALL] = wall_seconds(begun);
    return status;
}

static void add_case(struct bench *b, struct adapters *a, struct adapters_case what, int baseline,
                     const char *name)
{
    const struct limits *l = &b->limits;
    graft_type type = b->model->layers[0].linear[LINEAR_GATE].type;
    bool decode = what.role == ROLE_DECODE;
    double bytes = model_token_bytes(b->model);
    for (int i = 0; i < what.n_adapters; i++)
        bytes += (double)adapter_info(a->adapter[i])->bytes;
    int steps = decode ? STEPS : 1;
    struct bench_case *c = &a->cases[a->n];
    *c = (struct bench_case){
        .unit = "tokens/s",
        .work = (double)what.n_rows * steps,
        .clock = CLOCK_WALL,
        .limit = decode ? LIMIT_READ : limits_peak_for(l, b->runtime->kernels, type),
        .limit_work = decode ? bytes * steps : model_block_flops(b->model) * what.n_rows,
        .baseline = baseline,
        .run = run_case,
        .context = &a->of[a->n]};
    snprintf(c->name, sizeof c->name, "%s", name);
    a->of[a->n] = what;
    a->of[a->n++].all = a;
}

static void list_cases(struct bench *b, struct adapters *a)
{
    int prompt = b->options->tokens;
    add_case(b, a, (struct adapters_case){.role = ROLE_DECODE, .n_rows = 1}, -1, "decode, base");
    add_case(b, a, (struct adapters_case){.role = ROLE_DECODE, .n_rows = 1, .n_adapters = 1}, 0,
             "decode, adapter");
    add_case(b, a, (struct adapters_case){.role = ROLE_PREFILL, .n_rows = prompt}, -1,
             "prefill, base");
    add_case(b, a, (struct adapters_case){.role = ROLE_PREFILL, .n_rows = prompt, .n_adapters = 1},
             2, "prefill, adapter");
    add_case(b, a, (struct adapters_case){.role = ROLE_DECODE, .n_rows = ADAPTERS, .n_adapters = 1},
             0, "16 rows, one adapter");
    add_case(
        b, a,
        (struct adapters_case){.role = ROLE_DECODE, .n_rows = ADAPTERS, .n_adapters = ADAPTERS}, 4,
        "16 rows, 16 adapters");
}

static graft_status open_adapters(struct bench *b, struct adapters *a, graft_error *error)
{
    graft_status status = GRAFT_OK;
    for (int i = 0; i < ADAPTERS && status == GRAFT_OK; i++) {
        struct synth_adapter how = synth_adapter_of(b->options);
        how.seed = (uint64_t)i + 1;
        status = bench_progress(b, (uint64_t)i, ADAPTERS, "adapters", error);
        if (status == GRAFT_OK)
            status = synth_adapter_open(b, &how, &a->adapter[i], error);
        if (status == GRAFT_OK)
            status = mix_make(b->model, &(struct mix_part){a->adapter[i], 1}, 1, &a->mix[i], error);
    }
    return status;
}

static graft_status open_all(struct bench *b, struct adapters *a, graft_error *error)
{
    int prompt = b->options->tokens;
    int64_t blocks = ADAPTERS * ((CONTEXT + STEPS) / KV_BLOCK + 2) + prompt / KV_BLOCK;
    int most = prompt > KV_BLOCK ? prompt : KV_BLOCK;
    a->rows = mem_calloc(b->mem, (size_t)most, sizeof *a->rows);
    if (!a->rows)
        return error_set(error, GRAFT_NO_MEMORY, "no memory for rows");
    graft_status status = open_adapters(b, a, error);
    if (status == GRAFT_OK)
        status = workspace_open(b->model, most, &a->ws, error);
    if (status == GRAFT_OK)
        status = bench_kv_open(b, blocks + 2, a->ws, &a->pool, &a->seed, error);
    if (status == GRAFT_OK)
        status = kv_seq_open(a->pool, &a->prompt, error);
    for (int i = 0; i < ADAPTERS && status == GRAFT_OK; i++)
        status = kv_seq_repeat(a->seed, CONTEXT, &a->seqs[i], error);
    return status;
}

static void close_all(struct bench *b, struct adapters *a)
{
    for (int i = 0; i < ADAPTERS; i++) {
        kv_seq_close(&a->seqs[i]);
        mix_release(&a->mix[i]);
        adapter_release(&a->adapter[i]);
    }
    kv_seq_close(&a->prompt);
    kv_seq_close(&a->seed);
    kv_pool_close(&a->pool);
    workspace_close(&a->ws);
    mem_free(b->mem, a->rows);
}

graft_status bench_adapters(struct bench *b, graft_error *error)
{
    struct adapters a = {.n = 0};
    graft_status status = open_all(b, &a, error);
    if (status == GRAFT_OK)
        status = check_model_with(b, a.adapter[0], error);
    if (status == GRAFT_OK) {
        list_cases(b, &a);
        status = bench_measure(b, a.cases, a.n, error);
    }
    close_all(b, &a);
    return status;
}
