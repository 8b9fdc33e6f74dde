/* The file of results of `graft batch`: which line of requests a result is of when lines have moved, what is cut off and what is
 * refused, what happens before anything is written, the order of lines; and another program that puts a new file in its
 * place at the worst moment; and what is said of it after Ctrl-C. */
#include "cli/batch.h"
#include "test_support.h"

#include <fcntl.h>
#include <math.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <sys/syscall.h>

static struct scratch scratch;
static char requests[160], results[160];

/* What the command has of cli/report.c. */
static bool interrupted;
static char said[200];

bool cli_interrupted(void)
{
    return interrupted;
}

int cli_fail_text(const char *format, ...)
{
    va_list args;
    va_start(args, format);
    (void)vsnprintf(said, sizeof said, format, args);
    va_end(args);
    return CLI_FAILED;
}

int cli_print_json(json_t *value)
{
    json_decref(value);
    return CLI_OK;
}

/* In place of the C library's: once, `before_lock` happens between opening and locking. */
static void (*before_lock)(void);
int flock(int file, int operation)
{
    void (*happens)(void) = before_lock;
    before_lock = NULL;
    if (happens != NULL) {
        happens();
    }
    return (int)syscall(SYS_flock, file, operation);
}

static void write_bytes(const char *path, const char *bytes, size_t size)
{
    int file = open(path, O_WRONLY | O_CREAT | O_TRUNC, 0666);
    assert_true(file >= 0);
    assert_int_equal(write(file, bytes, size), size);
    close(file);
}

static void write_text(const char *path, const char *text)
{
    write_bytes(path, text, strlen(text));
}

static void assert_holds(const char *path, const char *text)
{
    char found[4096];
    int file = open(path, O_RDONLY);
    assert_true(file >= 0);
    ssize_t n = read(file, found, sizeof found - 1);
    assert_true(n >= 0);
    found[n] = '\0';
    close(file);
    assert_string_equal(found, text);
}

static int set_up(void **state)
{
    (void)state;
    scratch_open(&scratch);
    snprintf(requests, sizeof requests, "%s", scratch_path(&scratch, "requests"));
    snprintf(results, sizeof results, "%s", scratch_path(&scratch, "results"));
    return 0;
}

static int tear_down(void **state)
{
    (void)state;
    (void)scratch_close(&scratch);
    return 0;
}

/* Requests with these custom_ids, a letter each; ' ' is a blank line, '?' no JSON. */
static void read_requests(const char *ids, struct batch_index *index)
{
    struct buf text;
    buf_init(&text, NULL, 4096);
    for (; *ids != '\0'; ids++) {
        if (*ids == '?') {
            buf_printf(&text, "oops\n");
        } else if (*ids == ' ') {
            buf_printf(&text, " \n");
        } else {
            buf_printf(&text, "{\"custom_id\":\"%c\"}\n", *ids);
        }
    }
    write_bytes(requests, text.data, text.size);
    buf_free(&text);
    int file = open(requests, O_RDONLY);
    assert_int_equal(batch_index_read(index, file, requests, NULL), GRAFT_OK);
    close(file);
}

static graft_status open_results(struct batch_output *o, struct batch_index *index,
                                 enum batch_again again)
{
    graft_error error = {0};
    graft_status status = batch_output_open(o, results, index, again, &error);
    assert_int_equal(error.status, status);
    return status;
}

static void add(struct batch_output *o, size_t line, const char *json)
{
    json_t *value = json_loads(json, 0, NULL);
    struct buf text;
    assert_non_null(value);
    buf_init(&text, NULL, 1000);
    assert_int_equal(batch_result_line(value, &text), GRAFT_OK);
    assert_int_equal(batch_output_add(o, line, text.data, text.size, NULL), GRAFT_OK);
    buf_free(&text);
}

#define DONE(n, id)                                                                                \
    "{\"id\":\"batch_req_" #n "\",\"custom_id\":\"" #id "\",\"response\":{},\"error\":null}\n"
