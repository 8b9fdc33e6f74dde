/* parse_expr.c: the grammar of expressions, in Jinja2's precedence:
 * if-else, or, and, not, comparison, + -, ~, * / // %, **, sign, postfix and filters, literals.
 *
 * Chains become flat arrays; recursion happens for nesting only, and parser_enter bounds it.
 */
#include "model/template/render_internal.h"

static struct expr *expr_new(struct parser *p, enum expr_kind kind, int line)
{
    struct expr *e = parse_alloc(p, sizeof *e);
    if (e != NULL) {
        e->kind = kind;
        e->line = line;
    }
    return e;
}

static bool push_item(struct parser *p, struct expr *list, struct expr *item)
{
    if (!parse_grow(p, &list->items, list->count, sizeof *list->items))
        return false;
    list->items[list->count++] = item;
    return true;
}

static bool push_operand(struct parser *p, struct expr *chain, enum op op, struct expr *value)
{
    if (!parse_grow(p, &chain->operands, chain->count, sizeof *chain->operands))
        return false;
    chain->operands[chain->count++] = (struct operand){op, value};
    return true;
}

static struct step *push_step(struct parser *p, struct step **steps, int *count,
                              enum step_kind kind)
{
    if (!parse_grow(p, steps, *count, sizeof **steps))
        return NULL;
    struct step *step = &(*steps)[(*count)++];
    memset(step, 0, sizeof *step);
    step->kind = kind;
    step->line = p->current.line;
    return step;
}

/* ---- literals ----------------------------------------------------------------------------- */

static bool parse_string(struct parser *p, struct expr *e)
{
    struct token whole = p->current;
    if (!parser_advance(p))
        return false;
    if (p->current.kind == T_STRING) { /* neighbours are joined */
        struct buf joined;
        buf_init(&joined, p->t->mem, SOURCE_LIMIT * 4);
        buf_append(&joined, whole.text, whole.size);
        while (p->current.kind == T_STRING && p->status == GRAFT_OK) {
            buf_append(&joined, p->current.text, p->current.size);
            if (!parser_advance(p))
                break;
        }
        char *text = parse_alloc(p, joined.size + 1);
        if (joined.status != GRAFT_OK && p->status == GRAFT_OK)
            p->status = error_set(p->error, joined.status, "no memory for a template");
        if (text != NULL && joined.size > 0)
            memcpy(text, joined.data, joined.size);
        whole.text = text;
        whole.size = joined.size;
        buf_free(&joined);
        if (p->status != GRAFT_OK)
            return false;
    }
    e->constant.kind = V_STR;
    return parser_name(p, &whole, &e->constant.s);
}

static bool parse_name(struct parser *p, struct expr *e)
{
    static const struct {
        const char *name;
        struct value value;
    } words[] = {{"true", {.kind = V_BOOL, .b = true}},
                 {"True", {.kind = V_BOOL, .b = true}},
                 {"false", {.kind = V_BOOL, .b = false}},
                 {"False", {.kind = V_BOOL, .b = false}},
                 {"none", {.kind = V_NONE}},
                 {"None", {.kind = V_NONE}}};
    for (size_t i = 0; i < ARRAY_LEN(words); i++)
        if (parser_at_name(p, words[i].name)) {
            e->constant = words[i].value;
            return parser_advance(p);
        }
    e->kind = E_NAME;
    parser_note_name(p, &p->current, false);
    return parser_intern(p, &p->current, &e->name.name) && parser_advance(p);
}

static bool parse_list(struct parser *p, struct expr *e)
{
    e->kind = E_LIST;
    if (!parser_advance(p))
        return false;
    while (p->current.kind != T_RBRACKET) {
        struct expr *item;
        if (e->count > 0 && !parser_expect(p, T_COMMA, "',' or ']'"))
            return false;
        if (p->current.kind == T_RBRACKET)
            break;
        if (!parse_expression(p, true, &item) || !push_item(p, e, item))
            return false;
    }
    return parser_advance(p);
}

static bool parse_dict(struct parser *p, struct expr *e)
{
    e->kind = E_DICT;
    if (!parser_advance(p))
        return false;
    while (p->current.kind != T_RBRACE) {
        struct expr *key, *value;
        if (e->count > 0 && !parser_expect(p, T_COMMA, "',' or '}'"))
            return false;
        if (p->current.kind == T_RBRACE)
            break;
        if (!parse_expression(p, true, &key) || !parser_expect(p, T_COLON, "':'") ||
            !parse_expression(p, true, &value) || !push_item(p, e, key) || !push_item(p, e, value))
            return false;
    }
    return parser_advance(p);
}

