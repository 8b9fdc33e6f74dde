/* bpe.c: byte-pair encoding of one word.
 *
 * A word becomes symbols (bytes, or characters); then the adjacent pair of the lowest rank, leftmost
 * first, is merged until none is left. Short words, nearly all, look for that pair by a scan over an
 * array; long ones keep candidates in a heap, so that a megabyte of one letter stays n log n. Both
 * give the same result, which a test checks.
 */
#include "tokenizer_internal.h"

enum { SCAN_MAX = 40 }; /* symbols of a word that is scanned */

static struct bpe_symbol *reserve_symbols(struct encoder *e, size_t count)
{
    if (count > e->symbols_capacity) {
        size_t capacity = count + count / 2 + 64;
        struct bpe_symbol *grown = mem_resize(e->mem, e->symbols, capacity * sizeof *grown);
        if (!grown)
            return NULL;
        e->symbols = grown;
        e->symbols_capacity = capacity;
    }
    return e->symbols;
}

/* Adds the symbol of an unknown part, joined to the one before when the model fuses them. A model
 * without an unknown token leaves the part out, and its neighbours may merge. */
static size_t add_unknown(const struct tokenizer *t, struct bpe_symbol *s, size_t n, bool *pending,
                          uint32_t start, uint32_t length)
{
    if (t->model_unk < 0)
        return n;
    if (*pending && t->bpe.fuse_unk) {
        s[n - 1].length += length;
        return n;
    }
    *pending = true;
    s[n] = (struct bpe_symbol){.id = t->model_unk, .start = start, .length = length};
    return n + 1;
}

static size_t symbols_of_bytes(const struct tokenizer *t, struct bpe_symbol *s, const char *word,
                               size_t size)
{
    size_t n = 0;
    bool unknown = false;
    for (size_t i = 0; i < size; i++) {
        int32_t id = t->bpe.byte_ids[(uint8_t)word[i]];
        if (id < 0) {
            n = add_unknown(t, s, n, &unknown, (uint32_t)i, 1);
            continue;
        }
        unknown = false;
        s[n++] = (struct bpe_symbol){.id = id, .start = (uint32_t)i, .length = 1};
    }
    return n;
}

static int32_t char_symbol(const struct tokenizer *t, const char *text, size_t length)
{
    if (length == 1 && !(text[0] & 0x80))
        return t->bpe.ascii_ids[(uint8_t)text[0]];
    int32_t id = vocab_find(&t->vocab, text, length);
    return id < 0 ? str_map_get(&t->bpe.extra, text, length) : id;
}

static bool has_bytes(const struct bpe *b, const char *text, size_t length)
{
    for (size_t i = 0; i < length; i++) {
        if (b->byte_ids[(uint8_t)text[i]] < 0)
            return false;
    }
    return b->byte_fallback;
}

static size_t symbols_of_chars(const struct tokenizer *t, struct bpe_symbol *s, const char *word,
                               size_t size)
{
    size_t n = 0;
    bool unknown = false;
    for (size_t i = 0; i < size;) {
        uint32_t code;
        int step = utf8_decode(word + i, size - i, &code);
        uint32_t length = step ? (uint32_t)step : 1;
        int32_t id = step ? char_symbol(t, word + i, length) : -1;
        if (id >= 0) {
            unknown = false;
            s[n++] = (struct bpe_symbol){.id = id, .start = (uint32_t)i, .length = length};
        } else if (has_bytes(&t->bpe, word + i, length)) {
            unknown = false;
            for (uint32_t k = 0; k < length; k++)
                s[n++] = (struct bpe_symbol){.id = t->bpe.byte_ids[(uint8_t)word[i + k]],
                                             .start = (uint32_t)i + k,
                                             .length = 1};
        } else {
            n = add_unknown(t, s, n, &unknown, (uint32_t)i, length);
        }
        i += length;
    }
    return n;
}

static const struct merge *find_merge(const struct tokenizer *t, const struct bpe_symbol *left,
                                      const struct bpe_symbol *right)
{
    return merge_table_get(&t->bpe.merges, (uint32_t)left->id, (uint32_t)right->id);
}

/* Merges a short word in place: pairs[i] is the merge of symbols i and i+1. Returns what is left. */
static size_t merge_by_scan(const struct tokenizer *t, struct bpe_symbol *s, size_t n)
{
    const struct merge *pairs[SCAN_MAX];
    uint32_t ranks[SCAN_MAX];
    for (size_t i = 0; i + 1 < n; i++) {
        pairs[i] = find_merge(t, &s[i], &s[i + 1]);
        ranks[i] = pairs[i] ? pairs[i]->rank : UINT32_MAX;
    }
    while (n > 1) {
        size_t best = 0;
        for (size_t i = 1; i + 1 < n; i++) {
            if (ranks[i] < ranks[best])
                best = i;
        }
        if (ranks[best] == UINT32_MAX)
            break;
        s[best].id = (int32_t)pairs[best]->result;
        s[best].length += s[best + 1].length;
        n--;
        memmove(&s[best + 1], &s[best + 2], (n - best - 1) * sizeof *s);
        if (n > best + 1) {
            memmove(&pairs[best + 1], &pairs[best + 2], (n - best - 2) * sizeof *pairs);
            memmove(&ranks[best + 1], &ranks[best + 2], (n - best - 2) * sizeof *ranks);
            pairs[best] = find_merge(t, &s[best], &s[best + 1]);
            ranks[best] = pairs[best] ? pairs[best]->rank : UINT32_MAX;
        }
        if (best > 0) {
            pairs[best - 1] = find_merge(t, &s[best - 1], &s[best]);
            ranks[best - 1] = pairs[best - 1] ? pairs[best - 1]->rank : UINT32_MAX;
        }
    }
    return n;
}

