/* test_merge_refused.c: what is no merge gets one clear line, and leaves neither files nor memory behind: plans that cannot be,
 * adapters that do not go together, lack of memory at every allocation, a caller who changes his mind.
 */
#include "merge_fixture.h"

#include "failing_allocator.h"
#include "failing_json.h"

#include <dirent.h>

/* Names in the folder of the tests. */
static int files_there(void)
{
    DIR *dir = opendir(test_dir);
    int n = 0;
    assert_non_null(dir);
    while (readdir(dir))
        n++;
    closedir(dir);
    return n;
}

/* `out` must be a path of nothing, and is one still. */
static void refused(const struct merging *m, const struct model *model, const char *out,
                    graft_status want, const char *word)
{
    graft_error error = {0};
    json_t *report = NULL;
    const size_t before = atomic_load(&rt.mem.bytes_in_use);
    const int files = files_there();
    const graft_status status = merge_write(model, &m->plan, out, &report, &error);
    if (status != want || !strstr(error.message, word) || strchr(error.message, '\n'))
        fail_msg("%s: status %d, %s", word, status, error.message);
    assert_null(report);
    assert_int_equal(files_there(), files);
    assert_int_equal(atomic_load(&rt.mem.bytes_in_use), before);
}

/* ---- plans -------------------------------------------------------------------------------- */

struct bad_plan {
    const char *word;
    struct merge_plan plan;    /* method, n, t, rank, energy, lambda, normalize */
    struct merge_input inputs; /* of the second */
};

#define INPUT(w, d, e, g)                                                                          \
    {                                                                                              \
        .name = "b", .weight = (double)(w), .density = (double)(d), .epsilon = (double)(e),        \
        .gamma = (double)(g)                                                                       \
    }
#define GOOD INPUT(1, 0.5, 0, 0)

