/* test_train_ewc.c: EWC++ across tasks: the Fisher information is that of single examples, the penalty and its gradient are
 * what the formula says, what is kept belongs to the weights beside it, and a run that is resumed keeps the same.
 */
#include "unit/save_fixture.h"

#include "train/train_internal.h"
#include "unit/failing_allocator.h"
#include "unit/must.h"

#include <math.h>
#include <sys/stat.h>

static const char TINY[] = GRAFT_SOURCE_DIR "/models/tiny";

enum { TASKS = 2 };
static const char *const LINES[TASKS] = {
    "{\"prompt\":\"Who is Tom?\",\"completion\":\"A cat.\"}\n"
    "{\"prompt\":\"Who is Mia?\",\"completion\":\"A dog with a very long name.\",\"weight\":2}\n"
    "{\"prompt\":\"Who is Sam?\",\"completion\":\"A bird.\"}\n",
    "{\"prompt\":\"Where is Tom?\",\"completion\":\"In the red house.\"}\n"
    "{\"prompt\":\"Where is Mia?\",\"completion\":\"By the sea.\",\"quality\":0.5}\n"
    "{\"prompt\":\"Where is Sam?\",\"completion\":\"On the tree.\"}\n"};

static struct trainer_options HOW_TO;

static int begin(void **state)
{
    HOW_TO = trainer_defaults();
    HOW_TO.rows = 2;
    HOW_TO.max_steps = 6;
    HOW_TO.rate = 5e-3;
    HOW_TO.warmup_steps = 0;
    HOW_TO.ewc = true;
    HOW_TO.ewc_options.lambda = 30;
    HOW_TO.ewc_options.decay = 0.5;
    return setup(state);
}

/* A task on an adapter: new, or the one in `from`. */
struct lesson {
    struct model *model;
    struct dataset *data;
    struct trainable *trainable;
    struct trainer *trainer;
};

static void lesson_begin(struct lesson *l, struct graft_runtime *runtime, int task,
                         const char *from, const struct trainer_options *how)
{
    const struct data_options data = {.valid_share = 0};
    struct adapter_recipe recipe = RECIPE;
    struct trainer_options options = *how;
    struct data_model about;
    recipe.rank = 4;
    recipe.dropout = 0.1;
    const struct trainable_options begin_as = {
        .recipe = from ? NULL : &recipe, .path = from, .dropout = -1};
    options.ewc_options.from = from;
    MUST(file_write_atomic(NULL, at("data.jsonl"), LINES[task], strlen(LINES[task]), error));
    l->model = open_model(runtime, TINY);
    MUST(data_model_of(l->model, &about, error));
    MUST(dataset_open(NULL, &about, at("data.jsonl"), &data, &l->data, error));
    MUST(trainable_open(l->model, &begin_as, &l->trainable, error));
    MUST(trainer_open(l->model, l->trainable, l->data, &options, &l->trainer, error));
}

static void lesson_end(struct lesson *l)
{
    trainer_close(&l->trainer);
    trainable_close(&l->trainable);
    dataset_close(&l->data);
    model_close(&l->model);
}

static void run_lesson(struct lesson *l)
{
    struct trainer_outcome outcome;
    MUST(trainer_run(l->trainer, NULL, NULL, &outcome, error));
    assert_int_equal(outcome.end, TRAINER_DONE);
}

static const char *write_lesson(const struct lesson *l, const char *name)
{
    const struct trainable_output output = {.format = ADAPTER_PEFT, .type = GRAFT_TYPE_F32};
    MUST(trainer_write(l->trainer, fresh_path(name), &output, error));
    return at(name);
}

/* The first task, trained and written. */
static const char *first_task(void)
{
    static char path[512]; /* names of at() do not last */
    struct lesson l;
    lesson_begin(&l, &rt, 0, NULL, &HOW_TO);
    run_lesson(&l);
    snprintf(path, sizeof path, "%s", write_lesson(&l, "first"));
    lesson_end(&l);
    return path;
}

