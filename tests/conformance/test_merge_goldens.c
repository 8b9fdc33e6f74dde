/* test_merge_goldens.c: merges against the reference implementation: every method on small matrices, with the best
 * approximation of rank 4, and adapters of files merged by the library, with the logits of the result.
 */
#include "merge_support.h"

#include "conformance_support.h"
#include "oracle_adapter.h"

#include <math.h>

static const double BOUND = 1e-5;
static const graft_token_id TOKENS[] = {5, 17, 300, 42, 8, 99, 250, 13, 77, 201, 6, 330, 151};

static struct graft_runtime rt;
static struct model *model;
static struct tensor_set inputs, outputs;

static int setup(void **state)
{
    struct oracle_model base;
    graft_error error = {0};
    test_dir_open(state);
    runtime_start(&rt, 2, kernels_find(NULL));
    oracle_model_make(&base, oracle_config("llama"), 1);
    oracle_write_hf(&base, at("base"), GRAFT_TYPE_F32);
    oracle_model_free(&base);
    model = open_model(&rt, at("base"));
    assert_int_equal(
        tensor_set_open(&inputs, NULL, GOLDENS "/merge/inputs.safetensors", MAP_COPY, &error),
        GRAFT_OK);
    assert_int_equal(
        tensor_set_open(&outputs, NULL, GOLDENS "/merge/outputs.safetensors", MAP_COPY, &error),
        GRAFT_OK);
    return 0;
}

static int teardown(void **state)
{
    tensor_set_close(&inputs);
    tensor_set_close(&outputs);
    model_close(&model);
    runtime_stop(&rt);
    return test_dir_close(state);
}

/* ---- matrices ----------------------------------------------------------------------------- */

static const float *matrix_of(const struct tensor_set *set, const char *name, const char *end,
                              int64_t *n_out, int64_t *n_in)
{
    char full[64];
    snprintf(full, sizeof full, "%s%s", name, end);
    const struct tensor_info *t = tensor_set_find(set, full);
    if (!t)
        return NULL;
    *n_out = t->shape[0];
    *n_in = t->shape[1];
    return (const float *)(const void *)t->data;
}

static double option(const json_t *golden, const char *key, double otherwise)
{
    const json_t *value = json_object_get(golden, key);
    return value ? json_number_value(value) : otherwise;
}

static bool says(const json_t *golden, const char *key, const char *word)
{
    const json_t *value = json_object_get(golden, key);
    return value && !strcmp(json_string_value(value), word);
}

/* DARE with the masks of the golden: what is left of each, divided by the density. */
static void run_masked(const json_t *golden, const struct merge_plan *plan, struct bench_site *b)
{
    const json_t *names = json_object_get(golden, "inputs");
    const int64_t count = b->site.n_out * b->site.n_in;
    float *x[64], *merged = malloc((size_t)count * sizeof *merged);
    int64_t n_out, n_in;
    for (size_t i = 0; i < plan->n; i++) {
        const char *name = json_string_value(json_array_get(names, i));
        const float *dw = matrix_of(&inputs, name, "", &n_out, &n_in);
        const float *mask = matrix_of(&inputs, name, ".mask", &n_out, &n_in);
        x[i] = malloc((size_t)count * sizeof *x[i]);
        for (int64_t j = 0; j < count; j++)
            x[i][j] = (float)((double)dw[j] * (double)mask[j] / plan->inputs[i].density);
    }
    const struct combination together = {.elect = merge_elects_signs(plan->method),
                                         .by_frequency = plan->by_frequency,
                                         .by_weight = plan->by_weight,
                                         .weights = b->site.factors,
                                         .n = plan->n,
                                         .lambda = 1};
    combine(&together, x, count, merged);
    const struct leading_source l = {
        .n_out = b->site.n_out, .n_in = b->site.n_in, .at_hand = merged};
    assert_int_equal(leading_directions(&rt, &l, b->site.out_rank, b->result.a, b->result.b,
                                        &b->result.all, &b->result.kept, NULL),
                     GRAFT_OK);
    for (size_t i = 0; i < plan->n; i++)
        free(x[i]);
    free(merged);
}

