/* shapes.c: models that are known by name, as far as their speed depends on it.
 *
 * Sizes, rotary embedding and biases as published; the weights are made up elsewhere. `width-768`
 * and `mini` are no models of anybody's: the one is a block whose linears all have that width, by which the presets are
 * measured; the other is there for tests, and all its rows are whole blocks of every type.
 */
#include "bench/bench_internal.h"
#include "model/arch/arch.h"

static const struct shape SHAPES[] = {
    {.name = "qwen2.5-0.5b",
     .arch = "qwen2",
     .pre = "qwen2",
     .dimensions = {.n_layer = 24,
                    .d_model = 896,
                    .d_ff = 4864,
                    .n_head = 14,
                    .n_kv = 2,
                    .d_head = 64,
                    .n_vocab = 151936,
                    .n_ctx = 32768,
                    .norm_eps = 1e-6f,
                    .rope = {.kind = ROPE_PLAIN, .theta = 1e6},
                    .tied = true,
                    .biases = BIAS_QKV}},
    {.name = "llama-3.2-1b",
     .arch = "llama",
     .pre = "llama-bpe",
     .dimensions = {.n_layer = 16,
                    .d_model = 2048,
                    .d_ff = 8192,
                    .n_head = 32,
                    .n_kv = 8,
                    .d_head = 64,
                    .n_vocab = 128256,
                    .n_ctx = 131072,
                    .norm_eps = 1e-5f,
                    .rope = {.kind = ROPE_LLAMA3,
                             .theta = 5e5,
                             .factor = 32,
                             .low_freq = 1,
                             .high_freq = 4,
                             .original_ctx = 8192},
                    .tied = true}},
    {.name = "tinyllama-1.1b",
     .arch = "llama",
     .pre = "gpt-2",
     .dimensions = {.n_layer = 22,
                    .d_model = 2048,
                    .d_ff = 5632,
                    .n_head = 32,
                    .n_kv = 4,
                    .d_head = 64,
                    .n_vocab = 32000,
                    .n_ctx = 2048,
                    .norm_eps = 1e-5f,
                    .rope = {.kind = ROPE_PLAIN, .theta = 1e4}}},
    {.name = "width-768",
     .arch = "llama",
     .pre = "gpt-2",
     .dimensions = {.n_layer = 1,
                    .d_model = 768,
                    .d_ff = 768,
                    .n_head = 12,
                    .n_kv = 12,
                    .d_head = 64,
                    .n_vocab = 1024,
                    .n_ctx = 4096,
                    .norm_eps = 1e-5f,
                    .rope = {.kind = ROPE_PLAIN, .theta = 1e4}}},
    {.name = "mini",
     .arch = "llama",
     .pre = "gpt-2",
     .dimensions = {.n_layer = 3,
                    .d_model = 256,
                    .d_ff = 512,
                    .n_head = 4,
                    .n_kv = 2,
                    .d_head = 64,
                    .n_vocab = 1024,
                    .n_ctx = 4096,
                    .norm_eps = 1e-5f,
                    .rope = {.kind = ROPE_PLAIN, .theta = 1e4}}},
};

const struct shape *shape_find(const char *name)
{
    for (size_t i = 0; i < ARRAY_LEN(SHAPES); i++)
        if (!strcmp(SHAPES[i].name, name))
            return &SHAPES[i];
    return NULL;
}

const char *shape_names(void)
{
    return "qwen2.5-0.5b, llama-3.2-1b, tinyllama-1.1b, width-768, mini";
}
