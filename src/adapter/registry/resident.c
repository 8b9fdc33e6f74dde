/* resident.c: versions in memory: opened once, held by counting, closed when nobody wants them.
 *
 * The mutex guards the table and is never held while the loader works: who finds a version being opened waits on
 * that version's own condition. A version leaves the table in one step under the mutex and is closed after it,
 * so that a slow close stops nobody either.
 *
 * Kept without a holder is what a slot of the index names, what is pinned, and what somebody has asked for by its
 * version; in order of use, as far as the budget goes. The rest goes with its last holder.
 */
#include "registry_internal.h"

/* ---- table and order of use ------------------------------------------------------------------- */

/* Digests are as good as random. */
static struct resident **bucket_of(struct registry *r, const struct registry_version_id *id)
{
    return &r->buckets[(id->digest[0] | (size_t)id->digest[1] << 8) % RESIDENT_BUCKETS];
}

static bool same_version(const struct registry_version_id *a, const struct registry_version_id *b)
{
    return !memcmp(a->digest, b->digest, sizeof(a->digest)) && !strcmp(a->name, b->name) &&
           !strcmp(a->version, b->version);
}

struct resident *resident_find(struct registry *r, const struct registry_version_id *id)
{
    struct resident *at = *bucket_of(r, id);
    while (at && !same_version(&at->id, id))
        at = at->chain;
    return at;
}

static void unlink_use(struct registry *r, struct resident *one)
{
    *(one->newer ? &one->newer->older : &r->newest) = one->older;
    *(one->older ? &one->older->newer : &r->oldest) = one->newer;
    one->newer = one->older = NULL;
}

static void link_newest(struct registry *r, struct resident *one)
{
    one->older = r->newest;
    *(r->newest ? &r->newest->newer : &r->oldest) = one;
    r->newest = one;
}

static void touch(struct registry *r, struct resident *one)
{
    unlink_use(r, one);
    link_newest(r, one);
}

static void insert(struct registry *r, struct resident *one)
{
    struct resident **bucket = bucket_of(r, &one->id);
    one->chain = *bucket;
    *bucket = one;
    one->in_table = true;
    link_newest(r, one);
}

/* Out of the table; onto a list (through chain) of what is to be closed. */
static void take_out(struct registry *r, struct resident *one, struct resident **list)
{
    struct resident **at = bucket_of(r, &one->id);
    while (*at != one)
        at = &(*at)->chain;
    *at = one->chain;
    unlink_use(r, one);
    one->in_table = false;
    r->resident_bytes -= one->bytes;
    one->chain = *list;
    *list = one;
}

static bool idle(const struct resident *one)
{
    return !one->holders && one->state == RESIDENT_READY;
}

static bool worth_keeping(const struct resident *one)
{
    return !one->doomed && (one->pinned || one->in_slot || one->by_version);
}

/* Takes out what the budget has no room for, longest unused first. */
static void trim(struct registry *r, struct resident **list)
{
    for (struct resident *one = r->oldest, *next; one && r->resident_bytes > r->budget;
         one = next) {
        next = one->newer;
        if (idle(one) && !one->pinned)
            take_out(r, one, list);
    }
}

struct resident *resident_take_idle(struct registry *r)
{
    struct resident *list = NULL;
    for (struct resident *one = r->oldest, *next; one; one = next) {
        next = one->newer;
        one->pinned = false;
        if (idle(one))
            take_out(r, one, &list);
    }
    return list;
}

static void resident_free(struct registry *r, struct resident *one)
{
    pthread_cond_destroy(&one->loaded);
    mem_free(r->mem, one);
}

void resident_close(struct registry *r, struct resident *list)
{
    size_t closed = 0;
    for (struct resident *one = list, *next; one; one = next, closed++) {
        next = one->chain;
        r->loader.close(r->loader.user, one->handle);
        resident_free(r, one);
    }
    if (!closed)
        return;
    pthread_mutex_lock(&r->mutex);
    r->closed += closed;
    pthread_mutex_unlock(&r->mutex);
}

/* ---- what the index says of them -------------------------------------------------------------- */

