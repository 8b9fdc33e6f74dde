/* analyse.c: what has to hold of an automaton, and what matching needs to know of it.
 *
 * Refuses rules that begin with themselves, since following calls would not end, and a root that no text satisfies. `need` of
 * a state is the least nesting that the way to the end of its rule takes: the matcher enters a state only where that is left, so that
 * no path runs into a wall. It is found as shortest paths are (Knuth's generalisation of Dijkstra's: a call needs
 * the larger of what the rule and what follows it need), in time linear in the edges. `left` is the least
 * bytes to that end, found likewise, by which answers are brought to an end in time.
 */
#include "constraint_internal.h"

/* Who looks at a state: edges by target, and calls by the first state of their rule. */
struct uses {
    uint32_t *from;  /* [n_states + 2] */
    uint32_t *edges; /* [2 n_edges] edge */
    uint32_t *owner; /* [n_edges] the state that an edge leaves */
};

static void uses_free(struct uses *u, struct mem *mem)
{
    mem_free(mem, u->from);
    mem_free(mem, u->edges);
    mem_free(mem, u->owner);
}

static graft_status uses_make(struct uses *u, const struct grammar *g, graft_error *error)
{
    u->from = mem_calloc(g->mem, (size_t)g->n_states + 2, sizeof *u->from);
    u->edges = mem_calloc(g->mem, 2 * (size_t)g->n_edges + 1, sizeof *u->edges);
    u->owner = mem_calloc(g->mem, (size_t)g->n_edges + 1, sizeof *u->owner);
    if (u->from == NULL || u->edges == NULL || u->owner == NULL) {
        return error_set(error, GRAFT_NO_MEMORY, "no memory for a grammar");
    }
    for (uint32_t s = 0; s < g->n_states; s++) {
        for (uint32_t i = g->edges_from[s]; i < g->edges_from[s + 1]; i++) {
            u->owner[i] = s;
        }
    }
    for (uint32_t i = 0; i < g->n_edges; i++) {
        u->from[g->edges[i].target + 2]++;
        if (g->edges[i].kind == EDGE_CALL) {
            u->from[g->rules[g->edges[i].rule] + 2]++;
        }
    }
    for (uint32_t s = 2; s < g->n_states + 2; s++) {
        u->from[s] += u->from[s - 1];
    }
    for (uint32_t i = 0; i < g->n_edges; i++) {
        u->edges[u->from[g->edges[i].target + 1]++] = i;
        if (g->edges[i].kind == EDGE_CALL) {
            u->edges[u->from[g->rules[g->edges[i].rule] + 1]++] = i;
        }
    }
    return GRAFT_OK;
}

/* ---- what an end needs ---- */

/* States that wait for their turn, in lists by what they need. */
struct turns {
    int32_t *heads; /* [nesting + 1] */
    struct turn {
        uint32_t state;
        int32_t next;
    } * list;
    int32_t n;
};

static void wait_turn(struct turns *t, uint32_t need, uint32_t state, int nesting)
{
    if (need <= (uint32_t)nesting) {
        t->list[t->n] = (struct turn){state, t->heads[need]};
        t->heads[need] = t->n++;
    }
}

/* `state` is settled: what its users need, as far as that is known now. */
static void tell_users(const struct grammar *g, const struct uses *u, struct turns *t,
                       uint32_t state)
{
    for (uint32_t k = u->from[state]; k < u->from[state + 1]; k++) {
        const struct edge *e = &g->edges[u->edges[k]];
        uint32_t owner = u->owner[u->edges[k]], need = g->need[e->target];
        if (g->need[owner] != NEED_NEVER || need == NEED_NEVER) {
            continue;
        }
        if (e->kind == EDGE_CALL) {
            uint32_t inner = g->need[g->rules[e->rule]];
            /* A call that ends the rule leaves nothing open, see machine.c. */
            uint32_t call = inner + (g->ends[e->target] ? 0U : e->nest);
            if (inner == NEED_NEVER) {
                continue;
            }
            need = call > need ? call : need;
        }
        wait_turn(t, need, owner, g->nesting);
    }
}

static graft_status find_needs(struct grammar *g, const struct uses *u, graft_error *error)
{
    struct turns t = {.n = 0};
    t.heads = mem_calloc(g->mem, (size_t)g->nesting + 1, sizeof *t.heads);
    t.list = mem_calloc(g->mem, (size_t)g->n_states + 2 * (size_t)g->n_edges, sizeof *t.list);
    if (t.heads == NULL || t.list == NULL) {
        mem_free(g->mem, t.heads);
        mem_free(g->mem, t.list);
        return error_set(error, GRAFT_NO_MEMORY, "no memory for a grammar");
    }
    for (int i = 0; i <= g->nesting; i++) {
        t.heads[i] = -1;
    }
    for (uint32_t s = 0; s < g->n_states; s++) {
        g->need[s] = NEED_NEVER;
        if (g->ends[s]) {
            wait_turn(&t, 0, s, g->nesting);
        }
    }
    for (int need = 0; need <= g->nesting; need++) {
        while (t.heads[need] >= 0) {
            struct turn turn = t.list[t.heads[need]];
            t.heads[need] = turn.next;
            if (g->need[turn.state] == NEED_NEVER) {
                g->need[turn.state] = (uint16_t)need;
                tell_users(g, u, &t, turn.state);
            }
        }
    }
    mem_free(g->mem, t.heads);
    mem_free(g->mem, t.list);
    return GRAFT_OK;
}

