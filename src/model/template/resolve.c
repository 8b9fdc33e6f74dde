/* resolve.c: binds names to slots, the way Jinja2's compiler scopes them.
 *
 * A template has frames: the root, and one for each loop body, loop filter, loop else, macro, call
 * block, filter block, set block and with. A frame owns a slot for what it assigns (and for what it
 * reads while no outer frame knows the name). When a frame starts, a slot is a copy of the outer
 * variable of that name, or comes from the context, or is empty: empty where the first thing the frame
 * does with the name is to assign it unconditionally. So `{% set %}` inside a loop does not leak, and
 * a name set later hides the context's, exactly as there.
 *
 * Two walks over each frame: collect its names, then bind references and descend into inner frames.
 * Every node is seen once by each. Unknown filters and tests are reported here too, except under an
 * if, where Jinja2 waits until they are called.
 */
#include "model/template/render_internal.h"

struct symbol { /* what the current frame does with a name */
    int stamp;  /* the frame that wrote this record */
    bool stored, param, first_is_sure_store;
};
struct binding {
    struct binding *outer;
    int depth, slot;
};
struct resolver {
    struct parser *p;
    struct symbol *symbols;    /* [n_names] */
    struct binding **bindings; /* [n_names], innermost first */
    int *frame_names;          /* names of the frame being collected */
    int n_frame_names, stamps, stamp, depth, if_depth;
    bool binding; /* second walk */
    bool soft;    /* under an if of the same frame */
};

static bool walk_block(struct resolver *r, const struct block *block);
static bool walk_expr(struct resolver *r, struct expr *e);

enum use { USE_LOAD, USE_STORE, USE_PARAM };

static bool bind_name(struct resolver *r, struct name_ref *ref)
{
    const struct binding *b = r->bindings[ref->name];
    ref->hops = r->depth - b->depth;
    ref->slot = b->slot;
    return true;
}

static bool use_name(struct resolver *r, struct name_ref *ref, enum use use)
{
    if (r->binding)
        return bind_name(r, ref);
    struct symbol *s = &r->symbols[ref->name];
    if (s->stamp != r->stamp) {
        if (use == USE_LOAD && r->bindings[ref->name] != NULL)
            return true; /* an outer frame's variable; a later store still makes a slot */
        *s = (struct symbol){.stamp = r->stamp};
        s->first_is_sure_store = use == USE_STORE && r->if_depth == 0;
        r->frame_names[r->n_frame_names++] = ref->name;
    }
    s->stored |= use != USE_LOAD;
    s->param |= use == USE_PARAM;
    return true;
}

static bool walk_target(struct resolver *r, struct target *t, enum use use)
{
    if (!t->is_tuple)
        return use_name(r, &t->ref, t->attr != NULL ? USE_LOAD : use);
    for (int i = 0; i < t->count; i++)
        if (!walk_target(r, &t->items[i], use))
            return false;
    return true;
}

/* ---- frames ------------------------------------------------------------------------------- */

/* What a frame consists of; unused parts are NULL. */
struct frame_parts {
    struct scope *scope;
    struct target *params;
    int n_params;
    struct name_ref *specials[4]; /* loop, caller, kwargs, varargs where declared */
    struct expr **exprs;          /* defaults, or the loop's test */
    int n_exprs;
    const struct block *body;
};

static bool walk_parts(struct resolver *r, const struct frame_parts *parts)
{
    for (size_t i = 0; i < ARRAY_LEN(parts->specials); i++)
        if (parts->specials[i] != NULL && !use_name(r, parts->specials[i], USE_PARAM))
            return false;
    for (int i = 0; i < parts->n_params; i++)
        if (!walk_target(r, &parts->params[i], USE_PARAM))
            return false;
    for (int i = 0; i < parts->n_exprs; i++)
        if (!walk_expr(r, parts->exprs[i]))
            return false;
    return parts->body == NULL || walk_block(r, parts->body);
}

