/* oracle_adapter.c: see oracle_adapter.h. */
#include "oracle_adapter.h"

#include "conformance_support.h"

#include <math.h>

/* ---- variants ----------------------------------------------------------------------------- */

#define Q "\"q_proj\""
#define V "\"v_proj\""
#define ATTENTION "[\"q_proj\", \"k_proj\", \"v_proj\", \"o_proj\"]"

static const char PEFT[] =
    "{\"peft_type\": \"LORA\", \"task_type\": \"CAUSAL_LM\", \"bias\": \"none\","
    " \"lora_dropout\": 0.0, \"fan_in_fan_out\": false, \"inference_mode\": true,"
    " \"init_lora_weights\": true, \"use_rslora\": false, \"use_dora\": false,"
    " \"modules_to_save\": null, \"layers_to_transform\": null, \"layers_pattern\": null,"
    " \"rank_pattern\": {}, \"alpha_pattern\": {}, \"base_model_name_or_path\": \"\"}";

/* What the configuration says, and the modules it means: ends of names; of MLX, the keys. */
static const struct variant {
    const char *name, *config, *modules;
    bool mlx;
} VARIANTS[] = {
    {"lora", "{\"r\": 4, \"lora_alpha\": 8, \"target_modules\": [" Q ", " V "]}", "q_proj v_proj",
     false},
    {"lora-all", "{\"r\": 5, \"lora_alpha\": 7, \"target_modules\": \"all-linear\"}", "_proj",
     false},
    {"rslora",
     "{\"r\": 8, \"lora_alpha\": 4, \"use_rslora\": true, \"target_modules\": " ATTENTION "}",
     "q_proj k_proj v_proj o_proj", false},
    {"dora",
     "{\"r\": 4, \"lora_alpha\": 6, \"use_dora\": true,"
     " \"target_modules\": [" Q ", " V ", \"o_proj\", \"down_proj\"]}",
     "q_proj v_proj o_proj down_proj", false},
    {"rsdora",
     "{\"r\": 3, \"lora_alpha\": 2, \"use_rslora\": true, \"use_dora\": true,"
     " \"target_modules\": \"all-linear\"}",
     "_proj", false},
    {"patterns",
     "{\"r\": 4, \"lora_alpha\": 8, \"layers_to_transform\": [0, 2],"
     " \"target_modules\": [\"q_proj\", \"k_proj\", \"v_proj\", \"o_proj\", \"up_proj\"],"
     " \"rank_pattern\": {\"k_proj\": 2, \"layers.2.self_attn.q_proj\": 6},"
     " \"alpha_pattern\": {\"q_proj\": 3, \"mlp.up_proj\": 16}}",
     "q_proj k_proj v_proj o_proj up_proj", false},
    {"regex",
     "{\"r\": 6, \"lora_alpha\": 6, \"target_modules\":"
     " \"model\\\\.layers\\\\.[12]\\\\..*(q_proj|gate_proj|down_proj)\"}",
     "q_proj gate_proj down_proj", false},
    {"embed",
     "{\"r\": 4, \"lora_alpha\": 4, \"target_modules\": [\"embed_tokens\", \"lm_head\", " V "]}",
     "embed_tokens lm_head v_proj", false},
    {"embed-dora",
     "{\"r\": 4, \"lora_alpha\": 4, \"use_dora\": true,"
     " \"target_modules\": [\"embed_tokens\", \"lm_head\", " V "]}",
     "embed_tokens lm_head v_proj", false},
    {"saved",
     "{\"r\": 4, \"lora_alpha\": 8, \"target_modules\": [" Q ", " V "],"
     " \"modules_to_save\": [\"embed_tokens\", \"lm_head\"]}",
     "q_proj v_proj", false},
    {"saved-score",
     "{\"r\": 4, \"lora_alpha\": 8, \"target_modules\": [" Q ", " V "],"
     " \"modules_to_save\": [\"score\"], \"task_type\": \"SEQ_CLS\"}",
     "q_proj v_proj", false},
    {"lora-bias",
     "{\"r\": 4, \"lora_alpha\": 6, \"lora_bias\": true, \"target_modules\": [" Q ", " V "]}",
     "q_proj v_proj", false},
    {"mlx-lora",
     "{\"fine_tune_type\": \"lora\", \"num_layers\": 2, \"lora_parameters\":"
     " {\"rank\": 4, \"scale\": 1.75, \"dropout\": 0.0,"
     " \"keys\": [\"self_attn.q_proj\", \"self_attn.v_proj\", \"mlp.down_proj\"]}}",
     NULL, true},
    {"mlx-dora",
     "{\"fine_tune_type\": \"dora\", \"num_layers\": -1, \"lora_parameters\":"
     " {\"rank\": 3, \"scale\": 1.25, \"dropout\": 0.0,"
     " \"keys\": [\"self_attn.q_proj\", \"self_attn.o_proj\"]}}",
     NULL, true},
    {"mlx-embed",
     "{\"fine_tune_type\": \"lora\", \"num_layers\": 1, \"lora_parameters\":"
     " {\"rank\": 4, \"scale\": 0.5, \"dropout\": 0.0,"
     " \"keys\": [\"self_attn.v_proj\", \"model.embed_tokens\"]}}",
     NULL, true},
};

