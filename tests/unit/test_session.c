/* test_session.c: generation through the public headers on a random model whose tokens are bytes:
 * determinism, streaming, ends, and that a failed call leaves the session as it was.
 */
#include "unit/api_fixture.h"

static struct fixture F;

static const char PROMPT[] = "It was a bright cold day in April, and the clocks were striking "
                             "thirteen; the rest of this sentence only makes the prompt longer.";
enum { N = 80 };

static int setup(void **state)
{
    (void)state;
    F = open_fixture(NULL, 1);
    return 0;
}

static int teardown(void **state)
{
    (void)state;
    close_fixture(&F);
    return 0;
}

/* ---- determinism ---- */

static void text_does_not_depend_on_the_prefill_chunk(void **state)
{
    (void)state;
    graft_session_options o = sampled(1);
    struct answer *whole = solo(F.model, &o, PROMPT, N);
    assert_int_equal(whole->n, N);
    static const int CHUNKS[] = {1, 7, 64, 100};
    for (size_t i = 0; i < ARRAY_LEN(CHUNKS); i++) {
        o.prefill_chunk = CHUNKS[i];
        struct answer *a = solo(F.model, &o, PROMPT, N);
        assert_same_answer(a, whole);
        answer_free(a);
    }
    answer_free(whole);
}

static void text_does_not_depend_on_the_number_of_threads(void **state)
{
    (void)state;
    graft_session_options o = sampled(1);
    struct answer *one = solo(F.model, &o, PROMPT, N);
    for (int threads = 2; threads <= 3; threads++) {
        graft_runtime *runtime = open_runtime(threads);
        graft_model *model = NULL;
        MUST(graft_model_open(runtime, F.dir, NULL, &model, error));
        struct answer *a = solo(model, &o, PROMPT, N);
        assert_same_answer(a, one);
        answer_free(a);
        graft_model_close(&model);
        graft_runtime_close(&runtime);
    }
    answer_free(one);
}

static void same_seed_gives_the_same_text_and_another_another(void **state)
{
    (void)state;
    graft_session_options o = sampled(5), other = sampled(6);
    struct answer *a = solo(F.model, &o, PROMPT, N), *b = solo(F.model, &o, PROMPT, N);
    struct answer *c = solo(F.model, &other, PROMPT, N);
    assert_same_answer(a, b);
    assert_string_not_equal(a->text.data, c->text.data);
    answer_free(a);
    answer_free(b);
    answer_free(c);
}

static void pulling_gives_what_the_callback_gets(void **state)
{
    (void)state;
    graft_session_options o = sampled(2);
    struct answer *pushed = solo(F.model, &o, PROMPT, N), *pulled = answer_new();
    graft_session *s = prompted(F.model, &o, PROMPT);
    graft_token token;
    size_t before = graft_session_length(s);
    for (size_t i = 0; i < N; i++) {
        MUST(graft_session_next(s, &token, error));
        answer_take(pulled, &token);
        assert_int_equal(graft_session_length(s), before + i + 1);
        assert_true(fabsf(expf(token.logprob) - token.probability) < 1e-5f);
    }
    assert_int_equal(pulled->n, pushed->n);
    assert_memory_equal(pulled->ids, pushed->ids, N * sizeof *pulled->ids);
    size_t n;
    const graft_token_id *tokens = graft_session_tokens(s, &n);
    assert_memory_equal(tokens + before, pushed->ids, N * sizeof *tokens);
    graft_session_close(&s);
    assert_null(s);
    answer_free(pushed);
    answer_free(pulled);
}

