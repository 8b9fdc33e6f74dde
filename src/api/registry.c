/* registry.c: the public functions on registries: check arguments, call inward, and give what comes back its public
 * shape. What a registry must know of adapters is adapter/versions.c.
 */
#include "api/api_internal.h"

struct graft_registry {
    graft_runtime *runtime;
    struct adapter_versions versions;
    struct registry *registry;
};

void graft_registry_options_init(graft_registry_options *options, size_t struct_size)
{
    graft_registry_options defaults = {.budget = (size_t)1 << 30};
    options_give(options, struct_size, &defaults, sizeof defaults);
}

void graft_card_init(graft_card *card, size_t struct_size)
{
    graft_card defaults = {.name = NULL};
    options_give(card, struct_size, &defaults, sizeof defaults);
}

/* ---- open and close ---- */

graft_status graft_registry_open(graft_runtime *runtime, graft_model *model,
                                 const graft_registry_options *options, graft_registry **out,
                                 graft_error *error)
{
    REQUIRE(runtime);
    REQUIRE(out);
    CHECK_RUNTIME(runtime);
    graft_registry_options o = graft_registry_options_default();
    graft_status status = options_read(&o, sizeof o, options, error);
    if (status != GRAFT_OK) {
        return status;
    }
    if (o.home == NULL || o.home[0] == '\0') {
        return error_set(error, GRAFT_INVALID_ARGUMENT, "a registry needs a home: options.home");
    }
    if (model != NULL && model->runtime != runtime) {
        return error_set(error, GRAFT_INVALID_ARGUMENT, "the model is of another runtime");
    }
    struct graft_registry *r = mem_calloc(&runtime->mem, 1, sizeof *r);
    if (r == NULL) {
        return error_set(error, GRAFT_NO_MEMORY, "no memory for a registry");
    }
    r->runtime = runtime;
    r->versions = (struct adapter_versions){.mem = &runtime->mem,
                                            .model = model != NULL ? model->model : NULL};
    const struct registry_options inner = {.home = o.home,
                                           .mem = &runtime->mem,
                                           .budget = o.budget,
                                           .loader = adapter_loader(&r->versions)};
    r->versions.options.strict_base = o.strict_base;
    status = adapter_retype(&r->versions.options, o.type, error);
    if (status == GRAFT_OK) {
        status = registry_open(&r->registry, &inner, error);
    }
    if (status == GRAFT_OK) {
        *out = r;
    } else {
        mem_free(&runtime->mem, r);
    }
    return status;
}

void graft_registry_close(graft_registry **registry)
{
    if (registry == NULL || *registry == NULL) {
        return;
    }
    graft_registry *r = *registry;
    *registry = NULL;
    registry_close(&r->registry);
    mem_free(&r->runtime->mem, r);
}

struct registry *registry_of(const graft_registry *registry, const struct graft_model *model)
{
    return registry->versions.model == model->model ? registry->registry : NULL;
}

/* ---- finding and holding ---- */

void adapter_id_give(const struct registry_version_id *id, graft_adapter_id *out)
{
    if (out != NULL) {
        memcpy(out->name, id->name, sizeof out->name);
        memcpy(out->version, id->version, sizeof out->version);
        hex_write(id->digest, sizeof id->digest, out->digest);
        out->generation = id->generation;
    }
}

/* Every entry below begins so. */
#define CHECK_REGISTRY(text)                                                                       \
    REQUIRE(registry);                                                                             \
    REQUIRE(text);                                                                                 \
    CHECK_RUNTIME(registry->runtime)

graft_status graft_registry_resolve(graft_registry *registry, const char *address,
                                    graft_adapter_id *out, graft_error *error)
{
    CHECK_REGISTRY(address);
    REQUIRE(out);
    struct registry_version_id id;
    graft_status status = registry_resolve(registry->registry, address, &id, error);
    if (status == GRAFT_OK) {
        adapter_id_give(&id, out);
    }
    return status;
}

graft_status graft_registry_find(graft_registry *registry, const char *query, const char *folder,
                                 char **address, graft_error *error)
{
    CHECK_REGISTRY(query);
    REQUIRE(address);
    return registry_query(registry->registry, &registry->runtime->mem, query, folder, address,
                          error);
}

graft_status graft_registry_locate(graft_registry *registry, const char *address, char **path,
                                   graft_adapter_id *id, graft_error *error)
{
    CHECK_REGISTRY(address);
    REQUIRE(path);
    struct registry_version_id found;
    graft_status status = registry_locate(registry->registry, address, path, &found, error);
    if (status == GRAFT_OK) {
        adapter_id_give(&found, id);
    }
    return status;
}

