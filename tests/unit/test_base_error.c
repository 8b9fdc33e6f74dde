/* Status texts, error records, checked sizes, element types, the runtime check and the log. */
#include "test_support.h"

#include <sys/wait.h>

static void every_status_has_its_own_text(void **state)
{
    (void)state;
    for (int i = 0; i < GRAFT_STATUS_COUNT; i++) {
        assert_true(strlen(graft_status_text((graft_status)i)) > 0);
        for (int j = 0; j < i; j++)
            assert_string_not_equal(graft_status_text((graft_status)i),
                                    graft_status_text((graft_status)j));
    }
    assert_string_equal(graft_status_text(GRAFT_STATUS_COUNT), "unknown status");
    assert_string_equal(graft_status_text((graft_status)-1), "unknown status");
    assert_string_equal(graft_version(), GRAFT_VERSION_STRING);
}

static void an_error_carries_message_file_and_tensor(void **state)
{
    (void)state;
    graft_error error;
    memset(&error, 0xAA, sizeof(error));
    assert_int_equal(error_set(&error, GRAFT_SHAPE, "rank %d", 16), GRAFT_SHAPE);
    assert_int_equal(error.status, GRAFT_SHAPE);
    assert_string_equal(error.message, "rank 16");
    assert_string_equal(error.file, "");
    assert_string_equal(error.tensor, "");
    assert_int_equal(error.expected_dims, 0);
    error_at_file(&error, "a.gguf");
    error_at_file(&error, "b.gguf"); /* who noticed first knows best */
    error_at_tensor(&error, "q_proj");
    error_at_tensor(&error, "k_proj");
    assert_string_equal(error.file, "a.gguf");
    assert_string_equal(error.tensor, "q_proj");
    const int64_t expected[2] = {8, 16}, found[6] = {1, 2, 3, 4, 5, 6};
    error_shapes(&error, 2, expected, 6, found);
    assert_int_equal(error.expected_dims, 2);
    assert_int_equal(error.expected[1], 16);
    assert_int_equal(error.found_dims, 4);
    assert_int_equal(error.found[3], 4);
    error_shapes(&error, -1, expected, 0, found);
    assert_int_equal(error.expected_dims, 0);
}

static void a_null_error_is_allowed(void **state)
{
    (void)state;
    const int64_t shape[1] = {1};
    assert_int_equal(error_set(NULL, GRAFT_IO, "x"), GRAFT_IO);
    error_at_file(NULL, "x");
    error_at_tensor(NULL, "x");
    error_shapes(NULL, 1, shape, 1, shape);
    graft_error_init(NULL);
    graft_error error;
    error_set(&error, GRAFT_IO, "x");
    error_at_file(&error, NULL);
    assert_string_equal(error.file, "");
}

static void messages_are_one_clean_line_of_whole_characters(void **state)
{
    (void)state;
    graft_error error;
    error_set(&error, GRAFT_FORMAT, "key \"%s\"", "a\nb\x1b[31m\x7f");
    assert_string_equal(error.message, "key \"a b [31m \"");
    char text[600];
    memset(text, 'n', sizeof(text));
    memcpy(text + 510, "\xC3\xA9", 2); /* é across the end of the record */
    text[599] = '\0';
    error_set(&error, GRAFT_FORMAT, "%s", text);
    assert_int_equal(strlen(error.message), 510);
    error_set(&error, GRAFT_FORMAT, "again: %s", error.message); /* its own text as argument */
    assert_int_equal(strncmp(error.message, "again: nnn", 10), 0);
    memset(text, 'y', 599);
    error_at_file(&error, text);
    assert_int_equal(strlen(error.file), sizeof(error.file) - 1);
}

static void checked_arithmetic_refuses_overflow(void **state)
{
    (void)state;
    size_t out = 7;
    assert_true(size_mul(6, 7, &out));
    assert_int_equal(out, 42);
    assert_false(size_mul(SIZE_MAX / 2, 3, &out));
    assert_false(size_add(SIZE_MAX, 1, &out));
    assert_int_equal(out, 42);
    assert_true(size_add(SIZE_MAX - 1, 1, &out));
    assert_true(out == SIZE_MAX);
}

