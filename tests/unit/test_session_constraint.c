/* test_session_constraint.c: sessions whose answers are held to a grammar or a schema, with the model that ships: streams, slices,
 * trims, guesses, answers that have to end in time, and what a step allocates.
 */
#include "unit/api_fixture.h"
#include "unit/counted_malloc.h"

#define SCHEMA                                                                                     \
    "{\"type\":\"object\",\"properties\":{\"name\":{\"type\":\"string\",\"maxLength\":20},"        \
    "\"age\":"                                                                                     \
    "{\"type\":\"integer\",\"minimum\":0,\"maximum\":120},\"likes\":{\"type\":\"array\","          \
    "\"items\":{\"enum\":"                                                                         \
    "[\"red\",\"green\",\"blue\"]},\"minItems\":2,\"maxItems\":5}},\"required\":[\"name\","        \
    "\"age\",\"likes\"]}"

static const char PROMPT[] = "Tell me of Tom, as JSON: ";

/* ---- the model and its constraints ---- */

static struct fixture f;
static graft_constraint *person, *any;

static int setup(void **state)
{
    (void)state;
    f.runtime = open_runtime(2);
    MUST(graft_model_open(f.runtime, GRAFT_SOURCE_DIR "/models/tiny", NULL, &f.model, error));
    MUST(graft_constraint_from_schema(f.model, SCHEMA, strlen(SCHEMA), &person, error));
    MUST(graft_constraint_from_schema(f.model, "true", 4, &any, error));
    return 0;
}

static int teardown(void **state)
{
    (void)state;
    graft_constraint_close(&person);
    graft_constraint_close(&any);
    close_fixture(&f);
    return 0;
}

static graft_session *begin(const graft_session_options *o, const graft_constraint *c)
{
    graft_session *session = open_session(f.model, o);
    MUST(graft_session_set_constraint(session, c, error));
    MUST(graft_session_prompt_text(session, PROMPT, strlen(PROMPT), error));
    return session;
}

static struct answer *answer_of(graft_session *session)
{
    struct answer *a = answer_new();
    MUST(graft_session_generate(session, 0, answer_take, a, error));
    assert_int_equal(graft_session_finish(session), GRAFT_FINISH_EOS);
    return a;
}

static struct answer *one(const graft_session_options *o, const graft_constraint *c)
{
    graft_session *session = begin(o, c);
    struct answer *a = answer_of(session);
    graft_session_close(&session);
    return a;
}

static json_t *parsed(const struct answer *a)
{
    json_t *value = NULL;
    graft_error error = {0};
    if (json_parse(a->text.data, a->text.size, &value, &error) != GRAFT_OK) {
        fail_msg("%s: %s", error.message, a->text.data);
    }
    return value;
}

static void assert_person(const struct answer *a)
{
    json_t *value = parsed(a);
    json_t *age = json_object_get(value, "age"), *likes = json_object_get(value, "likes");
    assert_true(json_is_string(json_object_get(value, "name")));
    assert_true(json_is_integer(age));
    assert_in_range(json_integer_value(age), 0, 120);
    assert_in_range(json_array_size(likes), 2, 5);
    json_decref(value);
}

/* ---- tests ---- */

static void answers_satisfy_their_schema(void **state)
{
    (void)state;
    for (uint64_t seed = 0; seed < 12; seed++) {
        graft_session_options o = sampled(seed);
        o.sampling.temperature = seed % 3 == 0 ? 0 : 1.5f;
        struct answer *a = one(&o, person);
        assert_person(a);
        answer_free(a);
    }
}

static void slices_are_the_same_answer(void **state)
{
    (void)state;
    graft_session_options o = sampled(4);
    struct answer *whole = one(&o, person), *sliced = answer_new();
    graft_session *session = begin(&o, person);
    while (graft_session_finish(session) != GRAFT_FINISH_EOS) {
        MUST(graft_session_generate(session, 3, answer_take, sliced, error));
    }
    assert_same_answer(whole, sliced);
    graft_session_close(&session);
    answer_free(whole);
    answer_free(sliced);
}

static void trimmed_answers_go_on_as_before(void **state)
{
    (void)state;
    graft_session_options o = sampled(5);
    graft_session *session = begin(&o, person);
    size_t prompt = graft_session_length(session);
    struct answer *first = answer_of(session);
    for (size_t keep = 0; keep < first->n; keep += 5) {
        MUST(graft_session_trim(session, prompt + keep, error));
        struct answer *rest = answer_of(session);
        assert_int_equal(rest->n, first->n - keep);
        assert_memory_equal(rest->ids, first->ids + keep, rest->n * sizeof *rest->ids);
        answer_free(rest);
    }
    graft_session_close(&session);
    answer_free(first);
}

static void each_answer_begins_anew(void **state)
{
    (void)state;
    graft_session_options o = sampled(6);
    graft_session *session = begin(&o, person);
    struct answer *a = answer_of(session);
    graft_session_resume(session);
    struct answer *b = answer_of(session);
    MUST(graft_session_prompt_text(session, " And of Ann: ", 13, error));
    struct answer *c = answer_of(session);
    assert_person(a);
    assert_person(b);
    assert_person(c);
    /* In the midst of an answer another constraint begins another answer; none leaves the model to itself. */
    graft_token token;
    MUST(graft_session_prompt_text(session, PROMPT, strlen(PROMPT), error));
    MUST(graft_session_next(session, &token, error));
    MUST(graft_session_set_constraint(session, person, error));
    struct answer *d = answer_of(session);
    assert_person(d);
    MUST(graft_session_set_constraint(session, NULL, error));
    MUST(graft_session_generate(session, 10, NULL, NULL, error));
    graft_session_close(&session);
    answer_free(a);
    answer_free(b);
    answer_free(c);
    answer_free(d);
}