static void greedy_takes_the_first_of_top(void **state)
{
    (void)state;
    graft_session_options o = graft_session_options_default();
    o.sampling.temperature = 0;
    graft_session *s = prompted(F.model, &o, PROMPT);
    graft_token_id ids[3];
    float logprobs[3];
    graft_token token;
    MUST(graft_session_top(s, 3, ids, logprobs, error)); /* of the token to come */
    for (int i = 0; i < 10; i++) {
        MUST(graft_session_next(s, &token, error));
        MUST(graft_session_top(s, 3, ids, logprobs, error)); /* of the token that came */
        assert_int_equal(token.id, ids[0]);
        assert_true(token.logprob == logprobs[0]);
        assert_true(logprobs[0] >= logprobs[1] && logprobs[1] >= logprobs[2]);
    }
    graft_session_close(&s);
}

static void sampling_may_change_between_tokens(void **state)
{
    (void)state;
    graft_session_options o = sampled(3);
    graft_session *s = prompted(F.model, &o, PROMPT);
    graft_sampling greedy = graft_sampling_default();
    greedy.temperature = 0;
    graft_token_id best;
    float logprob;
    graft_token token;
    MUST(graft_session_next(s, &token, error));
    MUST(graft_session_set_sampling(s, &greedy, error));
    MUST(graft_session_next(s, &token, error));
    MUST(graft_session_top(s, 1, &best, &logprob, error));
    assert_int_equal(token.id, best);
    greedy.top_p = 2;
    assert_int_equal(graft_session_set_sampling(s, &greedy, NULL), GRAFT_INVALID_ARGUMENT);
    graft_session_close(&s);
}

/* ---- streaming ---- */

static void streamed_text_is_the_text_of_the_tokens(void **state)
{
    (void)state;
    int same = 0;
    for (uint64_t seed = 0; seed < 12; seed++) {
        graft_session_options o = sampled(seed);
        struct answer *a = solo(F.model, &o, PROMPT, 40);
        char *text;
        size_t size;
        MUST(graft_detokenize(graft_model_tokenizer(F.model), a->ids, a->n, false, &text, &size,
                              error));
        assert_true(is_utf8(a->text.data, a->text.size));
        if (is_utf8(text, size)) { /* else the stream has U+FFFD for what is none */
            assert_string_equal(text, a->text.data);
            same++;
        }
        graft_free(F.runtime, text);
        answer_free(a);
    }
    assert_true(same > 3);
}

static void no_piece_breaks_a_character(void **state)
{
    (void)state;
    graft_session_options o = sampled(4);
    o.sampling.temperature = 5;
    o.ignore_eos = true;
    graft_session *s = prompted(F.model, &o, PROMPT);
    graft_token token;
    size_t held = 0;
    for (int i = 0; i < 300; i++) {
        MUST(graft_session_next(s, &token, error));
        assert_true(is_utf8(token.text, token.text_size));
        held += token.text_size == 0;
    }
    assert_true(held > 0);
    graft_session_close(&s);
}

/* ---- ends ---- */

static void end_token_is_the_last_record_unless_ignored(void **state)
{
    (void)state;
    graft_session_options o = sampled(1);
    struct answer *whole = solo(F.model, &o, PROMPT, N);
    graft_token_id end = whole->ids[9];
    size_t first = 0;
    while (whole->ids[first] != end) {
        first++;
    }
    struct random_model m = {.extra_eos = end};
    struct fixture f = open_fixture(&m, 1);
    graft_session *s = open_session(f.model, &o);
    MUST(graft_session_prompt_text(s, PROMPT, strlen(PROMPT), error));
    graft_token token;
    for (size_t i = 0; i <= first; i++) {
        MUST(graft_session_next(s, &token, error));
        assert_int_equal(token.is_eos, i == first);
    }
    assert_int_equal(token.text_size, 0);
    assert_int_equal(graft_session_finish(s), GRAFT_FINISH_EOS);
    graft_error why = {0};
    assert_int_equal(graft_session_next(s, &token, &why), GRAFT_END);
    assert_int_equal(why.status, GRAFT_OK); /* no failure */
    assert_false(token.is_eos);
    /* The next turn goes on after it. */
    MUST(graft_session_prompt_text(s, "More?", 5, error));
    assert_int_equal(graft_session_finish(s), GRAFT_FINISH_NONE);
    MUST(graft_session_next(s, &token, error));
    graft_session_close(&s);
    o.ignore_eos = true;
    struct answer *a = solo(f.model, &o, PROMPT, N);
    assert_same_answer(a, whole);
    answer_free(a);
    answer_free(whole);
    close_fixture(&f);
}

