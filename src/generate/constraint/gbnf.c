/* gbnf.c: GBNF text to a grammar.
 *
 * The notation that llama.cpp reads: NAME ::= alternatives, "texts" and [classes] of characters with the same escapes, `.`, groups,
 * * + ? {m} {m,} {m,n}, # comments. Texts are UTF-8 and classes are of code points. Two liberties: a rule goes on over
 * lines until the next NAME ::=, and names may have underscores. Pure and bounded; errors have line and column.
 */
#include "constraint_internal.h"

struct gbnf {
    struct builder *b;
    const char *text;
    size_t size, at;
    int depth;
    struct str_map names; /* rule by name; keys are names of the builder */
};

/* ---- places and characters ---- */

static void find_place(const struct gbnf *p, size_t at, int *line, int *column)
{
    *line = *column = 1;
    for (size_t i = 0; i < at && i < p->size; i++) {
        if (p->text[i] == '\n') {
            ++*line;
            *column = 1;
        } else if (((uint8_t)p->text[i] & 0xC0) != 0x80) {
            ++*column;
        }
    }
}

static expr_id fail_at(struct gbnf *p, size_t at, const char *what)
{
    int line, column;
    if (p->b->status != GRAFT_OK) {
        return -1;
    }
    find_place(p, at, &line, &column);
    return builder_fail(p->b, GRAFT_FORMAT, "line %d, column %d: %s", line, column, what);
}

static int peek(const struct gbnf *p)
{
    return p->at < p->size ? (uint8_t)p->text[p->at] : -1;
}

static bool take(struct gbnf *p, char c)
{
    if (peek(p) != c) {
        return false;
    }
    p->at++;
    return true;
}

static void skip_blank(struct gbnf *p)
{
    for (;; p->at++) {
        int c = peek(p);
        if (c == '#') {
            while (p->at < p->size && p->text[p->at] != '\n') {
                p->at++;
            }
            c = peek(p);
        }
        if (c != ' ' && c != '\t' && c != '\r' && c != '\n') {
            return;
        }
    }
}

static bool is_name_char(int c)
{
    return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9') || c == '-' ||
           c == '_';
}

static size_t name_length(const struct gbnf *p)
{
    size_t n = 0;
    while (p->at + n < p->size && is_name_char((uint8_t)p->text[p->at + n])) {
        n++;
    }
    return n;
}

/* Whether NAME ::= stands here. */
static bool at_rule(const struct gbnf *p)
{
    struct gbnf look = *p;
    look.at += name_length(p);
    while (peek(&look) == ' ' || peek(&look) == '\t') {
        look.at++;
    }
    return look.at > p->at && look.at + 3 <= p->size && memcmp(p->text + look.at, "::=", 3) == 0;
}

static int hex_digit(int c)
{
    return c >= '0' && c <= '9'   ? c - '0'
           : c >= 'a' && c <= 'f' ? c - 'a' + 10
           : c >= 'A' && c <= 'F' ? c - 'A' + 10
                                  : -1;
}

static bool read_hex(struct gbnf *p, int digits, uint32_t *code)
{
    size_t begin = p->at;
    *code = 0;
    for (int i = 0; i < digits; i++, p->at++) {
        int digit = hex_digit(peek(p));
        if (digit < 0) {
            fail_at(p, begin, "an escape has too few hexadecimal digits");
            return false;
        }
        *code = *code << 4 | (uint32_t)digit;
    }
    char bytes[4];
    if (utf8_encode(*code, bytes) == 0) {
        fail_at(p, begin, "an escape is no character of Unicode");
        return false;
    }
    return true;
}

static bool read_escape(struct gbnf *p, uint32_t *code)
{
    static const char letters[] = "nrt\\\"[]-^", codes[] = "\n\r\t\\\"[]-^";
    int c = peek(p);
    const char *found = c > 0 ? strchr(letters, c) : NULL;
    size_t begin = p->at++;
    if (found != NULL) {
        *code = (uint8_t)codes[found - letters];
        return true;
    }
    if (c == 'x' || c == 'u' || c == 'U') {
        return read_hex(p, c == 'x' ? 2 : c == 'u' ? 4 : 8, code);
    }
    fail_at(p, begin,
            "an unknown escape: there are \\n \\r \\t \\\\ \\\" \\[ \\] \\xHH \\uHHHH "
            "\\UHHHHHHHH");
    return false;
}

/* A character of a text or a class. */
static bool read_char(struct gbnf *p, uint32_t *code)
{
    if (take(p, '\\')) {
        return read_escape(p, code);
    }
    int n = utf8_decode(p->text + p->at, p->size - p->at, code);
    if (n == 0) {
        fail_at(p, p->at, p->at < p->size ? "no UTF-8" : "the text ends here");
        return false;
    }
    p->at += (size_t)n;
    return true;
}

