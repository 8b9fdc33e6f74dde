/* qwen2.c: Qwen2ForCausalLM: biases on q, k and v, whatever the configuration says; a switched
 * sliding window.
 */
#include "model/arch/qwen_internal.h"

graft_status qwen_windows(struct config *config, const json_t *json, graft_error *error)
{
    bool use = false;
    int64_t first = 28; /* the class default of Hugging Face */
    graft_status status = json_get_bool(json, "use_sliding_window", &use, error);
    if (status == GRAFT_OK)
        status = json_get_int(json, "max_window_layers", 0, INT32_MAX, &first, error);
    if (status != GRAFT_OK)
        return status;
    return config_hf_windows(config, json, use ? (int)first : config->n_layer, error);
}

graft_status qwen2_hf(struct config *config, const json_t *json, graft_error *error)
{
    config->biases = BIAS_QKV;
    return qwen_windows(config, json, error);
}

const struct arch arch_qwen2 = {
    .name = "Qwen2ForCausalLM",
    .model_type = "qwen2",
    .gguf = "qwen2",
    .names = LLAMA_NAMES,
    .config_hf = qwen2_hf,
    .config_gguf = config_gguf_common,
    .block = block_llama,
};
