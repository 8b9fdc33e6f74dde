/* failing_json.h: the JSON library's own allocations, one of which fails. jansson keeps to malloc, so that its
 * share is no part of failing_allocator.h. The use is the same: n = 1, 2, ... until none fails.
 *
 * Spared are sizes that are a power of two from 32 on, those of the lexer's buffer: when that cannot grow,
 * jansson drops a byte without a word and may then run past the end of the string.
 */
#ifndef GRAFT_FAILING_JSON_H
#define GRAFT_FAILING_JSON_H

#include "base/base.h"

static struct {
    size_t calls, fail_at;
    json_malloc_t malloc;
    json_free_t free;
} failing_json;

static inline void *failing_json_malloc(size_t bytes)
{
    if (bytes >= 32 && (bytes & (bytes - 1)) == 0)
        return malloc(bytes);
    return ++failing_json.calls == failing_json.fail_at ? NULL : malloc(bytes);
}

/* The n-th allocation from here on fails. */
static inline void failing_json_begin(size_t n)
{
    failing_json.calls = 0;
    failing_json.fail_at = n;
    json_get_alloc_funcs(&failing_json.malloc, &failing_json.free);
    json_set_alloc_funcs(failing_json_malloc, free);
}

/* As it was; whether one failed. */
static inline bool failing_json_end(void)
{
    json_set_alloc_funcs(failing_json.malloc, failing_json.free);
    return failing_json.calls >= failing_json.fail_at;
}

#endif
