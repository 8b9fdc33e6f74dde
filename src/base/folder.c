/* folder.c: folders that come and go: temporary ones, and removing one with the files in it.
 *
 * Folders here are flat, so nothing is removed but names in the folder itself, and no link is followed: whatever
 * somebody put in its place, files elsewhere stay.
 */
#include "base_internal.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <unistd.h>

graft_status folder_temporary(struct mem *mem, const char *name, char **path, graft_error *error)
{
    const char *parent = getenv("TMPDIR");
    struct buf text;
    buf_init(&text, mem, PATH_MAX);
    buf_printf(&text, "%s/%s-XXXXXX", parent && parent[0] ? parent : "/tmp", name);
    char *made = buf_take(&text, NULL);
    if (!made) {
        buf_free(&text);
        return error_set(error, GRAFT_NO_MEMORY, "no memory for the name of a folder");
    }
    if (!mkdtemp(made)) {
        graft_status status = error_set_errno(error, errno, "make the folder", made);
        mem_free(mem, made);
        return status;
    }
    *path = made;
    return GRAFT_OK;
}

void folder_remove(int at, const char *name)
{
    int fd = openat(at, name, O_RDONLY | O_DIRECTORY | O_CLOEXEC | O_NOFOLLOW);
    DIR *dir = fd >= 0 ? fdopendir(fd) : NULL;
    if (!dir) {
        if (fd >= 0)
            close(fd);
        unlinkat(at, name, 0);
        return;
    }
    for (struct dirent *entry; (entry = readdir(dir));)
        if (strcmp(entry->d_name, ".") && strcmp(entry->d_name, ".."))
            unlinkat(dirfd(dir), entry->d_name, 0);
    closedir(dir);
    unlinkat(at, name, AT_REMOVEDIR);
}
