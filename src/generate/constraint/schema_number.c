/* schema_number.c: numbers of a JSON schema, with exact bounds.
 *
 * Bounds are decimals, so a range is a matter of digits: numbers of each length between two digit strings, cut at the first digit
 * where the two differ. Integers may be anything that 64 bits hold; where a side has no bound they, and the digits of
 * other numbers, are at most NUMBER_DIGITS, which a double keeps apart. Numbers with bounds are written without exponents.
 */
#include "schema_internal.h"

#include <math.h>

enum { DIGITS_MAX = 40 };

/* A decimal from 0 on: digits before the point without zeros in front ("0" for none), digits behind it without zeros at the end. */
struct decimal {
    char whole[DIGITS_MAX], part[DIGITS_MAX];
};
struct bound {
    bool given, negative, open; /* open: the bound itself is not in the range */
    struct decimal d;
};

static expr_id digits(struct builder *b, char lo, char hi)
{
    const struct range r = {(uint32_t)lo, (uint32_t)hi};
    return expr_class(b, &r, 1, false);
}

static expr_id any_digits(struct builder *b, size_t min, size_t max)
{
    return expr_repeat(b, digits(b, '0', '9'), (int32_t)min, (int32_t)max);
}

/* ---- whole numbers ---- */

static bool all_are(const char *text, char c)
{
    return strspn(text, (char[]){c, '\0'}) == strlen(text);
}

/* Digit strings of equal length from lo to hi. */
static expr_id between_equal(struct builder *b, const char *lo, const char *hi)
{
    size_t n = strlen(lo);
    if (all_are(lo, '0') && all_are(hi, '9')) {
        return any_digits(b, n, n);
    }
    if (lo[0] == hi[0]) {
        return EXPR_SEQ_OF(b, digits(b, lo[0], lo[0]), between_equal(b, lo + 1, hi + 1));
    }
    char nines[DIGITS_MAX] = "", zeros[DIGITS_MAX] = "";
    memset(nines, '9', n - 1);
    memset(zeros, '0', n - 1);
    bool from_zeros = all_are(lo + 1, '0'), to_nines = all_are(hi + 1, '9');
    char first = (char)(lo[0] + !from_zeros), last = (char)(hi[0] - !to_nines);
    expr_id list = expr_list(b, EXPR_ALT);
    if (!from_zeros) {
        expr_add(b, list, EXPR_SEQ_OF(b, digits(b, lo[0], lo[0]), between_equal(b, lo + 1, nines)));
    }
    if (first <= last) {
        expr_add(b, list, EXPR_SEQ_OF(b, digits(b, first, last), any_digits(b, n - 1, n - 1)));
    }
    if (!to_nines) {
        expr_add(b, list, EXPR_SEQ_OF(b, digits(b, hi[0], hi[0]), between_equal(b, zeros, hi + 1)));
    }
    return list;
}

static bool below(const char *a, const char *b)
{
    size_t n = strlen(a), m = strlen(b);
    return n != m ? n < m : strcmp(a, b) < 0;
}

/* Whole numbers without zeros in front from lo to hi; nothing when there are none. */
static expr_id between(struct builder *b, const char *lo, const char *hi)
{
    expr_id list = expr_list(b, EXPR_ALT);
    if (below(hi, lo)) {
        return list;
    }
    for (size_t n = strlen(lo); n <= strlen(hi); n++) {
        char least[DIGITS_MAX] = "", most[DIGITS_MAX] = "";
        memset(least, '0', n);
        memset(most, '9', n);
        least[0] = n > 1 ? '1' : '0';
        expr_add(b, list,
                 between_equal(b, n == strlen(lo) ? lo : least, n == strlen(hi) ? hi : most));
    }
    return list;
}

/* One more. */
static void increase(char *digits_)
{
    size_t i = strlen(digits_);
    while (i > 0 && digits_[i - 1] == '9') {
        digits_[--i] = '0';
    }
    if (i > 0) {
        digits_[i - 1]++;
    } else {
        memmove(digits_ + 1, digits_, strlen(digits_) + 1);
        digits_[0] = '1';
    }
}

/* One less; false: it was 0. */
static bool decrease(char *digits_)
{
    size_t i = strlen(digits_);
    if (strcmp(digits_, "0") == 0) {
        return false;
    }
    while (digits_[i - 1] == '0') {
        digits_[--i] = '9';
    }
    digits_[i - 1]--;
    if (digits_[0] == '0' && digits_[1] != '\0') {
        memmove(digits_, digits_ + 1, strlen(digits_));
    }
    return true;
}

