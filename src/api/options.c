/* options.c: options structs across versions of the library.
 *
 * A struct begins with the size that the caller's header gave it. What an older caller's lacks keeps
 * its default; what a newer caller's has beyond ours must be 0, since we cannot do what it asks.
 */
#include "api/api_internal.h"

graft_status options_read(void *out, size_t size, const void *options, graft_error *error)
{
    if (options == NULL) {
        return GRAFT_OK;
    }
    size_t given;
    memcpy(&given, options, sizeof given);
    if (given < sizeof given) {
        return error_set(error, GRAFT_INVALID_ARGUMENT,
                         "an options struct with struct_size %zu: fill it with its _default()",
                         given);
    }
    const unsigned char *bytes = options;
    for (size_t i = size; i < given; i++) {
        if (bytes[i] != 0) {
            return error_set(error, GRAFT_UNSUPPORTED,
                             "an option that graft %s does not know is set", graft_version());
        }
    }
    memcpy(out, options, given < size ? given : size);
    memcpy(out, &size, sizeof size);
    return GRAFT_OK;
}

void options_give(void *out, size_t struct_size, const void *defaults, size_t size)
{
    if (out == NULL || struct_size < sizeof struct_size) {
        return;
    }
    memset(out, 0, struct_size);
    memcpy(out, defaults, struct_size < size ? struct_size : size);
    memcpy(out, &struct_size, sizeof struct_size);
}

graft_status sampling_read(const graft_sampling *sampling, graft_error *error)
{
    if (sampling->struct_size != sizeof *sampling) {
        return error_set(error, GRAFT_INVALID_ARGUMENT,
                         "a graft_sampling with struct_size %zu: fill it with its _default()",
                         sampling->struct_size);
    }
    for (size_t i = 0; i < ARRAY_LEN(sampling->reserved); i++) {
        if (sampling->reserved[i] != 0) {
            return error_set(error, GRAFT_UNSUPPORTED,
                             "a sampling option that graft %s does not know is set",
                             graft_version());
        }
    }
    return sampling_check(sampling, error);
}
