/* messages.c: conversations in the form that chat templates want: {role, content, tool_calls, …}.
 *
 * Chats come with other names for roles (ShareGPT), contents in typed blocks (Anthropic, OpenAI), results of tools
 * inside of the user's messages (Anthropic), arguments as JSON in a string (OpenAI). What cannot be said in text is refused by
 * name. Pure.
 */
#include "train/data/data_internal.h"

static const struct {
    const char *alias, *role;
} ROLES[] = {{"human", "user"},
             {"Human", "user"},
             {"USER", "user"},
             {"gpt", "assistant"},
             {"chatgpt", "assistant"},
             {"model", "assistant"},
             {"bot", "assistant"},
             {"bing", "assistant"},
             {"bard", "assistant"},
             {"claude", "assistant"},
             {"function_call", "assistant"},
             {"function", "tool"},
             {"observation", "tool"},
             {"function_response", "tool"},
             {"tool_response", "tool"}};

static const char *role_of(const char *name)
{
    for (size_t i = 0; i < ARRAY_LEN(ROLES); i++) {
        if (strcmp(ROLES[i].alias, name) == 0) {
            return ROLES[i].role;
        }
    }
    return name;
}

static const json_t *member(const json_t *object, const char *key, const char *other)
{
    const json_t *found = json_object_get(object, key);
    return found != NULL ? found : json_object_get(object, other);
}

static bool append_text(struct buf *out, const char *text, size_t size)
{
    return (out->size == 0 || buf_putc(out, '\n')) && buf_append(out, text, size);
}

/* ---- typed blocks -------------------------------------------------------------------------- */

/* What the blocks of one message come to. */
struct blocks {
    struct buf text, thinking;
    json_t *calls;   /* tool_calls; NULL: none */
    json_t *results; /* messages of the role tool; NULL: none */
    size_t number;
};

static bool append_string(struct buf *out, const json_t *string)
{
    return append_text(out, json_string_value(string), json_string_length(string));
}

/* Appends a new reference to a list that is made when there is none; takes it over. */
static graft_status list_append(json_t **list, json_t *value, struct why *why)
{
    if (*list == NULL) {
        *list = json_array();
    }
    return json_array_append_new(*list, value) == 0 ? GRAFT_OK : why_no_memory(why);
}

/* Sets a member if the value is text. Takes the object over; NULL: no memory. */
static json_t *with_text(json_t *object, const char *key, json_t *value)
{
    if (json_is_string(value) && json_object_set(object, key, value) != 0) {
        json_decref(object);
        return NULL;
    }
    return object;
}

static graft_status add_result(struct blocks *b, const json_t *block, struct why *why)
{
    struct buf text;
    buf_init(&text, NULL, RECORD_BYTES);
    const json_t *content = json_object_get(block, "content");
    graft_status status = content == NULL ? GRAFT_OK : content_text(content, &text, b->number, why);
    if (status == GRAFT_OK && text.status != GRAFT_OK) {
        status = why_no_memory(why);
    }
    if (status == GRAFT_OK) {
        json_t *message = json_pack("{s:s, s:o}", "role", "tool", "content",
                                    json_stringn(text.size > 0 ? text.data : "", text.size));
        message = with_text(message, "tool_call_id", json_object_get(block, "tool_use_id"));
        status = list_append(&b->results, message, why);
    }
    buf_free(&text);
    return status;
}

static graft_status add_call(struct blocks *b, json_t *block, struct why *why)
{
    json_t *name = json_object_get(block, "name"), *input = json_object_get(block, "input");
    if (!json_is_string(name)) {
        return why_drop(why, "give the tool_use block a name",
                        "message %zu uses a tool without a name", b->number);
    }
    json_t *arguments = input != NULL ? json_incref(input) : json_object();
    json_t *call = json_pack("{s:s, s:{s:O, s:o}}", "type", "function", "function", "name", name,
                             "arguments", arguments);
    call = with_text(call, "id", json_object_get(block, "id"));
    return list_append(&b->calls, call, why);
}

