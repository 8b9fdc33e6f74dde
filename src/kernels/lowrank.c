/* lowrank.c: how the factors of low-rank deltas are held. The products are in lowrank_body.h and
 * scalar_lowrank.c.
 */
#include "kernels/kernels_internal.h"

bool kernels_have_factor(graft_type type)
{
    return kernels_have_type(type) && type_traits(type)->block_values <= Q8_BLOCK &&
           type != GRAFT_TYPE_MLX4 && type != GRAFT_TYPE_MLX8;
}

int64_t lowrank_b_rows(int64_t rank, int64_t n_out)
{
    return blocks_of(n_out, LOWRANK_TILE) * rank;
}

bool lowrank_pack_b(graft_type type, const float *b, int64_t n_out, int64_t rank, void *out)
{
    const struct type_traits *traits = type_traits(type);
    const size_t row_bytes = LOWRANK_TILE / (size_t)traits->block_values * traits->block_bytes;
    uint8_t *row = out;
    for (int64_t o = 0; o < n_out; o += LOWRANK_TILE) {
        int64_t n = n_out - o < LOWRANK_TILE ? n_out - o : LOWRANK_TILE;
        for (int64_t r = 0; r < rank; r++, row += row_bytes) {
            float column[LOWRANK_TILE] = {0};
            for (int64_t i = 0; i < n; i++)
                column[i] = b[(o + i) * rank + r];
            if (!quantize_row(type, column, LOWRANK_TILE, row))
                return false;
        }
    }
    return true;
}
