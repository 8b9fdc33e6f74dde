/* test_fuse.c: fused models against the adapters beside the base, and the certificate against sums made here
 * from the files alone.
 */
#include "fuse_support.h"
#include "model/convert/convert.h"

#include <dirent.h>
#include <math.h>
#include <signal.h>
#include <sys/wait.h>
#include <unistd.h>

#define TEST(f) cmocka_unit_test_setup_teardown(f, fuse_setup, fuse_teardown)

static graft_fuse_options options_of(const char *type)
{
    return (graft_fuse_options){.struct_size = sizeof(graft_fuse_options), .type = type};
}

static int count_entries(void)
{
    int n = 0;
    DIR *dir = opendir(test_dir);
    assert_non_null(dir);
    while (readdir(dir))
        n++;
    closedir(dir);
    return n - 2;
}

/* ---- logits ------------------------------------------------------------------------------- */

/* Of the logits, and of what the adapters change; a wrong scale cannot hide in that. */
static void check_logits(const struct fuse_case *c, const char *out, double error, double effect)
{
    struct fuse_logits l = fuse_run(c, out);
    double moved = relative_error(l.mixed, l.base, l.count);
    double e = relative_error(l.fused, l.mixed, l.count);
    double f = effect_error(l.fused, l.base, l.mixed, l.base, l.count);
    if (!(moved > 0.1))
        fail_msg("%s with %s: the adapter moves nothing (%.3g)", c->arch, c->variants, moved);
    if (!(e <= error && f <= effect))
        fail_msg("%s with %s to %s: error %.3g, of the effect %.3g", c->arch, c->variants, out, e,
                 f);
    fuse_logits_free(&l);
}

static const struct fuse_case CASES[] = {
    {"llama", "lora-all", false, GRAFT_TYPE_F32, {1, 0}},
    {"llama", "rslora", false, GRAFT_TYPE_F32, {0.5f, 0}},
    {"llama", "dora", false, GRAFT_TYPE_F32, {1, 0}},
    {"llama", "mlx-dora", false, GRAFT_TYPE_F32, {-0.75f, 0}},
    {"llama", "lora-all dora", false, GRAFT_TYPE_F32, {0.75f, 0.5f}},
    {"llama", "embed-dora", false, GRAFT_TYPE_F32, {1, 0}},
    {"llama", "saved lora-all", false, GRAFT_TYPE_F32, {1, -0.5f}},
    {"llama-bias", "lora-bias", false, GRAFT_TYPE_F32, {1, 0}},
    {"mistral", "dora lora", false, GRAFT_TYPE_F32, {1, 1}},
    {"qwen2", "rsdora", false, GRAFT_TYPE_F32, {1, 0}},
    {"qwen2", "lora-bias", false, GRAFT_TYPE_F32, {0.5f, 0}},
    {"qwen2", "embed", false, GRAFT_TYPE_F32, {1, 0}},
    {"qwen2", "saved", false, GRAFT_TYPE_F32, {0.5f, 0}},
    {"qwen2", "embed-dora", false, GRAFT_TYPE_F32, {0.5f, 0}},
    {"qwen3", "lora-all rsdora", false, GRAFT_TYPE_F32, {1, 0.25f}},
};

static void fused_floats_give_the_logits_of_base_and_adapters(void **state)
{
    (void)state;
    for (size_t i = 0; i < ARRAY_LEN(CASES); i++) {
        graft_fuse_options options = options_of("f32");
        fuse_write_case(&CASES[i]);
        json_decref(fuse_do(&CASES[i], "hf", &options));
        check_logits(&CASES[i], "hf", 1e-5, 1e-5);
        json_decref(fuse_do(&CASES[i], "out.gguf", &options));
        check_logits(&CASES[i], "out.gguf", 1e-5, 1e-5);
        temp_remove(at("hf"));
    }
}

