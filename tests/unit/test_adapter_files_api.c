/* test_adapter_files_api.c: adapters as files through the public headers alone; what the files hold is
 * test_adapter_save.c's business.
 */
#include <graft/graft.h>

#include "conformance/conformance_support.h"
#include "conformance/oracle_model.h"

#include <dirent.h>
#include <sys/stat.h>

static graft_runtime *runtime;
static graft_model *model;

static int setup(void **state)
{
    struct oracle_model base;
    test_dir_open(state);
    assert_int_equal(graft_runtime_open(NULL, &runtime, NULL), GRAFT_OK);
    oracle_model_make(&base, oracle_config("qwen2"), 1);
    oracle_write_hf(&base, at("base"), GRAFT_TYPE_F32);
    oracle_model_free(&base);
    assert_int_equal(graft_model_open(runtime, at("base"), NULL, &model, NULL), GRAFT_OK);
    return 0;
}

static int teardown(void **state)
{
    graft_model_close(&model);
    graft_runtime_close(&runtime);
    return test_dir_close(state);
}

static void a_preset_becomes_an_adapter_that_opens(void **state)
{
    (void)state;
    graft_preset preset;
    for (size_t i = 0; graft_preset_at(i, &preset); i++) {
        graft_adapter_recipe recipe = graft_adapter_recipe_default();
        graft_error error = {0};
        graft_adapter *adapter = NULL;
        graft_adapter_info info;
        graft_model_info base;
        uint64_t params, bytes;
        char dir[64];
        snprintf(dir, sizeof(dir), "%s", preset.name);
        assert_int_equal(graft_adapter_recipe_preset(&recipe, preset.name, &error), GRAFT_OK);
        recipe.type = "bf16";
        assert_int_equal(graft_adapter_estimate(model, &recipe, &params, &bytes, &error), GRAFT_OK);
        assert_int_equal(graft_adapter_create(model, at(dir), &recipe, &error), GRAFT_OK);
        assert_int_equal(graft_adapter_open(model, at(dir), NULL, &adapter, &error), GRAFT_OK);
        assert_int_equal(graft_adapter_describe(adapter, &info, &error), GRAFT_OK);
        assert_int_equal(graft_model_describe(model, &base, &error), GRAFT_OK);
        assert_int_equal(info.n_params, params);
        assert_int_equal(bytes, 2 * params);
        assert_int_equal(info.most_rank, preset.rank);
        assert_int_equal(info.n_targets, preset.n_targets * (size_t)base.n_layer);
        graft_adapter_close(&adapter);
    }
    assert_true(graft_preset_at(4, &preset));
    assert_false(graft_preset_at(5, &preset));
}

static void formats_follow_one_another(void **state)
{
    (void)state;
    static const struct {
        graft_adapter_format format;
        const char *from, *to, *name;
    } STEPS[] = {{GRAFT_ADAPTER_GGUF, "first", "second.gguf", "GGUF"},
                 {GRAFT_ADAPTER_MLX, "second.gguf", "third", "MLX"},
                 {GRAFT_ADAPTER_PEFT, "third", "fourth", "PEFT"}};
    assert_int_equal(graft_adapter_create(model, at("first"), NULL, NULL), GRAFT_OK);
    for (size_t i = 0; i < ARRAY_LEN(STEPS); i++) {
        graft_adapter_convert_options options = graft_adapter_convert_options_default();
        graft_error error = {0};
        graft_adapter *adapter = NULL;
        graft_adapter_info info;
        graft_adapter_target target;
        options.format = STEPS[i].format;
        options.type = "f16";
        if (graft_adapter_convert(model, at(STEPS[i].from), at(STEPS[i].to), &options, &error) !=
            GRAFT_OK)
            fail_msg("%s: %s", STEPS[i].to, error.message);
        assert_int_equal(graft_adapter_open(model, at(STEPS[i].to), NULL, &adapter, &error),
                         GRAFT_OK);
        assert_int_equal(graft_adapter_describe(adapter, &info, &error), GRAFT_OK);
        assert_int_equal(graft_adapter_target_at(adapter, 0, &target, &error), GRAFT_OK);
        assert_string_equal(info.format, STEPS[i].name);
        assert_string_equal(target.stored, "F16");
        assert_true(target.scale == 2);
        graft_adapter_close(&adapter);
    }
}

/* Cancels at the step number `at` of such a phase. */
struct patience {
    const char *phase;
    int at, seen;
    uint64_t last;
};

static bool wait_for(void *user, uint64_t done, uint64_t total, const char *what)
{
    struct patience *p = user;
    assert_true(done > 0 && done <= total);
    if (strcmp(what, p->phase) != 0)
        return true;
    assert_true(done > p->last);
    p->last = done;
    return ++p->seen != p->at;
}

