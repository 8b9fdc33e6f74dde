/* test_mix.c: mixes of adapters: what they are equal to, and whom they keep alive. */
#include "adapter/adapter.h"

#include "conformance/conformance_support.h"
#include "conformance/oracle_adapter.h"
#include "unit/failing_allocator.h"

#include <math.h>
#include <pthread.h>

static struct graft_runtime rt;
static struct model *model;
static struct adapter *lora, *dora;

static struct adapter *open_variant(const struct oracle_model *base, const char *variant)
{
    struct oracle_model a;
    graft_error error = {0};
    struct adapter *opened = NULL;
    oracle_adapter_make(&a, variant, 7, base);
    oracle_adapter_write(&a, at(variant), GRAFT_TYPE_F32);
    oracle_model_free(&a);
    if (adapter_open(model, at(variant), NULL, &opened, &error) != GRAFT_OK)
        fail_msg("%s", error.message);
    return opened;
}

static int setup(void **state)
{
    struct oracle_model base;
    test_dir_open(state);
    runtime_start(&rt, 2, NULL);
    oracle_model_make(&base, oracle_config("llama"), 1);
    oracle_write_hf(&base, at("base"), GRAFT_TYPE_F32);
    model = open_model(&rt, at("base"));
    lora = open_variant(&base, "lora");
    dora = open_variant(&base, "dora");
    oracle_model_free(&base);
    return 0;
}

static int teardown(void **state)
{
    adapter_release(&lora);
    adapter_release(&dora);
    model_close(&model);
    runtime_stop(&rt);
    return test_dir_close(state);
}

static struct mix *make(const struct mix_part *parts, int n)
{
    graft_error error = {0};
    struct mix *mix = NULL;
    if (mix_make(model, parts, n, &mix, &error) != GRAFT_OK)
        fail_msg("%s", error.message);
    return mix;
}

/* Logits of a few tokens: [5, n_vocab]. */
static float *logits_of(const struct mix *mix)
{
    static const graft_token_id TOKENS[] = {5, 17, 300, 42, 8};
    return run_tokens_with(model, TOKENS, 5, (struct run){ROLE_DECODE, KV_F32, 5}, mix_deltas(mix));
}

static void equal_digests_are_equal_results(void **state)
{
    (void)state;
    const struct mix_part lists[][3] = {{{lora, 1}, {dora, 0.5f}},  {{dora, 0.5f}, {lora, 1}},
                                        {{lora, 1}, {dora, -0.5f}}, {{lora, 1}, {lora, 0.5f}},
                                        {{lora, 1}, {dora, 0}},     {{lora, 1}, {dora, 0.5f}}};
    enum { N = ARRAY_LEN(lists) };
    struct mix *mixes[N];
    float *logits[N];
    size_t bytes = 5 * (size_t)model_n_logits(model) * sizeof(float);
    for (int i = 0; i < N; i++) {
        mixes[i] = make(lists[i], 2);
        logits[i] = logits_of(mixes[i]);
    }
    for (int i = 0; i < N; i++)
        for (int j = 0; j < i; j++) {
            bool same = i == 5 && j == 0;
            assert_int_equal(memcmp(mix_digest(mixes[i]), mix_digest(mixes[j]), 32) == 0, same);
            if (same)
                assert_memory_equal(logits[i], logits[j], bytes);
        }
    struct mix *alone = make(lists[4], 1);
    assert_memory_equal(mix_digest(alone), mix_digest(mixes[4]), 32); /* weight 0 does not count */
    mix_release(&alone);
    for (int i = 0; i < N; i++) {
        mix_release(&mixes[i]);
        free(logits[i]);
    }
}

static void a_mix_without_weight_is_the_base(void **state)
{
    (void)state;
    static const uint8_t zeros[32];
    const struct mix_part off[] = {{lora, 0}, {dora, -0.0f}};
    int n = -1;
    size_t bytes = 5 * (size_t)model_n_logits(model) * sizeof(float);
    struct mix *mix = make(off, 2), *empty = make(NULL, 0);
    float *base = logits_of(NULL), *got = logits_of(mix);
    assert_memory_equal(base, got, bytes);
    assert_null(mix_deltas(mix));
    assert_memory_equal(mix_digest(mix), zeros, 32);
    assert_memory_equal(mix_digest(empty), zeros, 32);
    assert_memory_equal(mix_digest(NULL), zeros, 32);
    assert_null(mix_deltas(NULL));
    assert_ptr_equal(mix_parts(mix, &n)[1].adapter, dora);
    assert_int_equal(n, 2);
    mix_parts(NULL, &n);
    assert_int_equal(n, 0);
    free(base);
    free(got);
    mix_release(&mix);
    mix_release(&empty);
    assert_null(mix_acquire(NULL));
}

