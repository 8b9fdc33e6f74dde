/* linear.c: a weight applied to the rows of a pass, both roles.
 *
 * The only place where activations meet weights. Decode rows use integer products on activations that
 * were quantised once per input and are shared by all weights that read it (q, k, v; gate, up); prefill
 * rows use dequantised panels on the floats. A worker computes a range of outputs for all rows.
 */
#include "model/forward_internal.h"

unsigned linear_formats(const struct matrix *weight)
{
    enum act_format format = act_format_for(weight->type, ROLE_DECODE);
    return format == ACT_F32 ? 0 : 1u << format;
}

void linear_prepare(const struct kernels *k, const struct linear_input *in, unsigned formats,
                    int row)
{
    if (row >= in->n_decode)
        return;
    for (int f = 0; f < ACT_COUNT; f++)
        if (formats & 1u << f)
            k->act_quantize[f](in->x + row * in->n_in, in->n_in,
                               (char *)in->act[f] +
                                   (size_t)row * act_row_bytes((enum act_format)f, in->n_in));
}

size_t linear_scratch_bytes(int64_t n_in)
{
    size_t decode = decode_scratch_bytes(n_in), prefill = prefill_scratch_bytes(n_in);
    return decode > prefill ? decode : prefill;
}

void linear_apply(const struct kernels *k, const struct linear *linear,
                  const struct linear_input *in, int64_t o_begin, int64_t o_end, void *scratch)
{
    const struct matrix *w = linear->weight;
    if (o_begin >= o_end)
        return;
    if (in->n_decode) {
        enum act_format format = act_format_for(w->type, ROLE_DECODE);
        const void *x = format == ACT_F32 ? (const void *)in->x : in->act[format];
        k->linear_decode[w->type](w, x, in->n_decode, o_begin, o_end, linear->y, w->n_out, scratch);
    }
    if (in->n_rows > in->n_decode)
        k->linear_prefill(k, w, in->x + in->n_decode * in->n_in, in->n_rows - in->n_decode, o_begin,
                          o_end, linear->y + in->n_decode * w->n_out, w->n_out, scratch);
    if (linear->bias)
        for (int row = 0; row < in->n_rows; row++)
            k->add(linear->y + row * w->n_out + o_begin, linear->bias + o_begin, o_end - o_begin);
}

/* ---- groups ------------------------------------------------------------------------------- */

static unsigned group_formats(const struct linear_group *g)
{
    unsigned formats = 0;
    for (int i = 0; i < g->n_linears; i++)
        formats |= linear_formats(g->linears[i].weight);
    return formats;
}

/* Norm and quantisation of rows [begin, end) into `in`, whose x is `normed` when there is a norm. */
static void prepare_rows(const struct pass *p, const struct linear_input *in, float *normed,
                         int64_t begin, int64_t end)
{
    const struct linear_group *g = p->group;
    unsigned formats = group_formats(g);
    for (int64_t row = begin; row < end; row++) {
        if (g->norm)
            p->kernels->rmsnorm(g->x + row * g->n_in, g->norm, g->n_in, p->model->config.norm_eps,
                                normed + row * g->n_in);
        linear_prepare(p->kernels, in, formats, (int)row);
    }
}

static void prepare_work(void *context, int worker, int n_workers)
{
    struct pass *p = context;
    int64_t begin, end;
    pool_split(p->n_rows, 1, worker, n_workers, &begin, &end);
    prepare_rows(p, &p->input, p->ws->h, begin, end);
}

static struct linear_input group_input(const struct pass *p, float *normed, void *const *act)
{
    struct linear_input in = {.x = p->group->norm ? normed : p->group->x,
                              .n_in = p->group->n_in,
                              .n_rows = p->n_rows,
                              .n_decode = p->n_decode};
    memcpy(in.act, act, sizeof(in.act));
    return in;
}

/* silu and residual belong to the same outputs, so whoever made them goes on with them. */
static void finish_outputs(const struct pass *p, int64_t begin, int64_t end)
{
    const struct linear_group *g = p->group;
    int64_t width = g->linears[0].weight->n_out;
    for (int64_t row = 0; row < p->n_rows && begin < end; row++) {
        float *y = g->linears[0].y + row * width + begin;
        if (g->then_silu)
            p->kernels->silu_mul(y, g->linears[1].y + row * width + begin, end - begin, y);
        if (g->then_add)
            p->kernels->add(g->then_add + row * width + begin, y, end - begin);
    }
}

static void group_work(void *context, int worker, int n_workers)
{
    struct pass *p = context;
    const struct linear_group *g = p->group;
    struct worker *w = &p->ws->workers[worker];
    struct linear_input in = p->input;
    if (p->n_rows <= FEW_ROWS) {
        in = group_input(p, w->few_x, w->few_act);
        prepare_rows(p, &in, w->few_x, 0, p->n_rows);
    }
    int64_t begin = 0, end = 0;
    for (int i = 0; i < g->n_linears; i++) {
        pool_split(g->linears[i].weight->n_out, OUTPUT_GRAIN, worker, n_workers, &begin, &end);
        linear_apply(p->kernels, &g->linears[i], &in, begin, end, w->scratch);
    }
    if (g->then_silu || g->then_add)
        finish_outputs(p, begin, end);
}

void group_run(struct pass *p, const struct linear_group *group)
{
    int64_t multiplies = 0;
    for (int i = 0; i < group->n_linears; i++)
        multiplies += group->linears[i].weight->n_out * group->n_in * p->n_rows;
    p->group = group;
    p->input = group_input(p, p->ws->h, p->ws->act);
    bool to_prepare = group->norm || (p->n_decode && group_formats(group));
    if (p->n_rows > FEW_ROWS && to_prepare)
        pass_run(p, prepare_work, p->n_rows * group->n_in);
    pass_run(p, group_work, multiplies);
}
