/* matcher.c: a position in a grammar for one vocabulary: masks, steps, looks ahead.
 *
 * A mask is read from the vocabulary's trees in one walk beside the machine, and kept for the state that it belongs to in a
 * cache of a fixed size. Where every plain character leads to one and the same state, as within strings, the plain words are
 * a mask that was made with the vocabulary, and only the others are walked. Whatever fills the machine up is begun again with all
 * but the present state forgotten; what then still does not fit is a LIMIT.
 */
#include "constraint_internal.h"

enum { CACHE_BYTES = 8 << 20, SLOTS_LEAST = 16, SLOTS_MOST = 1024 };

/* Tokens beside the least bytes to the end of a text: the end token, and some for names that have to be new ones. */
enum { FIT_MARGIN = 8 };

struct matcher {
    struct mem *mem;
    struct grammar *grammar;
    struct vocabulary *vocabulary;
    struct machine machine;
    struct keys keys; /* of a grammar with unique_keys */
    int32_t state;
    size_t room;          /* tokens that may still come */
    int32_t *path;        /* [deepest + 1] states of a walk */
    uint32_t *masks;      /* [n_slots, mask_words] */
    int32_t *owners;      /* [n_slots] the state of each; 0: none */
    uint32_t *filtered;   /* [mask_words] what unique_keys leaves of a mask */
    graft_token_id *ends; /* [n_ends] */
    int n_ends, n_slots, hand;
};

/* ---- open and close ---- */

static graft_status collect_ends(struct matcher *m, const struct matcher_options *o,
                                 graft_error *error)
{
    const struct vocabulary *v = m->vocabulary;
    int n = o->n_ends;
    for (int i = 0; i < v->n_vocab; i++) {
        n += v->is_end[i];
    }
    m->ends = mem_calloc(m->mem, (size_t)n, sizeof *m->ends);
    if (m->ends == NULL) {
        return error_set(error, GRAFT_NO_MEMORY, "no memory to match a grammar");
    }
    for (int i = 0; i < v->n_vocab; i++) {
        if (v->is_end[i]) {
            m->ends[m->n_ends++] = i;
        }
    }
    for (int i = 0; i < o->n_ends; i++) {
        if (o->ends[i] >= 0 && o->ends[i] < v->n_vocab) {
            m->ends[m->n_ends++] = o->ends[i];
        }
    }
    return GRAFT_OK;
}

static graft_status open_masks(struct matcher *m, graft_error *error)
{
    const struct vocabulary *v = m->vocabulary;
    size_t fit = CACHE_BYTES / (v->mask_words * sizeof *m->masks + 1);
    m->n_slots = (int)(fit > SLOTS_MOST ? SLOTS_MOST : fit < SLOTS_LEAST ? SLOTS_LEAST : fit);
    m->masks = mem_alloc(m->mem, (size_t)m->n_slots * v->mask_words * sizeof *m->masks);
    m->owners = mem_calloc(m->mem, (size_t)m->n_slots, sizeof *m->owners);
    m->filtered = mem_alloc(m->mem, v->mask_words * sizeof *m->filtered);
    m->path = mem_alloc(m->mem, ((size_t)v->deepest + 1) * sizeof *m->path);
    return m->masks != NULL && m->owners != NULL && m->filtered != NULL && m->path != NULL
               ? GRAFT_OK
               : error_set(error, GRAFT_NO_MEMORY, "no memory to match a grammar");
}

graft_status matcher_open(struct mem *mem, struct grammar *g, const struct matcher_options *options,
                          struct matcher **out, graft_error *error)
{
    struct matcher *m = mem_calloc(mem, 1, sizeof *m);
    if (m == NULL) {
        return error_set(error, GRAFT_NO_MEMORY, "no memory to match a grammar");
    }
    m->mem = mem;
    m->room = SIZE_MAX;
    m->grammar = grammar_acquire(g);
    m->vocabulary = vocabulary_acquire(options->vocabulary);
    graft_status status = machine_open(&m->machine, mem, g, error);
    if (status == GRAFT_OK) {
        status = collect_ends(m, options, error);
    }
    if (status == GRAFT_OK) {
        status = open_masks(m, error);
    }
    if (status == GRAFT_OK && g->unique_keys) {
        status = keys_open(&m->keys, mem, error);
    }
    if (status == GRAFT_OK) {
        matcher_reset(m);
        if (m->state == MACHINE_DEAD) {
            status = error_set(error, GRAFT_LIMIT, "the grammar is too ambiguous where it begins");
        }
    }
    if (status != GRAFT_OK) {
        matcher_close(&m);
        return status;
    }
    *out = m;
    return GRAFT_OK;
}

