/* batch.c: `graft batch`: a file of requests, answered many at once, becomes a file of results.
 *
 * What is typed, files, the model and what the defaults are; batch_run.c does the work. A result is written when it is
 * there, so whatever ends the program costs the requests under way and nothing else; the same command goes on.
 */
#include "batch.h"

#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <sys/stat.h>
#include <unistd.h>

enum {
    KEY_OVERWRITE = 0xa00,
    KEY_RETRY,
    KEY_ORDER,
    KEY_STREAMS,
    KEY_ROWS,
    KEY_BUDGET,
    KEY_CACHE,
    KEY_TYPE,
    KEY_STRICT
};

/* ---- what was typed ------------------------------------------------------------------------- */

static void check_together(const struct batch_args *a, struct argp_state *state)
{
    if (a->input == NULL) {
        argp_error(state, "which requests? give -i FILE");
    }
    if (strcmp(a->input, "-") == 0) {
        argp_error(state, "--input: requests are read twice, so they must be a file");
    }
    if (a->output == NULL) {
        argp_error(state, "where to? give -o FILE");
    }
    if (a->sampling.max_tokens == 0) {
        argp_error(state, "--predict: an answer has at least one token");
    }
}

static void choose_again(struct batch_args *a, struct argp_state *state, enum batch_again again)
{
    if (a->again != BATCH_GO_ON && a->again != again) {
        argp_error(state, "--retry-failed keeps results, --overwrite does not: give one of them");
    }
    a->again = again;
}

static error_t parse_numbers(int key, char *arg, struct argp_state *state)
{
    struct batch_args *a = state->input;
    switch (key) {
    case KEY_STREAMS:
        a->engine.max_streams = (int)cli_parse_int(state, "--max-streams", arg, 1, 4096);
        return 0;
    case KEY_ROWS:
        a->engine.batch_rows = (int)cli_parse_int(state, "--batch-size", arg, 1, 65536);
        return 0;
    case KEY_BUDGET:
        a->budget = cli_parse_bytes(state, "--budget", arg);
        return 0;
    case KEY_CACHE:
        a->engine.kv_bytes = cli_parse_bytes(state, "--cache-size", arg);
        return 0;
    default:
        return ARGP_ERR_UNKNOWN;
    }
}

static error_t parse_batch(int key, char *arg, struct argp_state *state)
{
    struct batch_args *a = state->input;
    switch (key) {
    case ARGP_KEY_INIT:
        state->child_inputs[0] = &a->sampling;
        state->child_inputs[1] = &a->common;
        return 0;
    case 'i':
        a->input = cli_parse_name(state, "--input", arg);
        return 0;
    case 'o':
        a->output = cli_parse_name(state, "--output", arg);
        return 0;
    case KEY_OVERWRITE:
        choose_again(a, state, BATCH_OVERWRITE);
        return 0;
    case KEY_RETRY:
        choose_again(a, state, BATCH_RETRY);
        return 0;
    case KEY_ORDER:
        a->in_order = true;
        return 0;
    case KEY_TYPE:
        a->common.adapters.type = cli_parse_held_type(state, arg);
        return 0;
    case KEY_STRICT:
        a->common.adapters.strict_base = true;
        return 0;
    case ARGP_KEY_END:
        check_together(a, state);
        return 0;
    default:
        return parse_numbers(key, arg, state);
    }
}

static const struct argp_option batch_options[] = {
    {NULL, 0, NULL, 0, "Files:", 1},
    {"input", 'i', "FILE", 0, "Requests: OpenAI's batch format, one JSON object in a line", 1},
    {"output", 'o', "FILE", 0, "Results, likewise; one that is there already is gone on with", 1},
    {"retry-failed", KEY_RETRY, NULL, 0, "Ask again what has failed before", 1},
    {"overwrite", KEY_OVERWRITE, NULL, 0, "Begin anew, whatever FILE holds", 1},
    {"in-order", KEY_ORDER, NULL, 0, "Results as requests stand; default: as they are done", 1},
    {NULL, 0, NULL, 0, "At once:", 2},
    {"max-streams", KEY_STREAMS, "N", 0, "Answers in progress, also -np N; default: 64", 2},
    {"parallel", 0, NULL, OPTION_ALIAS, NULL, 2},
    {"batch-size", KEY_ROWS, "N", 0, "Tokens of a pass; default: 256", 2},
    {"cache-size", KEY_CACHE, "SIZE", 0, "Memory of keys and values; default: 1G", 2},
    {"budget", KEY_BUDGET, "SIZE", 0, "Memory of adapters; default: 1G", 2},
    {"adapter-type", KEY_TYPE, "TYPE", 0,
     "Hold factors of adapters as bf16, int8 or q4; default: as they are stored", 2},
    {"strict-base", KEY_STRICT, NULL, 0,
     "Refuse adapters that were made for another base, in place of a warning", 2},
    {0},
};
static const struct argp_child batch_children[] = {
    {&cli_sampling_argp, 0, NULL, 0}, {&cli_common_argp, 0, NULL, 0}, {0}};
