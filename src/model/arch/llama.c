/* llama.c: LlamaForCausalLM: optional biases in attention and MLP, no sliding window unless
 * layer_types asks for one. Its GGUFs (and those of Mistral, which share the name) hold q and k rows
 * in interleaved RoPE order.
 */
#include "model/arch/arch.h"

static graft_status llama_hf(struct config *config, const json_t *json, graft_error *error)
{
    graft_status status = config_hf_bias(config, json, "attention_bias", BIAS_ATTENTION, error);
    if (status == GRAFT_OK)
        status = config_hf_bias(config, json, "mlp_bias", BIAS_MLP, error);
    return status == GRAFT_OK ? config_hf_windows(config, json, config->n_layer, error) : status;
}

const struct arch arch_llama = {
    .name = "LlamaForCausalLM",
    .model_type = "llama",
    .gguf = "llama",
    .gguf_interleaved = true,
    .names = LLAMA_NAMES,
    .config_hf = llama_hf,
    .config_gguf = config_gguf_common,
    .block = block_llama,
};
