/* test_seam.c: low-rank deltas beside the weights are the dense weights they stand for, and a row's bytes
 * depend on its own mix alone.
 *
 * The dense weights are made in double and run without deltas; the rest is compared with bytes.
 */
#include "delta_support.h"

#include <math.h>

/* Logits against those of the dense weights, relative to the largest. */
static const double LOGITS_BOUND = 1e-4;
/* What the mix changes, ‖(y − y₀) − (z − z₀)‖ / ‖z − z₀‖: a wrong scale cannot hide in a small effect. */
static const double EFFECT_BOUND = 1e-3;
/* Rows of quantised weights also round activations: decode rows to 8 bits (class int8act), prefill rows to
 * bf16 on some tiers; bounds as in test_quantised.c. */
static const double INT8ACT_BOUND = 1e-1, BF16_BOUND = 3e-2;

static const graft_token_id TOKENS[] = {5, 17, 300, 42, 8, 99, 250, 13, 77, 201, 6, 330, 151};
enum { N_TOKENS = ARRAY_LEN(TOKENS) };

static char *dir;

static int setup(void **state)
{
    (void)state;
    dir = temp_dir();
    return 0;
}

static int teardown(void **state)
{
    (void)state;
    temp_remove(dir);
    free(dir);
    return 0;
}

static json_t *shallow(const char *arch, int layers)
{
    json_t *config = oracle_config(arch);
    json_object_set_new(config, "num_hidden_layers", json_integer(layers));
    return config;
}

/* ---- the same as dense weights ------------------------------------------------------------ */

static float *dense_logits(const struct oracle_model *weights)
{
    char path[768];
    snprintf(path, sizeof(path), "%s/dense", dir);
    oracle_write_hf(weights, path, GRAFT_TYPE_F32);
    struct graft_runtime rt;
    runtime_start(&rt, 1, kernels_tier(0));
    struct model *m = open_model(&rt, path);
    float *logits = run_mix(m, TOKENS, N_TOKENS, ROLE_PREFILL, 16, NULL);
    model_close(&m);
    runtime_stop(&rt);
    return logits;
}

struct logits {
    float *before, *after; /* of the dense weights without the mix, and with it */
};

/* One tier and role, rows in chunks on both sides of what a worker prepares for itself. */
static void check_role(const struct model *m, const struct logits *want, enum role role,
                       const struct delta_set *set, const char *what)
{
    static const int CHUNKS[] = {3, 13};
    graft_type type = m->layers[0].linear[LINEAR_Q].type;
    bool exact = role == ROLE_DECODE
                     ? act_format_for(type, role) == ACT_F32
                     : kernels_panel_format(m->runtime->kernels, type) != PANEL_BF16;
    double bound = exact ? LOGITS_BOUND : role == ROLE_DECODE ? INT8ACT_BOUND : BF16_BOUND;
    size_t n = (size_t)N_TOKENS * (size_t)model_n_logits(m);
    float *base = run_mix(m, TOKENS, N_TOKENS, role, 13, NULL);
    for (size_t i = 0; i < ARRAY_LEN(CHUNKS); i++) {
        float *got = run_mix(m, TOKENS, N_TOKENS, role, CHUNKS[i], set);
        double error = relative_error(got, want->after, n);
        double effect = effect_error(got, base, want->after, want->before, n);
        if (!(error <= bound) || (exact && !(effect <= EFFECT_BOUND)))
            fail_msg("%s, tier %s, role %d: error %.3g, of the effect %.3g", what,
                     m->runtime->kernels->tier, role, error, effect);
        free(got);
    }
    free(base);
}

/* The mix of n adapters on the model at `path`, whose values `weights` holds; they end as the dense ones. */
static void check_mix(const char *path, struct oracle_model *weights,
                      const struct adapter_plan *plans, const float *member_weights, int n,
                      const char *what)
{
    struct adapter adapters[4];
    struct logits want = {.before = dense_logits(weights)};
    for (int tier = 0; kernels_tier(tier); tier++) {
        struct graft_runtime rt;
        runtime_start(&rt, 2, kernels_tier(tier));
        struct model *m = open_model(&rt, path);
        if (tier == 0) {
            for (int i = 0; i < n; i++)
                adapter_make(&adapters[i], m, weights, &plans[i]);
            mix_into_weights(m, weights, adapters, member_weights, n);
            want.after = dense_logits(weights);
            /* the mix matters more than any bound */
            assert_true(relative_error(want.before, want.after,
                                       (size_t)N_TOKENS * (size_t)model_n_logits(m)) > 0.3);
        }
        struct delta_set *set = mix_open(m, adapters, member_weights, n);
        check_role(m, &want, ROLE_PREFILL, set, what);
        check_role(m, &want, ROLE_DECODE, set, what);
        delta_set_close(&set);
        model_close(&m);
        runtime_stop(&rt);
    }
    for (int i = 0; i < n; i++)
        adapter_free(&adapters[i]);
    free(want.before);
    free(want.after);
}

