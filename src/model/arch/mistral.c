/* mistral.c: MistralForCausalLM: Llama's block with a sliding window in every layer. In a GGUF it is
 * called llama.
 */
#include "model/arch/arch.h"

static graft_status mistral_hf(struct config *config, const json_t *json, graft_error *error)
{
    return config_hf_windows(config, json, 0, error);
}

const struct arch arch_mistral = {
    .name = "MistralForCausalLM",
    .model_type = "mistral",
    .gguf = "llama",
    .gguf_interleaved = true,
    .names = LLAMA_NAMES,
    .config_hf = mistral_hf,
    .config_gguf = config_gguf_common,
    .block = block_llama,
};
