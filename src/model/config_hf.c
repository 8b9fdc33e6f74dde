/* config_hf.c: config.json of a Hugging Face directory → struct config.
 *
 * Reads the keys that change the arithmetic and refuses, by name, values that graft would compute
 * wrongly. Keys that only matter to training are ignored. Architecture quirks are in arch/.
 */
#include "model/config_internal.h"

static graft_status find_arch(struct config *config, const json_t *json, graft_error *error)
{
    char known[256];
    arch_list(NAMING_HF, known, sizeof(known));
    const json_t *list = json_object_get(json, "architectures");
    const json_t *first = json_array_get(list, 0);
    const char *name = json_string_value(first), *type = NULL;
    if (list && !json_is_null(list) && !name)
        return error_set(error, GRAFT_FORMAT,
                         "\"architectures\" is no list that begins with a name");
    graft_status status = json_get_string(json, "model_type", &type, error);
    if (status != GRAFT_OK)
        return status;
    if (!name && !type)
        return error_set(error, GRAFT_FORMAT,
                         "the configuration names no architecture; graft runs %s", known);
    config->arch = arch_find(name, type);
    if (!config->arch)
        return error_set(error, GRAFT_UNSUPPORTED,
                         "architecture %s is not supported; graft runs %s", name ? name : type,
                         known);
    snprintf(config->architecture, sizeof(config->architecture), "%s", config->arch->name);
    return GRAFT_OK;
}

static graft_status read_sizes(struct config *c, const json_t *json, graft_error *error)
{
    const struct {
        const char *key;
        int *out;
    } keys[] = {{"num_hidden_layers", &c->n_layer}, {"hidden_size", &c->d_model},
                {"intermediate_size", &c->d_ff},    {"num_attention_heads", &c->n_head},
                {"num_key_value_heads", &c->n_kv},  {"head_dim", &c->d_head},
                {"vocab_size", &c->n_vocab},        {"max_position_embeddings", &c->n_ctx}};
    for (size_t i = 0; i < ARRAY_LEN(keys); i++) {
        int64_t value = 0;
        graft_status status = json_get_int(json, keys[i].key, 1, INT32_MAX, &value, error);
        if (status != GRAFT_OK)
            return status;
        *keys[i].out = (int)value;
    }
    double eps = 1e-6;
    graft_status status = json_get_number(json, "rms_norm_eps", &eps, error);
    if (status == GRAFT_OK)
        status = json_get_bool(json, "tie_word_embeddings", &c->tied, error);
    c->norm_eps = (float)eps;
    return status;
}

/* A list of ids or one id. */
static graft_status read_eos(struct config *c, const json_t *json, graft_error *error)
{
    const json_t *eos = json_object_get(json, "eos_token_id");
    size_t n = json_is_array(eos) ? json_array_size(eos) : eos && !json_is_null(eos) ? 1 : 0;
    if (n > MAX_EOS)
        return error_set(error, GRAFT_FORMAT, "eos_token_id lists %zu tokens; %d are possible", n,
                         MAX_EOS);
    for (size_t i = 0; i < n; i++) {
        const json_t *id = json_is_array(eos) ? json_array_get(eos, i) : eos;
        if (!json_is_integer(id) || json_integer_value(id) < 0 ||
            json_integer_value(id) > INT32_MAX)
            return error_set(error, GRAFT_FORMAT, "eos_token_id is no token id");
        c->eos[i] = (graft_token_id)json_integer_value(id);
    }
    c->n_eos = (int)n;
    return GRAFT_OK;
}

static graft_status read_tokens(struct config *c, const json_t *json, graft_error *error)
{
    int64_t bos = -1, pad = -1;
    graft_status status = json_get_int(json, "bos_token_id", -1, INT32_MAX, &bos, error);
    if (status == GRAFT_OK)
        status = json_get_int(json, "pad_token_id", -1, INT32_MAX, &pad, error);
    if (status != GRAFT_OK)
        return status;
    c->bos = (graft_token_id)bos;
    c->pad = (graft_token_id)pad;
    return read_eos(c, json, error);
}

/* id2label {"0": "name", …} wins over num_labels, as in Hugging Face; 2 classes when neither is there. */
static graft_status read_labels(struct config *c, struct arena *arena, const json_t *json,
                                graft_error *error)
{
    int64_t n = 2;
    graft_status status = json_get_int(json, "num_labels", 1, 1 << 16, &n, error);
    if (status != GRAFT_OK)
        return status;
    const json_t *names = json_object_get(json, "id2label");
    if (json_is_object(names) && json_object_size(names))
        n = (int64_t)json_object_size(names);
    c->n_labels = (int)(n < 1 << 20 ? n : 1 << 20);
    if (!json_is_object(names) || n > 1 << 16)
        return GRAFT_OK; /* too many: config_check refuses */
    c->labels = arena_alloc_packed(arena, (size_t)n * sizeof(*c->labels));
    if (!c->labels)
        return error_set(error, GRAFT_NO_MEMORY, "no memory for the configuration");
    for (int i = 0; i < (int)n; i++) {
        char key[16];
        snprintf(key, sizeof(key), "%d", i);
        const json_t *name = json_object_get(names, key);
        if (!json_is_string(name))
            return error_set(error, GRAFT_FORMAT,
                             "id2label has %lld classes but no name for \"%s\"", (long long)n, key);
        c->labels[i] = arena_strndup(arena, json_string_value(name), json_string_length(name));
        if (!c->labels[i])
            return error_set(error, GRAFT_NO_MEMORY, "no memory for the configuration");
    }
    return GRAFT_OK;
}

