/* train_config.c: the public functions on settings of training: check, call inward. */
#include "api/api_internal.h"
#include "train/config/config.h"

graft_status graft_train_config_open(graft_runtime *runtime, graft_train_config **out,
                                     graft_error *error)
{
    REQUIRE(out);
    graft_train_settings defaults = {.format = GRAFT_ADAPTER_PEFT,
                                     .train = graft_train_options_default(),
                                     .recipe = graft_adapter_recipe_default(),
                                     .dataset = graft_dataset_options_default()};
    return config_open(runtime != NULL ? &runtime->mem : NULL, &defaults, out, error);
}

void graft_train_config_close(graft_train_config **config)
{
    if (config != NULL) {
        config_close(config);
    }
}

graft_status graft_train_config_set(graft_train_config *config, const char *key, const char *value,
                                    graft_error *error)
{
    REQUIRE(config);
    REQUIRE(key);
    REQUIRE(value);
    return config_set(config, key, value, error);
}

graft_status graft_train_config_preset(graft_train_config *config, const char *name,
                                       graft_error *error)
{
    REQUIRE(config);
    REQUIRE(name);
    return config_preset(config, name, error);
}

graft_status graft_train_config_load(graft_train_config *config, const char *path,
                                     graft_error *error)
{
    REQUIRE(config);
    REQUIRE(path);
    return config_load(config, path, error);
}

const graft_train_settings *graft_train_config_settings(const graft_train_config *config)
{
    return config != NULL ? config_settings(config) : NULL;
}

graft_status graft_train_config_take(graft_train_config *config,
                                     const graft_train_settings *settings, graft_error *error)
{
    REQUIRE(config);
    REQUIRE(settings);
    return config_take(config, settings, error);
}

graft_status graft_train_config_json(graft_train_config *config, const char **json,
                                     graft_error *error)
{
    REQUIRE(config);
    REQUIRE(json);
    return config_json(config, json, error);
}

const char *graft_train_config_note(const graft_train_config *config, size_t i)
{
    return config != NULL ? config_note(config, i) : NULL;
}

bool graft_train_setting_at(size_t i, graft_train_setting *out)
{
    return out != NULL && config_setting_at(i, out);
}
