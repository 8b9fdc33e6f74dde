/* arith.c: the arithmetic operators, with Python's meaning.
 *
 * Integers have 64 bits and overflow is an error (Python's have no end). / always gives a double, //
 * and % round towards minus infinity, + joins strings and lists, * repeats them, % formats.
 */
#include "model/template/render_internal.h"

#include <math.h>

static bool overflow(struct rt *rt)
{
    return fail(rt, GRAFT_FORMAT, "integer overflow");
}

static bool int_power(struct rt *rt, int64_t base, int64_t exponent, struct value *out)
{
    int64_t result = 1;
    if (exponent < 0) {
        if (base == 0)
            return fail(rt, GRAFT_FORMAT, "0 cannot be raised to a negative power");
        *out = v_float(pow((double)base, (double)exponent));
        return true;
    }
    for (;; exponent /= 2) {
        if (exponent % 2 == 1 && __builtin_mul_overflow(result, base, &result))
            return overflow(rt);
        if (exponent < 2)
            break;
        if (__builtin_mul_overflow(base, base, &base))
            return overflow(rt);
    }
    *out = v_int(result);
    return true;
}

static bool int_arith(struct rt *rt, enum op op, int64_t a, int64_t b, struct value *out)
{
    int64_t r = 0;
    if ((op == OP_DIV || op == OP_FLOORDIV || op == OP_MOD) && b == 0)
        return fail(rt, GRAFT_FORMAT, "division by zero");
    switch (op) {
    case OP_ADD:
        if (__builtin_add_overflow(a, b, &r))
            return overflow(rt);
        break;
    case OP_SUB:
        if (__builtin_sub_overflow(a, b, &r))
            return overflow(rt);
        break;
    case OP_MUL:
        if (__builtin_mul_overflow(a, b, &r))
            return overflow(rt);
        break;
    case OP_DIV:
        *out = v_float((double)a / (double)b);
        return true;
    case OP_FLOORDIV:
        if (a == INT64_MIN && b == -1)
            return overflow(rt);
        r = a / b - (a % b != 0 && (a < 0) != (b < 0));
        break;
    case OP_MOD:
        r = b == -1 ? 0 : a % b;
        if (r != 0 && (r < 0) != (b < 0))
            r += b;
        break;
    default:
        return int_power(rt, a, b, out);
    }
    *out = v_int(r);
    return true;
}

/* Python's float // and %: the remainder has the sign of the divisor. */
static double float_mod(double a, double b, double *quotient)
{
    double mod = fmod(a, b), div = (a - mod) / b;
    if (mod != 0) {
        if ((b < 0) != (mod < 0)) {
            mod += b;
            div -= 1;
        }
    } else {
        mod = copysign(0.0, b);
    }
    if (div != 0) {
        *quotient = floor(div);
        if (div - *quotient > 0.5)
            *quotient += 1;
    } else {
        *quotient = copysign(0.0, a / b);
    }
    return mod;
}

static bool float_power(struct rt *rt, double a, double b, struct value *out)
{
    if (a == 0 && b < 0)
        return fail(rt, GRAFT_FORMAT, "0.0 cannot be raised to a negative power");
    if (a < 0 && isfinite(a) && isfinite(b) && b != floor(b))
        return fail(rt, GRAFT_FORMAT, "complex numbers are not supported");
    double r = pow(a, b);
    if (isinf(r) && isfinite(a) && isfinite(b))
        return fail(rt, GRAFT_FORMAT, "result too large");
    *out = v_float(r);
    return true;
}

static bool float_arith(struct rt *rt, enum op op, double a, double b, struct value *out)
{
    double quotient, mod;
    if ((op == OP_DIV || op == OP_FLOORDIV || op == OP_MOD) && b == 0)
        return fail(rt, GRAFT_FORMAT, "division by zero");
    switch (op) {
    case OP_ADD:
        *out = v_float(a + b);
        return true;
    case OP_SUB:
        *out = v_float(a - b);
        return true;
    case OP_MUL:
        *out = v_float(a * b);
        return true;
    case OP_DIV:
        *out = v_float(a / b);
        return true;
    case OP_FLOORDIV:
    case OP_MOD:
        mod = float_mod(a, b, &quotient);
        *out = v_float(op == OP_MOD ? mod : quotient);
        return true;
    default:
        return float_power(rt, a, b, out);
    }
}

/* ---- sequences ---------------------------------------------------------------------------- */

