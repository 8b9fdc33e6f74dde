/* test_trainer.c: training through the public headers, on the model that ships: what is learned, that a run goes on with
 * the same bits wherever it was stopped and on any number of threads, and what is refused.
 */
#include <graft/graft.h>

#include "conformance/conformance_support.h"

#include <math.h>
#include <sys/stat.h>
#include <unistd.h>

#define TINY GRAFT_SOURCE_DIR "/models/tiny"

static graft_runtime *runtime;
static graft_model *model;
static graft_dataset *data;

static void must(graft_status status, const graft_error *error)
{
    if (status != GRAFT_OK)
        fail_msg("%s (%s)", error->message, error->file);
}

static graft_model *open_tiny(graft_runtime *rt)
{
    graft_error error = {0};
    graft_model *out = NULL;
    graft_model_options o = graft_model_options_default();
    o.pack = "none";
    must(graft_model_open(rt, TINY, &o, &out, &error), &error);
    return out;
}

static void write_examples(const char *name)
{
    static const char *const who[] = {"cat", "dog", "owl", "hen"}, *const what[] = {"red", "blue",
                                                                                    "green"};
    struct buf text;
    buf_init(&text, NULL, 1 << 20);
    for (int i = 0; i < 36; i++)
        buf_printf(&text,
                   "{\"prompt\":\"Describe the %s in %s.\",\"completion\":\"The %s wears a %s hat "
                   "and says good day.\"}\n",
                   who[i % 4], what[i % 3], who[i % 4], what[i % 3]);
    assert_int_equal(text.status, GRAFT_OK);
    write_file(test_dir, name, text.data, text.size);
    buf_free(&text);
}

static int setup(void **state)
{
    graft_error error = {0};
    graft_runtime_options o = graft_runtime_options_default();
    test_dir_open(state);
    o.threads = 2;
    must(graft_runtime_open(&o, &runtime, &error), &error);
    model = open_tiny(runtime);
    write_examples("examples.jsonl");
    must(graft_dataset_open(model, at("examples.jsonl"), NULL, &data, &error), &error);
    return 0;
}

static int teardown(void **state)
{
    graft_dataset_close(&data);
    graft_model_close(&model);
    graft_runtime_close(&runtime);
    return test_dir_close(state);
}

/* Few steps of few rows; both kinds of vectors and dropout. */
static graft_adapter_recipe small_recipe(void)
{
    static const char *const targets[] = {"q_proj", "v_proj", "down_proj"};
    graft_adapter_recipe r = graft_adapter_recipe_default();
    r.rank = 4;
    r.alpha = 8;
    r.dropout = 0.1;
    r.targets = targets;
    r.n_targets = 3;
    return r;
}

static graft_train_options small(const graft_adapter_recipe *recipe)
{
    graft_train_options o = graft_train_options_default();
    o.recipe = recipe;
    o.batch_size = 3;
    o.gradient_accumulation_steps = 2;
    o.max_steps = 9;
    o.learning_rate = 5e-3;
    o.warmup_steps = 1;
    o.eval_steps = 3;
    o.seed = 3;
    return o;
}

static graft_trainer *open_trainer(graft_model *on, const graft_train_options *o)
{
    graft_error error = {0};
    graft_trainer *out = NULL;
    must(graft_trainer_open(on, data, o, &out, &error), &error);
    return out;
}

static graft_train_outcome run_trainer(graft_trainer *t, graft_train_fn step, void *user)
{
    graft_error error = {0};
    graft_train_outcome out;
    must(graft_trainer_run(t, step, user, &out, &error), &error);
    return out;
}

static void write_to(const graft_trainer *t, const char *path, graft_adapter_format format)
{
    graft_error error = {0};
    must(graft_trainer_write(t, path, format, NULL, NULL, &error), &error);
}

static void same_bytes(const char *a, const char *b)
{
    char *left = NULL, *right = NULL;
    size_t n_left = 0, n_right = 0;
    graft_error error = {0};
    must(file_read(NULL, a, 1 << 28, &left, &n_left, &error), &error);
    must(file_read(NULL, b, 1 << 28, &right, &n_right, &error), &error);
    if (n_left != n_right || memcmp(left, right, n_left))
        fail_msg("%s and %s differ", a, b);
    mem_free(NULL, left);
    mem_free(NULL, right);
}

