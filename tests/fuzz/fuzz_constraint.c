/* fuzz_constraint.c: hostile grammars and schemas (what begins with 'S' is one): what is taken can be matched by bytes at
 * random without running into a wall, and leaves nothing behind.
 */
#include "generate/constraint/constraint.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void require(bool condition)
{
    if (!condition)
        abort();
}

/* A vocabulary of all bytes and an end. */
static struct tokenizer *byte_tokenizer(void)
{
    static struct tokenizer *tokenizer;
    struct buf json;
    if (tokenizer)
        return tokenizer;
    buf_init(&json, NULL, 1 << 16);
    buf_puts(&json,
             "{\"added_tokens\":[{\"id\":256,\"content\":\"<|im_end|>\",\"special\":true}],"
             "\"model\":{\"type\":\"BPE\",\"byte_fallback\":true,\"unk_token\":null,\"merges\":[],"
             "\"vocab\":{");
    for (int byte = 0; byte < 256; byte++)
        buf_printf(&json, "\"<0x%02X>\":%d,", byte, byte);
    buf_puts(&json, "\"<|im_end|>\":256}},\"decoder\":{\"type\":\"ByteFallback\"}}");
    graft_error error = {0};
    require(tokenizer_parse_json(NULL, json.data, json.size, NULL, &tokenizer, &error) == GRAFT_OK);
    buf_free(&json);
    return tokenizer;
}

/* A text that follows the masks, chosen by the bytes of the input. */
static void match(struct mem *mem, struct grammar *g, const uint8_t *data, size_t size)
{
    static struct vocabulary *words;
    struct matcher *m = NULL;
    const uint32_t *mask = NULL;
    if (!words)
        require(vocabulary_open(NULL, byte_tokenizer(), 257, &words, NULL) == GRAFT_OK);
    struct matcher_options options = {.vocabulary = words};
    graft_status status = matcher_open(mem, g, &options, &m, NULL);
    require(status == GRAFT_OK || status == GRAFT_LIMIT);
    for (size_t i = 0; status == GRAFT_OK && i < 64; i++) {
        status = matcher_mask(m, &mask, NULL);
        require(status == GRAFT_OK || status == GRAFT_LIMIT);
        if (status != GRAFT_OK)
            break;
        require(((mask[8] & 1) != 0) == matcher_is_complete(m));
        graft_token_id id = data[i % size];
        for (int tries = 0; tries < 257 && !(mask[id / 32] >> (id % 32) & 1); tries++)
            id = (id + 1) % 257;
        require(matcher_allowed(m, &id, 1) == 1 && matcher_accept(m, id));
        if (id == 256)
            break;
    }
    matcher_close(&m);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct mem mem;
    struct grammar *g = NULL;
    graft_error error = {0};
    mem_init(&mem, NULL);
    bool schema = size > 0 && data[0] == 'S';
    const char *text = (const char *)data + schema;
    graft_status status = schema ? grammar_from_schema(&mem, text, size - 1, &g, &error)
                                 : grammar_from_gbnf(&mem, text, size, &g, &error);
    require(status == GRAFT_OK ? g != NULL : g == NULL && error.message[0]);
    if (g)
        match(&mem, g, data, size);
    grammar_release(&g);
    require(atomic_load(&mem.bytes_in_use) == 0);
    return 0;
}
