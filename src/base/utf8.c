/* utf8.c: code points to bytes and back, by the table of well-formed sequences in the Unicode
 * standard (3.9, table 3-7).
 */
#include "base_internal.h"

/* Bytes that a sequence with this first byte has; 0: none starts so. */
static int sequence_length(uint8_t first)
{
    if (first < 0x80)
        return 1;
    if (first < 0xC2)
        return 0;
    return first < 0xE0 ? 2 : first < 0xF0 ? 3 : first < 0xF5 ? 4 : 0;
}

/* The second byte rules out overlong forms, surrogates and what lies above U+10FFFF. */
static bool second_allowed(uint8_t first, uint8_t second)
{
    uint8_t low = first == 0xE0 ? 0xA0 : first == 0xF0 ? 0x90 : 0x80;
    uint8_t high = first == 0xED ? 0x9F : first == 0xF4 ? 0x8F : 0xBF;
    return second >= low && second <= high;
}

/* How many of the bytes at hand are a proper start of one sequence; *wanted its full length. */
static int valid_prefix(const uint8_t *text, size_t size, int *wanted)
{
    int length = size ? sequence_length(text[0]) : 0;
    *wanted = length;
    if (!length)
        return 0;
    for (int i = 1; i < length; i++) {
        if ((size_t)i >= size)
            return i;
        if (i == 1 ? !second_allowed(text[0], text[1]) : (text[i] & 0xC0) != 0x80)
            return 0;
    }
    return length;
}

int utf8_decode(const char *text, size_t size, uint32_t *code)
{
    static const uint8_t FIRST_MASK[5] = {0, 0x7F, 0x1F, 0x0F, 0x07};
    const uint8_t *bytes = (const uint8_t *)text;
    int wanted, length = valid_prefix(bytes, size, &wanted);
    if (!length || length < wanted)
        return 0;
    uint32_t value = bytes[0] & FIRST_MASK[length];
    for (int i = 1; i < length; i++)
        value = value << 6 | (bytes[i] & 0x3F);
    *code = value;
    return length;
}

int utf8_encode(uint32_t code, char out[4])
{
    static const uint8_t FIRST_MARK[5] = {0, 0, 0xC0, 0xE0, 0xF0};
    if (code > 0x10FFFF || (code >= 0xD800 && code < 0xE000))
        return 0;
    int length = code < 0x80 ? 1 : code < 0x800 ? 2 : code < 0x10000 ? 3 : 4;
    for (int i = length - 1; i > 0; i--) {
        out[i] = (char)(0x80 | (code & 0x3F));
        code >>= 6;
    }
    out[0] = (char)(FIRST_MARK[length] | code);
    return length;
}

size_t utf8_complete(const char *text, size_t size)
{
    const uint8_t *bytes = (const uint8_t *)text;
    for (size_t back = 1; back <= 3 && back <= size; back++) {
        int wanted, have = valid_prefix(bytes + size - back, back, &wanted);
        if ((size_t)have == back && have < wanted)
            return size - back;
        if ((bytes[size - back] & 0xC0) != 0x80)
            break;
    }
    return size;
}

size_t utf8_control(const char *text, size_t size)
{
    const unsigned char *at = (const unsigned char *)text;
    if (size > 0 && (at[0] < 0x20 || at[0] == 0x7F))
        return 1;
    return size > 1 && at[0] == 0xC2 && at[1] >= 0x80 && at[1] < 0xA0 ? 2 : 0;
}