static void plans_that_cannot_be_are_refused(void **state)
{
    (void)state;
    static const struct bad_plan PLANS[] = {
        {"0 adapters", {.lambda = 1}, GOOD},
        {"65 adapters", {.n = 65, .lambda = 1}, GOOD},
        {"it takes 2, not 3", {.method = MERGE_SLERP, .n = 3, .lambda = 1}, GOOD},
        {"it takes 2, not 1", {.method = MERGE_SLERP, .n = 1, .lambda = 1}, GOOD},
        {"slerp's t is -0.1", {.n = 2, .lambda = 1, .method = MERGE_SLERP, .t = -0.1}, GOOD},
        {"slerp's t is 1.1", {.n = 2, .lambda = 1, .method = MERGE_SLERP, .t = 1.1}, GOOD},
        {"slerp's t is nan", {.n = 2, .lambda = 1, .method = MERGE_SLERP, .t = (double)NAN}, GOOD},
        {"rank -1", {.n = 2, .lambda = 1, .rank = -1}, GOOD},
        {"rank 65537", {.n = 2, .lambda = 1, .rank = 65537}, GOOD},
        {"cat keeps every rank", {.n = 2, .lambda = 1, .method = MERGE_CAT, .rank = 4}, GOOD},
        {"cat keeps every rank", {.n = 2, .lambda = 1, .method = MERGE_CAT, .energy = 0.5}, GOOD},
        {"energy 1.5", {.n = 2, .lambda = 1, .energy = 1.5}, GOOD},
        {"energy -1", {.n = 2, .lambda = 1, .energy = -1}, GOOD},
        {"energy nan", {.n = 2, .lambda = 1, .energy = (double)NAN}, GOOD},
        {"of a weighted sum", {.n = 2, .lambda = 1, .method = MERGE_TIES, .energy = 0.5}, GOOD},
        {"lambda inf", {.n = 2, .lambda = (double)INFINITY}, GOOD},
        {"weight nan of b", {.n = 2, .lambda = 1, .method = MERGE_LINEAR}, INPUT(NAN, 0.5, 0, 0)},
        {"weight inf of b",
         {.n = 2, .lambda = 1, .method = MERGE_TIES},
         INPUT(INFINITY, 0.5, 0, 0)},
        {"the weights sum to 0",
         {.n = 2, .lambda = 1, .method = MERGE_LINEAR, .normalize = true},
         INPUT(-1, 0.5, 0, 0)},
        {"density 0 of b", {.n = 2, .lambda = 1, .method = MERGE_TIES}, INPUT(1, 0, 0, 0)},
        {"density 1.01 of b",
         {.n = 2, .lambda = 1, .method = MERGE_DARE_LINEAR},
         INPUT(1, 1.01, 0, 0)},
        {"density nan of b",
         {.n = 2, .lambda = 1, .method = MERGE_MAGNITUDE_PRUNE},
         INPUT(1, NAN, 0, 0)},
        {"density -0.5 of b",
         {.n = 2, .lambda = 1, .method = MERGE_BREADCRUMBS},
         INPUT(1, -0.5, 0, 0)},
        {"epsilon 0.5 of b", {.n = 2, .lambda = 1, .method = MERGE_DELLA}, INPUT(1, 0.5, 0.5, 0)},
        {"epsilon 0.6 of b",
         {.n = 2, .lambda = 1, .method = MERGE_DELLA_LINEAR},
         INPUT(1, 0.5, 0.6, 0)},
        {"epsilon -0.1 of b", {.n = 2, .lambda = 1, .method = MERGE_DELLA}, INPUT(1, 0.5, -0.1, 0)},
        {"gamma 1 of b", {.n = 2, .lambda = 1, .method = MERGE_BREADCRUMBS}, INPUT(1, 0.5, 0, 1)},
        {"gamma nan of b",
         {.n = 2, .lambda = 1, .method = MERGE_BREADCRUMBS_TIES},
         INPUT(1, 0.5, 0, NAN)},
    };
    struct base b;
    struct merging m;
    base_make(&b, "llama", "base", 1, NULL);
    merging_open(&m, &b, "lora lora lora");
    const struct merge_input good = m.inputs[0];
    for (size_t i = 0; i < ARRAY_LEN(PLANS); i++) {
        m.plan = PLANS[i].plan;
        m.plan.inputs = m.inputs;
        m.inputs[1] = PLANS[i].inputs;
        m.inputs[1].path = m.paths[1];
        m.inputs[0] = m.inputs[2] = good;
        refused(&m, b.model, at("none"), GRAFT_INVALID_ARGUMENT, PLANS[i].word);
    }
    const struct adapter_recipe card = {.name = "no name", .version = "0.1.0"};
    m.plan = (struct merge_plan){.n = 1, .lambda = 1, .inputs = &good, .card = &card};
    refused(&m, b.model, at("none"), GRAFT_INVALID_ARGUMENT, "is no adapter name");
    merging_close(&m);
    base_close(&b);
}

/* What a method does not look at may be anything. */
static void settings_of_other_methods_do_not_count(void **state)
{
    (void)state;
    struct base b;
    struct merging m;
    base_make(&b, "llama", "base", 1, NULL);
    merging_open(&m, &b, "lora lora");
    m.plan.method = MERGE_AVERAGE;
    m.plan.t = 7;
    m.plan.normalize = true;
    m.inputs[0].weight = -1;
    m.inputs[1].density = m.inputs[1].epsilon = m.inputs[1].gamma = 9;
    merging_run(&m, b.model, "merged", NULL);
    merging_close(&m);
    base_close(&b);
}

/* ---- adapters ----------------------------------------------------------------------------- */

static void put_value(const struct base *b, const char *part, float value, const char *name)
{
    struct oracle_model a;
    size_t found = 0;
    oracle_adapter_make(&a, "dora", 3, &b->oracle);
    for (size_t i = 0; i < a.n_tensors; i++)
        if (strstr(a.tensors[i].name, part) && !found++)
            a.tensors[i].values[a.tensors[i].count / 2] = value;
    assert_true(found > 0);
    oracle_adapter_write(&a, fresh_path(name), GRAFT_TYPE_F32);
    oracle_model_free(&a);
}

static void values_that_are_no_numbers_are_refused(void **state)
{
    (void)state;
    static const char *const PARTS[] = {"lora_A", "lora_B", "magnitude"};
    struct base b;
    struct merging m;
    base_make(&b, "llama", "base", 1, NULL);
    merging_open(&m, &b, "lora dora");
    for (size_t i = 0; i < 2 * ARRAY_LEN(PARTS); i++)
        for (int method = 0; method < MERGE_METHOD_COUNT; method += 4) {
            put_value(&b, PARTS[i / 2], i % 2 ? NAN : -INFINITY, "in-1");
            m.plan.method = (enum merge_method)method;
            refused(&m, b.model, at("none"), GRAFT_NUMERIC, "");
        }
    merging_close(&m);
    base_close(&b);
}

