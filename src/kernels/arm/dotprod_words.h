/* dotprod_words.h: the three products that decode_body.h asks for, with SDOT; shared by the tiers
 * dotprod and i8mm.
 */
#ifndef GRAFT_KERNELS_DOTPROD_WORDS_H
#define GRAFT_KERNELS_DOTPROD_WORDS_H

#include "codes.h"

ALWAYS_INLINE int32x4_t dot_block(graft_type type, const int8x16_t q[2], const int8_t *x)
{
    (void)type; /* there is room for any code */
    return vdotq_s32(vdotq_s32(vdupq_n_s32(0), q[0], vld1q_s8(x)), q[1], vld1q_s8(x + 16));
}

ALWAYS_INLINE int32x4_t add_half(int32x4_t acc, int8x16_t q, const int8_t *x, int16_t scale)
{
    return vmlaq_n_s32(acc, vdotq_s32(vdupq_n_s32(0), q, vld1q_s8(x)), scale);
}

ALWAYS_INLINE int32x4_t add_group(int32x4_t acc, const int8x16_t q[2], const int8_t *x,
                                  int16_t scale)
{
    return vmlaq_n_s32(acc, dot_block(GRAFT_TYPE_Q4_K, q, x), scale);
}

#endif
