/* test_seam_threads.c: workers that take pieces of A x from each other, for ThreadSanitizer above all.
 * Results with any number of threads: conformance/test_seam.c.
 */
#include "conformance/delta_support.h"

enum { N_TOKENS = 90, ROUNDS = 3 };

static void workers_share_the_inner_products_of_a_mix(void **state)
{
    (void)state;
    static const struct adapter_plan PLANS[] = {
        {.rank = 20, .type = GRAFT_TYPE_BF16, .scale = 1, .seed = 1},
        {.rank = 5, .type = GRAFT_TYPE_F32, .scale = 1, .seed = 2}};
    static const float WEIGHTS[] = {1, -0.5f};
    graft_token_id tokens[N_TOKENS];
    float *want = NULL;
    char *dir = temp_dir(), path[768];
    json_t *config = oracle_config("qwen2");
    struct oracle_model weights;
    snprintf(path, sizeof(path), "%s/model", dir);
    json_object_set_new(config, "num_hidden_layers", json_integer(1));
    oracle_model_make(&weights, config, 1);
    oracle_write_hf(&weights, path, GRAFT_TYPE_BF16);
    for (int i = 0; i < N_TOKENS; i++)
        tokens[i] = i * 7 % 331;
    for (int threads = 1; threads <= 5; threads += 2) {
        struct graft_runtime rt;
        struct adapter adapters[2];
        runtime_start(&rt, threads, NULL);
        struct model *m = open_model(&rt, path);
        size_t bytes = N_TOKENS * (size_t)model_n_logits(m) * sizeof(float);
        for (int i = 0; i < 2; i++)
            adapter_make(&adapters[i], m, &weights, &PLANS[i]);
        struct delta_set *mix = mix_open(m, adapters, WEIGHTS, 2);
        for (int round = 0; round < ROUNDS; round++) {
            enum role role = round ? ROLE_PREFILL : ROLE_DECODE;
            float *got = run_mix(m, tokens, N_TOKENS, role, round == 2 ? N_TOKENS : 3, mix);
            if (!want && role == ROLE_PREFILL)
                want = got;
            if (want && role == ROLE_PREFILL)
                assert_memory_equal(got, want, bytes);
            if (got != want)
                free(got);
        }
        delta_set_close(&mix);
        for (int i = 0; i < 2; i++)
            adapter_free(&adapters[i]);
        model_close(&m);
        runtime_stop(&rt);
    }
    free(want);
    oracle_model_free(&weights);
    temp_remove(dir);
    free(dir);
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(workers_share_the_inner_products_of_a_mix)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
