/* access.c: x.name, x[key], x[a:b:c].
 *
 * Attribute first, then item for x.name; item first, then attribute for x[name]: as Jinja2's sandbox.
 * Methods that would change a list or dict exist but are hidden, so that they are undefined even where
 * a dict has such a key.
 */
#include "model/template/render_internal.h"

#include <math.h>

/* ---- methods by type ---------------------------------------------------------------------- */

static bool dict_view(struct rt *rt, struct dict *dict, enum view_kind kind, struct value *out)
{
    struct view *view = rt_alloc(rt, sizeof *view);
    if (view == NULL)
        return false;
    *view = (struct view){dict, kind};
    *out = (struct value){.kind = V_VIEW, .view = view};
    return true;
}

static bool dict_keys(struct rt *rt, struct call *c, struct value *out)
{
    return dict_view(rt, c->self.dict, VIEW_KEYS, out);
}

static bool dict_values(struct rt *rt, struct call *c, struct value *out)
{
    return dict_view(rt, c->self.dict, VIEW_VALUES, out);
}

static bool dict_items(struct rt *rt, struct call *c, struct value *out)
{
    return dict_view(rt, c->self.dict, VIEW_ITEMS, out);
}

static bool dict_get(struct rt *rt, struct call *c, struct value *out)
{
    struct value *found;
    if (!dict_find(rt, c->self.dict, c->arg[0], &found))
        return false;
    *out = found != NULL ? *found : c->arg[1].kind != V_MISSING ? c->arg[1] : v_none();
    return true;
}

static bool dict_copy(struct rt *rt, struct call *c, struct value *out)
{
    (void)rt;
    *out = c->self; /* nothing can change it */
    return true;
}

static bool sequence_count(struct rt *rt, struct call *c, struct value *out)
{
    struct iter it;
    struct value item;
    int64_t n = 0;
    bool same;
    int more;
    if (!iter_begin(rt, c->self, &it))
        return false;
    while ((more = iter_next(rt, &it, &item)) == 1) {
        if (!value_equal(rt, item, c->arg[0], &same))
            return false;
        n += same;
    }
    *out = v_int(n);
    return more == 0;
}

static bool sequence_index(struct rt *rt, struct call *c, struct value *out)
{
    struct iter it;
    struct value item;
    size_t length = 0;
    int64_t start, stop, i = 0;
    bool same;
    value_length(c->self, &length);
    if (!arg_int(rt, c->arg[1], 0, &start) || !arg_int(rt, c->arg[2], (int64_t)length, &stop) ||
        !iter_begin(rt, c->self, &it))
        return false;
    start += start < 0 ? (int64_t)length : 0;
    stop += stop < 0 ? (int64_t)length : 0;
    for (int more; (more = iter_next(rt, &it, &item)) != 0; i++) {
        if (more < 0 || !value_equal(rt, item, c->arg[0], &same))
            return false;
        if (same && i >= start && i < stop) {
            *out = v_int(i);
            return true;
        }
    }
    return fail(rt, GRAFT_FORMAT, "value is not in %s", type_name(c->self));
}

static bool cycler_next(struct rt *rt, struct call *c, struct value *out)
{
    struct cycler *cycler = c->self.cycler;
    (void)rt;
    *out = cycler->items[cycler->position];
    cycler->position = (cycler->position + 1) % cycler->count;
    return true;
}

static bool cycler_reset(struct rt *rt, struct call *c, struct value *out)
{
    (void)rt;
    c->self.cycler->position = 0;
    *out = v_none();
    return true;
}

static bool float_is_integer(struct rt *rt, struct call *c, struct value *out)
{
    (void)rt;
    *out = v_bool(isfinite(c->self.f) && c->self.f == floor(c->self.f));
    return true;
}

static const struct builtin dict_methods[] = {
    {"items", "", dict_items},   {"keys", "", dict_keys},
    {"values", "", dict_values}, {"get", "/key default?", dict_get},
    {"copy", "", dict_copy},     {"clear", "", NULL},
    {"pop", "", NULL},           {"popitem", "", NULL},
    {"setdefault", "", NULL},    {"update", "", NULL},
    {NULL, NULL, NULL}};
