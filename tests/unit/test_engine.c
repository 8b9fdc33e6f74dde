/* test_engine.c: the engine through the public headers: whatever shares the batch, a stream says what a session says; streams that
 * fail, are dropped or come too late hurt nobody else.
 */
#include "unit/engine_fixture.h"

#include <poll.h>
#include <time.h>

enum { MANY = 12 };

static void check_many(const graft_engine_options *o)
{
    graft_engine *engine = open_engine(o);
    graft_stream *streams[MANY];
    for (int i = 0; i < MANY; i++) {
        streams[i] = ask(engine, PROMPTS[i % 4], (uint64_t)i, (size_t)(N - i));
    }
    for (int i = MANY; i-- > 0;) {
        assert_says(streams[i], PROMPTS[i % 4], (uint64_t)i, (size_t)(N - i));
        graft_stream_close(&streams[i]);
    }
    graft_engine_close(&engine);
}

/* ---- what streams say ---- */

static void streams_of_one_batch_say_what_sessions_say(void **state)
{
    (void)state;
    check_many(NULL);
}

static void neither_pieces_of_prompts_nor_small_passes_change_a_word(void **state)
{
    (void)state;
    graft_engine_options o = graft_engine_options_default();
    o.batch_rows = 5;
    o.prompt_rows = 2;
    o.max_streams = 3;
    check_many(&o);
    o.max_streams = 1;
    o.keep_prefixes = false;
    check_many(&o);
}

static void streams_that_pause_for_lack_of_blocks_say_the_same(void **state)
{
    (void)state;
    graft_engine_options o = graft_engine_options_default();
    graft_engine_info info;
    o.kv_bytes = 64 * 1024; /* of F16: some blocks of 8 kB */
    o.keep_prefixes = false;
    graft_engine *engine = open_engine(&o);
    graft_stream *streams[MANY];
    for (int i = 0; i < MANY; i++) {
        streams[i] = ask(engine, PROMPTS[i % 3], (uint64_t)i, 150);
    }
    for (int i = 0; i < MANY; i++) {
        assert_says(streams[i], PROMPTS[i % 3], (uint64_t)i, 150);
        graft_stream_close(&streams[i]);
    }
    MUST(graft_engine_describe(engine, &info, error));
    assert_true(info.pauses > 0);
    assert_int_equal(info.finished, MANY);
    assert_int_equal(info.kv_bytes_used, 0);
    graft_engine_close(&engine);
}

static void a_ring_that_nobody_reads_holds_its_stream_and_no_other(void **state)
{
    (void)state;
    graft_engine_options o = graft_engine_options_default();
    o.ring = 2;
    graft_engine *engine = open_engine(&o);
    graft_stream *slow = ask(engine, PROMPTS[0], 1, N), *fast = ask(engine, PROMPTS[1], 2, N);
    assert_says(fast, PROMPTS[1], 2, N);
    assert_says(slow, PROMPTS[0], 1, N);
    graft_stream_close(&slow);
    graft_stream_close(&fast);
    graft_engine_close(&engine);
}

static void callbacks_get_what_readers_get(void **state)
{
    (void)state;
    graft_engine *engine = open_engine(NULL);
    struct text_ids t = ids_of(PROMPTS[2]);
    graft_request r = request_of(&t, 5, N);
    struct answer *a = answer_new(), *b = alone(PROMPTS[2], 5, N);
    graft_token token;
    r.callback = answer_take;
    r.user = a;
    graft_stream *stream = submit(engine, &r);
    assert_int_equal(graft_stream_next(stream, &token, NULL), GRAFT_END);
    assert_int_equal(graft_stream_finish(stream), GRAFT_FINISH_LENGTH);
    assert_same_answer(a, b);
    graft_stream_close(&stream);
    answer_free(a);
    a = answer_new();
    a->stop_at = 3; /* false: cancels */
    r.user = a;
    stream = submit(engine, &r);
    assert_int_equal(graft_stream_next(stream, &token, NULL), GRAFT_END);
    assert_int_equal(graft_stream_finish(stream), GRAFT_FINISH_CANCELLED);
    assert_int_equal(a->n, 3);
    graft_stream_close(&stream);
    graft_engine_close(&engine);
    answer_free(a);
    answer_free(b);
}

enum { TOP = 5 };
static graft_alternative taken[N][TOP];
static size_t n_taken;

