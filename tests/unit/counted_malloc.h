/* counted_malloc.h: every call of malloc and its like in a program that is linked with -Wl,--wrap=malloc,--wrap=calloc,
 * --wrap=realloc, whatever memory it is for: counted, and made to fail on request. For one file of a program.
 */
#ifndef GRAFT_TEST_COUNTED_MALLOC_H
#define GRAFT_TEST_COUNTED_MALLOC_H

#include <stdatomic.h>
#include <stdbool.h>
#include <stddef.h>

static atomic_size_t calls,
    fails_at; /* the call of that number, counted from 1, has no memory; 0: none */

void *__real_malloc(size_t size);
void *__real_calloc(size_t n, size_t size);
void *__real_realloc(void *block, size_t size);
void *__wrap_malloc(size_t size);
void *__wrap_calloc(size_t n, size_t size);
void *__wrap_realloc(void *block, size_t size);

static bool has_memory(void)
{
    return atomic_fetch_add(&calls, 1) + 1 != atomic_load(&fails_at);
}

void *__wrap_malloc(size_t size)
{
    return has_memory() ? __real_malloc(size) : NULL;
}

void *__wrap_calloc(size_t n, size_t size)
{
    return has_memory() ? __real_calloc(n, size) : NULL;
}

void *__wrap_realloc(void *block, size_t size)
{
    return has_memory() ? __real_realloc(block, size) : NULL;
}

#endif
