/* test_constraint_gbnf.c: what GBNF grammars match and refuse, and what their errors say. */
#include "unit/constraint_fixture.h"

#include "unit/failing_allocator.h"

static void check(const char *grammar, const char *const *yes, const char *const *no)
{
    assert_texts(&words, gbnf(&words, grammar), yes, no);
}

static void literals_and_alternatives_match_exactly(void **state)
{
    (void)state;
    check("root ::= \"yes\" | \"no\" | \"\"", LIST("yes", "no", ""), LIST("y", "yesno", "yes "));
    check("root ::= \"a\\\"b\\\\c\\n\\t\\x41\\u00e9\\U0001F600\"", LIST("a\"b\\c\n\tAé😀"),
          LIST("a\"b\\c\n\tAe😀"));
    check("root ::= ()", LIST(""), LIST("a"));
}

static void classes_match_code_points(void **state)
{
    (void)state;
    check("root ::= [a-cé0-9_-]", LIST("a", "c", "é", "7", "-", "_"), LIST("d", "è", "", "ab"));
    check("root ::= [^a-c\\n]+", LIST("d", "é", "漢😀\t"), LIST("a", "\n", "", "da"));
    check("root ::= [\\x80-\\u07ff]", LIST("\xC2\x80", "\u07ff"), LIST("\x7f", "\u0800"));
    check("root ::= .", LIST("a", "\n", "é", "漢", "😀", "\uD7FF", "\uE000"),
          LIST("", "ab", "\x80", "\xC3", "\xED\xA0\x80", "\xF4\x90\x80\x80", "\xC0\x80"));
    check("root ::= [\\]\\[]", LIST("[", "]"), LIST("\\"));
}

static void repetitions_count(void **state)
{
    (void)state;
    check("root ::= \"a\"* \"b\"+ \"c\"?", LIST("b", "aabbc"), LIST("", "a", "ac", "bcc"));
    check("root ::= (\"ab\" | \"c\"){2,3}", LIST("abab", "cc", "abcab"), LIST("ab", "cccc"));
    check("root ::= [é]{2}", LIST("éé"), LIST("é", "ééé"));
    check("root ::= \"n\"{3,}", LIST("nnn", "nnnnnnn"), LIST("nn"));
    check("root ::= \"x\"{0} \"y\"{0,0}", LIST(""), LIST("x", "y"));
    check("root ::= ((\"a\"*)*)*", LIST("", "aaa"), LIST("b"));
    check("root ::= (\"a\"? \"b\"?)*", LIST("", "abba"), LIST("c"));
    struct matcher *m = gbnf(&words, "root ::= (.{5} \"-\"){1000} ");
    char text[6001] = "";
    for (size_t i = 0; i < 6000; i++) {
        text[i] = i % 6 == 5 ? '-' : 'z';
    }
    ASSERT_MATCHES(&words, m, text);
    text[5994] = '\0';
    ASSERT_REFUSES(&words, m, text);
    matcher_close(&m);
}

static void rules_call_and_recurse(void **state)
{
    (void)state;
    check("# sums\nroot ::= term ((\"+\" | \"-\") term)*\nterm  ::= num # a number\n | \"(\" root "
          "\")\"\nnum ::=\n  [0-9]+\n",
          LIST("1", "12+(3-4)", "((7))"), LIST("", "1+", "(1", "1)", "+1"));
    check("root ::= \"(\" root \")\" | \"x\"", LIST("x", "((((x))))"), LIST("((x)", "()"));
    check("root ::= a\na ::= b \"!\" | b\nb ::= \"q\"", LIST("q", "q!"), LIST("!"));
}

static void nesting_ends_where_it_can_still_be_closed(void **state)
{
    (void)state;
    struct matcher *m = gbnf(&words, "root ::= \"(\" \" \"? root \")\" | \"x\"");
    size_t open = 0;
    matcher_reset(m);
    while (matcher_accept(m, words.of_byte['('])) {
        open++;
        assert_true(open <= 1000);
        if (open > 990) {
            check_mask(&words, m, "(((...");
        }
    }
    assert_int_equal(open, 1000);
    assert_true(matcher_accept(m, words.of_byte['x']));
    for (; open > 0; open--) {
        assert_false(matcher_is_complete(m));
        assert_true(matcher_accept(m, words.of_byte[')']));
    }
    assert_true(matcher_is_complete(m));
    matcher_close(&m);
}

