/* schema_merge.c: schemas that are joined: $ref, allOf, branches beside other keywords, and whether two can hold at once.
 *
 * What satisfies two schemas is written as one where each keyword has a meet: kinds and values in common, the narrower bound, the
 * members of both. Where it has none (two patterns, two lists of alternatives) the keyword is refused.
 */
#include "schema_internal.h"

/* ---- $ref ---- */

/* One step of a JSON pointer, with ~0 and ~1 and %XX undone; *at is moved behind it. false: it is too long or malformed. */
static bool read_step(const char **at, char *out, size_t room)
{
    size_t n = 0;
    const char *p = *at;
    for (; *p != '\0' && *p != '/' && n + 1 < room; p++) {
        char c = *p;
        uint8_t byte;
        if (c == '~' && (p[1] == '0' || p[1] == '1')) {
            c = *++p == '0' ? '~' : '/';
        } else if (c == '%' && p[1] != '\0' && p[2] != '\0' &&
                   hex_read((char[]){p[1], p[2], '\0'}, &byte, 1)) {
            c = (char)byte;
            p += 2;
        }
        out[n++] = c;
    }
    out[n] = '\0';
    *at = p;
    return *p == '\0' || *p == '/';
}

json_t *schema_resolve(struct schema *s, const char *ref)
{
    char step[512];
    json_t *value = s->root;
    const char *at = ref + 1;
    if (ref[0] != '#' || (at[0] != '\0' && at[0] != '/')) {
        schema_refuse(s, "$ref", "it is no place in this schema (#/...)");
        return NULL;
    }
    while (value != NULL && *at == '/') {
        at++;
        if (!read_step(&at, step, sizeof step)) {
            value = NULL;
        } else if (json_is_array(value)) {
            char *end;
            unsigned long index = strtoul(step, &end, 10);
            value = end > step && *end == '\0' ? json_array_get(value, index) : NULL;
        } else {
            value = json_object_get(value, step);
        }
    }
    if (value == NULL) {
        char why[120];
        snprintf(why, sizeof why, "refers to \"%.80s\", which is not there", ref);
        schema_wrong(s, "$ref", why);
    }
    return value;
}

/* ---- flat schemas ---- */

/* The keywords that are its own, with `nullable` said by `type`. */
static json_t *own_keywords(struct schema *s, json_t *schema)
{
    json_t *flat = schema_keep(s, json_object()), *value;
    const char *key;
    bool ok = flat != NULL;
    json_object_foreach(schema, key, value)
    {
        if (ok && !schema_is_annotation(key) && strcmp(key, "$ref") != 0 &&
            strcmp(key, "allOf") != 0 && strcmp(key, "nullable") != 0) {
            ok = json_object_set(flat, key, value) == 0;
        }
    }
    if (ok && json_is_true(json_object_get(schema, "nullable"))) {
        json_t *type = json_object_get(schema, "type");
        if (type == NULL) {
            schema_refuse(s, "nullable", "no type stands beside it");
            return NULL;
        }
        json_t *types = json_is_array(type) ? schema_copy(type) : json_pack("[O]", type);
        ok = types != NULL && json_array_append_new(types, json_string("null")) == 0;
        ok = json_object_set_new(flat, "type", types) == 0 && ok;
    }
    if (!ok) {
        builder_fail(s->b, GRAFT_NO_MEMORY, "no memory for a schema");
    }
    return ok ? flat : NULL;
}

