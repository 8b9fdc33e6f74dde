/* oracle_write.c: the random models as GGUF files of any type and as MLX quantised directories.
 *
 * Writing quantises, and puts what a reader will see back into the model's values, so that the same model
 * written as F32 afterwards is the exact expectation.
 */
#include "conformance_support.h"
#include "oracle_model.h"

#include <math.h>
#include <sys/stat.h>

static double setting(const json_t *config, const char *key)
{
    return json_number_value(json_object_get(config, key));
}

/* ---- GGUF --------------------------------------------------------------------------------- */

static void gguf_name(const char *name, char *out, size_t size)
{
    static const char *const MODULES[][2] = {
        {"input_layernorm", "attn_norm"},    {"post_attention_layernorm", "ffn_norm"},
        {"self_attn.q_proj", "attn_q"},      {"self_attn.k_proj", "attn_k"},
        {"self_attn.v_proj", "attn_v"},      {"self_attn.o_proj", "attn_output"},
        {"self_attn.q_norm", "attn_q_norm"}, {"self_attn.k_norm", "attn_k_norm"},
        {"mlp.gate_proj", "ffn_gate"},       {"mlp.up_proj", "ffn_up"},
        {"mlp.down_proj", "ffn_down"}};
    static const char *const ENDS[][2] = {
        {"model.embed_tokens", "token_embd"}, {"model.norm", "output_norm"}, {"lm_head", "output"}};
    const char *suffix = strrchr(name, '.');
    int layer = 0, at = 0;
    if (sscanf(name, "model.layers.%d.%n", &layer, &at) == 1 && at) {
        for (size_t i = 0; i < ARRAY_LEN(MODULES); i++)
            if (!strncmp(name + at, MODULES[i][0], (size_t)(suffix - name - at)) &&
                strlen(MODULES[i][0]) == (size_t)(suffix - name - at))
                snprintf(out, size, "blk.%d.%s%s", layer, MODULES[i][1], suffix);
        return;
    }
    for (size_t i = 0; i < ARRAY_LEN(ENDS); i++)
        if (!strncmp(name, ENDS[i][0], (size_t)(suffix - name)))
            snprintf(out, size, "%s%s", ENDS[i][1], suffix);
}

static void put_config(struct gguf_writer *w, const json_t *c)
{
    static const char *const INTS[][2] = {{"block_count", "num_hidden_layers"},
                                          {"embedding_length", "hidden_size"},
                                          {"feed_forward_length", "intermediate_size"},
                                          {"attention.head_count", "num_attention_heads"},
                                          {"attention.head_count_kv", "num_key_value_heads"},
                                          {"attention.key_length", "head_dim"},
                                          {"context_length", "max_position_embeddings"}};
    const char *arch = json_string_value(json_object_get(c, "model_type"));
    bool mistral = !strcmp(arch, "mistral");
    arch = mistral ? "llama" : arch;
    char key[128];
    gguf_put_string(w, "general.architecture", arch, strlen(arch));
    for (size_t i = 0; i < ARRAY_LEN(INTS); i++)
        if (setting(c, INTS[i][1]) > 0) {
            snprintf(key, sizeof(key), "%s.%s", arch, INTS[i][0]);
            gguf_put_u32(w, key, (uint32_t)setting(c, INTS[i][1]));
        }
    snprintf(key, sizeof(key), "%s.attention.layer_norm_rms_epsilon", arch);
    gguf_put_f32(w, key, (float)setting(c, "rms_norm_eps"));
    snprintf(key, sizeof(key), "%s.rope.freq_base", arch);
    gguf_put_f32(w, key, (float)setting(c, "rope_theta"));
    const json_t *scaling = json_object_get(c, "rope_scaling");
    const char *kind = json_string_value(json_object_get(scaling, "rope_type"));
    bool yarn = kind && !strcmp(kind, "yarn");
    if (yarn || json_object_get(scaling, "type")) { /* or linear, under the key's old name */
        kind = yarn ? "yarn" : "linear";
        snprintf(key, sizeof(key), "%s.rope.scaling.type", arch);
        gguf_put_string(w, key, kind, strlen(kind));
        if (yarn) {
            snprintf(key, sizeof(key), "%s.rope.scaling.original_context_length", arch);
            gguf_put_u32(w, key, (uint32_t)setting(scaling, "original_max_position_embeddings"));
        }
        snprintf(key, sizeof(key), "%s.rope.scaling.factor", arch);
        gguf_put_f32(w, key, (float)setting(scaling, "factor"));
    }
    if (mistral)
        gguf_put_u32(w, "llama.attention.sliding_window", (uint32_t)setting(c, "sliding_window"));
}