static void fused_16_bit_types_err_by_their_rounding(void **state)
{
    (void)state;
    static const struct {
        const char *type;
        double error, effect;
    } TYPES[] = {{"f16", 5e-3, 4e-3}, {"bf16", 3e-2, 3e-2}};
    for (size_t i = 0; i < ARRAY_LEN(CASES); i += 2)
        for (size_t t = 0; t < ARRAY_LEN(TYPES); t++) {
            graft_fuse_options options = options_of(TYPES[t].type);
            fuse_write_case(&CASES[i]);
            json_decref(fuse_do(&CASES[i], "hf", &options));
            check_logits(&CASES[i], "hf", TYPES[t].error, TYPES[t].effect);
            json_decref(fuse_do(&CASES[i], "out.gguf", &options));
            check_logits(&CASES[i], "out.gguf", TYPES[t].error, TYPES[t].effect);
            temp_remove(at("hf"));
        }
}

static void a_fused_gguf_of_a_gguf_base_keeps_the_order_of_its_rows(void **state)
{
    (void)state;
    const struct fuse_case *c = &CASES[0];
    graft_fuse_options options = options_of("f32");
    graft_fuse_member member;
    graft_error error = {0};
    struct oracle_model model;
    fuse_write_case(c);
    oracle_model_make(&model, oracle_config(c->arch), 1);
    oracle_write_gguf(&model, at("base.gguf"), GRAFT_TYPE_F32);
    oracle_model_free(&model);
    member = (graft_fuse_member){.path = at("a0"), .weight = 1};
    options.format = GRAFT_FORMAT_GGUF;
    if (fuse_write(&fuse_rt, at("base.gguf"), &member, 1, at("out.gguf"), &options, NULL, &error) !=
        GRAFT_OK)
        fail_msg("%s", error.message);
    check_logits(c, "out.gguf", 1e-5, 1e-5);
    options.format = GRAFT_FORMAT_HF;
    member.path = at("a0");
    if (fuse_write(&fuse_rt, at("base.gguf"), &member, 1, at("hf"), &options, NULL, &error) !=
        GRAFT_OK)
        fail_msg("%s", error.message);
    check_logits(c, "hf", 1e-5, 1e-5);
}

static void a_bias_goes_where_the_output_can_hold_it(void **state)
{
    (void)state;
    const struct fuse_case plain = {"llama", "lora-bias", false, GRAFT_TYPE_F32, {1, 0}};
    const struct fuse_case none = {"mistral", "lora-bias", false, GRAFT_TYPE_F32, {1, 0}};
    graft_fuse_options options = options_of("f32");
    graft_error error = {0};
    fuse_write_case(&plain);
    json_decref(fuse_do(&plain, "hf", &options));
    check_logits(&plain, "hf", 1e-5, 1e-5);
    json_decref(fuse_do(&plain, "out.gguf", &options));
    check_logits(&plain, "out.gguf", 1e-5, 1e-5);
    fuse_write_case(&none);
    int before = count_entries();
    assert_int_equal(fuse_try(&none, "none", &options, NULL, &error), GRAFT_UNSUPPORTED);
    if (!strstr(error.message, "model.layers.0.self_attn.q_proj"))
        fail_msg("%s", error.message);
    assert_int_equal(count_entries(), before);
}

/* ---- the certificate ---------------------------------------------------------------------- */

struct sums {
    double norm, delta, error, kept;
};

static void values(const struct model *m, const struct matrix *w, int64_t row, float *out)
{
    m->runtime->kernels->dequantize[w->type](w, row, 0, w->n_in, out);
}

/* The row of a Llama's GGUF that HF's row of q is. */
static int64_t interleaved(int64_t row, int64_t d)
{
    int64_t i = row % d;
    return row / d * d + i % (d / 2) * 2 + i / (d / 2);
}

