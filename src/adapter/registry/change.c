/* change.c: everything that makes a new index: add, the slots, pins, remove.
 *
 * A change takes the lock among processes, reads the index as it is now, edits copies of the names it is about, and
 * puts a new index in the place of the old one. Nothing that was published is ever edited in place; a change that
 * would change nothing writes nothing.
 */
#include "registry_internal.h"

#include <dirent.h>

struct change {
    struct registry *registry;
    struct snapshot *before;
    struct arena arena;            /* of edited names */
    struct registry_name *changed; /* n of them */
    size_t n, capacity;
    struct str_map names; /* into changed */
    int lock;             /* -1: not held */
    bool objects;         /* files were copied in */
    bool differs;         /* there is something to publish */
};

static graft_status no_memory(graft_error *error)
{
    return error_set(error, GRAFT_NO_MEMORY, "no memory for a change of the registry");
}

static graft_status change_begin(struct change *c, struct registry *r, graft_error *error)
{
    *c = (struct change){.registry = r, .lock = -1};
    arena_init(&c->arena, r->mem, SIZE_MAX);
    str_map_init(&c->names, r->mem);
    graft_status status = store_lock(&r->store, &c->lock, error);
    if (status == GRAFT_OK)
        status = store_snapshot(&r->store, &c->before, error);
    return status;
}

/* Files that came in and are in no index are nobody's. The index is read again: a change that failed may have been
 * published all the same. */
static void change_end(struct change *c, bool published)
{
    struct snapshot *now;
    if (c->objects && !published && store_snapshot(&c->registry->store, &now, NULL) == GRAFT_OK) {
        store_sweep(&c->registry->store, &now->view, NULL);
        snapshot_unref(now);
    }
    if (c->lock >= 0)
        store_unlock(c->lock);
    snapshot_unref(c->before);
    mem_free(c->registry->mem, c->changed);
    str_map_free(&c->names);
    arena_free(&c->arena);
}

/* Publishes, and lets this process see it at once; `sweep`: then removes the files of what is gone. */
static graft_status change_commit(struct change *c, bool sweep, graft_error *error)
{
    struct registry *r = c->registry;
    struct snapshot *seen;
    struct index_view view;
    struct buf bytes;
    buf_init(&bytes, r->mem, SIZE_MAX);
    graft_status status = index_write(&bytes, &c->before->view, c->changed, c->n, error);
    if (status == GRAFT_OK)
        status = store_replace_index(&r->store, bytes.data, bytes.size, error);
    /* From here on it is published; what could still fail is made good by the next call. */
    if (status == GRAFT_OK && sweep && index_parse(&view, bytes.data, bytes.size, NULL) == GRAFT_OK)
        store_sweep(&r->store, &view, NULL);
    if (status == GRAFT_OK && registry_snapshot(r, &seen, NULL) == GRAFT_OK)
        snapshot_unref(seen);
    buf_free(&bytes);
    return status;
}

/* ---- editing ---------------------------------------------------------------------------------- */

static bool reserve(struct change *c)
{
    size_t capacity = c->capacity ? c->capacity * 2 : 4;
    if (c->n < c->capacity)
        return true;
    struct registry_name *larger =
        mem_resize(c->registry->mem, c->changed, capacity * sizeof(*larger));
    if (!larger)
        return false;
    c->changed = larger;
    c->capacity = capacity;
    return true;
}

/* The name, to be edited; with `make` a new one of no version where there is none. Valid until the next call. */
static graft_status edit(struct change *c, const char *text, bool make, struct registry_name **out,
                         graft_error *error)
{
    struct registry_name name = {.base = "",
                                 .active = REGISTRY_NO_SLOT,
                                 .standby = REGISTRY_NO_SLOT,
                                 .previous = REGISTRY_NO_SLOT};
    int32_t known = str_map_get(&c->names, text, strlen(text));
    if (known >= 0) {
        *out = &c->changed[known];
        return GRAFT_OK;
    }
    const struct index_view *view = &c->before->view;
    int64_t at = index_find(view, text);
    graft_status status = GRAFT_OK;
    if (at >= 0)
        status = index_read(view, (uint32_t)at, &c->arena, &name, error);
    else if (!make)
        status = error_set(error, GRAFT_NOT_FOUND, "no adapter is registered as \"%s\"", text);
    if (status != GRAFT_OK)
        return status;
    name.name = arena_strndup(&c->arena, text, strlen(text));
    if (!name.name || !reserve(c) ||
        !str_map_put(&c->names, name.name, strlen(name.name), (int32_t)c->n, NULL))
        return no_memory(error);
    c->changed[c->n] = name;
    *out = &c->changed[c->n++];
    return GRAFT_OK;
}

