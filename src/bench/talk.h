/* talk.h: what the benches of streams share: requests that only differ in what counts, and readers that compare.
 * Private to src/bench.
 */
#ifndef GRAFT_BENCH_TALK_H
#define GRAFT_BENCH_TALK_H

#include "bench/bench_internal.h"
#include "generate/engine/engine.h"

enum { TALK_MAX = 4096 }; /* tokens of an answer */

/* Greedy, to the last of n tokens. `mix` NULL: the base model. */
struct talk {
    const graft_token_id *prompt;
    size_t n_prompt, n;
    struct mix *mix;
    graft_token_fn callback; /* NULL: it is read */
    void *user;
};
graft_status talk_submit(struct graft_engine *e, const struct talk *talk, struct graft_stream **out,
                         graft_error *error);
/* Reads to the end, waiting in the call or (polled) in poll(2); ids: room for n. INTERNAL unless there are n tokens. */
graft_status talk_read(struct graft_stream *s, bool polled, graft_token_id *ids, size_t n,
                       graft_error *error);
/* The first answer to come is kept in `known` (*have false before), the others must equal it: NUMERIC. */
graft_status talk_same(graft_token_id *known, bool *have, const graft_token_id *ids, size_t n,
                       graft_error *error);
/* An engine without kept prefixes, so that each answer costs what the first did. */
graft_status talk_engine(const struct bench *b, size_t n_ctx, int n_streams,
                         struct graft_engine **out, graft_error *error);

#endif
