/* The command as somebody at a keyboard meets it, under a pseudo terminal: the conversation of `graft
 * chat`, its editor and its commands, Ctrl-C and Ctrl-D, progress bars. GRAFT names the program.
 */
#include "terminal.h"

#include <signal.h>
#include <sys/wait.h>

static const char *graft;    /* the program */
static struct scratch place; /* GRAFT_HOME of every program here */

/* Opens `graft WORDS...` at a terminal; skips the test where there is none. `settings` (may be NULL) are one
 * or two more NAME=VALUE with a newline between, and go before the others. */
static void begin_in(struct terminal *t, const char *locale, const char *settings,
                     const char *errors_to, const char *const *words)
{
    char home[128], language[64], extra[512];
    const char *list[24] = {graft};
    const char *environment[8];
    size_t n = 0;
    snprintf(home, sizeof home, "GRAFT_HOME=%s", place.folder);
    snprintf(language, sizeof language, "LC_ALL=%s", locale);
    snprintf(extra, sizeof extra, "%s", settings != NULL ? settings : "");
    for (char *at = extra, *one; (one = strsep(&at, "\n")) != NULL && one[0] != '\0';) {
        assert_true(n < 2);
        environment[n++] = one;
    }
    environment[n++] = home;
    environment[n++] = language;
    environment[n++] = "TERM=xterm-256color";
    environment[n++] = "PATH=/usr/bin:/bin";
    environment[n] = NULL;
    for (n = 0; words[n] != NULL; n++) {
        assert_true(n + 2 < ARRAY_LEN(list));
        list[n + 1] = words[n];
    }
    if (!terminal_open(t, &(struct terminal_setup){list, environment, errors_to})) {
        print_message("skipped: no pseudo terminal here\n");
        skip();
    }
}

#define BEGIN(t, ...) begin_in((t), "C.UTF-8", NULL, NULL, (const char *const[]){__VA_ARGS__, NULL})
/* A conversation whose answers are short and always the same. */
#define BEGIN_CHAT(t) BEGIN((t), "chat", "--temp", "0", "-n", "8")

static void prompted(struct terminal *t)
{
    terminal_expect(t, "\n> ");
}

/* Types a line and waits until the terminal shows it whole: what follows the mark is the reply. */
static void enter(struct terminal *t, const char *line)
{
    terminal_type(t, line);
    terminal_expect(t, line);
    terminal_type(t, "\r");
    terminal_expect(t, "\r");
}

static void leave(struct terminal *t)
{
    terminal_type(t, KEY_CTRL_D);
    assert_int_equal(terminal_wait(t), 0);
    terminal_close(t);
}

/* What `graft run` answers, without its newline; valid until the next call. */
static const char *answer_of_run(const char *message)
{
    static char answer[4096];
    char command[1024];
    snprintf(command, sizeof command, "'%s' run --temp 0 -n 8 -p '%s' 2>/dev/null", graft, message);
    FILE *out = popen(command, "r");
    assert_non_null(out);
    answer[fread(answer, 1, sizeof answer - 1, out)] = '\0';
    assert_int_equal(pclose(out), 0);
    answer[strcspn(answer, "\n")] = '\0';
    assert_true(answer[0] != '\0');
    return answer;
}

/* "  12 of 1024 tokens, …" as /stats prints it. */
static int tokens_held(struct terminal *t)
{
    int tokens = -1;
    enter(t, "/stats");
    size_t from = t->mark;
    terminal_expect(t, " tokens, ");
    assert_int_equal(sscanf(t->seen + from, " %d of", &tokens), 1);
    prompted(t);
    return tokens;
}

static void chat_greets_answers_and_leaves_at_ctrl_d(void **state)
{
    (void)state;
    struct terminal t;
    BEGIN_CHAT(&t);
    terminal_expect(&t, "models/tiny");
    terminal_expect(&t, "/help lists commands.");
    prompted(&t);
    enter(&t, "Hello");
    terminal_expect(&t, answer_of_run("Hello"));
    prompted(&t);
    leave(&t);
}

static void quiet_chat_does_not_greet(void **state)
{
    (void)state;
    struct terminal t;
    BEGIN(&t, "chat", "-q");
    terminal_expect(&t, "> ");
    assert_false(terminal_has(&t, 0, "/help"));
    leave(&t);
}

