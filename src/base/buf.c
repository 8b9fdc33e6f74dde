/* buf.c: a growable byte buffer that cannot grow past what its owner allowed.
 *
 * Failure sticks, so that a writer of forty pieces checks once, at the end. One byte more than the
 * size is always there for the NUL.
 */
#include "base_internal.h"

enum { CAPACITY_FIRST = 64 };

void buf_init(struct buf *buf, struct mem *mem, size_t limit)
{
    *buf = (struct buf){.mem = mem, .limit = limit < SIZE_MAX ? limit : SIZE_MAX - 1};
}

static bool buf_fail(struct buf *buf, graft_status status)
{
    buf->status = status;
    return false;
}

bool buf_reserve(struct buf *buf, size_t more)
{
    if (buf->status != GRAFT_OK)
        return false;
    if (more > buf->limit - buf->size)
        return buf_fail(buf, GRAFT_LIMIT);
    size_t needed = buf->size + more + 1;
    if (needed <= buf->capacity)
        return true;
    size_t capacity = buf->capacity ? buf->capacity : CAPACITY_FIRST;
    while (capacity < needed)
        capacity = capacity > buf->limit / 2 ? buf->limit + 1 : capacity * 2;
    char *data = mem_resize(buf->mem, buf->data, capacity);
    if (!data)
        return buf_fail(buf, GRAFT_NO_MEMORY);
    buf->data = data;
    buf->capacity = capacity;
    return true;
}

bool buf_append(struct buf *buf, const void *bytes, size_t size)
{
    if (!buf_reserve(buf, size))
        return false;
    if (size)
        memcpy(buf->data + buf->size, bytes, size);
    buf->size += size;
    buf->data[buf->size] = '\0';
    return true;
}

bool buf_puts(struct buf *buf, const char *text)
{
    return buf_append(buf, text, strlen(text));
}

bool buf_putc(struct buf *buf, char c)
{
    return buf_append(buf, &c, 1);
}

bool buf_printf(struct buf *buf, const char *format, ...)
{
    va_list args;
    va_start(args, format);
    int length = vsnprintf(NULL, 0, format, args);
    va_end(args);
    if (length < 0)
        return buf_fail(buf, GRAFT_LIMIT);
    if (!buf_reserve(buf, (size_t)length))
        return false;
    va_start(args, format);
    vsnprintf(buf->data + buf->size, (size_t)length + 1, format, args);
    va_end(args);
    buf->size += (size_t)length;
    return true;
}

char *buf_take(struct buf *buf, size_t *size)
{
    if (!buf->data)
        buf_append(buf, "", 0);
    if (buf->status != GRAFT_OK)
        return NULL;
    char *data = buf->data;
    if (size)
        *size = buf->size;
    buf_init(buf, buf->mem, buf->limit);
    return data;
}

void buf_free(struct buf *buf)
{
    mem_free(buf->mem, buf->data);
    buf_init(buf, buf->mem, buf->limit);
}