static void review_name(const struct registry_name *name, struct resident *one)
{
    int version = index_find_version(name, one->id.version);
    if (version < 0 || memcmp(name->versions[version].digest, one->id.digest, 32) != 0) {
        one->doomed = true;
        one->in_slot = one->pinned = false;
        return;
    }
    one->in_slot = version == name->active || version == name->standby;
    one->pinned = name->versions[version].pinned || (name->pinned && version == name->active);
    one->doomed = one->doomed || one->id.generation < name->versions[version].evicted;
}

/* An index that cannot be read leaves everything as it was. */
static void review(struct registry *r, struct resident *one)
{
    const struct index_view *view = &r->snapshot->view;
    struct arena arena;
    struct registry_name name = {0}; /* of no version: gone */
    graft_status status = GRAFT_OK;
    arena_init(&arena, r->mem, INDEX_RECORD_MAX);
    int64_t at = index_find(view, one->id.name);
    if (at >= 0)
        status = index_read(view, (uint32_t)at, &arena, &name, NULL);
    if (status == GRAFT_OK)
        review_name(&name, one);
    arena_free(&arena);
}

struct resident *resident_review(struct registry *r)
{
    struct resident *list = NULL;
    for (struct resident *one = r->oldest, *next; one; one = next) {
        next = one->newer;
        review(r, one);
        if (idle(one) && !worth_keeping(one))
            take_out(r, one, &list);
    }
    trim(r, &list);
    return list;
}

int resident_holders(const struct registry *r, const char *name, const char *version)
{
    int holders = 0;
    for (const struct resident *one = r->newest; one; one = one->older)
        if (!strcmp(one->id.name, name) && (!version[0] || !strcmp(one->id.version, version)))
            holders += one->holders;
    return holders;
}

/* ---- acquire and release ---------------------------------------------------------------------- */

static struct resident *resident_new(struct registry *r, const struct found *found,
                                     graft_error *error)
{
    struct resident *one = mem_calloc(r->mem, 1, sizeof(*one));
    if (!one || pthread_cond_init(&one->loaded, NULL) != 0) {
        mem_free(r->mem, one);
        error_set(error, GRAFT_NO_MEMORY, "no memory for an adapter's record");
        return NULL;
    }
    one->id = found->id;
    one->state = RESIDENT_LOADING;
    one->holders = 1;
    one->in_slot = found->in_slot;
    one->pinned = found->pinned;
    one->by_version = found->by_version;
    return one;
}

/* Opens it without the mutex, takes the mutex, and tells those who wait. The caller holds `one`. */
static void load(struct registry *r, struct resident *one, const char *file)
{
    void *handle = NULL;
    size_t bytes = 0;
    graft_error error = {0};
    graft_status status = GRAFT_NO_MEMORY;
    struct resident *list = NULL;
    char *path = store_object_path(&r->store, one->id.digest, file);
    if (path)
        status = r->loader.open(r->loader.user, path, &handle, &bytes, &error);
    else
        error_set(&error, GRAFT_NO_MEMORY, "no memory for a path");
    mem_free(r->mem, path);
    pthread_mutex_lock(&r->mutex);
    if (status == GRAFT_OK) {
        one->state = RESIDENT_READY;
        one->handle = handle;
        one->bytes = bytes;
        r->resident_bytes += bytes;
        r->loads++;
        trim(r, &list);
    } else {
        one->state = RESIDENT_FAILED;
        one->error = error;
        one->error.status = status;
        take_out(r, one, &(struct resident *){NULL});
    }
    pthread_cond_broadcast(&one->loaded);
    pthread_mutex_unlock(&r->mutex);
    resident_close(r, list);
}

/* With the mutex: one holder less. What nobody wants any more goes onto the list. */
static void drop(struct registry *r, struct resident *one, struct resident **list)
{
    if (--one->holders)
        return;
    if (!worth_keeping(one))
        take_out(r, one, list);
    trim(r, list);
}

/* A failed load is told to everybody who waited for it; the last of them frees the record. */
static graft_status leave_failed(struct registry *r, struct resident *one, graft_error *error)
{
    graft_status status = one->error.status;
    *error = one->error;
    if (!--one->holders)
        resident_free(r, one);
    return status;
}

