/* test_train_init.c: where factors begin, and that what was trained from there is what the files say on the original
 * base: PiSSA and OLoRA are saved as plain adapters of twice the rank.
 */
#include "unit/save_fixture.h"

#include "train/train_internal.h"
#include "unit/failing_allocator.h"

#include <math.h>

enum { RANK = 4 };
static const char *const ALL[] = {"all-linear", "lm_head"};

static struct adapter_recipe recipe_of(int64_t rank)
{
    struct adapter_recipe recipe = RECIPE;
    recipe.targets = ALL;
    recipe.n_targets = 2;
    recipe.rank = rank;
    recipe.dropout = 0;
    return recipe;
}

static struct trainable *begin(const struct base *b, enum adapter_init init, bool dora)
{
    const struct adapter_recipe recipe = recipe_of(RANK);
    const struct trainable_options options = {
        .recipe = &recipe, .dropout = -1, .dora = dora, .init = init};
    graft_error error = {0};
    struct trainable *t = NULL;
    if (trainable_open(b->model, &options, &t, &error) != GRAFT_OK)
        fail_msg("%s", error.message);
    return t;
}

/* The tokens of the fixture, each of which is the target of the one before. */
struct scene {
    struct base base;
    struct trainable *trainable;
    struct train_tape *tape;
    int32_t targets[N_TOKENS];
    float weights[N_TOKENS];
    int starts[2];
};

static void scene_open(struct scene *s, const char *arch, bool gguf, enum adapter_init init,
                       bool dora)
{
    const struct train_options options = {.max_tok = N_TOKENS};
    graft_error error = {0};
    base_open(&s->base, arch, gguf);
    s->trainable = begin(&s->base, init, dora);
    for (int i = 0; i < N_TOKENS; i++) {
        s->targets[i] = TOKENS[(i + 1) % N_TOKENS];
        s->weights[i] = 1;
    }
    s->starts[0] = 0;
    s->starts[1] = N_TOKENS;
    assert_int_equal(train_tape_open(s->base.model, &s->trainable->set, &options, &s->tape, &error),
                     GRAFT_OK);
    assert_int_equal(train_tape_refresh(s->tape, &error), GRAFT_OK);
}

static void scene_close(struct scene *s)
{
    train_tape_close(&s->tape);
    trainable_close(&s->trainable);
    base_close(&s->base);
}

static double pass(struct scene *s, const float *weights, bool backward)
{
    const struct train_batch batch = {.n_tok = N_TOKENS,
                                      .n_examples = 1,
                                      .tokens = TOKENS,
                                      .starts = s->starts,
                                      .targets = s->targets,
                                      .weights = weights};
    struct train_result result;
    graft_error error = {0};
    assert_int_equal(train_tape_run(s->tape, &batch, backward, &result, &error), GRAFT_OK);
    return result.nll;
}

static void train(struct scene *s, int steps)
{
    static const struct optimiser_options HOW_TO = {
        .beta1 = 0.9, .beta2 = 0.999, .eps = 1e-8, .weight_decay = 0.01, .loraplus = 1};
    struct trainable *t = s->trainable;
    struct optimiser o;
    graft_error error = {0};
    assert_int_equal(optimiser_open(&o, NULL, t->n_values, &HOW_TO, &error), GRAFT_OK);
    for (int step = 0; step < steps; step++) {
        trainable_zero_grads(t);
        (void)pass(s, s->weights, true);
        optimiser_step(&o, s->base.model->runtime, t->parts, t->n_parts, t->values, t->grads, 5e-3,
                       1.0 / N_TOKENS);
        assert_int_equal(train_tape_refresh(s->tape, &error), GRAFT_OK);
    }
    optimiser_close(&o);
}

/* −log p of each target by an adapter on the base as it is (NULL: the base alone). */
static void file_losses(const struct scene *s, const char *path, double out[N_TOKENS])
{
    const int64_t n_vocab = s->base.model->config.n_vocab;
    float *logits = logits_of(s->base.model, path);
    for (int i = 0; i < N_TOKENS; i++) {
        float *row = logits + i * n_vocab;
        double logit = (double)row[s->targets[i]];
        out[i] = s->base.model->runtime->kernels->softmax(row, n_vocab) - logit;
    }
    free(logits);
}

static void assert_losses(struct scene *s, const double want[N_TOKENS], double bound)
{
    for (int i = 0; i < N_TOKENS; i++) {
        float one[N_TOKENS] = {0};
        one[i] = 1;
        double got = pass(s, one, false);
        if (!(fabs(got - want[i]) <= bound))
            fail_msg("token %d: the pass says %.9g, the file %.9g", i, got, want[i]);
    }
}

