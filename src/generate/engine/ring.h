/* ring.h: the records that a stream holds until they are read: bounded, one writer and one reader.
 *
 * The writer is the engine's thread and never waits; the reader may wait, or poll a descriptor. Private to
 * src/generate/engine.
 */
#ifndef GRAFT_ENGINE_RING_H
#define GRAFT_ENGINE_RING_H

#include "generate/generate.h"

#include <pthread.h>

/* A token with its text, in place where it is short and comes alone. */
struct record {
    graft_token token;
    char small[40];
    graft_alternative *large; /* [token.n_top], and behind them the text; NULL: small */
};

struct ring {
    struct mem *mem;
    pthread_mutex_t lock; /* of all that follows */
    pthread_cond_t filled;
    struct record *slots; /* [capacity] */
    size_t capacity, first, count;
    bool reader_waits;
    bool untold;           /* there is something that the reader has not been woken for */
    bool writer_waits;     /* found it full: the reader says when there is room again */
    int descriptor;        /* eventfd; -1: none */
    struct record current; /* what was taken last: its text lives until the next take */
    bool over;             /* nothing more is written */
    bool end_given;
    struct record last; /* the end's: id -1, text that was held back */
    graft_finish finish;
    graft_error failure; /* of FINISH_FAILED */
};

graft_status ring_open(struct ring *r, struct mem *mem, size_t capacity, graft_error *error);
void ring_close(struct ring *r); /* a zeroed one is allowed */

/* Room for a record? Where there is none the next take that makes room says so. */
bool ring_has_room(struct ring *r);
/* Needs room. false: no memory for the text. A reader that sleeps is woken by ring_tell, or once half of the ring is full. */
bool ring_put(struct ring *r, const graft_token *token);
void ring_tell(struct ring *r);
/* The end, with the text that was held back (may be NULL); `failure` (may be NULL) is what the reader is told after that. */
void ring_end(struct ring *r, graft_finish finish, const graft_token *last,
              const graft_error *failure);

/* OK with a record, END, BUSY when there is nothing and `wait` is false, or the failure. *wake: the writer waited for room. */
graft_status ring_take(struct ring *r, bool wait, graft_token *out, bool *wake, graft_error *error);
graft_status ring_descriptor(struct ring *r, int *out, graft_error *error);

#endif
