/* test_adapter_save.c: adapters as files: fresh ones, and round trips through the formats, on random bases of all
 * architectures and both orders of rows. The adapters are those of the reference's recipes.
 */
#include "adapter/save/save.h"

#include "conformance/conformance_support.h"
#include "conformance/oracle_adapter.h"
#include "unit/failing_allocator.h"
#include "unit/failing_json.h"

#include <math.h>
#include <unistd.h>

static struct graft_runtime rt;

static int setup(void **state)
{
    runtime_start(&rt, 2, NULL);
    return test_dir_open(state);
}

static int teardown(void **state)
{
    runtime_stop(&rt);
    return test_dir_close(state);
}

/* ---- fixtures ----------------------------------------------------------------------------- */

struct base {
    struct oracle_model oracle;
    struct model *model;
};

static void base_open(struct base *b, const char *arch, bool gguf)
{
    char name[32];
    snprintf(name, sizeof(name), "%s%s", arch, gguf ? ".gguf" : "");
    oracle_model_make(&b->oracle, oracle_config(arch), 1);
    if (!path_exists(at(name)) && gguf)
        oracle_write_gguf(&b->oracle, at(name), GRAFT_TYPE_F32);
    else if (!path_exists(at(name)))
        oracle_write_hf(&b->oracle, at(name), GRAFT_TYPE_F32);
    b->model = open_model(&rt, at(name));
}

static void base_close(struct base *b)
{
    model_close(&b->model);
    oracle_model_free(&b->oracle);
}

static const char *fresh_path(const char *name)
{
    const char *path = at(name);
    if (path_is_dir(path))
        temp_remove(path);
    else
        unlink(path);
    return path;
}

static const char *put(const struct base *b, const char *variant)
{
    struct oracle_model a;
    oracle_adapter_make(&a, variant, 7, &b->oracle);
    oracle_adapter_write(&a, fresh_path("adapter"), GRAFT_TYPE_F32);
    oracle_model_free(&a);
    return at("adapter");
}

static struct adapter *open_it(const struct model *m, const char *path)
{
    graft_error error = {0};
    struct adapter *a = NULL;
    if (adapter_open(m, path, NULL, &a, &error) != GRAFT_OK)
        fail_msg("%s: %s (%s)", path, error.message, error.tensor);
    return a;
}

static const graft_token_id TOKENS[] = {5, 17, 300, 42, 8, 99, 250, 13, 77, 201, 6, 330, 151};
/* Decode rows are computed in floats on every tier; prefill rounds to 2^-16 where a matrix unit takes them. */
static const struct run HOW = {ROLE_DECODE, KV_F32, 1};
enum { N_TOKENS = ARRAY_LEN(TOKENS) };

static float *logits_of(const struct model *m, const char *path)
{
    graft_error error = {0};
    struct delta_set *set = NULL;
    struct adapter *a = path ? open_it(m, path) : NULL;
    if (a) {
        const struct delta_member member = adapter_member(a, 1);
        assert_int_equal(delta_set_open(m, &member, 1, &set, &error), GRAFT_OK);
    }
    float *logits = run_tokens_with(m, TOKENS, N_TOKENS, HOW, set);
    delta_set_close(&set);
    adapter_release(&a);
    return logits;
}

static const char *convert(const struct base *b, const char *in, const char *out,
                           enum adapter_format format)
{
    const struct save_options options = {.format = format, .retype = true, .type = GRAFT_TYPE_F32};
    graft_error error = {0};
    if (adapter_convert(b->model, in, fresh_path(out), &options, &error) != GRAFT_OK)
        fail_msg("%s to %s: %s", in, out, error.message);
    struct adapter *a = open_it(b->model, at(out));
    assert_int_equal(adapter_info(a)->format, format);
    adapter_release(&a);
    return at(out);
}

/* ---- round trips -------------------------------------------------------------------------- */

static void check_round_trip(const struct base *b, const char *variant, const char *there,
                             enum adapter_format format)
{
    char first[512];
    snprintf(first, sizeof(first), "%s", put(b, variant));
    size_t n = (size_t)N_TOKENS * (size_t)model_n_logits(b->model);
    float *plain = logits_of(b->model, NULL), *want = logits_of(b->model, first);
    convert(b, first, there, format);
    convert(b, at(there), "back", ADAPTER_PEFT);
    float *got_there = logits_of(b->model, at(there)), *got = logits_of(b->model, at("back"));
    double worst = fmax(relative_error(got_there, want, n), relative_error(got, want, n));
    double effect = effect_error(got, plain, want, plain, n);
    if (!(worst <= 1e-5) || !(effect <= 1e-4) || !(relative_error(plain, want, n) > 1e-2))
        fail_msg("%s of %s through %s: %g, effect %g", variant, b->model->path, there, worst,
                 effect);
    free(plain);
    free(want);
    free(got_there);
    free(got);
}

