/* test_tokenizer_gguf.c: vocabularies in GGUF metadata made by hand; what the writers write is read
 * again to the same ids, what they cannot write is refused; lack of memory in all of it.
 */
#include "unit/failing_allocator.h"
#include "unit/failing_json.h"
#include "unit/tokenizer_open.h"

static void assert_same_ids(const struct tokenizer *a, const struct tokenizer *b, const char *text)
{
    struct tokens x = {0}, y = {0};
    assert_int_equal(tokenizer_encode(a, text, strlen(text), TOKENIZE_SPECIAL, &x, NULL), GRAFT_OK);
    assert_int_equal(tokenizer_encode(b, text, strlen(text), TOKENIZE_SPECIAL, &y, NULL), GRAFT_OK);
    assert_int_equal(x.count, y.count);
    if (x.count)
        assert_memory_equal(x.ids, y.ids, x.count * sizeof *x.ids);
    tokens_free(&x);
    tokens_free(&y);
}

/* ---- GGUF by hand ------------------------------------------------------------------------------ */

/* Parses what the writer holds. */
static graft_status read_back(struct gguf_writer *w, struct mem *mem, struct tokenizer **out,
                              graft_error *error)
{
    struct scratch scratch;
    struct file_writer file;
    struct file_map map = {0};
    struct gguf gguf = {0};
    scratch_open(&scratch);
    assert_int_equal(file_writer_open(&file, NULL, scratch_path(&scratch, "t"), NULL), GRAFT_OK);
    assert_int_equal(gguf_write_head(w, &file, NULL), GRAFT_OK);
    assert_int_equal(file_writer_commit(&file, NULL), GRAFT_OK);
    assert_int_equal(file_map_open(&map, NULL, scratch_path(&scratch, "t"), MAP_SHARED_FILE, NULL),
                     GRAFT_OK);
    assert_int_equal(gguf_parse(&gguf, NULL, map.data, map.size, NULL), GRAFT_OK);
    graft_status status = tokenizer_open_gguf(mem, &gguf, out, error);
    gguf_free(&gguf);
    file_map_close(&map);
    scratch_close(&scratch);
    return status;
}

static struct tokenizer *through_gguf(const struct tokenizer *t)
{
    struct gguf_writer w;
    struct tokenizer *again = NULL;
    graft_error error;
    gguf_writer_init(&w, NULL);
    if (tokenizer_write_gguf(t, tokenizer_size(t) + 3, &w, &error) ||
        read_back(&w, NULL, &again, &error))
        fail_msg("%s", error.message);
    gguf_writer_free(&w);
    return again;
}

struct gguf_case {
    const char *model, *pre;
    const char *tokens[12];
    int32_t types[12];
    float scores[12];
    const char *merges[4];
};

static void put_case(struct gguf_writer *w, const struct gguf_case *c)
{
    size_t lengths[12] = {0}, n = 0, m = 0;
    gguf_writer_init(w, NULL);
    if (c->model)
        gguf_put_string(w, "tokenizer.ggml.model", c->model, strlen(c->model));
    if (c->pre)
        gguf_put_string(w, "tokenizer.ggml.pre", c->pre, strlen(c->pre));
    for (; n < 12 && c->tokens[n]; n++)
        lengths[n] = strlen(c->tokens[n]);
    if (n)
        gguf_put_strings(w, "tokenizer.ggml.tokens", c->tokens, lengths, n);
    if (n && c->types[0])
        gguf_put_i32s(w, "tokenizer.ggml.token_type", c->types, n);
    if (n && c->scores[n - 1] != 0)
        gguf_put_f32s(w, "tokenizer.ggml.scores", c->scores, n);
    for (; m < 4 && c->merges[m]; m++)
        lengths[m] = strlen(c->merges[m]);
    if (m)
        gguf_put_strings(w, "tokenizer.ggml.merges", c->merges, lengths, m);
}

static const struct gguf_case small_gpt2 = {.model = "gpt2",
                                            .pre = "gpt-2",
                                            .tokens = {"a", "b", G, G "a", "<|im_end|>", "ab"},
                                            .types = {1, 1, 1, 1, 1, 1},
                                            .merges = {G " a", "a b"}};
