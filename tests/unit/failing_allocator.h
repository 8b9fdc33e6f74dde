/* failing_allocator.h: an allocator for tests that fails at the n-th call, and counts.
 *
 * The use: for n = 1, 2, … run the function until it succeeds. Each failed run must say NO_MEMORY
 * and leave nothing allocated; a success during which a call failed hides an error.
 */
#ifndef GRAFT_FAILING_ALLOCATOR_H
#define GRAFT_FAILING_ALLOCATOR_H

#include "base/base.h"

struct failing_allocator {
    size_t fail_at; /* this call fails, counted from 1; 0: none */
    size_t calls;
    size_t largest; /* bytes of the largest request */
    bool failed;
};

static inline bool failing_count(struct failing_allocator *f, size_t bytes)
{
    f->calls++;
    f->largest = bytes > f->largest ? bytes : f->largest;
    f->failed = f->failed || f->calls == f->fail_at;
    return f->calls != f->fail_at;
}

static inline void *failing_alloc(void *user, size_t bytes)
{
    return failing_count(user, bytes) ? malloc(bytes) : NULL;
}

static inline void *failing_resize(void *user, void *block, size_t bytes)
{
    return failing_count(user, bytes) ? realloc(block, bytes) : NULL;
}

static inline void failing_release(void *user, void *block)
{
    (void)user;
    free(block);
}

static inline void failing_init(struct failing_allocator *f, struct mem *mem, size_t fail_at)
{
    graft_allocator allocator = {failing_alloc, failing_resize, failing_release, f};
    *f = (struct failing_allocator){.fail_at = fail_at};
    mem_init(mem, &allocator);
}

#endif
