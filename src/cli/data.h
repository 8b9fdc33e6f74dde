/* data.h: the verbs of `graft data`, and the options of every verb that reads training data. */
#ifndef GRAFT_CLI_DATA_H
#define GRAFT_CLI_DATA_H

#include "cli.h"

int verb_data_check(int argc, char **argv);
int verb_data_generate(int argc, char **argv);
int verb_data_fit(int argc, char **argv);

/* What training data is read, and how: an argp child whose input is this. Before cli_common_argp. */
struct cli_data {
    const char *path;     /* FILE or DIR as typed */
    const char *fallback; /* what is read where none is typed; NULL (default): one must be */
    graft_dataset_options options;
};
extern const struct argp cli_data_argp;
void cli_data_init(struct cli_data *data);
/* Opens it with a progress bar. On failure prints why; Ctrl-C has words of its own. */
int cli_open_data(const struct cli_data *data, const struct cli_session *s, bool quiet,
                  graft_dataset **out);
/* "loss  auto: the assistant's answers, completions": what is learned of what there is, by a dataset's report. */
void cli_print_loss(FILE *to, const json_t *report);

#endif
