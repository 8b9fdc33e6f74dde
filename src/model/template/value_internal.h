/* value_internal.h: the values a template computes with, and the state of one rendering.
 *
 * Values follow Python: None, booleans, 64-bit integers, doubles, code-point strings, lists, tuples,
 * insertion-ordered dicts, ranges, one-shot iterators, and the few callable kinds. All of them live in
 * the arena of the rendering and are never freed one by one; nothing but namespaces, cyclers, joiners,
 * iterators and loop records ever changes after it was made, so sharing needs no counting.
 *
 * Functions that can fail return false after fail(): the first failure is kept, the rest unwinds.
 */
#ifndef GRAFT_TEMPLATE_VALUE_INTERNAL_H
#define GRAFT_TEMPLATE_VALUE_INTERNAL_H

#include "model/template/template.h"

enum value_kind {
    V_MISSING, /* no value at all: an argument not given, a variable never set */
    V_UNDEFINED,
    V_NONE,
    V_BOOL,
    V_INT,
    V_FLOAT,
    V_STR,
    V_LIST,
    V_TUPLE,
    V_DICT,
    V_VIEW, /* dict.keys(), .values(), .items() */
    V_RANGE,
    V_ITER, /* what map, select, reverse, … give: may be walked once */
    V_NAMESPACE,
    V_MACRO,
    V_LOOP,
    V_CYCLER,
    V_JOINER,
    V_GLOBAL, /* a function of the environment */
    V_METHOD, /* a function with its object */
    V_KIND_COUNT
};

struct value {
    enum value_kind kind;
    union {
        bool b;
        int64_t i;
        double f;
        struct str *s;
        struct list *list; /* V_LIST, V_TUPLE */
        struct dict *dict; /* V_DICT, V_NAMESPACE */
        struct view *view;
        struct range *range;
        struct gen *gen;
        struct undefined *undefined;
        struct macro *macro;
        struct loop *loop;
        struct cycler *cycler;
        struct joiner *joiner;
        const struct builtin *global;
        struct method *method;
    };
};

#define CHARS_UNKNOWN SIZE_MAX

/* UTF-8, immutable, not NUL-terminated. `safe` is markupsafe's Markup: operators escape what they
 * join to it. `room` lets a result of + grow in place, so that building a text piece by piece is linear. */
struct str {
    const char *data;
    size_t size, chars;
    struct str_room *room;
    bool safe;
};
struct str_room {
    char *base;
    size_t used, capacity;
};
struct list {
    bool is_group; /* a pair of groupby: .grouper and .list */
    struct value *items;
    size_t count, capacity;
};
struct dict_entry {
    struct value key, value;
    uint64_t hash;
};
struct dict { /* entries in insertion order; index maps hash to entry + 1, open addressing */
    struct dict_entry *entries;
    size_t count, capacity;
    uint32_t *index;
    size_t index_size;
};
enum view_kind { VIEW_KEYS, VIEW_VALUES, VIEW_ITEMS };
struct view {
    struct dict *dict;
    enum view_kind kind;
};
struct range {
    int64_t start, stop, step;
    size_t count;
};
struct gen {
    struct value *items;
    size_t count, next;
    const char *type; /* Python's name for it */
};
struct undefined { /* the message is built only when somebody trips over it */
    const char *hint;
    struct value object; /* V_MISSING: a plain name */
    struct value name;
};
struct macro {
    const struct macro_def *def;
    struct frame *frame; /* where it was defined */
};
struct cycler {
    struct value *items;
    size_t count, position;
};
struct joiner {
    struct str *separator;
    bool used;
};
struct method {
    const struct builtin *builtin;
    struct value self;
};

/* ---- one rendering ------------------------------------------------------------------------ */

struct frame { /* the variables of one scope */
    struct frame *outer;
    struct value slots[];
};

