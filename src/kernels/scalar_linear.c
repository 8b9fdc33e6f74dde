/* scalar_linear.c: the scalar tier's matrix products, which are the specification of all others.
 *
 * Decode: integer dot products of a block of codes with a block of activations, scaled and added in
 * float, block after block. Prefill: a piece of a row at a time is dequantised and multiplied with
 * every token. In all, each output is one chain of additions in the order of K.
 */
#include "kernels/blocks.h"
#include "kernels/panels.h"

/* ---- decode, float types: y += w · x ------------------------------------------------------ */

static float scalar_weight_f32(const uint8_t *row, int64_t k)
{
    return load_f32(row + 4 * k);
}

static float scalar_weight_f16(const uint8_t *row, int64_t k)
{
    return f16_to_f32(load_u16(row + 2 * k));
}

static float scalar_weight_bf16(const uint8_t *row, int64_t k)
{
    return bf16_to_f32(load_u16(row + 2 * k));
}

#define DECODE_FLOAT(TYPE, name)                                                                   \
    void scalar_linear_decode_##name(const struct matrix *w, const void *x, int n_tok,             \
                                     int64_t o_begin, int64_t o_end, float *y, int64_t y_stride,   \
                                     void *scratch)                                                \
    {                                                                                              \
        (void)scratch;                                                                             \
        for (int64_t o = o_begin; o < o_end; o++) {                                                \
            const uint8_t *row = (const uint8_t *)w->data + (size_t)o * w->row_bytes;              \
            for (int t = 0; t < n_tok; t++) {                                                      \
                const float *xt = (const float *)x + t * w->n_in; /* [n_in] */                     \
                float sum = 0;                                                                     \
                for (int64_t k = 0; k < w->n_in; k++)                                              \
                    sum += scalar_weight_##name(row, k) * xt[k];                                   \
                y[t * y_stride + o] = sum;                                                         \
            }                                                                                      \
        }                                                                                          \
    }
KERNEL_FLOAT_TYPES(DECODE_FLOAT)

/* ---- decode, blocks of 32: y += d · dx · Σ q·qx + m · dx · Σ qx ---------------------------- */

static float scalar_dot_32(const struct codes32 *c, const struct act_q8 *x)
{
    int32_t dot = 0;
    for (int j = 0; j < Q8_BLOCK; j++)
        dot += c->q[j] * x->q[j];
    return c->d * x->scale * (float)dot + c->m * x->sum;
}

#define DECODE_32(TYPE, name)                                                                      \
    void scalar_linear_decode_##name(const struct matrix *w, const void *x, int n_tok,             \
                                     int64_t o_begin, int64_t o_end, float *y, int64_t y_stride,   \
                                     void *scratch)                                                \
    {                                                                                              \
        (void)scratch;                                                                             \
        int64_t n_block = w->n_in / Q8_BLOCK;                                                      \
        struct codes32 c;                                                                          \
        for (int64_t o = o_begin; o < o_end; o++) {                                                \
            for (int t = 0; t < n_tok; t++)                                                        \
                y[t * y_stride + o] = 0;                                                           \
            for (int64_t b = 0; b < n_block; b++) {                                                \
                const struct act_q8 *xb = (const struct act_q8 *)x + b;                            \
                unpack_##name(w, o, b, &c);                                                        \
                for (int t = 0; t < n_tok; t++)                                                    \
                    y[t * y_stride + o] += scalar_dot_32(&c, xb + t * n_block);                    \
            }                                                                                      \
        }                                                                                          \
    }
KERNEL_Q8_TYPES(DECODE_32)

/* ---- decode, blocks of 256: y += dx · (d · Σ scale·Σ q·qx − dmin · Σ min·Σ qx) ------------ */

