/* constraint_fixture.h: grammars over the vocabulary of the model that ships, fed byte by byte and token by token. What a mask says
 * is held against what the matcher accepts, token by token: they come about in different ways.
 */
#ifndef GRAFT_CONSTRAINT_FIXTURE_H
#define GRAFT_CONSTRAINT_FIXTURE_H

#include "generate/constraint/constraint.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "unit/must.h"

struct words {
    struct tokenizer *tokenizer;
    struct vocabulary *vocabulary;
    int n_vocab;
    graft_token_id of_byte[256];
};

static inline struct words open_words(const char *dir)
{
    struct words w = {NULL, NULL, 0, {0}};
    MUST(tokenizer_open_dir(NULL, dir, &w.tokenizer, error));
    w.n_vocab =
        tokenizer_size(w.tokenizer) + 7; /* heads have more rows than tokenizers have tokens */
    MUST(vocabulary_open(NULL, w.tokenizer, w.n_vocab, &w.vocabulary, error));
    for (int byte = 0; byte < 256; byte++) {
        w.of_byte[byte] = -1;
    }
    for (graft_token_id id = 0; id < tokenizer_size(w.tokenizer); id++) {
        size_t size;
        bool apart;
        const char *bytes = tokenizer_bytes(w.tokenizer, id, &size, &apart);
        if (bytes != NULL && size == 1) {
            w.of_byte[(uint8_t)bytes[0]] = id;
        }
    }
    return w;
}

static inline void close_words(struct words *w)
{
    vocabulary_release(&w->vocabulary);
    tokenizer_close(&w->tokenizer);
}

static inline struct matcher *open_matcher(const struct words *w, struct grammar *g)
{
    struct matcher_options o = {.vocabulary = w->vocabulary};
    struct matcher *m = NULL;
    MUST(matcher_open(NULL, g, &o, &m, error));
    grammar_release(&g);
    return m;
}

static inline struct matcher *gbnf(const struct words *w, const char *text)
{
    struct grammar *g = NULL;
    MUST(grammar_from_gbnf(NULL, text, strlen(text), &g, error));
    return open_matcher(w, g);
}

static inline struct matcher *schema(const struct words *w, const char *text)
{
    struct grammar *g = NULL;
    MUST(grammar_from_schema(NULL, text, strlen(text), &g, error));
    return open_matcher(w, g);
}

static inline bool in_mask(const uint32_t *mask, graft_token_id id)
{
    return (mask[id / 32] >> (id % 32) & 1) != 0;
}

/* Bytes of the text that can be fed from the beginning, one token each. */
static inline size_t feed(const struct words *w, struct matcher *m, const char *text, size_t size)
{
    matcher_reset(m);
    size_t n = 0;
    while (n < size && matcher_accept(m, w->of_byte[(uint8_t)text[n]])) {
        n++;
    }
    return n;
}

static inline bool matches(const struct words *w, struct matcher *m, const char *text)
{
    return feed(w, m, text, strlen(text)) == strlen(text) && matcher_is_complete(m);
}

#define ASSERT_MATCHES(w, m, text)                                                                 \
    do {                                                                                           \
        if (!matches(w, m, text))                                                                  \
            fail_msg("does not match: %s", text);                                                  \
    } while (0)
#define ASSERT_REFUSES(w, m, text)                                                                 \
    do {                                                                                           \
        if (matches(w, m, text))                                                                   \
            fail_msg("matches: %s", text);                                                         \
    } while (0)

/* The mask here against a trial of every token, and rows of one against both. The matcher is where it was afterwards. */
static inline void check_mask(const struct words *w, struct matcher *m, const char *fed)
{
    const uint32_t *mask = NULL;
    uint32_t *copy = malloc(((size_t)w->n_vocab / 32 + 1) * sizeof *copy);
    assert_non_null(copy);
    MUST(matcher_mask(m, &mask, error));
    memcpy(copy, mask, ((size_t)w->n_vocab + 31) / 32 * sizeof *copy);
    bool any = false;
    for (graft_token_id id = 0; id < w->n_vocab; id++) {
        bool allowed = matcher_allowed(m, &id, 1) == 1;
        any = any || allowed;
        if (allowed != in_mask(copy, id)) {
            fail_msg("behind \"%s\" token %d is %s the mask and %s", fed, (int)id,
                     allowed ? "not in" : "in", allowed ? "allowed" : "not allowed");
        }
    }
    assert_true(any);
    free(copy);
}

/* Of the model that ships, for the programs that need no other. */
static struct words words;

static inline int open_all(void **state)
{
    (void)state;
    words = open_words(GRAFT_SOURCE_DIR "/models/tiny");
    return 0;
}

static inline int close_all(void **state)
{
    (void)state;
    close_words(&words);
    return 0;
}

/* The texts of `yes` match and those of `no` do not; both lists end with NULL. Closes the matcher. */
static inline void assert_texts(const struct words *w, struct matcher *m, const char *const *yes,
                                const char *const *no)
{
    for (; *yes != NULL; yes++) {
        ASSERT_MATCHES(w, m, *yes);
    }
    for (; *no != NULL; no++) {
        ASSERT_REFUSES(w, m, *no);
    }
    matcher_close(&m);
}
#define LIST(...) ((const char *const[]){__VA_ARGS__, NULL})

#endif
