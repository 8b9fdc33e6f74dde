/* generate.h: from logits to text: sampler and session.
 *
 * A session is one timeline: tokens, KV cache, sampler, stop conditions, detokeniser. It belongs to
 * one thread at a time. It knows the model only through model_forward. struct graft_session of the
 * public header is the one here; api/ checks arguments and calls the functions below, whose contracts
 * are those of <graft/session.h> unless a comment adds to them.
 */
#ifndef GRAFT_GENERATE_H
#define GRAFT_GENERATE_H

#include "adapter/adapter.h"
#include "base/base.h"
#include "model/model.h"

#include <graft/adapter.h>
#include <graft/draft.h>
#include <graft/session.h>
#include <graft/session_state.h>

/* ---- sampler ------------------------------------------------------------------------------ */

/* A pick is a function of (options, logits, mask, history) and of nothing else, so that trimming a session
 * and going on gives what it gave before, and so that a guess of it can be verified: a draft is right if it is the pick.
 * Order of operations: penalties on raw logits over the last
 * penalty_window tokens of the history (repetition: negative logits multiplied, positive divided,
 * once per distinct token; then presence and frequency), the mask, temperature (0: greedy, ties to the lowest
 * id), top-k, top-p, min-p on the softmax, then one draw: an exponential race whose noise is a function of (seed,
 * length of the history, token). Among equal logits the lowest id ranks first. A sampler is scratch: it may serve any
 * number of timelines, one after the other. */
struct sampler;
struct pick {
    graft_token_id id;
    float logprob;     /* log softmax of the raw logits, before penalties, mask and temperature */
    float probability; /* softmax of the same */
    double log_sum;    /* log Σ exp of them */
};
/* OK, or INVALID_ARGUMENT naming the field. */
graft_status sampling_check(const graft_sampling *options, graft_error *error);
/* All scratch is allocated here; the functions below allocate nothing. */
graft_status sampler_open(struct mem *mem, const struct kernels *kernels, int n_vocab,
                          struct sampler **out, graft_error *error);
void sampler_close(struct sampler **sampler); /* NULL allowed */
/* Picks from logits [n_vocab] (read only) after n_history tokens, with options that were checked. `mask`: bit id % 32 of word
 * id / 32 is set where a token is allowed; NULL: all are. NUMERIC on NaN, on +infinity, and
 * when no logit that is allowed is finite; *out is untouched then. */
graft_status sampler_pick(struct sampler *s, const graft_sampling *options, const float *logits,
                          const uint32_t *mask, const graft_token_id *history, size_t n_history,
                          struct pick *out, graft_error *error);
/* log Σ exp(logits) */
double sampler_log_sum(struct sampler *s, const float *logits);
/* The n best of logits, best first, with their log-probabilities; n in 1..n_vocab. */
void sampler_top(const struct sampler *s, const float *logits, double log_sum, size_t n,
                 graft_token_id *ids, float *logprobs);

/* ---- session ------------------------------------------------------------------------------ */

/* What a cache of a public type is inside. */
enum kv_type cache_type(graft_kv_type type);
/* Tokens of a context where `wanted` were asked for (0: nothing was); more than the model was made for are logged. */
size_t context_size(const struct model *model, int wanted);
graft_sampling sampling_default(void);
/* The defaults overlaid with what generation_config.json says; values out of range are passed over. */
graft_sampling sampling_for_model(const struct model *model);

/* `options` must be whole (struct_size handled). The model must outlive the session. */
graft_status session_open(const struct model *model, const graft_session_options *options,
                          struct graft_session **out, graft_error *error);
void session_close(struct graft_session **session);
const struct model *session_model(const struct graft_session *s);

graft_status session_prompt(struct graft_session *s, const graft_token_id *ids, size_t n,
                            graft_progress_fn progress, void *user, graft_error *error);
graft_status session_prompt_text(struct graft_session *s, const char *text, size_t size,
                                 graft_error *error);
graft_status session_next(struct graft_session *s, graft_token *out, graft_error *error);
graft_status session_generate(struct graft_session *s, size_t max_tokens, graft_token_fn callback,
                              void *user, graft_error *error);
