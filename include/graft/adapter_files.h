/* graft/adapter_files.h: adapters as files: presets, new adapters, other formats, and what they are.
 *
 * Everything here reads or writes files and leaves open adapters and sessions alone. What is written appears
 * whole or not at all (also when `progress` cancels it), and nothing that exists is replaced but a GGUF file,
 * and that only when it is none of those that are read (else GRAFT_IO, with its name). The model says what fits
 * and how wide it is; any copy of it will do (safetensors, MLX, GGUF, quantised).
 */
#ifndef GRAFT_PUBLIC_ADAPTER_FILES_H
#define GRAFT_PUBLIC_ADAPTER_FILES_H

#include <graft/adapter.h>

#ifdef __cplusplus
extern "C" {
#endif

/* ---- presets ---- */

typedef struct graft_preset {
    const char *name, *description;
    int rank;
    double alpha, dropout;
    const char *const *targets; /* [n_targets] */
    size_t n_targets;
    const char *const *tags; /* [n_tags] */
    size_t n_tags;
} graft_preset;
/* Preset i (coder, researcher, security, architect, reviewer); false past the last. Strings live for ever. */
GRAFT_API bool graft_preset_at(size_t i, graft_preset *out);

/* ---- new adapters ---- */

typedef struct graft_adapter_recipe {
    size_t struct_size;
    int rank;       /* default 8; 1 to 65536 */
    double alpha;   /* default 16; the scale is alpha / rank, with rslora alpha / √rank */
    double dropout; /* default 0; of training: at least 0, below 1 */
    bool rslora;
    /* Linear layers by the last part of their names ("q_proj", "lm_head"), or "all-linear": those of the
     * blocks; and "embed_tokens", whose factors are of the embedding. Default: q_proj and v_proj. */
    const char *const *targets;
    size_t n_targets;
    uint64_t seed;    /* default 0 */
    const char *type; /* "f32" (default), "f16", "bf16" */
    /* The card: name (a letter or digit, then letters, digits, '.', '_', '-'; at most 63; default "adapter"),
     * version MAJOR.MINOR.PATCH (default "0.1.0"), description (default none), tags (default none). */
    const char *name, *version, *description;
    const char *const *tags;
    size_t n_tags;
    const char *base; /* base_model_name_or_path; NULL (default): the model's path */
    graft_progress_fn
        progress; /* of graft_adapter_create; NULL (default): none; units: bytes. Of graft_trainer_open with "pissa" or
                     "olora"; units: values of weights */
    void *progress_user;
    /* Modules that the adapter holds whole, beside factors, by the last part of their names: norms ("norm",
     * "input_layernorm", …; "norms": all of them), "embed_tokens", "lm_head" or a classifier's "score". A head that is tied
     * goes with "embed_tokens" alone. Default: none. */
    const char *const *modules_to_save;
    size_t n_modules_to_save;
    int num_layers; /* of the blocks only the last so many; 0 (default), or more than there are: all */
} graft_adapter_recipe;
GRAFT_API void graft_adapter_recipe_init(graft_adapter_recipe *recipe, size_t struct_size);
static inline graft_adapter_recipe graft_adapter_recipe_default(void)
{
    graft_adapter_recipe recipe;
    graft_adapter_recipe_init(&recipe, sizeof recipe);
    return recipe;
}
/* Gives the recipe what a preset says, its name as the card's too. NOT_FOUND lists the presets. */
GRAFT_API graft_status graft_adapter_recipe_preset(graft_adapter_recipe *recipe, const char *preset,
                                                   graft_error *error);
/* Whether it can be made on any model: all of it but the targets. INVALID_ARGUMENT says what is wrong. */
GRAFT_API graft_status graft_adapter_recipe_check(const graft_adapter_recipe *recipe,
                                                  graft_error *error);
/* What such an adapter has on this model: trained values, and bytes of its factors: Σ rank · (in + out). */
GRAFT_API graft_status graft_adapter_estimate(graft_model *model,
                                              const graft_adapter_recipe *recipe,
                                              uint64_t *n_params, uint64_t *n_bytes,
                                              graft_error *error);
/* Writes a PEFT directory, absent or empty before, with graft.json in it. A is uniform in ±1/√in, B is 0: it
 * changes nothing until it is trained. The same recipe, the same factors. INVALID_ARGUMENT says what is wrong with
 * the recipe. `recipe` NULL: the defaults. */
GRAFT_API graft_status graft_adapter_create(graft_model *model, const char *dir,
                                            const graft_adapter_recipe *recipe, graft_error *error);

/* ---- other formats ---- */

typedef enum graft_adapter_format {
    GRAFT_ADAPTER_PEFT = 0,
    GRAFT_ADAPTER_MLX = 1,
    GRAFT_ADAPTER_GGUF = 2
} graft_adapter_format;

typedef struct graft_adapter_convert_options {
    size_t struct_size;
    graft_adapter_format format; /* PEFT (default) and MLX: a directory; GGUF: a file */
    /* "f32", "f16", "bf16". NULL (default): as stored, f32 where scales have to go into values of 16 bits and
     * would round them. */
    const char *type;
    double scale;               /* as in graft_adapter_options */
    graft_progress_fn progress; /* NULL (default): none; units: bytes */
    void *progress_user;
} graft_adapter_convert_options;
GRAFT_API void graft_adapter_convert_options_init(graft_adapter_convert_options *options,
                                                  size_t struct_size);
static inline graft_adapter_convert_options graft_adapter_convert_options_default(void)
{
    graft_adapter_convert_options options;
    graft_adapter_convert_options_init(&options, sizeof options);
    return options;
}
/* Opens the adapter with every check of graft_adapter_open and writes it so that the rule by which the other
 * format scales gives the same scales. UNSUPPORTED: what that format cannot hold, by its module, and what to do. */
GRAFT_API graft_status graft_adapter_convert(graft_model *model, const char *in, const char *out,
                                             const graft_adapter_convert_options *options,
                                             graft_error *error);

/* ---- fewer bits ---- */

typedef struct graft_adapter_quantize_options {
    size_t struct_size;
    const char *type;           /* "int8" (default) or "q4" */
    double scale;               /* as in graft_adapter_options */
    graft_progress_fn progress; /* NULL (default): none; units: bytes, then modules */
    void *progress_user;
} graft_adapter_quantize_options;
GRAFT_API void graft_adapter_quantize_options_init(graft_adapter_quantize_options *options,
                                                   size_t struct_size);
static inline graft_adapter_quantize_options graft_adapter_quantize_options_default(void)
{
    graft_adapter_quantize_options options;
    graft_adapter_quantize_options_init(&options, sizeof options);
    return options;
}
/* Writes the adapter, of any format, to a PEFT-like directory with factors of 8 or 4 bits, which graft opens
 * and other programs refuse by its peft_type (docs/adapter-files.md has the format). *errors (may be NULL) becomes a
 * JSON array of {"module", "error"}, the relative error of each ΔW; release it with graft_free. These are measured when
 * all is written: CANCELLED says in its message whether that was so. */
GRAFT_API graft_status graft_adapter_quantize(graft_model *model, const char *in, const char *out,
                                              const graft_adapter_quantize_options *options,
                                              char **errors, graft_error *error);

/* ---- fewer ranks ---- */

typedef struct graft_adapter_compress_options {
    size_t struct_size;
    int rank; /* of each module at most; default 0: by energy alone. One of the two must be given */
    /* The least rank that keeps this share of ||dW||^2, by module; above 0, at most 1; default 0: by rank alone. 1 drops
     * nothing but directions that are rounding. */
    double energy;
    graft_adapter_format format; /* as in graft_adapter_convert_options, as are type and scale */
    const char *type;
    double scale;
    graft_progress_fn progress; /* NULL (default): none; units: bytes */
    void *progress_user;
} graft_adapter_compress_options;
GRAFT_API void graft_adapter_compress_options_init(graft_adapter_compress_options *options,
                                                   size_t struct_size);
static inline graft_adapter_compress_options graft_adapter_compress_options_default(void)
{
    graft_adapter_compress_options options;
    graft_adapter_compress_options_init(&options, sizeof options);
    return options;
}
/* Writes an adapter whose change dW of each module is the best approximation of the given rank (by its singular values; dW is
 * never made). Under DoRA the gains of rows stay, so that W' is the nearest one that they have; modules with no more ranks, and
 * those that are held whole, are written as they are. *report (may be NULL) becomes JSON (docs/adapter-files.md has the schema):
 * ranks, what was discarded, the error, bytes; release it with graft_free. The error is measured when all is written. */
GRAFT_API graft_status graft_adapter_compress(graft_model *model, const char *in, const char *out,
                                              const graft_adapter_compress_options *options,
                                              char **report, graft_error *error);

/* ---- what an adapter is ---- */

typedef struct graft_adapter_report_options {
    size_t struct_size;
    const char *
        consumer; /* NULL (default): none; "vllm", "llama.cpp", "mlx": what that cannot do with it, too */
    double scale; /* as in graft_adapter_options */
} graft_adapter_report_options;
GRAFT_API void graft_adapter_report_options_init(graft_adapter_report_options *options,
                                                 size_t struct_size);
static inline graft_adapter_report_options graft_adapter_report_options_default(void)
{
    graft_adapter_report_options options;
    graft_adapter_report_options_init(&options, sizeof options);
    return options;
}
/* A JSON description (docs/adapter-files.md has the schema): format, scales, ranks, modules by kind, card, sizes. With a
 * model (may be NULL) the adapter is opened on it with every check, whose errors these are, and digest and memory are told.
 * With a consumer it has "problems", each with what to do; NOT_FOUND: graft knows no such program. `options` NULL: the
 * defaults. Release with graft_free. */
GRAFT_API graft_status graft_adapter_report(graft_runtime *runtime, graft_model *model,
                                            const char *path,
                                            const graft_adapter_report_options *options,
                                            char **json, graft_error *error);

/* ---- how two adapters differ ---- */

typedef struct graft_adapter_diff_options {
    size_t struct_size;
    double scale_a, scale_b;    /* as in graft_adapter_options */
    graft_progress_fn progress; /* NULL (default): none; units: modules */
    void *progress_user;
} graft_adapter_diff_options;
GRAFT_API void graft_adapter_diff_options_init(graft_adapter_diff_options *options,
                                               size_t struct_size);
static inline graft_adapter_diff_options graft_adapter_diff_options_default(void)
{
    graft_adapter_diff_options options;
    graft_adapter_diff_options_init(&options, sizeof options);
    return options;
}
/* What two adapters of one base do to it, as JSON (docs/adapter-files.md has the schema): by module, kind and layer, and in
 * all, the norms of both changes (DoRA: of W' - W), their distance, cosine, and how much their spaces of columns and rows
 * overlap; which modules, ranks, scales and members of the cards differ. `options` NULL: the defaults. Release with graft_free. */
GRAFT_API graft_status graft_adapter_diff(graft_model *model, const char *a, const char *b,
                                          const graft_adapter_diff_options *options, char **json,
                                          graft_error *error);

#ifdef __cplusplus
}
#endif
#endif
