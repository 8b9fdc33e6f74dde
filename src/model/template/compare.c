/* compare.c: what Python's operators ask of values: truth, length, ==, <, hash, in; type names. */
#include "model/template/render_internal.h"

#include <math.h>

const char *type_name(struct value v)
{
    static const char *const views[] = {"dict_keys", "dict_values", "dict_items"};
    static const char *const names[V_KIND_COUNT] = {
        [V_MISSING] = "missing", [V_UNDEFINED] = "Undefined",
        [V_NONE] = "None",       [V_BOOL] = "bool",
        [V_INT] = "int",         [V_FLOAT] = "float",
        [V_STR] = "str",         [V_LIST] = "list",
        [V_TUPLE] = "tuple",     [V_DICT] = "dict",
        [V_RANGE] = "range",     [V_NAMESPACE] = "Namespace",
        [V_MACRO] = "Macro",     [V_LOOP] = "LoopContext",
        [V_CYCLER] = "Cycler",   [V_JOINER] = "Joiner",
        [V_GLOBAL] = "function", [V_METHOD] = "method"};
    if (v.kind == V_VIEW)
        return views[v.view->kind];
    return v.kind == V_ITER ? v.gen->type : names[v.kind];
}

bool value_length(struct value v, size_t *out)
{
    switch (v.kind) {
    case V_UNDEFINED:
        *out = 0;
        return true;
    case V_STR:
        *out = str_chars(v.s);
        return true;
    case V_LIST:
    case V_TUPLE:
        *out = v.list->count;
        return true;
    case V_DICT:
        *out = v.dict->count;
        return true;
    case V_VIEW:
        *out = v.view->dict->count;
        return true;
    case V_RANGE:
        *out = v.range->count;
        return true;
    default:
        return false;
    }
}

bool truth(struct value v)
{
    size_t n;
    switch (v.kind) {
    case V_MISSING:
    case V_NONE:
    case V_UNDEFINED:
        return false;
    case V_BOOL:
        return v.b;
    case V_INT:
        return v.i != 0;
    case V_FLOAT:
        return v.f != 0;
    case V_STR:
        return v.s->size > 0;
    default:
        return !value_length(v, &n) || n > 0;
    }
}

/* ---- numbers ------------------------------------------------------------------------------ */

/* -1, 0, 1, or 2 when one is NaN; exact even where a 64-bit integer has no double. */
static int compare_int_float(int64_t i, double f)
{
    if (isnan(f))
        return 2;
    if (f >= 9223372036854775808.0)
        return -1;
    if (f < -9223372036854775808.0)
        return 1;
    double whole = trunc(f);
    int64_t t = (int64_t)whole;
    if (i != t)
        return i < t ? -1 : 1;
    return f > whole ? -1 : f < whole ? 1 : 0;
}

static int compare_numbers(struct value a, struct value b)
{
    if (is_integer(a) && is_integer(b)) {
        int64_t x = as_integer(a), y = as_integer(b);
        return x < y ? -1 : x > y;
    }
    if (a.kind == V_FLOAT && b.kind == V_FLOAT)
        return a.f < b.f ? -1 : a.f > b.f ? 1 : a.f == b.f ? 0 : 2;
    if (a.kind == V_FLOAT) {
        int order = compare_int_float(as_integer(b), a.f);
        return order == 2 ? 2 : -order;
    }
    return compare_int_float(as_integer(a), b.f);
}

static int compare_strings(const struct str *a, const struct str *b)
{
    size_t n = a->size < b->size ? a->size : b->size;
    int order = n == 0 ? 0 : memcmp(a->data, b->data, n); /* UTF-8 sorts as its code points */
    return order != 0 ? order : a->size < b->size ? -1 : a->size > b->size;
}

/* ---- equality ----------------------------------------------------------------------------- */

struct comparison {
    struct rt *rt;
    int depth;
};

static bool equal(struct comparison *c, struct value a, struct value b, bool *out);

static bool equal_lists(struct comparison *c, const struct list *a, const struct list *b, bool *out)
{
    *out = a->count == b->count;
    for (size_t i = 0; i < a->count && *out; i++)
        if (!equal(c, a->items[i], b->items[i], out))
            return false;
    return true;
}

