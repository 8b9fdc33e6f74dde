/* disk_model.c: see disk_model.h. Files and folders are nodes that keep their identity through renames; a moment is
 * one noted event; a crash replays the names that survive and gives each file its last flushed bytes.
 */
#include "torture/disk_model.h"

#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

enum event_kind { LINK, UNLINK, MOVE, SYNC_FILE, SYNC_FOLDER, ACKNOWLEDGE };

struct event {
    enum event_kind kind;
    int node, parent, target_parent; /* target: of MOVE */
    char name[80], target_name[80];
    char *bytes; /* of SYNC_FILE */
    size_t size;
    uint64_t step; /* of ACKNOWLEDGE */
};

struct entry {
    int parent, node; /* node -1: no entry */
    char name[80];
};

static struct {
    char root[128];
    bool watching;
    struct event *events;
    size_t n_events, capacity;
    struct entry *entries; /* the names as they are now */
    size_t n_entries;
    bool *is_folder; /* by node; node 0 is the root */
    int n_nodes;
} disk;

static void demand(bool condition, const char *what)
{
    if (condition)
        return;
    fprintf(stderr, "disk model: %s\n", what);
    _exit(1);
}

/* ---- names ------------------------------------------------------------------------------------ */

static struct entry *find_entry(struct entry *entries, size_t n, int parent, const char *name)
{
    for (size_t i = 0; i < n; i++)
        if (entries[i].node >= 0 && entries[i].parent == parent && !strcmp(entries[i].name, name))
            return &entries[i];
    return NULL;
}

static void set_entry(struct entry **entries, size_t *n, int parent, const char *name, int node)
{
    struct entry *entry = find_entry(*entries, *n, parent, name);
    for (size_t i = 0; !entry && i < *n; i++)
        if ((*entries)[i].node < 0)
            entry = &(*entries)[i];
    if (!entry) {
        *entries = realloc(*entries, (*n + 1) * sizeof(**entries));
        demand(*entries != NULL, "no memory");
        entry = &(*entries)[(*n)++];
    }
    entry->parent = parent;
    entry->node = node;
    snprintf(entry->name, sizeof(entry->name), "%s", name);
}

/* Takes the name away where it still means that node. */
static void clear_entry(struct entry *entries, size_t n, int parent, const char *name, int node)
{
    struct entry *entry = find_entry(entries, n, parent, name);
    if (entry && entry->node == node)
        entry->node = -1;
}

static void apply(const struct event *e, struct entry **entries, size_t *n)
{
    if (e->kind == LINK) {
        set_entry(entries, n, e->parent, e->name, e->node);
    } else if (e->kind == UNLINK) {
        clear_entry(*entries, *n, e->parent, e->name, e->node);
    } else if (e->kind == MOVE) {
        clear_entry(*entries, *n, e->parent, e->name, e->node);
        set_entry(entries, n, e->target_parent, e->target_name, e->node);
    }
}

/* The folder a path lies in and its last part; false when that is not below the root. */
static bool locate(const char *path, int *parent, char name[80])
{
    size_t root = strlen(disk.root);
    if (!disk.watching || strncmp(path, disk.root, root) != 0 || path[root] != '/')
        return false;
    *parent = 0;
    for (const char *at = path + root + 1;;) {
        size_t length = strcspn(at, "/");
        demand(length < 80, "a name is too long");
        memcpy(name, at, length);
        name[length] = '\0';
        if (!at[length])
            return true;
        struct entry *entry = find_entry(disk.entries, disk.n_entries, *parent, name);
        demand(entry != NULL, "a folder was not noted");
        *parent = entry->node;
        at += length + 1;
    }
}

static int node_at(int parent, const char *name)
{
    struct entry *entry = find_entry(disk.entries, disk.n_entries, parent, name);
    demand(entry != NULL, "a file was not noted");
    return entry->node;
}

/* ---- noting ------------------------------------------------------------------------------------- */

