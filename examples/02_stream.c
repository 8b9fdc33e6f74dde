/* 02_stream.c: talk with a model in its own chat format; answers are streamed.
 *
 * Introduces: graft_chat_render, graft_tokenize, graft_free, graft_session_tokens, graft_session_trim,
 * graft_session_prompt with progress, stop texts, graft_session_generate with a callback that may
 * cancel, graft_session_top.
 *
 * Usage: 02_stream [MODEL [QUESTION...]]      each QUESTION is a turn; default model: models/tiny
 */
#include <graft/graft.h>

#include <stdio.h>
#include <string.h>

enum { MAX_TURNS = 8, MAX_TOKENS = 200, MAX_ANSWER = 4096 };

struct chat {
    graft_runtime *runtime;
    graft_model *model;
    graft_session *session;
    graft_message messages[2 * MAX_TURNS];
    size_t n_messages;
    char answers[MAX_TURNS][MAX_ANSWER];
};

/* Where the callback puts the answer. */
struct answer {
    char *text;
    size_t size;
};

static int fail(const graft_error *error)
{
    fprintf(stderr, "02_stream: %s%s%s\n", error->message, error->file[0] != '\0' ? ": " : "",
            error->file);
    return 1;
}

/* Called after each chunk of a prompt; returning false cancels it and leaves the session as it was. */
static bool show_progress(void *user, uint64_t done, uint64_t total, const char *what)
{
    (void)user;
    fprintf(stderr, "[%s: %u of %u tokens]\n", what, (unsigned)done, (unsigned)total);
    return true;
}

/* Called for each token. Its text is whole UTF-8 and never part of a stop text, so it can be shown at
 * once. Returning false ends the answer after this token. */
static bool take_token(void *user, const graft_token *token)
{
    struct answer *answer = user;
    if (answer->size + token->text_size >= MAX_ANSWER) {
        return false;
    }
    fwrite(token->text, 1, token->text_size, stdout);
    fflush(stdout);
    memcpy(answer->text + answer->size, token->text, token->text_size);
    answer->size += token->text_size;
    answer->text[answer->size] = '\0';
    return true;
}

/* What the model might say first instead. */
static void show_alternatives(const struct chat *chat)
{
    graft_token_id ids[3];
    float logprobs[3];
    if (graft_session_top(chat->session, 3, ids, logprobs, NULL) == GRAFT_OK) {
        for (int i = 0; i < 3; i++) {
            fprintf(stderr, "[next: token %d, log probability %.2f]\n", (int)ids[i],
                    (double)logprobs[i]);
        }
    }
}

/* Brings the session to `ids`. What it has in common with them stays: after the first turn that is nearly
 * all, so only the new question is computed. */
static graft_status follow(struct chat *chat, const graft_token_id *ids, size_t n,
                           graft_error *error)
{
    size_t have, common = 0;
    const graft_token_id *tokens = graft_session_tokens(chat->session, &have);
    while (common < have && common + 1 < n && tokens[common] == ids[common]) {
        common++;
    }
    graft_status status = graft_session_trim(chat->session, common, error);
    if (status == GRAFT_OK) {
        status = graft_session_prompt(chat->session, ids + common, n - common, show_progress, NULL,
                                      error);
    }
    return status;
}

/* The whole conversation as the model was trained to see it, up to where its answer begins. */
static graft_status prompt(struct chat *chat, graft_error *error)
{
    char *text = NULL;
    graft_token_id *ids = NULL;
    size_t size, n;
    graft_status status =
        graft_chat_render(chat->model, chat->messages, chat->n_messages, true, &text, &size, error);
    if (status == GRAFT_OK) { /* the template wrote the special tokens: parse them, add none */
        status = graft_tokenize(graft_model_tokenizer(chat->model), text, size,
                                GRAFT_TOKENIZE_SPECIAL, &ids, &n, error);
    }
    if (status == GRAFT_OK) {
        status = follow(chat, ids, n, error);
    }
    graft_free(chat->runtime, text); /* memory that graft made goes back to graft */
    graft_free(chat->runtime, ids);
    return status;
}

static graft_status turn(struct chat *chat, const char *question, graft_error *error)
{
    struct answer answer = {chat->answers[chat->n_messages / 2], 0};
    answer.text[0] = '\0';
    chat->messages[chat->n_messages++] = (graft_message){"user", question};
    printf("> %s\n", question);
    fflush(stdout);
    graft_status status = prompt(chat, error);
    if (status == GRAFT_OK) {
        show_alternatives(chat);
        status = graft_session_generate(chat->session, MAX_TOKENS, take_token, &answer, error);
    }
    if (status == GRAFT_OK) {
        printf("\n");
        fprintf(stderr, "[%s]\n", graft_finish_name(graft_session_finish(chat->session)));
        chat->messages[chat->n_messages++] = (graft_message){"assistant", answer.text};
    }
    return status;
}

static graft_status open_chat(struct chat *chat, const char *path, graft_error *error)
{
    graft_status status = graft_runtime_open(NULL, &chat->runtime, error);
    if (status == GRAFT_OK) {
        status = graft_model_open(chat->runtime, path, NULL, &chat->model, error);
    }
    if (status == GRAFT_OK) {
        static const char *const stops[] = {"\n\n\n"}; /* it has said what it had to say */
        graft_session_options options = graft_session_options_default();
        options.sampling = graft_sampling_for(chat->model);
        options.sampling.seed = 1;
        options.stops = stops;
        options.n_stops = 1;
        status = graft_session_open(chat->model, &options, &chat->session, error);
    }
    return status;
}

int main(int argc, char **argv)
{
    static const char *const questions[] = {"Tell me a story about a cat.", "What is a loop?"};
    static struct chat chat;
    graft_error error;
    graft_error_init(&error);

    graft_status status = open_chat(&chat, argc > 1 ? argv[1] : "models/tiny", &error);
    int n = argc > 2 ? argc - 2 : 2;
    for (int i = 0; i < n && i < MAX_TURNS && status == GRAFT_OK; i++) {
        status = turn(&chat, argc > 2 ? argv[2 + i] : questions[i], &error);
    }
    graft_session_close(&chat.session);
    graft_model_close(&chat.model);
    graft_runtime_close(&chat.runtime);
    return status == GRAFT_OK ? 0 : fail(&error);
}
