/* test_quantised.c: models with quantised weights against the float forward on their dequantised weights.
 *
 * Prefill rows see the dequantised values themselves, so they agree to float accuracy, or round both
 * factors to bf16 where the tier's matrix unit takes those (class bf16); decode rows also quantise
 * activations to 8 bits (class int8act). Both have bounds of their own, calibrated and named here.
 */
#include "conformance_support.h"
#include "oracle_model.h"

#include <math.h>

/* Prefill through float panels. */
static const double PANEL_BOUND = 1e-4;
/* Class bf16. Measured on the random models: 1.9e-2 and 3.6e-4; on stories260K 4.4e-3 and 1.1e-4. */
static const double BF16_BOUND = 3e-2, BF16_KL = 6e-4;
/* Class int8act: activations in 8 bits, per 32 or 256 values. Measured on the random models, whose sharp
 * attention is a hard case: 5.2e-2 and 2.9e-3; on stories260K 1.2e-2 and 5.8e-4. */
static const double INT8ACT_BOUND = 1e-1, INT8ACT_KL = 6e-3;

static const graft_token_id TOKENS[] = {5, 17, 300, 42, 8, 99, 250, 13, 77, 201, 6, 330, 151};
enum { N_TOKENS = ARRAY_LEN(TOKENS) };

static float *exact_logits(const struct oracle_model *m)
{
    const char *path = at("exact");
    oracle_write_hf(m, path, GRAFT_TYPE_F32);
    struct graft_runtime rt;
    runtime_start(&rt, 1, kernels_tier(0));
    struct model *model = open_model(&rt, path);
    float *logits = run_tokens(model, TOKENS, N_TOKENS, (struct run){ROLE_PREFILL, KV_F32, 16});
    model_close(&model);
    runtime_stop(&rt);
    return logits;
}

static struct {
    double error, kl;
} worst[2]; /* class int8act, class bf16 */

static void report(void)
{
    print_message("worst error and KL of int8act %.3g, %.3g; of bf16 %.3g, %.3g\n", worst[0].error,
                  worst[0].kl, worst[1].error, worst[1].kl);
    memset(worst, 0, sizeof(worst));
}

/* The quantised file against the dequantised values that `m` now holds. */
static void check_file(const struct oracle_model *m, const char *path, const char *what, bool exact)
{
    float *want = exact_logits(m);
    for (int tier = 0; kernels_tier(tier); tier++) {
        struct graft_runtime rt;
        runtime_start(&rt, 2, kernels_tier(tier));
        struct model *model = open_model(&rt, path);
        int n = model_n_logits(model);
        for (int role = 0; role < ROLE_COUNT; role++) {
            float *got =
                run_tokens(model, TOKENS, N_TOKENS, (struct run){(enum role)role, KV_F32, 5});
            double error = relative_error(got, want, (size_t)(N_TOKENS * n));
            double kl = mean_kl(got, want, N_TOKENS, n);
            bool rounded =
                role == ROLE_PREFILL && !exact && rt.kernels->quantised_panels == PANEL_BF16;
            bool panel = role == ROLE_PREFILL || exact;
            double bound = rounded ? BF16_BOUND : panel ? PANEL_BOUND : INT8ACT_BOUND;
            if (!(error <= bound) || !(kl <= (rounded ? BF16_KL : INT8ACT_KL)))
                fail_msg("%s, tier %s, role %d: error %.3g, KL %.3g", what, rt.kernels->tier, role,
                         error, kl);
            if (!panel || rounded) {
                assert_true(error > 0);
                worst[rounded].error = fmax(worst[rounded].error, error);
                worst[rounded].kl = fmax(worst[rounded].kl, kl);
            }
            free(got);
        }
        model_close(&model);
        runtime_stop(&rt);
    }
    free(want);
}

static void check_gguf(struct oracle_model *m, graft_type type, const char *what)
{
    const char *path = at("model.gguf");
    char text[128];
    snprintf(text, sizeof(text), "%s in %s", what, graft_type_name(type));
    oracle_write_gguf(m, path, type);
    check_file(m, path, text, act_format_for(type, ROLE_DECODE) == ACT_F32);
}

static const graft_type BLOCK_32[] = {GRAFT_TYPE_F32,  GRAFT_TYPE_F16,  GRAFT_TYPE_BF16,
                                      GRAFT_TYPE_Q4_0, GRAFT_TYPE_Q4_1, GRAFT_TYPE_Q5_0,
                                      GRAFT_TYPE_Q5_1, GRAFT_TYPE_Q8_0};
static const graft_type BLOCK_256[] = {GRAFT_TYPE_Q2_K, GRAFT_TYPE_Q3_K, GRAFT_TYPE_Q4_K,
                                       GRAFT_TYPE_Q5_K, GRAFT_TYPE_Q6_K};

