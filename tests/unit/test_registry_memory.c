/* The registry in memory: one load for all who ask, leases, the budget, pins, and running out of memory. */
#include "failing_allocator.h"
#include "registry_fixture.h"

static struct registry_lease take(struct registry *registry, const char *address)
{
    struct registry_lease lease;
    graft_error error = {0};
    if (registry_acquire(registry, address, &lease, &error) != GRAFT_OK)
        fail_msg("%s: %s", address, error.message);
    return lease;
}

static void assert_text(const struct registry_lease *lease, const char *text)
{
    assert_string_equal(((const struct fake *)lease->handle)->text, text);
}

/* "a b* c": what is in memory, * where somebody holds it; by listing, so in order of names and versions. */
static bool add_resident(void *user, const struct registry_name *name)
{
    char *text = user;
    for (size_t i = 0; i < name->n_versions; i++) {
        const struct registry_version *v = &name->versions[i];
        size_t length = strlen(text);
        if (v->resident)
            snprintf(text + length, 256 - length, "%s%s@%c%s", length ? " " : "", name->name,
                     v->version[0], v->holders ? "*" : "");
        assert_int_equal(v->resident_bytes, v->resident ? 100 : 0);
    }
    return true;
}

static void assert_resident(struct registry *registry, const char *expected)
{
    char text[256] = "";
    assert_int_equal(registry_list(registry, NULL, add_resident, text, NULL), GRAFT_OK);
    assert_string_equal(text, expected);
}

static void have_three(struct fixture *f)
{
    fixture_have(f, "a", "1.0.0", "a one", REGISTRY_ADD);
    fixture_have(f, "b", "1.0.0", "b one", REGISTRY_ADD);
    fixture_have(f, "c", "1.0.0", "c one", REGISTRY_ADD);
}

static void a_version_is_opened_on_first_use_and_once(void **state)
{
    (void)state;
    struct fixture f;
    fixture_begin(&f, SIZE_MAX);
    have_three(&f);
    assert_int_equal(f.loader.opened, 0);
    struct registry_lease one = take(f.registry, "a"), two = take(f.registry, "a@1.0.0=0.5");
    assert_ptr_equal(one.handle, two.handle);
    assert_text(&one, "a one");
    assert_int_equal(one.bytes, 100);
    assert_resident(f.registry, "a@1*");
    registry_release(&one);
    registry_release(&two);
    registry_release(&two);
    struct registry_lease three = take(f.registry, "a");
    assert_int_equal(f.loader.opened, 1);
    registry_release(&three);
    struct registry_stats stats;
    registry_stats(f.registry, &stats);
    assert_int_equal(stats.loads, 1);
    assert_int_equal(stats.hits, 2);
    assert_int_equal(stats.bytes, 100);
    assert_int_equal(stats.resident, 1);
    assert_int_equal(stats.held, 0);
    fixture_end(&f);
}

static void holders_keep_the_old_version_and_the_last_one_out_closes_it(void **state)
{
    (void)state;
    struct fixture f;
    fixture_begin(&f, SIZE_MAX);
    have_three(&f);
    struct registry_lease one = take(f.registry, "a"), two = take(f.registry, "a");
    fixture_have(&f, "a", "2.0.0", "a two", REGISTRY_PUBLISH);
    struct registry_lease three = take(f.registry, "a");
    assert_text(&three, "a two");
    assert_text(&one, "a one");
    assert_resident(f.registry, "a@1* a@2*");
    registry_release(&one);
    assert_text(&two, "a one");
    assert_int_equal(f.loader.closed, 0);
    registry_release(&two);
    assert_int_equal(f.loader.closed, 1);
    registry_release(&three);
    assert_resident(f.registry, "a@2");
    fixture_end(&f);
}

