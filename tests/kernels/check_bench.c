/* check_bench.c: times the products, attention and training (check_bench_training.c) of every tier beside the limits of the machine.
 *
 * The limits (reading memory, multiply-adds) are measured in the same run, between the samples of
 * each case, and what is printed is the median of the samples and of their share of the limit at
 * that moment. Time is the processor time of the worker that used most of it, so that a machine
 * shared with others does not count what they took. A case is printed only after eight of its rows
 * agree with the scalar tier. The scalar tier itself is timed only when asked for by name.
 */
#include "kernels/check_bench.h"

#include <math.h>
#include <stdio.h>
#include <time.h>

enum { N_IN = 2048, BATCH = 16, PREFILL_N_TOK = 512, PREFILL_N_OUT = 2048 };
_Static_assert((int)PREFILL_N_TOK *(int)N_IN == (int)BENCH_X, "x holds the rows of a prefill");

/* ---- limits ------------------------------------------------------------------------------- */

static double thread_seconds(void)
{
    struct timespec t;
    clock_gettime(CLOCK_THREAD_CPUTIME_ID, &t);
    return (double)t.tv_sec + 1e-9 * (double)t.tv_nsec;
}

struct timed {
    pool_work work;
    void *context;
    double seconds[64]; /* per worker */
};

static void timed_slice(void *context, int worker, int n_workers)
{
    struct timed *t = context;
    double start = thread_seconds();
    t->work(t->context, worker, n_workers);
    t->seconds[worker] = thread_seconds() - start;
}

double bench_seconds(const struct bench *b, pool_work work, void *context)
{
    struct timed t = {.work = work, .context = context};
    double longest = 0;
    pool_run(b->pool, timed_slice, &t);
    for (int i = 0; i < b->threads; i++)
        longest = fmax(longest, t.seconds[i]);
    return longest;
}

struct limit_work {
    const struct bench *b;
    int64_t rounds;
    const char *tier;
    bool matrix;           /* the unit for bf16 and not that for floats */
    _Atomic uint64_t sink; /* keeps the work from being left out */
    double operations;
};

static void read_slice(void *context, int worker, int n_workers)
{
    struct limit_work *w = context;
    int64_t begin, end;
    pool_split((int64_t)BENCH_MEMORY, 4096, worker, n_workers, &begin, &end);
    w->sink ^= check_read_memory(w->b->memory + begin, (size_t)(end - begin));
}

static void multiply_slice(void *context, int worker, int n_workers)
{
    struct limit_work *w = context;
    float out[8];
    double operations = check_multiply(w->tier, w->matrix, w->rounds, out);
    w->sink ^= (uint64_t)out[0];
    if (worker == 0)
        w->operations = operations * n_workers;
}

static double read_bandwidth(const struct bench *b, const char *tier, bool matrix) /* bytes/s */
{
    struct limit_work w = {.b = b, .tier = tier, .matrix = matrix};
    return (double)BENCH_MEMORY / bench_seconds(b, read_slice, &w);
}

double bench_peak(const struct bench *b, const char *tier, bool matrix)
{
    struct limit_work w = {.b = b, .rounds = 2000000, .tier = tier, .matrix = matrix};
    double seconds = bench_seconds(b, multiply_slice, &w);
    return w.operations / seconds;
}

/* ---- cases -------------------------------------------------------------------------------- */

struct bench_case {
    const struct bench *b;
    const struct kernels *k;
    struct matrix w;
    enum role role;
    int n_tok;
    bool transposed; /* y [n_tok, n_in] = x [n_tok, n_out] · W */
};

static void transposed_slice(const struct bench_case *c, int worker, int n_workers)
{
    struct transposed_args a = {.w = &c->w,
                                .dy = c->b->x,
                                .n_tok = c->n_tok,
                                .dx = c->b->y,
                                .dx_stride = c->w.n_in,
                                .scratch = c->b->scratch + (size_t)worker * BENCH_SCRATCH};
    pool_split(c->w.n_in, transposed_grain(&c->w), worker, n_workers, &a.i_begin, &a.i_end);
    c->k->linear_transposed(c->k, &a);
}

static void product_slice(void *context, int worker, int n_workers)
{
    const struct bench_case *c = context;
    int64_t begin, end, stride = c->w.n_out;
    if (c->transposed) {
        transposed_slice(c, worker, n_workers);
        return;
    }
    pool_split(c->w.n_out, 16, worker, n_workers, &begin, &end);
    void *scratch = c->b->scratch + (size_t)worker * BENCH_SCRATCH;
    if (c->role == ROLE_DECODE)
        c->k->linear_decode[c->w.type](&c->w, c->b->acts, c->n_tok, begin, end, c->b->y, stride,
                                       scratch);
    else
        c->k->linear_prefill(c->k, &c->w, c->b->x, c->n_tok, begin, end, c->b->y, stride, scratch);
}

