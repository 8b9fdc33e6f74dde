/* scalar_attention.c: the scalar tier's attention.
 *
 * Attention is the online softmax: a running maximum m, a running sum l and a running output, which
 * are rescaled whenever a block of keys raises the maximum. A block is KV_BLOCK absolute positions,
 * so what is added up together does not depend on how many rows are computed at once. The two roles
 * are the same here.
 */
#include "kernels/attention_internal.h"
#include "kernels/expf.h"

#include <math.h>

/* A query with its state. */
struct scalar_query {
    const float *q;
    float *out, *m, *l;
};

static const uint8_t *kv_row(const void *block, size_t position, size_t bytes)
{
    return (const uint8_t *)block + position * bytes;
}

/* weights[j] = exp(q · k_j · scale − m) for j in the span, with m, l and out brought up to date. */
static void scalar_weigh(const struct attention_args *a, const struct scalar_query *x,
                         const void *keys, struct attention_span span, float *weights, float *row)
{
    size_t bytes = kv_head_bytes(a->k_type, a->d_head);
    float m = *x->m, sum = 0;
    for (int j = span.begin; j < span.end; j++) {
        float dot = 0;
        scalar_kernels.kv_load[a->k_type](kv_row(keys, (size_t)j, bytes), a->d_head, row);
        for (int i = 0; i < a->d_head; i++)
            dot += x->q[i] * row[i];
        weights[j] = dot * a->scale;
        m = weights[j] > m ? weights[j] : m;
    }
    for (int j = span.begin; j < span.end; j++) {
        weights[j] = kernel_expf(weights[j] - m);
        sum += weights[j];
    }
    float shrink = kernel_expf(*x->m - m); /* 0 at the first block */
    *x->m = m;
    *x->l = *x->l * shrink + sum;
    for (int i = 0; i < a->d_head; i++)
        x->out[i] *= shrink;
}

/* out += Σ_j weights[j] · v_j */
static void scalar_mix_values(const struct attention_args *a, const struct scalar_query *x,
                              const void *values, struct attention_span span, const float *weights,
                              float *row)
{
    size_t bytes = kv_head_bytes(a->v_type, a->d_head);
    for (int j = span.begin; j < span.end; j++) {
        scalar_kernels.kv_load[a->v_type](kv_row(values, (size_t)j, bytes), a->d_head, row);
        for (int i = 0; i < a->d_head; i++)
            x->out[i] += weights[j] * row[i];
    }
}

static void scalar_attend(const struct attention_args *a)
{
    int64_t first, last;
    attention_start(a);
    attention_blocks(a, &first, &last);
    for (int64_t block = first; block < last; block++)
        for (int query = 0; query < a->n_row * a->n_group; query++) {
            int r = query / a->n_group, h = query % a->n_group;
            struct attention_span span = attention_visible(a, block, r);
            struct scalar_query x = {.q = a->q + r * a->q_stride + (int64_t)h * a->d_head,
                                     .out = a->out + r * a->out_stride + (int64_t)h * a->d_head,
                                     .m = a->m + query,
                                     .l = a->l + query};
            if (span.begin >= span.end)
                continue;
            float *weights = a->scratch, *row = a->scratch + KV_BLOCK;
            scalar_weigh(a, &x, a->k_blocks[block], span, weights, row);
            scalar_mix_values(a, &x, a->v_blocks[block], span, weights, row);
        }
}

void scalar_attention_decode(const struct attention_args *a)
{
    scalar_attend(a);
}

void scalar_attention_prefill(const struct attention_args *a)
{
    scalar_attend(a);
}

void scalar_attention_join(const struct attention_args *total, const struct attention_args *part)
{
    for (int query = 0; query < total->n_row * total->n_group; query++) {
        int r = query / total->n_group, h = query % total->n_group;
        float *out = total->out + r * total->out_stride + (int64_t)h * total->d_head;
        const float *more = part->out + r * part->out_stride + (int64_t)h * total->d_head;
        float m = total->m[query], n = part->m[query], top = n > m ? n : m;
        float keep = kernel_expf(m - top), take = kernel_expf(n - top);
        if (part->l[query] == 0)
            continue;
        if (total->l[query] == 0) { /* 0 · out may not be 0 */
            keep = 0;
            memset(out, 0, (size_t)total->d_head * sizeof *out);
        }
        for (int i = 0; i < total->d_head; i++)
            out[i] = out[i] * keep + more[i] * take;
        total->m[query] = top;
        total->l[query] = total->l[query] * keep + part->l[query] * take;
    }
}

void scalar_attention_finish(const struct attention_args *a)
{
    for (int query = 0; query < a->n_row * a->n_group; query++) {
        int r = query / a->n_group, h = query % a->n_group;
        float *out = a->out + r * a->out_stride + (int64_t)h * a->d_head;
        for (int i = 0; a->l[query] != 0 && i < a->d_head; i++)
            out[i] /= a->l[query];
    }
}