struct grammar *matcher_grammar(const struct matcher *m)
{
    return m->grammar;
}

struct vocabulary *matcher_vocabulary(const struct matcher *m)
{
    return m->vocabulary;
}

void matcher_close(struct matcher **matcher)
{
    struct matcher *m = *matcher;
    *matcher = NULL;
    if (m != NULL) {
        machine_close(&m->machine);
        keys_close(&m->keys);
        grammar_release(&m->grammar);
        vocabulary_release(&m->vocabulary);
        mem_free(m->mem, m->path);
        mem_free(m->mem, m->masks);
        mem_free(m->mem, m->owners);
        mem_free(m->mem, m->filtered);
        mem_free(m->mem, m->ends);
        mem_free(m->mem, m);
    }
}

/* Forgets all but the present state. */
static void flush(struct matcher *m)
{
    m->state = machine_flush(&m->machine, m->state);
    memset(m->owners, 0, (size_t)m->n_slots * sizeof *m->owners);
}

void matcher_reset(struct matcher *m)
{
    int32_t state = machine_start(&m->machine);
    if (state == MACHINE_FULL) {
        m->state = MACHINE_DEAD;
        flush(m);
        state = machine_start(&m->machine);
    }
    m->state = state > 0 ? state : MACHINE_DEAD;
    if (m->grammar->unique_keys) {
        keys_reset(&m->keys);
    }
}

/* ---- masks ---- */

static void put_ends(const struct matcher *m, uint32_t *mask)
{
    bool complete = m->machine.states[m->state].complete;
    for (int i = 0; i < m->n_ends; i++) { /* ends of the model may be words of the tokenizer */
        uint32_t bit = 1U << (m->ends[i] % 32), *word = &mask[m->ends[i] / 32];
        *word = complete ? *word | bit : *word & ~bit;
    }
}

/* Bytes that are to come behind words: at most `most`, or they are not wanted; of all that can follow the least and, of those
 * that are wanted, the most. */
struct reach {
    uint32_t most, near, far;
};

/* Sets the bits of the words of a tree that can follow and are wanted. false: the machine is full. */
static bool walk_tree(struct matcher *m, const struct word_tree *tree, struct reach *r,
                      uint32_t *mask)
{
    const struct word_node *nodes = tree->nodes;
    m->path[0] = m->state;
    for (uint32_t i = 0; i < tree->n_nodes;) {
        const struct word_node *n = &nodes[i];
        int32_t to = machine_step(&m->machine, m->path[n->depth - 1], n->byte);
        if (to == MACHINE_FULL) {
            return false;
        }
        if (to == MACHINE_DEAD) {
            i = n->skip;
            continue;
        }
        m->path[n->depth] = to;
        i++;
        if (n->words == n[1].words) {
            continue;
        }
        uint32_t left = m->machine.states[to].left;
        r->near = left < r->near ? left : r->near;
        if (left > r->most) {
            continue;
        }
        r->far = left > r->far ? left : r->far;
        for (uint32_t k = n->words; k < n[1].words; k++) {
            uint32_t id = (uint32_t)tree->ids[k];
            mask[id / 32] |= 1U << (id % 32);
        }
    }
    return true;
}

/* All words that can follow and are wanted, and ends where the text may end. */
static bool walk(struct matcher *m, struct reach *r, uint32_t *mask)
{
    const struct vocabulary *v = m->vocabulary;
    memset(mask, 0, v->mask_words * sizeof *mask);
    if (!walk_tree(m, &v->plain, r, mask) || !walk_tree(m, &v->other, r, mask)) {
        return false;
    }
    put_ends(m, mask);
    return true;
}

