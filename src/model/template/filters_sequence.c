/* filters_sequence.c: filters over sequences and mappings as wholes: first, join, sort, unique, …
 * The ones that call another filter or test per item are in filters_select.c.
 */
#include "model/template/render_internal.h"

/* ---- keys --------------------------------------------------------------------------------- */

static bool is_index(const struct str *s, int64_t *index)
{
    *index = 0;
    for (size_t i = 0; i < s->size; i++) {
        if (s->data[i] < '0' || s->data[i] > '9' || *index > INT64_MAX / 10 - 1)
            return false;
        *index = *index * 10 + (s->data[i] - '0');
    }
    return s->size > 0;
}

/* "a.b.0" item by item; an integer is one item; missing gives the object itself. */
bool attribute_path(struct rt *rt, struct value object, struct value path, struct value *out)
{
    *out = object;
    if (path.kind == V_MISSING || path.kind == V_NONE)
        return true;
    if (path.kind != V_STR)
        return get_item(rt, object, path, out);
    for (size_t begin = 0; begin <= path.s->size;) {
        const char *rest = path.s->data + begin;
        const char *dot = path.s->size > begin ? memchr(rest, '.', path.s->size - begin) : NULL;
        size_t end = dot == NULL ? path.s->size : (size_t)(dot - path.s->data);
        struct value key;
        int64_t index;
        if (!str_slice(rt, path.s, begin, end, &key))
            return false;
        if (is_index(key.s, &index))
            key = v_int(index);
        if (!get_item(rt, *out, key, out))
            return false;
        begin = end + 1;
    }
    return true;
}

static bool fold(struct rt *rt, bool case_sensitive, struct value *key)
{
    return case_sensitive || key->kind != V_STR || map_case(rt, key->s, CASE_LOWER, key);
}

static bool sort_key(struct rt *rt, struct value item, struct value attribute, bool case_sensitive,
                     struct value *out)
{
    return attribute_path(rt, item, attribute, out) && fold(rt, case_sensitive, out);
}

/* The key of `sort`: a list, one entry for each attribute between commas. */
static bool multi_key(struct rt *rt, struct value item, struct value attribute, bool case_sensitive,
                      struct value *out)
{
    struct value part = attribute, key;
    size_t begin = 0;
    if (!list_new(rt, V_LIST, 1, out))
        return false;
    do {
        size_t end = 0;
        if (attribute.kind == V_STR) {
            const char *rest = attribute.s->data + begin;
            const char *comma =
                attribute.s->size > begin ? memchr(rest, ',', attribute.s->size - begin) : NULL;
            end = comma == NULL ? attribute.s->size : (size_t)(comma - attribute.s->data);
            if (!str_slice(rt, attribute.s, begin, end, &part))
                return false;
        }
        if (!sort_key(rt, item, part, case_sensitive, &key) || !list_push(rt, out->list, key))
            return false;
        begin = end + 1;
    } while (attribute.kind == V_STR && begin <= attribute.s->size);
    return true;
}

/* ---- sorting ------------------------------------------------------------------------------ */

struct sorter {
    struct rt *rt;
    const struct value *keys;
    size_t *order, *scratch;
    bool reverse;
};

/* Whether the right item must come before the left one. */
static bool before(struct sorter *s, size_t right, size_t left, bool *out)
{
    return s->reverse ? value_order(s->rt, s->keys[left], s->keys[right], ORDER_LT, out)
                      : value_order(s->rt, s->keys[right], s->keys[left], ORDER_LT, out);
}

static bool merge(struct sorter *s, size_t begin, size_t middle, size_t end)
{
    size_t i = begin, j = middle, k = begin;
    bool right;
    while (i < middle && j < end) {
        if (!before(s, s->order[j], s->order[i], &right))
            return false;
        s->scratch[k++] = right ? s->order[j++] : s->order[i++];
    }
    while (i < middle)
        s->scratch[k++] = s->order[i++];
    while (j < end)
        s->scratch[k++] = s->order[j++];
    return spend(s->rt, end - begin);
}

