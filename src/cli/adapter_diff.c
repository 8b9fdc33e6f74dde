/* adapter_diff.c: `graft adapter diff`: how two adapters differ, as a table, as JSON and as a picture. */
#include "adapter_diff.h"
#include "adapter.h"

enum { KEY_SVG = 0x400, KEY_SCALE_A, KEY_SCALE_B };

struct diff_args {
    struct cli_common common;
    struct side {
        const char *name; /* as typed */
        double scale;
        char *path;
        graft_adapter_id id;
    } sides[2];
    const char *svg;
};

static void take_side(struct diff_args *a, const char *arg, struct argp_state *state)
{
    char why[CLI_WHY];
    struct side *side = a->sides[0].name == NULL ? &a->sides[0] : &a->sides[1];
    if (side->name != NULL) {
        argp_error(state, "two adapters, not \"%s\" too", arg);
    }
    side->name = cli_parse_name(state, "ADAPTER", (char *)(uintptr_t)arg);
    if (!cli_check_name(arg, strlen(arg), why)) {
        argp_error(state, "%s", why);
    }
}

static error_t parse_diff(int key, char *arg, struct argp_state *state)
{
    struct diff_args *a = state->input;
    switch (key) {
    case ARGP_KEY_INIT:
        state->child_inputs[0] = &a->common;
        return 0;
    case KEY_SVG:
        a->svg = cli_parse_name(state, "--svg", arg);
        return 0;
    case KEY_SCALE_A:
        a->sides[0].scale = cli_parse_number(state, "--scale-a", arg, -1e30, 1e30);
        return 0;
    case KEY_SCALE_B:
        a->sides[1].scale = cli_parse_number(state, "--scale-b", arg, -1e30, 1e30);
        return 0;
    case ARGP_KEY_ARG:
        take_side(a, arg, state);
        return 0;
    case ARGP_KEY_END:
        if (a->sides[1].name == NULL) {
            argp_error(state, "which adapters? give two directories or files, or NAME[@VERSION]");
        }
        return 0;
    default:
        return ARGP_ERR_UNKNOWN;
    }
}

static const struct argp_option diff_options[] = {
    {"svg", KEY_SVG, "FILE", 0, "A picture, too: layers by modules, coloured by cosine and by size",
     1},
    {"scale-a", KEY_SCALE_A, "X", 0, "The multiplier that A does not give, an MLX adapter", 2},
    {"scale-b", KEY_SCALE_B, "X", 0, "... and B", 2},
    {0},
};
static const struct argp_child diff_children[] = {{&cli_common_argp, 0, NULL, 0}, {0}};
static const struct argp diff_argp = {
    .options = diff_options,
    .parser = parse_diff,
    .children = diff_children,
    .args_doc = "ADAPTER ADAPTER",
    .doc = "Tell how two adapters of one base differ in what they do to its weights: by kind of "
           "module, by layer and in all, the norms of both changes, their distance, the cosine "
           "between them, and how much the spaces of their columns (what they write) and rows "
           "(what they read) overlap; with -v of every module. Then which modules, ranks, scales "
           "and words of the cards differ.\v"
           "Examples:\n"
           "  graft adapter diff coder security\n"
           "  graft adapter diff coder@1.0.0 coder@1.1.0 --svg diff.svg\n"
           "  graft adapter diff my-coder security -v\n"};

/* ---- the table ----------------------------------------------------------------------------- */

enum { NAME_WIDTH = 16, MODULE_WIDTH = 44 };

static void print_number(const json_t *object, const char *key, int width, const char *format)
{
    const json_t *value = json_object_get(object, key);
    char text[32];
    if (!json_is_number(value)) {
        snprintf(text, sizeof text, "-");
    } else if (format[0] == 'f') {
        snprintf(text, sizeof text, "%.3f", json_number_value(value));
    } else {
        snprintf(text, sizeof text, "%.4g", json_number_value(value));
    }
    printf(" %*s", width, text);
}

static void print_row(const json_t *one, const char *name, int width)
{
    const json_t *modules = json_object_get(one, "modules"), *only = json_object_get(one, "only");
    printf("%-*s", width, name);
    if (modules != NULL) {
        printf(" %7lld", json_integer_value(modules));
    }
    print_number(one, "norm_a", 10, "g");
    print_number(one, "norm_b", 10, "g");
    print_number(one, "distance", 10, "g");
    print_number(one, "cosine", 8, "f");
    print_number(one, "columns", 8, "f");
    print_number(one, "rows", 8, "f");
    if (only != NULL) {
        printf("  only %s", json_string_value(only)[0] == 'a' ? "A" : "B");
    }
    putchar('\n');
}

static void print_head(const char *name, int width, bool modules)
{
    printf("%-*s", width, name);
    if (modules) {
        printf(" %7s", "modules");
    }
    printf(" %10s %10s %10s %8s %8s %8s\n", "|A|", "|B|", "|A - B|", "cosine", "columns", "rows");
}

