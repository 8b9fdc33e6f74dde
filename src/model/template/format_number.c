/* format_number.c: one value by a format specification: [[fill]align][sign][#][0][width][,][.p][type].
 *
 * Shared by str.format and the % operator. Digits come from the C library's exact conversions; the
 * decimal separator of the locale is replaced by a point.
 */
#include "model/template/render_internal.h"

#include <math.h>

#define MOST_PLACES 1000
#define DIGITS_ROOM (MOST_PLACES + 400)

static bool write_repeated(struct rt *rt, const char *text, int size, int64_t times)
{
    if (times > 0 && !spend(rt, (uint64_t)times / 16))
        return false;
    for (int64_t i = 0; i < times; i++)
        if (!write_bytes(rt, text, (size_t)size))
            return false;
    return true;
}

static size_t count_chars(const char *text, size_t size)
{
    struct str s = {.data = text, .size = size, .chars = CHARS_UNKNOWN};
    return str_chars(&s);
}

bool format_padded(struct rt *rt, const struct number_format *f, const char *sign,
                   const char *digits, size_t size)
{
    int64_t used = (int64_t)(strlen(sign) + count_chars(digits, size));
    int64_t gap = f->width > used ? f->width - used : 0;
    int64_t left = f->align == '>' ? gap : f->align == '^' ? gap / 2 : 0;
    int64_t inner = f->align == '=' ? gap : 0;
    return write_repeated(rt, f->fill, f->fill_size, left) && write_text(rt, sign) &&
           write_repeated(rt, f->fill, f->fill_size, inner) && write_bytes(rt, digits, size) &&
           write_repeated(rt, f->fill, f->fill_size, gap - left - inner);
}

/* Puts the separator between groups of the leading digits. */
static size_t group_digits(char *text, size_t size, char separator, size_t width)
{
    size_t digits = 0;
    while (digits < size &&
           ((text[digits] >= '0' && text[digits] <= '9') ||
            (width == 4 && (text[digits] | 32) >= 'a' && (text[digits] | 32) <= 'f')))
        digits++;
    for (size_t at = digits; at > width;) {
        at -= width;
        memmove(text + at + 1, text + at, size - at);
        text[at] = separator;
        size++;
    }
    return size;
}

static bool sign_text(struct rt *rt, const struct number_format *f, bool negative,
                      const char *prefix, char *sign)
{
    (void)rt;
    size_t n = 0;
    if (negative)
        sign[n++] = '-';
    else if (f->sign == '+' || f->sign == ' ')
        sign[n++] = f->sign;
    memcpy(sign + n, prefix, strlen(prefix) + 1);
    return true;
}

static bool format_int(struct rt *rt, int64_t i, const struct number_format *f)
{
    char digits[200], sign[8], type = f->type == 0 || f->type == 'n' ? 'd' : f->type;
    uint64_t magnitude = i < 0 ? 0 - (uint64_t)i : (uint64_t)i;
    unsigned base = (type | 32) == 'x' ? 16 : type == 'o' ? 8 : type == 'b' ? 2 : 10;
    size_t n = sizeof digits;
    const char *prefix = !f->alternate ? ""
                         : type == 'x' ? "0x"
                         : type == 'X' ? "0X"
                         : type == 'o' ? "0o"
                         : type == 'b' ? "0b"
                                       : "";
    do {
        unsigned digit = (unsigned)(magnitude % base);
        digits[--n] = (char)(digit < 10 ? '0' + digit : (type == 'X' ? 'A' : 'a') + digit - 10);
        magnitude /= base;
    } while (magnitude > 0);
    while (f->precision > (int64_t)(sizeof digits - n) && n > 0)
        digits[--n] = '0';
    size_t size = sizeof digits - n;
    memmove(digits, digits + n, size);
    if (f->group != 0 && size <= 64)
        size = group_digits(digits, size, f->group, base == 10 ? 3 : 4);
    return sign_text(rt, f, i < 0, prefix, sign) && format_padded(rt, f, sign, digits, size);
}

/* Replaces whatever the locale writes for the point; keeps digits, 'e', signs. */
static size_t normalise_point(char *text, size_t size)
{
    size_t n = 0;
    for (size_t i = 0; i < size; i++) {
        char c = text[i];
        if ((c >= '0' && c <= '9') || (c | 32) == 'e' || c == '+' || c == '-')
            text[n++] = c;
        else if (n > 0 && text[n - 1] != '.')
            text[n++] = '.';
    }
    text[n] = 0;
    return n;
}

static size_t float_text(double f, const struct number_format *spec, char *text)
{
    char type = spec->type, conversion[8];
    int places = spec->precision < 0 ? 6 : (int)spec->precision;
    double magnitude = fabs(f);
    if (isnan(f) || isinf(f)) {
        bool upper = type == 'F' || type == 'E' || type == 'G';
        snprintf(text, DIGITS_ROOM, "%s",
                 isnan(f) ? (upper ? "NAN" : "nan")
                 : upper  ? "INF"
                          : "inf");
        return 3;
    }
    if ((type == 0 || type == 'n') && spec->precision < 0)
        return (size_t)float_repr(magnitude, text);
    if (type == '%') {
        magnitude *= 100;
        type = 'f';
    }
    snprintf(conversion, sizeof conversion, "%%%s.*%c", spec->alternate ? "#" : "",
             type == 0 || type == 'n' ? 'g' : type);
    int n = snprintf(text, DIGITS_ROOM, conversion, places, magnitude);
    size_t size = normalise_point(text, (size_t)n);
    if (type == 0 && strpbrk(text, ".e") == NULL) { /* str(): a float shows that it is one */
        memcpy(text + size, ".0", 3);
        size += 2;
    }
    return size;
}

