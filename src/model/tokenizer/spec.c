/* spec.c: what surrounds the vocabulary in tokenizer.json: model settings, added tokens, decoder,
 * post-processor. What is not known is refused by name. truncation and padding are not looked at:
 * they belong to training.
 */
#include "tokenizer_internal.h"

enum { MAX_NEST = 8 };

graft_status spec_refuse(graft_error *error, const char *what, const char *name)
{
    return error_set(error, GRAFT_UNSUPPORTED,
                     "the tokenizer uses the %s %.60s, which graft does not support", what, name);
}

static graft_status no_memory(graft_error *error)
{
    return error_set(error, GRAFT_NO_MEMORY, "out of memory for a tokenizer");
}

graft_status spec_read_pattern(struct tokenizer *t, const json_t *node, struct pattern **out,
                               graft_error *error)
{
    const json_t *text = json_object_get(node, "Regex");
    bool literal = !text;
    if (literal)
        text = json_object_get(node, "String");
    if (!json_is_string(text))
        return error_set(error, GRAFT_FORMAT, "a tokenizer pattern is neither String nor Regex");
    return pattern_open(t->mem, json_string_value(text), json_string_length(text), literal, out,
                        error);
}

/* ---- model settings -------------------------------------------------------------------------- */

static graft_status refuse_text(const json_t *model, const char *key, graft_error *error)
{
    const char *text = NULL;
    graft_status status = json_get_string(model, key, &text, error);
    if (!status && text && *text)
        status = spec_refuse(error, "model setting", key);
    return status;
}

static graft_status read_bpe(struct tokenizer *t, const json_t *model, graft_error *error)
{
    const char *unk = NULL;
    double dropout = 0;
    graft_status status = refuse_text(model, "continuing_subword_prefix", error);
    if (!status)
        status = refuse_text(model, "end_of_word_suffix", error);
    if (!status)
        status = json_get_number(model, "dropout", &dropout, error);
    if (!status && dropout != 0)
        status = spec_refuse(error, "model setting", "dropout");
    if (!status)
        status = json_get_bool(model, "fuse_unk", &t->bpe.fuse_unk, error);
    if (!status)
        status = json_get_bool(model, "byte_fallback", &t->bpe.byte_fallback, error);
    if (!status)
        status = json_get_bool(model, "ignore_merges", &t->bpe.ignore_merges, error);
    if (!status)
        status = json_get_string(model, "unk_token", &unk, error);
    if (!status && unk) {
        t->model_unk = vocab_find(&t->vocab, unk, strlen(unk));
        if (t->model_unk < 0)
            status =
                error_set(error, GRAFT_FORMAT, "the unknown token '%.60s' is not a token", unk);
        else
            status = role_set(t, ROLE_UNK, unk, error);
    }
    return status;
}

static graft_status read_unigram(struct tokenizer *t, const json_t *model, graft_error *error)
{
    int64_t unk = -1;
    graft_status status = json_get_int(model, "unk_id", 0, t->vocab.count - 1, &unk, error);
    if (!status)
        status = json_get_bool(model, "byte_fallback", &t->unigram.byte_fallback, error);
    if (status || unk < 0)
        return status;
    t->model_unk = (int32_t)unk;
    t->vocab.tokens[unk].type = TOKEN_UNKNOWN;
    return role_set(t, ROLE_UNK, t->vocab.tokens[unk].text, error);
}

static graft_status read_model(struct tokenizer *t, const json_t *model, graft_error *error)
{
    const char *type = NULL;
    graft_status status = json_get_string(model, "type", &type, error);
    if (status)
        return status;
    if (!type)
        type = json_object_get(model, "merges") ? "BPE" : "model without a type";
    if (strcmp(type, "BPE") == 0) {
        t->kind = MODEL_BPE;
        return read_bpe(t, model, error);
    }
    if (strcmp(type, "Unigram") == 0) {
        t->kind = MODEL_UNIGRAM;
        return read_unigram(t, model, error);
    }
    return spec_refuse(error, "model", type);
}

/* ---- decoder ----------------------------------------------------------------------------------- */

struct decoder_state {
    bool fused;
    int depth;
};

static graft_status set_replace(struct tokenizer *t, const char *from, const char *to,
                                graft_error *error)
{
    if (t->replace_from)
        return spec_refuse(error, "decoder", "Replace (a second one)");
    if (!*from)
        return error_set(error, GRAFT_FORMAT, "a decoder replaces an empty text");
    t->replace_from = mem_strdup(t->mem, from);
    t->replace_to = mem_strdup(t->mem, to);
    return t->replace_from && t->replace_to ? GRAFT_OK : no_memory(error);
}

static graft_status decode_metaspace(struct tokenizer *t, const json_t *node, graft_error *error)
{
    const char *mark = SPACE_MARK, *scheme = NULL;
    bool prefix = true;
    graft_status status = json_get_string(node, "replacement", &mark, error);
    if (!status)
        status = json_get_string(node, "prepend_scheme", &scheme, error);
    if (!status)
        status = json_get_bool(node, "add_prefix_space", &prefix, error);
    if (!status)
        status = set_replace(t, mark, " ", error);
    t->strip_first = scheme ? strcmp(scheme, "never") != 0 : prefix;
    return status;
}