static const struct adapter_plan PLANS[] = {
    {.rank = 4, .type = GRAFT_TYPE_F32, .scale = 2, .biased = true, .head = true, .seed = 1},
    {.rank = 16, .type = GRAFT_TYPE_BF16, .scale = 0.5f, .sparse = true, .seed = 2},
    {.rank = 3, .type = GRAFT_TYPE_F16, .scale = 1, .dora = true, .biased = true, .seed = 3},
    {.rank = 9, .type = GRAFT_TYPE_Q8_0, .scale = 1, .head = true, .seed = 4},
    {.rank = 70, .type = GRAFT_TYPE_Q4_0, .scale = 1, .dora = true, .sparse = true, .seed = 5},
};

static void each_adapter_is_its_dense_weights(void **state)
{
    (void)state;
    static const float WEIGHTS[] = {1, 1.5f, 1, -0.75f, 0.5f};
    char path[768], what[64];
    snprintf(path, sizeof(path), "%s/float", dir);
    for (size_t i = 0; i < ARRAY_LEN(PLANS); i++) {
        struct oracle_model weights;
        oracle_model_make(&weights, shallow("llama-bias", 2), 1);
        oracle_write_hf(&weights, path, GRAFT_TYPE_F32);
        snprintf(what, sizeof(what), "adapter %d on floats", PLANS[i].seed);
        check_mix(path, &weights, &PLANS[i], &WEIGHTS[i], 1, what);
        oracle_model_free(&weights);
    }
}

static void a_mix_is_the_weighted_sum_of_dense_differences(void **state)
{
    (void)state;
    static const float WEIGHTS[] = {0.75f, -0.5f, 1.25f, 0};
    char path[768];
    snprintf(path, sizeof(path), "%s/mix", dir);
    struct oracle_model weights;
    oracle_model_make(&weights, shallow("llama-bias", 2), 1);
    oracle_write_hf(&weights, path, GRAFT_TYPE_F32);
    check_mix(path, &weights, PLANS, WEIGHTS, 4, "LoRA, LoRA, DoRA");
    oracle_model_free(&weights);
    const struct adapter_plan doras[] = {PLANS[2], PLANS[4]};
    oracle_model_make(&weights, shallow("llama-bias", 2), 1);
    oracle_write_hf(&weights, path, GRAFT_TYPE_F32);
    check_mix(path, &weights, doras, WEIGHTS, 2, "two DoRAs");
    oracle_model_free(&weights);
}

static void deltas_stand_beside_quantised_weights(void **state)
{
    (void)state;
    static const graft_type TYPES[] = {GRAFT_TYPE_BF16, GRAFT_TYPE_Q8_0, GRAFT_TYPE_Q4_0,
                                       GRAFT_TYPE_Q4_K};
    static const float WEIGHTS[] = {1, 0.5f};
    const struct adapter_plan plans[] = {
        {.rank = 8, .type = GRAFT_TYPE_BF16, .scale = 2, .biased = true, .seed = 6}, PLANS[2]};
    char path[768];
    snprintf(path, sizeof(path), "%s/model.gguf", dir);
    for (size_t i = 0; i < ARRAY_LEN(TYPES); i++) {
        struct oracle_model weights;
        oracle_model_make(&weights, oracle_config_wide("qwen2"), 1);
        oracle_write_gguf(&weights, path, TYPES[i]);
        check_mix(path, &weights, plans, WEIGHTS, 2, graft_type_name(TYPES[i]));
        oracle_model_free(&weights);
    }
}

/* ---- company ------------------------------------------------------------------------------ */

enum { N_MIXES = 6, N_SEQS = 2 * N_MIXES, STEPS = 5, MAX_STEP_ROWS = N_SEQS * 13 };

/* Base, an empty set, LoRA r4, LoRA r16, DoRA, a mix of three. */
static void open_mixes(const struct model *m, const struct adapter *adapters,
                       struct delta_set *mixes[N_MIXES])
{
    static const float WEIGHTS[] = {1, -0.5f, 2};
    mixes[0] = NULL;
    mixes[1] = mix_open(m, adapters, WEIGHTS, 0);
    mixes[2] = mix_open(m, &adapters[0], WEIGHTS, 1);
    mixes[3] = mix_open(m, &adapters[1], WEIGHTS, 1);
    mixes[4] = mix_open(m, &adapters[2], WEIGHTS, 1);
    mixes[5] = mix_open(m, adapters, WEIGHTS, 3);
}

