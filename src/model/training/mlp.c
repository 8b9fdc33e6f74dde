/* mlp.c: what stands between gate, up and down: wide = silu(gate) · up, forth and back. */
#include "training_internal.h"

struct mlp_pass {
    struct train_tape *tape;
    const struct site *gate, *up;
};

static void forward_work(void *context, int worker, int n_workers)
{
    const struct mlp_pass *p = context;
    const struct train_tape *t = p->tape;
    const struct train_worker *w = &t->workers[worker];
    int64_t begin, end, width = t->model->config.d_ff;
    pool_split(t->batch->n_tok, 1, worker, n_workers, &begin, &end);
    for (int64_t i = begin; i < end; i++)
        t->kernels->silu_mul(site_row(t, p->gate, t->held[KEPT_GATE] + i * width, w->row),
                             site_row(t, p->up, t->held[KEPT_UP] + i * width, w->second_row), width,
                             t->wide + i * width);
}

static void backward_work(void *context, int worker, int n_workers)
{
    const struct mlp_pass *p = context;
    const struct train_tape *t = p->tape;
    const struct train_worker *w = &t->workers[worker];
    int64_t begin, end, width = t->model->config.d_ff;
    pool_split(t->batch->n_tok, 1, worker, n_workers, &begin, &end);
    for (int64_t i = begin; i < end; i++) {
        float *second = t->second_wide + i * width;
        t->kernels->silu_mul_backward(
            site_row(t, p->gate, t->held[KEPT_GATE] + i * width, w->row),
            site_row(t, p->up, t->held[KEPT_UP] + i * width, w->second_row), second, width, second,
            t->wide + i * width);
    }
}

static void run(struct train_tape *t, int layer, pool_work work)
{
    const struct group *g = layer_group(t, layer, GROUP_MLP);
    struct mlp_pass p = {t, g->sites[0], g->sites[1]};
    tape_region(t, work, &p, (int64_t)t->batch->n_tok * t->model->config.d_ff * 16);
}

void mlp_forward(struct train_tape *t, int layer)
{
    run(t, layer, forward_work);
}

void mlp_backward(struct train_tape *t, int layer)
{
    run(t, layer, backward_work);
}
