/* tests.c: what may follow `is`. */
#include "model/template/render_internal.h"

#include <math.h>

static bool answer(struct value *out, bool b)
{
    *out = v_bool(b);
    return true;
}

static bool modulo(struct rt *rt, struct value a, struct value b, int64_t wanted, struct value *out)
{
    struct value rest;
    bool same;
    if (!arith(rt, OP_MOD, a, b, &rest) || !value_equal(rt, rest, v_int(wanted), &same))
        return false;
    return answer(out, same);
}

static bool test_odd(struct rt *rt, struct call *c, struct value *out)
{
    return modulo(rt, c->self, v_int(2), 1, out);
}

static bool test_even(struct rt *rt, struct call *c, struct value *out)
{
    return modulo(rt, c->self, v_int(2), 0, out);
}

static bool test_divisibleby(struct rt *rt, struct call *c, struct value *out)
{
    return modulo(rt, c->self, c->arg[0], 0, out);
}

static bool test_defined(struct rt *rt, struct call *c, struct value *out)
{
    (void)rt;
    return answer(out, c->self.kind != V_UNDEFINED);
}

static bool test_undefined(struct rt *rt, struct call *c, struct value *out)
{
    (void)rt;
    return answer(out, c->self.kind == V_UNDEFINED);
}

static bool test_filter(struct rt *rt, struct call *c, struct value *out)
{
    (void)rt;
    return answer(out, c->self.kind == V_STR && filter_find(c->self.s->data, c->self.s->size));
}

static bool test_test(struct rt *rt, struct call *c, struct value *out)
{
    (void)rt;
    return answer(out, c->self.kind == V_STR && test_find(c->self.s->data, c->self.s->size));
}

static bool test_none(struct rt *rt, struct call *c, struct value *out)
{
    (void)rt;
    return answer(out, c->self.kind == V_NONE);
}

static bool test_boolean(struct rt *rt, struct call *c, struct value *out)
{
    (void)rt;
    return answer(out, c->self.kind == V_BOOL);
}

static bool test_true(struct rt *rt, struct call *c, struct value *out)
{
    (void)rt;
    return answer(out, c->self.kind == V_BOOL && c->self.b);
}

static bool test_false(struct rt *rt, struct call *c, struct value *out)
{
    (void)rt;
    return answer(out, c->self.kind == V_BOOL && !c->self.b);
}

static bool test_integer(struct rt *rt, struct call *c, struct value *out)
{
    (void)rt;
    return answer(out, c->self.kind == V_INT);
}

static bool test_float(struct rt *rt, struct call *c, struct value *out)
{
    (void)rt;
    return answer(out, c->self.kind == V_FLOAT);
}

static bool test_number(struct rt *rt, struct call *c, struct value *out)
{
    (void)rt;
    return answer(out, is_number(c->self));
}

static bool test_string(struct rt *rt, struct call *c, struct value *out)
{
    (void)rt;
    return answer(out, c->self.kind == V_STR);
}

static bool test_mapping(struct rt *rt, struct call *c, struct value *out)
{
    (void)rt;
    return answer(out, c->self.kind == V_DICT);
}

static bool test_sequence(struct rt *rt, struct call *c, struct value *out)
{
    size_t n;
    (void)rt;
    return answer(out, c->self.kind != V_VIEW && value_length(c->self, &n));
}

static bool test_iterable(struct rt *rt, struct call *c, struct value *out)
{
    (void)rt;
    return answer(out, is_iterable(c->self) || c->self.kind == V_LOOP);
}

static bool test_callable(struct rt *rt, struct call *c, struct value *out)
{
    (void)rt;
    switch (c->self.kind) {
    case V_UNDEFINED: /* it has __call__, which fails */
    case V_MACRO:
    case V_LOOP:
    case V_JOINER:
    case V_GLOBAL:
    case V_METHOD:
        return answer(out, true);
    default:
        return answer(out, false);
    }
}

static bool case_of(struct rt *rt, struct call *c, bool upper, struct value *out)
{
    struct value text;
    return to_str(rt, c->self, &text) && spend_bytes(rt, text.s->size) &&
           answer(out, case_test(text.s, upper));
}

