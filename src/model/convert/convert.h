/* convert.h: write an open model as another container or in other element types.
 *
 * Streams tensor by tensor, rows in parallel: memory stays at one chunk of rows. What is written is a
 * complete model: weights, configuration, tokenizer, chat template.
 */
#ifndef GRAFT_CONVERT_H
#define GRAFT_CONVERT_H

#include "model/model.h"

#include <graft/model.h>

/* in: directory, file or name; out: a .gguf file, or a directory that must be absent or empty. */
graft_status model_convert(graft_runtime *runtime, const char *in, const char *out,
                           const graft_convert_options *options, graft_error *error);

/* ---- fused: W + ΔW of a mix in the place of W (fused.c) ---- */

/* What became of one matrix that a mix changes. Wq: W in the type that was written, W'q: W' in it. Norms are of
 * Frobenius, summed in double row by row, so that threads cannot be seen in them. */
struct fuse_record {
    char name[160];           /* as written */
    int place;                /* of bake.h */
    graft_type planned, type; /* by the recipe; as written */
    int64_t n_out, n_in;
    double norm, delta; /* ‖W'‖, ‖ΔW‖ */
    double error;       /* ‖W'q − W'‖ */
    double kept;        /* ⟨W'q − Wq, ΔW⟩ / ‖ΔW‖²; 1 where ΔW is 0 */
};

/* What a fused conversion is to do, and what it did. */
struct convert_fuse {
    const struct delta_set *mix; /* of the model that is converted; NULL changes nothing */
    /* Quantised types below 8 bits become 8-bit ones where |1 − kept| > 1 − fallback; 0: never. */
    double fallback;
    bool compensate; /* rounding with feedback: compensate.c */
    /* Called after each of them, with W' − W'q [n_out, n_in] in the order of the base's rows; NULL: none. Not
     * within a region of the pool. */
    graft_status (*lost)(void *user, const struct fuse_record *record, const float *lost,
                         graft_error *error);
    /* Called when all is written and nothing is visible yet, with the path of what can be opened. */
    graft_status (*written)(void *user, const char *path, graft_error *error);
    void *user;
    struct fuse_record *records; /* [n_records], to be mem_free'd by the caller, on failure too */
    size_t n_records;
};

/* Writes an open model with a mix in its weights. A head that is tied to the embedding is written apart when
 * only one of them, or both in different ways, are changed. UNSUPPORTED: the output has no place for a bias
 * that the mix adds. */
graft_status model_convert_fused(struct model *model, const char *out,
                                 const graft_convert_options *options, struct convert_fuse *fuse,
                                 graft_error *error);

/* Puts a mix into private copies of the weights of a model that nobody else has seen yet. What is on top of it
 * later (adapters, other mixes) meets the new weights. Types stay as they are, but for `fallback`, and 8 bits in place
 * of MLX's. On failure the model can only be closed. */
graft_status model_fuse(struct model *model, const struct delta_set *mix, double fallback,
                        graft_error *error);

/* ---- recipes: which type each tensor gets (recipe.c) ---- */

struct recipe;
/* By name as people write it ("q4_k_m"); NULL when unknown. */
const struct recipe *recipe_find(const char *name);
/* "mlx4", "mlx8": of MLX directories alone; NULL when it is neither. */
const struct recipe *recipe_find_mlx(const char *name);
/* All names but those, for messages. */
void recipe_list(char *out, size_t size);
graft_type recipe_base(const struct recipe *recipe);    /* of what has no better rule */
bool recipe_is_plain(const struct recipe *recipe);      /* f32, f16, bf16 */
uint32_t recipe_file_type(const struct recipe *recipe); /* general.file_type of GGUF */
/* The type of a matrix [*, n_in] at a slot; a row that is no multiple of the type's block falls back to
 * a type of 32-value blocks, then to F16. */
graft_type recipe_type(const struct recipe *recipe, const struct config *config, int slot,
                       int layer, int64_t n_in);

#endif