/* ------------------------------------------------------------------------------------------- */

static void every_beginning_changes_nothing(void **state)
{
    (void)state;
    for (int init = 0; init < ADAPTER_INITS; init++)
        for (int dora = 0; dora < 2; dora++) {
            struct scene s;
            double base[N_TOKENS];
            scene_open(&s, "qwen2", false, (enum adapter_init)init, dora);
            file_losses(&s, NULL, base);
            assert_losses(&s, base, 1e-5);
            scene_close(&s);
        }
}

static void frozen_half_is_the_first_taken_away(void **state)
{
    (void)state;
    for (int init = INIT_PISSA; init <= INIT_OLORA; init++) {
        struct base b;
        base_open(&b, "llama", true);
        struct trainable *t = begin(&b, (enum adapter_init)init, false);
        for (int i = 0; i < t->n_parts; i++) {
            const struct trainable_part *p = &t->parts[i];
            const float *first = t->values + p->at, *second = first + p->n;
            double size = 0;
            for (int64_t k = 0; k < p->n; k++) {
                assert_true(second[k] == (p->fast ? -first[k] : first[k]));
                size += (double)first[k] * (double)first[k];
            }
            assert_true(size > 1e-3);
        }
        trainable_close(&t);
        base_close(&b);
    }
}

static void trained_logits_are_those_of_the_file_on_the_original_base(void **state)
{
    (void)state;
    static const struct {
        const char *arch;
        bool gguf;
    } bases[] = {{"llama", true}, {"qwen2", false}, {"mistral", false}};
    for (size_t i = 0; i < ARRAY_LEN(bases); i++)
        for (int init = INIT_GAUSSIAN; init < ADAPTER_INITS; init++)
            for (int dora = 0; dora < 2; dora++) {
                struct scene s;
                double before[N_TOKENS], after[N_TOKENS], moved = 0;
                const struct trainable_output output = {.format = ADAPTER_PEFT,
                                                        .type = GRAFT_TYPE_F32};
                graft_error error = {0};
                scene_open(&s, bases[i].arch, bases[i].gguf, (enum adapter_init)init, dora);
                file_losses(&s, NULL, before);
                train(&s, 5);
                assert_int_equal(
                    trainable_write(s.trainable, NULL, fresh_path("trained"), &output, &error),
                    GRAFT_OK);
                file_losses(&s, at("trained"), after);
                for (int k = 0; k < N_TOKENS; k++)
                    moved += fabs(after[k] - before[k]) / N_TOKENS;
                assert_true(moved > 0.05);
                assert_losses(&s, after, 1e-4);
                scene_close(&s);
            }
}

static void training_leaves_the_frozen_half_and_counts_no_gradient_of_it(void **state)
{
    (void)state;
    struct scene s;
    scene_open(&s, "qwen2", false, INIT_PISSA, false);
    const struct trainable *t = s.trainable;
    const size_t bytes = (size_t)t->n_values * sizeof(float);
    float *before = malloc(bytes);
    assert_non_null(before);
    memcpy(before, t->values, bytes);
    train(&s, 3);
    int64_t at_part = 0, changed = 0;
    for (int i = 0; i <= t->n_parts; i++) {
        int64_t stop = i < t->n_parts ? t->parts[i].at : t->n_values;
        for (; at_part < stop; at_part++)
            assert_true(t->values[at_part] == before[at_part] && t->grads[at_part] == 0);
        for (; i < t->n_parts && at_part < stop + t->parts[i].n; at_part++)
            changed += t->values[at_part] != before[at_part];
    }
    assert_true(changed > t->n_trained * 9 / 10);
    trainable_frozen_grads(s.trainable, true);
    trainable_zero_grads(s.trainable);
    (void)pass(&s, s.weights, true);
    double frozen = 0;
    for (int64_t k = 0; k < t->parts[0].n; k++)
        frozen += fabs((double)t->grads[t->parts[0].at + t->parts[0].n + k]);
    assert_true(frozen > 0);
    free(before);
    scene_close(&s);
}

/* ---- what the factors are ------------------------------------------------------------------ */

struct factors {
    const struct matrix *w;
    float *weight;      /* [n_out, n_in] */
    const float *a, *b; /* [rank, n_in], [rank, n_out] */
    double scale;
};

static void factors_open(struct factors *f, const struct base *b, const struct trainable *t,
                         int site)
{
    const struct train_delta *d = &t->set.sites[site].delta;
    f->w = model_site_weight(b->model, site);
    f->a = d->a.value;
    f->b = d->b.value;
    f->scale = (double)d->scale;
    f->weight = malloc((size_t)(f->w->n_out * f->w->n_in) * sizeof(float));
    assert_non_null(f->weight);
    for (int64_t o = 0; o < f->w->n_out; o++)
        b->model->runtime->kernels->dequantize[f->w->type](f->w, o, 0, f->w->n_in,
                                                           f->weight + o * f->w->n_in);
}