/* Gives the collected names their slots and says how each slot starts. */
static bool open_frame(struct resolver *r, struct scope *scope, struct binding *bindings)
{
    scope->slots = r->n_frame_names;
    scope->n_starts = 0;
    scope->starts = parse_alloc(r->p, (size_t)r->n_frame_names * sizeof *scope->starts + 1);
    if (scope->starts == NULL)
        return false;
    for (int i = 0; i < r->n_frame_names; i++) {
        int name = r->frame_names[i];
        const struct symbol *s = &r->symbols[name];
        const struct binding *outer = r->bindings[name];
        if (!s->param && (outer != NULL || !s->first_is_sure_store))
            scope->starts[scope->n_starts++] =
                (struct slot_start){.slot = i,
                                    .name = name,
                                    .hops = outer == NULL ? -1 : r->depth - 1 - outer->depth,
                                    .from = outer == NULL ? 0 : outer->slot};
        bindings[i] = (struct binding){.outer = r->bindings[name], .depth = r->depth, .slot = i};
        r->bindings[name] = &bindings[i];
    }
    return true;
}

static bool resolve_frame(struct resolver *r, const struct frame_parts *parts)
{
    struct resolver outer = *r;
    bool ok = false;
    r->frame_names = outer.frame_names + outer.n_frame_names;
    r->n_frame_names = 0;
    r->stamp = ++r->stamps;
    r->depth = outer.depth + 1;
    r->if_depth = 0;
    r->binding = r->soft = false;
    if (!walk_parts(r, parts))
        return false;
    int n = r->n_frame_names;
    int *names = parse_alloc(r->p, (size_t)n * sizeof *names + 1);
    struct binding *bindings = parse_alloc(r->p, (size_t)n * sizeof *bindings + 1);
    if (names != NULL && bindings != NULL && open_frame(r, parts->scope, bindings)) {
        memcpy(names, r->frame_names, (size_t)n * sizeof *names);
        r->binding = true;
        r->n_frame_names = 0; /* inner frames collect into the same room */
        ok = walk_parts(r, parts);
        for (int i = n; i-- > 0;)
            r->bindings[names[i]] = bindings[i].outer;
    }
    int stamps = r->stamps;
    *r = outer;
    r->stamps = stamps;
    return ok;
}

/* ---- expressions -------------------------------------------------------------------------- */

static bool walk_exprs(struct resolver *r, struct expr **items, int count)
{
    for (int i = 0; i < count; i++)
        if (!walk_expr(r, items[i]))
            return false;
    return true;
}

static bool walk_args(struct resolver *r, struct call_args *args)
{
    if (args == NULL)
        return true;
    if (!walk_exprs(r, args->items, args->count))
        return false;
    for (int i = 0; i < args->n_keywords; i++)
        if (!walk_expr(r, args->keywords[i].value))
            return false;
    return walk_expr(r, args->star) && walk_expr(r, args->star_star);
}

static bool walk_steps(struct resolver *r, struct step *steps, int count)
{
    for (int i = 0; i < count; i++) {
        struct step *s = &steps[i];
        if ((s->kind == STEP_FILTER || s->kind == STEP_TEST) && s->builtin == NULL && !r->soft &&
            r->binding)
            return parse_fail(r->p, s->line, "no %s named '%.*s'",
                              s->kind == STEP_FILTER ? "filter" : "test",
                              (int)(s->name->size < 60 ? s->name->size : 60), s->name->data);
        if (!walk_expr(r, s->item) || !walk_args(r, s->args))
            return false;
    }
    return true;
}

static bool walk_cond(struct resolver *r, struct expr *e)
{
    bool soft = r->soft;
    r->soft = true;
    bool ok = walk_exprs(r, e->tests, e->count) && walk_expr(r, e->yes) && walk_expr(r, e->no);
    r->soft = soft;
    return ok;
}

static bool walk_expr(struct resolver *r, struct expr *e)
{
    if (e == NULL)
        return true;
    switch (e->kind) {
    case E_CONST:
        return true;
    case E_NAME:
        return use_name(r, &e->name, USE_LOAD);
    case E_LIST:
    case E_TUPLE:
    case E_DICT:
    case E_CONCAT:
    case E_AND:
    case E_OR:
        return walk_exprs(r, e->items, e->count);
    case E_ARITH:
    case E_COMPARE:
        for (int i = 0; i < e->count; i++)
            if (!walk_expr(r, e->operands[i].value))
                return false;
        return walk_expr(r, e->first);
    case E_NOT:
    case E_NEG:
    case E_POS:
        return walk_expr(r, e->operand);
    case E_COND:
        return walk_cond(r, e);
    case E_SLICE:
        return walk_expr(r, e->start) && walk_expr(r, e->stop) && walk_expr(r, e->step);
    case E_POSTFIX:
        return walk_expr(r, e->first) && walk_steps(r, e->steps, e->count);
    }
    return true;
}

/* ---- statements --------------------------------------------------------------------------- */

