/* mem.c: the one way to memory: aligned blocks from the host's allocator, counted.
 *
 * The host promises only malloc's alignment, so a block is placed on the next multiple of 64 inside
 * a larger one, with a header right before it that remembers its size and how far in it lies:
 *
 *   raw [ ........ | header | block ............ | slack ]
 *                           ^ multiple of 64
 */
#include "base_internal.h"

#include <sys/mman.h>
#include <unistd.h>

enum { ALIGNMENT = 64 };

struct header {
    size_t bytes;
    size_t offset; /* block - raw */
};

enum { OVERHEAD = sizeof(struct header) + ALIGNMENT - 1 };

static void *default_alloc(void *user, size_t bytes)
{
    (void)user;
    return malloc(bytes);
}

static void *default_resize(void *user, void *block, size_t bytes)
{
    (void)user;
    return realloc(block, bytes);
}

static void default_release(void *user, void *block)
{
    (void)user;
    free(block);
}

static const graft_allocator DEFAULT = {default_alloc, default_resize, default_release, NULL};

static const graft_allocator *allocator_of(const struct mem *mem)
{
    return mem ? &mem->allocator : &DEFAULT;
}

void mem_init(struct mem *mem, const graft_allocator *allocator)
{
    mem->allocator = allocator && allocator->alloc ? *allocator : DEFAULT;
    atomic_init(&mem->bytes_in_use, 0);
}

static struct header *header_of(void *block)
{
    return (struct header *)block - 1;
}

static size_t offset_in(const void *raw)
{
    uintptr_t at = (uintptr_t)raw + sizeof(struct header);
    return sizeof(struct header) + (size_t)(-at & (ALIGNMENT - 1));
}

static void count(struct mem *mem, size_t gained, size_t lost)
{
    if (mem)
        atomic_fetch_add_explicit(&mem->bytes_in_use, gained - lost, memory_order_relaxed);
}

/* Writes the header and forbids the slack behind the block. */
static void *place(char *raw, size_t offset, size_t bytes)
{
    char *block = raw + offset;
    *header_of(block) = (struct header){bytes, offset};
    MEMORY_FORBID(block + bytes, OVERHEAD - offset);
    return block;
}

static void unplace(void *block, const struct header *header)
{
    MEMORY_PERMIT((char *)block + header->bytes, OVERHEAD - header->offset);
}

void *mem_alloc(struct mem *mem, size_t bytes)
{
    const graft_allocator *allocator = allocator_of(mem);
    size_t total;
    if (!bytes)
        bytes = 1;
    if (!size_add(bytes, OVERHEAD, &total))
        return NULL;
    char *raw = allocator->alloc(allocator->user, total);
    if (!raw)
        return NULL;
    count(mem, bytes, 0);
    return place(raw, offset_in(raw), bytes);
}

void *mem_calloc(struct mem *mem, size_t n, size_t bytes)
{
    size_t size, total;
    if (!size_mul(n, bytes, &size))
        return NULL;
    if (allocator_of(mem)->alloc != default_alloc) {
        void *block = mem_alloc(mem, size);
        return block ? memset(block, 0, size ? size : 1) : NULL;
    }
    /* calloc knows which pages are zero already: a large cache is not touched before its use. */
    if (!size)
        size = 1;
    if (!size_add(size, OVERHEAD, &total))
        return NULL;
    char *raw = calloc(1, total);
    if (!raw)
        return NULL;
    count(mem, size, 0);
    return place(raw, offset_in(raw), size);
}

void *mem_resize(struct mem *mem, void *block, size_t bytes)
{
    if (!block)
        return mem_alloc(mem, bytes);
    const graft_allocator *allocator = allocator_of(mem);
    struct header old = *header_of(block);
    size_t total;
    if (!bytes)
        bytes = 1;
    if (!size_add(bytes, OVERHEAD, &total))
        return NULL;
    unplace(block, &old);
    char *raw = allocator->resize(allocator->user, (char *)block - old.offset, total);
    if (!raw) {
        place((char *)block - old.offset, old.offset, old.bytes);
        return NULL;
    }
    size_t offset = offset_in(raw);
    if (offset != old.offset) /* the allocator kept the bytes, not the distance to a multiple */
        memmove(raw + offset, raw + old.offset, old.bytes < bytes ? old.bytes : bytes);
    count(mem, bytes, old.bytes);
    return place(raw, offset, bytes);
}

void mem_free(struct mem *mem, void *block)
{
    if (!block)
        return;
    const graft_allocator *allocator = allocator_of(mem);
    struct header header = *header_of(block);
    unplace(block, &header);
    count(mem, 0, header.bytes);
    allocator->release(allocator->user, (char *)block - header.offset);
}

void mem_wipe(void *bytes, size_t size)
{
    enum { PIECE = 4096 };
    char *at = bytes;
    while (size) {
        const size_t n = size < PIECE ? size : PIECE;
        if (*at || memcmp(at, at + 1, n - 1) != 0) /* all like the first, which is zero */
            memset(at, 0, n);
        at += n;
        size -= n;
    }
}

char *mem_strdup(struct mem *mem, const char *text)
{
    return mem_strndup(mem, text, strlen(text));
}

char *mem_strndup(struct mem *mem, const char *text, size_t length)
{
    size_t size;
    return copy_text(size_add(length, 1, &size) ? mem_alloc(mem, size) : NULL, text, length);
}

/* ---- pages ---- */

static void advise(const void *bytes, size_t size, int advice)
{
    const uintptr_t page = (uintptr_t)sysconf(_SC_PAGESIZE);
    uintptr_t begin = ((uintptr_t)bytes + page - 1) & ~(page - 1);
    uintptr_t end = ((uintptr_t)bytes + size) & ~(page - 1);
    if (begin < end)
        (void)madvise((void *)begin, end - begin, advice);
}

void pages_want_large(void *bytes, size_t size)
{
    advise(bytes, size, MADV_HUGEPAGE);
}

void pages_give_back(const void *bytes, size_t size)
{
    advise(bytes, size, MADV_DONTNEED);
}
