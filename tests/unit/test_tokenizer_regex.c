/* test_tokenizer_regex.c: Oniguruma's patterns through PCRE2: what they match, and what is refused;
 * the trie; the printable form of bytes.
 */
#include "model/tokenizer/tokenizer_internal.h"

#include "unit/failing_allocator.h"
#include "unit/test_support.h"

static struct pattern *compile(const char *regex)
{
    struct pattern *p = NULL;
    graft_error error;
    if (pattern_open(NULL, regex, strlen(regex), false, &p, &error))
        fail_msg("%s: %s", regex, error.message);
    return p;
}

/* All matches of regex in text, joined by '|'. */
static void assert_matches(const char *regex, const char *text, const char *expected)
{
    struct pattern *p = compile(regex);
    struct match_state *state = NULL;
    struct buf out;
    size_t start, end, from = 0, size = strlen(text);
    buf_init(&out, NULL, SIZE_MAX);
    buf_puts(&out, "");
    while (from <= size &&
           pattern_find(p, &state, text, size, from, &start, &end, NULL) == GRAFT_OK) {
        buf_printf(&out, "%s%.*s", out.size ? "|" : "", (int)(end - start), text + start);
        from = end > start ? end : end + 1;
    }
    if (strcmp(out.data, expected) != 0)
        fail_msg("%s in '%s' gives '%s', not '%s'", regex, text, out.data, expected);
    buf_free(&out);
    match_state_free(&state);
    pattern_close(&p);
}

static void patterns_mean_what_oniguruma_means(void **state)
{
    (void)state;
    static const struct {
        const char *regex, *text, *matches;
    } cases[] = {
        {"\\s+",
         "a \t\n\xC2\x85\xC2\xA0\xE2\x80\xA8\xE3\x80\x80"
         "b",
         " \t\n\xC2\x85\xC2\xA0\xE2\x80\xA8\xE3\x80\x80"},
        {"\\s",
         "a\xE1\xA0\x8E"
         "b",
         ""}, /* U+180E is no space */
        {"\\S+",
         "a\xE1\xA0\x8E"
         "b c",
         "a\xE1\xA0\x8E"
         "b|c"},
        {"[^\\s]+", "ab c", "ab|c"},
        {"[^\\S\\n]+", "a \t\n b", " \t| "},
        {"[\\s-]+", "a - b", " - "},
        {"\\w+", "a_1\xC3\xA9\xC2\xBD-\xE2\x92\xB6", "a_1\xC3\xA9\xC2\xBD|\xE2\x92\xB6"},
        {"\\W+", "a-+b", "-+"},
        {"[\\w.]+", "a.b-c", "a.b|c"},
        {"\\d+", "12\xD9\xA3x", "12\xD9\xA3"},
        {"\\D+", "1ab2", "ab"},
        {"\\h+|\\H", "xFa0", "x|Fa0"},
        {"[\\h]+", "xFa0", "Fa0"},
        {"\\bb+\\b|\\Bc", "bb abbc", "bb|c"},
        {"\\p{Lu}|\\P{L}|\\p{^L}", "aB1", "B|1"},
        {"[\\p{L}&&[^a-c]]+", "abcdefab", "def"},
        {"[a-z&&[^aeiou]&&[^x-z]]+", "abcxyzdef", "bc|d|f"},
        {"[^a-z&&[^aeiou]]+", "abEi", "a|Ei"},
        {"[a-d&&b-f]+", "abcdef", "bcd"},
        {"a{2}+", "aaaaa", "aaaa"},
        {"(?:ab){1,2}*c", "abababc", "abababc"},
        {"[0-9]{,2}x", "123x", "23x"},
        {"a{1,}?b", "aab", "aab"},
        {"x{y|x{}", "x{y x{}", "x{y|x{}"},
        {"a++b|cd*+e?+", "aab cddex", "aab|cdde"},
        {"a.c", "a\nc abc", "abc"},
        {"(?m)a.c", "a\nc", "a\nc"},
        {"(?m:a.)c(?-m:.)?", "a\nc\n", "a\nc"},
        {"^a|b$", "ab\nab", "a|b|a|b"},
        {"\\Aa|b\\z", "ab\nab", "a|b"},
        {"(?i:'s)|(?i)LL", "'S ll", "'S|ll"},
        {"(?>a+)b|(?<=x)y|(?<!x)z", "aab xy az", "aab|y|z"},
        {"(a)(b)", "ab", "ab"},
        {"\\x41\\x{42}\\u0043\\x9", "ABC\t", "ABC\t"},
        {"[\\x41-\\u0043\\]\\-\\b]+", "A]-D\b", "A]-|\b"},
        {"\\.\\{\\|\\/", ".{|/", ".{|/"},
        {"\\t\\r\\n\\f\\v\\a\\e", "\t\r\n\f\v\a\x1B", "\t\r\n\f\v\a\x1B"},
        {"\xC3\xA9+", "\xC3\xA9\xC3\xA9", "\xC3\xA9\xC3\xA9"},
    };
    for (size_t i = 0; i < ARRAY_LEN(cases); i++)
        assert_matches(cases[i].regex, cases[i].text, cases[i].matches);
}

