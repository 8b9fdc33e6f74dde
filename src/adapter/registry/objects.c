/* objects.c: adapters' files in the store, in folders that are named by their content.
 *
 * The name is the SHA-256 of a list of the files' own SHA-256 sums and names, so that the same adapter is there
 * once however often it is added, and damage can be found; the list lies beside them (.sums), so that a damaged file can
 * be named. Copied are the files that adapters are made of, of the
 * folder itself alone; optimizer states and pickles stay where they are.
 */
#include "store_internal.h"

#include <errno.h>
#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

enum { FILES_MAX = 256, LIST_MAX = 1 << 20 };
static const char SUMS[] = ".sums"; /* the list */

char *store_object_path(const struct store *store, const uint8_t digest[32], const char *file)
{
    char hex[65];
    struct buf path;
    hex_write(digest, 32, hex);
    buf_init(&path, store->mem, SIZE_MAX);
    buf_printf(&path, "%s/%s%s%s", store->objects, hex, file[0] ? "/" : "", file);
    char *taken = buf_take(&path, NULL);
    if (!taken)
        buf_free(&path);
    return taken;
}

/* ---- the files of a folder -------------------------------------------------------------------- */

static bool ends_with(const char *text, const char *ending)
{
    size_t n = strlen(text), m = strlen(ending);
    return n > m && !strcmp(text + n - m, ending);
}

static bool is_part(const char *name)
{
    static const char *const ENDINGS[] = {".safetensors", ".gguf", ".json",
                                          ".jinja",       ".md",   ".txt"};
    if (name[0] == '.' || name[strcspn(name, "\n")])
        return false;
    for (size_t i = 0; i < ARRAY_LEN(ENDINGS); i++)
        if (ends_with(name, ENDINGS[i]))
            return true;
    return false;
}

static int by_bytes(const void *a, const void *b)
{
    return strcmp(*(const char *const *)a, *(const char *const *)b);
}

/* Names of the files that belong to an adapter, sorted; from the arena. */
static graft_status list_files(const char *folder, struct arena *arena, const char ***out,
                               size_t *n, graft_error *error)
{
    const char **names = arena_alloc(arena, FILES_MAX * sizeof(*names));
    graft_status status = names ? GRAFT_OK : store_no_memory(error);
    size_t count = 0;
    DIR *dir = names ? opendir(folder) : NULL;
    if (names && !dir)
        return store_failed(error, "open the folder", folder);
    for (struct dirent *entry; status == GRAFT_OK && (entry = readdir(dir));) {
        struct stat info;
        if (!is_part(entry->d_name) || fstatat(dirfd(dir), entry->d_name, &info, 0) != 0 ||
            !S_ISREG(info.st_mode))
            continue;
        if (count == FILES_MAX) {
            status = error_set(error, GRAFT_LIMIT, "more than %d files in one adapter", FILES_MAX);
            error_at_file(error, folder);
        } else if (!(names[count++] = arena_strndup(arena, entry->d_name, strlen(entry->d_name)))) {
            status = store_no_memory(error);
        }
    }
    if (dir)
        closedir(dir);
    if (status != GRAFT_OK)
        return status;
    qsort(names, count, sizeof(*names), by_bytes);
    *out = names;
    *n = count;
    return GRAFT_OK;
}

/* Adds "SUM NAME\n" for one file. */
static graft_status digest_file(const struct store *store, const char *folder, const char *name,
                                struct buf *list, uint64_t *bytes, graft_error *error)
{
    struct file_map map = {0};
    uint8_t sum[32];
    char hex[65];
    char *path = path_join(store->mem, folder, name);
    graft_status status = path ? GRAFT_OK : store_no_memory(error);
    if (status == GRAFT_OK)
        status = file_map_open(&map, store->mem, path, MAP_SHARED_FILE, error);
    if (status == GRAFT_OK)
        status = sha256(map.data, map.size, sum, error);
    if (status == GRAFT_OK) {
        hex_write(sum, sizeof sum, hex);
        *bytes += map.size;
        if (!buf_printf(list, "%s %s\n", hex, name))
            status = store_no_memory(error);
    }
    file_map_close(&map);
    mem_free(store->mem, path);
    return status;
}

/* `list` is begun here, and the caller's to free, on failure too. */
static graft_status digest_files(const struct store *store, const char *folder, struct buf *list,
                                 uint8_t digest[32], uint64_t *bytes, graft_error *error)
{
    struct arena arena;
    const char **names;
    size_t n = 0;
    uint64_t total = 0;
    arena_init(&arena, store->mem, LIST_MAX);
    buf_init(list, store->mem, LIST_MAX);
    graft_status status = list_files(folder, &arena, &names, &n, error);
    for (size_t i = 0; status == GRAFT_OK && i < n; i++)
        status = digest_file(store, folder, names[i], list, &total, error);
    if (status == GRAFT_OK)
        status = sha256(list->data, list->size, digest, error);
    if (status == GRAFT_OK)
        *bytes = total;
    arena_free(&arena);
    return status;
}

