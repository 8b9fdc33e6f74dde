/* call.c: calling things: builtins by their parameter line, macros, bound methods, cyclers, loops. */
#include "model/template/render_internal.h"

const struct builtin *builtin_find(const struct builtin *table, const char *name, size_t size)
{
    for (; table->name != NULL; table++)
        if (strlen(table->name) == size && memcmp(table->name, name, size) == 0)
            return table;
    return NULL;
}

/* ---- arguments ---------------------------------------------------------------------------- */

bool arg_int(struct rt *rt, struct value v, int64_t missing, int64_t *out)
{
    *out = missing;
    if (v.kind == V_MISSING || v.kind == V_NONE)
        return true;
    if (v.kind == V_UNDEFINED)
        return fail_undefined(rt, v);
    if (!is_integer(v))
        return fail(rt, GRAFT_FORMAT, "'%s' object cannot be interpreted as an integer",
                    type_name(v));
    *out = as_integer(v);
    return true;
}

bool arg_bool(struct value v, bool missing)
{
    return v.kind == V_MISSING ? missing : truth(v);
}

bool arg_str(struct rt *rt, struct value v, const char *what, struct str **out)
{
    if (v.kind != V_STR)
        return fail(rt, GRAFT_FORMAT, "%s must be str, not %s", what, type_name(v));
    *out = v.s;
    return true;
}

struct param {
    const char *name;
    size_t size;
    bool optional;
};

/* Splits "a b? c?" into parameters. */
static int read_params(const char *text, struct param params[MAX_PARAMS])
{
    int n = 0;
    while (*text != 0 && n < MAX_PARAMS) {
        size_t size = strcspn(text, " ");
        bool optional = text[size - 1] == '?';
        params[n++] = (struct param){text, size - optional, optional};
        text += size;
        text += *text == ' ';
    }
    return n;
}

static bool bind_keyword(struct rt *rt, const struct builtin *b, const struct param *params, int n,
                         const struct kwarg *keyword, struct call *call)
{
    for (int i = 0; i < n; i++) {
        if (params[i].size != keyword->name->size ||
            memcmp(params[i].name, keyword->name->data, params[i].size) != 0)
            continue;
        if (call->arg[i].kind != V_MISSING)
            return fail(rt, GRAFT_FORMAT, "%s() got two values for argument '%.*s'", b->name,
                        (int)params[i].size, params[i].name);
        call->arg[i] = keyword->value;
        return true;
    }
    return fail(rt, GRAFT_FORMAT, "%s() got an unexpected keyword argument '%.*s'", b->name,
                (int)(keyword->name->size < 60 ? keyword->name->size : 60), keyword->name->data);
}

static bool bind_args(struct rt *rt, const struct builtin *b, const struct args *args,
                      struct call *call)
{
    struct param params[MAX_PARAMS];
    bool positional = b->params[0] == '/';
    int n = read_params(b->params + positional, params);
    if (args->count > (size_t)n)
        return fail(rt, GRAFT_FORMAT, "%s() takes at most %d arguments (%zu given)", b->name, n,
                    args->count);
    for (size_t i = 0; i < args->count; i++)
        call->arg[i] = args->items[i];
    if (positional && args->n_keywords > 0)
        return fail(rt, GRAFT_FORMAT, "%s() takes no keyword arguments", b->name);
    for (size_t i = 0; i < args->n_keywords; i++)
        if (!bind_keyword(rt, b, params, n, &args->keywords[i], call))
            return false;
    for (int i = 0; i < n; i++)
        if (!params[i].optional && call->arg[i].kind == V_MISSING)
            return fail(rt, GRAFT_FORMAT, "%s() misses the argument '%.*s'", b->name,
                        (int)params[i].size, params[i].name);
    return true;
}

bool call_builtin(struct rt *rt, const struct builtin *b, struct value self,
                  const struct args *args, struct value *out)
{
    struct call call = {.self = self, .args = args};
    struct value result;
    if (!spend(rt, 1) || (strcmp(b->params, "*") != 0 && !bind_args(rt, b, args, &call)) ||
        !b->fn(rt, &call, &result))
        return false;
    *out = result;
    return true;
}

/* ---- macros ------------------------------------------------------------------------------- */

static struct value take_keyword(const struct args *args, const struct str *name, bool *used)
{
    for (size_t i = 0; i < args->n_keywords; i++) {
        const struct str *k = args->keywords[i].name;
        if (!used[i] && k->size == name->size && memcmp(k->data, name->data, k->size) == 0) {
            used[i] = true;
            return args->keywords[i].value;
        }
    }
    return (struct value){.kind = V_MISSING};
}

