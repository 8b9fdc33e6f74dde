/* check_ops.c: exponential, activation formats, norms, rotary embedding, silu, add, softmax. */
#include "kernels/check.h"
#include "kernels/expf.h"

#include <math.h>

/* The bound that expf.h documents. */
static const double EXP_MAX_ULP = 2.0;
/* A few roundings of floats: products, one division, one exponential. */
static const double OP_TOLERANCE = 1e-6;
/* The logarithm of a sum of exponentials, each 2 ulp of float off. */
static const double LOG_SUM_TOLERANCE = 1e-6;

static const int64_t lengths[] = {1, 2, 3, 7, 8, 9, 16, 31, 33, 64, 100, 257, 1000, 4099};
enum { LONGEST = 4099 };

/* ---- exponential -------------------------------------------------------------------------- */

/* exp through the table: a softmax of {0, x} holds e^x / (1 + e^x). */
static void exponential_is_within_its_bound(void **state)
{
    (void)state;
    for (uint32_t bits = 0; bits < 0x42b20000; bits += 65537)
        for (uint32_t sign = 0; sign < 2; sign++) {
            uint32_t pattern = bits | sign << 31;
            float x = load_f32(&pattern);
            if (x < EXP_UNDERFLOW || x > EXP_OVERFLOW)
                continue;
            int exponent;
            double want = exp((double)x);
            frexp(want, &exponent);
            check_near(kernel_expf(x), want, ldexp(1, exponent - 24), EXP_MAX_ULP, "exp", "scalar",
                       (int64_t)pattern);
        }
    assert_true(kernel_expf(-INFINITY) == 0 && kernel_expf(-88) == 0);
    assert_true(isinf(kernel_expf(INFINITY)) && isinf(kernel_expf(89)));
    assert_true(isnan(kernel_expf(NAN)));
}

static void logarithm_is_right(void **state)
{
    (void)state;
    for (double x = 1e-300; x < 1e300; x *= 1.37)
        check_near(kernel_log(x), log(x), fabs(log(x)), 1e-15, "log", "scalar", 0);
    assert_true(kernel_log(1) == 0);
}

/* ---- activations -------------------------------------------------------------------------- */

static void check_act(const struct kernels *k, enum act_format format, int64_t n)
{
    size_t bytes = act_row_bytes(format, n);
    assert_int_equal(bytes % 4, 0);
    struct fenced x = fenced_alloc((size_t)n * sizeof(float), 0);
    struct padded want = padded_alloc((int64_t)bytes / 4), got = padded_alloc((int64_t)bytes / 4);
    check_fill_uniform(x.data, n);
    for (int64_t i = 0; i < n; i += 5) /* ties, as often as not */
        ((float *)x.data)[i] = (float)(check_below(255) - 127) / 2;
    scalar_kernels.act_quantize[format](x.data, n, want.data);
    k->act_quantize[format](x.data, n, got.data);
    padded_check(&got);
    assert_memory_equal(got.data, want.data, bytes);
    padded_free(&want);
    padded_free(&got);
    fenced_free(&x);
}

static void activations_quantize_to_the_same_bits_on_every_tier(void **state)
{
    (void)state;
    FOR_EACH_TIER(k)
    for (size_t i = 0; i < ARRAY_LEN(lengths); i++)
        for (int format = 0; format < ACT_COUNT; format++)
            check_act(k, format, lengths[i]);
}

static void activation_codes_round_half_away_and_sums_agree(void **state)
{
    (void)state;
    FOR_EACH_TIER(k)
    {
        float x[40] = {127, -127, 0.5f, -0.5f, 1.5f, 2.5f, 0.49999997f, -2.4999998f};
        struct act_q8 out[2];
        k->act_quantize[ACT_Q8](x, 40, out);
        static const int8_t want[] = {127, -127, 1, -1, 2, 3, 0, -2};
        assert_true(out[0].scale == 1 && out[0].sum == 3);
        assert_memory_equal(out[0].q, want, sizeof want);
        for (int j = 8; j < 32; j++)
            assert_int_equal(out[0].q[j], 0);
        assert_true(out[1].scale == 0 && out[1].sum == 0);

        float y[256];
        struct act_q8k large;
        check_fill_uniform(y, 256);
        k->act_quantize[ACT_Q8K](y, 256, &large);
        for (int s = 0; s < 16; s++) {
            int sum = 0;
            for (int j = 0; j < 16; j++)
                sum += large.q[16 * s + j];
            assert_int_equal(large.sums[s], sum);
        }
        for (int j = 0; j < 256; j++)
            check_near(large.scale * (float)large.q[j], y[j], large.scale, 0.5001, "act_q8k",
                       k->tier, j);
    }
}

