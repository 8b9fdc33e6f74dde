/* store_file.c: a store of n-grams in a file.
 *
 * Little-endian: magic [8], version u32, n_vocab u32, entries u64, digest of the mix [32], SHA-256 of all else [32]; then the
 * entries, 16 bytes each: key u64, next u32, count u32. Files are untrusted: the sum finds what a disk did, and every
 * value is checked as if somebody had made the sum fit.
 */
#include "generate/draft/draft_internal.h"

enum { VERSION = 1, HEAD = 56, SUM = 32, ENTRY = 16 };
static const char MAGIC[8] = "graftngs";

/* Of the head and of the entries: their sums are summed. */
static graft_status sum_of(const uint8_t *bytes, size_t size, uint8_t out[SUM], graft_error *error)
{
    uint8_t parts[2][SUM];
    graft_status status = sha256(bytes, HEAD, parts[0], error);
    if (status == GRAFT_OK) {
        status = sha256(bytes + HEAD + SUM, size - HEAD - SUM, parts[1], error);
    }
    return status == GRAFT_OK ? sha256(parts, sizeof parts, out, error) : status;
}

/* ---- writing ---- */

/* NULL: no memory. */
static uint8_t *make_bytes(struct ngram_store *s, size_t *size)
{
    pthread_mutex_lock(&s->lock);
    *size = HEAD + SUM + s->used * ENTRY;
    uint8_t *bytes = mem_calloc(s->mem, *size, 1), *at = bytes;
    if (bytes != NULL) {
        memcpy(bytes, MAGIC, sizeof MAGIC);
        bytes_put(bytes + 8, VERSION, 4);
        bytes_put(bytes + 12, (uint64_t)s->n_vocab, 4);
        bytes_put(bytes + 16, s->used, 8);
        memcpy(bytes + 24, s->mix, sizeof s->mix);
        at += HEAD + SUM;
        for (const struct store_entry *e = s->entries; e < s->entries + s->capacity; e++) {
            if (e->count > 0) {
                bytes_put(at, e->key, 8);
                bytes_put(at + 8, e->next, 4);
                bytes_put(at + 12, e->count, 4);
                at += ENTRY;
            }
        }
    }
    pthread_mutex_unlock(&s->lock);
    return bytes;
}

graft_status ngram_store_save(struct ngram_store *s, const char *path, graft_error *error)
{
    size_t size;
    uint8_t *bytes = make_bytes(s, &size);
    if (bytes == NULL) {
        return error_set(error, GRAFT_NO_MEMORY, "no memory to save a store of n-grams");
    }
    graft_status status = sum_of(bytes, size, bytes + HEAD, error);
    if (status == GRAFT_OK) {
        status = file_write_atomic(s->mem, path, bytes, size, error);
    }
    mem_free(s->mem, bytes);
    return status;
}

/* ---- reading ---- */

static graft_status check_head(const uint8_t *bytes, size_t size,
                               const struct ngram_store_options *options, graft_error *error)
{
    if (size < HEAD + SUM || memcmp(bytes, MAGIC, sizeof MAGIC) != 0) {
        return error_set(error, GRAFT_FORMAT, "it is no store of n-grams");
    }
    if (bytes_get(bytes + 8, 4) != VERSION) {
        return error_set(error, GRAFT_UNSUPPORTED,
                         "it is of version %u, this graft reads version %d",
                         (unsigned)bytes_get(bytes + 8, 4), VERSION);
    }
    size_t body = size - HEAD - SUM;
    if (body % ENTRY != 0 || bytes_get(bytes + 16, 8) != body / ENTRY) {
        return error_set(error, GRAFT_FORMAT,
                         "it has %zu bytes of entries, not the %llu entries it says", body,
                         (unsigned long long)bytes_get(bytes + 16, 8));
    }
    uint8_t sum[SUM];
    graft_status status = sum_of(bytes, size, sum, error);
    if (status == GRAFT_OK && memcmp(sum, bytes + HEAD, SUM) != 0) {
        return error_set(error, GRAFT_FORMAT, "its checksum is wrong: it is damaged");
    }
    if (status != GRAFT_OK) {
        return status;
    }
    if (bytes_get(bytes + 12, 4) != (uint64_t)options->n_vocab) {
        return error_set(error, GRAFT_STATE, "it is for a vocabulary of %u, the model has %d",
                         (unsigned)bytes_get(bytes + 12, 4), options->n_vocab);
    }
    if (memcmp(bytes + 24, options->mix, sizeof options->mix) != 0) {
        return error_set(error, GRAFT_STATE, "it was learned under other adapters or weights");
    }
    return GRAFT_OK;
}

static graft_status read_entries(struct ngram_store *s, const uint8_t *at, size_t n,
                                 graft_error *error)
{
    for (size_t i = 0; i < n; i++, at += ENTRY) {
        struct store_entry e = {bytes_get(at, 8), (uint32_t)bytes_get(at + 8, 4),
                                (uint32_t)bytes_get(at + 12, 4)};
        if (e.next >= (uint32_t)s->n_vocab || e.count < 1 || e.count > STORE_COUNT_MAX) {
            return error_set(error, GRAFT_FORMAT, "entry %zu is none: token %u, count %u", i,
                             (unsigned)e.next, (unsigned)e.count);
        }
        if (!store_put(s, &e)) {
            return error_set(error, GRAFT_FORMAT, "entry %zu is there twice", i);
        }
    }
    return GRAFT_OK;
}

graft_status ngram_store_parse(struct mem *mem, const uint8_t *bytes, size_t size,
                               const struct ngram_store_options *options, struct ngram_store **out,
                               graft_error *error)
{
    struct ngram_store *s = NULL;
    graft_status status = check_head(bytes, size, options, error);
    if (status == GRAFT_OK) {
        status = ngram_store_open(mem, options, &s, error);
    }
    if (status == GRAFT_OK) {
        status = read_entries(s, bytes + HEAD + SUM, (size - HEAD - SUM) / ENTRY, error);
    }
    if (status != GRAFT_OK) {
        ngram_store_close(&s);
        return status;
    }
    *out = s;
    return GRAFT_OK;
}

graft_status ngram_store_load(struct mem *mem, const char *path,
                              const struct ngram_store_options *options, struct ngram_store **out,
                              graft_error *error)
{
    char *bytes = NULL;
    size_t size, limit = HEAD + SUM + (size_t)STORE_ENTRIES_MAX * ENTRY;
    graft_status status = file_read(mem, path, limit, &bytes, &size, error);
    if (status != GRAFT_OK) {
        return status;
    }
    status = ngram_store_parse(mem, (const uint8_t *)bytes, size, options, out, error);
    if (status != GRAFT_OK) {
        error_at_file(error, path);
    }
    mem_free(mem, bytes);
    return status;
}
