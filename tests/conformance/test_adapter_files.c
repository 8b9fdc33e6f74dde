/* test_adapter_files.c: adapters that others made, real and broken, from the shared collection: what opens is
 * what expected.json says, what is refused is what the manifest says, and those for stories260K reproduce its
 * text and logits. Skips where the shared data is absent.
 */
#include "adapter/adapter.h"

#include "conformance_support.h"

#include <math.h>
#include <sys/stat.h>
#include <unistd.h>

#define ADAPTERS GRAFT_SHARED_DIR "/data/adapters"
#define MALFORMED GRAFT_SHARED_DIR "/data/malformed/adapters"
#define STORIES GRAFT_SHARED_DIR "/data/models/stories260K"

static json_t *expected(const char *path)
{
    json_t *json = json_load_file(path, 0, NULL);
    if (!json) {
        print_message("skipped: no %s\n", path);
        skip();
    }
    return json;
}

/* ---- bases -------------------------------------------------------------------------------- */

static const struct base {
    const char *adapter, *config;
} BASES[] = {
#define QWEN                                                                                       \
    "{\"architectures\": [\"Qwen2ForCausalLM\"], \"hidden_size\": 896, \"num_hidden_layers\": 24," \
    " \"intermediate_size\": 4864, \"num_attention_heads\": 14, \"num_key_value_heads\": 2,"       \
    " \"vocab_size\": 151936, \"tie_word_embeddings\": true"
#define LLAMA(d, ff, layers, heads, kv, vocab, tied)                                               \
    "{\"architectures\": [\"LlamaForCausalLM\"], \"hidden_size\": " #d                             \
    ", \"intermediate_size\": " #ff ", \"num_hidden_layers\": " #layers                            \
    ", \"num_attention_heads\": " #heads ", \"num_key_value_heads\": " #kv                         \
    ", \"vocab_size\": " #vocab ", \"tie_word_embeddings\": " #tied
    {"qwen2.5-0.5b-instruct_a", QWEN},
    {"qwen2.5-0.5b-instruct_b", QWEN},
    {"mlx_qwen2.5-0.5b-instruct", QWEN},
    {"tinyllama_arona", LLAMA(2048, 5632, 22, 32, 4, 32000, false)},
    {"smollm2-360m", LLAMA(960, 2560, 32, 15, 5, 49152, true)},
    {"ollama_discollama_mlx_llama3-8b", LLAMA(4096, 14336, 32, 32, 8, 128256, false)},
};

static void declare(struct tensor_decl *list, size_t *n, char *name, int64_t rows, int64_t columns)
{
    list[(*n)++] = (struct tensor_decl){name, GRAFT_TYPE_BF16, columns ? 2 : 1, {rows, columns}};
}

static int64_t number(const json_t *config, const char *key)
{
    return json_integer_value(json_object_get(config, key));
}

/* The tensors that the configuration asks for. */
static size_t list_tensors(const json_t *c, struct tensor_decl *list, char (*names)[96])
{
    int64_t d = number(c, "hidden_size"), ff = number(c, "intermediate_size");
    int64_t kv = d / number(c, "num_attention_heads") * number(c, "num_key_value_heads");
    bool biased = strstr(json_string_value(json_array_get(json_object_get(c, "architectures"), 0)),
                         "Qwen2") != NULL;
    const struct {
        const char *name;
        int64_t rows, columns;
        bool only_biased;
    } PARTS[] = {
        {"input_layernorm.weight", d, 0, false},   {"self_attn.q_proj.weight", d, d, false},
        {"self_attn.k_proj.weight", kv, d, false}, {"self_attn.v_proj.weight", kv, d, false},
        {"self_attn.o_proj.weight", d, d, false},  {"post_attention_layernorm.weight", d, 0, false},
        {"mlp.gate_proj.weight", ff, d, false},    {"mlp.up_proj.weight", ff, d, false},
        {"mlp.down_proj.weight", d, ff, false},    {"self_attn.q_proj.bias", d, 0, true},
        {"self_attn.k_proj.bias", kv, 0, true},    {"self_attn.v_proj.bias", kv, 0, true}};
    size_t n = 0;
    for (int layer = 0; layer < (int)number(c, "num_hidden_layers"); layer++)
        for (size_t i = 0; i < ARRAY_LEN(PARTS); i++)
            if (biased || !PARTS[i].only_biased) {
                snprintf(names[n], sizeof(names[n]), "model.layers.%d.%s", layer, PARTS[i].name);
                declare(list, &n, names[n], PARTS[i].rows, PARTS[i].columns);
            }
    declare(list, &n, "model.embed_tokens.weight", number(c, "vocab_size"), d);
    declare(list, &n, "model.norm.weight", d, 0);
    if (!json_is_true(json_object_get(c, "tie_word_embeddings")))
        declare(list, &n, "lm_head.weight", number(c, "vocab_size"), d);
    return n;
}

