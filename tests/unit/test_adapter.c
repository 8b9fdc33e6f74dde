/* test_adapter.c: what an opened adapter is, and what is refused in whose words. Adapters are those of the
 * reference's recipes with one thing changed; results against goldens are in test_adapters.c.
 */
#include "adapter/adapter.h"

#include "conformance/conformance_support.h"
#include "conformance/oracle_adapter.h"
#include "unit/failing_allocator.h"
#include "unit/failing_json.h"

#include <math.h>

static struct graft_runtime rt;
static struct oracle_model base; /* llama, F32, at("base") */
static struct model *model;

static int setup(void **state)
{
    test_dir_open(state);
    runtime_start(&rt, 2, NULL);
    oracle_model_make(&base, oracle_config("llama"), 1);
    oracle_write_hf(&base, at("base"), GRAFT_TYPE_F32);
    model = open_model(&rt, at("base"));
    return 0;
}

static int teardown(void **state)
{
    model_close(&model);
    oracle_model_free(&base);
    runtime_stop(&rt);
    return test_dir_close(state);
}

/* ---- fixtures ----------------------------------------------------------------------------- */

static void make(struct oracle_model *out, const char *variant)
{
    oracle_adapter_make(out, variant, 7, &base);
}

/* Writes it at("adapter") and frees it. */
static const char *put_as(struct oracle_model *adapter, graft_type type)
{
    if (path_exists(at("adapter")))
        temp_remove(at("adapter"));
    oracle_adapter_write(adapter, at("adapter"), type);
    oracle_model_free(adapter);
    return at("adapter");
}

static const char *put(struct oracle_model *adapter)
{
    return put_as(adapter, GRAFT_TYPE_F32);
}

static struct adapter *open_it(const struct model *m, const char *path,
                               const struct adapter_options *options)
{
    graft_error error = {0};
    struct adapter *a = NULL;
    if (adapter_open(m, path, options, &a, &error) != GRAFT_OK)
        fail_msg("%s: %s (%s)", path, error.message, error.tensor);
    return a;
}

static const graft_token_id TOKENS[] = {5, 17, 300, 42, 8, 99, 250, 13, 77, 201, 6, 330, 151};
static const struct run HOW = {ROLE_PREFILL, KV_F32, 16};
enum { N_TOKENS = ARRAY_LEN(TOKENS) };

static float *logits_of(const struct model *m, const struct adapter *a)
{
    graft_error error = {0};
    struct delta_set *set = NULL;
    const struct delta_member member = adapter_member(a, 1);
    assert_int_equal(delta_set_open(m, &member, 1, &set, &error), GRAFT_OK);
    float *logits = run_tokens_with(m, TOKENS, N_TOKENS, HOW, set);
    delta_set_close(&set);
    return logits;
}

static size_t n_logits(void)
{
    return (size_t)N_TOKENS * (size_t)model_n_logits(model);
}

static void refused(const char *path, graft_status status, const char *because)
{
    graft_error error = {0};
    struct adapter *a = NULL;
    graft_status got = adapter_open(model, path, NULL, &a, &error);
    if (got != status || !strstr(error.message, because) || !error.file[0])
        fail_msg("status %d (expected %d), \"%s\" (expected \"%s\"), file %s", got, status,
                 error.message, because, error.file);
    assert_null(a);
}

/* The variant with its configuration changed. */
static const char *put_with(const char *variant, const char *changes)
{
    struct oracle_model a;
    make(&a, variant);
    json_t *json = json_loads(changes, 0, NULL);
    assert_non_null(json);
    json_object_update(a.config, json);
    json_decref(json);
    return put(&a);
}

static void rename_tensors(struct oracle_model *a, const char *from, const char *to)
{
    for (size_t i = 0; i < a->n_tensors; i++) {
        char name[256], *found = strstr(a->tensors[i].name, from);
        if (!found)
            continue;
        snprintf(name, sizeof(name), "%.*s%s%s", (int)(found - a->tensors[i].name),
                 a->tensors[i].name, to, found + strlen(from));
        assert_true(strlen(name) < sizeof(a->tensors[i].name));
        memcpy(a->tensors[i].name, name, strlen(name) + 1);
    }
}

