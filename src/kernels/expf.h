/* expf.h: graft's own exponential of a float, so that results do not depend on which libm runs.
 *
 * exp(x) = 2^n · exp(r) with n = round(x / ln 2) and |r| ≤ ln 2 / 2; exp(r) = 1 + r + r² · P(r), P
 * of degree 4 fitted by Remez to a relative error of 4.4e-9. With the rounding of floats the result
 * is within 2 ulp (EXP_MAX_ULP in tests/kernels; measured 0.99). Below EXP_UNDERFLOW it is 0 (no
 * denormal results), above EXP_OVERFLOW infinity, of NaN NaN. The constants are shared with the
 * vector tiers, which use the same steps with fused multiply-adds.
 */
#ifndef GRAFT_KERNELS_EXPF_H
#define GRAFT_KERNELS_EXPF_H

#include <math.h>
#include <stdint.h>
#include <string.h>

#define EXP_OVERFLOW 88.7228317f   /* largest x with a finite result */
#define EXP_UNDERFLOW -87.3365402f /* below: less than the smallest normal float */
#define EXP_LOG2E 1.44269504f
#define EXP_LN2_HIGH 0x1.62e4p-1f /* 15 bits: n · this is exact */
#define EXP_LN2_LOW 0x1.7f7d1cp-20f
#define EXP_ROUND 0x1.8p23f /* adding and taking it away again rounds to an integer */
#define EXP_P0 0x1.fffffcp-2f
#define EXP_P1 0x1.55549p-3f
#define EXP_P2 0x1.5558f4p-5f
#define EXP_P3 0x1.123a6cp-7f
#define EXP_P4 0x1.6a2352p-10f

static inline float exp_power_of_two(int32_t n)
{
    uint32_t bits = (uint32_t)(n + 127) << 23;
    float f;
    memcpy(&f, &bits, sizeof f);
    return f;
}

static inline float kernel_expf(float x)
{
    if (!(x >= EXP_UNDERFLOW))
        return x < EXP_UNDERFLOW ? 0.0f : x;
    if (x > EXP_OVERFLOW)
        return INFINITY;
    float n = x * EXP_LOG2E + EXP_ROUND - EXP_ROUND;
    float r = x - n * EXP_LN2_HIGH - n * EXP_LN2_LOW;
    float p = ((((EXP_P4 * r + EXP_P3) * r + EXP_P2) * r + EXP_P1) * r + EXP_P0) * r * r + r + 1.0f;
    int32_t i = (int32_t)n, half = i / 2; /* in two steps: 2^128 is no float */
    return p * exp_power_of_two(half) * exp_power_of_two(i - half);
}

#endif