static void
what_nobody_holds_goes_when_its_slot_does_unless_it_was_asked_for_by_version(void **state)
{
    (void)state;
    struct fixture f;
    fixture_begin(&f, SIZE_MAX);
    have_three(&f);
    assert_int_equal(registry_prefetch(f.registry, "a", NULL), GRAFT_OK);
    assert_int_equal(registry_prefetch(f.registry, "b@1.0.0", NULL), GRAFT_OK);
    assert_resident(f.registry, "a@1 b@1");
    struct registry *other = fixture_open(&f, SIZE_MAX);
    struct registry *own = f.registry;
    f.registry = other; /* somebody else publishes */
    fixture_have(&f, "a", "2.0.0", "a two", REGISTRY_PUBLISH);
    fixture_have(&f, "b", "2.0.0", "b two", REGISTRY_PUBLISH);
    f.registry = own;
    assert_resident(f.registry, "b@1");
    assert_int_equal(registry_remove(other, "b", NULL), GRAFT_OK);
    assert_resident(f.registry, "");
    assert_int_equal(f.loader.closed, 2);
    registry_close(&other);
    fixture_end(&f);
}

static void what_is_staged_can_be_in_memory_before_it_is_promoted(void **state)
{
    (void)state;
    struct fixture f;
    fixture_begin(&f, SIZE_MAX);
    have_three(&f);
    fixture_have(&f, "a", "2.0.0", "a two", REGISTRY_STAGE);
    assert_int_equal(registry_prefetch(f.registry, "a@2.0.0", NULL), GRAFT_OK);
    assert_int_equal(registry_promote(f.registry, "a", NULL, NULL), GRAFT_OK);
    struct registry_lease lease = take(f.registry, "a");
    assert_text(&lease, "a two");
    assert_int_equal(f.loader.opened, 1);
    registry_release(&lease);
    fixture_end(&f);
}

/* ---- budget, pins, evict ---------------------------------------------------------------------- */

static void the_longest_unused_goes_when_the_budget_is_full(void **state)
{
    (void)state;
    struct fixture f;
    fixture_begin(&f, 250);
    have_three(&f);
    registry_prefetch(f.registry, "a", NULL);
    registry_prefetch(f.registry, "b", NULL);
    registry_prefetch(f.registry, "a", NULL);
    registry_prefetch(f.registry, "c", NULL);
    assert_resident(f.registry, "a@1 c@1");
    registry_prefetch(f.registry, "b", NULL);
    assert_resident(f.registry, "b@1 c@1");
    fixture_end(&f);
}

static void what_is_held_stays_beyond_the_budget_until_it_is_released(void **state)
{
    (void)state;
    struct fixture f;
    fixture_begin(&f, 100);
    have_three(&f);
    struct registry_lease a = take(f.registry, "a"), b = take(f.registry, "b");
    struct registry_lease c = take(f.registry, "c");
    assert_resident(f.registry, "a@1* b@1* c@1*");
    registry_release(&b);
    assert_resident(f.registry, "a@1* c@1*");
    registry_release(&a);
    assert_resident(f.registry, "c@1*");
    registry_release(&c);
    assert_resident(f.registry, "c@1");
    fixture_end(&f);
}

static void a_budget_of_zero_keeps_nothing(void **state)
{
    (void)state;
    struct fixture f;
    fixture_begin(&f, 0);
    have_three(&f);
    struct registry_lease a = take(f.registry, "a");
    assert_text(&a, "a one");
    registry_release(&a);
    assert_resident(f.registry, "");
    fixture_end(&f);
}

static void what_is_pinned_stays_and_the_pin_of_a_name_follows_its_active_version(void **state)
{
    (void)state;
    struct fixture f;
    fixture_begin(&f, 100);
    have_three(&f);
    assert_int_equal(registry_pin(f.registry, "a", true, NULL), GRAFT_OK);
    assert_int_equal(registry_pin(f.registry, "b@1.0.0", true, NULL), GRAFT_OK);
    registry_prefetch(f.registry, "a", NULL);
    registry_prefetch(f.registry, "b", NULL);
    registry_prefetch(f.registry, "c", NULL);
    assert_resident(f.registry, "a@1 b@1");
    assert_int_equal(registry_evict(f.registry, "a", NULL), GRAFT_STATE);
    fixture_have(&f, "a", "2.0.0", "a two", REGISTRY_PUBLISH);
    fixture_have(&f, "b", "2.0.0", "b two", REGISTRY_PUBLISH);
    registry_prefetch(f.registry, "a", NULL);
    registry_prefetch(f.registry, "b", NULL);
    assert_resident(f.registry, "a@2 b@1");
    assert_int_equal(registry_pin(f.registry, "b@1.0.0", false, NULL), GRAFT_OK);
    assert_resident(f.registry, "a@2");
    fixture_end(&f);
}