static const struct argp batch_argp = {
    .options = batch_options,
    .parser = parse_batch,
    .children = batch_children,
    .doc = "Answer a file of requests, each with adapters of its own, many at once. What stops it "
           "costs what was under way: the same command goes on. Options of sampling and of the "
           "form of "
           "answers are for requests that do not say it themselves.\v"
           "A line is {\"custom_id\": ID, \"url\": \"/v1/chat/completions\", \"body\": "
           "{\"model\": \"coder\", \"messages\": [...], \"max_tokens\": 64}}; docs/engine.md has "
           "the rest.\n\n"
           "Examples:\n"
           "  graft batch -i requests.jsonl -o results.jsonl\n"
           "  graft batch -m model.gguf -i requests.jsonl -o results.jsonl --temp 0 -n 64\n"
           "  graft batch -i requests.jsonl -o results.jsonl --budget 64M -np 16 --json\n"};

/* ---- opening and closing -------------------------------------------------------------------- */

/* Never waits for somebody to write into a pipe. */
static graft_status open_input(struct batch *b, graft_error *error)
{
    const char *path = b->args->input;
    struct stat info;
    b->input = open(path, O_RDONLY | O_CLOEXEC | O_NOCTTY | O_NONBLOCK);
    if (b->input < 0 || fstat(b->input, &info) != 0) {
        return error_set(error, GRAFT_IO, "%s: %s", path, strerror(errno));
    }
    return S_ISREG(info.st_mode)
               ? GRAFT_OK
               : error_set(error, GRAFT_IO, "%s: requests are read twice, so they must be a file",
                           path);
}

/* Changes nothing yet. */
static graft_status open_files(struct batch *b, graft_error *error)
{
    const struct batch_args *a = b->args;
    graft_status status = open_input(b, error);
    if (status == GRAFT_OK) {
        status = path_refuse_same(a->output, a->input, error);
    }
    if (status == GRAFT_OK) {
        status = batch_index_read(&b->index, b->input, a->input, error);
    }
    if (status == GRAFT_OK) {
        status = batch_lines_open(&b->lines, b->input, a->input, BATCH_REQUEST_BYTES, error);
    }
    if (status == GRAFT_OK) {
        status = batch_output_open(&b->output, a->output, &b->index, a->again, error);
    }
    return status;
}

static graft_status set_defaults(struct batch *b, graft_error *error)
{
    const struct batch_args *a = b->args;
    struct batch_defaults *d = &b->defaults;
    graft_tokenizer_info tokenizer;
    d->model = b->s.model;
    d->runtime = b->s.runtime;
    d->typed = a->common.model;
    d->seed_given = a->sampling.seed_given;
    d->system_prompt = a->sampling.system_prompt;
    d->request = graft_request_default();
    d->request.sampling = cli_sampling_of(b->s.model, &a->sampling);
    d->request.stops = a->sampling.session.stops;
    d->request.n_stops = a->sampling.session.n_stops;
    d->request.ignore_eos = a->sampling.session.ignore_eos;
    d->request.show_special = a->sampling.session.show_special;
    d->request.constraint = b->constraint;
    d->request.max_tokens = a->sampling.max_tokens > 0 ? (size_t)a->sampling.max_tokens : 0;
    const graft_tokenizer *t = graft_model_tokenizer(b->s.model);
    d->adds_bos = t != NULL && graft_tokenizer_describe(t, &tokenizer, NULL) == GRAFT_OK &&
                  tokenizer.adds_bos;
    return graft_model_describe(b->s.model, &d->info, error);
}

