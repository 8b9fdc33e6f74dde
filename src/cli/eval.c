/* eval.c: `graft eval`: how good a model and adapters for it are at files of examples: losses and answers, a matrix of
 * adapters and files.
 *
 * The model and each adapter are opened once; a session runs one mix after the other on a file. All files are read
 * before anything is measured, so that a wrong name is told at once. Ctrl-C shows what is complete.
 */
#include "eval.h"

#include <math.h>
#include <sys/ioctl.h>
#include <unistd.h>

enum {
    KEY_PART = 0x800,
    KEY_NO_BASE,
    KEY_MIX,
    KEY_NO_ANSWERS,
    KEY_REGEX,
    KEY_EXAMPLES,
    KEY_TOKENS,
    KEY_COMPOSE,
    MAX_FILES = 64,
    ANSWER_TOKENS = 256
};

enum part_choice { PART_DEFAULT, PART_TRAIN, PART_VALID, PART_TEST, PART_ALL };
static const char *const part_names[] = {"", "train", "valid", "test", "all"};

struct eval_args {
    struct cli_common common;
    struct cli_adapters adapters; /* each a row of its own */
    struct cli_data data;
    const char *files[MAX_FILES];
    size_t n_files;
    enum part_choice part;
    bool no_base, mix, no_answers;
    const char *pattern;
    int64_t max_examples; /* 0: all */
    int max_tokens;
};

/* ---- what was typed ------------------------------------------------------------------------ */

static enum part_choice parse_part(struct argp_state *state, const char *arg)
{
    size_t i = PART_TRAIN;
    while (i < ARRAY_LEN(part_names) && strcmp(arg, part_names[i]) != 0) {
        i++;
    }
    if (i == ARRAY_LEN(part_names)) {
        argp_error(state, "--part: \"%s\" is none of train, valid, test, all", arg);
    }
    return (enum part_choice)i;
}

static void add_file(struct eval_args *a, struct argp_state *state, const char *arg)
{
    if (a->n_files == MAX_FILES) {
        argp_error(state, "at most %d files", MAX_FILES);
    }
    a->files[a->n_files++] = cli_parse_name(state, "FILE", arg);
    a->data.path = a->files[0]; /* so that the options of the data find one */
}

static void check_together(const struct eval_args *a, struct argp_state *state)
{
    if (a->no_answers && a->pattern != NULL) {
        argp_error(state, "--regex looks into answers, and --no-answers asks for none");
    }
    if (a->no_base && a->adapters.n == 0) {
        argp_error(state, "--no-base leaves nothing to measure; give -a");
    }
    if (a->adapters.n == 0 &&
        (a->adapters.type != NULL || a->adapters.scale != 0 || a->adapters.strict_base)) {
        argp_error(state, "an option of adapters, and no adapter; give -a");
    }
    if (a->mix && a->adapters.n < 2) {
        argp_error(state, "--mix: two adapters make a mix; give -a for each");
    }
    cli_check_composition(&a->adapters, state);
}

static error_t parse_eval(int key, char *arg, struct argp_state *state)
{
    struct eval_args *a = state->input;
    switch (key) {
    case ARGP_KEY_INIT:
        state->child_inputs[0] = &a->adapters;
        state->child_inputs[1] = &a->data;
        state->child_inputs[2] = &a->common;
        return 0;
    case ARGP_KEY_ARG:
        add_file(a, state, arg);
        return 0;
    case KEY_PART:
        a->part = parse_part(state, arg);
        return 0;
    case KEY_NO_BASE:
        a->no_base = true;
        return 0;
    case KEY_MIX:
        a->mix = true;
        return 0;
    case KEY_COMPOSE:
        cli_parse_composition(&a->adapters, state, arg);
        a->mix = true;
        return 0;
    case KEY_NO_ANSWERS:
        a->no_answers = true;
        return 0;
    case KEY_REGEX:
        a->pattern = cli_parse_name(state, "--regex", arg);
        return 0;
    case KEY_EXAMPLES:
        a->max_examples = cli_parse_int(state, "--max-examples", arg, 1, INT64_MAX);
        return 0;
    case KEY_TOKENS:
        a->max_tokens = (int)cli_parse_int(state, "--max-tokens", arg, 1, 1 << 20);
        return 0;
    case ARGP_KEY_END:
        check_together(a, state);
        return 0;
    default:
        return ARGP_ERR_UNKNOWN;
    }
}

