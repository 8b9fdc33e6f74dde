/* test_fuse_api.c: fusing through the public headers: the divergence on text, models opened fused, and what is
 * refused before anything happens.
 */
#include <graft/graft.h>

#include "conformance/conformance_support.h"
#include "conformance/oracle_adapter.h"

#include <errno.h>
#include <math.h>
#include <sys/stat.h>
#include <unistd.h>

#define TINY GRAFT_SOURCE_DIR "/models/tiny"

static graft_runtime *runtime;
static char adapter_path[768];

static int setup(void **state)
{
    struct oracle_model base, adapter;
    graft_runtime_options o = graft_runtime_options_default();
    test_dir_open(state);
    o.threads = 2;
    assert_int_equal(graft_runtime_open(&o, &runtime, NULL), GRAFT_OK);
    graft_convert_options floats = graft_convert_options_default();
    floats.format = GRAFT_FORMAT_HF;
    floats.type = "f32";
    assert_int_equal(graft_convert(runtime, TINY, at("tiny"), &floats, NULL), GRAFT_OK);
    oracle_model_load(&base, at("tiny"));
    oracle_adapter_make(&adapter, "lora-all", 7, &base);
    snprintf(adapter_path, sizeof adapter_path, "%s", at("a0"));
    oracle_adapter_write(&adapter, adapter_path, GRAFT_TYPE_F32);
    oracle_model_free(&adapter);
    oracle_model_free(&base);
    return 0;
}

static int teardown(void **state)
{
    graft_runtime_close(&runtime);
    return test_dir_close(state);
}

static graft_fuse_member member(float weight)
{
    return (graft_fuse_member){.path = adapter_path, .weight = weight};
}

static json_t *fuse(const graft_fuse_options *options, float weight)
{
    graft_fuse_member m = member(weight);
    graft_error error = {0};
    char *text = NULL;
    if (graft_fuse(runtime, TINY, &m, 1, at("out.gguf"), options, &text, &error) != GRAFT_OK)
        fail_msg("%s (%s)", error.message, error.file);
    json_t *json = json_loads(text, 0, NULL);
    assert_non_null(json);
    graft_free(runtime, text);
    return json;
}

static double kl_of(const json_t *certificate, const char *key)
{
    const json_t *kl = json_object_get(certificate, "kl");
    assert_true(json_is_object(kl));
    return json_number_value(json_object_get(kl, key));
}

static void the_divergence_is_measured_on_a_text(void **state)
{
    (void)state;
    static const char TEXT[] = "Once there was a cat who could not sleep.";
    graft_fuse_options options = graft_fuse_options_default();
    options.type = "f32";
    json_t *exact = fuse(&options, 0.05f);
    assert_true(kl_of(exact, "mean") < 1e-6);
    assert_true(kl_of(exact, "same_top") > 0.99);
    assert_true(kl_of(exact, "positions") > 100);
    options.type = "q4_0";
    options.text = TEXT;
    options.text_size = strlen(TEXT);
    json_t *coarse = fuse(&options, 0.05f);
    assert_true(kl_of(coarse, "mean") > 1e-4);
    assert_true(kl_of(coarse, "max") >= kl_of(coarse, "mean"));
    assert_true(kl_of(coarse, "positions") < 60);
    options.kl_tokens = 4;
    json_t *few = fuse(&options, 0.05f);
    assert_true(kl_of(few, "positions") == 4);
    options.kl_tokens = 0;
    json_t *none = fuse(&options, 0.05f);
    assert_true(json_is_null(json_object_get(none, "kl")));
    json_decref(exact);
    json_decref(coarse);
    json_decref(few);
    json_decref(none);
}

static void a_model_opens_fused_and_says_what_it_takes(void **state)
{
    (void)state;
    graft_fuse_member m = member(1);
    graft_model_options options = graft_model_options_default();
    graft_model *fused = NULL, *base = NULL;
    graft_error error = {0};
    assert_int_equal(graft_model_open(runtime, TINY, &options, &base, &error), GRAFT_OK);
    options.fuse = &m;
    options.n_fuse = 1;
    if (graft_model_open(runtime, TINY, &options, &fused, &error) != GRAFT_OK)
        fail_msg("%s", error.message);
    assert_true(graft_model_fused_bytes(base) == 0);
    assert_true(graft_model_fused_bytes(fused) > 0);
    assert_true(graft_model_fused_bytes(NULL) == 0);
    graft_adapter *on_top = NULL;
    assert_int_equal(graft_adapter_open(fused, adapter_path, NULL, &on_top, &error), GRAFT_OK);
    graft_adapter_close(&on_top);
    graft_model_close(&fused);
    graft_model_close(&base);
}

static void refused(const graft_fuse_options *options, const graft_fuse_member *m, size_t n)
{
    graft_error error = {0};
    assert_int_equal(graft_fuse(runtime, TINY, m, n, at("no.gguf"), options, NULL, &error),
                     GRAFT_INVALID_ARGUMENT);
    assert_true(error.message[0] != '\0');
    assert_false(path_exists(at("no.gguf")));
}