static bool take_top(void *user, const graft_token *token)
{
    (void)user;
    if (token->id >= 0) {
        assert_int_equal(token->n_top, TOP);
        memcpy(taken[n_taken++], token->top, sizeof taken[0]);
    } else {
        assert_int_equal(token->n_top, 0);
    }
    return true;
}

/* What was taken is what a session says of the same answer, token by token. */
static void assert_top_of_a_session(const char *prompt)
{
    graft_session_options o = sampled(7);
    struct text_ids t = ids_of(prompt);
    graft_token token;
    o.n_ctx = (int)t.n + N;
    graft_session *s = open_session(F.model, &o);
    MUST(graft_session_prompt_text(s, prompt, strlen(prompt), error));
    assert_int_equal(n_taken, N);
    for (int i = 0; i < N; i++) {
        graft_token_id ids[TOP];
        float logprobs[TOP];
        MUST(graft_session_next(s, &token, error));
        MUST(graft_session_top(s, TOP, ids, logprobs, error));
        assert_null(token.top);
        for (int k = 0; k < TOP; k++) {
            assert_int_equal(taken[i][k].id, ids[k]);
            assert_true(taken[i][k].logprob == logprobs[k]);
        }
    }
    graft_session_close(&s);
}

static void alternatives_come_along_with_each_token(void **state)
{
    (void)state;
    static const char PROMPT[] = "abcabcabcabcabcabc";
    graft_draft_options d = graft_draft_options_default();
    graft_engine_options o = graft_engine_options_default();
    struct text_ids t = ids_of(PROMPT);
    graft_request r = request_of(&t, 7, N);
    d.fixed = true;
    o.ring = 2;
    r.top = TOP;
    for (int way = 0; way < 4; way++) { /* read or called, without guesses and with */
        graft_token token;
        o.draft = way < 2 ? NULL : &d;
        r.callback = way % 2 == 0 ? NULL : take_top;
        n_taken = 0;
        graft_engine *engine = open_engine(&o);
        graft_stream *stream = submit(engine, &r);
        while (graft_stream_next(stream, &token, NULL) == GRAFT_OK) {
            take_top(NULL, &token);
        }
        assert_top_of_a_session(PROMPT);
        graft_stream_close(&stream);
        graft_engine_close(&engine);
    }
}

/* ---- polling ---- */

static void a_descriptor_is_readable_while_there_is_something(void **state)
{
    (void)state;
    graft_engine *engine = open_engine(NULL);
    graft_stream *stream = ask(engine, PROMPTS[2], 5, N);
    struct answer *a = answer_new(), *b = alone(PROMPTS[2], 5, N);
    struct pollfd fd = {.events = POLLIN};
    MUST(graft_stream_descriptor(stream, &fd.fd, error));
    for (graft_status status = GRAFT_OK; status != GRAFT_END;) {
        graft_token token;
        assert_int_equal(poll(&fd, 1, 60000), 1);
        while ((status = graft_stream_poll(stream, &token, NULL)) == GRAFT_OK) {
            answer_take(a, &token);
        }
        if (status == GRAFT_END) {
            answer_take(a, &token);
        } else {
            assert_int_equal(status, GRAFT_BUSY);
        }
    }
    assert_int_equal(poll(&fd, 1, 0), 1); /* the end stays */
    assert_same_answer(a, b);
    graft_stream_close(&stream);
    graft_engine_close(&engine);
    answer_free(a);
    answer_free(b);
}

/* ---- forks ---- */

static void a_fork_goes_on_from_the_tokens_of_another(void **state)
{
    (void)state;
    graft_engine_options o = graft_engine_options_default();
    o.ring = 2; /* the first one pauses where the second begins */
    graft_engine *engine = open_engine(&o);
    graft_stream *first = ask(engine, PROMPTS[1], 4, N);
    struct text_ids more = ids_of(" And then?");
    graft_request r = request_of(&more, 8, N);
    r.fork = first;
    graft_token token;
    MUST(graft_stream_next(first, &token, error));
    graft_stream *second = submit(engine, &r);
    struct answer *b = read_all(second);
    assert_int_equal(b->n, N);
    graft_stream_info info;
    MUST(graft_stream_describe(second, &info, error));
    assert_true(info.cached_tokens >= ids_of(PROMPTS[1]).n - 1);
    assert_in_range(info.prompt_tokens, info.cached_tokens + more.n,
                    info.cached_tokens + more.n + 2);
    struct answer *a = read_all(first), *whole = alone(PROMPTS[1], 4, N);
    assert_int_equal(a->n, N - 1); /* one was read above; the fork took nothing away */
    assert_memory_equal(a->ids, whole->ids + 1, a->n * sizeof *a->ids);
    answer_free(a);
    answer_free(whole);
    graft_stream_close(&first);
    graft_stream_close(&second);
    graft_engine_close(&engine);
    answer_free(b);
}