static bool add_strings(struct rt *rt, struct value a, struct value b, struct value *out)
{
    bool safe = a.s->safe || b.s->safe;
    if (safe && (!escape_html(rt, a, &a) || !escape_html(rt, b, &b)))
        return false;
    return str_concat(rt, a.s, b.s, out) && str_mark(rt, safe, out);
}

static bool add_lists(struct rt *rt, struct value a, struct value b, struct value *out)
{
    size_t n = a.list->count, m = b.list->count;
    if (!spend(rt, (n + m) / 8) || !list_new(rt, a.kind, n + m, out))
        return false;
    if (n > 0)
        memcpy(out->list->items, a.list->items, n * sizeof(struct value));
    if (m > 0)
        memcpy(out->list->items + n, b.list->items, m * sizeof(struct value));
    out->list->count = n + m;
    return true;
}

static bool repeat_string(struct rt *rt, struct str *s, size_t times, struct value *out)
{
    size_t size;
    char *data;
    if (!size_mul(s->size, times, &size) || size > rt->arena.limit)
        return fail(rt, GRAFT_LIMIT, "needs too much memory");
    if (!str_alloc(rt, size, &data, out))
        return false;
    if (s->size == 1) {
        memset(data, s->data[0], size);
    } else {
        for (size_t i = 0; i < size; i += s->size)
            memcpy(data + i, s->data, s->size);
    }
    out->s->safe = s->safe;
    return true;
}

static bool repeat_list(struct rt *rt, struct value v, size_t times, struct value *out)
{
    size_t count;
    if (!size_mul(v.list->count, times, &count) || count > rt->arena.limit)
        return fail(rt, GRAFT_LIMIT, "needs too much memory");
    if (!spend(rt, count) || !list_new(rt, v.kind, count, out))
        return false;
    for (size_t i = 0; i < count; i++)
        out->list->items[i] = v.list->items[i % v.list->count];
    out->list->count = count;
    return true;
}

/* Sequence * integer; *done false when the operands are something else. */
static bool repeat(struct rt *rt, struct value a, struct value b, struct value *out, bool *done)
{
    struct value sequence = is_integer(a) ? b : a, number = is_integer(a) ? a : b;
    *done = is_integer(number) &&
            (sequence.kind == V_STR || sequence.kind == V_LIST || sequence.kind == V_TUPLE);
    if (!*done)
        return true;
    size_t times = as_integer(number) > 0 ? (size_t)as_integer(number) : 0;
    return sequence.kind == V_STR ? repeat_string(rt, sequence.s, times, out)
                                  : repeat_list(rt, sequence, times, out);
}

bool arith(struct rt *rt, enum op op, struct value a, struct value b, struct value *out)
{
    static const char *const signs[] = {"+", "-", "*", "/", "//", "%", "**"};
    bool done = false;
    if (op == OP_MOD && a.kind == V_STR)
        return percent_format(rt, a.s, b, out);
    if (a.kind == V_UNDEFINED)
        return fail_undefined(rt, a);
    if (b.kind == V_UNDEFINED)
        return fail_undefined(rt, b);
    if (is_integer(a) && is_integer(b))
        return int_arith(rt, op, as_integer(a), as_integer(b), out);
    if (is_number(a) && is_number(b))
        return float_arith(rt, op, as_double(a), as_double(b), out);
    if (op == OP_ADD && a.kind == V_STR && b.kind == V_STR)
        return add_strings(rt, a, b, out);
    if (op == OP_ADD && a.kind == b.kind && (a.kind == V_LIST || a.kind == V_TUPLE))
        return add_lists(rt, a, b, out);
    if (op == OP_MUL && !repeat(rt, a, b, out, &done))
        return false;
    if (done)
        return true;
    if (op == OP_ADD && a.kind == V_STR)
        return fail(rt, GRAFT_FORMAT, "can only concatenate str (not \"%s\") to str", type_name(b));
    return fail(rt, GRAFT_FORMAT, "unsupported operand types for %s: '%s' and '%s'", signs[op],
                type_name(a), type_name(b));
}

bool negate(struct rt *rt, struct value v, bool plus, struct value *out)
{
    if (v.kind == V_UNDEFINED)
        return fail_undefined(rt, v);
    if (v.kind == V_FLOAT) {
        *out = v_float(plus ? v.f : -v.f);
        return true;
    }
    if (!is_integer(v))
        return fail(rt, GRAFT_FORMAT, "bad operand type for unary %c: '%s'", plus ? '+' : '-',
                    type_name(v));
    if (plus) {
        *out = v_int(as_integer(v));
        return true;
    }
    if (as_integer(v) == INT64_MIN)
        return overflow(rt);
    *out = v_int(-as_integer(v));
    return true;
}