static graft_token_id token_at(int seq, int pos)
{
    return (graft_token_id)((pos * 37 + seq * 101 + pos * seq * 13 + 7) % 331);
}

/* Sequence s has mix s % N_MIXES and role s / N_MIXES; in its steps it brings 1, 2, 13, 1, 1 rows. */
static int step_rows(int step)
{
    return step == 1 ? 2 : step == 2 ? 13 : 1;
}

enum { SEQ_ROWS = 18 };

/* Logits [N_SEQS, SEQ_ROWS, width] with the sequences that `together` says in one call. */
static float *run_sequences(const struct model *m, struct delta_set *const mixes[N_MIXES],
                            int together)
{
    graft_error error = {0};
    size_t width = (size_t)model_n_logits(m);
    const struct kv_pool_options options = {KV_F16, KV_F16, 64};
    struct kv_pool *pool = NULL;
    struct kv_seq *seqs[N_SEQS] = {0};
    struct workspace *ws = NULL;
    struct row rows[MAX_STEP_ROWS];
    float *out = malloc(N_SEQS * SEQ_ROWS * width * sizeof(*out));
    assert_int_equal(kv_pool_open(m, &options, &pool, &error), GRAFT_OK);
    assert_int_equal(workspace_open(m, MAX_STEP_ROWS, &ws, &error), GRAFT_OK);
    for (int s = 0; s < N_SEQS; s++)
        assert_int_equal(kv_seq_open(pool, &seqs[s], &error), GRAFT_OK);
    for (int step = 0; step < STEPS; step++)
        for (int first = 0; first < N_SEQS; first += together) {
            int n = 0, end = first + together < N_SEQS ? first + together : N_SEQS;
            /* rows of a sequence ascend, but those of others lie between them */
            for (int i = 0; i < step_rows(step); i++)
                for (int s = first; s < end; s++) {
                    int pos = (int)kv_seq_length(seqs[s]) + i;
                    rows[n++] = (struct row){.token = token_at(s, pos),
                                             .pos = pos,
                                             .seq = seqs[s],
                                             .role = (enum role)(s / N_MIXES),
                                             .want_logits = true,
                                             .deltas = mixes[s % N_MIXES]};
                }
            if (model_forward(m, rows, n, ws, &error) != GRAFT_OK)
                fail_msg("%s", error.message);
            for (int i = 0; i < n; i++) {
                int s = first + i % (end - first);
                memcpy(out + ((size_t)s * SEQ_ROWS + (size_t)rows[i].pos) * width,
                       workspace_logits(ws, i), width * sizeof(*out));
            }
        }
    for (int s = 0; s < N_SEQS; s++)
        kv_seq_close(&seqs[s]);
    workspace_close(&ws);
    kv_pool_close(&pool);
    return out;
}

/* An empty mix is the base model, and every other mix something else. */
static void check_mixes_differ(const float *logits, size_t n)
{
    size_t bytes = n * sizeof(float);
    for (int role = 0; role < ROLE_COUNT; role++) {
        const float *base = logits + (size_t)role * N_MIXES * n;
        for (int mix = 2; mix < N_MIXES; mix++)
            for (int other = 0; other < mix; other++)
                assert_int_not_equal(
                    memcmp(base + (size_t)mix * n, base + (size_t)other * n, bytes), 0);
    }
}

static void check_company(const char *path, struct oracle_model *weights)
{
    static const int TOGETHER[] = {N_SEQS, 5};
    for (int tier = 0; kernels_tier(tier); tier++) {
        float *want = NULL;
        for (int threads = 1; threads <= 3; threads++) {
            struct graft_runtime rt;
            struct adapter adapters[3];
            struct delta_set *mixes[N_MIXES];
            runtime_start(&rt, threads, kernels_tier(tier));
            struct model *m = open_model(&rt, path);
            size_t n = (size_t)SEQ_ROWS * (size_t)model_n_logits(m);
            for (int i = 0; i < 3; i++)
                adapter_make(&adapters[i], m, weights, &PLANS[i]);
            open_mixes(m, adapters, mixes);
            if (!want)
                want = run_sequences(m, mixes, 1);
            check_mixes_differ(want, n);
            for (size_t i = 0; i < ARRAY_LEN(TOGETHER); i++) {
                float *got = run_sequences(m, mixes, TOGETHER[i]);
                for (size_t s = 0; s < N_SEQS; s++)
                    if (memcmp(got + s * n, want + s * n, n * sizeof(float)))
                        fail_msg("%s, tier %s, %d threads: sequence %zu has other bytes in company",
                                 path, rt.kernels->tier, threads, s);
                free(got);
            }
            for (int i = 0; i < N_MIXES; i++)
                delta_set_close(&mixes[i]);
            for (int i = 0; i < 3; i++)
                adapter_free(&adapters[i]);
            model_close(&m);
            runtime_stop(&rt);
        }
        free(want);
    }
}

