/* schema_pattern.c: regular expressions of a schema to expressions over the characters of a JSON string.
 *
 * Known: characters, `.`, \d \w \s \D \W \S, escapes, classes, groups, |, * + ? {m} {m,} {m,n} (a lazy ? behind them says
 * nothing here), ^ and $ at the ends of the pattern and of its alternatives. A text is generated that matches as a whole, which satisfies a search as well.
 * Look-around, back references, \b and \p are refused.
 */
#include "schema_internal.h"

struct pattern {
    struct schema *s;
    struct builder *b;
    struct scan in;
    int depth;
};

/* The sets of \d, \w, \s, as ECMA 262 has them. */
static const struct range digits[] = {{'0', '9'}};
static const struct range word_chars[] = {{'0', '9'}, {'A', 'Z'}, {'_', '_'}, {'a', 'z'}};
static const struct range spaces[] = {
    {0x09, 0x0D},     {0x20, 0x20},     {0xA0, 0xA0},     {0x1680, 0x1680}, {0x2000, 0x200A},
    {0x2028, 0x2029}, {0x202F, 0x202F}, {0x205F, 0x205F}, {0x3000, 0x3000}, {0xFEFF, 0xFEFF}};
static const struct range line_ends[] = {{'\n', '\n'}, {'\r', '\r'}, {0x2028, 0x2029}};

/* Ranges that a class gathers. */
enum { CLASS_MAX = 512 };
struct gathered {
    struct range ranges[CLASS_MAX];
    size_t n;
};

static expr_id fail(struct pattern *p, const char *what)
{
    char why[160];
    snprintf(why, sizeof why, "%s (near character %zu)", what, p->in.at + 1);
    return schema_refuse(p->s, "pattern", why);
}

static void gather(struct pattern *p, struct gathered *g, const struct range *ranges, size_t n,
                   bool negated)
{
    uint32_t next = 0;
    for (size_t i = 0; i < n + negated; i++) {
        struct range r = i < n ? ranges[i] : (struct range){0x110000, 0x110000};
        if (negated) {
            uint32_t lo = next;
            next = r.hi + 1;
            if (r.lo <= lo) {
                continue;
            }
            r = (struct range){lo, r.lo - 1};
        }
        if (g->n == CLASS_MAX) {
            fail(p, "a class has too many ranges");
            return;
        }
        g->ranges[g->n++] = r;
    }
}

static bool read_hex(struct pattern *p, int n, uint32_t *code)
{
    if (!scan_hex(&p->in, n, code)) {
        fail(p, "an escape has too few hexadecimal digits");
        return false;
    }
    if (*code >= 0xD800 && *code <= 0xDFFF) {
        fail(p, "half of a surrogate pair");
        return false;
    }
    return true;
}

/* What follows a backslash: a set (gathered, true) or one character. */
static bool read_escape(struct pattern *p, struct gathered *g, uint32_t *code)
{
    static const char letters[] = "nrtfv0", codes[] = "\n\r\t\f\v";
    int c = scan_peek(&p->in);
    const char *found = c > 0 ? strchr(letters, c) : NULL;
    p->in.at += c >= 0;
    switch (c) {
    case 'd':
    case 'D':
        gather(p, g, digits, ARRAY_LEN(digits), c == 'D');
        return true;
    case 'w':
    case 'W':
        gather(p, g, word_chars, ARRAY_LEN(word_chars), c == 'W');
        return true;
    case 's':
    case 'S':
        gather(p, g, spaces, ARRAY_LEN(spaces), c == 'S');
        return true;
    case 'x':
    case 'u':
        read_hex(p, c == 'x' ? 2 : 4, code);
        return false;
    default:
        break;
    }
    if (found != NULL) {
        *code = (uint8_t)codes[found - letters];
    } else if (c > 0 && c < 0x80 && strchr("^$\\.*+?()[]{}|/-\"'&~#@!%,:;<>=` _", c) != NULL) {
        *code = (uint32_t)c;
    } else {
        fail(p, "an escape that is not known here");
    }
    return false;
}

static bool read_char(struct pattern *p, uint32_t *code)
{
    int n = utf8_decode(p->in.text + p->in.at, p->in.size - p->in.at, code);
    p->in.at += (size_t)n;
    if (n == 0) {
        fail(p, "the pattern ends too early");
    }
    return n > 0;
}

/* A member of a class: false, or one character that may begin a range. */
static bool class_char(struct pattern *p, struct gathered *g, uint32_t *code)
{
    return scan_take(&p->in, '\\') ? !read_escape(p, g, code) : read_char(p, code);
}

static expr_id parse_class(struct pattern *p)
{
    struct gathered g = {.n = 0};
    bool negated = scan_take(&p->in, '^');
    while (p->b->status == GRAFT_OK && !scan_take(&p->in, ']')) {
        struct range r = {0, 0};
        if (p->in.at >= p->in.size) {
            return fail(p, "a class is not closed");
        }
        if (!class_char(p, &g, &r.lo)) {
            continue;
        }
        r.hi = r.lo;
        if (scan_peek(&p->in) == '-' && p->in.at + 1 < p->in.size &&
            p->in.text[p->in.at + 1] != ']') {
            p->in.at++;
            if (!class_char(p, &g, &r.hi)) {
                return fail(p, "a range ends with a set");
            }
        }
        if (r.hi < r.lo) {
            return fail(p, "a range runs backwards");
        }
        gather(p, &g, &r, 1, false);
    }
    return schema_characters(p->b, g.ranges, g.n, negated);
}

