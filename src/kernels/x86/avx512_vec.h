/* avx512_vec.h: the vector words of the AVX-512 tier (F, BW, DQ, VL), in which the shared bodies
 * (../..._body.h) are written; the same words as avx2_vec.h, twice as wide.
 *
 * vf is VF floats. Loads and stores allow any alignment; v_*_n touch only the first n < VF elements
 * and read the others as 0: a masked lane cannot fault, so a part of a vector needs no care. v_sum
 * and v_sums add lanes in one fixed order, the same for both.
 */
#ifndef GRAFT_KERNELS_AVX512_VEC_H
#define GRAFT_KERNELS_AVX512_VEC_H

#include "kernels/expf.h"
#include "kernels/kernels_internal.h"

#include <immintrin.h>

/* Not _cvtsh_ss: see avx2_vec.h. */
#define LOAD_F16(p) _mm_cvtss_f32(_mm_cvtph_ps(_mm_cvtsi32_si128(load_u16(p))))

#define ALWAYS_INLINE static inline __attribute__((always_inline))
/* A loop over a tile: its bounds are constants once it is inlined, and what it indexes lives in
 * registers only if it is unrolled. clang does so by itself. */
#if defined(__clang__)
#define TIMES(i, n) for (int i = 0; i < (n); i++)
#else
#define TIMES(i, n) _Pragma("GCC unroll 32") for (int i = 0; i < (n); i++)
#endif

typedef __m512 vf;
enum { VF = 16 };

ALWAYS_INLINE vf v_zero(void)
{
    return _mm512_setzero_ps();
}

ALWAYS_INLINE vf v_set1(float f)
{
    return _mm512_set1_ps(f);
}

ALWAYS_INLINE vf v_load(const float *p)
{
    return _mm512_loadu_ps(p);
}

ALWAYS_INLINE void v_store(float *p, vf v)
{
    _mm512_storeu_ps(p, v);
}

/* The first n ≤ VF lanes. */
ALWAYS_INLINE __mmask16 v_mask(int64_t n)
{
    return (__mmask16)((1u << n) - 1);
}

ALWAYS_INLINE vf v_load_n(const float *p, int64_t n)
{
    return _mm512_maskz_loadu_ps(v_mask(n), p);
}

ALWAYS_INLINE void v_store_n(float *p, vf v, int64_t n)
{
    _mm512_mask_storeu_ps(p, v_mask(n), v);
}

/* For loops whose last step may be a part: the first `left` elements, VF at most. */
ALWAYS_INLINE vf v_load_some(const float *p, int64_t left)
{
    return left >= VF ? v_load(p) : v_load_n(p, left);
}

ALWAYS_INLINE void v_store_some(float *p, vf v, int64_t left)
{
    if (left >= VF)
        v_store(p, v);
    else
        v_store_n(p, v, left);
}

ALWAYS_INLINE vf v_add(vf a, vf b)
{
    return _mm512_add_ps(a, b);
}

ALWAYS_INLINE vf v_sub(vf a, vf b)
{
    return _mm512_sub_ps(a, b);
}

ALWAYS_INLINE vf v_mul(vf a, vf b)
{
    return _mm512_mul_ps(a, b);
}

ALWAYS_INLINE vf v_div(vf a, vf b)
{
    return _mm512_div_ps(a, b);
}

ALWAYS_INLINE vf v_sqrt(vf a)
{
    return _mm512_sqrt_ps(a);
}

ALWAYS_INLINE vf v_max(vf a, vf b)
{
    return _mm512_max_ps(a, b);
}

/* a · b + c, rounded once */
ALWAYS_INLINE vf v_fma(vf a, vf b, vf c)
{
    return _mm512_fmadd_ps(a, b, c);
}

ALWAYS_INLINE vf v_load_f16(const uint8_t *p)
{
    return _mm512_cvtph_ps(_mm256_loadu_si256((const __m256i *)p));
}

ALWAYS_INLINE vf v_load_bf16(const uint8_t *p)
{
    __m512i wide = _mm512_cvtepu16_epi32(_mm256_loadu_si256((const __m256i *)p));
    return _mm512_castsi512_ps(_mm512_slli_epi32(wide, 16));
}

