/* digest.c: names for what a dataset was made with and for what is in it.
 *
 * A tokenizer has no canonical file (JSON, GGUF), so its name is taken from what it does: all of its tokens, and what
 * it makes of a text that touches normalisers, pre-tokenizers and merges.
 */
#include "train/data/data_internal.h"

static const char PROBE[] =
    "The quick brown fox, 12345 times: don't\n\n  \tdef f(x): return x**2  # ok?\r\n"
    "Stra\xC3\x9F"
    "e \xC3\xA9 e\xCC\x81 \xE4\xBD\xA0\xE5\xA5\xBD \xD0\x9F\xD1\x80 \xF0\x9F\x99\x82 "
    "\xEF\xAC\x81 ... 3.14 AND_so on";

static void put_number(struct buf *out, int64_t value)
{
    buf_append(out, &value, sizeof value);
}

graft_status tokenizer_digest(struct mem *mem, const struct tokenizer *t, uint8_t out[32],
                              graft_error *error)
{
    struct buf facts;
    struct tokens probe = {.mem = mem};
    buf_init(&facts, mem, SIZE_MAX);
    buf_puts(&facts, tokenizer_kind(t));
    put_number(&facts, tokenizer_bos(t));
    put_number(&facts, tokenizer_eos(t));
    put_number(&facts, tokenizer_adds_bos(t));
    for (graft_token_id id = 0; id < tokenizer_size(t); id++) {
        size_t length = 0;
        const char *text = tokenizer_token(t, id, &length);
        put_number(&facts, text != NULL ? (int64_t)length : -1);
        buf_append(&facts, text != NULL ? text : "", length);
        put_number(&facts, tokenizer_is_special(t, id));
    }
    graft_status status =
        tokenizer_encode(t, PROBE, sizeof PROBE - 1, TOKENIZE_SPECIAL, &probe, error);
    if (status == GRAFT_OK && probe.count > 0) {
        buf_append(&facts, probe.ids, probe.count * sizeof probe.ids[0]);
    }
    if (status == GRAFT_OK && facts.status != GRAFT_OK) {
        status = error_set(error, GRAFT_NO_MEMORY, "no memory for a digest");
    }
    if (status == GRAFT_OK) {
        status = sha256(facts.data, facts.size, out, error);
    }
    buf_free(&facts);
    tokens_free(&probe);
    return status;
}

graft_status dataset_digest(const struct dataset *d, uint8_t out[32], graft_error *error)
{
    struct buf all;
    uint8_t hash[32];
    buf_init(&all, d->mem, SIZE_MAX);
    graft_status status = sha256(d->ids, (size_t)d->n_ids * sizeof d->ids[0], hash, error);
    buf_append(&all, hash, sizeof hash);
    if (status == GRAFT_OK) {
        status = sha256(d->learned, (size_t)d->n_ids, hash, error);
    }
    buf_append(&all, hash, sizeof hash);
    for (int part = 0; part < DATA_PARTS; part++) {
        put_number(&all, d->count[part]);
        for (int64_t i = 0; i < d->count[part]; i++) {
            const struct stored *s = &d->examples[d->index[part][i]];
            put_number(&all, d->index[part][i]);
            put_number(&all, s->n_tok);
            buf_append(&all, &s->weight, sizeof s->weight);
        }
    }
    if (status == GRAFT_OK && all.status != GRAFT_OK) {
        status = error_set(error, GRAFT_NO_MEMORY, "no memory for a digest");
    }
    if (status == GRAFT_OK) {
        status = sha256(all.data, all.size, out, error);
    }
    buf_free(&all);
    return status;
}
