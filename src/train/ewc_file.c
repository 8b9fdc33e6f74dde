/* ewc_file.c: ewc.safetensors in an adapter's folder: what the tasks so far left to the next.
 *
 * Two vectors in the order of the adapter's files, so that any container of the base will do, and in the header the SHA-256 of
 * the weights beside it: factors that were changed since are no longer what the vectors speak of.
 */
#include "train/train_internal.h"

#include <math.h>
#include <stdlib.h>

enum { VERSION = 1, N_VECTORS = 2 };
static const char KEY[] = "graft.ewc", NAME[] = "ewc.safetensors";
static const char *const WEIGHTS[] = {"adapter_model.safetensors", "adapters.safetensors"};

static graft_status no_memory(graft_error *error)
{
    return error_set(error, GRAFT_NO_MEMORY, "no memory for what earlier tasks left");
}

static graft_status hash_file(struct mem *mem, const char *path, char out[65], graft_error *error)
{
    struct file_map map = {0};
    uint8_t digest[32];
    graft_status status = file_map_open(&map, mem, path, MAP_SHARED_FILE, error);
    if (status == GRAFT_OK)
        status = sha256(map.data, map.size, digest, error);
    if (status == GRAFT_OK)
        hex_write(digest, sizeof digest, out);
    file_map_close(&map);
    return status;
}

/* Of the adapter's weights in a folder; "": there are none. */
static graft_status hash_weights(struct mem *mem, const char *dir, char out[65], graft_error *error)
{
    graft_status status = GRAFT_OK;
    out[0] = '\0';
    for (size_t i = 0; i < ARRAY_LEN(WEIGHTS) && !out[0] && status == GRAFT_OK; i++) {
        char *path = path_join(mem, dir, WEIGHTS[i]);
        if (!path)
            return no_memory(error);
        if (path_exists(path))
            status = hash_file(mem, path, out, error);
        mem_free(mem, path);
    }
    return status;
}

/* ---- write --------------------------------------------------------------------------------- */

static json_t *make_metadata(const struct ewc *e, const char *weights)
{
    json_t *about = json_object(), *metadata = json_object();
    json_put(&about, "version", json_integer(VERSION));
    json_put(&about, "tasks", json_integer(e->tasks + 1));
    json_put(&about, "weights", json_string(weights));
    char *text = about ? json_dumps(about, JSON_COMPACT | JSON_SORT_KEYS) : NULL;
    json_decref(about);
    json_put(&metadata, KEY, text ? json_string(text) : NULL);
    free(text);
    return metadata;
}

static graft_status write_vectors(const struct ewc *e, const struct trainable *t,
                                  const float *values, struct file_writer *w,
                                  const json_t *metadata, graft_error *error)
{
    const struct tensor_decl decls[N_VECTORS] = {{"fisher", GRAFT_TYPE_F32, 1, {e->n}},
                                                 {"anchor", GRAFT_TYPE_F32, 1, {e->n}}};
    const float *const vectors[N_VECTORS] = {e->next, values};
    float *room = mem_calloc(e->mem, (size_t)e->n, sizeof *room);
    graft_status status = room ? GRAFT_OK : no_memory(error);
    if (status == GRAFT_OK)
        status = safetensors_write_header(w, decls, N_VECTORS, metadata, error);
    for (int i = 0; i < N_VECTORS && status == GRAFT_OK; i++) {
        trainable_to_files(t, vectors[i], room);
        status = file_writer_write(w, room, (size_t)e->n * sizeof *room, error);
    }
    mem_free(e->mem, room);
    return status == GRAFT_OK ? file_writer_commit(w, error) : status;
}

graft_status ewc_write(const struct ewc *e, const struct trainable *t, const float *values,
                       const char *dir, graft_error *error)
{
    struct file_writer file = {0};
    char weights[65];
    graft_status status = hash_weights(e->mem, dir, weights, error);
    if (status != GRAFT_OK)
        return status;
    json_t *metadata = make_metadata(e, weights);
    char *path = path_join(e->mem, dir, NAME);
    status = metadata && path ? file_writer_open(&file, e->mem, path, error) : no_memory(error);
    if (status == GRAFT_OK)
        status = write_vectors(e, t, values, &file, metadata, error);
    file_writer_abort(&file);
    mem_free(e->mem, path);
    json_decref(metadata);
    return status;
}

