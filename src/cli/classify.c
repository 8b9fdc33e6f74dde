/* classify.c: `graft classify`: class probabilities of texts, one text per line or the whole input.
 */
#include "cli.h"

#include <math.h>

enum { KEY_LINES = 0x200 };

struct classify_args {
    struct cli_evaluation evaluation;
    bool lines;
};

static error_t parse_classify(int key, char *arg, struct argp_state *state)
{
    struct classify_args *a = state->input;
    (void)arg;
    switch (key) {
    case ARGP_KEY_INIT:
        state->child_inputs[0] = &a->evaluation;
        return 0;
    case KEY_LINES:
        a->lines = true;
        return 0;
    default:
        return ARGP_ERR_UNKNOWN;
    }
}

static const struct argp_option classify_options[] = {
    {"lines", KEY_LINES, NULL, 0, "Each line of the input is a text of its own", 1},
    {0},
};
static const struct argp_child classify_children[] = {{&cli_evaluation_argp, 0, NULL, 0}, {0}};
static const struct argp classify_argp = {
    .options = classify_options,
    .parser = parse_classify,
    .children = classify_children,
    .doc =
        "Score texts with a sequence classifier (Qwen2ForSequenceClassification): the best label "
        "with its probability, or all of them with --json (one object a line).\v"
        "Examples:\n"
        "  graft classify -m DIR -p \"I loved it\"\n"
        "  graft classify -m DIR --lines -f reviews.txt --json\n"};

static void softmax(float *x, int n)
{
    float best = x[0];
    double sum = 0;
    for (int i = 1; i < n; i++) {
        best = x[i] > best ? x[i] : best;
    }
    for (int i = 0; i < n; i++) {
        sum += exp((double)x[i] - (double)best);
    }
    for (int i = 0; i < n; i++) {
        x[i] = (float)(exp((double)x[i] - (double)best) / sum);
    }
}

static int print_classes(const graft_model *model, const float *scores, float *shares, int n,
                         bool json)
{
    int best = 0;
    for (int i = 0; i < n; i++) {
        shares[i] = scores[i];
        best = scores[i] > scores[best] ? i : best;
    }
    softmax(shares, n);
    if (!json) {
        printf("%s\t%.4f\n", graft_model_label(model, best), (double)shares[best]);
        return CLI_OK;
    }
    json_t *classes = json_array();
    for (int i = 0; i < n; i++) {
        json_append(&classes,
                    json_pack("{s:s, s:f, s:f}", "label", graft_model_label(model, i),
                              "probability", (double)shares[i], "score", (double)scores[i]));
    }
    return cli_print_json(
        json_pack("{s:s, s:o}", "label", graft_model_label(model, best), "classes", classes));
}

/* scores: [2 * n_labels] */
static int classify_one(struct cli_session *s, const struct classify_args *a, const char *text,
                        size_t size, int n_labels, float *scores)
{
    const graft_tokenizer *t = graft_model_tokenizer(s->model);
    graft_error error = {0};
    graft_token_id *ids = NULL;
    size_t n = 0;
    graft_status status = graft_tokenize(t, text, size, 0, &ids, &n, &error);
    if (status == GRAFT_OK && n == 0) {
        graft_free(s->runtime, ids);
        return cli_fail_text("an empty text has no class");
    }
    if (status == GRAFT_OK) {
        status = graft_session_classify(s->session, ids, n, scores, &error);
    }
    graft_free(s->runtime, ids);
    if (status != GRAFT_OK) {
        return cli_fail(&error);
    }
    return print_classes(s->model, scores, scores + n_labels, n_labels, a->evaluation.common.json);
}

/* One result a line, so that results stay beside their texts: nothing (JSON: null) for an empty one. */
static int classify_lines(struct cli_session *s, const struct classify_args *a, const char *text,
                          size_t size, int n_labels, float *scores)
{
    const char *end = text + size;
    int status = CLI_OK;
    while (status == CLI_OK && text < end && !cli_interrupted()) {
        const char *newline = memchr(text, '\n', (size_t)(end - text));
        const char *stop = newline != NULL ? newline : end;
        size_t length = (size_t)(stop - text);
        length -= length > 0 && text[length - 1] == '\r';
        if (length > 0) {
            status = classify_one(s, a, text, length, n_labels, scores);
        } else {
            puts(a->evaluation.common.json ? "null" : "");
        }
        text = newline != NULL ? newline + 1 : end;
    }
    return status;
}

static int classify_on(struct cli_session *s, void *args, const char *text, size_t size)
{
    const struct classify_args *a = args;
    graft_model_info info;
    graft_error error = {0};
    if (size == 0) {
        return cli_fail_text("an empty text has no class");
    }
    if (graft_model_describe(s->model, &info, &error) != GRAFT_OK) {
        return cli_fail(&error);
    }
    if (info.n_labels == 0) {
        return cli_fail_text("%s is no classifier (%s): use `graft run`", info.path,
                             info.architecture);
    }
    if (!info.has_tokenizer) {
        return cli_fail_text("%s has no tokenizer", info.path);
    }
    if (graft_session_open(s->model, &a->evaluation.session, &s->session, &error) != GRAFT_OK) {
        return cli_fail(&error);
    }
    float *scores = mem_calloc(NULL, 2 * (size_t)info.n_labels, sizeof *scores);
    int status = scores != NULL ? CLI_OK : cli_fail_text("out of memory");
    if (status == CLI_OK && !a->lines) {
        status = classify_one(s, a, text, size, info.n_labels, scores);
    } else if (status == CLI_OK) {
        status = classify_lines(s, a, text, size, info.n_labels, scores);
    }
    mem_free(NULL, scores);
    return status == CLI_OK && cli_interrupted() ? cli_fail_text("interrupted") : status;
}

int verb_classify(int argc, char **argv)
{
    struct classify_args args = {0};
    cli_evaluation_init(&args.evaluation);
    argp_parse(&classify_argp, argc, argv, 0, NULL, &args);
    return cli_evaluate(&args.evaluation, classify_on, &args);
}
