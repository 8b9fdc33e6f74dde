/* filters_text.c: filters over text, and over numbers and their text. */
#include "model/template/render_internal.h"

#include <math.h>

/* The filtered value as text; filters take any value and use its str(). */
static bool self_text(struct rt *rt, struct call *c, struct str **out)
{
    struct value v;
    if (!to_soft_str(rt, c->self, &v))
        return false;
    *out = v.s;
    return true;
}

static bool filter_lower(struct rt *rt, struct call *c, struct value *out)
{
    struct str *s;
    return self_text(rt, c, &s) && map_case(rt, s, CASE_LOWER, out);
}

static bool filter_upper(struct rt *rt, struct call *c, struct value *out)
{
    struct str *s;
    return self_text(rt, c, &s) && map_case(rt, s, CASE_UPPER, out);
}

static bool filter_capitalize(struct rt *rt, struct call *c, struct value *out)
{
    struct str *s;
    return self_text(rt, c, &s) && capitalize(rt, s, out);
}

static bool word_break(uint32_t c)
{
    return c == '-' || c == '(' || c == '{' || c == '[' || c == '<' || uni_space(c);
}

/* Words begin behind blanks, '-' and opening brackets; unlike str.title(), behind nothing else. */
static bool filter_title(struct rt *rt, struct call *c, struct value *out)
{
    struct str *s;
    size_t mark = rt->out.size, begin = 0;
    uint32_t point = 0;
    struct value part;
    if (!self_text(rt, c, &s))
        return false;
    while (begin < s->size) { /* the first letter raised, the rest of the word lowered */
        size_t first = begin + (size_t)str_decode(s->data + begin, s->size - begin, &point);
        size_t end = first;
        bool breaks = word_break(point);
        while (end < s->size) {
            int n = str_decode(s->data + end, s->size - end, &point);
            if (word_break(point) != breaks)
                break;
            end += (size_t)n;
        }
        struct str head = {.data = s->data + begin, .size = first - begin, .chars = 1};
        struct str tail = {.data = s->data + first, .size = end - first, .chars = CHARS_UNKNOWN};
        if (!map_case(rt, &head, CASE_UPPER, &part) || !write_str(rt, part) ||
            !map_case(rt, &tail, CASE_LOWER, &part) || !write_str(rt, part))
            return false;
        begin = end;
    }
    return str_capture(rt, mark, out);
}

static bool filter_trim(struct rt *rt, struct call *c, struct value *out)
{
    struct str *s, *chars = NULL;
    if (c->arg[0].kind != V_MISSING && c->arg[0].kind != V_NONE &&
        !arg_str(rt, c->arg[0], "trim argument", &chars))
        return false;
    return self_text(rt, c, &s) && strip(rt, s, chars, 3, out);
}

static bool filter_replace(struct rt *rt, struct call *c, struct value *out)
{
    struct value pair[2], self;
    int64_t count;
    return to_str(rt, c->self, &self) && to_str(rt, c->arg[0], &pair[0]) &&
           to_str(rt, c->arg[1], &pair[1]) && arg_int(rt, c->arg[2], -1, &count) &&
           replace(rt, self.s, pair, count, out);
}

static bool filter_center(struct rt *rt, struct call *c, struct value *out)
{
    struct str *s;
    int64_t width;
    if (!self_text(rt, c, &s) || !arg_int(rt, c->arg[0], 80, &width))
        return false;
    int64_t gap = width - (int64_t)str_chars(s);
    int64_t left = gap > 0 ? gap / 2 + (gap & width & 1) : 0;
    return pad(rt, s, left, gap - left, ' ', out);
}

static bool filter_string(struct rt *rt, struct call *c, struct value *out)
{
    return to_soft_str(rt, c->self, out);
}

static bool filter_safe(struct rt *rt, struct call *c, struct value *out)
{
    return to_soft_str(rt, c->self, out) && str_mark(rt, true, out);
}

static bool filter_escape(struct rt *rt, struct call *c, struct value *out)
{
    return escape_html(rt, c->self, out);
}

static bool filter_forceescape(struct rt *rt, struct call *c, struct value *out)
{
    struct value plain;
    return to_str(rt, c->self, &plain) && escape_html(rt, plain, out);
}