static void max_tokens_ends_a_call_and_the_next_call_goes_on(void **state)
{
    (void)state;
    graft_session_options o = sampled(1);
    struct answer *whole = solo(F.model, &o, PROMPT, N), *a = answer_new();
    graft_session *s = prompted(F.model, &o, PROMPT);
    for (size_t n = 10; n <= N; n += 10) {
        MUST(graft_session_generate(s, 10, answer_take, a, error));
        assert_int_equal(a->n, n);
        assert_int_equal(graft_session_finish(s), GRAFT_FINISH_LENGTH);
    }
    assert_same_answer(a, whole);
    graft_session_close(&s);
    answer_free(a);
    answer_free(whole);
}

static void full_context_ends_the_answer(void **state)
{
    (void)state;
    graft_session_options o = sampled(1);
    o.n_ctx = 100;
    struct answer *a = answer_new();
    graft_session *s = prompted(F.model, &o, "Hello");
    assert_int_equal(graft_session_context(s), 100);
    MUST(graft_session_generate(s, 0, answer_take, a, error));
    assert_int_equal(graft_session_length(s), 100);
    assert_int_equal(a->n, 100 - 6);
    assert_int_equal(graft_session_finish(s), GRAFT_FINISH_LENGTH);
    graft_token token;
    assert_int_equal(graft_session_next(s, &token, NULL), GRAFT_END);
    assert_int_equal(token.id, -1);
    graft_session_close(&s);
    char last[] = {a->text.data[a->text.size - 1], '\x01', '\0'};
    const char *stop = last; /* the last text is held, until the end gives it out */
    o.stops = &stop;
    o.n_stops = 1;
    struct answer *held = solo(F.model, &o, "Hello", 0);
    assert_same_answer(held, a);
    answer_free(held);
    o.n_stops = 0;
    o.n_ctx = 512;
    struct answer *longer = solo(F.model, &o, "Hello", 94);
    assert_same_answer(a, longer); /* a smaller context changes nothing before its end */
    s = open_session(F.model, &o);
    assert_int_equal(graft_session_generate(s, 1, NULL, NULL, NULL), GRAFT_STATE);
    graft_session_close(&s);
    answer_free(longer);
    answer_free(a);
}

static void callback_cancels_and_the_session_goes_on(void **state)
{
    (void)state;
    graft_session_options o = sampled(1);
    struct answer *whole = solo(F.model, &o, PROMPT, N), *a = answer_new();
    graft_session *s = prompted(F.model, &o, PROMPT);
    a->stop_at = 17;
    MUST(graft_session_generate(s, N, answer_take, a, error));
    assert_int_equal(a->n, 17);
    assert_int_equal(graft_session_finish(s), GRAFT_FINISH_CANCELLED);
    a->stop_at = 0;
    MUST(graft_session_generate(s, N - 17, answer_take, a, error));
    assert_same_answer(a, whole);
    graft_session_close(&s);
    answer_free(a);
    answer_free(whole);
}

/* ---- the timeline ---- */

