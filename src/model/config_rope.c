/* config_rope.c: rotary embedding: how files ask for scaling, and the frequencies that follow.
 *
 * Plane i of a head turns by position · freq[i], freq[i] = theta^(-2i/d_head) before scaling. Definitions:
 * linear (Chen et al. 2023), YaRN (Peng et al. 2023) and Llama 3 as Hugging Face computes them. Kinds
 * that graft lacks are refused by name: a silently unscaled model is wrong only on long texts.
 */
#include "model/config_internal.h"

#include <math.h>

static const double PI = 3.14159265358979323846;

static graft_status check_positive(const char *what, double value, graft_error *error)
{
    if (isfinite(value) && value > 0)
        return GRAFT_OK;
    return error_set(error, GRAFT_FORMAT, "rope scaling: %s is %g, not a positive number", what,
                     value);
}

/* What each kind needs, wherever it was read. */
static graft_status check_rope(const struct rope_config *r, graft_error *error)
{
    graft_status status = check_positive("theta", r->theta, error);
    if (status == GRAFT_OK && r->kind != ROPE_PLAIN)
        status = check_positive("factor", r->factor, error);
    if (status == GRAFT_OK && (r->kind == ROPE_LLAMA3 || r->kind == ROPE_YARN))
        status = check_positive("original_max_position_embeddings", r->original_ctx, error);
    if (status == GRAFT_OK && r->kind == ROPE_LLAMA3) {
        status = check_positive("low_freq_factor", r->low_freq, error);
        if (status == GRAFT_OK && !(isfinite(r->high_freq) && r->high_freq > r->low_freq))
            status = error_set(error, GRAFT_FORMAT,
                               "rope scaling: high_freq_factor %g is not above low_freq_factor %g",
                               r->high_freq, r->low_freq);
    }
    if (status != GRAFT_OK || r->kind != ROPE_YARN)
        return status;
    status = check_positive("beta_fast", r->beta_fast, error);
    if (status == GRAFT_OK)
        status = check_positive("beta_slow", r->beta_slow, error);
    if (status == GRAFT_OK && r->attention_factor != 0)
        status = check_positive("attention_factor", r->attention_factor, error);
    if (status == GRAFT_OK && r->theta == 1.0)
        status = error_set(error, GRAFT_FORMAT, "rope scaling: YaRN needs a theta other than 1");
    return status;
}

/* ---- Hugging Face ------------------------------------------------------------------------- */

/* YaRN's factor on the attention scores: 0.1 · m · ln(factor) + 1. */
static double yarn_mscale(double factor, double m)
{
    return factor <= 1.0 ? 1.0 : 0.1 * m * log(factor) + 1.0;
}

static graft_status read_kind(struct rope_config *r, const json_t *scaling, graft_error *error)
{
    const char *type = NULL, *old_name = NULL;
    graft_status status = json_get_string(scaling, "rope_type", &type, error);
    if (status == GRAFT_OK)
        status = json_get_string(scaling, "type", &old_name, error);
    if (status != GRAFT_OK)
        return status;
    if (!type)
        type = old_name ? old_name : "default";
    static const struct {
        const char *name;
        enum rope_kind kind;
    } KINDS[] = {{"default", ROPE_PLAIN},
                 {"linear", ROPE_LINEAR},
                 {"llama3", ROPE_LLAMA3},
                 {"yarn", ROPE_YARN}};
    for (size_t i = 0; i < ARRAY_LEN(KINDS); i++)
        if (!strcmp(type, KINDS[i].name)) {
            r->kind = KINDS[i].kind;
            return GRAFT_OK;
        }
    return error_set(error, GRAFT_UNSUPPORTED,
                     "rope scaling \"%s\" is not supported; graft has linear, llama3 and yarn",
                     type);
}

