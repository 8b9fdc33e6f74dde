/* kept_file.c: what a file is that a session is read from or would be saved to.
 *
 * Nothing is replaced before it was looked at: a conversation is not what a cache of a prompt is, and what is no saved session at all
 * is nobody's to replace. A session's file is replaced as a whole, so that a lock on it would be one on a file that is gone: two
 * programs are kept apart by a look at which file is there, under a lock of the folder.
 */
#include "kept_file.h"

#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

const char KEPT_CACHE_NOTE[] = "{\"prompt_cache\":true}";

/* ---- kinds ---- */

/* The beginning of every saved session (docs/sessions.md). An empty file may be what is left of one. */
static bool begins_as_session(const char *path, graft_error *error)
{
    static const char MAGIC[8] = "graftses";
    char head[sizeof MAGIC];
    struct file_reader file;
    bool begins = false;
    if (file_reader_open(&file, path, error) == GRAFT_OK) {
        size_t n = file.size < sizeof head ? file.size : sizeof head;
        begins = file_reader_read(&file, head, n, error) == GRAFT_OK && memcmp(head, MAGIC, n) == 0;
    }
    file_reader_close(&file);
    return begins;
}

static enum kept_kind kind_of_note(const graft_session_file *file)
{
    size_t size;
    json_t *note = NULL;
    graft_error error;
    const char *text = graft_session_file_note(file, &size);
    enum kept_kind kind = KEPT_TEXT;
    if (text != NULL && json_parse(text, size, &note, &error) == GRAFT_OK) {
        kind = json_object_get(note, "messages") != NULL             ? KEPT_TALK
               : json_is_true(json_object_get(note, "prompt_cache")) ? KEPT_CACHE
                                                                     : KEPT_TEXT;
    }
    json_decref(note);
    return kind;
}

int kept_kind(graft_runtime *runtime, const char *path, enum kept_kind *kind,
              graft_session_file **file)
{
    graft_error error = {0};
    graft_session_file *opened = NULL;
    *kind = KEPT_NOTHING;
    if (!path_exists(path)) {
        return CLI_OK;
    }
    graft_status status = graft_session_file_open(runtime, path, &opened, &error);
    if (status == GRAFT_OK) {
        *kind = kind_of_note(opened);
    } else if (status == GRAFT_FORMAT) {
        *kind = begins_as_session(path, &error) ? KEPT_DAMAGED : KEPT_OTHER;
    } else {
        return cli_fail(&error);
    }
    if (file != NULL) {
        *file = opened;
    } else {
        graft_session_file_close(&opened);
    }
    return CLI_OK;
}

/* ---- which file it is ---- */

struct kept_mark kept_look(const char *path)
{
    struct stat info;
    if (stat(path, &info) != 0) {
        return (struct kept_mark){0};
    }
    return (struct kept_mark){true, info.st_dev, info.st_ino, info.st_size, info.st_mtim};
}

bool kept_same(const struct kept_mark *a, const struct kept_mark *b)
{
    return a->there == b->there &&
           (!a->there ||
            (a->device == b->device && a->file == b->file && a->size == b->size &&
             a->changed.tv_sec == b->changed.tv_sec && a->changed.tv_nsec == b->changed.tv_nsec));
}

bool kept_one_path(const char *a, const char *b)
{
    char *real_a = realpath(a, NULL), *real_b = realpath(b, NULL);
    bool one =
        strcmp(a, b) == 0 || (real_a != NULL && real_b != NULL && strcmp(real_a, real_b) == 0);
    free(real_a); /* from realpath */
    free(real_b);
    return one;
}

/* ---- replacing it ---- */

int kept_try(const char *path)
{
    graft_error error = {0};
    struct file_writer w;
    graft_status status = file_writer_open(&w, NULL, path, &error);
    file_writer_abort(&w);
    return status == GRAFT_OK ? CLI_OK : cli_fail(&error);
}

/* Locks of folders may be held by anybody who can read them, and for ever. */
static bool try_lock(int folder)
{
    static const double PATIENCE = 5, PATIENCE_AT_END = 1; /* seconds */
    static const struct timespec AGAIN = {.tv_nsec = 20 * 1000 * 1000};
    double begun = time_seconds();
    for (;;) {
        if (flock(folder, LOCK_EX | LOCK_NB) == 0) {
            return true;
        }
        bool held =
            errno == EWOULDBLOCK || errno == EINTR; /* some network file systems have none */
        if (!held || time_seconds() - begun > (cli_ending() != 0 ? PATIENCE_AT_END : PATIENCE)) {
            return false;
        }
        nanosleep(&AGAIN, NULL);
    }
}

int kept_lock(const char *path)
{
    char *real = realpath(path, NULL); /* what a link points to is what is replaced */
    const char *file = real != NULL ? real : path;
    size_t size = (size_t)(path_base(file) - file);
    char *folder = size > 0 ? mem_strndup(NULL, file, size) : mem_strdup(NULL, ".");
    int lock = folder != NULL ? open(folder, O_RDONLY | O_DIRECTORY | O_CLOEXEC) : -1;
    mem_free(NULL, folder);
    free(real); /* from realpath */
    if (lock >= 0 && !try_lock(lock)) {
        close(lock);
        lock = -1;
    }
    return lock;
}

void kept_unlock(int lock)
{
    if (lock >= 0) {
        close(lock);
    }
}
