/* draft_internal.h: what the files of this folder share: costs, and the table of a store. Not for other folders.
 */
#ifndef GRAFT_DRAFT_INTERNAL_H
#define GRAFT_DRAFT_INTERNAL_H

#include "generate/draft/draft.h"

#include <pthread.h>

/* An n-gram, by its hash, and a token that came behind it. */
struct store_entry {
    uint64_t key;
    uint32_t next, count; /* count 0: the entry is free */
};
enum { STORE_COUNT_MAX = 1 << 20, STORE_ENTRIES_MAX = 1 << 26 };

/* Entries of one n-gram are in the set of ways that its key says. */
struct ngram_store {
    struct mem *mem;
    uint8_t mix[32];
    int n_vocab;
    atomic_int references;
    pthread_mutex_t lock;        /* of: */
    struct store_entry *entries; /* [sets * ways] */
    size_t capacity, used;
};

/* Takes in an entry of a file: false when it is there already. */
bool store_put(struct ngram_store *s, const struct store_entry *entry);

/* How many passes ago one of so many rows was measured; UINT32_MAX: never. */
uint32_t cost_age(const struct cost_curve *c, int rows);
/* How many times, up to a few. */
uint32_t cost_seen(const struct cost_curve *c, int rows);
/* Nothing was measured of so many rows or more. */
bool cost_is_guess(const struct cost_curve *c, int rows);

enum {
    COST_FEW = 4,     /* first times of a point, first drafts of a source: not to be relied on */
    TRIAL_LEAST = 8,  /* steps between trials of what does not pay, at first, */
    TRIAL_MOST = 1024 /* and in the end */
};

#endif
