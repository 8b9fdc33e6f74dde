/* test_tokenizer_files.c: what surrounds a vocabulary: configuration files, roles, templates; what is
 * refused and how it is said; streams; threads.
 */
#include "unit/tokenizer_open.h"

#include <pthread.h>

/* ---- tokenizer.json that is refused ------------------------------------------------------------ */

#define WITH(part)                                                                                 \
    "{" part ",\"model\":{\"type\":\"BPE\",\"vocab\":{\"a\":0,\"b\":1},\"merges\":[]}}"
#define MODEL(rest) "{\"model\":{" rest "}}"
#define BPE_AB "\"type\":\"BPE\",\"vocab\":{\"a\":0,\"b\":1,\"ab\":2},"

static const struct {
    const char *json;
    graft_status status;
    const char *part;
} refused[] = {
    {"", GRAFT_FORMAT, "JSON"},
    {"[]", GRAFT_FORMAT, "no model"},
    {"{\"model\":[]}", GRAFT_FORMAT, "no model"},
    {MODEL("\"type\":\"WordPiece\",\"vocab\":{\"a\":0}"), GRAFT_UNSUPPORTED, "WordPiece"},
    {MODEL("\"type\":\"WordLevel\",\"vocab\":{\"a\":0}"), GRAFT_UNSUPPORTED, "WordLevel"},
    {MODEL("\"vocab\":{}"), GRAFT_UNSUPPORTED, "without a type"},
    {MODEL("\"type\":\"BPE\",\"vocab\":{},\"merges\":[]"), GRAFT_FORMAT, "no tokens"},
    {MODEL("\"type\":\"BPE\",\"vocab\":{\"a\":-1},\"merges\":[]"), GRAFT_FORMAT, "proper id"},
    {MODEL("\"type\":\"BPE\",\"vocab\":{\"a\":99999999},\"merges\":[]"), GRAFT_FORMAT, "proper id"},
    {MODEL("\"type\":\"BPE\",\"vocab\":{\"a\":\"x\"},\"merges\":[]"), GRAFT_FORMAT, "proper id"},
    {MODEL("\"type\":\"BPE\",\"vocab\":{\"a\":1,\"b\":1},\"merges\":[]"), GRAFT_FORMAT,
     "token id 1"},
    {MODEL("\"type\":\"BPE\",\"vocab\":[[\"a\",1]],\"merges\":[]"), GRAFT_FORMAT, "kind"},
    {MODEL("\"type\":\"BPE\",\"vocab\":7,\"merges\":[]"), GRAFT_FORMAT, "no tokens"},
    {MODEL(BPE_AB "\"merges\":7"), GRAFT_FORMAT, "merges"},
    {MODEL(BPE_AB "\"merges\":[7]"), GRAFT_FORMAT, "merge 0"},
    {MODEL(BPE_AB "\"merges\":[\"ab\"]"), GRAFT_FORMAT, "merge 0"},
    {MODEL(BPE_AB "\"merges\":[\"b a\"]"), GRAFT_FORMAT, "merge 0"},
    {MODEL(BPE_AB "\"merges\":[],\"dropout\":0.1"), GRAFT_UNSUPPORTED, "dropout"},
    {MODEL(BPE_AB "\"merges\":[],\"end_of_word_suffix\":\"</w>\""), GRAFT_UNSUPPORTED,
     "end_of_word_suffix"},
    {MODEL(BPE_AB "\"merges\":[],\"continuing_subword_prefix\":\"##\""), GRAFT_UNSUPPORTED,
     "continuing_subword_prefix"},
    {MODEL(BPE_AB "\"merges\":[],\"unk_token\":\"z\""), GRAFT_FORMAT, "unknown token 'z'"},
    {MODEL(BPE_AB "\"merges\":[],\"fuse_unk\":1"), GRAFT_FORMAT, "fuse_unk"},
    {MODEL("\"type\":\"Unigram\",\"vocab\":[[\"a\"]]"), GRAFT_FORMAT, "piece 0"},
    {MODEL("\"type\":\"Unigram\",\"vocab\":[[\"a\",0]],\"unk_id\":1"), GRAFT_FORMAT, "unk_id"},
    {MODEL("\"type\":\"Unigram\",\"vocab\":{\"a\":0}"), GRAFT_FORMAT, "kind"},
    {WITH("\"normalizer\":{\"type\":\"Nmt\"}"), GRAFT_UNSUPPORTED, "Nmt"},
    {WITH("\"normalizer\":{\"type\":\"BertNormalizer\"}"), GRAFT_UNSUPPORTED, "BertNormalizer"},
    {WITH("\"normalizer\":{}"), GRAFT_FORMAT, "no type"},
    {WITH("\"normalizer\":{\"type\":\"Prepend\"}"), GRAFT_FORMAT, "no prepend"},
    {WITH("\"normalizer\":{\"type\":\"Replace\",\"content\":\"x\"}"), GRAFT_FORMAT, "pattern"},
    {WITH("\"normalizer\":{\"type\":\"Precompiled\",\"precompiled_charsmap\":7}"), GRAFT_FORMAT,
     "charsmap"},
    {WITH("\"normalizer\":{\"type\":\"Precompiled\",\"precompiled_charsmap\":\"!\"}"), GRAFT_FORMAT,
     "base64"},
    {WITH("\"normalizer\":{\"type\":\"Precompiled\",\"precompiled_charsmap\":\"AAAA\"}"),
     GRAFT_FORMAT, "malformed"},
    {WITH("\"pre_tokenizer\":{\"type\":\"BertPreTokenizer\"}"), GRAFT_UNSUPPORTED,
     "BertPreTokenizer"},
    {WITH("\"pre_tokenizer\":{}"), GRAFT_FORMAT, "no type"},
    {WITH("\"pre_tokenizer\":{\"type\":\"Split\",\"pattern\":{\"Regex\":\"(\"},\"behavior\":"
          "\"Isolated\"}"),
     GRAFT_UNSUPPORTED, "regular expression"},
    {WITH("\"pre_tokenizer\":{\"type\":\"Split\",\"pattern\":{\"String\":\"a\"},\"behavior\":"
          "\"Sideways\"}"),
     GRAFT_UNSUPPORTED, "Sideways"},
    {WITH("\"pre_tokenizer\":{\"type\":\"Metaspace\",\"prepend_scheme\":\"odd\"}"),
     GRAFT_UNSUPPORTED, "odd"},
    {WITH("\"pre_tokenizer\":{\"type\":\"Metaspace\",\"replacement\":\"\"}"), GRAFT_FORMAT,
     "replacement"},
    {WITH("\"pre_tokenizer\":" PRE_SEQUENCE(BYTE_LEVEL_PLAIN "," BYTE_LEVEL_PLAIN)),
     GRAFT_UNSUPPORTED, "ByteLevel twice"},
    {WITH("\"decoder\":{\"type\":\"CTC\"}"), GRAFT_UNSUPPORTED, "CTC"},
    {WITH("\"decoder\":{}"), GRAFT_FORMAT, "no type"},
    {WITH("\"decoder\":{\"type\":\"Strip\",\"content\":\"x\",\"start\":2}"), GRAFT_UNSUPPORTED,
     "Strip"},
    {WITH("\"decoder\":{\"type\":\"Replace\",\"pattern\":{\"Regex\":\"x\"},\"content\":\"\"}"),
     GRAFT_UNSUPPORTED, "Replace"},
    {WITH("\"decoder\":{\"type\":\"Replace\",\"pattern\":{\"String\":\"\"},\"content\":\"\"}"),
     GRAFT_FORMAT, "empty"},
    {WITH("\"decoder\":{\"type\":\"Sequence\",\"decoders\":[{\"type\":\"Metaspace\"},"
          "{\"type\":\"Metaspace\"}]}"),
     GRAFT_UNSUPPORTED, "second"},
    {WITH("\"post_processor\":{\"type\":\"Odd\"}"), GRAFT_UNSUPPORTED, "Odd"},
    {WITH("\"post_processor\":{}"), GRAFT_FORMAT, "no type"},
    {WITH("\"added_tokens\":{}"), GRAFT_FORMAT, "not a list"},
    {WITH("\"added_tokens\":[{\"id\":3}]"), GRAFT_FORMAT, "no content"},
    {WITH("\"added_tokens\":[{\"content\":\"x\"}]"), GRAFT_FORMAT, "no id"},
    {WITH("\"added_tokens\":[{\"id\":1,\"content\":\"x\"}]"), GRAFT_FORMAT, "token id 1"},
    {WITH("\"added_tokens\":[{\"id\":9999999,\"content\":\"x\"}]"), GRAFT_LIMIT, "far above"},
};

