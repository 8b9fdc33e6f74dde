/* inspect.c: gathers what the containers, the configuration and the tokenizer say.
 *
 * JSON values are built with jansson: a failed allocation there leaves NULL, which the setters pass on,
 * so that one check at the end (the dump) finds it.
 */
#include "model/inspect/inspect.h"

#include "model/arch/arch.h"

#include <math.h>

enum { MAX_ARRAY_SHOWN = 16, MAX_JSON = 1 << 30 };

/* Bytes from a file as a JSON string, malformed UTF-8 replaced. */
static json_t *text_value(struct mem *mem, const char *text, size_t size)
{
    json_t *plain = json_stringn(text, size);
    if (plain)
        return plain;
    struct buf clean;
    buf_init(&clean, mem, MAX_JSON);
    for (size_t i = 0; i < size;) {
        uint32_t code;
        int n = utf8_decode(text + i, size - i, &code);
        if (n > 0)
            buf_append(&clean, text + i, (size_t)n);
        else
            buf_puts(&clean, "\xEF\xBF\xBD");
        i += n > 0 ? (size_t)n : 1;
    }
    json_t *value = clean.size ? json_stringn(clean.data, clean.size) : json_string("");
    buf_free(&clean);
    return value;
}

/* ---- tensors ---- */

/* Values of a tensor; packed MLX words hold several. */
static double tensor_values(const struct tensor_info *t, const struct config *config)
{
    double n = 1;
    for (int i = 0; i < t->n_dims; i++)
        n *= (double)t->shape[i];
    if (config && config->has_mlx) {
        size_t length = strlen(t->name);
        if (t->type == GRAFT_TYPE_U32)
            return n * 32 / config->mlx.bits;
        if (length > 7 &&
            (!strcmp(t->name + length - 7, ".scales") || !strcmp(t->name + length - 7, ".biases")))
            return 0;
    }
    return n;
}

static json_t *describe_tensor(const struct tensor_info *t, const char *file)
{
    json_t *shape = json_array();
    for (int i = 0; i < t->n_dims; i++)
        json_array_append_new(shape, json_integer(t->shape[i]));
    return json_pack("{s:s, s:s, s:o, s:I, s:o}", "name", t->name, "type",
                     type_traits(t->type)->name, "shape", shape, "bytes", (json_int_t)t->size,
                     "file", text_value(NULL, path_base(file), strlen(path_base(file))));
}

static void add_tensors(json_t *json, const struct tensor_set *set, const struct config *config)
{
    json_t *tensors = json_array(), *types = json_array();
    double values = 0, bytes = 0;
    uint64_t count[GRAFT_TYPE_COUNT] = {0}, size[GRAFT_TYPE_COUNT] = {0};
    for (size_t i = 0; i < tensor_set_count(set); i++) {
        const struct tensor_info *t = tensor_set_at(set, i);
        json_array_append_new(tensors, describe_tensor(t, tensor_set_file(set, i)));
        count[t->type]++;
        size[t->type] += t->size;
        bytes += (double)t->size;
        values += tensor_values(t, config);
    }
    for (int type = 0; type < GRAFT_TYPE_COUNT; type++)
        if (count[type])
            json_array_append_new(types, json_pack("{s:s, s:I, s:I}", "type",
                                                   graft_type_name((graft_type)type), "tensors",
                                                   (json_int_t)count[type], "bytes",
                                                   (json_int_t)size[type]));
    json_object_set_new(json, "parameters", json_integer((json_int_t)values));
    json_object_set_new(json, "n_tensors", json_integer((json_int_t)tensor_set_count(set)));
    json_object_set_new(json, "bytes", json_integer((json_int_t)bytes));
    json_object_set_new(json, "types", types);
    json_object_set_new(json, "tensors", tensors);
}

/* ---- metadata ---- */

