/* files.c: which files a model is made of.
 *
 * The maps of its weights say which files those came from; beside them a Hugging Face directory has a configuration,
 * a tokenizer and the like under names of its own. Nothing is opened here.
 */
#include "model/model_internal.h"

const char *const MODEL_SIDE_FILES[] = {"tokenizer.json",
                                        "tokenizer_config.json",
                                        "vocab.json",
                                        "merges.txt",
                                        "special_tokens_map.json",
                                        "added_tokens.json",
                                        "tokenizer.model",
                                        "chat_template.jinja",
                                        "generation_config.json",
                                        NULL};

char *model_file_beside(const struct model *m, const char *name)
{
    struct mem *mem = &m->runtime->mem;
    if (path_is_dir(m->path))
        return path_join(mem, m->path, name);
    size_t length = (size_t)(path_base(m->path) - m->path); /* a .safetensors in its directory */
    char *dir = length ? mem_strndup(mem, m->path, length) : mem_strdup(mem, ".");
    char *joined = dir ? path_join(mem, dir, name) : NULL;
    mem_free(mem, dir);
    return joined;
}

static graft_status refuse_beside(const struct model *m, const char *name, const char *out,
                                  graft_error *error)
{
    char *path = model_file_beside(m, name);
    graft_status status = path ? path_refuse_same(out, path, error)
                               : error_set(error, GRAFT_NO_MEMORY, "no memory for a path");
    mem_free(&m->runtime->mem, path);
    return status;
}

graft_status model_refuse_output(const struct model *m, const char *out, graft_error *error)
{
    static const char *const OTHERS[] = {"config.json", "model.safetensors.index.json"};
    graft_status status = tensor_set_refuse(&m->tensors, out, error);
    if (m->tensors.gguf)
        return status;
    for (size_t i = 0; i < ARRAY_LEN(OTHERS) && status == GRAFT_OK; i++)
        status = refuse_beside(m, OTHERS[i], out, error);
    for (size_t i = 0; MODEL_SIDE_FILES[i] && status == GRAFT_OK; i++)
        status = refuse_beside(m, MODEL_SIDE_FILES[i], out, error);
    return status;
}
