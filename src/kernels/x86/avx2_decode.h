/* avx2_decode.h: what the two shapes of the AVX2 tier's decode products share.
 *
 * Few rows (avx2_decode.c): the weights are a few streams from memory, K lies along the lanes. Many rows
 * (avx2_decode_lanes.c): eight rows of activations lie along the lanes, and each four codes of a weight
 * serve all of them. The arithmetic of an output is the same in both, operation by operation:
 *
 *   s = fma(d · (float)dot, dx, s)   dot: the exact integer product of a block of 32
 *   s = fma(m, Σ x, s)               where a type has minima
 *
 * for each block in order, s being sum[block mod 4], and at the end (sum[0] + sum[1]) +
 * (sum[2] + sum[3]). Where a shape uses codes that are too large or too small, it takes that much
 * times Σ q from the integer product.
 */
#ifndef GRAFT_KERNELS_AVX2_DECODE_H
#define GRAFT_KERNELS_AVX2_DECODE_H

#include "avx2_vec.h"

#include "kernels/decode_tiles.h"

/* Rows up to which the few rows' shape is the faster one, and the most that it takes. */
enum { DECODE_FEW = 4 };

/* Blocks that are taken at once: one of each chain of sums. */
enum { STEP_BLOCKS = 4 };

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

ALWAYS_INLINE bool is_mlx(graft_type type)
{
    return type == GRAFT_TYPE_MLX4 || type == GRAFT_TYPE_MLX8;
}

/* Types with 8 bits a code. */
ALWAYS_INLINE bool is_wide(graft_type type)
{
    return type == GRAFT_TYPE_Q8_0 || type == GRAFT_TYPE_MLX8;
}

ALWAYS_INLINE bool has_minimum(graft_type type)
{
    return type != GRAFT_TYPE_Q4_0 && type != GRAFT_TYPE_Q5_0 && type != GRAFT_TYPE_Q8_0;
}

/* ---- weights ------------------------------------------------------------------------------ */

/* The low nibbles of 16 bytes, then the high ones. */
ALWAYS_INLINE __m256i nibbles(const uint8_t *p)
{
    __m256i twice = _mm256_broadcastsi128_si256(_mm_loadu_si128((const __m128i *)p));
    __m256i shift = _mm256_setr_epi64x(0, 0, 4, 4);
    return _mm256_and_si256(_mm256_srlv_epi64(twice, shift), _mm256_set1_epi8(15));
}

/* 16 in each byte whose bit is set in the word. */
ALWAYS_INLINE __m256i fifth_bits_of(const uint8_t *p)
{
    const __m256i spread =
        _mm256_setr_epi64x(0, 0x0101010101010101, 0x0202020202020202, 0x0303030303030303);
    const __m256i bit = _mm256_set1_epi64x((int64_t)0x8040201008040201);
    __m256i bytes = _mm256_shuffle_epi8(_mm256_set1_epi32((int)load_u32(p)), spread);
    __m256i set = _mm256_cmpeq_epi8(_mm256_and_si256(bytes, bit), bit);
    return _mm256_and_si256(set, _mm256_set1_epi8(16));
}

/* The 32 codes of a block, in the order of the values; of MLX4, which keeps neighbours in one byte, the
 * even ones and then the odd ones. Those of Q4_0 and Q5_0 are 8 and 16 too large. */
ALWAYS_INLINE __m256i load_codes(graft_type type, const uint8_t *p)
{
    switch (type) {
    case GRAFT_TYPE_Q4_0:
        return nibbles(p + 2);
    case GRAFT_TYPE_Q4_1:
        return nibbles(p + 4);
    case GRAFT_TYPE_Q5_0:
        return _mm256_or_si256(nibbles(p + 6), fifth_bits_of(p + 2));
    case GRAFT_TYPE_Q5_1:
        return _mm256_or_si256(nibbles(p + 8), fifth_bits_of(p + 4));
    case GRAFT_TYPE_Q8_0:
        return _mm256_loadu_si256((const __m256i *)(p + 2));
    case GRAFT_TYPE_MLX4:
        return nibbles(p);
    default: /* MLX8 */
        return _mm256_loadu_si256((const __m256i *)p);
    }
}

/* d and m of four blocks. */
struct factors {
    __m128 d, m;
};

/* The half-precision factor at p of `blocks` ≤ 4 blocks; 0 for the others. */
ALWAYS_INLINE __m128 load_halves(const uint8_t *p, int64_t bytes, int blocks)
{
    __m128i halves = _mm_cvtsi32_si128(load_u16(p));
    if (blocks > 1)
        halves = _mm_insert_epi16(halves, load_u16(p + bytes), 1);
    if (blocks > 2)
        halves = _mm_insert_epi16(halves, load_u16(p + 2 * bytes), 2);
    if (blocks > 3)
        halves = _mm_insert_epi16(halves, load_u16(p + 3 * bytes), 3);
    return _mm_cvtph_ps(halves);
}

