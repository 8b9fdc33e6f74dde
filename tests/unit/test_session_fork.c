/* test_session_fork.c: forks of a session say what it would have said, share its memory, and reach each other in nothing: on
 * a random model whose tokens are bytes.
 */
#include "unit/api_fixture.h"
#include "unit/failing_allocator.h"

#include <pthread.h>

static struct fixture F;

static const char PROMPT[] = "It was a bright cold day in April, and the clocks were striking "
                             "thirteen; the rest of this sentence only makes the prompt longer.";
enum { N = 80, AHEAD = 12, FORKS = 4 };

static int setup(void **state)
{
    (void)state;
    F = open_fixture(NULL, 2);
    return 0;
}

static int teardown(void **state)
{
    (void)state;
    close_fixture(&F);
    return 0;
}

static graft_session *fork_of(const graft_session *s)
{
    graft_session *fork = NULL;
    MUST(graft_session_fork(s, &fork, error));
    return fork;
}

static void reseed(graft_session *s, uint64_t seed)
{
    graft_sampling sampling = sampled(seed).sampling;
    MUST(graft_session_set_sampling(s, &sampling, error));
}

/* ---- the same words ---- */

static void fork_and_session_both_say_what_a_session_alone_says(void **state)
{
    (void)state;
    graft_session_options o = sampled(1);
    struct answer *whole = solo(F.model, &o, PROMPT, N);
    static const size_t AT[] = {0, 1, 40, N - 1};
    for (size_t i = 0; i < ARRAY_LEN(AT); i++) {
        struct answer *a = answer_new(), *b = answer_new();
        graft_session *s = prompted(F.model, &o, PROMPT);
        if (AT[i] > 0) {
            MUST(graft_session_generate(s, AT[i], answer_take, a, error));
            memcpy(b->ids, a->ids, sizeof a->ids);
            memcpy(b->logprobs, a->logprobs, sizeof a->logprobs);
            b->n = a->n;
            buf_append(&b->text, a->text.data, a->text.size);
        }
        graft_session *fork = fork_of(s);
        assert_int_equal(graft_session_finish(fork), graft_session_finish(s));
        for (size_t n = AT[i]; n < N; n++) { /* in turns, so that each writes beside the other */
            MUST(graft_session_generate(s, 1, answer_take, a, error));
            MUST(graft_session_generate(fork, 1, answer_take, b, error));
        }
        assert_same_answer(a, whole);
        assert_same_answer(b, whole);
        graft_session_close(&s);
        graft_session_close(&fork);
        answer_free(a);
        answer_free(b);
    }
    answer_free(whole);
}

static void fork_of_an_empty_session_is_an_empty_session(void **state)
{
    (void)state;
    graft_session_options o = sampled(3);
    struct answer *whole = solo(F.model, &o, PROMPT, N), *a = answer_new();
    graft_session *s = open_session(F.model, &o), *fork = fork_of(s);
    graft_token token;
    assert_int_equal(graft_session_length(fork), 0);
    assert_int_equal(graft_session_next(fork, &token, NULL), GRAFT_STATE);
    MUST(graft_session_prompt_text(fork, PROMPT, strlen(PROMPT), error));
    MUST(graft_session_generate(fork, N, answer_take, a, error));
    assert_same_answer(a, whole);
    assert_int_equal(graft_session_length(s), 0);
    graft_session_close(&s);
    graft_session_close(&fork);
    answer_free(a);
    answer_free(whole);
}

static void fork_keeps_the_settings_of_the_session(void **state)
{
    (void)state;
    static const graft_token_id STOP_IDS[] = {'q', 'z'};
    graft_session_options o = sampled(9);
    o.n_ctx = 200;
    o.prefill_chunk = 16;
    o.cache_k = GRAFT_KV_F32;
    o.cache_v = GRAFT_KV_Q8;
    o.ignore_eos = o.show_special = true;
    o.stop_ids = STOP_IDS;
    o.n_stop_ids = ARRAY_LEN(STOP_IDS);
    struct answer *whole = solo(F.model, &o, PROMPT, N), *a = answer_new();
    graft_session *s = prompted(F.model, &o, PROMPT), *fork = fork_of(s);
    assert_int_equal(graft_session_context(fork), 200);
    graft_session_close(&s);
    MUST(graft_session_generate(fork, N, answer_take, a, error));
    assert_same_answer(a, whole);
    graft_session_close(&fork);
    answer_free(a);
    answer_free(whole);
}

