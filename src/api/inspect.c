/* inspect.c: the public function that describes a file: check, find it, call inward. */
#include "model/inspect/inspect.h"
#include "api/api_internal.h"

graft_status graft_inspect(graft_runtime *runtime, const char *path, char **json,
                           graft_error *error)
{
    REQUIRE(runtime);
    REQUIRE(path);
    REQUIRE(json);
    CHECK_RUNTIME(runtime);
    char *found = NULL;
    graft_status status = model_resolve(&runtime->mem, path, &found, error);
    if (status == GRAFT_OK) {
        status = model_inspect(runtime, found, json, error);
    }
    mem_free(&runtime->mem, found);
    return status;
}
