/* router.c: `graft router VERB`: train a router on prompts that say what they ask for, measure it, look at it, ask it.
 *
 * Options are read, one call of graft/router.h is made, and what it gives is told: a table of what was asked for and what
 * was picked, or JSON. What -a auto makes of a router is auto.c.
 */
#include "cli.h"

enum { KEY_L2 = 0xB00, KEY_HELD_OUT, KEY_SEED, KEY_TOP_K, KEY_TEMPERATURE };
enum { MAX_FILES = 64 };

struct router_args {
    struct cli_common common;
    const char *out; /* of train */
    graft_router_options options;
    const char *router; /* not of train */
    const char *files[MAX_FILES];
    size_t n_files;
    const char *prompt; /* of route */
    int64_t top_k;      /* 0: all */
    double temperature;
};

/* ---- options ------------------------------------------------------------------------------- */

static void take_file(struct router_args *a, struct argp_state *state, char *arg)
{
    if (a->n_files == MAX_FILES) {
        argp_error(state, "at most %d files", MAX_FILES);
    }
    a->files[a->n_files++] = cli_parse_name(state, "FILE", arg);
}

static error_t parse_train(int key, char *arg, struct argp_state *state)
{
    struct router_args *a = state->input;
    switch (key) {
    case ARGP_KEY_INIT:
        state->child_inputs[0] = &a->common;
        return 0;
    case 'o':
        a->out = cli_parse_name(state, "--output", arg);
        return 0;
    case KEY_L2:
        a->options.l2 = cli_parse_number(state, "--l2", arg, 1e-12, 1e12);
        return 0;
    case KEY_HELD_OUT:
        a->options.held_out_share = cli_parse_number(state, "--held-out", arg, 0, 0.99);
        return 0;
    case KEY_SEED:
        a->options.seed = (uint64_t)cli_parse_int(state, "--seed", arg, 0, INT64_MAX);
        return 0;
    case ARGP_KEY_ARG:
        take_file(a, state, arg);
        return 0;
    case ARGP_KEY_END:
        if (a->n_files == 0) {
            argp_error(state, "which prompts? give files of {\"prompt\": ..., \"adapter\": ...}");
        }
        if (a->out == NULL) {
            argp_error(state, "where to? give -o ROUTER");
        }
        return 0;
    default:
        return ARGP_ERR_UNKNOWN;
    }
}

/* ROUTER FILE... */
static error_t parse_eval(int key, char *arg, struct argp_state *state)
{
    struct router_args *a = state->input;
    switch (key) {
    case ARGP_KEY_INIT:
        state->child_inputs[0] = &a->common;
        return 0;
    case ARGP_KEY_ARG:
        if (a->router == NULL) {
            a->router = cli_parse_name(state, "ROUTER", arg);
        } else {
            take_file(a, state, arg);
        }
        return 0;
    case ARGP_KEY_END:
        if (a->n_files == 0) {
            argp_error(state, "give a router and files of prompts: ROUTER FILE...");
        }
        return 0;
    default:
        return ARGP_ERR_UNKNOWN;
    }
}

/* ROUTER */
static error_t parse_show(int key, char *arg, struct argp_state *state)
{
    struct router_args *a = state->input;
    switch (key) {
    case ARGP_KEY_INIT:
        state->child_inputs[0] = &a->common;
        return 0;
    case ARGP_KEY_ARG:
        if (a->router != NULL) {
            argp_error(state, "one router, not \"%s\" too", arg);
        }
        a->router = cli_parse_name(state, "ROUTER", arg);
        return 0;
    case ARGP_KEY_END:
        if (a->router == NULL) {
            argp_error(state, "which router?");
        }
        return 0;
    default:
        return ARGP_ERR_UNKNOWN;
    }
}

/* ROUTER PROMPT */
static error_t parse_route(int key, char *arg, struct argp_state *state)
{
    struct router_args *a = state->input;
    switch (key) {
    case ARGP_KEY_INIT:
        state->child_inputs[0] = &a->common;
        return 0;
    case KEY_TOP_K:
        a->top_k = cli_parse_int(state, "--top-k", arg, 1, 256);
        return 0;
    case KEY_TEMPERATURE:
        a->temperature = cli_parse_number(state, "--temperature", arg, 1e-6, 1e6);
        return 0;
    case ARGP_KEY_ARG:
        if (a->prompt != NULL) {
            argp_error(state, "one prompt, not \"%s\" too: give it in quotation marks", arg);
        }
        if (a->router == NULL) {
            a->router = cli_parse_name(state, "ROUTER", arg);
        } else {
            a->prompt = arg;
        }
        return 0;
    case ARGP_KEY_END:
        if (a->prompt == NULL || a->prompt[0] == '\0') {
            argp_error(state, "give a router and a prompt: ROUTER PROMPT");
        }
        return 0;
    default:
        return ARGP_ERR_UNKNOWN;
    }
}

