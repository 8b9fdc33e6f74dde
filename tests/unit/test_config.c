/* test_config.c: what config.json and GGUF metadata become, and what is refused, by which name. */
#include "conformance/conformance_support.h"
#include "model/arch/arch.h"
#include "unit/failing_allocator.h"

#include <math.h>

#define SIZES                                                                                      \
    "\"hidden_size\": 96, \"intermediate_size\": 208, \"num_hidden_layers\": 4,"                   \
    "\"num_attention_heads\": 6, \"vocab_size\": 331, \"max_position_embeddings\": 256"
#define LLAMA "\"architectures\": [\"LlamaForCausalLM\"]," SIZES
#define QWEN2 "\"architectures\": [\"Qwen2ForCausalLM\"]," SIZES

struct parsed {
    struct config config;
    struct arena arena;
    graft_error error;
    graft_status status;
};

static struct parsed parse(const char *text)
{
    struct parsed p = {0};
    json_error_t where;
    json_t *json = json_loads(text, 0, &where);
    if (!json)
        fail_msg("%s: %s", where.text, text);
    arena_init(&p.arena, NULL, 1 << 24);
    p.status = config_parse_hf(&p.config, &p.arena, json, &p.error);
    json_decref(json);
    return p;
}

static struct parsed accept(const char *text)
{
    struct parsed p = parse(text);
    if (p.status != GRAFT_OK)
        fail_msg("%s: %s", text, p.error.message);
    return p;
}

static void refuse(const char *text, graft_status status, const char *words)
{
    struct parsed p = parse(text);
    if (p.status != status || !strstr(p.error.message, words))
        fail_msg("%s: status %d, \"%s\"; expected %d and \"%s\"", text, (int)p.status,
                 p.error.message, (int)status, words);
    arena_free(&p.arena);
}

/* ---- Hugging Face ------------------------------------------------------------------------- */

static void a_plain_llama_gets_the_defaults(void **state)
{
    (void)state;
    struct parsed p = accept("{" LLAMA "}");
    const struct config *c = &p.config;
    assert_string_equal(c->architecture, "LlamaForCausalLM");
    assert_int_equal(c->n_layer, 4);
    assert_int_equal(c->n_kv, 6);
    assert_int_equal(c->d_head, 16);
    assert_int_equal(c->n_ctx, 256);
    assert_int_equal(c->bos, -1);
    assert_int_equal(c->n_eos, 0);
    assert_int_equal(c->biases, 0);
    assert_false(c->tied);
    assert_false(c->qk_norm);
    assert_false(c->rope.interleaved);
    assert_int_equal(c->rope.kind, ROPE_PLAIN);
    assert_true(c->rope.theta == 10000.0);
    assert_true(c->norm_eps == 1e-6f);
    for (int i = 0; i < 4; i++)
        assert_int_equal(c->windows[i], 0);
    arena_free(&p.arena);
}

static void keys_that_change_the_arithmetic_are_read(void **state)
{
    (void)state;
    struct parsed p =
        accept("{" LLAMA ", \"num_key_value_heads\": 2, \"head_dim\": 32, \"rms_norm_eps\": 1e-5,"
               "\"rope_theta\": 500000, \"tie_word_embeddings\": true, \"attention_bias\": true,"
               "\"mlp_bias\": true, \"hidden_act\": \"silu\", \"bos_token_id\": 3, "
               "\"eos_token_id\": [4, 5],"
               "\"pad_token_id\": null, \"sliding_window\": 8, \"rope_scaling\": null}");
    const struct config *c = &p.config;
    assert_int_equal(c->n_kv, 2);
    assert_int_equal(c->d_head, 32);
    assert_true(c->norm_eps == 1e-5f);
    assert_true(c->rope.theta == 500000.0);
    assert_true(c->tied);
    assert_int_equal(c->biases, BIAS_ATTENTION | BIAS_MLP);
    assert_int_equal(c->bos, 3);
    assert_int_equal(c->pad, -1);
    assert_int_equal(c->n_eos, 2);
    assert_int_equal(c->eos[1], 5);
    assert_int_equal(c->windows[0], 0); /* Llama has no sliding window of its own */
    arena_free(&p.arena);
}

static void the_model_type_stands_in_for_missing_architectures(void **state)
{
    (void)state;
    struct parsed p = accept("{\"model_type\": \"qwen3\"," SIZES "}");
    assert_string_equal(p.config.architecture, "Qwen3ForCausalLM");
    assert_true(p.config.qk_norm);
    arena_free(&p.arena);
}

