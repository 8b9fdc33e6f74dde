/* test_goldens.c: logits and greedy continuations of every architecture against the reference
 * implementation's, on every tier, in both roles, with one and two threads.
 *
 * The models are made by the recipe in oracle_model.c (checked against SHA256SUMS); goldens/ holds what
 * the reference computed in double precision.
 */
#include "conformance_support.h"
#include "oracle_model.h"

#include <unistd.h>

/* Class f32: weights and keys exact, arithmetic in float. */
static const double F32_BOUND = 1e-4;
/* Class bf16: keys and values rounded to 16 bits. */
static const double F16_KV_BOUND = 3e-2, F16_KV_KL = 1e-4;
/* 8-bit keys and values; the sharp attention of these models is a hard case. Measured: 6.5e-2, 4.5e-4. */
static const double Q8_KV_BOUND = 1e-1, Q8_KV_KL = 1e-3;

struct golden {
    char name[64], model[64];
    graft_type type;
    graft_token_id tokens[32], greedy[32];
    int n_tokens, n_greedy;
    float *logits;
    size_t count;
};

static char *dir; /* of the models */
static struct golden *goldens;
static int n_goldens;

static int read_ids(const json_t *list, graft_token_id *out)
{
    size_t n = json_array_size(list);
    assert_true(n <= 32);
    for (size_t i = 0; i < n; i++)
        out[i] = (graft_token_id)json_integer_value(json_array_get(list, i));
    return (int)n;
}

static void read_golden(const char *line, struct golden *g)
{
    json_t *json = json_loads(line, 0, NULL);
    assert_non_null(json);
    snprintf(g->name, sizeof(g->name), "%s", json_string_value(json_object_get(json, "name")));
    snprintf(g->model, sizeof(g->model), "%s-%s", json_string_value(json_object_get(json, "model")),
             json_string_value(json_object_get(json, "dtype")));
    g->type = graft_type_from_name(json_string_value(json_object_get(json, "dtype")));
    g->n_tokens = read_ids(json_object_get(json, "tokens"), g->tokens);
    const json_t *greedy = json_object_get(json, "greedy");
    g->n_greedy = read_ids(json_object_get(greedy, "tokens"), g->greedy);
    char path[512];
    snprintf(path, sizeof(path), GOLDENS "/forward/%s.npy", g->name);
    g->logits = load_npy(path, &g->count);
    json_decref(json);
}

static void write_model(const struct golden *g)
{
    char arch[64], path[768];
    snprintf(arch, sizeof(arch), "%.*s", (int)(strrchr(g->model, '-') - g->model), g->model);
    snprintf(path, sizeof(path), "%s/%s", dir, g->model);
    struct oracle_model m;
    oracle_model_make(&m, oracle_config(arch), 1);
    oracle_write_hf(&m, path, g->type);
    oracle_model_free(&m);
}

static int setup(void **state)
{
    (void)state;
    dir = temp_dir();
    goldens = calloc(64, sizeof(*goldens));
    FILE *file = fopen(GOLDENS "/forward.jsonl", "r");
    assert_non_null(file);
    char line[4096];
    while (fgets(line, sizeof(line), file)) {
        read_golden(line, &goldens[n_goldens]);
        write_model(&goldens[n_goldens++]);
    }
    fclose(file);
    assert_int_equal(n_goldens, 11);
    return 0;
}

static int teardown(void **state)
{
    (void)state;
    temp_remove(dir);
    free(dir);
    for (int i = 0; i < n_goldens; i++)
        free(goldens[i].logits);
    free(goldens);
    return 0;
}

static void the_generated_models_are_the_references_byte_for_byte(void **state)
{
    (void)state;
    FILE *file = fopen(GOLDENS "/SHA256SUMS", "r");
    assert_non_null(file);
    char line[512];
    int n = 0;
    for (; fgets(line, sizeof(line), file); n++) {
        char sum[128], name[256], path[1024], found[65];
        assert_int_equal(sscanf(line, "%100s %200s", sum, name), 2);
        snprintf(path, sizeof(path), "%s/%s", dir, name);
        char *bytes = NULL;
        size_t size = 0;
        uint8_t digest[32];
        assert_int_equal(file_read(NULL, path, 1 << 28, &bytes, &size, NULL), GRAFT_OK);
        assert_int_equal(sha256(bytes, size, digest, NULL), GRAFT_OK);
        hex_write(digest, sizeof(digest), found);
        assert_string_equal(found, sum);
        mem_free(NULL, bytes);
    }
    fclose(file);
    assert_int_equal(n, 10);
}

