/* cli.h: what the verbs of the `graft` command share.
 *
 * One file per verb, a table of them in main.c. Verbs use the public headers and base only: whatever
 * they can do, a C program can. Results go to stdout, everything else to stderr. The command line is
 * single-threaded.
 */
#ifndef GRAFT_CLI_H
#define GRAFT_CLI_H

#include "base/base.h"

#include <graft/graft.h>

#include <argp.h>
#include <signal.h>

/* Exit statuses. USAGE: what was typed could not work with any file or model (no such verb, option or
 * type; a value outside its option's range; something missing; options that exclude each other).
 * FAILED: all else, also what depends on the model (an id beyond its vocabulary) or on the environment. */
enum { CLI_OK = 0, CLI_FAILED = 1, CLI_USAGE = 2 };

/* ---- the verbs ---------------------------------------------------------------------------- */

int verb_run(int argc, char **argv);
int verb_chat(int argc, char **argv);
int verb_classify(int argc, char **argv);
int verb_perplexity(int argc, char **argv);
int verb_logits(int argc, char **argv);
int verb_tokenize(int argc, char **argv);
int verb_detokenize(int argc, char **argv);
int verb_inspect(int argc, char **argv);
int verb_quantize(int argc, char **argv);
int verb_adapter(int argc, char **argv);
int verb_merge(int argc, char **argv);
int verb_fuse(int argc, char **argv);
int verb_train(int argc, char **argv);
int verb_router(int argc, char **argv);
int verb_batch(int argc, char **argv);
int verb_data(int argc, char **argv);
int verb_eval(int argc, char **argv);
int verb_bench(int argc, char **argv);
int verb_version(int argc, char **argv);

/* ---- options (options.c) ------------------------------------------------------------------ */

/* Adapters that were typed (adapters.c): an argp child whose input is this. */
enum { CLI_ADAPTERS = 16 };
struct cli_use {
    const char *name; /* [size], not terminated */
    size_t size;
    float weight;
};
struct cli_adapters {
    struct cli_use uses[CLI_ADAPTERS];
    int n;
    const char *type; /* of the factors in memory; NULL: as stored */
    double scale;     /* 0: not given */
    bool more_follow; /* set by a verb that can be told adapters later on */
    bool fuse;        /* --fuse: into the weights, not beside them */
    bool routable;    /* set by a verb that has prompts to route: -a auto */
    struct cli_auto {
        bool on;            /* -a auto was typed */
        float weight;       /* of what is picked */
        const char *router; /* --router; NULL: that of the home, else the one that ships */
        int top_k;
        double temperature;
        bool options; /* one of these was typed */
    } automatic;
    bool composed; /* --compose: */
    graft_composition composition;
    double t;
    bool strict_base; /* --strict-base */
};
extern const struct argp cli_adapters_argp;
extern const struct argp cli_members_argp; /* the same without --fuse */
/* --compose: what was typed, and at the end whether it can be. A wrong one ends the program. */
void cli_parse_composition(struct cli_adapters *a, struct argp_state *state, const char *arg);
void cli_check_composition(const struct cli_adapters *a, struct argp_state *state);
/* What -a auto goes by: a child of the verbs that are routable. Input: struct cli_adapters. */
extern const struct argp cli_auto_argp;

/* Options of every verb that opens a model: an argp child whose input is this. */
struct cli_common {
    const char *model; /* as typed; NULL: the model that ships */
    int threads;       /* 0: one per core */
    bool json, verbose, quiet;
    bool copy;                    /* --no-mmap */
    bool affinity;                /* --affinity */
    struct cli_adapters adapters; /* of the verbs that have that child */
    const char *pack;             /* as in graft_model_options; NULL: not given */
};
extern const struct argp cli_common_argp;

/* Where a verb writes to: an argp child whose input is this. */
struct cli_output {
    const char *path; /* never NULL behind the parser, unless it is optional */
    const char *what; /* for the error when it is missing: "DIR"; NULL: "OUT" */
    bool optional;
};
extern const struct argp cli_output_argp, cli_output_folder_argp;
/* A directory, or what is written like one. */
bool cli_means_directory(const char *path);

