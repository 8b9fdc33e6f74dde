/* encode.c: text to ids: added tokens, normaliser, words, and a cache of words.
 *
 * One struct encoder holds all that a call writes, so that one tokenizer serves any number of
 * threads. Text repeats its words: a direct-mapped cache of short words, sized by the text, answers
 * for nine in ten of them without looking at merges.
 */
#include "tokenizer_internal.h"

enum {
    CACHE_KEY = 16, /* bytes of a word that is cached */
    CACHE_IDS = 7,
    CACHE_MIN_TEXT = 512, /* a shorter text has no cache */
    CACHE_MIN_SLOTS = 64,
    CACHE_MAX_SLOTS = 1 << 15
};

struct cached_word {
    uint64_t key[CACHE_KEY / 8];
    uint8_t length, count; /* length 0: empty */
    int32_t ids[CACHE_IDS];
};
struct word_cache {
    size_t mask;
    struct cached_word words[];
};

graft_status encoder_no_memory(struct encoder *e)
{
    return error_set(e->error, GRAFT_NO_MEMORY, "out of memory while encoding");
}

static bool cache_open(struct encoder *e, size_t text_size)
{
    if (text_size < CACHE_MIN_TEXT)
        return true;
    size_t slots = CACHE_MIN_SLOTS;
    while (slots < CACHE_MAX_SLOTS && slots < text_size / 8)
        slots *= 2;
    e->cache = mem_calloc(e->mem, 1, sizeof *e->cache + slots * sizeof e->cache->words[0]);
    if (!e->cache)
        return false;
    e->cache->mask = slots - 1;
    return true;
}

static graft_status encode_uncached(struct encoder *e, const char *word, size_t size)
{
    return e->t->kind == MODEL_BPE ? bpe_encode(e, word, size) : unigram_encode(e, word, size);
}

static bool push_all(struct tokens *out, const int32_t *ids, size_t n)
{
    for (size_t i = 0; i < n; i++) {
        if (!tokens_push(out, ids[i]))
            return false;
    }
    return true;
}

graft_status encode_word(struct encoder *e, const char *word, size_t size)
{
    if (!e->cache || size > CACHE_KEY)
        return encode_uncached(e, word, size);
    uint64_t key[CACHE_KEY / 8] = {0};
    memcpy(key, word, size);
    uint64_t hash = (key[0] ^ (key[1] * 0xC2B2AE3D27D4EB4Fu) ^ size) * 0x9E3779B97F4A7C15u;
    struct cached_word *slot = &e->cache->words[(hash >> 32) & e->cache->mask];
    if (slot->length == size && slot->key[0] == key[0] && slot->key[1] == key[1])
        return push_all(e->out, slot->ids, slot->count) ? GRAFT_OK : encoder_no_memory(e);
    size_t before = e->out->count;
    graft_status status = encode_uncached(e, word, size);
    size_t made = e->out->count - before;
    if (!status && made <= CACHE_IDS) {
        memcpy(slot->key, key, sizeof key);
        slot->length = (uint8_t)size;
        slot->count = (uint8_t)made;
        if (made)
            memcpy(slot->ids, e->out->ids + before, made * sizeof slot->ids[0]);
    }
    return status;
}

/* Walks text: each added token goes out as its id, what lies between goes to `rest`. */
typedef graft_status (*encode_rest)(struct encoder *e, const char *text, size_t size,
                                    bool at_start);

static graft_status split_added(struct encoder *e, const struct added_matcher *m, const char *text,
                                size_t size, bool at_start, encode_rest rest)
{
    size_t at = 0;
    graft_status status = GRAFT_OK;
    bool special = (e->flags & TOKENIZE_SPECIAL) != 0;
    struct added_match match;
    while ((special ? m->any : m->any_plain) && !status &&
           added_find(e->t, m, special, text, size, at, &match)) {
        if (match.start > at)
            status = rest(e, text + at, match.start - at, at_start && at == 0);
        if (!status && !tokens_push(e->out, match.token->id))
            status = encoder_no_memory(e);
        e->inside = false;
        at = match.end;
    }
    if (!status && at < size)
        status = rest(e, text + at, size - at, at_start && at == 0);
    return status;
}

static graft_status encode_raw(struct encoder *e, const char *text, size_t size, bool at_start)
{
    if (e->t->normalizer.count == 0)
        return split_added(e, &e->t->normal, text, size, at_start, pretokenize);
    e->normal.size = 0;
    graft_status status = normalize(&e->t->normalizer, e->mem, &e->match, text, size, e->inside,
                                    &e->normal, e->error);
    if (status)
        return status;
    return split_added(e, &e->t->normal, e->normal.data, e->normal.size, at_start, pretokenize);
}

static void encoder_free(struct encoder *e)
{
    buf_free(&e->normal);
    for (size_t i = 0; i < ARRAY_LEN(e->scratch); i++)
        buf_free(&e->scratch[i]);
    match_state_free(&e->match);
    mem_free(e->mem, e->cache);
    mem_free(e->mem, e->symbols);
    mem_free(e->mem, e->heap);
    mem_free(e->mem, e->nodes);
}

static bool token_is_added(const struct tokenizer *t, graft_token_id id)
{
    return id >= 0 && id < t->vocab.count && t->vocab.tokens[id].added;
}

graft_status tokenizer_encode(const struct tokenizer *t, const char *text, size_t size, int flags,
                              struct tokens *out, graft_error *error)
{
    if (size > MAX_TEXT_BYTES)
        return error_set(error, GRAFT_LIMIT, "a text of %zu bytes is too long to encode", size);
    struct mem *mem = out->mem ? out->mem : t->mem;
    struct encoder e = {.t = t, .mem = mem, .out = out, .error = error, .flags = flags};
    buf_init(&e.normal, mem, SIZE_MAX);
    for (size_t i = 0; i < ARRAY_LEN(e.scratch); i++)
        buf_init(&e.scratch[i], mem, SIZE_MAX);
    e.valid_utf8 = utf8_valid(text, size);
    size_t before = out->count;
    bool goes_on = (flags & TOKENIZE_CONTINUE) && before > 0;
    e.inside = goes_on && !token_is_added(t, out->ids[before - 1]);
    graft_status status = GRAFT_OK;
    if (!cache_open(&e, size))
        status = encoder_no_memory(&e);
    if (!status && (flags & TOKENIZE_BOS) && t->bos >= 0 && !tokens_push(out, t->bos))
        status = encoder_no_memory(&e);
    if (!status && size)
        status = split_added(&e, &t->raw, text, size, !goes_on, encode_raw);
    encoder_free(&e);
    if (status)
        out->count = before;
    return status;
}