static void sums_beyond_floats_are_refused(void **state)
{
    (void)state;
    struct base b;
    struct merging m;
    base_make(&b, "llama", "base", 1, NULL);
    merging_open(&m, &b, "lora lora");
    m.plan.method = MERGE_LINEAR;
    m.inputs[0].weight = 1e200;
    refused(&m, b.model, at("none"), GRAFT_NUMERIC, "beyond what");
    m.plan.rank = 3;
    refused(&m, b.model, at("none"), GRAFT_NUMERIC, "beyond what");
    m.plan.rank = 0;
    m.plan.energy = 0.5;
    refused(&m, b.model, at("none"), GRAFT_NUMERIC, "beyond what");
    m.plan.energy = 0;
    m.plan.method = MERGE_TIES;
    refused(&m, b.model, at("none"), GRAFT_NUMERIC, "beyond what");
    m.plan.method = MERGE_DARE_LINEAR;
    refused(&m, b.model, at("none"), GRAFT_NUMERIC, "beyond what");
    merging_close(&m);
    base_close(&b);
}

static void adapters_of_other_bases_are_refused(void **state)
{
    (void)state;
    struct base b, twin, other;
    struct merging m;
    base_make(&b, "llama", "base", 1, NULL);
    base_make(&twin, "llama", "twin", 2, NULL); /* of the same shapes */
    base_open(&other, "qwen3", false);          /* of others */
    merging_open(&m, &b, "lora lora");
    m.plan.method = MERGE_LINEAR;
    m.inputs[1].path = create(&twin, &RECIPE, "of-twin");
    refused(&m, b.model, at("none"), GRAFT_SHAPE, "");
    free(m.paths[1]);
    m.inputs[1].path = m.paths[1] = put_as(&other, "lora", 1, "of-other", GRAFT_TYPE_F32);
    refused(&m, b.model, at("none"), GRAFT_SHAPE, "");
    merging_close(&m);
    base_close(&b);
    base_close(&twin);
    base_close(&other);
}

static void outputs_that_are_there_are_left_alone(void **state)
{
    (void)state;
    struct base b;
    struct merging m;
    base_make(&b, "llama", "base", 1, NULL);
    merging_open(&m, &b, "lora lora");
    m.plan.method = MERGE_AVERAGE;
    refused(&m, b.model, m.paths[0], GRAFT_IO, "");
    refused(&m, b.model, m.paths[1], GRAFT_IO, "");
    refused(&m, b.model, at("base"), GRAFT_IO, "");
    m.plan.save.format = ADAPTER_GGUF;
    char file[512];
    snprintf(file, sizeof file, "%s/adapter_model.safetensors", m.paths[1]);
    refused(&m, b.model, file, GRAFT_IO, "");
    m.inputs[1].path = at("nowhere");
    refused(&m, b.model, at("none"), GRAFT_NOT_FOUND, "");
    merging_close(&m);
    base_close(&b);
}

static void what_does_not_merge_is_refused_by_name(void **state)
{
    (void)state;
    static const struct {
        const char *variants;
        enum merge_method method;
        enum adapter_format format;
        const char *word;
    } CASES[] = {
        {"lora embed-dora", MERGE_LINEAR, ADAPTER_PEFT, "magnitudes of an embedding"},
        {"saved lora", MERGE_TIES, ADAPTER_PEFT, "is held whole, which ties does not merge"},
        {"saved lora", MERGE_SLERP, ADAPTER_PEFT, "is held whole, which slerp does not merge"},
        {"saved embed", MERGE_LINEAR, ADAPTER_PEFT, "held whole by one adapter"},
        {"embed saved", MERGE_LINEAR, ADAPTER_PEFT, "held whole by one adapter"},
        {"embed dora", MERGE_AVERAGE, ADAPTER_PEFT, "the embedding has factors"},
        {"lora dora", MERGE_LINEAR, ADAPTER_GGUF, "magnitudes (DoRA)"},
        {"lora saved", MERGE_LINEAR, ADAPTER_GGUF, "a weight of its own"},
        {"lora lora-bias", MERGE_LINEAR, ADAPTER_GGUF, "a bias of B"},
    };
    struct base b;
    base_make(&b, "llama", "base", 1, NULL);
    for (size_t i = 0; i < ARRAY_LEN(CASES); i++) {
        struct merging m;
        merging_open(&m, &b, CASES[i].variants);
        m.plan.method = CASES[i].method;
        m.plan.save.format = CASES[i].format;
        refused(&m, b.model, at("none"), GRAFT_UNSUPPORTED, CASES[i].word);
        merging_close(&m);
    }
    struct merging m;
    merging_open(&m, &b, "lora dora");
    m.plan.method = MERGE_SVD;
    m.plan.energy = 0.5;
    refused(&m, b.model, at("none"), GRAFT_UNSUPPORTED, "svd knows no energy beforehand");
    merging_close(&m);
    base_close(&b);
}

