/* require.h: REQUIRE ends the process with a message: for threads and children, where cmocka's asserts cannot be used. */
#ifndef GRAFT_TEST_REQUIRE_H
#define GRAFT_TEST_REQUIRE_H

#include <stdio.h>
#include <unistd.h>

#define REQUIRE(condition, ...)                                                                    \
    do {                                                                                           \
        if (!(condition)) {                                                                        \
            fprintf(stderr, "%s:%d: %s: ", __FILE__, __LINE__, #condition);                        \
            fprintf(stderr, __VA_ARGS__);                                                          \
            fputc('\n', stderr);                                                                   \
            _exit(1);                                                                              \
        }                                                                                          \
    } while (0)

#endif
