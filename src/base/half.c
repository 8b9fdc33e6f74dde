/* half.c: 16-bit floats to 32-bit ones and back, in integer arithmetic.
 *
 * Integer, so that results depend neither on the processor's instructions nor on its
 * flush-denormals mode. Rounding is to nearest, ties to even.
 */
#include "base_internal.h"

static float from_bits(uint32_t bits)
{
    float f;
    memcpy(&f, &bits, sizeof(f));
    return f;
}

static uint32_t to_bits(float f)
{
    uint32_t bits;
    memcpy(&bits, &f, sizeof(bits));
    return bits;
}

float f16_to_f32(uint16_t h)
{
    uint32_t sign = (uint32_t)(h & 0x8000) << 16;
    uint32_t exponent = h >> 10 & 0x1F, mantissa = h & 0x3FF;
    if (exponent == 0x1F)
        return from_bits(sign | 0x7F800000u | mantissa << 13);
    if (!exponent) {
        if (!mantissa)
            return from_bits(sign);
        /* A denormal: its leading one becomes the hidden bit. */
        int shift = __builtin_clz(mantissa) - 21;
        exponent = (uint32_t)(1 - shift);
        mantissa = mantissa << shift & 0x3FF;
    }
    return from_bits(sign | (exponent + 112) << 23 | mantissa << 13);
}

/* value / 2^shift, to nearest even. */
static uint32_t shift_round(uint32_t value, int shift)
{
    uint32_t kept = value >> shift, rest = value & ((1u << shift) - 1), half = 1u << (shift - 1);
    return kept + (rest > half || (rest == half && (kept & 1)));
}

uint16_t f32_to_f16(float f)
{
    uint32_t bits = to_bits(f), sign = bits >> 16 & 0x8000;
    uint32_t magnitude = bits & 0x7FFFFFFFu;
    if (magnitude > 0x7F800000u) /* NaN: quiet, with what fits of its payload */
        return (uint16_t)(sign | 0x7E00 | (magnitude >> 13 & 0x3FF));
    if (magnitude >= 0x47800000u) /* 65536 and above, infinity */
        return (uint16_t)(sign | 0x7C00);
    if (magnitude >= 0x38800000u) /* normal; a carry may reach infinity, which is right */
        return (uint16_t)(sign | shift_round(magnitude - 0x38000000u, 13));
    if (magnitude < 0x33000000u) /* below half of the smallest denormal */
        return (uint16_t)sign;
    uint32_t mantissa = (magnitude & 0x7FFFFFu) | 0x800000u;
    return (uint16_t)(sign | shift_round(mantissa, 126 - (int)(magnitude >> 23)));
}

uint16_t f32_to_bf16(float f)
{
    uint32_t bits = to_bits(f);
    if ((bits & 0x7FFFFFFFu) > 0x7F800000u)
        return (uint16_t)(bits >> 16 | 0x40);
    return (uint16_t)((bits + 0x7FFF + (bits >> 16 & 1)) >> 16);
}
