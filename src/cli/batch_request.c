/* batch_request.c: a line of a file of requests: what OpenAI's words in it mean to an engine.
 *
 * Fields are a table. One that is not in it might change the answer, so the request is refused by the field's name rather than
 * answered as if it were not there; those that change nothing are in the table, too. Prompts become tokens here.
 */
#include "batch.h"

#include <math.h>
#include <stddef.h>

enum { CHAT = 1, COMPLETION = 2, BOTH = 3 };
static const char chat_url[] = "/v1/chat/completions", completion_url[] = "/v1/completions";

struct reading {
    const struct batch_defaults *defaults;
    struct batch_request *out;
    const json_t *messages, *prompt, *adapters;
    int best_of; /* 0: not said */
};
struct field {
    const char *name;
    int where;
    graft_status (*read)(struct reading *r, const struct field *field, const json_t *value,
                         graft_error *error);
    size_t at; /* of the value in graft_sampling */
};
#define READS(name)                                                                                \
    static graft_status name(struct reading *r, const struct field *field, const json_t *value,    \
                             graft_error *error)

static graft_status must_be(const struct field *field, const char *what, graft_error *error)
{
    return error_set(error, GRAFT_INVALID_ARGUMENT, "\"%s\" must be %s", field->name, what);
}

/* ---- numbers ---- */

READS(read_float)
{
    double number = json_number_value(value);
    if (!json_is_number(value) || !isfinite((float)number)) {
        return must_be(field, "a number", error);
    }
    float in_place = (float)number;
    memcpy((char *)&r->out->request.sampling + field->at, &in_place, sizeof in_place);
    return GRAFT_OK;
}

READS(read_int)
{
    json_int_t number = json_integer_value(value);
    if (!json_is_integer(value) || number < 0 || number > INT32_MAX) {
        return must_be(field, "a whole number from 0 to 2147483647", error);
    }
    int in_place = (int)number;
    memcpy((char *)&r->out->request.sampling + field->at, &in_place, sizeof in_place);
    return GRAFT_OK;
}

READS(read_seed)
{
    if (!json_is_integer(value)) {
        return must_be(field, "a whole number", error);
    }
    r->out->request.sampling.seed = (uint64_t)json_integer_value(value);
    return GRAFT_OK;
}

READS(read_max_tokens)
{
    json_int_t number = json_integer_value(value);
    if (!json_is_integer(value) || number < 1 || number > INT32_MAX) {
        return must_be(field, "a whole number from 1 to 2147483647", error);
    }
    r->out->request.max_tokens = (size_t)number;
    return GRAFT_OK;
}

/* ---- ends ---- */

static bool add_stop(struct batch_request *out, const json_t *text)
{
    const char *stop = json_string_value(text);
    size_t size = json_string_length(text);
    if (size == 0 || strlen(stop) != size || out->request.n_stops == BATCH_STOPS) {
        return false;
    }
    out->stops[out->request.n_stops++] = stop;
    return true;
}

READS(read_stop)
{
    size_t n = json_is_array(value) ? json_array_size(value) : 1;
    bool good = true;
    r->out->request.n_stops = 0;
    r->out->request.stops = r->out->stops;
    for (size_t i = 0; i < n && good; i++) {
        good = add_stop(r->out, json_is_array(value) ? json_array_get(value, i) : value);
    }
    return good ? GRAFT_OK : must_be(field, "a text or a list of at most 64, none empty", error);
}

READS(read_ignore_eos)
{
    r->out->request.ignore_eos = json_is_true(value);
    return json_is_boolean(value) ? GRAFT_OK : must_be(field, "true or false", error);
}

/* ---- what comes back ---- */

static bool read_top(const json_t *value, struct batch_request *out)
{
    json_int_t number = json_integer_value(value);
    bool good = json_is_integer(value) && number >= 0 && number <= BATCH_TOP;
    out->request.top = good ? (int)number : 0;
    return good;
}