static void other_tokenizers_are_refused_by_name(void **state)
{
    (void)state;
    for (size_t i = 0; i < ARRAY_LEN(refused); i++) {
        struct tokenizer *t = NULL;
        graft_error error = {0};
        graft_status status =
            tokenizer_parse_json(NULL, refused[i].json, strlen(refused[i].json), NULL, &t, &error);
        if (status != refused[i].status || t || !strstr(error.message, refused[i].part))
            fail_msg("%s: %d '%s'", refused[i].json, status, error.message);
    }
}

/* Repeats `item` n times with commas. */
static void repeat(struct buf *out, const char *item, int n)
{
    for (int i = 0; i < n; i++)
        buf_printf(out, "%s%s", i ? "," : "", item);
}

static void too_many_steps_are_refused(void **state)
{
    (void)state;
    static const struct {
        const char *key, *sequence, *list, *item;
    } cases[] = {{"normalizer", "Sequence", "normalizers", "{\"type\":\"NFC\"}"},
                 {"pre_tokenizer", "Sequence", "pretokenizers", "{\"type\":\"Digits\"}"},
                 {"pre_tokenizer", "Sequence", "pretokenizers", "{\"type\":\"Metaspace\"}"}};
    for (size_t i = 0; i < ARRAY_LEN(cases); i++) {
        struct buf json;
        struct tokenizer *t = NULL;
        buf_init(&json, NULL, SIZE_MAX);
        buf_printf(&json, "{\"%s\":{\"type\":\"%s\",\"%s\":[", cases[i].key, cases[i].sequence,
                   cases[i].list);
        repeat(&json, cases[i].item, 25);
        buf_puts(&json, "]},\"model\":{\"type\":\"BPE\",\"vocab\":{\"a\":0},\"merges\":[]}}");
        assert_int_equal(tokenizer_parse_json(NULL, json.data, json.size, NULL, &t, NULL),
                         GRAFT_LIMIT);
        buf_free(&json);
    }
}

