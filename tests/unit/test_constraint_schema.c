/* test_constraint_schema.c: which JSON a schema's grammar generates, which keywords are refused, and what errors say. */
#include "unit/constraint_fixture.h"

#include "unit/failing_allocator.h"
#include "unit/failing_json.h"

static void check(const char *text, const char *const *yes, const char *const *no)
{
    assert_texts(&words, schema(&words, text), yes, no);
}

static void scalars_are_of_their_type(void **state)
{
    (void)state;
    check("{\"type\":\"boolean\"}", LIST("true", "false"),
          LIST("null", "\"true\"", "tru", "true "));
    check("{\"type\":[\"null\",\"integer\"]}", LIST("null", "0", "-1", "120"),
          LIST("-0", "01", "1.0", "1e3", "-", "", "true", "1234567890123456"));
    check("{\"type\":\"number\"}", LIST("0", "-0.5", "1e3", "2.50E-07", "-12"),
          LIST(".5", "1.", "01", "1e", "+1", "--1", "1e100"));
    check("{\"type\":\"string\",\"nullable\":true}",
          LIST("\"\"", "null", "\"a é \\n \\u00e9 \\ud83d\\ude00 \\/\""),
          LIST("\"", "\"\n\"", "\"\\x\"", "\"\\ud83d\"", "\"\\ude00\"", "\"\\u0000\"", "\"a\"b"));
}

static void strings_count_characters(void **state)
{
    (void)state;
    check("{\"type\":\"string\",\"minLength\":2,\"maxLength\":3}",
          LIST("\"ab\"", "\"é漢😀\"", "\"\\n\\u00e9\"", "\"\\ud83d\\ude00x\""),
          LIST("\"a\"", "\"abcd\"", "\"\\ud83d\\ude00\"", "\"\""));
    check("{\"type\":\"string\",\"maxLength\":0}", LIST("\"\""), LIST("\"a\""));
    check("{\"type\":\"string\",\"minLength\":1}", LIST("\"a\""), LIST("\"\""));
}

static void formats_give_what_exists(void **state)
{
    (void)state;
    check("{\"type\":\"string\",\"format\":\"date\"}",
          LIST("\"2024-02-29\"", "\"2023-12-31\"", "\"2000-02-29\"", "\"0001-01-01\""),
          LIST("\"2023-02-29\"", "\"1900-02-29\"", "\"2023-04-31\"", "\"2023-13-01\"",
               "\"0000-01-01\"", "\"2023-1-1\""));
    check("{\"format\":\"date-time\"}",
          LIST("\"2024-02-29T23:59:59Z\"", "\"1999-01-01T00:00:00.25+01:00\""),
          LIST("\"2024-02-29\"", "\"2024-02-29T24:00:00Z\"", "\"2024-02-29T23:59:59\""));
    check("{\"format\":\"time\"}", LIST("\"09:30:00Z\""), LIST("\"9:30:00Z\"", "\"09:60:00Z\""));
    check("{\"format\":\"uuid\"}", LIST("\"01234567-89ab-cdef-0123-456789abcdef\""),
          LIST("\"0123456789abcdef0123456789abcdef\"", "\"\""));
}

static void patterns_match_as_a_whole(void **state)
{
    (void)state;
    check("{\"pattern\":\"^[A-Z]{2}-\\\\d+$\"}", LIST("\"AB-1\"", "\"XY-2024\""),
          LIST("\"A-1\"", "\"AB-\"", "\"ab-1\""));
    check("{\"pattern\":\"^(a|bc)*?\\\\.x?$|^\\\"é\\\\\\\\$\"}",
          LIST("\".\"", "\"abca.x\"", "\"\\\"é\\\\\""), LIST("\"b.\"", "\"\\\"é\\\""));
    check("{\"pattern\":\"[^a-z\\\\s]\\\\w\\\\S.\"}", LIST("\"A_%é\"", "\"\\\"b\\\\ \""),
          LIST("\"a_%é\"", "\"A-%é\"", "\"A_ é\"", "\"A_%\\n\""));
}

