/* vocabulary.c: the bytes of all tokens, sorted into trees that a mask is read from in one walk.
 *
 * A tree lies in the order in which a walk comes by: a node, then all that begins with its bytes; where the grammar
 * refuses a node, `skip` is where the walk goes on. Words of plain characters have a tree of their own, and masks of all
 * that have at most so many characters, for the states within strings, where nearly all of them are allowed.
 */
#include "constraint_internal.h"

struct word {
    const char *bytes;
    uint32_t size;
    graft_token_id id;
    uint32_t characters; /* of a plain word; 0: it is none */
};

static int compare_words(const void *a, const void *b)
{
    const struct word *x = a, *y = b;
    uint32_t size = x->size < y->size ? x->size : y->size;
    int order = memcmp(x->bytes, y->bytes, size);
    return order != 0           ? order
           : x->size != y->size ? (x->size < y->size ? -1 : 1)
           : x->id != y->id     ? (x->id < y->id ? -1 : 1)
                                : 0;
}

/* How many plain characters a word has; 0: it has others, or more than PLAIN_MAX. */
static uint32_t plain_characters(const char *bytes, size_t size)
{
    uint32_t n = 0, code;
    for (size_t i = 0; i < size; n++) {
        int length = utf8_decode(bytes + i, size - i, &code);
        if (length == 0 || code < 0x20 || code == 0x7F || code == '"' || code == '\\' ||
            n == PLAIN_MAX) {
            return 0;
        }
        i += (size_t)length;
    }
    return n;
}

static uint32_t common_prefix(const struct word *a, const struct word *b)
{
    uint32_t n = 0;
    while (n < a->size && n < b->size && a->bytes[n] == b->bytes[n]) {
        n++;
    }
    return n;
}

static void set_bit(uint32_t *mask, graft_token_id id)
{
    mask[(uint32_t)id / 32] |= 1U << ((uint32_t)id % 32);
}

static graft_status out_of_memory(graft_error *error)
{
    return error_set(error, GRAFT_NO_MEMORY, "no memory for the words of a vocabulary");
}

/* Of n sorted words. */
static graft_status tree_build(struct word_tree *tree, struct mem *mem, const struct word *words,
                               size_t n, uint32_t deepest, graft_error *error)
{
    size_t n_nodes = 0;
    for (size_t i = 0; i < n; i++) {
        n_nodes += words[i].size - (i > 0 ? common_prefix(&words[i - 1], &words[i]) : 0);
    }
    tree->nodes = mem_calloc(mem, n_nodes + 1, sizeof *tree->nodes);
    tree->ids = mem_calloc(mem, n, sizeof *tree->ids);
    uint32_t *open = mem_calloc(mem, (size_t)deepest + 1, sizeof *open); /* [depth] node */
    if (tree->nodes == NULL || tree->ids == NULL || open == NULL) {
        mem_free(mem, open);
        return out_of_memory(error);
    }
    uint32_t depth = 0;
    for (size_t i = 0; i < n; i++) {
        uint32_t shared = i > 0 ? common_prefix(&words[i - 1], &words[i]) : 0;
        for (; depth > shared; depth--) {
            tree->nodes[open[depth]].skip = tree->n_nodes;
        }
        while (depth < words[i].size) {
            open[depth + 1] = tree->n_nodes;
            tree->nodes[tree->n_nodes++] = (struct word_node){
                .words = (uint32_t)i, .depth = depth + 1, .byte = (uint8_t)words[i].bytes[depth]};
            depth++;
        }
        tree->ids[i] = words[i].id;
    }
    for (; depth > 0; depth--) {
        tree->nodes[open[depth]].skip = tree->n_nodes;
    }
    tree->nodes[tree->n_nodes] = (struct word_node){.words = (uint32_t)n};
    tree->n_words = (uint32_t)n;
    mem_free(mem, open);
    return GRAFT_OK;
}

