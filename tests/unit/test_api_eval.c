/* test_api_eval.c: logits, scores, embeddings and classes through the public headers, against each
 * other and against libm; threads; lack of memory at every allocation; nothing leaks.
 */
#include "unit/api_fixture.h"

#include <pthread.h>

#include "unit/failing_allocator.h"

static struct fixture F;

enum { N = 150 };
static graft_token_id IDS[N];

static int setup(void **state)
{
    (void)state;
    F = open_fixture(NULL, 2);
    struct rng rng;
    rng_init(&rng, 1, 1);
    for (int i = 0; i < N; i++) {
        IDS[i] = (graft_token_id)(32 + rng_u32(&rng) % 95);
    }
    return 0;
}

static int teardown(void **state)
{
    (void)state;
    close_fixture(&F);
    return 0;
}

static graft_session *with_chunk(const graft_model *model, int chunk)
{
    graft_session_options o = sampled(1);
    o.prefill_chunk = chunk;
    return open_session(model, &o);
}

static double log_softmax(const float *logits, int n, int id)
{
    double max = -INFINITY, sum = 0;
    for (int i = 0; i < n; i++) {
        max = logits[i] > max ? logits[i] : max;
    }
    for (int i = 0; i < n; i++) {
        sum += exp((double)logits[i] - max);
    }
    return (double)logits[id] - max - log(sum);
}

/* ---- logits and scores ---- */

static void logits_do_not_depend_on_the_chunk(void **state)
{
    (void)state;
    static float whole[N * RM_VOCAB], pieces[N * RM_VOCAB];
    static const graft_row_role ROLES[] = {GRAFT_ROLE_PREFILL, GRAFT_ROLE_DECODE};
    for (int r = 0; r < 2; r++) {
        graft_session *a = with_chunk(F.model, 256), *b = with_chunk(F.model, 7);
        MUST(graft_session_logits(a, IDS, N, ROLES[r], whole, error));
        MUST(graft_session_logits(b, IDS, N, ROLES[r], pieces, error));
        assert_memory_equal(whole, pieces, sizeof whole);
        assert_int_equal(graft_session_length(a), 0);
        assert_int_equal(graft_session_kv_bytes(a), 0);
        graft_session_close(&a);
        graft_session_close(&b);
    }
}

static void scores_are_the_logarithms_of_the_softmax(void **state)
{
    (void)state;
    static float logits[N * RM_VOCAB];
    float scores[N], pieces[N];
    graft_session *s = with_chunk(F.model, 256), *t = with_chunk(F.model, 11);
    MUST(graft_session_logits(s, IDS, N, GRAFT_ROLE_PREFILL, logits, error));
    MUST(graft_session_score(s, IDS, N, scores, error));
    MUST(graft_session_score(t, IDS, N, pieces, error));
    assert_memory_equal(scores, pieces, sizeof scores);
    double sum = 0, expected = 0;
    assert_true(scores[0] == 0);
    for (int i = 1; i < N; i++) {
        double want = log_softmax(logits + (i - 1) * RM_VOCAB, RM_VOCAB, IDS[i]);
        assert_true(fabs((double)scores[i] - want) < 1e-5);
        sum += (double)scores[i];
        expected += want;
    }
    assert_true(fabs(sum - expected) < 1e-3);
    MUST(graft_session_score(s, IDS, 1, scores, error));
    assert_true(scores[0] == 0);
    graft_session_close(&s);
    graft_session_close(&t);
}