/* W' − W of magnitudes that are 0 is −W; twice of it takes the rows away twice over, once leaves none. */
static void rows_that_are_taken_away_are_refused(void **state)
{
    (void)state;
    struct base b;
    struct oracle_model a;
    struct merging m;
    base_make(&b, "llama", "base", 1, NULL);
    merging_open(&m, &b, "lora dora");
    oracle_adapter_make(&a, "dora", 3, &b.oracle);
    for (size_t i = 0; i < a.n_tensors; i++)
        if (strstr(a.tensors[i].name, "magnitude"))
            a.tensors[i].values[5] = 0;
    oracle_adapter_write(&a, fresh_path("in-1"), GRAFT_TYPE_F32);
    oracle_model_free(&a);
    m.plan.method = MERGE_LINEAR;
    refused(&m, b.model, at("none"), GRAFT_NUMERIC, "row 5 of the base away");
    m.inputs[1].weight = 0.5;
    merging_run(&m, b.model, "merged", NULL);
    merging_close(&m);
    base_close(&b);
}

/* ---- interruptions ------------------------------------------------------------------------ */

/* All kinds of inputs, and of results. */
static const struct {
    const char *variants;
    enum merge_method method;
    enum adapter_format format;
} KINDS[] = {
    {"mlx-dora lora-bias", MERGE_LINEAR, ADAPTER_PEFT},
    {"mlx-lora mlx-dora", MERGE_SLERP, ADAPTER_MLX},
    {"mlx-lora lora", MERGE_BREADCRUMBS_TIES, ADAPTER_GGUF},
    {"mlx-dora lora", MERGE_DELLA, ADAPTER_PEFT},
    {"saved lora", MERGE_AVERAGE, ADAPTER_PEFT},
};

static void open_kind(struct merging *m, const struct base *b, size_t i)
{
    static const struct adapter_recipe CARD = {.name = "both", .version = "0.1.0"};
    merging_open(m, b, KINDS[i].variants);
    m->plan.method = KINDS[i].method;
    m->plan.save.format = KINDS[i].format;
    m->plan.rank = i == 4 ? 0 : 5;
    m->plan.card = i % 2 ? &CARD : NULL;
    for (size_t k = 0; k < m->plan.n; k++) {
        m->inputs[k].density = 0.5;
        m->inputs[k].gamma = 0.1;
    }
}

/* Counts what is left of a merge: all of it, or nothing. */
static void check_left(const struct merging *m, const struct base *b, graft_status *status,
                       graft_error *error, void (*before)(void *), void (*after)(void *),
                       void *user)
{
    json_t *report = NULL;
    const int files = files_there();
    const size_t bytes = atomic_load(&rt.mem.bytes_in_use);
    *error = (graft_error){0};
    before(user);
    *status = merge_write(b->model, &m->plan, at("none"), &report, error);
    after(user);
    assert_int_equal(atomic_load(&rt.mem.bytes_in_use), bytes);
    assert_int_equal(files_there(), files + (*status == GRAFT_OK));
    assert_true((report != NULL) == (*status == GRAFT_OK));
    assert_null(strchr(error->message, '\n'));
    json_decref(report);
    fresh_path("none");
}

static size_t next_of(size_t n)
{
    return n + 1 + n / 32;
}

struct memory_fails {
    struct failing_allocator failing;
    struct mem with;
    graft_allocator saved;
    size_t at;
};