static const char EMBED[] = "model.embed_tokens";

static bool ends_with(const char *text, const char *end)
{
    size_t n = strlen(text), m = strlen(end);
    return n >= m && !strcmp(text + n - m, end);
}

static bool ends_with_one_of(const char *module, const char *ends)
{
    char copy[128], *left = NULL;
    snprintf(copy, sizeof(copy), "%s", ends);
    for (char *end = strtok_r(copy, " ", &left); end; end = strtok_r(NULL, " ", &left))
        if (ends_with(module, end))
            return true;
    return false;
}

static bool is_target(const struct variant *v, const char *module)
{
    bool middle = strstr(module, "layers.1.") != NULL, last = strstr(module, "layers.2.") != NULL;
    if (!strcmp(v->name, "patterns") && middle)
        return false;
    if (!strcmp(v->name, "regex") && !middle && !last)
        return false;
    return ends_with_one_of(module, v->modules);
}

static int64_t rank_of(const struct variant *v, const json_t *config, const char *module)
{
    if (!strcmp(v->name, "patterns") && ends_with(module, "k_proj"))
        return 2;
    if (!strcmp(v->name, "patterns") && ends_with(module, "layers.2.self_attn.q_proj"))
        return 6;
    return json_integer_value(json_object_get(config, "r"));
}

/* ---- tensors ------------------------------------------------------------------------------ */

static void add_values(struct oracle_model *out, int seed, const char *module, const char *part,
                       int64_t rows, int64_t cols, double amplitude, double offset)
{
    char name[160], key[192];
    snprintf(name, sizeof(name), "%s%s", module, part);
    struct oracle_tensor *t = oracle_add(out, name, rows, cols);
    snprintf(key, sizeof(key), "%d:%s", seed, t->name);
    oracle_fill(t, key, amplitude, offset);
}

/* A-like tensors keep the input's size, B-like ones shrink it. */
static void add_factor(struct oracle_model *out, int seed, const char *module, const char *part,
                       int64_t rows, int64_t cols, bool wide)
{
    int64_t rank = rows < cols ? rows : cols, other = rows < cols ? cols : rows;
    add_values(out, seed, module, part, rows, cols,
               wide ? sqrt(3 / (double)other) : 0.3 * sqrt(3 / (double)rank), 0);
}

static void add_saved(struct oracle_model *out, int seed, const struct oracle_tensor *w,
                      const char *name)
{
    char text[32];
    struct oracle_tensor *t = oracle_add(out, name, w->shape[0], w->shape[1]);
    snprintf(text, sizeof(text), "%d:saved", seed);
    oracle_fill_weight(t, text);
    snprintf(t->name, sizeof(t->name), "base_model.model.%s", name);
}

