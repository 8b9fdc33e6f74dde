/* test_algebra.c: decompositions of small matrices against their definitions, and leading directions against the best
 * approximation there is.
 */
#include "adapter/algebra.h"
#include "adapter/leading.h"
#include "unit/must.h"
#include "unit/test_support.h"

#include <math.h>

static graft_runtime *runtime;

static double number(struct rng *rng)
{
    return 2 * rng_uniform(rng) - 1;
}

static float *numbers(struct rng *rng, int64_t n)
{
    float *x = malloc((size_t)n * sizeof *x);
    for (int64_t i = 0; i < n; i++)
        x[i] = (float)number(rng);
    return x;
}

static void gram_of(const float *x, int64_t k, int64_t n, double *g)
{
    for (int64_t r = 0; r < k; r++)
        for (int64_t s = 0; s < k; s++) {
            double sum = 0;
            for (int64_t i = 0; i < n; i++)
                sum += (double)x[r * n + i] * (double)x[s * n + i];
            g[r * k + s] = sum;
        }
}

static void grams_and_mixtures_are_products(void **state)
{
    (void)state;
    struct rng rng;
    rng_init(&rng, 3, 0);
    static const int64_t shapes[][3] = {{1, 1, 1}, {3, 2, 7}, {9, 5, 513}, {17, 24, 1300}};
    for (size_t i = 0; i < ARRAY_LEN(shapes); i++) {
        const int64_t kx = shapes[i][0], ky = shapes[i][1], n = shapes[i][2];
        float *x = numbers(&rng, kx * n), *y = numbers(&rng, ky * n);
        float *mixed = malloc((size_t)(ky * n) * sizeof *mixed);
        double *g = malloc((size_t)(kx * kx + kx * ky) * sizeof *g), *t = g + kx * kx;
        const struct tall tx = {x, kx, n}, ty = {y, ky, n};
        tall_gram(runtime->pool, &tx, &tx, g);
        for (int64_t r = 0; r < kx; r++)
            for (int64_t s = 0; s < kx; s++) {
                double want = 0;
                for (int64_t c = 0; c < n; c++)
                    want += (double)x[r * n + c] * (double)x[s * n + c];
                assert_true(fabs(g[r * kx + s] - want) <= 1e-12 * (double)n);
            }
        tall_gram(runtime->pool, &ty, &tx, t);
        for (int64_t r = 0; r < ky; r++)
            for (int64_t s = 0; s < kx; s++) {
                double want = 0;
                for (int64_t c = 0; c < n; c++)
                    want += (double)y[r * n + c] * (double)x[s * n + c];
                assert_true(fabs(t[r * kx + s] - want) <= 1e-12 * (double)n);
            }
        tall_mix(runtime->pool, t, ky, &tx, mixed);
        for (int64_t r = 0; r < ky; r++)
            for (int64_t c = 0; c < n; c++) {
                double want = 0;
                for (int64_t s = 0; s < kx; s++)
                    want += t[r * kx + s] * (double)x[s * n + c];
                assert_true(fabs((double)mixed[r * n + c] - want) <= 1e-6 * (1 + fabs(want)));
            }
        free(x);
        free(y);
        free(mixed);
        free(g);
    }
}

/* Of m independent rows, n in all. */
static void cholesky_finds_the_rank_and_the_matrix(void **state)
{
    (void)state;
    struct rng rng;
    rng_init(&rng, 4, 0);
    for (int64_t n = 1; n <= 24; n++)
        for (int64_t m = 0; m <= n; m += n / 4 + 1) {
            float *x = numbers(&rng, n * 40);
            double g[24 * 24], copy[24 * 24], l[24 * 24], t[24 * 24];
            int64_t order[24];
            for (int64_t r = m; r < n; r++)
                for (int64_t i = 0; i < 40; i++)
                    x[r * 40 + i] = m ? 0.5f * x[r % m * 40 + i] : 0;
            gram_of(x, n, 40, g);
            memcpy(copy, g, sizeof g);
            assert_int_equal(cholesky_pivoted(g, n, order, l), m);
            for (int64_t r = 0; r < n; r++)
                for (int64_t s = 0; s < n; s++) {
                    double sum = 0;
                    for (int64_t i = 0; i < m; i++)
                        sum += l[r * n + i] * l[s * n + i];
                    assert_true(fabs(sum - copy[order[r] * n + order[s]]) < 1e-12 * 40);
                }
            invert_lower(l, n, m, t);
            for (int64_t r = 0; r < m; r++)
                for (int64_t s = 0; s < m; s++) {
                    double sum = 0;
                    for (int64_t i = 0; i < m; i++)
                        sum += t[r * m + i] * (i >= s ? l[i * n + s] : 0);
                    assert_true(fabs(sum - (r == s)) < 1e-10);
                }
            free(x);
        }
}

