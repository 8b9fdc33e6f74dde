/* ast_internal.h: the compiled form of a template.
 *
 * Expressions and statements in the arena of the template, constant after compilation. Chains (a + b
 * - c, a.b[c](d)|e) are flat arrays, so that the evaluator recurses only as deep as the source nests.
 * Names are bound to slots by resolve.c, the way Jinja2 scopes them: statically, per frame.
 */
#ifndef GRAFT_TEMPLATE_AST_INTERNAL_H
#define GRAFT_TEMPLATE_AST_INTERNAL_H

#include "model/template/value_internal.h"

#define SOURCE_LIMIT ((size_t)1 << 20)
#define PARSE_DEPTH 200

enum op {
    OP_ADD,
    OP_SUB,
    OP_MUL,
    OP_DIV,
    OP_FLOORDIV,
    OP_MOD,
    OP_POW,
    OP_EQ,
    OP_NE,
    OP_LT,
    OP_LE,
    OP_GT,
    OP_GE,
    OP_IN,
    OP_NOT_IN
};

struct name_ref {
    int name; /* index into chat_template.names */
    int hops; /* frames outwards */
    int slot;
};

enum expr_kind {
    E_CONST,
    E_NAME,
    E_LIST,
    E_TUPLE,
    E_DICT,   /* items: key, value, key, value, … */
    E_CONCAT, /* a ~ b ~ c */
    E_AND,
    E_OR,
    E_ARITH,   /* first op value op value …, all of one precedence, from the left */
    E_COMPARE, /* chained comparison */
    E_NOT,
    E_NEG,
    E_POS,
    E_COND,
    E_SLICE,
    E_POSTFIX /* first, then steps: attributes, subscripts, calls, filters, tests */
};

struct operand {
    enum op op;
    struct expr *value;
};

enum step_kind { STEP_ATTR, STEP_ITEM, STEP_CALL, STEP_FILTER, STEP_TEST };

struct keyword {
    struct str *name;
    struct expr *value;
};
struct call_args {
    struct expr **items;
    struct keyword *keywords;
    int count, n_keywords;
    struct expr *star, *star_star;
};
struct step {
    enum step_kind kind;
    int line;
    bool negated;                  /* is not */
    struct str *name;              /* attribute, filter or test */
    const struct builtin *builtin; /* filter or test; NULL: unknown, an error when reached */
    struct expr *item;
    struct call_args *args;
};

struct expr {
    enum expr_kind kind;
    int line;
    int count; /* of items, operands or steps */
    union {
        struct value constant;
        struct name_ref name;
        struct expr **items;
        struct {
            struct expr *first;
            struct operand *operands;
            struct step *steps;
        };
        struct expr *operand;
        struct {
            struct expr **tests;   /* [count], all must hold, the last is asked first */
            struct expr *yes, *no; /* no: NULL, undefined */
        };
        struct {
            struct expr *start, *stop, *step; /* NULL: left out */
        };
    };
};

struct target { /* what an assignment names: a name, a namespace member, or several of them */
    int line;
    struct name_ref ref;
    struct str *attr;     /* namespace member */
    struct target *items; /* count > 0 or is_tuple: unpacking */
    int count;
    bool is_tuple;
};

/* Slots of a frame that start from somewhere else than empty. */
struct slot_start {
    int slot;
    int name;       /* from the context, when hops < 0 */
    int hops, from; /* else a copy of an outer slot; hops counts from the outer frame */
};
struct scope {
    int slots, n_starts;
    struct slot_start *starts;
};

struct block {
    struct stmt **items;
    int count;
};

struct macro_def {
    struct str *name; /* NULL: a call block */
    int line;
    struct target *params;
    int n_params;
    struct expr **defaults; /* of the last n_defaults parameters */
    int n_defaults;
    bool uses_caller, uses_kwargs, uses_varargs; /* without being parameters */
    bool caller_is_param;
    struct name_ref caller, kwargs, varargs;
    struct block body;
    struct scope scope;
};

enum stmt_kind {
    S_TEXT,
    S_PRINT,
    S_IF,
    S_FOR,
    S_SET,
    S_SET_BLOCK,
    S_MACRO,
    S_CALL,
    S_FILTER,
    S_WITH,
    S_GENERATION,
    S_BREAK,
    S_CONTINUE
};

