/* timeline.h: one timeline of tokens: what a session is without the pass that evaluates it.
 *
 * Owns the tokens, their roles, the block table, the mix, sampling, stop conditions and the text. It says which rows the
 * next pass needs and takes its picks from what came out; the pass itself, and the workspace, belong to whoever
 * steps it: a session steps one timeline, an engine many in one batch. One thread at a time. Private to
 * src/generate.
 */
#ifndef GRAFT_TIMELINE_H
#define GRAFT_TIMELINE_H

#include "generate/constraint/constraint.h"
#include "generate/draft/draft.h"
#include "generate/generate.h"
#include "generate/text.h"

/* Rows before `end` (and from the end of the span before) were computed under this mix. */
struct mix_span {
    size_t end;
    struct mix *mix; /* a reference; NULL: the base model */
};

/* The timeline is tokens[0..n_tokens); the cache holds a prefix of it, one token short after a token was picked, since
 * its keys and values are computed when they are needed. With picks in hand (n_ahead > 0) the cache may
 * already hold some of those too. What lies behind n_tokens in the arrays is scratch. */
struct timeline {
    const struct model *model;
    struct mem *mem;
    struct kv_seq *seq;
    graft_sampling sampling;
    struct text text;
    graft_token_id *tokens; /* [n_ctx] */
    uint8_t *roles;         /* [n_ctx]: enum role of each token */
    size_t n_tokens, n_ctx;
    size_t
        answer_begin; /* the answer is what was picked since the last prompt, or since an answer ended */
    graft_finish finish;
    bool answering;  /* the text has begun */
    struct mix *mix; /* a reference, or NULL */
    bool mix_off;    /* rows are the base model's all the same */
    /* What was in force before, for tokens that are not computed yet; where keeps_spans is set, for all of them, so that
     * blocks which were taken away can be computed again as they were (adapters stay in memory for it). */
    struct mix_span *spans; /* [n_spans], room for span_capacity */
    int n_spans, span_capacity;
    bool keeps_spans;
    bool ignore_eos;
    graft_token_id *stop_ids;
    size_t n_stop_ids;
    /* Guesses of what follows, in tokens[n_tokens..n_tokens + n_draft): rows of the next pass that reaches the end. */
    int n_draft;
    /* The pass that was planned last: rows of tokens, then of guesses; whether it ends with the last token. */
    int planned_tokens, planned_drafts;
    int guesses_cut; /* that a constraint does not allow: left out of it */
    bool planned_end;
    int verified, accepted; /* of its guesses: those that were looked at, those that were right */
    /* Picks that are verified and not yet part of the timeline: ahead[0..n_ahead), the next one first. */
    struct pick ahead[DRAFT_MOST + 1];
    int n_ahead;
    /* The best tokens in the place of the one that was said last, then of each pick in hand; NULL: nobody asked. */
    graft_alternative *tops; /* [DRAFT_MOST + 2, n_top] */
    int n_top;
    /* What answers are held to; NULL: nothing. tokens[held_from..held_to) went through it. */
    struct matcher *matcher;
    size_t held_from, held_to;
    size_t answer_most; /* tokens within which such an answer is to end; 0: those of the context */
};

/* Opens `t` (any contents) for at most n_ctx tokens, with its sequence in `pool`. Of the options: sampling, stops,
 * stop_ids, ignore_eos and show_special. On failure there is nothing to close. */
graft_status timeline_open(struct timeline *t, const struct model *model, struct kv_pool *pool,
                           size_t n_ctx, const graft_session_options *options, graft_error *error);
void timeline_close(struct timeline *t); /* a zeroed one is allowed */

/* From the next pick on records have the n (0 to TIMELINE_TOP_MOST) best tokens, or as many as there are. Once. */
enum { TIMELINE_TOP_MOST = 20 };
graft_status timeline_want_top(struct timeline *t, int n, graft_error *error);

/* INVALID_ARGUMENT for an id that is not in the vocabulary. */
graft_status timeline_check_ids(const struct timeline *t, const graft_token_id *ids, size_t n,
                                graft_error *error);
/* Appends tokens of a prompt that were checked, n at most n_ctx - n_tokens; nothing is evaluated. */
void timeline_append(struct timeline *t, const graft_token_id *ids, size_t n);
/* Forgets tokens from n on, n at most n_tokens, and that the answer ended. */
void timeline_trim(struct timeline *t, size_t n);
/* Ends an answer: another one may follow. */
void timeline_resume(struct timeline *t);
/* Holds answers, from the next token on, to a grammar in the words of the model's vocabulary; NULL: to nothing. Whatever
 * answer was going on is over. End tokens end such an answer even with ignore_eos. */
graft_status timeline_hold(struct timeline *t, struct grammar *g, struct vocabulary *v,
                           graft_error *error);
/* Gives up picks and guesses that are not part of the timeline. */
void timeline_rewind(struct timeline *t);
/* No token can follow: an end token, a stop, or a full context. */
bool timeline_is_over(const struct timeline *t);

/* Tokens that the next passes have to evaluate, at least 1 (the last one again where all were: for its logits). */
size_t timeline_pending(const struct timeline *t);
/* Fills rows[0..most) with what comes next: pending tokens in their order and, when all of those fit, guesses behind them.
 * The last token wants logits, and each guess. Returns how many rows. The timeline has tokens and no picks in hand. */
int timeline_plan(struct timeline *t, struct row *rows, int most);
/* After a pass with the planned rows, the first of them row `first` of the workspace: where it reached the end of the
 * timeline, picks what follows, verifying guesses: ahead[] is what plain decoding would pick one by one. Nothing is
 * picked otherwise. Call it inside a region of the pool, where arithmetic is graft's. */
graft_status timeline_pick(struct timeline *t, const struct workspace *ws, int first,
                           struct sampler *sampler, graft_error *error);
/* The same from one row of logits that follow the timeline. */
graft_status timeline_pick_from(struct timeline *t, const float *logits, struct sampler *sampler,
                                graft_error *error);
/* Makes the next pick in hand part of the timeline and says it as a record. On failure it stays in hand. */
graft_status timeline_commit(struct timeline *t, graft_token *out, graft_error *error);
/* The record that ends an answer: what is still held back, once. */
graft_status timeline_end_record(struct timeline *t, graft_token *out, graft_error *error);

/* Of the rows to come; NULL: the base model. */
const struct delta_set *timeline_deltas(const struct timeline *t);
/* As session_set_mix and session_enable_mix; true: what rows compute has changed. */
bool timeline_set_mix(struct timeline *t, struct mix *mix, graft_kv_policy policy);
bool timeline_enable_mix(struct timeline *t, bool on, graft_kv_policy policy);
/* Makes room to remember one more mix: before each change of it. */
graft_status timeline_reserve_span(struct timeline *t, graft_error *error);
/* All tokens are computed, and keeps_spans is not set. */
void timeline_forget_spans(struct timeline *t);
const uint8_t *timeline_digest_now(const struct timeline *t); /* of the mix in force */
/* The digest of the mix of rows begin..end - 1; NULL: they have several. */
const uint8_t *timeline_digest(const struct timeline *t, size_t begin, size_t end);
/* Makes `t`, open, empty and of the same pool, continue `from`: its tokens (at most n_ctx of `t`), mixes and blocks. Answer,
 * sampling and stops are those of `t`. */
graft_status timeline_fork(struct timeline *t, const struct timeline *from, graft_error *error);

/* Makes the answer of `t`, which has the tokens and the stops of `from`, the one that `from` is in the midst of. */
graft_status timeline_fork_answer(struct timeline *t, const struct timeline *from,
                                  graft_error *error);

#endif
