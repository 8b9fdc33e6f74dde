/* line.c: one line from whoever talks to `graft chat`: an editor with history at a terminal, plain
 * reading otherwise.
 *
 * libedit does the editing. It is fed by a reader of our own so that Ctrl-C gives the line up instead of
 * being swallowed by a retried read.
 */
#include "line.h"

#include <errno.h>
#include <histedit.h>
#include <poll.h>
#include <signal.h>
#include <unistd.h>
#include <wchar.h>

struct line_reader {
    EditLine *editor; /* NULL: no terminal */
    History *history;
    char *history_file; /* NULL: not kept */
    const char *prompt;
    char *plain; /* getline's buffer */
    size_t plain_capacity;
};

static char *show_prompt(EditLine *editor)
{
    struct line_reader *r = NULL;
    el_get(editor, EL_CLIENTDATA, &r);
    return (char *)r->prompt;
}

/* Until there is something to read, or Ctrl-C or its like came: false then. The signals are only let in while this waits, so
 * that none can come between the look at it and the waiting, and be noticed with the next key. (Workers block them.) */
static bool await_input(void)
{
    struct pollfd input = {.fd = STDIN_FILENO, .events = POLLIN};
    sigset_t ends, before;
    int ready = -1;
    cli_end_signals(&ends);
    sigprocmask(SIG_BLOCK, &ends, &before);
    while (ready < 0 && !cli_interrupted()) {
        ready = ppoll(&input, 1, NULL, &before);
        if (ready < 0 && errno != EINTR) { /* EINTR: Ctrl-C, or a resized window */
            break;
        }
    }
    sigprocmask(SIG_SETMASK, &before, NULL);
    return !cli_interrupted();
}

/* One character; -1 on Ctrl-C and its like, 0 at the end of the input. */
static int read_character(EditLine *editor, wchar_t *out)
{
    (void)editor;
    mbstate_t state = {0};
    for (;;) {
        char byte;
        ssize_t n = await_input() ? read(STDIN_FILENO, &byte, 1) : -1;
        if (n <= 0) {
            return (int)n;
        }
        size_t length = mbrtowc(out, &byte, 1, &state);
        if (length == (size_t)-1) {
            *out = L'?';
            return 1;
        }
        if (length != (size_t)-2) {
            return 1;
        }
    }
}

static void open_editor(struct line_reader *r)
{
    HistEvent event;
    r->editor = el_init("graft", stdin, stdout, stderr);
    if (r->editor == NULL) {
        return;
    }
    el_set(r->editor, EL_CLIENTDATA, r);
    el_set(r->editor, EL_PROMPT, show_prompt);
    el_set(r->editor, EL_EDITOR, "emacs");
    el_set(r->editor, EL_GETCFN, read_character);
    /* Ctrl-C during an answer: what is written around it is shown and not thrown away. */
    el_set(r->editor, EL_SETTY, "-x", "+noflsh", NULL);
    r->history = history_init();
    if (r->history == NULL) {
        return;
    }
    history(r->history, &event, H_SETSIZE, 1000);
    el_set(r->editor, EL_HIST, history, r->history);
    char *home = cli_home(true);
    r->history_file = home != NULL ? path_join(NULL, home, "chat_history") : NULL;
    mem_free(NULL, home);
    if (r->history_file != NULL) {
        history(r->history, &event, H_LOAD, r->history_file);
    }
}

struct line_reader *line_open(bool terminal)
{
    struct line_reader *r = mem_calloc(NULL, 1, sizeof *r);
    if (r != NULL && terminal) {
        open_editor(r);
    } else {
        setvbuf(stdin, NULL, _IONBF, 0); /* so that await_input knows all that there is */
    }
    return r;
}

void line_close(struct line_reader *r)
{
    HistEvent event;
    if (r == NULL) {
        return;
    }
    if (r->history != NULL) {
        if (r->history_file != NULL) {
            history(r->history, &event, H_SAVE, r->history_file);
        }
        history_end(r->history);
    }
    if (r->editor != NULL) {
        el_end(r->editor);
    }
    free(r->plain); /* getline's */
    mem_free(NULL, r->history_file);
    mem_free(NULL, r);
}

static enum line_result edit_line(struct line_reader *r, const char **line, size_t *size)
{
    HistEvent event;
    int n = 0;
    el_set(r->editor, EL_PREP_TERM, 1); /* before the prompt: keys typed at its sight are ours */
    const char *text = el_gets(r->editor, &n);
    if (cli_interrupted()) {
        cli_clear_interrupt();
        el_reset(r->editor);
        fputs("\n", stdout);
        return LINE_GIVEN_UP;
    }
    if (text == NULL || n <= 0) {
        fputs("\n", stdout);
        return LINE_END;
    }
    if (text[0] != '\n' && r->history != NULL) {
        history(r->history, &event, H_ENTER, text);
    }
    *line = text;
    *size = (size_t)n;
    return LINE_READ;
}

enum line_result line_read(struct line_reader *r, const char *prompt, const char **line,
                           size_t *size)
{
    enum line_result result;
    r->prompt = prompt;
    if (r->editor != NULL) {
        result = edit_line(r, line, size);
    } else {
        ssize_t n = await_input() ? getline(&r->plain, &r->plain_capacity, stdin) : -1;
        *line = r->plain;
        *size = n > 0 ? (size_t)n : 0;
        result = n >= 0 ? LINE_READ : cli_interrupted() ? LINE_GIVEN_UP : LINE_END;
    }
    if (result == LINE_READ && *size > 0 && (*line)[*size - 1] == '\n') {
        --*size;
    }
    return result;
}
