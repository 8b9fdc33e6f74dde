/* lexer.c: source text to tokens, one at a time.
 *
 * Owns whitespace control (trim_blocks, lstrip_blocks, '-' and '+' at the tags), comments, raw blocks,
 * literals and the balance of brackets (inside one, "}}" closes dicts, not the tag). Does not know the
 * grammar. Tokens are made on demand: hostile input fails in the parser before it is read to the end.
 * Every byte is looked at a bounded number of times.
 */
#include "model/template/ast_internal.h"

static bool at(const struct lexer *l, size_t pos, const char *text)
{
    size_t n = strlen(text);
    return pos <= l->size && l->size - pos >= n && memcmp(l->source + pos, text, n) == 0;
}

/* Length of the whitespace character at pos, 0 when there is none. */
static size_t space_at(const struct lexer *l, size_t pos)
{
    if (pos >= l->size)
        return 0;
    uint32_t c;
    int n = str_decode(l->source + pos, l->size - pos, &c);
    return uni_space(c) ? (size_t)n : 0;
}

static size_t skip_spaces(const struct lexer *l, size_t pos)
{
    for (size_t n; (n = space_at(l, pos)) > 0;)
        pos += n;
    return pos;
}

/* Moves to `pos`, counting lines. */
static void move_to(struct lexer *l, size_t pos)
{
    for (const char *p = l->source + l->pos, *end = l->source + pos;
         p < end && (p = memchr(p, '\n', (size_t)(end - p))) != NULL; p++)
        l->line++;
    l->pos = pos;
}

/* Start of the run of whitespace that ends at `end`, not before `begin`. */
static size_t spaces_before(const struct lexer *l, size_t begin, size_t end)
{
    while (end > begin) {
        size_t start = end - 1;
        while (start > begin && ((unsigned char)l->source[start] & 0xC0) == 0x80)
            start--;
        if (space_at(l, start) != end - start)
            break;
        end = start;
    }
    return end;
}

/* Where text [begin, end) ends once the tag behind it has had its way with the whitespace. */
static size_t strip_text(const struct lexer *l, size_t begin, size_t end, char sign, bool variable)
{
    if (sign == '-')
        return spaces_before(l, begin, end);
    if (sign == '+' || variable)
        return end;
    size_t start = spaces_before(l, begin, end);
    /* Only blanks between the last line break and the tag: they go. The break may lie anywhere in the
     * run of whitespace, so look for the last one. */
    size_t line = end;
    while (line > start && l->source[line - 1] != '\n')
        line--;
    if (line > start)
        return line;
    if (start == begin && (begin == 0 || l->source[begin - 1] == '\n'))
        return begin;
    return end;
}

static bool emit_text(struct lexer *l, size_t begin, size_t end, int line, struct token *out)
{
    *out = (struct token){
        .kind = T_DATA, .line = line, .text = l->source + begin, .size = end - begin};
    return true;
}

/* Where the end of a block tag at pos ends; 0 when there is none. */
static size_t block_end(const struct lexer *l, size_t pos)
{
    if (at(l, pos, "-%}"))
        return skip_spaces(l, pos + 3);
    if (at(l, pos, "+%}"))
        return pos + 3;
    if (at(l, pos, "%}"))
        return pos + 2 + (at(l, pos + 2, "\n") ? 1 : 0);
    return 0;
}

/* The end of a "{% raw" or "{% endraw" tag whose "{%" stands at pos; 0 when it is another tag. */
static size_t raw_tag(const struct lexer *l, size_t pos, const char *word, bool closing, char *sign)
{
    size_t p = pos + 2;
    *sign = p < l->size && (l->source[p] == '-' || l->source[p] == '+') ? l->source[p] : 0;
    p = skip_spaces(l, p + (*sign != 0));
    if (!at(l, p, word))
        return 0;
    p = skip_spaces(l, p + strlen(word));
    if (closing)
        return block_end(l, p);
    if (at(l, p, "-%}"))
        return skip_spaces(l, p + 3);
    return at(l, p, "%}") ? p + 2 : 0;
}

