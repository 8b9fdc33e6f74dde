/* tensor_set.c: the tensors of one model, from one file or from a directory of shards.
 *
 * Finds the files, keeps them mapped, parses each with the reader its content asks for, and gives one
 * index over all names. The only part of this folder that opens files for reading. The names in an
 * index file are untrusted: a shard is a plain name in the same directory or it is refused.
 */
#include "formats/formats_internal.h"

#include <dirent.h>

enum { INDEX_LIMIT = 100000000, MAX_SHARDS = 10000, MAX_LISTED = 6 };

static const char SINGLE_FILE[] = "model.safetensors";
static const char INDEX_FILE[] = "model.safetensors.index.json";

struct tensor_ref {
    const struct tensor_info *info;
    size_t file;
};

/* A growing list of file names, owned. */
struct name_list {
    struct mem *mem;
    char **names;
    size_t count, capacity;
};

/* ---- lists of names ----------------------------------------------------------------------- */

static void list_free(struct name_list *list)
{
    for (size_t i = 0; i < list->count; i++)
        mem_free(list->mem, list->names[i]);
    mem_free(list->mem, list->names);
}

static bool list_add(struct name_list *list, const char *name)
{
    if (list->count == list->capacity) {
        size_t capacity = list->capacity ? 2 * list->capacity : 16;
        char **names = mem_resize(list->mem, list->names, capacity * sizeof *names);
        if (!names)
            return false;
        list->names = names;
        list->capacity = capacity;
    }
    char *copy = mem_strdup(list->mem, name);
    if (copy)
        list->names[list->count++] = copy;
    return copy != NULL;
}

static int by_name(const void *left, const void *right)
{
    return strcmp(*(char *const *)left, *(char *const *)right);
}

static void list_sort(struct name_list *list)
{
    if (list->count > 1)
        qsort(list->names, list->count, sizeof *list->names, by_name);
}

/* "a, b and 3 more", for a message. */
static void list_text(const struct name_list *list, char *out, size_t room)
{
    size_t used = 0;
    out[0] = '\0';
    for (size_t i = 0; i < list->count; i++) {
        struct shown name = show_name(list->names[i], strlen(list->names[i]));
        size_t length = strlen(name.text);
        bool fits =
            i < MAX_LISTED && used + length + sizeof ", and 18446744073709551615 more" < room;
        if (!fits) {
            snprintf(out + used, room - used, " and %zu more", list->count - i);
            return;
        }
        used += (size_t)snprintf(out + used, room - used, "%s%s", i ? ", " : "", name.text);
    }
}

static bool has_suffix(const char *name, const char *suffix)
{
    size_t n = strlen(name), m = strlen(suffix);
    return n >= m && !strcmp(name + n - m, suffix);
}

/* The files of `dir` that end in one of the suffixes, sorted. */
static graft_status list_files(struct name_list *list, const char *dir, const char *const *suffixes,
                               size_t n_suffixes, graft_error *error)
{
    DIR *stream = opendir(dir);
    if (!stream)
        return error_set(error, GRAFT_IO, "the directory cannot be read");
    graft_status status = GRAFT_OK;
    const struct dirent *entry;
    while (!status && (entry = readdir(stream)))
        for (size_t i = 0; i < n_suffixes; i++)
            if (has_suffix(entry->d_name, suffixes[i]) && !list_add(list, entry->d_name))
                status = error_set(error, GRAFT_NO_MEMORY, "no memory for the names of files");
    closedir(stream);
    list_sort(list);
    return status;
}

/* ---- files -------------------------------------------------------------------------------- */

static graft_status reserve_files(struct tensor_set *set, size_t n, graft_error *error)
{
    set->maps = mem_calloc(set->mem, n, sizeof *set->maps);
    set->files = mem_calloc(set->mem, n, sizeof *set->files);
    if (!set->maps || !set->files)
        return error_set(error, GRAFT_NO_MEMORY, "no memory for %zu files", n);
    set->n_maps = n;
    return GRAFT_OK;
}

static graft_status parse_gguf(struct tensor_set *set, graft_error *error)
{
    int64_t parts = 1;
    struct gguf *g = mem_calloc(set->mem, 1, sizeof *g);
    if (!g)
        return error_set(error, GRAFT_NO_MEMORY, "no memory for a GGUF");
    set->gguf = g;
    graft_status status = gguf_parse(g, set->mem, set->maps[0].data, set->maps[0].size, error);
    if (!status)
        status = gguf_get_int(g, "split.count", 0, INT32_MAX, &parts, error);
    if (!status && parts > 1)
        status = error_set(error, GRAFT_UNSUPPORTED,
                           "one of the %lld parts of a split GGUF: merge them with "
                           "`llama-gguf-split --merge` first",
                           (long long)parts);
    return status;
}

