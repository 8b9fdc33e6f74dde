/* tokenize.c: `graft tokenize` and `graft detokenize`: text ↔ ids with a model's tokenizer.
 *
 * A vocabulary is enough: the weights are not opened.
 */
#include "cli.h"

enum { KEY_BOS = 0x200, KEY_SPECIAL_TEXT, KEY_TOKENS };

struct tokenize_args {
    struct cli_common common;
    struct cli_input input;
    int flags;
    bool special;
    const char *tokens;
};

static int open_tokenizer(const struct cli_common *common, graft_runtime **runtime,
                          graft_tokenizer **tokenizer)
{
    int status = cli_open_runtime(common, runtime);
    if (status != CLI_OK) {
        return status;
    }
    graft_error error = {0};
    char *path = cli_model_path(common->model);
    if (path == NULL) {
        status = CLI_FAILED;
    } else if (graft_tokenizer_open(*runtime, path, tokenizer, &error) != GRAFT_OK) {
        status = cli_fail(&error);
    }
    mem_free(NULL, path);
    if (status != CLI_OK) {
        graft_runtime_close(runtime);
    }
    return status;
}

/* ---- tokenize ---- */

static error_t parse_tokenize(int key, char *arg, struct argp_state *state)
{
    struct tokenize_args *a = state->input;
    (void)arg;
    switch (key) {
    case ARGP_KEY_INIT:
        state->child_inputs[0] = &a->input;
        state->child_inputs[1] = &a->common;
        return 0;
    case KEY_BOS:
        a->flags |= GRAFT_TOKENIZE_BOS;
        return 0;
    case KEY_SPECIAL_TEXT:
        a->flags |= GRAFT_TOKENIZE_SPECIAL;
        return 0;
    default:
        return ARGP_ERR_UNKNOWN;
    }
}

static const struct argp_option tokenize_options[] = {
    {"bos", KEY_BOS, NULL, 0, "Put BOS first, where the vocabulary has one", 1},
    {"special", KEY_SPECIAL_TEXT, NULL, 0, "Special tokens written in the text become themselves",
     1},
    {0},
};
static const struct argp_child tokenize_children[] = {
    {&cli_input_argp, 0, NULL, 0}, {&cli_common_argp, 0, NULL, 0}, {0}};
static const struct argp tokenize_argp = {
    .options = tokenize_options,
    .parser = parse_tokenize,
    .children = tokenize_children,
    .doc = "Turn text into token ids: one line \"id<TAB>token\" each, or {\"ids\": [...]} with "
           "--json. Without options no BOS is added and special tokens are plain text.\v"
           "Examples:\n"
           "  echo -n \"Hello world\" | graft tokenize -m DIR --json\n"
           "  graft tokenize -m vocab.gguf -p \"<|im_start|>user\" --special\n"};

static int print_ids_json(const graft_token_id *ids, size_t n)
{
    json_t *list = json_array();
    for (size_t i = 0; i < n; i++) {
        json_append(&list, json_integer(ids[i]));
    }
    return cli_print_json(json_pack("{s:o}", "ids", list));
}

static int print_ids_table(graft_runtime *runtime, const graft_tokenizer *t,
                           const graft_token_id *ids, size_t n)
{
    for (size_t i = 0; i < n; i++) {
        graft_error error = {0};
        char *text;
        size_t size;
        if (graft_detokenize(t, ids + i, 1, true, &text, &size, &error) != GRAFT_OK) {
            return cli_fail(&error);
        }
        printf("%d\t", ids[i]);
        cli_put_text(stdout, text, size, 0);
        putchar('\n');
        graft_free(runtime, text);
    }
    return CLI_OK;
}

