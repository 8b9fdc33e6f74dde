/* check_training.c: what training adds to the kernels, but for attention: gradients against derivatives taken in
 * double by finite differences, sums and steps against double precision, bits where the contract promises them. */
#include "kernels/check.h"

#include <math.h>

/* A few roundings of floats, a division and an exponential. */
static const double OP_TOLERANCE = 2e-6;
/* Central differences in double, with steps of 1e-5 around values of size 1. */
static const double STEP = 1e-5, DIFFERENCE_TOLERANCE = 1e-9;
/* A sum in doubles. */
static const double SUM_TOLERANCE = 1e-12;

static const int64_t lengths[] = {1, 2, 3, 7, 8, 9, 16, 31, 33, 64, 100, 257, 1000};
enum { LONGEST = 1000 };

/* ---- outer products ----------------------------------------------------------------------- */

struct outer_case {
    int64_t rank, n_in, u_stride, x_stride, g_stride;
    int n_tok;
    struct fenced u, x;
    float *before; /* [rank, n_in] */
};

static struct outer_case outer_make(int64_t rank, int64_t n_in, int n_tok)
{
    struct outer_case c = {.rank = rank, .n_in = n_in, .n_tok = n_tok};
    c.u_stride = rank + 3;
    c.x_stride = n_in + 5;
    c.g_stride = n_in + 7;
    const int64_t u = (n_tok - 1) * c.u_stride + rank, x = (n_tok - 1) * c.x_stride + n_in;
    c.u = fenced_alloc((size_t)u * sizeof(float), 0);
    c.x = fenced_alloc((size_t)x * sizeof(float), 0);
    c.before = test_malloc((size_t)(rank * n_in) * sizeof(float));
    check_fill_uniform(c.u.data, u);
    check_fill_uniform(c.x.data, x);
    check_fill_uniform(c.before, rank * n_in);
    return c;
}

static void outer_free(struct outer_case *c)
{
    fenced_free(&c->u);
    fenced_free(&c->x);
    test_free(c->before);
}

static struct padded outer_start(const struct outer_case *c)
{
    struct padded g = padded_alloc((c->rank - 1) * c->g_stride + c->n_in);
    for (int64_t r = 0; r < c->rank; r++)
        memcpy(g.data + r * c->g_stride, c->before + r * c->n_in, (size_t)c->n_in * sizeof(float));
    return g;
}

/* Ranks r..r_end and columns i..i_end. */
static void outer_run(const struct kernels *k, const struct outer_case *c, enum panel_format format,
                      int64_t r, int64_t r_end, int64_t i, int64_t i_end, float *g)
{
    const struct outer_args a = {.u = (const float *)c->u.data + r,
                                 .x = c->x.data,
                                 .g = g + r * c->g_stride,
                                 .u_stride = c->u_stride,
                                 .x_stride = c->x_stride,
                                 .g_stride = c->g_stride,
                                 .rank = r_end - r,
                                 .i_begin = i,
                                 .i_end = i_end,
                                 .n_tok = c->n_tok,
                                 .format = format,
                                 .scratch = check_scratch(prefill_scratch_bytes(c->n_in))};
    k->outer(&a);
}

static void check_outer_values(const struct kernels *k, const struct outer_case *c,
                               enum panel_format format, const struct padded *g)
{
    const float *u = c->u.data, *x = c->x.data;
    padded_check(g);
    for (int64_t r = 0; r < c->rank; r++) {
        for (int64_t i = 0; i < c->n_in; i++) {
            double want = c->before[r * c->n_in + i], magnitude = fabs(want);
            for (int t = 0; t < c->n_tok; t++) {
                double a = check_factor(format, u[t * c->u_stride + r]);
                want += a * check_factor(format, x[t * c->x_stride + i]);
                magnitude += fabs(a);
            }
            check_near(g->data[r * c->g_stride + i], want, magnitude, check_panel_tolerance(format),
                       "outer", k->tier, i);
        }
        for (int64_t i = c->n_in; r + 1 < c->rank && i < c->g_stride; i++)
            assert_true(padded_is_untouched(g->data + r * c->g_stride + i));
    }
}

