/* generate_internal.h: what the files of this folder share: the session record. Not for other folders.
 */
#ifndef GRAFT_GENERATE_INTERNAL_H
#define GRAFT_GENERATE_INTERNAL_H

#include "generate/generate.h"
#include "generate/speculation.h"
#include "generate/timeline.h"

enum { CHUNK_MAX = 65536, CONTEXT_MAX = 1 << 28 }; /* rows of a pass, tokens */

/* A timeline with a cache and a workspace of its own. logits_row ≥ 0: the workspace still holds the logits that
 * followed tokens[0..logits_after). While there are picks in hand the first of them was made from row ahead_row. */
struct graft_session {
    struct timeline line;
    const struct model *model;
    struct mem *mem;
    struct kv_pool *pool;        /* of its own, or of all that were forked from one another */
    int64_t share;               /* blocks of the pool that it may need: those of a full context */
    enum kv_type k_type, v_type; /* of what it holds */
    struct workspace *workspace;
    struct row *rows; /* [chunk] */
    int chunk;
    struct sampler *sampler; /* NULL: a classifier */
    int logits_row;
    size_t logits_after;
    int ahead_row;
    struct speculation *speculation; /* NULL: nothing is guessed */
    struct drafter *drafter;
    uint64_t passes, guessed_tokens; /* since guesses are allowed */
    uint8_t *note;                   /* [n_note] the caller's own, or NULL */
    size_t n_note;
};

/* session_open with its blocks in the pool of `from` (NULL: in one of its own), whose cache types and context the options
 * must be. */
graft_status session_open_beside(const struct model *model, const graft_session_options *options,
                                 const struct graft_session *from, struct graft_session **out,
                                 graft_error *error);

/* ---- session_draft.c ---- */

/* Guesses behind the timeline for the pass to come, if any are allowed. */
void session_guess(struct graft_session *s);
/* After that pass and its picks: where guesses are allowed. */
void session_verified(struct graft_session *s, double seconds);
void session_close_draft(struct graft_session *s);

/* ---- state.c ---- */

/* What a session was opened with; `stops` has room for all of its stop texts, which are borrowed like the rest. */
graft_session_options session_settings(const struct graft_session *s, const char *stops[STOPS_MAX]);

#endif