static const struct gguf_case small_llama = {
    .model = "llama",
    .tokens = {"<unk>", "<s>", "</s>", "<0x7A>", M, "a", M "a", "aa", "\xC3\xA9x", "x", "<u>"},
    .types = {2, 3, 3, 6, 1, 1, 1, 1, 1, 1, 4},
    .scores = {0, 0, 0, 0, -9, -8, -1, -2, -3, -7, -1}};
static const struct gguf_case small_t5 = {.model = "t5",
                                          .tokens = {"<pad>", "</s>", "<unk>", M, "a", M "a", "b"},
                                          .types = {3, 3, 2, 1, 1, 1, 1},
                                          .scores = {0, 0, 0, -3, -2, -4, -5}};

static struct tokenizer *open_case(const struct gguf_case *c)
{
    struct gguf_writer w;
    struct tokenizer *t = NULL;
    graft_error error;
    put_case(&w, c);
    if (read_back(&w, NULL, &t, &error))
        fail_msg("%s", error.message);
    gguf_writer_free(&w);
    return t;
}

static void refuse_case(struct gguf_case c, graft_status status, const char *part)
{
    struct gguf_writer w;
    struct tokenizer *t = NULL;
    graft_error error = {0};
    put_case(&w, &c);
    assert_int_equal(read_back(&w, NULL, &t, &error), status);
    assert_null(t);
    if (!strstr(error.message, part))
        fail_msg("'%s' does not say '%s'", error.message, part);
    gguf_writer_free(&w);
}

static void gguf_kinds_are_read(void **state)
{
    (void)state;
    struct tokenizer *t = open_case(&small_gpt2);
    IDS(t, "a ab<|im_end|>", TOKENIZE_SPECIAL, 0, 3, 1, 4);
    assert_true(tokenizer_is_end(t, 4)); /* a control token by its name, whatever its type */
    assert_int_equal(tokenizer_bos(t), -1);
    tokenizer_close(&t);
    t = open_case(&small_llama);
    IDS(t, "aa<u>", TOKENIZE_BOS, 1, 6, 5, 10);
    IDS(t, "\xC3\xA9x", 0, 4, 8); /* of a character that is no token by itself */
    IDS(t, "\xC3\xA9z", 0, 4, 0, 3);
    assert_true(tokenizer_adds_bos(t));
    assert_int_equal(tokenizer_eos(t), 2);
    assert_string_equal(tokenizer_special_text(t, "unk_token"), "<unk>");
    assert_string_equal(tokenizer_special_text(t, "eos_token"), "</s>");
    tokenizer_close(&t);
    t = open_case(&small_t5);
    IDS(t, "ab a", 0, 4, 6, 5);
    IDS(t, "zz", 0, 2);
    assert_string_equal(tokenizer_kind(t), "unigram");
    assert_int_equal(tokenizer_pad(t), 0);
    assert_int_equal(tokenizer_eos(t), 1);
    assert_false(tokenizer_adds_bos(t));
    tokenizer_close(&t);
}

static void gguf_keys_stand_above_defaults(void **state)
{
    (void)state;
    struct gguf_writer w;
    struct tokenizer *t = NULL;
    put_case(&w, &small_llama);
    gguf_put_bool(&w, "tokenizer.ggml.add_space_prefix", false);
    gguf_put_bool(&w, "tokenizer.ggml.add_bos_token", false);
    gguf_put_u32(&w, "tokenizer.ggml.bos_token_id", UINT32_MAX); /* none */
    gguf_put_u32(&w, "tokenizer.ggml.eos_token_id", 10);
    gguf_put_string(&w, "tokenizer.chat_template", "{{ x }}", 7);
    assert_int_equal(read_back(&w, NULL, &t, NULL), GRAFT_OK);
    IDS(t, "aa", TOKENIZE_BOS, 7);
    assert_int_equal(tokenizer_bos(t), -1);
    assert_null(tokenizer_special_text(t, "bos_token"));
    assert_int_equal(tokenizer_eos(t), 10);
    assert_false(tokenizer_adds_bos(t));
    assert_string_equal(tokenizer_chat_template(t), "{{ x }}");
    gguf_writer_free(&w);
    tokenizer_close(&t);
    put_case(&w, &small_t5);
    gguf_put_bool(&w, "tokenizer.ggml.add_space_prefix", true);
    gguf_put_bool(&w, "tokenizer.ggml.remove_extra_whitespaces", true);
    assert_int_equal(read_back(&w, NULL, &t, NULL), GRAFT_OK);
    IDS(t, "  a   a ", 0, 5, 5);
    gguf_writer_free(&w);
    tokenizer_close(&t);
}

