/* codes.h: the codes of the quantised types as vectors of signed bytes, for the integer products of
 * the aarch64 tiers. Layouts: ../blocks.h.
 *
 * Owns which bits of a block become which code, with what codes are offset by taken away, so that a
 * product is q · x and no more; nothing here multiplies. Codes of 8 bits without sign (MLX8) are
 * used less 128; whoever calls adds that to the offset of the values.
 *
 * A block of 32 is q[2]; a block of 256 is eight groups of 32, each q[2] with a scale per half or one
 * for both.
 */
#ifndef GRAFT_KERNELS_ARM_CODES_H
#define GRAFT_KERNELS_ARM_CODES_H

#include "neon_vec.h"

ALWAYS_INLINE int8x16_t as_signed(uint8x16_t v)
{
    return vreinterpretq_s8_u8(v);
}

ALWAYS_INLINE uint8x16_t mask8(uint8x16_t v, uint8_t mask)
{
    return vandq_u8(v, vdupq_n_u8(mask));
}

/* `value` in the bytes where `bits` has one of the bits of `set`. */
ALWAYS_INLINE uint8x16_t where_set(uint8x16_t bits, uint8x16_t set, uint8_t value)
{
    return mask8(vtstq_u8(bits, set), value);
}

/* ---- blocks of 32 ------------------------------------------------------------------------- */

ALWAYS_INLINE int64_t block32_bytes(graft_type type)
{
    switch (type) {
    case GRAFT_TYPE_Q4_0:
        return 18;
    case GRAFT_TYPE_Q4_1:
        return 20;
    case GRAFT_TYPE_Q5_0:
        return 22;
    case GRAFT_TYPE_Q5_1:
        return 24;
    case GRAFT_TYPE_Q8_0:
        return 34;
    case GRAFT_TYPE_MLX4:
        return 16;
    default: /* MLX8 */
        return 32;
    }
}

/* No code is larger than 31, so that four products fit into an int16. */
ALWAYS_INLINE bool codes_are_small(graft_type type)
{
    return type != GRAFT_TYPE_Q8_0 && type != GRAFT_TYPE_MLX8;
}

/* w = d · q + m with an m of its own. */
ALWAYS_INLINE bool has_minimum(graft_type type)
{
    return type != GRAFT_TYPE_Q4_0 && type != GRAFT_TYPE_Q5_0 && type != GRAFT_TYPE_Q8_0;
}

/* The low nibbles of 16 bytes, then the high ones. */
ALWAYS_INLINE void nibbles(const uint8_t *p, uint8x16_t q[2])
{
    uint8x16_t v = vld1q_u8(p);
    q[0] = mask8(v, 15);
    q[1] = vshrq_n_u8(v, 4);
}

/* 16 in each byte whose bit of the word at p is set. */
ALWAYS_INLINE void load_fifth_bits(const uint8_t *p, uint8x16_t q[2])
{
    static const uint8_t spread[16] = {0, 0, 0, 0, 0, 0, 0, 0, 1, 1, 1, 1, 1, 1, 1, 1};
    static const uint8_t bit[16] = {1, 2, 4, 8, 16, 32, 64, 128, 1, 2, 4, 8, 16, 32, 64, 128};
    uint8x16_t word = vreinterpretq_u8_u32(vdupq_n_u32(load_u32(p)));
    uint8x16_t first = vld1q_u8(spread), set = vld1q_u8(bit);
    q[0] = where_set(vqtbl1q_u8(word, first), set, 16);
    q[1] = where_set(vqtbl1q_u8(word, vaddq_u8(first, vdupq_n_u8(2))), set, 16);
}