static double product(const struct factors *f, int64_t o, int64_t i)
{
    double sum = 0;
    for (int64_t r = 0; r < RANK; r++)
        sum += (double)f->b[r * f->w->n_out + o] * (double)f->a[r * f->w->n_in + i];
    return sum;
}

static void pissa_is_what_leaves_nothing_in_its_own_directions(void **state)
{
    (void)state;
    struct base b;
    struct factors f;
    base_open(&b, "qwen2", false);
    struct trainable *t = begin(&b, INIT_PISSA, false);
    factors_open(&f, &b, t, model_site(1, LINEAR_DOWN));
    double left = 0, whole = 0, ours = 0, lengths[RANK];
    for (int64_t r = 0; r < RANK; r++) { /* columns of B and rows of A: both √(σ / s) long */
        double aa = 0, bb = 0;
        for (int64_t i = 0; i < f.w->n_in; i++)
            aa += (double)f.a[r * f.w->n_in + i] * (double)f.a[r * f.w->n_in + i];
        for (int64_t o = 0; o < f.w->n_out; o++)
            bb += (double)f.b[r * f.w->n_out + o] * (double)f.b[r * f.w->n_out + o];
        assert_true(fabs(aa / bb - 1) < 1e-5);
        lengths[r] = f.scale * sqrt(aa * bb);
        ours += lengths[r] * lengths[r];
        assert_true(r == 0 || lengths[r] <= lengths[r - 1] * (1 + 1e-6));
    }
    for (int64_t o = 0; o < f.w->n_out; o++)
        for (int64_t i = 0; i < f.w->n_in; i++) {
            double w = (double)f.weight[o * f.w->n_in + i], rest = w - f.scale * product(&f, o, i);
            whole += w * w;
            left += rest * rest;
        }
    assert_true(fabs(whole - ours - left) < 1e-4 * whole); /* Pythagoras: nothing is left of them */
    assert_true(ours > 1.5 * whole * RANK / (double)f.w->n_in); /* and they are large ones */
    free(f.weight);
    trainable_close(&t);
    base_close(&b);
}

static void olora_is_the_first_columns_of_q_and_rows_of_r(void **state)
{
    (void)state;
    struct base b;
    struct factors f;
    base_open(&b, "llama", true);
    struct trainable *t = begin(&b, INIT_OLORA, false);
    factors_open(&f, &b, t, model_site(0, LINEAR_Q));
    for (int64_t r = 0; r < RANK; r++)
        for (int64_t q = 0; q <= r; q++) {
            double sum = 0;
            for (int64_t o = 0; o < f.w->n_out; o++)
                sum += (double)f.b[r * f.w->n_out + o] * (double)f.b[q * f.w->n_out + o];
            assert_true(fabs(sum - (q == r)) < 1e-6);
            assert_true(q == r || fabs((double)f.a[r * f.w->n_in + q]) < 1e-6);
        }
    for (int64_t o = 0; o < f.w->n_out; o++)
        for (int64_t i = 0; i < RANK; i++)
            assert_true(fabs(product(&f, o, i) - (double)f.weight[o * f.w->n_in + i]) < 1e-6);
    free(f.weight);
    trainable_close(&t);
    base_close(&b);
}

static void gaussian_is_as_wide_as_one_over_the_rank(void **state)
{
    (void)state;
    struct base b;
    base_open(&b, "qwen2", false);
    struct trainable *t = begin(&b, INIT_GAUSSIAN, false);
    double sum = 0, squares = 0;
    int64_t n = 0, far = 0;
    for (int i = 0; i < t->n_parts; i++)
        for (int64_t k = 0; k < t->parts[i].n; k++) {
            double x = (double)t->values[t->parts[i].at + k] * RANK;
            if (t->parts[i].fast) {
                assert_true(x == 0);
                continue;
            }
            sum += x;
            squares += x * x;
            far += fabs(x) > 2;
            n++;
        }
    assert_true(n > 4000);
    assert_true(fabs(sum / (double)n) < 0.05 && fabs(squares / (double)n - 1) < 0.08);
    assert_true(fabs((double)far / (double)n - 0.0455) < 0.015);
    trainable_close(&t);
    base_close(&b);
}

