/* store.c: how n-grams went on in what was generated under one mix.
 *
 * A table of sets, like a processor's cache: an n-gram's hash says its set, and in it each token that followed has an
 * entry with a count. Where a set is full, the entry with the lowest count loses one for each newcomer, and its place when
 * nothing is left; so memory is bounded, and what comes often stays. An n-gram is known by its hash alone: two of one hash
 * would only make for a wrong proposal. The file is store_file.c's.
 */
#include "generate/draft/draft_internal.h"

enum { WAYS = 8, LEAST_ENTRIES = 64 };

graft_status ngram_store_open(struct mem *mem, const struct ngram_store_options *options,
                              struct ngram_store **out, graft_error *error)
{
    if (options->n_vocab < 1 || options->max_entries > STORE_ENTRIES_MAX) {
        return error_set(error, GRAFT_INVALID_ARGUMENT,
                         "no such store: %zu entries, a vocabulary of %d", options->max_entries,
                         options->n_vocab);
    }
    struct ngram_store *s = mem_calloc(mem, 1, sizeof *s);
    if (s == NULL) {
        return error_set(error, GRAFT_NO_MEMORY, "no memory for a store of n-grams");
    }
    s->mem = mem;
    memcpy(s->mix, options->mix, sizeof s->mix);
    s->n_vocab = options->n_vocab;
    s->capacity = LEAST_ENTRIES;
    while (s->capacity < options->max_entries) {
        s->capacity *= 2;
    }
    atomic_init(&s->references, 1);
    pthread_mutex_init(&s->lock, NULL);
    s->entries = mem_calloc(mem, s->capacity, sizeof *s->entries);
    if (s->entries == NULL) {
        size_t capacity = s->capacity;
        ngram_store_close(&s);
        return error_set(error, GRAFT_NO_MEMORY, "no memory for a store of %zu n-grams", capacity);
    }
    *out = s;
    return GRAFT_OK;
}

struct ngram_store *ngram_store_share(struct ngram_store *store)
{
    atomic_fetch_add(&store->references, 1);
    return store;
}

void ngram_store_close(struct ngram_store **store)
{
    struct ngram_store *s = *store;
    if (s != NULL && atomic_fetch_sub(&s->references, 1) == 1) {
        pthread_mutex_destroy(&s->lock);
        mem_free(s->mem, s->entries);
        mem_free(s->mem, s);
    }
    *store = NULL;
}

/* ---- the table, with the lock held ---- */

/* Of the `length` tokens that end before `end`. Files hold it, so it is the same everywhere. */
static uint64_t key_of(const graft_token_id *end, int length)
{
    uint64_t h = (uint64_t)length;
    for (int i = length; i > 0; i--) {
        h = (h ^ (uint32_t)end[-i]) * 0x9e3779b97f4a7c15u;
        h ^= h >> 29;
    }
    return h * 0xbf58476d1ce4e5b9u;
}

static struct store_entry *set_of(const struct ngram_store *s, uint64_t key)
{
    return s->entries + (size_t)(key >> 32) % (s->capacity / WAYS) * WAYS;
}

/* The entry; or else the one whose place a new one would take. */
static struct store_entry *find(struct store_entry *set, uint64_t key, uint32_t next)
{
    struct store_entry *rarest = set;
    for (int i = 0; i < WAYS; i++) {
        if (set[i].count > 0 && set[i].key == key && set[i].next == next) {
            return &set[i];
        }
        rarest = set[i].count < rarest->count ? &set[i] : rarest;
    }
    return rarest;
}

static bool is_entry(const struct store_entry *e, uint64_t key, uint32_t next)
{
    return e->count > 0 && e->key == key && e->next == next;
}

static void count(struct ngram_store *s, uint64_t key, uint32_t next)
{
    struct store_entry *e = find(set_of(s, key), key, next);
    if (is_entry(e, key, next)) {
        e->count += e->count < STORE_COUNT_MAX;
    } else if (e->count > 1) {
        e->count--;
    } else {
        s->used += e->count == 0;
        *e = (struct store_entry){key, next, 1};
    }
}

bool store_put(struct ngram_store *s, const struct store_entry *entry)
{
    struct store_entry *e = find(set_of(s, entry->key), entry->key, entry->next);
    if (is_entry(e, entry->key, entry->next)) {
        return false;
    }
    if (e->count < entry->count) {
        s->used += e->count == 0;
        *e = *entry;
    }
    return true;
}

/* The token that followed most often; of equal ones the lowest, so that proposals do not depend on places. -1: none did. */
static graft_token_id most_often(const struct ngram_store *s, uint64_t key)
{
    const struct store_entry *set = set_of(s, key), *best = NULL;
    for (int i = 0; i < WAYS; i++) {
        const struct store_entry *e = &set[i];
        if (e->count > 0 && e->key == key &&
            (best == NULL || e->count > best->count ||
             (e->count == best->count && e->next < best->next))) {
            best = e;
        }
    }
    return best != NULL ? (graft_token_id)best->next : -1;
}

/* ---- learning and proposing ---- */

void ngram_store_add(struct ngram_store *s, const graft_token_id *tokens, size_t first, size_t n)
{
    pthread_mutex_lock(&s->lock);
    for (size_t i = first; i < n; i++) {
        for (int length = NGRAM_MIN; length <= NGRAM_MAX && i >= (size_t)length; length++) {
            if (tokens[i] >= 0 && tokens[i] < s->n_vocab) {
                count(s, key_of(tokens + i, length), (uint32_t)tokens[i]);
            }
        }
    }
    pthread_mutex_unlock(&s->lock);
}

/* What follows context[0..n), of NGRAM_MAX tokens at most. */
static graft_token_id follow(const struct ngram_store *s, const graft_token_id *context, size_t n,
                             int *length)
{
    for (*length = NGRAM_MAX; *length >= NGRAM_MIN; --*length) {
        graft_token_id next =
            n < (size_t)*length ? -1 : most_often(s, key_of(context + n, *length));
        if (next >= 0) {
            return next;
        }
    }
    return -1;
}

int ngram_store_propose(struct ngram_store *s, const graft_token_id *tokens, size_t n, int k,
                        graft_token_id *out, int *length)
{
    graft_token_id context[NGRAM_MAX + DRAFT_MOST];
    size_t held = n < NGRAM_MAX ? n : NGRAM_MAX;
    int made = 0, found;
    if (n < NGRAM_MIN) {
        return 0;
    }
    memcpy(context, tokens + n - held, held * sizeof *context);
    pthread_mutex_lock(&s->lock);
    while (made < k && made < DRAFT_MOST) {
        graft_token_id next = follow(s, context, held, &found);
        if (next < 0) {
            break;
        }
        if (made == 0 && length != NULL) {
            *length = found;
        }
        context[held++] = next;
        out[made++] = next;
    }
    pthread_mutex_unlock(&s->lock);
    return made;
}

size_t ngram_store_entries(struct ngram_store *s)
{
    pthread_mutex_lock(&s->lock);
    size_t used = s->used;
    pthread_mutex_unlock(&s->lock);
    return used;
}