static bool parse_primary(struct parser *p, struct expr **out)
{
    struct expr *e = expr_new(p, E_CONST, p->current.line);
    if (e == NULL)
        return false;
    *out = e;
    switch (p->current.kind) {
    case T_NAME:
        return parse_name(p, e);
    case T_STRING:
        return parse_string(p, e);
    case T_INT:
        e->constant = v_int(p->current.integer);
        return parser_advance(p);
    case T_FLOAT:
        e->constant = v_float(p->current.real);
        return parser_advance(p);
    case T_LPAREN:
        return parser_advance(p) && parse_tuple(p, true, END_PLAIN, true, out) &&
               parser_expect(p, T_RPAREN, "')'");
    case T_LBRACKET:
        return parse_list(p, e);
    case T_LBRACE:
        return parse_dict(p, e);
    default:
        return parse_unexpected(p, "an expression");
    }
}

static bool tuple_ends(const struct parser *p, enum tuple_end end)
{
    if (p->current.kind == T_VAR_END || p->current.kind == T_BLOCK_END ||
        p->current.kind == T_RPAREN)
        return true;
    return (end == END_IN && parser_at_name(p, "in")) ||
           (end == END_RECURSIVE && parser_at_name(p, "recursive"));
}

bool parse_tuple(struct parser *p, bool with_cond, enum tuple_end end, bool parentheses,
                 struct expr **out)
{
    struct expr *tuple = expr_new(p, E_TUPLE, p->current.line);
    bool comma = false;
    if (tuple == NULL)
        return false;
    while (!tuple_ends(p, end)) {
        struct expr *item;
        if (!parse_expression(p, with_cond, &item) || !push_item(p, tuple, item))
            return false;
        if (p->current.kind != T_COMMA)
            break;
        comma = true;
        if (!parser_advance(p))
            return false;
    }
    if (!comma && tuple->count == 0 && !parentheses)
        return parse_unexpected(p, "an expression");
    *out = !comma && tuple->count == 1 ? tuple->items[0] : tuple;
    return true;
}

/* ---- subscripts, calls, filters, tests ---------------------------------------------------- */

static bool at_subscript_end(const struct parser *p)
{
    return p->current.kind == T_RBRACKET || p->current.kind == T_COMMA ||
           p->current.kind == T_COLON;
}

/* One subscript: an expression or start:stop:step. */
static bool parse_subscribed(struct parser *p, struct expr **out)
{
    int line = p->current.line;
    struct expr *bounds[3] = {NULL, NULL, NULL};
    if (p->current.kind != T_COLON && !parse_expression(p, true, &bounds[0]))
        return false;
    if (p->current.kind != T_COLON) {
        *out = bounds[0];
        return true;
    }
    for (int i = 1; i < 3 && p->current.kind == T_COLON; i++)
        if (!parser_advance(p) || (!at_subscript_end(p) && !parse_expression(p, true, &bounds[i])))
            return false;
    struct expr *slice = expr_new(p, E_SLICE, line);
    if (slice == NULL)
        return false;
    slice->start = bounds[0];
    slice->stop = bounds[1];
    slice->step = bounds[2];
    *out = slice;
    return true;
}

static bool parse_subscript(struct parser *p, struct step *step)
{
    struct expr *tuple = expr_new(p, E_TUPLE, p->current.line);
    if (tuple == NULL || !parser_advance(p))
        return false;
    while (p->current.kind != T_RBRACKET) {
        struct expr *item;
        if (tuple->count > 0 && !parser_expect(p, T_COMMA, "',' or ']'"))
            return false;
        if (!parse_subscribed(p, &item) || !push_item(p, tuple, item))
            return false;
    }
    step->item = tuple->count == 1 ? tuple->items[0] : tuple;
    return parser_advance(p);
}

static bool parse_attribute(struct parser *p, struct step *step)
{
    if (!parser_advance(p))
        return false;
    if (p->current.kind == T_NAME)
        return parser_name(p, &p->current, &step->name) && parser_advance(p);
    if (p->current.kind != T_INT)
        return parse_unexpected(p, "a name or a number");
    step->kind = STEP_ITEM;
    return parse_primary(p, &step->item);
}

