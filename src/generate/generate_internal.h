/* generate_internal.h: what the files of this folder share: the session record. Not for other folders.
 */
#ifndef GRAFT_GENERATE_INTERNAL_H
#define GRAFT_GENERATE_INTERNAL_H

#include "generate/generate.h"
#include "generate/timeline.h"

/* A timeline with a cache and a workspace of its own. logits_row ≥ 0: the workspace still holds the logits that
 * followed tokens[0..logits_after). While there are picks in hand the first of them was made from row ahead_row. */
struct graft_session {
    struct timeline line;
    const struct model *model;
    struct mem *mem;
    struct kv_pool *pool;
    enum kv_type k_type, v_type; /* of what it holds */
    struct workspace *workspace;
    struct row *rows; /* [chunk] */
    int chunk;
    struct sampler *sampler; /* NULL: a classifier */
    int logits_row;
    size_t logits_after;
    int ahead_row;
};

#endif
