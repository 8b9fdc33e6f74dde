/* test_train_pass.c: what a training pass promises beside right gradients: examples apart, the same bits for any
 * number of threads and when layers are computed again, memory as planned, refusals.
 */
#include "support/trainee.h"
#include "unit/failing_allocator.h"

#include <math.h>

enum { MAX_TOK = 96 };

static int setup(void **state)
{
    return test_dir_open(state);
}

static const struct trainee_plan PLAIN = {.rank = 4, .scale = 0.5F},
                                 DORA = {.rank = 3, .scale = 0.7F, .magnitude = true},
                                 DROPS = {.rank = 4, .scale = 0.5F, .dropout = 0.25F};

/* A model, what is trained of it, and a tape. */
struct scene {
    struct graft_runtime rt;
    struct model *model;
    struct trainee trainee;
    struct train_tape *tape;
    struct lesson lesson;
};

static void scene_open(struct scene *s, const char *path, int threads, const struct kernels *tier)
{
    runtime_start(&s->rt, threads, tier);
    s->model = open_model(&s->rt, path);
    trainee_open(&s->trainee, s->model);
    lesson_open(&s->lesson, MAX_TOK, 4);
    s->tape = NULL;
}

static void scene_close(struct scene *s)
{
    train_tape_close(&s->tape);
    lesson_free(&s->lesson);
    trainee_free(&s->trainee);
    model_close(&s->model);
    runtime_stop(&s->rt);
}

static void add_everywhere(struct scene *s, const struct trainee_plan *plan)
{
    for (int i = 0; i < model_n_sites(s->model); i++)
        trainee_add_delta(&s->trainee, i, plan);
}

static void add_lessons(struct scene *s)
{
    lesson_add_random(&s->lesson, s->model, 20, 1);
    lesson_add_random(&s->lesson, s->model, 9, 2);
    lesson_add_random(&s->lesson, s->model, 31, 3);
}

/* Runs the lesson on a fresh tape. */
static struct train_result learn(struct scene *s, const struct train_options *options)
{
    train_tape_close(&s->tape);
    s->tape = open_tape(&s->trainee, options);
    refresh_tape(s->tape);
    trainee_zero_gradients(&s->trainee);
    return run_tape(s->tape, &s->lesson.batch, true);
}

/* All gradients in a row; malloc'ed. */
static float *gradients(const struct trainee *t, size_t *n)
{
    *n = 0;
    for (size_t i = 0; i < t->n_tensors; i++)
        *n += trainee_count(&t->tensors[i]);
    float *out = malloc(*n * sizeof(float)), *at = out;
    for (size_t i = 0; i < t->n_tensors; i++) {
        size_t count = trainee_count(&t->tensors[i]);
        memcpy(at, t->tensors[i].trained.grad, count * sizeof(float));
        at += count;
    }
    return out;
}

/* The largest difference of a tensor's gradients to `want`, a row of them, relative to the largest there. */
static double difference(const struct trainee *t, const float *want)
{
    double worst = 0;
    for (size_t i = 0; i < t->n_tensors; i++) {
        size_t count = trainee_count(&t->tensors[i]);
        double off = relative_error(t->tensors[i].trained.grad, want, count);
        worst = off <= worst ? worst : off;
        want += count;
    }
    return worst;
}

static void write_f32(const char *arch)
{
    struct oracle_model weights;
    oracle_model_make(&weights, oracle_config(arch), 1);
    oracle_write_hf(&weights, at(arch), GRAFT_TYPE_F32);
    oracle_model_free(&weights);
}

/* ---- examples ----------------------------------------------------------------------------- */

