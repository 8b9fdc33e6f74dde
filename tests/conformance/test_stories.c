/* test_stories.c: a trained model against published output: stories260K as a Hugging Face directory and
 * as GGUF gives the 200 greedy tokens and, at four positions, the logits of expected.json. Skips where the
 * shared data is absent. */
#include "conformance_support.h"

#include <math.h>

#define MODEL GRAFT_SHARED_DIR "/data/models/stories260K"

/* Of the largest logit. */
static const double F32_BOUND = 1e-4;

static const char *const PATHS[] = {MODEL, MODEL "/stories260K.gguf", MODEL "/model.safetensors"};

static json_t *expected(void)
{
    json_t *json = json_load_file(MODEL "/expected.json", 0, NULL);
    if (!json) {
        print_message("skipped: no %s\n", MODEL);
        skip();
    }
    return json;
}

static int read_ids(const json_t *list, graft_token_id *out, int at)
{
    for (size_t i = 0; i < json_array_size(list); i++)
        out[at++] = (graft_token_id)json_integer_value(json_array_get(list, i));
    return at;
}

static void greedy_text_is_the_published_one(void **state)
{
    (void)state;
    json_t *json = expected();
    graft_token_id want[256], got[256];
    const json_t *prompted = json_object_get(json, "prompted");
    const json_t *sets[] = {json, prompted};
    for (int tier = 0; kernels_tier(tier); tier++)
        for (size_t p = 0; p < ARRAY_LEN(PATHS); p++)
            for (size_t s = 0; s < ARRAY_LEN(sets); s++) {
                graft_token_id prompt[64];
                int n_prompt = read_ids(json_object_get(sets[s], "prompt_ids"), prompt, 0);
                int n = read_ids(json_object_get(sets[s], "ids"), want, 0);
                struct graft_runtime rt;
                runtime_start(&rt, 1 + (int)p % 2, kernels_tier(tier));
                struct model *m = open_model(&rt, PATHS[p]);
                run_greedy(m, prompt, n_prompt, (struct run){ROLE_DECODE, KV_F16, 16}, got, n);
                assert_memory_equal(got, want, (size_t)n * sizeof(want[0]));
                model_close(&m);
                runtime_stop(&rt);
            }
    json_decref(json);
}

static void logits_match_the_double_precision_ones(void **state)
{
    (void)state;
    json_t *json = expected();
    graft_token_id ids[256];
    int n = read_ids(json_object_get(json, "prompt_ids"), ids, 0);
    n = read_ids(json_object_get(json, "ids"), ids, n);
    for (size_t p = 0; p < ARRAY_LEN(PATHS); p++) {
        struct graft_runtime rt;
        runtime_start(&rt, 2, NULL);
        struct model *m = open_model(&rt, PATHS[p]);
        float *logits = run_tokens(m, ids, n, (struct run){ROLE_PREFILL, KV_F32, 64});
        const char *position;
        json_t *values;
        int checked = 0;
        json_object_foreach(json_object_get(json, "logits_f64"), position, values)
        {
            const float *got = logits + strtol(position, NULL, 10) * model_n_logits(m);
            float want[512];
            for (size_t i = 0; i < 512; i++)
                want[i] = (float)json_number_value(json_array_get(values, i));
            assert_true(relative_error(got, want, 512) <= F32_BOUND);
            checked++;
        }
        assert_int_equal(checked, 4);
        free(logits);
        model_close(&m);
        runtime_stop(&rt);
    }
    json_decref(json);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(greedy_text_is_the_published_one),
        cmocka_unit_test(logits_match_the_double_precision_ones),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