/* ---- items ---- */

static expr_id parse_literal(struct gbnf *p)
{
    size_t begin = p->at - 1;
    struct buf bytes;
    buf_init(&bytes, p->b->mem, TEXT_MAX);
    while (p->b->status == GRAFT_OK && !take(p, '"')) {
        uint32_t code;
        char utf8[4];
        if (p->at >= p->size || peek(p) == '\n') {
            fail_at(p, begin, "a text in quotes does not end");
        } else if (read_char(p, &code)) {
            buf_append(&bytes, utf8, (size_t)utf8_encode(code, utf8));
        }
    }
    if (bytes.status != GRAFT_OK) {
        builder_fail(p->b, bytes.status, "no memory for a grammar");
    }
    expr_id e = expr_bytes(p->b, bytes.size > 0 ? bytes.data : "", bytes.size);
    buf_free(&bytes);
    return e;
}

static expr_id parse_class(struct gbnf *p)
{
    size_t begin = p->at - 1, n = 0, room = 0;
    struct range *ranges = NULL;
    bool negated = take(p, '^');
    while (p->b->status == GRAFT_OK && !take(p, ']')) {
        struct range r = {0, 0};
        size_t at = p->at;
        if (p->at >= p->size) {
            fail_at(p, begin, "a class in brackets does not end");
            break;
        }
        if (!read_char(p, &r.lo)) {
            break;
        }
        r.hi = r.lo;
        if (peek(p) == '-' && p->at + 1 < p->size && p->text[p->at + 1] != ']') {
            p->at++;
            if (!read_char(p, &r.hi)) {
                break;
            }
        }
        if (r.hi < r.lo) {
            fail_at(p, at, "a range in a class runs backwards");
        }
        if (n == room) {
            room = 2 * room + 8;
            struct range *grown = mem_resize(p->b->mem, ranges, room * sizeof *ranges);
            if (grown == NULL) {
                builder_fail(p->b, GRAFT_NO_MEMORY, "no memory for a grammar");
                break;
            }
            ranges = grown;
        }
        ranges[n++] = r;
    }
    if (n == 0 && !negated) {
        fail_at(p, begin, "an empty class matches nothing");
    }
    expr_id e = expr_class(p->b, ranges, n, negated);
    mem_free(p->b->mem, ranges);
    return e;
}

/* The rule of a name, which may be defined later. */
static int32_t find_rule(struct gbnf *p, size_t length)
{
    int32_t rule = str_map_get(&p->names, p->text + p->at, length);
    if (rule >= 0) {
        return rule;
    }
    rule = rule_add(p->b, p->text + p->at, length);
    if (rule >= 0 && !str_map_put(&p->names, p->b->rules[rule].name, length, rule, NULL)) {
        return builder_fail(p->b, GRAFT_NO_MEMORY, "no memory for a grammar");
    }
    if (rule >= 0) {
        p->b->rules[rule].at = p->at;
    }
    return rule;
}

static expr_id parse_alternatives(struct gbnf *p);

static expr_id parse_item(struct gbnf *p)
{
    size_t begin = p->at;
    if (take(p, '"')) {
        return parse_literal(p);
    }
    if (take(p, '[')) {
        return parse_class(p);
    }
    if (take(p, '.')) {
        return expr_class(p->b, NULL, 0, true);
    }
    if (take(p, '(')) {
        expr_id e = parse_alternatives(p);
        if (p->b->status == GRAFT_OK && !take(p, ')')) {
            return fail_at(p, begin, "a group is not closed");
        }
        return e;
    }
    size_t length = name_length(p);
    if (length == 0) {
        return fail_at(p, begin,
                       peek(p) == '<'
                           ? "tokens in <> are not supported: write the text of the token"
                           : "here a text, a class, a group or the name of a rule may stand");
    }
    int32_t rule = find_rule(p, length);
    p->at += length;
    return expr_call(p->b, rule, true);
}

/* ---- repetitions ---- */

static bool read_count(struct gbnf *p, int32_t *count)
{
    size_t begin = p->at;
    int64_t n = 0;
    while (peek(p) >= '0' && peek(p) <= '9') {
        n = n * 10 + (p->text[p->at++] - '0');
        if (n > REPEAT_MAX) {
            fail_at(p, begin, "a repetition is too large: 65536 at most");
            return false;
        }
    }
    *count = (int32_t)n;
    return p->at > begin;
}