/* Of a completion it says how many alternatives, too. */
READS(read_logprobs)
{
    if (r->out->chat) {
        r->out->logprobs = json_is_true(value);
        return json_is_boolean(value) ? GRAFT_OK : must_be(field, "true or false", error);
    }
    r->out->logprobs = true;
    return read_top(value, r->out) ? GRAFT_OK
                                   : must_be(field, "a whole number from 0 to 20", error);
}

READS(read_top_logprobs)
{
    return read_top(value, r->out) ? GRAFT_OK
                                   : must_be(field, "a whole number from 0 to 20", error);
}

static bool read_count(const json_t *value, int *out)
{
    json_int_t number = json_integer_value(value);
    *out = (int)number;
    return json_is_integer(value) && number >= 1 && number <= BATCH_CHOICES;
}

READS(read_n)
{
    return read_count(value, &r->out->n) ? GRAFT_OK
                                         : must_be(field, "a whole number from 1 to 128", error);
}

/* To be as many as `n`: nothing chooses among answers. */
READS(read_best_of)
{
    return read_count(value, &r->best_of) ? GRAFT_OK
                                          : must_be(field, "a whole number from 1 to 128", error);
}

/* ---- what changes nothing, or would ---- */

READS(pass_over)
{
    (void)r;
    (void)field;
    (void)value;
    (void)error;
    return GRAFT_OK;
}

static bool is_nothing(const json_t *value)
{
    return json_is_false(value) || (json_is_string(value) && json_string_length(value) == 0) ||
           (json_is_array(value) && json_array_size(value) == 0) ||
           (json_is_object(value) && json_object_size(value) == 0);
}

READS(refuse)
{
    (void)r;
    return is_nothing(value) ? GRAFT_OK
                             : error_set(error, GRAFT_UNSUPPORTED,
                                         "\"%s\" is not supported in a batch", field->name);
}

/* ---- the form of the answer ---- */

static graft_status take_form(struct reading *r, const char *text, bool is_schema,
                              graft_error *error)
{
    if (r->out->form != NULL) {
        return error_set(
            error, GRAFT_INVALID_ARGUMENT,
            "\"response_format\", \"json_schema\" and \"grammar\": one of them, please");
    }
    r->out->is_schema = is_schema;
    r->out->form = text != NULL ? mem_strdup(NULL, text) : NULL;
    return r->out->form != NULL ? GRAFT_OK : error_set(error, GRAFT_NO_MEMORY, "out of memory");
}

READS(read_schema)
{
    if (!json_is_object(value) && !json_is_boolean(value)) {
        return must_be(field, "a JSON schema", error);
    }
    char *text = json_dumps(value, JSON_COMPACT | JSON_ENCODE_ANY);
    graft_status status = take_form(r, text, true, error);
    free(text); /* from jansson */
    return status;
}

READS(read_grammar)
{
    const char *text = json_string_value(value);
    return text != NULL && text[0] != '\0' && strlen(text) == json_string_length(value)
               ? take_form(r, text, false, error)
               : must_be(field, "a text in GBNF", error);
}

READS(read_format)
{
    static const struct field schema = {.name = "response_format.json_schema.schema"};
    const char *type = json_string_value(json_object_get(value, "type"));
    const json_t *inner = json_object_get(value, "json_schema");
    if (!json_is_object(value)) {
        return must_be(field,
                       "an object: {\"type\": \"json_object\"}, {\"type\": \"text\"} or {\"type\": "
                       "\"json_schema\", \"json_schema\": {\"schema\": ...}}",
                       error);
    }
    if (type != NULL &&
        strcmp(type, "text") == 0) { /* also where all others are held to something */
        r->out->request.constraint = NULL;
        return GRAFT_OK;
    }
    if (type != NULL && strcmp(type, "json_object") == 0) {
        return take_form(r, "{\"type\":\"object\"}", true, error);
    }
    return type != NULL && strcmp(type, "json_schema") == 0
               ? read_schema(r, &schema, json_object_get(inner, "schema"), error)
               : error_set(error, GRAFT_UNSUPPORTED,
                           "\"%s\": its type is none of text, json_object, json_schema",
                           field->name);
}