static void gradients_of_a_batch_are_the_sum_of_its_examples(void **state)
{
    (void)state;
    struct scene s;
    const struct train_options options = {.max_tok = MAX_TOK};
    write_f32("qwen2");
    scene_open(&s, at("qwen2"), 2, NULL);
    add_everywhere(&s, &DROPS);
    add_lessons(&s);
    struct train_result all = learn(&s, &options);
    size_t n;
    float *want = gradients(&s.trainee, &n);
    const struct train_batch batch = s.lesson.batch;
    double nll = 0, weight = 0;
    int64_t n_targets = 0;
    trainee_zero_gradients(&s.trainee);
    for (int e = batch.n_examples - 1; e >= 0; e--) {
        int first = batch.starts[e], starts[2] = {0, batch.starts[e + 1] - first};
        uint64_t number = (uint64_t)e;
        struct train_batch one = batch;
        one.n_tok = starts[1];
        one.n_examples = 1;
        one.starts = starts;
        one.tokens += first;
        one.targets += first;
        one.weights += first;
        one.examples = &number;
        struct train_result result = run_tape(s.tape, &one, true);
        nll += result.nll;
        weight += result.weight;
        n_targets += result.n_targets;
    }
    assert_true(difference(&s.trainee, want) < 1e-5);
    assert_true(fabs(nll / all.nll - 1) < 1e-7);
    assert_true(fabs(weight / all.weight - 1) < 1e-12);
    assert_int_equal(n_targets, all.n_targets);
    free(want);
    scene_close(&s);
}

static void losses_are_those_of_a_forward_pass(void **state)
{
    (void)state;
    struct scene s;
    const struct train_options options = {.max_tok = MAX_TOK};
    write_f32("mistral");
    scene_open(&s, at("mistral"), 2, NULL);
    add_lessons(&s);
    struct train_result result = learn(&s, &options);
    double nll = 0, plain = 0;
    int64_t n_right = 0, n_vocab = s.model->config.n_vocab;
    for (int e = 0; e < 3; e++) {
        int first = s.lesson.starts[e], n = s.lesson.starts[e + 1] - first;
        float *logits =
            run_tokens(s.model, s.lesson.tokens + first, n, (struct run){ROLE_PREFILL, KV_F32, 64});
        for (int i = 0; i < n; i++) {
            float *row = logits + i * n_vocab, weight = s.lesson.weights[first + i];
            int32_t target = s.lesson.targets[first + i], best = 0;
            for (int32_t k = 0; k < n_vocab; k++)
                best = row[k] > row[best] ? k : best;
            double logit = (double)row[target];
            double own = s.rt.kernels->softmax(row, n_vocab) - logit;
            nll += (double)weight * own;
            plain += weight != 0 ? own : 0;
            n_right += weight != 0 && best == target;
        }
        free(logits);
    }
    assert_true(fabs(result.nll / nll - 1) < 1e-6);
    assert_true(fabs(result.plain_nll / plain - 1) < 1e-6);
    assert_int_equal(result.n_right, n_right);
    assert_int_equal(result.n_targets, 57);
    scene_close(&s);
}

static void rows_of_logits_at_a_time_do_not_matter(void **state)
{
    (void)state;
    struct scene s;
    size_t n;
    write_f32("llama");
    scene_open(&s, at("llama"), 2, NULL);
    add_everywhere(&s, &PLAIN);
    trainee_add_norm(&s.trainee, model_final_norm(s.model));
    add_lessons(&s);
    double all = learn(&s, &(struct train_options){.max_tok = MAX_TOK}).nll;
    float *want = gradients(&s.trainee, &n);
    for (int rows = 1; rows < 40; rows += 17) {
        double nll = learn(&s, &(struct train_options){.max_tok = MAX_TOK, .loss_rows = rows}).nll;
        assert_true(nll == all);
        assert_true(difference(&s.trainee, want) < 1e-5);
    }
    free(want);
    scene_close(&s);
}

/* ---- dropout ------------------------------------------------------------------------------ */

