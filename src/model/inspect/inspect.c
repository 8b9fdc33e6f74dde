/* inspect.c: gathers what the containers, the configuration and the tokenizer say.
 *
 * Everything goes through put, which remembers a value that could not be made, so that one check at the
 * end finds any lack of memory and no report is ever silently incomplete.
 */
#include "model/inspect/inspect.h"

#include "model/arch/arch.h"

#include <math.h>

enum { MAX_ARRAY_SHOWN = 16, MAX_JSON = 1 << 30 };

struct report {
    struct mem *mem;
    json_t *json;
    bool failed; /* out of memory */
};

/* object[key] = value, which is taken over. */
static void put(struct report *r, json_t *object, const char *key, json_t *value)
{
    if (!value || json_object_set_new(object, key, value))
        r->failed = true;
}

static void append(struct report *r, json_t *array, json_t *value)
{
    if (!value || json_array_append_new(array, value))
        r->failed = true;
}

/* Bytes from a file as a JSON string, malformed UTF-8 replaced; NULL: no memory. */
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
    json_t *value = clean.status == GRAFT_OK ? json_stringn(clean.data, clean.size) : NULL;
    buf_free(&clean);
    return value;
}

/* ---- tensors ---- */

static json_t *describe_tensor(struct report *r, const struct tensor_info *t, const char *file,
                               size_t packed)
{
    json_t *json = json_object(), *shape = json_array();
    const char *name = path_base(file);
    for (int i = 0; i < t->n_dims; i++)
        append(r, shape, json_integer(t->shape[i]));
    put(r, json, "name", text_value(r->mem, t->name, strlen(t->name)));
    put(r, json, "type", json_string(graft_type_name(t->type)));
    put(r, json, "shape", shape);
    put(r, json, "bytes", json_integer((json_int_t)t->size));
    if (packed)
        put(r, json, "packed_bytes", json_integer((json_int_t)packed));
    put(r, json, "file", text_value(r->mem, name, strlen(name)));
    return json;
}

/* All of a shape; files may hold shapes of more than 2^63 values only if they are empty. */
static uint64_t tensor_values(const struct tensor_info *t)
{
    uint64_t n = 1;
    for (int i = 0; i < t->n_dims; i++)
        n *= (uint64_t)t->shape[i];
    return n;
}

static void add_types(struct report *r, const uint64_t *count, const uint64_t *size)
{
    json_t *types = json_array();
    for (int type = 0; type < GRAFT_TYPE_COUNT; type++)
        if (count[type])
            append(r, types,
                   json_pack("{s:s, s:I, s:I}", "type", graft_type_name((graft_type)type),
                             "tensors", (json_int_t)count[type], "bytes", (json_int_t)size[type]));
    put(r, r->json, "types", types);
}

/* What opening the model with the default options would pack. */
struct packed_sum {
    uint64_t tensors, from, to;
};

/* The model was opened from a set of its own, so that its tensors are found by name. */
static size_t packed_size(const struct model *model, const struct tensor_info *t)
{
    const struct tensor_info *own = tensor_set_find(&model->tensors, t->name);
    return own ? model_packed_bytes(model, own) : 0;
}

static void add_tensors(struct report *r, const struct tensor_set *set, const struct model *model)
{
    json_t *tensors = json_array();
    struct packed_sum packed = {0};
    uint64_t values = 0, bytes = 0, count[GRAFT_TYPE_COUNT] = {0}, size[GRAFT_TYPE_COUNT] = {0};
    for (size_t i = 0; i < tensor_set_count(set); i++) {
        const struct tensor_info *t = tensor_set_at(set, i);
        size_t packed_bytes = model ? packed_size(model, t) : 0;
        append(r, tensors, describe_tensor(r, t, tensor_set_file(set, i), packed_bytes));
        if (packed_bytes) {
            packed.tensors++;
            packed.from += t->size;
            packed.to += packed_bytes;
        }
        count[t->type]++;
        size[t->type] += t->size;
        bytes += t->size;
        values += tensor_values(t);
    }
    values = model ? model_parameters(model) : values;
    put(r, r->json, "parameters", json_integer((json_int_t)values));
    put(r, r->json, "n_tensors", json_integer((json_int_t)tensor_set_count(set)));
    put(r, r->json, "bytes", json_integer((json_int_t)bytes));
    add_types(r, count, size);
    if (model)
        put(r, r->json, "packed",
            json_pack("{s:s, s:I, s:I, s:I}", "tier", model->runtime->kernels->tier, "tensors",
                      (json_int_t)packed.tensors, "from_bytes", (json_int_t)packed.from, "bytes",
                      (json_int_t)packed.to));
    put(r, r->json, "tensors", tensors);
}