static void a_row_sees_its_own_mix_alone(void **state)
{
    (void)state;
    char path[768];
    struct oracle_model weights;
    oracle_model_make(&weights, shallow("llama-bias", 1), 1);
    snprintf(path, sizeof(path), "%s/company", dir);
    oracle_write_hf(&weights, path, GRAFT_TYPE_BF16);
    check_company(path, &weights);
    snprintf(path, sizeof(path), "%s/company.gguf", dir);
    oracle_write_gguf(&weights, path, GRAFT_TYPE_Q8_0);
    check_company(path, &weights);
    oracle_model_free(&weights);
}

static void many_rows_of_a_mix_are_the_same_as_few_at_a_time(void **state)
{
    (void)state;
    enum { MANY = 150 };
    graft_token_id tokens[MANY];
    char path[768];
    struct oracle_model weights;
    struct adapter adapter;
    const float on = 1;
    snprintf(path, sizeof(path), "%s/many", dir);
    oracle_model_make(&weights, shallow("llama", 1), 1);
    oracle_write_hf(&weights, path, GRAFT_TYPE_F32);
    for (int i = 0; i < MANY; i++)
        tokens[i] = token_at(1, i);
    for (int tier = 0; kernels_tier(tier); tier++) {
        struct graft_runtime rt;
        runtime_start(&rt, 2, kernels_tier(tier));
        struct model *m = open_model(&rt, path);
        adapter_make(&adapter, m, &weights, &PLANS[3]);
        struct delta_set *set = mix_open(m, &adapter, &on, 1);
        size_t bytes = (size_t)MANY * (size_t)model_n_logits(m) * sizeof(float);
        for (int role = 0; role < ROLE_COUNT; role++) {
            float *few = run_mix(m, tokens, MANY, (enum role)role, 7, set);
            float *many = run_mix(m, tokens, MANY, (enum role)role, MANY, set);
            assert_memory_equal(few, many, bytes);
            free(few);
            free(many);
        }
        delta_set_close(&set);
        adapter_free(&adapter);
        model_close(&m);
        runtime_stop(&rt);
    }
    oracle_model_free(&weights);
}

static void no_deltas_and_an_empty_mix_give_the_bytes_of_the_base(void **state)
{
    (void)state;
    char path[768];
    struct graft_runtime rt;
    struct oracle_model weights;
    struct adapter adapter;
    const float off = 0, on = 1;
    snprintf(path, sizeof(path), "%s/base", dir);
    oracle_model_make(&weights, shallow("llama", 1), 1);
    oracle_write_hf(&weights, path, GRAFT_TYPE_F32);
    runtime_start(&rt, 2, NULL);
    struct model *m = open_model(&rt, path);
    adapter_make(&adapter, m, &weights, &PLANS[0]);
    struct delta_set *sets[] = {NULL, mix_open(m, &adapter, &on, 0), mix_open(m, &adapter, &off, 1),
                                mix_open(m, &adapter, &on, 1)};
    size_t bytes = (size_t)N_TOKENS * (size_t)model_n_logits(m) * sizeof(float);
    for (int role = 0; role < ROLE_COUNT; role++) {
        float *base = run_mix(m, TOKENS, N_TOKENS, (enum role)role, 5, NULL);
        for (size_t i = 0; i < ARRAY_LEN(sets); i++) {
            float *got = run_mix(m, TOKENS, N_TOKENS, (enum role)role, 5, sets[i]);
            assert_int_equal(memcmp(got, base, bytes) != 0, i == ARRAY_LEN(sets) - 1);
            free(got);
        }
        free(base);
    }
    for (size_t i = 0; i < ARRAY_LEN(sets); i++)
        delta_set_close(&sets[i]);
    adapter_free(&adapter);
    model_close(&m);
    runtime_stop(&rt);
    oracle_model_free(&weights);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(each_adapter_is_its_dense_weights),
        cmocka_unit_test(a_mix_is_the_weighted_sum_of_dense_differences),
        cmocka_unit_test(deltas_stand_beside_quantised_weights),
        cmocka_unit_test(a_row_sees_its_own_mix_alone),
        cmocka_unit_test(many_rows_of_a_mix_are_the_same_as_few_at_a_time),
        cmocka_unit_test(no_deltas_and_an_empty_mix_give_the_bytes_of_the_base),
    };
    return cmocka_run_group_tests(tests, setup, teardown);
}
