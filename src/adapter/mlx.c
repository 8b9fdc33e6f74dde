/* mlx.c: the adapter_config.json and tensor names of mlx-lm.
 *
 * The configuration is the list of all training options; what matters for the result is in lora_parameters and
 * in the kind and number of layers. The scale is a raw multiplier, and has to be there: tools disagree on
 * what it is when it is not.
 */
#include "adapter/adapter_internal.h"

#include <math.h>

enum { MAX_RANK = 1 << 20 };

static graft_status read_kind(struct spec *spec, const json_t *config, graft_error *error)
{
    const char *type = "lora";
    bool dora = false;
    graft_status status = json_get_string(config, "fine_tune_type", &type, error);
    if (status == GRAFT_OK)
        status = json_get_bool(config, "use_dora", &dora, error);
    if (status != GRAFT_OK)
        return status;
    if (!strcmp(type, "full"))
        return error_set(error, GRAFT_UNSUPPORTED,
                         "fine_tune_type \"full\" is a whole set of weights, not an adapter: merge "
                         "it into a model (mlx_lm.fuse) and open that");
    if (strcmp(type, "lora") != 0 && strcmp(type, "dora") != 0)
        return error_set(error, GRAFT_UNSUPPORTED,
                         "fine_tune_type \"%.40s\": graft applies lora and dora", type);
    spec->dora = dora || !strcmp(type, "dora");
    return GRAFT_OK;
}

/* num_layers, once called lora_layers: −1 and 0 are all. */
static graft_status read_layers(struct spec *spec, const json_t *config, graft_error *error)
{
    int64_t old = -1, n = -1;
    graft_status status = json_get_int(config, "lora_layers", -1, INT32_MAX, &old, error);
    if (status == GRAFT_OK)
        status = json_get_int(config, "num_layers", -1, INT32_MAX, &n, error);
    spec->last_layers = json_object_get(config, "num_layers") ? n : old;
    return status;
}

static graft_status read_parameters(struct spec *spec, const json_t *config,
                                    const struct adapter_options *options, graft_error *error)
{
    static const char *const KNOWN[] = {"rank", "alpha", "scale", "dropout", "keys"};
    const json_t *p = json_object_get(config, "lora_parameters"), *keys;
    const char *key;
    json_t *value;
    if (!json_is_object(p))
        return error_set(error, GRAFT_FORMAT, "\"lora_parameters\" must be an object");
    json_object_foreach((json_t *)p, key, value)
    {
        bool known = json_is_null(value);
        for (size_t i = 0; i < ARRAY_LEN(KNOWN); i++)
            known = known || !strcmp(key, KNOWN[i]);
        if (!known)
            return error_set(
                error, GRAFT_UNSUPPORTED,
                "the adapter uses lora_parameters \"%.60s\", which graft does not support", key);
    }
    spec->scale = options && options->rescale ? options->scale : (double)NAN;
    graft_status status = json_get_int(p, "rank", 1, MAX_RANK, &spec->rank, error);
    if (status == GRAFT_OK && isnan(spec->scale))
        status = json_get_number(p, "scale", &spec->scale, error);
    if (status == GRAFT_OK && isnan(spec->scale))
        return error_set(
            error, GRAFT_FORMAT,
            "\"lora_parameters\" has no \"scale\", and tools disagree on what it is then "
            "(10, 20): give it (--adapter-scale); to register the adapter, "
            "convert it with that first");
    keys = json_object_get(p, "keys");
    if (status != GRAFT_OK || !keys || json_is_null(keys))
        return status;
    if (!json_is_array(keys))
        return error_set(error, GRAFT_FORMAT, "\"keys\" must be a list of strings");
    spec->targets.given = true;
    return spec_names(spec, keys, "keys", &spec->targets.names, &spec->targets.n, error);
}

static graft_status add_tensor(struct spec *spec, const struct tensor_info *tensor,
                               graft_error *error)
{
    static const struct {
        const char *name;
        enum part part;
    } PARTS[] = {{"lora_a", PART_A}, {"lora_b", PART_B}, {"m", PART_MAGNITUDE}};
    const char *dot = strrchr(tensor->name, '.');
    for (size_t i = 0; dot && i < ARRAY_LEN(PARTS); i++)
        if (!strcmp(dot + 1, PARTS[i].name))
            return spec_add(spec, tensor->name, (size_t)(dot - tensor->name), PARTS[i].part, tensor,
                            error);
    return tensor_refused(tensor, GRAFT_UNSUPPORTED, error,
                          "it is no part of an MLX adapter that graft knows (lora_a, lora_b, m)");
}

graft_status spec_parse_mlx(struct spec *spec, struct mem *mem, const json_t *config,
                            const struct tensor_info *tensors, size_t n_tensors,
                            const struct adapter_options *options, graft_error *error)
{
    spec_begin(spec, mem, ADAPTER_MLX);
    if (!json_is_object(config))
        return error_set(error, GRAFT_FORMAT, "the configuration must be a JSON object");
    graft_status status = read_kind(spec, config, error);
    if (status == GRAFT_OK)
        status = read_layers(spec, config, error);
    if (status == GRAFT_OK)
        status = read_parameters(spec, config, options, error);
    if (status == GRAFT_OK)
        status = json_get_string(config, "model", &spec->base, error);
    for (size_t i = 0; i < n_tensors && status == GRAFT_OK; i++)
        status = add_tensor(spec, &tensors[i], error);
    return status == GRAFT_OK ? spec_check_modules(spec, error) : status;
}
