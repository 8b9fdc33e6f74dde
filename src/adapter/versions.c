/* versions.c: what a registry must know of adapters: how a version is opened, closed and described; and adapters that
 * hold a version.
 *
 * An adapter that adapter_of_version gives is an object of its own, which shares the parts of the version in memory and
 * brings a lease along. Mixes, sessions and models take references to that object; the last one to go gives the lease
 * back. So a version is held exactly as long as somebody could still compute with it.
 */
#include "adapter/adapter.h"

/* ---- hooks ------------------------------------------------------------------------------- */

static graft_status open_version(void *user, const char *path, void **handle, size_t *bytes,
                                 graft_error *error)
{
    const struct adapter_versions *of = user;
    struct adapter *adapter;
    graft_status status = adapter_open(of->model, path, &of->options, &adapter, error);
    if (status == GRAFT_OK) {
        *handle = adapter;
        *bytes = adapter_info(adapter)->bytes;
    }
    return status;
}

/* May come when the registry is closed already: a handle was the last to go. */
static void close_version(void *user, void *handle)
{
    struct adapter *adapter = handle;
    (void)user;
    adapter_release(&adapter);
}

static graft_status copy_text(const json_t *object, const char *key, struct arena *arena,
                              const char **out, graft_error *error)
{
    const char *text = NULL;
    graft_status status = json_get_string(object, key, &text, error);
    if (status == GRAFT_OK && text != NULL) {
        *out = arena_strndup(arena, text, strlen(text));
        if (*out == NULL)
            status = error_set(error, GRAFT_NO_MEMORY, "no memory for the %s of an adapter", key);
    }
    return status;
}

static graft_status copy_tags(const json_t *card, struct arena *arena, struct registry_card *out,
                              graft_error *error)
{
    const json_t *list = json_object_get(card, "tags"), *tag;
    size_t n = json_array_size(list), i;
    if (list == NULL)
        return GRAFT_OK;
    const char **tags = arena_alloc_packed(arena, (n + 1) * sizeof *tags);
    if (tags == NULL)
        return error_set(error, GRAFT_NO_MEMORY, "no memory for the tags of an adapter");
    json_array_foreach(list, i, tag)
    {
        const char *text = json_string_value(tag);
        if (text == NULL || strlen(text) != json_string_length(tag))
            return error_set(error, GRAFT_FORMAT, "tags: tag %zu is no text", i + 1);
        tags[i] = arena_strndup(arena, text, strlen(text));
        if (tags[i] == NULL)
            return error_set(error, GRAFT_NO_MEMORY, "no memory for the tags of an adapter");
    }
    out->tags = tags;
    out->n_tags = n;
    return json_is_array(list) ? GRAFT_OK
                               : error_set(error, GRAFT_FORMAT, "tags must be an array of texts");
}

static graft_status read_time(const json_t *card, const char *key, int64_t *out, graft_error *error)
{
    const char *text = NULL;
    graft_status status = json_get_string(card, key, &text, error);
    if (status == GRAFT_OK && text != NULL && !registry_parse_time(text, out))
        status = error_set(error, GRAFT_FORMAT, "%s: \"%.40s\" is no time: 2024-02-29T12:00:00Z is",
                           key, text);
    return status;
}

/* graft.json into the registry's card. */
static graft_status read_card(const json_t *card, struct arena *arena, struct registry_card *out,
                              graft_error *error)
{
    const struct {
        const char *key;
        const char **text;
    } texts[] = {
        {"name", &out->name}, {"version", &out->version}, {"description", &out->description}};
    const json_t *base = json_object_get(card, "base");
    const char *wrong = card_wrong_key(card);
    graft_status status = GRAFT_OK;
    if (wrong != NULL)
        return error_set(error, GRAFT_FORMAT, "\"%s\" has the wrong type", wrong);
    for (size_t i = 0; status == GRAFT_OK && i < ARRAY_LEN(texts); i++)
        status = copy_text(card, texts[i].key, arena, texts[i].text, error);
    if (status == GRAFT_OK && json_is_object(base))
        status = copy_text(base, "fingerprint", arena, &out->base, error);
    if (status == GRAFT_OK)
        status = copy_tags(card, arena, out, error);
    if (status == GRAFT_OK)
        status = read_time(card, "created", &out->created, error);
    if (status == GRAFT_OK)
        status = read_time(card, "modified", &out->modified, error);
    return status;
}

/* What names no base is for the model at hand, if it fits; strictly, all of it has to. */
static graft_status fit_to_model(const struct adapter_versions *of, const char *path,
                                 struct arena *arena, struct registry_card *card,
                                 graft_error *error)
{
    char print[FINGERPRINT_SIZE];
    struct adapter *adapter = NULL;
    graft_status status = adapter_open(of->model, path, &of->options, &adapter, error);
    adapter_release(&adapter);
    if (status != GRAFT_OK || (card->base != NULL && card->base[0] != '\0'))
        return status;
    status = base_fingerprint(of->model, print, error);
    if (status == GRAFT_OK && (card->base = arena_strndup(arena, print, strlen(print))) == NULL)
        status = error_set(error, GRAFT_NO_MEMORY, "no memory for the base of an adapter");
    return status;
}

static graft_status describe_files(void *user, const char *path, struct arena *arena,
                                   struct registry_card *card, graft_error *error)
{
    const struct adapter_versions *of = user;
    struct adapter_outline outline;
    graft_status status = adapter_outline_open(&outline, of->mem, path, error);
    if (status != GRAFT_OK)
        return status;
    card->memory = outline.bytes;
    if (outline.card != NULL)
        status = read_card(outline.card, arena, card, error);
    if (status == GRAFT_FORMAT) {
        char *file = path_join(of->mem, path_is_dir(path) ? path : "", "graft.json");
        error_at_file(error, file != NULL ? file : path);
        mem_free(of->mem, file);
    }
    adapter_outline_close(&outline);
    bool unknown = card->base == NULL || card->base[0] == '\0';
    if (status == GRAFT_OK && of->model != NULL && (unknown || of->options.strict_base))
        status = fit_to_model(of, path, arena, card, error);
    return status;
}

struct registry_loader adapter_loader(struct adapter_versions *of)
{
    return (struct registry_loader){
        .open = open_version, .close = close_version, .describe = describe_files, .user = of};
}

/* ---- holding ------------------------------------------------------------------------------ */

/* What goes with such an adapter. */
struct holding {
    struct registry_lease lease;
    struct mem *mem;
};

static void let_go(void *user)
{
    struct holding *holding = user;
    registry_release(&holding->lease);
    mem_free(holding->mem, holding);
}

graft_status adapter_of_version(struct registry *registry, struct mem *mem, const char *address,
                                struct adapter **out, struct registry_version_id *id,
                                graft_error *error)
{
    struct holding *holding = mem_calloc(mem, 1, sizeof *holding);
    if (holding == NULL)
        return error_set(error, GRAFT_NO_MEMORY, "no memory for a handle of an adapter");
    holding->mem = mem;
    graft_status status = registry_acquire(registry, address, &holding->lease, error);
    if (status == GRAFT_OK)
        status = adapter_share(holding->lease.handle, let_go, holding, out, error);
    if (status == GRAFT_OK)
        *id = holding->lease.id;
    else
        let_go(holding);
    return status;
}
