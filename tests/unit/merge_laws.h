/* merge_laws.h: dense references for tests of merging: products and sums of changes in doubles, and singular values by
 * one-sided Jacobi rotations (Hestenes 1958), which share nothing with what merges are made of.
 */
#ifndef GRAFT_TEST_MERGE_LAWS_H
#define GRAFT_TEST_MERGE_LAWS_H

#include "conformance/merge_support.h"

#include <math.h>

static inline double any_number(struct rng *rng, double from, double to)
{
    return from + (to - from) * rng_uniform(rng);
}

static inline int64_t any_count(struct rng *rng, int64_t from, int64_t to)
{
    return from + (int64_t)(rng_uniform(rng) * (double)(to - from + 1));
}

static inline double norm_of(const double *x, int64_t n)
{
    double sum = 0;
    for (int64_t i = 0; i < n; i++)
        sum += x[i] * x[i];
    return sqrt(sum);
}

static inline double distance(const double *x, const double *y, int64_t n)
{
    double sum = 0;
    for (int64_t i = 0; i < n; i++)
        sum += (x[i] - y[i]) * (x[i] - y[i]);
    return sqrt(sum);
}

/* out [n_out, n_in] += factor B A, b with `step` between rows and `across` between ranks. */
static inline void add_dense(double *out, double factor, const float *a, const float *b,
                             int64_t n_out, int64_t n_in, int64_t rank, int64_t step,
                             int64_t across)
{
    for (int64_t o = 0; o < n_out; o++)
        for (int64_t r = 0; r < rank; r++) {
            const double x = factor * (double)b[o * step + r * across];
            for (int64_t i = 0; i < n_in; i++)
                out[o * n_in + i] += x * (double)a[r * n_in + i];
        }
}

static inline int falling_order(const void *left, const void *right)
{
    const double a = *(const double *)left, b = *(const double *)right;
    return (a < b) - (a > b);
}

/* values [min(rows, columns)], largest first; x is used up. */
static inline void singular_values(double *x, int64_t rows, int64_t columns, double *values)
{
    const int64_t n = rows < columns ? rows : columns, m = rows < columns ? columns : rows;
    double *u = malloc((size_t)(n * m) * sizeof *u), largest = 1;
    for (int64_t i = 0; i < rows; i++)
        for (int64_t j = 0; j < columns; j++)
            u[rows < columns ? i * m + j : j * m + i] = x[i * columns + j];
    for (int turn = 0; turn < 60 && largest > 1e-15; turn++) {
        largest = 0;
        for (int64_t i = 0; i < n; i++)
            for (int64_t j = i + 1; j < n; j++) {
                double *p = u + i * m, *q = u + j * m, pp = 0, qq = 0, pq = 0;
                for (int64_t k = 0; k < m; k++) {
                    pp += p[k] * p[k];
                    qq += q[k] * q[k];
                    pq += p[k] * q[k];
                }
                if (fabs(pq) <= 1e-300 || fabs(pq) <= 1e-16 * sqrt(pp * qq))
                    continue;
                largest = fmax(largest, fabs(pq) / sqrt(pp * qq));
                const double z = (qq - pp) / (2 * pq);
                const double t = copysign(1, z) / (fabs(z) + hypot(1, z));
                const double c = 1 / hypot(1, t), s = c * t;
                for (int64_t k = 0; k < m; k++) {
                    const double a = p[k], b = q[k];
                    p[k] = c * a - s * b;
                    q[k] = s * a + c * b;
                }
            }
    }
    for (int64_t i = 0; i < n; i++)
        values[i] = norm_of(u + i * m, m);
    qsort(values, (size_t)n, sizeof *values, falling_order);
    free(u);
}

/* ‖x − (the best of that rank)‖ */
static inline double best_distance(const double *x, int64_t rows, int64_t columns, int64_t rank)
{
    const int64_t n = rows < columns ? rows : columns;
    double *copy = malloc((size_t)(rows * columns) * sizeof *copy), *values = calloc((size_t)n, 8);
    memcpy(copy, x, (size_t)(rows * columns) * sizeof *copy);
    singular_values(copy, rows, columns, values);
    const double rest = rank < n ? norm_of(values + rank, n - rank) : 0;
    free(copy);
    free(values);
    return rest;
}

/* What input i of a module made by hand changes, malloc'ed. */
static inline double *change_of(const struct bench_site *b, size_t i)
{
    const int64_t n_in = b->site.n_in, n_out = b->site.n_out, begin = b->changes.begins[i];
    double *out = calloc((size_t)(n_in * n_out), sizeof *out);
    add_dense(out, b->changes.scales[i], b->changes.a + begin * n_in, b->changes.bt + begin * n_out,
              n_out, n_in, b->changes.begins[i + 1] - begin, 1, n_out);
    return out;
}

static inline double *result_of(const struct bench_site *b)
{
    const int64_t n_in = b->site.n_in, n_out = b->site.n_out, rank = b->site.out_rank;
    double *out = calloc((size_t)(n_in * n_out), sizeof *out);
    add_dense(out, 1, b->result.a, b->result.b, n_out, n_in, rank, rank, 1);
    return out;
}

#endif
