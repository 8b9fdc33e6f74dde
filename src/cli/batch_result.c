/* batch_result.c: what a request became, as OpenAI writes the results of a batch.
 *
 * Beside OpenAI's members a body has "graft": the seed and the adapters in the versions that were used, which is what it
 * takes to get the same text again.
 */
#include "batch.h"

#include <time.h>

const char BATCH_ID[] = "batch_req_";

const char *batch_code(graft_status status)
{
    switch (status) {
    case GRAFT_INVALID_ARGUMENT:
    case GRAFT_FORMAT:
        return "invalid_request";
    case GRAFT_UNSUPPORTED:
        return "unsupported_parameter";
    case GRAFT_NOT_FOUND:
    case GRAFT_STATE:
        return "model_not_found";
    case GRAFT_LIMIT:
        return "context_length_exceeded";
    default:
        return "server_error";
    }
}

static json_t *numbered(const char *before, size_t line)
{
    char text[64];
    snprintf(text, sizeof text, "%s%zu", before, line);
    return json_string(text);
}

/* ---- answers ---- */

static const struct batch_token *tokens_of(const struct batch_answer *answer, size_t *n)
{
    *n = answer->tokens.size / sizeof(struct batch_token);
    return (const struct batch_token *)(const void *)answer->tokens.data;
}

static json_t *bytes_of(const char *text, size_t size)
{
    json_t *list = json_array();
    for (size_t i = 0; i < size; i++) {
        json_append(&list, json_integer((unsigned char)text[i]));
    }
    return list;
}

/* The bytes of a token itself; of a model without a tokenizer, what came with it. */
static const char *text_of(const graft_tokenizer *t, const struct batch_answer *answer,
                           const struct batch_token *token, size_t *size)
{
    if (t != NULL) {
        return graft_token_bytes(t, token->id, size);
    }
    *size = token->end - token->begin;
    return *size > 0 ? answer->text.data + token->begin : "";
}

/* As OpenAI, who have -9999 for what cannot be. */
static json_t *logprob_of(float logprob)
{
    return json_real(logprob > -9999 ? (double)logprob : -9999.0);
}

static json_t *chat_token(const char *text, size_t size, float logprob)
{
    json_t *one = json_object();
    json_put(&one, "token", json_any_text(text, size));
    json_put(&one, "logprob", logprob_of(logprob));
    json_put(&one, "bytes", bytes_of(text, size));
    return one;
}

/* The alternatives in place i: [answer->n_top] */
static const graft_alternative *tops_of(const struct batch_answer *answer, size_t i)
{
    const graft_alternative *all = (const graft_alternative *)(const void *)answer->tops.data;
    return answer->n_top > 0 ? all + i * answer->n_top : NULL;
}

/* {"content": [{"token", "logprob", "bytes", "top_logprobs"}]} */
static json_t *chat_logprobs(const graft_tokenizer *t, const struct batch_answer *answer)
{
    size_t n, size;
    const struct batch_token *tokens = tokens_of(answer, &n);
    json_t *list = json_array(), *all = json_object();
    for (size_t i = 0; i < n; i++) {
        const char *text = text_of(t, answer, &tokens[i], &size);
        json_t *one = chat_token(text, size, tokens[i].logprob), *others = json_array();
        const graft_alternative *tops = tops_of(answer, i);
        for (size_t k = 0; k < answer->n_top; k++) {
            const char *bytes = graft_token_bytes(t, tops[k].id, &size);
            json_append(&others, chat_token(bytes, size, tops[k].logprob));
        }
        json_put(&one, "top_logprobs", others);
        json_append(&list, one);
    }
    json_put(&all, "content", list);
    return all;
}

static size_t characters_of(const json_t *text)
{
    const char *bytes = json_string_value(text);
    size_t n = 0;
    for (size_t i = 0; i < json_string_length(text); i++) {
        n += ((unsigned char)bytes[i] & 0xc0) != 0x80;
    }
    return n;
}