/* The expected array of a classifier is the row of the last token that is not padding (id 0). */
static const float *comparable(const struct golden *g, const struct model *m, const float *logits,
                               int *rows)
{
    *rows = g->n_tokens;
    if (!m->config.n_labels)
        return logits;
    int last = g->n_tokens - 1;
    while (last > 0 && g->tokens[last] == m->config.pad)
        last--;
    *rows = 1;
    return logits + last * m->config.n_labels;
}

struct errors {
    double relative, kl;
};

static struct errors compare(const struct golden *g, const struct model *m, struct run how)
{
    int rows, width = model_n_logits(m);
    float *logits = run_tokens(m, g->tokens, g->n_tokens, how);
    const float *got = comparable(g, m, logits, &rows);
    assert_int_equal(g->count, (size_t)rows * (size_t)width);
    struct errors e = {relative_error(got, g->logits, g->count),
                       mean_kl(got, g->logits, rows, width)};
    free(logits);
    return e;
}

/* Every golden × tier × role × threads with one KV type. */
static void check_all(enum kv_type kv, double bound, double kl_bound)
{
    struct errors worst = {0, 0};
    for (int tier = 0; kernels_tier(tier); tier++)
        for (int threads = 1; threads <= 2; threads++) {
            struct graft_runtime rt;
            runtime_start(&rt, threads, kernels_tier(tier));
            for (int i = 0; i < n_goldens; i++) {
                char path[768];
                snprintf(path, sizeof(path), "%s/%s", dir, goldens[i].model);
                struct model *m = open_model(&rt, path);
                for (int role = 0; role < ROLE_COUNT; role++)
                    for (int chunk = 1; chunk <= 16; chunk += 15) {
                        struct errors e =
                            compare(&goldens[i], m, (struct run){(enum role)role, kv, chunk});
                        if (!(e.relative <= bound && e.kl <= kl_bound))
                            fail_msg("%s, tier %s, role %d, %d threads: error %.3g, KL %.3g",
                                     goldens[i].name, rt.kernels->tier, role, threads, e.relative,
                                     e.kl);
                        worst.relative = e.relative > worst.relative ? e.relative : worst.relative;
                        worst.kl = e.kl > worst.kl ? e.kl : worst.kl;
                    }
                model_close(&m);
            }
            runtime_stop(&rt);
        }
    print_message("worst error %.3g (bound %g), KL %.3g (bound %g)\n", worst.relative, bound,
                  worst.kl, kl_bound);
}

static void logits_with_f32_keys_match_every_golden(void **state)
{
    (void)state;
    check_all(KV_F32, F32_BOUND, F16_KV_KL);
}

static void logits_with_f16_keys_match_every_golden(void **state)
{
    (void)state;
    check_all(KV_F16, F16_KV_BOUND, F16_KV_KL);
}

static void logits_with_q8_keys_match_every_golden(void **state)
{
    (void)state;
    check_all(KV_Q8, Q8_KV_BOUND, Q8_KV_KL);
}

static void greedy_continuations_are_the_references(void **state)
{
    (void)state;
    for (int tier = 0; kernels_tier(tier); tier++) {
        struct graft_runtime rt;
        runtime_start(&rt, 2, kernels_tier(tier));
        for (int i = 0; i < n_goldens; i++) {
            const struct golden *g = &goldens[i];
            char path[768];
            snprintf(path, sizeof(path), "%s/%s", dir, g->model);
            struct model *m = open_model(&rt, path);
            for (int role = 0; role < ROLE_COUNT; role++) {
                graft_token_id ids[32];
                run_greedy(m, g->tokens, g->n_tokens, (struct run){(enum role)role, KV_F32, 16},
                           ids, g->n_greedy);
                assert_memory_equal(ids, g->greedy, (size_t)g->n_greedy * sizeof(ids[0]));
            }
            model_close(&m);
        }
        runtime_stop(&rt);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(the_generated_models_are_the_references_byte_for_byte),
        cmocka_unit_test(logits_with_f32_keys_match_every_golden),
        cmocka_unit_test(logits_with_f16_keys_match_every_golden),
        cmocka_unit_test(logits_with_q8_keys_match_every_golden),
        cmocka_unit_test(greedy_continuations_are_the_references),
    };
    return cmocka_run_group_tests(tests, setup, teardown);
}
