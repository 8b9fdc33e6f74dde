/* test_data_api.c: graft/data.h on the model that ships: options, examples, issues, report, saved datasets, wrong use.
 */
#include "unit/test_support.h"

#include "unit/must.h"

#include <graft/graft.h>

#define TINY GRAFT_SOURCE_DIR "/models/tiny"

static graft_runtime *runtime;
static graft_model *model;
static struct scratch scratch;

static int begin(void **state)
{
    (void)state;
    graft_model_options options = graft_model_options_default();
    options.pack = "none";
    MUST(graft_runtime_open(NULL, &runtime, error));
    MUST(graft_model_open(runtime, TINY, &options, &model, error));
    scratch_open(&scratch);
    return 0;
}

static int end(void **state)
{
    (void)state;
    scratch_close(&scratch);
    graft_model_close(&model);
    graft_runtime_close(&runtime);
    return 0;
}

static const char *lines(const char *text)
{
    const char *path = scratch_path(&scratch, "data.jsonl");
    MUST(file_write_atomic(NULL, path, text, strlen(text), error));
    return path;
}

static graft_dataset *open_lines(const char *text, const graft_dataset_options *options)
{
    graft_dataset *dataset = NULL;
    MUST(graft_dataset_open(model, lines(text), options, &dataset, error));
    return dataset;
}

static void examples_are_what_the_model_is_fed(void **state)
{
    (void)state;
    graft_dataset_options options = graft_dataset_options_default();
    assert_float_equal(options.valid_share, 0.2, 0);
    options.valid_share = 0;
    graft_dataset *d =
        open_lines("{\"prompt\":\"Who is Tom?\",\"completion\":\"A cat.\",\"task\":\"t\","
                   "\"weight\":2}\n{\"prompt\":\"a\",\"completion\":\"b\"}\n",
                   &options);
    assert_int_equal(graft_dataset_count(d, GRAFT_PART_TRAIN), 2);
    assert_int_equal(graft_dataset_count(d, GRAFT_PART_VALID), 0);
    assert_int_equal(graft_dataset_count(NULL, GRAFT_PART_TRAIN), 0);
    assert_int_equal(graft_dataset_count(d, (graft_part)7), 0);
    graft_example e;
    MUST(graft_dataset_example(d, GRAFT_PART_TRAIN, 0, &e, error));
    assert_float_equal(e.weight, 2, 0);
    assert_string_equal(e.task, "t");
    assert_string_equal(e.domain, "");
    assert_string_equal(e.format, "prompt/completion");
    assert_int_equal(e.line, 1);
    /* What the library renders and tokenises for the same conversation, then the answer. */
    static const graft_message asked[] = {{"user", "Who is Tom?"}};
    char *text;
    size_t size, n;
    graft_token_id *ids;
    MUST(graft_chat_render(model, asked, 1, true, &text, &size, error));
    MUST(graft_tokenize(graft_model_tokenizer(model), text, size, GRAFT_TOKENIZE_SPECIAL, &ids, &n,
                        error));
    assert_true((int)n < e.n_tokens);
    assert_memory_equal(ids, e.tokens, n * sizeof *ids);
    for (int t = 0; t < e.n_tokens; t++)
        assert_int_equal(e.learned[t], t + 1 >= (int)n);
    assert_int_equal(e.n_learned, e.n_tokens + 1 - (int)n);
    graft_free(runtime, ids);
    graft_free(runtime, text);
    graft_error error;
    assert_int_equal(graft_dataset_example(d, GRAFT_PART_TRAIN, 2, &e, &error),
                     GRAFT_INVALID_ARGUMENT);
    assert_int_equal(graft_dataset_example(d, GRAFT_PART_TRAIN, -1, &e, &error),
                     GRAFT_INVALID_ARGUMENT);
    graft_dataset_close(&d);
    assert_null(d);
    graft_dataset_close(&d);
}