/* ---- what is learned ---- */

struct log {
    int steps, validations;
    double first, last;
    int64_t tokens;
};

static bool note(void *user, const graft_train_step *step)
{
    struct log *log = user;
    log->steps += step->fed > 0;
    log->validations += !isnan(step->valid_loss);
    log->tokens += step->tokens;
    log->first = log->steps == 1 ? step->loss : log->first;
    log->last = step->loss;
    return true;
}

static void training_lowers_the_loss_of_what_it_did_not_see(void **state)
{
    (void)state;
    const graft_adapter_recipe recipe = small_recipe();
    graft_train_options o = small(&recipe);
    o.max_steps = 24;
    o.learning_rate = 2e-2;
    graft_trainer *t = open_trainer(model, &o);
    struct log log = {0};
    graft_train_outcome outcome = run_trainer(t, note, &log);
    assert_int_equal(outcome.end, GRAFT_TRAIN_DONE);
    assert_int_equal(log.steps, 24);
    assert_int_equal(log.validations, 9); /* one before the first step */
    assert_true(log.last < log.first / 2);
    assert_true(outcome.best_valid < outcome.first_valid / 2);
    assert_true(log.tokens > 0);
    graft_trainer_close(&t);
}

static double loss_of(const char *adapter)
{
    graft_error error = {0};
    graft_train_options o = graft_train_options_default();
    double loss = NAN;
    o.adapter = adapter;
    o.gradient_checkpointing = o.bf16 = false;
    graft_trainer *t = open_trainer(model, &o);
    must(graft_trainer_loss(t, GRAFT_PART_VALID, &loss, &error), &error);
    graft_trainer_close(&t);
    return loss;
}

static void every_format_holds_what_was_trained(void **state)
{
    (void)state;
    const graft_adapter_recipe recipe = small_recipe();
    graft_train_options o = small(&recipe);
    o.bf16 = false;
    graft_trainer *t = open_trainer(model, &o);
    graft_train_outcome outcome = run_trainer(t, NULL, NULL);
    write_to(t, at("as-peft"), GRAFT_ADAPTER_PEFT);
    write_to(t, at("as-mlx"), GRAFT_ADAPTER_MLX);
    write_to(t, at("as.gguf"), GRAFT_ADAPTER_GGUF);
    graft_trainer_close(&t);
    double loss = loss_of(at("as-peft"));
    assert_true(fabs(loss - outcome.best_valid) < 1e-6);
    assert_true(fabs(loss_of(at("as-mlx")) - loss) < 1e-6);
    assert_true(fabs(loss_of(at("as.gguf")) - loss) < 1e-6);
}

static void a_part_for_tests_may_be_longer_than_the_others(void **state)
{
    (void)state;
    graft_error error = {0};
    graft_dataset *parts = NULL;
    graft_trainer *t = NULL;
    double one, both;
    static const char line[] = "{\"text\":\"A cat.\"}\n",
                      more[] = "{\"text\":\"A cat sat on a mat, and then it sat on a hat.\"}\n";
    char path[PATH_MAX];
    snprintf(path, sizeof path, "%s/parts", test_dir);
    assert_int_equal(mkdir(path, 0700), 0);
    write_file(path, "train.jsonl", line, sizeof line - 1);
    write_file(path, "valid.jsonl", line, sizeof line - 1);
    write_file(path, "test.jsonl", more, sizeof more - 1);
    must(graft_dataset_open(model, path, NULL, &parts, &error), &error);
    must(graft_trainer_open(model, parts, NULL, &t, &error), &error);
    must(graft_trainer_loss(t, GRAFT_PART_VALID, &one, &error), &error);
    must(graft_trainer_loss(t, GRAFT_PART_TEST, &both, &error), &error);
    assert_true(one > 0 && both > 0 && one != both);
    graft_trainer_close(&t);
    graft_dataset_close(&parts);
}

