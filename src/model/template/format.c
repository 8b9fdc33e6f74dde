/* format.c: "…" % args and "…".format(…).
 *
 * Fields reach only what attribute and item access reach. A safe string escapes what it takes in.
 */
#include "model/template/render_internal.h"

#include <math.h>

/* ---- % ------------------------------------------------------------------------------------ */

struct percent {
    struct rt *rt;
    const char *at, *end;
    struct value args;
    size_t next; /* of a tuple, or 1 after a single value was used */
    bool safe, any_key;
};

static bool next_argument(struct percent *p, struct value *out)
{
    bool tuple = p->args.kind == V_TUPLE;
    if (p->next >= (tuple ? p->args.list->count : 1))
        return fail(p->rt, GRAFT_FORMAT, "not enough arguments for the format string");
    *out = tuple ? p->args.list->items[p->next] : p->args;
    p->next++;
    return true;
}

/* %(name)…: the argument of that name; *found false when there is no name. */
static bool named_argument(struct percent *p, struct value *out, bool *found)
{
    struct value *member;
    int depth = 1;
    *found = p->at < p->end && *p->at == '(';
    if (!*found)
        return true;
    const char *name = ++p->at;
    for (; p->at < p->end; p->at++) {
        depth += *p->at == '(' ? 1 : *p->at == ')' ? -1 : 0;
        if (depth == 0)
            break;
    }
    if (p->at == p->end)
        return fail(p->rt, GRAFT_FORMAT, "incomplete format key");
    if (p->args.kind != V_DICT)
        return fail(p->rt, GRAFT_FORMAT, "format requires a mapping");
    if (!dict_find_str(p->rt, p->args.dict, name, (size_t)(p->at - name), &member))
        return false;
    if (member == NULL)
        return fail(p->rt, GRAFT_FORMAT, "format key not found");
    *out = *member;
    p->at++;
    p->any_key = true;
    return true;
}

/* A width or precision: digits or '*'. */
static bool percent_size(struct percent *p, int64_t *out)
{
    struct value v;
    if (p->at < p->end && *p->at == '*') {
        p->at++;
        if (!next_argument(p, &v))
            return false;
        if (!is_integer(v))
            return fail(p->rt, GRAFT_FORMAT, "* wants an integer");
        *out = as_integer(v);
        return true;
    }
    for (; p->at < p->end && *p->at >= '0' && *p->at <= '9'; p->at++)
        if (*out < (int64_t)1 << 40)
            *out = (*out < 0 ? 0 : *out) * 10 + (*p->at - '0');
    return true;
}

static bool percent_text(struct percent *p, struct number_format *f, struct value v)
{
    struct value text;
    if (!(f->type == 's' ? to_soft_str(p->rt, v, &text) : to_repr(p->rt, v, &text)) ||
        (p->safe && !escape_html(p->rt, text, &text)))
        return false;
    size_t size = text.s->size;
    if (f->precision >= 0 && (uint64_t)f->precision < str_chars(text.s))
        size = str_offset(text.s, (size_t)f->precision);
    return format_padded(p->rt, f, "", text.s->data, size);
}

static bool percent_number(struct percent *p, struct number_format *f, struct value v)
{
    struct rt *rt = p->rt;
    if (f->type == 'c' && v.kind == V_STR && str_chars(v.s) == 1)
        return format_padded(rt, f, "", v.s->data, v.s->size);
    if (v.kind == V_UNDEFINED)
        return fail_undefined(rt, v);
    if (!is_number(v) || (v.kind == V_FLOAT && strchr("oxXc", f->type) != NULL))
        return fail(rt, GRAFT_FORMAT, "%%%c format: a number is required, not %s", f->type,
                    type_name(v));
    if (f->type == 'i' || f->type == 'u')
        f->type = 'd';
    if (v.kind == V_FLOAT && f->type == 'd') {
        if (!(fabs(v.f) < 9223372036854775808.0))
            return fail(rt, GRAFT_FORMAT, "integer overflow");
        v = v_int((int64_t)v.f);
    }
    if (f->zero && f->align != '<') {
        f->fill[0] = '0';
        f->align = '=';
    }
    return format_number(rt, v, f);
}

