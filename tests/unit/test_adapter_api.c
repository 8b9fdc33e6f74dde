/* test_adapter_api.c: adapters through the public headers: on and off models and sessions, between two
 * tokens, and what is left when they are gone.
 */
#include <graft/graft.h>

#include "conformance/conformance_support.h"
#include "conformance/oracle_adapter.h"
#include "unit/must.h"

#include <math.h>
#include <pthread.h>

enum { N = 24, MORE = 8 };
static const graft_token_id PROMPT[N] = {5,  17, 300, 42, 8,  77, 12, 90, 33,  4,  250, 61,
                                         19, 7,  203, 55, 81, 2,  14, 9,  121, 88, 45,  31};

static graft_runtime *runtime;
static graft_model *model, *other; /* of the same shape */
static graft_adapter *lora, *dora;
static size_t n_vocab;

static graft_adapter *open_variant(const struct oracle_model *base, const char *variant)
{
    struct oracle_model a;
    graft_adapter *opened = NULL;
    oracle_adapter_make(&a, variant, 7, base);
    oracle_adapter_write(&a, at(variant), GRAFT_TYPE_F32);
    oracle_model_free(&a);
    MUST(graft_adapter_open(model, at(variant), NULL, &opened, error));
    return opened;
}

static int setup(void **state)
{
    struct oracle_model base;
    graft_model_info info;
    test_dir_open(state);
    graft_runtime_options o = graft_runtime_options_default();
    o.threads = 2;
    MUST(graft_runtime_open(&o, &runtime, error));
    oracle_model_make(&base, oracle_config("llama"), 1);
    oracle_write_hf(&base, at("base"), GRAFT_TYPE_F32);
    MUST(graft_model_open(runtime, at("base"), NULL, &model, error));
    MUST(graft_model_open(runtime, at("base"), NULL, &other, error));
    lora = open_variant(&base, "lora");
    dora = open_variant(&base, "dora");
    oracle_model_free(&base);
    MUST(graft_model_describe(model, &info, error));
    n_vocab = (size_t)info.n_vocab;
    return 0;
}

static int teardown(void **state)
{
    graft_adapter_close(&lora);
    graft_adapter_close(&dora);
    graft_model_close(&model);
    graft_model_close(&other);
    graft_runtime_close(&runtime);
    return test_dir_close(state);
}

static graft_session *open_session(void)
{
    graft_session_options o = graft_session_options_default();
    o.sampling.temperature = 0;
    o.ignore_eos = true;
    o.cache_k = o.cache_v = GRAFT_KV_F32;
    graft_session *s = NULL;
    MUST(graft_session_open(model, &o, &s, error));
    return s;
}

static graft_mix *make_mix(float of_lora, float of_dora)
{
    const graft_member members[] = {{lora, of_lora}, {dora, of_dora}};
    graft_mix *mix = NULL;
    MUST(graft_mix_open(model, members, 2, &mix, error));
    return mix;
}

static void prompt(graft_session *s)
{
    MUST(graft_session_prompt(s, PROMPT, N, NULL, NULL, error));
}

/* What the session would say next: all log probabilities, by rank, and the ids. */
struct view {
    graft_token_id *ids;
    float *logprobs;
};

static struct view look(graft_session *s)
{
    struct view v = {calloc(n_vocab, sizeof *v.ids), calloc(n_vocab, sizeof *v.logprobs)};
    graft_token token;
    MUST(graft_session_next(s, &token, error));
    MUST(graft_session_top(s, n_vocab, v.ids, v.logprobs, error));
    return v;
}

static bool same_and_free(struct view a, struct view b)
{
    bool same = !memcmp(a.ids, b.ids, n_vocab * sizeof *a.ids) &&
                !memcmp(a.logprobs, b.logprobs, n_vocab * sizeof *a.logprobs);
    free(a.ids);
    free(a.logprobs);
    free(b.ids);
    free(b.logprobs);
    return same;
}

