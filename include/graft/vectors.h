/* graft/vectors.h: examples that are vectors, made-up ones of five tasks, and the factors of one module fitted to them.
 *
 * An example is an input vector, perhaps a target vector, how good it is, and the names of its task and domain: the hidden
 * states that go into a module, say, and what should come out of it. No model is needed. A dataset belongs to its runtime; it
 * may be read by any number of threads while nobody adds to it. docs/vectors.md has the formulas.
 */
#ifndef GRAFT_PUBLIC_VECTORS_H
#define GRAFT_PUBLIC_VECTORS_H

#include <graft/model.h>

#ifdef __cplusplus
extern "C" {
#endif

/* ---- datasets ---- */

typedef struct graft_vector_example {
    const float *input;        /* [n_in] */
    const float *target;       /* [n_out]; NULL: none */
    float quality;             /* 0 to 1: its weight */
    const char *task, *domain; /* at most 200 bytes each; NULL: none */
} graft_vector_example;

typedef struct graft_vectors graft_vectors;

/* An empty one, for inputs and targets of these widths, 1 to 65536. */
GRAFT_API graft_status graft_vectors_open(graft_runtime *runtime, int n_in, int n_out,
                                          graft_vectors **out, graft_error *error);
/* Of a file of JSONL: {"input": [...], "target": [...], "quality": 0.8, "task": "coder", "domain": "c"}, of which the input
 * must be there; quality is 1 else. FORMAT: the first line that is wrong, and in what; nothing is taken of such a file. A
 * line is at most 8 MiB. LIMIT: the line at which there are more than 65536 names. */
GRAFT_API graft_status graft_vectors_read(graft_runtime *runtime, const char *path,
                                          graft_vectors **out, graft_error *error);
GRAFT_API void graft_vectors_close(graft_vectors **vectors);
/* A copy goes in; what graft_vectors_example gave of the same dataset may be added to it. INVALID_ARGUMENT: a value or the
 * quality is no number, or a name cannot be. LIMIT: more than 65536 names of tasks and domains. */
GRAFT_API graft_status graft_vectors_add(graft_vectors *vectors,
                                         const graft_vector_example *example, graft_error *error);
GRAFT_API int64_t graft_vectors_count(const graft_vectors *vectors); /* NULL: 0 */
/* Widths; either pointer may be NULL. */
GRAFT_API graft_status graft_vectors_widths(const graft_vectors *vectors, int *n_in, int *n_out,
                                            graft_error *error);
/* Pointers are valid until something is added. INVALID_ARGUMENT: there is no such example. */
GRAFT_API graft_status graft_vectors_example(const graft_vectors *vectors, int64_t index,
                                             graft_vector_example *out, graft_error *error);
/* As a file that graft_vectors_read reads to the same values; it appears whole or not at all. Where no example has a target the
 * file does not say n_out: read again it is n_in. INVALID_ARGUMENT: there are no examples; an empty file is none of vectors. */
GRAFT_API graft_status graft_vectors_write(const graft_vectors *vectors, const char *path,
                                           graft_error *error);

/* ---- made-up examples ---- */

/* "coder", "researcher", "security", "architect", "reviewer"; NULL past the last. */
GRAFT_API const char *graft_vectors_task(int i);
/* Adds n examples (at most 2^24) of a task to a dataset whose n_in and n_out are equal: a known formula of what lies in the
 * input gives the quality, and with `targets` a map of rank 3 gives the target. Example i is a function of (task, width,
 * seed, i). INVALID_ARGUMENT lists the tasks. */
GRAFT_API graft_status graft_vectors_generate(graft_vectors *vectors, const char *task, int64_t n,
                                              uint64_t seed, bool targets, graft_error *error);

/* ---- one module ---- */

typedef struct graft_fit_options {
    size_t struct_size;
    /* W [n_out, n_in], row by row; NULL (default): the identity, for n_in = n_out. */
    const float *weight;
    int rank;                   /* default 8 */
    double alpha;               /* the scale is alpha / rank; default 16 */
    int num_epochs;             /* default 10 */
    int batch_size;             /* default 32 */
    double learning_rate;       /* of AdamW; default 2e-3 */
    double weight_decay;        /* default 0 */
    double max_grad_norm;       /* default 1; 0: gradients are not clipped */
    double valid_share;         /* of the examples, held out; default 0.2 */
    double min_quality;         /* examples of less are left out; default 0 */
    uint64_t seed;              /* of A, of the split and of the order; default 0 */
    graft_progress_fn progress; /* NULL (default): none; units: steps; false: CANCELLED */
    void *progress_user;
} graft_fit_options;
GRAFT_API void graft_fit_options_init(graft_fit_options *options, size_t struct_size);
static inline graft_fit_options graft_fit_options_default(void)
{
    graft_fit_options options;
    graft_fit_options_init(&options, sizeof options);
    return options;
}

/* What came of it. Losses: Σ quality · ‖y - target‖² / n_out over Σ quality, of W alone and at the end. */
typedef struct graft_fit_info {
    int n_in, n_out, rank;
    double scale;
    const float *a; /* [rank, n_in] */
    const float *b; /* [n_out, rank] */
    int64_t steps;
    int64_t examples, held; /* trained on, held out */
    double first_loss, last_loss;
    double first_valid, last_valid; /* NaN: nothing was held out */
} graft_fit_info;
typedef struct graft_fit graft_fit;

/* A and B of y = W x + scale · B A x, by quality-weighted squared errors. An example without a target says how good W x is:
 * that is its target then, so what was good stays. The same bits for any number of threads. Belongs to the runtime.
 * INVALID_ARGUMENT: an option is out of range, or no example has enough quality. NUMERIC: a loss is no number. */
GRAFT_API graft_status graft_fit_run(graft_runtime *runtime, const graft_vectors *vectors,
                                     const graft_fit_options *options, graft_fit **out,
                                     graft_error *error);
GRAFT_API void graft_fit_close(graft_fit **fit);
/* The pointers are valid until the fit is closed. */
GRAFT_API graft_status graft_fit_describe(const graft_fit *fit, graft_fit_info *out,
                                          graft_error *error);
/* A PEFT folder of F32, absent or empty before, for the module of that name ("model.layers.0.mlp.up_proj") of whatever model
 * has one of these widths. */
GRAFT_API graft_status graft_fit_write(const graft_fit *fit, const char *module, const char *path,
                                       graft_error *error);

#ifdef __cplusplus
}
#endif
#endif