static const struct argp_child common_children[] = {{&cli_common_argp, 0, NULL, 0}, {0}};

static const struct argp_option train_options[] = {
    {"output", 'o', "ROUTER", 0, "What to write: a file", 1},
    {"l2", KEY_L2, "X", 0, "Penalty on the weights; default 1e-3", 2},
    {"held-out", KEY_HELD_OUT, "S", 0,
     "Share of the prompts to measure by, which are not learned from; default 0.2, 0: none", 2},
    {"seed", KEY_SEED, "N", 0, "Of the choice of prompts to measure by; default 0", 2},
    {0},
};
static const struct argp train_argp = {
    .options = train_options,
    .parser = parse_train,
    .children = common_children,
    .args_doc = "FILE...",
    .doc = "Learn which adapter a prompt asks for, from prompts that say so: records "
           "{\"prompt\": TEXT, \"adapter\": NAME}, or \"messages\" in place of the prompt, as "
           "JSONL or one JSON array. \"base\" is no adapter.\v"
           "Examples:\n"
           "  graft router train -m DIR -o my-router prompts.jsonl\n"
           "  graft router train -o my-router prompts.jsonl --held-out 0.1 --json\n"};

static const struct argp eval_argp = {
    .parser = parse_eval,
    .children = common_children,
    .args_doc = "ROUTER FILE...",
    .doc =
        "How many prompts a router gives to the adapter that they ask for, and to which it gives "
        "the others.\v"
        "Examples:\n"
        "  graft router eval my-router held-out-prompts.jsonl\n"
        "  graft router eval my-router held-out-prompts.jsonl --json\n"};

static const struct argp show_argp = {
    .parser = parse_show,
    .children = common_children,
    .args_doc = "ROUTER",
    .doc = "What a router chooses among, how it was trained, and how well it did on what was held "
           "out then.\v"
           "Examples:\n"
           "  graft router show my-router\n"};

static const struct argp_option route_options[] = {
    {"top-k", KEY_TOP_K, "K", 0, "Only the K best; default: all", 1},
    {"temperature", KEY_TEMPERATURE, "T", 0,
     "Of the softmax: 1 (default) as trained, less is surer", 1},
    {0},
};
static const struct argp route_argp = {
    .options = route_options,
    .parser = parse_route,
    .children = common_children,
    .args_doc = "ROUTER PROMPT",
    .doc = "How likely each adapter is what a prompt asks for. `graft run -a auto` runs it.\v"
           "Examples:\n"
           "  graft router route my-router \"Write a function to store a report.\"\n"
           "  graft router route my-router \"Is it safe?\" --top-k 2 --temperature 0.5 --json\n"};

/* ---- what is told -------------------------------------------------------------------------- */

/* Prompts, and those that got what they asked for. */
struct counts {
    int64_t prompts, right;
};

static struct counts count(const int64_t *confusion, size_t n)
{
    struct counts c = {0, 0};
    for (size_t i = 0; i < n * n; i++) {
        c.prompts += confusion[i];
        c.right += i / n == i % n ? confusion[i] : 0;
    }
    return c;
}

static double percent(int64_t part, int64_t whole)
{
    return whole > 0 ? 100 * (double)part / (double)whole : 0;
}

static void print_confusion(const graft_router_info *info, const int64_t *confusion)
{
    const size_t n = info->n_labels;
    int first = (int)strlen("asked for");
    for (size_t i = 0; i < n; i++) {
        int size = (int)strlen(info->labels[i]);
        first = size > first ? size : first;
    }
    printf("%-*s", first, "asked for");
    for (size_t j = 0; j < n; j++) {
        printf("  %6s", info->labels[j]);
    }
    puts("    right");
    for (size_t i = 0; i < n; i++) {
        int64_t asked = 0;
        printf("%-*s", first, info->labels[i]);
        for (size_t j = 0; j < n; j++) {
            int width = (int)strlen(info->labels[j]) > 6 ? (int)strlen(info->labels[j]) : 6;
            asked += confusion[i * n + j];
            printf("  %*lld", width, (long long)confusion[i * n + j]);
        }
        printf("  %5.1f %%\n", percent(confusion[i * n + i], asked));
    }
}

static json_t *json_confusion(const int64_t *confusion, size_t n)
{
    json_t *rows = json_array();
    for (size_t i = 0; i < n; i++) {
        json_t *row = json_array();
        for (size_t j = 0; j < n; j++) {
            json_append(&row, json_integer(confusion[i * n + j]));
        }
        json_append(&rows, row);
    }
    return rows;
}

