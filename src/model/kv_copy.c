/* kv_copy.c: keys and values of a sequence as bytes, and back, a block at a time.
 *
 * Only positions that are held are copied: what else lies in a block may be of somebody who had it before.
 */
#include "model/kv_internal.h"

size_t kv_seq_position_bytes(const struct kv_seq *seq)
{
    return seq->pool->block_bytes / KV_BLOCK;
}

void kv_seq_read(const struct kv_seq *seq, int64_t index, int n, uint8_t *out)
{
    const struct kv_pool *pool = seq->pool;
    size_t k_bytes = (size_t)n * pool->k_head_bytes, v_bytes = (size_t)n * pool->v_head_bytes;
    for (int layer = 0; layer < pool->n_layer; layer++)
        for (int head = 0; head < pool->n_kv; head++) {
            memcpy(out, kv_block_keys(pool, seq->blocks[index], layer, head), k_bytes);
            memcpy(out + k_bytes, kv_block_values(pool, seq->blocks[index], layer, head), v_bytes);
            out += k_bytes + v_bytes;
        }
}

graft_status kv_seq_write(struct kv_seq *seq, int n, const uint8_t *bytes, graft_error *error)
{
    const struct kv_pool *pool = seq->pool;
    size_t k_bytes = (size_t)n * pool->k_head_bytes, v_bytes = (size_t)n * pool->v_head_bytes;
    graft_status status = kv_seq_reserve(seq, seq->length + n, error);
    if (status != GRAFT_OK)
        return status;
    struct kv_block *block = seq->blocks[seq->length / KV_BLOCK];
    for (int layer = 0; layer < pool->n_layer; layer++)
        for (int head = 0; head < pool->n_kv; head++) {
            memcpy(kv_block_keys(pool, block, layer, head), bytes, k_bytes);
            memcpy(kv_block_values(pool, block, layer, head), bytes + k_bytes, v_bytes);
            bytes += k_bytes + v_bytes;
        }
    seq->length += n;
    return GRAFT_OK;
}
