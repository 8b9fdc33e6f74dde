/* oracle_adapter.h: the random adapters of the reference implementation, made again in C for the random models
 * of oracle_model.h, byte for byte. For tests only: failures abort through cmocka.
 */
#ifndef ORACLE_ADAPTER_H
#define ORACLE_ADAPTER_H

#include "oracle_model.h"

/* `variant`: lora, lora-all, rslora, dora, rsdora, patterns, regex, embed, embed-dora, saved, saved-score,
 * lora-bias, mlx-lora, mlx-dora, mlx-embed. The tensors are named as in the adapter's file, the config is its
 * adapter_config.json. `model`: with the shapes of the base. */
void oracle_adapter_make(struct oracle_model *out, const char *variant, int seed,
                         const struct oracle_model *model);
/* The directory that PEFT or mlx-lm would write. */
void oracle_adapter_write(const struct oracle_model *adapter, const char *dir, graft_type type);
/* A PEFT adapter of one rank and alpha as a GGUF for an architecture of that name; rows of q and k of llama
 * are interleaved, whose heads are d_head wide. */
void oracle_adapter_write_gguf(const struct oracle_model *adapter, const char *path,
                               const char *architecture, int d_head);

#endif
