/* resolve.c: where "org/name" lives in the local Hugging Face cache. Nothing is ever downloaded.
 *
 * HUB/models--org--name/refs/main holds a commit; HUB/models--org--name/snapshots/COMMIT is the
 * directory. HUB is found as huggingface_hub finds it: $HF_HUB_CACHE (or its older name,
 * $HUGGINGFACE_HUB_CACHE), else $HF_HOME/hub, else $XDG_CACHE_HOME/huggingface/hub, else
 * ~/.cache/huggingface/hub.
 */
#include "model/model_internal.h"

#include <ctype.h>

enum { REF_LIMIT = 4096 };

static graft_status no_memory(graft_error *error)
{
    return error_set(error, GRAFT_NO_MEMORY, "no memory for a path");
}

static const char *variable(const char *name)
{
    const char *value = getenv(name);
    return value && *value ? value : NULL;
}

/* The hub directory; NULL without memory. "" when nothing says where home is. */
static char *hub_directory(struct mem *mem)
{
    const char *hub = variable("HF_HUB_CACHE");
    if (!hub)
        hub = variable("HUGGINGFACE_HUB_CACHE");
    if (hub)
        return mem_strdup(mem, hub);
    const char *home = variable("HF_HOME");
    if (home)
        return path_join(mem, home, "hub");
    const char *cache = variable("XDG_CACHE_HOME");
    if (cache)
        return path_join(mem, cache, "huggingface/hub");
    home = variable("HOME");
    return home ? path_join(mem, home, ".cache/huggingface/hub") : mem_strdup(mem, "");
}

/* "org/name": one slash, both parts plain. */
static bool is_repository(const char *name)
{
    const char *slash = strchr(name, '/');
    if (!slash || slash == name || !slash[1] || strchr(slash + 1, '/') || strlen(name) > 200)
        return false;
    for (const char *p = name; *p; p++)
        if (!isalnum((unsigned char)*p) && !strchr("-_./", *p))
            return false;
    return name[0] != '.' && slash[1] != '.';
}

/* repo/snapshots/<what refs/main says>; *path stays NULL when there is none. */
static graft_status find_snapshot(struct mem *mem, const char *repo, char **path)
{
    char *ref = path_join(mem, repo, "refs/main"), *snapshots = path_join(mem, repo, "snapshots");
    char *commit = NULL, *found = NULL;
    size_t size = 0;
    graft_status status = ref && snapshots ? GRAFT_OK : GRAFT_NO_MEMORY;
    if (status == GRAFT_OK && path_exists(ref))
        status = file_read(mem, ref, REF_LIMIT, &commit, &size, NULL);
    while (commit && size && isspace((unsigned char)commit[size - 1]))
        commit[--size] = '\0';
    if (status == GRAFT_OK && size && !strchr(commit, '/') && commit[0] != '.') {
        found = path_join(mem, snapshots, commit);
        status = found ? GRAFT_OK : GRAFT_NO_MEMORY;
    }
    if (found && path_is_dir(found)) {
        *path = found;
        found = NULL;
    }
    mem_free(mem, found);
    mem_free(mem, commit);
    mem_free(mem, snapshots);
    mem_free(mem, ref);
    return status == GRAFT_NO_MEMORY ? status : GRAFT_OK; /* an unreadable ref is a miss */
}

graft_status model_resolve(struct mem *mem, const char *name, char **path, graft_error *error)
{
    if (path_exists(name)) {
        char *copy = mem_strdup(mem, name);
        if (!copy)
            return no_memory(error);
        *path = copy;
        return GRAFT_OK;
    }
    if (!is_repository(name))
        return error_set(error, GRAFT_NOT_FOUND, "%s: no such file or directory", name);

    char folder[256], *repo = NULL, *found = NULL;
    const char *slash = strchr(name, '/');
    snprintf(folder, sizeof(folder), "models--%.*s--%s", (int)(slash - name), name, slash + 1);
    char *hub = hub_directory(mem);
    if (hub)
        repo = path_join(mem, hub, folder);
    graft_status status = repo ? find_snapshot(mem, repo, &found) : GRAFT_NO_MEMORY;
    if (status == GRAFT_NO_MEMORY)
        status = no_memory(error);
    else if (!found)
        status = error_set(error, GRAFT_NOT_FOUND,
                           "%s is neither a path nor in the Hugging Face cache (%s); download it "
                           "with: hf download %s",
                           name, hub, name);
    else
        *path = found;
    mem_free(mem, repo);
    mem_free(mem, hub);
    return status;
}
