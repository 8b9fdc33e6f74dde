/* graft/merge.h: several adapters into one.
 *
 * What is merged is what adapters do to the weights, ΔW = s B A of each module (DoRA: W' − W), never A and B one by one:
 * averages of those are averages of something else. Inputs may differ in format, rank, scale, kind and modules; a module
 * that one lacks counts as ΔW = 0. Weighted sums stay in factors and are exact, or the best there is of a rank, without ΔW
 * being made; methods that look at single elements stream it. docs/merging.md has the formulas, and when to use which.
 *
 * The result is the same for any number of threads, and random methods are functions of seed and adapters, whatever their
 * order. Any thread; one call uses all threads of the model's runtime.
 */
#ifndef GRAFT_PUBLIC_MERGE_H
#define GRAFT_PUBLIC_MERGE_H

#include <graft/adapter_files.h>

#include <math.h>

#ifdef __cplusplus
extern "C" {
#endif

/* An adapter that goes in. What is NaN is as the options say. */
typedef struct graft_merge_input {
    const char *path;
    const char *name; /* in reports and errors; NULL (default): the path */
    double
        weight; /* default 1; negative: taken away. average, slerp and model_stock do not look at it */
    double density, epsilon, gamma; /* default NaN */
    double scale;                   /* as in graft_adapter_options; default 0 */
} graft_merge_input;
static inline graft_merge_input graft_merge_input_default(const char *path)
{
    graft_merge_input input = {path, NULL, 1, NAN, NAN, NAN, 0};
    return input;
}

typedef struct graft_merge_options {
    size_t struct_size;
    /* Sums: "average", "linear" (default), "cat", "task_arithmetic", "slerp", "model_stock", "svd". Element by element:
     * "magnitude_prune", "ties", "dare_linear", "dare_ties", "della_linear", "della", "breadcrumbs", "breadcrumbs_ties". */
    const char *method;
    /* Of every module at most. 0 (default): the sum of the inputs' ranks, of svd the largest of them; never more than the
     * module is wide. cat keeps every rank and takes none. */
    int rank;
    double
        energy; /* instead, of sums: by module the least rank that keeps this share of ‖ΔW‖²; 0 (default): none */
    double density; /* share of elements that is kept, in (0, 1]; default 0.5 */
    double epsilon; /* della: probabilities lie within density ± this; default 0.15 */
    double
        gamma; /* breadcrumbs: share of the largest elements that goes too, in [0, 1); default 0.01 */
    double lambda;  /* times the whole result; default 1 */
    double slerp_t; /* slerp: from 0, the first, to 1, the second; default 0.5 */
    bool normalize; /* divide the weights by their sum; default false */
    const char
        *sign; /* ties: elected by the "total" of the elements (default) or by their "frequency" */
    const char *
        ties_divide; /* ties: by the "count" of those that agree (default, as PEFT), by their "weight"s or by
                                "none" (mergekit, normalised or not; weights vote, then) */
    uint64_t seed; /* dare, della; default 0 */
    graft_adapter_format format;
    const char *type; /* "f32" (default), "f16", "bf16" */
    /* The card, as of a recipe: default "merged", "0.1.0", none, none; base: what the first input says. */
    const char *name, *version, *description;
    const char *const *tags; /* [n_tags] */
    size_t n_tags;
    const char *base;
    graft_progress_fn
        progress; /* NULL (default): none; units: bytes; first 0, when the inputs are opened */
    void *progress_user;
} graft_merge_options;
GRAFT_API void graft_merge_options_init(graft_merge_options *options, size_t struct_size);
static inline graft_merge_options graft_merge_options_default(void)
{
    graft_merge_options options;
    graft_merge_options_init(&options, sizeof options);
    return options;
}

/* Merges 1 to 64 adapters of this model (any copy of it) into `out`: a directory that is absent or empty, or a GGUF file. What
 * is written appears whole or not at all. *report (may be NULL) becomes JSON, to be released with graft_free: method, inputs,
 * ranks, and the share of ‖ΔW‖² that was discarded, in all and by module; the card has the same in short; where there is no memory left for it, the error says that the files are written. INVALID_ARGUMENT: an
 * option, a weight or a density that cannot be. SHAPE: an input was made for another base. UNSUPPORTED: a module that the
 * method cannot merge, by its name. NUMERIC: slerp of an adapter that changes nothing, or, of DoRA, weights that cancel a row
 * of the base. Else as graft_adapter_open. */
GRAFT_API graft_status graft_merge(graft_model *model, const graft_merge_input *inputs, size_t n,
                                   const char *out, const graft_merge_options *options,
                                   char **report, graft_error *error);
/* Method i by its name; NULL past the last. */
GRAFT_API const char *graft_merge_method_at(size_t i);

/* ---- merges from files ---- */

/* A merge as a file says it: YAML in the words of mergekit (merge_method, models, parameters, dtype, base_model), or JSON;
 * docs/merging.md has the keys. One that is not known, and what makes no sense for adapters, is an error that names it. */
typedef struct graft_merge_config graft_merge_config;
GRAFT_API graft_status graft_merge_config_open(graft_runtime *runtime, const char *path,
                                               graft_merge_config **out, graft_error *error);
GRAFT_API void graft_merge_config_close(graft_merge_config **config);
/* What it says, as long as it is open. Paths are as written. */
GRAFT_API const graft_merge_input *graft_merge_config_inputs(const graft_merge_config *config,
                                                             size_t *n);
GRAFT_API const graft_merge_options *graft_merge_config_options(const graft_merge_config *config);
GRAFT_API const char *
graft_merge_config_base(const graft_merge_config *config); /* NULL: not said */

#ifdef __cplusplus
}
#endif
#endif
