/* parse_stmt.c: the grammar of statements: text, print, if, for, set, macro, call, filter, with,
 * generation, break, continue.
 *
 * Tags that need other templates (extends, include, import, block) are refused by name. `break` and
 * `continue` must stand in a loop of the same body; `loop` cannot be assigned inside a loop.
 */
#include "model/template/ast_internal.h"

static bool parse_block(struct parser *p, const char *const *ends, struct block *out);

static struct stmt *stmt_new(struct parser *p, enum stmt_kind kind, int line)
{
    struct stmt *s = parse_alloc(p, sizeof *s);
    if (s != NULL) {
        s->kind = kind;
        s->line = line;
    }
    return s;
}

static bool push_stmt(struct parser *p, struct block *block, struct stmt *s)
{
    if (s == NULL || !parse_grow(p, &block->items, block->count, sizeof *block->items))
        return false;
    block->items[block->count++] = s;
    return true;
}

/* The body of a tag: up to one of the names in `ends` (NULL-terminated), which becomes the current
 * token. The tag's own '%}' is still to come. */
static bool parse_body(struct parser *p, const char *const *ends, struct block *out)
{
    if (p->current.kind == T_COLON && !parser_advance(p)) /* tolerated, as in Python */
        return false;
    return parser_expect(p, T_BLOCK_END, "'%}'") && parse_block(p, ends, out);
}

/* A body that ends with one name only, which is read too. */
static bool parse_simple_body(struct parser *p, const char *end, struct block *out)
{
    const char *const ends[] = {end, NULL};
    return parse_body(p, ends, out) && parser_advance(p);
}

/* A body of its own function in Jinja2: loops outside cannot be left from here. */
static bool parse_detached_body(struct parser *p, const char *end, struct block *out)
{
    int loops = p->loop_depth;
    p->loop_depth = 0;
    bool ok = parse_simple_body(p, end, out);
    p->loop_depth = loops;
    return ok;
}

/* ---- assignment targets ------------------------------------------------------------------- */

static bool parse_target_name(struct parser *p, struct target *out)
{
    static const char *const reserved[] = {"true", "false", "none", "True", "False", "None"};
    *out = (struct target){.line = p->current.line};
    if (p->current.kind != T_NAME)
        return parse_unexpected(p, "a name to assign to");
    for (size_t i = 0; i < ARRAY_LEN(reserved); i++)
        if (parser_at_name(p, reserved[i]))
            return parse_unexpected(p, "a name to assign to");
    if (parser_at_name(p, "loop") && p->any_loop_depth > 0)
        return parse_fail(p, p->current.line, "cannot assign to 'loop' inside a loop");
    parser_note_name(p, &p->current, true);
    return parser_intern(p, &p->current, &out->ref.name) && parser_advance(p);
}

static bool parse_targets(struct parser *p, bool in_ends, bool parentheses, struct target *out);

static bool parse_target(struct parser *p, struct target *out)
{
    if (p->current.kind != T_LPAREN)
        return parse_target_name(p, out);
    if (!parser_enter(p) || !parser_advance(p) || !parse_targets(p, false, true, out))
        return false;
    p->depth--;
    return parser_expect(p, T_RPAREN, "')'");
}

static bool targets_end(const struct parser *p, bool in_ends)
{
    return p->current.kind == T_BLOCK_END || p->current.kind == T_RPAREN ||
           (in_ends && parser_at_name(p, "in"));
}

/* a, b, (c, d): one target, or a tuple of them once a comma was seen. */
static bool parse_targets(struct parser *p, bool in_ends, bool parentheses, struct target *out)
{
    struct target tuple = {.line = p->current.line};
    while (!targets_end(p, in_ends)) {
        if (!parse_grow(p, &tuple.items, tuple.count, sizeof *tuple.items) ||
            !parse_target(p, &tuple.items[tuple.count]))
            return false;
        tuple.count++;
        if (p->current.kind != T_COMMA)
            break;
        tuple.is_tuple = true;
        if (!parser_advance(p))
            return false;
    }
    if (tuple.count == 0 && !parentheses)
        return parse_unexpected(p, "a name to assign to");
    tuple.is_tuple |= tuple.count == 0;
    *out = tuple.is_tuple ? tuple : tuple.items[0];
    return true;
}

static bool clone_target(struct parser *p, const struct target *from, struct target *out)
{
    *out = *from;
    if (!from->is_tuple || from->count == 0)
        return true;
    out->items = parse_alloc(p, (size_t)from->count * sizeof *out->items);
    for (int i = 0; i < from->count && out->items != NULL; i++)
        if (!clone_target(p, &from->items[i], &out->items[i]))
            return false;
    return out->items != NULL;
}

