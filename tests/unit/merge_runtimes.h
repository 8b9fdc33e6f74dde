/* merge_runtimes.h: runtimes of 1, 2 and 3 threads to merge hand-made modules on: setup and teardown of a group of tests. */
#ifndef GRAFT_TEST_MERGE_RUNTIMES_H
#define GRAFT_TEST_MERGE_RUNTIMES_H

#include "conformance/conformance_support.h"

enum { RUNTIMES = 3 };
static struct graft_runtime runtimes[RUNTIMES]; /* of 1, 2 and 3 threads */
static struct model models[RUNTIMES]; /* of whose parts none but the runtime is looked at */

static inline int open_runtimes(void **state)
{
    (void)state;
    for (int i = 0; i < RUNTIMES; i++) {
        runtime_start(&runtimes[i], i + 1, exact_tier());
        models[i].runtime = &runtimes[i];
    }
    return 0;
}

static inline int close_runtimes(void **state)
{
    (void)state;
    for (int i = 0; i < RUNTIMES; i++)
        runtime_stop(&runtimes[i]);
    return 0;
}

static inline void must(graft_status status, const graft_error *error)
{
    if (status != GRAFT_OK)
        fail_msg("%s", error->message);
}

#endif