static void unknown_architectures_are_refused_with_the_known_ones(void **state)
{
    (void)state;
    refuse("{\"architectures\": [\"GemmaForCausalLM\"]}", GRAFT_UNSUPPORTED, "GemmaForCausalLM");
    refuse("{\"architectures\": [\"GemmaForCausalLM\"]}", GRAFT_UNSUPPORTED,
           "LlamaForCausalLM, MistralForCausalLM, Qwen2ForCausalLM, Qwen3ForCausalLM, "
           "Qwen2ForSequenceClassification");
    refuse("{\"model_type\": \"gemma\"}", GRAFT_UNSUPPORTED, "gemma");
    refuse("{}", GRAFT_FORMAT, "names no architecture");
    refuse("{\"architectures\": 3}", GRAFT_FORMAT, "architectures");
    refuse("{\"architectures\": [3]}", GRAFT_FORMAT, "architectures");
    refuse("[]", GRAFT_FORMAT, "no JSON object");
    refuse("{\"model_type\": 3}", GRAFT_FORMAT, "model_type");
}

static void check_windows(const char *text, const int32_t want[4])
{
    struct parsed p = accept(text);
    for (int i = 0; i < 4; i++)
        if (p.config.windows[i] != want[i])
            fail_msg("%s: layer %d has window %d", text, i, p.config.windows[i]);
    arena_free(&p.arena);
}

static void sliding_windows_follow_each_architectures_rule(void **state)
{
    (void)state;
    check_windows("{\"architectures\": [\"MistralForCausalLM\"], \"sliding_window\": 9," SIZES "}",
                  (int32_t[]){9, 9, 9, 9});
    check_windows("{\"architectures\": [\"MistralForCausalLM\"], \"sliding_window\": null," SIZES
                  "}",
                  (int32_t[]){0, 0, 0, 0});
    check_windows("{" QWEN2 ", \"sliding_window\": 9, \"max_window_layers\": 1}",
                  (int32_t[]){0, 0, 0, 0});
    check_windows("{" QWEN2 ", \"sliding_window\": 9, \"max_window_layers\": 1,"
                  "\"use_sliding_window\": true}",
                  (int32_t[]){0, 9, 9, 9});
    check_windows("{" QWEN2 ", \"sliding_window\": 9, \"use_sliding_window\": true}",
                  (int32_t[]){0, 0, 0, 0}); /* the default first layer is 28 */
    check_windows("{" QWEN2 ", \"sliding_window\": 7, \"layer_types\": [\"full_attention\","
                  "\"sliding_attention\", \"full_attention\", \"sliding_attention\"]}",
                  (int32_t[]){0, 7, 0, 7});
    refuse("{" QWEN2 ", \"layer_types\": [\"full_attention\"]}", GRAFT_FORMAT, "layer_types");
    refuse("{" QWEN2 ", \"layer_types\": [1, 2, 3, 4]}", GRAFT_FORMAT, "layer_types");
    refuse("{" QWEN2 ", \"layer_types\": [\"full_attention\", \"linear_attention\", \"\", \"\"]}",
           GRAFT_UNSUPPORTED, "linear_attention");
    refuse("{" QWEN2 ", \"layer_types\": [\"sliding_attention\", \"full_attention\","
           "\"full_attention\", \"full_attention\"]}",
           GRAFT_FORMAT, "sliding_window");
    refuse("{" QWEN2 ", \"sliding_window\": 0}", GRAFT_FORMAT, "sliding_window");
    refuse("{" QWEN2 ", \"use_sliding_window\": 1}", GRAFT_FORMAT, "use_sliding_window");
    refuse("{" QWEN2 ", \"max_window_layers\": -1}", GRAFT_FORMAT, "max_window_layers");
}

static void qwen2_always_has_biases_and_qwen3_may(void **state)
{
    (void)state;
    struct parsed p = accept("{" QWEN2 ", \"attention_bias\": false}");
    assert_int_equal(p.config.biases, BIAS_QKV);
    arena_free(&p.arena);
    p = accept("{\"architectures\": [\"Qwen3ForCausalLM\"], \"attention_bias\": true," SIZES "}");
    assert_int_equal(p.config.biases, BIAS_ATTENTION);
    arena_free(&p.arena);
    refuse("{" LLAMA ", \"mlp_bias\": \"no\"}", GRAFT_FORMAT, "mlp_bias");
}