static void element_types_have_names_and_sizes(void **state)
{
    (void)state;
    size_t bytes = 0;
    for (int i = 0; i < GRAFT_TYPE_COUNT; i++) {
        graft_type type = (graft_type)i;
        assert_int_equal(graft_type_from_name(graft_type_name(type)), type);
        if (type_traits(type)->ggml_id >= 0)
            assert_int_equal(type_from_ggml((uint32_t)type_traits(type)->ggml_id), type);
    }
    assert_int_equal(graft_type_from_name("q4_k"), GRAFT_TYPE_Q4_K);
    assert_int_equal(graft_type_from_name("q9"), GRAFT_TYPE_COUNT);
    assert_int_equal(graft_type_from_name(NULL), GRAFT_TYPE_COUNT);
    assert_string_equal(graft_type_name(GRAFT_TYPE_COUNT), "unknown");
    assert_string_equal(graft_type_name((graft_type)-1), "unknown");
    assert_int_equal(type_from_ggml(0xFFFFFFFFu), GRAFT_TYPE_COUNT);
    assert_true(type_row_bytes(GRAFT_TYPE_Q4_K, 512, &bytes));
    assert_int_equal(bytes, 288);
    assert_true(type_row_bytes(GRAFT_TYPE_F32, 0, &bytes));
    assert_int_equal(bytes, 0);
    assert_false(type_row_bytes(GRAFT_TYPE_Q4_K, 500, &bytes));
    assert_false(type_row_bytes(GRAFT_TYPE_F32, -4, &bytes));
    assert_false(type_row_bytes(GRAFT_TYPE_F64, INT64_MAX / 2, &bytes));
    assert_false(type_row_bytes(GRAFT_TYPE_COUNT, 4, &bytes));
}

static void a_runtime_of_the_parent_process_is_refused_after_fork(void **state)
{
    (void)state;
    graft_error error;
    graft_runtime runtime = {.pid = (int)getpid()};
    assert_int_equal(runtime_check(&runtime, &error), GRAFT_OK);
    assert_int_equal(runtime_check(NULL, &error), GRAFT_INVALID_ARGUMENT);
    runtime.pid++; /* as after a fork, where coverage sees it */
    assert_int_equal(runtime_check(&runtime, &error), GRAFT_FORKED);
    runtime.pid--;
    pid_t child = fork();
    if (!child)
        _exit(runtime_check(&runtime, &error) == GRAFT_FORKED && strstr(error.message, "after fork")
                  ? 0
                  : 1);
    int status;
    assert_int_equal(waitpid(child, &status, 0), child);
    assert_int_equal(status, 0);
}

struct logged {
    int lines;
    graft_log_level level;
    char line[2048];
};

static void keep_line(void *user, graft_log_level level, const char *line)
{
    struct logged *logged = user;
    logged->lines++;
    logged->level = level;
    snprintf(logged->line, sizeof(logged->line), "%s", line);
}

static void the_log_callback_gets_lines_up_to_its_level(void **state)
{
    (void)state;
    struct logged logged = {0};
    graft_runtime runtime = {.log = keep_line, .log_user = &logged, .log_level = GRAFT_LOG_WARN};
    runtime_log(&runtime, GRAFT_LOG_INFO, "quiet");
    assert_int_equal(logged.lines, 0);
    runtime_log(&runtime, GRAFT_LOG_WARN, "%d tiers", 2);
    assert_int_equal(logged.lines, 1);
    assert_int_equal(logged.level, GRAFT_LOG_WARN);
    assert_string_equal(logged.line, "2 tiers");
    char text[3000];
    memset(text, 'x', sizeof(text) - 1);
    text[sizeof(text) - 1] = '\0';
    runtime_log(&runtime, GRAFT_LOG_ERROR, "%s", text);
    assert_int_equal(strlen(logged.line), 1023);
    runtime.log = NULL;
    runtime_log(&runtime, GRAFT_LOG_ERROR, "nobody listens");
    runtime_log(NULL, GRAFT_LOG_ERROR, "nobody at all");
    assert_int_equal(logged.lines, 2);
}

static void the_clock_does_not_run_backwards(void **state)
{
    (void)state;
    double before = time_seconds();
    for (int i = 0; i < 1000; i++) {
        double now = time_seconds();
        assert_true(now >= before);
        before = now;
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(every_status_has_its_own_text),
        cmocka_unit_test(an_error_carries_message_file_and_tensor),
        cmocka_unit_test(a_null_error_is_allowed),
        cmocka_unit_test(messages_are_one_clean_line_of_whole_characters),
        cmocka_unit_test(checked_arithmetic_refuses_overflow),
        cmocka_unit_test(element_types_have_names_and_sizes),
        cmocka_unit_test(a_runtime_of_the_parent_process_is_refused_after_fork),
        cmocka_unit_test(the_log_callback_gets_lines_up_to_its_level),
        cmocka_unit_test(the_clock_does_not_run_backwards),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
