/* dequantize_body.h: the dequantisers and activation quantisers of a tier, written once.
 *
 * Included by one file per tier, after TIER (the prefix of its names), convert_from_f16 and
 * convert_from_bf16; compiled with that tier's instructions, the loops vectorise by themselves. There is no reduction but the maximum and
 * exact integer sums, and no contraction, so the results are the same bits on every tier.
 */
#include "kernels/blocks.h"

#include <math.h>

#define BODY(name) KERNEL_CAT(TIER, name)

enum { FLOAT_INFINITY_BITS = 0x7F800000 };

void BODY(_dequantize_f32)(const struct matrix *w, int64_t row, int64_t first, int64_t n, float *y)
{
    memcpy(y, (const uint8_t *)w->data + (size_t)row * w->row_bytes + (size_t)first * 4,
           (size_t)n * 4);
}

void BODY(_dequantize_f16)(const struct matrix *w, int64_t row, int64_t first, int64_t n, float *y)
{
    const uint8_t *p = (const uint8_t *)w->data + (size_t)row * w->row_bytes + (size_t)first * 2;
    convert_from_f16(p, n, y);
}

void BODY(_dequantize_bf16)(const struct matrix *w, int64_t row, int64_t first, int64_t n, float *y)
{
    const uint8_t *p = (const uint8_t *)w->data + (size_t)row * w->row_bytes + (size_t)first * 2;
    convert_from_bf16(p, n, y);
}

#define DEQUANTIZE_32(TYPE, name)                                                                  \
    void BODY(_dequantize_##name)(const struct matrix *w, int64_t row, int64_t first, int64_t n,   \
                                  float *y)                                                        \
    {                                                                                              \
        struct codes32 c;                                                                          \
        for (int64_t i = 0; i < n; i += Q8_BLOCK) {                                                \
            unpack_##name(w, row, (first + i) / Q8_BLOCK, &c);                                     \
            for (int j = 0; j < Q8_BLOCK; j++)                                                     \
                y[i + j] = c.d * (float)c.q[j] + c.m;                                              \
        }                                                                                          \
    }
KERNEL_Q8_TYPES(DEQUANTIZE_32)

#define DEQUANTIZE_256(TYPE, name)                                                                 \
    void BODY(_dequantize_##name)(const struct matrix *w, int64_t row, int64_t first, int64_t n,   \
                                  float *y)                                                        \
    {                                                                                              \
        struct codes256 c;                                                                         \
        for (int64_t i = 0; i < n; i += Q8K_BLOCK) {                                               \
            unpack_##name(w, row, (first + i) / Q8K_BLOCK, &c);                                    \
            for (int s = 0; s < 16; s++) {                                                         \
                float scale = c.d * c.scale[s], min = c.dmin * c.min[s];                           \
                for (int j = 16 * s; j < 16 * s + 16; j++)                                         \
                    y[i + j] = scale * (float)c.q[j] - min;                                        \
            }                                                                                      \
        }                                                                                          \
    }
KERNEL_Q8K_TYPES(DEQUANTIZE_256)

/* ---- activations -------------------------------------------------------------------------- */

void BODY(_act_f32)(const float *x, int64_t n_in, void *out)
{
    memcpy(out, x, (size_t)n_in * sizeof *x);
}

/* Quantises n ≤ block values to int8 and returns the scale. Values that are not finite give a scale
 * that is NaN and codes of 0, so the product is NaN and not some number. A scale below the normal
 * range counts as 0: the workers flush denormals, and the result must not depend on that. The largest
 * is found among the bits, where it is a maximum of integers and what is not finite comes last. */
static inline float quantize_int8(const float *restrict x, int n, int block, int8_t *restrict q)
{
    int32_t largest = 0;
    for (int j = 0; j < n; j++) {
        int32_t bits;
        memcpy(&bits, x + j, sizeof bits);
        bits &= INT32_MAX;
        largest = largest > bits ? largest : bits;
    }
    float scale;
    memcpy(&scale, &largest, sizeof scale);
    scale /= 127.0f;
    memset(q, 0, (size_t)block);
    if (largest >= FLOAT_INFINITY_BITS)
        return NAN;
    if (scale < 0x1p-126f)
        return 0;
    for (int j = 0; j < n; j++) {
        float v = x[j] / scale;
        int whole = (int)v;
        float rest = v - (float)whole; /* exact: |v| < 128 */
        q[j] = (int8_t)(whole + (rest >= 0.5f) - (rest <= -0.5f));
    }
    return scale;
}

void BODY(_act_q8)(const float *x, int64_t n_in, void *out)
{
    struct act_q8 *block = out;
    for (int64_t i = 0; i < n_in; i += Q8_BLOCK, block++) {
        if (n_in - i >= Q8_BLOCK)
            block->scale = quantize_int8(x + i, Q8_BLOCK, Q8_BLOCK, block->q);
        else
            block->scale = quantize_int8(x + i, (int)(n_in - i), Q8_BLOCK, block->q);
        int32_t sum = 0;
        for (int j = 0; j < Q8_BLOCK; j++)
            sum += block->q[j];
        block->sum = block->scale * (float)sum;
    }
}

void BODY(_act_q8k)(const float *x, int64_t n_in, void *out)
{
    struct act_q8k *block = out;
    for (int64_t i = 0; i < n_in; i += Q8K_BLOCK, block++) {
        if (n_in - i >= Q8K_BLOCK)
            block->scale = quantize_int8(x + i, Q8K_BLOCK, Q8K_BLOCK, block->q);
        else
            block->scale = quantize_int8(x + i, (int)(n_in - i), Q8K_BLOCK, block->q);
        for (int s = 0; s < 16; s++) {
            int sum = 0;
            for (int j = 16 * s; j < 16 * s + 16; j++)
                sum += block->q[j];
            block->sums[s] = (int16_t)sum;
        }
    }
}
