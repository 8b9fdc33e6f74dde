/* run.c: `graft run`: one prompt, one answer.
 *
 * With a chat template the prompt becomes the user's message of a conversation; --raw gives the text to
 * the model as it is.
 */
#include "generate.h"

#include <unistd.h>

enum { KEY_RAW = 0x200, KEY_LOGPROBS };

struct run_args {
    struct cli_common common;
    struct cli_sampling sampling;
    struct cli_input input;
    bool raw;
    int logprobs;   /* -1: no token records */
    json_t *picked; /* by -a auto; NULL: nothing */
};

static error_t parse_run(int key, char *arg, struct argp_state *state)
{
    struct run_args *a = state->input;
    switch (key) {
    case ARGP_KEY_INIT:
        state->child_inputs[0] = &a->input;
        state->child_inputs[1] = &a->sampling;
        state->child_inputs[2] = &a->common.adapters;
        state->child_inputs[3] = &a->common.adapters;
        state->child_inputs[4] = &a->common;
        return 0;
    case KEY_RAW:
        a->raw = true;
        return 0;
    case KEY_LOGPROBS:
        a->logprobs = (int)cli_parse_int(state, "--logprobs", arg, 0, 64);
        return 0;
    case ARGP_KEY_END:
        if (a->raw && a->sampling.system_prompt != NULL) {
            argp_error(state, "--raw has no system prompt: write it into the text");
        }
        if (a->logprobs >= 0 && !a->common.json) {
            argp_error(state, "--logprobs needs --json");
        }
        return 0;
    default:
        return ARGP_ERR_UNKNOWN;
    }
}

static const struct argp_option run_options[] = {
    {"raw", KEY_RAW, NULL, 0, "Do not apply the chat template", 1},
    {"logprobs", KEY_LOGPROBS, "N", 0,
     "With --json: each token with its log-probability and the N best alternatives", 6},
    {0},
};
static const struct argp_child run_children[] = {
    {&cli_input_argp, 0, NULL, 0},    {&cli_sampling_argp, 0, NULL, 0},
    {&cli_adapters_argp, 0, NULL, 0}, {&cli_auto_argp, 0, NULL, 0},
    {&cli_common_argp, 0, NULL, 0},   {0},
};
static const struct argp run_argp = {
    .options = run_options,
    .parser = parse_run,
    .children = run_children,
    .doc = "Answer one prompt. The text comes from -p, -f or standard input; the answer goes to "
           "standard output as it is generated.\v"
           "Examples:\n"
           "  graft run -p \"Tell me a story about a cat.\"\n"
           "  graft run -m model.gguf --temp 0 -n 100 -f question.txt\n"
           "  graft run -m DIR -a ./my-coder=0.7 -a coder@1.1.0=0.3 -p \"Write a test.\"\n"
           "  graft run -a auto -p \"Write a function to store a report.\"\n"
           "  graft run --model-draft tiny-draft -v -p \"Once upon a time\"\n"
           "  graft run -p \"Who is Tom?\" --grammar 'root ::= \"A \" (\"cat\" | \"boy\")'\n"
           "  graft run --raw -m DIR -p \"Once upon a time\" --json\n"};

/* The ids that the prompt becomes: the rendered chat, or the raw text with BOS where the model's own
 * tokenizer puts one. */
static int prompt_ids(struct cli_session *s, const struct run_args *a, const char *text,
                      size_t size, graft_token_id **ids, size_t *n)
{
    graft_error error = {0};
    graft_model_info info;
    graft_tokenizer_info tokenizer;
    const graft_tokenizer *t = graft_model_tokenizer(s->model);
    if (graft_model_describe(s->model, &info, &error) != GRAFT_OK) {
        return cli_fail(&error);
    }
    if (t == NULL || graft_tokenizer_describe(t, &tokenizer, &error) != GRAFT_OK) {
        return cli_fail_text("%s has no tokenizer", info.path);
    }
    if (a->raw || !info.has_chat_template) {
        if (a->sampling.system_prompt != NULL) {
            return cli_fail_text("%s has no chat template, so there is no system prompt",
                                 info.path);
        }
        int flags = tokenizer.adds_bos ? GRAFT_TOKENIZE_BOS : 0;
        return graft_tokenize(t, text, size, flags, ids, n, &error) == GRAFT_OK ? CLI_OK
                                                                                : cli_fail(&error);
    }
    graft_message messages[2] = {{"system", a->sampling.system_prompt}, {"user", text}};
    size_t skip = a->sampling.system_prompt == NULL ? 1 : 0;
    char *rendered = NULL;
    size_t rendered_size;
    if (graft_chat_render(s->model, messages + skip, 2 - skip, true, &rendered, &rendered_size,
                          &error) != GRAFT_OK ||
        graft_tokenize(t, rendered, rendered_size, GRAFT_TOKENIZE_SPECIAL, ids, n, &error) !=
            GRAFT_OK) {
        graft_free(s->runtime, rendered);
        return cli_fail(&error);
    }
    graft_free(s->runtime, rendered);
    return CLI_OK;
}