static void integers_keep_their_bounds(void **state)
{
    (void)state;
    check("{\"type\":\"integer\",\"minimum\":-5,\"maximum\":120}",
          LIST("-5", "-1", "0", "9", "10", "99", "100", "120"), LIST("-6", "121", "-0", "05"));
    check("{\"type\":\"integer\",\"exclusiveMinimum\":9,\"exclusiveMaximum\":12.5}",
          LIST("10", "11", "12"), LIST("9", "13", "1"));
    check("{\"type\":\"integer\",\"maximum\":-10}", LIST("-10", "-11", "-123456"),
          LIST("-9", "0", "10"));
    check("{\"type\":\"integer\",\"minimum\":9223372036854775806}",
          LIST("9223372036854775806", "9223372036854775807"),
          LIST("9223372036854775805", "9223372036854775808", "1"));
    char text[120], number[24];
    for (int lo = -130; lo <= 130; lo += 13) {
        for (int hi = lo; hi <= 1130; hi += 61) {
            snprintf(text, sizeof text, "{\"type\":\"integer\",\"minimum\":%d,\"maximum\":%d}", lo,
                     hi);
            struct matcher *m = schema(&words, text);
            for (int value = lo - 3; value <= hi + 3; value++) {
                snprintf(number, sizeof number, "%d", value);
                if (matches(&words, m, number) != (value >= lo && value <= hi)) {
                    fail_msg("%s in %s", number, text);
                }
            }
            matcher_close(&m);
        }
    }
}

static void numbers_keep_their_bounds(void **state)
{
    (void)state;
    check("{\"type\":\"number\",\"minimum\":0,\"maximum\":1}",
          LIST("0", "0.0", "0.5", "1", "1.0", "1.00", "0.999"),
          LIST("1.01", "-0.1", "2", "-0", "1."));
    check("{\"type\":\"number\",\"exclusiveMinimum\":-0.25,\"exclusiveMaximum\":1.5}",
          LIST("-0.249", "-0.2", "0", "0.75", "1", "1.4", "1.49", "1.499"),
          LIST("-0.25", "-0.3", "-0.250", "1.5", "1.50", "1.51", "-1"));
    check("{\"type\":\"number\",\"minimum\":12.75}", LIST("12.75", "12.8", "12.751", "13", "99.1"),
          LIST("12.7", "12", "12.749", "1.9", "-13"));
    check("{\"type\":\"number\",\"exclusiveMinimum\":0,\"maximum\":0.001}",
          LIST("0.001", "0.0005", "0.0000001"), LIST("0", "0.0", "0.002", "0.0011"));
    check("{\"type\":\"number\",\"minimum\":2.5,\"maximum\":2.75}",
          LIST("2.5", "2.50", "2.6", "2.75", "2.750"), LIST("2", "2.", "2.49", "2.76", "2.8"));
    static const char *const ends[] = {"-2.05", "-1",   "-0.3", "0",   "0.07",
                                       "0.5",   "1.25", "3",    "10.1"};
    char text[120], number[24];
    for (size_t a = 0; a < ARRAY_LEN(ends); a++) {
        for (size_t b = a; b < ARRAY_LEN(ends); b++) {
            for (int open = 0; open < 4; open++) {
                snprintf(text, sizeof text, "{\"type\":\"number\",\"%s\":%s,\"%s\":%s}",
                         open & 1 ? "exclusiveMinimum" : "minimum", ends[a],
                         open & 2 ? "exclusiveMaximum" : "maximum", ends[b]);
                struct grammar *g = NULL;
                double lo = strtod(ends[a], NULL), hi = strtod(ends[b], NULL);
                bool none = lo == hi && open != 0;
                graft_status status = grammar_from_schema(NULL, text, strlen(text), &g, NULL);
                assert_int_equal(status, none ? GRAFT_FORMAT : GRAFT_OK);
                struct matcher *m = none ? NULL : open_matcher(&words, g);
                for (int k = -250; m != NULL && k <= 1100; k++) {
                    double value = k / 100.0;
                    snprintf(number, sizeof number, k % 7 != 0 ? "%.2f" : "%.4f", value);
                    bool in = (open & 1 ? value > lo : value >= lo) &&
                              (open & 2 ? value < hi : value <= hi);
                    if (strncmp(number, "-0.0000", 7) != 0 && matches(&words, m, number) != in) {
                        fail_msg("%s in %s", number, text);
                    }
                }
                matcher_close(&m);
            }
        }
    }
}

