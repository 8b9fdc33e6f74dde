/* graft/learn.h: online adaptation: an adapter that learns from what people say of its answers, guarded.
 *
 * Feedback is an answer with a quality from 0 to 1, its weight as an example, or a reward, any number: what that is above the mean
 * of those before it (about 64) times the gradient of the answer's log-likelihood. It gathers in a buffer; a full one is
 * learned from in a few steps of AdamW on one or two ranks beside the adapter's own, which are held ("MicroLoRA"). Where the loss
 * of held-out right answers got worse, all is taken back. What stays is published as a new version of a registered name; the
 * next learner goes on with the same ranks, so that the adapter does not grow again and again. What is learned is a function of
 * options, adapter and feedback in its order, for any number of threads. Any linear layers, DoRA and rsLoRA too; modules held
 * whole stay. A learner belongs to one thread at a time; sessions may use model and registry meanwhile. A pool has many of one
 * adapter, one for each tenant that is served. Sources: LoRA (Hu et al. 2021), REINFORCE with a baseline (Williams 1992), AdamW
 * (Loshchilov and Hutter 2019).
 */
#ifndef GRAFT_PUBLIC_LEARN_H
#define GRAFT_PUBLIC_LEARN_H

#include <graft/data.h>
#include <graft/registry.h>