/* Makes room at `at`; slots keep naming the versions they name. */
static bool insert_version(struct change *c, struct registry_name *name, size_t at)
{
    size_t n = name->n_versions;
    struct registry_version *versions = arena_alloc_packed(&c->arena, (n + 1) * sizeof(*versions));
    int *slots[] = {&name->active, &name->standby, &name->previous};
    if (!versions)
        return false;
    if (n) {
        memcpy(versions, name->versions, at * sizeof(*versions));
        memcpy(versions + at + 1, name->versions + at, (n - at) * sizeof(*versions));
    }
    for (size_t i = 0; i < ARRAY_LEN(slots); i++)
        *slots[i] += *slots[i] >= (int)at;
    name->versions = versions;
    name->n_versions++;
    return true;
}

static void remove_version(struct registry_name *name, int at)
{
    int *slots[] = {&name->active, &name->standby, &name->previous};
    for (size_t i = 0; i < ARRAY_LEN(slots); i++) {
        if (*slots[i] == at)
            *slots[i] = REGISTRY_NO_SLOT;
        else if (*slots[i] > at)
            --*slots[i];
    }
    name->n_versions--;
    memmove(name->versions + at, name->versions + at + 1,
            (name->n_versions - (size_t)at) * sizeof(*name->versions));
}

static void make_active(struct registry_name *name, int version)
{
    if (name->active == version)
        return;
    name->previous = name->active;
    name->active = version;
}

static void place(struct registry_name *name, int version, enum registry_place where)
{
    if (name->active == REGISTRY_NO_SLOT)
        name->active = version;
    if (where == REGISTRY_STAGE && name->active != version)
        name->standby = version;
    if (where == REGISTRY_PUBLISH) {
        make_active(name, version);
        name->standby = REGISTRY_NO_SLOT;
    }
}

/* ---- add -------------------------------------------------------------------------------------- */

/* The patch after the highest version; a pre-release leads to its own release. */
static graft_status next_version(const struct registry_name *name, char out[REGISTRY_NAME_MAX + 1],
                                 graft_error *error)
{
    unsigned long long major = 1, minor = 0, patch = 0;
    if (name->n_versions) {
        const char *highest = name->versions[name->n_versions - 1].version;
        char *at;
        major = strtoull(highest, &at, 10);
        minor = strtoull(at + 1, &at, 10);
        patch = strtoull(at + 1, &at, 10);
        patch += *at != '-';
    }
    if (major > INT32_MAX || minor > INT32_MAX || patch > INT32_MAX)
        return error_set(error, GRAFT_INVALID_ARGUMENT,
                         "there is no version after the highest of \"%s\": give one", name->name);
    snprintf(out, REGISTRY_NAME_MAX + 1, "%llu.%llu.%llu", major, minor, patch);
    return GRAFT_OK;
}

struct successor {
    char *out;
    graft_status status;
    graft_error *error;
};

static bool visit_next(void *user, const struct registry_name *name)
{
    struct successor *s = user;
    s->status = next_version(name, s->out, s->error);
    return false;
}

graft_status registry_next_version(struct registry *r, const char *name,
                                   char out[REGISTRY_NAME_MAX + 1], graft_error *error)
{
    struct successor s = {out, GRAFT_OK, error};
    graft_status status = registry_list(r, name, visit_next, &s, error);
    return status == GRAFT_OK ? s.status : status;
}

/* What is there already may have come before the name was bound. */
static graft_status check_base(const struct registry_name *name, const char *base, bool is_new,
                               graft_error *error)
{
    if (!name->base[0] || !strcmp(name->base, base) || (!base[0] && !is_new))
        return GRAFT_OK;
    if (!base[0])
        return error_set(error, GRAFT_STATE,
                         "\"%s\" belongs to the base %s, and nothing says what this adapter was "
                         "made for: give the model to check it with (-m MODEL), or another name",
                         name->name, name->base);
    return error_set(error, GRAFT_STATE,
                     "\"%s\" belongs to the base %s, this adapter to %s: give it another name",
                     name->name, name->base, base);
}

