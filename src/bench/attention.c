/* attention.c: attention alone, over a cache that lies in memory as the model's does.
 *
 * Decode cases: one query row per KV head and block of the model, at each context; what bounds it is
 * reading the keys and values. The prompt case: all rows of a prompt in one block of the model, each row
 * up to its own position; what bounds it is arithmetic (four operations per head value and position).
 * Keys and values are random; time is processor time of the busiest worker.
 */
#include "bench/bench_internal.h"

#include <math.h>

struct attention_case {
    struct bench *b;
    enum kv_type k_type, v_type;
    int layers, n_tok;
    int64_t positions, n_blocks; /* of a head */
    size_t k_bytes, v_bytes;     /* of a block of one head */
    uint8_t *cache;              /* [layers, n_kv, n_blocks] of keys, then values */
    const void **tables;         /* [n_workers, 2, n_blocks] */
    float *q, *out;              /* [n_tok, n_head * d_head] */
    float *scratch;              /* [n_workers] of attention_scratch_floats */
};

static uint8_t *block_at(const struct attention_case *c, int64_t head, int64_t block)
{
    return c->cache + (size_t)(head * c->n_blocks + block) * (c->k_bytes + c->v_bytes);
}

static int64_t group_of(const struct attention_case *c)
{
    const struct config *config = &c->b->model->config;
    return config->n_head / config->n_kv;
}

/* Where the outputs of a row's queries of a KV head lie in `out`, and its queries in `q`. */
static int64_t place_of(const struct attention_case *c, int64_t head, int row)
{
    const struct config *config = &c->b->model->config;
    return ((int64_t)row * config->n_head + head % config->n_kv * group_of(c)) * config->d_head;
}

/* Rows row..row+n of KV head `head` (counted over all layers). */
static void attend(const struct attention_case *c, const struct kernels *k, int64_t head, int row,
                   int n, int worker)
{
    const struct config *config = &c->b->model->config;
    int n_group = (int)group_of(c), d = config->d_head;
    const void **keys = c->tables + 2 * c->n_blocks * worker, **values = keys + c->n_blocks;
    for (int64_t i = 0; i < c->n_blocks; i++) {
        keys[i] = block_at(c, head, i);
        values[i] = block_at(c, head, i) + c->k_bytes;
    }
    int64_t at = place_of(c, head, row);
    const struct attention_args args = {.q = c->q + at,
                                        .out = c->out + at,
                                        .q_stride = (int64_t)config->n_head * d,
                                        .out_stride = (int64_t)config->n_head * d,
                                        .n_row = n,
                                        .n_group = n_group,
                                        .d_head = d,
                                        .scale = 1 / sqrtf((float)d),
                                        .pos = c->positions - c->n_tok + row,
                                        .k_type = c->k_type,
                                        .v_type = c->v_type,
                                        .k_blocks = keys,
                                        .v_blocks = values,
                                        .scratch = c->scratch +
                                                   worker * attention_scratch_floats(n_group, d)};
    attention_run_tile(k, c->n_tok > 1 ? ROLE_PREFILL : ROLE_DECODE, &args);
}

/* Workers take every n-th tile of every head, the last ones of a prompt first as they are the longest. */
static void attention_share(void *context, int worker, int n_workers)
{
    const struct attention_case *c = context;
    int most = attention_tile_rows((int)group_of(c)), n_tiles = (c->n_tok + most - 1) / most;
    int64_t heads = (int64_t)c->b->model->config.n_kv * c->layers;
    for (int64_t i = worker; i < heads * n_tiles; i += n_workers) {
        int row = (n_tiles - 1 - (int)(i / heads)) * most;
        int n = c->n_tok - row < most ? c->n_tok - row : most;
        attend(c, c->b->runtime->kernels, i % heads, row, n, worker);
    }
}

static graft_status run_attention(struct bench *b, void *context, struct seconds *seconds,
                                  graft_error *error)
{
    (void)error;
    *seconds = run_timed(b->runtime->pool, false, attention_share, context);
    return GRAFT_OK;
}