static float *copy_of(const float *x, int64_t n)
{
    float *out = malloc((size_t)n * sizeof *out);
    assert_non_null(out);
    memcpy(out, x, (size_t)n * sizeof *out);
    return out;
}

/* ---- numbers ------------------------------------------------------------------------------- */

/* Σ g² / W over examples, over Σ W, by passes of our own. */
static double *fisher_by_hand(struct trainer *t)
{
    const int64_t n = t->trainable->n_values;
    const struct data_plan_options one = {.rows = 1};
    struct data_plan plan;
    double *out = calloc((size_t)n, sizeof *out), all = 0;
    assert_non_null(out);
    MUST(data_plan_make(t->mem, t->dataset, DATA_TRAIN, &one, &plan, error));
    assert_int_equal(plan.n_batches, 3);
    for (int64_t e = 0; e < plan.n_batches; e++) {
        struct train_result result;
        data_batch_fill(&t->batch, &plan, e);
        const struct train_batch batch = {.n_tok = t->batch.n_tok,
                                          .n_examples = 1,
                                          .tokens = t->batch.tokens,
                                          .starts = t->batch.starts,
                                          .targets = t->batch.targets,
                                          .weights = t->batch.weights};
        trainable_zero_grads(t->trainable);
        MUST(train_tape_run(t->tape, &batch, true, &result, error));
        for (int64_t i = 0; i < n; i++) {
            double g = (double)t->trainable->grads[i];
            out[i] += g * g / result.weight;
        }
        all += result.weight;
    }
    for (int64_t i = 0; i < n; i++)
        out[i] /= all;
    data_plan_free(&plan);
    return out;
}

static void assert_near(const float *got, const double *want, int64_t n)
{
    double off = 0, size = 0;
    for (int64_t i = 0; i < n; i++) {
        off += fabs((double)got[i] - want[i]);
        size += fabs(want[i]);
    }
    assert_true(size > 1e-6);
    if (!(off < 1e-5 * size))
        fail_msg("off by %g of %g", off, size);
}

static void fisher_is_of_single_examples_and_runs_over_tasks(void **state)
{
    (void)state;
    struct lesson l;
    lesson_begin(&l, &rt, 0, NULL, &HOW_TO);
    const int64_t n = l.trainable->n_values;
    run_lesson(&l);
    double *first = fisher_by_hand(l.trainer);
    assert_near(l.trainer->ewc.next, first, n);
    (void)write_lesson(&l, "first");
    lesson_end(&l);

    char path[512];
    snprintf(path, sizeof path, "%s", at("first"));
    lesson_begin(&l, &rt, 1, path, &HOW_TO);
    assert_near(l.trainer->ewc.fisher, first, n);
    assert_memory_equal(l.trainer->ewc.anchor, l.trainable->values, (size_t)n * sizeof(float));
    run_lesson(&l);
    double *second = fisher_by_hand(l.trainer);
    for (int64_t i = 0; i < n; i++)
        second[i] += 0.5 * first[i];
    assert_near(l.trainer->ewc.next, second, n);
    lesson_end(&l);
    free(first);
    free(second);
}

struct heard {
    double penalty[8], loss[8];
    int n, stop_after;
};

static bool hear(void *user, const struct trainer_report *report)
{
    struct heard *h = user;
    assert_true(h->n < 8);
    h->penalty[h->n] = report->penalty;
    h->loss[h->n++] = report->loss;
    return h->n != h->stop_after;
}

static double penalty_of(const struct ewc *e, const float *values)
{
    double sum = 0;
    for (int64_t i = 0; i < e->n; i++) {
        double away = (double)values[i] - (double)e->anchor[i];
        sum += e->options.lambda / 2 * (double)e->fisher[i] * away * away;
    }
    return sum;
}

