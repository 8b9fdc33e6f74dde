/* schema.c: a JSON schema to a grammar: the queue of rules, keywords of any kind, alternatives, constants, any JSON.
 *
 * What belongs to one kind of value is in schema_object.c, schema_text.c and schema_number.c; what joins schemas in
 * schema_merge.c. Every keyword of a schema is known here, passed over as an annotation, or refused.
 */
#include "schema_internal.h"

enum { MADE_MAX = 1 << 20 }; /* members of all schemas that were made of others */

/* ---- errors and places ---- */

expr_id schema_refuse(struct schema *s, const char *keyword, const char *why)
{
    return builder_fail(s->b, GRAFT_UNSUPPORTED, "\"%s\" at %s cannot be held to%s%s", keyword,
                        s->place, why[0] != '\0' ? ": " : "", why);
}

expr_id schema_wrong(struct schema *s, const char *keyword, const char *why)
{
    return builder_fail(s->b, GRAFT_FORMAT, "\"%s\" at %s %s", keyword, s->place, why);
}

json_t *schema_keep(struct schema *s, json_t *value)
{
    s->made_size += 1 + json_object_size(value) + json_array_size(value);
    if (s->made_size > MADE_MAX) {
        builder_fail(s->b, GRAFT_LIMIT,
                     "the schema is too large with its alternatives written out");
        json_decref(value);
        return NULL;
    }
    if (value == NULL || json_array_append_new(s->made, value) != 0) {
        builder_fail(s->b, GRAFT_NO_MEMORY, "no memory for a schema");
        return NULL;
    }
    return value;
}

json_t *schema_copy(json_t *value)
{
    json_t *copy = json_copy(value);
    if (copy != NULL && (json_object_size(copy) != json_object_size(value) ||
                         json_array_size(copy) != json_array_size(value))) {
        json_decref(copy); /* jansson does not say that it ran out of memory halfway */
        copy = NULL;
    }
    return copy;
}

static int32_t add_pending(struct schema *s, json_t *schema, const char *place, const char *more)
{
    if (s->n_queue == s->queue_room) {
        size_t room = 2 * s->queue_room + 64;
        struct pending *grown = mem_resize(s->b->mem, s->queue, room * sizeof *grown);
        if (grown == NULL) {
            return builder_fail(s->b, GRAFT_NO_MEMORY, "no memory for a schema");
        }
        s->queue = grown;
        s->queue_room = room;
    }
    char where[200]; /* places are for people: long ones are cut */
    snprintf(where, sizeof where, "%s%s", place, more);
    int32_t rule = rule_add(s->b, where, strlen(where));
    if (rule >= 0) {
        s->queue[s->n_queue++] = (struct pending){schema, (char *)s->b->rules[rule].name, rule};
    }
    return rule;
}

int32_t schema_rule(struct schema *s, json_t *schema, const char *more)
{
    return add_pending(s, schema, s->place, more);
}

/* ---- keywords ---- */

static bool is_one_of(const char *word, const char *const *list)
{
    for (; *list != NULL; list++) {
        if (strcmp(word, *list) == 0) {
            return true;
        }
    }
    return false;
}

bool schema_is_annotation(const char *keyword)
{
    static const char *const annotations[] = {
        "title",   "description", "default",     "examples", "example",   "$comment",
        "$schema", "$defs",       "definitions", "readOnly", "writeOnly", "deprecated",
        "$id",     "id",          "$anchor",     NULL};
    return is_one_of(keyword, annotations) || strncmp(keyword, "x-", 2) == 0;
}

static const char *const object_words[] = {"properties",    "required",      "additionalProperties",
                                           "minProperties", "maxProperties", NULL};
static const char *const array_words[] = {
    "items", "prefixItems", "additionalItems", "minItems", "maxItems", "uniqueItems", NULL};
static const char *const string_words[] = {"minLength", "maxLength", "pattern", "format", NULL};
static const char *const number_words[] = {"minimum",          "maximum",    "exclusiveMinimum",
                                           "exclusiveMaximum", "multipleOf", NULL};
