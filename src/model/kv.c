/* kv.c: the KV cache: a pool of reference-counted blocks and the block tables of sequences.
 *
 * A block is written only while one sequence holds it. Forking shares the blocks that hold positions;
 * the one that is partly filled is copied by whoever writes to it first, so a common prefix costs
 * nothing and no sequence sees another's writes. Freed blocks are kept for the next sequence until the
 * pool closes. Whoever else holds a block (a cache of prefixes) counts like a sequence.
 *
 * Their memory is taken for as many blocks again as there are, up to SLAB_BYTES at once, so that long
 * sequences lie in large pages: attention walks through all of it for each token, and in small ones every
 * few keys begin another.
 */
#include "model/kv_internal.h"

enum { SLAB_BYTES = 32 << 20 };

static int64_t blocks_for(int64_t length)
{
    return (length + KV_BLOCK - 1) / KV_BLOCK;
}

/* ---- pool --------------------------------------------------------------------------------- */

graft_status kv_pool_open(const struct model *model, const struct kv_pool_options *options,
                          struct kv_pool **out, graft_error *error)
{
    const struct config *c = &model->config;
    if (options->k_type >= KV_TYPE_COUNT || options->v_type >= KV_TYPE_COUNT ||
        options->max_blocks < 1)
        return error_set(error, GRAFT_INVALID_ARGUMENT,
                         "no such KV cache: types %d and %d, %lld blocks", (int)options->k_type,
                         (int)options->v_type, (long long)options->max_blocks);
    struct kv_pool *pool = mem_calloc(&model->runtime->mem, 1, sizeof(*pool));
    if (!pool)
        return error_set(error, GRAFT_NO_MEMORY, "no memory for a KV cache");
    pool->mem = &model->runtime->mem;
    pool->n_layer = c->n_layer;
    pool->n_kv = c->n_kv;
    pool->d_head = c->d_head;
    pool->k_type = options->k_type;
    pool->v_type = options->v_type;
    pool->k_head_bytes = kv_head_bytes(options->k_type, c->d_head);
    pool->v_head_bytes = kv_head_bytes(options->v_type, c->d_head);
    pool->block_bytes = (pool->k_head_bytes + pool->v_head_bytes) * KV_BLOCK * (size_t)c->n_kv *
                        (size_t)c->n_layer; /* config_check bounds the factors */
    pool->max_blocks = options->max_blocks;
    pool->owners = 1;
    pthread_mutex_init(&pool->lock, NULL); /* cannot fail on Linux with default attributes */
    *out = pool;
    return GRAFT_OK;
}

static void pool_lock(const struct kv_pool *pool)
{
    pthread_mutex_lock(&((struct kv_pool *)(uintptr_t)pool)->lock);
}

static void pool_unlock(const struct kv_pool *pool)
{
    pthread_mutex_unlock(&((struct kv_pool *)(uintptr_t)pool)->lock);
}

struct kv_pool *kv_pool_retain(struct kv_pool *pool)
{
    pool_lock(pool);
    pool->owners++;
    pool_unlock(pool);
    return pool;
}

void kv_pool_close(struct kv_pool **pool)
{
    struct kv_pool *p = *pool;
    *pool = NULL;
    if (!p)
        return;
    pool_lock(p);
    bool last = --p->owners == 0;
    pool_unlock(p);
    if (!last)
        return;
    while (p->slabs) {
        struct kv_slab *next = p->slabs->next;
        mem_free(p->mem, p->slabs);
        p->slabs = next;
    }
    pthread_mutex_destroy(&p->lock);
    mem_free(p->mem, p);
}

size_t kv_pool_block_bytes(const struct kv_pool *pool)
{
    return pool->block_bytes;
}

int64_t kv_pool_blocks_used(const struct kv_pool *pool)
{
    pool_lock(pool);
    int64_t used = pool->used;
    pool_unlock(pool);
    return used;
}

int64_t kv_pool_blocks_free(const struct kv_pool *pool)
{
    pool_lock(pool);
    int64_t n = pool->max_blocks - pool->used;
    pool_unlock(pool);
    return n;
}

void kv_pool_allow(struct kv_pool *pool, int64_t more_blocks)
{
    pool_lock(pool);
    pool->max_blocks += more_blocks;
    pool_unlock(pool);
}

/* Bytes from one block of a slab to the next. */
static size_t block_pitch(const struct kv_pool *pool)
{
    return (sizeof(struct kv_block) + pool->block_bytes + 63) / 64 * 64;
}

