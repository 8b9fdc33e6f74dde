/* test_session_state.c: sessions in files: what comes back says what was saved would have said: on a random model whose tokens
 * are bytes.
 */
#include "generate/generate_internal.h"
#include "generate/state.h"
#include "unit/api_fixture.h"
#include "unit/failing_allocator.h"

static struct fixture F, OTHER; /* the same model in another runtime, with other threads */
static char PATH[256];

static const char PROMPT[] = "It was a bright cold day in April, and the clocks were striking "
                             "thirteen; the rest of this sentence only makes the prompt longer.";
enum { N = 60, AHEAD = 10 };

static int setup(void **state)
{
    (void)state;
    F = open_fixture(NULL, 1);
    OTHER = open_fixture(NULL, 2);
    snprintf(PATH, sizeof PATH, "%s/saved.session", F.dir);
    return 0;
}

static int teardown(void **state)
{
    (void)state;
    unlink(PATH);
    close_fixture(&F);
    close_fixture(&OTHER);
    return 0;
}

static void save(const graft_session *s)
{
    MUST(graft_session_save(s, PATH, error));
}

static graft_session *restore(const graft_model *model)
{
    graft_session *s = NULL;
    MUST(graft_session_restore(model, PATH, NULL, &s, error));
    return s;
}

/* ---- the same words ---- */

static void restored_session_says_what_the_saved_one_would_have_said(void **state)
{
    (void)state;
    static const size_t AT[] = {0, 1, 30, N};
    for (int type = GRAFT_KV_F16; type <= GRAFT_KV_Q8; type++) {
        graft_session_options o = sampled(1);
        o.cache_k = o.cache_v = (graft_kv_type)type;
        o.sampling.repetition_penalty = 1.1f;
        for (size_t i = 0; i < ARRAY_LEN(AT); i++) {
            struct answer *rest = answer_new(), *restored = answer_new(), *again = answer_new();
            graft_session *s = prompted(F.model, &o, PROMPT);
            if (AT[i] > 0) {
                MUST(graft_session_generate(s, AT[i], NULL, NULL, error));
            }
            save(s);
            MUST(graft_session_generate(s, N, answer_take, rest, error)); /* it goes on */
            graft_session_close(&s);
            s = restore(OTHER.model);
            assert_int_equal(graft_session_length(s), strlen(PROMPT) + 1 + AT[i]);
            MUST(graft_session_generate(s, N, answer_take, restored, error));
            assert_same_answer(restored, rest);
            graft_session_close(&s);
            s = restore(F.model); /* a file is read as often as one likes */
            MUST(graft_session_generate(s, N, answer_take, again, error));
            assert_same_answer(again, rest);
            graft_session_close(&s);
            answer_free(rest);
            answer_free(restored);
            answer_free(again);
        }
    }
}

/* The cache ends within a block, with one, and is empty. */
static void any_length_comes_back(void **state)
{
    (void)state;
    static const size_t LENGTHS[] = {0, 1, 2, 63, 64, 65, 127, 128, 129, 200};
    graft_session_options o = sampled(2);
    for (size_t i = 0; i < ARRAY_LEN(LENGTHS); i++) {
        graft_token_id ids[200];
        for (size_t k = 0; k < 200; k++) {
            ids[k] = (graft_token_id)('a' + k % 26);
        }
        graft_session *s = open_session(F.model, &o);
        MUST(graft_session_prompt(s, ids, LENGTHS[i], NULL, NULL, error));
        save(s);
        graft_session *restored = restore(F.model);
        assert_int_equal(graft_session_length(restored), LENGTHS[i]);
        assert_int_equal(graft_session_kv_bytes(restored), graft_session_kv_bytes(s));
        struct answer *a = answer_new(), *b = answer_new();
        MUST(graft_session_prompt(s, ids, 3, NULL, NULL, error));
        MUST(graft_session_prompt(restored, ids, 3, NULL, NULL, error));
        MUST(graft_session_generate(s, AHEAD, answer_take, a, error));
        MUST(graft_session_generate(restored, AHEAD, answer_take, b, error));
        assert_same_answer(b, a);
        graft_session_close(&s);
        graft_session_close(&restored);
        answer_free(a);
        answer_free(b);
    }
}