/* ---- ends ---- */

static void who_is_cancelled_or_dropped_ends_and_nobody_else(void **state)
{
    (void)state;
    graft_engine *engine = open_engine(NULL);
    graft_stream *doomed = ask(engine, PROMPTS[2], 1, 300),
                 *dropped = ask(engine, PROMPTS[0], 2, 300);
    graft_stream *kept = ask(engine, PROMPTS[1], 3, N);
    graft_token token;
    graft_stream_close(&dropped);
    MUST(graft_stream_next(doomed, &token, error));
    graft_stream_cancel(doomed);
    graft_status status;
    while ((status = graft_stream_next(doomed, &token, NULL)) == GRAFT_OK) {
    }
    assert_int_equal(status, GRAFT_END);
    assert_int_equal(graft_stream_finish(doomed), GRAFT_FINISH_CANCELLED);
    assert_says(kept, PROMPTS[1], 3, N);
    graft_stream_close(&doomed);
    graft_stream_close(&kept);
    graft_engine_close(&engine);
}

static void time_that_is_over_ends_a_stream_even_if_nobody_reads_it(void **state)
{
    (void)state;
    graft_engine_options o = graft_engine_options_default();
    o.ring = 2;
    graft_engine *engine = open_engine(&o);
    struct text_ids t = ids_of(PROMPTS[1]);
    graft_request r = request_of(&t, 1, N);
    graft_token token;
    r.timeout = 0.05;
    graft_stream *stream = submit(engine, &r);
    struct timespec nap = {.tv_nsec = 200 * 1000 * 1000};
    nanosleep(&nap, NULL);
    while (graft_stream_next(stream, &token, NULL) == GRAFT_OK) {
    }
    assert_int_equal(graft_stream_finish(stream), GRAFT_FINISH_TIMEOUT);
    graft_stream_close(&stream);
    graft_engine_close(&engine);
}

static void a_stream_that_fails_says_why_and_fails_alone(void **state)
{
    (void)state;
    graft_engine *engine = open_engine(NULL);
    graft_stream *good[3], *bad;
    struct text_ids t = {.ids = {RM_BOS, 65, RM_NAN, 66}, .n = 4};
    graft_request r = request_of(&t, 1, N);
    graft_error error = {0};
    graft_token token;
    for (int i = 0; i < 3; i++) {
        good[i] = ask(engine, PROMPTS[i], 7, N);
    }
    bad = submit(engine, &r);
    for (int i = 0; i < 2; i++) {
        assert_int_equal(graft_stream_next(bad, &token, &error), GRAFT_NUMERIC);
        assert_non_null(strstr(error.message, "not numbers"));
    }
    assert_int_equal(graft_stream_finish(bad), GRAFT_FINISH_FAILED);
    for (int i = 0; i < 3; i++) {
        assert_says(good[i], PROMPTS[i], 7, N);
        graft_stream_close(&good[i]);
    }
    graft_stream_close(&bad);
    graft_engine_close(&engine);
}

static void streams_that_are_left_end_with_the_engine(void **state)
{
    (void)state;
    graft_runtime_info before, after;
    MUST(graft_runtime_describe(F.runtime, &before, error));
    graft_engine *engine = open_engine(NULL);
    for (int i = 0; i < 20; i++) {
        graft_stream *stream = ask(engine, PROMPTS[i % 4], 1, 300);
        graft_stream_close(&stream);
    }
    graft_engine_close(&engine);
    MUST(graft_runtime_describe(F.runtime, &after, error));
    assert_int_equal(before.bytes_in_use, after.bytes_in_use);
}

/* ---- limits ---- */

