/* inspect.h: a model or a file of tensors, described as JSON (docs/inspect.md has the schema).
 *
 * Works on anything that the containers can hold, also on what graft cannot run: then "reason" says
 * why. Reads headers and metadata only, no weights.
 */
#ifndef GRAFT_INSPECT_H
#define GRAFT_INSPECT_H

#include "model/model.h"

/* path: a file or directory (model_resolve finds names). *json is NUL-terminated text from the
 * runtime's memory; mem_free it. */
graft_status model_inspect(graft_runtime *runtime, const char *path, char **json,
                           graft_error *error);

#endif
