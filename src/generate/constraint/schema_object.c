/* schema_object.c: objects and arrays of a JSON schema.
 *
 * Members come in the order in which the schema declares them, then free ones. A rule stands for "members from the i-th on, c are
 * there": it writes the i-th and goes on, or, where that is not required, passes it over. Each is the end of the one before, so no
 * number of members makes a text nest.
 */
#include "schema_internal.h"

/* ---- names ---- */

static const struct range name_chars[] = {
    {0x20, 0x21}, {0x23, 0x5B}, {0x5D, 0x7E}, {0x80, 0x10FFFF}};

/* The rest of a free name, with its quote. */
static expr_id name_rest(struct schema *s)
{
    struct builder *b = s->b;
    if (s->key_rest < 0) {
        s->key_rest = rule_add(b, "name", 4);
        expr_id one = expr_class(b, name_chars, ARRAY_LEN(name_chars), false);
        rule_define(b, s->key_rest, EXPR_SEQ_OF(b, expr_repeat(b, one, 0, -1), expr_text(b, "\"")));
    }
    return expr_call(b, s->key_rest, false);
}

expr_id schema_free_name(struct schema *s)
{
    struct builder *b = s->b;
    if (s->key < 0) {
        s->key = rule_add(b, "name", 4);
        rule_define(b, s->key,
                    EXPR_SEQ_OF(b, expr_text(b, "\""),
                                expr_class(b, name_chars, ARRAY_LEN(name_chars), false),
                                name_rest(s)));
    }
    return expr_call(b, s->key, false);
}

static int compare_names(const void *a, const void *b)
{
    return strcmp(*(const char *const *)a, *(const char *const *)b);
}

/* A free name, from its byte `at` on, that is none of n names, which are sorted and agree up to there. Deep as the longest name
 * that is shared: `depth` bounds it. */
static expr_id other_name(struct schema *s, const char *const *names, size_t n, size_t at,
                          int depth)
{
    struct builder *b = s->b;
    expr_id list = expr_list(b, EXPR_ALT);
    size_t n_taken = 0;
    struct range *taken = mem_calloc(b->mem, n + 3, sizeof *taken);
    if (taken == NULL || depth > PARSE_DEPTH * 4) {
        mem_free(b->mem, taken);
        return builder_fail(b, taken == NULL ? GRAFT_NO_MEMORY : GRAFT_LIMIT,
                            "names at %s are too long beside additionalProperties", s->place);
    }
    bool ends = n > 0 && names[0][at] == '\0';
    if (!ends && at > 0) {
        expr_add(b, list, expr_text(b, "\""));
    }
    for (size_t i = ends; i < n && b->status == GRAFT_OK;) {
        uint32_t code = 0;
        size_t rest = strlen(names[i] + at), same = i;
        size_t length = (size_t)utf8_decode(names[i] + at, rest, &code);
        while (same < n && strncmp(names[same] + at, names[i] + at, length) == 0) {
            same++;
        }
        taken[n_taken++] = (struct range){code, code};
        if (length > 0 && code >= 0x20 && code != '"' && code != '\\') {
            int32_t rule = rule_add(b, "name", 4);
            rule_define(b, rule, other_name(s, names + i, same - i, at + length, depth + 1));
            expr_add(
                b, list,
                EXPR_SEQ_OF(b, expr_bytes(b, names[i] + at, length), expr_call(b, rule, false)));
        }
        i = same;
    }
    /* All other characters of a name: what is neither taken nor outside of name_chars. */
    size_t n_out = n_taken;
    struct range *out = mem_resize(b->mem, taken, (n_taken + 4) * sizeof *taken);
    if (out == NULL) {
        mem_free(b->mem, taken);
        return builder_fail(b, GRAFT_NO_MEMORY, "no memory for a schema");
    }
    out[n_out++] = (struct range){0, 0x1F};
    out[n_out++] = (struct range){'"', '"'};
    out[n_out++] = (struct range){'\\', '\\'};
    out[n_out++] = (struct range){0x7F, 0x7F};
    expr_add(b, list, EXPR_SEQ_OF(b, expr_class(b, out, n_out, true), name_rest(s)));
    mem_free(b->mem, out);
    return list;
}