static void arrows_and_backspace_edit_the_line(void **state)
{
    (void)state;
    struct terminal t;
    BEGIN_CHAT(&t);
    prompted(&t);
    /* "/hxlp" becomes "/help": back over "lp", x away, e in its place. */
    terminal_type(&t, "/hxlp" KEY_LEFT KEY_LEFT KEY_BACKSPACE "e\r");
    terminal_expect(&t, "this list");
    prompted(&t);
    terminal_type(&t, "/nope" KEY_LEFT KEY_LEFT KEY_LEFT KEY_RIGHT "-\r");
    terminal_expect(&t, "no command /no-pe;");
    prompted(&t);
    leave(&t);
}

static void backspace_takes_a_whole_character(void **state)
{
    (void)state;
    static const char *const locales[] = {"C.UTF-8", "C", "nonsense"};
    for (size_t i = 0; i < ARRAY_LEN(locales); i++) {
        struct terminal t;
        begin_in(&t, locales[i], NULL, NULL, (const char *const[]){"chat", NULL});
        prompted(&t);
        terminal_type(&t, "/n\xC3\xA9\xE2\x82\xAC" KEY_BACKSPACE "\r");
        terminal_expect(&t, "no command /n\xC3\xA9;");
        prompted(&t);
        leave(&t);
    }
}

static void history_goes_back_forth_and_over_to_the_next_chat(void **state)
{
    (void)state;
    struct terminal t;
    BEGIN_CHAT(&t);
    prompted(&t);
    enter(&t, "/first");
    prompted(&t);
    enter(&t, "/second");
    prompted(&t);
    terminal_type(&t, KEY_UP KEY_UP "\r");
    terminal_expect(&t, "no command /first;");
    prompted(&t);
    terminal_type(&t, KEY_UP KEY_UP KEY_UP KEY_DOWN "\r");
    terminal_expect(&t, "no command /second;");
    prompted(&t);
    leave(&t);
    BEGIN_CHAT(&t);
    prompted(&t);
    terminal_type(&t, KEY_UP KEY_UP KEY_LEFT "-\r");
    terminal_expect(&t, "no command /firs-t;");
    prompted(&t);
    leave(&t);
}

static void help_lists_the_commands(void **state)
{
    (void)state;
    static const char *const commands[] = {"/help", "/again", "/reset", "/system",
                                           "/temp", "/stats", "/exit"};
    struct terminal t;
    BEGIN_CHAT(&t);
    prompted(&t);
    enter(&t, "/help");
    for (size_t i = 0; i < ARRAY_LEN(commands); i++) {
        terminal_expect(&t, commands[i]);
    }
    prompted(&t);
    leave(&t);
}

static void an_unknown_command_is_named_and_the_chat_goes_on(void **state)
{
    (void)state;
    struct terminal t;
    BEGIN_CHAT(&t);
    prompted(&t);
    enter(&t, "/nonsense with words");
    terminal_expect(&t, "no command /nonsense; /help lists them");
    prompted(&t);
    enter(&t, "Hello");
    terminal_expect(&t, answer_of_run("Hello"));
    prompted(&t);
    enter(&t, "/exit");
    assert_int_equal(terminal_wait(&t), 0);
    terminal_close(&t);
}

static void again_answers_anew_and_reset_begins_anew(void **state)
{
    (void)state;
    struct terminal t;
    const char *answer = answer_of_run("Hello");
    BEGIN_CHAT(&t);
    prompted(&t);
    enter(&t, "/again");
    terminal_expect(&t, "nothing was answered yet");
    prompted(&t);
    enter(&t, "Hello");
    terminal_expect(&t, answer);
    prompted(&t);
    int once = tokens_held(&t);
    assert_true(once > 8);
    enter(&t, "/again"); /* greedy: the same, in place of the first */
    terminal_expect(&t, answer);
    prompted(&t);
    assert_int_equal(tokens_held(&t), once);
    enter(&t, "Hello");
    prompted(&t);
    assert_true(tokens_held(&t) > once);
    enter(&t, "/reset");
    terminal_expect(&t, "a new conversation");
    prompted(&t);
    enter(&t, "Hello");
    terminal_expect(&t, answer);
    prompted(&t);
    assert_int_equal(tokens_held(&t), once);
    leave(&t);
}