bool sort_values(struct rt *rt, struct value *items, struct value *keys, size_t n, bool reverse)
{
    struct sorter s = {.rt = rt, .keys = keys, .reverse = reverse};
    struct value *sorted = rt_alloc(rt, n * sizeof *sorted);
    s.order = sorted == NULL ? NULL : rt_alloc(rt, n * sizeof *s.order);
    s.scratch = s.order == NULL ? NULL : rt_alloc(rt, n * sizeof *s.scratch);
    if (s.scratch == NULL)
        return false;
    for (size_t i = 0; i < n; i++)
        s.order[i] = i;
    for (size_t width = 1; width < n; width *= 2) {
        for (size_t begin = 0; begin < n; begin += 2 * width) {
            size_t middle = begin + width < n ? begin + width : n;
            size_t end = middle + width < n ? middle + width : n;
            if (!merge(&s, begin, middle, end))
                return false;
        }
        size_t *swap = s.order;
        s.order = s.scratch;
        s.scratch = swap;
    }
    for (size_t i = 0; i < n; i++)
        sorted[i] = items[s.order[i]];
    if (n > 0)
        memcpy(items, sorted, n * sizeof *items);
    for (size_t i = 0; i < n; i++)
        sorted[i] = keys[s.order[i]];
    if (n > 0)
        memcpy(keys, sorted, n * sizeof *keys);
    return true;
}

static bool filter_sort(struct rt *rt, struct call *c, struct value *out)
{
    bool case_sensitive = arg_bool(c->arg[1], false);
    if (!to_list(rt, c->self, V_LIST, out))
        return false;
    struct list *items = out->list;
    struct value *keys = rt_alloc(rt, items->count * sizeof *keys);
    if (keys == NULL)
        return false;
    for (size_t i = 0; i < items->count; i++)
        if (!multi_key(rt, items->items[i], c->arg[2], case_sensitive, &keys[i]))
            return false;
    return sort_values(rt, items->items, keys, items->count, arg_bool(c->arg[0], false));
}

static bool filter_dictsort(struct rt *rt, struct call *c, struct value *out)
{
    struct value by = c->arg[1];
    bool case_sensitive = arg_bool(c->arg[0], false), by_value = false;
    if (by.kind != V_MISSING) {
        by_value = by.kind == V_STR && str_equals(by.s, "value");
        if (!by_value && (by.kind != V_STR || !str_equals(by.s, "key")))
            return fail(rt, GRAFT_FORMAT, "dictsort sorts by \"key\" or \"value\"");
    }
    if (c->self.kind == V_UNDEFINED)
        return fail_undefined(rt, c->self);
    if (c->self.kind != V_DICT)
        return fail(rt, GRAFT_FORMAT, "dictsort needs a mapping, not %s", type_name(c->self));
    struct view view = {c->self.dict, VIEW_ITEMS};
    if (!to_list(rt, (struct value){.kind = V_VIEW, .view = &view}, V_LIST, out))
        return false;
    struct value *keys = rt_alloc(rt, out->list->count * sizeof *keys);
    for (size_t i = 0; i < out->list->count && keys != NULL; i++) {
        keys[i] = out->list->items[i].list->items[by_value];
        if (!fold(rt, case_sensitive, &keys[i]))
            return false;
    }
    return keys != NULL &&
           sort_values(rt, out->list->items, keys, out->list->count, arg_bool(c->arg[2], false));
}

static bool filter_groupby(struct rt *rt, struct call *c, struct value *out)
{
    struct value all, group, pair, *keys;
    bool case_sensitive = arg_bool(c->arg[2], false), same = false;
    if (!to_list(rt, c->self, V_LIST, &all) ||
        (keys = rt_alloc(rt, all.list->count * sizeof *keys)) == NULL ||
        !list_new(rt, V_LIST, 0, out))
        return false;
    for (size_t i = 0; i < all.list->count; i++) {
        if (!attribute_path(rt, all.list->items[i], c->arg[0], &keys[i]))
            return false;
        if (keys[i].kind == V_UNDEFINED && c->arg[1].kind != V_MISSING && c->arg[1].kind != V_NONE)
            keys[i] = c->arg[1];
        if (!fold(rt, case_sensitive, &keys[i]))
            return false;
    }
    if (!sort_values(rt, all.list->items, keys, all.list->count, false))
        return false;
    for (size_t i = 0; i < all.list->count; i++) {
        if (i > 0 && !value_equal(rt, keys[i - 1], keys[i], &same))
            return false;
        if (i == 0 || !same) { /* named by its first item, in that item's own case */
            struct value name;
            if (!attribute_path(rt, all.list->items[i], c->arg[0], &name))
                return false;
            if (name.kind == V_UNDEFINED)
                name = keys[i];
            if (!list_new(rt, V_LIST, 0, &group) || !pair_new(rt, name, group, &pair) ||
                !list_push(rt, out->list, pair))
                return false;
            pair.list->is_group = true;
        }
        if (!list_push(rt, group.list, all.list->items[i]))
            return false;
    }
    return true;
}

/* ---- one out of many ---------------------------------------------------------------------- */

