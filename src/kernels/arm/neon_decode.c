/* neon_decode.c: the decode products of quantised weights on the baseline aarch64 processor: bytes
 * are multiplied to int16, added there in twos or fours as far as they fit, then widened.
 *
 * Bounds: 2 · 128 · 127 and 4 · 32 · 127 both stay below 2^15.
 */
#include "codes.h"

/* Sums of two products each. */
ALWAYS_INLINE int16x8_t pair_sums(int8x16_t q, int8x16_t x)
{
    return vmlal_high_s8(vmull_s8(vget_low_s8(q), vget_low_s8(x)), q, x);
}

/* Sums of four products each, of codes below 32. */
ALWAYS_INLINE int16x8_t four_sums(const int8x16_t q[2], int8x16_t first, int8x16_t second)
{
    int16x8_t sums = vmlal_s8(pair_sums(q[0], first), vget_low_s8(q[1]), vget_low_s8(second));
    return vmlal_high_s8(sums, q[1], second);
}

ALWAYS_INLINE int32x4_t dot_block(graft_type type, const int8x16_t q[2], const int8_t *x)
{
    int8x16_t first = vld1q_s8(x), second = vld1q_s8(x + 16);
    if (codes_are_small(type))
        return vpaddlq_s16(four_sums(q, first, second));
    return vpadalq_s16(vpaddlq_s16(pair_sums(q[0], first)), pair_sums(q[1], second));
}

ALWAYS_INLINE int32x4_t add_scaled(int32x4_t acc, int16x8_t sums, int16_t scale)
{
    acc = vmlal_n_s16(acc, vget_low_s16(sums), scale);
    return vmlal_high_n_s16(acc, sums, scale);
}

ALWAYS_INLINE int32x4_t add_half(int32x4_t acc, int8x16_t q, const int8_t *x, int16_t scale)
{
    return add_scaled(acc, pair_sums(q, vld1q_s8(x)), scale);
}

ALWAYS_INLINE int32x4_t add_group(int32x4_t acc, const int8x16_t q[2], const int8_t *x,
                                  int16_t scale)
{
    return add_scaled(acc, four_sums(q, vld1q_s8(x), vld1q_s8(x + 16)), scale);
}

#define TIER neon
#include "decode_body.h"

KERNEL_Q8_TYPES(DECODE_ENTRY_32)
KERNEL_Q8K_TYPES(DECODE_ENTRY_256)