static bool slab_add(struct kv_pool *pool)
{
    const size_t pitch = block_pitch(pool);
    int64_t n = pool->in_slabs, most = SLAB_BYTES / (int64_t)pitch;
    n = n < most ? n : most;
    n = n < pool->max_blocks - pool->in_slabs ? n : pool->max_blocks - pool->in_slabs;
    n = n > 1 ? n : 1;
    struct kv_slab *slab = mem_alloc(pool->mem, sizeof(*slab) + (size_t)n * pitch);
    if (!slab)
        return false;
    pages_want_large(slab, sizeof(*slab) + (size_t)n * pitch);
    slab->next = pool->slabs;
    pool->slabs = slab;
    pool->in_slabs += n;
    pool->fresh = n;
    pool->next = slab->blocks;
    return true;
}

/* A block with one reference; its contents are undefined, and never read before they are written:
 * attention stops at the last position. */
static struct kv_block *block_take(struct kv_pool *pool)
{
    struct kv_block *block = pool->free_list;
    if (block) {
        pool->free_list = block->next_free;
    } else {
        if (pool->fresh == 0 && !slab_add(pool))
            return NULL;
        block = (struct kv_block *)(void *)pool->next;
        pool->next += block_pitch(pool);
        pool->fresh--;
    }
    block->refs = 1;
    block->next_free = NULL;
    pool->used++;
    return block;
}

static void block_drop(struct kv_pool *pool, struct kv_block *block)
{
    if (--block->refs)
        return;
    block->next_free = pool->free_list;
    pool->free_list = block;
    pool->used--;
}

/* ---- sequences ---------------------------------------------------------------------------- */

graft_status kv_seq_open(struct kv_pool *pool, struct kv_seq **out, graft_error *error)
{
    struct kv_seq *seq = mem_calloc(pool->mem, 1, sizeof(*seq));
    if (!seq)
        return error_set(error, GRAFT_NO_MEMORY, "no memory for a sequence");
    seq->pool = pool;
    *out = seq;
    return GRAFT_OK;
}

static void release_blocks(struct kv_seq *seq, int64_t n_blocks)
{
    while (seq->n_blocks > n_blocks)
        block_drop(seq->pool, seq->blocks[--seq->n_blocks]);
}

void kv_seq_release(struct kv_seq *seq, int64_t n_blocks)
{
    if (seq->n_blocks <= n_blocks)
        return;
    pool_lock(seq->pool);
    release_blocks(seq, n_blocks);
    pool_unlock(seq->pool);
}

void kv_seq_close(struct kv_seq **seq)
{
    struct kv_seq *s = *seq;
    if (!s)
        return;
    kv_seq_release(s, 0);
    mem_free(s->pool->mem, s->blocks);
    mem_free(s->pool->mem, s);
    *seq = NULL;
}

int64_t kv_seq_length(const struct kv_seq *seq)
{
    return seq->length;
}

void kv_seq_trim(struct kv_seq *seq, int64_t length)
{
    if (length < 0)
        length = 0;
    if (length < seq->length)
        seq->length = length;
    kv_seq_release(seq, blocks_for(seq->length));
}

/* Room in the table for n blocks. */
static bool table_grow(struct kv_seq *seq, int64_t n)
{
    if (n <= seq->capacity)
        return true;
    int64_t capacity = seq->capacity ? 2 * seq->capacity : 8;
    if (capacity < n)
        capacity = n;
    struct kv_block **blocks =
        mem_resize(seq->pool->mem, seq->blocks, (size_t)capacity * sizeof(struct kv_block *));
    if (!blocks)
        return false;
    seq->blocks = blocks;
    seq->capacity = capacity;
    return true;
}

/* The block that the next position goes to, when others hold it too; -1: none such. */
static int64_t shared_tail(const struct kv_seq *seq)
{
    int64_t tail = seq->length / KV_BLOCK;
    return tail < seq->n_blocks && seq->blocks[tail]->refs > 1 ? tail : -1;
}