static void texts_side_by_side_have_the_scores_of_each_alone(void **state)
{
    (void)state;
    /* lengths that end in the middle of a pass, at its end, and one of a token alone */
    static const size_t LENGTHS[] = {5, 1, 70, 33, 2, 39};
    enum { TEXTS = sizeof LENGTHS / sizeof LENGTHS[0] };
    size_t starts[TEXTS + 1] = {0};
    uint8_t wanted[N];
    float alone[N], all[N], some[N];
    for (size_t i = 0; i < TEXTS; i++) {
        starts[i + 1] = starts[i] + LENGTHS[i];
    }
    assert_int_equal(starts[TEXTS], N);
    for (int i = 0; i < N; i++) {
        wanted[i] = i % 7 == 3 && (i < 76 || i > 100);
    }
    static const int CHUNKS[] = {256, 37, 1};
    for (size_t c = 0; c < sizeof CHUNKS / sizeof CHUNKS[0]; c++) {
        graft_session *s = with_chunk(F.model, CHUNKS[c]);
        for (size_t i = 0; i < TEXTS; i++) {
            MUST(graft_session_score(s, IDS + starts[i], LENGTHS[i], alone + starts[i], error));
        }
        MUST(graft_session_score_texts(s, IDS, starts, TEXTS, NULL, all, error));
        assert_memory_equal(all, alone, sizeof all);
        MUST(graft_session_score_texts(s, IDS, starts, TEXTS, wanted, some, error));
        for (size_t i = 0; i < TEXTS; i++) {
            for (size_t k = starts[i]; k < starts[i + 1]; k++) {
                float expected = wanted[k] ? alone[k] : 0;
                assert_memory_equal(&some[k], &expected, sizeof expected);
            }
        }
        assert_int_equal(graft_session_length(s), 0);
        MUST(graft_session_score_texts(s, IDS, starts, 0, NULL, all, error));
        graft_session_close(&s);
    }
}

static void texts_that_cannot_be_scored_are_refused(void **state)
{
    (void)state;
    static graft_token_id many[RM_CTX + 3];
    static float out[RM_CTX + 3];
    graft_session *s = with_chunk(F.model, 64);
    static const size_t LONG[] = {0, 2, RM_CTX + 3}, EMPTY[] = {0, 2, 2}, LATE[] = {1, 2};
    static const size_t TWO[] = {0, 2, 4}, BACK[] = {0, 4, 2};
    static const graft_token_id BAD[] = {1, 2, 3, -1};
    assert_int_equal(graft_session_score_texts(s, many, LONG, 2, NULL, out, NULL), GRAFT_LIMIT);
    assert_int_equal(graft_session_score_texts(s, IDS, EMPTY, 2, NULL, out, NULL),
                     GRAFT_INVALID_ARGUMENT);
    assert_int_equal(graft_session_score_texts(s, IDS, BACK, 2, NULL, out, NULL),
                     GRAFT_INVALID_ARGUMENT);
    assert_int_equal(graft_session_score_texts(s, IDS, LATE, 1, NULL, out, NULL),
                     GRAFT_INVALID_ARGUMENT);
    assert_int_equal(graft_session_score_texts(s, BAD, TWO, 2, NULL, out, NULL),
                     GRAFT_INVALID_ARGUMENT);
    MUST(graft_session_prompt(s, IDS, 5, NULL, NULL, error));
    assert_int_equal(graft_session_score_texts(s, IDS, TWO, 2, NULL, out, NULL), GRAFT_STATE);
    graft_session_close(&s);
}

static void generated_logprobs_agree_with_decode_logits(void **state)
{
    (void)state;
    static float logits[64 * RM_VOCAB];
    graft_session_options o = sampled(3);
    o.cache_k = o.cache_v = GRAFT_KV_F32; /* the first row has the other role: no rounding of it */
    struct answer *a = answer_new();
    graft_session *s = open_session(F.model, &o), *t = open_session(F.model, &o);
    graft_token_id first = RM_BOS, ids[64];
    MUST(graft_session_prompt(s, &first, 1, NULL, NULL, error));
    MUST(graft_session_generate(s, 63, answer_take, a, error));
    size_t n;
    memcpy(ids, graft_session_tokens(s, &n), sizeof ids);
    assert_int_equal(n, 64);
    MUST(graft_session_logits(t, ids, n, GRAFT_ROLE_DECODE, logits, error));
    for (size_t i = 1; i < n; i++) {
        double want = log_softmax(logits + (i - 1) * RM_VOCAB, RM_VOCAB, ids[i]);
        assert_true(fabs((double)a->logprobs[i - 1] - want) < 1e-4);
    }
    graft_session_close(&s);
    graft_session_close(&t);
    answer_free(a);
}

