/* loss.c: final norm, head and cross-entropy of the tokens that have a weight, forth and back at once.
 *
 * A few rows of logits exist at a time: they become probabilities, then what the loss says of them, and go back
 * through the head before the next rows come.
 */
#include "training_internal.h"

struct loss_pass {
    struct train_tape *tape;
    const int *tokens; /* [n]: the rows in hand */
    int n;
    bool backward;
};

static void hidden_work(void *context, int worker, int n_workers)
{
    const struct loss_pass *p = context;
    const struct train_tape *t = p->tape;
    const struct config *c = &t->model->config;
    const float *weight = tape_norm(t, model_final_norm(t->model));
    int64_t begin, end, width = c->d_model;
    pool_split(p->n, 1, worker, n_workers, &begin, &end);
    for (int64_t i = begin; i < end; i++)
        t->kernels->rmsnorm(t->x + p->tokens[i] * width, weight, width, c->norm_eps,
                            t->hidden + i * width);
}

/* Is no other logit larger, nor as large and earlier? */
static bool is_likeliest(const float *y, int64_t n, int64_t target)
{
    int better = 0;
    for (int64_t i = 0; i < target; i++)
        better |= y[i] >= y[target];
    for (int64_t i = target + 1; i < n; i++)
        better |= y[i] > y[target];
    return !better;
}

static void rows_work(void *context, int worker, int n_workers)
{
    const struct loss_pass *p = context;
    const struct train_tape *t = p->tape;
    const struct site *head = head_group(t)->sites[0];
    int64_t begin, end, n = head->weight->n_out;
    pool_split(p->n, 1, worker, n_workers, &begin, &end);
    for (int64_t i = begin; i < end; i++) {
        int token = p->tokens[i];
        int32_t target = t->batch->targets[token];
        float *y = t->logits + i * n, weight = t->batch->weights[token];
        site_finish(t, head, t->head_z + i * n, y);
        double logit = (double)y[target];
        t->right[i] = is_likeliest(y, n, target);
        t->nll[i] = t->kernels->softmax(y, n) - logit;
        if (p->backward) {
            y[target] -= 1;
            t->kernels->scale(y, weight, n);
        }
    }
}

static void add_results(const struct loss_pass *p, struct train_result *result)
{
    const struct train_tape *t = p->tape;
    for (int i = 0; i < p->n; i++) {
        double weight = (double)t->batch->weights[p->tokens[i]];
        result->nll += weight * t->nll[i];
        result->weight += weight;
        result->plain_nll += t->nll[i];
        result->n_right += t->right[i];
    }
    result->n_targets += p->n;
}

static void run_rows(struct loss_pass *p, struct train_result *result)
{
    struct train_tape *t = p->tape;
    int64_t width = t->model->config.d_model, n = head_group(t)->sites[0]->weight->n_out;
    struct group_pass head = {.tape = t,
                              .group = head_group(t),
                              .n_tok = p->n,
                              .tokens = p->tokens,
                              .x = t->hidden,
                              .u = t->head_u,
                              .z = {t->head_z},
                              .dy = {t->logits},
                              .dx = t->dhidden};
    tape_region(t, hidden_work, p, p->n * width * 2);
    group_forward(&head);
    tape_region(t, rows_work, p, p->n * n * 16);
    add_results(p, result);
    if (!p->backward)
        return;
    group_backward(&head);
    norm_backward(t, model_final_norm(t->model), t->x, t->dhidden, p->n, p->tokens, t->dx);
}

void loss_run(struct train_tape *t, bool backward, struct train_result *result)
{
    for (int first = 0; first < t->n_loss; first += t->options.loss_rows) {
        int left = t->n_loss - first;
        struct loss_pass p = {.tape = t,
                              .tokens = t->loss_tokens + first,
                              .n = left < t->options.loss_rows ? left : t->options.loss_rows,
                              .backward = backward};
        run_rows(&p, result);
    }
}
