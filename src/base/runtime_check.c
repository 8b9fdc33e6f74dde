/* runtime_check.c: the question every public entry asks first.
 *
 * fork copies the runtime's memory but not its workers: waiting for them would hang, and the
 * locks may have been held. Said clearly instead.
 */
#include "base_internal.h"

#include <unistd.h>

graft_status runtime_check(const graft_runtime *runtime, graft_error *error)
{
    if (!runtime)
        return error_set(error, GRAFT_INVALID_ARGUMENT, "the runtime is NULL");
    if (runtime->pid != (int)getpid())
        return error_set(error, GRAFT_FORKED,
                         "the runtime was made by process %d: open a new one after fork",
                         runtime->pid);
    return GRAFT_OK;
}
