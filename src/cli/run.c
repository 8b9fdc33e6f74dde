/* run.c: `graft run`: one prompt, one answer.
 *
 * With a chat template the prompt becomes the user's message of a conversation; --raw gives the text to
 * the model as it is. With --session it is the next message of the conversation in a file, or text behind what is there.
 */
#include "kept.h"

#include <sys/stat.h>
#include <unistd.h>

enum { KEY_RAW = 0x200, KEY_LOGPROBS, KEY_PROMPT_CACHE };

struct run_args {
    struct cli_common common;
    struct cli_sampling sampling;
    struct cli_input input;
    struct cli_kept kept;
    const char *prompt_cache; /* a file for the prompt alone; NULL: none */
    bool raw;
    bool as_chat, adds_bos; /* see find_ways */
    int logprobs;           /* -1: no token records */
    json_t *picked;         /* by -a auto; NULL: nothing */
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
        state->child_inputs[4] = &a->kept;
        state->child_inputs[5] = &a->common;
        return 0;
    case KEY_PROMPT_CACHE:
        a->prompt_cache = cli_parse_name(state, "--prompt-cache", arg);
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
        if (a->prompt_cache != NULL && a->kept.path != NULL) {
            argp_error(state,
                       "--session keeps the prompt too: --prompt-cache is for single prompts");
        }
        if (a->prompt_cache != NULL) {
            a->kept.path = a->prompt_cache;
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
    {"prompt-cache", KEY_PROMPT_CACHE, "FILE", 0,
     "Keep the prompt, as it was computed, in FILE: what the next prompt begins with is read from "
     "there",
     1},
    {"logprobs", KEY_LOGPROBS, "N", 0,
     "With --json: each token with its log-probability and the N best alternatives", 3},
    {0},
};
static const struct argp_child run_children[] = {
    {&cli_input_argp, 0, NULL, 0},
    {&cli_sampling_argp, 0, NULL, 0},
    {&cli_adapters_argp, 0, NULL, 0},
    {&cli_auto_argp, 0, NULL, 0},
    {&cli_kept_argp, 0, NULL, 0},
    {&cli_common_argp, 0, NULL, 0},
    {0},
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
           "  graft run --session talk.session -p \"And why?\"\n"
           "  graft run --prompt-cache story.cache -f question.txt\n"
           "  graft run --raw -m DIR -p \"Once upon a time\" --json\n"};

/* Whether the prompt is a message of a conversation, and whether a text begins with BOS. */
static int find_ways(const struct cli_session *s, struct run_args *a)
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
    a->as_chat = !a->raw && info.has_chat_template;
    a->adds_bos = tokenizer.adds_bos;
    a->kept.use = a->prompt_cache != NULL ? KEPT_CACHE : a->as_chat ? KEPT_TALK : KEPT_TEXT;
    return a->as_chat || a->sampling.system_prompt == NULL
               ? CLI_OK
               : cli_fail_text("%s has no chat template, so there is no system prompt", info.path);
}

/* Behind what a kept session has, in place of what a cache of a prompt has. */
static int feed_text(struct cli_session *s, const struct run_args *a, const char *text, size_t size,
                     struct answer *answer)
{
    graft_error error = {0};
    graft_token_id *ids = NULL;
    size_t n = 0;
    bool behind = a->kept.restored && a->prompt_cache == NULL;
    int flags =
        a->adds_bos && !(behind && graft_session_length(s->session) > 0) ? GRAFT_TOKENIZE_BOS : 0;
    if (graft_tokenize(graft_model_tokenizer(s->model), text, size, flags, &ids, &n, &error) !=
        GRAFT_OK) {
        return cli_fail(&error);
    }
    int status =
        n == 0 ? cli_fail_text("the prompt is empty and this model begins with no token of its own")
        : behind ? generate_prompt(s, ids, n, a->common.quiet, answer)
                 : conversation_feed_ids(s, ids, n, a->common.quiet, answer);
    graft_free(s->runtime, ids);
    return status;
}

/* The prompt as the next message of the conversation that there is, or as a text. */
static int feed_prompt(struct cli_session *s, const struct run_args *a, struct conversation *talk,
                       const char *text, size_t size, struct answer *answer)
{
    if (!a->as_chat) {
        return feed_text(s, a, text, size, answer);
    }
    const struct cli_kept nothing = {0}, *kept = a->prompt_cache != NULL ? &nothing : &a->kept;
    int status = kept_conversation(s, kept, a->sampling.system_prompt, talk);
    if (status == CLI_OK) {
        status = conversation_add(talk, "user", mem_strdup(NULL, text));
    }
    return status == CLI_OK ? conversation_feed(s, talk, a->common.quiet, answer) : status;
}

