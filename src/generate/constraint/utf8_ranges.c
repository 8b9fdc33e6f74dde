/* utf8_ranges.c: ranges of code points as sequences of ranges of bytes.
 *
 * A range is cut until the encodings of its two ends differ in the first of their bytes only up to bytes that run through all of
 * 80..BF: then the bytes are independent of each other. Surrogates have no encoding and are left out.
 */
#include "constraint_internal.h"

static void give_range(uint32_t lo, uint32_t hi, utf8_range_fn give, void *user)
{
    static const uint32_t last[] = {0x7F, 0x7FF, 0xFFFF};
    for (int i = 0; i < 3; i++) {
        if (lo <= last[i] && hi > last[i]) {
            give_range(lo, last[i], give, user);
            give_range(last[i] + 1, hi, give, user);
            return;
        }
    }
    for (uint32_t bits = 6; bits <= 18 && hi > 0x7F; bits += 6) {
        uint32_t low = (1U << bits) - 1;
        if ((lo & ~low) == (hi & ~low)) {
            continue;
        }
        if ((lo & low) != 0) {
            give_range(lo, lo | low, give, user);
            give_range((lo | low) + 1, hi, give, user);
            return;
        }
        if ((hi & low) != low) {
            give_range(lo, (hi & ~low) - 1, give, user);
            give_range(hi & ~low, hi, give, user);
            return;
        }
    }
    char first[4], second[4];
    struct byte_range bytes[4];
    int n = utf8_encode(lo, first);
    utf8_encode(hi, second);
    for (int i = 0; i < n; i++) {
        bytes[i] = (struct byte_range){(uint8_t)first[i], (uint8_t)second[i]};
    }
    give(user, bytes, n);
}

void utf8_ranges(uint32_t lo, uint32_t hi, utf8_range_fn give, void *user)
{
    enum { BEFORE = 0xD7FF, BEHIND = 0xE000, LAST = 0x10FFFF };
    hi = hi < LAST ? hi : LAST;
    if (lo <= BEFORE && lo <= hi) {
        give_range(lo, hi < BEFORE ? hi : BEFORE, give, user);
    }
    if (hi >= BEHIND && lo <= hi) {
        give_range(lo > BEHIND ? lo : BEHIND, hi, give, user);
    }
}
