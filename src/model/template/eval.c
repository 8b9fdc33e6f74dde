/* eval.c: expressions to values.
 *
 * One recursive function over the tree; depth and steps are charged at every node that has parts.
 * The line of the innermost node being evaluated is what an error names.
 */
#include "model/template/render_internal.h"

bool rt_enter(struct rt *rt)
{
    if (!spend(rt, 1))
        return false;
    if (++rt->depth <= rt->depth_limit)
        return true;
    return fail(rt, GRAFT_LIMIT, "nested too deep");
}

static bool eval_name(struct rt *rt, struct frame *frame, const struct name_ref *ref,
                      struct value *out)
{
    for (int i = 0; i < ref->hops; i++)
        frame = frame->outer;
    *out = frame->slots[ref->slot];
    return out->kind != V_MISSING || undefined_name(rt, rt->t->names[ref->name], out);
}

static bool eval_items(struct rt *rt, struct frame *frame, const struct expr *e, struct value *out)
{
    struct value item;
    if (!list_new(rt, e->kind == E_LIST ? V_LIST : V_TUPLE, (size_t)e->count, out))
        return false;
    for (int i = 0; i < e->count; i++)
        if (!eval(rt, frame, e->items[i], &item) || !list_push(rt, out->list, item))
            return false;
    return true;
}

static bool eval_dict(struct rt *rt, struct frame *frame, const struct expr *e, struct value *out)
{
    struct value key, item;
    if (!dict_new(rt, V_DICT, out))
        return false;
    for (int i = 0; i < e->count; i += 2)
        if (!eval(rt, frame, e->items[i], &key) || !eval(rt, frame, e->items[i + 1], &item) ||
            !dict_put(rt, out->dict, key, item))
            return false;
    return true;
}

static bool eval_concat(struct rt *rt, struct frame *frame, const struct expr *e, struct value *out)
{
    struct value item, text;
    for (int i = 0; i < e->count; i++) {
        if (!eval(rt, frame, e->items[i], &item) || !to_str(rt, item, &text))
            return false;
        if (i == 0)
            *out = text;
        else if (!str_concat(rt, out->s, text.s, out))
            return false;
    }
    return true;
}

static bool eval_logic(struct rt *rt, struct frame *frame, const struct expr *e, struct value *out)
{
    for (int i = 0; i < e->count; i++) {
        if (!eval(rt, frame, e->items[i], out))
            return false;
        if (truth(*out) == (e->kind == E_OR))
            break;
    }
    return true;
}

static bool eval_arith(struct rt *rt, struct frame *frame, const struct expr *e, struct value *out)
{
    struct value right;
    if (!eval(rt, frame, e->first, out))
        return false;
    for (int i = 0; i < e->count; i++)
        if (!eval(rt, frame, e->operands[i].value, &right) || !spend(rt, 1) ||
            !arith(rt, e->operands[i].op, *out, right, out))
            return false;
    return true;
}

static bool compare(struct rt *rt, enum op op, struct value a, struct value b, bool *out)
{
    switch (op) {
    case OP_EQ:
        return value_equal(rt, a, b, out);
    case OP_NE:
        if (!value_equal(rt, a, b, out))
            return false;
        *out = !*out;
        return true;
    case OP_IN:
        return value_contains(rt, b, a, out);
    case OP_NOT_IN:
        if (!value_contains(rt, b, a, out))
            return false;
        *out = !*out;
        return true;
    case OP_LT:
        return value_order(rt, a, b, ORDER_LT, out);
    case OP_LE:
        return value_order(rt, a, b, ORDER_LE, out);
    case OP_GT:
        return value_order(rt, a, b, ORDER_GT, out);
    default:
        return value_order(rt, a, b, ORDER_GE, out);
    }
}

static bool eval_compare(struct rt *rt, struct frame *frame, const struct expr *e,
                         struct value *out)
{
    struct value left, right;
    bool holds = true;
    if (!eval(rt, frame, e->first, &left))
        return false;
    for (int i = 0; i < e->count && holds; i++) {
        if (!eval(rt, frame, e->operands[i].value, &right) || !spend(rt, 1) ||
            !compare(rt, e->operands[i].op, left, right, &holds))
            return false;
        left = right;
    }
    *out = v_bool(holds);
    return true;
}

