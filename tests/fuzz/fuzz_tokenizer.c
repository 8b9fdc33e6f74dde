/* fuzz_tokenizer.c: hostile tokenizer files and hostile texts.
 *
 * The first byte chooses: 'j' tokenizer.json, 'v' vocab.json and merges.txt (between them 0xFE), 'g'
 * GGUF, 'r' a regular expression in a byte-level vocabulary; the file's bytes end at the first 0xFF
 * and a text follows. 'b', 's', 'u': the rest is text for a vocabulary of ours. What was read must
 * encode any text or say why not, a stream of tokens must join to what decoding gives, and what is
 * written must be read again to the same ids.
 */
#include "../unit/tokenizer_fixture.h"

enum { TEXT_MAX = 2048 };

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void require(bool condition)
{
    if (!condition)
        abort();
}

static bool whole(const struct buf *b)
{
    return utf8_complete(b->data ? b->data : "", b->size) == b->size;
}

static void check_decoding(const struct tokenizer *t, const struct tokens *ids)
{
    struct buf text, stream;
    struct detokenizer d = {0};
    buf_init(&text, NULL, SIZE_MAX);
    buf_init(&stream, NULL, SIZE_MAX);
    require(tokenizer_decode(t, ids->ids, ids->count, true, &text, NULL) == GRAFT_OK);
    for (size_t i = 0; i < ids->count; i++) {
        require(detokenizer_push(&d, t, ids->ids[i], true, &stream, NULL) == GRAFT_OK);
        require(whole(&stream));
    }
    require(detokenizer_flush(&d, &stream, NULL) == GRAFT_OK);
    uint32_t code;
    size_t at = 0;
    while (at < text.size) {
        int n = utf8_decode(text.data + at, text.size - at, &code);
        if (!n)
            break;
        at += (size_t)n;
    }
    if (at == text.size) /* malformed bytes become U+FFFD in a stream */
        require(stream.size == text.size &&
                (text.size == 0 || memcmp(stream.data, text.data, text.size) == 0));
    buf_free(&text);
    buf_free(&stream);
}

static void check_again(const struct tokenizer *t, const char *text, size_t size, int flags,
                        const struct tokens *ids)
{
    char *json = NULL;
    size_t json_size;
    struct tokenizer *again = NULL;
    struct tokens more = {0};
    graft_error error;
    if (tokenizer_write_json(t, NULL, &json, &json_size, &error) != GRAFT_OK)
        return;
    require(tokenizer_parse_json(NULL, json, json_size, NULL, &again, &error) == GRAFT_OK);
    require(tokenizer_encode(again, text, size, flags, &more, &error) == GRAFT_OK);
    require(more.count == ids->count);
    for (size_t i = 0; i < more.count; i++)
        require(more.ids[i] == ids->ids[i]);
    tokens_free(&more);
    tokenizer_close(&again);
    mem_free(NULL, json);
}

static void use(const struct tokenizer *t, const char *text, size_t size)
{
    graft_error error;
    if (size > TEXT_MAX)
        size = TEXT_MAX;
    for (int flags = 0; flags <= TOKENIZE_SPECIAL; flags += TOKENIZE_SPECIAL) {
        struct tokens ids = {0};
        graft_status status = tokenizer_encode(t, text, size, flags, &ids, &error);
        require(status == GRAFT_OK || status == GRAFT_LIMIT);
        for (size_t i = 0; i < ids.count; i++)
            require(ids.ids[i] >= 0 && ids.ids[i] < tokenizer_size(t));
        check_decoding(t, &ids);
        if (status == GRAFT_OK && !flags)
            check_again(t, text, size, flags, &ids);
        tokens_free(&ids);
    }
    struct gguf_writer w;
    gguf_writer_init(&w, NULL);
    tokenizer_write_gguf(t, tokenizer_size(t), &w, &error);
    gguf_writer_free(&w);
}

static struct tokenizer *open_gguf(const uint8_t *data, size_t size)
{
    struct gguf gguf = {0};
    struct tokenizer *t = NULL;
    if (gguf_parse(&gguf, NULL, data, size, NULL) == GRAFT_OK)
        tokenizer_open_gguf(NULL, &gguf, &t, NULL);
    gguf_free(&gguf);
    return t;
}

