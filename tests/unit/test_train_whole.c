/* test_train_whole.c: models that are trained as a whole: where their values come from and go to, the step of Muon beside a
 * plain computation of it, the schedule that such runs use, and what does not go together.
 */
#include "adapter/trainable/whole.h"
#include "conformance/conformance_support.h"
#include "model/convert/convert.h"
#include "train/train_internal.h"
#include "unit/failing_allocator.h"
#include "unit/must.h"
#include "unit/random_model.h"

#include <math.h>

static const char TINY[] = GRAFT_SOURCE_DIR "/models/tiny";

static struct graft_runtime rt;

static int setup(void **state)
{
    runtime_start(&rt, 2, NULL);
    return test_dir_open(state);
}

static int teardown(void **state)
{
    int status = test_dir_close(state);
    runtime_stop(&rt);
    return status;
}

/* ---- values and files ---------------------------------------------------------------------- */

enum { N_TOKENS = 12 };

/* The loss of some tokens; set NULL: of the model as it is. */
static double loss_of(const struct model *m, const struct train_set *set)
{
    struct train_site *none = calloc((size_t)model_n_sites(m), sizeof *none);
    const struct train_set frozen = {.sites = none};
    const struct train_options options = {.max_tok = N_TOKENS};
    struct train_tape *tape;
    struct train_result result;
    graft_token_id tokens[N_TOKENS];
    int32_t targets[N_TOKENS];
    float weights[N_TOKENS];
    const int starts[2] = {0, N_TOKENS};
    for (int i = 0; i < N_TOKENS; i++) {
        tokens[i] = 40 + 7 * i % 31;
        targets[i] = m->config.n_labels ? i % m->config.n_labels : 40 + 7 * (i + 1) % 31;
        weights[i] = m->config.n_labels ? i == N_TOKENS - 1 : 1;
    }
    MUST(train_tape_open(m, set ? set : &frozen, &options, &tape, error));
    MUST(train_tape_refresh(tape, error));
    const struct train_batch batch = {.n_tok = N_TOKENS,
                                      .n_examples = 1,
                                      .tokens = tokens,
                                      .starts = starts,
                                      .targets = targets,
                                      .weights = weights};
    MUST(train_tape_run(tape, &batch, false, &result, error));
    train_tape_close(&tape);
    free(none);
    return result.nll / result.weight;
}

static struct trainable *open_whole(const struct model *m)
{
    const struct trainable_options options = {.whole = true};
    struct trainable *t;
    MUST(trainable_open(m, &options, &t, error));
    return t;
}

/* All values of parts, moved by up to `by` of themselves. */
static void disturb(struct trainable *t, double by)
{
    struct rng rng;
    rng_init(&rng, 5, 0);
    for (int i = 0; i < t->n_parts; i++)
        for (int64_t k = 0; k < t->parts[i].n; k++)
            t->values[t->parts[i].at + k] *= (float)(1 + by * (2 * rng_uniform(&rng) - 1));
}

/* A model begins as it is, and what is written of other values is a model that computes with those. */
static void check_round_trip(const char *path, const char *out, graft_type own)
{
    const struct trainable_output output = {.format = ADAPTER_PEFT, .type = GRAFT_TYPE_F32};
    struct model *m = open_model(&rt, path);
    struct trainable *t = open_whole(m);
    int64_t n = 0;
    for (int i = 0; i < t->n_parts; i++)
        n += t->parts[i].n;
    assert_int_equal(n, t->n_trained);
    assert_int_equal(n, (int64_t)model_parameters(m));
    assert_int_equal(trainable_type(t), own);
    assert_true(fabs(loss_of(m, &t->set) / loss_of(m, NULL) - 1) < 1e-2); /* bf16 beside floats */
    disturb(t, 0.2);
    const double want = loss_of(m, &t->set);
    assert_true(fabs(want - loss_of(m, NULL)) > 1e-3);
    MUST(trainable_write(t, NULL, at(out), &output, error));
    struct model *written = open_model(&rt, at(out));
    assert_int_equal(written->config.tied, m->config.tied);
    assert_true(fabs(loss_of(written, NULL) - want) <= 1e-5 * want);
    model_close(&written);
    trainable_close(&t);
    model_close(&m);
}

