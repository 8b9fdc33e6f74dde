/* report.h: what an adapter is, said without applying it, and which programs it suits.
 *
 * Everything comes from the files; a model, where there is one, adds every check of opening, and what only it can
 * tell. What other programs hold is known here from their own readers, and nowhere else.
 */
#ifndef GRAFT_REPORT_H
#define GRAFT_REPORT_H

#include "adapter/adapter.h"

/* Programs that read adapters. */
enum consumer { CONSUMER_NONE, CONSUMER_VLLM, CONSUMER_LLAMA_CPP, CONSUMER_MLX };
/* By name ("vllm", "llama.cpp", "mlx"); CONSUMER_NONE when unknown. */
enum consumer consumer_find(const char *name);

/* `options` (may be NULL) as for adapter_open. A JSON object: path, format, base, scale_from, ranks, scales, parameters, bytes, types, modules by kind, card; with a
 * model (may be NULL) also digest and memory; for a consumer the problems with it, each with what and do. The errors of
 * adapter_open. json_decref what is given. */
graft_status adapter_report(graft_runtime *runtime, const struct model *model, const char *path,
                            const struct adapter_options *options, enum consumer consumer,
                            json_t **out, graft_error *error);

#endif
