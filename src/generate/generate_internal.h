/* generate_internal.h: what the files of this folder share: the session record, the text stream, the
 * evaluation of pending tokens. Not for other folders.
 */
#ifndef GRAFT_GENERATE_INTERNAL_H
#define GRAFT_GENERATE_INTERNAL_H

#include "generate/generate.h"

/* ---- stream.c: token ids → text that may be given out ---- */

enum { STOP_MAX_BYTES = 4096, STOPS_MAX = 256 }; /* one stop text; how many */

/* One stop text, matched byte by byte (Knuth, Morris, Pratt): `matched` bytes of it end the text so
 * far, however the text was cut into tokens. */
struct stop {
    char *text;
    uint16_t *fail; /* [size] length of the longest border of text[0..i] */
    size_t size, matched;
};

struct stream {
    struct mem *mem;
    const struct tokenizer *tokenizer; /* NULL: every text is empty */
    bool show_special;
    struct detokenizer detokenizer;
    struct stop *stops; /* [n_stops] */
    size_t n_stops;
    struct buf out; /* what the last push released, then what is held */
    char *held;     /* [longest stop + 1]: may be the beginning of a stop text */
    size_t n_held;
    size_t n_given; /* of them, how many stream_pause gave out: they do not come again */
    bool stopped;   /* a stop text was met; nothing more comes out */
};

graft_status stream_open(struct stream *st, struct mem *mem, const struct tokenizer *tokenizer,
                         const graft_session_options *options, graft_error *error);
void stream_close(struct stream *st); /* a zeroed one is allowed */
/* A new answer after `n` tokens of history. */
void stream_begin(struct stream *st, const graft_token_id *history, size_t n);
/* Adds a token; *text of *size bytes is what may be given out, NUL-terminated, valid until the next
 * call. On failure the stream is as before. */
graft_status stream_push(struct stream *st, graft_token_id id, const char **text, size_t *size,
                         graft_error *error);
/* What is held for the sake of stop texts, when the caller may go on or not: given out now and never
 * again, while matching goes on as if it were still held. An unfinished character stays. */
void stream_pause(struct stream *st, const char **text, size_t *size);
/* What is still held, at the end of an answer; bytes that never became a character are U+FFFD. */
graft_status stream_flush(struct stream *st, const char **text, size_t *size, graft_error *error);

/* ---- session.c ---- */

/* The timeline is tokens[0..n_tokens); the cache holds a prefix of it (kv_seq_length), one token
 * short after a token was picked, since its keys and values are computed when they are needed.
 * logits_row ≥ 0: the workspace still holds the logits that followed tokens[0..logits_after). */
struct graft_session {
    const struct model *model;
    struct mem *mem;
    struct kv_pool *pool;
    enum kv_type k_type, v_type; /* of what it holds */
    struct kv_seq *seq;
    struct workspace *workspace;
    struct row *rows; /* [chunk] */
    int chunk;
    struct sampler *sampler; /* NULL: a classifier */
    struct stream stream;
    graft_token_id *tokens; /* [n_ctx] */
    uint8_t *roles;         /* [n_ctx]: enum role of each token */
    size_t n_tokens, n_ctx;
    int logits_row;
    size_t logits_after;
    graft_finish finish;
    bool answering;  /* the stream has begun */
    struct mix *mix; /* a reference, or NULL */
    bool mix_off;    /* rows are the base model's all the same */
    bool ignore_eos;
    graft_token_id *stop_ids;
    size_t n_stop_ids;
};

/* Of the rows to come; NULL: the base model. */
const struct delta_set *session_deltas(const struct graft_session *s);
/* No token can follow: an end token, a stop, or a full context. */
bool session_is_over(const struct graft_session *s);
/* The record that ends an answer: what is still held back, once. */
graft_status session_end_record(struct graft_session *s, graft_token *out, graft_error *error);
graft_status session_check_ids(const struct graft_session *s, const graft_token_id *ids, size_t n,
                               graft_error *error);

#endif