static json_t *number_value(const struct gguf_value *v, uint64_t i)
{
    double x;
    if (!gguf_item_number(v, i, &x))
        return json_null();
    if (v->type == GGUF_F32 || v->type == GGUF_F64)
        return isfinite(x) ? json_real(x) : json_null();
    return json_integer((json_int_t)x);
}

static json_t *array_value(struct mem *mem, const struct gguf_value *v)
{
    if (v->count > MAX_ARRAY_SHOWN)
        return json_pack("{s:s, s:I}", "array", v->type == GGUF_STRING ? "strings" : "numbers",
                         "count", (json_int_t)v->count);
    json_t *list = json_array();
    struct gguf_cursor cursor;
    const char *text;
    size_t length;
    if (gguf_strings(v, &cursor))
        while (gguf_next_string(&cursor, &text, &length))
            json_array_append_new(list, text_value(mem, text, length));
    else
        for (uint64_t i = 0; i < v->count; i++)
            json_array_append_new(list, number_value(v, i));
    return list;
}

static json_t *scalar_value(struct mem *mem, const struct gguf *g, const struct gguf_value *v)
{
    const char *text = NULL;
    size_t length = 0;
    bool flag = false;
    if (v->type == GGUF_STRING && gguf_get_string(g, v->key, &text, &length, NULL) == GRAFT_OK)
        return text_value(mem, text, length);
    if (v->type == GGUF_BOOL && gguf_get_bool(g, v->key, &flag, NULL) == GRAFT_OK)
        return json_boolean(flag);
    return number_value(v, 0);
}

static void add_metadata(json_t *json, struct mem *mem, const struct tensor_set *set)
{
    json_t *metadata = json_object();
    if (set->gguf) {
        for (size_t i = 0; i < set->gguf->n_values; i++) {
            const struct gguf_value *v = &set->gguf->values[i];
            if (strcmp(v->key, "tokenizer.chat_template"))
                json_object_set_new(metadata, v->key,
                                    v->is_array ? array_value(mem, v)
                                                : scalar_value(mem, set->gguf, v));
        }
    } else {
        for (size_t i = 0; i < set->n_maps; i++)
            if (set->files[i].metadata)
                json_object_update(metadata, set->files[i].metadata);
    }
    json_object_set_new(json, "metadata", metadata);
}

/* ---- what it is ---- */

static const char *rope_name(enum rope_kind kind)
{
    static const char *const names[] = {"default", "linear", "llama3", "yarn"};
    return names[kind];
}

static void add_config(json_t *json, const struct config *c)
{
    json_t *config =
        json_pack("{s:i, s:i, s:i, s:i, s:i, s:i, s:i, s:i, s:f, s:f, s:s, s:b}", "n_layer",
                  c->n_layer, "d_model", c->d_model, "d_ff", c->d_ff, "n_head", c->n_head, "n_kv",
                  c->n_kv, "d_head", c->d_head, "n_vocab", c->n_vocab, "n_ctx", c->n_ctx,
                  "rope_theta", c->rope.theta, "norm_eps", (double)c->norm_eps, "rope_scaling",
                  rope_name(c->rope.kind), "tied_embeddings", c->tied);
    for (int i = 0; i < c->n_layer; i++)
        if (c->windows && c->windows[i] > 0)
            json_object_set_new(config, "sliding_window", json_integer(c->windows[i]));
    if (c->n_labels)
        json_object_set_new(config, "n_labels", json_integer(c->n_labels));
    if (c->has_mlx)
        json_object_set_new(
            config, "mlx_quantization",
            json_pack("{s:i, s:i}", "bits", c->mlx.bits, "group_size", c->mlx.group));
    json_object_set_new(json, "architecture", json_string(c->architecture));
    json_object_set_new(json, "config", config);
}