static void convert(const char *from, const char *to, const char *type)
{
    const graft_convert_options options = {
        .struct_size = sizeof options, .format = GRAFT_FORMAT_GGUF, .type = type};
    MUST(model_convert(&rt, from, to, &options, error));
}

static void any_model_is_trained_and_written_whole(void **state)
{
    (void)state;
    char *llama = random_model_make(&(struct random_model){.classifier = false});
    char *scores = random_model_make(&(struct random_model){.classifier = true});
    convert(llama, at("llama.gguf"), "f32"); /* another order of rows */
    convert(TINY, at("tiny.gguf"), "q8_0");
    check_round_trip(TINY, "out-tiny", GRAFT_TYPE_BF16);
    check_round_trip(llama, "out-llama", GRAFT_TYPE_F32);
    check_round_trip(scores, "out-scores", GRAFT_TYPE_F32);
    check_round_trip(at("llama.gguf"), "out-gguf", GRAFT_TYPE_F32);
    check_round_trip(at("tiny.gguf"), "out-quantised", GRAFT_TYPE_BF16);
    random_model_remove(llama);
    random_model_remove(scores);
}

static void matrices_of_blocks_alone_have_rows(void **state)
{
    (void)state;
    struct model *m = open_model(&rt, TINY);
    struct trainable *t = open_whole(m);
    int matrices = 0;
    for (int i = 0; i < t->n_parts; i++) {
        const struct trainable_part *p = &t->parts[i];
        matrices += p->rows > 0;
        assert_true(p->rows == 0 || (p->rows * p->cols == p->n && !p->vector));
        assert_true(!p->fast && p->at % 16 == 0);
    }
    assert_int_equal(matrices, m->config.n_layer * LINEAR_COUNT);
    assert_ptr_equal(t->set.embed.grad, t->set.sites[model_head_site(m)].weight.grad);
    trainable_close(&t);
    model_close(&m);
}

static void a_model_is_no_mlx_adapter(void **state)
{
    (void)state;
    const struct trainable_output output = {.format = ADAPTER_MLX, .type = GRAFT_TYPE_F32};
    graft_error error = {0};
    struct model *m = open_model(&rt, TINY);
    struct trainable *t = open_whole(m);
    assert_int_equal(trainable_write(t, NULL, at("as-mlx"), &output, &error), GRAFT_UNSUPPORTED);
    assert_false(path_exists(at("as-mlx")));
    trainable_close(&t);
    model_close(&m);
}

static graft_status begin_and_write(const struct model *m, const char *out, graft_error *error)
{
    const struct trainable_options options = {.whole = true};
    const struct trainable_output output = {.format = ADAPTER_PEFT, .type = GRAFT_TYPE_F32};
    struct trainable *t = NULL;
    struct muon *muon = NULL;
    graft_status status = trainable_open(m, &options, &t, error);
    if (status == GRAFT_OK)
        status = muon_open(&rt.mem, &rt, t->parts, t->n_parts, &muon, error);
    if (status == GRAFT_OK)
        status = trainable_write(t, NULL, out, &output, error);
    muon_close(&muon);
    trainable_close(&t);
    return status;
}

static void lack_of_memory_is_said_and_leaves_nothing(void **state)
{
    (void)state;
    char *dir = random_model_make(&(struct random_model){.classifier = false});
    struct model *m = open_model(&rt, dir);
    for (size_t n = 1;; n++) {
        struct failing_allocator failing;
        struct mem with;
        graft_allocator saved = rt.mem.allocator;
        size_t before = atomic_load(&rt.mem.bytes_in_use);
        graft_error error = {0};
        failing_init(&failing, &with, n);
        rt.mem.allocator = with.allocator;
        graft_status status = begin_and_write(m, at("out-memory"), &error);
        rt.mem.allocator = saved;
        assert_int_equal(atomic_load(&rt.mem.bytes_in_use), before);
        if (status != (failing.failed ? GRAFT_NO_MEMORY : GRAFT_OK))
            fail_msg("allocation %zu: %s", n, error.message);
        assert_int_equal(path_exists(at("out-memory")), status == GRAFT_OK);
        if (!failing.failed)
            break;
    }
    model_close(&m);
    random_model_remove(dir);
}

/* ---- Muon ---------------------------------------------------------------------------------- */

