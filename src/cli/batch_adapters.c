/* batch_adapters.c: the adapters that requests under way use: opened for the first of them, let go with the last.
 *
 * What is in use cannot leave the memory, so a request whose adapters do not fit beside it waits. How large one will be is
 * known from the registry before it is opened; of a path it is guessed, and where the guess was too low the adapter goes again.
 * Of what nobody uses the registry keeps as much as the budget has room for.
 */
#include "batch.h"

#include <stdlib.h>

/* ---- finding ---- */

static graft_status open_registry(struct batch_adapters *a, graft_error *error)
{
    graft_registry_options options = graft_registry_options_default();
    if (a->registry != NULL) {
        return GRAFT_OK;
    }
    char *home = cli_home(false);
    if (home == NULL) {
        return error_set(error, GRAFT_STATE,
                         "there is no home for adapters: set GRAFT_HOME to a folder");
    }
    options.home = home;
    options.budget = a->budget;
    options.type = a->how.type;
    options.strict_base = a->how.strict_base;
    graft_status status = graft_registry_open(a->runtime, a->model, &options, &a->registry, error);
    mem_free(NULL, home);
    return status;
}

/* Where an adapter is: a path, or exactly one version in the registry. */
struct place {
    char *path;   /* NULL: registered */
    char *source; /* which adapter this is, however it was asked for */
    char *label;  /* what results call it: the path or name, or NAME@VERSION */
    size_t bytes; /* that it will take; 0: not known */
};

static void place_free(struct place *place)
{
    mem_free(NULL, place->path);
    mem_free(NULL, place->source);
    mem_free(NULL, place->label);
    *place = (struct place){0};
}

struct sought {
    const graft_adapter_id *id;
    size_t bytes;
};

static bool look_at(void *user, const graft_registry_entry *entry)
{
    struct sought *sought = user;
    for (size_t i = 0; i < entry->n_versions; i++) {
        if (strcmp(entry->versions[i].version, sought->id->version) == 0) {
            sought->bytes = entry->versions[i].resident ? entry->versions[i].resident_bytes
                                                        : (size_t)entry->versions[i].memory;
        }
    }
    return false;
}

static graft_status place_path(const char *path, const char *label, struct place *out,
                               graft_error *error)
{
    char *real = realpath(path, NULL);
    out->path = mem_strdup(NULL, path);
    out->source = mem_strdup(NULL, real != NULL ? real : path);
    out->label = mem_strdup(NULL, label);
    free(real); /* from realpath */
    return out->path != NULL && out->source != NULL && out->label != NULL
               ? GRAFT_OK
               : error_set(error, GRAFT_NO_MEMORY, "out of memory");
}

/* A version may be removed and added anew with other content: the digest tells them apart. No path has its source. */
static graft_status place_version(const graft_adapter_id *id, struct place *out, graft_error *error)
{
    struct buf label, source;
    place_free(out);
    buf_init(&label, NULL, 256);
    buf_init(&source, NULL, 256);
    buf_printf(&label, "%s@%s", id->name, id->version);
    buf_printf(&source, "%s@%s %s", id->name, id->version, id->digest);
    out->label = buf_take(&label, NULL);
    out->source = buf_take(&source, NULL);
    return out->label != NULL && out->source != NULL
               ? GRAFT_OK
               : error_set(error, GRAFT_NO_MEMORY, "out of memory");
}

/* Who meant a file says so. */
static graft_status refuse_name(const char *name, graft_status status, graft_error *error)
{
    graft_error why = *error;
    return status == GRAFT_NOT_FOUND && path_exists(name)
               ? error_set(error, status, "%.400s; a path has a '/': ./%.60s", why.message, name)
               : status;
}

/* A name that nobody registered may be that of an adapter that ships. */
static graft_status place_name(struct batch_adapters *a, const char *name, struct place *out,
                               graft_error *error)
{
    graft_adapter_id id;
    graft_status status = graft_registry_resolve(a->registry, name, &id, error);
    char *shipped = status == GRAFT_NOT_FOUND ? cli_shipped_adapter(name) : NULL;
    if (shipped != NULL) {
        status = place_path(shipped, name, out, error);
        mem_free(NULL, shipped);
        return status;
    }
    if (status != GRAFT_OK) {
        return refuse_name(name, status, error);
    }
    struct sought sought = {.id = &id};
    status = place_version(&id, out, error);
    (void)graft_registry_list(a->registry, id.name, look_at, &sought, NULL); /* 0 will do */
    out->bytes = sought.bytes;
    return status;
}

static graft_status place_query(struct batch_adapters *a, const char *query, struct place *out,
                                graft_error *error)
{
    char *address = NULL, *shipped = cli_shipped("adapters");
    graft_status status = graft_registry_find(a->registry, query, shipped, &address, error);
    mem_free(NULL, shipped);
    if (status == GRAFT_OK) {
        status = strchr(address, '/') != NULL ? place_path(address, path_base(address), out, error)
                                              : place_name(a, address, out, error);
    }
    graft_free(a->runtime, address);
    return status;
}

/* A path has a '/', whatever files lie around: what a name means must not depend on the folder. */
static graft_status find_place(struct batch_adapters *a, const char *name, struct place *out,
                               graft_error *error)
{
    if (strchr(name, '/') != NULL) {
        return place_path(name, name, out, error);
    }
    graft_status status = open_registry(a, error);
    if (status != GRAFT_OK) {
        return status;
    }
    return cli_is_query(name, strlen(name)) ? place_query(a, name, out, error)
                                            : place_name(a, name, out, error);
}

/* ---- opening ---- */