#define CLASSIFIER "\"architectures\": [\"Qwen2ForSequenceClassification\"]," SIZES

static void classifiers_have_labels(void **state)
{
    (void)state;
    struct parsed p =
        accept("{" CLASSIFIER ", \"id2label\": {\"1\": \"bad\", \"0\": \"good\", \"2\": \"odd\"},"
               "\"num_labels\": 5}");
    assert_int_equal(p.config.n_labels, 3);
    assert_string_equal(p.config.labels[1], "bad");
    arena_free(&p.arena);
    p = accept("{" CLASSIFIER ", \"num_labels\": 5}");
    assert_int_equal(p.config.n_labels, 5);
    assert_null(p.config.labels);
    arena_free(&p.arena);
    p = accept("{" CLASSIFIER "}");
    assert_int_equal(p.config.n_labels, 2);
    arena_free(&p.arena);
    p = accept("{" LLAMA ", \"id2label\": {\"0\": \"LABEL_0\", \"1\": \"LABEL_1\"}}");
    assert_int_equal(p.config.n_labels, 0); /* every configuration carries these two */
    arena_free(&p.arena);
    refuse("{" CLASSIFIER ", \"id2label\": {\"0\": \"a\", \"7\": \"b\"}}", GRAFT_FORMAT, "\"1\"");
    refuse("{" CLASSIFIER ", \"num_labels\": 0}", GRAFT_FORMAT, "num_labels");
}

static void sizes_are_bounded_and_have_to_fit_each_other(void **state)
{
    (void)state;
    refuse("{\"architectures\": [\"LlamaForCausalLM\"]}", GRAFT_FORMAT, "number of layers");
    refuse("{" LLAMA ", \"num_key_value_heads\": 4}", GRAFT_FORMAT, "cannot share");
    refuse("{" LLAMA ", \"head_dim\": 15}", GRAFT_FORMAT, "odd");
    refuse("{" LLAMA ", \"num_key_value_heads\": 0}", GRAFT_FORMAT, "num_key_value_heads");
    refuse("{" LLAMA ", \"num_key_value_heads\": 2.5}", GRAFT_FORMAT, "num_key_value_heads");
    refuse("{" LLAMA ", \"head_dim\": 1000000}", GRAFT_FORMAT, "head width");
    refuse("{" LLAMA ", \"rms_norm_eps\": -1}", GRAFT_FORMAT, "epsilon");
    refuse("{" LLAMA ", \"rms_norm_eps\": \"small\"}", GRAFT_FORMAT, "rms_norm_eps");
    static const char *const SIZE_KEYS[] = {"hidden_size",       "intermediate_size",
                                            "num_hidden_layers", "num_attention_heads",
                                            "vocab_size",        "max_position_embeddings"};
    static const long long WRONG[] = {0, -4, 2147483647, 9223372036854775807};
    for (size_t i = 0; i < ARRAY_LEN(SIZE_KEYS); i++)
        for (size_t j = 0; j < ARRAY_LEN(WRONG); j++) {
            struct parsed p = accept("{" LLAMA "}");
            arena_free(&p.arena);
            json_t *json = json_loads("{" LLAMA "}", 0, NULL);
            json_object_set_new(json, SIZE_KEYS[i], json_integer(WRONG[j]));
            arena_init(&p.arena, NULL, 1 << 24);
            assert_int_equal(config_parse_hf(&p.config, &p.arena, json, &p.error), GRAFT_FORMAT);
            assert_true(p.error.message[0]);
            arena_free(&p.arena);
            json_decref(json);
        }
}

static void what_graft_would_compute_wrongly_is_refused_by_name(void **state)
{
    (void)state;
    refuse("{" LLAMA ", \"hidden_act\": \"gelu\"}", GRAFT_UNSUPPORTED, "gelu");
    refuse("{" LLAMA ", \"partial_rotary_factor\": 0.5}", GRAFT_UNSUPPORTED,
           "partial_rotary_factor");
    refuse("{" LLAMA ", \"quantization_config\": {\"quant_method\": \"gptq\", \"bits\": 4}}",
           GRAFT_UNSUPPORTED, "gptq");
    refuse("{" LLAMA ", \"quantization_config\": {}}", GRAFT_UNSUPPORTED, "without a name");
    refuse("{" LLAMA ", \"eos_token_id\": \"two\"}", GRAFT_FORMAT, "eos_token_id");
    refuse("{" LLAMA ", \"eos_token_id\": [1,2,3,4,5,6,7,8,9,10,11,12,13,14,15,16,17]}",
           GRAFT_FORMAT, "eos_token_id");
    refuse("{" LLAMA ", \"bos_token_id\": 5000000000}", GRAFT_FORMAT, "bos_token_id");
}

