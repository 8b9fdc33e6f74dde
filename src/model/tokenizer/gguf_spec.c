/* gguf_spec.c: the spec that the metadata of a GGUF file implies. */
#include "tokenizer_internal.h"

#define KEY(name) "tokenizer.ggml." name

static json_t *no_memory(graft_error *error)
{
    error_set(error, GRAFT_NO_MEMORY, "out of memory for a tokenizer");
    return NULL;
}

static bool model_is(const struct gguf *g, const char *name)
{
    const char *text = NULL;
    size_t length = 0;
    return gguf_get_string(g, KEY("model"), &text, &length, NULL) == GRAFT_OK && text &&
           length == strlen(name) && memcmp(text, name, length) == 0;
}

/* Tokens that are not found by the model but in the text itself. NULL: no memory. */
static json_t *added_list(const struct tokenizer *t)
{
    json_t *list = json_array();
    for (int32_t id = 0; id < t->vocab.count && list; id++) {
        const struct token *token = &t->vocab.tokens[id];
        bool special = token->type == TOKEN_CONTROL || token->type == TOKEN_UNKNOWN;
        if (!token->text || token->length > MAX_ADDED_BYTES ||
            (!special && token->type != TOKEN_USER) || !utf8_valid(token->text, token->length))
            continue;
        json_append(&list, json_pack("{s:i, s:s%, s:b}", "id", (int)id, "content", token->text,
                                     (size_t)token->length, "special", (int)special));
    }
    return list;
}

/* The text of a token, when JSON can hold it; else NULL. */
static const char *json_text(const struct tokenizer *t, int64_t id)
{
    const struct token *token = id >= 0 && id < t->vocab.count ? &t->vocab.tokens[id] : NULL;
    return token && token->text && utf8_valid(token->text, token->length) ? token->text : NULL;
}

/* {"type": "Sequence", key: list}; takes list over. */
static json_t *sequence(const char *key, json_t *list)
{
    return json_pack("{s:s, s:o}", "type", "Sequence", key, list);
}

/* TemplateProcessing that puts one token in front, or null. */
static json_t *bos_processor(const struct tokenizer *t, int64_t bos)
{
    const char *text = json_text(t, bos);
    if (!text)
        return json_null();
    return json_pack("{s:s, s:[{s:{s:s, s:i}}, {s:{s:s, s:i}}],"
                     " s:[{s:{s:s, s:i}}, {s:{s:s, s:i}}, {s:{s:s, s:i}}],"
                     " s:{s:{s:s, s:[i], s:[s]}}}",
                     "type", "TemplateProcessing", "single", "SpecialToken", "id", text, "type_id",
                     0, "Sequence", "id", "A", "type_id", 0, "pair", "SpecialToken", "id", text,
                     "type_id", 0, "Sequence", "id", "A", "type_id", 0, "Sequence", "id", "B",
                     "type_id", 1, "special_tokens", text, "id", text, "ids", (int)bos, "tokens",
                     text);
}

/* ---- gpt2 -------------------------------------------------------------------------------------- */

static json_t *gpt2_splits(const struct pre_rule *rule)
{
    json_t *list = json_array();
    for (int i = 0; i < PRE_PATTERNS && rule->patterns[i]; i++)
        json_append(&list,
                    json_pack("{s:s, s:{s:s}, s:s, s:b}", "type", "Split", "pattern", "Regex",
                              rule->patterns[i], "behavior", "Isolated", "invert", 0));
    json_append(&list, json_pack("{s:s, s:b, s:b, s:b}", "type", "ByteLevel", "add_prefix_space", 0,
                                 "trim_offsets", 0, "use_regex", 0));
    return sequence("pretokenizers", list);
}

static json_t *gpt2_spec(const struct gguf *g, bool *adds_bos, graft_error *error)
{
    const char *name = NULL;
    size_t length = 0;
    if (gguf_get_string(g, KEY("pre"), &name, &length, error) != GRAFT_OK)
        return NULL;
    if (!name) {
        name = "default";
        length = 7;
    }
    const struct pre_rule *rule = pre_rule_named(name, length);
    if (!rule) {
        error_set(error, GRAFT_UNSUPPORTED,
                  "the vocabulary cuts text by '%.*s' (" KEY("pre") "), which graft does not know",
                  (int)(length < 60 ? length : 60), name);
        return NULL;
    }
    *adds_bos = rule->adds_bos;
    json_t *spec = json_pack("{s:n, s:o, s:{s:s}, s:{s:s, s:b}}", "normalizer", "pre_tokenizer",
                             gpt2_splits(rule), "decoder", "type", "ByteLevel", "model", "type",
                             "BPE", "ignore_merges", (int)rule->ignore_merges);
    return spec ? spec : no_memory(error);
}

/* ---- llama ------------------------------------------------------------------------------------- */

