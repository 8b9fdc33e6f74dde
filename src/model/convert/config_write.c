/* config_write.c: config.json for a model that came without one (GGUF), or with another dtype. */
#include "convert_internal.h"

#include <math.h>

static const char *torch_dtype(const struct conversion *c)
{
    switch (recipe_base(c->recipe)) {
    case GRAFT_TYPE_F16:
        return "float16";
    case GRAFT_TYPE_BF16:
        return "bfloat16";
    default:
        return "float32";
    }
}

/* GGUF keeps only the divisors that llama3 scaling comes to. The parameters in use everywhere (bands 1
 * and 4 of an original context of 8192) are tried, the factor being the largest divisor; they are written
 * only if they give the same frequencies. */
static graft_status recover_llama3(const struct conversion *c, json_t *json, graft_error *error)
{
    const struct model *m = c->model;
    struct config guess = m->config;
    int half = guess.d_head / 2;
    double mscale, *freq = mem_calloc(&c->runtime->mem, (size_t)half, sizeof *freq);
    if (!freq)
        return error_set(error, GRAFT_NO_MEMORY, "out of memory");
    double slowest = pow(guess.rope.theta, -2.0 * (half - 1) / guess.d_head);
    guess.rope.kind = ROPE_LLAMA3;
    guess.rope.factor = round(slowest / (double)m->rope_freq[half - 1] * 1e4) / 1e4;
    guess.rope.low_freq = 1;
    guess.rope.high_freq = 4;
    guess.rope.original_ctx = 8192;
    config_rope_frequencies(&guess, freq, &mscale);
    bool same = true;
    for (int i = 0; i < half; i++)
        same = same && fabs(freq[i] - (double)m->rope_freq[i]) <= 1e-5 * freq[i];
    mem_free(&c->runtime->mem, freq);
    if (!same)
        return error_set(error, GRAFT_UNSUPPORTED,
                         "rope_freqs.weight is no llama3 scaling that config.json could express");
    json_object_set_new(json, "rope_scaling",
                        json_pack("{s:s, s:f, s:f, s:f, s:i}", "rope_type", "llama3", "factor",
                                  guess.rope.factor, "low_freq_factor", 1.0, "high_freq_factor",
                                  4.0, "original_max_position_embeddings", 8192));
    return GRAFT_OK;
}

static graft_status set_rope(const struct conversion *c, json_t *json, graft_error *error)
{
    const struct rope_config *rope = &c->model->config.rope;
    const struct gguf *g = c->model->tensors.gguf;
    json_object_set_new(json, "rope_theta", json_real(rope->theta));
    if (g && gguf_find_tensor(g, "rope_freqs.weight"))
        return recover_llama3(c, json, error);
    if (rope->kind == ROPE_LINEAR)
        json_object_set_new(json, "rope_scaling",
                            json_pack("{s:s, s:f}", "rope_type", "linear", "factor", rope->factor));
    if (rope->kind == ROPE_YARN) {
        json_t *yarn =
            json_pack("{s:s, s:f, s:f, s:f, s:i}", "rope_type", "yarn", "factor", rope->factor,
                      "beta_fast", rope->beta_fast, "beta_slow", rope->beta_slow,
                      "original_max_position_embeddings", (int)rope->original_ctx);
        if (rope->attention_factor > 0)
            json_object_set_new(yarn, "attention_factor", json_real(rope->attention_factor));
        json_object_set_new(json, "rope_scaling", yarn);
    }
    return GRAFT_OK;
}

static void set_windows(const struct config *config, json_t *json)
{
    int window = 0;
    for (int i = 0; i < config->n_layer; i++)
        if (config->windows && config->windows[i] > 0)
            window = config->windows[i];
    if (window > 0) {
        json_object_set_new(json, "sliding_window", json_integer(window));
        json_object_set_new(json, "use_sliding_window", json_true());
        json_object_set_new(json, "max_window_layers", json_integer(0));
    }
}

static void set_tokens(const struct config *config, json_t *json)
{
    if (config->bos >= 0)
        json_object_set_new(json, "bos_token_id", json_integer(config->bos));
    if (config->pad >= 0)
        json_object_set_new(json, "pad_token_id", json_integer(config->pad));
    if (config->n_eos == 1)
        json_object_set_new(json, "eos_token_id", json_integer(config->eos[0]));
    if (config->n_eos > 1) {
        json_t *list = json_array();
        for (int i = 0; i < config->n_eos; i++)
            json_array_append_new(list, json_integer(config->eos[i]));
        json_object_set_new(json, "eos_token_id", list);
    }
}

static graft_status from_config(const struct conversion *c, json_t **out, graft_error *error)
{
    const struct config *k = &c->model->config;
    json_t *json = json_pack(
        "{s:[s], s:s, s:i, s:i, s:i, s:i, s:i, s:i, s:i, s:i, s:f, s:s, s:b, s:b, s:b}",
        "architectures", k->architecture, "model_type", k->arch->model_type, "hidden_size",
        k->d_model, "intermediate_size", k->d_ff, "num_hidden_layers", k->n_layer,
        "num_attention_heads", k->n_head, "num_key_value_heads", k->n_kv, "head_dim", k->d_head,
        "vocab_size", k->n_vocab, "max_position_embeddings", k->n_ctx, "rms_norm_eps",
        (double)k->norm_eps, "hidden_act", "silu", "tie_word_embeddings", k->tied, "attention_bias",
        (k->biases & BIAS_ATTENTION) == BIAS_ATTENTION, "mlp_bias",
        (k->biases & BIAS_MLP) == BIAS_MLP);
    if (!json)
        return error_set(error, GRAFT_NO_MEMORY, "out of memory");
    set_windows(k, json);
    set_tokens(k, json);
    graft_status status = set_rope(c, json, error);
    if (status != GRAFT_OK) {
        json_decref(json);
        return status;
    }
    *out = json;
    return GRAFT_OK;
}

graft_status config_write_json(const struct conversion *c, json_t **out, graft_error *error)
{
    graft_status status;
    if (c->model->tensors.gguf) {
        status = from_config(c, out, error);
    } else {
        char *path = path_join(&c->runtime->mem, c->model->path, "config.json");
        status = path ? json_read(&c->runtime->mem, path, 16 << 20, out, error)
                      : error_set(error, GRAFT_NO_MEMORY, "out of memory");
        mem_free(&c->runtime->mem, path);
    }
    if (status != GRAFT_OK)
        return status;
    json_object_del(*out, "quantization"); /* MLX: the weights are plain now */
    json_object_del(*out, "quantization_config");
    json_object_del(*out, "dtype"); /* the key's newer name */
    json_object_set_new(*out, "torch_dtype", json_string(torch_dtype(c)));
    return GRAFT_OK;
}
