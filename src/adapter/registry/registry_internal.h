/* registry_internal.h: what the files of the registry share: the index in bytes, the store, residents.
 *
 * The index is one file, never changed once it has its name. A header, a table of one entry per name in order of
 * the names' bytes, then the records:
 *
 *   header   "graftidx", u32 format, u32 names, u64 generation, u64 size of the file, u64 hash of the
 *            header up to here and of the table
 *   entry    u32 offset, u32 size, u64 hash of the record
 *   record   name, base, u8 pinned, u16 active, standby, previous (0xFFFF: none), u16 versions, each:
 *            version, description, file, 32 bytes digest, u64 bytes, u64 memory, i64 created, i64 modified,
 *            u64 evicted, u8 pinned, u16 tags, each a string
 *   string   u16 length, the bytes, a NUL
 *
 * Numbers are little-endian. Opening reads header and table; a record is checked when it is looked at, so that
 * ten thousand names cost one lookup what ten do.
 */
#ifndef GRAFT_REGISTRY_INTERNAL_H
#define GRAFT_REGISTRY_INTERNAL_H

#include "adapter/registry/registry.h"

#include <pthread.h>

enum {
    INDEX_FORMAT = 2,
    INDEX_HEADER = 40,
    INDEX_ENTRY = 16,
    INDEX_NAMES_MAX = 1 << 20,
    INDEX_RECORD_MAX = 64 << 20,
    INDEX_FILE_MAX = 31, /* bytes of the name of a single file */
};
#define INDEX_MAGIC "graftidx"
#define INDEX_SEED 0x67726166746e6472u

/* ---- index.c ------------------------------------------------------------------------------- */

struct index_view {
    const uint8_t *data; /* not owned; NULL: an empty index */
    size_t size;
    uint32_t n_names;
    uint64_t generation;
};
graft_status index_parse(struct index_view *view, const void *data, size_t size,
                         graft_error *error);
/* The record of name i; its strings point into the index, its arrays come from the arena. */
graft_status index_read(const struct index_view *view, uint32_t i, struct arena *arena,
                        struct registry_name *out, graft_error *error);
/* -1: absent. Damaged records are not found; reading one says so. */
int64_t index_find(const struct index_view *view, const char *name);
/* The version of a name, exactly; -1: absent. */
int index_find_version(const struct registry_name *name, const char *version);

/* A new index: the old one with some names put in the place of theirs, added, or (n_versions 0) left out.
 * `changed` is sorted here. */
graft_status index_write(struct buf *out, const struct index_view *old,
                         struct registry_name *changed, size_t n_changed, graft_error *error);

/* ---- snapshot: an index that somebody looks at, shared and counted --------------------------- */

struct snapshot {
    struct index_view view;
    struct file_map map;
    struct mem *mem;
    atomic_int references;
    unsigned long long
        counter; /* what the change counter said before this was read; odd: read again */
};
void snapshot_unref(struct snapshot *snapshot);

/* ---- store.c: the files ----------------------------------------------------------------------- */

struct store {
    struct mem *mem;
    char *root, *index, *objects, *incoming, *generation;
    /* Mapped from a small file and shared by all processes: odd while an index is being put in place, so that
     * readers trust no index they read meanwhile, and two more after each change. A process that dies in between
     * leaves it odd: readers then look at the file every time, until the next change. */
    _Atomic(const atomic_ullong *) seen; /* mapped to be read, once it is there; store_counter */
    _Atomic(atomic_ullong *) counter;    /* mapped by the first change of this process */
};
graft_status store_open(struct store *store, struct mem *mem, const char *home, graft_error *error);
void store_close(struct store *store);
/* What the counter says now; odd where there is none. */
unsigned long long store_counter(struct store *store);
/* The index as it is now. */
graft_status store_snapshot(const struct store *store, struct snapshot **out, graft_error *error);
/* The lock that changes take: *lock is a descriptor. Makes what is missing of the folder, and clears away what dead processes left. */
graft_status store_lock(struct store *store, int *lock, graft_error *error);
void store_unlock(int lock);
/* The next four: with the lock held. */
graft_status store_replace_index(const struct store *store, const void *bytes, size_t size,
                                 graft_error *error);
