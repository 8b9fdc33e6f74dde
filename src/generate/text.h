/* text.h: token ids → text that may be given out. Private to src/generate.
 */
#ifndef GRAFT_TEXT_H
#define GRAFT_TEXT_H

#include "generate/generate.h"

enum { STOP_MAX_BYTES = 4096, STOPS_MAX = 256 }; /* one stop text; how many */

/* One stop text, matched byte by byte (Knuth, Morris, Pratt): `matched` bytes of it end the text so
 * far, however the text was cut into tokens. */
struct stop {
    char *text;
    uint16_t *fail; /* [size] length of the longest border of text[0..i] */
    size_t size, matched;
};

struct text {
    struct mem *mem;
    const struct tokenizer *tokenizer; /* NULL: every text is empty */
    bool show_special;
    struct detokenizer detokenizer;
    struct stop *stops; /* [n_stops] */
    size_t n_stops;
    struct buf out; /* what the last push released, then what is held */
    char *held;     /* [longest stop + 1]: may be the beginning of a stop text */
    size_t n_held;
    size_t n_given; /* of them, how many text_pause gave out: they do not come again */
    bool stopped;   /* a stop text was met; nothing more comes out */
};

graft_status text_open(struct text *st, struct mem *mem, const struct tokenizer *tokenizer,
                       const graft_session_options *options, graft_error *error);
void text_close(struct text *st); /* a zeroed one is allowed */
/* A new answer after `n` tokens of history. */
void text_begin(struct text *st, const graft_token_id *history, size_t n);
/* Adds a token; *text of *size bytes is what may be given out, NUL-terminated, valid until the next
 * call. On failure the text is as before. */
graft_status text_push(struct text *st, graft_token_id id, const char **text, size_t *size,
                       graft_error *error);
/* What is held for the sake of stop texts, when the caller may go on or not: given out now and never
 * again, while matching goes on as if it were still held. An unfinished character stays. */
void text_pause(struct text *st, const char **text, size_t *size);
/* What is still held, at the end of an answer; bytes that never became a character are U+FFFD. */
graft_status text_flush(struct text *st, const char **text, size_t *size, graft_error *error);

/* Where a text is between two tokens; all else are settings. */
struct text_state {
    struct detokenizer detokenizer;
    const char *held; /* [n_held] */
    size_t n_held, n_given;
    bool stopped;
};
/* `held` is borrowed from the text. */
struct text_state text_state(const struct text *st);
/* Goes on from where a text with equal stops was. FORMAT when no such text can be there; `st` wants a text_begin then. */
graft_status text_resume(struct text *st, const struct text_state *state, graft_error *error);

#endif
