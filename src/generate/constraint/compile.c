/* compile.c: from expressions to an automaton over bytes.
 *
 * An expression is laid between two states: it adds edges out of the first and into the second, and never edges into the first
 * or out of the second, so pieces can be joined freely; a loop has a state of its own. What is repeated and not small becomes a
 * rule, so that x{1000} costs a thousand calls and not a thousand copies.
 */
#include "constraint_internal.h"

enum { INLINE_COST = 64 }; /* states that the copies of what is repeated may take */

struct raw_edge {
    struct edge edge;
    uint32_t from;
};
struct compiler {
    struct builder *b;
    struct raw_edge *edges;
    size_t n_edges, edges_room;
    uint32_t n_states;
    int32_t rule; /* being compiled */
    uint32_t
        tail[4]; /* of a class: the states with 1 to 3 bytes 80..BF to come; UINT32_MAX: not made */
    uint32_t from, to;
};

static uint32_t new_state(struct compiler *c)
{
    if (c->n_states == STATES_MAX) {
        builder_fail(c->b, GRAFT_LIMIT,
                     "the grammar is too large: rule \"%s\" makes more than %d states",
                     c->b->rules[c->rule].name, STATES_MAX);
        return 0;
    }
    return c->n_states++;
}

static void add_edge(struct compiler *c, uint32_t from, struct edge edge)
{
    if (c->b->status != GRAFT_OK) {
        return;
    }
    if (c->n_edges == c->edges_room) {
        size_t room = c->edges_room > 0 ? c->edges_room * 2 : 256;
        struct raw_edge *grown =
            room > EDGES_MAX ? NULL : mem_resize(c->b->mem, c->edges, room * sizeof *grown);
        if (grown == NULL) {
            builder_fail(c->b, room > EDGES_MAX ? GRAFT_LIMIT : GRAFT_NO_MEMORY,
                         room > EDGES_MAX ? "the grammar is too large" : "no memory for a grammar");
            return;
        }
        c->edges = grown;
        c->edges_room = room;
    }
    c->edges[c->n_edges++] = (struct raw_edge){edge, from};
}

static void add_bytes(struct compiler *c, uint32_t from, uint8_t lo, uint8_t hi, uint32_t to)
{
    add_edge(c, from, (struct edge){.kind = EDGE_BYTES, .lo = lo, .hi = hi, .target = to});
}

static void add_empty(struct compiler *c, uint32_t from, uint32_t to)
{
    add_edge(c, from, (struct edge){.kind = EDGE_EMPTY, .target = to});
}

/* ---- characters ---- */

/* The state with n bytes 80..BF to come until c->to. */
static uint32_t tail_state(struct compiler *c, int n)
{
    if (n == 0) {
        return c->to;
    }
    if (c->tail[n] == UINT32_MAX) {
        c->tail[n] = new_state(c);
        add_bytes(c, c->tail[n], 0x80, 0xBF, tail_state(c, n - 1));
    }
    return c->tail[n];
}

static void lay_sequence(void *user, const struct byte_range *bytes, int n)
{
    struct compiler *c = user;
    int free_bytes = 0;
    while (free_bytes < n - 1 && bytes[n - 1 - free_bytes].lo == 0x80 &&
           bytes[n - 1 - free_bytes].hi == 0xBF) {
        free_bytes++;
    }
    uint32_t at = c->from;
    for (int i = 0; i < n - free_bytes; i++) {
        uint32_t next = i + 1 == n - free_bytes ? tail_state(c, free_bytes) : new_state(c);
        add_bytes(c, at, bytes[i].lo, bytes[i].hi, next);
        at = next;
    }
}

static void lay_class(struct compiler *c, const struct expr *e, uint32_t from, uint32_t to)
{
    c->from = from;
    c->to = to;
    for (int i = 0; i < 4; i++) {
        c->tail[i] = UINT32_MAX;
    }
    for (int32_t i = 0; i < e->b; i++) {
        const struct range *r = &c->b->ranges[e->a + i];
        utf8_ranges(r->lo, r->hi, lay_sequence, c);
    }
}

/* ---- expressions ---- */

static void lay(struct compiler *c, expr_id id, uint32_t from, uint32_t to);

static void lay_text(struct compiler *c, const struct expr *e, uint32_t from, uint32_t to)
{
    const uint8_t *text = (const uint8_t *)c->b->text.data + e->a;
    if (e->b == 0) {
        add_empty(c, from, to);
    }
    for (int32_t i = 0; i < e->b; i++) {
        uint32_t next = i + 1 == e->b ? to : new_state(c);
        add_bytes(c, from, text[i], text[i], next);
        from = next;
    }
}