/* Keywords that no parameter took: into kwargs, or an error. */
static bool rest_keywords(struct rt *rt, const struct macro_def *def, const struct args *args,
                          const bool *used, struct value *out)
{
    if (!dict_new(rt, V_DICT, out))
        return false;
    for (size_t i = 0; i < args->n_keywords; i++) {
        struct kwarg *k = &args->keywords[i];
        if (used[i])
            continue;
        if (!def->uses_kwargs)
            return fail(rt, GRAFT_FORMAT, "the macro takes no keyword argument '%.*s'",
                        (int)(k->name->size < 60 ? k->name->size : 60), k->name->data);
        if (!dict_put(rt, out->dict, v_str(k->name), k->value))
            return false;
    }
    return true;
}

static bool special_arguments(struct rt *rt, const struct macro_def *def, const struct args *args,
                              bool *used, struct frame *frame)
{
    struct value v;
    size_t n = (size_t)def->n_params;
    if (def->uses_caller && !def->caller_is_param) {
        v = take_keyword(args, rt->t->names[def->caller.name], used);
        if ((v.kind == V_MISSING || v.kind == V_NONE) &&
            !undefined_hint(rt, "no caller defined", &v))
            return false;
        frame->slots[def->caller.slot] = v;
    }
    if (!rest_keywords(rt, def, args, used, &v))
        return false;
    if (def->uses_kwargs)
        frame->slots[def->kwargs.slot] = v;
    if (args->count > n && !def->uses_varargs)
        return fail(rt, GRAFT_FORMAT, "the macro takes not more than %zu arguments", n);
    if (!def->uses_varargs)
        return true;
    if (!list_new(rt, V_TUPLE, 0, &v))
        return false;
    for (size_t i = n; i < args->count; i++)
        if (!list_push(rt, v.list, args->items[i]))
            return false;
    frame->slots[def->varargs.slot] = v;
    return true;
}

/* Parameters not given take their defaults, which see the parameters before them. */
static bool fill_parameters(struct rt *rt, const struct macro_def *def, const struct args *args,
                            bool *used, struct frame *frame)
{
    for (int i = 0; i < def->n_params; i++) {
        const struct name_ref *ref = &def->params[i].ref;
        frame->slots[ref->slot] = (size_t)i < args->count
                                      ? args->items[i]
                                      : take_keyword(args, rt->t->names[ref->name], used);
    }
    if (!special_arguments(rt, def, args, used, frame))
        return false;
    for (int i = 0; i < def->n_params; i++) {
        struct value *slot = &frame->slots[def->params[i].ref.slot];
        int from_end = i - (def->n_params - def->n_defaults);
        if (slot->kind != V_MISSING)
            continue;
        if (from_end >= 0 ? !eval(rt, frame, def->defaults[from_end], slot)
                          : !undefined_hint(rt, "a parameter of the macro was not provided", slot))
            return false;
    }
    return true;
}

static bool call_macro(struct rt *rt, const struct macro *macro, const struct args *args,
                       struct value *out)
{
    const struct macro_def *def = macro->def;
    struct frame *frame = frame_new(rt, &def->scope, macro->frame);
    bool *used = frame == NULL ? NULL : rt_alloc(rt, args->n_keywords);
    size_t mark = rt->out.size;
    enum flow flow;
    int line = rt->line;
    if (used == NULL)
        return false;
    if (args->n_keywords > 0)
        memset(used, 0, args->n_keywords);
    if (!spend(rt, args->n_keywords) || !rt_enter(rt) ||
        !fill_parameters(rt, def, args, used, frame))
        return false;
    if (!exec_block(rt, frame, &def->body, &flow))
        return false;
    rt->depth--;
    rt->line = line;
    return str_capture(rt, mark, out);
}

/* ---- anything that can be called ---------------------------------------------------------- */

static bool call_joiner(struct rt *rt, struct joiner *joiner, struct value *out)
{
    bool first = !joiner->used;
    joiner->used = true;
    if (first)
        return str_literal(rt, "", out);
    *out = v_str(joiner->separator);
    return true;
}

bool call_value(struct rt *rt, struct value callee, const struct args *args, struct value *out)
{
    switch (callee.kind) {
    case V_UNDEFINED:
        return fail_undefined(rt, callee);
    case V_MACRO:
        return call_macro(rt, callee.macro, args, out);
    case V_METHOD:
        return call_builtin(rt, callee.method->builtin, callee.method->self, args, out);
    case V_GLOBAL:
        return call_builtin(rt, callee.global, v_none(), args, out);
    case V_LOOP:
        return call_loop(rt, callee.loop, args, out);
    case V_JOINER:
        if (args->count + args->n_keywords > 0)
            return fail(rt, GRAFT_FORMAT, "a joiner takes no arguments");
        return call_joiner(rt, callee.joiner, out);
    default:
        return fail(rt, GRAFT_FORMAT, "'%s' object is not callable", type_name(callee));
    }
}