/* What lies beside the test's own folders. */
static int leftovers(void)
{
    int n = 0;
    DIR *dir = opendir(at("outputs"));
    assert_non_null(dir);
    for (const struct dirent *entry; (entry = readdir(dir));)
        n += entry->d_name[0] != '.';
    closedir(dir);
    return n;
}

static void what_is_cancelled_leaves_nothing_behind(void **state)
{
    (void)state;
    static const graft_adapter_format FORMATS[] = {GRAFT_ADAPTER_PEFT, GRAFT_ADAPTER_MLX,
                                                   GRAFT_ADAPTER_GGUF};
    graft_error error = {0};
    assert_int_equal(mkdir(at("outputs"), 0700), 0);
    assert_int_equal(graft_adapter_create(model, at("source"), NULL, NULL), GRAFT_OK);
    for (int step = 1; step <= 3; step += 2) {
        for (size_t i = 0; i < ARRAY_LEN(FORMATS); i++) {
            struct patience patience = {.phase = "writing", .at = step};
            graft_adapter_convert_options options = graft_adapter_convert_options_default();
            options.format = FORMATS[i];
            options.progress = wait_for;
            options.progress_user = &patience;
            assert_int_equal(
                graft_adapter_convert(model, at("source"), at("outputs/x"), &options, &error),
                GRAFT_CANCELLED);
            assert_int_equal(patience.seen, step);
        }
        struct patience patience = {.phase = "writing", .at = step};
        graft_adapter_recipe recipe = graft_adapter_recipe_default();
        recipe.progress = wait_for;
        recipe.progress_user = &patience;
        assert_int_equal(graft_adapter_create(model, at("outputs/x"), &recipe, &error),
                         GRAFT_CANCELLED);
        patience = (struct patience){.phase = "writing", .at = step};
        graft_adapter_quantize_options options = graft_adapter_quantize_options_default();
        options.progress = wait_for;
        options.progress_user = &patience;
        assert_int_equal(
            graft_adapter_quantize(model, at("source"), at("outputs/x"), &options, NULL, &error),
            GRAFT_CANCELLED);
        assert_non_null(strstr(error.message, "nothing was written"));
        assert_int_equal(leftovers(), 0);
    }
}

static void a_comparison_that_is_cancelled_leaves_the_adapter(void **state)
{
    (void)state;
    graft_error error = {0};
    graft_adapter *adapter = NULL;
    struct patience patience = {.phase = "comparing", .at = 2};
    graft_adapter_quantize_options options = graft_adapter_quantize_options_default();
    options.type = "q4";
    options.progress = wait_for;
    options.progress_user = &patience;
    char *errors = NULL;
    assert_int_equal(
        graft_adapter_quantize(model, at("source"), at("small"), &options, &errors, &error),
        GRAFT_CANCELLED);
    assert_non_null(strstr(error.message, "the adapter is written"));
    assert_null(errors);
    assert_int_equal(graft_adapter_open(model, at("small"), NULL, &adapter, &error), GRAFT_OK);
    graft_adapter_close(&adapter);
    options.type = "f16";
    assert_int_equal(graft_adapter_quantize(model, at("source"), at("y"), &options, NULL, &error),
                     GRAFT_INVALID_ARGUMENT);
}

static void what_is_read_is_not_written_over(void **state)
{
    (void)state;
    graft_adapter_recipe recipe = graft_adapter_recipe_default();
    graft_adapter_convert_options options = graft_adapter_convert_options_default();
    graft_error error = {0};
    assert_int_equal(graft_adapter_create(model, at("kept"), &recipe, &error), GRAFT_OK);
    options.format = GRAFT_ADAPTER_GGUF;
    static const char *const OUTS[] = {"kept/adapter_model.safetensors", "kept/adapter_config.json",
                                       "kept/graft.json", "base/model.safetensors",
                                       "base/config.json"};
    for (size_t i = 0; i < ARRAY_LEN(OUTS); i++) {
        assert_int_equal(graft_adapter_convert(model, at("kept"), at(OUTS[i]), &options, &error),
                         GRAFT_IO);
        assert_string_equal(error.file, at(OUTS[i]));
        assert_int_equal(graft_adapter_quantize(model, at("kept"), at(OUTS[i]), NULL, NULL, &error),
                         GRAFT_IO);
        assert_string_equal(error.file, at(OUTS[i]));
    }
    assert_int_equal(
        graft_adapter_convert(model, at("kept"), at("kept/new.gguf"), &options, &error), GRAFT_OK);
}