/* A model of zeros that takes no room: its data is a hole in the file. */
static void write_hollow_model(const char *dir, const char *text)
{
    char config[1024], names[512][96];
    static struct tensor_decl list[512];
    graft_error error = {0};
    struct file_writer file;
    mkdir(dir, 0777);
    snprintf(config, sizeof(config),
             "%s, \"rms_norm_eps\": 1e-6, \"rope_theta\": 10000.0,"
             " \"max_position_embeddings\": 2048, \"hidden_act\": \"silu\","
             " \"use_sliding_window\": false}",
             text);
    write_file(dir, "config.json", config, strlen(config));
    json_t *json = json_loads(config, 0, NULL);
    assert_non_null(json);
    size_t n = list_tensors(json, list, names), bytes = 0;
    for (size_t i = 0; i < n; i++)
        bytes += 2 * (size_t)(list[i].shape[0] * (list[i].n_dims == 2 ? list[i].shape[1] : 1));
    char *path = path_join(NULL, dir, "model.safetensors");
    assert_int_equal(file_writer_open(&file, NULL, path, &error), GRAFT_OK);
    assert_int_equal(safetensors_write_header(&file, list, n, NULL, &error), GRAFT_OK);
    off_t size = (off_t)file.written + (off_t)bytes;
    assert_int_equal(file_writer_commit(&file, &error), GRAFT_OK);
    assert_int_equal(truncate(path, size), 0);
    mem_free(NULL, path);
    json_decref(json);
}

/* ---- real adapters ------------------------------------------------------------------------ */

static double *values_of(const struct matrix *m)
{
    double *out = malloc((size_t)(m->n_out * m->n_in) * sizeof(*out));
    float *row = malloc((size_t)m->n_in * sizeof(*row));
    for (int64_t r = 0; r < m->n_out; r++) {
        kernels_tier(0)->dequantize[m->type](m, r, 0, m->n_in, row);
        for (int64_t i = 0; i < m->n_in; i++)
            out[r * m->n_in + i] = (double)row[i];
    }
    free(row);
    return out;
}

/* ‖scale · B A‖_F = scale · sqrt(Σ (BᵀB) ⊙ (A Aᵀ)) */
static double frobenius(const struct lowrank *l)
{
    int64_t rank = l->a.n_out;
    double *a = values_of(&l->a), *b = values_of(&l->b), total = 0;
    for (int64_t r = 0; r < rank; r++)
        for (int64_t s = 0; s < rank; s++) {
            double aa = 0, bb = 0;
            for (int64_t i = 0; i < l->a.n_in; i++)
                aa += a[r * l->a.n_in + i] * a[s * l->a.n_in + i];
            for (int64_t tile = 0; tile < l->b.n_out; tile += rank)
                for (int64_t i = 0; i < LOWRANK_TILE; i++)
                    bb += b[(tile + r) * LOWRANK_TILE + i] * b[(tile + s) * LOWRANK_TILE + i];
            total += aa * bb;
        }
    free(a);
    free(b);
    return (double)l->scale * sqrt(total);
}

static void check_adapter(const struct adapter *a, const json_t *want)
{
    int n;
    const struct adapter_target *targets = adapter_targets(a, &n);
    const struct lowrank *const *lowranks = adapter_member(a, 1).lowranks;
    assert_int_equal(n, json_integer_value(json_object_get(want, "modules")));
    for (int i = 0; i < n; i++) {
        const char *module = targets[i].module + strlen("model.layers.");
        const json_t *norm = json_object_get(json_object_get(want, "delta_frobenius"), module);
        assert_non_null(norm);
        assert_int_equal(targets[i].rank, json_integer_value(json_object_get(want, "rank")));
        assert_true(targets[i].scale == json_number_value(json_object_get(want, "scale")));
        double got = frobenius(lowranks[targets[i].site]);
        assert_true(fabs(got / json_number_value(norm) - 1) < 1e-5);
    }
}