/* ---- tools ---- */

READS(read_tool_choice)
{
    (void)r;
    const char *choice = json_string_value(value);
    return choice != NULL && (strcmp(choice, "none") == 0 || strcmp(choice, "auto") == 0)
               ? GRAFT_OK
               : error_set(error, GRAFT_UNSUPPORTED, "\"%s\": there are no tools", field->name);
}

/* ---- the mix ---- */

static bool is_base(const struct batch_defaults *d, const char *name)
{
    return strcmp(name, "base") == 0 || strcmp(name, path_base(d->info.path)) == 0 ||
           (d->typed != NULL && strcmp(name, d->typed) == 0);
}

static graft_status add_member(struct batch_request *out, const char *name, size_t size,
                               float weight, graft_error *error)
{
    if (out->n_members == BATCH_MEMBERS) {
        return error_set(error, GRAFT_INVALID_ARGUMENT, "a mix has at most %d adapters",
                         BATCH_MEMBERS);
    }
    char *copy = mem_strndup(NULL, name, size);
    if (copy == NULL) {
        return error_set(error, GRAFT_NO_MEMORY, "out of memory");
    }
    out->members[out->n_members++] = (struct batch_member){copy, weight};
    return GRAFT_OK;
}

/* ADAPTER[=WEIGHT], whatever files are called so: a path has a '/'. */
static bool read_use(const char *name, struct cli_use *out, char why[CLI_WHY])
{
    const char *at = strrchr(name, '=');
    if (strchr(name, '/') != NULL || at == NULL || at == name) {
        return cli_read_use(name, out, why);
    }
    *out = (struct cli_use){.name = name, .size = (size_t)(at - name)};
    if (!cli_read_weight(at + 1, &out->weight)) {
        snprintf(why, CLI_WHY, "%.*s: \"%.100s\" is no weight: a decimal number is",
                 (int)(out->size < 100 ? out->size : 100), name, at + 1);
        return false;
    }
    return cli_check_name(out->name, out->size, why);
}

READS(read_model)
{
    struct cli_use use;
    char why[CLI_WHY];
    const char *name = json_string_value(value);
    if (name == NULL || strlen(name) != json_string_length(value) || name[0] == '\0') {
        return must_be(field, "an adapter's name or path, or \"base\"", error);
    }
    r->out->model = name;
    if (is_base(r->defaults, name)) {
        return GRAFT_OK;
    }
    if (!read_use(name, &use, why)) {
        return error_set(error, GRAFT_INVALID_ARGUMENT, "\"model\": %s", why);
    }
    return add_member(r->out, use.name, use.size, use.weight, error);
}

READS(read_graft)
{
    const char *key;
    json_t *member;
    if (!json_is_object(value)) {
        return must_be(field, "an object", error);
    }
    json_object_foreach((json_t *)(uintptr_t)value, key, member)
    {
        if (strcmp(key, "adapters") != 0) {
            return error_set(error, GRAFT_UNSUPPORTED, "\"graft\" has no \"%.60s\"", key);
        }
        if (!json_is_object(member)) {
            return error_set(error, GRAFT_INVALID_ARGUMENT,
                             "\"graft\": \"adapters\" must be {\"NAME\": WEIGHT, ...}");
        }
        r->adapters = member;
    }
    return GRAFT_OK;
}

static graft_status read_adapters(struct reading *r, graft_error *error)
{
    const char *name;
    json_t *weight;
    char why[CLI_WHY];
    graft_status status = GRAFT_OK;
    if (json_object_size(r->adapters) > 0 && r->out->n_members > 0) {
        return error_set(error, GRAFT_INVALID_ARGUMENT,
                         "\"model\" names an adapter and \"graft\" a mix: one of them, please");
    }
    json_object_foreach((json_t *)(uintptr_t)r->adapters, name, weight)
    {
        float number = (float)json_number_value(weight);
        if (!json_is_number(weight) || !isfinite(number)) {
            return error_set(error, GRAFT_INVALID_ARGUMENT,
                             "the weight of \"%.60s\" must be a number", name);
        }
        if (!cli_check_name(name, strlen(name), why)) {
            return error_set(error, GRAFT_INVALID_ARGUMENT, "\"adapters\": %s", why);
        }
        status = add_member(r->out, name, strlen(name), number, error);
        if (status != GRAFT_OK) {
            break;
        }
    }
    return status;
}