/* From the adapter's own A and B, and the weights of base, base in the type, and fused model as they are read. */
static struct sums sums_of(const struct oracle_tensor *a, const struct oracle_tensor *b,
                           double scale, const struct model *models[3], int site, int64_t d)
{
    const struct matrix *w = model_site_weight(models[0], site);
    float *row[3] = {0};
    double delta2 = 0, dot = 0;
    struct sums s = {0};
    for (int i = 0; i < 3; i++)
        row[i] = malloc((size_t)w->n_in * sizeof(float));
    for (int64_t o = 0; o < w->n_out; o++) {
        for (int i = 0; i < 3; i++)
            values(models[i], model_site_weight(models[i], site), i && d ? interleaved(o, d) : o,
                   row[i]);
        for (int64_t k = 0; k < w->n_in; k++) {
            double delta = 0;
            for (int64_t r = 0; r < a->shape[0]; r++)
                delta += scale * (double)b->values[o * b->shape[1] + r] *
                         (double)a->values[r * w->n_in + k];
            double want = (double)row[0][k] + delta, got = (double)row[2][k];
            s.norm += want * want;
            s.error += (got - want) * (got - want);
            dot += (got - (double)row[1][k]) * delta;
            delta2 += delta * delta;
        }
    }
    for (int i = 0; i < 3; i++)
        free(row[i]);
    return (struct sums){sqrt(s.norm), sqrt(delta2), sqrt(s.error / s.norm), dot / delta2};
}

static bool close_to(double got, double want, double tolerance)
{
    return fabs(got - want) <= tolerance * (fabs(want) > 1e-3 ? fabs(want) : 1e-3);
}

static void check_module(const json_t *certificate, struct oracle_model *adapter,
                         const struct model *models[3], const char *module, const char *tensor,
                         int site, int64_t d)
{
    char name[160];
    snprintf(name, sizeof name, "base_model.model.%s.lora_A.weight", module);
    const struct oracle_tensor *a = oracle_find(adapter, name);
    snprintf(name, sizeof name, "base_model.model.%s.lora_B.weight", module);
    const struct oracle_tensor *b = oracle_find(adapter, name);
    struct sums s = sums_of(a, b, 7.0 / 5, models, site, d);
    if (!close_to(fuse_number(certificate, tensor, "norm"), s.norm, 1e-5) ||
        !close_to(fuse_number(certificate, tensor, "delta_norm"), s.delta, 1e-5) ||
        !close_to(fuse_number(certificate, tensor, "relative_error"), s.error, 1e-3) ||
        !close_to(fuse_number(certificate, tensor, "retained"), s.kept, 1e-3))
        fail_msg("%s: norm %g, delta %g, error %g, retained %g", tensor, s.norm, s.delta, s.error,
                 s.kept);
}

/* 8 bits, 4 bits, and halves; q of llama changes its row order on the way. */
static void the_certificate_is_what_the_files_say(void **state)
{
    (void)state;
    static const char *const TYPES[] = {"q8_0", "q4_0", "q4_k_m", "bf16"};
    const struct fuse_case c = {"llama", "lora-all", true, GRAFT_TYPE_F32, {1, 0}};
    struct oracle_model base, adapter;
    fuse_write_case(&c);
    oracle_model_make(&base, oracle_config_wide(c.arch), 1);
    oracle_adapter_make(&adapter, "lora-all", 7, &base);
    for (size_t t = 0; t < ARRAY_LEN(TYPES); t++) {
        graft_fuse_options options = options_of(TYPES[t]);
        graft_convert_options plain = {.struct_size = sizeof plain};
        plain.type = TYPES[t];
        json_t *certificate = fuse_do(&c, "out.gguf", &options);
        assert_int_equal(model_convert(&fuse_rt, at("base"), at("plain.gguf"), &plain, NULL),
                         GRAFT_OK);
        struct model *models[3] = {open_model(&fuse_rt, at("base")),
                                   open_model(&fuse_rt, at("plain.gguf")),
                                   open_model(&fuse_rt, at("out.gguf"))};
        const struct model *readable[3] = {models[0], models[1], models[2]};
        assert_int_equal(json_array_size(json_object_get(certificate, "tensors")),
                         7 * models[0]->config.n_layer);
        check_module(certificate, &adapter, readable, "model.layers.1.self_attn.q_proj",
                     "blk.1.attn_q.weight", model_site(1, LINEAR_Q), models[0]->config.d_head);
        check_module(certificate, &adapter, readable, "model.layers.0.mlp.down_proj",
                     "blk.0.ffn_down.weight", model_site(0, LINEAR_DOWN), 0);
        for (int i = 0; i < 3; i++)
            model_close(&models[i]);
        json_decref(certificate);
    }
    oracle_model_free(&adapter);
    oracle_model_free(&base);
}