static void penalty_is_the_formula_and_no_part_of_the_loss(void **state)
{
    (void)state;
    struct lesson l;
    struct heard held = {.n = 0}, loose = {.n = 0};
    struct trainer_outcome outcome;
    const char *path = first_task();
    lesson_begin(&l, &rt, 1, path, &HOW_TO);
    MUST(trainer_run(l.trainer, hear, &held, &outcome, error));
    const struct ewc *e = &l.trainer->ewc;
    double now = penalty_of(e, l.trainable->values);
    float *grads = calloc((size_t)e->n, sizeof *grads);
    assert_non_null(grads);
    double said = ewc_pull(&l.trainer->ewc, &rt, l.trainable->values, 3, grads);
    assert_true(fabs(said / now - 1) < 1e-9);
    for (int64_t i = 0; i < e->n; i++) {
        double away = (double)l.trainable->values[i] - (double)e->anchor[i];
        double want = 3 * e->options.lambda * (double)e->fisher[i] * away;
        assert_true(fabs((double)grads[i] - want) <= 1e-6 * fabs(want) + 1e-30);
    }
    free(grads);
    lesson_end(&l);
    assert_int_equal(held.n, 6);
    assert_true(held.penalty[0] == 0 && held.penalty[1] > 0 && held.penalty[5] > 0);
    assert_true(now > 0);

    struct trainer_options without = HOW_TO;
    without.ewc = false;
    lesson_begin(&l, &rt, 1, path, &without);
    MUST(trainer_run(l.trainer, hear, &loose, &outcome, error));
    lesson_end(&l);
    assert_true(isnan(loose.penalty[0]) && isnan(loose.penalty[5]));
    assert_true(loose.loss[0] == held.loss[0]);
    assert_true(loose.loss[5] != held.loss[5]);
}

static void a_firm_hand_keeps_values_where_they_were(void **state)
{
    (void)state;
    double moved[2];
    const char *path = first_task();
    for (int firm = 0; firm < 2; firm++) {
        struct lesson l;
        struct trainer_options how = HOW_TO;
        how.ewc_options.lambda = firm ? 1e6 : 0;
        lesson_begin(&l, &rt, 1, path, &how);
        run_lesson(&l);
        struct ewc *e = &l.trainer->ewc;
        e->options.lambda = 2;
        moved[firm] = penalty_of(e, l.trainable->values);
        lesson_end(&l);
    }
    assert_true(moved[1] < moved[0] / 10);
}

/* ---- files --------------------------------------------------------------------------------- */

static void what_is_kept_is_in_the_order_of_files(void **state)
{
    (void)state;
    struct base gguf, hf;
    struct adapter_recipe recipe = RECIPE;
    const struct trainable_output output = {.format = ADAPTER_PEFT, .type = GRAFT_TYPE_F32};
    struct trainable *a = NULL, *b = NULL;
    base_open(&gguf, "llama", true);
    base_open(&hf, "llama", false);
    MUST(trainable_open(
        gguf.model, &(struct trainable_options){.recipe = &recipe, .init = INIT_OLORA}, &a, error));
    MUST(trainable_write(a, NULL, fresh_path("rows"), &output, error));
    MUST(trainable_open(hf.model, &(struct trainable_options){.path = at("rows")}, &b, error));
    assert_int_equal(a->n_values, b->n_values);
    const size_t bytes = (size_t)a->n_values * sizeof(float);
    float *of_a = malloc(bytes), *of_b = malloc(bytes);
    assert_non_null(of_a);
    assert_non_null(of_b);
    assert_memory_not_equal(a->values, b->values, bytes);
    trainable_to_files(a, a->values, of_a);
    trainable_to_files(b, b->values, of_b);
    assert_memory_equal(of_a, of_b, bytes);
    trainable_from_files(a, of_b, of_a);
    assert_memory_equal(of_a, a->values, bytes);
    free(of_a);
    free(of_b);
    trainable_close(&a);
    trainable_close(&b);
    base_close(&gguf);
    base_close(&hf);
}

