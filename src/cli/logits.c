/* logits.c: `graft logits`: what the model says about every position, as numbers.
 *
 * For tests and for people who compare runtimes: the exact float32 logits in a NumPy file, or the best
 * tokens after the last position as a table.
 */
#include "cli.h"

enum { KEY_TOKENS = 0x200, KEY_OUT, KEY_DECODE, KEY_TOP, MAX_TOP = 1000 };

struct logits_args {
    struct cli_evaluation evaluation;
    const char *tokens, *out;
    graft_token_id *ids; /* those of --tokens */
    size_t n_ids;
    graft_row_role role;
    int top; /* 0: not given */
};

static error_t parse_logits(int key, char *arg, struct argp_state *state)
{
    struct logits_args *a = state->input;
    switch (key) {
    case ARGP_KEY_INIT:
        state->child_inputs[0] = &a->evaluation;
        return 0;
    case KEY_TOKENS:
        a->tokens = arg;
        return 0;
    case 'o':
        a->out = cli_parse_name(state, "--out", arg);
        return 0;
    case KEY_DECODE:
        a->role = GRAFT_ROLE_DECODE;
        return 0;
    case KEY_TOP:
        a->top = (int)cli_parse_int(state, "--top", arg, 1, MAX_TOP);
        return 0;
    case ARGP_KEY_END:
        if (a->tokens != NULL &&
            (a->evaluation.input.prompt != NULL || a->evaluation.input.file != NULL)) {
            argp_error(state, "give either --tokens or a text, not both");
        }
        return 0;
    default:
        return ARGP_ERR_UNKNOWN;
    }
}

static const struct argp_option logits_options[] = {
    {NULL, 0, NULL, 0, "Logits:", 6},
    {"tokens", KEY_TOKENS, "IDS", 0, "Token ids, separated by commas, instead of text", 1},
    {"out", 'o', "FILE.npy", 0, "Write all logits as float32 [tokens, vocabulary]", 6},
    {"top", KEY_TOP, "N", 0, "Print the N best tokens after the last position; default 10", 6},
    {"decode", KEY_DECODE, NULL, 0, "Compute each token as a decode step, not as a prompt", 6},
    {0},
};
static const struct argp_child logits_children[] = {{&cli_evaluation_argp, 0, NULL, 0}, {0}};
static const struct argp logits_argp = {
    .options = logits_options,
    .parser = parse_logits,
    .children = logits_children,
    .doc =
        "Print or save the logits that the model gives for each token of the input. Text gets no "
        "BOS and no chat template.\v"
        "Examples:\n"
        "  graft logits -m DIR --tokens 1,2,3 --out x.npy\n"
        "  graft logits -m DIR -p \"The capital of\" --top 5\n"};

/* NumPy's format, version 1.0: magic, header length, a Python dict padded to 64 bytes, the data. */
static graft_status write_npy(const char *path, const float *data, size_t rows, size_t columns,
                              graft_error *error)
{
    char header[128];
    int n =
        snprintf(header, sizeof header,
                 "%cNUMPY%c%c%c%c{'descr': '<f4', 'fortran_order': False, 'shape': (%zu, %zu), }",
                 0x93, 1, 0, (int)sizeof header - 10, 0, rows, columns);
    memset(header + n, ' ', sizeof header - (size_t)n);
    header[sizeof header - 1] = '\n';
    struct file_writer writer;
    graft_status status = file_writer_open(&writer, NULL, path, error);
    if (status != GRAFT_OK) {
        return status;
    }
    status = file_writer_write(&writer, header, sizeof header, error);
    if (status == GRAFT_OK) {
        status = file_writer_write(&writer, data, rows * columns * sizeof *data, error);
    }
    if (status == GRAFT_OK) {
        status = file_writer_commit(&writer, error);
    }
    file_writer_abort(&writer);
    return status;
}

