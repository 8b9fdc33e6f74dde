/* constraint_internal.h: what the files of this folder share. Not for other folders.
 *
 * Both parsers build expressions in a struct builder (builder.c); compile.c makes an automaton of them, analyse.c
 * checks it and works out what matching needs; the matcher (matcher.c) walks it as a deterministic automaton that is
 * made as it is needed (machine.c).
 */
#ifndef GRAFT_CONSTRAINT_INTERNAL_H
#define GRAFT_CONSTRAINT_INTERNAL_H

#include "generate/constraint/constraint.h"

#include <pthread.h>

enum {
    TEXT_MAX = 1 << 20,      /* bytes of a grammar or schema */
    RULES_MAX = 1 << 16,     /* those that repetitions make included */
    EXPRS_MAX = 1 << 20,     /* and items of lists, and ranges of characters */
    STATES_MAX = 1 << 18,    /* of the automaton */
    EDGES_MAX = 1 << 20,     /* likewise */
    REPEAT_MAX = 1 << 16,    /* what a repetition may ask for */
    PARSE_DEPTH = 64,        /* of brackets in a text */
    GBNF_NESTING = 1000,     /* calls that are open in a text that a GBNF grammar matches */
    SCHEMA_NESTING = 32,     /* arrays and objects that are open in a text of a recursive schema */
    NEED_NEVER = UINT16_MAX, /* no end can be reached */
    LEFT_MAX = 1 << 28       /* bytes that are counted; more are as many */
};

/* ---- a text that is read by character (scan.c) ---- */

struct scan {
    const char *text;
    size_t size, at;
};
int scan_peek(const struct scan *in); /* the byte that comes next; -1: none */
/* Past `c`, if that is what comes next. */
bool scan_take(struct scan *in, char c);
/* A number of hexadecimal digits; false: there are fewer, and what was read is behind. */
bool scan_hex(struct scan *in, int digits, uint32_t *value);

/* ---- expressions (builder.c) ---- */

/* Ids are numbers from 0; -1 after a failure, which sticks: whoever builds need not look until the end. */
typedef int32_t expr_id;

enum expr_kind {
    EXPR_BYTES,  /* text[a..a + b) */
    EXPR_CLASS,  /* one character of ranges[a..a + b), sorted and apart */
    EXPR_SEQ,    /* the items from `a` on, one behind the other; none: the empty text */
    EXPR_ALT,    /* one of them; none: no text at all */
    EXPR_REPEAT, /* `a`, min to max times (max -1: any number) */
    EXPR_RULE    /* a call of rule `a` */
};
struct expr {
    enum expr_kind kind;
    bool nest;    /* RULE: this call counts towards the depth of nesting */
    int32_t a, b; /* SEQ, ALT: first and last item; -1: none */
    int32_t min, max;
};
struct item {
    expr_id expr;
    int32_t next; /* -1: the last */
};
struct range {
    uint32_t lo, hi; /* code points, both included */
};
struct rule {
    const char *name; /* in the builder's arena */
    expr_id body;     /* -1: not defined yet */
    size_t at;        /* where the text first speaks of it */
};

struct builder {
    struct mem *mem;
    struct arena names;
    struct buf text; /* of EXPR_BYTES */
    struct expr *exprs;
    struct item *items;
    struct range *ranges;
    struct rule *rules;
    size_t n_exprs, n_items, n_ranges, n_rules;
    size_t exprs_room, items_room, ranges_room, rules_room;
    int nesting;      /* most calls that count */
    bool unique_keys; /* see struct grammar */
    graft_status status;
    graft_error *error; /* filled by the first failure */
};
void builder_init(struct builder *b, struct mem *mem, int nesting, graft_error *error);
void builder_free(struct builder *b);
/* The first failure counts; returns -1. */
expr_id builder_fail(struct builder *b, graft_status status, const char *format, ...)
    PRINTF_LIKE(3, 4);
expr_id expr_bytes(struct builder *b, const char *bytes, size_t size);
expr_id expr_text(struct builder *b, const char *text);
/* Ranges in any order, overlapping or not; negated: what is in none of them. */
expr_id expr_class(struct builder *b, const struct range *ranges, size_t n, bool negated);
expr_id expr_list(struct builder *b, enum expr_kind kind);
void expr_add(struct builder *b, expr_id list, expr_id item);
expr_id expr_repeat(struct builder *b, expr_id body, int32_t min, int32_t max);
expr_id expr_call(struct builder *b, int32_t rule, bool nest);
/* A sequence of n. */
#define EXPR_SEQ_OF(b, ...)                                                                        \
    expr_items(b, EXPR_SEQ, (const expr_id[]){__VA_ARGS__},                                        \
               sizeof((const expr_id[]){__VA_ARGS__}) / sizeof(expr_id))