static void peft_to_mlx_and_back_keeps_logits(void **state)
{
    (void)state;
    static const char *const ARCHS[] = {"llama", "qwen2", "qwen3"};
    static const char *const VARIANTS[] = {"lora",     "lora-all", "rslora",   "dora",    "rsdora",
                                           "patterns", "regex",    "mlx-lora", "mlx-dora"};
    for (size_t i = 0; i < ARRAY_LEN(ARCHS); i++)
        for (int gguf = 0; gguf < 2; gguf++) {
            struct base b;
            base_open(&b, ARCHS[i], gguf);
            for (size_t v = 0; v < ARRAY_LEN(VARIANTS); v++)
                check_round_trip(&b, VARIANTS[v], "mlx", ADAPTER_MLX);
            base_close(&b);
        }
}

static void peft_to_gguf_and_back_keeps_logits(void **state)
{
    (void)state;
    static const char *const ARCHS[] = {"llama", "mistral", "qwen2", "qwen3"};
    static const char *const VARIANTS[] = {"lora",     "lora-all", "rslora",
                                           "patterns", "regex",    "mlx-lora"};
    for (size_t i = 0; i < ARRAY_LEN(ARCHS); i++)
        for (int gguf = 0; gguf < 2; gguf++) {
            struct base b;
            base_open(&b, ARCHS[i], gguf);
            for (size_t v = 0; v < ARRAY_LEN(VARIANTS); v++)
                check_round_trip(&b, VARIANTS[v], "there.gguf", ADAPTER_GGUF);
            base_close(&b);
        }
}

static void a_file_means_the_same_on_a_base_of_the_other_order(void **state)
{
    (void)state;
    struct base hf, gguf;
    base_open(&hf, "llama", false);
    base_open(&gguf, "llama", true);
    put(&hf, "lora-all");
    convert(&hf, at("adapter"), "one.gguf", ADAPTER_GGUF);
    convert(&gguf, at("adapter"), "two.gguf", ADAPTER_GGUF);
    char *one, *two;
    size_t n_one, n_two;
    assert_int_equal(file_read(NULL, at("one.gguf"), 1 << 26, &one, &n_one, NULL), GRAFT_OK);
    assert_int_equal(file_read(NULL, at("two.gguf"), 1 << 26, &two, &n_two, NULL), GRAFT_OK);
    assert_int_equal(n_one, n_two);
    assert_memory_equal(one, two, n_one);
    mem_free(NULL, one);
    mem_free(NULL, two);
    base_close(&hf);
    base_close(&gguf);
}

static void gguf_to_mlx_and_back_is_the_same_adapter(void **state)
{
    (void)state;
    struct base b;
    base_open(&b, "llama", false);
    put(&b, "lora");
    convert(&b, at("adapter"), "one.gguf", ADAPTER_GGUF);
    convert(&b, at("one.gguf"), "mlx", ADAPTER_MLX);
    convert(&b, at("mlx"), "two.gguf", ADAPTER_GGUF);
    convert(&b, at("two.gguf"), "back", ADAPTER_PEFT);
    struct adapter *first = open_it(b.model, at("adapter")), *last = open_it(b.model, at("back"));
    assert_memory_equal(adapter_info(first)->digest, adapter_info(last)->digest, 32);
    adapter_release(&first);
    adapter_release(&last);
    base_close(&b);
}

static void values_keep_their_type_unless_a_fold_would_round_them(void **state)
{
    (void)state;
    static const struct {
        const char *variant;
        enum adapter_format format;
        graft_type type;
    } CASES[] = {
        {"lora", ADAPTER_MLX, GRAFT_TYPE_BF16},     {"lora", ADAPTER_GGUF, GRAFT_TYPE_BF16},
        {"rslora", ADAPTER_GGUF, GRAFT_TYPE_BF16},  {"rslora", ADAPTER_PEFT, GRAFT_TYPE_BF16},
        {"patterns", ADAPTER_MLX, GRAFT_TYPE_F32},  {"patterns", ADAPTER_GGUF, GRAFT_TYPE_F32},
        {"patterns", ADAPTER_PEFT, GRAFT_TYPE_BF16}};
    struct base b;
    base_open(&b, "llama", false);
    for (size_t i = 0; i < ARRAY_LEN(CASES); i++) {
        const struct save_options options = {.format = CASES[i].format};
        struct oracle_model a;
        graft_error error = {0};
        int n;
        oracle_adapter_make(&a, CASES[i].variant, 7, &b.oracle);
        oracle_adapter_write(&a, fresh_path("adapter"), GRAFT_TYPE_BF16);
        oracle_model_free(&a);
        assert_int_equal(
            adapter_convert(b.model, at("adapter"), fresh_path("out"), &options, &error), GRAFT_OK);
        struct adapter *opened = open_it(b.model, at("out"));
        assert_int_equal(adapter_targets(opened, &n)[0].stored, CASES[i].type);
        adapter_release(&opened);
    }
    base_close(&b);
}

