/* hf.c: a conversion into a Hugging Face directory.
 *
 * All files are written into a folder beside the target, which is then renamed: the target appears whole
 * or not at all. It must not exist, or be empty.
 */
#include "convert_internal.h"

#include <errno.h>

enum { MAX_SIDE_FILE = 256 << 20 };

static graft_status write_in(struct conversion *c, const char *dir, const char *name,
                             const void *bytes, size_t size, graft_error *error)
{
    char *path = path_join(&c->runtime->mem, dir, name);
    if (!path)
        return error_set(error, GRAFT_NO_MEMORY, "out of memory");
    graft_status status = file_write_atomic(&c->runtime->mem, path, bytes, size, error);
    mem_free(&c->runtime->mem, path);
    return status;
}

/* With as few digits as give the same numbers again, so that 1e-6 stays what it was. Jansson's to free; NULL: no memory. */
static char *short_text(const json_t *value)
{
    for (int digits = 15; digits < 17; digits++) {
        char *text = json_dumps(value, JSON_INDENT(2) | JSON_REAL_PRECISION(digits));
        json_t *again = text ? json_loads(text, JSON_ALLOW_NUL, NULL) : NULL;
        bool same = json_equal(again, value), read = again;
        json_decref(again);
        if (same)
            return text;
        free(text);
        if (!read)
            return NULL;
    }
    return json_dumps(value, JSON_INDENT(2));
}

/* Takes over the value. */
static graft_status write_json(struct conversion *c, const char *dir, const char *name,
                               json_t *value, graft_error *error)
{
    struct buf line;
    char *text = value ? short_text(value) : NULL;
    json_decref(value);
    buf_init(&line, &c->runtime->mem, SIZE_MAX);
    buf_printf(&line, "%s\n", text ? text : "");
    graft_status status = text ? line.status : GRAFT_NO_MEMORY;
    status = status == GRAFT_OK ? write_in(c, dir, name, line.data, line.size, error)
                                : error_set(error, status, "out of memory");
    free(text); /* jansson's */
    buf_free(&line);
    return status;
}

static graft_status copy_side_file(struct conversion *c, const char *dir, const char *name,
                                   graft_error *error)
{
    struct mem *mem = &c->runtime->mem;
    char *from = model_file_beside(c->model, name), *bytes = NULL;
    size_t size;
    graft_status status = from ? GRAFT_OK : error_set(error, GRAFT_NO_MEMORY, "out of memory");
    if (from && path_exists(from)) {
        status = file_read(mem, from, MAX_SIDE_FILE, &bytes, &size, error);
        if (status == GRAFT_OK)
            status = write_in(c, dir, name, bytes, size, error);
    }
    mem_free(mem, bytes);
    mem_free(mem, from);
    return status;
}

static void set_special(json_t **json, const struct tokenizer *t, const char *role)
{
    const char *text = tokenizer_special_text(t, role);
    if (text)
        json_put(json, role, json_string(text));
}

/* tokenizer.json and tokenizer_config.json of a GGUF's tokenizer. */
static graft_status write_tokenizer(struct conversion *c, const char *dir, graft_error *error)
{
    const struct tokenizer *t = c->model->tokenizer;
    char *text = NULL;
    size_t size;
    if (!t)
        return GRAFT_OK;
    graft_status status = tokenizer_write_json(t, &c->runtime->mem, &text, &size, error);
    if (status == GRAFT_OK)
        status = write_in(c, dir, "tokenizer.json", text, size, error);
    mem_free(&c->runtime->mem, text);
    if (status != GRAFT_OK)
        return status;
    json_t *json = json_pack("{s:s, s:b}", "tokenizer_class", "PreTrainedTokenizerFast",
                             "add_bos_token", tokenizer_adds_bos(t));
    set_special(&json, t, "bos_token");
    set_special(&json, t, "eos_token");
    set_special(&json, t, "pad_token");
    set_special(&json, t, "unk_token");
    if (tokenizer_chat_template(t))
        json_put(&json, "chat_template", json_string(tokenizer_chat_template(t)));
    return write_json(c, dir, "tokenizer_config.json", json, error);
}