static void number_of_threads_cannot_be_seen(void **state)
{
    (void)state;
    struct graft_runtime two = rt, one;
    runtime_start(&one, 1, NULL);
    for (int init = INIT_GAUSSIAN; init < ADAPTER_INITS; init++) {
        struct base b;
        rt = two;
        base_open(&b, "mistral", false);
        struct trainable *t = begin(&b, (enum adapter_init)init, true);
        size_t bytes = (size_t)t->n_values * sizeof(float);
        float *values = malloc(bytes);
        assert_non_null(values);
        memcpy(values, t->values, bytes);
        trainable_close(&t);
        base_close(&b);
        rt = one;
        base_open(&b, "mistral", false);
        t = begin(&b, (enum adapter_init)init, true);
        assert_memory_equal(t->values, values, bytes);
        trainable_close(&t);
        base_close(&b);
        free(values);
    }
    rt = two;
    runtime_stop(&one);
}

/* ---- what is refused ----------------------------------------------------------------------- */

static void ranks_that_a_weight_has_not_are_refused_by_name(void **state)
{
    (void)state;
    struct base b;
    base_open(&b, "qwen2-cls", false);
    struct adapter_recipe recipe = recipe_of(RANK);
    static const char *const score[] = {"score"};
    recipe.targets = score;
    recipe.n_targets = 1;
    const struct trainable_options options = {.recipe = &recipe, .dropout = -1, .init = INIT_PISSA};
    graft_error error = {0};
    struct trainable *t = NULL;
    assert_int_equal(trainable_open(b.model, &options, &t, &error), GRAFT_INVALID_ARGUMENT);
    assert_null(t);
    assert_non_null(strstr(error.message, "score has 3 directions, fewer than rank 4"));
    base_close(&b);
}

static bool never(void *user, uint64_t done, uint64_t total, const char *what)
{
    int *calls = user;
    assert_true(done > 0 && done <= total);
    assert_string_equal(what, "olora");
    return ++*calls < 3;
}

static void progress_is_told_and_may_cancel(void **state)
{
    (void)state;
    struct base b;
    int calls = 0;
    base_open(&b, "qwen2", false);
    struct adapter_recipe recipe = recipe_of(RANK);
    recipe.progress = (struct save_progress){never, &calls};
    const struct trainable_options options = {.recipe = &recipe, .dropout = -1, .init = INIT_OLORA};
    graft_error error = {0};
    struct trainable *t = NULL;
    assert_int_equal(trainable_open(b.model, &options, &t, &error), GRAFT_CANCELLED);
    assert_null(t);
    assert_int_equal(calls, 3);
    base_close(&b);
}

static void lack_of_memory_is_said_and_leaves_nothing(void **state)
{
    (void)state;
    struct base b;
    static const char *const q[] = {"q_proj"};
    struct adapter_recipe recipe = recipe_of(RANK);
    recipe.targets = q;
    recipe.n_targets = 1;
    base_open(&b, "qwen2", false);
    for (int init = INIT_PISSA; init <= INIT_OLORA; init++)
        for (size_t n = 1;; n++) {
            const struct trainable_options options = {
                .recipe = &recipe, .dropout = -1, .init = (enum adapter_init)init, .dora = true};
            struct failing_allocator failing;
            struct mem with;
            struct trainable *t = NULL;
            graft_allocator saved = rt.mem.allocator;
            size_t before = atomic_load(&rt.mem.bytes_in_use);
            graft_error error = {0};
            failing_init(&failing, &with, n);
            rt.mem.allocator = with.allocator;
            graft_status status = trainable_open(b.model, &options, &t, &error);
            trainable_close(&t);
            rt.mem.allocator = saved;
            assert_int_equal(atomic_load(&rt.mem.bytes_in_use), before);
            if (status != (failing.failed ? GRAFT_NO_MEMORY : GRAFT_OK))
                fail_msg("allocation %zu: %s", n, error.message);
            if (!failing.failed)
                break;
        }
    base_close(&b);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(every_beginning_changes_nothing),
        cmocka_unit_test(frozen_half_is_the_first_taken_away),
        cmocka_unit_test(trained_logits_are_those_of_the_file_on_the_original_base),
        cmocka_unit_test(training_leaves_the_frozen_half_and_counts_no_gradient_of_it),
        cmocka_unit_test(pissa_is_what_leaves_nothing_in_its_own_directions),
        cmocka_unit_test(olora_is_the_first_columns_of_q_and_rows_of_r),
        cmocka_unit_test(gaussian_is_as_wide_as_one_over_the_rank),
        cmocka_unit_test(number_of_threads_cannot_be_seen),
        cmocka_unit_test(ranks_that_a_weight_has_not_are_refused_by_name),
        cmocka_unit_test(progress_is_told_and_may_cancel),
        cmocka_unit_test(lack_of_memory_is_said_and_leaves_nothing),
    };
    return cmocka_run_group_tests(tests, setup, teardown);
}
