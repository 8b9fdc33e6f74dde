/* bench.c: `graft bench`: how fast, beside what the machine can do.
 *
 * The measuring is the library's, and so is the list of benches with the options that each goes by: what is refused and what
 * --help says are made of it. `bench model` keeps a random model instead.
 */
#include "bench_figures.h"

enum {
    KEY_SHAPE = 0x300,
    KEY_TYPE,
    KEY_CONTEXT,
    KEY_ROWS,
    KEY_SAMPLES,
    KEY_CACHE_K,
    KEY_CACHE_V,
    KEY_RANK,
    KEY_FACTORS,
    KEY_DORA,
    KEY_DRAFT,
};

enum { KEEP = 1u << 31 }; /* beside GRAFT_BENCH_…: -o */

struct bench_args {
    struct cli_common common;
    graft_bench_options options;
    const char *out, *draft;
    unsigned typed; /* bits of OPTIONS, by their place */
};

/* ---- what there is ---- */

/* A bench writes nothing with these two words, but makes what others measure. */
static const graft_bench_kind KEPT[] = {
    {"model", "keep a random model, with -o", GRAFT_BENCH_MODEL | KEEP, NULL},
    {"adapters -o", NULL, GRAFT_BENCH_MODEL | GRAFT_BENCH_RANK | GRAFT_BENCH_DORA | KEEP, NULL},
};

/* The benches, then `model`; NULL past it. */
static const graft_bench_kind *kind_at(size_t i)
{
    size_t n = 0;
    while (graft_bench_kind_at(n) != NULL) {
        n++;
    }
    return i < n ? graft_bench_kind_at(i) : i == n ? &KEPT[0] : NULL;
}

static const graft_bench_kind *find_kind(const char *name)
{
    const graft_bench_kind *kind;
    for (size_t i = 0; (kind = kind_at(i)) != NULL && strcmp(kind->name, name) != 0; i++) {
    }
    return kind;
}

/* Options that not every bench goes by. */
static const struct {
    int key;
    unsigned use;
    const char *name;
} OPTIONS[] = {
    {KEY_SHAPE, GRAFT_BENCH_MODEL, "--shape"},
    {KEY_TYPE, GRAFT_BENCH_MODEL, "--type"},
    {'n', GRAFT_BENCH_TOKENS, "-n"},
    {KEY_CONTEXT, GRAFT_BENCH_CONTEXTS, "--context"},
    {KEY_ROWS, GRAFT_BENCH_ROWS, "--rows"},
    {KEY_SAMPLES, GRAFT_BENCH_SAMPLES, "--samples"},
    {KEY_CACHE_K, GRAFT_BENCH_CACHE, "--cache-type-k"},
    {KEY_CACHE_V, GRAFT_BENCH_CACHE, "--cache-type-v"},
    {KEY_RANK, GRAFT_BENCH_RANK, "--rank"},
    {KEY_FACTORS, GRAFT_BENCH_ADAPTER_TYPE, "--adapter-type"},
    {KEY_DORA, GRAFT_BENCH_DORA, "--dora"},
    {KEY_DRAFT, GRAFT_BENCH_DRAFT, "--model-draft"},
    {'o', KEEP, "-o"},
};

static bool goes_by(const graft_bench_kind *kind, unsigned use)
{
    bool keeps = use == KEEP && strcmp(kind->name, "adapters") == 0;
    return (kind->uses & use) != 0 || keeps;
}

/* "a, b, c": the benches that go by `use`, or (without) those that do not; 0: all. */
static const char *list_kinds(char *out, size_t size, unsigned use, bool without)
{
    const graft_bench_kind *kind;
    size_t at = 0;
    out[0] = '\0';
    for (size_t i = 0; (kind = kind_at(i)) != NULL; i++) {
        if (use == 0 || goes_by(kind, use) != without) {
            at += (size_t)snprintf(out + at, at < size ? size - at : 0, "%s%s", at > 0 ? ", " : "",
                                   kind->name);
        }
    }
    return out;
}