static void evaluation_needs_an_empty_session_and_tokens_that_fit(void **state)
{
    (void)state;
    static float out[(RM_CTX + 1) * RM_VOCAB];
    static graft_token_id many[RM_CTX + 1];
    graft_session *s = with_chunk(F.model, 64);
    graft_token_id bad = -1;
    assert_int_equal(graft_session_score(s, many, RM_CTX + 1, out, NULL), GRAFT_LIMIT);
    assert_int_equal(graft_session_score(s, &bad, 1, out, NULL), GRAFT_INVALID_ARGUMENT);
    assert_int_equal(graft_session_score(s, IDS, 0, out, NULL), GRAFT_INVALID_ARGUMENT);
    assert_int_equal(graft_session_classify(s, IDS, 3, out, NULL), GRAFT_UNSUPPORTED);
    assert_int_equal(graft_session_top(s, 1, &bad, out, NULL), GRAFT_STATE);
    MUST(graft_session_prompt(s, IDS, 5, NULL, NULL, error));
    assert_int_equal(graft_session_top(s, 0, &bad, out, NULL), GRAFT_INVALID_ARGUMENT);
    assert_int_equal(graft_session_top(s, RM_VOCAB + 1, &bad, out, NULL), GRAFT_INVALID_ARGUMENT);
    assert_int_equal(graft_session_score(s, IDS, 3, out, NULL), GRAFT_STATE);
    assert_int_equal(graft_session_logits(s, IDS, 3, GRAFT_ROLE_DECODE, out, NULL), GRAFT_STATE);
    assert_int_equal(graft_session_embedding(s, IDS, 3, GRAFT_POOL_MEAN, out, NULL), GRAFT_STATE);
    graft_token token;
    MUST(graft_session_next(s, &token, error)); /* none of it did harm */
    graft_session_close(&s);
}

/* ---- embeddings ---- */

static void mean_embedding_is_the_mean_of_the_last_ones_of_all_prefixes(void **state)
{
    (void)state;
    enum { PREFIXES = 20 };
    float mean[RM_MODEL], last[RM_MODEL], pieces[RM_MODEL];
    double sum[RM_MODEL] = {0};
    graft_session *s = with_chunk(F.model, 256), *t = with_chunk(F.model, 3);
    for (size_t n = 1; n <= PREFIXES; n++) { /* attention is causal */
        MUST(graft_session_embedding(s, IDS, n, GRAFT_POOL_LAST, last, error));
        for (int k = 0; k < RM_MODEL; k++) {
            sum[k] += (double)last[k];
        }
    }
    MUST(graft_session_embedding(s, IDS, PREFIXES, GRAFT_POOL_MEAN, mean, error));
    MUST(graft_session_embedding(t, IDS, PREFIXES, GRAFT_POOL_MEAN, pieces, error));
    assert_memory_equal(mean, pieces, sizeof mean);
    double norm = 0;
    for (int k = 0; k < RM_MODEL; k++) {
        assert_true(fabs(sum[k] / PREFIXES - (double)mean[k]) < 1e-6);
        norm += (double)last[k] * (double)last[k];
    }
    assert_true(fabs(norm / RM_MODEL - 1) < 1e-3); /* normed, with weights of 1 */
    graft_session_close(&s);
    graft_session_close(&t);
}

/* ---- classes ---- */

static void classifier_scores_the_last_token_that_is_no_padding(void **state)
{
    (void)state;
    struct random_model m = {.classifier = true};
    struct fixture f = open_fixture(&m, 2);
    float plain[RM_LABELS], padded[RM_LABELS], other[RM_LABELS];
    graft_token_id ids[40];
    memcpy(ids, IDS, sizeof ids);
    for (int i = 30; i < 40; i++) {
        ids[i] = RM_PAD;
    }
    graft_session *s = with_chunk(f.model, 256), *t = with_chunk(f.model, 4);
    MUST(graft_session_classify(s, ids, 30, plain, error));
    MUST(graft_session_classify(s, ids, 40, padded, error));
    assert_memory_equal(plain, padded, sizeof plain);
    MUST(graft_session_classify(t, ids, 40, padded, error));
    assert_memory_equal(plain, padded, sizeof plain);
    MUST(graft_session_classify(s, ids, 29, other, error));
    assert_memory_not_equal(plain, other, sizeof plain);
    MUST(graft_session_classify(s, ids + 30, 10, other, error)); /* nothing but padding */
    graft_model_info info;
    MUST(graft_model_describe(f.model, &info, error));
    assert_int_equal(info.n_labels, RM_LABELS);
    assert_string_equal(graft_model_label(f.model, 2), "hot");
    assert_null(graft_model_label(f.model, 3));
    assert_null(graft_model_label(f.model, -1));
    graft_session_close(&s);
    graft_session_close(&t);
    close_fixture(&f);
}