static void system_prompts_are_kept_by_reset_and_replaced_by_system(void **state)
{
    (void)state;
    struct terminal t;
    BEGIN(&t, "chat", "--temp", "0", "-n", "1", "--system-prompt",
          "You are a very careful writer.");
    prompted(&t);
    enter(&t, "Hello");
    prompted(&t);
    int with = tokens_held(&t);
    enter(&t, "/reset");
    prompted(&t);
    enter(&t, "Hello");
    prompted(&t);
    assert_int_equal(tokens_held(&t), with);
    enter(&t, "/system");
    prompted(&t);
    enter(&t, "Hello");
    prompted(&t);
    int without = tokens_held(&t);
    assert_true(without < with);
    enter(&t, "/system You are a very careful writer.");
    prompted(&t);
    enter(&t, "Hello");
    prompted(&t);
    assert_int_equal(tokens_held(&t), with);
    leave(&t);
}

static void temp_takes_numbers_only(void **state)
{
    (void)state;
    static const char *const wrong[] = {"/temp", "/temp hot", "/temp -1", "/temp 0,7", "/temp nan"};
    struct terminal t;
    BEGIN(&t, "chat", "-n", "8");
    prompted(&t);
    for (size_t i = 0; i < ARRAY_LEN(wrong); i++) {
        enter(&t, wrong[i]);
        terminal_expect(&t, "/temp wants a number from 0 to 100");
        prompted(&t);
    }
    enter(&t, "/temp 0");
    prompted(&t);
    enter(&t, "Hello");
    terminal_expect(&t, answer_of_run("Hello"));
    prompted(&t);
    leave(&t);
}

static void a_backslash_goes_on_in_the_next_line(void **state)
{
    (void)state;
    struct terminal t;
    BEGIN_CHAT(&t);
    prompted(&t);
    enter(&t, "/two\\");
    terminal_expect(&t, ". ");
    enter(&t, "lines");
    terminal_expect(&t, "no command /two\r\nlines;");
    prompted(&t);
    leave(&t);
}

static void ctrl_c_ends_the_answer_and_not_the_chat(void **state)
{
    (void)state;
    struct terminal t;
    BEGIN(&t, "chat", "--temp", "0", "--ignore-eos", "-c", "1000000");
    prompted(&t);
    enter(&t, "Tell me a story.");
    terminal_expect_more(&t, 200); /* it streams: the answer would go on for very long */
    terminal_type(&t, KEY_CTRL_C);
    prompted(&t);
    int first = tokens_held(&t);
    enter(&t, "Another one.");
    terminal_expect_more(&t, 200);
    terminal_type(&t, KEY_CTRL_C);
    prompted(&t);
    assert_true(tokens_held(&t) > first); /* the half answer is part of the conversation */
    leave(&t);
}

/* ---- what ends a chat from outside ---- */

/* A chat that is kept in a file of this name, after one answer, or amid an endless one. */
static const char *begin_kept_chat(struct terminal *t, const char *name, bool amid)
{
    const char *path = scratch_path(&place, name);
    if (amid) {
        BEGIN(t, "chat", "--temp", "0", "--ignore-eos", "-c", "1000000", "--session", path);
    } else {
        BEGIN(t, "chat", "--temp", "0", "-n", "8", "--session", path);
    }
    prompted(t);
    enter(t, "Tell me a story.");
    if (amid) {
        terminal_expect_more(t, 200);
    } else {
        prompted(t);
    }
    return path;
}

static void assert_kept(const char *path)
{
    struct terminal t;
    BEGIN(&t, "chat", "--session", path);
    terminal_expect(&t, "(2 messages so far)");
    prompted(&t);
    leave(&t);
}

static void a_window_that_closes_leaves_the_conversation_in_its_file(void **state)
{
    (void)state;
    for (int amid = 0; amid < 2; amid++) {
        struct terminal t;
        const char *path = begin_kept_chat(&t, amid ? "closed-amid" : "closed", amid);
        terminal_hang_up(&t);
        assert_int_equal(terminal_wait(&t), 128 + SIGHUP);
        terminal_close(&t);
        assert_kept(path);
    }
}