static const struct builtin list_methods[] = {{"count", "/value", sequence_count},
                                              {"index", "/value start? stop?", sequence_index},
                                              {"copy", "", dict_copy},
                                              {"append", "", NULL},
                                              {"clear", "", NULL},
                                              {"extend", "", NULL},
                                              {"insert", "", NULL},
                                              {"pop", "", NULL},
                                              {"remove", "", NULL},
                                              {"reverse", "", NULL},
                                              {"sort", "", NULL},
                                              {NULL, NULL, NULL}};
static const struct builtin tuple_methods[] = {{"count", "/value", sequence_count},
                                               {"index", "/value start? stop?", sequence_index},
                                               {NULL, NULL, NULL}};
static const struct builtin cycler_methods[] = {
    {"next", "", cycler_next}, {"reset", "", cycler_reset}, {NULL, NULL, NULL}};
static const struct builtin float_methods[] = {{"is_integer", "", float_is_integer},
                                               {NULL, NULL, NULL}};

static const struct builtin *find_method(struct value object, struct str *name)
{
    const struct builtin *found;
    switch (object.kind) {
    case V_STR:
        found = builtin_find(str_methods, name->data, name->size);
        if (found == NULL)
            found = builtin_find(str_split_methods, name->data, name->size);
        return found != NULL ? found : builtin_find(str_test_methods, name->data, name->size);
    case V_DICT:
        return builtin_find(dict_methods, name->data, name->size);
    case V_LIST:
        return builtin_find(list_methods, name->data, name->size);
    case V_TUPLE:
    case V_RANGE:
        return builtin_find(tuple_methods, name->data, name->size);
    case V_CYCLER:
        return builtin_find(cycler_methods, name->data, name->size);
    case V_FLOAT:
        return builtin_find(float_methods, name->data, name->size);
    default:
        return NULL;
    }
}

/* ---- attributes --------------------------------------------------------------------------- */

static bool hidden(struct rt *rt, struct value *out)
{
    return undefined_hint(rt, "access to this attribute is not allowed", out);
}

static bool macro_attr(struct rt *rt, const struct macro *macro, struct str *name,
                       struct value *out, bool *found)
{
    const struct macro_def *def = macro->def;
    *found = true;
    if (str_equals(name, "name")) {
        *out = def->name != NULL ? v_str(def->name) : v_none();
    } else if (str_equals(name, "arguments")) {
        if (!list_new(rt, V_TUPLE, (size_t)def->n_params, out))
            return false;
        for (int i = 0; i < def->n_params; i++)
            if (!list_push(rt, out->list, v_str(rt->t->names[def->params[i].ref.name])))
                return false;
    } else if (str_equals(name, "catch_kwargs") || str_equals(name, "catch_varargs") ||
               str_equals(name, "caller")) {
        *out = v_bool(name->size == 6                    ? def->uses_caller
                      : str_equals(name, "catch_kwargs") ? def->uses_kwargs
                                                         : def->uses_varargs);
    } else {
        *found = false;
    }
    return true;
}

bool get_plain_attr(struct rt *rt, struct value object, struct str *name, struct value *out,
                    bool *found)
{
    struct value *member;
    const struct builtin *method = find_method(object, name);
    *found = true;
    if (method != NULL) {
        if (method->fn == NULL)
            return hidden(rt, out);
        struct method *bound = rt_alloc(rt, sizeof *bound);
        if (bound == NULL)
            return false;
        *bound = (struct method){method, object};
        *out = (struct value){.kind = V_METHOD, .method = bound};
        return true;
    }
    switch (object.kind) {
    case V_NAMESPACE:
        if (!dict_find(rt, object.dict, v_str(name), &member))
            return false;
        if (member == NULL)
            break;
        if (name->size > 0 && name->data[0] == '_')
            return hidden(rt, out);
        *out = *member;
        return true;
    case V_LOOP:
        return loop_attr(rt, object.loop, name, out, found);
    case V_MACRO:
        return macro_attr(rt, object.macro, name, out, found);
    case V_CYCLER:
        if (!str_equals(name, "current"))
            break;
        *out = object.cycler->items[object.cycler->position];
        return true;
    case V_TUPLE:
        if (!object.list->is_group || (!str_equals(name, "grouper") && !str_equals(name, "list")))
            break;
        *out = object.list->items[name->size == 4];
        return true;
    case V_RANGE:
        if (!str_equals(name, "start") && !str_equals(name, "stop") && !str_equals(name, "step"))
            break;
        *out = v_int(name->data[2] == 'a'   ? object.range->start
                     : name->data[2] == 'o' ? object.range->stop
                                            : object.range->step);
        return true;
    default:
        break;
    }
    *found = false;
    return true;
}