json_t *schema_flatten(struct schema *s, json_t *schema, int depth)
{
    if (json_is_boolean(schema)) {
        return schema;
    }
    if (!json_is_object(schema)) {
        builder_fail(s->b, GRAFT_FORMAT, "%s is no schema: neither an object nor true or false",
                     s->place);
        return NULL;
    }
    if (depth > SCHEMA_DEPTH) {
        builder_fail(s->b, GRAFT_LIMIT, "%s refers to itself, or is nested too deeply", s->place);
        return NULL;
    }
    json_t *flat = own_keywords(s, schema), *ref = json_object_get(schema, "$ref"),
           *all = json_object_get(schema, "allOf");
    if (flat != NULL && ref != NULL) {
        json_t *target = NULL;
        if (json_is_string(ref)) {
            target = schema_resolve(s, json_string_value(ref));
        } else {
            schema_wrong(s, "$ref", "is no text");
        }
        target = target != NULL ? schema_flatten(s, target, depth + 1) : NULL;
        flat = target != NULL ? schema_merge(s, flat, target) : NULL;
    }
    if (all != NULL && !json_is_array(all)) {
        schema_wrong(s, "allOf", "is no list of schemas");
        return NULL;
    }
    for (size_t i = 0; i < json_array_size(all) && flat != NULL; i++) {
        json_t *part = schema_flatten(s, json_array_get(all, i), depth + 1);
        flat = part != NULL ? schema_merge(s, flat, part) : NULL;
    }
    return flat;
}

/* ---- meets of keywords ---- */

/* Both, as a schema to be looked into later. A new reference. */
static json_t *both(json_t *a, json_t *b)
{
    return json_pack("{s:[O,O]}", "allOf", a, b);
}

static const char *const kind_words[] = {"null",   "boolean", "integer", "number",
                                         "string", "array",   "object"};

static json_t *meet_types(struct schema *s, json_t *a, json_t *b)
{
    int kinds = schema_kinds(s, a) & schema_kinds(s, b);
    json_t *list = json_array();
    for (size_t i = 0; i < ARRAY_LEN(kind_words); i++) {
        bool said = kinds & (1 << i);
        if (i == 2 && (kinds & KIND_NUMBER)) {
            said = false; /* "number" says it */
        }
        if (said) {
            json_append(&list, json_string(kind_words[i]));
        }
    }
    return list;
}

static json_t *meet_values(json_t *a, json_t *b)
{
    json_t *list = json_array();
    for (size_t i = 0; i < json_array_size(a) && list != NULL; i++) {
        for (size_t k = 0; k < json_array_size(b) && list != NULL; k++) {
            if (json_equal(json_array_get(a, i), json_array_get(b, k))) {
                json_append(&list, json_incref(json_array_get(a, i)));
                break;
            }
        }
    }
    return list;
}

static json_t *join_names(json_t *a, json_t *b)
{
    json_t *list = json_is_array(a) && json_is_array(b) ? schema_copy(a) : NULL;
    for (size_t i = 0; i < json_array_size(b) && list != NULL; i++) {
        json_append(&list, json_incref(json_array_get(b, i)));
    }
    return list;
}

/* The larger (side 1) or the smaller. */
static json_t *narrower(json_t *a, json_t *b, int side)
{
    if (!json_is_number(a) || !json_is_number(b)) {
        return NULL;
    }
    bool a_larger = json_number_value(a) > json_number_value(b);
    return json_incref(a_larger == (side > 0) ? a : b);
}

/* properties and additionalProperties of two: a member that one of them does not declare is what it says of others. */
static json_t *meet_members(json_t *a, json_t *b)
{
    json_t *ours = json_object_get(a, "properties"), *theirs = json_object_get(b, "properties");
    json_t *a_more = json_object_get(a, "additionalProperties"),
           *b_more = json_object_get(b, "additionalProperties"), *value;
    json_t *members = json_object();
    const char *name;
    json_object_foreach(ours, name, value)
    {
        json_t *other = json_object_get(theirs, name);
        other = other != NULL ? other : b_more;
        json_put(&members, name, other != NULL ? both(value, other) : json_incref(value));
    }
    json_object_foreach(theirs, name, value)
    {
        if (json_object_get(ours, name) == NULL) {
            json_put(&members, name, a_more != NULL ? both(value, a_more) : json_incref(value));
        }
    }
    return members;
}