static void what_a_recipe_says_of_its_base_is_copied(void **state)
{
    (void)state;
    char base[] = "somebody/something";
    graft_adapter_recipe recipe = small_recipe();
    recipe.base = base;
    graft_train_options o = small(&recipe);
    o.max_steps = 1;
    graft_trainer *t = open_trainer(model, &o);
    memset(base, 'x', sizeof base - 1);
    run_trainer(t, NULL, NULL);
    write_to(t, at("based"), GRAFT_ADAPTER_PEFT);
    graft_trainer_close(&t);
    char *text = NULL, path[PATH_MAX];
    size_t size = 0;
    graft_error error = {0};
    snprintf(path, sizeof path, "%s/adapter_config.json", at("based"));
    must(file_read(NULL, path, 1 << 20, &text, &size, &error), &error);
    assert_non_null(strstr(text, "somebody/something"));
    mem_free(NULL, text);
}

static void dora_and_biases_are_trained_and_written(void **state)
{
    (void)state;
    const graft_adapter_recipe recipe = small_recipe();
    graft_train_options o = small(&recipe);
    graft_error error = {0};
    o.use_dora = true;
    graft_trainer *t = open_trainer(model, &o);
    graft_train_outcome outcome = run_trainer(t, NULL, NULL);
    assert_true(outcome.best_valid < outcome.first_valid);
    write_to(t, at("dora"), GRAFT_ADAPTER_PEFT);
    graft_trainer_close(&t);
    o.use_dora = false;
    o.lora_bias = true;
    t = open_trainer(model, &o);
    outcome = run_trainer(t, NULL, NULL);
    assert_true(outcome.best_valid < outcome.first_valid);
    write_to(t, at("biased"), GRAFT_ADAPTER_PEFT);
    graft_trainer_close(&t);
    static const char *const names[] = {"dora", "biased"};
    for (int i = 0; i < 2; i++) {
        graft_adapter *adapter = NULL;
        must(graft_adapter_open(model, at(names[i]), NULL, &adapter, &error), &error);
        graft_adapter_info about;
        must(graft_adapter_describe(adapter, &about, &error), &error);
        assert_int_equal(i ? about.n_biased : about.n_dora, about.n_targets);
        graft_adapter_close(&adapter);
    }
}

/* ---- the same bits ---- */

struct stop_at {
    int64_t step;
};

static bool stop(void *user, const graft_train_step *step)
{
    return step->step < ((struct stop_at *)user)->step;
}

/* The whole run into folders called so, stopped after each of `stops` (ended by 0) and gone on with. */
static void run_in_pieces(graft_model *on, const char *name, const int64_t *stops)
{
    const graft_adapter_recipe recipe = small_recipe();
    graft_train_options o = small(&recipe);
    char run[PATH_MAX];
    snprintf(run, sizeof run, "%s/%s.run", test_dir, name);
    o.run = run;
    graft_error error = {0};
    for (int i = 0;; i++) {
        graft_trainer *t = open_trainer(on, &o);
        if (i > 0)
            must(graft_trainer_resume(t, &error), &error);
        struct stop_at until = {stops[i] ? stops[i] : INT64_MAX}; /* -1: before the first step */
        graft_train_outcome outcome = run_trainer(t, stop, &until);
        if (!stops[i]) {
            assert_int_equal(outcome.end, GRAFT_TRAIN_DONE);
            write_to(t, at(name), GRAFT_ADAPTER_PEFT);
        } else {
            assert_int_equal(outcome.end, GRAFT_TRAIN_STOPPED);
            assert_int_equal(outcome.step, stops[i] < 0 ? 0 : stops[i]);
        }
        graft_trainer_close(&t);
        if (!stops[i])
            return;
    }
}

static void same_file(const char *a, const char *b, const char *name)
{
    char left[PATH_MAX], right[PATH_MAX];
    snprintf(left, sizeof left, "%s/%s%s", test_dir, a, name);
    snprintf(right, sizeof right, "%s/%s%s", test_dir, b, name);
    same_bytes(left, right);
}