/* The text from the fork on, with what was held when it was made, is the text of the session from there on. */
static void fork_goes_on_in_the_midst_of_a_stop_text_and_of_a_character(void **state)
{
    (void)state;
    size_t held = 0;
    for (uint64_t seed = 0; seed < 4; seed++) {
        graft_session_options o = sampled(seed);
        o.sampling.temperature = 3;
        o.ignore_eos = true;
        struct answer *whole = solo(F.model, &o, PROMPT, N);
        const char *stops[] = {"~~~~", "ee", whole->text.data + whole->text.size - 3};
        o.stops = stops;
        o.n_stops = is_utf8(stops[2], 3) ? 3 : 2;
        graft_session *s = prompted(F.model, &o, PROMPT);
        graft_token token;
        for (;;) {
            graft_session *fork = fork_of(s);
            struct answer *a = answer_new(), *b = answer_new();
            graft_session *same = fork_of(fork);
            MUST(graft_session_generate(fork, AHEAD, answer_take, a, error));
            MUST(graft_session_generate(same, AHEAD, answer_take, b, error));
            assert_same_answer(a, b);
            assert_int_equal(graft_session_finish(same), graft_session_finish(fork));
            graft_session_close(&same);
            graft_session_close(&fork);
            graft_status status = graft_session_next(s, &token, NULL);
            struct answer *rest = answer_new();
            answer_take(rest, &token);
            if (status == GRAFT_OK && graft_session_finish(s) == GRAFT_FINISH_NONE) {
                held += token.text_size == 0;
                graft_session *next = fork_of(s);
                MUST(graft_session_generate(next, AHEAD - 1, answer_take, rest, error));
                graft_session_close(&next);
                assert_int_equal(rest->n, a->n);
                assert_string_equal(rest->text.data, a->text.data);
            }
            bool over = graft_session_finish(s) != GRAFT_FINISH_NONE ||
                        graft_session_length(s) > sizeof PROMPT + N;
            answer_free(rest);
            answer_free(a);
            answer_free(b);
            if (over) {
                break;
            }
        }
        graft_session_close(&s);
        answer_free(whole);
    }
    assert_true(held > 4);
}

static void fork_is_held_to_the_same_constraint(void **state)
{
    (void)state;
    static const char RULES[] = "root ::= \"[\" ([a-z]+ \",\")* [a-z] [a-z] \"]\"";
    graft_session_options o = sampled(7);
    graft_constraint *constraint = NULL;
    graft_session *s = prompted(F.model, &o, PROMPT);
    struct answer *whole = answer_new(), *rest = answer_new();
    MUST(graft_constraint_from_gbnf(F.model, RULES, strlen(RULES), &constraint, error));
    MUST(graft_session_set_constraint(s, constraint, error));
    MUST(graft_session_set_answer_limit(s, 40, error));
    graft_session *begun = fork_of(s);
    MUST(graft_session_generate(s, 5, answer_take, whole, error));
    graft_session *fork = fork_of(s);
    answer_free(whole);
    whole = answer_new();
    graft_constraint_close(&constraint);
    MUST(graft_session_generate(s, 0, answer_take, whole, error));
    MUST(graft_session_generate(fork, 0, answer_take, rest, error));
    assert_same_answer(rest, whole);
    assert_int_equal(graft_session_finish(fork), GRAFT_FINISH_EOS);
    assert_int_equal(rest->text.data[rest->text.size - 1], ']');
    answer_free(rest);
    rest = answer_new();
    MUST(graft_session_generate(begun, 0, answer_take, rest, error)); /* from the first token on */
    assert_memory_equal(rest->ids + 5, whole->ids, whole->n * sizeof *whole->ids);
    assert_int_equal(rest->text.data[0], '[');
    graft_session_close(&s);
    graft_session_close(&fork);
    graft_session_close(&begun);
    answer_free(whole);
    answer_free(rest);
}

static void fork_of_a_finished_answer_is_finished(void **state)
{
    (void)state;
    graft_session_options o = sampled(1);
    struct answer *whole = solo(F.model, &o, PROMPT, N), *a = answer_new();
    o.stop_ids = &whole->ids[5];
    o.n_stop_ids = 1;
    graft_session *s = prompted(F.model, &o, PROMPT);
    MUST(graft_session_generate(s, N, NULL, NULL, error));
    assert_int_equal(graft_session_finish(s), GRAFT_FINISH_STOP);
    graft_session *fork = fork_of(s);
    assert_int_equal(graft_session_finish(fork), GRAFT_FINISH_STOP);
    MUST(graft_session_generate(fork, N, answer_take, a, error));
    assert_int_equal(a->n, 0);
    graft_session_close(&fork);
    graft_session_close(&s);
    answer_free(a);
    answer_free(whole);
}

