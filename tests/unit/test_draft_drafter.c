/* test_draft_drafter.c: all sources of one stream together, on texts that are known beforehand: a draft is right if it is what
 * the text has there. Times are simulated.
 */
#include "conformance/conformance_support.h"
#include "generate/draft/draft.h"
#include "generate/generate.h"
#include "unit/failing_allocator.h"
#include "unit/must.h"
#include "unit/random_model.h"

enum { N_CTX = 400 };

/* A text that is generated token by token, n of `all` so far. */
struct stream {
    struct drafter *d;
    struct draft_model *model; /* or NULL */
    struct draft_costs costs;
    graft_sampling sampling;
    graft_token_id tokens[N_CTX];
    size_t n, all, steps;
    double row; /* what one more row costs */
};

static void put(struct stream *s, const char *text)
{
    for (; *text != '\0'; text++) {
        s->tokens[s->all++] = *text;
    }
}

static void open_stream(struct stream *s, const struct drafter_options *options, const char *prompt,
                        const char *answer)
{
    *s = (struct stream){.model = options->model, .sampling = sampling_default(), .row = 0.02};
    s->sampling.temperature = 0;
    MUST(drafter_open(NULL, options, &s->d, error));
    put(s, prompt);
    s->n = s->all;
    put(s, answer);
    drafter_begin_answer(s->d, s->n);
}

static bool plan(struct stream *s, struct draft_request *request)
{
    struct draft_turn turn = {.drafter = s->d,
                              .tokens = s->tokens,
                              .n_tokens = s->n,
                              .sampling = &s->sampling,
                              .most = 8};
    struct adapt_turn scratch;
    const struct draft_step one = {
        .turns = &turn, .plans = &scratch, .requests = request, .n = 1, .rows = 1, .tokens = 1};
    int asked = drafters_plan(&one, &s->costs);
    assert_int_equal(asked, turn.asks);
    return turn.asks;
}

/* One step, as whoever verifies makes it; returns how many tokens were drafted. */
static int step(struct stream *s)
{
    struct draft_request request;
    int drafted, accepted = 0, left = (int)(s->all - s->n);
    if (plan(s, &request)) {
        graft_error error;
        if (draft_model_propose(s->model, &request, 1, NULL, &error) == GRAFT_OK) {
            cost_learn(&s->costs.draft, 1, 0.01);
        }
        drafter_take(s->d, &request);
    }
    const graft_token_id *ids = drafter_proposal(s->d, &drafted);
    cost_learn(&s->costs.target, 1 + drafted, 1 + s->row * drafted);
    while (accepted < drafted && accepted < left &&
           ids[accepted] == s->tokens[s->n + (size_t)accepted]) {
        accepted++;
    }
    drafter_verified(s->d, &s->costs, drafted, accepted);
    s->n += (size_t)(accepted < left ? accepted + 1 : left);
    s->steps++;
    return drafted;
}

static void run(struct stream *s)
{
    while (s->n < s->all) {
        step(s);
    }
    drafter_follow(s->d, s->tokens, s->n);
}

static uint64_t accepted_from(const struct stream *s, enum draft_source source)
{
    return drafter_counts(s->d, source)->accepted;
}

static const struct drafter_options LOOKUP = {.n_ctx = N_CTX, .ngram = true, .first = 4, .most = 8};
static const char REPEATS[] =
    "one two three four five six seven. one two three four five six seven. "
    "one two three four five six seven.";

static void a_text_that_repeats_itself_takes_fewer_steps(void **state)
{
    (void)state;
    struct stream s;
    open_stream(&s, &LOOKUP, "Count: ", REPEATS);
    run(&s);
    const size_t tokens = sizeof REPEATS - 1;
    uint64_t accepted = accepted_from(&s, DRAFT_NGRAM_LONG) + accepted_from(&s, DRAFT_NGRAM_SHORT);
    assert_in_range(s.steps + accepted, tokens, tokens + 1); /* the last may have no pick */
    assert_true(s.steps < tokens * 2 / 3);
    assert_true(accepted_from(&s, DRAFT_NGRAM_LONG) > 30);
    assert_int_equal(accepted_from(&s, DRAFT_STORE_LONG), 0);
    assert_true(drafter_counts(s.d, DRAFT_NGRAM_LONG)->drafted >=
                accepted_from(&s, DRAFT_NGRAM_LONG));
    drafter_close(&s.d);
}

static struct ngram_store *open_store(void)
{
    const struct ngram_store_options o = {.n_vocab = 256, .max_entries = 4096};
    struct ngram_store *store = NULL;
    MUST(ngram_store_open(NULL, &o, &store, error));
    return store;
}

