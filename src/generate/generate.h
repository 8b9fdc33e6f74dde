/* generate.h: from logits to text: sampler and session.
 *
 * A session is one timeline: tokens, KV cache, sampler state, stop conditions, detokeniser. It belongs
 * to one thread at a time. It knows the model only through model_forward.
 */
#ifndef GRAFT_GENERATE_H
#define GRAFT_GENERATE_H

#include "base/base.h"
#include "model/model.h"

#include <graft/session.h>

/* ---- sampler ------------------------------------------------------------------------------ */

/* Order of operations: penalties on raw logits (repetition: negative logits multiplied, positive divided,
 * once per distinct token; then presence and frequency), temperature (0: greedy, ties to the lowest id),
 * top-k, top-p, min-p on the softmax, then one draw from a counter-based generator keyed by (seed, step). */
struct sampler;
graft_status sampler_open(struct mem *mem, int n_vocab, const graft_sampling *options,
                          struct sampler **out, graft_error *error);
void sampler_close(struct sampler **sampler);
/* A token of the prompt or of the answer, for the penalties. */
void sampler_accept(struct sampler *s, graft_token_id token);
void sampler_reset(struct sampler *s);
/* Picks from logits [n_vocab] (read only). logprob is the log-probability of the pick under the model's
 * own distribution (softmax of the raw logits, before penalties and temperature). NUMERIC on NaN. */
graft_status sampler_pick(struct sampler *s, const float *logits, graft_token_id *token,
                          float *logprob, graft_error *error);

/* ---- session: struct graft_session of the public header is this one ------------------------ */

graft_status session_open(const struct model *model, const graft_session_options *options,
                          struct graft_session **out, graft_error *error);
void session_close(struct graft_session **session);

#endif
