/* test_session_damage.c: files of sessions as bytes: what is damaged, cut, made to do harm or computed by other kernels is refused; a
 * look tells what a file is for: on a random model whose tokens are bytes.
 */
#include "generate/generate_internal.h"
#include "generate/state.h"
#include "unit/api_fixture.h"

static struct fixture F;
static char PATH[256];

enum { N = 20, HEAD = 24, SUM = 32 };

static int setup(void **state)
{
    (void)state;
    F = open_fixture(NULL, 1);
    snprintf(PATH, sizeof PATH, "%s/saved.session", F.dir);
    return 0;
}

static int teardown(void **state)
{
    (void)state;
    unlink(PATH);
    close_fixture(&F);
    return 0;
}

static void save(const graft_session *s)
{
    MUST(graft_session_save(s, PATH, error));
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
    graft_session *s = prompted(F.model, o, prompt);
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
    graft_session *s = prompted(F.model, &o, "Hi");
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

static void other_bits(struct session_state *s)
{
    s->arithmetic[7] ^= 1;
}
static void other_name_of_the_same_bits(struct session_state *s)
{
    s->tier = "abacus";
}

static void what_a_file_says_is_checked(void **state)
{
    (void)state;
    static const struct {
        edit change;
        graft_status status;
    } CASES[] = {{nothing_changes, GRAFT_OK},
                 {token_outside, GRAFT_FORMAT},
                 {token_negative, GRAFT_FORMAT},
                 {role_outside, GRAFT_FORMAT},
                 {more_held_than_tokens, GRAFT_FORMAT},
                 {fewer_held_than_there_are, GRAFT_FORMAT},
                 {huge_context, GRAFT_LIMIT},
                 {no_context, GRAFT_FORMAT},
                 {small_context, GRAFT_FORMAT},
                 {strange_sampling, GRAFT_FORMAT},
                 {strange_type, GRAFT_FORMAT},
                 {stop_that_is_no_text, GRAFT_FORMAT},
                 {stop_of_nothing, GRAFT_FORMAT},
                 {stop_id_outside, GRAFT_FORMAT},
                 {held_text_of_no_stop, GRAFT_FORMAT},
                 {held_text_beyond_the_stop, GRAFT_FORMAT},
                 {more_given_than_held, GRAFT_FORMAT},
                 {character_that_is_none, GRAFT_FORMAT},
                 {answer_behind_the_end, GRAFT_FORMAT},
                 {finish_of_an_engine, GRAFT_FORMAT},
                 {another_base, GRAFT_STATE},
                 {other_weights, GRAFT_STATE},
                 {other_bits, GRAFT_STATE},
                 {other_name_of_the_same_bits, GRAFT_OK}};
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

/* Of a build of graft whose kernels have the same name and other last bits. */
static void other_bits_are_refused_or_computed_again(void **state)
{
    (void)state;
    graft_session_options o = sampled(1);
    struct answer *whole = solo(F.model, &o, "Hello", N), *rest = answer_new();
    take_bytes(&o, "Hello");
    graft_error why = {0};
    assert_int_equal(with(other_bits, &why), GRAFT_STATE);
    assert_non_null(strstr(why.message, "of a build with other last bits"));
    assert_non_null(strstr(why.message, "replay"));
    graft_restore_options again = graft_restore_options_default();
    again.replay = true;
    graft_session *s = NULL;
    MUST(graft_session_restore(F.model, PATH, &again, &s, error));
    MUST(graft_session_generate(s, N, answer_take, rest, error));
    for (size_t i = 0; i < rest->n && 2 + i < whole->n; i++) {
        assert_int_equal(rest->ids[i], whole->ids[2 + i]);
    }
    assert_true(rest->n >= whole->n - 2);
    graft_session_close(&s);
    mem_free(NULL, bytes);
    answer_free(whole);
    answer_free(rest);
}
int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_flipped_byte_is_one_clear_error),
        cmocka_unit_test(a_file_that_was_cut_is_one_clear_error),
        cmocka_unit_test(a_look_tells_what_a_file_is_for_without_its_keys_and_values),
        cmocka_unit_test(what_a_file_says_is_checked),
        cmocka_unit_test(other_bits_are_refused_or_computed_again),
    };
    return cmocka_run_group_tests(tests, setup, teardown);
}
