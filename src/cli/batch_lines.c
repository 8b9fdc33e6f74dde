/* batch_lines.c: a file line by line, in bounded memory: a line longer than the limit is passed over, not read.
 */
#include "batch.h"

#include <errno.h>
#include <unistd.h>

graft_status batch_lines_open(struct batch_lines *l, int file, const char *path, size_t limit,
                              graft_error *error)
{
    *l = (struct batch_lines){.file = file, .path = path, .chunk = mem_alloc(NULL, BATCH_CHUNK)};
    buf_init(&l->text, NULL, limit);
    return l->chunk != NULL ? GRAFT_OK : error_set(error, GRAFT_NO_MEMORY, "out of memory");
}

void batch_lines_close(struct batch_lines *l)
{
    mem_free(NULL, l->chunk);
    buf_free(&l->text);
    *l = (struct batch_lines){.file = -1};
}

/* The next piece of the file; at == end: there is none. */
static graft_status fill(struct batch_lines *l, graft_error *error)
{
    ssize_t n;
    do {
        n = pread(l->file, l->chunk, BATCH_CHUNK, (off_t)l->after);
    } while (n < 0 && errno == EINTR);
    if (n < 0) {
        return error_set(error, GRAFT_IO, "%s: %s", l->path, strerror(errno));
    }
    l->at = 0;
    l->end = (size_t)n;
    return GRAFT_OK;
}

/* Takes what the piece in hand has of the line. */
static graft_status take(struct batch_lines *l, graft_error *error)
{
    const char *from = l->chunk + l->at;
    const char *newline = memchr(from, '\n', l->end - l->at);
    size_t n = newline != NULL ? (size_t)(newline - from) : l->end - l->at;
    if (!l->too_long && !buf_append(&l->text, from, n)) {
        if (l->text.status != GRAFT_LIMIT) {
            return error_set(error, GRAFT_NO_MEMORY, "out of memory");
        }
        l->too_long = true;
    }
    l->whole = newline != NULL;
    l->at += n + (l->whole ? 1 : 0);
    l->after += n + (l->whole ? 1 : 0);
    return GRAFT_OK;
}

/* What some editors put before everything else. */
static void drop_byte_order_mark(struct buf *text)
{
    if (text->size >= 3 && memcmp(text->data, "\xef\xbb\xbf", 3) == 0) {
        text->size -= 3;
        memmove(text->data, text->data + 3, text->size);
    }
}

graft_status batch_lines_next(struct batch_lines *l, graft_error *error)
{
    graft_status status = GRAFT_OK;
    if (l->too_long) { /* its failure sticks: another buffer */
        size_t limit = l->text.limit;
        buf_free(&l->text);
        buf_init(&l->text, NULL, limit);
    }
    l->text.size = 0;
    l->too_long = l->whole = false;
    l->begin = l->after;
    while (status == GRAFT_OK && !l->whole) {
        if (l->at == l->end) {
            status = fill(l, error);
            if (status == GRAFT_OK && l->end == 0) {
                break;
            }
        }
        if (status == GRAFT_OK) {
            status = take(l, error);
        }
    }
    if (status == GRAFT_OK && l->after == l->begin) {
        return GRAFT_END;
    }
    if (++l->number == 1) {
        drop_byte_order_mark(&l->text);
    }
    return status;
}

bool batch_line_is_blank(const struct batch_lines *l)
{
    size_t i = 0;
    while (i < l->text.size && memchr(" \t\r", l->text.data[i], 3) != NULL) {
        i++;
    }
    return i == l->text.size && !l->too_long;
}
