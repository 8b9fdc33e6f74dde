/* regex_translate.c: Oniguruma's regular expressions in PCRE2's syntax.
 *
 * tokenizer.json is written for Oniguruma (Ruby syntax). Most of it means the same in PCRE2; what
 * does not is rewritten, and what cannot be is refused by name, since a pattern that silently means
 * something else gives wrong ids. Only constructs on the list pass: no back-references, recursion,
 * callouts, verbs or conditions. The differences:
 *   \s, \w, \h and their opposites   other sets of characters there: written out
 *   [a&&b], [a&&[^b]]                class intersection: a lookahead
 *   x{n,m}+                          a repeated repeat here, possessive there: a group
 *   (?m)                             "dot matches newline" here: (?s) there
 */
#include "tokenizer_internal.h"

enum { MAX_GROUPS = 64, MAX_OUTPUT = 256 << 10 };

/* Unicode's White_Space, and all other characters. PCRE2 counts U+180E as space, Unicode does not. */
#define SPACES                                                                                     \
    "\\x{09}-\\x{0D}\\x{20}\\x{85}\\x{A0}\\x{1680}\\x{2000}-\\x{200A}\\x{2028}\\x{2029}\\x{202F}"  \
    "\\x{205F}\\x{3000}"
#define NOT_SPACES                                                                                 \
    "\\x{00}-\\x{08}\\x{0E}-\\x{1F}\\x{21}-\\x{84}\\x{86}-\\x{9F}\\x{A1}-\\x{167F}\\x{1681}-"      \
    "\\x{1FFF}\\x{200B}-\\x{2027}\\x{202A}-\\x{202E}\\x{2030}-\\x{205E}\\x{2060}-\\x{2FFF}\\x{"    \
    "3001}-"                                                                                       \
    "\\x{10FFFF}"
/* Alphabetic, Mark, Decimal_Number, Connector_Punctuation; and Latin-1's other numbers, which count
 * as word characters for Oniguruma. */
#define WORD                                                                                       \
    "\\p{L}\\p{M}\\p{Nd}\\p{Nl}\\p{Pc}\\xB2\\xB3\\xB9\\xBC-\\xBE\\x{24B6}-\\x{24E9}\\x{1F130}-"    \
    "\\x{1F149}\\x{1F150}-\\x{"                                                                    \
    "1F169}"                                                                                       \
    "\\x{1F170}-\\x{1F189}"

struct translation {
    const char *p, *end;
    struct buf *out;
    size_t atom; /* where the newest atom begins in out */
    bool has_atom;
    size_t groups[MAX_GROUPS];
    int depth;
    graft_error *error;
};

static graft_status refuse(struct translation *t, const char *what)
{
    return error_set(t->error, GRAFT_UNSUPPORTED,
                     "the tokenizer's regular expression uses %s, which graft does not support",
                     what);
}

static bool starts(const struct translation *t, const char *prefix)
{
    size_t n = strlen(prefix);
    return (size_t)(t->end - t->p) >= n && memcmp(t->p, prefix, n) == 0;
}

