/* scalar_convert.h: the conversions that the shared bodies ask of a tier, for the scalar tier. */
#ifndef GRAFT_KERNELS_SCALAR_CONVERT_H
#define GRAFT_KERNELS_SCALAR_CONVERT_H

#include "kernels/kernels_internal.h"

#define LOAD_F16(p) f16_to_f32(load_u16(p))

static inline void convert_to_f16(const float *x, int64_t n, uint8_t *out)
{
    for (int64_t i = 0; i < n; i++) {
        uint16_t h = f32_to_f16(x[i]);
        memcpy(out + 2 * i, &h, sizeof h);
    }
}

static inline void convert_from_f16(const uint8_t *in, int64_t n, float *x)
{
    for (int64_t i = 0; i < n; i++)
        x[i] = f16_to_f32(load_u16(in + 2 * i));
}

static inline void convert_from_bf16(const uint8_t *in, int64_t n, float *x)
{
    for (int64_t i = 0; i < n; i++)
        x[i] = bf16_to_f32(load_u16(in + 2 * i));
}

static inline void convert_from_i8(const uint8_t *in, int64_t n, float scale, float *x)
{
    for (int64_t i = 0; i < n; i++)
        x[i] = scale * (float)(int8_t)in[i];
}

#endif
