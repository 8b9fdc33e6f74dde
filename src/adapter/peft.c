/* peft.c: PEFT's adapter_config.json and the names in its adapter_model.safetensors.
 *
 * Keys of the configuration are read, or known to say nothing about the result, or must be empty: any other
 * would change the result in a way that graft does not know.
 */
#include "adapter/adapter_internal.h"

#include <math.h>

enum { MAX_RANK = 1 << 20, MAX_PATTERNS = 4096, MAX_LAYERS = 65536 };

/* ---- configuration ------------------------------------------------------------------------ */

/* Read here. */
static const char *const READ[] = {"peft_type",
                                   "r",
                                   "lora_alpha",
                                   "use_rslora",
                                   "use_dora",
                                   "lora_bias",
                                   "bias",
                                   "fan_in_fan_out",
                                   "init_lora_weights",
                                   "rank_pattern",
                                   "alpha_pattern",
                                   "target_modules",
                                   "exclude_modules",
                                   "modules_to_save",
                                   "layers_to_transform",
                                   "layers_pattern",
                                   "base_model_name_or_path"};

/* About training, or about where the base comes from. */
static const char *const FREE[] = {
    "task_type",    "inference_mode", "lora_dropout",      "auto_mapping", "revision",
    "peft_version", "megatron_core",  "runtime_config",    "loftq_config", "eva_config",
    "corda_config", "lora_ga_config", "qalora_group_size", "description",  "tags"};

/* What it means that such a key is set. */
static const struct {
    const char *key, *what;
} REFUSED[] = {
    {"alora_invocation_tokens",
     "an activated LoRA (aLoRA), which begins in the middle of a prompt"},
    {"layer_replication", "replicated layers"},
    {"trainable_token_indices", "trained rows of the embedding"},
    {"target_parameters", "LoRA on parameters that are no modules (experts)"},
    {"use_qalora", "QA-LoRA"},
    {"use_bdlora", "block-diagonal LoRA"},
    {"arrow_config", "Arrow routing"},
    {"megatron_config", "Megatron layers"},
    {"ensure_weight_tying", "tied copies of saved modules"},
};

static bool one_of(const char *key, const char *const *list, size_t n)
{
    for (size_t i = 0; i < n; i++)
        if (!strcmp(key, list[i]))
            return true;
    return false;
}

static bool is_empty(const json_t *value)
{
    if (json_is_object(value))
        return json_object_size(value) == 0;
    if (json_is_array(value))
        return json_array_size(value) == 0;
    if (json_is_string(value))
        return json_string_length(value) == 0;
    return json_is_null(value) || json_is_false(value) ||
           (json_is_number(value) && json_number_value(value) == 0);
}

static graft_status check_keys(const json_t *config, graft_error *error)
{
    const char *key;
    json_t *value;
    json_object_foreach((json_t *)config, key, value)
    {
        if (one_of(key, READ, ARRAY_LEN(READ)) || one_of(key, FREE, ARRAY_LEN(FREE)) ||
            is_empty(value))
            continue;
        for (size_t i = 0; i < ARRAY_LEN(REFUSED); i++)
            if (!strcmp(key, REFUSED[i].key))
                return error_set(error, GRAFT_UNSUPPORTED,
                                 "the adapter uses %s (\"%s\"), which graft does not support",
                                 REFUSED[i].what, key);
        return error_set(error, GRAFT_UNSUPPORTED,
                         "the adapter uses \"%.60s\", which graft does not support", key);
    }
    return GRAFT_OK;
}

static graft_status check_kind(struct spec *spec, const json_t *config, graft_error *error)
{
    const char *type = NULL;
    graft_status status = json_get_string(config, "peft_type", &type, error);
    if (status != GRAFT_OK)
        return status;
    if (!type)
        return error_set(error, GRAFT_FORMAT, "\"peft_type\" is missing");
    spec->quantised = !strcmp(type, "GRAFT_LORA");
    if (strcmp(type, "LORA") != 0 && !spec->quantised)
        return error_set(error, GRAFT_UNSUPPORTED,
                         "the adapter is of type %.60s; graft applies LORA only", type);
    return GRAFT_OK;
}

/* A base that training changed is not the base at hand. */
static graft_status check_init(const json_t *config, graft_error *error)
{
    static const char *const HARMLESS[] = {"gaussian", "eva", "orthogonal"};
    const json_t *init = json_object_get(config, "init_lora_weights");
    const char *name = json_string_value(init);
    if (!init || json_is_null(init) || json_is_boolean(init) ||
        (name && one_of(name, HARMLESS, ARRAY_LEN(HARMLESS))))
        return GRAFT_OK;
    return error_set(error, GRAFT_UNSUPPORTED,
                     "init_lora_weights \"%.60s\" changes the base when training begins: save the "
                     "adapter converted to a plain LoRA (PEFT: "
                     "path_initial_model_for_weight_conversion)",
                     name ? name : "?");
}

