/* UTF-8 and JSON. */
#include "test_support.h"

#include "failing_allocator.h"

static void every_code_point_survives_encoding(void **state)
{
    (void)state;
    for (uint32_t code = 0; code <= 0x110000; code++) {
        char text[4];
        uint32_t back = 0;
        int length = utf8_encode(code, text);
        if ((code >= 0xD800 && code < 0xE000) || code > 0x10FFFF) {
            assert_int_equal(length, 0);
            continue;
        }
        if (utf8_decode(text, (size_t)length, &back) != length || back != code)
            fail_msg("U+%04X became U+%04X", code, back);
        if (length > 1 && utf8_decode(text, (size_t)length - 1, &back))
            fail_msg("U+%04X was decoded though cut off", code);
    }
}

static void malformed_sequences_are_not_decoded(void **state)
{
    (void)state;
    static const char *const bad[] = {
        "\x80",             /* continuation alone */
        "\xC0\xAF",         /* overlong */
        "\xC1\xBF",         /* overlong */
        "\xE0\x9F\xBF",     /* overlong */
        "\xF0\x8F\xBF\xBF", /* overlong */
        "\xED\xA0\x80",     /* surrogate */
        "\xF4\x90\x80\x80", /* above U+10FFFF */
        "\xF5\x80\x80\x80",
        "\xFF",
        "\xC3(",
        "\xE2\x82(",
        "\xE2(\x82",
        "\xF0\x9F\x98(",
    };
    uint32_t code = 42;
    for (size_t i = 0; i < ARRAY_LEN(bad); i++)
        assert_int_equal(utf8_decode(bad[i], strlen(bad[i]), &code), 0);
    assert_int_equal(utf8_decode("", 0, &code), 0);
    assert_int_equal(code, 42);
}

static void an_unfinished_character_is_held_back(void **state)
{
    (void)state;
    const char *text = "a\xC3\xA9\xE2\x82\xAC\xF0\x9F\x98\x80z";
    static const size_t complete[] = {0, 1, 1, 3, 3, 3, 6, 6, 6, 6, 10, 11};
    for (size_t n = 0; n < ARRAY_LEN(complete); n++)
        assert_int_equal(utf8_complete(text, n), complete[n]);
    assert_int_equal(utf8_complete("\xA9\xA9\xA9\xA9", 4), 4); /* malformed counts as whole */
    assert_int_equal(utf8_complete("\xE0\x9F", 2), 2);         /* cannot become a character */
    assert_int_equal(utf8_complete("a\xFF", 2), 2);
    assert_int_equal(utf8_complete("\xF0\x9F\x98\x80\x80", 5), 5);
}

static graft_status parse(const char *text, json_t **out, graft_error *error)
{
    return json_parse(text, strlen(text), out, error);
}

static void control_characters_are_those_of_both_sets(void **state)
{
    (void)state;
    assert_int_equal(utf8_control("\x1b[0m", 4), 1);
    assert_int_equal(utf8_control("\x7f", 1), 1);
    assert_int_equal(utf8_control("\0", 1), 1);
    assert_int_equal(utf8_control("\xc2\x9b"
                                  "31m",
                                  5),
                     2);
    assert_int_equal(utf8_control("\xc2\xa0", 2), 0); /* a space */
    assert_int_equal(utf8_control("\xc2", 1), 0);
    assert_int_equal(utf8_control("a", 1), 0);
    assert_int_equal(utf8_control("", 0), 0);
}

static void json_errors_name_line_and_column(void **state)
{
    (void)state;
    static const char *const bad[] = {"",     "{",        "{}x",   "{\"a\":1,\"a\":2}",
                                      "[1,]", "\"\xFF\"", "1e999", "nul"};
    json_t *json = NULL;
    graft_error error;
    for (size_t i = 0; i < ARRAY_LEN(bad); i++) {
        assert_int_equal(parse(bad[i], &json, &error), GRAFT_FORMAT);
        assert_null(json);
    }
    assert_int_equal(parse("{\n  \"a\": ?\n}", &json, &error), GRAFT_FORMAT);
    assert_int_equal(strncmp(error.message, "JSON, line 2, column ", 21), 0);
    char deep[10000];
    memset(deep, '[', sizeof(deep));
    assert_int_equal(json_parse(deep, sizeof(deep), &json, &error), GRAFT_FORMAT);
}

