/* builder.c: expressions and rules, as parsers make them: arrays that grow to a bound, and a failure that sticks.
 *
 * Knows nothing of any syntax and nothing of automata.
 */
#include "constraint_internal.h"

void builder_init(struct builder *b, struct mem *mem, int nesting, graft_error *error)
{
    *b = (struct builder){.mem = mem, .nesting = nesting, .error = error};
    arena_init(&b->names, mem, 16 << 20);
    buf_init(&b->text, mem, 16 << 20);
}

void builder_free(struct builder *b)
{
    arena_free(&b->names);
    buf_free(&b->text);
    mem_free(b->mem, b->exprs);
    mem_free(b->mem, b->items);
    mem_free(b->mem, b->ranges);
    mem_free(b->mem, b->rules);
}

expr_id builder_fail(struct builder *b, graft_status status, const char *format, ...)
{
    if (b->status == GRAFT_OK) {
        char message[400];
        va_list list;
        va_start(list, format);
        vsnprintf(message, sizeof message, format, list);
        va_end(list);
        b->status = error_set(b->error, status, "%s", message);
    }
    return -1;
}

/* The array with room for `more` elements; NULL after a failure, and it is as it was. */
static void *make_room(struct builder *b, void *array, size_t element, size_t count, size_t more,
                       size_t *room, size_t most)
{
    if (b->status != GRAFT_OK) {
        return NULL;
    }
    if (count + more <= *room) {
        return array;
    }
    if (count + more > most) {
        builder_fail(b, GRAFT_LIMIT, "the grammar is too large");
        return NULL;
    }
    size_t wanted = *room * 2 > count + more ? *room * 2 : count + more + 64;
    void *grown = mem_resize(b->mem, array, wanted * element);
    if (grown == NULL) {
        builder_fail(b, GRAFT_NO_MEMORY, "no memory for a grammar");
        return NULL;
    }
    *room = wanted;
    return grown;
}

/* Leaves the function with `failed` when there is no room. */
#define MAKE_ROOM(b, what, more, most, failed)                                                     \
    do {                                                                                           \
        void *grown = make_room(b, (b)->what, sizeof *(b)->what, (b)->n_##what, more,              \
                                &(b)->what##_room, most);                                          \
        if (grown == NULL) {                                                                       \
            return failed;                                                                         \
        }                                                                                          \
        (b)->what = grown;                                                                         \
    } while (0)

static expr_id add_expr(struct builder *b, struct expr expr)
{
    MAKE_ROOM(b, exprs, 1, EXPRS_MAX, -1);
    b->exprs[b->n_exprs] = expr;
    return (expr_id)b->n_exprs++;
}

/* What should be there and is not was not made for lack of memory. */
static expr_id missing(struct builder *b)
{
    return builder_fail(b, GRAFT_NO_MEMORY, "no memory for a grammar");
}

expr_id expr_bytes(struct builder *b, const char *bytes, size_t size)
{
    if (b->status != GRAFT_OK) {
        return -1;
    }
    size_t at = b->text.size;
    if (!buf_append(&b->text, bytes, size)) {
        return builder_fail(b, b->text.status, "no room for the texts of a grammar");
    }
    return add_expr(b, (struct expr){.kind = EXPR_BYTES, .a = (int32_t)at, .b = (int32_t)size});
}

expr_id expr_text(struct builder *b, const char *text)
{
    return expr_bytes(b, text, strlen(text));
}

static int compare_ranges(const void *a, const void *b)
{
    const struct range *x = a, *y = b;
    return x->lo < y->lo ? -1 : x->lo > y->lo;
}

/* Sorted, and joined where they touch; returns how many are left. */
static size_t join_ranges(struct range *r, size_t n)
{
    size_t kept = 0;
    qsort(r, n, sizeof *r, compare_ranges);
    for (size_t i = 0; i < n; i++) {
        if (kept > 0 && r[i].lo <= r[kept - 1].hi + 1) {
            r[kept - 1].hi = r[i].hi > r[kept - 1].hi ? r[i].hi : r[kept - 1].hi;
        } else {
            r[kept++] = r[i];
        }
    }
    return kept;
}

expr_id expr_class(struct builder *b, const struct range *ranges, size_t n, bool negated)
{
    MAKE_ROOM(b, ranges, n + 1, EXPRS_MAX, -1); /* what n ranges leave out are n + 1 at most */
    struct range *mine = b->ranges + b->n_ranges;
    if (n > 0) {
        memcpy(mine, ranges, n * sizeof *ranges);
    }
    size_t kept = join_ranges(mine, n);
    if (negated) {
        uint32_t next = 0;
        size_t out = 0;
        for (size_t i = 0; i < kept; i++) {
            struct range r = mine[i]; /* out <= i: it may be written over */
            if (r.lo > next) {
                mine[out++] = (struct range){next, r.lo - 1};
            }
            next = r.hi + 1;
        }
        if (next <= 0x10FFFF) {
            mine[out++] = (struct range){next, 0x10FFFF};
        }
        kept = out;
    }
    expr_id id = add_expr(
        b, (struct expr){.kind = EXPR_CLASS, .a = (int32_t)b->n_ranges, .b = (int32_t)kept});
    b->n_ranges += kept;
    return id;
}

expr_id expr_list(struct builder *b, enum expr_kind kind)
{
    return add_expr(b, (struct expr){.kind = kind, .a = -1, .b = -1});
}

void expr_add(struct builder *b, expr_id list, expr_id item)
{
    if (list < 0 || item < 0) {
        missing(b);
        return;
    }
    MAKE_ROOM(b, items, 1, EXPRS_MAX, );
    int32_t at = (int32_t)b->n_items++;
    b->items[at] = (struct item){item, -1};
    struct expr *e = &b->exprs[list];
    if (e->b >= 0) {
        b->items[e->b].next = at;
    } else {
        e->a = at;
    }
    e->b = at;
}

expr_id expr_items(struct builder *b, enum expr_kind kind, const expr_id *items, size_t n)
{
    expr_id list = expr_list(b, kind);
    for (size_t i = 0; i < n; i++) {
        expr_add(b, list, items[i]);
    }
    return list;
}

expr_id expr_repeat(struct builder *b, expr_id body, int32_t min, int32_t max)
{
    if (body < 0) {
        return missing(b);
    }
    return add_expr(b, (struct expr){.kind = EXPR_REPEAT, .a = body, .min = min, .max = max});
}

expr_id expr_call(struct builder *b, int32_t rule, bool nest)
{
    if (rule < 0) {
        return missing(b);
    }
    return add_expr(b, (struct expr){.kind = EXPR_RULE, .a = rule, .nest = nest});
}

int32_t rule_add(struct builder *b, const char *name, size_t size)
{
    MAKE_ROOM(b, rules, 1, RULES_MAX, -1);
    char *copy = arena_strndup(&b->names, name, size);
    if (copy == NULL) {
        return builder_fail(b, GRAFT_NO_MEMORY, "no memory for a grammar");
    }
    b->rules[b->n_rules] = (struct rule){.name = copy, .body = -1};
    return (int32_t)b->n_rules++;
}

void rule_define(struct builder *b, int32_t rule, expr_id body)
{
    if (rule < 0 || body < 0) {
        missing(b);
    } else {
        b->rules[rule].body = body;
    }
}
