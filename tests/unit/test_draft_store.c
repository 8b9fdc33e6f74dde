/* test_draft_store.c: what was generated under one mix proposes what follows, from several threads, within its bounds, and
 * through files, hostile ones too.
 */
#include "unit/test_support.h"

#include "generate/draft/draft.h"
#include "unit/failing_allocator.h"
#include "unit/must.h"

#include <pthread.h>

enum { VOCAB = 256, HEAD = 56, ENTRY = 16 };
static const struct ngram_store_options OPTIONS = {
    .mix = {1, 2, 3}, .n_vocab = VOCAB, .max_entries = 4096};

static struct ngram_store *open_store(void)
{
    struct ngram_store *s = NULL;
    MUST(ngram_store_open(NULL, &OPTIONS, &s, error));
    return s;
}

static size_t tokens_of(const char *text, graft_token_id *out)
{
    for (size_t i = 0; text[i] != '\0'; i++) {
        out[i] = text[i];
    }
    return strlen(text);
}

static void add(struct ngram_store *s, const char *text)
{
    graft_token_id tokens[256];
    ngram_store_add(s, tokens, 0, tokens_of(text, tokens));
}

static void expect(struct ngram_store *s, const char *text, int k, const char *wanted, int length)
{
    graft_token_id tokens[256], out[DRAFT_MOST];
    char found[DRAFT_MOST + 1] = {0};
    int l = 0, n = ngram_store_propose(s, tokens, tokens_of(text, tokens), k, out, &l);
    for (int i = 0; i < n; i++) {
        found[i] = (char)out[i];
    }
    assert_string_equal(found, wanted);
    assert_int_equal(l, length);
}

/* ---- learning and proposing ----------------------------------------------------------------- */

static void what_came_in_one_text_is_proposed_in_another(void **state)
{
    (void)state;
    struct ngram_store *s = open_store();
    expect(s, "SELECT ", 4, "", 0);
    add(s, "SELECT name FROM t;");
    expect(s, "SELECT ", 8, "name FRO", 4);
    expect(s, "my name", 8, " FROM t;", 4);
    expect(s, "xt;", 8, "", 0); /* nothing came behind it */
    expect(s, "xSE", 3, "LEC", 2);
    expect(s, "E", 3, "", 0);
    expect(s, "", 3, "", 0);
    expect(s, "SELECT ", 0, "", 0);
    ngram_store_close(&s);
}

static void what_came_most_often_is_proposed(void **state)
{
    (void)state;
    struct ngram_store *s = open_store();
    add(s, "abcd1");
    expect(s, "abcd", 1, "1", 4);
    add(s, "abcd2");
    add(s, "abcd2");
    expect(s, "abcd", 1, "2", 4);
    add(s, "abcd1");
    add(s, "abcd1");
    expect(s, "abcd", 1, "1", 4);
    ngram_store_close(&s);
}

static void only_what_is_new_is_learned(void **state)
{
    (void)state;
    struct ngram_store *s = open_store();
    graft_token_id tokens[64];
    size_t n = tokens_of("the prompt: answer", tokens);
    ngram_store_add(s, tokens, 12, n);
    expect(s, "the pr", 4, "", 0);
    expect(s, "a prompt: ", 4, "answ", 4); /* with what came before it */
    ngram_store_close(&s);
}

static void tokens_outside_the_vocabulary_are_not_learned(void **state)
{
    (void)state;
    struct ngram_store *s = open_store();
    const graft_token_id tokens[] = {1, 2, -1, 1, 2, VOCAB, 1, 2, 3};
    graft_token_id out[4];
    ngram_store_add(s, tokens, 0, 9);
    assert_int_equal(ngram_store_propose(s, tokens, 2, 4, out, NULL), 1);
    assert_int_equal(out[0], 3);
    ngram_store_close(&s);
}