/* ---- statements --------------------------------------------------------------------------- */

static bool parse_if(struct parser *p, struct stmt *s)
{
    static const char *const ends[] = {"elif", "else", "endif", NULL};
    bool more = true;
    s->kind = S_IF;
    while (more) {
        if (!parse_grow(p, &s->branches.branches, s->branches.count, sizeof(struct branch)))
            return false;
        struct branch *b = &s->branches.branches[s->branches.count++];
        memset(b, 0, sizeof *b);
        if (!parser_advance(p) || !parse_tuple(p, false, END_PLAIN, false, &b->test) ||
            !parse_body(p, ends, &b->body))
            return false;
        more = parser_at_name(p, "elif");
    }
    if (parser_at_name(p, "endif"))
        return parser_advance(p);
    if (!parse_grow(p, &s->branches.branches, s->branches.count, sizeof(struct branch)))
        return false;
    struct branch *last = &s->branches.branches[s->branches.count++];
    memset(last, 0, sizeof *last);
    return parser_advance(p) && parse_simple_body(p, "endif", &last->body);
}

static bool parse_for(struct parser *p, struct stmt *s)
{
    static const char *const ends[] = {"endfor", "else", NULL};
    struct for_stmt *f = s->loop = parse_alloc(p, sizeof *f);
    static const struct token loop = {.kind = T_NAME, .text = "loop", .size = 4};
    bool skipped;
    s->kind = S_FOR;
    if (f == NULL || !parser_advance(p))
        return false;
    p->any_loop_depth++;
    if (!parser_intern(p, &loop, &f->loop.name) || !parse_targets(p, true, false, &f->target))
        return false;
    if (!parser_at_name(p, "in"))
        return parse_unexpected(p, "'in'");
    if (!parser_advance(p) || !parse_tuple(p, false, END_RECURSIVE, false, &f->iter) ||
        !parser_skip_name(p, "if", &skipped) ||
        (skipped &&
         (!parse_expression(p, true, &f->test) || !clone_target(p, &f->target, &f->test_target))) ||
        !parser_skip_name(p, "recursive", &f->recursive))
        return false;
    int loops = p->loop_depth; /* a recursive loop is a function: its else cannot break outwards */
    p->loop_depth = f->recursive ? 1 : loops + 1;
    if (!parse_body(p, ends, &f->body))
        return false;
    p->loop_depth = f->recursive ? 0 : loops;
    bool has_else = parser_at_name(p, "else");
    if (!parser_advance(p) || (has_else && !parse_simple_body(p, "endfor", &f->otherwise)))
        return false;
    p->loop_depth = loops;
    p->any_loop_depth--;
    return true;
}

static struct body_stmt *body_new(struct parser *p, struct stmt *s, enum stmt_kind kind)
{
    s->kind = kind;
    return s->body = parse_alloc(p, sizeof *s->body);
}

static bool parse_set(struct parser *p, struct stmt *s)
{
    struct target target;
    if (!parser_advance(p) || !parser_peek(p))
        return false;
    if (p->current.kind == T_NAME && p->ahead.kind == T_DOT) {
        target = (struct target){.line = p->current.line};
        if (!parser_intern(p, &p->current, &target.ref.name) || !parser_advance(p) ||
            !parser_advance(p))
            return false;
        if (p->current.kind != T_NAME)
            return parse_unexpected(p, "a name");
        if (!parser_name(p, &p->current, &target.attr) || !parser_advance(p))
            return false;
    } else if (!parse_targets(p, false, false, &target)) {
        return false;
    }
    if (p->current.kind == T_ASSIGN) {
        s->kind = S_SET;
        s->set.target = target;
        return parser_advance(p) && parse_tuple(p, true, END_PLAIN, false, &s->set.value);
    }
    struct body_stmt *b = body_new(p, s, S_SET_BLOCK);
    if (b == NULL || !parse_filters(p, false, &b->filters, &b->n_filters))
        return false;
    b->target = target;
    return parse_simple_body(p, "endset", &b->body);
}

