/* fuzz_train_config.c: hostile settings of training: YAML or JSON, behind a first byte that chooses: Y, J, else either; S:
 * one setting as KEY=VALUE. What is accepted is written as JSON that is read to the same; what is not has changed nothing.
 */
#include "train/config/config.h"

#include <graft/graft.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void require(bool condition)
{
    if (!condition)
        abort();
}

static graft_train_config *fresh(void)
{
    graft_train_config *c = NULL;
    require(graft_train_config_open(NULL, &c, NULL) == GRAFT_OK);
    return c;
}

static graft_status read_one(graft_train_config *c, const char *text, size_t size,
                             graft_error *error)
{
    char pair[4096];
    snprintf(pair, sizeof pair, "%.*s", (int)(size < 4095 ? size : 4095), text);
    char *value = strchr(pair, '=');
    if (!value)
        return config_preset(c, pair, error);
    *value++ = 0;
    return config_set(c, pair, value, error);
}

static void check(graft_train_config *c)
{
    const char *json, *again;
    graft_train_config *other = fresh();
    require(config_json(c, &json, NULL) == GRAFT_OK);
    require(config_parse(other, json, strlen(json), CONFIG_JSON, NULL) == GRAFT_OK);
    require(config_json(other, &again, NULL) == GRAFT_OK);
    require(!strcmp(json, again));
    const graft_train_settings *s = config_settings(c);
    require(s->recipe.rank > 0 && s->recipe.dropout < 1 && s->train.batch_size > 0);
    require(s->train.max_steps >= 0 && s->train.lr_scheduler && s->recipe.alpha > 0);
    for (size_t i = 0; i < s->recipe.n_targets; i++)
        require(s->recipe.targets[i] != NULL);
    graft_train_config_close(&other);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    graft_error error = {0};
    if (size == 0)
        return 0;
    graft_train_config *c = fresh(), *untouched = fresh();
    const char *text = (const char *)data + 1, *json, *other;
    graft_status status = data[0] == 'S' ? read_one(c, text, size - 1, &error)
                                         : config_parse(c, text, size - 1,
                                                        data[0] == 'Y'   ? CONFIG_YAML
                                                        : data[0] == 'J' ? CONFIG_JSON
                                                                         : CONFIG_EITHER,
                                                        &error);
    if (status != GRAFT_OK) {
        require(error.status == status && error.message[0] && !strchr(error.message, '\n'));
        require(config_json(c, &json, NULL) == GRAFT_OK &&
                config_json(untouched, &other, NULL) == GRAFT_OK);
        require(!strcmp(json, other));
    }
    check(c);
    graft_train_config_close(&c);
    graft_train_config_close(&untouched);
    return 0;
}
