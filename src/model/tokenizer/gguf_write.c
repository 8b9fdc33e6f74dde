/* gguf_write.c: a tokenizer as GGUF metadata, for llama.cpp and for graft.
 *
 * llama.cpp reads tokens, types, scores or merges, and knows the rest by names; what it has no name
 * for is refused, since it would read other ids than graft. graft's own key keeps the spec, which is
 * more exact than a name (NFC, flags of added tokens).
 */
#include "tokenizer_internal.h"

#define KEY(name) "tokenizer.ggml." name

static graft_status refuse(graft_error *error, const char *why)
{
    return error_set(error, GRAFT_UNSUPPORTED, "GGUF cannot hold this tokenizer: %s", why);
}

/* ---- what llama.cpp can do --------------------------------------------------------------------- */

static graft_status check_byte_level(const struct tokenizer *t, graft_error *error)
{
    for (int i = 0; i < t->normalizer.count; i++) {
        if (t->normalizer.steps[i].kind != NORM_NFC)
            return refuse(error, "it normalises text in a way that GGUF has no name for");
    }
    if (!pre_rule_of(t))
        return refuse(error, "it cuts text in a way that GGUF has no name for");
    return GRAFT_OK;
}

static bool is_mark_step(const struct norm_step *s, enum norm_kind kind)
{
    if (s->kind != kind || strcmp(s->content, SPACE_MARK) != 0)
        return false;
    return kind == NORM_PREPEND ||
           (pattern_is_literal(s->pattern) && strcmp(pattern_text(s->pattern), " ") == 0);
}

/* Spaces become marks, with one in front or without: by normaliser steps, or by Metaspace. */
static bool mark_rules(const struct tokenizer *t, bool *prefix)
{
    const struct norm_step *s = t->normalizer.steps;
    if (t->pre.count == 0) {
        *prefix = t->normalizer.count == 2;
        if (*prefix && !is_mark_step(s++, NORM_PREPEND))
            return false;
        return t->normalizer.count >= 1 && t->normalizer.count <= 2 &&
               is_mark_step(s, NORM_REPLACE);
    }
    const struct pre_step *p = &t->pre.steps[0];
    *prefix = p->scheme != PREPEND_NEVER;
    return t->normalizer.count == 0 && t->pre.count == 1 && p->kind == PRE_METASPACE &&
           strcmp(p->mark, SPACE_MARK) == 0 && (!p->split || t->cut_at_marks);
}

static graft_status check_llama(const struct tokenizer *t, graft_error *error)
{
    bool prefix;
    if (!mark_rules(t, &prefix))
        return refuse(error, "it normalises text in a way that GGUF has no name for");
    if (t->bpe.ignore_merges)
        return refuse(error, "ignore_merges is for byte-level vocabularies");
    for (int i = 0; i < 256; i++) {
        if (!t->bpe.byte_fallback || t->bpe.byte_ids[i] < 0)
            return refuse(error, "it has no token for each byte");
    }
    return GRAFT_OK;
}

/* ---- scores from merges ------------------------------------------------------------------------ */

/* llama.cpp merges any two symbols whose joint text is a token, the one with the best score first.
 * That is the same as merges by rank when every cut of a token into two tokens is a merge, and when
 * no merge of another token stands between two merges of one token. */