static bool skip_comment(struct parser *p, size_t open, char sign)
{
    struct lexer *l = &p->lexer;
    size_t begin = open + 2 + (sign != 0);
    const char *end = bytes_find(l->source + begin, l->size - begin, "#}", 2);
    if (end == NULL)
        return parse_fail(p, l->line, "missing end of comment tag");
    size_t close = (size_t)(end - l->source), after = close + 2;
    char mark = close > begin ? l->source[close - 1] : 0;
    if (mark == '-')
        after = skip_spaces(l, after);
    else if (mark != '+' && at(l, after, "\n"))
        after++;
    move_to(l, after);
    return true;
}

/* Inside a raw block: everything up to its end is text. */
static bool lex_raw(struct parser *p, struct token *out)
{
    struct lexer *l = &p->lexer;
    size_t begin = l->pos, pos = begin;
    int line = l->line;
    for (;;) {
        const char *open = bytes_find(l->source + pos, l->size - pos, "{%", 2);
        if (open == NULL)
            return parse_fail(p, line, "missing end of raw block");
        pos = (size_t)(open - l->source);
        char sign;
        size_t after = raw_tag(l, pos, "endraw", true, &sign);
        if (after > 0) {
            size_t end = strip_text(l, begin, pos, sign, false);
            move_to(l, after);
            l->state = LEX_DATA;
            return emit_text(l, begin, end, line, out);
        }
        pos += 2;
    }
}

/* Finds the next tag at or after the position: its offset, or the size of the source. */
static size_t find_tag(const struct lexer *l)
{
    size_t pos = l->pos;
    while (pos < l->size) {
        const char *brace = memchr(l->source + pos, '{', l->size - pos);
        if (brace == NULL)
            return l->size;
        pos = (size_t)(brace - l->source);
        if (pos + 1 < l->size && strchr("{%#", l->source[pos + 1]) != NULL &&
            l->source[pos + 1] != 0)
            return pos;
        pos++;
    }
    return l->size;
}

/* Text up to the next tag; comments vanish, the begin of a tag is left pending. */
static bool lex_data(struct parser *p, struct token *out)
{
    struct lexer *l = &p->lexer;
    size_t begin = l->pos, open = find_tag(l);
    int line = l->line;
    if (begin == l->size) {
        *out = (struct token){.kind = T_EOF, .line = line};
        return true;
    }
    move_to(l, open);
    if (open == l->size)
        return emit_text(l, begin, open, line, out);
    char kind = l->source[open + 1], sign = 0, raw_sign = 0;
    if (open + 2 < l->size && (l->source[open + 2] == '-' || l->source[open + 2] == '+'))
        sign = l->source[open + 2];
    size_t end = strip_text(l, begin, open, sign, kind == '{');
    size_t raw = kind == '%' ? raw_tag(l, open, "raw", false, &raw_sign) : 0;
    if (raw > 0) {
        move_to(l, raw);
        l->state = LEX_RAW;
    } else if (kind == '#') {
        if (!skip_comment(p, open, sign))
            return false;
    } else {
        l->pending =
            (struct token){.kind = kind == '{' ? T_VAR_BEGIN : T_BLOCK_BEGIN, .line = l->line};
        l->has_pending = true;
        l->state = kind == '{' ? LEX_VARIABLE : LEX_BLOCK;
        move_to(l, open + 2 + (sign != 0));
    }
    return emit_text(l, begin, end, line, out);
}

/* ---- literals ----------------------------------------------------------------------------- */

static bool is_digit(int c, int base)
{
    if (base == 16)
        return (c >= '0' && c <= '9') || ((c | 32) >= 'a' && (c | 32) <= 'f');
    return c >= '0' && c < '0' + base;
}

/* Digits with single underscores between them, from pos: where they end (pos itself: none). */
static size_t skip_digits(const struct lexer *l, size_t pos, int base)
{
    size_t end = pos;
    for (size_t i = pos; i < l->size; i++) {
        if (is_digit(l->source[i], base))
            end = i + 1;
        else if (l->source[i] != '_' || end != i || i == pos)
            break;
    }
    return end;
}

