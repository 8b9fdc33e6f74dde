/* find.c: adapters by what they are for: task:NAME and tag:TAG.
 *
 * A task is a name, else a tag that one name alone has. What is registered goes first; a folder of adapters, with their
 * cards (graft.json), is looked at only where nothing registered fits. Nothing is guessed: where several fit they are listed.
 */
#include "registry_internal.h"

#include <dirent.h>
#include <errno.h>

enum { MAX_CARD = 1 << 20, MAX_LISTED = 8 };

struct search {
    const char *wanted;
    bool by_name; /* task: a name goes before all tags */
    bool exact;   /* there is that name */
    size_t fit;   /* names with the tag */
    char **names; /* [kept] the first of them */
    size_t kept;
    struct mem *mem;
    bool no_memory;
};

static bool parse_query(const char *query, struct search *s)
{
    static const char task[] = "task:", tag[] = "tag:";
    s->by_name = strncmp(query, task, sizeof task - 1) == 0;
    if (!s->by_name && strncmp(query, tag, sizeof tag - 1) != 0)
        return false;
    s->wanted = strchr(query, ':') + 1;
    return s->wanted[0] != '\0';
}

/* Keeps them in order, so that a list is the same wherever they come from. */
static void keep(struct search *s, const char *name)
{
    s->fit++;
    char *copy = mem_strdup(s->mem, name);
    char **grown = copy ? mem_resize(s->mem, s->names, (s->kept + 1) * sizeof *grown) : NULL;
    if (!grown) {
        mem_free(s->mem, copy);
        s->no_memory = true;
        return;
    }
    s->names = grown;
    size_t at = s->kept++;
    for (; at > 0 && strcmp(s->names[at - 1], copy) > 0; at--)
        s->names[at] = s->names[at - 1];
    s->names[at] = copy;
}

static void forget(struct search *s)
{
    for (size_t i = 0; i < s->kept; i++)
        mem_free(s->mem, s->names[i]);
    mem_free(s->mem, s->names);
    s->names = NULL;
    s->kept = s->fit = 0;
}

/* ---- what is registered ------------------------------------------------------------------- */

static bool visit(void *user, const struct registry_name *name)
{
    struct search *s = user;
    if (name->active == REGISTRY_NO_SLOT)
        return true;
    const struct registry_version *v = &name->versions[name->active];
    bool fits = false;
    s->exact = s->exact || (s->by_name && strcmp(name->name, s->wanted) == 0);
    for (size_t i = 0; i < v->n_tags; i++)
        fits = fits || strcmp(v->tags[i], s->wanted) == 0;
    if (fits)
        keep(s, name->name);
    return !s->no_memory && !s->exact;
}

/* ---- what lies in a folder ---------------------------------------------------------------- */

static bool card_has_tag(struct mem *mem, const char *path, const char *tag)
{
    char *file = path_join(mem, path, "graft.json");
    json_t *card = NULL;
    bool found = false;
    if (file && json_read(mem, file, MAX_CARD, &card, NULL) == GRAFT_OK) {
        const json_t *tags = json_object_get(card, "tags"), *item;
        size_t i;
        json_array_foreach(tags, i, item)
        {
            const char *text = json_string_value(item);
            found = found || (text && strcmp(text, tag) == 0);
        }
    }
    json_decref(card);
    mem_free(mem, file);
    return found;
}

static bool is_adapter(struct mem *mem, const char *path)
{
    char *config = path_join(mem, path, "adapter_config.json");
    bool found = config && path_exists(config);
    mem_free(mem, config);
    return found;
}

static graft_status search_folder(struct search *s, const char *folder, graft_error *error)
{
    DIR *dir = opendir(folder);
    if (!dir)
        return error_set(error, errno == ENOENT ? GRAFT_NOT_FOUND : GRAFT_IO,
                         "cannot read the folder %s: %s", folder, strerror(errno));
    for (struct dirent *entry; !s->no_memory && (entry = readdir(dir));) {
        char *path =
            registry_name_valid(entry->d_name) ? path_join(s->mem, folder, entry->d_name) : NULL;
        if (path && is_adapter(s->mem, path)) {
            s->exact = s->exact || (s->by_name && strcmp(entry->d_name, s->wanted) == 0);
            if (card_has_tag(s->mem, path, s->wanted))
                keep(s, entry->d_name);
        }
        mem_free(s->mem, path);
    }
    closedir(dir);
    return GRAFT_OK;
}

/* ---- which one it is ---------------------------------------------------------------------- */

static graft_status several(const struct search *s, graft_error *error)
{
    struct buf list;
    buf_init(&list, s->mem, 4096);
    for (size_t i = 0; i < s->kept && i < MAX_LISTED; i++)
        buf_printf(&list, "%s%s", i ? ", " : "", s->names[i]);
    if (s->kept > MAX_LISTED)
        buf_puts(&list, ", ...");
    graft_status status =
        list.status == GRAFT_OK
            ? error_set(error, GRAFT_STATE, "%zu adapters have the tag \"%.64s\": %s; name one",
                        s->fit, s->wanted, list.data)
            : error_set(error, list.status, "no memory for a list of adapters");
    buf_free(&list);
    return status;
}

static graft_status none(const struct search *s, graft_error *error)
{
    return error_set(error, GRAFT_NOT_FOUND, "no adapter %s%.64s%shas the tag \"%.64s\"",
                     s->by_name ? "is called \"" : "", s->by_name ? s->wanted : "",
                     s->by_name ? "\" or " : "", s->wanted);
}

/* *address: the name, in the folder (NULL: of what is registered). */
static graft_status choose(const struct search *s, const char *folder, char **address,
                           graft_error *error)
{
    if (s->no_memory)
        return error_set(error, GRAFT_NO_MEMORY, "no memory to look for an adapter");
    if (!s->exact && s->fit > 1)
        return several(s, error);
    if (!s->exact && s->fit == 0)
        return none(s, error);
    const char *name = s->exact ? s->wanted : s->names[0];
    char *found = folder ? path_join(s->mem, folder, name) : mem_strdup(s->mem, name);
    if (!found)
        return error_set(error, GRAFT_NO_MEMORY, "no memory to look for an adapter");
    *address = found;
    return GRAFT_OK;
}

graft_status registry_query(struct registry *registry, struct mem *mem, const char *query,
                            const char *folder, char **address, graft_error *error)
{
    struct search s = {.mem = mem};
    if (!parse_query(query, &s))
        return error_set(error, GRAFT_INVALID_ARGUMENT,
                         "\"%.100s\" asks for no adapter: task:NAME and tag:TAG do", query);
    graft_status status = registry_list(registry, NULL, visit, &s, error);
    bool found = s.exact || s.fit > 0;
    if (status == GRAFT_OK && !found && folder)
        status = search_folder(&s, folder, error);
    if (status == GRAFT_OK)
        status = choose(&s, found ? NULL : folder, address, error);
    forget(&s);
    return status;
}
