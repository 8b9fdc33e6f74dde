/* folder_write.c: a folder that appears whole or not at all.
 *
 * Files are written into a working folder beside the target, which is renamed over it at commit: over
 * nothing, or over an empty folder. A failure leaves neither.
 */
#include "base_internal.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <sys/stat.h>
#include <unistd.h>

static bool is_free(const char *path)
{
    DIR *dir = opendir(path);
    bool empty = true;
    if (!dir)
        return errno == ENOENT;
    for (struct dirent *e; (e = readdir(dir)) != NULL;)
        empty = empty && (!strcmp(e->d_name, ".") || !strcmp(e->d_name, ".."));
    closedir(dir);
    return empty;
}

graft_status folder_writer_open(struct folder_writer *w, const char *path, graft_error *error)
{
    size_t length = strlen(path);
    w->open = false;
    while (length > 1 && path[length - 1] == '/')
        length--;
    if (length == 0 || length >= sizeof w->target)
        return error_set(error, GRAFT_INVALID_ARGUMENT, "output path is empty or too long");
    memcpy(w->target, path, length);
    w->target[length] = '\0';
    if (!is_free(w->target))
        return error_set(error, GRAFT_IO,
                         "%s exists and is not an empty directory; remove it or choose another",
                         w->target);
    snprintf(w->work, sizeof w->work, "%s.tmp-XXXXXX", w->target);
    if (!mkdtemp(w->work) || chmod(w->work, 0755))
        return error_set(error, errno == ENOENT ? GRAFT_NOT_FOUND : GRAFT_IO,
                         "cannot create the directory %s: %s", w->target, strerror(errno));
    w->open = true;
    return GRAFT_OK;
}

graft_status folder_writer_commit(struct folder_writer *w, graft_error *error)
{
    char parent[PATH_MAX];
    snprintf(parent, sizeof parent, "%s", w->target);
    char *slash = strrchr(parent, '/');
    if (slash)
        slash[slash == parent] = '\0';
    if (rename(w->work, w->target))
        return error_set(error, GRAFT_IO, "%s: %s", w->target, strerror(errno));
    w->open = false;
    int fd = open(slash ? parent : ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    bool synced = fd >= 0 && fsync(fd) == 0;
    int reason = errno;
    if (fd >= 0)
        close(fd);
    return synced ? GRAFT_OK : error_set(error, GRAFT_IO, "%s: %s", parent, strerror(reason));
}

void folder_writer_abort(struct folder_writer *w)
{
    if (w->open)
        folder_remove(AT_FDCWD, w->work);
    w->open = false;
}
