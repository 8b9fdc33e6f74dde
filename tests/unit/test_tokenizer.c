/* test_tokenizer.c: tokenizers made on the spot: ids by hand, roles, added tokens, streams, writers,
 * hostile files and texts, lack of memory, threads.
 */
#include "unit/failing_allocator.h"
#include "unit/test_support.h"
#include "unit/tokenizer_fixture.h"

#include <time.h>

/* ---- helpers ----------------------------------------------------------------------------------- */

static struct tokenizer *parse(struct buf *json, const json_t *config)
{
    struct tokenizer *t = NULL;
    graft_error error;
    if (tokenizer_parse_json(NULL, json->data, json->size, config, &t, &error))
        fail_msg("%s", error.message);
    buf_free(json);
    return t;
}

static struct tokenizer *byte_level(const struct fixture_parts *p)
{
    struct buf json;
    buf_init(&json, NULL, SIZE_MAX);
    fixture_byte_level(&json, p);
    return parse(&json, NULL);
}

static struct tokenizer *spm(const struct fixture_parts *p)
{
    struct buf json;
    buf_init(&json, NULL, SIZE_MAX);
    fixture_spm(&json, p);
    return parse(&json, NULL);
}

static struct tokenizer *unigram(const struct fixture_parts *p, bool bytes)
{
    struct buf json;
    buf_init(&json, NULL, SIZE_MAX);
    fixture_unigram(&json, p, bytes);
    return parse(&json, NULL);
}

static const struct fixture_parts plain_bytes = {.pre_tokenizer = BYTE_LEVEL_GPT2,
                                                 .decoder = BYTE_LEVEL_DECODER};
static const struct fixture_parts plain_spm = {
    .normalizer = SPM_NORMALIZER, .decoder = SPM_DECODER, .added = SPM_ADDED, .model = SPM_MODEL};

/* The tokens of text, stored forms joined by '|'. */
static void assert_pieces(const struct tokenizer *t, const char *text, size_t size, int flags,
                          const char *expected)
{
    struct tokens ids = {0};
    struct buf out;
    graft_error error;
    buf_init(&out, NULL, SIZE_MAX);
    buf_puts(&out, "");
    if (tokenizer_encode(t, text, size, flags, &ids, &error))
        fail_msg("%s", error.message);
    for (size_t i = 0; i < ids.count; i++) {
        size_t length = 0;
        const char *piece = tokenizer_token(t, ids.ids[i], &length);
        buf_printf(&out, "%s%.*s", i ? "|" : "", (int)length, piece);
    }
    assert_string_equal(out.data, expected);
    buf_free(&out);
    tokens_free(&ids);
}

#define PIECES(t, text, expected) assert_pieces(t, text, sizeof(text) - 1, 0, expected)
#define PIECES_SPECIAL(t, text, expected)                                                          \
    assert_pieces(t, text, sizeof(text) - 1, TOKENIZE_SPECIAL, expected)

static void assert_decodes(const struct tokenizer *t, const char *text, size_t size,
                           const char *expected)
{
    struct tokens ids = {0};
    struct buf out;
    buf_init(&out, NULL, SIZE_MAX);
    buf_puts(&out, "");
    assert_int_equal(tokenizer_encode(t, text, size, TOKENIZE_SPECIAL, &ids, NULL), GRAFT_OK);
    assert_int_equal(tokenizer_decode(t, ids.ids, ids.count, false, &out, NULL), GRAFT_OK);
    assert_string_equal(out.data, expected);
    buf_free(&out);
    tokens_free(&ids);
}

/* ---- byte-level -------------------------------------------------------------------------------- */

static void byte_level_merges_lowest_rank_first(void **state)
{
    (void)state;
    struct tokenizer *t = byte_level(&plain_bytes);
    PIECES(t, "the world", "t|he|" G "world");
    PIECES(t, "Hello the thing", "Hello|" G "the|" G "t|h|ing");
    PIECES(t, "aaaaa", "aaaa|a");
    PIECES(t, "12 12", "12|" G "|12");
    PIECES(t, "caf\xC3\xA9", "c|a|f|\xC3\x83\xC2\xA9");
    PIECES(t, "", "");
    assert_string_equal(tokenizer_kind(t), "byte-level BPE");
    tokenizer_close(&t);
}

