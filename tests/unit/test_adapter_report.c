/* test_adapter_report.c: what is told of an adapter, and which programs it is said to suit. */
#include "adapter/report/report.h"

#include "conformance/conformance_support.h"
#include "conformance/oracle_adapter.h"
#include "unit/failing_allocator.h"
#include "unit/failing_json.h"

static struct graft_runtime rt;
static struct oracle_model base, labels;
static struct model *model, *classifier; /* llama, qwen2 with a score head */

static int setup(void **state)
{
    test_dir_open(state);
    runtime_start(&rt, 2, NULL);
    oracle_model_make(&base, oracle_config("llama"), 1);
    oracle_write_hf(&base, at("base"), GRAFT_TYPE_F32);
    model = open_model(&rt, at("base"));
    oracle_model_make(&labels, oracle_config("qwen2-cls"), 1);
    oracle_write_hf(&labels, at("classifier"), GRAFT_TYPE_F32);
    classifier = open_model(&rt, at("classifier"));
    return 0;
}

static int teardown(void **state)
{
    model_close(&model);
    model_close(&classifier);
    oracle_model_free(&base);
    oracle_model_free(&labels);
    runtime_stop(&rt);
    return test_dir_close(state);
}

static const char *put(const char *variant)
{
    bool scores = !strcmp(variant, "saved-score");
    struct oracle_model a;
    if (path_exists(at("adapter")))
        temp_remove(at("adapter"));
    oracle_adapter_make(&a, variant, 7, scores ? &labels : &base);
    oracle_adapter_write(&a, at("adapter"), GRAFT_TYPE_F32);
    oracle_model_free(&a);
    return at("adapter");
}

static json_t *report(const struct model *m, const char *path, enum consumer consumer)
{
    graft_error error = {0};
    json_t *json = NULL;
    if (adapter_report(&rt, m, path, NULL, consumer, &json, &error) != GRAFT_OK)
        fail_msg("%s: %s", path, error.message);
    return json;
}

static double number(const json_t *json, const char *key, size_t i)
{
    return json_number_value(json_array_get(json_object_get(json, key), i));
}

static void a_report_tells_what_the_files_say(void **state)
{
    (void)state;
    json_t *json = report(NULL, put("patterns"), CONSUMER_NONE);
    assert_true(number(json, "ranks", 0) == 2 && number(json, "ranks", 1) == 6);
    assert_true(number(json, "scales", 0) == 0.5 && number(json, "scales", 1) == 4);
    assert_string_equal(json_string_value(json_object_get(json, "scale_from")),
                        "lora_alpha / rank");
    const json_t *modules = json_object_get(json, "modules"), *first = json_array_get(modules, 0);
    assert_int_equal(json_array_size(modules), 5);
    assert_string_equal(json_string_value(json_object_get(first, "kind")), "self_attn.q_proj");
    assert_int_equal(json_integer_value(json_object_get(first, "count")), 2);
    assert_true(number(first, "ranks", 0) == 4 && number(first, "ranks", 1) == 6);
    assert_null(json_object_get(json, "digest"));
    assert_null(json_object_get(json, "problems"));
    json_decref(json);
}

static void the_bytes_of_modules_saved_whole_are_told(void **state)
{
    (void)state;
    json_t *json = report(classifier, put("saved-score"), CONSUMER_NONE), *m;
    json_int_t sum = 0, whole = 0;
    size_t i;
    json_array_foreach(json_object_get(json, "modules"), i, m)
    {
        json_int_t bytes = json_integer_value(json_object_get(m, "bytes"));
        sum += bytes;
        whole += json_is_true(json_object_get(m, "whole")) ? bytes : 0;
    }
    const struct matrix *head = &classifier->head;
    assert_int_equal(whole, 4 * head->n_in * head->n_out);
    assert_int_equal(sum, json_integer_value(json_object_get(json, "bytes")));
    json_decref(json);
}

static void with_a_model_the_adapter_is_opened(void **state)
{
    (void)state;
    json_t *json = report(model, put("dora"), CONSUMER_NONE);
    struct adapter *a = NULL;
    graft_error error = {0};
    assert_int_equal(adapter_open(model, at("adapter"), NULL, &a, &error), GRAFT_OK);
    assert_int_equal(json_integer_value(json_object_get(json, "parameters")),
                     adapter_info(a)->parameters);
    assert_int_equal(json_integer_value(json_object_get(json, "bytes")),
                     4 * adapter_info(a)->parameters);
    assert_int_equal(json_string_length(json_object_get(json, "digest")), 64);
    adapter_release(&a);
    json_decref(json);
    json = NULL;
    struct oracle_model other;
    oracle_model_make(&other, oracle_config_wide("llama"), 1);
    oracle_write_hf(&other, at("other"), GRAFT_TYPE_F32);
    oracle_model_free(&other);
    struct model *wider = open_model(&rt, at("other"));
    assert_int_equal(adapter_report(&rt, wider, at("adapter"), NULL, CONSUMER_NONE, &json, &error),
                     GRAFT_SHAPE);
    assert_null(json);
    model_close(&wider);
}