static void what_never_ends_is_not_begun(void **state)
{
    (void)state;
    struct matcher *m = gbnf(&words, "root ::= \"a\" loop | \"b\"\nloop ::= \"x\" loop");
    assert_false(matcher_accept(m, words.of_byte['a']));
    assert_true(matcher_accept(m, words.of_byte['b']));
    matcher_close(&m);
}

static void masks_are_what_is_accepted(void **state)
{
    (void)state;
    static const struct {
        const char *grammar, *text;
    } cases[] = {
        {"root ::= .*", "Tom é 漢😀 \" \\ \n"},
        {"root ::= \"\\\"\" ([^\"\\\\\\x00-\\x1f] | \"\\\\\" [\"\\\\nt]){0,20} \"\\\"\"",
         "\"The cat é said \\\"\""},
        {"root ::= [a-z]{1,12} \" \" [A-Z] .{3,40} \".\"", "once Upon a 漢字 time."},
        {"root ::= (word \" \")* \"end\"\nword ::= [a-z]+", "the cat and end"},
        {"root ::= [^a]{2,5} | \"The cat\" .", "The cat!"},
        {"root ::= \"\\xF0\" [\\U00010000-\\U0010FFFF] [\\u0080-\\u07FF]?", "ð😀é"},
    };
    for (size_t i = 0; i < ARRAY_LEN(cases); i++) {
        struct matcher *m = gbnf(&words, cases[i].grammar);
        size_t size = strlen(cases[i].text);
        for (size_t n = 0; n <= size; n++) {
            assert_int_equal(feed(&words, m, cases[i].text, n), n);
            check_mask(&words, m, cases[i].text);
        }
        matcher_close(&m);
    }
}

static void check_error(const char *grammar, graft_status status, const char *message)
{
    graft_error error = {0};
    struct grammar *g = NULL;
    assert_int_equal(grammar_from_gbnf(NULL, grammar, strlen(grammar), &g, &error), status);
    assert_null(g);
    if (strstr(error.message, message) == NULL) {
        fail_msg("\"%s\" is not in the error: %s", message, error.message);
    }
}

static void errors_say_where(void **state)
{
    (void)state;
    check_error("", GRAFT_FORMAT, "no rule \"root\"");
    check_error("root ::= \"a\"\nroot ::= \"b\"", GRAFT_FORMAT, "line 2, column 1: a rule of this");
    check_error("root ::= \"é\" x", GRAFT_FORMAT, "line 1, column 14: there is no rule \"x\"");
    check_error("root ::= \"a", GRAFT_FORMAT, "line 1, column 10: a text in quotes");
    check_error("root ::= \"a\nb\"", GRAFT_FORMAT, "line 1, column 10: a text in quotes");
    check_error("root ::= [a", GRAFT_FORMAT, "line 1, column 10: a class");
    check_error("root ::= []", GRAFT_FORMAT, "matches nothing");
    check_error("root ::= [z-a]", GRAFT_FORMAT, "column 11: a range");
    check_error("root ::= (\"a\"", GRAFT_FORMAT, "column 10: a group");
    check_error("root ::= \"a\")", GRAFT_FORMAT, "column 13: a bracket");
    check_error("root ::= \"\\q\"", GRAFT_FORMAT, "column 12: an unknown escape");
    check_error("root ::= \"\\x4\"", GRAFT_FORMAT, "hexadecimal");
    check_error("root ::= \"\\ud800\"", GRAFT_FORMAT, "no character of Unicode");
    check_error("root ::= \"a\"{", GRAFT_FORMAT, "a repetition is");
    check_error("root ::= \"a\"{2,1}", GRAFT_FORMAT, "below its minimum");
    check_error("root ::= \"a\"{65537}", GRAFT_FORMAT, "too large");
    check_error("root ::= *", GRAFT_FORMAT, "line 1, column 10: here a text");
    check_error("root ::= <think>", GRAFT_FORMAT, "tokens in <>");
    check_error("root \"a\"", GRAFT_FORMAT, "line 1, column 1: a rule begins");
    check_error("root ::= \"\xFF\"", GRAFT_FORMAT, "no UTF-8");
}

static void left_recursion_is_refused_by_name(void **state)
{
    (void)state;
    check_error("root ::= sum\nsum ::= sum \"+\" \"1\" | \"1\"", GRAFT_FORMAT,
                "rule \"sum\" is left-recursive");
    check_error("root ::= \"x\" | a\na ::= \"\" b\nb ::= \"y\"? a \"z\"", GRAFT_FORMAT,
                "left-recursive");
    check_error("root ::= (root)*", GRAFT_FORMAT, "rule \"root\" is left-recursive");
    check_error("root ::= \"x\" root", GRAFT_FORMAT, "none ends within a nesting of 1000");
}

