/* repr.c: values to text as Python's str() and repr() write them, and text to numbers.
 *
 * Text goes to rt->out; whoever wants a value captures it from there. Doubles are written with the
 * fewest digits that read back the same; neither direction depends on the locale.
 */
#include "model/template/render_internal.h"

#include <math.h>

bool write_bytes(struct rt *rt, const char *data, size_t size)
{
    if (!spend_bytes(rt, size))
        return false;
    if (size == 0 || buf_append(&rt->out, data, size))
        return true;
    return rt->out.status == GRAFT_LIMIT ? fail(rt, GRAFT_LIMIT, "output too large")
                                         : fail(rt, GRAFT_NO_MEMORY, "no memory");
}

bool write_text(struct rt *rt, const char *text)
{
    return write_bytes(rt, text, strlen(text));
}

/* ---- doubles ------------------------------------------------------------------------------ */

void float_digits(double f, int n, char *digits, int *exponent)
{
    char text[64];
    int used = 0, length = snprintf(text, sizeof text, "%.*e", n - 1, fabs(f)), i = 0;
    bool negative = false;
    for (; i < length && text[i] != 'e'; i++) /* whatever stands between is the locale's point */
        if (text[i] >= '0' && text[i] <= '9')
            digits[used++] = text[i];
    *exponent = 0;
    for (i++; i < length; i++) {
        if (text[i] == '-')
            negative = true;
        else if (text[i] != '+')
            *exponent = *exponent * 10 + (text[i] - '0');
    }
    *exponent = (negative ? -*exponent : *exponent) + 1;
    digits[used] = 0;
}

bool parse_double(const char *text, size_t size, double *out)
{
    /* The point is taken out and the exponent adjusted, so that strtod never meets a decimal
     * separator. Digits beyond what can matter are dropped, but one that is not 0 is remembered. */
    char number[1200];
    size_t n = 0, i = 0;
    long shift = 0, exponent = 0;
    bool point = false, negative = false, sticky = false;
    for (; i < size && text[i] != 'e' && text[i] != 'E'; i++) {
        if (text[i] == '.') {
            point = true;
            continue;
        }
        shift -= point;
        if (n == 1 && number[0] == '0')
            n = 0; /* leading zeros */
        if (n < 1100) {
            number[n++] = text[i];
        } else {
            sticky |= text[i] != '0';
            shift++;
        }
    }
    if (sticky && n > 0)
        number[n - 1] = number[n - 1] == '9' ? '9' : (char)(number[n - 1] + 1);
    if (i < size)
        i++;
    if (i < size && (text[i] == '-' || text[i] == '+'))
        negative = text[i++] == '-';
    for (; i < size; i++)
        if (exponent < 100000000)
            exponent = exponent * 10 + (text[i] - '0');
    snprintf(number + n, sizeof number - n, "e%ld", (negative ? -exponent : exponent) + shift);
    *out = strtod(number, NULL);
    return n > 0;
}

static bool reads_back(double f, const char *digits, int exponent)
{
    char text[64];
    double back;
    int n = snprintf(text, sizeof text, "%se%d", digits, exponent - (int)strlen(digits));
    return parse_double(text, (size_t)n, &back) && back == fabs(f);
}

static int fixed_repr(const char *digits, int exponent, char *out)
{
    int n = (int)strlen(digits), used = 0;
    if (exponent <= 0) {
        used = snprintf(out, FLOAT_TEXT, "0.%.*s%s", -exponent, "0000", digits);
        return used;
    }
    for (int i = 0; i < exponent || i < n; i++) {
        if (i == exponent)
            out[used++] = '.';
        out[used++] = i < n ? digits[i] : '0';
    }
    if (n <= exponent) {
        out[used++] = '.';
        out[used++] = '0';
    }
    out[used] = 0;
    return used;
}

