/* data.c: `graft data VERB`: the table of verbs on training data, and the options that reading it takes. */
#include "data.h"

enum {
    KEY_LOSS = 0x600,
    KEY_MAX,
    KEY_QUALITY,
    KEY_VALID,
    KEY_SHARE,
    KEY_SEED,
    KEY_RAW,
    KEY_PROMPT,
    KEY_COMPLETION,
    KEY_TEXT,
    KEY_TEMPLATE
};

struct data_verb {
    const char *name, *summary;
    int (*run)(int argc, char **argv);
};

static const struct data_verb verbs[] = {
    {"check", "what training data is to a model: tokens, masks, what is left out", verb_data_check},
    {"generate", "made-up vectors of five tasks", verb_data_generate},
    {"fit", "the factors of one module, from vectors", verb_data_fit},
    {NULL, NULL, NULL},
};

static void print_help(FILE *out)
{
    fputs("Usage: graft data VERB [OPTION...]\n"
          "Look at training data before anything is trained on it; make and use vectors.\n\n"
          "Verbs:\n",
          out);
    for (const struct data_verb *v = verbs; v->name != NULL; v++) {
        fprintf(out, "  %-10s %s\n", v->name, v->summary);
    }
    fputs("\nExamples:\n"
          "  graft data check train.jsonl -m DIR\n\n"
          "`graft data VERB --help` tells a verb's options.\n",
          out);
}

int verb_data(int argc, char **argv)
{
    if (argc < 2) {
        print_help(stderr);
        return CLI_USAGE;
    }
    if (strcmp(argv[1], "--help") == 0 || strcmp(argv[1], "-?") == 0 ||
        strcmp(argv[1], "-h") == 0) {
        print_help(stdout);
        return CLI_OK;
    }
    for (const struct data_verb *v = verbs; v->name != NULL; v++) {
        if (strcmp(v->name, argv[1]) == 0) {
            char name[64];
            snprintf(name, sizeof name, "graft data %s", v->name);
            argv[1] = name;
            return v->run(argc - 1, argv + 1);
        }
    }
    fprintf(stderr, "graft: no verb \"data %s\"; `graft data --help` lists them\n", argv[1]);
    return CLI_USAGE;
}

/* ---- options ------------------------------------------------------------------------------- */

void cli_data_init(struct cli_data *data)
{
    *data = (struct cli_data){.options = graft_dataset_options_default()};
}

static graft_loss parse_loss(struct argp_state *state, const char *arg)
{
    static const char *const names[] = {"auto", "assistant", "completion", "all"};
    for (size_t i = 0; i < ARRAY_LEN(names); i++) {
        if (strcmp(arg, names[i]) == 0) {
            return (graft_loss)i;
        }
    }
    argp_error(state, "--loss: \"%s\" is none of assistant, completion, all", arg);
    return GRAFT_LOSS_AUTO;
}

static void take_path(struct cli_data *d, struct argp_state *state, char *arg)
{
    if (d->path != NULL) {
        argp_error(state, "one file or folder, not \"%s\" too", arg);
    }
    d->path = cli_parse_name(state, "FILE", arg);
}

static error_t parse_members(int key, char *arg, struct argp_state *state)
{
    graft_dataset_options *o = &((struct cli_data *)state->input)->options;
    switch (key) {
    case KEY_PROMPT:
        o->prompt_key = cli_parse_name(state, "--prompt-key", arg);
        return 0;
    case KEY_COMPLETION:
        o->completion_key = cli_parse_name(state, "--completion-key", arg);
        return 0;
    case KEY_TEXT:
        o->text_key = cli_parse_name(state, "--text-key", arg);
        return 0;
    case KEY_TEMPLATE:
        o->chat_template = cli_parse_name(state, "--chat-template", arg);
        return 0;
    case KEY_RAW:
        o->raw = true;
        return 0;
    default:
        return ARGP_ERR_UNKNOWN;
    }
}

static void check_together(struct cli_data *d, struct argp_state *state)
{
    const graft_dataset_options *o = &d->options;
    if (d->path == NULL && d->fallback == NULL) {
        argp_error(state, "which data? give a file or a folder");
    }
    d->path = d->path != NULL ? d->path : d->fallback;
    if (o->text_key != NULL && (o->prompt_key != NULL || o->completion_key != NULL)) {
        argp_error(state, "either --text-key, or --prompt-key and --completion-key");
    }
}