static void a_chat_that_is_terminated_leaves_the_conversation_in_its_file(void **state)
{
    (void)state;
    static const int signals[] = {SIGTERM, SIGHUP};
    for (size_t i = 0; i < 2 * ARRAY_LEN(signals); i++) {
        struct terminal t;
        char name[32];
        snprintf(name, sizeof name, "ended-%zu", i);
        const char *path = begin_kept_chat(&t, name, i >= ARRAY_LEN(signals));
        int number = signals[i % ARRAY_LEN(signals)];
        assert_int_equal(kill(t.pid, number), 0);
        assert_int_equal(terminal_wait(&t), 128 + number);
        terminal_close(&t);
        assert_kept(path);
    }
}

static void the_speed_of_an_interrupted_answer_has_a_line_of_its_own(void **state)
{
    (void)state;
    struct terminal t;
    BEGIN(&t, "run", "--temp", "0", "--ignore-eos", "-c", "1000000", "-p", "Tell me a story.");
    terminal_expect_more(&t, 200);
    terminal_type(&t, KEY_CTRL_C);
    terminal_expect(&t, "^C");
    terminal_expect(&t, "\r\n[");
    terminal_expect(&t, "; cancelled]\r\ngraft: interrupted\r\n");
    assert_int_equal(terminal_wait(&t), 1);
    terminal_close(&t);
}

static void ctrl_c_at_the_prompt_gives_the_line_up(void **state)
{
    (void)state;
    struct terminal t;
    BEGIN_CHAT(&t);
    prompted(&t);
    terminal_type(&t, "/give this up");
    terminal_expect(&t, "up");
    terminal_type(&t, KEY_CTRL_C);
    prompted(&t);
    enter(&t, "/two\\");
    terminal_expect(&t, ". ");
    terminal_type(&t, KEY_CTRL_C);
    prompted(&t);
    enter(&t, "/other");
    terminal_expect(&t, "no command /other;");
    prompted(&t);
    assert_false(terminal_has(&t, 0, "no command /give"));
    assert_false(terminal_has(&t, 0, "no command /two"));
    leave(&t);
}

static void a_message_too_long_is_refused_and_the_chat_goes_on(void **state)
{
    (void)state;
    struct terminal t;
    BEGIN(&t, "chat", "--temp", "0", "-n", "2", "-c", "20");
    prompted(&t);
    enter(&t, "This has far too many words for a context of only twenty tokens, as you see.");
    terminal_expect(&t, "raise -c or shorten the text");
    prompted(&t);
    enter(&t, "Hello");
    prompted(&t);
    assert_false(terminal_has(&t, t.mark, "raise -c"));
    assert_true(tokens_held(&t) > 0);
    leave(&t);
}

static void a_history_that_cannot_be_kept_is_no_hindrance(void **state)
{
    (void)state;
    struct terminal t;
    begin_in(&t, "C.UTF-8", "GRAFT_HOME=/dev/null/home", NULL, (const char *const[]){"chat", NULL});
    prompted(&t);
    enter(&t, "/first");
    prompted(&t);
    terminal_type(&t, KEY_UP KEY_LEFT "-\r");
    terminal_expect(&t, "no command /firs-t;");
    prompted(&t);
    leave(&t);
}

/* Without GRAFT_HOME: $XDG_DATA_HOME/graft, and without that ~/.local/share/graft. */
static void the_history_is_kept_where_data_belongs(void **state)
{
    (void)state;
    static const char *const cases[][2] = {
        {"GRAFT_HOME=\nXDG_DATA_HOME=%s/xdg", "xdg/graft/chat_history"},
        {"GRAFT_HOME=\nHOME=%s", ".local/share/graft/chat_history"}};
    for (size_t i = 0; i < ARRAY_LEN(cases); i++) {
        struct scratch own;
        struct terminal t;
        char settings[256], *text, *slash;
        size_t size;
        scratch_open(&own);
        snprintf(settings, sizeof settings, cases[i][0], own.folder);
        begin_in(&t, "C.UTF-8", settings, NULL, (const char *const[]){"chat", NULL});
        prompted(&t);
        enter(&t, "/kept");
        prompted(&t);
        leave(&t);
        char *path = path_join(NULL, own.folder, cases[i][1]);
        assert_int_equal(file_read(NULL, path, 4096, &text, &size, NULL), GRAFT_OK);
        assert_non_null(strstr(text, "/kept"));
        mem_free(NULL, text);
        assert_int_equal(unlink(path), 0);
        while ((slash = strrchr(path, '/')) > path + strlen(own.folder)) {
            *slash = '\0';
            assert_int_equal(rmdir(path), 0);
        }
        mem_free(NULL, path);
        scratch_close(&own);
    }
}