/* ---- configurations ----------------------------------------------------------------------- */

static void file_is(const char *dir, const char *name, const char *want)
{
    char *path = path_join(NULL, dir, name), *text;
    size_t size;
    assert_int_equal(file_read(NULL, path, 1 << 20, &text, &size, NULL), GRAFT_OK);
    assert_string_equal(text, want);
    mem_free(NULL, text);
    mem_free(NULL, path);
}

static void configurations_say_what_their_readers_ask_for(void **state)
{
    (void)state;
    struct base b;
    char want[2048];
    base_open(&b, "llama", false);
    convert(&b, put(&b, "patterns"), "out", ADAPTER_PEFT);
    snprintf(
        want, sizeof(want),
        "{\n  \"peft_type\": \"LORA\",\n  \"task_type\": \"CAUSAL_LM\",\n"
        "  \"base_model_name_or_path\": \"%s\",\n  \"inference_mode\": true,\n"
        "  \"r\": 4,\n  \"lora_alpha\": 8,\n  \"lora_dropout\": 0,\n  \"target_modules\": [\n"
        "%s"
        "  \"rank_pattern\": {\n    \"model.layers.0.self_attn.k_proj\": 2,\n"
        "    \"model.layers.2.self_attn.q_proj\": 6,\n"
        "    \"model.layers.2.self_attn.k_proj\": 2\n  },\n"
        "  \"alpha_pattern\": {\n    \"model.layers.0.self_attn.q_proj\": 3,\n"
        "    \"model.layers.0.mlp.up_proj\": 16,\n"
        "    \"model.layers.2.self_attn.q_proj\": 3,\n"
        "    \"model.layers.2.mlp.up_proj\": 16\n  },\n"
        "  \"use_rslora\": false,\n  \"use_dora\": false,\n  \"bias\": \"none\",\n"
        "  \"fan_in_fan_out\": false,\n  \"init_lora_weights\": true,\n"
        "  \"modules_to_save\": null,\n  \"layers_to_transform\": null,\n"
        "  \"layers_pattern\": null\n}",
        b.model->path,
        "    \"model.layers.0.self_attn.q_proj\",\n    \"model.layers.0.self_attn.k_proj\",\n"
        "    \"model.layers.0.self_attn.v_proj\",\n    \"model.layers.0.self_attn.o_proj\",\n"
        "    \"model.layers.0.mlp.up_proj\",\n    \"model.layers.2.self_attn.q_proj\",\n"
        "    \"model.layers.2.self_attn.k_proj\",\n    \"model.layers.2.self_attn.v_proj\",\n"
        "    \"model.layers.2.self_attn.o_proj\",\n    \"model.layers.2.mlp.up_proj\"\n  ],\n");
    file_is(at("out"), "adapter_config.json", want);
    convert(&b, put(&b, "mlx-lora"), "out", ADAPTER_MLX);
    snprintf(want, sizeof(want),
             "{\n  \"model\": \"%s\",\n  \"fine_tune_type\": \"lora\",\n  \"num_layers\": 2,\n"
             "  \"lora_parameters\": {\n    \"rank\": 4,\n    \"scale\": 1.75,\n"
             "    \"dropout\": 0,\n    \"keys\": [\n      \"self_attn.q_proj\",\n"
             "      \"self_attn.v_proj\",\n      \"mlp.down_proj\"\n    ]\n  }\n}",
             b.model->path);
    file_is(at("out"), "adapter_config.json", want);
    base_close(&b);
}

/* ---- what a format cannot hold ------------------------------------------------------------ */