/* Where row r of a llama file comes from: planes side by side instead of half a head apart. */
static int64_t source_row(const struct oracle_model *m, const char *name, int64_t row)
{
    const char *arch = json_string_value(json_object_get(m->config, "model_type"));
    bool q = strstr(name, "q_proj") != NULL, k = strstr(name, "k_proj") != NULL;
    if (!(q || k) || (strcmp(arch, "llama") && strcmp(arch, "mistral")))
        return row;
    int64_t d = (int64_t)setting(m->config, "head_dim");
    d = d ? d
          : (int64_t)(setting(m->config, "hidden_size") /
                      setting(m->config, "num_attention_heads"));
    return row / d * d + row % d / 2 + row % 2 * (d / 2);
}

static graft_type possible_type(const struct oracle_tensor *t, graft_type type)
{
    if (t->n_dims == 1)
        return GRAFT_TYPE_F32;
    if (t->shape[1] % type_traits(type)->block_values == 0)
        return type;
    return t->shape[1] % 32 == 0 ? GRAFT_TYPE_Q8_0 : GRAFT_TYPE_F32;
}

static void write_tensor(const struct oracle_model *m, struct oracle_tensor *t, graft_type type,
                         struct file_writer *file)
{
    int64_t n_in = t->n_dims == 2 ? t->shape[1] : (int64_t)t->count;
    int64_t n_out = t->n_dims == 2 ? t->shape[0] : 1;
    size_t row_bytes = 0;
    assert_true(type_row_bytes(type, n_in, &row_bytes));
    uint8_t *bytes = malloc(row_bytes * (size_t)n_out);
    for (int64_t r = 0; r < n_out; r++) {
        int64_t from = t->n_dims == 2 ? source_row(m, t->name, r) : 0;
        float *values = t->values + from * n_in;
        if (t->n_dims == 1) { /* a bias follows its rows */
            for (int64_t i = 0; i < n_in; i++)
                memcpy(bytes + 4 * i, &t->values[source_row(m, t->name, i)], 4);
            break;
        }
        assert_true(quantize_row(type, values, n_in, bytes + (size_t)r * row_bytes));
        const struct matrix row = {.type = type,
                                   .n_out = 1,
                                   .n_in = n_in,
                                   .data = bytes + (size_t)r * row_bytes,
                                   .row_bytes = row_bytes};
        kernels_tier(0)->dequantize[type](&row, 0, 0, n_in, values);
    }
    assert_int_equal(gguf_write_tensor(file, bytes, row_bytes * (size_t)n_out, NULL), GRAFT_OK);
    free(bytes);
}

/* Llama 3's scaling as divisors of the plain frequencies; returns how many, 0 for other models. */
static int rope_divisors(const json_t *c, float *out)
{
    const json_t *s = json_object_get(c, "rope_scaling");
    if (!json_object_get(s, "low_freq_factor"))
        return 0;
    int d = (int)(setting(c, "hidden_size") / setting(c, "num_attention_heads"));
    double low = setting(s, "low_freq_factor"), high = setting(s, "high_freq_factor");
    for (int i = 0; i < d / 2; i++) {
        double wave = 2 * 3.14159265358979 * pow(setting(c, "rope_theta"), 2.0 * i / d);
        double turns = setting(s, "original_max_position_embeddings") / wave;
        double smooth = (turns - low) / (high - low), factor = setting(s, "factor");
        out[i] = (float)(turns > high  ? 1
                         : turns < low ? factor
                                       : 1 / ((1 - smooth) / factor + smooth));
    }
    return d / 2;
}