/* ---- the cache ---------------------------------------------------------------------------- */

struct fill {
    const struct attention_case *c;
};

static void fill_share(void *context, int worker, int n_workers)
{
    const struct attention_case *c = ((struct fill *)context)->c;
    const struct config *config = &c->b->model->config;
    const struct kernels *k = c->b->runtime->kernels;
    size_t k_row = c->k_bytes / KV_BLOCK, v_row = c->v_bytes / KV_BLOCK;
    int64_t begin, end, n = (int64_t)config->n_kv * c->layers * c->n_blocks;
    enum { WIDEST = 4096, PLACES = 256 }; /* of a head, by config.c; vectors are stretches of one */
    float x[WIDEST + PLACES];
    fill_random(x, config->d_head + PLACES, 5);
    pool_split(n, 1, worker, n_workers, &begin, &end);
    for (int64_t i = begin; i < end; i++)
        for (size_t p = 0; p < KV_BLOCK; p++) {
            const float *from = x + ((size_t)i * 67 + p * 13) % PLACES;
            uint8_t *block = block_at(c, 0, i);
            k->kv_store[c->k_type](from, config->d_head, block + p * k_row);
            k->kv_store[c->v_type](from, config->d_head, block + c->k_bytes + p * v_row);
        }
}

static graft_status open_case(struct bench *b, struct attention_case *c, int layers, int n_tok,
                              int64_t positions, graft_error *error)
{
    const struct config *config = &b->model->config;
    const struct kv_pool_options kv = bench_kv_options(b, 0);
    size_t threads = (size_t)pool_threads(b->runtime->pool);
    *c = (struct attention_case){.b = b,
                                 .k_type = kv.k_type,
                                 .v_type = kv.v_type,
                                 .layers = layers,
                                 .n_tok = n_tok,
                                 .positions = positions,
                                 .n_blocks = (positions + KV_BLOCK - 1) / KV_BLOCK,
                                 .k_bytes = KV_BLOCK * kv_head_bytes(kv.k_type, config->d_head),
                                 .v_bytes = KV_BLOCK * kv_head_bytes(kv.v_type, config->d_head)};
    size_t width = (size_t)config->n_head * (size_t)config->d_head;
    size_t blocks = (size_t)config->n_kv * (size_t)layers * (size_t)c->n_blocks;
    c->cache = mem_alloc(b->mem, blocks * (c->k_bytes + c->v_bytes));
    c->tables = mem_calloc(b->mem, threads * 2 * (size_t)c->n_blocks, sizeof *c->tables);
    c->q = mem_calloc(b->mem, (size_t)n_tok * width, sizeof(float));
    c->out = mem_calloc(b->mem, (size_t)n_tok * width, sizeof(float));
    size_t scratch = (size_t)attention_scratch_floats((int)group_of(c), config->d_head);
    c->scratch = mem_calloc(b->mem, threads * scratch, sizeof(float));
    if (!c->cache || !c->tables || !c->q || !c->out || !c->scratch)
        return error_set(error, GRAFT_NO_MEMORY, "no memory for a cache");
    fill_random(c->q, (int64_t)((size_t)n_tok * width), 9);
    struct fill fill = {c};
    pool_run(b->runtime->pool, fill_share, &fill);
    return GRAFT_OK;
}

static void close_case(struct attention_case *c)
{
    struct mem *mem = c->b ? c->b->mem : NULL;
    mem_free(mem, c->cache);
    mem_free(mem, c->tables);
    mem_free(mem, c->q);
    mem_free(mem, c->out);
    mem_free(mem, c->scratch);
}

/* ---- the check ---------------------------------------------------------------------------- */

enum { CHECK_TILES = 8 };

struct attention_check {
    const struct attention_case *c;
    float *got; /* [attention_tile_rows, n_group * d_head] */
    graft_status status;
    graft_error *error;
};

