/* learn.h: online adaptation: an adapter that gets better, or stays as it is, by what people say of its answers.
 *
 * Feedback is an answer with a quality (its weight as an example) or with a reward (the advantage over a running baseline
 * times the gradient of its log-likelihood). It gathers in a buffer; a full one is learned from in a few steps of AdamW on
 * one or two ranks beside the adapter, which itself is held (adapter/trainable/micro.h). Then the loss over held-out
 * examples is measured: where it got worse, values and moments go back to what they were. What passed can be written, or
 * published as a new version of a registered name.
 *
 * Owns the loop, the buffer and the guard. What is learned is a function of the options, the adapter and the feedback in its
 * order: the same bits for any number of threads. A learner belongs to one thread at a time. Prints nothing.
 */
#ifndef GRAFT_LEARN_LEARN_H
#define GRAFT_LEARN_LEARN_H

#include "adapter/registry/registry.h"
#include "train/train.h"

struct learner_options {
    const char *held_out; /* a file of records, right answers; read at open */
    struct trainable_micro micro;
    int buffer; /* feedback that is learned from at once */
    int steps;  /* of AdamW, on each buffer */
    double rate, weight_decay, max_norm;
    double min_quality; /* feedback of less is left out */
    double tolerance; /* by which the held-out loss may rise above the least of `began` and `now` */
    enum data_loss loss;
    int max_len; /* as data_options; 0: likewise */
    graft_progress_fn
        progress; /* NULL: none; units: tokens of a buffer or of a check; false: nothing changes */
    void *progress_user;
};
struct learner_options learner_defaults(void);

/* What became of one buffer. */
struct learner_verdict {
    int64_t number; /* of the buffer, from 1 */
    int examples;
    double loss; /* Σ w (−log p) / Σ |w| of the buffer at the first step; w: quality or advantage */
    double before, after; /* of the held-out examples */
    bool kept;
};
typedef void (*learner_verdict_fn)(void *user, const struct learner_verdict *verdict);

struct learner_state {
    int waiting; /* in the buffer */
    int64_t taken,
        refused;      /* feedback; refused: its session is held out, or it has nothing to learn */
    int64_t sessions; /* different ones, of which 65536 are told apart */
    int64_t kept, dropped; /* buffers */
    int64_t held_out;      /* examples */
    int64_t trained;       /* values */
    int64_t rewards;       /* since this adapter began to learn */
    double baseline;       /* of rewards */
    double began,
        now; /* loss of the held-out examples: of the adapter as it is published, as learned so far */
    bool changed; /* there is something to publish */
};

struct learner;
/* The adapter at `path`. INVALID_ARGUMENT: an option is out of range, or the held-out file has no examples. The model must
 * outlive the learner, and strings of the options too. UNSUPPORTED: a classifier, or a saved dataset held out. */
graft_status learner_open(const struct model *model, const char *path,
                          const struct learner_options *options, struct learner **out,
                          graft_error *error);
void learner_close(struct learner **learner);
/* Told of every buffer; NULL: nobody. */
void learner_listen(struct learner *learner, learner_verdict_fn listener, void *user);

/* Feedback in any training format, with "quality" or "reward", perhaps "session". The call that fills the buffer learns from
 * it. *taken: how many were. Records that cannot be used are told to `issue` (NULL: nobody). CANCELLED, NUMERIC: what was
 * learned before stays, the rest is lost. */
typedef void (*learner_issue_fn)(void *user, const struct data_issue *issue, const char *file);
graft_status learner_read(struct learner *learner, const char *path, learner_issue_fn issue,
                          void *user, int64_t *taken, graft_error *error);
graft_status learner_add(struct learner *learner, const char *records, size_t size,
                         learner_issue_fn issue, void *user, int64_t *taken, graft_error *error);
/* One answer as tokens. */
struct learner_feedback {
    const graft_token_id *tokens; /* [n] prompt and answer */
    int n, n_prompt;              /* the first ones are not learned; 1 ≤ n_prompt < n */
    double quality;               /* 0 to 1 */
    bool rewarded;
    double reward;       /* in place of the quality */
    const char *session; /* at most 200 bytes; NULL: none */
};
graft_status learner_add_tokens(struct learner *learner, const struct learner_feedback *feedback,
                                graft_error *error);
/* Learns from what is in the buffer, if anything. *out: false, and *verdict untouched, where that was nothing. */
graft_status learner_step(struct learner *learner, struct learner_verdict *verdict, bool *out,
                          graft_error *error);
void learner_describe(const struct learner *learner, struct learner_state *out);

/* The adapter as learned so far: a PEFT folder of F32, absent or empty. */
graft_status learner_write(const struct learner *learner, const char *path, const char *version,
                           graft_error *error);
/* STATE: another version than `from` is active, or one is on standby, so that nothing could be published. */
graft_status learner_check_slots(struct registry *registry, const struct registry_version_id *from,
                                 graft_error *error);
/* Makes it the active version of `name`, which the registry had at `from` when the learner was opened: written, staged, opened
 * from there and measured once more, promoted. Until then, whatever happens, the old version is the active one. STATE:
 * nothing was learned, another version is active or on standby meanwhile, or what is staged is not what was measured. */
graft_status learner_publish(struct learner *learner, struct registry *registry,
                             struct registry_version_id *id, graft_error *error);

/* ---- pool (pool.c) ------------------------------------------------------------------------- */

/* n learners that began alike, with all their memory, by number: 0 to n − 1. What one of them has learned and heard is gone
 * when it is given back, bit by bit. Acquire, release and idle may be called from any thread; a learner that is out belongs to
 * one at a time. */
struct learner_pool;
enum { LEARNER_POOL_MOST = 4096 };
/* INVALID_ARGUMENT: n is not 1 to LEARNER_POOL_MOST; else as learner_open. STATE: the adapter changed meanwhile. */
graft_status learner_pool_open(const struct model *model, const char *path,
                               const struct learner_options *options, int n,
                               struct learner_pool **out, graft_error *error);
void learner_pool_close(struct learner_pool **pool); /* all of them, those that are out, too */
/* STATE: none is idle. Allocates nothing. */
graft_status learner_pool_acquire(struct learner_pool *pool, int *number, graft_error *error);
struct learner *learner_pool_at(struct learner_pool *pool, int number);
/* Makes it new and idle. INVALID_ARGUMENT: there is none of that number that is out. Allocates nothing. */
graft_status learner_pool_release(struct learner_pool *pool, int number, graft_error *error);
int learner_pool_idle(struct learner_pool *pool);
/* Bytes that one of them has all the time, to the largest parts: values and activations. */
size_t learner_pool_bytes(const struct learner_pool *pool);

#endif