static graft_status reserve_blocks(struct kv_seq *seq, int64_t length, graft_error *error)
{
    struct kv_pool *pool = seq->pool;
    int64_t tail = shared_tail(seq), before = seq->n_blocks, want = blocks_for(length);
    int64_t fresh = (want > before ? want - before : 0) + (tail >= 0);
    if (fresh > pool->max_blocks - pool->used)
        return error_set(error, GRAFT_LIMIT,
                         "the KV cache is full: %lld of %lld blocks are in use, %lld more needed",
                         (long long)pool->used, (long long)pool->max_blocks, (long long)fresh);
    struct kv_block *copy = NULL;
    bool ok = table_grow(seq, want);
    if (ok && tail >= 0)
        ok = (copy = block_take(pool)) != NULL;
    while (ok && seq->n_blocks < want) {
        struct kv_block *block = block_take(pool);
        ok = block != NULL;
        if (ok)
            seq->blocks[seq->n_blocks++] = block;
    }
    if (!ok) {
        release_blocks(seq, before);
        if (copy)
            block_drop(pool, copy);
        return error_set(error, GRAFT_NO_MEMORY, "no memory for %lld KV blocks of %zu bytes",
                         (long long)fresh, pool->block_bytes);
    }
    if (copy) {
        memcpy(copy->data, seq->blocks[tail]->data, pool->block_bytes);
        block_drop(pool, seq->blocks[tail]);
        seq->blocks[tail] = copy;
    }
    return GRAFT_OK;
}

graft_status kv_seq_reserve(struct kv_seq *seq, int64_t length, graft_error *error)
{
    if (length <= seq->length)
        return GRAFT_OK;
    if (length > INT32_MAX)
        return error_set(error, GRAFT_LIMIT, "%lld positions are more than graft can number",
                         (long long)length);
    pool_lock(seq->pool);
    graft_status status = reserve_blocks(seq, length, error);
    pool_unlock(seq->pool);
    return status;
}

graft_status kv_seq_fork(const struct kv_seq *seq, struct kv_seq **out, graft_error *error)
{
    struct kv_seq *fork = NULL;
    graft_status status = kv_seq_open(seq->pool, &fork, error);
    if (status != GRAFT_OK)
        return status;
    int64_t n = blocks_for(seq->length);
    if (!table_grow(fork, n)) {
        kv_seq_close(&fork);
        return error_set(error, GRAFT_NO_MEMORY, "no memory for a sequence");
    }
    pool_lock(seq->pool);
    for (int64_t i = 0; i < n; i++) {
        seq->blocks[i]->refs++;
        fork->blocks[i] = seq->blocks[i];
    }
    pool_unlock(seq->pool);
    fork->n_blocks = n;
    fork->length = seq->length;
    *out = fork;
    return GRAFT_OK;
}

graft_status kv_seq_repeat(const struct kv_seq *seq, int64_t length, struct kv_seq **out,
                           graft_error *error)
{
    struct kv_seq *copy = NULL;
    int64_t whole = seq->length / KV_BLOCK;
    if (whole < 1 || length < 0)
        return error_set(error, GRAFT_INVALID_ARGUMENT, "no whole block to repeat");
    graft_status status = kv_seq_open(seq->pool, &copy, error);
    if (status == GRAFT_OK)
        status = kv_seq_reserve(copy, length, error);
    if (status != GRAFT_OK) {
        kv_seq_close(&copy);
        return status;
    }
    for (int64_t i = 0; i < copy->n_blocks; i++)
        memcpy(copy->blocks[i]->data, seq->blocks[i % whole]->data, seq->pool->block_bytes);
    copy->length = length;
    *out = copy;
    return GRAFT_OK;
}

/* ---- blocks that others hold too ---------------------------------------------------------- */

struct kv_block *kv_seq_hold(const struct kv_seq *seq, int64_t index)
{
    pool_lock(seq->pool);
    seq->blocks[index]->refs++;
    pool_unlock(seq->pool);
    return seq->blocks[index];
}

void kv_block_let_go(struct kv_pool *pool, struct kv_block *block)
{
    pool_lock(pool);
    block_drop(pool, block);
    pool_unlock(pool);
}

bool kv_block_is_lone(const struct kv_pool *pool, const struct kv_block *block)
{
    pool_lock(pool);
    bool lone = block->refs == 1;
    pool_unlock(pool);
    return lone;
}

graft_status kv_seq_append(struct kv_seq *seq, struct kv_block *block, graft_error *error)
{
    if (!table_grow(seq, seq->n_blocks + 1))
        return error_set(error, GRAFT_NO_MEMORY, "no memory for a sequence");
    pool_lock(seq->pool);
    block->refs++;
    pool_unlock(seq->pool);
    seq->blocks[seq->n_blocks++] = block;
    seq->length += KV_BLOCK;
    return GRAFT_OK;
}
