/* tokenizer_fixture.h: small vocabularies made on the spot, as tokenizer.json text.
 *
 * byte-level: a token for each byte (ids 0..255), then the results of MERGES in order.
 * SentencePiece: <unk> <s> </s>, the 256 byte tokens, then PIECES and the results of their merges.
 */
#ifndef GRAFT_TOKENIZER_FIXTURE_H
#define GRAFT_TOKENIZER_FIXTURE_H

#include "model/tokenizer/tokenizer.h"

/* Parts of a tokenizer.json, as JSON; NULL: null, or nothing for added and model. */
struct fixture_parts {
    const char *normalizer, *pre_tokenizer, *decoder, *post_processor, *added;
    const char *model; /* settings, each ended by a comma */
};

/* Pairs in stored form; G is U+0120, the space. */
#define G "\xC4\xA0"
static const char *const fixture_merges[][2] = {
    {G, "t"},         {"h", "e"},
    {G "t", "he"},    {"i", "n"},
    {"in", "g"},      {"a", "a"},
    {"aa", "aa"},     {G, "w"},
    {"o", "r"},       {G "w", "or"},
    {"l", "d"},       {G "wor", "ld"},
    {"H", "e"},       {"l", "l"},
    {"He", "ll"},     {"Hell", "o"},
    {"1", "2"},       {G, "1"},
    {"aaaa", "aaaa"}, {"\xC3\x83", "\xC2\xA9"}}; /* the last: the two bytes of e with acute */

static inline void fixture_char(struct buf *out, uint32_t code)
{
    char bytes[4];
    int n = utf8_encode(code, bytes);
    if (code == '"' || code == '\\')
        buf_putc(out, '\\');
    buf_append(out, bytes, (size_t)n);
}

static inline void fixture_byte_vocab(struct buf *out)
{
    uint32_t next = 0x100;
    for (uint32_t b = 0; b < 256; b++) {
        bool printable = (b > 32 && b < 127) || (b > 160 && b != 173);
        buf_puts(out, "\"");
        fixture_char(out, printable ? b : next++);
        buf_printf(out, "\":%u,", b);
    }
    for (size_t i = 0; i < ARRAY_LEN(fixture_merges); i++)
        buf_printf(out, "%s\"%s%s\":%zu", i ? "," : "", fixture_merges[i][0], fixture_merges[i][1],
                   256 + i);
}

static inline void fixture_head(struct buf *out, const struct fixture_parts *p)
{
    const char *const parts[][2] = {{"normalizer", p->normalizer},
                                    {"pre_tokenizer", p->pre_tokenizer},
                                    {"decoder", p->decoder},
                                    {"post_processor", p->post_processor}};
    buf_puts(out, "{\"version\":\"1.0\",\"truncation\":{\"max_length\":3},\"padding\":null,");
    for (size_t i = 0; i < ARRAY_LEN(parts); i++)
        buf_printf(out, "\"%s\":%s,", parts[i][0], parts[i][1] ? parts[i][1] : "null");
    buf_printf(out, "\"added_tokens\":[%s],\"model\":{%s", p->added ? p->added : "",
               p->model ? p->model : "");
}

/* tokenizer.json of the byte-level vocabulary. */
static inline void fixture_byte_level(struct buf *out, const struct fixture_parts *p)
{
    fixture_head(out, p);
    buf_puts(out, "\"type\":\"BPE\",\"vocab\":{");
    fixture_byte_vocab(out);
    buf_puts(out, "},\"merges\":[");
    for (size_t i = 0; i < ARRAY_LEN(fixture_merges); i++) /* both forms */
        buf_printf(out, i % 2 ? "%s[\"%s\",\"%s\"]" : "%s\"%s %s\"", i ? "," : "",
                   fixture_merges[i][0], fixture_merges[i][1]);
    buf_puts(out, "]}}");
}

#define M "\xE2\x96\x81"
static const char *const fixture_pieces[] = {M,   "a", "b", "t", "h", "e",       "w",
                                             "o", "r", "l", "d", "H", "\xC3\xA9"};
static const char *const fixture_spm_merges[][2] = {
    {M, "t"},      {"h", "e"}, {M "t", "he"},   {M, "w"},      {"o", "r"},
    {M "w", "or"}, {"l", "d"}, {M "wor", "ld"}, {"a", "a"},    {M, M},
    {"l", "l"},    {"H", "e"}, {"He", "ll"},    {"Hell", "o"}, {M, "Hello"}};

