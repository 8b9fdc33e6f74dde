/* charsmap.c: SentencePiece's compiled normaliser ("precompiled_charsmap").
 *
 * The bytes are: the size of a table (u32), the table, then replacement texts, each ended by NUL. The
 * table is a double-array trie in darts-clone's form, one u32 per node: bit 31 marks a value, bits
 * 0..7 the label, bit 8 that a value follows, bit 9 that the offset is scaled by 256, bits 10.. the
 * offset, which is xor-ed. As the tokenizers library does it: a grapheme of less than 6 bytes is
 * looked up whole, else each character, and the first (shortest) match is the replacement.
 */
#include "tokenizer_internal.h"

#include <utf8proc.h>

enum { WHOLE_BYTES = 6, CHARSMAP_MAX = 16 << 20 };

struct charsmap {
    struct mem *mem;
    uint32_t *units;
    size_t n_units;
    const char *texts;
    size_t texts_size;
    uint8_t *bytes;
};

static uint32_t read_u32(const uint8_t *p)
{
    return (uint32_t)p[0] | (uint32_t)p[1] << 8 | (uint32_t)p[2] << 16 | (uint32_t)p[3] << 24;
}

/* Takes bytes over, also on failure. */
static graft_status adopt(struct mem *mem, uint8_t *bytes, size_t size, struct charsmap **out,
                          graft_error *error)
{
    uint32_t table = size >= 4 ? read_u32(bytes) : 0;
    if (size < 4 || table % 4 || table == 0 || table > size - 4) {
        mem_free(mem, bytes);
        return error_set(error, GRAFT_FORMAT, "the tokenizer's precompiled_charsmap is malformed");
    }
    struct charsmap *map = mem_calloc(mem, 1, sizeof *map);
    uint32_t *units = map ? mem_alloc(mem, table) : NULL;
    if (!units) {
        mem_free(mem, map);
        mem_free(mem, bytes);
        return error_set(error, GRAFT_NO_MEMORY, "out of memory for a character map");
    }
    for (size_t i = 0; i < table / 4; i++)
        units[i] = read_u32(bytes + 4 + 4 * i);
    *map = (struct charsmap){.mem = mem,
                             .units = units,
                             .n_units = table / 4,
                             .texts = (const char *)bytes + 4 + table,
                             .texts_size = size - 4 - table,
                             .bytes = bytes};
    *out = map;
    return GRAFT_OK;
}

static int base64_value(char c)
{
    static const char digits[] = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    const char *at = c ? strchr(digits, c) : NULL;
    return at ? (int)(at - digits) : -1;
}

graft_status charsmap_open_base64(struct mem *mem, const char *text, size_t size,
                                  struct charsmap **out, graft_error *error)
{
    if (size > CHARSMAP_MAX)
        return error_set(error, GRAFT_LIMIT, "a character map of %zu bytes", size);
    uint8_t *bytes = mem_alloc(mem, size / 4 * 3 + 3);
    if (!bytes)
        return error_set(error, GRAFT_NO_MEMORY, "out of memory for a character map");
    size_t n = 0;
    uint32_t bits = 0;
    int held = 0;
    while (size && text[size - 1] == '=')
        size--;
    for (size_t i = 0; i < size; i++) {
        int value = base64_value(text[i]);
        if (value < 0) {
            mem_free(mem, bytes);
            return error_set(error, GRAFT_FORMAT, "precompiled_charsmap is not base64");
        }
        bits = bits << 6 | (uint32_t)value;
        held += 6;
        if (held >= 8) {
            held -= 8;
            bytes[n++] = (uint8_t)(bits >> held);
        }
    }
    return adopt(mem, bytes, n, out, error);
}

void charsmap_close(struct charsmap **map)
{
    struct charsmap *m = *map;
    if (!m)
        return;
    *map = NULL;
    mem_free(m->mem, m->units);
    mem_free(m->mem, m->bytes);
    mem_free(m->mem, m);
}

static uint32_t unit_offset(uint32_t unit)
{
    return (unit >> 10) << ((unit & (1u << 9)) >> 6);
}

/* The replacement of the shortest match at the beginning of text; NULL: none. */
static const char *lookup(const struct charsmap *m, const char *text, size_t size)
{
    size_t node = unit_offset(m->units[0]);
    for (size_t i = 0; i < size && text[i]; i++) {
        node ^= (uint8_t)text[i];
        if (node >= m->n_units)
            return NULL;
        uint32_t unit = m->units[node];
        if ((unit & (1u << 31 | 0xFF)) != (uint8_t)text[i])
            return NULL;
        node ^= unit_offset(unit);
        if (node >= m->n_units)
            return NULL;
        if (unit >> 8 & 1) {
            size_t at = m->units[node] & 0x7FFFFFFF;
            return at < m->texts_size && memchr(m->texts + at, 0, m->texts_size - at)
                       ? m->texts + at
                       : NULL;
        }
    }
    return NULL;
}

/* Bytes of the grapheme at text, which is well-formed at its first character. */
static size_t grapheme_length(const char *text, size_t size)
{
    uint32_t last, code;
    utf8proc_int32_t state = 0;
    size_t n = (size_t)utf8_decode(text, size, &last);
    while (n < size) {
        int step = utf8_decode(text + n, size - n, &code);
        if (!step || utf8proc_grapheme_break_stateful((utf8proc_int32_t)last,
                                                      (utf8proc_int32_t)code, &state))
            break;
        n += (size_t)step;
        last = code;
    }
    return n;
}

static bool apply_chars(const struct charsmap *map, const char *text, size_t size, struct buf *out)
{
    for (size_t i = 0; i < size;) {
        uint32_t code;
        size_t n = (size_t)utf8_decode(text + i, size - i, &code);
        const char *to = lookup(map, text + i, n);
        if (!(to ? buf_puts(out, to) : buf_append(out, text + i, n)))
            return false;
        i += n;
    }
    return true;
}

bool charsmap_apply(const struct charsmap *map, const char *text, size_t size, struct buf *out)
{
    for (size_t i = 0; i < size;) {
        uint32_t code;
        if (!utf8_decode(text + i, size - i, &code)) {
            if (!buf_putc(out, text[i++]))
                return false;
            continue;
        }
        size_t n = grapheme_length(text + i, size - i);
        const char *to = n < WHOLE_BYTES ? lookup(map, text + i, n) : NULL;
        if (!(to ? buf_puts(out, to) : apply_chars(map, text + i, n, out)))
            return false;
        i += n;
    }
    return true;
}