static void what_cannot_be_meant_is_refused_by_name(void **state)
{
    (void)state;
    static const struct {
        const char *regex, *part;
    } cases[] = {
        {"(a)\\1", "the escape \\1"},
        {"\\k<x>", "the escape \\k"},
        {"\\G", "the escape \\G"},
        {"[\\W]", "the escape \\W"},
        {"[\\A]", "the escape \\A"},
        {"(*COMMIT)a", "(*VERB)"},
        {"(?C1)a", "unknown group"},
        {"(?R)", "unknown group"},
        {"(?<n>a)", "unknown group"},
        {"(?P<n>a)", "unknown group"},
        {"(?x) a", "unknown group"},
        {"(?i", "unfinished group"},
        {"(a", "group without its end"},
        {"a)", "unopened )"},
        {"[", "without its end"},
        {"[]", "empty character class"},
        {"[a[b]]", "class within a class"},
        {"[a&&", "class"},
        {"[a&&[b[c]]]", "class within a class"},
        {"[a&&[b]c]", "intersection"},
        {"[a&&[b&&c]]", "&& within"},
        {"\\p", "\\p without"},
        {"\\p{", "\\p without"},
        {"\\p{L-}", "odd property"},
        {"\\p{Nonsense}", "unknown"},
        {"\\x{110000000}", "malformed \\x{"},
        {"\\x{41", "malformed \\x{"},
        {"\\xg", "malformed \\x"},
        {"\\u004", "malformed \\x or"},
        {"*a", "repeat of nothing"},
        {"a|+", "repeat of nothing"},
        {"({2})", "repeat of nothing"},
        {"a{2}?", "{n}?"},
        {"a\\", "backslash"},
        {"(?<=a+)b", "lookbehind"},
    };
    for (size_t i = 0; i < ARRAY_LEN(cases); i++) {
        struct pattern *p = NULL;
        graft_error error = {0};
        graft_status status =
            pattern_open(NULL, cases[i].regex, strlen(cases[i].regex), false, &p, &error);
        assert_int_equal(status, GRAFT_UNSUPPORTED);
        assert_null(p);
        if (!strstr(error.message, cases[i].part))
            fail_msg("%s: '%s' does not say '%s'", cases[i].regex, error.message, cases[i].part);
    }
}

static void large_patterns_are_refused(void **state)
{
    (void)state;
    struct pattern *p = NULL;
    char deep[200];
    char *wide = malloc(MAX_PATTERN_BYTES + 1);
    assert_non_null(wide);
    memset(wide, 'a', MAX_PATTERN_BYTES + 1);
    assert_int_equal(pattern_open(NULL, wide, MAX_PATTERN_BYTES + 1, false, &p, NULL), GRAFT_LIMIT);
    for (size_t i = 0; i + 1 < MAX_PATTERN_BYTES; i += 2)
        memcpy(wide + i, "\\w", 2);
    assert_int_equal(pattern_open(NULL, wide, MAX_PATTERN_BYTES, false, &p, NULL), GRAFT_LIMIT);
    free(wide);
    memset(deep, '(', 100);
    memset(deep + 100, ')', 100);
    assert_int_equal(pattern_open(NULL, deep, 200, false, &p, NULL), GRAFT_UNSUPPORTED);
    static const char towers[] = "(?:(?:(?:abc){999}){999}){999}";
    assert_int_equal(pattern_open(NULL, towers, strlen(towers), false, &p, NULL),
                     GRAFT_UNSUPPORTED);
    assert_int_equal(pattern_open(NULL, "", 0, true, &p, NULL), GRAFT_FORMAT);
    assert_int_equal(pattern_open(NULL, "\xFF", 1, false, &p, NULL), GRAFT_FORMAT);
    assert_null(p);
}

