/* machine.c: the automaton made deterministic, state by state, as texts come to them.
 *
 * A state of the machine is what the automaton may be doing after some bytes: a sorted set of configurations, each a state and
 * the stack of calls that are open. Equal sets are one state with one row of successors, so what was walked once costs a look-up.
 * All memory is taken when the machine opens; when it is used up everything but the present state is forgotten (machine_flush).
 *
 * A configuration is entered only where its end can be reached within the nesting that is left, and a call only where what
 * follows it can, too. By this no state is a dead end.
 */
#include "constraint_internal.h"

enum {
    SET_MAX = 4096, /* configurations of one state, and of the work for it */
    SEEN_MAX =
        2 *
        SET_MAX, /* of those that were looked at for it, with those that have no bytes to come */
    SEEN_SLOTS = 2 * SEEN_MAX,
    POOL_ROOM = 1 << 18,
    STACKS_ROOM = 1 << 16,
    STATES_MOST = 1 << 14,
    STATES_LEAST = 1 << 10,
    ROWS_BYTES = 8 << 20 /* of successors, about */
};

graft_status machine_open(struct machine *m, struct mem *mem, const struct grammar *g,
                          graft_error *error)
{
    size_t rows = ROWS_BYTES / ((size_t)g->n_classes * sizeof *m->next);
    *m = (struct machine){.mem = mem, .grammar = g};
    m->states_room = (uint32_t)(rows > STATES_MOST    ? STATES_MOST
                                : rows < STATES_LEAST ? STATES_LEAST
                                                      : rows);
    m->pool_room = POOL_ROOM;
    m->stacks_room = STACKS_ROOM;
    m->table_mask = 2 * STATES_MOST - 1;
    m->stack_mask = 2 * STACKS_ROOM - 1;
    m->pool = mem_alloc(mem, POOL_ROOM * sizeof *m->pool);
    m->found = mem_alloc(mem, 2 * (size_t)SET_MAX * sizeof *m->found);
    m->seen = mem_alloc(mem, SEEN_SLOTS * sizeof *m->seen);
    m->seen_round = mem_calloc(mem, SEEN_SLOTS, sizeof *m->seen_round);
    m->states = mem_alloc(mem, m->states_room * sizeof *m->states);
    m->next = mem_alloc(mem, m->states_room * (size_t)g->n_classes * sizeof *m->next);
    m->state_table = mem_calloc(mem, (size_t)m->table_mask + 1, sizeof *m->state_table);
    m->stacks = mem_alloc(mem, STACKS_ROOM * sizeof *m->stacks);
    m->stack_table = mem_calloc(mem, (size_t)m->stack_mask + 1, sizeof *m->stack_table);
    m->moved = mem_alloc(mem, STACKS_ROOM * sizeof *m->moved);
    if (m->pool == NULL || m->found == NULL || m->seen == NULL || m->seen_round == NULL ||
        m->states == NULL || m->next == NULL || m->state_table == NULL || m->stacks == NULL ||
        m->stack_table == NULL || m->moved == NULL) {
        machine_close(m);
        return error_set(error, GRAFT_NO_MEMORY, "no memory to match a grammar");
    }
    m->n_states = m->n_stacks = 1;
    m->states[0] = (struct machine_state){.mask = -1};
    m->stacks[0] = (struct stack_node){0, 0, 0, 0};
    memset(m->next, 0, (size_t)g->n_classes * sizeof *m->next); /* the dead stay dead */
    return GRAFT_OK;
}

void machine_close(struct machine *m)
{
    mem_free(m->mem, m->pool);
    mem_free(m->mem, m->found);
    mem_free(m->mem, m->seen);
    mem_free(m->mem, m->seen_round);
    mem_free(m->mem, m->states);
    mem_free(m->mem, m->next);
    mem_free(m->mem, m->state_table);
    mem_free(m->mem, m->stacks);
    mem_free(m->mem, m->stack_table);
    mem_free(m->mem, m->moved);
    *m = (struct machine){0};
}

static uint32_t sum_left(uint32_t a, uint32_t b)
{
    return a + b < LEFT_MAX ? a + b : LEFT_MAX;
}

static uint32_t mix(uint32_t a, uint32_t b)
{
    uint64_t x = ((uint64_t)a << 32 | b) * 0x9E3779B97F4A7C15U;
    return (uint32_t)(x >> 32) ^ (uint32_t)x;
}

