/* avx2_vec.h: the vector words of the AVX2 tier, in which the shared bodies (../..._body.h) are
 * written. Another tier provides the same words with its own width.
 *
 * vf is VF floats. Loads and stores allow any alignment; v_*_n touch only the first n < VF elements
 * and read the others as 0. v_sum and v_sums add lanes in one fixed order, the same for both.
 */
#ifndef GRAFT_KERNELS_AVX2_VEC_H
#define GRAFT_KERNELS_AVX2_VEC_H

#include "kernels/expf.h"
#include "kernels/kernels_internal.h"

#include <immintrin.h>

/* Not _cvtsh_ss: gcc makes that an insertion into whatever a register held, a chain from one block to
 * the next. */
#define LOAD_F16(p) _mm_cvtss_f32(_mm_cvtph_ps(_mm_cvtsi32_si128(load_u16(p))))

#define ALWAYS_INLINE static inline __attribute__((always_inline))
/* A loop over a tile: its bounds are constants once it is inlined, and what it indexes lives in
 * registers only if it is unrolled. clang does so by itself. */
#if defined(__clang__)
#define TIMES(i, n) for (int i = 0; i < (n); i++)
#else
#define TIMES(i, n) _Pragma("GCC unroll 32") for (int i = 0; i < (n); i++)
#endif

typedef __m256 vf;
enum { VF = 8 };

ALWAYS_INLINE vf v_zero(void)
{
    return _mm256_setzero_ps();
}

ALWAYS_INLINE vf v_set1(float f)
{
    return _mm256_set1_ps(f);
}

ALWAYS_INLINE vf v_load(const float *p)
{
    return _mm256_loadu_ps(p);
}

ALWAYS_INLINE void v_store(float *p, vf v)
{
    _mm256_storeu_ps(p, v);
}

/* All ones in the first n lanes. */
ALWAYS_INLINE __m256i v_mask(int64_t n)
{
    return _mm256_cmpgt_epi32(_mm256_set1_epi32((int)n), _mm256_setr_epi32(0, 1, 2, 3, 4, 5, 6, 7));
}

ALWAYS_INLINE vf v_load_n(const float *p, int64_t n)
{
    return _mm256_maskload_ps(p, v_mask(n));
}

ALWAYS_INLINE void v_store_n(float *p, vf v, int64_t n)
{
    _mm256_maskstore_ps(p, v_mask(n), v);
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
    return _mm256_add_ps(a, b);
}

ALWAYS_INLINE vf v_sub(vf a, vf b)
{
    return _mm256_sub_ps(a, b);
}

ALWAYS_INLINE vf v_mul(vf a, vf b)
{
    return _mm256_mul_ps(a, b);
}

ALWAYS_INLINE vf v_div(vf a, vf b)
{
    return _mm256_div_ps(a, b);
}

ALWAYS_INLINE vf v_sqrt(vf a)
{
    return _mm256_sqrt_ps(a);
}

ALWAYS_INLINE vf v_max(vf a, vf b)
{
    return _mm256_max_ps(a, b);
}

/* a · b + c, rounded once */
ALWAYS_INLINE vf v_fma(vf a, vf b, vf c)
{
    return _mm256_fmadd_ps(a, b, c);
}

ALWAYS_INLINE vf v_load_f16(const uint8_t *p)
{
    return _mm256_cvtph_ps(_mm_loadu_si128((const __m128i *)p));
}

ALWAYS_INLINE vf v_load_bf16(const uint8_t *p)
{
    __m256i wide = _mm256_cvtepu16_epi32(_mm_loadu_si128((const __m128i *)p));
    return _mm256_castsi256_ps(_mm256_slli_epi32(wide, 16));
}

/* int8 to float */
ALWAYS_INLINE vf v_load_i8(const uint8_t *p)
{
    return _mm256_cvtepi32_ps(_mm256_cvtepi8_epi32(_mm_loadl_epi64((const __m128i *)p)));
}