static bool equal_dicts(struct comparison *c, const struct dict *a, const struct dict *b, bool *out)
{
    *out = a->count == b->count;
    for (size_t i = 0; i < a->count && *out; i++) {
        struct value *other;
        if (!dict_find(c->rt, b, a->entries[i].key, &other))
            return false;
        *out = other != NULL;
        if (*out && !equal(c, a->entries[i].value, *other, out))
            return false;
    }
    return true;
}

static bool equal_ranges(const struct range *a, const struct range *b)
{
    return a->count == b->count &&
           (a->count == 0 || (a->start == b->start && (a->count == 1 || a->step == b->step)));
}

static bool same_object(struct value a, struct value b)
{
    switch (a.kind) {
    case V_VIEW:
        return a.view == b.view;
    case V_ITER:
        return a.gen == b.gen;
    case V_NAMESPACE:
        return a.dict == b.dict;
    case V_MACRO:
        return a.macro == b.macro;
    case V_LOOP:
        return a.loop == b.loop;
    case V_CYCLER:
        return a.cycler == b.cycler;
    case V_JOINER:
        return a.joiner == b.joiner;
    case V_GLOBAL:
        return a.global == b.global;
    case V_METHOD:
        return a.method == b.method;
    default: /* undefined and None */
        return true;
    }
}

static bool equal(struct comparison *c, struct value a, struct value b, bool *out)
{
    bool ok = true;
    *out = false;
    if (!spend(c->rt, 1))
        return false;
    if (is_number(a) && is_number(b)) {
        *out = compare_numbers(a, b) == 0;
        return true;
    }
    if (a.kind != b.kind)
        return true;
    if (++c->depth > DATA_DEPTH)
        return fail(c->rt, GRAFT_LIMIT, "the data nests too deep");
    switch (a.kind) {
    case V_STR:
        *out = a.s->size == b.s->size && compare_strings(a.s, b.s) == 0;
        ok = !*out || spend_bytes(c->rt, a.s->size);
        break;
    case V_LIST:
    case V_TUPLE:
        ok = equal_lists(c, a.list, b.list, out);
        break;
    case V_DICT:
        ok = equal_dicts(c, a.dict, b.dict, out);
        break;
    case V_RANGE:
        *out = equal_ranges(a.range, b.range);
        break;
    default:
        *out = same_object(a, b);
    }
    c->depth--;
    return ok;
}

bool value_equal(struct rt *rt, struct value a, struct value b, bool *out)
{
    struct comparison c = {.rt = rt};
    return equal(&c, a, b, out);
}

/* ---- order -------------------------------------------------------------------------------- */

static bool ordered(int order, enum order op)
{
    switch (op) {
    case ORDER_LT:
        return order == -1;
    case ORDER_LE:
        return order == -1 || order == 0;
    case ORDER_GT:
        return order == 1;
    case ORDER_GE:
        break;
    }
    return order == 1 || order == 0;
}

static bool order(struct rt *rt, struct value a, struct value b, enum order op, int depth,
                  bool *out)
{
    static const char *const signs[] = {"<", "<=", ">", ">="};
    struct comparison c = {.rt = rt};
    if (a.kind == V_UNDEFINED)
        return fail_undefined(rt, a);
    if (b.kind == V_UNDEFINED)
        return fail_undefined(rt, b);
    if (is_number(a) && is_number(b)) {
        *out = ordered(compare_numbers(a, b), op);
        return true;
    }
    if (a.kind == V_STR && b.kind == V_STR) {
        int sign = compare_strings(a.s, b.s);
        *out = ordered(sign < 0 ? -1 : sign > 0, op);
        return spend_bytes(rt, a.s->size < b.s->size ? a.s->size : b.s->size);
    }
    if (a.kind != b.kind || (a.kind != V_LIST && a.kind != V_TUPLE))
        return fail(rt, GRAFT_FORMAT, "'%s' not supported between '%s' and '%s'", signs[op],
                    type_name(a), type_name(b));
    if (depth > DATA_DEPTH)
        return fail(rt, GRAFT_LIMIT, "the data nests too deep");
    for (size_t i = 0; i < a.list->count && i < b.list->count; i++) {
        bool same;
        if (!equal(&c, a.list->items[i], b.list->items[i], &same))
            return false;
        if (!same)
            return order(rt, a.list->items[i], b.list->items[i], op, depth + 1, out);
    }
    size_t n = a.list->count, m = b.list->count;
    *out = ordered(n < m ? -1 : n > m, op);
    return true;
}