static struct event *note(struct event event)
{
    if (disk.n_events == disk.capacity) {
        disk.capacity = disk.capacity ? disk.capacity * 2 : 256;
        disk.events = realloc(disk.events, disk.capacity * sizeof(*disk.events));
        demand(disk.events != NULL, "no memory");
    }
    disk.events[disk.n_events] = event;
    apply(&event, &disk.entries, &disk.n_entries);
    return &disk.events[disk.n_events++];
}

static void note_new(const char *path, bool is_folder)
{
    struct event e = {.kind = LINK};
    if (!locate(path, &e.parent, e.name))
        return;
    disk.is_folder = realloc(disk.is_folder, ((size_t)disk.n_nodes + 1) * sizeof(bool));
    demand(disk.is_folder != NULL, "no memory");
    disk.is_folder[disk.n_nodes] = is_folder;
    e.node = disk.n_nodes++;
    note(e);
}

static void note_gone(const char *path)
{
    struct event e = {.kind = UNLINK};
    if (!locate(path, &e.parent, e.name))
        return;
    e.node = node_at(e.parent, e.name);
    note(e);
}

static void note_sync(int fd)
{
    char link[64], path[512];
    struct stat info;
    struct event e = {.kind = SYNC_FILE};
    snprintf(link, sizeof(link), "/proc/self/fd/%d", fd);
    ssize_t length = readlink(link, path, sizeof(path) - 1);
    demand(length > 0 && fstat(fd, &info) == 0, "cannot see what is flushed");
    path[length] = '\0';
    if (disk.watching && !strcmp(path, disk.root)) {
        e.kind = SYNC_FOLDER;
        note(e);
        return;
    }
    if (!locate(path, &e.parent, e.name))
        return;
    e.node = node_at(e.parent, e.name);
    e.kind = S_ISDIR(info.st_mode) ? SYNC_FOLDER : SYNC_FILE;
    if (e.kind == SYNC_FILE)
        demand(file_read(NULL, path, 1 << 24, &e.bytes, &e.size, NULL) == GRAFT_OK,
               "cannot read what is flushed");
    note(e);
}

int __real_open64(const char *path, int flags, ...);
int __real_mkdir(const char *path, mode_t mode);
int __real_rename(const char *from, const char *to);
int __real_unlink(const char *path);
int __real_unlinkat(int at, const char *name, int flags);
int __real_fsync(int fd);
int __wrap_open64(const char *path, int flags, ...);
int __wrap_mkdir(const char *path, mode_t mode);
int __wrap_rename(const char *from, const char *to);
int __wrap_unlink(const char *path);
int __wrap_unlinkat(int at, const char *name, int flags);
int __wrap_fsync(int fd);

int __wrap_open64(const char *path, int flags, ...)
{
    va_list args;
    va_start(args, flags);
    mode_t mode = flags & O_CREAT ? va_arg(args, mode_t) : 0;
    va_end(args);
    bool is_new = flags & O_CREAT && !path_exists(path);
    int fd = __real_open64(path, flags, mode);
    if (fd >= 0 && is_new)
        note_new(path, false);
    return fd;
}

int __wrap_mkdir(const char *path, mode_t mode)
{
    int result = __real_mkdir(path, mode);
    if (result == 0)
        note_new(path, true);
    return result;
}

int __wrap_rename(const char *from, const char *to)
{
    struct event e = {.kind = MOVE};
    int result = __real_rename(from, to);
    if (result == 0 && locate(from, &e.parent, e.name)) {
        demand(locate(to, &e.target_parent, e.target_name), "a file left the disk");
        e.node = node_at(e.parent, e.name);
        note(e);
    }
    return result;
}

int __wrap_unlink(const char *path)
{
    int result = __real_unlink(path);
    if (result == 0)
        note_gone(path);
    return result;
}