static bool eval_cond(struct rt *rt, struct frame *frame, const struct expr *e, struct value *out)
{
    struct value test;
    for (int i = e->count; i-- > 0;) {
        if (!eval(rt, frame, e->tests[i], &test))
            return false;
        if (truth(test))
            continue;
        if (e->no != NULL && i == e->count - 1)
            return eval(rt, frame, e->no, out);
        return undefined_hint(rt, "the inline if has no else", out);
    }
    return eval(rt, frame, e->yes, out);
}

static bool eval_unary(struct rt *rt, struct frame *frame, const struct expr *e, struct value *out)
{
    if (!eval(rt, frame, e->operand, out))
        return false;
    if (e->kind != E_NOT)
        return negate(rt, *out, e->kind == E_POS, out);
    *out = v_bool(!truth(*out));
    return true;
}

/* ---- calls and postfix chains ------------------------------------------------------------- */

static bool push_keyword(struct rt *rt, struct args *args, size_t *capacity, struct kwarg keyword)
{
    for (size_t i = 0; i < args->n_keywords; i++)
        if (args->keywords[i].name->size == keyword.name->size &&
            memcmp(args->keywords[i].name->data, keyword.name->data, keyword.name->size) == 0)
            return fail(rt, GRAFT_FORMAT, "a keyword argument is given twice");
    if (!spend(rt, 1 + args->n_keywords / 16))
        return false;
    if (args->n_keywords == *capacity) {
        *capacity = *capacity == 0 ? 4 : 2 * *capacity;
        struct kwarg *keywords = rt_alloc(rt, *capacity * sizeof *keywords);
        if (keywords == NULL)
            return false;
        if (args->n_keywords > 0)
            memcpy(keywords, args->keywords, args->n_keywords * sizeof *keywords);
        args->keywords = keywords;
    }
    args->keywords[args->n_keywords++] = keyword;
    return true;
}

static bool spread_positional(struct rt *rt, struct value v, struct list *items)
{
    struct iter it;
    struct value item;
    int more;
    if (!iter_begin(rt, v, &it))
        return false;
    while ((more = iter_next(rt, &it, &item)) == 1)
        if (!list_push(rt, items, item))
            return false;
    return more == 0;
}

static bool spread_keywords(struct rt *rt, struct value v, struct args *args, size_t *capacity)
{
    if (v.kind != V_DICT)
        return fail(rt, GRAFT_FORMAT, "argument after ** must be a mapping, not %s", type_name(v));
    for (size_t i = 0; i < v.dict->count; i++) {
        struct dict_entry *entry = &v.dict->entries[i];
        if (entry->key.kind != V_STR)
            return fail(rt, GRAFT_FORMAT, "keywords must be strings");
        if (!push_keyword(rt, args, capacity, (struct kwarg){entry->key.s, entry->value}))
            return false;
    }
    return true;
}

bool eval_args(struct rt *rt, struct frame *frame, const struct call_args *args,
               const struct kwarg *extra, struct args *out)
{
    struct value list, v;
    size_t capacity = 0;
    *out = (struct args){0};
    if (args == NULL)
        return true;
    if (!list_new(rt, V_LIST, (size_t)args->count, &list))
        return false;
    for (int i = 0; i < args->count; i++)
        if (!eval(rt, frame, args->items[i], &v) || !list_push(rt, list.list, v))
            return false;
    for (int i = 0; i < args->n_keywords; i++)
        if (!eval(rt, frame, args->keywords[i].value, &v) ||
            !push_keyword(rt, out, &capacity, (struct kwarg){args->keywords[i].name, v}))
            return false;
    if (extra != NULL && !push_keyword(rt, out, &capacity, *extra))
        return false;
    if (args->star != NULL &&
        (!eval(rt, frame, args->star, &v) || !spread_positional(rt, v, list.list)))
        return false;
    if (args->star_star != NULL &&
        (!eval(rt, frame, args->star_star, &v) || !spread_keywords(rt, v, out, &capacity)))
        return false;
    out->items = list.list->items;
    out->count = list.list->count;
    return true;
}