static void memory_is_bounded_and_what_comes_often_stays(void **state)
{
    (void)state;
    struct mem mem;
    struct ngram_store *s = NULL;
    struct rng rng;
    mem_init(&mem, NULL);
    MUST(ngram_store_open(&mem, &OPTIONS, &s, error));
    size_t bytes = atomic_load(&mem.bytes_in_use);
    rng_init(&rng, 1, 0);
    for (int i = 0; i < 2000; i++) {
        graft_token_id noise[32];
        for (int j = 0; j < 32; j++) {
            noise[j] = (graft_token_id)(rng_u32(&rng) % VOCAB);
        }
        ngram_store_add(s, noise, 0, 32);
        if (i % 4 == 0) {
            add(s, "what comes again and again");
        }
    }
    assert_in_range(ngram_store_entries(s), 3000, OPTIONS.max_entries);
    assert_int_equal(atomic_load(&mem.bytes_in_use), bytes);
    expect(s, "what comes ", 8, "again an", 4);
    ngram_store_close(&s);
    assert_int_equal(atomic_load(&mem.bytes_in_use), 0);
}

static void *learn_and_ask(void *user)
{
    struct ngram_store *s = user;
    graft_token_id out[DRAFT_MOST], tokens[64];
    size_t n = tokens_of("threads share what they have learned", tokens);
    for (int i = 0; i < 200; i++) {
        ngram_store_add(s, tokens, 0, n);
        assert_int_equal(ngram_store_propose(s, tokens, 8, 4, out, NULL), 4);
        assert_true(ngram_store_entries(s) > 0);
    }
    ngram_store_close(&s);
    return NULL;
}

static void threads_share_a_store_and_the_last_closes_it(void **state)
{
    (void)state;
    pthread_t threads[4];
    struct mem mem;
    struct ngram_store *s = NULL;
    mem_init(&mem, NULL);
    MUST(ngram_store_open(&mem, &OPTIONS, &s, error));
    for (int i = 0; i < 4; i++) {
        assert_int_equal(pthread_create(&threads[i], NULL, learn_and_ask, ngram_store_share(s)), 0);
    }
    ngram_store_close(&s);
    for (int i = 0; i < 4; i++) {
        pthread_join(threads[i], NULL);
    }
    assert_int_equal(atomic_load(&mem.bytes_in_use), 0);
}

/* ---- files ---------------------------------------------------------------------------------- */

static void a_store_comes_back_from_its_file(void **state)
{
    (void)state;
    struct scratch dir;
    struct ngram_store *s = open_store(), *again = NULL, *small = NULL;
    scratch_open(&dir);
    const char *path = scratch_path(&dir, "store");
    assert_int_equal(ngram_store_load(NULL, path, &OPTIONS, &again, NULL), GRAFT_NOT_FOUND);
    MUST(ngram_store_save(s, path, error)); /* an empty one */
    MUST(ngram_store_load(NULL, path, &OPTIONS, &again, error));
    assert_int_equal(ngram_store_entries(again), 0);
    ngram_store_close(&again);
    add(s, "SELECT name FROM t;");
    add(s, "SELECT name FROM t;");
    MUST(ngram_store_save(s, path, error));
    MUST(ngram_store_load(NULL, path, &OPTIONS, &again, error));
    assert_int_equal(ngram_store_entries(again), ngram_store_entries(s));
    expect(again, "SELECT ", 8, "name FRO", 4);
    add(again, "SELECT nobody"); /* once: the counts came along */
    expect(again, "ECT n", 4, "ame ", 4);
    /* Into one that cannot hold it all. */
    struct rng rng;
    rng_init(&rng, 2, 0);
    for (int i = 0; i < 2000; i++) {
        graft_token_id pair[5];
        for (int j = 0; j < 5; j++) {
            pair[j] = (graft_token_id)(rng_u32(&rng) % VOCAB);
        }
        ngram_store_add(again, pair, 0, 5);
    }
    MUST(ngram_store_save(again, path, error));
    struct ngram_store_options less = OPTIONS;
    less.max_entries = 512;
    MUST(ngram_store_load(NULL, path, &less, &small, error));
    assert_in_range(ngram_store_entries(small), 400, 512);
    expect(small, "SELECT ", 8, "name FRO", 4);
    ngram_store_close(&small);
    ngram_store_close(&again);
    ngram_store_close(&s);
    assert_int_equal(scratch_close(&dir), 1);
}