/* The view after the prompt under a mix that was there from the beginning. */
static struct view fresh(graft_mix *mix)
{
    graft_session *s = open_session();
    MUST(graft_session_set_mix(s, mix, GRAFT_KV_CONTINUE, error));
    prompt(s);
    struct view v = look(s);
    graft_session_close(&s);
    return v;
}

static void a_removed_adapter_leaves_no_trace(void **state)
{
    (void)state;
    graft_session *s = open_session();
    MUST(graft_session_apply_adapter(s, lora, 1, GRAFT_KV_CONTINUE, error));
    MUST(graft_session_apply_adapter(s, dora, 0.5f, GRAFT_KV_CONTINUE, error));
    assert_true(graft_session_has_adapter(s, lora) && graft_session_has_adapter(s, NULL));
    graft_adapter *current = graft_session_current_adapter(s);
    assert_ptr_equal(current, dora);
    graft_adapter_close(&current);
    MUST(graft_session_remove_adapter(s, lora, GRAFT_KV_CONTINUE, error));
    assert_false(graft_session_has_adapter(s, lora));
    MUST(graft_session_remove_adapter(s, dora, GRAFT_KV_CONTINUE, error));
    assert_false(graft_session_has_adapter(s, NULL));
    assert_null(graft_session_current_adapter(s));
    prompt(s);
    assert_true(same_and_free(look(s), fresh(NULL)));
    graft_session_close(&s);
}

static void what_is_applied_changes_what_is_said(void **state)
{
    (void)state;
    graft_mix *whole = make_mix(1, 1), *half = make_mix(1, 0.5f);
    assert_false(same_and_free(fresh(NULL), fresh(whole)));
    assert_false(same_and_free(fresh(half), fresh(whole)));
    graft_session *s = open_session();
    MUST(graft_session_apply_adapter(s, lora, 1, GRAFT_KV_CONTINUE, error));
    MUST(graft_session_apply_adapter(s, dora, 1, GRAFT_KV_CONTINUE, error));
    MUST(graft_session_apply_adapter(s, dora, 0.5f, GRAFT_KV_CONTINUE, error)); /* another weight */
    graft_mix *now = graft_session_mix(s);
    assert_int_equal(graft_mix_size(now), 2);
    assert_ptr_equal(graft_mix_member(now, 1).adapter, dora);
    assert_true(graft_mix_member(now, 1).weight == 0.5f);
    assert_null(graft_mix_member(now, 2).adapter);
    graft_mix_close(&now);
    prompt(s);
    assert_true(same_and_free(look(s), fresh(half)));
    graft_session_close(&s);
    graft_mix_close(&whole);
    graft_mix_close(&half);
}

/* In the middle of an answer. */
static void replay_is_exact_and_continue_reads_the_cache_as_it_is(void **state)
{
    (void)state;
    graft_mix *mix = make_mix(1, 0.5f);
    struct view views[2];
    for (int policy = GRAFT_KV_CONTINUE; policy <= GRAFT_KV_REPLAY; policy++) {
        graft_session *s = open_session(), *again = open_session();
        graft_token token;
        prompt(s);
        for (int i = 0; i < MORE; i++)
            MUST(graft_session_next(s, &token, error));
        MUST(graft_session_set_mix(s, mix, (graft_kv_policy)policy, error));
        size_t n;
        const graft_token_id *tokens = graft_session_tokens(s, &n);
        assert_int_equal(n, N + MORE);
        MUST(graft_session_set_mix(again, mix, GRAFT_KV_CONTINUE, error));
        MUST(graft_session_prompt(again, tokens, n, NULL, NULL, error));
        views[policy] = look(s);
        assert_int_equal(same_and_free(look(again), views[policy]), policy == GRAFT_KV_REPLAY);
        graft_session_close(&s);
        graft_session_close(&again);
    }
    graft_mix_close(&mix);
}