/* The `top` best of the last row, by repeated selection: top is small. */
static int print_best(struct cli_session *s, const float *logits, int n_vocab, int top, bool json)
{
    const graft_tokenizer *t = graft_model_tokenizer(s->model);
    bool *taken = mem_calloc(NULL, (size_t)n_vocab, sizeof *taken);
    if (taken == NULL) {
        return cli_fail_text("out of memory");
    }
    json_t *list = json_array();
    for (int k = 0; k < top && k < n_vocab; k++) {
        int best = -1;
        for (int i = 0; i < n_vocab; i++) {
            if (!taken[i] && (best < 0 || logits[i] > logits[best])) {
                best = i;
            }
        }
        taken[best] = true;
        char *text = NULL;
        size_t size = 0;
        graft_token_id id = best;
        if (t == NULL || graft_detokenize(t, &id, 1, true, &text, &size, NULL) != GRAFT_OK) {
            size = 0;
        }
        json_t *piece = json_any_text(text, size);
        if (json) {
            json_append(&list, json_pack("{s:i, s:O, s:f}", "id", best, "text", piece, "logit",
                                         (double)logits[best]));
        } else {
            char *quoted = json_dumps(piece, JSON_ENCODE_ANY);
            printf("%8d  %12.6f  %s\n", best, (double)logits[best], quoted != NULL ? quoted : "");
            free(quoted); /* jansson's */
        }
        json_decref(piece);
        graft_free(s->runtime, text);
    }
    mem_free(NULL, taken);
    if (!json) {
        json_decref(list);
        return CLI_OK;
    }
    return cli_print_json(json_pack("{s:o}", "top", list));
}

static int print_result(struct cli_session *s, const struct logits_args *a, const float *logits,
                        size_t n, int n_vocab)
{
    bool json = a->evaluation.common.json;
    if (a->out == NULL || a->top > 0) {
        int top = a->top > 0 ? a->top : 10;
        return print_best(s, logits + (n - 1) * (size_t)n_vocab, n_vocab, top, json);
    }
    return json ? cli_print_json(json_pack("{s:o, s:[I, i]}", "output",
                                           json_any_text(a->out, strlen(a->out)), "shape",
                                           (json_int_t)n, n_vocab))
                : CLI_OK;
}

static int logits_of(struct cli_session *s, const struct logits_args *a, const graft_token_id *ids,
                     size_t n)
{
    graft_model_info info;
    graft_error error = {0};
    if (graft_model_describe(s->model, &info, &error) != GRAFT_OK ||
        graft_session_open(s->model, &a->evaluation.session, &s->session, &error) != GRAFT_OK) {
        return cli_fail(&error);
    }
    if (info.n_labels > 0) {
        return cli_fail_text("%s is a classifier: use `graft classify`", info.path);
    }
    float *logits = mem_calloc(NULL, n * (size_t)info.n_vocab, sizeof *logits);
    if (logits == NULL) {
        return cli_fail_text("out of memory for %zu rows of %d logits", n, info.n_vocab);
    }
    int status = CLI_OK;
    if (graft_session_logits(s->session, ids, n, a->role, logits, &error) != GRAFT_OK ||
        (a->out != NULL &&
         write_npy(a->out, logits, n, (size_t)info.n_vocab, &error) != GRAFT_OK)) {
        status = cli_fail(&error);
    } else if (cli_interrupted()) {
        status = cli_fail_text("interrupted");
    } else {
        status = print_result(s, a, logits, n, info.n_vocab);
    }
    mem_free(NULL, logits);
    return status;
}

static int logits_of_text(struct cli_session *s, void *args, const char *text, size_t size)
{
    const graft_tokenizer *t = graft_model_tokenizer(s->model);
    graft_error error = {0};
    graft_token_id *ids = NULL;
    size_t n = 0;
    if (t == NULL) {
        return cli_fail_text("this model has no tokenizer: give --tokens");
    }
    if (graft_tokenize(t, text, size, 0, &ids, &n, &error) != GRAFT_OK) {
        return cli_fail(&error);
    }
    int status = n > 0 ? logits_of(s, args, ids, n) : cli_fail_text("an empty text has no tokens");
    graft_free(s->runtime, ids);
    return status;
}

static int logits_of_typed(struct cli_session *s, void *args, const char *text, size_t size)
{
    const struct logits_args *a = args;
    (void)text;
    (void)size;
    return logits_of(s, a, a->ids, a->n_ids);
}

int verb_logits(int argc, char **argv)
{
    struct logits_args args = {0};
    cli_evaluation_init(&args.evaluation);
    argp_parse(&logits_argp, argc, argv, 0, NULL, &args);
    if (args.tokens == NULL) {
        return cli_evaluate(&args.evaluation, logits_of_text, &args);
    }
    int status = cli_parse_ids(args.tokens, &args.ids, &args.n_ids);
    if (status == CLI_OK && args.n_ids == 0) {
        fputs("graft: --tokens: no ids given\n", stderr);
        status = CLI_USAGE;
    }
    if (status == CLI_OK) {
        args.evaluation.input.prompt = args.tokens; /* instead of waiting for a text */
        status = cli_evaluate(&args.evaluation, logits_of_typed, &args);
    }
    mem_free(NULL, args.ids);
    return status;
}