bool value_order(struct rt *rt, struct value a, struct value b, enum order op, bool *out)
{
    return order(rt, a, b, op, 0, out);
}

/* ---- hashes ------------------------------------------------------------------------------- */

/* Equal numbers hash alike, whatever their kind. */
static uint64_t hash_number(struct rt *rt, struct value v)
{
    double f = v.kind == V_FLOAT ? v.f : 0;
    int64_t i = v.kind == V_FLOAT ? 0 : as_integer(v);
    if (v.kind == V_FLOAT && f >= -9223372036854775808.0 && f < 9223372036854775808.0 &&
        f == trunc(f)) {
        i = (int64_t)f;
        f = 0;
    }
    if (f != 0 && !isnan(f))
        return hash_bytes(&f, sizeof f, rt->seed);
    return hash_bytes(&i, sizeof i, rt->seed);
}

static bool hash(struct rt *rt, struct value v, int depth, uint64_t *out)
{
    if (is_number(v)) {
        *out = hash_number(rt, v);
        return true;
    }
    switch (v.kind) {
    case V_STR:
        *out = hash_bytes(v.s->data, v.s->size, rt->seed + 1);
        return spend_bytes(rt, v.s->size);
    case V_TUPLE:
        if (depth > DATA_DEPTH)
            return fail(rt, GRAFT_LIMIT, "the data nests too deep");
        *out = rt->seed;
        for (size_t i = 0; i < v.list->count; i++) {
            uint64_t item;
            if (!spend(rt, 1) || !hash(rt, v.list->items[i], depth + 1, &item))
                return false;
            *out = (*out ^ item) * 0x9E3779B97F4A7C15u;
        }
        return true;
    case V_LIST:
    case V_DICT:
    case V_VIEW:
        return fail(rt, GRAFT_FORMAT, "unhashable type: '%s'", type_name(v));
    case V_RANGE: /* rare as keys: by kind alone */
    default:
        *out = (uint64_t)v.kind;
        return true;
    }
}

bool value_hash(struct rt *rt, struct value v, uint64_t *out)
{
    return hash(rt, v, 0, out);
}

/* ---- membership --------------------------------------------------------------------------- */

static bool range_contains(const struct range *r, struct value item, bool *out)
{
    *out = false;
    if (!is_number(item) || r->count == 0)
        return true;
    int64_t i = as_integer(item), last = r->start + (int64_t)(r->count - 1) * r->step;
    if (item.kind == V_FLOAT) {
        if (!(fabs(item.f) < 9e15) || item.f != trunc(item.f))
            return true;
        i = (int64_t)item.f;
    }
    int64_t low = r->step > 0 ? r->start : last, high = r->step > 0 ? last : r->start;
    /* both ends lie within 64 bits, so does what lies between; the distance may not: use unsigned */
    *out =
        i >= low && i <= high &&
        ((uint64_t)i - (uint64_t)low) % (r->step > 0 ? (uint64_t)r->step : 0 - (uint64_t)r->step) ==
            0;
    return true;
}

bool value_contains(struct rt *rt, struct value container, struct value item, bool *out)
{
    struct iter it;
    struct value v, *found;
    int more;
    *out = false;
    if (container.kind == V_STR) {
        if (item.kind != V_STR)
            return fail(rt, GRAFT_FORMAT, "'in <string>' requires string as left operand, not %s",
                        type_name(item));
        *out = bytes_find(container.s->data, container.s->size, item.s->data, item.s->size) != NULL;
        return spend_bytes(rt, container.s->size);
    }
    if (container.kind == V_DICT ||
        (container.kind == V_VIEW && container.view->kind == VIEW_KEYS)) {
        const struct dict *d = container.kind == V_DICT ? container.dict : container.view->dict;
        if (!dict_find(rt, d, item, &found))
            return false;
        *out = found != NULL;
        return true;
    }
    if (container.kind == V_RANGE)
        return range_contains(container.range, item, out);
    if (!is_iterable(container))
        return fail(rt, GRAFT_FORMAT, "argument of type '%s' is not iterable",
                    type_name(container));
    if (!iter_begin(rt, container, &it))
        return false;
    while (!*out && (more = iter_next(rt, &it, &v)) != 0)
        if (more < 0 || !value_equal(rt, v, item, out))
            return false;
    return true;
}