/* From group `at` on, the factors of `blocks` ≤ 4 blocks, of which 1 << shift are a group. */
ALWAYS_INLINE __m128 mlx_factors(const struct matrix *w, const void *factors, int64_t at, int shift,
                                 int blocks)
{
    const uint8_t *p = factors;
    const int n = blocks >> shift; /* at most 1, 2 or 4 groups */
    __m128 groups;
    if (w->scale_type == GRAFT_TYPE_F32) {
        p += 4 * at;
        groups = n >= 4 ? _mm_loadu_ps((const float *)(const void *)p) : _mm_set_ss(load_f32(p));
        if (n == 2 || n == 3)
            groups = _mm_insert_ps(groups, _mm_set_ss(load_f32(p + 4)), 0x10);
        if (n == 3)
            groups = _mm_insert_ps(groups, _mm_set_ss(load_f32(p + 8)), 0x20);
    } else {
        p += 2 * at;
        uint64_t bits = load_u16(p);
        if (n >= 4)
            memcpy(&bits, p, sizeof bits);
        else if (n > 1)
            bits = load_u32(p) | (n > 2 ? (uint64_t)load_u16(p + 4) << 32 : 0);
        __m128i halves = _mm_cvtsi64_si128((int64_t)bits);
        groups = w->scale_type == GRAFT_TYPE_F16
                     ? _mm_cvtph_ps(halves)
                     : _mm_castsi128_ps(_mm_unpacklo_epi16(_mm_setzero_si128(), halves));
    }
    if (shift == 0)
        return groups;
    return shift == 1 ? _mm_unpacklo_ps(groups, groups) : _mm_shuffle_ps(groups, groups, 0);
}

/* The factors of blocks first..first+blocks of row o, at p. */
ALWAYS_INLINE struct factors load_factors(graft_type type, const struct matrix *w, int64_t o,
                                          int64_t first, const uint8_t *p, int blocks)
{
    const int64_t bytes = block32_bytes(type);
    struct factors f = {.m = _mm_setzero_ps()};
    if (!is_mlx(type)) {
        f.d = load_halves(p, bytes, blocks);
        if (has_minimum(type))
            f.m = load_halves(p + 2, bytes, blocks);
        return f;
    }
    const int shift = w->group == 32 ? 0 : w->group == 64 ? 1 : 2;
    const int64_t at = (o * (w->n_in / Q8_BLOCK) + first) >> shift;
    f.d = mlx_factors(w, w->scales, at, shift, blocks);
    f.m = mlx_factors(w, w->biases, at, shift, blocks);
    return f;
}

/* ---- activations -------------------------------------------------------------------------- */

/* The even bytes of a block, then the odd ones, as the codes of MLX4 lie. */
ALWAYS_INLINE __m256i even_then_odd(__m256i q)
{
    const __m256i in_lane = _mm256_broadcastsi128_si256(
        _mm_setr_epi8(0, 2, 4, 6, 8, 10, 12, 14, 1, 3, 5, 7, 9, 11, 13, 15));
    return _mm256_permute4x64_epi64(_mm256_shuffle_epi8(q, in_lane), 0xD8);
}

ALWAYS_INLINE __m256i codes_of_x(graft_type type, const struct act_q8 *x)
{
    __m256i q = _mm256_loadu_si256((const __m256i *)x->q);
    return type == GRAFT_TYPE_MLX4 ? even_then_odd(q) : q;
}

/* n · Σ q in fours. */
ALWAYS_INLINE __m256i sums_of_x(int n, __m256i q)
{
    __m256i pairs = _mm256_maddubs_epi16(_mm256_set1_epi8((char)(n < 0 ? -n : n)), q);
    return _mm256_madd_epi16(pairs, _mm256_set1_epi16(n < 0 ? -1 : 1));
}

/* Four bytes each: products of unsigned and signed bytes, which must fit 16 bits in pairs, added. */
ALWAYS_INLINE __m256i dot_bytes(__m256i u, __m256i s)
{
    return _mm256_madd_epi16(_mm256_maddubs_epi16(u, s), _mm256_set1_epi16(1));
}

/* The same value, at this place: the compiler would first form all products of a chain of additions,
 * and has no registers for them. */
ALWAYS_INLINE __m256i in_order(__m256i v)
{
    __asm__("" : "+x"(v));
    return v;
}

/* The many rows' shape of a type with blocks of 32; n_tok ≤ DECODE_PACK. */
void avx2_decode_lanes(const struct matrix *w, const struct act_q8 *x, int n_tok, int64_t o_begin,
                       int64_t o_end, float *y, int64_t y_stride, void *scratch);

#endif