static const char *const other_words[] = {"type",  "enum", "const",    "anyOf", "oneOf",
                                          "allOf", "$ref", "nullable", NULL};

static bool check_keywords(struct schema *s, json_t *schema)
{
    const char *key;
    json_t *value;
    json_object_foreach(schema, key, value)
    {
        if (!schema_is_annotation(key) && !is_one_of(key, other_words) &&
            !is_one_of(key, object_words) && !is_one_of(key, array_words) &&
            !is_one_of(key, string_words) && !is_one_of(key, number_words)) {
            schema_refuse(s, key, "");
            return false;
        }
    }
    return true;
}

static bool has_any(const json_t *schema, const char *const *words)
{
    for (; *words != NULL; words++) {
        if (json_object_get(schema, *words) != NULL) {
            return true;
        }
    }
    return false;
}

int64_t schema_count(struct schema *s, const json_t *schema, const char *keyword, int64_t absent)
{
    const json_t *value = json_object_get(schema, keyword);
    if (value == NULL) {
        return absent;
    }
    double number = json_is_number(value) ? json_number_value(value) : -1;
    if (!(number >= 0) || (number < 1e15 && number != (double)(int64_t)number)) {
        return schema_wrong(s, keyword, "is no whole number from 0 on");
    }
    return number < REPEAT_MAX ? (int64_t)number : REPEAT_MAX;
}

/* ---- kinds ---- */

static const struct {
    const char *name;
    int kind;
} kind_names[] = {{"null", KIND_NULL},       {"boolean", KIND_BOOLEAN},
                  {"integer", KIND_INTEGER}, {"number", KIND_NUMBER | KIND_INTEGER},
                  {"string", KIND_STRING},   {"array", KIND_ARRAY},
                  {"object", KIND_OBJECT}};

static int kind_named(struct schema *s, const json_t *name)
{
    for (size_t i = 0; json_is_string(name) && i < ARRAY_LEN(kind_names); i++) {
        if (strcmp(json_string_value(name), kind_names[i].name) == 0) {
            return kind_names[i].kind;
        }
    }
    schema_wrong(s, "type", "is none of null, boolean, integer, number, string, array, object");
    return 0;
}

int schema_kinds(struct schema *s, const json_t *schema)
{
    const json_t *type = json_object_get(schema, "type");
    int kinds = 0;
    if (type == NULL) {
        return KIND_ANY;
    }
    if (!json_is_array(type)) {
        kinds = kind_named(s, type);
    }
    for (size_t i = 0; i < json_array_size(type); i++) {
        kinds |= kind_named(s, json_array_get(type, i));
    }
    return kinds;
}

static int kind_of_value(const json_t *value)
{
    switch (json_typeof(value)) {
    case JSON_NULL:
        return KIND_NULL;
    case JSON_TRUE:
    case JSON_FALSE:
        return KIND_BOOLEAN;
    case JSON_INTEGER:
        return KIND_INTEGER;
    case JSON_REAL: {
        double real = json_real_value(value);
        return real > -1e15 && real < 1e15 && real == (double)(int64_t)real ? KIND_INTEGER
                                                                            : KIND_NUMBER;
    }
    case JSON_STRING:
        return KIND_STRING;
    case JSON_ARRAY:
        return KIND_ARRAY;
    default:
        return KIND_OBJECT;
    }
}

int schema_generated_kinds(struct schema *s, const json_t *schema)
{
    int kinds = schema_kinds(s, schema), spoken = 0;
    const json_t *constant = json_object_get(schema, "const"),
                 *values = json_object_get(schema, "enum");
    if (constant != NULL || values != NULL) {
        spoken = constant != NULL ? kind_of_value(constant) : 0;
        for (size_t i = 0; constant == NULL && i < json_array_size(values); i++) {
            spoken |= kind_of_value(json_array_get(values, i));
        }
        return kinds & spoken;
    }
    if (json_object_get(schema, "type") != NULL) {
        return kinds;
    }
    spoken |= has_any(schema, object_words) ? KIND_OBJECT : 0;
    spoken |= has_any(schema, array_words) ? KIND_ARRAY : 0;
    spoken |= has_any(schema, string_words) ? KIND_STRING : 0;
    spoken |= has_any(schema, number_words) ? KIND_NUMBER | KIND_INTEGER : 0;
    return spoken != 0 ? spoken : kinds;
}

