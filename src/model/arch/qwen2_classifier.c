/* qwen2_classifier.c: Qwen2ForSequenceClassification: Qwen2 with a score head [n_labels, d_model] in
 * place of the language model's. Only as a Hugging Face directory.
 */
#include "model/arch/qwen_internal.h"

const struct arch arch_qwen2_classifier = {
    .name = "Qwen2ForSequenceClassification",
    .model_type = "qwen2",
    .score = "score",
    .names = LLAMA_NAMES,
    .config_hf = qwen2_hf,
    .block = block_llama,
};