static void classifier_generates_nothing_but_embeds(void **state)
{
    (void)state;
    struct random_model m = {.classifier = true, .unnamed = true};
    struct fixture f = open_fixture(&m, 1);
    float out[RM_VOCAB];
    graft_token token;
    graft_sampling sampling = graft_sampling_default();
    graft_session *s = with_chunk(f.model, 16);
    assert_int_equal(graft_session_prompt(s, IDS, 3, NULL, NULL, NULL), GRAFT_UNSUPPORTED);
    assert_int_equal(graft_session_next(s, &token, NULL), GRAFT_UNSUPPORTED);
    assert_int_equal(graft_session_score(s, IDS, 3, out, NULL), GRAFT_UNSUPPORTED);
    assert_int_equal(graft_session_logits(s, IDS, 1, GRAFT_ROLE_PREFILL, out, NULL),
                     GRAFT_UNSUPPORTED);
    assert_int_equal(graft_session_set_sampling(s, &sampling, NULL), GRAFT_UNSUPPORTED);
    MUST(graft_session_embedding(s, IDS, 3, GRAFT_POOL_LAST, out, error));
    assert_string_equal(graft_model_label(f.model, 1), "LABEL_1");
    graft_session_close(&s);
    close_fixture(&f);
}

/* ---- threads ---- */

struct job {
    uint64_t seed;
    struct answer *answer;
};

static void *run_job(void *argument)
{
    struct job *job = argument;
    graft_session_options o = sampled(job->seed);
    job->answer = solo(F.model, &o, "Two sessions, one runtime.", 60);
    return NULL;
}

static void sessions_on_threads_give_what_they_give_alone(void **state)
{
    (void)state;
    enum { JOBS = 4 };
    struct job alone[JOBS], together[JOBS];
    pthread_t threads[JOBS];
    for (int i = 0; i < JOBS; i++) {
        alone[i].seed = together[i].seed = (uint64_t)i;
        run_job(&alone[i]);
    }
    for (int i = 0; i < JOBS; i++) {
        assert_int_equal(pthread_create(&threads[i], NULL, run_job, &together[i]), 0);
    }
    for (int i = 0; i < JOBS; i++) {
        pthread_join(threads[i], NULL);
        assert_same_answer(together[i].answer, alone[i].answer);
        answer_free(together[i].answer);
        answer_free(alone[i].answer);
    }
}

static void two_runtimes_live_in_one_process(void **state)
{
    (void)state;
    struct fixture other = open_fixture(NULL, 1);
    graft_session_options o = sampled(1);
    graft_session *a = open_session(F.model, &o), *b = open_session(other.model, &o);
    MUST(graft_session_prompt(a, IDS, 10, NULL, NULL, error));
    MUST(graft_session_prompt(b, IDS, 10, NULL, NULL, error));
    for (int i = 0; i < 30; i++) {
        graft_token x, y;
        MUST(graft_session_next(a, &x, error));
        MUST(graft_session_next(b, &y, error));
        assert_int_equal(x.id, y.id);
        assert_true(x.logprob == y.logprob);
    }
    graft_session_close(&b);
    close_fixture(&other);
    graft_token token;
    MUST(graft_session_next(a, &token, error)); /* the other's end is not ours */
    graft_session_close(&a);
}

/* ---- memory ---- */

static size_t in_use(const graft_runtime *runtime)
{
    graft_runtime_info info;
    MUST(graft_runtime_describe(runtime, &info, error));
    return info.bytes_in_use;
}