/* ---- apart ---- */

static void nothing_that_one_does_reaches_the_other(void **state)
{
    (void)state;
    graft_session_options o = sampled(1), other = sampled(2);
    struct answer *whole = solo(F.model, &o, PROMPT, N), *second = solo(F.model, &other, PROMPT, N);
    struct answer *a = answer_new(), *b = answer_new();
    graft_session *s = prompted(F.model, &o, PROMPT), *fork = fork_of(s);
    size_t prompt = graft_session_length(s);
    reseed(fork, 2);
    MUST(graft_session_generate(fork, N, answer_take, b, error));
    assert_same_answer(b, second);
    MUST(graft_session_trim(fork, 10, error)); /* into blocks that both hold */
    MUST(graft_session_prompt_text(fork, PROMPT, 100, error));
    MUST(graft_session_generate(fork, 20, NULL, NULL, error));
    MUST(graft_session_generate(s, N, answer_take, a, error));
    assert_same_answer(a, whole);
    MUST(graft_session_trim(s, prompt, error));
    MUST(graft_session_trim(fork, 0, error));
    a->n = 0;
    MUST(graft_session_generate(s, N, answer_take, a, error));
    assert_memory_equal(a->ids, whole->ids, N * sizeof *a->ids);
    graft_session_close(&s);
    graft_session_close(&fork);
    answer_free(a);
    answer_free(b);
    answer_free(second);
    answer_free(whole);
}

struct speaker {
    pthread_t thread;
    graft_session *session;
    struct answer *answer;
};

/* With forks and trims of its own in between, so that blocks change hands while others read them. */
static void *speak(void *user)
{
    struct speaker *me = user;
    for (int i = 0; i < 4; i++) {
        graft_session *fork = NULL;
        graft_error failure = {0};
        if (graft_session_generate(me->session, N / 4, answer_take, me->answer, &failure) !=
                GRAFT_OK ||
            graft_session_fork(me->session, &fork, &failure) != GRAFT_OK ||
            graft_session_generate(fork, 9, NULL, NULL, &failure) != GRAFT_OK) {
            return me; /* no answer is the same then */
        }
        graft_session_close(&fork);
    }
    graft_session_close(&me->session);
    return NULL;
}

static void forks_run_on_threads_of_their_own(void **state)
{
    (void)state;
    graft_session_options o = sampled(0);
    graft_session *s = prompted(F.model, &o, PROMPT);
    struct speaker speakers[FORKS];
    for (int i = 0; i < FORKS; i++) {
        speakers[i] = (struct speaker){.session = fork_of(s), .answer = answer_new()};
        reseed(speakers[i].session, (uint64_t)i);
    }
    for (int i = 0; i < FORKS; i++) {
        assert_int_equal(pthread_create(&speakers[i].thread, NULL, speak, &speakers[i]), 0);
    }
    struct answer *own = answer_new();
    MUST(graft_session_generate(s, N, answer_take, own, error));
    graft_session_close(&s); /* while the others go on */
    for (int i = 0; i < FORKS; i++) {
        void *failed = NULL;
        assert_int_equal(pthread_join(speakers[i].thread, &failed), 0);
        assert_null(failed);
        o.sampling.seed = (uint64_t)i;
        struct answer *alone = solo(F.model, &o, PROMPT, N);
        assert_same_answer(speakers[i].answer, alone);
        if (i == 0) {
            assert_same_answer(own, alone);
        }
        answer_free(alone);
        answer_free(speakers[i].answer);
    }
    answer_free(own);
}

/* ---- memory ---- */

static void blocks_are_shared_until_they_are_written(void **state)
{
    (void)state;
    graft_session_options o = sampled(1);
    graft_session *s =
        prompted(F.model, &o, PROMPT); /* 131 tokens: two full blocks and one that is not */
    size_t block = graft_session_kv_bytes(s) / 3;
    graft_session *forks[FORKS];
    for (int i = 0; i < FORKS; i++) {
        forks[i] = fork_of(s);
        assert_int_equal(graft_session_kv_bytes(s), 3 * block);
    }
    for (int i = 0; i < FORKS; i++) {
        MUST(graft_session_generate(forks[i], 3, NULL, NULL, error));
        assert_int_equal(graft_session_kv_bytes(forks[i]), (size_t)(4 + i) * block);
    }
    MUST(graft_session_generate(s, 3, NULL, NULL, error)); /* nobody else has its last one now */
    assert_int_equal(graft_session_kv_bytes(s), (3 + FORKS) * block);
    graft_session_close(&s);
    for (int i = 0; i < FORKS; i++) {
        assert_int_equal(graft_session_kv_bytes(forks[i]), (size_t)(2 + FORKS - i) * block);
        graft_session_close(&forks[i]);
    }
}

