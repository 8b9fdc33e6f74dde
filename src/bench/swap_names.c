/* swap_names.c: a registry whose one name has two versions, as far as swaps by name need one.
 *
 * Two registries are open on one home: a version is activated through the one and asked for through the other, which
 * has to notice, as it has to in another process. Nothing is opened at a swap, since both versions were asked for
 * by their numbers once and stay.
 */
#include "bench/bench_internal.h"

#include <ftw.h>

enum { VERSIONS = 2, FOLDERS_OPEN = 8 };
static const char NAME[] = "swapped";
static const char *const NUMBERS[VERSIONS] = {"1.0.0", "2.0.0"};
static const char *const ADDRESSES[VERSIONS] = {"swapped@1.0.0", "swapped@2.0.0"};

struct swap_names {
    struct mem *mem;
    char *home;
    struct adapter_versions versions;
    struct registry *asked, *publisher;
};

static int remove_one(const char *path, const struct stat *info, int type, struct FTW *at)
{
    (void)info, (void)type, (void)at;
    (void)remove(path);
    return 0;
}

static graft_status add_version(struct bench *b, struct swap_names *n, int which,
                                graft_error *error)
{
    char *folder = NULL;
    struct synth_adapter how = synth_adapter_of(b->options);
    const struct registry_card card = {.name = NAME, .version = NUMBERS[which]};
    how.seed = (uint64_t)which + 1;
    graft_status status = synth_adapter_write(b, &how, &folder, error);
    if (status == GRAFT_OK)
        status = registry_add(n->publisher, folder, &card, REGISTRY_ADD, NULL, error);
    if (status == GRAFT_OK)
        status = registry_prefetch(n->asked, ADDRESSES[which], error);
    synth_adapter_remove(b, &folder);
    return status;
}

graft_status swap_names_open(struct bench *b, struct swap_names **out, graft_error *error)
{
    const struct synth_adapter how = synth_adapter_of(b->options);
    struct swap_names *n = mem_calloc(b->mem, 1, sizeof *n);
    if (!n)
        return error_set(error, GRAFT_NO_MEMORY, "no memory for a registry");
    n->mem = b->mem;
    n->versions = (struct adapter_versions){
        .mem = b->mem, .model = b->model, .options = {.retype = how.retype, .type = how.type}};
    graft_status status = folder_temporary(n->mem, "graft-home", &n->home, error);
    const struct registry_options options = {
        .home = n->home, .mem = b->mem, .budget = SIZE_MAX, .loader = adapter_loader(&n->versions)};
    if (status == GRAFT_OK)
        status = registry_open(&n->asked, &options, error);
    if (status == GRAFT_OK)
        status = registry_open(&n->publisher, &options, error);
    for (int i = 0; i < VERSIONS && status == GRAFT_OK; i++)
        status = add_version(b, n, i, error);
    if (status == GRAFT_OK)
        *out = n;
    else
        swap_names_close(&n);
    return status;
}

void swap_names_close(struct swap_names **names)
{
    struct swap_names *n = *names;
    *names = NULL;
    if (!n)
        return;
    registry_close(&n->asked);
    registry_close(&n->publisher);
    if (n->home)
        nftw(n->home, remove_one, FOLDERS_OPEN, FTW_DEPTH | FTW_PHYS);
    mem_free(n->mem, n->home);
    mem_free(n->mem, n);
}

graft_status swap_names_activate(struct swap_names *names, int which, graft_error *error)
{
    return registry_activate(names->publisher, ADDRESSES[which], error);
}

graft_status swap_names_acquire(struct swap_names *names, struct adapter **out, graft_error *error)
{
    struct registry_version_id id;
    return adapter_of_version(names->asked, names->mem, NAME, out, &id, error);
}
