/* test_api_stories.c: the published transcript of stories260K through the public headers, from the
 * directory and from the GGUF file; skipped without the reference data.
 */
#include "unit/api_fixture.h"

#define FOLDER GRAFT_SHARED_DIR "/data/models/stories260K"

static json_t *EXPECTED;
static graft_runtime *RUNTIME;
static const char *const FILES[] = {FOLDER, FOLDER "/stories260K.gguf"};

static graft_session_options greedy(void)
{
    graft_session_options o = graft_session_options_default();
    o.sampling.temperature = 0;
    o.cache_k = o.cache_v = GRAFT_KV_F32;
    return o;
}

static graft_model *open_model(const char *path)
{
    graft_model *model = NULL;
    MUST(graft_model_open(RUNTIME, path, NULL, &model, error));
    return model;
}

static void assert_ids(const json_t *want, const graft_token_id *ids, size_t n)
{
    assert_int_equal(json_array_size(want), n);
    for (size_t i = 0; i < n; i++) {
        assert_int_equal(ids[i], json_integer_value(json_array_get(want, i)));
    }
}

static void transcript_is_the_published_one(void **state)
{
    (void)state;
    size_t steps = (size_t)json_integer_value(json_object_get(EXPECTED, "steps"));
    graft_session_options o = greedy();
    for (size_t i = 0; i < ARRAY_LEN(FILES); i++) {
        graft_model *model = open_model(FILES[i]);
        struct answer *a = solo(model, &o, "", steps);
        assert_ids(json_object_get(EXPECTED, "ids"), a->ids, a->n);
        assert_string_equal(a->text.data, json_string_value(json_object_get(EXPECTED, "text")));
        answer_free(a);
        graft_model_close(&model);
    }
}

static void transcript_holds_with_the_default_cache(void **state)
{
    (void)state;
    graft_session_options o = greedy();
    o.cache_k = o.cache_v = GRAFT_KV_F16;
    graft_model *model = open_model(FILES[1]);
    struct answer *a = solo(model, &o, "", 200);
    assert_string_equal(a->text.data, json_string_value(json_object_get(EXPECTED, "text")));
    answer_free(a);
    graft_model_close(&model);
}

static void prompted_run_is_the_expected_one(void **state)
{
    (void)state;
    json_t *run = json_object_get(EXPECTED, "prompted");
    const char *prompt = json_string_value(json_object_get(run, "prompt"));
    json_t *prompt_ids = json_object_get(run, "prompt_ids");
    graft_session_options o = greedy();
    for (size_t i = 0; i < ARRAY_LEN(FILES); i++) {
        graft_model *model = open_model(FILES[i]);
        graft_session *s = open_session(model, &o);
        struct answer *a = answer_new();
        size_t n, steps = json_array_size(json_object_get(run, "ids"));
        MUST(graft_session_prompt_text(s, prompt, strlen(prompt), error));
        const graft_token_id *ids = graft_session_tokens(s, &n);
        assert_ids(prompt_ids, ids, n);
        MUST(graft_session_generate(s, steps, answer_take, a, error));
        assert_ids(json_object_get(run, "ids"), a->ids, a->n);
        /* The whole timeline as text: the prompt, then what was streamed, to the byte. */
        char *text = NULL;
        size_t size;
        ids = graft_session_tokens(s, &n);
        MUST(graft_detokenize(graft_model_tokenizer(model), ids, n, false, &text, &size, error));
        assert_memory_equal(text, prompt, strlen(prompt));
        assert_string_equal(text + strlen(prompt), a->text.data);
        graft_free(RUNTIME, text);
        graft_session_close(&s);
        answer_free(a);
        graft_model_close(&model);
    }
}

static void stop_text_cuts_the_story(void **state)
{
    (void)state;
    static const char *const STOPS[] = {"little girl named", "never there"};
    const char *story = json_string_value(json_object_get(EXPECTED, "text"));
    graft_session_options o = greedy();
    o.stops = STOPS;
    o.n_stops = 2;
    graft_model *model = open_model(FILES[0]);
    struct answer *a = solo(model, &o, "", 200);
    size_t at = (size_t)(strstr(story, STOPS[0]) - story);
    assert_int_equal(a->text.size, at);
    assert_memory_equal(a->text.data, story, at);
    answer_free(a);
    graft_model_close(&model);
}

static void generation_config_asks_for_greedy(void **state)
{
    (void)state;
    graft_model *model = open_model(FILES[0]);
    assert_true(graft_sampling_for(model).temperature == 0);
    graft_model_close(&model);
}

static void story_scores_better_than_its_reverse(void **state)
{
    (void)state;
    graft_model *model = open_model(FILES[0]);
    graft_session_options o = greedy();
    graft_session *s = open_session(model, &o);
    json_t *ids = json_object_get(EXPECTED, "ids");
    graft_token_id forward[100] = {1}, backward[100] = {1};
    float scores[100];
    double sum[2] = {0};
    for (size_t i = 1; i < 100; i++) {
        forward[i] = (graft_token_id)json_integer_value(json_array_get(ids, i - 1));
        backward[100 - i] = forward[i];
    }
    for (int k = 0; k < 2; k++) {
        MUST(graft_session_score(s, k == 0 ? forward : backward, 100, scores, error));
        for (size_t i = 0; i < 100; i++) {
            sum[k] += (double)scores[i];
        }
    }
    assert_true(sum[0] > -100 && sum[1] < -400);
    graft_session_close(&s);
    graft_model_close(&model);
}

int main(void)
{
    if (!path_exists(FOLDER "/expected.json")) {
        printf("skipped: no %s\n", FOLDER);
        return 77;
    }
    RUNTIME = open_runtime(2);
    if (json_read(NULL, FOLDER "/expected.json", 1 << 24, &EXPECTED, NULL) != GRAFT_OK) {
        return 1;
    }
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(transcript_is_the_published_one),
        cmocka_unit_test(transcript_holds_with_the_default_cache),
        cmocka_unit_test(prompted_run_is_the_expected_one),
        cmocka_unit_test(stop_text_cuts_the_story),
        cmocka_unit_test(generation_config_asks_for_greedy),
        cmocka_unit_test(story_scores_better_than_its_reverse),
    };
    int failed = cmocka_run_group_tests(tests, NULL, NULL);
    json_decref(EXPECTED);
    graft_runtime_close(&RUNTIME);
    return failed;
}