static void every_fork_can_fill_its_context(void **state)
{
    (void)state;
    graft_session_options o = sampled(1);
    o.n_ctx = 190;
    o.ignore_eos = true;
    struct answer *whole = solo(F.model, &o, PROMPT, 0);
    for (int order = 0; order < 2; order++) {
        graft_session *all[FORKS + 1] = {prompted(F.model, &o, PROMPT)};
        for (int i = 1; i <= FORKS; i++) {
            all[i] = fork_of(all[i - 1]);
        }
        for (int k = 0; k <= FORKS; k++) {
            int i = order == 0 ? k : FORKS - k;
            struct answer *a = answer_new();
            MUST(graft_session_trim(all[i], 0, error)); /* so that it shares nothing */
            MUST(graft_session_prompt_text(all[i], PROMPT, strlen(PROMPT), error));
            MUST(graft_session_generate(all[i], 0, answer_take, a, error));
            assert_int_equal(graft_session_length(all[i]), 190);
            assert_same_answer(a, whole);
            answer_free(a);
        }
        for (int k = 0; k <= FORKS; k++) {
            graft_session_close(&all[order == 0 ? k : FORKS - k]);
        }
    }
    answer_free(whole);
}

/* ---- failures ---- */

static void a_fork_without_memory_says_so_and_changes_nothing(void **state)
{
    (void)state;
    static struct failing_allocator allocator;
    graft_runtime *runtime = open_failing_runtime(1, &allocator);
    graft_model *model = NULL;
    MUST(graft_model_open(runtime, F.dir, NULL, &model, error));
    const char *stops[] = {"never to be said", "nor this"};
    graft_session_options o = sampled(1);
    o.stops = stops;
    o.n_stops = 2;
    struct answer *whole = solo(model, &o, PROMPT, N), *a = answer_new();
    graft_session *s = open_session(model, &o), *fork = NULL;
    MUST(graft_session_prompt_text(s, PROMPT, strlen(PROMPT), error));
    size_t bytes = graft_session_kv_bytes(s), failures = 0;
    for (;; failures++) {
        atomic_store(&allocator.calls, 0);
        allocator.failed = false;
        allocator.fail_at = failures + 1;
        graft_error why = {0};
        graft_status status = graft_session_fork(s, &fork, &why);
        allocator.fail_at = 0;
        if (!allocator.failed) {
            assert_int_equal(status, GRAFT_OK);
            break;
        }
        assert_int_equal(status, GRAFT_NO_MEMORY);
        assert_true(why.message[0] != '\0');
        assert_null(fork);
        assert_int_equal(graft_session_kv_bytes(s), bytes);
    }
    assert_true(failures > 10);
    MUST(graft_session_generate(s, N, answer_take, a, error));
    assert_same_answer(a, whole);
    graft_session_close(&s);
    graft_session_close(&fork);
    graft_model_close(&model);
    graft_runtime_close(&runtime);
    answer_free(a);
    answer_free(whole);
}

static void nothing_to_fork_is_an_error(void **state)
{
    (void)state;
    graft_session *fork = NULL, *s = open_session(F.model, NULL);
    assert_int_equal(graft_session_fork(NULL, &fork, NULL), GRAFT_INVALID_ARGUMENT);
    assert_int_equal(graft_session_fork(s, NULL, NULL), GRAFT_INVALID_ARGUMENT);
    graft_session_close(&s);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(fork_and_session_both_say_what_a_session_alone_says),
        cmocka_unit_test(fork_of_an_empty_session_is_an_empty_session),
        cmocka_unit_test(fork_keeps_the_settings_of_the_session),
        cmocka_unit_test(fork_goes_on_in_the_midst_of_a_stop_text_and_of_a_character),
        cmocka_unit_test(fork_is_held_to_the_same_constraint),
        cmocka_unit_test(fork_of_a_finished_answer_is_finished),
        cmocka_unit_test(nothing_that_one_does_reaches_the_other),
        cmocka_unit_test(forks_run_on_threads_of_their_own),
        cmocka_unit_test(blocks_are_shared_until_they_are_written),
        cmocka_unit_test(every_fork_can_fill_its_context),
        cmocka_unit_test(a_fork_without_memory_says_so_and_changes_nothing),
        cmocka_unit_test(nothing_to_fork_is_an_error),
    };
    return cmocka_run_group_tests(tests, setup, teardown);
}