static expr_id parse_counts(struct gbnf *p, expr_id e)
{
    size_t begin = p->at;
    int32_t min = 0, max = -1;
    skip_blank(p);
    if (!read_count(p, &min)) {
        return fail_at(p, begin, "a repetition is {m}, {m,} or {m,n}");
    }
    skip_blank(p);
    if (!take(p, ',')) {
        max = min;
    } else {
        skip_blank(p);
        if (peek(p) != '}' && !read_count(p, &max)) {
            return fail_at(p, begin, "a repetition is {m}, {m,} or {m,n}");
        }
        skip_blank(p);
    }
    if (!take(p, '}')) {
        return fail_at(p, begin, "a repetition is {m}, {m,} or {m,n}");
    }
    if (max >= 0 && max < min) {
        return fail_at(p, begin, "a repetition has a maximum below its minimum");
    }
    return expr_repeat(p->b, e, min, max);
}

static expr_id parse_repeated(struct gbnf *p)
{
    expr_id e = parse_item(p);
    for (int n = 0; p->b->status == GRAFT_OK; n++) {
        skip_blank(p);
        if (peek(p) >= 0 && strchr("*+?{", peek(p)) != NULL && n == PARSE_DEPTH) {
            return fail_at(p, p->at, "too many repetitions of one item");
        }
        if (take(p, '*')) {
            e = expr_repeat(p->b, e, 0, -1);
        } else if (take(p, '+')) {
            e = expr_repeat(p->b, e, 1, -1);
        } else if (take(p, '?')) {
            e = expr_repeat(p->b, e, 0, 1);
        } else if (take(p, '{')) {
            e = parse_counts(p, e);
        } else {
            break;
        }
    }
    return e;
}

/* ---- rules ---- */

static expr_id parse_sequence(struct gbnf *p)
{
    expr_id list = expr_list(p->b, EXPR_SEQ);
    while (p->b->status == GRAFT_OK) {
        skip_blank(p);
        int c = peek(p);
        if (c < 0 || c == '|' || c == ')' || at_rule(p)) {
            break;
        }
        expr_add(p->b, list, parse_repeated(p));
    }
    return list;
}

static expr_id parse_alternatives(struct gbnf *p)
{
    if (++p->depth > PARSE_DEPTH) {
        return fail_at(p, p->at, "groups are nested too deeply: 64 at most");
    }
    expr_id list = expr_list(p->b, EXPR_ALT);
    do {
        expr_add(p->b, list, parse_sequence(p));
    } while (p->b->status == GRAFT_OK && take(p, '|'));
    p->depth--;
    return list;
}

static void parse_rule(struct gbnf *p)
{
    size_t begin = p->at, length = name_length(p);
    if (!at_rule(p)) {
        fail_at(p, begin, "a rule begins with NAME ::=");
        return;
    }
    int32_t rule = find_rule(p, length);
    if (rule >= 0 && p->b->rules[rule].body >= 0) {
        fail_at(p, begin, "a rule of this name is there already");
        return;
    }
    p->at += length;
    while (peek(p) != '=') {
        p->at++;
    }
    p->at++;
    expr_id body = parse_alternatives(p);
    if (peek(p) == ')') {
        fail_at(p, p->at, "a bracket closes that was not opened");
    }
    rule_define(p->b, rule, body);
}

static void check_defined(struct gbnf *p)
{
    for (size_t i = 0; i < p->b->n_rules && p->b->status == GRAFT_OK; i++) {
        const struct rule *r = &p->b->rules[i];
        if (r->body < 0) {
            int line, column;
            find_place(p, r->at, &line, &column);
            builder_fail(p->b, GRAFT_FORMAT, "line %d, column %d: there is no rule \"%s\"", line,
                         column, r->name);
        }
    }
}

graft_status grammar_from_gbnf(struct mem *mem, const char *text, size_t size, struct grammar **out,
                               graft_error *error)
{
    if (size > TEXT_MAX) {
        return error_set(error, GRAFT_LIMIT, "the grammar is larger than 1 MB");
    }
    struct builder b;
    builder_init(&b, mem, GBNF_NESTING, error);
    struct gbnf p = {.b = &b, .text = text, .size = size};
    str_map_init(&p.names, mem);
    skip_blank(&p);
    while (b.status == GRAFT_OK && p.at < p.size) {
        parse_rule(&p);
        skip_blank(&p);
    }
    check_defined(&p);
    int32_t root = str_map_get(&p.names, "root", 4);
    if (b.status == GRAFT_OK && root < 0) {
        builder_fail(&b, GRAFT_FORMAT, "there is no rule \"root\"");
    }
    graft_status status = b.status == GRAFT_OK ? grammar_compile(&b, root, out) : b.status;
    str_map_free(&p.names);
    builder_free(&b);
    return status;
}