int __wrap_unlinkat(int at, const char *name, int flags)
{
    char link[64], path[700] = "";
    size_t length = 0;
    if (at != AT_FDCWD) {
        snprintf(link, sizeof(link), "/proc/self/fd/%d", at);
        ssize_t got = readlink(link, path, 500);
        demand(got > 0, "cannot see where something is removed");
        length = (size_t)got;
        path[length++] = '/';
    }
    snprintf(path + length, sizeof(path) - length, "%s", name);
    int result = __real_unlinkat(at, name, flags);
    if (result == 0)
        note_gone(path);
    return result;
}

int __wrap_fsync(int fd)
{
    int result = __real_fsync(fd);
    if (result == 0 && disk.watching)
        note_sync(fd);
    return result;
}

void disk_watch(const char *root)
{
    snprintf(disk.root, sizeof(disk.root), "%s", root);
    disk.is_folder = calloc(1, sizeof(bool));
    demand(disk.is_folder != NULL, "no memory");
    disk.is_folder[0] = true;
    disk.n_nodes = 1;
    disk.watching = true;
}

void disk_stop(void)
{
    disk.watching = false;
}

void disk_forget(void)
{
    for (size_t i = 0; i < disk.n_events; i++)
        mem_free(NULL, disk.events[i].bytes);
    free(disk.events);
    free(disk.entries);
    free(disk.is_folder);
    memset(&disk, 0, sizeof(disk));
}

void disk_acknowledge(uint64_t n)
{
    note((struct event){.kind = ACKNOWLEDGE, .step = n});
}

size_t disk_moments(void)
{
    return disk.n_events;
}

uint64_t disk_acknowledged(size_t i)
{
    while (i-- > 0)
        if (disk.events[i].kind == ACKNOWLEDGE)
            return disk.events[i].step;
    return 0;
}

/* ---- crashing ----------------------------------------------------------------------------------- */

/* Was a folder that the event changed flushed between it and the crash? */
static bool is_flushed(const struct disk_crash *crash, size_t i)
{
    const struct event *e = &disk.events[i];
    for (size_t j = i + 1; j < crash->moment && !crash->ignore_folder_syncs; j++)
        if (disk.events[j].kind == SYNC_FOLDER &&
            (disk.events[j].node == e->parent ||
             (e->kind == MOVE && disk.events[j].node == e->target_parent)))
            return true;
    return false;
}

static bool survives(const struct disk_crash *crash, size_t i)
{
    if (is_flushed(crash, i) || crash->loss == DISK_KEEP_NAMES)
        return true;
    return crash->loss == DISK_LOSE_SOME && rng_u32(crash->rng) % 2;
}

/* The bytes of the last flush that counts, or none. */
static const struct event *last_bytes(const struct disk_crash *crash, int node)
{
    for (size_t i = crash->moment; i-- > 0;)
        if (disk.events[i].kind == SYNC_FILE && disk.events[i].node == node)
            return crash->ignore_file_syncs &&
                           (crash->loss != DISK_LOSE_SOME || rng_u32(crash->rng) % 2)
                       ? NULL
                       : &disk.events[i];
    return NULL;
}

static void write_node(const struct disk_crash *crash, const struct entry *entries, size_t n,
                       int node, const char *path)
{
    if (!disk.is_folder[node]) {
        const struct event *e = last_bytes(crash, node);
        FILE *file = fopen(path, "w");
        demand(file && (!e || fwrite(e->bytes, 1, e->size, file) == e->size), path);
        fclose(file);
        return;
    }
    __real_mkdir(path, 0777);
    for (size_t i = 0; i < n; i++) {
        char below[512];
        if (entries[i].node < 0 || entries[i].parent != node)
            continue;
        snprintf(below, sizeof(below), "%s/%s", path, entries[i].name);
        write_node(crash, entries, n, entries[i].node, below);
    }
}

void disk_write(const struct disk_crash *crash, const char *target)
{
    struct entry *entries = NULL;
    size_t n = 0;
    for (size_t i = 0; i < crash->moment; i++)
        if (disk.events[i].kind <= MOVE && survives(crash, i))
            apply(&disk.events[i], &entries, &n);
    write_node(crash, entries, n, 0, target);
    free(entries);
}
