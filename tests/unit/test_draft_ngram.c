/* test_draft_ngram.c: proposals from the sequence itself, held against a search without an index.
 */
#include "unit/test_support.h"

#include "generate/draft/draft.h"
#include "unit/failing_allocator.h"
#include "unit/must.h"

enum { N = 600 };

static struct ngram *open_index(size_t capacity)
{
    struct ngram *g = NULL;
    MUST(ngram_open(NULL, capacity, &g, error));
    return g;
}

static void follow_text(struct ngram *g, const char *text)
{
    graft_token_id tokens[N];
    size_t n = strlen(text);
    for (size_t i = 0; i < n; i++) {
        tokens[i] = text[i];
    }
    ngram_follow(g, tokens, n);
}

static void expect(const struct ngram *g, int k, const char *text, int length)
{
    graft_token_id out[DRAFT_MOST];
    char found[DRAFT_MOST + 1] = {0};
    int l = 0, n = ngram_propose(g, k, out, &l);
    for (int i = 0; i < n; i++) {
        found[i] = (char)out[i];
    }
    assert_string_equal(found, text);
    assert_int_equal(n == 0 ? 0 : l, length);
}

static void what_followed_the_end_before_is_proposed(void **state)
{
    (void)state;
    struct ngram *g = open_index(100);
    follow_text(g, "the cat sat. the ca");
    expect(g, 4, "t sa", 4);
    follow_text(g, "the cat sat. the cat ran. xt ");
    expect(g, 4, "ran.", 2); /* the last "t " but this one */
    expect(g, 0, "", 0);
    follow_text(g, "the cat sat. the cat ran. xt #");
    expect(g, 4, "", 0);
    ngram_close(&g);
}

static void the_longest_end_counts_and_of_equal_ones_the_last(void **state)
{
    (void)state;
    struct ngram *g = open_index(100);
    follow_text(g, "abcd1 zbcd2 ycd3 abcd");
    expect(g, 1, "1", 4);
    follow_text(g, "abcd1 zbcd2 ycd3 abcd4 xbcd5 abcd");
    expect(g, 1, "4", 4);
    follow_text(g, "abcd1 zbcd2 ycd3 abcd4 xbcd5 abcd qbcd");
    expect(g, 1, " ", 3);
    ngram_close(&g);
}

static void a_repetition_is_proposed_beyond_the_end(void **state)
{
    (void)state;
    struct ngram *g = open_index(100);
    follow_text(g, "-xyxyxy");
    expect(g, 7, "xyxyxyx", 4);
    ngram_trim(g, 0);
    follow_text(g, "-aaa");
    expect(g, 8, "aaaaaaaa", 2);
    ngram_close(&g);
}

/* The same by looking at all of the sequence. */
static int search(const graft_token_id *tokens, size_t n, int k, graft_token_id *out)
{
    for (size_t length = NGRAM_MAX; length >= NGRAM_MIN; length--) {
        for (size_t p = n; p-- > length;) {
            if (n >= length &&
                memcmp(tokens + p - length, tokens + n - length, length * sizeof *tokens) == 0) {
                for (int i = 0; i < k; i++) {
                    size_t from = p + (size_t)i;
                    out[i] = from < n ? tokens[from] : out[from - n];
                }
                return k;
            }
        }
    }
    return 0;
}

static void an_index_finds_what_a_search_finds_also_after_trims(void **state)
{
    (void)state;
    struct rng rng;
    struct ngram *g = open_index(N);
    graft_token_id tokens[N];
    int found = 0;
    size_t n = 0;
    rng_init(&rng, 3, 0);
    for (int step = 0; step < 4000; step++) {
        uint32_t what = rng_u32(&rng) % 16;
        if (what == 0) {
            n = rng_u32(&rng) % (n + 1);
            ngram_trim(g, n);
        }
        for (uint32_t i = 0; i < what && n < N; i++) {
            tokens[n++] = (graft_token_id)(rng_u32(&rng) % 6);
        }
        ngram_follow(g, tokens, n);
        graft_token_id out[DRAFT_MOST], wanted[DRAFT_MOST];
        int k = (int)(rng_u32(&rng) % (DRAFT_MOST + 1)), has = search(tokens, n, k, wanted);
        assert_int_equal(ngram_propose(g, k, out, NULL), has);
        assert_memory_equal(out, wanted, (size_t)has * sizeof *out);
        found += has > 0;
    }
    assert_true(found > 2000);
    ngram_close(&g);
}

static void a_shorter_sequence_is_a_trim(void **state)
{
    (void)state;
    struct ngram *g = open_index(100);
    follow_text(g, "abcde abcdf abc");
    expect(g, 2, "df", 4);
    follow_text(g, "abcde abc");
    expect(g, 2, "de", 3);
    follow_text(g, "");
    expect(g, 2, "", 0);
    follow_text(g, "uvw.uv");
    expect(g, 2, "w.", 2);
    ngram_close(&g);
}

static void beyond_its_capacity_an_index_proposes_nothing(void **state)
{
    (void)state;
    struct ngram *g = open_index(8);
    follow_text(g, "abcdabcd");
    expect(g, 2, "ab", 4);
    follow_text(g, "abcdabcda");
    expect(g, 2, "", 0);
    follow_text(g, "abcdabcd");
    expect(g, 2, "ab", 4);
    follow_text(g, "abcdabcda");
    ngram_trim(g, 7);
    expect(g, 2, "da", 3);
    ngram_close(&g);
}

static void without_memory_an_index_is_not_opened_and_steps_take_none(void **state)
{
    (void)state;
    struct failing_allocator f;
    struct mem mem;
    struct ngram *g = NULL;
    graft_error error;
    graft_status status = GRAFT_NO_MEMORY;
    for (size_t n = 1; status != GRAFT_OK; n++) {
        failing_init(&f, &mem, n);
        status = ngram_open(&mem, 100, &g, &error);
        assert_int_equal(status, f.failed ? GRAFT_NO_MEMORY : GRAFT_OK);
        assert_true(g != NULL || atomic_load(&mem.bytes_in_use) == 0);
    }
    size_t calls = f.calls;
    follow_text(g, "abcabcabc");
    expect(g, 4, "abca", 4);
    assert_int_equal(f.calls, calls);
    ngram_close(&g);
    ngram_close(&g);
    assert_int_equal(atomic_load(&mem.bytes_in_use), 0);
    assert_int_equal(ngram_open(NULL, 0, &g, &error), GRAFT_INVALID_ARGUMENT);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(what_followed_the_end_before_is_proposed),
        cmocka_unit_test(the_longest_end_counts_and_of_equal_ones_the_last),
        cmocka_unit_test(a_repetition_is_proposed_beyond_the_end),
        cmocka_unit_test(an_index_finds_what_a_search_finds_also_after_trims),
        cmocka_unit_test(a_shorter_sequence_is_a_trim),
        cmocka_unit_test(beyond_its_capacity_an_index_proposes_nothing),
        cmocka_unit_test(without_memory_an_index_is_not_opened_and_steps_take_none),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
