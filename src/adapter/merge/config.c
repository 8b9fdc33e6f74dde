/* config.c: the file that says a merge: mergekit's words as far as they make sense for adapters, and graft's own.
 *
 * A table has every key with where its value goes. Nothing is ignored: what is not in the table is an error.
 */
#include "adapter/merge/merge.h"
#include "formats/formats.h"

#include <math.h>

enum { CONFIG_BYTES = 1 << 20, MAX_TAGS = 64 };

static graft_status no_memory(graft_error *error)
{
    return error_set(error, GRAFT_NO_MEMORY, "no memory for the settings of a merge");
}

static graft_status wrong(const char *key, const char *wanted, graft_error *error)
{
    return error_set(error, GRAFT_INVALID_ARGUMENT, "%.80s: it must be %s", key, wanted);
}

/* ---- values ------------------------------------------------------------------------------- */

enum kind { NUMBER, INTEGER, SWITCH, TEXT };
struct key {
    const char *name, *other;
    enum kind kind;
    size_t at; /* in graft_merge_options */
};
#define AT(field) offsetof(graft_merge_options, field)

static const struct key KEYS[] = {{"merge_method", "method", TEXT, AT(method)},
                                  {"rank", "r", INTEGER, AT(rank)},
                                  {"energy", "energy", NUMBER, AT(energy)},
                                  {"density", "density", NUMBER, AT(density)},
                                  {"epsilon", "epsilon", NUMBER, AT(epsilon)},
                                  {"gamma", "gamma", NUMBER, AT(gamma)},
                                  {"lambda", "lambda", NUMBER, AT(lambda)},
                                  {"t", "slerp_t", NUMBER, AT(slerp_t)},
                                  {"normalize", "normalize", SWITCH, AT(normalize)},
                                  {"sign", "majority_sign_method", TEXT, AT(sign)},
                                  {"ties_divide", "ties_divide", TEXT, AT(ties_divide)},
                                  {"seed", "random_seed", INTEGER, AT(seed)},
                                  {"dtype", "type", TEXT, AT(type)},
                                  {"name", "name", TEXT, AT(name)},
                                  {"version", "version", TEXT, AT(version)},
                                  {"description", "description", TEXT, AT(description)}};

static const struct key *find_key(const char *name)
{
    for (size_t i = 0; i < ARRAY_LEN(KEYS); i++)
        if (!strcmp(name, KEYS[i].name) || !strcmp(name, KEYS[i].other))
            return &KEYS[i];
    return NULL;
}

static graft_status copy_text(graft_merge_config *c, const char *key, const json_t *value,
                              const char **out, graft_error *error)
{
    const char *text = json_string_value(value);
    if (!text || strlen(text) != json_string_length(value))
        return wrong(key, "a text", error);
    *out = arena_strndup(&c->arena, text, strlen(text));
    return *out ? GRAFT_OK : no_memory(error);
}

static graft_status read_number(const char *key, const json_t *value, double *out,
                                graft_error *error)
{
    if (json_is_array(value))
        return error_set(error, GRAFT_UNSUPPORTED,
                         "%.80s: a list of values by layer; graft takes one number for all", key);
    if (!json_is_number(value))
        return wrong(key, "a number", error);
    *out = json_number_value(value);
    return GRAFT_OK;
}

static graft_status put(graft_merge_config *c, const struct key *key, const json_t *value,
                        graft_error *error)
{
    void *field = (uint8_t *)&c->options + key->at;
    if (key->kind == TEXT)
        return copy_text(c, key->name, value, field, error);
    if (key->kind == NUMBER)
        return read_number(key->name, value, field, error);
    if (key->kind == SWITCH) {
        if (!json_is_boolean(value))
            return wrong(key->name, "true or false", error);
        *(bool *)field = json_is_true(value);
        return GRAFT_OK;
    }
    if (!json_is_integer(value) || json_integer_value(value) < 0 ||
        (key->at == AT(rank) && json_integer_value(value) > INT32_MAX))
        return wrong(key->name, "a whole number, not below 0", error);
    if (key->at == AT(rank))
        c->options.rank = (int)json_integer_value(value);
    else
        c->options.seed = (uint64_t)json_integer_value(value);
    return GRAFT_OK;
}

/* ---- inputs ------------------------------------------------------------------------------- */

