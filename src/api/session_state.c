/* session_state.c: the public functions that make a session out of another one. */
#include "api/api_internal.h"

graft_status graft_session_fork(const graft_session *session, graft_session **out,
                                graft_error *error)
{
    REQUIRE(session);
    REQUIRE(out);
    CHECK_RUNTIME(session_model(session)->runtime);
    return session_fork(session, out, error);
}