static struct fixture open_failing(struct failing_allocator *f)
{
    struct random_model plain = {0};
    struct fixture fixture = {.dir = random_model_make(&plain)};
    *f = (struct failing_allocator){0};
    fixture.runtime = open_failing_runtime(2, f);
    MUST(graft_model_open(fixture.runtime, fixture.dir, NULL, &fixture.model, error));
    return fixture;
}

static void arm(struct failing_allocator *f, size_t fail_at)
{
    f->calls = 0;
    f->failed = false;
    f->fail_at = fail_at;
}

static void runtime_open_survives_failure_of_every_allocation(void **state)
{
    (void)state;
    struct failing_allocator f = {0};
    graft_runtime_options o = graft_runtime_options_default();
    o.allocator = (graft_allocator){failing_alloc, failing_resize, failing_release, &f};
    graft_status status = GRAFT_NO_MEMORY;
    for (size_t n = 1; status != GRAFT_OK; n++) {
        graft_runtime *runtime = NULL;
        arm(&f, n);
        status = graft_runtime_open(&o, &runtime, NULL);
        assert_int_equal(status, f.failed ? GRAFT_NO_MEMORY : GRAFT_OK);
        assert_int_equal(runtime != NULL, status == GRAFT_OK);
        graft_runtime_close(&runtime);
    }
}

static void model_open_survives_failure_of_every_allocation(void **state)
{
    (void)state;
    struct random_model m = {.classifier = true, .unnamed = true};
    struct failing_allocator f;
    struct fixture fixture = open_failing(&f);
    char *dir = random_model_make(&m);
    size_t before = in_use(fixture.runtime), forgiven = 0;
    graft_status status = GRAFT_NO_MEMORY;
    /* The first 200 one by one; of the tokenizer's hundreds after them every 37th. */
    for (size_t n = 1; status != GRAFT_OK; n += n < 200 ? 1 : 37) {
        graft_model *model = NULL;
        arm(&f, n);
        status = graft_model_open(fixture.runtime, dir, NULL, &model, NULL);
        if (!f.failed) {
            assert_int_equal(status, GRAFT_OK);
        } else if (status == GRAFT_OK) { /* regular expressions do without their compiler */
            assert_true(++forgiven < 10);
            status = GRAFT_NO_MEMORY;
        } else {
            assert_int_equal(status, GRAFT_NO_MEMORY);
        }
        arm(&f, 0);
        graft_model_close(&model);
        assert_int_equal(in_use(fixture.runtime), before);
    }
    random_model_remove(dir);
    close_fixture(&fixture);
}

/* Each function that returns memory, failing at its n-th allocation; OK when it came through. */
static graft_status call_text_function(struct fixture *x, int which)
{
    const graft_tokenizer *t = graft_model_tokenizer(x->model);
    graft_tokenizer *own = NULL;
    graft_token_id *ids = NULL;
    char *text = NULL;
    size_t n;
    const graft_message message = {"user", "Hello"};
    graft_status status = GRAFT_INTERNAL;
    switch (which) {
    case 0:
        status = graft_tokenize(t, "Hello", 5, GRAFT_TOKENIZE_BOS, &ids, &n, NULL);
        break;
    case 1:
        status = graft_tokenize(t, "", 0, 0, &ids, &n, NULL);
        break;
    case 2:
        status = graft_detokenize(t, IDS, 20, false, &text, &n, NULL);
        break;
    case 3:
        status = graft_chat_render(x->model, &message, 1, true, &text, &n, NULL);
        break;
    case 4:
        status = graft_inspect(x->runtime, x->dir, &text, NULL);
        break;
    case 5:
        status = graft_tokenizer_open(x->runtime, x->dir, &own, NULL);
        break;
    default:
        break;
    }
    graft_free(x->runtime, ids);
    graft_free(x->runtime, text);
    graft_tokenizer_close(&own);
    return status;
}

