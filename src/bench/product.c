/* product.c: one weight times some rows, as the forward and the backward pass do it, and the sizes of such
 * products.
 */
#include "bench/bench_internal.h"

enum { OUTPUT_GRAIN = 16 }; /* as the model splits: a cache line of outputs */

int64_t product_inputs(const struct matrix *w, enum way way)
{
    return way == WAY_TRANSPOSED ? w->n_out : w->n_in;
}

int64_t product_outputs(const struct matrix *w, enum way way)
{
    return way == WAY_TRANSPOSED ? w->n_in : w->n_out;
}

int64_t product_grain(const struct matrix *w, enum way way)
{
    return way == WAY_TRANSPOSED ? transposed_grain(w) : OUTPUT_GRAIN;
}

void product_run(const struct product *p, int64_t begin, int64_t end, void *scratch)
{
    const struct matrix *w = p->weight;
    const struct kernels *k = p->kernels;
    int64_t stride = product_outputs(w, p->way);
    if (begin >= end)
        return;
    if (p->way == WAY_DECODE)
        k->linear_decode[w->type](w, p->x, p->n_tok, begin, end, p->y, stride, scratch);
    else if (p->way == WAY_PREFILL)
        k->linear_prefill(k, w, p->x, p->n_tok, begin, end, p->y, stride, scratch);
    else
        k->linear_transposed(k, &(struct transposed_args){.w = w,
                                                          .dy = p->x,
                                                          .n_tok = p->n_tok,
                                                          .i_begin = begin,
                                                          .i_end = end,
                                                          .dx = p->y,
                                                          .dx_stride = stride,
                                                          .scratch = scratch});
}

size_t product_scratch_bytes(int64_t n_in)
{
    size_t decode = decode_scratch_bytes(n_in), prefill = prefill_scratch_bytes(n_in);
    return decode > prefill ? decode : prefill;
}

void *product_input(struct mem *mem, const struct kernels *k, const struct matrix *w, enum way way,
                    const float *x, int n_tok)
{
    enum act_format format = way == WAY_DECODE ? act_format_for(w->type, ROLE_DECODE) : ACT_F32;
    int64_t n = product_inputs(w, way);
    size_t row = act_row_bytes(format, n);
    uint8_t *out = mem_calloc(mem, (size_t)n_tok, row);
    for (int t = 0; out && t < n_tok; t++)
        k->act_quantize[format](x + t * n, n, out + (size_t)t * row);
    return out;
}

const char *kind_name(int kind)
{
    static const char *const NAMES[KIND_COUNT] = {
        [LINEAR_Q] = "q",       [LINEAR_K] = "k",   [LINEAR_V] = "v",       [LINEAR_O] = "o",
        [LINEAR_GATE] = "gate", [LINEAR_UP] = "up", [LINEAR_DOWN] = "down", [KIND_HEAD] = "head"};
    return NAMES[kind];
}

const struct matrix *kind_weight(const struct model *m, int kind, int layer)
{
    return kind == KIND_HEAD ? &m->head : &m->layers[layer].linear[kind];
}

int kind_layers(const struct model *m, int kind)
{
    return kind == KIND_HEAD ? 1 : m->config.n_layer;
}

size_t weight_bytes(const struct matrix *w)
{
    size_t bytes = (size_t)w->n_out * w->row_bytes;
    if (w->group)
        bytes +=
            2 * (size_t)(w->n_out * (w->n_in / w->group)) * type_traits(w->scale_type)->block_bytes;
    return bytes;
}

double model_token_bytes(const struct model *m)
{
    double bytes = 0;
    for (int kind = 0; kind < KIND_COUNT; kind++)
        for (int layer = 0; layer < kind_layers(m, kind); layer++)
            bytes += (double)weight_bytes(kind_weight(m, kind, layer));
    return bytes;
}

double model_block_flops(const struct model *m)
{
    double flops = 0;
    for (int kind = 0; kind < LINEAR_COUNT; kind++)
        for (int layer = 0; layer < m->config.n_layer; layer++)
            flops += 2.0 * (double)kind_weight(m, kind, layer)->n_out *
                     (double)kind_weight(m, kind, layer)->n_in;
    return flops;
}

void fill_random(float *x, int64_t n, uint64_t stream)
{
    struct rng rng;
    rng_init(&rng, 1, stream);
    for (int64_t i = 0; i < n; i++)
        x[i] = (float)(2 * rng_uniform(&rng) - 1);
}
