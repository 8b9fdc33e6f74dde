/* train.h: from a dataset to a trained adapter: windows of batches, the optimiser, validation, checkpoints.
 *
 * Owns the loop and all that must come back after a crash: values, moments, the place in the data, the best so far and
 * the history. Values and gradients belong to the trainable, losses and gradients to the training pass of the model,
 * examples to data/. Prints nothing and measures no time: whoever runs it is told of every step.
 *
 * A run is a function of its options, its data and what the adapter began as: the same bits for any number of threads,
 * and for a run that was stopped or killed at any step and resumed.
 */
#ifndef GRAFT_TRAIN_H
#define GRAFT_TRAIN_H

#include "adapter/trainable/trainable.h"
#include "train/data/data.h"

/* ---- how ---------------------------------------------------------------------------------- */

/* Of a rate lr over x from 0 to 1: X(name, text) */
#define SCHEDULE_LIST(X)                                                                           \
    X(CONSTANT, "constant")       /* lr */                                                         \
    X(LINEAR, "linear")           /* lr · (1 − x) */                                            \
    X(COSINE, "cosine")           /* lr · (1 + cos πx) / 2 */                                    \
    X(EXPONENTIAL, "exponential") /* lr · 0.01^x */                                               \
    X(STEP, "step")               /* halved at each quarter */                                     \
    X(ONE_CYCLE, "one_cycle")     /* up over the first 30 %, and down to nothing */                \
    X(STABLE,                                                                                      \
      "warmup_stable_decay") /* lr, and over the last steps of the run down to 0 in a line */
enum schedule_kind {
#define SCHEDULE_ENUM(name, text) SCHEDULE_##name,
    SCHEDULE_LIST(SCHEDULE_ENUM)
#undef SCHEDULE_ENUM
        SCHEDULE_KINDS
};
const char *schedule_name(enum schedule_kind kind);            /* NULL: there is none */
bool schedule_find(const char *name, enum schedule_kind *out); /* "wsd", too */

struct schedule {
    enum schedule_kind kind;
    double rate;
    int64_t warmup, steps; /* the first, of all */
    double fall;           /* STABLE: the share of all steps in which the rate falls */
};

/* What takes the step of a matrix within a block; of all else AdamW does. */
#define OPTIM_LIST(X)                                                                              \
    X(ADAMW, "adamw")                                                                              \
    X(MUON, "muon") /* of a model that is trained whole: muon.c */
enum optim_kind {
#define OPTIM_ENUM(name, text) OPTIM_##name,
    OPTIM_LIST(OPTIM_ENUM)
#undef OPTIM_ENUM
        OPTIM_KINDS
};
const char *optim_name(enum optim_kind kind); /* NULL: there is none */
bool optim_find(const char *name, enum optim_kind *out);

struct optimiser_options {
    enum optim_kind kind;
    double momentum; /* of Muon */
    double beta1, beta2, eps;
    double weight_decay; /* of matrices: p −= rate · weight_decay · p */
    double
        loraplus; /* LoRA+ (Hayou, Ghosh and Yu 2024): the rate of B and of vectors, in rates of A; 1: none */
};

/* EWC++ (ewc.c): what earlier tasks left holds the values of this one, and this one leaves its own to the next. */
struct ewc_options {
    double lambda; /* of the penalty λ/2 Σ F (θ − θ*)² */
    double decay;  /* of F over tasks */
    const char *
        from; /* folder of the adapter that is continued, with or without ewc.safetensors; NULL: the first task. Read at open. */
};

struct trainer_options {
    int rows, accumulation; /* sequences in a batch, batches in a step */
    bool pack, shuffle;     /* as data_plan_options */
    uint64_t seed;          /* of order and dropout */
    double epochs;
    int64_t max_steps; /* 0: as many as the epochs have */
    enum schedule_kind schedule;
    double rate, muon_rate;           /* of AdamW; of Muon, on the same schedule */
    int64_t warmup_steps;             /* negative: by the ratio */
    double warmup_ratio, decay_ratio; /* of all steps; the second: schedule.fall */
    struct optimiser_options optimiser;
    double max_norm;        /* gradients are scaled to this norm at most; 0: they are not */
    bool checkpoint, half;  /* as train_options */
    bool eval_first;        /* validation before the first step */
    int64_t eval_steps;     /* validation after so many; 0: after each epoch */
    int patience;           /* validations without improvement that end the run; 0: none do */
    double min_improvement; /* of the validation loss */
    int bad_steps; /* steps in a row whose loss or gradient is no number, after which the run fails */
    const char
        *run; /* folder for history.jsonl and the checkpoint, which is made; NULL: none is kept */
    int64_t save_steps; /* a checkpoint after so many; 0: at each validation, and at the end */
    bool ewc;
    struct ewc_options ewc_options;
};
/* What graft_train_options begins with. */
struct trainer_options trainer_defaults(void);

