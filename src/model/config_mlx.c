/* config_mlx.c: the "quantization" object of MLX directories: bits and group, per-module overrides.
 *
 * {"group_size": 64, "bits": 4, "mode": "affine", "model.layers.0.mlp.up_proj": {"bits": 8, …} | false}
 * Whether a module is quantised is decided by its tensors; this says how.
 */
#include "model/config_internal.h"

enum { MAX_OVERRIDES = 1 << 17 };

static graft_status read_quant(const json_t *json, struct mlx_quant *out, graft_error *error)
{
    int64_t bits = out->bits, group = out->group;
    const char *mode = NULL;
    graft_status status = json_get_int(json, "bits", 1, 64, &bits, error);
    if (status == GRAFT_OK)
        status = json_get_int(json, "group_size", 1, 1 << 20, &group, error);
    if (status == GRAFT_OK)
        status = json_get_string(json, "mode", &mode, error);
    if (status != GRAFT_OK)
        return status;
    if (mode && strcmp(mode, "affine"))
        return error_set(error, GRAFT_UNSUPPORTED,
                         "MLX quantization mode %s is not supported; graft reads affine", mode);
    if (bits != 4 && bits != 8)
        return error_set(error, GRAFT_UNSUPPORTED,
                         "MLX quantization with %lld bits is not supported; graft reads 4 and 8",
                         (long long)bits);
    if (group != 32 && group != 64 && group != 128)
        return error_set(error, GRAFT_UNSUPPORTED,
                         "MLX group size %lld is not supported; graft reads 32, 64 and 128",
                         (long long)group);
    *out = (struct mlx_quant){(int)bits, (int)group};
    return GRAFT_OK;
}

static int compare_modules(const void *a, const void *b)
{
    const struct mlx_override *x = a, *y = b;
    return strcmp(x->module, y->module);
}

static bool is_setting(const char *key)
{
    static const char *const SETTINGS[] = {"bits",         "group_size",   "mode",
                                           "quant_method", "linear_class", "quantization_mode"};
    for (size_t i = 0; i < ARRAY_LEN(SETTINGS); i++)
        if (!strcmp(key, SETTINGS[i]))
            return true;
    return false;
}

graft_status mlx_parse(struct config *config, struct arena *arena, const json_t *quantization,
                       graft_error *error)
{
    if (!json_is_object(quantization))
        return error_set(error, GRAFT_FORMAT, "\"quantization\" is no object");
    config->has_mlx = true;
    config->mlx = (struct mlx_quant){4, 64}; /* MLX's own defaults */
    graft_status status = read_quant(quantization, &config->mlx, error);
    if (status != GRAFT_OK)
        return status;
    size_t n = json_object_size(quantization);
    if (n > MAX_OVERRIDES)
        return error_set(error, GRAFT_LIMIT, "\"quantization\" has %zu entries", n);
    config->mlx_overrides = arena_alloc(arena, (n + 1) * sizeof(*config->mlx_overrides));
    if (!config->mlx_overrides)
        return error_set(error, GRAFT_NO_MEMORY, "no memory for the configuration");
    const char *key;
    json_t *value;
    json_object_foreach((json_t *)quantization, key, value)
    {
        if (is_setting(key))
            continue;
        struct mlx_override *o = &config->mlx_overrides[config->n_mlx_overrides];
        o->quant = json_is_false(value) ? (struct mlx_quant){0, 0} : config->mlx;
        if (json_is_object(value))
            status = read_quant(value, &o->quant, error);
        else if (!json_is_boolean(value))
            status = error_set(error, GRAFT_UNSUPPORTED,
                               "MLX quantization setting \"%s\" is not supported", key);
        if (status != GRAFT_OK)
            return status;
        o->module = arena_strndup(arena, key, strlen(key));
        if (!o->module)
            return error_set(error, GRAFT_NO_MEMORY, "no memory for the configuration");
        config->n_mlx_overrides++;
    }
    qsort(config->mlx_overrides, config->n_mlx_overrides, sizeof(*config->mlx_overrides),
          compare_modules);
    return GRAFT_OK;
}

struct mlx_quant mlx_lookup(const struct config *config, const char *module)
{
    const struct mlx_override key = {.module = module};
    const struct mlx_override *found =
        config->n_mlx_overrides ? bsearch(&key, config->mlx_overrides, config->n_mlx_overrides,
                                          sizeof(key), compare_modules)
                                : NULL;
    return found ? found->quant : config->mlx;
}
