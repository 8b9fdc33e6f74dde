/* train_chart.h: what `graft train plot` and `graft train report` share: a run as its files tell it, and charts of it.
 *
 * Charts are SVG that needs no program in the reader and no font but its own; colours are those of a light or a dark
 * page, as the reader has it. Numbers that are none (NaN, infinite, beyond 1e30) are gaps.
 */
#ifndef GRAFT_CLI_TRAIN_CHART_H
#define GRAFT_CLI_TRAIN_CHART_H

#include "cli.h"

/* ---- a run (train_history.c) --------------------------------------------------------------- */

/* Columns of history.jsonl; each is [n], NaN where a line has no such number. */
enum run_column {
    RUN_STEP,
    RUN_EPOCH,
    RUN_LOSS,
    RUN_NORM,
    RUN_RATE,
    RUN_TOKENS,
    RUN_FED,
    RUN_VALID,
    RUN_SKIPPED, /* 1: skipped */
    RUN_SPEED,   /* tokens fed in a second, of timing.jsonl */
    RUN_COLUMNS
};
struct run_history {
    double *columns[RUN_COLUMNS];
    size_t n;
    bool timed; /* there is some speed */
};
/* Reads history.jsonl and, where it is there, timing.jsonl of the folder `run`. A last line that is not finished is
 * left out: the run may still be going on. On failure says why. */
int run_history_read(const char *run, struct run_history *out);
void run_history_free(struct run_history *h);
/* The index of the lowest validation after a step; h->n: there was none. */
size_t run_history_best(const struct run_history *h);
/* The last number of a column; NaN: none. */
double run_history_last(const struct run_history *h, enum run_column column);

/* ---- charts (train_chart.c) ---------------------------------------------------------------- */

struct chart_line {
    const char *name, *style; /* of the class "line-STYLE" */
    const double *y;          /* [n of the chart] */
    bool dots;                /* a mark at each point, which says its number */
};
struct chart_panel {
    const char *title;
    struct chart_line lines[3];
    int n_lines;
    int height;
    bool from_zero; /* the axis begins at 0 */
    bool log;       /* where the numbers span more than a factor of 100, as powers of ten */
};
struct chart {
    const char *title; /* for who does not see it */
    const double *x;   /* [n] steps, ascending */
    size_t n;
    const struct chart_panel *panels;
    int n_panels;
};
/* Appends <svg>…</svg>. `alone`: with its style and as a file of its own. */
void chart_write(struct buf *out, const struct chart *chart, bool alone);
/* What a page that has charts in it puts into its style. */
extern const char chart_style[];
/* Text with what XML would take for its own escaped; characters that it cannot hold become U+FFFD. */
void chart_text(struct buf *out, const char *text, size_t size);

/* ---- the charts of a run (train_plot.c) ---------------------------------------------------- */

/* Loss with its mean over some steps and the validations, and below it the rate. */
int run_chart_loss(const struct run_history *h, struct buf *out, bool alone);
/* Writes the text to a file ("-": stdout), whole or not at all. */
int run_write_text(const char *path, struct buf *text, bool quiet);

/* What both verbs are told: the options and the parser of each, whose input is this. */
struct run_args {
    const char *run, *path;
    bool quiet;
};
extern const struct argp_option run_options[];
error_t run_parse(int key, char *arg, struct argp_state *state);

#endif