static const struct argp_option eval_options[] = {
    {NULL, 0, NULL, 0, "What is measured:", 1},
    {"part", KEY_PART, "PART", 0,
     "train, valid, test or all; default: test or else valid of a folder, all of a file", 1},
    {"max-examples", KEY_EXAMPLES, "N", 0, "Of each file, spread evenly; default: all", 1},
    {"regex", KEY_REGEX, "PATTERN", 0,
     "Compare what it finds in answers and references: its first group, else the whole match", 1},
    {"max-tokens", KEY_TOKENS, "N", 0, "Most tokens of an answer; default: 256", 1},
    {"no-answers", KEY_NO_ANSWERS, NULL, 0, "Loss and perplexity only, which is sooner done", 1},
    {"no-base", KEY_NO_BASE, NULL, 0, "Not the base model, only adapters", 1},
    {"mix", KEY_MIX, NULL, 0, "One more row: all adapters at once, with their weights", 1},
    {"compose", KEY_COMPOSE, "WAY", 0, "How --mix composes them, as for run", 1},
    {0},
};
static const struct argp_child eval_children[] = {{&cli_members_argp, 0, NULL, 0},
                                                  {&cli_data_argp, 0, NULL, 3},
                                                  {&cli_common_argp, 0, NULL, 0},
                                                  {0}};
static const struct argp eval_argp = {
    .options = eval_options,
    .parser = parse_eval,
    .children = eval_children,
    .args_doc = "FILE|DIR...",
    .doc = "Measure a model, and it with each of some adapters, on files of examples: loss and "
           "perplexity of what is learned of them, and how many greedy answers are the reference "
           "(white space at their ends aside). A table of adapters by files.\v"
           "Examples:\n"
           "  graft eval -m DIR -a ./my-coder -a ./my-tone held-out.jsonl other.jsonl\n"
           "  graft eval -m DIR -a ./my-coder held-out.jsonl --regex '#### ([-0-9.,]+)' "
           "--max-tokens 64\n"
           "  graft eval -m DIR -a ./my-coder=0.5 train.jsonl --part valid --no-answers --json\n"};

/* ---- rows: the base, each adapter, all of them ---------------------------------------------- */

struct row {
    char *name; /* NULL: the base */
    graft_mix *mix;
};

struct eval_run {
    const struct eval_args *args;
    struct cli_session s;
    graft_model_info info;
    struct row rows[CLI_ADAPTERS + 2];
    const char *names[CLI_ADAPTERS + 2];
    size_t n_rows;
    graft_dataset *datasets[MAX_FILES];
    struct eval_items items[MAX_FILES];
    struct eval_column columns[MAX_FILES];
    struct eval_table table;
    struct eval_how how;
    struct cli_progress progress;
    uint64_t done, total; /* work */
    char doing[2 * CLI_WORD];
};

/* What several are is for --compose to say. */
static int add_row(struct eval_run *run, const graft_member *members, size_t n, struct buf *name)
{
    const struct cli_adapters *a = &run->args->adapters;
    graft_composition way = n > 1 && a->composed ? a->composition : GRAFT_COMPOSE_WEIGHTED;
    graft_error error = {0};
    struct row *row = &run->rows[run->n_rows++];
    row->name = n > 0 ? buf_take(name, NULL) : NULL;
    if (n > 0 && row->name == NULL) {
        return cli_fail_text("out of memory");
    }
    run->names[run->n_rows - 1] = row->name;
    if (n > 0 &&
        graft_mix_compose(run->s.model, members, n, way, a->t, &row->mix, &error) != GRAFT_OK) {
        return cli_fail(&error);
    }
    return CLI_OK;
}

static void append_use(struct buf *name, const struct cli_use *use)
{
    buf_printf(name, "%s%.*s", name->size > 0 ? " + " : "", (int)use->size, use->name);
    if (use->weight != 1) {
        buf_printf(name, "=%g", (double)use->weight);
    }
}

/* All of them, `all` being their names. */
static int add_mix(struct eval_run *run, const graft_member *members, const struct buf *all)
{
    const struct cli_adapters *a = &run->args->adapters;
    struct buf name;
    buf_init(&name, NULL, SIZE_MAX);
    if (a->composed) {
        buf_printf(&name, "%s of ", graft_composition_name(a->composition));
    }
    buf_append(&name, all->data, all->size);
    int status = add_row(run, members, (size_t)a->n, &name);
    buf_free(&name);
    return status;
}