static void bytes_that_are_no_characters_become_question_marks(void **state)
{
    (void)state;
    struct terminal t;
    BEGIN_CHAT(&t);
    prompted(&t);
    terminal_type(&t, "/a\xFF"
                      "b\r");
    terminal_expect(&t, "no command /a?b;");
    prompted(&t);
    leave(&t);
}

/* ---- other verbs at a terminal ---- */

static void run_says_its_speed_at_a_terminal_unless_quiet(void **state)
{
    (void)state;
    struct terminal t;
    BEGIN(&t, "run", "--temp", "0", "-n", "8", "-p", "Hello");
    terminal_expect(&t, answer_of_run("Hello"));
    terminal_expect(&t, "\r\n[");
    terminal_expect(&t, " tokens read, ");
    assert_int_equal(terminal_wait(&t), 0);
    terminal_close(&t);
    BEGIN(&t, "run", "--temp", "0", "-n", "8", "-p", "Hello", "-q");
    terminal_expect(&t, answer_of_run("Hello"));
    assert_int_equal(terminal_wait(&t), 0);
    assert_false(terminal_has(&t, 0, "tokens read"));
    terminal_close(&t);
}

static void verbs_do_not_wait_for_a_text_at_a_terminal(void **state)
{
    (void)state;
    static const char *const verbs[] = {"run",    "classify", "perplexity",
                                        "logits", "tokenize", "detokenize"};
    for (size_t i = 0; i < ARRAY_LEN(verbs); i++) {
        struct terminal t;
        BEGIN(&t, verbs[i]);
        terminal_expect(&t, "graft: no text given: use ");
        assert_int_equal(terminal_wait(&t), 2);
        terminal_close(&t);
    }
}

/* A text that takes long: words enough for a minute with the scalar kernels. */
static const char *long_text(void)
{
    const char *path = scratch_path(&place, "long");
    FILE *out = fopen(path, "wb");
    assert_non_null(out);
    for (int i = 0; i < 12000; i++) {
        fputs("Once upon a time there was a cat. ", out);
    }
    assert_int_equal(fclose(out), 0);
    return path;
}

static void long_work_shows_a_bar_at_a_terminal(void **state)
{
    (void)state;
    struct terminal t;
    begin_in(&t, "C.UTF-8", "GRAFT_TIER=scalar", NULL,
             (const char *const[]){"perplexity", "-t", "1", "-f", long_text(), NULL});
    terminal_expect(&t, "scoring [");
    terminal_expect(&t, "%  ");
    terminal_expect(&t, " s left");
    terminal_expect(&t, "scoring ["); /* it moves */
    terminal_type(&t, KEY_CTRL_C);
    terminal_expect(&t, "\r\x1B[K"
                        "graft: interrupted\r\n"); /* the bar went first */
    assert_int_equal(terminal_wait(&t), 1);
    terminal_close(&t);
}

static void ctrl_c_ends_the_reading_of_a_prompt(void **state)
{
    (void)state;
    struct terminal t;
    begin_in(&t, "C.UTF-8", "GRAFT_TIER=scalar", NULL,
             (const char *const[]){"run", "-t", "1", "-c", "1000000", "-f", long_text(), NULL});
    terminal_expect(&t, "reading [");
    terminal_type(&t, KEY_CTRL_C);
    terminal_expect(&t, "graft: interrupted\r\n");
    assert_int_equal(terminal_wait(&t), 1);
    terminal_close(&t);
}

/* Begins long work, gives a bar more than the time after which it comes, and presses Ctrl-C. */
static void interrupt_long_work(struct terminal *t, const char *errors_to, const char *option)
{
    begin_in(t, "C.UTF-8", "GRAFT_TIER=scalar", errors_to,
             (const char *const[]){"perplexity", "-t", "1", "-f", long_text(), option, NULL});
    usleep(1500 * 1000);
    terminal_type(t, KEY_CTRL_C);
    assert_int_equal(terminal_wait(t), 1);
}

static void long_work_shows_no_bar_when_quiet(void **state)
{
    (void)state;
    struct terminal t;
    interrupt_long_work(&t, NULL, "-q");
    assert_string_equal(t.seen, "^Cgraft: interrupted\r\n");
    terminal_close(&t);
}