static void members_are_read_by_type(void **state)
{
    (void)state;
    json_t *json;
    int64_t i = -7;
    double number = -7;
    bool yes = false;
    const char *text = "unset";
    graft_error error;
    assert_int_equal(parse("{\"i\":12,\"whole\":4096.0,\"r\":1.5,\"b\":true,\"s\":\"text\","
                           "\"null\":null,\"nul\":\"a\\u0000b\",\"a\":[1]}",
                           &json, &error),
                     GRAFT_OK);
    assert_int_equal(json_get_int(json, "absent", 0, 1, &i, &error), GRAFT_OK);
    assert_int_equal(json_get_int(json, "null", 0, 1, &i, &error), GRAFT_OK);
    assert_int_equal(i, -7);
    assert_int_equal(json_get_int(json, "i", 0, 12, &i, &error), GRAFT_OK);
    assert_int_equal(i, 12);
    assert_int_equal(json_get_int(json, "whole", 0, 5000, &i, &error), GRAFT_OK);
    assert_int_equal(i, 4096);
    assert_int_equal(json_get_int(json, "i", 0, 11, &i, &error), GRAFT_FORMAT);
    assert_string_equal(error.message, "\"i\" is 12, not between 0 and 11");
    assert_int_equal(json_get_int(json, "r", 0, 9, &i, &error), GRAFT_FORMAT);
    assert_int_equal(json_get_int(json, "s", 0, 9, &i, &error), GRAFT_FORMAT);
    assert_string_equal(error.message, "\"s\" must be an integer");
    assert_int_equal(json_get_number(json, "i", &number, &error), GRAFT_OK);
    assert_true(number == 12);
    assert_int_equal(json_get_number(json, "r", &number, &error), GRAFT_OK);
    assert_true(number == 1.5);
    assert_int_equal(json_get_number(json, "b", &number, &error), GRAFT_FORMAT);
    assert_int_equal(json_get_bool(json, "b", &yes, &error), GRAFT_OK);
    assert_true(yes);
    assert_int_equal(json_get_bool(json, "i", &yes, &error), GRAFT_FORMAT);
    assert_int_equal(json_get_string(json, "s", &text, &error), GRAFT_OK);
    assert_string_equal(text, "text");
    assert_int_equal(json_get_string(json, "b", &text, &error), GRAFT_FORMAT);
    assert_int_equal(json_get_string(json, "nul", &text, &error), GRAFT_FORMAT);
    assert_string_equal(text, "text");
    json_decref(json);
}

static void members_of_what_is_no_object_are_an_error(void **state)
{
    (void)state;
    json_t *json;
    int64_t i = 1;
    double number = 1;
    bool yes = true;
    const char *text = NULL;
    assert_int_equal(parse("[1]", &json, NULL), GRAFT_OK);
    assert_int_equal(json_get_int(json, "a", 0, 9, &i, NULL), GRAFT_FORMAT);
    assert_int_equal(json_get_number(json, "a", &number, NULL), GRAFT_FORMAT);
    assert_int_equal(json_get_bool(json, "a", &yes, NULL), GRAFT_FORMAT);
    assert_int_equal(json_get_string(json, "a", &text, NULL), GRAFT_FORMAT);
    json_decref(json);
    assert_int_equal(json_get_int(NULL, "a", 0, 9, &i, NULL), GRAFT_OK);
    assert_int_equal(json_get_int(json_null(), "a", 0, 9, &i, NULL), GRAFT_OK);
    assert_int_equal(i, 1);
}

static void integers_beyond_64_bits_do_not_spoil_a_document(void **state)
{
    (void)state;
    json_t *json;
    double number = 0;
    int64_t i = 0;
    assert_int_equal(
        parse("{\"model_max_length\":1000000000000000019884624838656,\"i\":3}", &json, NULL),
        GRAFT_OK);
    assert_int_equal(json_get_number(json, "model_max_length", &number, NULL), GRAFT_OK);
    assert_true(number == 1e30);
    assert_int_equal(json_get_int(json, "model_max_length", 0, INT64_MAX, &i, NULL), GRAFT_FORMAT);
    assert_int_equal(json_get_int(json, "i", 0, 9, &i, NULL), GRAFT_OK);
    assert_int_equal(i, 3);
    json_decref(json);
}

static void json_files_are_named_in_errors(void **state)
{
    (void)state;
    struct scratch s;
    json_t *json;
    graft_error error;
    scratch_open(&s);
    const char *path = scratch_path(&s, "config.json");
    assert_int_equal(json_read(NULL, path, 100, &json, &error), GRAFT_NOT_FOUND);
    file_write_atomic(NULL, path, "{\"a\":}", 6, NULL);
    assert_int_equal(json_read(NULL, path, 100, &json, &error), GRAFT_FORMAT);
    assert_string_equal(error.file, path);
    assert_int_equal(json_read(NULL, path, 5, &json, &error), GRAFT_LIMIT);
    file_write_atomic(NULL, path, "{\"a\":1}", 7, NULL);
    assert_int_equal(json_read(NULL, path, 100, &json, &error), GRAFT_OK);
    json_decref(json);
    scratch_close(&s);
}

static void *no_memory(size_t bytes)
{
    (void)bytes;
    return NULL;
}

static void json_without_memory_says_so(void **state)
{
    (void)state;
    json_malloc_t alloc;
    json_free_t release;
    json_t *json;
    graft_error error;
    json_get_alloc_funcs(&alloc, &release);
    json_set_alloc_funcs(no_memory, release);
    graft_status status = parse("{\"a\":1}", &json, &error);
    json_set_alloc_funcs(alloc, release);
    assert_int_equal(status, GRAFT_NO_MEMORY);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(every_code_point_survives_encoding),
        cmocka_unit_test(malformed_sequences_are_not_decoded),
        cmocka_unit_test(an_unfinished_character_is_held_back),
        cmocka_unit_test(control_characters_are_those_of_both_sets),
        cmocka_unit_test(json_errors_name_line_and_column),
        cmocka_unit_test(members_are_read_by_type),
        cmocka_unit_test(members_of_what_is_no_object_are_an_error),
        cmocka_unit_test(integers_beyond_64_bits_do_not_spoil_a_document),
        cmocka_unit_test(json_files_are_named_in_errors),
        cmocka_unit_test(json_without_memory_says_so),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
