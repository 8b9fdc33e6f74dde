/* identity.c: what an adapter remembers of the base that it was made for, and whether that is the model at hand.
 *
 * The fingerprint is of what every copy of a model shares, whatever its container and types. The sketch beside it
 * tells models of one shape apart: root mean squares of some norm vectors, which quantisation leaves alone. Whether the
 * adapter fits is for bind.c to say; a base that is merely another one is worth a warning, since fine-tunes of a model
 * run its adapters well enough.
 */
#include "adapter/adapter_internal.h"
#include "model/arch/arch.h"

#include <math.h>

enum { SKETCH_LAYERS = 3 };
/* Copies in 16 bits agree to 1e-4, a fine-tune of a few hundred steps is beyond. */
#define SKETCH_TOLERANCE 1e-3

/* ---- what is remembered ------------------------------------------------------------------- */

graft_status base_hash(const void *bytes, size_t size, char out[FINGERPRINT_SIZE],
                       graft_error *error)
{
    uint8_t hash[32];
    graft_status status = sha256(bytes, size, hash, error);
    int used = snprintf(out, FINGERPRINT_SIZE, "sha256:");
    if (status == GRAFT_OK)
        hex_write(hash, sizeof hash, out + used);
    return status;
}

graft_status base_fingerprint(const struct model *model, char out[FINGERPRINT_SIZE],
                              graft_error *error)
{
    const struct config *c = &model->config;
    char text[256];
    int n = snprintf(text, sizeof text,
                     "%s layers=%d width=%d mlp=%d heads=%d kv=%d head=%d vocabulary=%d labels=%d",
                     c->arch->gguf ? c->arch->gguf : c->arch->name, c->n_layer, c->d_model, c->d_ff,
                     c->n_head, c->n_kv, c->d_head, c->n_vocab, c->n_labels);
    return base_hash(text, (size_t)n, out, error);
}

static double root_mean_square(const float *x, int n)
{
    double sum = 0;
    for (int i = 0; i < n; i++)
        sum += (double)x[i] * (double)x[i];
    return sqrt(sum / n);
}

/* Five digits are more than copies agree on. */
static json_t *rounded(double x)
{
    char text[32];
    snprintf(text, sizeof text, "%.5g", x);
    return json_real(strtod(text, NULL));
}

json_t *base_sketch(const struct model *model)
{
    const struct config *c = &model->config;
    const int layers[SKETCH_LAYERS] = {0, c->n_layer / 2, c->n_layer - 1};
    json_t *json = json_array();
    for (int i = 0; i < SKETCH_LAYERS; i++) {
        const struct layer *l = &model->layers[layers[i]];
        json_append(&json, rounded(root_mean_square(l->attn_norm, c->d_model)));
        json_append(&json, rounded(root_mean_square(l->mlp_norm, c->d_model)));
    }
    json_append(&json, rounded(root_mean_square(model->final_norm, c->d_model)));
    return json;
}

/* ---- whether it is this model ------------------------------------------------------------- */

/* The largest relative difference of two sketches; 0 where one of them is none. */
static double sketch_difference(const json_t *was, const json_t *is)
{
    double most = 0;
    size_t n = json_array_size(is), i;
    const json_t *number;
    if (json_array_size(was) != n)
        return 0;
    json_array_foreach(was, i, number)
    {
        double a = json_number_value(number), b = json_number_value(json_array_get(is, i));
        double off = fabs(a - b) / fmax(fabs(a), fabs(b));
        most = json_is_number(number) && off > most ? off : most;
    }
    return most;
}

