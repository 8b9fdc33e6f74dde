/* quantize_internal.h: one writer per block format, between quantize.c and quantize_k.c. Each turns
 * the finite values of one block (32 or 256) into the bytes that blocks.h takes apart.
 */
#ifndef GRAFT_KERNELS_QUANTIZE_INTERNAL_H
#define GRAFT_KERNELS_QUANTIZE_INTERNAL_H

#include "kernels/kernels_internal.h"

void quantize_block_q2_k(const float *x, uint8_t *out);
void quantize_block_q3_k(const float *x, uint8_t *out);
void quantize_block_q4_k(const float *x, uint8_t *out);
void quantize_block_q5_k(const float *x, uint8_t *out);
void quantize_block_q6_k(const float *x, uint8_t *out);

/* Stores f in half precision and returns what a reader will get. */
static inline float store_f16(float f, uint8_t *out)
{
    uint16_t h = f32_to_f16(f);
    memcpy(out, &h, sizeof h);
    return f16_to_f32(h);
}

/* Nearest integer, ties to even, clamped. |v| must be below 2^22 before the clamp, or NaN. */
static inline int round_clamp(float v, int low, int high)
{
    v = v > (float)low ? v : (float)low; /* NaN goes to low */
    v = v < (float)high ? v : (float)high;
    return (int)(v + 0x1.8p23f - 0x1.8p23f);
}

#endif