static void adapters_that_are_off_wait(void **state)
{
    (void)state;
    graft_mix *mix = make_mix(1, 1);
    graft_session *s = open_session();
    MUST(graft_session_set_mix(s, mix, GRAFT_KV_CONTINUE, error));
    MUST(graft_session_enable_adapters(s, false, GRAFT_KV_CONTINUE, error));
    assert_true(graft_session_has_adapter(s, lora));
    prompt(s);
    assert_true(same_and_free(look(s), fresh(NULL)));
    MUST(graft_session_trim(s, N, error));
    MUST(graft_session_enable_adapters(s, true, GRAFT_KV_REPLAY, error));
    assert_true(same_and_free(look(s), fresh(mix)));
    graft_session_close(&s);
    graft_mix_close(&mix);
}

struct scope {
    graft_mix *inner;
    struct view seen;
    graft_status status;
};

static graft_status in_scope(void *user, graft_session *s, graft_error *unused)
{
    struct scope *scope = user;
    (void)unused;
    MUST(graft_session_trim(s, 0, error));
    prompt(s);
    scope->seen = look(s);
    MUST(graft_session_remove_adapter(s, NULL, GRAFT_KV_CONTINUE, error));
    return scope->status;
}

static void a_scope_ends_where_it_began(void **state)
{
    (void)state;
    graft_mix *outer = make_mix(1, 0), *inner = make_mix(0.5f, 1);
    graft_session *s = open_session();
    MUST(graft_session_set_mix(s, outer, GRAFT_KV_CONTINUE, error));
    static const graft_status ENDS[] = {GRAFT_OK, GRAFT_CANCELLED};
    for (size_t i = 0; i < ARRAY_LEN(ENDS); i++) {
        struct scope scope = {.inner = inner, .status = ENDS[i]};
        assert_int_equal(graft_session_with_mix(s, inner, GRAFT_KV_REPLAY, in_scope, &scope, NULL),
                         ENDS[i]);
        assert_true(same_and_free(scope.seen, fresh(inner)));
        graft_mix *now = graft_session_mix(s);
        assert_ptr_equal(now, outer);
        graft_mix_close(&now);
        MUST(graft_session_trim(s, 0, error));
        prompt(s);
        assert_true(same_and_free(look(s), fresh(outer)));
    }
    graft_session_close(&s);
    graft_mix_close(&outer);
    graft_mix_close(&inner);
}

/* Keys and values of the prompt are those of its mix then, whatever is swapped where. */
static void a_fork_has_the_mix_and_swaps_it_alone(void **state)
{
    (void)state;
    graft_mix *mix = make_mix(1, 0.5f);
    graft_session *s = open_session(), *fork = NULL, *off = NULL;
    MUST(graft_session_set_mix(s, mix, GRAFT_KV_CONTINUE, error));
    prompt(s);
    MUST(graft_session_fork(s, &fork, error));
    MUST(graft_session_set_mix(fork, NULL, GRAFT_KV_REPLAY, error));
    assert_true(same_and_free(look(fork), fresh(NULL)));
    MUST(graft_session_trim(fork, N, error));
    MUST(graft_session_set_mix(fork, mix, GRAFT_KV_REPLAY, error));
    MUST(graft_session_enable_adapters(fork, false, GRAFT_KV_REPLAY, error));
    MUST(graft_session_fork(fork, &off, error));
    assert_true(graft_session_has_adapter(off, lora));
    assert_true(same_and_free(look(off), fresh(NULL))); /* off there too */
    graft_mix_close(&mix);
    graft_session_close(&fork);
    graft_session_close(&off);
    mix = make_mix(1, 0.5f);
    assert_true(same_and_free(look(s), fresh(mix)));
    graft_mix_close(&mix);
    graft_session_close(&s);
}

/* ---- composing ---- */

static graft_mix *compose(graft_composition how, double t)
{
    const graft_member members[] = {{lora, 0.75f}, {dora, -0.5f}};
    graft_mix *mix = NULL;
    MUST(graft_mix_compose(model, members, 2, how, t, &mix, error));
    return mix;
}

static graft_mix *alone(graft_adapter *adapter, float weight)
{
    const graft_member member = {adapter, weight};
    graft_mix *mix = NULL;
    MUST(graft_mix_open(model, &member, 1, &mix, error));
    return mix;
}