/* ---- names -------------------------------------------------------------------------------- */

static void names_in_the_wild_mean_the_same(void **state)
{
    (void)state;
    static const struct {
        const char *from, *to;
    } CHANGES[] = {{"x", "x"},
                   {"base_model.model.", "base_model.model.base_model.model."},
                   {"base_model.model.", ""},
                   {".weight", ".default.weight"},
                   {"magnitude_vector", "magnitude_vector.weight"}};
    uint8_t digest[32];
    for (size_t i = 0; i < ARRAY_LEN(CHANGES); i++) {
        struct oracle_model a;
        make(&a, "dora");
        rename_tensors(&a, CHANGES[i].from, CHANGES[i].to);
        struct adapter *opened = open_it(model, put(&a), NULL);
        if (i == 0)
            memcpy(digest, adapter_info(opened)->digest, sizeof(digest));
        assert_memory_equal(adapter_info(opened)->digest, digest, sizeof(digest));
        adapter_release(&opened);
    }
}

static void a_module_twice_is_refused(void **state)
{
    (void)state;
    struct oracle_model a;
    make(&a, "lora");
    struct oracle_tensor *t =
        oracle_add(&a, "model.layers.0.self_attn.q_proj.lora_A.weight", 4, 96);
    memset(t->values, 0, t->count * sizeof(float));
    refused(put(&a), GRAFT_FORMAT, "model.layers.0.self_attn.q_proj has this part twice");
}

/* ---- selection ---------------------------------------------------------------------------- */

static void the_configuration_selects_modules(void **state)
{
    (void)state;
    static const struct {
        const char *changes;
        bool opens;
    } CASES[] = {
        {"{\"target_modules\": [\"self_attn.q_proj\", \"v_proj\"]}", true},
        {"{\"target_modules\": [\"proj\"]}", false},
        {"{\"target_modules\": [\"k_proj\", \"v_proj\"]}", false},
        {"{\"target_modules\": \".*self_attn\\\\.(q|v)_proj\"}", true},
        {"{\"target_modules\": \"self_attn\\\\.(q|v)_proj\"}", false},
        {"{\"target_modules\": \"all-linear\", \"exclude_modules\": [\"k_proj\"]}", true},
        {"{\"target_modules\": \"all-linear\", \"exclude_modules\": [\"v_proj\"]}", false},
        {"{\"target_modules\": \"all-linear\", \"exclude_modules\": \".*2.*v_proj\"}", false},
        {"{\"layers_to_transform\": [0, 1, 2]}", true},
        {"{\"layers_to_transform\": [0, 1]}", false},
        {"{\"layers_to_transform\": 0}", false},
        {"{\"layers_to_transform\": [0, 1, 2], \"layers_pattern\": \"layers\"}", true},
        {"{\"layers_to_transform\": [0, 1, 2], \"layers_pattern\": [\"h\", \"lay.*\"]}", true},
        {"{\"layers_to_transform\": [0, 1, 2], \"layers_pattern\": [\"h\"]}", false},
    };
    for (size_t i = 0; i < ARRAY_LEN(CASES); i++) {
        const char *path = put_with("lora", CASES[i].changes);
        graft_error error = {0};
        struct adapter *a = NULL;
        if ((adapter_open(model, path, NULL, &a, &error) == GRAFT_OK) != CASES[i].opens)
            fail_msg("%s: %s", CASES[i].changes, error.message);
        if (!CASES[i].opens)
            assert_non_null(strstr(error.message, "does not change"));
        adapter_release(&a);
    }
}