/* ---- read ---------------------------------------------------------------------------------- */

/* Through `next`, which is free until this task is measured; bytes of a file may lie anywhere. */
static graft_status read_vector(struct ewc *e, const struct trainable *t,
                                const struct safetensors *file, const char *name, float *out,
                                graft_error *error)
{
    const struct tensor_info *tensor = safetensors_find(file, name);
    if (!tensor || tensor->type != GRAFT_TYPE_F32 || tensor->n_dims != 1 ||
        tensor->shape[0] != e->n)
        return error_set(error, GRAFT_FORMAT,
                         "has no \"%s\" of the adapter's %lld values: remove it to go on without "
                         "what earlier tasks left",
                         name, (long long)e->n);
    memcpy(e->next, tensor->data, (size_t)e->n * sizeof *e->next);
    for (int64_t i = 0; i < e->n; i++)
        if (!isfinite(e->next[i]) || (out == e->fisher && e->next[i] < 0))
            return error_set(error, GRAFT_FORMAT, "value %lld of \"%s\" cannot be", (long long)i,
                             name);
    trainable_from_files(t, e->next, out);
    return GRAFT_OK;
}

static graft_status read_about(struct ewc *e, const struct safetensors *file, const char *weights,
                               graft_error *error)
{
    const char *text = json_string_value(json_object_get(file->metadata, KEY)), *of = NULL;
    json_t *about = NULL;
    int64_t version = 0;
    if (!text)
        return error_set(error, GRAFT_FORMAT, "is not what graft keeps of earlier tasks");
    graft_status status = json_parse(text, strlen(text), &about, error);
    if (status == GRAFT_OK)
        status = json_get_int(about, "version", VERSION, VERSION, &version, error);
    if (status == GRAFT_OK)
        status = json_get_int(about, "tasks", 1, INT_MAX, &e->tasks, error);
    if (status == GRAFT_OK)
        status = json_get_string(about, "weights", &of, error);
    if (status == GRAFT_OK && (!of || strcmp(of, weights)))
        status = error_set(error, GRAFT_INVALID_ARGUMENT,
                           "is of other weights than those beside it, which were changed since: "
                           "remove it to go on without what earlier tasks left");
    json_decref(about);
    return status;
}

static graft_status read_file(struct ewc *e, const struct trainable *t, const char *path,
                              const char *weights, graft_error *error)
{
    struct file_map map = {0};
    struct safetensors file = {0};
    uint8_t digest[32];
    graft_status status = file_map_open(&map, e->mem, path, MAP_SHARED_FILE, error);
    if (status == GRAFT_OK)
        status = safetensors_parse(&file, e->mem, map.data, map.size, error);
    if (status == GRAFT_OK)
        status = read_about(e, &file, weights, error);
    if (status == GRAFT_OK)
        status = read_vector(e, t, &file, "fisher", e->fisher, error);
    if (status == GRAFT_OK)
        status = read_vector(e, t, &file, "anchor", e->anchor, error);
    if (status == GRAFT_OK)
        status = sha256(map.data, map.size, digest, error);
    if (status == GRAFT_OK)
        hex_write(digest, sizeof digest, e->state);
    safetensors_free(&file);
    file_map_close(&map);
    return status;
}

graft_status ewc_read(struct ewc *e, const struct trainable *t, const char *dir, graft_error *error)
{
    char weights[65];
    char *path = path_join(e->mem, dir, NAME);
    if (!path)
        return no_memory(error);
    graft_status status = GRAFT_OK;
    if (path_is_dir(dir) && path_exists(path)) {
        status = hash_weights(e->mem, dir, weights, error);
        if (status == GRAFT_OK)
            status = read_file(e, t, path, weights, error);
        if (status != GRAFT_OK)
            error_at_file(error, path);
    }
    mem_free(e->mem, path);
    return status;
}