static error_t parse_data(int key, char *arg, struct argp_state *state)
{
    struct cli_data *d = state->input;
    graft_dataset_options *o = &d->options;
    switch (key) {
    case ARGP_KEY_ARG:
        take_path(d, state, arg);
        return 0;
    case KEY_LOSS:
        o->loss = parse_loss(state, arg);
        return 0;
    case KEY_MAX:
        o->max_seq_length = (int)cli_parse_int(state, "--max-seq-length", arg, 2, 1 << 24);
        return 0;
    case KEY_QUALITY:
        o->min_quality = cli_parse_number(state, "--min-quality", arg, 0, 1);
        return 0;
    case KEY_VALID:
        o->valid = cli_parse_name(state, "--valid", arg);
        return 0;
    case KEY_SHARE:
        o->valid_share = cli_parse_number(state, "--valid-share", arg, 0, 0.99);
        return 0;
    case KEY_SEED:
        o->seed = (uint64_t)cli_parse_int(state, "--seed", arg, 0, INT64_MAX);
        return 0;
    case ARGP_KEY_END:
        check_together(d, state);
        return 0;
    default:
        return parse_members(key, arg, state);
    }
}

static const struct argp_option data_options[] = {
    {NULL, 0, NULL, 0, "Data:", 2},
    {"loss", KEY_LOSS, "WHAT", 0,
     "What is learned: assistant, completion or all; default: answers of chats, completions, all "
     "of "
     "texts",
     2},
    {"max-seq-length", KEY_MAX, "N", 0,
     "Tokens of an example, the rest is cut off; default: min(2048, model)", 2},
    {"min-quality", KEY_QUALITY, "Q", 0, "Leave out records whose \"quality\" is less", 2},
    {"valid", KEY_VALID, "FILE", 0, "Validate on this file; default: valid.jsonl, or a split", 2},
    {"valid-share", KEY_SHARE, "S", 0, "Share of the records that is split off; default: 0.2", 2},
    {"seed", KEY_SEED, "N", 0, "Of the split; in training of order and dropout too; default: 0", 2},
    {"raw", KEY_RAW, NULL, 0, "Prompts, completions, instructions as plain text, not as a chat", 2},
    {"prompt-key", KEY_PROMPT, "NAME", 0, "The member that is the prompt; default: known names", 2},
    {"completion-key", KEY_COMPLETION, "NAME", 0, "The member that is the completion", 2},
    {"text-key", KEY_TEXT, "NAME", 0, "The member that is a text; default: text", 2},
    {"chat-template", KEY_TEMPLATE, "FILE", 0,
     "Another template than the model's; chatml and plain are built in", 2},
    {0},
};
const struct argp cli_data_argp = {.options = data_options, .parser = parse_data};

int cli_open_data(const struct cli_data *data, const struct cli_session *s, bool quiet,
                  graft_dataset **out)
{
    struct cli_progress progress;
    graft_error error = {0};
    graft_dataset_options options = data->options;
    cli_progress_begin(&progress, "reading", quiet);
    options.progress = cli_progress_step;
    options.progress_user = &progress;
    graft_status status = graft_dataset_open(s->model, data->path, &options, out, &error);
    cli_progress_end(&progress);
    if (status == GRAFT_CANCELLED) {
        return cli_fail_text("interrupted");
    }
    return status == GRAFT_OK ? CLI_OK : cli_fail(&error);
}

void cli_print_loss(FILE *to, const json_t *report)
{
    const char *loss = json_string_value(json_object_get(report, "loss"));
    const json_t *formats = json_object_get(report, "formats");
    const char *format, *between = ": ";
    const json_t *count;
    bool said[4] = {false};
    static const char *const words[] = {"the assistant's answers", "completions", "texts, whole",
                                        "the class, at the last token"};
    fprintf(to, "%-12s%s", "loss", loss);
    json_object_foreach((json_t *)(uintptr_t)formats, format, count)
    {
        (void)count;
        int kind = strcmp(format, "text/label") == 0   ? 3
                   : strncmp(format, "text", 4) == 0   ? 2
                   : strncmp(format, "prompt", 6) == 0 ? 1
                                                       : 0;
        if (strcmp(loss, "auto") == 0 && !said[kind]) {
            fprintf(to, "%s%s", between, words[kind]);
            said[kind] = true;
            between = ", ";
        }
    }
    putc('\n', to);
}
