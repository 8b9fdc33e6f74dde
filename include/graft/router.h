/* graft/router.h: which adapter a prompt asks for, learned from prompts that say so.
 *
 * A prompt becomes the mean of the base model's final hidden states over its tokens; a softmax over one linear score for
 * each label says how likely each is (multinomial logistic regression). Labels are addresses of adapters without a weight
 * (NAME[@VERSION], see graft/registry.h), and "base" stands for none of them; a router opens no adapter. Training takes one
 * forward pass for each prompt and then moments, and gives the same bytes for any number of threads. A router is bound to
 * the base that it was trained on (copies of it in other types and containers count as that base).
 *
 * A router may be used by any thread; calls that read prompts take turns on it. Close it before the model.
 */
#ifndef GRAFT_PUBLIC_ROUTER_H
#define GRAFT_PUBLIC_ROUTER_H

#include <graft/model.h>

#ifdef __cplusplus
extern "C" {
#endif

typedef struct graft_router graft_router;

/* The label that stands for no adapter. */
#define GRAFT_ROUTER_BASE "base"

typedef struct graft_router_options {
    size_t struct_size;
    double l2;             /* of the penalty l2/2 ‖W‖², above 0; default 1e-3 */
    double held_out_share; /* of the prompts, to measure by: 0 (none) to below 1; default 0.2 */
    uint64_t seed;         /* of the split; default 0 */
    graft_progress_fn progress; /* NULL (default): none; units: prompts. False: CANCELLED */
    void *progress_user;
} graft_router_options;
GRAFT_API void graft_router_options_init(graft_router_options *options, size_t struct_size);
static inline graft_router_options graft_router_options_default(void)
{
    graft_router_options options;
    graft_router_options_init(&options, sizeof options);
    return options;
}

/* Trains on files of prompts, JSONL or one JSON array of {"prompt": TEXT, "adapter": LABEL}; or "messages" in place of the
 * prompt, of which it is the last one of the user. What the adapters that are applied to the model do plays no part.
 * FORMAT: a record that is wrong, with file and line. INVALID_ARGUMENT: an option is out of range, there are fewer than
 * two labels, or nothing of one is left to train on. UNSUPPORTED: the model has no tokenizer. NUMERIC: no optimum was
 * found. */
GRAFT_API graft_status graft_router_train(graft_model *model, const char *const *paths,
                                          size_t n_paths, const graft_router_options *options,
                                          graft_router **out, graft_error *error);
/* Opens what graft_router_write wrote: the file, or a folder with it as router.safetensors. `model` NULL: to be described
 * alone. The file is untrusted, and copied. FORMAT: it is damaged, or no router; SHAPE: it was made for another base. */
GRAFT_API graft_status graft_router_open(graft_runtime *runtime, graft_model *model,
                                         const char *path, graft_router **out, graft_error *error);
/* Writes it as one file, which appears whole or not at all and replaces one that exists. */
GRAFT_API graft_status graft_router_write(const graft_router *router, const char *path,
                                          graft_error *error);
GRAFT_API void graft_router_close(graft_router **router);

/* Texts and arrays live as long as the router. */
typedef struct graft_router_info {
    const char *const *labels; /* [n_labels] in order of their bytes */
    size_t n_labels;
    int width;        /* values of an embedding */
    const char *base; /* fingerprint */
    double l2, held_out_share;
    uint64_t seed;
    int64_t iterations;
    int64_t examples, examples_right; /* trained on; of them those that it gets right */
    int64_t held_out, held_out_right;
    const int64_t *
        confusion; /* [n_labels, n_labels] held-out prompts: a row is what was asked for, a column what was picked */
} graft_router_info;
GRAFT_API graft_status graft_router_describe(const graft_router *router, graft_router_info *out,
                                             graft_error *error);

typedef struct graft_route {
    const char *label;  /* lives as long as the router */
    double probability; /* among all labels */
    double weight;      /* among those that were picked: they sum to 1 */
} graft_route;

/* The top_k best labels (1 to n_labels) for a prompt, best first: softmax(scores / temperature), of equals the first label.
 * Temperature is above 0: 1 as trained, less is surer. routes: [top_k], the caller's. Of a prompt of more than 1024 tokens (or
 * the model's positions, if these are fewer) the first and the last half of so many count. INVALID_ARGUMENT: an empty prompt; STATE: the router has no model. */
GRAFT_API graft_status graft_router_route(graft_router *router, const char *prompt, size_t size,
                                          size_t top_k, double temperature, graft_route *routes,
                                          graft_error *error);

/* Routes prompts that say what they ask for, files as for training, and counts into confusion [n_labels, n_labels], the
 * caller's: a row is the label of a prompt, a column the one that was picked. INVALID_ARGUMENT: a label that the router does
 * not have, with file and line. */
GRAFT_API graft_status graft_router_evaluate(graft_router *router, const char *const *paths,
                                             size_t n_paths, graft_progress_fn progress,
                                             void *progress_user, int64_t *confusion,
                                             graft_error *error);

#ifdef __cplusplus
}
#endif
#endif
