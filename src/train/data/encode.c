/* encode.c: sheets become tokens, each with a mark that says whether it is learned.
 *
 * A sheet is cut where its spans begin and end, and the pieces are encoded one behind the other: no token lies half in
 * what is given, and what is given gets the tokens that the same text has as a prompt. Pieces go on from each other
 * (TOKENIZE_CONTINUE), so vocabularies that put a space before a text do that once.
 */
#include "train/data/data_internal.h"

void encoded_init(struct encoded *e, struct mem *mem)
{
    *e = (struct encoded){.ids = {.mem = mem}};
    buf_init(&e->learned, mem, SIZE_MAX);
}

void encoded_clear(struct encoded *e)
{
    e->ids.count = 0;
    e->learned.size = 0;
}

void encoded_free(struct encoded *e)
{
    tokens_free(&e->ids);
    buf_free(&e->learned);
}

/* Gives the ids that have no mark yet this one. */
static graft_status mark(struct encoded *e, bool learned, struct why *why)
{
    size_t n = e->ids.count - e->learned.size;
    if (!buf_reserve(&e->learned, n)) {
        return why_no_memory(why);
    }
    memset(e->learned.data + e->learned.size, learned, n);
    e->learned.size += n;
    return GRAFT_OK;
}

static graft_status push(struct encoded *e, graft_token_id id, bool learned, struct why *why)
{
    return tokens_push(&e->ids, id) ? mark(e, learned, why) : why_no_memory(why);
}

static graft_status encode_piece(const struct sheet_maker *m, const struct sheet *sheet,
                                 size_t begin, size_t end, bool learned, struct encoded *out,
                                 struct why *why)
{
    int flags = TOKENIZE_SPECIAL | (begin > 0 ? TOKENIZE_CONTINUE : 0);
    if (begin == end) {
        return GRAFT_OK;
    }
    graft_status status = tokenizer_encode(m->tokenizer, sheet->text + begin, end - begin, flags,
                                           &out->ids, &why->error);
    if (status == GRAFT_OK) {
        return mark(out, learned, why);
    }
    char said[200];
    snprintf(said, sizeof said, "%.199s", why->error.message);
    return status == GRAFT_NO_MEMORY
               ? status
               : why_drop(why, "change or remove the record", "it cannot be tokenised: %s", said);
}

/* Without what follows the last span, which teaches nothing. */
static graft_status encode_spans(const struct sheet_maker *m, const struct sheet *sheet,
                                 struct encoded *out, struct why *why)
{
    size_t at = 0;
    graft_status status = GRAFT_OK;
    for (size_t i = 0; i < sheet->n_spans && status == GRAFT_OK; i++) {
        const struct span *s = &sheet->spans[i];
        status = encode_piece(m, sheet, at, s->begin, false, out, why);
        if (status == GRAFT_OK) {
            status = encode_piece(m, sheet, s->begin, s->end, true, out, why);
        }
        at = s->end;
    }
    return status;
}

static bool text_begins(const struct sheet *sheet, const char *text)
{
    size_t n = text != NULL ? strlen(text) : 0;
    return n > 0 && n <= sheet->size && memcmp(sheet->text, text, n) == 0;
}

/* Whether its last token but white space ends a turn. */
static bool is_closed(const struct sheet_maker *m, const struct sheet *sheet)
{
    size_t begin = sheet->spans[sheet->n_spans - 1].begin;
    size_t end = sheet->spans[sheet->n_spans - 1].end;
    while (end > begin && memchr(" \t\r\n", sheet->text[end - 1], 4) != NULL) {
        end--;
    }
    for (size_t k = 0; k < m->n_ends; k++) {
        size_t size = m->ends[k].size;
        if (size > 0 && size <= end - begin &&
            memcmp(sheet->text + end - size, m->ends[k].data, size) == 0) {
            return true;
        }
    }
    return false;
}

static graft_status encode_learned(const struct sheet_maker *m, const struct sheet *sheet,
                                   struct encoded *out, struct why *why)
{
    graft_status status = encode_spans(m, sheet, out, why);
    graft_token_id eos = tokenizer_eos(m->tokenizer);
    if (status == GRAFT_OK && sheet->close && eos >= 0 && !is_closed(m, sheet)) {
        status = push(out, eos, true, why);
    }
    return status;
}

/* A class stands behind the last token, as if it followed. The text is encoded as `graft classify` does it. */
static graft_status encode_class(const struct sheet_maker *m, const struct sheet *sheet,
                                 struct encoded *out, struct why *why)
{
    graft_status status =
        tokenizer_encode(m->tokenizer, sheet->text, sheet->size, 0, &out->ids, &why->error);
    if (status == GRAFT_OK && out->ids.count == 0) {
        status = why_drop(why, "remove the record", "its text has no tokens");
    }
    if (status == GRAFT_OK) {
        status = mark(out, false, why);
    }
    return status == GRAFT_OK ? push(out, sheet->label, true, why) : status;
}

graft_status sheet_encode(const struct sheet_maker *m, const struct sheet *sheet,
                          struct encoded *out, struct why *why)
{
    graft_status status = GRAFT_OK;
    encoded_clear(out);
    if (sheet->label >= 0) {
        return encode_class(m, sheet, out, why);
    }
    if (sheet->bos && tokenizer_adds_bos(m->tokenizer) &&
        !text_begins(sheet, tokenizer_special_text(m->tokenizer, "bos_token"))) {
        status = push(out, tokenizer_bos(m->tokenizer), false, why);
    }
    return status == GRAFT_OK ? encode_learned(m, sheet, out, why) : status;
}