static void trimmed_session_gives_what_it_gave_before(void **state)
{
    (void)state;
    graft_session_options o = sampled(1);
    o.prefill_chunk = 32;
    struct answer *a = answer_new(), *whole = solo(F.model, &o, PROMPT, N);
    graft_session *s = prompted(F.model, &o, PROMPT);
    size_t prompt = graft_session_length(s);
    MUST(graft_session_generate(s, N, answer_take, a, error));
    static const size_t BACK[] = {N, N - 1, 1, 33, 0, 79};
    for (size_t i = 0; i < ARRAY_LEN(BACK); i++) {
        MUST(graft_session_trim(s, prompt + N - BACK[i], error));
        assert_int_equal(graft_session_finish(s), GRAFT_FINISH_NONE);
        a->n = N - BACK[i];
        MUST(graft_session_generate(s, BACK[i] > 0 ? BACK[i] : 1, answer_take, a, error));
        assert_memory_equal(a->ids, whole->ids, N * sizeof *a->ids);
        assert_memory_equal(a->logprobs, whole->logprobs, N * sizeof *a->logprobs);
        MUST(graft_session_trim(s, prompt + N, error));
    }
    assert_int_equal(graft_session_trim(s, prompt + N + 1, NULL), GRAFT_INVALID_ARGUMENT);
    MUST(graft_session_trim(s, 0, error));
    assert_int_equal(graft_session_kv_bytes(s), 0);
    graft_token token;
    assert_int_equal(graft_session_next(s, &token, NULL), GRAFT_STATE);
    MUST(graft_session_prompt_text(s, PROMPT, strlen(PROMPT), error));
    a->n = 0;
    MUST(graft_session_generate(s, N, answer_take, a, error));
    assert_memory_equal(a->ids, whole->ids, N * sizeof *a->ids);
    graft_session_close(&s);
    answer_free(a);
    answer_free(whole);
}

static void prompt_that_does_not_fit_leaves_the_session_unchanged(void **state)
{
    (void)state;
    graft_session_options o = sampled(1);
    o.n_ctx = 256;
    struct answer *whole = solo(F.model, &o, PROMPT, 60), *a = answer_new();
    graft_session *s = prompted(F.model, &o, PROMPT);
    MUST(graft_session_generate(s, 30, answer_take, a, error));
    size_t length = graft_session_length(s);
    char text[300];
    memset(text, 'x', sizeof text);
    graft_error why = {0};
    assert_int_equal(graft_session_prompt_text(s, text, sizeof text, &why), GRAFT_LIMIT);
    assert_non_null(strstr(why.message, "300 tokens do not fit"));
    static const graft_token_id BAD[][2] = {{1, -1}, {1, RM_VOCAB}};
    assert_int_equal(graft_session_prompt(s, BAD[0], 2, NULL, NULL, NULL), GRAFT_INVALID_ARGUMENT);
    assert_int_equal(graft_session_prompt(s, BAD[1], 2, NULL, NULL, NULL), GRAFT_INVALID_ARGUMENT);
    assert_int_equal(graft_session_length(s), length);
    MUST(graft_session_generate(s, 30, answer_take, a, error));
    assert_same_answer(a, whole);
    graft_session_close(&s);
    answer_free(a);
    answer_free(whole);
}

static bool cancel_at(void *user, uint64_t done, uint64_t total, const char *what)
{
    uint64_t *at = user;
    assert_non_null(what);
    assert_true(done <= total);
    return done < *at;
}

static void cancelled_prompt_leaves_the_session_unchanged(void **state)
{
    (void)state;
    graft_session_options o = sampled(1);
    o.prefill_chunk = 16;
    struct answer *whole = solo(F.model, &o, PROMPT, 60);
    graft_token_id ids[100] = {65, 66, 67};
    for (uint64_t at = 1; at <= 96; at += 19) {
        struct answer *a = answer_new();
        graft_session *s = prompted(F.model, &o, PROMPT);
        MUST(graft_session_generate(s, 30, answer_take, a, error));
        size_t length = graft_session_length(s);
        graft_error why = {0};
        assert_int_equal(graft_session_prompt(s, ids, 100, cancel_at, &at, &why), GRAFT_CANCELLED);
        assert_int_equal(graft_session_length(s), length);
        MUST(graft_session_generate(s, 30, answer_take, a, error));
        assert_same_answer(a, whole);
        graft_session_close(&s);
        answer_free(a);
    }
    answer_free(whole);
}