ALWAYS_INLINE void load_codes32(graft_type type, const uint8_t *p, int8x16_t q[2])
{
    uint8x16_t u[2], fifth[2];
    uint8_t offset = 0;
    switch (type) {
    case GRAFT_TYPE_Q4_0:
        nibbles(p + 2, u);
        offset = 8;
        break;
    case GRAFT_TYPE_Q4_1:
        nibbles(p + 4, u);
        break;
    case GRAFT_TYPE_Q5_0:
    case GRAFT_TYPE_Q5_1:
        offset = type == GRAFT_TYPE_Q5_0 ? 16 : 0;
        p += type == GRAFT_TYPE_Q5_0 ? 2 : 4;
        nibbles(p + 4, u);
        load_fifth_bits(p, fifth);
        u[0] = vorrq_u8(u[0], fifth[0]);
        u[1] = vorrq_u8(u[1], fifth[1]);
        break;
    case GRAFT_TYPE_Q8_0:
        u[0] = vld1q_u8(p + 2);
        u[1] = vld1q_u8(p + 18);
        break;
    case GRAFT_TYPE_MLX4: /* values 2j and 2j + 1 in byte j */
        nibbles(p, fifth);
        u[0] = vzip1q_u8(fifth[0], fifth[1]);
        u[1] = vzip2q_u8(fifth[0], fifth[1]);
        break;
    default: /* MLX8 */
        u[0] = vld1q_u8(p);
        u[1] = vld1q_u8(p + 16);
        offset = 128;
        break;
    }
    q[0] = as_signed(offset ? vsubq_u8(u[0], vdupq_n_u8(offset)) : u[0]);
    q[1] = as_signed(offset ? vsubq_u8(u[1], vdupq_n_u8(offset)) : u[1]);
}

/* ---- blocks of 256 ------------------------------------------------------------------------ */

ALWAYS_INLINE int64_t block256_bytes(graft_type type)
{
    switch (type) {
    case GRAFT_TYPE_Q2_K:
        return 84;
    case GRAFT_TYPE_Q3_K:
        return 110;
    case GRAFT_TYPE_Q4_K:
        return 144;
    case GRAFT_TYPE_Q5_K:
        return 176;
    default: /* Q6_K */
        return 210;
    }
}

ALWAYS_INLINE bool has_mins(graft_type type)
{
    return type == GRAFT_TYPE_Q2_K || type == GRAFT_TYPE_Q4_K || type == GRAFT_TYPE_Q5_K;
}

ALWAYS_INLINE bool scale_per_32(graft_type type)
{
    return type == GRAFT_TYPE_Q4_K || type == GRAFT_TYPE_Q5_K;
}

/* 16 codes of group g, from byte 16 · half of the group's bytes. */
ALWAYS_INLINE int8x16_t half_codes(graft_type type, const uint8_t *p, int g, int half)
{
    const uint8_t pair = (uint8_t)(g % 4 * 2), nibble = (uint8_t)(g % 2 * 4);
    const uint8x16_t bit = vdupq_n_u8((uint8_t)(1 << g));
    uint8x16_t low, high;
    p += 16 * half;
    switch (type) {
    case GRAFT_TYPE_Q2_K:
        return as_signed(mask8(vld1q_u8(p + 16 + g / 4 * 32) >> pair, 3));
    case GRAFT_TYPE_Q3_K:
        low = mask8(vld1q_u8(p + 32 + g / 4 * 32) >> pair, 3);
        high = where_set(vld1q_u8(p), bit, 4);
        return vsubq_s8(as_signed(vorrq_u8(low, high)), vdupq_n_s8(4));
    case GRAFT_TYPE_Q4_K:
        return as_signed(mask8(vld1q_u8(p + 16 + g / 2 * 32) >> nibble, 15));
    case GRAFT_TYPE_Q5_K:
        low = mask8(vld1q_u8(p + 48 + g / 2 * 32) >> nibble, 15);
        return as_signed(vorrq_u8(low, where_set(vld1q_u8(p + 16), bit, 16)));
    default: /* Q6_K */
        low = mask8(vld1q_u8(p + g / 4 * 64 + g % 2 * 32) >> (uint8_t)(g % 4 / 2 * 4), 15);
        high = mask8(vld1q_u8(p + 128 + g / 4 * 32) >> pair, 3) << 4;
        return vsubq_s8(as_signed(vorrq_u8(low, high)), vdupq_n_s8(32));
    }
}

/* What a block of 256 holds beside its codes. */
struct factors256 {
    int16_t scales[16]; /* one per 16 codes; of Q4_K and Q5_K eight, one per 32 */
    int16x8_t mins[2];  /* one per 16; of Q4_K and Q5_K only mins[0], one per 32 */
    float d, dmin;
};

