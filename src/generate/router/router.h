/* router.h: which adapter a prompt asks for: learned from prompts that say so, by multinomial logistic regression.
 *
 * A prompt becomes the mean over its tokens of the base model's final normed hidden state (of long ones, the first and
 * the last of ROUTER_TOKENS tokens); each value is standardised; one row of weights for each label gives its score, and a
 * softmax over scores the probabilities. No adapter is applied meanwhile, and no gradient of the model is needed: the fit
 * is a convex problem of some thousand values, solved to its optimum. So what is learned is a function of model, prompts
 * and options, the same bytes for any number of threads. Labels are addresses of adapters, and "base" is none of them:
 * opening what was picked is the caller's.
 *
 * A router is immutable but for the session that embeds its prompts, which has a lock: any thread may route.
 */
#ifndef GRAFT_GENERATE_ROUTER_H
#define GRAFT_GENERATE_ROUTER_H

#include "generate/generate.h"

enum {
    ROUTER_TOKENS = 1024,     /* of a prompt that are looked at */
    ROUTER_MAX_LABELS = 256,  /* at least 2 */
    ROUTER_MAX_WIDTH = 65536, /* of an embedding */
};

/* ---- prompts with labels ------------------------------------------------------------------ */

struct router_prompt {
    const char *text;
    size_t size;
    const char *label;
    const char *file;
    int64_t line; /* of an array: which of it */
};
struct router_prompts {
    struct mem *mem;
    struct arena texts;
    struct router_prompt *items;
    size_t n, capacity;
};
void router_prompts_init(struct router_prompts *prompts, struct mem *mem);
void router_prompts_free(struct router_prompts *prompts);
/* Appends the records of a file, JSONL or one array: {"prompt": TEXT, "adapter": LABEL}, or "messages" in place of the
 * prompt, of which it is the last of the user. FORMAT names the line. A pure function of the bytes; `name` stands for the
 * file in errors. */
graft_status router_prompts_parse(struct router_prompts *prompts, const char *name,
                                  const char *bytes, size_t size, graft_error *error);
graft_status router_prompts_read(struct router_prompts *prompts, const char *path,
                                 graft_error *error);

/* ---- what a file holds -------------------------------------------------------------------- */

struct router_table {
    struct mem *mem;
    int n_labels, width;
    char **labels; /* [n_labels] in order of their bytes */
    float *values; /* what the four below lie in */
    const float *weight /* [n_labels, width] */, *bias /* [n_labels] */;
    const float *mean, *scale; /* [width]: (x - mean) · scale is standardised */
    json_t *base;              /* as cards describe it: architecture, fingerprint, sketch */
    double l2, held_out_share;
    uint64_t seed;
    int64_t examples, right; /* trained on; of them those that it gets right */
    int64_t iterations;
    int64_t *confusion; /* [n_labels, n_labels] of the held-out prompts: rows are their labels */
};
/* Parses a file, which is untrusted: every name, size and value is checked. *out on success alone. */
graft_status router_table_parse(struct router_table *out, struct mem *mem, const uint8_t *bytes,
                                size_t size, graft_error *error);
graft_status router_table_write(const struct router_table *table, const char *path,
                                graft_error *error);
void router_table_free(struct router_table *table);                   /* a zeroed one is allowed */
int router_label(const struct router_table *table, const char *name); /* -1: there is none */
/* Scores [n_labels] of an embedding [width]. */
void router_scores(const struct router_table *table, const float *embedding, double *scores);

/* ---- the fit ------------------------------------------------------------------------------ */

/* f(W, b) = (1/n) Σ −log softmax(W x + b)[y] + l2/2 ‖W‖², which has one minimum, as l2 > 0. */
struct router_fit {
    struct mem *mem;
    struct pool *pool;
    const float *x;   /* [n, width] */
    const int32_t *y; /* [n] */
    int64_t n;
    int width, n_labels;
    double l2;
    bool (*stop)(void *user, int iteration); /* NULL: never; true ends it with CANCELLED */
    void *user;
};
/* values: [n_labels, width] of W, then [n_labels] of b; 0 before. L-BFGS until no derivative is above 1e-7 in magnitude;
 * NUMERIC when that does not come. */
graft_status router_fit_run(const struct router_fit *fit, double *values, int64_t *iterations,
                            graft_error *error);
/* f and its gradient, for the one who wants to check. NaN: no memory. */
double router_fit_value(const struct router_fit *fit, const double *values, double *gradient);

/* ---- routers ------------------------------------------------------------------------------ */

struct router;
struct router_options {
    double l2, held_out_share;
    uint64_t seed;
    graft_progress_fn progress; /* NULL: none; units: prompts */
    void *progress_user;
};
struct router_options router_defaults(void);

/* INVALID_ARGUMENT: options, fewer than two labels, or a label of which nothing is left to train on. UNSUPPORTED: the
 * model has no tokenizer. */
graft_status router_train(const struct model *model, const struct router_prompts *prompts,
                          const struct router_options *options, struct router **out,
                          graft_error *error);
/* `path`: a file, or a folder with router.safetensors. `model` NULL: to be looked at only. SHAPE: it was made for another
 * base. */
graft_status router_open(struct mem *mem, const struct model *model, const char *path,
                         struct router **out, graft_error *error);
void router_close(struct router **router);
const struct router_table *router_table_of(const struct router *router);

struct router_pick {
    int label;
    double probability; /* among all */
    double weight;      /* among the picked: they sum to 1 */
};
/* The top_k best (1 to n_labels), best first, by softmax(scores / temperature), temperature > 0. STATE: it was opened
 * without a model. */
graft_status router_pick_best(struct router *router, const char *text, size_t size, int top_k,
                              double temperature, struct router_pick *out, graft_error *error);
/* confusion [n_labels, n_labels]: rows are the labels of the prompts, columns what was picked. */
graft_status router_evaluate(struct router *router, const struct router_prompts *prompts,
                             graft_progress_fn progress, void *user, int64_t *confusion,
                             graft_error *error);

#endif
