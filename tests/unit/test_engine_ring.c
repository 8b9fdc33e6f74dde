/* test_engine_ring.c: when the reader of a stream is woken, seen by the descriptor that an event loop would watch.
 */
#include "unit/test_support.h"

#include "generate/engine/ring.h"
#include "unit/must.h"

#include <poll.h>
#include <unistd.h>

enum { CAPACITY = 6 };

struct fixture {
    struct ring ring;
    int descriptor;
};

static int set_up(void **state)
{
    static struct fixture f;
    MUST(ring_open(&f.ring, NULL, CAPACITY, error));
    MUST(ring_descriptor(&f.ring, &f.descriptor, error));
    *state = &f;
    return 0;
}

static int tear_down(void **state)
{
    struct fixture *f = *state;
    ring_close(&f->ring);
    return 0;
}

static bool is_readable(const struct fixture *f)
{
    struct pollfd fd = {.fd = f->descriptor, .events = POLLIN};
    return poll(&fd, 1, 0) == 1;
}

static void put(struct fixture *f, graft_token_id id)
{
    assert_true(ring_put(&f->ring, &(graft_token){.id = id, .text = "a", .text_size = 1}));
}

static void take(struct fixture *f, graft_token_id id)
{
    graft_token token;
    bool wake;
    MUST(ring_take(&f->ring, false, &token, &wake, error));
    assert_int_equal(token.id, id);
}

static void texts_of_any_length_and_alternatives_come_out_as_they_went_in(void **state)
{
    struct fixture *f = *state;
    static const graft_alternative TOP[] = {{7, -0.5f}, {9, -1}};
    char text[100];
    memset(text, 'x', sizeof text);
    for (size_t size = 0; size < sizeof text; size += 13) {
        for (size_t n = 0; n <= ARRAY_LEN(TOP); n++) {
            graft_token token = {.text = text, .text_size = size, .top = TOP, .n_top = n};
            bool wake;
            assert_true(ring_put(&f->ring, &token));
            MUST(ring_take(&f->ring, false, &token, &wake, error));
            assert_int_equal(token.text_size, size);
            assert_memory_equal(token.text, text, size);
            assert_int_equal(token.text[size], 0);
            assert_int_equal(token.n_top, n);
            assert_true((token.top == NULL) == (n == 0));
            for (size_t i = 0; i < n; i++) {
                assert_int_equal(token.top[i].id, TOP[i].id);
                assert_true(token.top[i].logprob == TOP[i].logprob);
            }
        }
    }
}

static void a_record_is_there_at_once_and_its_reader_is_woken_when_told(void **state)
{
    struct fixture *f = *state;
    put(f, 1);
    assert_false(is_readable(f));
    ring_tell(&f->ring);
    assert_true(is_readable(f));
    take(f, 1);
    assert_false(is_readable(f));
    put(f, 2);
    take(f, 2);
    ring_tell(&f->ring); /* of nothing */
    assert_false(is_readable(f));
}

static void half_a_ring_wakes_its_reader(void **state)
{
    struct fixture *f = *state;
    for (int i = 0; i < CAPACITY; i++) {
        put(f, i);
        assert_int_equal(is_readable(f), 2 * (i + 1) >= CAPACITY);
    }
    for (int i = 0; i < CAPACITY; i++) {
        assert_true(is_readable(f));
        take(f, i);
    }
    assert_false(is_readable(f));
}

static void what_comes_behind_what_was_told_needs_no_telling(void **state)
{
    struct fixture *f = *state;
    put(f, 1);
    ring_tell(&f->ring);
    put(f, 2);
    take(f, 1);
    assert_true(is_readable(f));
    take(f, 2);
    assert_false(is_readable(f));
}

static void a_call_that_comes_late_is_taken_back(void **state)
{
    struct fixture *f = *state;
    graft_token token;
    bool wake;
    put(f, 1);
    take(f, 1);
    assert_int_equal(write(f->descriptor, &(uint64_t){1}, sizeof(uint64_t)), sizeof(uint64_t));
    assert_int_equal(ring_take(&f->ring, false, &token, &wake, NULL), GRAFT_BUSY);
    assert_false(is_readable(f));
}

static void the_end_wakes_its_reader(void **state)
{
    struct fixture *f = *state;
    graft_token token;
    bool wake;
    put(f, 1);
    ring_end(&f->ring, GRAFT_FINISH_LENGTH, NULL, NULL);
    assert_true(is_readable(f));
    take(f, 1);
    assert_true(is_readable(f));
    assert_int_equal(ring_take(&f->ring, false, &token, &wake, NULL), GRAFT_END);
    assert_true(is_readable(f));
}

static void a_descriptor_that_comes_late_knows_what_is_there(void **state)
{
    struct fixture late = {.descriptor = -1};
    (void)state;
    MUST(ring_open(&late.ring, NULL, CAPACITY, error));
    put(&late, 1);
    MUST(ring_descriptor(&late.ring, &late.descriptor, error));
    assert_true(is_readable(&late));
    take(&late, 1);
    assert_false(is_readable(&late));
    ring_close(&late.ring);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(
            texts_of_any_length_and_alternatives_come_out_as_they_went_in, set_up, tear_down),
        cmocka_unit_test_setup_teardown(a_record_is_there_at_once_and_its_reader_is_woken_when_told,
                                        set_up, tear_down),
        cmocka_unit_test_setup_teardown(half_a_ring_wakes_its_reader, set_up, tear_down),
        cmocka_unit_test_setup_teardown(what_comes_behind_what_was_told_needs_no_telling, set_up,
                                        tear_down),
        cmocka_unit_test_setup_teardown(a_call_that_comes_late_is_taken_back, set_up, tear_down),
        cmocka_unit_test_setup_teardown(the_end_wakes_its_reader, set_up, tear_down),
        cmocka_unit_test(a_descriptor_that_comes_late_knows_what_is_there),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