/* A character map is an array of bytes; this one maps nothing, the next one is too short. */
static void gguf_character_maps_are_read(void **state)
{
    (void)state;
    uint8_t bytes[4 + 4 * 256 + 1] = {0, 4, 0, 0};
    struct gguf_value map = {.key = "tokenizer.ggml.precompiled_charsmap",
                             .type = GGUF_U8,
                             .is_array = true,
                             .count = sizeof bytes,
                             .data = bytes,
                             .size = sizeof bytes};
    struct gguf_writer w;
    struct tokenizer *t = NULL;
    put_case(&w, &small_t5);
    gguf_put_value(&w, &map);
    assert_int_equal(read_back(&w, NULL, &t, NULL), GRAFT_OK);
    IDS(t, "ab a\xFF", 0, 4, 6, 5, 2);
    gguf_writer_free(&w);
    tokenizer_close(&t);
    map.count = map.size = 3;
    put_case(&w, &small_t5);
    gguf_put_value(&w, &map);
    assert_int_equal(read_back(&w, NULL, &t, NULL), GRAFT_FORMAT);
    gguf_writer_free(&w);
}

static void gguf_of_the_wrong_types_is_refused(void **state)
{
    (void)state;
    static const struct {
        const char *key;
        const struct gguf_case *c;
    } cases[] = {{"tokenizer.ggml.add_space_prefix", &small_llama},
                 {"tokenizer.ggml.unknown_token_id", &small_t5},
                 {"tokenizer.ggml.add_bos_token", &small_gpt2},
                 {"tokenizer.ggml.bos_token_id", &small_gpt2},
                 {"tokenizer.ggml.eos_token_id", &small_gpt2},
                 {"graft.tokenizer.spec", &small_gpt2},
                 {"tokenizer.chat_template", &small_gpt2}};
    for (size_t i = 0; i < ARRAY_LEN(cases); i++) {
        struct gguf_writer w;
        struct tokenizer *t = NULL;
        put_case(&w, cases[i].c);
        gguf_put_f32(&w, cases[i].key, 1.5f);
        assert_int_equal(read_back(&w, NULL, &t, NULL), GRAFT_FORMAT);
        assert_null(t);
        gguf_writer_free(&w);
    }
    struct gguf_writer w;
    struct tokenizer *t = NULL;
    gguf_writer_init(&w, NULL);
    gguf_put_string(&w, "tokenizer.ggml.model", "gpt2", 4);
    gguf_put_strings(&w, "tokenizer.ggml.tokens", (const char *[]){"a"}, (size_t[]){1}, 1);
    gguf_put_u32(&w, "tokenizer.ggml.merges", 1); /* and no pre: "default" */
    assert_int_equal(read_back(&w, NULL, &t, NULL), GRAFT_FORMAT);
    gguf_put_u32(&w, "tokenizer.ggml.pre", 1);
    assert_int_equal(read_back(&w, NULL, &t, NULL), GRAFT_FORMAT);
    gguf_writer_free(&w);
}

