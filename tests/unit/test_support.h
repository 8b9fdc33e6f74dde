/* test_support.h: cmocka with what it needs before it, and a scratch folder for tests of files. */
#ifndef GRAFT_TEST_SUPPORT_H
#define GRAFT_TEST_SUPPORT_H

/* cmocka's header wants these four before it. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "base/base.h"

#include <dirent.h>
#include <unistd.h>

struct scratch {
    char folder[64];
    char path[128];
};

static inline void scratch_open(struct scratch *s)
{
    snprintf(s->folder, sizeof(s->folder), "/tmp/graft-test-XXXXXX");
    assert_non_null(mkdtemp(s->folder));
}

/* FOLDER/NAME; valid until the next call. */
static inline const char *scratch_path(struct scratch *s, const char *name)
{
    snprintf(s->path, sizeof(s->path), "%s/%s", s->folder, name);
    return s->path;
}

/* Removes the folder and its files; returns how many files there were. */
static inline int scratch_close(struct scratch *s)
{
    DIR *dir = opendir(s->folder);
    int count = 0;
    assert_non_null(dir);
    for (struct dirent *entry; (entry = readdir(dir));) {
        if (!strcmp(entry->d_name, ".") || !strcmp(entry->d_name, ".."))
            continue;
        assert_int_equal(unlinkat(dirfd(dir), entry->d_name, 0), 0);
        count++;
    }
    closedir(dir);
    assert_int_equal(rmdir(s->folder), 0);
    return count;
}

static inline int scratch_count(struct scratch *s)
{
    DIR *dir = opendir(s->folder);
    int count = 0;
    assert_non_null(dir);
    for (struct dirent *entry; (entry = readdir(dir));)
        count += entry->d_name[0] != '.';
    closedir(dir);
    return count;
}

#endif