int float_repr(double f, char out[FLOAT_TEXT])
{
    char digits[24], *at = out;
    int n, exponent;
    if (isnan(f))
        return snprintf(out, FLOAT_TEXT, "nan");
    if (signbit(f))
        *at++ = '-';
    if (isinf(f))
        return (int)(at - out) + snprintf(at, FLOAT_TEXT - 1, "inf");
    if (f == 0)
        return (int)(at - out) + snprintf(at, FLOAT_TEXT - 1, "0.0");
    for (n = 1; n <= 17; n++) {
        float_digits(f, n, digits, &exponent);
        if (n == 17 || reads_back(f, digits, exponent))
            break;
    }
    if (exponent > -4 && exponent <= 16)
        return (int)(at - out) + fixed_repr(digits, exponent, at);
    int used = (int)(at - out);
    at += snprintf(at, FLOAT_TEXT - (size_t)used, "%c%s%se%c%02d", digits[0],
                   digits[1] != 0 ? "." : "", digits + 1, exponent - 1 < 0 ? '-' : '+',
                   abs(exponent - 1));
    return (int)(at - out);
}

/* ---- text to numbers ---------------------------------------------------------------------- */

/* ASCII copy of a number's text: spaces around it, sign and underscores between digits removed. */
struct number_text {
    char *text;
    size_t size;
    bool negative;
};

static int letter_value(char c)
{
    if (c >= '0' && c <= '9')
        return c - '0';
    char lower = (char)(c | 32);
    return lower >= 'a' && lower <= 'z' ? lower - 'a' + 10 : 99;
}

static void trim_number(struct str *s, size_t *begin, size_t *end, bool *negative)
{
    uint32_t c;
    int n;
    *begin = 0;
    *end = s->size;
    while (*begin < *end && (n = str_decode(s->data + *begin, *end - *begin, &c), uni_space(c)))
        *begin += (size_t)n;
    while (*end > *begin) {
        size_t at = *end - 1;
        while (at > *begin && ((unsigned char)s->data[at] & 0xC0) == 0x80)
            at--;
        str_decode(s->data + at, *end - at, &c);
        if (!uni_space(c))
            break;
        *end = at;
    }
    *negative = *begin < *end && s->data[*begin] == '-';
    if (*begin < *end && (s->data[*begin] == '-' || s->data[*begin] == '+'))
        ++*begin;
}

bool parse_python_int(struct rt *rt, struct str *s, int64_t base, struct value *out, bool *overflow)
{
    size_t i, end;
    bool negative, digit_before = false;
    int64_t number = 0;
    *overflow = false;
    if (base != 0 && (base < 2 || base > 36))
        return false;
    trim_number(s, &i, &end, &negative);
    if (i + 1 < end && s->data[i] == '0') {
        char mark = (char)(s->data[i + 1] | 32);
        int64_t marked = mark == 'x' ? 16 : mark == 'o' ? 8 : mark == 'b' ? 2 : 0;
        if (marked != 0 && (base == 0 || base == marked)) {
            base = marked;
            i += 2;
            i += i < end && s->data[i] == '_';
        }
    }
    bool zeros_only = base == 0 && i < end && s->data[i] == '0';
    if (base == 0)
        base = 10;
    for (; i < end; i++) {
        if (s->data[i] == '_' && digit_before) {
            digit_before = false;
            continue;
        }
        int digit = letter_value(s->data[i]);
        if (digit >= base || (zeros_only && digit > 0))
            return false;
        digit_before = true;
        *overflow |= __builtin_mul_overflow(number, base, &number) ||
                     (negative ? __builtin_sub_overflow(number, (int64_t)digit, &number)
                               : __builtin_add_overflow(number, (int64_t)digit, &number));
    }
    if (!digit_before || !spend_bytes(rt, s->size))
        return false;
    *out = v_int(number);
    return true;
}

static bool match_word(const char *text, size_t size, const char *word)
{
    if (size != strlen(word))
        return false;
    for (size_t i = 0; i < size; i++)
        if ((text[i] | 32) != word[i])
            return false;
    return true;
}