static void compiling_and_matching_survive_lack_of_memory(void **state)
{
    (void)state;
    for (size_t n = 1;; n++) {
        struct failing_allocator failing;
        struct mem mem;
        struct pattern *p = NULL;
        struct match_state *match = NULL;
        size_t start = 0, end = 0;
        failing_init(&failing, &mem, n);
        graft_status status = pattern_open(&mem, "[a-z&&[^x]]{1,2}+\\s", 19, false, &p, NULL);
        if (!status)
            status = pattern_find(p, &match, "ab cx ", 6, 0, &start, &end, NULL);
        match_state_free(&match);
        pattern_close(&p);
        assert_int_equal(atomic_load(&mem.bytes_in_use), 0);
        if (status != GRAFT_NO_MEMORY || !failing.failed) { /* PCRE2 does without its JIT */
            assert_int_equal(status, GRAFT_OK);
            assert_int_equal(end, 3);
        }
        if (!failing.failed)
            break;
    }
}

static void literals_are_found(void **state)
{
    (void)state;
    struct pattern *p = NULL;
    struct match_state *match = NULL;
    size_t start, end;
    assert_int_equal(pattern_open(NULL, "aab", 3, true, &p, NULL), GRAFT_OK);
    assert_true(pattern_is_literal(p));
    assert_int_equal(pattern_find(p, &match, "aaab\xFF", 5, 0, &start, &end, NULL), GRAFT_OK);
    assert_true(start == 1 && end == 4);
    assert_int_equal(pattern_find(p, &match, "aaab", 4, 2, &start, &end, NULL), GRAFT_NOT_FOUND);
    assert_int_equal(pattern_find(p, &match, "aa", 2, 0, &start, &end, NULL), GRAFT_NOT_FOUND);
    pattern_close(&p);
}

static void a_trie_finds_what_it_was_given(void **state)
{
    (void)state;
    enum { KEYS = 5000 };
    static char texts[KEYS][12];
    struct trie_key *keys = calloc(KEYS, sizeof *keys);
    struct trie trie;
    uint32_t seed = 5;
    assert_non_null(keys);
    for (int i = 0; i < KEYS; i++) {
        seed = seed * 1664525 + 1013904223;
        uint32_t length = 1 + (seed >> 16) % 8;
        for (uint32_t k = 0; k < length; k++) {
            seed = seed * 1664525 + 1013904223;
            texts[i][k] = (char)((seed >> 20) % (i % 2 ? 256 : 3));
        }
        keys[i] = (struct trie_key){texts[i], length, i};
    }
    assert_int_equal(trie_build(&trie, NULL, keys, KEYS, NULL), GRAFT_OK);
    for (int i = 0; i < KEYS; i++) {
        int32_t at = 0;
        for (uint32_t k = 0; k < keys[i].length && at >= 0; k++)
            at = trie_step(&trie, at, (uint8_t)keys[i].text[k]);
        assert_true(at > 0);
        int32_t found = trie.value[at]; /* an equal key of a lower value counts */
        assert_true(found >= 0 && found <= keys[i].value);
        assert_memory_equal(texts[found], keys[i].text, keys[i].length);
    }
    assert_int_equal(trie_step(&trie, 0, texts[0][0] == 'z' ? 'y' : 'z') >= 0 && trie.size == 1, 0);
    trie_free(&trie);
    free(keys);
}

static void bytes_have_printable_forms(void **state)
{
    (void)state;
    bool seen[0x144] = {false};
    for (int b = 0; b < 256; b++) {
        uint32_t code = byte_char((uint8_t)b);
        assert_true(code < 0x144 && !seen[code]);
        seen[code] = true;
        assert_int_equal(byte_from_char(code), b);
    }
    assert_int_equal(byte_char(' '), 0x120);
    assert_int_equal(byte_char('\n'), 0x10A);
    assert_int_equal(byte_from_char(' '), -1);
    assert_int_equal(byte_from_char(0x144), -1);
    assert_int_equal(byte_token_value("<0xfA>", 6), 0xFA);
    assert_int_equal(byte_token_value("<0xg0>", 6), -1);
    assert_int_equal(byte_token_value("<0x0A", 5), -1);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(patterns_mean_what_oniguruma_means),
        cmocka_unit_test(what_cannot_be_meant_is_refused_by_name),
        cmocka_unit_test(large_patterns_are_refused),
        cmocka_unit_test(compiling_and_matching_survive_lack_of_memory),
        cmocka_unit_test(literals_are_found),
        cmocka_unit_test(a_trie_finds_what_it_was_given),
        cmocka_unit_test(bytes_have_printable_forms),
    };
    return cmocka_run_group_tests_name("tokenizer patterns", tests, NULL, NULL);
}
