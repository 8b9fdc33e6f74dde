/* card.c: graft.json, what is known of an adapter beside its numbers: made for new ones, and brought along when one is
 * converted. What is said of the base is ../identity.c. */
#include "adapter/save/save_internal.h"

#include <time.h>

enum { MAX_NAME = 64, MAX_TEXT = 4096 };

static graft_status no_memory(graft_error *error)
{
    return error_set(error, GRAFT_NO_MEMORY, "no memory for a card");
}

/* ---- base --------------------------------------------------------------------------------- */

static graft_status hash_tokenizer(const struct model *model, char out[FINGERPRINT_SIZE],
                                   graft_error *error)
{
    const struct tokenizer *t = model->tokenizer;
    struct buf all;
    buf_init(&all, &model->runtime->mem, SIZE_MAX);
    for (int32_t i = 0; i < tokenizer_size(t); i++) {
        size_t length = 0;
        const char *text = tokenizer_token(t, i, &length);
        buf_printf(&all, "%zu:", length);
        buf_append(&all, text ? text : "", length);
    }
    graft_status status = all.status == GRAFT_OK
                              ? base_hash(all.data ? all.data : "", all.size, out, error)
                              : no_memory(error);
    buf_free(&all);
    return status;
}

static graft_status make_base(const struct model *model, const char *name, json_t **out,
                              graft_error *error)
{
    char text[FINGERPRINT_SIZE];
    json_t *json = json_object();
    json_put(&json, "name", json_string(name));
    json_put(&json, "architecture", json_string(model->config.architecture));
    graft_status status = base_fingerprint(model, text, error);
    if (status == GRAFT_OK) {
        json_put(&json, "fingerprint", json_string(text));
        json_put(&json, "sketch", base_sketch(model));
    }
    if (status == GRAFT_OK && model->tokenizer) {
        status = hash_tokenizer(model, text, error);
        json_put(&json, "tokenizer", json_string(text));
    }
    const char *template = model->tokenizer ? tokenizer_chat_template(model->tokenizer) : NULL;
    if (status == GRAFT_OK && template) {
        status = base_hash(template, strlen(template), text, error);
        json_put(&json, "template", json_string(text));
    }
    if (status == GRAFT_OK && !json)
        status = no_memory(error);
    if (status == GRAFT_OK)
        *out = json;
    else
        json_decref(json);
    return status;
}

/* ---- checks ------------------------------------------------------------------------------- */

static bool is_letter_or_digit(char c)
{
    return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9');
}

static bool is_name(const char *text)
{
    size_t n = strlen(text);
    bool ok = n > 0 && n <= MAX_NAME && is_letter_or_digit(text[0]);
    for (size_t i = 0; i < n && ok; i++)
        ok = is_letter_or_digit(text[i]) || strchr("._-", text[i]);
    return ok;
}

/* MAJOR.MINOR.PATCH */
static bool is_version(const char *text)
{
    int dots = 0, digits = 0;
    if (strlen(text) > 31)
        return false;
    for (; *text; text++) {
        if (*text == '.' ? digits == 0 : *text < '0' || *text > '9')
            return false;
        dots += *text == '.';
        digits = *text == '.' ? 0 : digits + 1;
    }
    return dots == 2 && digits > 0;
}

static bool is_text(const char *text, size_t limit)
{
    size_t n = strlen(text);
    uint32_t code;
    for (size_t i = 0, step; i < n; i += step)
        if (!(step = (size_t)utf8_decode(text + i, n - i, &code)))
            return false;
    return n <= limit;
}

graft_status card_check(const struct adapter_recipe *r, graft_error *error)
{
    if (!is_name(r->name))
        return error_set(error, GRAFT_INVALID_ARGUMENT,
                         "\"%.80s\" is no adapter name: a letter or digit, then at most %d "
                         "letters, digits, '.', '_' or '-'",
                         r->name, MAX_NAME - 1);
    if (!is_version(r->version))
        return error_set(error, GRAFT_INVALID_ARGUMENT,
                         "\"%.80s\" is no version: MAJOR.MINOR.PATCH is", r->version);
    if (r->description && !is_text(r->description, MAX_TEXT))
        return error_set(error, GRAFT_INVALID_ARGUMENT,
                         "the description is no UTF-8, or has more than %d bytes", MAX_TEXT);
    for (size_t i = 0; i < r->n_tags; i++)
        if (!r->tags[i][0] || !is_text(r->tags[i], MAX_NAME))
            return error_set(error, GRAFT_INVALID_ARGUMENT, "\"%.80s\" is no tag", r->tags[i]);
    return GRAFT_OK;
}

/* ---- cards -------------------------------------------------------------------------------- */

static json_t *make_now(void)
{
    char text[32] = "";
    time_t now = time(NULL);
    struct tm utc;
    if (gmtime_r(&now, &utc))
        strftime(text, sizeof text, "%Y-%m-%dT%H:%M:%SZ", &utc);
    return json_string(text);
}

static graft_status finish(const struct model *model, const char *base, json_t *card, json_t **out,
                           graft_error *error)
{
    json_t *about = NULL;
    graft_status status = make_base(model, base, &about, error);
    if (status != GRAFT_OK) {
        json_decref(card);
        return status;
    }
    json_put(&card, "modified", make_now());
    json_put(&card, "base", about);
    json_put(&card, "graft", json_string(graft_version()));
    if (!card)
        return no_memory(error);
    *out = card;
    return GRAFT_OK;
}

graft_status card_new(const struct model *model, const struct adapter_recipe *recipe, json_t **out,
                      graft_error *error)
{
    json_t *json = json_object(), *tags = json_array();
    for (size_t i = 0; i < recipe->n_tags; i++)
        json_append(&tags, json_string(recipe->tags[i]));
    json_put(&json, "name", json_string(recipe->name));
    json_put(&json, "version", json_string(recipe->version));
    json_put(&json, "description", json_string(recipe->description ? recipe->description : ""));
    json_put(&json, "tags", tags);
    json_put(&json, "created", make_now());
    return finish(model, recipe->base ? recipe->base : model->path, json, out, error);
}

graft_status card_update(const struct model *model, const json_t *old, const char *name,
                         const char *base, json_t **out, graft_error *error)
{
    if (!old) {
        const struct adapter_recipe recipe = {
            .name = is_name(name) ? name : "adapter", .version = "0.1.0", .base = base};
        return card_new(model, &recipe, out, error);
    }
    json_t *json = json_deep_copy(old);
    if (json && !json_object_get(json, "created"))
        json_put(&json, "created", make_now());
    return finish(model, base, json, out, error);
}