/* ---- options ---- */

static int parse_list(struct argp_state *state, const char *option, char *arg, int most, int *out)
{
    int n = 0;
    char *rest = arg;
    for (char *word; (word = strsep(&rest, ",")) != NULL;) {
        if (n == GRAFT_BENCH_LIST_MAX) {
            argp_error(state, "%s: at most %d numbers", option, GRAFT_BENCH_LIST_MAX);
        }
        out[n++] = (int)cli_parse_int(state, option, word, 1, most);
    }
    return n;
}

enum { LIST_SIZE = 256 };

/* The same in the shorter way: "a, b", or "all but c". */
static const char *name_kinds(char out[LIST_SIZE], unsigned use)
{
    static const char BUT[] = "all but ";
    char with[LIST_SIZE - sizeof BUT], without[LIST_SIZE - sizeof BUT];
    list_kinds(with, sizeof with, use, false);
    list_kinds(without, sizeof without, use, true);
    bool few = strlen(with) <= strlen(without);
    snprintf(out, LIST_SIZE, "%s%s", few ? "" : BUT, few ? with : without);
    return out;
}

static void check_use(const graft_bench_kind *kind, unsigned use, const char *option,
                      struct argp_state *state)
{
    char list[LIST_SIZE];
    if (!goes_by(kind, use)) {
        argp_error(state, "%s goes with %s, not with %s", option, name_kinds(list, use),
                   kind->name);
    }
}

/* No option is passed over in silence. */
static void check_options(const struct bench_args *a, const graft_bench_kind *kind,
                          struct argp_state *state)
{
    for (size_t i = 0; i < ARRAY_LEN(OPTIONS); i++) {
        if ((a->typed & 1u << i) != 0) {
            check_use(kind, OPTIONS[i].use, OPTIONS[i].name, state);
        }
    }
    if (a->common.model != NULL && kind == &KEPT[0]) {
        argp_error(state, "bench model makes one: give --shape and --type, not -m");
    }
    if (a->common.model != NULL) {
        check_use(kind, GRAFT_BENCH_MODEL, "-m", state);
    }
    if (a->common.pack != NULL && a->out != NULL) {
        argp_error(state, "--pack goes with what is measured, not with -o");
    }
    if (a->common.pack != NULL) {
        check_use(kind, GRAFT_BENCH_MODEL, "--pack", state);
    }
    if (a->common.copy) {
        argp_error(state, "--no-mmap goes with no bench: all of them map their model");
    }
}

static void check_args(const struct bench_args *a, struct argp_state *state)
{
    const char *bench = a->options.bench;
    const graft_bench_kind *kind = bench != NULL ? find_kind(bench) : NULL;
    char list[LIST_SIZE];
    if (bench == NULL) {
        argp_error(state, "which one? %s", list_kinds(list, sizeof list, 0, false));
    }
    if (a->common.model != NULL && (a->options.shape != NULL || a->options.type != NULL)) {
        argp_error(state, "give a model (-m) or --shape and --type, not both");
    }
    if (kind == &KEPT[0] && a->out == NULL) {
        argp_error(state, "where to? give -o FILE.gguf (mlx4, mlx8: -o DIR)");
    }
    if (kind != NULL) {
        bool keeps = a->out != NULL && strcmp(bench, "adapters") == 0;
        check_options(a, keeps ? &KEPT[1] : kind, state);
    }
}

static void note(struct bench_args *a, int key)
{
    for (size_t i = 0; i < ARRAY_LEN(OPTIONS); i++) {
        a->typed |= OPTIONS[i].key == key ? 1u << i : 0;
    }
}

