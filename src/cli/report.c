/* report.c: everything the command says that is not a result: errors, progress, Ctrl-C and the other signals
 * that ask it to end; and the JSON that is one.
 */
#include "cli.h"

#include <signal.h>
#include <sys/ioctl.h>
#include <unistd.h>

/* ---- errors ---- */

/* Whether the message tells the file: as its beginning, or as a path in it. A plain name may be a word of the message. */
static bool names_file(const graft_error *error)
{
    size_t size = strlen(error->file);
    bool first = strncmp(error->message, error->file, size) == 0 && error->message[size] == ':';
    return first ||
           (strchr(error->file, '/') != NULL && strstr(error->message, error->file) != NULL);
}

int cli_fail(const graft_error *error)
{
    fputs("graft: ", stderr);
    if (error->file[0] != '\0' && !names_file(error)) {
        fprintf(stderr, "%s: ", error->file);
    }
    if (error->tensor[0] != '\0' && strstr(error->message, error->tensor) == NULL) {
        fprintf(stderr, "tensor \"%s\": ", error->tensor);
    }
    fputs(error->message[0] != '\0' ? error->message : graft_status_text(error->status), stderr);
    fputc('\n', stderr);
    return CLI_FAILED;
}

int cli_fail_hint(const graft_error *error, const char *hint)
{
    if (hint == NULL) {
        return cli_fail(error);
    }
    graft_error longer = *error;
    snprintf(longer.message, sizeof longer.message, "%.400s; %s", error->message, hint);
    return cli_fail(&longer);
}

void cli_warn_hint(const graft_error *error, const char *hint)
{
    const char *file = names_file(error) ? "" : error->file;
    fprintf(stderr, "graft: warning: %s%s%s; %s\n", file, file[0] != '\0' ? ": " : "",
            error->message, hint);
}

int cli_fail_text(const char *format, ...)
{
    va_list args;
    va_start(args, format);
    fputs("graft: ", stderr);
    vfprintf(stderr, format, args);
    fputc('\n', stderr);
    va_end(args);
    return CLI_FAILED;
}

/* ---- output ---- */

int cli_finish_output(int status)
{
    if (fflush(stdout) != 0 || ferror(stdout)) {
        fputs("graft: cannot write to standard output\n", stderr);
        return status == CLI_OK ? CLI_FAILED : status;
    }
    return status;
}

void cli_put_text(FILE *out, const char *text, size_t size, char blank)
{
    const char *end = text + size;
    while (text < end) {
        size_t control = utf8_control(text, (size_t)(end - text));
        text += control > 1; /* the second byte is the code */
        if (control == 0) {
            fputc(*text, out);
        } else if (blank != '\0') {
            fputc(blank, out);
        } else {
            fprintf(out, "\\x%02x", (unsigned char)*text);
        }
        text++;
    }
}

int cli_print_json(json_t *value)
{
    if (value == NULL) {
        return cli_fail_text("out of memory");
    }
    int failed = json_dumpf(value, stdout, JSON_COMPACT | JSON_REAL_PRECISION(9));
    json_decref(value);
    putchar('\n');
    return failed != 0 ? cli_fail_text("cannot write JSON to standard output") : CLI_OK;
}

/* ---- progress ---- */

static const double SHOW_AFTER = 0.5, REDRAW_EVERY = 0.1; /* seconds */

void cli_progress_begin(struct cli_progress *p, const char *what, bool quiet)
{
    *p = (struct cli_progress){
        .what = what, .begun = time_seconds(), .enabled = !quiet && isatty(STDERR_FILENO) != 0};
}

static int terminal_width(void)
{
    struct winsize size;
    if (ioctl(STDERR_FILENO, TIOCGWINSZ, &size) == 0 && size.ws_col > 20) {
        return size.ws_col;
    }
    return 80;
}

bool cli_progress_step(void *user, uint64_t done, uint64_t total, const char *what)
{
    struct cli_progress *p = user;
    double now = time_seconds();
    if (!p->enabled || total == 0 || now - p->begun < SHOW_AFTER ||
        (p->visible && done < total && now - p->drawn < REDRAW_EVERY)) {
        return !cli_interrupted();
    }
    double share = (double)done / (double)total;
    double left = share > 0 ? (now - p->begun) * (1 - share) / share : 0;
    int width = terminal_width();
    int bar = width - 60 > 10 ? (width - 60 < 30 ? width - 60 : 30) : 10;
    int full = (int)(share * bar);
    char cells[32] = "";
    for (int i = 0; i < bar; i++) {
        cells[i] = i < full ? '#' : '.';
    }
    fprintf(stderr, "\r\033[K%s [%.*s] %3.0f%%  %.0f s left  %.*s", p->what, bar, cells,
            share * 100, left, width - bar - 40 > 0 ? width - bar - 40 : 0,
            what != NULL ? what : "");
    fflush(stderr);
    p->drawn = now;
    p->visible = true;
    return !cli_interrupted();
}

void cli_progress_end(struct cli_progress *p)
{
    if (p->visible) {
        fputs("\r\033[K", stderr);
        fflush(stderr);
        p->visible = false;
    }
}

/* ---- signals that ask for an end ---- */

static volatile sig_atomic_t interrupted; /* Ctrl-C */
static volatile sig_atomic_t ending;      /* SIGTERM or SIGHUP; 0: neither came */

/* The second time somebody is in a hurry, whichever of the two it was by. A terminal that closes is nobody, and what is told to
 * end besides is in no hurry for it. */
static void on_signal(int number)
{
    bool again = number != SIGHUP && (interrupted || ending == SIGTERM);
    if (number == SIGINT) {
        interrupted = 1;
    } else if (number == SIGTERM || ending == 0) {
        ending = number;
    }
    if (again) {
        _exit(ending != 0 ? 128 + ending : CLI_FAILED);
    }
}

void cli_end_signals(sigset_t *out)
{
    sigemptyset(out);
    sigaddset(out, SIGINT);
    sigaddset(out, SIGTERM);
    sigaddset(out, SIGHUP);
}

/* What was ignored for us stays so: nohup means it. */
static void catch_signal(int number)
{
    struct sigaction action = {.sa_handler = on_signal}, before;
    cli_end_signals(&action.sa_mask);
    if (sigaction(number, NULL, &before) == 0 && before.sa_handler != SIG_IGN) {
        sigaction(number, &action, NULL);
    }
}

void cli_catch_interrupt(void)
{
    struct sigaction action = {.sa_handler = on_signal};
    cli_end_signals(&action.sa_mask);
    sigaction(SIGINT, &action, NULL);
    catch_signal(SIGTERM);
    catch_signal(SIGHUP);
}

bool cli_interrupted(void)
{
    return interrupted != 0 || ending != 0;
}

int cli_ending(void)
{
    return ending;
}

void cli_clear_interrupt(void)
{
    interrupted = 0;
}
