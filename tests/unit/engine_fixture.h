/* engine_fixture.h: engines on a random model whose tokens are bytes: requests, streams, and what sessions say to the same. */
#ifndef GRAFT_ENGINE_FIXTURE_H
#define GRAFT_ENGINE_FIXTURE_H

#include "unit/api_fixture.h"

static struct fixture F;

enum { N = 60 };

static const char *const PROMPTS[] = {
    "It was a bright cold day in April, and the clocks were striking thirteen; the rest of this "
    "sentence only "
    "makes the prompt longer, so that it takes more than one block of the cache and more than one "
    "piece.",
    "Call me Ishmael.",
    "All happy families are alike; each unhappy family is unhappy in its own way.",
    "x",
};

static inline int setup(void **state)
{
    (void)state;
    F = open_fixture(&(struct random_model){.nan_token = true}, 2);
    return 0;
}

static inline int teardown(void **state)
{
    (void)state;
    close_fixture(&F);
    return 0;
}

/* ---- requests ---- */

struct text_ids {
    graft_token_id ids[400];
    size_t n;
};

static inline struct text_ids ids_of(const char *text)
{
    struct text_ids t = {.n = 0};
    graft_token_id *ids = NULL;
    MUST(graft_tokenize(graft_model_tokenizer(F.model), text, strlen(text), GRAFT_TOKENIZE_BOS,
                        &ids, &t.n, error));
    assert_true(t.n <= ARRAY_LEN(t.ids));
    memcpy(t.ids, ids, t.n * sizeof *ids);
    graft_free(F.runtime, ids);
    return t;
}

static inline graft_engine *open_engine(const graft_engine_options *o)
{
    graft_engine *engine = NULL;
    MUST(graft_engine_open(F.model, o, &engine, error));
    return engine;
}

static inline graft_request request_of(const struct text_ids *t, uint64_t seed, size_t n)
{
    graft_request r = graft_request_default();
    r.prompt = t->ids;
    r.n_prompt = t->n;
    r.sampling = sampled(seed).sampling;
    r.max_tokens = n;
    return r;
}

static inline graft_stream *submit(graft_engine *engine, const graft_request *r)
{
    graft_stream *stream = NULL;
    MUST(graft_engine_submit(engine, r, &stream, error));
    return stream;
}

static inline graft_stream *ask(graft_engine *engine, const char *prompt, uint64_t seed, size_t n)
{
    struct text_ids t = ids_of(prompt);
    graft_request r = request_of(&t, seed, n);
    return submit(engine, &r);
}

/* Reads a stream to its end. */
static inline struct answer *read_all(graft_stream *stream)
{
    struct answer *a = answer_new();
    graft_token token;
    graft_status status;
    graft_error error = {0};
    while ((status = graft_stream_next(stream, &token, &error)) == GRAFT_OK) {
        answer_take(a, &token);
    }
    assert_int_equal(status, GRAFT_END);
    answer_take(a, &token);
    return a;
}

/* What a session says; an engine's answer is over at max_tokens, so that nothing stays held back. */
static inline struct answer *alone(const char *prompt, uint64_t seed, size_t n)
{
    graft_session_options o = sampled(seed);
    struct text_ids t = ids_of(prompt);
    o.n_ctx = (int)(t.n + n);
    return solo(F.model, &o, prompt, 0);
}

static inline void assert_says(graft_stream *stream, const char *prompt, uint64_t seed, size_t n)
{
    struct answer *a = read_all(stream), *b = alone(prompt, seed, n);
    assert_same_answer(a, b);
    answer_free(a);
    answer_free(b);
}

#endif