static void gguf_that_says_nonsense_is_refused(void **state)
{
    (void)state;
    struct gguf_case c = {0};
    refuse_case(c, GRAFT_NOT_FOUND, "no vocabulary");
    c.model = "none";
    refuse_case(c, GRAFT_NOT_FOUND, "no vocabulary");
    c.model = "bert";
    refuse_case(c, GRAFT_UNSUPPORTED, "'bert'");
    c.model = "gpt2";
    refuse_case(c, GRAFT_NOT_FOUND, "no vocabulary");
    c = small_gpt2;
    c.pre = "from-the-future";
    refuse_case(c, GRAFT_UNSUPPORTED, "'from-the-future'");
    c = small_gpt2;
    c.merges[0] = NULL;
    refuse_case(c, GRAFT_FORMAT, "no tokenizer.ggml.merges");
    c = small_gpt2;
    c.merges[1] = "b a";
    refuse_case(c, GRAFT_FORMAT, "merge 1");
    c.merges[1] = "ba";
    refuse_case(c, GRAFT_FORMAT, "merge 1 is not two tokens");
    c = small_llama;
    c.scores[10] = (float)(1e30 * 1e30);
    refuse_case(c, GRAFT_FORMAT, "no number");
    c = small_t5;
    c.tokens[2] = "";
    refuse_case(c, GRAFT_FORMAT, "no unknown token");
    struct gguf_writer w;
    struct tokenizer *t = NULL;
    graft_error error;
    gguf_writer_init(&w, NULL);
    gguf_put_string(&w, "tokenizer.ggml.model", "llama", 5);
    gguf_put_u32(&w, "tokenizer.ggml.tokens", 5);
    assert_int_equal(read_back(&w, NULL, &t, &error), GRAFT_FORMAT);
    gguf_writer_free(&w);
    put_case(&w, &small_llama);
    gguf_put_string(&w, "graft.tokenizer.spec", "[", 1);
    assert_int_equal(read_back(&w, NULL, &t, &error), GRAFT_FORMAT);
    gguf_writer_free(&w);
    gguf_writer_init(&w, NULL);
    gguf_put_string(&w, "tokenizer.ggml.model", "llama", 5);
    gguf_put_strings(&w, "tokenizer.ggml.tokens", small_llama.tokens,
                     (size_t[]){5, 3, 4, 6, 3, 1, 4, 2, 3, 1, 3}, 11);
    gguf_put_f32s(&w, "tokenizer.ggml.scores", small_llama.scores, 3);
    assert_int_equal(read_back(&w, NULL, &t, &error), GRAFT_FORMAT);
    assert_non_null(strstr(error.message, "fewer"));
    gguf_writer_free(&w);
}

/* Every name of a pre-tokenizer opens, and "it's 123 x" comes back. */
static void known_pre_names_open(void **state)
{
    (void)state;
    static const char *const names[] = {
        "default",          "llama-bpe", "llama3", "dbrx",   "qwen2",
        "deepseek-r1-qwen", "gpt-2",     "phi-2",  "olmo",   "smollm",
        "starcoder",        "falcon",    "mpt",    "tekken", "deepseek-v3",
        "deepseek-coder",   "bloom",     "viking", "gpt-4o"};
    struct tokenizer *t = open_kind(BYTES, &(struct fixture_parts){.pre_tokenizer = QWEN2_PRE});
    for (size_t i = 0; i < ARRAY_LEN(names); i++) {
        struct gguf_case c = {.model = "gpt2",
                              .pre = names[i],
                              .tokens = {"i", "t", "'", "s", G, "1", "2", "3", "x", "12"},
                              .merges = {"1 2"}};
        struct tokenizer *one = open_case(&c);
        struct tokens ids = {0};
        struct buf out;
        buf_init(&out, NULL, SIZE_MAX);
        assert_int_equal(tokenizer_encode(one, "it's 123 x", 10, 0, &ids, NULL), GRAFT_OK);
        assert_int_equal(tokenizer_decode(one, ids.ids, ids.count, false, &out, NULL), GRAFT_OK);
        assert_string_equal(out.data, "it's 123 x");
        buf_free(&out);
        tokens_free(&ids);
        tokenizer_close(&one);
    }
    tokenizer_close(&t);
}

/* ---- writing ----------------------------------------------------------------------------------- */

#define GPT2_REGEX                                                                                 \
    "'s|'t|'re|'ve|'m|'ll|'d| ?\\\\p{L}+| ?\\\\p{N}+| ?[^\\\\s\\\\p{L}\\\\p{N}]+|\\\\s+(?!\\\\S)"
#define DIGITS(alone) "{\"type\":\"Digits\",\"individual_digits\":" alone "}"

/* tokenizer.ggml.pre as the writer holds it: key, type, 64 bits of length, text. Valid until the next call. */
static const char *written_pre(const struct gguf_writer *w)
{
    static const char key[] = "tokenizer.ggml.pre";
    static char text[32];
    uint64_t length;
    const char *at = memmem(w->values.data, w->values.size, key, sizeof key - 1);
    assert_non_null(at);
    at += sizeof key - 1 + 4;
    memcpy(&length, at, sizeof length);
    assert_true(length < sizeof text);
    memcpy(text, at + sizeof length, length);
    text[length] = '\0';
    return text;
}

