/* graft/registry.h: adapters by name and version, on disk and in memory.
 *
 * A registry is a folder (GRAFT_HOME) that any number of processes share. Adapters are copied into it and get
 * versions, which never change; a name has one active version and may have one on standby. Asking for a
 * name gives the version that is active then. Publishing another one touches nothing that runs: who holds a version
 * keeps it, and the next one to ask gets the new one, in every process.
 *
 * An address is NAME[@VERSION][=WEIGHT]: "coder", "coder@1.2.0", "coder=0.7". A name is a letter or digit and then
 * at most 63 letters, digits, '.', '_' or '-'; a version is MAJOR.MINOR.PATCH[-PRE][+BUILD] (semver 2.0.0). Paths are
 * not addresses: graft_adapter_open is for those. An address that is malformed is GRAFT_INVALID_ARGUMENT; a name or
 * version that is not there, GRAFT_NOT_FOUND.
 *
 * Every function may be called from any thread, also on one registry. Nothing waits for a load but who asks for the
 * version that is being loaded. Changes take a lock among processes, are on disk when they return, and are seen
 * by others as a whole or not at all, also after a crash.
 */
#ifndef GRAFT_PUBLIC_REGISTRY_H
#define GRAFT_PUBLIC_REGISTRY_H

#include <graft/adapter.h>