static void what_a_format_cannot_hold_is_refused_by_name(void **state)
{
    (void)state;
    static const struct {
        const char *arch, *variant;
        enum adapter_format format;
        const char *because;
    } CASES[] = {
        {"llama", "dora", ADAPTER_GGUF,
         "magnitudes (DoRA), which a GGUF adapter cannot hold: fuse"},
        {"llama", "lora-bias", ADAPTER_GGUF, "a bias of B (lora_bias), which a GGUF"},
        {"llama", "lora-bias", ADAPTER_MLX, "a bias of B (lora_bias), which MLX cannot hold"},
        {"qwen2-cls", "lora", ADAPTER_GGUF, "has no form in GGUF"},
        {"llama", "embed", ADAPTER_GGUF, "embed_tokens has factors of an embedding, and conver"},
        {"llama", "mlx-embed", ADAPTER_PEFT, "embed_tokens has factors of an embedding"},
        {"qwen2-cls", "saved-score", ADAPTER_MLX, "score is a whole module, and conversions"},
    };
    for (size_t i = 0; i < ARRAY_LEN(CASES); i++) {
        struct base b;
        graft_error error = {0};
        const struct save_options options = {.format = CASES[i].format};
        base_open(&b, CASES[i].arch, false);
        put(&b, CASES[i].variant);
        assert_int_equal(
            adapter_convert(b.model, at("adapter"), fresh_path("out"), &options, &error),
            GRAFT_UNSUPPORTED);
        if (!strstr(error.message, CASES[i].because))
            fail_msg("\"%s\", expected \"%s\"", error.message, CASES[i].because);
        assert_false(path_exists(at("out")));
        base_close(&b);
    }
}

static void values_that_do_not_fit_the_type_are_refused(void **state)
{
    (void)state;
    struct base b;
    struct oracle_model a;
    graft_error error = {0};
    const struct save_options options = {
        .format = ADAPTER_PEFT, .retype = true, .type = GRAFT_TYPE_F16};
    base_open(&b, "llama", false);
    oracle_adapter_make(&a, "lora", 7, &b.oracle);
    oracle_find(&a, "base_model.model.model.layers.1.self_attn.v_proj.lora_B.weight")->values[5] =
        70000;
    oracle_adapter_write(&a, fresh_path("adapter"), GRAFT_TYPE_F32);
    oracle_model_free(&a);
    assert_int_equal(adapter_convert(b.model, at("adapter"), fresh_path("out"), &options, &error),
                     GRAFT_NUMERIC);
    assert_non_null(strstr(error.message, "choose bf16 or f32"));
    assert_non_null(strstr(error.tensor, "layers.1.self_attn.v_proj.lora_B"));
    assert_false(path_exists(at("out")));
    base_close(&b);
}

/* ---- fresh adapters ----------------------------------------------------------------------- */

static void presets_have_their_numbers(void **state)
{
    (void)state;
    static const struct {
        const char *name;
        int rank;
        double alpha, dropout;
        size_t n_targets;
        const char *last;
    } WANT[] = {{"coder", 16, 32, 0.05, 4, "o_proj"},
                {"researcher", 8, 16, 0.1, 3, "v_proj"},
                {"security", 16, 32, 0.05, 7, "down_proj"},
                {"architect", 12, 24, 0.05, 4, "up_proj"},
                {"reviewer", 8, 16, 0.1, 2, "v_proj"}};
    for (size_t i = 0; i < ARRAY_LEN(WANT); i++) {
        const struct adapter_preset *p = preset_find(WANT[i].name);
        size_t n = 0, tags = 0;
        assert_ptr_equal(p, preset_at(i));
        while (p->targets[n])
            n++;
        while (p->tags[tags])
            tags++;
        assert_int_equal(p->rank, WANT[i].rank);
        assert_true(p->alpha == WANT[i].alpha && p->dropout == WANT[i].dropout);
        assert_int_equal(n, WANT[i].n_targets);
        assert_string_equal(p->targets[n - 1], WANT[i].last);
        assert_string_equal(p->tags[0], p->name);
        assert_true(tags >= 3);
    }
    assert_true(!preset_at(ARRAY_LEN(WANT)) && !preset_find("nobody"));
}

static const char *const TARGETS[] = {"v_proj", "q_proj", "lm_head"};
static const struct adapter_recipe RECIPE = {.name = "fresh",
                                             .version = "1.2.3",
                                             .description = "Knows nothing yet",
                                             .base = "somebody/something",
                                             .targets = TARGETS,
                                             .n_targets = 2,
                                             .tags = TARGETS,
                                             .n_tags = 1,
                                             .rank = 5,
                                             .alpha = 7,
                                             .dropout = 0.05,
                                             .rslora = true,
                                             .seed = 11,
                                             .type = GRAFT_TYPE_F32};

static const char *create(const struct base *b, const struct adapter_recipe *r, const char *name)
{
    graft_error error = {0};
    if (adapter_create(b->model, fresh_path(name), r, &error) != GRAFT_OK)
        fail_msg("%s", error.message);
    return at(name);
}