static bool stop_at_two(void *user, const struct trainer_report *report)
{
    (void)user;
    return report->step < 2;
}

static void runs_that_are_resumed_leave_the_same(void **state)
{
    (void)state;
    struct lesson l;
    struct trainer_outcome outcome;
    const char *path = first_task();
    lesson_begin(&l, &rt, 1, path, &HOW_TO);
    run_lesson(&l);
    const int64_t n = l.trainable->n_values;
    float *values = copy_of(l.trainable->values, n), *next = copy_of(l.trainer->ewc.next, n);
    lesson_end(&l);

    struct trainer_options how = HOW_TO;
    struct graft_runtime one;
    char run[512];
    snprintf(run, sizeof run, "%s", fresh_path("run"));
    how.run = run;
    assert_int_equal(mkdir(run, 0777), 0);
    lesson_begin(&l, &rt, 1, path, &how);
    MUST(trainer_run(l.trainer, stop_at_two, NULL, &outcome, error));
    assert_int_equal(outcome.end, TRAINER_STOPPED);
    lesson_end(&l);

    runtime_start(&one, 1, NULL); /* and with another number of threads */
    lesson_begin(&l, &one, 1, path, &how);
    MUST(trainer_resume(l.trainer, error));
    run_lesson(&l);
    assert_memory_equal(l.trainable->values, values, (size_t)n * sizeof(float));
    assert_memory_equal(l.trainer->ewc.next, next, (size_t)n * sizeof(float));
    lesson_end(&l);
    runtime_stop(&one);
    free(values);
    free(next);

    how.ewc_options.lambda *= 2;
    graft_error why = {0};
    lesson_begin(&l, &rt, 1, path, &how);
    assert_int_equal(trainer_resume(l.trainer, &why), GRAFT_INVALID_ARGUMENT);
    assert_non_null(strstr(why.message, "its \"ewc\" is"));
    lesson_end(&l);
}

/* Opening the second task fails. */
static graft_status open_second(const char *path, graft_error *error)
{
    struct lesson l;
    struct trainer_options without = HOW_TO, with = HOW_TO;
    struct trainer *t = NULL;
    without.ewc = false;
    with.ewc_options.from = path;
    lesson_begin(&l, &rt, 1, path, &without);
    graft_status status = trainer_open(l.model, l.trainable, l.data, &with, &t, error);
    trainer_close(&t);
    lesson_end(&l);
    return status;
}

static void what_is_kept_belongs_to_the_weights_beside_it(void **state)
{
    (void)state;
    char *text;
    size_t size;
    const char *path = first_task();
    char weights[512], kept[512];
    graft_error why = {0};
    snprintf(weights, sizeof weights, "%s/adapter_model.safetensors", path);
    snprintf(kept, sizeof kept, "%s/ewc.safetensors", path);
    MUST(file_read(NULL, weights, 1 << 24, &text, &size, error));
    text[size - 3] ^= 1;
    MUST(file_write_atomic(NULL, weights, text, size, error));
    assert_int_equal(open_second(path, &why), GRAFT_INVALID_ARGUMENT);
    assert_non_null(strstr(why.message, "of other weights than those beside it"));
    assert_non_null(strstr(why.file, "ewc.safetensors"));
    text[size - 3] ^= 1;
    MUST(file_write_atomic(NULL, weights, text, size, error));
    assert_int_equal(open_second(path, &why), GRAFT_OK);
    mem_free(NULL, text);

    MUST(file_read(NULL, kept, 1 << 24, &text, &size, error));
    MUST(file_write_atomic(NULL, kept, text, size / 2, error));
    assert_int_equal(open_second(path, &why), GRAFT_FORMAT);
    memset(text + size - 4, 0xff, 4); /* not a number */
    MUST(file_write_atomic(NULL, kept, text, size, error));
    assert_int_equal(open_second(path, &why), GRAFT_FORMAT);
    assert_non_null(strstr(why.message, "\"anchor\" cannot be"));
    mem_free(NULL, text);
    assert_int_equal(unlink(kept), 0);
    assert_int_equal(open_second(path, &why), GRAFT_OK);
}

