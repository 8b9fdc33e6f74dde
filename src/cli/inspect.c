/* inspect.c: `graft inspect`: what is in a model or a file of tensors.
 *
 * The library describes the file as JSON (docs/inspect.md); --json prints that, otherwise it is laid out
 * for people here.
 */
#include "cli.h"

enum { KEY_TENSORS = 0x200, KEY_TEMPLATE };

struct inspect_args {
    struct cli_common common;
    const char *path;
    bool tensors, template;
};

static error_t parse_inspect(int key, char *arg, struct argp_state *state)
{
    struct inspect_args *a = state->input;
    switch (key) {
    case ARGP_KEY_INIT:
        state->child_inputs[0] = &a->common;
        return 0;
    case KEY_TENSORS:
        a->tensors = true;
        return 0;
    case KEY_TEMPLATE:
        a->template = true;
        return 0;
    case ARGP_KEY_ARG:
        if (a->path != NULL) {
            argp_error(state, "one file or directory at a time");
        }
        a->path = arg;
        return 0;
    case ARGP_KEY_END:
        if (a->path != NULL && a->common.model != NULL) {
            argp_error(state, "give FILE or -m MODEL, not both");
        }
        return 0;
    default:
        return ARGP_ERR_UNKNOWN;
    }
}

static const struct argp_option inspect_options[] = {
    {"tensors", KEY_TENSORS, NULL, 0, "List every tensor", 1},
    {"template", KEY_TEMPLATE, NULL, 0, "Print the chat template and nothing else", 1},
    {0},
};
static const struct argp_child inspect_children[] = {{&cli_common_argp, 0, NULL, 0}, {0}};
static const struct argp inspect_argp = {
    .options = inspect_options,
    .parser = parse_inspect,
    .children = inspect_children,
    .args_doc = "[FILE|DIR]",
    .doc =
        "Show the configuration, metadata, tensor types and sizes, tokenizer and chat template of "
        "a model directory, a safetensors or a GGUF file.\v"
        "Examples:\n"
        "  graft inspect model.gguf --tensors\n"
        "  graft inspect DIR --json\n"};

static const char *text_of(const json_t *object, const char *key, const char *otherwise)
{
    const char *text = json_string_value(json_object_get(object, key));
    return text != NULL ? text : otherwise;
}

static double number_of(const json_t *object, const char *key)
{
    return json_number_value(json_object_get(object, key));
}

static void print_size(double bytes)
{
    static const char *const units[] = {"B", "kB", "MB", "GB", "TB"};
    size_t unit = 0;
    while (bytes >= 1000 && unit + 1 < ARRAY_LEN(units)) {
        bytes /= 1000;
        unit++;
    }
    printf(unit == 0 ? "%.0f %s" : "%.2f %s", bytes, units[unit]);
}

/* A JSON value on one line, cut off where it gets long. */
static void print_value(const json_t *value)
{
    if (json_is_string(value)) {
        const char *text = json_string_value(value);
        size_t length = strcspn(text, "\n");
        printf("%.*s%s\n", (int)(length < 70 ? length : 70), text,
               length > 70 || text[length] != '\0' ? " ..." : "");
        return;
    }
    char *text = json_dumps(value, JSON_ENCODE_ANY | JSON_REAL_PRECISION(7));
    printf("%.100s%s\n", text != NULL ? text : "",
           text != NULL && strlen(text) > 100 ? " ..." : "");
    free(text); /* jansson's */
}

static void print_object(const char *title, json_t *object)
{
    if (!json_is_object(object) || json_object_size(object) == 0) {
        return;
    }
    const char *key;
    json_t *value;
    printf("\n%s\n", title);
    json_object_foreach(object, key, value)
    {
        printf("  %-34s ", key);
        print_value(value);
    }
}

static void print_types(const json_t *json)
{
    size_t i;
    json_t *type;
    printf("\ntensors: %.0f in ", number_of(json, "n_tensors"));
    print_size(number_of(json, "bytes"));
    putchar('\n');
    json_array_foreach(json_object_get(json, "types"), i, type)
    {
        printf("  %-6s %6.0f tensors  ", text_of(type, "type", "?"), number_of(type, "tensors"));
        print_size(number_of(type, "bytes"));
        putchar('\n');
    }
}

static void print_tensors(const json_t *json)
{
    size_t i, d;
    json_t *tensor, *size;
    putchar('\n');
    json_array_foreach(json_object_get(json, "tensors"), i, tensor)
    {
        printf("  %-6s [", text_of(tensor, "type", "?"));
        json_array_foreach(json_object_get(tensor, "shape"), d, size)
        {
            printf("%s%lld", d > 0 ? ", " : "", (long long)json_integer_value(size));
        }
        printf("]  %s\n", text_of(tensor, "name", "?"));
    }
}

static void print_tokenizer(const json_t *json)
{
    const json_t *t = json_object_get(json, "tokenizer");
    if (!json_is_object(t)) {
        printf("\ntokenizer: none\n");
        return;
    }
    printf("\ntokenizer: %s, %.0f tokens, bos %.0f, eos %.0f, pad %.0f\n", text_of(t, "kind", "?"),
           number_of(t, "size"), number_of(t, "bos"), number_of(t, "eos"), number_of(t, "pad"));
}

static int print_report(json_t *json, const struct inspect_args *a)
{
    const char *chat = text_of(json, "chat_template", NULL);
    if (a->template) {
        if (chat == NULL) {
            return cli_fail_text("%s has no chat template", text_of(json, "path", "this file"));
        }
        puts(chat);
        return CLI_OK;
    }
    printf("%s\n  format %s, architecture %s", text_of(json, "path", ""),
           text_of(json, "format", ""), text_of(json, "architecture", "none"));
    if (number_of(json, "parameters") > 0) {
        printf(", %.4g million parameters", number_of(json, "parameters") / 1e6);
    }
    putchar('\n');
    if (text_of(json, "reason", NULL) != NULL) {
        printf("  graft cannot run it: %s\n", text_of(json, "reason", ""));
    }
    print_object("configuration", json_object_get(json, "config"));
    print_object("metadata", json_object_get(json, "metadata"));
    print_types(json);
    if (a->tensors) {
        print_tensors(json);
    }
    print_tokenizer(json);
    printf("chat template: ");
    if (chat != NULL) {
        printf("%zu bytes (--template prints it)\n", strlen(chat));
    } else {
        puts("none");
    }
    return CLI_OK;
}

int verb_inspect(int argc, char **argv)
{
    struct inspect_args args = {0};
    argp_parse(&inspect_argp, argc, argv, 0, NULL, &args);
    graft_runtime *runtime = NULL;
    int status = cli_open_runtime(&args.common, &runtime);
    if (status != CLI_OK) {
        return status;
    }
    graft_error error = {0};
    char *report = NULL;
    json_t *json = NULL;
    char *path = cli_model_path(args.path != NULL ? args.path : args.common.model);
    if (path == NULL) {
        status = CLI_FAILED;
    } else if (graft_inspect(runtime, path, &report, &error) != GRAFT_OK ||
               json_parse(report, strlen(report), &json, &error) != GRAFT_OK) {
        status = cli_fail(&error);
    } else if (args.common.json) {
        puts(report);
    } else {
        status = print_report(json, &args);
    }
    json_decref(json);
    graft_free(runtime, report);
    mem_free(NULL, path);
    graft_runtime_close(&runtime);
    return status;
}