/* ---- stacks ---- */

/* Where a node is in the table, or could be put. */
static uint32_t stack_slot(const struct machine *m, uint32_t back, uint32_t parent,
                           uint32_t nesting)
{
    uint32_t slot = mix(back, parent) & m->stack_mask;
    for (; m->stack_table[slot] != 0; slot = (slot + 1) & m->stack_mask) {
        const struct stack_node *n = &m->stacks[m->stack_table[slot]];
        if (n->back == back && n->parent == parent && n->nesting == nesting) {
            break;
        }
    }
    return slot;
}

/* The stack with one state more to return to; 0: no room. */
static uint32_t stack_push(struct machine *m, uint32_t back, uint32_t parent, uint32_t nest)
{
    uint32_t nesting = m->stacks[parent].nesting + nest;
    uint32_t slot = stack_slot(m, back, parent, nesting);
    if (m->stack_table[slot] == 0) {
        if (m->n_stacks == m->stacks_room) {
            m->full = true;
            return 0;
        }
        m->stacks[m->n_stacks] = (struct stack_node){
            back, parent, nesting, sum_left(m->grammar->left[back], m->stacks[parent].left)};
        m->stack_table[slot] = m->n_stacks++;
    }
    return m->stack_table[slot];
}

/* ---- sets of configurations ---- */

static void begin_set(struct machine *m)
{
    m->n_found = m->n_work = m->n_seen = 0;
    m->complete = m->full = false;
    if (++m->round == 0) {
        memset(m->seen_round, 0, SEEN_SLOTS * sizeof *m->seen_round);
        m->round = 1;
    }
}

/* Whether the end of the rule can still be reached from there. */
static bool can_end(const struct machine *m, uint32_t state, uint32_t stack)
{
    return m->grammar->need[state] + m->stacks[stack].nesting <= (uint32_t)m->grammar->nesting;
}

static void enter(struct machine *m, uint32_t state, uint32_t stack)
{
    if (m->full || !can_end(m, state, stack)) {
        return;
    }
    uint64_t key = (uint64_t)state << 32 | stack;
    uint32_t slot = mix(state, stack) & (SEEN_SLOTS - 1);
    for (; m->seen_round[slot] == m->round; slot = (slot + 1) & (SEEN_SLOTS - 1)) {
        if (m->seen[slot] == key) {
            return;
        }
    }
    if (m->n_work + m->n_found == SET_MAX || m->n_seen == SEEN_MAX) {
        m->full = true;
        return;
    }
    m->n_seen++;
    m->seen[slot] = key;
    m->seen_round[slot] = m->round;
    m->found[SET_MAX + m->n_work++] = (struct config){state, stack};
}

static void call_rule(struct machine *m, const struct edge *e, uint32_t stack)
{
    uint32_t first = m->grammar->rules[e->rule];
    if (m->grammar->ends[e->target]) { /* nothing follows: the rule returns where this one does */
        enter(m, first, stack);
    } else if (can_end(m, e->target, stack)) {
        uint32_t inner = stack_push(m, e->target, stack, e->nest);
        if (inner != 0) {
            enter(m, first, inner);
        }
    }
}

/* Follows what takes no bytes until only configurations with bytes to come are left. */
static void close_set(struct machine *m)
{
    const struct grammar *g = m->grammar;
    while (m->n_work > 0 && !m->full) {
        struct config c = m->found[SET_MAX + --m->n_work];
        bool bytes = false;
        if (g->ends[c.state] && c.stack == 0) {
            m->complete = true;
        } else if (g->ends[c.state]) {
            enter(m, m->stacks[c.stack].back, m->stacks[c.stack].parent);
        }
        for (uint32_t i = g->edges_from[c.state]; i < g->edges_from[c.state + 1]; i++) {
            const struct edge *e = &g->edges[i];
            if (e->kind == EDGE_EMPTY) {
                enter(m, e->target, c.stack);
            } else if (e->kind == EDGE_CALL) {
                call_rule(m, e, c.stack);
            } else {
                bytes = true;
            }
        }
        if (bytes) {
            m->found[m->n_found++] = c;
        }
    }
}

static bool is_before(struct config a, struct config b)
{
    return a.state != b.state ? a.state < b.state : a.stack < b.stack;
}

