/* product.c: one weight times some rows, as the forward pass does it, and the sizes of such products. */
#include "bench/bench_internal.h"

void product_run(const struct product *p, int64_t begin, int64_t end, void *scratch)
{
    const struct matrix *w = p->weight;
    if (begin >= end)
        return;
    if (p->role == ROLE_DECODE)
        p->kernels->linear_decode[w->type](w, p->x, p->n_tok, begin, end, p->y, w->n_out, scratch);
    else
        p->kernels->linear_prefill(p->kernels, w, p->x, p->n_tok, begin, end, p->y, w->n_out,
                                   scratch);
}

size_t product_scratch_bytes(int64_t n_in)
{
    size_t decode = decode_scratch_bytes(n_in), prefill = prefill_scratch_bytes(n_in);
    return decode > prefill ? decode : prefill;
}

void *product_input(struct mem *mem, const struct kernels *k, const struct matrix *w,
                    enum role role, const float *x, int n_tok)
{
    enum act_format format = act_format_for(w->type, role);
    size_t row = act_row_bytes(format, w->n_in);
    uint8_t *out = mem_calloc(mem, (size_t)n_tok, row);
    for (int t = 0; out && t < n_tok; t++)
        k->act_quantize[format](x + (int64_t)t * w->n_in, w->n_in, out + (size_t)t * row);
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