/* Of two tokens that read alike the better one stays. */
static void put_top(json_t **all, const char *bytes, size_t size, float logprob)
{
    json_t *text = json_any_text(bytes, size);
    const char *key = json_string_value(text);
    if (key != NULL && json_object_get(*all, key) == NULL) {
        json_put(all, key, logprob_of(logprob));
    }
    json_decref(text);
}

/* {TEXT: logprob} of the best and of the token that was picked. */
static json_t *completion_tops(const graft_tokenizer *t, const struct batch_answer *answer,
                               size_t i, const struct batch_token *picked)
{
    const graft_alternative *tops = tops_of(answer, i);
    json_t *all = json_object();
    size_t size;
    bool among = false;
    for (size_t k = 0; k < answer->n_top; k++) {
        const char *bytes = graft_token_bytes(t, tops[k].id, &size);
        put_top(&all, bytes, size, tops[k].logprob);
        among = among || tops[k].id == picked->id;
    }
    if (!among) {
        const char *bytes = text_of(t, answer, picked, &size);
        put_top(&all, bytes, size, picked->logprob);
    }
    return all;
}

/* {"tokens", "token_logprobs", "top_logprobs", "text_offset"}: offsets in characters */
static json_t *completion_logprobs(const graft_tokenizer *t, const struct batch_answer *answer)
{
    size_t n, size;
    const struct batch_token *tokens = tokens_of(answer, &n);
    json_t *texts = json_array(), *logprobs = json_array(), *offsets = json_array();
    json_t *all = json_object(), *others = answer->n_top > 0 ? json_array() : json_null();
    size_t offset = 0;
    for (size_t i = 0; i < n; i++) {
        const char *text = text_of(t, answer, &tokens[i], &size);
        json_append(&texts, json_any_text(text, size));
        json_append(&offsets, json_integer((json_int_t)offset));
        json_append(&logprobs, logprob_of(tokens[i].logprob));
        if (answer->n_top > 0) {
            json_append(&others, completion_tops(t, answer, i, &tokens[i]));
        }
        const char *given = answer->text.size > 0 ? answer->text.data + tokens[i].begin : "";
        json_t *in_answer = json_any_text(given, tokens[i].end - tokens[i].begin);
        offset += characters_of(in_answer);
        json_decref(in_answer);
    }
    json_put(&all, "tokens", texts);
    json_put(&all, "token_logprobs", logprobs);
    json_put(&all, "top_logprobs", others);
    json_put(&all, "text_offset", offsets);
    return all;
}

static json_t *choice_of(const struct batch_defaults *defaults, const struct batch_request *request,
                         int index, const struct batch_answer *answer)
{
    const graft_tokenizer *t = graft_model_tokenizer(defaults->model);
    json_t *choice = json_object();
    json_t *text = json_any_text(answer->text.size > 0 ? answer->text.data : "", answer->text.size);
    json_put(&choice, "index", json_integer(index));
    if (request->chat) {
        json_t *message = json_object();
        json_put(&message, "role", json_string("assistant"));
        json_put(&message, "content", text);
        json_put(&message, "refusal", json_null());
        json_put(&choice, "message", message);
    } else {
        json_put(&choice, "text", text);
    }
    json_put(&choice, "logprobs",
             !request->logprobs ? json_null()
             : request->chat    ? chat_logprobs(t, answer)
                                : completion_logprobs(t, answer));
    json_put(&choice, "finish_reason",
             json_string(answer->finish == GRAFT_FINISH_LENGTH ? "length" : "stop"));
    return choice;
}