/* int8 to float */
ALWAYS_INLINE vf v_load_i8(const uint8_t *p)
{
    return _mm512_cvtepi32_ps(_mm512_cvtepi8_epi32(_mm_loadu_si128((const __m128i *)p)));
}

/* d · (code − 8) of VF codes of Q4_0, in the low or the high nibbles of VF bytes: looked up in a table
 * of the sixteen there are. */
ALWAYS_INLINE vf v_q4_scale(float d)
{
    const __m512 codes = _mm512_setr_ps(-8, -7, -6, -5, -4, -3, -2, -1, 0, 1, 2, 3, 4, 5, 6, 7);
    return v_mul(v_set1(d), codes);
}

ALWAYS_INLINE vf v_load_q4(const uint8_t *p, bool high, vf scale)
{
    __m512i wide = _mm512_cvtepu8_epi32(_mm_loadu_si128((const __m128i *)p));
    return _mm512_permutexvar_ps(high ? _mm512_srli_epi32(wide, 4) : wide, scale);
}

ALWAYS_INLINE void v_store_f16(uint8_t *p, vf v)
{
    _mm256_storeu_si256((__m256i *)p, _mm512_cvtps_ph(v, _MM_FROUND_TO_NEAREST_INT));
}

/* To nearest even: the bits of f32_to_bf16. */
ALWAYS_INLINE void v_store_bf16(uint16_t *p, vf v)
{
    __m512i bits = _mm512_castps_si512(v), high = _mm512_srli_epi32(bits, 16);
    __m512i odd = _mm512_and_si512(high, _mm512_set1_epi32(1));
    __m512i even = _mm512_add_epi32(_mm512_add_epi32(bits, _mm512_set1_epi32(0x7FFF)), odd);
    __m512i quiet = _mm512_or_si512(high, _mm512_set1_epi32(0x40));
    __mmask16 nan = _mm512_cmp_ps_mask(v, v, _CMP_UNORD_Q);
    __m512i rounded = _mm512_mask_mov_epi32(_mm512_srli_epi32(even, 16), nan, quiet);
    _mm256_storeu_si256((__m256i *)p, _mm512_cvtepi32_epi16(rounded));
}

/* Lanes i, i + 4, i + 8 and i + 12 added. */
ALWAYS_INLINE __m128 v_quarters(vf v)
{
    __m256 half = _mm256_add_ps(_mm512_castps512_ps256(v), _mm512_extractf32x8_ps(v, 1));
    return _mm_add_ps(_mm256_castps256_ps128(half), _mm256_extractf128_ps(half, 1));
}

ALWAYS_INLINE float v_sum(vf v)
{
    __m128 s = v_quarters(v);
    s = _mm_hadd_ps(s, s);
    s = _mm_hadd_ps(s, s);
    return _mm_cvtss_f32(s);
}

/* Sums of neighbours: of a, then of b, in each quarter. */
ALWAYS_INLINE __m512 v_pairs(__m512 a, __m512 b)
{
    return _mm512_add_ps(_mm512_shuffle_ps(a, b, 0x88), _mm512_shuffle_ps(a, b, 0xDD));
}

/* out[i] = v_sum(v[i]) for 8 vectors: halves of two, then quarters of four of them are added at once. */
ALWAYS_INLINE void v_sums(const vf v[8], float *out)
{
    __m512 h[4], q[2];
    TIMES(i, 4)
    {
        __m512 straight = _mm512_mask_blend_ps(0xFF00, v[i], v[i + 4]);
        h[i] = _mm512_add_ps(straight, _mm512_shuffle_f32x4(v[i], v[i + 4], 0x4E));
    }
    TIMES(i, 2) /* quarters: v[i], v[i + 4], v[i + 2], v[i + 6] */
    {
        __m512 even = _mm512_shuffle_f32x4(h[i], h[i + 2], 0x88);
        q[i] = _mm512_add_ps(even, _mm512_shuffle_f32x4(h[i], h[i + 2], 0xDD));
    }
    __m512 p = v_pairs(q[0], q[1]); /* each sum in two parts: 0 0 1 1, 4 4 5 5, 2 2 3 3, 6 6 7 7 */
    p = _mm512_add_ps(p, _mm512_movehdup_ps(p));
    const __m512i order = _mm512_setr_epi32(0, 2, 8, 10, 4, 6, 12, 14, 0, 0, 0, 0, 0, 0, 0, 0);
    _mm256_storeu_ps(out, _mm512_castps512_ps256(_mm512_permutexvar_ps(order, p)));
}