static bool parse_argument(struct parser *p, struct call_args *args)
{
    if (p->current.kind == T_MUL && args->star == NULL && args->star_star == NULL)
        return parser_advance(p) && parse_expression(p, true, &args->star);
    if (p->current.kind == T_POW && args->star_star == NULL)
        return parser_advance(p) && parse_expression(p, true, &args->star_star);
    if (args->star_star != NULL)
        return parse_fail(p, p->current.line, "nothing may follow ** in a call");
    if (p->current.kind == T_NAME) {
        if (!parser_peek(p))
            return false;
        if (p->ahead.kind == T_ASSIGN) {
            if (!parse_grow(p, &args->keywords, args->n_keywords, sizeof *args->keywords))
                return false;
            struct keyword *k = &args->keywords[args->n_keywords];
            if (!parser_name(p, &p->current, &k->name) || !parser_advance(p) ||
                !parser_advance(p) || !parse_expression(p, true, &k->value))
                return false;
            args->n_keywords++;
            return true;
        }
    }
    if (args->star != NULL || args->n_keywords > 0)
        return parse_fail(p, p->current.line, "a positional argument follows a keyword or *");
    if (!parse_grow(p, &args->items, args->count, sizeof *args->items) ||
        !parse_expression(p, true, &args->items[args->count]))
        return false;
    args->count++;
    return true;
}

/* Keywords twice are refused, as Python's compiler does; *names is a scratch table. */
static bool check_keywords(struct parser *p, const struct call_args *args, int line)
{
    struct str_map names;
    bool repeated = false, ok = true;
    if (args->n_keywords < 2)
        return true;
    str_map_init(&names, p->t->mem);
    for (int i = 0; i < args->n_keywords && ok && !repeated; i++)
        ok = str_map_put(&names, args->keywords[i].name->data, args->keywords[i].name->size, i,
                         &repeated);
    str_map_free(&names);
    if (!ok)
        p->status = error_set(p->error, GRAFT_NO_MEMORY, "no memory for a template");
    else if (repeated)
        return parse_fail(p, line, "a keyword argument is repeated");
    return ok;
}

static bool parse_call_args(struct parser *p, struct call_args **out)
{
    struct call_args *args = parse_alloc(p, sizeof *args);
    int line = p->current.line;
    bool first = true;
    if (args == NULL || !parser_expect(p, T_LPAREN, "'('"))
        return false;
    for (; p->current.kind != T_RPAREN; first = false) {
        if (!first) {
            if (!parser_expect(p, T_COMMA, "',' or ')'"))
                return false;
            if (p->current.kind == T_RPAREN)
                break;
        }
        if (!parse_argument(p, args))
            return false;
    }
    *out = args;
    return check_keywords(p, args, line) && parser_advance(p);
}

/* A name with dots, as filters and tests may have. */
static bool parse_dotted(struct parser *p, struct str **out)
{
    struct token first = p->current;
    if (!parser_expect(p, T_NAME, "a name"))
        return false;
    while (p->current.kind == T_DOT) {
        if (!parser_advance(p) || p->current.kind != T_NAME)
            return parse_unexpected(p, "a name");
        first.size = (size_t)(p->current.text + p->current.size - first.text);
        if (!parser_advance(p))
            return false;
    }
    return parser_name(p, &first, out);
}

bool parse_filters(struct parser *p, bool inline_start, struct step **steps, int *count)
{
    for (; inline_start || p->current.kind == T_PIPE; inline_start = false) {
        if (!inline_start && !parser_advance(p))
            return false;
        struct step *step = push_step(p, steps, count, STEP_FILTER);
        if (step == NULL || !parse_dotted(p, &step->name))
            return false;
        step->builtin = filter_find(step->name->data, step->name->size);
        if (p->current.kind == T_LPAREN) {
            struct call_args *args;
            int index = *count - 1;
            if (!parse_call_args(p, &args))
                return false;
            (*steps)[index].args = args;
        }
    }
    return true;
}

static bool parse_postfix(struct parser *p, struct step **steps, int *count);

/* The lone argument of a test without parentheses: `x is divisibleby 3`. */
static bool parse_test_argument(struct parser *p, struct call_args **out)
{
    struct call_args *args = parse_alloc(p, sizeof *args);
    struct step *steps = NULL;
    struct expr *base;
    int count = 0;
    if (parser_at_name(p, "is"))
        return parse_fail(p, p->current.line, "tests with 'is' cannot be chained");
    if (args == NULL || !parse_grow(p, &args->items, 0, sizeof *args->items) ||
        !parse_primary(p, &base) || !parse_postfix(p, &steps, &count))
        return false;
    if (count > 0) {
        struct expr *e = expr_new(p, E_POSTFIX, base->line);
        if (e == NULL)
            return false;
        e->first = base;
        e->steps = steps;
        e->count = count;
        base = e;
    }
    args->items[0] = base;
    args->count = 1;
    *out = args;
    return true;
}

