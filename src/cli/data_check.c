/* data_check.c: `graft data check`: what a file of examples becomes for a model: how many tokens, which are learned,
 * what is left out and why, and a few examples with what is learned set off.
 *
 * What is learned is underlined in colour at a terminal, in brackets elsewhere and with NO_COLOR. Texts of files may
 * hold anything, so control characters are shown as escapes.
 */
#include "data.h"

#include <stdlib.h>
#include <sys/ioctl.h>
#include <unistd.h>

enum { KEY_ALL = 0x700, KEY_PREVIEW, KEY_SAVE, ISSUES_SHOWN = 10, PREVIEW_BYTES = 2000, BAR = 40 };

struct check_args {
    struct cli_common common;
    struct cli_data data;
    bool all;
    int preview;
    const char *save;
};

static error_t parse_check(int key, char *arg, struct argp_state *state)
{
    struct check_args *a = state->input;
    switch (key) {
    case ARGP_KEY_INIT:
        state->child_inputs[0] = &a->data;
        state->child_inputs[1] = &a->common;
        return 0;
    case KEY_ALL:
        a->all = true;
        return 0;
    case KEY_PREVIEW:
        a->preview = (int)cli_parse_int(state, "--preview", arg, 0, 1000000);
        return 0;
    case KEY_SAVE:
        a->save = cli_parse_name(state, "--save", arg);
        return 0;
    default:
        return ARGP_ERR_UNKNOWN;
    }
}

static const struct argp_option check_options[] = {
    {"preview", KEY_PREVIEW, "N", 0, "Examples to show; default: 2", 1},
    {"all", KEY_ALL, NULL, 0, "List all that is dropped or cut, not the first ten", 1},
    {"save", KEY_SAVE, "FILE", 0, "Keep it tokenised: training takes FILE in place of the data", 1},
    {0},
};
static const struct argp_child check_children[] = {
    {&cli_data_argp, 0, NULL, 0}, {&cli_common_argp, 0, NULL, 0}, {0}};
static const struct argp check_argp = {
    .options = check_options,
    .parser = parse_check,
    .children = check_children,
    .args_doc = "FILE|DIR",
    .doc = "Read training data as training would and tell what it is to a model: counts, tokens, "
           "which of them are learned, what is dropped or cut and how to mend it, and some "
           "examples. JSONL or a JSON array of messages, prompt/completion, text, Alpaca, ShareGPT "
           "or Anthropic records; a .txt file; a folder with train.jsonl, valid.jsonl, test.jsonl. "
           "The exit status is 1 when nothing can be trained on.\v"
           "Examples:\n"
           "  graft data check train.jsonl -m DIR\n"
           "  graft data check train.jsonl --loss all --max-seq-length 512 --all\n"
           "  graft data check train.jsonl --save train.tokens --json\n"};

/* ---- text of files ------------------------------------------------------------------------- */

/* Line breaks stay, indented; what would steer a terminal does not. */
static void print_text(const char *text, size_t size)
{
    for (const char *end = text + size, *line = text; line < end;) {
        const char *stop = memchr(line, '\n', (size_t)(end - line));
        cli_put_text(stdout, line, (size_t)((stop != NULL ? stop : end) - line), 0);
        fputs(stop != NULL ? "\n  " : "", stdout);
        line = stop != NULL ? stop + 1 : end;
    }
}

/* A name or a path, in one line. */
static void print_name(const char *text)
{
    cli_put_text(stdout, text, strlen(text), '?');
}

/* ---- the report for people ----------------------------------------------------------------- */

static json_int_t integer(const json_t *object, const char *key)
{
    return json_integer_value(json_object_get(object, key));
}

static void print_files(const json_t *files)
{
    for (size_t i = 0; i < json_array_size(files); i++) {
        printf("%-12s", i == 0 ? "data" : "");
        print_name(json_string_value(json_array_get(files, i)));
        putchar('\n');
    }
}

static bool has_chats(const json_t *report)
{
    const json_t *formats = json_object_get(report, "formats");
    return integer(formats, "messages") + integer(formats, "sharegpt") +
               integer(formats, "anthropic") >
           0;
}

/* Whether conversations were written in a way that the model does not ask for. */
static bool lacks_template(const struct cli_session *s, const struct check_args *a,
                           const json_t *report)
{
    graft_model_info info;
    return has_chats(report) && a->data.options.chat_template == NULL &&
           graft_model_describe(s->model, &info, NULL) == GRAFT_OK && !info.has_chat_template;
}