static graft_status check_bias(const json_t *config, graft_error *error)
{
    const char *bias = "none";
    bool transposed = false;
    graft_status status = json_get_string(config, "bias", &bias, error);
    if (status == GRAFT_OK && strcmp(bias, "none") != 0)
        return error_set(
            error, GRAFT_UNSUPPORTED,
            "the adapter uses bias \"%.40s\" (trained biases of the base), which graft "
            "does not support: train with bias \"none\" (lora_bias is supported), or merge it into "
            "its base (PEFT: merge_and_unload)",
            bias);
    if (status == GRAFT_OK)
        status = json_get_bool(config, "fan_in_fan_out", &transposed, error);
    if (status == GRAFT_OK && transposed)
        return error_set(error, GRAFT_UNSUPPORTED,
                         "fan_in_fan_out is for weights stored [in, out], which no model of graft "
                         "has");
    return status;
}

static graft_status read_numbers(struct spec *spec, const json_t *config, graft_error *error)
{
    double alpha = NAN;
    graft_status status = json_get_int(config, "r", 1, MAX_RANK, &spec->rank, error);
    if (status == GRAFT_OK)
        status = json_get_number(config, "lora_alpha", &alpha, error);
    if (status == GRAFT_OK)
        status = json_get_bool(config, "use_rslora", &spec->rslora, error);
    if (status == GRAFT_OK)
        status = json_get_bool(config, "use_dora", &spec->dora, error);
    if (status == GRAFT_OK)
        status = json_get_bool(config, "lora_bias", &spec->lora_bias, error);
    if (status == GRAFT_OK)
        status = json_get_string(config, "base_model_name_or_path", &spec->base, error);
    if (status == GRAFT_OK && !spec->rank)
        return error_set(error, GRAFT_FORMAT, "\"r\" is missing");
    if (status == GRAFT_OK && isnan(alpha))
        return error_set(error, GRAFT_FORMAT, "\"lora_alpha\" is missing");
    spec->alpha = alpha;
    return status;
}

/* rank_pattern, alpha_pattern */
static graft_status read_patterns(struct spec *spec, const json_t *config, const char *key,
                                  bool ranks, struct rule_values *out, graft_error *error)
{
    const json_t *object = json_object_get(config, key);
    const char *text;
    json_t *value;
    if (!object || json_is_null(object))
        return GRAFT_OK;
    if (!json_is_object(object) || json_object_size(object) > MAX_PATTERNS)
        return error_set(error, GRAFT_FORMAT, "\"%s\" must be an object of at most %d numbers", key,
                         MAX_PATTERNS);
    out->items = mem_calloc(spec->mem, json_object_size(object) + 1, sizeof *out->items);
    if (!out->items)
        return error_set(error, GRAFT_NO_MEMORY, "no memory for \"%s\"", key);
    json_object_foreach((json_t *)object, text, value)
    {
        double number = json_number_value(value);
        if (!json_is_number(value) ||
            (ranks && (number != floor(number) || number < 1 || number > MAX_RANK)))
            return error_set(error, GRAFT_FORMAT, "\"%s\": the value of %.60s must be %s", key,
                             text, ranks ? "a positive integer" : "a number");
        graft_status status = rule_open(spec->mem, text, true, &out->items[out->n].rule, error);
        if (status != GRAFT_OK)
            return status;
        out->items[out->n++].value = number;
    }
    return GRAFT_OK;
}

/* target_modules, exclude_modules: a list of names, or one regular expression. */
static graft_status read_selection(struct spec *spec, const json_t *config, const char *key,
                                   struct selection *out, graft_error *error)
{
    const json_t *value = json_object_get(config, key);
    const char *text = json_string_value(value);
    if (!value || json_is_null(value))
        return GRAFT_OK;
    out->given = true;
    if (text && !strcmp(text, "all-linear"))
        out->all_linear = true;
    else if (text)
        return rule_open(spec->mem, text, false, &out->regex, error);
    else if (json_is_array(value))
        return spec_names(spec, value, key, &out->names, &out->n, error);
    else
        return error_set(error, GRAFT_FORMAT, "\"%s\" must be a list of names or a string", key);
    return GRAFT_OK;
}

