/* text.c: Unicode for strings: character classes, case mapping, counting and finding.
 *
 * Classes come from utf8proc (Unicode 15); the few characters whose upper or title case
 * is more than one code point are in case_table.c. Strings are valid UTF-8 here; a stray byte (a JSON
 * string built by hand) counts as one character.
 */
#include "model/template/case_table_internal.h"

#include <utf8proc.h>

int str_decode(const char *at, size_t left, uint32_t *c)
{
    if ((unsigned char)*at < 0x80) {
        *c = (unsigned char)*at;
        return 1;
    }
    int n = utf8_decode(at, left, c);
    if (n > 0)
        return n;
    *c = 0xFFFD;
    return 1;
}

size_t str_chars(struct str *s)
{
    if (s->chars == CHARS_UNKNOWN) {
        size_t n = 0;
        uint32_t c;
        for (size_t i = 0; i < s->size; n++)
            i += (size_t)str_decode(s->data + i, s->size - i, &c);
        s->chars = n;
    }
    return s->chars;
}

bool str_is_ascii(struct str *s)
{
    return str_chars(s) == s->size;
}

size_t str_offset(struct str *s, size_t index)
{
    uint32_t c;
    size_t i = 0;
    if (str_is_ascii(s))
        return index;
    for (; index > 0; index--)
        i += (size_t)str_decode(s->data + i, s->size - i, &c);
    return i;
}

const char *bytes_find(const char *hay, size_t size, const char *needle, size_t n)
{
    if (n == 0)
        return hay;
    return size == 0 ? NULL : memmem(hay, size, needle, n);
}

const char *bytes_rfind(struct rt *rt, const struct str *hay, const struct str *needle,
                        bool *failed)
{
    size_t n = needle->size;
    *failed = false;
    if (n > hay->size)
        return NULL;
    if (n == 0)
        return hay->data + hay->size;
    for (size_t i = hay->size - n + 1; i-- > 0;) {
        size_t same = 0;
        while (same < n && hay->data[i + same] == needle->data[same])
            same++;
        if (same == n)
            return hay->data + i;
        if (!spend(rt, (same + (i % 64 == 0 ? 64 : 0)) / 64)) {
            *failed = true;
            return NULL;
        }
    }
    return NULL;
}

/* ---- classes ------------------------------------------------------------------------------ */

bool uni_space(uint32_t c)
{
    if (c < 0x80)
        return (c >= 9 && c <= 13) || (c >= 28 && c <= 32);
    return c == 0x85 || c == 0xA0 || c == 0x1680 || (c >= 0x2000 && c <= 0x200A) || c == 0x2028 ||
           c == 0x2029 || c == 0x202F || c == 0x205F || c == 0x3000;
}

static utf8proc_category_t category(uint32_t c)
{
    return utf8proc_category((utf8proc_int32_t)c);
}

bool uni_alpha(uint32_t c)
{
    utf8proc_category_t k = category(c);
    return k >= UTF8PROC_CATEGORY_LU && k <= UTF8PROC_CATEGORY_LO;
}

bool uni_digit(uint32_t c)
{
    return category(c) == UTF8PROC_CATEGORY_ND;
}

bool uni_numeric(uint32_t c)
{
    utf8proc_category_t k = category(c);
    return k >= UTF8PROC_CATEGORY_ND && k <= UTF8PROC_CATEGORY_NO;
}

bool uni_word(uint32_t c)
{
    return c == '_' || uni_alpha(c) || uni_numeric(c);
}

bool uni_lower_letter(uint32_t c)
{
    return category(c) == UTF8PROC_CATEGORY_LL || utf8proc_islower((utf8proc_int32_t)c);
}

bool uni_upper_letter(uint32_t c)
{
    return category(c) == UTF8PROC_CATEGORY_LU ||
           (category(c) != UTF8PROC_CATEGORY_LT && utf8proc_isupper((utf8proc_int32_t)c));
}

bool uni_title_letter(uint32_t c)
{
    return category(c) == UTF8PROC_CATEGORY_LT;
}

static bool uni_cased(uint32_t c)
{
    return uni_lower_letter(c) || uni_upper_letter(c) || uni_title_letter(c);
}

/* What repr() shows as it is. */
bool uni_printable(uint32_t c)
{
    if (c < 0x7F)
        return c >= 0x20;
    utf8proc_category_t k = category(c);
    return k != UTF8PROC_CATEGORY_CN && (k < UTF8PROC_CATEGORY_ZS || k > UTF8PROC_CATEGORY_CO);
}

/* ---- case --------------------------------------------------------------------------------- */

