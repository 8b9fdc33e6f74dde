/* registry.c: open and close, the index as this process sees it, and what an address means.
 *
 * An index in use is an immutable snapshot with a count of references. Readers compare the change counter that all
 * processes map with the one their snapshot was read at: one load of a shared word, and only after a change a
 * look at the file.
 */
#include "registry_internal.h"

/* ---- open and close --------------------------------------------------------------------------- */

graft_status registry_open(struct registry **out, const struct registry_options *options,
                           graft_error *error)
{
    struct snapshot *snapshot;
    struct registry *r = mem_calloc(options->mem, 1, sizeof(*r));
    if (!r)
        return error_set(error, GRAFT_NO_MEMORY, "no memory for the registry");
    r->mem = options->mem;
    r->loader = options->loader;
    r->budget = options->budget;
    r->references = 1;
    if (pthread_mutex_init(&r->mutex, NULL) != 0) {
        mem_free(r->mem, r);
        return error_set(error, GRAFT_NO_MEMORY, "no memory for a lock");
    }
    graft_status status = store_open(&r->store, r->mem, options->home, error);
    if (status == GRAFT_OK)
        status = registry_snapshot(r, &snapshot, error);
    if (status != GRAFT_OK) {
        registry_unref(r);
        return status;
    }
    snapshot_unref(snapshot);
    *out = r;
    return GRAFT_OK;
}

void registry_unref(struct registry *r)
{
    pthread_mutex_lock(&r->mutex);
    bool last = --r->references == 0;
    pthread_mutex_unlock(&r->mutex);
    if (!last)
        return;
    resident_close(r, resident_take_idle(r));
    snapshot_unref(r->snapshot);
    store_close(&r->store);
    pthread_mutex_destroy(&r->mutex);
    mem_free(r->mem, r);
}

void registry_close(struct registry **registry)
{
    struct registry *r = *registry;
    *registry = NULL;
    if (!r)
        return;
    /* What nobody holds goes now, even when leases keep the rest alive. */
    pthread_mutex_lock(&r->mutex);
    r->budget = 0;
    struct resident *idle = resident_take_idle(r);
    pthread_mutex_unlock(&r->mutex);
    resident_close(r, idle);
    registry_unref(r);
}

/* ---- the index -------------------------------------------------------------------------------- */

static struct snapshot *snapshot_ref(struct snapshot *s)
{
    atomic_fetch_add(&s->references, 1);
    return s;
}

/* Takes the newer of the two into use; *fresh becomes the one to let go. */
static struct resident *install(struct registry *r, struct snapshot **fresh)
{
    struct snapshot *old = r->snapshot;
    if (old && (*fresh)->view.generation <= old->view.generation) {
        if ((*fresh)->view.generation == old->view.generation && (*fresh)->counter > old->counter)
            old->counter = (*fresh)->counter;
        return NULL;
    }
    r->snapshot = *fresh;
    *fresh = old;
    return resident_review(r);
}

graft_status registry_snapshot(struct registry *r, struct snapshot **out, graft_error *error)
{
    /* Before the file: what is read is at least as new as what the counter counts. */
    unsigned long long counter = store_counter(&r->store);
    pthread_mutex_lock(&r->mutex);
    struct snapshot *current = r->snapshot, *fresh;
    bool good = current && current->counter == counter && !(counter & 1);
    if (good)
        *out = snapshot_ref(current);
    pthread_mutex_unlock(&r->mutex);
    if (good)
        return GRAFT_OK;
    graft_status status = store_snapshot(&r->store, &fresh, error);
    if (status != GRAFT_OK)
        return status;
    fresh->counter = counter;
    pthread_mutex_lock(&r->mutex);
    struct resident *unwanted = install(r, &fresh);
    *out = snapshot_ref(r->snapshot);
    pthread_mutex_unlock(&r->mutex);
    snapshot_unref(fresh);
    resident_close(r, unwanted);
    return GRAFT_OK;
}

/* ---- addresses -------------------------------------------------------------------------------- */

graft_status registry_lookup(const struct index_view *view, const struct registry_address *address,
                             struct arena *arena, struct registry_name *name, int *version,
                             graft_error *error)
{
    struct registry_name found;
    int64_t at = index_find(view, address->name);
    if (at < 0)
        return error_set(error, GRAFT_NOT_FOUND, "no adapter is registered as \"%s\"",
                         address->name);
    graft_status status = index_read(view, (uint32_t)at, arena, &found, error);
    if (status != GRAFT_OK)
        return status;
    int which = address->version[0] ? index_find_version(&found, address->version) : found.active;
    if (which < 0 && address->version[0])
        return error_set(error, GRAFT_NOT_FOUND,
                         "adapter \"%s\" has no version %s (the highest is %s)", address->name,
                         address->version, found.versions[found.n_versions - 1].version);
    if (which < 0)
        return error_set(error, GRAFT_STATE, "adapter \"%s\" has no active version", address->name);
    *name = found;
    *version = which;
    return GRAFT_OK;
}

