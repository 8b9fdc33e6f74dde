/* prefill.c: prompt tokens per second.
 *
 * A sample is one model_forward of all rows of a prompt from an empty cache. No row asks for logits, so
 * the head is not run at all: what is left is what grows with the prompt. What bounds it is arithmetic:
 * two operations per weight of the blocks and token; attention is not counted, though it is timed.
 */
#include "bench/bench_internal.h"

graft_status prompt_run(struct bench *b, void *context, struct seconds *seconds, graft_error *error)
{
    struct prompt *p = context;
    kv_seq_trim(p->seq, 0);
    double begun = time_seconds();
    graft_status status = model_forward(b->model, p->rows, b->options->tokens, p->ws, error);
    seconds->by[CLOCK_WALL] = wall_seconds(begun);
    return status;
}

graft_status prompt_open(struct bench *b, struct prompt *p, graft_error *error)
{
    int n = b->options->tokens;
    const struct kv_pool_options options = bench_kv_options(b, n / KV_BLOCK + 1);
    p->rows = mem_calloc(b->mem, (size_t)n, sizeof *p->rows);
    if (!p->rows)
        return error_set(error, GRAFT_NO_MEMORY, "no memory for rows");
    graft_status status = workspace_open(b->model, n, &p->ws, error);
    if (status == GRAFT_OK)
        status = kv_pool_open(b->model, &options, &p->pool, error);
    if (status == GRAFT_OK)
        status = kv_seq_open(p->pool, &p->seq, error);
    for (int i = 0; i < n; i++)
        p->rows[i] =
            (struct row){.token = (graft_token_id)((int64_t)i * 7919 % b->model->config.n_vocab),
                         .pos = i,
                         .seq = p->seq,
                         .role = ROLE_PREFILL};
    return status;
}

void prompt_close(struct bench *b, struct prompt *p)
{
    kv_seq_close(&p->seq);
    kv_pool_close(&p->pool);
    workspace_close(&p->ws);
    mem_free(b->mem, p->rows);
}

graft_status bench_prefill(struct bench *b, graft_error *error)
{
    struct prompt p = {0};
    struct bench_case c = {.unit = "tokens/s",
                           .work = b->options->tokens,
                           .clock = CLOCK_WALL,
                           .limit = limits_peak_for(&b->limits, b->runtime->kernels,
                                                    b->model->layers[0].linear[LINEAR_GATE].type),
                           .limit_work = model_block_flops(b->model) * b->options->tokens,
                           .baseline = -1,
                           .run = prompt_run,
                           .context = &p};
    snprintf(c.name, sizeof c.name, "%d tokens, without the head", b->options->tokens);
    graft_status status = check_model(b, error);
    if (status == GRAFT_OK)
        status = prompt_open(b, &p, error);
    if (status == GRAFT_OK)
        status = bench_measure(b, &c, 1, error);
    prompt_close(b, &p);
    return status;
}
