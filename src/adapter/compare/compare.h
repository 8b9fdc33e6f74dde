/* compare.h: an adapter held against another, and against itself with fewer ranks, by what they do to the weights.
 *
 * All on ΔW = s B A of each module, under DoRA W' − W; never on A and B, of which many pairs say the same. Norms, angles and
 * spaces come from the factors, so nothing the size of a weight is made, but for DoRA, whose change goes by in rows.
 */
#ifndef GRAFT_COMPARE_H
#define GRAFT_COMPARE_H

#include "adapter/save/save.h"

struct compress_options {
    int64_t rank; /* of each module at most; 0: by energy alone */
    double energy; /* the least rank that keeps this share of ‖ΔW‖², by module; 0: by rank alone */
    struct save_options save;
};
/* Writes `in` with fewer ranks to `out`, which appears whole or not at all: of each module with factors the best approximation
 * of that rank. A module that has no more ranks is written as it is. Under DoRA, W' = diag(h) (W + s B A) with h the
 * magnitude over the norm: h stays as it is, h s B A is approximated, and magnitudes follow from both, so that W' is the
 * nearest one that these gains have. *report (may be NULL) becomes an object: docs/adapter-files.md has its schema; its errors
 * are measured on what was written. INVALID_ARGUMENT: options that cannot be. */
graft_status adapter_compress(const struct model *model, const char *in, const char *out,
                              const struct compress_options *options, json_t **report,
                              graft_error *error);

struct diff_options {
    double scale_a, scale_b; /* MLX, as in adapter_options; 0: the file's */
    struct save_progress progress;
};
/* *out becomes an object: docs/adapter-files.md has its schema. SHAPE: one is for another base. UNSUPPORTED: a module is
 * held whole by one and has factors in the other. Units of progress: modules. */
graft_status adapter_diff(const struct model *model, const char *a, const char *b,
                          const struct diff_options *options, json_t **out, graft_error *error);

#endif