/* The meet of one keyword that both have. A new reference; NULL: there is none, or no memory (*known false: no meet). */
static json_t *meet_keyword(struct schema *s, const char *key, json_t *a, json_t *b, bool *known)
{
    json_t *x = json_object_get(a, key), *y = json_object_get(b, key);
    static const char *const largest[] = {"minimum", "exclusiveMinimum", "minLength", "minItems",
                                          "minProperties"};
    static const char *const least[] = {"maximum", "exclusiveMaximum", "maxLength", "maxItems",
                                        "maxProperties"};
    *known = true;
    if (json_equal(x, y)) {
        return json_incref(x);
    }
    for (size_t i = 0; i < ARRAY_LEN(largest); i++) {
        if (strcmp(key, largest[i]) == 0 || strcmp(key, least[i]) == 0) {
            json_t *bound = narrower(x, y, strcmp(key, largest[i]) == 0 ? 1 : -1);
            *known = bound != NULL;
            return bound;
        }
    }
    if (strcmp(key, "type") == 0) {
        return meet_types(s, a, b);
    }
    if (strcmp(key, "enum") == 0) {
        return meet_values(x, y);
    }
    if (strcmp(key, "required") == 0) {
        return join_names(x, y);
    }
    if (strcmp(key, "additionalProperties") == 0 ||
        (strcmp(key, "items") == 0 && !json_is_array(x) && !json_is_array(y) &&
         json_object_get(a, "prefixItems") == NULL && json_object_get(b, "prefixItems") == NULL)) {
        return both(x, y);
    }
    *known = strcmp(key, "const") == 0; /* two constants that differ */
    return NULL;
}

static bool has_member_words(const json_t *schema)
{
    return json_object_get(schema, "properties") != NULL ||
           json_object_get(schema, "additionalProperties") != NULL;
}

/* Elements by place on one side and for all on the other would have to be taken apart. */
static bool elements_clash(const json_t *a, const json_t *b)
{
    return json_object_get(a, "prefixItems") != NULL && json_object_get(b, "items") != NULL;
}

json_t *schema_merge(struct schema *s, json_t *a, json_t *b)
{
    if (json_is_boolean(a) || json_is_boolean(b)) {
        return json_is_false(a) || json_is_true(b) ? a : b;
    }
    json_t *merged = schema_keep(s, schema_copy(a)), *value;
    const char *key;
    bool known = true;
    if (merged == NULL) {
        return NULL;
    }
    if (elements_clash(a, b) || elements_clash(b, a)) {
        schema_refuse(s, "prefixItems", "another schema that is joined to it has items");
        return NULL;
    }
    json_object_foreach(b, key, value)
    {
        bool ours = json_object_get(a, key) != NULL;
        if (ours && strcmp(key, "properties") == 0) {
            continue;
        }
        json_t *met = ours ? meet_keyword(s, key, a, b, &known) : json_incref(value);
        if (met == NULL && known && strcmp(key, "const") == 0) {
            return schema_keep(s, json_false());
        }
        if (!known) {
            schema_refuse(s, key, "schemas that are joined both have it");
            return NULL;
        }
        if (met == NULL || json_object_set_new(merged, key, met) != 0) {
            builder_fail(s->b, GRAFT_NO_MEMORY, "no memory for a schema");
            return NULL;
        }
    }
    if (has_member_words(a) && has_member_words(b) &&
        json_object_set_new(merged, "properties", meet_members(a, b)) != 0) {
        builder_fail(s->b, GRAFT_NO_MEMORY, "no memory for a schema");
        return NULL;
    }
    return s->b->status == GRAFT_OK ? merged : NULL;
}

/* ---- schemas that exclude each other ---- */

/* The values that a schema lists: those of enum, or of const in `one`; NULL: it lists none. */
static const json_t *listed(const json_t *schema, size_t *n, const json_t **one)
{
    const json_t *values = json_object_get(schema, "enum");
    *one = json_object_get(schema, "const");
    *n = *one != NULL ? 1 : json_array_size(values);
    return *one != NULL ? *one : values;
}

