/* test_train_steps.c: ten steps of every training golden: losses, norms and rates of each step, and what the adapter is
 * after the last, against the reference implementation in double precision.
 */
#include "conformance/oracle_adapter.h"
#include "support/trainee.h"
#include "train/train_internal.h"

#include <math.h>

static const double LOSS_BOUND = 1e-5, FINAL_BOUND = 1e-3;

enum { MAX_TOK = 128, STEPS = 10, MOST_DATA = 64, MOST_LENGTH = 32 };

struct example {
    graft_token_id tokens[MOST_LENGTH];
    int32_t labels[MOST_LENGTH];
    int n;
};
static struct example data[MOST_DATA];
static int n_data;

static json_t *next_line(FILE *file)
{
    char line[2048];
    return fgets(line, sizeof(line), file) ? json_loads(line, 0, NULL) : NULL;
}

static int setup(void **state)
{
    test_dir_open(state);
    FILE *file = fopen(GOLDENS "/train/data.jsonl", "r");
    assert_non_null(file);
    json_t *json;
    while ((json = next_line(file))) {
        struct example *e = &data[n_data++];
        const json_t *tokens = json_object_get(json, "tokens"),
                     *labels = json_object_get(json, "labels");
        assert_true(n_data <= MOST_DATA && json_array_size(tokens) <= MOST_LENGTH);
        e->n = (int)json_array_size(tokens);
        for (int i = 0; i < e->n; i++) {
            e->tokens[i] = (graft_token_id)json_integer_value(json_array_get(tokens, (size_t)i));
            e->labels[i] = (int32_t)json_integer_value(json_array_get(labels, (size_t)i));
        }
        json_decref(json);
    }
    fclose(file);
    return 0;
}

/* What is trained as one flat buffer, as optimisers have it. */
struct flat {
    struct trainee *trainee;
    struct trainable_part parts[256];
    float *values, *grads;
    int64_t n;
};

static void flat_open(struct flat *f, struct trainee *t)
{
    *f = (struct flat){.trainee = t};
    assert_true(t->n_tensors <= ARRAY_LEN(f->parts));
    for (size_t i = 0; i < t->n_tensors; i++) {
        int64_t n = (int64_t)trainee_count(&t->tensors[i]);
        bool vector = t->tensors[i].cols == 0;
        bool fast = vector || strstr(t->tensors[i].name, "lora_B") != NULL;
        f->parts[i] = (struct trainable_part){.at = f->n, .n = n, .vector = vector, .fast = fast};
        f->n += (n + 15) / 16 * 16;
    }
    f->values = calloc((size_t)f->n, sizeof(float));
    f->grads = calloc((size_t)f->n, sizeof(float));
    for (size_t i = 0; i < t->n_tensors; i++)
        memcpy(f->values + f->parts[i].at, t->tensors[i].trained.value,
               trainee_count(&t->tensors[i]) * sizeof(float));
}

static void flat_take_gradients(struct flat *f)
{
    for (size_t i = 0; i < f->trainee->n_tensors; i++)
        memcpy(f->grads + f->parts[i].at, f->trainee->tensors[i].trained.grad,
               (size_t)f->parts[i].n * sizeof(float));
}

static void flat_give_values(const struct flat *f)
{
    for (size_t i = 0; i < f->trainee->n_tensors; i++)
        memcpy(f->trainee->tensors[i].trained.value, f->values + f->parts[i].at,
               (size_t)f->parts[i].n * sizeof(float));
}

/* The options of a golden. */
struct recipe {
    struct schedule schedule;
    struct optimiser_options optimiser;
    double clip;
    int window; /* examples of a step */
};

static struct recipe read_recipe(const json_t *json)
{
#define NUMBER(key) json_number_value(json_object_get(json, key))
    struct recipe r = {
        .schedule = {.rate = NUMBER("lr"),
                     .warmup = (int64_t)NUMBER("warmup"),
                     .steps = (int64_t)NUMBER("steps")},
        .optimiser = {.beta1 = json_number_value(json_array_get(json_object_get(json, "betas"), 0)),
                      .beta2 = json_number_value(json_array_get(json_object_get(json, "betas"), 1)),
                      .eps = NUMBER("eps"),
                      .weight_decay = NUMBER("weight_decay"),
                      .loraplus = NUMBER("loraplus")},
        .clip = NUMBER("clip"),
        .window = (int)(NUMBER("batch") * NUMBER("accum"))};
    assert_true(
        schedule_find(json_string_value(json_object_get(json, "schedule")), &r.schedule.kind));
    return r;
}

static void close_to(const char *golden, int step, const char *what, double got, const json_t *json,
                     double bound)
{
    double want = json_number_value(json_object_get(json, what));
    if (!(fabs(got - want) <= bound * fmax(fabs(want), 1e-30)))
        fail_msg("%s, step %d: %s is %.9g, not %.9g", golden, step, what, got, want);
}

