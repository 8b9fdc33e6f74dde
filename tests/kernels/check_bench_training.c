/* check_bench_training.c: times what training adds to the kernels, at the sizes of a model of half a billion weights,
 * beside the limits of the machine: gradients of factors and of a weight, attention forward and backward, products
 * with few rows of the head and with many. A case is printed only after some of it agrees with the scalar tier.
 */
#include "kernels/check_bench.h"

#include <math.h>
#include <stdio.h>

enum {
    D_MODEL = 896,
    D_FF = 4864,
    D_HEAD = 64,
    N_GROUP = 7,
    N_TOK = 512,
    LOSS_ROWS = 64,
    N_VOCAB = 151936
};

/* Whatever is timed. */
struct training_case {
    const struct bench *b;
    const struct kernels *k;
    double work; /* operations */
    pool_work slice;
    union {
        struct outer_args outer;
        struct self_attention_args attention;
        struct matrix weight;
    };
    int64_t width; /* that workers share */
    int n_tok;
};

/* Prints GFLOP/s, and the shares of what the units do at most. */
static void time_case(const struct training_case *c, const char *name)
{
    double rates[BENCH_SAMPLES], floats[BENCH_SAMPLES], matrix[BENCH_SAMPLES];
    for (int i = 0; i < BENCH_SAMPLES; i++) {
        double peak = bench_peak(c->b, c->k->tier, false);
        double unit = bench_peak(c->b, c->k->tier, true);
        rates[i] = c->work / bench_seconds(c->b, c->slice, (void *)c);
        floats[i] = rates[i] / peak;
        matrix[i] = rates[i] / unit;
    }
    double share = bench_median(floats, BENCH_SAMPLES), rate = bench_median(rates, BENCH_SAMPLES);
    printf("%-10s training %-34s %2d %8.1f GFLOP/s  %4.2f (%4.2f..%4.2f)  %4.2f\n", c->k->tier,
           name, c->b->threads, rate / 1e9, share, floats[0], floats[BENCH_SAMPLES - 1],
           bench_median(matrix, BENCH_SAMPLES));
    fflush(stdout);
}

static void *scratch_of(const struct training_case *c, int worker)
{
    return c->b->scratch + (size_t)worker * BENCH_SCRATCH;
}

/* ---- gradients of factors and weights ----------------------------------------------------- */

static void outer_slice(void *context, int worker, int n_workers)
{
    const struct training_case *c = context;
    struct outer_args a = c->outer;
    pool_split(c->width, 16, worker, n_workers, &a.i_begin, &a.i_end);
    a.scratch = scratch_of(c, worker);
    c->k->outer(&a);
}

static bool bench_outer(struct training_case *c, const char *name, int64_t rank, int64_t n_in,
                        enum panel_format format)
{
    enum { SOME = 256 };
    float want[SOME] = {0};
    float *x = c->b->y + BENCH_Y / 2, *u = c->b->y + BENCH_Y / 4 * 3;
    memset(c->b->y, 0, (size_t)(rank * n_in) * sizeof(float));
    check_fill_uniform(x, N_TOK * n_in);
    check_fill_uniform(u, N_TOK * rank);
    c->work = 2.0 * (double)rank * (double)n_in * N_TOK;
    c->slice = outer_slice;
    c->width = n_in;
    c->outer = (struct outer_args){.u = u,
                                   .x = x,
                                   .g = c->b->y,
                                   .u_stride = rank,
                                   .x_stride = n_in,
                                   .g_stride = n_in,
                                   .rank = rank,
                                   .n_tok = N_TOK,
                                   .format = format};
    bench_seconds(c->b, outer_slice, c);
    struct outer_args a = c->outer;
    a.u += rank - 1;
    a.rank = 1;
    a.i_end = SOME;
    a.g = want;
    scalar_kernels.outer(&a);
    if (!bench_is_near(c->b->y + (rank - 1) * n_in, want, SOME,
                       format == PANEL_BF16 ? 0x1p-5f : 1e-3f))
        return false;
    time_case(c, name);
    return true;
}

/* ---- attention ---------------------------------------------------------------------------- */

static void attention_run(const struct training_case *c, int worker, bool backward)
{
    struct self_attention_args a = c->attention;
    const int64_t heads = N_TOK * N_GROUP * D_HEAD, keys = N_TOK * D_HEAD;
    float *y = c->b->y + worker * (2 * heads + N_TOK * N_GROUP + 2 * keys);
    a.out = y;
    a.dq = a.out + heads;
    a.lse = a.dq + heads;
    a.dk = a.lse + N_TOK * N_GROUP;
    a.dv = a.dk + keys;
    a.scratch = scratch_of(c, worker);
    (backward ? c->k->self_attention_backward : c->k->self_attention)(&a);
}

static void forward_slice(void *context, int worker, int n_workers)
{
    (void)n_workers;
    attention_run(context, worker, false);
}

static void backward_slice(void *context, int worker, int n_workers)
{
    (void)n_workers;
    attention_run(context, worker, true);
}

