/* fuse.c: the public functions that bake adapters into weights. */
#include "adapter/fuse/fuse.h"
#include "api/api_internal.h"

#include <math.h>

void graft_fuse_options_init(graft_fuse_options *options, size_t struct_size)
{
    graft_fuse_options defaults = {.format = GRAFT_FORMAT_GGUF,
                                   .fallback = FUSE_FALLBACK,
                                   .sidecar_rank = 16,
                                   .kl_tokens = 512};
    options_give(options, struct_size, &defaults, sizeof defaults);
}

graft_status fuse_members_check(const graft_fuse_member *members, size_t n, graft_error *error)
{
    for (size_t i = 0; i < n; i++) {
        REQUIRE(members[i].path);
        if (!isfinite(members[i].weight) || !isfinite(members[i].scale)) {
            return error_set(error, GRAFT_INVALID_ARGUMENT,
                             "the weight or the scale of %s is not a finite number",
                             members[i].path);
        }
    }
    return n <= MIX_MAX ? GRAFT_OK
                        : error_set(error, GRAFT_INVALID_ARGUMENT,
                                    "%zu adapters to fuse: at most %d", n, MIX_MAX);
}

static graft_status check_options(const graft_fuse_options *o, graft_error *error)
{
    if ((unsigned)o->format > GRAFT_FORMAT_MLX) {
        return error_set(error, GRAFT_INVALID_ARGUMENT, "format is none of GGUF, HF and MLX");
    }
    if (!(o->fallback >= 0 && o->fallback < 1)) {
        return error_set(error, GRAFT_INVALID_ARGUMENT, "fallback is %g: it is a share in [0, 1)",
                         o->fallback);
    }
    if (o->sidecar != NULL && (o->sidecar_rank < 1 || o->sidecar_rank > 4096)) {
        return error_set(error, GRAFT_INVALID_ARGUMENT, "sidecar_rank is %d: it is 1 to 4096",
                         o->sidecar_rank);
    }
    if (o->kl_tokens < 0) {
        return error_set(error, GRAFT_INVALID_ARGUMENT, "kl_tokens is negative");
    }
    return GRAFT_OK;
}

graft_status graft_fuse(graft_runtime *runtime, const char *model_path,
                        const graft_fuse_member *members, size_t n_members, const char *out_path,
                        const graft_fuse_options *options, char **certificate, graft_error *error)
{
    REQUIRE(runtime);
    REQUIRE(model_path);
    REQUIRE(members);
    REQUIRE(out_path);
    CHECK_RUNTIME(runtime);
    graft_fuse_options o = graft_fuse_options_default();
    graft_status status = options_read(&o, sizeof o, options, error);
    if (status == GRAFT_OK && n_members == 0) {
        status = error_set(error, GRAFT_INVALID_ARGUMENT, "no adapters to fuse");
    }
    if (status == GRAFT_OK) {
        status = fuse_members_check(members, n_members, error);
    }
    if (status == GRAFT_OK) {
        status = check_options(&o, error);
    }
    return status == GRAFT_OK ? fuse_write(runtime, model_path, members, n_members, out_path, &o,
                                           certificate, error)
                              : status;
}
