/* whole.h: a model that is trained as a whole: every parameter of it.
 *
 * Owns which parameters there are, where they lie, and the model that is written. It fills a trainable, which closes it.
 */
#ifndef GRAFT_TRAINABLE_WHOLE_H
#define GRAFT_TRAINABLE_WHOLE_H

#include "adapter/trainable/trainable.h"

/* Values begin as the base's weights, whatever their type. On failure trainable_close. */
graft_status whole_open(struct trainable *t, graft_error *error);
/* F32, F16 or BF16: that of the base's layers; BF16 where they are quantised. */
graft_type whole_type(const struct model *model);
graft_status whole_check_format(const struct model *model, enum adapter_format format,
                                graft_error *error);
graft_status whole_write(const struct trainable *t, const float *values, const char *path,
                         const struct trainable_output *output, graft_error *error);

#endif