struct cli_session; /* below */
/* Options of the verbs that run a session. Values not given keep the model's defaults. */
struct cli_sampling {
    double temperature, top_p, min_p, repeat, presence, frequency; /* NaN: not given */
    int64_t top_k, window;                                         /* -1: not given */
    uint64_t seed;
    bool seed_given;
    graft_session_options session; /* context size, cache types, stops */
    const char *stops[16];
    int64_t max_tokens;        /* -1: until the model ends */
    const char *system_prompt; /* NULL: none given */
    struct cli_draft {
        const char *model; /* "ngram", or a model; NULL: no drafts */
        const char *store; /* a folder, or NULL */
        int k, max;        /* 0: not given */
    } draft;
    struct cli_constraint {
        const char *grammar, *grammar_file, *schema; /* one of them, or none */
    } constraint;
};
extern const struct argp cli_sampling_argp;
/* What answers are held to. A child of cli_sampling_argp. Input: struct cli_constraint. */
extern const struct argp cli_constraint_argp;
bool cli_is_constrained(const struct cli_constraint *c);
/* What was typed, compiled. On failure says why. */
int cli_open_constraint(graft_model *model, const struct cli_constraint *c, graft_constraint **out);
/* Holds the session to what was typed, within max_tokens if they are above 0; nothing was: does nothing. On failure says why. */
int cli_set_constraint(struct cli_session *s, const struct cli_constraint *c, int64_t max_tokens);
void cli_sampling_init(struct cli_sampling *s);
/* Context and cache options alone. Input: graft_session_options. */
extern const struct argp cli_context_argp;
/* Speculative decoding; a child of cli_sampling_argp. Input: struct cli_draft. */
extern const struct argp cli_draft_argp;

/* Checked values for argp parsers: a wrong one ends the program with status 2. */
int64_t cli_parse_int(struct argp_state *state, const char *option, const char *arg, int64_t min,
                      int64_t max);
double cli_parse_number(struct argp_state *state, const char *option, const char *arg, double min,
                        double max);
size_t cli_parse_bytes(struct argp_state *state, const char *option, const char *arg); /* 64M */
double cli_parse_scale(struct argp_state *state, const char *arg); /* of --adapter-scale; never 0 */
const char *cli_parse_name(struct argp_state *state, const char *option, const char *arg);
graft_kv_type cli_parse_kv_type(struct argp_state *state, const char *option, const char *arg);
/* Of an adapter's files: --format, --type. */
graft_adapter_format cli_parse_adapter_format(struct argp_state *state, const char *arg);
const char *cli_parse_adapter_type(struct argp_state *state, const char *arg);
/* --adapter-type: of factors in memory. */
const char *cli_parse_held_type(struct argp_state *state, const char *arg);
/* What was typed; NULL: GGUF when OUT ends so, else PEFT. */
graft_adapter_format cli_adapter_format(const graft_adapter_format *typed, const char *out);

/* ---- opening (open.c) --------------------------------------------------------------------- */

struct cli_adapter {
    char *name; /* a path as typed; NAME@VERSION of what is registered */
    bool registered;
    graft_adapter *handle;
};
/* Runtime, then model, then adapters; on failure prints why and returns CLI_FAILED with nothing open. */
struct cli_session {
    graft_runtime *runtime;
    graft_model *model;
    graft_session *session;
    struct cli_adapter *adapters; /* [n_adapters], all that were opened */
    size_t n_adapters;
    const struct cli_adapters *fused; /* what is in the model's weights; NULL: nothing */
    graft_registry *registry;         /* NULL until the first name is asked for */
    graft_router *router;             /* NULL until the first prompt is routed */
    graft_model *draft;               /* of speculative decoding; NULL: none */
};
int cli_open_runtime(const struct cli_common *common, graft_runtime **out);
int cli_open_model(const struct cli_common *common, struct cli_session *out);
/* The sampling of the model overlaid by what was typed; without a seed there is a new one each time. */
graft_sampling cli_sampling_of(const graft_model *model, const struct cli_sampling *sampling);
/* Over *p, what was typed. */
void cli_overlay_sampling(graft_sampling *p, const struct cli_sampling *sampling);
/* The session with that sampling, and what cli_equip_session gives it. */
int cli_open_session(struct cli_session *s, struct cli_sampling *sampling);
/* The draft and the constraint that were typed. */
int cli_equip_session(struct cli_session *s, const struct cli_sampling *sampling);
void cli_close(struct cli_session *s);
/* What -m means: a path as it is, "tiny" and the like in the folder of shipped models, NULL the default
 * model; other names are left to the library. Result is owned by the caller (free). NULL: not found,
 * the reason was printed. */