static int open_rows(struct eval_run *run)
{
    const struct cli_adapters *a = &run->args->adapters;
    graft_member members[CLI_ADAPTERS];
    struct buf all, name;
    int status = run->args->no_base ? CLI_OK : add_row(run, NULL, 0, NULL);
    buf_init(&all, NULL, SIZE_MAX);
    for (int i = 0; i < a->n && status == CLI_OK; i++) {
        buf_init(&name, NULL, SIZE_MAX);
        append_use(&name, &a->uses[i]);
        append_use(&all, &a->uses[i]);
        members[i].weight = a->uses[i].weight;
        status =
            cli_open_adapter(&run->s, a, a->uses[i].name, a->uses[i].size, &members[i].adapter);
        if (status == CLI_OK) {
            status = add_row(run, &members[i], 1, &name);
        }
        buf_free(&name);
    }
    if (status == CLI_OK && run->args->mix) {
        status = add_mix(run, members, &all);
    }
    buf_free(&all);
    return status;
}

/* ---- columns: files and what is taken of them ------------------------------------------------ */

static enum part_choice part_of(const struct eval_args *a, const char *path,
                                const graft_dataset *dataset)
{
    if (a->part != PART_DEFAULT || !path_is_dir(path)) {
        return a->part != PART_DEFAULT ? a->part : PART_ALL;
    }
    return graft_dataset_count(dataset, GRAFT_PART_TEST) > 0    ? PART_TEST
           : graft_dataset_count(dataset, GRAFT_PART_VALID) > 0 ? PART_VALID
                                                                : PART_ALL;
}

/* Example `index` of what was chosen, over the parts one behind the other. */
static graft_status example_at(const graft_dataset *dataset, enum part_choice choice, int64_t index,
                               graft_example *out, graft_error *error)
{
    static const graft_part parts[] = {GRAFT_PART_TRAIN, GRAFT_PART_VALID, GRAFT_PART_TEST};
    for (size_t i = 0; i < ARRAY_LEN(parts); i++) {
        bool taken = choice == PART_ALL || choice == (enum part_choice)(PART_TRAIN + i);
        int64_t count = taken ? graft_dataset_count(dataset, parts[i]) : 0;
        if (index < count) {
            return graft_dataset_example(dataset, parts[i], index, out, error);
        }
        index -= count;
    }
    return error_set(error, GRAFT_INTERNAL, "there is no such example");
}

static int64_t count_of(const graft_dataset *dataset, enum part_choice choice)
{
    int64_t n = 0;
    for (int i = GRAFT_PART_TRAIN; i <= GRAFT_PART_TEST; i++) {
        if (choice == PART_ALL || (int)choice == PART_TRAIN + i) {
            n += graft_dataset_count(dataset, (graft_part)i);
        }
    }
    return n;
}

static graft_status take_report(struct eval_run *run, const graft_dataset *dataset,
                                struct eval_column *column, graft_error *error)
{
    char *text = NULL;
    json_t *report = NULL;
    graft_status status = graft_dataset_report(dataset, &text, error);
    if (status == GRAFT_OK) {
        status = json_parse(text, strlen(text), &report, error);
    }
    column->records = json_integer_value(json_object_get(report, "records"));
    column->dropped = json_integer_value(json_object_get(report, "dropped"));
    column->truncated = json_integer_value(json_object_get(report, "truncated"));
    json_decref(report);
    graft_free(run->s.runtime, text);
    return status;
}

/* The examples of column i that are measured. */
static graft_status take_examples(struct eval_run *run, size_t i, enum part_choice choice,
                                  graft_error *error)
{
    struct eval_column *column = &run->columns[i];
    struct eval_items *items = &run->items[i];
    int64_t most = run->args->max_examples;
    int64_t n = most > 0 && most < column->count ? most : column->count;
    items->runtime = run->s.runtime;
    items->items = mem_calloc(NULL, (size_t)n, sizeof *items->items);
    if (items->items == NULL) {
        return error_set(error, GRAFT_NO_MEMORY, "no memory for %lld examples", (long long)n);
    }
    graft_status status = GRAFT_OK;
    for (items->n = 0; items->n < (size_t)n && status == GRAFT_OK; items->n++) {
        int64_t at = (int64_t)((double)items->n * ((double)column->count / (double)n));
        struct eval_item *item = &items->items[items->n];
        status = example_at(run->datasets[i], choice, at, &item->example, error);
        column->tokens += item->example.n_tokens;
        column->learned += item->example.n_learned;
    }
    if (status == GRAFT_OK) {
        status = eval_items_prepare(items, run->s.model, &run->how, error);
    }
    for (size_t k = 0; k < items->n; k++) {
        column->questions += items->items[k].asked > 0;
        column->found += items->items[k].wanted.at != NULL;
    }
    column->examples = n;
    run->total += items->work * run->n_rows;
    return status;
}