/* ---- the prompt ---- */

READS(read_messages)
{
    if (!json_is_array(value) || json_array_size(value) == 0) {
        return must_be(field, "a list of messages", error);
    }
    r->messages = value;
    return GRAFT_OK;
}

READS(read_prompt)
{
    if (!json_is_string(value) && !json_is_array(value)) {
        return must_be(field, "a text or a list of token ids", error);
    }
    r->prompt = value;
    return GRAFT_OK;
}

/* The text of a message's content: one text, or parts that are. NULL: something else, or no memory. */
static json_t *content_text(const json_t *content)
{
    struct buf text;
    if (content == NULL || json_is_null(content)) {
        return json_string("");
    }
    if (json_is_string(content)) {
        return json_incref((json_t *)(uintptr_t)content);
    }
    buf_init(&text, NULL, BATCH_REQUEST_BYTES);
    bool good = json_is_array(content);
    for (size_t i = 0; i < json_array_size(content) && good; i++) {
        const json_t *part = json_array_get(content, i);
        const char *type = json_string_value(json_object_get(part, "type"));
        const json_t *piece = json_object_get(part, "text");
        good = type != NULL && strcmp(type, "text") == 0 && json_is_string(piece) &&
               buf_append(&text, json_string_value(piece), json_string_length(piece));
    }
    json_t *json = good ? json_stringn(text.size > 0 ? text.data : "", text.size) : NULL;
    buf_free(&text);
    return json;
}

static graft_status convert_message(const json_t *message, json_t **list, graft_error *error)
{
    const char *role = json_string_value(json_object_get(message, "role"));
    if (role == NULL) {
        return error_set(error, GRAFT_INVALID_ARGUMENT,
                         "message %zu must be an object with a \"role\"",
                         json_array_size(*list) + 1);
    }
    json_t *text = content_text(json_object_get(message, "content"));
    if (text == NULL) {
        return error_set(error, GRAFT_UNSUPPORTED,
                         "message %zu: \"content\" must be a text, or parts of type \"text\"",
                         json_array_size(*list) + 1);
    }
    json_t *copy = json_copy((json_t *)(uintptr_t)message);
    json_put(&copy, "content", text);
    if (strcmp(role, "developer") == 0) { /* what OpenAI calls the system's messages now */
        json_put(&copy, "role", json_string("system"));
    }
    json_append(list, copy);
    return GRAFT_OK;
}

static bool has_system(const json_t *messages)
{
    const json_t *first = json_array_get(messages, 0);
    const char *role = json_string_value(json_object_get(first, "role"));
    return role != NULL && (strcmp(role, "system") == 0 || strcmp(role, "developer") == 0);
}

/* What a chat template is given. */
static graft_status template_variables(const struct reading *r, char **out, graft_error *error)
{
    json_t *list = json_array(), *all = json_object();
    const char *system = r->defaults->system_prompt;
    graft_status status = GRAFT_OK;
    if (system != NULL && !has_system(r->messages)) {
        json_append(&list, json_pack("{s:s, s:s}", "role", "system", "content", system));
    }
    for (size_t i = 0; i < json_array_size(r->messages) && status == GRAFT_OK; i++) {
        status = convert_message(json_array_get(r->messages, i), &list, error);
    }
    json_put(&all, "messages", list);
    json_put(&all, "add_generation_prompt", json_true());
    if (status == GRAFT_OK) {
        *out = all != NULL ? json_dumps(all, JSON_COMPACT) : NULL;
        status = *out != NULL ? GRAFT_OK : error_set(error, GRAFT_NO_MEMORY, "out of memory");
    }
    json_decref(all);
    return status;
}

