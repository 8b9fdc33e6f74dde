/* unicode.c: normal forms, letter case and character classes, on utf8proc's tables.
 *
 * Only stretches with characters outside ASCII are worked on, each with the ASCII character before
 * it, which a combining mark may join. Decomposed marks are put in order here, by counting, since
 * utf8proc's own ordering takes quadratic time on a long run of marks.
 */
#include "tokenizer_internal.h"

#include <utf8proc.h>

enum { EXPANSION = 32 /* code points that one may decompose into: 18 in Unicode 15 */ };

struct points {
    struct mem *mem;
    utf8proc_int32_t *at, *spare;
    size_t count, capacity;
};

static bool points_reserve(struct points *p, size_t count)
{
    if (count <= p->capacity)
        return true;
    size_t capacity = count * 2;
    utf8proc_int32_t *at = mem_resize(p->mem, p->at, capacity * sizeof *at);
    if (at)
        p->at = at;
    utf8proc_int32_t *spare = at ? mem_resize(p->mem, p->spare, capacity * sizeof *spare) : NULL;
    if (!spare)
        return false;
    p->spare = spare;
    p->capacity = capacity;
    return true;
}

static void points_free(struct points *p)
{
    mem_free(p->mem, p->at);
    mem_free(p->mem, p->spare);
}

static int combining_class(utf8proc_int32_t code)
{
    return (uint8_t)utf8proc_get_property(code)->combining_class;
}

/* Sorts points[from, to), marks all, by combining class, keeping the order of equals. */
static void order_run(struct points *p, size_t from, size_t to)
{
    size_t count[257] = {0};
    for (size_t i = from; i < to; i++)
        count[combining_class(p->at[i]) + 1]++;
    for (int c = 1; c < 257; c++)
        count[c] += count[c - 1];
    for (size_t i = from; i < to; i++)
        p->spare[from + count[combining_class(p->at[i])]++] = p->at[i];
    memcpy(p->at + from, p->spare + from, (to - from) * sizeof *p->at);
}

static void order_marks(struct points *p)
{
    for (size_t i = 0; i < p->count;) {
        size_t end = i;
        while (end < p->count && combining_class(p->at[end]) != 0)
            end++;
        if (end - i > 1)
            order_run(p, i, end);
        i = end + 1;
    }
}

/* The normal form of well-formed text. */
static graft_status normalize_stretch(struct points *p, const char *text, size_t size,
                                      utf8proc_option_t options, struct buf *out)
{
    p->count = 0;
    int boundary = 0;
    for (size_t i = 0; i < size;) {
        uint32_t code;
        i += (size_t)utf8_decode(text + i, size - i, &code);
        if (!points_reserve(p, p->count + EXPANSION))
            return GRAFT_NO_MEMORY;
        utf8proc_ssize_t n = utf8proc_decompose_char((utf8proc_int32_t)code, p->at + p->count,
                                                     EXPANSION, options, &boundary);
        if (n < 0 || n > EXPANSION)
            return GRAFT_INTERNAL;
        p->count += (size_t)n;
    }
    order_marks(p);
    utf8proc_ssize_t left = utf8proc_normalize_utf32(p->at, (utf8proc_ssize_t)p->count, options);
    for (utf8proc_ssize_t i = 0; i < left; i++) {
        char bytes[4];
        int n = utf8_encode((uint32_t)p->at[i], bytes);
        if (!buf_append(out, bytes, (size_t)n))
            return out->status;
    }
    return GRAFT_OK;
}

static bool is_ascii(char c)
{
    return !(c & 0x80);
}