static void a_fresh_adapter_changes_nothing_and_can_be_trained(void **state)
{
    (void)state;
    struct base b;
    int n;
    base_open(&b, "qwen3", false);
    create(&b, &RECIPE, "fresh");
    size_t n_logits = (size_t)N_TOKENS * (size_t)model_n_logits(b.model);
    float *plain = logits_of(b.model, NULL), *got = logits_of(b.model, at("fresh"));
    assert_memory_equal(plain, got, n_logits * sizeof(float));
    free(plain);
    free(got);
    struct adapter *a = open_it(b.model, at("fresh"));
    const struct adapter_target *targets = adapter_targets(a, &n);
    assert_int_equal(n, 2 * b.model->config.n_layer);
    uint64_t params, bytes;
    assert_int_equal(recipe_estimate(b.model, &RECIPE, &params, &bytes, NULL), GRAFT_OK);
    assert_int_equal(params, adapter_info(a)->parameters);
    assert_int_equal(bytes, 4 * params);
    for (int i = 0; i < n; i++) {
        assert_int_equal(targets[i].rank, 5);
        assert_true(fabs(targets[i].scale - 7 / sqrt(5)) < 1e-12);
    }
    adapter_release(&a);
    base_close(&b);
}

static void fresh_factors_are_kaiming_uniform_by_seed_and_module(void **state)
{
    (void)state;
    struct base b;
    struct safetensors st;
    struct file_map map;
    base_open(&b, "llama", false);
    create(&b, &RECIPE, "fresh");
    assert_int_equal(
        file_map_open(&map, NULL, at("fresh/adapter_model.safetensors"), MAP_COPY, NULL), GRAFT_OK);
    assert_int_equal(safetensors_parse(&st, NULL, map.data, map.size, NULL), GRAFT_OK);
    const struct tensor_info *first = NULL;
    for (size_t i = 0; i < st.n_tensors; i++) {
        const struct tensor_info *t = &st.tensors[i];
        const float *x = (const float *)(const void *)t->data;
        const size_t n = t->size / sizeof(float);
        double most = 0, squares = 0, bound = 1 / sqrt((double)b.model->config.d_model);
        for (size_t k = 0; k < n; k++) {
            most = fmax(most, fabs((double)x[k]));
            squares += (double)x[k] * (double)x[k];
        }
        if (strstr(t->name, "lora_B")) {
            assert_true(most == 0);
            continue;
        }
        assert_true(most <= bound && most > 0.97 * bound);
        assert_true(fabs(squares / (double)n / (bound * bound) - 1.0 / 3) < 0.05);
        if (first)
            assert_memory_not_equal(t->data, first->data, t->size);
        first = t;
    }
    assert_non_null(first);
    safetensors_free(&st);
    file_map_close(&map);
    struct adapter_recipe other = RECIPE;
    uint8_t digest[3][32];
    for (int i = 0; i < 3; i++) {
        other.seed = i == 2 ? 12 : 11;
        struct adapter *a = open_it(b.model, create(&b, &other, "other"));
        memcpy(digest[i], adapter_info(a)->digest, 32);
        adapter_release(&a);
    }
    assert_memory_equal(digest[0], digest[1], 32);
    assert_memory_not_equal(digest[0], digest[2], 32);
    base_close(&b);
}

static void a_fresh_adapter_has_configuration_and_card(void **state)
{
    (void)state;
    struct base b;
    char fingerprint[FINGERPRINT_SIZE];
    json_t *card;
    base_open(&b, "llama", false);
    create(&b, &RECIPE, "fresh");
    file_is(at("fresh"), "adapter_config.json",
            "{\n  \"peft_type\": \"LORA\",\n  \"task_type\": \"CAUSAL_LM\",\n"
            "  \"base_model_name_or_path\": \"somebody/something\",\n"
            "  \"inference_mode\": false,\n  \"r\": 5,\n  \"lora_alpha\": 7,\n"
            "  \"lora_dropout\": 0.05,\n"
            "  \"target_modules\": [\n    \"q_proj\",\n    \"v_proj\"\n  ],\n"
            "  \"rank_pattern\": {},\n  \"alpha_pattern\": {},\n  \"use_rslora\": true,\n"
            "  \"use_dora\": false,\n  \"bias\": \"none\",\n  \"fan_in_fan_out\": false,\n"
            "  \"init_lora_weights\": true,\n  \"modules_to_save\": null,\n"
            "  \"layers_to_transform\": null,\n  \"layers_pattern\": null\n}");
    assert_int_equal(json_read(NULL, at("fresh/graft.json"), 1 << 20, &card, NULL), GRAFT_OK);
    const char *name, *version, *description, *tag, *created, *modified, *base, *print, *arch;
    assert_int_equal(json_unpack(card, "{s:s, s:s, s:s, s:[s], s:s, s:s, s:{s:s, s:s, s:s}}",
                                 "name", &name, "version", &version, "description", &description,
                                 "tags", &tag, "created", &created, "modified", &modified, "base",
                                 "name", &base, "fingerprint", &print, "architecture", &arch),
                     0);
    assert_string_equal(name, "fresh");
    assert_string_equal(version, "1.2.3");
    assert_string_equal(description, "Knows nothing yet");
    assert_string_equal(tag, "v_proj");
    assert_string_equal(base, "somebody/something");
    assert_string_equal(arch, "LlamaForCausalLM");
    assert_int_equal(base_fingerprint(b.model, fingerprint, NULL), GRAFT_OK);
    assert_string_equal(print, fingerprint);
    assert_int_equal(strlen(created), strlen("2026-01-01T00:00:00Z"));
    assert_true(created[4] == '-' && created[10] == 'T' && created[19] == 'Z');
    json_decref(card);
    base_close(&b);
}

