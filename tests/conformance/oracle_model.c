/* oracle_model.c: the recipe of the random models: shapes, amplitudes, streams, and the safetensors
 * bytes. What the recipe is: see oracle_model.h; GGUF and MLX forms: oracle_write.c.
 */
#include "oracle_model.h"

#include "conformance_support.h"

#include <math.h>
#include <sys/stat.h>

/* ---- configurations ----------------------------------------------------------------------- */

/* Awkward on purpose: no power of two, three query heads to a key head, odd vocabulary. */
static const char COMMON[] =
    "{\"hidden_size\": 96, \"intermediate_size\": 208, \"num_hidden_layers\": 3,"
    " \"num_attention_heads\": 6, \"num_key_value_heads\": 2, \"vocab_size\": 331,"
    " \"max_position_embeddings\": 256, \"hidden_act\": \"silu\", \"rms_norm_eps\": 1e-5,"
    " \"rope_theta\": 10000.0, \"tie_word_embeddings\": false, \"bos_token_id\": 1,"
    " \"eos_token_id\": 2, \"pad_token_id\": 0}";

#define LLAMA "\"architectures\": [\"LlamaForCausalLM\"], \"model_type\": \"llama\""
#define QWEN "\"rms_norm_eps\": 1e-6, \"rope_theta\": 1000000.0, \"use_sliding_window\": false"

static const struct {
    const char *arch, *changes;
} ARCHS[] = {
    {"llama", "{" LLAMA "}"},
    {"llama-bias", "{" LLAMA ", \"attention_bias\": true, \"num_key_value_heads\": 6}"},
    {"llama-linear", "{" LLAMA ", \"tie_word_embeddings\": true,"
                     " \"rope_scaling\": {\"type\": \"linear\", \"factor\": 4.0}}"},
    {"llama3", "{" LLAMA ", \"rope_scaling\": {\"rope_type\": \"llama3\", \"factor\": 8.0,"
               " \"low_freq_factor\": 1.0, \"high_freq_factor\": 4.0,"
               " \"original_max_position_embeddings\": 64}}"},
    {"mistral", "{\"architectures\": [\"MistralForCausalLM\"], \"model_type\": \"mistral\","
                " \"sliding_window\": 5}"},
    {"qwen2",
     "{\"architectures\": [\"Qwen2ForCausalLM\"], \"model_type\": \"qwen2\","
     " \"tie_word_embeddings\": true, \"sliding_window\": 5, \"max_window_layers\": 1," QWEN "}"},
    {"qwen3", "{\"architectures\": [\"Qwen3ForCausalLM\"], \"model_type\": \"qwen3\","
              " \"head_dim\": 24, \"tie_word_embeddings\": true," QWEN "}"},
    {"qwen2-cls",
     "{\"architectures\": [\"Qwen2ForSequenceClassification\"], \"model_type\": \"qwen2\","
     " \"id2label\": {\"0\": \"a\", \"1\": \"b\", \"2\": \"c\"}," QWEN "}"},
};

json_t *oracle_config(const char *arch)
{
    json_t *config = json_loads(COMMON, 0, NULL);
    for (size_t i = 0; i < ARRAY_LEN(ARCHS); i++)
        if (!strcmp(ARCHS[i].arch, arch)) {
            json_t *changes = json_loads(ARCHS[i].changes, 0, NULL);
            assert_non_null(changes);
            json_object_update(config, changes);
            json_decref(changes);
            return config;
        }
    fail_msg("no such model: %s", arch);
    return NULL;
}

json_t *oracle_config_wide(const char *arch)
{
    json_t *config = oracle_config(arch);
    json_object_set_new(config, "hidden_size", json_integer(256));
    json_object_set_new(config, "intermediate_size", json_integer(512));
    json_object_set_new(config, "num_attention_heads", json_integer(4));
    json_object_set_new(config, "num_key_value_heads", json_integer(2));
    json_object_del(config, "head_dim");
    return config;
}

/* ---- streams ------------------------------------------------------------------------------ */

void oracle_fill(struct oracle_tensor *t, const char *key, double amplitude, double offset)
{
    uint64_t h = 0xCBF29CE484222325;
    for (const char *p = key; *p; p++)
        h = (h ^ (uint8_t)*p) * 0x100000001B3;
    __extension__ typedef unsigned __int128 u128;
    const u128 multiplier = (u128)0x2360ed051fc65da4 << 64 | 0x4385df649fccf645;
    u128 state = h, step = 2 * (u128)h + 1;
    for (size_t i = 0; i < t->count; i++) {
        state = state * multiplier + step;
        uint64_t x = (uint64_t)(state >> 64) ^ (uint64_t)state;
        unsigned turn = (unsigned)(state >> 122);
        uint64_t raw = x >> turn | x << (-turn & 63);
        double u = (double)(raw >> 40) * 0x1p-23 - 1;
        t->values[i] = (float)(offset + amplitude * u);
    }
}

static void fill_uniform(struct oracle_tensor *t, const char *seed, double amplitude, double offset)
{
    char key[160];
    snprintf(key, sizeof(key), "%s:%s", seed, t->name);
    oracle_fill(t, key, amplitude, offset);
}

