/* registry.h: names of adapters, their versions, and which of them is in memory.
 *
 * On disk, under HOME/registry: an index that is replaced as a whole by every change, and the adapters' files,
 * copied in and named by their content. Any number of processes share one home; a change by one is seen by the
 * next resolve of every other. In memory: versions are opened on first use by a loader that the caller brings
 * (the registry does not know what an adapter's files mean), kept under a byte budget, and never closed under
 * somebody who holds one. Depends on base alone.
 *
 * Every function is safe from any thread. Resolving takes no file lock and waits for no load; whoever asks for
 * a version that is just being opened waits for that one only. Changes take a lock among processes.
 */
#ifndef GRAFT_REGISTRY_H
#define GRAFT_REGISTRY_H

#include "base/base.h"

enum {
    REGISTRY_NAME_MAX = 64,       /* bytes of a name, a version or a tag */
    REGISTRY_TEXT_MAX = 4096,     /* of a description */
    REGISTRY_BASE_MAX = 256,      /* of a base fingerprint */
    REGISTRY_TAGS_MAX = 64,       /* tags of a version */
    REGISTRY_VERSIONS_MAX = 4096, /* versions of a name */
};

/* ---- addresses ---------------------------------------------------------------------------- */

/* NAME[@VERSION][=WEIGHT], or a path, which contains '/' and may end in =WEIGHT. */
struct registry_address {
    bool is_path;
    size_t path_length; /* of a path: that many bytes of the text, the weight not among them */
    char name[REGISTRY_NAME_MAX + 1];
    char version[REGISTRY_NAME_MAX + 1]; /* "": whichever is active */
    bool has_weight;
    double weight; /* 1 unless said; finite */
};
/* INVALID_ARGUMENT says what is wrong with the name, the version or the weight. Letter case counts. */
graft_status registry_parse_address(const char *text, struct registry_address *out,
                                    graft_error *error);
/* A letter or digit, then letters, digits, '.', '_' and '-': never a path, never an option. */
bool registry_name_valid(const char *name);
/* MAJOR.MINOR.PATCH[-PRE][+BUILD] as semver.org 2.0.0 has it. */
bool registry_version_valid(const char *version);
/* Precedence of two valid versions, <0, 0 or >0. Those that differ in +BUILD alone are ordered by its bytes. */
int registry_version_compare(const char *a, const char *b);

/* Seconds since 1970 (UTC) from "2024-02-29T12:00:00Z" or with an offset; false when malformed. */
bool registry_parse_time(const char *text, int64_t *out);
void registry_format_time(int64_t seconds, char out[32]);

/* ---- open and close ----------------------------------------------------------------------- */

/* What is known of an adapter before it is added. Strings may be NULL and numbers 0: not known. */
struct registry_card {
    const char *name, *version, *description;
    const char *base; /* fingerprint of the base model */
    const char *const *tags;
    size_t n_tags;
    int64_t created, modified; /* seconds since 1970 */
    uint64_t memory;           /* bytes it will take once opened: an estimate */
};

/* The hooks may be called from several threads at once. */
struct registry_loader {
    /* Opens the adapter at path (a folder, or the file that was added); *bytes: what it takes. */
    graft_status (*open)(void *user, const char *path, void **handle, size_t *bytes,
                         graft_error *error);
    /* Gives the registry's reference to a handle back. */
    void (*close)(void *user, void *handle);
    /* Is this an adapter? NULL: a folder with adapter_config.json, or a .gguf file. */
    bool (*recognise)(void *user, const char *path);
    /* Checks an adapter about to be added, and fills what its files say about it; strings come from the
     * arena. NULL: nothing is known. */
    graft_status (*describe)(void *user, const char *path, struct arena *arena,
                             struct registry_card *card, graft_error *error);
    void *user;
};

struct registry_options {
    const char *home; /* made where it is missing */
    struct mem *mem;  /* may be NULL; must outlive the last lease */
    /* What may stay in memory while nobody holds it, counted with what is held. 0: nothing; SIZE_MAX: no
     * limit. What is held or pinned stays, even beyond. */
    size_t budget;
    struct registry_loader loader;
};

