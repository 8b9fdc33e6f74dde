/* ngram.c: proposals by looking up how the sequence went on the last time.
 *
 * One table per length from the hash of an n-gram to the position behind its last occurrence; each position remembers
 * what the table held before it, which chains occurrences for the case of a collision and makes forgetting an exact undo.
 * The index holds a copy of the sequence, so that it can be undone after the caller's is gone. The n-gram that ends the
 * sequence is not in it: nothing followed yet.
 */
#include "generate/draft/draft.h"

enum {
    LENGTHS = NGRAM_MAX - NGRAM_MIN + 1,
    CHAIN_MAX = 8, /* occurrences looked at: beyond one only where hashes collide */
    TOKENS_MAX = 1 << 28
};

struct ngram {
    struct mem *mem;
    size_t capacity, n;
    bool over;              /* the sequence is longer than the index: its end is not known */
    graft_token_id *tokens; /* [capacity], n of them set */
    unsigned bits;
    uint32_t *heads[LENGTHS];  /* [1 << bits] position behind the last occurrence; 0: none */
    uint32_t *before[LENGTHS]; /* [capacity] what the head was before this position */
};

graft_status ngram_open(struct mem *mem, size_t capacity, struct ngram **out, graft_error *error)
{
    if (capacity < 1 || capacity > TOKENS_MAX) {
        return error_set(error, GRAFT_INVALID_ARGUMENT, "an index of %zu tokens", capacity);
    }
    struct ngram *g = mem_calloc(mem, 1, sizeof *g);
    if (g == NULL) {
        return error_set(error, GRAFT_NO_MEMORY, "no memory for an index of tokens");
    }
    g->mem = mem;
    g->capacity = capacity;
    g->bits = 4;
    while (((size_t)1 << g->bits) < capacity) {
        g->bits++;
    }
    g->tokens = mem_calloc(mem, capacity, sizeof *g->tokens);
    bool whole = g->tokens != NULL;
    for (int i = 0; i < LENGTHS; i++) {
        g->heads[i] = mem_calloc(mem, (size_t)1 << g->bits, sizeof *g->heads[i]);
        g->before[i] = mem_calloc(mem, capacity, sizeof *g->before[i]);
        whole = whole && g->heads[i] != NULL && g->before[i] != NULL;
    }
    if (!whole) {
        ngram_close(&g);
        return error_set(error, GRAFT_NO_MEMORY, "no memory for an index of %zu tokens", capacity);
    }
    *out = g;
    return GRAFT_OK;
}

void ngram_close(struct ngram **ngram)
{
    struct ngram *g = *ngram;
    if (g != NULL) {
        for (int i = 0; i < LENGTHS; i++) {
            mem_free(g->mem, g->heads[i]);
            mem_free(g->mem, g->before[i]);
        }
        mem_free(g->mem, g->tokens);
        mem_free(g->mem, g);
    }
    *ngram = NULL;
}

/* The slot of the tokens that end before position p. */
static uint32_t *head(const struct ngram *g, int i, size_t p)
{
    const graft_token_id *gram = g->tokens + p - (size_t)(NGRAM_MIN + i);
    uint64_t h = 0;
    for (int j = 0; j < NGRAM_MIN + i; j++) {
        h = (h ^ (uint32_t)gram[j]) * 0x9e3779b97f4a7c15u;
        h ^= h >> 32;
    }
    return &g->heads[i][(h * 0x9e3779b97f4a7c15u) >> (64 - g->bits)];
}

void ngram_trim(struct ngram *g, size_t n)
{
    g->over = g->over && n > g->capacity;
    while (g->n > n) {
        g->n--;
        for (int i = 0; i < LENGTHS && g->n >= (size_t)(NGRAM_MIN + i); i++) {
            *head(g, i, g->n) = g->before[i][g->n];
        }
    }
}

void ngram_follow(struct ngram *g, const graft_token_id *tokens, size_t n)
{
    ngram_trim(g, n);
    g->over = n > g->capacity;
    n = g->over ? g->capacity : n;
    for (; g->n < n; g->n++) {
        g->tokens[g->n] = tokens[g->n];
        for (int i = 0; i < LENGTHS && g->n >= (size_t)(NGRAM_MIN + i); i++) {
            uint32_t *slot = head(g, i, g->n);
            g->before[i][g->n] = *slot;
            *slot = (uint32_t)g->n;
        }
    }
}

/* The position behind the last earlier occurrence of the end of length NGRAM_MIN + i; 0: there is none. */
static size_t find(const struct ngram *g, int i)
{
    size_t length = (size_t)(NGRAM_MIN + i);
    if (g->n < length || g->over) {
        return 0;
    }
    const graft_token_id *end = g->tokens + g->n;
    size_t p = *head(g, i, g->n);
    for (int looked = 0; p != 0 && looked < CHAIN_MAX; looked++, p = g->before[i][p]) {
        if (memcmp(g->tokens + p - length, end - length, length * sizeof *end) == 0) {
            return p;
        }
    }
    return 0;
}

int ngram_propose(const struct ngram *g, int k, graft_token_id *out, int *length)
{
    for (int i = LENGTHS - 1; i >= 0; i--) {
        size_t p = find(g, i);
        if (p == 0) {
            continue;
        }
        size_t period = g->n - p;
        for (int j = 0; j < k; j++) {
            out[j] = g->tokens[p + (size_t)j % period];
        }
        if (length != NULL) {
            *length = NGRAM_MIN + i;
        }
        return k;
    }
    return 0;
}
