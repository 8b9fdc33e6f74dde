/* file_map.c: reading files: mapped, copied, in pieces, or small ones whole.
 *
 * A map stands for a file that nobody changes while it is open (a base model); if somebody cuts it
 * short, touching what is gone raises SIGBUS, which is why files that may change are copied.
 */
#include "base_internal.h"

#include <errno.h>
#include <fcntl.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

static const uint8_t EMPTY[1];

/* Reads until `size` bytes or the end of the file; returns what came, -1 with errno. */
static ssize_t read_full(int fd, void *out, size_t size)
{
    size_t done = 0;
    while (done < size) {
        size_t piece = size - done < (1u << 30) ? size - done : 1u << 30;
        ssize_t got = read(fd, (char *)out + done, piece);
        if (got < 0 && errno == EINTR)
            continue;
        if (got < 0)
            return -1;
        if (!got)
            break;
        done += (size_t)got;
    }
    return (ssize_t)done;
}

static graft_status map_shared(struct file_map *map, int fd, graft_error *error)
{
    void *data = mmap(NULL, map->size, PROT_READ, MAP_SHARED, fd, 0);
    if (data == MAP_FAILED)
        return error_set_errno(error, errno, "map", map->path);
    map->data = data;
    map->mapped = true;
    return GRAFT_OK;
}

static graft_status map_copy(struct file_map *map, int fd, graft_error *error)
{
    uint8_t *data = mem_alloc(map->mem, map->size);
    if (!data)
        return error_no_memory(error, map->size);
    map->data = data;
    ssize_t got = read_full(fd, data, map->size);
    if (got < 0)
        return error_set_errno(error, errno, "read", map->path);
    if ((size_t)got < map->size)
        return error_set(error, GRAFT_IO, "the file became shorter while it was read");
    return GRAFT_OK;
}

/* O_NONBLOCK: opening a named pipe must not wait for a writer; it changes nothing for files. */
static graft_status open_regular(const char *path, int *fd, size_t *size, graft_error *error)
{
    struct stat info;
    int opened = open(path, O_RDONLY | O_CLOEXEC | O_NONBLOCK);
    if (opened < 0)
        return error_set_errno(error, errno, "open", path);
    if (fstat(opened, &info) != 0) {
        graft_status status = error_set_errno(error, errno, "open", path);
        close(opened);
        return status;
    }
    if (!S_ISREG(info.st_mode)) {
        close(opened);
        error_set(error, GRAFT_IO, "cannot open: %s",
                  S_ISDIR(info.st_mode) ? "it is a directory" : "it is no regular file");
        error_at_file(error, path);
        return GRAFT_IO;
    }
    *fd = opened;
    *size = (size_t)info.st_size;
    return GRAFT_OK;
}

graft_status file_map_open(struct file_map *out, struct mem *mem, const char *path,
                           enum map_mode mode, graft_error *error)
{
    struct file_map map = {.mem = mem, .data = EMPTY};
    int fd = -1;
    graft_status status = open_regular(path, &fd, &map.size, error);
    if (status != GRAFT_OK)
        return status;
    map.path = mem_strdup(mem, path);
    if (!map.path)
        status = error_no_memory(error, strlen(path));
    else if (map.size)
        status = mode == MAP_COPY ? map_copy(&map, fd, error) : map_shared(&map, fd, error);
    close(fd);
    if (status == GRAFT_OK) {
        *out = map;
    } else {
        error_at_file(error, path);
        file_map_close(&map);
    }
    return status;
}

void file_map_close(struct file_map *map)
{
    if (map->mapped)
        munmap((void *)(uintptr_t)map->data, map->size);
    else if (map->data && map->data != EMPTY)
        mem_free(map->mem, (void *)(uintptr_t)map->data);
    mem_free(map->mem, map->path);
    *map = (struct file_map){0};
}

graft_status file_reader_open(struct file_reader *r, const char *path, graft_error *error)
{
    *r = (struct file_reader){.path = path, .fd = -1};
    graft_status status = open_regular(path, &r->fd, &r->size, error);
    return status;
}

graft_status file_reader_read(struct file_reader *r, void *out, size_t size, graft_error *error)
{
    ssize_t got = read_full(r->fd, out, size);
    if (got < 0)
        return error_set_errno(error, errno, "read", r->path);
    if ((size_t)got == size)
        return GRAFT_OK;
    error_set(error, GRAFT_IO, "the file ends %zu bytes too soon", size - (size_t)got);
    error_at_file(error, r->path);
    return GRAFT_IO;
}

void file_reader_close(struct file_reader *r)
{
    if (r->fd >= 0)
        close(r->fd);
    r->fd = -1;
}

/* Files of /proc have no size, so the end is found by reading. */
static graft_status read_to_end(int fd, struct buf *buf, const char *path, graft_error *error)
{
    char piece[16384];
    for (;;) {
        ssize_t got = read_full(fd, piece, sizeof(piece));
        if (got < 0)
            return error_set_errno(error, errno, "read", path);
        if (!buf_append(buf, piece, (size_t)got))
            return buf->status == GRAFT_LIMIT
                       ? error_set(error, GRAFT_LIMIT, "larger than %zu bytes", buf->limit)
                       : error_no_memory(error, buf->size + (size_t)got);
        if ((size_t)got < sizeof(piece))
            return GRAFT_OK;
    }
}

graft_status file_read(struct mem *mem, const char *path, size_t limit, char **out, size_t *size,
                       graft_error *error)
{
    struct buf buf;
    int fd = -1;
    size_t said;
    graft_status status = open_regular(path, &fd, &said, error);
    if (status != GRAFT_OK)
        return status;
    buf_init(&buf, mem, limit);
    status = read_to_end(fd, &buf, path, error);
    close(fd);
    if (status != GRAFT_OK) {
        error_at_file(error, path);
        buf_free(&buf);
        return status;
    }
    *out = buf_take(&buf, size);
    return GRAFT_OK;
}
