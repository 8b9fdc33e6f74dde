/* test_gradients.c: gradients of whole small models against central differences of the loss: everything that can be
 * trained, every kind of model, frozen weights of several types.
 *
 * Differences are taken along directions: that of a tensor's own gradient, whose slope is its length, and random
 * ones, along which nothing can hide that was forgotten. The tier is the fastest whose products are floats: rounding to
 * bf16 would be larger than the differences. Factors under a magnitude are left out, since the norm counts as
 * a constant: goldens and test_train_pass.c have those.
 */
#include "support/trainee.h"

#include <math.h>

enum { MAX_TOK = 48 };

static struct graft_runtime rt;

static int setup(void **state)
{
    runtime_start(&rt, 2, exact_tier());
    return test_dir_open(state);
}

static int teardown(void **state)
{
    runtime_stop(&rt);
    return test_dir_close(state);
}

/* ---- differences -------------------------------------------------------------------------- */

struct check {
    struct trainee *trainee;
    struct train_tape *tape;
    struct lesson *lesson;
};

static double loss_at(struct check *c, struct trained *where, const float *from, const float *d,
                      double h, size_t n)
{
    for (size_t i = 0; i < n; i++)
        where->value[i] = (float)((double)from[i] + h * (double)d[i]);
    refresh_tape(c->tape);
    double loss = run_tape(c->tape, &c->lesson->batch, false).nll;
    memcpy(where->value, from, n * sizeof(*from));
    return loss;
}

static double length(const float *x, size_t n)
{
    double sum = 0;
    for (size_t i = 0; i < n; i++)
        sum += (double)x[i] * (double)x[i];
    return sqrt(sum);
}

/* A slope of `typical` size is to be seen along d, which is of length 1. */
static void check_direction(struct check *c, struct trainee_tensor *t, const float *from,
                            const float *d, double typical)
{
    static const double CHANGE = 0.03, BOUND = 0.01, NOISE = 1e-4;
    size_t n = trainee_count(t);
    double slope = 0, most = 0.2 * (length(from, n) + 0.1), h = CHANGE / typical;
    h = h < most ? h : most;
    for (size_t i = 0; i < n; i++)
        slope += (double)d[i] * (double)t->trained.grad[i];
    double up = loss_at(c, &t->trained, from, d, h, n);
    double down = loss_at(c, &t->trained, from, d, -h, n);
    double got = (up - down) / 2, want = h * slope;
    double scale = fabs(want) > h * typical ? fabs(want) : h * typical;
    if (!(fabs(got - want) <= BOUND * scale + NOISE))
        fail_msg("%s: the loss changes by %g, its gradient says %g (step %g)", t->name, got, want,
                 h);
}

static void check_tensor(struct check *c, struct trainee_tensor *t, int seed)
{
    size_t n = trainee_count(t);
    float *from = malloc(n * sizeof(float)), *d = malloc(n * sizeof(float));
    double all = length(t->trained.grad, n);
    struct rng rng;
    rng_init(&rng, (uint64_t)seed, n);
    assert_true(all > 0);
    memcpy(from, t->trained.value, n * sizeof(float));
    for (size_t i = 0; i < n; i++)
        d[i] = (float)((double)t->trained.grad[i] / all);
    check_direction(c, t, from, d, all);
    for (int k = 0; k < 3; k++) {
        for (size_t i = 0; i < n; i++)
            d[i] = (float)((rng_u32(&rng) & 1 ? 1 : -1) / sqrt((double)n));
        check_direction(c, t, from, d, all / sqrt((double)n));
    }
    refresh_tape(c->tape);
    free(from);
    free(d);
}

/* Is it a factor beside a magnitude? */
static bool has_constant_norm(const struct trainee *t, const struct trainee_tensor *tensor)
{
    for (int i = 0; i <= model_n_sites(t->model); i++) {
        const struct train_delta *d =
            i < model_n_sites(t->model) ? &t->set.sites[i].delta : &t->set.embed_delta;
        if (d->magnitude.value &&
            (d->a.value == tensor->trained.value || d->b.value == tensor->trained.value))
            return true;
    }
    return false;
}