/* Copies the bytes of all tokens: words[*n] are those that can be generated as text. */
static graft_status collect(struct vocabulary *v, const struct tokenizer *t, struct word *words,
                            size_t *n, graft_error *error)
{
    int known = tokenizer_size(t) < v->n_vocab ? tokenizer_size(t) : v->n_vocab;
    size_t total = 0, size;
    bool apart;
    for (graft_token_id id = 0; id < known; id++) {
        if (tokenizer_bytes(t, id, &size, &apart) != NULL) {
            total += size;
            if (apart) {
                return error_set(error, GRAFT_UNSUPPORTED,
                                 "the tokenizer puts spaces between tokens: their text cannot be "
                                 "held to a grammar");
            }
        }
    }
    if (total > UINT32_MAX || (v->bytes = mem_alloc(v->mem, total)) == NULL) {
        return out_of_memory(error);
    }
    uint32_t at = 0;
    for (graft_token_id id = 0; id < v->n_vocab; id++) {
        v->offsets[id] = at;
        v->is_end[id] = id < known && tokenizer_is_end(t, id);
        const char *bytes = id < known ? tokenizer_bytes(t, id, &size, &apart) : NULL;
        if (bytes == NULL || v->is_end[id]) {
            continue;
        }
        memcpy(v->bytes + at, bytes, size);
        words[(*n)++] = (struct word){.bytes = v->bytes + at,
                                      .size = (uint32_t)size,
                                      .id = id,
                                      .characters = plain_characters(bytes, size)};
        at += (uint32_t)size;
        v->deepest = size > v->deepest ? (uint32_t)size : v->deepest;
        if (memchr(bytes, '"', size) != NULL) {
            v->quoted[v->n_quoted++] = id;
        }
    }
    v->offsets[v->n_vocab] = at;
    return GRAFT_OK;
}

/* Plain words to the front; returns how many. The order is made anew afterwards. */
static size_t plain_first(struct word *words, size_t n)
{
    size_t plain = 0;
    for (size_t i = 0; i < n; i++) {
        if (words[i].characters > 0) {
            struct word word = words[plain];
            words[plain++] = words[i];
            words[i] = word;
        }
    }
    return plain;
}

static graft_status arrange(struct vocabulary *v, struct word *words, size_t n, graft_error *error)
{
    size_t plain = plain_first(words, n);
    if (plain > 0) {
        qsort(words, plain, sizeof *words, compare_words);
    }
    if (n > plain) {
        qsort(words + plain, n - plain, sizeof *words, compare_words);
    }
    for (size_t i = 0; i < plain; i++) {
        for (uint32_t most = words[i].characters; most <= PLAIN_MAX; most++) {
            set_bit(v->plain_masks + most * v->mask_words, words[i].id);
        }
    }
    graft_status status = tree_build(&v->plain, v->mem, words, plain, v->deepest, error);
    return status == GRAFT_OK
               ? tree_build(&v->other, v->mem, words + plain, n - plain, v->deepest, error)
               : status;
}

graft_status vocabulary_open(struct mem *mem, const struct tokenizer *t, int n_vocab,
                             struct vocabulary **out, graft_error *error)
{
    struct vocabulary *v = mem_calloc(mem, 1, sizeof *v);
    struct word *words = mem_calloc(mem, (size_t)n_vocab, sizeof *words);
    graft_status status = GRAFT_OK;
    size_t n = 0;
    if (v != NULL) {
        v->mem = mem;
        atomic_init(&v->references, 1);
        v->n_vocab = n_vocab;
        v->mask_words = ((size_t)n_vocab + 31) / 32;
        v->offsets = mem_calloc(mem, (size_t)n_vocab + 1, sizeof *v->offsets);
        v->is_end = mem_calloc(mem, (size_t)n_vocab, sizeof *v->is_end);
        v->quoted = mem_calloc(mem, (size_t)n_vocab, sizeof *v->quoted);
        v->plain_masks = mem_calloc(mem, (PLAIN_MAX + 1) * v->mask_words, sizeof *v->plain_masks);
    }
    if (v == NULL || words == NULL || v->offsets == NULL || v->is_end == NULL ||
        v->quoted == NULL || v->plain_masks == NULL) {
        status = out_of_memory(error);
    } else {
        status = collect(v, t, words, &n, error);
    }
    if (status == GRAFT_OK) {
        status = arrange(v, words, n, error);
    }
    mem_free(mem, words);
    if (status != GRAFT_OK) {
        vocabulary_release(&v);
        return status;
    }
    *out = v;
    return GRAFT_OK;
}

struct vocabulary *vocabulary_acquire(struct vocabulary *v)
{
    atomic_fetch_add(&v->references, 1);
    return v;
}

void vocabulary_release(struct vocabulary **vocabulary)
{
    struct vocabulary *v = *vocabulary;
    *vocabulary = NULL;
    if (v != NULL && atomic_fetch_sub(&v->references, 1) == 1) {
        mem_free(v->mem, v->offsets);
        mem_free(v->mem, v->bytes);
        mem_free(v->mem, v->is_end);
        mem_free(v->mem, v->quoted);
        mem_free(v->mem, v->plain_masks);
        mem_free(v->mem, v->plain.nodes);
        mem_free(v->mem, v->plain.ids);
        mem_free(v->mem, v->other.nodes);
        mem_free(v->mem, v->other.ids);
        mem_free(v->mem, v);
    }
}
