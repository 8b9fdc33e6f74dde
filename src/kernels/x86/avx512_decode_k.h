/* avx512_decode_k.h: blocks of 256 taken apart, for both shapes of the AVX-512 tier's decode products
 * of the K types: few rows (avx512_decode_k.c) and many (avx512_decode_k_lanes.c). Which is which is
 * said in avx512_decode.h. The arithmetic of an output, block after block, is the same in both:
 *
 *   v = d · (float)dot               dot: Σ scale · code · q, an exact integer
 *   v = fma(−dmin, (float)low, v)    low: Σ min · Σ q, where a type has minima
 *   sum = fma(v, dx, sum)
 *
 * Codes are unsigned: those of Q3_K and Q6_K are 4 and 32 too large, for which 4 or 32 times
 * Σ scale · Σ q is taken from dot. |dot| and |low| stay below 2^29.
 */
#ifndef GRAFT_KERNELS_AVX512_DECODE_K_H
#define GRAFT_KERNELS_AVX512_DECODE_K_H

#include "avx512_decode.h"

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

/* Is there one scale for 32 values, and not for 16? */
ALWAYS_INLINE bool scale_per_32(graft_type type)
{
    return type == GRAFT_TYPE_Q4_K || type == GRAFT_TYPE_Q5_K;
}

/* log2 of how much larger the unsigned codes are than those of the format */
ALWAYS_INLINE int offset_shift(graft_type type)
{
    return type == GRAFT_TYPE_Q6_K ? 5 : 2;
}

/* The group of 32 values in half h of the v-th vector of codes. */
ALWAYS_INLINE int group_at(graft_type type, int v, int h)
{
    switch (type) {
    case GRAFT_TYPE_Q2_K:
    case GRAFT_TYPE_Q3_K:
        return v + 4 * h;
    case GRAFT_TYPE_Q6_K:
        return 2 * v + h;
    default: /* Q4_K, Q5_K */
        return v / 2 * 4 + v % 2 + 2 * h;
    }
}

ALWAYS_INLINE __m512i mask_512(__m512i v, char mask)
{
    return _mm512_and_si512(v, _mm512_set1_epi8(mask));
}

/* low | (v & mask) */
ALWAYS_INLINE __m512i with_bits(__m512i low, __m512i v, char mask)
{
    return _mm512_ternarylogic_epi64(low, v, _mm512_set1_epi8(mask), 0xF8);
}

/* 32 bytes in both halves, rotated left in words of 64 bits by so many bits. Bits that leave a byte
 * come back in another, where a mask takes them away. */
ALWAYS_INLINE __m512i rotate_twice(const uint8_t *p, int low, int high)
{
    __m512i twice = _mm512_broadcast_i64x4(_mm256_loadu_si256((const __m256i *)p));
    int64_t l = low & 63, h = high & 63;
    return _mm512_rolv_epi64(twice, _mm512_setr_epi64(l, l, l, l, h, h, h, h));
}

/* The unsigned codes of the block at p, in the order of group_at. */
ALWAYS_INLINE void codes_of_block(graft_type type, const uint8_t *p, __m512i q[4])
{
    __m512i v[2];
    switch (type) {
    case GRAFT_TYPE_Q2_K:
        v[0] = _mm512_loadu_si512(p + 16);
        TIMES(i, 4) q[i] = mask_512(_mm512_srli_epi16(v[0], (unsigned)(2 * i)), 3);
        break;
    case GRAFT_TYPE_Q3_K:
        v[0] = _mm512_loadu_si512(p + 32);
        TIMES(i, 4)
        {
            __m512i low = mask_512(_mm512_srli_epi16(v[0], (unsigned)(2 * i)), 3);
            q[i] = with_bits(low, rotate_twice(p, 2 - i, -2 - i), 4);
        }
        break;
    case GRAFT_TYPE_Q6_K:
        TIMES(i, 2)
        {
            v[0] = _mm512_loadu_si512(p + 64 * i);
            __m512i high = rotate_twice(p + 128 + 32 * i, 4, 2);
            q[2 * i] = with_bits(mask_512(v[0], 15), high, 48);
            high = rotate_twice(p + 128 + 32 * i, 0, -2);
            q[2 * i + 1] = with_bits(mask_512(_mm512_srli_epi16(v[0], 4), 15), high, 48);
        }
        break;
    default: /* Q4_K, Q5_K */
        TIMES(i, 2)
        {
            v[i] = _mm512_loadu_si512(p + (type == GRAFT_TYPE_Q4_K ? 16 : 48) + 64 * i);
            q[2 * i] = mask_512(v[i], 15);
            q[2 * i + 1] = mask_512(_mm512_srli_epi16(v[i], 4), 15);
        }
        if (type == GRAFT_TYPE_Q5_K)
            TIMES(i, 4)
            {
                int a = group_at(type, i, 0), b = group_at(type, i, 1);
                q[i] = with_bits(q[i], rotate_twice(p + 16, 4 - a, 4 - b), 16);
            }
        break;
    }
}

/* Scales and mins of a block as int16, of 16 values each (scale_per_32: 8 scales of 32 values each, then
 * 8 mins, in both members); and its d and dmin in the first two lanes. */