void oracle_write_gguf(struct oracle_model *m, const char *path, graft_type type)
{
    struct gguf_writer w;
    struct file_writer file;
    float divisors[256];
    int n_divisors = rope_divisors(m->config, divisors);
    gguf_writer_init(&w, NULL);
    put_config(&w, m->config);
    for (size_t i = 0; i < m->n_tensors; i++) {
        const struct oracle_tensor *t = &m->tensors[i];
        char name[96] = "";
        gguf_name(t->name, name, sizeof(name));
        struct tensor_decl decl = {.name = name,
                                   .type = possible_type(t, type),
                                   .n_dims = t->n_dims,
                                   .shape = {t->shape[0], t->shape[1]}};
        assert_int_equal(gguf_declare(&w, &decl, NULL), GRAFT_OK);
    }
    if (n_divisors) {
        struct tensor_decl decl = {.name = "rope_freqs.weight",
                                   .type = GRAFT_TYPE_F32,
                                   .n_dims = 1,
                                   .shape = {n_divisors}};
        assert_int_equal(gguf_declare(&w, &decl, NULL), GRAFT_OK);
    }
    assert_int_equal(file_writer_open(&file, NULL, path, NULL), GRAFT_OK);
    assert_int_equal(gguf_write_head(&w, &file, NULL), GRAFT_OK);
    for (size_t i = 0; i < m->n_tensors; i++)
        write_tensor(m, &m->tensors[i], possible_type(&m->tensors[i], type), &file);
    if (n_divisors)
        assert_int_equal(gguf_write_tensor(&file, divisors, (size_t)n_divisors * 4, NULL),
                         GRAFT_OK);
    assert_int_equal(file_writer_commit(&file, NULL), GRAFT_OK);
    gguf_writer_free(&w);
}

/* ---- MLX ---------------------------------------------------------------------------------- */

struct mlx_file {
    struct buf header, data;
};

static void add_bytes(struct mlx_file *f, const char *name, const char *dtype, int64_t rows,
                      int64_t cols, const struct buf *bytes)
{
    buf_printf(&f->header, "%c\"%s\":{\"dtype\":\"%s\",\"shape\":[%lld", f->header.size ? ',' : '{',
               name, dtype, (long long)rows);
    if (cols)
        buf_printf(&f->header, ",%lld", (long long)cols);
    buf_printf(&f->header, "],\"data_offsets\":[%zu,%zu]}", f->data.size,
               f->data.size + bytes->size);
    buf_append(&f->data, bytes->data, bytes->size);
}

/* Stores x in the type and returns what was stored. */
static float put_scale(struct buf *out, graft_type type, float x)
{
    uint16_t half = type == GRAFT_TYPE_F16 ? f32_to_f16(x) : f32_to_bf16(x);
    if (type == GRAFT_TYPE_F32) {
        buf_append(out, &x, sizeof(x));
        return x;
    }
    buf_append(out, &half, sizeof(half));
    return type == GRAFT_TYPE_F16 ? f16_to_f32(half) : bf16_to_f32(half);
}