static void real_adapters_hold_what_is_expected(void **state)
{
    (void)state;
    json_t *json = expected(ADAPTERS "/expected.json");
    struct graft_runtime rt;
    runtime_start(&rt, 2, NULL);
    for (size_t i = 0; i < ARRAY_LEN(BASES); i++) {
        graft_error error = {0};
        struct adapter *a = NULL;
        char path[512];
        const json_t *want = json_object_get(json, BASES[i].adapter);
        write_hollow_model(at("hollow"), BASES[i].config);
        struct model *m = open_model(&rt, at("hollow"));
        snprintf(path, sizeof(path), ADAPTERS "/%s", BASES[i].adapter);
        if (adapter_open(m, path, NULL, &a, &error) != GRAFT_OK)
            fail_msg("%s: %s (%s %s)", path, error.message, error.file, error.tensor);
        const char *format = json_string_value(json_object_get(want, "format"));
        assert_int_equal(adapter_info(a)->format == ADAPTER_MLX, !strcmp(format, "mlx"));
        check_adapter(a, want);
        adapter_release(&a);
        model_close(&m);
    }
    runtime_stop(&rt);
    json_decref(json);
}

static void refused(const struct model *m, const char *path, const char *because)
{
    graft_error error = {0};
    struct adapter *a = NULL;
    assert_int_not_equal(adapter_open(m, path, NULL, &a, &error), GRAFT_OK);
    assert_null(a);
    if (!strstr(error.message, because))
        fail_msg("%s: \"%s\" does not say \"%s\"", path, error.message, because);
}

static void odd_adapters_are_refused_with_the_reason(void **state)
{
    (void)state;
    json_decref(expected(ADAPTERS "/expected.json"));
    struct graft_runtime rt;
    runtime_start(&rt, 1, NULL);
    write_hollow_model(at("hollow"), BASES[3].config);
    struct model *m = open_model(&rt, at("hollow"));
    refused(m, ADAPTERS "/NEG_lfs_pointer", "git lfs pull");
    refused(m, ADAPTERS "/NEG_prompt_tuning_internlm2-7b", "P_TUNING");
    mkdir(at("mismatch"), 0777);
    assert_int_equal(symlink(ADAPTERS "/NEG_config_rank_mismatch/adapter_config.json",
                             at("mismatch/adapter_config.json")),
                     0);
    assert_int_equal(symlink(ADAPTERS "/tinyllama_arona/adapter_model.safetensors",
                             at("mismatch/adapter_model.safetensors")),
                     0);
    refused(m, at("mismatch"), "rank 4 where the configuration says 16");
    refused(m, ADAPTERS "/qwen2.5-0.5b-instruct_a",
            "made for another base: 896 inputs there, 2048");
    refused(m, ADAPTERS "/ollama_discollama_mlx_llama3-8b", "block 31");
    model_close(&m);
    runtime_stop(&rt);
}

/* ---- stories260K -------------------------------------------------------------------------- */

static int read_ids(const json_t *list, graft_token_id *out, int n)
{
    for (size_t i = 0; i < json_array_size(list); i++)
        out[n++] = (graft_token_id)json_integer_value(json_array_get(list, i));
    return n;
}

static void check_logits(const struct model *m, const struct delta_set *set, const json_t *want,
                         const graft_token_id *ids, int n)
{
    float *logits = run_tokens_with(m, ids, n, (struct run){ROLE_PREFILL, KV_F32, 64}, set);
    const char *position;
    json_t *values;
    json_object_foreach(json_object_get(want, "logits_f64"), position, values)
    {
        float row[512];
        for (size_t i = 0; i < 512; i++)
            row[i] = (float)json_number_value(json_array_get(values, i));
        assert_true(relative_error(logits + strtol(position, NULL, 10) * 512, row, 512) <= 1e-4);
    }
    free(logits);
}

