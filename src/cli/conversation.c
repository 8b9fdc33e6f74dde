/* conversation.c: the messages of a conversation.
 *
 * The whole conversation is rendered by the model's own template at each turn; of the tokens that come out, those the
 * session already holds are kept and only the rest is computed. In a session's file the messages are its note:
 * {"messages": [{"role", "content"}]}.
 */
#include "conversation.h"

#include <stdlib.h>

static const char *const ROLES[] = {"system", "user", "assistant"};

void conversation_free(struct conversation *c)
{
    conversation_drop(c, 0);
    mem_free(NULL, c->messages);
    *c = (struct conversation){0};
}

int conversation_add(struct conversation *c, const char *role, char *content)
{
    if (content == NULL) {
        return cli_fail_text("out of memory");
    }
    if (c->n == c->capacity) {
        size_t capacity = c->capacity > 0 ? 2 * c->capacity : 16;
        graft_message *grown = mem_resize(NULL, c->messages, capacity * sizeof *grown);
        if (grown == NULL) {
            mem_free(NULL, content);
            return cli_fail_text("out of memory");
        }
        c->messages = grown;
        c->capacity = capacity;
    }
    c->messages[c->n++] = (graft_message){role, content};
    return CLI_OK;
}

void conversation_drop(struct conversation *c, size_t keep)
{
    while (c->n > keep) {
        mem_free(NULL, (void *)c->messages[--c->n].content);
    }
}

size_t conversation_system(const struct conversation *c)
{
    return c->n > 0 && strcmp(c->messages[0].role, "system") == 0 ? 1 : 0;
}

/* ---- feeding ---- */

int conversation_feed_ids(struct cli_session *s, const graft_token_id *ids, size_t n, bool quiet,
                          struct answer *answer)
{
    graft_error error = {0};
    size_t held = 0, common = 0;
    const graft_token_id *have = graft_session_tokens(s->session, &held);
    while (common < held && common + 1 < n && have[common] == ids[common]) {
        common++;
    }
    graft_session_resume(s->session);
    if (graft_session_trim(s->session, common, &error) != GRAFT_OK) {
        return cli_fail(&error);
    }
    return generate_prompt(s, ids + common, n - common, quiet, answer);
}

int conversation_feed(struct cli_session *s, const struct conversation *c, bool quiet,
                      struct answer *answer)
{
    graft_error error = {0};
    char *text = NULL;
    size_t size = 0, n = 0;
    graft_token_id *ids = NULL;
    if (graft_chat_render(s->model, c->messages, c->n, true, &text, &size, &error) != GRAFT_OK ||
        graft_tokenize(graft_model_tokenizer(s->model), text, size, GRAFT_TOKENIZE_SPECIAL, &ids,
                       &n, &error) != GRAFT_OK) {
        graft_free(s->runtime, text);
        return cli_fail(&error);
    }
    graft_free(s->runtime, text);
    int status = conversation_feed_ids(s, ids, n, quiet, answer);
    graft_free(s->runtime, ids);
    return status;
}

/* ---- notes ---- */

/* NULL: no memory. */
static json_t *list_messages(const struct conversation *c)
{
    json_t *messages = json_array();
    for (size_t i = 0; i < c->n; i++) {
        const graft_message *m = &c->messages[i];
        json_t *one = json_object();
        json_put(&one, "role", json_string(m->role));
        json_put(&one, "content", json_any_text(m->content, strlen(m->content)));
        json_append(&messages, one);
    }
    return messages;
}

int conversation_to_note(const struct conversation *c, graft_session *session)
{
    graft_error error = {0};
    json_t *note = json_object();
    json_put(&note, "messages", list_messages(c));
    char *text = note != NULL ? json_dumps(note, JSON_COMPACT) : NULL;
    json_decref(note);
    if (text == NULL) {
        return cli_fail_text("out of memory");
    }
    graft_status status = graft_session_set_note(session, text, strlen(text), &error);
    free(text);
    return status == GRAFT_OK ? CLI_OK : cli_fail(&error);
}

bool conversation_begins_note(const struct conversation *c, const char *note, size_t size)
{
    graft_error error;
    json_t *read = NULL, *ours = list_messages(c);
    bool begins = note != NULL && ours != NULL && json_parse(note, size, &read, &error) == GRAFT_OK;
    const json_t *theirs = json_object_get(read, "messages");
    begins = begins && json_is_array(theirs);
    for (size_t i = 0; begins && i < c->n; i++) {
        begins = json_equal(json_array_get(ours, i), json_array_get(theirs, i)) != 0;
    }
    json_decref(read);
    json_decref(ours);
    return begins;
}

/* One of ROLES, which lasts; NULL: none of them. */
static const char *role_of(const json_t *message)
{
    const char *said = json_string_value(json_object_get(message, "role"));
    for (size_t i = 0; said != NULL && i < ARRAY_LEN(ROLES); i++) {
        if (strcmp(said, ROLES[i]) == 0) {
            return ROLES[i];
        }
    }
    return NULL;
}

int conversation_from_note(struct conversation *c, const graft_session *session)
{
    size_t size, i;
    json_t *note = NULL;
    const json_t *message;
    graft_error error = {0};
    const char *text = graft_session_note(session, &size);
    if (text == NULL) {
        return CLI_OK;
    }
    if (json_parse(text, size, &note, &error) != GRAFT_OK) {
        return cli_fail_text("the session's note is no conversation: %s", error.message);
    }
    const json_t *messages = json_object_get(note, "messages");
    int status = json_is_array(messages)
                     ? CLI_OK
                     : cli_fail_text("the session's note is no conversation: it has no messages");
    json_array_foreach(messages, i, message)
    {
        const json_t *content = json_object_get(message, "content");
        const char *role = role_of(message), *said = json_string_value(content);
        if (role == NULL || said == NULL || strlen(said) != json_string_length(content)) {
            status = cli_fail_text("the session's note is no conversation: message %zu", i);
            break;
        }
        status = conversation_add(c, role, mem_strdup(NULL, said));
        if (status != CLI_OK) {
            break;
        }
    }
    json_decref(note);
    return status;
}