/* Cut anywhere by ranks, and at a multiple of 16 by columns. */
static void check_outer_splits(const struct kernels *k, const struct outer_case *c,
                               enum panel_format format, const struct padded *whole)
{
    struct padded g = outer_start(c);
    int64_t r = check_below((int)c->rank + 1), i = check_below((int)(c->n_in / 16) + 1) * 16;
    outer_run(k, c, format, 0, r, i, c->n_in, g.data);
    for (int64_t row = 0; row < c->rank; row++)
        for (int64_t j = 0; j < (row < r ? i : c->n_in); j++)
            assert_true(g.data[row * c->g_stride + j] == c->before[row * c->n_in + j]);
    outer_run(k, c, format, 0, r, 0, i, g.data);
    outer_run(k, c, format, r, c->rank, 0, c->n_in, g.data);
    padded_check(&g);
    for (int64_t row = 0; row < c->rank; row++)
        check_same(g.data + row * c->g_stride, whole->data + row * c->g_stride, c->n_in,
                   "outer in parts", k->tier);
    padded_free(&g);
}

static void outer_products_are_right_and_independent_of_splits(void **state)
{
    (void)state;
    static const struct {
        int64_t rank, n_in;
        int n_tok;
    } shapes[] = {{1, 1, 1},   {2, 3, 2},   {16, 100, 37}, {13, 257, 67}, {48, 300, 33},
                  {5, 48, 16}, {7, 600, 3}, {3, 20, 1100}, {100, 40, 9}};
    for (size_t s = 0; s < ARRAY_LEN(shapes); s++) {
        struct outer_case c = outer_make(shapes[s].rank, shapes[s].n_in, shapes[s].n_tok);
        FOR_EACH_PANEL_TIER(k)
        {
            const enum panel_format formats[] = {PANEL_F32, k->float_deltas, k->quantised_panels};
            for (size_t f = 0; f < ARRAY_LEN(formats); f++) {
                struct padded g = outer_start(&c);
                outer_run(k, &c, formats[f], 0, c.rank, 0, c.n_in, g.data);
                check_outer_values(k, &c, formats[f], &g);
                check_outer_splits(k, &c, formats[f], &g);
                padded_free(&g);
            }
        }
        outer_free(&c);
    }
}

/* More ranks, tokens and columns than anything holds at once. */
static void outer_products_go_through_every_chunk(void **state)
{
    (void)state;
    struct outer_case c = outer_make(530, 40, 3);
    FOR_EACH_PANEL_TIER(k)
    {
        struct padded g = outer_start(&c);
        outer_run(k, &c, k->quantised_panels, 0, c.rank, 0, c.n_in, g.data);
        check_outer_values(k, &c, k->quantised_panels, &g);
        padded_free(&g);
    }
    outer_free(&c);
}

/* ---- gradients of norms and activations --------------------------------------------------- */

/* A loss Σ dy · f(x), of which derivatives are taken. */
struct norm_loss {
    const float *x, *weight, *dy;
    int64_t n;
    double eps;
};

/* With step added to x[at], or to weight[at]. */
static double norm_loss(const struct norm_loss *l, int64_t at, double step, bool of_weight)
{
    double squares = 0, sum = 0;
    for (int64_t i = 0; i < l->n; i++) {
        double x = l->x[i] + (i == at && !of_weight ? step : 0);
        squares += x * x;
        sum += l->dy[i] * x * (l->weight[i] + (i == at && of_weight ? step : 0));
    }
    return sum / sqrt(squares / (double)l->n + l->eps);
}

static double norm_slope(const struct norm_loss *l, int64_t at, bool of_weight)
{
    return (norm_loss(l, at, STEP, of_weight) - norm_loss(l, at, -STEP, of_weight)) / (2 * STEP);
}