static graft_status reserve_ids(struct batch_request *out, size_t n, graft_error *error)
{
    out->ids = mem_calloc(NULL, n, sizeof *out->ids);
    out->request.prompt = out->ids;
    out->request.n_prompt = n;
    return out->ids != NULL ? GRAFT_OK
                            : error_set(error, GRAFT_NO_MEMORY, "no memory for %zu tokens", n);
}

static graft_status take_text(const struct reading *r, const char *text, size_t size, int flags,
                              graft_error *error)
{
    graft_token_id *ids = NULL;
    size_t n = 0;
    const graft_tokenizer *tokenizer = graft_model_tokenizer(r->defaults->model);
    if (tokenizer == NULL) {
        return error_set(error, GRAFT_UNSUPPORTED, "the model has no tokenizer: prompt with ids");
    }
    graft_status status = graft_tokenize(tokenizer, text, size, flags, &ids, &n, error);
    if (status == GRAFT_OK) {
        status = reserve_ids(r->out, n, error);
    }
    if (status == GRAFT_OK && n > 0) {
        memcpy(r->out->ids, ids, n * sizeof *ids);
    }
    graft_free(r->defaults->runtime, ids);
    return status;
}

static graft_status take_messages(const struct reading *r, graft_error *error)
{
    const struct batch_defaults *d = r->defaults;
    char *variables = NULL, *text = NULL;
    size_t size = 0;
    if (!d->info.has_chat_template) {
        return error_set(error, GRAFT_UNSUPPORTED,
                         "the model has no chat template: use /v1/completions");
    }
    graft_status status = template_variables(r, &variables, error);
    if (status == GRAFT_OK) {
        status = graft_chat_render_json(d->model, variables, &text, &size, error);
    }
    if (status == GRAFT_OK) { /* the template wrote the special tokens */
        status = take_text(r, text, size, GRAFT_TOKENIZE_SPECIAL, error);
    }
    free(variables); /* from jansson */
    graft_free(d->runtime, text);
    return status;
}

static graft_status take_ids(const struct reading *r, graft_error *error)
{
    size_t n = json_array_size(r->prompt);
    graft_status status = reserve_ids(r->out, n, error);
    for (size_t i = 0; i < n && status == GRAFT_OK; i++) {
        const json_t *id = json_array_get(r->prompt, i);
        json_int_t value = json_integer_value(id);
        if (!json_is_integer(id) || value < 0 || value > INT32_MAX) {
            status = error_set(error, GRAFT_INVALID_ARGUMENT,
                               "\"prompt\" must be one text, or one list of token ids");
        }
        r->out->ids[i] = (graft_token_id)value;
    }
    return status;
}

static graft_status take_prompt(const struct reading *r, graft_error *error)
{
    if (r->out->chat) {
        return take_messages(r, error);
    }
    return json_is_string(r->prompt)
               ? take_text(r, json_string_value(r->prompt), json_string_length(r->prompt),
                           r->defaults->adds_bos ? GRAFT_TOKENIZE_BOS : 0, error)
               : take_ids(r, error);
}

/* ---- the fields ---- */