struct rt {
    const struct chat_template *t;
    struct mem *mem;
    struct arena arena;
    struct buf out; /* captured bodies are written here too, then cut off again */
    uint64_t steps;
    int depth, depth_limit;
    int line;
    graft_status status;
    graft_error *error;
    const json_t *context;
    struct value *globals;  /* [names]: context members and functions, converted once */
    struct str *characters; /* [128]: one-character strings, so that walking a text costs nothing */
    int64_t now;
    uint64_t seed;                /* of dict hashes */
    struct template_marks *marks; /* NULL: nobody asks */
    int generating;               /* generation blocks around */
};

/* Data may nest deeper than templates: conversion, comparison, printing of values recurse this far. */
#define DATA_DEPTH 500

bool fail(struct rt *rt, graft_status status, const char *format, ...) PRINTF_LIKE(3, 4);
/* Charges `work` steps; false when the budget is spent. */
bool spend(struct rt *rt, uint64_t work);
/* Charges for touching that many bytes (or values, with a factor of their own). */
bool spend_bytes(struct rt *rt, size_t bytes);
void *rt_alloc(struct rt *rt, size_t bytes); /* NULL after fail() */

/* ---- making values (value.c) -------------------------------------------------------------- */

static inline struct value v_none(void)
{
    return (struct value){.kind = V_NONE};
}
static inline struct value v_bool(bool b)
{
    return (struct value){.kind = V_BOOL, .b = b};
}
static inline struct value v_int(int64_t i)
{
    return (struct value){.kind = V_INT, .i = i};
}
static inline struct value v_float(double f)
{
    return (struct value){.kind = V_FLOAT, .f = f};
}
static inline struct value v_str(struct str *s)
{
    return (struct value){.kind = V_STR, .s = s};
}

/* Borrowing constructors keep the pointer: the bytes must outlive the rendering. */
bool str_borrow(struct rt *rt, const char *data, size_t size, struct value *out);
bool str_copy(struct rt *rt, const char *data, size_t size, struct value *out);
bool str_literal(struct rt *rt, const char *text, struct value *out); /* borrows a C string */
/* size bytes to be filled in by the caller before anybody else sees them. */
bool str_alloc(struct rt *rt, size_t size, char **data, struct value *out);
/* Takes what was written to rt->out after `mark`, and cuts it off there. */
bool str_capture(struct rt *rt, size_t mark, struct value *out);
bool str_concat(struct rt *rt, struct str *a, struct str *b, struct value *out);
/* Marks a string safe or not, copying the record where it differs. */
bool str_mark(struct rt *rt, bool safe, struct value *v);
bool str_equals(const struct str *s, const char *text);

bool list_new(struct rt *rt, enum value_kind kind, size_t capacity, struct value *out);
bool list_push(struct rt *rt, struct list *list, struct value item);
bool pair_new(struct rt *rt, struct value a, struct value b, struct value *out); /* a tuple */
bool gen_new(struct rt *rt, const char *type, struct value list, struct value *out);

bool dict_new(struct rt *rt, enum value_kind kind, struct value *out);
bool dict_put(struct rt *rt, struct dict *dict, struct value key, struct value value);
/* *found NULL when absent; fails on keys without a hash. */
bool dict_find(struct rt *rt, const struct dict *dict, struct value key, struct value **found);
bool dict_find_str(struct rt *rt, const struct dict *dict, const char *key, size_t size,
                   struct value **found);

bool undefined_name(struct rt *rt, struct str *name, struct value *out);
bool undefined_member(struct rt *rt, struct value object, struct value name, struct value *out);
bool undefined_hint(struct rt *rt, const char *hint, struct value *out);
bool fail_undefined(struct rt *rt, struct value undefined); /* always false */

/* JSON data; strings are borrowed. */
bool value_from_json(struct rt *rt, const json_t *json, struct value *out);

/* ---- asking values (value.c, compare.c) --------------------------------------------------- */

