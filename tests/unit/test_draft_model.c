/* test_draft_model.c: a second model that drafts: which models go together, that it picks what a session would, alone and in
 * company, whatever the stream took back, and what happens where it fails. A model that drafts for itself is always right.
 */
#include "conformance/conformance_support.h"
#include "generate/draft/draft.h"
#include "generate/generate.h"
#include "unit/failing_allocator.h"
#include "unit/must.h"
#include "unit/random_model.h"

enum { PROMPT = 40, N_CTX = 200, ANSWER = 60, LANES = 5 };

struct fixture {
    char *dir;
    struct failing_allocator meter;
    struct graft_runtime rt;
    struct model *model;
    struct draft_model *d;
};

static const struct draft_model_options ROOMY = {.kv_bytes = 8 << 20, .rows = 32};

static void start_with(struct fixture *f, const struct random_model *m, int threads,
                       const struct draft_model_options *options)
{
    *f = (struct fixture){.dir = random_model_make(m)};
    runtime_start(&f->rt, threads, NULL);
    f->rt.mem.allocator =
        (graft_allocator){failing_alloc, failing_resize, failing_release, &f->meter};
    f->model = open_model(&f->rt, f->dir);
    MUST(draft_model_open(f->model, f->model, options, &f->d, error));
}

static void start(struct fixture *f)
{
    const struct random_model plain = {0};
    start_with(f, &plain, 2, &ROOMY);
}

static void stop(struct fixture *f)
{
    draft_model_close(&f->d);
    model_close(&f->model);
    pool_close(&f->rt.pool); /* its memory was taken before the meter came */
    random_model_remove(f->dir);
}

static graft_sampling sampling_of(float temperature, uint64_t seed)
{
    graft_sampling s = sampling_default();
    s.temperature = temperature;
    s.seed = seed;
    return s;
}

/* A prompt and what a session answers: PROMPT + ANSWER tokens. */
static void answer(const struct fixture *f, const graft_sampling *sampling, int salt,
                   graft_token_id *tokens)
{
    const graft_session_options options = {.struct_size = sizeof options,
                                           .sampling = *sampling,
                                           .n_ctx = N_CTX,
                                           .prefill_chunk = 64,
                                           .ignore_eos = true};
    struct graft_session *s = NULL;
    for (int i = 0; i < PROMPT; i++) {
        tokens[i] = 32 + (i * 37 + salt * 11) % 90;
    }
    MUST(session_open(f->model, &options, &s, error));
    MUST(session_prompt(s, tokens, PROMPT, NULL, NULL, error));
    for (int i = 0; i < ANSWER; i++) {
        graft_token token;
        MUST(session_next(s, &token, error));
        tokens[PROMPT + i] = token.id;
    }
    session_close(&s);
}

static struct draft_lane *open_lane(const struct fixture *f)
{
    struct draft_lane *lane = NULL;
    MUST(draft_lane_open(f->d, N_CTX, &lane, error));
    return lane;
}

static void same_ids(const graft_token_id *found, const graft_token_id *wanted, int n)
{
    for (int i = 0; i < n; i++) {
        if (found[i] != wanted[i]) {
            fail_msg("token %d of %d is %d, not %d", i, n, (int)found[i], (int)wanted[i]);
        }
    }
}

/* ---- what is drafted ------------------------------------------------------------------------ */

