/* neon_vec.h: the vector words of the aarch64 tiers, in which the shared bodies (../..._body.h) are
 * written; the same words as ../x86/avx2_vec.h, half as wide. They are of the baseline processor, so
 * that every aarch64 tier uses the same float arithmetic.
 *
 * vf is VF floats. Loads and stores allow any alignment; v_*_n touch only the first n < VF elements
 * and read the others as 0. v_sum and v_sums add lanes in one fixed order, the same for both.
 */
#ifndef GRAFT_KERNELS_NEON_VEC_H
#define GRAFT_KERNELS_NEON_VEC_H

#include "kernels/expf.h"
#include "kernels/kernels_internal.h"

#include <arm_neon.h>

#define ALWAYS_INLINE static inline __attribute__((always_inline))
/* A loop over a tile: its bounds are constants once it is inlined, and what it indexes lives in
 * registers only if it is unrolled. clang does so by itself. */
#if defined(__clang__)
#define TIMES(i, n) for (int i = 0; i < (n); i++)
#else
#define TIMES(i, n) _Pragma("GCC unroll 32") for (int i = 0; i < (n); i++)
#endif

ALWAYS_INLINE float load_half(const uint8_t *p)
{
    __fp16 h;
    memcpy(&h, p, sizeof h);
    return (float)h;
}
#define LOAD_F16(p) load_half(p)

typedef float32x4_t vf;
enum { VF = 4 };

ALWAYS_INLINE vf v_zero(void)
{
    return vdupq_n_f32(0);
}

ALWAYS_INLINE vf v_set1(float f)
{
    return vdupq_n_f32(f);
}

ALWAYS_INLINE vf v_load(const float *p)
{
    return vld1q_f32(p);
}

ALWAYS_INLINE void v_store(float *p, vf v)
{
    vst1q_f32(p, v);
}

ALWAYS_INLINE vf v_load_n(const float *p, int64_t n)
{
    vf v = v_zero();
    if (n == 1)
        return vld1q_lane_f32(p, v, 0);
    if (n >= 2)
        v = vcombine_f32(vld1_f32(p), vdup_n_f32(0));
    return n == 3 ? vld1q_lane_f32(p + 2, v, 2) : v;
}

ALWAYS_INLINE void v_store_n(float *p, vf v, int64_t n)
{
    if (n >= 2)
        vst1_f32(p, vget_low_f32(v));
    if (n == 1)
        vst1q_lane_f32(p, v, 0);
    else if (n == 3)
        vst1q_lane_f32(p + 2, v, 2);
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
    return vaddq_f32(a, b);
}

ALWAYS_INLINE vf v_sub(vf a, vf b)
{
    return vsubq_f32(a, b);
}

ALWAYS_INLINE vf v_mul(vf a, vf b)
{
    return vmulq_f32(a, b);
}

ALWAYS_INLINE vf v_div(vf a, vf b)
{
    return vdivq_f32(a, b);
}

ALWAYS_INLINE vf v_sqrt(vf a)
{
    return vsqrtq_f32(a);
}

/* Of a number and a NaN the number, as elsewhere one of the two is lost. */
ALWAYS_INLINE vf v_max(vf a, vf b)
{
    return vmaxnmq_f32(a, b);
}

/* a · b + c, rounded once */
ALWAYS_INLINE vf v_fma(vf a, vf b, vf c)
{
    return vfmaq_f32(c, a, b);
}

ALWAYS_INLINE vf v_load_f16(const uint8_t *p)
{
    return vcvt_f32_f16(vreinterpret_f16_u8(vld1_u8(p)));
}

ALWAYS_INLINE vf v_load_bf16(const uint8_t *p)
{
    return vreinterpretq_f32_u32(vshll_n_u16(vreinterpret_u16_u8(vld1_u8(p)), 16));
}

/* int8 to float */
ALWAYS_INLINE vf v_load_i8(const uint8_t *p)
{
    int8x8_t bytes = vreinterpret_s8_u32(vdup_n_u32(load_u32(p)));
    return vcvtq_f32_s32(vmovl_s16(vget_low_s16(vmovl_s8(bytes))));
}

/* d · (code − 8) of VF codes of Q4_0, in the low or the high nibbles of VF bytes; rounded once. */
ALWAYS_INLINE vf v_q4_scale(float d)
{
    return v_set1(d);
}

ALWAYS_INLINE vf v_load_q4(const uint8_t *p, bool high, vf scale)
{
    uint8x8_t bytes = vreinterpret_u8_u32(vdup_n_u32(load_u32(p)));
    bytes = high ? vshr_n_u8(bytes, 4) : vand_u8(bytes, vdup_n_u8(15));
    vf codes = vcvtq_f32_u32(vmovl_u16(vget_low_u16(vmovl_u8(bytes))));
    return v_fma(scale, codes, v_mul(scale, v_set1(-8)));
}

ALWAYS_INLINE void v_store_f16(uint8_t *p, vf v)
{
    vst1_u8(p, vreinterpret_u8_f16(vcvt_f16_f32(v)));
}

/* To nearest even: the bits of f32_to_bf16. */
ALWAYS_INLINE void v_store_bf16(uint16_t *p, vf v)
{
    uint32x4_t bits = vreinterpretq_u32_f32(v), high = vshrq_n_u32(bits, 16);
    uint32x4_t odd = vandq_u32(high, vdupq_n_u32(1));
    uint32x4_t even = vaddq_u32(vaddq_u32(bits, vdupq_n_u32(0x7FFF)), odd);
    uint32x4_t quiet = vorrq_u32(high, vdupq_n_u32(0x40));
    vst1_u16(p, vmovn_u32(vbslq_u32(vceqq_f32(v, v), vshrq_n_u32(even, 16), quiet)));
}

