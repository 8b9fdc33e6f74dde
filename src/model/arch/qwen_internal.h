/* qwen_internal.h: what the Qwen files share. Only for arch/.
 *
 * Qwen obeys a switch for its sliding window: use_sliding_window, and then from layer
 * max_window_layers on.
 */
#ifndef GRAFT_ARCH_QWEN_INTERNAL_H
#define GRAFT_ARCH_QWEN_INTERNAL_H

#include "model/arch/arch.h"

graft_status qwen_windows(struct config *config, const json_t *json, graft_error *error);
graft_status qwen2_hf(struct config *config, const json_t *json, graft_error *error);

#endif