/* One group: w = scale · q + bias, codes packed from the low bits up. */
static void quantize_group(float *x, int n, int bits, graft_type type, struct buf parts[3])
{
    float low = x[0], high = x[0];
    for (int i = 0; i < n; i++) {
        low = x[i] < low ? x[i] : low;
        high = x[i] > high ? x[i] : high;
    }
    int top = (1 << bits) - 1;
    float scale = put_scale(&parts[1], type, (high - low) / (float)top);
    float bias = put_scale(&parts[2], type, low);
    uint32_t word = 0;
    for (int i = 0; i < n; i++) {
        float code = scale > 0 ? roundf((x[i] - bias) / scale) : 0;
        code = code < 0 ? 0 : code > (float)top ? (float)top : code;
        x[i] = scale * code + bias;
        int shift = i * bits % 32;
        word |= (uint32_t)code << shift;
        if (shift + bits == 32) {
            buf_append(&parts[0], &word, sizeof(word));
            word = 0;
        }
    }
}

static void add_quantised(struct mlx_file *f, struct oracle_tensor *t, const char *module, int bits,
                          const struct oracle_mlx *how)
{
    struct buf parts[3]; /* words, scales, biases */
    static const char *const NAMES[3] = {"weight", "scales", "biases"};
    for (int i = 0; i < 3; i++)
        buf_init(&parts[i], NULL, SIZE_MAX);
    for (size_t at = 0; at < t->count; at += (size_t)how->group)
        quantize_group(t->values + at, how->group, bits, how->scale_type, parts);
    for (int i = 0; i < 3; i++) {
        char name[128];
        snprintf(name, sizeof(name), "%s.%s", module, NAMES[i]);
        add_bytes(f, name, i ? graft_type_name(how->scale_type) : "U32", t->shape[0],
                  i ? t->shape[1] / how->group : t->shape[1] * bits / 32, &parts[i]);
        buf_free(&parts[i]);
    }
}

static bool is_kept(const struct oracle_mlx *how, const char *module)
{
    for (const char *const *k = how->keep; k && *k; k++)
        if (!strcmp(*k, module))
            return true;
    return false;
}

void oracle_write_mlx(struct oracle_model *m, const char *dir, const struct oracle_mlx *how)
{
    struct mlx_file f;
    json_t *quantization = json_pack("{s:i, s:i}", "group_size", how->group, "bits", how->bits);
    buf_init(&f.header, NULL, SIZE_MAX);
    buf_init(&f.data, NULL, SIZE_MAX);
    for (size_t i = 0; i < m->n_tensors; i++) {
        struct oracle_tensor *t = &m->tensors[i];
        char module[96];
        snprintf(module, sizeof(module), "%.*s", (int)(strrchr(t->name, '.') - t->name), t->name);
        bool wide = how->wide && !strcmp(how->wide, module);
        if (wide)
            json_object_set_new(quantization, module,
                                json_pack("{s:i, s:i}", "group_size", how->group, "bits", 8));
        if (t->n_dims == 2 && !is_kept(how, module)) {
            add_quantised(&f, t, module, wide ? 8 : how->bits, how);
            continue;
        }
        if (t->n_dims == 2)
            json_object_set_new(quantization, module, json_false());
        struct buf raw;
        buf_init(&raw, NULL, SIZE_MAX);
        buf_append(&raw, t->values, t->count * sizeof(float));
        add_bytes(&f, t->name, "F32", t->shape[0], t->n_dims == 2 ? t->shape[1] : 0, &raw);
        buf_free(&raw);
    }
    buf_putc(&f.header, '}');
    struct buf file;
    uint64_t length = f.header.size;
    buf_init(&file, NULL, SIZE_MAX);
    buf_append(&file, &length, sizeof(length));
    buf_append(&file, f.header.data, f.header.size);
    buf_append(&file, f.data.data, f.data.size);
    assert_int_equal(file.status, GRAFT_OK);
    mkdir(dir, 0777);
    write_file(dir, "model.safetensors", file.data, file.size);
    json_t *config = json_deep_copy(m->config);
    json_object_set_new(config, "quantization", quantization);
    char *text = json_dumps(config, JSON_INDENT(2));
    write_file(dir, "config.json", text, strlen(text));
    free(text);
    json_decref(config);
    buf_free(&file);
    buf_free(&f.header);
    buf_free(&f.data);
}
