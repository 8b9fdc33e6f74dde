/* json.c: strict JSON by jansson, and typed access that names the key it complains about.
 *
 * Jansson bounds the depth of nesting (2048) and its memory grows with the text, whose size the
 * caller bounds.
 */
#include "base_internal.h"

#include <math.h>

graft_status json_parse(const char *text, size_t size, json_t **out, graft_error *error)
{
    const size_t flags = JSON_REJECT_DUPLICATES | JSON_ALLOW_NUL | JSON_DECODE_ANY;
    json_error_t why = {0}; /* jansson leaves the code as it was where it fails without a word */
    json_t *json = json_loadb(size ? text : "", size, flags, &why);
    /* Tokenizer configurations write "no maximum" as an integer of 31 digits: a document with
     * integers beyond 64 bits is read again with all its numbers as doubles. */
    if (!json && json_error_code(&why) == json_error_numeric_overflow)
        json = json_loadb(text, size, flags | JSON_DECODE_INT_AS_REAL, &why);
    /* Without memory jansson often fails without a word. */
    if (!json && (json_error_code(&why) == json_error_out_of_memory || !why.text[0]))
        return error_no_memory(error, size);
    if (!json)
        return error_set(error, GRAFT_FORMAT, "JSON, line %d, column %d: %s", why.line, why.column,
                         why.text);
    *out = json;
    return GRAFT_OK;
}

graft_status json_read(struct mem *mem, const char *path, size_t limit, json_t **out,
                       graft_error *error)
{
    char *text;
    size_t size;
    graft_status status = file_read(mem, path, limit, &text, &size, error);
    if (status != GRAFT_OK)
        return status;
    status = json_parse(text, size, out, error);
    if (status != GRAFT_OK)
        error_at_file(error, path);
    mem_free(mem, text);
    return status;
}

static graft_status wrong(graft_error *error, const char *key, const char *expected)
{
    return error_set(error, GRAFT_FORMAT, "\"%s\" must be %s", key, expected);
}

/* *member is NULL where it is absent or null. */
static graft_status get_member(const json_t *object, const char *key, const json_t **member,
                               graft_error *error)
{
    *member = NULL;
    if (!object || json_is_null(object))
        return GRAFT_OK;
    if (!json_is_object(object))
        return error_set(error, GRAFT_FORMAT, "an object with \"%s\" was expected", key);
    json_t *found = json_object_get(object, key);
    if (!json_is_null(found))
        *member = found;
    return GRAFT_OK;
}

graft_status json_get_int(const json_t *object, const char *key, int64_t min, int64_t max,
                          int64_t *out, graft_error *error)
{
    const json_t *member;
    graft_status status = get_member(object, key, &member, error);
    if (status != GRAFT_OK || !member)
        return status;
    int64_t value;
    double real = json_is_real(member) ? json_real_value(member) : 0.5;
    if (json_is_integer(member))
        value = json_integer_value(member);
    else if (real == floor(real) && fabs(real) <= 0x1p53)
        value = (int64_t)real;
    else
        return wrong(error, key, "an integer");
    if (value < min || value > max)
        return error_set(error, GRAFT_FORMAT, "\"%s\" is %lld, not between %lld and %lld", key,
                         (long long)value, (long long)min, (long long)max);
    *out = value;
    return GRAFT_OK;
}

graft_status json_get_number(const json_t *object, const char *key, double *out, graft_error *error)
{
    const json_t *member;
    graft_status status = get_member(object, key, &member, error);
    if (status != GRAFT_OK || !member)
        return status;
    if (!json_is_number(member))
        return wrong(error, key, "a number");
    *out = json_number_value(member);
    return GRAFT_OK;
}

graft_status json_get_bool(const json_t *object, const char *key, bool *out, graft_error *error)
{
    const json_t *member;
    graft_status status = get_member(object, key, &member, error);
    if (status != GRAFT_OK || !member)
        return status;
    if (!json_is_boolean(member))
        return wrong(error, key, "true or false");
    *out = json_is_true(member);
    return GRAFT_OK;
}

graft_status json_get_string(const json_t *object, const char *key, const char **out,
                             graft_error *error)
{
    const json_t *member;
    graft_status status = get_member(object, key, &member, error);
    if (status != GRAFT_OK || !member)
        return status;
    if (!json_is_string(member))
        return wrong(error, key, "a string");
    /* Cut at a NUL it would be another string than the file says. */
    if (strlen(json_string_value(member)) != json_string_length(member))
        return wrong(error, key, "a string without NUL");
    *out = json_string_value(member);
    return GRAFT_OK;
}

void json_put(json_t **object, const char *key, json_t *value)
{
    if (json_object_set_new(*object, key, value) != 0) {
        json_decref(*object);
        *object = NULL;
    }
}

void json_append(json_t **array, json_t *value)
{
    if (json_array_append_new(*array, value) != 0) {
        json_decref(*array);
        *array = NULL;
    }
}

json_t *json_any_text(const char *text, size_t size)
{
    struct buf clean;
    uint32_t code;
    buf_init(&clean, NULL, SIZE_MAX);
    for (size_t i = 0; i < size;) {
        int n = utf8_decode(text + i, size - i, &code);
        buf_append(&clean, n > 0 ? text + i : "\xEF\xBF\xBD", n > 0 ? (size_t)n : 3);
        i += n > 0 ? (size_t)n : 1;
    }
    json_t *value =
        clean.status == GRAFT_OK ? json_stringn(clean.data ? clean.data : "", clean.size) : NULL;
    buf_free(&clean);
    return value;
}
