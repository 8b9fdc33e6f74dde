/* test_adapter_modules.c: what adapters do beside the linears: norms, embeddings and heads, held whole or changed by
 * factors. Compared with models whose own weights were changed; goldens are in test_adapters.c.
 */
#include "adapter/adapter.h"

#include "conformance/conformance_support.h"
#include "conformance/oracle_adapter.h"

#include <math.h>

static struct graft_runtime rt;

static int setup(void **state)
{
    test_dir_open(state);
    runtime_start(&rt, 2, NULL);
    return 0;
}

static int teardown(void **state)
{
    runtime_stop(&rt);
    return test_dir_close(state);
}

static const graft_token_id TOKENS[] = {5, 17, 300, 42, 8, 99, 250, 13, 77, 201, 6, 330, 151};
enum { N_TOKENS = ARRAY_LEN(TOKENS) };

static struct adapter *open_it(const struct model *m, const char *path)
{
    graft_error error = {0};
    struct adapter *a = NULL;
    if (adapter_open(m, path, NULL, &a, &error) != GRAFT_OK)
        fail_msg("%s: %s (%s)", path, error.message, error.tensor);
    return a;
}

/* Logits of the model at `base` with the adapter at `path` (NULL: none). */
static float *logits_of(const char *base, const char *path, float weight, enum role role)
{
    graft_error error = {0};
    struct model *m = open_model(&rt, base);
    struct mix *mix = NULL;
    struct mix_part part = {path ? open_it(m, path) : NULL, weight};
    assert_int_equal(mix_make(m, &part, path ? 1 : 0, &mix, &error), GRAFT_OK);
    adapter_release(&part.adapter);
    float *logits =
        run_tokens_with(m, TOKENS, N_TOKENS, (struct run){role, KV_F32, 5}, mix_deltas(mix));
    mix_release(&mix);
    model_close(&m);
    return logits;
}

static size_t n_logits(const struct oracle_model *m)
{
    return N_TOKENS * (size_t)json_integer_value(json_object_get(m->config, "vocab_size"));
}

static void put(struct oracle_model *a, const char *dir)
{
    oracle_adapter_write(a, at(dir), GRAFT_TYPE_F32);
    oracle_model_free(a);
}

static bool ends_with(const char *text, const char *end)
{
    size_t n = strlen(text), m = strlen(end);
    return n >= m && !strcmp(text + n - m, end);
}

/* Adds a whole copy of every tensor of the model whose name ends so, with other values. */
static void add_saved(struct oracle_model *a, const struct oracle_model *m, const char *end)
{
    for (size_t i = 0; i < m->n_tensors; i++) {
        const struct oracle_tensor *from = &m->tensors[i];
        char name[128];
        if (!ends_with(from->name, end))
            continue;
        snprintf(name, sizeof(name), "base_model.model.%s", from->name);
        struct oracle_tensor *t = oracle_add(a, name, from->shape[0], from->shape[1]);
        oracle_fill_weight(t, "saved");
    }
}

/* ---- norms -------------------------------------------------------------------------------- */

static const char *const NORMS[] = {"norm", "input_layernorm", "post_attention_layernorm", "q_norm",
                                    "k_norm"};

/* The model with each norm at base + weight · (saved − base). */
static void write_with_norms(struct oracle_model *m, struct oracle_model *a, float weight)
{
    for (size_t i = 0; i < m->n_tensors; i++) {
        char name[128];
        struct oracle_tensor *t = &m->tensors[i];
        if (!ends_with(t->name, "norm.weight"))
            continue;
        snprintf(name, sizeof(name), "base_model.model.%s", t->name);
        const float *own = oracle_find(a, name)->values;
        for (size_t k = 0; k < t->count; k++)
            t->values[k] = weight == 1 ? own[k] : t->values[k] + weight * (own[k] - t->values[k]);
    }
    oracle_write_hf(m, at("dense"), GRAFT_TYPE_F32);
}

