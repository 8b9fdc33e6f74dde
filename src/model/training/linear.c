/* linear.c: groups of linears with their deltas, forth and back.
 *
 * Forth: z = W x + B u + scale · bias with u = scale · A drop(x), then y = gain ⊙ z + bias.
 * Back:  dz = gain ⊙ dy;  du = scale · Bᵀ dz;  dx = Wᵀ dz + drop(Aᵀ du);
 *        dA = Σ du drop(x)ᵀ;  dB = Σ dz uᵀ;  dW = Σ dz xᵀ;  dmagnitude = Σ dy ⊙ z / norm;  dbias = Σ dy
 * where sums are over tokens.
 */
#include "training_internal.h"

enum { SPAN = 256, BLOCK = 32, DROP_GRAIN = 64 };

void site_finish(const struct train_tape *t, const struct site *s, const float *z, float *y)
{
    int64_t n = s->weight->n_out;
    if (y != z)
        memcpy(y, z, (size_t)n * sizeof(*y));
    if (s->gain)
        t->kernels->mul(y, s->gain, n);
    if (s->bias)
        t->kernels->add(y, s->bias, n);
}

const float *site_row(const struct train_tape *t, const struct site *s, const float *z, float *room)
{
    if (!s->gain && !s->bias)
        return z;
    site_finish(t, s, z, room);
    return room;
}

static int64_t group_multiplies(const struct group_pass *p)
{
    int64_t sum = 0;
    for (int i = 0; i < p->group->n; i++)
        sum += p->group->sites[i]->weight->n_out;
    return sum * p->group->n_in * p->n_tok;
}

/* ---- forth -------------------------------------------------------------------------------- */

/* drop(x) of rows begin..end into the tape, where it is x itself without dropout. */
static const float *dropped_rows(const struct group_pass *p, int64_t begin, int64_t end, bool mask)
{
    const struct train_tape *t = p->tape;
    int64_t n_in = p->group->n_in;
    if (!group_drops(p))
        return p->x;
    for (int64_t row = begin; row < end; row++)
        dropout_row(p, (int)row, p->x + row * n_in, t->dropped + row * n_in,
                    mask ? t->mask + row * t->mask_bytes : NULL);
    return t->dropped;
}

static void down_work(void *context, int worker, int n_workers)
{
    struct group_pass *p = context;
    const struct train_tape *t = p->tape;
    const struct group *g = p->group;
    struct lowrank_part parts[GROUP_LINEARS];
    int64_t begin, end;
    int n = 0;
    pool_split(p->n_tok, 1, worker, n_workers, &begin, &end);
    if (begin == end)
        return;
    const float *x = dropped_rows(p, begin, end, false);
    for (int i = 0; i < g->n; i++)
        if (g->sites[i]->rank)
            parts[n++] = (struct lowrank_part){&g->sites[i]->a, g->sites[i]->set->delta.scale};
    t->kernels->lowrank_down[ROLE_PREFILL](
        t->kernels, &(struct lowrank_down_args){.parts = parts,
                                                .n_parts = n,
                                                .x = x + begin * g->n_in,
                                                .n_tok = (int)(end - begin),
                                                .r_end = g->n_ranks,
                                                .u = p->u + begin * g->n_ranks,
                                                .u_stride = g->n_ranks,
                                                .format = g->format,
                                                .scratch = t->workers[worker].scratch});
}

void group_down(struct group_pass *p)
{
    if (p->group->n_ranks)
        tape_region(p->tape, down_work, p, p->group->n_ranks * p->group->n_in * p->n_tok);
}

static void outputs_work(void *context, int worker, int n_workers)
{
    struct group_pass *p = context;
    const struct train_tape *t = p->tape;
    const struct group *g = p->group;
    void *scratch = t->workers[worker].scratch;
    for (int i = 0; i < g->n; i++) {
        const struct site *s = g->sites[i];
        const struct train_delta *d = &s->set->delta;
        int64_t n_out = s->weight->n_out, begin, end;
        pool_split(n_out, OUTPUT_GRAIN, worker, n_workers, &begin, &end);
        if (begin == end)
            continue;
        t->kernels->linear_prefill(t->kernels, s->weight, p->x, p->n_tok, begin, end, p->z[i],
                                   n_out, scratch);
        if (s->rank)
            t->kernels->lowrank_up[ROLE_PREFILL](
                t->kernels, &(struct lowrank_up_args){.b = &s->b_tiles,
                                                      .rank = s->rank,
                                                      .u = p->u + g->first_rank[i],
                                                      .u_stride = g->n_ranks,
                                                      .n_tok = p->n_tok,
                                                      .o_begin = begin,
                                                      .o_end = end,
                                                      .bias = d->bias.value,
                                                      .bias_scale = d->scale,
                                                      .y = p->z[i],
                                                      .y_stride = n_out,
                                                      .format = g->format,
                                                      .scratch = scratch});
    }
}

void group_forward(struct group_pass *p)
{
    group_down(p);
    tape_region(p->tape, outputs_work, p, group_multiplies(p));
}

/* ---- back: outputs ------------------------------------------------------------------------ */