static graft_status decode_replace(struct tokenizer *t, const json_t *node, graft_error *error)
{
    const char *from = NULL, *to = NULL;
    graft_status status = json_get_string(json_object_get(node, "pattern"), "String", &from, error);
    if (!status)
        status = json_get_string(node, "content", &to, error);
    if (status)
        return status;
    return from && to ? set_replace(t, from, to, error)
                      : spec_refuse(error, "decoder", "Replace with a regular expression");
}

/* Strip after Fuse: from the whole text. */
static graft_status decode_strip(struct tokenizer *t, const json_t *node,
                                 const struct decoder_state *state, graft_error *error)
{
    const char *content = NULL;
    int64_t start = 0, stop = 0;
    graft_status status = json_get_string(node, "content", &content, error);
    if (!status)
        status = json_get_int(node, "start", 0, INT32_MAX, &start, error);
    if (!status)
        status = json_get_int(node, "stop", 0, INT32_MAX, &stop, error);
    if (status || (start == 0 && stop == 0))
        return status;
    if (!content || strcmp(content, " ") != 0 || start > 1 || stop || !state->fused)
        return spec_refuse(error, "decoder", "Strip other than of one leading space");
    t->strip_first = true;
    return GRAFT_OK;
}

static graft_status read_decoder(struct tokenizer *t, const json_t *node,
                                 struct decoder_state *state, graft_error *error)
{
    const char *type = NULL;
    graft_status status = json_get_string(node, "type", &type, error);
    if (status)
        return status;
    if (!type)
        return error_set(error, GRAFT_FORMAT, "a decoder has no type");
    if (strcmp(type, "ByteLevel") == 0)
        t->decode_bytes = true;
    else if (strcmp(type, "ByteFallback") == 0)
        t->decode_fallback = true;
    else if (strcmp(type, "Fuse") == 0)
        state->fused = true;
    else if (strcmp(type, "Metaspace") == 0)
        status = decode_metaspace(t, node, error);
    else if (strcmp(type, "Replace") == 0)
        status = decode_replace(t, node, error);
    else if (strcmp(type, "Strip") == 0)
        status = decode_strip(t, node, state, error);
    else if (strcmp(type, "Sequence") == 0 && state->depth < MAX_NEST) {
        size_t i;
        json_t *child;
        state->depth++;
        json_array_foreach(json_object_get(node, "decoders"), i, child)
        {
            status = read_decoder(t, child, state, error);
            if (status)
                break;
        }
        state->depth--;
    } else
        status = spec_refuse(error, "decoder", type);
    return status;
}

static graft_status spec_read_decoder(struct tokenizer *t, const json_t *node, graft_error *error)
{
    struct decoder_state state = {0};
    if (node && !json_is_null(node))
        return read_decoder(t, node, &state, error);
    if (t->pre.byte_level)
        t->decode_bytes = true;
    else
        t->join_spaces = true;
    return GRAFT_OK;
}

/* ---- post-processor: does it begin with a BOS? ------------------------------------------------- */

static graft_status first_special(struct tokenizer *t, const char *text, graft_error *error)
{
    t->has_adds_bos = true;
    t->adds_bos = text != NULL;
    return text ? role_set(t, ROLE_BOS, text, error) : GRAFT_OK;
}

static graft_status read_processor(struct tokenizer *t, const json_t *node, int depth,
                                   graft_error *error)
{
    if (!node || json_is_null(node))
        return GRAFT_OK;
    const char *type = NULL;
    graft_status status = json_get_string(node, "type", &type, error);
    if (status || !type)
        return status ? status : error_set(error, GRAFT_FORMAT, "a post-processor has no type");
    if (strcmp(type, "ByteLevel") == 0)
        return GRAFT_OK;
    if (strcmp(type, "TemplateProcessing") == 0) {
        const json_t *first = json_array_get(json_object_get(node, "single"), 0);
        const char *text = NULL;
        status = json_get_string(json_object_get(first, "SpecialToken"), "id", &text, error);
        return status ? status : first_special(t, text, error);
    }
    if (strcmp(type, "BertProcessing") == 0 || strcmp(type, "RobertaProcessing") == 0) {
        const json_t *text = json_array_get(json_object_get(node, "cls"), 0);
        return first_special(t, json_string_value(text), error);
    }
    if (strcmp(type, "Sequence") == 0 && depth < MAX_NEST) {
        size_t i;
        json_t *child;
        json_array_foreach(json_object_get(node, "processors"), i, child)
        {
            status = read_processor(t, child, depth + 1, error);
            if (status)
                return status;
        }
        return GRAFT_OK;
    }
    return spec_refuse(error, "post-processor", type);
}

/* ---- added tokens ------------------------------------------------------------------------------ */

static bool reserve_added(struct tokenizer *t)
{
    if (t->n_added < t->added_capacity)
        return true;
    size_t capacity = t->added_capacity ? t->added_capacity * 2 : 32;
    struct added_token *grown = mem_resize(t->mem, t->added, capacity * sizeof *grown);
    if (!grown)
        return false;
    t->added = grown;
    t->added_capacity = capacity;
    return true;
}