graft_finish session_finish(const struct graft_session *s);
void session_resume(struct graft_session *s);
graft_status session_trim(struct graft_session *s, size_t n, graft_error *error);
const graft_token_id *session_tokens(const struct graft_session *s, size_t *n);
int session_context(const struct graft_session *s);
size_t session_kv_bytes(const struct graft_session *s);
graft_status session_set_sampling(struct graft_session *s, const graft_sampling *sampling,
                                  graft_error *error);
/* `draft` is the model of the options, or NULL; options NULL: no guesses. */
graft_status session_set_draft(struct graft_session *s, const struct model *draft,
                               const graft_draft_options *options, graft_error *error);
void session_draft_info(const struct graft_session *s, graft_draft_info *out);
/* As timeline_hold: what answers are held to, NULL: nothing. */
struct grammar;
struct vocabulary;
graft_status session_set_constraint(struct graft_session *s, struct grammar *g,
                                    struct vocabulary *v, graft_error *error);
void session_set_answer_limit(struct graft_session *s, size_t max_tokens);
/* Makes the room that steps under a mix need (NULL: none), so that the mix may be set, and they allocate nothing. */
graft_status session_reserve(struct graft_session *s, const struct mix *mix, graft_error *error);
/* The mix of the rows to come, NULL: the base model. The session takes a reference of its own and gives
 * back the one that it had. REPLAY forgets the cache if that changes what rows compute. Cannot fail. */
void session_set_mix(struct graft_session *s, struct mix *mix, graft_kv_policy policy);
struct mix *session_mix(const struct graft_session *s); /* borrowed */
void session_enable_mix(struct graft_session *s, bool on, graft_kv_policy policy);
bool session_mix_enabled(const struct graft_session *s);
graft_status session_top(const struct graft_session *s, size_t n, graft_token_id *ids,
                         float *logprobs, graft_error *error);

graft_status session_fork(const struct graft_session *from, struct graft_session **out,
                          graft_error *error);
graft_status session_set_note(struct graft_session *s, const void *note, size_t size,
                              graft_error *error);
const void *session_note(const struct graft_session *s, size_t *size);
graft_status session_save(const struct graft_session *s, const char *path, graft_error *error);
struct restore_options {
    struct mix *mix; /* NULL: the base model */
    int n_ctx;       /* 0: as saved */
    int prefill_chunk;
    const graft_session_options *settings; /* whole; NULL: as saved */
    bool replay;
};
graft_status session_restore(const struct model *model, const char *path,
                             const struct restore_options *options, struct graft_session **out,
                             graft_error *error);
graft_sampling session_sampling(const struct graft_session *s);

/* What a file of a session says, without a model; keys and values are not looked at. */
struct graft_session_file;
graft_status session_file_open(struct mem *mem, const char *path, struct graft_session_file **out,
                               graft_error *error);
void session_file_close(struct graft_session_file **file);
const graft_session_summary *session_file_summary(const struct graft_session_file *f);
const graft_session_options *session_file_options(const struct graft_session_file *f);
const void *session_file_note(const struct graft_session_file *f, size_t *size); /* NULL: none */

/* ---- evaluation --------------------------------------------------------------------------- */

graft_status session_logits(struct graft_session *s, const graft_token_id *ids, size_t n,
                            enum role role, float *out, graft_error *error);
graft_status session_score(struct graft_session *s, const graft_token_id *ids, size_t n, float *out,
                           graft_error *error);
/* Texts one behind the other, as graft_session_score_texts says. */
struct score_texts {
    const graft_token_id *ids;
    const size_t *starts; /* [n + 1] */
    size_t n;
    const uint8_t *wanted; /* [starts[n]], or NULL: all */
};
graft_status session_score_texts(struct graft_session *s, const struct score_texts *texts,
                                 float *out, graft_error *error);
graft_status session_embedding(struct graft_session *s, const graft_token_id *ids, size_t n,
                               graft_pooling pooling, float *out, graft_error *error);
graft_status session_classify(struct graft_session *s, const graft_token_id *ids, size_t n,
                              float *out, graft_error *error);

#endif
