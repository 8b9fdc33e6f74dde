/* quantize.c: rows of floats into blocks of 32, and the door to all block formats.
 *
 * The 32-blocks follow the convention of the field so that results are comparable: the scale comes
 * from the extreme values, codes are rounded with the scale before it is stored in half precision.
 * The 256-blocks search (quantize_k.c).
 */
#include "kernels/quantize_internal.h"

#include <math.h>

/* ---- blocks of 32 ------------------------------------------------------------------------- */

/* The value furthest from zero, with its sign: it gets the code −8 (−16), the one whose mirror
 * image does not exist. */
static float extreme(const float *x)
{
    float best = 0;
    for (int j = 0; j < Q8_BLOCK; j++)
        best = fabsf(x[j]) > fabsf(best) ? x[j] : best;
    return best;
}

static int floor_clamp(float v, int high)
{
    int i = (int)v;
    return i < high ? i : high;
}

static void pack_nibbles(const int *q, uint8_t *out)
{
    for (int j = 0; j < 16; j++)
        out[j] = (uint8_t)((q[j] & 15) | (q[j + 16] & 15) << 4);
}

static void pack_fifth_bits(const int *q, uint8_t *out)
{
    uint32_t bits = 0;
    for (int j = 0; j < 32; j++)
        bits |= (uint32_t)(q[j] >> 4 & 1) << j;
    memcpy(out, &bits, sizeof bits);
}

/* Codes 0..2·half−1 of w = d · (q − half). */
static void codes_symmetric(const float *x, int half, uint8_t *d_out, int *q)
{
    float d = extreme(x) / (float)-half, inverse = d != 0 ? 1.0f / d : 0;
    store_f16(d, d_out);
    for (int j = 0; j < Q8_BLOCK; j++)
        q[j] = floor_clamp(x[j] * inverse + (float)half + 0.5f, 2 * half - 1);
}

/* Codes 0..top of w = d · q + m. */
static void codes_offset(const float *x, int top, uint8_t *d_out, uint8_t *m_out, int *q)
{
    float low = x[0], high = x[0];
    for (int j = 1; j < Q8_BLOCK; j++) {
        low = x[j] < low ? x[j] : low;
        high = x[j] > high ? x[j] : high;
    }
    float d = (high - low) / (float)top, inverse = d != 0 ? 1.0f / d : 0;
    store_f16(d, d_out);
    store_f16(low, m_out);
    for (int j = 0; j < Q8_BLOCK; j++)
        q[j] = floor_clamp((x[j] - low) * inverse + 0.5f, top);
}

static void quantize_block_q4_0(const float *x, uint8_t *out)
{
    int q[Q8_BLOCK];
    codes_symmetric(x, 8, out, q);
    pack_nibbles(q, out + 2);
}

static void quantize_block_q4_1(const float *x, uint8_t *out)
{
    int q[Q8_BLOCK];
    codes_offset(x, 15, out, out + 2, q);
    pack_nibbles(q, out + 4);
}

static void quantize_block_q5_0(const float *x, uint8_t *out)
{
    int q[Q8_BLOCK];
    codes_symmetric(x, 16, out, q);
    pack_fifth_bits(q, out + 2);
    pack_nibbles(q, out + 6);
}

static void quantize_block_q5_1(const float *x, uint8_t *out)
{
    int q[Q8_BLOCK];
    codes_offset(x, 31, out, out + 2, q);
    pack_fifth_bits(q, out + 4);
    pack_nibbles(q, out + 8);
}

static void quantize_block_q8_0(const float *x, uint8_t *out)
{
    float d = fabsf(extreme(x)) / 127.0f, inverse = d != 0 ? 1.0f / d : 0;
    store_f16(d, out);
    for (int j = 0; j < Q8_BLOCK; j++)
        out[2 + j] = (uint8_t)(int8_t)roundf(x[j] * inverse);
}

/* ---- rows --------------------------------------------------------------------------------- */

enum { LARGEST_BLOCK = 256 };
/* Blocks below this are zeros: the inverse of their scale could overflow. */
static const float smallest_extreme = 0x1p-100f;
/* Above this a scale or offset may not fit half precision. */
static const float largest_extreme = 65504.0f;

static bool block_is_usable(const float *x, int64_t n, bool *zero)
{
    float largest = 0, poison = 0;
    for (int64_t j = 0; j < n; j++) {
        largest = fabsf(x[j]) > largest ? fabsf(x[j]) : largest;
        poison += x[j] * 0.0f; /* NaN when one is NaN or Inf */
    }
    *zero = largest < smallest_extreme;
    return poison == 0 && largest <= largest_extreme;
}

typedef void (*block_writer)(const float *x, uint8_t *out);

static bool quantize_blocks(graft_type type, block_writer write, const float *x, int64_t n,
                            uint8_t *out)
{
    static const float zeros[LARGEST_BLOCK];
    const struct type_traits *traits = type_traits(type);
    if (n % traits->block_values != 0)
        return false;
    for (int64_t i = 0; i < n; i += traits->block_values, out += traits->block_bytes) {
        bool zero;
        if (!block_is_usable(x + i, traits->block_values, &zero))
            return false;
        write(zero ? zeros : x + i, out);
    }
    return true;
}

static bool convert_row(graft_type type, const float *x, int64_t n, uint8_t *out)
{
    if (type == GRAFT_TYPE_F32) {
        memcpy(out, x, (size_t)n * sizeof *x);
        return true;
    }
    for (int64_t k = 0; k < n; k++) {
        uint16_t h = type == GRAFT_TYPE_F16 ? f32_to_f16(x[k]) : f32_to_bf16(x[k]);
        memcpy(out + 2 * k, &h, sizeof h);
    }
    return true;
}

bool quantize_row(graft_type type, const float *x, int64_t n, void *out)
{
#define WRITE(TYPE, name)                                                                          \
    case GRAFT_TYPE_##TYPE:                                                                        \
        return quantize_blocks(type, quantize_block_##name, x, n, out);
    switch (type) {
    case GRAFT_TYPE_F32:
    case GRAFT_TYPE_F16:
    case GRAFT_TYPE_BF16:
        return convert_row(type, x, n, out);
        WRITE(Q4_0, q4_0)
        WRITE(Q4_1, q4_1)
        WRITE(Q5_0, q5_0)
        WRITE(Q5_1, q5_1)
        WRITE(Q8_0, q8_0)
        KERNEL_Q8K_TYPES(WRITE)
    default:
        return false;
    }
}
