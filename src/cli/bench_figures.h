/* bench_figures.h: the figures of `graft bench` on standard output. Private to the command line. */
#ifndef GRAFT_CLI_BENCH_FIGURES_H
#define GRAFT_CLI_BENCH_FIGURES_H

#include "cli.h"

struct bench_figures {
    bool json;
    graft_runtime_info info;
    const char *command; /* what was typed */
    struct cli_progress progress;
    struct buf
        rows; /* of the table, which is as wide as its widest name and so waits for the last one */
};
void bench_figures_begin(struct bench_figures *f);
/* A graft_bench_fn whose user is a struct bench_figures. */
void bench_figures_take(void *user, const graft_bench_result *r);
/* Prints what was taken and not yet printed, and lets go of it. */
void bench_figures_end(struct bench_figures *f);

#endif