bool parse_python_float(struct str *s, double *out)
{
    size_t i, end, n = 0;
    bool negative, digits = false, point = false, exponent = false;
    char text[1200];
    trim_number(s, &i, &end, &negative);
    const char *at = s->data + i;
    double number = 0;
    if (match_word(at, end - i, "inf") || match_word(at, end - i, "infinity")) {
        number = INFINITY;
    } else if (match_word(at, end - i, "nan")) {
        number = NAN;
    } else {
        for (; i < end && n < sizeof text; i++) {
            char c = s->data[i];
            bool after_digit = i > 0 && s->data[i - 1] >= '0' && s->data[i - 1] <= '9';
            if (c == '_') {
                if (!after_digit || i + 1 >= end || s->data[i + 1] < '0' || s->data[i + 1] > '9')
                    return false;
                continue;
            }
            if (c == '.' && !point && !exponent)
                point = true;
            else if ((c | 32) == 'e' && digits && !exponent)
                exponent = true, digits = false;
            else if ((c == '+' || c == '-') && exponent && !digits && (s->data[i - 1] | 32) == 'e')
                ;
            else if (c >= '0' && c <= '9')
                digits = true;
            else
                return false;
            text[n++] = c;
        }
        if (!digits || i < end || !parse_double(text, n, &number))
            return false;
    }
    *out = negative ? -number : number;
    return true;
}

/* ---- str and repr ------------------------------------------------------------------------- */

static bool write_number(struct rt *rt, struct value v)
{
    char text[FLOAT_TEXT];
    int n = v.kind == V_FLOAT ? float_repr(v.f, text)
                              : snprintf(text, sizeof text, "%lld", (long long)v.i);
    return write_bytes(rt, text, (size_t)n);
}

/* A quoted string: single quotes, unless it holds some and no double ones. */
static bool repr_string(struct rt *rt, const struct str *s)
{
    bool single = s->size > 0 && memchr(s->data, '\'', s->size) != NULL;
    bool both = single && memchr(s->data, '"', s->size) != NULL;
    char quote = single && !both ? '"' : '\'', text[16];
    uint32_t c;
    if (s->safe && !write_text(rt, "Markup("))
        return false;
    if (!write_bytes(rt, &quote, 1))
        return false;
    for (size_t i = 0, n; i < s->size; i += n) {
        int size = 0;
        n = (size_t)str_decode(s->data + i, s->size - i, &c);
        if (c == '\n' || c == '\t' || c == '\r')
            size = snprintf(text, sizeof text, "\\%c", c == '\n' ? 'n' : c == '\t' ? 't' : 'r');
        else if (c == '\\' || c == (uint32_t)quote)
            size = snprintf(text, sizeof text, "\\%c", (char)c);
        else if (!uni_printable(c))
            size = snprintf(text, sizeof text,
                            c < 0x100     ? "\\x%02x"
                            : c < 0x10000 ? "\\u%04x"
                                          : "\\U%08x",
                            (unsigned)c);
        if (!(size > 0 ? write_bytes(rt, text, (size_t)size) : write_bytes(rt, s->data + i, n)))
            return false;
    }
    return write_bytes(rt, &quote, 1) && (!s->safe || write_text(rt, ")"));
}

static bool repr(struct rt *rt, struct value v, int depth);

static bool repr_items(struct rt *rt, const struct value *items, size_t count, int depth)
{
    for (size_t i = 0; i < count; i++)
        if ((i > 0 && !write_text(rt, ", ")) || !repr(rt, items[i], depth + 1))
            return false;
    return true;
}

static bool repr_dict(struct rt *rt, const struct dict *d, int depth)
{
    if (!write_text(rt, "{"))
        return false;
    for (size_t i = 0; i < d->count; i++)
        if ((i > 0 && !write_text(rt, ", ")) || !repr(rt, d->entries[i].key, depth + 1) ||
            !write_text(rt, ": ") || !repr(rt, d->entries[i].value, depth + 1))
            return false;
    return write_text(rt, "}");
}

static bool repr_view(struct rt *rt, struct value v, int depth)
{
    struct value items;
    return to_list(rt, v, V_LIST, &items) && write_text(rt, type_name(v)) && write_text(rt, "([") &&
           repr_items(rt, items.list->items, items.list->count, depth) && write_text(rt, "])");
}