ALWAYS_INLINE float v_largest(vf v)
{
    __m256 half = _mm256_max_ps(_mm512_castps512_ps256(v), _mm512_extractf32x8_ps(v, 1));
    __m128 m = _mm_max_ps(_mm256_castps256_ps128(half), _mm256_extractf128_ps(half, 1));
    m = _mm_max_ps(m, _mm_movehl_ps(m, m));
    return _mm_cvtss_f32(_mm_max_ss(m, _mm_shuffle_ps(m, m, 1)));
}

/* Sums in double, VF lanes. */
typedef struct {
    __m512d low, high;
} vd;

ALWAYS_INLINE vd vd_zero(void)
{
    return (vd){_mm512_setzero_pd(), _mm512_setzero_pd()};
}

/* sum + a · b, the product exact in double */
ALWAYS_INLINE vd vd_fma(vf a, vf b, vd sum)
{
    __m512d al = _mm512_cvtps_pd(_mm512_castps512_ps256(a));
    __m512d ah = _mm512_cvtps_pd(_mm512_extractf32x8_ps(a, 1));
    __m512d bl = _mm512_cvtps_pd(_mm512_castps512_ps256(b));
    __m512d bh = _mm512_cvtps_pd(_mm512_extractf32x8_ps(b, 1));
    return (vd){_mm512_fmadd_pd(al, bl, sum.low), _mm512_fmadd_pd(ah, bh, sum.high)};
}

ALWAYS_INLINE double vd_sum(vd v)
{
    __m512d s = _mm512_add_pd(v.low, v.high);
    __m256d q = _mm256_add_pd(_mm512_castpd512_pd256(s), _mm512_extractf64x4_pd(s, 1));
    __m128d h = _mm_add_pd(_mm256_castpd256_pd128(q), _mm256_extractf128_pd(q, 1));
    return _mm_cvtsd_f64(_mm_hadd_pd(h, h));
}

/* The steps of expf.h; half of the exponent at a time, since 2^128 is no float. */
ALWAYS_INLINE vf v_exp(vf x)
{
    const __m512 round = _mm512_set1_ps(EXP_ROUND);
    __m512 n = _mm512_sub_ps(_mm512_fmadd_ps(x, _mm512_set1_ps(EXP_LOG2E), round), round);
    __m512 r = _mm512_fnmadd_ps(n, _mm512_set1_ps(EXP_LN2_HIGH), x);
    r = _mm512_fnmadd_ps(n, _mm512_set1_ps(EXP_LN2_LOW), r);
    __m512 p = _mm512_fmadd_ps(_mm512_set1_ps(EXP_P4), r, _mm512_set1_ps(EXP_P3));
    p = _mm512_fmadd_ps(p, r, _mm512_set1_ps(EXP_P2));
    p = _mm512_fmadd_ps(p, r, _mm512_set1_ps(EXP_P1));
    p = _mm512_fmadd_ps(p, r, _mm512_set1_ps(EXP_P0));
    p = _mm512_add_ps(_mm512_fmadd_ps(_mm512_mul_ps(p, r), r, r), _mm512_set1_ps(1.0f));
    __m512i i = _mm512_cvtps_epi32(n), half = _mm512_srai_epi32(i, 1);
    const __m512i bias = _mm512_set1_epi32(127);
    __m512i low = _mm512_slli_epi32(_mm512_add_epi32(half, bias), 23);
    __m512i high = _mm512_slli_epi32(_mm512_add_epi32(_mm512_sub_epi32(i, half), bias), 23);
    p = _mm512_mul_ps(_mm512_mul_ps(p, _mm512_castsi512_ps(low)), _mm512_castsi512_ps(high));
    __mmask16 not_under = _mm512_cmp_ps_mask(x, _mm512_set1_ps(EXP_UNDERFLOW), _CMP_NLT_UQ);
    __mmask16 over = _mm512_cmp_ps_mask(x, _mm512_set1_ps(EXP_OVERFLOW), _CMP_GT_OQ);
    p = _mm512_mask_mov_ps(p, over, _mm512_set1_ps(INFINITY));
    return _mm512_maskz_mov_ps(not_under, p);
}