/* The end of a float literal at pos; 0 when there is none. */
static size_t float_end(const struct lexer *l, size_t pos)
{
    size_t end = skip_digits(l, pos, 10);
    if (end == pos || (pos > 0 && l->source[pos - 1] == '.'))
        return 0;
    bool fraction = false;
    if (end < l->size && l->source[end] == '.') {
        size_t more = skip_digits(l, end + 1, 10);
        if (more == end + 1)
            return 0;
        end = more;
        fraction = true;
    }
    if (end < l->size && (l->source[end] | 32) == 'e') {
        size_t digits = end + 1;
        if (digits < l->size && (l->source[digits] == '+' || l->source[digits] == '-'))
            digits++;
        size_t more = skip_digits(l, digits, 10);
        if (more > digits)
            return more;
    }
    return fraction ? end : 0;
}

static bool lex_float(struct parser *p, size_t end, struct token *out)
{
    struct lexer *l = &p->lexer;
    char *text = parse_alloc(p, end - l->pos + 1);
    size_t n = 0;
    if (text == NULL)
        return false;
    for (size_t i = l->pos; i < end; i++)
        if (l->source[i] != '_')
            text[n++] = l->source[i];
    out->kind = T_FLOAT;
    l->pos = end;
    if (!parse_double(text, n, &out->real))
        return parse_fail(p, out->line, "malformed number");
    return true;
}

static bool lex_integer(struct parser *p, struct token *out)
{
    struct lexer *l = &p->lexer;
    size_t begin = l->pos, end;
    int base = 10;
    if (l->source[begin] == '0') {
        int mark = begin + 1 < l->size ? l->source[begin + 1] | 32 : 0;
        int marked = mark == 'x' ? 16 : mark == 'o' ? 8 : mark == 'b' ? 2 : 0;
        size_t digits = begin + 2;
        if (marked != 0 && digits < l->size && l->source[digits] == '_')
            digits++;
        if (marked != 0 && skip_digits(l, digits, marked) > digits) {
            base = marked;
            begin = digits;
        }
    }
    end = skip_digits(l, begin, base);
    if (base == 10 && l->source[begin] == '0') { /* zeros only: 07 is the token 0, then 7 */
        for (end = begin + 1; end < l->size; end++)
            if (l->source[end] != '0' &&
                !(l->source[end] == '_' && end + 1 < l->size && l->source[end + 1] == '0'))
                break;
    }
    out->kind = T_INT;
    for (size_t i = begin; i < end; i++) {
        int c = l->source[i];
        if (c == '_')
            continue;
        int digit = c <= '9' ? c - '0' : (c | 32) - 'a' + 10;
        if (__builtin_mul_overflow(out->integer, (int64_t)base, &out->integer) ||
            __builtin_add_overflow(out->integer, (int64_t)digit, &out->integer))
            return parse_fail(p, out->line, "integer does not fit 64 bits");
    }
    l->pos = end;
    return true;
}

static int simple_escape(int c)
{
    switch (c) {
    case 'n':
        return '\n';
    case 't':
        return '\t';
    case 'r':
        return '\r';
    case 'a':
        return '\a';
    case 'b':
        return '\b';
    case 'f':
        return '\f';
    case 'v':
        return '\v';
    case '\\':
    case '\'':
    case '"':
        return c;
    default:
        return -1;
    }
}

/* Numbered escapes: \ooo, \xhh, \uhhhh, \Uhhhhhhhh. text[i] is the character after the backslash.
 * Returns the characters used, 0 when it is no such escape, -1 after an error. */