/* A version of that content, or -1. */
static int find_digest(const struct registry_name *name, const uint8_t digest[32])
{
    for (size_t i = name->n_versions; i-- > 0;)
        if (!memcmp(name->versions[i].digest, digest, 32))
            return (int)i;
    return -1;
}

/* The new version goes where its precedence puts it; *at is that place. Strings of the card must live as long as
 * the change. */
static graft_status add_version(struct change *c, struct registry_name *name,
                                const struct registry_card *card, const struct registry_version *v,
                                int *at, graft_error *error)
{
    size_t i = 0, n_tags = card->n_tags;
    if (name->n_versions == REGISTRY_VERSIONS_MAX)
        return error_set(error, GRAFT_LIMIT, "\"%s\" has %d versions: remove some first",
                         name->name, REGISTRY_VERSIONS_MAX);
    const char **tags = arena_alloc_packed(&c->arena, (n_tags + 1) * sizeof(*tags));
    while (i < name->n_versions &&
           registry_version_compare(name->versions[i].version, v->version) < 0)
        i++;
    if (!tags || !insert_version(c, name, i))
        return no_memory(error);
    if (n_tags)
        memcpy(tags, card->tags, n_tags * sizeof(*tags));
    name->versions[i] = *v;
    name->versions[i].tags = tags;
    name->versions[i].n_tags = n_tags;
    *at = (int)i;
    return GRAFT_OK;
}

/* The version of that content, or under that number, that is there already; else *at is -1. */
static graft_status find_same(const struct registry_name *name, const struct registry_card *card,
                              const struct registry_version *v, int *at, graft_error *error)
{
    *at = card->version ? index_find_version(name, card->version) : find_digest(name, v->digest);
    if (*at >= 0 && memcmp(name->versions[*at].digest, v->digest, 32) != 0)
        return error_set(error, GRAFT_STATE,
                         "%s@%s is registered with other content: versions do not change, give "
                         "this one a new number",
                         card->name, card->version);
    return GRAFT_OK;
}

static graft_status make_version(struct change *c, struct registry_name *name,
                                 const struct registry_card *card, struct registry_version *v,
                                 int *at, graft_error *error)
{
    char next[REGISTRY_NAME_MAX + 1];
    graft_status status = card->version ? GRAFT_OK : next_version(name, next, error);
    if (status != GRAFT_OK)
        return status;
    const char *number = card->version ? card->version : next;
    const char *base = name->base[0] ? name->base : card->base;
    v->version = arena_strndup(&c->arena, number, strlen(number));
    base = arena_strndup(&c->arena, base, strlen(base));
    if (!v->version || !base)
        return no_memory(error);
    status = add_version(c, name, card, v, at, error);
    if (status == GRAFT_OK)
        name->base = base;
    return status;
}

/* `v` has content and file; finds or makes the version and puts it where it belongs. */
static graft_status register_version(struct change *c, const struct registry_card *card,
                                     struct registry_version *v, enum registry_place where,
                                     struct registry_version_id *who, graft_error *error)
{
    struct registry_name *name;
    int at = -1;
    graft_status status = edit(c, card->name, true, &name, error);
    if (status == GRAFT_OK)
        status = find_same(name, card, v, &at, error);
    bool is_new = at < 0;
    if (status == GRAFT_OK)
        status = check_base(name, card->base, is_new, error);
    if (status == GRAFT_OK && is_new)
        status = make_version(c, name, card, v, &at, error);
    if (status != GRAFT_OK)
        return status;
    int active = name->active, standby = name->standby;
    place(name, at, where);
    c->differs = c->differs || is_new || active != name->active || standby != name->standby;
    registry_fill_id(who, &c->before->view, name, at);
    return GRAFT_OK;
}

/* A failure leaves a name that was made for it without versions, and so out of the index. */
static graft_status add_one(struct change *c, const char *path, const struct registry_card *given,
                            enum registry_place where, struct registry_version_id *who,
                            graft_error *error)
{
    struct registry_card card;
    struct registry_version v = {0};
    struct registry *r = c->registry;
    graft_status status = card_complete(&r->loader, path, given, &c->arena, &card, error);
    if (status == GRAFT_OK)
        status = store_add(&r->store, path, &c->arena, v.digest, &v.bytes, &v.file, error);
    if (status != GRAFT_OK)
        return status;
    c->objects = true;
    v.description = card.description;
    v.memory = card.memory;
    v.created = card.created;
    v.modified = card.modified;
    status = register_version(c, &card, &v, where, who, error);
    if (status != GRAFT_OK)
        error_at_file(error, path);
    return status;
}