static graft_status read_scaling(struct config *c, const json_t *scaling, graft_error *error)
{
    struct rope_config *r = &c->rope;
    double rotary = 1.0, mscale = 0, mscale_all = 0;
    bool truncate = true;
    const struct {
        const char *key;
        double *out;
    } numbers[] = {{"rope_theta", &r->theta},
                   {"factor", &r->factor},
                   {"low_freq_factor", &r->low_freq},
                   {"high_freq_factor", &r->high_freq},
                   {"original_max_position_embeddings", &r->original_ctx},
                   {"beta_fast", &r->beta_fast},
                   {"beta_slow", &r->beta_slow},
                   {"attention_factor", &r->attention_factor},
                   {"mscale", &mscale},
                   {"mscale_all_dim", &mscale_all},
                   {"partial_rotary_factor", &rotary}};
    for (size_t i = 0; i < ARRAY_LEN(numbers); i++) {
        graft_status status = json_get_number(scaling, numbers[i].key, numbers[i].out, error);
        if (status != GRAFT_OK)
            return status;
    }
    graft_status status = json_get_bool(scaling, "truncate", &truncate, error);
    if (status != GRAFT_OK)
        return status;
    if (rotary != 1.0)
        return error_set(error, GRAFT_UNSUPPORTED,
                         "partial_rotary_factor %g is not supported; graft rotates whole heads",
                         rotary);
    r->fractional_bounds = !truncate;
    if (r->kind == ROPE_YARN && r->attention_factor == 0 && mscale != 0 && mscale_all != 0)
        r->attention_factor = yarn_mscale(r->factor, mscale) / yarn_mscale(r->factor, mscale_all);
    return GRAFT_OK;
}

graft_status rope_parse_hf(struct config *c, const json_t *json, graft_error *error)
{
    graft_status status = json_get_number(json, "rope_theta", &c->rope.theta, error);
    if (status != GRAFT_OK)
        return status;
    const char *key = "rope_parameters"; /* the newer name, which then also holds rope_theta */
    const json_t *scaling = json_object_get(json, key);
    if (!json_object_size(scaling)) {
        key = "rope_scaling";
        scaling = json_object_get(json, key);
    }
    if (scaling && !json_is_null(scaling)) {
        if (!json_is_object(scaling))
            return error_set(error, GRAFT_FORMAT, "\"%s\" is no object", key);
        if (json_object_get(scaling, "full_attention") ||
            json_object_get(scaling, "sliding_attention"))
            return error_set(error, GRAFT_UNSUPPORTED, "%s per layer type is not supported", key);
        status = read_kind(&c->rope, scaling, error);
        if (status == GRAFT_OK)
            status = read_scaling(c, scaling, error);
        if (status != GRAFT_OK)
            return status;
    }
    struct rope_config *r = &c->rope;
    if (r->kind == ROPE_YARN && r->original_ctx == 0)
        r->original_ctx = c->n_ctx;
    else if (r->kind == ROPE_YARN && r->factor * r->original_ctx > c->n_ctx &&
             r->factor * r->original_ctx < INT32_MAX)
        c->n_ctx = (int)(r->factor * r->original_ctx); /* Qwen keeps the unscaled length */
    return check_rope(r, error);
}

/* ---- GGUF --------------------------------------------------------------------------------- */

static graft_status gguf_kind(struct config *c, const struct gguf *g, graft_error *error)
{
    char key[160];
    const char *text = NULL;
    size_t length = 0;
    gguf_key(c, "rope.scaling.type", key, sizeof(key));
    graft_status status = gguf_get_string(g, key, &text, &length, error);
    if (status != GRAFT_OK)
        return status;
    static const struct {
        const char *name;
        enum rope_kind kind;
    } KINDS[] = {{"none", ROPE_PLAIN}, {"linear", ROPE_LINEAR}, {"yarn", ROPE_YARN}};
    for (size_t i = 0; text && i < ARRAY_LEN(KINDS); i++)
        if (length == strlen(KINDS[i].name) && !memcmp(text, KINDS[i].name, length)) {
            c->rope.kind = KINDS[i].kind;
            return GRAFT_OK;
        }
    if (text)
        return error_set(error, GRAFT_UNSUPPORTED,
                         "rope scaling \"%.*s\" is not supported; graft has linear and yarn in "
                         "GGUF files",
                         (int)(length < 64 ? length : 64), text);
    return GRAFT_OK;
}