/* ---- rope --------------------------------------------------------------------------------- */

static void rope_scaling_is_read_under_both_names(void **state)
{
    (void)state;
    struct parsed p =
        accept("{" LLAMA ", \"rope_scaling\": {\"type\": \"linear\", \"factor\": 4}}");
    assert_int_equal(p.config.rope.kind, ROPE_LINEAR);
    assert_true(p.config.rope.factor == 4.0);
    arena_free(&p.arena);
    p = accept("{" LLAMA ", \"rope_parameters\": {\"rope_type\": \"default\","
               "\"rope_theta\": 7000.0}, \"rope_theta\": 1.0}");
    assert_int_equal(p.config.rope.kind, ROPE_PLAIN);
    assert_true(p.config.rope.theta == 7000.0);
    arena_free(&p.arena);
    p = accept("{" LLAMA ", \"rope_scaling\": {\"rope_type\": \"llama3\", \"factor\": 8.0,"
               "\"low_freq_factor\": 1, \"high_freq_factor\": 4,"
               "\"original_max_position_embeddings\": 64}}");
    assert_int_equal(p.config.rope.kind, ROPE_LLAMA3);
    assert_int_equal(p.config.n_ctx, 256);
    arena_free(&p.arena);
    p = accept("{" QWEN2 ", \"rope_scaling\": {\"type\": \"yarn\", \"factor\": 4.0,"
               "\"original_max_position_embeddings\": 256, \"truncate\": false}}");
    assert_int_equal(p.config.rope.kind, ROPE_YARN);
    assert_int_equal(p.config.n_ctx, 1024); /* Qwen's files keep the unscaled length */
    assert_true(p.config.rope.fractional_bounds);
    double freq[8], mscale;
    config_rope_frequencies(&p.config, freq, &mscale);
    assert_true(freq[0] == 1.0);
    assert_true(fabs(mscale - (0.1 * log(4.0) + 1)) < 1e-15);
    arena_free(&p.arena);
}

static void other_rope_scaling_is_refused_by_name(void **state)
{
    (void)state;
    static const char *const KINDS[] = {"dynamic", "longrope", "su", "mrope", "ntk"};
    for (size_t i = 0; i < ARRAY_LEN(KINDS); i++) {
        char text[1024];
        snprintf(text, sizeof(text),
                 "{" LLAMA ", \"rope_scaling\": {\"type\": \"%s\", \"factor\": 2}}", KINDS[i]);
        refuse(text, GRAFT_UNSUPPORTED, KINDS[i]);
    }
    refuse("{" LLAMA ", \"rope_scaling\": 4}", GRAFT_FORMAT, "rope_scaling");
    refuse("{" LLAMA ", \"rope_scaling\": {\"type\": \"linear\"}}", GRAFT_FORMAT, "factor");
    refuse("{" LLAMA ", \"rope_scaling\": {\"type\": \"linear\", \"factor\": 0}}", GRAFT_FORMAT,
           "factor");
    refuse("{" LLAMA ", \"rope_scaling\": {\"type\": \"linear\", \"factor\": \"x\"}}", GRAFT_FORMAT,
           "factor");
    refuse("{" LLAMA ", \"rope_scaling\": {\"type\": 3}}", GRAFT_FORMAT, "type");
    refuse("{" LLAMA ", \"rope_scaling\": {\"rope_type\": \"llama3\", \"factor\": 8}}",
           GRAFT_FORMAT, "original_max_position_embeddings");
    refuse("{" LLAMA ", \"rope_scaling\": {\"rope_type\": \"llama3\", \"factor\": 8,"
           "\"low_freq_factor\": 4, \"high_freq_factor\": 4,"
           "\"original_max_position_embeddings\": 64}}",
           GRAFT_FORMAT, "high_freq_factor");
    refuse("{" LLAMA ", \"rope_theta\": 1, \"rope_scaling\": {\"type\": \"yarn\", \"factor\": 2}}",
           GRAFT_FORMAT, "theta");
    refuse("{" LLAMA ", \"rope_scaling\": {\"type\": \"yarn\", \"factor\": 2, \"beta_fast\": -1}}",
           GRAFT_FORMAT, "beta_fast");
    refuse("{" LLAMA ", \"rope_scaling\": {\"type\": \"yarn\", \"factor\": 2,"
           "\"attention_factor\": -1}}",
           GRAFT_FORMAT, "attention_factor");
    refuse("{" LLAMA ", \"rope_scaling\": {\"type\": \"yarn\", \"factor\": 2, \"truncate\": 0}}",
           GRAFT_FORMAT, "truncate");
    refuse("{" LLAMA ", \"rope_theta\": -1}", GRAFT_FORMAT, "theta");
    refuse("{" LLAMA ", \"rope_parameters\": {\"full_attention\": {\"rope_type\": \"default\"}}}",
           GRAFT_UNSUPPORTED, "per layer type");
    refuse("{" LLAMA ", \"rope_scaling\": {\"type\": \"linear\", \"factor\": 2,"
           "\"partial_rotary_factor\": 0.25}}",
           GRAFT_UNSUPPORTED, "partial_rotary_factor");
}

