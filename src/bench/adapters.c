/* adapters.c: what an adapter costs beside the base model, in alternation.
 *
 * Sixteen random adapters are resident, so the base is timed with them around (residents.c compares that with the base
 * alone), and one as DoRA. A decode sample is a few steps after 128 tokens, a prefill sample one pass of a prompt without
 * the head. A mixed batch has sixteen rows, under one adapter or each under another: what it reads more are the
 * factors. Before there is a figure each row of it must say, bit by bit, what it says alone. What is compared is
 * sampled together and nothing else between: decode, prefill and mixed batches one after the other.
 */
#include "bench/bench_internal.h"

enum { ADAPTERS = 16, CONTEXT = 128, STEPS = 4, CASES = 3 };

struct adapters;
struct adapters_case {
    struct adapters *all;
    enum role role;
    int n_rows;     /* sequences, or tokens of a prompt */
    int n_adapters; /* 0: the base; 1: the first; else row i has the i-th */
    bool dora;      /* the one adapter is the one as DoRA */
};

struct adapters {
    struct adapter *adapter[ADAPTERS], *dora; /* dora NULL: all of them are */
    struct mix *mix[ADAPTERS], *dora_mix;
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
    if (c->dora)
        return mix_deltas(c->all->dora_mix);
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

static double factor_bytes(const struct adapters *a, const struct adapters_case *c)
{
    double bytes = 0;
    for (int i = 0; i < c->n_adapters; i++)
        bytes += (double)adapter_info(c->dora ? a->dora : a->adapter[i])->bytes;
    return bytes;
}

/* Returns its index. */
static int add_case(struct bench *b, struct adapters *a, struct adapters_case what, int baseline,
                    const char *name)
{
    const struct limits *l = &b->limits;
    graft_type type = b->model->layers[0].linear[LINEAR_GATE].type;
    bool decode = what.role == ROLE_DECODE;
    double bytes = model_token_bytes(b->model) + factor_bytes(a, &what);
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
    a->of[a->n].all = a;
    return a->n++;
}

/* The base, the adapter, and the same adapter as DoRA. */
static void list_three(struct bench *b, struct adapters *a, enum role role, int n_rows,
                       const char *const names[3])
{
    struct adapters_case what = {.role = role, .n_rows = n_rows};
    int base = add_case(b, a, what, -1, names[0]);
    what.n_adapters = 1;
    int one = add_case(b, a, what, base, names[1]);
    what.dora = true;
    if (a->dora)
        add_case(b, a, what, one, names[2]);
}

static void list_rows(struct bench *b, struct adapters *a)
{
    struct adapters_case mixed = {.role = ROLE_DECODE, .n_rows = ADAPTERS, .n_adapters = 1};
    int row =
        add_case(b, a, (struct adapters_case){.role = ROLE_DECODE, .n_rows = 1}, -1, "1 row, base");
    int one = add_case(b, a, mixed, row, "16 rows, one adapter");
    double bytes = factor_bytes(a, &mixed);
    mixed.n_adapters = ADAPTERS;
    struct bench_case *c = &a->cases[add_case(b, a, mixed, row, "16 rows, 16 adapters")];
    c->extra_work = STEPS * (factor_bytes(a, &mixed) - bytes);
    c->extra_to = one;
    c->extra_steps = STEPS;
}

/* ---- checks ------------------------------------------------------------------------------- */

/* One step of some rows of the mixed batch; their logits go to `out`, NULL: are compared with those that `together`
 * has for them, [ADAPTERS, n_vocab]. */
static graft_status step_of(struct bench *b, struct adapters *a, int first, int n, float *together,
                            bool *equal, graft_error *error)
{
    struct adapters_case c = {
        .all = a, .role = ROLE_DECODE, .n_rows = ADAPTERS, .n_adapters = ADAPTERS};
    size_t width = (size_t)b->model->config.n_vocab;
    for (int i = 0; i < ADAPTERS; i++)
        kv_seq_trim(a->seqs[i], CONTEXT);
    fill_rows(b, &c, 1);
    graft_status status = model_forward(b->model, a->rows + first, n, a->ws, error);
    for (int i = 0; i < n && status == GRAFT_OK; i++) {
        const float *logits = workspace_logits(a->ws, i);
        float *kept = together + (size_t)(first + i) * width;
        if (equal)
            *equal &= !memcmp(kept, logits, width * sizeof *kept);
        else
            memcpy(kept, logits, width * sizeof *kept);
    }
    return status;
}

static graft_status check_rows(struct bench *b, struct adapters *a, graft_error *error)
{
    bool equal = true;
    float *together =
        mem_calloc(b->mem, ADAPTERS * (size_t)b->model->config.n_vocab, sizeof(float));
    if (!together)
        return error_set(error, GRAFT_NO_MEMORY, "no memory for logits");
    graft_status status = step_of(b, a, 0, ADAPTERS, together, NULL, error);
    for (int i = 0; i < ADAPTERS && status == GRAFT_OK; i++)
        status = step_of(b, a, i, 1, together, &equal, error);
    if (status == GRAFT_OK && !equal)
        status = error_set(error, GRAFT_NUMERIC,
                           "a row of a batch differs from the row alone, so there is no figure");
    mem_free(b->mem, together);
    return status;
}

static graft_status check_all(struct bench *b, struct adapters *a, graft_error *error)
{
    graft_status status = a->dora ? check_model_with(b, a->dora, error) : GRAFT_OK;
    if (status == GRAFT_OK)
        status = check_model_with(b, a->adapter[0], error);
    if (status == GRAFT_OK)
        status = check_rows(b, a, error);
    b->checked =
        "8 outputs of every linear of every type, 8 rows with an adapter; 16 rows are each "
        "what they are alone, bit by bit";
    return status;
}

/* ---- the bench ---------------------------------------------------------------------------- */

static graft_status open_one(struct bench *b, const struct synth_adapter *how,
                             struct adapter **adapter, struct mix **mix, graft_error *error)
{
    graft_status status = synth_adapter_open(b, how, adapter, error);
    return status == GRAFT_OK ? mix_make(b->model, &(struct mix_part){*adapter, 1}, 1, mix, error)
                              : status;
}

static graft_status open_adapters(struct bench *b, struct adapters *a, graft_error *error)
{
    struct synth_adapter how = synth_adapter_of(b->options);
    graft_status status = GRAFT_OK;
    for (int i = 0; i < ADAPTERS && status == GRAFT_OK; i++) {
        how.seed = (uint64_t)i + 1;
        status = bench_progress(b, (uint64_t)i, ADAPTERS, "adapters", error);
        if (status == GRAFT_OK)
            status = open_one(b, &how, &a->adapter[i], &a->mix[i], error);
    }
    if (status != GRAFT_OK || how.dora)
        return status;
    how.seed = 1;
    how.dora = true;
    return open_one(b, &how, &a->dora, &a->dora_mix, error);
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
    mix_release(&a->dora_mix);
    adapter_release(&a->dora);
    kv_seq_close(&a->prompt);
    kv_seq_close(&a->seed);
    kv_pool_close(&a->pool);
    workspace_close(&a->ws);
    mem_free(b->mem, a->rows);
}

static graft_status measure_all(struct bench *b, struct adapters *a, graft_error *error)
{
    static const char *const DECODE[] = {"decode, base", "decode, adapter", "decode, DoRA"},
                             *const PREFILL[] = {"prefill, base", "prefill, adapter",
                                                 "prefill, DoRA"};
    list_three(b, a, ROLE_DECODE, 1, DECODE);
    graft_status status = bench_measure(b, a->cases, a->n, error);
    a->n = 0;
    list_three(b, a, ROLE_PREFILL, b->options->tokens, PREFILL);
    if (status == GRAFT_OK)
        status = bench_measure(b, a->cases, a->n, error);
    a->n = 0;
    list_rows(b, a);
    return status == GRAFT_OK ? bench_measure(b, a->cases, a->n, error) : status;
}

graft_status bench_adapters(struct bench *b, graft_error *error)
{
    struct adapters a = {.n = 0};
    graft_status status = bench_residents(b, error);
    if (status == GRAFT_OK)
        status = open_all(b, &a, error);
    if (status == GRAFT_OK)
        status = check_all(b, &a, error);
    if (status == GRAFT_OK)
        status = measure_all(b, &a, error);
    close_all(b, &a);
    return status;
}