static void what_one_stream_generated_helps_the_next_and_prompts_are_not_learned(void **state)
{
    (void)state;
    static const char ANSWER[] = "{\"name\": \"Ada\", \"year\": 1843, \"kept\": true}";
    struct ngram_store *store = open_store();
    const struct drafter_options o = {.n_ctx = N_CTX, .store = store, .first = 4, .most = 8};
    struct stream first, next;
    open_stream(&first, &o, "the prompt of the first", ANSWER);
    run(&first);
    /* Three for each token of the answer, but for what comes twice in it. */
    assert_in_range(ngram_store_entries(store), 100, 3 * (sizeof ANSWER - 1));
    open_stream(&next, &o, "another one", ANSWER);
    next.costs = first.costs;
    run(&next);
    assert_true(next.steps < first.steps * 2 / 3);
    assert_true(accepted_from(&next, DRAFT_STORE_LONG) > 20);
    drafter_close(&first.d);
    ngram_store_close(&store); /* streams hold it */
    drafter_close(&next.d);
}

static void a_store_learns_what_came_under_its_mix_alone(void **state)
{
    (void)state;
    struct ngram_store *one = open_store(), *other = open_store();
    const struct drafter_options o = {.n_ctx = N_CTX, .store = one, .first = 4, .most = 8};
    struct stream s;
    open_stream(&s, &o, "prompt", "abcdefghij");
    while (s.n < s.all) {
        if (s.n == 11) {
            drafter_follow(s.d, s.tokens, s.n);
            drafter_set_store(s.d, other, s.n);
        }
        step(&s);
    }
    drafter_follow(s.d, s.tokens, s.n);
    assert_int_equal(ngram_store_entries(one), 3 * 5);
    assert_int_equal(ngram_store_entries(other), 3 * 5);
    drafter_trim(s.d, 8); /* what is generated again is learned again: it counts for more */
    drafter_set_store(s.d, NULL, 8);
    drafter_follow(s.d, s.tokens, s.n);
    assert_int_equal(ngram_store_entries(other), 3 * 5);
    drafter_close(&s.d);
    ngram_store_close(&one);
    ngram_store_close(&other);
}

static void a_stream_that_went_back_goes_on_from_there(void **state)
{
    (void)state;
    struct stream s;
    open_stream(&s, &LOOKUP, "", REPEATS);
    run(&s);
    drafter_trim(s.d, 2);
    s.all = s.n = 2;
    put(&s, "x wholly other words, wholly other words, wholly other words");
    uint64_t before = accepted_from(&s, DRAFT_NGRAM_LONG);
    run(&s);
    assert_true(accepted_from(&s, DRAFT_NGRAM_LONG) > before + 20);
    drafter_close(&s.d);
}

static void where_rows_are_dear_nothing_is_drafted_but_when_that_is_fixed(void **state)
{
    (void)state;
    struct drafter_options o = LOOKUP;
    struct stream s;
    open_stream(&s, &o, "Count: ", REPEATS);
    s.row = 1.5;
    run(&s);
    assert_true(s.steps > (sizeof REPEATS - 1) * 95 / 100);
    drafter_close(&s.d);
    o.fixed = true;
    open_stream(&s, &o, "Count: ", REPEATS);
    s.row = 1.5;
    for (int drafted; s.n < s.all;) {
        drafted = step(&s);
        assert_true(drafted == 0 || drafted == 4);
    }
    assert_true(s.steps < (sizeof REPEATS - 1) * 2 / 3);
    drafter_close(&s.d);
}

/* ---- with a model --------------------------------------------------------------------------- */

struct fixture {
    char *dir;
    struct graft_runtime rt;
    struct model *model;
    struct draft_model *d;
};

static void start(struct fixture *f, const struct random_model *m, size_t kv_bytes)
{
    const struct draft_model_options options = {.kv_bytes = kv_bytes, .rows = 64};
    *f = (struct fixture){.dir = random_model_make(m)};
    runtime_start(&f->rt, 1, NULL);
    f->model = open_model(&f->rt, f->dir);
    MUST(draft_model_open(f->model, f->model, &options, &f->d, error));
}

static void stop(struct fixture *f)
{
    draft_model_close(&f->d);
    model_close(&f->model);
    runtime_stop(&f->rt);
    random_model_remove(f->dir);
}

/* What the model says of itself, n tokens behind those there are. */
static void append_answer(const struct fixture *f, struct stream *s, int n)
{
    const graft_session_options options = {.struct_size = sizeof options,
                                           .sampling = s->sampling,
                                           .n_ctx = N_CTX,
                                           .prefill_chunk = 64,
                                           .ignore_eos = true};
    struct graft_session *session = NULL;
    MUST(session_open(f->model, &options, &session, error));
    MUST(session_prompt(session, s->tokens, s->all, NULL, NULL, error));
    for (int i = 0; i < n; i++) {
        graft_token token;
        MUST(session_next(session, &token, error));
        s->tokens[s->all++] = token.id;
    }
    session_close(&session);
}

