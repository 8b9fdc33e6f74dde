/* graft/session.h: generate text: one timeline of tokens on one model.
 *
 * A session holds tokens, KV cache and sampler. It belongs to one thread at a time; different sessions
 * may run on different threads (their forward passes take turns on the runtime's workers). Close it
 * before its model. A call that fails leaves the session as it was before the call, ready for another
 * one: also when memory ran out, a callback cancelled, or the model gave NaN (GRAFT_NUMERIC).
 *
 * Same model, tier, sampling (seed included) and tokens give the same text: whatever the number of
 * threads, the size of prefill_chunk, and what else runs in the process.
 */
#ifndef GRAFT_SESSION_H
#define GRAFT_SESSION_H

#include <graft/model.h>

#ifdef __cplusplus
extern "C" {
#endif

typedef struct graft_session graft_session;

/* How the next token is picked. All values are literal: temperature 0 is greedy. */
typedef struct graft_sampling {
    size_t struct_size;
    float temperature;        /* ≥ 0; default 0.8 */
    int top_k;                /* keep the k best; 0: all; default 40 */
    float top_p;              /* (0, 1]; 1: off; default 0.95 */
    float min_p;              /* [0, 1]; relative to the best; 0: off; default 0.05 */
    float repetition_penalty; /* > 0; 1: off (default); CTRL's rule, once per token */
    float presence_penalty;   /* subtracted once per token seen; default 0 */
    float frequency_penalty;  /* subtracted per occurrence; default 0 */
    int penalty_window;       /* last tokens looked at; 0: all; default 64 */
    uint64_t seed;            /* default 0 */
    uint32_t reserved[6];     /* 0; later fields come here, so that the size stays */
} graft_sampling;
GRAFT_API void graft_sampling_init(graft_sampling *sampling, size_t struct_size);
static inline graft_sampling graft_sampling_default(void)
{
    graft_sampling sampling;
    graft_sampling_init(&sampling, sizeof sampling);
    return sampling;
}
/* The defaults overlaid with the model's generation_config.json (do_sample false: temperature 0);
 * values there that are out of range are passed over. */
GRAFT_API graft_sampling graft_sampling_for(const graft_model *model);

typedef enum graft_kv_type { GRAFT_KV_F16 = 0, GRAFT_KV_F32 = 1, GRAFT_KV_Q8 = 2 } graft_kv_type;

typedef struct graft_session_options {
    size_t struct_size;
    graft_sampling sampling;
    /* Most tokens, prompts and answers together; 0 (default): min(model, 4096). More than the model was
     * made for is allowed and logged. */
    int n_ctx;
    graft_kv_type cache_k, cache_v; /* default F16 */
    int prefill_chunk;              /* rows per forward pass of a prompt; default 256 */
    /* Texts that end an answer and are not given out: UTF-8, at most 256 of at most 4096 bytes. The
     * first to be complete counts, wherever the borders of tokens are. */
    const char *const *stops;
    size_t n_stops;
    const graft_token_id *stop_ids; /* beside the model's own end tokens */
    size_t n_stop_ids;
    bool ignore_eos;   /* go on past the model's end tokens; default false */
    bool show_special; /* text of special, end and stop tokens in pieces; default false */
} graft_session_options;
GRAFT_API void graft_session_options_init(graft_session_options *options, size_t struct_size);
static inline graft_session_options graft_session_options_default(void)
{
    graft_session_options options;
    graft_session_options_init(&options, sizeof options);
    return options;
}

/* Opens an empty session. Strings and arrays in the options are copied; options NULL: the defaults with
 * graft_sampling_for(model). Memory for the cache is taken as it fills. On a classifier only
 * graft_session_classify and graft_session_embedding work (else GRAFT_UNSUPPORTED). */
GRAFT_API graft_status graft_session_open(const graft_model *model,
                                          const graft_session_options *options, graft_session **out,
                                          graft_error *error);
GRAFT_API void graft_session_close(graft_session **session);

/* A session that is where this one is and goes on by itself: the same tokens, mix, sampling (seed included), stops,
 * constraint, cache types and context, in the same place of the same answer, held text included. It says what this one would have said, and
 * nothing that either does reaches the other: each may be on a thread of its own from then on, and be closed in any order.
 * Costs about a tenth of a millisecond, however long the session is: keys and values are shared, and a block of 64
 * positions is copied once one of them writes to it. What the last token evaluated is not taken along:
 * graft_session_top is GRAFT_STATE until the next one; nor is how tokens are guessed (graft_session_set_draft). */
GRAFT_API graft_status graft_session_fork(const graft_session *session, graft_session **out,
                                          graft_error *error);

/* Appends tokens and computes their keys and values, prefill_chunk at a time; ends the answer that was
 * going on. GRAFT_LIMIT: they do not fit n_ctx; GRAFT_INVALID_ARGUMENT: an id that is not in the
 * vocabulary; GRAFT_CANCELLED: by `progress` (may be NULL; units: tokens), called after each chunk. On
 * failure nothing is appended. n 0 is allowed. */
GRAFT_API graft_status graft_session_prompt(graft_session *session, const graft_token_id *ids,
                                            size_t n, graft_progress_fn progress,
                                            void *progress_user, graft_error *error);
/* Tokenises (BOS first when the session is empty and the tokenizer asks for it; special tokens written
 * in the text are plain text) and appends. For the output of graft_chat_render use graft_tokenize with
 * GRAFT_TOKENIZE_SPECIAL and graft_session_prompt. GRAFT_UNSUPPORTED: the model has no tokenizer. */
GRAFT_API graft_status graft_session_prompt_text(graft_session *session, const char *text,
                                                 size_t size, graft_error *error);

typedef struct graft_alternative {
    graft_token_id id;
    float logprob; /* as in graft_token */
} graft_alternative;
/* One generated token. `text` holds only whole UTF-8 characters: bytes of an unfinished one come with a
 * later token, and text that may be the beginning of a stop string is held back until it is decided;
 * it is NUL-terminated and valid until the next call on the session or stream, or until a callback returns. */
typedef struct graft_token {
    graft_token_id id;
    const char *text; /* never NULL; "" for a model without tokenizer */
    size_t text_size;
    float logprob; /* natural log, under the model's own distribution: raw logits, no penalties */
    float probability; /* the same, not as a logarithm */
    bool is_eos;       /* one of the model's end tokens: the last record (never with ignore_eos) */
    /* The best tokens in this place, best first, where a stream was asked for them (graft_request.top); valid as long as
     * the text. Of a session: graft_session_top. */
    const graft_alternative *top; /* [n_top] */
    size_t n_top;
} graft_token;

/* Pulls the next token. The token that ends the answer (end token, stop token, the one that completes a
 * stop text) is a record like the others; graft_session_finish tells at once that it was the last.
 * The call after it, and any call when the context is full, is GRAFT_END (no failure: *error is
 * untouched): *out then carries text that was still held back, once, with id -1. GRAFT_STATE: the
 * session has no tokens. After a failure the same call may be made again. */
GRAFT_API graft_status graft_session_next(graft_session *session, graft_token *out,
                                          graft_error *error);

typedef enum graft_finish {
    GRAFT_FINISH_NONE = 0, /* still going, or never begun */
    GRAFT_FINISH_EOS,
    GRAFT_FINISH_STOP,   /* a stop string or stop token */
    GRAFT_FINISH_LENGTH, /* max_tokens, or the context is full */
    GRAFT_FINISH_CANCELLED,
    GRAFT_FINISH_TIMEOUT, /* the request's time was over: <graft/engine.h> */
    GRAFT_FINISH_FAILED   /* likewise: the stream says why */
} graft_finish;
/* NONE for NULL. */
GRAFT_API graft_finish graft_session_finish(const graft_session *session);
GRAFT_API const char *graft_finish_name(graft_finish finish); /* "eos", "stop", "length", … */

/* Called for each token, on the calling thread; return false to cancel. It may read the session (length,
 * tokens, top), not change it. */
typedef bool (*graft_token_fn)(void *user, const graft_token *token);
/* Pulls up to max_tokens tokens (0: until something else ends it) and gives each to callback (may be
 * NULL); text still held back at the end comes as a last record with id -1. OK also when cancelled:
 * graft_session_finish tells how it ended. After EOS or STOP it does nothing until resume, prompt or
 * trim.
 * After LENGTH by max_tokens or CANCELLED, generate or next goes on with the tokens that follow: an
 * answer in slices has the ids, the text and the end of the same answer in one call. At the end of a
 * slice by max_tokens, text held for a possible stop text is given out, once; when a later slice
 * completes that stop text, the answer ends with STOP, and its beginning was given already. Bytes of an
 * unfinished character wait for the next slice; resume, prompt and trim drop them, while EOS, STOP and a
 * full context give them as U+FFFD. */
GRAFT_API graft_status graft_session_generate(graft_session *session, size_t max_tokens,
                                              graft_token_fn callback, void *user,
                                              graft_error *error);

/* Ends the current answer: forgets why it finished, the state of stop texts, held text and an unfinished
 * character, so that generation can go on after an end token. prompt and trim do so by themselves. */
GRAFT_API void graft_session_resume(graft_session *session);
/* Forgets tokens from position n on and ends the current answer. Going on from there gives what it gave
 * before. GRAFT_INVALID_ARGUMENT: n is above the length. */
GRAFT_API graft_status graft_session_trim(graft_session *session, size_t n, graft_error *error);
/* Tokens so far, prompt included. 0 for NULL. */
GRAFT_API size_t graft_session_length(const graft_session *session);
/* The same tokens; borrowed until the next call. */
GRAFT_API const graft_token_id *graft_session_tokens(const graft_session *session, size_t *n);
GRAFT_API int graft_session_context(const graft_session *session); /* n_ctx in force */
/* Memory that the cache takes now: that of all sessions that were forked from one another, since they share it. */
GRAFT_API size_t graft_session_kv_bytes(const graft_session *session);
/* The sampling in force may be changed between tokens. */
GRAFT_API graft_status graft_session_set_sampling(graft_session *session,
                                                  const graft_sampling *sampling,
                                                  graft_error *error);

GRAFT_API graft_sampling graft_session_sampling(const graft_session *session); /* in force */

/* The n (1 to n_vocab) best tokens by the model's own distribution, best first, for --logprobs views: ids
 * and logprobs are arrays of n, the caller's. After next, and in the callback of generate: the
 * distribution that this token was picked from. After prompt: that of the token to come. GRAFT_STATE
 * when nothing was evaluated yet, or since a trim or a failure. */
GRAFT_API graft_status graft_session_top(const graft_session *session, size_t n,
                                         graft_token_id *ids, float *logprobs, graft_error *error);

/* ---- evaluation without sampling ----
 * The session must be empty (else GRAFT_STATE) and is left empty. n is at least 1 and at most n_ctx
 * (GRAFT_LIMIT). `out` is the caller's; its contents are undefined on failure. */

typedef enum graft_row_role { GRAFT_ROLE_PREFILL = 0, GRAFT_ROLE_DECODE = 1 } graft_row_role;

/* Logits of every position: out is [n, n_vocab], the caller's. */
GRAFT_API graft_status graft_session_logits(graft_session *session, const graft_token_id *ids,
                                            size_t n, graft_row_role role, float *out,
                                            graft_error *error);
/* Natural-log probability of each id given those before it: out[0] is 0, out[i] = log p(ids[i] | ids[..i]). */
GRAFT_API graft_status graft_session_score(graft_session *session, const graft_token_id *ids,
                                           size_t n, float *out, graft_error *error);
/* The same of several texts that do not see each other, in fewer passes: text i is ids[starts[i]..starts[i + 1]), of 1
 * to n_ctx tokens; starts is [n_texts + 1] and begins with 0. `wanted` (may be NULL: all) has a byte for each id:
 * where it is 0, and at the beginning of a text, out is 0. What is wanted has the values of graft_session_score, bit
 * for bit. n_texts 0 is allowed. */
GRAFT_API graft_status graft_session_score_texts(graft_session *session, const graft_token_id *ids,
                                                 const size_t *starts, size_t n_texts,
                                                 const uint8_t *wanted, float *out,
                                                 graft_error *error);
typedef enum graft_pooling { GRAFT_POOL_MEAN = 0, GRAFT_POOL_LAST = 1 } graft_pooling;
/* The final normed hidden state, pooled: out is [d_model]. */
GRAFT_API graft_status graft_session_embedding(graft_session *session, const graft_token_id *ids,
                                               size_t n, graft_pooling pooling, float *out,
                                               graft_error *error);
/* Class scores [n_labels] of a classifier: of the last token that is not the pad token. */
GRAFT_API graft_status graft_session_classify(graft_session *session, const graft_token_id *ids,
                                              size_t n, float *out, graft_error *error);

#ifdef __cplusplus
}
#endif
#endif