static void evict_closes_at_once_or_with_the_last_holder(void **state)
{
    (void)state;
    struct fixture f;
    fixture_begin(&f, SIZE_MAX);
    have_three(&f);
    assert_int_equal(registry_evict(f.registry, "a", NULL), GRAFT_NOT_FOUND);
    assert_int_equal(registry_evict(f.registry, "nobody", NULL), GRAFT_NOT_FOUND);
    registry_prefetch(f.registry, "a", NULL);
    assert_int_equal(registry_evict(f.registry, "a", NULL), GRAFT_OK);
    assert_resident(f.registry, "");
    struct registry_lease a = take(f.registry, "a");
    assert_int_equal(registry_evict(f.registry, "a", NULL), GRAFT_OK);
    assert_text(&a, "a one");
    assert_int_equal(f.loader.closed, 1);
    registry_release(&a);
    assert_int_equal(f.loader.closed, 2);
    assert_resident(f.registry, "");
    fixture_end(&f);
}

static void an_eviction_everywhere_reaches_who_looks_next_and_no_later_load(void **state)
{
    (void)state;
    struct fixture f;
    fixture_begin(&f, SIZE_MAX);
    have_three(&f);
    struct registry *other = fixture_open(&f, SIZE_MAX); /* as another process would */
    assert_int_equal(registry_evict_everywhere(other, "nobody", NULL), GRAFT_NOT_FOUND);
    registry_prefetch(f.registry, "a", NULL);
    registry_prefetch(f.registry, "b", NULL);
    assert_int_equal(registry_evict_everywhere(other, "a", NULL), GRAFT_OK);
    struct registry_lease b = take(f.registry, "b"); /* whatever makes it look */
    assert_resident(f.registry, "b@1*");
    assert_int_equal(registry_evict_everywhere(other, "b@1.0.0", NULL), GRAFT_OK);
    registry_prefetch(f.registry, "a", NULL);
    assert_text(&b, "b one");
    assert_resident(f.registry, "a@1 b@1*");
    registry_release(&b);
    assert_resident(f.registry, "a@1");
    assert_int_equal(registry_pin(f.registry, "a", true, NULL), GRAFT_OK);
    graft_error error = {0};
    assert_int_equal(registry_evict_everywhere(other, "a", &error), GRAFT_STATE);
    assert_string_equal(error.message, "a@1.0.0 is pinned");
    registry_close(&other);
    fixture_end(&f);
}

static void a_lease_outlives_its_registry(void **state)
{
    (void)state;
    struct fixture f;
    fixture_begin(&f, SIZE_MAX);
    have_three(&f);
    registry_pin(f.registry, "a", true, NULL);
    registry_prefetch(f.registry, "b", NULL);
    struct registry_lease a = take(f.registry, "a");
    registry_close(&f.registry);
    assert_int_equal(f.loader.closed, 1);
    assert_text(&a, "a one");
    registry_release(&a);
    fixture_end(&f);
}

/* ---- threads ------------------------------------------------------------------------------------ */

struct asker {
    pthread_t thread;
    struct registry *registry;
    const char *address;
    struct registry_lease lease;
    graft_status status;
    graft_error error;
};

static void *ask(void *user)
{
    struct asker *asker = user;
    asker->status = registry_acquire(asker->registry, asker->address, &asker->lease, &asker->error);
    return NULL;
}

static void ask_begin(struct asker *asker, struct registry *registry, const char *address)
{
    *asker = (struct asker){.registry = registry, .address = address};
    assert_int_equal(pthread_create(&asker->thread, NULL, ask, asker), 0);
}

static void gate_close(struct fixture *f, const char *text)
{
    f->loader.gate = text;
}

/* Until somebody stands at the gate. */
static void gate_await(struct fixture *f)
{
    pthread_mutex_lock(&f->loader.mutex);
    while (!f->loader.waiting)
        pthread_cond_wait(&f->loader.changed, &f->loader.mutex);
    pthread_mutex_unlock(&f->loader.mutex);
}

