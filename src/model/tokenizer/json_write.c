/* json_write.c: a tokenizer as tokenizer.json text, which is its spec with vocabulary and merges. */
#include "tokenizer_internal.h"

static graft_status no_memory(graft_error *error)
{
    return error_set(error, GRAFT_NO_MEMORY, "out of memory for tokenizer.json");
}

/* NULL: no memory. */
static json_t *added_to_json(const struct tokenizer *t)
{
    json_t *list = json_array();
    for (size_t i = 0; i < t->n_added && list; i++) {
        const struct added_token *a = &t->added[i];
        const struct token *token = &t->vocab.tokens[a->id];
        json_append(&list, json_pack("{s:i, s:s%, s:b, s:b, s:b, s:b, s:b}", "id", (int)a->id,
                                     "content", token->text, (size_t)token->length, "single_word",
                                     (int)a->single_word, "lstrip", (int)a->lstrip, "rstrip",
                                     (int)a->rstrip, "normalized", (int)a->normalized, "special",
                                     (int)a->special));
    }
    return list;
}

/* The spec with added tokens; a new reference, NULL: no memory. */
static json_t *full_spec(const struct tokenizer *t)
{
    json_t *spec = NULL;
    if (json_parse(t->spec, strlen(t->spec), &spec, NULL) != GRAFT_OK)
        return NULL;
    json_put(&spec, "added_tokens", added_to_json(t));
    return spec;
}

static int append_dump(const char *text, size_t size, void *buf)
{
    return buf_append(buf, text, size) ? 0 : -1;
}

graft_status spec_text(const struct tokenizer *t, struct buf *out, graft_error *error)
{
    json_t *spec = full_spec(t);
    bool ok = spec && json_dump_callback(spec, append_dump, out, JSON_COMPACT) == 0;
    json_decref(spec);
    return ok ? GRAFT_OK : no_memory(error);
}

/* JSON holds texts that are UTF-8; keys of an object hold no NUL and are distinct. */
static graft_status check_tokens(const struct tokenizer *t, graft_error *error)
{
    for (int32_t id = 0; id < t->vocab.count; id++) {
        const struct token *token = &t->vocab.tokens[id];
        if (!token->text && t->kind == MODEL_BPE)
            continue;
        if (!token->text || !utf8_valid(token->text, token->length) ||
            memchr(token->text, 0, token->length) ||
            (t->kind == MODEL_BPE && vocab_find(&t->vocab, token->text, token->length) != id))
            return error_set(error, GRAFT_UNSUPPORTED,
                             "tokenizer.json cannot hold token %d: it has no text, one that is not "
                             "UTF-8, or that of another token",
                             id);
    }
    if (t->bpe.n_extra)
        return error_set(error, GRAFT_UNSUPPORTED,
                         "tokenizer.json cannot hold tokens made of characters that are no tokens");
    return GRAFT_OK;
}

static json_t *vocab_object(const struct tokenizer *t)
{
    json_t *vocab = json_object();
    for (int32_t id = 0; id < t->vocab.count; id++) {
        const struct token *token = &t->vocab.tokens[id];
        if (token->text)
            json_put(&vocab, token->text, json_integer(id));
    }
    return vocab;
}

static json_t *piece_list(const struct tokenizer *t)
{
    json_t *list = json_array();
    for (int32_t id = 0; id < t->vocab.count; id++) {
        const struct token *token = &t->vocab.tokens[id];
        json_append(&list, json_pack("[s%, f]", token->text, (size_t)token->length, token->score));
    }
    return list;
}

static json_t *merge_list(const struct tokenizer *t)
{
    size_t count = 0;
    struct merge *merges = merges_in_order(t, &count);
    json_t *list = merges ? json_array() : NULL;
    for (size_t i = 0; i < count && list; i++) {
        const struct token *left = &t->vocab.tokens[merges[i].left];
        const struct token *right = &t->vocab.tokens[merges[i].right];
        json_append(&list, json_pack("[s%, s%]", left->text, (size_t)left->length, right->text,
                                     (size_t)right->length));
    }
    mem_free(t->mem, merges);
    return list;
}

graft_status tokenizer_write_json(const struct tokenizer *t, struct mem *mem, char **out,
                                  size_t *size, graft_error *error)
{
    graft_status status = check_tokens(t, error);
    if (status)
        return status;
    struct buf text;
    buf_init(&text, mem, SIZE_MAX);
    json_t *root = full_spec(t);
    json_t *model = json_object_get(root, "model");
    bool ok = json_object_set_new(root, "version", json_string("1.0")) == 0 &&
              json_object_set_new(root, "truncation", json_null()) == 0 &&
              json_object_set_new(root, "padding", json_null()) == 0;
    if (t->kind == MODEL_UNIGRAM)
        ok = ok && json_object_set_new(model, "vocab", piece_list(t)) == 0;
    else
        ok = ok && json_object_set_new(model, "vocab", vocab_object(t)) == 0 &&
             json_object_set_new(model, "merges", merge_list(t)) == 0;
    ok = ok && json_dump_callback(root, append_dump, &text, JSON_INDENT(1)) == 0;
    json_decref(root);
    size_t length = 0;
    char *taken = ok ? buf_take(&text, &length) : NULL;
    buf_free(&text);
    if (!taken)
        return no_memory(error);
    *out = taken;
    *size = length;
    return GRAFT_OK;
}
