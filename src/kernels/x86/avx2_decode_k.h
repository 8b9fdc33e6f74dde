/* avx2_decode_k.h: blocks of 256 taken apart, for both shapes of the AVX2 tier's decode products of the K
 * types: few rows (avx2_decode_k.c) and many (avx2_decode_k_lanes.c). Which is which is said in
 * avx2_decode.h. The arithmetic of an output, block after block, is the same in both:
 *
 *   v = d · (float)dot               dot: Σ scale · code · q, an exact integer
 *   v = fma(−dmin, (float)low, v)    low: Σ min · Σ q, where a type has minima
 *   sum = fma(v, dx, sum)
 *
 * Codes are unsigned: those of Q3_K and Q6_K are 4 and 32 too large, for which 4 or 32 times
 * Σ scale · Σ q is taken from dot. |dot| and |low| stay below 2^29.
 */
#ifndef GRAFT_KERNELS_AVX2_DECODE_K_H
#define GRAFT_KERNELS_AVX2_DECODE_K_H

#include "avx2_decode.h"

struct block256 {
    const uint8_t *p;
    __m256i scales; /* 16 · int16: one per 16 values; Q4_K, Q5_K: 8, in both halves */
    __m256i mins;   /* 16 · int16, per 16 values; none where a type has no mins */
    __m256i high;   /* Q3_K, Q5_K: the bits above the low ones */
    float d, dmin;
};

static inline int64_t block256_bytes(graft_type type)
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

ALWAYS_INLINE __m256i load_256(const uint8_t *p)
{
    return _mm256_loadu_si256((const __m256i *)p);
}

ALWAYS_INLINE __m256i mask8(__m256i v, char mask)
{
    return _mm256_and_si256(v, _mm256_set1_epi8(mask));
}

/* Eight 6-bit scales and eight mins from 12 bytes (layout: scales_k4 in blocks.h). */
ALWAYS_INLINE void load_k4_scales(const uint8_t *p, struct block256 *b)
{
    uint32_t a = load_u32(p), m = load_u32(p + 4), c = load_u32(p + 8);
    uint32_t scale_high = (c & 0x0f0f0f0f) | (a >> 2 & 0x30303030);
    uint32_t min_high = (c >> 4 & 0x0f0f0f0f) | (m >> 2 & 0x30303030);
    __m128i scales = _mm_cvtepu8_epi16(
        _mm_cvtsi64_si128((int64_t)((a & 0x3f3f3f3f) | (uint64_t)scale_high << 32)));
    __m128i mins = _mm_cvtepu8_epi16(
        _mm_cvtsi64_si128((int64_t)((m & 0x3f3f3f3f) | (uint64_t)min_high << 32)));
    b->scales = _mm256_broadcastsi128_si256(scales);
    b->mins = _mm256_set_m128i(_mm_unpackhi_epi16(mins, mins), _mm_unpacklo_epi16(mins, mins));
}

/* Sixteen 6-bit scales from 12 bytes (layout: unpack_q3_k in blocks.h). */
ALWAYS_INLINE __m256i load_q3_scales(const uint8_t *p)
{
    const uint32_t low = 0x0f0f0f0f, high = 0x30303030;
    uint32_t a = load_u32(p), b = load_u32(p + 4), c = load_u32(p + 8);
    __m128i bytes =
        _mm_set_epi32((int)((b >> 4 & low) | (c >> 2 & high)), (int)((a >> 4 & low) | (c & high)),
                      (int)((b & low) | (c << 2 & high)), (int)((a & low) | (c << 4 & high)));
    return _mm256_cvtepi8_epi16(_mm_sub_epi8(bytes, _mm_set1_epi8(32)));
}

ALWAYS_INLINE struct block256 load_block256(graft_type type, const uint8_t *p)
{
    struct block256 b = {.p = p};
    __m128i bytes;
    switch (type) {
    case GRAFT_TYPE_Q2_K:
        bytes = _mm_loadu_si128((const __m128i *)p);
        b.scales = _mm256_cvtepu8_epi16(_mm_and_si128(bytes, _mm_set1_epi8(15)));
        b.mins = _mm256_cvtepu8_epi16(_mm_and_si128(_mm_srli_epi16(bytes, 4), _mm_set1_epi8(15)));
        b.d = LOAD_F16(p + 80);
        b.dmin = LOAD_F16(p + 82);
        break;
    case GRAFT_TYPE_Q3_K:
        b.scales = load_q3_scales(p + 96);
        b.high = load_256(p);
        b.d = LOAD_F16(p + 108);
        break;
    case GRAFT_TYPE_Q6_K:
        b.scales = _mm256_cvtepi8_epi16(_mm_loadu_si128((const __m128i *)(p + 192)));
        b.d = LOAD_F16(p + 208);
        break;
    default: /* Q4_K, Q5_K */
        load_k4_scales(p + 4, &b);
        b.d = LOAD_F16(p);
        b.dmin = LOAD_F16(p + 2);
        if (type == GRAFT_TYPE_Q5_K)
            b.high = load_256(p + 16);
        break;
    }
    return b;
}

/* The 32 codes of group g. */
ALWAYS_INLINE __m256i group_codes(graft_type type, const struct block256 *b, int g)
{
    __m256i low, high;
    switch (type) {
    case GRAFT_TYPE_Q2_K:
        return mask8(_mm256_srli_epi16(load_256(b->p + 16 + g / 4 * 32), g % 4 * 2), 3);
    case GRAFT_TYPE_Q3_K:
        low = mask8(_mm256_srli_epi16(load_256(b->p + 32 + g / 4 * 32), g % 4 * 2), 3);
        high = g < 2 ? _mm256_slli_epi16(b->high, 2 - g) : _mm256_srli_epi16(b->high, g - 2);
        return _mm256_or_si256(low, mask8(high, 4));
    case GRAFT_TYPE_Q4_K:
        return mask8(_mm256_srli_epi16(load_256(b->p + 16 + g / 2 * 32), g % 2 * 4), 15);
    case GRAFT_TYPE_Q5_K:
        low = mask8(_mm256_srli_epi16(load_256(b->p + 48 + g / 2 * 32), g % 2 * 4), 15);
        high = g < 4 ? _mm256_slli_epi16(b->high, 4 - g) : _mm256_srli_epi16(b->high, g - 4);
        return _mm256_or_si256(low, mask8(high, 16));
    default: /* Q6_K */
        low = load_256(b->p + g / 4 * 64 + g % 2 * 32);
        low = mask8(_mm256_srli_epi16(low, g % 4 / 2 * 4), 15);
        high = load_256(b->p + 128 + g / 4 * 32);
        high = g % 4 < 2 ? _mm256_slli_epi16(high, 4 - g % 4 * 2)
                         : _mm256_srli_epi16(high, g % 4 * 2 - 4);
        return _mm256_or_si256(low, mask8(high, 48));
    }
}

/* log2 of what codes are offset by */
ALWAYS_INLINE int offset_shift(graft_type type)
{
    return type == GRAFT_TYPE_Q6_K ? 5 : 2;
}

/* The many rows' shape of a K type; n_tok ≤ DECODE_PACK. */
void avx2_decode_k_lanes(const struct matrix *w, const struct act_q8k *x, int n_tok,
                         int64_t o_begin, int64_t o_end, float *y, int64_t y_stride, void *scratch);

#endif
