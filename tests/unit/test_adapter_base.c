/* test_adapter_base.c: an adapter and the base that it remembers: copies of that base take it without a word, other models
 * with a warning that says what differs, or, when asked to be strict, not at all.
 */
#include <graft/graft.h>

#include "conformance/conformance_support.h"
#include "conformance/oracle_adapter.h"
#include "conformance/oracle_model.h"
#include "unit/must.h"

static graft_runtime *runtime;
static graft_model *made_for;
static int warnings;
static char warning[1024];

static void take_line(void *user, graft_log_level level, const char *line)
{
    (void)user;
    if (level == GRAFT_LOG_WARN) {
        warnings++;
        snprintf(warning, sizeof warning, "%s", line);
    }
}

static graft_model *open_base(const char *name)
{
    graft_model *model = NULL;
    MUST(graft_model_open(runtime, at(name), NULL, &model, error));
    return model;
}

static graft_model *make_base(const char *name, const char *arch, int seed)
{
    struct oracle_model base;
    oracle_model_make(&base, oracle_config(arch), seed);
    oracle_write_hf(&base, at(name), GRAFT_TYPE_BF16);
    oracle_model_free(&base);
    return open_base(name);
}

static graft_status open_adapter(graft_model *model, const char *name, bool strict,
                                 graft_error *why)
{
    graft_adapter_options options = graft_adapter_options_default();
    graft_adapter *adapter = NULL;
    options.strict_base = strict;
    warnings = 0;
    warning[0] = '\0';
    graft_status status = graft_adapter_open(model, at(name), &options, &adapter, why);
    graft_adapter_close(&adapter);
    return status;
}

static int setup(void **state)
{
    test_dir_open(state);
    graft_runtime_options options = graft_runtime_options_default();
    options.log = take_line;
    options.log_level = GRAFT_LOG_WARN;
    MUST(graft_runtime_open(&options, &runtime, error));
    made_for = make_base("base", "llama", 1);
    graft_adapter_recipe recipe = graft_adapter_recipe_default();
    recipe.name = "tone";
    recipe.base = "somebody/something";
    MUST(graft_adapter_create(made_for, at("tone"), &recipe, error));
    return 0;
}

static int teardown(void **state)
{
    graft_model_close(&made_for);
    graft_runtime_close(&runtime);
    return test_dir_close(state);
}

static void every_copy_of_its_base_takes_an_adapter_without_a_word(void **state)
{
    (void)state;
    static const struct {
        const char *name, *type;
        graft_format format;
    } COPIES[] = {
        {"copy-f32.gguf", "f32", GRAFT_FORMAT_GGUF}, {"copy-f16.gguf", "f16", GRAFT_FORMAT_GGUF},
        {"copy-q8.gguf", "q8_0", GRAFT_FORMAT_GGUF}, {"copy-q4.gguf", "q4_k_m", GRAFT_FORMAT_GGUF},
        {"copy-hf", "f16", GRAFT_FORMAT_HF},         {"copy-mlx", "mlx4", GRAFT_FORMAT_MLX}};
    graft_error why = {0};
    assert_int_equal(open_adapter(made_for, "tone", true, &why), GRAFT_OK);
    for (size_t i = 0; i < sizeof COPIES / sizeof COPIES[0]; i++) {
        graft_convert_options options = graft_convert_options_default();
        char from[256];
        snprintf(from, sizeof from, "%s", at("base"));
        options.format = COPIES[i].format;
        options.type = COPIES[i].type;
        MUST(graft_convert(runtime, from, at(COPIES[i].name), &options, error));
        graft_model *copy = open_base(COPIES[i].name);
        assert_int_equal(open_adapter(copy, "tone", true, &why), GRAFT_OK);
        assert_int_equal(open_adapter(copy, "tone", false, &why), GRAFT_OK);
        assert_int_equal(warnings, 0);
        graft_model_close(&copy);
    }
}

static void another_model_of_that_shape_takes_it_with_a_warning(void **state)
{
    (void)state;
    graft_error why = {0};
    graft_model *other = make_base("other", "llama", 2);
    assert_int_equal(open_adapter(other, "tone", false, &why), GRAFT_OK);
    assert_int_equal(warnings, 1);
    assert_non_null(strstr(warning, "adapter tone ("));
    assert_non_null(strstr(warning, "made for another base (somebody/something)"));
    assert_non_null(strstr(warning, "its norms differ by up to"));
    assert_null(strchr(warning, '\n'));
    assert_int_equal(open_adapter(other, "tone", true, &why), GRAFT_SHAPE);
    assert_non_null(strstr(why.message, "its norms differ by up to"));
    assert_int_equal(warnings, 0);
    graft_model_close(&other);
}

static void what_differs_in_the_fingerprint_is_named_as_far_as_it_is_known(void **state)
{
    (void)state;
    static const struct {
        const char *card, *says;
    } CASES[] = {
        {"{\"base\": {\"architecture\": \"GPT2LMHeadModel\", \"fingerprint\": \"sha256:0\"}}",
         "made for another base: that is a GPT2LMHeadModel, this a LlamaForCausalLM"},
        {"{\"base\": {\"architecture\": \"LlamaForCausalLM\", \"fingerprint\": \"sha256:0\"}}",
         "made for another base: its layers, widths or vocabulary are not this one's"}};
    graft_adapter_recipe recipe = graft_adapter_recipe_default();
    MUST(graft_adapter_create(made_for, at("edited"), &recipe, error));
    for (size_t i = 0; i < sizeof CASES / sizeof CASES[0]; i++) {
        graft_error why = {0};
        write_file(at("edited"), "graft.json", CASES[i].card, strlen(CASES[i].card));
        assert_int_equal(open_adapter(made_for, "edited", false, &why), GRAFT_OK);
        assert_non_null(strstr(warning, CASES[i].says));
        assert_int_equal(open_adapter(made_for, "edited", true, &why), GRAFT_SHAPE);
        assert_non_null(strstr(why.message, CASES[i].says));
    }
}