/* ---- how far it is to an end ---- */

/* States by the bytes that are left, the least first: a binary heap. */
struct heap {
    struct far {
        uint32_t left, state;
    } * list;
    size_t n;
};

static void heap_push(struct heap *h, uint32_t left, uint32_t state)
{
    size_t at = h->n++;
    for (; at > 0 && h->list[(at - 1) / 2].left > left; at = (at - 1) / 2) {
        h->list[at] = h->list[(at - 1) / 2];
    }
    h->list[at] = (struct far){left, state};
}

static struct far heap_pop(struct heap *h)
{
    struct far first = h->list[0], last = h->list[--h->n];
    size_t at = 0;
    for (size_t child = 1; child < h->n; child = 2 * at + 1) {
        child += child + 1 < h->n && h->list[child + 1].left < h->list[child].left;
        if (h->list[child].left >= last.left) {
            break;
        }
        h->list[at] = h->list[child];
        at = child;
    }
    h->list[at] = last;
    return first;
}

/* `state` is settled: how far its users are, as far as that is known now. */
static void tell_distance(const struct grammar *g, const struct uses *u, struct heap *h,
                          uint32_t state)
{
    for (uint32_t k = u->from[state]; k < u->from[state + 1]; k++) {
        const struct edge *e = &g->edges[u->edges[k]];
        uint32_t owner = u->owner[u->edges[k]], left = g->left[e->target];
        uint32_t inner = e->kind == EDGE_CALL ? g->left[g->rules[e->rule]] : e->kind == EDGE_BYTES;
        if (g->left[owner] == UINT32_MAX && left != UINT32_MAX && inner != UINT32_MAX) {
            heap_push(h, left + inner < LEFT_MAX ? left + inner : LEFT_MAX, owner);
        }
    }
}

static graft_status find_distances(struct grammar *g, const struct uses *u, graft_error *error)
{
    struct heap h = {NULL, 0};
    h.list = mem_calloc(g->mem, (size_t)g->n_states + 2 * (size_t)g->n_edges, sizeof *h.list);
    if (h.list == NULL) {
        return error_set(error, GRAFT_NO_MEMORY, "no memory for a grammar");
    }
    for (uint32_t s = 0; s < g->n_states; s++) {
        g->left[s] = UINT32_MAX;
        if (g->ends[s]) {
            heap_push(&h, 0, s);
        }
    }
    while (h.n > 0) {
        struct far next = heap_pop(&h);
        if (g->left[next.state] == UINT32_MAX) {
            g->left[next.state] = next.left;
            tell_distance(g, u, &h, next.state);
        }
    }
    for (uint32_t s = 0; s < g->n_states; s++) { /* without end: the matcher does not go there */
        g->left[s] = g->left[s] < LEFT_MAX ? g->left[s] : LEFT_MAX;
    }
    mem_free(g->mem, h.list);
    return GRAFT_OK;
}

/* ---- left recursion ---- */

/* Which states reach the end of their rule without a byte. */
static graft_status find_empty(const struct grammar *g, const struct uses *u, uint8_t *empty,
                               graft_error *error)
{
    uint32_t *work = mem_calloc(g->mem, g->n_states, sizeof *work);
    if (work == NULL) {
        return error_set(error, GRAFT_NO_MEMORY, "no memory for a grammar");
    }
    uint32_t n = 0;
    for (uint32_t s = 0; s < g->n_states; s++) {
        if (g->ends[s]) {
            empty[s] = 1;
            work[n++] = s;
        }
    }
    while (n > 0) {
        uint32_t state = work[--n];
        for (uint32_t k = u->from[state]; k < u->from[state + 1]; k++) {
            const struct edge *e = &g->edges[u->edges[k]];
            uint32_t owner = u->owner[u->edges[k]];
            if (!empty[owner] && e->kind != EDGE_BYTES && empty[e->target] &&
                (e->kind == EDGE_EMPTY || empty[g->rules[e->rule]])) {
                empty[owner] = 1;
                work[n++] = owner;
            }
        }
    }
    mem_free(g->mem, work);
    return GRAFT_OK;
}

enum { NEW = 0, OPEN = 1, DONE = 2 };

/* A walk over what states can begin with, without bytes: it goes down into rules that are called, and on behind those that may be
 * empty. A first state met again while it is open calls itself. */