static void every_byte_comes_back(void **state)
{
    (void)state;
    struct tokenizer *t = byte_level(&(struct fixture_parts){.pre_tokenizer = QWEN2_PRE});
    char text[512];
    struct tokens ids = {0};
    struct buf out;
    for (size_t i = 0; i < sizeof text; i++)
        text[i] = (char)(i * 7 + i / 256);
    buf_init(&out, NULL, SIZE_MAX);
    assert_int_equal(tokenizer_encode(t, text, sizeof text, 0, &ids, NULL), GRAFT_OK);
    assert_int_equal(tokenizer_decode(t, ids.ids, ids.count, false, &out, NULL), GRAFT_OK);
    assert_int_equal(out.size, sizeof text);
    assert_memory_equal(out.data, text, sizeof text);
    buf_free(&out);
    tokens_free(&ids);
    tokenizer_close(&t);
}

static void prefix_space_is_added_and_taken_away(void **state)
{
    (void)state;
    struct tokenizer *t = byte_level(&(struct fixture_parts){
        .pre_tokenizer = "{\"type\":\"ByteLevel\"}", .decoder = BYTE_LEVEL_DECODER});
    PIECES(t, "the", G "the");
    PIECES(t, " the", G "the");
    assert_decodes(t, "the the", 7, "the the");
    tokenizer_close(&t);
}

static void ignore_merges_takes_whole_words(void **state)
{
    (void)state;
    struct tokenizer *t =
        byte_level(&(struct fixture_parts){.pre_tokenizer = BYTE_LEVEL_GPT2,
                                           .added = "{\"id\":276,\"content\":\"zq\"}",
                                           .model = "\"ignore_merges\":true,"});
    PIECES(t, " world", G "world");
    PIECES(t, "aaaaaaaa", "aaaaaaaa");
    PIECES(t, "zqy", "zq|y"); /* an added token is matched in the text, not as a word */
    tokenizer_close(&t);
}

/* ---- SentencePiece style ----------------------------------------------------------------------- */

static void spm_marks_spaces_and_falls_back_to_bytes(void **state)
{
    (void)state;
    struct tokenizer *t = spm(&plain_spm);
    PIECES(t, "the world", M "the|" M "world");
    PIECES(t, "Hello", M "Hello");
    PIECES(t, "a  b", M "|a|" M M "|b");
    PIECES(t, "z\n", M "|<0x7A>|<0x0A>");
    PIECES(t, "\xC3\xA9\xE2\x82\xAC", M "|\xC3\xA9|<0xE2>|<0x82>|<0xAC>");
    PIECES(t, "a\xFF", M "|a|<0xFF>");
    assert_string_equal(tokenizer_kind(t), "SentencePiece BPE");
    assert_string_equal(tokenizer_special_text(t, "unk_token"), "<unk>");
    assert_decodes(t, "  the \xE2\x82\xAC", 9, "  the \xE2\x82\xAC");
    tokenizer_close(&t);
}

static void unknown_characters_fuse_when_the_model_says_so(void **state)
{
    (void)state;
    struct fixture_parts p = plain_spm;
    p.model = "\"unk_token\":\"<unk>\",\"fuse_unk\":true,";
    struct tokenizer *t = spm(&p);
    PIECES(t,
           "zz\xFF"
           "azz",
           M "|<unk>|a|<unk>");
    tokenizer_close(&t);
    p.model = "\"unk_token\":\"<unk>\",";
    t = spm(&p);
    PIECES(t, "zza", M "|<unk>|<unk>|a");
    tokenizer_close(&t);
    p.model = "";
    t = spm(&p);
    PIECES(t, "zwzor", M "wor"); /* without an unknown token it is left out, before merging */
    tokenizer_close(&t);
}

static void metaspace_prepends_by_its_scheme(void **state)
{
    (void)state;
    static const struct {
        const char *pre, *two_pieces, *start;
    } cases[] = {{METASPACE("always", "true"), M "the|<s>|" M "the", M "|a"},
                 {METASPACE("first", "true"), M "the|<s>|t|he", M "|a"},
                 {METASPACE("never", "false"), "t|he|<s>|t|he", "a"},
                 {"{\"type\":\"Metaspace\",\"add_prefix_space\":false}", "t|he|<s>|t|he", "a"}};
    for (size_t i = 0; i < ARRAY_LEN(cases); i++) {
        struct fixture_parts p = plain_spm;
        p.normalizer = NULL;
        p.pre_tokenizer = p.decoder = cases[i].pre;
        struct tokenizer *t = spm(&p);
        PIECES_SPECIAL(t, "the<s>the", cases[i].two_pieces);
        PIECES(t, "a", cases[i].start);
        PIECES(t, " the", M "the");
        assert_decodes(t, "a the  b", 8, "a the  b");
        tokenizer_close(&t);
    }
}