static graft_status need_model(const graft_registry *registry, graft_error *error)
{
    return registry->versions.model != NULL
               ? GRAFT_OK
               : error_set(error, GRAFT_STATE,
                           "this registry was opened without a model, so that its adapters can be "
                           "listed and changed but not opened: give graft_registry_open a model");
}

graft_status graft_registry_acquire(graft_registry *registry, const char *address,
                                    graft_adapter **out, float *weight, graft_adapter_id *id,
                                    graft_error *error)
{
    CHECK_REGISTRY(address);
    REQUIRE(out);
    struct registry_address parsed;
    struct registry_version_id who;
    struct adapter *adapter = NULL;
    graft_status status = need_model(registry, error);
    if (status == GRAFT_OK) {
        status = registry_parse_address(address, &parsed, error);
    }
    if (status == GRAFT_OK) {
        status = adapter_of_version(registry->registry, &registry->runtime->mem, address, &adapter,
                                    &who, error);
    }
    if (status != GRAFT_OK) {
        return status;
    }
    if (weight != NULL) {
        *weight = (float)parsed.weight;
    }
    adapter_id_give(&who, id);
    *out = adapter_handle(adapter);
    return GRAFT_OK;
}

graft_status graft_registry_prefetch(graft_registry *registry, const char *address,
                                     graft_error *error)
{
    CHECK_REGISTRY(address);
    graft_status status = need_model(registry, error);
    return status == GRAFT_OK ? registry_prefetch(registry->registry, address, error) : status;
}

graft_status graft_registry_evict(graft_registry *registry, const char *address, graft_error *error)
{
    CHECK_REGISTRY(address);
    return registry_evict(registry->registry, address, error);
}

graft_status graft_registry_evict_everywhere(graft_registry *registry, const char *address,
                                             graft_error *error)
{
    CHECK_REGISTRY(address);
    return registry_evict_everywhere(registry->registry, address, error);
}

graft_status graft_registry_describe(graft_registry *registry, graft_registry_info *out,
                                     graft_error *error)
{
    CHECK_REGISTRY(out);
    struct registry_stats stats;
    registry_stats(registry->registry, &stats);
    *out = (graft_registry_info){.n_resident = stats.resident,
                                 .n_held = stats.held,
                                 .bytes = stats.bytes,
                                 .budget = stats.budget,
                                 .loads = stats.loads,
                                 .hits = stats.hits,
                                 .closed = stats.closed,
                                 .generation = stats.generation};
    return GRAFT_OK;
}

/* ---- adding ---- */

graft_status graft_registry_add(graft_registry *registry, const char *path, const graft_card *card,
                                graft_place place, graft_adapter_id *who, graft_error *error)
{
    static const enum registry_place PLACES[] = {[GRAFT_PLACE_ADD] = REGISTRY_ADD,
                                                 [GRAFT_PLACE_STAGE] = REGISTRY_STAGE,
                                                 [GRAFT_PLACE_PUBLISH] = REGISTRY_PUBLISH};
    CHECK_REGISTRY(path);
    graft_card c = graft_card_default();
    graft_status status = options_read(&c, sizeof c, card, error);
    if (status == GRAFT_OK && (unsigned)place >= ARRAY_LEN(PLACES)) {
        status =
            error_set(error, GRAFT_INVALID_ARGUMENT, "the place is neither ADD, STAGE nor PUBLISH");
    }
    if (status == GRAFT_OK && c.n_tags > 0 && c.tags == NULL) {
        status = error_set(error, GRAFT_INVALID_ARGUMENT, "tags is NULL");
    }
    if (status != GRAFT_OK) {
        return status;
    }
    const struct registry_card inner = {.name = c.name,
                                        .version = c.version,
                                        .description = c.description,
                                        .base = c.base,
                                        .tags = c.tags,
                                        .n_tags = c.n_tags};
    struct registry_version_id id;
    status = registry_add(registry->registry, path, &inner, PLACES[place], &id, error);
    if (status == GRAFT_OK) {
        adapter_id_give(&id, who);
    }
    return status;
}

struct reporter {
    graft_report_fn report;
    void *user;
};

static void report_one(void *user, const char *path, graft_status status, const graft_error *error,
                       const struct registry_version_id *id)
{
    const struct reporter *to = user;
    graft_adapter_id given;
    if (status == GRAFT_OK) {
        adapter_id_give(id, &given);
    }
    to->report(to->user, path, status, error, status == GRAFT_OK ? &given : NULL);
}