static void a_file_that_cannot_be_written_is_told(void **state)
{
    (void)state;
    struct ngram_store *s = open_store();
    graft_error error = {0};
    assert_int_equal(ngram_store_save(s, "/nonexistent/store", &error), GRAFT_NOT_FOUND);
    assert_string_equal(error.file, "/nonexistent/store");
    ngram_store_close(&s);
}

/* The file of a store with some entries: *bytes are the caller's. */
static size_t make_file(char **bytes)
{
    struct scratch dir;
    struct ngram_store *s = open_store();
    size_t size;
    scratch_open(&dir);
    add(s, "abcabd");
    MUST(ngram_store_save(s, scratch_path(&dir, "store"), error));
    MUST(file_read(NULL, scratch_path(&dir, "store"), 1 << 20, bytes, &size, error));
    scratch_close(&dir);
    ngram_store_close(&s);
    return size;
}

static void sum_again(char *bytes, size_t size)
{
    uint8_t parts[64];
    MUST(sha256(bytes, HEAD, parts, error));
    MUST(sha256(bytes + HEAD + 32, size - HEAD - 32, parts + 32, error));
    MUST(sha256(parts, 64, (uint8_t *)bytes + HEAD, error));
}

static void refuse(const char *bytes, size_t size, graft_status status, const char *words)
{
    struct ngram_store *s = NULL;
    graft_error error = {0};
    struct mem mem;
    mem_init(&mem, NULL);
    graft_status found =
        ngram_store_parse(&mem, (const uint8_t *)bytes, size, &OPTIONS, &s, &error);
    if (found != status || strstr(error.message, words) == NULL) {
        fail_msg("status %d, \"%s\"; expected %d and \"%s\"", (int)found, error.message,
                 (int)status, words);
    }
    assert_null(s);
    assert_int_equal(atomic_load(&mem.bytes_in_use), 0);
}

static void every_damaged_byte_and_every_cut_is_found(void **state)
{
    (void)state;
    char *bytes;
    size_t size = make_file(&bytes);
    struct ngram_store *s = NULL;
    MUST(ngram_store_parse(NULL, (const uint8_t *)bytes, size, &OPTIONS, &s, error));
    ngram_store_close(&s);
    for (size_t i = 0; i < size; i++) {
        graft_error error;
        assert_int_not_equal(
            ngram_store_parse(NULL, (const uint8_t *)bytes, i, &OPTIONS, &s, &error), GRAFT_OK);
        bytes[i] ^= 1;
        assert_int_not_equal(
            ngram_store_parse(NULL, (const uint8_t *)bytes, size, &OPTIONS, &s, &error), GRAFT_OK);
        bytes[i] ^= 1;
    }
    mem_free(NULL, bytes);
}

static void a_hostile_file_is_refused_though_its_sum_fits(void **state)
{
    (void)state;
    char *bytes, *entry;
    size_t size = make_file(&bytes);
    static const struct {
        size_t at;
        uint8_t value;
        graft_status status;
        const char *words;
    } CASES[] = {{0, 'G', GRAFT_FORMAT, "no store"},
                 {8, 2, GRAFT_UNSUPPORTED, "version 2"},
                 {12, 1, GRAFT_STATE, "a vocabulary of 257"},
                 {16, 99, GRAFT_FORMAT, "99 entries"},
                 {23, 0x80, GRAFT_FORMAT, "entries"},
                 {24, 7, GRAFT_STATE, "other adapters"},
                 {HEAD + 32 + 9, 1, GRAFT_FORMAT, "entry 0"},
                 {HEAD + 32 + 11, 0x80, GRAFT_FORMAT, "entry 0"},
                 {HEAD + 32 + 12, 0, GRAFT_FORMAT, "count 0"},
                 {HEAD + 32 + 15, 0x7f, GRAFT_FORMAT, "entry 0"}};
    for (size_t i = 0; i < ARRAY_LEN(CASES); i++) {
        char was = bytes[CASES[i].at];
        bytes[CASES[i].at] = (char)CASES[i].value;
        sum_again(bytes, size);
        refuse(bytes, size, CASES[i].status, CASES[i].words);
        bytes[CASES[i].at] = was;
    }
    entry = bytes + HEAD + 32;
    memcpy(entry + ENTRY, entry, ENTRY);
    sum_again(bytes, size);
    refuse(bytes, size, GRAFT_FORMAT, "entry 1 is there twice");
    mem_free(NULL, bytes);
}