static bool values_apart(const json_t *a, const json_t *b)
{
    const json_t *one_a, *one_b;
    size_t n_a, n_b;
    if (listed(a, &n_a, &one_a) == NULL || listed(b, &n_b, &one_b) == NULL) {
        return false;
    }
    for (size_t i = 0; i < n_a; i++) {
        const json_t *x = one_a != NULL ? one_a : json_array_get(json_object_get(a, "enum"), i);
        for (size_t k = 0; k < n_b; k++) {
            const json_t *y = one_b != NULL ? one_b : json_array_get(json_object_get(b, "enum"), k);
            bool numbers = json_is_number(x) && json_is_number(y); /* 1 and 1.0 are one value */
            bool nested = json_is_object(x) || json_is_array(x);
            if ((nested && json_typeof(x) == json_typeof(y)) ||
                (numbers ? json_number_value(x) == json_number_value(y)
                         : json_equal((json_t *)(uintptr_t)x, (json_t *)(uintptr_t)y))) {
                return false;
            }
        }
    }
    return true;
}

/* Whether numbers up to some bound of `a` are below all that `b` allows. */
static bool range_below(const json_t *a, const json_t *b, const char *most, const char *least)
{
    const json_t *x = json_object_get(a, most), *y = json_object_get(b, least);
    return json_is_number(x) && json_is_number(y) && json_number_value(x) < json_number_value(y);
}

static bool requires(const json_t *schema, const char *name)
{
    const json_t *required = json_object_get(schema, "required");
    for (size_t i = 0; i < json_array_size(required); i++) {
        const char *text = json_string_value(json_array_get(required, i));
        if (text != NULL && strcmp(text, name) == 0) {
            return true;
        }
    }
    return false;
}

/* Whether an object that is generated for `a` can have no member of this name. */
static bool never_has(const json_t *a, const char *name)
{
    const json_t *properties = json_object_get(a, "properties"),
                 *more = json_object_get(a, "additionalProperties");
    bool closed = more == NULL ? json_object_size(properties) > 0 : json_is_false(more);
    const json_t *own = json_object_get(properties, name);
    return own != NULL ? json_is_false(own) : closed && !requires(a, name);
}

/* Whether no object that is generated for `a` satisfies `b`. */
static bool objects_apart(struct schema *s, json_t *a, json_t *b, int depth)
{
    json_t *required = json_object_get(b, "required"), *theirs = json_object_get(b, "properties"),
           *ours = json_object_get(a, "properties"), *value;
    const char *name;
    for (size_t i = 0; i < json_array_size(required); i++) {
        const char *text = json_string_value(json_array_get(required, i));
        if (text != NULL && never_has(a, text)) {
            return true;
        }
    }
    json_object_foreach(ours, name, value)
    {
        json_t *other = json_object_get(theirs, name);
        if (!requires(a, name)) {
            continue;
        }
        if (other == NULL && json_is_false(json_object_get(b, "additionalProperties"))) {
            return true;
        }
        json_t *x = other != NULL ? schema_flatten(s, value, 0) : NULL;
        json_t *y = x != NULL ? schema_flatten(s, other, 0) : NULL;
        if (y != NULL && schema_apart(s, x, y, depth + 1)) {
            return true;
        }
    }
    return false;
}

bool schema_apart(struct schema *s, json_t *a, json_t *b, int depth)
{
    enum { LOOK_DEPTH = 4 };
    if (json_is_boolean(a) || json_is_boolean(b)) {
        return json_is_false(a) || json_is_false(b);
    }
    int common = (schema_generated_kinds(s, a) & schema_kinds(s, b)) |
                 (schema_generated_kinds(s, b) & schema_kinds(s, a));
    if (common == 0 || values_apart(a, b)) {
        return true;
    }
    const char *const most[] = {"maximum", "maxLength", "maxItems"}, *const least[] = {"minimum",
                                                                                       "minLength",
                                                                                       "minItems"};
    static const int kinds[] = {KIND_NUMBER | KIND_INTEGER, KIND_STRING, KIND_ARRAY};
    for (int i = 0; i < 3; i++) {
        if ((common & kinds[i]) &&
            (range_below(a, b, most[i], least[i]) || range_below(b, a, most[i], least[i]))) {
            common &= ~kinds[i];
        }
    }
    if ((common & KIND_OBJECT) && depth < LOOK_DEPTH && objects_apart(s, a, b, depth) &&
        objects_apart(s, b, a, depth)) {
        common &= ~KIND_OBJECT;
    }
    return common == 0;
}