static void settings_come_back(void **state)
{
    (void)state;
    static const graft_token_id STOP_IDS[] = {'q', 'z'};
    const char *stops[] = {"one end", "\xC3\xA9"};
    graft_session_options o = sampled(9);
    o.sampling =
        (graft_sampling){sizeof(graft_sampling), 0.75f, 17, 0.5f, 0.25f, 1.5f, -0.5f, 0.125f, 33,
                         0xFEDCBA9876543210u,    {0}};
    o.n_ctx = 200;
    o.cache_k = GRAFT_KV_F32;
    o.cache_v = GRAFT_KV_Q8;
    o.ignore_eos = o.show_special = true;
    o.stops = stops;
    o.n_stops = ARRAY_LEN(stops);
    o.stop_ids = STOP_IDS;
    o.n_stop_ids = ARRAY_LEN(STOP_IDS);
    graft_session *s = prompted(F.model, &o, PROMPT);
    save(s);
    graft_session *restored = restore(F.model);
    graft_sampling sampling = graft_session_sampling(restored);
    assert_memory_equal(&sampling, &o.sampling, sizeof sampling);
    assert_int_equal(graft_session_context(restored), 200);
    const char *have[STOPS_MAX];
    graft_session_options settings = session_settings(restored, have);
    assert_int_equal(settings.cache_k, GRAFT_KV_F32);
    assert_int_equal(settings.cache_v, GRAFT_KV_Q8);
    assert_true(settings.ignore_eos && settings.show_special);
    assert_int_equal(settings.n_stops, 2);
    assert_string_equal(have[0], stops[0]);
    assert_string_equal(have[1], stops[1]);
    assert_int_equal(settings.n_stop_ids, 2);
    assert_memory_equal(settings.stop_ids, STOP_IDS, sizeof STOP_IDS);
    graft_session_close(&s);
    graft_session_close(&restored);
}

/* After every token: the text of the restored session is what the session itself says from there. */
static void an_answer_is_gone_on_with_in_the_midst_of_a_stop_text_and_of_a_character(void **state)
{
    (void)state;
    size_t held = 0;
    for (uint64_t seed = 0; seed < 3; seed++) {
        graft_session_options o = sampled(seed);
        o.sampling.temperature = 3;
        o.ignore_eos = true;
        struct answer *whole = solo(F.model, &o, PROMPT, 30);
        const char *stops[] = {"~~~~", "ee", whole->text.data + whole->text.size - 3};
        o.stops = stops;
        o.n_stops = is_utf8(stops[2], 3) ? 3 : 2;
        graft_session *s = prompted(F.model, &o, PROMPT);
        graft_token token;
        for (int i = 0; i < 30 && graft_session_finish(s) == GRAFT_FINISH_NONE; i++) {
            struct answer *a = answer_new(), *b = answer_new();
            graft_session *fork = NULL, *restored;
            save(s);
            MUST(graft_session_fork(s, &fork, error));
            restored = restore(OTHER.model);
            MUST(graft_session_generate(fork, AHEAD, answer_take, a, error));
            MUST(graft_session_generate(restored, AHEAD, answer_take, b, error));
            assert_same_answer(b, a);
            assert_int_equal(graft_session_finish(restored), graft_session_finish(fork));
            graft_session_close(&fork);
            graft_session_close(&restored);
            answer_free(a);
            answer_free(b);
            MUST(graft_session_next(s, &token, error));
            held += token.text_size == 0;
        }
        graft_session_close(&s);
        answer_free(whole);
    }
    assert_true(held > 4);
}

