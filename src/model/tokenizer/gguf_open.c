/* gguf_open.c: the vocabulary in GGUF metadata to a tokenizer.
 *
 * Tokens, types, scores and merges are read as they are. What surrounds them is either graft's own
 * key, the spec, or what the model's kind implies in llama.cpp: patterns by name for gpt2, a space
 * mark in front and byte fallback for llama, white-space rules for t5.
 */
#include "tokenizer_internal.h"

#define KEY(name) "tokenizer.ggml." name

enum { SPEC_LIMIT = 64 << 20, TEMPLATE_LIMIT = 1 << 20 };

static graft_status no_memory(graft_error *error)
{
    return error_set(error, GRAFT_NO_MEMORY, "out of memory for a tokenizer");
}

/* ---- vocabulary -------------------------------------------------------------------------------- */

static graft_status read_tokens(struct tokenizer *t, const struct gguf *g, graft_error *error)
{
    const struct gguf_value *list = gguf_find(g, KEY("tokens"));
    struct gguf_cursor cursor;
    if (!list)
        return error_set(error, GRAFT_NOT_FOUND, "the file has no vocabulary");
    if (!gguf_strings(list, &cursor))
        return error_set(error, GRAFT_FORMAT, KEY("tokens") " is not a list of strings");
    if (list->count >= MAX_VOCAB)
        return error_set(error, GRAFT_LIMIT, "a vocabulary of more than %d tokens", MAX_VOCAB);
    if (!vocab_reserve(&t->vocab, (int32_t)list->count) ||
        !str_map_reserve(&t->vocab.index, (size_t)list->count))
        return no_memory(error);
    const char *text;
    size_t length;
    for (int32_t id = 0; gguf_next_string(&cursor, &text, &length); id++) {
        graft_status status = length ? vocab_set(&t->vocab, id, text, length, error) : GRAFT_OK;
        if (status)
            return status;
    }
    return GRAFT_OK;
}

/* llama.cpp takes tokens of these names for control tokens, whatever their type says. */
static bool ends_turn(const struct token *token)
{
    static const char *const names[] = {"<|eot_id|>",    "<|im_end|>", "<|end|>", "<end_of_turn>",
                                        "<|endoftext|>", "<|eom_id|>", "<EOT>",   "</s>"};
    for (size_t i = 0; i < ARRAY_LEN(names); i++) {
        if (strcmp(token->text, names[i]) == 0)
            return true;
    }
    return false;
}

static graft_status read_numbers(struct tokenizer *t, const struct gguf *g, graft_error *error)
{
    const struct gguf_value *types = gguf_find(g, KEY("token_type"));
    const struct gguf_value *scores = gguf_find(g, KEY("scores"));
    uint64_t count = (uint64_t)t->vocab.count;
    if ((types && (!types->is_array || types->count < count)) ||
        (scores && (!scores->is_array || scores->count < count)))
        return error_set(error, GRAFT_FORMAT,
                         "fewer token types or scores than tokens in the vocabulary");
    for (int32_t id = 0; id < t->vocab.count; id++) {
        struct token *token = &t->vocab.tokens[id];
        double type = TOKEN_NORMAL, score = 0;
        if ((types && !gguf_item_number(types, (uint64_t)id, &type)) ||
            (scores && !gguf_item_number(scores, (uint64_t)id, &score)))
            return error_set(error, GRAFT_FORMAT, "token types or scores are not numbers");
        if (!token->text)
            continue;
        token->type = type >= TOKEN_NORMAL && type <= TOKEN_BYTE ? (uint8_t)type : TOKEN_NORMAL;
        if (ends_turn(token))
            token->type = TOKEN_CONTROL;
        if (!(score > -1e30 && score < 1e30))
            return error_set(error, GRAFT_FORMAT, "token %d has a score that is no number", id);
        token->score = score;
    }
    return GRAFT_OK;
}

static graft_status read_merges(struct tokenizer *t, const struct gguf_value *merges,
                                graft_error *error)
{
    struct gguf_cursor cursor;
    const char *text;
    size_t length;
    if (!gguf_strings(merges, &cursor) || merges->count > INT32_MAX)
        return error_set(error, GRAFT_FORMAT, KEY("merges") " is not a list of strings");
    if (!merge_table_reserve(&t->bpe.merges, (size_t)merges->count))
        return no_memory(error);
    for (uint32_t rank = 0; gguf_next_string(&cursor, &text, &length); rank++) {
        graft_status status = bpe_add_merge_line(t, text, length, rank, error);
        if (status)
            return status;
    }
    return GRAFT_OK;
}

static graft_status read_all_merges(struct tokenizer *t, const struct gguf *g, graft_error *error)
{
    const struct gguf_value *merges = gguf_find(g, KEY("merges"));
    if (t->kind != MODEL_BPE)
        return GRAFT_OK;
    if (merges)
        return read_merges(t, merges, error);
    if (t->pre.byte_level)
        return error_set(error, GRAFT_FORMAT, "the file has no " KEY("merges"));
    return bpe_merges_from_scores(t, error);
}

/* ---- roles ------------------------------------------------------------------------------------- */