static void print_template(const struct cli_session *s, const struct check_args *a,
                           const json_t *report)
{
    const char *name = json_string_value(json_object_get(report, "template"));
    if (lacks_template(s, a, report)) {
        printf("%-12splain, since the model has none: ask it in that form, or choose another with "
               "--chat-template\n",
               "template");
    } else if (strcmp(name, "model") != 0) {
        printf("%-12s%s\n", "template", name);
    }
}

static void print_records(const json_t *report)
{
    const json_t *formats = json_object_get(report, "formats");
    const char *format, *between = ": ";
    const json_t *count;
    printf("%-12s%" JSON_INTEGER_FORMAT, "records", integer(report, "records"));
    json_object_foreach((json_t *)(uintptr_t)formats, format, count)
    {
        printf("%s%" JSON_INTEGER_FORMAT " %s", between, json_integer_value(count), format);
        between = ", ";
    }
    printf("\n%-12s%" JSON_INTEGER_FORMAT, "dropped", integer(report, "dropped"));
    if (integer(report, "below_quality") > 0) {
        printf(" (%" JSON_INTEGER_FORMAT " by their quality)", integer(report, "below_quality"));
    }
    printf("\n%-12s%" JSON_INTEGER_FORMAT, "cut", integer(report, "truncated"));
    if (integer(report, "truncated") > 0) {
        printf(" (%" JSON_INTEGER_FORMAT " tokens of them)", integer(report, "tokens_cut"));
    }
    putchar('\n');
    if (integer(report, "divided") > 0) {
        printf("%-12s%" JSON_INTEGER_FORMAT " conversations gave several examples: the template "
               "rewrites earlier turns\n",
               "divided", integer(report, "divided"));
    }
    if (integer(report, "reopened") > 0) {
        printf("%-12s%" JSON_INTEGER_FORMAT " answers stand behind what the template opens an "
               "answer with\n",
               "opened", integer(report, "reopened"));
    }
}

static void print_parts(const json_t *report)
{
    static const char *const parts[] = {"train", "valid", "test"};
    const json_t *examples = json_object_get(report, "examples");
    const json_t *tokens = json_object_get(report, "tokens");
    const json_t *learned = json_object_get(report, "learned");
    printf("\n%-12s%10s %12s %12s\n", "part", "examples", "tokens", "learned");
    for (size_t i = 0; i < ARRAY_LEN(parts); i++) {
        json_int_t n = integer(examples, parts[i]), all = integer(tokens, parts[i]);
        json_int_t own = integer(learned, parts[i]);
        if (n > 0 || i == 0) {
            printf("%-12s%10" JSON_INTEGER_FORMAT " %12" JSON_INTEGER_FORMAT
                   " %12" JSON_INTEGER_FORMAT " (%.0f %%)\n",
                   parts[i], n, all, own, all > 0 ? 100.0 * (double)own / (double)all : 0);
        }
    }
}

static void print_lengths(const json_t *report)
{
    const json_t *longest = json_object_get(report, "longest");
    json_int_t rows = integer(report, "packed_rows"), max = integer(report, "max_seq_length");
    json_int_t train = integer(json_object_get(report, "tokens"), "train");
    if (rows == 0) {
        return;
    }
    printf("\nThe longest has %" JSON_INTEGER_FORMAT " tokens (", integer(longest, "tokens"));
    print_name(json_string_value(json_object_get(longest, "file")));
    printf(", line %" JSON_INTEGER_FORMAT "); %" JSON_INTEGER_FORMAT " are taken.\n",
           integer(longest, "line"), max);
    printf("Packed, the training part fills %" JSON_INTEGER_FORMAT " %s of %" JSON_INTEGER_FORMAT
           " to %.1f %%.\n",
           rows, rows == 1 ? "row" : "rows", max,
           100.0 * (double)train / ((double)rows * (double)max));
}

/* Eighths of a cell, so that a bar is as long as its share. */
static void print_bar(double cells)
{
    static const char *const eighths[] = {"",       "\u258F", "\u258E", "\u258D",
                                          "\u258C", "\u258B", "\u258A", "\u2589"};
    int whole = (int)cells;
    for (int i = 0; i < whole; i++) {
        fputs("\u2588", stdout);
    }
    int rest = (int)((cells - whole) * 8);
    fputs(whole == 0 && rest == 0 && cells > 0 ? eighths[1] : eighths[rest], stdout);
}

