/* train.h: the verbs of `graft train`, and what they share. */
#ifndef GRAFT_CLI_TRAIN_H
#define GRAFT_CLI_TRAIN_H

#include "cli.h"
#include "data.h"

enum { TRAIN_TYPED = 64 };

/* What was typed. */
struct train_args {
    struct cli_common common;
    struct cli_data data;
    struct cli_output out;
    graft_train_options options;
    graft_adapter_recipe recipe;
    graft_adapter_format format;
    const char *type, *run; /* --type, then what it comes to (NULL: the model's own); --run */
    bool resume, dry_run;
    int samples; /* answers before and after; default 3 */
    struct train_typed {
        const char *config;                                   /* --config; NULL: none */
        const char *presets[TRAIN_TYPED], *sets[TRAIN_TYPED]; /* --preset NAME, --set KEY=VALUE */
        int n_presets, n_sets;
        bool dora; /* --dora */
    } typed;
};

/* Settings first, whatever stands behind them, then options; `config` NULL: the defaults. (train_options.c) */
void train_read_words(int argc, char **argv, const graft_train_config *config,
                      struct train_args *a);
/* Whether it is the model itself that is trained. */
static inline bool train_is_full(const struct train_args *a)
{
    return strcmp(a->options.fine_tune_type, "full") == 0;
}

/* ---- settings by name (train_settings.c) ---- */

/* A configuration of --config, then --preset, then --set. On failure says why. */
int train_read_config(const struct train_typed *typed, bool quiet, graft_train_config **out);
/* What is set becomes what options are laid over, and what came of both is set again. */
void train_from_config(const graft_train_config *config, struct train_args *a);
int train_to_config(const struct train_args *a, graft_train_config *config);
/* RUN/config.json, and RUN/data.json from the dataset. */
int train_keep(graft_train_config *config, const graft_dataset *data, graft_runtime *runtime,
               const char *run);
int verb_train_settings(int argc, char **argv);

/* ---- answers before and after (train_samples.c) ---- */

enum { TRAIN_SAMPLES = 16 };
struct train_sample {
    const graft_token_id *ids; /* [n] of the prompt; the dataset's */
    size_t n;
    char *prompt, *expected, *before, *after; /* mem_free; NULL: there is none */
};
struct train_samples {
    graft_runtime *runtime;
    graft_model *model;
    struct train_sample items[TRAIN_SAMPLES];
    int n;
    bool full; /* what is written is a model, no adapter */
};
/* Chooses them and asks what the model is before; whatever is returned, train_samples_free. */
int train_samples_begin(struct train_samples *t, const struct train_args *a, struct cli_session *s,
                        const graft_dataset *data);
/* Asks what was written at that path, and writes RUN/samples.json. */
int train_samples_end(struct train_samples *t, const char *written, const char *run);
void train_samples_free(struct train_samples *t);

/* A line for every step (train_line.c): drawn over itself on a terminal, else now and then. */
struct train_line {
    bool quiet, terminal, visible;
    double begun, drawn, told; /* seconds */
    int64_t first_step, fed;   /* where this process began, what it fed since */
    double loss;               /* smoothed */
    double last_valid;
    FILE *timing; /* RUN/timing.jsonl; NULL: none */
};
void train_line_begin(struct train_line *line, bool quiet, FILE *timing);
void train_line_step(struct train_line *line, const graft_train_step *step);
void train_line_end(struct train_line *line);
/* What there is to learn from, and what of it is learned, on stderr. */
void train_tell_data(graft_runtime *runtime, const graft_dataset *data);
/* Bytes of this process that are no file's. 0: the system does not say. */
uint64_t train_memory(void);
/* "2:05", "1:02:05" */
enum { TRAIN_TIME_TEXT = 24 };
void train_time_text(double seconds, char out[TRAIN_TIME_TEXT]);

/* `graft train plot` and `graft train report` */
int verb_train_plot(int argc, char **argv);
int verb_train_report(int argc, char **argv);

#endif