static void registries_and_fusing_are_as_strict_as_asked(void **state)
{
    (void)state;
    graft_error why = {0};
    graft_model *other = make_base("third", "llama", 3), *fused = NULL;
    char home[256], tone[256], third[256];
    snprintf(home, sizeof home, "%s", at("home"));
    snprintf(tone, sizeof tone, "%s", at("tone"));
    snprintf(third, sizeof third, "%s", at("third"));
    for (int strict = 0; strict < 2; strict++) {
        graft_registry_options options = graft_registry_options_default();
        graft_registry *registry = NULL;
        graft_adapter *adapter = NULL;
        options.home = home;
        options.strict_base = strict;
        MUST(graft_registry_open(runtime, other, &options, &registry, error));
        assert_int_equal(graft_registry_add(registry, tone, NULL, GRAFT_PLACE_ADD, NULL, &why),
                         strict ? GRAFT_SHAPE : GRAFT_OK);
        assert_int_equal(graft_registry_acquire(registry, "tone", &adapter, NULL, NULL, &why),
                         strict ? GRAFT_SHAPE : GRAFT_OK);
        graft_adapter_close(&adapter);
        graft_registry_close(&registry);
        graft_fuse_member member = {.path = tone, .weight = 1, .strict_base = strict};
        graft_model_options how = graft_model_options_default();
        how.fuse = &member;
        how.n_fuse = 1;
        assert_int_equal(graft_model_open(runtime, third, &how, &fused, &why),
                         strict ? GRAFT_SHAPE : GRAFT_OK);
        graft_model_close(&fused);
    }
    graft_model_close(&other);
}

/* Cards of other programs, and damaged ones: what they do not say differs from nothing. */
static void a_card_that_says_nothing_of_the_base_is_no_other_base(void **state)
{
    (void)state;
    static const char *const CARDS[] = {"{}", "{\"base\": null}",
                                        "{\"base\": {\"sketch\": [1, 2]}}"};
    static const char *const WRONG[] = {"{\"base\": \"mine\"}", "{\"base\": {\"fingerprint\": 3}}",
                                        "{\"base\": {\"sketch\": \"round\"}}"};
    graft_error why = {0};
    graft_adapter_recipe recipe = graft_adapter_recipe_default();
    MUST(graft_adapter_create(made_for, at("mute"), &recipe, error));
    for (size_t i = 0; i < sizeof CARDS / sizeof CARDS[0]; i++) {
        write_file(at("mute"), "graft.json", CARDS[i], strlen(CARDS[i]));
        assert_int_equal(open_adapter(made_for, "mute", true, &why), GRAFT_OK);
        assert_int_equal(warnings, 0);
    }
    for (size_t i = 0; i < sizeof WRONG / sizeof WRONG[0]; i++) {
        write_file(at("mute"), "graft.json", WRONG[i], strlen(WRONG[i]));
        assert_int_equal(open_adapter(made_for, "mute", false, &why), GRAFT_OK);
        assert_int_equal(warnings, 1);
        assert_int_equal(open_adapter(made_for, "mute", true, &why), GRAFT_FORMAT);
    }
}

static void a_block_beyond_every_number_is_told_as_it_stands(void **state)
{
    (void)state;
    static const char block[] = "99999999999999999999";
    struct oracle_model a = {.config = json_pack("{s:s, s:i, s:i, s:[s]}", "peft_type", "LORA", "r",
                                                 2, "lora_alpha", 8, "target_modules", "q_proj"),
                             .tensors = calloc(4, sizeof(*a.tensors))};
    char name[96];
    snprintf(name, sizeof name, "model.layers.%s.self_attn.q_proj.lora_A.weight", block);
    oracle_add(&a, name, 2, 96);
    snprintf(name, sizeof name, "model.layers.%s.self_attn.q_proj.lora_B.weight", block);
    oracle_add(&a, name, 96, 2);
    for (int i = 0; i < 2; i++)
        memset(a.tensors[i].values, 0, a.tensors[i].count * sizeof(float));
    oracle_adapter_write(&a, at("far"), GRAFT_TYPE_F32);
    oracle_model_free(&a);
    graft_adapter *adapter = NULL;
    graft_error told = {0};
    assert_int_equal(graft_adapter_open(made_for, at("far"), NULL, &adapter, &told), GRAFT_SHAPE);
    assert_non_null(strstr(told.message, "changes block 99999999999999999999, and"));
}

int main(void)
{
    static const struct CMUnitTest tests[] = {
        cmocka_unit_test(every_copy_of_its_base_takes_an_adapter_without_a_word),
        cmocka_unit_test(another_model_of_that_shape_takes_it_with_a_warning),
        cmocka_unit_test(what_differs_in_the_fingerprint_is_named_as_far_as_it_is_known),
        cmocka_unit_test(registries_and_fusing_are_as_strict_as_asked),
        cmocka_unit_test(a_block_beyond_every_number_is_told_as_it_stands),
        cmocka_unit_test(a_card_that_says_nothing_of_the_base_is_no_other_base),
    };
    return cmocka_run_group_tests(tests, setup, teardown);
}