static void same_runs(const char *a, const char *b)
{
    same_file(a, b, "/adapter_model.safetensors");
    same_file(a, b, ".run/checkpoint.safetensors");
    same_file(a, b, ".run/history.jsonl");
}

static void a_run_that_was_stopped_anywhere_ends_with_the_same_bits(void **state)
{
    (void)state;
    run_in_pieces(model, "whole", (const int64_t[]){0});
    run_in_pieces(model, "pieces", (const int64_t[]){-1, 1, 2, 4, 5, 8, 0});
    same_runs("whole", "pieces");
}

static void one_thread_and_two_end_with_the_same_bits(void **state)
{
    (void)state;
    graft_error error = {0};
    graft_runtime *alone = NULL;
    graft_runtime_options o = graft_runtime_options_default();
    o.threads = 1;
    must(graft_runtime_open(&o, &alone, &error), &error);
    graft_model *on = open_tiny(alone);
    run_in_pieces(on, "alone", (const int64_t[]){3, 0});
    graft_model_close(&on);
    graft_runtime_close(&alone);
    run_in_pieces(model, "both", (const int64_t[]){0});
    same_runs("alone", "both");
}

/* ---- refusals ---- */

static graft_status resume_with(const graft_train_options *o, graft_error *error)
{
    graft_trainer *t = open_trainer(model, o);
    graft_status status = graft_trainer_resume(t, error);
    graft_trainer_close(&t);
    return status;
}

static void another_run_is_not_gone_on_with(void **state)
{
    (void)state;
    const graft_adapter_recipe recipe = small_recipe();
    graft_train_options o = small(&recipe);
    graft_error error = {0};
    char run[PATH_MAX];
    snprintf(run, sizeof run, "%s/other.run", test_dir);
    o.run = run;
    assert_int_equal(resume_with(&o, &error), GRAFT_NOT_FOUND);
    graft_trainer *t = open_trainer(model, &o);
    run_trainer(t, stop, &(struct stop_at){2});
    graft_trainer_close(&t);
    assert_int_equal(resume_with(&o, &error), GRAFT_OK);
    graft_train_options other = o;
    other.learning_rate = 1e-3;
    assert_int_equal(resume_with(&other, &error), GRAFT_INVALID_ARGUMENT);
    assert_non_null(strstr(error.message, "learning_rate"));
    other = o;
    other.seed = 4;
    assert_int_equal(resume_with(&other, &error), GRAFT_INVALID_ARGUMENT);
    assert_non_null(strstr(error.message, "seed"));
    graft_adapter_recipe louder = recipe;
    louder.alpha = 80;
    other = o;
    other.recipe = &louder;
    assert_int_equal(resume_with(&other, &error), GRAFT_INVALID_ARGUMENT);
    assert_non_null(strstr(error.message, "alpha"));
    t = open_trainer(model, &o);
    graft_train_outcome outcome;
    assert_int_equal(graft_trainer_run(t, NULL, NULL, &outcome, &error), GRAFT_INVALID_ARGUMENT);
    assert_non_null(strstr(error.message, "resume"));
    graft_trainer_close(&t);
    graft_adapter_recipe wider = recipe;
    wider.rank = 5;
    other = o;
    other.recipe = &wider;
    assert_int_equal(resume_with(&other, &error), GRAFT_INVALID_ARGUMENT);
}

static void a_damaged_checkpoint_is_refused(void **state)
{
    (void)state;
    const graft_adapter_recipe recipe = small_recipe();
    graft_train_options o = small(&recipe);
    graft_error error = {0};
    char run[PATH_MAX - 32], path[PATH_MAX];
    snprintf(run, sizeof run, "%s/damaged.run", test_dir);
    snprintf(path, sizeof path, "%s/checkpoint.safetensors", run);
    o.run = run;
    graft_trainer *t = open_trainer(model, &o);
    run_trainer(t, stop, &(struct stop_at){2});
    graft_trainer_close(&t);
    char *bytes = NULL;
    size_t size = 0;
    must(file_read(NULL, path, 1 << 28, &bytes, &size, &error), &error);
    for (size_t keep = 0; keep < size; keep += size / 7 + 1) {
        write_file(run, "checkpoint.safetensors", bytes, keep);
        assert_int_equal(resume_with(&o, &error), GRAFT_FORMAT);
        assert_non_null(strstr(error.file, "checkpoint.safetensors"));
    }
    write_file(run, "checkpoint.safetensors", bytes, size);
    write_file(run, "history.jsonl", "{}\n", 3);
    assert_int_equal(resume_with(&o, &error), GRAFT_FORMAT);
    assert_non_null(strstr(error.file, "history.jsonl"));
    mem_free(NULL, bytes);
}