struct registry;
graft_status registry_open(struct registry **out, const struct registry_options *options,
                           graft_error *error);
/* Leases stay valid; what they need goes with the last of them. Sets *registry NULL; NULL is allowed. */
void registry_close(struct registry **registry);

/* ---- finding and holding ------------------------------------------------------------------- */

/* One version, exactly. */
struct registry_version_id {
    char name[REGISTRY_NAME_MAX + 1];
    char version[REGISTRY_NAME_MAX + 1];
    uint8_t digest[32];  /* SHA-256 over its files */
    uint64_t generation; /* of the index that said so: one more with every change */
};
/* What an address means now, from the index alone. NOT_FOUND: no such name or version; STATE: the name has no
 * active version. A path is INVALID_ARGUMENT, here and below. */
graft_status registry_resolve(struct registry *registry, const char *address,
                              struct registry_version_id *out, graft_error *error);

/* The same, and where its files are: *path, to be released with mem_free, is what a loader would be given. */
graft_status registry_locate(struct registry *registry, const char *address, char **path,
                             struct registry_version_id *out, graft_error *error);

/* "task:NAME", the active version of that name, else of the only name that has NAME among its tags; "tag:TAG", the only one with
 * the tag. Where nothing registered fits, the adapters directly in `folder` (NULL: none), by the names of their folders and
 * the tags of their cards. *address, to be released with mem_free: NAME, or FOLDER/NAME. NOT_FOUND; STATE: several
 * fit, which the error lists. */
graft_status registry_query(struct registry *registry, struct mem *mem, const char *query,
                            const char *folder, char **address, graft_error *error);

/* A version in memory that cannot go away. */
struct registry_lease {
    void *handle; /* the loader's */
    size_t bytes;
    struct registry_version_id id;
    struct registry *registry;
    struct resident *resident;
};
/* Resolves, opens if it must, and holds. On failure *out is untouched and a later call tries again. */
graft_status registry_acquire(struct registry *registry, const char *address,
                              struct registry_lease *out, graft_error *error);
/* A version that no slot names, no pin keeps and nobody has asked for by its version is closed by the last
 * release; others stay under the budget. Zeroes the lease; a zeroed one is allowed. */
void registry_release(struct registry_lease *lease);
/* Opens it without holding it, so that the next acquire finds it. Returns when it is there. */
graft_status registry_prefetch(struct registry *registry, const char *address, graft_error *error);
/* Out of memory: at once, or by the last release while it is held. NOT_FOUND when it is not in memory, STATE
 * when it is pinned. */
graft_status registry_evict(struct registry *registry, const char *address, graft_error *error);
/* The same in every process, as a change: others do it when they next look at the index. STATE when it is pinned. What
 * is opened afterwards stays. */
graft_status registry_evict_everywhere(struct registry *registry, const char *address,
                                       graft_error *error);

struct registry_stats {
    size_t resident, held;        /* versions in memory, and how many of them somebody holds */
    size_t bytes, budget;         /* of all in memory */
    uint64_t loads, hits, closed; /* since open; loads that failed are not counted */
    uint64_t generation;
};
void registry_stats(struct registry *registry, struct registry_stats *out);

/* ---- changes ------------------------------------------------------------------------------- */

/* Each is one new index: other processes see all of it or nothing. It is on disk when the call returns OK. A
 * failure leaves the index as it was, except an IO error while the folder is flushed, after which the change is
 * visible and may not survive a crash. `who`, where it is not NULL, says what the change was about. */

enum registry_place { REGISTRY_ADD, REGISTRY_STAGE, REGISTRY_PUBLISH };

/* Copies an adapter in. What `card` (may be NULL) leaves open comes from the loader's describe; then the name is
 * that of the file or folder without its ending, and the version the next patch after the highest, or 1.0.0.
 * The first version of a name becomes active. Versions never change: the same content again is OK and changes
 * no more than the slots, other content under a version that is there is STATE. A name is bound to the base of
 * its first version that has one; another base is STATE. */
