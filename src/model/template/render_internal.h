/* render_internal.h: evaluation, calls, and the tables of filters, tests, methods and functions.
 *
 * A builtin is one C function and a line of parameters; bind_args maps a call's arguments onto them
 * as Python would. The AST is read-only here.
 */
#ifndef GRAFT_TEMPLATE_RENDER_INTERNAL_H
#define GRAFT_TEMPLATE_RENDER_INTERNAL_H

#include "model/template/ast_internal.h"

#define MAX_PARAMS 6

struct kwarg {
    struct str *name;
    struct value value;
};
struct args {
    struct value *items;
    size_t count;
    struct kwarg *keywords;
    size_t n_keywords;
};
struct call {
    struct value self;
    const struct args *args;
    struct value arg[MAX_PARAMS]; /* V_MISSING where left out */
};
typedef bool (*builtin_fn)(struct rt *rt, struct call *call, struct value *out);

/* params: names with spaces between; '?' after a name: optional; '/' first: positional only; "*": the
 * function looks at call->args itself. A NULL fn is a method that the sandbox hides. */
struct builtin {
    const char *name, *params;
    builtin_fn fn;
};

const struct builtin *filter_find(const char *name, size_t size);
const struct builtin *test_find(const char *name, size_t size);
const struct builtin *global_find(const char *name, size_t size);
/* A table ends with a NULL name. */
const struct builtin *builtin_find(const struct builtin *table, const char *name, size_t size);
extern const struct builtin text_filters[], number_filters[], sequence_filters[];
extern const struct builtin str_methods[], str_split_methods[], str_test_methods[];

bool call_builtin(struct rt *rt, const struct builtin *b, struct value self,
                  const struct args *args, struct value *out);
bool call_value(struct rt *rt, struct value callee, const struct args *args, struct value *out);
bool call_loop(struct rt *rt, struct loop *loop, const struct args *args, struct value *out);

/* Argument helpers: the default when missing; fail where the type does not fit. */
bool arg_int(struct rt *rt, struct value v, int64_t missing, int64_t *out);
bool arg_bool(struct value v, bool missing);
bool arg_str(struct rt *rt, struct value v, const char *what, struct str **out);

/* ---- expressions -------------------------------------------------------------------------- */

bool eval(struct rt *rt, struct frame *frame, const struct expr *e, struct value *out);
bool eval_args(struct rt *rt, struct frame *frame, const struct call_args *args,
               const struct kwarg *extra, struct args *out);
bool apply_steps(struct rt *rt, struct frame *frame, const struct step *steps, int count,
                 struct value *v);
bool rt_enter(struct rt *rt); /* nesting; rt->depth-- to leave */

bool arith(struct rt *rt, enum op op, struct value a, struct value b, struct value *out);
bool negate(struct rt *rt, struct value v, bool plus, struct value *out);
bool get_attr(struct rt *rt, struct value object, struct str *name, struct value *out);
/* What Python's getattr() finds: no members of dicts. */
bool get_plain_attr(struct rt *rt, struct value object, struct str *name, struct value *out,
                    bool *found);
bool get_item(struct rt *rt, struct value object, struct value key, struct value *out);
bool get_slice(struct rt *rt, struct value object, const struct value bounds[3], struct value *out);
bool str_slice(struct rt *rt, struct str *s, size_t begin, size_t end, struct value *out);

/* ---- statements --------------------------------------------------------------------------- */

enum flow { FLOW_NEXT, FLOW_BREAK, FLOW_CONTINUE };
bool exec_block(struct rt *rt, struct frame *frame, const struct block *block, enum flow *flow);
struct frame *frame_new(struct rt *rt, const struct scope *scope, struct frame *outer);
bool frame_start(struct rt *rt, const struct scope *scope, struct frame *frame);
bool assign(struct rt *rt, struct frame *frame, const struct target *target, struct value v);
bool exec_for(struct rt *rt, struct frame *frame, const struct for_stmt *stmt, enum flow *flow);

struct loop { /* the `loop` variable: jinja2's LoopContext */
    const struct for_stmt *stmt;
    struct frame *outer;      /* where the loop stands */
    struct frame *test_frame; /* of `if` after the iterable; NULL: none */
    struct value source;
    struct iter it;
    struct value *queue; /* items fetched early */
    size_t queue_next, queue_count;
    struct value previous, current;
    int64_t index0;
    int64_t length; /* -1: not asked for yet */
    int depth0;
    struct value changed; /* arguments of the last loop.changed() */
};
bool loop_attr(struct rt *rt, struct loop *loop, struct str *name, struct value *out, bool *found);
bool loop_length(struct rt *rt, struct loop *loop, int64_t *out);

/* ---- shared by several builtins ----------------------------------------------------------- */

bool to_json(struct rt *rt, struct call *call, struct value *out);
bool percent_format(struct rt *rt, struct str *format, struct value args, struct value *out);
bool method_format(struct rt *rt, struct call *call, struct value *out);
bool method_format_map(struct rt *rt, struct call *call, struct value *out);
/* One value by a format specification such as ">10.2f": str.format and the format of numbers. */
bool format_value(struct rt *rt, struct value v, const char *spec, size_t size);
/* Sign, digits and padding of one number, shared by % and str.format. */
struct number_format {
    char fill[4];
    int fill_size;
    char align; /* '<' '>' '=' '^' */
    char sign;  /* '-' '+' ' ' */
    bool alternate, zero;
    char group;               /* 0, ',' or '_' */
    int64_t width, precision; /* -1: none */
    char type;
};
bool format_number(struct rt *rt, struct value v, const struct number_format *f);
bool format_padded(struct rt *rt, const struct number_format *f, const char *sign,
                   const char *digits, size_t size);
bool map_case(struct rt *rt, struct str *s, enum letter_case to, struct value *out);
bool capitalize(struct rt *rt, struct str *s, struct value *out);
bool strip(struct rt *rt, struct str *s, const struct str *chars, int sides, struct value *out);
bool split_lines(struct rt *rt, struct str *s, bool keep_ends, struct value *out);
bool replace(struct rt *rt, struct str *s, const struct value *pair, int64_t count,
             struct value *out);
bool join(struct rt *rt, struct str *separator, struct value items, struct value *out);
bool pad(struct rt *rt, struct str *s, int64_t left, int64_t right, uint32_t fill,
         struct value *out);
bool case_test(struct str *s, bool upper);
bool attribute_path(struct rt *rt, struct value object, struct value path, struct value *out);
/* A stable sort of n values by keys; fails where they have no order. */
bool sort_values(struct rt *rt, struct value *items, struct value *keys, size_t n, bool reverse);
bool make_dict(struct rt *rt, const struct args *args, enum value_kind kind, struct value *out);

#endif