static int print_result(const struct cli_session *s, struct run_args *a,
                        const struct answer *answer, int status)
{
    if (a->common.json && status == CLI_OK) {
        json_t *json = generate_json(answer);
        if (a->picked != NULL) {
            json_put(&json, "routes", json_incref(a->picked));
        }
        json_put(&json, "seed", json_integer((json_int_t)a->sampling.seed));
        if (a->sampling.draft.model != NULL) {
            json_put(&json, "drafts", cli_drafts_json(s));
        }
        return cli_print_json(json);
    }
    bool terminal = isatty(STDOUT_FILENO) != 0;
    if (terminal && answer->text.size > 0 && answer->text.data[answer->text.size - 1] != '\n') {
        putchar('\n');
    }
    if (status == CLI_OK && (a->common.verbose || (terminal && !a->common.quiet))) {
        fflush(stdout);
        generate_print_speed(answer);
        cli_print_drafts(s);
    }
    return status;
}

static int run_on(struct cli_session *s, struct run_args *a, const char *text, size_t size)
{
    struct answer answer;
    graft_token_id *ids = NULL;
    size_t n = 0;
    answer_init(&answer);
    if (a->logprobs >= 0) {
        answer.token_records = json_array();
        answer.top = a->logprobs;
    }
    const struct cli_adapters *how = &a->common.adapters;
    int status = prompt_ids(s, a, text, size, &ids, &n);
    if (status == CLI_OK && how->automatic.on) {
        status = cli_route(s, how, text, size, GRAFT_KV_CONTINUE, a->common.quiet, &a->picked);
    }
    if (status == CLI_OK && n == 0) {
        status =
            cli_fail_text("the prompt is empty and this model begins with no token of its own");
    }
    if (status == CLI_OK) {
        status = generate_prompt(s, ids, n, a->common.quiet, &answer);
    }
    if (status == CLI_OK) {
        status = generate_answer(s, a->sampling.max_tokens, a->common.json, &answer);
        status = print_result(s, a, &answer, status);
    }
    if (status == CLI_OK && cli_is_constrained(&a->sampling.constraint) &&
        (answer.finish == GRAFT_FINISH_LENGTH || answer.finish == GRAFT_FINISH_STOP)) {
        status = cli_fail_text("the answer was cut off: it is only the beginning of what its "
                               "grammar or schema asks for");
    }
    if (status == CLI_OK && answer.finish == GRAFT_FINISH_CANCELLED) {
        status = cli_fail_text("interrupted");
    }
    graft_free(s->runtime, ids);
    json_decref(a->picked);
    answer_free(&answer);
    return status;
}

int verb_run(int argc, char **argv)
{
    struct run_args args = {.logprobs = -1, .common.adapters.routable = true};
    cli_sampling_init(&args.sampling);
    argp_parse(&run_argp, argc, argv, 0, NULL, &args);
    char *text = NULL;
    size_t size = 0;
    int status = cli_read_input(&args.input, &text, &size);
    if (status != CLI_OK) {
        return status;
    }
    if (strlen(text) != size && !args.raw) {
        mem_free(NULL, text);
        return cli_fail_text("the prompt holds a NUL byte; a chat message cannot (use --raw)");
    }
    cli_catch_interrupt();
    struct cli_session session;
    status = cli_open_model(&args.common, &session);
    if (status == CLI_OK) {
        status = cli_open_session(&session, &args.sampling);
        if (status == CLI_OK) {
            status = run_on(&session, &args, text, size);
        }
        cli_close(&session);
    }
    mem_free(NULL, text);
    return status;
}
