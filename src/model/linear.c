/* linear.c: a weight applied to the rows of a pass, both roles.
 *
 * The only place where activations meet weights. Decode rows use integer products on activations that
 * were quantised once per input and are shared by all weights that read it (q, k, v; gate, up); prefill
 * rows use dequantised panels on the floats. A worker computes a range of outputs for all rows. Deltas
 * that rows bring along are added by seam.c, in the same region.
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

/* y[:, o_begin..o_end) = W x for the rows of both roles. */
static void multiply(const struct kernels *k, const struct linear *linear,
                     const struct linear_input *in, int64_t o_begin, int64_t o_end,
                     const struct ahead *ahead, void *scratch)
{
    const struct matrix *w = linear->weight;
    if (in->n_decode) {
        enum act_format format = act_format_for(w->type, ROLE_DECODE);
        const void *x = format == ACT_F32 ? (const void *)in->x : in->act[format];
        struct matrix asking = *w;
        asking.ahead = ahead;
        k->linear_decode[w->type](&asking, x, in->n_decode, o_begin, o_end, linear->y, w->n_out,
                                  scratch);
    }
    if (in->n_rows > in->n_decode)
        k->linear_prefill(k, w, in->x + in->n_decode * in->n_in, in->n_rows - in->n_decode, o_begin,
                          o_end, linear->y + in->n_decode * w->n_out, w->n_out, scratch);
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
            p->kernels->rmsnorm(g->x + row * g->n_in, row_norm(p, row, g->norm_index, g->norm),
                                g->n_in, p->model->config.norm_eps, normed + row * g->n_in);
        linear_prepare(p->kernels, in, formats, (int)row);
    }
}

static void prepare_work(void *context, int worker, int n_workers)
{
    struct pass *p = context;
    int64_t begin, end;
    pool_split(p->group->rows->n, 1, worker, n_workers, &begin, &end);
    prepare_rows(p, &p->input, p->ws->h, begin, end);
}

static struct linear_input group_input(const struct pass *p, float *normed, void *const *act)
{
    struct linear_input in = {.x = p->group->norm ? normed : p->group->x,
                              .n_in = p->group->n_in,
                              .n_rows = p->group->rows->n,
                              .n_decode = p->group->rows->n_decode};
    memcpy(in.act, act, sizeof(in.act));
    return in;
}

static bool has_nan(const float *x, int64_t n)
{
    enum { STEP = 16 }; /* a fixed number, which compilers turn into vectors */
    int bad = 0;
    int64_t i = 0;
    for (; i + STEP <= n; i += STEP)
        for (int j = 0; j < STEP; j++)
            bad |= x[i + j] != x[i + j];
    for (; i < n; i++)
        bad |= x[i] != x[i];
    return bad;
}

/* The first row counts, whichever worker comes first. */
static void note_nan(struct pass *p, int row)
{
    int seen = atomic_load(&p->nan_slot);
    while ((seen < 0 || row < seen) && !atomic_compare_exchange_weak(&p->nan_slot, &seen, row)) {
    }
}

/* What follows belongs to the same outputs, so whoever made them goes on with them. */
static void finish_outputs(struct pass *p, int64_t begin, int64_t end)
{
    const struct linear_group *g = p->group;
    int64_t width = g->linears[0].weight->n_out, n = end - begin;
    for (int row = 0; row < g->rows->n; row++) {
        float *y = g->linears[0].y + row * width + begin;
        if (g->then_silu)
            p->kernels->silu_mul(y, g->linears[1].y + row * width + begin, n, y);
        if (g->then_add)
            p->kernels->add(g->then_add + row * width + begin, y, n);
        if (g->then_check && has_nan(y, n))
            note_nan(p, row);
    }
}

/* What a worker does of a group. */
struct share {
    const struct linear_input *in;
    int worker, n_workers;
    bool ahead; /* memory is asked for factors during products */
    bool down;  /* items of A x are to be taken yet */
    void *scratch;
};

/* Outputs begin..end of linear i, with all that is added to W x. */
static void make_outputs(struct pass *p, int i, struct share *share, int64_t begin, int64_t end)
{
    const struct linear *l = &p->group->linears[i];
    struct seam_ahead list;
    list.ahead = (struct ahead){list.pieces, 0};
    if (share->ahead && share->down)
        seam_list_items(p, share->worker, share->n_workers, &list);
    if (share->ahead)
        seam_list_ahead(p, i, begin, end, &list);
    multiply(p->kernels, l, share->in, begin, end, list.ahead.n ? &list.ahead : NULL,
             share->scratch);
    if (share->down)
        seam_down(p, share->in, share->scratch);
    share->down = false;
    if (p->n_delta_items || p->whole_heads)
        seam_up(p, i, begin, end, share->scratch);
    if (l->bias)
        for (int row = 0; row < share->in->n_rows; row++)
            p->kernels->add(l->y + row * l->weight->n_out + begin, l->bias + begin, end - begin);
}

/* The worker's share of n linears as wide as each other, in spans that stay in its cache from the product
 * to the last thing that follows. */
static void make_share(struct pass *p, int first, int n, struct share *share)
{
    const struct linear_group *g = p->group;
    int64_t begin, end, span = SPAN_BYTES / 4 / share->in->n_rows / OUTPUT_SPAN * OUTPUT_SPAN;
    pool_split(g->linears[first].weight->n_out, OUTPUT_GRAIN, share->worker, share->n_workers,
               &begin, &end);
    span = span < OUTPUT_SPAN ? OUTPUT_SPAN : span;
    if (share->ahead)
        span = seam_span(p, span);
    for (int64_t o = begin; o < end; o += span) {
        int64_t stop = o + span < end ? o + span : end;
        for (int i = first; i < first + n; i++)
            make_outputs(p, i, share, o, stop);
        if (g->then_silu || g->then_add || g->then_check)
            finish_outputs(p, o, stop);
    }
}

static void group_work(void *context, int worker, int n_workers)
{
    struct pass *p = context;
    const struct linear_group *g = p->group;
    struct worker *w = &p->ws->workers[worker];
    struct linear_input in = p->input;
    if (g->rows->n <= FEW_ROWS) {
        if (p->n_delta_items)
            seam_ask(p, worker, n_workers);
        in = group_input(p, w->few_x, w->few_act);
        prepare_rows(p, &in, w->few_x, 0, g->rows->n);
    }
    struct share share = {.in = &in,
                          .worker = worker,
                          .n_workers = n_workers,
                          .ahead = p->n_delta_items && in.n_decode > FEW_ROWS,
                          .down = p->n_delta_items > 0,
                          .scratch = w->scratch};
    int together = g->then_silu ? g->n_linears : 1;
    if (!share.ahead) {
        seam_down(p, &in, w->scratch);
        share.down = false;
    }
    for (int i = 0; i < g->n_linears; i += together)
        make_share(p, i, together, &share);
    if (share.down) /* more workers than outputs */
        seam_down(p, &in, w->scratch);
}

void group_run(struct pass *p, const struct linear_group *group)
{
    int n = group->rows->n;
    int64_t multiplies = 0;
    for (int i = 0; i < group->n_linears; i++)
        multiplies += group->linears[i].weight->n_out * group->n_in * n;
    p->group = group;
    p->input = group_input(p, p->ws->h, p->ws->act);
    seam_begin(p);
    bool to_prepare = group->norm || (group->rows->n_decode && group_formats(group));
    if (n > FEW_ROWS && to_prepare)
        pass_run(p, prepare_work, n * group->n_in);
    pass_run(p, group_work, multiplies);
}