static void copies_of_a_base_have_one_fingerprint(void **state)
{
    (void)state;
    static const char *const ARCHS[] = {"llama", "mistral", "qwen2", "qwen3"};
    char prints[ARRAY_LEN(ARCHS)][2][FINGERPRINT_SIZE];
    for (size_t i = 0; i < ARRAY_LEN(ARCHS); i++) {
        for (int gguf = 0; gguf < 2; gguf++) {
            struct base b;
            base_open(&b, ARCHS[i], gguf);
            assert_int_equal(base_fingerprint(b.model, prints[i][gguf], NULL), GRAFT_OK);
            base_close(&b);
        }
        assert_string_equal(prints[i][0], prints[i][1]);
    }
    assert_string_not_equal(prints[0][0], prints[2][0]);
    assert_string_not_equal(prints[2][0], prints[3][0]);
}

static void a_card_stays_with_the_adapter(void **state)
{
    (void)state;
    struct base b;
    json_t *before, *after;
    base_open(&b, "llama", false);
    create(&b, &RECIPE, "fresh");
    assert_int_equal(json_read(NULL, at("fresh/graft.json"), 1 << 20, &before, NULL), GRAFT_OK);
    json_object_set_new(before, "created", json_string("2001-02-03T04:05:06Z"));
    json_object_set_new(before, "mine", json_integer(3));
    char *text = json_dumps(before, 0);
    write_file(at("fresh"), "graft.json", text, strlen(text));
    free(text);
    convert(&b, at("fresh"), "mlx", ADAPTER_MLX);
    assert_int_equal(json_read(NULL, at("mlx/graft.json"), 1 << 20, &after, NULL), GRAFT_OK);
    static const char *const KEYS[] = {"name", "version", "tags", "created", "mine"};
    for (size_t i = 0; i < ARRAY_LEN(KEYS); i++)
        assert_true(json_equal(json_object_get(before, KEYS[i]), json_object_get(after, KEYS[i])));
    json_decref(before);
    json_decref(after);
    base_close(&b);
}

static void recipes_that_make_no_adapter_are_refused(void **state)
{
    (void)state;
    static const char *const UNKNOWN[] = {"q_proj", "w_pack"};
    struct adapter_recipe r[9];
    static const char *const BECAUSE[] = {"rank is 0",       "alpha is 0",  "dropout is 1",
                                          "w_pack",          "none chosen", "bf16, not Q8_0",
                                          "no adapter name", "no version",  "no tag"};
    struct base b;
    base_open(&b, "llama", false);
    for (size_t i = 0; i < ARRAY_LEN(r); i++)
        r[i] = RECIPE;
    r[0].rank = 0;
    r[1].alpha = 0;
    r[2].dropout = 1;
    r[3].targets = UNKNOWN;
    r[4].n_targets = 0;
    r[5].type = GRAFT_TYPE_Q8_0;
    r[6].name = "a/b";
    r[7].version = "1.2";
    r[8].tags = (const char *const[]){""};
    for (size_t i = 0; i < ARRAY_LEN(r); i++) {
        graft_error error = {0};
        assert_int_equal(adapter_create(b.model, fresh_path("fresh"), &r[i], &error),
                         GRAFT_INVALID_ARGUMENT);
        if (i != 4 && !strstr(error.message, BECAUSE[i]))
            fail_msg("\"%s\", expected \"%s\"", error.message, BECAUSE[i]);
        assert_false(path_exists(at("fresh")));
    }
    create(&b, &RECIPE, "fresh");
    assert_int_equal(adapter_create(b.model, at("fresh"), &RECIPE, NULL), GRAFT_IO);
    base_close(&b);
}

