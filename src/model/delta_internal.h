/* delta_internal.h: a mix as the forward pass reads it.
 *
 * Deltas lie in the order of their sites, so the ones of a site are a slice.
 */
#ifndef GRAFT_DELTA_INTERNAL_H
#define GRAFT_DELTA_INTERNAL_H

#include "model/model.h"

struct delta {
    const struct lowrank *lowrank;
    float weight; /* of its adapter in the mix */
};

struct delta_set {
    const struct model *model;
    struct mem *mem;
    struct delta *deltas; /* those of site s: [starts[s], starts[s + 1]) */
    int *starts;          /* [model_n_sites + 1] */
    int64_t most_ranks;   /* together at the sites of one layer, or at the head */
    int most_deltas;      /* likewise */
};

#endif