static void prompts_in_pieces_are_one_prompt(void **state)
{
    (void)state;
    graft_session_options o = sampled(1);
    struct answer *whole = solo(F.model, &o, PROMPT, N), *a = answer_new();
    graft_session *s = prompted(F.model, &o, "");
    assert_int_equal(graft_session_length(s), 1); /* BOS */
    for (const char *p = PROMPT; *p != '\0'; p++) {
        MUST(graft_session_prompt_text(s, p, 1, error));
    }
    MUST(graft_session_prompt(s, NULL, 0, NULL, NULL, error));
    MUST(graft_session_generate(s, N, answer_take, a, error));
    assert_same_answer(a, whole);
    graft_session_close(&s);
    answer_free(a);
    answer_free(whole);
}

static void special_tokens_in_a_prompt_text_are_plain_text(void **state)
{
    (void)state;
    graft_session_options o = sampled(1);
    graft_session *s = prompted(F.model, &o, "</s>");
    size_t n;
    const graft_token_id *ids = graft_session_tokens(s, &n);
    assert_int_equal(n, 5);
    assert_int_equal(ids[0], RM_BOS);
    assert_int_equal(ids[1], '<');
    graft_session_close(&s);
}

/* Quantised weights: a row of a prompt and a row that was generated differ in their arithmetic, and each
 * token keeps its own when it is evaluated again. */
static void trimmed_tokens_keep_their_role(void **state)
{
    (void)state;
    char *gguf = path_join(NULL, F.dir, "roles.gguf");
    MUST(graft_convert(F.runtime, F.dir, gguf, NULL, error));
    graft_model *model = NULL;
    MUST(graft_model_open(F.runtime, gguf, NULL, &model, error));
    graft_session_options o = sampled(1);
    o.ignore_eos = true;
    struct answer *whole = solo(model, &o, PROMPT, N);
    graft_session *s = open_session(model, &o);
    MUST(graft_session_prompt_text(s, PROMPT, strlen(PROMPT), error));
    size_t prompt = graft_session_length(s);
    MUST(graft_session_generate(s, N, NULL, NULL, error));
    for (size_t kept = 0; kept < N; kept += 13) {
        graft_token token;
        MUST(graft_session_trim(s, prompt + kept, error));
        for (size_t i = kept; i < N; i++) {
            MUST(graft_session_next(s, &token, error));
            assert_int_equal(token.id, whole->ids[i]);
            assert_true(token.logprob == whole->logprobs[i]);
        }
    }
    /* Prompt rows have the arithmetic of scores, generated rows have not. */
    graft_token_id ids[RM_CTX], best;
    float scores[RM_CTX], logprob;
    size_t n, differ = 0;
    MUST(graft_session_trim(s, 0, error));
    MUST(graft_session_prompt_text(s, PROMPT, strlen(PROMPT), error));
    MUST(graft_session_top(s, 1, &best, &logprob, error));
    memcpy(ids, graft_session_tokens(s, &n), prompt * sizeof *ids);
    MUST(graft_session_trim(s, 0, error));
    assert_int_equal(graft_session_top(s, 1, &best, &logprob, NULL), GRAFT_STATE);
    ids[prompt] = best;
    MUST(graft_session_score(s, ids, prompt + 1, scores, error));
    assert_true(scores[prompt] == logprob);
    memcpy(ids + prompt, whole->ids, N * sizeof *ids);
    MUST(graft_session_score(s, ids, prompt + N, scores, error));
    assert_true(scores[prompt] == whole->logprobs[0]);
    for (size_t i = 1; i < N; i++) {
        differ += scores[prompt + i] != whole->logprobs[i];
    }
    assert_true(differ > N / 2);
    graft_session_close(&s);
    answer_free(whole);
    graft_model_close(&model);
    unlink(gguf);
    mem_free(NULL, gguf);
}

/* ---- odd models ---- */