/* ---- configuration ----------------------------------------------------------------------------- */

static void configuration_gives_roles_and_tokens(void **state)
{
    (void)state;
    struct tokenizer *t = open_config(
        BYTES, &byte_parts,
        "{\"bos_token\":null,\"eos_token\":{\"content\":\"<|im_end|>\"},\"pad_token\":\"<p>\","
        "\"add_bos_token\":true,\"model_max_length\":1000000000000000019884624838656,"
        "\"added_tokens_decoder\":{\"290\":{\"content\":\"<p>\",\"special\":true},"
        "\"276\":{\"content\":\"<|im_end|>\",\"special\":true}},"
        "\"chat_template\":[{\"name\":\"tool_use\",\"template\":\"A\"},"
        "{\"name\":\"default\",\"template\":\"B\"}]}");
    assert_int_equal(tokenizer_eos(t), 276);
    assert_int_equal(tokenizer_pad(t), 290);
    assert_int_equal(tokenizer_size(t), 291);
    assert_string_equal(tokenizer_special_text(t, "pad_token"), "<p>");
    assert_null(tokenizer_special_text(t, "bos_token"));
    assert_null(tokenizer_special_text(t, "mask_token"));
    assert_string_equal(tokenizer_chat_template(t), "B");
    assert_false(tokenizer_adds_bos(t)); /* asked for, but there is none */
    assert_null(tokenizer_token(t, 285, NULL));
    assert_null(tokenizer_token(t, 291, NULL));
    assert_false(tokenizer_is_end(t, -1));
    assert_false(tokenizer_is_special(t, 300));
    tokenizer_close(&t);
    t = open_kind(SPM, &spm_parts);
    assert_true(tokenizer_adds_bos(t)); /* by its post-processor */
    assert_int_equal(tokenizer_bos(t), 1);
    assert_null(tokenizer_chat_template(t));
    tokenizer_close(&t);
    t = open_config(SPM, &spm_parts, "{\"add_bos_token\":false,\"chat_template\":[]}");
    assert_false(tokenizer_adds_bos(t));
    tokenizer_close(&t);
    struct fixture_parts p = spm_parts;
    p.post_processor = "{\"type\":\"Sequence\",\"processors\":[{\"type\":\"ByteLevel\"},"
                       "{\"type\":\"RobertaProcessing\",\"cls\":[\"<s>\",1]}]}";
    t = open_kind(SPM, &p);
    assert_true(tokenizer_adds_bos(t));
    tokenizer_close(&t);
}

