/* gbnf.c: GBNF text to a grammar.
 *
 * The notation that llama.cpp reads: NAME ::= alternatives, "texts" and [classes] of characters with the same escapes, `.`, groups,
 * * + ? {m} {m,} {m,n}, # comments. Texts are UTF-8 and classes are of code points. Two liberties: a rule goes on over
 * lines until the next NAME ::=, and names may have underscores. Pure and bounded; errors have line and column.
 */
#include "constraint_internal.h"

struct gbnf {
    struct builder *b;
    struct scan in;
    int depth;
    struct str_map names; /* rule by name; keys are names of the builder */
};

/* ---- places and characters ---- */

static void find_place(const struct gbnf *p, size_t at, int *line, int *column)
{
    *line = *column = 1;
    for (size_t i = 0; i < at && i < p->in.size; i++) {
        if (p->in.text[i] == '\n') {
            ++*line;
            *column = 1;
        } else if (((uint8_t)p->in.text[i] & 0xC0) != 0x80) {
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

static void skip_blank(struct gbnf *p)
{
    for (;; p->in.at++) {
        int c = scan_peek(&p->in);
        if (c == '#') {
            while (p->in.at < p->in.size && p->in.text[p->in.at] != '\n') {
                p->in.at++;
            }
            c = scan_peek(&p->in);
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
    while (p->in.at + n < p->in.size && is_name_char((uint8_t)p->in.text[p->in.at + n])) {
        n++;
    }
    return n;
}

/* Whether NAME ::= stands here. */
static bool at_rule(const struct gbnf *p)
{
    struct gbnf look = *p;
    look.in.at += name_length(p);
    while (scan_peek(&look.in) == ' ' || scan_peek(&look.in) == '\t') {
        look.in.at++;
    }
    return look.in.at > p->in.at && look.in.at + 3 <= p->in.size &&
           memcmp(p->in.text + look.in.at, "::=", 3) == 0;
}

static bool read_hex(struct gbnf *p, int digits, uint32_t *code)
{
    size_t begin = p->in.at;
    if (!scan_hex(&p->in, digits, code)) {
        fail_at(p, begin, "an escape has too few hexadecimal digits");
        return false;
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
    int c = scan_peek(&p->in);
    const char *found = c > 0 ? strchr(letters, c) : NULL;
    size_t begin = p->in.at++;
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
    if (scan_take(&p->in, '\\')) {
        return read_escape(p, code);
    }
    int n = utf8_decode(p->in.text + p->in.at, p->in.size - p->in.at, code);
    if (n == 0) {
        fail_at(p, p->in.at, p->in.at < p->in.size ? "no UTF-8" : "the text ends here");
        return false;
    }
    p->in.at += (size_t)n;
    return true;
}

/* ---- items ---- */

static expr_id parse_literal(struct gbnf *p)
{
    size_t begin = p->in.at - 1;
    struct buf bytes;
    buf_init(&bytes, p->b->mem, TEXT_MAX);
    while (p->b->status == GRAFT_OK && !scan_take(&p->in, '"')) {
        uint32_t code;
        char utf8[4];
        if (p->in.at >= p->in.size || scan_peek(&p->in) == '\n') {
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
    size_t begin = p->in.at - 1, n = 0, room = 0;
    struct range *ranges = NULL;
    bool negated = scan_take(&p->in, '^');
    while (p->b->status == GRAFT_OK && !scan_take(&p->in, ']')) {
        struct range r = {0, 0};
        size_t at = p->in.at;
        if (p->in.at >= p->in.size) {
            fail_at(p, begin, "a class in brackets does not end");
            break;
        }
        if (!read_char(p, &r.lo)) {
            break;
        }
        r.hi = r.lo;
        if (scan_peek(&p->in) == '-' && p->in.at + 1 < p->in.size &&
            p->in.text[p->in.at + 1] != ']') {
            p->in.at++;
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
    int32_t rule = str_map_get(&p->names, p->in.text + p->in.at, length);
    if (rule >= 0) {
        return rule;
    }
    rule = rule_add(p->b, p->in.text + p->in.at, length);
    if (rule >= 0 && !str_map_put(&p->names, p->b->rules[rule].name, length, rule, NULL)) {
        return builder_fail(p->b, GRAFT_NO_MEMORY, "no memory for a grammar");
    }
    if (rule >= 0) {
        p->b->rules[rule].at = p->in.at;
    }
    return rule;
}

static expr_id parse_alternatives(struct gbnf *p);

static expr_id parse_item(struct gbnf *p)
{
    size_t begin = p->in.at;
    if (scan_take(&p->in, '"')) {
        return parse_literal(p);
    }
    if (scan_take(&p->in, '[')) {
        return parse_class(p);
    }
    if (scan_take(&p->in, '.')) {
        return expr_class(p->b, NULL, 0, true);
    }
    if (scan_take(&p->in, '(')) {
        expr_id e = parse_alternatives(p);
        if (p->b->status == GRAFT_OK && !scan_take(&p->in, ')')) {
            return fail_at(p, begin, "a group is not closed");
        }
        return e;
    }
    size_t length = name_length(p);
    if (length == 0) {
        return fail_at(p, begin,
                       scan_peek(&p->in) == '<'
                           ? "tokens in <> are not supported: write the text of the token"
                           : "here a text, a class, a group or the name of a rule may stand");
    }
    int32_t rule = find_rule(p, length);
    p->in.at += length;
    return expr_call(p->b, rule, true);
}

/* ---- repetitions ---- */

static bool read_count(struct gbnf *p, int32_t *count)
{
    size_t begin = p->in.at;
    int64_t n = 0;
    while (scan_peek(&p->in) >= '0' && scan_peek(&p->in) <= '9') {
        n = n * 10 + (p->in.text[p->in.at++] - '0');
        if (n > REPEAT_MAX) {
            fail_at(p, begin, "a repetition is too large: 65536 at most");
            return false;
        }
    }
    *count = (int32_t)n;
    return p->in.at > begin;
}

static expr_id parse_counts(struct gbnf *p, expr_id e)
{
    size_t begin = p->in.at;
    int32_t min = 0, max = -1;
    skip_blank(p);
    if (!read_count(p, &min)) {
        return fail_at(p, begin, "a repetition is {m}, {m,} or {m,n}");
    }
    skip_blank(p);
    if (!scan_take(&p->in, ',')) {
        max = min;
    } else {
        skip_blank(p);
        if (scan_peek(&p->in) != '}' && !read_count(p, &max)) {
            return fail_at(p, begin, "a repetition is {m}, {m,} or {m,n}");
        }
        skip_blank(p);
    }
    if (!scan_take(&p->in, '}')) {
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
        if (scan_peek(&p->in) >= 0 && strchr("*+?{", scan_peek(&p->in)) != NULL &&
            n == PARSE_DEPTH) {
            return fail_at(p, p->in.at, "too many repetitions of one item");
        }
        if (scan_take(&p->in, '*')) {
            e = expr_repeat(p->b, e, 0, -1);
        } else if (scan_take(&p->in, '+')) {
            e = expr_repeat(p->b, e, 1, -1);
        } else if (scan_take(&p->in, '?')) {
            e = expr_repeat(p->b, e, 0, 1);
        } else if (scan_take(&p->in, '{')) {
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
        int c = scan_peek(&p->in);
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
        return fail_at(p, p->in.at, "groups are nested too deeply: 64 at most");
    }
    expr_id list = expr_list(p->b, EXPR_ALT);
    do {
        expr_add(p->b, list, parse_sequence(p));
    } while (p->b->status == GRAFT_OK && scan_take(&p->in, '|'));
    p->depth--;
    return list;
}

static void parse_rule(struct gbnf *p)
{
    size_t begin = p->in.at, length = name_length(p);
    if (!at_rule(p)) {
        fail_at(p, begin, "a rule begins with NAME ::=");
        return;
    }
    int32_t rule = find_rule(p, length);
    if (rule >= 0 && p->b->rules[rule].body >= 0) {
        fail_at(p, begin, "a rule of this name is there already");
        return;
    }
    p->in.at += length;
    while (scan_peek(&p->in) != '=') {
        p->in.at++;
    }
    p->in.at++;
    expr_id body = parse_alternatives(p);
    if (scan_peek(&p->in) == ')') {
        fail_at(p, p->in.at, "a bracket closes that was not opened");
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
    struct gbnf p = {.b = &b, .in = {text, size, 0}};
    str_map_init(&p.names, mem);
    skip_blank(&p);
    while (b.status == GRAFT_OK && p.in.at < p.in.size) {
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
