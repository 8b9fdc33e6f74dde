/* perplexity.c: `graft perplexity`: how well a model predicts a text.
 *
 * The text is cut into windows of -c tokens that overlap by half (--stride), and only tokens new to a
 * window are scored, so that every one but the first few sees at least half a window of context.
 */
#include "cli.h"

#include <math.h>

enum { KEY_STRIDE = 0x200, DEFAULT_WINDOW = 512, MIN_TOKENS = 2 };

struct perplexity_args {
    struct cli_evaluation evaluation;
    int stride; /* 0: half a window */
};

struct perplexity {
    double sum, squares; /* of negative log-probabilities */
    size_t scored, windows;
};

static error_t parse_perplexity(int key, char *arg, struct argp_state *state)
{
    struct perplexity_args *a = state->input;
    switch (key) {
    case ARGP_KEY_INIT:
        state->child_inputs[0] = &a->evaluation;
        return 0;
    case KEY_STRIDE:
        a->stride = (int)cli_parse_int(state, "--stride", arg, 1, 1 << 24);
        return 0;
    case ARGP_KEY_END:
        if (a->evaluation.session.n_ctx == 1) {
            argp_error(state, "--ctx-size: one token predicts nothing; give 2 or more");
        }
        return 0;
    default:
        return ARGP_ERR_UNKNOWN;
    }
}

static const struct argp_option perplexity_options[] = {
    {"stride", KEY_STRIDE, "N", 0, "New tokens per window; default: half of -c (which is 512)", 5},
    {0},
};
static const struct argp_child perplexity_children[] = {{&cli_evaluation_argp, 0, NULL, 0}, {0}};
static const struct argp perplexity_argp = {
    .options = perplexity_options,
    .parser = parse_perplexity,
    .children = perplexity_children,
    .doc = "Print the perplexity of a text, exp(mean negative log-probability), with its standard "
           "error.\v"
           "Example:\n"
           "  graft perplexity -m DIR -f book.txt -c 1024\n"};

/* One window: ids [0, n), of which [from, n) are scored. Position 0 can never be. */
static graft_status score_window(graft_session *session, const graft_token_id *ids, size_t n,
                                 size_t from, float *scores, struct perplexity *p,
                                 graft_error *error)
{
    graft_status status = graft_session_score(session, ids, n, scores, error);
    if (status != GRAFT_OK) {
        return status;
    }
    for (size_t i = from > 0 ? from : 1; i < n; i++) {
        p->sum -= (double)scores[i];
        p->squares += (double)scores[i] * (double)scores[i];
        p->scored++;
    }
    p->windows++;
    return GRAFT_OK;
}

static int score_text(struct cli_session *s, const struct perplexity_args *a,
                      const graft_token_id *ids, size_t n, struct perplexity *p)
{
    size_t window = (size_t)graft_session_context(s->session);
    size_t stride = a->stride > 0 ? (size_t)a->stride : (window + 1) / 2;
    if (stride > window - 1) {
        stride = window - 1;
    }
    float *scores = mem_calloc(NULL, window, sizeof *scores);
    if (scores == NULL) {
        return cli_fail_text("out of memory");
    }
    struct cli_progress progress;
    cli_progress_begin(&progress, "scoring", a->evaluation.common.quiet);
    graft_error error = {0};
    graft_status status = GRAFT_OK;
    bool go_on = true;
    for (size_t done = 0; done < n && go_on && status == GRAFT_OK;) {
        size_t end = done == 0 ? window : done + stride;
        end = end < n ? end : n;
        size_t begin = end > window ? end - window : 0;
        status =
            score_window(s->session, ids + begin, end - begin, done - begin, scores, p, &error);
        done = end;
        go_on = cli_progress_step(&progress, done, n, "tokens");
    }
    cli_progress_end(&progress);
    mem_free(NULL, scores);
    if (status != GRAFT_OK) {
        return cli_fail(&error);
    }
    return go_on ? CLI_OK : cli_fail_text("interrupted");
}

static int print_perplexity(const struct perplexity *p, bool json, size_t bytes)
{
    double n = (double)p->scored;
    double mean = p->sum / n;
    double variance = p->squares / n - mean * mean;
    double error = n > 1 && variance > 0 ? sqrt(variance / (n - 1)) * exp(mean) : 0;
    double bits = bytes > 0 ? p->sum / log(2.0) / (double)bytes : 0;
    if (json) {
        return cli_print_json(json_pack("{s:f, s:f, s:f, s:f, s:I, s:I}", "perplexity", exp(mean),
                                        "error", error, "nll", mean, "bits_per_byte", bits,
                                        "tokens", (json_int_t)p->scored, "windows",
                                        (json_int_t)p->windows));
    }
    printf("perplexity %.4f +- %.4f  (%zu tokens, %.4f nats each, %.4f bits per byte)\n", exp(mean),
           error, p->scored, mean, bits);
    return CLI_OK;
}

static int perplexity_on(struct cli_session *s, void *args, const char *text, size_t size)
{
    const struct perplexity_args *a = args;
    graft_model_info info;
    graft_tokenizer_info tokenizer;
    graft_error error = {0};
    const graft_tokenizer *t = graft_model_tokenizer(s->model);
    if (graft_model_describe(s->model, &info, &error) != GRAFT_OK ||
        (t != NULL && graft_tokenizer_describe(t, &tokenizer, &error) != GRAFT_OK)) {
        return cli_fail(&error);
    }
    if (t == NULL) {
        return cli_fail_text("%s has no tokenizer", info.path);
    }
    graft_session_options session = a->evaluation.session;
    if (session.n_ctx == 0) {
        session.n_ctx = info.n_ctx < DEFAULT_WINDOW ? info.n_ctx : DEFAULT_WINDOW;
    }
    graft_token_id *ids = NULL;
    size_t n = 0;
    int flags = tokenizer.adds_bos ? GRAFT_TOKENIZE_BOS : 0;
    if (graft_tokenize(t, text, size, flags, &ids, &n, &error) != GRAFT_OK ||
        graft_session_open(s->model, &session, &s->session, &error) != GRAFT_OK) {
        graft_free(s->runtime, ids);
        return cli_fail(&error);
    }
    struct perplexity p = {0};
    int status = n < MIN_TOKENS ? cli_fail_text("the text is too short: %zu tokens", n)
                                : score_text(s, a, ids, n, &p);
    graft_free(s->runtime, ids);
    return status == CLI_OK ? print_perplexity(&p, a->evaluation.common.json, size) : status;
}

int verb_perplexity(int argc, char **argv)
{
    struct perplexity_args args = {0};
    cli_evaluation_init(&args.evaluation);
    argp_parse(&perplexity_argp, argc, argv, 0, NULL, &args);
    return cli_evaluate(&args.evaluation, perplexity_on, &args);
}