static void patterns_give_rank_and_scale(void **state)
{
    (void)state;
    int n;
    struct adapter *a = open_it(
        model,
        put_with("lora", "{\"r\": 9, \"lora_alpha\": 1, \"rank_pattern\": {\"[qv]_proj\": 4},"
                         " \"alpha_pattern\": {\"layers.1.self_attn.q_proj\": 6, \"v_proj\": 8,"
                         " \".*\": 2}}"),
        NULL);
    const struct adapter_target *t = adapter_targets(a, &n);
    assert_int_equal(n, 6);
    for (int i = 0; i < n; i++) {
        bool v = strstr(t[i].module, "v_proj") != NULL,
             one = strstr(t[i].module, "layers.1") != NULL;
        assert_true(t[i].scale == (v ? 2.0 : one ? 1.5 : 0.5));
        assert_int_equal(t[i].rank, 4);
    }
    assert_int_equal(adapter_info(a)->parameters, 6 * 4 * 96 + 3 * 4 * (96 + 32));
    assert_int_equal(adapter_info(a)->least_rank, 4);
    adapter_release(&a);
}

/* ---- refusals ----------------------------------------------------------------------------- */

static void what_graft_does_not_do_is_refused_by_name(void **state)
{
    (void)state;
    static const struct {
        const char *variant, *changes, *because;
        graft_status status;
    } CASES[] = {
        {"lora", "{\"alora_invocation_tokens\": [1, 2]}", "aLoRA", GRAFT_UNSUPPORTED},
        {"lora", "{\"trainable_token_indices\": [1]}", "trainable_token", GRAFT_UNSUPPORTED},
        {"lora", "{\"layer_replication\": [[0, 2]]}", "replicated", GRAFT_UNSUPPORTED},
        {"lora", "{\"use_qalora\": true}", "QA-LoRA", GRAFT_UNSUPPORTED},
        {"lora", "{\"some_new_thing\": true}", "some_new_thing", GRAFT_UNSUPPORTED},
        {"lora", "{\"init_lora_weights\": \"pissa_niter_16\"}", "pissa", GRAFT_UNSUPPORTED},
        {"lora", "{\"init_lora_weights\": \"olora\"}", "olora", GRAFT_UNSUPPORTED},
        {"lora", "{\"init_lora_weights\": \"loftq\"}", "loftq", GRAFT_UNSUPPORTED},
        {"lora", "{\"bias\": \"lora_only\"}", "lora_only", GRAFT_UNSUPPORTED},
        {"lora", "{\"peft_type\": \"LOHA\"}", "LOHA", GRAFT_UNSUPPORTED},
        {"lora", "{\"target_modules\": \"(\"}", "regular expression", GRAFT_FORMAT},
        {"lora", "{\"use_dora\": true}", "use_dora", GRAFT_FORMAT},
        {"dora", "{\"use_dora\": false}", "use_dora", GRAFT_FORMAT},
        {"mlx-lora", "{\"fine_tune_type\": \"full\"}", "full", GRAFT_UNSUPPORTED},
        {"mlx-lora", "{\"fine_tune_type\": \"dora\"}", "dora", GRAFT_FORMAT},
        {"mlx-lora", "{\"num_layers\": 1}", "does not change", GRAFT_FORMAT},
        {"mlx-lora", "{\"lora_parameters\": {\"rank\": 4}}", "scale", GRAFT_FORMAT},
        {"mlx-lora", "{\"lora_parameters\": {\"rank\": 5, \"scale\": 1}}", "5", GRAFT_FORMAT},
        {"mlx-lora", "{\"lora_parameters\": {\"scale\": 1, \"rotate\": 1}}", "rotate",
         GRAFT_UNSUPPORTED},
        {"mlx-lora", "{\"lora_parameters\": {\"scale\": 1, \"keys\": [\"self_attn.q_proj\"]}}",
         "does not change", GRAFT_FORMAT},
    };
    for (size_t i = 0; i < ARRAY_LEN(CASES); i++)
        refused(put_with(CASES[i].variant, CASES[i].changes), CASES[i].status, CASES[i].because);
}