char *cli_model_path(const char *name);
/* The folder of an adapter that ships, models/adapters/NAME; NULL: none has this name. Owned by the caller (free). */
char *cli_shipped_adapter(const char *name);
/* A folder that ships beside the models, "adapters" or "router"; NULL: it is not installed. Owned by the caller (free). */
char *cli_shipped(const char *folder);
/* GRAFT_HOME, else $XDG_DATA_HOME/graft, else ~/.local/share/graft; with `make` created when absent. NULL: none. */
char *cli_home(bool make);
/* For what changes the registry of the home. On failure says why. */
int cli_make_home(void);
/* The registry of the home; `how` (may be NULL) its adapters are opened. On failure says why. */
int cli_open_registry(graft_runtime *runtime, graft_model *model, const struct cli_adapters *how,
                      graft_registry **out);

/* ---- words (words.c) ---------------------------------------------------------------------- */

enum { CLI_WORD = 4096, CLI_WHY = 400 };
/* The word at *text, which is moved behind it: to a blank or a comma that is neither in "" nor behind a backslash. */
int cli_read_word(const char **text, char out[CLI_WORD]);
/* A decimal number that a float holds. */
bool cli_read_weight(const char *text, float *out);
/* ADAPTER[=WEIGHT]; a file that is called so has no weight. false: it cannot be, and why. */
bool cli_read_use(const char *text, struct cli_use *out, char why[CLI_WHY]);
/* Whether it asks for an adapter by what it is for: task:NAME, tag:TAG. */
bool cli_is_query(const char *text, size_t size);
/* false: it is no path, and nothing in a home can be called so. */
bool cli_check_name(const char *text, size_t size, char why[CLI_WHY]);
/* A way to compose: "average", …, interpolate[=T], whose t is 0.5 where none is given. false: it is none, and why. */
bool cli_read_composition(const char *text, graft_composition *way, double *t, char why[CLI_WHY]);
/* Whether the whole line is one ADAPTER[=WEIGHT] at a path that exists, with blanks in it or not; `path` holds it. */
bool cli_read_line(const char *line, struct cli_use *out, char path[CLI_WORD]);

/* ---- adapters (adapters.c) ---------------------------------------------------------------- */

/* Opens the adapter name[0..size): a path (it has a '/', or exists) once; a name in the home at the version that
 * it has now. The handle is borrowed from the session, of a registered one until the next swap. */
int cli_open_adapter(struct cli_session *s, const struct cli_adapters *how, const char *name,
                     size_t size, graft_adapter **out);
/* The same of a name that is no path, whatever files there are: what a router picked. */
int cli_open_label(struct cli_session *s, const struct cli_adapters *how, const char *name,
                   graft_adapter **out);
/* Opens what was typed and applies it to the model as one mix, for the sessions that follow. */
int cli_apply_adapters(struct cli_session *s, const struct cli_adapters *how);
/* Likewise, but only of those that the session applies; a name stands for any of its versions. NULL: none. */
graft_adapter *cli_find_applied(const struct cli_session *s, const char *name, size_t size);
/* Where the adapter is that was typed, by the same rules: *path (mem_free) is what was typed, or where the home has what
 * is registered so; id->name is "" for a path. `scale` is --adapter-scale, which a registered one refuses. */
int cli_locate_adapter(graft_runtime *runtime, const char *name, double scale, char **path,
                       graft_adapter_id *id);
/* What was typed, for fusing: [how->n], with paths to be given back. */
int cli_fuse_members(graft_runtime *runtime, const struct cli_adapters *how,
                     graft_fuse_member members[CLI_ADAPTERS]);
void cli_fuse_members_free(graft_fuse_member members[CLI_ADAPTERS]);
void cli_close_adapters(struct cli_session *s);
/* Lets registered versions go that the session does not apply any more. */
void cli_drop_unused(struct cli_session *s);
/* The session's mix as "a=0.7 + b=0.3" on stdout, behind what is fused into the weights. */
void cli_print_mix(const struct cli_session *s);
/* Gives the session another mix, n 0: the base model, and prints how long that took. */
int cli_swap(struct cli_session *s, const graft_member *members, size_t n, graft_kv_policy policy);
/* The same from words ADAPTER[=WEIGHT]. */
int cli_swap_text(struct cli_session *s, const struct cli_adapters *how, const char *text,
                  graft_kv_policy policy);
/* The same, with the word before them saying how they become one. */
int cli_compose_text(struct cli_session *s, const struct cli_adapters *how, const char *text,
                     graft_kv_policy policy);