static void saved_norms_are_the_models_own(void **state)
{
    (void)state;
    static const float WEIGHTS[] = {1, 0.5f};
    for (size_t w = 0; w < ARRAY_LEN(WEIGHTS); w++) {
        struct oracle_model m, a, plain;
        oracle_model_make(&m, oracle_config("qwen3"), 1);
        oracle_write_hf(&m, at("base"), GRAFT_TYPE_F32);
        oracle_adapter_make(&plain, "lora", 7, &m);
        put(&plain, "plain");
        oracle_adapter_make(&a, "lora", 7, &m);
        json_t *saved = json_array();
        for (size_t i = 0; i < ARRAY_LEN(NORMS); i++)
            json_array_append_new(saved, json_string(NORMS[i]));
        json_object_set_new(a.config, "modules_to_save", saved);
        add_saved(&a, &m, "norm.weight");
        write_with_norms(&m, &a, WEIGHTS[w]);
        put(&a, "norms");
        size_t bytes = n_logits(&m) * sizeof(float);
        for (int role = 0; role < ROLE_COUNT; role++) {
            float *want = logits_of(at("dense"), at("plain"), WEIGHTS[w], (enum role)role);
            float *got = logits_of(at("base"), at("norms"), WEIGHTS[w], (enum role)role);
            float *without = logits_of(at("base"), at("plain"), WEIGHTS[w], (enum role)role);
            assert_memory_equal(got, want, bytes);
            assert_int_not_equal(memcmp(got, without, bytes), 0);
            free(want);
            free(got);
            free(without);
        }
        oracle_model_free(&m);
    }
}

static void a_gguf_adapter_may_hold_norms(void **state)
{
    (void)state;
    struct oracle_model m, a;
    graft_error error = {0};
    struct gguf_writer w;
    struct file_writer file;
    oracle_model_make(&m, oracle_config("llama"), 1);
    oracle_write_gguf(&m, at("m.gguf"), GRAFT_TYPE_F32);
    oracle_adapter_make(&a, "lora", 7, &m);
    const struct tensor_decl decls[] = {{"blk.1.attn_v.weight.lora_a", GRAFT_TYPE_F32, 2, {4, 96}},
                                        {"blk.1.attn_v.weight.lora_b", GRAFT_TYPE_F32, 2, {32, 4}},
                                        {"blk.1.ffn_norm.weight", GRAFT_TYPE_F32, 1, {96}}};
    static const char V[] = "base_model.model.model.layers.1.self_attn.v_proj";
    char name[128];
    snprintf(name, sizeof(name), "%s.lora_A.weight", V);
    const float *fa = oracle_find(&a, name)->values;
    snprintf(name, sizeof(name), "%s.lora_B.weight", V);
    const float *fb = oracle_find(&a, name)->values;
    struct oracle_tensor *norm = oracle_find(&m, "model.layers.1.post_attention_layernorm.weight");
    oracle_fill_weight(norm, "other");
    gguf_writer_init(&w, NULL);
    gguf_put_string(&w, "general.type", "adapter", 7);
    gguf_put_string(&w, "general.architecture", "llama", 5);
    gguf_put_string(&w, "adapter.type", "lora", 4); /* no alpha: the scale is 1 */
    for (size_t i = 0; i < ARRAY_LEN(decls); i++)
        assert_int_equal(gguf_declare(&w, &decls[i], &error), GRAFT_OK);
    assert_int_equal(file_writer_open(&file, NULL, at("a.gguf"), &error), GRAFT_OK);
    assert_int_equal(gguf_write_head(&w, &file, &error), GRAFT_OK);
    assert_int_equal(gguf_write_tensor(&file, fa, 4 * 96 * 4, &error), GRAFT_OK);
    assert_int_equal(gguf_write_tensor(&file, fb, 4 * 32 * 4, &error), GRAFT_OK);
    assert_int_equal(gguf_write_tensor(&file, norm->values, 96 * 4, &error), GRAFT_OK);
    assert_int_equal(file_writer_commit(&file, &error), GRAFT_OK);
    gguf_writer_free(&w);
    struct oracle_tensor *v = oracle_find(&m, "model.layers.1.self_attn.v_proj.weight");
    for (int o = 0; o < 32; o++)
        for (int i = 0; i < 96; i++)
            for (int r = 0; r < 4; r++)
                v->values[o * 96 + i] += fb[o * 4 + r] * fa[r * 96 + i];
    oracle_write_hf(&m, at("dense"), GRAFT_TYPE_F32);
    float *got = logits_of(at("m.gguf"), at("a.gguf"), 1, ROLE_DECODE);
    float *want = logits_of(at("dense"), NULL, 1, ROLE_DECODE);
    assert_true(relative_error(got, want, n_logits(&m)) <= 1e-5);
    free(got);
    free(want);
    oracle_model_free(&a);
    oracle_model_free(&m);
}

/* ---- embeddings --------------------------------------------------------------------------- */