/* How text is cut goes into GGUF as a name. */
static void pre_names_are_written(void **state)
{
    (void)state;
    static const struct {
        const char *pre, *name;
    } cases[] = {
        {QWEN2_PRE, "qwen2"},
        {BYTE_LEVEL_GPT2, "gpt-2"},
        {PRE_SEQUENCE(DIGITS("true") "," BYTE_LEVEL_GPT2), "smollm"},
        {PRE_SEQUENCE(SPLIT("[\\\\p{P}\\\\$\\\\+<=>\\\\^~\\\\|]+", "Isolated", "false") "," SPLIT(
             GPT2_REGEX, "Isolated",
             "false") "," DIGITS("false") "," SPLIT("[0-9][0-9][0-9]", "Isolated",
                                                    "false") "," BYTE_LEVEL_PLAIN),
         "default"},
        {PRE_SEQUENCE("{\"type\":\"Split\",\"pattern\":{\"String\":\"x\"},"
                      "\"behavior\":\"Isolated\"}," BYTE_LEVEL_PLAIN),
         NULL},
        {PRE_SEQUENCE(SPLIT("x", "Isolated", "true") "," BYTE_LEVEL_PLAIN), NULL},
    };
    for (size_t i = 0; i < ARRAY_LEN(cases); i++) {
        struct tokenizer *t =
            open_kind(BYTES, &(struct fixture_parts){.pre_tokenizer = cases[i].pre});
        struct gguf_writer w;
        gguf_writer_init(&w, NULL);
        graft_error error = {0};
        graft_status status = tokenizer_write_gguf(t, tokenizer_size(t), &w, &error);
        assert_int_equal(status, cases[i].name != NULL ? GRAFT_OK : GRAFT_UNSUPPORTED);
        if (cases[i].name != NULL) {
            assert_string_equal(written_pre(&w), cases[i].name);
        } else {
            assert_non_null(strstr(error.message, "cuts text"));
        }
        gguf_writer_free(&w);
        tokenizer_close(&t);
    }
}

static const char *const samples[] = {"the world's 12 aaaa Hello",
                                      "e\xCC\x81 caf\xC3\xA9 \xE2\x82\xAC",
                                      "a <t>b<|im_end|>  \n\n x", "<s>the</s> zz", ""};

static void written_tokenizers_are_read_again(void **state)
{
    (void)state;
    const struct {
        enum kind kind;
        const struct fixture_parts *parts;
        bool gguf;
    } cases[] = {
        {BYTES, &byte_parts, true}, {SPM, &spm_parts, true}, {UNIGRAM, &unigram_parts, false}};
    for (size_t i = 0; i < ARRAY_LEN(cases); i++) {
        struct tokenizer *t = open_config(cases[i].kind, cases[i].parts,
                                          "{\"chat_template\":\"T\",\"eos_token\":\"<|im_end|>\"}");
        struct tokenizer *json = NULL, *gguf = cases[i].gguf ? through_gguf(t) : NULL;
        char *text = NULL;
        size_t size;
        assert_int_equal(tokenizer_write_json(t, NULL, &text, &size, NULL), GRAFT_OK);
        assert_int_equal(tokenizer_parse_json(NULL, text, size, NULL, &json, NULL), GRAFT_OK);
        for (size_t k = 0; k < ARRAY_LEN(samples); k++) {
            assert_same_ids(t, json, samples[k]);
            if (gguf)
                assert_same_ids(t, gguf, samples[k]);
        }
        if (gguf) {
            assert_int_equal(tokenizer_size(gguf), tokenizer_size(t) + 3);
            assert_int_equal(tokenizer_eos(gguf), tokenizer_eos(t));
            assert_string_equal(tokenizer_chat_template(gguf), "T");
            assert_int_equal(tokenizer_adds_bos(gguf), tokenizer_adds_bos(t));
        }
        mem_free(NULL, text);
        tokenizer_close(&t);
        tokenizer_close(&json);
        tokenizer_close(&gguf);
    }
}

static void refuse_write(struct tokenizer *t, int32_t more, const char *part)
{
    struct gguf_writer w;
    graft_error error = {0};
    gguf_writer_init(&w, NULL);
    assert_int_equal(tokenizer_write_gguf(t, tokenizer_size(t) + more, &w, &error),
                     GRAFT_UNSUPPORTED);
    if (!strstr(error.message, part))
        fail_msg("'%s' does not say '%s'", error.message, part);
    gguf_writer_free(&w);
    tokenizer_close(&t);
}