static void run_method(const json_t *golden, const struct merge_plan *plan, struct bench_site *b)
{
    graft_error error = {0};
    graft_status status = GRAFT_OK;
    if (plan->method == MERGE_SLERP) {
        double inner[4];
        status = changes_inner(&b->changes, inner, &error);
        merge_slerp_factors(inner, plan->t, b->site.factors);
    }
    if (status == GRAFT_OK &&
        (plan->method == MERGE_DARE_LINEAR || plan->method == MERGE_DARE_TIES))
        run_masked(golden, plan, b);
    else if (status == GRAFT_OK && merge_is_dense(plan->method))
        status = merge_dense(plan, &b->changes, &b->result, &error);
    else if (status == GRAFT_OK)
        status = merge_sum(&b->changes, &b->result, &error);
    if (status != GRAFT_OK)
        fail_msg("%s", error.message);
}

static void check_product(const struct bench_site *b, const char *name, const char *end)
{
    int64_t n_out = 0, n_in = 0;
    const float *want = matrix_of(&outputs, name, end, &n_out, &n_in);
    float *got = bench_site_product(b);
    assert_non_null(want);
    double error = relative_error(got, want, (size_t)(n_out * n_in));
    if (!(error <= BOUND))
        fail_msg("%s%s: error %.3g", name, end, error);
    free(got);
}

static void check_golden(const json_t *golden)
{
    const json_t *names = json_object_get(golden, "inputs");
    const char *name = json_string_value(json_object_get(golden, "name"));
    struct merge_plan plan = {.n = json_array_size(names), .lambda = 1};
    struct merge_input in[8];
    struct bench_site b;
    int64_t n_out = 0, n_in = 0, ranks[8];
    plan.inputs = in;
    plan.t = option(golden, "t", 0.5);
    plan.by_frequency = says(golden, "election", "frequency");
    plan.by_weight = says(golden, "divisor", "weight");
    assert_true(
        merge_method_from(json_string_value(json_object_get(golden, "method")), &plan.method));
    for (size_t i = 0; i < plan.n; i++) {
        const json_t *weight = json_array_get(json_object_get(golden, "weights"), i);
        const char *input = json_string_value(json_array_get(names, i));
        matrix_of(&inputs, input, "", &n_out, &n_in);
        in[i] = (struct merge_input){.name = input,
                                     .weight = weight ? json_number_value(weight) : 1,
                                     .density = option(golden, "density", 1)};
        ranks[i] = n_in;
    }
    assert_int_equal(merge_check(&plan, NULL), GRAFT_OK);
    bench_site_open(&b, model, n_out, n_in, ranks, plan.n);
    for (size_t i = 0; i < plan.n; i++) {
        bench_site_set(&b, i, matrix_of(&inputs, in[i].name, "", &n_out, &n_in));
        b.site.factors[i] = merge_uses_weights(plan.method) ? in[i].weight : 1 / (double)plan.n;
    }
    bench_site_want(&b, n_out < n_in ? n_out : n_in);
    run_method(golden, &plan, &b);
    check_product(&b, name, "");
    if (json_object_get(golden, "discarded_energy")) {
        bench_site_want(&b, 4);
        run_method(golden, &plan, &b);
        check_product(&b, name, ".rank4");
        double lost = (b.result.all - b.result.kept) / b.result.all;
        assert_true(fabs(lost - option(golden, "discarded_energy", -1)) < 1e-5);
    }
    bench_site_close(&b);
}

static void every_golden_of_matrices_is_met(void **state)
{
    (void)state;
    FILE *file = fopen(GOLDENS "/merge/cases.jsonl", "r");
    char line[4096];
    int n = 0;
    assert_non_null(file);
    for (; fgets(line, sizeof line, file); n++) {
        json_t *golden = json_loads(line, 0, NULL);
        check_golden(golden);
        json_decref(golden);
    }
    assert_int_equal(n, 18);
    fclose(file);
}

/* ---- adapters ----------------------------------------------------------------------------- */

static double after(const char *options, const char *word, double otherwise)
{
    const char *at_word = strstr(options, word);
    return at_word ? strtod(at_word + strlen(word), NULL) : otherwise;
}

static void write_member(const json_t *member, const char *dir)
{
    struct oracle_model base, adapter;
    oracle_model_make(&base, oracle_config("llama"), 1);
    oracle_adapter_make(&adapter, json_string_value(json_object_get(member, "variant")),
                        (int)json_integer_value(json_object_get(member, "seed")), &base);
    oracle_adapter_write(&adapter, dir, GRAFT_TYPE_F32);
    oracle_model_free(&adapter);
    oracle_model_free(&base);
}