#define FAILED(n, id)                                                                              \
    "{\"id\":\"batch_req_" #n "\",\"custom_id\":\"" #id                                            \
    "\",\"response\":null,\"error\":{\"code\":\"server_error\"}}\n"
#define TWICE(n, id)                                                                               \
    "{\"id\":\"batch_req_" #n "\",\"custom_id\":\"" #id                                            \
    "\",\"response\":null,\"error\":{\"code\":\"duplicate_custom_id\"}}\n"
#define NAMELESS(n)                                                                                \
    "{\"id\":\"batch_req_" #n                                                                      \
    "\",\"custom_id\":null,\"response\":null,\"error\":{\"code\":\"invalid_json\"}}\n"

/* Opens and closes it, with nothing written; the states of the lines: 'o'pen, 'd'one, 'f'ailed, ' '. */
static void assert_states(const char *ids, const char *states)
{
    struct batch_index index;
    struct batch_output o;
    read_requests(ids, &index);
    assert_int_equal(open_results(&o, &index, BATCH_GO_ON), GRAFT_OK);
    for (size_t i = 0; i < index.n; i++) {
        assert_int_equal(" odf"[index.lines[i].state], states[i]);
    }
    assert_int_equal(batch_output_close(&o, NULL), GRAFT_OK);
    batch_index_close(&index);
}

static void results_are_found_by_custom_id_wherever_lines_are(void **state)
{
    (void)state;
    write_text(results, DONE(1, a) FAILED(3, c) NAMELESS(4));
    assert_states("abc?", "doff");
    assert_states("cab?", "fdof");
    assert_states("abcd", "dofo"); /* the line was mended: what was wrong with it says nothing */
}

static void the_first_of_equal_custom_ids_is_the_one_that_is_asked(void **state)
{
    (void)state;
    write_text(results, TWICE(2, a) TWICE(3, a) DONE(1, a));
    assert_states("aaa", "dff");
    assert_states("baa", "odf"); /* line 2 is the first one now */
    write_text(results, TWICE(2, a) TWICE(3, a));
    assert_states("baa", "oof");
    write_text(results, DONE(3, a)); /* it was at 3, behind none */
    assert_states("baa", "odo");
}

static void a_line_that_was_cut_off_is_dropped_when_writing_begins(void **state)
{
    (void)state;
    static const char tails[][24] = {"{", "{\"id\":\"batch_req_2\",\"c", "\0\0\0\0\0\0\0",
                                     "{\"id\":\0\0\0"};
    static const size_t sizes[] = {1, 22, 7, 9};
    for (size_t i = 0; i < ARRAY_LEN(tails); i++) {
        struct batch_index index;
        struct batch_output o;
        char bytes[256], whole[] = DONE(1, a);
        size_t n = sizeof whole - 1;
        memcpy(bytes, whole, n);
        memcpy(bytes + n, tails[i], sizes[i]);
        write_bytes(results, bytes, n + sizes[i]);
        read_requests("ab", &index);
        assert_int_equal(open_results(&o, &index, BATCH_GO_ON), GRAFT_OK);
        assert_int_equal(index.done, 1);
        assert_int_equal(batch_output_begin(&o, &index, NULL), GRAFT_OK);
        add(&o, 1, DONE(2, b));
        assert_int_equal(batch_output_close(&o, NULL), GRAFT_OK);
        batch_index_close(&index);
        assert_holds(results, DONE(1, a) DONE(2, b));
    }
}

static void what_is_no_result_is_refused_and_stays(void **state)
{
    (void)state;
    static const char *const others[] = {"Dear diary", "\n\nDear diary\n", DONE(1, a) "{\"x\":1}\n",
                                         DONE(1, z)};
    for (size_t i = 0; i < ARRAY_LEN(others); i++) {
        struct batch_index index;
        struct batch_output o;
        write_text(results, others[i]);
        read_requests("ab", &index);
        assert_int_equal(open_results(&o, &index, BATCH_GO_ON), GRAFT_STATE);
        assert_int_equal(o.file, -1);
        batch_index_close(&index);
        assert_holds(results, others[i]);
    }
}