/* Lines after the first (all, with `first`) are indented; empty ones only with `blank`. */
static bool filter_indent(struct rt *rt, struct call *c, struct value *out)
{
    struct value lines, text = c->self, indent, newline;
    int64_t width = 4;
    bool first = arg_bool(c->arg[1], false), blank = arg_bool(c->arg[2], false);
    size_t mark = rt->out.size;
    if (text.kind == V_UNDEFINED)
        return fail_undefined(rt, text);
    if (text.kind != V_STR)
        return fail(rt, GRAFT_FORMAT, "indent needs a string, not %s", type_name(text));
    indent = c->arg[0];
    if (indent.kind != V_STR &&
        (!arg_int(rt, c->arg[0], 4, &width) || !str_literal(rt, "", &indent) ||
         !pad(rt, indent.s, width, 0, ' ', &indent)))
        return false;
    if (!str_literal(rt, "\n", &newline) || !str_concat(rt, text.s, newline.s, &newline) ||
        !split_lines(rt, newline.s, false, &lines))
        return false;
    for (size_t i = 0; i < lines.list->count; i++) {
        const struct str *line = lines.list->items[i].s;
        bool in = i == 0 ? first : blank || line->size > 0;
        if ((i > 0 && !write_text(rt, "\n")) || (in && !write_str(rt, indent)) ||
            !write_bytes(rt, line->data, line->size))
            return false;
    }
    return str_capture(rt, mark, out) && str_mark(rt, text.s->safe, out);
}

static bool filter_truncate(struct rt *rt, struct call *c, struct value *out)
{
    struct str *s = NULL, *end = NULL;
    struct value dots;
    int64_t length, leeway;
    size_t n = 0;
    if (!arg_int(rt, c->arg[0], 255, &length) || !arg_int(rt, c->arg[3], 5, &leeway) ||
        !str_literal(rt, "...", &dots) ||
        !arg_str(rt, c->arg[2].kind == V_MISSING ? dots : c->arg[2], "end", &end))
        return false;
    if (!value_length(c->self, &n))
        return fail(rt, GRAFT_FORMAT, "object of type '%s' has no len()", type_name(c->self));
    int64_t room = length - (int64_t)str_chars(end);
    if (room < 0 || leeway < 0)
        return fail(rt, GRAFT_FORMAT, "truncate: length or leeway too small");
    *out = c->self;
    if (leeway >= (int64_t)n || length >= (int64_t)n - leeway)
        return true; /* whatever it is, it is short enough */
    if (!arg_str(rt, c->self, "truncated value", &s))
        return false;
    size_t cut = str_offset(s, (size_t)room);
    if (!arg_bool(c->arg[1], false)) { /* back to the last blank */
        const char *blank = memrchr(s->data, ' ', cut);
        cut = blank == NULL ? cut : (size_t)(blank - s->data);
    }
    struct value head;
    return str_slice(rt, s, 0, cut, &head) && arith(rt, OP_ADD, head, v_str(end), out);
}

static bool filter_wordcount(struct rt *rt, struct call *c, struct value *out)
{
    struct str *s;
    int64_t words = 0;
    bool inside = false;
    uint32_t point;
    if (!self_text(rt, c, &s))
        return false;
    for (size_t i = 0; i < s->size;) {
        i += (size_t)str_decode(s->data + i, s->size - i, &point);
        words += uni_word(point) && !inside;
        inside = uni_word(point);
    }
    *out = v_int(words);
    return true;
}

static bool filter_format(struct rt *rt, struct call *c, struct value *out)
{
    struct value args;
    struct str *s;
    if (c->args->count > 0 && c->args->n_keywords > 0)
        return fail(rt, GRAFT_FORMAT, "format takes positional or keyword arguments, not both");
    if (!self_text(rt, c, &s))
        return false;
    if (c->args->n_keywords > 0)
        return make_dict(rt, c->args, V_DICT, &args) && percent_format(rt, s, args, out);
    if (!list_new(rt, V_TUPLE, c->args->count, &args))
        return false;
    for (size_t i = 0; i < c->args->count; i++)
        if (!list_push(rt, args.list, c->args->items[i]))
            return false;
    return percent_format(rt, s, args, out);
}

static bool quote(struct rt *rt, struct value v, bool for_query)
{
    struct value text;
    char code[4];
    if (!to_str(rt, v, &text))
        return false;
    for (size_t i = 0; i < text.s->size; i++) {
        unsigned char b = (unsigned char)text.s->data[i];
        bool plain = (b < 0x80 && uni_word(b)) || b == '-' || b == '.' || b == '~' ||
                     (b == '/' && !for_query);
        if (b == ' ' && for_query)
            snprintf(code, sizeof code, "+");
        else
            snprintf(code, sizeof code, plain ? "%c" : "%%%02X", b);
        if (!write_text(rt, code))
            return false;
    }
    return true;
}