/* ---- MLX ---------------------------------------------------------------------------------- */

static void mlx_quantization_is_read_with_its_overrides(void **state)
{
    (void)state;
    struct parsed p = accept(
        "{" LLAMA ", \"quantization\": {\"group_size\": 64, \"bits\": 4, \"mode\": \"affine\","
        "\"model.layers.1.mlp.up_proj\": {\"group_size\": 32, \"bits\": 8}, \"lm_head\": false,"
        "\"model.embed_tokens\": true}}");
    assert_true(p.config.has_mlx);
    assert_int_equal(p.config.mlx.bits, 4);
    assert_int_equal(p.config.mlx.group, 64);
    assert_int_equal(p.config.n_mlx_overrides, 3);
    assert_string_equal(p.config.mlx_overrides[2].module, "model.layers.1.mlp.up_proj");
    assert_int_equal(p.config.mlx_overrides[2].quant.bits, 8);
    assert_int_equal(p.config.mlx_overrides[2].quant.group, 32);
    assert_int_equal(p.config.mlx_overrides[0].quant.bits, 0);
    assert_int_equal(p.config.mlx_overrides[1].quant.bits, 4);
    arena_free(&p.arena);
    p = accept("{" LLAMA ", \"quantization_config\": {\"group_size\": 128, \"bits\": 8}}");
    assert_int_equal(p.config.mlx.group, 128);
    arena_free(&p.arena);
}

static void mlx_quantization_that_graft_cannot_read_is_refused(void **state)
{
    (void)state;
#define MLX(body) "{" LLAMA ", \"quantization\": {" body "}}"
    refuse(MLX("\"group_size\": 64, \"bits\": 3"), GRAFT_UNSUPPORTED, "3 bits");
    refuse(MLX("\"group_size\": 48, \"bits\": 4"), GRAFT_UNSUPPORTED, "group size 48");
    refuse(MLX("\"group_size\": 32, \"bits\": 4, \"mode\": \"mxfp4\""), GRAFT_UNSUPPORTED, "mxfp4");
    refuse(MLX("\"group_size\": 32, \"bits\": 4, \"lm_head\": {\"bits\": 6}"), GRAFT_UNSUPPORTED,
           "6 bits");
    refuse(MLX("\"group_size\": 32, \"bits\": 4, \"rotation\": 7"), GRAFT_UNSUPPORTED, "rotation");
    refuse(MLX("\"group_size\": 32, \"bits\": \"4\""), GRAFT_FORMAT, "bits");
    refuse("{" LLAMA ", \"quantization\": 4}", GRAFT_FORMAT, "quantization");
}

/* ---- GGUF --------------------------------------------------------------------------------- */

struct gguf_file {
    struct gguf_writer w;
    struct gguf g;
    char *dir;
    char path[768];
    char *bytes;
    size_t size;
};

static void begin_gguf(struct gguf_file *f, const char *arch)
{
    *f = (struct gguf_file){.dir = temp_dir()};
    gguf_writer_init(&f->w, NULL);
    gguf_put_string(&f->w, "general.architecture", arch, strlen(arch));
    static const struct {
        const char *key;
        uint32_t value;
    } INTS[] = {{"block_count", 4},          {"embedding_length", 96}, {"feed_forward_length", 208},
                {"attention.head_count", 6}, {"context_length", 256},  {"vocab_size", 331}};
    for (size_t i = 0; i < ARRAY_LEN(INTS); i++) {
        char key[64];
        snprintf(key, sizeof(key), "%s.%s", arch, INTS[i].key);
        gguf_put_u32(&f->w, key, INTS[i].value);
    }
}

