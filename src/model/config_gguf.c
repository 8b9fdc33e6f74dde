/* config_gguf.c: the metadata of a GGUF file → struct config.
 *
 * Keys are "<architecture>.name" (GGUF specification). What the metadata leaves out is taken from the
 * tensors that are there: vocabulary size, tied head, biases.
 */
#include "model/config_internal.h"

void gguf_key(const struct config *config, const char *name, char *out, size_t size)
{
    snprintf(out, size, "%s.%s", config->arch->gguf, name);
}

graft_status gguf_arch_int(const struct config *config, const struct gguf *g, const char *name,
                           int64_t max, int64_t *out, graft_error *error)
{
    char key[160];
    gguf_key(config, name, key, sizeof(key));
    return gguf_get_int(g, key, 0, max, out, error);
}

graft_status gguf_arch_number(const struct config *config, const struct gguf *g, const char *name,
                              double *out, graft_error *error)
{
    char key[160];
    gguf_key(config, name, key, sizeof(key));
    return gguf_get_number(g, key, out, error);
}

static graft_status find_arch(struct config *config, const struct gguf *g, graft_error *error)
{
    const char *name = NULL;
    size_t length = 0;
    graft_status status = gguf_get_string(g, "general.architecture", &name, &length, error);
    if (status != GRAFT_OK)
        return status;
    char known[256];
    arch_list(NAMING_GGUF, known, sizeof(known));
    if (!name)
        return error_set(error, GRAFT_FORMAT, "the file has no general.architecture; graft runs %s",
                         known);
    config->arch = arch_find_gguf(name, length);
    if (!config->arch)
        return error_set(error, GRAFT_UNSUPPORTED,
                         "architecture %.*s is not supported in GGUF; graft runs %s",
                         (int)(length < 64 ? length : 64), name, known);
    snprintf(config->architecture, sizeof(config->architecture), "%s", config->arch->name);
    config->rope.interleaved = config->arch->gguf_interleaved;
    config->qk_norm = config->arch->qk_norm;
    return GRAFT_OK;
}

/* A LoRA or projector file is no model, though it names an architecture. */
static graft_status check_kind(const struct gguf *g, graft_error *error)
{
    const char *type = NULL;
    size_t length = 0;
    graft_status status = gguf_get_string(g, "general.type", &type, &length, error);
    if (status == GRAFT_OK && type && (length != 5 || memcmp(type, "model", 5)))
        return error_set(error, GRAFT_UNSUPPORTED, "the file is no model but of type \"%.*s\"",
                         (int)(length < 64 ? length : 64), type);
    return status;
}

static graft_status read_sizes(struct config *c, const struct gguf *g, graft_error *error)
{
    int64_t value_width = 0, experts = 0, n_layer = 0, d_model = 0, d_ff = 0, n_head = 0, n_kv = 0,
            d_head = 0, n_ctx = 0, n_vocab = 0;
    const struct {
        const char *name;
        int64_t *out;
    } keys[] = {{"block_count", &n_layer},
                {"embedding_length", &d_model},
                {"feed_forward_length", &d_ff},
                {"attention.head_count", &n_head},
                {"attention.head_count_kv", &n_kv},
                {"attention.key_length", &d_head},
                {"context_length", &n_ctx},
                {"vocab_size", &n_vocab},
                {"attention.value_length", &value_width},
                {"expert_count", &experts}};
    for (size_t i = 0; i < ARRAY_LEN(keys); i++) {
        graft_status status = gguf_arch_int(c, g, keys[i].name, INT32_MAX, keys[i].out, error);
        if (status != GRAFT_OK)
            return status;
    }
    if (experts)
        return error_set(error, GRAFT_UNSUPPORTED, "mixtures of experts are not supported");
    if (value_width && d_head && value_width != d_head)
        return error_set(error, GRAFT_UNSUPPORTED,
                         "values of width %lld beside keys of width %lld are not supported",
                         (long long)value_width, (long long)d_head);
    c->n_layer = (int)n_layer;
    c->d_model = (int)d_model;
    c->d_ff = (int)d_ff;
    c->n_head = (int)n_head;
    c->n_kv = (int)n_kv;
    c->d_head = (int)d_head;
    c->n_ctx = (int)n_ctx;
    const struct tensor_info *embed = gguf_find_tensor(g, "token_embd.weight");
    if (embed && embed->n_dims == 2 && embed->shape[0] <= INT32_MAX)
        n_vocab = embed->shape[0]; /* llama.cpp goes by the tensor too */
    c->n_vocab = (int)n_vocab;
    c->tied = !gguf_find_tensor(g, "output.weight");
    double eps = c->norm_eps;
    graft_status status = gguf_arch_number(c, g, "attention.layer_norm_rms_epsilon", &eps, error);
    c->norm_eps = (float)eps;
    return status;
}