/* An adapter on a base: the text and the logits. */
static void check_story(struct graft_runtime *rt, const char *base, const char *adapter,
                        const json_t *want)
{
    graft_error error = {0};
    graft_token_id ids[256], got[256];
    struct adapter *a = NULL;
    struct delta_set *set = NULL;
    struct model *m = open_model(rt, base);
    if (adapter_open(m, adapter, NULL, &a, &error) != GRAFT_OK)
        fail_msg("%s on %s: %s (%s)", adapter, base, error.message, error.tensor);
    const struct delta_member member = adapter_member(a, 1);
    assert_int_equal(delta_set_open(m, &member, 1, &set, &error), GRAFT_OK);
    int n_prompt = read_ids(json_object_get(want, "prompt_ids"), ids, 0);
    int n = read_ids(json_object_get(want, "ids"), ids, n_prompt);
    run_greedy_with(m, ids, n_prompt, (struct run){ROLE_DECODE, KV_F32, 16}, set, got,
                    n - n_prompt);
    assert_memory_equal(got, ids + n_prompt, (size_t)(n - n_prompt) * sizeof(got[0]));
    check_logits(m, set, want, ids, n);
    delta_set_close(&set);
    adapter_release(&a);
    model_close(&m);
}

static void adapters_of_stories_reproduce_text_and_logits(void **state)
{
    (void)state;
    static const char *const CASES[][2] = {
        {"stories260K_lora_r4_all", ""},
        {"stories260K_lora_r4_all", "/adapter.gguf"},
        {"stories260K_lora_r4_all", "/adapter_model.safetensors"},
        {"stories260K_lora_mlx_r8_qv", ""},
        {"stories260K_lora_rslora_patterns", ""}};
    static const char *const MODELS[] = {STORIES, STORIES "/stories260K.gguf"};
    for (int tier = 0; kernels_tier(tier); tier++)
        for (size_t i = 0; i < ARRAY_LEN(CASES); i++) {
            char path[512];
            snprintf(path, sizeof(path), ADAPTERS "/%s/expected.json", CASES[i][0]);
            json_t *json = expected(path), *want;
            const char *key;
            snprintf(path, sizeof(path), ADAPTERS "/%s%s", CASES[i][0], CASES[i][1]);
            json_object_foreach(json, key, want)
            {
                if (!json_object_get(want, "prompt_ids"))
                    continue;
                struct graft_runtime rt;
                runtime_start(&rt, 2, kernels_tier(tier));
                for (size_t base = 0; base < ARRAY_LEN(MODELS); base++)
                    check_story(&rt, MODELS[base], path, want);
                runtime_stop(&rt);
            }
            json_decref(json);
        }
}

/* ---- malformed ones ----------------------------------------------------------------------- */

static void malformed_adapters_are_treated_as_the_manifest_says(void **state)
{
    (void)state;
    json_t *json = expected(MALFORMED "/manifest.json");
    const json_t *dirs = json_object_get(json, "dirs"), *dir;
    struct graft_runtime rt;
    size_t i;
    runtime_start(&rt, 1, NULL);
    struct model *m = open_model(&rt, STORIES);
    json_array_foreach(dirs, i, dir)
    {
        char path[512];
        graft_error error = {0};
        struct adapter *a = NULL;
        const char *name = path_base(json_string_value(json_object_get(dir, "dir")));
        const char *outcome = json_string_value(json_object_get(dir, "outcome"));
        snprintf(path, sizeof(path), MALFORMED "/%s", name);
        bool opened = adapter_open(m, path, NULL, &a, &error) == GRAFT_OK;
        /* refused "unless implemented", as it is */
        bool load = !strcmp(outcome, "load") || !strcmp(name, "bad_dora");
        if (strcmp(outcome, "any") != 0 && opened != load)
            fail_msg("%s: %s", name, opened ? "opened" : error.message);
        if (!opened && (!error.message[0] || !error.file[0]))
            fail_msg("%s: refused without a word or a file", name);
        adapter_release(&a);
    }
    assert_true(i > 60);
    model_close(&m);
    runtime_stop(&rt);
    json_decref(json);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(real_adapters_hold_what_is_expected),
        cmocka_unit_test(odd_adapters_are_refused_with_the_reason),
        cmocka_unit_test(adapters_of_stories_reproduce_text_and_logits),
        cmocka_unit_test(malformed_adapters_are_treated_as_the_manifest_says),
    };
    return cmocka_run_group_tests(tests, test_dir_open, test_dir_close);
}