static void what_never_fits_and_what_does_not_fit_now_are_told_apart(void **state)
{
    (void)state;
    graft_engine_options o = graft_engine_options_default();
    graft_stream *stream = NULL, *first, *second;
    graft_error error = {0};
    struct text_ids t = ids_of(PROMPTS[0]);
    o.max_streams = 1;
    o.max_waiting = 1;
    o.ring = 2;
    o.n_ctx = 300;
    graft_engine *engine = open_engine(&o);
    graft_request r = request_of(&t, 1, 200);
    assert_int_equal(graft_engine_submit(engine, &r, &stream, &error), GRAFT_LIMIT);
    assert_non_null(strstr(error.message, "n_ctx"));
    first = ask(engine, PROMPTS[1], 1, N);
    second = ask(engine, PROMPTS[1], 2, N);
    r = request_of(&t, 1, 5);
    graft_status status = graft_engine_submit(engine, &r, &stream, &error);
    /* Until the worker has come to the first one, one more may wait. */
    for (int i = 0; status == GRAFT_OK && i < 3; i++) {
        graft_stream_close(&stream);
        status = graft_engine_submit(engine, &r, &stream, &error);
    }
    assert_int_equal(status, GRAFT_BUSY);
    assert_non_null(strstr(error.message, "try again later"));
    assert_says(first, PROMPTS[1], 1, N);
    assert_says(second, PROMPTS[1], 2, N);
    graft_stream_close(&first);
    graft_stream_close(&second);
    graft_engine_close(&engine);
    o.kv_bytes = 20 * 1024; /* of blocks of 8 kB: two, which is 128 tokens */
    o.n_ctx = 0;
    engine = open_engine(&o);
    first = ask(engine, PROMPTS[1], 1, N);
    r = request_of(&t, 1, 1);
    assert_true(t.n >= 128);
    assert_int_equal(graft_engine_submit(engine, &r, &stream, &error), GRAFT_LIMIT);
    assert_non_null(strstr(error.message, "kv_bytes"));
    assert_says(first, PROMPTS[1], 1, N);
    graft_stream_close(&first);
    graft_engine_close(&engine);
    o.kv_bytes = 1;
    assert_int_equal(graft_engine_open(F.model, &o, &engine, &error), GRAFT_LIMIT);
    assert_non_null(strstr(error.message, "kv_bytes"));
}

static void a_prompt_that_fills_the_context_ends_at_once(void **state)
{
    (void)state;
    graft_engine_options o = graft_engine_options_default();
    struct text_ids t = ids_of(PROMPTS[0]);
    graft_stream_info info;
    graft_token token;
    o.n_ctx = 64;
    graft_engine *engine = open_engine(&o);
    assert_true(t.n >= 64);
    t.n = 64;
    graft_request r = request_of(&t, 1, 0);
    graft_stream *stream = submit(engine, &r);
    assert_int_equal(graft_stream_next(stream, &token, NULL), GRAFT_END);
    assert_int_equal(graft_stream_finish(stream), GRAFT_FINISH_LENGTH);
    MUST(graft_stream_describe(stream, &info, error));
    assert_int_equal(info.prompt_tokens, 64);
    assert_int_equal(info.tokens, 0);
    graft_stream_close(&stream);
    graft_engine_close(&engine);
}

static void requests_that_make_no_sense_are_refused_by_name(void **state)
{
    (void)state;
    graft_engine *engine = open_engine(NULL);
    struct text_ids t = ids_of(PROMPTS[1]);
    graft_stream *stream = NULL;
    struct {
        graft_request r;
        const char *word;
    } bad[8];
    size_t n = 0;
    for (; n < ARRAY_LEN(bad); n++) {
        bad[n].r = request_of(&t, 1, 4);
    }
    n = 0;
    bad[n].r.n_prompt = 0;
    bad[n++].word = "empty";
    bad[n].r.sampling.temperature = -1;
    bad[n++].word = "temperature";
    bad[n].r.timeout = -1;
    bad[n++].word = "timeout";
    bad[n].r.stops = (const char *const[]){""};
    bad[n].r.n_stops = 1;
    bad[n++].word = "stop";
    bad[n].r.stop_ids = (const graft_token_id[]){RM_VOCAB};
    bad[n].r.n_stop_ids = 1;
    bad[n++].word = "vocabulary";
    bad[n].r.prompt = (const graft_token_id[]){-1};
    bad[n].r.n_prompt = 1;
    bad[n++].word = "vocabulary";
    bad[n].r.top = 21;
    bad[n++].word = "top";
    bad[n].r.top = -1;
    bad[n++].word = "top";
    for (size_t i = 0; i < n; i++) {
        graft_error error = {0};
        assert_int_equal(graft_engine_submit(engine, &bad[i].r, &stream, &error),
                         GRAFT_INVALID_ARGUMENT);
        assert_non_null(strstr(error.message, bad[i].word));
        assert_null(stream);
    }
    graft_engine_close(&engine);
}