static void ranks_are_brought_down_and_the_difference_is_told(void **state)
{
    (void)state;
    graft_error error = {0};
    graft_adapter_recipe recipe = graft_adapter_recipe_default();
    graft_adapter_compress_options options = graft_adapter_compress_options_default();
    graft_adapter_diff_options diff = graft_adapter_diff_options_default();
    struct patience patience = {.phase = "writing", .at = 1};
    char *report = NULL, *json = NULL;
    assert_int_equal(graft_adapter_create(model, at("wide"), &recipe, &error), GRAFT_OK);
    assert_int_equal(graft_adapter_compress(model, at("wide"), at("narrow"), NULL, &report, &error),
                     GRAFT_INVALID_ARGUMENT);
    assert_non_null(strstr(error.message, "how far?"));
    options.rank = 3;
    options.type = "q4";
    assert_int_equal(
        graft_adapter_compress(model, at("wide"), at("narrow"), &options, NULL, &error),
        GRAFT_INVALID_ARGUMENT);
    options.type = NULL;
    options.format = (graft_adapter_format)7;
    assert_int_equal(
        graft_adapter_compress(model, at("wide"), at("narrow"), &options, NULL, &error),
        GRAFT_INVALID_ARGUMENT);
    options.format = GRAFT_ADAPTER_PEFT;
    options.progress = wait_for;
    options.progress_user = &patience;
    assert_int_equal(
        graft_adapter_compress(model, at("wide"), at("narrow"), &options, &report, &error),
        GRAFT_CANCELLED);
    assert_null(report);
    assert_false(path_exists(at("narrow")));
    options.progress = NULL;
    assert_int_equal(
        graft_adapter_compress(model, at("wide"), at("narrow"), &options, &report, &error),
        GRAFT_OK);
    assert_non_null(strstr(report, "\"rank_before\": 8"));
    graft_free(runtime, report);
    patience = (struct patience){.phase = "comparing", .at = 2};
    diff.progress = wait_for;
    diff.progress_user = &patience;
    assert_int_equal(graft_adapter_diff(model, at("wide"), at("narrow"), &diff, &json, &error),
                     GRAFT_CANCELLED);
    assert_null(json);
    assert_int_equal(graft_adapter_diff(model, at("wide"), at("narrow"), NULL, &json, &error),
                     GRAFT_OK);
    assert_non_null(strstr(json, "\"differences\""));
    graft_free(runtime, json);
    json = NULL;
    diff = graft_adapter_diff_options_default();
    diff.scale_b = 2;
    assert_int_not_equal(graft_adapter_diff(model, at("wide"), at("narrow"), &diff, &json, &error),
                         GRAFT_OK);
    assert_non_null(strstr(error.message, "a scale is for MLX adapters"));
    assert_int_equal(graft_adapter_diff(model, at("wide"), NULL, NULL, &json, &error),
                     GRAFT_INVALID_ARGUMENT);
    assert_non_null(strstr(error.message, "b is NULL"));
}

static void wrong_use_is_told_by_name(void **state)
{
    (void)state;
    graft_error error = {0};
    graft_adapter_recipe recipe = graft_adapter_recipe_default();
    graft_adapter_convert_options options = graft_adapter_convert_options_default();
    assert_int_equal(graft_adapter_recipe_check(&recipe, &error), GRAFT_OK);
    assert_int_equal(graft_adapter_recipe_preset(&recipe, "poet", &error), GRAFT_NOT_FOUND);
    assert_non_null(strstr(error.message, "coder, researcher"));
    assert_int_equal(graft_adapter_create(NULL, at("x"), &recipe, &error), GRAFT_INVALID_ARGUMENT);
    assert_non_null(strstr(error.message, "model is NULL"));
    recipe.type = "q9";
    assert_int_equal(graft_adapter_recipe_check(&recipe, &error), GRAFT_INVALID_ARGUMENT);
    recipe = graft_adapter_recipe_default();
    recipe.name = NULL;
    assert_int_equal(graft_adapter_recipe_check(&recipe, &error), GRAFT_INVALID_ARGUMENT);
    options.type = "q8_0";
    assert_int_equal(graft_adapter_convert(model, at("x"), at("y"), &options, &error),
                     GRAFT_INVALID_ARGUMENT);
    options = graft_adapter_convert_options_default();
    options.format = (graft_adapter_format)7;
    assert_int_equal(graft_adapter_convert(model, at("x"), at("y"), &options, &error),
                     GRAFT_INVALID_ARGUMENT);
    assert_int_equal(graft_adapter_convert(model, at("x"), at("y"), NULL, &error), GRAFT_NOT_FOUND);
    assert_false(graft_preset_at(0, NULL));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_preset_becomes_an_adapter_that_opens),
        cmocka_unit_test(formats_follow_one_another),
        cmocka_unit_test(what_is_cancelled_leaves_nothing_behind),
        cmocka_unit_test(a_comparison_that_is_cancelled_leaves_the_adapter),
        cmocka_unit_test(what_is_read_is_not_written_over),
        cmocka_unit_test(ranks_are_brought_down_and_the_difference_is_told),
        cmocka_unit_test(wrong_use_is_told_by_name),
    };
    return cmocka_run_group_tests(tests, setup, teardown);
}