static void print_histogram(const json_t *histogram)
{
    json_int_t width = integer(histogram, "width"), most = 0;
    const json_t *counts = json_object_get(histogram, "counts");
    size_t last = 0;
    for (size_t i = 0; i < json_array_size(counts); i++) {
        json_int_t n = json_integer_value(json_array_get(counts, i));
        most = n > most ? n : most;
        last = n > 0 ? i + 1 : last;
    }
    printf("%s", last > 0 ? "\ntokens per example\n" : "");
    for (size_t i = 0; i < last; i++) {
        json_int_t n = json_integer_value(json_array_get(counts, i));
        printf("%6" JSON_INTEGER_FORMAT " to %-6" JSON_INTEGER_FORMAT, (json_int_t)i * width + 1,
               ((json_int_t)i + 1) * width);
        print_bar(BAR * (double)n / (double)most);
        printf("%s%" JSON_INTEGER_FORMAT "\n", n > 0 ? " " : "", n);
    }
}

static void print_groups(const json_t *groups, const char *what)
{
    if (json_array_size(groups) == 0) {
        return;
    }
    printf("\n%-24s%10s %12s\n", what, "examples", "learned");
    for (size_t i = 0; i < json_array_size(groups); i++) {
        const json_t *g = json_array_get(groups, i);
        const char *name = json_string_value(json_object_get(g, "name"));
        print_name(name);
        printf("%*s%10" JSON_INTEGER_FORMAT " %12" JSON_INTEGER_FORMAT "\n",
               strlen(name) < 24 ? 24 - (int)strlen(name) : 0, "", integer(g, "examples"),
               integer(g, "learned"));
    }
}

static void print_issues(const graft_dataset *dataset, bool all, json_int_t counted)
{
    int64_t n = graft_dataset_issues(dataset), shown = all || n < ISSUES_SHOWN ? n : ISSUES_SHOWN;
    if (n > 0) {
        putchar('\n');
    }
    for (int64_t i = 0; i < shown; i++) {
        graft_data_issue issue;
        if (graft_dataset_issue(dataset, i, &issue, NULL) == GRAFT_OK) {
            print_name(issue.file);
            printf(":%lld: %s: %s; %s\n", (long long)issue.line, issue.dropped ? "dropped" : "cut",
                   issue.reason, issue.fix);
        }
    }
    if (counted > shown) {
        printf("... and %lld more%s\n", (long long)(counted - shown), all ? "" : " (--all)");
    }
}

/* ---- the preview --------------------------------------------------------------------------- */

/* A piece of an example: learned or not. */
struct run {
    int begin, end; /* ids */
    bool learned;
};

/* The run that begins with id `at`; ids are 0..n_tokens, the last one only followed to. */
static struct run run_at(const graft_example *e, int at)
{
    struct run r = {at, at, at > 0 && e->learned[at - 1]};
    while (r.end <= e->n_tokens && (r.end > 0 && e->learned[r.end - 1]) == r.learned) {
        r.end++;
    }
    return r;
}

static bool is_class(const graft_example *e)
{
    return strcmp(e->format, "text/label") == 0;
}

/* Text of ids [0, end), behind the first `from` bytes of it. The text is the caller's. */
static graft_status text_until(const graft_model *model, const graft_example *e, int end,
                               char **text, size_t *size, graft_error *error)
{
    return graft_detokenize(graft_model_tokenizer(model), e->tokens, (size_t)end, true, text, size,
                            error);
}

/* Text of one run: that of all ids to its end without that of those before, so that spaces are where they are. */
static graft_status run_text(const struct cli_session *s, const graft_example *e,
                             const struct run *r, struct buf *out, graft_error *error)
{
    char *before = NULL, *whole = NULL;
    size_t n_before = 0, n_whole = 0;
    if (is_class(e) && r->learned) {
        const char *label = graft_model_label(s->model, e->tokens[e->n_tokens]);
        return buf_puts(out, label != NULL ? label : "?") ? GRAFT_OK : GRAFT_NO_MEMORY;
    }
    graft_status status = text_until(s->model, e, r->begin, &before, &n_before, error);
    if (status == GRAFT_OK) {
        status = text_until(s->model, e, r->end, &whole, &n_whole, error);
    }
    if (status == GRAFT_OK && n_whole >= n_before &&
        !buf_append(out, whole + n_before, n_whole - n_before)) {
        status = error_set(error, GRAFT_NO_MEMORY, "out of memory");
    }
    graft_free(s->runtime, before);
    graft_free(s->runtime, whole);
    return status;
}

