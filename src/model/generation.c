/* generation.c: generation_config.json: what the makers of a model suggest for sampling.
 *
 * Only suggestions: whoever samples may overrule them. End tokens listed here are added to those of
 * config.json, since chat models often name their end-of-turn token only here.
 */
#include "model/model_internal.h"

enum { FILE_LIMIT = 1 << 20 };

static graft_status add_eos(struct config *config, const json_t *id, graft_error *error)
{
    if (!json_is_integer(id) || json_integer_value(id) < 0 || json_integer_value(id) > INT32_MAX)
        return error_set(error, GRAFT_FORMAT, "eos_token_id is no token id");
    for (int i = 0; i < config->n_eos; i++)
        if (config->eos[i] == json_integer_value(id))
            return GRAFT_OK;
    if (config->n_eos == MAX_EOS)
        return error_set(error, GRAFT_FORMAT, "more than %d end tokens", MAX_EOS);
    config->eos[config->n_eos++] = (graft_token_id)json_integer_value(id);
    return GRAFT_OK;
}

graft_status generation_parse(struct generation_defaults *out, struct config *config,
                              const json_t *json, graft_error *error)
{
    struct generation_defaults d = {
        .temperature = -1, .top_p = -1, .min_p = -1, .repetition_penalty = -1, .top_k = -1};
    int64_t top_k = -1;
    if (!json_is_object(json))
        return error_set(error, GRAFT_FORMAT, "the file is no JSON object");
    graft_status status = json_get_number(json, "temperature", &d.temperature, error);
    if (status == GRAFT_OK)
        status = json_get_number(json, "top_p", &d.top_p, error);
    if (status == GRAFT_OK)
        status = json_get_number(json, "min_p", &d.min_p, error);
    if (status == GRAFT_OK)
        status = json_get_number(json, "repetition_penalty", &d.repetition_penalty, error);
    if (status == GRAFT_OK)
        status = json_get_int(json, "top_k", -1, INT32_MAX, &top_k, error);
    if (status == GRAFT_OK)
        status = json_get_bool(json, "do_sample", &d.do_sample, error);
    d.top_k = (int)top_k;
    d.do_sample_given = json_is_boolean(json_object_get(json, "do_sample"));

    const json_t *eos = json_object_get(json, "eos_token_id");
    if (status == GRAFT_OK && json_is_array(eos))
        for (size_t i = 0; status == GRAFT_OK && i < json_array_size(eos); i++)
            status = add_eos(config, json_array_get(eos, i), error);
    else if (status == GRAFT_OK && eos && !json_is_null(eos))
        status = add_eos(config, eos, error);
    if (status == GRAFT_OK)
        *out = d;
    return status;
}

graft_status generation_read(struct model *model, const char *dir, graft_error *error)
{
    struct mem *mem = &model->runtime->mem;
    json_t *json = NULL;
    char *path = path_join(mem, dir, "generation_config.json");
    if (!path)
        return error_set(error, GRAFT_NO_MEMORY, "no memory for a path");
    graft_status status = GRAFT_OK;
    if (path_exists(path)) {
        status = json_read(mem, path, FILE_LIMIT, &json, error);
        if (status == GRAFT_OK)
            status = generation_parse(&model->generation, &model->config, json, error);
        if (status != GRAFT_OK)
            error_at_file(error, path);
    }
    json_decref(json);
    mem_free(mem, path);
    return status;
}