static expr_id parse_alternatives(struct pattern *p);

static expr_id parse_group(struct pattern *p)
{
    if (scan_take(&p->in, '?') && !scan_take(&p->in, ':')) {
        return fail(p, "look-around and named groups are not known here");
    }
    expr_id e = parse_alternatives(p);
    return p->b->status != GRAFT_OK || scan_take(&p->in, ')') ? e
                                                              : fail(p, "a group is not closed");
}

static expr_id parse_atom(struct pattern *p)
{
    struct range r = {0, 0};
    if (scan_take(&p->in, '(')) {
        return parse_group(p);
    }
    if (scan_take(&p->in, '[')) {
        return parse_class(p);
    }
    if (scan_take(&p->in, '.')) {
        return schema_characters(p->b, line_ends, ARRAY_LEN(line_ends), true);
    }
    if (scan_peek(&p->in) == '^' || scan_peek(&p->in) == '$') {
        return fail(p, "^ and $ are known at the ends of the pattern and of its alternatives only");
    }
    if (scan_peek(&p->in) >= 0 && strchr("*+?{}]", scan_peek(&p->in)) != NULL) {
        return fail(p, "there is nothing to repeat, or a bracket that was not opened");
    }
    if (scan_take(&p->in, '\\')) {
        struct gathered g = {.n = 0};
        if (read_escape(p, &g, &r.lo)) {
            return schema_characters(p->b, g.ranges, g.n, false);
        }
    } else if (!read_char(p, &r.lo)) {
        return -1;
    }
    r.hi = r.lo;
    return schema_characters(p->b, &r, 1, false);
}

static bool read_count(struct pattern *p, int32_t *count)
{
    size_t begin = p->in.at;
    int64_t n = 0;
    while (scan_peek(&p->in) >= '0' && scan_peek(&p->in) <= '9' && n <= REPEAT_MAX) {
        n = n * 10 + (p->in.text[p->in.at++] - '0');
    }
    *count = (int32_t)n;
    return p->in.at > begin && n <= REPEAT_MAX;
}

static expr_id parse_repeated(struct pattern *p)
{
    expr_id e = parse_atom(p);
    int32_t min = 0, max = -1;
    if (scan_take(&p->in, '*')) {
        e = expr_repeat(p->b, e, 0, -1);
    } else if (scan_take(&p->in, '+')) {
        e = expr_repeat(p->b, e, 1, -1);
    } else if (scan_take(&p->in, '?')) {
        e = expr_repeat(p->b, e, 0, 1);
    } else if (scan_take(&p->in, '{')) {
        bool ok = read_count(p, &min);
        if (ok && !scan_take(&p->in, ',')) {
            max = min;
        } else if (ok && scan_peek(&p->in) != '}') {
            ok = read_count(p, &max) && max >= min;
        }
        if (!ok || !scan_take(&p->in, '}')) {
            return fail(p, "a repetition is {m}, {m,} or {m,n}, up to 65536");
        }
        e = expr_repeat(p->b, e, min, max);
    } else {
        return e;
    }
    scan_take(&p->in, '?');
    if (scan_peek(&p->in) >= 0 && strchr("*+{", scan_peek(&p->in)) != NULL) {
        return fail(p, "a repetition is repeated");
    }
    return e;
}

static expr_id parse_sequence(struct pattern *p)
{
    expr_id list = expr_list(p->b, EXPR_SEQ);
    bool outer = p->depth == 1; /* the text matches as a whole, so anchors say nothing new there */
    if (outer) {
        scan_take(&p->in, '^');
    }
    while (p->b->status == GRAFT_OK && p->in.at < p->in.size && scan_peek(&p->in) != '|' &&
           scan_peek(&p->in) != ')') {
        bool last = p->in.at + 1 == p->in.size || p->in.text[p->in.at + 1] == '|';
        if (outer && last && scan_take(&p->in, '$')) {
            break;
        }
        expr_add(p->b, list, parse_repeated(p));
    }
    return list;
}

static expr_id parse_alternatives(struct pattern *p)
{
    if (++p->depth > PARSE_DEPTH) {
        return fail(p, "groups are nested too deeply");
    }
    expr_id list = expr_list(p->b, EXPR_ALT);
    do {
        expr_add(p->b, list, parse_sequence(p));
    } while (p->b->status == GRAFT_OK && scan_take(&p->in, '|'));
    p->depth--;
    return list;
}

expr_id schema_pattern(struct schema *s, const char *pattern, size_t size)
{
    struct pattern p = {.s = s, .b = s->b, .in = {pattern, size, 0}};
    expr_id e = parse_alternatives(&p);
    if (s->b->status == GRAFT_OK && p.in.at < p.in.size) {
        return fail(&p, "a bracket closes that was not opened");
    }
    return e;
}
