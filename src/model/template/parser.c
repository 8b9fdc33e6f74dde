/* parser.c: the parser's own machinery: tokens with one of look-ahead, errors, names, arrays.
 *
 * parse_expr.c and parse_stmt.c hold the grammar. Errors name the line and what was expected; the
 * first one stays.
 */
#include "model/template/ast_internal.h"

bool parse_fail(struct parser *p, int line, const char *format, ...)
{
    char text[400];
    va_list args;
    if (p->status != GRAFT_OK)
        return false;
    va_start(args, format);
    vsnprintf(text, sizeof text, format, args);
    va_end(args);
    p->status = error_set(p->error, GRAFT_FORMAT, "template line %d: %s", line, text);
    return false;
}

static void describe(const struct token *token, char *out, size_t size)
{
    static const char *const names[] = {[T_EOF] = "end of template",
                                        [T_DATA] = "text",
                                        [T_VAR_BEGIN] = "'{{'",
                                        [T_VAR_END] = "'}}'",
                                        [T_BLOCK_BEGIN] = "'{%'",
                                        [T_BLOCK_END] = "'%}'",
                                        [T_STRING] = "a string",
                                        [T_INT] = "a number",
                                        [T_FLOAT] = "a number",
                                        [T_ADD] = "'+'",
                                        [T_SUB] = "'-'",
                                        [T_MUL] = "'*'",
                                        [T_DIV] = "'/'",
                                        [T_FLOORDIV] = "'//'",
                                        [T_MOD] = "'%'",
                                        [T_POW] = "'**'",
                                        [T_TILDE] = "'~'",
                                        [T_LBRACKET] = "'['",
                                        [T_RBRACKET] = "']'",
                                        [T_LPAREN] = "'('",
                                        [T_RPAREN] = "')'",
                                        [T_LBRACE] = "'{'",
                                        [T_RBRACE] = "'}'",
                                        [T_EQ] = "'=='",
                                        [T_NE] = "'!='",
                                        [T_LT] = "'<'",
                                        [T_LE] = "'<='",
                                        [T_GT] = "'>'",
                                        [T_GE] = "'>='",
                                        [T_ASSIGN] = "'='",
                                        [T_DOT] = "'.'",
                                        [T_COLON] = "':'",
                                        [T_PIPE] = "'|'",
                                        [T_COMMA] = "','",
                                        [T_SEMICOLON] = "';'"};
    if (token->kind == T_NAME)
        snprintf(out, size, "'%.*s'", (int)(token->size < 40 ? token->size : 40), token->text);
    else
        snprintf(out, size, "%s", names[token->kind]);
}

bool parse_unexpected(struct parser *p, const char *expected)
{
    char found[64];
    describe(&p->current, found, sizeof found);
    return parse_fail(p, p->current.line, "expected %s, found %s", expected, found);
}

void *parse_alloc(struct parser *p, size_t bytes)
{
    void *block = arena_alloc_packed(&p->t->arena, bytes);
    if (block != NULL)
        return memset(block, 0, bytes);
    if (p->status == GRAFT_OK) {
        bool limit = p->t->arena.used + bytes > p->t->arena.limit;
        p->status = error_set(p->error, limit ? GRAFT_LIMIT : GRAFT_NO_MEMORY,
                              limit ? "template too large" : "no memory for a template");
    }
    return NULL;
}

bool parse_grow(struct parser *p, void *items, int count, size_t element)
{
    void *old, *block;
    if (count != 0 && (count < 4 || (count & (count - 1)) != 0))
        return true; /* room was made at 4, 8, 16, … */
    memcpy(&old, items, sizeof old);
    block = parse_alloc(p, (count == 0 ? 4 : 2 * (size_t)count) * element);
    if (block == NULL)
        return false;
    if (count != 0)
        memcpy(block, old, (size_t)count * element);
    memcpy(items, &block, sizeof block);
    return true;
}

bool parser_advance(struct parser *p)
{
    if (p->has_ahead) {
        p->current = p->ahead;
        p->has_ahead = false;
        return true;
    }
    return lexer_next(p, &p->current);
}

bool parser_peek(struct parser *p)
{
    if (!p->has_ahead && !lexer_next(p, &p->ahead))
        return false;
    p->has_ahead = true;
    return true;
}

bool token_is(const struct token *token, const char *name)
{
    size_t n = strlen(name);
    return token->kind == T_NAME && token->size == n && memcmp(token->text, name, n) == 0;
}

bool parser_at_name(const struct parser *p, const char *name)
{
    return token_is(&p->current, name);
}

bool parser_skip_name(struct parser *p, const char *name, bool *skipped)
{
    *skipped = parser_at_name(p, name);
    return !*skipped || parser_advance(p);
}

bool parser_expect(struct parser *p, enum token_kind kind, const char *what)
{
    return p->current.kind == kind ? parser_advance(p) : parse_unexpected(p, what);
}

bool parse_too_deep(struct parser *p, int line)
{
    if (p->status == GRAFT_OK)
        p->status = error_set(p->error, GRAFT_LIMIT, "template line %d: nested too deep", line);
    return false;
}

bool parser_enter(struct parser *p)
{
    return ++p->depth <= PARSE_DEPTH || parse_too_deep(p, p->current.line);
}

bool parser_name(struct parser *p, const struct token *token, struct str **out)
{
    struct str *s = parse_alloc(p, sizeof *s);
    if (s == NULL)
        return false;
    s->data = token->text;
    s->size = token->size;
    s->chars = CHARS_UNKNOWN;
    s->chars = str_chars(s); /* shared by threads from here on: nothing may be filled in later */
    *out = s;
    return true;
}

bool parser_intern(struct parser *p, const struct token *token, int *name)
{
    struct chat_template *t = p->t;
    *name = str_map_get(&t->name_index, token->text, token->size);
    if (*name >= 0)
        return true;
    struct str *s;
    if (!parser_name(p, token, &s) || !parse_grow(p, &t->names, t->n_names, sizeof *t->names))
        return false;
    if (!str_map_put(&t->name_index, s->data, s->size, t->n_names, NULL)) {
        p->status = error_set(p->error, GRAFT_NO_MEMORY, "no memory for a template");
        return false;
    }
    t->names[t->n_names] = s;
    *name = t->n_names++;
    return true;
}

void parser_note_name(struct parser *p, const struct token *token, bool store)
{
    unsigned bit = token_is(token, "caller")    ? 1
                   : token_is(token, "kwargs")  ? 2
                   : token_is(token, "varargs") ? 4
                                                : 0;
    for (struct macro_scope *m = p->macro; m != NULL && bit != 0; m = m->outer) {
        if (store)
            m->set |= bit;
        else if ((m->set & bit) == 0)
            m->used |= bit;
    }
}