/* The element at `at` goes down to where it belongs in the heap of n. */
static void sift(struct config *list, uint32_t at, uint32_t n)
{
    struct config moving = list[at];
    for (uint32_t child = 2 * at + 1; child < n; child = 2 * at + 1) {
        child += child + 1 < n && is_before(list[child], list[child + 1]);
        if (!is_before(moving, list[child])) {
            break;
        }
        list[at] = list[child];
        at = child;
    }
    list[at] = moving;
}

/* By heap: qsort may allocate. */
static void sort_configs(struct config *list, uint32_t n)
{
    for (uint32_t at = n / 2; at-- > 0;) {
        sift(list, at, n);
    }
    for (uint32_t left = n; left > 1;) {
        struct config last = list[--left];
        list[left] = list[0];
        list[0] = last;
        sift(list, 0, left);
    }
}

/* The state of the set that was found. */
static int32_t intern(struct machine *m)
{
    if (m->full) {
        return MACHINE_FULL;
    }
    if (m->n_found == 0 && !m->complete) {
        return MACHINE_DEAD;
    }
    sort_configs(m->found, m->n_found);
    uint32_t hash = m->complete;
    for (uint32_t i = 0; i < m->n_found; i++) {
        hash = mix(hash, mix(m->found[i].state, m->found[i].stack));
    }
    uint32_t slot = hash & m->table_mask;
    for (; m->state_table[slot] != 0; slot = (slot + 1) & m->table_mask) {
        const struct machine_state *s = &m->states[m->state_table[slot]];
        if (s->n_configs == m->n_found && s->complete == m->complete &&
            memcmp(m->pool + s->configs, m->found, m->n_found * sizeof *m->found) == 0) {
            return (int32_t)m->state_table[slot];
        }
    }
    if (m->n_states == m->states_room || m->n_pool + m->n_found > m->pool_room) {
        return MACHINE_FULL;
    }
    size_t classes = (size_t)m->grammar->n_classes;
    m->state_table[slot] = m->n_states;
    memcpy(m->pool + m->n_pool, m->found, m->n_found * sizeof *m->found);
    memset(m->next + m->n_states * classes, 0xFF, classes * sizeof *m->next);
    struct machine_state *made = &m->states[m->n_states];
    *made = (struct machine_state){.configs = m->n_pool,
                                   .n_configs = m->n_found,
                                   .complete = m->complete,
                                   .mask = -1,
                                   .left = m->complete ? 0 : LEFT_MAX};
    for (uint32_t i = 0; i < m->n_found; i++) {
        struct config c = m->found[i];
        uint32_t left = sum_left(m->grammar->left[c.state], m->stacks[c.stack].left);
        made->left = left < made->left ? left : made->left;
    }
    m->n_pool += m->n_found;
    return (int32_t)m->n_states++;
}

int32_t machine_start(struct machine *m)
{
    begin_set(m);
    enter(m, m->grammar->rules[m->grammar->root], 0);
    close_set(m);
    return intern(m);
}

int32_t machine_make_step(struct machine *m, int32_t state, uint8_t byte)
{
    const struct grammar *g = m->grammar;
    const struct machine_state *s = &m->states[state];
    begin_set(m);
    for (uint32_t k = 0; k < s->n_configs; k++) {
        struct config c = m->pool[s->configs + k];
        for (uint32_t i = g->edges_from[c.state]; i < g->edges_from[c.state + 1]; i++) {
            const struct edge *e = &g->edges[i];
            if (e->kind == EDGE_BYTES && e->lo <= byte && byte <= e->hi) {
                enter(m, e->target, c.stack);
            }
        }
    }
    close_set(m);
    int32_t to = intern(m);
    if (to != MACHINE_FULL) {
        m->next[(size_t)state * (size_t)g->n_classes + g->class_of[byte]] = to;
    }
    return to;
}

/* ---- forgetting ---- */

