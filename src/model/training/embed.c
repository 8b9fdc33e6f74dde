/* embed.c: the embedding of the batch's tokens, forth and back.
 *
 * Forth: x = gain ⊙ (e[token] + scale · B a[token]). Back: dz = gain ⊙ dx; what reaches e and a is scattered to the
 * rows of the tokens, in the order of tokens, by whoever has the columns. As in a forward pass, the factors are taken
 * in floats on every tier.
 */
#include "training_internal.h"

enum { GRAIN = 64 };

static const struct train_delta *embed_delta(const struct train_tape *t)
{
    return &t->set->embed_delta;
}

/* e + scale · B a, without the gain, for tokens begin..end. */
static void embed_rows(const struct train_tape *t, int64_t begin, int64_t end, float *x)
{
    const struct embedding *e = &t->embedding;
    const struct train_delta *d = embed_delta(t);
    int64_t width = t->model->config.d_model, n_vocab = t->model->config.n_vocab;
    for (int64_t i = begin; i < end; i++) {
        graft_token_id token = t->batch->tokens[i];
        t->kernels->dequantize[e->weight->type](e->weight, token, 0, width, x + i * width);
        for (int64_t r = 0; r < e->rank; r++)
            e->u[i * e->rank + r] = d->scale * d->a.value[r * n_vocab + token];
    }
    if (e->rank && begin < end)
        t->kernels->lowrank_up[ROLE_DECODE](t->kernels,
                                            &(struct lowrank_up_args){.b = &e->b_tiles,
                                                                      .rank = e->rank,
                                                                      .u = e->u + begin * e->rank,
                                                                      .u_stride = e->rank,
                                                                      .n_tok = (int)(end - begin),
                                                                      .o_end = width,
                                                                      .y = x + begin * width,
                                                                      .y_stride = width});
}

static void forward_work(void *context, int worker, int n_workers)
{
    struct train_tape *t = context;
    int64_t begin, end, width = t->model->config.d_model;
    pool_split(t->batch->n_tok, 1, worker, n_workers, &begin, &end);
    embed_rows(t, begin, end, t->x);
    if (t->embedding.gain)
        for (int64_t i = begin; i < end; i++)
            t->kernels->mul(t->x + i * width, t->embedding.gain, width);
}

void embed_forward(struct train_tape *t)
{
    tape_region(t, forward_work, t, (int64_t)t->batch->n_tok * t->model->config.d_model * 4);
}

/* ---- back --------------------------------------------------------------------------------- */

/* z again, where a magnitude wants it. */
static void again_work(void *context, int worker, int n_workers)
{
    struct train_tape *t = context;
    int64_t begin, end;
    pool_split(t->batch->n_tok, 1, worker, n_workers, &begin, &end);
    embed_rows(t, begin, end, t->h);
}

/* dmagnitude, and dz in place of dx. */
static void gain_columns(const struct train_tape *t, int64_t begin, int64_t end)
{
    const struct embedding *e = &t->embedding;
    float *grad = embed_delta(t)->magnitude.grad;
    int64_t width = t->model->config.d_model;
    for (int64_t i = begin; i < end && grad; i++) {
        double sum = 0;
        for (int64_t token = 0; token < t->batch->n_tok; token++)
            sum += (double)t->dx[token * width + i] * (double)t->h[token * width + i];
        grad[i] += (float)sum * e->inverse[i];
    }
    for (int64_t token = 0; token < t->batch->n_tok; token++)
        t->kernels->mul(t->dx + token * width + begin, e->gain + begin, end - begin);
}

static void columns_work(void *context, int worker, int n_workers)
{
    struct train_tape *t = context;
    const struct embedding *e = &t->embedding;
    const struct train_delta *d = embed_delta(t);
    int64_t begin, end, width = t->model->config.d_model;
    pool_split(width, GRAIN, worker, n_workers, &begin, &end);
    if (begin == end)
        return;
    if (e->gain)
        gain_columns(t, begin, end);
    for (int i = 0; i < t->batch->n_tok && t->set->embed.grad; i++)
        t->kernels->add(t->set->embed.grad + t->batch->tokens[i] * width + begin,
                        t->dx + i * width + begin, end - begin);
    if (e->rank && d->b.grad)
        t->kernels->outer(&(struct outer_args){.u = e->u,
                                               .x = t->dx,
                                               .g = d->b.grad,
                                               .u_stride = e->rank,
                                               .x_stride = width,
                                               .g_stride = width,
                                               .rank = e->rank,
                                               .i_begin = begin,
                                               .i_end = end,
                                               .n_tok = t->batch->n_tok,
                                               .format = PANEL_F32,
                                               .scratch = t->workers[worker].scratch});
}

/* du of some tokens, a row each: in floats. */
static void ranks_work(void *context, int worker, int n_workers)
{
    struct train_tape *t = context;
    const struct embedding *e = &t->embedding;
    int64_t begin, end, width = t->model->config.d_model;
    pool_split(t->batch->n_tok, 1, worker, n_workers, &begin, &end);
    if (begin < end)
        t->kernels->lowrank_down[ROLE_DECODE](
            t->kernels, &(struct lowrank_down_args){
                            .parts = &(struct lowrank_part){&e->b, embed_delta(t)->scale},
                            .n_parts = 1,
                            .x = t->dx + begin * width,
                            .n_tok = (int)(end - begin),
                            .r_end = e->rank,
                            .u = t->du + begin * e->rank,
                            .u_stride = e->rank});
}

static void scatter_ranks(const struct train_tape *t)
{
    float *grad = embed_delta(t)->a.grad;
    int64_t rank = t->embedding.rank, n_vocab = t->model->config.n_vocab;
    for (int64_t i = 0; i < t->batch->n_tok && grad; i++)
        for (int64_t r = 0; r < rank; r++)
            grad[r * n_vocab + t->batch->tokens[i]] += t->du[i * rank + r];
}

void embed_backward(struct train_tape *t)
{
    int64_t multiplies = (int64_t)t->batch->n_tok * t->model->config.d_model;
    if (t->embedding.gain)
        tape_region(t, again_work, t, multiplies * 4);
    tape_region(t, columns_work, t, multiplies * 4);
    if (!t->embedding.rank)
        return;
    tape_region(t, ranks_work, t, multiplies * t->embedding.rank);
    scatter_ranks(t);
}
