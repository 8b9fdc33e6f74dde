/* save.h: adapters as files: presets, fresh adapters, and adapters in another format.
 *
 * What is written is a draft: linears and the embedding of a model with their ranks and scales, and modules that are held
 * whole; values are read one part at a time, so that the largest bounds the memory. Where the values come from (a recipe, the files of another
 * adapter, a merge) is the draft's business; what a format can hold, and how it says a scale, the writer's.
 */
#ifndef GRAFT_SAVE_H
#define GRAFT_SAVE_H

#include "adapter/adapter.h"

#include <graft/model.h>

/* ---- presets ------------------------------------------------------------------------------ */

enum { PRESET_LISTS = 8 };

struct adapter_preset {
    const char *name, *description;
    int rank;
    double alpha, dropout;
    const char *targets[PRESET_LISTS], *tags[PRESET_LISTS]; /* NULL-terminated */
};
const struct adapter_preset *preset_at(size_t i); /* NULL past the last */
const struct adapter_preset *preset_find(const char *name);

/* ---- fresh adapters ----------------------------------------------------------------------- */

/* Strings are borrowed for the call. */
/* Called after each tensor, with bytes written and in all; false ends the work with CANCELLED. */
struct save_progress {
    graft_progress_fn step; /* NULL: none */
    void *user;
};

struct adapter_recipe {
    const char *name, *version, *description; /* of the card; description may be NULL */
    const char *base;                         /* what it is made for; NULL: the model's path */
    const char *const *
        targets; /* [n_targets] "q_proj", "lm_head", "embed_tokens"; "all-linear": every linear of a block */
    size_t n_targets;
    const char *const *saved; /* [n_saved] held whole: "norm", "input_layernorm", …, "norms": all of
                                 these; "embed_tokens", "lm_head" or a classifier's "score" */
    size_t n_saved;
    int n_layers;            /* only so many blocks, the last; 0, or more than there are: all */
    const char *const *tags; /* [n_tags] */
    size_t n_tags;
    int64_t rank;
    double alpha, dropout;
    bool rslora;
    uint64_t seed;
    graft_type type; /* F32, F16, BF16 */
    struct save_progress progress;
};
/* All that does not depend on a model. */
graft_status recipe_check(const struct adapter_recipe *recipe, graft_error *error);
/* What such an adapter has over the real shapes: trained values, and bytes of its factors in that type.
 * INVALID_ARGUMENT names what is wrong with the recipe. */
graft_status recipe_estimate(const struct model *model, const struct adapter_recipe *recipe,
                             uint64_t *n_params, uint64_t *n_bytes, graft_error *error);
/* Writes a PEFT directory, absent or empty before: A uniform in ±1/√n_in (Kaiming, a = √5), B = 0, so that the
 * adapter changes nothing until it is trained. A value depends on seed and module alone. */
graft_status adapter_create(const struct model *model, const char *dir,
                            const struct adapter_recipe *recipe, graft_error *error);

/* ---- factors at hand ---------------------------------------------------------------------- */

/* B A of scale 1 for one site. */
struct adapter_factors {
    int site;
    int64_t rank;
    float *a, *b; /* [rank, n_in]; [n_out, rank], rows in the order of Hugging Face */
};
/* A PEFT directory of F32, absent or empty before. Of the recipe name, version, description, tags and base
 * count. */
graft_status adapter_write_factors(const struct model *model, const char *dir,
                                   const struct adapter_recipe *recipe,
                                   const struct adapter_factors *factors, size_t n,
                                   graft_error *error);

/* ---- conversion --------------------------------------------------------------------------- */

struct save_options {
    enum adapter_format format;
    bool
        retype; /* write `type` (F32, F16 or BF16); otherwise as it is stored, F32 where a fold would round */
    graft_type type;
    bool rescale; /* as in adapter_options */
    double scale;
    struct save_progress progress;
};
/* Opens `in` on the model with every check, and writes it to `out`: a GGUF file, or a directory that is absent or
 * empty. UNSUPPORTED names what the format cannot hold, and what to do. */
graft_status adapter_convert(const struct model *model, const char *in, const char *out,
                             const struct save_options *options, graft_error *error);

/* Writes the adapter to a PEFT directory whose factors are in blocks of 8 or 4 bits (Q8_0, Q4_0; docs/adapter-files.md),
 * bf16 where rows are no whole blocks. *errors becomes an array of {"module", "error"}: ‖ΔW' − ΔW‖ / ‖ΔW‖ of what is
 * read back. Of the options type, scale and progress count; CANCELLED says whether `out` was written before. */
graft_status adapter_quantize(const struct model *model, const char *in, const char *out,
                              const struct save_options *options, json_t **errors,
                              graft_error *error);

#endif
