/* test_steps_allocate.c: what a step of decoding allocates: nothing, but for the cache, which may grow at a border
 * between blocks. The linker hands this program every call of malloc and its like that graft makes, whatever
 * memory it is for (-Wl,--wrap), and here they are counted.
 */
#include "unit/api_fixture.h"
#include "unit/counted_malloc.h"

#include <fcntl.h>

enum { PROMPT = 30, STEPS = 470, BLOCK = 64 /* positions of a block of the cache */ };

static struct fixture f;
static graft_adapter *small, *large;

static graft_adapter *make_adapter(int rank)
{
    static const char *const targets[] = {"all-linear"};
    graft_adapter_recipe recipe = graft_adapter_recipe_default();
    graft_adapter *adapter = NULL;
    char *path = NULL;
    recipe.rank = rank;
    recipe.targets = targets;
    recipe.n_targets = 1;
    MUST(folder_temporary(NULL, "graft-test", &path, error));
    MUST(graft_adapter_create(f.model, path, &recipe, error));
    MUST(graft_adapter_open(f.model, path, NULL, &adapter, error));
    folder_remove(AT_FDCWD, path);
    mem_free(NULL, path);
    return adapter;
}

static int setup(void **state)
{
    (void)state;
    f = open_fixture(NULL, 2);
    small = make_adapter(4);
    large = make_adapter(48);
    return 0;
}

static int teardown(void **state)
{
    (void)state;
    graft_adapter_close(&small);
    graft_adapter_close(&large);
    close_fixture(&f);
    return 0;
}

static graft_session *begin(const graft_session_options *o)
{
    graft_token_id ids[PROMPT];
    size_t before = atomic_load(&calls);
    graft_session *session = open_session(f.model, o);
    assert_true(atomic_load(&calls) > before); /* they are seen */
    for (int i = 0; i < PROMPT; i++)
        ids[i] = 'a' + i % 26;
    MUST(graft_session_prompt(session, ids, PROMPT, NULL, NULL, error));
    return session;
}

/* The first of them evaluates a token of the prompt's or of the step before. */
static void steps_allocate_only_the_cache(graft_session *session, int n)
{
    for (int i = 0; i < n; i++) {
        graft_token token;
        size_t length = graft_session_length(session), before = atomic_load(&calls);
        MUST(graft_session_next(session, &token, error));
        size_t made = atomic_load(&calls) - before;
        /* Blocks, and what lists blocks. */
        size_t most = length > PROMPT && (length - 1) % BLOCK == 0 ? 4 : 0;
        if (made > most)
            fail_msg("token %zu: %zu allocations", length, made);
    }
}

static graft_session_options plain(void)
{
    graft_session_options o = sampled(3);
    o.ignore_eos = true;
    return o;
}

/* ---- tests ---- */

static void steps_of_the_base_model_allocate_nothing(void **state)
{
    (void)state;
    static const char *const stops[] = {"never to be seen", "nor this"};
    for (int variant = 0; variant < 4; variant++) {
        graft_session_options o = plain();
        if (variant == 1) {
            o.sampling.temperature = 0;
        } else if (variant == 2) {
            o.sampling.top_k = 0;
            o.sampling.top_p = 0.9f;
            o.sampling.repetition_penalty = 1.1f;
            o.sampling.frequency_penalty = 0.1f;
            o.sampling.penalty_window = 0;
            o.stops = stops;
            o.n_stops = ARRAY_LEN(stops);
        } else if (variant == 3) {
            o.cache_k = o.cache_v = GRAFT_KV_Q8;
        }
        graft_session *session = begin(&o);
        steps_allocate_only_the_cache(session, STEPS);
        graft_session_close(&session);
    }
}