/* How many plain characters may follow, whichever they are, before none may; *far is the most bytes that are to come behind any
 * of them. RUN_MIXED: it depends on which they are. */
enum { RUN_MIXED = -1, RUN_FULL = -2 };
static int plain_run(struct matcher *m, uint32_t *far)
{
    int32_t state = m->state;
    for (int n = 0; n < PLAIN_MAX; n++) {
        int32_t to = machine_plain(&m->machine, state);
        if (to == MACHINE_FULL || to == PLAIN_MIXED) {
            return to == MACHINE_FULL ? RUN_FULL : RUN_MIXED;
        }
        if (to == MACHINE_DEAD) {
            return n;
        }
        uint32_t left = m->machine.states[to].left;
        *far = left > *far ? left : *far;
        if (to == state) {
            break;
        }
        state = to;
    }
    return PLAIN_MAX;
}

static bool fill_mask(struct matcher *m, uint32_t *mask, uint32_t *far)
{
    const struct vocabulary *v = m->vocabulary;
    struct reach r = {.most = LEFT_MAX, .near = LEFT_MAX};
    int run = plain_run(m, &r.far);
    if (run == RUN_FULL) {
        return false;
    }
    bool ok = true;
    if (run == RUN_MIXED) {
        ok = walk(m, &r, mask);
    } else {
        memcpy(mask, v->plain_masks + (size_t)run * v->mask_words, v->mask_words * sizeof *mask);
        ok = walk_tree(m, &v->other, &r, mask);
        put_ends(m, mask);
    }
    *far = r.far;
    return ok;
}

/* The mask of the present state, made if it is not there; NULL: the machine is full. */
static uint32_t *cached_mask(struct matcher *m)
{
    size_t words = m->vocabulary->mask_words;
    int32_t slot = m->machine.states[m->state].mask;
    if (slot < 0) {
        slot = m->hand;
        m->hand = (m->hand + 1) % m->n_slots;
        if (m->owners[slot] != 0) {
            m->machine.states[m->owners[slot]].mask = -1;
            m->owners[slot] = 0;
        }
        uint32_t far = 0;
        if (!fill_mask(m, m->masks + (size_t)slot * words, &far)) {
            return NULL;
        }
        m->machine.states[m->state].most = far;
        m->owners[slot] = m->state;
        m->machine.states[m->state].mask = slot;
    }
    return m->masks + (size_t)slot * words;
}

static const char *word_bytes(const struct matcher *m, graft_token_id id, size_t *size)
{
    const struct vocabulary *v = m->vocabulary;
    *size = v->offsets[id + 1] - v->offsets[id];
    return v->bytes + v->offsets[id];
}

static bool is_empty(const struct matcher *m, const uint32_t *mask)
{
    uint32_t any = 0;
    for (size_t i = 0; i < m->vocabulary->mask_words; i++) {
        any |= mask[i];
    }
    return any == 0;
}

/* The mask for the room that there is: all of it, where every word leaves enough; else those that do. Where none does, words may
 * still do it that are longer than a byte: those that come nearest to an end are left. NULL: the machine is full. */
static const uint32_t *fitting_mask(struct matcher *m)
{
    const uint32_t *mask = cached_mask(m);
    size_t most = m->room > FIT_MARGIN ? m->room - FIT_MARGIN : 0;
    if (mask == NULL || m->room == SIZE_MAX || m->machine.states[m->state].most <= most) {
        return mask;
    }
    struct reach r = {.most = (uint32_t)most, .near = LEFT_MAX};
    if (!walk(m, &r, m->filtered)) {
        return NULL;
    }
    if (is_empty(m, m->filtered)) {
        r.most = r.near;
        if (!walk(m, &r, m->filtered)) {
            return NULL;
        }
    }
    return m->filtered;
}

