/* train_plot.c: `graft train plot`: the losses of a run as a picture. */
#include "train.h"
#include "train_chart.h"

#include <math.h>

/* ---- the chart ----------------------------------------------------------------------------- */

enum { MOST_AROUND = 200 };

/* Steps on each side that are averaged: enough for about 50 means that share nothing. */
static size_t steps_around(size_t n)
{
    size_t around = n / 100;
    return around < MOST_AROUND ? around : MOST_AROUND;
}

/* out[i]: the mean of what is a number within `around` points of i. */
static void smooth(const double *y, size_t n, size_t around, double *out)
{
    double sum = 0;
    size_t count = 0, begin = 0, end = 0;
    for (size_t i = 0; i < n; i++) {
        for (; end < n && end <= i + around; end++) {
            sum += isnan(y[end]) ? 0 : y[end];
            count += !isnan(y[end]);
        }
        for (; begin + around < i; begin++) {
            sum -= isnan(y[begin]) ? 0 : y[begin];
            count -= !isnan(y[begin]);
        }
        out[i] = count > 0 ? sum / (double)count : NAN;
    }
}

int run_chart_loss(const struct run_history *h, struct buf *out, bool alone)
{
    size_t around = steps_around(h->n);
    char mean[48];
    double *smoothed = mem_calloc(NULL, h->n, sizeof *smoothed);
    if (smoothed == NULL) {
        return cli_fail_text("out of memory");
    }
    smooth(h->columns[RUN_LOSS], h->n, around, smoothed);
    snprintf(mean, sizeof mean, "mean of %zu", 2 * around + 1);
    struct chart_panel panels[2] = {
        {.title = "Loss", .height = 330},
        {.title = "Learning rate",
         .height = 96,
         .from_zero = true,
         .lines = {{"learning rate", "rate", h->columns[RUN_RATE], false}},
         .n_lines = 1}};
    struct chart_panel *loss = &panels[0];
    loss->lines[loss->n_lines++] =
        (struct chart_line){"each step", around > 0 ? "each" : "mean", h->columns[RUN_LOSS], false};
    if (around > 0) {
        loss->lines[loss->n_lines++] = (struct chart_line){mean, "mean", smoothed, false};
    }
    if (run_history_best(h) < h->n) {
        loss->lines[loss->n_lines++] =
            (struct chart_line){"validation", "valid", h->columns[RUN_VALID], true};
    }
    const struct chart chart = {.title = "Loss and learning rate by step",
                                .x = h->columns[RUN_STEP],
                                .n = h->n,
                                .panels = panels,
                                .n_panels = 2};
    chart_write(out, &chart, alone);
    mem_free(NULL, smoothed);
    return CLI_OK;
}

/* ---- writing ------------------------------------------------------------------------------- */

int run_write_text(const char *path, struct buf *text, bool quiet)
{
    graft_error error = {0};
    int status = CLI_OK;
    if (text->status != GRAFT_OK) {
        status = cli_fail_text("%s: %s", path, graft_status_text(text->status));
    } else if (strcmp(path, "-") == 0) {
        fwrite(text->data, 1, text->size, stdout);
    } else if (file_write_atomic(NULL, path, text->data, text->size, &error) != GRAFT_OK) {
        status = cli_fail(&error);
    } else if (!quiet) {
        printf("%s\n", path);
    }
    return status;
}

/* ---- options ------------------------------------------------------------------------------- */

error_t run_parse(int key, char *arg, struct argp_state *state)
{
    struct run_args *a = state->input;
    switch (key) {
    case 'o':
        a->path = cli_parse_name(state, "--output", arg);
        return 0;
    case 'q':
        a->quiet = true;
        return 0;
    case ARGP_KEY_ARG:
        if (a->run != NULL) {
            argp_error(state, "one run, not \"%s\" too", arg);
        }
        a->run = cli_parse_name(state, "RUN", arg);
        return 0;
    case ARGP_KEY_END:
        if (a->run == NULL) {
            argp_error(state, "which run? give the folder that graft train --run wrote");
        }
        if (a->path == NULL) {
            argp_error(state, "where to? give -o FILE");
        }
        return 0;
    default:
        return ARGP_ERR_UNKNOWN;
    }
}

const struct argp_option run_options[] = {
    {"output", 'o', "FILE", 0, "What to write; \"-\" is the standard output", 1},
    {"quiet", 'q', NULL, 0, "Only what is asked for, and errors", 1},
    {0},
};
static const struct argp plot_argp = {
    .options = run_options,
    .parser = run_parse,
    .args_doc = "RUN",
    .doc = "Draw the losses and the learning rate of a run, while it goes on or when it is over, "
           "as an SVG picture that any "
           "browser shows.\v"
           "Example:\n"
           "  graft train plot RUN -o loss.svg\n"};

int verb_train_plot(int argc, char **argv)
{
    struct run_args args = {.run = NULL};
    struct run_history history;
    struct buf svg;
    argp_parse(&plot_argp, argc, argv, 0, NULL, &args);
    int status = run_history_read(args.run, &history);
    if (status != CLI_OK) {
        return status;
    }
    buf_init(&svg, NULL, SIZE_MAX);
    status = run_chart_loss(&history, &svg, true);
    run_history_free(&history);
    if (status == CLI_OK) {
        status = run_write_text(args.path, &svg, args.quiet);
    }
    buf_free(&svg);
    return status;
}