static void the_certificate_lies_beside_the_output(void **state)
{
    (void)state;
    static const char *const OUTPUTS[][2] = {{"out.gguf", "out.gguf.fuse.json"},
                                             {"hf", "hf/fuse.json"}};
    fuse_write_case(&CASES[0]);
    for (int i = 0; i < 2; i++) {
        graft_fuse_options options = options_of("f16");
        json_t *certificate = fuse_do(&CASES[0], OUTPUTS[i][0], &options);
        json_t *beside = json_load_file(at(OUTPUTS[i][1]), 0, NULL);
        assert_true(beside && json_equal(beside, certificate));
        assert_true(json_is_null(json_object_get(certificate, "kl"))); /* there is no tokenizer */
        json_decref(beside);
        json_decref(certificate);
    }
}

static void quantised_outputs_stay_near_and_are_the_same_with_any_number_of_threads(void **state)
{
    (void)state;
    static const struct {
        const char *type;
        double error, effect;
    } TYPES[] = {
        {"q8_0", 0.08, 0.05}, {"q6_k", 0.3, 0.15}, {"q4_0", 0.7, 0.5}, {"q4_k_m", 0.7, 0.5}};
    const struct fuse_case c = {"qwen2", "lora-all", true, GRAFT_TYPE_F32, {1, 0}};
    fuse_write_case(&c);
    for (size_t t = 0; t < ARRAY_LEN(TYPES); t++) {
        graft_fuse_options options = options_of(TYPES[t].type);
        json_t *two = fuse_do(&c, "out.gguf", &options);
        check_logits(&c, "out.gguf", TYPES[t].error, TYPES[t].effect);
        runtime_stop(&fuse_rt);
        runtime_start(&fuse_rt, 1, exact_tier());
        json_t *one = fuse_do(&c, "one.gguf", &options);
        runtime_stop(&fuse_rt);
        runtime_start(&fuse_rt, 2, exact_tier());
        assert_true(json_equal(json_object_get(one, "tensors"), json_object_get(two, "tensors")));
        char *bytes[2];
        size_t sizes[2];
        assert_int_equal(file_read(NULL, at("out.gguf"), 1 << 28, &bytes[0], &sizes[0], NULL), 0);
        assert_int_equal(file_read(NULL, at("one.gguf"), 1 << 28, &bytes[1], &sizes[1], NULL), 0);
        assert_int_equal(sizes[0], sizes[1]);
        assert_memory_equal(bytes[0], bytes[1], sizes[0]);
        mem_free(NULL, bytes[0]);
        mem_free(NULL, bytes[1]);
        json_decref(one);
        json_decref(two);
    }
}

/* ---- in memory ---------------------------------------------------------------------------- */

static float *run_of(const struct model *m, size_t *count)
{
    graft_token_id tokens[FUSE_TOKENS];
    for (int i = 0; i < FUSE_TOKENS; i++)
        tokens[i] = 3 + i * 7 % 300;
    *count = (size_t)FUSE_TOKENS * (size_t)model_n_logits(m) * sizeof(float);
    return run_tokens(m, tokens, FUSE_TOKENS, (struct run){ROLE_DECODE, KV_F32, 8});
}

/* The same arithmetic on the same weights: equal bits. */
static void a_model_opened_fused_is_the_fused_file(void **state)
{
    (void)state;
    for (size_t i = 0; i < ARRAY_LEN(CASES); i++) {
        graft_fuse_options options = options_of("f32");
        graft_fuse_member members[2];
        graft_error error = {0};
        size_t count, n;
        fuse_write_case(&CASES[i]);
        json_decref(fuse_do(&CASES[i], "hf", &options));
        n = fuse_members(&CASES[i], members);
        struct model *m = open_model(&fuse_rt, at("base")), *file = open_model(&fuse_rt, at("hf"));
        float *base = run_of(m, &count);
        if (fuse_in_place(m, members, n, &error) != GRAFT_OK)
            fail_msg("%s with %s: %s", CASES[i].arch, CASES[i].variants, error.message);
        assert_true(m->fused_bytes > 0);
        float *fused = run_of(m, &count), *want = run_of(file, &count);
        assert_memory_equal(fused, want, count);
        model_close(&m);
        m = open_model(&fuse_rt, at("base")); /* without it, the base is what it was */
        float *again = run_of(m, &count);
        assert_memory_equal(again, base, count);
        model_close(&m);
        model_close(&file);
        free(base);
        free(fused);
        free(want);
        free(again);
        temp_remove(at("hf"));
    }
}