/* Gives the session the mix that -a auto picks for a prompt, opening the router and the adapters where they are not open;
 * unless `quiet` says on stderr what was picked. *picked (may be NULL): the same as JSON, the caller's. */
int cli_route(struct cli_session *s, const struct cli_adapters *how, const char *prompt,
              size_t size, graft_kv_policy policy, bool quiet, json_t **picked);

/* ---- speculative decoding (draft.c) ------------------------------------------------------- */

/* What was typed as options, the draft model opened; for who asked for drafts (d->model). On failure says why. */
int cli_draft_options(struct cli_session *s, const struct cli_draft *d, graft_draft_options *out);
/* The same for the open session; does nothing where nothing was asked for. */
int cli_set_draft(struct cli_session *s, const struct cli_draft *d);
/* One line on stderr of what came of it, nothing where there were no passes with drafts; and the same as JSON. */
void cli_print_drafts(const struct cli_session *s);
json_t *cli_drafts_json(const struct cli_session *s);

/* ---- talking to people (report.c) --------------------------------------------------------- */

/* Prints "graft: …" with the file and the tensor, in one line; returns CLI_FAILED. */
int cli_fail(const graft_error *error);
/* The same with a hint behind it that says what to do; NULL: none. */
int cli_fail_hint(const graft_error *error, const char *hint);
/* The same of what is gone on without. */
void cli_warn_hint(const graft_error *error, const char *hint);
int cli_fail_text(const char *format, ...) PRINTF_LIKE(1, 2);
/* Text of a file: control characters, which would break the line or steer the terminal, become `blank`, or escapes where
 * that is 0. */
void cli_put_text(FILE *out, const char *text, size_t size, char blank);
/* Writes JSON on one line to stdout and drops the reference; CLI_FAILED when stdout is broken. */
int cli_print_json(json_t *value);
/* Flushes stdout; a full disk or a closed pipe is an error, not silence. */
int cli_finish_output(int status);

/* A bar on stderr: only when it is a terminal, only for work that takes longer than half a second. */
struct cli_progress {
    const char *what;
    double begun, drawn;
    bool enabled, visible;
};
void cli_progress_begin(struct cli_progress *p, const char *what, bool quiet);
/* A graft_progress_fn whose user is a struct cli_progress; false once Ctrl-C was pressed. */
bool cli_progress_step(void *user, uint64_t done, uint64_t total, const char *what);
void cli_progress_end(struct cli_progress *p);

/* Ctrl-C, SIGTERM and SIGHUP: the first one sets a flag, the second Ctrl-C or SIGTERM ends the program at once. */
void cli_catch_interrupt(void);
bool cli_interrupted(void);
/* SIGTERM or SIGHUP if it came, for which there is no going on: a verb that fails has the status 128 + this. Else 0. */
int cli_ending(void);
void cli_clear_interrupt(void); /* Ctrl-C alone */
void cli_end_signals(sigset_t *out);

/* ---- input (input.c) ---------------------------------------------------------------------- */

enum { CLI_INPUT_LIMIT = 1 << 30 };
struct cli_input {
    const char *prompt; /* -p */
    const char *file;   /* -f */
};
extern const struct argp cli_input_argp;
/* The text of -p, of -f FILE ("-": stdin), or of a stdin that is no terminal. *out is the caller's
 * (mem_free). CLI_USAGE: there is none. */
int cli_read_input(const struct cli_input *input, char **out, size_t *size);

/* Comma- or space-separated ids, or {"ids": [...]}. *ids is the caller's (mem_free). CLI_USAGE: the text
 * is something else. */
int cli_parse_ids(const char *text, graft_token_id **ids, size_t *n);

/* ---- evaluation without sampling (evaluate.c) ---------------------------------------------- */

/* The options of classify, perplexity and logits: an argp child whose input is this. */
struct cli_evaluation {
    struct cli_common common;
    struct cli_input input;
    graft_session_options session; /* context size, cache types */
};
extern const struct argp cli_evaluation_argp;
void cli_evaluation_init(struct cli_evaluation *e);
/* Reads the input, opens the model, does the work and closes. Ctrl-C is caught. `args` is the verb's. */
typedef int (*cli_evaluate_fn)(struct cli_session *s, void *args, const char *text, size_t size);
int cli_evaluate(const struct cli_evaluation *e, cli_evaluate_fn work, void *args);

#endif