#ifdef __cplusplus
extern "C" {
#endif

typedef struct graft_learner graft_learner;

typedef struct graft_learn_options {
    size_t struct_size;
    /* A file of right answers as records of any training format (no folder, no saved dataset), which no feedback repeats; must
     * be given. Those of a "session" that feedback has too keep that feedback out. */
    const char *held_out;
    /* Trained of each module: 1 or 2, and at least what earlier versions that learned gave it; default 2. */
    int rank;
    /* "q_proj", "lm_head": modules that the adapter has; none (default): all of them. */
    const char *const *targets; /* [n_targets] */
    size_t n_targets;
    int buffer;           /* feedback that is learned from at once; default 64 */
    int steps;            /* of AdamW on each buffer; default 8 */
    double learning_rate; /* default 1e-3 */
    double weight_decay;  /* default 0 */
    double max_grad_norm; /* default 1; 0: gradients are not clipped */
    double min_quality;   /* feedback of less is left out; default 0 */
    /* By which the held-out loss may rise all the same, over all buffers until publishing; default 0. */
    double tolerance;
    uint64_t seed;      /* of fresh ranks; default 0 */
    graft_loss loss;    /* as in graft_dataset_options */
    int max_seq_length; /* likewise */
    /* Units: tokens of a buffer or of a check; "learning", "checking", "publishing". False: nothing of the call at hand
     * changes, and it returns CANCELLED. */
    graft_progress_fn progress;
    void *progress_user;
} graft_learn_options;
GRAFT_API void graft_learn_options_init(graft_learn_options *options, size_t struct_size);
static inline graft_learn_options graft_learn_options_default(void)
{
    graft_learn_options options;
    graft_learn_options_init(&options, sizeof options);
    return options;
}

/* What became of one buffer. */
typedef struct graft_learn_verdict {
    int64_t number; /* of the buffer, from 1 */
    int examples;
    double
        loss; /* Σ w (-log p) / Σ |w| over it, before it was learned from; w: quality or advantage */
    double before, after; /* loss of the held-out examples, a token; NaN: it came to no number */
    bool kept;            /* false: taken back */
} graft_learn_verdict;
typedef void (*graft_learn_fn)(void *user, const graft_learn_verdict *verdict);

/* The active version of `name` in a registry that was opened with this model; or, registry NULL, the adapter at the path
 * `name`, to be written with graft_learner_write. Model and registry must stay open; the options' strings are copied.
 * `verdict` (may be NULL) is told of every buffer. INVALID_ARGUMENT: an option is out of range, the adapter lacks a target,
 * or there are no held-out examples. STATE: a version is on standby, so that none could be published. UNSUPPORTED: the
 * model is a classifier, or a saved dataset is held out. Else as graft_registry_resolve and graft_adapter_open. */
GRAFT_API graft_status graft_learner_open(graft_model *model, graft_registry *registry,
                                          const char *name, const graft_learn_options *options,
                                          graft_learn_fn verdict, void *user, graft_learner **out,
                                          graft_error *error);
GRAFT_API void graft_learner_close(graft_learner **learner);

/* A record that was left out; texts live until the function returns. */
typedef void (*graft_learn_issue_fn)(void *user, const graft_data_issue *issue);

/* Feedback from a file, or from memory: JSONL (or one JSON array) of any training format, each with "quality" or "reward",
 * perhaps "session". The call that fills the buffer learns from it, which takes as long as it takes. *taken (may be NULL):
 * how many records were of use; `issue` (may be NULL) is told of the others. CANCELLED: the buffer at hand is lost, what was
 * kept before stays. */
GRAFT_API graft_status graft_learner_read(graft_learner *learner, const char *path,
                                          graft_learn_issue_fn issue, void *user, int64_t *taken,
                                          graft_error *error);
GRAFT_API graft_status graft_learner_add(graft_learner *learner, const char *records, size_t size,
                                         graft_learn_issue_fn issue, void *user, int64_t *taken,
                                         graft_error *error);

/* One answer as the tokens of a session. */
typedef struct graft_feedback {
    size_t struct_size;
    const graft_token_id *tokens; /* [n_tokens] prompt and answer */
    int n_tokens, n_prompt;       /* the first ones are not learned; 1 <= n_prompt < n_tokens */
    double quality;               /* 0 to 1; default 1 */
    bool rewarded;                /* default false */
    double reward;                /* in place of the quality */
    const char *session;          /* at most 200 bytes; NULL (default): none */
} graft_feedback;
GRAFT_API void graft_feedback_init(graft_feedback *feedback, size_t struct_size);
static inline graft_feedback graft_feedback_default(void)
{
    graft_feedback feedback;
    graft_feedback_init(&feedback, sizeof feedback);
    return feedback;
}
/* INVALID_ARGUMENT: tokens or verdict cannot be. Feedback of a held-out session, or of too little quality, is refused:
 * GRAFT_OK, and counted. */
GRAFT_API graft_status graft_learner_add_tokens(graft_learner *learner,
                                                const graft_feedback *feedback, graft_error *error);

/* Learns from what waits in the buffer, if anything. */
GRAFT_API graft_status graft_learner_flush(graft_learner *learner, graft_error *error);

typedef struct graft_learn_state {
    int64_t taken;          /* feedback so far */
    int64_t refused;        /* of no use */
    int64_t sessions;       /* different ones; 65536: or more */
    int waiting;            /* in the buffer */
    int64_t kept, reverted; /* buffers: learned from, taken back */
    int64_t held_out;       /* examples */
    int64_t trained_values;
    int64_t rewards; /* since this adapter began to learn, in earlier versions too */
    double baseline; /* of rewards */
    double before,
        now; /* loss of the held-out examples: of the version that is active, as learned so far */
    bool changed;     /* there is something to publish */
    char version[65]; /* that is learned from; "": of no registry */
} graft_learn_state;
GRAFT_API graft_status graft_learner_describe(const graft_learner *learner, graft_learn_state *out,
                                              graft_error *error);

/* Makes what was learned the active version of the name: it is written, staged, opened from there and measured once more, and
 * promoted. Until that last step, whatever happens, the old version is active; afterwards graft_registry_rollback goes back
 * to it. *who (may be NULL): the new version. The learner goes on from there. STATE: nothing was learned, another version
 * became active or is on standby meanwhile, the learner has no registry. */
GRAFT_API graft_status graft_learner_publish(graft_learner *learner, graft_adapter_id *who,
                                             graft_error *error);
/* The adapter as learned so far, as a PEFT folder of F32, absent or empty before. */
GRAFT_API graft_status graft_learner_write(const graft_learner *learner, const char *path,
                                           graft_error *error);
/* The same opened on the learner's model, for sessions: an adapter as any other, which later learning does not change. It
 * goes by way of a folder in $TMPDIR or /tmp, which is gone when this returns. */
GRAFT_API graft_status graft_learner_adapter(const graft_learner *learner, graft_adapter **out,
                                             graft_error *error);

/* ---- pool ---------------------------------------------------------------------------------- */

/* Learners of one adapter, made beforehand: a tenant gets one that is as fresh as if it were just opened, bit by bit, and when
 * it is released nothing of him is left in it: values, moments, steps, feedback and its tokens, sessions, baseline, counters
 * and activations. (The text of records passes through the process's memory as every prompt does.) The memory is taken at open;
 * the held-out examples are read and measured once. Acquire, release and describe may be called from any thread; the options'
 * `progress` is called by every thread that learns. */
typedef struct graft_learner_pool graft_learner_pool;

/* n learners, 1 to 4096, else as graft_learner_open. The pool stays with the version that is active now: after another one
 * became active its learners learn as before, and publishing is refused (STATE). */
GRAFT_API graft_status graft_learner_pool_open(graft_model *model, graft_registry *registry,
                                               const char *name, const graft_learn_options *options,
                                               int n, graft_learner_pool **out, graft_error *error);
/* All learners must be back. */
GRAFT_API void graft_learner_pool_close(graft_learner_pool **pool);

/* STATE: all are in use. `verdict` (may be NULL) is told of every buffer until the release. Allocates nothing and waits for
 * nobody. */
GRAFT_API graft_status graft_learner_pool_acquire(graft_learner_pool *pool, graft_learn_fn verdict,
                                                  void *user, graft_learner **out,
                                                  graft_error *error);
/* Sets *learner NULL; graft_learner_close does the same. Takes the time to write over its memory; allocates nothing.
 * INVALID_ARGUMENT: it is not of this pool, or not in use, and *learner stays. What was released is not the
 * caller's any more: another handle of it must not be used. */
GRAFT_API graft_status graft_learner_pool_release(graft_learner_pool *pool, graft_learner **learner,
                                                  graft_error *error);

typedef struct graft_learner_pool_state {
    int learners;
    int idle;               /* that could be acquired now */
    uint64_t learner_bytes; /* that each of them has: values, moments and activations */
    char version[65];       /* that all begin from; "": of no registry */
} graft_learner_pool_state;
GRAFT_API graft_status graft_learner_pool_describe(graft_learner_pool *pool,
                                                   graft_learner_pool_state *out,
                                                   graft_error *error);

#ifdef __cplusplus
}
#endif
#endif