static graft_status add_block(struct blocks *b, json_t *block, struct why *why)
{
    const char *type = json_string_value(json_object_get(block, "type"));
    const json_t *text = json_object_get(block, "text");
    const json_t *thinking = json_object_get(block, "thinking");
    if (type == NULL) {
        return why_drop(why, "blocks are objects with a \"type\"",
                        "message %zu has a block without a type", b->number);
    }
    if (strcmp(type, "text") == 0 && json_is_string(text)) {
        return append_string(&b->text, text) ? GRAFT_OK : why_no_memory(why);
    }
    if (strcmp(type, "thinking") == 0 && json_is_string(thinking)) {
        return append_string(&b->thinking, thinking) ? GRAFT_OK : why_no_memory(why);
    }
    if (strcmp(type, "tool_use") == 0) {
        return add_call(b, block, why);
    }
    if (strcmp(type, "tool_result") == 0) {
        return add_result(b, block, why);
    }
    return why_drop(why, "graft trains on text: remove the block or the record",
                    "message %zu has a block of type \"%.40s\"", b->number, type);
}

static graft_status blocks_read(struct blocks *b, const json_t *content, size_t number,
                                struct why *why)
{
    *b = (struct blocks){.number = number};
    buf_init(&b->text, NULL, RECORD_BYTES);
    buf_init(&b->thinking, NULL, RECORD_BYTES);
    graft_status status = GRAFT_OK;
    for (size_t i = 0; i < json_array_size(content) && status == GRAFT_OK; i++) {
        status = add_block(b, json_array_get(content, i), why);
    }
    return status;
}

static void blocks_free(struct blocks *b)
{
    buf_free(&b->text);
    buf_free(&b->thinking);
    json_decref(b->calls);
    json_decref(b->results);
}

graft_status content_text(const json_t *content, struct buf *out, size_t number, struct why *why)
{
    if (json_is_string(content)) {
        return append_string(out, content) ? GRAFT_OK : why_no_memory(why);
    }
    if (!json_is_array(content)) {
        return why_drop(why, "a content is a string or a list of blocks",
                        "message %zu has a content that is neither text nor blocks", number);
    }
    graft_status status = GRAFT_OK;
    for (size_t i = 0; i < json_array_size(content) && status == GRAFT_OK; i++) {
        const json_t *block = json_array_get(content, i);
        const json_t *text = json_object_get(block, "text");
        if (!json_is_string(text)) {
            status = why_drop(why, "graft trains on text: remove the block or the record",
                              "message %zu has a block that is not text", number);
        } else if (!append_string(out, text)) {
            status = why_no_memory(why);
        }
    }
    return status;
}

/* ---- messages ------------------------------------------------------------------------------ */

/* {"arguments": "{…}"} as OpenAI writes it: templates want the object. */
static graft_status open_arguments(json_t *call, struct why *why)
{
    json_t *function = json_object_get(call, "function");
    json_t *arguments = json_object_get(function, "arguments");
    json_t *parsed = NULL;
    if (!json_is_string(arguments)) {
        return GRAFT_OK;
    }
    graft_status status =
        json_parse(json_string_value(arguments), json_string_length(arguments), &parsed, NULL);
    if (status == GRAFT_OK && json_is_object(parsed) &&
        json_object_set(function, "arguments", parsed) != 0) {
        status = GRAFT_NO_MEMORY;
    }
    json_decref(parsed);
    return status == GRAFT_NO_MEMORY ? why_no_memory(why) : GRAFT_OK; /* else it stays a string */
}

static graft_status open_calls(json_t *message, struct why *why)
{
    json_t *calls = json_object_get(message, "tool_calls");
    graft_status status = GRAFT_OK;
    for (size_t i = 0; i < json_array_size(calls) && status == GRAFT_OK; i++) {
        status = open_arguments(json_array_get(calls, i), why);
    }
    return status;
}

/* The contents of `b` as members of a message. False: no memory. */
static bool set_blocks(json_t *message, const struct blocks *b)
{
    const struct buf *text = &b->text, *thinking = &b->thinking;
    bool ok = text->status == GRAFT_OK && thinking->status == GRAFT_OK &&
              json_object_set_new(message, "content",
                                  json_stringn(text->size > 0 ? text->data : "", text->size)) == 0;
    if (ok && thinking->size > 0) {
        ok = json_object_set_new(message, "reasoning_content",
                                 json_stringn(thinking->data, thinking->size)) == 0;
    }
    return ok && (b->calls == NULL || json_object_set(message, "tool_calls", b->calls) == 0);
}