static void values_that_are_no_numbers_are_refused_with_tensor_and_row(void **state)
{
    (void)state;
    struct oracle_model a;
    graft_error error = {0};
    struct adapter *opened = NULL;
    make(&a, "lora");
    a.tensors[3].values[70 % a.tensors[3].count] = INFINITY;
    char name[128];
    snprintf(name, sizeof(name), "%s", a.tensors[3].name);
    assert_int_equal(adapter_open(model, put(&a), NULL, &opened, &error), GRAFT_NUMERIC);
    assert_string_equal(error.tensor, name);
    make(&a, "lora");
    a.tensors[0].values[5] = 1e6f;
    const struct adapter_options half = {.retype = true, .type = GRAFT_TYPE_F16};
    assert_int_equal(adapter_open(model, put(&a), &half, &opened, &error), GRAFT_NUMERIC);
    const struct adapter_options wrong = {.retype = true, .type = GRAFT_TYPE_Q4_K};
    assert_int_equal(adapter_open(model, at("adapter"), &wrong, &opened, &error),
                     GRAFT_INVALID_ARGUMENT);
}

static void one_value_that_is_no_number_is_found_wherever_it_is(void **state)
{
    (void)state;
    static const graft_type TYPES[] = {GRAFT_TYPE_F32, GRAFT_TYPE_F16, GRAFT_TYPE_BF16};
    static const float VALUES[] = {NAN, INFINITY, -INFINITY};
    for (int i = 0; i < 36; i++) {
        struct oracle_model a;
        graft_error error = {0};
        struct adapter *opened = NULL;
        make(&a, "lora");
        size_t tensor = (size_t)(i % 2), count = a.tensors[tensor].count; /* A, B */
        a.tensors[tensor].values[i / 2 % 2 ? count - 1 : count / 3] = VALUES[i / 4 % 3];
        char name[128];
        snprintf(name, sizeof(name), "%s", a.tensors[tensor].name);
        assert_int_equal(adapter_open(model, put_as(&a, TYPES[i / 12]), NULL, &opened, &error),
                         GRAFT_NUMERIC);
        assert_string_equal(error.tensor, name);
    }
}

static void shapes_are_told_with_the_likely_cause(void **state)
{
    (void)state;
    struct oracle_model a, other;
    graft_error error = {0};
    struct adapter *opened = NULL;
    json_t *config = oracle_config("llama");
    json_object_set_new(config, "hidden_size", json_integer(48));
    oracle_model_make(&other, config, 1);
    oracle_adapter_make(&a, "lora", 7, &other);
    oracle_model_free(&other);
    assert_int_equal(adapter_open(model, put(&a), NULL, &opened, &error), GRAFT_SHAPE);
    assert_non_null(strstr(error.message, "made for another base: 48 inputs there, 96 here"));
    assert_int_equal(error.expected[1], 96);
    assert_int_equal(error.found[1], 48);
    make(&a, "lora");
    for (size_t i = 0; i < a.n_tensors; i++) {
        int64_t rows = a.tensors[i].shape[0];
        a.tensors[i].shape[0] = a.tensors[i].shape[1];
        a.tensors[i].shape[1] = rows;
    }
    refused(put(&a), GRAFT_SHAPE, "it looks transposed, as MLX stores it");
}

static void files_that_are_missing_or_something_else_are_named(void **state)
{
    (void)state;
    struct oracle_model a;
    static const char LFS[] = "version https://git-lfs.github.com/spec/v1\noid sha256:00\nsize 1\n";
    refused(at("nowhere"), GRAFT_NOT_FOUND, "no such file");
    make(&a, "lora");
    put(&a);
    write_file(at("adapter"), "adapter_model.safetensors", LFS, sizeof(LFS) - 1);
    refused(at("adapter"), GRAFT_UNSUPPORTED, "git lfs pull");
    remove(at("adapter/adapter_model.safetensors"));
    write_file(at("adapter"), "adapter_model.bin", LFS, sizeof(LFS) - 1);
    refused(at("adapter"), GRAFT_NOT_FOUND, "pickle");
    refused(at("base"), GRAFT_NOT_FOUND, "weights alone do not say their scale");
}