static void bad_configuration_is_refused(void **state)
{
    (void)state;
    static const char *const configs[] = {
        "[]", "{\"added_tokens_decoder\":{\"x\":{\"content\":\"a\"}}}",
        "{\"added_tokens_decoder\":{\"\":{\"content\":\"a\"}}}",
        "{\"added_tokens_decoder\":{\"99999999\":{\"content\":\"a\"}}}",
        "{\"added_tokens_decoder\":{\"300\":{}}}"};
    for (size_t i = 0; i < ARRAY_LEN(configs); i++) {
        struct buf json;
        struct tokenizer *t = NULL;
        json_t *c = NULL;
        make_json(BYTES, &byte_parts, &json);
        assert_int_equal(json_parse(configs[i], strlen(configs[i]), &c, NULL), GRAFT_OK);
        assert_int_equal(tokenizer_parse_json(NULL, json.data, json.size, c, &t, NULL),
                         GRAFT_FORMAT);
        assert_null(t);
        json_decref(c);
        buf_free(&json);
    }
}

/* ---- directories ------------------------------------------------------------------------------- */

static void put_file(struct scratch *s, const char *name, const char *text)
{
    assert_int_equal(file_write_atomic(NULL, scratch_path(s, name), text, strlen(text), NULL),
                     GRAFT_OK);
}

static void directories_are_read(void **state)
{
    (void)state;
    struct scratch s;
    struct tokenizer *t = NULL;
    graft_error error = {0};
    scratch_open(&s);
    assert_int_equal(tokenizer_open_dir(NULL, s.folder, &t, &error), GRAFT_NOT_FOUND);
    assert_string_equal(error.file, s.folder);
    put_file(&s, "vocab.json", "{\"a\":0,\"b\":1,\"ab\":2,\"<|endoftext|>\":3,\"\xC4\xA0\":4}");
    assert_int_equal(tokenizer_open_dir(NULL, s.folder, &t, NULL), GRAFT_NOT_FOUND);
    put_file(&s, "merges.txt", "#version: 0.2\na b\r\n\n");
    assert_int_equal(tokenizer_open_dir(NULL, s.folder, &t, NULL), GRAFT_OK);
    IDS(t, "ab ab<|endoftext|>", TOKENIZE_SPECIAL, 2, 4, 2, 3);
    assert_int_equal(tokenizer_eos(t), 3);
    tokenizer_close(&t);
    /* added_tokens.json counts where the configuration lists none */
    put_file(&s, "added_tokens.json", "{\"<x>\":5,\"<y>\":6,\"<z>\":7}");
    put_file(&s, "special_tokens_map.json",
             "{\"eos_token\":{\"content\":\"<x>\"},\"additional_special_tokens\":[\"<y>\"]}");
    put_file(&s, "tokenizer_config.json", "{\"tokenizer_class\":\"Qwen2TokenizerFast\"}");
    put_file(&s, "chat_template.jinja", "from the file");
    assert_int_equal(tokenizer_open_dir(NULL, s.folder, &t, NULL), GRAFT_OK);
    assert_int_equal(tokenizer_eos(t), 5);
    assert_true(tokenizer_is_special(t, 5) && tokenizer_is_special(t, 6));
    assert_false(tokenizer_is_special(t, 7));
    assert_string_equal(tokenizer_chat_template(t), "from the file");
    tokenizer_close(&t);
    put_file(&s, "tokenizer_config.json", "{\"tokenizer_class\":\"BertTokenizer\"}");
    assert_int_equal(tokenizer_open_dir(NULL, s.folder, &t, &error), GRAFT_UNSUPPORTED);
    assert_non_null(strstr(error.message, "BertTokenizer"));
    put_file(&s, "tokenizer_config.json", "[]");
    assert_int_equal(tokenizer_open_dir(NULL, s.folder, &t, NULL), GRAFT_FORMAT);
    put_file(&s, "tokenizer_config.json", "{\"chat_template\":\"from the configuration\"}");
    put_file(&s, "tokenizer.json", "{\"model\":{" BPE_AB "\"merges\":[[\"a\",\"b\"]]}}");
    assert_int_equal(tokenizer_open_dir(NULL, s.folder, &t, NULL), GRAFT_OK);
    IDS(t, "aab", 0, 0, 2);
    assert_string_equal(tokenizer_chat_template(t), "from the file");
    tokenizer_close(&t);
    put_file(&s, "tokenizer.json", "{\"model\":");
    graft_error_init(&error);
    assert_int_equal(tokenizer_open_dir(NULL, s.folder, &t, &error), GRAFT_FORMAT);
    assert_string_equal(error.file, scratch_path(&s, "tokenizer.json"));
    scratch_close(&s);
}