static json_t *json_labels(const graft_router_info *info)
{
    json_t *labels = json_array();
    for (size_t i = 0; i < info->n_labels; i++) {
        json_append(&labels, json_string(info->labels[i]));
    }
    return labels;
}

static json_t *json_share(struct counts c)
{
    return c.prompts > 0 ? json_real((double)c.right / (double)c.prompts) : json_null();
}

static int tell_json(const graft_router_info *info, const char *out)
{
    json_t *json = json_object();
    if (out != NULL) {
        json_put(&json, "output", json_any_text(out, strlen(out)));
    }
    json_put(&json, "labels", json_labels(info));
    json_put(&json, "base", json_string(info->base));
    json_put(&json, "width", json_integer(info->width));
    json_put(&json, "l2", json_real(info->l2));
    json_put(&json, "seed", json_integer((json_int_t)info->seed));
    json_put(&json, "iterations", json_integer(info->iterations));
    json_put(&json, "examples", json_integer(info->examples));
    json_put(&json, "examples_right", json_integer(info->examples_right));
    json_put(&json, "held_out", json_integer(info->held_out));
    json_put(&json, "accuracy", json_share((struct counts){info->held_out, info->held_out_right}));
    json_put(&json, "confusion", json_confusion(info->confusion, info->n_labels));
    return cli_print_json(json);
}

static int tell(const graft_router *router, const struct router_args *a)
{
    graft_router_info info;
    graft_error error = {0};
    if (graft_router_describe(router, &info, &error) != GRAFT_OK) {
        return cli_fail(&error);
    }
    if (a->common.json) {
        return tell_json(&info, a->out);
    }
    if (info.held_out > 0) {
        print_confusion(&info, info.confusion);
    }
    printf("%zu labels; %lld prompts learned from, %.1f %% of them right after %lld steps",
           info.n_labels, (long long)info.examples, percent(info.examples_right, info.examples),
           (long long)info.iterations);
    if (info.held_out > 0) {
        printf("; %lld held out, %.1f %% right", (long long)info.held_out,
               percent(info.held_out_right, info.held_out));
    }
    putchar('\n');
    return CLI_OK;
}

static int failed(const graft_error *error)
{
    return error->status == GRAFT_CANCELLED ? cli_fail_text("interrupted") : cli_fail(error);
}

/* ---- the verbs ------------------------------------------------------------------------------ */

static int train_on(struct cli_session *s, struct router_args *a)
{
    graft_router *router = NULL;
    graft_error error = {0};
    struct cli_progress progress;
    graft_status status = GRAFT_OK;
    for (size_t i = 0; i < a->n_files && status == GRAFT_OK; i++) {
        status = path_refuse_same(a->out, a->files[i], &error);
    }
    cli_progress_begin(&progress, "learning", a->common.quiet);
    a->options.progress = cli_progress_step;
    a->options.progress_user = &progress;
    if (status == GRAFT_OK) {
        status = graft_router_train(s->model, a->files, a->n_files, &a->options, &router, &error);
    }
    cli_progress_end(&progress);
    if (status == GRAFT_OK) {
        status = graft_router_write(router, a->out, &error);
    }
    int result = status == GRAFT_OK ? tell(router, a) : failed(&error);
    graft_router_close(&router);
    return result;
}

static int eval_on(struct cli_session *s, struct router_args *a)
{
    graft_router *router = NULL;
    graft_router_info info = {.n_labels = 0};
    graft_error error = {0};
    int64_t *confusion = NULL;
    struct cli_progress progress;
    graft_status status = graft_router_open(s->runtime, s->model, a->router, &router, &error);
    if (status == GRAFT_OK) {
        status = graft_router_describe(router, &info, &error);
    }
    if (status == GRAFT_OK) {
        confusion = mem_calloc(NULL, info.n_labels * info.n_labels, sizeof *confusion);
        status = confusion != NULL ? GRAFT_OK : error_set(&error, GRAFT_NO_MEMORY, "out of memory");
    }
    if (status == GRAFT_OK) {
        cli_progress_begin(&progress, "routing", a->common.quiet);
        status = graft_router_evaluate(router, a->files, a->n_files, cli_progress_step, &progress,
                                       confusion, &error);
        cli_progress_end(&progress);
    }
    int result = CLI_OK;
    if (status != GRAFT_OK) {
        result = failed(&error);
    } else {
        struct counts c = count(confusion, info.n_labels);
        if (a->common.json) {
            json_t *json = json_object();
            json_put(&json, "labels", json_labels(&info));
            json_put(&json, "prompts", json_integer(c.prompts));
            json_put(&json, "right", json_integer(c.right));
            json_put(&json, "accuracy", json_share(c));
            json_put(&json, "confusion", json_confusion(confusion, info.n_labels));
            result = cli_print_json(json);
        } else {
            print_confusion(&info, confusion);
            printf("%lld of %lld prompts are right: %.1f %%\n", (long long)c.right,
                   (long long)c.prompts, percent(c.right, c.prompts));
        }
    }
    mem_free(NULL, confusion);
    graft_router_close(&router);
    return result;
}