static void dropout_differs_by_step_and_is_off_in_evaluation(void **state)
{
    (void)state;
    struct scene s;
    const struct train_options options = {.max_tok = MAX_TOK};
    write_f32("llama");
    scene_open(&s, at("llama"), 1, NULL);
    add_everywhere(&s, &PLAIN);
    add_lessons(&s);
    double without = learn(&s, &options).nll;
    for (int i = 0; i < model_n_sites(s.model); i++)
        s.trainee.set.sites[i].delta.dropout = 0.5F;
    double with = learn(&s, &options).nll;
    assert_true(with != without);
    assert_true(run_tape(s.tape, &s.lesson.batch, false).nll == with);
    s.lesson.batch.step++;
    assert_true(run_tape(s.tape, &s.lesson.batch, false).nll != with);
    s.lesson.batch.dropout = false;
    assert_true(run_tape(s.tape, &s.lesson.batch, false).nll == without);
    scene_close(&s);
}

/* ---- bits --------------------------------------------------------------------------------- */

/* The gradients of one run of everything there is. */
static float *gradients_with(const char *path, int threads, const struct kernels *tier,
                             const struct train_options *options, size_t *n, double *nll)
{
    struct scene s;
    const struct trainee_plan dora = {
        .rank = 5, .scale = 0.7F, .dropout = 0.1F, .magnitude = true, .bias = true};
    scene_open(&s, path, threads, tier);
    add_everywhere(&s, &dora);
    trainee_add_embed_delta(&s.trainee, &DORA);
    for (int i = 0; i < model_n_norms(s.model); i++)
        if (model_norm_weight(s.model, i))
            trainee_add_norm(&s.trainee, i);
    add_lessons(&s);
    *nll = learn(&s, options).nll;
    float *out = gradients(&s.trainee, n);
    scene_close(&s);
    return out;
}

static void bits_do_not_depend_on_threads(void **state)
{
    (void)state;
    const struct train_options options = {.max_tok = MAX_TOK, .loss_rows = 16};
    struct oracle_model weights;
    oracle_model_make(&weights, oracle_config_wide("qwen3"), 1);
    oracle_write_gguf(&weights, at("q8.gguf"), GRAFT_TYPE_Q8_0);
    oracle_model_free(&weights);
    for (int tier = 0; kernels_tier(tier); tier++) {
        size_t n;
        double nll[4];
        float *one = gradients_with(at("q8.gguf"), 1, kernels_tier(tier), &options, &n, &nll[0]);
        for (int threads = 2; threads <= 3; threads++) {
            float *more = gradients_with(at("q8.gguf"), threads, kernels_tier(tier), &options, &n,
                                         &nll[threads]);
            assert_true(nll[threads] == nll[0]);
            assert_memory_equal(one, more, n * sizeof(float));
            free(more);
        }
        free(one);
    }
}

static void layers_computed_again_give_the_same_bits(void **state)
{
    (void)state;
    write_f32("qwen3");
    size_t n;
    double nll[2];
    struct train_options options = {.max_tok = MAX_TOK};
    float *kept = gradients_with(at("qwen3"), 2, NULL, &options, &n, &nll[0]);
    options.checkpoint = true;
    float *again = gradients_with(at("qwen3"), 2, NULL, &options, &n, &nll[1]);
    assert_true(nll[0] == nll[1]);
    assert_memory_equal(kept, again, n * sizeof(float));
    free(kept);
    free(again);
}

static void halves_are_near(void **state)
{
    (void)state;
    write_f32("qwen3");
    struct scene s;
    size_t n;
    struct train_options options = {.max_tok = MAX_TOK};
    scene_open(&s, at("qwen3"), 2, NULL);
    add_everywhere(&s, &DORA);
    add_lessons(&s);
    double nll = learn(&s, &options).nll;
    float *want = gradients(&s.trainee, &n);
    options.half = true;
    for (int checkpoint = 0; checkpoint < 2; checkpoint++) {
        options.checkpoint = checkpoint;
        double half_nll = learn(&s, &options).nll;
        assert_true(fabs(half_nll - nll) < 2e-3 * nll);
        double off = difference(&s.trainee, want);
        assert_true(off > 1e-5 && off < 0.06);
    }
    free(want);
    scene_close(&s);
}