static void a_line_of_zeros_is_not_blank(void **state)
{
    (void)state;
    struct batch_index index;
    struct batch_output o;
    write_bytes(requests, "\0\0\0\n \t\r\n", 8);
    int file = open(requests, O_RDONLY);
    assert_int_equal(batch_index_read(&index, file, requests, NULL), GRAFT_OK);
    close(file);
    assert_int_equal(index.open, 1);
    batch_index_close(&index);
    write_bytes(results, "\0\0\0\n", 4);
    read_requests("ab", &index);
    assert_int_equal(open_results(&o, &index, BATCH_GO_ON), GRAFT_STATE);
    batch_index_close(&index);
}

static void nothing_changes_before_it_begins(void **state)
{
    (void)state;
    static const enum batch_again ways[] = {BATCH_GO_ON, BATCH_RETRY, BATCH_OVERWRITE};
    const char *text = DONE(1, a) FAILED(2, b) "{\"id\":\"batch_req_3";
    for (size_t i = 0; i < ARRAY_LEN(ways); i++) {
        struct batch_index index;
        struct batch_output o;
        write_text(results, text);
        read_requests("abc", &index);
        assert_int_equal(open_results(&o, &index, ways[i]), GRAFT_OK);
        assert_int_equal(index.open, 1 + i);
        assert_int_equal(batch_output_close(&o, NULL), GRAFT_OK);
        assert_holds(results, text);
        (void)unlink(results);
        assert_int_equal(open_results(&o, &index, ways[i]), GRAFT_OK);
        assert_int_equal(batch_output_close(&o, NULL), GRAFT_OK);
        assert_int_equal(access(results, F_OK), -1); /* what was made for nothing is gone */
        batch_index_close(&index);
    }
}

static void what_failed_goes_when_it_begins_and_lines_come_into_order(void **state)
{
    (void)state;
    struct batch_index index;
    struct batch_output o;
    write_text(results, FAILED(1, a) DONE(2, b) TWICE(4, c) DONE(3, c));
    read_requests("abcc", &index);
    assert_int_equal(open_results(&o, &index, BATCH_RETRY), GRAFT_OK);
    assert_int_equal(index.open, 2);
    assert_int_equal(batch_output_begin(&o, &index, NULL), GRAFT_OK);
    assert_holds(results, DONE(2, b) DONE(3, c));
    add(&o, 0, DONE(1, a));
    add(&o, 3, TWICE(4, c));
    assert_int_equal(batch_output_order(&o, &index, NULL), GRAFT_OK);
    assert_int_equal(batch_output_close(&o, NULL), GRAFT_OK);
    assert_holds(results, DONE(1, a) DONE(2, b) DONE(3, c) TWICE(4, c));
    assert_int_equal(scratch_count(&scratch), 2); /* no temporary file is left */
    batch_index_close(&index);
}

/* Line 3 was no JSON, line 4 was b once more; both were mended. */
static void what_was_wrong_with_lines_that_are_mended_goes_when_it_begins(void **state)
{
    (void)state;
    static const enum batch_again ways[] = {BATCH_GO_ON, BATCH_RETRY};
    for (size_t i = 0; i < ARRAY_LEN(ways); i++) {
        struct batch_index index;
        struct batch_output o;
        write_text(results, DONE(2, b) NAMELESS(3) TWICE(4, b) DONE(1, a));
        read_requests("abcd", &index);
        assert_int_equal(open_results(&o, &index, ways[i]), GRAFT_OK);
        assert_int_equal(index.open, 2);
        assert_int_equal(index.failed, 0);
        assert_int_equal(batch_output_begin(&o, &index, NULL), GRAFT_OK);
        assert_holds(results, DONE(2, b) DONE(1, a));
        add(&o, 2, DONE(3, c));
        add(&o, 3, DONE(4, d));
        assert_int_equal(batch_output_order(&o, &index, NULL), GRAFT_OK);
        assert_int_equal(batch_output_close(&o, NULL), GRAFT_OK);
        assert_holds(results, DONE(1, a) DONE(2, b) DONE(3, c) DONE(4, d));
        batch_index_close(&index);
    }
}

