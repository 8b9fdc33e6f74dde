/* test_session_state.c: sessions in files: what comes back says what was saved would have said; what is damaged, or made to
 * do harm, is refused: on a random model whose tokens are bytes.
 */
#include "generate/generate_internal.h"
#include "generate/state.h"
#include "unit/api_fixture.h"
#include "unit/failing_allocator.h"

static struct fixture F, OTHER; /* the same model in another runtime, with other threads */
static char PATH[256];

static const char PROMPT[] = "It was a bright cold day in April, and the clocks were striking "
                             "thirteen; the rest of this sentence only makes the prompt longer.";
enum { N = 60, AHEAD = 10, HEAD = 24, SUM = 32 };

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

static graft_session *prompted(const graft_session_options *o, const char *prompt)
{
    graft_session *s = open_session(F.model, o);
    MUST(graft_session_prompt_text(s, prompt, strlen(prompt), error));
    return s;
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
            graft_session *s = prompted(&o, PROMPT);
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
    graft_session *s = prompted(&o, PROMPT);
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
        graft_session *s = prompted(&o, PROMPT);
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
    graft_session *s = prompted(&o, PROMPT);
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
    graft_session *s = prompted(&o, PROMPT);
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
    graft_session *s = prompted(&o, "The password is swordfish.");
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
    graft_session *s = prompted(NULL, "Hi"), *fork = NULL;
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
    graft_session *s = prompted(&o, PROMPT), *restored = NULL;
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
    graft_session *s = prompted(&o, PROMPT), *restored = NULL;
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

/* ---- damage ---- */

static char *bytes;
static size_t size;

/* Without waiting for a disk. */
static void write_bytes(const char *data, size_t n)
{
    FILE *file = fopen(PATH, "wb");
    assert_non_null(file);
    assert_int_equal(fwrite(data, 1, n, file), n);
    assert_int_equal(fclose(file), 0);
}

static graft_status read_back(graft_error *why)
{
    graft_session *s = NULL;
    graft_status status = graft_session_restore(F.model, PATH, NULL, &s, why);
    assert_true((s != NULL) == (status == GRAFT_OK));
    graft_session_close(&s);
    return status;
}

static void take_bytes(const graft_session_options *o, const char *prompt)
{
    graft_session *s = prompted(o, prompt);
    MUST(graft_session_generate(s, 2, NULL, NULL, error));
    save(s);
    graft_session_close(&s);
    MUST(file_read(NULL, PATH, 1 << 20, &bytes, &size, error));
}

static void a_flipped_byte_is_one_clear_error(void **state)
{
    (void)state;
    graft_session_options o = sampled(1);
    take_bytes(&o, "Hello");
    for (size_t i = 0; i < size; i += i < HEAD ? 1 : 3) {
        graft_error why = {0};
        bytes[i] ^= (char)(1 << i % 8);
        write_bytes(bytes, size);
        graft_status status = read_back(&why);
        bytes[i] ^= (char)(1 << i % 8);
        assert_int_equal(status, i >= 8 && i < 12 ? GRAFT_UNSUPPORTED : GRAFT_FORMAT);
        assert_string_equal(why.file, PATH);
        const char *what = i < 8 ? "no saved session" : i < 12 ? "version" : "is damaged";
        assert_non_null(strstr(why.message, what));
    }
    write_bytes(bytes, size);
    assert_int_equal(read_back(NULL), GRAFT_OK);
    mem_free(NULL, bytes);
}

static void a_file_that_was_cut_is_one_clear_error(void **state)
{
    (void)state;
    graft_session_options o = sampled(1);
    take_bytes(&o, "Hello");
    for (size_t n = 0; n < size; n += n < HEAD ? 1 : 5) {
        graft_error why = {0};
        write_bytes(bytes, n);
        assert_int_equal(read_back(&why), GRAFT_FORMAT);
        assert_non_null(strstr(why.message, n < HEAD ? "no saved session" : "is damaged"));
    }
    bytes = mem_resize(NULL, bytes, size + 1);
    bytes[size] = 0;
    write_bytes(bytes, size + 1);
    assert_int_equal(read_back(NULL), GRAFT_FORMAT);
    mem_free(NULL, bytes);
    unlink(PATH);
    assert_int_equal(read_back(NULL), GRAFT_NOT_FOUND);
}

/* ---- a look ---- */

/* The note and the settings, or the status. */
static graft_status look(graft_session_options *settings, char note[16], graft_error *why)
{
    graft_session_file *file = NULL;
    graft_status status = graft_session_file_open(F.runtime, PATH, &file, why);
    assert_true((file != NULL) == (status == GRAFT_OK));
    if (status == GRAFT_OK) {
        size_t n = 0;
        const char *text = graft_session_file_note(file, &n);
        assert_true((text != NULL) == (n > 0));
        snprintf(note, 16, "%.*s", (int)n, text != NULL ? text : "");
        *settings = *graft_session_file_options(file);
        assert_true(graft_session_file_summary(file)->n_tokens > 0);
        assert_string_equal(graft_session_file_summary(file)->adapters, "");
        assert_string_equal(settings->stops[0], "never to be said");
    }
    graft_session_file_close(&file);
    assert_null(file);
    return status;
}

static void a_look_tells_what_a_file_is_for_without_its_keys_and_values(void **state)
{
    (void)state;
    const char *stops[] = {"never to be said"};
    char note[16] = "";
    size_t record;
    graft_session_options settings, o = sampled(7);
    o.n_ctx = 200;
    o.stops = stops;
    o.n_stops = 1;
    o.ignore_eos = true;
    take_bytes(&o, "Hello");
    record = HEAD + (size_t)bytes_get((uint8_t *)bytes + 12, 4) + SUM;
    for (size_t n = 0; n < size; n += 3) {
        graft_error why = {0};
        write_bytes(bytes, n);
        graft_status status = look(&settings, note, &why);
        assert_int_equal(status, n < record ? GRAFT_FORMAT : GRAFT_OK);
        assert_string_equal(why.file, n < record ? PATH : "");
    }
    assert_string_equal(note, "");
    assert_int_equal(settings.n_ctx, 200);
    assert_int_equal(settings.sampling.seed, 7);
    assert_true(settings.ignore_eos);
    for (size_t i = 0; i < record; i += 5) {
        graft_error why = {0};
        bytes[i] ^= 1;
        write_bytes(bytes, size);
        bytes[i] ^= 1;
        assert_int_equal(look(&settings, note, &why),
                         i >= 8 && i < 12 ? GRAFT_UNSUPPORTED : GRAFT_FORMAT);
    }
    mem_free(NULL, bytes);
    graft_session *s = prompted(&o, "Hi");
    MUST(graft_session_set_note(s, "who said", 8, error));
    save(s);
    graft_session_close(&s);
    assert_int_equal(look(&settings, note, NULL), GRAFT_OK);
    assert_string_equal(note, "who said");
    assert_null(graft_session_file_options(NULL));
    assert_null(graft_session_file_summary(NULL));
    assert_null(graft_session_file_note(NULL, NULL));
    graft_session_file_close(NULL);
}

/* What a look gave is what restoring takes. */
static void settings_of_a_look_restore(void **state)
{
    (void)state;
    graft_session_options o = sampled(3);
    graft_restore_options r = graft_restore_options_default();
    graft_session_file *file = NULL;
    struct answer *rest = answer_new(), *a = answer_new();
    graft_session *s = prompted(&o, PROMPT), *restored = NULL;
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

/* ---- files made to do harm: the sums fit ---- */

typedef void (*edit)(struct session_state *state);

/* The file with another record, and keys and values as they are. */
static graft_status with(edit change, graft_error *why)
{
    struct arena arena;
    struct session_state state;
    struct buf out;
    static const char ROOM[HEAD];
    size_t record = (uint8_t)bytes[12] | (size_t)(uint8_t)bytes[13] << 8;
    arena_init(&arena, NULL, 1 << 20);
    buf_init(&out, NULL, 1 << 20);
    MUST(state_parse((const uint8_t *)bytes + HEAD, record, &arena, &state, error));
    change(&state);
    buf_append(&out, ROOM, HEAD);
    MUST(state_write(&state, &out, error));
    memcpy(out.data, bytes, HEAD);
    out.data[12] = (char)((out.size - HEAD) & 255);
    out.data[13] = (char)((out.size - HEAD) >> 8);
    uint8_t sum[SUM];
    MUST(sha256(out.data, out.size, sum, error));
    buf_append(&out, sum, SUM);
    buf_append(&out, bytes + HEAD + record + SUM, size - HEAD - record - SUM);
    write_bytes(out.data, out.size);
    buf_free(&out);
    arena_free(&arena);
    return read_back(why);
}

static graft_token_id ids_of_harm[64];
static uint8_t roles_of_harm[64];

static void copy_lists(struct session_state *s)
{
    assert_true(s->n_tokens <= 64);
    memcpy(ids_of_harm, s->tokens, s->n_tokens * sizeof *s->tokens);
    memcpy(roles_of_harm, s->roles, s->n_tokens);
    s->tokens = ids_of_harm;
    s->roles = roles_of_harm;
}
static void nothing_changes(struct session_state *s)
{
    copy_lists(s);
}
static void token_outside(struct session_state *s)
{
    copy_lists(s);
    ids_of_harm[1] = RM_VOCAB;
}
static void token_negative(struct session_state *s)
{
    copy_lists(s);
    ids_of_harm[1] = -1;
}
static void role_outside(struct session_state *s)
{
    copy_lists(s);
    roles_of_harm[2] = ROLE_COUNT;
}
static void more_held_than_tokens(struct session_state *s)
{
    s->n_held = s->n_tokens + 1;
}
static void fewer_held_than_there_are(struct session_state *s)
{
    s->n_held--;
}
static void huge_context(struct session_state *s)
{
    s->options.n_ctx = CONTEXT_MAX;
}
static void no_context(struct session_state *s)
{
    s->options.n_ctx = 0;
}
static void small_context(struct session_state *s)
{
    s->options.n_ctx = 3;
}
static void strange_sampling(struct session_state *s)
{
    s->options.sampling.temperature = NAN;
}
static void strange_type(struct session_state *s)
{
    s->options.cache_k = (graft_kv_type)3;
}
static void stop_that_is_no_text(struct session_state *s)
{
    static const char *const STOPS[] = {"\xC3"};
    s->options.stops = STOPS;
}
static void stop_of_nothing(struct session_state *s)
{
    static const char *const STOPS[] = {""};
    s->options.stops = STOPS;
}
static void stop_id_outside(struct session_state *s)
{
    static const graft_token_id IDS[] = {RM_VOCAB};
    s->options.stop_ids = IDS;
    s->options.n_stop_ids = 1;
}
static void held_text_of_no_stop(struct session_state *s)
{
    s->text.held = "xyz";
    s->text.n_held = 3;
}
static void held_text_beyond_the_stop(struct session_state *s)
{
    s->text.held = "never to be said, and more";
    s->text.n_held = strlen(s->text.held);
}
static void more_given_than_held(struct session_state *s)
{
    s->text.n_given = 1;
}
static void character_that_is_none(struct session_state *s)
{
    memcpy(s->text.detokenizer.held, "ab", 2);
    s->text.detokenizer.n_held = 2;
}
static void answer_behind_the_end(struct session_state *s)
{
    s->answer_begin = s->n_tokens + 1;
}
static void finish_of_an_engine(struct session_state *s)
{
    s->finish = GRAFT_FINISH_TIMEOUT;
}
static void another_base(struct session_state *s)
{
    s->base = "sha256:0000";
}
static void other_weights(struct session_state *s)
{
    s->weights[7] ^= 1;
}

static void what_a_file_says_is_checked(void **state)
{
    (void)state;
    static const struct {
        edit change;
        graft_status status;
    } CASES[] = {{nothing_changes, GRAFT_OK},           {token_outside, GRAFT_FORMAT},
                 {token_negative, GRAFT_FORMAT},        {role_outside, GRAFT_FORMAT},
                 {more_held_than_tokens, GRAFT_FORMAT}, {fewer_held_than_there_are, GRAFT_FORMAT},
                 {huge_context, GRAFT_LIMIT},           {no_context, GRAFT_FORMAT},
                 {small_context, GRAFT_FORMAT},         {strange_sampling, GRAFT_FORMAT},
                 {strange_type, GRAFT_FORMAT},          {stop_that_is_no_text, GRAFT_FORMAT},
                 {stop_of_nothing, GRAFT_FORMAT},       {stop_id_outside, GRAFT_FORMAT},
                 {held_text_of_no_stop, GRAFT_FORMAT},  {held_text_beyond_the_stop, GRAFT_FORMAT},
                 {more_given_than_held, GRAFT_FORMAT},  {character_that_is_none, GRAFT_FORMAT},
                 {answer_behind_the_end, GRAFT_FORMAT}, {finish_of_an_engine, GRAFT_FORMAT},
                 {another_base, GRAFT_STATE},           {other_weights, GRAFT_STATE}};
    const char *stops[] = {"never to be said"};
    graft_session_options o = sampled(1);
    o.stops = stops;
    o.n_stops = 1;
    take_bytes(&o, "Hello");
    for (size_t i = 0; i < ARRAY_LEN(CASES); i++) {
        graft_error why = {0};
        graft_status status = with(CASES[i].change, &why);
        if (status != CASES[i].status || (status != GRAFT_OK && why.status != status)) {
            fail_msg("case %zu: %s: %s", i, graft_status_text(status), why.message);
        }
    }
    mem_free(NULL, bytes);
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
    graft_session *s = prompted(NULL, "Hi"), *none = NULL;
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
        cmocka_unit_test(a_flipped_byte_is_one_clear_error),
        cmocka_unit_test(a_file_that_was_cut_is_one_clear_error),
        cmocka_unit_test(a_look_tells_what_a_file_is_for_without_its_keys_and_values),
        cmocka_unit_test(settings_of_a_look_restore),
        cmocka_unit_test(what_a_file_says_is_checked),
        cmocka_unit_test(no_memory_is_an_error_that_leaves_nothing_behind),
        cmocka_unit_test(what_saving_and_restoring_refuse),
    };
    return cmocka_run_group_tests(tests, setup, teardown);
}