/* Tiles of as many rows as are timed, and of one, from the first row to the last and of heads far apart. */
static void check_share(void *context, int worker, int n_workers)
{
    (void)worker, (void)n_workers;
    struct attention_check *check = context;
    const struct attention_case *c = check->c;
    const struct config *config = &c->b->model->config;
    int most = attention_tile_rows((int)group_of(c));
    int64_t heads = (int64_t)config->n_kv * c->layers, n = group_of(c) * config->d_head;
    for (int i = 0; i < CHECK_TILES; i++) {
        int64_t head = heads * i / CHECK_TILES;
        int rows = i % 2 ? 1 : most < c->n_tok ? most : c->n_tok;
        int row = (c->n_tok - rows) * i / (CHECK_TILES - 1);
        attend(c, c->b->runtime->kernels, head, row, rows, 0);
        for (int r = 0; r < rows; r++)
            memcpy(check->got + r * n, c->out + place_of(c, head, row + r),
                   (size_t)n * sizeof *check->got);
        attend(c, c->b->scalar.kernels, head, row, rows, 0);
        for (int r = 0; r < rows && check->status == GRAFT_OK; r++)
            check->status = check_close(check->got + r * n, c->out + place_of(c, head, row + r), n,
                                        false, "attention", check->error);
    }
}

static graft_status check_attention(const struct attention_case *c, graft_error *error)
{
    struct attention_check check = {.c = c, .error = error};
    int64_t n = attention_tile_rows((int)group_of(c)) * group_of(c) * c->b->model->config.d_head;
    check.got = mem_calloc(c->b->mem, (size_t)n, sizeof *check.got);
    if (!check.got)
        return error_set(error, GRAFT_NO_MEMORY, "no memory for a check");
    pool_run_alone(check_share, &check);
    mem_free(c->b->mem, check.got);
    return check.status;
}

/* ---- the bench ---------------------------------------------------------------------------- */

static double cache_bytes(const struct attention_case *c)
{
    const struct config *config = &c->b->model->config;
    return (double)(c->k_bytes + c->v_bytes) / KV_BLOCK * (double)c->positions * config->n_kv *
           c->layers;
}

static double prompt_flops(const struct attention_case *c)
{
    const struct config *config = &c->b->model->config;
    return 4.0 * config->d_head * config->n_head * c->layers * c->n_tok * (c->n_tok + 1) / 2;
}

static graft_status add_case(struct bench *b, struct attention_case *c, struct bench_case *out,
                             int context, graft_error *error)
{
    int n_tok = context ? 1 : b->options->tokens;
    graft_status status = open_case(b, c, context ? b->model->config.n_layer : 1, n_tok,
                                    context ? context : n_tok, error);
    if (status == GRAFT_OK)
        status = check_attention(c, error);
    double work = status != GRAFT_OK ? 0 : context ? cache_bytes(c) : prompt_flops(c);
    *out = (struct bench_case){.unit = context ? "GB/s" : "GFLOP/s",
                               .work = work * 1e-9,
                               .clock = CLOCK_WORKERS,
                               .limit = context ? LIMIT_READ : 0,
                               .limit_work = work,
                               .baseline = -1,
                               .run = run_attention,
                               .context = c};
    snprintf(out->name, sizeof out->name, context ? "decode, context %d" : "prefill, %d rows",
             context ? context : n_tok);
    return status;
}

graft_status bench_attention(struct bench *b, graft_error *error)
{
    enum { N = GRAFT_BENCH_LIST_MAX + 1 };
    struct attention_case of[N] = {{0}};
    struct bench_case cases[N];
    int n = b->options->n_contexts;
    memset(cases, 0, sizeof cases);
    graft_status status = GRAFT_OK;
    for (int i = 0; i <= n && status == GRAFT_OK; i++)
        status = add_case(b, &of[i], &cases[i], i < n ? b->options->contexts[i] : 0, error);
    b->checked = "8 tiles of attention in every case";
    if (status == GRAFT_OK)
        status = bench_measure(b, cases, n + 1, error);
    for (int i = 0; i <= n; i++)
        close_case(&of[i]);
    return status;
}