/* Going on keeps failures of lines that are as they were. */
static void only_what_is_outdated_goes_where_nothing_is_asked_again(void **state)
{
    (void)state;
    struct batch_index index;
    struct batch_output o;
    write_text(results, FAILED(1, a) NAMELESS(2) NAMELESS(3));
    read_requests("ab?", &index);
    assert_int_equal(open_results(&o, &index, BATCH_GO_ON), GRAFT_OK);
    assert_int_equal(index.failed, 2);
    assert_int_equal(batch_output_begin(&o, &index, NULL), GRAFT_OK);
    assert_int_equal(batch_output_close(&o, NULL), GRAFT_OK);
    assert_holds(results, FAILED(1, a) NAMELESS(3));
    batch_index_close(&index);
}

static void what_is_in_order_is_not_written_anew(void **state)
{
    (void)state;
    struct batch_index index;
    struct batch_output o;
    struct stat before, after;
    write_text(results, DONE(1, a) FAILED(2, b));
    assert_int_equal(stat(results, &before), 0);
    read_requests("abc", &index);
    assert_int_equal(open_results(&o, &index, BATCH_GO_ON), GRAFT_OK);
    assert_int_equal(batch_output_begin(&o, &index, NULL), GRAFT_OK);
    add(&o, 2, DONE(3, c));
    assert_int_equal(batch_output_order(&o, &index, NULL), GRAFT_OK);
    assert_int_equal(batch_output_close(&o, NULL), GRAFT_OK);
    assert_int_equal(stat(results, &after), 0);
    assert_int_equal(before.st_ino, after.st_ino);
    batch_index_close(&index);
}

/* As --retry-failed of another program does. */
static void put_another(void)
{
    char other[160];
    snprintf(other, sizeof other, "%s/other", scratch.folder);
    write_text(other, DONE(2, b));
    assert_int_equal(rename(other, results), 0);
}

static void take_away(void)
{
    assert_int_equal(unlink(results), 0);
}

static void a_file_that_was_replaced_before_the_lock_is_opened_anew(void **state)
{
    (void)state;
    struct batch_index index;
    struct batch_output o;
    write_text(results, DONE(1, a));
    read_requests("abc", &index);
    before_lock = put_another;
    assert_int_equal(open_results(&o, &index, BATCH_GO_ON), GRAFT_OK);
    assert_int_equal(index.lines[0].state, BATCH_OPEN);
    assert_int_equal(index.lines[1].state, BATCH_DONE);
    assert_int_equal(batch_output_begin(&o, &index, NULL), GRAFT_OK);
    add(&o, 2, DONE(3, c));
    assert_int_equal(batch_output_close(&o, NULL), GRAFT_OK);
    assert_holds(results, DONE(2, b) DONE(3, c));
    batch_index_close(&index);

    read_requests("abc", &index);
    before_lock = take_away;
    assert_int_equal(open_results(&o, &index, BATCH_GO_ON), GRAFT_OK);
    assert_int_equal(batch_output_begin(&o, &index, NULL), GRAFT_OK);
    add(&o, 0, DONE(1, a));
    assert_int_equal(batch_output_close(&o, NULL), GRAFT_OK);
    assert_holds(results, DONE(1, a));
    batch_index_close(&index);
}

static void fill(void)
{
    write_text(results, DONE(1, a));
}

