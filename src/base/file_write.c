/* file_write.c: files that are either the old one or the new one, never half of either.
 *
 * The bytes go to a temporary file in the same folder; commit flushes them to the disk, renames it
 * over the old name and flushes the folder. Whatever fails before the rename leaves the old file.
 */
#include "base_internal.h"

#include <errno.h>
#include <fcntl.h>
#include <sys/random.h>
#include <sys/stat.h>
#include <unistd.h>

enum { NAME_ATTEMPTS = 100 };

static graft_status fail_errno(struct file_writer *w, const char *verb, graft_error *error)
{
    return error_set_errno(error, errno, verb, w->path);
}

/* Made with open, not mkstemp, so that the file's mode follows the umask like any other. */
static int create_temporary(struct file_writer *w)
{
    static const char DIGITS[] = "0123456789abcdefghijklmnopqrstuv";
    size_t length = strlen(w->temporary);
    for (int attempt = 0; attempt < NAME_ATTEMPTS; attempt++) {
        uint8_t random[6];
        if (getrandom(random, sizeof(random), 0) != (ssize_t)sizeof(random))
            return -1;
        for (size_t i = 0; i < sizeof(random); i++)
            w->temporary[length - sizeof(random) + i] = DIGITS[random[i] % 32];
        int fd = open(w->temporary, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0666);
        if (fd >= 0 || errno != EEXIST)
            return fd;
    }
    return -1;
}

/* An existing file hands its mode on; what is no file (/dev/null, a folder) is not replaced. */
static graft_status check_target(const char *path, mode_t *mode, graft_error *error)
{
    struct stat info;
    *mode = 0;
    if (stat(path, &info) != 0)
        return GRAFT_OK;
    if (!S_ISREG(info.st_mode)) {
        error_set(error, GRAFT_INVALID_ARGUMENT, "cannot write: it is no regular file");
        error_at_file(error, path);
        return GRAFT_INVALID_ARGUMENT;
    }
    *mode = info.st_mode & 07777;
    return GRAFT_OK;
}

/* The file that a path means: a link stays a link, what it points to is replaced. */
static char *follow_link(struct mem *mem, const char *path)
{
    struct stat info;
    if (lstat(path, &info) != 0 || !S_ISLNK(info.st_mode))
        return mem_strdup(mem, path);
    char *real = realpath(path, NULL);
    char *copy = mem_strdup(mem, real ? real : path);
    free(real); /* from realpath */
    return copy;
}

graft_status file_writer_open(struct file_writer *w, struct mem *mem, const char *path,
                              graft_error *error)
{
    mode_t mode;
    struct buf name;
    *w = (struct file_writer){.mem = mem};
    graft_status status = check_target(path, &mode, error);
    if (status != GRAFT_OK)
        return status;
    w->path = follow_link(mem, path);
    buf_init(&name, mem, SIZE_MAX);
    if (w->path)
        buf_printf(&name, "%s.tmp-XXXXXX", w->path);
    char *temporary = buf_take(&name, NULL);
    if (!w->path || !temporary) {
        mem_free(mem, temporary);
        status = error_no_memory(error, strlen(path));
        goto fail;
    }
    w->temporary = temporary;
    int fd = create_temporary(w);
    if (fd < 0) {
        status = fail_errno(w, "create", error);
        mem_free(mem, w->temporary);
        w->temporary = NULL; /* not ours to remove */
        goto fail;
    }
    if (mode)
        (void)!fchmod(fd, mode);
    w->file = fdopen(fd, "wb");
    if (w->file)
        return GRAFT_OK;
    status = fail_errno(w, "create", error);
    close(fd);
fail:
    file_writer_abort(w);
    return status;
}

graft_status file_writer_write(struct file_writer *w, const void *bytes, size_t size,
                               graft_error *error)
{
    if (size && fwrite(bytes, 1, size, w->file) != size)
        return fail_errno(w, "write", error);
    w->written += size;
    return GRAFT_OK;
}

graft_status file_writer_pad(struct file_writer *w, size_t alignment, graft_error *error)
{
    static const char ZEROS[256];
    size_t missing = (alignment - (size_t)(w->written % alignment)) % alignment;
    while (missing) {
        size_t piece = missing < sizeof(ZEROS) ? missing : sizeof(ZEROS);
        graft_status status = file_writer_write(w, ZEROS, piece, error);
        if (status != GRAFT_OK)
            return status;
        missing -= piece;
    }
    return GRAFT_OK;
}

/* Without this a crash of the machine may bring the old name back. Folders that cannot be flushed
 * (some network and memory file systems say so; one that may be written but not read cannot be opened for it) are as
 * good as they get. */
graft_status folder_sync(const char *folder, graft_error *error)
{
    int fd = open(folder, O_RDONLY | O_DIRECTORY | O_CLOEXEC), reason = 0;
    if (fd < 0 || fsync(fd) != 0)
        reason = errno;
    if (fd >= 0)
        close(fd);
    if (reason == 0 || reason == EINVAL || reason == ENOTSUP || reason == ENOSYS ||
        (fd < 0 && reason == EACCES))
        return GRAFT_OK;
    return error_set_errno(error, reason, "flush the folder", folder);
}

graft_status file_writer_settle(struct file_writer *w, graft_error *error)
{
    if (fflush(w->file) != 0 || fsync(fileno(w->file)) != 0)
        return fail_errno(w, "write", error);
    int closed = fclose(w->file);
    w->file = NULL;
    return closed == 0 ? GRAFT_OK : fail_errno(w, "write", error);
}

graft_status file_writer_commit(struct file_writer *w, graft_error *error)
{
    graft_status status = GRAFT_OK;
    /* Before the rename: what fails afterwards could not take the new file back. */
    size_t length = (size_t)(path_base(w->path) - w->path);
    char *folder = length ? mem_strndup(w->mem, w->path, length) : mem_strdup(w->mem, ".");
    if (!folder) {
        status = error_no_memory(error, length + 1);
        goto done;
    }
    if (w->file)
        status = file_writer_settle(w, error);
    if (status != GRAFT_OK)
        goto done;
    if (rename(w->temporary, w->path) != 0) {
        status = fail_errno(w, "rename onto the old file", error);
        goto done;
    }
    mem_free(w->mem, w->temporary);
    w->temporary = NULL;
    status = folder_sync(folder, error);
done:
    mem_free(w->mem, folder);
    file_writer_abort(w);
    return status;
}

void file_writer_abort(struct file_writer *w)
{
    if (w->file)
        fclose(w->file);
    if (w->temporary)
        unlink(w->temporary);
    mem_free(w->mem, w->temporary);
    mem_free(w->mem, w->path);
    *w = (struct file_writer){.mem = w->mem};
}

graft_status file_write_atomic(struct mem *mem, const char *path, const void *bytes, size_t size,
                               graft_error *error)
{
    struct file_writer w;
    graft_status status = file_writer_open(&w, mem, path, error);
    if (status != GRAFT_OK)
        return status;
    status = file_writer_write(&w, bytes, size, error);
    if (status == GRAFT_OK)
        return file_writer_commit(&w, error);
    file_writer_abort(&w);
    return status;
}
