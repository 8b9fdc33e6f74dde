/* arch.h: what makes one architecture different from another.
 *
 * Each architecture is one file with one `const struct arch`, listed in registry.c. It says what the
 * model is called, how its tensors are named in each container, which quirks its configuration has,
 * and which function computes a block. Adding one is one file and one line of the list.
 *
 * An arch file owns no arithmetic and no storage: blocks live in model/block.c, tensors in
 * model/weights.c.
 */
#ifndef GRAFT_ARCH_H
#define GRAFT_ARCH_H

#include "model/model.h"

/* Containers name tensors in their own ways. */
enum naming { NAMING_HF, NAMING_GGUF, NAMING_COUNT };

/* Every module that can have a tensor. The linears of a block follow SLOT_LINEAR in the order of
 * enum linear_id. */
enum slot {
    SLOT_EMBED,
    SLOT_FINAL_NORM,
    SLOT_HEAD,
    SLOT_ATTN_NORM, /* from here on: one per block */
    SLOT_MLP_NORM,
    SLOT_Q_NORM,
    SLOT_K_NORM,
    SLOT_LINEAR,
    SLOT_COUNT = SLOT_LINEAR + LINEAR_COUNT
};

struct pass; /* one forward pass: model/forward_internal.h */

struct arch {
    const char *name;       /* config.json "architectures" */
    const char *model_type; /* config.json "model_type", for files without "architectures" */
    const char *gguf;       /* general.architecture (its first owner reads it); NULL: no GGUF */
    bool gguf_interleaved;  /* its GGUFs hold q and k rows in interleaved RoPE order */
    const char *score;      /* classifier: the module in the head's place; NULL: a language model */
    bool qk_norm;
    /* Modules by [naming][slot], "%d" standing for the block; NULL: there is no such tensor. */
    const char *const (*names)[SLOT_COUNT];
    /* What is peculiar to it, after the common keys were read and checked. */
    graft_status (*config_hf)(struct config *config, const json_t *json, graft_error *error);
    graft_status (*config_gguf)(struct config *config, const struct gguf *g, graft_error *error);
    /* Runs block `layer` on the residual stream of the pass. */
    void (*block)(struct pass *pass, int layer);
};

/* NULL: there is none of that name. */
const struct arch *arch_find(const char *hf_name, const char *model_type);
const struct arch *arch_find_gguf(const char *name, size_t length);
/* "LlamaForCausalLM, …" for messages. */
void arch_list(enum naming naming, char *out, size_t size);

/* The name of a module ("model.layers.3.mlp.up_proj", "blk.3.ffn_up"); append ".weight" or ".bias". False
 * when the architecture has no such module in that naming, or it does not fit. */
bool arch_module(const struct arch *arch, enum naming naming, int slot, int layer, char *out,
                 size_t size);

/* ---- for arch files ----------------------------------------------------------------------- */

/* The names that the Llama family shares. */
extern const char *const LLAMA_NAMES[NAMING_COUNT][SLOT_COUNT];

/* RMSNorm, attention with RoPE and GQA, residual, RMSNorm, SwiGLU, residual. */
void block_llama(struct pass *pass, int layer);

enum {
    BIAS_QKV = 1 << LINEAR_Q | 1 << LINEAR_K | 1 << LINEAR_V,
    BIAS_ATTENTION = BIAS_QKV | 1 << LINEAR_O,
    BIAS_MLP = 1 << LINEAR_GATE | 1 << LINEAR_UP | 1 << LINEAR_DOWN
};
/* Adds `mask` to config->biases when the boolean `key` is there and true. */
graft_status config_hf_bias(struct config *config, const json_t *json, const char *key,
                            unsigned mask, graft_error *error);
/* Sliding windows: "sliding_window" in the layers that "layer_types" calls so or, without that list, in
 * the layers from first_layer on. */
graft_status config_hf_windows(struct config *config, const json_t *json, int first_layer,
                               graft_error *error);
/* Biases that are there in block 0, and the sliding windows of a GGUF. Enough for all so far. */
graft_status config_gguf_common(struct config *config, const struct gguf *g, graft_error *error);

#endif
