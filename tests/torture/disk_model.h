/* disk_model.h: a disk that forgets what was not flushed, for tests of what a crash of the machine leaves.
 *
 * The program is linked with wrappers (-Wl,--wrap) around the calls that make, rename, remove and flush files. They
 * note what happens below one folder; afterwards any moment can be asked for the state a disk may be in after losing
 * power then. Only what POSIX promises is kept: bytes of a file that fsync returned for, names of a folder that
 * fsync returned for. Of one thread.
 */
#ifndef GRAFT_DISK_MODEL_H
#define GRAFT_DISK_MODEL_H

#include "base/base.h"

/* Begins to note what happens below `root`, an absolute path of an empty folder. */
void disk_watch(const char *root);
void disk_stop(void);
void disk_forget(void); /* frees what was noted */

/* Says that what came before has been acknowledged as step n. */
void disk_acknowledge(uint64_t n);
size_t disk_moments(void);
/* The last step acknowledged before moment i; 0: none. */
uint64_t disk_acknowledged(size_t i);

enum disk_loss {
    DISK_LOSE_ALL,   /* nothing of what may be lost is kept */
    DISK_KEEP_NAMES, /* all changes of names are kept, bytes are not */
    DISK_LOSE_SOME,  /* chance decides, for each change of a name and each file */
};
struct disk_crash {
    size_t moment;
    enum disk_loss loss;
    struct rng *rng;
    bool ignore_file_syncs, ignore_folder_syncs; /* to see that the test would notice */
};
/* Writes that state into `target`, an empty folder. */
void disk_write(const struct disk_crash *crash, const char *target);

#endif
