/* tojson.c: the tojson filter as Hugging Face defines it: Python's json.dumps with ensure_ascii off,
 * keys in their order, ", " and ": " between things, no HTML escaping.
 */
#include "model/template/render_internal.h"

#include <math.h>

struct dump {
    struct rt *rt;
    const struct str *indent; /* NULL: one line */
    struct value item_separator, key_separator;
    bool ascii, sort;
};

static bool dump_value(struct dump *d, struct value v, int depth);

static bool dump_string(struct dump *d, const struct str *s)
{
    struct rt *rt = d->rt;
    uint32_t c;
    char text[16];
    if (!write_text(rt, "\""))
        return false;
    for (size_t i = 0, n; i < s->size; i += n) {
        static const char from[] = "\"\\\n\r\t\b\f", to[] = "\"\\nrtbf";
        n = (size_t)str_decode(s->data + i, s->size - i, &c);
        const char *simple = c > 0 && c < 0x80 ? strchr(from, (int)c) : NULL;
        int size = 0;
        if (simple != NULL)
            size = snprintf(text, sizeof text, "\\%c", to[simple - from]);
        else if (c < 0x20 || (d->ascii && c >= 0x7F && c < 0x10000))
            size = snprintf(text, sizeof text, "\\u%04x", (unsigned)c);
        else if (d->ascii && c >= 0x10000)
            size = snprintf(text, sizeof text, "\\u%04x\\u%04x",
                            (unsigned)(0xD800 + ((c - 0x10000) >> 10)),
                            (unsigned)(0xDC00 + ((c - 0x10000) & 0x3FF)));
        if (!(size > 0 ? write_bytes(rt, text, (size_t)size) : write_bytes(rt, s->data + i, n)))
            return false;
    }
    return write_text(rt, "\"");
}

static bool dump_float(struct dump *d, double f)
{
    if (isnan(f))
        return write_text(d->rt, "NaN");
    if (isinf(f))
        return write_text(d->rt, f > 0 ? "Infinity" : "-Infinity");
    return write_str(d->rt, v_float(f));
}

static bool dump_word(struct dump *d, struct value v)
{
    return write_text(d->rt, v.kind == V_NONE ? "null" : v.b ? "true" : "false");
}

static bool new_line(struct dump *d, int depth)
{
    if (d->indent == NULL)
        return true;
    if (!write_text(d->rt, "\n"))
        return false;
    for (int i = 0; i < depth; i++)
        if (!write_bytes(d->rt, d->indent->data, d->indent->size))
            return false;
    return true;
}

static bool dump_list(struct dump *d, const struct list *list, int depth)
{
    if (list->count == 0)
        return write_text(d->rt, "[]");
    if (!write_text(d->rt, "["))
        return false;
    for (size_t i = 0; i < list->count; i++)
        if ((i > 0 && !write_str(d->rt, d->item_separator)) || !new_line(d, depth + 1) ||
            !dump_value(d, list->items[i], depth + 1))
            return false;
    return new_line(d, depth) && write_text(d->rt, "]");
}

static bool dump_key(struct dump *d, struct value key)
{
    bool quoted =
        key.kind == V_INT || key.kind == V_FLOAT || key.kind == V_BOOL || key.kind == V_NONE;
    if (key.kind == V_STR)
        return dump_string(d, key.s);
    if (!quoted)
        return fail(d->rt, GRAFT_FORMAT,
                    "tojson: keys must be str, int, float, bool or None, not %s", type_name(key));
    return write_text(d->rt, "\"") && dump_value(d, key, 0) && write_text(d->rt, "\"");
}

static bool dump_dict(struct dump *d, const struct dict *dict, int depth)
{
    struct rt *rt = d->rt;
    if (dict->count == 0)
        return write_text(rt, "{}");
    struct value *keys = rt_alloc(rt, dict->count * sizeof *keys);
    struct value *values = keys == NULL ? NULL : rt_alloc(rt, dict->count * sizeof *values);
    if (values == NULL || !write_text(rt, "{"))
        return false;
    for (size_t i = 0; i < dict->count; i++) {
        keys[i] = dict->entries[i].key;
        values[i] = dict->entries[i].value;
    }
    if (d->sort && !sort_values(rt, values, keys, dict->count, false))
        return false;
    for (size_t i = 0; i < dict->count; i++)
        if ((i > 0 && !write_str(rt, d->item_separator)) || !new_line(d, depth + 1) ||
            !dump_key(d, keys[i]) || !write_str(rt, d->key_separator) ||
            !dump_value(d, values[i], depth + 1))
            return false;
    return new_line(d, depth) && write_text(rt, "}");
}

static bool dump_value(struct dump *d, struct value v, int depth)
{
    if (depth > DATA_DEPTH)
        return fail(d->rt, GRAFT_LIMIT, "the data nests too deep");
    if (!spend(d->rt, 1))
        return false;
    switch (v.kind) {
    case V_NONE:
    case V_BOOL:
        return dump_word(d, v);
    case V_INT:
        return write_str(d->rt, v);
    case V_FLOAT:
        return dump_float(d, v.f);
    case V_STR:
        return dump_string(d, v.s);
    case V_LIST:
    case V_TUPLE:
        return dump_list(d, v.list, depth);
    case V_DICT:
        return dump_dict(d, v.dict, depth);
    default:
        return fail(d->rt, GRAFT_FORMAT, "object of type %s is not JSON serializable",
                    type_name(v));
    }
}

/* tojson(ensure_ascii=false, indent=none, separators=none, sort_keys=false) */
bool to_json(struct rt *rt, struct call *c, struct value *out)
{
    struct dump d = {
        .rt = rt, .ascii = arg_bool(c->arg[0], false), .sort = arg_bool(c->arg[3], false)};
    struct value indent = c->arg[1], separators = c->arg[2];
    size_t mark = rt->out.size;
    int64_t width;
    if (indent.kind == V_STR) {
        d.indent = indent.s;
    } else if (indent.kind != V_MISSING && indent.kind != V_NONE) {
        if (!arg_int(rt, indent, 0, &width) || !str_literal(rt, "", &indent) ||
            !pad(rt, indent.s, width, 0, ' ', &indent))
            return false;
        d.indent = indent.s;
    }
    if (!str_literal(rt, d.indent == NULL ? ", " : ",", &d.item_separator) ||
        !str_literal(rt, ": ", &d.key_separator))
        return false;
    if (separators.kind != V_MISSING && separators.kind != V_NONE) {
        struct value parts;
        if (!to_list(rt, separators, V_LIST, &parts))
            return false;
        if (parts.list->count != 2 || parts.list->items[0].kind != V_STR ||
            parts.list->items[1].kind != V_STR)
            return fail(rt, GRAFT_FORMAT, "tojson: separators must be two strings");
        d.item_separator = parts.list->items[0];
        d.key_separator = parts.list->items[1];
    }
    return dump_value(&d, c->self, 0) && str_capture(rt, mark, out);
}