static void higher_priority_takes_the_place_of_lower(void **state)
{
    (void)state;
    graft_engine_options o = graft_engine_options_default();
    o.max_streams = 1;
    graft_engine *engine = open_engine(&o);
    struct text_ids t = ids_of(PROMPTS[1]);
    graft_request r = request_of(&t, 2, N);
    graft_token token;
    graft_engine_info info;
    graft_stream *low = ask(engine, PROMPTS[2], 1, 300);
    MUST(graft_stream_next(low, &token, error));
    r.priority = 1;
    graft_stream *high = submit(engine, &r);
    assert_says(high, PROMPTS[1], 2, N);
    MUST(graft_engine_describe(engine, &info, error));
    assert_int_equal(info.pauses, 1);
    struct answer *a = read_all(low), *b = alone(PROMPTS[2], 1, 300);
    assert_int_equal(a->n, b->n - 1); /* one was read above */
    assert_memory_equal(a->ids, b->ids + 1, a->n * sizeof *a->ids);
    assert_memory_equal(a->logprobs, b->logprobs + 1, a->n * sizeof *a->logprobs);
    answer_free(a);
    answer_free(b);
    graft_stream_close(&low);
    graft_stream_close(&high);
    graft_engine_close(&engine);
}

/* Held to a grammar in the batch as alone, beside one that is not. */
static void an_answer_is_held_to_what_its_request_says(void **state)
{
    (void)state;
    static const char GRAMMAR[] = "root ::= \"[\" [a-f]{3,9} (\",\" [0-9]+){2} \"]\"";
    graft_constraint *constraint = NULL;
    graft_engine *engine = open_engine(NULL);
    struct text_ids t = ids_of(PROMPTS[1]);
    graft_request r = request_of(&t, 3, N);
    graft_session_options o = sampled(3);
    MUST(graft_constraint_from_gbnf(F.model, GRAMMAR, strlen(GRAMMAR), &constraint, error));
    r.constraint = constraint;
    graft_stream *held = submit(engine, &r), *free_one = ask(engine, PROMPTS[1], 3, N);
    o.n_ctx = (int)(t.n + N);
    graft_session *session = open_session(F.model, &o);
    struct answer *a = read_all(held), *b = answer_new();
    MUST(graft_session_set_constraint(session, constraint, error));
    MUST(graft_session_prompt(session, t.ids, t.n, NULL, NULL, error));
    MUST(graft_session_generate(session, 0, answer_take, b, error));
    assert_same_answer(a, b);
    assert_int_equal(a->text.data[0], '[');
    assert_int_equal(a->text.data[a->text.size - 1], ']');
    assert_int_equal(graft_stream_finish(held), GRAFT_FINISH_EOS);
    assert_says(free_one, PROMPTS[1], 3, N);
    answer_free(a);
    answer_free(b);
    graft_session_close(&session);
    graft_stream_close(&held);
    graft_stream_close(&free_one);
    graft_constraint_close(&constraint);
    graft_engine_close(&engine);
}

/* Guesses that a constraint cuts, in a pass that fails because of another stream. */
static void a_failing_pass_beside_guesses_that_were_cut_hurts_nobody(void **state)
{
    (void)state;
    static const char GRAMMAR[] = "root ::= (\"ab\" | \"abc\" | \"b\")+";
    graft_draft_options d = graft_draft_options_default();
    graft_engine_options o = graft_engine_options_default();
    graft_constraint *constraint = NULL;
    struct text_ids t = ids_of("abxabxabxabxabx"), bad = {.ids = {RM_NAN}, .n = 1};
    graft_request r = request_of(&t, 3, N), nan = request_of(&bad, 1, 4);
    struct answer *answers[2];
    d.fixed = true;
    o.max_streams = 2;
    MUST(graft_constraint_from_gbnf(F.model, GRAMMAR, strlen(GRAMMAR), &constraint, error));
    r.constraint = constraint;
    for (int i = 0; i < 2; i++) {
        o.draft = i == 0 ? NULL : &d;
        graft_engine *engine = open_engine(&o);
        graft_stream *held = submit(engine, &r);
        for (int k = 0; k < 30 && i == 1; k++) {
            graft_token token;
            graft_stream *failing = submit(engine, &nan);
            assert_int_equal(graft_stream_next(failing, &token, NULL), GRAFT_NUMERIC);
            graft_stream_close(&failing);
        }
        answers[i] = read_all(held);
        graft_stream_close(&held);
        graft_engine_close(&engine);
    }
    assert_same_answer(answers[0], answers[1]);
    answer_free(answers[0]);
    answer_free(answers[1]);
    graft_constraint_close(&constraint);
}