static int numbered_escape(struct parser *p, int line, const char *text, size_t left,
                           uint32_t *code)
{
    int base = 16, most = 0, used = 1;
    if (is_digit(text[0], 8)) {
        base = 8;
        most = 3;
        used = 0;
    } else if (text[0] == 'x') {
        most = 2;
    } else if (text[0] == 'u') {
        most = 4;
    } else if (text[0] == 'U') {
        most = 8;
    } else {
        return 0;
    }
    int first = used;
    *code = 0;
    while (used - first < most && (size_t)used < left && is_digit(text[used], base)) {
        int c = text[used++];
        *code = *code * (uint32_t)base + (uint32_t)(c <= '9' ? c - '0' : (c | 32) - 'a' + 10);
    }
    if (base == 16 && used - first < most) {
        parse_fail(p, line, "truncated \\%c escape in a string", text[0]);
        return -1;
    }
    char bytes[4];
    if (utf8_encode(*code, bytes) == 0) {
        parse_fail(p, line, "\\%c escape is no Unicode character", text[0]);
        return -1;
    }
    return used;
}

/* One escape; text points behind the backslash. Appends to data, returns characters used or -1. */
static int decode_escape(struct parser *p, int line, const char *text, size_t left, char *data,
                         size_t *size)
{
    uint32_t code;
    int simple = simple_escape(text[0]);
    if (simple >= 0) {
        data[(*size)++] = (char)simple;
        return 1;
    }
    if (text[0] == '\n') /* a continued line */
        return 1;
    if (text[0] == 'N') {
        parse_fail(p, line, "\\N escapes are not supported");
        return -1;
    }
    int used = numbered_escape(p, line, text, left, &code);
    if (used > 0)
        *size += (size_t)utf8_encode(code, data + *size);
    if (used != 0)
        return used;
    data[(*size)++] = '\\';
    if ((unsigned char)text[0] < 0x80) {
        data[(*size)++] = text[0];
        return 1;
    }
    /* Jinja2 writes non-ASCII as escapes before it decodes them, so that a backslash in front of
     * such a character leaves the escape behind. */
    used = str_decode(text, left, &code);
    char escape[12];
    int n = snprintf(escape, sizeof escape,
                     code < 0x100     ? "x%02x"
                     : code < 0x10000 ? "u%04x"
                                      : "U%08x",
                     (unsigned)code);
    memcpy(data + *size, escape, (size_t)n);
    *size += (size_t)n;
    return used;
}

static bool lex_string(struct parser *p, struct token *out)
{
    struct lexer *l = &p->lexer;
    char quote = l->source[l->pos];
    size_t begin = l->pos + 1, end = begin;
    bool escapes = false;
    while (end < l->size && l->source[end] != quote) {
        if (l->source[end] == '\\') {
            escapes = true;
            end++;
        }
        end++;
    }
    if (end >= l->size)
        return parse_fail(p, out->line, "string without an end");
    out->kind = T_STRING;
    out->text = l->source + begin;
    out->size = end - begin;
    if (escapes) { /* an escape never needs more than thrice the bytes it took */
        char *data = parse_alloc(p, 3 * (end - begin) + 1);
        size_t size = 0;
        if (data == NULL)
            return false;
        for (size_t i = begin; i < end;) {
            if (l->source[i] != '\\') {
                data[size++] = l->source[i++];
                continue;
            }
            int used = decode_escape(p, out->line, l->source + i + 1, end - i - 1, data, &size);
            if (used < 0)
                return false;
            i += 1 + (size_t)used;
        }
        out->text = data;
        out->size = size;
    }
    move_to(l, end + 1);
    return true;
}

/* ---- inside tags -------------------------------------------------------------------------- */

static bool name_start(uint32_t c)
{
    return c == '_' || uni_alpha(c);
}

static size_t name_end(const struct lexer *l, size_t pos)
{
    uint32_t c;
    while (pos < l->size) {
        int n = str_decode(l->source + pos, l->size - pos, &c);
        if (!uni_word(c))
            break;
        pos += (size_t)n;
    }
    return pos;
}

