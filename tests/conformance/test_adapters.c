/* test_adapters.c: models with adapters against the reference implementation: every golden on every tier, in
 * both roles, and what the adapter changes by itself.
 *
 * Models and adapters are made by the recipes of oracle_model.c and oracle_adapter.c (checked against
 * ADAPTERS.SHA256); goldens/ holds what the reference computed in double precision.
 */
#include "adapter/adapter.h"

#include "conformance_support.h"
#include "oracle_adapter.h"

/* Class f32: weights and keys exact, arithmetic in float. */
static const double LOGITS_BOUND = 1e-4, EFFECT_BOUND = 1e-3;

enum { MAX_MEMBERS = 2 };

struct golden {
    char name[64], arch[32], dtype[8];
    graft_type type;
    struct {
        char variant[32];
        int seed;
        float weight;
    } members[MAX_MEMBERS];
    int n_members;
    graft_token_id tokens[32], greedy[32];
    int n_tokens, n_greedy;
    float *logits, *base; /* with the adapters, without */
    size_t count;
};

static struct golden goldens[32];
static int n_goldens;

static int read_ids(const json_t *list, graft_token_id *out)
{
    size_t n = json_array_size(list);
    assert_true(n <= 32);
    for (size_t i = 0; i < n; i++)
        out[i] = (graft_token_id)json_integer_value(json_array_get(list, i));
    return (int)n;
}

static void copy_text(const json_t *json, const char *key, char *out, size_t size)
{
    snprintf(out, size, "%s", json_string_value(json_object_get(json, key)));
}

static void read_golden(const char *line, struct golden *g)
{
    json_t *json = json_loads(line, 0, NULL);
    const json_t *member;
    char path[512];
    size_t i;
    copy_text(json, "name", g->name, sizeof(g->name));
    copy_text(json, "model", g->arch, sizeof(g->arch));
    copy_text(json, "dtype", g->dtype, sizeof(g->dtype));
    g->type = graft_type_from_name(g->dtype);
    json_array_foreach(json_object_get(json, "adapters"), i, member)
    {
        assert_true(i < MAX_MEMBERS);
        copy_text(member, "variant", g->members[i].variant, sizeof(g->members[i].variant));
        g->members[i].seed = (int)json_integer_value(json_object_get(member, "seed"));
        g->members[i].weight = (float)json_number_value(json_object_get(member, "weight"));
        g->n_members++;
    }
    g->n_tokens = read_ids(json_object_get(json, "tokens"), g->tokens);
    g->n_greedy = read_ids(json_object_get(json_object_get(json, "greedy"), "tokens"), g->greedy);
    snprintf(path, sizeof(path), GOLDENS "/forward/%s.npy", g->name);
    g->logits = load_npy(path, &g->count);
    size_t count;
    snprintf(path, sizeof(path), GOLDENS "/forward/%.*s.npy", (int)(strchr(g->name, '+') - g->name),
             g->name);
    g->base = load_npy(path, &count);
    assert_int_equal(count, g->count);
    json_decref(json);
}

/* "llama-f32", "llama-f32+dora-7", as the reference calls its directories. */
static const char *model_dir(const struct golden *g)
{
    char name[128];
    snprintf(name, sizeof(name), "%s-%s", g->arch, g->dtype);
    return at(name);
}

static const char *adapter_dir(const struct golden *g, int i)
{
    char name[128];
    snprintf(name, sizeof(name), "%s-%s+%s-%d", g->arch, g->dtype, g->members[i].variant,
             g->members[i].seed);
    return at(name);
}

static void write_files(const struct golden *g)
{
    struct oracle_model model, adapter;
    oracle_model_make(&model, oracle_config(g->arch), 1);
    oracle_write_hf(&model, model_dir(g), g->type);
    for (int i = 0; i < g->n_members; i++) {
        oracle_adapter_make(&adapter, g->members[i].variant, g->members[i].seed, &model);
        oracle_adapter_write(&adapter, adapter_dir(g, i), g->type);
        oracle_model_free(&adapter);
    }
    oracle_model_free(&model);
}

static int setup(void **state)
{
    test_dir_open(state);
    FILE *file = fopen(GOLDENS "/adapters.jsonl", "r");
    assert_non_null(file);
    char line[4096];
    while (fgets(line, sizeof(line), file)) {
        read_golden(line, &goldens[n_goldens]);
        write_files(&goldens[n_goldens++]);
    }
    fclose(file);
    assert_int_equal(n_goldens, 27);
    return 0;
}

static int teardown(void **state)
{
    for (int i = 0; i < n_goldens; i++) {
        free(goldens[i].logits);
        free(goldens[i].base);
    }
    return test_dir_close(state);
}

/* ---- the files ---------------------------------------------------------------------------- */