static void options_that_make_no_sense_are_refused(void **state)
{
    (void)state;
    graft_fuse_member m = member(1), bad = m, many[65];
    graft_fuse_options o = graft_fuse_options_default();
    for (int i = 0; i < 65; i++)
        many[i] = m;
    refused(&o, &m, 0);
    refused(&o, NULL, 1);
    refused(&o, many, 65);
    bad.weight = NAN;
    refused(&o, &bad, 1);
    bad = (graft_fuse_member){.path = NULL, .weight = 1};
    refused(&o, &bad, 1);
    o.fallback = 1;
    refused(&o, &m, 1);
    o.fallback = -0.1;
    refused(&o, &m, 1);
    o = graft_fuse_options_default();
    o.sidecar = at("side");
    o.sidecar_rank = 0;
    refused(&o, &m, 1);
    o = graft_fuse_options_default();
    o.kl_tokens = -1;
    refused(&o, &m, 1);
    o = graft_fuse_options_default();
    o.type = "q9";
    refused(&o, &m, 1);
    o = graft_fuse_options_default();
    o.format = (graft_format)17;
    refused(&o, &m, 1);
    graft_model_options mo = graft_model_options_default();
    graft_model *model = NULL;
    mo.n_fuse = 1;
    assert_int_equal(graft_model_open(runtime, TINY, &mo, &model, NULL), GRAFT_INVALID_ARGUMENT);
    mo.fuse = &bad;
    assert_int_equal(graft_model_open(runtime, TINY, &mo, &model, NULL), GRAFT_INVALID_ARGUMENT);
    assert_null(model);
}

/* ---- outputs ---- */

static void what_is_read_is_not_written_over(void **state)
{
    (void)state;
    graft_fuse_member m = member(1);
    graft_fuse_options options = graft_fuse_options_default();
    graft_convert_options convert = graft_convert_options_default();
    graft_error error = {0};
    char weights[800];
    snprintf(weights, sizeof weights, "%s/adapter_model.safetensors", adapter_path);
    options.kl_tokens = 0;
    const char *const outs[] = {weights, at("tiny/model.safetensors"), at("tiny/config.json")};
    for (size_t i = 0; i < ARRAY_LEN(outs); i++) {
        assert_int_equal(graft_fuse(runtime, at("tiny"), &m, 1, outs[i], &options, NULL, &error),
                         GRAFT_IO);
        assert_string_equal(error.file, outs[i]);
    }
    for (size_t i = 1; i < ARRAY_LEN(outs); i++)
        assert_int_equal(graft_convert(runtime, at("tiny"), outs[i], &convert, &error), GRAFT_IO);
    graft_model *model = NULL;
    graft_adapter *adapter = NULL;
    assert_int_equal(graft_model_open(runtime, at("tiny"), NULL, &model, &error), GRAFT_OK);
    assert_int_equal(graft_adapter_open(model, adapter_path, NULL, &adapter, &error), GRAFT_OK);
    graft_adapter_close(&adapter);
    graft_model_close(&model);
}

static void an_adapter_given_twice_is_found_by_its_content(void **state)
{
    (void)state;
    char other[800];
    snprintf(other, sizeof other, "%s/.", adapter_path);
    graft_fuse_member twice[] = {member(1), {.path = other, .weight = 0.5f}};
    graft_model_options options = graft_model_options_default();
    graft_model *model = NULL;
    graft_error error = {0};
    options.fuse = twice;
    options.n_fuse = 2;
    refused(NULL, twice, 2);
    assert_int_equal(graft_model_open(runtime, TINY, &options, &model, &error),
                     GRAFT_INVALID_ARGUMENT);
    assert_string_equal(error.file, other);
    assert_null(model);
}

/* While texts are compared: puts a folder where the model is to go, or ends the work once the sidecar is there. */
struct trouble {
    bool cancel, had_sidecar;
};
static bool make_trouble(void *user, uint64_t done, uint64_t total, const char *what)
{
    struct trouble *t = user;
    (void)done;
    (void)total;
    if (strcmp(what, "comparing") != 0)
        return true;
    if (!t->cancel)
        return mkdir(at("late.gguf"), 0755) == 0 || errno == EEXIST;
    t->had_sidecar = path_exists(at("late-side"));
    return !t->had_sidecar;
}

static void a_fuse_that_fails_late_leaves_nothing(void **state)
{
    (void)state;
    graft_fuse_member m = member(0.05f);
    for (int cancel = 0; cancel < 2; cancel++) {
        struct trouble trouble = {.cancel = cancel};
        graft_fuse_options options = graft_fuse_options_default();
        graft_error error = {0};
        char *certificate = NULL;
        options.type = "q4_0";
        options.sidecar = at("late-side");
        options.progress = make_trouble;
        options.progress_user = &trouble;
        assert_int_equal(
            graft_fuse(runtime, TINY, &m, 1, at("late.gguf"), &options, &certificate, &error),
            cancel ? GRAFT_CANCELLED : GRAFT_IO);
        assert_null(certificate);
        assert_int_equal(trouble.had_sidecar, cancel);
        assert_false(path_exists(at("late-side")));
        assert_false(path_exists(at("late.gguf.fuse.json")));
        if (!cancel)
            assert_int_equal(rmdir(at("late.gguf")), 0);
        assert_false(path_exists(at("late.gguf")));
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(the_divergence_is_measured_on_a_text),
        cmocka_unit_test(a_model_opens_fused_and_says_what_it_takes),
        cmocka_unit_test(options_that_make_no_sense_are_refused),
        cmocka_unit_test(what_is_read_is_not_written_over),
        cmocka_unit_test(an_adapter_given_twice_is_found_by_its_content),
        cmocka_unit_test(a_fuse_that_fails_late_leaves_nothing),
    };
    return cmocka_run_group_tests(tests, setup, teardown);
}
