/* fuzz_ngram_store.c: hostile stores of n-grams: what is taken proposes nothing but tokens of the vocabulary and
 * stays within its bounds; and nothing is left behind. The sum is made to fit, or nothing else would be reached.
 */
#include "generate/draft/draft.h"

enum { VOCAB = 1000, HEAD = 56, SUM = 32 };

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void require(bool condition)
{
    if (!condition)
        abort();
}

static void use(struct ngram_store *s)
{
    graft_token_id tokens[64];
    const size_t entries = ngram_store_entries(s);
    require(entries <= 256);
    for (int i = 0; i < 64; i++)
        tokens[i] = i * 7 % VOCAB;
    for (size_t n = 0; n <= 64; n++) {
        graft_token_id out[DRAFT_MOST];
        int length = 0, made = ngram_store_propose(s, tokens, n, DRAFT_MOST, out, &length);
        require(made >= 0 && made <= DRAFT_MOST && (made == 0 || length >= NGRAM_MIN));
        for (int i = 0; i < made; i++)
            require(out[i] >= 0 && out[i] < VOCAB);
    }
    ngram_store_add(s, tokens, 0, 64);
    require(ngram_store_entries(s) >= entries && ngram_store_entries(s) <= 256);
}

static void parse(struct mem *mem, const uint8_t *bytes, size_t size)
{
    struct ngram_store_options options = {.n_vocab = VOCAB, .max_entries = 256};
    struct ngram_store *s = NULL;
    graft_error error = {0};
    if (size >= HEAD)
        memcpy(options.mix, bytes + 24, sizeof options.mix);
    if (ngram_store_parse(mem, bytes, size, &options, &s, &error) != GRAFT_OK) {
        require(s == NULL && error.message[0]);
        return;
    }
    use(s);
    ngram_store_close(&s);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct mem mem;
    mem_init(&mem, NULL);
    parse(&mem, data, size);
    if (size >= HEAD + SUM) {
        uint8_t parts[2 * SUM], *bytes = mem_alloc(&mem, size);
        require(bytes && sha256(data, HEAD, parts, NULL) == GRAFT_OK &&
                sha256(data + HEAD + SUM, size - HEAD - SUM, parts + SUM, NULL) == GRAFT_OK);
        memcpy(bytes, data, size);
        require(sha256(parts, sizeof parts, bytes + HEAD, NULL) == GRAFT_OK);
        parse(&mem, bytes, size);
        mem_free(&mem, bytes);
    }
    require(atomic_load(&mem.bytes_in_use) == 0);
    return 0;
}