/* ---- what is behind the point ---- */

/* Digits behind a point that has `room` for them. `some`: one at least. */
struct part {
    const char *digits;
    bool open;
};

/* Digits that make 0.DIGITS at least 0.part, or more than it. */
static expr_id part_from(struct builder *b, struct part lo, size_t room, bool some)
{
    size_t left = room > 0 ? room - 1 : 0;
    if (lo.digits[0] == '\0' && lo.open) {
        return EXPR_SEQ_OF(b, expr_repeat(b, digits(b, '0', '0'), 0, (int32_t)left),
                           digits(b, '1', '9'), any_digits(b, 0, left));
    }
    if (lo.digits[0] == '\0') {
        return any_digits(b, some, room);
    }
    expr_id list = expr_list(b, EXPR_ALT);
    char first = lo.digits[0];
    if (first < '9') {
        expr_add(b, list,
                 EXPR_SEQ_OF(b, digits(b, (char)(first + 1), '9'), any_digits(b, 0, left)));
    }
    lo.digits++;
    expr_add(b, list, EXPR_SEQ_OF(b, digits(b, first, first), part_from(b, lo, left, false)));
    return list;
}

/* Digits that make 0.DIGITS at most 0.part, or less than it. */
static expr_id part_to(struct builder *b, struct part hi, size_t room, bool some)
{
    expr_id list = expr_list(b, EXPR_ALT);
    size_t left = room > 0 ? room - 1 : 0;
    char first = hi.digits[0];
    if (first == '\0') { /* all of the bound was written: the digits end, or go on with zeros */
        return hi.open ? list : expr_repeat(b, digits(b, '0', '0'), some, (int32_t)room);
    }
    if (!some) {
        expr_add(b, list, expr_text(b, ""));
    }
    if (first > '0') {
        expr_add(b, list,
                 EXPR_SEQ_OF(b, digits(b, '0', (char)(first - 1)), any_digits(b, 0, left)));
    }
    hi.digits++;
    expr_add(b, list, EXPR_SEQ_OF(b, digits(b, first, first), part_to(b, hi, left, false)));
    return list;
}

/* Digits that make 0.DIGITS lie between two. */
static expr_id part_between(struct builder *b, struct part lo, struct part hi, size_t room,
                            bool some)
{
    bool lo_ends = lo.digits[0] == '\0', hi_ends = hi.digits[0] == '\0';
    char from = lo_ends ? '0' : lo.digits[0], to = hi_ends ? '0' : hi.digits[0];
    size_t left = room > 0 ? room - 1 : 0;
    expr_id list = expr_list(b, EXPR_ALT);
    if (lo_ends && hi_ends) {
        return lo.open ? list : part_to(b, hi, room, some);
    }
    if (lo_ends && !lo.open && !some) {
        expr_add(b, list, expr_text(b, ""));
    }
    lo.digits += !lo_ends;
    hi.digits += !hi_ends;
    if (from == to) {
        expr_add(b, list,
                 EXPR_SEQ_OF(b, digits(b, from, from), part_between(b, lo, hi, left, false)));
    } else if (from < to) {
        expr_add(b, list, EXPR_SEQ_OF(b, digits(b, from, from), part_from(b, lo, left, false)));
        if (from + 1 < to) {
            expr_add(b, list,
                     EXPR_SEQ_OF(b, digits(b, (char)(from + 1), (char)(to - 1)),
                                 any_digits(b, 0, left)));
        }
        expr_add(b, list, EXPR_SEQ_OF(b, digits(b, to, to), part_to(b, hi, left, false)));
    }
    return list;
}

/* How many digits there may be behind the point. */
static size_t part_room(const char *whole, const char *part)
{
    size_t n = strlen(whole), room = n + 1 < NUMBER_DIGITS ? NUMBER_DIGITS - n : 1;
    return room > strlen(part) + 1 ? room : strlen(part) + 1;
}

/* ---- ranges ---- */

/* Adds WHOLE.PART, and WHOLE alone where that is in the range. */
static void add_number(struct builder *b, expr_id list, const char *whole, bool alone, expr_id part)
{
    if (alone) {
        expr_add(b, list, expr_text(b, whole));
    }
    expr_add(b, list, EXPR_SEQ_OF(b, expr_text(b, whole), expr_text(b, "."), part));
}