static void memory_begin(void *user)
{
    struct memory_fails *f = user;
    failing_init(&f->failing, &f->with, f->at);
    f->failing.ever_after = true;
    f->saved = rt.mem.allocator;
    rt.mem.allocator = f->with.allocator;
}

static void memory_end(void *user)
{
    struct memory_fails *f = user;
    rt.mem.allocator = f->saved;
}

static void lack_of_memory_leaves_nothing(void **state)
{
    (void)state;
    struct base b;
    base_make(&b, "llama", "base", 1, NULL);
    for (size_t i = 0; i < ARRAY_LEN(KINDS); i++) {
        struct merging m;
        struct memory_fails f;
        graft_status status;
        graft_error error;
        open_kind(&m, &b, i);
        f.at = 0;
        do {
            f.at = next_of(f.at);
            check_left(&m, &b, &status, &error, memory_begin, memory_end, &f);
            if (status != (f.failing.failed ? GRAFT_NO_MEMORY : GRAFT_OK))
                fail_msg("kind %zu, allocation %zu: %d, %s", i, f.at, status, error.message);
        } while (f.failing.failed);
        merging_close(&m);
    }
    base_close(&b);
}

struct json_fails {
    size_t at;
    bool failed;
};

static void json_begin(void *user)
{
    failing_json_begin(((const struct json_fails *)user)->at);
}

static void json_end(void *user)
{
    ((struct json_fails *)user)->failed = failing_json_end();
}

static void lack_of_memory_for_json_leaves_nothing(void **state)
{
    (void)state;
    struct base b;
    base_make(&b, "llama", "base", 1, NULL);
    for (size_t i = 0; i < ARRAY_LEN(KINDS); i += 2) {
        struct merging m;
        struct json_fails f = {0};
        graft_status status;
        graft_error error;
        open_kind(&m, &b, i);
        do {
            f.at = next_of(f.at);
            check_left(&m, &b, &status, &error, json_begin, json_end, &f);
            if ((status == GRAFT_OK) == f.failed) /* jansson may call it a syntax error */
                fail_msg("kind %zu, JSON allocation %zu: %d, %s", i, f.at, status, error.message);
        } while (f.failed);
        merging_close(&m);
    }
    base_close(&b);
}

static void nothing(void *user)
{
    (void)user;
}

static bool until(void *user, uint64_t done, uint64_t total, const char *what)
{
    int *left = user;
    (void)what;
    assert_true(done <= total);
    return --*left > 0;
}

static void a_caller_may_change_his_mind(void **state)
{
    (void)state;
    struct base b;
    base_make(&b, "llama", "base", 1, NULL);
    for (size_t i = 0; i < ARRAY_LEN(KINDS); i++) {
        struct merging m;
        graft_status status;
        graft_error error;
        open_kind(&m, &b, i);
        for (int calls = 1; calls < 12; calls += 5) {
            int left = calls;
            m.plan.save.progress = (struct save_progress){until, &left};
            check_left(&m, &b, &status, &error, nothing, nothing, NULL);
            assert_int_equal(status, GRAFT_CANCELLED);
            assert_int_equal(left, 0);
        }
        int left = 100000;
        m.plan.save.progress.user = &left;
        check_left(&m, &b, &status, &error, nothing, nothing, NULL);
        assert_int_equal(status, GRAFT_OK);
        merging_close(&m);
    }
    base_close(&b);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(plans_that_cannot_be_are_refused),
        cmocka_unit_test(settings_of_other_methods_do_not_count),
        cmocka_unit_test(values_that_are_no_numbers_are_refused),
        cmocka_unit_test(sums_beyond_floats_are_refused),
        cmocka_unit_test(adapters_of_other_bases_are_refused),
        cmocka_unit_test(outputs_that_are_there_are_left_alone),
        cmocka_unit_test(what_does_not_merge_is_refused_by_name),
        cmocka_unit_test(rows_that_are_taken_away_are_refused),
        cmocka_unit_test(lack_of_memory_leaves_nothing),
        cmocka_unit_test(lack_of_memory_for_json_leaves_nothing),
        cmocka_unit_test(a_caller_may_change_his_mind),
    };
    return cmocka_run_group_tests(tests, setup, teardown);
}