graft_status registry_add(struct registry *registry, const char *path,
                          const struct registry_card *card, enum registry_place place,
                          struct registry_version_id *who, graft_error *error);
/* Every adapter directly in a folder, in one change. `report` is told of each one that was recognised; those that
 * fail are left out. OK with *added 0 when all failed; NOT_FOUND when nothing was recognised. */
typedef void (*registry_report)(void *user, const char *path, graft_status status,
                                const graft_error *error, const struct registry_version_id *id);
graft_status registry_add_many(struct registry *registry, const char *folder,
                               registry_report report, void *user, size_t *added,
                               graft_error *error);

/* The version that an adapter added to a name without one would get now. NOT_FOUND: no such name. */
graft_status registry_next_version(struct registry *registry, const char *name,
                                   char out[REGISTRY_NAME_MAX + 1], graft_error *error);
/* NAME@VERSION into the standby slot: from then on a swap is in progress. */
graft_status registry_stage(struct registry *registry, const char *address, graft_error *error);
/* NAME: standby becomes active, and what was active previous. NAME@VERSION: if it is that one. STATE when nothing is
 * staged, or another version. */
graft_status registry_promote(struct registry *registry, const char *address,
                              struct registry_version_id *who, graft_error *error);
/* The same while `from` is the active version, STATE where it no longer is: checked in the change itself. */
graft_status registry_promote_from(struct registry *registry, const char *address,
                                   const struct registry_version_id *from,
                                   struct registry_version_id *who, graft_error *error);
/* Stage and promote in one change: NAME@VERSION. */
graft_status registry_publish(struct registry *registry, const char *address, graft_error *error);
/* NAME@VERSION becomes active; another version that is staged stays staged. */
graft_status registry_activate(struct registry *registry, const char *address, graft_error *error);
/* NAME: active and previous change places. STATE when there is no previous version. */
graft_status registry_rollback(struct registry *registry, const char *address,
                               struct registry_version_id *who, graft_error *error);
/* NAME: whichever version is active stays in memory once opened; NAME@VERSION: that one does. */
graft_status registry_pin(struct registry *registry, const char *address, bool pinned,
                          graft_error *error);
/* NAME@VERSION, or a NAME with all its versions. STATE for a version that is active, and for what is
 * pinned or held in this process; holders in other processes keep what they have in memory. */
graft_status registry_remove(struct registry *registry, const char *address, graft_error *error);
/* NOT_FOUND or FORMAT when the files in the store are not those that were added. */
graft_status registry_verify(struct registry *registry, const char *address, graft_error *error);

/* ---- listing -------------------------------------------------------------------------------- */

struct registry_version {
    const char *version, *description;
    const char *file; /* the one file that was added; "" for a folder */
    const char **tags;
    size_t n_tags;
    uint8_t digest[32];
    uint64_t bytes;            /* of its files */
    uint64_t memory;           /* estimate once opened; 0: not known */
    int64_t created, modified; /* seconds since 1970 */
    uint64_t
        evicted; /* what was opened before this generation is to leave the memory; 0: nothing */
    bool pinned;
    /* In this process: */
    bool loading, resident;
    int holders;
    size_t resident_bytes;
};

enum { REGISTRY_NO_SLOT = -1 };
struct registry_name {
    const char *name, *base; /* base "": bound to none */
    int active, standby,
        previous; /* into versions, or REGISTRY_NO_SLOT; standby: a swap in progress */
    bool pinned;
    struct registry_version *versions; /* lowest first */
    size_t n_versions;
};
/* Visits every name in order of its bytes, as one index has them; what is passed lives until the visit returns.
 * A visit that returns false ends the list. `only` is NULL or one name (then NOT_FOUND is possible). */
typedef bool (*registry_visit)(void *user, const struct registry_name *name);
graft_status registry_list(struct registry *registry, const char *only, registry_visit visit,
                           void *user, graft_error *error);

#endif
