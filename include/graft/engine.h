/* graft/engine.h: many answers at once: one worker steps them together as one batch.
 *
 * A request is a prompt and how to go on from it; submitted, it becomes a stream of tokens. The engine evaluates what all
 * streams need next in one pass: prompts in pieces beside the tokens of others, each row with the mix of its own stream (several
 * adapters, DoRA, none). Keys and values lie in blocks of 64 tokens that streams with equal beginnings, equal mixes
 * and equal history share.
 *
 * What a stream says depends on its request alone: not on what shares its batch, on the order of arrival, on hits in the
 * cache of prefixes, on a pause because memory was short, nor on threads. It is what a session with the same mix, sampling
 * and prompt says, token by token; drafts (speculative decoding) change how fast it is said, also when sampling.
 *
 * All functions may be called from any thread; one stream is read by one thread at a time. The engine has a thread of
 * its own, which does what sessions do on the caller's, and shares the runtime's workers with them.
 */
#ifndef GRAFT_ENGINE_H
#define GRAFT_ENGINE_H

#include <graft/adapter.h>
#include <graft/constraint.h>
#include <graft/draft.h>

#ifdef __cplusplus
extern "C" {
#endif

typedef struct graft_engine graft_engine;
typedef struct graft_stream graft_stream;

typedef struct graft_engine_options {
    size_t struct_size;
    int max_streams;                /* stepped at once; 1 to 4096, default 64 */
    int max_waiting;                /* more that wait for their turn; default 1024 */
    int n_ctx;                      /* most tokens of a stream; 0 (default): min(model, 4096) */
    size_t kv_bytes;                /* of keys and values, kept prefixes included; default 1 GiB */
    size_t waiting_tokens;          /* of the prompts that wait, together; default 4 Mi */
    graft_kv_type cache_k, cache_v; /* default F16 */
    int batch_rows;                 /* of a pass at most; 1 to 65536, default 256 */
    /* Of those, rows of prompts while other streams are in the midst of an answer: what a prompt may delay them by.
     * Default 64. */
    int prompt_rows;
    int ring; /* records that a stream holds until they are read; beyond that it pauses; 2 to 65536, default 64 */
    bool
        keep_prefixes; /* blocks outlive their streams while there is room, longest unused goes; default true */
    /* Blocks of an answer stand in for the same tokens in a later prompt. Faster in conversations and not exact: a token's
     * arithmetic is that of decoding then, where a fresh prompt has that of prefill. Default false. */
    bool share_decoded;
    /* Speculative decoding of its streams; NULL (default): none. Copied; the draft model must outlive the engine. */
    const graft_draft_options *draft;
} graft_engine_options;
GRAFT_API void graft_engine_options_init(graft_engine_options *options, size_t struct_size);
static inline graft_engine_options graft_engine_options_default(void)
{
    graft_engine_options options;
    graft_engine_options_init(&options, sizeof options);
    return options;
}

/* Opens an engine for a language model (a classifier is GRAFT_UNSUPPORTED) and starts its thread. GRAFT_LIMIT: kv_bytes
 * hold less than one block of 64 tokens. */
GRAFT_API graft_status graft_engine_open(const graft_model *model,
                                         const graft_engine_options *options, graft_engine **out,
                                         graft_error *error);
/* Ends its streams as cancelled and its thread. The streams must be closed before, the model after. */
GRAFT_API void graft_engine_close(graft_engine **engine);

/* ---- requests ---- */

typedef struct graft_request {
    size_t struct_size;
    const graft_token_id *prompt; /* [n_prompt], at least one unless `fork` is given */
    size_t n_prompt;
    /* Goes on from the tokens that another stream of this engine has when the worker comes to it (between two steps),
     * with its mix, and shares their blocks; then `prompt`, of any length, follows. The stream fails with GRAFT_STATE when the other
     * is over by then, with GRAFT_LIMIT when both do not fit a context. NULL (default): from nothing. */
    graft_stream *fork;
    graft_mix *
        mix; /* NULL (default): the model's own mix; with `fork`: that of the other stream (else it is that of `prompt` and what follows) */
    bool base;                /* the base model, whatever the model's own mix is; default false */
    graft_sampling sampling;  /* default graft_sampling_default() */
    size_t max_tokens;        /* of the answer; 0 (default): until it ends or the context is full */
    const char *const *stops; /* as in graft_session_options, and so on */
    size_t n_stops;
    const graft_token_id *stop_ids;
    size_t n_stop_ids;
    bool ignore_eos;
    bool show_special;
    int top;       /* best tokens that come along with each (graft_token.top); 0 (default) to 20 */
    bool no_draft; /* no guesses for this one, where the engine makes them; default false */
    /* What the answer is held to, of the engine's model; NULL (default): nothing. It comes to its end within max_tokens. */
    const graft_constraint *constraint;
    int priority; /* higher goes first, also in place of what runs; default 0 */
    uint64_t
        owner; /* streams of equal priority take turns by owner, in proportion to rows; default 0 */
    double timeout; /* seconds from now until the answer must be over; 0 (default): none */
    /* Called on the engine's thread for each token in place of the ring, and once at the end with id -1; false cancels. It must
     * be quick and must not call the engine; what `user` points to must live until the record with id -1, which may come after
     * graft_stream_close, and from within graft_engine_close. NULL (default): the stream is read. */
    graft_token_fn callback;
    void *user; /* handed to callback */
} graft_request;
GRAFT_API void graft_request_init(graft_request *request, size_t struct_size);
static inline graft_request graft_request_default(void)
{
    graft_request request;
    graft_request_init(&request, sizeof request);
    return request;
}

/* Hands a request over and returns at once; everything in it is copied or retained. INVALID_ARGUMENT: what a session
 * would refuse, by name. GRAFT_LIMIT: it could never run here (more tokens than n_ctx, more blocks than kv_bytes hold), so
 * asking again is no use. GRAFT_BUSY: max_waiting or waiting_tokens is reached; what runs goes on, ask again later. */
GRAFT_API graft_status graft_engine_submit(graft_engine *engine, const graft_request *request,
                                           graft_stream **out, graft_error *error);

/* ---- streams ---- */

/* The next token, waiting for it; as graft_session_next: GRAFT_END after the last one, *out then being text that was held
 * back, with id -1. The text is valid until the next call on the stream. A stream that failed gives what it had and
 * then the reason, every time it is asked. Who sleeps here is woken about once in two milliseconds, sooner when half of the ring is
 * full, a prompt is about to run or the stream is over: faster tokens come a few at a time (graft_request.callback has each at
 * once). */
GRAFT_API graft_status graft_stream_next(graft_stream *stream, graft_token *out,
                                         graft_error *error);
/* The same without waiting: GRAFT_BUSY (no failure: *error is untouched) when there is nothing yet. */
GRAFT_API graft_status graft_stream_poll(graft_stream *stream, graft_token *out,
                                         graft_error *error);
/* A descriptor of the stream's that poll(2), epoll and event loops find readable when graft_stream_poll has something (a token or
 * the end), as soon as who sleeps in graft_stream_next is woken, until it has nothing. Read nothing from it. It is there from the first call on until the stream is closed.
 * GRAFT_LIMIT: the system has no descriptor left. */
GRAFT_API graft_status graft_stream_descriptor(graft_stream *stream, int *out, graft_error *error);
/* Ends the stream before the next step; it gives what it had and then GRAFT_END. Never waits. */
GRAFT_API void graft_stream_cancel(graft_stream *stream);
/* Cancels it, if it is not over, and forgets it. Never waits. */
GRAFT_API void graft_stream_close(graft_stream **stream);
/* Why it ended, once it has been read to its end; NONE before. */
GRAFT_API graft_finish graft_stream_finish(const graft_stream *stream);
/* Another mix (NULL: the base model) from the next step on, as graft_session_set_mix. Under CONTINUE the tokens that the
 * stream has by then keep the mix that they came with, computed or not. Tokens that wait in the ring were picked before. Of
 * several calls before one step the last one counts, and any REPLAY. */
GRAFT_API graft_status graft_stream_set_mix(graft_stream *stream, graft_mix *mix,
                                            graft_kv_policy policy, graft_error *error);

typedef struct graft_stream_info {
    size_t prompt_tokens; /* of it, those whose blocks were there already: */
    size_t cached_tokens;
    size_t tokens;            /* of the answer so far */
    size_t passes;            /* that it had rows in */
    size_t drafted, accepted; /* guesses, and how many were right */
    size_t pauses;            /* times that its blocks were taken for others and computed again */
    double waited;      /* seconds until its first row was computed; so far, if it still waits */
    double first_token; /* seconds from submission to the first token; 0: not there yet */
} graft_stream_info;
GRAFT_API graft_status graft_stream_describe(const graft_stream *stream, graft_stream_info *out,
                                             graft_error *error);

/* ---- the engine as a whole ---- */

typedef struct graft_engine_info {
    size_t running, waiting;                         /* streams now */
    size_t kv_bytes, kv_bytes_used;                  /* those of kept prefixes count as used */
    size_t prefixes;                                 /* blocks that are kept under a name */
    uint64_t prefix_hits, prefix_evictions;          /* blocks, so far */
    uint64_t submitted, finished, cancelled, failed; /* streams, so far */
    uint64_t passes, rows, tokens, pauses;           /* so far */
    uint64_t drafted, accepted;                      /* so far */
} graft_engine_info;
GRAFT_API graft_status graft_engine_describe(graft_engine *engine, graft_engine_info *out,
                                             graft_error *error);
/* Forgets the prefixes that are kept, before the next step. Streams keep the blocks that they use. */
GRAFT_API void graft_engine_forget_prefixes(graft_engine *engine);

#ifdef __cplusplus
}
#endif
#endif
