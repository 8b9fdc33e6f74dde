/* graft/train_config.h: the settings of training by their names, from text and from files.
 *
 * One table knows every setting (docs/train-settings.md): the names are those of Hugging Face's transformers, TRL and PEFT;
 * those of mlx-lm are understood, with what they mean there. A name that is not known, a value of another type and one out
 * of range are errors that say so. What is set is read as the structs that the trainer, recipes and datasets take. A
 * configuration belongs to one thread at a time.
 */
#ifndef GRAFT_PUBLIC_TRAIN_CONFIG_H
#define GRAFT_PUBLIC_TRAIN_CONFIG_H

#include <graft/train.h>

#ifdef __cplusplus
extern "C" {
#endif

typedef struct graft_train_config graft_train_config;

/* What is set. Texts and lists belong to the configuration. */
typedef struct graft_train_settings {
    const char *model, *data, *output; /* NULL (default): not said */
    graft_adapter_format format;       /* of what is written */
    graft_train_options train;         /* its recipe is the one below */
    graft_adapter_recipe recipe;
    graft_dataset_options dataset;
    const char *
        model_dtype; /* what a model that is trained whole is written as; NULL (default): as it was */
} graft_train_settings;

/* Everything has its default. `runtime` NULL: memory from malloc; else close it before the runtime. */
GRAFT_API graft_status graft_train_config_open(graft_runtime *runtime, graft_train_config **out,
                                               graft_error *error);
GRAFT_API void graft_train_config_close(graft_train_config **config);

/* One setting from text, as on a command line; of a list the names with commas between. NOT_FOUND names the known key that is
 * nearest; INVALID_ARGUMENT: the value is of another type or out of range; UNSUPPORTED: graft cannot do what it asks, and
 * what to do instead. After an error all is as before, here and below. */
GRAFT_API graft_status graft_train_config_set(graft_train_config *config, const char *key,
                                              const char *value, graft_error *error);
/* quick or stable (how is trained), coder, researcher, security, architect or reviewer (what is). */
GRAFT_API graft_status graft_train_config_preset(graft_train_config *config, const char *name,
                                                 graft_error *error);
/* The settings of a file: an object of JSON or YAML (by .json, .yaml, .yml, else by its first character), of at most 1 MiB, without
 * anchors, aliases and tags. A setting of null is one that is not given. Paths are taken as they are. As above, and what
 * graft_train_config_set says; FORMAT: neither JSON nor YAML. */
GRAFT_API graft_status graft_train_config_load(graft_train_config *config, const char *path,
                                               graft_error *error);

/* What is set now, until the next change. NULL for NULL. */
GRAFT_API const graft_train_settings *graft_train_config_settings(const graft_train_config *config);
/* Takes over what the settings say, which may be those of the configuration, changed; texts are copied. */
GRAFT_API graft_status graft_train_config_take(graft_train_config *config,
                                               const graft_train_settings *settings,
                                               graft_error *error);
/* All that is set as a JSON object that graft_train_config_load reads to the same settings. Until the next change. */
GRAFT_API graft_status graft_train_config_json(graft_train_config *config, const char **json,
                                               graft_error *error);
/* What was understood, but not to the letter: sentences. NULL past the last. */
GRAFT_API const char *graft_train_config_note(const graft_train_config *config, size_t i);

/* Row i of the table; false past the last. Texts live for ever. */
typedef struct graft_train_setting {
    const char *name;
    const char *aliases; /* other names with this meaning, blanks between; "": none */
    const char *type;    /* "number", "integer", "true or false", "text", "list" */
    const char *choices; /* texts that are allowed, blanks between; NULL: any */
    double low, high;    /* of numbers and integers */
    const char *meaning;
} graft_train_setting;
GRAFT_API bool graft_train_setting_at(size_t i, graft_train_setting *out);

#ifdef __cplusplus
}
#endif
#endif
