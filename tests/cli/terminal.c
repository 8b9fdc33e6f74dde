/* terminal.c: see terminal.h. What is waited for either comes or the program is stuck: PATIENCE only
 * bounds how long a broken program takes to fail its test.
 */
#include "terminal.h"

#include <errno.h>
#include <poll.h>
#include <pty.h>
#include <signal.h>
#include <sys/ioctl.h>
#include <sys/wait.h>

enum { PATIENCE = 60, MOST = 1 << 24 }; /* seconds, bytes */

static void run_program(const struct terminal_setup *setup)
{
    static char *const nothing[] = {NULL};
    if (setup->errors_to != NULL && freopen(setup->errors_to, "wb", stderr) == NULL) {
        _exit(126);
    }
    execve(setup->words[0], (char *const *)setup->words,
           setup->environment != NULL ? (char *const *)setup->environment : nothing);
    _exit(127);
}

bool terminal_open(struct terminal *t, const struct terminal_setup *setup)
{
    struct winsize size = {.ws_row = 50, .ws_col = 100};
    *t = (struct terminal){.fd = -1};
    t->pid = forkpty(&t->fd, NULL, NULL, &size);
    if (t->pid < 0) {
        return false;
    }
    if (t->pid == 0) {
        run_program(setup);
    }
    t->seen = calloc(1, MOST);
    assert_non_null(t->seen);
    return true;
}

void terminal_type(struct terminal *t, const char *text)
{
    size_t size = strlen(text);
    while (size > 0) {
        ssize_t n = write(t->fd, text, size);
        assert_true(n > 0);
        text += n;
        size -= (size_t)n;
    }
}

/* Takes in what comes; false: nothing will any more. */
static bool take_in(struct terminal *t)
{
    struct pollfd wait = {.fd = t->fd, .events = POLLIN};
    if (t->fd < 0 || t->size + 1 >= MOST || poll(&wait, 1, PATIENCE * 1000) <= 0) {
        return false;
    }
    ssize_t n = read(t->fd, t->seen + t->size, MOST - 1 - t->size);
    if (n <= 0) { /* EIO: the other end was closed */
        return false;
    }
    t->size += (size_t)n;
    t->seen[t->size] = '\0';
    return true;
}

static void show_transcript(const struct terminal *t, const char *wanted)
{
    print_error("\"%s\" did not come. The transcript, the last match at [*]:\n", wanted);
    for (size_t i = 0; i < t->size; i++) {
        unsigned char c = (unsigned char)t->seen[i];
        print_error(i == t->mark ? "[*]" : "");
        if (c < ' ' && c != '\n') {
            print_error("\\x%02x", c);
        } else {
            print_error("%c", c);
        }
    }
    print_error("\n");
}

void terminal_expect(struct terminal *t, const char *text)
{
    const char *found;
    while ((found = strstr(t->seen + t->mark, text)) == NULL) {
        if (!take_in(t)) {
            show_transcript(t, text);
            fail();
        }
    }
    t->mark = (size_t)(found - t->seen) + strlen(text);
}

void terminal_expect_more(struct terminal *t, size_t bytes)
{
    while (t->size - t->mark < bytes) {
        if (!take_in(t)) {
            show_transcript(t, "more");
            fail();
        }
    }
}

bool terminal_has(const struct terminal *t, size_t from, const char *text)
{
    return strstr(t->seen + from, text) != NULL;
}

void terminal_hang_up(struct terminal *t)
{
    close(t->fd);
    t->fd = -1;
}

int terminal_wait(struct terminal *t)
{
    int status;
    while (take_in(t)) {
    }
    for (int left = PATIENCE * 100; waitpid(t->pid, &status, WNOHANG) == 0; left--) {
        if (left == 0) {
            show_transcript(t, "the end of the program");
            fail();
        }
        usleep(10 * 1000);
    }
    t->pid = -1;
    return WIFEXITED(status) ? WEXITSTATUS(status) : -1;
}

void terminal_close(struct terminal *t)
{
    if (t->pid > 0) {
        kill(t->pid, SIGKILL);
        waitpid(t->pid, NULL, 0);
    }
    if (t->fd >= 0) {
        close(t->fd);
    }
    free(t->seen);
    *t = (struct terminal){.fd = -1, .pid = -1};
}