/* ---- metadata ---- */

static json_t *number_value(const struct gguf_value *v, uint64_t i)
{
    double x;
    if (!gguf_item_number(v, i, &x))
        return json_boolean(v->data[i]); /* the only items that are no numbers */
    if (v->type == GGUF_F32 || v->type == GGUF_F64)
        return isfinite(x) ? json_real(x) : json_null();
    return json_integer((json_int_t)x);
}

static json_t *array_value(struct report *r, const struct gguf_value *v)
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
            append(r, list, text_value(r->mem, text, length));
    else
        for (uint64_t i = 0; i < v->count; i++)
            append(r, list, number_value(v, i));
    return list;
}

static json_t *scalar_value(struct report *r, const struct gguf *g, const struct gguf_value *v)
{
    const char *text = NULL;
    size_t length = 0;
    if (v->type == GGUF_STRING && gguf_get_string(g, v->key, &text, &length, NULL) == GRAFT_OK)
        return text_value(r->mem, text, length);
    return number_value(v, 0);
}

static void add_metadata(struct report *r, const struct tensor_set *set)
{
    json_t *metadata = json_object();
    for (size_t i = 0; set->gguf && i < set->gguf->n_values; i++) {
        const struct gguf_value *v = &set->gguf->values[i];
        if (strcmp(v->key, "tokenizer.chat_template"))
            put(r, metadata, v->key,
                v->is_array ? array_value(r, v) : scalar_value(r, set->gguf, v));
    }
    for (size_t i = 0; !set->gguf && i < set->n_maps; i++)
        if (set->files[i].metadata && json_object_update(metadata, set->files[i].metadata))
            r->failed = true;
    put(r, r->json, "metadata", metadata);
}

/* ---- what it is ---- */

static const char *rope_name(const struct model *m)
{
    static const char *const names[] = {"default", "linear", "llama3", "yarn"};
    bool factors = m->tensors.gguf && gguf_find_tensor(m->tensors.gguf, "rope_freqs.weight");
    return factors ? "llama3" : names[m->config.rope.kind];
}

static void add_windows(struct report *r, const struct config *c, json_t *config)
{
    int n = 0, window = 0;
    for (int i = 0; i < c->n_layer; i++)
        if (c->windows[i] > 0) {
            window = c->windows[i];
            n++;
        }
    if (n == 0)
        return;
    put(r, config, "sliding_window", json_integer(window));
    put(r, config, "sliding_layers", json_integer(n));
}

static void add_config(struct report *r, const struct model *m)
{
    const struct config *c = &m->config;
    json_t *config = json_pack(
        "{s:i, s:i, s:i, s:i, s:i, s:i, s:i, s:i, s:f, s:s, s:f, s:b}", "n_layer", c->n_layer,
        "d_model", c->d_model, "d_ff", c->d_ff, "n_head", c->n_head, "n_kv", c->n_kv, "d_head",
        c->d_head, "n_vocab", c->n_vocab, "n_ctx", c->n_ctx, "rope_theta", c->rope.theta,
        "rope_scaling", rope_name(m), "norm_eps", (double)c->norm_eps, "tied_embeddings", c->tied);
    if (c->rope.kind != ROPE_PLAIN)
        put(r, config, "rope_factor", json_real(c->rope.factor));
    add_windows(r, c, config);
    if (c->n_labels)
        put(r, config, "n_labels", json_integer(c->n_labels));
    if (c->has_mlx)
        put(r, config, "mlx_quantization",
            json_pack("{s:i, s:i}", "bits", c->mlx.bits, "group_size", c->mlx.group));
    put(r, r->json, "architecture", json_string(c->architecture));
    put(r, r->json, "config", config);
}

static void add_tokenizer(struct report *r, const struct tokenizer *t)
{
    json_t *json = json_null();
    const char *chat = t ? tokenizer_chat_template(t) : NULL;
    if (t) {
        json = json_pack("{s:s, s:i, s:i, s:i, s:i, s:b}", "kind", tokenizer_kind(t), "size",
                         tokenizer_size(t), "bos", tokenizer_bos(t), "eos", tokenizer_eos(t), "pad",
                         tokenizer_pad(t), "adds_bos", tokenizer_adds_bos(t));
        static const char *const ROLES[] = {"bos_token", "eos_token", "pad_token"};
        const graft_token_id ids[] = {tokenizer_bos(t), tokenizer_eos(t), tokenizer_pad(t)};
        for (size_t i = 0; i < ARRAY_LEN(ROLES); i++) {
            size_t length;
            const char *text = tokenizer_token(t, ids[i], &length);
            if (text)
                put(r, json, ROLES[i], text_value(r->mem, text, length));
        }
    }
    put(r, r->json, "tokenizer", json);
    put(r, r->json, "chat_template", chat ? text_value(r->mem, chat, strlen(chat)) : json_null());
}