static bool format_float(struct rt *rt, double f, const struct number_format *spec)
{
    char text[DIGITS_ROOM * 2], sign[8];
    if (spec->precision > MOST_PLACES)
        return fail(rt, GRAFT_LIMIT, "precision too big");
    size_t size = float_text(f, spec, text);
    if (spec->group != 0)
        size = group_digits(text, size, spec->group, 3);
    if (spec->type == '%')
        text[size++] = '%';
    return sign_text(rt, spec, signbit(f) && !isnan(f), "", sign) &&
           format_padded(rt, spec, sign, text, size);
}

bool format_number(struct rt *rt, struct value v, const struct number_format *f)
{
    char bytes[4];
    if (f->type != 0 && strchr("eEfFgG%", f->type) != NULL)
        return format_float(rt, as_double(v), f);
    if (v.kind == V_FLOAT && (f->type == 0 || f->type == 'n'))
        return format_float(rt, v.f, f);
    if (v.kind == V_FLOAT || (f->type != 0 && strchr("dxXobcn", f->type) == NULL))
        return fail(rt, GRAFT_FORMAT, "unknown format code '%c' for a number", f->type);
    if (f->type != 'c')
        return format_int(rt, as_integer(v), f);
    int n = as_integer(v) < 0 || as_integer(v) > 0x10FFFF
                ? 0
                : utf8_encode((uint32_t)as_integer(v), bytes);
    return n == 0 ? fail(rt, GRAFT_FORMAT, "%%c needs a character")
                  : format_padded(rt, f, "", bytes, (size_t)n);
}

/* ---- specifications ----------------------------------------------------------------------- */

static bool is_align(char c)
{
    return c == '<' || c == '>' || c == '=' || c == '^';
}

/* Reads digits; -1 when there are none, capped so that no width can overflow. */
static int64_t read_number(const char **at, const char *end)
{
    int64_t n = -1;
    for (; *at < end && **at >= '0' && **at <= '9'; ++*at)
        if (n < (int64_t)1 << 40)
            n = (n < 0 ? 0 : n) * 10 + (**at - '0');
    return n;
}

static bool parse_spec(const char *at, size_t size, struct number_format *f)
{
    const char *end = at + size;
    uint32_t c;
    *f = (struct number_format){
        .fill = " ", .fill_size = 1, .sign = '-', .width = -1, .precision = -1};
    int n = size > 0 ? str_decode(at, size, &c) : 0;
    if (n > 0 && (size_t)n < size && is_align(at[n])) {
        memcpy(f->fill, at, (size_t)n);
        f->fill_size = n;
        f->align = at[n];
        at += n + 1;
    } else if (size > 0 && is_align(*at)) {
        f->align = *at++;
    }
    if (at < end && (*at == '+' || *at == '-' || *at == ' '))
        f->sign = *at++;
    if (at < end && *at == '#') {
        f->alternate = true;
        at++;
    }
    if (at < end && *at == '0') {
        f->zero = true;
        at++;
    }
    f->width = read_number(&at, end);
    if (at < end && (*at == ',' || *at == '_'))
        f->group = *at++;
    if (at < end && *at == '.') {
        at++;
        f->precision = read_number(&at, end);
        if (f->precision < 0)
            return false;
    }
    if (at < end)
        f->type = *at++;
    return at == end;
}

static bool format_text(struct rt *rt, struct str *s, struct number_format *f)
{
    size_t size = s->size;
    if ((f->type != 0 && f->type != 's') || f->align == '=' || f->sign != '-' || f->alternate ||
        f->group != 0)
        return fail(rt, GRAFT_FORMAT, "invalid format for a string");
    if (f->precision >= 0 && (uint64_t)f->precision < str_chars(s))
        size = str_offset(s, (size_t)f->precision);
    if (f->align == 0)
        f->align = '<';
    return format_padded(rt, f, "", s->data, size);
}

bool format_value(struct rt *rt, struct value v, const char *spec, size_t size)
{
    struct number_format f;
    if (size == 0)
        return write_str(rt, v);
    if (v.kind != V_STR && !is_number(v))
        return fail(rt, GRAFT_FORMAT, "unsupported format for %s", type_name(v));
    if (!parse_spec(spec, size, &f))
        return fail(rt, GRAFT_FORMAT, "invalid format specification");
    if (f.zero && f.align == 0) {
        f.fill[0] = '0';
        f.fill_size = 1;
        f.align = v.kind == V_STR ? '<' : '=';
    } else if (f.zero && f.fill_size == 1 && f.fill[0] == ' ') {
        f.fill[0] = '0';
    }
    if (v.kind == V_STR)
        return format_text(rt, v.s, &f);
    if (f.precision >= 0 && is_integer(v) && (f.type == 0 || strchr("dxXobcn", f.type) != NULL))
        return fail(rt, GRAFT_FORMAT, "precision not allowed for an integer");
    if (f.align == 0)
        f.align = f.type == 'c' ? '<' : '>';
    return format_number(rt, v, &f);
}