static graft_status open_with(graft_train_options o, graft_error *error)
{
    graft_trainer *t = NULL;
    graft_status status = graft_trainer_open(model, data, &o, &t, error);
    graft_trainer_close(&t);
    return status;
}

static void options_that_cannot_be_are_refused_by_name(void **state)
{
    (void)state;
    graft_error error = {0};
#define REFUSED(field, x, word)                                                                    \
    do {                                                                                           \
        graft_train_options o = graft_train_options_default();                                     \
        o.field = x;                                                                               \
        assert_int_equal(open_with(o, &error), GRAFT_INVALID_ARGUMENT);                            \
        assert_non_null(strstr(error.message, word));                                              \
    } while (0)
    REFUSED(batch_size, 0, "batch size");
    REFUSED(gradient_accumulation_steps, 0, "accumulation");
    REFUSED(learning_rate, NAN, "learning rate");
    REFUSED(learning_rate, -1, "learning rate");
    REFUSED(num_epochs, 0, "epochs");
    REFUSED(lr_scheduler, "wavy", "cosine");
    REFUSED(warmup_ratio, 2, "warmup");
    REFUSED(adam_beta1, 1, "beta1");
    REFUSED(loraplus_lr_ratio, 0, "LoRA+");
    REFUSED(max_bad_steps, 0, "bad");
    graft_train_options o = graft_train_options_default();
    o.adapter = "/nowhere/at/all";
    assert_int_equal(open_with(o, &error), GRAFT_NOT_FOUND);
}

static void steps_without_a_number_change_nothing_and_end_the_run(void **state)
{
    (void)state;
    const graft_adapter_recipe recipe = small_recipe();
    graft_train_options o = small(&recipe);
    graft_error error = {0};
    graft_train_outcome outcome;
    o.learning_rate = 1000;
    o.lr_scheduler = "constant";
    o.max_grad_norm = 0;
    o.max_steps = 200;
    o.max_bad_steps = 3;
    o.patience = 0;
    graft_trainer *t = open_trainer(model, &o);
    assert_int_equal(graft_trainer_run(t, NULL, NULL, &outcome, &error), GRAFT_NUMERIC);
    assert_non_null(strstr(error.message, "3 steps in a row"));
    graft_trainer_close(&t);
}

static void patience_ends_a_run_and_the_best_is_kept(void **state)
{
    (void)state;
    const graft_adapter_recipe recipe = small_recipe();
    graft_train_options o = small(&recipe);
    o.eval_steps = 1;
    o.patience = 2;
    o.min_improvement = 100;
    graft_trainer *t = open_trainer(model, &o);
    graft_train_outcome outcome = run_trainer(t, NULL, NULL);
    assert_int_equal(outcome.end, GRAFT_TRAIN_EARLY);
    assert_int_equal(outcome.step, 3);
    assert_int_equal(outcome.best_step, 1);
    assert_true(outcome.best_valid == outcome.first_valid); /* the first step has a rate of 0 */
    graft_trainer_close(&t);
}

/* ---- a whole model ---- */

static graft_train_options whole_options(void)
{
    graft_train_options o = graft_train_options_default();
    o.fine_tune_type = "full";
    o.optim = "muon";
    o.lr_scheduler = "wsd";
    o.batch_size = 4;
    o.max_steps = 6;
    o.learning_rate = 1e-3;
    o.warmup_steps = 0;
    o.eval_steps = 3;
    o.bf16 = false;
    return o;
}

