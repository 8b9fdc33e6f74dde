/* qwen3.c: Qwen3ForCausalLM: RMSNorm on each head of q and k, a head width of its own, optional
 * attention biases, a switched sliding window.
 */
#include "model/arch/qwen_internal.h"

static graft_status qwen3_hf(struct config *config, const json_t *json, graft_error *error)
{
    graft_status status = config_hf_bias(config, json, "attention_bias", BIAS_ATTENTION, error);
    return status == GRAFT_OK ? qwen_windows(config, json, error) : status;
}

const struct arch arch_qwen3 = {
    .name = "Qwen3ForCausalLM",
    .model_type = "qwen3",
    .gguf = "qwen3",
    .qk_norm = true,
    .names = LLAMA_NAMES,
    .config_hf = qwen3_hf,
    .config_gguf = config_gguf_common,
    .block = block_llama,
};
