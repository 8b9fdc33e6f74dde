/* registry.c: the list of architectures, and look-up by the names that files use.
 *
 * The order matters in one place: a GGUF architecture name (or a model_type) that several share is the
 * first one's.
 */
#include "model/arch/arch.h"

extern const struct arch arch_llama, arch_mistral, arch_qwen2, arch_qwen3, arch_qwen2_classifier;

static const struct arch *const ARCHS[] = {&arch_llama, &arch_mistral, &arch_qwen2, &arch_qwen3,
                                           &arch_qwen2_classifier};

const char *const LLAMA_NAMES[NAMING_COUNT][SLOT_COUNT] = {
    [NAMING_HF] = {[SLOT_EMBED] = "model.embed_tokens",
                   [SLOT_FINAL_NORM] = "model.norm",
                   [SLOT_HEAD] = "lm_head",
                   [SLOT_ATTN_NORM] = "model.layers.%d.input_layernorm",
                   [SLOT_MLP_NORM] = "model.layers.%d.post_attention_layernorm",
                   [SLOT_Q_NORM] = "model.layers.%d.self_attn.q_norm",
                   [SLOT_K_NORM] = "model.layers.%d.self_attn.k_norm",
                   [SLOT_LINEAR + LINEAR_Q] = "model.layers.%d.self_attn.q_proj",
                   [SLOT_LINEAR + LINEAR_K] = "model.layers.%d.self_attn.k_proj",
                   [SLOT_LINEAR + LINEAR_V] = "model.layers.%d.self_attn.v_proj",
                   [SLOT_LINEAR + LINEAR_O] = "model.layers.%d.self_attn.o_proj",
                   [SLOT_LINEAR + LINEAR_GATE] = "model.layers.%d.mlp.gate_proj",
                   [SLOT_LINEAR + LINEAR_UP] = "model.layers.%d.mlp.up_proj",
                   [SLOT_LINEAR + LINEAR_DOWN] = "model.layers.%d.mlp.down_proj"},
    [NAMING_GGUF] = {[SLOT_EMBED] = "token_embd",
                     [SLOT_FINAL_NORM] = "output_norm",
                     [SLOT_HEAD] = "output",
                     [SLOT_ATTN_NORM] = "blk.%d.attn_norm",
                     [SLOT_MLP_NORM] = "blk.%d.ffn_norm",
                     [SLOT_Q_NORM] = "blk.%d.attn_q_norm",
                     [SLOT_K_NORM] = "blk.%d.attn_k_norm",
                     [SLOT_LINEAR + LINEAR_Q] = "blk.%d.attn_q",
                     [SLOT_LINEAR + LINEAR_K] = "blk.%d.attn_k",
                     [SLOT_LINEAR + LINEAR_V] = "blk.%d.attn_v",
                     [SLOT_LINEAR + LINEAR_O] = "blk.%d.attn_output",
                     [SLOT_LINEAR + LINEAR_GATE] = "blk.%d.ffn_gate",
                     [SLOT_LINEAR + LINEAR_UP] = "blk.%d.ffn_up",
                     [SLOT_LINEAR + LINEAR_DOWN] = "blk.%d.ffn_down"},
};

const struct arch *arch_find(const char *hf_name, const char *model_type)
{
    for (size_t i = 0; i < ARRAY_LEN(ARCHS); i++)
        if (hf_name ? !strcmp(ARCHS[i]->name, hf_name) : !strcmp(ARCHS[i]->model_type, model_type))
            return ARCHS[i];
    return NULL;
}

const struct arch *arch_find_gguf(const char *name, size_t length)
{
    for (size_t i = 0; i < ARRAY_LEN(ARCHS); i++)
        if (ARCHS[i]->gguf && strlen(ARCHS[i]->gguf) == length &&
            !memcmp(ARCHS[i]->gguf, name, length))
            return ARCHS[i];
    return NULL;
}

void arch_list(enum naming naming, char *out, size_t size)
{
    size_t used = 0;
    out[0] = '\0';
    for (size_t i = 0; i < ARRAY_LEN(ARCHS); i++) {
        const char *name = naming == NAMING_GGUF ? ARCHS[i]->gguf : ARCHS[i]->name;
        if (!name || (naming == NAMING_GGUF && arch_find_gguf(name, strlen(name)) != ARCHS[i]))
            continue;
        int n = snprintf(out + used, size - used, "%s%s", used ? ", " : "", name);
        if (n < 0 || (size_t)n >= size - used)
            return;
        used += (size_t)n;
    }
}

bool arch_module(const struct arch *arch, enum naming naming, int slot, int layer, char *out,
                 size_t size)
{
    const char *pattern = arch->names[naming][slot];
    if (slot == SLOT_HEAD && arch->score)
        pattern = naming == NAMING_HF ? arch->score : NULL;
    if (!pattern)
        return false;
    const char *mark = strstr(pattern, "%d");
    int n = mark ? snprintf(out, size, "%.*s%d%s", (int)(mark - pattern), pattern, layer, mark + 2)
                 : snprintf(out, size, "%s", pattern);
    return n >= 0 && (size_t)n < size;
}