/* The rule's mix, and the one with these weights, made by hand. Closes both. */
static void assert_composed(graft_mix *rule, graft_mix *hand)
{
    assert_true(same_and_free(fresh(rule), fresh(hand)));
    graft_mix_close(&rule);
    graft_mix_close(&hand);
}

static void a_composition_is_the_mix_with_these_weights_bit_by_bit(void **state)
{
    (void)state;
    assert_composed(compose(GRAFT_COMPOSE_AVERAGE, 0), make_mix(0.5f, 0.5f));
    assert_composed(compose(GRAFT_COMPOSE_WEIGHTED, 0), make_mix(0.75f, -0.5f));
    assert_composed(compose(GRAFT_COMPOSE_SEQUENTIAL, 0), make_mix(0.75f, -0.5f));
    assert_composed(compose(GRAFT_COMPOSE_MOST_RECENT, 0), alone(dora, -0.5f));
    assert_composed(compose(GRAFT_COMPOSE_INTERPOLATE, 0.25), make_mix(0.75f, 0.25f));
    assert_composed(compose(GRAFT_COMPOSE_INTERPOLATE, 0), alone(lora, 1));
    assert_composed(compose(GRAFT_COMPOSE_INTERPOLATE, 1), alone(dora, 1));
}

static void what_composing_refuses(void **state)
{
    (void)state;
    const graft_member members[] = {{lora, 1}, {dora, 1}, {lora, 1}};
    graft_mix *mix = NULL;
    graft_error error;
    const double outside[] = {-0.1, 1.1, NAN};
    for (size_t i = 0; i < 3; i++) {
        assert_int_equal(graft_mix_compose(model, members, 2, GRAFT_COMPOSE_INTERPOLATE, outside[i],
                                           &mix, &error),
                         GRAFT_INVALID_ARGUMENT);
    }
    for (size_t n = 0; n < 4; n++) {
        if (n != 2) {
            assert_int_equal(
                graft_mix_compose(model, members, n, GRAFT_COMPOSE_INTERPOLATE, 0.5, &mix, &error),
                GRAFT_INVALID_ARGUMENT);
        }
    }
    assert_int_equal(graft_mix_compose(model, members, 3, GRAFT_COMPOSE_AVERAGE, 0, &mix, &error),
                     GRAFT_INVALID_ARGUMENT);
    assert_non_null(strstr(error.message, "same adapter"));
    assert_int_equal(graft_mix_compose(model, members, 65, GRAFT_COMPOSE_AVERAGE, 0, &mix, &error),
                     GRAFT_INVALID_ARGUMENT);
    assert_int_equal(graft_mix_compose(model, members, 2, (graft_composition)5, 0, &mix, &error),
                     GRAFT_INVALID_ARGUMENT);
    assert_int_equal(graft_mix_compose(model, NULL, 2, GRAFT_COMPOSE_AVERAGE, 0, &mix, &error),
                     GRAFT_INVALID_ARGUMENT);
    assert_null(mix);
    assert_null(graft_composition_name((graft_composition)5));
    assert_string_equal(graft_composition_name(GRAFT_COMPOSE_INTERPOLATE), "interpolate");
}

/* One session that serves request after request, each with weights of its own, and a fresh session for each. */
static void weights_that_change_per_request_give_what_fresh_sessions_give(void **state)
{
    (void)state;
    graft_session *s = open_session();
    prompt(s);
    for (int request = 0; request < 6; request++) {
        graft_mix *mix = compose(GRAFT_COMPOSE_INTERPOLATE, 0.2 * request);
        MUST(graft_session_set_mix(s, mix, GRAFT_KV_REPLAY, error));
        assert_true(same_and_free(look(s), fresh(mix)));
        MUST(graft_session_trim(s, N, error));
        graft_mix_close(&mix);
    }
    graft_session_close(&s);
}

/* ---- the model's mix ---- */