static const struct {
    char text[3];
    enum token_kind kind;
} operators[] = {{"//", T_FLOORDIV}, {"**", T_POW},     {"==", T_EQ},    {"!=", T_NE},
                 {">=", T_GE},       {"<=", T_LE},      {"+", T_ADD},    {"-", T_SUB},
                 {"*", T_MUL},       {"/", T_DIV},      {"%", T_MOD},    {"~", T_TILDE},
                 {"[", T_LBRACKET},  {"]", T_RBRACKET}, {"(", T_LPAREN}, {")", T_RPAREN},
                 {"{", T_LBRACE},    {"}", T_RBRACE},   {">", T_GT},     {"<", T_LT},
                 {"=", T_ASSIGN},    {".", T_DOT},      {":", T_COLON},  {"|", T_PIPE},
                 {",", T_COMMA},     {";", T_SEMICOLON}};

static bool balance(struct parser *p, char c, int line)
{
    struct lexer *l = &p->lexer;
    char closing = c == '(' ? ')' : c == '[' ? ']' : c == '{' ? '}' : 0;
    if (closing != 0) {
        if (l->n_open == PARSE_DEPTH)
            return parse_too_deep(p, line);
        l->open[l->n_open++] = closing;
    } else if (c == ')' || c == ']' || c == '}') {
        if (l->n_open == 0)
            return parse_fail(p, line, "unexpected '%c'", c);
        char expected = l->open[--l->n_open];
        if (expected != c)
            return parse_fail(p, line, "unexpected '%c', expected '%c'", c, expected);
    }
    return true;
}

static bool lex_operator(struct parser *p, struct token *out)
{
    struct lexer *l = &p->lexer;
    for (size_t i = 0; i < ARRAY_LEN(operators); i++) {
        if (!at(l, l->pos, operators[i].text))
            continue;
        out->kind = operators[i].kind;
        if (!balance(p, operators[i].text[0], out->line))
            return false;
        l->pos += strlen(operators[i].text);
        return true;
    }
    unsigned char c = (unsigned char)l->source[l->pos];
    if (c < 0x20 || c >= 0x7f)
        return parse_fail(p, out->line, "unexpected character (byte 0x%02x)", c);
    return parse_fail(p, out->line, "unexpected character '%c'", c);
}

/* The end of the tag, if it stands here. */
static bool lex_tag_end(struct lexer *l, struct token *out)
{
    if (l->n_open > 0)
        return false;
    size_t end = 0;
    if (l->state == LEX_BLOCK)
        end = block_end(l, l->pos);
    else if (at(l, l->pos, "-}}"))
        end = skip_spaces(l, l->pos + 3);
    else if (at(l, l->pos, "}}"))
        end = l->pos + 2;
    if (end == 0)
        return false;
    out->kind = l->state == LEX_BLOCK ? T_BLOCK_END : T_VAR_END;
    move_to(l, end);
    l->state = LEX_DATA;
    return true;
}

static bool lex_tag(struct parser *p, struct token *out)
{
    struct lexer *l = &p->lexer;
    for (size_t n; !lex_tag_end(l, (out->line = l->line, out)); move_to(l, l->pos + n)) {
        n = space_at(l, l->pos);
        if (n > 0)
            continue;
        if (l->pos == l->size) {
            out->kind = T_EOF;
            return true;
        }
        char c = l->source[l->pos];
        size_t end = float_end(l, l->pos);
        if (end > 0)
            return lex_float(p, end, out);
        if (is_digit(c, 10))
            return lex_integer(p, out);
        if (c == '\'' || c == '"')
            return lex_string(p, out);
        uint32_t code;
        str_decode(l->source + l->pos, l->size - l->pos, &code);
        if (!name_start(code))
            return lex_operator(p, out);
        end = name_end(l, l->pos);
        out->kind = T_NAME;
        out->text = l->source + l->pos;
        out->size = end - l->pos;
        l->pos = end;
        return true;
    }
    return true;
}

bool lexer_next(struct parser *p, struct token *out)
{
    struct lexer *l = &p->lexer;
    *out = (struct token){.line = l->line};
    if (l->has_pending) {
        *out = l->pending;
        l->has_pending = false;
        return true;
    }
    switch (l->state) {
    case LEX_DATA:
        return lex_data(p, out);
    case LEX_RAW:
        return lex_raw(p, out);
    case LEX_BLOCK:
    case LEX_VARIABLE:
        break;
    }
    return lex_tag(p, out);
}