/* ---- pieces ---- */

/* A rule that is made once: `slot` is -1 until then. true: it has to be defined now. */
static bool first_use(struct schema *s, int32_t *slot, const char *name)
{
    if (*slot >= 0) {
        return false;
    }
    *slot = rule_add(s->b, name, strlen(name));
    return *slot >= 0;
}

expr_id schema_colon(struct schema *s)
{
    return EXPR_SEQ_OF(s->b, expr_text(s->b, ":"), expr_repeat(s->b, expr_text(s->b, " "), 0, 1));
}

expr_id schema_space(struct schema *s)
{
    if (first_use(s, &s->space, "space")) {
        struct builder *b = s->b;
        enum { BLANKS = 20, TABS = 8 };
        expr_id lines = EXPR_ALT_OF(b, expr_repeat(b, expr_text(b, " "), 0, BLANKS),
                                    expr_repeat(b, expr_text(b, "\t"), 1, TABS));
        rule_define(b, s->space,
                    EXPR_ALT_OF(b, expr_text(b, ""), expr_text(b, " "),
                                EXPR_SEQ_OF(b, expr_text(b, "\n"), lines)));
    }
    return expr_call(s->b, s->space, false);
}

static expr_id constant_members(struct schema *s, const json_t *value, int depth)
{
    struct builder *b = s->b;
    bool object = json_is_object(value);
    expr_id list = EXPR_SEQ_OF(b, expr_text(b, object ? "{" : "["), schema_space(s));
    size_t n = object ? json_object_size(value) : json_array_size(value), i = 0;
    void *at = object ? json_object_iter((json_t *)(uintptr_t)value) : NULL;
    for (; i < n; i++) {
        if (i > 0) {
            expr_add(b, list, EXPR_SEQ_OF(b, expr_text(b, ","), schema_space(s)));
        }
        if (object) {
            const char *key = json_object_iter_key(at);
            expr_add(b, list, schema_text(s, key, strlen(key)));
            expr_add(b, list, schema_colon(s));
        }
        expr_add(b, list,
                 schema_constant(s, object ? json_object_iter_value(at) : json_array_get(value, i),
                                 depth + 1));
        at = object ? json_object_iter_next((json_t *)(uintptr_t)value, at) : NULL;
    }
    expr_add(b, list, EXPR_SEQ_OF(b, schema_space(s), expr_text(b, object ? "}" : "]")));
    return list;
}

expr_id schema_constant(struct schema *s, const json_t *value, int depth)
{
    char number[DECIMAL_SIZE];
    if (depth > PARSE_DEPTH) {
        return builder_fail(s->b, GRAFT_LIMIT, "a value at %s is nested too deeply", s->place);
    }
    switch (json_typeof(value)) {
    case JSON_NULL:
        return expr_text(s->b, "null");
    case JSON_TRUE:
        return expr_text(s->b, "true");
    case JSON_FALSE:
        return expr_text(s->b, "false");
    case JSON_INTEGER:
        snprintf(number, sizeof number, "%" JSON_INTEGER_FORMAT, json_integer_value(value));
        return expr_text(s->b, number);
    case JSON_REAL:
        decimal_print(json_real_value(value), number);
        return expr_text(s->b, number);
    case JSON_STRING:
        return schema_text(s, json_string_value(value), json_string_length(value));
    default:
        return constant_members(s, value, depth);
    }
}