graft_status rope_parse_gguf(struct config *c, const struct gguf *g, graft_error *error)
{
    struct rope_config *r = &c->rope;
    graft_status status = gguf_kind(c, g, error);
    double old_factor = 0, attention = 1.0;
    const struct {
        const char *name;
        double *out;
    } numbers[] = {{"rope.freq_base", &r->theta},
                   {"rope.scaling.factor", &r->factor},
                   {"rope.scale_linear", &old_factor},
                   {"rope.scaling.original_context_length", &r->original_ctx},
                   {"rope.scaling.attn_factor", &attention},
                   {"rope.scaling.yarn_beta_fast", &r->beta_fast},
                   {"rope.scaling.yarn_beta_slow", &r->beta_slow}};
    for (size_t i = 0; status == GRAFT_OK && i < ARRAY_LEN(numbers); i++)
        status = gguf_arch_number(c, g, numbers[i].name, numbers[i].out, error);
    int64_t planes = c->d_head;
    if (status == GRAFT_OK)
        status = gguf_arch_int(c, g, "rope.dimension_count", INT32_MAX, &planes, error);
    if (status != GRAFT_OK)
        return status;
    if (planes != c->d_head)
        return error_set(error, GRAFT_UNSUPPORTED,
                         "rotary embedding of %lld of %d dimensions is not supported",
                         (long long)planes, c->d_head);
    if (r->kind == ROPE_PLAIN && (r->factor != 0 || old_factor != 0)) {
        char key[160];
        gguf_key(c, "rope.scaling.type", key, sizeof(key));
        if (!gguf_find(g, key)) /* files from before the type was written down */
            r->kind = ROPE_LINEAR;
        if (r->factor == 0)
            r->factor = old_factor;
    }
    if (r->kind == ROPE_YARN) {
        if (r->original_ctx == 0)
            r->original_ctx = c->n_ctx;
        r->attention_factor = attention * yarn_mscale(r->factor, 1.0);
    }
    return check_rope(r, error);
}

/* ---- frequencies -------------------------------------------------------------------------- */

/* Keeps short wavelengths, stretches long ones, blends in between. */
static void scale_llama3(const struct rope_config *r, int n, double *freq)
{
    for (int i = 0; i < n; i++) {
        double turns = r->original_ctx * freq[i] / (2 * PI);
        double keep = (turns - r->low_freq) / (r->high_freq - r->low_freq);
        keep = keep < 0 ? 0 : keep > 1 ? 1 : keep;
        freq[i] = keep * freq[i] + (1 - keep) * freq[i] / r->factor;
    }
}

/* The plane that makes `turns` turns over the original context. */
static double yarn_plane(const struct rope_config *r, int d_head, double turns)
{
    return d_head * log(r->original_ctx / (turns * 2 * PI)) / (2 * log(r->theta));
}

static void scale_yarn(const struct rope_config *r, int d_head, double *freq)
{
    double low = yarn_plane(r, d_head, r->beta_fast), high = yarn_plane(r, d_head, r->beta_slow);
    if (!r->fractional_bounds) {
        low = floor(low);
        high = ceil(high);
    }
    low = low > 0 ? low : 0;
    high = high < d_head - 1 ? high : d_head - 1;
    if (low == high)
        high += 0.001;
    for (int i = 0; i < d_head / 2; i++) {
        double stretch = (i - low) / (high - low);
        stretch = stretch < 0 ? 0 : stretch > 1 ? 1 : stretch;
        freq[i] = (1 - stretch) * freq[i] + stretch * freq[i] / r->factor;
    }
}

void config_rope_frequencies(const struct config *config, double *freq, double *mscale)
{
    const struct rope_config *r = &config->rope;
    int n = config->d_head / 2;
    for (int i = 0; i < n; i++)
        freq[i] = pow(r->theta, -2.0 * i / config->d_head);
    *mscale = 1.0;
    if (r->kind == ROPE_LINEAR) {
        for (int i = 0; i < n; i++)
            freq[i] /= r->factor;
    } else if (r->kind == ROPE_LLAMA3) {
        scale_llama3(r, n, freq);
    } else if (r->kind == ROPE_YARN) {
        scale_yarn(r, config->d_head, freq);
        *mscale = r->attention_factor != 0 ? r->attention_factor : yarn_mscale(r->factor, 1.0);
    }
}