static void quantised_bases_open_fused_in_their_own_types_or_in_8_bits(void **state)
{
    (void)state;
    const struct fuse_case c = {"llama", "dora", true, GRAFT_TYPE_F32, {1, 0}};
    const struct oracle_mlx mlx = {4, 64, GRAFT_TYPE_F16, NULL, NULL};
    graft_error error = {0};
    struct oracle_model model;
    fuse_write_case(&c);
    for (int i = 0; i < 2; i++) {
        graft_fuse_member member = {.path = at("a0"), .weight = 1};
        struct mix *mix = NULL;
        size_t count;
        oracle_model_make(&model, oracle_config_wide(c.arch), 1);
        if (i)
            oracle_write_mlx(&model, at("quantised"), &mlx);
        else
            oracle_write_gguf(&model, at("quantised.gguf"), GRAFT_TYPE_Q8_0);
        oracle_model_free(&model);
        struct model *m = open_model(&fuse_rt, at(i ? "quantised" : "quantised.gguf"));
        graft_token_id tokens[FUSE_TOKENS];
        for (int t = 0; t < FUSE_TOKENS; t++)
            tokens[t] = 3 + t * 7 % 300;
        assert_int_equal(fuse_open_mix(m, &member, 1, &mix, &error), GRAFT_OK);
        const struct run how = {ROLE_PREFILL, KV_F32, 8};
        float *want = run_tokens_with(m, tokens, FUSE_TOKENS, how, mix_deltas(mix));
        mix_release(&mix);
        member.path = at("a0");
        assert_int_equal(fuse_in_place(m, &member, 1, &error), GRAFT_OK);
        assert_int_equal(m->layers[0].linear[LINEAR_Q].type, GRAFT_TYPE_Q8_0);
        float *got = run_tokens(m, tokens, FUSE_TOKENS, how);
        count = (size_t)FUSE_TOKENS * (size_t)model_n_logits(m);
        double e = relative_error(got, want, count);
        if (!(e < 0.05))
            fail_msg("error %g", e);
        free(got);
        free(want);
        model_close(&m);
    }
}

static void a_bias_of_the_head_has_no_place(void **state)
{
    (void)state;
    const struct fuse_case c = {"llama", "lora-bias", false, GRAFT_TYPE_F32, {1, 0}};
    graft_fuse_member member;
    graft_error error = {0};
    struct oracle_model base, a;
    fuse_write_case(&c);
    oracle_model_make(&base, oracle_config(c.arch), 1);
    oracle_adapter_make(&a, "lora-bias", 7, &base);
    for (size_t i = 0; i < a.n_tensors; i++) { /* v of block 0 becomes the head */
        struct oracle_tensor *t = &a.tensors[i];
        const char *part = strstr(t->name, "layers.0.self_attn.v_proj.");
        char rest[64];
        if (!part)
            continue;
        snprintf(rest, sizeof rest, "%s", part + strlen("layers.0.self_attn.v_proj."));
        snprintf(t->name, sizeof t->name, "base_model.model.lm_head.%s", rest);
        if (!strstr(rest, "lora_A")) {
            int64_t columns = t->n_dims == 2 ? t->shape[1] : 1;
            t->shape[0] = 331;
            t->count = (size_t)(331 * columns);
            t->values = realloc(t->values, t->count * sizeof(float));
            for (size_t k = 0; k < t->count; k++)
                t->values[k] = 0.25f;
        }
    }
    json_t *targets = json_pack("[s, s, s]", "q_proj", "v_proj", "lm_head");
    json_object_set_new(a.config, "target_modules", targets);
    temp_remove(at("a0"));
    oracle_adapter_write(&a, at("a0"), GRAFT_TYPE_F32);
    oracle_model_free(&a);
    oracle_model_free(&base);
    member = (graft_fuse_member){.path = at("a0"), .weight = 1};
    struct model *m = open_model(&fuse_rt, at("base"));
    graft_status status = fuse_in_place(m, &member, 1, &error);
    if (status != GRAFT_UNSUPPORTED || !strstr(error.message, "lm_head"))
        fail_msg("%d: %s", (int)status, error.message);
    model_close(&m);
}

