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

/* A module held whole. */
struct whole {
    const struct matrix *matrix;
    float weight;
};
struct embed_delta {
    const struct lowrank *lowrank;
    const float *token_gain;
    float weight;
};

/* What the members of a mix do beside the linears; the lists are in their order. */
struct module_set {
    const float **norms; /* [model_n_norms]: as they are under this mix; NULL: the base's */
    struct whole *embeds, *heads;
    struct embed_delta *embed_deltas;
    int n_embeds, n_heads, n_embed_deltas;
};

struct delta_set {
    const struct model *model;
    struct mem *mem;
    struct delta *deltas;       /* those of site s: [starts[s], starts[s + 1]) */
    int *starts;                /* [model_n_sites + 1] */
    int64_t most_ranks;         /* together at the sites of one layer, or at the head */
    int most_deltas;            /* likewise */
    struct arena arena;         /* of: */
    struct module_set *modules; /* NULL: none of the members has any */
};

/* Checks the changes of all members and lays them out in set->modules. */
graft_status module_set_make(struct delta_set *set, const struct delta_member *members,
                             int n_members, graft_error *error);

#endif
