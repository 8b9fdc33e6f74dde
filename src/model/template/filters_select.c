/* filters_select.c: filters that ask another filter or test about each item (map, select, reject and
 * their attr forms), defaults, and the tables of all filters and tests by name.
 */
#include "model/template/render_internal.h"

static bool filter_default(struct rt *rt, struct call *c, struct value *out)
{
    bool replace_value =
        c->self.kind == V_UNDEFINED || (arg_bool(c->arg[1], false) && !truth(c->self));
    *out = c->self;
    if (replace_value && c->arg[0].kind == V_MISSING)
        return str_literal(rt, "", out);
    if (replace_value)
        *out = c->arg[0];
    return true;
}

static bool filter_attr(struct rt *rt, struct call *c, struct value *out)
{
    struct str *name;
    bool found;
    if (!arg_str(rt, c->arg[0], "attribute name", &name))
        return false;
    if (c->self.kind == V_UNDEFINED)
        return fail_undefined(rt, c->self);
    return get_plain_attr(rt, c->self, name, out, &found) &&
           (found || undefined_member(rt, c->self, c->arg[0], out));
}

/* The filter or test named by the first argument left, with the arguments behind it. */
struct inner {
    const struct builtin *builtin;
    struct args args;
};

static bool inner_named(struct rt *rt, struct value name, const struct args *args, size_t skip,
                        bool is_filter, struct inner *out)
{
    struct str *s;
    if (!arg_str(rt, name, is_filter ? "filter name" : "test name", &s))
        return false;
    out->builtin = is_filter ? filter_find(s->data, s->size) : test_find(s->data, s->size);
    if (out->builtin == NULL)
        return fail(rt, GRAFT_FORMAT, "no %s named '%.*s'", is_filter ? "filter" : "test",
                    (int)(s->size < 60 ? s->size : 60), s->data);
    out->args = (struct args){.items = args->items + skip,
                              .count = args->count - skip,
                              .keywords = args->keywords,
                              .n_keywords = args->n_keywords};
    return true;
}

/* map(attribute="…", default=…) */
static bool map_attribute(struct rt *rt, const struct args *args, struct value *attribute,
                          struct value *fallback)
{
    attribute->kind = fallback->kind = V_MISSING;
    for (size_t i = 0; i < args->n_keywords; i++) {
        const struct kwarg *k = &args->keywords[i];
        if (str_equals(k->name, "attribute"))
            *attribute = k->value;
        else if (str_equals(k->name, "default"))
            *fallback = k->value;
        else
            return fail(rt, GRAFT_FORMAT, "map() got an unexpected keyword argument");
    }
    return attribute->kind != V_MISSING ||
           fail(rt, GRAFT_FORMAT, "map requires a filter or attribute=");
}

static bool filter_map(struct rt *rt, struct call *c, struct value *out)
{
    struct value list, item, attribute, fallback;
    struct inner inner;
    struct iter it;
    int more = 0;
    if (!list_new(rt, V_LIST, 0, &list))
        return false;
    if (!truth(c->self))
        return gen_new(rt, "generator", list, out);
    if (c->args->count > 0 ? !inner_named(rt, c->args->items[0], c->args, 1, true, &inner)
                           : !map_attribute(rt, c->args, &attribute, &fallback))
        return false;
    if (!rt_enter(rt) || !iter_begin(rt, c->self, &it))
        return false;
    while ((more = iter_next(rt, &it, &item)) == 1) {
        if (c->args->count > 0 ? !call_builtin(rt, inner.builtin, item, &inner.args, &item)
                               : !attribute_path(rt, item, attribute, &item))
            return false;
        if (c->args->count == 0 && item.kind == V_UNDEFINED && fallback.kind != V_MISSING &&
            fallback.kind != V_NONE)
            item = fallback;
        if (!list_push(rt, list.list, item))
            return false;
    }
    rt->depth--;
    return more == 0 && gen_new(rt, "generator", list, out);
}

static bool select_items(struct rt *rt, struct call *c, bool keep, bool by_attribute,
                         struct value *out)
{
    struct value list, item, asked;
    struct inner inner = {0};
    struct iter it;
    size_t skip = by_attribute;
    int more;
    if (!list_new(rt, V_LIST, 0, &list))
        return false;
    if (!truth(c->self))
        return gen_new(rt, "generator", list, out);
    if (by_attribute && c->args->count == 0)
        return fail(rt, GRAFT_FORMAT, "the attribute name is missing");
    if (c->args->count > skip &&
        !inner_named(rt, c->args->items[skip], c->args, skip + 1, false, &inner))
        return false;
    if (!iter_begin(rt, c->self, &it))
        return false;
    while ((more = iter_next(rt, &it, &item)) == 1) {
        asked = item;
        if ((by_attribute && !attribute_path(rt, item, c->args->items[0], &asked)) ||
            (inner.builtin != NULL &&
             !call_builtin(rt, inner.builtin, asked, &inner.args, &asked)) ||
            (truth(asked) == keep && !list_push(rt, list.list, item)))
            return false;
    }
    return more == 0 && gen_new(rt, "generator", list, out);
}

static bool filter_select(struct rt *rt, struct call *c, struct value *out)
{
    return select_items(rt, c, true, false, out);
}

static bool filter_reject(struct rt *rt, struct call *c, struct value *out)
{
    return select_items(rt, c, false, false, out);
}

static bool filter_selectattr(struct rt *rt, struct call *c, struct value *out)
{
    return select_items(rt, c, true, true, out);
}

static bool filter_rejectattr(struct rt *rt, struct call *c, struct value *out)
{
    return select_items(rt, c, false, true, out);
}

static const struct builtin select_filters[] = {
    {"default", "default_value? boolean?", filter_default},
    {"d", "default_value? boolean?", filter_default},
    {"attr", "name", filter_attr},
    {"map", "*", filter_map},
    {"select", "*", filter_select},
    {"reject", "*", filter_reject},
    {"selectattr", "*", filter_selectattr},
    {"rejectattr", "*", filter_rejectattr},
    {NULL, NULL, NULL}};

const struct builtin *filter_find(const char *name, size_t size)
{
    static const struct builtin *const tables[] = {text_filters, number_filters, sequence_filters,
                                                   select_filters};
    const struct builtin *found = NULL;
    for (size_t i = 0; i < ARRAY_LEN(tables) && found == NULL; i++)
        found = builtin_find(tables[i], name, size);
    return found;
}