static void gate_open(struct fixture *f)
{
    pthread_mutex_lock(&f->loader.mutex);
    f->loader.gate = NULL;
    pthread_cond_broadcast(&f->loader.changed);
    pthread_mutex_unlock(&f->loader.mutex);
}

static bool find_loading(void *user, const struct registry_name *name)
{
    *(int *)user += name->versions[0].loading;
    assert_false(name->versions[0].loading && name->versions[0].resident);
    return true;
}

static void others_do_not_wait_for_a_load_and_those_who_do_share_it(void **state)
{
    (void)state;
    struct fixture f;
    struct asker first, more[3];
    int loading = 0;
    fixture_begin(&f, SIZE_MAX);
    have_three(&f);
    registry_prefetch(f.registry, "b", NULL);
    gate_close(&f, "a one");
    ask_begin(&first, f.registry, "a");
    gate_await(&f);
    for (size_t i = 0; i < ARRAY_LEN(more); i++)
        ask_begin(&more[i], f.registry, "a");
    /* All of this returns while "a" is being opened. */
    struct registry_lease b = take(f.registry, "b"), c = take(f.registry, "c");
    assert_int_equal(registry_list(f.registry, NULL, find_loading, &loading, NULL), GRAFT_OK);
    assert_int_equal(loading, 1);
    fixture_have(&f, "b", "2.0.0", "b two", REGISTRY_PUBLISH);
    struct registry_lease b2 = take(f.registry, "b");
    assert_text(&b2, "b two");
    gate_open(&f);
    pthread_join(first.thread, NULL);
    assert_int_equal(first.status, GRAFT_OK);
    for (size_t i = 0; i < ARRAY_LEN(more); i++) {
        pthread_join(more[i].thread, NULL);
        assert_int_equal(more[i].status, GRAFT_OK);
        assert_ptr_equal(more[i].lease.handle, first.lease.handle);
        registry_release(&more[i].lease);
    }
    assert_int_equal(f.loader.opened, 4);
    registry_release(&first.lease);
    registry_release(&b);
    registry_release(&b2);
    registry_release(&c);
    fixture_end(&f);
}

static void a_failed_load_is_told_to_all_who_wait_and_tried_again_later(void **state)
{
    (void)state;
    struct fixture f;
    struct asker askers[3];
    fixture_begin(&f, SIZE_MAX);
    fixture_have(&f, "a", "1.0.0", "bad", REGISTRY_ADD);
    gate_close(&f, "bad");
    for (size_t i = 0; i < ARRAY_LEN(askers); i++)
        ask_begin(&askers[i], f.registry, "a");
    gate_await(&f);
    gate_open(&f);
    for (size_t i = 0; i < ARRAY_LEN(askers); i++) {
        pthread_join(askers[i].thread, NULL);
        assert_int_equal(askers[i].status, GRAFT_FORMAT);
        assert_string_equal(askers[i].error.message, "a bad adapter");
    }
    assert_resident(f.registry, "");
    assert_int_equal(registry_prefetch(f.registry, "a", NULL), GRAFT_FORMAT);
    fixture_end(&f);
}

static void
a_load_that_fails_because_the_name_moved_on_is_tried_with_what_it_means_now(void **state)
{
    (void)state;
    struct fixture f;
    struct asker moved, gone;
    fixture_begin(&f, SIZE_MAX);
    fixture_have(&f, "a", "1.0.0", "bad", REGISTRY_ADD);
    gate_close(&f, "bad");
    ask_begin(&moved, f.registry, "a");
    gate_await(&f);
    fixture_have(&f, "a", "2.0.0", "a two", REGISTRY_PUBLISH);
    gate_open(&f);
    pthread_join(moved.thread, NULL);
    assert_int_equal(moved.status, GRAFT_OK);
    assert_text(&moved.lease, "a two");
    assert_string_equal(moved.lease.id.version, "2.0.0");
    registry_release(&moved.lease);

    gate_close(&f, "bad");
    ask_begin(&gone, f.registry, "a@1.0.0");
    gate_await(&f);
    struct registry *other = fixture_open(&f, SIZE_MAX);
    assert_int_equal(registry_remove(other, "a", NULL), GRAFT_OK);
    registry_close(&other);
    gate_open(&f);
    pthread_join(gone.thread, NULL);
    assert_int_equal(gone.status, GRAFT_NOT_FOUND);
    fixture_end(&f);
}

