/* begin.h: the values that a new adapter's training begins with, where they are not those of every fresh adapter.
 *
 * Owns numbers of one linear at a time; where they lie, and what becomes of them, is the trainable's business.
 */
#ifndef GRAFT_TRAINABLE_BEGIN_H
#define GRAFT_TRAINABLE_BEGIN_H

#include "adapter/trainable/trainable.h"

/* One linear, and where its factors go. */
struct beginning {
    const struct model *model;
    const struct matrix *weight;
    int64_t rank;
    double scale; /* of B A; above 0 */
    uint64_t seed, stream;
    float *a; /* [rank, n_in] */
    float *b; /* [rank, n_out]: B transposed, rows of B in the order of the weight's */
};
/* Fills both factors; GAUSSIAN: draws from N(0, 1 / rank²) for A, B = 0. PISSA and OLORA: factors of the weight itself; rank
 * is at most either width. Not within a region of the pool. */
graft_status begin_factors(const struct beginning *begin, enum adapter_init init,
                           graft_error *error);
/* ‖W‖ of each row [n_out]: where a magnitude begins while the delta is 0. */
graft_status begin_magnitude(const struct model *model, const struct matrix *weight, float *out,
                             graft_error *error);
/* The same of each column over all tokens [d_model]: a magnitude of the embedding. */
graft_status begin_embed_magnitude(const struct model *model, float *out, graft_error *error);

#endif