/* d · (code − 8) of VF codes of Q4_0, in the low or the high nibbles of VF bytes; rounded once. */
ALWAYS_INLINE vf v_q4_scale(float d)
{
    return v_set1(d);
}

ALWAYS_INLINE vf v_load_q4(const uint8_t *p, bool high, vf scale)
{
    __m256i wide = _mm256_cvtepu8_epi32(_mm_loadl_epi64((const __m128i *)p));
    wide = high ? _mm256_srli_epi32(wide, 4) : _mm256_and_si256(wide, _mm256_set1_epi32(15));
    return v_fma(scale, _mm256_cvtepi32_ps(wide), v_mul(scale, v_set1(-8)));
}

ALWAYS_INLINE void v_store_f16(uint8_t *p, vf v)
{
    _mm_storeu_si128((__m128i *)p, _mm256_cvtps_ph(v, _MM_FROUND_TO_NEAREST_INT));
}

/* To nearest even: the bits of f32_to_bf16. */
ALWAYS_INLINE void v_store_bf16(uint16_t *p, vf v)
{
    __m256i bits = _mm256_castps_si256(v), high = _mm256_srli_epi32(bits, 16);
    __m256i odd = _mm256_and_si256(high, _mm256_set1_epi32(1));
    __m256i even = _mm256_add_epi32(_mm256_add_epi32(bits, _mm256_set1_epi32(0x7FFF)), odd);
    __m256i quiet = _mm256_or_si256(high, _mm256_set1_epi32(0x40));
    __m256i nan = _mm256_castps_si256(_mm256_cmp_ps(v, v, _CMP_UNORD_Q));
    __m256i rounded = _mm256_blendv_epi8(_mm256_srli_epi32(even, 16), quiet, nan);
    __m256i halves = _mm256_permute4x64_epi64(_mm256_packus_epi32(rounded, rounded), 0x08);
    _mm_storeu_si128((__m128i *)p, _mm256_castsi256_si128(halves));
}

ALWAYS_INLINE float v_sum(vf v)
{
    __m128 s = _mm_add_ps(_mm256_castps256_ps128(v), _mm256_extractf128_ps(v, 1));
    s = _mm_hadd_ps(s, s);
    s = _mm_hadd_ps(s, s);
    return _mm_cvtss_f32(s);
}

/* Sums of neighbours: of a, then of b, in each half. */
ALWAYS_INLINE __m256 v_pairs(__m256 a, __m256 b)
{
    return _mm256_add_ps(_mm256_shuffle_ps(a, b, 0x88), _mm256_shuffle_ps(a, b, 0xDD));
}

/* out[i] = v_sum(v[i]) for 8 vectors: halves of two of them are added at once. */
ALWAYS_INLINE void v_sums(const vf v[8], float *out)
{
    __m256 h[4];
    TIMES(i, 4)
    {
        __m256 straight = _mm256_blend_ps(v[i], v[i + 4], 0xF0);
        h[i] = _mm256_add_ps(straight, _mm256_permute2f128_ps(v[i], v[i + 4], 0x21));
    }
    v_store(out, v_pairs(v_pairs(h[0], h[1]), v_pairs(h[2], h[3])));
}

ALWAYS_INLINE float v_largest(vf v)
{
    __m128 m = _mm_max_ps(_mm256_castps256_ps128(v), _mm256_extractf128_ps(v, 1));
    m = _mm_max_ps(m, _mm_movehl_ps(m, m));
    return _mm_cvtss_f32(_mm_max_ss(m, _mm_shuffle_ps(m, m, 1)));
}

/* Sums in double, VF lanes. */
typedef struct {
    __m256d low, high;
} vd;

ALWAYS_INLINE vd vd_zero(void)
{
    return (vd){_mm256_setzero_pd(), _mm256_setzero_pd()};
}