static graft_status read_layers(struct spec *spec, const json_t *config, graft_error *error)
{
    const json_t *value = json_object_get(config, "layers_to_transform");
    size_t n = json_is_array(value) ? json_array_size(value) : 1;
    if (!value || json_is_null(value) || n == 0)
        return GRAFT_OK;
    spec->layers = n <= MAX_LAYERS ? mem_calloc(spec->mem, n, sizeof *spec->layers) : NULL;
    if (!spec->layers)
        return error_set(error, GRAFT_NO_MEMORY, "no memory for %zu layers", n);
    spec->layers_given = true;
    for (; spec->n_layers < n; spec->n_layers++) {
        const json_t *layer = json_is_array(value) ? json_array_get(value, spec->n_layers) : value;
        if (!json_is_integer(layer) || json_integer_value(layer) < 0)
            return error_set(error, GRAFT_FORMAT,
                             "\"layers_to_transform\" must be a layer or a list of layers");
        spec->layers[spec->n_layers] = json_integer_value(layer);
    }
    return GRAFT_OK;
}

static graft_status read_layer_parents(struct spec *spec, const json_t *config, graft_error *error)
{
    const json_t *value = json_object_get(config, "layers_pattern");
    size_t n = json_is_array(value) ? json_array_size(value) : 1;
    if (!value || json_is_null(value) || n == 0 || is_empty(value))
        return GRAFT_OK;
    spec->layer_parents =
        n <= MAX_PATTERNS ? mem_calloc(spec->mem, n, sizeof(struct rule *)) : NULL;
    if (!spec->layer_parents)
        return error_set(error, GRAFT_NO_MEMORY, "no memory for %zu patterns", n);
    for (; spec->n_layer_parents < n; spec->n_layer_parents++) {
        const json_t *item =
            json_is_array(value) ? json_array_get(value, spec->n_layer_parents) : value;
        const char *text = json_string_value(item);
        if (!text)
            return error_set(error, GRAFT_FORMAT,
                             "\"layers_pattern\" must be a name or a list of names");
        graft_status status =
            rule_open(spec->mem, text, false, &spec->layer_parents[spec->n_layer_parents], error);
        if (status != GRAFT_OK)
            return status;
    }
    return GRAFT_OK;
}

static graft_status read_saved(struct spec *spec, const json_t *config, graft_error *error)
{
    const json_t *value = json_object_get(config, "modules_to_save");
    if (!value || json_is_null(value))
        return GRAFT_OK;
    if (!json_is_array(value))
        return error_set(error, GRAFT_FORMAT, "\"modules_to_save\" must be a list of names");
    return spec_names(spec, value, "modules_to_save", &spec->saved.names, &spec->saved.n, error);
}

static graft_status read_config(struct spec *spec, const json_t *config, graft_error *error)
{
    if (!json_is_object(config))
        return error_set(error, GRAFT_FORMAT, "the configuration must be a JSON object");
    graft_status status = check_kind(spec, config, error);
    if (status == GRAFT_OK)
        status = check_keys(config, error);
    if (status == GRAFT_OK)
        status = check_init(config, error);
    if (status == GRAFT_OK)
        status = check_bias(config, error);
    if (status == GRAFT_OK)
        status = read_numbers(spec, config, error);
    if (status == GRAFT_OK)
        status = read_patterns(spec, config, "rank_pattern", true, &spec->ranks, error);
    if (status == GRAFT_OK)
        status = read_patterns(spec, config, "alpha_pattern", false, &spec->alphas, error);
    if (status == GRAFT_OK)
        status = read_selection(spec, config, "target_modules", &spec->targets, error);
    if (status == GRAFT_OK)
        status = read_selection(spec, config, "exclude_modules", &spec->excluded, error);
    if (status == GRAFT_OK)
        status = read_layers(spec, config, error);
    if (status == GRAFT_OK)
        status = read_layer_parents(spec, config, error);
    if (status == GRAFT_OK)
        status = read_saved(spec, config, error);
    if (status == GRAFT_OK && !spec->targets.given)
        return error_set(error, GRAFT_FORMAT, "\"target_modules\" is missing");
    return status;
}

/* ---- tensors ------------------------------------------------------------------------------ */