/* Without a decoder tokens are joined by spaces, as the tokenizers library does. */
static void no_decoder_joins_by_spaces(void **state)
{
    (void)state;
    struct fixture_parts p = plain_spm;
    p.normalizer = p.decoder = NULL;
    p.pre_tokenizer = "{\"type\":\"Whitespace\"}";
    struct tokenizer *t = spm(&p);
    PIECES(t, "he, a", "he|<0x2C>|a");
    assert_decodes(t, "he a<s>", 7, "he a");
    tokenizer_close(&t);
}

/* ---- unigram ----------------------------------------------------------------------------------- */

static void unigram_takes_the_best_path(void **state)
{
    (void)state;
    struct fixture_parts p = {.pre_tokenizer = METASPACE("always", "true"),
                              .decoder = METASPACE("always", "true")};
    struct tokenizer *t = unigram(&p, false);
    assert_string_equal(tokenizer_kind(t), "unigram");
    PIECES(t, "aba", M "|aba"); /* -9 against -10.25 */
    PIECES(t, "ab", M "ab");
    PIECES(t, "abab", M "ab|ab");
    PIECES(t, "the he", M "the|" M "|he");
    PIECES(t, "zza", M "|<unk>|a"); /* adjacent unknown characters are one */
    PIECES(t, "a\xFFz", M "a|<unk>");
    assert_string_equal(tokenizer_special_text(t, "unk_token"), "<unk>");
    assert_decodes(t, "the ab", 6, "the ab");
    tokenizer_close(&t);
    t = unigram(&p, true);
    PIECES(t, "az\xFF", M "a|<0x7A>|<0xFF>");
    tokenizer_close(&t);
}

/* ---- added tokens ------------------------------------------------------------------------------ */

static void special_tokens_are_text_unless_asked_for(void **state)
{
    (void)state;
    struct tokenizer *t = byte_level(
        &(struct fixture_parts){.pre_tokenizer = BYTE_LEVEL_GPT2,
                                .decoder = BYTE_LEVEL_DECODER,
                                .added = "{\"id\":276,\"content\":\"<he>\",\"special\":true},"
                                         "{\"id\":277,\"content\":\"<in>\",\"special\":false},"
                                         "{\"id\":278,\"content\":\"<in>>\",\"special\":false}"});
    PIECES(t, "a<he>b<in>", "a|<|he|>|b|<in>");
    PIECES_SPECIAL(t, "a<he>b<in>", "a|<he>|b|<in>");
    PIECES(t, "<in>>>", "<in>>|>"); /* the longest of those that begin here */
    PIECES_SPECIAL(t, "<he", "<|he");
    assert_true(tokenizer_is_special(t, 276));
    assert_false(tokenizer_is_special(t, 277));
    assert_decodes(t, "a<he>b<in>", 10, "ab<in>");
    assert_int_equal(tokenizer_size(t), 279);
    tokenizer_close(&t);
}

static void added_tokens_eat_spaces_and_stand_alone(void **state)
{
    (void)state;
    struct tokenizer *t = byte_level(
        &(struct fixture_parts){.pre_tokenizer = BYTE_LEVEL_GPT2,
                                .added = "{\"id\":276,\"content\":\"<l>\",\"lstrip\":true},"
                                         "{\"id\":277,\"content\":\"<r>\",\"rstrip\":true},"
                                         "{\"id\":278,\"content\":\"one\",\"single_word\":true}"});
    PIECES(t, "a \t\xC2\xA0<l> b", "a|<l>|" G "|b");
    PIECES(t, "a <r> \n b", "a|" G "|<r>|b");
    PIECES(t, "<r>  <l>", "<r>|<l>");
    PIECES(t, "one, one1 \xC3\xA9one", "one|,|" G "|o|n|e|1|" G "|\xC3\x83\xC2\xA9|o|n|e");
    tokenizer_close(&t);
}