/* An array or object of anything. */
static expr_id any_members(struct schema *s, bool object, int depth)
{
    struct builder *b = s->b;
    expr_id member = expr_list(b, EXPR_SEQ);
    if (object) {
        b->unique_keys = true;
        expr_add(b, member, schema_free_name(s));
        expr_add(b, member, schema_colon(s));
    }
    expr_add(b, member, schema_any(s, KIND_ANY, depth + 1));
    int32_t rule = rule_add(b, "member", 6);
    rule_define(b, rule, member);
    expr_id more = EXPR_SEQ_OF(b, expr_text(b, ","), schema_space(s), expr_call(b, rule, true));
    expr_id some = EXPR_SEQ_OF(b, expr_call(b, rule, true), expr_repeat(b, more, 0, -1));
    return EXPR_SEQ_OF(b, expr_text(b, object ? "{" : "["), schema_space(s),
                       expr_repeat(b, some, 0, 1), schema_space(s),
                       expr_text(b, object ? "}" : "]"));
}

static expr_id any_of_kinds(struct schema *s, int kinds, int depth)
{
    struct builder *b = s->b;
    expr_id list = expr_list(b, EXPR_ALT);
    if (kinds & KIND_NULL) {
        expr_add(b, list, expr_text(b, "null"));
    }
    if (kinds & KIND_BOOLEAN) {
        expr_add(b, list, EXPR_ALT_OF(b, expr_text(b, "true"), expr_text(b, "false")));
    }
    if (kinds & (KIND_NUMBER | KIND_INTEGER)) {
        expr_add(b, list, schema_number(s, NULL, !(kinds & KIND_NUMBER)));
    }
    if (kinds & KIND_STRING) {
        expr_add(b, list, schema_any_string(s));
    }
    if ((kinds & KIND_ARRAY) && depth < ANY_DEPTH) {
        expr_add(b, list, any_members(s, false, depth));
    }
    if ((kinds & KIND_OBJECT) && depth < ANY_DEPTH) {
        expr_add(b, list, any_members(s, true, depth));
    }
    return list;
}

expr_id schema_any(struct schema *s, int kinds, int depth)
{
    if (kinds != KIND_ANY) {
        return any_of_kinds(s, kinds, depth);
    }
    if (first_use(s, &s->any[depth], "any JSON")) {
        rule_define(s->b, s->any[depth], any_of_kinds(s, kinds, depth));
    }
    return expr_call(s->b, s->any[depth], false);
}

/* ---- alternatives ---- */

static expr_id compile(struct schema *s, json_t *schema);

/* The same without some keyword. Borrowed. */
static json_t *without(struct schema *s, json_t *schema, const char *keyword)
{
    json_t *copy = schema_keep(s, schema_copy(schema));
    if (copy != NULL) {
        json_object_del(copy, keyword);
    }
    return copy;
}

static bool says_nothing(json_t *schema)
{
    const char *key;
    json_t *value;
    json_object_foreach(schema, key, value)
    {
        if (!schema_is_annotation(key)) {
            return false;
        }
    }
    return true;
}

/* oneOf: no value may satisfy two branches. */
static bool check_apart(struct schema *s, json_t *list)
{
    json_t *flat[PARSE_DEPTH];
    size_t n = json_array_size(list);
    if (n > ARRAY_LEN(flat)) {
        schema_refuse(s, "oneOf", "it has more than 64 branches");
        return false;
    }
    for (size_t i = 0; i < n; i++) {
        flat[i] = schema_flatten(s, json_array_get(list, i), 0);
        for (size_t k = 0; k < i && flat[i] != NULL && s->b->status == GRAFT_OK; k++) {
            if (!schema_apart(s, flat[k], flat[i], 0)) {
                char why[160];
                snprintf(why, sizeof why,
                         "a value may satisfy both branch %zu and branch %zu; anyOf would do", k,
                         i);
                schema_refuse(s, "oneOf", why);
            }
        }
    }
    return s->b->status == GRAFT_OK;
}

