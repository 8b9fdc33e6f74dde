/* decimal.c: decimal numbers of files, read and written with a point whatever the host's locale has in its place.
 *
 * Owns the grammar of a number alone in a text; JSON has its own reader. The C library's strtod and printf do the
 * rounding, and never meet or leave a decimal point of the locale.
 */
#include "base_internal.h"

#include <math.h>

enum { MOST_DIGITS = 64 };

static bool is_digit(char c)
{
    return c >= '0' && c <= '9';
}

/* strtod gets digits and an exponent only, so that no decimal point is met. */
bool decimal_parse(const char *text, double *out)
{
    char number[96];
    size_t length = 0;
    int exponent = 0, digits = 0;
    const char *at = text;
    if (*at == '-' || *at == '+')
        number[length++] = *at++;
    for (bool point = false; is_digit(*at) || (*at == '.' && !point); at++) {
        if (*at == '.') {
            point = true;
            continue;
        }
        if (++digits > MOST_DIGITS)
            return false;
        number[length++] = *at;
        exponent -= point;
    }
    if (!digits)
        return false;
    if (*at == 'e' || *at == 'E') {
        bool negative = at[1] == '-';
        at += 1 + (at[1] == '-' || at[1] == '+');
        int written = 0, places = 0;
        for (; is_digit(*at) && places < 4; at++, places++)
            written = written * 10 + (*at - '0');
        if (!places)
            return false;
        exponent += negative ? -written : written;
    }
    if (*at)
        return false;
    snprintf(number + length, sizeof(number) - length, "e%d", exponent);
    double value = strtod(number, NULL);
    if (!isfinite(value))
        return false;
    *out = value;
    return true;
}

void decimal_print(double value, char out[DECIMAL_SIZE])
{
    char text[DECIMAL_SIZE];
    size_t n = 0;
    for (int digits = 6; digits <= 17; digits++) {
        snprintf(text, sizeof text, "%.*g", digits, value);
        if (strtod(text, NULL) == value)
            break;
    }
    for (const char *at = text; *at;
         at++) /* what is neither digit, sign nor exponent is the point */
        if (is_digit(*at) || strchr("+-einfa", *at))
            out[n++] = *at;
        else if (n == 0 || out[n - 1] != '.')
            out[n++] = '.';
    out[n] = 0;
}