/* ---- objects ---- */

struct member {
    const char *name;
    json_t *schema;
    bool required;
};
struct members {
    struct member *list; /* [n] declared, then those that are only required */
    size_t n;
    json_t *more;          /* the schema of free members; NULL: there are none */
    int64_t min, max, cap; /* of their number; max -1: any; counts above cap are the same */
    int32_t *rules;        /* [n + 1, cap + 1]; -1: not made */
};

/* required, as names in an object; NULL after an error. */
static json_t *required_names(struct schema *s, const json_t *schema)
{
    const json_t *required = json_object_get(schema, "required");
    json_t *names = schema_keep(s, json_object());
    if (required != NULL && !json_is_array(required)) {
        schema_wrong(s, "required", "is no list of names");
    }
    for (size_t i = 0; i < json_array_size(required) && s->b->status == GRAFT_OK; i++) {
        const char *text = json_string_value(json_array_get(required, i));
        if (text == NULL) {
            schema_wrong(s, "required", "is no list of names");
        } else if (json_object_set_new(names, text, json_true()) != 0) {
            builder_fail(s->b, GRAFT_NO_MEMORY, "no memory for a schema");
        }
    }
    return s->b->status == GRAFT_OK ? names : NULL;
}

static bool list_members(struct schema *s, const json_t *schema, struct members *m)
{
    json_t *properties = json_object_get(schema, "properties"), *value;
    json_t *additional = json_object_get(schema, "additionalProperties");
    json_t *required = required_names(s, schema);
    const char *name;
    if (properties != NULL && !json_is_object(properties)) {
        schema_wrong(s, "properties", "is no object");
    }
    if (s->b->status != GRAFT_OK) {
        return false;
    }
    m->list = mem_calloc(s->b->mem, json_object_size(properties) + json_object_size(required),
                         sizeof *m->list);
    if (m->list == NULL) {
        builder_fail(s->b, GRAFT_NO_MEMORY, "no memory for a schema");
        return false;
    }
    json_object_foreach(properties, name, value)
    {
        m->list[m->n++] = (struct member){name, value, json_object_get(required, name) != NULL};
    }
    json_t *other = additional != NULL ? additional : schema_keep(s, json_true());
    json_object_foreach(required, name, value)
    {
        if (json_object_get(properties, name) == NULL) {
            m->list[m->n++] = (struct member){name, other, true};
        }
    }
    /* What a schema leaves open beside the members it declares is left out. */
    bool free_names = additional != NULL ? !json_is_false(additional) : m->n == 0;
    m->more = free_names ? other : NULL;
    return s->b->status == GRAFT_OK;
}

static bool count_members(struct schema *s, const json_t *schema, struct members *m)
{
    m->min = schema_count(s, schema, "minProperties", 0);
    m->max = schema_count(s, schema, "maxProperties", -1);
    if (m->max >= (int64_t)m->n && m->more == NULL) {
        m->max = -1;
    }
    int64_t most = m->max > m->min ? m->max : m->min;
    m->cap = most > 1 ? most : 1;
    size_t rules;
    if (s->b->status != GRAFT_OK || !size_mul(m->n + 1, (size_t)m->cap + 1, &rules) ||
        rules > RULES_MAX) {
        builder_fail(s->b, GRAFT_LIMIT, "%s has too many members to count them", s->place);
        return false;
    }
    m->rules = mem_alloc(s->b->mem, rules * sizeof *m->rules);
    if (m->rules == NULL) {
        builder_fail(s->b, GRAFT_NO_MEMORY, "no memory for a schema");
        return false;
    }
    for (size_t i = 0; i < rules; i++) {
        m->rules[i] = -1;
    }
    return true;
}

/* The call of "members from the i-th on, count are there". */
static expr_id members_from(struct schema *s, struct members *m, size_t i, int64_t count)
{
    int64_t c = count < m->cap ? count : m->cap;
    int32_t *rule = &m->rules[i * ((size_t)m->cap + 1) + (size_t)c];
    if (*rule < 0) {
        *rule = rule_add(s->b, "members", 7);
    }
    return expr_call(s->b, *rule, false);
}

