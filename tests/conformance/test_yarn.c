/* test_yarn.c: YaRN against goldens of an independent numpy script (yarn_golden.py), through config.json and,
 * where GGUF can say the same, through GGUF metadata. */
#include "conformance_support.h"
#include "oracle_model.h"

static const double F32_BOUND = 1e-4;

static double error_of(const char *path, const json_t *tokens, const char *name)
{
    graft_token_id ids[64];
    int n = (int)json_array_size(tokens);
    assert_in_range(n, 1, 64);
    for (int i = 0; i < n; i++)
        ids[i] = (graft_token_id)json_integer_value(json_array_get(tokens, (size_t)i));
    char npy[768];
    size_t count = 0;
    snprintf(npy, sizeof(npy), GOLDENS "/yarn/%s.npy", name);
    float *want = load_npy(npy, &count);
    struct graft_runtime rt;
    runtime_start(&rt, 2, NULL);
    struct model *m = open_model(&rt, path);
    assert_int_equal(count, (size_t)n * (size_t)model_n_logits(m));
    float *got = run_tokens(m, ids, n, (struct run){ROLE_PREFILL, KV_F32, 16});
    double error = relative_error(got, want, count);
    free(got);
    free(want);
    model_close(&m);
    runtime_stop(&rt);
    return error;
}

static void yarn_logits_match_the_goldens(void **state)
{
    (void)state;
    json_t *file = json_load_file(GOLDENS "/yarn/cases.json", 0, NULL), *scaling;
    assert_non_null(file);
    char *dir = temp_dir(), path[768];
    const char *name;
    int n = 0;
    json_object_foreach(json_object_get(file, "cases"), name, scaling)
    {
        json_t *config = oracle_config("llama");
        json_object_set(config, "rope_scaling", scaling);
        struct oracle_model m;
        oracle_model_make(&m, config, 1);
        snprintf(path, sizeof(path), "%s/%s", dir, name);
        oracle_write_hf(&m, path, GRAFT_TYPE_F32);
        double error = error_of(path, json_object_get(file, "tokens"), name);
        if (!(error <= F32_BOUND))
            fail_msg("%s: error %.3g", name, error);
        if (!strcmp(name, "plain")) { /* GGUF has no mscale, truncate or total attention factor */
            snprintf(path, sizeof(path), "%s/%s.gguf", dir, name);
            oracle_write_gguf(&m, path, GRAFT_TYPE_F32);
            error = error_of(path, json_object_get(file, "tokens"), name);
            if (!(error <= F32_BOUND))
                fail_msg("%s as GGUF: error %.3g", name, error);
        }
        oracle_model_free(&m);
        n++;
    }
    assert_int_equal(n, 3);
    json_decref(file);
    temp_remove(dir);
    free(dir);
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(yarn_logits_match_the_goldens)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