static void what_gguf_cannot_hold_is_not_written(void **state)
{
    (void)state;
    struct fixture_parts p = byte_parts;
    refuse_write(open_kind(BYTES, &byte_parts), -1, "rows");
    refuse_write(open_kind(UNIGRAM, &unigram_parts), 0, "unigram");
    p.normalizer = "{\"type\":\"Lowercase\"}";
    refuse_write(open_kind(BYTES, &p), 0, "normalises");
    p = byte_parts;
    p.pre_tokenizer = PRE_SEQUENCE(SPLIT("x", "Removed", "false") "," BYTE_LEVEL_PLAIN);
    refuse_write(open_kind(BYTES, &p), 0, "cuts text");
    p = byte_parts;
    p.model = "\"ignore_merges\":true,"; /* qwen2's pattern, but llama-bpe's way */
    refuse_write(open_kind(BYTES, &p), 0, "cuts text");
    p = spm_parts;
    p.normalizer = "{\"type\":\"NFKC\"}";
    refuse_write(open_kind(SPM, &p), 0, "normalises");
    p = spm_parts;
    p.model = "\"unk_token\":\"<unk>\",";
    refuse_write(open_kind(SPM, &p), 0, "token for each byte");
    p = spm_parts;
    p.model = SPM_MODEL "\"ignore_merges\":true,";
    refuse_write(open_kind(SPM, &p), 0, "ignore_merges");
}

/* SentencePiece vocabularies of newer models mark spaces by Metaspace. */
static void metaspace_is_written_as_gguf(void **state)
{
    (void)state;
    struct fixture_parts p = spm_parts;
    p.normalizer = NULL;
    p.pre_tokenizer = METASPACE("never", "false");
    p.decoder = METASPACE("never", "false");
    struct tokenizer *t = open_kind(SPM, &p), *again = through_gguf(t);
    for (size_t k = 0; k < ARRAY_LEN(samples); k++)
        assert_same_ids(t, again, samples[k]);
    tokenizer_close(&t);
    tokenizer_close(&again);
}

/* tokenizer.json with byte tokens, pieces and merges of the caller. */
static struct tokenizer *open_merges(const char *pieces, const char *merges)
{
    struct buf json;
    struct tokenizer *t = NULL;
    graft_error error;
    buf_init(&json, NULL, SIZE_MAX);
    buf_printf(&json,
               "{\"normalizer\":%s,\"decoder\":%s,\"model\":{" SPM_MODEL
               "\"type\":\"BPE\",\"vocab\":{\"<unk>\":0",
               SPM_NORMALIZER, SPM_DECODER);
    for (unsigned b = 0; b < 256; b++)
        buf_printf(&json, ",\"<0x%02X>\":%u", b, b + 1);
    buf_printf(&json, ",%s},\"merges\":[%s]}}", pieces, merges);
    if (tokenizer_parse_json(NULL, json.data, json.size, NULL, &t, &error))
        fail_msg("%s", error.message);
    buf_free(&json);
    return t;
}

/* What scores cannot say: llama.cpp would merge otherwise. */
static void merges_that_follow_from_no_scores_are_not_written(void **state)
{
    (void)state;
    refuse_write(open_merges("\"a\":300,\"b\":301,\"ab\":302,\"ba\":303,\"aba\":304",
                             "\"a b\",\"ab a\",\"b a\",\"a ba\""),
                 0, "do not follow");
    refuse_write(open_merges("\"a\":300,\"b\":301,\"ab\":302", ""), 0, "do not make");
    struct gguf_case c = small_llama;
    c.tokens[9] = "a";
    c.types[0] = c.types[1] = c.types[2] = 1;
    struct tokenizer *t = open_case(&c);
    refuse_write(t, 0, "token for each byte");
    c = small_gpt2;
    c.tokens[5] = "a";
    c.merges[1] = NULL;
    refuse_write(open_case(&c), 0, "two of its tokens");
}