static struct parsed end_gguf(struct gguf_file *f)
{
    struct parsed p = {0};
    struct file_writer file;
    snprintf(f->path, sizeof(f->path), "%s/x.gguf", f->dir);
    assert_int_equal(file_writer_open(&file, NULL, f->path, NULL), GRAFT_OK);
    assert_int_equal(gguf_write_head(&f->w, &file, NULL), GRAFT_OK);
    assert_int_equal(file_writer_commit(&file, NULL), GRAFT_OK);
    gguf_writer_free(&f->w);
    assert_int_equal(file_read(NULL, f->path, 1 << 20, &f->bytes, &f->size, NULL), GRAFT_OK);
    if (gguf_parse(&f->g, NULL, (const uint8_t *)f->bytes, f->size, &p.error) != GRAFT_OK)
        fail_msg("%s", p.error.message);
    arena_init(&p.arena, NULL, 1 << 24);
    p.status = config_parse_gguf(&p.config, &p.arena, &f->g, &p.error);
    gguf_free(&f->g);
    mem_free(NULL, f->bytes);
    temp_remove(f->dir);
    free(f->dir);
    return p;
}

static void refuse_gguf(struct gguf_file *f, graft_status status, const char *words)
{
    struct parsed p = end_gguf(f);
    if (p.status != status || !strstr(p.error.message, words))
        fail_msg("status %d, \"%s\"; expected %d and \"%s\"", (int)p.status, p.error.message,
                 (int)status, words);
    arena_free(&p.arena);
}

static void gguf_metadata_becomes_the_same_configuration(void **state)
{
    (void)state;
    struct gguf_file f;
    begin_gguf(&f, "llama");
    gguf_put_u32(&f.w, "llama.attention.head_count_kv", 2);
    gguf_put_f32(&f.w, "llama.attention.layer_norm_rms_epsilon", 1e-5f);
    gguf_put_f32(&f.w, "llama.rope.freq_base", 500000.0f);
    gguf_put_u32(&f.w, "llama.rope.dimension_count", 16);
    gguf_put_u32(&f.w, "llama.attention.sliding_window", 9);
    gguf_put_u32(&f.w, "tokenizer.ggml.bos_token_id", 1);
    gguf_put_u32(&f.w, "tokenizer.ggml.eos_token_id", 2);
    gguf_put_u32(&f.w, "tokenizer.ggml.eot_token_id", 2);
    gguf_put_u32(&f.w, "tokenizer.ggml.eom_token_id", 7);
    gguf_put_u32(&f.w, "tokenizer.ggml.padding_token_id", UINT32_MAX);
    gguf_put_string(&f.w, "general.type", "model", 5);
    struct parsed p = end_gguf(&f);
    const struct config *c = &p.config;
    assert_string_equal(p.error.message, "");
    assert_int_equal(p.status, GRAFT_OK);
    assert_string_equal(c->architecture, "LlamaForCausalLM");
    assert_true(c->rope.interleaved);
    assert_int_equal(c->n_kv, 2);
    assert_int_equal(c->n_vocab, 331);
    assert_true(c->norm_eps == 1e-5f);
    assert_true(c->rope.theta == 500000.0);
    assert_int_equal(c->windows[3], 9);
    assert_int_equal(c->bos, 1);
    assert_int_equal(c->pad, -1);
    assert_int_equal(c->n_eos, 2);
    assert_int_equal(c->eos[1], 7);
    assert_true(c->tied);
    arena_free(&p.arena);
}

static void gguf_windows_may_have_a_pattern(void **state)
{
    (void)state;
    struct gguf_file f;
    begin_gguf(&f, "qwen2");
    gguf_put_u32(&f.w, "qwen2.attention.sliding_window", 9);
    gguf_put_i32s(&f.w, "qwen2.attention.sliding_window_pattern", (int32_t[]){0, 1, 1, 0}, 4);
    struct parsed p = end_gguf(&f);
    assert_int_equal(p.status, GRAFT_OK);
    assert_false(p.config.rope.interleaved);
    assert_int_equal(p.config.windows[0], 0);
    assert_int_equal(p.config.windows[1], 9);
    arena_free(&p.arena);
    begin_gguf(&f, "qwen2");
    gguf_put_u32(&f.w, "qwen2.attention.sliding_window", 9);
    gguf_put_i32s(&f.w, "qwen2.attention.sliding_window_pattern", (int32_t[]){0, 1}, 2);
    refuse_gguf(&f, GRAFT_FORMAT, "sliding_window_pattern");
    begin_gguf(&f, "qwen2");
    gguf_put_u32(&f.w, "qwen2.attention.sliding_window", 9);
    gguf_put_strings(&f.w, "qwen2.attention.sliding_window_pattern",
                     (const char *const[]){"a", "b", "c", "d"}, (size_t[]){1, 1, 1, 1}, 4);
    refuse_gguf(&f, GRAFT_FORMAT, "sliding_window_pattern");
}