/* What was answered is the last message of the conversation, if there is one. */
static int keep_answer(struct cli_session *s, struct run_args *a, struct conversation *talk,
                       const struct answer *answer)
{
    int status = CLI_OK;
    if (talk->n > 0) {
        const char *said = answer->text.size > 0 ? answer->text.data : "";
        status = conversation_add(talk, "assistant", mem_strdup(NULL, said));
    }
    return status == CLI_OK ? kept_save(s, talk->n > 0 ? talk : NULL, &a->kept) : status;
}

/* Whether something stands before the cursor: text, or the ^C that a terminal shows. */
static bool is_amid_line(const struct answer *answer)
{
    const struct buf *text = &answer->text;
    return answer->finish == GRAFT_FINISH_CANCELLED ||
           (text->size > 0 && text->data[text->size - 1] != '\n');
}

/* Whether both are one file, as behind 2>&1, or a ^C stands there. */
static bool errors_follow_output(const struct answer *answer)
{
    struct stat out, err;
    if (answer->finish == GRAFT_FINISH_CANCELLED && isatty(STDERR_FILENO)) {
        return true;
    }
    return fstat(STDOUT_FILENO, &out) == 0 && fstat(STDERR_FILENO, &err) == 0 &&
           out.st_dev == err.st_dev && out.st_ino == err.st_ino;
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
    bool amid_line = is_amid_line(answer);
    if (terminal && amid_line) {
        putchar('\n');
    }
    if (status == CLI_OK && (a->common.verbose || (terminal && !a->common.quiet))) {
        fflush(stdout);
        if (!terminal && amid_line && errors_follow_output(answer)) {
            fputc('\n', stderr);
        }
        generate_print_speed(answer);
        cli_print_drafts(s);
    }
    return status;
}

static int answer_prompt(struct cli_session *s, struct run_args *a, const char *text, size_t size,
                         struct conversation *talk, struct answer *answer)
{
    const struct cli_adapters *how = &a->common.adapters;
    int status = CLI_OK;
    if (how->automatic.on) {
        status = cli_route(s, how, text, size, GRAFT_KV_REPLAY, a->common.quiet, &a->picked);
    }
    if (status == CLI_OK) {
        status = feed_prompt(s, a, talk, text, size, answer);
    }
    if (status == CLI_OK && a->prompt_cache != NULL) {
        status = kept_save(s, NULL, &a->kept);
    }
    if (status == CLI_OK) {
        status = generate_answer(s, a->sampling.max_tokens, a->common.json, answer);
        status = print_result(s, a, answer, status);
    }
    if (status == CLI_OK && cli_is_constrained(&a->sampling.constraint) &&
        (answer->finish == GRAFT_FINISH_LENGTH || answer->finish == GRAFT_FINISH_STOP)) {
        status = cli_fail_text("the answer was cut off: it is only the beginning of what its "
                               "grammar or schema asks for");
    }
    if (status == CLI_OK && answer->finish == GRAFT_FINISH_CANCELLED) {
        status = cli_fail_text("interrupted");
    }
    return status == CLI_OK && a->kept.path != NULL && a->prompt_cache == NULL
               ? keep_answer(s, a, talk, answer)
               : status;
}

static int run_on(struct cli_session *s, struct run_args *a, const char *text, size_t size)
{
    struct answer answer;
    struct conversation talk = {0};
    answer_init(&answer);
    if (a->logprobs >= 0) {
        answer.token_records = json_array();
        answer.top = a->logprobs;
    }
    int status = answer_prompt(s, a, text, size, &talk, &answer);
    conversation_free(&talk);
    json_decref(a->picked);
    answer_free(&answer);
    return status;
}

int verb_run(int argc, char **argv)
{
    struct run_args args = {.logprobs = -1, .common.adapters.routable = true};
    kept_sampling_init(&args.sampling);
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
        status = find_ways(&session, &args);
        if (status == CLI_OK) {
            status = kept_open(&session, &args.kept, &args.common, &args.sampling);
        }
        if (status == CLI_OK) {
            status = run_on(&session, &args, text, size);
        }
        kept_close(&args.kept);
        cli_close(&session);
    }
    mem_free(NULL, text);
    return status;
}
