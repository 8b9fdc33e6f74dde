/* hex.c: bytes as text, two characters each, as digests and names of files are written.
 *
 * By a table and not by printf: a list of ten thousand versions has as many digests.
 */
#include "base_internal.h"

static const char DIGITS[] = "0123456789abcdef";

void hex_write(const uint8_t *bytes, size_t size, char *text)
{
    for (size_t i = 0; i < size; i++) {
        text[2 * i] = DIGITS[bytes[i] >> 4];
        text[2 * i + 1] = DIGITS[bytes[i] & 15];
    }
    text[2 * size] = '\0';
}

bool hex_read(const char *text, uint8_t *bytes, size_t size)
{
    if (strlen(text) != 2 * size)
        return false;
    for (size_t i = 0; i < size; i++) {
        const char *high = strchr(DIGITS, text[2 * i]), *low = strchr(DIGITS, text[2 * i + 1]);
        if (!high || !low)
            return false;
        bytes[i] = (uint8_t)((high - DIGITS) << 4 | (low - DIGITS));
    }
    return true;
}