static bool has_output_gradients(const struct site *s)
{
    const struct train_site *set = s->set;
    return s->gain || set->bias.grad || (s->rank && set->delta.bias.grad);
}

/* Sums over tokens of outputs o..o+n, in floats over BLOCK tokens and then in doubles. */
struct column_sums {
    double dy[SPAN], dyz[SPAN];
};

static void flush(float *block, double *sums, int64_t n)
{
    for (int64_t j = 0; j < n; j++) {
        sums[j] += (double)block[j];
        block[j] = 0;
    }
}

/* Sums of dy, and of dy ⊙ z; dy becomes dz. */
static void sum_columns(const struct group_pass *p, int i, int64_t o, int64_t n,
                        struct column_sums *sums)
{
    const struct kernels *k = p->tape->kernels;
    const struct site *s = p->group->sites[i];
    float dy_block[SPAN] = {0}, dyz_block[SPAN] = {0}, product[SPAN];
    int64_t width = s->weight->n_out;
    *sums = (struct column_sums){{0}, {0}};
    for (int token = 0; token < p->n_tok; token++) {
        float *dy = p->dy[i] + token * width + o;
        k->add(dy_block, dy, n);
        if (s->gain) {
            memcpy(product, p->z[i] + token * width + o, (size_t)n * sizeof(*product));
            k->mul(product, dy, n);
            k->add(dyz_block, product, n);
            k->mul(dy, s->gain + o, n);
        }
        if (token % BLOCK == BLOCK - 1 || token == p->n_tok - 1) {
            flush(dy_block, sums->dy, n);
            flush(dyz_block, sums->dyz, n);
        }
    }
}

/* The gradients of vectors along outputs o..o+n, SPAN at most, and dz. */
static void outputs_back(const struct group_pass *p, int i, int64_t o, int64_t n)
{
    const struct site *s = p->group->sites[i];
    const struct train_site *set = s->set;
    struct column_sums sums;
    sum_columns(p, i, o, n, &sums);
    for (int64_t j = 0; j < n; j++) {
        float gain = s->gain ? s->gain[o + j] : 1;
        if (set->bias.grad)
            set->bias.grad[o + j] += (float)sums.dy[j];
        if (s->gain && set->delta.magnitude.grad)
            set->delta.magnitude.grad[o + j] += (float)sums.dyz[j] * s->inverse[o + j];
        if (s->rank && set->delta.bias.grad)
            set->delta.bias.grad[o + j] += (float)sums.dy[j] * gain * set->delta.scale;
    }
}

static void outputs_back_work(void *context, int worker, int n_workers)
{
    struct group_pass *p = context;
    for (int i = 0; i < p->group->n; i++) {
        int64_t begin, end;
        if (!has_output_gradients(p->group->sites[i]))
            continue;
        pool_split(p->group->sites[i]->weight->n_out, OUTPUT_GRAIN, worker, n_workers, &begin,
                   &end);
        for (int64_t o = begin; o < end; o += SPAN)
            outputs_back(p, i, o, end - o < SPAN ? end - o : SPAN);
    }
}

/* ---- back: inputs ------------------------------------------------------------------------- */

/* du of some tokens, and drop(x) once more. */
static void ranks_back_work(void *context, int worker, int n_workers)
{
    struct group_pass *p = context;
    const struct train_tape *t = p->tape;
    const struct group *g = p->group;
    int64_t begin, end;
    pool_split(p->n_tok, 1, worker, n_workers, &begin, &end);
    if (begin == end)
        return;
    dropped_rows(p, begin, end, true);
    for (int i = 0; i < g->n; i++) {
        const struct site *s = g->sites[i];
        if (s->rank)
            t->kernels->lowrank_down[ROLE_PREFILL](
                t->kernels, &(struct lowrank_down_args){
                                .parts = &(struct lowrank_part){&s->b, s->set->delta.scale},
                                .n_parts = 1,
                                .x = p->dy[i] + begin * s->weight->n_out,
                                .n_tok = (int)(end - begin),
                                .r_end = s->rank,
                                .u = t->du + begin * g->n_ranks + g->first_rank[i],
                                .u_stride = g->n_ranks,
                                .format = g->format,
                                .scratch = t->workers[worker].scratch});
    }
}

/* Aᵀ du into columns begin..end of dx, and through the mask where there is one. */
static void add_deltas(const struct group_pass *p, int64_t begin, int64_t end, void *scratch)
{
    const struct train_tape *t = p->tape;
    const struct group *g = p->group;
    float *to = group_drops(p) ? t->dropped : p->dx;
    for (int row = 0; group_drops(p) && row < p->n_tok; row++)
        memset(to + row * g->n_in + begin, 0, (size_t)(end - begin) * sizeof(*to));
    for (int i = 0; i < g->n; i++)
        if (g->sites[i]->rank)
            t->kernels->lowrank_up[ROLE_PREFILL](
                t->kernels, &(struct lowrank_up_args){.b = &g->sites[i]->a_tiles,
                                                      .rank = g->sites[i]->rank,
                                                      .u = t->du + g->first_rank[i],
                                                      .u_stride = g->n_ranks,
                                                      .n_tok = p->n_tok,
                                                      .o_begin = begin,
                                                      .o_end = end,
                                                      .y = to,
                                                      .y_stride = g->n_in,
                                                      .format = g->format,
                                                      .scratch = scratch});
    for (int row = 0; group_drops(p) && row < p->n_tok; row++)
        dropout_row_backward(p, t->mask + row * t->mask_bytes, to + row * g->n_in, begin, end,
                             p->dx + row * g->n_in);
}

