/* json_open.c: tokenizer.json, and vocab.json with merges.txt, to a tokenizer.
 *
 * Reads vocabulary and merges; everything else is the spec's. vocab.json and merges.txt say nothing
 * about how text is cut: tokenizer_config.json names the tokenizer's class, which does.
 */
#include "tokenizer_internal.h"

#if JANSSON_VERSION_HEX >= 0x020E00
#define KEY_LENGTH(object, key) json_object_iter_key_len(json_object_key_to_iter(key))
#else
#define KEY_LENGTH(object, key) strlen(key) /* refuses NUL in keys itself */
#endif

/* {"text": id, …} */
static graft_status read_vocab(struct tokenizer *t, json_t *vocab, graft_error *error)
{
    if (!json_is_object(vocab))
        return error_set(error, GRAFT_FORMAT, "the tokenizer's vocabulary is not an object");
    int64_t limit = 2 * (int64_t)json_object_size(vocab) + 65536;
    if (limit > MAX_VOCAB)
        limit = MAX_VOCAB;
    if (!str_map_reserve(&t->vocab.index, json_object_size(vocab)))
        return error_set(error, GRAFT_NO_MEMORY, "out of memory for the vocabulary");
    const char *key;
    json_t *value;
    json_object_foreach(vocab, key, value)
    {
        json_int_t id = json_is_integer(value) ? json_integer_value(value) : -1;
        if (id < 0 || id >= limit)
            return error_set(error, GRAFT_FORMAT, "token '%.60s' has no proper id", key);
        graft_status status = vocab_set(&t->vocab, (int32_t)id, key, KEY_LENGTH(vocab, key), error);
        if (status)
            return status;
    }
    return GRAFT_OK;
}

/* [["text", score], …] */
static graft_status read_pieces(struct tokenizer *t, const json_t *vocab, graft_error *error)
{
    if (!json_is_array(vocab) || json_array_size(vocab) > MAX_VOCAB)
        return error_set(error, GRAFT_FORMAT, "the tokenizer's vocabulary is not a list");
    size_t i;
    json_t *piece;
    json_array_foreach(vocab, i, piece)
    {
        const json_t *text = json_array_get(piece, 0), *score = json_array_get(piece, 1);
        if (!json_is_string(text) || !json_is_number(score))
            return error_set(error, GRAFT_FORMAT, "piece %zu is not a text and a score", i);
        graft_status status = vocab_set(&t->vocab, (int32_t)i, json_string_value(text),
                                        json_string_length(text), error);
        if (status)
            return status;
        t->vocab.tokens[i].score = json_number_value(score);
    }
    return GRAFT_OK;
}

/* ["a b", …] or [["a", "b"], …] */
static graft_status read_merges(struct tokenizer *t, const json_t *merges, graft_error *error)
{
    if (!json_is_array(merges) || json_array_size(merges) > INT32_MAX)
        return error_set(error, GRAFT_FORMAT, "the tokenizer's merges are not a list");
    if (!merge_table_reserve(&t->bpe.merges, json_array_size(merges)))
        return error_set(error, GRAFT_NO_MEMORY, "out of memory for merges");
    size_t i;
    json_t *merge;
    json_array_foreach(merges, i, merge)
    {
        const json_t *left = json_array_get(merge, 0), *right = json_array_get(merge, 1);
        graft_status status;
        if (json_is_string(merge))
            status = bpe_add_merge_line(t, json_string_value(merge), json_string_length(merge),
                                        (uint32_t)i, error);
        else if (json_is_string(left) && json_is_string(right))
            status = bpe_add_merge(t, json_string_value(left), json_string_length(left),
                                   json_string_value(right), json_string_length(right), (uint32_t)i,
                                   error);
        else
            status = error_set(error, GRAFT_FORMAT, "merge %zu is not two tokens", i);
        if (status)
            return status;
    }
    return GRAFT_OK;
}

static graft_status build(struct tokenizer *t, const json_t *root, const json_t *config,
                          graft_error *error)
{
    const json_t *model = json_object_get(root, "model");
    json_t *vocab = json_object_get(model, "vocab");
    if (!json_is_object(model))
        return error_set(error, GRAFT_FORMAT, "tokenizer.json has no model");
    graft_status status = json_is_array(vocab) ? read_pieces(t, vocab, error) : GRAFT_OK;
    if (!status && json_is_object(vocab))
        status = read_vocab(t, vocab, error);
    /* Other models are refused by name before their vocabulary is missed. */
    if (!status)
        status = spec_read(t, root, error);
    if (!status && t->kind == MODEL_BPE)
        status = read_merges(t, json_object_get(model, "merges"), error);
    if (!status && json_is_array(vocab) != (t->kind == MODEL_UNIGRAM))
        status = error_set(error, GRAFT_FORMAT, "the vocabulary is not of the model's kind");
    if (!status)
        status = config_read(t, config, error);
    if (!status)
        status = spec_keep(t, root, error);
    if (!status)
        status = tokenizer_finish(t, error);
    return status;
}

