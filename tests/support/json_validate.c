/* json_validate.c: a validator of JSON schemas for tests: a function for each keyword, asked in the order of the schema.
 */
#define PCRE2_CODE_UNIT_WIDTH 8
#include "support/json_validate.h"

#include <pcre2.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

struct check {
    const json_t *root;
    char *why;
    size_t size;
};

static bool satisfies(struct check *c, const json_t *schema, const json_t *value);

static const json_t *resolve(const json_t *at, const char *ref)
{
    char step[256];
    for (ref += 1; *ref == '/' && at != NULL;) {
        size_t n = strcspn(++ref, "/");
        snprintf(step, sizeof step, "%.*s", (int)n, ref);
        at = json_object_get(at, step);
        ref += n;
    }
    return at;
}

static bool is_whole(const json_t *v)
{
    double number = json_number_value(v);
    return json_is_integer(v) || (json_is_real(v) && number == (double)(long long)number);
}

static bool is_type(const char *type, const json_t *v)
{
    return strcmp(type, "null") == 0      ? json_is_null(v)
           : strcmp(type, "boolean") == 0 ? json_is_boolean(v)
           : strcmp(type, "integer") == 0 ? is_whole(v)
           : strcmp(type, "number") == 0  ? json_is_number(v)
           : strcmp(type, "string") == 0  ? json_is_string(v)
           : strcmp(type, "array") == 0   ? json_is_array(v)
                                          : strcmp(type, "object") == 0 && json_is_object(v);
}

static bool check_type(const json_t *schema, const json_t *types, const json_t *v)
{
    if (json_is_null(v) && json_is_true(json_object_get(schema, "nullable"))) {
        return true;
    }
    if (json_is_string(types)) {
        return is_type(json_string_value(types), v);
    }
    for (size_t i = 0; i < json_array_size(types); i++) {
        if (is_type(json_string_value(json_array_get(types, i)), v)) {
            return true;
        }
    }
    return false;
}

/* 1 and 1.0 are one number, wherever they stand. */
static bool is_equal(const json_t *a, const json_t *b)
{
    if (json_is_number(a) && json_is_number(b)) {
        return json_number_value(a) == json_number_value(b);
    }
    if (json_is_array(a) && json_is_array(b)) {
        bool same = json_array_size(a) == json_array_size(b);
        for (size_t i = 0; i < json_array_size(a) && same; i++) {
            same = is_equal(json_array_get(a, i), json_array_get(b, i));
        }
        return same;
    }
    if (json_is_object(a) && json_is_object(b)) {
        bool same = json_object_size(a) == json_object_size(b);
        const char *name;
        json_t *member;
        json_object_foreach((json_t *)(uintptr_t)a, name, member)
        {
            const json_t *other = json_object_get(b, name);
            same = same && other != NULL && is_equal(member, other);
        }
        return same;
    }
    return json_equal((json_t *)(uintptr_t)a, (json_t *)(uintptr_t)b) != 0;
}

static bool is_listed(const json_t *list, const json_t *v)
{
    for (size_t i = 0; i < json_array_size(list); i++) {
        if (is_equal(json_array_get(list, i), v)) {
            return true;
        }
    }
    return false;
}

static size_t characters(const json_t *v)
{
    const char *text = json_string_value(v);
    size_t n = 0;
    for (size_t i = 0; i < json_string_length(v); i++) {
        n += ((unsigned char)text[i] & 0xC0) != 0x80;
    }
    return n;
}

static bool finds(const char *pattern, const json_t *v)
{
    int code;
    size_t at;
    pcre2_code *re = pcre2_compile((PCRE2_SPTR)pattern, PCRE2_ZERO_TERMINATED,
                                   PCRE2_UTF | PCRE2_DOLLAR_ENDONLY, &code, &at, NULL);
    pcre2_match_data *data = re != NULL ? pcre2_match_data_create_from_pattern(re, NULL) : NULL;
    bool found = data != NULL && pcre2_match(re, (PCRE2_SPTR)json_string_value(v),
                                             json_string_length(v), 0, 0, data, NULL) >= 0;
    pcre2_match_data_free(data);
    pcre2_code_free(re);
    return found;
}

static bool is_date(const char *text)
{
    int year, month, day, n = 0;
    static const int days[] = {31, 28, 31, 30, 31, 30, 31, 31, 30, 31, 30, 31};
    if (sscanf(text, "%4d-%2d-%2d%n", &year, &month, &day, &n) != 3 || n != 10 || year < 1 ||
        month < 1 || month > 12) {
        return false;
    }
    bool leap = (year % 4 == 0 && year % 100 != 0) || year % 400 == 0;
    return day >= 1 && day <= days[month - 1] + (month == 2 && leap);
}

static bool is_time(const char *text)
{
    int hour, minute, second, n = 0, zone_hour, zone_minute;
    char sign, frac[16];
    if (sscanf(text, "%2d:%2d:%2d%n", &hour, &minute, &second, &n) != 3 || n != 8 || hour > 23 ||
        minute > 59 || second > 59) {
        return false;
    }
    text += n;
    if (sscanf(text, ".%15[0-9]%n", frac, &n) == 1) {
        text += n;
    }
    return strcmp(text, "Z") == 0 ||
           (strlen(text) == 6 && sscanf(text, "%c%2d:%2d", &sign, &zone_hour, &zone_minute) == 3 &&
            (sign == '+' || sign == '-') && zone_hour < 24 && zone_minute < 60);
}