static graft_status read_quantization(struct config *c, struct arena *arena, const json_t *json,
                                      graft_error *error)
{
    const json_t *mlx = json_object_get(json, "quantization");
    const json_t *other = json_object_get(json, "quantization_config");
    if (mlx && !json_is_null(mlx)) /* MLX writes the same under the second name too */
        return mlx_parse(c, arena, mlx, error);
    if (!other || json_is_null(other))
        return GRAFT_OK;
    const char *method = json_string_value(json_object_get(other, "quant_method"));
    if (method || !json_is_object(other) || !json_object_get(other, "group_size"))
        return error_set(error, GRAFT_UNSUPPORTED,
                         "quantization method %s is not supported; graft reads MLX and GGUF",
                         method ? method : "without a name");
    return mlx_parse(c, arena, other, error);
}

static graft_status refuse_quirks(const json_t *json, graft_error *error)
{
    const char *act = NULL;
    graft_status status = json_get_string(json, "hidden_act", &act, error);
    if (status != GRAFT_OK)
        return status;
    if (act && strcmp(act, "silu") && strcmp(act, "swish"))
        return error_set(error, GRAFT_UNSUPPORTED, "hidden_act %s is not supported; graft has silu",
                         act);
    double rotary = 1.0;
    status = json_get_number(json, "partial_rotary_factor", &rotary, error);
    if (status == GRAFT_OK && rotary != 1.0)
        return error_set(error, GRAFT_UNSUPPORTED,
                         "partial_rotary_factor %g is not supported; graft rotates whole heads",
                         rotary);
    return status;
}

graft_status config_parse_hf(struct config *out, struct arena *arena, const json_t *json,
                             graft_error *error)
{
    struct config c;
    config_init(&c);
    if (!json_is_object(json))
        return error_set(error, GRAFT_FORMAT, "the configuration is no JSON object");
    graft_status status = find_arch(&c, json, error);
    if (status == GRAFT_OK)
        status = refuse_quirks(json, error);
    if (status == GRAFT_OK)
        status = read_sizes(&c, json, error);
    if (status == GRAFT_OK)
        status = read_tokens(&c, json, error);
    if (status == GRAFT_OK && c.arch->score)
        status = read_labels(&c, arena, json, error);
    if (status == GRAFT_OK)
        status = read_quantization(&c, arena, json, error);
    if (status == GRAFT_OK)
        status = config_check(&c, arena, error);
    if (status == GRAFT_OK)
        status = rope_parse_hf(&c, json, error);
    c.qk_norm = c.arch && c.arch->qk_norm;
    if (status == GRAFT_OK)
        status = c.arch->config_hf(&c, json, error);
    if (status == GRAFT_OK)
        *out = c;
    return status;
}

/* ---- for arch files ----------------------------------------------------------------------- */

graft_status config_hf_bias(struct config *config, const json_t *json, const char *key,
                            unsigned mask, graft_error *error)
{
    bool on = false;
    graft_status status = json_get_bool(json, key, &on, error);
    if (status == GRAFT_OK && on)
        config->biases |= mask;
    return status;
}

/* Whether layer_types calls a layer sliding; other kinds than the two are refused by name. */
static graft_status layer_slides(const json_t *types, int layer, bool *out, graft_error *error)
{
    const char *type = json_string_value(json_array_get(types, (size_t)layer));
    if (!type)
        return error_set(error, GRAFT_FORMAT, "layer_types names no type for layer %d", layer);
    *out = !strcmp(type, "sliding_attention");
    if (!*out && strcmp(type, "full_attention"))
        return error_set(error, GRAFT_UNSUPPORTED, "layer type %s is not supported", type);
    return GRAFT_OK;
}

graft_status config_hf_windows(struct config *config, const json_t *json, int first_layer,
                               graft_error *error)
{
    const json_t *types = json_object_get(json, "layer_types");
    if (json_is_null(types))
        types = NULL;
    if (types && json_array_size(types) != (size_t)config->n_layer)
        return error_set(error, GRAFT_FORMAT, "layer_types has %zu entries for %d layers",
                         json_array_size(types), config->n_layer);
    int64_t window = 0;
    graft_status status = json_get_int(json, "sliding_window", 1, INT32_MAX, &window, error);
    for (int i = 0; status == GRAFT_OK && i < config->n_layer; i++) {
        bool slides = i >= first_layer;
        if (types)
            status = layer_slides(types, i, &slides, error);
        if (status == GRAFT_OK && types && slides && !window)
            return error_set(error, GRAFT_FORMAT,
                             "layer %d has sliding attention but there is no sliding_window", i);
        config->windows[i] = slides ? (int32_t)window : 0;
    }
    return status;
}