static void guesses_change_nothing(void **state)
{
    (void)state;
    graft_model *small = NULL;
    MUST(graft_model_open(f.runtime, GRAFT_SOURCE_DIR "/models/tiny-draft", NULL, &small, error));
    for (uint64_t seed = 0; seed < 6; seed++) {
        graft_session_options o = sampled(seed);
        graft_draft_options draft = graft_draft_options_default();
        draft.model = seed % 2 ? small : NULL;
        draft.fixed = true;
        struct answer *plain = one(&o, person);
        graft_session *session = begin(&o, person);
        MUST(graft_session_set_draft(session, &draft, error));
        struct answer *guessed = answer_of(session);
        assert_same_answer(plain, guessed);
        graft_session_close(&session);
        answer_free(plain);
        answer_free(guessed);
    }
    graft_model_close(&small);
}

static void answers_end_in_time(void **state)
{
    (void)state;
    for (uint64_t seed = 0; seed < 8; seed++) {
        graft_session_options o = sampled(seed);
        o.n_ctx = 100;
        struct answer *a = one(&o, seed % 2 ? any : person); /* within the context */
        json_decref(parsed(a));
        answer_free(a);
        o.n_ctx = 0;
        graft_session *session = begin(&o, any);
        MUST(graft_session_set_answer_limit(session, 20, error));
        a = answer_of(session);
        assert_true(a->n <= 20);
        json_decref(parsed(a));
        answer_free(a);
        graft_session_close(&session);
    }
    /* There is no room for what has to be written: the answer is cut off, and said to be. */
    graft_session_options o = sampled(1);
    o.n_ctx = 15;
    graft_session *session = begin(&o, person);
    MUST(graft_session_generate(session, 0, NULL, NULL, error));
    assert_int_equal(graft_session_finish(session), GRAFT_FINISH_LENGTH);
    graft_session_close(&session);
}

static void end_tokens_end_answers_that_ignore_them(void **state)
{
    (void)state;
    graft_session_options o = sampled(7);
    o.ignore_eos = true;
    struct answer *a = one(&o, person);
    assert_person(a);
    answer_free(a);
}

static void grammars_hold_answers_too(void **state)
{
    (void)state;
    graft_constraint *c = NULL;
    graft_session_options o = sampled(8);
    const char *text = "root ::= \"Tom is \" [1-9] [0-9]? \" years old\" [.!]";
    MUST(graft_constraint_from_gbnf(f.model, text, strlen(text), &c, error));
    struct answer *a = one(&o, c);
    int age = 0, n = 0;
    assert_int_equal(sscanf(a->text.data, "Tom is %2d years old%n", &age, &n), 1);
    assert_int_equal((size_t)n + 1, a->text.size);
    graft_constraint_close(&c);
    answer_free(a);
}

static void what_is_wrong_is_refused(void **state)
{
    (void)state;
    graft_error error = {0};
    graft_constraint *c = NULL;
    struct fixture other = open_fixture(NULL, 1);
    graft_session_options o = sampled(0);
    graft_session *session = open_session(other.model, &o);
    assert_int_equal(graft_constraint_from_gbnf(f.model, "root ::= a", 10, &c, &error),
                     GRAFT_FORMAT);
    assert_non_null(strstr(error.message, "line 1, column 10"));
    assert_int_equal(graft_constraint_from_schema(NULL, "true", 4, &c, &error),
                     GRAFT_INVALID_ARGUMENT);
    assert_null(c);
    assert_int_equal(graft_session_set_constraint(session, any, &error), GRAFT_INVALID_ARGUMENT);
    graft_session_close(&session);
    close_fixture(&other);
}

static void steps_allocate_only_the_cache(void **state)
{
    (void)state;
    const graft_constraint *constraints[] = {person, any};
    for (uint64_t seed = 0; seed < 6; seed++) {
        graft_session_options o = sampled(seed);
        graft_session *session = begin(&o, constraints[seed % 2]);
        graft_token token;
        do {
            size_t length = graft_session_length(session), before = atomic_load(&calls);
            MUST(graft_session_next(session, &token, error));
            size_t made = atomic_load(&calls) - before;
            if (made > ((length - 1) % 64 == 0 ? 4 : 0)) {
                fail_msg("token %zu: %zu allocations", length, made);
            }
        } while (!token.is_eos);
        graft_session_close(&session);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(answers_satisfy_their_schema),
        cmocka_unit_test(slices_are_the_same_answer),
        cmocka_unit_test(trimmed_answers_go_on_as_before),
        cmocka_unit_test(each_answer_begins_anew),
        cmocka_unit_test(guesses_change_nothing),
        cmocka_unit_test(answers_end_in_time),
        cmocka_unit_test(end_tokens_end_answers_that_ignore_them),
        cmocka_unit_test(grammars_hold_answers_too),
        cmocka_unit_test(what_is_wrong_is_refused),
        cmocka_unit_test(steps_allocate_only_the_cache),
    };
    return cmocka_run_group_tests(tests, setup, teardown);
}