/* Equal merges: the first counts. Long tokens and many merges: tables grow. */
static void merges_may_be_many_long_and_double(void **state)
{
    (void)state;
    enum { LONGEST = 1 << 16 }; /* the longest that a token may be */
    struct buf pieces, merges;
    buf_init(&pieces, NULL, SIZE_MAX);
    buf_init(&merges, NULL, SIZE_MAX);
    buf_puts(&pieces, "\"a\":300");
    int id = 301;
    for (int n = 2; n <= LONGEST; n *= 2, id++) {
        buf_printf(&pieces, ",\"%0*d\":%d", n, 0, id);
        buf_printf(&merges, "%s\"%0*d %0*d\"", n > 2 ? "," : "", n / 2, 0, n / 2, 0);
    }
    buf_puts(&pieces, ",\"0\":400");
    buf_puts(&merges, ",\"0 0\"");
    struct tokenizer *t = open_merges(pieces.data, merges.data);
    char zeros[5001];
    memset(zeros, '0', 5000);
    zeros[5000] = 0;
    IDS(t, zeros, 0, 227, 151, 130, 312, 309, 308, 307, 303);
    tokenizer_close(&t);
    buf_free(&pieces);
    buf_free(&merges);
}

static void what_json_cannot_hold_is_not_written(void **state)
{
    (void)state;
    char *text = NULL;
    size_t size;
    struct tokenizer *t = open_case(&small_llama); /* a character that is no token */
    assert_int_equal(tokenizer_write_json(t, NULL, &text, &size, NULL), GRAFT_UNSUPPORTED);
    tokenizer_close(&t);
    struct gguf_case c = small_llama;
    c.tokens[8] = "\xFF\xFE";
    t = open_case(&c);
    assert_int_equal(tokenizer_write_json(t, NULL, &text, &size, NULL), GRAFT_UNSUPPORTED);
    tokenizer_close(&t);
    assert_null(text);
}

/* ---- lack of memory ------------------------------------------------------------------- */

static graft_status whole_life(struct mem *mem, const struct buf *json)
{
    struct tokenizer *t = NULL;
    struct tokens ids = {.mem = mem};
    struct gguf_writer w;
    struct buf out;
    char *text = NULL;
    size_t size;
    static const char sample[] =
        "the <|im_end|> e\xCC\x81  world's 12 zzz aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa"
        "aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa \xFF";
    gguf_writer_init(&w, mem);
    buf_init(&out, mem, SIZE_MAX);
    graft_status status = tokenizer_parse_json(mem, json->data, json->size, NULL, &t, NULL);
    for (int i = 0; i < 20 && !status; i++) /* long enough for the cache of words */
        status = buf_append(&out, sample, sizeof sample - 1) ? GRAFT_OK : out.status;
    if (!status)
        status = tokenizer_encode(t, out.data, out.size, TOKENIZE_SPECIAL, &ids, NULL);
    out.size = 0;
    if (!status)
        status = tokenizer_decode(t, ids.ids, ids.count, true, &out, NULL);
    if (!status)
        status = tokenizer_write_json(t, mem, &text, &size, NULL);
    if (!status) {
        status = tokenizer_write_gguf(t, tokenizer_size(t), &w, NULL);
        status = status == GRAFT_UNSUPPORTED ? GRAFT_OK : status; /* unigram */
    }
    mem_free(mem, text);
    gguf_writer_free(&w);
    buf_free(&out);
    tokens_free(&ids);
    tokenizer_close(&t);
    return status;
}

static void lack_of_memory_is_reported_and_leaks_nothing(void **state)
{
    (void)state;
    const struct fixture_parts *parts[] = {&byte_parts, &spm_parts, &unigram_parts};
    for (int kind = BYTES; kind <= UNIGRAM; kind++) {
        struct buf json;
        make_json((enum kind)kind, parts[kind], &json);
        for (size_t n = 1;; n++) {
            struct failing_allocator failing;
            struct mem mem;
            failing_init(&failing, &mem, n);
            graft_status status = whole_life(&mem, &json);
            assert_int_equal(atomic_load(&mem.bytes_in_use), 0);
            if (!failing.failed) {
                assert_int_equal(status, GRAFT_OK);
                break;
            }
            /* Compiling to machine code may do without its memory. */
            if (status != GRAFT_OK)
                assert_int_equal(status, GRAFT_NO_MEMORY);
        }
        buf_free(&json);
    }
}