static bool eval_item(struct rt *rt, struct frame *frame, const struct expr *key, struct value *v)
{
    const struct value missing = {.kind = V_MISSING};
    struct value bounds[3] = {missing, missing, missing};
    if (key->kind != E_SLICE) {
        struct value k;
        return eval(rt, frame, key, &k) && get_item(rt, *v, k, v);
    }
    if ((key->start != NULL && !eval(rt, frame, key->start, &bounds[0])) ||
        (key->stop != NULL && !eval(rt, frame, key->stop, &bounds[1])) ||
        (key->step != NULL && !eval(rt, frame, key->step, &bounds[2])))
        return false;
    return get_slice(rt, *v, bounds, v);
}

/* A filter or a test applied to *v. */
static bool apply_builtin(struct rt *rt, struct frame *frame, const struct step *step,
                          struct value *v)
{
    struct args args;
    if (step->builtin == NULL)
        return fail(rt, GRAFT_FORMAT, "no %s named '%.*s'",
                    step->kind == STEP_FILTER ? "filter" : "test",
                    (int)(step->name->size < 60 ? step->name->size : 60), step->name->data);
    if (!eval_args(rt, frame, step->args, NULL, &args))
        return false;
    rt->line = step->line;
    if (!call_builtin(rt, step->builtin, *v, &args, v))
        return false;
    if (step->kind == STEP_TEST && step->negated)
        *v = v_bool(!truth(*v));
    return true;
}

bool apply_steps(struct rt *rt, struct frame *frame, const struct step *steps, int count,
                 struct value *v)
{
    for (int i = 0; i < count; i++) {
        const struct step *step = &steps[i];
        struct args args;
        bool ok = spend(rt, 1);
        rt->line = step->line;
        switch (step->kind) {
        case STEP_ATTR:
            ok = ok && get_attr(rt, *v, step->name, v);
            break;
        case STEP_ITEM:
            ok = ok && eval_item(rt, frame, step->item, v);
            break;
        case STEP_CALL:
            ok = ok && eval_args(rt, frame, step->args, NULL, &args) &&
                 (rt->line = step->line, call_value(rt, *v, &args, v));
            break;
        case STEP_FILTER:
        case STEP_TEST:
            ok = ok && apply_builtin(rt, frame, step, v);
            break;
        }
        if (!ok)
            return false;
    }
    return true;
}

static bool eval_inner(struct rt *rt, struct frame *frame, const struct expr *e, struct value *out)
{
    switch (e->kind) {
    case E_LIST:
    case E_TUPLE:
        return eval_items(rt, frame, e, out);
    case E_DICT:
        return eval_dict(rt, frame, e, out);
    case E_CONCAT:
        return eval_concat(rt, frame, e, out);
    case E_AND:
    case E_OR:
        return eval_logic(rt, frame, e, out);
    case E_ARITH:
        return eval_arith(rt, frame, e, out);
    case E_COMPARE:
        return eval_compare(rt, frame, e, out);
    case E_NOT:
    case E_NEG:
    case E_POS:
        return eval_unary(rt, frame, e, out);
    case E_COND:
        return eval_cond(rt, frame, e, out);
    case E_POSTFIX:
        return eval(rt, frame, e->first, out) && apply_steps(rt, frame, e->steps, e->count, out);
    default: /* a slice among several subscripts */
        return fail(rt, GRAFT_FORMAT, "a slice cannot stand here");
    }
}

bool eval(struct rt *rt, struct frame *frame, const struct expr *e, struct value *out)
{
    struct value v;
    rt->line = e->line;
    if (e->kind == E_CONST) {
        *out = e->constant;
        return true;
    }
    if (e->kind == E_NAME)
        return eval_name(rt, frame, &e->name, out);
    if (!rt_enter(rt) || !eval_inner(rt, frame, e, &v))
        return false;
    rt->depth--;
    *out = v;
    return true;
}