static void nan_is_an_error_that_changes_nothing(void **state)
{
    (void)state;
    struct random_model m = {.nan_token = true};
    struct fixture f = open_fixture(&m, 2);
    graft_session_options o = sampled(1);
    struct answer *whole = solo(F.model, &o, PROMPT, N), *a = answer_new();
    graft_session *s = open_session(f.model, &o);
    MUST(graft_session_prompt_text(s, PROMPT, strlen(PROMPT), error));
    graft_token_id bad[] = {65, RM_NAN};
    graft_error why = {0};
    assert_int_equal(graft_session_prompt(s, bad, 2, NULL, NULL, &why), GRAFT_NUMERIC);
    assert_int_equal(why.status, GRAFT_NUMERIC);
    MUST(graft_session_generate(s, N, answer_take, a, error));
    assert_same_answer(a, whole);
    graft_session_close(&s);
    answer_free(a);
    answer_free(whole);
    close_fixture(&f);
}

static void model_without_tokenizer_runs_on_ids(void **state)
{
    (void)state;
    struct random_model m = {.no_tokenizer = true};
    struct fixture f = open_fixture(&m, 1);
    assert_null(graft_model_tokenizer(f.model));
    graft_session_options o = sampled(1);
    struct answer *whole = solo(F.model, &o, "Hi", 20), *a = answer_new();
    graft_session *s = open_session(f.model, &o);
    assert_int_equal(graft_session_prompt_text(s, "Hi", 2, NULL), GRAFT_UNSUPPORTED);
    graft_token_id ids[] = {RM_BOS, 'H', 'i'};
    MUST(graft_session_prompt(s, ids, 3, NULL, NULL, error));
    MUST(graft_session_generate(s, 20, answer_take, a, error));
    assert_memory_equal(a->ids, whole->ids, 20 * sizeof *a->ids);
    assert_int_equal(a->text.size, 0);
    graft_session_close(&s);
    const char *stop = "x";
    o.stops = &stop;
    o.n_stops = 1;
    assert_int_equal(graft_session_open(f.model, &o, &s, NULL), GRAFT_UNSUPPORTED);
    answer_free(a);
    answer_free(whole);
    close_fixture(&f);
}

static void sampling_defaults_come_from_the_generation_config(void **state)
{
    (void)state;
    struct random_model m = {.generation = "{\"temperature\": 0.25, \"top_k\": 7, \"top_p\": 0.5, "
                                           "\"repetition_penalty\": 1.25, \"do_sample\": true}"};
    struct fixture f = open_fixture(&m, 1);
    graft_sampling got = graft_sampling_for(f.model);
    assert_true(got.temperature == 0.25f && got.top_k == 7 && got.top_p == 0.5f);
    assert_true(got.repetition_penalty == 1.25f && got.min_p == graft_sampling_default().min_p);
    close_fixture(&f);
    m.generation = "{\"temperature\": 0.25, \"do_sample\": false}";
    f = open_fixture(&m, 1);
    assert_true(graft_sampling_for(f.model).temperature == 0);
    graft_session_options o = graft_session_options_default();
    o.sampling = graft_sampling_for(f.model);
    struct answer *greedy = solo(f.model, &o, "Hi", 20),
                  *by_default = solo(f.model, NULL, "Hi", 20);
    assert_same_answer(greedy, by_default); /* no options: what the model asks for */
    answer_free(greedy);
    answer_free(by_default);
    close_fixture(&f);
    m.generation = "{\"top_p\": 7}";
    f = open_fixture(&m, 1);
    assert_true(graft_sampling_for(f.model).top_p == graft_sampling_default().top_p);
    close_fixture(&f);
}

