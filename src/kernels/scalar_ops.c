/* scalar_ops.c: the scalar tier's norms, rotary embedding, activations and softmax: the
 * specification that the vector tiers are compared with.
 */
#include "kernels/expf.h"
#include "kernels/kernels_internal.h"

#include <math.h>

/* out[i] = x[i] / sqrt(mean(x²) + eps) · weight[i] */
void scalar_rmsnorm(const float *x, const float *weight, int64_t n, float eps, float *out)
{
    double sum = 0; /* squares of large activations lose digits in float */
    for (int64_t i = 0; i < n; i++)
        sum += (double)x[i] * x[i];
    float scale = (float)(1.0 / sqrt(sum / (double)n + (double)eps));
    for (int64_t i = 0; i < n; i++)
        out[i] = x[i] * scale * weight[i];
}

/* (x[i], x[i + d/2]) ← rotation by the angle of plane i */
void scalar_rope(float *x, const float *cos, const float *sin, int d_head)
{
    int half = d_head / 2;
    for (int i = 0; i < half; i++) {
        float a = x[i], b = x[i + half];
        x[i] = a * cos[i] - b * sin[i];
        x[i + half] = b * cos[i] + a * sin[i];
    }
}

/* (x[2i], x[2i+1]) ← rotation by the angle of plane i */
void scalar_rope_interleaved(float *x, const float *cos, const float *sin, int d_head)
{
    for (int i = 0; i < d_head / 2; i++) {
        float a = x[2 * i], b = x[2 * i + 1];
        x[2 * i] = a * cos[i] - b * sin[i];
        x[2 * i + 1] = b * cos[i] + a * sin[i];
    }
}

/* out[i] = gate[i] / (1 + exp(−gate[i])) · up[i] */
void scalar_silu_mul(const float *gate, const float *up, int64_t n, float *out)
{
    for (int64_t i = 0; i < n; i++)
        out[i] = gate[i] / (1.0f + kernel_expf(-gate[i])) * up[i];
}

void scalar_add(float *x, const float *y, int64_t n)
{
    for (int64_t i = 0; i < n; i++)
        x[i] += y[i];
}

void scalar_mul(float *x, const float *y, int64_t n)
{
    for (int64_t i = 0; i < n; i++)
        x[i] *= y[i];
}

/* factor[i] += weight · (gain[i] − 1) */
void scalar_gain_add(float *factor, const float *gain, float weight, int64_t n)
{
    for (int64_t i = 0; i < n; i++)
        factor[i] += weight * (gain[i] - 1.0f);
}

double scalar_softmax(float *x, int64_t n)
{
    float largest = -INFINITY;
    for (int64_t i = 0; i < n; i++)
        largest = x[i] > largest || isnan(x[i]) ? x[i] : largest; /* a NaN that is met stays */
    double sum = 0;
    for (int64_t i = 0; i < n; i++) {
        x[i] = kernel_expf(x[i] - largest);
        sum += x[i];
    }
    for (int64_t i = 0; i < n; i++)
        x[i] = (float)(x[i] / sum);
    return isnan(sum) ? sum : largest + kernel_log(sum);
}