#define EXPR_ALT_OF(b, ...)                                                                        \
    expr_items(b, EXPR_ALT, (const expr_id[]){__VA_ARGS__},                                        \
               sizeof((const expr_id[]){__VA_ARGS__}) / sizeof(expr_id))
expr_id expr_items(struct builder *b, enum expr_kind kind, const expr_id *items, size_t n);
/* A new rule without a body; -1: failure. The name is copied. */
int32_t rule_add(struct builder *b, const char *name, size_t size);
void rule_define(struct builder *b, int32_t rule, expr_id body);

/* ---- the automaton ---- */

enum edge_kind { EDGE_BYTES, EDGE_EMPTY, EDGE_CALL };
struct edge {
    uint8_t kind, lo, hi; /* BYTES: lo to hi */
    uint8_t nest;         /* CALL: 1 when it counts towards the nesting */
    uint32_t target;      /* CALL: where it goes on behind the rule */
    uint32_t rule;        /* CALL */
};
/* Immutable once compiled. */
struct grammar {
    struct mem *mem;
    atomic_int references;
    struct edge *edges;   /* [n_edges] by the state that they leave */
    uint32_t *edges_from; /* [n_states + 1] */
    uint8_t *ends;        /* [n_states] 1: the end of its rule, with no edges */
    uint16_t *need;  /* [n_states] nesting that reaching the end of the rule takes; NEED_NEVER */
    uint32_t *left;  /* [n_states] least bytes to the end of the rule, LEFT_MAX at most */
    uint32_t *rules; /* [n_rules] first states */
    uint32_t n_states, n_edges, n_rules;
    uint32_t root;         /* the rule */
    int nesting;           /* most calls that count and are open at a time */
    bool unique_keys;      /* texts are JSON, and no object may have a name twice */
    uint8_t class_of[256]; /* bytes that no edge tells apart are one class */
    uint8_t first_of[256]; /* [n_classes] the lowest byte of a class */
    int n_classes;
};
/* Takes nothing over. On failure says why in b->error. */
graft_status grammar_compile(struct builder *b, int32_t root, struct grammar **out);
/* analyse.c: refuses left recursion and rules without end, fills need and classes. `rule_names` are for errors. */
graft_status grammar_analyse(struct grammar *g, const struct rule *rules, graft_error *error);

/* Sequences of byte ranges that are the UTF-8 of code points lo..hi: calls `give` for each (utf8_ranges.c). */
struct byte_range {
    uint8_t lo, hi;
};
typedef void (*utf8_range_fn)(void *user, const struct byte_range *bytes, int n);
void utf8_ranges(uint32_t lo, uint32_t hi, utf8_range_fn give, void *user);

/* ---- vocabulary (vocabulary.c) ---- */

/* A tree of byte strings in the order of a walk that goes down first. */
struct word_node {
    uint32_t skip;  /* the next node that does not begin with this one's bytes */
    uint32_t words; /* the first word that ends at or behind this node, index of ids */
    uint32_t depth; /* bytes, at least 1 */
    uint8_t byte;
};
struct word_tree {
    struct word_node *nodes; /* [n_nodes + 1]: the last one closes `words` */
    graft_token_id *ids;     /* [n_words] */
    uint32_t n_nodes, n_words;
};

/* *Plain* words are whole characters that stand for themselves within a JSON string: valid UTF-8, no control character, no
 * quote, no backslash; of PLAIN_MAX characters at most. In texts they are most of a vocabulary, and a state that takes all plain
 * characters takes them all, without a walk. */
enum { PLAIN_MAX = 32 };
struct vocabulary {
    struct mem *mem;
    atomic_int references;
    int n_vocab;
    size_t mask_words; /* of 32 bits */
    uint32_t *offsets; /* [n_vocab + 1] into bytes */
    char *bytes;
    uint8_t *is_end; /* [n_vocab] tokenizer_is_end */
    struct word_tree plain, other;
    uint32_t *plain_masks;  /* [PLAIN_MAX + 1, mask_words]: plain words of at most i characters */
    graft_token_id *quoted; /* [n_quoted] words with a quote in them */
    size_t n_quoted;
    uint32_t deepest; /* bytes of the longest word */
};

