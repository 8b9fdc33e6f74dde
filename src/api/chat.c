/* chat.c: from messages to the prompt text that the model's own template makes of them.
 *
 * Owns the messages; the engine is model/template. What Hugging Face gives a template and the caller did
 * not is filled in by model/chat.c.
 */
#include "api/api_internal.h"

#include <time.h>

static graft_status no_memory(graft_error *error)
{
    return error_set(error, GRAFT_NO_MEMORY, "no memory for the messages");
}

static graft_status render(const graft_model *model, json_t *variables, char **text, size_t *size,
                           graft_error *error)
{
    graft_status status = chat_fill_variables(model->model->tokenizer, variables, error);
    if (status == GRAFT_OK) {
        status = template_render(model->model->chat, &model->runtime->mem, variables,
                                 (int64_t)time(NULL), NULL, text, size, error);
    }
    return status;
}

static graft_status has_template(const graft_model *model, graft_error *error)
{
    return model->model->chat != NULL
               ? GRAFT_OK
               : error_set(error, GRAFT_NOT_FOUND, "the model has no chat template");
}

static graft_status check_utf8(const char *text, size_t index, graft_error *error)
{
    uint32_t code;
    size_t size = strlen(text);
    for (size_t i = 0; i < size;) {
        int n = utf8_decode(text + i, size - i, &code);
        if (n == 0) {
            return error_set(error, GRAFT_INVALID_ARGUMENT, "message %zu is not UTF-8 at byte %zu",
                             index, i);
        }
        i += (size_t)n;
    }
    return GRAFT_OK;
}

static graft_status add_message(json_t *list, const graft_message *message, size_t index,
                                graft_error *error)
{
    if (message->role == NULL || message->content == NULL) {
        return error_set(error, GRAFT_INVALID_ARGUMENT, "message %zu has no role or no content",
                         index);
    }
    graft_status status = check_utf8(message->role, index, error);
    if (status == GRAFT_OK) {
        status = check_utf8(message->content, index, error);
    }
    if (status != GRAFT_OK) {
        return status;
    }
    json_t *entry = json_pack("{s:s, s:s}", "role", message->role, "content", message->content);
    return json_array_append_new(list, entry) == 0 ? GRAFT_OK : no_memory(error);
}

graft_status graft_chat_render(const graft_model *model, const graft_message *messages,
                               size_t n_messages, bool add_generation_prompt, char **text,
                               size_t *size, graft_error *error)
{
    REQUIRE(model);
    REQUIRE(text);
    REQUIRE(size);
    if (n_messages > 0) {
        REQUIRE(messages);
    }
    CHECK_RUNTIME(model->runtime);
    graft_status status = has_template(model, error);
    if (status != GRAFT_OK) {
        return status;
    }
    json_t *list = json_array();
    json_t *variables = json_pack("{s:O?, s:b}", "messages", list, "add_generation_prompt",
                                  (int)add_generation_prompt);
    if (list == NULL || variables == NULL) {
        status = no_memory(error);
    }
    for (size_t i = 0; i < n_messages && status == GRAFT_OK; i++) {
        status = add_message(list, &messages[i], i, error);
    }
    if (status == GRAFT_OK) {
        status = render(model, variables, text, size, error);
    }
    json_decref(list);
    json_decref(variables);
    return status;
}

graft_status graft_chat_render_json(const graft_model *model, const char *variables, char **text,
                                    size_t *size, graft_error *error)
{
    REQUIRE(model);
    REQUIRE(variables);
    REQUIRE(text);
    REQUIRE(size);
    CHECK_RUNTIME(model->runtime);
    graft_status status = has_template(model, error);
    json_t *parsed = NULL;
    if (status == GRAFT_OK) {
        status = json_parse(variables, strlen(variables), &parsed, error);
    }
    if (status == GRAFT_OK && !json_is_array(json_object_get(parsed, "messages"))) {
        status = error_set(error, GRAFT_INVALID_ARGUMENT,
                           "the variables must be an object with an array \"messages\"");
    }
    if (status == GRAFT_OK) {
        status = render(model, parsed, text, size, error);
    }
    json_decref(parsed);
    return status;
}