static double product_seconds(const struct bench_case *c)
{
    return bench_seconds(c->b, product_slice, (void *)c);
}

bool bench_is_near(const float *got, const float *want, int64_t n, float bound)
{
    float largest = 0, off = 0;
    for (int64_t i = 0; i < n; i++) {
        largest = fmaxf(largest, fabsf(want[i]));
        off = fabsf(want[i] - got[i]) <= off ? off : fabsf(want[i] - got[i]); /* NaN stays */
    }
    return off <= bound * largest;
}

/* Factors in bf16 are off by 2^-9 each. */
static float bound_of(const struct bench_case *c)
{
    bool rounded = c->role == ROLE_PREFILL && kernels_panel_format(c->k, c->w.type) == PANEL_BF16;
    return rounded ? 0x1p-5f : 1e-3f;
}

/* The first columns of the last token agree with the scalar tier. */
static bool transposed_is_right(const struct bench_case *c)
{
    enum { COLUMNS = 256 };
    float want[COLUMNS];
    int t = c->n_tok - 1;
    const struct transposed_args a = {.w = &c->w,
                                      .dy = c->b->x + t * c->w.n_out,
                                      .n_tok = 1,
                                      .i_end = COLUMNS,
                                      .dx = want,
                                      .dx_stride = COLUMNS,
                                      .scratch = c->b->scratch};
    scalar_kernels.linear_transposed(&scalar_kernels, &a);
    return bench_is_near(c->b->y + t * c->w.n_in, want, COLUMNS, bound_of(c));
}

/* Eight outputs of the last token agree with the scalar tier. */
static bool product_is_right(const struct bench_case *c)
{
    enum { ROWS = 8 };
    if (c->transposed)
        return transposed_is_right(c);
    float want[ROWS];
    int64_t o = c->w.n_out - ROWS;
    int t = c->n_tok - 1;
    struct matrix w = c->w;
    w.data = (const uint8_t *)w.data + (size_t)o * w.row_bytes;
    w.scales = (const uint8_t *)w.scales + (w.group ? o * w.n_in / w.group * 2 : 0);
    w.biases = (const uint8_t *)w.biases + (w.group ? o * w.n_in / w.group * 2 : 0);
    w.n_out = ROWS;
    if (c->role == ROLE_DECODE) {
        size_t row = act_row_bytes(act_format_for(w.type, ROLE_DECODE), w.n_in);
        scalar_kernels.linear_decode[w.type](&w, (uint8_t *)c->b->acts + (size_t)t * row, 1, 0,
                                             ROWS, want, ROWS, c->b->scratch);
    } else {
        scalar_kernels.linear_prefill(&scalar_kernels, &w, c->b->x + (size_t)t * N_IN, 1, 0, ROWS,
                                      want, ROWS, c->b->scratch);
    }
    return bench_is_near(c->b->y + t * c->w.n_out + o, want, ROWS, bound_of(c));
}

/* ---- weights ------------------------------------------------------------------------------ */

/* Fills the memory with copies of some rows of random weights. */
static struct matrix bench_weights(const struct bench *b, graft_type type, int64_t n_out)
{
    enum { ROWS = 64 };
    struct weights few = weights_make(type, ROWS, N_IN, 0, 64, GRAFT_TYPE_F16);
    struct matrix w = few.matrix;
    size_t factors = type_is_mlx(type) ? (size_t)(N_IN / 64 * 2) : 0; /* bytes per row */
    uint8_t *scales = b->memory + (size_t)n_out * w.row_bytes;
    uint8_t *biases = scales + (size_t)n_out * factors;
    for (int64_t o = 0; o < n_out; o += ROWS) {
        memcpy(b->memory + (size_t)o * w.row_bytes, w.data, ROWS * w.row_bytes);
        if (factors) {
            memcpy(scales + (size_t)o * factors, w.scales, ROWS * factors);
            memcpy(biases + (size_t)o * factors, w.biases, ROWS * factors);
        }
    }
    w.n_out = n_out;
    w.data = b->memory;
    w.scales = factors ? scales : NULL;
    w.biases = factors ? biases : NULL;
    weights_free(&few);
    return w;
}

static size_t weight_row_bytes(graft_type type)
{
    const struct type_traits *t = type_traits(type);
    return (size_t)(N_IN / t->block_values) * t->block_bytes +
           (type_is_mlx(type) ? N_IN / 64 * 2 * 2 : 0);
}