static void add_peft(struct oracle_model *out, const struct variant *v, int seed,
                     const struct oracle_tensor *w, const char *name)
{
    char module[96], key[120];
    const json_t *saved = json_object_get(out->config, "modules_to_save");
    snprintf(module, sizeof(module), "%.*s", (int)(strlen(name) - strlen(".weight")), name);
    snprintf(key, sizeof(key), "base_model.model.%s", module);
    for (size_t i = 0; i < json_array_size(saved); i++)
        if (ends_with(module, json_string_value(json_array_get(saved, i))))
            add_saved(out, seed, w, name);
    if (w->n_dims != 2 || !is_target(v, module))
        return;
    bool embed = !strcmp(module, EMBED);
    int64_t rank = rank_of(v, out->config, module), rows = w->shape[0], cols = w->shape[1];
    if (embed) {
        add_factor(out, seed, key, ".lora_embedding_A", rank, rows, false);
        add_factor(out, seed, key, ".lora_embedding_B", cols, rank, true);
    } else {
        add_factor(out, seed, key, ".lora_A.weight", rank, cols, true);
        add_factor(out, seed, key, ".lora_B.weight", rows, rank, false);
    }
    if (json_is_true(json_object_get(out->config, "lora_bias")))
        add_values(out, seed, key, ".lora_B.bias", rows, 0, 0.3, 0);
    if (json_is_true(json_object_get(out->config, "use_dora")))
        add_values(out, seed, key, ".lora_magnitude_vector", embed ? cols : rows, 0, 0.3, 1);
}

static const struct oracle_tensor *find(const struct oracle_model *m, const char *module)
{
    char name[128];
    snprintf(name, sizeof(name), "%s.weight", module);
    for (size_t i = 0; i < m->n_tensors; i++)
        if (!strcmp(m->tensors[i].name, name))
            return &m->tensors[i];
    return NULL;
}

static void add_mlx(struct oracle_model *out, int seed, const struct oracle_model *model,
                    const char *module)
{
    const struct oracle_tensor *w = find(model, module);
    const json_t *p = json_object_get(out->config, "lora_parameters");
    int64_t rank = json_integer_value(json_object_get(p, "rank"));
    const char *type = json_string_value(json_object_get(out->config, "fine_tune_type"));
    if (!w)
        return;
    bool embed = !strcmp(module, EMBED);
    add_factor(out, seed, module, ".lora_a", w->shape[embed ? 0 : 1], rank, true);
    add_factor(out, seed, module, ".lora_b", rank, w->shape[embed ? 1 : 0], false);
    if (!strcmp(type, "dora"))
        add_values(out, seed, module, ".m", w->shape[0], 0, 0.3, 1);
}

static void make_mlx(struct oracle_model *out, int seed, const struct oracle_model *model)
{
    const json_t *p = json_object_get(out->config, "lora_parameters");
    const json_t *keys = json_object_get(p, "keys");
    int n = (int)json_integer_value(json_object_get(out->config, "num_layers"));
    int layers = (int)json_integer_value(json_object_get(model->config, "num_hidden_layers"));
    char module[128];
    for (int layer = n < 0 ? 0 : layers - n; layer < layers; layer++)
        for (size_t i = 0; i < json_array_size(keys); i++) {
            snprintf(module, sizeof(module), "model.layers.%d.%s", layer,
                     json_string_value(json_array_get(keys, i)));
            add_mlx(out, seed, model, module);
        }
    for (size_t i = 0; i < json_array_size(keys); i++) {
        const char *key = json_string_value(json_array_get(keys, i));
        if (!strncmp(key, "model.", 6))
            add_mlx(out, seed, model, key);
    }
}

void oracle_adapter_make(struct oracle_model *out, const char *variant, int seed,
                         const struct oracle_model *model)
{
    const struct variant *v = VARIANTS;
    while (strcmp(v->name, variant) != 0)
        assert_true(++v < VARIANTS + ARRAY_LEN(VARIANTS));
    *out = (struct oracle_model){.config = json_loads(v->mlx ? "{}" : PEFT, 0, NULL)};
    json_t *changes = json_loads(v->config, 0, NULL);
    assert_non_null(changes);
    json_object_update(out->config, changes);
    json_decref(changes);
    out->tensors = calloc(4 * model->n_tensors + 8, sizeof(*out->tensors));
    if (v->mlx) {
        make_mlx(out, seed, model);
        return;
    }
    for (size_t i = 0; i < model->n_tensors; i++)
        if (ends_with(model->tensors[i].name, ".weight"))
            add_peft(out, v, seed, &model->tensors[i], model->tensors[i].name);
    if (json_is_true(json_object_get(model->config, "tie_word_embeddings")))
        add_peft(out, v, seed, find(model, EMBED), "lm_head.weight");
}

