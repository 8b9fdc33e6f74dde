/* scalar_attention.c: the scalar tier's attention.
 *
 * Attention is the online softmax: a running maximum m, a running sum l and a running output, which
 * are rescaled whenever a block of keys raises the maximum. A block is KV_BLOCK absolute positions,
 * so what is added up together does not depend on how many rows are computed at once. A key or a
 * value is loaded once for all query heads that share it.
 */
#include "kernels/expf.h"
#include "kernels/kernels_internal.h"

#include <math.h>

/* ---- attention ---------------------------------------------------------------------------- */

/* The running state, laid out in the caller's scratch. */
struct scalar_softmax_state {
    float *m, *l;   /* [n_group] */
    float *weights; /* [n_group, KV_BLOCK]: scores, then exp(score − m) */
    float *row;     /* [d_head] */
};

static const uint8_t *kv_row(const void *const *blocks, int64_t position, size_t bytes)
{
    return (const uint8_t *)blocks[position / KV_BLOCK] + (size_t)(position % KV_BLOCK) * bytes;
}

/* weights[h, j] = exp(q[h] · k_(begin + j) · scale − m), with m, l and out brought up to date. */
static void scalar_weigh(const struct kernels *k, const struct attention_args *a,
                         struct scalar_softmax_state *s, int64_t begin, int n)
{
    size_t bytes = kv_head_bytes(a->k_type, a->d_head);
    for (int j = 0; j < n; j++) {
        k->kv_load[a->k_type](kv_row(a->k_blocks, begin + j, bytes), a->d_head, s->row);
        for (int h = 0; h < a->n_group; h++) {
            float dot = 0;
            for (int i = 0; i < a->d_head; i++)
                dot += a->q[h * a->d_head + i] * s->row[i];
            s->weights[h * KV_BLOCK + j] = dot * a->scale;
        }
    }
    for (int h = 0; h < a->n_group; h++) {
        float *w = s->weights + h * KV_BLOCK, m = s->m[h], sum = 0;
        for (int j = 0; j < n; j++)
            m = w[j] > m || isnan(w[j]) ? w[j] : m;
        for (int j = 0; j < n; j++) {
            w[j] = kernel_expf(w[j] - m);
            sum += w[j];
        }
        float shrink = kernel_expf(s->m[h] - m); /* 0 at the first block: its m was −inf */
        s->m[h] = m;
        s->l[h] = s->l[h] * shrink + sum;
        for (int i = 0; i < a->d_head; i++)
            a->out[h * a->d_head + i] *= shrink;
    }
}

/* out[h] += Σ_j weights[h, j] · v_(begin + j) */
static void scalar_mix_values(const struct kernels *k, const struct attention_args *a,
                              struct scalar_softmax_state *s, int64_t begin, int n)
{
    size_t bytes = kv_head_bytes(a->v_type, a->d_head);
    for (int j = 0; j < n; j++) {
        k->kv_load[a->v_type](kv_row(a->v_blocks, begin + j, bytes), a->d_head, s->row);
        for (int h = 0; h < a->n_group; h++) {
            float weight = s->weights[h * KV_BLOCK + j];
            for (int i = 0; i < a->d_head; i++)
                a->out[h * a->d_head + i] += weight * s->row[i];
        }
    }
}

void scalar_attention(const struct kernels *k, const struct attention_args *a)
{
    float *p = a->scratch;
    struct scalar_softmax_state s = {.m = p,
                                     .l = p + a->n_group,
                                     .weights = p + 2 * a->n_group,
                                     .row = p + 2 * a->n_group + a->n_group * KV_BLOCK};
    for (int h = 0; h < a->n_group; h++) {
        s.m[h] = -INFINITY;
        s.l[h] = 0;
    }
    memset(a->out, 0, (size_t)a->n_group * (size_t)a->d_head * sizeof *a->out);
    for (int64_t begin = a->first; begin <= a->last;) {
        int64_t end = (begin / KV_BLOCK + 1) * KV_BLOCK;
        end = end < a->last + 1 ? end : a->last + 1;
        scalar_weigh(k, a, &s, begin, (int)(end - begin));
        scalar_mix_values(k, a, &s, begin, (int)(end - begin));
        begin = end;
    }
    for (int h = 0; h < a->n_group; h++)
        for (int i = 0; a->first <= a->last && i < a->d_head; i++)
            a->out[h * a->d_head + i] /= s.l[h];
}