/* ---- the table ---------------------------------------------------------------------------- */

static int ascending(const void *a, const void *b)
{
    double x = *(const double *)a, y = *(const double *)b;
    return (x > y) - (x < y);
}

double bench_median(double *v, int n)
{
    qsort(v, (size_t)n, sizeof *v, ascending);
    return v[n / 2];
}

struct result {
    double rate, share, low, high; /* share of the limit: median, least, most */
    double matrix_share;           /* of the limit of the tier's matrix unit */
};

typedef double (*bench_limit)(const struct bench *b, const char *tier, bool matrix);

/* `work` (bytes or flops) per run, next to a limit sampled before each. */
static bool measure(const struct bench_case *c, double work, bench_limit limit, struct result *out)
{
    double rates[BENCH_SAMPLES], shares[BENCH_SAMPLES], matrix_shares[BENCH_SAMPLES];
    product_seconds(c);
    if (!product_is_right(c))
        return false;
    for (int i = 0; i < BENCH_SAMPLES; i++) {
        double before = limit(c->b, c->k->tier, false), matrix = limit(c->b, c->k->tier, true);
        rates[i] = work / product_seconds(c);
        shares[i] = rates[i] / before;
        matrix_shares[i] = rates[i] / matrix;
    }
    out->rate = bench_median(rates, BENCH_SAMPLES);
    out->matrix_share = bench_median(matrix_shares, BENCH_SAMPLES);
    out->share = bench_median(shares, BENCH_SAMPLES);
    out->low = shares[0];
    out->high = shares[BENCH_SAMPLES - 1];
    return true;
}

/* Rate of a batch to that of one row, in outputs per second, sampled in turn. The batch is of fewer
 * outputs: it takes a while. Negative: an output is wrong. */
static double batch_speedup(const struct bench_case *one, int64_t n_out)
{
    struct bench_case many = *one;
    double ratios[BENCH_SAMPLES];
    many.n_tok = BATCH;
    many.w.n_out = n_out;
    product_seconds(&many);
    if (!product_is_right(&many))
        return -1;
    for (int i = 0; i < BENCH_SAMPLES; i++) {
        double seconds = product_seconds(one) / (double)one->w.n_out;
        ratios[i] = BATCH * seconds / (product_seconds(&many) / (double)n_out);
    }
    return bench_median(ratios, BENCH_SAMPLES);
}

static bool bench_type(const struct bench *b, const struct kernels *k, graft_type type)
{
    bool slow = strcmp(k->tier, "scalar") == 0; /* its speed is no concern: keep it short */
    size_t row = weight_row_bytes(type);
    int64_t n_out = (int64_t)((slow ? BENCH_MEMORY / 64 : BENCH_MEMORY) / row) / 64 * 64;
    struct bench_case c = {.b = b, .k = k, .role = ROLE_DECODE, .n_tok = 1};
    struct result one, prefill, transposed;
    double bytes = (double)n_out * (double)row;
    c.w = bench_weights(b, type, n_out);
    if (!measure(&c, bytes, read_bandwidth, &one))
        return false;
    double speedup = batch_speedup(&c, slow ? 64 : n_out / 8 / 64 * 64);
    if (speedup < 0)
        return false;
    c.role = ROLE_PREFILL;
    c.n_tok = slow ? 8 : PREFILL_N_TOK;
    c.w = bench_weights(b, type, slow ? 64 : PREFILL_N_OUT);
    if (!measure(&c, 2.0 * (double)c.w.n_out * N_IN * c.n_tok, bench_peak, &prefill))
        return false;
    c.transposed = true;
    if (!measure(&c, 2.0 * (double)c.w.n_out * N_IN * c.n_tok, bench_peak, &transposed))
        return false;
    printf("%-10s %-5s %2d %6.2f  %4.2f (%4.2f..%4.2f) %6.2f %8.1f  %4.2f (%4.2f..%4.2f)  %4.2f   "
           "%4.2f\n",
           k->tier, graft_type_name(type), b->threads, one.rate / 1e9, one.share, one.low, one.high,
           speedup, prefill.rate / 1e9, prefill.share, prefill.low, prefill.high,
           prefill.matrix_share, transposed.share / prefill.share);
    fflush(stdout);
    return true;
}

/* ---- attention ---------------------------------------------------------------------------- */

enum { D_HEAD = 64, DECODE_POSITIONS = 4096 };

/* Rows of as many KV heads as there are, each with its own keys and values, block after block: decode
 * has one row at the last position, prefill a row for every position. */
struct attention_case {
    const struct bench *b;
    const struct kernels *k;
    enum role role;
    enum kv_type type;
    int n_group, n_kv, positions;
};

