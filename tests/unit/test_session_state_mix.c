/* test_session_state_mix.c: what a saved session goes with: the adapters, the base and the kernels that computed it; all else is
 * refused by name, or computed again when asked for.
 */
#include <graft/graft.h>

#include "conformance/conformance_support.h"
#include "conformance/oracle_adapter.h"
#include "unit/must.h"

enum { N = 24, STEPS = 12 };
static const graft_token_id PROMPT[N] = {5,  17, 300, 42, 8,  77, 12, 90, 33,  4,  250, 61,
                                         19, 7,  203, 55, 81, 2,  14, 9,  121, 88, 45,  31};

static graft_runtime *runtime;
static graft_model *model;
static graft_adapter *lora, *dora;
static char path[512];

static graft_adapter *open_adapter(graft_model *on, const char *variant)
{
    graft_adapter *opened = NULL;
    MUST(graft_adapter_open(on, at(variant), NULL, &opened, error));
    return opened;
}

static void write_base(const char *name, int seed, graft_type type)
{
    struct oracle_model base;
    oracle_model_make(&base, oracle_config("llama"), seed);
    oracle_write_hf(&base, at(name), type);
    oracle_model_free(&base);
}

static void write_adapter(const char *variant)
{
    struct oracle_model a, base;
    oracle_model_make(&base, oracle_config("llama"), 1);
    oracle_adapter_make(&a, variant, 7, &base);
    oracle_adapter_write(&a, at(variant), GRAFT_TYPE_F32);
    oracle_model_free(&a);
    oracle_model_free(&base);
}

static graft_model *open_base(graft_runtime *on, const char *name, const char *pack)
{
    graft_model *opened = NULL;
    graft_model_options o = graft_model_options_default();
    o.pack = pack;
    MUST(graft_model_open(on, at(name), &o, &opened, error));
    return opened;
}

static graft_runtime *open_tier(const char *tier)
{
    graft_runtime *opened = NULL;
    graft_runtime_options o = graft_runtime_options_default();
    o.threads = 2;
    o.tier = tier;
    MUST(graft_runtime_open(&o, &opened, error));
    return opened;
}

static int setup(void **state)
{
    test_dir_open(state);
    runtime = open_tier(NULL);
    write_base("base", 1, GRAFT_TYPE_F32);
    write_base("bf16", 1, GRAFT_TYPE_BF16);
    write_base("other", 2, GRAFT_TYPE_F32);
    write_adapter("lora");
    write_adapter("dora");
    model = open_base(runtime, "base", NULL);
    lora = open_adapter(model, "lora");
    dora = open_adapter(model, "dora");
    snprintf(path, sizeof path, "%s", at("saved.session"));
    return 0;
}

static int teardown(void **state)
{
    graft_adapter_close(&lora);
    graft_adapter_close(&dora);
    graft_model_close(&model);
    graft_runtime_close(&runtime);
    return test_dir_close(state);
}

/* ---- words ---- */

struct speech {
    graft_token_id ids[STEPS];
    float logprobs[STEPS];
};

static struct speech say(graft_session *s)
{
    struct speech out;
    graft_token token;
    for (int i = 0; i < STEPS; i++) {
        MUST(graft_session_next(s, &token, error));
        out.ids[i] = token.id;
        out.logprobs[i] = token.logprob;
    }
    return out;
}

static bool same(struct speech a, struct speech b)
{
    return !memcmp(a.ids, b.ids, sizeof a.ids) &&
           !memcmp(a.logprobs, b.logprobs, sizeof a.logprobs);
}

static graft_mix *make_mix(graft_model *on, graft_adapter *a, graft_adapter *b)
{
    const graft_member members[] = {{a, 0.75f}, {b, -0.5f}};
    graft_mix *mix = NULL;
    MUST(graft_mix_open(on, members, b != NULL ? 2 : 1, &mix, error));
    return mix;
}

/* A session that has said the prompt under a mix. */
static graft_session *begin(const graft_model *on, graft_mix *mix)
{
    graft_session_options o = graft_session_options_default();
    graft_session *s = NULL;
    o.sampling.temperature = 1;
    o.ignore_eos = true;
    MUST(graft_session_open(on, &o, &s, error));
    MUST(graft_session_set_mix(s, mix, GRAFT_KV_CONTINUE, error));
    MUST(graft_session_prompt(s, PROMPT, N, NULL, NULL, error));
    return s;
}

static graft_status restore(const graft_model *on, graft_mix *mix, bool replay, graft_session **out,
                            graft_error *why)
{
    graft_restore_options o = graft_restore_options_default();
    o.mix = mix;
    o.replay = replay;
    return graft_session_restore(on, path, &o, out, why);
}

/* What `s`, which is closed, says from here on, after it was saved. */
static struct speech save_and_say(graft_session *s)
{
    MUST(graft_session_save(s, path, error));
    struct speech said = say(s);
    graft_session_close(&s);
    return said;
}