#ifdef __cplusplus
extern "C" {
#endif

typedef struct graft_registry graft_registry;

typedef struct graft_registry_options {
    size_t struct_size;
    const char *home; /* the folder, made where it is missing; must be given */
    /* Bytes of adapters that may stay in memory while nobody holds them, counted together with those that
     * are held; beyond it the ones longest unused go. What is held or pinned stays in any case. 0: nothing
     * stays; SIZE_MAX: no limit. Default 1 GiB. */
    size_t budget;
    const char
        *type; /* how factors are held, as in graft_adapter_options; NULL (default): as stored */
    bool strict_base; /* as in graft_adapter_options; default false */
} graft_registry_options;
GRAFT_API void graft_registry_options_init(graft_registry_options *options, size_t struct_size);
static inline graft_registry_options graft_registry_options_default(void)
{
    graft_registry_options options;
    graft_registry_options_init(&options, sizeof options);
    return options;
}

/* Opens the registry of a home, for the adapters of one model. `model` NULL: everything but acquire and
 * prefetch works. */
GRAFT_API graft_status graft_registry_open(graft_runtime *runtime, graft_model *model,
                                           const graft_registry_options *options,
                                           graft_registry **out, graft_error *error);
/* No other call on it may be under way. Adapters that came from it stay valid. Before the model and the
 * runtime. */
GRAFT_API void graft_registry_close(graft_registry **registry);

/* ---- finding and holding ---- */

/* One version, exactly. */
typedef struct graft_adapter_id {
    char name[65], version[65];
    char digest[65];     /* SHA-256 over its files, in hex */
    uint64_t generation; /* of the registry's state that said so: one more with every change */
} graft_adapter_id;

/* What an address means now. GRAFT_STATE: the name has no active version. */
GRAFT_API graft_status graft_registry_resolve(graft_registry *registry, const char *address,
                                              graft_adapter_id *out, graft_error *error);

/* Where the files of what an address means lie, for whatever takes adapters by their paths (graft_adapter_open, graft_fuse,
 * graft_adapter_convert, …): a folder, or the one file that was added. They never change, and go when the version is
 * removed, by whichever process. *path: release it with graft_free. `id` may be NULL. */
GRAFT_API graft_status graft_registry_locate(graft_registry *registry, const char *address,
                                             char **path, graft_adapter_id *id, graft_error *error);

/* The address of the adapter that is meant by what it is for. "task:NAME": the name NAME, else the only one that has NAME among
 * its tags; "tag:TAG": the only one with that tag. Tags are those of the active version, names without one do not
 * count. Where nothing registered fits, adapters directly in `folder` (NULL: none) are looked at, by the names of their folders
 * and the tags in their graft.json. *address is NAME, or the path FOLDER/NAME; release it with graft_free. NOT_FOUND: none
 * fits; STATE: several do, which the error lists; INVALID_ARGUMENT: neither task: nor tag:. */
GRAFT_API graft_status graft_registry_find(graft_registry *registry, const char *query,
                                           const char *folder, char **address, graft_error *error);

/* Resolves, opens the version if it is not in memory, and gives a handle of it, to be closed with
 * graft_adapter_close. The version counts as held, so that it can neither be evicted nor removed, until the handle and
 * every mix, session and model that it was applied to have let it go. Every call gives a handle of its own; two
 * of one version are the same adapter in a mix and in graft_session_has_adapter and the like, as are all handles
 * with equal content. *weight is that of the address, 1 where it has none. `weight` and `id` may be NULL.
 * GRAFT_STATE: no active version, or a registry without a model. When the adapter cannot be opened the error is
 * that of graft_adapter_open, and the next call tries again. */
GRAFT_API graft_status graft_registry_acquire(graft_registry *registry, const char *address,
                                              graft_adapter **out, float *weight,
                                              graft_adapter_id *id, graft_error *error);
/* Opens a version without holding it, so that the next acquire finds it in memory. Returns when it is. */
GRAFT_API graft_status graft_registry_prefetch(graft_registry *registry, const char *address,
                                               graft_error *error);
/* Out of memory: at once, or when the last holder lets it go. GRAFT_NOT_FOUND: it is not in memory;
 * GRAFT_STATE: it is pinned. */
GRAFT_API graft_status graft_registry_evict(graft_registry *registry, const char *address,
                                            graft_error *error);

/* The same in every process that shares the home, this one too, as a change of the registry: each lets the version go as
 * soon as it next looks (any call that takes an address, or a list), or when its last holder there does. What is opened
 * afterwards stays as ever. GRAFT_STATE: it is pinned. */
GRAFT_API graft_status graft_registry_evict_everywhere(graft_registry *registry,
                                                       const char *address, graft_error *error);

/* Of this process. */
typedef struct graft_registry_info {
    size_t n_resident, n_held; /* versions in memory, and how many of them are held */
    size_t bytes, budget;      /* of all in memory */
    uint64_t loads, hits;      /* acquires that opened a version, that found it in memory */
    uint64_t closed;           /* versions that left the memory */
    uint64_t generation;       /* of the newest state that this process has seen */
} graft_registry_info;
GRAFT_API graft_status graft_registry_describe(graft_registry *registry, graft_registry_info *out,
                                               graft_error *error);

/* ---- adding ---- */

/* What is known of an adapter. NULL and 0 leave a member to what the adapter's files say (graft.json) or, of the
 * name, to its path. */
typedef struct graft_card {
    size_t struct_size;
    const char *name, *version, *description;
    const char *base;        /* fingerprint of its base model */
    const char *const *tags; /* [n_tags] */
    size_t n_tags;
} graft_card;
GRAFT_API void graft_card_init(graft_card *card, size_t struct_size);
static inline graft_card graft_card_default(void)
{
    graft_card card;
    graft_card_init(&card, sizeof card);
    return card;
}

typedef enum graft_place {
    GRAFT_PLACE_ADD = 0,    /* only the first version of a name becomes active */
    GRAFT_PLACE_STAGE = 1,  /* on standby */
    GRAFT_PLACE_PUBLISH = 2 /* active */
} graft_place;

/* Copies the adapter at `path` (a PEFT or MLX directory, a GGUF file) into the registry. Without a version it gets the
 * next patch after the highest, or 1.0.0. The same content under the same version again is GRAFT_OK; other
 * content under a version that is there, and another base than the one the name is bound to, or none that is known, are
 * GRAFT_STATE. What can be checked without a model is checked; shapes are when it is opened. In a registry with a model an
 * adapter that names no base is opened on the model, whose errors are those of graft_adapter_open, and counts as made for
 * it; with strict_base every adapter is opened so. `who` (may be NULL) says what it
 * became. */
GRAFT_API graft_status graft_registry_add(graft_registry *registry, const char *path,
                                          const graft_card *card, graft_place place,
                                          graft_adapter_id *who, graft_error *error);
/* Tells of one adapter: `status`, and *id when it was GRAFT_OK, else *error. Must not change the registry. */
typedef void (*graft_report_fn)(void *user, const char *path, graft_status status,
                                const graft_error *error, const graft_adapter_id *id);
/* Every adapter directly in a folder, as one change. Those that fail are left out; GRAFT_OK with *added 0 when
 * all did, GRAFT_NOT_FOUND when there is none. `report` and `added` may be NULL. */
GRAFT_API graft_status graft_registry_add_many(graft_registry *registry, const char *folder,
                                               graft_report_fn report, void *user, size_t *added,
                                               graft_error *error);

/* ---- slots ---- */

/* NAME@VERSION on standby: a swap is in progress. */
GRAFT_API graft_status graft_registry_stage(graft_registry *registry, const char *address,
                                            graft_error *error);
/* NAME: standby becomes active, what was active becomes previous. GRAFT_STATE: nothing is staged. */
GRAFT_API graft_status graft_registry_promote(graft_registry *registry, const char *name,
                                              graft_adapter_id *who, graft_error *error);
/* NAME@VERSION: stage and promote as one change. */
GRAFT_API graft_status graft_registry_publish(graft_registry *registry, const char *address,
                                              graft_error *error);
/* NAME@VERSION becomes active; another version that is staged stays so. */
GRAFT_API graft_status graft_registry_activate(graft_registry *registry, const char *address,
                                               graft_error *error);
/* NAME: active and previous change places. GRAFT_STATE: there is no previous version. */
GRAFT_API graft_status graft_registry_rollback(graft_registry *registry, const char *name,
                                               graft_adapter_id *who, graft_error *error);
/* Once opened it stays in memory, beyond the budget too: NAME@VERSION, or of a NAME whatever is active. */
GRAFT_API graft_status graft_registry_pin(graft_registry *registry, const char *address,
                                          bool pinned, graft_error *error);
/* NAME@VERSION, or a NAME with all its versions. GRAFT_STATE: a version that is active, on its own,
 * one that is pinned, or held in this process; other processes keep what they have in memory. */
GRAFT_API graft_status graft_registry_remove(graft_registry *registry, const char *address,
                                             graft_error *error);
/* Reads all files of a version. GRAFT_FORMAT or GRAFT_NOT_FOUND: they are not those that were added. */
GRAFT_API graft_status graft_registry_verify(graft_registry *registry, const char *address,
                                             graft_error *error);

/* ---- listing ---- */

typedef struct graft_registry_version {
    const char *version, *description;
    const char *const *tags; /* [n_tags] */
    size_t n_tags;
    char digest[65];
    uint64_t bytes;            /* of its files */
    uint64_t memory;           /* estimate once opened; 0: not known */
    int64_t created, modified; /* seconds since 1970 */
    bool pinned;
    /* In this process: */
    bool loading, resident;
    int holders;
    size_t resident_bytes;
} graft_registry_version;

typedef struct graft_registry_entry {
    const char *name;
    const char *base;              /* fingerprint; "": bound to none */
    int active, standby, previous; /* into versions; -1: none. standby: a swap is in progress */
    bool pinned;
    const graft_registry_version *versions; /* [n_versions], lowest first */
    size_t n_versions;
} graft_registry_entry;

/* Visits every name in order of its bytes, all from one state of the registry; `only` (may be NULL): that name
 * alone, GRAFT_NOT_FOUND where it is missing. What is passed lives until the visit returns. A visit that returns
 * false ends the list; it may call the registry. */
typedef bool (*graft_registry_visit_fn)(void *user, const graft_registry_entry *entry);
GRAFT_API graft_status graft_registry_list(graft_registry *registry, const char *only,
                                           graft_registry_visit_fn visit, void *user,
                                           graft_error *error);

#ifdef __cplusplus
}
#endif
#endif
