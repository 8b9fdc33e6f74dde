/* adapter_show.c: `graft adapter show` and `graft adapter verify`: the report on an adapter, for people or machines.
 */
#include "adapter.h"

enum { KEY_FOR = 0x400 };

struct show_args {
    struct cli_common common;
    struct cli_subject in;
    const char *consumer; /* NULL: none */
};

static error_t parse_show(int key, char *arg, struct argp_state *state)
{
    struct show_args *a = state->input;
    switch (key) {
    case ARGP_KEY_INIT:
        state->child_inputs[0] = &a->in;
        state->child_inputs[1] = &a->common;
        return 0;
    case KEY_FOR:
        if (strcmp(arg, "vllm") != 0 && strcmp(arg, "llama.cpp") != 0 && strcmp(arg, "mlx") != 0) {
            argp_error(state, "--for: \"%s\" is none of vllm, llama.cpp, mlx", arg);
        }
        a->consumer = arg;
        return 0;
    default:
        return ARGP_ERR_UNKNOWN;
    }
}

static const struct argp_child show_children[] = {
    {&cli_subject_argp, 0, NULL, 0}, {&cli_common_argp, 0, NULL, 0}, {0}};
static const struct argp show_argp = {.parser = parse_show,
                                      .children = show_children,
                                      .args_doc = "ADAPTER",
                                      .doc = "Tell what an adapter is: format, scales, ranks, "
                                             "modules, card. With -m it is opened on that "
                                             "model with every check, and its digest is told.\v"
                                             "Examples:\n"
                                             "  graft adapter show my-coder\n"
                                             "  graft adapter show coder@1.0.0 -m DIR --json\n"};

static const struct argp_option verify_options[] = {
    {"for", KEY_FOR, "PROGRAM", 0,
     "vllm, llama.cpp or mlx: what that cannot do with it, and what helps", 1},
    {0},
};
static const struct argp verify_argp = {
    .options = verify_options,
    .parser = parse_show,
    .children = show_children,
    .args_doc = "ADAPTER",
    .doc = "Open an adapter on a model with every check and tell what it is. The exit status is 1 "
           "when it does not fit the model, or, as it is, the program that is named, and when a "
           "registered file is not the one that was added.\v"
           "Examples:\n"
           "  graft adapter verify my-coder\n"
           "  graft adapter verify coder --for vllm\n"};

/* ---- for people ---- */

static const char *text_of(const json_t *json, const char *key)
{
    const char *text = json_string_value(json_object_get(json, key));
    return text != NULL && text[0] != '\0' ? text : NULL;
}

static void print_line(const char *name, const char *text)
{
    if (text != NULL) {
        printf("%-12s%s\n", name, text);
    }
}

static void print_pair(const char *name, const json_t *pair, const char *more)
{
    double low = json_number_value(json_array_get(pair, 0));
    double high = json_number_value(json_array_get(pair, 1));
    printf("%-12s%g", name, low);
    if (low != high) {
        printf(" to %g", high);
    }
    printf("%s%s%s\n", more != NULL ? " (" : "", more != NULL ? more : "", more != NULL ? ")" : "");
}

static void print_card(const json_t *card)
{
    const json_t *tag;
    size_t i;
    print_line("name", text_of(card, "name"));
    print_line("version", text_of(card, "version"));
    print_line("for", text_of(card, "description"));
    if (json_array_size(json_object_get(card, "tags")) > 0) {
        printf("%-11s", "tags");
        json_array_foreach(json_object_get(card, "tags"), i, tag)
        {
            printf(" %s", json_is_string(tag) ? json_string_value(tag) : "?");
        }
        putchar('\n');
    }
    print_line("modified", text_of(card, "modified"));
}

static void print_modules(const json_t *modules)
{
    const json_t *m;
    size_t i;
    printf("\n%-24s %5s %9s %11s  %s\n", "module", "count", "rank", "size", "type");
    json_array_foreach(modules, i, m)
    {
        const json_t *ranks = json_object_get(m, "ranks");
        json_int_t low = json_integer_value(json_array_get(ranks, 0));
        json_int_t high = json_integer_value(json_array_get(ranks, 1));
        char rank[48], size[CLI_SIZE_TEXT];
        cli_size_text((uint64_t)json_integer_value(json_object_get(m, "bytes")), size);
        snprintf(rank, sizeof rank, low != high ? "%lld to %lld" : "%lld", (long long)low,
                 (long long)high);
        printf("%-24s %5lld %9s %11s  %s%s%s%s\n", text_of(m, "kind"),
               (long long)json_integer_value(json_object_get(m, "count")), rank, size,
               text_of(m, "type"), json_is_true(json_object_get(m, "dora")) ? ", DoRA" : "",
               json_is_true(json_object_get(m, "bias")) ? ", bias" : "",
               json_is_true(json_object_get(m, "whole")) ? ", whole" : "");
    }
}