static bool parse_signature(struct parser *p, struct macro_def *def)
{
    if (!parser_expect(p, T_LPAREN, "'('"))
        return false;
    while (p->current.kind != T_RPAREN) {
        if (def->n_params > 0 && !parser_expect(p, T_COMMA, "',' or ')'"))
            return false;
        bool is_caller = parser_at_name(p, "caller");
        def->caller_is_param |= is_caller;
        if (!parse_grow(p, &def->params, def->n_params, sizeof *def->params) ||
            !parse_target_name(p, &def->params[def->n_params]))
            return false;
        def->n_params++;
        if (p->current.kind == T_ASSIGN) {
            if (!parse_grow(p, &def->defaults, def->n_defaults, sizeof *def->defaults) ||
                !parser_advance(p) || !parse_expression(p, true, &def->defaults[def->n_defaults]))
                return false;
            def->n_defaults++;
        } else if (def->n_defaults > 0 || is_caller) {
            return parse_fail(p, p->current.line,
                              is_caller ? "a parameter 'caller' needs a default"
                                        : "a parameter without default follows one "
                                          "that has one");
        }
    }
    return parser_advance(p);
}

static bool has_param(const struct chat_template *t, const struct macro_def *def, const char *name)
{
    for (int i = 0; i < def->n_params; i++)
        if (str_equals(t->names[def->params[i].ref.name], name))
            return true;
    return false;
}

static bool intern_special(struct parser *p, const char *name, struct name_ref *ref)
{
    struct token token = {.kind = T_NAME, .text = name, .size = strlen(name)};
    return parser_intern(p, &token, &ref->name);
}

/* The body of a macro or call block, and which of caller, kwargs, varargs it uses. */
static bool parse_macro_body(struct parser *p, struct macro_def *def, const char *end)
{
    struct macro_scope scope = {.outer = p->macro};
    p->macro = &scope;
    bool ok = parse_detached_body(p, end, &def->body);
    p->macro = scope.outer;
    def->uses_caller = (scope.used & 1) != 0;
    def->uses_kwargs = (scope.used & 2) != 0 && !has_param(p->t, def, "kwargs");
    def->uses_varargs = (scope.used & 4) != 0 && !has_param(p->t, def, "varargs");
    return ok && intern_special(p, "caller", &def->caller) &&
           intern_special(p, "kwargs", &def->kwargs) && intern_special(p, "varargs", &def->varargs);
}

static struct macro_def *macro_new(struct parser *p, struct stmt *s, enum stmt_kind kind)
{
    struct macro_def *def = parse_alloc(p, sizeof *def);
    s->kind = kind;
    s->macro.def = def;
    if (def != NULL)
        def->line = s->line;
    return def;
}

static bool parse_macro(struct parser *p, struct stmt *s)
{
    struct macro_def *def = macro_new(p, s, S_MACRO);
    struct target name;
    if (def == NULL || !parser_advance(p) || !parse_target_name(p, &name) ||
        !parse_signature(p, def))
        return false;
    s->macro.ref = name.ref;
    def->name = p->t->names[name.ref.name];
    return parse_macro_body(p, def, "endmacro");
}

static bool parse_call_block(struct parser *p, struct stmt *s)
{
    struct macro_def *def = macro_new(p, s, S_CALL);
    if (def == NULL || !parser_advance(p) ||
        (p->current.kind == T_LPAREN && !parse_signature(p, def)) ||
        !parse_expression(p, true, &s->macro.call))
        return false;
    const struct expr *call = s->macro.call;
    if (call->kind != E_POSTFIX || call->steps[call->count - 1].kind != STEP_CALL)
        return parse_fail(p, s->line, "{%% call %%} needs a call");
    return parse_macro_body(p, def, "endcall");
}

static bool parse_filter_block(struct parser *p, struct stmt *s)
{
    struct body_stmt *b = body_new(p, s, S_FILTER);
    return b != NULL && parser_advance(p) && parse_filters(p, true, &b->filters, &b->n_filters) &&
           parse_simple_body(p, "endfilter", &b->body);
}

static bool parse_generation(struct parser *p, struct stmt *s)
{
    struct body_stmt *b = body_new(p, s, S_GENERATION);
    return b != NULL && parser_advance(p) && parse_detached_body(p, "endgeneration", &b->body);
}

static bool parse_with(struct parser *p, struct stmt *s)
{
    struct with_stmt *w = s->with = parse_alloc(p, sizeof *w);
    s->kind = S_WITH;
    if (w == NULL || !parser_advance(p))
        return false;
    while (p->current.kind != T_BLOCK_END) {
        if (w->count > 0 && !parser_expect(p, T_COMMA, "',' or '%}'"))
            return false;
        if (!parse_grow(p, &w->targets, w->count, sizeof *w->targets) ||
            !parse_grow(p, &w->values, w->count, sizeof *w->values) ||
            !parse_target(p, &w->targets[w->count]) || !parser_expect(p, T_ASSIGN, "'='") ||
            !parse_expression(p, true, &w->values[w->count]))
            return false;
        w->count++;
    }
    return parse_simple_body(p, "endwith", &w->body);
}