static void layers_below_what_is_trained_change_nothing(void **state)
{
    (void)state;
    write_f32("llama");
    struct scene all, last;
    const struct train_options options = {.max_tok = MAX_TOK};
    scene_open(&all, at("llama"), 1, NULL);
    scene_open(&last, at("llama"), 1, NULL);
    for (int layer = 0; layer < 3; layer++)
        trainee_add_delta(&all.trainee, model_site(layer, LINEAR_K), &PLAIN);
    for (size_t i = 0; i < 4; i++) /* frozen factors count, and are not trained */
        (i % 2 ? &all.trainee.set.sites[model_site((int)i / 2, LINEAR_K)].delta.b
               : &all.trainee.set.sites[model_site((int)i / 2, LINEAR_K)].delta.a)
            ->grad = NULL;
    add_lessons(&all);
    double nll = learn(&all, &options).nll;
    for (size_t i = 0; i < 4; i++)
        for (size_t k = 0; k < trainee_count(&all.trainee.tensors[i]); k++)
            assert_true(trainee_gradient(&all.trainee.tensors[i], k) == 0);
    size_t frozen = train_tape_kept_bytes(all.tape);

    for (int layer = 0; layer < 3; layer++)
        trainee_add_delta(&last.trainee, model_site(layer, LINEAR_K), &PLAIN);
    add_lessons(&last);
    assert_true(learn(&last, &options).nll == nll);
    for (size_t i = 4; i < 6; i++)
        assert_memory_equal(all.trainee.tensors[i].trained.grad,
                            last.trainee.tensors[i].trained.grad,
                            trainee_count(&last.trainee.tensors[i]) * sizeof(float));
    assert_true(frozen < train_tape_kept_bytes(last.tape) / 2);
    scene_close(&all);
    scene_close(&last);
}

/* ---- quantised weights -------------------------------------------------------------------- */

/* Gradients through the weights of a file against those through the same values as floats. */
static void compare_with_floats(const char *path, const char *floats, const struct kernels *tier,
                                double loss_bound, double bound)
{
    const struct train_options options = {.max_tok = MAX_TOK};
    struct scene s;
    size_t n;
    scene_open(&s, floats, 2, exact_tier());
    add_everywhere(&s, &DORA);
    add_lessons(&s);
    double nll = learn(&s, &options).nll;
    float *want = gradients(&s.trainee, &n);
    scene_close(&s);
    for (int packed = 0; packed < 2; packed++) {
        graft_error error = {0};
        scene_open(&s, path, 2, tier);
        model_close(&s.model);
        if (model_open(&s.rt, path, &(struct model_options){.pack = packed ? "auto" : "none"},
                       &s.model, &error) != GRAFT_OK)
            fail_msg("%s", error.message);
        s.trainee.model = s.model;
        add_everywhere(&s, &DORA);
        add_lessons(&s);
        double off = fabs(learn(&s, &options).nll / nll - 1);
        if (!(off <= loss_bound && difference(&s.trainee, want) <= bound))
            fail_msg("%s on %s: the loss is off by %g, gradients by %g", path, s.rt.kernels->tier,
                     off, difference(&s.trainee, want));
        scene_close(&s);
    }
    free(want);
}

static void quantised_weights_are_what_they_say(void **state)
{
    (void)state;
    static const graft_type TYPES[] = {GRAFT_TYPE_Q8_0, GRAFT_TYPE_Q4_0, GRAFT_TYPE_Q4_K};
    for (size_t i = 0; i <= ARRAY_LEN(TYPES); i++) {
        struct oracle_model weights;
        bool mlx = i == ARRAY_LEN(TYPES);
        const char *path = mlx ? at("mlx") : at("quantised.gguf");
        oracle_model_make(&weights, oracle_config_wide("qwen2"), 1);
        if (mlx)
            oracle_write_mlx(
                &weights, path,
                &(struct oracle_mlx){.bits = 4, .group = 64, .scale_type = GRAFT_TYPE_F16});
        else
            oracle_write_gguf(&weights, path, TYPES[i]);
        oracle_write_hf(&weights, at("floats"), GRAFT_TYPE_F32);
        oracle_model_free(&weights);
        for (int tier = 0; kernels_tier(tier); tier++)
            if (kernels_tier(tier)->quantised_panels == PANEL_F32)
                compare_with_floats(path, at("floats"), kernels_tier(tier), 1e-5, 1e-4);
            else /* products of bf16 */
                compare_with_floats(path, at("floats"), kernels_tier(tier), 1e-3, 6e-2);
    }
}