static void print_report(const json_t *report)
{
    char size[CLI_SIZE_TEXT];
    cli_size_text((uint64_t)json_integer_value(json_object_get(report, "bytes")), size);
    print_line("registered", text_of(report, "registered"));
    print_line("format", text_of(report, "format"));
    print_card(json_object_get(report, "card"));
    print_line("base", text_of(report, "base"));
    print_pair("rank", json_object_get(report, "ranks"), NULL);
    print_pair("scale", json_object_get(report, "scales"), text_of(report, "scale_from"));
    printf("%-12s%lld\n%-12s%s\n", "parameters",
           (long long)json_integer_value(json_object_get(report, "parameters")), "size", size);
    print_line("digest", text_of(report, "digest"));
    print_modules(json_object_get(report, "modules"));
}

static void print_problems(const json_t *problems, const char *consumer)
{
    const json_t *p;
    size_t i;
    if (json_array_size(problems) == 0) {
        printf("\n%s takes it as it is.\n", consumer);
        return;
    }
    printf("\n%s does not take it as it is:\n", consumer);
    json_array_foreach(problems, i, p)
    {
        printf("  %s\n    %s\n", text_of(p, "what"), text_of(p, "do"));
    }
}

/* ---- both ---- */

/* NAME@VERSION of what is registered so. */
static void note_registered(const struct cli_subject *in, json_t **report)
{
    char address[160];
    if (in->id.name[0] != '\0') {
        snprintf(address, sizeof address, "%s@%s", in->id.name, in->id.version);
        json_put(report, "registered", json_string(address));
    }
}

static int show(const struct show_args *a, struct cli_session *s)
{
    graft_adapter_report_options options = graft_adapter_report_options_default();
    graft_error error = {0};
    char *text = NULL;
    json_t *report = NULL;
    options.consumer = a->consumer;
    options.scale = a->in.scale;
    if (graft_adapter_report(s->runtime, s->model, a->in.path, &options, &text, &error) !=
            GRAFT_OK ||
        json_parse(text, strlen(text), &report, &error) != GRAFT_OK) {
        graft_free(s->runtime, text);
        return cli_fail(&error);
    }
    graft_free(s->runtime, text);
    note_registered(&a->in, &report);
    const json_t *problems = json_object_get(report, "problems");
    int status = json_array_size(problems) > 0 ? CLI_FAILED : CLI_OK;
    if (a->common.json) {
        int printed = cli_print_json(report);
        return printed == CLI_OK ? status : printed;
    }
    print_report(report);
    if (a->consumer != NULL) {
        print_problems(problems, a->consumer);
    }
    json_decref(report);
    return status;
}

/* Of a registered one: are its files those that were added? */
static int verify_files(const struct show_args *a, const struct cli_session *s)
{
    graft_registry *registry = NULL;
    graft_error error = {0};
    char address[160];
    if (a->in.id.name[0] == '\0') {
        return CLI_OK;
    }
    snprintf(address, sizeof address, "%s@%s", a->in.id.name, a->in.id.version);
    int status = cli_open_registry(s->runtime, NULL, NULL, &registry);
    if (status == CLI_OK && graft_registry_verify(registry, address, &error) != GRAFT_OK) {
        status = cli_fail(&error);
    }
    graft_registry_close(&registry);
    return status;
}

static int show_with(struct show_args *a, bool with_model, bool with_files)
{
    struct cli_session s;
    int status = cli_open_subject(&a->common, with_model, &a->in, &s);
    if (status == CLI_OK) {
        status = with_files ? verify_files(a, &s) : CLI_OK;
        if (status == CLI_OK) {
            status = show(a, &s);
        }
        cli_close_subject(&a->in, &s);
    }
    return status;
}

int verb_adapter_show(int argc, char **argv)
{
    struct show_args args = {0};
    argp_parse(&show_argp, argc, argv, 0, NULL, &args);
    return show_with(&args, args.common.model != NULL, false);
}

int verb_adapter_verify(int argc, char **argv)
{
    struct show_args args = {0};
    argp_parse(&verify_argp, argc, argv, 0, NULL, &args);
    return show_with(&args, true, true);
}