static void objects_have_their_members_in_order(void **state)
{
    (void)state;
    const char *text = "{\"type\":\"object\",\"properties\":{\"name\":{\"type\":\"string\"},"
                       "\"age\":{\"type\":\"integer\"},\"ok\":{\"type\":\"boolean\"}},"
                       "\"required\":[\"name\",\"ok\"]}";
    check(text,
          LIST("{\"name\":\"a\",\"ok\":true}", "{\"name\": \"a\", \"age\": 3, \"ok\": true}",
               "{\n  \"name\": \"a\",\n  \"ok\": false\n}", "{ \"name\":\"\",\n\t\"ok\":true }"),
          LIST("{}", "{\"name\":\"a\"}", "{\"ok\":true,\"name\":\"a\"}",
               "{\"name\":\"a\",\"ok\":true,}", "{\"name\":\"a\",\"ok\":true,\"x\":1}",
               "{\"name\":\"a\",  \"ok\":true}", "{\"name\" :\"a\",\"ok\":true}"));
    check("{\"properties\":{\"a\":{\"const\":1},\"b\":{\"const\":2},\"c\":{\"const\":3}},"
          "\"minProperties\":1,\"maxProperties\":2}",
          LIST("{\"a\":1}", "{\"b\":2,\"c\":3}", "{\"c\":3}"),
          LIST("{}", "{\"a\":1,\"b\":2,\"c\":3}"));
    check(
        "{\"type\":\"object\",\"required\":[\"x\"],\"additionalProperties\":{\"type\":\"integer\"},"
        "\"maxProperties\":2}",
        LIST("{\"x\":1}", "{\"x\":1,\"y\":2}"),
        LIST("{\"y\":1}", "{\"x\":1,\"y\":2,\"z\":3}", "{\"x\":\"a\"}"));
}

static void free_names_are_new_names(void **state)
{
    (void)state;
    const char *text = "{\"type\":\"object\",\"properties\":{\"ab\":{\"type\":\"integer\"},"
                       "\"abc\":{\"type\":\"integer\"},\"é\\\"\":{\"const\":0}},"
                       "\"additionalProperties\":{\"type\":\"null\"}}";
    check(text,
          LIST("{}", "{\"ab\":1,\"a\":null}", "{\"abcd\":null,\"b\":null,\"é\":null}",
               "{\"ab\":1,\"é\\\"\":0,\"x\":null}"),
          LIST("{\"ab\":null}", "{\"a\":null,\"a\":null}", "{\"abc\":null}", "{\"\":null}",
               "{\"x\":null,\"y\":null,\"x\":null}", "{\"a\":1}"));
    check("true",
          LIST("{\"a\":{\"a\":[{\"a\":1},{\"a\":2}]},\"b\":{\"a\":0}}", "[]", "[ 1, \"x\", {} ]",
               "null", "[[[[[[[[]]]]]]]]"),
          LIST("{\"a\":1,\"a\":2}", "[{\"k\":{\"a\":1},\"l\":2,\"k\":3}]", "[1,]", "{\"a\"}",
               "[[[[[[[[[]]]]]]]]]"));
}

static void arrays_count_their_elements(void **state)
{
    (void)state;
    check("{\"type\":\"array\",\"items\":{\"type\":\"integer\"},\"minItems\":1,\"maxItems\":3}",
          LIST("[1]", "[1,2]", "[ 1, 2,\n3 ]"), LIST("[]", "[1,2,3,4]", "[\"a\"]", "[1 2]"));
    check("{\"items\":{\"type\":\"boolean\"}}", LIST("[]", "[true,false,true]"), LIST("[1]"));
    check("{\"prefixItems\":[{\"type\":\"string\"},{\"type\":\"integer\"}]}", LIST("[\"a\",1]"),
          LIST("[]", "[\"a\"]", "[1,\"a\"]", "[\"a\",1,2]"));
    check("{\"prefixItems\":[{\"const\":1},{\"const\":2}],\"items\":{\"const\":3},\"minItems\":1,"
          "\"maxItems\":4}",
          LIST("[1]", "[1,2]", "[1,2,3]", "[1,2,3,3]"), LIST("[]", "[1,3]", "[1,2,3,3,3]"));
    check("{\"items\":[{\"const\":1}],\"additionalItems\":false,\"minItems\":0}", LIST("[]", "[1]"),
          LIST("[1,1]"));
    check("{\"type\":\"array\",\"maxItems\":0}", LIST("[]", "[ ]"), LIST("[1]"));
}