static void text_functions_survive_failure_of_every_allocation(void **state)
{
    (void)state;
    struct failing_allocator f;
    struct fixture fixture = open_failing(&f);
    size_t before = in_use(fixture.runtime), forgiven = 0;
    for (int which = 0; which < 6; which++) {
        graft_status status = GRAFT_NO_MEMORY;
        for (size_t n = 1; status != GRAFT_OK; n += n < 100 ? 1 : 37) {
            arm(&f, n);
            status = call_text_function(&fixture, which);
            if (status == GRAFT_OK && f.failed && which >= 4 && ++forgiven < 20) {
                status = GRAFT_NO_MEMORY; /* as above */
            }
            if (status != (f.failed ? GRAFT_NO_MEMORY : GRAFT_OK)) {
                fail_msg("function %d, allocation %zu: %s", which, n, graft_status_text(status));
            }
            arm(&f, 0);
            assert_int_equal(in_use(fixture.runtime), before);
        }
    }
    close_fixture(&fixture);
}

static void session_open_survives_failure_of_every_allocation(void **state)
{
    (void)state;
    struct failing_allocator f;
    struct fixture fixture = open_failing(&f);
    size_t before = in_use(fixture.runtime), n = 0;
    static const char *const STOPS[] = {"one", "two"};
    static const graft_token_id STOP_IDS[] = {3};
    graft_session_options o = sampled(1);
    o.stops = STOPS;
    o.n_stops = 2;
    o.stop_ids = STOP_IDS;
    o.n_stop_ids = 1;
    graft_status status = GRAFT_NO_MEMORY;
    while (status != GRAFT_OK) {
        graft_session *s = NULL;
        arm(&f, ++n);
        status = graft_session_open(fixture.model, &o, &s, NULL);
        assert_int_equal(status, f.failed ? GRAFT_NO_MEMORY : GRAFT_OK);
        arm(&f, 0);
        graft_session_close(&s);
        assert_int_equal(in_use(fixture.runtime), before);
    }
    assert_true(n > 10);
    close_fixture(&fixture);
}

/* Fails at every allocation that prompt and next make; after each failure the same call must go
 * through and the text be the one of a run without failures. */
static void session_survives_failure_of_every_allocation(void **state)
{
    (void)state;
    struct failing_allocator f;
    struct fixture fixture = open_failing(&f);
    size_t before = in_use(fixture.runtime);
    graft_session_options o = sampled(1);
    static const char *const STOPS[] = {"\x02\x03\x04"};
    o.stops = STOPS;
    o.n_stops = 1;
    struct answer *whole = solo(fixture.model, &o, "A prompt.", 150);
    size_t failures = 0;
    bool failed = true;
    for (size_t at = 1; failed; at++) {
        struct answer *a = answer_new();
        graft_session *s = open_session(fixture.model, &o);
        arm(&f, at);
        graft_status status = graft_session_prompt_text(s, "A prompt.", 9, NULL);
        if (status != GRAFT_OK) {
            assert_int_equal(status, GRAFT_NO_MEMORY);
            assert_int_equal(graft_session_length(s), 0);
            MUST(graft_session_prompt_text(s, "A prompt.", 9, error));
        }
        while (a->n < 150) {
            graft_token token;
            status = graft_session_next(s, &token, NULL);
            if (status == GRAFT_OK) {
                answer_take(a, &token);
            } else {
                assert_int_equal(status, GRAFT_NO_MEMORY);
            }
        }
        failed = f.failed;
        failures += failed;
        arm(&f, 0);
        assert_memory_equal(a->ids, whole->ids, 150 * sizeof *a->ids);
        assert_memory_equal(a->logprobs, whole->logprobs, 150 * sizeof *a->logprobs);
        assert_memory_equal(a->text.data, whole->text.data, a->text.size);
        graft_session_close(&s);
        answer_free(a);
    }
    assert_true(failures >= 3);
    assert_int_equal(in_use(fixture.runtime), before);
    answer_free(whole);
    close_fixture(&fixture);
}