/* Keeps the stacks that some configurations have, the others go; m->moved tells where they are now. */
static void keep_stacks(struct machine *m, const struct config *configs, uint32_t n)
{
    memset(m->moved, 0, m->n_stacks * sizeof *m->moved);
    for (uint32_t i = 0; i < n; i++) {
        for (uint32_t at = configs[i].stack; at != 0 && m->moved[at] == 0;) {
            m->moved[at] = 1;
            at = m->stacks[at].parent;
        }
    }
    memset(m->stack_table, 0, ((size_t)m->stack_mask + 1) * sizeof *m->stack_table);
    uint32_t kept = 1;
    for (uint32_t i = 1; i < m->n_stacks; i++) { /* a parent stands before what lies on it */
        if (m->moved[i] != 0) {
            struct stack_node node = m->stacks[i];
            node.parent = m->moved[node.parent];
            m->stack_table[stack_slot(m, node.back, node.parent, node.nesting)] = kept;
            m->stacks[kept] = node;
            m->moved[i] = kept++;
        }
    }
    m->n_stacks = kept;
}

int32_t machine_flush(struct machine *m, int32_t keep)
{
    const struct machine_state s = m->states[keep];
    begin_set(m);
    if (keep != MACHINE_DEAD) {
        memcpy(m->found, m->pool + s.configs, s.n_configs * sizeof *m->found);
        m->n_found = s.n_configs;
        m->complete = s.complete;
    }
    keep_stacks(m, m->found, m->n_found);
    for (uint32_t i = 0; i < m->n_found; i++) {
        m->found[i].stack = m->moved[m->found[i].stack];
    }
    memset(m->state_table, 0, ((size_t)m->table_mask + 1) * sizeof *m->state_table);
    m->n_states = 1;
    m->n_pool = 0;
    return intern(m);
}

/* ---- plain characters ---- */

/* The bytes of characters from U+0020 on but quote and backslash, as sequences of ranges. */
static const struct {
    int n;
    struct byte_range bytes[4];
} plain_forms[] = {
    {1, {{0x20, 0x21}}},
    {1, {{0x23, 0x5B}}},
    {1, {{0x5D, 0x7E}}},
    {2, {{0xC2, 0xDF}, {0x80, 0xBF}}},
    {3, {{0xE0, 0xE0}, {0xA0, 0xBF}, {0x80, 0xBF}}},
    {3, {{0xE1, 0xEC}, {0x80, 0xBF}, {0x80, 0xBF}}},
    {3, {{0xED, 0xED}, {0x80, 0x9F}, {0x80, 0xBF}}},
    {3, {{0xEE, 0xEF}, {0x80, 0xBF}, {0x80, 0xBF}}},
    {4, {{0xF0, 0xF0}, {0x90, 0xBF}, {0x80, 0xBF}, {0x80, 0xBF}}},
    {4, {{0xF1, 0xF3}, {0x80, 0xBF}, {0x80, 0xBF}, {0x80, 0xBF}}},
    {4, {{0xF4, 0xF4}, {0x80, 0x8F}, {0x80, 0xBF}, {0x80, 0xBF}}},
};
enum { UNKNOWN = -3 };

/* Follows all sequences of n ranges; *to is what all led to so far. What stays unknown or is mixed ends it. */
static int32_t follow(struct machine *m, int32_t state, const struct byte_range *bytes, int n,
                      int32_t to)
{
    int class = -1;
    for (int byte = bytes[0].lo; byte <= bytes[0].hi; byte++) {
        if (m->grammar->class_of[byte] == class) {
            continue;
        }
        class = m->grammar->class_of[byte];
        int32_t next = machine_step(m, state, (uint8_t)byte);
        if (next == MACHINE_FULL) {
            return MACHINE_FULL;
        }
        if (n > 1 && next != MACHINE_DEAD) {
            to = follow(m, next, bytes + 1, n - 1, to);
            if (to == MACHINE_FULL || to == PLAIN_MIXED) {
                return to;
            }
        } else if (to != UNKNOWN && to != next) {
            return PLAIN_MIXED;
        } else {
            to = next;
        }
    }
    return to;
}

int32_t machine_plain(struct machine *m, int32_t state)
{
    struct machine_state *s = &m->states[state];
    if (!s->plain_known) {
        int32_t to = UNKNOWN;
        for (size_t i = 0; i < ARRAY_LEN(plain_forms); i++) {
            to = follow(m, state, plain_forms[i].bytes, plain_forms[i].n, to);
            if (to == MACHINE_FULL) {
                return MACHINE_FULL;
            }
            if (to == PLAIN_MIXED) {
                break;
            }
        }
        s->plain = to;
        s->plain_known = true;
    }
    return s->plain;
}
