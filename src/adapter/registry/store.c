/* store.c: the registry's folder: index, lock, change counter, and the adapters' files by content.
 *
 *   HOME/registry/index             replaced as a whole (index.c)
 *                /generation        eight bytes that all processes map: "look again"
 *                /lock              held by whoever changes something; never by readers
 *                /objects/SHA-256/  the files of one version; never changed once they have this name
 *                /incoming/         being copied
 *
 * Reading takes nothing but the right to read, and makes nothing: a home that is not there is an empty one. The first
 * change makes what is missing.
 *
 * What the index names is flushed before the index is. Whatever a dying process leaves (a half-copied adapter, a
 * temporary index, an object that no index names) is invisible, and is cleared away under the lock.
 */
#include "store_internal.h"

#include <errno.h>
#include <fcntl.h>
#include <sys/file.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

graft_status store_failed(graft_error *error, const char *verb, const char *path)
{
    char text[128];
    int why = errno;
    graft_status status = why == ENOENT || why == ENOTDIR ? GRAFT_NOT_FOUND : GRAFT_IO;
    error_set(error, status, "cannot %s: %s", verb, strerror_r(why, text, sizeof(text)));
    error_at_file(error, path);
    return status;
}

graft_status store_no_memory(graft_error *error)
{
    return error_set(error, GRAFT_NO_MEMORY, "no memory for the registry");
}

/* ---- open ------------------------------------------------------------------------------------- */

/* Makes a folder and those above it; each new one is flushed into the one above. */
static graft_status make_folders(struct mem *mem, const char *path, graft_error *error)
{
    if (path_is_dir(path))
        return GRAFT_OK;
    const char *base = path_base(path);
    size_t above = (size_t)(base - path);
    while (above > 1 && path[above - 1] == '/')
        above--;
    char *parent = above ? mem_strndup(mem, path, above) : mem_strdup(mem, ".");
    if (!parent)
        return store_no_memory(error);
    graft_status status = make_folders(mem, parent, error);
    if (status == GRAFT_OK && mkdir(path, 0777) != 0 && errno != EEXIST)
        status = store_failed(error, "make the folder", path);
    if (status == GRAFT_OK)
        status = folder_sync(parent, error);
    mem_free(mem, parent);
    return status;
}

/* What stands for the counter where there is none to map: odd, so that no index is trusted for long. */
static const atomic_ullong NEVER = 1;

/* For those who look. Failures are none: without a counter the index is read each time. */
static void watch_counter(struct store *store)
{
    const atomic_ullong *none = &NEVER;
    struct stat info;
    void *map = MAP_FAILED;
    int fd = open(store->generation, O_RDONLY | O_CLOEXEC);
    if (fd >= 0 && fstat(fd, &info) == 0 && (size_t)info.st_size >= sizeof(*store->counter))
        map = mmap(NULL, sizeof(*store->counter), PROT_READ, MAP_SHARED, fd, 0);
    if (fd >= 0)
        close(fd);
    if (map != MAP_FAILED && !atomic_compare_exchange_strong(&store->seen, &none, map))
        munmap(map, sizeof(*store->counter)); /* another thread was first */
}

unsigned long long store_counter(struct store *store)
{
    if (atomic_load(&store->seen) == &NEVER)
        watch_counter(store);
    return atomic_load(atomic_load(&store->seen));
}

/* For those who change, with the lock held. Allocated, not only made longer: a write to a hole would be a signal once
 * the disk is full. */