/* Rows row..row+n of a head. */
static void attend(const struct attention_case *c, const struct kernels *k, int head, int row,
                   int n, int worker, float *out)
{
    const void *keys[DECODE_POSITIONS / KV_BLOCK], *values[DECODE_POSITIONS / KV_BLOCK];
    size_t block = KV_BLOCK * kv_head_bytes(c->type, D_HEAD);
    int64_t n_block = c->positions / KV_BLOCK, stride = (int64_t)c->n_group * D_HEAD;
    for (int64_t i = 0; i < n_block; i++) {
        keys[i] = c->b->memory + (size_t)(head * n_block + i) * 2 * block;
        values[i] = (const uint8_t *)keys[i] + block;
    }
    const struct attention_args a = {
        .q = c->b->x + row % 512 * stride,
        .out = out,
        .q_stride = stride,
        .out_stride = stride,
        .n_row = n,
        .n_group = c->n_group,
        .d_head = D_HEAD,
        .scale = 0.125f,
        .pos = c->role == ROLE_DECODE ? c->positions - 1 : row,
        .k_type = c->type,
        .v_type = c->type,
        .k_blocks = keys,
        .v_blocks = values,
        .scratch = (float *)(void *)(c->b->scratch + (size_t)worker * BENCH_SCRATCH)};
    attention_run_tile(k, c->role, &a);
}

/* Each worker takes every n-th tile of all heads, the longest first. */
static void attention_slice(void *context, int worker, int n_workers)
{
    const struct attention_case *c = context;
    int rows = c->role == ROLE_DECODE ? 1 : c->positions, most = attention_tile_rows(c->n_group);
    int n_tiles = (rows + most - 1) / most;
    for (int i = worker; i < n_tiles * c->n_kv; i += n_workers) {
        int row = (n_tiles - 1 - i / c->n_kv) * most;
        float *out = c->b->y + (size_t)worker * 64 * 8 * D_HEAD;
        attend(c, c->k, i % c->n_kv, row, rows - row < most ? rows - row : most, worker, out);
    }
}

/* The last row of the last head agrees with the scalar tier. */
static bool attention_is_right(const struct attention_case *c)
{
    float got[8 * D_HEAD], want[8 * D_HEAD];
    attend(c, c->k, c->n_kv - 1, c->positions - 1, 1, 0, got);
    attend(c, &scalar_kernels, c->n_kv - 1, c->positions - 1, 1, 0, want);
    for (int i = 0; i < c->n_group * D_HEAD; i++)
        if (!(fabsf(got[i] - want[i]) <= 1e-4f))
            return false;
    return true;
}

/* Copies of random keys and values for all heads. */
static void fill_cache(const struct attention_case *c)
{
    size_t bytes = kv_head_bytes(c->type, D_HEAD), some = 509 * bytes;
    size_t all = (size_t)c->n_kv * (size_t)c->positions * 2 * bytes;
    for (size_t i = 0; i < some; i += bytes) {
        float x[D_HEAD];
        check_fill_uniform(x, D_HEAD);
        c->k->kv_store[c->type](x, D_HEAD, c->b->memory + i);
    }
    for (size_t i = some; i < all; i++)
        c->b->memory[i] = c->b->memory[i - some];
}

static bool bench_attention(const struct attention_case *c)
{
    static const char *const names[] = {"f32", "f16", "q8"};
    bool decode = c->role == ROLE_DECODE;
    double n = c->positions, rates[BENCH_SAMPLES], shares[BENCH_SAMPLES];
    double work =
        c->n_kv * n *
        (decode ? 2 * (double)kv_head_bytes(c->type, D_HEAD) : 2.0 * (n + 1) * c->n_group * D_HEAD);
    fill_cache(c);
    bench_seconds(c->b, attention_slice, (void *)c);
    for (int i = 0; i < BENCH_SAMPLES; i++) {
        double limit = (decode ? read_bandwidth : bench_peak)(c->b, c->k->tier, false);
        rates[i] = work / bench_seconds(c->b, attention_slice, (void *)c);
        shares[i] = rates[i] / limit;
    }
    double rate = bench_median(rates, BENCH_SAMPLES), share = bench_median(shares, BENCH_SAMPLES);
    printf("%-10s attention %-3s %d heads share  %2d  %s %4d  %6.1f %s  %4.2f (%4.2f..%4.2f)\n",
           c->k->tier, names[c->type], c->n_group, c->b->threads,
           decode ? "decode at" : "prefill of", c->positions, rate / 1e9,
           decode ? "GB/s" : "GFLOP/s", share, shares[0], shares[BENCH_SAMPLES - 1]);
    fflush(stdout);
    return attention_is_right(c);
}

