/* pass.c: one training pass: checks the batch, goes through embedding, layers and loss, and back. */
#include "training_internal.h"

static graft_status check_examples(const struct train_tape *t, const struct train_batch *b,
                                   graft_error *error)
{
    if (b->n_tok < 1 || b->n_tok > t->options.max_tok)
        return error_set(error, GRAFT_INVALID_ARGUMENT,
                         "a batch of %d tokens, and this tape takes 1 to %d", b->n_tok,
                         t->options.max_tok);
    if (b->n_examples < 1 || b->starts[0] != 0 || b->starts[b->n_examples] != b->n_tok)
        return error_set(error, GRAFT_INVALID_ARGUMENT,
                         "the examples of a batch are not its %d tokens", b->n_tok);
    for (int e = 0; e < b->n_examples; e++)
        if (b->starts[e + 1] <= b->starts[e])
            return error_set(error, GRAFT_INVALID_ARGUMENT, "example %d has no token", e);
    return GRAFT_OK;
}

static graft_status check_tokens(const struct train_tape *t, const struct train_batch *b,
                                 graft_error *error)
{
    int n_vocab = t->model->config.n_vocab, n_logits = model_n_logits(t->model);
    for (int i = 0; i < b->n_tok; i++) {
        if (b->tokens[i] < 0 || b->tokens[i] >= n_vocab)
            return error_set(error, GRAFT_INVALID_ARGUMENT, "token %d of a batch is %d, not 0..%d",
                             i, b->tokens[i], n_vocab - 1);
        if (b->weights[i] != 0 && (b->targets[i] < 0 || b->targets[i] >= n_logits))
            return error_set(error, GRAFT_INVALID_ARGUMENT, "target %d of a batch is %d, not 0..%d",
                             i, b->targets[i], n_logits - 1);
    }
    return GRAFT_OK;
}

static void begin_work(void *context, int worker, int n_workers)
{
    const struct train_tape *t = context;
    const struct model *m = t->model;
    int64_t begin, end, n = m->config.d_head / 2;
    pool_split(t->batch->n_tok, 1, worker, n_workers, &begin, &end);
    for (int64_t i = begin; i < end; i++) {
        rope_angles(m->rope_freq, (int)n, t->pos[i], m->rope_mscale, t->cos + i * n,
                    t->sin + i * n);
        for (int64_t j = 0; j < n; j++)
            t->minus_sin[i * n + j] = -t->sin[i * n + j];
    }
}

/* Where each token stands, and which have a weight. */
static void begin(struct train_tape *t, const struct train_batch *b)
{
    t->batch = b;
    t->n_loss = 0;
    for (int e = 0; e < b->n_examples; e++)
        for (int i = b->starts[e]; i < b->starts[e + 1]; i++) {
            t->example[i] = e;
            t->pos[i] = i - b->starts[e];
            if (b->weights[i] != 0)
                t->loss_tokens[t->n_loss++] = i;
        }
    tape_region(t, begin_work, t, (int64_t)b->n_tok * t->model->config.d_head * 16);
}

graft_status train_tape_run(struct train_tape *t, const struct train_batch *batch, bool backward,
                            struct train_result *result, graft_error *error)
{
    int n_layer = t->model->config.n_layer;
    graft_status status = check_examples(t, batch, error);
    if (status == GRAFT_OK)
        status = check_tokens(t, batch, error);
    if (status != GRAFT_OK)
        return status;
    *result = (struct train_result){0};
    begin(t, batch);
    embed_forward(t);
    for (int i = 0; i < n_layer; i++)
        layer_forward(t, i);
    if (backward)
        memset(t->dx, 0, (size_t)batch->n_tok * (size_t)t->model->config.d_model * sizeof(*t->dx));
    loss_run(t, backward, result);
    if (backward && t->n_loss) {
        for (int i = n_layer - 1; i >= t->first_layer; i--)
            layer_backward(t, i);
        if (t->embed_trained)
            embed_backward(t);
    }
    t->batch = NULL;
    return GRAFT_OK;
}