/* tokenizer.json of the SentencePiece-style vocabulary. */
static inline void fixture_spm(struct buf *out, const struct fixture_parts *p)
{
    size_t id = 259;
    fixture_head(out, p);
    buf_puts(out, "\"type\":\"BPE\",\"vocab\":{\"<unk>\":0,\"<s>\":1,\"</s>\":2");
    for (unsigned b = 0; b < 256; b++)
        buf_printf(out, ",\"<0x%02X>\":%u", b, b + 3);
    for (size_t i = 0; i < ARRAY_LEN(fixture_pieces); i++)
        buf_printf(out, ",\"%s\":%zu", fixture_pieces[i], id++);
    for (size_t i = 0; i < ARRAY_LEN(fixture_spm_merges); i++)
        buf_printf(out, ",\"%s%s\":%zu", fixture_spm_merges[i][0], fixture_spm_merges[i][1], id++);
    buf_puts(out, "},\"merges\":[");
    for (size_t i = 0; i < ARRAY_LEN(fixture_spm_merges); i++)
        buf_printf(out, "%s\"%s %s\"", i ? "," : "", fixture_spm_merges[i][0],
                   fixture_spm_merges[i][1]);
    buf_puts(out, "]}}");
}

static const struct {
    const char *text;
    double score;
} fixture_unigrams[] = {{"<unk>", 0},    {"</s>", 0},      {M, -3},       {"a", -4},
                        {"b", -4.5},     {"ab", -5},       {M "a", -5.5}, {"aba", -6},
                        {M "ab", -6.25}, {"\xC3\xA9", -7}, {"h", -7.5},   {"he", -6.5},
                        {M "the", -4},   {"t", -8},        {M "t", -8.5}, {"e", -3.5}};

/* tokenizer.json of the unigram vocabulary; with bytes, the 256 byte pieces follow. */
static inline void fixture_unigram(struct buf *out, const struct fixture_parts *p, bool bytes)
{
    fixture_head(out, p);
    buf_printf(out, "\"type\":\"Unigram\",\"unk_id\":0,\"byte_fallback\":%s,\"vocab\":[",
               bytes ? "true" : "false");
    for (size_t i = 0; i < ARRAY_LEN(fixture_unigrams); i++)
        buf_printf(out, "%s[\"%s\",%g]", i ? "," : "", fixture_unigrams[i].text,
                   fixture_unigrams[i].score);
    for (unsigned b = 0; bytes && b < 256; b++)
        buf_printf(out, ",[\"<0x%02X>\",-20]", b);
    buf_puts(out, "]}}");
}

/* The id of a token by its stored form; -1: there is none. */
static inline int32_t fixture_id(const struct tokenizer *t, const char *token)
{
    for (int32_t id = 0; id < tokenizer_size(t); id++) {
        const char *text = tokenizer_token(t, id, NULL);
        if (text != NULL && strcmp(text, token) == 0)
            return id;
    }
    return -1;
}

#define BYTE_LEVEL_PLAIN "{\"type\":\"ByteLevel\",\"add_prefix_space\":false,\"use_regex\":false}"
#define BYTE_LEVEL_GPT2 "{\"type\":\"ByteLevel\",\"add_prefix_space\":false,\"use_regex\":true}"
#define BYTE_LEVEL_DECODER "{\"type\":\"ByteLevel\"}"
#define QWEN2_REGEX                                                                                \
    "(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\\\\r\\\\n\\\\p{L}\\\\p{N}]?\\\\p{L}+|\\\\p{N}| "              \
    "?[^\\\\s\\\\p{L}\\\\p{N}]+[\\\\r\\\\n]*|\\\\s*[\\\\r\\\\n]+|\\\\s+(?!\\\\S)|\\\\s+"
#define SPLIT(regex, behavior, invert)                                                             \
    "{\"type\":\"Split\",\"pattern\":{\"Regex\":\"" regex "\"},\"behavior\":\"" behavior           \
    "\",\"invert\":" invert "}"
#define PRE_SEQUENCE(list) "{\"type\":\"Sequence\",\"pretokenizers\":[" list "]}"
#define QWEN2_PRE PRE_SEQUENCE(SPLIT(QWEN2_REGEX, "Isolated", "false") "," BYTE_LEVEL_PLAIN)
#define SPM_NORMALIZER                                                                             \
    "{\"type\":\"Sequence\",\"normalizers\":[{\"type\":\"Prepend\",\"prepend\":\"" M "\"},"        \
    "{\"type\":\"Replace\",\"pattern\":{\"String\":\" \"},\"content\":\"" M "\"}]}"
#define SPM_DECODER                                                                                \
    "{\"type\":\"Sequence\",\"decoders\":[{\"type\":\"Replace\",\"pattern\":{\"String\":\"" M      \
    "\"},\"content\":\" \"},{\"type\":\"ByteFallback\"},{\"type\":\"Fuse\"},"                      \
    "{\"type\":\"Strip\",\"content\":\" \",\"start\":1,\"stop\":0}]}"
#define SPM_MODEL "\"unk_token\":\"<unk>\",\"fuse_unk\":true,\"byte_fallback\":true,"
#define SPM_ADDED                                                                                  \
    "{\"id\":0,\"content\":\"<unk>\",\"special\":true},"                                           \
    "{\"id\":1,\"content\":\"<s>\",\"special\":true},"                                             \
    "{\"id\":2,\"content\":\"</s>\",\"special\":true}"
#define METASPACE(scheme, split)                                                                   \
    "{\"type\":\"Metaspace\",\"replacement\":\"" M "\",\"prepend_scheme\":\"" scheme               \
    "\",\"split\":" split "}"

#endif