static void a_model_that_drafts_for_itself_is_right(void **state)
{
    (void)state;
    struct fixture f;
    start(&f);
    static const float TEMPERATURES[] = {0, 0.7f, 1.5f};
    for (size_t t = 0; t < ARRAY_LEN(TEMPERATURES); t++) {
        graft_sampling sampling = sampling_of(TEMPERATURES[t], 7 + t);
        sampling.repetition_penalty = 1.1f;
        graft_token_id tokens[N_CTX], out[DRAFT_MOST];
        struct draft_lane *lane = open_lane(&f);
        answer(&f, &sampling, (int)t, tokens);
        size_t n = PROMPT;
        for (int k = 1; n + DRAFT_MOST <= PROMPT + ANSWER; k = k % DRAFT_MOST + 1) {
            struct draft_request r = {lane, tokens, n, &sampling, k, out, 0, GRAFT_OK};
            MUST(draft_model_propose(f.d, &r, 1, NULL, error));
            assert_int_equal(r.n_out, k);
            same_ids(out, tokens + n, k);
            n += (size_t)k;
        }
        draft_lane_close(&lane);
    }
    assert_int_equal(draft_model_kv_bytes(f.d), 0);
    stop(&f);
}

static void lanes_together_draft_what_each_drafts_alone(void **state)
{
    (void)state;
    struct fixture f;
    const struct random_model plain = {0};
    const struct draft_model_options narrow = {.kv_bytes = 8 << 20, .rows = 3};
    for (int threads = 1; threads <= 3; threads++) {
        struct draft_lane *lanes[LANES];
        struct draft_request r[LANES];
        graft_sampling sampling[LANES];
        graft_token_id tokens[LANES][N_CTX], out[LANES][DRAFT_MOST];
        start_with(&f, &plain, threads, threads == 2 ? &narrow : &ROOMY);
        for (int i = 0; i < LANES; i++) {
            sampling[i] = sampling_of(i % 2 == 0 ? 0 : 1, (uint64_t)i);
            answer(&f, &sampling[i], i, tokens[i]);
            lanes[i] = open_lane(&f);
        }
        for (int n = PROMPT; n < PROMPT + 12; n += 3) {
            for (int i = 0; i < LANES; i++) {
                r[i] = (struct draft_request){lanes[i],     tokens[i], (size_t)(n + i),
                                              &sampling[i], 1 + i,     out[i],
                                              -1,           GRAFT_END};
            }
            MUST(draft_model_propose(f.d, r, LANES, NULL, error));
            for (int i = 0; i < LANES; i++) {
                assert_int_equal(r[i].n_out, 1 + i);
                assert_int_equal(r[i].status, GRAFT_OK);
                same_ids(out[i], tokens[i] + n + i, 1 + i);
            }
        }
        for (int i = 0; i < LANES; i++) {
            draft_lane_close(&lanes[i]);
        }
        stop(&f);
    }
}

static void a_lane_follows_a_stream_that_goes_back_and_on(void **state)
{
    (void)state;
    struct fixture f;
    start(&f);
    const graft_sampling greedy = sampling_of(0, 0);
    graft_token_id one[N_CTX], other[N_CTX], out[DRAFT_MOST];
    answer(&f, &greedy, 1, one);
    answer(&f, &greedy, 2, other);
    struct draft_lane *lane = open_lane(&f);
    static const struct {
        bool other;
        size_t n;
    } STEPS[] = {{false, PROMPT + 20}, {false, PROMPT + 3}, {true, PROMPT + 5}, {true, PROMPT + 6},
                 {false, PROMPT + 6},  {false, PROMPT + 6}, {true, PROMPT + 30}};
    for (size_t i = 0; i < ARRAY_LEN(STEPS); i++) {
        const graft_token_id *tokens = STEPS[i].other ? other : one;
        struct draft_request r = {lane, tokens, STEPS[i].n, &greedy, 4, out, 0, GRAFT_OK};
        MUST(draft_model_propose(f.d, &r, 1, NULL, error));
        assert_int_equal(r.n_out, 4);
        same_ids(out, tokens + STEPS[i].n, 4);
        if (i == 3) {
            size_t bytes = draft_model_kv_bytes(f.d);
            draft_lane_trim(lane, 0);
            assert_true(bytes > 0);
            assert_int_equal(draft_model_kv_bytes(f.d), 0);
        }
    }
    draft_lane_close(&lane);
    stop(&f);
}