/* ---- memory ------------------------------------------------------------------------------- */

static void a_pass_allocates_nothing_and_memory_is_as_measured(void **state)
{
    (void)state;
    struct scene s;
    size_t bytes, kept, less, least;
    struct train_options options = {.max_tok = MAX_TOK};
    struct failing_allocator counts = {0};
    write_f32("qwen2");
    scene_open(&s, at("qwen2"), 2, NULL);
    add_everywhere(&s, &DROPS);
    add_lessons(&s);
    learn(&s, &options);
    const graft_allocator before = s.rt.mem.allocator;
    s.rt.mem.allocator = (graft_allocator){failing_alloc, failing_resize, failing_release, &counts};
    refresh_tape(s.tape);
    run_tape(s.tape, &s.lesson.batch, true);
    s.rt.mem.allocator = before;
    assert_int_equal(counts.calls, 0);
    assert_int_equal(train_tape_measure(s.model, &s.trainee.set, &options, &bytes, &kept, NULL),
                     GRAFT_OK);
    assert_int_equal(bytes, train_tape_bytes(s.tape));
    assert_int_equal(kept, train_tape_kept_bytes(s.tape));
    options.half = true;
    train_tape_measure(s.model, &s.trainee.set, &options, &bytes, &less, NULL);
    options.checkpoint = true;
    train_tape_measure(s.model, &s.trainee.set, &options, &bytes, &least, NULL);
    assert_true(10 * less < 7 * kept && 5 * least < less);
    scene_close(&s);
}

/* ---- refusals ----------------------------------------------------------------------------- */

static void expect_refusal(struct scene *s, const char *words)
{
    graft_error error = {0};
    struct train_tape *tape = NULL;
    const struct train_options options = {.max_tok = MAX_TOK};
    assert_int_equal(train_tape_open(s->model, &s->trainee.set, &options, &tape, &error),
                     GRAFT_INVALID_ARGUMENT);
    assert_null(tape);
    assert_non_null(strstr(error.message, words));
}

static void what_cannot_be_trained_is_refused(void **state)
{
    (void)state;
    struct scene s;
    float value = 0;
    write_f32("llama");
    scene_open(&s, at("llama"), 1, NULL);
    trainee_add_delta(&s.trainee, model_site(0, LINEAR_Q), &DROPS);
    trainee_add_delta(&s.trainee, model_site(0, LINEAR_V), &PLAIN);
    expect_refusal(&s, "another that reads the same input");
    s.trainee.set.sites[model_site(0, LINEAR_V)].delta.dropout = 1;
    expect_refusal(&s, "a dropout of 1");
    s.trainee.set.sites[model_site(0, LINEAR_V)].delta.dropout = 0.25F;
    s.trainee.set.sites[model_site(0, LINEAR_V)].delta.scale = NAN;
    expect_refusal(&s, "scale is not finite");
    s.trainee.set.sites[model_site(0, LINEAR_V)].delta.scale = 1;
    s.trainee.set.sites[3].bias.value = &value;
    expect_refusal(&s, "no bias");
    s.trainee.set.sites[3].bias.value = NULL;
    s.trainee.set.norms[model_norm(0, NORM_Q)].value = &value;
    expect_refusal(&s, "norm 2: the model has none");
    s.trainee.set.norms[model_norm(0, NORM_Q)].value = NULL;
    s.trainee.set.embed_delta = s.trainee.set.sites[0].delta;
    expect_refusal(&s, "no dropout and no bias");
    scene_close(&s);
}