static void types_with_blocks_of_32_match_their_dequantised_model(void **state)
{
    (void)state;
    static const char *const ARCHS[] = {"llama", "qwen2", "qwen3"};
    for (size_t a = 0; a < ARRAY_LEN(ARCHS); a++)
        for (size_t i = 0; i < ARRAY_LEN(BLOCK_32); i++) {
            struct oracle_model m;
            oracle_model_make(&m, oracle_config(ARCHS[a]), 1);
            check_gguf(&m, BLOCK_32[i], ARCHS[a]);
            oracle_model_free(&m);
        }
    report();
}

static void types_with_blocks_of_256_match_their_dequantised_model(void **state)
{
    (void)state;
    static const char *const ARCHS[] = {"llama", "qwen2"};
    for (size_t a = 0; a < ARRAY_LEN(ARCHS); a++)
        for (size_t i = 0; i < ARRAY_LEN(BLOCK_256); i++) {
            struct oracle_model m;
            oracle_model_make(&m, oracle_config_wide(ARCHS[a]), 1);
            check_gguf(&m, BLOCK_256[i], ARCHS[a]);
            oracle_model_free(&m);
        }
    report();
}

static void mlx_directories_match_their_dequantised_model(void **state)
{
    (void)state;
    static const char *const KEEP[] = {"model.layers.1.mlp.down_proj", NULL};
    static const struct oracle_mlx HOW[] = {
        {4, 32, GRAFT_TYPE_F16, NULL, NULL},
        {4, 64, GRAFT_TYPE_BF16, KEEP, "model.layers.0.self_attn.v_proj"},
        {4, 128, GRAFT_TYPE_F32, NULL, "model.embed_tokens"},
        {8, 64, GRAFT_TYPE_F16, KEEP, NULL},
    };
    static const char *const ARCHS[] = {"llama", "qwen2"}; /* a head of its own; a tied one */
    for (size_t a = 0; a < ARRAY_LEN(ARCHS); a++)
        for (size_t i = 0; i < ARRAY_LEN(HOW); i++) {
            struct oracle_model m;
            const char *path = at("mlx");
            char what[64];
            snprintf(what, sizeof(what), "%s, MLX %d bits, group %d", ARCHS[a], HOW[i].bits,
                     HOW[i].group);
            oracle_model_make(&m, oracle_config_wide(ARCHS[a]), 1);
            oracle_write_mlx(&m, path, &HOW[i]);
            check_file(&m, path, what, false);
            oracle_model_free(&m);
        }
    report();
}

static void a_trained_model_survives_every_type(void **state)
{
    (void)state;
    const char *path = GRAFT_SHARED_DIR "/data/models/stories260K";
    if (!path_is_dir(path)) {
        print_message("skipped: no %s\n", path);
        skip();
    }
    for (size_t i = 0; i < ARRAY_LEN(BLOCK_32); i++) {
        struct oracle_model m;
        oracle_model_load(&m, path);
        check_gguf(&m, BLOCK_32[i], "stories260K");
        oracle_model_free(&m);
    }
    report();
}

/* The same golden through the other container: interleaved rows, windows, scaling as a tensor. */
static void gguf_copies_match_the_goldens(void **state)
{
    (void)state;
    static const char *const ARCHS[] = {"llama",   "llama-bias", "llama-linear", "llama3",
                                        "mistral", "qwen2",      "qwen3"};
    for (size_t a = 0; a < ARRAY_LEN(ARCHS); a++) {
        struct oracle_model m;
        char path[768];
        size_t count = 0;
        snprintf(path, sizeof(path), GOLDENS "/forward/%s.npy", ARCHS[a]);
        float *want = load_npy(path, &count);
        oracle_model_make(&m, oracle_config(ARCHS[a]), 1);
        oracle_write_gguf(&m, at("golden.gguf"), GRAFT_TYPE_F32);
        struct graft_runtime rt;
        runtime_start(&rt, 2, NULL);
        struct model *model = open_model(&rt, at("golden.gguf"));
        float *got = run_tokens(model, TOKENS, N_TOKENS, (struct run){ROLE_PREFILL, KV_F32, 16});
        double error = relative_error(got, want, count);
        if (!(error <= PANEL_BOUND))
            fail_msg("%s as GGUF: error %.3g", ARCHS[a], error);
        free(got);
        free(want);
        model_close(&model);
        runtime_stop(&rt);
        oracle_model_free(&m);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(types_with_blocks_of_32_match_their_dequantised_model),
        cmocka_unit_test(types_with_blocks_of_256_match_their_dequantised_model),
        cmocka_unit_test(mlx_directories_match_their_dequantised_model),
        cmocka_unit_test(a_trained_model_survives_every_type),
        cmocka_unit_test(gguf_copies_match_the_goldens),
    };
    return cmocka_run_group_tests(tests, test_dir_open, test_dir_close);
}