static bool parse_print(struct parser *p, struct stmt *s)
{
    s->kind = S_PRINT;
    if (!parser_advance(p))
        return false;
    while (p->current.kind != T_BLOCK_END) {
        if (s->print.count > 0 && !parser_expect(p, T_COMMA, "',' or '%}'"))
            return false;
        if (!parse_grow(p, &s->print.items, s->print.count, sizeof *s->print.items) ||
            !parse_expression(p, true, &s->print.items[s->print.count]))
            return false;
        s->print.count++;
    }
    return true;
}

static bool parse_jump(struct parser *p, struct stmt *s)
{
    s->kind = parser_at_name(p, "break") ? S_BREAK : S_CONTINUE;
    if (p->loop_depth == 0)
        return parse_fail(p, s->line, "'%s' outside a loop",
                          s->kind == S_BREAK ? "break" : "continue");
    return parser_advance(p);
}

static const struct {
    const char *name;
    bool (*parse)(struct parser *p, struct stmt *s);
} tags[] = {{"if", parse_if},           {"for", parse_for},
            {"set", parse_set},         {"macro", parse_macro},
            {"call", parse_call_block}, {"filter", parse_filter_block},
            {"with", parse_with},       {"generation", parse_generation},
            {"print", parse_print},     {"break", parse_jump},
            {"continue", parse_jump}};

static bool unknown_tag(struct parser *p, const char *const *ends)
{
    static const char *const refused[] = {"extends", "include", "import",    "from",
                                          "block",   "do",      "autoescape"};
    int shown = (int)(p->current.size < 40 ? p->current.size : 40);
    for (size_t i = 0; i < ARRAY_LEN(refused); i++)
        if (parser_at_name(p, refused[i]))
            return parse_fail(p, p->current.line, "tag '%s' is not supported", refused[i]);
    return parse_fail(p, p->current.line, "unknown tag '%.*s'%s%s", shown, p->current.text,
                      ends != NULL ? ", expected " : "", ends != NULL ? ends[0] : "");
}

static bool parse_statement(struct parser *p, const char *const *ends, struct block *out)
{
    struct stmt *s = stmt_new(p, S_TEXT, p->current.line);
    if (p->current.kind != T_NAME)
        return parse_unexpected(p, "the name of a tag");
    for (size_t i = 0; i < ARRAY_LEN(tags); i++)
        if (parser_at_name(p, tags[i].name))
            return s != NULL && tags[i].parse(p, s) && push_stmt(p, out, s) &&
                   parser_expect(p, T_BLOCK_END, "'%}'");
    return unknown_tag(p, ends);
}

static bool parse_output(struct parser *p, struct block *out)
{
    struct stmt *s = stmt_new(p, S_PRINT, p->current.line);
    if (s == NULL || !parser_advance(p) ||
        !parse_grow(p, &s->print.items, 0, sizeof *s->print.items) ||
        !parse_tuple(p, true, END_PLAIN, false, &s->print.items[0]))
        return false;
    s->print.count = 1;
    return push_stmt(p, out, s) && parser_expect(p, T_VAR_END, "'}}'");
}

static bool parse_text(struct parser *p, struct block *out)
{
    if (p->current.size > 0) {
        struct stmt *s = stmt_new(p, S_TEXT, p->current.line);
        if (s == NULL)
            return false;
        s->text.data = p->current.text;
        s->text.size = p->current.size;
        if (!push_stmt(p, out, s))
            return false;
    }
    return parser_advance(p);
}

static bool block_ends(const struct parser *p, const char *const *ends)
{
    for (; ends != NULL && *ends != NULL; ends++)
        if (parser_at_name(p, *ends))
            return true;
    return false;
}

static bool parse_block(struct parser *p, const char *const *ends, struct block *out)
{
    if (!parser_enter(p))
        return false;
    for (;;) {
        bool ok;
        if (p->current.kind == T_EOF) {
            if (ends != NULL)
                return parse_fail(p, p->current.line, "end of template, expected %s", ends[0]);
            break;
        }
        if (p->current.kind == T_BLOCK_BEGIN) {
            if (!parser_advance(p))
                return false;
            if (block_ends(p, ends))
                break;
            ok = parse_statement(p, ends, out);
        } else if (p->current.kind == T_VAR_BEGIN) {
            ok = parse_output(p, out);
        } else {
            ok = parse_text(p, out);
        }
        if (!ok)
            return false;
    }
    p->depth--;
    return true;
}

bool parse_template(struct parser *p)
{
    return parser_advance(p) && parse_block(p, NULL, &p->t->body);
}