/* ---- formats ------------------------------------------------------------------------------ */

/* The same adapter as PEFT and as GGUF, on the base as Hugging Face directory and as GGUF. */
static void a_gguf_adapter_is_the_same_adapter(void **state)
{
    (void)state;
    static const char *const ARCHS[][2] = {{"llama", "llama"}, {"qwen3", "qwen3"}};
    for (size_t i = 0; i < ARRAY_LEN(ARCHS); i++) {
        struct oracle_model m, a;
        oracle_model_make(&m, oracle_config(ARCHS[i][0]), 1);
        oracle_write_hf(&m, at("hf"), GRAFT_TYPE_F32);
        oracle_write_gguf(&m, at("m.gguf"), GRAFT_TYPE_F32);
        oracle_adapter_make(&a, "lora-all", 7, &m);
        int d_head = i ? 24 : 16;
        oracle_adapter_write_gguf(&a, at("a.gguf"), ARCHS[i][1], d_head);
        put(&a);
        oracle_model_free(&m);
        float *want = NULL;
        const char *bases[] = {at("hf"), at("m.gguf")}, *files[] = {at("adapter"), at("a.gguf")};
        for (int k = 0; k < 4; k++) {
            struct model *on = open_model(&rt, bases[k / 2]);
            struct adapter *opened = open_it(on, files[k % 2], NULL);
            float *got = logits_of(on, opened);
            want = want ? want : got;
            assert_true(relative_error(got, want, n_logits()) <= 1e-5);
            if (got != want)
                free(got);
            adapter_release(&opened);
            model_close(&on);
        }
        free(want);
    }
    refused(at("a.gguf"), GRAFT_UNSUPPORTED, "architecture qwen3 there, llama here");
}

static void mlx_without_a_scale_takes_the_callers(void **state)
{
    (void)state;
    int n;
    const struct adapter_options options = {.rescale = true, .scale = 1.75};
    put_with("mlx-lora", "{}");
    struct adapter *said = open_it(model, at("adapter"), NULL);
    put_with("mlx-lora", "{\"lora_parameters\": {\"rank\": 4}, \"lora_layers\": 2, \"num_layers\":"
                         " null}");
    struct adapter *given = open_it(model, at("adapter"), &options);
    assert_memory_equal(adapter_info(said)->digest, adapter_info(given)->digest, 32);
    assert_true(adapter_targets(given, &n)->scale == 1.75);
    adapter_release(&said);
    adapter_release(&given);
}

static void other_formats_and_scales_that_are_none_are_refused(void **state)
{
    (void)state;
    static const double NONE[] = {0, 1e-60, 1e60, INFINITY, -INFINITY, NAN};
    struct adapter *adapter = NULL;
    graft_error error = {0};
    struct adapter_options options = {.rescale = true, .scale = 2};
    put_with("lora", "{}");
    assert_int_equal(adapter_open(model, at("adapter"), &options, &adapter, &error),
                     GRAFT_INVALID_ARGUMENT);
    assert_non_null(strstr(error.message, "PEFT"));
    assert_non_null(strstr(error.file, "adapter"));
    put_with("mlx-lora", "{}");
    for (size_t i = 0; i < ARRAY_LEN(NONE); i++) {
        options.scale = NONE[i];
        assert_int_equal(adapter_open(model, at("adapter"), &options, &adapter, &error),
                         GRAFT_INVALID_ARGUMENT);
        assert_non_null(strstr(error.message, "finite number other than 0"));
    }
    assert_null(adapter);
}

/* ---- types -------------------------------------------------------------------------------- */