/* E ← m / ‖E + s a b‖ by token · (E + s a b), in double. */
static void change_by_token(struct oracle_model *m, struct oracle_model *a, double scale)
{
    struct oracle_tensor *e = oracle_find(m, "model.embed_tokens.weight");
    const float *fa = oracle_find(a, "model.embed_tokens.lora_a")->values;
    const float *fb = oracle_find(a, "model.embed_tokens.lora_b")->values;
    const float *magnitude = oracle_find(a, "model.embed_tokens.m")->values;
    int64_t width = e->shape[1];
    double *row = malloc((size_t)width * sizeof(*row));
    for (int64_t t = 0; t < e->shape[0]; t++) {
        double square = 0;
        for (int64_t d = 0; d < width; d++) {
            row[d] = (double)e->values[t * width + d];
            for (int r = 0; r < 4; r++)
                row[d] += scale * (double)fa[t * 4 + r] * (double)fb[r * width + d];
            square += row[d] * row[d];
        }
        for (int64_t d = 0; d < width; d++)
            e->values[t * width + d] = (float)((double)magnitude[t] / sqrt(square) * row[d]);
    }
    free(row);
}

/* MLX changes embedding and tied head together. */
static void mlx_dora_on_an_embedding_goes_by_token(void **state)
{
    (void)state;
    static const char *const ARCHS[] = {"qwen2", "llama"}; /* tied, not tied */
    for (size_t i = 0; i < ARRAY_LEN(ARCHS); i++) {
        struct oracle_model m, a;
        int n;
        oracle_model_make(&m, oracle_config(ARCHS[i]), 1);
        oracle_write_hf(&m, at("base"), GRAFT_TYPE_F32);
        oracle_adapter_make(&a, "mlx-embed", 7, &m);
        json_t *p = json_object_get(a.config, "lora_parameters");
        json_object_set_new(a.config, "fine_tune_type", json_string("dora"));
        json_object_set_new(p, "keys", json_pack("[s]", "model.embed_tokens"));
        for (size_t t = 0; t < a.n_tensors; t++) /* v_proj is another matter */
            if (!strstr(a.tensors[t].name, "embed_tokens"))
                free(a.tensors[t].values);
        a.tensors[0] = *oracle_find(&a, "model.embed_tokens.lora_a");
        a.tensors[1] = *oracle_find(&a, "model.embed_tokens.lora_b");
        a.n_tensors = 2;
        oracle_fill(oracle_add(&a, "model.embed_tokens.m", 331, 0), "m", 0.3, 1);
        oracle_adapter_write(&a, at("adapter"), GRAFT_TYPE_F32);
        change_by_token(&m, &a, 0.5);
        oracle_write_hf(&m, at("dense"), GRAFT_TYPE_F32);
        float *got = logits_of(at("base"), at("adapter"), 1, ROLE_DECODE);
        float *want = logits_of(at("dense"), NULL, 1, ROLE_DECODE);
        assert_true(relative_error(got, want, n_logits(&m)) <= 1e-5);
        struct model *opened = open_model(&rt, at("base"));
        struct adapter *adapter = open_it(opened, at("adapter"));
        assert_int_equal(adapter_targets(adapter, &n)[0].site, -1);
        assert_int_equal(n, i == 0 ? 2 : 1);
        adapter_release(&adapter);
        model_close(&opened);
        free(got);
        free(want);
        oracle_model_free(&a);
        oracle_model_free(&m);
    }
}

/* ---- reports and refusals ----------------------------------------------------------------- */

static void refused(const struct model *m, const char *path, const char *because)
{
    graft_error error = {0};
    struct adapter *a = NULL;
    assert_int_not_equal(adapter_open(m, path, NULL, &a, &error), GRAFT_OK);
    if (!strstr(error.message, because))
        fail_msg("\"%s\" does not say \"%s\"", error.message, because);
}

static void save(struct oracle_model *a, const char *list)
{
    json_object_set_new(a->config, "modules_to_save", json_loads(list, 0, NULL));
}

