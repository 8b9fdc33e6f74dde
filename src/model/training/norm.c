/* norm.c: RMSNorm of the residual stream, forth and back. */
#include "training_internal.h"

const float *tape_norm(const struct train_tape *t, int norm)
{
    const float *own = t->set->norms ? t->set->norms[norm].value : NULL;
    return own ? own : model_norm_weight(t->model, norm);
}

struct norm_pass {
    const struct train_tape *tape;
    const float *weight, *x, *dy;
    const int *tokens;
    float *out, *dx, *grad;
    int n;
};

static void forward_work(void *context, int worker, int n_workers)
{
    const struct norm_pass *p = context;
    const struct config *c = &p->tape->model->config;
    int64_t begin, end, width = c->d_model;
    pool_split(p->n, 1, worker, n_workers, &begin, &end);
    for (int64_t i = begin; i < end; i++)
        p->tape->kernels->rmsnorm(p->x + i * width, p->weight, width, c->norm_eps,
                                  p->out + i * width);
}

void norm_forward(struct train_tape *t, int norm, const float *x, float *out)
{
    struct norm_pass p = {
        .tape = t, .weight = tape_norm(t, norm), .x = x, .out = out, .n = t->batch->n_tok};
    tape_region(t, forward_work, &p, (int64_t)p.n * t->model->config.d_model * 2);
}

static void backward_work(void *context, int worker, int n_workers)
{
    const struct norm_pass *p = context;
    const struct config *c = &p->tape->model->config;
    int64_t begin, end, width = c->d_model;
    pool_split(p->n, 1, worker, n_workers, &begin, &end);
    for (int64_t i = begin; i < end; i++) {
        int64_t at = (p->tokens ? p->tokens[i] : i) * width;
        p->tape->kernels->rmsnorm_backward(p->x + at, p->weight, p->dy + i * width, width,
                                           c->norm_eps, p->dx + at, p->grad);
    }
}

void norm_backward(struct train_tape *t, int norm, const float *x, const float *dy, int n,
                   const int *tokens, float *dx)
{
    struct norm_pass p = {.tape = t,
                          .weight = tape_norm(t, norm),
                          .x = x,
                          .dy = dy,
                          .tokens = tokens,
                          .dx = dx,
                          .grad = t->set->norms ? t->set->norms[norm].grad : NULL,
                          .n = n};
    if (p.grad) /* a sum over all tokens: one hand */
        pool_run_alone(backward_work, &p);
    else
        tape_region(t, backward_work, &p, (int64_t)n * t->model->config.d_model * 4);
}
