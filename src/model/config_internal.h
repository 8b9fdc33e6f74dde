/* config_internal.h: what the two configuration readers (HF, GGUF) share. Only for src/model. */
#ifndef GRAFT_CONFIG_INTERNAL_H
#define GRAFT_CONFIG_INTERNAL_H

#include "model/arch/arch.h"

/* Everything absent; ids -1, eps and theta at their defaults. */
void config_init(struct config *config);
/* Fills what derives from other fields (n_kv, d_head when 0), checks every size and relation, and
 * allocates config->windows as zeros. */
graft_status config_check(struct config *config, struct arena *arena, graft_error *error);

graft_status rope_parse_hf(struct config *config, const json_t *json, graft_error *error);
graft_status rope_parse_gguf(struct config *config, const struct gguf *g, graft_error *error);

/* "quantization" of an MLX directory; FORMAT or UNSUPPORTED names what graft cannot read. */
graft_status mlx_parse(struct config *config, struct arena *arena, const json_t *quantization,
                       graft_error *error);
/* What the configuration says about one module. */
struct mlx_quant mlx_lookup(const struct config *config, const char *module);

/* "<architecture>.<name>" in a GGUF. */
void gguf_key(const struct config *config, const char *name, char *out, size_t size);
graft_status gguf_arch_int(const struct config *config, const struct gguf *g, const char *name,
                           int64_t max, int64_t *out, graft_error *error);
graft_status gguf_arch_number(const struct config *config, const struct gguf *g, const char *name,
                              double *out, graft_error *error);

#endif