static void whole_modules_are_reported_and_odd_ones_refused(void **state)
{
    (void)state;
    struct oracle_model m, a;
    oracle_model_make(&m, oracle_config("qwen2"), 1); /* tied */
    oracle_write_hf(&m, at("tied"), GRAFT_TYPE_F32);
    struct model *tied = open_model(&rt, at("tied"));
    oracle_adapter_make(&a, "saved", 7, &m);
    put(&a, "adapter");
    struct adapter *opened = open_it(tied, at("adapter"));
    assert_int_equal(adapter_info(opened)->n_saved, 2);
    assert_int_equal(adapter_info(opened)->saved_bytes, 2 * 331 * 96 * 4);
    adapter_release(&opened);

    oracle_adapter_make(&a, "saved", 7, &m);
    save(&a, "[\"embed_tokens\", \"lm_head\", \"norm\"]");
    put(&a, "adapter");
    refused(tied, at("adapter"), "modules_to_save names model.norm");

    oracle_adapter_make(&a, "lora", 7, &m);
    save(&a, "[\"up_proj\"]");
    add_saved(&a, &m, "up_proj.weight");
    put(&a, "adapter");
    refused(tied, at("adapter"), "whole linear layer");

    oracle_adapter_make(&a, "lora", 7, &m);
    add_saved(&a, &m, "model.norm.weight");
    put(&a, "adapter");
    refused(tied, at("adapter"), "modules_to_save does not name");

    oracle_adapter_make(&a, "lora", 7, &m);
    save(&a, "[\"lm_head\"]");
    struct oracle_tensor *head = oracle_add(&a, "base_model.model.lm_head.weight", 331, 96);
    oracle_fill(head, "head", 1, 0);
    put(&a, "adapter");
    refused(tied, at("adapter"), "save embed_tokens, too");

    oracle_adapter_make(&a, "embed", 7, &m);
    json_object_set_new(a.config, "lora_bias", json_true());
    for (size_t i = 0, n = a.n_tensors; i < n; i++) {
        char name[128];
        size_t length = strcspn(a.tensors[i].name, "AB");
        snprintf(name, sizeof(name), "%.*sB.bias", (int)length, a.tensors[i].name);
        if (strstr(a.tensors[i].name, "lora_B.weight"))
            oracle_fill(oracle_add(&a, name, a.tensors[i].shape[0], 0), name, 1, 0);
    }
    oracle_fill(oracle_add(&a, "base_model.model.model.embed_tokens.lora_B.bias", 96, 0), "b", 1,
                0);
    put(&a, "adapter");
    refused(tied, at("adapter"), "a bias of an embedding");

    oracle_adapter_make(&a, "embed", 7, &m);
    oracle_find(&a, "base_model.model.model.embed_tokens.lora_embedding_A")->shape[1] = 330;
    oracle_find(&a, "base_model.model.model.embed_tokens.lora_embedding_A")->count = 4 * 330;
    put(&a, "adapter");
    refused(tied, at("adapter"), "made for another base: 330 tokens there, 331 here");
    model_close(&tied);
    oracle_model_free(&m);
}

/* An embedding that PEFT saved along without being told is the tied tensor itself. */
static void a_tied_embedding_saved_along_changes_the_head_too(void **state)
{
    (void)state;
    struct oracle_model m, a, plain;
    oracle_model_make(&m, oracle_config("qwen2"), 1);
    oracle_write_hf(&m, at("base"), GRAFT_TYPE_F32);
    oracle_adapter_make(&a, "lora", 7, &m);
    add_saved(&a, &m, "embed_tokens.weight");
    struct oracle_tensor *own = oracle_find(&a, "base_model.model.model.embed_tokens.weight");
    struct oracle_tensor *e = oracle_find(&m, "model.embed_tokens.weight");
    memcpy(e->values, own->values, own->count * sizeof(float));
    put(&a, "adapter");
    oracle_adapter_make(&plain, "lora", 7, &m);
    put(&plain, "plain");
    oracle_write_hf(&m, at("dense"), GRAFT_TYPE_F32);
    float *got = logits_of(at("base"), at("adapter"), 1, ROLE_PREFILL);
    float *want = logits_of(at("dense"), at("plain"), 1, ROLE_PREFILL);
    assert_true(relative_error(got, want, n_logits(&m)) <= 1e-6);
    free(got);
    free(want);
    oracle_model_free(&m);
}

/* ---- company ------------------------------------------------------------------------------ */

enum { N_MIXES = 5, N_ROWS = 3 };
static const char *const VARIANTS[N_MIXES] = {NULL, "lora", "saved", "embed-dora", "embed"};