static void close_batch(struct batch *b)
{
    batch_run_close(b);
    graft_constraint_close(&b->constraint);
    batch_lines_close(&b->lines);
    batch_index_close(&b->index);
    if (b->input >= 0) {
        close(b->input);
    }
    pthread_cond_destroy(&b->changed);
    pthread_mutex_destroy(&b->lock);
    cli_close(&b->s);
}

/* ---- all of it ------------------------------------------------------------------------------- */

/* The model and all that stands on it. */
static int open_all(struct batch *b)
{
    graft_error error = {0};
    const struct cli_draft *typed = &b->args->sampling.draft;
    const struct cli_constraint *held = &b->args->sampling.constraint;
    graft_draft_options draft;
    int status = cli_open_model(&b->args->common, &b->s);
    if (status == CLI_OK && typed->model != NULL) {
        status = cli_draft_options(&b->s, typed, &draft);
    }
    if (status == CLI_OK && cli_is_constrained(held)) {
        status = cli_open_constraint(b->s.model, held, &b->constraint);
    }
    if (status != CLI_OK) {
        return status;
    }
    graft_status done = set_defaults(b, &error);
    if (done == GRAFT_OK) {
        done = batch_run_open(b, typed->model != NULL ? &draft : NULL, &error);
    }
    return done == GRAFT_OK ? CLI_OK : cli_fail(&error);
}

/* Results stay as they are until all is there that it takes to answer. */
static int answer_all(struct batch *b)
{
    graft_error error = {0};
    graft_status done = GRAFT_OK;
    bool some = b->index.open > 0;
    int status = some ? open_all(b) : CLI_OK;
    if (status != CLI_OK || cli_interrupted()) {
        return status;
    }
    done = batch_output_begin(&b->output, &b->index, &error);
    if (done == GRAFT_OK && some) {
        done = batch_run(b, &error);
        b->sums.seconds = time_seconds() - b->begun;
    }
    if (done == GRAFT_OK && b->args->in_order && b->index.open == 0) {
        done = batch_output_order(&b->output, &b->index, &error);
    }
    return done == GRAFT_OK ? CLI_OK : cli_fail(&error);
}

static int tell(const struct batch *b)
{
    const struct batch_told told = {.input = b->args->input,
                                    .output = &b->output,
                                    .drafts = b->args->sampling.draft.model != NULL,
                                    .index = &b->index,
                                    .sums = &b->sums,
                                    .adapters = &b->adapters};
    return batch_tell(&told, &b->args->common);
}

/* `-np` is two letters, which no other option here has. */
static void spell_out(int argc, char **argv)
{
    static char parallel[] = "--parallel";
    for (int i = 1; i < argc; i++) {
        argv[i] = strcmp(argv[i], "-np") == 0 ? parallel : argv[i];
    }
}

int verb_batch(int argc, char **argv)
{
    struct batch_args args = {.budget = graft_registry_options_default().budget,
                              .engine = graft_engine_options_default()};
    struct batch b = {.args = &args, .input = -1, .output.file = -1, .lines.file = -1};
    graft_error error = {0};
    pthread_condattr_t monotonic;
    cli_sampling_init(&args.sampling);
    spell_out(argc, argv);
    argp_parse(&batch_argp, argc, argv, 0, NULL, &args);
    cli_catch_interrupt();
    pthread_mutex_init(&b.lock, NULL); /* none can fail on Linux with these attributes */
    pthread_condattr_init(&monotonic);
    pthread_condattr_setclock(&monotonic, CLOCK_MONOTONIC);
    pthread_cond_init(&b.changed, &monotonic);
    pthread_condattr_destroy(&monotonic);
    graft_status opened = open_files(&b, &error);
    int status = opened == GRAFT_OK      ? answer_all(&b)
                 : opened == GRAFT_STATE ? cli_fail_hint(&error, "--overwrite begins anew")
                                         : cli_fail(&error);
    if (batch_output_close(&b.output, &error) != GRAFT_OK) {
        status = cli_fail(&error);
    }
    if (status == CLI_OK) {
        status = tell(&b);
    }
    close_batch(&b);
    return status;
}
