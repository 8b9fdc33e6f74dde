/* leading.h: the part of a matrix that few directions say: what merges and sidecars keep of what they make, and what PiSSA
 * trains.
 *
 * Owns numbers only; knows nothing of adapters and files.
 */
#ifndef GRAFT_LEADING_H
#define GRAFT_LEADING_H

#include "model/model.h"

/* A matrix L [n_out, n_in] as whoever has it gives it: at hand, or by rows, which are asked for in order, several times
 * over, and are the same each time. `rows` may use the pool. */
struct leading_source {
    int64_t n_out, n_in;
    const float *at_hand; /* NULL: rows */
    graft_status (*rows)(void *user, int64_t first, int64_t n, float *out, graft_error *error);
    void *user;
};

/* The best approximation of L by B A, b [n_out, rank], a [rank, n_in] with orthonormal rows; the columns of b are
 * orthogonal and as long as the singular values, largest first. rank is at most either width. Where L has a lower rank, what
 * is left of a and b is zero. Of L no more than LEADING_BYTES are in memory. *all (may be NULL): ‖L‖², *kept: ‖B A‖². The
 * same bits for any number of threads. Not within a region of the pool. */
enum { LEADING_BYTES = 32 << 20 };
graft_status leading_directions(const graft_runtime *runtime, const struct leading_source *l,
                                int64_t rank, float *a, float *b, double *all, double *kept,
                                graft_error *error);

#endif
