/* arena.c: a bump allocator for things that live and die together.
 *
 * Chunks double in size up to a bound, so that a parser of a large file makes few of them and a
 * small one wastes little. The limit counts what is handed out, padding included: it is how a
 * hostile file is kept from asking for everything.
 */
#include "base_internal.h"

enum { CHUNK_FIRST = 4096, CHUNK_LARGEST = 1 << 20, ALIGN_WIDE = 64, ALIGN_PACKED = 8 };

struct arena_chunk {
    _Alignas(ALIGN_WIDE) struct arena_chunk *next;
    size_t size, used;
    _Alignas(ALIGN_WIDE) char data[];
};

void arena_init(struct arena *arena, struct mem *mem, size_t limit)
{
    *arena = (struct arena){.mem = mem, .limit = limit};
}

static bool add_chunk(struct arena *arena, size_t bytes)
{
    size_t size = CHUNK_FIRST, total;
    if (arena->chunks)
        size = arena->chunks->size < CHUNK_LARGEST / 2 ? arena->chunks->size * 2 : CHUNK_LARGEST;
    if (size < bytes)
        size = bytes;
    if (!size_add(size, sizeof(struct arena_chunk), &total))
        return false;
    struct arena_chunk *chunk = mem_alloc(arena->mem, total);
    if (!chunk)
        return false;
    chunk->next = arena->chunks;
    chunk->size = size;
    chunk->used = 0;
    MEMORY_FORBID(chunk->data, size);
    arena->chunks = chunk;
    return true;
}

static void *alloc_aligned(struct arena *arena, size_t bytes, size_t alignment)
{
    if (!bytes)
        bytes = 1;
    if (bytes > arena->limit - arena->used)
        return NULL;
    struct arena_chunk *chunk = arena->chunks;
    size_t start = chunk ? (chunk->used + alignment - 1) & ~(alignment - 1) : 0;
    if (!chunk || start > chunk->size || bytes > chunk->size - start) {
        if (!add_chunk(arena, bytes))
            return NULL;
        chunk = arena->chunks;
        start = 0;
    }
    size_t taken = start + bytes - chunk->used;
    if (taken > arena->limit - arena->used)
        return NULL;
    chunk->used += taken;
    arena->used += taken;
    MEMORY_PERMIT(chunk->data + start, bytes);
    return chunk->data + start;
}

void *arena_alloc(struct arena *arena, size_t bytes)
{
    return alloc_aligned(arena, bytes, ALIGN_WIDE);
}

void *arena_alloc_packed(struct arena *arena, size_t bytes)
{
    return alloc_aligned(arena, bytes, ALIGN_PACKED);
}

char *arena_strndup(struct arena *arena, const char *text, size_t length)
{
    size_t size;
    return copy_text(size_add(length, 1, &size) ? arena_alloc_packed(arena, size) : NULL, text,
                     length);
}

void arena_wipe(struct arena *arena)
{
    for (struct arena_chunk *chunk = arena->chunks; chunk; chunk = chunk->next) {
        MEMORY_PERMIT(chunk->data, chunk->used);
        mem_wipe(chunk->data, chunk->used);
    }
}

void arena_free(struct arena *arena)
{
    while (arena->chunks) {
        struct arena_chunk *chunk = arena->chunks;
        arena->chunks = chunk->next;
        MEMORY_PERMIT(chunk->data, chunk->size);
        mem_free(arena->mem, chunk);
    }
    arena->used = 0;
}
