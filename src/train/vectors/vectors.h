/* vectors.h: datasets of vectors, examples of five tasks made up from a seed, and a trainer of one module on such data.
 *
 * An example is an input vector, perhaps a target vector, how good it is, and the names of its task and domain: hidden states
 * with what should have come out of a module, say. No model is needed for any of it.
 *
 * A dataset may be read by any number of threads while nobody adds to it.
 */
#ifndef GRAFT_TRAIN_VECTORS_H
#define GRAFT_TRAIN_VECTORS_H

#include "base/base.h"

#include <graft/model.h>

/* ---- datasets ----------------------------------------------------------------------------- */

enum { VECTORS_MAX_WIDTH = 1 << 16, VECTORS_MAX_NAME = 200, VECTORS_NAMES = 1 << 16 };

struct vector_example {
    const float *input;        /* [n_in] */
    const float *target;       /* [n_out]; NULL: none */
    float quality;             /* 0 to 1: its weight */
    const char *task, *domain; /* NULL: none */
};

struct vectors;
graft_status vectors_open(struct mem *mem, int n_in, int n_out, struct vectors **out,
                          graft_error *error);
void vectors_close(struct vectors **vectors);
int vectors_in(const struct vectors *v);
int vectors_out(const struct vectors *v);
int64_t vectors_count(const struct vectors *v);
/* Valid until the next add. */
struct vector_example vectors_at(const struct vectors *v, int64_t i);
/* A copy goes in; what vectors_at gave of the same dataset may be added to it. INVALID_ARGUMENT: a value or the quality is no
 * number, the quality is not 0 to 1, a name is too long or no UTF-8. LIMIT: more than VECTORS_NAMES names. */
graft_status vectors_add(struct vectors *v, const struct vector_example *example,
                         graft_error *error);
/* Room for n more examples whose inputs and targets the caller fills through the pointers, both given whole; the rest is as
 * given. Nothing is checked. */
graft_status vectors_grow(struct vectors *v, int64_t n, bool targets, float **inputs,
                          float **outputs, graft_error *error);
graft_status vectors_label(struct vectors *v, int64_t i, float quality, const char *task,
                           const char *domain, graft_error *error);

/* JSONL: {"input": [...], "target": [...], "quality": 0.8, "task": "coder", "domain": "c"}, of which the input alone must be
 * there (quality 1). All examples have inputs of one width, and targets of one. FORMAT, and LIMIT (too many names), name
 * the line and what is wrong. A line is at most 8 MiB. */
graft_status vectors_read(struct mem *mem, const char *path, struct vectors **out,
                          graft_error *error);
/* The parser alone: pure, fuzzed. */
graft_status vectors_parse(struct mem *mem, const char *text, size_t size, struct vectors **out,
                           graft_error *error);
/* Values with as many digits as bring them back. The file appears whole or not at all. n_out is not in a file without targets:
 * read again it is n_in. INVALID_ARGUMENT: there are no examples, which is no file. */
graft_status vectors_write(const struct vectors *v, const char *path, graft_error *error);

/* ---- made-up examples (docs/vectors.md has the formulas) ------------------------------------ */

enum { SYNTHETIC_TASKS = 5 };
const char *synthetic_task(int i); /* NULL past the last */
struct synthetic_options {
    int task; /* 0 to SYNTHETIC_TASKS − 1 */
    int width;
    int64_t n;
    uint64_t seed;
    bool targets;
};
/* Adds n examples, the same whatever n is: example i is a function of (task, width, seed, i). n_in and n_out are the
 * width. */
graft_status synthetic_add(struct vectors *v, const struct synthetic_options *options,
                           graft_error *error);
/* The quality of an example of a task whose traits are these, each 0 to 1. */
float synthetic_quality(int task, const float traits[3]);

/* ---- one module (fit.c) -------------------------------------------------------------------- */

/* y = W x + scale · B A x, by AdamW on Σ q ‖y − t‖² / (n_out Σ q). An example without a target says how good W x is: that is its
 * target then, with its quality as the weight, so what was good stays. */
struct fit_options {
    const float *weight; /* W [n_out, n_in], row by row; NULL: the identity, and n_out = n_in */
    int rank;
    double alpha; /* scale = alpha / rank */
    int epochs, batch;
    double rate, weight_decay, max_norm;
    double valid_share; /* of the examples, for validation: at least one unless it is 0 */
    double min_quality;
    uint64_t seed;              /* of A, of the split and of the order */
    graft_progress_fn progress; /* NULL: none; units: steps */
    void *progress_user;
};
struct fit_options fit_defaults(void);

struct fit {
    struct mem *mem;
    int n_in, n_out, rank;
    double scale;
    float *a;                      /* [rank, n_in] */
    float *b;                      /* [n_out, rank] */
    int64_t steps, examples, held; /* trained on, validated by */
    double first_loss, last_loss; /* of the examples trained on; what W alone has, and at the end */
    double first_valid, last_valid; /* NAN: none are held out */
};
/* The same bits for any number of threads. INVALID_ARGUMENT: an option is out of range, or there is nothing to train on.
 * NUMERIC: a loss, before, on the way or at the end, is no number. */
graft_status fit_module(graft_runtime *runtime, const struct vectors *data,
                        const struct fit_options *options, struct fit *out, graft_error *error);
void fit_free(struct fit *fit); /* a zeroed one is allowed */
/* A PEFT folder of F32 with the factors of one module, "model.layers.0.mlp.up_proj"; absent or empty before. */
graft_status fit_write(const struct fit *fit, const char *module, const char *path,
                       graft_error *error);

#endif
