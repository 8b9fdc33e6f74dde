/* convert.c: the public functions that turn one file into another, or into a description. */
#include "model/convert/convert.h"
#include "api/api_internal.h"

void graft_convert_options_init(graft_convert_options *options, size_t struct_size)
{
    graft_convert_options defaults = {.format = GRAFT_FORMAT_GGUF};
    options_give(options, struct_size, &defaults, sizeof defaults);
}

graft_status graft_convert(graft_runtime *runtime, const char *model_path, const char *out_path,
                           const graft_convert_options *options, graft_error *error)
{
    REQUIRE(runtime);
    REQUIRE(model_path);
    REQUIRE(out_path);
    CHECK_RUNTIME(runtime);
    graft_convert_options o = graft_convert_options_default();
    graft_status status = options_read(&o, sizeof o, options, error);
    if (status != GRAFT_OK) {
        return status;
    }
    if ((unsigned)o.format > GRAFT_FORMAT_MLX) {
        return error_set(error, GRAFT_INVALID_ARGUMENT, "format is none of GGUF, HF and MLX");
    }
    return model_convert(runtime, model_path, out_path, &o, error);
}