/* ---- files -------------------------------------------------------------------------------- */

void oracle_adapter_write(const struct oracle_model *adapter, const char *dir, graft_type type)
{
    bool mlx = json_object_get(adapter->config, "lora_parameters") != NULL;
    oracle_write(adapter, dir, mlx ? "adapters.safetensors" : "adapter_model.safetensors",
                 "adapter_config.json", type);
}

/* "model.layers.2.self_attn.q_proj.lora_A.weight" → "blk.2.attn_q.weight.lora_a" */
static void gguf_name(const char *name, char *out, size_t size)
{
    static const char *const WORDS[][2] = {{"q_proj", "attn_q"},     {"k_proj", "attn_k"},
                                           {"v_proj", "attn_v"},     {"o_proj", "attn_output"},
                                           {"up_proj", "ffn_up"},    {"gate_proj", "ffn_gate"},
                                           {"down_proj", "ffn_down"}};
    const char *layer = strstr(name, "layers.");
    assert_non_null(layer);
    for (size_t i = 0; i < ARRAY_LEN(WORDS); i++)
        if (strstr(name, WORDS[i][0]))
            snprintf(out, size, "blk.%ld.%s.weight.%s", strtol(layer + 7, NULL, 10), WORDS[i][1],
                     strstr(name, "lora_A") ? "lora_a" : "lora_b");
}

void oracle_adapter_write_gguf(const struct oracle_model *adapter, const char *path,
                               const char *architecture, int d_head)
{
    graft_error error = {0};
    struct gguf_writer w;
    struct file_writer file;
    double alpha = json_number_value(json_object_get(adapter->config, "lora_alpha"));
    gguf_writer_init(&w, NULL);
    gguf_put_string(&w, "general.type", "adapter", 7);
    gguf_put_string(&w, "general.architecture", architecture, strlen(architecture));
    gguf_put_string(&w, "adapter.type", "lora", 4);
    gguf_put_f32(&w, "adapter.lora.alpha", (float)alpha);
    for (size_t i = 0; i < adapter->n_tensors; i++) {
        const struct oracle_tensor *t = &adapter->tensors[i];
        char name[64] = "";
        gguf_name(t->name, name, sizeof(name));
        const struct tensor_decl decl = {name, GRAFT_TYPE_F32, 2, {t->shape[0], t->shape[1]}};
        assert_int_equal(gguf_declare(&w, &decl, &error), GRAFT_OK);
    }
    assert_int_equal(file_writer_open(&file, NULL, path, &error), GRAFT_OK);
    assert_int_equal(gguf_write_head(&w, &file, &error), GRAFT_OK);
    for (size_t i = 0; i < adapter->n_tensors; i++) {
        const struct oracle_tensor *t = &adapter->tensors[i];
        bool turned = !strcmp(architecture, "llama") && strstr(t->name, "lora_B") &&
                      (strstr(t->name, "q_proj") || strstr(t->name, "k_proj"));
        float *values = malloc(t->count * sizeof(float));
        for (int64_t row = 0; row < t->shape[0]; row++) {
            int64_t half = d_head / 2, head = row / d_head, in = row % d_head;
            int64_t to = turned ? head * d_head + in % half * 2 + in / half : row;
            memcpy(values + to * t->shape[1], t->values + row * t->shape[1],
                   (size_t)t->shape[1] * sizeof(float));
        }
        assert_int_equal(gguf_write_tensor(&file, values, t->count * sizeof(float), &error),
                         GRAFT_OK);
        free(values);
    }
    assert_int_equal(file_writer_commit(&file, &error), GRAFT_OK);
    gguf_writer_free(&w);
}