graft_status base_compare(const struct model *model, const json_t *base, char *out, size_t size,
                          graft_error *error)
{
    char print[FINGERPRINT_SIZE];
    const char *was = json_string_value(json_object_get(base, "fingerprint"));
    const char *arch = json_string_value(json_object_get(base, "architecture"));
    graft_status status = base_fingerprint(model, print, error);
    out[0] = '\0';
    if (status != GRAFT_OK)
        return status;
    if (was && strcmp(was, print) != 0) {
        if (arch && strcmp(arch, model->config.architecture) != 0)
            snprintf(out, size, "that is a %.60s, this a %.60s", arch, model->config.architecture);
        else
            snprintf(out, size, "its layers, widths or vocabulary are not this one's");
        return GRAFT_OK;
    }
    json_t *sketch = base_sketch(model);
    if (!sketch)
        return error_set(error, GRAFT_NO_MEMORY, "no memory to compare bases");
    double off = sketch_difference(json_object_get(base, "sketch"), sketch);
    json_decref(sketch);
    if (off > SKETCH_TOLERANCE)
        snprintf(out, size, "of the same shape, but its norms differ by up to %.2g %%", 100 * off);
    return GRAFT_OK;
}

/* ---- cards -------------------------------------------------------------------------------- */

static bool is_text_or_none(const json_t *value)
{
    return value == NULL || json_is_null(value) || json_is_string(value);
}

/* An array of strings, or of numbers. */
static bool is_list_or_none(const json_t *value, bool numbers)
{
    const json_t *item;
    size_t i;
    bool good = value == NULL || json_is_null(value) || json_is_array(value);
    json_array_foreach(value, i, item)
    {
        good = good && (numbers ? json_is_number(item) : json_is_string(item));
    }
    return good;
}

const char *card_wrong_key(const json_t *card)
{
    static const char *const TEXTS[] = {"name", "version", "description", "created", "modified"};
    static const char *const OF_BASE[][2] = {{"name", "base.name"},
                                             {"architecture", "base.architecture"},
                                             {"fingerprint", "base.fingerprint"}};
    const json_t *base = json_object_get(card, "base");
    for (size_t i = 0; i < ARRAY_LEN(TEXTS); i++)
        if (!is_text_or_none(json_object_get(card, TEXTS[i])))
            return TEXTS[i];
    if (!is_list_or_none(json_object_get(card, "tags"), false))
        return "tags";
    if (base && !json_is_null(base) && !json_is_object(base))
        return "base";
    for (size_t i = 0; i < ARRAY_LEN(OF_BASE); i++)
        if (!is_text_or_none(json_object_get(base, OF_BASE[i][0])))
            return OF_BASE[i][1];
    return is_list_or_none(json_object_get(base, "sketch"), true) ? NULL : "base.sketch";
}

graft_status card_check_types(graft_runtime *runtime, const json_t *card, const char *path,
                              bool strict, graft_error *error)
{
    const char *key = card_wrong_key(card);
    if (!key)
        return GRAFT_OK;
    if (strict)
        return error_set(error, GRAFT_FORMAT, "%s: graft.json: \"%s\" has the wrong type", path,
                         key);
    runtime_log(runtime, GRAFT_LOG_WARN,
                "%s: graft.json: \"%s\" has the wrong type and counts for nothing", path, key);
    return GRAFT_OK;
}

static void say(const json_t *card, const char *path, const char *what, char *out, size_t size)
{
    const char *name = json_string_value(json_object_get(card, "name"));
    const char *base = json_string_value(json_object_get(json_object_get(card, "base"), "name"));
    snprintf(out, size, "adapter %.64s%s%.200s%s was made for another base%s%.120s%s: %s",
             name ? name : "", name ? " (" : "", path, name ? ")" : "", base ? " (" : "",
             base ? base : "", base ? ")" : "", what);
}

graft_status base_check(const struct model *model, const json_t *card, const char *path,
                        bool strict, graft_error *error)
{
    char what[160], line[640];
    const json_t *base = json_object_get(card, "base");
    graft_status status = card_check_types(model->runtime, card, path, strict, error);
    if (status != GRAFT_OK || !json_is_object(base))
        return status;
    status = base_compare(model, base, what, sizeof what, error);
    if (status != GRAFT_OK || !what[0])
        return status;
    say(card, path, what, line, sizeof line);
    if (strict)
        return error_set(error, GRAFT_SHAPE, "%s", line);
    runtime_log(model->runtime, GRAFT_LOG_WARN, "%s", line);
    return GRAFT_OK;
}