static void gguf_rope_scaling_is_read_or_refused(void **state)
{
    (void)state;
    struct gguf_file f;
    begin_gguf(&f, "qwen3");
    gguf_put_string(&f.w, "qwen3.rope.scaling.type", "yarn", 4);
    gguf_put_f32(&f.w, "qwen3.rope.scaling.factor", 4.0f);
    struct parsed p = end_gguf(&f);
    assert_int_equal(p.status, GRAFT_OK);
    assert_int_equal(p.config.rope.kind, ROPE_YARN);
    assert_true(p.config.rope.original_ctx == 256.0);
    assert_true(fabs(p.config.rope.attention_factor - (0.1 * log(4.0) + 1)) < 1e-12);
    arena_free(&p.arena);

    begin_gguf(&f, "llama"); /* before the type was written down */
    gguf_put_f32(&f.w, "llama.rope.scale_linear", 2.0f);
    p = end_gguf(&f);
    assert_int_equal(p.config.rope.kind, ROPE_LINEAR);
    assert_true(p.config.rope.factor == 2.0);
    arena_free(&p.arena);

    begin_gguf(&f, "llama");
    gguf_put_string(&f.w, "llama.rope.scaling.type", "none", 4);
    gguf_put_f32(&f.w, "llama.rope.scaling.factor", 2.0f);
    p = end_gguf(&f);
    assert_int_equal(p.config.rope.kind, ROPE_PLAIN);
    arena_free(&p.arena);

    begin_gguf(&f, "llama");
    gguf_put_string(&f.w, "llama.rope.scaling.type", "longrope", 8);
    refuse_gguf(&f, GRAFT_UNSUPPORTED, "longrope");
    begin_gguf(&f, "llama");
    gguf_put_u32(&f.w, "llama.rope.dimension_count", 8);
    refuse_gguf(&f, GRAFT_UNSUPPORTED, "8 of 16");
}

static void gguf_files_that_are_no_model_graft_runs_are_refused(void **state)
{
    (void)state;
    struct gguf_file f;
    begin_gguf(&f, "gemma3");
    refuse_gguf(&f, GRAFT_UNSUPPORTED, "gemma3");
    begin_gguf(&f, "gemma3");
    refuse_gguf(&f, GRAFT_UNSUPPORTED, "llama, qwen2, qwen3");
    begin_gguf(&f, "llama");
    gguf_put_string(&f.w, "general.type", "adapter", 7);
    refuse_gguf(&f, GRAFT_UNSUPPORTED, "adapter");
    begin_gguf(&f, "llama");
    gguf_put_u32(&f.w, "llama.expert_count", 8);
    refuse_gguf(&f, GRAFT_UNSUPPORTED, "experts");
    begin_gguf(&f, "llama");
    gguf_put_u32(&f.w, "llama.attention.key_length", 32);
    gguf_put_u32(&f.w, "llama.attention.value_length", 16);
    refuse_gguf(&f, GRAFT_UNSUPPORTED, "width 16");
    begin_gguf(&f, "llama");
    gguf_put_u32(&f.w, "llama.attention.head_count_kv", 4);
    refuse_gguf(&f, GRAFT_FORMAT, "cannot share");
    begin_gguf(&f, "llama");
    gguf_put_string(&f.w, "llama.attention.head_count_kv", "many", 4);
    refuse_gguf(&f, GRAFT_FORMAT, "head_count_kv");
    begin_gguf(&f, "llama");
    gguf_put_string(&f.w, "llama.rope.freq_base", "x", 1);
    refuse_gguf(&f, GRAFT_FORMAT, "freq_base");
    begin_gguf(&f, "llama");
    gguf_put_string(&f.w, "tokenizer.ggml.bos_token_id", "x", 1);
    refuse_gguf(&f, GRAFT_FORMAT, "bos_token_id");
    f = (struct gguf_file){.dir = temp_dir()};
    gguf_writer_init(&f.w, NULL);
    refuse_gguf(&f, GRAFT_FORMAT, "general.architecture");
}

