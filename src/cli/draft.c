/* draft.c: the options of speculative decoding, which run, chat and batch have, and what came of it. */
#include "cli.h"

enum { KEY_MODEL = 0x500, KEY_K, KEY_MAX, KEY_STORE };

static error_t parse_draft(int key, char *arg, struct argp_state *state)
{
    struct cli_draft *d = state->input;
    switch (key) {
    case KEY_MODEL:
        d->model = cli_parse_name(state, "--model-draft", arg);
        return 0;
    case KEY_K:
        d->k = (int)cli_parse_int(state, "--draft-k", arg, 1, 8);
        return 0;
    case KEY_MAX:
        d->max = (int)cli_parse_int(state, "--draft-max", arg, 1, 8);
        return 0;
    case KEY_STORE:
        d->store = cli_parse_name(state, "--draft-store", arg);
        return 0;
    case ARGP_KEY_END:
        if (d->model == NULL && (d->k > 0 || d->max > 0 || d->store != NULL)) {
            argp_error(state, "drafts from what? give --model-draft MODEL, or ngram");
        }
        if (d->k > 0 && d->max > 0 && d->k > d->max) {
            argp_error(state, "--draft-k is above --draft-max");
        }
        return 0;
    default:
        return ARGP_ERR_UNKNOWN;
    }
}

static const struct argp_option draft_options[] = {
    {NULL, 0, NULL, 0, "Speculative decoding (changes the speed and nothing else):", 8},
    {"model-draft", KEY_MODEL, "MODEL", 0,
     "Guess tokens with a smaller model of the same vocabulary (a directory, file or name), and "
     "from the text; ngram: from the text alone",
     8},
    {"draft-k", KEY_K, "N", 0, "Guesses at first, 1 to 8; default 4", 8},
    {"draft-max", KEY_MAX, "N", 0, "Guesses at most, 1 to 8; default 8", 8},
    {"spec-draft-n-max", 0, NULL, OPTION_ALIAS, NULL, 8},
    {"draft-store", KEY_STORE, "DIR", 0,
     "Guess from what was generated under the same adapters before, and keep that here", 8},
    {0},
};
const struct argp cli_draft_argp = {.options = draft_options, .parser = parse_draft};

int cli_draft_options(struct cli_session *s, const struct cli_draft *d, graft_draft_options *out)
{
    graft_error error = {0};
    *out = graft_draft_options_default();
    out->store = d->store;
    out->max = d->max > 0 ? d->max : out->max;
    out->k = d->k > 0 ? d->k : out->k < out->max ? out->k : out->max;
    out->max = out->max > out->k ? out->max : out->k;
    if (strcmp(d->model, "ngram") != 0) {
        char *path = cli_model_path(d->model);
        graft_status status = GRAFT_NOT_FOUND;
        if (path == NULL) {
            return CLI_FAILED;
        }
        status = graft_model_open(s->runtime, path, NULL, &s->draft, &error);
        mem_free(NULL, path);
        if (status != GRAFT_OK) {
            return cli_fail(&error);
        }
        out->model = s->draft;
    }
    return CLI_OK;
}

int cli_set_draft(struct cli_session *s, const struct cli_draft *d)
{
    graft_draft_options options;
    graft_error error = {0};
    if (d->model == NULL) {
        return CLI_OK;
    }
    int status = cli_draft_options(s, d, &options);
    if (status == CLI_OK && graft_session_set_draft(s->session, &options, &error) != GRAFT_OK) {
        status = cli_fail(&error);
    }
    return status;
}

void cli_print_drafts(const struct cli_session *s)
{
    graft_draft_info info;
    if (graft_session_draft_info(s->session, &info, NULL) != GRAFT_OK || info.passes == 0) {
        return;
    }
    uint64_t drafted = info.ngram.drafted + info.store.drafted + info.model.drafted;
    uint64_t accepted = info.ngram.accepted + info.store.accepted + info.model.accepted;
    fprintf(stderr, "drafts: %llu of %llu right (%.0f %%), %.2f tokens a pass\n",
            (unsigned long long)accepted, (unsigned long long)drafted,
            drafted > 0 ? 100.0 * (double)accepted / (double)drafted : 0,
            (double)info.tokens / (double)info.passes);
}

json_t *cli_drafts_json(const struct cli_session *s)
{
    graft_draft_info i = {0};
    (void)graft_session_draft_info(s->session, &i, NULL);
    return json_pack("{s:I, s:I, s:{s:I, s:I}, s:{s:I, s:I}, s:{s:I, s:I}}", "passes",
                     (json_int_t)i.passes, "tokens", (json_int_t)i.tokens, "ngram", "drafted",
                     (json_int_t)i.ngram.drafted, "accepted", (json_int_t)i.ngram.accepted, "store",
                     "drafted", (json_int_t)i.store.drafted, "accepted",
                     (json_int_t)i.store.accepted, "model", "drafted", (json_int_t)i.model.drafted,
                     "accepted", (json_int_t)i.model.accepted);
}
