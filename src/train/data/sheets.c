/* sheets.c: from a record to sheets: a text and the spans of it that are learned.
 *
 * Pairs, texts and classes are one sheet each and simple; conversations are chat.c's. Pure, but for the templates that
 * it runs.
 */
#include "train/data/data_internal.h"

graft_status sheet_maker_open(struct sheet_maker *m, struct mem *mem, const struct tokenizer *t,
                              graft_error *error)
{
    size_t capacity = 0;
    *m = (struct sheet_maker){.mem = mem, .tokenizer = t};
    for (graft_token_id id = 0; id < tokenizer_size(t); id++) {
        struct text end;
        if (!tokenizer_is_end(t, id) || (end.data = tokenizer_token(t, id, &end.size)) == NULL) {
            continue;
        }
        if (m->n_ends == capacity) {
            capacity = capacity > 0 ? 2 * capacity : 8;
            struct text *grown = mem_resize(mem, m->ends, capacity * sizeof *grown);
            if (grown == NULL) {
                return error_set(error, GRAFT_NO_MEMORY, "no memory for training data");
            }
            m->ends = grown;
        }
        m->ends[m->n_ends++] = end;
    }
    return GRAFT_OK;
}

void sheet_maker_close(struct sheet_maker *m)
{
    mem_free(m->mem, m->ends);
    m->ends = NULL;
}

/* The last token that ends a turn in text[begin, limit): where it begins, and *end behind it. False: none. */
static bool last_end(const struct sheet_maker *m, const char *text, size_t begin, size_t limit,
                     size_t *at, size_t *end)
{
    for (size_t i = limit; i-- > begin;) {
        for (size_t k = 0; k < m->n_ends; k++) {
            size_t size = m->ends[k].size;
            if (size > 0 && size <= limit - i && memcmp(text + i, m->ends[k].data, size) == 0) {
                *at = i;
                *end = i + size;
                return true;
            }
        }
    }
    return false;
}

static size_t without_space(const char *text, size_t begin, size_t end)
{
    while (end > begin && strchr(" \t\r\n", text[end - 1]) != NULL && text[end - 1] != '\0') {
        end--;
    }
    return end;
}

size_t turn_end(const struct sheet_maker *m, const char *text, size_t begin, size_t limit)
{
    size_t at, end, earlier, earlier_end;
    if (!last_end(m, text, begin, limit, &at, &end)) {
        return 0;
    }
    /* Some templates write two of them, the second to end the whole text: a model stops at the first. */
    while (last_end(m, text, begin, without_space(text, begin, at), &earlier, &earlier_end) &&
           earlier_end == without_space(text, begin, at)) {
        at = earlier;
        end = earlier_end;
    }
    return end;
}

/* ---- what is no conversation --------------------------------------------------------------- */

static graft_status pair_sheet(const struct sheet_maker *m, const struct record *r, sheet_fn emit,
                               void *user, struct why *why)
{
    struct buf text;
    buf_init(&text, m->mem, 2 * (size_t)RECORD_BYTES);
    buf_append(&text, r->prompt.data, r->prompt.size);
    buf_append(&text, r->completion.data, r->completion.size);
    struct span span = {m->loss == DATA_LOSS_ALL ? 0 : r->prompt.size, text.size};
    struct sheet sheet = {.text = text.data,
                          .size = text.size,
                          .spans = &span,
                          .n_spans = 1,
                          .bos = true,
                          .close = true,
                          .label = -1};
    graft_status status = text.status == GRAFT_OK ? emit(user, &sheet, why) : why_no_memory(why);
    buf_free(&text);
    return status;
}

graft_status sheets_make(const struct sheet_maker *m, const struct record *r, sheet_fn emit,
                         void *user, int64_t *reopened, struct why *why)
{
    if (r->chat) {
        return chat_sheets(m, r, emit, user, reopened, why);
    }
    if (r->label >= 0) {
        struct sheet sheet = {
            .text = r->completion.data, .size = r->completion.size, .label = r->label};
        return emit(user, &sheet, why);
    }
    bool alone = r->format == DATA_FORMAT_TEXT;
    if (alone && (m->loss == DATA_LOSS_ASSISTANT || m->loss == DATA_LOSS_COMPLETION)) {
        return why_drop(why, "use --loss all, or leave it out", "a text alone has no %s to learn",
                        data_loss_name(m->loss));
    }
    return pair_sheet(m, r, emit, user, why);
}