static void eigenvectors_are_those(void **state)
{
    (void)state;
    struct rng rng;
    rng_init(&rng, 5, 0);
    for (int64_t n = 1; n <= 70; n += n < 6 ? 1 : 16)
        for (int kind = 0; kind < 4; kind++) {
            double *a = calloc((size_t)(3 * n * n + 4 * n), sizeof *a), *copy = a + n * n;
            double *vectors = copy + n * n, *values = vectors + n * n, size = 0;
            for (int64_t i = 0; i < n && kind != 3; i++) /* 3: zeros */
                for (int64_t j = 0; j <= i; j++) {
                    double x = kind == 1 ? (i == j ? (double)(i % 3) : 0) : number(&rng);
                    x *= kind == 2 ? pow(10, -(double)(i + j) / 8) : 1; /* graded */
                    a[i * n + j] = a[j * n + i] = x;
                }
            memcpy(copy, a, (size_t)(n * n) * sizeof *a);
            for (int64_t i = 0; i < n * n; i++)
                size += copy[i] * copy[i];
            eigen_symmetric(a, n, values, vectors, values + n);
            for (int64_t r = 0; r < n; r++) {
                assert_true(r == 0 || values[r] <= values[r - 1]);
                for (int64_t s = 0; s < n; s++) {
                    double along = 0, there = 0;
                    for (int64_t i = 0; i < n; i++) {
                        along += vectors[r * n + i] * vectors[s * n + i];
                        there += copy[s * n + i] * vectors[r * n + i];
                    }
                    assert_true(fabs(along - (r == s)) < 1e-12);
                    assert_true(fabs(there - values[r] * vectors[r * n + s]) <=
                                1e-13 * sqrt(size) * (double)n);
                }
            }
            free(a);
        }
}

struct given {
    const float *l;
    int64_t n_in;
};

static graft_status give_rows(void *user, int64_t first, int64_t n, float *out, graft_error *error)
{
    const struct given *g = user;
    (void)error;
    memcpy(out, g->l + first * g->n_in, (size_t)(n * g->n_in) * sizeof *out);
    return GRAFT_OK;
}

/* Singular values that fall by a quarter, the last `zeros` of them 0. */
static float *falling(struct rng *rng, int64_t n_out, int64_t n_in, int64_t zeros)
{
    float *l = calloc((size_t)(n_out * n_in), sizeof *l);
    int64_t least = n_out < n_in ? n_out : n_in, rank = least - zeros;
    for (int64_t r = 0; r < rank; r++) {
        float *u = numbers(rng, n_out), *v = numbers(rng, n_in);
        for (int64_t o = 0; o < n_out; o++)
            for (int64_t i = 0; i < n_in; i++)
                l[o * n_in + i] += (float)pow(0.75, (double)r) * u[o] * v[i];
        free(u);
        free(v);
    }
    return l;
}

/* Σ of the squares of all singular values but the first `rank`. */
static double best_error(const float *l, int64_t n_out, int64_t n_in, int64_t rank)
{
    double *g = calloc((size_t)(2 * n_out * n_out + 4 * n_out), sizeof *g), sum = 0;
    double *vectors = g + n_out * n_out, *values = vectors + n_out * n_out;
    gram_of(l, n_out, n_in, g);
    eigen_symmetric(g, n_out, values, vectors, values + n_out);
    for (int64_t i = rank; i < n_out; i++)
        sum += fmax(values[i], 0);
    free(g);
    return sum;
}

static void leading_directions_are_the_best_there_are(void **state)
{
    (void)state;
    static const int64_t shapes[][4] = {{1, 1, 1, 0},    {5, 9, 3, 0},    {40, 30, 4, 0},
                                        {30, 200, 8, 5}, {64, 64, 16, 0}, {20, 14, 14, 0},
                                        {48, 90, 20, 40}};
    struct rng rng;
    rng_init(&rng, 6, 0);
    for (size_t i = 0; i < ARRAY_LEN(shapes); i++) {
        const int64_t n_out = shapes[i][0], n_in = shapes[i][1], rank = shapes[i][2];
        float *l = falling(&rng, n_out, n_in, shapes[i][3]);
        float *a = calloc((size_t)(rank * n_in), 4), *b = calloc((size_t)(rank * n_out), 4);
        float *a2 = calloc((size_t)(rank * n_in), 4), *b2 = calloc((size_t)(rank * n_out), 4);
        double all = 0, kept = 0, kept2 = 0, off = 0, square = 0;
        struct given given = {l, n_in};
        const struct leading_source at_hand = {.n_out = n_out, .n_in = n_in, .at_hand = l};
        const struct leading_source rows = {n_out, n_in, NULL, give_rows, &given};
        MUST(leading_directions(runtime, &at_hand, rank, a, b, &all, &kept, error));
        MUST(leading_directions(runtime, &rows, rank, a2, b2, NULL, &kept2, error));
        assert_memory_equal(a, a2, (size_t)(rank * n_in) * 4);
        assert_memory_equal(b, b2, (size_t)(rank * n_out) * 4);
        for (int64_t o = 0; o < n_out; o++)
            for (int64_t c = 0; c < n_in; c++) {
                double x = (double)l[o * n_in + c];
                square += x * x;
                for (int64_t r = 0; r < rank; r++)
                    x -= (double)b[o * rank + r] * (double)a[r * n_in + c];
                off += x * x;
            }
        double best = best_error(l, n_out, n_in, rank);
        assert_true(fabs(all - square) <= 1e-6 * square);
        assert_true(sqrt(off) <= (1 + 1e-5) * sqrt(best) + 1e-6 * sqrt(square));
        assert_true(fabs(all - kept - best) <= 2e-6 * square);
        free(l);
        free(a);
        free(b);
        free(a2);
        free(b2);
    }
}

static int open_runtime(void **state)
{
    (void)state;
    graft_runtime_options options = graft_runtime_options_default();
    options.threads = 2;
    MUST(graft_runtime_open(&options, &runtime, error));
    return 0;
}

static int close_runtime(void **state)
{
    (void)state;
    graft_runtime_close(&runtime);
    return 0;
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(grams_and_mixtures_are_products),
        cmocka_unit_test(cholesky_finds_the_rank_and_the_matrix),
        cmocka_unit_test(eigenvectors_are_those),
        cmocka_unit_test(leading_directions_are_the_best_there_are),
    };
    return cmocka_run_group_tests(tests, open_runtime, close_runtime);
}
