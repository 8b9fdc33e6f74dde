/* state.h: what there is of a session between two tokens, but for its keys and values: as a record, and as bytes.
 *
 * A record borrows all that it points to: of a session, or of the bytes that it was parsed from and its own arena. The bytes
 * are untrusted: parsing checks all that can be checked without a model. Private to src/generate.
 */
#ifndef GRAFT_STATE_H
#define GRAFT_STATE_H

#include "generate/text.h"

enum {
    STATE_CONTEXT_MAX = 1 << 28,  /* positions */
    STATE_RECORD_MAX = 128 << 20, /* bytes of a record */
    STATE_NOTE_MAX = 16 << 20,    /* bytes of a note */
    STATE_TEXT_MAX = 4096,        /* bytes of a text that is for people */
    STATE_STOP_IDS_MAX = 1 << 20
};

struct session_state {
    /* what computed the keys and values */
    const char *tier;         /* for messages: `arithmetic` tells */
    const char *base;         /* base_fingerprint */
    const char *architecture; /* for messages, as the following two */
    const char *model_path;
    const char *adapters;   /* "coder=0.7 + tone=0.3"; "": none */
    uint8_t arithmetic[32]; /* kernels_digest */
    uint8_t weights[32];    /* model_digest */
    uint8_t mix[32];        /* digest of the session's mix */
    bool mix_off;
    graft_session_options options; /* but prefill_chunk */
    const graft_token_id *tokens;  /* [n_tokens] */
    const uint8_t *roles;          /* [n_tokens] of enum role */
    size_t n_tokens, n_held;       /* positions that the cache holds, from the first on */
    size_t answer_begin;
    graft_finish finish;
    bool answering;
    struct text_state text; /* where `answering` */
    const uint8_t *note;    /* [n_note], the caller's own; NULL: none */
    size_t n_note;
};

/* Appends the bytes of a record. NO_MEMORY; LIMIT when it is larger than any may be. */
graft_status state_write(const struct session_state *state, struct buf *out, graft_error *error);
/* The other way round; all that is parsed writes the same bytes. `bytes` and the arena must outlive the record. FORMAT says what
 * cannot be so; NO_MEMORY. */
graft_status state_parse(const uint8_t *bytes, size_t size, struct arena *arena,
                         struct session_state *out, graft_error *error);

#endif