/* What is registered may have become another one since it was found. */
static graft_status open_place(struct batch_adapters *a, struct place *place, graft_adapter **out,
                               graft_error *error)
{
    graft_adapter_options options = graft_adapter_options_default();
    if (place->path == NULL) {
        graft_adapter_id id;
        graft_status status =
            graft_registry_acquire(a->registry, place->label, out, NULL, &id, error);
        return status == GRAFT_OK ? place_version(&id, place, error) : status;
    }
    options.type = a->how.type;
    options.strict_base = a->how.strict_base;
    return graft_adapter_open(a->model, place->path, &options, out, error);
}

/* A mix that is too large for the budget by itself has to run all the same: alone. */
static bool has_room(const struct batch_adapters *a, size_t bytes)
{
    return a->n_mixes == 0 || (a->bytes <= a->budget && bytes <= a->budget - a->bytes);
}

static graft_status no_room(graft_error *error)
{
    return error_set(error, GRAFT_BUSY, "the adapters in use leave no room for another one");
}

static void close_one(struct batch_adapters *a, struct batch_adapter *one)
{
    for (size_t i = 0; i < a->n_open; i++) {
        if (a->open[i] == one) {
            a->open[i] = a->open[--a->n_open];
            break;
        }
    }
    a->bytes -= one->bytes;
    graft_adapter_close(&one->handle);
    mem_free(NULL, one->source);
    mem_free(NULL, one);
}

/* Room in the list for one more. */
static bool grow(struct batch_adapters *a)
{
    if (a->n_open == a->capacity) {
        size_t capacity = a->capacity > 0 ? 2 * a->capacity : 16;
        struct batch_adapter **open = mem_resize(NULL, a->open, capacity * sizeof(*open));
        if (open == NULL) {
            return false;
        }
        a->open = open;
        a->capacity = capacity;
    }
    return true;
}

static graft_status add_one(struct batch_adapters *a, struct place *place,
                            struct batch_adapter **out, graft_error *error)
{
    graft_adapter_info info;
    if (!has_room(a, place->bytes > 0 ? place->bytes : a->largest)) {
        return no_room(error);
    }
    struct batch_adapter *one = grow(a) ? mem_calloc(NULL, 1, sizeof *one) : NULL;
    if (one == NULL) {
        return error_set(error, GRAFT_NO_MEMORY, "out of memory");
    }
    graft_status status = open_place(a, place, &one->handle, error);
    if (status == GRAFT_OK) {
        status = graft_adapter_describe(one->handle, &info, error);
    }
    if (status == GRAFT_OK) {
        a->largest = info.bytes > a->largest ? (size_t)info.bytes : a->largest;
        status = has_room(a, (size_t)info.bytes) ? GRAFT_OK : no_room(error);
    }
    if (status != GRAFT_OK) {
        graft_adapter_close(&one->handle);
        mem_free(NULL, one);
        return status;
    }
    one->bytes = (size_t)info.bytes;
    one->source = place->source;
    place->source = NULL;
    a->open[a->n_open++] = one;
    a->opened++;
    a->bytes += one->bytes;
    a->most = a->bytes > a->most ? a->bytes : a->most;
    *out = one;
    return GRAFT_OK;
}

static graft_status take_one(struct batch_adapters *a, const char *name, struct batch_mix *mix,
                             graft_error *error)
{
    struct place place = {0};
    struct batch_adapter *one = NULL;
    graft_status status = find_place(a, name, &place, error);
    for (size_t i = 0; status == GRAFT_OK && i < a->n_open && one == NULL; i++) {
        one = strcmp(a->open[i]->source, place.source) == 0 ? a->open[i] : NULL;
    }
    if (status == GRAFT_OK && one == NULL) {
        status = add_one(a, &place, &one, error);
    }
    if (status == GRAFT_OK) {
        one->users++;
        mix->members[mix->n] = one;
        mix->labels[mix->n++] = place.label;
        place.label = NULL;
    }
    place_free(&place);
    return status;
}

graft_status batch_adapters_take(struct batch_adapters *a, const struct batch_request *request,
                                 struct batch_mix *out, graft_error *error)
{
    graft_member members[BATCH_MEMBERS];
    graft_status status = GRAFT_OK;
    *out = (struct batch_mix){0};
    for (size_t i = 0; i < request->n_members && status == GRAFT_OK; i++) {
        status = take_one(a, request->members[i].name, out, error);
    }
    for (size_t i = 0; i < out->n; i++) {
        out->weights[i] = request->members[i].weight;
        members[i] = (graft_member){out->members[i]->handle, out->weights[i]};
    }
    if (status == GRAFT_OK && out->n > 0) {
        status = graft_mix_open(a->model, members, out->n, &out->mix, error);
    }
    a->n_mixes += out->n > 0;
    if (status != GRAFT_OK) {
        batch_adapters_give(a, out);
    }
    return status;
}

void batch_adapters_give(struct batch_adapters *a, struct batch_mix *mix)
{
    graft_mix_close(&mix->mix);
    a->n_mixes -= mix->n > 0;
    for (size_t i = 0; i < mix->n; i++) {
        mem_free(NULL, mix->labels[i]);
        if (--mix->members[i]->users == 0) {
            close_one(a, mix->members[i]);
        }
    }
    *mix = (struct batch_mix){0};
}

void batch_adapters_close(struct batch_adapters *a)
{
    while (a->n_open > 0) {
        close_one(a, a->open[0]);
    }
    mem_free(NULL, a->open);
    graft_registry_close(&a->registry);
    *a = (struct batch_adapters){0};
}
