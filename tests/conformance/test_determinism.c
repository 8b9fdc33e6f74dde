/* test_determinism.c: the arithmetic of a row follows its role, never its company.
 *
 * For every weight type and tier: the logits of a sequence run row by row, alone, on one thread are the
 * bytes that come out when it shares batches of seven with other sequences of both roles, when its rows come
 * in one call, and with two and three threads.
 */
#include "conformance_support.h"
#include "oracle_model.h"

enum { MAX_TOKENS = 70, N_SEQS = 7, WATCHED = 3 };

/* What is run: 70 tokens cross a KV block. */
struct plan {
    enum kv_type kv;
    int n_tokens, max_threads;
};

static json_t *shallow(json_t *config, int layers)
{
    json_object_set_new(config, "num_hidden_layers", json_integer(layers));
    return config;
}

static json_t *one_layer(const char *arch)
{
    return shallow(oracle_config_wide(arch), 1);
}

static graft_token_id token_at(int seq, int pos)
{
    return (graft_token_id)((pos * 37 + seq * 101 + pos * seq * 13 + 7) % 331);
}

static float *run_alone(const struct model *m, enum role role, struct plan plan, int chunk)
{
    graft_token_id tokens[MAX_TOKENS];
    for (int i = 0; i < plan.n_tokens; i++)
        tokens[i] = token_at(WATCHED, i);
    return run_tokens(m, tokens, plan.n_tokens, (struct run){role, plan.kv, chunk});
}

/* Seven sequences step together; the others alternate their roles, and two of them run two rows a step. */
static float *run_in_company(const struct model *m, enum role role, struct plan plan)
{
    graft_error error = {0};
    size_t width = (size_t)model_n_logits(m);
    float *out = malloc((size_t)plan.n_tokens * width * sizeof(float));
    struct kv_pool *pool = NULL;
    struct kv_seq *seqs[N_SEQS] = {0};
    struct workspace *ws = NULL;
    const struct kv_pool_options options = {plan.kv, plan.kv, 64};
    assert_int_equal(kv_pool_open(m, &options, &pool, &error), GRAFT_OK);
    assert_int_equal(workspace_open(m, 16, &ws, &error), GRAFT_OK);
    for (int s = 0; s < N_SEQS; s++)
        assert_int_equal(kv_seq_open(pool, &seqs[s], &error), GRAFT_OK);
    for (int pos = 0; pos < plan.n_tokens; pos++) {
        struct row rows[16];
        int n = 0, watched = 0;
        for (int s = 0; s < N_SEQS; s++)
            for (int twice = 0; twice < 1 + (s % 3 == 1); twice++) {
                int32_t at = (int32_t)kv_seq_length(seqs[s]) + twice;
                watched = s == WATCHED ? n : watched;
                rows[n++] = (struct row){.token = token_at(s, at),
                                         .pos = at,
                                         .seq = seqs[s],
                                         .role = s == WATCHED ? role : (enum role)((s + pos) % 2),
                                         .want_logits = s == WATCHED || s == 5};
            }
        if (model_forward(m, rows, n, ws, &error) != GRAFT_OK)
            fail_msg("%s", error.message);
        memcpy(out + (size_t)pos * width, workspace_logits(ws, watched), width * sizeof(float));
    }
    for (int s = 0; s < N_SEQS; s++)
        kv_seq_close(&seqs[s]);
    workspace_close(&ws);
    kv_pool_close(&pool);
    return out;
}

static void check_equal(const float *want, float *got, size_t n, const char *what, int tier)
{
    if (memcmp(want, got, n * sizeof(float)))
        fail_msg("%s, tier %s: other bytes in company", what, kernels_tier(tier)->tier);
    free(got);
}

/* All of it for one model file. */
static void check_path(const char *path, const char *what, struct plan plan)
{
    for (int tier = 0; kernels_tier(tier); tier++) {
        float *want[ROLE_COUNT] = {0};
        size_t n = 0;
        for (int threads = 1; threads <= plan.max_threads; threads++) {
            struct graft_runtime rt;
            runtime_start(&rt, threads, kernels_tier(tier));
            struct model *m = open_model(&rt, path);
            n = (size_t)plan.n_tokens * (size_t)model_n_logits(m);
            for (int r = 0; r < ROLE_COUNT; r++) {
                enum role role = (enum role)r;
                if (!want[r])
                    want[r] = run_alone(m, role, plan, 1);
                else
                    check_equal(want[r], run_alone(m, role, plan, 1), n, what, tier);
                check_equal(want[r], run_alone(m, role, plan, 7), n, what, tier);
                check_equal(want[r], run_alone(m, role, plan, plan.n_tokens), n, what, tier);
                check_equal(want[r], run_in_company(m, role, plan), n, what, tier);
            }
            model_close(&m);
            runtime_stop(&rt);
        }
        for (int r = 0; r < ROLE_COUNT; r++)
            free(want[r]);
    }
}

static void a_row_does_not_see_its_company_with_any_weight_type(void **state)
{
    (void)state;
    const char *path = at("model.gguf");
    for (int type = 0; type < GRAFT_TYPE_COUNT; type++) {
        if (!kernels_have_type((graft_type)type) || type_traits((graft_type)type)->ggml_id < 0)
            continue;
        struct oracle_model m;
        oracle_model_make(&m, one_layer("qwen2"), 1);
        oracle_write_gguf(&m, path, (graft_type)type);
        oracle_model_free(&m);
        check_path(path, graft_type_name((graft_type)type), (struct plan){KV_F16, 9, 2});
    }
}

static void a_row_does_not_see_its_company_with_mlx_weights(void **state)
{
    (void)state;
    const char *path = at("mlx");
    for (int bits = 4; bits <= 8; bits += 4) {
        struct oracle_model m;
        oracle_model_make(&m, one_layer("llama"), 1);
        oracle_write_mlx(&m, path, &(struct oracle_mlx){bits, 64, GRAFT_TYPE_F16, NULL, NULL});
        oracle_model_free(&m);
        check_path(path, bits == 4 ? "MLX4" : "MLX8", (struct plan){KV_F16, 9, 2});
    }
}

static void a_row_does_not_see_its_company_with_any_cache_and_window(void **state)
{
    (void)state;
    static const char *const ARCHS[] = {"mistral", "qwen3"};
    for (size_t a = 0; a < ARRAY_LEN(ARCHS); a++) {
        struct oracle_model m;
        const char *path = at(ARCHS[a]);
        oracle_model_make(&m, shallow(oracle_config(ARCHS[a]), 2), 1);
        oracle_write_hf(&m, path, GRAFT_TYPE_BF16);
        oracle_model_free(&m);
        for (int kv = 0; kv < KV_TYPE_COUNT; kv++)
            check_path(path, ARCHS[a], (struct plan){(enum kv_type)kv, MAX_TOKENS, 3});
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_row_does_not_see_its_company_with_any_weight_type),
        cmocka_unit_test(a_row_does_not_see_its_company_with_mlx_weights),
        cmocka_unit_test(a_row_does_not_see_its_company_with_any_cache_and_window),
    };
    return cmocka_run_group_tests(tests, test_dir_open, test_dir_close);
}