/* Copies a file or folder in and flushes it. *file: "" or the file's name, from the arena. */
graft_status store_add(const struct store *store, const char *path, struct arena *arena,
                       uint8_t digest[32], uint64_t *bytes, const char **file, graft_error *error);
/* Removes the objects that no version of the index refers to. */
graft_status store_sweep(const struct store *store, const struct index_view *view,
                         graft_error *error);
/* Where a version's files are, for the loader; mem_free it. NULL: no memory. */
char *store_object_path(const struct store *store, const uint8_t digest[32], const char *file);
/* FORMAT where the files of an object are not those of its digest, with the one that is at fault where that is known. */
graft_status store_verify(const struct store *store, const char *folder, const uint8_t digest[32],
                          graft_error *error);

/* ---- card.c: what is known of an adapter before it is added ------------------------------------ */

/* Fills what `given` (may be NULL) leaves open from the loader and the path, and checks all of it. The
 * version may stay NULL. Strings come from the arena or are borrowed. */
graft_status card_complete(const struct registry_loader *loader, const char *path,
                           const struct registry_card *given, struct arena *arena,
                           struct registry_card *out, graft_error *error);
bool card_recognise(const struct registry_loader *loader, const char *path);

/* ---- registry.c, resident.c ------------------------------------------------------------------ */

enum resident_state { RESIDENT_LOADING, RESIDENT_READY, RESIDENT_FAILED };

/* One version in memory, or on its way there. Guarded by the registry's mutex. */
struct resident {
    struct registry_version_id id;
    enum resident_state state;
    void *handle;
    size_t bytes;
    int holders;                    /* leases, and threads that wait for the load */
    bool in_table, pinned;          /* pinned: it, or its name while it is active */
    bool in_slot, by_version;       /* a slot names it; somebody asked for it by its version */
    bool doomed;                    /* evicted or removed: closed by the last holder */
    struct resident *chain;         /* of the table */
    struct resident *newer, *older; /* in order of use */
    pthread_cond_t loaded;
    graft_error error; /* of a failed load */
};

enum { RESIDENT_BUCKETS = 1024 };

struct registry {
    struct mem *mem;
    struct store store;
    struct registry_loader loader;
    size_t budget;
    pthread_mutex_t mutex; /* guards all below; never held while a file or an adapter is opened */
    size_t references;     /* the owner and the leases */
    struct snapshot *snapshot;
    struct resident *buckets[RESIDENT_BUCKETS];
    struct resident *newest, *oldest;
    size_t resident_bytes;
    uint64_t loads, hits, closed;
};

/* A reference to an index no older than the last change that anybody has made before the call. */
graft_status registry_snapshot(struct registry *registry, struct snapshot **out,
                               graft_error *error);
/* Parses an address that must be a name. */
graft_status registry_parse_name(const char *text, struct registry_address *out,
                                 graft_error *error);
/* The name and version an address means in this index. *version is an index into name->versions. */
graft_status registry_lookup(const struct index_view *view, const struct registry_address *address,
                             struct arena *arena, struct registry_name *name, int *version,
                             graft_error *error);
void registry_fill_id(struct registry_version_id *id, const struct index_view *view,
                      const struct registry_name *name, int version);
/* What an address means, and what the index says of it. */
struct found {
    struct registry_version_id id;
    char file[INDEX_FILE_MAX + 1]; /* "": a folder */
    bool by_version, in_slot, pinned;
};
graft_status registry_find(struct registry *registry, const char *address, struct found *out,
                           graft_error *error);
void registry_unref(struct registry *registry);

/* With the mutex held: */
struct resident *resident_find(struct registry *registry, const struct registry_version_id *id);
/* Looks up for every resident what the index says of it; returns those that nobody wants any more. */
struct resident *resident_review(struct registry *registry);
/* Leases of a version of that name (version "": of any) in this process. */
int resident_holders(const struct registry *registry, const char *name, const char *version);
struct resident *resident_take_idle(struct registry *registry); /* pinned ones too */
/* Without it: closes what the calls above took out of the table. */
void resident_close(struct registry *registry, struct resident *list);

#endif