static void hostile_sizes_are_refused(void **state)
{
    (void)state;
    char deep[2000] = "root ::= ";
    memset(deep + 9, '(', 1000);
    check_error(deep, GRAFT_FORMAT, "nested too deeply");
    check_error("root ::= ((((.{65536}){65536}) [a-z]{65536}){65536} [^é]{65536}){9}", GRAFT_LIMIT,
                "too large");
    struct buf many;
    buf_init(&many, NULL, 2 << 20);
    buf_puts(&many, "root ::= \"a\"\n");
    for (int i = 0; i < 70000; i++) {
        buf_printf(&many, "r%d ::= .\n", i);
    }
    check_error(many.data, GRAFT_LIMIT, "too large");
    buf_free(&many);
}

/* Every word of a text in turn may be one of a thousand things at once. */
static void ambiguity_is_bounded(void **state)
{
    (void)state;
    struct grammar *g = NULL;
    const char *text = "root ::= (a a a a a a)* \"!\"\na ::= (b | b b)* \nb ::= [a-z ]{0,900} "
                       "[a-z ]{0,900} [a-z ]{0,900} \"-\"";
    MUST(grammar_from_gbnf(NULL, text, strlen(text), &g, error));
    struct matcher *m = open_matcher(&words, g);
    for (int i = 0; i < 300; i++) {
        const uint32_t *mask;
        graft_error error = {0};
        graft_status status = matcher_mask(m, &mask, &error);
        assert_true(status == GRAFT_OK || status == GRAFT_LIMIT);
        if (status != GRAFT_OK || !matcher_accept(m, words.of_byte[i % 17 == 16 ? '-' : 'a'])) {
            break;
        }
    }
    matcher_close(&m);
}

static void lack_of_memory_is_an_error_and_leaves_nothing(void **state)
{
    (void)state;
    const char *text =
        "root ::= (word{2,70} \"\\n\")* [^é-û]\nword ::= [a-z0-9_.]+ | \"(\" root \")\"";
    bool failed = true;
    for (size_t n = 1; failed; n++) {
        struct failing_allocator f;
        struct mem mem;
        struct grammar *g = NULL;
        failing_init(&f, &mem, n);
        graft_status status = grammar_from_gbnf(&mem, text, strlen(text), &g, NULL);
        failed = f.failed;
        /* Only what gives back too much memory may do without it. */
        assert_true(status == GRAFT_OK || (failed && status == GRAFT_NO_MEMORY));
        grammar_release(&g);
        assert_int_equal(atomic_load(&mem.bytes_in_use), 0);
    }
}

/* Two to the 24th ways to say nothing. */
static void empty_rules_do_not_run_away(void **state)
{
    (void)state;
    char text[2000] = "root ::= a a\n";
    for (char c = 'a'; c < 'y'; c++) {
        size_t used = strlen(text);
        snprintf(text + used, sizeof text - used, "%c ::= %c %c\n", c, c + 1, c + 1);
    }
    size_t used = strlen(text);
    snprintf(text + used, sizeof text - used, "y ::= \"q\"?");
    struct grammar *g = NULL;
    struct matcher *m = NULL;
    struct matcher_options o = {.vocabulary = words.vocabulary};
    MUST(grammar_from_gbnf(NULL, text, strlen(text), &g, error));
    assert_int_equal(matcher_open(NULL, g, &o, &m, NULL), GRAFT_LIMIT);
    assert_null(m);
    grammar_release(&g);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(literals_and_alternatives_match_exactly),
        cmocka_unit_test(classes_match_code_points),
        cmocka_unit_test(repetitions_count),
        cmocka_unit_test(rules_call_and_recurse),
        cmocka_unit_test(nesting_ends_where_it_can_still_be_closed),
        cmocka_unit_test(what_never_ends_is_not_begun),
        cmocka_unit_test(masks_are_what_is_accepted),
        cmocka_unit_test(errors_say_where),
        cmocka_unit_test(left_recursion_is_refused_by_name),
        cmocka_unit_test(hostile_sizes_are_refused),
        cmocka_unit_test(ambiguity_is_bounded),
        cmocka_unit_test(empty_rules_do_not_run_away),
        cmocka_unit_test(lack_of_memory_is_an_error_and_leaves_nothing),
    };
    return cmocka_run_group_tests(tests, open_all, close_all);
}
