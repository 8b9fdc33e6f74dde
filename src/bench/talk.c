/* talk.c: streams for benches: submit, read, compare. */
#include "bench/talk.h"

#include <poll.h>

graft_status talk_engine(const struct bench *b, size_t n_ctx, int n_streams,
                         struct graft_engine **out, graft_error *error)
{
    graft_engine_options o = engine_options_default();
    o.n_ctx = (int)n_ctx;
    o.max_streams = n_streams;
    o.keep_prefixes = false;
    o.cache_k = b->options->cache_k;
    o.cache_v = b->options->cache_v;
    return engine_open(b->model, NULL, &o, NULL, out, error);
}

graft_status talk_submit(struct graft_engine *e, const struct talk *talk, struct graft_stream **out,
                         graft_error *error)
{
    const graft_request r = {.prompt = talk->prompt,
                             .n_prompt = talk->n_prompt,
                             .sampling = {.top_p = 1, .repetition_penalty = 1},
                             .max_tokens = talk->n,
                             .base = talk->mix == NULL,
                             .ignore_eos = true,
                             .callback = talk->callback,
                             .user = talk->user};
    return engine_submit(e, &(struct submission){.request = &r, .mix = talk->mix}, out, error);
}

/* Waits as an event loop does. */
static graft_status wait_polled(struct graft_stream *s, graft_error *error)
{
    struct pollfd fd = {.events = POLLIN};
    graft_status status = stream_descriptor(s, &fd.fd, error);
    if (status == GRAFT_OK && poll(&fd, 1, -1) < 0)
        status = error_set(error, GRAFT_IO, "poll failed");
    return status;
}

graft_status talk_read(struct graft_stream *s, bool polled, graft_token_id *ids, size_t n,
                       graft_error *error)
{
    graft_token token;
    graft_status status;
    size_t at = 0;
    while ((status = stream_take(s, !polled, &token, error)) != GRAFT_END) {
        if (status == GRAFT_BUSY)
            status = wait_polled(s, error);
        else if (status == GRAFT_OK && at < n)
            ids[at++] = token.id;
        if (status != GRAFT_OK)
            return status;
    }
    return at == n ? GRAFT_OK
                   : error_set(error, GRAFT_INTERNAL, "a stream said %zu tokens of %zu", at, n);
}

graft_status talk_same(graft_token_id *known, bool *have, const graft_token_id *ids, size_t n,
                       graft_error *error)
{
    if (!*have)
        memcpy(known, ids, n * sizeof *ids);
    *have = true;
    return memcmp(known, ids, n * sizeof *ids) == 0
               ? GRAFT_OK
               : error_set(error, GRAFT_NUMERIC,
                           "a stream does not say what it says alone, so there is no figure");
}