static void expect_batch_refusal(struct scene *s, const char *words)
{
    graft_error error = {0};
    struct train_result result;
    assert_int_equal(train_tape_run(s->tape, &s->lesson.batch, true, &result, &error),
                     GRAFT_INVALID_ARGUMENT);
    assert_non_null(strstr(error.message, words));
}

static void batches_that_cannot_be_are_refused(void **state)
{
    (void)state;
    struct scene s;
    write_f32("llama");
    scene_open(&s, at("llama"), 1, NULL);
    trainee_add_delta(&s.trainee, 0, &PLAIN);
    add_lessons(&s);
    learn(&s, &(struct train_options){.max_tok = 60});
    s.lesson.tokens[4] = 331;
    expect_batch_refusal(&s, "token 4 of a batch is 331");
    s.lesson.tokens[4] = 5;
    s.lesson.targets[5] = -1;
    expect_batch_refusal(&s, "target 5 of a batch is -1");
    s.lesson.weights[5] = 0; /* then nobody reads it */
    run_tape(s.tape, &s.lesson.batch, true);
    s.lesson.starts[1] = s.lesson.starts[2];
    expect_batch_refusal(&s, "example 1 has no token");
    s.lesson.starts[3]++;
    expect_batch_refusal(&s, "are not its 60 tokens");
    s.lesson.batch.n_tok = 61;
    expect_batch_refusal(&s, "takes 1 to 60");
    scene_close(&s);
}

static void a_magnitude_of_nothing_is_refused(void **state)
{
    (void)state;
    struct scene s;
    graft_error error = {0};
    const struct train_options options = {.max_tok = MAX_TOK};
    write_f32("llama");
    scene_open(&s, at("llama"), 1, NULL);
    trainee_add_delta(&s.trainee, 0, &DORA);
    trainee_add_weight(&s.trainee, 0);
    struct trained *weight = &s.trainee.set.sites[0].weight, *b = &s.trainee.set.sites[0].delta.b;
    memset(weight->value + 2 * 96, 0, 96 * sizeof(float));
    for (int r = 0; r < 3; r++)
        b->value[r * 96 + 2] = 0;
    s.tape = open_tape(&s.trainee, &options);
    assert_int_equal(train_tape_refresh(s.tape, &error), GRAFT_NUMERIC);
    assert_non_null(strstr(error.message, "row 2 of W + s B A"));
    scene_close(&s);
}

static void what_is_not_a_number_shows_in_the_result(void **state)
{
    (void)state;
    struct scene s;
    write_f32("llama");
    scene_open(&s, at("llama"), 1, NULL);
    trainee_add_delta(&s.trainee, 0, &PLAIN);
    s.trainee.set.sites[0].delta.a.value[0] = NAN;
    add_lessons(&s);
    assert_true(isnan(learn(&s, &(struct train_options){.max_tok = MAX_TOK}).nll));
    scene_close(&s);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(gradients_of_a_batch_are_the_sum_of_its_examples),
        cmocka_unit_test(losses_are_those_of_a_forward_pass),
        cmocka_unit_test(rows_of_logits_at_a_time_do_not_matter),
        cmocka_unit_test(dropout_differs_by_step_and_is_off_in_evaluation),
        cmocka_unit_test(bits_do_not_depend_on_threads),
        cmocka_unit_test(layers_computed_again_give_the_same_bits),
        cmocka_unit_test(halves_are_near),
        cmocka_unit_test(layers_below_what_is_trained_change_nothing),
        cmocka_unit_test(quantised_weights_are_what_they_say),
        cmocka_unit_test(a_pass_allocates_nothing_and_memory_is_as_measured),
        cmocka_unit_test(what_cannot_be_trained_is_refused),
        cmocka_unit_test(batches_that_cannot_be_are_refused),
        cmocka_unit_test(a_magnitude_of_nothing_is_refused),
        cmocka_unit_test(what_is_not_a_number_shows_in_the_result),
    };
    return cmocka_run_group_tests(tests, setup, test_dir_close);
}