static void a_finished_answer_is_finished(void **state)
{
    (void)state;
    graft_session_options o = sampled(1);
    struct answer *whole = solo(F.model, &o, PROMPT, N), *a = answer_new();
    o.stop_ids = &whole->ids[5];
    o.n_stop_ids = 1;
    graft_session *s = prompted(F.model, &o, PROMPT);
    MUST(graft_session_generate(s, N, NULL, NULL, error));
    save(s);
    graft_session_close(&s);
    s = restore(F.model);
    assert_int_equal(graft_session_finish(s), GRAFT_FINISH_STOP);
    MUST(graft_session_generate(s, N, answer_take, a, error));
    assert_int_equal(a->n, 0);
    graft_session_resume(s);
    MUST(graft_session_generate(s, 1, answer_take, a, error));
    size_t first = 0;
    while (whole->ids[first] != whole->ids[5]) {
        first++;
    }
    assert_int_equal(a->ids[0], whole->ids[first + 1]);
    graft_session_close(&s);
    answer_free(a);
    answer_free(whole);
}

static void an_answer_held_to_a_constraint_is_saved_at_its_end(void **state)
{
    (void)state;
    static const char RULES[] = "root ::= \"[\" [a-z]* \"]\"";
    graft_session_options o = sampled(7);
    graft_constraint *constraint = NULL;
    graft_session *s = prompted(F.model, &o, PROMPT);
    graft_error why;
    MUST(graft_constraint_from_gbnf(F.model, RULES, strlen(RULES), &constraint, error));
    MUST(graft_session_set_constraint(s, constraint, error));
    MUST(graft_session_set_answer_limit(s, 10, error));
    graft_constraint_close(&constraint);
    save(s);
    MUST(graft_session_generate(s, 2, NULL, NULL, error));
    assert_int_equal(graft_session_save(s, PATH, &why), GRAFT_STATE);
    assert_non_null(strstr(why.message, "constraint"));
    MUST(graft_session_generate(s, 0, NULL, NULL, error));
    assert_int_equal(graft_session_finish(s), GRAFT_FINISH_EOS);
    save(s);
    graft_session_close(&s);
}

static void a_trimmed_session_forgets_on_disk_too(void **state)
{
    (void)state;
    graft_session_options o = sampled(1);
    graft_session *s = prompted(F.model, &o, "The password is swordfish.");
    MUST(graft_session_trim(s, 5, error));
    save(s);
    graft_session_close(&s);
    char *bytes;
    size_t size;
    MUST(file_read(NULL, PATH, 1 << 20, &bytes, &size, error));
    for (size_t i = 0; i + 4 < size; i++) { /* ids are bytes: "s", "w", "o" as u32 */
        assert_memory_not_equal(bytes + i, "s\0\0\0w", 5);
    }
    mem_free(NULL, bytes);
}

static void a_note_goes_along(void **state)
{
    (void)state;
    graft_session *s = prompted(F.model, NULL, "Hi"), *fork = NULL;
    size_t size = 1;
    assert_null(graft_session_note(s, &size));
    assert_int_equal(size, 0);
    MUST(graft_session_set_note(s, "who\0said", 8, error));
    save(s);
    MUST(graft_session_fork(s, &fork, error));
    MUST(graft_session_set_note(s, NULL, 0, error));
    assert_null(graft_session_note(s, NULL));
    assert_memory_equal(graft_session_note(fork, &size), "who\0said", 8);
    assert_int_equal(size, 8);
    graft_session_close(&fork);
    graft_session_close(&s);
    s = restore(F.model);
    assert_memory_equal(graft_session_note(s, &size), "who\0said", 8);
    assert_int_equal(size, 8);
    assert_int_equal(graft_session_set_note(s, "x", STATE_NOTE_MAX + 1, NULL), GRAFT_LIMIT);
    assert_int_equal(graft_session_set_note(s, NULL, 1, NULL), GRAFT_INVALID_ARGUMENT);
    graft_session_close(&s);
}

/* ---- options ---- */