int uni_map(uint32_t c, enum letter_case to, uint32_t out[3])
{
    utf8proc_int32_t point = (utf8proc_int32_t)c, folded[4];
    int boundary = 0;
    out[1] = out[2] = 0;
    if (to == CASE_FOLD) {
        utf8proc_ssize_t n =
            utf8proc_decompose_char(point, folded, 4, UTF8PROC_CASEFOLD, &boundary);
        for (int i = 0; i < n && i < 3; i++)
            out[i] = (uint32_t)folded[i];
        return n < 1 ? (out[0] = c, 1) : n > 3 ? 3 : (int)n;
    }
    if (to == CASE_LOWER) {
        if (c == 0x130) { /* I with dot: the dot stays */
            out[0] = 'i';
            out[1] = 0x307;
            return 2;
        }
        out[0] = (uint32_t)utf8proc_tolower(point);
        return 1;
    }
    const uint32_t *special = case_expansion(c, to == CASE_TITLE);
    if (special == NULL) {
        out[0] = (uint32_t)(to == CASE_UPPER ? utf8proc_toupper(point) : utf8proc_totitle(point));
        return 1;
    }
    memcpy(out, special, 3 * sizeof *out);
    return out[2] != 0 ? 3 : out[1] != 0 ? 2 : 1;
}

/* Final sigma: the word goes on neither behind it, and there is a letter before it. */
static bool final_sigma(const struct str *s, size_t at)
{
    uint32_t c = 0;
    size_t i = at;
    bool before = false;
    while (i > 0 && !before) {
        do
            i--;
        while (i > 0 && ((unsigned char)s->data[i] & 0xC0) == 0x80);
        str_decode(s->data + i, s->size - i, &c);
        if (!case_ignorable(c))
            break;
    }
    before = at > 0 && !case_ignorable(c) && uni_cased(c);
    for (i = at + 2; before && i < s->size;) {
        i += (size_t)str_decode(s->data + i, s->size - i, &c);
        if (!case_ignorable(c))
            return !uni_cased(c);
    }
    return before;
}

static bool write_mapped(struct rt *rt, const struct str *s, size_t at, uint32_t c,
                         enum letter_case to)
{
    uint32_t mapped[3];
    char bytes[4];
    int n = uni_map(c, to, mapped);
    if (c == 0x3A3 && to == CASE_LOWER)
        mapped[0] = final_sigma(s, at) ? 0x3C2 : 0x3C3;
    for (int i = 0; i < n; i++)
        if (!write_bytes(rt, bytes, (size_t)utf8_encode(mapped[i], bytes)))
            return false;
    return true;
}

static bool map_ascii(struct rt *rt, const struct str *s, enum letter_case to, struct value *out)
{
    char *data;
    if (!str_alloc(rt, s->size, &data, out))
        return false;
    for (size_t i = 0; i < s->size; i++) {
        char c = s->data[i];
        if (to == CASE_UPPER)
            data[i] = c >= 'a' && c <= 'z' ? (char)(c - 32) : c;
        else
            data[i] = c >= 'A' && c <= 'Z' ? (char)(c + 32) : c;
    }
    out->s->safe = s->safe;
    return true;
}

/* lower, upper, casefold; CASE_TITLE is str.title(): each run of letters starts with a capital. */
bool map_case(struct rt *rt, struct str *s, enum letter_case to, struct value *out)
{
    size_t mark = rt->out.size;
    uint32_t c;
    bool in_word = false;
    if (to != CASE_TITLE && str_is_ascii(s))
        return map_ascii(rt, s, to, out);
    for (size_t i = 0, n; i < s->size; i += n) {
        n = (size_t)str_decode(s->data + i, s->size - i, &c);
        enum letter_case one = to == CASE_TITLE && in_word ? CASE_LOWER : to;
        in_word = uni_cased(c);
        if (!write_mapped(rt, s, i, c, one))
            return false;
    }
    if (!str_capture(rt, mark, out))
        return false;
    out->s->safe = s->safe;
    return true;
}

bool capitalize(struct rt *rt, struct str *s, struct value *out)
{
    size_t mark = rt->out.size;
    uint32_t c;
    for (size_t i = 0, n; i < s->size; i += n) {
        n = (size_t)str_decode(s->data + i, s->size - i, &c);
        if (!write_mapped(rt, s, i, c, i == 0 ? CASE_TITLE : CASE_LOWER))
            return false;
    }
    if (!str_capture(rt, mark, out))
        return false;
    out->s->safe = s->safe;
    return true;
}

/* islower / isupper: at least one cased letter, none of the other case. */
bool case_test(struct str *s, bool upper)
{
    bool any = false;
    uint32_t c;
    for (size_t i = 0; i < s->size;) {
        i += (size_t)str_decode(s->data + i, s->size - i, &c);
        if (upper ? uni_lower_letter(c) || uni_title_letter(c)
                  : uni_upper_letter(c) || uni_title_letter(c))
            return false;
        any |= upper ? uni_upper_letter(c) : uni_lower_letter(c);
    }
    return any;
}