static bool walk_if(struct resolver *r, struct stmt *s)
{
    bool soft = r->soft, ok = true;
    r->soft = true;
    for (int i = 0; i < s->branches.count && ok; i++) {
        struct branch *b = &s->branches.branches[i];
        r->if_depth += i > 0; /* the first test is always evaluated, the others perhaps */
        ok = walk_expr(r, b->test);
        r->if_depth += i == 0;
        ok = ok && walk_block(r, &b->body);
        r->if_depth--;
    }
    r->soft = soft;
    return ok;
}

static bool walk_for(struct resolver *r, struct for_stmt *f)
{
    struct frame_parts body = {.scope = &f->scope,
                               .params = &f->target,
                               .n_params = 1,
                               .specials = {&f->loop},
                               .body = &f->body};
    struct frame_parts test = {.scope = &f->test_scope,
                               .params = &f->test_target,
                               .n_params = 1,
                               .exprs = &f->test,
                               .n_exprs = 1};
    struct frame_parts otherwise = {.scope = &f->else_scope, .body = &f->otherwise};
    if (!walk_expr(r, f->iter))
        return false;
    return !r->binding || ((f->test == NULL || resolve_frame(r, &test)) &&
                           resolve_frame(r, &body) && resolve_frame(r, &otherwise));
}

static bool walk_macro(struct resolver *r, struct stmt *s)
{
    struct macro_def *def = s->macro.def;
    struct frame_parts parts = {
        .scope = &def->scope,
        .params = def->params,
        .n_params = def->n_params,
        .specials = {def->uses_caller && !def->caller_is_param ? &def->caller : NULL,
                     def->uses_kwargs ? &def->kwargs : NULL,
                     def->uses_varargs ? &def->varargs : NULL},
        .exprs = def->defaults,
        .n_exprs = def->n_defaults,
        .body = &def->body};
    if (s->kind == S_MACRO ? !use_name(r, &s->macro.ref, USE_STORE) : !walk_expr(r, s->macro.call))
        return false;
    return !r->binding || resolve_frame(r, &parts);
}

static bool walk_with(struct resolver *r, struct with_stmt *w)
{
    struct frame_parts parts = {
        .scope = &w->scope, .params = w->targets, .n_params = w->count, .body = &w->body};
    return walk_exprs(r, w->values, w->count) && (!r->binding || resolve_frame(r, &parts));
}

static bool walk_body(struct resolver *r, struct stmt *s)
{
    struct body_stmt *b = s->body;
    struct frame_parts parts = {.scope = &b->scope, .body = &b->body};
    if (s->kind == S_SET_BLOCK && !walk_target(r, &b->target, USE_STORE))
        return false;
    return walk_steps(r, b->filters, b->n_filters) && (!r->binding || resolve_frame(r, &parts));
}

static bool walk_stmt(struct resolver *r, struct stmt *s)
{
    switch (s->kind) {
    case S_PRINT:
        return walk_exprs(r, s->print.items, s->print.count);
    case S_IF:
        return walk_if(r, s);
    case S_FOR:
        return walk_for(r, s->loop);
    case S_SET:
        return walk_expr(r, s->set.value) && walk_target(r, &s->set.target, USE_STORE);
    case S_MACRO:
    case S_CALL:
        return walk_macro(r, s);
    case S_WITH:
        return walk_with(r, s->with);
    case S_SET_BLOCK:
    case S_FILTER:
    case S_GENERATION:
        return walk_body(r, s);
    case S_TEXT:
    case S_BREAK:
    case S_CONTINUE:
        break;
    }
    return true;
}

static bool walk_block(struct resolver *r, const struct block *block)
{
    for (int i = 0; i < block->count; i++)
        if (!walk_stmt(r, block->items[i]))
            return false;
    return true;
}

bool resolve_names(struct parser *p)
{
    struct chat_template *t = p->t;
    size_t n = (size_t)t->n_names;
    struct resolver r = {.p = p, .depth = -1};
    struct frame_parts root = {.scope = &t->scope, .body = &t->body};
    r.symbols = parse_alloc(p, n * sizeof *r.symbols + 1);
    r.bindings = parse_alloc(p, n * sizeof(struct binding *) + 1);
    r.frame_names = parse_alloc(p, n * sizeof *r.frame_names + 1);
    return r.symbols != NULL && r.bindings != NULL && r.frame_names != NULL &&
           resolve_frame(&r, &root);
}
