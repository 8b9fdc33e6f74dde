/* path.c: file names, and the words for what the system said about them. */
#include "base_internal.h"

#include <errno.h>
#include <sys/stat.h>

graft_status error_set_errno(graft_error *error, int errno_value, const char *verb,
                             const char *path)
{
    char text[128];
    graft_status status = errno_value == ENOENT || errno_value == ENOTDIR ? GRAFT_NOT_FOUND
                          : errno_value == ENOMEM                         ? GRAFT_NO_MEMORY
                                                                          : GRAFT_IO;
    error_set(error, status, "cannot %s: %s", verb, strerror_r(errno_value, text, sizeof(text)));
    error_at_file(error, path);
    return status;
}

graft_status error_no_memory(graft_error *error, size_t bytes)
{
    return error_set(error, GRAFT_NO_MEMORY, "no memory for %zu bytes", bytes);
}

bool path_is_dir(const char *path)
{
    struct stat info;
    return stat(path, &info) == 0 && S_ISDIR(info.st_mode);
}

bool path_exists(const char *path)
{
    struct stat info;
    return stat(path, &info) == 0;
}

graft_status path_refuse_same(const char *out, const char *in, graft_error *error)
{
    struct stat a, b;
    if (stat(out, &a) != 0 || stat(in, &b) != 0 || !S_ISREG(a.st_mode) || a.st_dev != b.st_dev ||
        a.st_ino != b.st_ino)
        return GRAFT_OK;
    error_set(error, GRAFT_IO, "it is what is read: choose another name for what is written");
    error_at_file(error, out);
    return GRAFT_IO;
}

char *path_join(struct mem *mem, const char *dir, const char *name)
{
    struct buf path;
    buf_init(&path, mem, SIZE_MAX);
    size_t length = strlen(dir);
    buf_append(&path, dir, length);
    if (length && dir[length - 1] != '/')
        buf_putc(&path, '/');
    buf_puts(&path, name);
    char *joined = buf_take(&path, NULL);
    if (!joined)
        buf_free(&path);
    return joined;
}

const char *path_base(const char *path)
{
    const char *slash = strrchr(path, '/');
    return slash ? slash + 1 : path;
}

bool text_ends_with(const char *text, const char *end)
{
    size_t n = strlen(text), m = strlen(end);
    return n >= m && memcmp(text + n - m, end, m) == 0;
}