/* sum + a · b, the product exact in double */
ALWAYS_INLINE vd vd_fma(vf a, vf b, vd sum)
{
    __m256d al = _mm256_cvtps_pd(_mm256_castps256_ps128(a));
    __m256d ah = _mm256_cvtps_pd(_mm256_extractf128_ps(a, 1));
    __m256d bl = _mm256_cvtps_pd(_mm256_castps256_ps128(b));
    __m256d bh = _mm256_cvtps_pd(_mm256_extractf128_ps(b, 1));
    return (vd){_mm256_fmadd_pd(al, bl, sum.low), _mm256_fmadd_pd(ah, bh, sum.high)};
}

ALWAYS_INLINE double vd_sum(vd v)
{
    __m256d s = _mm256_add_pd(v.low, v.high);
    __m128d h = _mm_add_pd(_mm256_castpd256_pd128(s), _mm256_extractf128_pd(s, 1));
    return _mm_cvtsd_f64(_mm_hadd_pd(h, h));
}

/* The steps of expf.h; half of the exponent at a time, since 2^128 is no float. */
ALWAYS_INLINE vf v_exp(vf x)
{
    const __m256 round = _mm256_set1_ps(EXP_ROUND);
    __m256 n = _mm256_sub_ps(_mm256_fmadd_ps(x, _mm256_set1_ps(EXP_LOG2E), round), round);
    __m256 r = _mm256_fnmadd_ps(n, _mm256_set1_ps(EXP_LN2_HIGH), x);
    r = _mm256_fnmadd_ps(n, _mm256_set1_ps(EXP_LN2_LOW), r);
    __m256 p = _mm256_fmadd_ps(_mm256_set1_ps(EXP_P4), r, _mm256_set1_ps(EXP_P3));
    p = _mm256_fmadd_ps(p, r, _mm256_set1_ps(EXP_P2));
    p = _mm256_fmadd_ps(p, r, _mm256_set1_ps(EXP_P1));
    p = _mm256_fmadd_ps(p, r, _mm256_set1_ps(EXP_P0));
    p = _mm256_add_ps(_mm256_fmadd_ps(_mm256_mul_ps(p, r), r, r), _mm256_set1_ps(1.0f));
    __m256i i = _mm256_cvtps_epi32(n), half = _mm256_srai_epi32(i, 1),
            bias = _mm256_set1_epi32(127);
    __m256i low = _mm256_slli_epi32(_mm256_add_epi32(half, bias), 23);
    __m256i high = _mm256_slli_epi32(_mm256_add_epi32(_mm256_sub_epi32(i, half), bias), 23);
    p = _mm256_mul_ps(_mm256_mul_ps(p, _mm256_castsi256_ps(low)), _mm256_castsi256_ps(high));
    __m256 under = _mm256_cmp_ps(x, _mm256_set1_ps(EXP_UNDERFLOW), _CMP_LT_OQ);
    __m256 over = _mm256_cmp_ps(x, _mm256_set1_ps(EXP_OVERFLOW), _CMP_GT_OQ);
    p = _mm256_blendv_ps(p, _mm256_set1_ps(INFINITY), over);
    return _mm256_andnot_ps(under, p);
}