static void factors_are_held_as_asked(void **state)
{
    (void)state;
    static const struct {
        graft_type type;
        double bound; /* of the effect */
    } TYPES[] = {{GRAFT_TYPE_F32, 0},
                 {GRAFT_TYPE_BF16, 1e-2},
                 {GRAFT_TYPE_F16, 1e-3},
                 {GRAFT_TYPE_Q8_0, 2e-2},
                 {GRAFT_TYPE_Q4_0, 3e-1}};
    struct oracle_model a;
    make(&a, "dora");
    put(&a);
    struct adapter *plain = open_it(model, at("adapter"), NULL);
    float *base_logits = run_tokens(model, TOKENS, N_TOKENS, HOW), *want = logits_of(model, plain);
    for (size_t i = 0; i < ARRAY_LEN(TYPES); i++) {
        int n;
        const struct adapter_options options = {.retype = true, .type = TYPES[i].type};
        struct adapter *held = open_it(model, at("adapter"), &options);
        float *got = logits_of(model, held);
        const struct adapter_target *t = adapter_targets(held, &n);
        for (int k = 0; k < n; k++) {
            /* 208 inputs are no whole number of blocks */
            bool blocks = model_site_weight(model, t[k].site)->n_in % 32 == 0;
            bool small = type_traits(TYPES[i].type)->block_values > 1 && !blocks;
            assert_int_equal(t[k].a, small ? GRAFT_TYPE_BF16 : TYPES[i].type);
            assert_int_equal(t[k].b, TYPES[i].type);
            assert_int_equal(t[k].stored, GRAFT_TYPE_F32);
        }
        double effect = effect_error(got, base_logits, want, base_logits, n_logits());
        if (!(effect <= TYPES[i].bound))
            fail_msg("%s: error of the effect %g", graft_type_name(TYPES[i].type), effect);
        assert_int_equal(adapter_info(held)->bytes<adapter_info(plain)->bytes, i> 0);
        adapter_release(&held);
        free(got);
    }
    free(base_logits);
    free(want);
    adapter_release(&plain);
}

/* ---- DoRA --------------------------------------------------------------------------------- */

static float *dense_of(const struct matrix *w)
{
    float *out = malloc((size_t)(w->n_out * w->n_in) * sizeof(*out));
    for (int64_t r = 0; r < w->n_out; r++)
        kernels_tier(0)->dequantize[w->type](w, r, 0, w->n_in, out + r * w->n_in);
    return out;
}

/* gain · ‖W + s B A‖ is the magnitude, whatever the type of the base. */
static void check_gains(const struct model *m, const struct adapter *a, struct oracle_model *made)
{
    int n;
    const struct adapter_target *t = adapter_targets(a, &n);
    for (int i = 0; i < n; i++) {
        char name[128];
        const struct matrix *w = model_site_weight(m, t[i].site);
        const struct lowrank *l = adapter_member(a, 1).lowranks[t[i].site];
        float *dense = dense_of(w), *fa = dense_of(&l->a), *fb = dense_of(&l->b);
        snprintf(name, sizeof(name), "base_model.model.%s.lora_magnitude_vector", t[i].module);
        const float *magnitude = oracle_find(made, name)->values;
        for (int64_t o = 0; o < w->n_out; o++) {
            double square = 0;
            for (int64_t k = 0; k < w->n_in; k++) {
                double sum = 0;
                for (int64_t r = 0; r < t[i].rank; r++)
                    sum += (double)fa[r * w->n_in + k] *
                           (double)fb[(o / LOWRANK_TILE * t[i].rank + r) * LOWRANK_TILE +
                                      o % LOWRANK_TILE];
                sum = (double)dense[o * w->n_in + k] + (double)l->scale * sum;
                square += sum * sum;
            }
            double got = (double)l->gain[o] * sqrt(square), want = (double)magnitude[o];
            if (!(fabs(got - want) <= 1e-6 * fabs(want)))
                fail_msg("%s, row %lld: %g, expected %g", t[i].module, (long long)o, got, want);
        }
        free(dense);
        free(fa);
        free(fb);
    }
    assert_true(n > 0);
}