static void options_out_of_range_are_refused(void **state)
{
    (void)state;
    graft_session_options good = graft_session_options_default(), bad[12];
    static const char *const EMPTY[] = {""}, *const BROKEN[] = {"\xC3"}, *const NONE[] = {NULL};
    static const graft_token_id OUTSIDE[] = {RM_VOCAB};
    static char longest[5000];
    memset(longest, 'a', sizeof longest - 1);
    const char *too_long[] = {longest};
    for (size_t i = 0; i < ARRAY_LEN(bad); i++) {
        bad[i] = good;
        bad[i].n_stops = i < 4;
    }
    bad[0].stops = EMPTY;
    bad[1].stops = BROKEN;
    bad[2].stops = NONE;
    bad[3].stops = too_long;
    bad[4].n_stops = 1;
    bad[5].n_stops = 100000;
    bad[5].stops = EMPTY;
    bad[6].stop_ids = OUTSIDE;
    bad[6].n_stop_ids = 1;
    bad[7].n_stop_ids = 1;
    bad[8].n_ctx = -1;
    bad[9].prefill_chunk = 0;
    bad[10].cache_k = (graft_kv_type)9;
    bad[11].sampling.temperature = -1;
    for (size_t i = 0; i < ARRAY_LEN(bad); i++) {
        graft_session *s = NULL;
        graft_error why = {0};
        assert_int_equal(graft_session_open(F.model, &bad[i], &s, &why), GRAFT_INVALID_ARGUMENT);
        assert_true(why.message[0] != '\0');
        assert_null(s);
    }
}

static void cache_types_give_nearly_the_same_distribution(void **state)
{
    (void)state;
    graft_session_options o = sampled(1);
    float best[3];
    graft_token_id id;
    size_t bytes[3];
    for (int type = 0; type < 3; type++) {
        o.cache_k = o.cache_v = (graft_kv_type)type;
        graft_session *s = prompted(F.model, &o, PROMPT);
        MUST(graft_session_top(s, 1, &id, &best[type], error));
        bytes[type] = graft_session_kv_bytes(s);
        graft_session_close(&s);
    }
    assert_true(fabsf(best[GRAFT_KV_F16] - best[GRAFT_KV_F32]) < 0.02f);
    assert_true(fabsf(best[GRAFT_KV_Q8] - best[GRAFT_KV_F32]) < 0.2f);
    assert_int_equal(bytes[GRAFT_KV_F32], 2 * bytes[GRAFT_KV_F16]);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(text_does_not_depend_on_the_prefill_chunk),
        cmocka_unit_test(text_does_not_depend_on_the_number_of_threads),
        cmocka_unit_test(same_seed_gives_the_same_text_and_another_another),
        cmocka_unit_test(pulling_gives_what_the_callback_gets),
        cmocka_unit_test(greedy_takes_the_first_of_top),
        cmocka_unit_test(sampling_may_change_between_tokens),
        cmocka_unit_test(streamed_text_is_the_text_of_the_tokens),
        cmocka_unit_test(no_piece_breaks_a_character),
        cmocka_unit_test(end_token_is_the_last_record_unless_ignored),
        cmocka_unit_test(max_tokens_ends_a_call_and_the_next_call_goes_on),
        cmocka_unit_test(full_context_ends_the_answer),
        cmocka_unit_test(callback_cancels_and_the_session_goes_on),
        cmocka_unit_test(trimmed_session_gives_what_it_gave_before),
        cmocka_unit_test(prompt_that_does_not_fit_leaves_the_session_unchanged),
        cmocka_unit_test(cancelled_prompt_leaves_the_session_unchanged),
        cmocka_unit_test(prompts_in_pieces_are_one_prompt),
        cmocka_unit_test(special_tokens_in_a_prompt_text_are_plain_text),
        cmocka_unit_test(trimmed_tokens_keep_their_role),
        cmocka_unit_test(nan_is_an_error_that_changes_nothing),
        cmocka_unit_test(model_without_tokenizer_runs_on_ids),
        cmocka_unit_test(sampling_defaults_come_from_the_generation_config),
        cmocka_unit_test(options_out_of_range_are_refused),
        cmocka_unit_test(cache_types_give_nearly_the_same_distribution),
    };
    return cmocka_run_group_tests(tests, setup, teardown);
}