static bool test_lower(struct rt *rt, struct call *c, struct value *out)
{
    return case_of(rt, c, false, out);
}

static bool test_upper(struct rt *rt, struct call *c, struct value *out)
{
    return case_of(rt, c, true, out);
}

static bool test_escaped(struct rt *rt, struct call *c, struct value *out)
{
    (void)rt;
    return answer(out, c->self.kind == V_STR && c->self.s->safe);
}

/* The same object; here: the same kind and value, or the same reference. */
static bool test_sameas(struct rt *rt, struct call *c, struct value *out)
{
    struct value a = c->self, b = c->arg[0];
    bool same = a.kind == b.kind;
    switch (a.kind) {
    case V_NONE:
        return answer(out, same);
    case V_BOOL:
    case V_INT:
    case V_FLOAT:
        return (!same || value_equal(rt, a, b, &same)) && answer(out, same);
    case V_STR: /* CPython shares equal constants */
        return (!same || value_equal(rt, a, b, &same)) && answer(out, same);
    default:
        return answer(out, same && a.list == b.list);
    }
}

static bool test_in(struct rt *rt, struct call *c, struct value *out)
{
    *out = v_bool(false);
    return value_contains(rt, c->arg[0], c->self, &out->b);
}

static bool test_eq(struct rt *rt, struct call *c, struct value *out)
{
    *out = v_bool(false);
    return value_equal(rt, c->self, c->arg[0], &out->b);
}

static bool test_ne(struct rt *rt, struct call *c, struct value *out)
{
    bool same;
    return value_equal(rt, c->self, c->arg[0], &same) && answer(out, !same);
}

static bool by_order(struct rt *rt, struct call *c, enum order op, struct value *out)
{
    *out = v_bool(false);
    return value_order(rt, c->self, c->arg[0], op, &out->b);
}

static bool test_lt(struct rt *rt, struct call *c, struct value *out)
{
    return by_order(rt, c, ORDER_LT, out);
}

static bool test_le(struct rt *rt, struct call *c, struct value *out)
{
    return by_order(rt, c, ORDER_LE, out);
}

static bool test_gt(struct rt *rt, struct call *c, struct value *out)
{
    return by_order(rt, c, ORDER_GT, out);
}

static bool test_ge(struct rt *rt, struct call *c, struct value *out)
{
    return by_order(rt, c, ORDER_GE, out);
}

static const struct builtin tests[] = {{"odd", "", test_odd},
                                       {"even", "", test_even},
                                       {"divisibleby", "num", test_divisibleby},
                                       {"defined", "", test_defined},
                                       {"undefined", "", test_undefined},
                                       {"filter", "", test_filter},
                                       {"test", "", test_test},
                                       {"none", "", test_none},
                                       {"boolean", "", test_boolean},
                                       {"true", "", test_true},
                                       {"false", "", test_false},
                                       {"integer", "", test_integer},
                                       {"float", "", test_float},
                                       {"number", "", test_number},
                                       {"string", "", test_string},
                                       {"mapping", "", test_mapping},
                                       {"sequence", "", test_sequence},
                                       {"iterable", "", test_iterable},
                                       {"callable", "", test_callable},
                                       {"lower", "", test_lower},
                                       {"upper", "", test_upper},
                                       {"escaped", "", test_escaped},
                                       {"sameas", "other", test_sameas},
                                       {"in", "seq", test_in},
                                       {"==", "/b", test_eq},
                                       {"eq", "/b", test_eq},
                                       {"equalto", "/b", test_eq},
                                       {"!=", "/b", test_ne},
                                       {"ne", "/b", test_ne},
                                       {">", "/b", test_gt},
                                       {"gt", "/b", test_gt},
                                       {"greaterthan", "/b", test_gt},
                                       {">=", "/b", test_ge},
                                       {"ge", "/b", test_ge},
                                       {"<", "/b", test_lt},
                                       {"lt", "/b", test_lt},
                                       {"lessthan", "/b", test_lt},
                                       {"<=", "/b", test_le},
                                       {"le", "/b", test_le},
                                       {NULL, NULL, NULL}};

const struct builtin *test_find(const char *name, size_t size)
{
    return builtin_find(tests, name, size);
}
