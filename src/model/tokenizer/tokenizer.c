/* tokenizer.c: a tokenizer's life, and what callers ask about it. */
#include "tokenizer_internal.h"

static const char *const role_names[ROLE_COUNT] = {"bos_token", "eos_token", "pad_token",
                                                   "unk_token"};

/* Tokens that end an answer in some model's chat format. */
static const char *const end_names[] = {"<|im_end|>",
                                        "<|eot_id|>",
                                        "<|eom_id|>",
                                        "<|end|>",
                                        "<|endoftext|>",
                                        "<|end_of_text|>",
                                        "</s>",
                                        "<end_of_turn>",
                                        "<|end_of_turn|>",
                                        "<|endofturn|>",
                                        "<EOT>",
                                        "<|eot|>",
                                        "<|return|>",
                                        "<end_of_utterance>",
                                        "<\uFF5Cend\u2581of\u2581sentence\uFF5C>",
                                        "<|END_OF_TURN_TOKEN|>"};

struct tokenizer *tokenizer_new(struct mem *mem)
{
    struct tokenizer *t = mem_calloc(mem, 1, sizeof *t);
    if (!t)
        return NULL;
    t->mem = mem;
    vocab_init(&t->vocab, mem);
    t->bpe.merges.mem = mem;
    str_map_init(&t->bpe.extra, mem);
    str_map_init(&t->bpe.words, mem);
    t->raw.trie.mem = t->normal.trie.mem = t->unigram.trie.mem = mem;
    t->bos = t->eos = t->pad = t->unk = t->model_unk = -1;
    return t;
}

void tokenizer_close(struct tokenizer **tokenizer)
{
    struct tokenizer *t = *tokenizer;
    if (!t)
        return;
    *tokenizer = NULL;
    for (int i = 0; i < t->normalizer.count; i++) {
        pattern_close(&t->normalizer.steps[i].pattern);
        mem_free(t->mem, t->normalizer.steps[i].content);
        charsmap_close(&t->normalizer.steps[i].charsmap);
    }
    for (int i = 0; i < t->pre.count; i++)
        pattern_close(&t->pre.steps[i].pattern);
    bpe_free(&t->bpe);
    unigram_free(&t->unigram);
    trie_free(&t->raw.trie);
    trie_free(&t->normal.trie);
    vocab_free(&t->vocab);
    for (int i = 0; i < ROLE_COUNT; i++)
        mem_free(t->mem, t->role_text[i]);
    mem_free(t->mem, t->added);
    mem_free(t->mem, t->replace_from);
    mem_free(t->mem, t->replace_to);
    mem_free(t->mem, t->chat_template);
    mem_free(t->mem, t->spec);
    mem_free(t->mem, t);
}

/* ---- finishing --------------------------------------------------------------------------------- */

/* Stored text with each replace_from as replace_to. */
static const char *store_replaced(struct tokenizer *t, const struct token *token, uint32_t *n_bytes)
{
    struct buf out;
    buf_init(&out, t->mem, SIZE_MAX);
    const char *at = token->text, *end = token->text + token->length;
    size_t n = strlen(t->replace_from);
    while (at < end) {
        if ((size_t)(end - at) >= n && memcmp(at, t->replace_from, n) == 0) {
            buf_puts(&out, t->replace_to);
            at += n;
        } else {
            buf_putc(&out, *at++);
        }
    }
    const char *copy =
        out.status ? NULL : vocab_store(&t->vocab, out.data ? out.data : "", out.size);
    *n_bytes = (uint32_t)out.size;
    buf_free(&out);
    return copy;
}

static bool set_bytes(struct tokenizer *t, struct token *token)
{
    token->bytes = token->text;
    token->n_bytes = token->length;
    if (!token->text || token->added)
        return true;
    if (t->decode_bytes) {
        size_t n;
        char *bytes = vocab_store(&t->vocab, token->text, token->length);
        if (!bytes)
            return false;
        if (bytes_from_chars(token->text, token->length, bytes, &n)) {
            token->bytes = bytes;
            token->n_bytes = (uint32_t)n;
        }
        return true;
    }
    int byte = t->decode_fallback ? byte_token_value(token->text, token->length) : -1;
    if (byte >= 0) {
        char c = (char)byte;
        if (t->kind == MODEL_BPE)
            token->type = TOKEN_BYTE;
        token->bytes = vocab_store(&t->vocab, &c, 1);
        token->n_bytes = 1;
    } else if (t->replace_from && strstr(token->text, t->replace_from)) {
        token->bytes = store_replaced(t, token, &token->n_bytes);
    }
    return token->bytes != NULL;
}

static int32_t role_id(const struct tokenizer *t, int role)
{
    const char *text = t->role_text[role];
    return text ? vocab_find(&t->vocab, text, strlen(text)) : -1;
}

