/* quantize_mlx.c: rows into MLX's affine groups, w = scale · q + bias with q of 4 or 8 bits.
 *
 * Scale and bias come from the extremes of a group and are rounded to half precision first, so that codes are chosen
 * for the values that a reader will have.
 */
#include "kernels/quantize_internal.h"

#include <math.h>

static void group_row(const float *x, int n, int levels, uint8_t *scale_out, uint8_t *bias_out,
                      uint8_t *q)
{
    float low = x[0], high = x[0];
    for (int j = 1; j < n; j++) {
        low = x[j] < low ? x[j] : low;
        high = x[j] > high ? x[j] : high;
    }
    uint16_t bias = f32_to_f16(low), scale = f32_to_f16((high - low) / (float)levels);
    memcpy(scale_out, &scale, sizeof scale);
    memcpy(bias_out, &bias, sizeof bias);
    float m = f16_to_f32(bias), d = f16_to_f32(scale), inverse = d > 0 ? 1 / d : 0;
    for (int j = 0; j < n; j++) {
        float code = roundf((x[j] - m) * inverse);
        q[j] = (uint8_t)(code < 0 ? 0 : code > (float)levels ? (float)levels : code);
    }
}

bool quantize_mlx(const struct matrix *to, int64_t row, int64_t first, int64_t n, const float *x)
{
    bool four = to->type == GRAFT_TYPE_MLX4;
    int group = to->group;
    uint8_t q[128];
    for (int64_t k = 0; k < n; k++)
        if (!(fabsf(x[k]) <= 32752.0f)) /* the widest group still has a scale */
            return false;
    for (int64_t k = 0; k < n; k += group) {
        int64_t at = (row * to->n_in + first + k) / group;
        uint8_t *words = (uint8_t *)(uintptr_t)to->data + (size_t)row * to->row_bytes;
        group_row(x + k, group, four ? 15 : 255, (uint8_t *)(uintptr_t)to->scales + 2 * at,
                  (uint8_t *)(uintptr_t)to->biases + 2 * at, q);
        for (int j = 0; j < group && !four; j++)
            words[first + k + j] = q[j];
        for (int j = 0; j < group && four; j += 2)
            words[(first + k + j) / 2] = (uint8_t)(q[j] | q[j + 1] << 4);
    }
    return true;
}