static void normalized_tokens_match_normalised_text(void **state)
{
    (void)state;
    struct tokenizer *t = byte_level(
        &(struct fixture_parts){.normalizer = "{\"type\":\"Lowercase\"}",
                                .pre_tokenizer = BYTE_LEVEL_GPT2,
                                .added = "{\"id\":276,\"content\":\"HEy\",\"normalized\":true},"
                                         "{\"id\":277,\"content\":\"BYe\",\"normalized\":false},"
                                         "{\"id\":278,\"content\":\"  \",\"normalized\":true}"});
    PIECES(t, "hey HEY", "HEy|" G "|HEy");
    PIECES(t, "bye BYe", "b|y|e|" G "|BYe");
    PIECES(t, "a  b", "a|  |b");
    tokenizer_close(&t);
}

static void an_added_token_of_the_vocabulary_keeps_its_id(void **state)
{
    (void)state;
    struct tokenizer *t = byte_level(
        &(struct fixture_parts){.pre_tokenizer = BYTE_LEVEL_GPT2,
                                .added = "{\"id\":999,\"content\":\"ing\",\"special\":true}"});
    assert_int_equal(tokenizer_size(t), 276);
    assert_true(tokenizer_is_special(t, fixture_id(t, "ing")));
    tokenizer_close(&t);
}

/* ---- normalisers ------------------------------------------------------------------------------- */

static void normalisers_change_the_text_first(void **state)
{
    (void)state;
    static const struct {
        const char *normalizer, *text, *decoded;
    } cases[] = {
        {"{\"type\":\"NFC\"}", "xe\xCC\x81!", "x\xC3\xA9!"},
        {"{\"type\":\"NFD\"}", "x\xC3\xA9!", "xe\xCC\x81!"},
        {"{\"type\":\"NFKC\"}", "\xEF\xAC\x81\xE2\x85\xA7", "fiVIII"},
        {"{\"type\":\"NFKD\"}", "\xC2\xBD\xC3\xA9",
         "1\xE2\x81\x84"
         "2e\xCC\x81"},
        {"{\"type\":\"NFC\"}",
         "a\xFF"
         "e\xCC\x81\xE2\x82",
         "a\xFF\xC3\xA9\xE2\x82"},
        {"{\"type\":\"NFC\"}", "a\xCC\xB1\xCC\xA7\xCC\x81", "\xC3\xA1\xCC\xA7\xCC\xB1"},
        {"{\"type\":\"NFC\"}", "\xE1\x84\x92\xE1\x85\xA1\xE1\x86\xAB", "\xED\x95\x9C"},
        {"{\"type\":\"Lowercase\"}", "A\xC3\x89\xC4\xB0\xFFZ", "a\xC3\xA9i\xCC\x87\xFFz"},
        {"{\"type\":\"StripAccents\"}", "e\xCC\x81\xFF\xCD\x85x", "e\xFFx"},
        {"{\"type\":\"Strip\"}", " \xC2\xA0 a b \n\xE3\x80\x80", "a b"},
        {"{\"type\":\"Strip\",\"strip_left\":false}", " a ", " a"},
        {"{\"type\":\"Strip\",\"strip_right\":false}", " a\xFF ", "a\xFF "},
        {"{\"type\":\"Replace\",\"pattern\":{\"String\":\"oo\"},\"content\":\"u\"}", "fooo", "fuo"},
        {"{\"type\":\"Replace\",\"pattern\":{\"Regex\":\"[0-9]+\"},\"content\":\"#\"}",
         "a12\xFF"
         "3b",
         "a#\xFF#b"},
        {"{\"type\":\"Replace\",\"pattern\":{\"Regex\":\"x*\"},\"content\":\"-\"}", "a\xC3\xA9",
         "-a-\xC3\xA9-"},
        {"{\"type\":\"Prepend\",\"prepend\":\"_\"}", "ab", "_ab"},
        {"{\"type\":\"Sequence\",\"normalizers\":[{\"type\":\"NFD\"},{\"type\":\"StripAccents\"},"
         "{\"type\":\"Lowercase\"}]}",
         "\xC3\x89T\xC3\x89", "ete"},
    };
    for (size_t i = 0; i < ARRAY_LEN(cases); i++) {
        struct tokenizer *t = byte_level(&(struct fixture_parts){.normalizer = cases[i].normalizer,
                                                                 .pre_tokenizer = BYTE_LEVEL_GPT2,
                                                                 .decoder = BYTE_LEVEL_DECODER});
        assert_decodes(t, cases[i].text, strlen(cases[i].text), cases[i].decoded);
        tokenizer_close(&t);
    }
}