static void new_sessions_begin_with_the_mix_of_the_model(void **state)
{
    (void)state;
    graft_session *before = open_session();
    assert_false(graft_model_has_adapter(model, NULL));
    assert_null(graft_model_current_adapter(model));
    MUST(graft_model_apply_adapter(model, lora, 1, error));
    MUST(graft_model_apply_adapter(model, dora, 0.5f, error));
    assert_true(graft_model_has_adapter(model, lora));
    graft_session *after = open_session();
    MUST(graft_model_remove_adapter(model, lora, error)); /* what is open keeps what it has */
    graft_adapter *current = graft_model_current_adapter(model);
    assert_ptr_equal(current, dora);
    graft_adapter_close(&current);
    graft_mix *mix = make_mix(1, 0.5f);
    prompt(before);
    prompt(after);
    assert_true(same_and_free(look(before), fresh(NULL)));
    assert_true(same_and_free(look(after), fresh(mix)));
    assert_int_equal(graft_model_remove_adapter(model, lora, NULL), GRAFT_NOT_FOUND);
    MUST(graft_model_set_mix(model, NULL, error));
    assert_false(graft_model_has_adapter(model, NULL));
    graft_mix_close(&mix);
    graft_session_close(&before);
    graft_session_close(&after);
}

static void *apply_and_remove(void *argument)
{
    (void)argument;
    for (int i = 0; i < 200; i++) {
        MUST(graft_model_apply_adapter(model, dora, 1, error));
        MUST(graft_model_set_mix(model, NULL, error));
    }
    return NULL;
}

static void sessions_open_while_the_model_changes(void **state)
{
    (void)state;
    pthread_t thread;
    graft_mix *mix = make_mix(0, 1);
    struct view base = fresh(NULL);
    graft_session *plain = open_session();
    MUST(graft_session_set_mix(plain, mix, GRAFT_KV_CONTINUE, error));
    prompt(plain);
    struct view with = look(plain);
    graft_session_close(&plain);
    assert_int_equal(pthread_create(&thread, NULL, apply_and_remove, NULL), 0);
    for (int i = 0; i < 20; i++) {
        graft_session *s = open_session();
        bool applied = graft_session_has_adapter(s, dora);
        prompt(s);
        struct view v = look(s), want = applied ? with : base;
        assert_memory_equal(v.logprobs, want.logprobs, n_vocab * sizeof *v.logprobs);
        free(v.ids);
        free(v.logprobs);
        graft_session_close(&s);
    }
    pthread_join(thread, NULL);
    same_and_free(base, with);
    graft_mix_close(&mix);
}

/* ---- handles ---- */

static void closed_handles_stay_applied(void **state)
{
    (void)state;
    graft_adapter *mine = NULL;
    MUST(graft_adapter_open(model, at("lora"), NULL, &mine, error));
    graft_adapter *second = graft_adapter_retain(mine);
    graft_session *s = open_session();
    MUST(graft_session_apply_adapter(s, mine, 1, GRAFT_KV_CONTINUE, error));
    graft_adapter_close(&mine);
    graft_adapter_close(&second);
    assert_null(mine);
    graft_mix *mix = make_mix(1, 0);
    prompt(s);
    assert_true(same_and_free(look(s), fresh(mix)));
    graft_mix_close(&mix);
    graft_session_close(&s);
}

static void an_adapter_says_what_it_is(void **state)
{
    (void)state;
    graft_adapter_info info;
    graft_adapter_target target;
    MUST(graft_adapter_describe(dora, &info, error));
    assert_string_equal(info.format, "PEFT");
    assert_string_equal(info.path, at("dora"));
    assert_int_equal(strlen(info.digest), 64);
    assert_true(info.n_targets > 0 && info.n_dora == info.n_targets && info.bytes > 0);
    MUST(graft_adapter_target_at(dora, 0, &target, error));
    assert_true(target.dora && target.rank >= info.least_rank && target.rank <= info.most_rank);
    assert_non_null(strstr(target.module, "proj"));
    assert_int_equal(graft_adapter_target_at(dora, info.n_targets, &target, NULL), GRAFT_NOT_FOUND);
    graft_adapter *small = NULL;
    graft_adapter_options o = graft_adapter_options_default();
    graft_adapter_info less;
    o.type = "bf16";
    MUST(graft_adapter_open(model, at("dora"), &o, &small, error));
    MUST(graft_adapter_describe(small, &less, error));
    assert_true(less.bytes < info.bytes);
    MUST(graft_adapter_target_at(small, 0, &target, error));
    assert_string_equal(target.held, "BF16");
    graft_adapter_close(&small);
}