static graft_status store_digest(const struct store *store, const char *folder, uint8_t digest[32],
                                 uint64_t *bytes, graft_error *error)
{
    struct buf list;
    graft_status status = digest_files(store, folder, &list, digest, bytes, error);
    buf_free(&list);
    return status;
}

/* ---- damage ----------------------------------------------------------------------------------- */

/* The first line of one list that is not in the other: its name, and where that ends; NULL: there is none. */
static const char *find_other(const char *in, size_t size, const char *of, size_t of_size,
                              size_t *length)
{
    const char *end = in + size;
    for (const char *line = in, *next; line < end; line = next) {
        const char *newline = memchr(line, '\n', (size_t)(end - line));
        next = newline ? newline + 1 : end;
        size_t n = (size_t)(next - line);
        if (n > 66 && (of_size < n || !memmem(of, of_size, line, n))) {
            *length = n - 66; /* without sum, blank and newline */
            return line + 65;
        }
    }
    return NULL;
}

/* `is` against the list that was written when the adapter came in, as far as that can be believed. */
static graft_status name_damage(const struct store *store, const char *folder,
                                const uint8_t digest[32], const struct buf *is, graft_error *error)
{
    uint8_t sum[32];
    char *was = NULL, *path = path_join(store->mem, folder, SUMS);
    const char *name = NULL;
    size_t size = 0, length = 0;
    bool known = path && file_read(store->mem, path, LIST_MAX, &was, &size, NULL) == GRAFT_OK &&
                 sha256(was, size, sum, NULL) == GRAFT_OK && !memcmp(sum, digest, sizeof(sum));
    mem_free(store->mem, path);
    path = NULL;
    if (known && (name = find_other(was, size, is->data, is->size, &length)) == NULL)
        name = find_other(is->data, is->size, was, size, &length);
    if (name) {
        char *text = mem_strndup(store->mem, name, length);
        path = text ? path_join(store->mem, folder, text) : NULL;
        mem_free(store->mem, text);
    }
    graft_status status =
        error_set(error, GRAFT_FORMAT, "%s",
                  path && !path_exists(path) ? "the file was there when the adapter was added"
                  : path                     ? "the file is not the one that was added"
                                             : "the files here are not those that were added");
    error_at_file(error, path ? path : folder);
    mem_free(store->mem, path);
    mem_free(store->mem, was);
    return status;
}

graft_status store_verify(const struct store *store, const char *folder, const uint8_t digest[32],
                          graft_error *error)
{
    struct buf list;
    uint8_t is[32];
    uint64_t bytes;
    graft_status status = digest_files(store, folder, &list, is, &bytes, error);
    if (status == GRAFT_OK && memcmp(is, digest, sizeof(is)) != 0)
        status = name_damage(store, folder, digest, &list, error);
    buf_free(&list);
    return status;
}

/* ---- copying in ------------------------------------------------------------------------------- */

static graft_status copy_bytes(int from, int to, const char *source, const char *target,
                               graft_error *error)
{
    char piece[1 << 16];
    for (;;) {
        ssize_t got = read(from, piece, sizeof(piece));
        if (got < 0 && errno == EINTR)
            continue;
        if (got < 0)
            return store_failed(error, "read", source);
        if (!got)
            break;
        for (ssize_t done = 0; done < got;) {
            ssize_t put = write(to, piece + done, (size_t)(got - done));
            if (put < 0 && errno != EINTR)
                return store_failed(error, "write", target);
            done += put > 0 ? put : 0;
        }
    }
    return fsync(to) == 0 ? GRAFT_OK : store_failed(error, "flush", target);
}

static graft_status copy_file(const char *source, const char *target, graft_error *error)
{
    graft_status status;
    int from = open(source, O_RDONLY | O_CLOEXEC | O_NONBLOCK);
    if (from < 0)
        return store_failed(error, "open", source);
    int to = open(target, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0666);
    if (to < 0)
        status = store_failed(error, "create", target);
    else
        status = copy_bytes(from, to, source, target, error);
    close(from);
    if (to >= 0 && close(to) != 0 && status == GRAFT_OK)
        status = store_failed(error, "write", target);
    return status;
}

static graft_status copy_into(const struct store *store, const char *source, const char *folder,
                              const char *name, graft_error *error)
{
    char *target = path_join(store->mem, folder, name);
    graft_status status = target ? copy_file(source, target, error) : store_no_memory(error);
    mem_free(store->mem, target);
    return status;
}