static graft_status scores_from_merges(const struct tokenizer *t, float *scores, graft_error *error)
{
    size_t count = 0;
    struct merge *merges = merges_in_order(t, &count);
    uint8_t *seen = mem_calloc(t->mem, (size_t)t->vocab.count, 1);
    graft_status status = GRAFT_OK;
    if (!merges || !seen)
        status = error_set(error, GRAFT_NO_MEMORY, "out of memory for scores");
    for (size_t i = 0; i < count && !status; i++) {
        uint32_t result = merges[i].result;
        if (seen[result] && merges[i - 1].result != result)
            status = refuse(error, "its merges do not follow from one score for each token");
        if (!seen[result])
            scores[result] = -(float)merges[i].rank;
        seen[result] = 1;
    }
    mem_free(t->mem, merges);
    size_t cuts = 0;
    for (int32_t id = 0; id < t->vocab.count && !status; id++) {
        const struct token *token = &t->vocab.tokens[id];
        if (!token->text || token->type != TOKEN_NORMAL)
            continue;
        if (!seen[id]) /* a single character: never made by a merge */
            scores[id] = -(float)count - (float)id;
        for (uint32_t cut = 1; cut < token->length; cut++) {
            int32_t a = vocab_find(&t->vocab, token->text, cut);
            int32_t b = vocab_find(&t->vocab, token->text + cut, token->length - cut);
            cuts += a >= 0 && b >= 0 && t->vocab.tokens[a].type == TOKEN_NORMAL &&
                    t->vocab.tokens[b].type == TOKEN_NORMAL;
        }
    }
    if (!status && cuts != count)
        status = refuse(error, "it has tokens that its merges do not make");
    mem_free(t->mem, seen);
    return status;
}

/* ---- writing ----------------------------------------------------------------------------------- */

struct table {
    const char **texts;
    size_t *lengths;
    int32_t *types;
    float *scores;
    char (*padding)[24];
};

static void table_free(const struct tokenizer *t, struct table *b)
{
    mem_free(t->mem, b->texts);
    mem_free(t->mem, b->lengths);
    mem_free(t->mem, b->types);
    mem_free(t->mem, b->scores);
    mem_free(t->mem, b->padding);
}

/* Ids without a text, and those up to n_vocab, get one: llama.cpp wants all texts to differ. */
static graft_status table_fill(const struct tokenizer *t, int32_t n_vocab, struct table *b,
                               graft_error *error)
{
    size_t n = (size_t)n_vocab;
    b->texts = mem_calloc(t->mem, n, sizeof *b->texts);
    b->lengths = mem_calloc(t->mem, n, sizeof *b->lengths);
    b->types = mem_calloc(t->mem, n, sizeof *b->types);
    b->scores = mem_calloc(t->mem, n, sizeof *b->scores);
    b->padding = mem_calloc(t->mem, n, sizeof *b->padding);
    if (!b->texts || !b->lengths || !b->types || !b->scores || !b->padding)
        return error_set(error, GRAFT_NO_MEMORY, "out of memory for a vocabulary");
    for (int32_t id = 0; id < n_vocab; id++) {
        const struct token *token = id < t->vocab.count ? &t->vocab.tokens[id] : NULL;
        if (token && token->text) {
            b->texts[id] = token->text;
            b->lengths[id] = token->length;
            b->types[id] = token->type;
            b->scores[id] = (float)token->score;
            if (vocab_find(&t->vocab, token->text, token->length) != id)
                return refuse(error, "two of its tokens have one text");
            continue;
        }
        b->lengths[id] = (size_t)snprintf(b->padding[id], sizeof b->padding[id], "[PAD%d]", id);
        b->texts[id] = b->padding[id];
        b->types[id] = TOKEN_UNUSED;
    }
    return GRAFT_OK;
}

static graft_status write_merges(const struct tokenizer *t, struct gguf_writer *w,
                                 graft_error *error)
{
    size_t count = 0;
    struct merge *merges = merges_in_order(t, &count);
    const char **texts = mem_calloc(t->mem, count + 1, sizeof *texts);
    size_t *lengths = mem_calloc(t->mem, count + 1, sizeof *lengths);
    size_t *offsets = mem_calloc(t->mem, count + 1, sizeof *offsets);
    struct buf lines;
    buf_init(&lines, t->mem, SIZE_MAX);
    bool ok = merges && texts && lengths && offsets;
    for (size_t i = 0; i < count && ok; i++) {
        const struct token *left = &t->vocab.tokens[merges[i].left];
        const struct token *right = &t->vocab.tokens[merges[i].right];
        offsets[i] = lines.size;
        ok = buf_append(&lines, left->text, left->length) && buf_putc(&lines, ' ') &&
             buf_append(&lines, right->text, right->length);
        lengths[i] = lines.size - offsets[i];
    }
    for (size_t i = 0; i < count && ok; i++)
        texts[i] = lines.data + offsets[i];
    if (ok)
        gguf_put_strings(w, KEY("merges"), texts, lengths, count);
    mem_free(t->mem, merges);
    mem_free(t->mem, texts);
    mem_free(t->mem, lengths);
    mem_free(t->mem, offsets);
    buf_free(&lines);
    return ok ? GRAFT_OK : error_set(error, GRAFT_NO_MEMORY, "out of memory for merges");
}