static void activations_that_are_not_finite_poison_their_block(void **state)
{
    (void)state;
    static const float bad[] = {NAN, INFINITY, -INFINITY};
    FOR_EACH_TIER(k)
    for (size_t i = 0; i < ARRAY_LEN(bad); i++) {
        float x[64] = {1, 2, bad[i], 3};
        x[40] = 1e-40f; /* a denormal block counts as zero, whatever the processor's mode */
        struct act_q8 out[2];
        k->act_quantize[ACT_Q8](x, 64, out);
        assert_true(isnan(out[0].scale) && out[0].q[0] == 0 && isnan(out[0].sum));
        assert_true(out[1].scale == 0 && out[1].q[8] == 0);
    }
}

/* ---- element-wise ------------------------------------------------------------------------- */

static void check_rmsnorm(const struct kernels *k, int64_t n)
{
    const float eps = 1e-5f;
    struct fenced x = fenced_alloc((size_t)n * 4, 0), weight = fenced_alloc((size_t)n * 4, 0);
    struct padded out = padded_alloc(n);
    float *xs = x.data, *ws = weight.data;
    double sum = 0;
    check_fill_uniform(xs, n);
    check_fill_uniform(ws, n);
    for (int64_t i = 0; i < n; i++)
        sum += (double)xs[i] * xs[i];
    k->rmsnorm(xs, ws, n, eps, out.data);
    padded_check(&out);
    for (int64_t i = 0; i < n; i++) {
        double want = xs[i] / sqrt(sum / (double)n + (double)eps) * ws[i];
        check_near(out.data[i], want, fabs(want), OP_TOLERANCE, "rmsnorm", k->tier, i);
    }
    k->rmsnorm(xs, ws, n, eps, xs); /* in place */
    assert_memory_equal(xs, out.data, (size_t)n * sizeof *xs);
    padded_free(&out);
    fenced_free(&x);
    fenced_free(&weight);
}

static void rmsnorm_is_right(void **state)
{
    (void)state;
    FOR_EACH_TIER(k)
    {
        float zeros[5] = {0}, ones[5] = {1, 1, 1, 1, 1}, out[5], bad[5] = {1, NAN, 1, 1, INFINITY};
        for (size_t i = 0; i < ARRAY_LEN(lengths); i++)
            check_rmsnorm(k, lengths[i]);
        k->rmsnorm(zeros, ones, 5, 1e-6f, out);
        assert_memory_equal(out, zeros, sizeof out);
        k->rmsnorm(bad, ones, 5, 1e-6f, out);
        assert_true(isnan(out[0]));
    }
}

static void check_rope(const struct kernels *k, int d_head, bool interleaved)
{
    struct padded x = padded_alloc(d_head);
    struct fenced cosine = fenced_alloc((size_t)d_head * 2, 0);
    struct fenced sine = fenced_alloc((size_t)d_head * 2, 0);
    float *c = cosine.data, *s = sine.data, before[512];
    check_fill_uniform(x.data, d_head);
    memcpy(before, x.data, (size_t)d_head * sizeof *before);
    for (int i = 0; i < d_head / 2; i++) {
        c[i] = (float)cos(0.7 * i);
        s[i] = (float)sin(0.7 * i);
    }
    (interleaved ? k->rope_interleaved : k->rope)(x.data, c, s, d_head);
    padded_check(&x);
    for (int i = 0; i < d_head / 2; i++) {
        int a = interleaved ? 2 * i : i, b = interleaved ? 2 * i + 1 : i + d_head / 2;
        check_near(x.data[a], (double)before[a] * c[i] - (double)before[b] * s[i], 1, OP_TOLERANCE,
                   "rope", k->tier, a);
        check_near(x.data[b], (double)before[b] * c[i] + (double)before[a] * s[i], 1, OP_TOLERANCE,
                   "rope", k->tier, b);
    }
    padded_free(&x);
    fenced_free(&cosine);
    fenced_free(&sine);
}

static void rope_rotates_each_plane(void **state)
{
    (void)state;
    static const int heads[] = {2, 4, 6, 16, 18, 34, 64, 80, 96, 128, 256};
    FOR_EACH_TIER(k)
    for (size_t i = 0; i < ARRAY_LEN(heads); i++) {
        check_rope(k, heads[i], false);
        check_rope(k, heads[i], true);
    }
}

