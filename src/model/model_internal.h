/* model_internal.h: what the files of src/model that open a model share. */
#ifndef GRAFT_MODEL_INTERNAL_H
#define GRAFT_MODEL_INTERNAL_H

#include "model/arch/arch.h"

/* Finds, checks and maps every tensor of the architecture into model->embed, head, norms and layers.
 * Needs model->config and model->tensors. */
graft_status weights_bind(struct model *model, graft_error *error);
/* Packs what `which` (model_options.pack) selects, and gives the pages back that lay under it. */
graft_status weights_pack(struct model *model, const char *which, graft_error *error);
/* model->rope_freq and rope_mscale, with the divisors of rope_freqs.weight where a GGUF has it. */
graft_status weights_rope(struct model *model, graft_error *error);

/* generation_config.json: defaults, and end tokens added to config. Absent file: all not given. */
graft_status generation_read(struct model *model, const char *dir, graft_error *error);
graft_status generation_parse(struct generation_defaults *out, struct config *config,
                              const json_t *json, graft_error *error);

#endif