/* exp of x ≤ 0, or of a NaN: fewer steps, since no power of two leaves the range of floats. */
ALWAYS_INLINE vf v_exp_down(vf x)
{
    const __m512 round = _mm512_set1_ps(EXP_ROUND);
    __m512 n = _mm512_sub_ps(_mm512_fmadd_ps(x, _mm512_set1_ps(EXP_LOG2E), round), round);
    __m512 r = _mm512_fnmadd_ps(n, _mm512_set1_ps(EXP_LN2_HIGH), x);
    r = _mm512_fnmadd_ps(n, _mm512_set1_ps(EXP_LN2_LOW), r);
    __m512 p = _mm512_fmadd_ps(_mm512_set1_ps(EXP_P4), r, _mm512_set1_ps(EXP_P3));
    p = _mm512_fmadd_ps(p, r, _mm512_set1_ps(EXP_P2));
    p = _mm512_fmadd_ps(p, r, _mm512_set1_ps(EXP_P1));
    p = _mm512_fmadd_ps(p, r, _mm512_set1_ps(EXP_P0));
    p = _mm512_add_ps(_mm512_fmadd_ps(_mm512_mul_ps(p, r), r, r), _mm512_set1_ps(1.0f));
    __m512i power = _mm512_slli_epi32(_mm512_cvtps_epi32(n), 23);
    p = _mm512_castsi512_ps(_mm512_add_epi32(_mm512_castps_si512(p), power));
    __mmask16 not_under = _mm512_cmp_ps_mask(x, _mm512_set1_ps(EXP_UNDERFLOW), _CMP_NLT_UQ);
    return _mm512_maskz_mov_ps(not_under, p);
}

/* Rows of 16 floats into columns, in place: pairs of rows, pairs of those, then quarters. */
ALWAYS_INLINE void v_transpose(vf r[16])
{
    __m512 a[16], b[16];
    TIMES(i, 8)
    {
        a[2 * i] = _mm512_unpacklo_ps(r[2 * i], r[2 * i + 1]);
        a[2 * i + 1] = _mm512_unpackhi_ps(r[2 * i], r[2 * i + 1]);
    }
    TIMES(i, 4)
    {
        b[4 * i] = _mm512_shuffle_ps(a[4 * i], a[4 * i + 2], 0x44);
        b[4 * i + 1] = _mm512_shuffle_ps(a[4 * i], a[4 * i + 2], 0xEE);
        b[4 * i + 2] = _mm512_shuffle_ps(a[4 * i + 1], a[4 * i + 3], 0x44);
        b[4 * i + 3] = _mm512_shuffle_ps(a[4 * i + 1], a[4 * i + 3], 0xEE);
    }
    TIMES(i, 4) /* b[4 j + i] holds columns i, i + 4, i + 8, i + 12 of rows 4 j..4 j + 3 */
    {
        __m512 low = _mm512_shuffle_f32x4(b[i], b[i + 4], 0x88);
        __m512 high = _mm512_shuffle_f32x4(b[i + 8], b[i + 12], 0x88);
        r[i] = _mm512_shuffle_f32x4(low, high, 0x88);
        r[i + 8] = _mm512_shuffle_f32x4(low, high, 0xDD);
        low = _mm512_shuffle_f32x4(b[i], b[i + 4], 0xDD);
        high = _mm512_shuffle_f32x4(b[i + 8], b[i + 12], 0xDD);
        r[i + 4] = _mm512_shuffle_f32x4(low, high, 0x88);
        r[i + 12] = _mm512_shuffle_f32x4(low, high, 0xDD);
    }
}

/* ---- what attention_pairs_body.h asks for: VF halves --------------------------------------- */

#define ATTENTION_PAIRS 1

typedef __m256i vh;

ALWAYS_INLINE vh vh_load(const uint8_t *p)
{
    return _mm256_loadu_si256((const __m256i *)p);
}

ALWAYS_INLINE vf vh_floats(vh v)
{
    return _mm512_cvtph_ps(v);
}