/* ---- memory --------------------------------------------------------------------------------- */

static graft_status open_save_load(struct mem *mem, const char *path, graft_error *error)
{
    struct ngram_store *s = NULL, *again = NULL;
    graft_status status = ngram_store_open(mem, &OPTIONS, &s, error);
    if (status == GRAFT_OK) {
        add(s, "some text");
        status = ngram_store_save(s, path, error);
    }
    if (status == GRAFT_OK) {
        status = ngram_store_load(mem, path, &OPTIONS, &again, error);
    }
    ngram_store_close(&s);
    ngram_store_close(&again);
    return status;
}

static void every_allocation_may_fail(void **state)
{
    (void)state;
    struct scratch dir;
    struct failing_allocator f;
    struct mem mem;
    graft_error error;
    graft_status status = GRAFT_NO_MEMORY;
    scratch_open(&dir);
    for (size_t n = 1; status != GRAFT_OK; n++) {
        failing_init(&f, &mem, n);
        status = open_save_load(&mem, scratch_path(&dir, "store"), &error);
        assert_int_equal(status, f.failed ? GRAFT_NO_MEMORY : GRAFT_OK);
        assert_int_equal(atomic_load(&mem.bytes_in_use), 0);
        assert_true(scratch_count(&dir) <= 1); /* nothing half written */
    }
    assert_true(f.calls > 6);
    scratch_close(&dir);
}

static void learning_and_proposing_take_no_memory(void **state)
{
    (void)state;
    struct failing_allocator f;
    struct mem mem;
    struct ngram_store *s = NULL;
    failing_init(&f, &mem, 0);
    MUST(ngram_store_open(&mem, &OPTIONS, &s, error));
    size_t calls = f.calls;
    add(s, "abcdefgh");
    expect(s, "abcd", 4, "efgh", 4);
    assert_int_equal(f.calls, calls);
    ngram_store_close(&s);
}

static void options_that_make_no_sense_are_refused(void **state)
{
    (void)state;
    struct ngram_store *s = NULL;
    struct ngram_store_options o = {.n_vocab = 0, .max_entries = 100};
    assert_int_equal(ngram_store_open(NULL, &o, &s, NULL), GRAFT_INVALID_ARGUMENT);
    o = (struct ngram_store_options){.n_vocab = 1, .max_entries = SIZE_MAX};
    assert_int_equal(ngram_store_open(NULL, &o, &s, NULL), GRAFT_INVALID_ARGUMENT);
    assert_null(s);
    ngram_store_close(&s);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(what_came_in_one_text_is_proposed_in_another),
        cmocka_unit_test(what_came_most_often_is_proposed),
        cmocka_unit_test(only_what_is_new_is_learned),
        cmocka_unit_test(tokens_outside_the_vocabulary_are_not_learned),
        cmocka_unit_test(memory_is_bounded_and_what_comes_often_stays),
        cmocka_unit_test(threads_share_a_store_and_the_last_closes_it),
        cmocka_unit_test(a_store_comes_back_from_its_file),
        cmocka_unit_test(a_file_that_cannot_be_written_is_told),
        cmocka_unit_test(every_damaged_byte_and_every_cut_is_found),
        cmocka_unit_test(a_hostile_file_is_refused_though_its_sum_fits),
        cmocka_unit_test(every_allocation_may_fail),
        cmocka_unit_test(learning_and_proposing_take_no_memory),
        cmocka_unit_test(options_that_make_no_sense_are_refused),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