static void gains_are_exact_on_every_base(void **state)
{
    (void)state;
    static const graft_type TYPES[] = {GRAFT_TYPE_F32, GRAFT_TYPE_BF16, GRAFT_TYPE_Q8_0,
                                       GRAFT_TYPE_Q4_0, GRAFT_TYPE_Q4_K};
    for (size_t i = 0; i < ARRAY_LEN(TYPES); i++) {
        struct oracle_model m, a;
        oracle_model_make(&m, oracle_config_wide("qwen2"), 1);
        oracle_write_gguf(&m, at("wide.gguf"), TYPES[i]);
        oracle_adapter_make(&a, "rsdora", 7, &m);
        oracle_adapter_write(&a, at("wide"), GRAFT_TYPE_BF16);
        oracle_round(&a, GRAFT_TYPE_BF16);
        struct model *on = open_model(&rt, at("wide.gguf"));
        struct adapter *opened = open_it(on, at("wide"), NULL);
        assert_int_equal(adapter_info(opened)->n_dora, 21);
        check_gains(on, opened, &a);
        adapter_release(&opened);
        model_close(&on);
        oracle_model_free(&m);
        oracle_model_free(&a);
    }
}

/* A row that s B A cancels exactly, and one that it nearly cancels. */
static void a_row_without_direction_is_refused(void **state)
{
    (void)state;
    for (int exact = 0; exact < 2; exact++) {
        struct oracle_model a;
        graft_error error = {0};
        struct adapter *opened = NULL;
        make(&a, "dora"); /* alpha 6, rank 4 */
        json_object_set_new(a.config, "lora_alpha", json_integer(4));
        static const char MODULE[] = "model.layers.1.self_attn.q_proj";
        char name[128];
        snprintf(name, sizeof(name), "%s.weight", MODULE);
        const float *w = oracle_find(&base, name)->values + 7 * 96;
        snprintf(name, sizeof(name), "base_model.model.%s.lora_A.weight", MODULE);
        float *fa = oracle_find(&a, name)->values;
        snprintf(name, sizeof(name), "base_model.model.%s.lora_B.weight", MODULE);
        float *fb = oracle_find(&a, name)->values + 7 * 4;
        memcpy(fa, w, 96 * sizeof(*w));
        if (!exact)
            fa[5] *= 1 + 0x1p-20f;
        for (int r = 0; r < 4; r++)
            fb[r] = r ? 0 : -1;
        graft_status status = adapter_open(model, put(&a), NULL, &opened, &error);
        assert_int_equal(status, exact ? GRAFT_NUMERIC : GRAFT_OK);
        if (exact)
            assert_non_null(strstr(error.message, "row 7"));
        else
            assert_true(
                fabs((double)adapter_member(opened, 1).lowranks[model_site(1, LINEAR_Q)]->gain[7]) *
                    fabs((double)(w[5] * 0x1p-20f)) <
                2);
        adapter_release(&opened);
    }
}

/* ---- life --------------------------------------------------------------------------------- */

static void an_adapter_tells_about_itself(void **state)
{
    (void)state;
    static const char CARD[] = "{\"name\": \"coder\", \"version\": \"1.2.0\"}";
    struct oracle_model a;
    make(&a, "rslora");
    json_object_set_new(a.config, "base_model_name_or_path", json_string("org/base"));
    put(&a);
    write_file(at("adapter"), "graft.json", CARD, sizeof(CARD) - 1);
    struct adapter *opened = open_it(model, at("adapter"), NULL);
    const struct adapter_info *info = adapter_info(opened);
    assert_string_equal(info->base, "org/base");
    assert_string_equal(info->path, at("adapter"));
    assert_string_equal(info->scale_from, "lora_alpha / sqrt(rank)");
    assert_string_equal(json_string_value(json_object_get(info->metadata, "format")), "pt");
    assert_string_equal(json_string_value(json_object_get(info->card, "version")), "1.2.0");
    assert_int_equal(info->most_rank, 8);
    size_t factors = 3 * 8 * (2 * (96 + 128) + 2 * (96 + 64)) * 4; /* B in tiles of 64 */
    assert_true(info->bytes >= factors && info->bytes < factors + 8192);
    adapter_release(&opened);
    write_file(at("adapter"), "graft.json", "[]", 2);
    refused(at("adapter"), GRAFT_FORMAT, "graft.json");
}

