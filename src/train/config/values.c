/* values.c: values into settings and out of them, with every check of type and range. */
#include "train/config/config_internal.h"

#include <errno.h>
#include <math.h>

/* ---- errors and notes ---------------------------------------------------------------------- */

graft_status config_no_memory(graft_error *error)
{
    return error_set(error, GRAFT_NO_MEMORY, "no memory for settings");
}

graft_status config_wrong(const char *key, const char *wanted, const json_t *value,
                          graft_error *error)
{
    char *shown = json_dumps(value, JSON_ENCODE_ANY | JSON_COMPACT | JSON_REAL_PRECISION(9));
    graft_status status =
        error_set(error, GRAFT_INVALID_ARGUMENT, "%.80s: must be %.200s, not %.60s", key, wanted,
                  shown ? shown : "this");
    free(shown);
    return status;
}

graft_status config_copy(graft_train_config *c, const char *text, const char **out,
                         graft_error *error)
{
    size_t size = strlen(text);
    const char *copy = arena_strndup(&c->texts, text, size);
    if (!copy && c->texts.used + size > CONFIG_ARENA - 64)
        return error_set(error, GRAFT_LIMIT, "the texts of all settings take more than %d MiB",
                         CONFIG_ARENA >> 20);
    if (!copy)
        return config_no_memory(error);
    *out = copy;
    return GRAFT_OK;
}

graft_status config_add_note(graft_train_config *c, graft_error *error, const char *format, ...)
{
    char text[400];
    va_list args;
    if (c->n_notes == CONFIG_NOTES)
        return GRAFT_OK;
    va_start(args, format);
    vsnprintf(text, sizeof text, format, args);
    va_end(args);
    for (size_t i = 0; i < c->n_notes; i++)
        if (!strcmp(c->notes[i], text))
            return GRAFT_OK; /* settings are worked out again with each that is set */
    graft_status status = config_copy(c, text, &c->notes[c->n_notes], error);
    c->n_notes += status == GRAFT_OK;
    return status;
}

/* ---- in ------------------------------------------------------------------------------------ */

static void *member(graft_train_settings *settings, size_t at)
{
    return (char *)settings + at;
}
static const void *member_of(const graft_train_settings *settings, size_t at)
{
    return (const char *)settings + at;
}

static graft_status out_of_range(const struct setting *s, const char *key, const json_t *value,
                                 const char *what, graft_error *error)
{
    char wanted[120];
    snprintf(wanted, sizeof wanted, "%s from %.9g to %.9g", what, s->low, s->high);
    return config_wrong(key, wanted, value, error);
}

/* 1e3 is an integer, too. */
static bool whole_number(const json_t *value, double *out)
{
    *out = json_number_value(value);
    return json_is_number(value) && *out == floor(*out);
}

static graft_status put_integer(graft_train_config *c, const struct setting *s, const char *key,
                                const json_t *value, graft_error *error)
{
    double x;
    if (!whole_number(value, &x) || !(x >= s->low && x <= s->high))
        return out_of_range(s, key, value, "an integer", error);
    uint64_t exact = json_is_integer(value) ? (uint64_t)json_integer_value(value) : (uint64_t)x;
    if (s->kind == SETTING_INT)
        *(int *)member(&c->said, s->at) = (int)x;
    else if (s->kind == SETTING_LONG)
        *(int64_t *)member(&c->said, s->at) = (int64_t)x;
    else if (s->at == offsetof(graft_train_settings, train.seed))
        c->said.train.seed = c->said.dataset.seed = exact;
    else
        *(uint64_t *)member(&c->said, s->at) = exact;
    return GRAFT_OK;
}

/* As a C string; NULL: it is none. */
static const char *text_of(const json_t *value)
{
    const char *text = json_string_value(value);
    return text && *text && strlen(text) == json_string_length(value) ? text : NULL;
}

static graft_status put_text(graft_train_config *c, const struct setting *s, const char *key,
                             const json_t *value, graft_error *error)
{
    const char *text = text_of(value);
    if (!text)
        return config_wrong(key, "a text", value, error);
    return config_copy(c, text, member(&c->said, s->at), error);
}

static graft_status put_choice(graft_train_config *c, const struct setting *s, const char *key,
                               const json_t *value, graft_error *error)
{
    char wanted[160];
    const char *text = text_of(value);
    int place = 0;
    if (!text || strchr(text, ' ') || !words_have(s->choices, text, &place)) {
        snprintf(wanted, sizeof wanted, "one of %s", s->choices);
        return config_wrong(key, wanted, value, error);
    }
    if (s->kind == SETTING_WORD)
        return put_text(c, s, key, value, error);
    if (s->at == offsetof(graft_train_settings, format))
        c->said.format = (graft_adapter_format)place;
    else
        c->said.dataset.loss = (graft_loss)place;
    return GRAFT_OK;
}

