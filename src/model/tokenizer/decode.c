/* decode.c: ids to text, at once or token by token.
 *
 * Every token knows the bytes it stands for, so decoding joins them. Two things depend on what came
 * before: the one space that encoding put in front is left out at the beginning, and vocabularies
 * without a decoder put a space between tokens. A stream holds back the bytes of a character until
 * it is whole.
 */
#include "tokenizer_internal.h"

#define REPLACEMENT "\xEF\xBF\xBD"

/* The text of one token. *started: some token gave text before. */
static graft_status piece_text(const struct tokenizer *t, graft_token_id id, bool with_special,
                               bool *started, const char **text, size_t *size, bool *space,
                               graft_error *error)
{
    *size = 0;
    *space = false;
    *text = "";
    if (id < 0 || id >= t->vocab.count)
        return error_set(error, GRAFT_INVALID_ARGUMENT, "token id %d is not in 0..%d", id,
                         t->vocab.count - 1);
    const struct token *token = &t->vocab.tokens[id];
    if (!token->text || (token->special && !with_special) || token->n_bytes == 0)
        return GRAFT_OK;
    *text = token->bytes;
    *size = token->n_bytes;
    if (*started) {
        *space = t->join_spaces;
    } else if (t->strip_first && !token->added && token->bytes[0] == ' ') {
        ++*text;
        --*size;
    }
    *started = true;
    return GRAFT_OK;
}

const char *tokenizer_bytes(const struct tokenizer *t, graft_token_id id, size_t *size, bool *apart)
{
    bool started = true;
    const char *text;
    if (piece_text(t, id, false, &started, &text, size, apart, NULL) != GRAFT_OK || *size == 0)
        return NULL;
    return text;
}

const char *tokenizer_piece(const struct tokenizer *t, graft_token_id id, size_t *size)
{
    bool started = true, space;
    const char *text;
    (void)piece_text(t, id, true, &started, &text, size, &space, NULL); /* "" of no token */
    return text;
}

graft_status tokenizer_decode(const struct tokenizer *t, const graft_token_id *ids, size_t n,
                              bool with_special, struct buf *out, graft_error *error)
{
    bool started = false;
    size_t before = out->size;
    for (size_t i = 0; i < n; i++) {
        const char *text;
        size_t size;
        bool space;
        graft_status status =
            piece_text(t, ids[i], with_special, &started, &text, &size, &space, error);
        if (!status && ((space && !buf_putc(out, ' ')) || !buf_append(out, text, size)))
            status =
                error_set(error, out->status, "cannot decode: %s", graft_status_text(out->status));
        if (status) {
            out->size = before;
            return status;
        }
    }
    return GRAFT_OK;
}

/* Can n bytes, not yet a whole character, become one? */
static bool may_finish(const char *bytes, int n)
{
    unsigned char lead = (unsigned char)bytes[0];
    int length = lead >= 0xF0 ? 4 : lead >= 0xE0 ? 3 : lead >= 0xC2 ? 2 : 0;
    if (lead > 0xF4 || n >= length)
        return false;
    /* Try the smallest and the largest continuation: one of them decodes when any does. */
    char low[4], high[4];
    for (int i = 0; i < 4; i++) {
        low[i] = i < n ? bytes[i] : (char)0x80;
        high[i] = i < n ? bytes[i] : (char)0xBF;
    }
    uint32_t code;
    return utf8_decode(low, (size_t)length, &code) || utf8_decode(high, (size_t)length, &code);
}

/* Emits whole characters of held; what can never become one is U+FFFD, as Unicode recommends: one
 * for each maximal beginning of a character. */
static bool drain(struct detokenizer *d, struct buf *out)
{
    while (d->n_held) {
        uint32_t code;
        int step = utf8_decode(d->held, (size_t)d->n_held, &code);
        bool ok;
        if (step) {
            ok = buf_append(out, d->held, (size_t)step);
        } else if (may_finish(d->held, d->n_held)) {
            return true;
        } else {
            step = 1;
            while (step < d->n_held && may_finish(d->held, step + 1))
                step++;
            if (step > 1 && !may_finish(d->held, step))
                step--;
            ok = buf_puts(out, REPLACEMENT);
        }
        if (!ok)
            return false;
        d->n_held -= step;
        memmove(d->held, d->held + step, (size_t)d->n_held);
    }
    return true;
}

static bool push_bytes(struct detokenizer *d, const char *text, size_t size, struct buf *out)
{
    size_t i = 0;
    while (i < size) {
        if (d->n_held == 0) { /* the common case: whole characters go straight through */
            size_t valid = utf8_valid_prefix(text + i, size - i);
            if (!buf_append(out, text + i, valid))
                return false;
            i += valid;
            if (i == size)
                break;
        }
        d->held[d->n_held++] = text[i++];
        if (!drain(d, out))
            return false;
    }
    return true;
}

graft_status detokenizer_push(struct detokenizer *d, const struct tokenizer *t, graft_token_id id,
                              bool with_special, struct buf *out, graft_error *error)
{
    const char *text;
    size_t size;
    bool space;
    graft_status status = piece_text(t, id, with_special, &d->started, &text, &size, &space, error);
    if (!status && ((space && !push_bytes(d, " ", 1, out)) || !push_bytes(d, text, size, out)))
        status = error_set(error, out->status, "cannot decode: %s", graft_status_text(out->status));
    return status;
}

bool detokenizer_is_sound(const struct detokenizer *d)
{
    return d->n_held == 0 || (d->n_held > 0 && d->n_held < 4 && may_finish(d->held, d->n_held));
}

graft_status detokenizer_flush(struct detokenizer *d, struct buf *out, graft_error *error)
{
    bool ok = d->n_held == 0 || buf_puts(out, REPLACEMENT);
    d->n_held = 0;
    return ok ? GRAFT_OK
              : error_set(error, out->status, "cannot decode: %s", graft_status_text(out->status));
}