static expr_id compile_branches(struct schema *s, json_t *schema, const char *keyword)
{
    json_t *list = json_object_get(schema, keyword), *base = without(s, schema, keyword);
    if (!json_is_array(list) || json_array_size(list) == 0) {
        return schema_wrong(s, keyword, "is no list of schemas");
    }
    json_t *branches = schema_keep(s, json_array());
    bool alone = base != NULL && says_nothing(base);
    for (size_t i = 0; i < json_array_size(list) && s->b->status == GRAFT_OK; i++) {
        json_t *branch = json_array_get(list, i);
        json_t *flat = alone ? branch : schema_flatten(s, branch, 0);
        json_t *joined = alone || flat == NULL ? flat : schema_merge(s, base, flat);
        if (joined != NULL && json_array_append(branches, joined) != 0) {
            builder_fail(s->b, GRAFT_NO_MEMORY, "no memory for a schema");
        }
    }
    if (s->b->status != GRAFT_OK || (strcmp(keyword, "oneOf") == 0 && !check_apart(s, branches))) {
        return -1;
    }
    expr_id alternatives = expr_list(s->b, EXPR_ALT);
    for (size_t i = 0; i < json_array_size(branches) && s->b->status == GRAFT_OK; i++) {
        expr_add(s->b, alternatives, compile(s, json_array_get(branches, i)));
    }
    return alternatives;
}

/* ---- values ---- */

/* enum and const: the values of the kinds that `type` allows. */
static expr_id compile_values(struct schema *s, const json_t *schema)
{
    const json_t *constant = json_object_get(schema, "const"),
                 *values = json_object_get(schema, "enum");
    int kinds = schema_kinds(s, schema);
    if (values != NULL && !json_is_array(values)) {
        return schema_wrong(s, "enum", "is no list");
    }
    const char *beside = has_any(schema, object_words)   ? "an object's"
                         : has_any(schema, array_words)  ? "an array's"
                         : has_any(schema, string_words) ? "a text's"
                         : has_any(schema, number_words) ? "a number's"
                                                         : NULL;
    if (beside != NULL) {
        char why[80];
        snprintf(why, sizeof why, "it stands beside %s keywords", beside);
        return schema_refuse(s, constant != NULL ? "const" : "enum", why);
    }
    expr_id list = expr_list(s->b, EXPR_ALT);
    size_t n = values != NULL ? json_array_size(values) : 1;
    for (size_t i = 0; i < n; i++) {
        const json_t *value = values != NULL ? json_array_get(values, i) : constant;
        if ((kind_of_value(value) & kinds) &&
            (constant == NULL ||
             json_equal((json_t *)(uintptr_t)value, (json_t *)(uintptr_t)constant))) {
            expr_add(s->b, list, schema_constant(s, value, 0));
        }
    }
    return list;
}

/* A flat schema without alternatives. */
static expr_id compile_flat(struct schema *s, const json_t *schema)
{
    struct builder *b = s->b;
    if (json_object_get(schema, "enum") != NULL || json_object_get(schema, "const") != NULL) {
        return compile_values(s, schema);
    }
    int kinds = schema_generated_kinds(s, schema);
    if (kinds == KIND_ANY) {
        return schema_any(s, kinds, 0);
    }
    expr_id list = any_of_kinds(s, kinds & (KIND_NULL | KIND_BOOLEAN), 0);
    if (kinds & (KIND_NUMBER | KIND_INTEGER)) {
        expr_add(b, list, schema_number(s, schema, !(kinds & KIND_NUMBER)));
    }
    if (kinds & KIND_STRING) {
        expr_add(b, list, schema_string(s, schema));
    }
    if (kinds & KIND_ARRAY) {
        expr_add(b, list, schema_array(s, schema));
    }
    if (kinds & KIND_OBJECT) {
        expr_add(b, list, schema_object(s, schema));
    }
    return list;
}