/* exp of x ≤ 0, or of a NaN: fewer steps, since no power of two leaves the range of floats. */
ALWAYS_INLINE vf v_exp_down(vf x)
{
    const __m256 round = _mm256_set1_ps(EXP_ROUND);
    __m256 n = _mm256_sub_ps(_mm256_fmadd_ps(x, _mm256_set1_ps(EXP_LOG2E), round), round);
    __m256 r = _mm256_fnmadd_ps(n, _mm256_set1_ps(EXP_LN2_HIGH), x);
    r = _mm256_fnmadd_ps(n, _mm256_set1_ps(EXP_LN2_LOW), r);
    __m256 p = _mm256_fmadd_ps(_mm256_set1_ps(EXP_P4), r, _mm256_set1_ps(EXP_P3));
    p = _mm256_fmadd_ps(p, r, _mm256_set1_ps(EXP_P2));
    p = _mm256_fmadd_ps(p, r, _mm256_set1_ps(EXP_P1));
    p = _mm256_fmadd_ps(p, r, _mm256_set1_ps(EXP_P0));
    p = _mm256_add_ps(_mm256_fmadd_ps(_mm256_mul_ps(p, r), r, r), _mm256_set1_ps(1.0f));
    __m256i power = _mm256_slli_epi32(_mm256_cvtps_epi32(n), 23); /* 0 where x is a NaN */
    p = _mm256_castsi256_ps(_mm256_add_epi32(_mm256_castps_si256(p), power));
    return _mm256_andnot_ps(_mm256_cmp_ps(x, _mm256_set1_ps(EXP_UNDERFLOW), _CMP_LT_OQ), p);
}

/* Rows of 8 floats into columns, in place. */
ALWAYS_INLINE void v_transpose(vf r[8])
{
    __m256 a[8], b[8];
    TIMES(i, 4)
    {
        a[2 * i] = _mm256_unpacklo_ps(r[2 * i], r[2 * i + 1]);
        a[2 * i + 1] = _mm256_unpackhi_ps(r[2 * i], r[2 * i + 1]);
    }
    TIMES(i, 2)
    {
        b[4 * i] = _mm256_shuffle_ps(a[4 * i], a[4 * i + 2], 0x44);
        b[4 * i + 1] = _mm256_shuffle_ps(a[4 * i], a[4 * i + 2], 0xEE);
        b[4 * i + 2] = _mm256_shuffle_ps(a[4 * i + 1], a[4 * i + 3], 0x44);
        b[4 * i + 3] = _mm256_shuffle_ps(a[4 * i + 1], a[4 * i + 3], 0xEE);
    }
    TIMES(i, 4)
    {
        r[i] = _mm256_permute2f128_ps(b[i], b[i + 4], 0x20);
        r[i + 4] = _mm256_permute2f128_ps(b[i], b[i + 4], 0x31);
    }
}

#define ATTENTION_PAIRS 0 /* with 16 registers they gain nothing */

/* Into the second cache: asked for into the first, lines wait for its few buffers, and so does all else. */
ALWAYS_INLINE void prefetch(const void *p)
{
    _mm_prefetch((const char *)p, _MM_HINT_T1);
}

/* ---- what dequantize_body.h and kv_body.h ask for ---------------------------------------- */

static inline void convert_to_f16(const float *x, int64_t n, uint8_t *out)
{
    int64_t i = 0;
    for (; i + VF <= n; i += VF)
        v_store_f16(out + 2 * i, v_load(x + i));
    for (; i < n; i++) {
        uint16_t h = _cvtss_sh(x[i], _MM_FROUND_TO_NEAREST_INT);
        memcpy(out + 2 * i, &h, sizeof h);
    }
}

static inline void convert_from_f16(const uint8_t *in, int64_t n, float *x)
{
    int64_t i = 0;
    for (; i + VF <= n; i += VF)
        v_store(x + i, v_load_f16(in + 2 * i));
    for (; i < n; i++)
        x[i] = LOAD_F16(in + 2 * i);
}

static inline void convert_from_i8(const uint8_t *in, int64_t n, float scale, float *x)
{
    int64_t i = 0;
    for (; i + VF <= n; i += VF)
        v_store(x + i, v_mul(v_set1(scale), v_load_i8(in + i)));
    for (; i < n; i++)
        x[i] = scale * (float)(int8_t)in[i];
}

static inline void convert_from_bf16(const uint8_t *in, int64_t n, float *x)
{
    int64_t i = 0;
    for (; i + VF <= n; i += VF)
        v_store(x + i, v_load_bf16(in + 2 * i));
    for (; i < n; i++)
        x[i] = bf16_to_f32(load_u16(in + 2 * i));
}

#endif