static bool before(const struct bpe_candidate *a, const struct bpe_candidate *b)
{
    return a->rank != b->rank ? a->rank < b->rank : a->left < b->left;
}

static void heap_push(struct encoder *e, struct bpe_candidate c)
{
    size_t at = e->heap_count++;
    for (; at > 0 && before(&c, &e->heap[(at - 1) / 2]); at = (at - 1) / 2)
        e->heap[at] = e->heap[(at - 1) / 2];
    e->heap[at] = c;
}

static struct bpe_candidate heap_pop(struct encoder *e)
{
    struct bpe_candidate top = e->heap[0];
    struct bpe_candidate last = e->heap[--e->heap_count];
    size_t at = 0;
    for (;;) {
        size_t child = 2 * at + 1;
        if (child >= e->heap_count)
            break;
        if (child + 1 < e->heap_count && before(&e->heap[child + 1], &e->heap[child]))
            child++;
        if (!before(&e->heap[child], &last))
            break;
        e->heap[at] = e->heap[child];
        at = child;
    }
    e->heap[at] = last;
    return top;
}

static void heap_add_pair(struct encoder *e, int32_t left, int32_t right)
{
    if (left < 0 || right < 0)
        return;
    const struct bpe_symbol *a = &e->symbols[left], *b = &e->symbols[right];
    const struct merge *m = find_merge(e->t, a, b);
    if (m)
        heap_push(e, (struct bpe_candidate){m->rank, left, right, a->id, b->id});
}

/* Merges a long word; symbols that were merged away keep length 0. At most n - 1 candidates at first
 * and two more for each of n - 1 merges. */
static bool merge_by_heap(struct encoder *e, size_t n)
{
    if (3 * n > e->heap_capacity) {
        mem_free(e->mem, e->heap);
        e->heap_capacity = 0;
        e->heap = mem_alloc(e->mem, 3 * n * sizeof *e->heap);
        if (!e->heap)
            return false;
        e->heap_capacity = 3 * n;
    }
    struct bpe_symbol *s = e->symbols;
    e->heap_count = 0;
    for (size_t i = 0; i < n; i++) {
        s[i].prev = (int32_t)i - 1;
        s[i].next = i + 1 < n ? (int32_t)i + 1 : -1;
    }
    for (size_t i = 0; i + 1 < n; i++)
        heap_add_pair(e, (int32_t)i, (int32_t)i + 1);
    while (e->heap_count) {
        struct bpe_candidate c = heap_pop(e);
        struct bpe_symbol *a = &s[c.left], *b = &s[c.right];
        if (!a->length || !b->length || a->id != c.left_id || b->id != c.right_id)
            continue; /* one of the two has been merged since */
        const struct merge *m = find_merge(e->t, a, b);
        a->id = (int32_t)m->result;
        a->length += b->length;
        a->next = b->next;
        b->length = 0;
        if (a->next >= 0)
            s[a->next].prev = c.left;
        heap_add_pair(e, a->prev, c.left);
        heap_add_pair(e, c.left, a->next);
    }
    return true;
}

/* A symbol that is no token goes out as its bytes, or as unknown. */
static bool emit_extra(struct encoder *e, const char *text, size_t length)
{
    const struct bpe *b = &e->t->bpe;
    bool ok = true;
    if (has_bytes(b, text, length)) {
        for (size_t i = 0; i < length && ok; i++)
            ok = tokens_push(e->out, b->byte_ids[(uint8_t)text[i]]);
    } else if (e->t->model_unk >= 0) {
        ok = tokens_push(e->out, e->t->model_unk);
    }
    return ok;
}

graft_status bpe_encode(struct encoder *e, const char *word, size_t size)
{
    const struct tokenizer *t = e->t;
    if (t->bpe.ignore_merges) {
        int32_t id = t->bpe.byte_level ? str_map_get(&t->bpe.words, word, size)
                                       : vocab_find(&t->vocab, word, size);
        if (id >= 0)
            return tokens_push(e->out, id) ? GRAFT_OK : encoder_no_memory(e);
    }
    if (!reserve_symbols(e, size))
        return encoder_no_memory(e);
    struct bpe_symbol *s = e->symbols;
    size_t n =
        t->bpe.byte_level ? symbols_of_bytes(t, s, word, size) : symbols_of_chars(t, s, word, size);
    if (n <= SCAN_MAX)
        n = merge_by_scan(t, s, n);
    else if (!merge_by_heap(e, n))
        return encoder_no_memory(e);
    for (size_t i = 0; i < n; i++) {
        if (!s[i].length)
            continue;
        bool ok = s[i].id < t->vocab.count ? tokens_push(e->out, s[i].id)
                                           : emit_extra(e, word + s[i].start, s[i].length);
        if (!ok)
            return encoder_no_memory(e);
    }
    return GRAFT_OK;
}