static void a_restored_session_may_have_another_context(void **state)
{
    (void)state;
    graft_session_options o = sampled(1);
    graft_restore_options r = graft_restore_options_default();
    struct answer *rest = answer_new(), *a = answer_new();
    graft_error why;
    graft_session *s = prompted(F.model, &o, PROMPT), *restored = NULL;
    save(s);
    MUST(graft_session_generate(s, N, answer_take, rest, error));
    graft_session_close(&s);
    r.n_ctx = 256;
    r.prefill_chunk = 8;
    MUST(graft_session_restore(F.model, PATH, &r, &restored, error));
    assert_int_equal(graft_session_context(restored), 256);
    MUST(graft_session_generate(restored, N, answer_take, a, error));
    assert_same_answer(a, rest);
    graft_session_close(&restored);
    r.n_ctx = 100;
    assert_int_equal(graft_session_restore(F.model, PATH, &r, &restored, &why), GRAFT_LIMIT);
    assert_non_null(strstr(why.message, "do not fit a context of 100"));
    static const int BAD[][2] = {{-1, 256}, {0, 0}, {0, 1 << 20}};
    for (size_t i = 0; i < ARRAY_LEN(BAD); i++) {
        r.n_ctx = BAD[i][0];
        r.prefill_chunk = BAD[i][1];
        assert_int_equal(graft_session_restore(F.model, PATH, &r, &restored, NULL),
                         GRAFT_INVALID_ARGUMENT);
    }
    assert_null(restored);
    answer_free(rest);
    answer_free(a);
}

/* As a cache of a prompt: only the tokens, keys and values count. */
static void a_restored_session_may_have_other_settings(void **state)
{
    (void)state;
    graft_session_options o = sampled(1), other = sampled(5);
    graft_restore_options r = graft_restore_options_default();
    struct answer *whole = solo(F.model, &other, PROMPT, N), *a = answer_new(), *b = answer_new();
    const char *stop = "never to be said";
    graft_session *s = prompted(F.model, &o, PROMPT), *restored = NULL;
    size_t prompt = graft_session_length(s);
    graft_error why;
    MUST(graft_session_generate(s, 5, NULL, NULL, error));
    save(s);
    graft_session_close(&s);
    other.stops = &stop;
    other.n_stops = 1;
    r.settings = &other;
    MUST(graft_session_restore(F.model, PATH, &r, &restored, error));
    assert_int_equal(graft_session_finish(restored), GRAFT_FINISH_NONE);
    MUST(graft_session_trim(restored, prompt, error));
    MUST(graft_session_generate(restored, N, answer_take, a, error));
    assert_same_answer(a, whole);
    graft_session_close(&restored);
    other.cache_k = GRAFT_KV_F32;
    assert_int_equal(graft_session_restore(F.model, PATH, &r, &restored, &why), GRAFT_STATE);
    assert_non_null(strstr(why.message, "other types"));
    r.replay = true;
    MUST(graft_session_restore(F.model, PATH, &r, &restored, error));
    MUST(graft_session_trim(restored, prompt, error));
    MUST(graft_session_generate(restored, N, answer_take, b, error));
    answer_free(whole);
    whole = solo(F.model, &other, PROMPT, N);
    assert_same_answer(b, whole);
    graft_session_close(&restored);
    other.sampling.top_p = 7;
    assert_int_equal(graft_session_restore(F.model, PATH, &r, &restored, NULL),
                     GRAFT_INVALID_ARGUMENT);
    other.sampling.top_p = 1;
    other.n_ctx = -1;
    assert_int_equal(graft_session_restore(F.model, PATH, &r, &restored, NULL),
                     GRAFT_INVALID_ARGUMENT);
    assert_null(restored);
    answer_free(whole);
    answer_free(a);
    answer_free(b);
}

/* What a look gave is what restoring takes. */
static void settings_of_a_look_restore(void **state)
{
    (void)state;
    graft_session_options o = sampled(3);
    graft_restore_options r = graft_restore_options_default();
    graft_session_file *file = NULL;
    struct answer *rest = answer_new(), *a = answer_new();
    graft_session *s = prompted(F.model, &o, PROMPT), *restored = NULL;
    save(s);
    MUST(graft_session_file_open(F.runtime, PATH, &file, error));
    r.settings = graft_session_file_options(file);
    MUST(graft_session_restore(F.model, PATH, &r, &restored, error));
    graft_session_file_close(&file);
    MUST(graft_session_generate(s, N, answer_take, rest, error));
    MUST(graft_session_generate(restored, N, answer_take, a, error));
    assert_same_answer(a, rest);
    graft_session_close(&s);
    graft_session_close(&restored);
    answer_free(rest);
    answer_free(a);
}

/* ---- failures ---- */