/* grad[rank, n] += Σ u xᵀ, columns begin..end. */
static void add_outer(const struct group_pass *p, const float *u, int64_t u_stride, int64_t rank,
                      const float *x, int64_t n, int64_t begin, int64_t end, float *grad,
                      void *scratch)
{
    if (grad && begin < end && rank > 0)
        p->tape->kernels->outer(&(struct outer_args){.u = u,
                                                     .x = x,
                                                     .g = grad,
                                                     .u_stride = u_stride,
                                                     .x_stride = n,
                                                     .g_stride = n,
                                                     .rank = rank,
                                                     .i_begin = begin,
                                                     .i_end = end,
                                                     .n_tok = p->n_tok,
                                                     .format = p->group->format,
                                                     .scratch = scratch});
}

/* The gradient of a whole weight, by its longer side: what a product turns and rounds of both factors is least then. */
static void add_weight(const struct group_pass *p, int i, int64_t begin, int64_t end,
                       int64_t o_begin, int64_t o_end, void *scratch)
{
    const struct site *s = p->group->sites[i];
    const int64_t n_in = p->group->n_in, n_out = s->weight->n_out;
    float *grad = s->set->weight.grad;
    if (grad && n_out > n_in)
        add_outer(p, p->dy[i] + o_begin, n_out, o_end - o_begin, p->x, n_in, 0, n_in,
                  grad + o_begin * n_in, scratch);
    else
        add_outer(p, p->dy[i], n_out, n_out, p->x, n_in, begin, end, grad, scratch);
}

/* The gradients of factors and weights: columns begin..end of the inputs, a share of the outputs. */
static void add_gradients(const struct group_pass *p, int64_t begin, int64_t end, int worker,
                          int n_workers)
{
    const struct train_tape *t = p->tape;
    const struct group *g = p->group;
    const float *x = group_drops(p) ? t->dropped : p->x;
    void *scratch = t->workers[worker].scratch;
    for (int i = 0; i < g->n; i++) {
        const struct site *s = g->sites[i];
        int64_t first = g->first_rank[i], n_out = s->weight->n_out, o_begin, o_end;
        pool_split(n_out, OUTPUT_GRAIN, worker, n_workers, &o_begin, &o_end);
        add_weight(p, i, begin, end, o_begin, o_end, scratch);
        int64_t trained = s->rank - s->set->delta.frozen;
        if (trained <= 0)
            continue;
        add_outer(p, t->du + first, g->n_ranks, trained, x, g->n_in, begin, end,
                  s->set->delta.a.grad, scratch);
        add_outer(p, p->u + first, g->n_ranks, trained, p->dy[i], n_out, o_begin, o_end,
                  s->set->delta.b.grad, scratch);
    }
}

static int64_t inputs_grain(const struct group *g)
{
    int64_t grain = DROP_GRAIN;
    for (int i = 0; i < g->n; i++) {
        int64_t own = transposed_grain(g->sites[i]->weight);
        grain = own > grain ? own : grain;
    }
    return grain;
}

static void inputs_back_work(void *context, int worker, int n_workers)
{
    struct group_pass *p = context;
    const struct train_tape *t = p->tape;
    const struct group *g = p->group;
    void *scratch = t->workers[worker].scratch;
    int64_t begin, end;
    pool_split(g->n_in, inputs_grain(g), worker, n_workers, &begin, &end);
    add_gradients(p, begin, end, worker, n_workers);
    if (!p->dx || begin == end)
        return;
    for (int i = 0; i < g->n; i++)
        t->kernels->linear_transposed(t->kernels,
                                      &(struct transposed_args){.w = g->sites[i]->weight,
                                                                .dy = p->dy[i],
                                                                .n_tok = p->n_tok,
                                                                .i_begin = begin,
                                                                .i_end = end,
                                                                .dx = p->dx,
                                                                .dx_stride = g->n_in,
                                                                .accumulate = i > 0,
                                                                .scratch = scratch});
    if (g->n_ranks)
        add_deltas(p, begin, end, scratch);
}

void group_backward(struct group_pass *p)
{
    const struct group *g = p->group;
    bool outputs = false;
    for (int i = 0; i < g->n; i++)
        outputs = outputs || has_output_gradients(g->sites[i]);
    if (outputs)
        tape_region(p->tape, outputs_back_work, p, group_multiplies(p) / g->n_in);
    if (g->n_ranks)
        tape_region(p->tape, ranks_back_work, p, group_multiplies(p) / g->n_in * g->n_ranks);
    tape_region(p->tape, inputs_back_work, p, group_multiplies(p));
}