/* Numbers from 0 on between two bounds that are given. */
static expr_id reals(struct builder *b, const struct bound *lo, const struct bound *hi)
{
    const struct part from = {lo->d.part, lo->open}, to = {hi->d.part, hi->open};
    bool lo_alone = from.digits[0] == '\0' && !from.open;
    bool hi_alone = to.digits[0] != '\0' || !to.open;
    expr_id list = expr_list(b, EXPR_ALT);
    size_t room = part_room(hi->d.whole, to.digits);
    if (strcmp(lo->d.whole, hi->d.whole) == 0) {
        room = room > strlen(from.digits) + 1 ? room : strlen(from.digits) + 1;
        add_number(b, list, lo->d.whole, lo_alone && hi_alone,
                   part_between(b, from, to, room, true));
        return list;
    }
    if (below(hi->d.whole, lo->d.whole)) {
        return list;
    }
    add_number(b, list, lo->d.whole, lo_alone,
               part_from(b, from, part_room(lo->d.whole, from.digits), true));
    struct decimal first = lo->d, last = hi->d;
    increase(first.whole);
    decrease(last.whole);
    expr_id part = EXPR_SEQ_OF(b, expr_text(b, "."), any_digits(b, 1, part_room(hi->d.whole, "")));
    expr_add(b, list,
             EXPR_SEQ_OF(b, between(b, first.whole, last.whole), expr_repeat(b, part, 0, 1)));
    add_number(b, list, hi->d.whole, hi_alone, part_to(b, to, room, true));
    return list;
}

/* Whole numbers from 0 on between two bounds that are given. */
static expr_id integers(struct builder *b, const struct bound *lo, const struct bound *hi)
{
    struct decimal first = lo->d, last = hi->d;
    if (first.part[0] != '\0' || lo->open) {
        increase(first.whole);
    }
    if (last.part[0] == '\0' && hi->open && !decrease(last.whole)) {
        return expr_list(b, EXPR_ALT);
    }
    return between(b, first.whole, last.whole);
}

static expr_id from_zero(struct builder *b, const struct bound *lo, const struct bound *hi,
                         bool integer)
{
    struct bound most = *hi;
    if (!most.given) {
        most = (struct bound){.given = true, .d = {"999999999999999", ""}};
        if (below(most.d.whole, lo->d.whole)) {
            most.d = (struct decimal){"9223372036854775807", ""};
        }
    }
    return integer ? integers(b, lo, &most) : reals(b, lo, &most);
}

static expr_id in_range(struct builder *b, const struct bound *lo, const struct bound *hi,
                        bool integer)
{
    expr_id list = expr_list(b, EXPR_ALT);
    const struct bound zero = {.given = true, .d = {"0", ""}};
    if (!lo->given || lo->negative) {
        struct bound least = hi->given && hi->negative ? *hi : zero;
        least.open = least.open || !least.negative; /* no -0 */
        expr_add(b, list, EXPR_SEQ_OF(b, expr_text(b, "-"), from_zero(b, &least, lo, integer)));
    }
    if (!(hi->given && hi->negative)) {
        const struct bound *least = lo->given && !lo->negative ? lo : &zero;
        expr_add(b, list, from_zero(b, least, hi, integer));
    }
    return list;
}

/* ---- bounds of a schema ---- */

/* Digits, point and exponent as decimal_print writes them. false: too many digits. */
static bool read_decimal(const char *text, struct decimal *out)
{
    char all[2 * DECIMAL_SIZE] = "";
    size_t n = 0;
    int point = -1;
    for (; *text != '\0' && *text != 'e' && *text != 'E'; text++) {
        if (*text == '.') {
            point = (int)n;
        } else {
            all[n++] = *text;
        }
    }
    point = (point < 0 ? (int)n : point) + (*text != '\0' ? (int)strtol(text + 1, NULL, 10) : 0);
    int end = (int)n;
    while (end > 0 && all[end - 1] == '0') {
        end--;
    }
    if (point > 19 || end - point >= DIGITS_MAX - 6) {
        return false;
    }
    int at = 0;
    for (int i = point < 0 ? point : 0; i < point || i < end; i++) {
        char c = i >= 0 && i < end ? all[i] : '0';
        if (i < point && (at > 0 || c != '0')) {
            out->whole[at++] = c;
        }
        if (i == point - 1 || point <= 0) {
            break;
        }
    }
    out->whole[at] = '\0';
    if (at == 0) {
        memcpy(out->whole, "0", 2);
    }
    at = 0;
    for (int i = point; i < end; i++) {
        out->part[at++] = i >= 0 ? all[i] : '0';
    }
    out->part[at] = '\0';
    return true;
}