static void values_are_written_one_way(void **state)
{
    (void)state;
    check(
        "{\"enum\":[\"a\\\"b\",\"é\\n\",1,1.5,null,[1,{\"k\":2}]]}",
        LIST("\"a\\\"b\"", "\"é\\n\"", "1", "1.5", "null", "[1,{\"k\":2}]", "[ 1, { \"k\": 2 } ]"),
        LIST("\"a\"", "2", "\"\\u00e9\\n\""));
    check("{\"type\":\"string\",\"enum\":[\"a\",1]}", LIST("\"a\""), LIST("1"));
    check("{\"const\":{\"a\":[]}}", LIST("{\"a\":[]}"), LIST("{}"));
}

static void schemas_are_joined(void **state)
{
    (void)state;
    check("{\"anyOf\":[{\"type\":\"integer\"},{\"type\":\"string\",\"maxLength\":1}]}",
          LIST("1", "\"a\""), LIST("\"ab\"", "null"));
    check("{\"properties\":{\"a\":{\"const\":1},\"b\":{\"const\":2}},"
          "\"anyOf\":[{\"required\":[\"a\"]},{\"required\":[\"b\"]}]}",
          LIST("{\"a\":1}", "{\"b\":2}", "{\"a\":1,\"b\":2}"), LIST("{}"));
    check("{\"oneOf\":[{\"properties\":{\"k\":{\"const\":\"x\"},\"v\":{\"type\":\"integer\"}},"
          "\"required\":[\"k\",\"v\"]},{\"properties\":{\"k\":{\"const\":\"y\"}},\"required\":["
          "\"k\"]}]}",
          LIST("{\"k\":\"x\",\"v\":1}", "{\"k\":\"y\"}"),
          LIST("{\"k\":\"x\"}", "{\"k\":\"y\",\"v\":1}"));
    check("{\"allOf\":[{\"type\":[\"integer\",\"string\"],\"minimum\":3},{\"type\":\"number\","
          "\"maximum\":5,\"minimum\":4}]}",
          LIST("4", "5"), LIST("3", "6", "4.5", "\"a\""));
    check("{\"allOf\":[{\"properties\":{\"a\":{\"type\":\"integer\"}},\"required\":[\"a\"]},"
          "{\"properties\":{\"b\":{\"type\":\"null\"},\"a\":{\"maximum\":9,\"minimum\":9}}}]}",
          LIST("{\"a\":9}", "{\"a\":9,\"b\":null}"), LIST("{}", "{\"a\":8}"));
    check("{\"allOf\":[{\"enum\":[1,2,3]},{\"enum\":[2,3,4]},{\"const\":3}]}", LIST("3"),
          LIST("2"));
}

static void references_recurse(void **state)
{
    (void)state;
    check("{\"$ref\":\"#/$defs/tree\",\"$defs\":{\"tree\":{\"type\":\"object\",\"properties\":{"
          "\"v\":{\"type\":\"integer\"},\"kids\":{\"type\":\"array\",\"items\":{\"$ref\":"
          "\"#/$defs/tree\"}}},\"required\":[\"v\"],\"additionalProperties\":false}}}",
          LIST("{\"v\":1}", "{\"v\":1,\"kids\":[{\"v\":2,\"kids\":[{\"v\":3}]},{\"v\":4}]}"),
          LIST("{\"kids\":[]}", "{\"v\":1,\"kids\":[1]}"));
    check("{\"properties\":{\"next\":{\"anyOf\":[{\"$ref\":\"#\"},{\"type\":\"null\"}]}},"
          "\"required\":[\"next\"]}",
          LIST("{\"next\":null}", "{\"next\":{\"next\":{\"next\":null}}}"), LIST("{}"));
    check("{\"definitions\":{\"a/b\":{\"type\":\"integer\"}},\"$ref\":\"#/definitions/a~1b\","
          "\"minimum\":3,\"maximum\":3}",
          LIST("3"), LIST("2"));
}

static void check_error(const char *text, graft_status status, const char *message)
{
    graft_error error = {0};
    struct grammar *g = NULL;
    assert_int_equal(grammar_from_schema(NULL, text, strlen(text), &g, &error), status);
    assert_null(g);
    if (strstr(error.message, message) == NULL) {
        fail_msg("\"%s\" is not in the error: %s", message, error.message);
    }
}