/* File i of the set: a shard, or the only one, which may be a GGUF. */
static graft_status open_file(struct tensor_set *set, size_t i, const char *path,
                              enum map_mode mode, graft_error *error)
{
    struct file_map *map = &set->maps[i];
    graft_status status = file_map_open(map, set->mem, path, mode, error);
    if (!status && set->n_maps == 1 && begins_with(map->data, map->size, "GGUF")) {
        mem_free(set->mem, set->files);
        set->files = NULL;
        status = parse_gguf(set, error);
    } else if (!status) {
        status = safetensors_parse(&set->files[i], set->mem, map->data, map->size, error);
    }
    if (status)
        error_at_file(error, path);
    return status;
}

static graft_status open_single(struct tensor_set *set, const char *path, enum map_mode mode,
                                graft_error *error)
{
    graft_status status = reserve_files(set, 1, error);
    return status ? status : open_file(set, 0, path, mode, error);
}

static graft_status open_in(struct tensor_set *set, const char *dir, const char *name,
                            enum map_mode mode, graft_error *error)
{
    char *path = path_join(set->mem, dir, name);
    if (!path)
        return error_set(error, GRAFT_NO_MEMORY, "no memory for a path");
    graft_status status = open_single(set, path, mode, error);
    mem_free(set->mem, path);
    return status;
}

/* ---- shards ------------------------------------------------------------------------------- */

static bool is_plain_name(const char *name, size_t length)
{
    return name_is_valid(name, length) && strcmp(name, ".") && strcmp(name, "..") &&
           !strpbrk(name, "/\\");
}

static graft_status read_index(struct mem *mem, const char *path, json_t **out, graft_error *error)
{
    char *text;
    size_t size;
    graft_status status = file_read(mem, path, INDEX_LIMIT, &text, &size, error);
    if (status)
        return status;
    const char *foreign = foreign_file((const uint8_t *)text, size);
    if (foreign && size && *text != '{')
        status = error_set(error, GRAFT_UNSUPPORTED, "not an index of shards: it is %s", foreign);
    else
        status = json_parse(text, size, out, error);
    mem_free(mem, text);
    return status;
}

/* The distinct shard names of the weight map, sorted. */
static graft_status collect_shards(struct name_list *shards, const json_t *weight_map,
                                   graft_error *error)
{
    const char *tensor;
    json_t *value;
    struct str_map seen;
    graft_status status = GRAFT_OK;
    if (!json_is_object(weight_map) || !json_object_size(weight_map))
        return error_set(error, GRAFT_FORMAT, "\"weight_map\" is no object with members");
    str_map_init(&seen, shards->mem);
    json_object_foreach((json_t *)weight_map, tensor, value)
    {
        const char *name = json_string_value(value);
        bool known = false;
        if (!name || !is_plain_name(name, json_string_length(value))) {
            status = tensor_error(error, GRAFT_FORMAT, tensor, strlen(tensor),
                                  "its shard \"%s\" is no plain file name",
                                  show_name(name ? name : "", json_string_length(value)).text);
            break;
        }
        if (!str_map_put(&seen, name, strlen(name), 0, &known) ||
            (!known && !list_add(shards, name))) {
            status = error_set(error, GRAFT_NO_MEMORY, "no memory for the names of shards");
            break;
        }
    }
    str_map_free(&seen);
    list_sort(shards);
    if (!status && shards->count > MAX_SHARDS)
        status = error_set(error, GRAFT_LIMIT, "%zu shards (at most %d are supported)",
                           shards->count, MAX_SHARDS);
    return status;
}

static graft_status check_shards_exist(const struct name_list *shards, const char *dir,
                                       graft_error *error)
{
    struct name_list missing = {.mem = shards->mem};
    graft_status status = GRAFT_OK;
    for (size_t i = 0; !status && i < shards->count; i++) {
        char *path = path_join(shards->mem, dir, shards->names[i]);
        if (!path || (!path_exists(path) && !list_add(&missing, shards->names[i])))
            status = error_set(error, GRAFT_NO_MEMORY, "no memory for the names of shards");
        mem_free(shards->mem, path);
    }
    if (!status && missing.count) {
        char text[400];
        list_text(&missing, text, sizeof text);
        status = error_set(error, GRAFT_NOT_FOUND, "%zu of %zu shards missing: %s", missing.count,
                           shards->count, text);
    }
    list_free(&missing);
    return status;
}

