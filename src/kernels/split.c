/* split.c: packed rows are made here; split.h says how they lie.
 */
#include "kernels/split.h"

size_t split_row_bytes(graft_type type, int64_t n_in)
{
    if (split_code_bytes(type) == 0)
        return 0;
    int64_t n_block = blocks_of(n_in / Q8_BLOCK, SPLIT_GROUP) * SPLIT_GROUP;
    return (size_t)(blocks_of(n_block, SPLIT_SPAN) * SPLIT_LINE + n_block * split_code_bytes(type));
}

void split_row(const struct matrix *w, int64_t row, void *out)
{
    const int64_t n_block = w->n_in / Q8_BLOCK, codes = split_code_bytes(w->type);
    const uint8_t *block = (const uint8_t *)w->data + (size_t)row * w->row_bytes;
    uint8_t *p = out;
    memset(p, 0, split_row_bytes(w->type, w->n_in));
    for (int64_t b = 0; b < n_block; b++, block += 2 + codes) {
        const struct split_place at = split_place(w->type, b);
        memcpy(p + at.factor, block, 2);
        if (w->type == GRAFT_TYPE_Q4_0)
            memcpy(p + at.low, block + 2, 16);
        for (int j = 0; j < 16 && w->type == GRAFT_TYPE_Q8_0; j++) {
            p[at.low + j] = block[2 + j] ^ 128;
            p[at.high + j] = block[18 + j] ^ 128;
        }
    }
}