static bool parse_test(struct parser *p, struct step **steps, int *count)
{
    struct step *step = push_step(p, steps, count, STEP_TEST);
    bool negated;
    if (step == NULL || !parser_advance(p) || !parser_skip_name(p, "not", &negated) ||
        !parse_dotted(p, &step->name))
        return false;
    step->negated = negated;
    step->builtin = test_find(step->name->data, step->name->size);
    enum token_kind k = p->current.kind;
    if (k == T_LPAREN)
        return parse_call_args(p, &step->args);
    bool argument = k == T_STRING || k == T_INT || k == T_FLOAT || k == T_LBRACKET ||
                    k == T_LBRACE ||
                    (k == T_NAME && !parser_at_name(p, "else") && !parser_at_name(p, "or") &&
                     !parser_at_name(p, "and"));
    return !argument || parse_test_argument(p, &step->args);
}

/* .name [item] (call); steps of an inner expression have arrays of their own, so a step may be held
 * by pointer while its parts are parsed. */
static bool parse_postfix(struct parser *p, struct step **steps, int *count)
{
    for (;;) {
        struct step *step;
        bool ok;
        if (p->current.kind == T_DOT) {
            step = push_step(p, steps, count, STEP_ATTR);
            ok = step != NULL && parse_attribute(p, step);
        } else if (p->current.kind == T_LBRACKET) {
            step = push_step(p, steps, count, STEP_ITEM);
            ok = step != NULL && parse_subscript(p, step);
        } else if (p->current.kind == T_LPAREN) {
            step = push_step(p, steps, count, STEP_CALL);
            ok = step != NULL && parse_call_args(p, &step->args);
        } else {
            return true;
        }
        if (!ok)
            return false;
    }
}

static bool parse_filter_expr(struct parser *p, struct step **steps, int *count)
{
    for (;;) {
        if (p->current.kind == T_PIPE) {
            if (!parse_filters(p, false, steps, count))
                return false;
        } else if (parser_at_name(p, "is")) {
            if (!parse_test(p, steps, count))
                return false;
        } else if (p->current.kind == T_LPAREN) {
            struct step *step = push_step(p, steps, count, STEP_CALL);
            if (step == NULL || !parse_call_args(p, &step->args))
                return false;
        } else {
            return true;
        }
    }
}

/* ---- operators ---------------------------------------------------------------------------- */

static bool parse_unary(struct parser *p, bool with_filter, struct expr **out)
{
    enum token_kind k = p->current.kind;
    struct expr *e;
    struct step *steps = NULL;
    int count = 0;
    if (!parser_enter(p))
        return false;
    if (k == T_SUB || k == T_ADD) {
        e = expr_new(p, k == T_SUB ? E_NEG : E_POS, p->current.line);
        if (e == NULL || !parser_advance(p) || !parse_unary(p, false, &e->operand))
            return false;
    } else if (!parse_primary(p, &e)) {
        return false;
    }
    if (!parse_postfix(p, &steps, &count) || (with_filter && !parse_filter_expr(p, &steps, &count)))
        return false;
    p->depth--;
    *out = e;
    if (count == 0)
        return true;
    struct expr *chain = expr_new(p, E_POSTFIX, e->line);
    if (chain == NULL)
        return false;
    chain->first = e;
    chain->steps = steps;
    chain->count = count;
    *out = chain;
    return true;
}

/* Binary operators of the arithmetic levels, tightest first. */
enum level { LEVEL_POW, LEVEL_MUL, LEVEL_CONCAT, LEVEL_ADD };

static bool level_op(enum token_kind kind, enum level level, enum op *op)
{
    static const struct {
        enum token_kind token;
        enum level level;
        enum op op;
    } table[] = {{T_POW, LEVEL_POW, OP_POW}, {T_MUL, LEVEL_MUL, OP_MUL},
                 {T_DIV, LEVEL_MUL, OP_DIV}, {T_FLOORDIV, LEVEL_MUL, OP_FLOORDIV},
                 {T_MOD, LEVEL_MUL, OP_MOD}, {T_ADD, LEVEL_ADD, OP_ADD},
                 {T_SUB, LEVEL_ADD, OP_SUB}};
    for (size_t i = 0; i < ARRAY_LEN(table); i++)
        if (table[i].token == kind && table[i].level == level) {
            *op = table[i].op;
            return true;
        }
    return false;
}