/* It was not there when this program looked, and is another's when it goes away with nothing written. */
static void what_another_program_wrote_in_the_meantime_stays(void **state)
{
    (void)state;
    static void (*const others[])(void) = {put_another, fill};
    static const char *const written[] = {DONE(2, b), DONE(1, a)};
    for (size_t i = 0; i < ARRAY_LEN(others); i++) {
        struct batch_index index;
        struct batch_output o;
        read_requests("ab", &index);
        before_lock = others[i];
        assert_int_equal(open_results(&o, &index, BATCH_GO_ON), GRAFT_OK);
        assert_int_equal(index.done, 1);
        assert_int_equal(batch_output_close(&o, NULL), GRAFT_OK);
        assert_holds(results, written[i]);
        assert_int_equal(unlink(results), 0);
        batch_index_close(&index);
    }
}

static void one_program_writes_at_a_time(void **state)
{
    (void)state;
    struct batch_index index;
    struct batch_output o, other;
    read_requests("a", &index);
    assert_int_equal(open_results(&o, &index, BATCH_GO_ON), GRAFT_OK);
    assert_int_equal(open_results(&other, &index, BATCH_OVERWRITE), GRAFT_BUSY);
    assert_int_equal(access(results, F_OK), 0); /* it is the first one's */
    assert_int_equal(batch_output_close(&o, NULL), GRAFT_OK);
    batch_index_close(&index);
}

/* What is said after Ctrl-C, before it began or after, of one result of two requests. */
static void assert_interrupted(enum batch_again again, bool begun, const char *words)
{
    static const struct batch_sums none;
    static const struct cli_common common;
    struct batch_index index;
    struct batch_output o;
    write_text(results, DONE(1, a));
    read_requests("ab", &index);
    assert_int_equal(open_results(&o, &index, again), GRAFT_OK);
    if (begun) {
        assert_int_equal(batch_output_begin(&o, &index, NULL), GRAFT_OK);
    }
    const struct batch_told told = {
        .input = "requests", .output = &o, .index = &index, .sums = &none};
    interrupted = true;
    assert_int_equal(batch_tell(&told, &common), CLI_FAILED);
    interrupted = false;
    assert_non_null(strstr(said, words));
    assert_int_equal(batch_output_close(&o, NULL), GRAFT_OK);
    assert_holds(results, begun && again == BATCH_OVERWRITE ? "" : DONE(1, a));
    batch_index_close(&index);
}

/* Without --overwrite what was to be written over would count as done. */
static void before_it_begins_an_end_says_that_results_are_as_they_were(void **state)
{
    (void)state;
    const char *as_before = "results are as they were; the same command begins again";
    assert_interrupted(BATCH_OVERWRITE, false, as_before);
    assert_interrupted(BATCH_RETRY, false, as_before);
    assert_interrupted(BATCH_GO_ON, false, as_before);
    assert_interrupted(BATCH_OVERWRITE, true,
                       "0 of 2 requests have results; the same command goes on, without");
    assert_interrupted(BATCH_GO_ON, true, "1 of 2 requests have results; the same command goes on");
}

static void offsets_of_tokens_are_in_characters(void **state)
{
    (void)state;
    static const struct batch_defaults defaults = {.info.path = "tiny"};
    static const struct batch_request request = {.logprobs = true, .n = 1};
    static const struct batch_mix mix;
    static const struct batch_token tokens[] = {
        {0, 1, 7, -1}, {1, 4, 8, -1}, {4, 8, 9, -1}, {8, 9, 7, -1}};
    struct batch_answer answer = {.finish = GRAFT_FINISH_LENGTH};
    buf_init(&answer.text, NULL, 100);
    buf_init(&answer.tokens, NULL, 1000);
    buf_append(&answer.text, "a\xe2\x82\xac\xf0\x9f\x90\xb1z", 9);
    buf_append(&answer.tokens, tokens, sizeof tokens);
    json_t *result = batch_result(&defaults, 1, &request, &mix, &answer);
    char *text = json_dumps(result, JSON_COMPACT);
    assert_non_null(strstr(text, "\"text_offset\":[0,1,2,3]"));
    free(text);
    json_decref(result);
    buf_free(&answer.text);
    buf_free(&answer.tokens);
}

