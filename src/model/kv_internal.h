/* kv_internal.h: how the forward pass reaches into KV blocks. Only for src/model. */
#ifndef GRAFT_KV_INTERNAL_H
#define GRAFT_KV_INTERNAL_H

#include "model/model.h"

#include <pthread.h>

struct kv_block {
    int64_t refs; /* sequences that hold it; 0: on the pool's free list */
    struct kv_block *next_free;
    _Alignas(64) uint8_t data[]; /* kv_pool.block_bytes */
};

/* Memory of some blocks, one after the other. */
struct kv_slab {
    struct kv_slab *next;
    _Alignas(64) uint8_t blocks[];
};

struct kv_pool {
    struct mem *mem;
    pthread_mutex_t
        lock; /* of all that follows max_blocks, of reference counts, and of copies of shared blocks */
    int n_layer, n_kv, d_head;
    enum kv_type k_type, v_type;
    size_t k_head_bytes, v_head_bytes; /* of one position */
    size_t block_bytes;
    int64_t max_blocks, used;
    int owners;
    struct kv_block *free_list;
    struct kv_slab *slabs;
    int64_t in_slabs; /* blocks that there is memory for */
    int64_t fresh;    /* of those the last, never used so far, at */
    uint8_t *next;
};

struct kv_seq {
    struct kv_pool *pool;
    struct kv_block **blocks; /* [n_blocks], room for `capacity` */
    int64_t n_blocks, capacity, length;
    int64_t pending; /* rows of the forward pass that is being checked or run */
};

/* Keys of one head in a block, [KV_BLOCK, k_head_bytes]; its values follow. */
static inline uint8_t *kv_block_keys(const struct kv_pool *pool, struct kv_block *block, int layer,
                                     int head)
{
    size_t pair = KV_BLOCK * (pool->k_head_bytes + pool->v_head_bytes);
    return block->data + ((size_t)layer * (size_t)pool->n_kv + (size_t)head) * pair;
}

static inline uint8_t *kv_block_values(const struct kv_pool *pool, struct kv_block *block,
                                       int layer, int head)
{
    return kv_block_keys(pool, block, layer, head) + KV_BLOCK * pool->k_head_bytes;
}

/* Gives back the blocks from index n_blocks on; takes the lock. */
void kv_seq_release(struct kv_seq *seq, int64_t n_blocks);

#endif