static bool parse_level(struct parser *p, int level, struct expr **out)
{
    struct expr *first, *chain = NULL, *value;
    enum op op = 0;
    if (level < LEVEL_POW)
        return parse_unary(p, true, out);
    if (!parse_level(p, level - 1, &first))
        return false;
    *out = first;
    while (level == LEVEL_CONCAT ? p->current.kind == T_TILDE
                                 : level_op(p->current.kind, (enum level)level, &op)) {
        if (chain == NULL) {
            chain = expr_new(p, level == LEVEL_CONCAT ? E_CONCAT : E_ARITH, first->line);
            if (chain == NULL)
                return false;
            if (level != LEVEL_CONCAT)
                chain->first = first;
            else if (!push_item(p, chain, first))
                return false;
            *out = chain;
        }
        if (!parser_advance(p) || !parse_level(p, level - 1, &value) ||
            !(level == LEVEL_CONCAT ? push_item(p, chain, value)
                                    : push_operand(p, chain, op, value)))
            return false;
    }
    return true;
}

/* 1: a comparison operator was read, 0: none stands here, -1: failed. */
static int read_comparison(struct parser *p, enum op *op)
{
    static const enum op ops[] = {[T_EQ] = OP_EQ, [T_NE] = OP_NE, [T_LT] = OP_LT,
                                  [T_LE] = OP_LE, [T_GT] = OP_GT, [T_GE] = OP_GE};
    if (p->current.kind >= T_EQ && p->current.kind <= T_GE) {
        *op = ops[p->current.kind];
    } else if (parser_at_name(p, "in")) {
        *op = OP_IN;
    } else if (parser_at_name(p, "not")) {
        if (!parser_peek(p))
            return -1;
        if (!token_is(&p->ahead, "in"))
            return 0;
        *op = OP_NOT_IN;
        if (!parser_advance(p))
            return -1;
    } else {
        return 0;
    }
    return parser_advance(p) ? 1 : -1;
}

static bool parse_compare(struct parser *p, struct expr **out)
{
    struct expr *first, *chain = NULL, *value;
    enum op op = 0;
    int read;
    if (!parse_level(p, LEVEL_ADD, &first))
        return false;
    *out = first;
    while ((read = read_comparison(p, &op)) == 1) {
        if (chain == NULL) {
            chain = expr_new(p, E_COMPARE, first->line);
            if (chain == NULL)
                return false;
            chain->first = first;
            *out = chain;
        }
        if (!parse_level(p, LEVEL_ADD, &value) || !push_operand(p, chain, op, value))
            return false;
    }
    return read == 0;
}

static bool parse_not(struct parser *p, struct expr **out)
{
    if (!parser_at_name(p, "not"))
        return parse_compare(p, out);
    struct expr *e = expr_new(p, E_NOT, p->current.line);
    if (e == NULL || !parser_enter(p) || !parser_advance(p) || !parse_not(p, &e->operand))
        return false;
    p->depth--;
    *out = e;
    return true;
}

static bool parse_logic(struct parser *p, bool is_or, struct expr **out)
{
    struct expr *item, *chain = NULL;
    bool more;
    if (!(is_or ? parse_logic(p, false, &item) : parse_not(p, &item)))
        return false;
    *out = item;
    while (parser_at_name(p, is_or ? "or" : "and")) {
        if (chain == NULL) {
            chain = expr_new(p, is_or ? E_OR : E_AND, item->line);
            if (chain == NULL || !push_item(p, chain, item))
                return false;
            *out = chain;
        }
        more = parser_advance(p) && (is_or ? parse_logic(p, false, &item) : parse_not(p, &item)) &&
               push_item(p, chain, item);
        if (!more)
            return false;
    }
    return true;
}

/* value if t1 if t2 … else other: every test must hold; a missing else gives an undefined value. */
static bool parse_cond(struct parser *p, struct expr **out)
{
    struct expr *e = NULL, *test;
    bool more;
    if (!parse_logic(p, true, out))
        return false;
    for (;;) {
        if (!parser_skip_name(p, "if", &more))
            return false;
        if (!more)
            return true;
        if (e == NULL) {
            e = expr_new(p, E_COND, (*out)->line);
            if (e == NULL)
                return false;
            e->yes = *out;
            *out = e;
        }
        if (!parse_logic(p, true, &test) || !parse_grow(p, &e->tests, e->count, sizeof *e->tests))
            return false;
        e->tests[e->count++] = test;
        if (!parser_skip_name(p, "else", &more))
            return false;
        if (more)
            return parse_expression(p, true, &e->no);
    }
}

bool parse_expression(struct parser *p, bool with_cond, struct expr **out)
{
    if (!parser_enter(p) || !(with_cond ? parse_cond(p, out) : parse_logic(p, true, out)))
        return false;
    p->depth--;
    return true;
}