static void misuse_is_refused(void **state)
{
    (void)state;
    graft_error error = {0};
    graft_session *s = open_session();
    graft_mix *mix = NULL;
    graft_adapter *a = NULL;
    const graft_member twice[] = {{lora, 1}, {lora, 1}}, none[] = {{NULL, 1}};
    const graft_member nan_weight[] = {{lora, NAN}};
    assert_int_equal(graft_mix_open(model, twice, 2, &mix, &error), GRAFT_INVALID_ARGUMENT);
    assert_non_null(strstr(error.message, "same adapter"));
    assert_int_equal(graft_mix_open(model, none, 1, &mix, &error), GRAFT_INVALID_ARGUMENT);
    assert_int_equal(graft_mix_open(model, nan_weight, 1, &mix, &error), GRAFT_INVALID_ARGUMENT);
    assert_int_equal(graft_mix_open(model, twice, 0, &mix, &error), GRAFT_INVALID_ARGUMENT);
    assert_int_equal(graft_mix_open(other, twice, 1, &mix, &error), GRAFT_INVALID_ARGUMENT);
    assert_int_equal(graft_model_apply_adapter(other, lora, 1, &error), GRAFT_INVALID_ARGUMENT);
    assert_non_null(strstr(error.message, "another model"));
    assert_int_equal(graft_model_apply_adapter(model, lora, INFINITY, &error),
                     GRAFT_INVALID_ARGUMENT);
    assert_int_equal(graft_session_apply_adapter(s, lora, 1, (graft_kv_policy)2, &error),
                     GRAFT_INVALID_ARGUMENT);
    assert_int_equal(graft_session_remove_adapter(s, lora, GRAFT_KV_CONTINUE, &error),
                     GRAFT_NOT_FOUND);
    assert_int_equal(graft_session_set_mix(NULL, NULL, GRAFT_KV_CONTINUE, &error),
                     GRAFT_INVALID_ARGUMENT);
    assert_int_equal(graft_adapter_open(model, at("nothing"), NULL, &a, &error), GRAFT_NOT_FOUND);
    graft_adapter_options o = graft_adapter_options_default();
    o.type = "int3";
    assert_int_equal(graft_adapter_open(model, at("lora"), &o, &a, &error), GRAFT_INVALID_ARGUMENT);
    assert_non_null(strstr(error.message, "int3"));
    assert_null(mix);
    assert_null(a);
    graft_adapter_close(NULL);
    graft_mix_close(NULL);
    assert_null(graft_adapter_retain(NULL));
    assert_int_equal(graft_mix_size(NULL), 0);
    graft_session_close(&s);
}

int main(void)
{
    static const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_removed_adapter_leaves_no_trace),
        cmocka_unit_test(what_is_applied_changes_what_is_said),
        cmocka_unit_test(replay_is_exact_and_continue_reads_the_cache_as_it_is),
        cmocka_unit_test(adapters_that_are_off_wait),
        cmocka_unit_test(a_scope_ends_where_it_began),
        cmocka_unit_test(a_fork_has_the_mix_and_swaps_it_alone),
        cmocka_unit_test(a_composition_is_the_mix_with_these_weights_bit_by_bit),
        cmocka_unit_test(what_composing_refuses),
        cmocka_unit_test(weights_that_change_per_request_give_what_fresh_sessions_give),
        cmocka_unit_test(new_sessions_begin_with_the_mix_of_the_model),
        cmocka_unit_test(sessions_open_while_the_model_changes),
        cmocka_unit_test(closed_handles_stay_applied),
        cmocka_unit_test(an_adapter_says_what_it_is),
        cmocka_unit_test(misuse_is_refused),
    };
    return cmocka_run_group_tests(tests, setup, teardown);
}
