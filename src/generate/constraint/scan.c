/* scan.c: a text that is read by character, for both grammars of texts: GBNF and patterns of schemas. */
#include "generate/constraint/constraint_internal.h"

int scan_peek(const struct scan *in)
{
    return in->at < in->size ? (uint8_t)in->text[in->at] : -1;
}

bool scan_take(struct scan *in, char c)
{
    bool there = scan_peek(in) == (uint8_t)c;
    in->at += there;
    return there;
}

static int hex_digit(int c)
{
    return c >= '0' && c <= '9'   ? c - '0'
           : c >= 'a' && c <= 'f' ? c - 'a' + 10
           : c >= 'A' && c <= 'F' ? c - 'A' + 10
                                  : -1;
}

bool scan_hex(struct scan *in, int digits, uint32_t *value)
{
    *value = 0;
    for (int i = 0; i < digits; i++, in->at++) {
        int digit = hex_digit(scan_peek(in));
        if (digit < 0) {
            return false;
        }
        *value = *value << 4 | (uint32_t)digit;
    }
    return true;
}