static bool gguf_text_is(const struct gguf *g, const char *key, const char *value)
{
    const char *text = NULL;
    size_t length = 0;
    (void)gguf_get_string(g, key, &text, &length, NULL);
    return text && length == strlen(value) && !memcmp(text, value, length);
}

/* PEFT says lora_A.weight, MLX and GGUF lora_a. */
static bool has_lora(const struct tensor_set *set)
{
    for (size_t i = 0; i < tensor_set_count(set); i++)
        if (strstr(tensor_set_at(set, i)->name, "lora_A") ||
            strstr(tensor_set_at(set, i)->name, "lora_a"))
            return true;
    return false;
}

/* What something is that graft cannot run as a model. */
static const char *kind_of(const struct tensor_set *set)
{
    if (has_lora(set) || (set->gguf && gguf_text_is(set->gguf, "general.type", "adapter")))
        return "adapter";
    if (set->gguf && tensor_set_count(set) == 0)
        return "vocabulary";
    return "tensors";
}

static void add_reason(struct report *r, const struct tensor_set *set, const char *why)
{
    const char *name = NULL, *kind = kind_of(set);
    size_t length = 0;
    if (set->gguf)
        (void)gguf_get_string(set->gguf, "general.architecture", &name, &length, NULL);
    if (name)
        put(r, r->json, "architecture", text_value(r->mem, name, length));
    if (!strcmp(kind, "vocabulary"))
        why = "it has a vocabulary and no weights";
    else if (!strcmp(kind, "adapter"))
        why = "it is an adapter, not a base model";
    put(r, r->json, "kind", json_string(kind));
    put(r, r->json, "reason", text_value(r->mem, why, strlen(why)));
}

/* The tokenizer of something that is no model graft can open, if it has one. */
static void add_lone_tokenizer(struct report *r, const struct tensor_set *set, const char *path)
{
    struct tokenizer *t = NULL;
    graft_status status = GRAFT_NOT_FOUND;
    if (set->gguf)
        status = tokenizer_open_gguf(r->mem, set->gguf, &t, NULL);
    else if (path_is_dir(path))
        status = tokenizer_open_dir(r->mem, path, &t, NULL);
    r->failed = r->failed || status == GRAFT_NO_MEMORY;
    add_tokenizer(r, t);
    tokenizer_close(&t);
}

static void describe(struct report *r, graft_runtime *runtime, const char *path,
                     const struct tensor_set *set)
{
    struct model *model = NULL;
    graft_error why;
    graft_error_init(&why);
    graft_status status = model_open(runtime, path, NULL, &model, &why);
    r->failed = r->failed || status == GRAFT_NO_MEMORY;
    const char *format = set->gguf                        ? "gguf"
                         : model && model->config.has_mlx ? "mlx"
                                                          : "safetensors";
    put(r, r->json, "path", text_value(r->mem, path, strlen(path)));
    put(r, r->json, "format", json_string(format));
    put(r, r->json, "supported", json_boolean(model != NULL));
    if (model) {
        put(r, r->json, "kind", json_string(model->config.n_labels ? "classifier" : "model"));
        add_config(r, model);
        add_tokenizer(r, model->tokenizer);
    } else {
        add_reason(r, set, why.message);
        add_lone_tokenizer(r, set, path);
    }
    add_metadata(r, set);
    add_tensors(r, set, model);
    model_close(&model);
}

static int append_json(const char *bytes, size_t size, void *buf)
{
    return buf_append(buf, bytes, size) ? 0 : -1;
}

graft_status model_inspect(graft_runtime *runtime, const char *path, char **json,
                           graft_error *error)
{
    struct report r = {.mem = &runtime->mem};
    struct tensor_set set = {0};
    struct buf text;
    char *bytes = NULL;
    graft_status status = tensor_set_open(&set, r.mem, path, MAP_SHARED_FILE, error);
    if (status != GRAFT_OK)
        return status;
    buf_init(&text, r.mem, MAX_JSON);
    r.json = json_object();
    describe(&r, runtime, path, &set);
    if (!r.failed &&
        !json_dump_callback(r.json, append_json, &text, JSON_INDENT(1) | JSON_REAL_PRECISION(9)))
        bytes = buf_take(&text, NULL);
    if (bytes)
        *json = bytes;
    else
        status = error_set(error, GRAFT_NO_MEMORY, "out of memory");
    json_decref(r.json);
    tensor_set_close(&set);
    buf_free(&text);
    return status;
}