static void check_silu_and_add(const struct kernels *k, int64_t n)
{
    struct fenced gate = fenced_alloc((size_t)n * 4, 0), up = fenced_alloc((size_t)n * 4, 0);
    struct padded out = padded_alloc(n);
    float *g = gate.data, *u = up.data;
    check_fill_uniform(g, n);
    check_fill_uniform(u, n);
    for (int64_t i = 0; i < n; i++)
        g[i] *= i % 3 == 0 ? 100.0f : 5.0f; /* both ends of the exponential */
    k->silu_mul(g, u, n, out.data);
    padded_check(&out);
    for (int64_t i = 0; i < n; i++) {
        double want = g[i] / (1 + exp(-(double)g[i])) * u[i];
        check_near(out.data[i], want, fabs(want) + 1e-30, OP_TOLERANCE, "silu_mul", k->tier, i);
    }
    float *sum = test_malloc((size_t)n * sizeof *sum);
    for (int64_t i = 0; i < n; i++)
        sum[i] = out.data[i] + u[i];
    k->add(out.data, u, n);
    padded_check(&out);
    assert_memory_equal(out.data, sum, (size_t)n * sizeof *sum);
    test_free(sum);
    padded_free(&out);
    fenced_free(&gate);
    fenced_free(&up);
}

static void silu_mul_and_add_are_right(void **state)
{
    (void)state;
    FOR_EACH_TIER(k)
    {
        float gate[3] = {NAN, -INFINITY, INFINITY}, up[3] = {1, 1, 1}, out[3];
        for (size_t i = 0; i < ARRAY_LEN(lengths); i++)
            check_silu_and_add(k, lengths[i]);
        k->silu_mul(gate, up, 3, out);
        assert_true(isnan(out[0]) && isinf(out[2]));
    }
}

/* ---- softmax ------------------------------------------------------------------------------ */

static void check_softmax(const struct kernels *k, int64_t n)
{
    struct padded x = padded_alloc(n);
    float *before = test_malloc((size_t)n * sizeof *before);
    double sum = 0, largest = -INFINITY;
    check_fill_uniform(x.data, n);
    for (int64_t i = 0; i < n; i++) {
        x.data[i] = i % 11 == 5 ? -INFINITY : x.data[i] * 30 + 100; /* some are masked out */
        before[i] = x.data[i];
        largest = fmax(largest, (double)before[i]);
    }
    for (int64_t i = 0; i < n; i++)
        sum += exp((double)before[i] - largest);
    double log_sum = k->softmax(x.data, n);
    padded_check(&x);
    check_near(log_sum, largest + log(sum), 1, LOG_SUM_TOLERANCE, "softmax sum", k->tier, n);
    for (int64_t i = 0; i < n; i++) {
        double want = exp((double)before[i] - largest) / sum;
        check_near(x.data[i], want, want + 1e-30, OP_TOLERANCE, "softmax", k->tier, i);
    }
    padded_free(&x);
    test_free(before);
}

static void softmax_is_right_and_reports_nan(void **state)
{
    (void)state;
    FOR_EACH_TIER(k)
    {
        for (size_t i = 0; i < ARRAY_LEN(lengths); i++) {
            check_softmax(k, lengths[i]);
            static float x[LONGEST];
            check_fill_uniform(x, lengths[i]);
            x[check_below((int)lengths[i])] = NAN;
            assert_true(isnan(k->softmax(x, lengths[i])));
        }
        float masked[3] = {-INFINITY, -INFINITY, -INFINITY};
        assert_true(isnan(k->softmax(masked, 3)));
    }
}

const struct CMUnitTest check_ops_tests[] = {
    cmocka_unit_test(exponential_is_within_its_bound),
    cmocka_unit_test(logarithm_is_right),
    cmocka_unit_test(activations_quantize_to_the_same_bits_on_every_tier),
    cmocka_unit_test(activation_codes_round_half_away_and_sums_agree),
    cmocka_unit_test(activations_that_are_not_finite_poison_their_block),
    cmocka_unit_test(rmsnorm_is_right),
    cmocka_unit_test(rope_rotates_each_plane),
    cmocka_unit_test(silu_mul_and_add_are_right),
    cmocka_unit_test(softmax_is_right_and_reports_nan),
    {0},
};