static void print_run(const struct buf *text, const struct run *r, bool colour)
{
    size_t size =
        text->size < PREVIEW_BYTES ? text->size : utf8_complete(text->data, PREVIEW_BYTES);
    fputs(!r->learned ? "" : colour ? "\033[1;4;32m" : "[", stdout);
    print_text(text->size > 0 ? text->data : "", size);
    if (size < text->size) {
        printf(" ... (%zu more bytes)", text->size - size);
    }
    fputs(!r->learned ? "" : colour ? "\033[0m" : "]", stdout);
}

static int print_example(const struct cli_session *s, const graft_example *e, bool colour)
{
    graft_error error = {0};
    graft_status status = GRAFT_OK;
    putchar('\n');
    print_name(e->file);
    printf(":%lld  %s, %d tokens, %d learned", (long long)e->line, e->format, e->n_tokens,
           e->n_learned);
    if (e->weight != 1) {
        printf(", weight %g", (double)e->weight);
    }
    fputs(e->task[0] != '\0' ? ", task " : "", stdout);
    print_name(e->task);
    fputs(e->domain[0] != '\0' ? ", domain " : "", stdout);
    print_name(e->domain);
    fputs("\n  ", stdout);
    for (int at = 0; at <= e->n_tokens && status == GRAFT_OK;) {
        struct run r = run_at(e, at);
        struct buf text;
        buf_init(&text, NULL, SIZE_MAX);
        status = run_text(s, e, &r, &text, &error);
        if (status == GRAFT_OK) {
            print_run(&text, &r, colour);
        }
        buf_free(&text);
        at = r.end;
    }
    putchar('\n');
    return status == GRAFT_OK ? CLI_OK : cli_fail(&error);
}

static bool use_colour(void)
{
    const char *no = getenv("NO_COLOR"), *term = getenv("TERM");
    return isatty(STDOUT_FILENO) != 0 && (no == NULL || no[0] == '\0') &&
           (term == NULL || strcmp(term, "dumb") != 0);
}

static int print_preview(const struct cli_session *s, const graft_dataset *dataset, int n)
{
    bool colour = use_colour();
    int status = CLI_OK;
    int64_t count = graft_dataset_count(dataset, GRAFT_PART_TRAIN);
    if (n > 0 && count > 0) {
        printf("\nWhat is learned is %s:\n", colour ? "underlined" : "in brackets");
    }
    for (int64_t i = 0; i < n && i < count && status == CLI_OK; i++) {
        graft_example e;
        graft_error error = {0};
        status = graft_dataset_example(dataset, GRAFT_PART_TRAIN, i, &e, &error) == GRAFT_OK
                     ? print_example(s, &e, colour)
                     : cli_fail(&error);
    }
    return status;
}

/* ---- for machines -------------------------------------------------------------------------- */

static json_t *issues_json(const graft_dataset *dataset, bool all)
{
    json_t *list = json_array();
    int64_t n = graft_dataset_issues(dataset);
    for (int64_t i = 0; i < n && (all || i < ISSUES_SHOWN); i++) {
        graft_data_issue s;
        if (graft_dataset_issue(dataset, i, &s, NULL) == GRAFT_OK) {
            json_append(&list, json_pack("{s:o, s:I, s:b, s:o, s:s}", "file",
                                         json_any_text(s.file, strlen(s.file)), "line",
                                         (json_int_t)s.line, "dropped", (int)s.dropped, "reason",
                                         json_any_text(s.reason, strlen(s.reason)), "fix", s.fix));
        }
    }
    return list;
}