static const struct field fields[] = {
    {"messages", CHAT, read_messages, 0},
    {"prompt", COMPLETION, read_prompt, 0},
    {"model", BOTH, read_model, 0},
    {"graft", BOTH, read_graft, 0},
    {"temperature", BOTH, read_float, offsetof(graft_sampling, temperature)},
    {"top_p", BOTH, read_float, offsetof(graft_sampling, top_p)},
    {"min_p", BOTH, read_float, offsetof(graft_sampling, min_p)},
    {"top_k", BOTH, read_int, offsetof(graft_sampling, top_k)},
    {"repetition_penalty", BOTH, read_float, offsetof(graft_sampling, repetition_penalty)},
    {"presence_penalty", BOTH, read_float, offsetof(graft_sampling, presence_penalty)},
    {"frequency_penalty", BOTH, read_float, offsetof(graft_sampling, frequency_penalty)},
    {"penalty_window", BOTH, read_int, offsetof(graft_sampling, penalty_window)},
    {"seed", BOTH, read_seed, 0},
    {"max_tokens", BOTH, read_max_tokens, 0},
    {"max_completion_tokens", CHAT, read_max_tokens, 0},
    {"stop", BOTH, read_stop, 0},
    {"ignore_eos", BOTH, read_ignore_eos, 0},
    {"logprobs", BOTH, read_logprobs, 0},
    {"top_logprobs", CHAT, read_top_logprobs, 0},
    {"n", BOTH, read_n, 0},
    {"best_of", COMPLETION, read_best_of, 0},
    {"echo", COMPLETION, refuse, 0},
    {"suffix", COMPLETION, refuse, 0},
    {"logit_bias", BOTH, refuse, 0},
    {"tools", CHAT, refuse, 0},
    {"functions", CHAT, refuse, 0},
    {"tool_choice", CHAT, read_tool_choice, 0},
    {"response_format", BOTH, read_format, 0},
    {"json_schema", BOTH, read_schema, 0},
    {"grammar", BOTH, read_grammar, 0},
    {"stream", BOTH, pass_over, 0},
    {"stream_options", BOTH, pass_over, 0},
    {"user", BOTH, pass_over, 0},
    {"metadata", BOTH, pass_over, 0},
    {"store", BOTH, pass_over, 0},
    {"service_tier", BOTH, pass_over, 0},
    {"safety_identifier", BOTH, pass_over, 0},
    {"prompt_cache_key", BOTH, pass_over, 0},
    {"parallel_tool_calls", CHAT, pass_over, 0},
};

/* What only the other kind of request has. */
static graft_status refuse_place(const struct reading *r, const struct field *field,
                                 graft_error *error)
{
    static const char *const counterparts[][2] = {
        {"messages", "prompt"}, {"prompt", "messages"}, {"max_completion_tokens", "max_tokens"}};
    const char *instead = NULL;
    for (size_t i = 0; i < ARRAY_LEN(counterparts); i++) {
        instead = strcmp(field->name, counterparts[i][0]) == 0 ? counterparts[i][1] : instead;
    }
    return error_set(error, GRAFT_UNSUPPORTED, "\"%s\" is for %s; this request is for %s%s%s%s",
                     field->name, r->out->chat ? completion_url : chat_url,
                     r->out->chat ? chat_url : completion_url,
                     instead != NULL ? ", which has \"" : "", instead != NULL ? instead : "",
                     instead != NULL ? "\"" : "");
}

static graft_status read_field(struct reading *r, const char *name, const json_t *value,
                               graft_error *error)
{
    int where = r->out->chat ? CHAT : COMPLETION;
    for (size_t i = 0; i < ARRAY_LEN(fields); i++) {
        if (strcmp(fields[i].name, name) == 0) {
            return json_is_null(value)              ? GRAFT_OK
                   : (fields[i].where & where) == 0 ? refuse_place(r, &fields[i], error)
                                                    : fields[i].read(r, &fields[i], value, error);
        }
    }
    return error_set(error, GRAFT_UNSUPPORTED, "\"%.100s\" is not supported in a batch", name);
}

static bool has(const json_t *object, const char *name)
{
    const json_t *value = json_object_get(object, name);
    return value != NULL && !json_is_null(value);
}

/* Where there is one of the two, the other one is refused as a field. */
static graft_status check_prompt(const struct reading *r, const json_t *body, graft_error *error)
{
    if (has(body, "messages") || has(body, "prompt")) {
        return GRAFT_OK;
    }
    if (!has(r->out->json, "url")) {
        return error_set(error, GRAFT_INVALID_ARGUMENT,
                         "the body has neither \"messages\" (%s) nor \"prompt\" (%s)", chat_url,
                         completion_url);
    }
    return error_set(error, GRAFT_INVALID_ARGUMENT, "the body has no \"%s\", which %s asks for",
                     r->out->chat ? "messages" : "prompt",
                     r->out->chat ? chat_url : completion_url);
}