/* What follows the module in a tensor's name. */
static const struct {
    const char *end;
    enum part part;
} ENDS[] = {
    {".lora_A.weight", PART_A},
    {".lora_A.default.weight", PART_A},
    {".lora_B.weight", PART_B},
    {".lora_B.default.weight", PART_B},
    {".lora_B.bias", PART_LORA_BIAS},
    {".lora_B.default.bias", PART_LORA_BIAS},
    {".lora_magnitude_vector", PART_MAGNITUDE},
    {".lora_magnitude_vector.weight", PART_MAGNITUDE},
    {".lora_magnitude_vector.default", PART_MAGNITUDE},
    {".lora_magnitude_vector.default.weight", PART_MAGNITUDE},
    {".lora_embedding_A", PART_EMBED_A},
    {".lora_embedding_A.default", PART_EMBED_A},
    {".lora_embedding_B", PART_EMBED_B},
    {".lora_embedding_B.default", PART_EMBED_B},
};

/* Ends of the names of whole modules, the longest first. */
static const char *const WHOLE_ENDS[] = {
    ".modules_to_save.default.weight", ".modules_to_save.weight", ".base_layer.weight", ".weight"};

/* Factors in blocks of 32, graft's own extension (peft_type GRAFT_LORA): rows of bytes in the file. */
static const struct {
    const char *end;
    enum part part;
    graft_type type;
} BLOCK_ENDS[] = {{".lora_A.q8_0", PART_A, GRAFT_TYPE_Q8_0},
                  {".lora_A.q4_0", PART_A, GRAFT_TYPE_Q4_0},
                  {".lora_B_transposed.q8_0", PART_B, GRAFT_TYPE_Q8_0},
                  {".lora_B_transposed.q4_0", PART_B, GRAFT_TYPE_Q4_0}};

static graft_status add_blocks(struct spec *spec, const char *name, size_t length, enum part part,
                               const struct tensor_info *tensor, graft_type type,
                               graft_error *error)
{
    const struct type_traits *traits = type_traits(type);
    if (!spec->quantised || tensor->type != GRAFT_TYPE_U8 || tensor->n_dims != 2 ||
        tensor->shape[1] % (int64_t)traits->block_bytes)
        return tensor_refused(tensor, GRAFT_FORMAT, error,
                              "it should be rows of blocks of %s, of an adapter of type GRAFT_LORA",
                              graft_type_name(type));
    struct tensor_info *blocks = arena_alloc_packed(&spec->arena, sizeof *blocks);
    if (!blocks)
        return error_set(error, GRAFT_NO_MEMORY, "no memory for an adapter's tensors");
    *blocks = *tensor;
    blocks->type = type;
    blocks->shape[1] = tensor->shape[1] / (int64_t)traits->block_bytes * traits->block_values;
    return spec_add(spec, name, length, part, blocks, error);
}

static graft_status add_tensor(struct spec *spec, const struct tensor_info *tensor,
                               graft_error *error)
{
    static const char PREFIX[] = "base_model.model.";
    const char *name = tensor->name, *lora;
    while (!strncmp(name, PREFIX, sizeof PREFIX - 1))
        name += sizeof PREFIX - 1;
    lora = strstr(name, ".lora_");
    for (size_t i = 0; lora && i < ARRAY_LEN(ENDS); i++)
        if (!strcmp(lora, ENDS[i].end))
            return spec_add(spec, name, (size_t)(lora - name), ENDS[i].part, tensor, error);
    for (size_t i = 0; lora && i < ARRAY_LEN(BLOCK_ENDS); i++)
        if (!strcmp(lora, BLOCK_ENDS[i].end))
            return add_blocks(spec, name, (size_t)(lora - name), BLOCK_ENDS[i].part, tensor,
                              BLOCK_ENDS[i].type, error);
    if (lora)
        return tensor_refused(tensor, GRAFT_UNSUPPORTED, error,
                              "graft knows no part of an adapter called \"%.80s\"", lora + 1);
    for (size_t i = 0; i < ARRAY_LEN(WHOLE_ENDS); i++)
        if (text_ends_with(name, WHOLE_ENDS[i]))
            return spec_add(spec, name, strlen(name) - strlen(WHOLE_ENDS[i]), PART_WEIGHT, tensor,
                            error);
    return tensor_refused(tensor, GRAFT_UNSUPPORTED, error,
                          "it is no part of a LoRA that graft knows");
}

graft_status spec_parse_peft(struct spec *spec, struct mem *mem, const json_t *config,
                             const struct tensor_info *tensors, size_t n_tensors,
                             graft_error *error)
{
    spec_begin(spec, mem, ADAPTER_PEFT);
    graft_status status = read_config(spec, config, error);
    for (size_t i = 0; i < n_tensors && status == GRAFT_OK; i++)
        status = add_tensor(spec, &tensors[i], error);
    return status == GRAFT_OK ? spec_check_modules(spec, error) : status;
}
