/* terminal.h: a pseudo terminal with a program at its other end, for tests of what somebody at a keyboard
 * meets.
 *
 * The program gets the terminal as its standard input, output and error (or a file as its error), a new
 * session and a small environment of its own. Everything it writes is kept; terminal_expect waits for
 * text in what came since the last match, and fails the test with the whole transcript when it does not
 * come.
 */
#ifndef GRAFT_TEST_TERMINAL_H
#define GRAFT_TEST_TERMINAL_H

#include "unit/test_support.h"

#include <sys/types.h>

#define KEY_CTRL_C "\x03"
#define KEY_CTRL_D "\x04"
#define KEY_BACKSPACE "\x7F"
#define KEY_UP "\x1B[A"
#define KEY_DOWN "\x1B[B"
#define KEY_RIGHT "\x1B[C"
#define KEY_LEFT "\x1B[D"

struct terminal {
    int fd;
    pid_t pid;
    char *seen; /* all that came, NUL-terminated */
    size_t size, mark;
};

struct terminal_setup {
    const char *const *words;       /* program and arguments, ends with NULL */
    const char *const *environment; /* NAME=VALUE, ends with NULL; NULL: none of its own */
    const char *errors_to;          /* a file for standard error; NULL: the terminal */
};

/* false: this system has no pseudo terminals. */
bool terminal_open(struct terminal *t, const struct terminal_setup *setup);
void terminal_type(struct terminal *t, const char *text);
/* Waits for the text after the mark, and moves the mark behind it. */
void terminal_expect(struct terminal *t, const char *text);
/* Waits until at least `bytes` came after the mark; moves nothing. */
void terminal_expect_more(struct terminal *t, size_t bytes);
/* Whether the text came anywhere after byte `from`. */
bool terminal_has(const struct terminal *t, size_t from, const char *text);
/* The window is closed. */
void terminal_hang_up(struct terminal *t);
/* Reads until the program is gone, and returns its exit status; -1: a signal killed it. */
int terminal_wait(struct terminal *t);
void terminal_close(struct terminal *t);

#endif
