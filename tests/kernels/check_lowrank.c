/* check_lowrank.c: the two halves of a low-rank delta and the factors of DoRA, against double precision,
 * and the bit-equality that the arithmetic rule promises: tokens alone and in company, ranks and outputs
 * cut at odd places. */
#include "kernels/check.h"

#include <math.h>

/* Rounding of a float sum, relative to the sum of the magnitudes added up. */
static const double SUM_TOLERANCE = 5e-7;
/* The smallest normal float: the workers' flushing of denormals may cost that much. */
static const double TINY = 1e-37;

/* One of the ways in which a tier computes: a role, and for prefill the panels of the weight beside it. */
struct way {
    const struct kernels *k;
    enum role role;
    enum panel_format format;
};

#define FOR_EACH_WAY(way)                                                                          \
    FOR_EACH_PANEL_TIER(k_)                                                                        \
    for (int i_ = 0; i_ < 3; i_++)                                                                 \
        for (struct way way = {k_, i_ ? ROLE_PREFILL : ROLE_DECODE,                                \
                               i_ == 1   ? k_->float_deltas                                        \
                               : i_ == 2 ? k_->quantised_panels                                    \
                                         : PANEL_F32};                                             \
             way.k && !(i_ == 2 && k_->float_deltas == k_->quantised_panels); way.k = NULL)

static double tolerance(const struct way *way)
{
    return check_panel_tolerance(way->format);
}

/* ---- down --------------------------------------------------------------------------------- */

/* The rows of one matrix as the stacked ranks of two deltas. */
struct stack {
    struct matrix a[2];
    struct lowrank_part parts[2];
    int n;
};

static void stack_make(struct stack *s, const struct matrix *a)
{
    int64_t cut = a->n_out / 3;
    *s = (struct stack){.a = {*a, *a}, .n = cut ? 2 : 1};
    if (cut) {
        s->a[0].n_out = cut;
        s->a[1].n_out -= cut;
        s->a[1].data = (const uint8_t *)a->data + (size_t)cut * a->row_bytes;
    }
    s->parts[0] = (struct lowrank_part){&s->a[0], -1.75f};
    s->parts[1] = (struct lowrank_part){&s->a[1], 0.5f};
}

static double scale_of(const struct matrix *a, int64_t r)
{
    return r < a->n_out / 3 || a->n_out < 3 ? -1.75 : 0.5;
}

static void down_run(const struct way *way, const struct matrix *a, const float *x, int n_tok,
                     int64_t r_begin, int64_t r_end, float *u, int64_t u_stride)
{
    struct stack s;
    struct fenced scratch = fenced_alloc(prefill_scratch_bytes(a->n_in), 0);
    stack_make(&s, a);
    way->k->lowrank_down[way->role](way->k, &(struct lowrank_down_args){.parts = s.parts,
                                                                        .n_parts = s.n,
                                                                        .x = x,
                                                                        .n_tok = n_tok,
                                                                        .r_begin = r_begin,
                                                                        .r_end = r_end,
                                                                        .u = u,
                                                                        .u_stride = u_stride,
                                                                        .format = way->format,
                                                                        .scratch = scratch.data});
    fenced_free(&scratch);
}

static void down_near_double(const struct way *way, const struct matrix *a, const float *x,
                             int n_tok, const float *u, int64_t stride)
{
    float *row = test_malloc((size_t)a->n_in * sizeof *row);
    for (int64_t r = 0; r < a->n_out; r++) {
        double scale = scale_of(a, r);
        scalar_kernels.dequantize[a->type](a, r, 0, a->n_in, row);
        for (int t = 0; t < n_tok; t++) {
            double sum = 0, magnitude = TINY / SUM_TOLERANCE;
            for (int64_t i = 0; i < a->n_in; i++) {
                double product = check_factor(way->format, (double)row[i]) *
                                 check_factor(way->format, (double)x[t * a->n_in + i]);
                sum += product;
                magnitude += fabs(product);
            }
            check_near(u[t * stride + r], scale * sum, fabs(scale) * magnitude, tolerance(way),
                       graft_type_name(a->type), way->k->tier, r);
        }
    }
    test_free(row);
}