static bool filter_length(struct rt *rt, struct call *c, struct value *out)
{
    size_t n;
    int64_t length;
    if (c->self.kind == V_LOOP) {
        *out = v_int(0);
        return loop_length(rt, c->self.loop, &length) && (*out = v_int(length), true);
    }
    if (!value_length(c->self, &n))
        return fail(rt, GRAFT_FORMAT, "object of type '%s' has no len()", type_name(c->self));
    *out = v_int((int64_t)n);
    return true;
}

static bool filter_first(struct rt *rt, struct call *c, struct value *out)
{
    struct iter it;
    if (!iter_begin(rt, c->self, &it))
        return false;
    int more = iter_next(rt, &it, out);
    return more == 1 ||
           (more == 0 && undefined_hint(rt, "no first item, the sequence was empty", out));
}

static bool filter_last(struct rt *rt, struct call *c, struct value *out)
{
    struct value list;
    if (c->self.kind == V_ITER || !is_iterable(c->self))
        return fail(rt, GRAFT_FORMAT, "'%s' object is not reversible", type_name(c->self));
    if (c->self.kind == V_STR && c->self.s->size > 0)
        return get_item(rt, c->self, v_int(-1), out);
    if (!to_list(rt, c->self, V_LIST, &list))
        return false;
    if (list.list->count == 0)
        return undefined_hint(rt, "no last item, the sequence was empty", out);
    *out = list.list->items[list.list->count - 1];
    return true;
}

static bool extreme(struct rt *rt, struct call *c, enum order op, struct value *out)
{
    struct iter it;
    struct value item, key, best;
    bool better, any = false, case_sensitive = arg_bool(c->arg[0], false);
    int more;
    if (!iter_begin(rt, c->self, &it))
        return false;
    while ((more = iter_next(rt, &it, &item)) == 1) {
        if (!sort_key(rt, item, c->arg[1], case_sensitive, &key))
            return false;
        better = !any;
        if (any && !value_order(rt, key, best, op, &better))
            return false;
        if (better) {
            best = key;
            *out = item;
        }
        any = true;
    }
    if (more < 0)
        return false;
    return any || undefined_hint(rt, "no aggregated item, the sequence was empty", out);
}

static bool filter_min(struct rt *rt, struct call *c, struct value *out)
{
    return extreme(rt, c, ORDER_LT, out);
}

static bool filter_max(struct rt *rt, struct call *c, struct value *out)
{
    return extreme(rt, c, ORDER_GT, out);
}

static bool filter_sum(struct rt *rt, struct call *c, struct value *out)
{
    struct iter it;
    struct value item;
    int more;
    *out = c->arg[1].kind == V_MISSING ? v_int(0) : c->arg[1];
    if (out->kind == V_STR)
        return fail(rt, GRAFT_FORMAT, "sum() cannot sum strings");
    if (!iter_begin(rt, c->self, &it))
        return false;
    while ((more = iter_next(rt, &it, &item)) == 1)
        if (!attribute_path(rt, item, c->arg[0], &item) || !arith(rt, OP_ADD, *out, item, out))
            return false;
    return more == 0;
}

static bool filter_join(struct rt *rt, struct call *c, struct value *out)
{
    struct value separator, items = c->self, list;
    if (c->arg[0].kind == V_MISSING ? !str_literal(rt, "", &separator)
                                    : !to_str(rt, c->arg[0], &separator))
        return false;
    if (c->arg[1].kind != V_MISSING && c->arg[1].kind != V_NONE) {
        if (!to_list(rt, items, V_LIST, &list))
            return false;
        for (size_t i = 0; i < list.list->count; i++)
            if (!attribute_path(rt, list.list->items[i], c->arg[1], &list.list->items[i]))
                return false;
        items = list;
    }
    return join(rt, separator.s, items, out);
}

/* ---- other sequences ---------------------------------------------------------------------- */

static bool filter_list(struct rt *rt, struct call *c, struct value *out)
{
    return to_list(rt, c->self, V_LIST, out);
}

static bool filter_items(struct rt *rt, struct call *c, struct value *out)
{
    struct view view = {c->self.dict, VIEW_ITEMS};
    struct value list;
    if (c->self.kind == V_UNDEFINED)
        return list_new(rt, V_LIST, 0, &list) && gen_new(rt, "generator", list, out);
    if (c->self.kind != V_DICT)
        return fail(rt, GRAFT_FORMAT, "items needs a mapping, not %s", type_name(c->self));
    return to_list(rt, (struct value){.kind = V_VIEW, .view = &view}, V_LIST, &list) &&
           gen_new(rt, "generator", list, out);
}