/* One conversion, p->at behind the '%'. */
static bool percent_one(struct percent *p)
{
    struct number_format f = {
        .fill = " ", .fill_size = 1, .align = '>', .sign = '-', .width = -1, .precision = -1};
    struct value v;
    bool named;
    if (!named_argument(p, &v, &named))
        return false;
    for (; p->at < p->end && *p->at != 0 && strchr("-+ #0", *p->at) != NULL; p->at++) {
        f.align = *p->at == '-' ? '<' : f.align;
        f.sign = *p->at == '+' || (*p->at == ' ' && f.sign != '+') ? *p->at : f.sign;
        f.alternate |= *p->at == '#';
        f.zero |= *p->at == '0';
    }
    if (!percent_size(p, &f.width))
        return false;
    if (f.width < -1) {
        f.align = '<';
        f.width = f.width == INT64_MIN ? INT64_MAX : -f.width;
    }
    if (p->at < p->end && *p->at == '.') {
        p->at++;
        f.precision = 0;
        if (!percent_size(p, &f.precision))
            return false;
        f.precision = f.precision < 0 ? 0 : f.precision;
    }
    if (p->at < p->end && (*p->at == 'h' || *p->at == 'l' || *p->at == 'L'))
        p->at++;
    if (p->at == p->end)
        return fail(p->rt, GRAFT_FORMAT, "incomplete format");
    f.type = *p->at++;
    if (f.type == '%')
        return write_text(p->rt, "%");
    if (f.type == 0 || strchr("srdiuoxXeEfFgGc", f.type) == NULL)
        return fail(p->rt, GRAFT_FORMAT, "unsupported format character");
    if (!named && !next_argument(p, &v))
        return false;
    return f.type == 's' || f.type == 'r' ? percent_text(p, &f, v) : percent_number(p, &f, v);
}

bool percent_format(struct rt *rt, struct str *format, struct value args, struct value *out)
{
    struct percent p = {.rt = rt,
                        .at = format->data,
                        .end = format->data + format->size,
                        .args = args,
                        .safe = format->safe};
    size_t mark = rt->out.size;
    while (p.at < p.end) {
        const char *percent = memchr(p.at, '%', (size_t)(p.end - p.at));
        const char *stop = percent == NULL ? p.end : percent;
        if (!spend(rt, 1) || !write_bytes(rt, p.at, (size_t)(stop - p.at)))
            return false;
        p.at = stop;
        if (percent != NULL && (p.at++, !percent_one(&p)))
            return false;
    }
    bool mapping = args.kind == V_DICT || args.kind == V_LIST || args.kind == V_RANGE ||
                   args.kind == V_UNDEFINED;
    if (args.kind == V_TUPLE ? p.next < args.list->count : p.next == 0 && !mapping)
        return fail(rt, GRAFT_FORMAT, "not all arguments converted during string formatting");
    return str_capture(rt, mark, out) && str_mark(rt, format->safe, out);
}

/* ---- str.format --------------------------------------------------------------------------- */

struct fields {
    struct rt *rt;
    const struct args *args;
    const struct dict *mapping; /* of format_map; NULL: args */
    int64_t automatic;          /* next number of {}; -1 once fields were numbered */
    bool numbered, safe;
};

static bool field_number(struct fields *f, const char *name, size_t size, bool whole,
                         int64_t *index)
{
    if (size == 0) {
        if (f->numbered)
            return fail(f->rt, GRAFT_FORMAT, "format: numbered and automatic fields are mixed");
        *index = f->automatic++;
        return true;
    }
    *index = 0;
    for (size_t i = 0; i < size; i++)
        *index = *index > 1000000 ? *index : *index * 10 + (name[i] - '0');
    if (!whole)
        return true;
    if (f->automatic > 0)
        return fail(f->rt, GRAFT_FORMAT, "format: numbered and automatic fields are mixed");
    f->numbered = true;
    return true;
}

/* `whole`: nothing follows the name; only then are fields counted, as in Python's Formatter. */
static bool field_base(struct fields *f, const char *name, size_t size, bool whole,
                       struct value *out)
{
    struct value *member;
    int64_t index = 0;
    bool digits = true;
    for (size_t i = 0; i < size; i++)
        digits &= name[i] >= '0' && name[i] <= '9';
    if (digits && f->mapping == NULL && (whole || size > 0)) {
        if (!field_number(f, name, size, whole, &index))
            return false;
        if ((uint64_t)index >= f->args->count)
            return fail(f->rt, GRAFT_FORMAT, "format: no argument number %lld", (long long)index);
        *out = f->args->items[index];
        return true;
    }
    if (f->mapping != NULL) {
        if (!dict_find_str(f->rt, f->mapping, name, size, &member))
            return false;
        if (member != NULL)
            *out = *member;
        return member != NULL || fail(f->rt, GRAFT_FORMAT, "format: no such name");
    }
    for (size_t i = 0; i < f->args->n_keywords; i++) {
        const struct kwarg *k = &f->args->keywords[i];
        if (k->name->size == size && memcmp(k->name->data, name, size) == 0) {
            *out = k->value;
            return true;
        }
    }
    return fail(f->rt, GRAFT_FORMAT, "format: no argument named '%.*s'",
                (int)(size < 60 ? size : 60), name);
}