struct factors256 {
    __m256i scales, mins;
    __m128 d;
};

/* Bytes of p, which holds nibbles and pairs of bits above them: of each 32-bit lane, the bytes that
 * `nibbles` names, shifted right by down, and those that `pairs` names, rotated left by up, as bits
 * 4 and 5. Where a byte has no pair above it, `nibbles` keeps six bits. */
ALWAYS_INLINE __m128i six_bits(__m128i p, __m128i nibbles, __m128i down, __m128i keep,
                               __m128i pairs, __m128i up, __m128i keep_pairs)
{
    __m128i low = _mm_and_si128(_mm_srlv_epi32(_mm_shuffle_epi8(p, nibbles), down), keep);
    __m128i high = _mm_rolv_epi32(_mm_shuffle_epi8(p, pairs), up);
    return _mm_ternarylogic_epi32(low, high, keep_pairs, 0xF8);
}

/* The scales and mins of Q4_K and Q5_K, from the 16 bytes with which a block begins. Layout: scales_k4
 * in blocks.h. */
ALWAYS_INLINE __m256i factors_k4(__m128i p)
{
    const __m128i first = _mm_setr_epi8(4, 5, 6, 7, 12, 13, 14, 15, 8, 9, 10, 11, 12, 13, 14, 15);
    const __m128i top = _mm_setr_epi8(4, 5, 6, 7, 4, 5, 6, 7, 8, 9, 10, 11, 8, 9, 10, 11);
    const __m128i keep = _mm_setr_epi32(0x3f3f3f3f, 0x0f0f0f0f, 0x3f3f3f3f, 0x0f0f0f0f);
    __m128i bytes = six_bits(p, first, _mm_setr_epi32(0, 0, 0, 4), keep, top, _mm_set1_epi32(30),
                             _mm_setr_epi32(0, 0x30303030, 0, 0x30303030));
    return _mm256_cvtepu8_epi16(bytes);
}

/* The scales of Q3_K, from the 16 bytes with which a block ends. Layout: unpack_q3_k in blocks.h. */
ALWAYS_INLINE __m256i scales_q3(__m128i p)
{
    const __m128i first = _mm_setr_epi8(2, 3, 4, 5, 6, 7, 8, 9, 2, 3, 4, 5, 6, 7, 8, 9);
    const __m128i top =
        _mm_setr_epi8(10, 11, 12, 13, 10, 11, 12, 13, 10, 11, 12, 13, 10, 11, 12, 13);
    __m128i bytes = six_bits(p, first, _mm_setr_epi32(0, 0, 4, 4), _mm_set1_epi8(15), top,
                             _mm_setr_epi32(4, 2, 0, 30), _mm_set1_epi8(0x30));
    return _mm256_cvtepi8_epi16(_mm_sub_epi8(bytes, _mm_set1_epi8(32)));
}

ALWAYS_INLINE struct factors256 factors_of_block(graft_type type, const uint8_t *p)
{
    struct factors256 f = {.mins = _mm256_setzero_si256()};
    __m128i bytes;
    switch (type) {
    case GRAFT_TYPE_Q2_K:
        bytes = _mm_loadu_si128((const __m128i *)p);
        f.scales = _mm256_cvtepu8_epi16(_mm_and_si128(bytes, _mm_set1_epi8(15)));
        f.mins = _mm256_cvtepu8_epi16(_mm_and_si128(_mm_srli_epi16(bytes, 4), _mm_set1_epi8(15)));
        f.d = _mm_cvtph_ps(_mm_cvtsi32_si128((int)load_u32(p + 80)));
        break;
    case GRAFT_TYPE_Q3_K:
        bytes = _mm_loadu_si128((const __m128i *)(p + 94));
        f.scales = scales_q3(bytes);
        f.d = _mm_cvtph_ps(_mm_srli_si128(bytes, 14));
        break;
    case GRAFT_TYPE_Q6_K:
        f.scales = _mm256_cvtepi8_epi16(_mm_loadu_si128((const __m128i *)(p + 192)));
        f.d = _mm_cvtph_ps(_mm_cvtsi32_si128(load_u16(p + 208)));
        break;
    default: /* Q4_K, Q5_K */
        bytes = _mm_loadu_si128((const __m128i *)p);
        f.scales = f.mins = factors_k4(bytes);
        f.d = _mm_cvtph_ps(bytes);
        break;
    }
    return f;
}

/* The sums of 16 activations where the mins, or the scales, of a type meet them. */
ALWAYS_INLINE __m256i sums_for(graft_type type, const struct act_q8k *x)
{
    __m256i sums = _mm256_loadu_si256((const __m256i *)(const void *)x->sums);
    if (!scale_per_32(type))
        return sums;
    __m256i pairs = _mm256_madd_epi16(sums, _mm256_set1_epi16(1)); /* below 2^12 */
    return _mm256_inserti128_si256(_mm256_setzero_si256(), _mm256_cvtepi32_epi16(pairs), 1);
}

/* The many rows' shape of a K type; n_tok ≤ DECODE_PACK. */
void avx512_decode_k_lanes(const struct matrix *w, const struct act_q8k *x, int n_tok,
                           int64_t o_begin, int64_t o_end, float *y, int64_t y_stride,
                           void *scratch);

#endif