static bool filter_urlencode(struct rt *rt, struct call *c, struct value *out)
{
    size_t mark = rt->out.size;
    struct value pairs = c->self, item;
    struct iter it;
    int more;
    bool first = true;
    struct view view = {c->self.dict, VIEW_ITEMS};
    if (c->self.kind == V_STR || !is_iterable(c->self))
        return quote(rt, c->self, false) && str_capture(rt, mark, out);
    if (c->self.kind == V_DICT)
        pairs = (struct value){.kind = V_VIEW, .view = &view};
    if (!iter_begin(rt, pairs, &it))
        return false;
    while ((more = iter_next(rt, &it, &item)) == 1) {
        if ((item.kind != V_TUPLE && item.kind != V_LIST) || item.list->count != 2)
            return fail(rt, GRAFT_FORMAT, "urlencode needs pairs");
        if ((!first && !write_text(rt, "&")) || !quote(rt, item.list->items[0], true) ||
            !write_text(rt, "=") || !quote(rt, item.list->items[1], true))
            return false;
        first = false;
    }
    return more == 0 && str_capture(rt, mark, out);
}

const struct builtin text_filters[] = {
    {"lower", "", filter_lower},
    {"upper", "", filter_upper},
    {"capitalize", "", filter_capitalize},
    {"title", "", filter_title},
    {"trim", "chars?", filter_trim},
    {"replace", "old new count?", filter_replace},
    {"center", "width?", filter_center},
    {"string", "", filter_string},
    {"safe", "", filter_safe},
    {"escape", "", filter_escape},
    {"e", "", filter_escape},
    {"forceescape", "", filter_forceescape},
    {"indent", "width? first? blank?", filter_indent},
    {"truncate", "length? killwords? end? leeway?", filter_truncate},
    {"wordcount", "", filter_wordcount},
    {"format", "*", filter_format},
    {"urlencode", "", filter_urlencode},
    {"tojson", "ensure_ascii? indent? separators? sort_keys?", to_json},
    {NULL, NULL, NULL}};

/* ---- numbers ------------------------------------------------------------------------------ */

static bool filter_abs(struct rt *rt, struct call *c, struct value *out)
{
    if (c->self.kind == V_FLOAT) {
        *out = v_float(fabs(c->self.f));
        return true;
    }
    if (!is_integer(c->self))
        return fail(rt, GRAFT_FORMAT, "bad operand type for abs(): '%s'", type_name(c->self));
    return negate(rt, c->self, as_integer(c->self) >= 0, out);
}

static bool float_to_int(struct rt *rt, double f, struct value *out)
{
    if (!(fabs(f) < 9223372036854775808.0))
        return fail(rt, GRAFT_FORMAT, "integer overflow");
    *out = v_int((int64_t)f);
    return true;
}

static bool filter_int(struct rt *rt, struct call *c, struct value *out)
{
    struct value v = c->self;
    int64_t base;
    bool overflow = false;
    double f;
    if (v.kind == V_UNDEFINED)
        return fail_undefined(rt, v);
    if (!arg_int(rt, c->arg[1], 10, &base))
        return false;
    *out = c->arg[0].kind == V_MISSING ? v_int(0) : c->arg[0];
    if (is_integer(v)) {
        *out = v_int(as_integer(v));
        return true;
    }
    if (v.kind == V_FLOAT)
        return isnan(v.f) || float_to_int(rt, v.f, out);
    if (v.kind != V_STR)
        return true;
    struct value number;
    if (parse_python_int(rt, v.s, base, &number, &overflow)) {
        if (overflow)
            return fail(rt, GRAFT_FORMAT, "integer overflow");
        *out = number;
        return true;
    }
    if (!parse_python_float(v.s, &f) || isnan(f))
        return rt->status == GRAFT_OK;
    return float_to_int(rt, f, out);
}

static bool filter_float(struct rt *rt, struct call *c, struct value *out)
{
    double f;
    (void)rt;
    if (c->self.kind == V_UNDEFINED)
        return fail_undefined(rt, c->self);
    *out = c->arg[0].kind == V_MISSING ? v_float(0) : c->arg[0];
    if (is_number(c->self))
        *out = v_float(as_double(c->self));
    else if (c->self.kind == V_STR && parse_python_float(c->self.s, &f))
        *out = v_float(f);
    return true;
}

/* round(f, places) on the exact binary value, halves to even. */
static double round_places(double f, int64_t places)
{
    char digits[40];
    int exponent;
    if (f == 0 || !isfinite(f))
        return f;
    float_digits(f, 30, digits, &exponent);
    int64_t wanted = exponent + places;
    if (wanted >= 18)
        return f;
    if (wanted < 0)
        return copysign(0.0, f);
    char text[64];
    double r = 0;
    int n;
    if (wanted == 0) { /* nothing or one unit of the last place: more than half of it? */
        n = snprintf(text, sizeof text, "5e%lld", (long long)(-places - 1));
        parse_double(text, (size_t)n, &r);
        n = snprintf(text, sizeof text, "%de%lld", fabs(f) > r, (long long)-places);
    } else {
        float_digits(f, (int)wanted, digits, &exponent);
        n = snprintf(text, sizeof text, "%se%d", digits, exponent - (int)strlen(digits));
    }
    parse_double(text, (size_t)n, &r);
    return copysign(r, f);
}