static graft_status write_side_files(struct conversion *c, const char *dir, graft_error *error)
{
    json_t *config = NULL;
    graft_status status = config_write_json(c, &config, error);
    if (status == GRAFT_OK)
        status = write_json(c, dir, "config.json", config, error);
    if (status != GRAFT_OK)
        return status;
    if (c->model->tensors.gguf)
        return write_tokenizer(c, dir, error);
    for (size_t i = 0; MODEL_SIDE_FILES[i] && status == GRAFT_OK; i++)
        status = copy_side_file(c, dir, MODEL_SIDE_FILES[i], error);
    return status;
}

/* Names of one item's tensors. */
struct names {
    char scales[MODULE_NAME_MAX], biases[MODULE_NAME_MAX];
};

/* A tensor; of an MLX type three: words, scales, biases. Their number. */
static size_t declare(const struct item *item, struct names *names, struct tensor_decl *decls)
{
    decls[0] = (struct tensor_decl){.name = item->name, .type = item->type, .n_dims = 1};
    decls[0].shape[0] = item->matrix ? item->matrix->n_out : item->n;
    if (!item->matrix)
        return 1;
    decls[0].n_dims = 2;
    decls[0].shape[1] = item->matrix->n_in;
    if (!type_is_mlx(item->type))
        return 1;
    int stem = (int)(strlen(item->name) - strlen("weight"));
    snprintf(names->scales, sizeof names->scales, "%.*sscales", stem, item->name);
    snprintf(names->biases, sizeof names->biases, "%.*sbiases", stem, item->name);
    decls[0].type = GRAFT_TYPE_U32;
    decls[0].shape[1] /= item->type == GRAFT_TYPE_MLX4 ? 8 : 4;
    decls[1] = decls[2] =
        (struct tensor_decl){.name = names->scales,
                             .type = GRAFT_TYPE_F16,
                             .n_dims = 2,
                             .shape = {item->matrix->n_out, item->matrix->n_in / MLX_GROUP}};
    decls[2].name = names->biases;
    return 3;
}

static graft_status write_weights_into(struct conversion *c, struct file_writer *file,
                                       graft_error *error)
{
    struct mem *mem = &c->runtime->mem;
    struct tensor_decl *decls = mem_calloc(mem, 3 * c->plan.count, sizeof *decls);
    struct names *names = mem_calloc(mem, c->plan.count, sizeof *names);
    bool mlx = c->options->format == GRAFT_FORMAT_MLX;
    json_t *metadata = json_pack("{s:s}", "format", mlx ? "mlx" : "pt");
    size_t n = 0;
    graft_status status =
        decls && names && metadata ? GRAFT_OK : error_set(error, GRAFT_NO_MEMORY, "out of memory");
    for (size_t i = 0; i < c->plan.count && status == GRAFT_OK; i++)
        n += declare(&c->plan.items[i], &names[i], decls + n);
    if (status == GRAFT_OK)
        status = safetensors_write_header(file, decls, n, metadata, error);
    for (size_t i = 0; i < c->plan.count && status == GRAFT_OK; i++)
        status = item_write(c, &c->plan.items[i], file, error);
    json_decref(metadata);
    mem_free(mem, names);
    mem_free(mem, decls);
    return status;
}

static graft_status write_weights(struct conversion *c, const char *dir, graft_error *error)
{
    struct file_writer file = {0};
    char *path = path_join(&c->runtime->mem, dir, "model.safetensors");
    if (!path)
        return error_set(error, GRAFT_NO_MEMORY, "out of memory");
    graft_status status = file_writer_open(&file, &c->runtime->mem, path, error);
    mem_free(&c->runtime->mem, path);
    if (status != GRAFT_OK)
        return status;
    status = write_weights_into(c, &file, error);
    if (status == GRAFT_OK)
        status = file_writer_commit(&file, error);
    file_writer_abort(&file);
    return status;
}

graft_status convert_to_hf(struct conversion *c, graft_error *error)
{
    struct folder_writer folder;
    graft_status status = folder_writer_open(&folder, c->out, error);
    if (status == GRAFT_OK)
        status = write_side_files(c, folder.work, error);
    if (status == GRAFT_OK)
        status = write_weights(c, folder.work, error);
    if (status == GRAFT_OK)
        status = conversion_written(c, folder.work, error);
    if (status == GRAFT_OK)
        status = folder_writer_commit(&folder, error);
    folder_writer_abort(&folder);
    return status;
}
