/* test_router_fit.c: the regression behind routers: its gradient, its optimum, and that threads change no bit of it.
 */
#include "unit/test_support.h"

#include "generate/router/router.h"
#include "unit/must.h"

#include <math.h>

enum { N = 60, WIDTH = 7, LABELS = 4, VALUES = LABELS * (WIDTH + 1) };

struct problem {
    float x[N * WIDTH];
    int32_t y[N];
    struct pool *pool;
    struct router_fit fit;
};

/* Clouds around a centre for each label, which overlap. */
static void problem_open(struct problem *p, int threads, double l2)
{
    struct rng rng;
    rng_init(&rng, 5, 0);
    MUST(pool_open(&p->pool, NULL, threads, error));
    for (int i = 0; i < N; i++) {
        p->y[i] = i % LABELS;
        for (int j = 0; j < WIDTH; j++) {
            p->x[i * WIDTH + j] = (float)(2 * rng_uniform(&rng) - 1 + (j % LABELS == p->y[i]));
        }
    }
    p->fit = (struct router_fit){.pool = p->pool,
                                 .x = p->x,
                                 .y = p->y,
                                 .n = N,
                                 .width = WIDTH,
                                 .n_labels = LABELS,
                                 .l2 = l2};
}

static void the_gradient_is_that_of_the_function(void **state)
{
    (void)state;
    struct problem p;
    double at_values[VALUES], gradient[VALUES], other[VALUES];
    struct rng rng;
    problem_open(&p, 2, 0.3);
    rng_init(&rng, 9, 0);
    for (int k = 0; k < VALUES; k++) {
        at_values[k] = rng_uniform(&rng) - 0.5;
    }
    router_fit_value(&p.fit, at_values, gradient);
    for (int k = 0; k < VALUES; k++) {
        const double step = 1e-5, was = at_values[k];
        at_values[k] = was + step;
        double above = router_fit_value(&p.fit, at_values, other);
        at_values[k] = was - step;
        double below = router_fit_value(&p.fit, at_values, other);
        at_values[k] = was;
        assert_true(fabs((above - below) / (2 * step) - gradient[k]) < 1e-8);
    }
    pool_close(&p.pool);
}

/* f as the header has it, by no means of the fit. */
static double plain_value(const struct problem *p, const double *v)
{
    double sum = 0, norm = 0;
    for (int i = 0; i < N; i++) {
        double scores[LABELS], all = 0;
        for (int c = 0; c < LABELS; c++) {
            scores[c] = v[LABELS * WIDTH + c];
            for (int j = 0; j < WIDTH; j++) {
                scores[c] += v[c * WIDTH + j] * (double)p->x[i * WIDTH + j];
            }
            all += exp(scores[c]);
        }
        sum += log(all) - scores[p->y[i]];
    }
    for (int k = 0; k < LABELS * WIDTH; k++) {
        norm += v[k] * v[k];
    }
    return sum / N + p->fit.l2 / 2 * norm;
}

static void the_fit_ends_at_the_optimum_which_steepest_descent_reaches_too(void **state)
{
    (void)state;
    struct problem p;
    double values[VALUES] = {0}, slow[VALUES] = {0}, gradient[VALUES];
    int64_t iterations = 0;
    problem_open(&p, 1, 0.05);
    MUST(router_fit_run(&p.fit, values, &iterations, error));
    assert_true(iterations > 0 && iterations < 200);
    double best = router_fit_value(&p.fit, values, gradient);
    assert_true(fabs(best - plain_value(&p, values)) < 1e-12);
    for (int k = 0; k < VALUES; k++) {
        assert_true(fabs(gradient[k]) <= 1e-7);
    }
    for (int step = 0; step < 20000; step++) {
        router_fit_value(&p.fit, slow, gradient);
        for (int k = 0; k < VALUES; k++) {
            slow[k] -= 0.3 * gradient[k];
        }
    }
    for (int k = 0; k < LABELS * WIDTH; k++) {
        assert_true(fabs(slow[k] - values[k]) < 1e-5);
    }
    struct rng rng;
    rng_init(&rng, 1, 0);
    for (int trial = 0; trial < 50; trial++) {
        for (int k = 0; k < VALUES; k++) {
            slow[k] = values[k] + 1e-2 * (rng_uniform(&rng) - 0.5);
        }
        assert_true(plain_value(&p, slow) > best);
    }
    pool_close(&p.pool);
}

static void threads_change_no_bit_of_a_fit(void **state)
{
    (void)state;
    double values[3][VALUES] = {{0}};
    for (int t = 0; t < 3; t++) {
        struct problem p;
        int64_t iterations;
        problem_open(&p, t + 1, 1e-4);
        MUST(router_fit_run(&p.fit, values[t], &iterations, error));
        pool_close(&p.pool);
    }
    assert_memory_equal(values[0], values[1], sizeof values[0]);
    assert_memory_equal(values[0], values[2], sizeof values[0]);
}

static bool stop_at_three(void *user, int iteration)
{
    (void)user;
    return iteration == 3;
}

static void a_fit_can_be_stopped_and_says_when_it_cannot_end(void **state)
{
    (void)state;
    struct problem p;
    double values[VALUES] = {0};
    int64_t iterations = 0;
    graft_error why;
    problem_open(&p, 1, 1e-3);
    p.fit.stop = stop_at_three;
    assert_int_equal(router_fit_run(&p.fit, values, &iterations, &why), GRAFT_CANCELLED);
    p.fit.stop = NULL;
    p.x[4] = NAN;
    assert_int_equal(router_fit_run(&p.fit, values, &iterations, &why), GRAFT_NUMERIC);
    pool_close(&p.pool);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(the_gradient_is_that_of_the_function),
        cmocka_unit_test(the_fit_ends_at_the_optimum_which_steepest_descent_reaches_too),
        cmocka_unit_test(threads_change_no_bit_of_a_fit),
        cmocka_unit_test(a_fit_can_be_stopped_and_says_when_it_cannot_end),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