/* What is left of a mask without words that would give an object a name twice. Only what has a quote can. */
static const uint32_t *filter_names(struct matcher *m, const uint32_t *mask)
{
    const struct vocabulary *v = m->vocabulary;
    const struct key_place place = m->keys.at;
    if (mask != m->filtered) {
        memcpy(m->filtered, mask, v->mask_words * sizeof *mask);
    }
    for (size_t i = 0; i < v->n_quoted; i++) {
        uint32_t id = (uint32_t)v->quoted[i], bit = 1U << (id % 32);
        size_t size;
        if ((mask[id / 32] & bit) != 0) {
            const char *bytes = word_bytes(m, (graft_token_id)id, &size);
            if (!keys_read(&m->keys, bytes, size)) {
                m->filtered[id / 32] &= ~bit;
            }
            m->keys.at = place;
        }
    }
    return m->filtered;
}

graft_status matcher_mask(struct matcher *m, const uint32_t **out, graft_error *error)
{
    const uint32_t *mask = fitting_mask(m);
    if (mask == NULL) {
        flush(m);
        mask = m->state != MACHINE_DEAD ? fitting_mask(m) : NULL;
    }
    if (mask == NULL) {
        return error_set(error, GRAFT_LIMIT, "the grammar is too ambiguous here");
    }
    if (m->grammar->unique_keys) {
        mask = filter_names(m, mask);
    }
    if (is_empty(m, mask)) {
        return error_set(error, GRAFT_UNSUPPORTED,
                         matcher_is_complete(m)
                             ? "the text is complete and the model has no end token to say so"
                             : "the vocabulary has no token for what the grammar asks for here");
    }
    *out = mask;
    return GRAFT_OK;
}

void matcher_fit(struct matcher *m, size_t tokens)
{
    m->room = tokens;
}

/* ---- steps ---- */

static bool is_end(const struct matcher *m, graft_token_id id)
{
    for (int i = 0; i < m->n_ends; i++) {
        if (m->ends[i] == id) {
            return true;
        }
    }
    return false;
}

/* The state behind a word; MACHINE_FULL: there is no room, with all but the present one forgotten. */
static int32_t follow_word(struct matcher *m, int32_t state, graft_token_id id)
{
    size_t size;
    const char *bytes = word_bytes(m, id, &size);
    if (size == 0) {
        return MACHINE_DEAD;
    }
    for (size_t i = 0; i < size && state > 0; i++) {
        state = machine_step(&m->machine, state, (uint8_t)bytes[i]);
    }
    return state;
}

/* One step of a row from *state and the present place of names; false: not allowed, or (*full) no room. */
static bool advance(struct matcher *m, int32_t *state, graft_token_id id, bool *full)
{
    int32_t to = follow_word(m, *state, id);
    size_t size;
    *full = to == MACHINE_FULL;
    if (to <= 0) {
        return false;
    }
    if (m->grammar->unique_keys) {
        const struct key_place place = m->keys.at;
        const char *bytes = word_bytes(m, id, &size);
        if (!keys_read(&m->keys, bytes, size)) {
            m->keys.at = place;
            return false;
        }
    }
    *state = to;
    return true;
}

bool matcher_accept(struct matcher *m, graft_token_id id)
{
    if (id < 0 || id >= m->vocabulary->n_vocab || m->state == MACHINE_DEAD) {
        return false;
    }
    if (is_end(m, id)) {
        return matcher_is_complete(m);
    }
    int32_t state = m->state;
    bool full = false, ok = advance(m, &state, id, &full);
    if (full) {
        flush(m);
        state = m->state;
        ok = advance(m, &state, id, &full);
    }
    if (ok) {
        m->state = state;
    }
    return ok;
}

int matcher_allowed(struct matcher *m, const graft_token_id *ids, int n)
{
    const struct key_place place = m->keys.at;
    bool full = true;
    int allowed = 0;
    for (int round = 0; round < 2 && full; round++) {
        int32_t state = m->state;
        full = false;
        for (allowed = 0; allowed < n && state != MACHINE_DEAD; allowed++) {
            graft_token_id id = ids[allowed];
            bool known = id >= 0 && id < m->vocabulary->n_vocab;
            if (known && is_end(m, id)) {
                allowed += m->machine.states[state].complete;
                break;
            }
            if (!known || !advance(m, &state, id, &full)) {
                break;
            }
        }
        m->keys.at = place;
        if (full && round == 0) {
            flush(m);
        }
    }
    return allowed;
}

bool matcher_is_complete(const struct matcher *m)
{
    return m->machine.states[m->state].complete;
}
