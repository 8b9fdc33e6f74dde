/* config.h: the settings of training by their names.
 *
 * Owns the table of names, what values they take, what names of other programs mean here, and YAML. What a setting does
 * is the trainer's affair; the defaults are given by whoever opens a configuration. The functions are those of
 * graft/train_config.h, with memory in place of the runtime; texts and lists lie in an arena of the configuration.
 */
#ifndef GRAFT_CONFIG_H
#define GRAFT_CONFIG_H

#include "formats/formats.h"

#include <graft/train_config.h>

graft_status config_open(struct mem *mem, const graft_train_settings *defaults,
                         graft_train_config **out, graft_error *error);
void config_close(graft_train_config **config);
graft_status config_set(graft_train_config *c, const char *key, const char *value,
                        graft_error *error);
graft_status config_preset(graft_train_config *c, const char *name, graft_error *error);
/* The text of a file. */
enum config_language { CONFIG_JSON, CONFIG_YAML, CONFIG_EITHER };
graft_status config_parse(graft_train_config *c, const char *text, size_t size,
                          enum config_language language, graft_error *error);
graft_status config_load(graft_train_config *c, const char *path, graft_error *error);
const graft_train_settings *config_settings(const graft_train_config *c);
graft_status config_take(graft_train_config *c, const graft_train_settings *settings,
                         graft_error *error);
graft_status config_json(graft_train_config *c, const char **json, graft_error *error);
const char *config_note(const graft_train_config *c, size_t i);
bool config_setting_at(size_t i, graft_train_setting *out);

#endif