static void vocab_and_merges_that_disagree_are_refused(void **state)
{
    (void)state;
    struct tokenizer *t = NULL;
    graft_error error = {0};
    static const char vocab[] = "{\"a\":0,\"b\":1}";
    assert_int_equal(
        tokenizer_parse_vocab_merges(NULL, vocab, strlen(vocab), "a b", 3, NULL, &t, &error),
        GRAFT_FORMAT);
    assert_int_equal(tokenizer_parse_vocab_merges(NULL, "[]", 2, "", 0, NULL, &t, &error),
                     GRAFT_FORMAT);
    assert_int_equal(tokenizer_parse_vocab_merges(NULL, "{", 1, "", 0, NULL, &t, NULL),
                     GRAFT_FORMAT);
    assert_null(t);
}

/* ---- decoding ---------------------------------------------------------------------------------- */

static void streams_hold_back_unfinished_characters(void **state)
{
    (void)state;
    struct tokenizer *t =
        open_kind(BYTES, &(struct fixture_parts){.pre_tokenizer = BYTE_LEVEL_PLAIN});
    static const struct {
        const char *bytes, *text;
    } cases[] = {{"\xE2\x82\xAC", "\xE2\x82\xAC"},
                 {"\xE2\x82x", "\xEF\xBF\xBDx"},
                 {"\xE2\x82", "\xEF\xBF\xBD"},
                 {"\xF0\x9F\x98\x80!", "\xF0\x9F\x98\x80!"},
                 {"\xFF\xC0\x80", "\xEF\xBF\xBD\xEF\xBF\xBD\xEF\xBF\xBD"},
                 {"\xED\xA0\x80", "\xEF\xBF\xBD\xEF\xBF\xBD\xEF\xBF\xBD"},
                 {"\xF0\x9F\xE2\x82\xAC", "\xEF\xBF\xBD\xE2\x82\xAC"},
                 {"\xF4\x90z", "\xEF\xBF\xBD\xEF\xBF\xBDz"}};
    for (size_t i = 0; i < ARRAY_LEN(cases); i++) {
        struct detokenizer d = {0};
        struct buf out;
        buf_init(&out, NULL, SIZE_MAX);
        buf_puts(&out, "");
        for (const char *c = cases[i].bytes; *c; c++) {
            assert_int_equal(detokenizer_push(&d, t, (uint8_t)*c, false, &out, NULL), GRAFT_OK);
            assert_int_equal(utf8_complete(out.data, out.size), out.size);
        }
        assert_int_equal(detokenizer_flush(&d, &out, NULL), GRAFT_OK);
        assert_string_equal(out.data, cases[i].text);
        buf_free(&out);
    }
    struct detokenizer d = {0};
    struct buf out;
    graft_error error;
    buf_init(&out, NULL, 2);
    assert_int_equal(detokenizer_push(&d, t, 256, false, &out, &error), GRAFT_OK);
    assert_int_equal(detokenizer_push(&d, t, 276, false, &out, &error), GRAFT_INVALID_ARGUMENT);
    assert_int_equal(detokenizer_push(&d, t, -1, false, &out, &error), GRAFT_INVALID_ARGUMENT);
    assert_int_equal(detokenizer_push(&d, t, 'x', false, &out, &error), GRAFT_LIMIT);
    d = (struct detokenizer){"\xE2", 1, true};
    assert_int_equal(detokenizer_flush(&d, &out, &error), GRAFT_LIMIT);
    assert_int_equal(tokenizer_decode(t, (int32_t[]){'x'}, 1, false, &out, &error), GRAFT_LIMIT);
    buf_free(&out);
    buf_init(&out, NULL, SIZE_MAX);
    buf_puts(&out, "ab");
    assert_int_equal(tokenizer_decode(t, (int32_t[]){1, 999}, 2, false, &out, &error),
                     GRAFT_INVALID_ARGUMENT);
    assert_int_equal(out.size, 2); /* as before the call */
    buf_free(&out);
    tokenizer_close(&t);
}