static void steps_under_an_adapter_allocate_nothing_whenever_it_came(void **state)
{
    (void)state;
    const graft_session_options o = plain();
    graft_session *session = begin(&o);
    for (int round = 0; round < 3; round++) {
        steps_allocate_only_the_cache(session, 10);
        MUST(graft_session_apply_adapter(session, small, 1, GRAFT_KV_CONTINUE, error));
        steps_allocate_only_the_cache(session, 10);
        MUST(graft_session_apply_adapter(session, large, 0.5f, GRAFT_KV_CONTINUE, error));
        steps_allocate_only_the_cache(session, 40);
        MUST(graft_session_remove_adapter(session, small, GRAFT_KV_CONTINUE, error));
        steps_allocate_only_the_cache(session, 10);
        MUST(graft_session_remove_adapter(session, NULL, GRAFT_KV_CONTINUE, error));
    }
    graft_session_close(&session);
    MUST(graft_model_apply_adapter(f.model, large, 1, error)); /* from the beginning */
    session = begin(&o);
    steps_allocate_only_the_cache(session, STEPS);
    graft_session_close(&session);
    MUST(graft_model_remove_adapter(f.model, NULL, error));
}

static void a_swap_of_mixes_at_hand_allocates_nothing(void **state)
{
    (void)state;
    const graft_session_options o = plain();
    graft_mix *mixes[2] = {NULL, NULL};
    MUST(graft_mix_open(f.model, &(graft_member){small, 1}, 1, &mixes[0], error));
    MUST(graft_mix_open(f.model, &(graft_member){large, 1}, 1, &mixes[1], error));
    graft_session *session = begin(&o);
    MUST(graft_session_set_mix(session, mixes[1], GRAFT_KV_CONTINUE, error));
    for (int i = 0; i < STEPS; i++) {
        size_t before = atomic_load(&calls);
        MUST(graft_session_set_mix(session, mixes[i % 2], GRAFT_KV_CONTINUE, error));
        assert_int_equal(atomic_load(&calls) - before, 0);
        steps_allocate_only_the_cache(session, 1);
    }
    graft_session_close(&session);
    graft_mix_close(&mixes[0]);
    graft_mix_close(&mixes[1]);
}

static void a_swap_without_memory_leaves_the_session_as_it_was(void **state)
{
    (void)state;
    const graft_session_options o = plain();
    graft_status status = GRAFT_NO_MEMORY;
    size_t n = 0;
    while (status != GRAFT_OK) {
        graft_session *session = begin(&o);
        MUST(graft_session_apply_adapter(session, small, 1, GRAFT_KV_CONTINUE, error));
        atomic_store(&fails_at, atomic_load(&calls) + ++n);
        status = graft_session_apply_adapter(session, large, 1, GRAFT_KV_CONTINUE, NULL);
        atomic_store(&fails_at, 0);
        assert_true(status == GRAFT_OK || status == GRAFT_NO_MEMORY);
        assert_true(graft_session_has_adapter(session, small));
        assert_int_equal(graft_session_has_adapter(session, large), status == GRAFT_OK);
        steps_allocate_only_the_cache(session, 3);
        graft_session_close(&session);
    }
    assert_true(n > 4); /* the mix, and the room of its steps */
}

static void a_thousand_swaps_leave_nothing(void **state)
{
    (void)state;
    const graft_session_options o = plain();
    graft_session *session = begin(&o);
    size_t in_use = 0;
    for (int i = 0; i < 1000; i++) {
        MUST(graft_session_apply_adapter(session, large, 1, GRAFT_KV_CONTINUE, error));
        MUST(graft_session_apply_adapter(session, small, 1, GRAFT_KV_CONTINUE, error));
        MUST(graft_session_remove_adapter(session, NULL, GRAFT_KV_CONTINUE, error));
        if (i == 0)
            in_use = atomic_load(&f.runtime->mem.bytes_in_use);
    }
    assert_int_equal(atomic_load(&f.runtime->mem.bytes_in_use), in_use);
    graft_session_close(&session);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(steps_of_the_base_model_allocate_nothing),
        cmocka_unit_test(steps_under_an_adapter_allocate_nothing_whenever_it_came),
        cmocka_unit_test(a_swap_of_mixes_at_hand_allocates_nothing),
        cmocka_unit_test(a_swap_without_memory_leaves_the_session_as_it_was),
        cmocka_unit_test(a_thousand_swaps_leave_nothing),
    };
    return cmocka_run_group_tests(tests, setup, teardown);
}