static int open_column(struct eval_run *run, size_t i)
{
    struct cli_data data = run->args->data;
    struct eval_column *column = &run->columns[i];
    graft_error error = {0};
    data.path = run->args->files[i];
    int status = cli_open_data(&data, &run->s, run->args->common.quiet, &run->datasets[i]);
    if (status != CLI_OK) {
        return status;
    }
    enum part_choice choice = part_of(run->args, data.path, run->datasets[i]);
    *column = (struct eval_column){
        .path = data.path, .part = part_names[choice], .count = count_of(run->datasets[i], choice)};
    if (take_report(run, run->datasets[i], column, &error) != GRAFT_OK) {
        return cli_fail(&error);
    }
    if (column->count == 0) {
        return cli_fail_text("%s: no example in part %s (of %lld records %lld were dropped); "
                             "`graft data check` tells why",
                             data.path, column->part, (long long)column->records,
                             (long long)column->dropped);
    }
    graft_status taken = take_examples(run, i, choice, &error);
    return taken == GRAFT_OK ? CLI_OK : cli_fail(&error);
}

/* ---- measuring ------------------------------------------------------------------------------ */

static bool step(void *user, uint64_t work)
{
    struct eval_run *run = user;
    run->done += work;
    return cli_progress_step(&run->progress, run->done, run->total, run->doing);
}

/* Means of a cell, and what they differ by from those of the base (NULL: there is none). */
static void fill_cell(struct eval_cell *cell, const struct eval_sums *own,
                      const struct eval_sums *base, size_t n)
{
    struct eval_mean none = {NAN, NAN};
    for (int m = 0; m < EVAL_METRICS; m++) {
        cell->of[m] = eval_mean_of(own->sum[m], NULL, own->weight[m], n);
        cell->change[m] =
            base != NULL ? eval_mean_of(own->sum[m], base->sum[m], own->weight[m], n) : none;
    }
    struct eval_mean loss = cell->of[EVAL_LOSS], change = cell->change[EVAL_LOSS];
    double perplexity = exp(loss.mean), ratio = exp(change.mean);
    cell->of[EVAL_PERPLEXITY] = (struct eval_mean){perplexity, perplexity * loss.error};
    cell->change[EVAL_PERPLEXITY] = (struct eval_mean){ratio - 1, ratio * change.error};
    cell->done = true;
}

static graft_status measure_column(struct eval_run *run, size_t column, struct eval_sums *base,
                                   struct eval_sums *own, graft_error *error)
{
    const struct eval_items *items = &run->items[column];
    graft_status status = GRAFT_OK;
    bool has_base = false;
    for (size_t row = 0; row < run->n_rows && status == GRAFT_OK; row++) {
        struct eval_sums *sums = run->rows[row].mix == NULL ? base : own;
        snprintf(run->doing, sizeof run->doing, "%s, %s", run->columns[column].path,
                 run->rows[row].name != NULL ? run->rows[row].name : "base");
        status =
            graft_session_set_mix(run->s.session, run->rows[row].mix, GRAFT_KV_CONTINUE, error);
        if (status == GRAFT_OK) {
            status = eval_measure(run->s.session, items, &run->how, sums, step, run, error);
        }
        if (status == GRAFT_OK) {
            fill_cell(eval_cell_at(&run->table, row, column), sums,
                      sums == own && has_base ? base : NULL, items->n);
            has_base = has_base || sums == base;
        }
    }
    return status;
}

static graft_status open_session(struct eval_run *run, const struct eval_items *items,
                                 graft_error *error)
{
    graft_session_options options = graft_session_options_default();
    options.sampling.temperature = 0;
    options.n_ctx = items->longest;
    options.stop_ids = items->ends;
    options.n_stop_ids = items->n_ends;
    return graft_session_open(run->s.model, &options, &run->s.session, error);
}