/* Every worker has a KV head of its own. */
static bool bench_self_attention(struct training_case *c)
{
    const int64_t heads = N_TOK * N_GROUP * D_HEAD, keys = N_TOK * D_HEAD;
    const float *x = c->b->x;
    c->attention = (struct self_attention_args){.q = x,
                                                .k = x + 2 * heads,
                                                .v = x + 2 * heads + keys,
                                                .dout = x + heads,
                                                .q_stride = N_GROUP * D_HEAD,
                                                .kv_stride = D_HEAD,
                                                .out_stride = N_GROUP * D_HEAD,
                                                .lse_stride = N_GROUP,
                                                .n_tok = N_TOK,
                                                .n_group = N_GROUP,
                                                .d_head = D_HEAD,
                                                .scale = 0.125f};
    const double pairs = 0.5 * N_TOK * (N_TOK + 1) * N_GROUP * c->b->threads;
    struct training_case scalar = *c;
    scalar.k = &scalar_kernels;
    float *dv = c->b->y + 2 * heads + N_TOK * N_GROUP + keys, *want = c->b->y + BENCH_Y / 2;
    attention_run(&scalar, 0, false);
    attention_run(&scalar, 0, true);
    memcpy(want, dv, (size_t)keys * sizeof *want);
    bench_seconds(c->b, forward_slice, c);
    bench_seconds(c->b, backward_slice, c);
    if (!bench_is_near(dv, want, keys, 1e-4f))
        return false;
    c->work = pairs * 4 * D_HEAD;
    c->slice = forward_slice;
    time_case(c, "attention forward");
    c->work = pairs * 10 * D_HEAD;
    c->slice = backward_slice;
    time_case(c, "attention backward");
    return true;
}

/* ---- weights with few and with many rows -------------------------------------------------- */

static void straight_slice(void *context, int worker, int n_workers)
{
    const struct training_case *c = context;
    int64_t begin, end;
    pool_split(c->weight.n_out, 16, worker, n_workers, &begin, &end);
    c->k->linear_prefill(c->k, &c->weight, c->b->y + BENCH_Y / 4 * 3, c->n_tok, begin, end, c->b->y,
                         c->weight.n_out, scratch_of(c, worker));
}

static void transposed_slice(void *context, int worker, int n_workers)
{
    const struct training_case *c = context;
    struct transposed_args a = {.w = &c->weight,
                                .dy = c->b->y,
                                .n_tok = c->n_tok,
                                .dx = c->b->y + BENCH_Y / 4 * 3,
                                .dx_stride = c->weight.n_in,
                                .scratch = scratch_of(c, worker)};
    pool_split(c->weight.n_in, transposed_grain(&c->weight), worker, n_workers, &a.i_begin,
               &a.i_end);
    c->k->linear_transposed(c->k, &a);
}

static void bench_weight(struct training_case *c, graft_type type, int64_t n_out, int64_t n_in)
{
    static const int rows[] = {LOSS_ROWS, N_TOK};
    const struct type_traits *t = type_traits(type);
    const size_t row = (size_t)(n_in / t->block_values) * t->block_bytes;
    char name[64];
    c->weight = (struct matrix){
        .type = type, .n_out = n_out, .n_in = n_in, .data = c->b->memory, .row_bytes = row};
    for (size_t i = 0; i < ARRAY_LEN(rows) && rows[i] * n_out <= BENCH_Y / 4 * 3; i++) {
        c->n_tok = rows[i];
        c->work = 2.0 * (double)n_out * (double)n_in * c->n_tok;
        for (int transposed = 0; transposed < 2; transposed++) {
            snprintf(name, sizeof name, "%s [%lld, %lld], %d rows%s", graft_type_name(type),
                     (long long)n_out, (long long)n_in, c->n_tok, transposed ? ", dx" : "");
            c->slice = transposed ? transposed_slice : straight_slice;
            time_case(c, name);
        }
    }
}

static void bench_weights(struct training_case *c)
{
    memset(c->b->memory, 0x3C, BENCH_MEMORY); /* a moderate number in every type */
    check_fill_uniform(c->b->y, BENCH_Y);
    bench_weight(c, GRAFT_TYPE_Q8_0, D_FF, D_MODEL);
    bench_weight(c, GRAFT_TYPE_Q8_0, D_MODEL, D_FF);
    bench_weight(c, GRAFT_TYPE_Q8_0, N_VOCAB, D_MODEL);
    bench_weight(c, GRAFT_TYPE_BF16, D_FF, D_MODEL);
    bench_weight(c, GRAFT_TYPE_BF16, D_MODEL, D_FF);
    bench_weight(c, GRAFT_TYPE_BF16, N_VOCAB / 2, D_MODEL);
}

static bool bench_outers(struct training_case *c)
{
    const enum panel_format best = c->k->quantised_panels;
    bool right = bench_outer(c, "outer, rank 16, 4864", 16, D_FF, PANEL_F32) &&
                 bench_outer(c, "outer, rank 16, 896", 16, D_MODEL, PANEL_F32) &&
                 bench_outer(c, "outer, rank 48, 896", 48, D_MODEL, PANEL_F32) &&
                 bench_outer(c, "outer, rank 4864, 896", D_FF, D_MODEL, PANEL_F32);
    if (best == PANEL_F32)
        return right;
    return right && bench_outer(c, "outer, rank 16, 4864, bf16", 16, D_FF, best) &&
           bench_outer(c, "outer, rank 16, 896, bf16", 16, D_MODEL, best) &&
           bench_outer(c, "outer, rank 48, 896, bf16", 48, D_MODEL, best) &&
           bench_outer(c, "outer, rank 4864, 896, bf16", D_FF, D_MODEL, best);
}

bool bench_training(const struct bench *b, const struct kernels *k)
{
    struct training_case c = {.b = b, .k = k};
    if (!bench_outers(&c) || !bench_self_attention(&c)) {
        fprintf(stderr, "%s training: the result is wrong\n", k->tier);
        return false;
    }
    bench_weights(&c);
    return true;
}