/* A million combining marks in falling order of class are sorted in linear time. */
static void long_runs_of_marks_are_no_trap(void **state)
{
    (void)state;
    struct tokenizer *t = byte_level(&(struct fixture_parts){.normalizer = "{\"type\":\"NFC\"}",
                                                             .pre_tokenizer = BYTE_LEVEL_GPT2});
    struct buf text;
    struct tokens ids = {0};
    buf_init(&text, NULL, SIZE_MAX);
    for (int i = 0; i < 500000; i++)
        buf_puts(&text, i < 250000 ? "\xCC\x81" : "\xCC\xB1"); /* classes 230, then 220 */
    clock_t before = clock(); /* of the processor: others may be busy */
    assert_int_equal(tokenizer_encode(t, text.data, text.size, 0, &ids, NULL), GRAFT_OK);
    assert_true(clock() - before < 20 * CLOCKS_PER_SEC);
    assert_int_equal(ids.count, 1000000);
    tokens_free(&ids);
    buf_free(&text);
    tokenizer_close(&t);
}

/* A normaliser with one entry: U+FB01 (EF AC 81) becomes "fi". The trie is darts-clone's. */
static void character_map(struct buf *json)
{
    uint32_t units[1024] = {0};
    /* root offset 256; a byte's node is at offset ^ byte, its label is the byte */
    units[0] = 256u << 10;
    units[256 ^ 0xEF] = 0xEF | 512u << 10;
    size_t at = (256 ^ 0xEF) ^ 512;
    units[at ^ 0xAC] = 0xAC | 256u << 10;
    at = (at ^ 0xAC) ^ 256;
    units[at ^ 0x81] = 0x81 | 1u << 8 | 512u << 10;
    at = (at ^ 0x81) ^ 512;
    units[at] = 1u << 31 | 3;
    uint8_t bytes[4 + sizeof units + 7] = {0};
    uint32_t size = sizeof units;
    memcpy(bytes, &size, 4); /* little-endian hosts only, as all tests here */
    memcpy(bytes + 4, units, sizeof units);
    memcpy(bytes + 4 + sizeof units, "no\0fi\0", 7);
    static const char digits[] = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    buf_init(json, NULL, SIZE_MAX);
    buf_puts(json, "{\"type\":\"Precompiled\",\"precompiled_charsmap\":\"");
    for (size_t i = 0; i + 2 < sizeof bytes; i += 3) {
        uint32_t v = (uint32_t)bytes[i] << 16 | (uint32_t)bytes[i + 1] << 8 | bytes[i + 2];
        for (int k = 18; k >= 0; k -= 6)
            buf_putc(json, digits[v >> k & 63]);
    }
    buf_puts(json, "AA==\"}"); /* 4107 bytes are a multiple of three; one NUL more */
}

static void a_character_map_replaces(void **state)
{
    (void)state;
    struct buf json;
    character_map(&json);
    struct tokenizer *t = byte_level(&(struct fixture_parts){
        .normalizer = json.data, .pre_tokenizer = BYTE_LEVEL_GPT2, .decoder = BYTE_LEVEL_DECODER});
    assert_decodes(t,
                   "a\xEF\xAC\x81"
                   "b\xFF\xEF\xAC\x82",
                   9, "afib\xFF\xEF\xAC\x82");
    assert_decodes(t, "\xEF\xAC\x81\xCC\x81\xCC\x81", 7, "fi\xCC\x81\xCC\x81");
    tokenizer_close(&t);
    buf_free(&json);
}