/* ---- the machine: the automaton made deterministic as it is walked (machine.c) ---- */

/* A configuration is a state with a stack of states to return to; stacks are lists that share their ends. A machine state is
 * a set of configurations that have bytes to come. */
struct config {
    uint32_t state, stack;
};
struct stack_node {
    uint32_t back; /* the state to return to */
    uint32_t parent;
    uint32_t nesting;
    uint32_t left; /* least bytes from there to the end of the text */
};
enum { MACHINE_DEAD = 0, MACHINE_FULL = -1 };
struct machine_state {
    uint32_t configs, n_configs; /* in the pool */
    bool complete;               /* the text may end here */
    bool plain_known;            /* what machine_plain says, once it was asked: */
    int32_t plain;
    int32_t mask;  /* slot of the matcher's cache; -1: none */
    uint32_t left; /* least bytes to the end of the text */
    uint32_t most; /* with a mask: the largest `left` behind a word that it allows */
};
struct machine {
    struct mem *mem;
    const struct grammar *grammar;
    struct config *pool;  /* [pool_room] */
    struct config *found; /* [SET_MAX] of the state being made, then [SET_MAX] of work to do */
    uint64_t *seen;       /* [SEEN_SLOTS] configurations of this round */
    uint32_t *seen_round; /* [SEEN_SLOTS] */
    struct machine_state *states; /* [states_room]; 0 is dead */
    int32_t *next;                /* [states_room, n_classes]; -1: not known */
    uint32_t *state_table;        /* [table_room] ids; 0: free */
    struct stack_node *stacks;    /* [stacks_room]; 0 is the bottom */
    uint32_t *stack_table;
    uint32_t *moved; /* [stacks_room] scratch of machine_flush */
    uint32_t n_pool, pool_room, n_states, states_room, n_stacks, stacks_room, table_mask,
        stack_mask, round;
    uint32_t n_found, n_work, n_seen;
    bool complete, full; /* of the state being made */
};
graft_status machine_open(struct machine *m, struct mem *mem, const struct grammar *g,
                          graft_error *error);
void machine_close(struct machine *m); /* a zeroed one is allowed */
/* The state at the beginning of a text. MACHINE_FULL: flush and ask again. */
int32_t machine_start(struct machine *m);
/* Forgets all states but one, whose new id it returns; MACHINE_DEAD stands for none, and is returned then. */
int32_t machine_flush(struct machine *m, int32_t keep);
int32_t machine_make_step(struct machine *m, int32_t state, uint8_t byte);
/* Where a byte leads: a state, MACHINE_DEAD, or MACHINE_FULL: there is no room for it. */
static inline int32_t machine_step(struct machine *m, int32_t state, uint8_t byte)
{
    int class = m->grammar->class_of[byte];
    int32_t to = m->next[(size_t)state * (size_t)m->grammar->n_classes + (size_t) class];
    return to >= 0 ? to : machine_make_step(m, state, byte);
}
/* Where every plain character leads, if that is one state: it, MACHINE_DEAD when all are refused, PLAIN_MIXED when they
 * differ, or MACHINE_FULL. */
enum { PLAIN_MIXED = -2 };
int32_t machine_plain(struct machine *m, int32_t state);

/* ---- names of objects (keys.c) ---- */

/* Reads JSON as it is generated and knows the names in all objects that are open. What it remembers are nodes that are never
 * changed, so that a look ahead is undone by forgetting the newest. Texts are those of a grammar: nothing is checked. */
struct key_node {
    uint64_t hash;   /* of a name; of an object or array: nothing */
    uint32_t names;  /* OBJECT: newest name; name: the one before; 0: none */
    uint32_t parent; /* OBJECT, ARRAY: what it is in; 0: nothing */
    bool object;
};
struct key_place {
    uint32_t top, n_nodes;
    uint64_t hash;
    bool in_string, escaped, is_name, expects_name;
};
struct keys {
    struct mem *mem;
    struct key_node *nodes; /* [KEYS_MAX]; 0 is nothing */
    struct key_place at;
};
enum { KEYS_MAX = 1 << 16 };
graft_status keys_open(struct keys *k, struct mem *mem, graft_error *error);
void keys_close(struct keys *k);
void keys_reset(struct keys *k);
/* Reads bytes. false: a name would stand twice in its object, or there is no room; k->at is then anything. */
bool keys_read(struct keys *k, const char *bytes, size_t size);

#endif