/* ---- without memory ------------------------------------------------------------------------------ */

/* Everything once; the first failure ends it. */
static graft_status walk(struct fixture *f, graft_error *error)
{
    const char *tags[] = {"t"};
    struct registry_card card = {
        .name = "a", .version = "1.0.0", .base = "b", .tags = tags, .n_tags = 1};
    struct registry_options options = {
        .home = f->home,
        .mem = &f->mem,
        .budget = SIZE_MAX,
        .loader = {.open = fake_open, .close = fake_close, .user = &f->loader},
    };
    struct registry_lease lease = {0};
    char listed[256] = "";
    size_t added;
    graft_status status = registry_open(&f->registry, &options, error);
    if (status == GRAFT_OK)
        status = registry_add(f->registry, fixture_adapter(f, "source", "text"), &card,
                              REGISTRY_PUBLISH, NULL, error);
    if (status == GRAFT_OK)
        status = registry_add_many(f->registry, f->s.folder, NULL, NULL, &added, error);
    if (status == GRAFT_OK && !added) /* each alone may fail */
        status = GRAFT_NO_MEMORY;
    if (status == GRAFT_OK)
        status = registry_pin(f->registry, "a", true, error);
    if (status == GRAFT_OK)
        status = registry_verify(f->registry, "a", error);
    if (status == GRAFT_OK)
        status = registry_acquire(f->registry, "a", &lease, error);
    if (status == GRAFT_OK)
        status = registry_list(f->registry, NULL, add_resident, listed, error);
    registry_release(&lease);
    if (status == GRAFT_OK)
        status = registry_pin(f->registry, "a", false, error);
    if (status == GRAFT_OK)
        status = registry_remove(f->registry, "a", error);
    return status;
}

static void running_out_of_memory_is_an_error_and_leaks_nothing(void **state)
{
    (void)state;
    struct failing_allocator failing;
    struct fixture f;
    size_t n = 1;
    /* Some work may be left to the next call when there is no memory for it: then a call failed and all is well. */
    for (bool failed = true; failed; n++) {
        graft_error error = {0};
        assert_in_range(n, 1, 5000);
        fixture_begin(&f, SIZE_MAX);
        registry_close(&f.registry);
        failing_init(&failing, &f.mem, n);
        graft_status status = walk(&f, &error);
        failed = failing.failed;
        if (status != GRAFT_OK && status != GRAFT_NO_MEMORY)
            fail_msg("allocation %zu: status %d, %s", n, (int)status, error.message);
        assert_true(status == GRAFT_OK || failed);
        fixture_end(&f);
    }
    assert_in_range(n, 50, 5000);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_version_is_opened_on_first_use_and_once),
        cmocka_unit_test(holders_keep_the_old_version_and_the_last_one_out_closes_it),
        cmocka_unit_test(
            what_nobody_holds_goes_when_its_slot_does_unless_it_was_asked_for_by_version),
        cmocka_unit_test(what_is_staged_can_be_in_memory_before_it_is_promoted),
        cmocka_unit_test(the_longest_unused_goes_when_the_budget_is_full),
        cmocka_unit_test(what_is_held_stays_beyond_the_budget_until_it_is_released),
        cmocka_unit_test(a_budget_of_zero_keeps_nothing),
        cmocka_unit_test(what_is_pinned_stays_and_the_pin_of_a_name_follows_its_active_version),
        cmocka_unit_test(evict_closes_at_once_or_with_the_last_holder),
        cmocka_unit_test(an_eviction_everywhere_reaches_who_looks_next_and_no_later_load),
        cmocka_unit_test(a_lease_outlives_its_registry),
        cmocka_unit_test(others_do_not_wait_for_a_load_and_those_who_do_share_it),
        cmocka_unit_test(a_failed_load_is_told_to_all_who_wait_and_tried_again_later),
        cmocka_unit_test(
            a_load_that_fails_because_the_name_moved_on_is_tried_with_what_it_means_now),
        cmocka_unit_test(running_out_of_memory_is_an_error_and_leaks_nothing),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