static graft_status open_shards(struct tensor_set *set, const struct name_list *shards,
                                const char *dir, enum map_mode mode, graft_error *error)
{
    graft_status status = reserve_files(set, shards->count, error);
    for (size_t i = 0; !status && i < shards->count; i++) {
        char *path = path_join(set->mem, dir, shards->names[i]);
        status = path ? open_file(set, i, path, mode, error)
                      : error_set(error, GRAFT_NO_MEMORY, "no memory for a path");
        mem_free(set->mem, path);
    }
    return status;
}

/* Every tensor of the index is in the shard that the index names. The shards are open, sorted. */
static graft_status check_weight_map(const struct tensor_set *set, const struct name_list *shards,
                                     const json_t *weight_map, graft_error *error)
{
    const char *tensor;
    json_t *value;
    json_object_foreach((json_t *)weight_map, tensor, value)
    {
        const char *shard = json_string_value(value);
        char **found =
            bsearch(&shard, shards->names, shards->count, sizeof *shards->names, by_name);
        if (!found || !safetensors_find(&set->files[found - shards->names], tensor))
            return tensor_error(error, GRAFT_FORMAT, tensor, strlen(tensor),
                                "the index places it in \"%s\", where it is not",
                                show_name(shard, strlen(shard)).text);
    }
    return GRAFT_OK;
}

static graft_status open_index(struct tensor_set *set, const char *dir, const char *path,
                               enum map_mode mode, graft_error *error)
{
    struct name_list shards = {.mem = set->mem};
    json_t *index = NULL;
    graft_status status = read_index(set->mem, path, &index, error);
    const json_t *weight_map = json_object_get(index, "weight_map");
    if (!status)
        status = collect_shards(&shards, weight_map, error);
    if (!status)
        status = check_shards_exist(&shards, dir, error);
    if (!status)
        status = open_shards(set, &shards, dir, mode, error);
    if (!status)
        status = check_weight_map(set, &shards, weight_map, error);
    if (status)
        error_at_file(error, path); /* unless a shard is named already */
    list_free(&shards);
    json_decref(index);
    return status;
}

/* ---- directories -------------------------------------------------------------------------- */

/* Nothing that can be opened: says what is there instead. */
static graft_status nothing_to_open(struct mem *mem, const char *dir, graft_error *error)
{
    static const char *const PICKLES[] = {".bin", ".pt", ".pth", ".ckpt"};
    static const char *const OTHERS[] = {".safetensors"};
    struct name_list found = {.mem = mem};
    char text[200];
    graft_status status = list_files(&found, dir, OTHERS, ARRAY_LEN(OTHERS), error);
    if (!status && found.count) {
        list_text(&found, text, sizeof text);
        status = error_set(error, GRAFT_NOT_FOUND,
                           "the directory has neither %s nor %s, only %s: name the file itself",
                           SINGLE_FILE, INDEX_FILE, text);
        goto done;
    }
    if (!status)
        status = list_files(&found, dir, PICKLES, ARRAY_LEN(PICKLES), error);
    if (status)
        goto done;
    list_text(&found, text, sizeof text);
    if (found.count)
        status = error_set(error, GRAFT_UNSUPPORTED,
                           "the directory has only pickled weights (%s). Pickles can run code when "
                           "they are read, so graft does not read them: download the safetensors "
                           "version, or load and save the model once with safe_serialization",
                           text);
    else
        status =
            error_set(error, GRAFT_NOT_FOUND, "the directory has no %s, no %s and no .gguf file",
                      SINGLE_FILE, INDEX_FILE);
done:
    list_free(&found);
    return status;
}

static graft_status open_only_gguf(struct tensor_set *set, const char *dir, enum map_mode mode,
                                   graft_error *error)
{
    static const char *const GGUFS[] = {".gguf"};
    struct name_list found = {.mem = set->mem};
    graft_status status = list_files(&found, dir, GGUFS, ARRAY_LEN(GGUFS), error);
    if (!status && found.count == 1) {
        status = open_in(set, dir, found.names[0], mode, error);
    } else if (!status && found.count) {
        char text[300];
        list_text(&found, text, sizeof text);
        status =
            error_set(error, GRAFT_INVALID_ARGUMENT,
                      "the directory has %zu .gguf files, name one of them: %s", found.count, text);
    } else if (!status) {
        status = nothing_to_open(set->mem, dir, error);
    }
    list_free(&found);
    return status;
}