static void put_text(struct gguf_writer *w, const char *key, const char *text)
{
    gguf_put_string(w, key, text, strlen(text));
}

static void write_roles(const struct tokenizer *t, struct gguf_writer *w)
{
    const struct {
        const char *key;
        int32_t id;
    } roles[] = {{KEY("bos_token_id"), t->bos},
                 {KEY("eos_token_id"), t->eos},
                 {KEY("padding_token_id"), t->pad},
                 {KEY("unknown_token_id"), t->unk >= 0 ? t->unk : t->model_unk}};
    for (size_t i = 0; i < ARRAY_LEN(roles); i++) {
        if (roles[i].id >= 0)
            gguf_put_u32(w, roles[i].key, (uint32_t)roles[i].id);
    }
    gguf_put_bool(w, KEY("add_bos_token"), t->adds_bos && t->bos >= 0);
    gguf_put_bool(w, KEY("add_eos_token"), false);
    if (t->chat_template)
        put_text(w, "tokenizer.chat_template", t->chat_template);
}

/* Model, pre and what goes with them; scores of b are set. */
static graft_status write_model(const struct tokenizer *t, struct table *b, struct gguf_writer *w,
                                graft_error *error)
{
    graft_status status = GRAFT_OK;
    if (t->pre.byte_level) {
        const struct pre_rule *rule = pre_rule_of(t);
        put_text(w, KEY("model"), "gpt2");
        gguf_put_string(w, KEY("pre"), rule->names, strcspn(rule->names, " "));
        return GRAFT_OK;
    }
    bool prefix = false;
    mark_rules(t, &prefix);
    if (!t->bpe.by_score)
        status = scores_from_merges(t, b->scores, error);
    put_text(w, KEY("model"), "llama");
    put_text(w, KEY("pre"), "default");
    gguf_put_bool(w, KEY("add_space_prefix"), prefix);
    return status;
}

graft_status tokenizer_write_gguf(const struct tokenizer *t, int32_t n_vocab, struct gguf_writer *w,
                                  graft_error *error)
{
    if (n_vocab < t->vocab.count)
        return error_set(error, GRAFT_UNSUPPORTED,
                         "the model has %d rows for a vocabulary of %d tokens", n_vocab,
                         t->vocab.count);
    if (n_vocab > MAX_VOCAB)
        return error_set(error, GRAFT_LIMIT, "a vocabulary of %d tokens", n_vocab);
    if (t->kind == MODEL_UNIGRAM)
        return refuse(error, "unigram vocabularies belong to models that graft does not write");
    graft_status status = t->pre.byte_level ? check_byte_level(t, error) : check_llama(t, error);
    if (status)
        return status;
    struct table b = {0};
    struct buf spec;
    buf_init(&spec, t->mem, SIZE_MAX);
    status = table_fill(t, n_vocab, &b, error);
    if (!status)
        status = write_model(t, &b, w, error);
    if (!status)
        status = spec_text(t, &spec, error);
    if (!status) {
        gguf_put_strings(w, KEY("tokens"), b.texts, b.lengths, (uint64_t)n_vocab);
        gguf_put_i32s(w, KEY("token_type"), b.types, (uint64_t)n_vocab);
        if (!t->pre.byte_level)
            gguf_put_f32s(w, KEY("scores"), b.scores, (uint64_t)n_vocab);
        write_roles(t, w);
        gguf_put_string(w, SPEC_KEY, spec.data, spec.size);
    }
    if (!status && !t->bpe.by_score)
        status = write_merges(t, w, error);
    if (!status && w->values.status)
        status = error_set(error, w->values.status, "out of memory for metadata");
    buf_free(&spec);
    table_free(t, &b);
    return status;
}