/* Is one of the problems this, with this remedy? NULL: there are none. */
static void check_problem(const char *variant, enum consumer consumer, const char *what,
                          const char *remedy)
{
    bool scores = !strcmp(variant, "saved-score");
    json_t *json = report(scores ? classifier : model, put(variant), consumer);
    const json_t *problems = json_object_get(json, "problems"), *p;
    bool found = !what && json_array_size(problems) == 0;
    size_t i;
    json_array_foreach(problems, i, p)
    {
        found = found || (what && strstr(json_string_value(json_object_get(p, "what")), what) &&
                          strstr(json_string_value(json_object_get(p, "do")), remedy));
    }
    if (!found) {
        char *text = json_dumps(problems, 0);
        fail_msg("%s for %d: \"%s\" is not among %s", variant, consumer, what ? what : "", text);
    }
    json_decref(json);
}

static void what_a_program_cannot_do_is_told_with_a_remedy(void **state)
{
    (void)state;
    static const struct {
        const char *variant;
        enum consumer consumer;
        const char *what, *remedy;
    } CASES[] = {
        {"lora", CONSUMER_VLLM, NULL, NULL},
        {"rslora", CONSUMER_VLLM, NULL, NULL},
        {"dora", CONSUMER_VLLM, "layers.0.self_attn.q_proj: DoRA", "graft fuse"},
        {"lora-bias", CONSUMER_VLLM, "q_proj: a bias of B (lora_bias)", "graft fuse"},
        {"embed", CONSUMER_VLLM, "embed_tokens: factors of the embedding", "graft fuse"},
        {"saved-score", CONSUMER_VLLM, "score: a module that is saved whole", "graft fuse"},
        {"patterns", CONSUMER_VLLM, "applies one scale to all", "mlx and back to peft"},
        {"mlx-lora", CONSUMER_VLLM, "format of MLX, and PEFT is read", "--format peft"},
        {"lora", CONSUMER_LLAMA_CPP, "format of PEFT, and GGUF is read", "--format gguf"},
        {"dora", CONSUMER_LLAMA_CPP, "DoRA", "graft fuse"},
        {"lora-bias", CONSUMER_LLAMA_CPP, "a bias of B", "graft fuse"},
        {"embed", CONSUMER_LLAMA_CPP, "no conversion carries", "graft fuse"},
        {"dora", CONSUMER_LLAMA_CPP, "GGUF is read", "graft fuse"},
        {"embed", CONSUMER_LLAMA_CPP, "GGUF is read", "graft fuse"},
        {"saved-score", CONSUMER_LLAMA_CPP, "GGUF is read", "use graft or PEFT"},
        {"lora-bias", CONSUMER_MLX, "MLX is read", "graft fuse"},
        {"dora", CONSUMER_MLX, "MLX is read", "--format mlx"},
        {"mlx-embed", CONSUMER_VLLM, "PEFT is read", "graft fuse"},
        {"saved-score", CONSUMER_LLAMA_CPP, "the base is a classifier", "PEFT"},
        {"mlx-lora", CONSUMER_MLX, NULL, NULL},
        {"mlx-dora", CONSUMER_MLX, NULL, NULL},
        {"mlx-embed", CONSUMER_MLX, NULL, NULL},
        {"lora", CONSUMER_MLX, "format of PEFT, and MLX is read", "--format mlx"},
        {"lora-bias", CONSUMER_MLX, "a bias of B", "graft fuse"},
        {"saved-score", CONSUMER_MLX, "saved whole", "graft fuse"},
    };
    for (size_t i = 0; i < ARRAY_LEN(CASES); i++)
        check_problem(CASES[i].variant, CASES[i].consumer, CASES[i].what, CASES[i].remedy);
}