static void add_eos(struct config *c, int64_t id)
{
    for (int i = 0; i < c->n_eos; i++)
        if (c->eos[i] == id)
            return;
    if (id >= 0 && c->n_eos < MAX_EOS)
        c->eos[c->n_eos++] = (graft_token_id)id;
}

/* Ids that a file marks as "none" are stored as 2^32 - 1. */
static graft_status read_tokens(struct config *c, const struct gguf *g, graft_error *error)
{
    int64_t ids[5] = {-1, -1, -1, -1, -1};
    static const char *const KEYS[] = {"tokenizer.ggml.bos_token_id",
                                       "tokenizer.ggml.padding_token_id",
                                       "tokenizer.ggml.eos_token_id", "tokenizer.ggml.eot_token_id",
                                       "tokenizer.ggml.eom_token_id"};
    for (size_t i = 0; i < ARRAY_LEN(KEYS); i++) {
        graft_status status = gguf_get_int(g, KEYS[i], -1, UINT32_MAX, &ids[i], error);
        if (status != GRAFT_OK)
            return status;
        if (ids[i] > INT32_MAX)
            ids[i] = -1;
    }
    c->bos = (graft_token_id)ids[0];
    c->pad = (graft_token_id)ids[1];
    for (int i = 2; i < 5; i++)
        add_eos(c, ids[i]);
    return GRAFT_OK;
}

graft_status config_parse_gguf(struct config *out, struct arena *arena, const struct gguf *g,
                               graft_error *error)
{
    struct config c;
    config_init(&c);
    graft_status status = check_kind(g, error);
    if (status == GRAFT_OK)
        status = find_arch(&c, g, error);
    if (status == GRAFT_OK)
        status = read_sizes(&c, g, error);
    if (status == GRAFT_OK)
        status = read_tokens(&c, g, error);
    if (status == GRAFT_OK)
        status = config_check(&c, arena, error);
    if (status == GRAFT_OK)
        status = rope_parse_gguf(&c, g, error);
    if (status == GRAFT_OK)
        status = c.arch->config_gguf(&c, g, error);
    if (status == GRAFT_OK)
        *out = c;
    return status;
}

/* ---- for arch files ----------------------------------------------------------------------- */

static void find_biases(struct config *config, const struct gguf *g)
{
    for (int i = 0; i < LINEAR_COUNT; i++) {
        char name[160];
        if (!arch_module(config->arch, NAMING_GGUF, SLOT_LINEAR + i, 0, name, sizeof(name) - 8))
            continue;
        memcpy(name + strlen(name), ".bias", 6);
        if (gguf_find_tensor(g, name))
            config->biases |= 1u << i;
    }
}

/* attention.sliding_window_pattern lists the layers that slide; without it all do. */
static graft_status find_windows(struct config *config, const struct gguf *g, graft_error *error)
{
    int64_t window = 0;
    graft_status status =
        gguf_arch_int(config, g, "attention.sliding_window", INT32_MAX, &window, error);
    if (status != GRAFT_OK || !window)
        return status;
    char key[160];
    gguf_key(config, "attention.sliding_window_pattern", key, sizeof(key));
    const struct gguf_value *pattern = gguf_find(g, key);
    if (pattern && (!pattern->is_array || pattern->count != (uint64_t)config->n_layer))
        return error_set(error, GRAFT_FORMAT, "%s is no list of %d flags", key, config->n_layer);
    for (int i = 0; i < config->n_layer; i++) {
        double flag = 1;
        if (pattern && pattern->type == GGUF_BOOL)
            flag = pattern->data[i];
        else if (pattern && !gguf_item_number(pattern, (uint64_t)i, &flag))
            return error_set(error, GRAFT_FORMAT, "%s is no list of flags", key);
        config->windows[i] = flag != 0 ? (int32_t)window : 0;
    }
    return GRAFT_OK;
}

graft_status config_gguf_common(struct config *config, const struct gguf *g, graft_error *error)
{
    find_biases(config, g);
    return find_windows(config, g, error);
}
