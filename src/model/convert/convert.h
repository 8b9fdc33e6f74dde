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

/* ---- recipes: which type each tensor gets (recipe.c) ---- */

struct recipe;
/* By name as people write it ("q4_k_m"); NULL when unknown. */
const struct recipe *recipe_find(const char *name);
/* All names, for messages. */
void recipe_list(char *out, size_t size);
graft_type recipe_base(const struct recipe *recipe);    /* of what has no better rule */
bool recipe_is_plain(const struct recipe *recipe);      /* f32, f16, bf16 */
uint32_t recipe_file_type(const struct recipe *recipe); /* general.file_type of GGUF */
/* The type of a matrix [*, n_in] at a slot; a row that is no multiple of the type's block falls back to
 * a type of 32-value blocks, then to F16. */
graft_type recipe_type(const struct recipe *recipe, const struct config *config, int slot,
                       int layer, int64_t n_in);

#endif