static void only_the_first_space_is_taken_away(void **state)
{
    (void)state;
    struct tokenizer *t = open_kind(SPM, &spm_parts);
    int32_t ids[] = {1, fixture_id(t, M), fixture_id(t, M "the")};
    struct buf out;
    buf_init(&out, NULL, SIZE_MAX);
    assert_int_equal(tokenizer_decode(t, ids, 3, false, &out, NULL), GRAFT_OK);
    assert_string_equal(out.data, " the");
    out.size = 0;
    assert_int_equal(tokenizer_decode(t, ids, 3, true, &out, NULL), GRAFT_OK);
    assert_string_equal(out.data, "<s>  the");
    buf_free(&out);
    tokenizer_close(&t);
}

static void *encode_often(void *tokenizer)
{
    const struct tokenizer *t = tokenizer;
    size_t sum = 0;
    for (int i = 0; i < 200; i++) {
        struct tokens ids = {0};
        if (tokenizer_encode(t, "the world's 12 aaaa e\xCC\x81", 22, 0, &ids, NULL) == GRAFT_OK)
            sum += ids.count;
        tokens_free(&ids);
    }
    return (void *)(uintptr_t)sum;
}

static void many_threads_share_one_tokenizer(void **state)
{
    (void)state;
    struct tokenizer *t = open_kind(BYTES, &byte_parts);
    pthread_t threads[4];
    void *sums[4];
    for (int i = 0; i < 4; i++)
        assert_int_equal(pthread_create(&threads[i], NULL, encode_often, t), 0);
    for (int i = 0; i < 4; i++)
        assert_int_equal(pthread_join(threads[i], &sums[i]), 0);
    for (int i = 0; i < 4; i++)
        assert_ptr_equal(sums[i], sums[0]);
    assert_non_null(sums[0]);
    tokenizer_close(&t);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(other_tokenizers_are_refused_by_name),
        cmocka_unit_test(too_many_steps_are_refused),
        cmocka_unit_test(configuration_gives_roles_and_tokens),
        cmocka_unit_test(bad_configuration_is_refused),
        cmocka_unit_test(directories_are_read),
        cmocka_unit_test(vocab_and_merges_that_disagree_are_refused),
        cmocka_unit_test(streams_hold_back_unfinished_characters),
        cmocka_unit_test(only_the_first_space_is_taken_away),
        cmocka_unit_test(many_threads_share_one_tokenizer),
    };
    return cmocka_run_group_tests_name("tokenizer files", tests, NULL, NULL);
}
