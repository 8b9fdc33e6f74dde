/* open.c: from a path to a model, and back.
 *
 * A GGUF file holds everything; a directory (or a .safetensors file in one) has its configuration,
 * generation defaults and tokenizer beside the weights. Nothing is visible unless all of it is valid.
 */
#include "model/model_internal.h"

enum { CONFIG_LIMIT = 16 << 20, ARENA_LIMIT = 1 << 30 };

/* The directory that a path is in, or is. */
static char *directory_of(struct mem *mem, const char *path)
{
    if (path_is_dir(path))
        return mem_strdup(mem, path);
    const char *base = path_base(path);
    return base == path ? mem_strdup(mem, ".") : mem_strndup(mem, path, (size_t)(base - path));
}

static graft_status read_config_hf(struct model *m, const char *dir, graft_error *error)
{
    struct mem *mem = &m->runtime->mem;
    json_t *json = NULL;
    char *path = path_join(mem, dir, "config.json");
    if (!path)
        return error_set(error, GRAFT_NO_MEMORY, "no memory for a path");
    graft_status status = json_read(mem, path, CONFIG_LIMIT, &json, error);
    if (status == GRAFT_OK)
        status = config_parse_hf(&m->config, &m->arena, json, error);
    if (status != GRAFT_OK)
        error_at_file(error, path);
    json_decref(json);
    mem_free(mem, path);
    return status;
}

static graft_status read_config(struct model *m, const char *dir, graft_error *error)
{
    if (!m->tensors.gguf) {
        graft_status status = read_config_hf(m, dir, error);
        return status == GRAFT_OK ? generation_read(m, dir, error) : status;
    }
    graft_status status = config_parse_gguf(&m->config, &m->arena, m->tensors.gguf, error);
    if (status != GRAFT_OK)
        error_at_file(error, m->path);
    return status;
}

/* Ids beyond the embedding's rows. One that begins or ends texts is an error: the end would never come.
 * Models are about whose padding token was added without a row; padding has no part here, so that it is
 * forgotten. */
static graft_status check_special(struct model *m, graft_error *error)
{
    struct config *c = &m->config;
    const char *what = "bos_token_id";
    graft_token_id wrong = c->bos >= c->n_vocab ? c->bos : -1;
    for (int i = 0; i < c->n_eos && wrong < 0; i++) {
        what = "eos_token_id";
        wrong = c->eos[i] >= c->n_vocab ? c->eos[i] : -1;
    }
    if (wrong >= 0) {
        error_set(error, GRAFT_FORMAT, "%s is %d, and the vocabulary has %d tokens", what, wrong,
                  c->n_vocab);
        error_at_file(error, m->path);
        return GRAFT_FORMAT;
    }
    if (c->pad >= c->n_vocab) {
        runtime_log(m->runtime, GRAFT_LOG_WARN,
                    "%s: pad_token_id is %d, and the vocabulary has %d tokens: there is no padding",
                    m->path, c->pad, c->n_vocab);
        c->pad = -1;
    }
    return GRAFT_OK;
}

/* A model without a tokenizer still runs on ids, unless the caller needs text. A template that does
 * not compile costs the chat commands, not the model. */
static graft_status open_tokenizer(struct model *m, const char *dir, bool needed,
                                   graft_error *error)
{
    struct mem *mem = &m->runtime->mem;
    graft_error why;
    graft_error_init(&why);
    graft_status status = m->tensors.gguf
                              ? tokenizer_open_gguf(mem, m->tensors.gguf, &m->tokenizer, &why)
                              : tokenizer_open_dir(mem, dir, &m->tokenizer, &why);
    if (status == GRAFT_NOT_FOUND && !needed)
        return GRAFT_OK;
    if (status != GRAFT_OK) {
        error_at_file(&why, m->path);
        if (error)
            *error = why;
        return status;
    }
    const char *source = tokenizer_chat_template(m->tokenizer);
    if (!source)
        return GRAFT_OK;
    status = template_compile(mem, source, strlen(source), &m->chat, &why);
    if (status == GRAFT_NO_MEMORY)
        return error_set(error, GRAFT_NO_MEMORY, "no memory for the chat template");
    if (status != GRAFT_OK)
        runtime_log(m->runtime, GRAFT_LOG_WARN, "%s: the chat template is unusable: %s", m->path,
                    why.message);
    return GRAFT_OK;
}

static graft_status open_parts(struct model *m, const struct model_options *options,
                               graft_error *error)
{
    struct mem *mem = &m->runtime->mem;
    graft_status status = tensor_set_open(&m->tensors, mem, m->path, options->map, error);
    if (status != GRAFT_OK)
        return status;
    char *dir = directory_of(mem, m->path);
    if (!dir)
        return error_set(error, GRAFT_NO_MEMORY, "no memory for a path");
    status = read_config(m, dir, error);
    if (status == GRAFT_OK)
        status = check_special(m, error);
    if (status == GRAFT_OK)
        status = weights_bind(m, error);
    if (status == GRAFT_OK)
        status = weights_rope(m, error);
    if (status == GRAFT_OK)
        status = open_tokenizer(m, dir, options->need_tokenizer, error);
    if (status == GRAFT_OK)
        status = weights_pack(m, options->pack, error);
    mem_free(mem, dir);
    return status;
}

graft_status model_open(graft_runtime *runtime, const char *path,
                        const struct model_options *options, struct model **out, graft_error *error)
{
    const struct model_options defaults = {.map = MAP_SHARED_FILE};
    struct model *m = mem_calloc(&runtime->mem, 1, sizeof(*m));
    if (!m)
        return error_set(error, GRAFT_NO_MEMORY, "no memory for a model");
    m->runtime = runtime;
    arena_init(&m->arena, &runtime->mem, ARENA_LIMIT);
    m->generation = (struct generation_defaults){
        .temperature = -1, .top_p = -1, .min_p = -1, .repetition_penalty = -1, .top_k = -1};
    m->path = mem_strdup(&runtime->mem, path);
    graft_status status = m->path ? open_parts(m, options ? options : &defaults, error)
                                  : error_set(error, GRAFT_NO_MEMORY, "no memory for a path");
    if (status == GRAFT_OK)
        *out = m;
    else
        model_close(&m);
    return status;
}

void model_close(struct model **model)
{
    struct model *m = *model;
    if (!m)
        return;
    struct mem *mem = &m->runtime->mem;
    template_free(&m->chat);
    tokenizer_close(&m->tokenizer);
    tensor_set_close(&m->tensors);
    mem_free(mem, m->packed);
    for (size_t i = 0; i < m->n_fused; i++)
        mem_free(mem, m->fused[i]);
    mem_free(mem, m->fused);
    arena_free(&m->arena);
    mem_free(mem, m->path);
    mem_free(mem, m);
    *model = NULL;
}
