/* learn_internal.h: what a learner is made of, for the files of learn alone.
 *
 * learner.c owns the loop, the guard and the passes; feedback.c fills the buffer; publish.c writes and promotes; pool.c makes
 * learners new again. They share one struct: the buffer owns its lessons, `kept` is what a buffer that made things worse is
 * taken back to.
 */
#ifndef GRAFT_LEARN_INTERNAL_H
#define GRAFT_LEARN_INTERNAL_H

#include "learn/learn.h"

/* A sequence, of the buffer or of the held-out file. */
struct lesson {
    const graft_token_id *tokens; /* [n_tok + 1] */
    const uint8_t *learned;       /* [n_tok] */
    int n_tok;
    float weight; /* quality, or advantage */
};

/* Values with their moments as they were before a buffer. */
struct kept_values {
    float *values, *m, *v; /* [n_values] */
    int64_t steps;
};

struct learner {
    const struct model *model;
    struct mem *mem;
    struct learner_options options;
    struct data_model data;
    const struct learner *first; /* whose held-out examples these are; NULL: its own */
    struct dataset *held;
    struct str_map held_sessions; /* names lie in `held` */
    struct trainable *trainable;
    struct train_tape *tape;
    struct optimiser optimiser;
    struct data_batch batch;
    int room; /* tokens of a batch, and of an example */
    struct lesson
        *buffer; /* [options.buffer] of which state.waiting are there; their tokens are theirs */
    struct kept_values kept;
    struct str_map sessions;
    struct arena names; /* of sessions */
    struct learner_state state;
    learner_verdict_fn listener;
    void *user;
    uint64_t done, total; /* of the progress at hand */
};

/* ---- learner.c ---------------------------------------------------------------------------- */

/* The loss over the held-out examples, through a tape that has the adapter. */
graft_status learner_measure(struct learner *l, struct train_tape *tape, double *out,
                             graft_error *error);
/* A tape of this learner's size. */
graft_status learner_tape(const struct learner *l, const struct trainable *trainable,
                          struct train_tape **out, graft_error *error);
/* learner_open; with `first`, which was opened with the same path and options and outlives it, the held-out examples and
 * their loss are taken from there. */
graft_status learner_make(const struct model *model, const char *path,
                          const struct learner_options *options, const struct learner *first,
                          struct learner **out, graft_error *error);
void learner_empty_buffer(struct learner *l);
/* Learns once the buffer is full. */
graft_status learner_settle(struct learner *l, graft_error *error);

/* ---- feedback.c --------------------------------------------------------------------------- */

void lesson_free(struct mem *mem, struct lesson *lesson);

#endif
