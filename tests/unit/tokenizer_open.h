/* tokenizer_open.h: tokenizers from the fixtures, for several test programs. */
#ifndef GRAFT_TOKENIZER_OPEN_H
#define GRAFT_TOKENIZER_OPEN_H

#include "unit/test_support.h"
#include "unit/tokenizer_fixture.h"

static const struct fixture_parts byte_parts = {
    .normalizer = "{\"type\":\"NFC\"}",
    .pre_tokenizer = QWEN2_PRE,
    .decoder = BYTE_LEVEL_DECODER,
    .added = "{\"id\":276,\"content\":\"<|im_end|>\",\"special\":true},"
             "{\"id\":280,\"content\":\"<t>\",\"lstrip\":true}"};
static const struct fixture_parts spm_parts = {
    .normalizer = SPM_NORMALIZER,
    .decoder = SPM_DECODER,
    .added = SPM_ADDED,
    .model = SPM_MODEL,
    .post_processor =
        "{\"type\":\"TemplateProcessing\",\"single\":[{\"SpecialToken\":{\"id\":\"<s>\","
        "\"type_id\":0}},{\"Sequence\":{\"id\":\"A\",\"type_id\":0}}]}"};
static const struct fixture_parts unigram_parts = {.normalizer = "{\"type\":\"NFKC\"}",
                                                   .pre_tokenizer = METASPACE("always", "true"),
                                                   .decoder = METASPACE("always", "true")};

enum kind { BYTES, SPM, UNIGRAM };

static inline void make_json(enum kind kind, const struct fixture_parts *p, struct buf *json)
{
    buf_init(json, NULL, SIZE_MAX);
    if (kind == BYTES)
        fixture_byte_level(json, p);
    else if (kind == SPM)
        fixture_spm(json, p);
    else
        fixture_unigram(json, p, true);
}

static inline struct tokenizer *open_config(enum kind kind, const struct fixture_parts *p,
                                            const char *config)
{
    struct buf json;
    struct tokenizer *t = NULL;
    graft_error error;
    json_t *c = NULL;
    make_json(kind, p, &json);
    if (config)
        assert_int_equal(json_parse(config, strlen(config), &c, NULL), GRAFT_OK);
    if (tokenizer_parse_json(NULL, json.data, json.size, c, &t, &error))
        fail_msg("%s", error.message);
    json_decref(c);
    buf_free(&json);
    return t;
}

static inline struct tokenizer *open_kind(enum kind kind, const struct fixture_parts *p)
{
    return open_config(kind, p, NULL);
}

static inline void assert_ids(const struct tokenizer *t, const char *text, int flags, size_t n,
                              const int32_t *expected)
{
    struct tokens ids = {0};
    assert_int_equal(tokenizer_encode(t, text, strlen(text), flags, &ids, NULL), GRAFT_OK);
    assert_int_equal(ids.count, n);
    if (n)
        assert_memory_equal(ids.ids, expected, n * sizeof *expected);
    tokens_free(&ids);
}
#define IDS(t, text, flags, ...)                                                                   \
    assert_ids(t, text, flags, ARRAY_LEN(((int32_t[]){__VA_ARGS__})), (int32_t[]){__VA_ARGS__})

#endif