static int show_on(struct cli_session *s, struct router_args *a)
{
    graft_router *router = NULL;
    graft_error error = {0};
    if (graft_router_open(s->runtime, NULL, a->router, &router, &error) != GRAFT_OK) {
        return cli_fail(&error);
    }
    int status = tell(router, a);
    graft_router_close(&router);
    return status;
}

static int route_on(struct cli_session *s, struct router_args *a)
{
    graft_router *router = NULL;
    graft_router_info info;
    graft_error error = {0};
    graft_route routes[256];
    size_t k = 0;
    graft_status status = graft_router_open(s->runtime, s->model, a->router, &router, &error);
    if (status == GRAFT_OK) {
        status = graft_router_describe(router, &info, &error);
    }
    if (status == GRAFT_OK) {
        k = a->top_k > 0 && (size_t)a->top_k < info.n_labels ? (size_t)a->top_k : info.n_labels;
        status = graft_router_route(router, a->prompt, strlen(a->prompt), k, a->temperature, routes,
                                    &error);
    }
    int result = status == GRAFT_OK ? CLI_OK : cli_fail(&error);
    json_t *list = json_array();
    for (size_t i = 0; i < k && status == GRAFT_OK; i++) {
        if (!a->common.json) {
            printf("%6.2f %%  %s\n", 100 * routes[i].probability, routes[i].label);
        }
        json_append(&list, json_pack("{s:s, s:f, s:f}", "adapter", routes[i].label, "probability",
                                     routes[i].probability, "weight", routes[i].weight));
    }
    if (status == GRAFT_OK && a->common.json) {
        result = cli_print_json(json_pack("{s:O}", "routes", list));
    }
    json_decref(list);
    graft_router_close(&router);
    return result;
}

/* ---- the table of them ---------------------------------------------------------------------- */

struct router_verb {
    const char *name, *summary;
    const struct argp *argp;
    int (*work)(struct cli_session *s, struct router_args *a);
    bool with_model;
};
static const struct router_verb verbs[] = {
    {"train", "learn from prompts that say which adapter they ask for", &train_argp, train_on,
     true},
    {"eval", "how many prompts get the adapter that they ask for", &eval_argp, eval_on, true},
    {"show", "what a router is, and how good it was", &show_argp, show_on, false},
    {"route", "which adapter a prompt asks for", &route_argp, route_on, true},
    {NULL, NULL, NULL, NULL, false},
};

static void print_help(FILE *out)
{
    fputs(
        "Usage: graft router VERB [OPTION...]\n"
        "Learn which adapter a prompt asks for; -a auto of run and chat goes by that.\n\nVerbs:\n",
        out);
    for (const struct router_verb *v = verbs; v->name != NULL; v++) {
        fprintf(out, "  %-10s %s\n", v->name, v->summary);
    }
    fputs("\nExamples:\n"
          "  graft router train -o my-router prompts.jsonl\n"
          "  graft router route my-router \"Write a function to store a report.\"\n\n"
          "`graft router VERB --help` tells a verb's options.\n",
          out);
}

static int run_verb(const struct router_verb *verb, int argc, char **argv)
{
    struct router_args args = {.options = graft_router_options_default(), .temperature = 1};
    struct cli_session s = {0};
    argp_parse(verb->argp, argc, argv, 0, NULL, &args);
    cli_catch_interrupt();
    int status = verb->with_model ? cli_open_model(&args.common, &s)
                                  : cli_open_runtime(&args.common, &s.runtime);
    if (status == CLI_OK) {
        status = verb->work(&s, &args);
        cli_close(&s);
    }
    return status;
}

int verb_router(int argc, char **argv)
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
    for (const struct router_verb *v = verbs; v->name != NULL; v++) {
        if (strcmp(v->name, argv[1]) == 0) {
            char name[64];
            snprintf(name, sizeof name, "graft router %s", v->name);
            argv[1] = name;
            return run_verb(v, argc - 1, argv + 1);
        }
    }
    fprintf(stderr, "graft: no verb \"router %s\"; `graft router --help` lists them\n", argv[1]);
    return CLI_USAGE;
}