/* Every tensor, under two examples. */
static void check_trainee(struct trainee *t)
{
    struct lesson lesson;
    const struct train_options options = {.max_tok = MAX_TOK, .loss_rows = 10};
    lesson_open(&lesson, MAX_TOK, 2);
    lesson_add_random(&lesson, t->model, 17, 1);
    lesson_add_random(&lesson, t->model, 12, 2);
    if (t->model->config.n_labels)
        for (int i = 0; i < lesson.batch.n_tok; i++) {
            lesson.targets[i] = i % t->model->config.n_labels;
            lesson.weights[i] = i == 16 || i == 28;
        }
    struct check check = {t, open_tape(t, &options), &lesson};
    refresh_tape(check.tape);
    run_tape(check.tape, &lesson.batch, true);
    for (size_t i = 0; i < t->n_tensors; i++)
        if (!has_constant_norm(t, &t->tensors[i]))
            check_tensor(&check, &t->tensors[i], (int)i);
    train_tape_close(&check.tape);
    lesson_free(&lesson);
}

/* ---- models ------------------------------------------------------------------------------- */

/* Opens what the config says, as F32. */
static struct model *open_f32(json_t *config)
{
    struct oracle_model weights;
    oracle_model_make(&weights, config, 1);
    oracle_write_hf(&weights, at("f32"), GRAFT_TYPE_F32);
    oracle_model_free(&weights);
    return open_model(&rt, at("f32"));
}

static struct model *open_gguf(json_t *config, graft_type type)
{
    struct oracle_model weights;
    oracle_model_make(&weights, config, 1);
    oracle_write_gguf(&weights, at("model.gguf"), type);
    oracle_model_free(&weights);
    return open_model(&rt, at("model.gguf"));
}

static struct model *open_mlx(json_t *config)
{
    struct oracle_model weights;
    oracle_model_make(&weights, config, 1);
    oracle_write_mlx(&weights, at("mlx"),
                     &(struct oracle_mlx){.bits = 4, .group = 64, .scale_type = GRAFT_TYPE_F16});
    oracle_model_free(&weights);
    return open_model(&rt, at("mlx"));
}

static const struct trainee_plan PLAIN = {.rank = 4, .scale = 0.5F};

/* Factors at all linears of the middle layer, and at q and down of the others. */
static void add_deltas(struct trainee *t, const struct trainee_plan *plan)
{
    for (int i = 0; i < LINEAR_COUNT; i++)
        trainee_add_delta(t, model_site(1, (enum linear_id)i), plan);
    trainee_add_delta(t, model_site(0, LINEAR_Q), plan);
    trainee_add_delta(t, model_site(0, LINEAR_DOWN), plan);
    trainee_add_delta(t, model_site(2, LINEAR_Q), plan);
    trainee_add_delta(t, model_site(2, LINEAR_DOWN), plan);
}

static void check_model(struct model *model, const struct trainee_plan *plan)
{
    struct trainee t;
    trainee_open(&t, model);
    add_deltas(&t, plan);
    check_trainee(&t);
    trainee_free(&t);
    model_close(&model);
}

/* ---- tests -------------------------------------------------------------------------------- */

static void factors_through_every_kind_of_model(void **state)
{
    (void)state;
    static const char *const ARCHS[] = {"llama",   "llama-bias", "llama-linear", "llama3",
                                        "mistral", "qwen2",      "qwen3"};
    for (size_t i = 0; i < ARRAY_LEN(ARCHS); i++)
        check_model(open_f32(oracle_config(ARCHS[i])), &PLAIN);
}

static void factors_through_yarn(void **state)
{
    (void)state;
    json_t *config = oracle_config("qwen2");
    json_object_set_new(config, "rope_scaling",
                        json_pack("{s:s, s:f, s:i}", "rope_type", "yarn", "factor", 4.0,
                                  "original_max_position_embeddings", 64));
    check_model(open_f32(config), &PLAIN);
}

static void factors_through_interleaved_heads_of_a_gguf(void **state)
{
    (void)state;
    struct model *model = open_gguf(oracle_config("llama"), GRAFT_TYPE_F32);
    assert_true(model->config.rope.interleaved);
    check_model(model, &PLAIN);
}