/* Tokens alone and in sevens, ranks in two calls. */
static void down_equals_its_parts(const struct way *way, const struct matrix *a, const float *x,
                                  int n_tok, const float *whole, int64_t stride)
{
    static const int sizes[] = {1, 7};
    for (size_t i = 0; i < ARRAY_LEN(sizes); i++) {
        struct padded u = padded_alloc(n_tok * stride);
        int64_t at = check_below((int)a->n_out + 1);
        for (int t = 0; t < n_tok; t += sizes[i]) {
            int n = n_tok - t < sizes[i] ? n_tok - t : sizes[i];
            down_run(way, a, x + t * a->n_in, n, at, a->n_out, u.data + t * stride, stride);
            for (int64_t r = 0; r < at; r++)
                assert_true(padded_is_untouched(u.data + t * stride + r));
            down_run(way, a, x + t * a->n_in, n, 0, at, u.data + t * stride, stride);
        }
        padded_check(&u);
        for (int t = 0; t < n_tok; t++) {
            check_same(u.data + t * stride, whole + t * stride, a->n_out, "down in parts",
                       way->k->tier);
            for (int64_t r = a->n_out; r < stride; r++)
                assert_true(padded_is_untouched(u.data + t * stride + r));
        }
        padded_free(&u);
    }
}

static void check_down(graft_type type, int64_t rank, int64_t n_in, int n_tok)
{
    for (size_t slack = 0; slack < 2; slack++) {
        struct weights a = weights_make(type, rank, n_in, slack, 0, GRAFT_TYPE_F32);
        struct fenced x = fenced_alloc((size_t)(n_tok * n_in) * sizeof(float), 0);
        int64_t stride = rank + 3;
        check_fill_uniform(x.data, n_tok * n_in);
        FOR_EACH_WAY(way)
        {
            struct padded u = padded_alloc(n_tok * stride);
            down_run(&way, &a.matrix, x.data, n_tok, 0, rank, u.data, stride);
            padded_check(&u);
            down_near_double(&way, &a.matrix, x.data, n_tok, u.data, stride);
            down_equals_its_parts(&way, &a.matrix, x.data, n_tok, u.data, stride);
            padded_free(&u);
        }
        fenced_free(&x);
        weights_free(&a);
    }
}

/* ---- up ----------------------------------------------------------------------------------- */

/* What a product takes beside its factors; vectors end at an unreadable page. */
struct up_case {
    struct lowrank_up_args args;
    struct weights b;
    struct fenced u, keep, gain, bias;
    float *before; /* [n_tok, n_out]: y as it was */
    int64_t n_out;
};

static const float *fenced_uniform(struct fenced *f, int64_t n, float middle)
{
    *f = fenced_alloc((size_t)n * sizeof(float), 0);
    for (int64_t i = 0; i < n; i++)
        ((float *)f->data)[i] = middle + 0.5f * check_uniform();
    return f->data;
}

static struct up_case up_make(graft_type type, int64_t rank, int64_t n_out, int n_tok, size_t slack,
                              bool keep, bool gain, bool bias)
{
    struct up_case c = {.b = weights_make(type, lowrank_b_rows(rank, n_out), LOWRANK_TILE, slack, 0,
                                          GRAFT_TYPE_F32),
                        .n_out = n_out};
    c.args = (struct lowrank_up_args){.rank = rank,
                                      .u_stride = rank + 2,
                                      .n_tok = n_tok,
                                      .bias_scale = 0.5f,
                                      .u = fenced_uniform(&c.u, n_tok * (rank + 2), 0),
                                      .keep = keep ? fenced_uniform(&c.keep, n_out, 1) : NULL,
                                      .gain = gain ? fenced_uniform(&c.gain, n_out, 1) : NULL,
                                      .bias = bias ? fenced_uniform(&c.bias, n_out, 0) : NULL};
    c.before = test_malloc((size_t)(n_tok * n_out) * sizeof(float));
    check_fill_uniform(c.before, n_tok * n_out);
    return c;
}

static void up_free(struct up_case *c)
{
    weights_free(&c->b);
    fenced_free(&c->u);
    fenced_free(&c->keep);
    fenced_free(&c->gain);
    fenced_free(&c->bias);
    test_free(c->before);
}