struct walk {
    const struct grammar *g;
    const uint8_t *empty;
    uint8_t *seen; /* [n_states] */
    struct walk_step {
        uint32_t state, edge;
        bool behind; /* the rule of a call was looked at; next is what follows it */
    } * steps;       /* [n_states] */
    uint32_t n_steps;
};

/* The next state to look at from the newest step; false: there is no more. */
static bool walk_next(struct walk *w, uint32_t *state)
{
    const struct grammar *g = w->g;
    struct walk_step *step = &w->steps[w->n_steps - 1];
    while (step->edge < g->edges_from[step->state + 1]) {
        const struct edge *e = &g->edges[step->edge];
        bool call = e->kind == EDGE_CALL;
        if (call && !step->behind) {
            step->behind = true;
            *state = g->rules[e->rule];
            return true;
        }
        step->edge++;
        step->behind = false;
        if (e->kind == EDGE_EMPTY || (call && w->empty[g->rules[e->rule]])) {
            *state = e->target;
            return true;
        }
    }
    return false;
}

/* The first state of the rule that begins with itself; false: none does, as far as `from` leads. */
static bool walk_from(struct walk *w, uint32_t from, const uint8_t *is_first, uint32_t *found)
{
    w->n_steps = 0;
    uint32_t state = from;
    bool go = true;
    while (go || w->n_steps > 0) {
        if (go && w->seen[state] == NEW) {
            w->seen[state] = OPEN;
            w->steps[w->n_steps++] = (struct walk_step){state, w->g->edges_from[state], false};
        } else if (go && w->seen[state] == OPEN && is_first[state]) {
            *found = state;
            return true;
        }
        go = walk_next(w, &state);
        if (!go) {
            w->seen[w->steps[--w->n_steps].state] = DONE;
        }
    }
    return false;
}

static graft_status refuse_left_recursion(const struct grammar *g, const struct uses *u,
                                          const struct rule *rules, graft_error *error)
{
    struct walk w = {.g = g};
    uint8_t *empty = mem_calloc(g->mem, g->n_states, 1),
            *first = mem_calloc(g->mem, g->n_states, 1);
    w.seen = mem_calloc(g->mem, g->n_states, 1);
    w.steps = mem_calloc(g->mem, g->n_states, sizeof *w.steps);
    w.empty = empty;
    graft_status status = GRAFT_OK;
    if (empty == NULL || first == NULL || w.seen == NULL || w.steps == NULL) {
        status = error_set(error, GRAFT_NO_MEMORY, "no memory for a grammar");
    } else {
        status = find_empty(g, u, empty, error);
    }
    for (uint32_t r = 0; r < g->n_rules && status == GRAFT_OK; r++) {
        first[g->rules[r]] = 1;
    }
    uint32_t found = 0;
    for (uint32_t r = 0; r < g->n_rules && status == GRAFT_OK; r++) {
        if (w.seen[g->rules[r]] == NEW && walk_from(&w, g->rules[r], first, &found)) {
            for (r = 0; g->rules[r] != found;) {
                r++;
            }
            status =
                error_set(error, GRAFT_FORMAT,
                          "rule \"%s\" is left-recursive: it can begin with itself", rules[r].name);
        }
    }
    mem_free(g->mem, empty);
    mem_free(g->mem, first);
    mem_free(g->mem, w.seen);
    mem_free(g->mem, w.steps);
    return status;
}

/* ---- classes of bytes ---- */

static void find_classes(struct grammar *g)
{
    bool begins[257] = {true};
    for (uint32_t i = 0; i < g->n_edges; i++) {
        if (g->edges[i].kind == EDGE_BYTES) {
            begins[g->edges[i].lo] = true;
            begins[g->edges[i].hi + 1] = true;
        }
    }
    for (int byte = 0; byte < 256; byte++) {
        if (begins[byte]) {
            g->first_of[g->n_classes++] = (uint8_t)byte;
        }
        g->class_of[byte] = (uint8_t)(g->n_classes - 1);
    }
}

graft_status grammar_analyse(struct grammar *g, const struct rule *rules, graft_error *error)
{
    struct uses uses = {NULL, NULL, NULL};
    graft_status status = uses_make(&uses, g, error);
    if (status == GRAFT_OK) {
        status = refuse_left_recursion(g, &uses, rules, error);
    }
    if (status == GRAFT_OK) {
        status = find_needs(g, &uses, error);
    }
    if (status == GRAFT_OK) {
        status = find_distances(g, &uses, error);
    }
    if (status == GRAFT_OK && g->need[g->rules[g->root]] == NEED_NEVER) {
        status = error_set(error, GRAFT_FORMAT,
                           "no text satisfies rule \"%s\": none ends within a nesting of %d",
                           rules[g->root].name, g->nesting);
    }
    uses_free(&uses, g->mem);
    find_classes(g);
    return status;
}