/* ---- memory ------------------------------------------------------------------------------- */

static void running_out_of_memory_is_reported_at_every_step(void **state)
{
    (void)state;
    char text[60000] = "{" CLASSIFIER ", \"id2label\": {\"0\": \"zero\", \"1\": \"one\"},"
                       "\"quantization\": {\"group_size\": 64, \"bits\": 4";
    for (int i = 0; i < 300; i++) { /* more than one chunk of the arena */
        size_t n = strlen(text);
        snprintf(text + n, sizeof(text) - n, ", \"model.layers.%d.some.module.with.a.name\": false",
                 i);
    }
    size_t n = strlen(text);
    snprintf(text + n, sizeof(text) - n, "}}");
    json_t *json = json_loads(text, 0, NULL);
    assert_non_null(json);
    struct failing_allocator failing = {.failed = true};
    size_t n_failed = 0;
    for (; failing.failed; n_failed++) {
        struct mem mem;
        struct parsed p = {0};
        failing_init(&failing, &mem, n_failed + 1);
        arena_init(&p.arena, &mem, 1 << 24);
        graft_status status = config_parse_hf(&p.config, &p.arena, json, &p.error);
        assert_int_equal(status, failing.failed ? GRAFT_NO_MEMORY : GRAFT_OK);
        arena_free(&p.arena);
        assert_int_equal(atomic_load(&mem.bytes_in_use), 0);
    }
    assert_true(n_failed > 2);
    json_decref(json);
}

static void module_names_are_given_in_both_namings(void **state)
{
    (void)state;
    const struct arch *qwen3 = arch_find("Qwen3ForCausalLM", NULL);
    char name[64];
    assert_true(arch_module(qwen3, NAMING_GGUF, SLOT_LINEAR + LINEAR_DOWN, 17, name, sizeof(name)));
    assert_string_equal(name, "blk.17.ffn_down");
    assert_true(arch_module(qwen3, NAMING_HF, SLOT_K_NORM, 0, name, sizeof(name)));
    assert_string_equal(name, "model.layers.0.self_attn.k_norm");
    assert_false(arch_module(qwen3, NAMING_HF, SLOT_K_NORM, 0, name, 10));
    const struct arch *score = arch_find("Qwen2ForSequenceClassification", NULL);
    assert_true(arch_module(score, NAMING_HF, SLOT_HEAD, 0, name, sizeof(name)));
    assert_string_equal(name, "score");
    assert_false(arch_module(score, NAMING_GGUF, SLOT_HEAD, 0, name, sizeof(name)));
    assert_ptr_equal(arch_find("LlamaForCausalLM", NULL), arch_find_gguf("llama", 5));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_plain_llama_gets_the_defaults),
        cmocka_unit_test(keys_that_change_the_arithmetic_are_read),
        cmocka_unit_test(the_model_type_stands_in_for_missing_architectures),
        cmocka_unit_test(unknown_architectures_are_refused_with_the_known_ones),
        cmocka_unit_test(sliding_windows_follow_each_architectures_rule),
        cmocka_unit_test(qwen2_always_has_biases_and_qwen3_may),
        cmocka_unit_test(classifiers_have_labels),
        cmocka_unit_test(sizes_are_bounded_and_have_to_fit_each_other),
        cmocka_unit_test(what_graft_would_compute_wrongly_is_refused_by_name),
        cmocka_unit_test(rope_scaling_is_read_under_both_names),
        cmocka_unit_test(other_rope_scaling_is_refused_by_name),
        cmocka_unit_test(mlx_quantization_is_read_with_its_overrides),
        cmocka_unit_test(mlx_quantization_that_graft_cannot_read_is_refused),
        cmocka_unit_test(gguf_metadata_becomes_the_same_configuration),
        cmocka_unit_test(gguf_windows_may_have_a_pattern),
        cmocka_unit_test(gguf_rope_scaling_is_read_or_refused),
        cmocka_unit_test(gguf_files_that_are_no_model_graft_runs_are_refused),
        cmocka_unit_test(running_out_of_memory_is_reported_at_every_step),
        cmocka_unit_test(module_names_are_given_in_both_namings),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
