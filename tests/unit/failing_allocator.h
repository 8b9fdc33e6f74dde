/* failing_allocator.h: an allocator for tests that fails at the n-th call, and counts.
 *
 * The use: for n = 1, 2, … run the function until it succeeds. Each failed run must say NO_MEMORY
 * and leave nothing allocated; a success during which a call failed hides an error.
 */
#ifndef GRAFT_FAILING_ALLOCATOR_H
#define GRAFT_FAILING_ALLOCATOR_H

#include "base/base.h"

struct failing_allocator {
    size_t fail_at;      /* this call fails, counted from 1; 0: none */
    atomic_size_t calls; /* by all threads */
    size_t largest;      /* bytes of the largest request; of one thread's calls */
    bool
        ever_after; /* so do all that follow: for code that does without one (PCRE2 without its JIT) */
    bool failed;
};

static inline bool failing_count(struct failing_allocator *f, size_t bytes)
{
    size_t call = atomic_fetch_add(&f->calls, 1) + 1;
    bool fails = call == f->fail_at || (f->ever_after && f->failed);
    f->largest = bytes > f->largest ? bytes : f->largest;
    f->failed = f->failed || fails;
    return !fails;
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