static graft_status put_of_input(graft_merge_config *c, graft_merge_input *input, const char *key,
                                 const json_t *value, graft_error *error)
{
    if (json_is_null(value))
        return GRAFT_OK;
    if (!strcmp(key, "weight"))
        return read_number(key, value, &input->weight, error);
    if (!strcmp(key, "density"))
        return read_number(key, value, &input->density, error);
    if (!strcmp(key, "epsilon"))
        return read_number(key, value, &input->epsilon, error);
    if (!strcmp(key, "gamma"))
        return read_number(key, value, &input->gamma, error);
    if (!strcmp(key, "model") || !strcmp(key, "adapter"))
        return copy_text(c, key, value, &input->path, error);
    if (strcmp(key, "parameters") != 0)
        return error_set(error, GRAFT_INVALID_ARGUMENT,
                         "\"%.80s\" of an adapter: there are model, weight, density, epsilon and "
                         "gamma",
                         key);
    const char *name;
    json_t *one;
    if (!json_is_object(value))
        return wrong(key, "a mapping", error);
    graft_status status = GRAFT_OK;
    json_object_foreach((json_t *)(uintptr_t)value, name, one)
    {
        if (status == GRAFT_OK)
            status = strcmp(name, "parameters") != 0 ? put_of_input(c, input, name, one, error)
                                                     : wrong(name, "in one level", error);
    }
    return status;
}

static graft_status put_inputs(graft_merge_config *c, const char *key, const json_t *list,
                               graft_error *error)
{
    size_t i;
    json_t *one, *value;
    const char *name;
    if (!json_is_array(list) || json_array_size(list) == 0 || json_array_size(list) > MERGE_MAX)
        return wrong(key, "a list of 1 to 64 adapters", error);
    if (c->inputs)
        return error_set(error, GRAFT_INVALID_ARGUMENT,
                         "models and adapters are the same: one list");
    c->inputs = mem_calloc(c->mem, json_array_size(list), sizeof *c->inputs);
    if (!c->inputs)
        return no_memory(error);
    json_array_foreach(list, i, one)
    {
        graft_merge_input *input = &c->inputs[c->n_inputs++];
        graft_status status = GRAFT_OK;
        *input = graft_merge_input_default(NULL);
        if (json_is_string(one))
            status = copy_text(c, key, one, &input->path, error);
        else if (!json_is_object(one))
            status = wrong(key, "a list of adapters", error);
        else
            json_object_foreach(one, name, value)
            {
                if (status == GRAFT_OK)
                    status = put_of_input(c, input, name, value, error);
            }
        if (status == GRAFT_OK && !input->path)
            status =
                error_set(error, GRAFT_INVALID_ARGUMENT,
                          "%.40s: entry %zu does not say which adapter: model: PATH", key, i + 1);
        if (status != GRAFT_OK)
            return status;
    }
    return GRAFT_OK;
}

/* ---- the rest ----------------------------------------------------------------------------- */

static graft_status put_tags(graft_merge_config *c, const json_t *list, graft_error *error)
{
    size_t i;
    json_t *one;
    const size_t n = json_array_size(list);
    if (!json_is_array(list) || n > MAX_TAGS)
        return wrong("tags", "a list of at most 64 texts", error);
    const char **tags = arena_alloc(&c->arena, (n + 1) * sizeof *tags);
    if (!tags)
        return no_memory(error);
    json_array_foreach(list, i, one)
    {
        graft_status status = copy_text(c, "tags", one, &tags[i], error);
        if (status != GRAFT_OK)
            return status;
    }
    c->options.tags = tags;
    c->options.n_tags = n;
    return GRAFT_OK;
}

static graft_status put_format(graft_merge_config *c, const json_t *value, graft_error *error)
{
    static const char *const NAMES[] = {"peft", "mlx", "gguf"};
    for (int i = 0; i < 3; i++)
        if (json_is_string(value) && !strcmp(json_string_value(value), NAMES[i])) {
            c->options.format = (graft_adapter_format)i;
            return GRAFT_OK;
        }
    return wrong("format", "peft, mlx or gguf", error);
}

/* What mergekit does with whole models and graft not with adapters. */
static bool is_of_models(const char *key)
{
    static const char *const NAMES[] = {"slices",        "tokenizer_source", "tokenizer",
                                        "chat_template", "out_dtype",        "modules",
                                        "rescale",       "int8_mask"};
    for (size_t i = 0; i < ARRAY_LEN(NAMES); i++)
        if (!strcmp(key, NAMES[i]))
            return true;
    return false;
}