static void a_large_rank_names_the_flag_to_raise(void **state)
{
    (void)state;
    static const struct {
        int rank;
        const char *remedy; /* NULL: no problem */
    } CASES[] = {{16, NULL},
                 {17, "--max-lora-rank 32"},
                 {64, "--max-lora-rank 64"},
                 {300, "--max-lora-rank 512"},
                 {600, "graft fuse"}};
    for (size_t i = 0; i < ARRAY_LEN(CASES); i++) {
        struct oracle_model a = {.config = json_pack("{s:s, s:i, s:i, s:[s]}", "peft_type", "LORA",
                                                     "r", CASES[i].rank, "lora_alpha", 8,
                                                     "target_modules", "q_proj"),
                                 .tensors = calloc(4, sizeof(*a.tensors))};
        oracle_add(&a, "model.layers.0.self_attn.q_proj.lora_A.weight", CASES[i].rank, 96);
        oracle_add(&a, "model.layers.0.self_attn.q_proj.lora_B.weight", 96, CASES[i].rank);
        for (int t = 0; t < 2; t++)
            memset(a.tensors[t].values, 0, a.tensors[t].count * sizeof(float));
        if (path_exists(at("adapter")))
            temp_remove(at("adapter"));
        oracle_adapter_write(&a, at("adapter"), GRAFT_TYPE_F32);
        oracle_model_free(&a);
        json_t *json = report(NULL, at("adapter"), CONSUMER_VLLM);
        const json_t *problems = json_object_get(json, "problems");
        const json_t *first = json_array_get(problems, 0);
        assert_int_equal(json_array_size(problems), CASES[i].remedy ? 1 : 0);
        if (CASES[i].remedy)
            assert_non_null(
                strstr(json_string_value(json_object_get(first, "do")), CASES[i].remedy));
        json_decref(json);
    }
}

static void an_mlx_configuration_without_what_mlx_asks_for_is_told(void **state)
{
    (void)state;
    put("mlx-lora");
    json_t *config;
    assert_int_equal(json_read(NULL, at("adapter/adapter_config.json"), 1 << 20, &config, NULL),
                     GRAFT_OK);
    json_object_del(json_object_get(config, "lora_parameters"), "dropout");
    char *text = json_dumps(config, 0);
    write_file(at("adapter"), "adapter_config.json", text, strlen(text));
    free(text);
    json_decref(config);
    json_t *json = report(model, at("adapter"), CONSUMER_MLX);
    assert_int_equal(json_array_size(json_object_get(json, "problems")), 1);
    json_decref(json);
}

static void programs_have_names(void **state)
{
    (void)state;
    assert_int_equal(consumer_find("vllm"), CONSUMER_VLLM);
    assert_int_equal(consumer_find("llama.cpp"), CONSUMER_LLAMA_CPP);
    assert_int_equal(consumer_find("mlx"), CONSUMER_MLX);
    assert_int_equal(consumer_find("ollama"), CONSUMER_NONE);
}

static void no_memory_leaves_nothing_behind(void **state)
{
    (void)state;
    put("dora");
    for (size_t n = 1;; n++) {
        struct failing_allocator failing;
        struct mem with;
        graft_allocator saved = rt.mem.allocator;
        size_t before = atomic_load(&rt.mem.bytes_in_use);
        graft_error error = {0};
        json_t *json = NULL;
        failing_init(&failing, &with, n);
        failing.ever_after = true;
        rt.mem.allocator = with.allocator;
        graft_status status =
            adapter_report(&rt, model, at("adapter"), NULL, CONSUMER_VLLM, &json, &error);
        rt.mem.allocator = saved;
        json_decref(json);
        assert_int_equal(atomic_load(&rt.mem.bytes_in_use), before);
        assert_int_equal(status, failing.failed ? GRAFT_NO_MEMORY : GRAFT_OK);
        if (!failing.failed)
            break;
    }
    for (size_t n = 1;; n++) {
        graft_error error = {0};
        json_t *json = NULL;
        failing_json_begin(n);
        graft_status status =
            adapter_report(&rt, NULL, at("adapter"), NULL, CONSUMER_VLLM, &json, &error);
        bool failed = failing_json_end();
        json_decref(json);
        if ((status == GRAFT_OK) == failed) /* jansson may call it a syntax error */
            fail_msg("JSON allocation %zu: %s", n, error.message);
        if (!failed)
            break;
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_report_tells_what_the_files_say),
        cmocka_unit_test(the_bytes_of_modules_saved_whole_are_told),
        cmocka_unit_test(with_a_model_the_adapter_is_opened),
        cmocka_unit_test(what_a_program_cannot_do_is_told_with_a_remedy),
        cmocka_unit_test(a_large_rank_names_the_flag_to_raise),
        cmocka_unit_test(an_mlx_configuration_without_what_mlx_asks_for_is_told),
        cmocka_unit_test(programs_have_names),
        cmocka_unit_test(no_memory_leaves_nothing_behind),
    };
    return cmocka_run_group_tests(tests, setup, teardown);
}