static error_t parse_bench(int key, char *arg, struct argp_state *state)
{
    struct bench_args *a = state->input;
    graft_bench_options *o = &a->options;
    note(a, key);
    switch (key) {
    case ARGP_KEY_INIT:
        state->child_inputs[0] = &a->common;
        return 0;
    case 'o':
        a->out = cli_parse_name(state, "--output", arg);
        return 0;
    case 'n':
        o->tokens = (int)cli_parse_int(state, "-n", arg, 1, 4096);
        return 0;
    case KEY_DRAFT:
        a->draft = cli_parse_name(state, "--model-draft", arg);
        return 0;
    case KEY_SHAPE:
        o->shape = arg;
        return 0;
    case KEY_TYPE:
        o->type = arg;
        return 0;
    case KEY_CONTEXT:
        o->n_contexts = parse_list(state, "--context", arg, 1 << 20, o->contexts);
        return 0;
    case KEY_ROWS:
        o->n_rows = parse_list(state, "--rows", arg, 64, o->rows);
        return 0;
    case KEY_SAMPLES:
        o->samples = (int)cli_parse_int(state, "--samples", arg, 1, 256);
        return 0;
    case KEY_RANK:
        o->rank = (int)cli_parse_int(state, "--rank", arg, 1, 1024);
        return 0;
    case KEY_FACTORS:
        o->adapter_type = arg;
        return 0;
    case KEY_DORA:
        o->dora = true;
        return 0;
    case KEY_CACHE_K:
        o->cache_k = cli_parse_kv_type(state, "--cache-type-k", arg);
        return 0;
    case KEY_CACHE_V:
        o->cache_v = cli_parse_kv_type(state, "--cache-type-v", arg);
        return 0;
    case ARGP_KEY_ARG:
        if (o->bench != NULL) {
            argp_error(state, "one bench at a time: \"%s\" or \"%s\"", o->bench, arg);
        }
        o->bench = arg;
        return 0;
    case ARGP_KEY_END:
        check_args(a, state);
        return 0;
    default:
        return ARGP_ERR_UNKNOWN;
    }
}

/* Help puts before each what goes by it, from the table; of -n, what it is of. */
static const struct argp_option bench_options[] = {
    {"shape", KEY_SHAPE, "S", 0,
     "random weights in the shape of qwen2.5-0.5b (default), llama-3.2-1b, tinyllama-1.1b, "
     "width-768 or mini",
     1},
    {"type", KEY_TYPE, "T", 0,
     "type of random weights: q8_0 (default), any other of quantize, mlx4 or mlx8", 1},
    {"tokens", 'n', "N", 0, "Tokens. ", 1},
    {"model-draft", KEY_DRAFT, "MODEL", 0, "a smaller model of the same vocabulary", 1},
    {"context", KEY_CONTEXT, "N,...", 0, "tokens before; default 128,4096", 1},
    {"rows", KEY_ROWS, "N,...", 0, "sequences stepped together, 1 to 64; default 1", 1},
    {"samples", KEY_SAMPLES, "N", 0,
     "samples of each case; default as many as a few seconds hold, at most 256", 1},
    {"cache-type-k", KEY_CACHE_K, "TYPE", 0, "keys are kept as f16 (default), f32 or q8", 1},
    {"cache-type-v", KEY_CACHE_V, "TYPE", 0, "values are kept so", 1},
    {"rank", KEY_RANK, "R", 0, "of the random adapters; default 16", 1},
    {"adapter-type", KEY_FACTORS, "TYPE", 0,
     "factors of adapters in memory: bf16 (default), f16, int8, q4", 1},
    {"dora", KEY_DORA, NULL, 0, "the adapters are DoRA", 1},
    {"output", 'o', "FILE", 0,
     "write the random model, a GGUF file (mlx4, mlx8: a directory), or a random adapter, a PEFT "
     "directory, and measure nothing",
     1},
    {0},
};

