/* train_internal.h: what a trainer is made of: the rate of a step, the optimiser, its files. */
#ifndef GRAFT_TRAIN_INTERNAL_H
#define GRAFT_TRAIN_INTERNAL_H

#include "train/train.h"

/* ---- schedule.c --------------------------------------------------------------------------- */

/* The rate of step s, from 0. */
double schedule_rate(const struct schedule *schedule, int64_t step);

/* ---- muon.c ------------------------------------------------------------------------------- */

struct muon; /* room for the products of one step */
graft_status muon_open(struct mem *mem, const graft_runtime *runtime,
                       const struct trainable_part *parts, int n_parts, struct muon **out,
                       graft_error *error);
void muon_close(struct muon **muon);        /* NULL is allowed */
size_t muon_bytes(const struct muon *muon); /* of its room, each thread's own; NULL: 0 */
/* One step of the parts that have rows, at this rate, with scale · grads; m: momenta, at the places of the values. */
void muon_step(struct muon *muon, const struct optimiser_options *options, float *values, float *m,
               const float *grads, double rate, double scale);

/* ---- ewc.c, ewc_file.c -------------------------------------------------------------------- */

enum { EWC_EXAMPLES = 256 }; /* that F is the mean of at most, evenly taken */

struct ewc {
    struct mem *mem;
    struct ewc_options options; /* `from` is not kept */
    int64_t n;
    int64_t tasks;          /* before this one */
    float *fisher, *anchor; /* [n] F and θ* of those; zeros without any */
    float *next;            /* [n] F after this one, when it is measured */
    double *sums;
    double weight; /* of the examples that F was measured on */
    bool measured;
    char state[65]; /* SHA-256 of the file that was read; "": none */
};
graft_status ewc_open(struct ewc *e, const struct trainable *trainable,
                      const struct ewc_options *options, graft_error *error);
void ewc_close(struct ewc *e); /* a zeroed one is allowed */
/* Adds weight · λ F (θ − θ*) to gradients; the penalty. */
double ewc_pull(struct ewc *e, const graft_runtime *runtime, const float *values, double weight,
                float *grads);
/* F of this task: of each example's summed gradient and its weight, between begin and end. */
void ewc_begin(struct ewc *e);
void ewc_add(struct ewc *e, const graft_runtime *runtime, const float *grads, double weight);
void ewc_end(struct ewc *e);
/* ewc.safetensors of a folder with an adapter, if there is one; INVALID_ARGUMENT: of other weights. FORMAT. */
graft_status ewc_read(struct ewc *e, const struct trainable *t, const char *dir,
                      graft_error *error);
graft_status ewc_write(const struct ewc *e, const struct trainable *t, const float *values,
                       const char *dir, graft_error *error);

/* ---- history.c ---------------------------------------------------------------------------- */

/* history.jsonl: a line for each step and each validation, the same bytes for the same run. */
struct history {
    struct mem *mem;
    FILE *file;
    char *path;
    uint64_t bytes; /* written */
};
/* Begins it anew after its first `keep` bytes. FORMAT: there are fewer. */
graft_status history_open(struct history *h, struct mem *mem, const char *run, uint64_t keep,
                          graft_error *error);
graft_status history_add(struct history *h, const struct trainer_report *report,
                         graft_error *error);
graft_status history_sync(struct history *h, graft_error *error);
void history_close(struct history *h); /* a zeroed one is allowed */

/* ---- trainer.c ---------------------------------------------------------------------------- */

/* What a checkpoint brings back beside values and moments. */
struct trainer_state {
    int64_t step; /* done */
    int bad;      /* steps in a row that were no numbers */
    int stale;    /* validations without improvement */
    bool over;    /* patience ran out */
    double first_valid, last_valid, best_loss, last_loss;
    int64_t best_step;
};

struct trainer {
    const struct model *model;
    struct mem *mem;
    struct trainable *trainable;
    const struct dataset *dataset;
    struct trainer_options options;
    struct schedule schedule;
    int64_t per_epoch; /* steps */
    int most_tok;      /* of a batch */
    struct data_plan plan, valid;
    int64_t epoch; /* that `plan` is of */
    struct data_batch batch;
    struct train_tape *tape;
    struct optimiser optimiser;
    struct muon *muon; /* NULL: AdamW alone */
    struct ewc ewc;    /* zeroed without */
    float *best;       /* [n_values]: of the best validation; NULL: there is none */
    struct trainer_state state;
    struct history history;
};

/* ---- checkpoint.c ------------------------------------------------------------------------- */

#define CHECKPOINT_NAME "checkpoint.safetensors"
/* RUN/checkpoint.safetensors, whole or the one before. */
graft_status checkpoint_write(struct trainer *t, graft_error *error);

#endif
