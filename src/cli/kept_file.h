/* kept_file.h: what a file is that a session is read from or would be saved to. Private to the command line. */
#ifndef GRAFT_CLI_KEPT_FILE_H
#define GRAFT_CLI_KEPT_FILE_H

#include "cli.h"

#include <sys/types.h>

enum kept_kind {
    KEPT_NOTHING, /* no such file */
    KEPT_OTHER,   /* no saved session; nothing of ours to replace */
    KEPT_DAMAGED, /* one whose record cannot be read, or an empty file */
    KEPT_TALK,    /* a conversation: its note has messages */
    KEPT_TEXT,    /* a text, of `run --raw` or of another program */
    KEPT_CACHE    /* of a prompt: its note says so */
};
/* The note of a cache. */
extern const char KEPT_CACHE_NOTE[];

/* *kind; and *file (may be NULL), which stays NULL where nothing could be opened: graft_session_file_close.
 * On failure (a folder, no permission, of another version) says why. */
int kept_kind(graft_runtime *runtime, const char *path, enum kept_kind *kind,
              graft_session_file **file);

/* Which file a path stood for when it was looked at: whoever replaces it makes it another one. */
struct kept_mark {
    bool there;
    dev_t device;
    ino_t file;
    off_t size;
    struct timespec changed;
};
struct kept_mark kept_look(const char *path);
bool kept_same(const struct kept_mark *a, const struct kept_mark *b);
/* Two ways to write down one path, links followed. (Two names of one file are two paths.) */
bool kept_one_path(const char *a, const char *b);

/* Says why a file cannot be made or replaced there: at the beginning, so that no answer is lost for it. */
int kept_try(const char *path);

/* Whoever looks at a file and then replaces it holds the lock of its folder (behind links) from the one to the other. -1: no lock
 * can be had there, or somebody keeps it for seconds: it is gone on without. */
int kept_lock(const char *path);
void kept_unlock(int lock);

#endif