static void add_tokenizer(json_t *json, const struct tokenizer *t)
{
    if (!t) {
        json_object_set_new(json, "tokenizer", json_null());
        json_object_set_new(json, "chat_template", json_null());
        return;
    }
    json_object_set_new(json, "tokenizer",
                        json_pack("{s:s, s:i, s:i, s:i, s:i, s:b}", "kind", tokenizer_kind(t),
                                  "size", tokenizer_size(t), "bos", tokenizer_bos(t), "eos",
                                  tokenizer_eos(t), "pad", tokenizer_pad(t), "adds_bos",
                                  tokenizer_adds_bos(t)));
    const char *chat = tokenizer_chat_template(t);
    json_object_set_new(json, "chat_template", chat ? json_string(chat) : json_null());
}

/* The tokenizer of something that is no model graft can open: NULL when it has none that can be read,
 * which is no failure. */
static graft_status lone_tokenizer(struct mem *mem, const struct tensor_set *set, const char *path,
                                   struct tokenizer **out)
{
    graft_status status = GRAFT_OK;
    if (set->gguf)
        status = tokenizer_open_gguf(mem, set->gguf, out, NULL);
    else if (path_is_dir(path))
        status = tokenizer_open_dir(mem, path, out, NULL);
    return status == GRAFT_NO_MEMORY ? status : GRAFT_OK;
}

/* What a file that does not run has: the reason, and a tokenizer perhaps. */
static graft_status add_reason(json_t *json, struct mem *mem, const struct tensor_set *set,
                               const char *path, const graft_error *why)
{
    struct tokenizer *t = NULL;
    if (why->status == GRAFT_NO_MEMORY || lone_tokenizer(mem, set, path, &t) != GRAFT_OK)
        return GRAFT_NO_MEMORY;
    json_object_set_new(json, "reason", text_value(mem, why->message, strlen(why->message)));
    add_tokenizer(json, t);
    tokenizer_close(&t);
    return GRAFT_OK;
}

/* NULL: no memory. */
static json_t *describe(graft_runtime *runtime, const char *path, const struct tensor_set *set)
{
    struct model *model = NULL;
    graft_error why = {0};
    json_t *json = json_object();
    json_object_set_new(json, "path", text_value(&runtime->mem, path, strlen(path)));
    bool runs = model_open(runtime, path, NULL, &model, &why) == GRAFT_OK;
    const char *format = set->gguf ? "gguf" : runs && model->config.has_mlx ? "mlx" : "safetensors";
    json_object_set_new(json, "format", json_string(format));
    json_object_set_new(json, "supported", json_boolean(runs));
    if (runs) {
        add_config(json, &model->config);
        add_tokenizer(json, model->tokenizer);
    } else if (add_reason(json, &runtime->mem, set, path, &why) != GRAFT_OK) {
        json_decref(json);
        return NULL;
    }
    add_metadata(json, &runtime->mem, set);
    add_tensors(json, set, runs ? &model->config : NULL);
    model_close(&model);
    return json;
}

static int append_json(const char *bytes, size_t size, void *buf)
{
    return buf_append(buf, bytes, size) ? 0 : -1;
}

graft_status model_inspect(graft_runtime *runtime, const char *path, char **json,
                           graft_error *error)
{
    struct tensor_set set = {0};
    struct buf text;
    char *real = NULL;
    json_t *value = NULL;
    buf_init(&text, &runtime->mem, MAX_JSON);
    graft_status status = model_resolve(&runtime->mem, path, &real, error);
    if (status == GRAFT_OK)
        status = tensor_set_open(&set, &runtime->mem, real, MAP_SHARED_FILE, error);
    if (status != GRAFT_OK)
        goto done;
    value = describe(runtime, real, &set);
    char *taken = NULL;
    if (!json_dump_callback(value, append_json, &text, JSON_INDENT(1) | JSON_REAL_PRECISION(9)))
        taken = buf_take(&text, NULL);
    if (taken)
        *json = taken;
    else
        status = error_set(error, GRAFT_NO_MEMORY, "no memory for the description");
done:
    json_decref(value);
    tensor_set_close(&set);
    mem_free(&runtime->mem, real);
    buf_free(&text);
    return status;
}