static void lack_of_memory_for_a_character_map_is_reported(void **state)
{
    (void)state;
    static const char text[] = "a\xEF\xAC\x81"
                               "b\xFF\xEF\xAC\x81\xCC\x81";
    struct buf map, json;
    character_map(&map);
    buf_init(&json, NULL, SIZE_MAX);
    fixture_byte_level(
        &json, &(struct fixture_parts){.normalizer = map.data, .pre_tokenizer = BYTE_LEVEL_GPT2});
    struct failing_allocator failing = {.failed = true};
    for (size_t n = 1; failing.failed; n++) {
        struct mem mem;
        struct tokenizer *t = NULL;
        failing_init(&failing, &mem, n);
        failing.ever_after = true;
        struct tokens ids = {.mem = &mem};
        graft_status status = tokenizer_parse_json(&mem, json.data, json.size, NULL, &t, NULL);
        if (status == GRAFT_OK)
            status = tokenizer_encode(t, text, sizeof text - 1, 0, &ids, NULL);
        assert_int_equal(status, failing.failed ? GRAFT_NO_MEMORY : GRAFT_OK);
        tokens_free(&ids);
        tokenizer_close(&t);
        assert_int_equal(atomic_load(&mem.bytes_in_use), 0);
    }
    buf_free(&json);
    buf_free(&map);
}

static void a_huge_character_map_and_a_long_token_are_refused(void **state)
{
    (void)state;
    enum { MAP = (16 << 20) + 4, TOKEN = (1 << 16) + 1 };
    static const char head[] = "{\"type\":\"Precompiled\",\"precompiled_charsmap\":\"";
    struct buf part, json;
    struct tokenizer *t = NULL;
    graft_error error;
    buf_init(&part, NULL, SIZE_MAX);
    buf_init(&json, NULL, SIZE_MAX);
    buf_printf(&part, "%s%0*d\"}", head, MAP, 0);
    fixture_byte_level(&json, &(struct fixture_parts){.normalizer = part.data});
    assert_int_equal(tokenizer_parse_json(NULL, json.data, json.size, NULL, &t, &error),
                     GRAFT_LIMIT);
    assert_non_null(strstr(error.message, "character map of 16777220 bytes"));
    json.size = 0;
    buf_printf(&json, "{\"model\":{\"type\":\"BPE\",\"vocab\":{\"%0*d\":7},\"merges\":[]}}", TOKEN,
               0);
    assert_int_equal(tokenizer_parse_json(NULL, json.data, json.size, NULL, &t, &error),
                     GRAFT_LIMIT);
    assert_non_null(strstr(error.message, "token 7 has 65537 bytes"));
    assert_null(t);
    buf_free(&part);
    buf_free(&json);
}

/* ---- pre-tokenizers ---------------------------------------------------------------------------- */

#define WITH_BYTES(step) PRE_SEQUENCE(step "," BYTE_LEVEL_PLAIN)

/* Words are shown by a vocabulary in which letters do not merge: each word ends where " t" or "aa"
 * could have merged but did not. */
static void splits_behave_as_named(void **state)
{
    (void)state;
    static const struct {
        const char *pre, *pieces; /* of "aaaa-aa--aa" */
    } cases[] = {
        {SPLIT("-", "Removed", "false"), "aaaa|aa|aa"},
        {SPLIT("-", "Isolated", "false"), "aaaa|-|aa|-|-|aa"},
        {SPLIT("aa", "Removed", "true"), "aa|aa|aa|aa"},
        {SPLIT("aa", "Isolated", "false"), "aa|aa|-|aa|-|-|aa"},
        {SPLIT("a", "Contiguous", "false"), "aaaa|-|aa|-|-|aa"},
        {SPLIT("a(?=-)", "MergedWithPrevious", "false"), "aaaa|-|aa|-|-|aa"},
        {SPLIT("aa(?=-)", "MergedWithNext", "false"), "aa|aa|-|aa|-|-|aa"},
        {SPLIT("(?<=aa)", "Isolated", "false"), "aa|a|a|-|aa|-|-|aa"},
    };
    for (size_t i = 0; i < ARRAY_LEN(cases); i++) {
        char pre[512];
        snprintf(pre, sizeof pre, "{\"type\":\"Sequence\",\"pretokenizers\":[%s,%s]}", cases[i].pre,
                 BYTE_LEVEL_PLAIN);
        struct tokenizer *t = byte_level(&(struct fixture_parts){.pre_tokenizer = pre});
        PIECES(t, "aaaa-aa--aa", cases[i].pieces);
        tokenizer_close(&t);
    }
}