/* Whether some token has a space mark behind another character, or the mark is no token. */
static bool tokens_cross_marks(const struct tokenizer *t)
{
    if (vocab_find(&t->vocab, SPACE_MARK, SPACE_MARK_BYTES) < 0)
        return true;
    for (int32_t id = 0; id < t->vocab.count; id++) {
        const struct token *token = &t->vocab.tokens[id];
        if (!token->text || token->added)
            continue;
        const char *text = token->text, *end = text + token->length;
        while (end - text >= SPACE_MARK_BYTES && memcmp(text, SPACE_MARK, SPACE_MARK_BYTES) == 0)
            text += SPACE_MARK_BYTES;
        if (strstr(text, SPACE_MARK))
            return true;
    }
    return false;
}

graft_status tokenizer_finish(struct tokenizer *t, graft_error *error)
{
    if (t->vocab.count == 0)
        return error_set(error, GRAFT_FORMAT, "the tokenizer has no tokens");
    for (int i = 0; i < t->pre.count; i++)
        t->strip_first |= t->pre.steps[i].kind == PRE_PREFIX_SPACE;
    for (int32_t id = 0; id < t->vocab.count; id++) {
        if (!set_bytes(t, &t->vocab.tokens[id]))
            return error_set(error, GRAFT_NO_MEMORY, "out of memory for the vocabulary");
    }
    graft_status status = t->kind == MODEL_BPE ? bpe_finish(t, error) : unigram_finish(t, error);
    if (!status)
        status = added_build(t, error);
    if (status)
        return status;
    t->cut_at_marks = !t->pre.byte_level && !tokens_cross_marks(t);
    t->bos = role_id(t, ROLE_BOS);
    t->eos = role_id(t, ROLE_EOS);
    t->pad = role_id(t, ROLE_PAD);
    t->unk = role_id(t, ROLE_UNK);
    return GRAFT_OK;
}

graft_status role_set(struct tokenizer *t, int role, const char *text, graft_error *error)
{
    if (t->role_text[role])
        return GRAFT_OK;
    t->role_text[role] = mem_strdup(t->mem, text);
    return t->role_text[role] ? GRAFT_OK
                              : error_set(error, GRAFT_NO_MEMORY, "out of memory for a tokenizer");
}

/* ---- facts ------------------------------------------------------------------------------------- */

bool tokens_push(struct tokens *t, graft_token_id id)
{
    if (t->count == t->capacity) {
        size_t capacity = t->capacity ? t->capacity * 2 : 64;
        graft_token_id *grown = mem_resize(t->mem, t->ids, capacity * sizeof *grown);
        if (!grown)
            return false;
        t->ids = grown;
        t->capacity = capacity;
    }
    t->ids[t->count++] = id;
    return true;
}

void tokens_free(struct tokens *t)
{
    mem_free(t->mem, t->ids);
    t->ids = NULL;
    t->count = t->capacity = 0;
}

int32_t tokenizer_size(const struct tokenizer *t)
{
    return t->vocab.count;
}

const char *tokenizer_kind(const struct tokenizer *t)
{
    if (t->kind == MODEL_UNIGRAM)
        return "unigram";
    return t->pre.byte_level ? "byte-level BPE" : "SentencePiece BPE";
}

graft_token_id tokenizer_bos(const struct tokenizer *t)
{
    return t->bos;
}

graft_token_id tokenizer_eos(const struct tokenizer *t)
{
    return t->eos;
}

graft_token_id tokenizer_pad(const struct tokenizer *t)
{
    return t->pad;
}

bool tokenizer_adds_bos(const struct tokenizer *t)
{
    return t->adds_bos && t->bos >= 0;
}

static const struct token *token_at(const struct tokenizer *t, graft_token_id id)
{
    return id >= 0 && id < t->vocab.count && t->vocab.tokens[id].text ? &t->vocab.tokens[id] : NULL;
}

bool tokenizer_is_special(const struct tokenizer *t, graft_token_id id)
{
    const struct token *token = token_at(t, id);
    return token && token->special;
}

bool tokenizer_is_end(const struct tokenizer *t, graft_token_id id)
{
    const struct token *token = token_at(t, id);
    if (!token)
        return false;
    if (id == t->eos)
        return true;
    for (size_t i = 0; i < ARRAY_LEN(end_names) && token->added; i++) {
        if (strcmp(token->text, end_names[i]) == 0)
            return true;
    }
    return false;
}

const char *tokenizer_token(const struct tokenizer *t, graft_token_id id, size_t *length)
{
    const struct token *token = token_at(t, id);
    if (token && length)
        *length = token->length;
    return token ? token->text : NULL;
}

const char *tokenizer_chat_template(const struct tokenizer *t)
{
    return t->chat_template;
}

const char *tokenizer_special_text(const struct tokenizer *t, const char *role)
{
    for (int i = 0; i < ROLE_COUNT; i++) {
        if (strcmp(role, role_names[i]) == 0)
            return t->role_text[i];
    }
    return NULL;
}