graft_status registry_add(struct registry *r, const char *path, const struct registry_card *card,
                          enum registry_place where, struct registry_version_id *who,
                          graft_error *error)
{
    struct change c;
    struct registry_version_id id = {0};
    graft_status status = change_begin(&c, r, error);
    if (status == GRAFT_OK)
        status = add_one(&c, path, card, where, &id, error);
    if (status == GRAFT_OK && c.differs)
        status = change_commit(&c, false, error);
    if (status == GRAFT_OK && who) {
        *who = id;
        who->generation += c.differs;
    }
    change_end(&c, status == GRAFT_OK);
    return status;
}

static int by_bytes(const void *a, const void *b)
{
    return strcmp(*(const char *const *)a, *(const char *const *)b);
}

/* Paths of the adapters in a folder, sorted, from the arena. */
static graft_status find_adapters(struct change *c, const char *folder, struct buf *paths,
                                  graft_error *error)
{
    const struct registry_loader *loader = &c->registry->loader;
    graft_status status = GRAFT_OK;
    DIR *dir = opendir(folder);
    if (!dir) {
        error_set(error, GRAFT_NOT_FOUND, "cannot open the folder");
        error_at_file(error, folder);
        return GRAFT_NOT_FOUND;
    }
    for (struct dirent *entry; status == GRAFT_OK && (entry = readdir(dir));) {
        if (entry->d_name[0] == '.')
            continue;
        char *path = path_join(c->registry->mem, folder, entry->d_name);
        if (!path) {
            status = no_memory(error);
        } else if (card_recognise(loader, path)) {
            char *kept = arena_strndup(&c->arena, path, strlen(path));
            if (!kept || !buf_append(paths, &kept, sizeof(kept)))
                status = no_memory(error);
        }
        mem_free(c->registry->mem, path);
    }
    closedir(dir);
    if (status == GRAFT_OK && !paths->size) {
        status = error_set(error, GRAFT_NOT_FOUND, "there is no adapter in the folder");
        error_at_file(error, folder);
    }
    if (status == GRAFT_OK)
        qsort(paths->data, paths->size / sizeof(char *), sizeof(char *), by_bytes);
    return status;
}

static void add_found(struct change *c, const struct buf *paths, registry_report report, void *user,
                      size_t *added)
{
    for (size_t i = 0; i < paths->size / sizeof(char *); i++) {
        const char *path;
        graft_error why = {0};
        struct registry_version_id id = {0};
        memcpy(&path, paths->data + i * sizeof(path), sizeof(path));
        graft_status status = add_one(c, path, NULL, REGISTRY_ADD, &id, &why);
        *added += status == GRAFT_OK;
        if (report)
            report(user, path, status, &why, status == GRAFT_OK ? &id : NULL);
    }
}

graft_status registry_add_many(struct registry *r, const char *folder, registry_report report,
                               void *user, size_t *added, graft_error *error)
{
    struct change c;
    struct buf paths;
    size_t count = 0;
    buf_init(&paths, r->mem, SIZE_MAX);
    graft_status status = change_begin(&c, r, error);
    if (status == GRAFT_OK)
        status = find_adapters(&c, folder, &paths, error);
    if (status == GRAFT_OK)
        add_found(&c, &paths, report, user, &count);
    if (status == GRAFT_OK && c.differs)
        status = change_commit(&c, true, error);
    if (status == GRAFT_OK)
        *added = count;
    change_end(&c, status == GRAFT_OK && c.differs);
    buf_free(&paths);
    return status;
}

/* ---- slots, pins, remove ---------------------------------------------------------------------- */

/* What to do to one name; *version is -1 where the address has none. Sets *changed when it did something. */
typedef graft_status (*name_edit)(struct change *c, struct registry_name *name, int version,
                                  bool *changed, graft_error *error);

struct name_change {
    name_edit work;
    bool needs_version, sweep;
    const struct registry_version_id *from; /* must be active still; NULL: any */
};

