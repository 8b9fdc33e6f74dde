/* check_bench.h: what the parts of the benchmark of the kernel check share: the machine and its limits. */
#ifndef GRAFT_TESTS_KERNELS_CHECK_BENCH_H
#define GRAFT_TESTS_KERNELS_CHECK_BENCH_H

#include "kernels/check.h"

enum { BENCH_SAMPLES = 9, BENCH_X = 512 * 2048, BENCH_Y = 16 << 20 }; /* floats of x and y */

struct bench {
    struct pool *pool;
    int threads;
    uint8_t *memory; /* [BENCH_MEMORY], read for the limit and holding the weights */
    float *x, *y;    /* [BENCH_X] of random numbers, [BENCH_Y] for results */
    void *acts;
    uint8_t *scratch; /* per worker, BENCH_SCRATCH bytes each */
};
static const size_t BENCH_SCRATCH = (size_t)4 << 20;
static const size_t BENCH_MEMORY = (size_t)192 << 20; /* far more than any cache */

/* Runs the work on all workers: processor seconds of the one that took longest. */
double bench_seconds(const struct bench *b, pool_work work, void *context);
/* Of a tier, in operations a second: of its unit for floats, or its matrix unit. */
double bench_peak(const struct bench *b, const char *tier, bool matrix);
double bench_median(double *v, int n); /* sorts them */
/* Within a part of the largest, since sums of random sign may cancel. */
bool bench_is_near(const float *got, const float *want, int64_t n, float bound);

/* What training adds; false when a result is wrong. */
bool bench_training(const struct bench *b, const struct kernels *k);

#endif
