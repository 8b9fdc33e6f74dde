/* prefix.h: blocks of the KV cache by what they hold, so that a prompt need not be computed twice.
 *
 * A block is named by everything that its keys and values depend on: the name of the block before it, its tokens, the mix
 * and the role of its rows, and the types of the cache. Equal names, equal bytes. Private to src/generate/engine; belongs to the
 * engine's thread.
 */
#ifndef GRAFT_ENGINE_PREFIX_H
#define GRAFT_ENGINE_PREFIX_H

#include "generate/timeline.h"

enum { PREFIX_NAME = 32 };

struct prefix_entry;
struct prefixes {
    struct mem *mem;
    struct kv_pool *pool;
    struct prefix_entry *entries; /* [capacity] */
    int32_t *buckets;             /* [n_buckets], heads of chains; -1: empty */
    size_t capacity, n_buckets, count;
    int32_t free_list, newest, oldest;
    uint64_t hits, evictions;
};
graft_status prefixes_open(struct prefixes *p, struct mem *mem, struct kv_pool *pool,
                           size_t capacity, graft_error *error);
void prefixes_close(struct prefixes *p); /* lets all blocks go; a zeroed one is allowed */
/* The block of a name; NULL: none. Borrowed. */
struct kv_block *prefixes_find(const struct prefixes *p, const uint8_t name[PREFIX_NAME]);
/* Keeps a block, which it then holds, under its name, behind that of the name `before` (zero: the first); not if the name is
 * taken. */
void prefixes_keep(struct prefixes *p, const uint8_t name[PREFIX_NAME],
                   const uint8_t before[PREFIX_NAME], const struct kv_seq *seq, int64_t index);
/* The block of a name and those before it count as used now, the first one last. */
void prefixes_use(struct prefixes *p, const uint8_t name[PREFIX_NAME]);
/* Lets go the block longest unused that nobody else holds. false: there is none. */
bool prefixes_evict(struct prefixes *p);
/* Whether that would free so many blocks. */
bool prefixes_have_lone(const struct prefixes *p, int64_t wanted);
void prefixes_forget(struct prefixes *p);

/* How far the blocks of one timeline have names. */
struct prefix_chain {
    uint8_t name[PREFIX_NAME]; /* of the last one named; zero before the first */
    int64_t named;             /* blocks */
    bool broken;               /* a block had rows of two mixes: nothing behind it has a name */
};
struct prefix_kind {
    uint8_t k_type, v_type;
    bool any_role; /* decoded rows stand in for rows of prompts */
};
/* Gives an empty cache the blocks of the timeline's beginning that are kept; all but the last token's at most. Returns
 * how many positions. NO_MEMORY leaves what was given. */
graft_status prefix_attach(struct prefix_chain *chain, const struct prefix_kind *kind,
                           struct prefixes *p, struct timeline *t, size_t *n, graft_error *error);
/* Keeps the blocks that have become whole. */
void prefix_keep_new(struct prefix_chain *chain, const struct prefix_kind *kind, struct prefixes *p,
                     const struct timeline *t);

#endif
