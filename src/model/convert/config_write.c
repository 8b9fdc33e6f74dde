/* config_write.c: config.json for a model that came without one (GGUF), or with another dtype.
 *
 * What is made from a GGUF is read back before it is written: a model that config.json cannot express is
 * refused, since a reader would compute something else.
 */
#include "convert_internal.h"

#include <math.h>

enum { CONFIG_LIMIT = 16 << 20 };

/* GGUF keeps 32-bit floats: the shortest decimal that reads back as the same one ("1e-05"). */
static json_t *short_real(double x)
{
    char text[32];
    for (int digits = 1; digits < 10; digits++) {
        snprintf(text, sizeof text, "%.*g", digits, x);
        if ((float)strtod(text, NULL) == (float)x)
            return json_real(strtod(text, NULL));
    }
    return json_real(x);
}

static const char *torch_dtype(const struct conversion *c)
{
    switch (recipe_base(c->recipe)) {
    case GRAFT_TYPE_F16:
    case GRAFT_TYPE_MLX4:
    case GRAFT_TYPE_MLX8:
        return "float16";
    case GRAFT_TYPE_BF16:
        return "bfloat16";
    default:
        return "float32";
    }
}

/* ---- rotary embedding --------------------------------------------------------------------- */

/* GGUF keeps only the divisors that Llama 3's scaling comes to. The factor is the largest; the original
 * context follows from a plane that is blended, given the bands that everybody uses (1 and 4 turns). If
 * the guess is wrong the check at the end refuses it. */
static json_t *recover_llama3(const struct model *m)
{
    const struct config *k = &m->config;
    int half = k->d_head / 2;
    double factor = 1, original = 8192;
    for (int i = 0; i < half; i++) {
        double plain = pow(k->rope.theta, -2.0 * i / k->d_head);
        double divisor = plain / (double)m->rope_freq[i];
        factor = divisor > factor ? round(divisor * 1e4) / 1e4 : factor;
    }
    for (int i = 0; i < half && factor > 1; i++) {
        double plain = pow(k->rope.theta, -2.0 * i / k->d_head);
        double keep = ((double)m->rope_freq[i] / plain - 1 / factor) / (1 - 1 / factor);
        if (keep > 0.01 && keep < 0.99) {
            original = round((1 + 3 * keep) * 2 * 3.14159265358979323846 / plain);
            break;
        }
    }
    return json_pack("{s:s, s:o, s:f, s:f, s:I}", "rope_type", "llama3", "factor",
                     short_real(factor), "low_freq_factor", 1.0, "high_freq_factor", 4.0,
                     "original_max_position_embeddings", (json_int_t)original);
}

static json_t *yarn(const struct rope_config *rope)
{
    double usual = rope->factor > 1 ? 0.1 * log(rope->factor) + 1 : 1;
    json_t *json = json_pack("{s:s, s:o, s:o, s:o, s:I}", "rope_type", "yarn", "factor",
                             short_real(rope->factor), "beta_fast", short_real(rope->beta_fast),
                             "beta_slow", short_real(rope->beta_slow),
                             "original_max_position_embeddings", (json_int_t)rope->original_ctx);
    if (rope->attention_factor > 0 && fabs(rope->attention_factor - usual) > 1e-6 * usual)
        json_put(&json, "attention_factor", json_real(rope->attention_factor));
    return json;
}

static void set_rope(const struct model *m, json_t **json)
{
    const struct rope_config *rope = &m->config.rope;
    json_put(json, "rope_theta", short_real(rope->theta));
    if (gguf_find_tensor(m->tensors.gguf, ROPE_FACTORS))
        json_put(json, "rope_scaling", recover_llama3(m));
    else if (rope->kind == ROPE_LINEAR)
        json_put(
            json, "rope_scaling",
            json_pack("{s:s, s:o}", "rope_type", "linear", "factor", short_real(rope->factor)));
    else if (rope->kind == ROPE_YARN)
        json_put(json, "rope_scaling", yarn(rope));
}

/* ---- the rest ----------------------------------------------------------------------------- */

