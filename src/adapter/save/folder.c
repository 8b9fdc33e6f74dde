/* folder.c: the folder that a PEFT or an MLX adapter is: configuration, card, weights; all of it or nothing. */
#include "adapter/save/save_internal.h"

#include <stdlib.h>

enum { MAX_CONFIG = 16 << 20 };

json_t *json_number_of(double x)
{
    char text[40];
    if (x > -1e15 && x < 1e15 && x == (double)(json_int_t)x)
        return json_integer((json_int_t)x);
    snprintf(text, sizeof text, "%.15g", x);
    return json_real(strtod(text, NULL));
}

static graft_status no_memory(graft_error *error)
{
    return error_set(error, GRAFT_NO_MEMORY, "no memory to write an adapter");
}

static int append(const char *bytes, size_t size, void *buffer)
{
    return buf_append(buffer, bytes, size) ? 0 : -1;
}

/* Through a buffer of our own, whose failure sticks: jansson forgets one that happens in a key. */
static graft_status write_json(const struct draft *draft, const char *dir, const char *name,
                               const json_t *value, graft_error *error)
{
    struct mem *mem = &draft->model->runtime->mem;
    struct buf text;
    buf_init(&text, mem, MAX_CONFIG);
    int dumped = json_dump_callback(value, append, &text, JSON_INDENT(2) | JSON_REAL_PRECISION(15));
    char *path = path_join(mem, dir, name);
    graft_status status = dumped == 0 && text.status == GRAFT_OK && path
                              ? file_write_atomic(mem, path, text.data, text.size, error)
                              : no_memory(error);
    mem_free(mem, path);
    buf_free(&text);
    return status;
}

/* The header of the weights: what the card says in short, for readers of this file alone. */
static json_t *make_metadata(const struct draft *draft, const char *kind)
{
    static const char *const KEYS[] = {"name", "version", "description"};
    json_t *json = json_object();
    json_put(&json, "format", json_string(kind));
    for (size_t i = 0; i < ARRAY_LEN(KEYS); i++) {
        const json_t *value = json_object_get(draft->card, KEYS[i]);
        char key[32];
        snprintf(key, sizeof key, "graft.%s", KEYS[i]);
        if (json_is_string(value))
            json_put(&json, key, json_copy((json_t *)value));
    }
    const json_t *base = json_object_get(draft->card, "base");
    if (json_is_string(json_object_get(base, "fingerprint")))
        json_put(&json, "graft.base", json_copy(json_object_get(base, "fingerprint")));
    return json;
}

static graft_status write_bytes(void *user, const void *bytes, size_t size, graft_error *error)
{
    return file_writer_write(user, bytes, size, error);
}

static graft_status write_tensors(const struct draft *draft, const struct pieces *pieces,
                                  struct file_writer *file, const char *kind, graft_error *error)
{
    json_t *metadata = make_metadata(draft, kind);
    struct tensor_decl *decls = mem_calloc(pieces->mem, pieces->n + 1, sizeof *decls);
    graft_status status = metadata && decls ? GRAFT_OK : no_memory(error);
    for (size_t i = 0; i < pieces->n && status == GRAFT_OK; i++)
        decls[i] = pieces->items[i].decl;
    if (status == GRAFT_OK)
        status = safetensors_write_header(file, decls, pieces->n, metadata, error);
    if (status == GRAFT_OK)
        status = pieces_write(pieces, draft, write_bytes, file, error);
    mem_free(pieces->mem, decls);
    json_decref(metadata);
    return status;
}

static graft_status write_weights(const struct draft *draft, const struct pieces *pieces,
                                  const char *dir, const struct folder_plan *plan,
                                  graft_error *error)
{
    struct file_writer file = {0};
    char *path = path_join(pieces->mem, dir, plan->weights);
    graft_status status =
        path ? file_writer_open(&file, pieces->mem, path, error) : no_memory(error);
    mem_free(pieces->mem, path);
    if (status != GRAFT_OK)
        return status;
    status = write_tensors(draft, pieces, &file, plan->kind, error);
    if (status == GRAFT_OK)
        status = file_writer_commit(&file, error);
    file_writer_abort(&file);
    return status;
}

graft_status write_folder(const struct draft *draft, const struct pieces *pieces, const char *out,
                          const struct folder_plan *plan, graft_error *error)
{
    struct folder_writer folder = {.open = false};
    graft_status status = plan->config ? folder_writer_open(&folder, out, error) : no_memory(error);
    if (status == GRAFT_OK)
        status = write_weights(draft, pieces, folder.work, plan, error);
    if (status == GRAFT_OK && draft->beside)
        status = draft->beside(draft->beside_user, folder.work, error);
    if (status == GRAFT_OK)
        status = write_json(draft, folder.work, "adapter_config.json", plan->config, error);
    if (status == GRAFT_OK)
        status = write_json(draft, folder.work, "graft.json", draft->card, error);
    if (status == GRAFT_OK)
        status = folder_writer_commit(&folder, error);
    folder_writer_abort(&folder);
    json_decref(plan->config);
    return status;
}
