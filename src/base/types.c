/* types.c: the facts about tensor element types, from the list in graft/types.h.
 *
 * Owns names, block sizes and the numbers GGUF gives them. What a block contains is the business of
 * the kernels.
 */
#include "base/base.h"

#include <strings.h>

static const struct type_traits TRAITS[GRAFT_TYPE_COUNT] = {
#define TYPE_TRAITS(name, text, ggml, block, bytes) {text, ggml, block, bytes},
    GRAFT_TYPE_LIST(TYPE_TRAITS)
#undef TYPE_TRAITS
};

static bool type_known(graft_type type)
{
    return (int)type >= 0 && type < GRAFT_TYPE_COUNT;
}

const struct type_traits *type_traits(graft_type type)
{
    static const struct type_traits unknown = {"unknown", -1, 1, 0};
    return type_known(type) ? &TRAITS[type] : &unknown;
}

bool type_row_bytes(graft_type type, int64_t n, size_t *out)
{
    const struct type_traits *traits = type_traits(type);
    if (!type_known(type) || n < 0 || n % traits->block_values)
        return false;
    return size_mul((size_t)(n / traits->block_values), traits->block_bytes, out);
}

graft_type type_from_ggml(uint32_t ggml_id)
{
    for (int type = 0; type < GRAFT_TYPE_COUNT; type++)
        if (TRAITS[type].ggml_id >= 0 && (uint32_t)TRAITS[type].ggml_id == ggml_id)
            return (graft_type)type;
    return GRAFT_TYPE_COUNT;
}

const char *graft_type_name(graft_type type)
{
    return type_traits(type)->name;
}

graft_type graft_type_from_name(const char *name)
{
    for (int type = 0; name && type < GRAFT_TYPE_COUNT; type++)
        if (!strcasecmp(name, TRAITS[type].name))
            return (graft_type)type;
    return GRAFT_TYPE_COUNT;
}