static void evaluation_survives_failure_of_every_allocation(void **state)
{
    (void)state;
    struct failing_allocator f;
    struct fixture fixture = open_failing(&f);
    graft_session *s = with_chunk(fixture.model, 64);
    float scores[N], embedding[RM_MODEL];
    graft_status status = GRAFT_NO_MEMORY;
    for (size_t at = 1; status != GRAFT_OK; at++) {
        arm(&f, at);
        status = graft_session_score(s, IDS, N, scores, NULL);
        if (status == GRAFT_OK) {
            static const size_t starts[] = {0, 70, 75, N};
            status = graft_session_score_texts(s, IDS, starts, 3, NULL, scores, NULL);
        }
        if (status == GRAFT_OK) {
            status = graft_session_embedding(s, IDS, N, GRAFT_POOL_MEAN, embedding, NULL);
        }
        assert_int_equal(status, f.failed ? GRAFT_NO_MEMORY : GRAFT_OK);
        assert_int_equal(graft_session_length(s), 0);
    }
    arm(&f, 0);
    graft_session_close(&s);
    close_fixture(&fixture);
}

static void next_allocates_nothing_inside_a_block_of_the_cache(void **state)
{
    (void)state;
    struct failing_allocator f;
    struct fixture fixture = open_failing(&f);
    graft_session_options o = sampled(1);
    o.ignore_eos = true;
    static const char *const STOPS[] = {"\x02\x03\x04"};
    o.stops = STOPS;
    o.n_stops = 1;
    o.sampling.top_p = 0.9f;
    o.sampling.repetition_penalty = 1.1f;
    graft_session *s = open_session(fixture.model, &o);
    MUST(graft_session_prompt(s, IDS, 70, NULL, NULL, error)); /* into the second block of 64 */
    graft_token token;
    MUST(graft_session_next(s, &token, error));
    arm(&f, 0);
    while (graft_session_length(s) < 128) {
        MUST(graft_session_next(s, &token, error));
    }
    assert_int_equal(f.calls, 0);
    MUST(graft_session_next(s, &token, error)); /* the token picked last: position 127 */
    MUST(graft_session_next(s, &token, error)); /* position 128: the third block */
    assert_int_equal(f.calls, 1);
    graft_session_close(&s);
    close_fixture(&fixture);
}

static void nothing_is_left_behind(void **state)
{
    (void)state;
    struct failing_allocator f;
    struct fixture fixture = open_failing(&f);
    graft_model_close(&fixture.model);
    size_t empty = in_use(fixture.runtime);
    for (int round = 0; round < 2; round++) {
        MUST(graft_model_open(fixture.runtime, fixture.dir, NULL, &fixture.model, error));
        graft_session_options o = sampled(1);
        answer_free(solo(fixture.model, &o, "Round and round.", 70));
        graft_model_close(&fixture.model);
        assert_int_equal(in_use(fixture.runtime), empty);
    }
    close_fixture(&fixture);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(logits_do_not_depend_on_the_chunk),
        cmocka_unit_test(scores_are_the_logarithms_of_the_softmax),
        cmocka_unit_test(texts_side_by_side_have_the_scores_of_each_alone),
        cmocka_unit_test(texts_that_cannot_be_scored_are_refused),
        cmocka_unit_test(generated_logprobs_agree_with_decode_logits),
        cmocka_unit_test(evaluation_needs_an_empty_session_and_tokens_that_fit),
        cmocka_unit_test(mean_embedding_is_the_mean_of_the_last_ones_of_all_prefixes),
        cmocka_unit_test(classifier_scores_the_last_token_that_is_no_padding),
        cmocka_unit_test(classifier_generates_nothing_but_embeds),
        cmocka_unit_test(sessions_on_threads_give_what_they_give_alone),
        cmocka_unit_test(two_runtimes_live_in_one_process),
        cmocka_unit_test(runtime_open_survives_failure_of_every_allocation),
        cmocka_unit_test(model_open_survives_failure_of_every_allocation),
        cmocka_unit_test(text_functions_survive_failure_of_every_allocation),
        cmocka_unit_test(session_open_survives_failure_of_every_allocation),
        cmocka_unit_test(session_survives_failure_of_every_allocation),
        cmocka_unit_test(evaluation_survives_failure_of_every_allocation),
        cmocka_unit_test(next_allocates_nothing_inside_a_block_of_the_cache),
        cmocka_unit_test(nothing_is_left_behind),
    };
    return cmocka_run_group_tests(tests, setup, teardown);
}
