/* test_session_stops.c: where an answer ends and how it comes out in slices: stop texts and stop tokens,
 * held text and divided characters, on a random model whose tokens are bytes.
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

/* ---- stop texts ---- */

/* A generation of N tokens with `stop`; the text must be that of `whole` before `at`. */
static void assert_stops(const struct answer *whole, uint64_t seed, const char *stop, size_t at)
{
    graft_session_options o = sampled(seed);
    o.stops = &stop;
    o.n_stops = 1;
    struct answer *a = answer_new();
    graft_session *s = prompted(F.model, &o, PROMPT);
    MUST(graft_session_generate(s, N, answer_take, a, error));
    assert_int_equal(graft_session_finish(s), GRAFT_FINISH_STOP);
    assert_int_equal(a->text.size, at);
    assert_memory_equal(a->text.data, whole->text.data, at);
    graft_token token;
    assert_int_equal(graft_session_next(s, &token, NULL), GRAFT_END);
    assert_int_equal(token.id, -1);
    assert_int_equal(token.text_size, 0);
    size_t n = a->n;
    MUST(graft_session_generate(s, N, answer_take, a, error)); /* over: nothing more */
    assert_int_equal(a->n, n);
    graft_session_resume(s);
    MUST(graft_session_generate(s, 1, answer_take, a, error));
    assert_int_equal(a->ids[n], whole->ids[n]);
    graft_session_close(&s);
    answer_free(a);
}

static void stop_text_that_spans_tokens_ends_the_answer(void **state)
{
    (void)state;
    int tried = 0;
    for (uint64_t seed = 0; seed < 30; seed++) {
        graft_session_options o = sampled(seed);
        struct answer *whole = solo(F.model, &o, PROMPT, N);
        char stop[6] = {0};
        size_t at = 20 + seed % 20;
        memcpy(stop, whole->text.data + at, 2 + seed % 4);
        uint32_t code;
        bool plain = true;
        for (const char *p = stop; *p != '\0'; p++) {
            plain = plain && utf8_decode(p, 1, &code) == 1;
        }
        if (plain) {
            at = (size_t)(strstr(whole->text.data, stop) - whole->text.data);
            assert_stops(whole, seed, stop, at);
            tried++;
        }
        answer_free(whole);
    }
    assert_true(tried > 5);
}

static void false_beginning_of_a_stop_text_is_given_out_later(void **state)
{
    (void)state;
    graft_session_options o = sampled(1);
    struct answer *whole = solo(F.model, &o, PROMPT, N), *a = answer_new();
    char begins[4] = {whole->text.data[10], whole->text.data[11], '\x01', 0};
    char last[4] = {whole->text.data[whole->text.size - 1], '\x01', 0};
    const char *stops[] = {begins, last};
    o.stops = stops;
    o.n_stops = 2;
    graft_session *s = prompted(F.model, &o, PROMPT);
    graft_token token;
    size_t held = 0;
    for (int i = 0; i < N; i++) {
        MUST(graft_session_next(s, &token, error));
        answer_take(a, &token);
        held += token.text_size == 0;
        assert_memory_equal(a->text.data, whole->text.data, a->text.size);
    }
    assert_true(held > 0);
    assert_true(a->text.size < whole->text.size); /* the last one is held */
    graft_session_close(&s);
    answer_free(a);
    a = solo(F.model, &o, PROMPT, N); /* generate gives it out at the end */
    assert_string_equal(a->text.data, whole->text.data);
    answer_free(a);
    answer_free(whole);
}