struct branch {
    struct expr *test; /* NULL: else */
    struct block body;
};
struct for_stmt {
    struct target target, test_target;
    struct expr *iter, *test;
    bool recursive;
    struct name_ref loop;
    struct block body, otherwise;
    struct scope scope, test_scope, else_scope;
};
struct with_stmt {
    struct target *targets;
    struct expr **values;
    int count;
    struct block body;
    struct scope scope;
};
struct body_stmt { /* set block, filter block, generation */
    struct target target;
    struct step *filters;
    int n_filters;
    struct block body;
    struct scope scope;
};
struct stmt {
    enum stmt_kind kind;
    int line;
    union {
        struct {
            const char *data;
            size_t size;
        } text;
        struct {
            struct expr **items;
            int count;
        } print;
        struct {
            struct branch *branches;
            int count;
        } branches;
        struct {
            struct target target;
            struct expr *value;
        } set;
        struct for_stmt *loop;
        struct with_stmt *with;
        struct body_stmt *body;
        struct {
            struct macro_def *def;
            struct name_ref ref;
            struct expr *call; /* S_CALL: a postfix expression that ends in a call */
        } macro;
    };
};

struct chat_template {
    struct mem *mem;
    struct arena arena;
    struct str_map name_index;
    struct str **names;
    int n_names, names_capacity;
    struct block body;
    struct scope scope;
};

/* ---- tokens (lexer.c) --------------------------------------------------------------------- */

enum token_kind {
    T_EOF,
    T_DATA,
    T_VAR_BEGIN,
    T_VAR_END,
    T_BLOCK_BEGIN,
    T_BLOCK_END,
    T_NAME,
    T_STRING,
    T_INT,
    T_FLOAT,
    T_ADD,
    T_SUB,
    T_MUL,
    T_DIV,
    T_FLOORDIV,
    T_MOD,
    T_POW,
    T_TILDE,
    T_LBRACKET,
    T_RBRACKET,
    T_LPAREN,
    T_RPAREN,
    T_LBRACE,
    T_RBRACE,
    T_EQ,
    T_NE,
    T_LT,
    T_LE,
    T_GT,
    T_GE,
    T_ASSIGN,
    T_DOT,
    T_COLON,
    T_PIPE,
    T_COMMA,
    T_SEMICOLON
};
struct token {
    enum token_kind kind;
    int line;
    const char *text; /* data, names, decoded strings */
    size_t size;
    int64_t integer;
    double real;
};

enum lexer_state { LEX_DATA, LEX_BLOCK, LEX_VARIABLE, LEX_RAW };
struct lexer {
    const char *source; /* newlines normalised */
    size_t size, pos;
    int line;
    enum lexer_state state;
    struct token pending; /* the tag that follows a piece of text */
    bool has_pending;
    int n_open;
    char open[PARSE_DEPTH + 1]; /* closing brackets still expected */
};

/* ---- the parser's state (parse_expr.c, parse_stmt.c) -------------------------------------- */

struct macro_scope { /* which special names a macro body uses before setting them */
    struct macro_scope *outer;
    unsigned used, set; /* bits: 1 caller, 2 kwargs, 4 varargs */
};
struct parser {
    struct chat_template *t;
    struct lexer lexer;
    struct token current, ahead;
    bool has_ahead;
    int depth;
    int loop_depth;     /* enclosing loops that break and continue may name */
    int any_loop_depth; /* loops of any kind around: `loop` may not be set there */
    struct macro_scope *macro;
    graft_status status;
    graft_error *error;
};

bool lexer_next(struct parser *p, struct token *out);
bool parse_fail(struct parser *p, int line, const char *format, ...) PRINTF_LIKE(3, 4);
bool parse_too_deep(struct parser *p, int line);
bool parse_unexpected(struct parser *p, const char *expected);
void *parse_alloc(struct parser *p, size_t bytes); /* zeroed; NULL after an error */
/* Makes room for one more element; *items may move. Amortised, in the arena. */
bool parse_grow(struct parser *p, void *items, int count, size_t element);

bool parser_advance(struct parser *p);
bool parser_peek(struct parser *p); /* fills p->ahead */
bool parser_at_name(const struct parser *p, const char *name);
bool token_is(const struct token *token, const char *name);
bool parser_skip_name(struct parser *p, const char *name, bool *skipped);
bool parser_expect(struct parser *p, enum token_kind kind, const char *what);
bool parser_enter(struct parser *p); /* nesting; p->depth-- to leave */
bool parser_intern(struct parser *p, const struct token *token, int *name);
bool parser_name(struct parser *p, const struct token *token, struct str **out);
/* Notes a use of caller, kwargs or varargs. */
void parser_note_name(struct parser *p, const struct token *token, bool store);

bool parse_expression(struct parser *p, bool with_cond, struct expr **out);
/* What ends a list of expressions without brackets, besides the ends of tags and parentheses. */
enum tuple_end { END_PLAIN, END_IN, END_RECURSIVE };
bool parse_tuple(struct parser *p, bool with_cond, enum tuple_end end, bool parentheses,
                 struct expr **out);
/* |a|b(c): with `inline_start` the first name has no bar before it. */
bool parse_filters(struct parser *p, bool inline_start, struct step **steps, int *count);
bool parse_template(struct parser *p);
bool resolve_names(struct parser *p);

#endif