enum { SHAPES = 4, VALUES = 96 * 40 + 40 * 96 + 64 * 64 + 48 * 16, ROUNDS = 3 };
static const struct trainable_part PARTS[SHAPES + 1] = {
    {.at = 0, .n = 96 * 40, .rows = 96, .cols = 40},
    {.at = 96 * 40, .n = 40 * 96, .rows = 40, .cols = 96},
    {.at = 2 * 96 * 40, .n = 64 * 64, .rows = 64, .cols = 64},
    {.at = 2 * 96 * 40 + 64 * 64, .n = 48 * 15, .rows = 48, .cols = 15},
    {.at = VALUES, .n = 16, .vector = true}};
static const struct optimiser_options MUON = {
    .kind = OPTIM_MUON, .momentum = 0.9, .weight_decay = 0.2};

struct state {
    float w[VALUES + 16], m[VALUES + 16], g[VALUES + 16];
};

static void fill(struct state *s)
{
    struct rng rng;
    rng_init(&rng, 9, 1);
    memset(s, 0, sizeof *s);
    for (int i = 0; i < VALUES + 16; i++) {
        s->w[i] = (float)(rng_uniform(&rng) - 0.5);
        s->g[i] = (float)(rng_uniform(&rng) - 0.5);
    }
}

static void run_muon(struct state *s, int threads, const struct kernels *tier)
{
    struct graft_runtime own;
    struct muon *muon;
    runtime_start(&own, threads, tier);
    MUST(muon_open(&own.mem, &own, PARTS, SHAPES + 1, &muon, error));
    fill(s);
    for (int round = 0; round < ROUNDS; round++) {
        muon_step(muon, &MUON, s->w, s->m, s->g, 0.1, 0.5);
        for (int i = 0; i < VALUES; i++)
            s->g[i] = -s->g[i] * s->g[(i + 1) % VALUES];
    }
    muon_close(&muon);
    runtime_stop(&own);
}

/* c [n, n] = a bᵀ or, straight, a b, for a [n, k] */
static void multiply(const double *a, const double *b, double *c, int n, int k, int width,
                     bool turned)
{
    for (int i = 0; i < n; i++)
        for (int j = 0; j < width; j++) {
            double sum = 0;
            for (int l = 0; l < k; l++)
                sum += a[i * k + l] * (turned ? b[j * k + l] : b[l * width + j]);
            c[i * width + j] = sum;
        }
}

/* u [rows, cols] nearly orthogonal, as the paper has it: on the matrix as it stands, tall or not. */
static void orthogonal_by_hand(double *u, int rows, int cols)
{
    static double x[96 * 96], a[96 * 96], b[96 * 96], next[96 * 96];
    const bool tall = rows > cols;
    const int n = tall ? cols : rows, width = tall ? rows : cols;
    double norm = 0;
    for (int i = 0; i < rows * cols; i++)
        norm += u[i] * u[i];
    norm = sqrt(norm) + 1e-7;
    for (int i = 0; i < rows; i++)
        for (int j = 0; j < cols; j++)
            x[tall ? j * width + i : i * width + j] = u[i * cols + j] / norm;
    for (int step = 0; step < 5; step++) {
        multiply(x, x, a, n, width, n, true);
        multiply(a, a, b, n, n, n, false);
        for (int i = 0; i < n * n; i++)
            b[i] = -4.7750 * a[i] + 2.0315 * b[i];
        multiply(b, x, next, n, n, width, false);
        for (int i = 0; i < n * width; i++)
            x[i] = 3.4445 * x[i] + next[i];
    }
    for (int i = 0; i < rows; i++)
        for (int j = 0; j < cols; j++)
            u[i * cols + j] = x[tall ? j * width + i : i * width + j];
}

static void muon_by_hand(struct state *s)
{
    static double u[96 * 96];
    fill(s);
    for (int round = 0; round < ROUNDS; round++) {
        for (int p = 0; p < SHAPES; p++) {
            const int rows = (int)PARTS[p].rows, cols = (int)PARTS[p].cols;
            float *w = s->w + PARTS[p].at, *m = s->m + PARTS[p].at, *g = s->g + PARTS[p].at;
            for (int i = 0; i < rows * cols; i++) {
                m[i] = (float)(0.9 * (double)m[i] + 0.5 * (double)g[i]);
                u[i] = 0.5 * (double)g[i] + 0.9 * (double)m[i];
            }
            orthogonal_by_hand(u, rows, cols);
            const double rate = 0.1 * sqrt(rows > cols ? (double)rows / cols : 1);
            for (int i = 0; i < rows * cols; i++)
                w[i] = (float)((double)w[i] * (1 - 0.1 * 0.2) - rate * u[i]);
        }
        for (int i = 0; i < VALUES; i++)
            s->g[i] = -s->g[i] * s->g[(i + 1) % VALUES];
    }
}

