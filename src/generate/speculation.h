/* speculation.h: guesses for the timelines of one owner, a session or an engine: the draft model, stores by mix, costs.
 * Private to src/generate; one thread at a time.
 */
#ifndef GRAFT_SPECULATION_H
#define GRAFT_SPECULATION_H

#include "generate/draft/draft.h"
#include "generate/timeline.h"

#include <graft/draft.h>

struct speculation;

/* `options` must be whole; `draft` is its model, or NULL. NULL for *out is no speculation: the functions below take it. */
graft_status speculation_open(const struct model *target, const struct model *draft,
                              const graft_draft_options *options, struct speculation **out,
                              graft_error *error);
/* Keeps what stores have learned; drafters must be closed. A zeroed pointer is allowed. */
void speculation_close(struct speculation **sp);
/* A drafter for a timeline. */
graft_status speculation_join(struct speculation *sp, const struct timeline *t,
                              struct drafter **out, graft_error *error);
/* The timeline's mix changed; its answer began or was trimmed. */
void speculation_follow_mix(struct speculation *sp, const struct timeline *t, struct drafter *d);

/* One timeline that guesses are made for in the step at hand. */
struct guess {
    struct timeline *line;
    struct drafter *drafter;
    int most; /* rows that it may have for them */
};
/* Guesses for all, placed behind their timelines; `rows` and `streams` are those of the step without. Timelines that have more to
 * compute than their last token get none. */
graft_status speculation_guess(struct speculation *sp, struct guess *guesses, int n, int rows,
                               int streams, graft_error *error);
/* A pass over decode rows alone took that long, picks included. */
void speculation_learn(struct speculation *sp, int rows, double seconds);
/* After timeline_pick: what became of the guesses. */
void speculation_verified(struct speculation *sp, const struct timeline *t, struct drafter *d);
/* Adds what a drafter has counted. */
void speculation_count(const struct drafter *d, graft_draft_info *info);

#endif