/* The prompt of several answers counts once. */
static json_t *usage_of(const struct batch_answer *answers, int n)
{
    json_t *usage = json_object(), *details = json_object();
    const graft_stream_info *info = &answers[0].info;
    size_t tokens = 0;
    for (int i = 0; i < n; i++) {
        tokens += answers[i].info.tokens;
    }
    json_put(&usage, "prompt_tokens", json_integer((json_int_t)info->prompt_tokens));
    json_put(&usage, "completion_tokens", json_integer((json_int_t)tokens));
    json_put(&usage, "total_tokens", json_integer((json_int_t)(info->prompt_tokens + tokens)));
    json_put(&details, "cached_tokens", json_integer((json_int_t)info->cached_tokens));
    json_put(&usage, "prompt_tokens_details", details);
    return usage;
}

/* A float by as few digits as tell it from others: 0.7, not 0.699999988. */
static json_t *weight_of(float weight)
{
    char text[32];
    snprintf(text, sizeof text, "%.7g", (double)weight);
    return json_real(strtod(text, NULL));
}

static json_t *origin_of(const struct batch_request *request, const struct batch_mix *mix)
{
    json_t *origin = json_object(), *adapters = json_object();
    for (size_t i = 0; i < mix->n; i++) {
        json_put(&adapters, mix->labels[i], weight_of(mix->weights[i]));
    }
    json_put(&origin, "seed", json_integer((json_int_t)request->request.sampling.seed));
    json_put(&origin, "adapters", adapters);
    return origin;
}

static json_t *body_of(const struct batch_defaults *defaults, size_t line,
                       const struct batch_request *request, const struct batch_mix *mix,
                       const struct batch_answer *answers)
{
    json_t *body = json_object(), *choices = json_array();
    const char *base = path_base(defaults->info.path);
    for (int i = 0; i < request->n; i++) {
        json_append(&choices, choice_of(defaults, request, i, &answers[i]));
    }
    json_put(&body, "id", numbered(request->chat ? "chatcmpl-" : "cmpl-", line));
    json_put(&body, "object", json_string(request->chat ? "chat.completion" : "text_completion"));
    json_put(&body, "created", json_integer((json_int_t)time(NULL)));
    json_put(&body, "model", json_string(request->model != NULL ? request->model : base));
    json_put(&body, "choices", choices);
    json_put(&body, "usage", usage_of(answers, request->n));
    json_put(&body, "graft", origin_of(request, mix));
    return body;
}

/* ---- lines ---- */

static json_t *line_of(size_t line, const struct batch_request *request)
{
    json_t *result = json_object();
    json_put(&result, "id", numbered(BATCH_ID, line));
    json_put(&result, "custom_id",
             request->custom_id != NULL ? json_incref((json_t *)(uintptr_t)request->custom_id)
                                        : json_null());
    return result;
}

json_t *batch_result(const struct batch_defaults *defaults, size_t line,
                     const struct batch_request *request, const struct batch_mix *mix,
                     const struct batch_answer *answers)
{
    json_t *result = line_of(line, request), *response = json_object();
    json_put(&response, "status_code", json_integer(200));
    json_put(&response, "request_id", numbered("req_", line));
    json_put(&response, "body", body_of(defaults, line, request, mix, answers));
    json_put(&result, "response", response);
    json_put(&result, "error", json_null());
    return result;
}

json_t *batch_failure(size_t line, const struct batch_request *request, const char *code,
                      const char *message)
{
    json_t *result = line_of(line, request), *error = json_object();
    json_put(&error, "code", json_string(code));
    json_put(&error, "message", json_any_text(message, strlen(message)));
    json_put(&result, "response", json_null());
    json_put(&result, "error", error);
    return result;
}

static int append_piece(const char *bytes, size_t size, void *line)
{
    return buf_append(line, bytes, size) ? 0 : -1;
}

graft_status batch_result_line(json_t *result, struct buf *out)
{
    bool whole = result != NULL && json_dump_callback(result, append_piece, out,
                                                      JSON_COMPACT | JSON_REAL_PRECISION(9)) == 0;
    json_decref(result);
    if (whole) {
        buf_putc(out, '\n');
    } else if (out->status == GRAFT_OK) {
        out->status = GRAFT_NO_MEMORY;
    }
    return out->status;
}