static json_t *llama_spec(const struct tokenizer *t, const struct gguf *g, graft_error *error)
{
    bool prefix = true;
    int64_t unk = 0;
    if (gguf_get_bool(g, KEY("add_space_prefix"), &prefix, error) ||
        gguf_get_int(g, KEY("unknown_token_id"), INT64_MIN, INT64_MAX, &unk, error))
        return NULL;
    json_t *normal = json_array(), *decoders = json_array();
    if (prefix)
        json_append(&normal, json_pack("{s:s, s:s}", "type", "Prepend", "prepend", SPACE_MARK));
    json_append(&normal, json_pack("{s:s, s:{s:s}, s:s}", "type", "Replace", "pattern", "String",
                                   " ", "content", SPACE_MARK));
    json_append(&decoders, json_pack("{s:s, s:{s:s}, s:s}", "type", "Replace", "pattern", "String",
                                     SPACE_MARK, "content", " "));
    json_append(&decoders, json_pack("{s:s}", "type", "ByteFallback"));
    json_append(&decoders, json_pack("{s:s}", "type", "Fuse"));
    if (prefix)
        json_append(&decoders, json_pack("{s:s, s:s, s:i, s:i}", "type", "Strip", "content", " ",
                                         "start", 1, "stop", 0));
    json_t *spec = json_pack("{s:o, s:n, s:o, s:{s:s, s:s?, s:b, s:b}}", "normalizer",
                             sequence("normalizers", normal), "pre_tokenizer", "decoder",
                             sequence("decoders", decoders), "model", "type", "BPE", "unk_token",
                             json_text(t, unk), "fuse_unk", 1, "byte_fallback", 1);
    return spec ? spec : no_memory(error);
}

/* ---- t5 ---------------------------------------------------------------------------------------- */

static json_t *base64(const uint8_t *bytes, size_t size)
{
    static const char digits[] = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    struct buf out;
    buf_init(&out, NULL, SIZE_MAX);
    for (size_t i = 0; i < size; i += 3) {
        uint32_t bits = (uint32_t)bytes[i] << 16;
        bits |= i + 1 < size ? (uint32_t)bytes[i + 1] << 8 : 0;
        bits |= i + 2 < size ? bytes[i + 2] : 0;
        buf_putc(&out, digits[bits >> 18]);
        buf_putc(&out, digits[bits >> 12 & 63]);
        buf_putc(&out, i + 1 < size ? digits[bits >> 6 & 63] : '=');
        buf_putc(&out, i + 2 < size ? digits[bits & 63] : '=');
    }
    json_t *text = out.status ? NULL : json_stringn(out.data ? out.data : "", out.size);
    buf_free(&out);
    return text;
}

static json_t *t5_normalizer(const struct gguf *g, bool trim)
{
    json_t *list = json_array();
    const struct gguf_value *map = gguf_find(g, KEY("precompiled_charsmap"));
    if (map && map->is_array && (map->type == GGUF_U8 || map->type == GGUF_I8) && map->count)
        json_append(&list, json_pack("{s:s, s:o}", "type", "Precompiled", "precompiled_charsmap",
                                     base64(map->data, map->size)));
    if (trim) {
        json_append(&list, json_pack("{s:s, s:b, s:b}", "type", "Strip", "strip_left", 1,
                                     "strip_right", 1));
        json_append(&list, json_pack("{s:s, s:{s:s}, s:s}", "type", "Replace", "pattern", "Regex",
                                     " {2,}", "content", " "));
    }
    return sequence("normalizers", list);
}

static json_t *t5_spec(const struct tokenizer *t, const struct gguf *g, graft_error *error)
{
    bool prefix = false, trim = false;
    int64_t unk = 2;
    if (gguf_get_bool(g, KEY("add_space_prefix"), &prefix, error) ||
        gguf_get_bool(g, KEY("remove_extra_whitespaces"), &trim, error) ||
        gguf_get_int(g, KEY("unknown_token_id"), INT64_MIN, INT64_MAX, &unk, error))
        return NULL;
    if (unk < 0 || unk >= t->vocab.count || !t->vocab.tokens[unk].text) {
        error_set(error, GRAFT_FORMAT, "the vocabulary has no unknown token");
        return NULL;
    }
    const char *scheme = prefix ? "always" : "never";
    json_t *spec =
        json_pack("{s:o, s:{s:s, s:s, s:s, s:b}, s:{s:s, s:s, s:s}, s:{s:s, s:i, s:b}}",
                  "normalizer", t5_normalizer(g, trim), "pre_tokenizer", "type", "Metaspace",
                  "replacement", SPACE_MARK, "prepend_scheme", scheme, "split", 1, "decoder",
                  "type", "Metaspace", "replacement", SPACE_MARK, "prepend_scheme", scheme, "model",
                  "type", "Unigram", "unk_id", (int)unk, "byte_fallback", 0);
    return spec ? spec : no_memory(error);
}

json_t *gguf_spec(const struct tokenizer *t, const struct gguf *g, graft_error *error)
{
    bool llama = model_is(g, "llama"), adds_bos = llama;
    json_t *spec = llama               ? llama_spec(t, g, error)
                   : model_is(g, "t5") ? t5_spec(t, g, error)
                                       : gpt2_spec(g, &adds_bos, error);
    if (!spec)
        return NULL;
    int64_t bos = llama ? 1 : -1;
    if (gguf_get_bool(g, KEY("add_bos_token"), &adds_bos, error) ||
        gguf_get_int(g, KEY("bos_token_id"), INT64_MIN, INT64_MAX, &bos, error)) {
        json_decref(spec);
        return NULL;
    }
    json_t *processor = adds_bos ? bos_processor(t, bos) : json_null();
    json_put(&spec, "added_tokens", added_list(t));
    json_put(&spec, "post_processor", processor);
    return spec ? spec : no_memory(error);
}