/* name.attr[key]… */
static bool field_value(struct fields *f, const char *name, size_t size, struct value *out)
{
    size_t at = 0;
    while (at < size && name[at] != '.' && name[at] != '[')
        at++;
    if (!field_base(f, name, at, at == size, out))
        return false;
    while (at < size) {
        bool item = name[at] == '[';
        size_t begin = ++at;
        struct value key;
        while (at < size && (item ? name[at] != ']' : name[at] != '.' && name[at] != '['))
            at++;
        if (at == begin || (item && at == size))
            return fail(f->rt, GRAFT_FORMAT, "format: malformed field name");
        if (!str_copy(f->rt, name + begin, at - begin, &key))
            return false;
        bool digits = true;
        int64_t index = 0;
        for (size_t i = begin; i < at && digits; i++) {
            digits = name[i] >= '0' && name[i] <= '9';
            index = index > 1000000000 || !digits ? index : index * 10 + (name[i] - '0');
        }
        if (!(item ? get_item(f->rt, *out, digits ? v_int(index) : key, out)
                   : get_attr(f->rt, *out, key.s, out)))
            return false;
        at += item;
        if (item && at < size && name[at] != '.' && name[at] != '[')
            return fail(f->rt, GRAFT_FORMAT, "format: malformed field name");
    }
    return true;
}

static bool write_fields(struct fields *f, const char *at, const char *end, int depth);

/* {name!conversion:spec}, text between the braces. */
static bool write_field(struct fields *f, const char *at, const char *end, int depth)
{
    struct rt *rt = f->rt;
    const char *name = at, *name_end, *spec;
    char conversion = 0;
    struct value v, spec_value;
    size_t mark;
    while (at < end && *at != '!' && *at != ':') {
        if (*at == '[') /* a key may hold anything up to its bracket */
            while (at + 1 < end && *at != ']')
                at++;
        at++;
    }
    name_end = at;
    if (at < end && *at == '!') {
        if (end - at < 2 || (at + 2 < end && at[2] != ':'))
            return fail(rt, GRAFT_FORMAT, "format: malformed conversion");
        conversion = at[1];
        at += 2;
    }
    spec = at < end ? at + 1 : end;
    if (!spend(rt, 1) || !field_value(f, name, (size_t)(name_end - name), &v))
        return false;
    if (conversion == 'r' ? !to_repr(rt, v, &v) : conversion == 's' ? !to_str(rt, v, &v) : false)
        return false;
    if (conversion != 0 && conversion != 'r' && conversion != 's')
        return fail(rt, GRAFT_FORMAT, "format: unknown conversion");
    mark = rt->out.size;
    if (!write_fields(f, spec, end, depth + 1) || !str_capture(rt, mark, &spec_value))
        return false;
    if (!format_value(rt, v, spec_value.s->data, spec_value.s->size) || !f->safe || depth > 0)
        return rt->status == GRAFT_OK;
    if (v.kind == V_STR && v.s->safe)
        return true;
    return str_capture(rt, mark, &v) && escape_html(rt, v, &v) && write_str(rt, v);
}

/* The brace that closes the field begun at `at`; NULL: none. */
static const char *field_end(const char *at, const char *end)
{
    for (int depth = 1; at < end; at++) {
        if (*at == '[' && depth == 1) {
            const char *close = memchr(at, ']', (size_t)(end - at));
            at = close != NULL ? close : at;
        }
        depth += *at == '{' ? 1 : *at == '}' ? -1 : 0;
        if (depth == 0)
            return at;
    }
    return NULL;
}

static bool write_fields(struct fields *f, const char *at, const char *end, int depth)
{
    if (depth > 2)
        return fail(f->rt, GRAFT_FORMAT, "format: fields nest too deep");
    while (at < end) {
        const char *stop = at;
        while (stop < end && *stop != '{' && *stop != '}')
            stop++;
        if (!write_bytes(f->rt, at, (size_t)(stop - at)))
            return false;
        if (stop == end)
            break;
        if (stop + 1 < end && stop[1] == *stop) {
            if (!write_bytes(f->rt, stop, 1))
                return false;
            at = stop + 2;
            continue;
        }
        const char *close = *stop == '{' ? field_end(stop + 1, end) : NULL;
        if (close == NULL)
            return fail(f->rt, GRAFT_FORMAT, "format: single '%c' in the format string", *stop);
        if (!write_field(f, stop + 1, close, depth))
            return false;
        at = close + 1;
    }
    return true;
}

static bool format_string(struct fields *f, struct str *s, struct value *out)
{
    size_t mark = f->rt->out.size;
    f->safe = s->safe;
    return spend_bytes(f->rt, s->size) && write_fields(f, s->data, s->data + s->size, 0) &&
           str_capture(f->rt, mark, out) && str_mark(f->rt, s->safe, out);
}

bool method_format(struct rt *rt, struct call *c, struct value *out)
{
    struct fields f = {.rt = rt, .args = c->args};
    return format_string(&f, c->self.s, out);
}

bool method_format_map(struct rt *rt, struct call *c, struct value *out)
{
    struct fields f = {.rt = rt, .args = c->args, .mapping = c->arg[0].dict};
    if (c->arg[0].kind != V_DICT)
        return fail(rt, GRAFT_FORMAT, "format_map needs a mapping");
    return format_string(&f, c->self.s, out);
}