static void take_step(const char *golden, struct flat *f, struct train_tape *tape,
                      struct optimiser *o, const struct recipe *r, int step, const json_t *want)
{
    struct lesson lesson;
    const graft_runtime *rt = f->trainee->model->runtime;
    lesson_open(&lesson, MAX_TOK, r->window);
    for (int i = 0; i < r->window; i++) {
        const struct example *e = &data[(step * r->window + i) % n_data];
        lesson_add(&lesson, e->tokens, e->labels, e->n);
    }
    trainee_zero_gradients(f->trainee);
    struct train_result result = run_tape(tape, &lesson.batch, true);
    flat_take_gradients(f);
    double rate = schedule_rate(&r->schedule, step);
    double norm = optimiser_norm(o, rt, f->grads) / result.weight;
    close_to(golden, step, "loss", result.nll / result.weight, want, LOSS_BOUND);
    close_to(golden, step, "grad_norm", norm, want, 1e-4);
    close_to(golden, step, "lr", rate, want, 1e-12);
    double scale = r->clip > 0 ? fmin(1, r->clip / (norm + 1e-6)) : 1;
    optimiser_step(o, rt, f->parts, (int)f->trainee->n_tensors, f->values, f->grads, rate,
                   scale / result.weight);
    flat_give_values(f);
    refresh_tape(tape);
    lesson_free(&lesson);
}

static void check_final(const char *golden, const struct trainee *t)
{
    char path[256];
    graft_error error = {0};
    struct tensor_set want;
    snprintf(path, sizeof(path), GOLDENS "/train/%s.final.safetensors", golden);
    if (tensor_set_open(&want, NULL, path, MAP_COPY, &error) != GRAFT_OK)
        fail_msg("%s", error.message);
    for (size_t i = 0; i < t->n_tensors; i++) {
        const struct tensor_info *info = tensor_set_find(&want, t->tensors[i].name);
        size_t n = trainee_count(&t->tensors[i]);
        assert_non_null(info);
        assert_int_equal(info->size, n * sizeof(float));
        float *got = malloc(n * sizeof(float)), *expected = malloc(n * sizeof(float));
        memcpy(expected, info->data, n * sizeof(float));
        for (size_t k = 0; k < n; k++)
            got[k] = *trainee_value(&t->tensors[i], k);
        double off = relative_error(got, expected, n);
        if (!(off <= FINAL_BOUND))
            fail_msg("%s: %s is off by %g after the last step", golden, t->tensors[i].name, off);
        free(got);
        free(expected);
    }
    tensor_set_close(&want);
}

static void run_steps(const char *golden, struct trainee *t)
{
    char path[256];
    graft_error error = {0};
    struct flat flat;
    struct optimiser optimiser;
    snprintf(path, sizeof(path), GOLDENS "/train/%s.jsonl", golden);
    FILE *file = fopen(path, "r");
    assert_non_null(file);
    json_t *options = next_line(file);
    const struct recipe recipe = read_recipe(options);
    flat_open(&flat, t);
    assert_int_equal(optimiser_open(&optimiser, NULL, flat.n, &recipe.optimiser, &error), GRAFT_OK);
    struct train_tape *tape = open_tape(t, &(struct train_options){.max_tok = MAX_TOK});
    refresh_tape(tape);
    for (int step = 0; step < STEPS; step++) {
        json_t *want = next_line(file);
        take_step(golden, &flat, tape, &optimiser, &recipe, step, want);
        json_decref(want);
    }
    check_final(golden, t);
    train_tape_close(&tape);
    optimiser_close(&optimiser);
    free(flat.values);
    free(flat.grads);
    json_decref(options);
    fclose(file);
}

static void check_golden(const json_t *golden, struct graft_runtime *rt)
{
    const char *name = json_string_value(json_object_get(golden, "name")),
               *arch = json_string_value(json_object_get(golden, "model")),
               *variant = json_string_value(json_object_get(golden, "variant"));
    struct oracle_model weights, adapter;
    struct trainee trainee;
    oracle_model_make(&weights, oracle_config(arch), 1);
    oracle_write_hf(&weights, at(arch), GRAFT_TYPE_F32);
    oracle_adapter_make(&adapter, variant, (int)json_integer_value(json_object_get(golden, "seed")),
                        &weights);
    struct model *model = open_model(rt, at(arch));
    trainee_open(&trainee, model);
    trainee_add_adapter(&trainee, &adapter);
    run_steps(name, &trainee);
    trainee_free(&trainee);
    model_close(&model);
    oracle_model_free(&adapter);
    oracle_model_free(&weights);
}

static void ten_steps_and_the_final_adapter_match_every_golden(void **state)
{
    (void)state;
    for (int tier = 0; kernels_tier(tier); tier++) {
        struct graft_runtime rt;
        runtime_start(&rt, 1 + tier % 2, kernels_tier(tier));
        FILE *file = fopen(GOLDENS "/train.jsonl", "r");
        json_t *golden;
        int n = 0;
        for (; (golden = next_line(file)); n++) {
            check_golden(golden, &rt);
            json_decref(golden);
        }
        assert_int_equal(n, 6);
        fclose(file);
        runtime_stop(&rt);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(ten_steps_and_the_final_adapter_match_every_golden),
    };
    return cmocka_run_group_tests(tests, setup, test_dir_close);
}