static void no_memory_is_an_error_that_leaves_nothing_behind(void **state)
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
    struct answer *rest = answer_new(), *a = answer_new();
    graft_session *s = open_session(model, &o), *restored = NULL;
    MUST(graft_session_prompt_text(s, PROMPT, strlen(PROMPT), error));
    MUST(graft_session_set_note(s, "a note", 6, error));
    save(s);
    graft_session_file *file = NULL;
    for (int what = 0; what < 3; what++) {
        for (size_t failures = 0;; failures++) {
            atomic_store(&allocator.calls, 0);
            allocator.failed = false;
            allocator.fail_at = failures + 1;
            size_t before = atomic_load(&runtime->mem.bytes_in_use);
            graft_error why = {0};
            graft_status status = what == 0 ? graft_session_save(s, PATH, &why)
                                  : what == 1
                                      ? graft_session_restore(model, PATH, NULL, &restored, &why)
                                      : graft_session_file_open(runtime, PATH, &file, &why);
            allocator.fail_at = 0;
            if (!allocator.failed) {
                assert_int_equal(status, GRAFT_OK);
                assert_true(failures > (what == 0 ? 4 : what == 1 ? 15 : 2));
                break;
            }
            assert_int_equal(status, GRAFT_NO_MEMORY);
            assert_true(why.message[0] != '\0');
            assert_int_equal(atomic_load(&runtime->mem.bytes_in_use), before);
        }
    }
    graft_session_file_close(&file);
    MUST(graft_session_generate(s, N, answer_take, rest, error));
    MUST(graft_session_generate(restored, N, answer_take, a, error));
    assert_same_answer(a, rest);
    graft_session_close(&s);
    graft_session_close(&restored);
    graft_model_close(&model);
    graft_runtime_close(&runtime);
    answer_free(rest);
    answer_free(a);
}

static void what_saving_and_restoring_refuse(void **state)
{
    (void)state;
    graft_session *s = prompted(F.model, NULL, "Hi"), *none = NULL;
    graft_error why;
    char path[300];
    snprintf(path, sizeof path, "%s/nowhere/x", F.dir);
    assert_int_equal(graft_session_save(s, path, &why), GRAFT_NOT_FOUND);
    snprintf(path, sizeof path, "%s/model.safetensors", F.dir);
    assert_int_equal(graft_session_save(s, path, &why), GRAFT_IO); /* the model's own */
    assert_int_equal(graft_session_restore(F.model, path, NULL, &none, &why), GRAFT_FORMAT);
    assert_non_null(strstr(why.message, "no saved session"));
    assert_int_equal(graft_session_restore(F.model, F.dir, NULL, &none, &why), GRAFT_IO);
    assert_int_equal(graft_session_save(NULL, PATH, NULL), GRAFT_INVALID_ARGUMENT);
    assert_int_equal(graft_session_save(s, NULL, NULL), GRAFT_INVALID_ARGUMENT);
    assert_int_equal(graft_session_restore(F.model, NULL, NULL, &none, NULL),
                     GRAFT_INVALID_ARGUMENT);
    assert_null(none);
    graft_session_close(&s);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(restored_session_says_what_the_saved_one_would_have_said),
        cmocka_unit_test(any_length_comes_back),
        cmocka_unit_test(settings_come_back),
        cmocka_unit_test(an_answer_is_gone_on_with_in_the_midst_of_a_stop_text_and_of_a_character),
        cmocka_unit_test(a_finished_answer_is_finished),
        cmocka_unit_test(an_answer_held_to_a_constraint_is_saved_at_its_end),
        cmocka_unit_test(a_trimmed_session_forgets_on_disk_too),
        cmocka_unit_test(a_note_goes_along),
        cmocka_unit_test(a_restored_session_may_have_another_context),
        cmocka_unit_test(a_restored_session_may_have_other_settings),
        cmocka_unit_test(settings_of_a_look_restore),
        cmocka_unit_test(no_memory_is_an_error_that_leaves_nothing_behind),
        cmocka_unit_test(what_saving_and_restoring_refuse),
    };
    return cmocka_run_group_tests(tests, setup, teardown);
}