/* One text is a list of one. */
static graft_status put_list(graft_train_config *c, const struct setting *s, const char *key,
                             const json_t *value, graft_error *error)
{
    size_t n = json_is_array(value) ? json_array_size(value) : 1;
    if (n > CONFIG_LIST)
        return config_wrong(key, "a list of at most 64 names", value, error);
    const char **items = arena_alloc_packed(&c->texts, (n + 1) * sizeof *items);
    if (!items)
        return config_no_memory(error);
    for (size_t i = 0; i < n; i++) {
        const char *text = text_of(json_is_array(value) ? json_array_get(value, i) : value);
        if (!text)
            return config_wrong(key, "a list of at most 64 names", value, error);
        graft_status status = config_copy(c, text, &items[i], error);
        if (status != GRAFT_OK)
            return status;
    }
    *(const char *const **)member(&c->said, s->at) = items;
    *(size_t *)member(&c->said, s->count) = n;
    return GRAFT_OK;
}

graft_status setting_put(graft_train_config *c, const struct setting *s, const char *key,
                         const json_t *value, graft_error *error)
{
    switch (s->kind) {
    case SETTING_BOOL:
        if (!json_is_boolean(value))
            return config_wrong(key, "true or false", value, error);
        *(bool *)member(&c->said, s->at) = json_is_true(value);
        return GRAFT_OK;
    case SETTING_NUMBER:
        if (!json_is_number(value) ||
            !(json_number_value(value) >= s->low && json_number_value(value) <= s->high))
            return out_of_range(s, key, value, "a number", error);
        *(double *)member(&c->said, s->at) = json_number_value(value);
        return GRAFT_OK;
    case SETTING_TEXT:
        return put_text(c, s, key, value, error);
    case SETTING_WORD:
    case SETTING_CHOICE:
        return put_choice(c, s, key, value, error);
    case SETTING_LIST:
        return put_list(c, s, key, value, error);
    default:
        return put_integer(c, s, key, value, error);
    }
}

graft_status config_put(graft_train_config *c, const char *name, const char *key,
                        const json_t *value, graft_error *error)
{
    const struct setting *s = setting_find(name);
    return s ? setting_put(c, s, key, value, error)
             : error_set(error, GRAFT_INTERNAL, "no setting %s", name);
}

/* ---- out ----------------------------------------------------------------------------------- */

static json_t *word_at(const char *words, size_t place)
{
    for (; place > 0; place--)
        words += strcspn(words, " ") + 1;
    return json_stringn(words, strcspn(words, " "));
}

static json_t *list_of(const graft_train_settings *settings, const struct setting *s)
{
    const char *const *items = *(const char *const *const *)member_of(settings, s->at);
    size_t n = *(const size_t *)member_of(settings, s->count);
    json_t *list = json_array();
    for (size_t i = 0; i < n; i++)
        json_append(&list, json_string(items[i]));
    return list;
}

json_t *setting_get(const graft_train_settings *settings, const struct setting *s, bool *failed)
{
    const void *at = member_of(settings, s->at);
    json_t *value = NULL;
    switch (s->kind) {
    case SETTING_BOOL:
        value = json_boolean(*(const bool *)at);
        break;
    case SETTING_INT:
        value = json_integer(*(const int *)at);
        break;
    case SETTING_LONG:
        value = json_integer(*(const int64_t *)at);
        break;
    case SETTING_SEED:
        value = json_integer((json_int_t) * (const uint64_t *)at);
        break;
    case SETTING_NUMBER:
        value = json_real(*(const double *)at);
        break;
    case SETTING_CHOICE:
        value = word_at(s->choices, s->at == offsetof(graft_train_settings, format)
                                        ? (size_t)settings->format
                                        : (size_t)settings->dataset.loss);
        break;
    case SETTING_LIST:
        if (*(const size_t *)member_of(settings, s->count) == 0)
            return NULL;
        value = list_of(settings, s);
        break;
    default:
        if (!*(const char *const *)at || !**(const char *const *)at)
            return NULL;
        value = json_any_text(*(const char *const *)at, strlen(*(const char *const *)at));
    }
    *failed = *failed || !value;
    return value;
}

/* ---- text ---------------------------------------------------------------------------------- */

static json_t *split(const char *text)
{
    json_t *list = json_array();
    while (*text) {
        size_t n = strcspn(text, ", ");
        if (n > 0)
            json_append(&list, json_stringn(text, n));
        text += n;
        text += strspn(text, ", ");
    }
    return list;
}

json_t *setting_from_text(const struct setting *s, const char *text)
{
    if (s && s->kind == SETTING_LIST)
        return split(text);
    if (s && (s->kind == SETTING_TEXT || s->kind == SETTING_WORD || s->kind == SETTING_CHOICE))
        return json_string(text);
    return !s && strchr(text, ',') ? split(text) : yaml_plain(text, strlen(text));
}