/* Tokens first..first+n, outputs o_begin..o_end, added to y[n, stride]. */
static void up_run(const struct way *way, const struct up_case *c, int first, int n,
                   int64_t o_begin, int64_t o_end, float *y, int64_t stride)
{
    struct lowrank_up_args args = c->args;
    args.b = &c->b.matrix;
    args.u += first * args.u_stride;
    args.n_tok = n;
    args.keep = args.keep ? args.keep + o_begin : NULL;
    args.o_begin = o_begin;
    args.o_end = o_end;
    args.y = y;
    args.y_stride = stride;
    args.format = way->format;
    struct fenced scratch = fenced_alloc(prefill_scratch_bytes(args.rank), 0);
    args.scratch = scratch.data;
    way->k->lowrank_up[way->role](way->k, &args);
    fenced_free(&scratch);
}

static void up_fill(const struct up_case *c, float *y, int64_t stride)
{
    for (int t = 0; t < c->args.n_tok; t++)
        memcpy(y + t * stride, c->before + t * c->n_out, (size_t)c->n_out * sizeof *y);
}

static void up_near_double(const struct way *way, const struct up_case *c, const float *y,
                           int64_t stride)
{
    const struct matrix *b = &c->b.matrix;
    const int64_t rank = c->args.rank;
    float *rows = test_malloc((size_t)(b->n_out * b->n_in) * sizeof *rows);
    for (int64_t i = 0; i < b->n_out; i++)
        scalar_kernels.dequantize[b->type](b, i, 0, b->n_in, rows + i * b->n_in);
    for (int t = 0; t < c->args.n_tok; t++)
        for (int64_t o = 0; o < c->n_out; o++) {
            double gain = c->args.gain ? (double)c->args.gain[o] : 1;
            double keep = c->args.keep ? (double)c->args.keep[o] : 1;
            double before = keep * (double)c->before[t * c->n_out + o];
            double sum = c->args.bias ? gain * 0.5 * (double)c->args.bias[o] : 0;
            double rounded = c->args.keep ? 2 : 1; /* the product of `before` is one more step */
            double magnitude = rounded * fabs(before) + fabs(sum) + TINY / SUM_TOLERANCE;
            const float *column = rows + o / LOWRANK_TILE * rank * LOWRANK_TILE + o % LOWRANK_TILE;
            for (int64_t r = 0; r < rank; r++) {
                double u = (double)c->args.u[t * c->args.u_stride + r];
                double factor = check_factor(way->format, (double)column[r * LOWRANK_TILE]);
                double product = gain * check_factor(way->format, u) * factor;
                sum += product;
                magnitude += fabs(product);
            }
            check_near(y[t * stride + o], before + sum, magnitude, tolerance(way),
                       graft_type_name(b->type), way->k->tier, o);
        }
    test_free(rows);
}

/* Tokens alone and in sevens, outputs in two calls that meet at an odd place. */
static void up_equals_its_parts(const struct way *way, const struct up_case *c, const float *whole,
                                int64_t stride)
{
    static const int sizes[] = {1, 7};
    int n_tok = c->args.n_tok;
    for (size_t i = 0; i < ARRAY_LEN(sizes); i++) {
        struct padded y = padded_alloc(n_tok * stride);
        int64_t at = check_below((int)c->n_out + 1);
        up_fill(c, y.data, stride);
        for (int t = 0; t < n_tok; t += sizes[i]) {
            int n = n_tok - t < sizes[i] ? n_tok - t : sizes[i];
            up_run(way, c, t, n, at, c->n_out, y.data + t * stride, stride);
            for (int j = t; j < t + n; j++)
                check_same(y.data + j * stride, c->before + j * c->n_out, at, "left alone",
                           way->k->tier);
            up_run(way, c, t, n, 0, at, y.data + t * stride, stride);
        }
        padded_check(&y);
        for (int t = 0; t < n_tok; t++) {
            check_same(y.data + t * stride, whole + t * stride, c->n_out, "up in parts",
                       way->k->tier);
            for (int64_t o = c->n_out; o < stride; o++)
                assert_true(padded_is_untouched(y.data + t * stride + o));
        }
        padded_free(&y);
    }
}