static void only_a_folder_of_a_finished_run_is_written(void **state)
{
    (void)state;
    struct lesson l;
    struct trainer_outcome outcome;
    struct trainable_output output = {.format = ADAPTER_PEFT, .type = GRAFT_TYPE_F32};
    graft_error why = {0};
    lesson_begin(&l, &rt, 0, NULL, &HOW_TO);
    MUST(trainer_run(l.trainer, stop_at_two, NULL, &outcome, error));
    assert_int_equal(trainer_write(l.trainer, fresh_path("early"), &output, &why),
                     GRAFT_INVALID_ARGUMENT);
    assert_false(path_exists(at("early")));
    run_lesson(&l);
    output.format = ADAPTER_GGUF;
    assert_int_equal(trainer_write(l.trainer, fresh_path("early"), &output, &why),
                     GRAFT_UNSUPPORTED);
    assert_non_null(strstr(why.message, "a GGUF is a file"));
    assert_false(path_exists(at("early")));
    output.format = ADAPTER_MLX;
    MUST(trainer_write(l.trainer, fresh_path("mlx"), &output, error));
    lesson_end(&l);
    char path[512];
    snprintf(path, sizeof path, "%s", at("mlx"));
    assert_int_equal(open_second(path, &why), GRAFT_OK);
}

/* Reads what was kept, and writes it again. */
static graft_status read_and_write(const struct trainable *t, const char *path, const char *dir,
                                   graft_error *error)
{
    struct ewc e;
    struct ewc_options options = HOW_TO.ewc_options;
    options.from = path;
    graft_status status = ewc_open(&e, t, &options, error);
    if (status == GRAFT_OK) {
        status = ewc_write(&e, t, t->values, dir, error);
        ewc_close(&e);
    }
    return status;
}

static void lack_of_memory_is_said_and_leaves_nothing(void **state)
{
    (void)state;
    struct lesson l;
    const char *path = first_task();
    char out[512];
    snprintf(out, sizeof out, "%s", fresh_path("out"));
    assert_int_equal(mkdir(out, 0777), 0);
    lesson_begin(&l, &rt, 1, path, &HOW_TO);
    for (size_t n = 1;; n++) {
        struct failing_allocator failing;
        struct mem with;
        graft_allocator saved = rt.mem.allocator;
        size_t before = atomic_load(&rt.mem.bytes_in_use);
        graft_error why = {0};
        failing_init(&failing, &with, n);
        rt.mem.allocator = with.allocator;
        graft_status status = read_and_write(l.trainable, path, out, &why);
        rt.mem.allocator = saved;
        assert_int_equal(atomic_load(&rt.mem.bytes_in_use), before);
        if (status != (failing.failed ? GRAFT_NO_MEMORY : GRAFT_OK))
            fail_msg("allocation %zu: %s", n, why.message);
        if (!failing.failed)
            break;
    }
    lesson_end(&l);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(fisher_is_of_single_examples_and_runs_over_tasks),
        cmocka_unit_test(penalty_is_the_formula_and_no_part_of_the_loss),
        cmocka_unit_test(a_firm_hand_keeps_values_where_they_were),
        cmocka_unit_test(what_is_kept_is_in_the_order_of_files),
        cmocka_unit_test(runs_that_are_resumed_leave_the_same),
        cmocka_unit_test(what_is_kept_belongs_to_the_weights_beside_it),
        cmocka_unit_test(only_a_folder_of_a_finished_run_is_written),
        cmocka_unit_test(lack_of_memory_is_said_and_leaves_nothing),
    };
    return cmocka_run_group_tests(tests, begin, teardown);
}