static expr_id name_and_value(struct schema *s, expr_id name, int32_t value, int64_t count)
{
    struct builder *b = s->b;
    expr_id first =
        count > 0 ? EXPR_SEQ_OF(b, expr_text(b, ","), schema_space(s)) : expr_text(b, "");
    return EXPR_SEQ_OF(b, first, name, schema_colon(s), expr_call(b, value, true));
}

static void define_members(struct schema *s, struct members *m, const int32_t *values, size_t i,
                           int64_t count)
{
    struct builder *b = s->b;
    int32_t rule = m->rules[i * ((size_t)m->cap + 1) + (size_t)count];
    bool room = m->max < 0 || count < m->max;
    if (rule < 0) {
        return;
    }
    expr_id list = expr_list(b, EXPR_ALT);
    if (i < m->n) {
        const struct member *member = &m->list[i];
        if (room) {
            expr_id one = name_and_value(s, schema_text(s, member->name, strlen(member->name)),
                                         values[i], count);
            expr_add(b, list, EXPR_SEQ_OF(b, one, members_from(s, m, i + 1, count + 1)));
        }
        if (!member->required) {
            expr_add(b, list, members_from(s, m, i + 1, count));
        }
    } else {
        if (count >= m->min) {
            expr_add(b, list, expr_text(b, ""));
        }
        if (m->more != NULL && room) {
            expr_id one =
                name_and_value(s, expr_call(b, values[m->n], false), values[m->n + 1], count);
            expr_add(b, list, EXPR_SEQ_OF(b, one, members_from(s, m, i, count + 1)));
        }
    }
    rule_define(b, rule, list);
}

/* Rules of the values: of each member, then of a free name and of its value. */
static void make_values(struct schema *s, struct members *m, int32_t *values)
{
    struct builder *b = s->b;
    for (size_t i = 0; i < m->n; i++) {
        char where[120];
        snprintf(where, sizeof where, "/properties/%s", m->list[i].name);
        values[i] = schema_rule(s, m->list[i].schema, where);
    }
    if (m->more == NULL || b->status != GRAFT_OK) {
        return;
    }
    const char **names = mem_calloc(b->mem, m->n, sizeof *names);
    if (names == NULL) {
        builder_fail(b, GRAFT_NO_MEMORY, "no memory for a schema");
        return;
    }
    for (size_t i = 0; i < m->n; i++) {
        names[i] = m->list[i].name;
    }
    qsort(names, m->n, sizeof *names, compare_names);
    b->unique_keys = true;
    values[m->n] = rule_add(b, "name", 4);
    rule_define(b, values[m->n],
                EXPR_SEQ_OF(b, expr_text(b, "\""), other_name(s, names, m->n, 0, 0)));
    values[m->n + 1] = schema_rule(s, m->more, "/additionalProperties");
    mem_free(b->mem, names);
}

expr_id schema_object(struct schema *s, const json_t *schema)
{
    struct builder *b = s->b;
    struct members m = {.n = 0};
    int32_t *values = NULL;
    expr_id result = -1;
    if (list_members(s, schema, &m) && count_members(s, schema, &m)) {
        values = mem_calloc(b->mem, m.n + 2, sizeof *values);
        if (values == NULL) {
            builder_fail(b, GRAFT_NO_MEMORY, "no memory for a schema");
        } else {
            make_values(s, &m, values);
            result = EXPR_SEQ_OF(b, expr_text(b, "{"), schema_space(s), members_from(s, &m, 0, 0),
                                 schema_space(s), expr_text(b, "}"));
        }
        for (size_t i = 0; i <= m.n && b->status == GRAFT_OK; i++) {
            for (int64_t c = 0; c <= m.cap && b->status == GRAFT_OK; c++) {
                define_members(s, &m, values, i, c);
            }
        }
    }
    mem_free(b->mem, m.list);
    mem_free(b->mem, m.rules);
    mem_free(b->mem, values);
    return b->status == GRAFT_OK ? result : -1;
}