int verb_tokenize(int argc, char **argv)
{
    struct tokenize_args args = {0};
    argp_parse(&tokenize_argp, argc, argv, 0, NULL, &args);
    char *text = NULL;
    size_t size = 0, n = 0;
    int status = cli_read_input(&args.input, &text, &size);
    graft_runtime *runtime = NULL;
    graft_tokenizer *tokenizer = NULL;
    if (status == CLI_OK) {
        status = open_tokenizer(&args.common, &runtime, &tokenizer);
    }
    if (status == CLI_OK) {
        graft_error error = {0};
        graft_token_id *ids = NULL;
        if (graft_tokenize(tokenizer, text, size, args.flags, &ids, &n, &error) != GRAFT_OK) {
            status = cli_fail(&error);
        } else {
            status = args.common.json ? print_ids_json(ids, n)
                                      : print_ids_table(runtime, tokenizer, ids, n);
        }
        graft_free(runtime, ids);
        graft_tokenizer_close(&tokenizer);
        graft_runtime_close(&runtime);
    }
    mem_free(NULL, text);
    return status;
}

/* ---- detokenize ---- */

static error_t parse_detokenize(int key, char *arg, struct argp_state *state)
{
    struct tokenize_args *a = state->input;
    switch (key) {
    case ARGP_KEY_INIT:
        state->child_inputs[0] = &a->common;
        return 0;
    case KEY_TOKENS:
        a->tokens = arg;
        return 0;
    case 'f':
        a->input.file = cli_parse_name(state, "--file", arg);
        return 0;
    case ARGP_KEY_END:
        if (a->tokens != NULL && a->input.file != NULL) {
            argp_error(state, "give either --tokens or -f, not both");
        }
        return 0;
    case KEY_SPECIAL_TEXT:
        a->special = true;
        return 0;
    default:
        return ARGP_ERR_UNKNOWN;
    }
}

static const struct argp_option detokenize_options[] = {
    {"tokens", KEY_TOKENS, "IDS", 0, "Ids, separated by commas or spaces", 1},
    {"file", 'f', "FILE", 0, "Read them from FILE (- or none: standard input)", 1},
    {"special", KEY_SPECIAL_TEXT, NULL, 0, "Show special tokens too", 1},
    {0},
};
static const struct argp_child detokenize_children[] = {{&cli_common_argp, 0, NULL, 0}, {0}};
static const struct argp detokenize_argp = {
    .options = detokenize_options,
    .parser = parse_detokenize,
    .children = detokenize_children,
    .doc = "Turn token ids into text, byte for byte. Brackets are ignored, so the list of a "
           "`tokenize --json` can be pasted.\v"
           "Example:\n"
           "  graft detokenize -m DIR --tokens 9707,1879\n"};

static int detokenize_text(const struct tokenize_args *a, const char *text)
{
    graft_token_id *ids = NULL;
    size_t n = 0;
    int status = cli_parse_ids(text, &ids, &n);
    if (status == CLI_USAGE && a->tokens == NULL) {
        status = CLI_FAILED; /* what a file holds is no use of ours */
    }
    graft_runtime *runtime = NULL;
    graft_tokenizer *tokenizer = NULL;
    if (status == CLI_OK) {
        status = open_tokenizer(&a->common, &runtime, &tokenizer);
    }
    if (status == CLI_OK) {
        graft_error error = {0};
        char *out = NULL;
        size_t size = 0;
        if (graft_detokenize(tokenizer, ids, n, a->special, &out, &size, &error) != GRAFT_OK) {
            status = cli_fail(&error);
        } else if (a->common.json) {
            status = cli_print_json(json_pack("{s:o}", "text", json_any_text(out, size)));
        } else {
            fwrite(out, 1, size, stdout);
        }
        graft_free(runtime, out);
        graft_tokenizer_close(&tokenizer);
        graft_runtime_close(&runtime);
    }
    mem_free(NULL, ids);
    return status;
}

int verb_detokenize(int argc, char **argv)
{
    struct tokenize_args args = {0};
    argp_parse(&detokenize_argp, argc, argv, 0, NULL, &args);
    args.input.prompt = args.tokens;
    char *text = NULL;
    size_t size = 0;
    int status = cli_read_input(&args.input, &text, &size);
    if (status == CLI_OK && strlen(text) != size) {
        status = cli_fail_text("there is a NUL byte among the ids");
    }
    if (status == CLI_OK) {
        status = detokenize_text(&args, text);
    }
    mem_free(NULL, text);
    return status;
}