static void what_cannot_be_held_to_is_refused_by_name(void **state)
{
    (void)state;
    static const struct {
        const char *schema, *named;
    } cases[] = {
        {"{\"not\":{}}", "\"not\" at #"},
        {"{\"properties\":{\"a\":{\"items\":{\"uniqueItems\":true}}}}",
         "\"uniqueItems\" at #/properties/a/items"},
        {"{\"patternProperties\":{}}", "patternProperties"},
        {"{\"if\":{}}", "\"if\""},
        {"{\"contains\":{}}", "contains"},
        {"{\"type\":\"number\",\"multipleOf\":0.1}", "multipleOf"},
        {"{\"format\":\"email\"}", "format"},
        {"{\"pattern\":\"(?=a)\"}", "look-around"},
        {"{\"pattern\":\"(a)\\\\1\"}", "not known here (near"},
        {"{\"pattern\":\"a\",\"maxLength\":1}", "pattern"},
        {"{\"oneOf\":[{\"type\":\"integer\"},{\"type\":\"number\"}]}", "branch 0 and branch 1"},
        {"{\"$ref\":\"other.json\"}", "$ref"},
        {"{\"nullable\":true}", "nullable"},
        {"{\"allOf\":[{\"pattern\":\"a\"},{\"pattern\":\"b\"}]}", "pattern"},
        {"{\"enum\":[1],\"minimum\":0}", "enum"},
        {"{\"frobnicate\":1}", "frobnicate"},
    };
    for (size_t i = 0; i < ARRAY_LEN(cases); i++) {
        check_error(cases[i].schema, GRAFT_UNSUPPORTED, cases[i].named);
    }
}

static void what_is_wrong_is_said(void **state)
{
    (void)state;
    check_error("{\"type\":\n \"integer\"", GRAFT_FORMAT, "line 2");
    check_error("[]", GRAFT_FORMAT, "# is no schema");
    check_error("{\"properties\":{\"a\":3}}", GRAFT_FORMAT, "#/properties/a is no schema");
    check_error("{\"type\":\"text\"}", GRAFT_FORMAT, "\"type\" at # is none of");
    check_error("{\"minLength\":-1}", GRAFT_FORMAT, "minLength");
    check_error("{\"minLength\":1.5}", GRAFT_FORMAT, "minLength");
    check_error("{\"minimum\":\"a\"}", GRAFT_FORMAT, "minimum");
    check_error("{\"required\":\"a\"}", GRAFT_FORMAT, "required");
    check_error("{\"anyOf\":[]}", GRAFT_FORMAT, "anyOf");
    check_error("{\"$ref\":\"#/$defs/none\"}", GRAFT_FORMAT, "refers to \"#/$defs/none\"");
    check_error("false", GRAFT_FORMAT, "no text satisfies rule \"#\"");
    check_error("{\"type\":\"integer\",\"minimum\":2,\"maximum\":1}", GRAFT_FORMAT, "no text");
    check_error("{\"$ref\":\"#\"}", GRAFT_FORMAT, "left-recursive");
    check_error("{\"allOf\":[{\"$ref\":\"#\"}]}", GRAFT_LIMIT, "refers to itself");
    check_error("{\"properties\":{\"a\":{\"$ref\":\"#\"}},\"required\":[\"a\"]}", GRAFT_FORMAT,
                "no text");
}

static void masks_are_what_is_accepted(void **state)
{
    (void)state;
    static const struct {
        const char *schema, *text;
    } cases[] = {
        {"true", "{\"name\": \"Tom é\", \"namely\": [1, -2.5e3, {\"name\": null}]}"},
        {"{\"properties\":{\"name\":{\"type\":\"string\",\"maxLength\":12},\"n\":{\"type\":"
         "\"number\","
         "\"minimum\":0.25,\"maximum\":7}},\"required\":[\"name\"],\"additionalProperties\":true}",
         "{\n  \"name\": \"The cat \\u00e9😀\",\n  \"n\": 0.75, \"names\": \"a\" }"},
        {"{\"enum\":[\"the cat\",\"the dog\",\"then\"]}", "\"the dog\""},
        {"{\"type\":\"array\",\"items\":{\"format\":\"date\"},\"maxItems\":3}",
         "[\"2024-02-29\", \"1999-12-31\"]"},
    };
    for (size_t i = 0; i < ARRAY_LEN(cases); i++) {
        struct matcher *m = schema(&words, cases[i].schema);
        size_t size = strlen(cases[i].text);
        for (size_t n = 0; n <= size; n++) {
            assert_int_equal(feed(&words, m, cases[i].text, n), n);
            check_mask(&words, m, cases[i].text);
        }
        matcher_close(&m);
    }
}