static void near_the_end_of_a_context_less_is_drafted(void **state)
{
    (void)state;
    struct fixture f;
    start(&f);
    const graft_sampling greedy = sampling_of(0, 0);
    graft_token_id tokens[N_CTX + 1], out[DRAFT_MOST];
    struct draft_lane *lane = open_lane(&f);
    for (int i = 0; i <= N_CTX; i++) {
        tokens[i] = 32 + i % 90;
    }
    static const int EXPECTED[] = {3, 2, 1, 0, 0};
    for (int i = 0; i < 5; i++) {
        struct draft_request r = {lane, tokens,  (size_t)(N_CTX - 3 + i), &greedy, 8, out,
                                  0,    GRAFT_OK};
        MUST(draft_model_propose(f.d, &r, 1, NULL, error));
        assert_int_equal(r.n_out, EXPECTED[i]);
    }
    struct draft_request none = {lane, tokens, 0, &greedy, 8, out, 5, GRAFT_OK};
    MUST(draft_model_propose(f.d, &none, 1, NULL, error));
    assert_int_equal(none.n_out, 0);
    draft_lane_close(&lane);
    stop(&f);
}

static void passes_are_told_to_the_costs(void **state)
{
    (void)state;
    struct fixture f;
    start(&f);
    const graft_sampling greedy = sampling_of(0, 0);
    struct draft_costs costs = {0};
    graft_token_id tokens[N_CTX], out[DRAFT_MOST];
    struct draft_lane *lane = open_lane(&f);
    answer(&f, &greedy, 0, tokens);
    struct draft_request r = {lane, tokens, PROMPT, &greedy, 1, out, 0, GRAFT_OK};
    MUST(draft_model_propose(f.d, &r, 1, &costs, error));
    assert_int_equal(costs.draft.passes, 0); /* a prompt says nothing of decoding */
    assert_true(costs.feed > 0);
    assert_int_equal(draft_lane_length(lane), PROMPT);
    r.k = 4;
    MUST(draft_model_propose(f.d, &r, 1, &costs, error));
    assert_int_equal(costs.draft.passes, 4);
    assert_true(cost_estimate(&costs.draft, 1) > 0);
    draft_lane_close(&lane);
    stop(&f);
}

/* ---- where it fails ------------------------------------------------------------------------- */

static void a_full_cache_leaves_lanes_without_drafts_and_the_others_with_theirs(void **state)
{
    (void)state;
    struct fixture f;
    const struct random_model plain = {0};
    /* Two blocks of F16. */
    const size_t block = (size_t)KV_BLOCK * RM_LAYERS * RM_KV * RM_HEAD * 2 * 2;
    const struct draft_model_options tight = {.kv_bytes = 2 * block + block / 2, .rows = 32};
    start_with(&f, &plain, 1, &tight);
    const graft_sampling greedy = sampling_of(0, 0);
    graft_token_id tokens[N_CTX], out[3][DRAFT_MOST];
    struct draft_request r[3];
    struct draft_lane *lanes[3];
    answer(&f, &greedy, 0, tokens);
    for (int i = 0; i < 3; i++) {
        lanes[i] = open_lane(&f);
        r[i] =
            (struct draft_request){lanes[i], tokens, PROMPT + 1, &greedy, 4, out[i], 0, GRAFT_OK};
    }
    MUST(draft_model_propose(f.d, r, 3, NULL, error));
    assert_int_equal(draft_model_kv_bytes(f.d), 2 * block);
    assert_int_equal(r[2].status, GRAFT_LIMIT);
    assert_int_equal(r[2].n_out, 0);
    for (int i = 0; i < 2; i++) {
        assert_int_equal(r[i].n_out, 4);
        same_ids(out[i], tokens + PROMPT + 1, 4);
    }
    draft_lane_trim(lanes[0], 0);
    MUST(draft_model_propose(f.d, r + 2, 1, NULL, error));
    assert_int_equal(r[2].n_out, 4);
    for (int i = 0; i < 3; i++) {
        draft_lane_close(&lanes[i]);
    }
    stop(&f);
    struct draft_model_options none = {.kv_bytes = block - 1, .rows = 32};
    start(&f);
    struct draft_model *d = NULL;
    assert_int_equal(draft_model_open(f.model, f.model, &none, &d, NULL), GRAFT_LIMIT);
    none = (struct draft_model_options){.kv_bytes = block, .rows = 0};
    assert_int_equal(draft_model_open(f.model, f.model, &none, &d, NULL), GRAFT_INVALID_ARGUMENT);
    assert_null(d);
    stop(&f);
}