static void first_complete_stop_text_counts_and_of_those_the_longest(void **state)
{
    (void)state;
    graft_session_options o = sampled(1);
    struct answer *whole = solo(F.model, &o, PROMPT, N);
    char abc[4] = {0}, b[2] = {0}, ab[3] = {0};
    memcpy(abc, whole->text.data + 5, 3);
    memcpy(ab, whole->text.data + 5, 2);
    memcpy(b, whole->text.data + 6, 1);
    const char *stops[] = {abc, b, ab};
    o.stops = stops;
    o.n_stops = 3;
    struct answer *a = solo(F.model, &o, PROMPT, N);
    size_t with_b = (size_t)(strchr(whole->text.data, b[0]) - whole->text.data);
    if (with_b == 6) { /* ab and b are complete at the same byte: the longer one */
        assert_int_equal(a->text.size, 5);
    } else {
        assert_int_equal(a->text.size, with_b);
    }
    answer_free(a);
    answer_free(whole);
}

static void stop_token_ends_the_answer_unseen(void **state)
{
    (void)state;
    graft_session_options o = sampled(1);
    struct answer *whole = solo(F.model, &o, PROMPT, N), *a = answer_new();
    graft_token_id stop = whole->ids[12];
    size_t first = 0;
    while (whole->ids[first] != stop) {
        first++;
    }
    o.stop_ids = &stop;
    o.n_stop_ids = 1;
    graft_session *s = prompted(F.model, &o, PROMPT);
    MUST(graft_session_generate(s, 0, answer_take, a, error));
    assert_int_equal(graft_session_finish(s), GRAFT_FINISH_STOP);
    assert_int_equal(a->n, first + 1);
    assert_int_equal(a->text.size, first);
    graft_session_close(&s);
    o.show_special = true;
    answer_free(a);
    a = solo(F.model, &o, PROMPT, 0);
    assert_int_equal(a->text.size, first + 1);
    answer_free(a);
    answer_free(whole);
}

/* ---- slices ---- */

/* The answer of at most n tokens, `slice` tokens a call. */
static struct answer *sliced(const graft_session_options *o, size_t n, size_t slice,
                             graft_finish *finish)
{
    struct answer *a = answer_new();
    graft_session *s = prompted(F.model, o, PROMPT);
    do {
        MUST(graft_session_generate(s, slice < n - a->n ? slice : n - a->n, answer_take, a, error));
        *finish = graft_session_finish(s);
    } while (a->n < n && *finish == GRAFT_FINISH_LENGTH &&
             graft_session_length(s) < (size_t)graft_session_context(s));
    graft_session_close(&s);
    return a;
}

static bool ends_with(const struct answer *a, const char *end)
{
    size_t size = strlen(end);
    return a->text.size >= size && memcmp(a->text.data + a->text.size - size, end, size) == 0;
}

static void slices_do_not_divide_a_character(void **state)
{
    (void)state;
    int divided = 0, kept = 0, given = 0;
    graft_finish finish;
    for (uint64_t seed = 0; seed < 20; seed++) {
        graft_session_options o = sampled(seed);
        o.sampling.temperature = 20;
        o.ignore_eos = true;
        struct answer *whole = solo(F.model, &o, PROMPT, N);
        for (size_t i = 0; i + 1 < N; i++) {
            graft_token_id lead = whole->ids[i], next = whole->ids[i + 1];
            divided += lead >= 0xC2 && lead <= 0xDF && next >= 0x80 && next <= 0xBF;
        }
        for (size_t slice = 1; slice < 4; slice++) {
            struct answer *a = sliced(&o, N, slice, &finish);
            assert_same_answer(a, whole);
            assert_int_equal(finish, GRAFT_FINISH_LENGTH);
            answer_free(a);
        }
        bool unfinished = whole->ids[N - 1] >= 0xC2 && whole->ids[N - 1] <= 0xF4;
        kept += unfinished && !ends_with(whole, "\xEF\xBF\xBD");
        /* The same tokens, and the context is full: no more bytes will come. */
        o.n_ctx = 1 + (int)strlen(PROMPT) + N;
        struct answer *full = solo(F.model, &o, PROMPT, 0);
        struct answer *a = sliced(&o, N + 1, 1, &finish);
        assert_same_answer(a, full);
        assert_int_equal(a->n, N);
        given += unfinished && ends_with(full, "\xEF\xBF\xBD");
        answer_free(a);
        answer_free(full);
        answer_free(whole);
    }
    assert_true(divided > 5);
    assert_true(kept > 0);
    assert_true(given >= kept);
}

