/* chat.c: the variables that a chat template sees besides the messages.
 *
 * One place for those who render: sessions of the command, training data. Messages and the time are theirs.
 */
#include "model.h"

/* Sets a member that is not there; takes over the reference to value. False: no memory. */
static bool fill(json_t *variables, const char *key, json_t *value)
{
    if (value && json_object_get(variables, key)) {
        json_decref(value);
        return true;
    }
    return json_object_set_new(variables, key, value) == 0;
}

graft_status chat_fill_variables(const struct tokenizer *t, json_t *variables, graft_error *error)
{
    static const char *const ROLES[] = {"bos_token", "eos_token", "pad_token", "unk_token"};
    bool ok = fill(variables, "tools", json_null()) && fill(variables, "documents", json_null()) &&
              fill(variables, "add_generation_prompt", json_false());
    for (size_t i = 0; i < ARRAY_LEN(ROLES) && ok && t; i++) {
        const char *text = tokenizer_special_text(t, ROLES[i]);
        if (text)
            ok = fill(variables, ROLES[i], json_string(text));
    }
    return ok ? GRAFT_OK : error_set(error, GRAFT_NO_MEMORY, "no memory for the messages");
}