static void numbers_that_are_none_fail_a_call_and_not_the_next(void **state)
{
    (void)state;
    struct fixture f;
    const struct random_model m = {.nan_token = true};
    start_with(&f, &m, 1, &ROOMY);
    const graft_sampling greedy = sampling_of(0, 0);
    graft_token_id tokens[N_CTX], bad[N_CTX], out[DRAFT_MOST];
    answer(&f, &greedy, 0, tokens);
    memcpy(bad, tokens, sizeof bad);
    bad[PROMPT] = RM_NAN;
    struct draft_lane *lane = open_lane(&f);
    struct draft_request r = {lane, bad, PROMPT + 1, &greedy, 4, out, 0, GRAFT_OK};
    assert_int_equal(draft_model_propose(f.d, &r, 1, NULL, NULL), GRAFT_NUMERIC);
    assert_int_equal(r.n_out, 0);
    r.tokens = tokens;
    MUST(draft_model_propose(f.d, &r, 1, NULL, error));
    assert_int_equal(r.n_out, 4);
    same_ids(out, tokens + PROMPT + 1, 4);
    struct draft_request twice[2] = {r, r};
    assert_int_equal(draft_model_propose(f.d, twice, 2, NULL, NULL), GRAFT_INVALID_ARGUMENT);
    draft_lane_close(&lane);
    stop(&f);
}

static void tokens_that_the_draft_model_has_no_row_for_are_not_drafted_after(void **state)
{
    (void)state;
    struct fixture f;
    start(&f);
    const graft_sampling greedy = sampling_of(0, 0);
    graft_token_id tokens[N_CTX], out[DRAFT_MOST];
    answer(&f, &greedy, 0, tokens);
    graft_token_id was = tokens[PROMPT];
    tokens[PROMPT] = RM_VOCAB;
    struct draft_lane *lane = open_lane(&f);
    struct draft_request r = {lane, tokens, PROMPT + 1, &greedy, 4, out, 0, GRAFT_OK};
    MUST(draft_model_propose(f.d, &r, 1, NULL, error));
    assert_int_equal(r.n_out, 0);
    tokens[PROMPT] = was;
    MUST(draft_model_propose(f.d, &r, 1, NULL, error));
    assert_int_equal(r.n_out, 4);
    draft_lane_close(&lane);
    stop(&f);
}

static void every_allocation_of_opening_may_fail(void **state)
{
    (void)state;
    struct fixture f;
    start(&f);
    size_t bytes = atomic_load(&f.rt.mem.bytes_in_use), failures = 0;
    graft_status status = GRAFT_NO_MEMORY;
    while (status != GRAFT_OK) {
        struct draft_model *d = NULL;
        struct draft_lane *lane = NULL;
        graft_error error;
        f.meter = (struct failing_allocator){.fail_at = ++failures};
        status = draft_model_open(f.model, f.model, &ROOMY, &d, &error);
        if (status == GRAFT_OK) {
            status = draft_lane_open(d, N_CTX, &lane, &error);
        }
        assert_int_equal(status, f.meter.failed ? GRAFT_NO_MEMORY : GRAFT_OK);
        draft_lane_close(&lane);
        draft_model_close(&d);
        assert_int_equal(atomic_load(&f.rt.mem.bytes_in_use), bytes);
    }
    assert_true(failures > 10);
    stop(&f);
}

