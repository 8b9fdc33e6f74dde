/* leading.h: the part of a matrix that few directions say: what sidecars keep of what was lost, and what PiSSA trains.
 *
 * Owns numbers only; knows nothing of adapters and files.
 */
#ifndef GRAFT_LEADING_H
#define GRAFT_LEADING_H

#include "model/model.h"

/* The best approximation of L [n_out, n_in] by B A, b [n_out, rank], a [rank, n_in] with orthonormal rows; the columns of
 * b are orthogonal and as long as the singular values. rank is at most either width. *energy: ‖B A‖². The same bits for any
 * number of threads. Not within a region of the pool. */
graft_status leading_directions(const graft_runtime *runtime, const float *l, int64_t n_out,
                                int64_t n_in, int64_t rank, float *a, float *b, double *energy,
                                graft_error *error);

#endif