/* A resident of that version, held and ready. */
static graft_status hold(struct registry *r, const struct found *found, struct resident **out,
                         graft_error *error)
{
    struct resident *spare = NULL, *one;
    pthread_mutex_lock(&r->mutex);
    one = resident_find(r, &found->id);
    if (one) {
        one->holders++;
        one->by_version = one->by_version || found->by_version;
        r->hits++;
    } else if ((one = spare = resident_new(r, found, error))) {
        insert(r, one);
        if (r->snapshot->view.generation != found->id.generation)
            review(r, one); /* what was found is old already */
    } else {
        pthread_mutex_unlock(&r->mutex);
        return GRAFT_NO_MEMORY;
    }
    if (spare) {
        pthread_mutex_unlock(&r->mutex);
        load(r, spare, found->file);
        pthread_mutex_lock(&r->mutex);
    }
    while (one->state == RESIDENT_LOADING)
        pthread_cond_wait(&one->loaded, &r->mutex);
    graft_status status = GRAFT_OK;
    if (one->state == RESIDENT_FAILED) {
        status = leave_failed(r, one, error);
    } else {
        touch(r, one);
        r->references++;
        *out = one;
    }
    pthread_mutex_unlock(&r->mutex);
    return status;
}

/* Between looking the version up and opening its files somebody may have removed it, or put another in its
 * place: then the failure is no news about the adapter, and the address is looked up again. */
static bool moved_on(struct registry *r, const char *address, struct found *found,
                     graft_status *status, graft_error *error)
{
    struct found again;
    graft_status now = registry_find(r, address, &again, error);
    if (now != GRAFT_OK)
        *status = now;
    if (now != GRAFT_OK || same_version(&again.id, &found->id))
        return false;
    *found = again;
    return true;
}

graft_status registry_acquire(struct registry *r, const char *address, struct registry_lease *out,
                              graft_error *error)
{
    struct found found;
    struct resident *one = NULL;
    graft_error why = {0};
    graft_status status = registry_find(r, address, &found, error);
    if (status != GRAFT_OK)
        return status;
    do
        status = hold(r, &found, &one, &why);
    while (status != GRAFT_OK && moved_on(r, address, &found, &status, &why));
    if (status != GRAFT_OK) {
        if (error)
            *error = why;
        return status;
    }
    *out = (struct registry_lease){one->handle, one->bytes, found.id, r, one};
    return GRAFT_OK;
}

void registry_release(struct registry_lease *lease)
{
    struct registry *r = lease->registry;
    struct resident *list = NULL;
    if (!r)
        return;
    pthread_mutex_lock(&r->mutex);
    drop(r, lease->resident, &list);
    pthread_mutex_unlock(&r->mutex);
    resident_close(r, list);
    *lease = (struct registry_lease){0};
    registry_unref(r);
}

graft_status registry_prefetch(struct registry *r, const char *address, graft_error *error)
{
    struct registry_lease lease;
    graft_status status = registry_acquire(r, address, &lease, error);
    if (status == GRAFT_OK)
        registry_release(&lease);
    return status;
}

graft_status registry_evict(struct registry *r, const char *address, graft_error *error)
{
    struct found found;
    struct resident *list = NULL;
    graft_status status = registry_find(r, address, &found, error);
    if (status != GRAFT_OK)
        return status;
    pthread_mutex_lock(&r->mutex);
    struct resident *one = resident_find(r, &found.id);
    if (!one || one->state != RESIDENT_READY) {
        status = error_set(error, GRAFT_NOT_FOUND, "%s@%s is not in memory", found.id.name,
                           found.id.version);
    } else if (one->pinned) {
        status = error_set(error, GRAFT_STATE, "%s@%s is pinned", found.id.name, found.id.version);
    } else {
        one->doomed = true;
        if (idle(one))
            take_out(r, one, &list);
    }
    pthread_mutex_unlock(&r->mutex);
    resident_close(r, list);
    return status;
}

void registry_stats(struct registry *r, struct registry_stats *out)
{
    pthread_mutex_lock(&r->mutex);
    struct registry_stats stats = {
        .bytes = r->resident_bytes,
        .budget = r->budget,
        .loads = r->loads,
        .hits = r->hits,
        .closed = r->closed,
        .generation = r->snapshot->view.generation,
    };
    for (const struct resident *one = r->newest; one; one = one->older) {
        stats.resident += one->state == RESIDENT_READY;
        stats.held += one->state == RESIDENT_READY && one->holders;
    }
    pthread_mutex_unlock(&r->mutex);
    *out = stats;
}