static void factors_through_quantised_weights(void **state)
{
    (void)state;
    static const graft_type TYPES[] = {GRAFT_TYPE_Q8_0, GRAFT_TYPE_Q4_0, GRAFT_TYPE_Q4_K,
                                       GRAFT_TYPE_Q6_K};
    for (size_t i = 0; i < ARRAY_LEN(TYPES); i++)
        check_model(open_gguf(oracle_config_wide("qwen2"), TYPES[i]), &PLAIN);
    check_model(open_mlx(oracle_config_wide("llama")), &PLAIN);
}

static void biases_of_deltas_and_magnitudes(void **state)
{
    (void)state;
    const struct trainee_plan biased = {.rank = 3, .scale = 0.7F, .bias = true},
                              dora = {.rank = 3, .scale = 0.7F, .magnitude = true};
    check_model(open_f32(oracle_config("qwen2")), &biased);
    check_model(open_f32(oracle_config("qwen2")), &dora);
    check_model(open_gguf(oracle_config_wide("qwen3"), GRAFT_TYPE_Q4_K), &dora);
}

static void dropout_under_a_fixed_mask(void **state)
{
    (void)state;
    const struct trainee_plan drops = {.rank = 4, .scale = 0.7F, .dropout = 0.3F};
    check_model(open_f32(oracle_config("qwen2")), &drops);
}

static void embedding_and_head(void **state)
{
    (void)state;
    const struct trainee_plan dora = {.rank = 3, .scale = 0.7F, .magnitude = true};
    for (int magnitude = 0; magnitude < 2; magnitude++) {
        struct trainee t;
        struct model *model = open_f32(oracle_config("qwen2"));
        trainee_open(&t, model);
        trainee_add_embed_delta(&t, magnitude ? &dora : &PLAIN);
        trainee_add_delta(&t, model_head_site(model), magnitude ? &dora : &PLAIN);
        trainee_add_delta(&t, model_site(2, LINEAR_V), &PLAIN);
        check_trainee(&t);
        trainee_free(&t);
        model_close(&model);
    }
}

static void norms_and_biases_of_the_base(void **state)
{
    (void)state;
    struct trainee t;
    struct model *model = open_f32(oracle_config("qwen3"));
    trainee_open(&t, model);
    for (int i = 0; i < model_n_norms(model); i++)
        trainee_add_norm(&t, i);
    check_trainee(&t);
    trainee_free(&t);
    model_close(&model);
    model = open_f32(oracle_config("qwen2"));
    trainee_open(&t, model);
    for (int layer = 0; layer < 3; layer++)
        for (int i = LINEAR_Q; i <= LINEAR_V; i++)
            trainee_add_bias(&t, model_site(layer, (enum linear_id)i));
    check_trainee(&t);
    trainee_free(&t);
    model_close(&model);
}

static void all_weights_of_a_model(void **state)
{
    (void)state;
    for (int tied = 0; tied < 2; tied++) {
        struct trainee t;
        struct model *model = open_f32(oracle_config(tied ? "qwen2" : "llama"));
        trainee_open(&t, model);
        for (int i = 0; i < model_n_sites(model) - tied; i++)
            trainee_add_weight(&t, i);
        for (int i = 0; i < model_n_norms(model); i++)
            if (model_norm_weight(model, i))
                trainee_add_norm(&t, i);
        trainee_add_embed(&t, tied);
        check_trainee(&t);
        trainee_free(&t);
        model_close(&model);
    }
}

static void the_score_head_of_a_classifier(void **state)
{
    (void)state;
    struct trainee t;
    struct model *model = open_f32(oracle_config("qwen2-cls"));
    trainee_open(&t, model);
    add_deltas(&t, &PLAIN);
    trainee_add_weight(&t, model_head_site(model));
    check_trainee(&t);
    trainee_free(&t);
    model_close(&model);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(factors_through_every_kind_of_model),
        cmocka_unit_test(factors_through_yarn),
        cmocka_unit_test(factors_through_interleaved_heads_of_a_gguf),
        cmocka_unit_test(factors_through_quantised_weights),
        cmocka_unit_test(biases_of_deltas_and_magnitudes),
        cmocka_unit_test(dropout_under_a_fixed_mask),
        cmocka_unit_test(embedding_and_head),
        cmocka_unit_test(norms_and_biases_of_the_base),
        cmocka_unit_test(all_weights_of_a_model),
        cmocka_unit_test(the_score_head_of_a_classifier),
    };
    return cmocka_run_group_tests(tests, setup, teardown);
}