/* (0 + 1) + (2 + 3) */
ALWAYS_INLINE float v_sum(vf v)
{
    vf pairs = vpaddq_f32(v, v);
    return vgetq_lane_f32(vpaddq_f32(pairs, pairs), 0);
}

/* out[i] = v_sum(v[i]) for 8 vectors */
ALWAYS_INLINE void v_sums(const vf v[8], float *out)
{
    vst1q_f32(out, vpaddq_f32(vpaddq_f32(v[0], v[1]), vpaddq_f32(v[2], v[3])));
    vst1q_f32(out + 4, vpaddq_f32(vpaddq_f32(v[4], v[5]), vpaddq_f32(v[6], v[7])));
}

ALWAYS_INLINE float v_largest(vf v)
{
    return vmaxnmvq_f32(v);
}

/* Sums in double, VF lanes. */
typedef struct {
    float64x2_t low, high;
} vd;

ALWAYS_INLINE vd vd_zero(void)
{
    return (vd){vdupq_n_f64(0), vdupq_n_f64(0)};
}

/* sum + a · b, the product exact in double */
ALWAYS_INLINE vd vd_fma(vf a, vf b, vd sum)
{
    float64x2_t al = vcvt_f64_f32(vget_low_f32(a)), ah = vcvt_high_f64_f32(a);
    float64x2_t bl = vcvt_f64_f32(vget_low_f32(b)), bh = vcvt_high_f64_f32(b);
    return (vd){vfmaq_f64(sum.low, al, bl), vfmaq_f64(sum.high, ah, bh)};
}

ALWAYS_INLINE double vd_sum(vd v)
{
    return vpaddd_f64(vaddq_f64(v.low, v.high));
}

/* exp(r) of expf.h, with x = n · ln 2 + r; n is an integer in a float. */
ALWAYS_INLINE vf v_exp_rest(vf x, vf *n)
{
    const vf round = v_set1(EXP_ROUND);
    *n = v_sub(v_fma(x, v_set1(EXP_LOG2E), round), round);
    vf r = vfmsq_f32(x, *n, v_set1(EXP_LN2_HIGH));
    r = vfmsq_f32(r, *n, v_set1(EXP_LN2_LOW));
    vf p = v_fma(v_set1(EXP_P4), r, v_set1(EXP_P3));
    p = v_fma(p, r, v_set1(EXP_P2));
    p = v_fma(p, r, v_set1(EXP_P1));
    p = v_fma(p, r, v_set1(EXP_P0));
    return v_add(v_fma(v_mul(p, r), r, r), v_set1(1.0f));
}

/* 0 where x is below the normal range, else p. */
ALWAYS_INLINE vf v_exp_flush(vf x, vf p)
{
    uint32x4_t under = vcltq_f32(x, v_set1(EXP_UNDERFLOW));
    return vreinterpretq_f32_u32(vbicq_u32(vreinterpretq_u32_f32(p), under));
}

/* The steps of expf.h; half of the exponent at a time, since 2^128 is no float. */
ALWAYS_INLINE vf v_exp(vf x)
{
    vf n, p = v_exp_rest(x, &n);
    int32x4_t i = vcvtnq_s32_f32(n), half = vshrq_n_s32(i, 1), bias = vdupq_n_s32(127);
    int32x4_t low = vshlq_n_s32(vaddq_s32(half, bias), 23);
    int32x4_t high = vshlq_n_s32(vaddq_s32(vsubq_s32(i, half), bias), 23);
    p = v_mul(v_mul(p, vreinterpretq_f32_s32(low)), vreinterpretq_f32_s32(high));
    p = vbslq_f32(vcgtq_f32(x, v_set1(EXP_OVERFLOW)), v_set1(INFINITY), p);
    return v_exp_flush(x, p);
}

/* exp of x ≤ 0, or of a NaN: fewer steps, since no power of two leaves the range of floats. */
ALWAYS_INLINE vf v_exp_down(vf x)
{
    vf n, p = v_exp_rest(x, &n);
    int32x4_t power = vshlq_n_s32(vcvtnq_s32_f32(n), 23); /* 0 where x is a NaN */
    p = vreinterpretq_f32_s32(vaddq_s32(vreinterpretq_s32_f32(p), power));
    return v_exp_flush(x, p);
}

/* Rows of 4 floats into columns, in place. */
ALWAYS_INLINE void v_transpose(vf r[4])
{
    float32x4x2_t a = vzipq_f32(r[0], r[2]), b = vzipq_f32(r[1], r[3]);
    float32x4x2_t low = vzipq_f32(a.val[0], b.val[0]), high = vzipq_f32(a.val[1], b.val[1]);
    r[0] = low.val[0];
    r[1] = low.val[1];
    r[2] = high.val[0];
    r[3] = high.val[1];
}

#define ATTENTION_PAIRS 0 /* no words for attention_pairs_body.h */

/* Into the second cache: asked for into the first, lines wait for its few buffers, and so does all else. */
ALWAYS_INLINE void prefetch(const void *p)
{
    __builtin_prefetch(p, 0, 2);
}

/* ---- what dequantize_body.h and kv_body.h ask for ---------------------------------------- */

static inline void convert_to_f16(const float *x, int64_t n, uint8_t *out)
{
    int64_t i = 0;
    for (; i + VF <= n; i += VF)
        v_store_f16(out + 2 * i, v_load(x + i));
    for (; i < n; i++) {
        __fp16 h = (__fp16)x[i];
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