static void without_memory_for_the_cache_a_lane_is_left_out(void **state)
{
    (void)state;
    struct fixture f;
    start(&f);
    const graft_sampling greedy = sampling_of(0, 0);
    graft_token_id tokens[N_CTX], out[DRAFT_MOST];
    answer(&f, &greedy, 0, tokens);
    struct draft_lane *lane = open_lane(&f);
    struct draft_request r = {lane, tokens, PROMPT, &greedy, 4, out, 0, GRAFT_OK};
    f.meter = (struct failing_allocator){.fail_at = 1};
    MUST(draft_model_propose(f.d, &r, 1, NULL, error));
    assert_int_equal(r.status, GRAFT_NO_MEMORY);
    assert_int_equal(r.n_out, 0);
    f.meter = (struct failing_allocator){.fail_at = 0};
    MUST(draft_model_propose(f.d, &r, 1, NULL, error));
    assert_int_equal(r.n_out, 4);
    size_t calls = f.meter.calls;
    for (; r.n_tokens < PROMPT + 20; r.n_tokens++) {
        MUST(draft_model_propose(f.d, &r, 1, NULL, error));
    }
    assert_int_equal(f.meter.calls, calls); /* within a block of the cache */
    draft_lane_close(&lane);
    stop(&f);
}

/* ---- which models go together --------------------------------------------------------------- */

/* The text of a file with one word replaced. */
static void edit(const char *dir, const char *name, const char *from, const char *to)
{
    char *path = path_join(NULL, dir, name), *text;
    size_t size;
    struct buf out;
    MUST(file_read(NULL, path, 1 << 20, &text, &size, error));
    const char *at = strstr(text, from);
    assert_non_null(at);
    buf_init(&out, NULL, 1 << 20);
    buf_append(&out, text, (size_t)(at - text));
    buf_puts(&out, to);
    buf_puts(&out, at + strlen(from));
    MUST(file_write_atomic(NULL, path, out.data, out.size, error));
    buf_free(&out);
    mem_free(NULL, text);
    mem_free(NULL, path);
}

static void refuse(const struct model *target, const struct model *draft, const char *words)
{
    graft_error error = {0};
    assert_int_equal(draft_model_check(target, draft, &error), GRAFT_INVALID_ARGUMENT);
    if (strstr(error.message, words) == NULL) {
        fail_msg("\"%s\" does not say \"%s\"", error.message, words);
    }
}

static void models_with_other_tokens_are_refused_with_the_first_difference(void **state)
{
    (void)state;
    static const struct {
        const char *from, *to, *words;
    } EDITS[] = {
        {"\"A\":65", "\"AA\":65", "65 is \"AA\", the model's is \"A\""},
        {"{\"id\":258,\"content\":\"<pad>\"", "{\"id\":259,\"content\":\"<pad>\"", "258 is none"},
        {"\"content\":\"</s>\"", "\"content\":\"</t>\"", "257 is \"</t>\""},
        {"\"special\":true}", "\"special\":false}", "256, \"<s>\", is special in one"},
    };
    const struct random_model plain = {0}, classifier = {.classifier = true},
                              nameless = {.no_tokenizer = true};
    struct fixture f;
    start(&f);
    MUST(draft_model_check(f.model, f.model, error));
    for (size_t i = 0; i < ARRAY_LEN(EDITS); i++) {
        char *dir = random_model_make(&plain);
        edit(dir, "tokenizer.json", EDITS[i].from, EDITS[i].to);
        struct model *other = open_model(&f.rt, dir);
        refuse(f.model, other, EDITS[i].words);
        model_close(&other);
        random_model_remove(dir);
    }
    static const char *const WORDS[] = {"classifier", "without tokenizers"};
    for (int i = 0; i < 2; i++) {
        char *dir = random_model_make(i == 0 ? &classifier : &nameless);
        struct model *other = open_model(&f.rt, dir);
        refuse(f.model, other, WORDS[i]);
        refuse(other, f.model, WORDS[i]);
        if (i == 1) {
            MUST(draft_model_check(other, other, error));
        }
        model_close(&other);
        random_model_remove(dir);
    }
    stop(&f);
}