/* Eight 6-bit scales and eight mins from 12 bytes (scales_k4 in blocks.h). */
ALWAYS_INLINE void load_k4_scales(const uint8_t *p, struct factors256 *f)
{
    uint32_t a = load_u32(p), m = load_u32(p + 4), c = load_u32(p + 8);
    uint32_t scale_high = (c & 0x0f0f0f0f) | (a >> 2 & 0x30303030);
    uint32_t min_high = (c >> 4 & 0x0f0f0f0f) | (m >> 2 & 0x30303030);
    uint8x8_t scales = vcreate_u8((a & 0x3f3f3f3f) | (uint64_t)scale_high << 32);
    uint8x8_t mins = vcreate_u8((m & 0x3f3f3f3f) | (uint64_t)min_high << 32);
    vst1q_s16(f->scales, vreinterpretq_s16_u16(vmovl_u8(scales)));
    f->mins[0] = vreinterpretq_s16_u16(vmovl_u8(mins));
}

/* Sixteen 6-bit scales from 12 bytes (unpack_q3_k in blocks.h). */
ALWAYS_INLINE int8x16_t load_q3_scales(const uint8_t *p)
{
    const uint32_t low = 0x0f0f0f0f, high = 0x30303030;
    uint32_t a = load_u32(p), b = load_u32(p + 4), c = load_u32(p + 8);
    uint64_t first = ((a & low) | (c << 4 & high)) | (uint64_t)((b & low) | (c << 2 & high)) << 32;
    uint64_t last = ((a >> 4 & low) | (c & high)) | (uint64_t)((b >> 4 & low) | (c >> 2 & high))
                                                        << 32;
    return vsubq_s8(vcombine_s8(vcreate_s8(first), vcreate_s8(last)), vdupq_n_s8(32));
}

ALWAYS_INLINE void store_scales(int8x16_t scales, struct factors256 *f)
{
    vst1q_s16(f->scales, vmovl_s8(vget_low_s8(scales)));
    vst1q_s16(f->scales + 8, vmovl_high_s8(scales));
}

ALWAYS_INLINE void load_factors256(graft_type type, const uint8_t *p, struct factors256 *f)
{
    uint8x16_t bytes;
    switch (type) {
    case GRAFT_TYPE_Q2_K:
        bytes = vld1q_u8(p);
        store_scales(as_signed(mask8(bytes, 15)), f);
        bytes = vshrq_n_u8(bytes, 4);
        f->mins[0] = vreinterpretq_s16_u16(vmovl_u8(vget_low_u8(bytes)));
        f->mins[1] = vreinterpretq_s16_u16(vmovl_high_u8(bytes));
        f->d = LOAD_F16(p + 80);
        f->dmin = LOAD_F16(p + 82);
        break;
    case GRAFT_TYPE_Q3_K:
        store_scales(load_q3_scales(p + 96), f);
        f->d = LOAD_F16(p + 108);
        break;
    case GRAFT_TYPE_Q6_K:
        store_scales(as_signed(vld1q_u8(p + 192)), f);
        f->d = LOAD_F16(p + 208);
        break;
    default: /* Q4_K, Q5_K */
        load_k4_scales(p + 4, f);
        f->d = LOAD_F16(p);
        f->dmin = LOAD_F16(p + 2);
        break;
    }
}

/* Four lanes whose sum is Σ min · Σ x, from the sums of 16 activations each. */
ALWAYS_INLINE int32x4_t weigh_mins(graft_type type, const struct factors256 *f, const int16_t *sums)
{
    int16x8_t first = vld1q_s16(sums), second = vld1q_s16(sums + 8);
    if (scale_per_32(type)) {
        first = vpaddq_s16(first, second);
        int32x4_t offset = vmull_s16(vget_low_s16(f->mins[0]), vget_low_s16(first));
        return vmlal_high_s16(offset, f->mins[0], first);
    }
    int32x4_t offset = vmull_s16(vget_low_s16(f->mins[0]), vget_low_s16(first));
    offset = vmlal_high_s16(offset, f->mins[0], first);
    offset = vmlal_s16(offset, vget_low_s16(f->mins[1]), vget_low_s16(second));
    return vmlal_high_s16(offset, f->mins[1], second);
}

#endif