/* -1, 0 or 1. */
static int compare_bounds(const struct bound *a, const struct bound *b)
{
    if (a->negative != b->negative) {
        return a->negative ? -1 : 1;
    }
    int order = below(a->d.whole, b->d.whole)   ? -1
                : below(b->d.whole, a->d.whole) ? 1
                                                : strcmp(a->d.part, b->d.part);
    return a->negative ? -order : order;
}

/* false: an error. A bound that no number which is generated reaches is none. */
static bool read_bound(struct schema *s, const json_t *schema, const char *keyword, int side,
                       struct bound *out)
{
    const json_t *value = json_object_get(schema, keyword);
    char text[DECIMAL_SIZE];
    *out = (struct bound){.given = false};
    if (value == NULL || json_is_boolean(value)) {
        return true;
    }
    if (!json_is_number(value)) {
        schema_wrong(s, keyword, "is no number");
        return false;
    }
    double number = json_number_value(value);
    if (json_is_integer(value)) {
        snprintf(text, sizeof text, "%" JSON_INTEGER_FORMAT, json_integer_value(value));
    } else {
        decimal_print(number, text);
    }
    out->negative = text[0] == '-' && number != 0;
    out->given = true;
    if (!read_decimal(text + (text[0] == '-'), &out->d)) {
        out->given = false;
        if (fabs(number) < 1 || (number < 0) != (side < 0)) {
            schema_refuse(s, keyword, "it has too many digits");
            return false;
        }
    }
    return true;
}

/* minimum and exclusiveMinimum, or maximum and exclusiveMaximum, as one. side: -1 for the lower. */
static bool read_side(struct schema *s, const json_t *schema, int side, struct bound *out)
{
    const char *name = side < 0 ? "minimum" : "maximum",
               *open_name = side < 0 ? "exclusiveMinimum" : "exclusiveMaximum";
    struct bound open;
    if (!read_bound(s, schema, name, side, out) || !read_bound(s, schema, open_name, side, &open)) {
        return false;
    }
    out->open = json_is_true(json_object_get(schema, open_name));
    open.open = true;
    if (open.given && (!out->given || compare_bounds(&open, out) * side <= 0)) {
        *out = open;
    }
    return true;
}

static expr_id unbounded(struct builder *b, bool integer)
{
    expr_id minus = expr_repeat(b, expr_text(b, "-"), 0, 1), zero = expr_text(b, "0");
    expr_id whole = EXPR_SEQ_OF(b, digits(b, '1', '9'), any_digits(b, 0, NUMBER_DIGITS - 1));
    if (integer) {
        return EXPR_ALT_OF(b, zero, EXPR_SEQ_OF(b, minus, whole));
    }
    static const struct range e[] = {{'E', 'E'}, {'e', 'e'}}, signs[] = {{'+', '+'}, {'-', '-'}};
    expr_id part = EXPR_SEQ_OF(b, expr_text(b, "."), any_digits(b, 1, NUMBER_DIGITS));
    expr_id exponent = EXPR_SEQ_OF(
        b, expr_class(b, e, ARRAY_LEN(e), false),
        expr_repeat(b, expr_class(b, signs, ARRAY_LEN(signs), false), 0, 1), any_digits(b, 1, 2));
    return EXPR_SEQ_OF(b, minus, EXPR_ALT_OF(b, zero, whole), expr_repeat(b, part, 0, 1),
                       expr_repeat(b, exponent, 0, 1));
}

expr_id schema_number(struct schema *s, const json_t *schema, bool integer)
{
    const json_t *multiple = json_object_get(schema, "multipleOf");
    struct bound lo, hi;
    if (multiple != NULL && (!integer || json_number_value(multiple) != 1)) {
        return schema_refuse(s, "multipleOf", "");
    }
    if (!read_side(s, schema, -1, &lo) || !read_side(s, schema, 1, &hi)) {
        return -1;
    }
    return lo.given || hi.given ? in_range(s->b, &lo, &hi, integer) : unbounded(s->b, integer);
}