static struct speech restore_and_say(const graft_model *on, graft_mix *mix, bool replay)
{
    graft_session *s = NULL;
    MUST(restore(on, mix, replay, &s, error));
    struct speech said = say(s);
    graft_session_close(&s);
    return said;
}

/* ---- adapters ---- */

static void a_session_comes_back_with_its_mix_opened_anew(void **state)
{
    (void)state;
    graft_mix *mix = make_mix(model, lora, dora);
    struct speech said = save_and_say(begin(model, mix)), bare = save_and_say(begin(model, NULL));
    assert_false(same(said, bare));
    save_and_say(begin(model, mix));
    graft_mix_close(&mix);
    graft_runtime *elsewhere = open_tier(NULL);
    graft_model *again = open_base(elsewhere, "base", "*");
    graft_adapter *a = open_adapter(again, "lora"), *b = open_adapter(again, "dora");
    mix = make_mix(again, a, b);
    assert_true(same(restore_and_say(again, mix, false), said));
    MUST(graft_model_set_mix(again, mix,
                             error)); /* the model's own mix is taken where none is given */
    assert_true(same(restore_and_say(again, NULL, false), said));
    graft_mix_close(&mix);
    graft_adapter_close(&a);
    graft_adapter_close(&b);
    graft_model_close(&again);
    graft_runtime_close(&elsewhere);
}

static void another_mix_is_refused_by_name_or_replayed(void **state)
{
    (void)state;
    graft_mix *mix = make_mix(model, lora, dora), *half = make_mix(model, lora, NULL);
    graft_session *s = begin(model, mix), *restored = NULL;
    graft_error why = {0};
    say(s);
    struct speech after = save_and_say(s);
    assert_int_equal(restore(model, half, false, &restored, &why), GRAFT_STATE);
    assert_non_null(strstr(why.message, "with the adapters lora=0.75 + dora=-0.5 (mix "));
    assert_non_null(strstr(why.message, "not with lora=0.75 (mix "));
    assert_string_equal(why.file, path);
    assert_int_equal(restore(model, NULL, false, &restored, &why), GRAFT_STATE);
    assert_non_null(strstr(why.message, "not with no adapter"));
    assert_null(restored);
    /* Replay is what the policy of that name is. */
    MUST(restore(model, mix, false, &restored, error));
    MUST(graft_session_set_mix(restored, half, GRAFT_KV_REPLAY, error));
    struct speech swapped = say(restored);
    graft_session_close(&restored);
    assert_true(same(restore_and_say(model, half, true), swapped));
    assert_true(same(restore_and_say(model, mix, true), after)); /* nothing to replay */
    graft_mix_close(&mix);
    graft_mix_close(&half);
}

static void a_look_names_the_mix_and_the_model(void **state)
{
    (void)state;
    graft_session_file *file = NULL;
    graft_model_info info;
    graft_runtime_info runtime_info;
    graft_mix *mix = make_mix(model, lora, dora);
    save_and_say(begin(model, mix));
    graft_mix_close(&mix);
    MUST(graft_model_describe(model, &info, error));
    MUST(graft_runtime_describe(runtime, &runtime_info, error));
    MUST(graft_session_file_open(runtime, path, &file, error));
    const graft_session_summary *summary = graft_session_file_summary(file);
    assert_int_equal(summary->n_tokens, N);
    assert_string_equal(summary->adapters, "lora=0.75 + dora=-0.5");
    assert_string_equal(summary->model, info.path);
    assert_string_equal(summary->architecture, info.architecture);
    assert_string_equal(summary->tier, runtime_info.tier);
    graft_session_file_close(&file);
}

static void the_base_model_is_asked_for_where_the_model_has_a_mix(void **state)
{
    (void)state;
    graft_mix *mix = make_mix(model, lora, dora);
    struct speech said = save_and_say(begin(model, NULL));
    MUST(graft_model_set_mix(model, mix, error));
    graft_session *s = NULL;
    graft_error why;
    assert_int_equal(restore(model, NULL, false, &s, &why), GRAFT_STATE);
    assert_non_null(strstr(why.message, "saved with no adapter"));
    graft_restore_options o = graft_restore_options_default();
    o.base = true;
    MUST(graft_session_restore(model, path, &o, &s, error));
    MUST(graft_model_set_mix(model, NULL, error));
    assert_true(same(say(s), said));
    graft_session_close(&s);
    o.mix = mix;
    assert_int_equal(graft_session_restore(model, path, &o, &s, NULL), GRAFT_INVALID_ARGUMENT);
    o.base = false;
    graft_model *other = open_base(runtime, "base", NULL);
    assert_int_equal(graft_session_restore(other, path, &o, &s, NULL), GRAFT_INVALID_ARGUMENT);
    graft_model_close(&other);
    graft_mix_close(&mix);
}