static bool filter_reverse(struct rt *rt, struct call *c, struct value *out)
{
    static const struct value bounds[3] = {
        {.kind = V_MISSING}, {.kind = V_MISSING}, {.kind = V_INT, .i = -1}};
    struct value list;
    if (c->self.kind == V_STR)
        return get_slice(rt, c->self, bounds, out);
    if (!to_list(rt, c->self, V_LIST, &list) || !get_slice(rt, list, bounds, &list))
        return false;
    if (c->self.kind == V_ITER) { /* what cannot be reversed becomes a list first, and stays one */
        *out = list;
        return true;
    }
    return gen_new(rt, "reversed", list, out);
}

static bool filter_unique(struct rt *rt, struct call *c, struct value *out)
{
    struct iter it;
    struct value item, key, seen, list, *found;
    bool case_sensitive = arg_bool(c->arg[0], false);
    int more;
    if (!iter_begin(rt, c->self, &it) || !dict_new(rt, V_DICT, &seen) ||
        !list_new(rt, V_LIST, 0, &list))
        return false;
    while ((more = iter_next(rt, &it, &item)) == 1) {
        if (!sort_key(rt, item, c->arg[1], case_sensitive, &key) ||
            !dict_find(rt, seen.dict, key, &found))
            return false;
        if (found == NULL &&
            (!dict_put(rt, seen.dict, key, v_none()) || !list_push(rt, list.list, item)))
            return false;
    }
    return more == 0 && gen_new(rt, "generator", list, out);
}

static bool filter_batch(struct rt *rt, struct call *c, struct value *out)
{
    struct iter it;
    struct value item, list, row = {.kind = V_MISSING};
    int64_t width;
    int more;
    if (!arg_int(rt, c->arg[0], 0, &width) || !iter_begin(rt, c->self, &it) ||
        !list_new(rt, V_LIST, 0, &list))
        return false;
    while ((more = iter_next(rt, &it, &item)) == 1) {
        bool full = row.kind != V_MISSING && (int64_t)row.list->count == width;
        if (row.kind == V_MISSING && width == 0 &&
            (!list_new(rt, V_LIST, 0, &row) || !list_push(rt, list.list, row)))
            return false; /* jinja2 gives an empty row first */
        if ((row.kind == V_MISSING || full || width == 0) &&
            (!list_new(rt, V_LIST, 0, &row) || !list_push(rt, list.list, row)))
            return false;
        if (!list_push(rt, row.list, item))
            return false;
    }
    bool fill = c->arg[1].kind != V_MISSING && c->arg[1].kind != V_NONE;
    while (more == 0 && fill && row.kind != V_MISSING && (int64_t)row.list->count < width)
        if (!list_push(rt, row.list, c->arg[1]))
            return false;
    return more == 0 && gen_new(rt, "generator", list, out);
}

static bool filter_slice(struct rt *rt, struct call *c, struct value *out)
{
    struct value all, list, row;
    int64_t slices, offset = 0;
    bool fill = c->arg[1].kind != V_MISSING && c->arg[1].kind != V_NONE;
    if (!arg_int(rt, c->arg[0], 0, &slices) || !to_list(rt, c->self, V_LIST, &all) ||
        !list_new(rt, V_LIST, 0, &list))
        return false;
    if (slices == 0)
        return fail(rt, GRAFT_FORMAT, "division by zero");
    int64_t n = (int64_t)all.list->count, each = n / slices, extra = n % slices;
    for (int64_t i = 0; i < slices; i++) {
        int64_t start = offset + i * each;
        offset += i < extra;
        int64_t end = offset + (i + 1) * each;
        if (!list_new(rt, V_LIST, 0, &row) || !list_push(rt, list.list, row))
            return false;
        for (int64_t k = start; k < end; k++)
            if (!list_push(rt, row.list, all.list->items[k]))
                return false;
        if (fill && i >= extra && !list_push(rt, row.list, c->arg[1]))
            return false;
    }
    return gen_new(rt, "generator", list, out);
}

const struct builtin sequence_filters[] = {
    {"length", "", filter_length},
    {"count", "", filter_length},
    {"first", "", filter_first},
    {"last", "", filter_last},
    {"min", "case_sensitive? attribute?", filter_min},
    {"max", "case_sensitive? attribute?", filter_max},
    {"sum", "attribute? start?", filter_sum},
    {"join", "d? attribute?", filter_join},
    {"list", "", filter_list},
    {"items", "", filter_items},
    {"reverse", "", filter_reverse},
    {"sort", "reverse? case_sensitive? attribute?", filter_sort},
    {"dictsort", "case_sensitive? by? reverse?", filter_dictsort},
    {"groupby", "attribute default? case_sensitive?", filter_groupby},
    {"unique", "case_sensitive? attribute?", filter_unique},
    {"batch", "linecount fill_with?", filter_batch},
    {"slice", "slices fill_with?", filter_slice},
    {NULL, NULL, NULL}};
