/* config.c: tokenizer_config.json and special_tokens_map.json: roles of special tokens, more added
 * tokens, whether a BOS is put in front, the chat template.
 */
#include "tokenizer_internal.h"

/* A token is a string or {"content": string}; NULL for anything else. */
static const char *token_text(const json_t *node)
{
    return json_string_value(json_is_object(node) ? json_object_get(node, "content") : node);
}

static graft_status read_roles(struct tokenizer *t, const json_t *config, graft_error *error)
{
    static const char *const keys[ROLE_COUNT] = {"bos_token", "eos_token", "pad_token",
                                                 "unk_token"};
    for (int i = 0; i < ROLE_COUNT; i++) {
        const char *text = token_text(json_object_get(config, keys[i]));
        graft_status status = text ? role_set(t, i, text, error) : GRAFT_OK;
        if (status)
            return status;
    }
    return GRAFT_OK;
}

/* "123" → 123; -1 when it is no id. */
static int32_t parse_id(const char *text)
{
    int32_t id = 0;
    if (!*text)
        return -1;
    for (; *text; text++) {
        if (*text < '0' || *text > '9' || id > MAX_VOCAB)
            return -1;
        id = id * 10 + (*text - '0');
    }
    return id < MAX_VOCAB ? id : -1;
}

static graft_status read_added_decoder(struct tokenizer *t, const json_t *config,
                                       graft_error *error)
{
    json_t *list = json_object_get(config, "added_tokens_decoder");
    const char *key;
    json_t *node;
    json_object_foreach(list, key, node)
    {
        int32_t id = parse_id(key);
        if (id < 0 || id > 2 * (int64_t)t->vocab.count + 65536)
            return error_set(error, GRAFT_FORMAT, "added_tokens_decoder has the key '%.40s'", key);
        graft_status status = added_add(t, id, node, error);
        if (status)
            return status;
    }
    return GRAFT_OK;
}

/* A string, or a list of {name, template} of which "default" is taken. */
static graft_status read_template(struct tokenizer *t, const json_t *config, graft_error *error)
{
    const json_t *node = json_object_get(config, "chat_template");
    if (t->chat_template || !node || json_is_null(node))
        return GRAFT_OK;
    const json_t *text = json_is_string(node) ? node : NULL;
    size_t i;
    json_t *item;
    json_array_foreach(node, i, item)
    {
        const char *name = json_string_value(json_object_get(item, "name"));
        if (name && strcmp(name, "default") == 0)
            text = json_object_get(item, "template");
    }
    if (!json_is_string(text))
        return GRAFT_OK;
    t->chat_template = mem_strndup(t->mem, json_string_value(text), json_string_length(text));
    return t->chat_template ? GRAFT_OK
                            : error_set(error, GRAFT_NO_MEMORY, "out of memory for a template");
}

graft_status config_read(struct tokenizer *t, const json_t *config, graft_error *error)
{
    if (!config)
        return GRAFT_OK;
    if (!json_is_object(config))
        return error_set(error, GRAFT_FORMAT, "the tokenizer's configuration is not an object");
    graft_status status = read_roles(t, config, error);
    if (!status)
        status = read_added_decoder(t, config, error);
    if (!status)
        status = read_template(t, config, error);
    bool adds = t->adds_bos;
    if (!status && json_is_boolean(json_object_get(config, "add_bos_token"))) {
        status = json_get_bool(config, "add_bos_token", &adds, error);
        t->adds_bos = adds;
    }
    return status;
}
