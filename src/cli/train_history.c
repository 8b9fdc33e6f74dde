/* train_history.c: history.jsonl and timing.jsonl of a run, as columns of numbers.
 *
 * Both are files of lines of JSON. What else a line holds is left alone: a later graft may write more.
 */
#include "train_chart.h"

#include <math.h>

enum { MAX_HISTORY = 1 << 30 };

static const char *const KEYS[RUN_COLUMNS] = {
    "step",   "epoch", "loss",       "grad_norm", "learning_rate",
    "tokens", "fed",   "valid_loss", NULL,        NULL};

/* ---- lines --------------------------------------------------------------------------------- */

struct lines {
    const char *at, *end;
    const char *path;
    size_t number;
};

/* The next line with something on it, parsed; *out NULL: there is none. */
static int next_line(struct lines *l, json_t **out)
{
    *out = NULL;
    while (l->at < l->end) {
        const char *begin = l->at;
        const char *stop = memchr(begin, '\n', (size_t)(l->end - begin));
        if (stop == NULL) {
            return CLI_OK; /* not finished */
        }
        l->at = stop + 1;
        l->number++;
        if (strspn(begin, " \t\r") < (size_t)(stop - begin)) {
            graft_error error = {0};
            graft_status status = json_parse(begin, (size_t)(stop - begin), out, &error);
            if (status == GRAFT_OK && !json_is_object(*out)) {
                json_decref(*out);
                status = error_set(&error, GRAFT_FORMAT, "no JSON object");
            }
            return status == GRAFT_OK
                       ? CLI_OK
                       : cli_fail_text("%s: line %zu: %s", l->path, l->number, error.message);
        }
    }
    return CLI_OK;
}

static double number_of(const json_t *line, const char *key)
{
    const json_t *value = json_object_get(line, key);
    double x = json_is_number(value) ? json_number_value(value) : NAN;
    return isfinite(x) && fabs(x) <= 1e30 ? x : NAN;
}

static size_t count_lines(const char *text, size_t size)
{
    size_t n = 0;
    for (const char *at = text; (at = memchr(at, '\n', (size_t)(text + size - at))) != NULL; at++) {
        n++;
    }
    return n;
}

/* ---- history ------------------------------------------------------------------------------- */

static int read_steps(struct lines *l, struct run_history *h)
{
    json_t *line;
    int status;
    while ((status = next_line(l, &line)) == CLI_OK && line != NULL) {
        for (int c = 0; c < RUN_COLUMNS; c++) {
            h->columns[c][h->n] = KEYS[c] != NULL ? number_of(line, KEYS[c]) : NAN;
        }
        h->columns[RUN_SKIPPED][h->n] = json_is_true(json_object_get(line, "skipped"));
        json_decref(line);
        double step = h->columns[RUN_STEP][h->n];
        if (isnan(step) || step < 0 || (h->n > 0 && step <= h->columns[RUN_STEP][h->n - 1])) {
            return cli_fail_text(
                "%s: line %zu: \"step\" is no number above that of the line before", l->path,
                l->number);
        }
        h->n++;
    }
    return status;
}

/* Seconds are counted from where a process began, and time and again a step has a validation in it. So the speed of a
 * step is known where the line before it is that of the step before, in the same process, and nothing was validated. Of
 * steps that a resumed run did again, the last time counts. */
static int read_times(struct lines *l, struct run_history *h)
{
    json_t *line;
    int status;
    double last_step = NAN, last_seconds = NAN;
    for (size_t i = 0; (status = next_line(l, &line)) == CLI_OK && line != NULL;) {
        double step = number_of(line, "step"), seconds = number_of(line, "seconds");
        double fed = number_of(line, "fed"), taken = seconds - last_seconds;
        bool follows = step == last_step + 1 && taken > 0;
        json_decref(line);
        i = step > last_step ? i : 0;
        last_step = step;
        last_seconds = seconds;
        while (i < h->n && h->columns[RUN_STEP][i] < step) {
            i++;
        }
        if (i < h->n && h->columns[RUN_STEP][i] == step && follows && fed >= 0 &&
            isnan(h->columns[RUN_VALID][i])) {
            h->columns[RUN_SPEED][i] = fed / taken;
            h->timed = true;
        }
    }
    return status;
}

static int read_file(const char *run, const char *name, char **text, size_t *size, char **path,
                     bool *absent)
{
    graft_error error = {0};
    *path = path_join(NULL, run, name);
    if (*path == NULL) {
        return cli_fail_text("out of memory");
    }
    *absent = !path_exists(*path);
    if (*absent) {
        return CLI_OK;
    }
    return file_read(NULL, *path, MAX_HISTORY, text, size, &error) == GRAFT_OK ? CLI_OK
                                                                               : cli_fail(&error);
}

static int read_history(const char *run, struct run_history *h)
{
    char *text = NULL, *path = NULL;
    size_t size = 0;
    bool absent;
    int status = read_file(run, "history.jsonl", &text, &size, &path, &absent);
    if (status == CLI_OK && absent) {
        status = cli_fail_text(
            "%s: no history.jsonl in it; give the folder of a run (graft train --run)", run);
    }
    size_t lines = status == CLI_OK ? count_lines(text, size) : 0;
    for (int c = 0; c < RUN_COLUMNS && status == CLI_OK; c++) {
        h->columns[c] = mem_calloc(NULL, lines + 1, sizeof(double));
        status = h->columns[c] != NULL ? CLI_OK : cli_fail_text("out of memory");
    }
    if (status == CLI_OK) {
        status = read_steps(&(struct lines){.at = text, .end = text + size, .path = path}, h);
    }
    if (status == CLI_OK && h->n == 0) {
        status = cli_fail_text("%s: no step is done yet", path);
    }
    mem_free(NULL, text);
    mem_free(NULL, path);
    return status;
}

int run_history_read(const char *run, struct run_history *out)
{
    char *text = NULL, *path = NULL;
    size_t size = 0;
    bool absent = true;
    *out = (struct run_history){.n = 0};
    int status = read_history(run, out);
    if (status == CLI_OK) {
        status = read_file(run, "timing.jsonl", &text, &size, &path, &absent);
    }
    if (status == CLI_OK && !absent) {
        status = read_times(&(struct lines){.at = text, .end = text + size, .path = path}, out);
    }
    mem_free(NULL, text);
    mem_free(NULL, path);
    if (status != CLI_OK) {
        run_history_free(out);
    }
    return status;
}

void run_history_free(struct run_history *h)
{
    for (int c = 0; c < RUN_COLUMNS; c++) {
        mem_free(NULL, h->columns[c]);
    }
    *h = (struct run_history){.n = 0};
}

size_t run_history_best(const struct run_history *h)
{
    size_t best = h->n;
    for (size_t i = 0; i < h->n; i++) {
        double loss = h->columns[RUN_VALID][i];
        bool of_step =
            h->columns[RUN_STEP][i] > 0; /* the one before the first counts for nothing */
        if (of_step && !isnan(loss) && (best == h->n || loss < h->columns[RUN_VALID][best])) {
            best = i;
        }
    }
    return best;
}

double run_history_last(const struct run_history *h, enum run_column column)
{
    for (size_t i = h->n; i-- > 0;) {
        if (!isnan(h->columns[column][i])) {
            return h->columns[column][i];
        }
    }
    return NAN;
}
