/* merge.h: several adapters into one, on the level of what they do to the weights.
 *
 * What is merged are the changes ΔW = s B A of each module (DoRA: W' − W), never A and B separately. A method that is a
 * weighted sum stays in factors and is exact, rank Σ r, or is brought down to a rank without ΔW ever being made; one that
 * looks at single elements streams ΔW row by row. A module that an input lacks counts as ΔW = 0. docs/merging.md has the
 * formulas and their sources.
 */
#ifndef GRAFT_MERGE_CORE_H
#define GRAFT_MERGE_CORE_H

#include "adapter/save/save.h"

#include <graft/merge.h>

enum merge_method {
    MERGE_AVERAGE,
    MERGE_LINEAR,
    MERGE_CAT,
    MERGE_TASK_ARITHMETIC,
    MERGE_SLERP,
    MERGE_MODEL_STOCK,
    MERGE_SVD,
    MERGE_MAGNITUDE_PRUNE,
    MERGE_TIES,
    MERGE_DARE_LINEAR,
    MERGE_DARE_TIES,
    MERGE_DELLA_LINEAR,
    MERGE_DELLA,
    MERGE_BREADCRUMBS,
    MERGE_BREADCRUMBS_TIES,
    MERGE_METHOD_COUNT
};
const char *merge_method_name(enum merge_method method); /* "dare_ties" */
/* Also by the field's other names: "weighted", "concat", …. False: none; *out is not touched. */
bool merge_method_from(const char *name, enum merge_method *out);
/* Does it look at weights, at density? */
bool merge_uses_weights(enum merge_method method);
bool merge_uses_density(enum merge_method method);

enum { MERGE_MAX = 64 }; /* inputs */

struct merge_input {
    const char *path;
    const char *name; /* that reports give it */
    double weight, density, epsilon, gamma;
    double scale; /* MLX, as in adapter_options; 0: the file's */
};

struct merge_plan {
    enum merge_method method;
    const struct merge_input *inputs; /* [n] */
    size_t n;
    int64_t rank; /* of every module at most; 0: what the method needs */
    double
        energy; /* instead, for sums: the least rank that keeps this share of ‖ΔW‖² by module; 0: none */
    double lambda; /* times the whole result */
    double t;      /* SLERP */
    bool normalize, by_frequency;
    bool by_weight, undivided; /* of elections; as in struct combination */
    uint64_t seed;
    struct save_options save; /* format, type, progress */
    const struct adapter_recipe
        *card; /* name, version, description, tags, base; NULL: that of the only input */
};

/* INVALID_ARGUMENT: what cannot be with any adapters. */
graft_status merge_check(const struct merge_plan *plan, graft_error *error);
/* Merges into `out`, which appears whole or not at all; `check` says what is wrong with the plan. *report (may be NULL) becomes
 * an object: docs/merging.md has its schema. SHAPE: an input was made for another base. NUMERIC: SLERP of an adapter that
 * changes nothing, or a row that is cancelled under DoRA. UNSUPPORTED: what this method cannot merge, by its module. */
graft_status merge_write(const struct model *model, const struct merge_plan *plan, const char *out,
                         json_t **report, graft_error *error);

/* ---- merges as files say them (config.c) -------------------------------------------------- */

struct graft_merge_config {
    struct mem *mem;
    struct arena arena; /* texts */
    graft_merge_input *inputs;
    size_t n_inputs;
    graft_merge_options options;
    const char *base;
};

/* `defaults` are the options that nobody sets. Text is YAML, or JSON where it begins with '{'. The error names the key. */
graft_status merge_config_parse(struct mem *mem, const char *text, size_t size,
                                const graft_merge_options *defaults, graft_merge_config **out,
                                graft_error *error);
graft_status merge_config_open(struct mem *mem, const char *path,
                               const graft_merge_options *defaults, graft_merge_config **out,
                               graft_error *error);
void merge_config_close(graft_merge_config **config);

#endif