static graft_status open_directory(struct tensor_set *set, const char *dir, enum map_mode mode,
                                   graft_error *error)
{
    char *single = path_join(set->mem, dir, SINGLE_FILE);
    char *index = path_join(set->mem, dir, INDEX_FILE);
    graft_status status;
    if (!single || !index)
        status = error_set(error, GRAFT_NO_MEMORY, "no memory for a path");
    else if (path_exists(single))
        status = open_single(set, single, mode, error);
    else if (path_exists(index))
        status = open_index(set, dir, index, mode, error);
    else
        status = open_only_gguf(set, dir, mode, error);
    mem_free(set->mem, single);
    mem_free(set->mem, index);
    return status;
}

/* ---- the set ------------------------------------------------------------------------------ */

static graft_status add_refs(struct tensor_set *set, size_t file, const struct tensor_info *tensors,
                             size_t n, graft_error *error)
{
    for (size_t i = 0; i < n; i++) {
        const char *name = tensors[i].name;
        bool twice = false;
        if (!str_map_put(&set->index, name, strlen(name), (int32_t)set->n_refs, &twice))
            return error_set(error, GRAFT_NO_MEMORY, "no memory for the names of tensors");
        if (twice) {
            int32_t first = str_map_get(&set->index, name, strlen(name));
            const char *other = path_base(set->maps[set->refs[first].file].path);
            tensor_error(error, GRAFT_FORMAT, name, strlen(name), "is in \"%s\" too",
                         show_name(other, strlen(other)).text);
            error_at_file(error, set->maps[file].path);
            return GRAFT_FORMAT;
        }
        set->refs[set->n_refs++] = (struct tensor_ref){&tensors[i], file};
    }
    return GRAFT_OK;
}

static graft_status build_index(struct tensor_set *set, graft_error *error)
{
    size_t total = set->gguf ? set->gguf->n_tensors : 0;
    for (size_t i = 0; !set->gguf && i < set->n_maps; i++)
        total += set->files[i].n_tensors;
    if (total > INT32_MAX)
        return error_set(error, GRAFT_LIMIT, "%zu tensors", total);
    set->refs = mem_calloc(set->mem, total, sizeof *set->refs);
    if (!set->refs || !str_map_reserve(&set->index, total))
        return error_set(error, GRAFT_NO_MEMORY, "no memory for %zu tensors", total);
    if (set->gguf)
        return add_refs(set, 0, set->gguf->tensors, set->gguf->n_tensors, error);
    graft_status status = GRAFT_OK;
    for (size_t i = 0; !status && i < set->n_maps; i++)
        status = add_refs(set, i, set->files[i].tensors, set->files[i].n_tensors, error);
    return status;
}

graft_status tensor_set_open(struct tensor_set *out, struct mem *mem, const char *path,
                             enum map_mode mode, graft_error *error)
{
    struct tensor_set set = {.mem = mem};
    graft_status status;
    str_map_init(&set.index, mem);
    if (path_is_dir(path))
        status = open_directory(&set, path, mode, error);
    else if (path_exists(path))
        status = open_single(&set, path, mode, error);
    else
        status = error_set(error, GRAFT_NOT_FOUND, "no such file or directory");
    if (!status)
        status = build_index(&set, error);
    if (status) {
        error_at_file(error, path); /* unless a file in the directory is named already */
        tensor_set_close(&set);
        return status;
    }
    *out = set;
    return GRAFT_OK;
}

const struct tensor_info *tensor_set_find(const struct tensor_set *set, const char *name)
{
    int32_t i = str_map_get(&set->index, name, strlen(name));
    return i < 0 ? NULL : set->refs[i].info;
}

size_t tensor_set_count(const struct tensor_set *set)
{
    return set->n_refs;
}

const struct tensor_info *tensor_set_at(const struct tensor_set *set, size_t i)
{
    return i < set->n_refs ? set->refs[i].info : NULL;
}

const char *tensor_set_file(const struct tensor_set *set, size_t i)
{
    return i < set->n_refs ? set->maps[set->refs[i].file].path : NULL;
}

void tensor_set_close(struct tensor_set *set)
{
    if (set->gguf)
        gguf_free(set->gguf);
    for (size_t i = 0; set->files && i < set->n_maps; i++)
        safetensors_free(&set->files[i]);
    for (size_t i = 0; i < set->n_maps; i++)
        file_map_close(&set->maps[i]);
    mem_free(set->mem, set->gguf);
    mem_free(set->mem, set->files);
    mem_free(set->mem, set->maps);
    mem_free(set->mem, set->refs);
    str_map_free(&set->index);
    *set = (struct tensor_set){0};
}

graft_status tensor_set_refuse(const struct tensor_set *set, const char *out, graft_error *error)
{
    graft_status status = GRAFT_OK;
    for (size_t i = 0; i < set->n_maps && status == GRAFT_OK; i++)
        status = path_refuse_same(out, set->maps[i].path, error);
    return status;
}