/* ---- a step ------------------------------------------------------------------------------- */

/* AdamW over one flat buffer (optimiser.c): the same bits for any number of threads. */
struct optimiser {
    struct mem *mem;
    struct optimiser_options options;
    float *m, *v; /* [n] */
    int64_t n, steps;
    double *sums; /* of pieces */
};
graft_status optimiser_open(struct optimiser *o, struct mem *mem, int64_t n_values,
                            const struct optimiser_options *options, graft_error *error);
void optimiser_close(struct optimiser *o); /* a zeroed one is allowed */
/* As it was opened; nothing of what it saw is left in its memory. */
void optimiser_reset(struct optimiser *o);
/* ‖grads‖ [n] */
double optimiser_norm(struct optimiser *o, const graft_runtime *runtime, const float *grads);
/* One step of AdamW at this rate with scale · grads; with Muon without the parts that have rows. */
void optimiser_step(struct optimiser *o, const graft_runtime *runtime,
                    const struct trainable_part *parts, int n_parts, float *values,
                    const float *grads, double rate, double scale);

/* ---- a run -------------------------------------------------------------------------------- */

struct trainer_report {
    int64_t step, steps; /* done, of */
    double epoch;        /* done */
    double loss;         /* of the step, weighted by token; NAN: none yet */
    double penalty;      /* of EWC, which is no part of the loss; NAN: nothing is held */
    double grad_norm;    /* of both, before clipping */
    double rate;
    int64_t tokens, fed; /* learned and fed in this step */
    bool skipped;        /* the loss or gradient was no number: nothing was changed */
    double valid_loss;   /* NAN: no validation at this step */
    double best_loss;    /* NAN: none yet */
    int64_t best_step;
    bool saved; /* a checkpoint was written */
};
/* After every step, and once before the first with the loss of validation. False: stop, with a checkpoint. */
typedef bool (*trainer_step_fn)(void *user, const struct trainer_report *report);

enum trainer_end { TRAINER_DONE, TRAINER_EARLY, TRAINER_STOPPED };
struct trainer_outcome {
    enum trainer_end end;
    int64_t step;
    double first_valid, last_valid; /* NAN: none */
    double best_loss;
    int64_t best_step;
    double last_loss;
};

/* What a run will take: bytes beside the weights, steps and tokens in all. */
struct trainer_plan {
    int64_t steps, steps_per_epoch, warmup;
    int64_t tokens_per_epoch, learned_per_epoch;
    size_t tape_bytes, value_bytes; /* activations; values, gradients, moments, the best */
};

struct trainer;
/* All of it must outlive the trainer. INVALID_ARGUMENT: options that cannot be, or no examples. */
graft_status trainer_open(const struct model *model, struct trainable *trainable,
                          const struct dataset *dataset, const struct trainer_options *options,
                          struct trainer **out, graft_error *error);
void trainer_close(struct trainer **trainer); /* writes nothing */
void trainer_plan_of(const struct trainer *trainer, struct trainer_plan *out);
/* Goes on from the run's checkpoint. NOT_FOUND: there is none. INVALID_ARGUMENT: it is of another run, and what differs.
 * FORMAT: it is damaged. */
graft_status trainer_resume(struct trainer *trainer, graft_error *error);
/* NUMERIC: too many steps in a row were no numbers. */
graft_status trainer_run(struct trainer *trainer, trainer_step_fn step, void *user,
                         struct trainer_outcome *out, graft_error *error);
/* The values of the best validation, else the last: [n_values], valid until the trainer is closed. */
const float *trainer_values(const struct trainer *trainer);
/* trainable_write of those values; with EWC the folder also has ewc.safetensors. INVALID_ARGUMENT: with EWC, before the
 * run is over. UNSUPPORTED: with EWC, a format that is no folder. */
graft_status trainer_write(const struct trainer *trainer, const char *path,
                           const struct trainable_output *output, graft_error *error);
/* The mean loss over a part of the dataset as the values are now, which need not be those of trainer_values; NAN: it has no examples. */
graft_status trainer_loss(struct trainer *trainer, enum data_part part, double *out,
                          graft_error *error);

#endif
