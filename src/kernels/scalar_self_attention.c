/* scalar_self_attention.c: the scalar tier's attention of training, forward and backward: one query after the other,
 * with all that it sees. The specification that the vector tiers are compared with.
 *
 * With s_j = scale · q · k_j, p_j = exp(s_j − lse) and out = Σ p_j · v_j, a loss says of the score
 *   ds_j = p_j · (dout · v_j − dout · out),
 * and dq = scale · Σ_j ds_j · k_j; dk_j and dv_j collect scale · ds_j · q and p_j · dout from all queries, in order of
 * tokens, then of heads.
 */
#include "kernels/expf.h"
#include "kernels/kernels_internal.h"

#include <math.h>

static float dot(const float *x, const float *y, int n)
{
    float sum = 0;
    for (int i = 0; i < n; i++)
        sum += x[i] * y[i];
    return sum;
}

/* y += f · x */
static void add_scaled(float *y, float f, const float *x, int n)
{
    for (int i = 0; i < n; i++)
        y[i] += f * x[i];
}

static int first_seen(const struct self_attention_args *a, int token)
{
    return a->window && token >= a->window ? (int)(token - a->window + 1) : 0;
}

void scalar_self_attention(const struct self_attention_args *a)
{
    for (int t = 0; t < a->n_tok; t++)
        for (int h = 0; h < a->n_group; h++) {
            const float *q = a->q + t * a->q_stride + h * a->d_head;
            float *out = a->out + t * a->out_stride + h * a->d_head, *weights = a->scratch;
            float largest = -INFINITY, sum = 0;
            const int first = first_seen(a, t);
            for (int j = first; j <= t; j++) {
                weights[j] = dot(q, a->k + j * a->kv_stride, a->d_head) * a->scale;
                largest = weights[j] > largest ? weights[j] : largest;
            }
            memset(out, 0, (size_t)a->d_head * sizeof *out);
            for (int j = first; j <= t; j++) {
                float weight = kernel_expf(weights[j] - largest);
                sum += weight;
                add_scaled(out, weight, a->v + j * a->kv_stride, a->d_head);
            }
            for (int i = 0; i < a->d_head; i++)
                out[i] /= sum;
            a->lse[t * a->lse_stride + h] =
                isnan(sum)
                    ? sum
                    : largest + (float)kernel_log(sum); /* a logarithm of a positive number */
        }
}

void scalar_self_attention_backward(const struct self_attention_args *a)
{
    for (int t = 0; t < a->n_tok; t++) {
        memset(a->dq + t * a->q_stride, 0, (size_t)(a->n_group * a->d_head) * sizeof *a->dq);
        memset(a->dk + t * a->kv_stride, 0, (size_t)a->d_head * sizeof *a->dk);
        memset(a->dv + t * a->kv_stride, 0, (size_t)a->d_head * sizeof *a->dv);
    }
    for (int t = 0; t < a->n_tok; t++)
        for (int h = 0; h < a->n_group; h++) {
            const float *q = a->q + t * a->q_stride + h * a->d_head;
            const float *dout = a->dout + t * a->out_stride + h * a->d_head;
            float *dq = a->dq + t * a->q_stride + h * a->d_head;
            const float lse = a->lse[t * a->lse_stride + h];
            const float along = dot(dout, a->out + t * a->out_stride + h * a->d_head, a->d_head);
            for (int j = first_seen(a, t); j <= t; j++) {
                const float *k = a->k + j * a->kv_stride, *v = a->v + j * a->kv_stride;
                float weight = kernel_expf(dot(q, k, a->d_head) * a->scale - lse);
                float ds = weight * (dot(dout, v, a->d_head) - along) * a->scale;
                add_scaled(dq, ds, k, a->d_head);
                add_scaled(a->dk + j * a->kv_stride, ds, q, a->d_head);
                add_scaled(a->dv + j * a->kv_stride, weight, dout, a->d_head);
            }
        }
}