static bool is_alnum(char c)
{
    return (c >= '0' && c <= '9') || (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z');
}

static bool is_hex(char c)
{
    return (c >= '0' && c <= '9') || (c >= 'a' && c <= 'f') || (c >= 'A' && c <= 'F');
}

/* \p{Name}, \P{Name}, \p{^Name}; p is past the letter. */
static graft_status translate_property(struct translation *t, char letter)
{
    const char *close =
        t->p < t->end && *t->p == '{' ? memchr(t->p, '}', (size_t)(t->end - t->p)) : NULL;
    if (!close)
        return refuse(t, "\\p without braces");
    for (const char *c = t->p + 1; c < close; c++) {
        if (!is_alnum(*c) && *c != '_' && !(*c == '^' && c == t->p + 1))
            return refuse(t, "an odd property name");
    }
    buf_putc(t->out, '\\');
    buf_putc(t->out, letter);
    buf_append(t->out, t->p, (size_t)(close + 1 - t->p));
    t->p = close + 1;
    return GRAFT_OK;
}

/* \xHH, \x{H…}, \uHHHH; p is past the letter. */
static graft_status translate_code(struct translation *t, char letter)
{
    const char *digits = t->p;
    size_t n = 0, skip = 0;
    if (letter == 'x' && t->p < t->end && *t->p == '{') {
        digits++;
        while (digits + n < t->end && is_hex(digits[n]))
            n++;
        if (n == 0 || n > 6 || digits + n >= t->end || digits[n] != '}')
            return refuse(t, "a malformed \\x{…}");
        skip = n + 2;
    } else {
        size_t most = letter == 'x' ? 2 : 4;
        while (n < most && digits + n < t->end && is_hex(digits[n]))
            n++;
        if (n == 0 || (letter == 'u' && n != 4))
            return refuse(t, "a malformed \\x or \\u");
        skip = n;
    }
    buf_puts(t->out, "\\x{");
    buf_append(t->out, digits, n);
    buf_putc(t->out, '}');
    t->p += skip;
    return GRAFT_OK;
}

struct rewrite {
    char letter;
    bool is_class;       /* stands for several characters */
    const char *inside;  /* in [...]; NULL: refused there */
    const char *outside; /* NULL: refused there */
};
static const struct rewrite rewrites[] = {
    {'s', true, SPACES, "[" SPACES "]"},
    {'S', true, NOT_SPACES, "[^" SPACES "]"},
    {'w', true, WORD, "[" WORD "]"},
    {'W', true, NULL, "[^" WORD "]"},
    {'d', true, "\\p{Nd}", "\\p{Nd}"},
    {'D', true, "\\P{Nd}", "\\P{Nd}"},
    {'h', true, "0-9a-fA-F", "[0-9a-fA-F]"},
    {'H', true, NULL, "[^0-9a-fA-F]"},
    {'n', false, "\\n", "\\n"},
    {'r', false, "\\r", "\\r"},
    {'t', false, "\\t", "\\t"},
    {'f', false, "\\f", "\\f"},
    {'a', false, "\\a", "\\a"},
    {'e', false, "\\e", "\\e"},
    {'v', false, "\\x{0B}", "\\x{0B}"},
    {'A', false, NULL, "\\A"},
    {'z', false, NULL, "\\z"},
    {'Z', false, NULL, "\\Z"},
    {'b', false, "\\x{08}", "(?:(?<=[" WORD "])(?![" WORD "])|(?<![" WORD "])(?=[" WORD "]))"},
    {'B', false, NULL, "(?:(?<=[" WORD "])(?=[" WORD "])|(?<![" WORD "])(?![" WORD "]))"},
};

/* p is past the backslash. *is_class (may be NULL): it stands for a set. */
static graft_status translate_escape(struct translation *t, bool inside, bool *is_class)
{
    if (t->p == t->end)
        return refuse(t, "a backslash at its end");
    char c = *t->p++;
    if (is_class)
        *is_class = c == 'p' || c == 'P';
    if (c == 'p' || c == 'P')
        return translate_property(t, c);
    if (c == 'x' || c == 'u')
        return translate_code(t, c);
    for (size_t i = 0; i < ARRAY_LEN(rewrites); i++) {
        if (rewrites[i].letter != c)
            continue;
        const char *text = inside ? rewrites[i].inside : rewrites[i].outside;
        if (!text)
            break;
        buf_puts(t->out, text);
        if (is_class)
            *is_class = rewrites[i].is_class;
        return GRAFT_OK;
    }
    if (is_alnum(c)) {
        char what[] = "the escape \\?";
        what[sizeof what - 2] = c;
        return refuse(t, what);
    }
    buf_putc(t->out, '\\');
    buf_putc(t->out, c);
    return GRAFT_OK;
}

/* The items of a class up to ']' or '&&', which are left unread. */
static graft_status translate_items(struct translation *t)
{
    bool after_set = false, first = true;
    for (; t->p < t->end; first = false) {
        if (*t->p == ']' || starts(t, "&&")) {
            if (first)
                return refuse(t, "an empty character class");
            return GRAFT_OK;
        }
        if (*t->p == '[')
            return refuse(t, "a class within a class");
        if (*t->p == '\\') {
            t->p++;
            graft_status status = translate_escape(t, true, &after_set);
            if (status)
                return status;
            continue;
        }
        /* A set is no end of a range: [\s-x] has a plain minus. */
        if (*t->p == '-' && after_set)
            buf_putc(t->out, '\\');
        after_set = false;
        buf_putc(t->out, *t->p++);
    }
    return refuse(t, "a character class without its end");
}

/* One operand of &&: bare items, or a class in brackets. Written as a lookahead. */
static graft_status translate_operand(struct translation *t)
{
    bool bracketed = t->p < t->end && *t->p == '[';
    buf_puts(t->out, "(?=[");
    if (bracketed) {
        t->p++;
        if (t->p < t->end && *t->p == '^')
            buf_putc(t->out, *t->p++);
    }
    graft_status status = translate_items(t);
    if (status)
        return status;
    if (bracketed) {
        if (*t->p != ']')
            return refuse(t, "&& within a class within a class");
        t->p++;
    }
    buf_puts(t->out, "])");
    return GRAFT_OK;
}

/* p is past '['. [A&&B] is (?:(?=[A])(?=[B])(?s:.)). */
static graft_status translate_class(struct translation *t)
{
    bool negated = t->p < t->end && *t->p == '^';
    if (negated)
        t->p++;
    const char *items = t->p;
    size_t begin = t->out->size;
    buf_puts(t->out, negated ? "[^" : "[");
    graft_status status = translate_items(t);
    if (status)
        return status;
    if (*t->p == ']') {
        t->p++;
        buf_putc(t->out, ']');
        return GRAFT_OK;
    }
    /* An intersection: once more, each operand as a lookahead, then the character itself. */
    t->p = items;
    t->out->size = begin;
    buf_puts(t->out, negated ? "(?:(?!" : "(?:");
    for (;;) {
        status = translate_operand(t);
        if (status)
            return status;
        if (!starts(t, "&&"))
            break;
        t->p += 2;
    }
    if (t->p >= t->end || *t->p != ']')
        return refuse(t, "an intersection of classes that graft cannot read");
    t->p++;
    buf_puts(t->out, negated ? ")(?s:.))" : "(?s:.))");
    return GRAFT_OK;
}

/* p is past "(?" at the option letters: i, m (dot matches newline), x is refused. */
static graft_status translate_options(struct translation *t)
{
    buf_puts(t->out, "(?");
    for (; t->p < t->end; t->p++) {
        switch (*t->p) {
        case 'i':
        case '-':
            buf_putc(t->out, *t->p);
            break;
        case 'm':
            buf_putc(t->out, 's');
            break;
        case ':':
        case ')':
            return GRAFT_OK;
        default:
            return refuse(t, "an unknown group (?…)");
        }
    }
    return refuse(t, "an unfinished group");
}

/* p is past '('. */
static graft_status translate_group(struct translation *t)
{
    static const char *const heads[] = {"?:", "?=", "?!", "?>", "?<=", "?<!"};
    size_t begin = t->out->size;
    if (starts(t, "*"))
        return refuse(t, "(*VERB)");
    if (starts(t, "?")) {
        bool known = false;
        for (size_t i = 0; i < ARRAY_LEN(heads) && !known; i++) {
            if (starts(t, heads[i])) {
                buf_putc(t->out, '(');
                buf_puts(t->out, heads[i]);
                t->p += strlen(heads[i]);
                known = true;
            }
        }
        if (!known) {
            t->p++;
            graft_status status = translate_options(t);
            if (status)
                return status;
            char ends = *t->p++;
            buf_putc(t->out, ends);
            if (ends == ')') { /* options for the rest of the enclosing group: no atom */
                t->has_atom = false;
                return GRAFT_OK;
            }
        }
    } else {
        buf_puts(t->out, "(?:");
    }
    if (t->depth == MAX_GROUPS)
        return refuse(t, "groups nested too deep");
    t->groups[t->depth++] = begin;
    t->has_atom = false;
    return GRAFT_OK;
}

/* Reads {n}, {n,}, {n,m}, {,m} at p: its length, or 0 when it is not a repeat. */
static size_t repeat_length(const struct translation *t)
{
    const char *c = t->p + 1;
    size_t digits = 0, commas = 0;
    for (; c < t->end && *c != '}'; c++) {
        if (*c == ',')
            commas++;
        else if (*c >= '0' && *c <= '9')
            digits++;
        else
            return 0;
    }
    return c < t->end && digits && commas <= 1 ? (size_t)(c + 1 - t->p) : 0;
}

/* p is at '{'. */
static graft_status translate_repeat(struct translation *t)
{
    size_t n = repeat_length(t);
    if (!n) {
        t->atom = t->out->size;
        t->has_atom = true;
        buf_puts(t->out, "\\{");
        t->p++;
        return GRAFT_OK;
    }
    if (!t->has_atom)
        return refuse(t, "a repeat of nothing");
    const char *inner = t->p + 1;
    t->p += n;
    char next = t->p < t->end ? *t->p : 0;
    if (next == '?' && !memchr(inner, ',', n - 2))
        return refuse(t, "{n}?");
    if (next == '+' || next == '*') {
        if (!buf_puts(t->out, "(?:"))
            return GRAFT_OK; /* the buffer remembers */
        char *atom = t->out->data + t->atom;
        memmove(atom + 3, atom, t->out->size - t->atom - 3);
        memcpy(atom, "(?:", 3);
    }
    buf_putc(t->out, '{');
    if (*inner == ',')
        buf_putc(t->out, '0');
    buf_append(t->out, inner, n - 1);
    if (next == '+' || next == '*')
        buf_putc(t->out, ')');
    return GRAFT_OK;
}

/* *, + or ?, with the ? or + that may follow it. */
static graft_status translate_quantifier(struct translation *t)
{
    if (!t->has_atom)
        return refuse(t, "a repeat of nothing");
    buf_putc(t->out, *t->p++);
    if (t->p < t->end && (*t->p == '?' || *t->p == '+'))
        buf_putc(t->out, *t->p++);
    return GRAFT_OK;
}

static graft_status translate_one(struct translation *t)
{
    char c = *t->p;
    switch (c) {
    case '{':
        return translate_repeat(t);
    case '*':
    case '+':
    case '?':
        return translate_quantifier(t);
    case '(':
        t->p++;
        return translate_group(t);
    case ')':
        if (t->depth == 0)
            return refuse(t, "an unopened )");
        t->p++;
        t->atom = t->groups[--t->depth];
        t->has_atom = true;
        buf_putc(t->out, ')');
        return GRAFT_OK;
    case '|':
        t->p++;
        t->has_atom = false;
        buf_putc(t->out, '|');
        return GRAFT_OK;
    default:
        break;
    }
    t->atom = t->out->size;
    t->has_atom = true;
    t->p++;
    if (c == '\\')
        return translate_escape(t, false, NULL);
    if (c == '[')
        return translate_class(t);
    /* A character of several bytes is one atom. */
    buf_putc(t->out, c);
    while (t->p < t->end && ((unsigned char)*t->p & 0xC0) == 0x80)
        buf_putc(t->out, *t->p++);
    return GRAFT_OK;
}

graft_status regex_translate(const char *text, size_t length, struct buf *out, graft_error *error)
{
    struct translation t = {.p = text, .end = text + length, .out = out, .error = error};
    graft_status status = GRAFT_OK;
    if (!buf_puts(out, ""))
        return error_set(error, GRAFT_NO_MEMORY, "out of memory for a pattern");
    while (!status && t.p < t.end)
        status = translate_one(&t);
    if (!status && t.depth)
        status = refuse(&t, "a group without its end");
    if (!status && out->status)
        status = error_set(error, out->status, "the tokenizer's regular expression is too long");
    return status;
}