/* ---- the models that ship ------------------------------------------------------------------- */

/* Share of the drafts of tiny-draft that are what tiny picks, one by one. */
static double agreement(struct draft_model *d, const struct model *target, const char *prompt,
                        const graft_sampling *sampling)
{
    const graft_session_options options = {.struct_size = sizeof options,
                                           .sampling = *sampling,
                                           .n_ctx = 256,
                                           .prefill_chunk = 64,
                                           .ignore_eos = true};
    struct graft_session *s = NULL;
    struct draft_lane *lane = NULL;
    int right = 0;
    MUST(session_open(target, &options, &s, error));
    MUST(session_prompt_text(s, prompt, strlen(prompt), error));
    MUST(draft_lane_open(d, 256, &lane, error));
    for (int i = 0; i < 100; i++) {
        graft_token token;
        graft_token_id out;
        size_t n;
        const graft_token_id *tokens = session_tokens(s, &n);
        struct draft_request r = {lane, tokens, n, sampling, 1, &out, 0, GRAFT_OK};
        MUST(draft_model_propose(d, &r, 1, NULL, error));
        MUST(session_next(s, &token, error));
        right += r.n_out == 1 && out == token.id;
    }
    draft_lane_close(&lane);
    session_close(&s);
    return right / 100.0;
}

static void the_small_model_that_ships_agrees_with_the_large_one_greedy_and_sampled(void **state)
{
    (void)state;
    struct graft_runtime rt;
    struct draft_model *d = NULL;
    runtime_start(&rt, 1, NULL);
    struct model *target = open_model(&rt, GRAFT_SOURCE_DIR "/models/tiny");
    struct model *draft = open_model(&rt, GRAFT_SOURCE_DIR "/models/tiny-draft");
    MUST(draft_model_check(target, draft, error));
    MUST(draft_model_open(target, draft, &ROOMY, &d, error));
    static const char PROMPT_TEXT[] =
        "Once upon a time there was a girl who had a small dog. One day";
    graft_sampling greedy = sampling_of(0, 0), sampled = sampling_of(1, 3);
    double certain = agreement(d, target, PROMPT_TEXT, &greedy);
    double drawn = agreement(d, target, PROMPT_TEXT, &sampled);
    print_message("greedy %.2f, sampled %.2f\n", certain, drawn);
    assert_true(certain > 0.5 && drawn > 0.5);
    draft_model_close(&d);
    model_close(&target);
    model_close(&draft);
    runtime_stop(&rt);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_model_that_drafts_for_itself_is_right),
        cmocka_unit_test(lanes_together_draft_what_each_drafts_alone),
        cmocka_unit_test(a_lane_follows_a_stream_that_goes_back_and_on),
        cmocka_unit_test(near_the_end_of_a_context_less_is_drafted),
        cmocka_unit_test(passes_are_told_to_the_costs),
        cmocka_unit_test(a_full_cache_leaves_lanes_without_drafts_and_the_others_with_theirs),
        cmocka_unit_test(numbers_that_are_none_fail_a_call_and_not_the_next),
        cmocka_unit_test(tokens_that_the_draft_model_has_no_row_for_are_not_drafted_after),
        cmocka_unit_test(every_allocation_of_opening_may_fail),
        cmocka_unit_test(without_memory_for_the_cache_a_lane_is_left_out),
        cmocka_unit_test(models_with_other_tokens_are_refused_with_the_first_difference),
        cmocka_unit_test(the_small_model_that_ships_agrees_with_the_large_one_greedy_and_sampled),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
