/* load.c: from a path to the logits of the first token.
 *
 * Opening (mapping, checking, the tokenizer), the buffers, and one decoded token, the pages of the file
 * being in memory. No less than all weights have to be read, so reading bounds it.
 */
#include "bench/bench_internal.h"

static graft_status first_token(struct bench *b, const struct model *m, graft_error *error)
{
    struct workspace *ws = NULL;
    struct kv_pool *pool = NULL;
    struct kv_seq *seq = NULL;
    const struct kv_pool_options options = bench_kv_options(b, 1);
    graft_status status = workspace_open(m, 1, &ws, error);
    if (status == GRAFT_OK)
        status = kv_pool_open(m, &options, &pool, error);
    if (status == GRAFT_OK)
        status = kv_seq_open(pool, &seq, error);
    if (status == GRAFT_OK)
        status = model_forward(
            m, &(struct row){.seq = seq, .role = ROLE_DECODE, .want_logits = true}, 1, ws, error);
    kv_seq_close(&seq);
    kv_pool_close(&pool);
    workspace_close(&ws);
    return status;
}

static graft_status run_load(struct bench *b, void *context, struct seconds *seconds,
                             graft_error *error)
{
    (void)context;
    struct model *m = NULL;
    double begun = time_seconds();
    graft_status status = bench_open_model(b, &m, error);
    if (status == GRAFT_OK)
        status = first_token(b, m, error);
    seconds->by[CLOCK_WALL] = wall_seconds(begun);
    model_close(&m);
    return status;
}

graft_status bench_load(struct bench *b, graft_error *error)
{
    struct bench_case c = {.name = "open to first token",
                           .unit = "ms",
                           .work = 1e3,
                           .is_time = true,
                           .clock = CLOCK_WALL,
                           .limit = LIMIT_READ,
                           .limit_work = model_token_bytes(b->model),
                           .baseline = -1,
                           .run = run_load};
    graft_status status = check_model(b, error);
    return status == GRAFT_OK ? bench_measure(b, &c, 1, error) : status;
}