static graft_status map_counter(struct store *store, graft_error *error)
{
    void *map = MAP_FAILED;
    if (atomic_load(&store->counter))
        return GRAFT_OK;
    int fd = open(store->generation, O_RDWR | O_CREAT | O_CLOEXEC, 0666);
    if (fd < 0)
        return store_failed(error, "open", store->generation);
    errno = posix_fallocate(fd, 0, sizeof(*store->counter));
    if (!errno)
        map = mmap(NULL, sizeof(*store->counter), PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
    graft_status status =
        map == MAP_FAILED ? store_failed(error, "map", store->generation) : GRAFT_OK;
    if (status == GRAFT_OK)
        atomic_store(&store->counter, map);
    close(fd);
    return status;
}

graft_status store_open(struct store *store, struct mem *mem, const char *home, graft_error *error)
{
    char *folder = mem_strdup(mem, home);
    size_t length = strlen(home);
    *store = (struct store){.mem = mem};
    atomic_init(&store->seen, &NEVER);
    atomic_init(&store->counter, NULL);
    while (folder && length > 1 && folder[length - 1] == '/')
        folder[--length] = '\0';
    store->root = folder ? path_join(mem, folder, "registry") : NULL;
    if (store->root) {
        store->index = path_join(mem, store->root, "index");
        store->objects = path_join(mem, store->root, "objects");
        store->incoming = path_join(mem, store->root, "incoming");
        store->generation = path_join(mem, store->root, "generation");
    }
    /* In this order: another process may make the folder between the two looks. */
    bool usable = folder && (!path_exists(folder) || path_is_dir(folder));
    mem_free(mem, folder);
    if (store->root && !usable) {
        store_close(store);
        errno = ENOTDIR;
        return store_failed(error, "use the home", home);
    }
    if (store->root && store->index && store->objects && store->incoming && store->generation)
        return GRAFT_OK;
    store_close(store);
    return store_no_memory(error);
}

void store_close(struct store *store)
{
    const atomic_ullong *seen = atomic_load(&store->seen);
    if (seen && seen != &NEVER)
        munmap((void *)(uintptr_t)seen, sizeof(*seen));
    if (atomic_load(&store->counter))
        munmap(atomic_load(&store->counter), sizeof(*seen));
    mem_free(store->mem, store->root);
    mem_free(store->mem, store->index);
    mem_free(store->mem, store->objects);
    mem_free(store->mem, store->incoming);
    mem_free(store->mem, store->generation);
    *store = (struct store){.mem = store->mem};
}

/* ---- the index -------------------------------------------------------------------------------- */

graft_status store_snapshot(const struct store *store, struct snapshot **out, graft_error *error)
{
    graft_error why = {0};
    struct snapshot *s = mem_calloc(store->mem, 1, sizeof(*s));
    if (!s)
        return store_no_memory(error);
    s->mem = store->mem;
    atomic_init(&s->references, 1);
    /* A copy: whoever lets go of the last map of a file that was replaced would wait for the disk to free it. */
    graft_status status = file_map_open(&s->map, store->mem, store->index, MAP_COPY, &why);
    if (status == GRAFT_OK) {
        status = index_parse(&s->view, s->map.data, s->map.size, &why);
        error_at_file(&why, store->index);
    } else if (status == GRAFT_NOT_FOUND) {
        status = GRAFT_OK; /* a new home */
    }
    if (status == GRAFT_OK) {
        *out = s;
        return GRAFT_OK;
    }
    if (error)
        *error = why;
    snapshot_unref(s);
    return status;
}

void snapshot_unref(struct snapshot *s)
{
    if (!s || atomic_fetch_sub(&s->references, 1) != 1)
        return;
    file_map_close(&s->map);
    mem_free(s->mem, s);
}

graft_status store_replace_index(const struct store *store, const void *bytes, size_t size,
                                 graft_error *error)
{
    graft_status status = folder_sync(store->objects, error);
    if (status != GRAFT_OK)
        return status;
    atomic_ullong *counter = atomic_load(&store->counter);
    unsigned long long odd = atomic_load(counter) | 1; /* odd already: somebody died here */
    atomic_store(counter, odd);
    status = file_write_atomic(store->mem, store->index, bytes, size, error);
    atomic_store(counter, odd + 1);
    return status;
}

/* ---- the lock --------------------------------------------------------------------------------- */

/* Whoever holds the lock is the only one that writes here, so what lies about is nobody's. */
static void clear_remains(const struct store *store)
{
    DIR *dir = opendir(store->root);
    for (struct dirent *entry; dir && (entry = readdir(dir));)
        if (!strncmp(entry->d_name, "index.tmp-", 10))
            unlinkat(dirfd(dir), entry->d_name, 0);
    if (dir)
        closedir(dir);
    dir = opendir(store->incoming);
    for (struct dirent *entry; dir && (entry = readdir(dir));)
        if (entry->d_name[0] != '.')
            folder_remove(dirfd(dir), entry->d_name);
    if (dir)
        closedir(dir);
}

graft_status store_lock(struct store *store, int *lock, graft_error *error)
{
    char *path = path_join(store->mem, store->root, "lock");
    if (!path)
        return store_no_memory(error);
    int held, fd = -1;
    graft_status status = make_folders(store->mem, store->objects, error);
    if (status == GRAFT_OK)
        status = make_folders(store->mem, store->incoming, error);
    if (status == GRAFT_OK)
        fd = open(path, O_RDWR | O_CREAT | O_CLOEXEC, 0666);
    if (status != GRAFT_OK) {
        /* nothing is locked */
    } else if (fd < 0) {
        status = store_failed(error, "open", path);
    } else {
        do
            held = flock(fd, LOCK_EX);
        while (held != 0 && errno == EINTR);
        if (held != 0) {
            status = store_failed(error, "lock", path);
            close(fd);
        }
    }
    mem_free(store->mem, path);
    if (status == GRAFT_OK && (status = map_counter(store, error)) != GRAFT_OK)
        close(fd);
    if (status != GRAFT_OK)
        return status;
    clear_remains(store);
    *lock = fd;
    return GRAFT_OK;
}

void store_unlock(int lock)
{
    close(lock);
}