static void a_model_drafts_where_the_text_itself_has_nothing(void **state)
{
    (void)state;
    static const char PROMPT[] = "It was a bright cold day, and the clocks struck";
    const struct random_model plain = {0};
    struct fixture f;
    struct stream s;
    start(&f, &plain, 8 << 20);
    const struct drafter_options o = {
        .n_ctx = N_CTX, .ngram = true, .model = f.d, .first = 4, .most = 8};
    open_stream(&s, &o, PROMPT, "");
    s.sampling.temperature = 1;
    append_answer(&f, &s, 120);
    s.costs = (struct draft_costs){0};
    run(&s);
    assert_true(accepted_from(&s, DRAFT_MODEL) > 70);
    /* All, but for what was drafted beyond the end. */
    uint64_t wrong = drafter_counts(s.d, DRAFT_MODEL)->drafted - accepted_from(&s, DRAFT_MODEL);
    assert_true(wrong <= DRAFT_MOST);
    assert_true(s.steps < 40);
    drafter_close(&s.d);
    stop(&f);
}

static void a_model_that_fails_is_asked_ever_more_rarely(void **state)
{
    (void)state;
    const struct random_model plain = {0};
    const size_t block = (size_t)KV_BLOCK * RM_LAYERS * RM_KV * RM_HEAD * 2 * 2;
    struct fixture f;
    struct stream s;
    int asked = 0;
    start(&f, &plain, block); /* no room for such a text */
    const struct drafter_options o = {.n_ctx = N_CTX, .model = f.d, .first = 4, .most = 8};
    open_stream(&s, &o, REPEATS, REPEATS);
    while (s.n < s.all) {
        struct draft_request request;
        int n;
        if (plan(&s, &request)) {
            MUST(draft_model_propose(f.d, &request, 1, NULL, error));
            assert_int_equal(request.status, GRAFT_LIMIT);
            drafter_take(s.d, &request);
            asked++;
        }
        drafter_proposal(s.d, &n);
        assert_int_equal(n, 0);
        cost_learn(&s.costs.target, 1, 1);
        drafter_verified(s.d, &s.costs, 0, 0);
        s.n++;
    }
    assert_in_range(asked, 1, 20);
    drafter_close(&s.d);
    stop(&f);
}

static void every_allocation_may_fail_and_steps_take_none(void **state)
{
    (void)state;
    struct ngram_store *store = open_store();
    const struct drafter_options o = {
        .n_ctx = N_CTX, .ngram = true, .store = store, .first = 4, .most = 8};
    struct failing_allocator f;
    struct mem mem;
    graft_error error;
    struct stream s;
    open_stream(&s, &LOOKUP, "", REPEATS);
    drafter_close(&s.d);
    graft_status status = GRAFT_NO_MEMORY;
    for (size_t n = 1; status != GRAFT_OK; n++) {
        failing_init(&f, &mem, n);
        status = drafter_open(&mem, &o, &s.d, &error);
        assert_int_equal(status, f.failed ? GRAFT_NO_MEMORY : GRAFT_OK);
        assert_true(s.d != NULL || atomic_load(&mem.bytes_in_use) == 0);
    }
    size_t calls = f.calls;
    run(&s);
    assert_int_equal(f.calls, calls);
    drafter_close(&s.d);
    assert_int_equal(atomic_load(&mem.bytes_in_use), 0);
    struct drafter_options bad = {.n_ctx = N_CTX, .first = 0, .most = 8};
    assert_int_equal(drafter_open(NULL, &bad, &s.d, &error), GRAFT_INVALID_ARGUMENT);
    bad.first = bad.most = DRAFT_MOST + 1;
    assert_int_equal(drafter_open(NULL, &bad, &s.d, &error), GRAFT_INVALID_ARGUMENT);
    ngram_store_close(&store);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_text_that_repeats_itself_takes_fewer_steps),
        cmocka_unit_test(what_one_stream_generated_helps_the_next_and_prompts_are_not_learned),
        cmocka_unit_test(a_store_learns_what_came_under_its_mix_alone),
        cmocka_unit_test(a_stream_that_went_back_goes_on_from_there),
        cmocka_unit_test(where_rows_are_dear_nothing_is_drafted_but_when_that_is_fixed),
        cmocka_unit_test(a_model_drafts_where_the_text_itself_has_nothing),
        cmocka_unit_test(a_model_that_fails_is_asked_ever_more_rarely),
        cmocka_unit_test(every_allocation_may_fail_and_steps_take_none),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
