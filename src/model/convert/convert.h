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

#endif