static graft_status check_from(const struct registry_name *name,
                               const struct registry_version_id *from, graft_error *error)
{
    const struct registry_version *now = name->active >= 0 ? &name->versions[name->active] : NULL;
    if (now && !strcmp(now->version, from->version) &&
        !memcmp(now->digest, from->digest, sizeof now->digest))
        return GRAFT_OK;
    return error_set(error, GRAFT_STATE, "%s@%s is no longer active, %s is", name->name,
                     from->version, now ? now->version : "no version");
}

static graft_status change_name(struct registry *r, const char *text, const struct name_change *how,
                                struct registry_version_id *who, graft_error *error)
{
    struct registry_address address;
    struct registry_name *name;
    struct change c;
    bool changed = false;
    int version = -1;
    graft_status status = registry_parse_name(text, &address, error);
    if (status == GRAFT_OK && how->needs_version && !address.version[0])
        status = error_set(error, GRAFT_INVALID_ARGUMENT, "which version of \"%s\"? Say %s@VERSION",
                           address.name, address.name);
    if (status != GRAFT_OK)
        return status;
    status = change_begin(&c, r, error);
    if (status == GRAFT_OK)
        status = edit(&c, address.name, false, &name, error);
    if (status == GRAFT_OK && address.version[0] &&
        (version = index_find_version(name, address.version)) < 0)
        status = error_set(error, GRAFT_NOT_FOUND, "adapter \"%s\" has no version %s", address.name,
                           address.version);
    if (status == GRAFT_OK && how->from)
        status = check_from(name, how->from, error);
    if (status == GRAFT_OK)
        status = how->work(&c, name, version, &changed, error);
    if (status == GRAFT_OK && changed)
        status = change_commit(&c, how->sweep, error);
    if (status == GRAFT_OK && who) {
        registry_fill_id(who, &c.before->view, name, name->active);
        who->generation += changed;
    }
    change_end(&c, true);
    return status;
}

static graft_status stage(struct change *c, struct registry_name *name, int version, bool *changed,
                          graft_error *error)
{
    (void)c;
    if (name->active == version)
        return error_set(error, GRAFT_STATE, "%s@%s is active already", name->name,
                         name->versions[version].version);
    *changed = name->standby != version;
    name->standby = version;
    return GRAFT_OK;
}

static graft_status promote(struct change *c, struct registry_name *name, int version,
                            bool *changed, graft_error *error)
{
    (void)c;
    if (name->standby == REGISTRY_NO_SLOT)
        return error_set(error, GRAFT_STATE, "no version of \"%s\" is staged", name->name);
    if (version >= 0 && version != name->standby)
        return error_set(error, GRAFT_STATE, "%s@%s is not staged, %s is", name->name,
                         name->versions[version].version, name->versions[name->standby].version);
    make_active(name, name->standby);
    name->standby = REGISTRY_NO_SLOT;
    *changed = true;
    return GRAFT_OK;
}

static graft_status publish(struct change *c, struct registry_name *name, int version,
                            bool *changed, graft_error *error)
{
    (void)c;
    (void)error;
    *changed = name->active != version || name->standby != REGISTRY_NO_SLOT;
    place(name, version, REGISTRY_PUBLISH);
    return GRAFT_OK;
}

static graft_status activate(struct change *c, struct registry_name *name, int version,
                             bool *changed, graft_error *error)
{
    (void)c;
    (void)error;
    *changed = name->active != version;
    make_active(name, version);
    if (name->standby == version)
        name->standby = REGISTRY_NO_SLOT;
    return GRAFT_OK;
}

static graft_status rollback(struct change *c, struct registry_name *name, int version,
                             bool *changed, graft_error *error)
{
    (void)c;
    if (name->previous == REGISTRY_NO_SLOT)
        return error_set(error, GRAFT_STATE, "\"%s\" has no previous version", name->name);
    if (version >= 0 && version != name->previous)
        return error_set(error, GRAFT_STATE, "the previous version of \"%s\" is %s, not %s",
                         name->name, name->versions[name->previous].version,
                         name->versions[version].version);
    int from = name->active;
    name->active = name->previous;
    name->previous = from;
    if (name->standby == name->active)
        name->standby = REGISTRY_NO_SLOT;
    *changed = true;
    return GRAFT_OK;
}

static graft_status set_pin(struct registry_name *name, int version, bool pinned, bool *changed)
{
    bool *flag = version >= 0 ? &name->versions[version].pinned : &name->pinned;
    *changed = *flag != pinned;
    *flag = pinned;
    return GRAFT_OK;
}