graft_status unicode_normalize(enum norm_kind form, const char *text, size_t size, struct buf *out,
                               graft_error *error)
{
    bool compat = form == NORM_NFKC || form == NORM_NFKD;
    bool compose = form == NORM_NFC || form == NORM_NFKC;
    int options = UTF8PROC_STABLE | (compat ? UTF8PROC_COMPAT : 0) |
                  (compose ? UTF8PROC_COMPOSE : UTF8PROC_DECOMPOSE);
    struct points points = {.mem = out->mem};
    graft_status status = GRAFT_OK;
    for (size_t i = 0; i < size && !status;) {
        size_t end = i;
        while (end < size && is_ascii(text[end]) && (end + 1 == size || is_ascii(text[end + 1])))
            end++;
        bool ok = buf_append(out, text + i, end - i);
        i = end;
        /* text[i], if any, is ASCII before a stretch, or begins one. */
        if (end < size && is_ascii(text[end]))
            end++;
        while (end < size && !is_ascii(text[end])) {
            uint32_t code;
            int step = utf8_decode(text + end, size - end, &code);
            if (!step)
                break;
            end += (size_t)step;
        }
        status = ok ? normalize_stretch(&points, text + i, end - i, (utf8proc_option_t)options, out)
                    : out->status;
        for (i = end; i < size && !is_ascii(text[i]) && !status; i++) { /* malformed bytes stay */
            uint32_t code;
            if (utf8_decode(text + i, size - i, &code))
                break;
            if (!buf_putc(out, text[i]))
                status = out->status;
        }
    }
    points_free(&points);
    return status ? error_set(error, status, "cannot normalise the text: %s",
                              graft_status_text(status))
                  : GRAFT_OK;
}

bool unicode_lowercase(const char *text, size_t size, struct buf *out)
{
    for (size_t i = 0; i < size;) {
        uint32_t code;
        int step = utf8_decode(text + i, size - i, &code);
        char bytes[4];
        bool ok;
        if (!step) {
            ok = buf_putc(out, text[i]);
            step = 1;
        } else if (code == 0x130) { /* the one letter whose lower case is two characters */
            ok = buf_puts(out, "i\xCC\x87");
        } else {
            int n = utf8_encode((uint32_t)utf8proc_tolower((utf8proc_int32_t)code), bytes);
            ok = buf_append(out, bytes, (size_t)n);
        }
        if (!ok)
            return false;
        i += (size_t)step;
    }
    return true;
}

bool unicode_strip_accents(const char *text, size_t size, struct buf *out)
{
    for (size_t i = 0; i < size;) {
        uint32_t code;
        int step = utf8_decode(text + i, size - i, &code);
        utf8proc_category_t c =
            step ? utf8proc_category((utf8proc_int32_t)code) : UTF8PROC_CATEGORY_CN;
        bool mark =
            c == UTF8PROC_CATEGORY_MN || c == UTF8PROC_CATEGORY_MC || c == UTF8PROC_CATEGORY_ME;
        size_t length = step ? (size_t)step : 1;
        if (!mark && !buf_append(out, text + i, length))
            return false;
        i += length;
    }
    return true;
}

bool unicode_is_space(uint32_t code)
{
    return (code >= 9 && code <= 13) || code == 0x20 || code == 0x85 || code == 0xA0 ||
           code == 0x1680 || (code >= 0x2000 && code <= 0x200A) || code == 0x2028 ||
           code == 0x2029 || code == 0x202F || code == 0x205F || code == 0x3000;
}

bool unicode_is_word(uint32_t code)
{
    if (code == 0x200C || code == 0x200D)
        return true;
    switch (utf8proc_category((utf8proc_int32_t)code)) {
    case UTF8PROC_CATEGORY_LU:
    case UTF8PROC_CATEGORY_LL:
    case UTF8PROC_CATEGORY_LT:
    case UTF8PROC_CATEGORY_LM:
    case UTF8PROC_CATEGORY_LO:
    case UTF8PROC_CATEGORY_MN:
    case UTF8PROC_CATEGORY_MC:
    case UTF8PROC_CATEGORY_ME:
    case UTF8PROC_CATEGORY_ND:
    case UTF8PROC_CATEGORY_NL:
    case UTF8PROC_CATEGORY_PC:
        return true;
    default: /* circled and squared letters */
        return (code >= 0x24B6 && code <= 0x24E9) || (code >= 0x1F130 && code <= 0x1F189);
    }
}