/* In each 128 bits: four rows of four pairs into columns, in place. */
ALWAYS_INLINE void vh_pairs_of_four(vh v[4])
{
    __m256i a = _mm256_unpacklo_epi32(v[0], v[1]), b = _mm256_unpackhi_epi32(v[0], v[1]);
    __m256i c = _mm256_unpacklo_epi32(v[2], v[3]), d = _mm256_unpackhi_epi32(v[2], v[3]);
    v[0] = _mm256_unpacklo_epi64(a, c);
    v[1] = _mm256_unpackhi_epi64(a, c);
    v[2] = _mm256_unpacklo_epi64(b, d);
    v[3] = _mm256_unpackhi_epi64(b, d);
}

/* Elements 2 j and 2 j + 1 of each eight, four times over. */
ALWAYS_INLINE vf v_repeat_pairs(vf v, int j)
{
    const __m512i first = _mm512_setr_epi32(0, 1, 0, 1, 0, 1, 0, 1, 8, 9, 8, 9, 8, 9, 8, 9);
    return _mm512_permutexvar_ps(_mm512_add_epi32(first, _mm512_set1_epi32(2 * j)), v);
}

/* out[4 i + k] = the sum of lanes 2 k and 2 k + 1 of each eight of v[i] */
ALWAYS_INLINE void v_pair_sums(const vf v[4], float *out)
{
    const __m512i order = _mm512_setr_epi32(0, 1, 4, 5, 8, 9, 12, 13, 2, 3, 6, 7, 10, 11, 14, 15);
    vf s[2];
    TIMES(i, 2)
    {
        s[i] = _mm512_add_ps(_mm512_shuffle_f32x4(v[2 * i], v[2 * i + 1], 0x44),
                             _mm512_shuffle_f32x4(v[2 * i], v[2 * i + 1], 0xEE));
    }
    vf sum =
        _mm512_add_ps(_mm512_shuffle_ps(s[0], s[1], 0x88), _mm512_shuffle_ps(s[0], s[1], 0xDD));
    _mm512_storeu_ps(out, _mm512_permutexvar_ps(order, sum));
}

/* Into the second cache: asked for into the first, lines wait for its few buffers, and so does all else. */
ALWAYS_INLINE void prefetch(const void *p)
{
    _mm_prefetch((const char *)p, _MM_HINT_T1);
}

/* ---- what dequantize_body.h and kv_body.h ask for ---------------------------------------- */

static inline void convert_to_f16(const float *x, int64_t n, uint8_t *out)
{
    for (int64_t i = 0; i < n; i += VF) {
        __mmask16 mask = v_mask(n - i < VF ? n - i : VF);
        __m512 v = _mm512_maskz_loadu_ps(mask, x + i);
        __m256i halves = _mm512_cvtps_ph(v, _MM_FROUND_TO_NEAREST_INT);
        _mm256_mask_storeu_epi16(out + 2 * i, mask, halves);
    }
}

static inline void convert_from_f16(const uint8_t *in, int64_t n, float *x)
{
    for (int64_t i = 0; i < n; i += VF) {
        __mmask16 mask = v_mask(n - i < VF ? n - i : VF);
        __m256i halves = _mm256_maskz_loadu_epi16(mask, in + 2 * i);
        _mm512_mask_storeu_ps(x + i, mask, _mm512_cvtph_ps(halves));
    }
}

static inline void convert_from_i8(const uint8_t *in, int64_t n, float scale, float *x)
{
    for (int64_t i = 0; i < n; i += VF) {
        __mmask16 mask = v_mask(n - i < VF ? n - i : VF);
        __m512i wide = _mm512_cvtepi8_epi32(_mm_maskz_loadu_epi8(mask, in + i));
        __m512 v = _mm512_mul_ps(_mm512_set1_ps(scale), _mm512_cvtepi32_ps(wide));
        _mm512_mask_storeu_ps(x + i, mask, v);
    }
}

static inline void convert_from_bf16(const uint8_t *in, int64_t n, float *x)
{
    for (int64_t i = 0; i < n; i += VF) {
        __mmask16 mask = v_mask(n - i < VF ? n - i : VF);
        __m512i wide = _mm512_cvtepu16_epi32(_mm256_maskz_loadu_epi16(mask, in + 2 * i));
        _mm512_mask_storeu_ps(x + i, mask, _mm512_castsi512_ps(_mm512_slli_epi32(wide, 16)));
    }
}

#endif