/* ---- failures ----------------------------------------------------------------------------- */

static bool stop_half_way(void *user, uint64_t done, uint64_t total, const char *what)
{
    (void)what;
    if (done > total / 2 && *(int *)user)
        raise(*(int *)user);
    return done <= total / 2;
}

static void a_cancelled_call_leaves_nothing_and_a_killed_one_nothing_under_its_name(void **state)
{
    (void)state;
    static const char *const OUTPUTS[] = {"out.gguf", "hf"};
    int none = 0, kill = SIGKILL;
    graft_error error = {0};
    fuse_write_case(&CASES[0]);
    int before = count_entries();
    for (int i = 0; i < 2; i++) {
        graft_fuse_options options = options_of("f32");
        options.progress = stop_half_way;
        options.progress_user = &none;
        assert_int_equal(fuse_try(&CASES[0], OUTPUTS[i], &options, NULL, &error), GRAFT_CANCELLED);
        assert_int_equal(count_entries(), before);
    }
    for (int i = 0; i < 2; i++) {
        pid_t child = fork();
        if (child == 0) { /* the runtime's threads are not here: one of its own */
            graft_fuse_options options = options_of("f32");
            options.progress = stop_half_way;
            options.progress_user = &kill;
            runtime_start(&fuse_rt, 1, exact_tier());
            fuse_try(&CASES[0], OUTPUTS[i], &options, NULL, &error);
            _exit(0);
        }
        int status;
        assert_int_equal(waitpid(child, &status, 0), child);
        assert_true(WIFSIGNALED(status) && WTERMSIG(status) == SIGKILL);
        assert_false(path_exists(at(OUTPUTS[i])));
    }
}

static void what_cannot_be_fused_is_refused(void **state)
{
    (void)state;
    graft_error error = {0};
    graft_fuse_options options = options_of("q9");
    fuse_write_case(&CASES[0]);
    int before = count_entries();
    assert_int_equal(fuse_try(&CASES[0], "out.gguf", &options, NULL, &error),
                     GRAFT_INVALID_ARGUMENT);
    options.type = "q4_0";
    assert_int_equal(fuse_try(&CASES[0], "hf", &options, NULL, &error), GRAFT_INVALID_ARGUMENT);
    temp_remove(at("a0"));
    options.type = "f32";
    assert_int_equal(fuse_try(&CASES[0], "hf", &options, NULL, &error), GRAFT_NOT_FOUND);
    assert_int_equal(count_entries(), before - 1);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(fused_floats_give_the_logits_of_base_and_adapters),
        TEST(fused_16_bit_types_err_by_their_rounding),
        TEST(a_fused_gguf_of_a_gguf_base_keeps_the_order_of_its_rows),
        TEST(a_bias_goes_where_the_output_can_hold_it),
        TEST(the_certificate_is_what_the_files_say),
        TEST(the_certificate_lies_beside_the_output),
        TEST(quantised_outputs_stay_near_and_are_the_same_with_any_number_of_threads),
        TEST(a_model_opened_fused_is_the_fused_file),
        TEST(quantised_bases_open_fused_in_their_own_types_or_in_8_bits),
        TEST(a_bias_of_the_head_has_no_place),
        TEST(a_cancelled_call_leaves_nothing_and_a_killed_one_nothing_under_its_name),
        TEST(what_cannot_be_fused_is_refused),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