bool get_attr(struct rt *rt, struct value object, struct str *name, struct value *out)
{
    bool found;
    struct value *member;
    if (object.kind == V_UNDEFINED)
        return fail_undefined(rt, object);
    if (!get_plain_attr(rt, object, name, out, &found))
        return false;
    if (found)
        return true;
    if (object.kind == V_DICT) {
        if (!dict_find(rt, object.dict, v_str(name), &member))
            return false;
        if (member != NULL) {
            *out = *member;
            return true;
        }
    }
    return undefined_member(rt, object, v_str(name), out);
}

/* ---- items -------------------------------------------------------------------------------- */

/* Cuts bytes [begin, end) out of a string. */
bool str_slice(struct rt *rt, struct str *s, size_t begin, size_t end, struct value *out)
{
    if (!str_borrow(rt, s->data + begin, end - begin, out))
        return false;
    if (s->chars == s->size && out->s->chars == CHARS_UNKNOWN)
        out->s->chars = out->s->size;
    return str_mark(rt, s->safe, out);
}

static bool index_in(struct value key, size_t count, size_t *index)
{
    int64_t i = as_integer(key);
    if (i < 0)
        i += (int64_t)count;
    *index = (size_t)i;
    return i >= 0 && (size_t)i < count;
}

static bool plain_item(struct rt *rt, struct value object, struct value key, struct value *out,
                       bool *found)
{
    struct value *member;
    size_t count = 0, index;
    *found = false;
    if (object.kind == V_DICT) {
        if (key.kind == V_LIST || key.kind == V_DICT) /* no hash: a TypeError, so undefined */
            return true;
        if (!dict_find(rt, object.dict, key, &member))
            return false;
        *found = member != NULL;
        if (member != NULL)
            *out = *member;
        return true;
    }
    if (!is_integer(key) || (object.kind != V_STR && object.kind != V_LIST &&
                             object.kind != V_TUPLE && object.kind != V_RANGE))
        return true;
    value_length(object, &count);
    *found = index_in(key, count, &index);
    if (!*found)
        return true;
    if (object.kind == V_RANGE) {
        *out = v_int(object.range->start + (int64_t)index * object.range->step);
        return true;
    }
    if (object.kind != V_STR) {
        *out = object.list->items[index];
        return true;
    }
    uint32_t c;
    size_t at = str_offset(object.s, index);
    int n = str_decode(object.s->data + at, object.s->size - at, &c);
    return (str_is_ascii(object.s) || spend_bytes(rt, at)) &&
           str_slice(rt, object.s, at, at + (size_t)n, out);
}

bool get_item(struct rt *rt, struct value object, struct value key, struct value *out)
{
    bool found;
    if (object.kind == V_UNDEFINED)
        return fail_undefined(rt, object);
    if (!plain_item(rt, object, key, out, &found))
        return false;
    if (!found && key.kind == V_STR && !get_plain_attr(rt, object, key.s, out, &found))
        return false;
    return found || undefined_member(rt, object, key, out);
}

/* ---- slices ------------------------------------------------------------------------------- */

struct span {
    int64_t start, stop, step;
    size_t count;
};

static int64_t clamp(int64_t i, int64_t length, int64_t low, int64_t high)
{
    if (i < 0)
        i += length;
    return i < low ? low : i > high ? high : i;
}