/* Takes the message over. */
static graft_status add_with_blocks(json_t *conversation, json_t *message, const json_t *content,
                                    size_t number, struct why *why)
{
    struct blocks b;
    graft_status status = blocks_read(&b, content, number, why);
    if (status == GRAFT_OK && b.results != NULL &&
        json_array_extend(conversation, b.results) != 0) {
        status = why_no_memory(why);
    }
    bool only_results = b.results != NULL && b.text.size == 0 && b.calls == NULL;
    if (status == GRAFT_OK && !only_results &&
        (!set_blocks(message, &b) || json_array_append(conversation, message) != 0)) {
        status = why_no_memory(why);
    }
    blocks_free(&b);
    json_decref(message);
    return status;
}

graft_status message_add(json_t *conversation, const json_t *given, size_t number, struct why *why)
{
    const json_t *role = member(given, "role", "from");
    const json_t *content = member(given, "content", "value");
    if (!json_is_string(role)) {
        return why_drop(why, "give it \"role\": \"user\" or \"assistant\"",
                        "message %zu has no role", number);
    }
    bool calls = json_array_size(json_object_get(given, "tool_calls")) > 0;
    if (!json_is_string(content) && !json_is_array(content) && !calls) {
        return why_drop(why, "give it a \"content\" that is text", "message %zu has no content",
                        number);
    }
    json_t *message = json_deep_copy(given);
    bool ok =
        message != NULL &&
        json_object_set_new(message, "role", json_string(role_of(json_string_value(role)))) == 0;
    if (ok && json_is_string(content)) {
        ok = json_object_set_new(
                 message, "content",
                 json_stringn(json_string_value(content), json_string_length(content))) == 0;
    }
    graft_status status = ok ? open_calls(message, why) : why_no_memory(why);
    if (status != GRAFT_OK) {
        json_decref(message);
        return status;
    }
    json_object_del(message, "from");
    json_object_del(message, "value");
    if (json_is_array(content)) {
        return add_with_blocks(conversation, message, content, number, why);
    }
    return json_array_append_new(conversation, message) == 0 ? GRAFT_OK : why_no_memory(why);
}

graft_status message_add_text(json_t *conversation, const char *role, struct text content,
                              bool optional, struct why *why)
{
    if (optional && content.size == 0) {
        return GRAFT_OK;
    }
    json_t *message = json_object();
    if (message == NULL || json_object_set_new(message, "role", json_string(role)) != 0 ||
        json_object_set_new(message, "content", json_stringn(content.data, content.size)) != 0) {
        json_decref(message);
        return why_no_memory(why);
    }
    return json_array_append_new(conversation, message) == 0 ? GRAFT_OK : why_no_memory(why);
}

/* ---- tools --------------------------------------------------------------------------------- */

/* {"name", "description", "input_schema"} as {"type": "function", "function": {…, "parameters"}}. */
static json_t *tool_of(json_t *tool)
{
    json_t *schema = json_object_get(tool, "input_schema");
    if (schema == NULL) {
        return json_incref(tool);
    }
    json_t *function = json_copy(tool);
    if (function == NULL || json_object_set(function, "parameters", schema) != 0) {
        json_decref(function);
        return NULL;
    }
    json_object_del(function, "input_schema");
    return json_pack("{s:s, s:o}", "type", "function", "function", function);
}

graft_status tools_read(const json_t *tools, json_t **out, struct why *why)
{
    json_t *parsed = NULL;
    *out = NULL;
    if (tools == NULL || json_is_null(tools)) {
        return GRAFT_OK;
    }
    if (json_is_string(tools) && json_string_length(tools) == 0) {
        return GRAFT_OK;
    }
    graft_status status = GRAFT_OK;
    if (json_is_string(tools) && json_parse(json_string_value(tools), json_string_length(tools),
                                            &parsed, &why->error) == GRAFT_NO_MEMORY) {
        return GRAFT_NO_MEMORY;
    }
    tools = parsed != NULL ? parsed : tools;
    if (!json_is_array(tools)) {
        status = why_drop(why, "\"tools\" is a list of objects", "its tools are no list");
    }
    for (size_t i = 0; status == GRAFT_OK && i < json_array_size(tools); i++) {
        status = list_append(out, tool_of(json_array_get(tools, i)), why);
    }
    json_decref(parsed);
    if (status != GRAFT_OK) {
        json_decref(*out);
        *out = NULL;
    }
    return status;
}