static int count_windows(const struct config *k, int *window)
{
    int n = 0;
    for (int i = 0; i < k->n_layer; i++)
        if (k->windows[i] > 0) {
            *window = k->windows[i];
            n++;
        }
    return n;
}

/* Windows in every layer are the mark of Mistral, which GGUF calls llama too. */
static const struct arch *hf_arch(const struct config *k)
{
    int window;
    const struct arch *llama = arch_find("LlamaForCausalLM", NULL);
    bool mistral = k->arch == llama && !k->biases && count_windows(k, &window) == k->n_layer;
    return mistral ? arch_find("MistralForCausalLM", NULL) : k->arch;
}

static void set_windows(const struct config *k, json_t **json)
{
    int window = 0, n = count_windows(k, &window), first = 0;
    if (n == 0)
        return;
    json_t *types = json_array();
    for (int i = 0; i < k->n_layer; i++)
        json_append(&types,
                    json_string(k->windows[i] > 0 ? "sliding_attention" : "full_attention"));
    while (k->windows[first] == 0)
        first++;
    json_put(json, "sliding_window", json_integer(window));
    json_put(json, "use_sliding_window", json_true());
    json_put(json, "max_window_layers", json_integer(first));
    json_put(json, "layer_types", types);
}

static void set_tokens(const struct config *k, json_t **json)
{
    if (k->bos >= 0)
        json_put(json, "bos_token_id", json_integer(k->bos));
    if (k->pad >= 0)
        json_put(json, "pad_token_id", json_integer(k->pad));
    if (k->n_eos == 1)
        json_put(json, "eos_token_id", json_integer(k->eos[0]));
    if (k->n_eos > 1) {
        json_t *list = json_array();
        for (int i = 0; i < k->n_eos; i++)
            json_append(&list, json_integer(k->eos[i]));
        json_put(json, "eos_token_id", list);
    }
}

static json_t *from_config(const struct conversion *c)
{
    const struct model *m = c->model;
    const struct config *k = &c->config;
    const struct arch *arch = hf_arch(k);
    json_t *json = json_pack(
        "{s:[s], s:s, s:i, s:i, s:i, s:i, s:i, s:i, s:i, s:i, s:o, s:s, s:b, s:b, s:b}",
        "architectures", arch->name, "model_type", arch->model_type, "hidden_size", k->d_model,
        "intermediate_size", k->d_ff, "num_hidden_layers", k->n_layer, "num_attention_heads",
        k->n_head, "num_key_value_heads", k->n_kv, "head_dim", k->d_head, "vocab_size", k->n_vocab,
        "max_position_embeddings", k->n_ctx, "rms_norm_eps", short_real((double)k->norm_eps),
        "hidden_act", "silu", "tie_word_embeddings", k->tied, "attention_bias",
        (k->biases & BIAS_ATTENTION) == BIAS_ATTENTION, "mlp_bias",
        (k->biases & BIAS_MLP) == BIAS_MLP);
    set_windows(k, &json);
    set_tokens(k, &json);
    set_rope(m, &json);
    return json;
}

/* ---- reading back ------------------------------------------------------------------------- */

static bool same_rope(const struct model *m, const struct config *read, double *freq)
{
    double mscale;
    config_rope_frequencies(read, freq, &mscale);
    bool same = fabs(mscale - (double)m->rope_mscale) <= 1e-5 * mscale;
    for (int i = 0; i < read->d_head / 2; i++)
        same = same && fabs(freq[i] - (double)m->rope_freq[i]) <= 1e-5 * freq[i];
    return same;
}

/* What differs, or NULL. */
static const char *difference(const struct conversion *c, const struct config *read, double *freq)
{
    const struct model *m = c->model;
    const struct config *k = &c->config;
    if (read->n_layer != k->n_layer || read->d_model != k->d_model || read->d_ff != k->d_ff ||
        read->n_head != k->n_head || read->n_kv != k->n_kv || read->d_head != k->d_head ||
        read->n_vocab != k->n_vocab || read->tied != k->tied || read->qk_norm != k->qk_norm)
        return "shape";
    if (read->norm_eps != k->norm_eps)
        return "norm_eps";
    if (read->biases != k->biases)
        return "set of biases";
    if (memcmp(read->windows, k->windows, (size_t)k->n_layer * sizeof *k->windows))
        return "sliding window";
    return same_rope(m, read, freq) ? NULL : "rotary embedding";
}