static void named_pretokenizers_cut_as_named(void **state)
{
    (void)state;
    static const struct {
        const char *step, *text, *pieces;
    } cases[] = {
        {"{\"type\":\"Digits\",\"individual_digits\":true}", "in12", "in|1|2"},
        {"{\"type\":\"Digits\"}", "in12", "in|12"},
        {"{\"type\":\"Punctuation\"}", "in$he", "in|$|he"},
        {"{\"type\":\"Whitespace\"}", "in, he", "in|,|he"},
        {"{\"type\":\"WhitespaceSplit\"}", "in, he", "in|,|he"},
        {"{\"type\":\"Split\",\"pattern\":{\"String\":\"h\"},\"behavior\":\"Isolated\"}",
         "\xFFhe\xFE", "\xC3\xBF|h|e|\xC3\xBE"},
        {SPLIT("he", "Isolated", "false"), "a\xFF\xFEhe", "a|\xC3\xBF|\xC3\xBE|he"},
    };
    for (size_t i = 0; i < ARRAY_LEN(cases); i++) {
        char pre[512];
        snprintf(pre, sizeof pre, "{\"type\":\"Sequence\",\"pretokenizers\":[%s,%s]}",
                 cases[i].step, BYTE_LEVEL_PLAIN);
        struct tokenizer *t = byte_level(&(struct fixture_parts){.pre_tokenizer = pre});
        assert_pieces(t, cases[i].text, strlen(cases[i].text), 0, cases[i].pieces);
        tokenizer_close(&t);
    }
}

/* Steps behind ByteLevel see bytes in their printable form: the superscript two in the bytes of
 * U+00B2 is a digit there. */
static void steps_after_byte_level_see_its_characters(void **state)
{
    (void)state;
    struct tokenizer *t = byte_level(&(struct fixture_parts){
        .pre_tokenizer = PRE_SEQUENCE(BYTE_LEVEL_PLAIN ",{\"type\":\"Digits\"}"),
        .decoder = BYTE_LEVEL_DECODER});
    PIECES(t, "a12 t", "a|12|" G "t");
    assert_decodes(t, "\xC2\xB2\xFF 12", 6, "\xC2\xB2\xFF 12");
    tokenizer_close(&t);
}

/* ---- hostile patterns and texts ---------------------------------------------------------------- */

static void a_pattern_that_runs_away_is_an_error(void **state)
{
    (void)state;
    struct tokenizer *t = byte_level(&(struct fixture_parts){
        .pre_tokenizer = WITH_BYTES(SPLIT("(a+a?)+(b+b?)+c", "Isolated", "false"))});
    char text[4096];
    memset(text, 'a', sizeof text);
    memcpy(text + sizeof text - 3, "!bc", 3);
    struct tokens ids = {0};
    graft_error error = {0};
    assert_int_equal(tokenizer_encode(t, text, sizeof text, 0, &ids, &error), GRAFT_LIMIT);
    assert_non_null(strstr(error.message, "too many steps"));
    assert_int_equal(ids.count, 0);
    tokens_free(&ids);
    tokenizer_close(&t);
}

static void long_words_take_no_quadratic_time(void **state)
{
    (void)state;
    enum { N = 1 << 20 };
    char *text = malloc(N);
    assert_non_null(text);
    struct fixture_parts parts = plain_spm;
    struct tokenizer *all[] = {byte_level(&plain_bytes), spm(&parts),
                               unigram(&(struct fixture_parts){.decoder = NULL}, true)};
    for (size_t i = 0; i < ARRAY_LEN(all); i++) {
        for (int letter = 0; letter < 2; letter++) {
            struct tokens ids = {0};
            memset(text, letter ? ' ' : 'a', N);
            clock_t before = clock(); /* of the processor: others may be busy */
            assert_int_equal(tokenizer_encode(all[i], text, N, 0, &ids, NULL), GRAFT_OK);
            assert_true(clock() - before < 30 * CLOCKS_PER_SEC);
            assert_true(ids.count >= N / 8);
            tokens_free(&ids);
        }
        tokenizer_close(&all[i]);
    }
    free(text);
}