/* [[text, learned], …] */
static json_t *runs_json(const struct cli_session *s, const graft_example *e, graft_error *error)
{
    json_t *list = json_array();
    for (int at = 0; at <= e->n_tokens && list != NULL;) {
        struct run r = run_at(e, at);
        struct buf text;
        buf_init(&text, NULL, SIZE_MAX);
        bool ok = run_text(s, e, &r, &text, error) == GRAFT_OK;
        json_append(&list, ok ? json_pack("[o, b]",
                                          json_any_text(text.size > 0 ? text.data : "", text.size),
                                          (int)r.learned)
                              : NULL);
        buf_free(&text);
        at = r.end;
    }
    return list;
}

static json_t *preview_json(const struct cli_session *s, const graft_dataset *dataset, int n)
{
    json_t *list = json_array();
    int64_t count = graft_dataset_count(dataset, GRAFT_PART_TRAIN);
    for (int64_t i = 0; i < n && i < count; i++) {
        graft_example e;
        graft_error error = {0};
        if (graft_dataset_example(dataset, GRAFT_PART_TRAIN, i, &e, &error) == GRAFT_OK) {
            json_append(&list,
                        json_pack("{s:o, s:I, s:s, s:i, s:i, s:f, s:o}", "file",
                                  json_any_text(e.file, strlen(e.file)), "line", (json_int_t)e.line,
                                  "format", e.format, "tokens", e.n_tokens, "learned", e.n_learned,
                                  "weight", (double)e.weight, "runs", runs_json(s, &e, &error)));
        }
    }
    return list;
}

static int print_check_json(const struct cli_session *s, const struct check_args *a,
                            const graft_dataset *dataset, json_t *report)
{
    json_put(&report, "usable", json_boolean(graft_dataset_count(dataset, GRAFT_PART_TRAIN) > 0));
    json_put(&report, "issues", issues_json(dataset, a->all));
    json_put(&report, "preview", preview_json(s, dataset, a->preview));
    if (a->save != NULL) {
        json_put(&report, "output", json_any_text(a->save, strlen(a->save)));
    }
    return cli_print_json(report);
}

/* ---- the verb ------------------------------------------------------------------------------ */

static int print_check(const struct cli_session *s, const struct check_args *a,
                       const graft_dataset *dataset, json_t *report)
{
    json_int_t issues = integer(report, "dropped") + integer(report, "truncated");
    print_files(json_object_get(report, "files"));
    cli_print_loss(stdout, report);
    print_template(s, a, report);
    print_records(report);
    print_parts(report);
    print_lengths(report);
    print_histogram(json_object_get(report, "histogram"));
    print_groups(json_object_get(report, "tasks"), "task");
    print_groups(json_object_get(report, "domains"), "domain");
    print_issues(dataset, a->all, issues);
    int status = print_preview(s, dataset, a->preview);
    json_decref(report);
    return status;
}

static int tell(const struct cli_session *s, const struct check_args *a,
                const graft_dataset *dataset)
{
    char *text = NULL;
    json_t *report = NULL;
    graft_error error = {0};
    if (a->save != NULL && graft_dataset_save(dataset, a->save, &error) != GRAFT_OK) {
        return cli_fail(&error);
    }
    graft_status status = graft_dataset_report(dataset, &text, &error);
    if (status == GRAFT_OK) {
        status = json_parse(text, strlen(text), &report, &error);
    }
    graft_free(s->runtime, text);
    if (status != GRAFT_OK) {
        return cli_fail(&error);
    }
    int told = a->common.json ? print_check_json(s, a, dataset, report)
                              : print_check(s, a, dataset, report);
    if (told == CLI_OK && graft_dataset_count(dataset, GRAFT_PART_TRAIN) == 0) {
        return cli_fail_text("nothing in %s can be trained on", a->data.path);
    }
    return told;
}

int verb_data_check(int argc, char **argv)
{
    struct check_args args = {.preview = 2};
    struct cli_session s;
    graft_dataset *dataset = NULL;
    cli_data_init(&args.data);
    argp_parse(&check_argp, argc, argv, 0, NULL, &args);
    cli_catch_interrupt();
    if (args.common.pack == NULL) {
        args.common.pack = "none"; /* nothing is computed */
    }
    int status = cli_open_model(&args.common, &s);
    if (status != CLI_OK) {
        return status;
    }
    status = cli_open_data(&args.data, &s, args.common.quiet, &dataset);
    if (status == CLI_OK) {
        status = tell(&s, &args, dataset);
    }
    graft_dataset_close(&dataset);
    cli_close(&s);
    return status;
}