static double distance(const float *a, const float *b, int n)
{
    double sum = 0, all = 0;
    for (int i = 0; i < n; i++) {
        sum += ((double)a[i] - (double)b[i]) * ((double)a[i] - (double)b[i]);
        all += (double)b[i] * (double)b[i];
    }
    return sqrt(sum / all);
}

static void muon_takes_the_steps_of_its_paper(void **state)
{
    (void)state;
    static struct state want, got;
    muon_by_hand(&want);
    run_muon(&got, 2, kernels_tier(0)); /* the scalar one */
    assert_true(distance(got.w, want.w, VALUES) < 1e-5);
    assert_true(distance(got.m, want.m, VALUES) < 1e-6);
    run_muon(&got, 2, NULL); /* factors of products may be rounded to bf16 */
    assert_true(distance(got.w, want.w, VALUES) < 2e-2);
    static struct state before;
    fill(&before); /* what has no rows is another's */
    assert_memory_equal(got.w + VALUES, before.w + VALUES, 16 * sizeof(float));
}

static void muon_has_the_same_bits_for_any_number_of_threads(void **state)
{
    (void)state;
    static struct state one, other;
    run_muon(&one, 1, NULL);
    for (int threads = 2; threads <= 5; threads += 3) {
        run_muon(&other, threads, NULL);
        assert_memory_equal(one.w, other.w, sizeof one.w);
        assert_memory_equal(one.m, other.m, sizeof one.m);
    }
}

static void adamw_leaves_the_matrices_of_muon_alone(void **state)
{
    (void)state;
    static struct state s, before;
    struct optimiser_options how = trainer_defaults().optimiser;
    struct optimiser o;
    fill(&s);
    fill(&before);
    how.kind = OPTIM_MUON;
    MUST(optimiser_open(&o, NULL, VALUES + 16, &how, error));
    optimiser_step(&o, &rt, PARTS, SHAPES + 1, s.w, s.g, 1e-2, 1);
    assert_memory_equal(s.w, before.w, VALUES * sizeof(float));
    for (int i = VALUES; i < VALUES + 16; i++)
        assert_true(s.w[i] != before.w[i]);
    optimiser_close(&o);
}

/* ---- the schedule -------------------------------------------------------------------------- */

static void a_stable_rate_falls_at_the_end_alone(void **state)
{
    (void)state;
    const struct schedule s = {
        .kind = SCHEDULE_STABLE, .rate = 2, .warmup = 10, .steps = 100, .fall = 0.25};
    enum schedule_kind kind;
    assert_true(schedule_find("wsd", &kind) && kind == SCHEDULE_STABLE);
    assert_true(schedule_rate(&s, 0) == 0);
    assert_true(fabs(schedule_rate(&s, 5) - 1) < 1e-12);
    for (int step = 10; step <= 75; step++)
        assert_true(schedule_rate(&s, step) == 2);
    for (int step = 76; step < 100; step++)
        assert_true(fabs(schedule_rate(&s, step) - 2 * (100 - step) / 25.0) < 1e-12);
    const struct schedule never = {.kind = SCHEDULE_STABLE, .rate = 2, .steps = 100};
    assert_true(schedule_rate(&never, 99) == 2);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(any_model_is_trained_and_written_whole),
        cmocka_unit_test(matrices_of_blocks_alone_have_rows),
        cmocka_unit_test(a_model_is_no_mlx_adapter),
        cmocka_unit_test(lack_of_memory_is_said_and_leaves_nothing),
        cmocka_unit_test(muon_takes_the_steps_of_its_paper),
        cmocka_unit_test(muon_has_the_same_bits_for_any_number_of_threads),
        cmocka_unit_test(adamw_leaves_the_matrices_of_muon_alone),
        cmocka_unit_test(a_stable_rate_falls_at_the_end_alone),
    };
    return cmocka_run_group_tests(tests, setup, teardown);
}