static graft_status put_all(graft_merge_config *c, const json_t *json, bool inner,
                            graft_error *error)
{
    const char *name;
    json_t *value;
    json_object_foreach((json_t *)(uintptr_t)json, name, value)
    {
        const struct key *key = find_key(name);
        graft_status status;
        if (json_is_null(value))
            continue;
        if (key)
            status = put(c, key, value, error);
        else if (!inner && (!strcmp(name, "models") || !strcmp(name, "adapters")))
            status = put_inputs(c, name, value, error);
        else if (!inner && !strcmp(name, "base_model"))
            status = copy_text(c, name, value, &c->base, error);
        else if (!inner && !strcmp(name, "tags"))
            status = put_tags(c, value, error);
        else if (!inner && !strcmp(name, "format"))
            status = put_format(c, value, error);
        else if (!inner && !strcmp(name, "parameters") && json_is_object(value))
            status = put_all(c, value, true, error);
        else if (is_of_models(name))
            status =
                error_set(error, GRAFT_UNSUPPORTED,
                          "\"%.80s\" is about whole models, and makes no sense for adapters", name);
        else
            status = error_set(error, GRAFT_INVALID_ARGUMENT,
                               "\"%.80s\" is no key of a merge%s: docs/merging.md has them", name,
                               inner ? "'s parameters" : "");
        if (status != GRAFT_OK)
            return status;
    }
    return GRAFT_OK;
}

/* torch's names of types. */
static void translate_type(graft_merge_options *o)
{
    static const char *const NAMES[][2] = {
        {"float32", "f32"}, {"float16", "f16"}, {"bfloat16", "bf16"}, {"fp16", "f16"}};
    for (size_t i = 0; i < ARRAY_LEN(NAMES); i++)
        if (!strcmp(o->type, NAMES[i][0]))
            o->type = NAMES[i][1];
}

static bool is_given(const json_t *json, const char *key)
{
    const json_t *outer = json_object_get(json, key);
    const json_t *inner = json_object_get(json_object_get(json, "parameters"), key);
    return (outer && !json_is_null(outer)) || (inner && !json_is_null(inner));
}

static bool is_one_of(const char *word, const char *const *words)
{
    for (; *words; words++)
        if (!strcmp(word, *words))
            return true;
    return false;
}

/* A file that says merge_method means what it means to mergekit, where that leaves something unsaid: all elements are kept, ties
 * and della divide by the weights of those that agree and other elections by nothing, and linear by the sum of the weights. */
static void mean_as_mergekit(graft_merge_config *c, const json_t *json)
{
    static const char *const elects[] = {"ties", "della", "dare_ties", "breadcrumbs_ties", NULL};
    static const char *const divides[] = {"ties", "della", "linear", NULL};
    graft_merge_options *o = &c->options;
    if (!is_given(json, "merge_method"))
        return;
    if (!is_given(json, "density"))
        o->density = 1;
    if (!is_given(json, "normalize"))
        o->normalize = is_one_of(o->method, divides);
    if (!is_one_of(o->method, elects))
        return;
    if (!is_given(json, "ties_divide"))
        o->ties_divide = o->normalize ? "weight" : "none";
    o->normalize = false;
}

static bool looks_like_json(const char *text, size_t size)
{
    size_t i = 0;
    while (i < size && text[i] && strchr(" \t\r\n", text[i]))
        i++;
    return i < size && text[i] == '{';
}

graft_status merge_config_parse(struct mem *mem, const char *text, size_t size,
                                const graft_merge_options *defaults, graft_merge_config **out,
                                graft_error *error)
{
    json_t *json = NULL;
    graft_merge_config *c = mem_calloc(mem, 1, sizeof *c);
    if (!c)
        return no_memory(error);
    c->mem = mem;
    c->options = *defaults;
    arena_init(&c->arena, mem, SIZE_MAX);
    graft_status status = looks_like_json(text, size) ? json_parse(text, size, &json, error)
                                                      : yaml_parse(text, size, &json, error);
    if (status == GRAFT_OK)
        status = json_is_object(json)
                     ? put_all(c, json, false, error)
                     : error_set(error, GRAFT_FORMAT, "a merge is a mapping of keys to values");
    if (status == GRAFT_OK && !c->inputs)
        status =
            error_set(error, GRAFT_INVALID_ARGUMENT, "models: which adapters are to be merged?");
    if (status == GRAFT_OK)
        mean_as_mergekit(c, json);
    json_decref(json);
    if (status == GRAFT_OK) {
        translate_type(&c->options);
        *out = c;
        return GRAFT_OK;
    }
    merge_config_close(&c);
    return status;
}

graft_status merge_config_open(struct mem *mem, const char *path,
                               const graft_merge_options *defaults, graft_merge_config **out,
                               graft_error *error)
{
    char *text;
    size_t size;
    graft_status status = file_read(mem, path, CONFIG_BYTES, &text, &size, error);
    if (status != GRAFT_OK)
        return status;
    status = merge_config_parse(mem, text, size, defaults, out, error);
    mem_free(mem, text);
    if (status != GRAFT_OK)
        error_at_file(error, path);
    return status;
}

void merge_config_close(graft_merge_config **config)
{
    graft_merge_config *c = *config;
    *config = NULL;
    if (!c)
        return;
    mem_free(c->mem, c->inputs);
    arena_free(&c->arena);
    mem_free(c->mem, c);
}
