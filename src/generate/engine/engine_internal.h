/* engine_internal.h: the records of the engine, shared by its files.
 *
 * Three parties meet here. Callers hand over streams, wishes and cancellations: what they touch is behind engine->lock or
 * atomic. Readers take records: that is the ring's. All else (timelines, blocks, order) belongs to the worker, the one thread
 * that steps.
 */
#ifndef GRAFT_ENGINE_INTERNAL_H
#define GRAFT_ENGINE_INTERNAL_H

#include "generate/engine/engine.h"
#include "generate/engine/prefix.h"
#include "generate/engine/ring.h"
#include "generate/speculation.h"
#include "generate/timeline.h"

enum stream_state { STREAM_WAITING, STREAM_RUNNING, STREAM_OVER };

struct graft_stream {
    struct graft_engine *engine;
    struct mem *mem;
    atomic_int references; /* the caller's handle, the engine's, those of forks to be */
    atomic_bool cancelled;
    struct ring ring;
    /* of the request */
    graft_token_fn callback;
    void *user;
    int priority;
    uint64_t owner;
    double submitted, deadline; /* deadline 0: none */
    size_t max_tokens, prompt_tokens;
    graft_token_id *suffix; /* [prompt_tokens] of a fork, until it is made */
    /* under engine->lock: what is to happen before the next step */
    struct graft_stream *next; /* of the incoming ones */
    struct graft_stream *fork; /* a reference, or NULL */
    struct mix *wish;          /* a reference; NULL: the base model */
    graft_kv_policy wish_policy;
    bool has_wish;
    bool admitted; /* it waits no longer, or only because it was paused */
    graft_stream_info info;
    /* the worker's */
    enum stream_state state;
    uint64_t number; /* by arrival */
    struct turn *turn;
    bool behind; /* it was paused because nobody reads it */
    struct timeline line;
    struct prefix_chain chain;
    bool wants_drafts;
    struct drafter *drafter; /* NULL: nothing is guessed for it */
    size_t end;              /* tokens at which max_tokens are reached */
    bool reserved;           /* its blocks are those of the step in hand */
    graft_status picked;
    graft_error pick_error;
};

/* What a stream does in the step in hand. */
struct part {
    struct graft_stream *stream;
    bool prompt;  /* it has more than one token to compute */
    double turn;  /* rows that its owner had */
    int first, n; /* rows, */
    int guesses;  /* of which so many are guesses */
};

/* Rows that were computed for an owner, for turns. */
struct turn {
    struct turn *next;
    uint64_t owner;
    double rows;
    int streams; /* that wait or run */
};

struct graft_engine {
    const struct model *model;
    const void *owner;
    struct mem *mem;
    graft_engine_options options;
    size_t n_ctx;
    struct kv_pool *pool;
    int64_t n_blocks;
    struct prefix_kind kind;
    pthread_t thread;
    bool threaded;

    pthread_mutex_t lock; /* of the following, and of what struct graft_stream says */
    pthread_cond_t wake;
    bool signalled, closing, forget;
    struct graft_stream *incoming, **incoming_end;
    size_t n_waiting, waiting_tokens; /* incoming ones included */
    graft_engine_info info;

    /* the worker's */
    struct graft_stream **waiting; /* [n_queue], room for queue_capacity */
    size_t n_queue, queue_capacity;
    struct graft_stream **running; /* [n_running], room for max_streams */
    int n_running;
    struct part *parts; /* [max_streams] */
    int n_parts;
    struct row *rows; /* [max_rows] */
    int max_rows;     /* of a pass: each stream has one at least */
    struct workspace *workspace;
    struct sampler **samplers; /* [n_samplers], one for each worker of the pool */
    int n_samplers;
    atomic_int next_pick;
    struct prefixes prefixes;
    struct speculation *speculation; /* NULL: nothing is guessed */
    struct guess *guesses;           /* [max_streams] */
    struct turn *turns;              /* a list: of owners that have streams */
    bool paused;                     /* somebody was, in this step */
    double told;                     /* when readers were woken last */
    uint64_t numbers;
};

/* ---- engine.c ---- */

/* The engine without its thread: whoever has it calls engine_step. For engine_open, and for tests that choose each
 * interleaving themselves. */
graft_status engine_make(const struct model *model, const struct model *draft,
                         const graft_engine_options *options, struct graft_engine **out,
                         graft_error *error);
/* Wakes the worker. */
void engine_signal(struct graft_engine *e);
void stream_release(struct graft_stream *s);

/* ---- step.c ---- */

/* One step: takes what callers asked for, makes room, runs a pass, hands out tokens. false: there was nothing to do. */
bool engine_step(struct graft_engine *e);
/* With the engine's lock: from now on it does not count as one that waits; false: it did not. */
bool stream_waited(struct graft_stream *s);
/* Ends a stream: its blocks go, its reader is told. `failure` NULL: none. */
void stream_over(struct graft_stream *s, graft_finish finish, const graft_token *last,
                 const graft_error *failure);

/* ---- schedule.c ---- */

/* Moves waiting streams to the running ones while there is room; where there is none, those of lower priority make some. */
void schedule_admit(struct graft_engine *e);
/* Chooses what runs in this step: e->parts, with how many rows each may have; their blocks are reserved. */
void schedule_choose(struct graft_engine *e);
/* Counts rows for the stream's owner. */
void schedule_charge(const struct graft_stream *s, int rows);
/* A stream arrived: it waits. false: no memory. */
bool schedule_enter(struct graft_engine *e, struct graft_stream *s);
/* Takes streams that are over out of the lists and lets them go. */
void schedule_sweep(struct graft_engine *e);

#endif