static void check_logits(const char *dir, const char *name)
{
    struct adapter *adapter = NULL;
    struct mix *mix = NULL;
    char path[512];
    size_t count;
    graft_error error = {0};
    if (adapter_open(model, dir, NULL, &adapter, &error) != GRAFT_OK)
        fail_msg("%s: %s", name, error.message);
    assert_int_equal(mix_make(model, &(struct mix_part){adapter, 1}, 1, &mix, NULL), GRAFT_OK);
    snprintf(path, sizeof path, GOLDENS "/merge/%s.npy", name);
    float *want = load_npy(path, &count);
    float *got = run_tokens_with(model, TOKENS, ARRAY_LEN(TOKENS),
                                 (struct run){ROLE_PREFILL, KV_F32, 16}, mix_deltas(mix));
    assert_int_equal(count, ARRAY_LEN(TOKENS) * (size_t)model_n_logits(model));
    double off = relative_error(got, want, count);
    if (!(off <= 1e-4))
        fail_msg("%s: error %.3g", name, off);
    free(want);
    free(got);
    mix_release(&mix);
    adapter_release(&adapter);
}

static void check_energies(const json_t *golden, const json_t *report)
{
    const json_t *want = json_object_get(json_object_get(golden, "result"), "discarded_energy");
    const json_t *one;
    size_t i;
    assert_true(json_array_size(json_object_get(report, "modules")) >= json_object_size(want));
    json_array_foreach(json_object_get(report, "modules"), i, one)
    {
        const json_t *lost =
            json_object_get(want, json_string_value(json_object_get(one, "module")));
        double got = json_number_value(json_object_get(one, "discarded_energy"));
        assert_true(fabs(got - (lost ? json_number_value(lost) : 0)) < 1e-5);
    }
}

static void check_merge(const json_t *golden)
{
    const char *name = json_string_value(json_object_get(golden, "name"));
    const char *options = json_string_value(json_object_get(golden, "options"));
    const json_t *members = json_object_get(golden, "adapters");
    const struct adapter_recipe card = {.name = "merged", .version = "0.1.0"};
    struct merge_input in[2];
    char paths[2][64], merged[64];
    struct merge_plan plan = {.inputs = in,
                              .n = 2,
                              .rank = (int64_t)after(options, "--rank ", 0),
                              .lambda = 1,
                              .t = after(options, "--t ", 0.5),
                              .save = {.format = ADAPTER_PEFT},
                              .card = &card};
    graft_error error = {0};
    json_t *report = NULL;
    assert_true(merge_method_from(name, &plan.method));
    for (size_t i = 0; i < 2; i++) {
        const json_t *member = json_array_get(members, i);
        snprintf(paths[i], sizeof paths[i], "%s-%zu", name, i);
        write_member(member, at(paths[i]));
        in[i] = (struct merge_input){.path = strdup(at(paths[i])),
                                     .name = paths[i],
                                     .weight = option(member, "weight", 1),
                                     .density = after(options, "--density ", 1)};
    }
    snprintf(merged, sizeof merged, "%s-merged", name);
    if (merge_write(model, &plan, at(merged), &report, &error) != GRAFT_OK)
        fail_msg("%s: %s", name, error.message);
    check_energies(golden, report);
    check_logits(at(merged), name);
    json_decref(report);
    for (size_t i = 0; i < 2; i++)
        free((char *)(uintptr_t)in[i].path);
}

static void every_golden_of_adapters_is_met(void **state)
{
    (void)state;
    FILE *file = fopen(GOLDENS "/merge/adapters.jsonl", "r");
    char line[8192];
    int n = 0;
    assert_non_null(file);
    for (; fgets(line, sizeof line, file); n++) {
        json_t *golden = json_loads(line, 0, NULL);
        check_merge(golden);
        json_decref(golden);
    }
    assert_int_equal(n, 5);
    fclose(file);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(every_golden_of_matrices_is_met),
        cmocka_unit_test(every_golden_of_adapters_is_met),
    };
    return cmocka_run_group_tests(tests, setup, teardown);
}
