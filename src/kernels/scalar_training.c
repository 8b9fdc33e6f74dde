/* scalar_training.c: the scalar tier's part of training but for attention: gradients of factors, of norms and of
 * activations, the optimiser's step, saved activations. The specification that the vector tiers are compared with.
 *
 * Sums over a row that decide what happens to all of it are doubles; sums over tokens are floats, as in every
 * product.
 */
#include "kernels/expf.h"
#include "kernels/kernels_internal.h"

#include <math.h>

/* g[r, i] += Σ_t u[t, r] · x[t, i] */
void scalar_outer(const struct outer_args *a)
{
    for (int64_t r = 0; r < a->rank; r++)
        for (int t = 0; t < a->n_tok; t++) {
            const float u = a->u[t * a->u_stride + r], *x = a->x + t * a->x_stride;
            float *g = a->g + r * a->g_stride;
            for (int64_t i = a->i_begin; i < a->i_end; i++)
                g[i] += u * x[i];
        }
}

/* With s = 1 / sqrt(mean(x²) + eps): dx[i] += s · (dy[i] · weight[i] − x[i] · s² · mean(dy · weight · x)) */
void scalar_rmsnorm_backward(const float *x, const float *weight, const float *dy, int64_t n,
                             float eps, float *dx, float *dweight)
{
    double squares = 0, along = 0;
    for (int64_t i = 0; i < n; i++) {
        squares += (double)x[i] * x[i];
        along += (double)(dy[i] * weight[i]) * x[i];
    }
    double s = 1.0 / sqrt(squares / (double)n + (double)eps);
    float scale = (float)s, back = (float)(s * s * s * along / (double)n);
    for (int64_t i = 0; i < n; i++) {
        dx[i] += dy[i] * weight[i] * scale - x[i] * back;
        if (dweight)
            dweight[i] += dy[i] * x[i] * scale;
    }
}

/* With s = 1 / (1 + exp(−gate)): dgate = dout · up · s · (1 + gate · (1 − s)), dup = dout · gate · s */
void scalar_silu_mul_backward(const float *gate, const float *up, const float *dout, int64_t n,
                              float *dgate, float *dup)
{
    for (int64_t i = 0; i < n; i++) {
        float g = gate[i], d = dout[i], s = 1.0f / (1.0f + kernel_expf(-g));
        float slope = s * (1.0f + g * (1.0f - s)), u = up[i];
        dgate[i] = d * u * slope;
        dup[i] = d * (g * s);
    }
}

void scalar_scale(float *x, float s, int64_t n)
{
    for (int64_t i = 0; i < n; i++)
        x[i] *= s;
}

void scalar_bf16_store(const float *x, int64_t n, uint16_t *out)
{
    for (int64_t i = 0; i < n; i++)
        out[i] = f32_to_bf16(x[i]);
}

void scalar_bf16_load(const uint16_t *in, int64_t n, float *x)
{
    for (int64_t i = 0; i < n; i++)
        x[i] = bf16_to_f32(in[i]);
}

double scalar_sum_squares(const float *x, int64_t n)
{
    double sum = 0;
    for (int64_t i = 0; i < n; i++)
        sum += (double)x[i] * x[i];
    return sum;
}

void scalar_adamw(const struct adamw_args *a)
{
    const float beta1 = (float)a->beta1, beta2 = (float)a->beta2;
    const float rest1 = (float)(1 - a->beta1), rest2 = (float)(1 - a->beta2);
    for (int64_t i = 0; i < a->n; i++) {
        float g = a->g[i] * a->scale, p = a->p[i] - a->decay * a->p[i];
        a->m[i] = beta1 * a->m[i] + rest1 * g;
        a->v[i] = beta2 * a->v[i] + rest2 * g * g;
        a->p[i] = p - a->lr * (a->m[i] * a->correct1) / (sqrtf(a->v[i] * a->correct2) + a->eps);
    }
}