static bool ends_with(const char *text, const char *end)
{
    size_t n = strlen(text), m = strlen(end);
    return n >= m && !strcmp(text + n - m, end);
}

/* Standard deviation of a module's output for unit input: sharp attention, gentle residuals. */
static double gain(const char *name)
{
    static const struct {
        const char *module;
        double gain;
    } GAINS[] = {{"q_proj.weight", 1.5},    {"k_proj.weight", 1.5},  {"o_proj.weight", 0.5},
                 {"down_proj.weight", 0.5}, {"lm_head.weight", 2.0}, {"score.weight", 2.0}};
    for (size_t i = 0; i < ARRAY_LEN(GAINS); i++)
        if (ends_with(name, GAINS[i].module))
            return GAINS[i].gain;
    return 1.0;
}

struct oracle_tensor *oracle_add(struct oracle_model *m, const char *name, int64_t rows,
                                 int64_t cols)
{
    struct oracle_tensor *t = &m->tensors[m->n_tensors++];
    snprintf(t->name, sizeof(t->name), "%s", name);
    t->n_dims = cols ? 2 : 1;
    t->shape[0] = rows;
    t->shape[1] = cols;
    t->count = (size_t)(rows * (cols ? cols : 1));
    t->values = malloc(t->count * sizeof(float));
    assert_non_null(t->values);
    return t;
}

void oracle_fill_weight(struct oracle_tensor *t, const char *seed)
{
    if (ends_with(t->name, "norm.weight"))
        fill_uniform(t, seed, 0.3, 1.0);
    else if (ends_with(t->name, ".bias"))
        fill_uniform(t, seed, 0.3, 0.0);
    else
        fill_uniform(t, seed, gain(t->name) * sqrt(3 / (double)t->shape[1]), 0.0);
}

static void add(struct oracle_model *m, int seed, const char *name, int64_t rows, int64_t cols)
{
    char text[16];
    snprintf(text, sizeof(text), "%d", seed);
    oracle_fill_weight(oracle_add(m, name, rows, cols), text);
}

/* ---- shapes ------------------------------------------------------------------------------- */

static int64_t number(const json_t *config, const char *key)
{
    return json_integer_value(json_object_get(config, key));
}

static void add_layer(struct oracle_model *m, int seed, int layer, const char *biased)
{
    const json_t *c = m->config;
    int64_t d_model = number(c, "hidden_size"), d_ff = number(c, "intermediate_size");
    int64_t n_head = number(c, "num_attention_heads"), d_head = number(c, "head_dim");
    d_head = d_head ? d_head : d_model / n_head;
    int64_t d_q = d_head * n_head, d_kv = d_head * number(c, "num_key_value_heads");
    const struct {
        char letter;
        int64_t rows, cols;
    } linears[] = {
        {'q', d_q, d_model}, {'k', d_kv, d_model}, {'v', d_kv, d_model}, {'o', d_model, d_q}};
    char name[96];
#define NAME(...) (snprintf(name, sizeof(name), __VA_ARGS__), name)
    add(m, seed, NAME("model.layers.%d.input_layernorm.weight", layer), d_model, 0);
    for (size_t i = 0; i < ARRAY_LEN(linears); i++) {
        char x = linears[i].letter;
        add(m, seed, NAME("model.layers.%d.self_attn.%c_proj.weight", layer, x), linears[i].rows,
            linears[i].cols);
        if (strchr(biased, x))
            add(m, seed, NAME("model.layers.%d.self_attn.%c_proj.bias", layer, x), linears[i].rows,
                0);
    }
    if (!strcmp(json_string_value(json_object_get(c, "model_type")), "qwen3")) {
        add(m, seed, NAME("model.layers.%d.self_attn.q_norm.weight", layer), d_head, 0);
        add(m, seed, NAME("model.layers.%d.self_attn.k_norm.weight", layer), d_head, 0);
    }
    add(m, seed, NAME("model.layers.%d.post_attention_layernorm.weight", layer), d_model, 0);
    add(m, seed, NAME("model.layers.%d.mlp.gate_proj.weight", layer), d_ff, d_model);
    add(m, seed, NAME("model.layers.%d.mlp.up_proj.weight", layer), d_ff, d_model);
    add(m, seed, NAME("model.layers.%d.mlp.down_proj.weight", layer), d_model, d_ff);
}

void oracle_model_make(struct oracle_model *m, json_t *config, int seed)
{
    int64_t d_model = number(config, "hidden_size"), n_vocab = number(config, "vocab_size");
    int n_layer = (int)number(config, "num_hidden_layers");
    const char *type = json_string_value(json_object_get(config, "model_type"));
    const char *biased = !strcmp(type, "qwen2") ? "qkv" : "";
    if (json_is_true(json_object_get(config, "attention_bias")))
        biased = "qkvo";
    *m = (struct oracle_model){.config = config};
    m->tensors = calloc((size_t)n_layer * 16 + 4, sizeof(*m->tensors));
    assert_non_null(m->tensors);
    add(m, seed, "model.embed_tokens.weight", n_vocab, d_model);
    for (int i = 0; i < n_layer; i++)
        add_layer(m, seed, i, biased);
    add(m, seed, "model.norm.weight", d_model, 0);
    const json_t *labels = json_object_get(config, "id2label");
    if (labels)
        add(m, seed, "score.weight", (int64_t)json_object_size(labels), d_model);
    else if (!json_is_true(json_object_get(config, "tie_word_embeddings")))
        add(m, seed, "lm_head.weight", n_vocab, d_model);
}