/* Outputs need no whole blocks. */
static void check_up(graft_type type, int64_t rank, int64_t wide, int n_tok)
{
    int64_t n_out = wide > 8 ? wide - 5 : wide;
    for (int variant = 0; variant < 4; variant++) {
        struct up_case c = up_make(type, rank, n_out, n_tok, (size_t)variant & 1,
                                   variant == 1 || variant == 2, variant & 1, variant & 2);
        int64_t stride = n_out + 3;
        FOR_EACH_WAY(way)
        {
            struct padded y = padded_alloc(n_tok * stride);
            up_fill(&c, y.data, stride);
            up_run(&way, &c, 0, n_tok, 0, n_out, y.data, stride);
            padded_check(&y);
            up_near_double(&way, &c, y.data, stride);
            up_equals_its_parts(&way, &c, y.data, stride);
            padded_free(&y);
        }
        up_free(&c);
    }
}

/* ---- tests -------------------------------------------------------------------------------- */

struct shape {
    int64_t rank, blocks; /* the wide side is blocks · step of the type */
    int n_tok;
};

static void for_each_shape(void (*check)(graft_type type, int64_t rank, int64_t wide, int n_tok))
{
    static const struct shape floats[] = {{1, 1, 1},    {2, 3, 3},    {5, 17, 2},    {4, 64, 4},
                                          {8, 65, 1},   {9, 31, 9},   {16, 100, 7},  {7, 257, 13},
                                          {67, 129, 8}, {3, 513, 1},  {12, 1100, 5}, {40, 96, 70},
                                          {70, 96, 40}, {3, 40, 515}, {1100, 64, 3}};
    static const struct shape blocks[] = {{1, 1, 1},  {2, 2, 3},  {5, 3, 7},
                                          {16, 5, 4}, {65, 4, 8}, {8, 35, 2}};
    for (size_t i = 0; i < ARRAY_LEN(floats); i++) {
        const struct shape *s = &floats[i];
#define FLOATS(TYPE, name) check(GRAFT_TYPE_##TYPE, s->rank, s->blocks, s->n_tok);
        KERNEL_FLOAT_TYPES(FLOATS)
    }
    for (size_t i = 0; i < ARRAY_LEN(blocks); i++) {
        const struct shape *s = &blocks[i];
#define BLOCKS(TYPE, name)                                                                         \
    if (kernels_have_factor(GRAFT_TYPE_##TYPE))                                                    \
        check(GRAFT_TYPE_##TYPE, s->rank, s->blocks * 32, s->n_tok);
        KERNEL_Q8_TYPES(BLOCKS)
    }
}

static void down_is_right_and_independent_of_company(void **state)
{
    (void)state;
    for_each_shape(check_down);
}

static void up_is_right_and_independent_of_company(void **state)
{
    (void)state;
    for_each_shape(check_up);
}

static void packing_turns_b_into_tiles(void **state)
{
    (void)state;
    enum { RANK = 3, N_OUT = 70 };
    float b[N_OUT * RANK], tiles[2 * RANK * LOWRANK_TILE];
    check_fill_uniform(b, N_OUT * RANK);
    assert_int_equal(lowrank_b_rows(RANK, N_OUT), 2 * RANK);
    assert_int_equal(lowrank_b_rows(RANK, LOWRANK_TILE), RANK);
    assert_true(lowrank_pack_b(GRAFT_TYPE_F32, b, N_OUT, RANK, tiles));
    for (int o = 0; o < 2 * LOWRANK_TILE; o++)
        for (int r = 0; r < RANK; r++) {
            int row = o / LOWRANK_TILE * RANK + r;
            float found = tiles[row * LOWRANK_TILE + o % LOWRANK_TILE];
            assert_true(found == (o < N_OUT ? b[o * RANK + r] : 0));
        }
    b[7] = INFINITY;
    assert_false(lowrank_pack_b(GRAFT_TYPE_Q8_0, b, N_OUT, RANK, tiles));
}

static void factors_are_floats_or_blocks_of_32(void **state)
{
    (void)state;
    assert_true(kernels_have_factor(GRAFT_TYPE_F32));
    assert_true(kernels_have_factor(GRAFT_TYPE_F16));
    assert_true(kernels_have_factor(GRAFT_TYPE_BF16));
    assert_true(kernels_have_factor(GRAFT_TYPE_Q8_0));
    assert_true(kernels_have_factor(GRAFT_TYPE_Q4_0));
    assert_false(kernels_have_factor(GRAFT_TYPE_Q4_K));
    assert_false(kernels_have_factor(GRAFT_TYPE_MLX4));
    assert_false(kernels_have_factor(GRAFT_TYPE_I32));
}

static void factors_of_dora_add_up(void **state)
{
    (void)state;
    for (int64_t n = 1; n < 70; n += 1 + n / 8) {
        struct fenced gain;
        const float *g = fenced_uniform(&gain, n, 1);
        FOR_EACH_TIER(k)
        {
            struct padded factor = padded_alloc(n), y = padded_alloc(n);
            for (int64_t i = 0; i < n; i++) {
                factor.data[i] = 1;
                y.data[i] = (float)i - 7;
            }
            k->gain_add(factor.data, g, 0.75f, n);
            k->gain_add(factor.data, g, -2.5f, n);
            k->mul(y.data, factor.data, n);
            padded_check(&factor);
            padded_check(&y);
            for (int64_t i = 0; i < n; i++) {
                double want = 1 - 1.75 * ((double)g[i] - 1);
                check_near(factor.data[i], want, 2, SUM_TOLERANCE, "gain_add", k->tier, i);
                assert_true(y.data[i] == ((float)i - 7) * factor.data[i]);
            }
            padded_free(&factor);
            padded_free(&y);
        }
        fenced_free(&gain);
    }
}

/* NaN and Inf stay with their token. */
static void bad_numbers_stay_with_their_token(void **state)
{
    (void)state;
    enum { N_IN = 70, RANK = 5, N_TOK = 9 };
    struct weights a = weights_make(GRAFT_TYPE_BF16, RANK, N_IN, 0, 0, GRAFT_TYPE_F32);
    FOR_EACH_WAY(way)
    {
        float x[N_TOK * N_IN], u[N_TOK * RANK];
        check_fill_uniform(x, N_TOK * N_IN);
        x[4 * N_IN + 69] = NAN;
        x[7 * N_IN + 3] = INFINITY;
        down_run(&way, &a.matrix, x, N_TOK, 0, RANK, u, RANK);
        for (int i = 0; i < N_TOK * RANK; i++)
            assert_int_equal(isfinite(u[i]) != 0, i / RANK != 4 && i / RANK != 7);
    }
    weights_free(&a);
}

static void bad_numbers_stay_with_their_token_in_up(void **state)
{
    (void)state;
    enum { RANK = 5, N_OUT = 70, N_TOK = 40, BAD = 35 };
    for (int scaled = 0; scaled < 2; scaled++) {
        struct up_case c = up_make(GRAFT_TYPE_BF16, RANK, N_OUT, N_TOK, 0, scaled, scaled, true);
        float *u = c.u.data, y[N_TOK * N_OUT];
        u[4 * c.args.u_stride] = NAN;
        u[BAD * c.args.u_stride + RANK - 1] = -INFINITY;
        FOR_EACH_WAY(way)
        {
            up_fill(&c, y, N_OUT);
            up_run(&way, &c, 0, N_TOK, 0, N_OUT, y, N_OUT);
            for (int i = 0; i < N_TOK * N_OUT; i++)
                assert_int_equal(isfinite(y[i]) != 0, i / N_OUT != 4 && i / N_OUT != BAD);
        }
        up_free(&c);
    }
}

const struct CMUnitTest check_lowrank_tests[] = {
    cmocka_unit_test(down_is_right_and_independent_of_company),
    cmocka_unit_test(up_is_right_and_independent_of_company),
    cmocka_unit_test(packing_turns_b_into_tiles),
    cmocka_unit_test(factors_are_floats_or_blocks_of_32),
    cmocka_unit_test(factors_of_dora_add_up),
    cmocka_unit_test(bad_numbers_stay_with_their_token),
    cmocka_unit_test(bad_numbers_stay_with_their_token_in_up),
    {0},
};
