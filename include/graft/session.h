/* graft/session.h: generate text: one timeline of tokens on one model.
 *
 * A session holds tokens, KV cache and sampler. It belongs to one thread at a time; different sessions
 * may run on different threads (their forward passes take turns on the runtime's workers).
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
    uint64_t seed;            /* default 0; same seed, tier and input: same text */
} graft_sampling;
GRAFT_API graft_sampling graft_sampling_default(void);
/* The defaults overlaid with the model's generation_config.json (do_sample false: temperature 0). */
GRAFT_API graft_sampling graft_sampling_for(const graft_model *model);

typedef enum graft_kv_type { GRAFT_KV_F16 = 0, GRAFT_KV_F32 = 1, GRAFT_KV_Q8 = 2 } graft_kv_type;

typedef struct graft_session_options {
    size_t struct_size;
    graft_sampling sampling;
    int n_ctx;                      /* most positions; 0 (default): min(model, 4096) */
    graft_kv_type cache_k, cache_v; /* default F16 */
    int prefill_chunk;              /* rows per forward pass of a prompt; default 256 */
    const char *const *stops;       /* texts that end generation; they are not given out */
    size_t n_stops;
    const graft_token_id *stop_ids; /* beside the model's own end tokens */
    size_t n_stop_ids;
    bool ignore_eos;   /* go on past end tokens; default false */
    bool show_special; /* text of special tokens in pieces; default false */
} graft_session_options;
GRAFT_API graft_session_options graft_session_options_default(void);

/* Strings and arrays in the options are copied. */
GRAFT_API graft_status graft_session_open(const graft_model *model,
                                          const graft_session_options *options, graft_session **out,
                                          graft_error *error);
GRAFT_API void graft_session_close(graft_session **session);

/* Appends tokens and computes their keys and values. GRAFT_LIMIT when they do not fit n_ctx (nothing is
 * appended then). `progress` may be NULL. */
GRAFT_API graft_status graft_session_prompt(graft_session *session, const graft_token_id *ids,
                                            size_t n, graft_progress_fn progress,
                                            void *progress_user, graft_error *error);
/* Tokenises (BOS first when the session is empty and the tokenizer asks for it) and appends. */
GRAFT_API graft_status graft_session_prompt_text(graft_session *session, const char *text,
                                                 size_t size, graft_error *error);

/* One generated token. `text` holds only whole UTF-8 characters: bytes of an unfinished one come with a
 * later token, and text that may be the beginning of a stop string is held back until it is decided;
 * it is NUL-terminated and valid until the next call on the session. */
typedef struct graft_token {
    graft_token_id id;
    const char *text;
    size_t text_size;
    float logprob;     /* natural log, under the model's own distribution */
    float probability; /* exp(logprob) */
    bool is_eos;       /* an end token: the last record */
} graft_token;

/* Pulls the next token. GRAFT_END when generation is over (end token given out before, stop string or
 * token, context full); graft_session_finish tells why, and *out then carries text that was still held
 * back (id -1). */
GRAFT_API graft_status graft_session_next(graft_session *session, graft_token *out,
                                          graft_error *error);

typedef enum graft_finish {
    GRAFT_FINISH_NONE = 0, /* still going, or never begun */
    GRAFT_FINISH_EOS,
    GRAFT_FINISH_STOP,   /* a stop string or stop token */
    GRAFT_FINISH_LENGTH, /* max_tokens, or the context is full */
    GRAFT_FINISH_CANCELLED
} graft_finish;
GRAFT_API graft_finish graft_session_finish(const graft_session *session);
GRAFT_API const char *graft_finish_name(graft_finish finish); /* "eos", "stop", "length", … */

/* Called for each token; return false to cancel. */
typedef bool (*graft_token_fn)(void *user, const graft_token *token);
/* Pulls up to max_tokens tokens (0: until something else ends it). OK also when cancelled. */
GRAFT_API graft_status graft_session_generate(graft_session *session, size_t max_tokens,
                                              graft_token_fn callback, void *user,
                                              graft_error *error);

/* Ends the current answer: clears stop state and held text so that prompt may go on (the next turn). */
GRAFT_API void graft_session_resume(graft_session *session);
/* Forgets tokens from position n on. */
GRAFT_API graft_status graft_session_trim(graft_session *session, size_t n, graft_error *error);
GRAFT_API size_t graft_session_length(const graft_session *session);
/* The tokens so far, prompt included; borrowed until the next call. */
GRAFT_API const graft_token_id *graft_session_tokens(const graft_session *session, size_t *n);
GRAFT_API int graft_session_context(const graft_session *session); /* n_ctx in force */
GRAFT_API size_t graft_session_kv_bytes(const graft_session *session);
/* The sampling in force may be changed between tokens. */
GRAFT_API graft_status graft_session_set_sampling(graft_session *session,
                                                  const graft_sampling *sampling,
                                                  graft_error *error);

/* The n best next tokens by the model's own distribution after the last position, best first, for
 * --logprobs views: ids and logprobs are arrays of n. GRAFT_STATE before any token. */
GRAFT_API graft_status graft_session_top(const graft_session *session, size_t n,
                                         graft_token_id *ids, float *logprobs, graft_error *error);

/* ---- evaluation without sampling (the session must be empty; it is left empty) ---- */

typedef enum graft_row_role { GRAFT_ROLE_PREFILL = 0, GRAFT_ROLE_DECODE = 1 } graft_row_role;

/* Logits of every position: out is [n, n_vocab], the caller's. */
GRAFT_API graft_status graft_session_logits(graft_session *session, const graft_token_id *ids,
                                            size_t n, graft_row_role role, float *out,
                                            graft_error *error);
/* Natural-log probability of each id given those before it: out[0] is 0, out[i] = log p(ids[i] | ids[..i]). */
GRAFT_API graft_status graft_session_score(graft_session *session, const graft_token_id *ids,
                                           size_t n, float *out, graft_error *error);
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