static void check_rmsnorm_backward(const struct kernels *k, int64_t n)
{
    const float eps = 1e-3f;
    struct fenced x = fenced_alloc((size_t)n * 4, 0), weight = fenced_alloc((size_t)n * 4, 0),
                  dy = fenced_alloc((size_t)n * 4, 0);
    struct padded dx = padded_alloc(n), dweight = padded_alloc(n), alone = padded_alloc(n);
    const struct norm_loss loss = {x.data, weight.data, dy.data, n, (double)eps};
    check_fill_uniform(x.data, n);
    check_fill_uniform(weight.data, n);
    check_fill_uniform(dy.data, n);
    ((float *)x.data)[0] = 0.5f; /* so that the mean of squares is not tiny beside the steps */
    for (int64_t i = 0; i < n; i++) {
        dx.data[i] = alone.data[i] = (float)i / LONGEST;
        dweight.data[i] = -1;
    }
    k->rmsnorm_backward(x.data, weight.data, dy.data, n, eps, dx.data, dweight.data);
    k->rmsnorm_backward(x.data, weight.data, dy.data, n, eps, alone.data, NULL);
    padded_check(&dx);
    padded_check(&dweight);
    check_same(alone.data, dx.data, n, "rmsnorm_backward", k->tier);
    for (int64_t i = 0; i < n; i++) {
        const double tolerance = OP_TOLERANCE + DIFFERENCE_TOLERANCE;
        double want = norm_slope(&loss, i, false), before = (double)i / LONGEST;
        check_near(dx.data[i], before + want, 4, tolerance, "rmsnorm dx", k->tier, i);
        want = norm_slope(&loss, i, true);
        check_near(dweight.data[i], want - 1, 4, tolerance, "rmsnorm dweight", k->tier, i);
    }
    padded_free(&dx);
    padded_free(&dweight);
    padded_free(&alone);
    fenced_free(&x);
    fenced_free(&weight);
    fenced_free(&dy);
}

static void rmsnorm_backward_is_the_derivative(void **state)
{
    (void)state;
    FOR_EACH_TIER(k)
    for (size_t i = 0; i < ARRAY_LEN(lengths); i++)
        check_rmsnorm_backward(k, lengths[i]);
}

static double silu(double x)
{
    return x / (1 + exp(-x));
}

static void check_silu_mul_backward(const struct kernels *k, int64_t n)
{
    struct fenced gate = fenced_alloc((size_t)n * 4, 0), up = fenced_alloc((size_t)n * 4, 0),
                  dout = fenced_alloc((size_t)n * 4, 0);
    struct padded dgate = padded_alloc(n), dup = padded_alloc(n);
    float *g = gate.data, *u = up.data, *d = dout.data;
    check_fill_uniform(g, n);
    check_fill_uniform(u, n);
    check_fill_uniform(d, n);
    for (int64_t i = 0; i < n; i++)
        g[i] *= i % 3 == 0 ? 100.0f : 5.0f; /* both ends of the exponential */
    k->silu_mul_backward(g, u, d, n, dgate.data, dup.data);
    padded_check(&dgate);
    padded_check(&dup);
    for (int64_t i = 0; i < n; i++) {
        double slope = (silu(g[i] + STEP) - silu(g[i] - STEP)) / (2 * STEP);
        check_near(dgate.data[i], d[i] * u[i] * slope, 1, OP_TOLERANCE, "dgate", k->tier, i);
        check_near(dup.data[i], d[i] * silu(g[i]), fabs((double)g[i]), OP_TOLERANCE, "dup", k->tier,
                   i);
    }
    k->silu_mul_backward(g, u, d, n, g, u); /* in place */
    check_same(g, dgate.data, n, "dgate in place", k->tier);
    check_same(u, dup.data, n, "dup in place", k->tier);
    padded_free(&dgate);
    padded_free(&dup);
    fenced_free(&gate);
    fenced_free(&up);
    fenced_free(&dout);
}