static bool bench_attentions(const struct bench *b, const struct kernels *k)
{
    static const int groups[] = {1, 4, 7, 8};
    bool right = true;
    for (int type = KV_F16; type < KV_TYPE_COUNT; type++)
        for (size_t g = 0; right && g < ARRAY_LEN(groups); g++) {
            struct attention_case c = {b,         k,  ROLE_DECODE,     (enum kv_type)type,
                                       groups[g], 32, DECODE_POSITIONS};
            right = bench_attention(&c);
            c.role = ROLE_PREFILL;
            c.n_kv = 2 * b->threads;
            for (c.positions = 512; right && c.positions <= 2048; c.positions *= 4)
                right = bench_attention(&c);
        }
    if (!right)
        fprintf(stderr, "%s attention: the result is wrong\n", k->tier);
    return right;
}

/* ---- all ---------------------------------------------------------------------------------- */

static bool bench_open(struct bench *b, int threads)
{
    *b = (struct bench){.threads = threads};
    if (decode_scratch_bytes(N_IN) > BENCH_SCRATCH || prefill_scratch_bytes(N_IN) > BENCH_SCRATCH)
        return false;
    if (pool_open(&b->pool, NULL, threads, NULL) != GRAFT_OK)
        return false;
    b->memory = mem_alloc(NULL, BENCH_MEMORY + 4096);
    b->x = mem_alloc(NULL, BENCH_X * sizeof(float));
    b->y = mem_alloc(NULL, BENCH_Y * sizeof(float));
    b->acts = mem_alloc(NULL, BATCH * act_row_bytes(ACT_F32, N_IN));
    b->scratch = mem_alloc(NULL, (size_t)threads * BENCH_SCRATCH);
    if (!b->memory || !b->x || !b->y || !b->acts || !b->scratch)
        return false;
    memset(b->memory, 1, BENCH_MEMORY + 4096);
    check_fill_uniform(b->x, BENCH_X);
    return true;
}

static void bench_close(struct bench *b)
{
    pool_close(&b->pool);
    mem_free(NULL, b->memory);
    mem_free(NULL, b->x);
    mem_free(NULL, b->y);
    mem_free(NULL, b->acts);
    mem_free(NULL, b->scratch);
}

static bool bench_tier(struct bench *b, const struct kernels *k, const char *filter)
{
    for (int type = 0; type < GRAFT_TYPE_COUNT; type++) {
        if (!kernels_have_type(type) || !strstr(graft_type_name(type), filter))
            continue;
        enum act_format format = act_format_for(type, ROLE_DECODE);
        size_t row = act_row_bytes(format, N_IN);
        for (int t = 0; t < BATCH; t++)
            scalar_kernels.act_quantize[format](b->x + t * N_IN, N_IN,
                                                (uint8_t *)b->acts + (size_t)t * row);
        if (!bench_type(b, k, type)) {
            fprintf(stderr, "%s %s: the result is wrong\n", k->tier, graft_type_name(type));
            return false;
        }
    }
    return true;
}

static void print_heading(void)
{
    printf("                    decode, one row         16 rows  prefill of 512, share of peak in\n"
           "tier       type  thr  GB/s  of reading       speedup  GFLOP/s  floats              "
           "matrix  transposed: straight\n");
}

int check_bench(int threads, const char *tier, const char *filter)
{
    int failed = 0;
    for (int n = 1; n <= threads && !failed; n++) {
        struct bench b;
        if (!bench_open(&b, n)) {
            bench_close(&b);
            return 1;
        }
        const char *best = kernels_find(NULL)->tier;
        printf("\n%d thread%s: reading %.1f GB/s, GFLOP/s: %.0f in floats, %.0f by matrix unit\n",
               n, n > 1 ? "s" : "", read_bandwidth(&b, best, false) / 1e9,
               bench_peak(&b, best, false) / 1e9, bench_peak(&b, best, true) / 1e9);
        if (strcmp(filter, "attention") != 0 && strcmp(filter, "training") != 0)
            print_heading();
        FOR_EACH_TIER(k)
        if (tier ? strcmp(k->tier, tier) == 0 : k != &scalar_kernels || !kernels_tier(1)) {
            failed |= !bench_tier(&b, k, filter);
            if (!failed && k != &scalar_kernels && strstr("attention", filter))
                failed |= !bench_attentions(&b, k);
            if (!failed && k != &scalar_kernels && strstr("training", filter))
                failed |= !bench_training(&b, k);
        }
        bench_close(&b);
    }
    return failed;
}