static graft_status read_back(const struct conversion *c, const json_t *json, graft_error *error)
{
    struct mem *mem = &c->runtime->mem;
    const struct config *k = &c->config;
    struct arena arena;
    struct config read;
    arena_init(&arena, mem, CONFIG_LIMIT);
    double *freq = mem_calloc(mem, (size_t)k->d_head / 2, sizeof *freq);
    graft_status status = freq ? config_parse_hf(&read, &arena, json, error)
                               : error_set(error, GRAFT_NO_MEMORY, "out of memory");
    if (status == GRAFT_OK)
        status = fused_check_biases(c, read.biases, error);
    const char *what = status == GRAFT_OK ? difference(c, &read, freq) : NULL;
    if (what)
        status = error_set(error, GRAFT_UNSUPPORTED,
                           "the config.json of a %s cannot express this model's %s",
                           k->architecture, what);
    mem_free(mem, freq);
    arena_free(&arena);
    return status;
}

static graft_status read_source(const struct conversion *c, json_t **json, graft_error *error)
{
    char *path = model_file_beside(c->model, "config.json");
    graft_status status = path ? json_read(&c->runtime->mem, path, CONFIG_LIMIT, json, error)
                               : error_set(error, GRAFT_NO_MEMORY, "out of memory");
    mem_free(&c->runtime->mem, path);
    return status;
}

/* What a mix changes of the source's own file. */
static void put_changes(const struct conversion *c, json_t **json)
{
    const struct config *from = &c->model->config, *to = &c->config;
    unsigned added = to->biases & ~from->biases;
    if (to->tied != from->tied)
        json_put(json, "tie_word_embeddings", json_boolean(to->tied));
    if (added & BIAS_ATTENTION)
        json_put(json, "attention_bias", json_true());
    if (added & BIAS_MLP)
        json_put(json, "mlp_bias", json_true());
}

static json_t *mlx_quantization(graft_type type)
{
    return json_pack("{s:i, s:i, s:s}", "group_size", MLX_GROUP, "bits",
                     type == GRAFT_TYPE_MLX4 ? 4 : 8, "mode", "affine");
}

/* Bits and group of all, and of modules that have others. */
static void put_quantization(const struct conversion *c, json_t **json)
{
    graft_type base = recipe_base(c->recipe);
    json_t *all = mlx_quantization(base);
    for (size_t i = 0; i < c->plan.count; i++) {
        const struct item *item = &c->plan.items[i];
        char module[MODULE_NAME_MAX];
        if (!type_is_mlx(item->type) || item->type == base)
            continue;
        snprintf(module, sizeof module, "%.*s", (int)(strlen(item->name) - strlen(".weight")),
                 item->name);
        json_put(&all, module, mlx_quantization(item->type));
    }
    json_put(json, "quantization", all);
}

graft_status config_write_json(const struct conversion *c, json_t **out, graft_error *error)
{
    json_t *json = NULL;
    bool made = c->model->tensors.gguf != NULL;
    graft_status status = GRAFT_OK;
    if (made)
        json = from_config(c);
    else
        status = read_source(c, &json, error);
    if (status == GRAFT_OK && json) {
        put_changes(c, &json);
        json_object_del(json, "quantization"); /* MLX: the weights are plain now */
        json_object_del(json, "quantization_config");
        json_object_del(json, "dtype"); /* the key's newer name */
        json_put(&json, "torch_dtype", json_string(torch_dtype(c)));
        if (c->options->format == GRAFT_FORMAT_MLX)
            put_quantization(c, &json);
    }
    if (status == GRAFT_OK && !json)
        status = error_set(error, GRAFT_NO_MEMORY, "out of memory");
    if (status == GRAFT_OK && (made || c->fuse))
        status = read_back(c, json, error);
    if (status != GRAFT_OK) {
        json_decref(json);
        return status;
    }
    *out = json;
    return GRAFT_OK;
}