/* Logits [N_MIXES, N_ROWS, width] of sequences with a mix each, `together` of them in one pass. */
static float *run_company(const struct model *m, struct mix *const mixes[], enum role role,
                          int together)
{
    graft_error error = {0};
    const struct kv_pool_options options = {KV_F16, KV_F16, 64};
    size_t width = (size_t)model_n_logits(m);
    float *out = malloc(N_MIXES * N_ROWS * width * sizeof(*out));
    struct kv_pool *pool = NULL;
    struct workspace *ws = NULL;
    struct kv_seq *seqs[N_MIXES] = {0};
    assert_int_equal(kv_pool_open(m, &options, &pool, &error), GRAFT_OK);
    assert_int_equal(workspace_open(m, N_MIXES * N_ROWS, &ws, &error), GRAFT_OK);
    for (int s = 0; s < N_MIXES; s++)
        assert_int_equal(kv_seq_open(pool, &seqs[s], &error), GRAFT_OK);
    for (int first = 0; first < N_MIXES; first += together) {
        struct row rows[N_MIXES * N_ROWS];
        int n = 0, end = first + together < N_MIXES ? first + together : N_MIXES;
        for (int pos = 0; pos < N_ROWS; pos++)
            for (int s = first; s < end; s++)
                rows[n++] = (struct row){.token = TOKENS[pos + s],
                                         .pos = pos,
                                         .seq = seqs[s],
                                         .role = role,
                                         .want_logits = true,
                                         .deltas = mix_deltas(mixes[s])};
        assert_int_equal(model_forward(m, rows, n, ws, &error), GRAFT_OK);
        for (int i = 0; i < n; i++) {
            int s = first + i % (end - first);
            memcpy(out + (size_t)(s * N_ROWS + rows[i].pos) * width, workspace_logits(ws, i),
                   width * sizeof(*out));
        }
    }
    for (int s = 0; s < N_MIXES; s++)
        kv_seq_close(&seqs[s]);
    workspace_close(&ws);
    kv_pool_close(&pool);
    return out;
}

static void check_company(const char *base, const struct kernels *tier, int threads)
{
    struct graft_runtime own;
    struct mix *mixes[N_MIXES] = {0};
    graft_error error = {0};
    runtime_start(&own, threads, tier);
    struct model *m = open_model(&own, base);
    for (int i = 1; i < N_MIXES; i++) {
        struct mix_part part = {open_it(m, at(VARIANTS[i])), 0.75f};
        assert_int_equal(mix_make(m, &part, 1, &mixes[i], &error), GRAFT_OK);
        adapter_release(&part.adapter);
    }
    size_t bytes = N_MIXES * N_ROWS * (size_t)model_n_logits(m) * sizeof(float);
    for (int role = 0; role < ROLE_COUNT; role++) {
        float *alone = run_company(m, mixes, (enum role)role, 1);
        for (int together = 2; together <= N_MIXES; together++) {
            float *got = run_company(m, mixes, (enum role)role, together);
            assert_memory_equal(got, alone, bytes);
            free(got);
        }
        free(alone);
    }
    for (int i = 0; i < N_MIXES; i++)
        mix_release(&mixes[i]);
    model_close(&m);
    runtime_stop(&own);
}

static void a_row_sees_its_own_modules_alone(void **state)
{
    (void)state;
    struct oracle_model m, a;
    oracle_model_make(&m, oracle_config_wide("llama"), 1);
    oracle_write_hf(&m, at("float"), GRAFT_TYPE_BF16);
    oracle_write_gguf(&m, at("q8.gguf"), GRAFT_TYPE_Q8_0);
    for (int i = 1; i < N_MIXES; i++) {
        oracle_adapter_make(&a, VARIANTS[i], 7, &m);
        put(&a, VARIANTS[i]);
    }
    for (int tier = 0; kernels_tier(tier); tier++)
        for (int threads = 1; threads <= 2; threads++) {
            check_company(at("float"), kernels_tier(tier), threads);
            check_company(at("q8.gguf"), kernels_tier(tier), threads);
        }
    oracle_model_free(&m);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(saved_norms_are_the_models_own),
        cmocka_unit_test(a_gguf_adapter_may_hold_norms),
        cmocka_unit_test(mlx_dora_on_an_embedding_goes_by_token),
        cmocka_unit_test(whole_modules_are_reported_and_odd_ones_refused),
        cmocka_unit_test(a_tied_embedding_saved_along_changes_the_head_too),
        cmocka_unit_test(a_row_sees_its_own_modules_alone),
    };
    return cmocka_run_group_tests(tests, setup, teardown);
}
