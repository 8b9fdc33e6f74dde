/* trie.c: a double-array trie, one array access per byte of the text.
 *
 * State s has a child for byte b at index base[s] + b when check[there] is s. Built breadth-first
 * from sorted keys: a node's key range is cut by its next byte, and the children are put at the first
 * base where all their places are free. The search begins behind places that are full or that did not
 * fit for long, which keeps building close to linear.
 */
#include "tokenizer_internal.h"

enum { TRIE_FIRST = 1024, TRIE_MAX = 1 << 28, TRIE_TRIES = 64, TRIE_STEPS = 2048 };

struct range {
    size_t begin, end; /* keys */
    uint32_t depth;
    int32_t state;
};
struct queue {
    struct range *items;
    size_t head, count, capacity;
};

static int key_order(const void *a, const void *b)
{
    const struct trie_key *x = a, *y = b;
    uint32_t n = x->length < y->length ? x->length : y->length;
    int order = memcmp(x->text, y->text, n);
    if (order)
        return order;
    if (x->length != y->length)
        return x->length < y->length ? -1 : 1;
    return x->value < y->value ? -1 : x->value > y->value;
}

static bool trie_grow(struct trie *t, int32_t needed)
{
    if (needed <= t->capacity)
        return true;
    if (needed > TRIE_MAX)
        return false;
    int32_t capacity = t->capacity ? t->capacity : TRIE_FIRST;
    while (capacity < needed)
        capacity *= 2;
    int32_t **arrays[] = {&t->base, &t->check, &t->value};
    for (size_t i = 0; i < ARRAY_LEN(arrays); i++) {
        int32_t *grown = mem_resize(t->mem, *arrays[i], (size_t)capacity * sizeof *grown);
        if (!grown)
            return false;
        *arrays[i] = grown;
        for (int32_t k = t->capacity; k < capacity; k++)
            grown[k] = -1;
    }
    t->capacity = capacity;
    return true;
}

/* A base at which all the bytes' places are free. *hint: where the search begins; it moves on when
 * the search was long. -1: no memory. */
static int32_t find_base(struct trie *t, const uint8_t *bytes, int n, int32_t *hint)
{
    int tries = 0, steps = 0;
    int32_t place = *hint > bytes[0] ? *hint : bytes[0] + 1;
    for (;; place++) {
        int32_t base = place - bytes[0];
        if (!trie_grow(t, base + 256))
            return -1;
        int i = 0;
        while (i < n && t->check[base + bytes[i]] < 0)
            i++;
        if (i == n)
            break;
        tries += i > 0;
        steps++;
    }
    if (tries > TRIE_TRIES || steps > TRIE_STEPS)
        *hint = place;
    return place - bytes[0];
}

static bool queue_push(struct queue *q, struct mem *mem, struct range r)
{
    if (q->count == q->capacity) {
        size_t capacity = q->capacity ? q->capacity * 2 : 256;
        struct range *grown = mem_resize(mem, q->items, capacity * sizeof *grown);
        if (!grown)
            return false;
        q->items = grown;
        q->capacity = capacity;
    }
    q->items[q->count++] = r;
    return true;
}

/* Places the children of one node and queues them. */
static bool expand(struct trie *t, const struct trie_key *keys, struct range r, struct queue *q,
                   int32_t *hint)
{
    uint8_t bytes[256];
    size_t begins[257];
    int n = 0;
    size_t i = r.begin;
    if (keys[i].length == r.depth)
        t->value[r.state] = keys[i].value;
    while (i < r.end && keys[i].length == r.depth)
        i++;
    for (; i < r.end; i++) {
        uint8_t byte = (uint8_t)keys[i].text[r.depth];
        if (n == 0 || bytes[n - 1] != byte) {
            bytes[n] = byte;
            begins[n++] = i;
        }
    }
    if (n == 0)
        return true;
    begins[n] = r.end;
    int32_t base = find_base(t, bytes, n, hint);
    if (base < 0)
        return false;
    t->base[r.state] = base;
    for (int k = 0; k < n; k++) {
        int32_t child = base + bytes[k];
        t->check[child] = r.state;
        t->base[child] = 0;
        if (child >= t->size)
            t->size = child + 1;
        struct range below = {begins[k], begins[k + 1], r.depth + 1, child};
        if (!queue_push(q, t->mem, below))
            return false;
    }
    while (*hint < t->size && t->check[*hint] >= 0)
        ++*hint;
    return true;
}

graft_status trie_build(struct trie *trie, struct mem *mem, struct trie_key *keys, size_t count,
                        graft_error *error)
{
    struct queue q = {0};
    *trie = (struct trie){.mem = mem};
    graft_status status = GRAFT_OK;
    qsort(keys, count, sizeof *keys, key_order);
    int32_t hint = 1;
    bool ok = trie_grow(trie, TRIE_FIRST);
    if (ok) {
        trie->check[0] = 0;
        trie->base[0] = 0;
        trie->size = 1;
        ok = count == 0 || queue_push(&q, mem, (struct range){0, count, 0, 0});
    }
    while (ok && q.head < q.count) {
        struct range r = q.items[q.head++];
        ok = expand(trie, keys, r, &q, &hint);
    }
    mem_free(mem, q.items);
    if (!ok) {
        trie_free(trie);
        status = error_set(error, GRAFT_NO_MEMORY, "out of memory for a table of tokens");
    }
    return status;
}

void trie_free(struct trie *trie)
{
    mem_free(trie->mem, trie->base);
    mem_free(trie->mem, trie->check);
    mem_free(trie->mem, trie->value);
    *trie = (struct trie){0};
}