/* An answer under a constraint that is taken up anew has no picks of the old one, guesses or not. */
static void an_answer_that_begins_anew_begins_its_constraint_anew(void **state)
{
    (void)state;
    static const char GRAMMAR[] = "root ::= \"ababababababababababab\"";
    graft_draft_options d = graft_draft_options_default();
    graft_constraint *constraint = NULL;
    struct text_ids t = ids_of("abababab");
    graft_session_options o = sampled(1);
    d.fixed = true;
    MUST(graft_constraint_from_gbnf(F.model, GRAMMAR, strlen(GRAMMAR), &constraint, error));
    for (size_t at = 1; at < 12; at++) {
        struct answer *a[2] = {answer_new(), answer_new()};
        for (int i = 0; i < 2; i++) {
            graft_session *s = open_session(F.model, &o);
            MUST(graft_session_set_draft(s, i == 0 ? NULL : &d, error));
            MUST(graft_session_set_constraint(s, constraint, error));
            MUST(graft_session_prompt(s, t.ids, t.n, NULL, NULL, error));
            MUST(graft_session_generate(s, at, answer_take, a[i], error));
            graft_session_resume(s);
            MUST(graft_session_generate(s, 10, answer_take, a[i], error));
            graft_session_close(&s);
        }
        assert_same_answer(a[0], a[1]);
        answer_free(a[0]);
        answer_free(a[1]);
    }
    graft_constraint_close(&constraint);
}

/* ---- memory ---- */

static void streams_that_come_and_go_leave_nothing(void **state)
{
    (void)state;
    graft_engine_options o = graft_engine_options_default();
    graft_runtime_info before, after;
    graft_engine_info info;
    o.kv_bytes = 1 << 18; /* all of it is taken before */
    graft_engine *engine = open_engine(&o);
    for (int i = 0; i < 600; i++) {
        graft_stream *stream = ask(engine, PROMPTS[i % 4], (uint64_t)i, 300);
        graft_token token;
        while (i <= 15 && graft_stream_next(stream, &token, NULL) == GRAFT_OK) {
        }
        if (i % 3 == 0) {
            (void)graft_stream_next(stream, &token, NULL);
        }
        graft_stream_close(&stream);
        do {
            MUST(graft_engine_describe(engine, &info, error));
        } while (info.running + info.waiting > 0);
        if (i == 15) {
            MUST(graft_runtime_describe(F.runtime, &before, error));
        }
    }
    MUST(graft_runtime_describe(F.runtime, &after, error));
    /* Scratch may still grow, when two of them meet in a pass; a hundred bytes of each stream would be more. */
    assert_true(after.bytes_in_use <= before.bytes_in_use + 64 * 1024);
    graft_engine_close(&engine);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(streams_of_one_batch_say_what_sessions_say),
        cmocka_unit_test(neither_pieces_of_prompts_nor_small_passes_change_a_word),
        cmocka_unit_test(streams_that_pause_for_lack_of_blocks_say_the_same),
        cmocka_unit_test(a_ring_that_nobody_reads_holds_its_stream_and_no_other),
        cmocka_unit_test(callbacks_get_what_readers_get),
        cmocka_unit_test(alternatives_come_along_with_each_token),
        cmocka_unit_test(a_descriptor_is_readable_while_there_is_something),
        cmocka_unit_test(a_fork_goes_on_from_the_tokens_of_another),
        cmocka_unit_test(who_is_cancelled_or_dropped_ends_and_nobody_else),
        cmocka_unit_test(time_that_is_over_ends_a_stream_even_if_nobody_reads_it),
        cmocka_unit_test(a_stream_that_fails_says_why_and_fails_alone),
        cmocka_unit_test(streams_that_are_left_end_with_the_engine),
        cmocka_unit_test(what_never_fits_and_what_does_not_fit_now_are_told_apart),
        cmocka_unit_test(a_prompt_that_fills_the_context_ends_at_once),
        cmocka_unit_test(requests_that_make_no_sense_are_refused_by_name),
        cmocka_unit_test(higher_priority_takes_the_place_of_lower),
        cmocka_unit_test(an_answer_is_held_to_what_its_request_says),
        cmocka_unit_test(a_failing_pass_beside_guesses_that_were_cut_hurts_nobody),
        cmocka_unit_test(an_answer_that_begins_anew_begins_its_constraint_anew),
        cmocka_unit_test(streams_that_come_and_go_leave_nothing),
    };
    return cmocka_run_group_tests(tests, setup, teardown);
}