/* The heap and the scan merge alike: a long word of short ones, and the short ones alone. */
static void long_and_short_words_merge_alike(void **state)
{
    (void)state;
    struct tokenizer *t = byte_level(&(struct fixture_parts){.pre_tokenizer = BYTE_LEVEL_PLAIN});
    uint32_t seed = 1;
    for (int round = 0; round < 300; round++) {
        char text[256];
        size_t size = 0;
        struct tokens whole = {0}, parts = {0};
        while (size < 200) { /* '~' merges with nothing: words end there */
            static const char letters[] = "aaaa the Hello world12";
            seed = seed * 1664525 + 1013904223;
            size_t n = 1 + (seed >> 20) % 30, from = size;
            for (size_t i = 0; i < n; i++) {
                seed = seed * 1664525 + 1013904223;
                text[size++] = letters[(seed >> 16) % (sizeof letters - 1)];
            }
            text[size++] = '~';
            assert_int_equal(tokenizer_encode(t, text + from, size - from, 0, &parts, NULL),
                             GRAFT_OK);
        }
        assert_int_equal(tokenizer_encode(t, text, size, 0, &whole, NULL), GRAFT_OK);
        assert_int_equal(whole.count, parts.count);
        assert_memory_equal(whole.ids, parts.ids, whole.count * sizeof *whole.ids);
        tokens_free(&whole);
        tokens_free(&parts);
    }
    tokenizer_close(&t);
}

static void the_cache_of_words_changes_nothing(void **state)
{
    (void)state;
    struct tokenizer *t = byte_level(&plain_bytes);
    struct tokens whole = {0}, parts = {0};
    struct buf text;
    buf_init(&text, NULL, SIZE_MAX);
    static const char *const words[] = {
        " the", " world",      " aaaa", " Hello", " in", " x", " theworldtheworldtheworld",
        " 12",  " caf\xC3\xA9"};
    uint32_t seed = 7;
    for (int i = 0; i < 5000; i++) {
        seed = seed * 1664525 + 1013904223;
        const char *word = words[(seed >> 16) % ARRAY_LEN(words)];
        buf_puts(&text, word);
        assert_int_equal(tokenizer_encode(t, word, strlen(word), 0, &parts, NULL), GRAFT_OK);
    }
    assert_int_equal(tokenizer_encode(t, text.data, text.size, 0, &whole, NULL), GRAFT_OK);
    assert_int_equal(whole.count, parts.count);
    assert_memory_equal(whole.ids, parts.ids, whole.count * sizeof *whole.ids);
    buf_free(&text);
    tokens_free(&whole);
    tokens_free(&parts);
    tokenizer_close(&t);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(byte_level_merges_lowest_rank_first),
        cmocka_unit_test(every_byte_comes_back),
        cmocka_unit_test(prefix_space_is_added_and_taken_away),
        cmocka_unit_test(ignore_merges_takes_whole_words),
        cmocka_unit_test(spm_marks_spaces_and_falls_back_to_bytes),
        cmocka_unit_test(unknown_characters_fuse_when_the_model_says_so),
        cmocka_unit_test(metaspace_prepends_by_its_scheme),
        cmocka_unit_test(no_decoder_joins_by_spaces),
        cmocka_unit_test(unigram_takes_the_best_path),
        cmocka_unit_test(special_tokens_are_text_unless_asked_for),
        cmocka_unit_test(added_tokens_eat_spaces_and_stand_alone),
        cmocka_unit_test(normalized_tokens_match_normalised_text),
        cmocka_unit_test(an_added_token_of_the_vocabulary_keeps_its_id),
        cmocka_unit_test(normalisers_change_the_text_first),
        cmocka_unit_test(long_runs_of_marks_are_no_trap),
        cmocka_unit_test(a_character_map_replaces),
        cmocka_unit_test(lack_of_memory_for_a_character_map_is_reported),
        cmocka_unit_test(a_huge_character_map_and_a_long_token_are_refused),
        cmocka_unit_test(splits_behave_as_named),
        cmocka_unit_test(named_pretokenizers_cut_as_named),
        cmocka_unit_test(steps_after_byte_level_see_its_characters),
        cmocka_unit_test(a_pattern_that_runs_away_is_an_error),
        cmocka_unit_test(long_words_take_no_quadratic_time),
        cmocka_unit_test(long_and_short_words_merge_alike),
        cmocka_unit_test(the_cache_of_words_changes_nothing),
    };
    return cmocka_run_group_tests_name("tokenizer", tests, NULL, NULL);
}