static graft_status pin(struct change *c, struct registry_name *name, int version, bool *changed,
                        graft_error *error)
{
    (void)c;
    (void)error;
    return set_pin(name, version, true, changed);
}

static graft_status unpin(struct change *c, struct registry_name *name, int version, bool *changed,
                          graft_error *error)
{
    (void)c;
    (void)error;
    return set_pin(name, version, false, changed);
}

/* NAME: the version that is active, as everywhere. */
static graft_status evict(struct change *c, struct registry_name *name, int version, bool *changed,
                          graft_error *error)
{
    int which = version >= 0 ? version : name->active;
    if (which < 0)
        return error_set(error, GRAFT_STATE, "adapter \"%s\" has no active version", name->name);
    struct registry_version *v = &name->versions[which];
    if (v->pinned || (name->pinned && which == name->active))
        return error_set(error, GRAFT_STATE, "%s@%s is pinned", name->name, v->version);
    v->evicted = c->before->view.generation + 1;
    *changed = true;
    return GRAFT_OK;
}

static graft_status check_removable(struct registry *r, const struct registry_name *name,
                                    int version, graft_error *error)
{
    const char *number = version >= 0 ? name->versions[version].version : "";
    bool pinned = name->pinned && version < 0;
    pthread_mutex_lock(&r->mutex);
    int holders = resident_holders(r, name->name, number);
    pthread_mutex_unlock(&r->mutex);
    for (size_t i = 0; i < name->n_versions; i++)
        pinned = pinned || ((version < 0 || (size_t)version == i) && name->versions[i].pinned);
    const char *at = version >= 0 ? "@" : "";
    if (holders)
        return error_set(error, GRAFT_STATE, "%s%s%s is in use (%d holders)", name->name, at,
                         number, holders);
    if (pinned)
        return error_set(error, GRAFT_STATE, "%s%s%s is pinned", name->name, at, number);
    if (version >= 0 && version == name->active)
        return error_set(error, GRAFT_STATE,
                         "%s@%s is active: activate another version, or remove \"%s\" as a whole",
                         name->name, number, name->name);
    return GRAFT_OK;
}

static graft_status remove_from(struct change *c, struct registry_name *name, int version,
                                bool *changed, graft_error *error)
{
    graft_status status = check_removable(c->registry, name, version, error);
    if (status != GRAFT_OK)
        return status;
    if (version >= 0)
        remove_version(name, version);
    else
        name->n_versions = 0;
    *changed = true;
    return GRAFT_OK;
}

graft_status registry_stage(struct registry *r, const char *address, graft_error *error)
{
    return change_name(r, address, &(struct name_change){.work = stage, .needs_version = true},
                       NULL, error);
}

graft_status registry_promote(struct registry *r, const char *address,
                              struct registry_version_id *who, graft_error *error)
{
    return change_name(r, address, &(struct name_change){.work = promote}, who, error);
}

graft_status registry_promote_from(struct registry *r, const char *address,
                                   const struct registry_version_id *from,
                                   struct registry_version_id *who, graft_error *error)
{
    return change_name(r, address, &(struct name_change){.work = promote, .from = from}, who,
                       error);
}

graft_status registry_publish(struct registry *r, const char *address, graft_error *error)
{
    return change_name(r, address, &(struct name_change){.work = publish, .needs_version = true},
                       NULL, error);
}

graft_status registry_activate(struct registry *r, const char *address, graft_error *error)
{
    return change_name(r, address, &(struct name_change){.work = activate, .needs_version = true},
                       NULL, error);
}

graft_status registry_rollback(struct registry *r, const char *address,
                               struct registry_version_id *who, graft_error *error)
{
    return change_name(r, address, &(struct name_change){.work = rollback}, who, error);
}

graft_status registry_pin(struct registry *r, const char *address, bool pinned, graft_error *error)
{
    return change_name(r, address, &(struct name_change){.work = pinned ? pin : unpin}, NULL,
                       error);
}

graft_status registry_evict_everywhere(struct registry *r, const char *address, graft_error *error)
{
    return change_name(r, address, &(struct name_change){.work = evict}, NULL, error);
}

graft_status registry_remove(struct registry *r, const char *address, graft_error *error)
{
    return change_name(r, address, &(struct name_change){.work = remove_from, .sweep = true}, NULL,
                       error);
}
