/* generate.c: feed a prompt, stream an answer, keep account of both. */
#include "generate.h"

#include <math.h>

enum { ANSWER_LIMIT = 1 << 28 };

void answer_init(struct answer *a)
{
    *a = (struct answer){.top = -1};
    buf_init(&a->text, NULL, ANSWER_LIMIT);
}

void answer_free(struct answer *a)
{
    buf_free(&a->text);
    json_decref(a->token_records);
    a->token_records = NULL;
}

/* What the callback of graft_session_prompt needs. */
struct reading {
    struct cli_progress progress;
    uint64_t total; /* tokens computed: those that were given, and what had to be computed again */
};

static bool step_reading(void *user, uint64_t done, uint64_t total, const char *what)
{
    struct reading *r = user;
    r->total = total;
    return cli_progress_step(&r->progress, done, total, what);
}

int generate_prompt(struct cli_session *s, const graft_token_id *ids, size_t n, bool quiet,
                    struct answer *a)
{
    struct reading reading = {0};
    graft_error error = {0};
    double begun = time_seconds();
    cli_progress_begin(&reading.progress, "reading", quiet);
    graft_status status = graft_session_prompt(s->session, ids, n, step_reading, &reading, &error);
    cli_progress_end(&reading.progress);
    if (status == GRAFT_CANCELLED) {
        return cli_fail_text("interrupted");
    }
    if (status == GRAFT_LIMIT) {
        return cli_fail_text("%s; raise -c or shorten the text", error.message);
    }
    /* The last token of an answer, which is computed with what follows it, is no part of the prompt. */
    a->prompt_tokens = reading.total > n + 1 ? (size_t)reading.total : n;
    a->prompt_seconds = time_seconds() - begun;
    return status == GRAFT_OK ? CLI_OK : cli_fail(&error);
}

/* {"id", "text", "logprob", "top": [{"id", "logprob"}]} */
static void record_token(struct cli_session *s, struct answer *a, const graft_token *token)
{
    json_t *record = json_object();
    json_put(&record, "id", json_integer(token->id));
    json_put(&record, "text", json_any_text(token->text, token->text_size));
    json_put(&record, "logprob", json_real((double)token->logprob));
    graft_token_id ids[64];
    float logprobs[64];
    size_t n = (size_t)a->top;
    if (n > 0 && graft_session_top(s->session, n, ids, logprobs, NULL) == GRAFT_OK) {
        json_t *top = json_array();
        for (size_t i = 0; i < n; i++) {
            json_append(&top,
                        json_pack("{s:i, s:f}", "id", ids[i], "logprob", (double)logprobs[i]));
        }
        json_put(&record, "top", top);
    }
    json_append(&a->token_records, record);
}

static int stream_token(struct cli_session *s, struct answer *a, const graft_token *token,
                        bool silent)
{
    buf_append(&a->text, token->text, token->text_size);
    if (!silent && token->text_size > 0 &&
        (fwrite(token->text, 1, token->text_size, stdout) != token->text_size ||
         fflush(stdout) != 0)) {
        return CLI_FAILED; /* cli_finish_output says so */
    }
    if (token->id < 0) {
        return CLI_OK; /* text held back until the end */
    }
    a->tokens++;
    a->logprob_sum += (double)token->logprob;
    if (a->top >= 0) {
        record_token(s, a, token);
    }
    return CLI_OK;
}

/* What the callback of graft_session_generate needs. */
struct streaming {
    struct cli_session *session;
    struct answer *answer;
    bool silent;
    int result;
};

static bool take_token(void *user, const graft_token *token)
{
    struct streaming *to = user;
    to->result = stream_token(to->session, to->answer, token, to->silent);
    return to->result == CLI_OK && !cli_interrupted();
}

int generate_answer(struct cli_session *s, int64_t max_tokens, bool silent, struct answer *a)
{
    graft_error error = {0};
    struct streaming to = {s, a, silent, CLI_OK};
    if (max_tokens == 0) { /* to the library 0 is no limit */
        a->finish = GRAFT_FINISH_LENGTH;
        return CLI_OK;
    }
    double begun = time_seconds();
    graft_status status = graft_session_generate(
        s->session, max_tokens > 0 ? (size_t)max_tokens : 0, take_token, &to, &error);
    a->seconds = time_seconds() - begun;
    a->finish = graft_session_finish(s->session);
    return status == GRAFT_OK ? to.result : cli_fail(&error);
}

static double per_second(size_t n, double seconds)
{
    return seconds > 0 ? (double)n / seconds : 0;
}

void generate_print_speed(const struct answer *a)
{
    fprintf(stderr, "[%zu tokens read, %.0f/s; %zu generated, %.1f/s; %s]\n", a->prompt_tokens,
            per_second(a->prompt_tokens, a->prompt_seconds), a->tokens,
            per_second(a->tokens, a->seconds), graft_finish_name(a->finish));
}

json_t *generate_json(const struct answer *a)
{
    json_t *json = json_object();
    json_put(&json, "text", json_any_text(a->text.size > 0 ? a->text.data : "", a->text.size));
    json_put(&json, "finish", json_string(graft_finish_name(a->finish)));
    json_put(&json, "prompt_tokens", json_integer((json_int_t)a->prompt_tokens));
    json_put(&json, "tokens", json_integer((json_int_t)a->tokens));
    json_put(&json, "logprob", json_real(a->logprob_sum));
    json_put(&json, "prompt_seconds", json_real(a->prompt_seconds));
    json_put(&json, "seconds", json_real(a->seconds));
    if (a->top >= 0) {
        json_put(&json, "records", json_incref(a->token_records));
    }
    return json;
}
