/* api_fixture.h: a runtime, a random model and sessions on it through the public headers, with every
 * failure turned into a failed test that says why.
 */
#ifndef GRAFT_API_FIXTURE_H
#define GRAFT_API_FIXTURE_H

#include <graft/graft.h>

#include "unit/failing_allocator.h"
#include "unit/must.h"
#include "unit/random_model.h"

struct fixture {
    char *dir; /* of the random model; NULL: of somebody else */
    graft_runtime *runtime;
    graft_model *model;
};

static inline graft_runtime *open_runtime(int threads)
{
    graft_runtime_options o = graft_runtime_options_default();
    o.threads = threads;
    graft_runtime *runtime = NULL;
    MUST(graft_runtime_open(&o, &runtime, error));
    return runtime;
}

/* One whose memory comes from an allocator of tests. */
static inline graft_runtime *open_failing_runtime(int threads, struct failing_allocator *f)
{
    graft_runtime_options o = graft_runtime_options_default();
    o.threads = threads;
    o.allocator = (graft_allocator){failing_alloc, failing_resize, failing_release, f};
    graft_runtime *runtime = NULL;
    MUST(graft_runtime_open(&o, &runtime, error));
    return runtime;
}

static inline struct fixture open_fixture(const struct random_model *m, int threads)
{
    struct random_model plain = {0};
    struct fixture f = {.dir = random_model_make(m != NULL ? m : &plain)};
    f.runtime = open_runtime(threads);
    MUST(graft_model_open(f.runtime, f.dir, NULL, &f.model, error));
    return f;
}

static inline void close_fixture(struct fixture *f)
{
    graft_model_close(&f->model);
    graft_runtime_close(&f->runtime);
    if (f->dir != NULL) {
        random_model_remove(f->dir);
    }
}

/* Sampled, so that the text does not run into a loop. */
static inline graft_session_options sampled(uint64_t seed)
{
    graft_session_options o = graft_session_options_default();
    o.sampling.temperature = 1;
    o.sampling.top_k = 0;
    o.sampling.seed = seed;
    return o;
}

static inline graft_session *open_session(const graft_model *model, const graft_session_options *o)
{
    graft_session *session = NULL;
    MUST(graft_session_open(model, o, &session, error));
    return session;
}

static inline graft_session *prompted(const graft_model *model, const graft_session_options *o,
                                      const char *prompt)
{
    graft_session *session = open_session(model, o);
    MUST(graft_session_prompt_text(session, prompt, strlen(prompt), error));
    return session;
}

static inline bool is_utf8(const char *text, size_t size)
{
    uint32_t code;
    for (size_t i = 0; i < size;) {
        int n = utf8_decode(text + i, size - i, &code);
        if (n == 0) {
            return false;
        }
        i += (size_t)n;
    }
    return true;
}

/* Everything that a generation gives out. */
struct answer {
    struct buf text;
    graft_token_id ids[1024];
    float logprobs[1024];
    size_t n;
    size_t stop_at; /* cancel after so many tokens; 0: never */
};

static inline void answer_init(struct answer *a)
{
    *a = (struct answer){0};
    buf_init(&a->text, NULL, 1 << 20);
    buf_append(&a->text, "", 0);
}

static inline bool answer_take(void *user, const graft_token *token)
{
    struct answer *a = user;
    assert_non_null(token->text);
    assert_int_equal(token->text[token->text_size], '\0');
    buf_append(&a->text, token->text, token->text_size);
    if (token->id >= 0) {
        assert_true(a->n < ARRAY_LEN(a->ids));
        a->logprobs[a->n] = token->logprob;
        a->ids[a->n++] = token->id;
    }
    return a->stop_at == 0 || a->n < a->stop_at;
}

static inline struct answer *answer_new(void)
{
    struct answer *a = malloc(sizeof *a);
    answer_init(a);
    return a;
}

static inline void answer_free(struct answer *a)
{
    buf_free(&a->text);
    free(a);
}

/* prompt and n tokens in a session of its own; free with answer_free. */
static inline struct answer *solo(const graft_model *model, const graft_session_options *o,
                                  const char *prompt, size_t n)
{
    struct answer *a = answer_new();
    graft_session *session = open_session(model, o);
    MUST(graft_session_prompt_text(session, prompt, strlen(prompt), error));
    MUST(graft_session_generate(session, n, answer_take, a, error));
    graft_session_close(&session);
    return a;
}

static inline void assert_same_answer(const struct answer *a, const struct answer *b)
{
    assert_int_equal(a->n, b->n);
    assert_memory_equal(a->ids, b->ids, a->n * sizeof *a->ids);
    assert_memory_equal(a->logprobs, b->logprobs, a->n * sizeof *a->logprobs);
    assert_string_equal(a->text.data, b->text.data);
}

#endif