static void a_mix_keeps_its_adapters_alive(void **state)
{
    (void)state;
    size_t before = atomic_load(&rt.mem.bytes_in_use);
    graft_error error = {0};
    struct adapter *own = NULL;
    assert_int_equal(adapter_open(model, at("lora"), NULL, &own, &error), GRAFT_OK);
    const struct mix_part part = {own, 1}, theirs = {lora, 1};
    struct mix *mix = make(&part, 1), *same = make(&theirs, 1), *second = mix_acquire(mix);
    adapter_release(&own);
    mix_release(&mix);
    float *got = logits_of(second), *want = logits_of(same);
    assert_memory_equal(got, want, 5 * (size_t)model_n_logits(model) * sizeof(float));
    assert_memory_equal(mix_digest(second), mix_digest(same), 32);
    free(got);
    free(want);
    mix_release(&second);
    mix_release(&same);
    assert_int_equal(atomic_load(&rt.mem.bytes_in_use), before);
}

static void what_is_no_mix_is_refused(void **state)
{
    (void)state;
    graft_error error = {0};
    struct mix *mix = NULL;
    const struct mix_part infinite = {lora, INFINITY}, fine = {lora, 1};
    assert_int_equal(mix_make(model, &infinite, 1, &mix, &error), GRAFT_INVALID_ARGUMENT);
    struct model *other = open_model(&rt, at("base"));
    assert_int_equal(mix_make(other, &fine, 1, &mix, &error), GRAFT_INVALID_ARGUMENT);
    assert_null(mix);
    model_close(&other);
}

static void no_memory_leaves_nothing_behind(void **state)
{
    (void)state;
    const struct mix_part parts[] = {{lora, 1}, {dora, 0.5f}};
    for (size_t n = 1;; n++) {
        struct failing_allocator failing;
        struct mem with;
        graft_allocator saved = rt.mem.allocator;
        size_t before = atomic_load(&rt.mem.bytes_in_use);
        struct mix *mix = NULL;
        failing_init(&failing, &with, n);
        rt.mem.allocator = with.allocator;
        graft_status status = mix_make(model, parts, 2, &mix, NULL);
        bool failed = failing.failed;
        mix_release(&mix);
        rt.mem.allocator = saved;
        assert_int_equal(atomic_load(&rt.mem.bytes_in_use), before);
        assert_int_equal(status, failed ? GRAFT_NO_MEMORY : GRAFT_OK);
        if (!failed)
            break;
    }
}

static void *make_and_drop(void *user)
{
    const struct mix_part parts[] = {{lora, 1}, {dora, 0.5f}};
    struct mix *shared = user;
    for (int i = 0; i < 200; i++) {
        struct mix *own = NULL, *reference = mix_acquire(shared);
        if (mix_make(model, parts, 2, &own, NULL) == GRAFT_OK &&
            memcmp(mix_digest(own), mix_digest(reference), 32) != 0)
            return "another digest";
        mix_release(&own);
        mix_release(&reference);
    }
    mix_release(&shared);
    return NULL;
}

static void any_thread_takes_and_gives_references(void **state)
{
    (void)state;
    const struct mix_part parts[] = {{lora, 1}, {dora, 0.5f}};
    size_t before = atomic_load(&rt.mem.bytes_in_use);
    struct mix *mix = make(parts, 2);
    pthread_t threads[4];
    for (int i = 0; i < 4; i++)
        assert_int_equal(pthread_create(&threads[i], NULL, make_and_drop, mix_acquire(mix)), 0);
    mix_release(&mix);
    for (int i = 0; i < 4; i++) {
        void *wrong = NULL;
        assert_int_equal(pthread_join(threads[i], &wrong), 0);
        assert_null(wrong);
    }
    assert_int_equal(atomic_load(&rt.mem.bytes_in_use), before);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(equal_digests_are_equal_results),
        cmocka_unit_test(a_mix_without_weight_is_the_base),
        cmocka_unit_test(a_mix_keeps_its_adapters_alive),
        cmocka_unit_test(what_is_no_mix_is_refused),
        cmocka_unit_test(no_memory_leaves_nothing_behind),
        cmocka_unit_test(any_thread_takes_and_gives_references),
    };
    return cmocka_run_group_tests(tests, setup, teardown);
}
