/* avx2_float.c: the AVX2 tier's products in floats: decode of unquantised weights, and prefill. */
#include "avx2_vec.h"

#define TIER avx2
#include "kernels/decode_tiles.h"

#include "kernels/decode_float_body.h"

/* to[j, 0..8) = from[0..8, j] for j < columns; rows of `from` and `to` are that many floats apart. */
static void turn_8x8(const float *from, int64_t from_pitch, float *to, int64_t to_pitch,
                     int64_t columns)
{
    vf r[8];
    TIMES(i, 8)
    r[i] = columns == 8 ? v_load(from + i * from_pitch) : v_load_n(from + i * from_pitch, columns);
    v_transpose(r);
    for (int64_t j = 0; j < columns; j++)
        v_store(to + j * to_pitch, r[j]);
}

/* 6 · 2 sums, 2 vectors of weights and one of x: 15 of 16 registers, and 12 independent chains hide
 * the latency of the multiply-adds. */
#define PREFILL_TOKENS 6
#define PREFILL_VECTORS 2
#include "kernels/prefill_body.h"