graft_status tokenizer_parse_json(struct mem *mem, const char *text, size_t size,
                                  const json_t *config, struct tokenizer **out, graft_error *error)
{
    json_t *root = NULL;
    graft_status status = json_parse(text, size, &root, error);
    if (status)
        return status;
    struct tokenizer *t = tokenizer_new(mem);
    status = t ? build(t, root, config, error)
               : error_set(error, GRAFT_NO_MEMORY, "out of memory for a tokenizer");
    json_decref(root);
    if (status)
        tokenizer_close(&t);
    else
        *out = t;
    return status;
}

/* ---- vocab.json + merges.txt ------------------------------------------------------------------- */

/* The spec that a tokenizer class implies; a new reference. */
static json_t *class_spec(const json_t *config, graft_error *error)
{
    const char *class = json_string_value(json_object_get(config, "tokenizer_class"));
    int prefix = json_is_true(json_object_get(config, "add_prefix_space"));
    bool qwen = class && strncmp(class, "Qwen2Tokenizer", 14) == 0;
    if (class && !qwen && strncmp(class, "GPT2Tokenizer", 13) != 0) {
        spec_refuse(error, "tokenizer class", class);
        return NULL;
    }
    json_t *spec =
        qwen ? json_pack("{s:{s:s}, s:{s:s, s:[{s:s, s:{s:s}, s:s, s:b},"
                         "{s:s, s:b, s:b, s:b}]}, s:{s:s}, s:{s:s}}",
                         "normalizer", "type", "NFC", "pre_tokenizer", "type", "Sequence",
                         "pretokenizers", "type", "Split", "pattern", "Regex", qwen2_pattern,
                         "behavior", "Isolated", "invert", 0, "type", "ByteLevel",
                         "add_prefix_space", 0, "trim_offsets", 0, "use_regex", 0, "decoder",
                         "type", "ByteLevel", "model", "type", "BPE")
             : json_pack("{s:{s:s, s:b, s:b}, s:{s:s}, s:{s:s}}", "pre_tokenizer", "type",
                         "ByteLevel", "add_prefix_space", prefix, "use_regex", 1, "decoder", "type",
                         "ByteLevel", "model", "type", "BPE");
    if (!spec)
        error_set(error, GRAFT_NO_MEMORY, "out of memory for a tokenizer");
    return spec;
}

static graft_status read_merge_lines(struct tokenizer *t, const char *text, size_t size,
                                     graft_error *error)
{
    uint32_t rank = 0;
    const char *end = text + size;
    for (bool first = true; text < end; first = false) {
        const char *line_end = memchr(text, '\n', (size_t)(end - text));
        const char *next = line_end ? line_end + 1 : end;
        size_t length = (size_t)((line_end ? line_end : end) - text);
        if (length && text[length - 1] == '\r')
            length--;
        bool version = first && length >= 8 && memcmp(text, "#version", 8) == 0;
        if (length && !version) {
            graft_status status = bpe_add_merge_line(t, text, length, rank++, error);
            if (status)
                return status;
        }
        text = next;
    }
    return GRAFT_OK;
}

/* GPT-2's own files name no special token; it has this one. */
static graft_status add_end_of_text(struct tokenizer *t, graft_error *error)
{
    static const char name[] = "<|endoftext|>";
    int32_t id = vocab_find(&t->vocab, name, sizeof name - 1);
    if (t->n_added || id < 0)
        return GRAFT_OK;
    json_t *node = json_pack("{s:s, s:b}", "content", name, "special", 1);
    graft_status status = added_add(t, id, node, error);
    json_decref(node);
    if (!status)
        status = role_set(t, ROLE_EOS, name, error);
    if (!status)
        status = role_set(t, ROLE_BOS, name, error);
    return status;
}

graft_status tokenizer_parse_vocab_merges(struct mem *mem, const char *vocab, size_t vocab_size,
                                          const char *merges, size_t merges_size,
                                          const json_t *config, struct tokenizer **out,
                                          graft_error *error)
{
    json_t *tokens = NULL, *spec = NULL;
    struct tokenizer *t = NULL;
    graft_status status = json_parse(vocab, vocab_size, &tokens, error);
    if (status)
        return status;
    graft_error reason = {.status = GRAFT_NO_MEMORY};
    spec = class_spec(config, error ? error : &reason);
    t = spec ? tokenizer_new(mem) : NULL;
    if (!spec)
        status = error ? error->status : reason.status;
    else if (!t)
        status = error_set(error, GRAFT_NO_MEMORY, "out of memory for a tokenizer");
    else
        status = read_vocab(t, tokens, error);
    if (!status)
        status = spec_read(t, spec, error);
    if (!status)
        status = read_merge_lines(t, merges, merges_size, error);
    if (!status)
        status = config_read(t, config, error);
    if (!status)
        status = add_end_of_text(t, error);
    if (!status)
        status = spec_keep(t, spec, error);
    if (!status)
        status = tokenizer_finish(t, error);
    json_decref(tokens);
    json_decref(spec);
    if (status)
        tokenizer_close(&t);
    else
        *out = t;
    return status;
}