/* "decode: of a sample, default 4; prefill, attention: of the prompt, default 512; …" */
static void help_tokens(FILE *out)
{
    const graft_bench_kind *kind, *other;
    const char *between = "";
    for (size_t i = 0; (kind = graft_bench_kind_at(i)) != NULL; i++) {
        size_t first = 0;
        if (kind->tokens == NULL) {
            continue;
        }
        for (; (other = graft_bench_kind_at(first)) != kind; first++) {
            if (other->tokens != NULL && strcmp(other->tokens, kind->tokens) == 0) {
                break;
            }
        }
        for (size_t k = i; first == i && (other = graft_bench_kind_at(k)) != NULL; k++) {
            if (other->tokens != NULL && strcmp(other->tokens, kind->tokens) == 0) {
                fprintf(out, "%s%s", k == i ? between : ", ", other->name);
                between = "; ";
            }
        }
        fprintf(out, "%s%s", first == i ? ": " : "", first == i ? kind->tokens : "");
    }
}

static void help_kinds(FILE *out)
{
    const graft_bench_kind *kind;
    fputs("\n\nBenches:\n", out);
    for (size_t i = 0; (kind = kind_at(i)) != NULL; i++) {
        fprintf(out, "  %-11s  %s\n", kind->name, kind->about);
    }
}

static void help_use(FILE *out, int key)
{
    char list[LIST_SIZE];
    for (size_t i = 0; i < ARRAY_LEN(OPTIONS); i++) {
        if (OPTIONS[i].key == key) {
            fprintf(out, "%s: ", name_kinds(list, OPTIONS[i].use));
        }
    }
}

/* argp frees what is another text than the one it gave. */
static char *help_bench(int key, const char *text, void *input)
{
    char *longer = NULL;
    size_t size = 0;
    FILE *out = text != NULL && key != 0 ? open_memstream(&longer, &size) : NULL;
    (void)input;
    if (out == NULL) {
        return (char *)text;
    }
    if (key != 'n') {
        help_use(out, key);
    }
    fputs(text, out);
    if (key == 'n') {
        help_tokens(out);
    } else if (key == ARGP_KEY_HELP_PRE_DOC) {
        help_kinds(out);
    }
    fclose(out);
    return longer;
}

enum { COMMON_MAX = 16 };

/* What all verbs have, as it is with a bench: weights are random without a model, and --no-mmap is refused. */
static void make_common(struct argp_option out[COMMON_MAX])
{
    const struct argp_option *from = cli_common_argp.options;
    for (size_t i = 0; i + 1 < COMMON_MAX && (from[i].name != NULL || from[i].doc != NULL); i++) {
        const char *name = from[i].name != NULL ? from[i].name : "";
        out[i] = from[i];
        if (strcmp(name, "model") == 0) {
            out[i].doc = "Directory, GGUF file or name; default: random weights";
        } else if (strcmp(name, "no-mmap") == 0) {
            out[i].flags |= OPTION_HIDDEN;
        }
    }
}

static const struct argp bench_argp = {
    .options = bench_options,
    .parser = parse_bench,
    .help_filter = help_bench,
    .args_doc = "BENCH",
    .doc = "Measure speed beside the limits of this machine: what it reads from memory, and what "
           "it multiplies. Without -m the weights are random; the speed does not depend on them. "
           "Figures are medians; every result is checked against the scalar tier first.\v"
           "Examples:\n"
           "  graft bench limits\n"
           "  graft bench decode --shape llama-3.2-1b --type q4_k_m --rows 1,16\n"
           "  graft bench prefill -m model.gguf --json\n"
           "  graft bench adapters --type q4_0 --adapter-type int8\n"
           "  graft bench presets --shape width-768 --adapter-type f16\n"
           "  graft bench train --samples 3\n"
           "  graft bench stream -m tiny -n 100\n"
           "  graft bench batch --adapter-type int8\n"
           "  graft bench isolation -m tiny\n"
           "  graft bench speculative -m tiny --model-draft tiny-draft\n"
           "  graft bench model --shape qwen2.5-0.5b --type q8_0 -o qwen.gguf\n"};

/* ---- the verb ---- */

/* What was typed, for whoever wants to have the figure again. */
static char *join_command(int argc, char **argv)
{
    struct buf text;
    buf_init(&text, NULL, 1 << 20);
    for (int i = 0; i < argc; i++) {
        buf_puts(&text, i > 0 ? " " : "");
        buf_puts(&text, argv[i]);
    }
    return buf_take(&text, NULL);
}