const char *type_name(struct value v); /* as Python calls it */
bool truth(struct value v);
static inline bool is_number(struct value v)
{
    return v.kind == V_INT || v.kind == V_FLOAT || v.kind == V_BOOL;
}
static inline bool is_integer(struct value v) /* Python's bool is an int */
{
    return v.kind == V_INT || v.kind == V_BOOL;
}
static inline int64_t as_integer(struct value v)
{
    return v.kind == V_BOOL ? (int64_t)v.b : v.i;
}
static inline double as_double(struct value v)
{
    return v.kind == V_FLOAT ? v.f : (double)as_integer(v);
}
bool value_length(struct value v, size_t *out); /* false: it has none (no error is set) */
bool value_equal(struct rt *rt, struct value a, struct value b, bool *out);
/* a < b by `op` being one of "<", "<=", ">", ">=": fails where Python has no order. */
enum order { ORDER_LT, ORDER_LE, ORDER_GT, ORDER_GE };
bool value_order(struct rt *rt, struct value a, struct value b, enum order op, bool *out);
bool value_hash(struct rt *rt, struct value v, uint64_t *out);
bool value_contains(struct rt *rt, struct value container, struct value item, bool *out);

/* ---- walking values (value.c) ------------------------------------------------------------- */

struct iter {
    struct value source;
    size_t next, count, byte;
};
bool is_iterable(struct value v);
bool iter_begin(struct rt *rt, struct value v, struct iter *it);
/* 1: an item, 0: the end, -1: failed (out of memory). */
int iter_next(struct rt *rt, struct iter *it, struct value *out);
bool to_list(struct rt *rt, struct value v, enum value_kind kind, struct value *out);

/* ---- text (text.c) ------------------------------------------------------------------------ */

bool uni_space(uint32_t c);
bool uni_word(uint32_t c); /* a letter, a digit or '_', as \w */
bool uni_alpha(uint32_t c);
bool uni_digit(uint32_t c); /* decimal digits */
bool uni_numeric(uint32_t c);
bool uni_lower_letter(uint32_t c);
bool uni_upper_letter(uint32_t c);
bool uni_title_letter(uint32_t c);
bool uni_printable(uint32_t c);
enum letter_case { CASE_LOWER, CASE_UPPER, CASE_TITLE, CASE_FOLD };
/* Full mapping of one character, 1 to 3 code points; final sigma is the caller's. */
int uni_map(uint32_t c, enum letter_case to, uint32_t out[3]);

size_t str_chars(struct str *s);                /* length in code points */
size_t str_offset(struct str *s, size_t index); /* byte offset of a code point */
int str_decode(const char *at, size_t left,
               uint32_t *c); /* as utf8_decode; a stray byte counts as one */
bool str_is_ascii(struct str *s);
const char *bytes_find(const char *hay, size_t size, const char *needle, size_t n);
/* The last occurrence; NULL none. Charges for its work; *failed set when the budget ran out. */
const char *bytes_rfind(struct rt *rt, const struct str *hay, const struct str *needle,
                        bool *failed);

/* ---- printing (repr.c) -------------------------------------------------------------------- */

bool write_str(struct rt *rt, struct value v); /* str(v), appended to rt->out */
bool write_bytes(struct rt *rt, const char *data, size_t size);
bool write_text(struct rt *rt, const char *text);
bool to_str(struct rt *rt, struct value v, struct value *out);      /* str(v), never safe */
bool to_soft_str(struct rt *rt, struct value v, struct value *out); /* keeps safe strings */
bool to_repr(struct rt *rt, struct value v, struct value *out);
bool escape_html(struct rt *rt, struct value v, struct value *out);
#define FLOAT_TEXT 352 /* enough for any fixed-point double below 1e17 and any repr */
int float_repr(double f, char out[FLOAT_TEXT]);
/* Digits of |f| rounded to n significant decimals: f = 0.d1d2d3… * 10^*exponent. */
void float_digits(double f, int n, char *digits, int *exponent);
/* Decimal text (digits, '.', exponent; underscores already gone) to double, whatever the locale. */
bool parse_double(const char *text, size_t size, double *out);
/* Python's int(text, base) and float(text): false when it is no number (no error set). */
bool parse_python_int(struct rt *rt, struct str *s, int64_t base, struct value *out,
                      bool *overflow);
bool parse_python_float(struct str *s, double *out);

#endif