/* Reading makes a spec of the metadata, writing puts one together: both in JSON. */
static void lack_of_memory_in_the_json_library_is_reported(void **state)
{
    (void)state;
    const struct gguf_case *cases[] = {&small_gpt2, &small_llama, &small_t5};
    uint8_t map[4 + 4 * 256 + 1] = {0, 4, 0, 0};
    const struct gguf_value charsmap = {.key = "tokenizer.ggml.precompiled_charsmap",
                                        .type = GGUF_U8,
                                        .is_array = true,
                                        .count = sizeof map,
                                        .data = map,
                                        .size = sizeof map};
    bool failed;
    for (size_t i = 0; i < ARRAY_LEN(cases); i++) {
        struct gguf_writer w;
        put_case(&w, cases[i]);
        gguf_put_bool(&w, "tokenizer.ggml.remove_extra_whitespaces", true);
        gguf_put_value(&w, &charsmap);
        failed = true;
        for (size_t n = 1; failed; n++) {
            struct tokenizer *t = NULL;
            failing_json_begin(n);
            graft_status status = read_back(&w, NULL, &t, NULL);
            failed = failing_json_end();
            assert_int_equal(status, failed ? GRAFT_NO_MEMORY : GRAFT_OK);
            tokenizer_close(&t);
        }
        gguf_writer_free(&w);
    }
    const struct fixture_parts *parts[] = {&byte_parts, &spm_parts, &unigram_parts};
    for (int kind = BYTES; kind <= UNIGRAM; kind++) {
        struct tokenizer *t = open_kind((enum kind)kind, parts[kind]);
        failed = true;
        for (size_t n = 1; failed; n++) {
            char *text = NULL;
            size_t size = 0;
            failing_json_begin(n);
            graft_status status = tokenizer_write_json(t, NULL, &text, &size, NULL);
            failed = failing_json_end();
            assert_int_equal(status, failed ? GRAFT_NO_MEMORY : GRAFT_OK);
            assert_true(failed == (text == NULL));
            mem_free(NULL, text);
        }
        tokenizer_close(&t);
    }
}

static void lack_of_memory_in_gguf_is_reported(void **state)
{
    (void)state;
    const struct gguf_case *cases[] = {&small_gpt2, &small_llama, &small_t5};
    for (size_t i = 0; i < ARRAY_LEN(cases); i++) {
        struct gguf_writer w;
        put_case(&w, cases[i]);
        gguf_put_string(&w, "tokenizer.chat_template", "T", 1);
        for (size_t n = 1;; n++) {
            struct failing_allocator failing;
            struct mem mem;
            struct tokenizer *t = NULL;
            failing_init(&failing, &mem, n);
            graft_status status = read_back(&w, &mem, &t, NULL);
            tokenizer_close(&t);
            assert_int_equal(atomic_load(&mem.bytes_in_use), 0);
            if (!failing.failed) {
                assert_int_equal(status, GRAFT_OK);
                break;
            }
            if (status != GRAFT_OK)
                assert_int_equal(status, GRAFT_NO_MEMORY);
        }
        gguf_writer_free(&w);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(gguf_kinds_are_read),
        cmocka_unit_test(gguf_keys_stand_above_defaults),
        cmocka_unit_test(gguf_that_says_nonsense_is_refused),
        cmocka_unit_test(gguf_character_maps_are_read),
        cmocka_unit_test(gguf_of_the_wrong_types_is_refused),
        cmocka_unit_test(metaspace_is_written_as_gguf),
        cmocka_unit_test(merges_that_follow_from_no_scores_are_not_written),
        cmocka_unit_test(merges_may_be_many_long_and_double),
        cmocka_unit_test(known_pre_names_open),
        cmocka_unit_test(pre_names_are_written),
        cmocka_unit_test(written_tokenizers_are_read_again),
        cmocka_unit_test(what_gguf_cannot_hold_is_not_written),
        cmocka_unit_test(what_json_cannot_hold_is_not_written),
        cmocka_unit_test(lack_of_memory_is_reported_and_leaks_nothing),
        cmocka_unit_test(lack_of_memory_in_the_json_library_is_reported),
        cmocka_unit_test(lack_of_memory_in_gguf_is_reported),
    };
    return cmocka_run_group_tests_name("tokenizer GGUF", tests, NULL, NULL);
}