static void lay_seq(struct compiler *c, const struct expr *e, uint32_t from, uint32_t to)
{
    if (e->a < 0) {
        add_empty(c, from, to);
    }
    for (int32_t i = e->a; i >= 0;) {
        struct item item = c->b->items[i];
        uint32_t next = item.next < 0 ? to : new_state(c);
        lay(c, item.expr, from, next);
        from = next;
        i = item.next;
    }
}

/* About how many states a copy takes, up to `most`. */
static int cost_of(const struct builder *b, expr_id id, int most)
{
    const struct expr *e = &b->exprs[id];
    int cost = 0;
    switch (e->kind) {
    case EXPR_BYTES:
        return e->b < most ? e->b : most;
    case EXPR_CLASS:
        return e->b == 0 || b->ranges[e->a + e->b - 1].hi < 0x80 ? 1 : 8;
    case EXPR_RULE:
        return 1;
    case EXPR_REPEAT: {
        int32_t copies = e->max < 0 ? e->min + 1 : e->max;
        cost = copies < most ? copies * cost_of(b, e->a, most) : most;
        return cost < most ? cost : most; /* at each level, or the product would overflow */
    }
    default:
        for (int32_t i = e->a; i >= 0 && cost < most; i = b->items[i].next) {
            cost += cost_of(b, b->items[i].expr, most - cost);
        }
        return cost;
    }
}

/* What is repeated, as a call of a rule when copies would be dear. */
static expr_id repeated(struct compiler *c, const struct expr *e)
{
    int copies = e->max < 0 ? e->min + 1 : e->max;
    int cost = cost_of(c->b, e->a, INLINE_COST);
    if (copies <= 1 || cost <= 1 || copies <= INLINE_COST / cost) {
        return e->a;
    }
    const char *name = c->b->rules[c->rule].name;
    int32_t rule = rule_add(c->b, name, strlen(name));
    rule_define(c->b, rule, e->a);
    return expr_call(c->b, rule, false);
}

static void lay_repeat(struct compiler *c, expr_id id, uint32_t from, uint32_t to)
{
    const struct expr e = c->b->exprs[id]; /* a copy: the array may move */
    expr_id body = repeated(c, &e);
    for (int32_t i = 0; i < e.min; i++) {
        uint32_t next = i + 1 == e.max ? to : new_state(c);
        lay(c, body, from, next);
        from = next;
    }
    if (e.max < 0) {
        uint32_t loop = new_state(c);
        add_empty(c, from, loop);
        lay(c, body, loop, loop);
        add_empty(c, loop, to);
        return;
    }
    for (int32_t i = e.min; i < e.max; i++) {
        uint32_t next = i + 1 == e.max ? to : new_state(c);
        add_empty(c, from, to);
        lay(c, body, from, next);
        from = next;
    }
    if (e.max == 0) {
        add_empty(c, from, to);
    }
}

static void lay(struct compiler *c, expr_id id, uint32_t from, uint32_t to)
{
    if (c->b->status != GRAFT_OK) {
        return;
    }
    const struct expr e = c->b->exprs[id];
    switch (e.kind) {
    case EXPR_BYTES:
        lay_text(c, &e, from, to);
        break;
    case EXPR_CLASS:
        lay_class(c, &e, from, to);
        break;
    case EXPR_SEQ:
        lay_seq(c, &e, from, to);
        break;
    case EXPR_ALT:
        for (int32_t i = e.a; i >= 0; i = c->b->items[i].next) {
            lay(c, c->b->items[i].expr, from, to);
        }
        break;
    case EXPR_REPEAT:
        lay_repeat(c, id, from, to);
        break;
    case EXPR_RULE:
        add_edge(
            c, from,
            (struct edge){.kind = EDGE_CALL, .nest = e.nest, .target = to, .rule = (uint32_t)e.a});
        break;
    }
}

/* ---- the grammar ---- */

/* Gives back what a block has too much. */
static void *shrink(struct mem *mem, void *block, size_t bytes)
{
    void *smaller = mem_resize(mem, block, bytes);
    return smaller != NULL ? smaller : block;
}