static bool has_format(const char *format, const char *text)
{
    if (strcmp(format, "date") == 0) {
        return is_date(text);
    }
    if (strcmp(format, "time") == 0) {
        return is_time(text);
    }
    if (strcmp(format, "date-time") == 0) {
        char date[11];
        snprintf(date, sizeof date, "%s", text);
        return strlen(text) > 11 && text[10] == 'T' && is_date(date) && is_time(text + 11);
    }
    size_t n = strspn(text, "0123456789abcdef-");
    return strcmp(format, "uuid") == 0 && n == 36 && text[n] == '\0' && text[8] == '-' &&
           text[13] == '-' && text[18] == '-' && text[23] == '-';
}

static size_t how_many(struct check *c, const json_t *list, const json_t *v)
{
    size_t n = 0;
    for (size_t i = 0; i < json_array_size(list); i++) {
        n += satisfies(c, json_array_get(list, i), v);
    }
    return n;
}

/* ---- members and elements ---- */

static bool check_members(struct check *c, const json_t *schema, const json_t *v, bool declared)
{
    const json_t *properties = json_object_get(schema, "properties");
    const json_t *more = json_object_get(schema, "additionalProperties");
    const char *name;
    json_t *member;
    json_object_foreach((json_t *)(uintptr_t)v, name, member)
    {
        const json_t *own = json_object_get(properties, name);
        if (declared ? own != NULL && !satisfies(c, own, member)
                     : own == NULL && !satisfies(c, more, member)) {
            return false;
        }
    }
    return true;
}

static bool check_required(const json_t *names, const json_t *v)
{
    for (size_t i = 0; i < json_array_size(names); i++) {
        if (json_object_get(v, json_string_value(json_array_get(names, i))) == NULL) {
            return false;
        }
    }
    return true;
}

static bool check_elements(struct check *c, const json_t *schema, const json_t *v, bool first)
{
    const json_t *prefix = json_object_get(schema, "prefixItems");
    for (size_t i = 0; i < json_array_size(v); i++) {
        bool own = i < json_array_size(prefix);
        const json_t *element =
            first ? json_array_get(prefix, i) : json_object_get(schema, "items");
        if (own == first && !satisfies(c, element, json_array_get(v, i))) {
            return false;
        }
    }
    return true;
}

/* ---- keywords ---- */

/* Of a kind of value: true for values of other kinds. 2: it is none of these keywords. */
static int check_kind(struct check *c, const char *key, const json_t *x, const json_t *schema,
                      const json_t *v)
{
    double bound = json_number_value(x), number = json_number_value(v);
    bool is_number = json_is_number(v), text = json_is_string(v), array = json_is_array(v),
         object = json_is_object(v);
#define KEYWORD(name, applies, test)                                                               \
    if (strcmp(key, name) == 0) {                                                                  \
        return !(applies) || (test);                                                               \
    }
    KEYWORD("minimum", is_number, number >= bound)
    KEYWORD("maximum", is_number, number <= bound)
    KEYWORD("exclusiveMinimum", is_number, number > bound)
    KEYWORD("exclusiveMaximum", is_number, number < bound)
    KEYWORD("minLength", text, (double)characters(v) >= bound)
    KEYWORD("maxLength", text, (double)characters(v) <= bound)
    KEYWORD("pattern", text, finds(json_string_value(x), v))
    KEYWORD("format", text, has_format(json_string_value(x), json_string_value(v)))
    KEYWORD("minItems", array, (double)json_array_size(v) >= bound)
    KEYWORD("maxItems", array, (double)json_array_size(v) <= bound)
    KEYWORD("prefixItems", array, check_elements(c, schema, v, true))
    KEYWORD("items", array, check_elements(c, schema, v, false))
    KEYWORD("minProperties", object, (double)json_object_size(v) >= bound)
    KEYWORD("maxProperties", object, (double)json_object_size(v) <= bound)
    KEYWORD("properties", object, check_members(c, schema, v, true))
    KEYWORD("additionalProperties", object, check_members(c, schema, v, false))
    KEYWORD("required", object, check_required(x, v))
#undef KEYWORD
    return 2;
}

static bool check_keyword(struct check *c, const char *key, const json_t *x, const json_t *schema,
                          const json_t *v)
{
    if (strcmp(key, "type") == 0) {
        return check_type(schema, x, v);
    }
    if (strcmp(key, "enum") == 0) {
        return is_listed(x, v);
    }
    if (strcmp(key, "const") == 0) {
        return is_equal(x, v);
    }
    if (strcmp(key, "anyOf") == 0) {
        return how_many(c, x, v) > 0;
    }
    if (strcmp(key, "oneOf") == 0) {
        return how_many(c, x, v) == 1;
    }
    if (strcmp(key, "allOf") == 0) {
        return how_many(c, x, v) == json_array_size(x);
    }
    if (strcmp(key, "$ref") == 0) {
        return satisfies(c, resolve(c->root, json_string_value(x)), v);
    }
    int kind = check_kind(c, key, x, schema, v);
    return kind == 2 ? strcmp(key, "nullable") == 0 || strcmp(key, "$defs") == 0 ||
                           strcmp(key, "title") == 0 || strcmp(key, "description") == 0
                     : kind;
}

static bool satisfies(struct check *c, const json_t *schema, const json_t *value)
{
    const char *key;
    json_t *x;
    if (!json_is_object(schema)) {
        return json_is_true(schema);
    }
    json_object_foreach((json_t *)(uintptr_t)schema, key, x)
    {
        if (!check_keyword(c, key, x, schema, value)) {
            size_t used = strlen(c->why);
            snprintf(c->why + used, c->size - used, "%s ", key);
            return false;
        }
    }
    return true;
}

bool json_satisfies(const json_t *root, const json_t *schema, const json_t *value, char *why,
                    size_t size)
{
    struct check c = {root, why, size};
    why[0] = '\0';
    return satisfies(&c, schema, value);
}