/* Python's slice.indices(). */
static bool slice_span(struct rt *rt, const struct value bounds[3], size_t length, struct span *out)
{
    int64_t n = (int64_t)length, step = 1, start, stop;
    for (int i = 0; i < 3; i++)
        if (bounds[i].kind != V_MISSING && bounds[i].kind != V_NONE && !is_integer(bounds[i]))
            return fail(rt, GRAFT_FORMAT, "slice indices must be integers or None");
    if (is_integer(bounds[2]))
        step = as_integer(bounds[2]);
    if (step == 0)
        return fail(rt, GRAFT_FORMAT, "slice step cannot be zero");
    if (step == INT64_MIN)
        step = -INT64_MAX;
    int64_t low = step < 0 ? -1 : 0, high = step < 0 ? n - 1 : n;
    start = is_integer(bounds[0]) ? clamp(as_integer(bounds[0]), n, low, high)
                                  : (step < 0 ? high : low);
    stop = is_integer(bounds[1]) ? clamp(as_integer(bounds[1]), n, low, high)
                                 : (step < 0 ? low : high);
    int64_t distance = step < 0 ? start - stop : stop - start, stride = step < 0 ? -step : step;
    out->start = start;
    out->stop = stop;
    out->step = step;
    out->count = distance > 0 ? (size_t)((distance - 1) / stride) + 1 : 0;
    return true;
}

static bool slice_string(struct rt *rt, struct str *s, struct span span, struct value *out)
{
    size_t mark = rt->out.size;
    uint32_t c;
    if (span.count == 0)
        return str_slice(rt, s, 0, 0, out);
    if (span.step == 1 || span.count == 1) {
        size_t begin = str_offset(s, (size_t)span.start), end = begin;
        if (str_is_ascii(s)) {
            end = begin + span.count;
        } else {
            for (size_t i = 0; i < span.count; i++)
                end += (size_t)str_decode(s->data + end, s->size - end, &c);
            if (!spend_bytes(rt, end))
                return false;
        }
        return str_slice(rt, s, begin, end, out);
    }
    /* Offsets of all characters once: steps may go either way. */
    size_t n = str_chars(s);
    uint32_t *offsets = rt_alloc(rt, (n + 1) * sizeof *offsets);
    if (offsets == NULL || s->size > UINT32_MAX || !spend_bytes(rt, s->size))
        return offsets != NULL && fail(rt, GRAFT_LIMIT, "string too long");
    for (size_t i = 0, at = 0; i <= n; i++) {
        offsets[i] = (uint32_t)at;
        if (i < n)
            at += (size_t)str_decode(s->data + at, s->size - at, &c);
    }
    for (size_t i = 0; i < span.count; i++) {
        size_t k = (size_t)(span.start + (int64_t)i * span.step);
        if (!write_bytes(rt, s->data + offsets[k], offsets[k + 1] - offsets[k]))
            return false;
    }
    return str_capture(rt, mark, out) && str_mark(rt, s->safe, out);
}

static bool slice_range(struct rt *rt, const struct range *r, struct span span, struct value *out)
{
    struct range *part = rt_alloc(rt, sizeof *part);
    if (part == NULL)
        return false;
    part->count = span.count;
    if (__builtin_mul_overflow(span.start, r->step, &part->start) ||
        __builtin_add_overflow(r->start, part->start, &part->start) ||
        __builtin_mul_overflow(span.step, r->step, &part->step) ||
        __builtin_mul_overflow(span.stop, r->step, &part->stop) ||
        __builtin_add_overflow(r->start, part->stop, &part->stop))
        return fail(rt, GRAFT_FORMAT, "integer overflow");
    *out = (struct value){.kind = V_RANGE, .range = part};
    return true;
}

bool get_slice(struct rt *rt, struct value object, const struct value bounds[3], struct value *out)
{
    struct span span = {0};
    size_t length = 0;
    if (object.kind == V_UNDEFINED)
        return fail_undefined(rt, object);
    if (object.kind != V_STR && object.kind != V_LIST && object.kind != V_TUPLE &&
        object.kind != V_RANGE)
        return fail(rt, GRAFT_FORMAT, "'%s' object cannot be sliced", type_name(object));
    value_length(object, &length);
    if (!slice_span(rt, bounds, length, &span))
        return false;
    if (object.kind == V_STR)
        return slice_string(rt, object.s, span, out);
    if (object.kind == V_RANGE)
        return slice_range(rt, object.range, span, out);
    if (!spend(rt, span.count / 8) || !list_new(rt, object.kind, span.count, out))
        return false;
    for (size_t i = 0; i < span.count; i++)
        out->list->items[i] = object.list->items[span.start + (int64_t)i * span.step];
    out->list->count = span.count;
    return true;
}