static void a_head_of_its_own_goes_everywhere_a_tied_one_nowhere(void **state)
{
    (void)state;
    struct adapter_recipe r = RECIPE;
    r.n_targets = 3;
    for (int tied = 0; tied < 2; tied++) {
        struct base b;
        json_t *config = oracle_config("llama");
        json_object_set_new(config, "tie_word_embeddings", json_boolean(tied));
        oracle_model_make(&b.oracle, config, 1);
        oracle_write_hf(&b.oracle, at(tied ? "tied" : "untied"), GRAFT_TYPE_F32);
        b.model = open_model(&rt, at(tied ? "tied" : "untied"));
        assert_int_equal(b.model->config.tied, tied);
        create(&b, &r, "fresh");
        for (int format = ADAPTER_MLX; format <= ADAPTER_GGUF; format++) {
            const struct save_options options = {.format = (enum adapter_format)format};
            graft_error error = {0};
            graft_status status =
                adapter_convert(b.model, at("fresh"), fresh_path("out"), &options, &error);
            assert_int_equal(status, tied ? GRAFT_UNSUPPORTED : GRAFT_OK);
            if (tied)
                assert_non_null(strstr(error.message, "ties"));
        }
        base_close(&b);
    }
}

/* ---- fewer bits --------------------------------------------------------------------------- */

static const graft_type BLOCKS[] = {GRAFT_TYPE_Q8_0, GRAFT_TYPE_Q4_0};

static void quantise(const struct base *b, graft_type type)
{
    graft_error error = {0};
    json_t *errors = NULL;
    int n;
    if (adapter_quantize(b->model, at("adapter"), fresh_path("small"), type, &errors, &error) !=
        GRAFT_OK)
        fail_msg("%s", error.message);
    struct adapter *a = open_it(b->model, at("small"));
    const struct adapter_target *targets = adapter_targets(a, &n);
    assert_int_equal(json_array_size(errors), n);
    for (int t = 0; t < n; t++) {
        double most = type == GRAFT_TYPE_Q8_0 ? 0.02 : 0.3;
        double off = json_number_value(json_object_get(json_array_get(errors, (size_t)t), "error"));
        if (!(off > most / 50 && off < most))
            fail_msg("%s: error %g", targets[t].module, off);
        assert_true(targets[t].a == type || targets[t].a == GRAFT_TYPE_BF16);
    }
    json_decref(errors);
    adapter_release(&a);
}

/* Byte for byte, but where rows of q and k change places, which are held as BF16. */
static void quantised_factors_are_those_held_in_that_type(void **state)
{
    (void)state;
    static const char *const VARIANTS[] = {"lora-all", "rsdora", "mlx-lora", "lora-bias"};
    for (int gguf = 0; gguf < 2; gguf++) {
        struct base b;
        oracle_model_make(&b.oracle, oracle_config_wide("llama"), 1);
        if (gguf)
            oracle_write_gguf(&b.oracle, at("wide.gguf"), GRAFT_TYPE_F32);
        else
            oracle_write_hf(&b.oracle, at("wide"), GRAFT_TYPE_F32);
        b.model = open_model(&rt, at(gguf ? "wide.gguf" : "wide"));
        for (size_t i = 0; i < ARRAY_LEN(BLOCKS) * ARRAY_LEN(VARIANTS); i++) {
            const struct adapter_options held = {.retype = true, .type = BLOCKS[i % 2]};
            struct adapter *want = NULL;
            put(&b, VARIANTS[i / 2]);
            quantise(&b, BLOCKS[i % 2]);
            struct adapter *got = open_it(b.model, at("small"));
            assert_int_equal(adapter_open(b.model, at("adapter"), &held, &want, NULL), GRAFT_OK);
            assert_int_equal(memcmp(adapter_info(got)->digest, adapter_info(want)->digest, 32) != 0,
                             gguf);
            int n;
            const struct adapter_target *targets = adapter_targets(got, &n);
            for (int t = 0; t < n; t++) {
                bool moved =
                    strstr(targets[t].module, "q_proj") || strstr(targets[t].module, "k_proj");
                assert_int_equal(targets[t].b, gguf && moved ? GRAFT_TYPE_BF16 : BLOCKS[i % 2]);
            }
            adapter_release(&got);
            adapter_release(&want);
        }
        base_close(&b);
    }
}

static void rows_that_are_no_whole_blocks_are_bf16(void **state)
{
    (void)state;
    struct base b;
    base_open(&b, "llama", false);
    put(&b, "lora-all");
    for (size_t i = 0; i < ARRAY_LEN(BLOCKS); i++)
        quantise(&b, BLOCKS[i]);
    base_close(&b);
}