void registry_fill_id(struct registry_version_id *id, const struct index_view *view,
                      const struct registry_name *name, int version)
{
    const struct registry_version *v = &name->versions[version];
    memset(id, 0, sizeof(*id));
    memcpy(id->name, name->name, strlen(name->name));
    memcpy(id->version, v->version, strlen(v->version));
    memcpy(id->digest, v->digest, sizeof(id->digest));
    id->generation = view->generation;
}

graft_status registry_find(struct registry *r, const char *text, struct found *out,
                           graft_error *error)
{
    struct registry_address address;
    struct registry_name name;
    struct snapshot *snapshot;
    struct arena arena;
    int version;
    graft_status status = registry_parse_name(text, &address, error);
    if (status == GRAFT_OK)
        status = registry_snapshot(r, &snapshot, error);
    if (status != GRAFT_OK)
        return status;
    arena_init(&arena, r->mem, INDEX_RECORD_MAX);
    status = registry_lookup(&snapshot->view, &address, &arena, &name, &version, error);
    if (status == GRAFT_OK) {
        const struct registry_version *v = &name.versions[version];
        *out = (struct found){
            .by_version = address.version[0],
            .in_slot = version == name.active || version == name.standby,
            .pinned = v->pinned || (name.pinned && version == name.active),
        };
        registry_fill_id(&out->id, &snapshot->view, &name, version);
        memcpy(out->file, v->file, strlen(v->file));
    }
    arena_free(&arena);
    snapshot_unref(snapshot);
    return status;
}

graft_status registry_resolve(struct registry *r, const char *address,
                              struct registry_version_id *out, graft_error *error)
{
    struct found found;
    graft_status status = registry_find(r, address, &found, error);
    if (status == GRAFT_OK)
        *out = found.id;
    return status;
}

graft_status registry_locate(struct registry *r, const char *address, char **path,
                             struct registry_version_id *out, graft_error *error)
{
    struct found found;
    graft_status status = registry_find(r, address, &found, error);
    if (status != GRAFT_OK)
        return status;
    char *place = store_object_path(&r->store, found.id.digest, found.file);
    if (!place)
        return error_set(error, GRAFT_NO_MEMORY, "no memory for a path");
    *path = place;
    *out = found.id;
    return GRAFT_OK;
}

graft_status registry_verify(struct registry *r, const char *address, graft_error *error)
{
    struct found found;
    graft_error why = {0};
    graft_status status = registry_find(r, address, &found, error);
    if (status != GRAFT_OK)
        return status;
    char *folder = store_object_path(&r->store, found.id.digest, "");
    if (!folder)
        return error_set(error, GRAFT_NO_MEMORY, "no memory for a path");
    status = store_verify(&r->store, folder, found.id.digest, &why);
    if (status != GRAFT_OK) {
        error_set(error, status, "%s@%s is damaged: %s (adding the same adapter again heals it)",
                  found.id.name, found.id.version, why.message);
        error_at_file(error, why.file);
    }
    mem_free(r->mem, folder);
    return status;
}

/* ---- listing ---------------------------------------------------------------------------------- */

/* What this process has of each version. */
static void add_residents(struct registry *r, const struct index_view *view,
                          struct registry_name *name)
{
    struct registry_version_id id;
    pthread_mutex_lock(&r->mutex);
    for (size_t i = 0; i < name->n_versions; i++) {
        struct registry_version *v = &name->versions[i];
        registry_fill_id(&id, view, name, (int)i);
        const struct resident *resident = resident_find(r, &id);
        if (!resident)
            continue;
        v->loading = resident->state == RESIDENT_LOADING;
        v->resident = !v->loading;
        v->holders = v->loading ? 0 : resident->holders;
        v->resident_bytes = resident->bytes;
    }
    pthread_mutex_unlock(&r->mutex);
}

/* *on: false once the visitor has seen enough. */
static graft_status visit_one(struct registry *r, const struct index_view *view, uint32_t i,
                              registry_visit visit, void *user, bool *on, graft_error *error)
{
    struct arena arena;
    struct registry_name name;
    arena_init(&arena, r->mem, INDEX_RECORD_MAX);
    graft_status status = index_read(view, i, &arena, &name, error);
    if (status == GRAFT_OK) {
        add_residents(r, view, &name);
        *on = visit(user, &name);
    }
    arena_free(&arena);
    return status;
}

graft_status registry_list(struct registry *r, const char *only, registry_visit visit, void *user,
                           graft_error *error)
{
    struct snapshot *snapshot;
    bool on = true;
    graft_status status = registry_snapshot(r, &snapshot, error);
    if (status != GRAFT_OK)
        return status;
    const struct index_view *view = &snapshot->view;
    if (only) {
        int64_t at = index_find(view, only);
        status = at < 0 ? error_set(error, GRAFT_NOT_FOUND,
                                    "no adapter is registered as \"%.100s\"", only)
                        : visit_one(r, view, (uint32_t)at, visit, user, &on, error);
    }
    for (uint32_t i = 0; !only && on && status == GRAFT_OK && i < view->n_names; i++)
        status = visit_one(r, view, i, visit, user, &on, error);
    snapshot_unref(snapshot);
    return status;
}