graft_status added_add(struct tokenizer *t, int32_t id, const json_t *node, graft_error *error)
{
    const json_t *content = json_object_get(node, "content");
    struct added_token a = {.id = id};
    if (!json_is_string(content))
        return error_set(error, GRAFT_FORMAT, "added token %d has no content", id);
    if (json_string_length(content) > MAX_ADDED_BYTES)
        return error_set(error, GRAFT_LIMIT, "added token %d is longer than %d bytes", id,
                         MAX_ADDED_BYTES);
    graft_status status = json_get_bool(node, "special", &a.special, error);
    if (!status)
        status = json_get_bool(node, "lstrip", &a.lstrip, error);
    if (!status)
        status = json_get_bool(node, "rstrip", &a.rstrip, error);
    if (!status)
        status = json_get_bool(node, "single_word", &a.single_word, error);
    if (!status)
        status = json_get_bool(node, "normalized", &a.normalized, error);
    /* A content that the model has already keeps the model's id. */
    int32_t known = vocab_find(&t->vocab, json_string_value(content), json_string_length(content));
    if (known >= 0)
        a.id = id = known;
    if (!status)
        status = vocab_set(&t->vocab, id, json_string_value(content), json_string_length(content),
                           error);
    if (status || t->vocab.tokens[id].added)
        return status;
    struct token *token = &t->vocab.tokens[id];
    token->added = true;
    token->special = a.special;
    if (token->type != TOKEN_UNKNOWN)
        token->type = a.special ? TOKEN_CONTROL : TOKEN_USER;
    a.text = token->text;
    a.length = token->length;
    if (!reserve_added(t))
        return no_memory(error);
    t->added[t->n_added++] = a;
    return GRAFT_OK;
}

static graft_status read_added(struct tokenizer *t, const json_t *list, graft_error *error)
{
    size_t i;
    json_t *node;
    if (list && !json_is_array(list) && !json_is_null(list))
        return error_set(error, GRAFT_FORMAT, "added_tokens is not a list");
    json_array_foreach(list, i, node)
    {
        int64_t id = -1;
        graft_status status = json_get_int(node, "id", 0, MAX_VOCAB - 1, &id, error);
        if (!status && id < 0)
            status = error_set(error, GRAFT_FORMAT, "an added token has no id");
        /* Ids are dense but for small gaps: a far one would only cost memory. */
        if (!status && id > 2 * (int64_t)t->vocab.count + 65536)
            status =
                error_set(error, GRAFT_LIMIT, "added token id %d is far above the others", (int)id);
        if (!status)
            status = added_add(t, (int32_t)id, node, error);
        if (status)
            return status;
    }
    return GRAFT_OK;
}

/* ---- all of it --------------------------------------------------------------------------------- */

graft_status spec_read(struct tokenizer *t, const json_t *spec, graft_error *error)
{
    graft_status status = read_model(t, json_object_get(spec, "model"), error);
    if (!status)
        status = read_added(t, json_object_get(spec, "added_tokens"), error);
    if (!status)
        status = spec_read_normalizer(t, json_object_get(spec, "normalizer"), error);
    if (!status)
        status = spec_read_pretokenizer(t, json_object_get(spec, "pre_tokenizer"), error);
    if (!status)
        status = spec_read_decoder(t, json_object_get(spec, "decoder"), error);
    if (!status)
        status = read_processor(t, json_object_get(spec, "post_processor"), 0, error);
    return status;
}

static int append_dump(const char *text, size_t size, void *buf)
{
    return buf_append(buf, text, size) ? 0 : -1;
}

graft_status spec_keep(struct tokenizer *t, const json_t *spec, graft_error *error)
{
    static const char *const parts[] = {"normalizer", "pre_tokenizer", "post_processor", "decoder"};
    static const char *const settings[] = {"type",     "unk_token",     "unk_id",
                                           "fuse_unk", "byte_fallback", "ignore_merges"};
    struct buf text;
    buf_init(&text, t->mem, SIZE_MAX);
    json_t *kept = json_object(), *model = json_object();
    bool ok = kept && model;
    for (size_t i = 0; i < ARRAY_LEN(settings) && ok; i++) {
        json_t *value = json_object_get(json_object_get(spec, "model"), settings[i]);
        ok = !value || json_object_set(model, settings[i], value) == 0;
    }
    for (size_t i = 0; i < ARRAY_LEN(parts) && ok; i++) {
        json_t *value = json_object_get(spec, parts[i]);
        ok = json_object_set_new(kept, parts[i], value ? json_incref(value) : json_null()) == 0;
    }
    ok = ok && json_object_set(kept, "model", model) == 0 &&
         json_dump_callback(kept, append_dump, &text, JSON_COMPACT) == 0;
    json_decref(model);
    json_decref(kept);
    t->spec = ok ? buf_take(&text, NULL) : NULL;
    buf_free(&text);
    return t->spec ? GRAFT_OK : no_memory(error);
}
