/* inspect.c: `graft inspect`: what is in a model or a file of tensors.
 *
 * The library describes the file as JSON (docs/inspect.md); --json prints that on one line, otherwise it is
 * laid out for people here, a screenful unless more is asked for.
 */
#include "cli.h"

enum { KEY_TENSORS = 0x200, KEY_METADATA, KEY_TEMPLATE };

struct inspect_args {
    struct cli_common common;
    const char *path;
    bool tensors, metadata, template;
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
    case KEY_METADATA:
        a->metadata = true;
        return 0;
    case KEY_TEMPLATE:
        a->template = true;
        return 0;
    case ARGP_KEY_ARG:
        if (a->path != NULL) {
            argp_error(state, "one file or directory at a time");
        }
        a->path = cli_parse_name(state, "FILE", arg);
        return 0;
    case ARGP_KEY_END:
        if (a->path != NULL && a->common.model != NULL) {
            argp_error(state, "give FILE or -m MODEL, not both");
        }
        if (a->template && a->common.json) {
            argp_error(state, "--template prints text; --json has it as chat_template");
        }
        return 0;
    default:
        return ARGP_ERR_UNKNOWN;
    }
}

static const struct argp_option inspect_options[] = {
    {"tensors", KEY_TENSORS, NULL, 0, "List every tensor", 1},
    {"metadata", KEY_METADATA, NULL, 0, "List every key of the metadata", 1},
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

static int integer_of(const json_t *object, const char *key)
{
    return (int)json_integer_value(json_object_get(object, key));
}

/* 1234567 B → "1.23 MB": three digits and a prefix of thousands. */
static const char *scaled(double x, const char *unit, char *out, size_t size)
{
    static const char *const prefixes[] = {"", "k", "M", "G", "T"};
    size_t prefix = 0;
    while (x >= 999.5 && prefix + 1 < ARRAY_LEN(prefixes)) {
        x /= 1000;
        prefix++;
    }
    int decimals = prefix == 0 || x >= 99.95 ? 0 : x >= 9.995 ? 1 : 2;
    snprintf(out, size, "%.*f %s%s", decimals, x, prefixes[prefix], unit);
    return out;
}

/* Text from a file, one line of it at most: control characters must not reach the terminal. */
static void print_text(const char *text, size_t most)
{
    size_t shown = strnlen(text, most);
    while (((unsigned char)text[shown] & 0xC0) == 0x80) {
        shown++; /* the rest of a character */
    }
    cli_put_text(stdout, text, shown, ' ');
    fputs(text[shown] != '\0' ? " ..." : "", stdout);
}

/* A JSON value on one line, cut off where it gets long. */
static void print_value(const json_t *value)
{
    if (json_is_string(value)) {
        print_text(json_string_value(value), 70);
    } else if (json_is_object(value)) { /* an array too long to be shown */
        printf("%d %s", integer_of(value, "count"), text_of(value, "array", "items"));
    } else {
        char *text = json_dumps(value, JSON_ENCODE_ANY | JSON_REAL_PRECISION(7));
        print_text(text != NULL ? text : "", 100);
        free(text); /* jansson's */
    }
    putchar('\n');
}

/* ---- the parts ---- */

static void print_head(const json_t *json)
{
    char bytes[32], values[32];
    double n = number_of(json, "parameters"), size = number_of(json, "bytes");
    print_text(text_of(json, "path", ""), 200);
    printf("\n  %s, ", text_of(json, "kind", "?"));
    if (text_of(json, "architecture", NULL) != NULL) {
        print_text(text_of(json, "architecture", ""), 60);
        fputs(", ", stdout);
    }
    fputs(text_of(json, "format", "?"), stdout);
    if (n > 0) {
        printf(", %s parameters in %s (%.2f bits each)", scaled(n, "", values, sizeof values),
               scaled(size, "B", bytes, sizeof bytes), size * 8 / n);
    }
    putchar('\n');
    if (text_of(json, "reason", NULL) != NULL) {
        fputs("  graft cannot run it: ", stdout);
        print_text(text_of(json, "reason", ""), 400);
        putchar('\n');
    }
}

static void print_config(const json_t *c)
{
    if (!json_is_object(c)) {
        return;
    }
    int n_kv = integer_of(c, "n_kv"), window = integer_of(c, "sliding_window");
    const json_t *mlx = json_object_get(c, "mlx_quantization");
    const char *scaling = text_of(c, "rope_scaling", "default");
    printf("\n  layers         %d\n", integer_of(c, "n_layer"));
    printf("  width          %d, MLP %d\n", integer_of(c, "d_model"), integer_of(c, "d_ff"));
    printf("  heads          %d of %d, with %d for keys and values\n", integer_of(c, "n_head"),
           integer_of(c, "d_head"), n_kv);
    printf("  vocabulary     %d, head %s\n", integer_of(c, "n_vocab"),
           integer_of(c, "n_labels") > 0                         ? "replaced by classes"
           : json_is_true(json_object_get(c, "tied_embeddings")) ? "tied to the embedding"
                                                                 : "of its own");
    if (integer_of(c, "n_labels") > 0) {
        printf("  classes        %d\n", integer_of(c, "n_labels"));
    }
    printf("  context        %d tokens", integer_of(c, "n_ctx"));
    if (window > 0) {
        printf(", attention to the last %d in %d layers", window, integer_of(c, "sliding_layers"));
    }
    printf("\n  rotary         theta %.10g", number_of(c, "rope_theta"));
    if (strcmp(scaling, "default") != 0) {
        printf(", %s scaling", scaling);
    }
    if (number_of(c, "rope_factor") > 0) {
        printf(" by %.7g", number_of(c, "rope_factor"));
    }
    putchar('\n');
    if (mlx != NULL) {
        printf("  quantised      %d bits in groups of %d (MLX)\n", integer_of(mlx, "bits"),
               integer_of(mlx, "group_size"));
    }
}

static void print_types(const json_t *json)
{
    size_t i;
    json_t *type;
    char size[32];
    printf("\ntensors: %d\n", integer_of(json, "n_tensors"));
    json_array_foreach(json_object_get(json, "types"), i, type)
    {
        printf("  %-14s %6d %10s\n", text_of(type, "type", "?"), integer_of(type, "tensors"),
               scaled(number_of(type, "bytes"), "B", size, sizeof size));
    }
}

/* What is rearranged when the model is opened. */
static void print_packed(const json_t *json)
{
    const json_t *packed = json_object_get(json, "packed");
    char from[32], to[32];
    if (integer_of(packed, "tensors") > 0) {
        printf("  packed         %6d %10s in memory for %s of the file (tier %s)\n",
               integer_of(packed, "tensors"),
               scaled(number_of(packed, "bytes"), "B", to, sizeof to),
               scaled(number_of(packed, "from_bytes"), "B", from, sizeof from),
               text_of(packed, "tier", "?"));
    }
}

static void print_tensors(const json_t *json)
{
    size_t i, d;
    json_t *tensor, *dim;
    char size[32], shape[128];
    putchar('\n');
    json_array_foreach(json_object_get(json, "tensors"), i, tensor)
    {
        size_t used = 0;
        shape[0] = '\0';
        json_array_foreach(json_object_get(tensor, "shape"), d, dim)
        {
            int n = snprintf(shape + used, sizeof shape - used, "%s%lld", d > 0 ? " x " : "",
                             (long long)json_integer_value(dim));
            used += n > 0 && (size_t)n < sizeof shape - used ? (size_t)n : 0;
        }
        printf("  %-5s %14s %10s  ", text_of(tensor, "type", "?"), shape,
               scaled(number_of(tensor, "bytes"), "B", size, sizeof size));
        print_text(text_of(tensor, "name", "?"), 160);
        if (json_object_get(tensor, "packed_bytes") != NULL) {
            printf(" (packed: %s)",
                   scaled(number_of(tensor, "packed_bytes"), "B", size, sizeof size));
        }
        putchar('\n');
    }
}

static void print_special(const json_t *t, const char *label, const char *id, const char *token)
{
    if (integer_of(t, id) < 0) {
        return;
    }
    printf("  %-14s %d ", label, integer_of(t, id));
    print_text(text_of(t, token, ""), 40);
    putchar('\n');
}

static void print_tokenizer(const json_t *json)
{
    const json_t *t = json_object_get(json, "tokenizer");
    const char *chat = text_of(json, "chat_template", NULL);
    if (!json_is_object(t)) {
        puts("\ntokenizer: none");
        return;
    }
    printf("\ntokenizer: %s, %d tokens\n", text_of(t, "kind", "?"), integer_of(t, "size"));
    print_special(t, json_is_true(json_object_get(t, "adds_bos")) ? "begins with" : "begin", "bos",
                  "bos_token");
    print_special(t, "end", "eos", "eos_token");
    print_special(t, "padding", "pad", "pad_token");
    if (chat != NULL) {
        printf("  chat template  %zu bytes (--template prints it)\n", strlen(chat));
    } else {
        puts("  chat template  none");
    }
}

/* Keys whose facts stand above, or that are long and for programs. */
static bool is_plumbing(const char *key)
{
    static const char *const facts[] = {"general.architecture", "general.type", "general.file_type",
                                        "general.quantization_version", "general.alignment"};
    for (size_t i = 0; i < ARRAY_LEN(facts); i++) {
        if (strcmp(key, facts[i]) == 0) {
            return true;
        }
    }
    return strchr(key, '.') != NULL && strncmp(key, "general.", 8) != 0;
}

static void print_metadata(const json_t *json, bool all)
{
    enum { MOST = 8 };
    json_t *metadata = json_object_get(json, "metadata"), *value;
    const char *key;
    size_t shown = 0, total = json_object_size(metadata);
    if (total == 0) {
        return;
    }
    puts("\nmetadata");
    json_object_foreach(metadata, key, value)
    {
        if (all || (!is_plumbing(key) && shown < MOST)) {
            printf(all ? "  %-40s " : "  %-14s ",
                   all ? key : key + (strncmp(key, "general.", 8) == 0 ? 8 : 0));
            print_value(value);
            shown++;
        }
    }
    if (shown < total) {
        printf("  %zu %s (--metadata lists them)\n", total - shown,
               shown > 0 ? "more keys" : "keys");
    }
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
    print_head(json);
    print_config(json_object_get(json, "config"));
    print_types(json);
    print_packed(json);
    print_tokenizer(json);
    print_metadata(json, a->metadata);
    if (a->tensors) {
        print_tensors(json);
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
        status = cli_print_json(json_incref(json));
    } else {
        status = print_report(json, &args);
    }
    json_decref(json);
    graft_free(runtime, report);
    mem_free(NULL, path);
    graft_runtime_close(&runtime);
    return status;
}