static void the_generated_adapters_are_the_references_byte_for_byte(void **state)
{
    (void)state;
    FILE *file = fopen(GOLDENS "/ADAPTERS.SHA256", "r");
    assert_non_null(file);
    char line[512];
    int n = 0;
    while (fgets(line, sizeof(line), file)) {
        char sum[128], name[256], found[65], *bytes = NULL;
        size_t size = 0;
        uint8_t digest[32];
        assert_int_equal(sscanf(line, "%100s %200s", sum, name), 2);
        if (!path_exists(at(name))) /* no golden of a forward pass uses it */
            continue;
        assert_int_equal(file_read(NULL, at(name), 1 << 28, &bytes, &size, NULL), GRAFT_OK);
        assert_int_equal(sha256(bytes, size, digest, NULL), GRAFT_OK);
        hex_write(digest, sizeof(digest), found);
        if (strcmp(found, sum) != 0)
            fail_msg("%s: SHA-256 %s, expected %s", name, found, sum);
        mem_free(NULL, bytes);
        n++;
    }
    fclose(file);
    assert_int_equal(n, 27);
}

/* ---- logits ------------------------------------------------------------------------------- */

struct opened {
    struct model *model;
    struct mix *mix;
};

/* The mix alone keeps the adapters. */
static void open_golden(struct opened *o, struct graft_runtime *rt, const struct golden *g)
{
    struct mix_part parts[MAX_MEMBERS] = {0};
    graft_error error = {0};
    *o = (struct opened){.model = open_model(rt, model_dir(g))};
    for (int i = 0; i < g->n_members; i++) {
        parts[i].weight = g->members[i].weight;
        if (adapter_open(o->model, adapter_dir(g, i), NULL, &parts[i].adapter, &error) != GRAFT_OK)
            fail_msg("%s: %s (%s %s)", g->name, error.message, error.file, error.tensor);
    }
    if (mix_make(o->model, parts, g->n_members, &o->mix, &error) != GRAFT_OK)
        fail_msg("%s: %s", g->name, error.message);
    for (int i = 0; i < g->n_members; i++)
        adapter_release(&parts[i].adapter);
}

static void close_golden(struct opened *o)
{
    mix_release(&o->mix);
    model_close(&o->model);
}

static void check_logits(const struct golden *g, const struct opened *o, struct run how)
{
    const struct model *m = o->model;
    float *base = run_tokens(m, g->tokens, g->n_tokens, how);
    float *got = run_tokens_with(m, g->tokens, g->n_tokens, how, mix_deltas(o->mix));
    /* of a classifier the last row counts */
    size_t skip = (size_t)g->n_tokens * (size_t)model_n_logits(m) - g->count;
    double error = relative_error(got + skip, g->logits, g->count);
    double effect = effect_error(got + skip, base + skip, g->logits, g->base, g->count);
    if (!(error <= LOGITS_BOUND && effect <= EFFECT_BOUND))
        fail_msg("%s, tier %s, role %d, chunks of %d: error %.3g, of the effect %.3g", g->name,
                 m->runtime->kernels->tier, how.role, how.chunk, error, effect);
    free(base);
    free(got);
}

static void logits_and_effects_match_every_golden(void **state)
{
    (void)state;
    for (int tier = 0; kernels_tier(tier); tier++) {
        struct graft_runtime rt;
        runtime_start(&rt, 1 + tier % 2, kernels_tier(tier));
        for (int i = 0; i < n_goldens; i++) {
            struct opened o;
            open_golden(&o, &rt, &goldens[i]);
            for (int role = 0; role < ROLE_COUNT; role++)
                for (int chunk = 1; chunk <= 16; chunk += 15)
                    check_logits(&goldens[i], &o, (struct run){(enum role)role, KV_F32, chunk});
            close_golden(&o);
        }
        runtime_stop(&rt);
    }
}

static void greedy_continuations_are_the_references(void **state)
{
    (void)state;
    for (int tier = 0; kernels_tier(tier); tier++) {
        struct graft_runtime rt;
        runtime_start(&rt, 2, kernels_tier(tier));
        for (int i = 0; i < n_goldens; i++) {
            const struct golden *g = &goldens[i];
            graft_token_id ids[32];
            struct opened o;
            open_golden(&o, &rt, g);
            run_greedy_with(o.model, g->tokens, g->n_tokens, (struct run){ROLE_DECODE, KV_F32, 16},
                            mix_deltas(o.mix), ids, g->n_greedy);
            assert_memory_equal(ids, g->greedy, (size_t)g->n_greedy * sizeof(ids[0]));
            close_golden(&o);
        }
        runtime_stop(&rt);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(the_generated_adapters_are_the_references_byte_for_byte),
        cmocka_unit_test(logits_and_effects_match_every_golden),
        cmocka_unit_test(greedy_continuations_are_the_references),
    };
    return cmocka_run_group_tests(tests, setup, teardown);
}