static bool round_int(struct rt *rt, int64_t i, int64_t places, struct value *out)
{
    int64_t unit = 1;
    *out = v_int(i);
    if (places >= 0)
        return true;
    for (; places < 0; places++)
        if (__builtin_mul_overflow(unit, (int64_t)10, &unit)) {
            *out = v_int(0);
            return true;
        }
    int64_t rest = i % unit, floor = i - rest;
    if (rest < 0) {
        rest += unit;
        if (__builtin_sub_overflow(floor, unit, &floor))
            return fail(rt, GRAFT_FORMAT, "integer overflow");
    }
    bool up = rest > unit - rest || (rest == unit - rest && (floor / unit) % 2 != 0);
    if (up && __builtin_add_overflow(floor, unit, &floor))
        return fail(rt, GRAFT_FORMAT, "integer overflow");
    *out = v_int(floor);
    return true;
}

static bool filter_round(struct rt *rt, struct call *c, struct value *out)
{
    struct str *method = NULL;
    int64_t places;
    if (c->self.kind == V_UNDEFINED)
        return fail_undefined(rt, c->self);
    if (!is_number(c->self))
        return fail(rt, GRAFT_FORMAT, "type %s has no rounding", type_name(c->self));
    if (!arg_int(rt, c->arg[0], 0, &places) ||
        (c->arg[1].kind != V_MISSING && !arg_str(rt, c->arg[1], "method", &method)))
        return false;
    places = places > 400 ? 400 : places < -400 ? -400 : places;
    if (method == NULL || str_equals(method, "common")) {
        if (is_integer(c->self))
            return round_int(rt, as_integer(c->self), places, out);
        *out = v_float(round_places(c->self.f, places));
        return true;
    }
    bool up = str_equals(method, "ceil");
    if (!up && !str_equals(method, "floor"))
        return fail(rt, GRAFT_FORMAT, "method must be common, ceil or floor");
    double scale = pow(10, (double)places), f = as_double(c->self) * scale;
    if (!isfinite(f))
        return fail(rt, GRAFT_FORMAT, "cannot convert float to integer");
    f = up ? ceil(f) : floor(f);
    *out = v_float((f == 0 ? 0 : f) / scale); /* Python goes through an integer: no -0 */
    return true;
}

static bool filter_filesizeformat(struct rt *rt, struct call *c, struct value *out)
{
    static const char *const letters = "kMGTPEZY";
    struct value number;
    char text[64];
    bool binary = arg_bool(c->arg[0], false);
    double base = binary ? 1024 : 1000, unit = base;
    struct call inner = {.self = c->self};
    inner.arg[0] = v_none(); /* tells "no number" from 0 */
    int i = -1;
    if (!filter_float(rt, &inner, &number))
        return false;
    if (number.kind != V_FLOAT)
        return fail(rt, GRAFT_FORMAT, "filesizeformat needs a number");
    if (!(number.f > -9e18))
        return fail(rt, GRAFT_FORMAT, "integer overflow");
    double bytes = number.f;
    size_t mark = rt->out.size;
    if (bytes == 1)
        return str_literal(rt, "1 Byte", out);
    for (; bytes >= unit && i < 7; i++)
        unit *= i < 6 ? base : 1;
    if (bytes < base)
        snprintf(text, sizeof text, "%lld Bytes", (long long)bytes);
    else
        text[0] = 0;
    struct number_format f = {.fill = " ",
                              .fill_size = 1,
                              .align = '>',
                              .sign = '-',
                              .width = -1,
                              .precision = 1,
                              .type = 'f'};
    if (text[0] == 0) {
        double scale = 1;
        for (int k = 0; k <= i; k++)
            scale *= base;
        snprintf(text, sizeof text, " %c%sB", binary && i == 0 ? 'K' : letters[i],
                 binary ? "i" : "");
        if (!format_number(rt, v_float(bytes / scale), &f))
            return false;
    }
    return write_text(rt, text) && str_capture(rt, mark, out);
}

const struct builtin number_filters[] = {{"abs", "", filter_abs},
                                         {"int", "default? base?", filter_int},
                                         {"float", "default?", filter_float},
                                         {"round", "precision? method?", filter_round},
                                         {"filesizeformat", "binary?", filter_filesizeformat},
                                         {NULL, NULL, NULL}};