static int measure(struct eval_run *run)
{
    graft_error error = {0};
    graft_status status = GRAFT_OK;
    cli_progress_begin(&run->progress, "evaluating", run->args->common.quiet);
    for (size_t i = 0; i < run->table.n_columns && status == GRAFT_OK; i++) {
        struct eval_sums base = {0}, own = {0};
        status = open_session(run, &run->items[i], &error);
        if (status == GRAFT_OK && (eval_sums_make(&base, run->items[i].n) != GRAFT_OK ||
                                   eval_sums_make(&own, run->items[i].n) != GRAFT_OK)) {
            status = error_set(&error, GRAFT_NO_MEMORY, "out of memory");
        }
        if (status == GRAFT_OK) {
            status = measure_column(run, i, &base, &own, &error);
        }
        eval_sums_free(&base);
        eval_sums_free(&own);
        graft_session_close(&run->s.session);
    }
    cli_progress_end(&run->progress);
    run->table.interrupted = status == GRAFT_CANCELLED;
    return status == GRAFT_OK || run->table.interrupted ? CLI_OK : cli_fail(&error);
}

/* ---- the verb ------------------------------------------------------------------------------- */

static size_t output_width(void)
{
    struct winsize size;
    if (ioctl(STDOUT_FILENO, TIOCGWINSZ, &size) == 0 && size.ws_col > 0) {
        return size.ws_col;
    }
    return SIZE_MAX;
}

static int tell(const struct eval_run *run)
{
    bool any = !run->table.interrupted || eval_cell_at(&run->table, 0, 0)->done;
    int status = CLI_OK;
    if (any && run->args->common.json) {
        status = cli_print_json(eval_json(&run->table));
    } else if (any) {
        eval_print(&run->table, stdout, output_width());
    }
    return status == CLI_OK && run->table.interrupted ? cli_fail_text("interrupted") : status;
}

static int prepare(struct eval_run *run)
{
    const struct eval_args *a = run->args;
    graft_error error = {0};
    if (a->pattern != NULL &&
        eval_pattern_open(a->pattern, &run->how.pattern, &error) != GRAFT_OK) {
        cli_fail_text("--regex: %s", error.message);
        return error.status == GRAFT_INVALID_ARGUMENT ? CLI_USAGE : CLI_FAILED;
    }
    int status = cli_open_model(&a->common, &run->s);
    if (status == CLI_OK && graft_model_describe(run->s.model, &run->info, &error) != GRAFT_OK) {
        status = cli_fail(&error);
    }
    run->how.answers = !a->no_answers;
    run->how.max_tokens = a->max_tokens;
    run->how.n_labels = run->info.n_labels;
    if (status == CLI_OK && a->pattern != NULL && run->info.n_labels > 0) {
        return cli_fail_text("%s is a classifier: it has no answers for --regex", run->info.path);
    }
    if (status == CLI_OK) {
        status = open_rows(run);
    }
    bool found = false;
    for (size_t i = 0; i < a->n_files && status == CLI_OK; i++) {
        status = open_column(run, i);
        found = found || run->columns[i].found > 0;
    }
    if (status == CLI_OK && a->pattern != NULL && !found) {
        return cli_fail_text("--regex: \"%s\" finds nothing in any reference answer", a->pattern);
    }
    return status;
}

static void close_run(struct eval_run *run)
{
    for (size_t i = 0; i < run->n_rows; i++) {
        graft_mix_close(&run->rows[i].mix);
        mem_free(NULL, run->rows[i].name);
    }
    for (size_t i = 0; i < run->args->n_files; i++) {
        eval_items_free(&run->items[i]);
        graft_dataset_close(&run->datasets[i]);
    }
    mem_free(NULL, run->table.cells);
    cli_close(&run->s);
    eval_pattern_close(&run->how.pattern);
    mem_free(NULL, run);
}

int verb_eval(int argc, char **argv)
{
    struct eval_args args = {.max_tokens = ANSWER_TOKENS};
    cli_data_init(&args.data);
    argp_parse(&eval_argp, argc, argv, 0, NULL, &args);
    cli_catch_interrupt();
    struct eval_run *run = mem_calloc(NULL, 1, sizeof *run);
    if (run == NULL) {
        return cli_fail_text("out of memory");
    }
    run->args = &args;
    int status = prepare(run);
    if (status == CLI_OK) {
        run->table = (struct eval_table){
            .model = run->info.path,
            .rows = run->names,
            .columns = run->columns,
            .cells = mem_calloc(NULL, run->n_rows * args.n_files, sizeof *run->table.cells),
            .n_rows = run->n_rows,
            .n_columns = args.n_files,
            .pattern = args.pattern,
            .max_tokens = args.max_tokens};
        status = run->table.cells != NULL ? measure(run) : cli_fail_text("out of memory");
    }
    if (status == CLI_OK) {
        status = tell(run);
    }
    close_run(run);
    return status;
}