static void stop_text_across_slices_ends_the_answer(void **state)
{
    (void)state;
    int tried = 0;
    graft_finish finish;
    for (uint64_t seed = 0; seed < 30; seed++) {
        graft_session_options o = sampled(seed);
        struct answer *whole = solo(F.model, &o, PROMPT, N);
        char text[6] = {0};
        const char *stop = text;
        size_t size = 2 + seed % 4;
        memcpy(text, whole->text.data + 20 + seed % 20, size);
        o.stops = &stop;
        o.n_stops = 1;
        struct answer *one = solo(F.model, &o, PROMPT, N);
        for (size_t slice = 1; slice < 5 && is_utf8(text, size); slice++) {
            struct answer *a = sliced(&o, N, slice, &finish);
            assert_int_equal(finish, GRAFT_FINISH_STOP);
            assert_int_equal(a->n, one->n);
            assert_memory_equal(a->ids, one->ids, one->n * sizeof *one->ids);
            /* Beyond the text of one call: what of the stop text ended earlier slices. */
            assert_in_range(a->text.size, one->text.size, one->text.size + size - 1);
            assert_memory_equal(a->text.data, whole->text.data, a->text.size);
            if (slice == 1) {
                assert_int_equal(a->text.size, one->text.size + size - 1);
                tried++;
            }
            answer_free(a);
        }
        answer_free(one);
        answer_free(whole);
    }
    assert_true(tried > 5);
}

static void text_given_at_the_end_of_a_slice_is_not_given_again(void **state)
{
    (void)state;
    graft_session_options o = sampled(1);
    struct answer *whole = solo(F.model, &o, PROMPT, N);
    /* Each held beginning is false; the first leaves what is the beginning of the second. */
    char first[5] = {0}, second[5] = {0}, last[3] = {whole->text.data[N - 1], '\x01', 0};
    memcpy(first, whole->text.data + 10, 3);
    memcpy(second, whole->text.data + 11, 3);
    first[3] = second[3] = '\x01';
    const char *stops[] = {first, second, last};
    o.stops = stops;
    o.n_stops = 3;
    graft_finish finish;
    for (size_t slice = 1; slice <= 12; slice++) {
        struct answer *a = sliced(&o, N, slice, &finish);
        assert_same_answer(a, whole);
        assert_int_equal(finish, GRAFT_FINISH_LENGTH);
        answer_free(a);
    }
    graft_session *s = prompted(F.model, &o, PROMPT); /* pulled after a slice: the same */
    struct answer *a = answer_new();
    graft_token token;
    MUST(graft_session_generate(s, 12, answer_take, a, error));
    assert_int_equal(a->text.size, 12);
    for (size_t n = 12; n + 1 < N; n++) {
        MUST(graft_session_next(s, &token, error));
        answer_take(a, &token);
    }
    MUST(graft_session_generate(s, 1, answer_take, a, error));
    assert_same_answer(a, whole);
    graft_session_close(&s);
    answer_free(a);
    answer_free(whole);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(stop_text_that_spans_tokens_ends_the_answer),
        cmocka_unit_test(false_beginning_of_a_stop_text_is_given_out_later),
        cmocka_unit_test(first_complete_stop_text_counts_and_of_those_the_longest),
        cmocka_unit_test(stop_token_ends_the_answer_unseen),
        cmocka_unit_test(slices_do_not_divide_a_character),
        cmocka_unit_test(stop_text_across_slices_ends_the_answer),
        cmocka_unit_test(text_given_at_the_end_of_a_slice_is_not_given_again),
    };
    return cmocka_run_group_tests(tests, setup, teardown);
}