static int write_subject(graft_runtime *runtime, const struct bench_args *a,
                         const graft_bench_options *options, graft_error *error)
{
    char *subject = NULL;
    if (graft_bench_write(runtime, options, a->out, &subject, error) != GRAFT_OK) {
        return CLI_FAILED;
    }
    if (a->common.json) {
        cli_print_json(json_pack("{s:o, s:o}", "output", json_any_text(a->out, strlen(a->out)),
                                 "subject", json_any_text(subject, strlen(subject))));
    } else {
        printf("%s: %s\n", a->out, subject);
    }
    graft_free(runtime, subject);
    return CLI_OK;
}

static int run_bench(graft_runtime *runtime, const struct bench_args *a, struct bench_figures *f,
                     graft_error *error)
{
    graft_bench_options o = a->options;
    char *path = a->common.model != NULL ? cli_model_path(a->common.model) : NULL;
    if (a->common.model != NULL && path == NULL) {
        return CLI_FAILED;
    }
    char *draft = a->draft != NULL ? cli_model_path(a->draft) : NULL;
    if (a->draft != NULL && draft == NULL) {
        mem_free(NULL, path);
        return CLI_FAILED;
    }
    o.model = path;
    o.draft = draft;
    o.pack = a->common.pack;
    int status = CLI_FAILED;
    if (a->out != NULL) {
        status = write_subject(runtime, a, &o, error);
    } else if (graft_bench_run(runtime, &o, bench_figures_take, f, error) == GRAFT_OK) {
        status = CLI_OK;
    }
    mem_free(NULL, draft);
    mem_free(NULL, path);
    return status;
}

static void parse_args(struct bench_args *args, int argc, char **argv)
{
    struct argp_option options[COMMON_MAX] = {{0}};
    const struct argp common = {.options = options, .parser = cli_common_argp.parser};
    const struct argp_child children[] = {{&common, 0, NULL, 0}, {0}};
    struct argp argp = bench_argp;
    make_common(options);
    argp.children = children;
    argp_parse(&argp, argc, argv, 0, NULL, args);
}

int verb_bench(int argc, char **argv)
{
    struct bench_args args = {.options = graft_bench_options_default()};
    struct bench_figures figures = {0};
    const char *shape = args.options.shape, *type = args.options.type;
    char list[LIST_SIZE], *command = join_command(argc, argv);
    graft_runtime *runtime = NULL;
    graft_error error = {0};
    args.options.shape = args.options.type = NULL;
    parse_args(&args, argc, argv);
    args.options.shape = args.options.shape != NULL ? args.options.shape : shape;
    args.options.type = args.options.type != NULL ? args.options.type : type;
    int status = CLI_USAGE;
    if (find_kind(args.options.bench) == NULL) {
        cli_fail_text("no bench \"%s\"; known are %s", args.options.bench,
                      list_kinds(list, sizeof list, 0, false));
    } else {
        status = cli_open_runtime(&args.common, &runtime);
    }
    if (status != CLI_OK) {
        mem_free(NULL, command);
        return status;
    }
    cli_catch_interrupt();
    figures.json = args.common.json;
    figures.command = command;
    args.options.progress = cli_progress_step;
    args.options.progress_user = &figures.progress;
    graft_runtime_describe(runtime, &figures.info, &error);
    cli_progress_begin(&figures.progress, "bench", args.common.quiet);
    bench_figures_begin(&figures);
    status = run_bench(runtime, &args, &figures, &error);
    bench_figures_end(&figures);
    if (error.status != GRAFT_OK) {
        cli_fail(&error);
        status = error.status == GRAFT_INVALID_ARGUMENT ? CLI_USAGE : CLI_FAILED;
    }
    mem_free(NULL, command);
    graft_runtime_close(&runtime);
    return status;
}