/* The rule of what a $ref names, made at its first mention. */
static expr_id compile_ref(struct schema *s, const char *ref)
{
    int32_t rule = str_map_get(&s->refs, ref, strlen(ref));
    if (rule < 0) {
        json_t *target = schema_resolve(s, ref);
        rule = target != NULL ? add_pending(s, target, ref, "") : -1;
        if (rule >= 0 && !str_map_put(&s->refs, ref, strlen(ref), rule, NULL)) {
            return builder_fail(s->b, GRAFT_NO_MEMORY, "no memory for a schema");
        }
    }
    return expr_call(s->b, rule, false);
}

/* A $ref with nothing beside it. */
static const char *lone_ref(struct schema *s, json_t *schema)
{
    const json_t *ref = json_object_get(schema, "$ref");
    json_t *rest = ref != NULL ? without(s, schema, "$ref") : NULL;
    return rest != NULL && says_nothing(rest) && json_is_string(ref) ? json_string_value(ref)
                                                                     : NULL;
}

static expr_id compile_object(struct schema *s, json_t *schema)
{
    const char *ref = lone_ref(s, schema);
    if (ref != NULL) {
        return compile_ref(s, ref);
    }
    json_t *flat = schema_flatten(s, schema, 0);
    if (flat == NULL || json_is_boolean(flat)) {
        return flat == NULL ? -1 : compile(s, flat);
    }
    if (!check_keywords(s, flat)) {
        return -1;
    }
    if (json_object_get(flat, "anyOf") != NULL) {
        return compile_branches(s, flat, "anyOf");
    }
    if (json_object_get(flat, "oneOf") != NULL) {
        return compile_branches(s, flat, "oneOf");
    }
    return compile_flat(s, flat);
}

static expr_id compile(struct schema *s, json_t *schema)
{
    if (json_is_boolean(schema)) {
        return json_is_true(schema) ? schema_any(s, KIND_ANY, 0) : expr_list(s->b, EXPR_ALT);
    }
    if (!json_is_object(schema)) {
        return builder_fail(s->b, GRAFT_FORMAT,
                            "%s is no schema: neither an object nor true or false", s->place);
    }
    if (++s->depth > SCHEMA_DEPTH) {
        return builder_fail(s->b, GRAFT_LIMIT, "%s is nested too deeply", s->place);
    }
    expr_id e = compile_object(s, schema);
    s->depth--;
    return e;
}

/* ---- the whole ---- */

static graft_status compile_all(struct schema *s, struct grammar **out)
{
    s->place = "#";
    int32_t root = schema_rule(s, s->root, "");
    for (; s->n_done < s->n_queue && s->b->status == GRAFT_OK; s->n_done++) {
        struct pending p = s->queue[s->n_done];
        s->place = p.place;
        s->depth = 0;
        rule_define(s->b, p.rule, compile(s, p.schema));
    }
    return s->b->status == GRAFT_OK ? grammar_compile(s->b, root, out) : s->b->status;
}

graft_status grammar_from_schema(struct mem *mem, const char *json, size_t size,
                                 struct grammar **out, graft_error *error)
{
    json_t *root = NULL;
    if (size > TEXT_MAX) {
        return error_set(error, GRAFT_LIMIT, "the schema is larger than 1 MB");
    }
    graft_status status = json_parse(json, size, &root, error);
    if (status != GRAFT_OK) {
        return status;
    }
    struct builder b;
    struct schema s = {.b = &b, .root = root, .made = json_array()};
    builder_init(&b, mem, SCHEMA_NESTING, error);
    str_map_init(&s.refs, mem);
    s.space = s.string = s.key = s.key_rest = s.character = -1;
    for (int i = 0; i <= ANY_DEPTH; i++) {
        s.any[i] = -1;
    }
    status = s.made != NULL ? compile_all(&s, out)
                            : error_set(error, GRAFT_NO_MEMORY, "no memory for a schema");
    str_map_free(&s.refs);
    mem_free(mem, s.queue);
    builder_free(&b);
    json_decref(s.made);
    json_decref(root);
    return status;
}