graft_status graft_registry_add_many(graft_registry *registry, const char *folder,
                                     graft_report_fn report, void *user, size_t *added,
                                     graft_error *error)
{
    CHECK_REGISTRY(folder);
    struct reporter to = {report, user};
    size_t n;
    graft_status status = registry_add_many(registry->registry, folder,
                                            report != NULL ? report_one : NULL, &to, &n, error);
    if (status == GRAFT_OK && added != NULL) {
        *added = n;
    }
    return status;
}

/* ---- slots ---- */

graft_status graft_registry_stage(graft_registry *registry, const char *address, graft_error *error)
{
    CHECK_REGISTRY(address);
    return registry_stage(registry->registry, address, error);
}

graft_status graft_registry_promote(graft_registry *registry, const char *name,
                                    graft_adapter_id *who, graft_error *error)
{
    CHECK_REGISTRY(name);
    struct registry_version_id id;
    graft_status status = registry_promote(registry->registry, name, &id, error);
    if (status == GRAFT_OK) {
        adapter_id_give(&id, who);
    }
    return status;
}

graft_status graft_registry_publish(graft_registry *registry, const char *address,
                                    graft_error *error)
{
    CHECK_REGISTRY(address);
    return registry_publish(registry->registry, address, error);
}

graft_status graft_registry_activate(graft_registry *registry, const char *address,
                                     graft_error *error)
{
    CHECK_REGISTRY(address);
    return registry_activate(registry->registry, address, error);
}

graft_status graft_registry_rollback(graft_registry *registry, const char *name,
                                     graft_adapter_id *who, graft_error *error)
{
    CHECK_REGISTRY(name);
    struct registry_version_id id;
    graft_status status = registry_rollback(registry->registry, name, &id, error);
    if (status == GRAFT_OK) {
        adapter_id_give(&id, who);
    }
    return status;
}

graft_status graft_registry_pin(graft_registry *registry, const char *address, bool pinned,
                                graft_error *error)
{
    CHECK_REGISTRY(address);
    return registry_pin(registry->registry, address, pinned, error);
}

graft_status graft_registry_remove(graft_registry *registry, const char *address,
                                   graft_error *error)
{
    CHECK_REGISTRY(address);
    return registry_remove(registry->registry, address, error);
}

graft_status graft_registry_verify(graft_registry *registry, const char *address,
                                   graft_error *error)
{
    CHECK_REGISTRY(address);
    return registry_verify(registry->registry, address, error);
}

/* ---- listing ---- */

struct visitor {
    graft_registry_visit_fn visit;
    void *user;
    struct mem *mem;
    bool no_memory;
};

static graft_registry_version version_of(const struct registry_version *v)
{
    graft_registry_version out = {.version = v->version,
                                  .description = v->description,
                                  .tags = v->tags,
                                  .n_tags = v->n_tags,
                                  .bytes = v->bytes,
                                  .memory = v->memory,
                                  .created = v->created,
                                  .modified = v->modified,
                                  .pinned = v->pinned,
                                  .loading = v->loading,
                                  .resident = v->resident,
                                  .holders = v->holders,
                                  .resident_bytes = v->resident_bytes};
    hex_write(v->digest, sizeof v->digest, out.digest);
    return out;
}

static bool visit_one(void *user, const struct registry_name *name)
{
    struct visitor *to = user;
    graft_registry_version *versions = mem_calloc(to->mem, name->n_versions, sizeof *versions);
    if (versions == NULL) {
        to->no_memory = true;
        return false;
    }
    for (size_t i = 0; i < name->n_versions; i++) {
        versions[i] = version_of(&name->versions[i]);
    }
    const graft_registry_entry entry = {.name = name->name,
                                        .base = name->base,
                                        .active = name->active,
                                        .standby = name->standby,
                                        .previous = name->previous,
                                        .pinned = name->pinned,
                                        .versions = versions,
                                        .n_versions = name->n_versions};
    bool on = to->visit(to->user, &entry);
    mem_free(to->mem, versions);
    return on;
}

graft_status graft_registry_list(graft_registry *registry, const char *only,
                                 graft_registry_visit_fn visit, void *user, graft_error *error)
{
    CHECK_REGISTRY(visit);
    struct visitor to = {visit, user, &registry->runtime->mem, false};
    graft_status status = registry_list(registry->registry, only, visit_one, &to, error);
    return to.no_memory ? error_set(error, GRAFT_NO_MEMORY, "no memory to list adapters") : status;
}