static graft_status read_body(struct reading *r, const json_t *body, graft_error *error)
{
    const char *name;
    json_t *value;
    graft_status status = check_prompt(r, body, error);
    json_object_foreach((json_t *)(uintptr_t)body, name, value)
    {
        if (status == GRAFT_OK) {
            status = read_field(r, name, value, error);
        }
    }
    if (status == GRAFT_OK && r->best_of != 0 && r->best_of != r->out->n) {
        status = error_set(error, GRAFT_UNSUPPORTED,
                           "\"best_of\" must be as \"n\": all answers are given back");
    }
    if (status == GRAFT_OK && r->out->request.top > 0 && !r->out->logprobs) {
        status = error_set(error, GRAFT_INVALID_ARGUMENT,
                           "\"top_logprobs\" comes with \"logprobs\": true");
    }
    if (status == GRAFT_OK) {
        status = read_adapters(r, error);
    }
    return status == GRAFT_OK ? take_prompt(r, error) : status;
}

/* ---- the line ---- */

static graft_status read_address(struct batch_request *out, const json_t *body, graft_error *error)
{
    const char *method = "POST", *url = NULL;
    graft_status status = json_get_string(out->json, "method", &method, error);
    if (status == GRAFT_OK) {
        status = json_get_string(out->json, "url", &url, error);
    }
    if (status == GRAFT_OK && strcmp(method, "POST") != 0) {
        return error_set(error, GRAFT_INVALID_ARGUMENT, "\"method\" must be \"POST\"");
    }
    if (status == GRAFT_OK && url != NULL && strcmp(url, chat_url) != 0 &&
        strcmp(url, completion_url) != 0) {
        return error_set(error, GRAFT_INVALID_ARGUMENT, "\"url\" must be \"%s\" or \"%s\"",
                         chat_url, completion_url);
    }
    out->chat = url != NULL ? strcmp(url, chat_url) == 0 : has(body, "messages");
    return status;
}

static graft_status read_line(struct reading *r, graft_error *error)
{
    struct batch_request *out = r->out;
    const json_t *id = json_object_get(out->json, "custom_id");
    if (!json_is_object(out->json)) {
        return error_set(error, GRAFT_INVALID_ARGUMENT, "the line is no object");
    }
    if (json_string_length(id) == 0) {
        return error_set(error, GRAFT_INVALID_ARGUMENT, "\"custom_id\" must be given, a text");
    }
    out->custom_id = id;
    const json_t *body = json_object_get(out->json, "body");
    if (!json_is_object(body)) {
        return error_set(error, GRAFT_INVALID_ARGUMENT, "\"body\" must be an object");
    }
    if (!r->defaults->seed_given) { /* 31 bits, which every program that reads JSON holds */
        out->request.sampling.seed =
            hash_bytes(json_string_value(id), json_string_length(id), 0) & INT32_MAX;
    }
    graft_status status = read_address(out, body, error);
    return status == GRAFT_OK ? read_body(r, body, error) : status;
}

graft_status batch_request_read(const struct batch_defaults *defaults, const char *line,
                                size_t size, struct batch_request *out, graft_error *error)
{
    struct reading r = {.defaults = defaults, .out = out};
    *out = (struct batch_request){.request = defaults->request, .n = 1};
    graft_status status = json_parse(line, size, &out->json, error);
    return status == GRAFT_OK ? read_line(&r, error) : status;
}

void batch_request_close(struct batch_request *request)
{
    for (size_t i = 0; i < request->n_members; i++) {
        mem_free(NULL, request->members[i].name);
    }
    mem_free(NULL, request->ids);
    mem_free(NULL, request->form);
    json_decref(request->json);
    *request = (struct batch_request){0};
}