/* Keys and values of two mixes, one behind the other: no mix would compute them again. */
static void a_history_of_swaps_comes_back_as_it_is(void **state)
{
    (void)state;
    graft_mix *mix = make_mix(model, lora, dora), *half = make_mix(model, lora, NULL);
    graft_session *s = begin(model, mix);
    say(s);
    MUST(graft_session_set_mix(s, half, GRAFT_KV_CONTINUE, error));
    say(s);
    struct speech said = save_and_say(s);
    assert_true(same(restore_and_say(model, half, false), said));
    graft_mix_close(&mix);
    graft_mix_close(&half);
}

/* The prompt has to be computed again under one mix, and what follows under the next: the file has no room for that. */
static void tokens_that_wait_for_another_mix_are_computed_first(void **state)
{
    (void)state;
    graft_mix *mix = make_mix(model, lora, dora), *half = make_mix(model, lora, NULL);
    graft_session *s = begin(model, mix);
    graft_token token;
    graft_error why;
    MUST(graft_session_set_mix(s, half, GRAFT_KV_REPLAY, error));
    MUST(graft_session_set_mix(s, mix, GRAFT_KV_CONTINUE, error));
    assert_int_equal(graft_session_save(s, path, &why), GRAFT_STATE);
    assert_non_null(strstr(why.message, "after the next token"));
    MUST(graft_session_next(s, &token, error));
    struct speech said = save_and_say(s);
    assert_true(same(restore_and_say(model, mix, false), said));
    graft_mix_close(&mix);
    graft_mix_close(&half);
}

static void adapters_that_were_off_are_off(void **state)
{
    (void)state;
    graft_mix *mix = make_mix(model, lora, dora);
    graft_session *s = begin(model, mix), *restored = NULL;
    MUST(graft_session_enable_adapters(s, false, GRAFT_KV_REPLAY, error));
    struct speech said = save_and_say(s);
    MUST(restore(model, mix, false, &restored, error));
    assert_true(graft_session_has_adapter(restored, lora));
    assert_true(same(say(restored), said));
    graft_session_close(&restored);
    graft_mix_close(&mix);
}

/* ---- bases and kernels ---- */

static void other_weights_are_refused(void **state)
{
    (void)state;
    static const char *const OTHERS[] = {"bf16", "other"};
    graft_session *s = NULL;
    graft_error why;
    save_and_say(begin(model, NULL));
    for (size_t i = 0; i < ARRAY_LEN(OTHERS); i++) {
        graft_model *other = open_base(runtime, OTHERS[i], NULL);
        assert_int_equal(restore(other, NULL, true, &s, &why), GRAFT_STATE);
        assert_non_null(strstr(why.message, "other weights"));
        graft_model_close(&other);
    }
    struct oracle_model base;
    oracle_model_make(&base, oracle_config("qwen2"), 1);
    oracle_write_hf(&base, at("qwen2"), GRAFT_TYPE_F32);
    oracle_model_free(&base);
    graft_model *other = open_base(runtime, "qwen2", NULL);
    assert_int_equal(restore(other, NULL, true, &s, &why), GRAFT_STATE);
    assert_non_null(strstr(why.message, "not those of this model"));
    graft_model_close(&other);
    assert_null(s);
}

static void another_tier_is_refused_or_computes_again(void **state)
{
    (void)state;
    graft_runtime *plain = open_tier("scalar");
    graft_model *there = open_base(plain, "base", NULL);
    graft_session *s = NULL;
    graft_error why;
    graft_runtime_info info;
    MUST(graft_runtime_describe(runtime, &info, error));
    save_and_say(begin(model, NULL));
    if (strcmp(info.tier, "scalar") != 0) { /* else there is but this tier */
        assert_int_equal(restore(there, NULL, false, &s, &why), GRAFT_STATE);
        assert_non_null(strstr(why.message, "scalar"));
        assert_null(s);
    }
    struct speech again = restore_and_say(there, NULL, true);
    s = begin(there, NULL);
    assert_true(same(again, say(s)));
    graft_session_close(&s);
    graft_model_close(&there);
    graft_runtime_close(&plain);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_session_comes_back_with_its_mix_opened_anew),
        cmocka_unit_test(another_mix_is_refused_by_name_or_replayed),
        cmocka_unit_test(a_look_names_the_mix_and_the_model),
        cmocka_unit_test(the_base_model_is_asked_for_where_the_model_has_a_mix),
        cmocka_unit_test(a_history_of_swaps_comes_back_as_it_is),
        cmocka_unit_test(tokens_that_wait_for_another_mix_are_computed_first),
        cmocka_unit_test(adapters_that_were_off_are_off),
        cmocka_unit_test(other_weights_are_refused),
        cmocka_unit_test(another_tier_is_refused_or_computes_again),
    };
    return cmocka_run_group_tests(tests, setup, teardown);
}