static void silu_mul_backward_is_the_derivative(void **state)
{
    (void)state;
    FOR_EACH_TIER(k)
    {
        float gate[4] = {NAN, -200, 200, 1}, up[4] = {1, 1, 1, 1}, dout[4] = {1, 1, 1, NAN};
        for (size_t i = 0; i < ARRAY_LEN(lengths); i++)
            check_silu_mul_backward(k, lengths[i]);
        k->silu_mul_backward(gate, up, dout, 4, gate, dout);
        assert_true(isnan(gate[0]) && gate[1] == 0 && gate[2] == 1 && isnan(gate[3]));
        assert_true(isnan(dout[0]) && dout[1] == 0 && dout[2] == 200 && isnan(dout[3]));
    }
}

/* ---- vectors ------------------------------------------------------------------------------ */

static void scale_multiplies_and_sums_of_squares_are_right(void **state)
{
    (void)state;
    FOR_EACH_TIER(k)
    for (size_t l = 0; l < ARRAY_LEN(lengths); l++) {
        const int64_t n = lengths[l];
        struct padded x = padded_alloc(n);
        float before[LONGEST];
        double want = 0;
        check_fill_uniform(before, n);
        memcpy(x.data, before, (size_t)n * sizeof *before);
        for (int64_t i = 0; i < n; i++)
            want += (double)before[i] * before[i];
        check_near(k->sum_squares(x.data, n), want, want, SUM_TOLERANCE, "sum_squares", k->tier, n);
        k->scale(x.data, 0.7f, n);
        padded_check(&x);
        for (int64_t i = 0; i < n; i++)
            assert_true(x.data[i] == before[i] * 0.7f);
        padded_free(&x);
    }
}

static void check_bf16(const struct kernels *k, int64_t n)
{
    struct fenced x = fenced_alloc((size_t)n * 4, 0), want = fenced_alloc((size_t)n * 2, 0);
    struct padded halves = padded_alloc(blocks_of(n, 2)), back = padded_alloc(n);
    uint16_t *got = (uint16_t *)(void *)halves.data, *wanted = want.data, last = 0;
    float *values = x.data;
    for (int64_t i = 0; i < n; i++) { /* any bits: ties, denormals, infinities, NaN */
        uint32_t bits = check_random();
        bits = i % 3 == 0 ? (bits & 0xFFFF0000u) | 0x8000 : i % 3 == 1 ? bits & 0x807FFFFFu : bits;
        memcpy(values + i, &bits, sizeof bits);
        wanted[i] = f32_to_bf16(values[i]);
    }
    memcpy(&last, got + n, n % 2 ? sizeof last : 0);
    k->bf16_store(values, n, got);
    padded_check(&halves);
    assert_true(n % 2 == 0 || got[n] == last);
    assert_memory_equal(got, wanted, (size_t)n * sizeof *got);
    k->bf16_load(wanted, n, back.data);
    padded_check(&back);
    for (int64_t i = 0; i < n; i++)
        assert_int_equal(load_u32(back.data + i), (uint32_t)wanted[i] << 16);
    padded_free(&halves);
    padded_free(&back);
    fenced_free(&x);
    fenced_free(&want);
}

static void saved_halves_have_the_bits_of_base(void **state)
{
    (void)state;
    FOR_EACH_TIER(k)
    {
        const float odd[4] = {NAN, INFINITY, -INFINITY, 3.4e38f};
        uint16_t halves[4];
        for (size_t i = 0; i < ARRAY_LEN(lengths); i++)
            check_bf16(k, lengths[i]);
        k->bf16_store(odd, 4, halves);
        assert_true(isnan(bf16_to_f32(halves[0])));
        assert_true(halves[1] == 0x7F80 && halves[2] == 0xFF80 && halves[3] == 0x7F80);
    }
}

/* ---- AdamW -------------------------------------------------------------------------------- */

enum { P, M, V, ADAM_PARTS };