static void quantised_factors_come_back_in_other_formats(void **state)
{
    (void)state;
    struct base b;
    json_t *errors = NULL, *config;
    base_open(&b, "llama", false);
    put(&b, "lora-all");
    assert_int_equal(adapter_quantize(b.model, at("adapter"), fresh_path("small"), GRAFT_TYPE_Q8_0,
                                      &errors, NULL),
                     GRAFT_OK);
    json_decref(errors);
    assert_int_equal(json_read(NULL, at("small/adapter_config.json"), 1 << 20, &config, NULL),
                     GRAFT_OK);
    assert_string_equal(json_string_value(json_object_get(config, "peft_type")), "GRAFT_LORA");
    json_decref(config);
    convert(&b, at("small"), "out.gguf", ADAPTER_GGUF);
    convert(&b, at("out.gguf"), "out", ADAPTER_PEFT);
    size_t n = (size_t)N_TOKENS * (size_t)model_n_logits(b.model);
    float *want = logits_of(b.model, at("small")), *got = logits_of(b.model, at("out"));
    assert_true(relative_error(got, want, n) <= 1e-5);
    free(want);
    free(got);
    base_close(&b);
}

/* ---- lack of memory ----------------------------------------------------------------------- */

/* Files are synced, which takes its time: of many allocations only some. */
static size_t next_allocation(size_t n)
{
    return n + 1 + n / 12;
}

static graft_status do_all(const struct base *b, graft_error *error)
{
    static const enum adapter_format FORMATS[] = {ADAPTER_PEFT, ADAPTER_MLX, ADAPTER_GGUF};
    graft_status status = adapter_create(b->model, fresh_path("fresh"), &RECIPE, error);
    for (size_t i = 0; i < ARRAY_LEN(FORMATS) && status == GRAFT_OK; i++) {
        const struct save_options options = {.format = FORMATS[i]};
        status = adapter_convert(b->model, at("adapter"), fresh_path("out"), &options, error);
    }
    return status;
}

static void no_memory_leaves_nothing_behind(void **state)
{
    (void)state;
    struct base b;
    base_open(&b, "llama", false);
    put(&b, "patterns");
    for (size_t n = 1;; n = next_allocation(n)) {
        struct failing_allocator failing;
        struct mem with;
        graft_allocator saved = rt.mem.allocator;
        size_t before = atomic_load(&rt.mem.bytes_in_use);
        graft_error error = {0};
        failing_init(&failing, &with, n);
        failing.ever_after = true;
        rt.mem.allocator = with.allocator;
        graft_status status = do_all(&b, &error);
        rt.mem.allocator = saved;
        assert_int_equal(atomic_load(&rt.mem.bytes_in_use), before);
        if (status != (failing.failed ? GRAFT_NO_MEMORY : GRAFT_OK))
            fail_msg("allocation %zu: %s", n, error.message);
        if (!failing.failed)
            break;
    }
    for (size_t n = 1;; n = next_allocation(n)) {
        graft_error error = {0};
        failing_json_begin(n);
        graft_status status = do_all(&b, &error);
        bool failed = failing_json_end();
        if ((status == GRAFT_OK) == failed) /* jansson may call it a syntax error */
            fail_msg("JSON allocation %zu: %s", n, error.message);
        if (!failed)
            break;
    }
    base_close(&b);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(peft_to_mlx_and_back_keeps_logits),
        cmocka_unit_test(peft_to_gguf_and_back_keeps_logits),
        cmocka_unit_test(a_file_means_the_same_on_a_base_of_the_other_order),
        cmocka_unit_test(gguf_to_mlx_and_back_is_the_same_adapter),
        cmocka_unit_test(values_keep_their_type_unless_a_fold_would_round_them),
        cmocka_unit_test(configurations_say_what_their_readers_ask_for),
        cmocka_unit_test(what_a_format_cannot_hold_is_refused_by_name),
        cmocka_unit_test(values_that_do_not_fit_the_type_are_refused),
        cmocka_unit_test(presets_have_their_numbers),
        cmocka_unit_test(a_fresh_adapter_changes_nothing_and_can_be_trained),
        cmocka_unit_test(fresh_factors_are_kaiming_uniform_by_seed_and_module),
        cmocka_unit_test(a_fresh_adapter_has_configuration_and_card),
        cmocka_unit_test(copies_of_a_base_have_one_fingerprint),
        cmocka_unit_test(a_card_stays_with_the_adapter),
        cmocka_unit_test(recipes_that_make_no_adapter_are_refused),
        cmocka_unit_test(a_head_of_its_own_goes_everywhere_a_tied_one_nowhere),
        cmocka_unit_test(quantised_factors_are_those_held_in_that_type),
        cmocka_unit_test(rows_that_are_no_whole_blocks_are_bf16),
        cmocka_unit_test(quantised_factors_come_back_in_other_formats),
        cmocka_unit_test(no_memory_leaves_nothing_behind),
    };
    return cmocka_run_group_tests(tests, setup, teardown);
}
