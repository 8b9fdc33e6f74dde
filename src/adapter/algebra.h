/* algebra.h: the linear algebra of low-rank changes: products of tall factors in double, and the decompositions of the
 * small matrices that come of them.
 *
 * A factor is k rows of n floats, k far below n. Norms, angles and singular values of what it is a factor of are in its
 * Gram matrix [k, k], so nothing the size of a weight is ever made. Owns numbers only; knows no adapters and no files.
 * The same bits for any number of threads. Not within a region of the pool.
 */
#ifndef GRAFT_ALGEBRA_H
#define GRAFT_ALGEBRA_H

#include "base/base.h"

struct tall {
    const float *x; /* [k, n] */
    int64_t k, n;
};

/* out [x.k, y.k] = X Yᵀ; where x and y are one, half of the work. */
void tall_gram(struct pool *pool, const struct tall *x, const struct tall *y, double *out);
/* out [m, n] = T X, t [m, k]. */
void tall_mix(struct pool *pool, const double *t, int64_t m, const struct tall *x, float *out);
/* Replaces x [k, n] by an orthonormal basis of what its rows span, *rank of them; rows past those are not defined. */
graft_status tall_orthonormalise(struct mem *mem, struct pool *pool, float *x, int64_t k, int64_t n,
                                 int64_t *rank, graft_error *error);

/* A positive semidefinite g [n, n], symmetric, as L Lᵀ with the largest pivots first. Returns how many pivots m are above
 * rounding; order [n] is the permutation, and row i of l [n, n] (whose first m columns count) belongs to order[i]. g is
 * used up. */
int64_t cholesky_pivoted(double *g, int64_t n, int64_t *order, double *l);
/* t [m, m] = the inverse of the lower triangle of the first m rows and columns of l [n, n]. */
void invert_lower(const double *l, int64_t n, int64_t m, double *t);
/* Eigenvalues of a symmetric a [n, n], largest first, and its eigenvectors as the rows of `vectors` [n, n]; a is used up.
 * Householder's tridiagonal form and implicit QL (Bowdler, Martin, Reinsch and Wilkinson 1968). work: [3 n]. */
void eigen_symmetric(double *a, int64_t n, double *values, double *vectors, double *work);

#endif
