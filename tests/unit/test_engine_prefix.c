/* test_engine_prefix.c: what an engine keeps of prompts: who finds it, and what goes first where room is short.
 */
#include "unit/engine_fixture.h"

enum { BLOCK = 64 };

static void a_prompt_that_was_there_before_is_not_computed_again(void **state)
{
    (void)state;
    graft_engine *engine = open_engine(NULL);
    graft_stream_info info;
    size_t cached[3];
    for (int i = 0; i < 3; i++) {
        graft_stream *stream = ask(engine, PROMPTS[0], 3, N);
        assert_says(stream, PROMPTS[0], 3, N);
        MUST(graft_stream_describe(stream, &info, error));
        cached[i] = info.cached_tokens;
        assert_int_equal(info.prompt_tokens, ids_of(PROMPTS[0]).n);
        assert_int_equal(info.tokens, N);
        assert_true(info.first_token > 0);
        graft_stream_close(&stream);
        if (i == 1) {
            graft_engine_forget_prefixes(engine);
        }
    }
    assert_int_equal(cached[0], 0);
    assert_int_equal(cached[1], (ids_of(PROMPTS[0]).n - 1) / 64 * 64);
    assert_true(cached[1] > 0);
    assert_int_equal(cached[2], 0);
    graft_engine_close(&engine);
}

/* The answer of a first turn, as part of the prompt of a second one: other roles, so another name, unless asked for. */
static void answers_are_shared_only_where_that_was_asked_for(void **state)
{
    (void)state;
    for (int share = 0; share < 2; share++) {
        graft_engine_options o = graft_engine_options_default();
        o.share_decoded = share;
        graft_engine *engine = open_engine(&o);
        struct text_ids t = ids_of(PROMPTS[2]);
        graft_request r = request_of(&t, 9, 150);
        graft_stream *stream = submit(engine, &r);
        struct answer *a = read_all(stream);
        graft_stream_info info;
        graft_stream_close(&stream);
        memcpy(t.ids + t.n, a->ids, a->n * sizeof *a->ids);
        t.n += a->n;
        r = request_of(&t, 9, 5);
        stream = submit(engine, &r);
        answer_free(a);
        a = read_all(stream);
        MUST(graft_stream_describe(stream, &info, error));
        size_t prompt_alone = ids_of(PROMPTS[2]).n / 64 * 64;
        assert_int_equal(info.cached_tokens, share ? (t.n - 1) / 64 * 64 : prompt_alone);
        graft_stream_close(&stream);
        graft_engine_close(&engine);
        answer_free(a);
    }
}

/* A prompt of n tokens, all of them `c`, with an answer of one token; how much of it was there. */
static size_t cached_of(graft_engine *engine, char c, size_t n)
{
    struct text_ids t = {.n = n};
    graft_stream_info info;
    for (size_t i = 0; i < n; i++) {
        t.ids[i] = c;
    }
    graft_request r = request_of(&t, 1, 1);
    graft_stream *stream = submit(engine, &r);
    answer_free(read_all(stream));
    MUST(graft_stream_describe(stream, &info, error));
    graft_stream_close(&stream);
    return info.cached_tokens;
}

static graft_engine *open_of_blocks(size_t n)
{
    graft_engine_options o = graft_engine_options_default();
    o.kv_bytes = n * 8 * 1024; /* of F16 */
    return open_engine(&o);
}

/* Without its beginning the rest of a prompt is of no use. */
static void the_end_of_a_prompt_goes_before_its_beginning(void **state)
{
    (void)state;
    graft_engine *engine = open_of_blocks(6);
    assert_int_equal(cached_of(engine, 'a', 3 * BLOCK + 1), 0); /* keeps three */
    assert_int_equal(cached_of(engine, 'b', 3 * BLOCK + 1), 0); /* takes one of them */
    assert_int_equal(cached_of(engine, 'a', 2 * BLOCK + 1), 2 * BLOCK);
    graft_engine_close(&engine);
    engine = open_of_blocks(6);
    assert_int_equal(cached_of(engine, 'a', 3 * BLOCK + 1), 0);
    assert_int_equal(cached_of(engine, 'a', 3 * BLOCK + 1), 3 * BLOCK); /* found, and used */
    assert_int_equal(cached_of(engine, 'b', 3 * BLOCK + 1), 0);
    assert_int_equal(cached_of(engine, 'a', 2 * BLOCK + 1), 2 * BLOCK);
    graft_engine_close(&engine);
}

static void what_was_unused_longest_goes_first(void **state)
{
    (void)state;
    graft_engine *engine = open_of_blocks(7);
    assert_int_equal(cached_of(engine, 'a', 2 * BLOCK + 1), 0);
    assert_int_equal(cached_of(engine, 'b', 2 * BLOCK + 1), 0);
    assert_int_equal(cached_of(engine, 'a', 2 * BLOCK + 1), 2 * BLOCK); /* newer than b now */
    assert_int_equal(cached_of(engine, 'c', 4 * BLOCK + 1), 0);         /* takes both of b */
    assert_int_equal(cached_of(engine, 'a', 2 * BLOCK + 1), 2 * BLOCK);
    assert_int_equal(cached_of(engine, 'b', 2 * BLOCK + 1), 0);
    graft_engine_close(&engine);
}

/* What a stream in progress shares cannot be freed: what lies idle goes, though it is newer. */
static void what_is_in_use_stays(void **state)
{
    (void)state;
    struct text_ids t = {.n = 2 * BLOCK + 1};
    for (size_t i = 0; i < t.n; i++) {
        t.ids[i] = 'a';
    }
    graft_engine_options o = graft_engine_options_default();
    o.kv_bytes = (size_t)7 * 8 * 1024;
    o.ring = 2; /* read as far as that it stands still in its answer */
    graft_engine *engine = open_engine(&o);
    graft_request r = request_of(&t, 1, BLOCK - 1);
    r.ignore_eos = true;
    graft_stream *stream = submit(engine, &r);
    graft_token token;
    MUST(graft_stream_next(stream, &token, error));
    assert_int_equal(cached_of(engine, 'b', 2 * BLOCK + 1), 0);
    assert_int_equal(cached_of(engine, 'c', 3 * BLOCK + 1), 0); /* takes both of b */
    assert_int_equal(cached_of(engine, 'a', 2 * BLOCK + 1), 2 * BLOCK);
    answer_free(read_all(stream));
    graft_stream_close(&stream);
    graft_engine_close(&engine);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_prompt_that_was_there_before_is_not_computed_again),
        cmocka_unit_test(answers_are_shared_only_where_that_was_asked_for),
        cmocka_unit_test(the_end_of_a_prompt_goes_before_its_beginning),
        cmocka_unit_test(what_was_unused_longest_goes_first),
        cmocka_unit_test(what_is_in_use_stays),
    };
    return cmocka_run_group_tests(tests, setup, teardown);
}