static void long_work_writes_no_bar_to_a_file(void **state)
{
    (void)state;
    struct terminal t;
    char path[160], *errors;
    size_t size;
    snprintf(path, sizeof path, "%s/errors", place.folder);
    interrupt_long_work(&t, path, NULL);
    terminal_close(&t);
    assert_int_equal(file_read(NULL, path, 1 << 16, &errors, &size, NULL), GRAFT_OK);
    assert_string_equal(errors, "graft: interrupted\n");
    mem_free(NULL, errors);
}

/* There are no colours, asked not to or not: no "select graphic rendition" sequence at all. */
static void no_colours_with_or_without_no_color(void **state)
{
    (void)state;
    for (int asked = 0; asked < 2; asked++) {
        struct terminal t;
        begin_in(&t, "C.UTF-8", asked ? "NO_COLOR=1" : NULL, NULL,
                 (const char *const[]){"chat", "--temp", "0", "-n", "8", "-v", NULL});
        prompted(&t);
        enter(&t, "Hello");
        prompted(&t);
        enter(&t, "/nonsense");
        prompted(&t);
        terminal_type(&t, KEY_CTRL_D);
        assert_int_equal(terminal_wait(&t), 0);
        for (const char *p = t.seen; (p = strstr(p, "\x1B[")) != NULL;) {
            p += 2;
            p += strspn(p, "0123456789;?");
            assert_true(*p != 'm');
        }
        terminal_close(&t);
    }
}

static int set_up(void **state)
{
    (void)state;
    scratch_open(&place);
    return 0;
}

static int clear_up(void **state)
{
    (void)state;
    scratch_close(&place);
    return 0;
}

int main(void)
{
    graft = getenv("GRAFT");
    if (graft == NULL || !path_exists(GRAFT_SOURCE_DIR "/models/tiny/model.safetensors")) {
        puts("skipped: GRAFT names no program, or there is no models/tiny");
        return 77;
    }
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(chat_greets_answers_and_leaves_at_ctrl_d),
        cmocka_unit_test(quiet_chat_does_not_greet),
        cmocka_unit_test(arrows_and_backspace_edit_the_line),
        cmocka_unit_test(backspace_takes_a_whole_character),
        cmocka_unit_test(history_goes_back_forth_and_over_to_the_next_chat),
        cmocka_unit_test(help_lists_the_commands),
        cmocka_unit_test(an_unknown_command_is_named_and_the_chat_goes_on),
        cmocka_unit_test(again_answers_anew_and_reset_begins_anew),
        cmocka_unit_test(system_prompts_are_kept_by_reset_and_replaced_by_system),
        cmocka_unit_test(temp_takes_numbers_only),
        cmocka_unit_test(a_backslash_goes_on_in_the_next_line),
        cmocka_unit_test(ctrl_c_ends_the_answer_and_not_the_chat),
        cmocka_unit_test(a_window_that_closes_leaves_the_conversation_in_its_file),
        cmocka_unit_test(a_chat_that_is_terminated_leaves_the_conversation_in_its_file),
        cmocka_unit_test(the_speed_of_an_interrupted_answer_has_a_line_of_its_own),
        cmocka_unit_test(ctrl_c_at_the_prompt_gives_the_line_up),
        cmocka_unit_test(a_message_too_long_is_refused_and_the_chat_goes_on),
        cmocka_unit_test(a_history_that_cannot_be_kept_is_no_hindrance),
        cmocka_unit_test(the_history_is_kept_where_data_belongs),
        cmocka_unit_test(bytes_that_are_no_characters_become_question_marks),
        cmocka_unit_test(run_says_its_speed_at_a_terminal_unless_quiet),
        cmocka_unit_test(verbs_do_not_wait_for_a_text_at_a_terminal),
        cmocka_unit_test(long_work_shows_a_bar_at_a_terminal),
        cmocka_unit_test(ctrl_c_ends_the_reading_of_a_prompt),
        cmocka_unit_test(long_work_shows_no_bar_when_quiet),
        cmocka_unit_test(long_work_writes_no_bar_to_a_file),
        cmocka_unit_test(no_colours_with_or_without_no_color),
    };
    return cmocka_run_group_tests(tests, set_up, clear_up);
}
