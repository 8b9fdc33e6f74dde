/* test_adapter_save.c: adapters that are written: round trips through the formats, what those say and cannot hold,
 * fewer bits, and lack of memory.
 */
#include "save_fixture.h"

#include "failing_allocator.h"
#include "failing_json.h"

#include <math.h>

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
        {"llama", "embed", ADAPTER_GGUF, "embed_tokens has factors of an embedding, which a GGUF"},
        {"qwen2-cls", "saved-score", ADAPTER_MLX, "score is saved whole, which an MLX adapter"},
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

/* ---- fewer bits --------------------------------------------------------------------------- */

static const graft_type BLOCKS[] = {GRAFT_TYPE_Q8_0, GRAFT_TYPE_Q4_0};

static void quantise(const struct base *b, graft_type type)
{
    graft_error error = {0};
    json_t *errors = NULL;
    int n;
    const struct save_options options = {.type = type};
    if (adapter_quantize(b->model, at("adapter"), fresh_path("small"), &options, &errors, &error) !=
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
    const struct save_options options = {.type = GRAFT_TYPE_Q8_0};
    assert_int_equal(
        adapter_quantize(b.model, at("adapter"), fresh_path("small"), &options, &errors, NULL),
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
        cmocka_unit_test(quantised_factors_are_those_held_in_that_type),
        cmocka_unit_test(rows_that_are_no_whole_blocks_are_bf16),
        cmocka_unit_test(quantised_factors_come_back_in_other_formats),
        cmocka_unit_test(no_memory_leaves_nothing_behind),
    };
    return cmocka_run_group_tests(tests, setup, teardown);
}
