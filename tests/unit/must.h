/* must.h: MUST(call), for tests of functions that fill an error: where one fails the test fails, and says how.
 *
 * The call names its error `error`, which the macro declares: MUST(graft_runtime_open(NULL, &runtime, error)).
 * Include it after cmocka's header.
 */
#ifndef GRAFT_TEST_MUST_H
#define GRAFT_TEST_MUST_H

#include <graft/types.h>

#define MUST(call)                                                                                 \
    do {                                                                                           \
        graft_error must_error = {0}, *error = &must_error;                                        \
        graft_status must_status = (call);                                                         \
        if (must_status != GRAFT_OK) {                                                             \
            fail_msg("%s: %s: %s (%s)", #call, graft_status_text(must_status), error->message,     \
                     error->file);                                                                 \
        }                                                                                          \
    } while (0)

#endif