/* ---- arrays ---- */

struct elements {
    json_t *first; /* array of the schemas of the first ones; NULL: none */
    json_t *rest;  /* of all others; NULL: there are none */
    int64_t min, max;
};

static bool read_elements(struct schema *s, const json_t *schema, struct elements *e)
{
    json_t *items = json_object_get(schema, "items");
    json_t *prefix = json_object_get(schema, "prefixItems");
    bool old = json_is_array(items); /* before 2020-12 */
    if (old && prefix != NULL) {
        schema_wrong(s, "items", "is a list beside prefixItems");
        return false;
    }
    e->first = old ? items : prefix;
    e->rest = old ? json_object_get(schema, "additionalItems") : items;
    int64_t n = (int64_t)json_array_size(e->first);
    if (e->first != NULL && !json_is_array(e->first)) {
        schema_wrong(s, "prefixItems", "is no list of schemas");
        return false;
    }
    e->max = schema_count(s, schema, "maxItems", -1);
    e->min = schema_count(s, schema, "minItems", e->max >= 0 && e->max < n ? e->max : n);
    if (e->max < 0 && e->rest == NULL && e->first != NULL) {
        e->max = e->min > n ? e->min : n; /* what is left open behind the first ones is left out */
    }
    if (json_is_false(e->rest)) {
        e->max = e->max >= 0 && e->max < n ? e->max : n;
    }
    if (e->rest == NULL) {
        e->rest = schema_keep(s, json_true());
    }
    return s->b->status == GRAFT_OK;
}

/* The elements from the i-th on that have schemas of their own; then the others. */
static expr_id elements_from(struct schema *s, const struct elements *e)
{
    struct builder *b = s->b;
    int64_t n = (int64_t)json_array_size(e->first);
    int32_t rest = schema_rule(s, e->rest, "/items");
    expr_id comma = EXPR_SEQ_OF(b, expr_text(b, ","), schema_space(s));
    expr_id other = expr_call(b, rest, true), more = EXPR_SEQ_OF(b, comma, other);
    int64_t least = e->min > n ? e->min - n : 0, most = e->max < 0   ? -1
                                                        : e->max > n ? e->max - n
                                                                     : 0;
    expr_id tail;
    if (n > 0 || most == 0) {
        tail = expr_repeat(b, more, (int32_t)least, (int32_t)most);
    } else {
        tail = EXPR_SEQ_OF(b, other,
                           expr_repeat(b, more, least > 0 ? (int32_t)least - 1 : 0,
                                       most < 0 ? -1 : (int32_t)most - 1));
        tail = expr_repeat(b, tail, least > 0, 1);
    }
    for (int64_t i = n; i-- > 0 && b->status == GRAFT_OK;) {
        char where[60];
        if (e->max >= 0 && i >= e->max) {
            continue;
        }
        snprintf(where, sizeof where, "/prefixItems/%lld", (long long)i);
        int32_t rule = rule_add(b, "elements", 8);
        int32_t value = schema_rule(s, json_array_get(e->first, (size_t)i), where);
        expr_id one =
            EXPR_SEQ_OF(b, i > 0 ? comma : expr_text(b, ""), expr_call(b, value, true), tail);
        rule_define(b, rule, expr_repeat(b, one, i < e->min, 1));
        tail = expr_call(b, rule, false);
    }
    return tail;
}

expr_id schema_array(struct schema *s, const json_t *schema)
{
    struct builder *b = s->b;
    struct elements e;
    const json_t *unique = json_object_get(schema, "uniqueItems");
    if (unique != NULL && !json_is_false(unique)) {
        return schema_refuse(s, "uniqueItems", "");
    }
    if (!read_elements(s, schema, &e)) {
        return -1;
    }
    if (e.max >= 0 && e.max < e.min) {
        return expr_list(b, EXPR_ALT);
    }
    return EXPR_SEQ_OF(b, expr_text(b, "["), schema_space(s), elements_from(s, &e), schema_space(s),
                       expr_text(b, "]"));
}