static void issues_have_a_place_a_reason_and_a_fix(void **state)
{
    (void)state;
    graft_dataset *d = open_lines("oops\n{\"text\":\"ok then\"}\n", NULL);
    graft_data_issue issue;
    assert_int_equal(graft_dataset_issues(d), 1);
    assert_int_equal(graft_dataset_issues(NULL), 0);
    MUST(graft_dataset_issue(d, 0, &issue, error));
    assert_true(issue.dropped && issue.line == 1 && issue.reason[0] && issue.fix[0]);
    assert_non_null(strstr(issue.file, "data.jsonl"));
    assert_int_equal(graft_dataset_issue(d, 1, &issue, NULL), GRAFT_INVALID_ARGUMENT);
    graft_dataset_close(&d);
}

static json_t *report(const graft_dataset *d)
{
    char *text;
    json_t *json;
    MUST(graft_dataset_report(d, &text, error));
    MUST(json_parse(text, strlen(text), &json, error));
    graft_free(runtime, text);
    return json;
}

static void a_report_counts_and_names_the_content(void **state)
{
    (void)state;
    static const char two[] = "{\"text\":\"Once upon a time.\"}\n{\"text\":\"The end.\"}\n";
    graft_dataset *d = open_lines(two, NULL);
    json_t *json = report(d);
    assert_int_equal(json_integer_value(json_object_get(json, "records")), 2);
    const json_t *examples = json_object_get(json, "examples");
    assert_int_equal(json_integer_value(json_object_get(examples, "train")), 1);
    assert_int_equal(json_integer_value(json_object_get(examples, "valid")), 1);
    char digest[65];
    snprintf(digest, sizeof digest, "%s", json_string_value(json_object_get(json, "digest")));
    assert_int_equal(strlen(digest), 64);
    json_decref(json);
    char saved[256];
    snprintf(saved, sizeof saved, "%s/saved", scratch.folder);
    MUST(graft_dataset_save(d, saved, error));
    graft_dataset_close(&d);
    MUST(graft_dataset_open(model, saved, NULL, &d, error));
    json = report(d);
    assert_string_equal(json_string_value(json_object_get(json, "digest")), digest);
    json_decref(json);
    graft_dataset_close(&d);
}

static void wrong_use_is_said(void **state)
{
    (void)state;
    graft_dataset_options options = graft_dataset_options_default();
    graft_dataset *d = NULL;
    graft_error error;
    const char *path = lines("{\"text\":\"ab\"}\n");
    assert_int_equal(graft_dataset_open(NULL, path, NULL, &d, &error), GRAFT_INVALID_ARGUMENT);
    assert_int_equal(graft_dataset_open(model, NULL, NULL, &d, &error), GRAFT_INVALID_ARGUMENT);
    assert_int_equal(graft_dataset_open(model, path, NULL, NULL, &error), GRAFT_INVALID_ARGUMENT);
    options.valid_share = 1;
    assert_int_equal(graft_dataset_open(model, path, &options, &d, &error), GRAFT_INVALID_ARGUMENT);
    options = graft_dataset_options_default();
    options.loss = (graft_loss)9;
    assert_int_equal(graft_dataset_open(model, path, &options, &d, &error), GRAFT_INVALID_ARGUMENT);
    options = graft_dataset_options_default();
    options.struct_size = 1;
    assert_int_equal(graft_dataset_open(model, path, &options, &d, &error), GRAFT_INVALID_ARGUMENT);
    assert_int_equal(graft_dataset_save(NULL, path, &error), GRAFT_INVALID_ARGUMENT);
    assert_int_equal(graft_dataset_report(NULL, NULL, &error), GRAFT_INVALID_ARGUMENT);
    assert_null(d);
}

int main(void)
{
    if (!path_exists(TINY "/model.safetensors")) {
        puts("models/tiny is not there");
        return 77;
    }
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(examples_are_what_the_model_is_fed),
        cmocka_unit_test(issues_have_a_place_a_reason_and_a_fix),
        cmocka_unit_test(a_report_counts_and_names_the_content),
        cmocka_unit_test(wrong_use_is_said),
    };
    return cmocka_run_group_tests(tests, begin, end);
}