void oracle_model_load(struct oracle_model *m, const char *dir)
{
    graft_error error = {0};
    struct tensor_set set;
    char path[768];
    snprintf(path, sizeof(path), "%s/config.json", dir);
    *m = (struct oracle_model){0};
    if (json_read(NULL, path, 1 << 20, &m->config, &error) != GRAFT_OK ||
        tensor_set_open(&set, NULL, dir, MAP_COPY, &error) != GRAFT_OK)
        fail_msg("%s: %s", dir, error.message);
    m->tensors = calloc(tensor_set_count(&set), sizeof(*m->tensors));
    for (; m->n_tensors < tensor_set_count(&set); m->n_tensors++) {
        const struct tensor_info *from = tensor_set_at(&set, m->n_tensors);
        struct oracle_tensor *t = &m->tensors[m->n_tensors];
        assert_int_equal(from->type, GRAFT_TYPE_F32);
        snprintf(t->name, sizeof(t->name), "%s", from->name);
        t->n_dims = from->n_dims;
        t->shape[0] = from->shape[0];
        t->shape[1] = from->n_dims == 2 ? from->shape[1] : 0;
        t->count = from->size / sizeof(float);
        t->values = malloc(from->size);
        memcpy(t->values, from->data, from->size);
    }
    tensor_set_close(&set);
}

void oracle_model_free(struct oracle_model *m)
{
    for (size_t i = 0; i < m->n_tensors; i++)
        free(m->tensors[i].values);
    free(m->tensors);
    json_decref(m->config);
    *m = (struct oracle_model){0};
}

struct oracle_tensor *oracle_find(struct oracle_model *m, const char *name)
{
    for (size_t i = 0; i < m->n_tensors; i++)
        if (!strcmp(m->tensors[i].name, name))
            return &m->tensors[i];
    fail_msg("no such tensor: %s", name);
    return NULL;
}

/* ---- the file ----------------------------------------------------------------------------- */

void oracle_round(struct oracle_model *m, graft_type type)
{
    for (size_t i = 0; i < m->n_tensors; i++)
        for (size_t j = 0; j < m->tensors[i].count; j++) {
            float *x = &m->tensors[i].values[j];
            if (type == GRAFT_TYPE_F16)
                *x = f16_to_f32(f32_to_f16(*x));
            else if (type == GRAFT_TYPE_BF16)
                *x = bf16_to_f32(f32_to_bf16(*x));
        }
}

static void append_values(struct buf *out, const struct oracle_tensor *t, graft_type type)
{
    for (size_t i = 0; i < t->count; i++) {
        uint16_t half =
            type == GRAFT_TYPE_F16 ? f32_to_f16(t->values[i]) : f32_to_bf16(t->values[i]);
        if (type == GRAFT_TYPE_F32)
            buf_append(out, &t->values[i], sizeof(float));
        else
            buf_append(out, &half, sizeof(half));
    }
}

void oracle_write_hf(const struct oracle_model *m, const char *dir, graft_type type)
{
    oracle_write(m, dir, "model.safetensors", "config.json", type);
}

void oracle_write(const struct oracle_model *m, const char *dir, const char *weights,
                  const char *config_name, graft_type type)
{
    mkdir(dir, 0777);
    struct buf header, file;
    size_t each = type_traits(type)->block_bytes, offset = 0;
    buf_init(&header, NULL, SIZE_MAX);
    buf_init(&file, NULL, SIZE_MAX);
    buf_puts(&header, "{\"__metadata__\":{\"format\":\"pt\"}");
    for (size_t i = 0; i < m->n_tensors; i++) {
        const struct oracle_tensor *t = &m->tensors[i];
        buf_printf(&header, ",\"%s\":{\"dtype\":\"%s\",\"shape\":[%lld", t->name,
                   graft_type_name(type), (long long)t->shape[0]);
        if (t->n_dims == 2)
            buf_printf(&header, ",%lld", (long long)t->shape[1]);
        buf_printf(&header, "],\"data_offsets\":[%zu,%zu]}", offset, offset + t->count * each);
        offset += t->count * each;
    }
    buf_putc(&header, '}');
    while (header.size % 8)
        buf_putc(&header, ' ');
    uint64_t length = header.size;
    buf_append(&file, &length, sizeof(length));
    buf_append(&file, header.data, header.size);
    for (size_t i = 0; i < m->n_tensors; i++)
        append_values(&file, &m->tensors[i], type);
    assert_int_equal(file.status, GRAFT_OK);
    write_file(dir, weights, file.data, file.size);
    char *config = json_dumps(m->config, JSON_INDENT(2));
    write_file(dir, config_name, config, strlen(config));
    free(config);
    buf_free(&header);
    buf_free(&file);
}
