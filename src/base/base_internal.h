/* base_internal.h: what the files of base share among themselves. */
#ifndef GRAFT_BASE_INTERNAL_H
#define GRAFT_BASE_INTERNAL_H

#include "base/base.h"

#include <pthread.h>

/* "cannot VERB: reason of errno_value", with the file named. NOT_FOUND, NO_MEMORY or IO. */
graft_status error_set_errno(graft_error *error, int errno_value, const char *verb,
                             const char *path);
/* NO_MEMORY with the size that was not there. */
graft_status error_no_memory(graft_error *error, size_t bytes);

/* The thread keeps to the processor of that number among those allowed. False, and nothing changed: there are not
 * so many, or the system refuses. */
bool processor_bind(pthread_t thread, int number);

/* Writes text[0..length) and a NUL to `to`, and returns it; NULL when `to` is. */
static inline char *copy_text(char *to, const char *text, size_t length)
{
    if (to) {
        if (length)
            memcpy(to, text, length);
        to[length] = '\0';
    }
    return to;
}

/* Under AddressSanitizer the padding of our own allocators is as forbidden as malloc's is. */
#if defined(__SANITIZE_ADDRESS__)
#define BASE_HAS_ASAN 1
#elif defined(__has_feature)
#if __has_feature(address_sanitizer)
#define BASE_HAS_ASAN 1
#endif
#endif

#ifdef BASE_HAS_ASAN
#include <sanitizer/asan_interface.h>
#define MEMORY_FORBID(at, bytes) ASAN_POISON_MEMORY_REGION(at, bytes)
#define MEMORY_PERMIT(at, bytes) ASAN_UNPOISON_MEMORY_REGION(at, bytes)
#else
#define MEMORY_FORBID(at, bytes) ((void)(at), (void)(bytes))
#define MEMORY_PERMIT(at, bytes) ((void)(at), (void)(bytes))
#endif

#endif