static void a_model_is_trained_as_a_whole(void **state)
{
    (void)state;
    graft_error error = {0};
    graft_train_options o = whole_options();
    graft_trainer *t = open_trainer(model, &o);
    graft_model *written = NULL;
    graft_train_plan plan;
    double loss = NAN;
    must(graft_trainer_plan(t, &plan, &error), &error);
    assert_int_equal(plan.trained_values, 3773056);
    assert_true(plan.value_bytes >= (uint64_t)plan.trained_values * 5 * sizeof(float));
    graft_train_outcome outcome = run_trainer(t, NULL, NULL);
    assert_true(outcome.best_valid < 0.9 * outcome.first_valid);
    must(graft_trainer_write(t, at("whole-model"), GRAFT_ADAPTER_PEFT, "f32", "{\"by\":\"test\"}",
                             &error),
         &error);
    graft_trainer_close(&t);
    must(graft_model_open(runtime, at("whole-model"), NULL, &written, &error), &error);
    o.max_steps = 1;
    t = open_trainer(written, &o);
    must(graft_trainer_loss(t, GRAFT_PART_VALID, &loss, &error), &error);
    assert_true(fabs(loss - outcome.best_valid) < 1e-6);
    graft_trainer_close(&t);
    graft_model_close(&written);
}

static void whole_refused(const graft_train_options *o, const char *because)
{
    graft_error error = {0};
    graft_trainer *t = NULL;
    assert_int_equal(graft_trainer_open(model, data, o, &t, &error), GRAFT_INVALID_ARGUMENT);
    if (!strstr(error.message, because))
        fail_msg("\"%s\", expected \"%s\"", error.message, because);
}

static void what_is_of_adapters_is_refused_beside_a_whole_model(void **state)
{
    (void)state;
    graft_error error = {0};
    graft_train_options o = whole_options();
    o.adapter = "somewhere";
    whole_refused(&o, "leave out an adapter");
    o = whole_options();
    o.use_dora = true;
    whole_refused(&o, "use_dora");
    o = whole_options();
    o.init = "pissa";
    whole_refused(&o, "init");
    o = whole_options();
    o.ewc = true;
    whole_refused(&o, "EWC");
    o = whole_options();
    o.fine_tune_type = "half";
    whole_refused(&o, "there are lora, full");
    o = whole_options();
    o.fine_tune_type = "lora";
    whole_refused(&o, "muon is for a model");
    o = whole_options();
    o.optim = "sgd";
    whole_refused(&o, "there are adamw, muon");
    o = whole_options();
    o.lr_decay_ratio = 1.5;
    whole_refused(&o, "rate falls");
    o = whole_options();
    graft_trainer *t = open_trainer(model, &o);
    assert_int_equal(graft_trainer_check_format(t, GRAFT_ADAPTER_MLX, &error), GRAFT_UNSUPPORTED);
    assert_int_equal(graft_trainer_check_format(t, GRAFT_ADAPTER_GGUF, &error), GRAFT_OK);
    graft_trainer_close(&t);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(training_lowers_the_loss_of_what_it_did_not_see),
        cmocka_unit_test(every_format_holds_what_was_trained),
        cmocka_unit_test(a_part_for_tests_may_be_longer_than_the_others),
        cmocka_unit_test(what_a_recipe_says_of_its_base_is_copied),
        cmocka_unit_test(dora_and_biases_are_trained_and_written),
        cmocka_unit_test(a_run_that_was_stopped_anywhere_ends_with_the_same_bits),
        cmocka_unit_test(one_thread_and_two_end_with_the_same_bits),
        cmocka_unit_test(another_run_is_not_gone_on_with),
        cmocka_unit_test(a_damaged_checkpoint_is_refused),
        cmocka_unit_test(options_that_cannot_be_are_refused_by_name),
        cmocka_unit_test(steps_without_a_number_change_nothing_and_end_the_run),
        cmocka_unit_test(patience_ends_a_run_and_the_best_is_kept),
        cmocka_unit_test(a_model_is_trained_as_a_whole),
        cmocka_unit_test(what_is_of_adapters_is_refused_beside_a_whole_model),
    };
    return cmocka_run_group_tests(tests, setup, teardown);
}