static void print_tables(const json_t *report)
{
    const json_t *one;
    size_t i;
    char name[32];
    print_head("module", NAME_WIDTH, true);
    json_array_foreach(json_object_get(report, "kinds"), i, one)
    {
        print_row(one, json_string_value(json_object_get(one, "kind")), NAME_WIDTH);
    }
    putchar('\n');
    print_head("layer", NAME_WIDTH, true);
    json_array_foreach(json_object_get(report, "layers"), i, one)
    {
        snprintf(name, sizeof name, "%lld", json_integer_value(json_object_get(one, "layer")));
        print_row(one, name, NAME_WIDTH);
    }
    putchar('\n');
    print_head("", NAME_WIDTH, true);
    print_row(json_object_get(report, "total"), "all", NAME_WIDTH);
}

static void print_modules(const json_t *report)
{
    const json_t *one;
    size_t i;
    print_head("module", MODULE_WIDTH, false);
    json_array_foreach(json_object_get(report, "modules"), i, one)
    {
        print_row(one, json_string_value(json_object_get(one, "module")), MODULE_WIDTH);
    }
    putchar('\n');
}

static void print_differences(const json_t *report)
{
    static const char *const words[][2] = {
        {"ranks", "ranks"}, {"scales", "scales"}, {"dora", "DoRA"}};
    const json_t *d = json_object_get(report, "differences"), *card = json_object_get(d, "card"),
                 *key;
    size_t k;
    printf("\nmodules: %lld in both, %lld only in A, %lld only in B\n",
           json_integer_value(json_object_get(d, "both")),
           json_integer_value(json_object_get(d, "only_a")),
           json_integer_value(json_object_get(d, "only_b")));
    for (size_t i = 0; i < ARRAY_LEN(words); i++) {
        long long n = json_integer_value(json_object_get(d, words[i][0]));
        if (n > 0) {
            printf("%s differ in %lld of them\n", words[i][1], n);
        }
    }
    if (json_array_size(card) > 0) {
        printf("cards differ in");
        json_array_foreach(card, k, key)
        {
            printf("%s ", k > 0 ? "," : "");
            cli_put_text(stdout, json_string_value(key), json_string_length(key), ' ');
        }
        putchar('\n');
    }
    if (json_is_true(json_object_get(report, "same"))) {
        puts("what they do is the same, bit by bit");
    }
}

/* ---- the work ------------------------------------------------------------------------------ */

static int write_picture(const struct diff_args *a, const json_t *report)
{
    struct buf svg;
    graft_error error = {0};
    buf_init(&svg, NULL, SIZE_MAX);
    diff_draw(&svg, report, a->sides[0].name, a->sides[1].name);
    graft_status status = svg.status == GRAFT_OK
                              ? file_write_atomic(NULL, a->svg, svg.data, svg.size, &error)
                              : error_set(&error, svg.status, "no memory for a picture");
    buf_free(&svg);
    return status == GRAFT_OK ? CLI_OK : cli_fail(&error);
}

static int tell(const struct diff_args *a, json_t *report)
{
    static const char *const keys[] = {"a", "b"};
    int status = a->svg != NULL ? write_picture(a, report) : CLI_OK;
    if (status == CLI_OK && a->common.json) {
        for (int i = 0; i < 2; i++) {
            json_object_set_new(json_object_get(report, keys[i]), "path",
                                json_any_text(a->sides[i].name, strlen(a->sides[i].name)));
        }
        return cli_print_json(report);
    }
    if (status == CLI_OK && !a->common.quiet) {
        if (a->common.verbose) {
            print_modules(report);
        }
        print_tables(report);
        print_differences(report);
    }
    json_decref(report);
    return status;
}

static int diff(const struct diff_args *a, const struct cli_session *s)
{
    graft_adapter_diff_options options = graft_adapter_diff_options_default();
    struct cli_progress progress;
    graft_error error = {0};
    char *text = NULL;
    json_t *report = NULL;
    options.scale_a = a->sides[0].scale;
    options.scale_b = a->sides[1].scale;
    options.progress = cli_progress_step;
    options.progress_user = &progress;
    cli_progress_begin(&progress, "comparing", a->common.quiet);
    graft_status status =
        graft_adapter_diff(s->model, a->sides[0].path, a->sides[1].path, &options, &text, &error);
    cli_progress_end(&progress);
    if (status == GRAFT_OK) {
        status = json_parse(text, strlen(text), &report, &error);
    }
    graft_free(s->runtime, text);
    return status == GRAFT_OK ? tell(a, report) : cli_fail_writing(&error);
}

int verb_adapter_diff(int argc, char **argv)
{
    struct diff_args args = {.svg = NULL};
    struct cli_session s;
    argp_parse(&diff_argp, argc, argv, 0, NULL, &args);
    cli_catch_interrupt();
    int status = cli_open_model(&args.common, &s);
    if (status != CLI_OK) {
        return status;
    }
    for (int i = 0; i < 2 && status == CLI_OK; i++) {
        struct side *side = &args.sides[i];
        status = cli_locate_adapter(s.runtime, side->name, side->scale, &side->path, &side->id);
    }
    if (status == CLI_OK) {
        status = diff(&args, &s);
    }
    for (int i = 0; i < 2; i++) {
        mem_free(NULL, args.sides[i].path);
    }
    cli_close(&s);
    return status;
}
