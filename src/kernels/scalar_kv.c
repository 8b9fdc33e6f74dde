/* scalar_kv.c: the scalar tier's KV cache formats (the shared body). */
#include "kernels/kernels_internal.h"

static void convert_to_f16(const float *x, int64_t n, uint8_t *out)
{
    for (int64_t i = 0; i < n; i++) {
        uint16_t h = f32_to_f16(x[i]);
        memcpy(out + 2 * i, &h, sizeof h);
    }
}

static void convert_from_f16(const uint8_t *in, int64_t n, float *x)
{
    for (int64_t i = 0; i < n; i++)
        x[i] = f16_to_f32(load_u16(in + 2 * i));
}

static void convert_from_i8(const uint8_t *in, int64_t n, float scale, float *x)
{
    for (int64_t i = 0; i < n; i++)
        x[i] = scale * (float)(int8_t)in[i];
}

#define TIER scalar
#include "kernels/kv_body.h"