/* Two steps of what adamw_args says, in double. */
static void adamw_in_double(struct adamw_args *a, int64_t i, double *p, double *m, double *v)
{
    double g = (double)a->g[i] * a->scale;
    *p -= *p * a->decay;
    *m = a->beta1 * *m + (1 - a->beta1) * g;
    *v = a->beta2 * *v + (1 - a->beta2) * g * g;
    *p -= a->lr * (*m * a->correct1) / (sqrt(*v * a->correct2) + a->eps);
}

static void check_adamw(const struct kernels *k, int64_t n)
{
    struct padded parts[ADAM_PARTS], split[ADAM_PARTS];
    struct fenced g = fenced_alloc((size_t)n * 4, 0);
    struct adamw_args a = {.g = g.data,
                           .n = n,
                           .beta1 = 0.9,
                           .beta2 = 0.999,
                           .lr = 1e-2f,
                           .eps = 1e-8f,
                           .decay = 1e-3f,
                           .correct1 = (float)(1 / (1 - 0.9)),
                           .correct2 = (float)(1 / (1 - 0.999)),
                           .scale = 0.5f};
    float before[ADAM_PARTS][LONGEST];
    check_fill_uniform(g.data, n);
    for (int part = 0; part < ADAM_PARTS; part++) {
        parts[part] = padded_alloc(n);
        split[part] = padded_alloc(n);
        check_fill_uniform(before[part], n);
        for (int64_t i = 0; i < n; i++)
            before[part][i] = part == V ? fabsf(before[part][i]) : before[part][i];
        memcpy(parts[part].data, before[part], (size_t)n * 4);
        memcpy(split[part].data, before[part], (size_t)n * 4);
    }
    a.p = parts[P].data, a.m = parts[M].data, a.v = parts[V].data;
    k->adamw(&a);
    for (int64_t i = 0; i < n; i++) {
        double p = before[P][i], m = before[M][i], v = before[V][i];
        adamw_in_double(&a, i, &p, &m, &v);
        check_near(a.p[i], p, fabs((double)before[P][i]) + fabs(p - before[P][i]), OP_TOLERANCE,
                   "adamw p", k->tier, i);
        check_near(a.m[i], m, 1, OP_TOLERANCE, "adamw m", k->tier, i);
        check_near(a.v[i], v, 1, OP_TOLERANCE, "adamw v", k->tier, i);
    }
    for (int64_t begin = 0, end; begin < n; begin = end) {
        end = begin + 1 + check_below(40) < n ? begin + 1 + check_below(40) : n;
        end = end < n ? end : n;
        struct adamw_args some = a;
        some.p = split[P].data + begin;
        some.m = split[M].data + begin;
        some.v = split[V].data + begin;
        some.g += begin;
        some.n = end - begin;
        k->adamw(&some);
    }
    for (int part = 0; part < ADAM_PARTS; part++) {
        padded_check(&parts[part]);
        padded_check(&split[part]);
        check_same(split[part].data, parts[part].data, n, "adamw in parts", k->tier);
        padded_free(&parts[part]);
        padded_free(&split[part]);
    }
    fenced_free(&g);
}

static void adamw_takes_the_documented_step_however_it_is_split(void **state)
{
    (void)state;
    FOR_EACH_TIER(k)
    for (size_t i = 0; i < ARRAY_LEN(lengths); i++)
        check_adamw(k, lengths[i]);
}

const struct CMUnitTest check_training_tests[] = {
    cmocka_unit_test(outer_products_are_right_and_independent_of_splits),
    cmocka_unit_test(outer_products_go_through_every_chunk),
    cmocka_unit_test(rmsnorm_backward_is_the_derivative),
    cmocka_unit_test(silu_mul_backward_is_the_derivative),
    cmocka_unit_test(scale_multiplies_and_sums_of_squares_are_right),
    cmocka_unit_test(saved_halves_have_the_bits_of_base),
    cmocka_unit_test(adamw_takes_the_documented_step_however_it_is_split),
    {0},
};
