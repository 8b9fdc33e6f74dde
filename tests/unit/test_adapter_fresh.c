/* test_adapter_fresh.c: adapters made from recipes: presets, what fresh factors are, configuration, card, and recipes
 * that make none.
 */
#include "save_fixture.h"

#include <math.h>

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

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(presets_have_their_numbers),
        cmocka_unit_test(a_fresh_adapter_changes_nothing_and_can_be_trained),
        cmocka_unit_test(fresh_factors_are_kaiming_uniform_by_seed_and_module),
        cmocka_unit_test(a_fresh_adapter_has_configuration_and_card),
        cmocka_unit_test(copies_of_a_base_have_one_fingerprint),
        cmocka_unit_test(a_card_stays_with_the_adapter),
        cmocka_unit_test(recipes_that_make_no_adapter_are_refused),
        cmocka_unit_test(a_head_of_its_own_goes_everywhere_a_tied_one_nowhere),
    };
    return cmocka_run_group_tests(tests, setup, teardown);
}