static const char large_schema[] =
    "{\"$defs\":{\"t\":{\"type\":\"object\",\"properties\":{\"a\":{\"type\":\"string\","
    "\"maxLength\":3},"
    "\"b\":{\"$ref\":\"#/$defs/"
    "t\"}},\"additionalProperties\":{\"enum\":[1,\"x\"]}}},\"anyOf\":[{\"$ref\":"
    "\"#/$defs/t\"},{\"allOf\":[{\"$ref\":\"#/$defs/"
    "t\"},{\"required\":[\"a\"]}]},{\"type\":\"array\",\"items\":true,"
    "\"prefixItems\":[{\"pattern\":\"[a-c]{3}x|y\"},{\"format\":\"date\"}],\"maxItems\":5},{"
    "\"type\":\"number\","
    "\"minimum\":0.5}]}";

static void lack_of_memory_is_an_error_and_leaves_nothing(void **state)
{
    (void)state;
    bool failed = true;
    for (size_t n = 1; failed; n++) {
        struct failing_allocator f;
        struct mem mem;
        struct grammar *g = NULL;
        failing_init(&f, &mem, n);
        graft_status status =
            grammar_from_schema(&mem, large_schema, strlen(large_schema), &g, NULL);
        failed = f.failed;
        /* Only what gives back too much memory may do without it. */
        assert_true(status == GRAFT_OK || (failed && status == GRAFT_NO_MEMORY));
        grammar_release(&g);
        assert_int_equal(atomic_load(&mem.bytes_in_use), 0);
    }
    failed = true;
    for (size_t n = 1; failed; n++) {
        struct mem mem;
        struct grammar *g = NULL;
        mem_init(&mem, NULL);
        graft_error error = {0};
        failing_json_begin(n);
        graft_status status =
            grammar_from_schema(&mem, large_schema, strlen(large_schema), &g, &error);
        failed = failing_json_end();
        /* While it parses, jansson may take its own lack of memory for an error in the text. */
        bool parsing = strncmp(error.message, "JSON, line", 10) == 0;
        if (failed && status != GRAFT_NO_MEMORY && !parsing) {
            fail_msg("allocation %zu: %s", n, error.message);
        }
        assert_int_equal(status != GRAFT_OK, failed);
        grammar_release(&g);
        assert_int_equal(atomic_load(&mem.bytes_in_use), 0);
    }
}

static void lack_of_memory_opens_no_matcher(void **state)
{
    (void)state;
    struct grammar *g = NULL;
    bool failed = true;
    MUST(grammar_from_schema(NULL, large_schema, strlen(large_schema), &g, error));
    for (size_t n = 1; failed; n++) {
        struct failing_allocator f;
        struct mem mem;
        struct matcher *m = NULL;
        struct matcher_options o = {.vocabulary = NULL};
        failing_init(&f, &mem, n);
        graft_status status =
            vocabulary_open(&mem, words.tokenizer, words.n_vocab, &o.vocabulary, NULL);
        if (status == GRAFT_OK) {
            status = matcher_open(&mem, g, &o, &m, NULL);
        }
        failed = f.failed;
        assert_int_equal(status, failed ? GRAFT_NO_MEMORY : GRAFT_OK);
        matcher_close(&m);
        vocabulary_release(&o.vocabulary);
        assert_int_equal(atomic_load(&mem.bytes_in_use), 0);
    }
    grammar_release(&g);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(scalars_are_of_their_type),
        cmocka_unit_test(strings_count_characters),
        cmocka_unit_test(formats_give_what_exists),
        cmocka_unit_test(patterns_match_as_a_whole),
        cmocka_unit_test(integers_keep_their_bounds),
        cmocka_unit_test(numbers_keep_their_bounds),
        cmocka_unit_test(objects_have_their_members_in_order),
        cmocka_unit_test(free_names_are_new_names),
        cmocka_unit_test(arrays_count_their_elements),
        cmocka_unit_test(values_are_written_one_way),
        cmocka_unit_test(schemas_are_joined),
        cmocka_unit_test(references_recurse),
        cmocka_unit_test(what_cannot_be_held_to_is_refused_by_name),
        cmocka_unit_test(what_is_wrong_is_said),
        cmocka_unit_test(masks_are_what_is_accepted),
        cmocka_unit_test(lack_of_memory_is_an_error_and_leaves_nothing),
        cmocka_unit_test(lack_of_memory_opens_no_matcher),
    };
    return cmocka_run_group_tests(tests, open_all, close_all);
}