static graft_status allocate(struct compiler *c, struct grammar *g)
{
    g->ends = shrink(g->mem, g->ends, c->n_states * sizeof *g->ends);
    g->rules = shrink(g->mem, g->rules, c->b->n_rules * sizeof *g->rules);
    g->n_states = c->n_states;
    g->n_edges = (uint32_t)c->n_edges;
    g->n_rules = (uint32_t)c->b->n_rules;
    g->edges = mem_calloc(g->mem, c->n_edges + 1, sizeof *g->edges);
    g->edges_from = mem_calloc(g->mem, (size_t)g->n_states + 2, sizeof *g->edges_from);
    g->need = mem_calloc(g->mem, g->n_states, sizeof *g->need);
    g->left = mem_calloc(g->mem, g->n_states, sizeof *g->left);
    return g->edges != NULL && g->edges_from != NULL && g->need != NULL && g->left != NULL
               ? GRAFT_OK
               : error_set(c->b->error, GRAFT_NO_MEMORY, "no memory for a grammar");
}

/* Edges in the order of the states that they leave. */
static void sort_edges(const struct compiler *c, struct grammar *g)
{
    uint32_t *from = g->edges_from;
    for (size_t i = 0; i < c->n_edges; i++) {
        from[c->edges[i].from + 2]++;
    }
    for (uint32_t s = 2; s < g->n_states + 2; s++) {
        from[s] += from[s - 1];
    }
    for (size_t i = 0; i < c->n_edges;
         i++) { /* from[s + 1] runs from the beginning of s to its end */
        g->edges[from[c->edges[i].from + 1]++] = c->edges[i].edge;
    }
}

/* A call that returns to a state with nothing but one empty edge may return to where that leads. */
static void shorten_returns(struct grammar *g)
{
    enum { STEPS = 64 };
    for (uint32_t i = 0; i < g->n_edges; i++) {
        uint32_t at = g->edges[i].target;
        for (int step = 0; step < STEPS && g->edges[i].kind == EDGE_CALL; step++) {
            uint32_t first = g->edges_from[at];
            if (g->edges_from[at + 1] != first + 1 || g->edges[first].kind != EDGE_EMPTY) {
                break;
            }
            at = g->edges[first].target;
        }
        g->edges[i].target = at;
    }
}

static graft_status lay_rules(struct compiler *c, struct grammar *g)
{
    struct builder *b = c->b;
    g->ends = mem_calloc(g->mem, STATES_MAX, sizeof *g->ends);
    g->rules = mem_calloc(g->mem, RULES_MAX, sizeof *g->rules);
    if (g->ends == NULL || g->rules == NULL) {
        return builder_fail(b, GRAFT_NO_MEMORY, "no memory for a grammar"), b->status;
    }
    for (size_t i = 0; i < b->n_rules && b->status == GRAFT_OK; i++) {
        c->rule = (int32_t)i;
        uint32_t start = new_state(c), end = new_state(c);
        g->rules[i] = start;
        g->ends[end] = 1;
        lay(c, b->rules[i].body, start, end);
    }
    return b->status;
}

graft_status grammar_compile(struct builder *b, int32_t root, struct grammar **out)
{
    struct compiler c = {.b = b};
    struct grammar *g = b->status == GRAFT_OK ? mem_calloc(b->mem, 1, sizeof *g) : NULL;
    if (g == NULL) {
        builder_fail(b, GRAFT_NO_MEMORY, "no memory for a grammar");
        return b->status;
    }
    g->mem = b->mem;
    atomic_init(&g->references, 1);
    g->root = (uint32_t)root;
    g->nesting = b->nesting;
    g->unique_keys = b->unique_keys;
    graft_status status = lay_rules(&c, g);
    if (status == GRAFT_OK) {
        status = allocate(&c, g);
    }
    if (status == GRAFT_OK) {
        sort_edges(&c, g);
        shorten_returns(g);
        status = grammar_analyse(g, b->rules, b->error);
    }
    mem_free(b->mem, c.edges);
    if (status != GRAFT_OK) {
        grammar_release(&g);
        return status;
    }
    *out = g;
    return GRAFT_OK;
}

struct grammar *grammar_acquire(struct grammar *g)
{
    atomic_fetch_add(&g->references, 1);
    return g;
}

void grammar_release(struct grammar **grammar)
{
    struct grammar *g = *grammar;
    *grammar = NULL;
    if (g != NULL && atomic_fetch_sub(&g->references, 1) == 1) {
        mem_free(g->mem, g->edges);
        mem_free(g->mem, g->edges_from);
        mem_free(g->mem, g->ends);
        mem_free(g->mem, g->need);
        mem_free(g->mem, g->left);
        mem_free(g->mem, g->rules);
        mem_free(g->mem, g);
    }
}
