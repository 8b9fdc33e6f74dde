/* adapter.c: `graft adapter VERB`: the table of verbs on adapters. */
#include "adapter.h"

enum { KEY_SCALE = 0x500 };

struct adapter_verb {
    const char *name, *summary;
    int (*run)(int argc, char **argv);
};

static const struct adapter_verb verbs[] = {
    {"new", "a fresh adapter, from a preset or not", verb_adapter_new},
    {"convert", "an adapter in another format: PEFT, MLX, GGUF", verb_adapter_convert},
    {"quantize", "an adapter with factors of 8 or 4 bits", verb_adapter_quantize},
    {"compress", "an adapter with fewer ranks", verb_adapter_compress},
    {"diff", "how two adapters differ", verb_adapter_diff},
    {"show", "what an adapter is", verb_adapter_show},
    {"verify", "does it fit the model, and other programs", verb_adapter_verify},
    {"list", "what is registered: versions, slots, sizes", verb_adapter_list},
    {"add", "register an adapter, or a folder of them, under a name", verb_adapter_add},
    {"stage", "put a version on standby", verb_adapter_stage},
    {"promote", "make the version on standby the active one", verb_adapter_promote},
    {"publish", "stage and promote at once", verb_adapter_publish},
    {"activate", "make any version the active one", verb_adapter_activate},
    {"rollback", "back to the version that was active before", verb_adapter_rollback},
    {"learn", "from feedback: a new version, if held-out answers are not worse for it",
     verb_adapter_learn},
    {"pin", "keep in memory once opened", verb_adapter_pin},
    {"unpin", "no longer so", verb_adapter_unpin},
    {"evict", "have running programs let go of it in memory", verb_adapter_evict},
    {"remove", "delete a version, or a name with all of them", verb_adapter_remove},
    {NULL, NULL, NULL},
};

static void print_help(FILE *out)
{
    fputs(
        "Usage: graft adapter VERB [OPTION...]\n"
        "Make adapters, look into them, bring them into other formats, and keep them by name and\n"
        "version in the home (GRAFT_HOME) that all programs share.\n\nVerbs:\n",
        out);
    for (const struct adapter_verb *v = verbs; v->name != NULL; v++) {
        fprintf(out, "  %-10s %s\n", v->name, v->summary);
    }
    fputs("\nExamples:\n"
          "  graft adapter new --preset coder -o my-coder\n"
          "  graft adapter convert my-coder -o my-coder.gguf\n"
          "  graft adapter verify my-coder --for vllm\n"
          "  graft adapter add my-coder --name coder\n"
          "  graft adapter list\n\n"
          "`graft adapter VERB --help` tells a verb's options.\n",
          out);
}

static const struct adapter_verb *find_verb(const char *name)
{
    for (const struct adapter_verb *v = verbs; v->name != NULL; v++) {
        if (strcmp(v->name, name) == 0) {
            return v;
        }
    }
    fprintf(stderr, "graft: no verb \"adapter %s\"; `graft adapter --help` lists them\n", name);
    return NULL;
}

int verb_adapter(int argc, char **argv)
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
    const struct adapter_verb *verb = find_verb(argv[1]);
    if (verb == NULL) {
        return CLI_USAGE;
    }
    char name[64];
    snprintf(name, sizeof name, "graft adapter %s", verb->name);
    argv[1] = name;
    return verb->run(argc - 1, argv + 1);
}

/* ---- shared ---- */

static void check_subject(const char *name, struct argp_state *state)
{
    char why[CLI_WHY];
    const char *at = strchr(name, '=');
    if (cli_check_name(name, strlen(name), why)) {
        return;
    }
    if (at != NULL && at > name && cli_check_name(name, (size_t)(at - name), why)) {
        argp_error(state, "%s: no weight here, only the name", name);
    }
    argp_error(state, "%s", why);
}

static error_t parse_subject(int key, char *arg, struct argp_state *state)
{
    struct cli_subject *s = state->input;
    switch (key) {
    case KEY_SCALE:
        s->scale = cli_parse_scale(state, arg);
        return 0;
    case ARGP_KEY_ARG:
        if (s->name != NULL) {
            argp_error(state, "one adapter, not \"%s\" too", arg);
        }
        s->name = cli_parse_name(state, "ADAPTER", arg);
        check_subject(s->name, state);
        return 0;
    case ARGP_KEY_END:
        if (s->name == NULL) {
            argp_error(state, "which adapter? give its directory or file, or NAME[@VERSION]");
        }
        return 0;
    default:
        return ARGP_ERR_UNKNOWN;
    }
}
static const struct argp_option subject_options[] = {
    {"adapter-scale", KEY_SCALE, "X", 0, "The multiplier that an MLX adapter does not give", 2},
    {0},
};
const struct argp cli_subject_argp = {.options = subject_options, .parser = parse_subject};

int cli_open_subject(const struct cli_common *common, bool with_model, struct cli_subject *subject,
                     struct cli_session *out)
{
    *out = (struct cli_session){0};
    int status = with_model ? cli_open_model(common, out) : cli_open_runtime(common, &out->runtime);
    if (status == CLI_OK) {
        status = cli_locate_adapter(out->runtime, subject->name, subject->scale, &subject->path,
                                    &subject->id);
    }
    if (status != CLI_OK) {
        cli_close_subject(subject, out);
    }
    return status;
}

void cli_close_subject(struct cli_subject *subject, struct cli_session *s)
{
    mem_free(NULL, subject->path);
    subject->path = NULL;
    cli_close(s);
}

int cli_fail_writing(const graft_error *error)
{
    static const char cancelled[] = "cancelled";
    bool ours = error->status == GRAFT_CANCELLED &&
                strncmp(error->message, cancelled, sizeof cancelled - 1) == 0;
    return ours ? cli_fail_text("interrupted%s", error->message + sizeof cancelled - 1)
                : cli_fail(error);
}

void cli_size_text(uint64_t bytes, char out[CLI_SIZE_TEXT])
{
    static const char *const units[] = {"bytes", "KB", "MB", "GB"};
    double size = (double)bytes;
    size_t unit = 0;
    for (; size >= 1000 && unit + 1 < ARRAY_LEN(units); unit++) {
        size /= 1000;
    }
    snprintf(out, CLI_SIZE_TEXT, unit == 0 ? "%.0f %s" : "%.1f %s", size, units[unit]);
}

int cli_open_store(struct cli_store *out, bool change)
{
    const struct cli_common common = {.threads = 1};
    *out = (struct cli_store){0};
    int status = change ? cli_make_home() : CLI_OK;
    if (status == CLI_OK) {
        status = cli_open_runtime(&common, &out->runtime);
    }
    if (status == CLI_OK) {
        status = cli_open_registry(out->runtime, NULL, NULL, &out->registry);
    }
    if (status != CLI_OK) {
        cli_close_store(out);
    }
    return status;
}

void cli_close_store(struct cli_store *store)
{
    graft_registry_close(&store->registry);
    graft_runtime_close(&store->runtime);
}
