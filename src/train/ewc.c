/* ewc.c: EWC++ (Kirkpatrick et al. 2017; Chaudhry et al. 2018): what a task has learned is held while the next is trained.
 *
 * The penalty λ/2 Σ F (θ − θ*)² of the values θ* that the tasks before ended with, and F, how much each matters to them: the
 * diagonal of the Fisher information, the mean of squared gradients of single examples (a batch's gradient would cancel
 * what they disagree on). Over tasks F runs: F ← decay · F + F of the task. Values are worked on one by one and sums taken by
 * pieces in order, so that the number of threads cannot be seen.
 */
#include "train/train_internal.h"

#include <math.h>

enum { PIECE = 1 << 14, GRAIN = 16 };

static int64_t pieces_of(int64_t n)
{
    return (n + PIECE - 1) / PIECE;
}

graft_status ewc_open(struct ewc *e, const struct trainable *trainable,
                      const struct ewc_options *options, graft_error *error)
{
    struct mem *mem = &trainable->model->runtime->mem;
    const int64_t n = trainable->n_values;
    *e = (struct ewc){.mem = mem, .n = n, .options = *options};
    e->sums = mem_calloc(mem, (size_t)pieces_of(n), sizeof *e->sums);
    e->next = mem_calloc(mem, (size_t)n, sizeof *e->next);
    e->fisher = mem_calloc(mem, (size_t)n, sizeof *e->fisher);
    e->anchor = mem_calloc(mem, (size_t)n, sizeof *e->anchor);
    graft_status status =
        e->sums && e->next && e->fisher && e->anchor
            ? GRAFT_OK
            : error_set(error, GRAFT_NO_MEMORY,
                        "no memory for what earlier tasks left in %lld values", (long long)n);
    if (status == GRAFT_OK && options->from)
        status = ewc_read(e, trainable, options->from, error);
    if (status != GRAFT_OK)
        ewc_close(e);
    return status;
}

void ewc_close(struct ewc *e)
{
    mem_free(e->mem, e->sums);
    mem_free(e->mem, e->next);
    mem_free(e->mem, e->fisher);
    mem_free(e->mem, e->anchor);
    *e = (struct ewc){.mem = NULL};
}

/* ---- penalty ------------------------------------------------------------------------------ */

struct pull {
    struct ewc *e;
    const float *values;
    float *grads;
    double weight;
};

static void pull_pieces(void *context, int worker, int n_workers)
{
    const struct pull *p = context;
    const struct ewc *e = p->e;
    int64_t begin, end;
    pool_split(pieces_of(e->n), 1, worker, n_workers, &begin, &end);
    for (int64_t piece = begin; piece < end; piece++) {
        int64_t at = piece * PIECE, stop = at + PIECE < e->n ? at + PIECE : e->n;
        double sum = 0;
        for (int64_t i = at; i < stop; i++) {
            double away = (double)p->values[i] - (double)e->anchor[i];
            double force = e->options.lambda * (double)e->fisher[i] * away;
            p->grads[i] = (float)((double)p->grads[i] + p->weight * force);
            sum += force * away / 2;
        }
        e->sums[piece] = sum;
    }
}

double ewc_pull(struct ewc *e, const graft_runtime *runtime, const float *values, double weight,
                float *grads)
{
    struct pull p = {e, values, grads, weight};
    double sum = 0;
    pool_run(runtime->pool, pull_pieces, &p);
    for (int64_t i = 0; i < pieces_of(e->n); i++)
        sum += e->sums[i];
    return sum;
}

/* ---- Fisher information -------------------------------------------------------------------- */

struct squares {
    struct ewc *e;
    const float *grads;
    double factor;
};

static void add_squares(void *context, int worker, int n_workers)
{
    const struct squares *s = context;
    int64_t begin, end;
    pool_split(s->e->n, GRAIN, worker, n_workers, &begin, &end);
    for (int64_t i = begin; i < end; i++)
        s->e->next[i] =
            (float)((double)s->e->next[i] + s->factor * (double)s->grads[i] * (double)s->grads[i]);
}

void ewc_begin(struct ewc *e)
{
    memset(e->next, 0, (size_t)e->n * sizeof *e->next);
    e->weight = 0;
    e->measured = false;
}

void ewc_add(struct ewc *e, const graft_runtime *runtime, const float *grads, double weight)
{
    struct squares s = {e, grads, 1 / weight};
    pool_run(runtime->pool, add_squares, &s);
    e->weight += weight;
}

void ewc_end(struct ewc *e)
{
    for (int64_t i = 0; i < e->n; i++) {
        double own = e->weight > 0 ? (double)e->next[i] / e->weight : 0;
        e->next[i] = (float)(e->options.decay * (double)e->fisher[i] + own);
    }
    e->measured = true;
}