struct role_key {
    const char *key;
    int32_t llama, t5; /* when the key is absent; -1: none */
};
static const struct role_key role_keys[ROLE_COUNT] = {{KEY("bos_token_id"), 1, -1},
                                                      {KEY("eos_token_id"), 2, 1},
                                                      {KEY("padding_token_id"), -1, 0},
                                                      {KEY("unknown_token_id"), 0, 2}};

/* The id of a role; -1: none. An id outside the vocabulary (some writers put 2^32 - 1) is none. */
static graft_status read_role(const struct tokenizer *t, const struct gguf *g, const char *model,
                              int role, int32_t *out, graft_error *error)
{
    const struct role_key *r = &role_keys[role];
    int64_t id = -1;
    if (!gguf_find(g, SPEC_KEY)) /* graft writes the roles that there are */
        id = strcmp(model, "llama") == 0 ? r->llama : strcmp(model, "t5") == 0 ? r->t5 : -1;
    graft_status status = gguf_get_int(g, r->key, INT64_MIN, INT64_MAX, &id, error);
    *out = id >= 0 && id < t->vocab.count && t->vocab.tokens[id].text ? (int32_t)id : -1;
    return status;
}

static graft_status read_roles(struct tokenizer *t, const struct gguf *g, const char *model,
                               graft_error *error)
{
    int32_t *ids[ROLE_COUNT] = {&t->bos, &t->eos, &t->pad, &t->unk};
    graft_status status = GRAFT_OK;
    for (int i = 0; i < ROLE_COUNT && !status; i++) {
        status = read_role(t, g, model, i, ids[i], error);
        mem_free(t->mem, t->role_text[i]);
        t->role_text[i] = NULL;
        if (!status && *ids[i] >= 0)
            status = role_set(t, i, t->vocab.tokens[*ids[i]].text, error);
    }
    return status;
}

static graft_status read_template(struct tokenizer *t, const struct gguf *g, graft_error *error)
{
    const char *text = NULL;
    size_t length = 0;
    graft_status status = gguf_get_string(g, "tokenizer.chat_template", &text, &length, error);
    if (status || !text)
        return status;
    if (length > TEMPLATE_LIMIT)
        return error_set(error, GRAFT_LIMIT, "the chat template has %zu bytes", length);
    t->chat_template = mem_strndup(t->mem, text, length);
    return t->chat_template ? GRAFT_OK : no_memory(error);
}

/* ---- all of it --------------------------------------------------------------------------------- */

static graft_status read_spec(const struct tokenizer *t, const struct gguf *g, json_t **out,
                              graft_error *error)
{
    const char *text = NULL;
    size_t length = 0;
    graft_status status = gguf_get_string(g, SPEC_KEY, &text, &length, error);
    if (status)
        return status;
    if (text)
        return length > SPEC_LIMIT ? error_set(error, GRAFT_LIMIT, SPEC_KEY " is too long")
                                   : json_parse(text, length, out, error);
    graft_error reason = {.status = GRAFT_NO_MEMORY};
    *out = gguf_spec(t, g, error ? error : &reason);
    return *out ? GRAFT_OK : error ? error->status : reason.status;
}

static graft_status build(struct tokenizer *t, const struct gguf *g, const char *model,
                          graft_error *error)
{
    json_t *spec = NULL;
    graft_status status = read_tokens(t, g, error);
    if (!status)
        status = read_numbers(t, g, error);
    if (!status)
        status = read_spec(t, g, &spec, error);
    if (!status)
        status = spec_read(t, spec, error);
    if (!status)
        status = read_all_merges(t, g, error);
    if (!status)
        status = spec_keep(t, spec, error);
    if (!status)
        status = tokenizer_finish(t, error);
    if (!status)
        status = read_roles(t, g, model, error);
    if (!status)
        status = gguf_get_bool(g, KEY("add_bos_token"), &t->adds_bos, error);
    if (!status)
        status = read_template(t, g, error);
    json_decref(spec);
    return status;
}

graft_status tokenizer_open_gguf(struct mem *mem, const struct gguf *g, struct tokenizer **out,
                                 graft_error *error)
{
    const char *text = NULL;
    size_t length = 0;
    graft_status status = gguf_get_string(g, KEY("model"), &text, &length, error);
    if (status)
        return status;
    if (!text || (length == 4 && memcmp(text, "none", 4) == 0) ||
        (length == 8 && memcmp(text, "no_vocab", 8) == 0))
        return error_set(error, GRAFT_NOT_FOUND, "the file has no vocabulary");
    char model[16] = "";
    if (length < sizeof model)
        memcpy(model, text, length);
    if (strcmp(model, "gpt2") != 0 && strcmp(model, "llama") != 0 && strcmp(model, "t5") != 0)
        return error_set(
            error, GRAFT_UNSUPPORTED,
            "the file's vocabulary is of the kind '%.*s', which graft does not support",
            (int)(length < 40 ? length : 40), text);
    struct tokenizer *t = tokenizer_new(mem);
    status = t ? build(t, g, model, error) : no_memory(error);
    if (status)
        tokenizer_close(&t);
    else
        *out = t;
    return status;
}