static graft_status copy_folder(const struct store *store, const char *source, const char *folder,
                                struct arena *arena, graft_error *error)
{
    const char **names;
    size_t n;
    graft_status status = list_files(source, arena, &names, &n, error);
    if (status == GRAFT_OK && !n) {
        status = error_set(error, GRAFT_NOT_FOUND, "there is no file of an adapter in the folder");
        error_at_file(error, source);
    }
    for (size_t i = 0; status == GRAFT_OK && i < n; i++) {
        char *from = path_join(store->mem, source, names[i]);
        status = from ? copy_into(store, from, folder, names[i], error) : store_no_memory(error);
        mem_free(store->mem, from);
    }
    return status;
}

/* What a single file is called in the store, so that its own name is no part of its content. */
static const char *stored_name(const char *path)
{
    return ends_with(path, ".safetensors") ? "adapter.safetensors" : "adapter.gguf";
}

/* Gives the folder its name; where that content is already there, the new copy goes. */
static graft_status settle(const struct store *store, const char *folder, const uint8_t digest[32],
                           graft_error *error)
{
    graft_status status = GRAFT_OK;
    uint8_t there[32];
    uint64_t bytes;
    char *object = store_object_path(store, digest, "");
    if (!object)
        return store_no_memory(error);
    if (path_is_dir(object) && store_digest(store, object, there, &bytes, NULL) == GRAFT_OK &&
        !memcmp(there, digest, sizeof(there))) {
        folder_remove(AT_FDCWD, folder);
    } else {
        folder_remove(AT_FDCWD, object); /* damaged, or not there */
        if (rename(folder, object) != 0)
            status = store_failed(error, "rename", folder);
    }
    mem_free(store->mem, object);
    return status;
}

/* Digest and size of what was copied in; leaves the list beside it. */
static graft_status seal(const struct store *store, const char *folder, uint8_t digest[32],
                         uint64_t *bytes, graft_error *error)
{
    struct buf list;
    char *path = path_join(store->mem, folder, SUMS);
    graft_status status = digest_files(store, folder, &list, digest, bytes, error);
    if (status == GRAFT_OK)
        status = path ? file_write_atomic(store->mem, path, list.data, list.size, error)
                      : store_no_memory(error);
    buf_free(&list);
    mem_free(store->mem, path);
    return status == GRAFT_OK ? folder_sync(folder, error) : status;
}

graft_status store_add(const struct store *store, const char *path, struct arena *arena,
                       uint8_t digest[32], uint64_t *bytes, const char **file, graft_error *error)
{
    const char *single = path_is_dir(path) ? "" : stored_name(path);
    char *folder = path_join(store->mem, store->incoming, "adapter");
    graft_status status = folder ? GRAFT_OK : store_no_memory(error);
    if (status == GRAFT_OK && mkdir(folder, 0777) != 0)
        status = store_failed(error, "make the folder", folder);
    if (status == GRAFT_OK)
        status = single[0] ? copy_into(store, path, folder, single, error)
                           : copy_folder(store, path, folder, arena, error);
    if (status == GRAFT_OK)
        status = seal(store, folder, digest, bytes, error);
    if (status == GRAFT_OK)
        status = settle(store, folder, digest, error);
    if (status == GRAFT_OK)
        *file = single;
    else if (folder)
        folder_remove(AT_FDCWD, folder);
    mem_free(store->mem, folder);
    return status;
}

/* ---- clearing away ---------------------------------------------------------------------------- */

/* The digests of all versions; keys lie in the arena. */
static graft_status collect(const struct index_view *view, struct arena *arena,
                            struct str_map *used, graft_error *error)
{
    struct registry_name name;
    for (uint32_t i = 0; i < view->n_names; i++) {
        graft_status status = index_read(view, i, arena, &name, error);
        if (status != GRAFT_OK)
            return status;
        for (size_t j = 0; j < name.n_versions; j++)
            if (!str_map_put(used, (const char *)name.versions[j].digest, 32, 1, NULL))
                return store_no_memory(error);
    }
    return GRAFT_OK;
}

graft_status store_sweep(const struct store *store, const struct index_view *view,
                         graft_error *error)
{
    struct arena arena;
    struct str_map used;
    DIR *dir = NULL;
    arena_init(&arena, store->mem, SIZE_MAX);
    str_map_init(&used, store->mem);
    graft_status status = collect(view, &arena, &used, error);
    if (status == GRAFT_OK && !(dir = opendir(store->objects)))
        status = store_failed(error, "open the folder", store->objects);
    for (struct dirent *entry; dir && (entry = readdir(dir));) {
        uint8_t digest[32];
        if (hex_read(entry->d_name, digest, sizeof digest) &&
            str_map_get(&used, (const char *)digest, 32) < 0)
            folder_remove(dirfd(dir), entry->d_name);
    }
    if (dir)
        closedir(dir);
    str_map_free(&used);
    arena_free(&arena);
    return status;
}