static struct tokenizer *open_vocab_merges(const char *data, size_t size)
{
    struct tokenizer *t = NULL;
    const char *cut = memchr(data, 0xFE, size);
    size_t vocab = cut ? (size_t)(cut - data) : size;
    tokenizer_parse_vocab_merges(NULL, data, vocab, cut ? cut + 1 : data,
                                 cut ? size - vocab - 1 : 0, NULL, &t, NULL);
    return t;
}

/* A byte-level vocabulary that cuts text by the pattern. */
static struct tokenizer *open_regex(const char *data, size_t size)
{
    struct tokenizer *t = NULL;
    struct buf pre, json;
    buf_init(&pre, NULL, SIZE_MAX);
    buf_init(&json, NULL, SIZE_MAX);
    json_t *split = json_pack("{s:s, s:[{s:s, s:{s:s%}, s:s, s:b}, {s:s, s:b, s:b}]}", "type",
                              "Sequence", "pretokenizers", "type", "Split", "pattern", "Regex",
                              data, size, "behavior", "Isolated", "invert", 0, "type", "ByteLevel",
                              "add_prefix_space", 0, "use_regex", 0);
    char *text = split ? json_dumps(split, 0) : NULL;
    if (text) {
        struct fixture_parts parts = {.pre_tokenizer = text, .decoder = BYTE_LEVEL_DECODER};
        fixture_byte_level(&json, &parts);
        tokenizer_parse_json(NULL, json.data, json.size, NULL, &t, NULL);
    }
    free(text);
    json_decref(split);
    buf_free(&pre);
    buf_free(&json);
    return t;
}

static struct tokenizer *open_fixture(char kind)
{
    struct tokenizer *t = NULL;
    struct buf json;
    buf_init(&json, NULL, SIZE_MAX);
    if (kind == 'b') {
        struct fixture_parts parts = {.pre_tokenizer = QWEN2_PRE, .decoder = BYTE_LEVEL_DECODER};
        fixture_byte_level(&json, &parts);
    } else if (kind == 's') {
        struct fixture_parts parts = {.normalizer = SPM_NORMALIZER,
                                      .decoder = SPM_DECODER,
                                      .added = SPM_ADDED,
                                      .model = SPM_MODEL};
        fixture_spm(&json, &parts);
    } else {
        struct fixture_parts parts = {.normalizer = "{\"type\":\"NFKC\"}",
                                      .pre_tokenizer = METASPACE("always", "true"),
                                      .decoder = METASPACE("always", "true")};
        fixture_unigram(&json, &parts, true);
    }
    require(tokenizer_parse_json(NULL, json.data, json.size, NULL, &t, NULL) == GRAFT_OK);
    buf_free(&json);
    return t;
}

/* Byte-level text comes back whatever its bytes are. */
static void check_lossless(const struct tokenizer *t, const char *text, size_t size)
{
    struct tokens ids = {0};
    struct buf out;
    buf_init(&out, NULL, SIZE_MAX);
    require(tokenizer_encode(t, text, size, 0, &ids, NULL) == GRAFT_OK);
    require(tokenizer_decode(t, ids.ids, ids.count, false, &out, NULL) == GRAFT_OK);
    require(out.size == size && (size == 0 || memcmp(out.data, text, size) == 0));
    buf_free(&out);
    tokens_free(&ids);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    if (size == 0)
        return 0;
    char kind = (char)*data++;
    size--;
    const uint8_t *cut = size ? memchr(data, 0xFF, size) : NULL;
    size_t head = cut ? (size_t)(cut - data) : size;
    const char *bytes = (const char *)data;
    const char *text = cut ? (const char *)cut + 1 : "the world's 12 aaaa";
    size_t text_size = cut ? size - head - 1 : strlen(text);
    struct tokenizer *t = NULL;
    if (kind == 'j')
        tokenizer_parse_json(NULL, bytes, head, NULL, &t, NULL);
    else if (kind == 'v')
        t = open_vocab_merges(bytes, head);
    else if (kind == 'g')
        t = open_gguf(data, size);
    else if (kind == 'r')
        t = open_regex(bytes, head);
    else if (kind == 'b' || kind == 's' || kind == 'u') {
        t = open_fixture(kind);
        text = bytes;
        text_size = size;
        if (kind == 'b')
            check_lossless(t, text, text_size);
    }
    if (t)
        use(t, text, text_size);
    tokenizer_close(&t);
    return 0;
}