static void the_last_reference_frees(void **state)
{
    (void)state;
    size_t before = atomic_load(&rt.mem.bytes_in_use);
    struct oracle_model a;
    make(&a, "lora");
    struct adapter *first = open_it(model, put(&a), NULL), *second = adapter_acquire(first);
    adapter_release(&first);
    assert_null(first);
    assert_int_equal(adapter_info(second)->format, ADAPTER_PEFT);
    assert_true(atomic_load(&rt.mem.bytes_in_use) > before);
    adapter_release(&second);
    assert_int_equal(atomic_load(&rt.mem.bytes_in_use), before);
}

static void no_memory_leaves_nothing_behind(void **state)
{
    (void)state;
    put_with("dora", "{\"target_modules\": \".*(q|v|o|down)_proj\","
                     " \"rank_pattern\": {\"[q]_proj\": 4}}");
    for (size_t n = 1;; n++) {
        struct failing_allocator failing;
        graft_allocator saved = rt.mem.allocator;
        size_t before = atomic_load(&rt.mem.bytes_in_use);
        struct adapter *a = NULL;
        graft_error error = {0};
        struct mem with;
        failing_init(&failing, &with, n);
        failing.ever_after = true;
        rt.mem.allocator = with.allocator;
        graft_status status = adapter_open(model, at("adapter"), NULL, &a, &error);
        bool failed = failing.failed;
        adapter_release(&a);
        rt.mem.allocator = saved;
        assert_int_equal(atomic_load(&rt.mem.bytes_in_use), before);
        assert_int_equal(status, failed ? GRAFT_NO_MEMORY : GRAFT_OK);
        if (!failed)
            break;
    }
    for (size_t n = 1;; n++) {
        struct adapter *a = NULL;
        graft_error error = {0};
        failing_json_begin(n);
        graft_status status = adapter_open(model, at("adapter"), NULL, &a, &error);
        bool failed = failing_json_end();
        adapter_release(&a);
        if ((status == GRAFT_OK) == failed) /* jansson may call it a syntax error */
            fail_msg("allocation %zu: %s", n, error.message);
        if (!failed)
            break;
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(names_in_the_wild_mean_the_same),
        cmocka_unit_test(a_module_twice_is_refused),
        cmocka_unit_test(the_configuration_selects_modules),
        cmocka_unit_test(patterns_give_rank_and_scale),
        cmocka_unit_test(what_graft_does_not_do_is_refused_by_name),
        cmocka_unit_test(values_that_are_no_numbers_are_refused_with_tensor_and_row),
        cmocka_unit_test(one_value_that_is_no_number_is_found_wherever_it_is),
        cmocka_unit_test(shapes_are_told_with_the_likely_cause),
        cmocka_unit_test(files_that_are_missing_or_something_else_are_named),
        cmocka_unit_test(a_gguf_adapter_is_the_same_adapter),
        cmocka_unit_test(mlx_without_a_scale_takes_the_callers),
        cmocka_unit_test(other_formats_and_scales_that_are_none_are_refused),
        cmocka_unit_test(factors_are_held_as_asked),
        cmocka_unit_test(gains_are_exact_on_every_base),
        cmocka_unit_test(a_row_without_direction_is_refused),
        cmocka_unit_test(an_adapter_tells_about_itself),
        cmocka_unit_test(the_last_reference_frees),
        cmocka_unit_test(no_memory_leaves_nothing_behind),
    };
    return cmocka_run_group_tests(tests, setup, teardown);
}