static bool repr_object(struct rt *rt, struct value v)
{
    char text[96];
    switch (v.kind) {
    case V_RANGE: {
        const struct range *r = v.range;
        int n = snprintf(text, sizeof text, "range(%lld, %lld", (long long)r->start,
                         (long long)r->stop);
        if (r->step != 1)
            snprintf(text + n, sizeof text - (size_t)n, ", %lld", (long long)r->step);
        return write_text(rt, text) && write_text(rt, ")");
    }
    case V_MACRO: {
        struct str *name = v.macro->def->name;
        return name == NULL
                   ? write_text(rt, "<Macro anonymous>")
                   : write_text(rt, "<Macro ") && repr_string(rt, name) && write_text(rt, ">");
    }
    case V_LOOP: {
        int64_t length;
        if (!loop_length(rt, v.loop, &length))
            return false;
        snprintf(text, sizeof text, "<LoopContext %lld/%lld>", (long long)v.loop->index0 + 1,
                 (long long)length);
        return write_text(rt, text);
    }
    case V_GLOBAL:
        return write_text(rt, "<function ") && write_text(rt, v.global->name) &&
               write_text(rt, ">");
    default:
        return write_text(rt, "<") && write_text(rt, type_name(v)) && write_text(rt, " object>");
    }
}

static bool repr(struct rt *rt, struct value v, int depth)
{
    if (depth > DATA_DEPTH)
        return fail(rt, GRAFT_LIMIT, "the data nests too deep");
    if (!spend(rt, 1))
        return false;
    switch (v.kind) {
    case V_UNDEFINED:
        return write_text(rt, "Undefined");
    case V_NONE:
        return write_text(rt, "None");
    case V_BOOL:
        return write_text(rt, v.b ? "True" : "False");
    case V_INT:
    case V_FLOAT:
        return write_number(rt, v);
    case V_STR:
        return repr_string(rt, v.s);
    case V_LIST:
    case V_TUPLE:
        return write_text(rt, v.kind == V_LIST ? "[" : "(") &&
               repr_items(rt, v.list->items, v.list->count, depth) &&
               write_text(rt, v.kind == V_LIST     ? "]"
                              : v.list->count == 1 ? ",)"
                                                   : ")");
    case V_DICT:
        return repr_dict(rt, v.dict, depth);
    case V_NAMESPACE:
        return write_text(rt, "<Namespace ") && repr_dict(rt, v.dict, depth) && write_text(rt, ">");
    case V_VIEW:
        return repr_view(rt, v, depth);
    default:
        return repr_object(rt, v);
    }
}

/* repr(v) */
static bool write_repr(struct rt *rt, struct value v)
{
    return repr(rt, v, 0);
}

bool write_str(struct rt *rt, struct value v)
{
    if (v.kind == V_STR)
        return write_bytes(rt, v.s->data, v.s->size);
    return v.kind == V_UNDEFINED || repr(rt, v, 0);
}

bool to_soft_str(struct rt *rt, struct value v, struct value *out)
{
    size_t mark = rt->out.size;
    *out = v;
    return v.kind == V_STR || (write_str(rt, v) && str_capture(rt, mark, out));
}

bool to_str(struct rt *rt, struct value v, struct value *out)
{
    if (v.kind == V_STR && v.s->safe)
        return str_borrow(rt, v.s->data, v.s->size, out);
    return to_soft_str(rt, v, out);
}

bool to_repr(struct rt *rt, struct value v, struct value *out)
{
    size_t mark = rt->out.size;
    return write_repr(rt, v) && str_capture(rt, mark, out);
}

bool escape_html(struct rt *rt, struct value v, struct value *out)
{
    static const struct {
        char c;
        const char *text;
    } escapes[] = {{'&', "&amp;"}, {'<', "&lt;"}, {'>', "&gt;"}, {'\'', "&#39;"}, {'"', "&#34;"}};
    size_t mark = rt->out.size;
    struct value s;
    if (!to_soft_str(rt, v, &s))
        return false;
    *out = s;
    if (s.s->safe)
        return true;
    for (size_t i = 0, start = 0; i <= s.s->size; i++) {
        const char *text = NULL;
        for (size_t k = 0; k < ARRAY_LEN(escapes) && i < s.s->size; k++)
            if (escapes[k].c == s.s->data[i])
                text = escapes[k].text;
        if (text == NULL && i < s.s->size)
            continue;
        if (!write_bytes(rt, s.s->data + start, i - start) ||
            (text != NULL && !write_text(rt, text)))
            return false;
        start = i + 1;
    }
    if (!str_capture(rt, mark, out))
        return false;
    out->s->safe = true;
    return true;
}