/* The best of each place, and the picked one where it is not among them; what cannot be has a number all the same. */
static void alternatives_are_told_by_id(void **state)
{
    (void)state;
    static const struct batch_defaults defaults = {.info.path = "tiny"};
    static const struct batch_request request = {.logprobs = true, .n = 1};
    static const struct batch_mix mix;
    static const struct batch_token tokens[] = {{0, 1, 7, -0.5f}, {1, 2, 8, -0.25f}};
    static const graft_alternative tops[] = {{7, -0.5f}, {9, -0.125f}};
    struct batch_answer answer = {.finish = GRAFT_FINISH_LENGTH, .n_top = 1};
    buf_init(&answer.text, NULL, 100);
    buf_init(&answer.tokens, NULL, 1000);
    buf_init(&answer.tops, NULL, 1000);
    buf_append(&answer.text, "ab", 2);
    buf_append(&answer.tokens, tokens, sizeof tokens);
    buf_append(&answer.tops, tops, sizeof tops);
    struct buf line;
    buf_init(&line, NULL, 10000);
    assert_int_equal(batch_result_line(batch_result(&defaults, 1, &request, &mix, &answer), &line),
                     GRAFT_OK);
    /* without a tokenizer only what came has a text */
    assert_non_null(strstr(line.data, "\"top_logprobs\":[{\"\":-0.5},{\"\":-0.125,\"b\":-0.25}]"));
    buf_free(&line);
    static const graft_alternative never[] = {{7, -INFINITY}, {9, -INFINITY}};
    memcpy(answer.tops.data, never, sizeof never);
    buf_init(&line, NULL, 10000);
    assert_int_equal(batch_result_line(batch_result(&defaults, 1, &request, &mix, &answer), &line),
                     GRAFT_OK);
    assert_non_null(strstr(line.data, "-9999.0"));
    buf_free(&line);
    buf_free(&answer.text);
    buf_free(&answer.tokens);
    buf_free(&answer.tops);
}

static void a_result_that_nothing_would_read_again_is_none(void **state)
{
    (void)state;
    struct buf line;
    buf_init(&line, NULL, 20);
    assert_int_equal(batch_result_line(json_pack("{s:s}", "id", "twenty bytes and more"), &line),
                     GRAFT_LIMIT);
    buf_free(&line);
    buf_init(&line, NULL, 20);
    assert_int_equal(batch_result_line(NULL, &line), GRAFT_NO_MEMORY);
    buf_free(&line);
}

#define SENTENCE(name) cmocka_unit_test_setup_teardown(name, set_up, tear_down)

int main(void)
{
    const struct CMUnitTest tests[] = {
        SENTENCE(results_are_found_by_custom_id_wherever_lines_are),
        SENTENCE(the_first_of_equal_custom_ids_is_the_one_that_is_asked),
        SENTENCE(a_line_that_was_cut_off_is_dropped_when_writing_begins),
        SENTENCE(what_is_no_result_is_refused_and_stays),
        SENTENCE(a_line_of_zeros_is_not_blank),
        SENTENCE(nothing_changes_before_it_begins),
        SENTENCE(what_failed_goes_when_it_begins_and_lines_come_into_order),
        SENTENCE(what_was_wrong_with_lines_that_are_mended_goes_when_it_begins),
        SENTENCE(only_what_is_outdated_goes_where_nothing_is_asked_again),
        SENTENCE(what_is_in_order_is_not_written_anew),
        SENTENCE(a_file_that_was_replaced_before_the_lock_is_opened_anew),
        SENTENCE(what_another_program_wrote_in_the_meantime_stays),
        SENTENCE(one_program_writes_at_a_time),
        SENTENCE(before_it_begins_an_end_says_that_results_are_as_they_were),
        cmocka_unit_test(offsets_of_tokens_are_in_characters),
        cmocka_unit_test(alternatives_are_told_by_id),
        cmocka_unit_test(a_result_that_nothing_would_read_again_is_none),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
