/* test_train_goldens.c: losses and gradients of the first step against the reference implementation, which has them
 * in double precision: every training golden, on every tier.
 */
#include "conformance/oracle_adapter.h"
#include "support/trainee.h"

static const double LOSS_BOUND = 1e-5, GRADIENT_BOUND = 1e-4;

enum { MAX_TOK = 128, EXAMPLES = 4 };

struct golden {
    char name[32], arch[32], variant[32];
    int seed;
};
static struct golden goldens[8];
static int n_goldens;

static void read_text(const json_t *json, const char *key, char *out, size_t size)
{
    snprintf(out, size, "%s", json_string_value(json_object_get(json, key)));
}

static int setup(void **state)
{
    test_dir_open(state);
    FILE *file = fopen(GOLDENS "/train.jsonl", "r");
    assert_non_null(file);
    char line[512];
    while (fgets(line, sizeof(line), file)) {
        struct golden *g = &goldens[n_goldens++];
        json_t *json = json_loads(line, 0, NULL);
        read_text(json, "name", g->name, sizeof(g->name));
        read_text(json, "model", g->arch, sizeof(g->arch));
        read_text(json, "variant", g->variant, sizeof(g->variant));
        g->seed = (int)json_integer_value(json_object_get(json, "seed"));
        json_decref(json);
    }
    fclose(file);
    assert_int_equal(n_goldens, 6);
    return 0;
}

/* The examples of the first step. */
static void read_lesson(struct lesson *lesson)
{
    FILE *file = fopen(GOLDENS "/train/data.jsonl", "r");
    char line[2048];
    lesson_open(lesson, MAX_TOK, EXAMPLES);
    for (int e = 0; e < EXAMPLES; e++) {
        graft_token_id tokens[32];
        int32_t labels[32];
        assert_non_null(fgets(line, sizeof(line), file));
        json_t *json = json_loads(line, 0, NULL);
        const json_t *ids = json_object_get(json, "tokens"),
                     *list = json_object_get(json, "labels");
        int n = (int)json_array_size(ids);
        assert_true(n <= 32);
        for (int i = 0; i < n; i++) {
            tokens[i] = (graft_token_id)json_integer_value(json_array_get(ids, (size_t)i));
            labels[i] = (int32_t)json_integer_value(json_array_get(list, (size_t)i));
        }
        lesson_add(lesson, tokens, labels, n);
        json_decref(json);
    }
    fclose(file);
}

/* The first line after the options. */
static double golden_loss(const struct golden *g)
{
    char path[256], line[512];
    snprintf(path, sizeof(path), GOLDENS "/train/%s.jsonl", g->name);
    FILE *file = fopen(path, "r");
    assert_non_null(fgets(line, sizeof(line), file));
    assert_non_null(fgets(line, sizeof(line), file));
    fclose(file);
    json_t *json = json_loads(line, 0, NULL);
    double loss = json_number_value(json_object_get(json, "loss"));
    json_decref(json);
    return loss;
}

static void check_gradients(const struct golden *g, const struct trainee *t, double count)
{
    char path[256];
    graft_error error = {0};
    struct tensor_set want;
    snprintf(path, sizeof(path), GOLDENS "/train/%s.grads.safetensors", g->name);
    if (tensor_set_open(&want, NULL, path, MAP_COPY, &error) != GRAFT_OK)
        fail_msg("%s", error.message);
    assert_int_equal(tensor_set_count(&want), t->n_tensors);
    for (size_t i = 0; i < t->n_tensors; i++) {
        const struct trainee_tensor *tensor = &t->tensors[i];
        const struct tensor_info *info = tensor_set_find(&want, tensor->name);
        assert_non_null(info);
        size_t n = trainee_count(tensor);
        assert_int_equal(info->size, n * sizeof(float));
        float *got = malloc(n * sizeof(float)), *expected = malloc(n * sizeof(float));
        memcpy(expected, info->data, n * sizeof(float));
        for (size_t k = 0; k < n; k++)
            got[k] = (float)((double)trainee_gradient(tensor, k) / count);
        double off = relative_error(got, expected, n);
        if (!(off <= GRADIENT_BOUND))
            fail_msg("%s: the gradient of %s is off by %g", g->name, tensor->name, off);
        free(got);
        free(expected);
    }
    tensor_set_close(&want);
}

static void check_golden(const struct golden *g, struct graft_runtime *rt)
{
    struct oracle_model weights, adapter;
    struct trainee trainee;
    struct lesson lesson;
    const struct train_options options = {.max_tok = MAX_TOK, .loss_rows = 7};
    oracle_model_make(&weights, oracle_config(g->arch), 1);
    oracle_write_hf(&weights, at(g->arch), GRAFT_TYPE_F32);
    oracle_adapter_make(&adapter, g->variant, g->seed, &weights);
    struct model *model = open_model(rt, at(g->arch));
    trainee_open(&trainee, model);
    trainee_add_adapter(&trainee, &adapter);
    read_lesson(&lesson);
    struct train_tape *tape = open_tape(&trainee, &options);
    refresh_tape(tape);
    struct train_result result = run_tape(tape, &lesson.batch, true);
    double loss = golden_loss(g), off = result.nll / result.weight / loss - 1;
    if (!(off < LOSS_BOUND && off > -LOSS_BOUND))
        fail_msg("%s: the loss is %.9g, not %.9g", g->name, result.nll / result.weight, loss);
    check_gradients(g, &trainee, result.weight);
    train_tape_close(&tape);
    lesson_free(&lesson);
    trainee_free(&trainee);
    model_close(&model);
    oracle_model_free(&adapter);
    oracle_model_free(&weights);
}

static void losses_and_gradients_of_step_0_match_every_golden(void **state)
{
    (void)state;
    for (int tier = 0; kernels_tier(tier); tier++) {
        struct graft_runtime rt;
        runtime_start(&rt, 1 + tier % 2, kernels_tier(tier));
        for (int i = 0; i < n_goldens; i++)
            check_golden(&goldens[i], &rt);
        runtime_stop(&rt);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(losses_and_gradients_of_step_0_match_every_golden),
    };
    return cmocka_run_group_tests(tests, setup, test_dir_close);
}