static float scalar_dot_256(const struct codes256 *c, const struct act_q8k *x)
{
    int32_t dot = 0, offset = 0;
    for (int s = 0; s < 16; s++) {
        int32_t part = 0;
        for (int j = 16 * s; j < 16 * s + 16; j++)
            part += c->q[j] * x->q[j];
        dot += part * c->scale[s];
        offset += x->sums[s] * c->min[s];
    }
    return x->scale * (c->d * (float)dot - c->dmin * (float)offset);
}

#define DECODE_256(TYPE, name)                                                                     \
    void scalar_linear_decode_##name(const struct matrix *w, const void *x, int n_tok,             \
                                     int64_t o_begin, int64_t o_end, float *y, int64_t y_stride,   \
                                     void *scratch)                                                \
    {                                                                                              \
        (void)scratch;                                                                             \
        int64_t n_block = w->n_in / Q8K_BLOCK;                                                     \
        struct codes256 c;                                                                         \
        for (int64_t o = o_begin; o < o_end; o++) {                                                \
            for (int t = 0; t < n_tok; t++)                                                        \
                y[t * y_stride + o] = 0;                                                           \
            for (int64_t b = 0; b < n_block; b++) {                                                \
                const struct act_q8k *xb = (const struct act_q8k *)x + b;                          \
                unpack_##name(w, o, b, &c);                                                        \
                for (int t = 0; t < n_tok; t++)                                                    \
                    y[t * y_stride + o] += scalar_dot_256(&c, xb + t * n_block);                   \
            }                                                                                      \
        }                                                                                          \
    }
KERNEL_Q8K_TYPES(DECODE_256)

/* ---- prefill ------------------------------------------------------------------------------ */

void scalar_linear_prefill(const struct kernels *k, const struct matrix *w, const float *x,
                           int n_tok, int64_t o_begin, int64_t o_end, float *y, int64_t y_stride,
                           void *scratch)
{
    float *panel = align_scratch(scratch); /* [PREFILL_CHUNK] */
    for (int64_t o = o_begin; o < o_end; o++) {
        for (int t = 0; t < n_tok; t++)
            y[t * y_stride + o] = 0;
        for (int64_t first = 0; first < w->n_in; first += PREFILL_CHUNK) {
            int64_t left = w->n_in - first, n = left < PREFILL_CHUNK ? left : PREFILL_CHUNK;
            k->dequantize[w->type](w, o, first, n, panel);
            for (int t = 0; t < n_tok; t++) {
                const float *xt = x + t * w->n_in + first; /* [n] */
                float sum = y[t * y_stride + o];
                for (int64_t j = 0; j < n; j++)
                    sum += panel[j] * xt[j];
                y[t * y_stride + o] = sum;
            }
        }
    }
}

/* ---- transposed --------------------------------------------------------------------------- */

/* Columns i..i+n: dx[t, i] += dy[t, o] · row[i] */
static void scalar_add_row(const struct transposed_args *a, int64_t o, int64_t i, int64_t n,
                           const float *row)
{
    for (int t = 0; t < a->n_tok; t++) {
        float factor = a->dy[t * a->w->n_out + o];
        float *dx = a->dx + t * a->dx_stride + i; /* [n] */
        for (int64_t j = 0; j < n; j++)
            dx[j] += factor * row[j];
    }
}

void scalar_linear_transposed(const struct kernels *k, const struct transposed_args *a)
{
    float *row = align_scratch(a->scratch); /* [TRANSPOSED_SPAN] */
    for (int t = 0; t < a->n_tok && !a->accumulate; t++)
        for (int64_t i = a->i_begin; i < a->i_end; i++)
            a->dx[t * a->dx_stride + i] = 0;
    for (int64_t i = a->i_begin; i < a->i_end; i += TRANSPOSED_SPAN) {
        int64_t left = a->i_end - i, n = left < TRANSPOSED_SPAN ? left : TRANSPOSED_SPAN;
        for (int64_t o = 0; o < a->w->n_out; o++) {
            k->dequantize[a->w->type](a->w, o, i, n, row);
            scalar_add_row(a, o, i, n, row);
        }
    }
}
