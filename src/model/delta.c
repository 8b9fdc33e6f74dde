/* delta.c: sites, and mixes of low-rank deltas.
 *
 * Checks every factor against the weight it goes beside and lays the members out by site. How they are
 * applied is the business of seam.c; where they come from, of the adapter layer.
 */
#include "model/delta_internal.h"

#include <math.h>

int model_n_sites(const struct model *model)
{
    return model->config.n_layer * LINEAR_COUNT + 1;
}

int model_site(int layer, enum linear_id id)
{
    return layer * LINEAR_COUNT + (int)id;
}

int model_head_site(const struct model *model)
{
    return model->config.n_layer * LINEAR_COUNT;
}

const struct matrix *model_site_weight(const struct model *model, int site)
{
    if (site == model_head_site(model))
        return &model->head;
    return &model->layers[site / LINEAR_COUNT].linear[site % LINEAR_COUNT];
}

/* ---- checks ------------------------------------------------------------------------------- */

static graft_status check_factor(const struct matrix *factor, int64_t rows, int64_t columns,
                                 const char *name, int site, graft_error *error)
{
    const int64_t want[] = {rows, columns}, have[] = {factor->n_out, factor->n_in};
    if (!kernels_have_factor(factor->type))
        return error_set(error, GRAFT_UNSUPPORTED, "%s at site %d: factors cannot be of type %s",
                         name, site, graft_type_name(factor->type));
    if (have[0] == rows && have[1] == columns &&
        columns % type_traits(factor->type)->block_values == 0)
        return GRAFT_OK;
    graft_status status = error_set(
        error, GRAFT_SHAPE, "%s at site %d is [%lld, %lld], expected [%lld, %lld]", name, site,
        (long long)have[0], (long long)have[1], (long long)rows, (long long)columns);
    error_shapes(error, 2, want, 2, have);
    return status;
}

static graft_status check_lowrank(const struct model *model, const struct lowrank *l, int site,
                                  graft_error *error)
{
    const struct matrix *w = model_site_weight(model, site);
    int64_t rank = l->a.n_out > 0 ? l->a.n_out : 1;
    graft_status status = check_factor(&l->a, rank, w->n_in, "A", site, error);
    if (status == GRAFT_OK)
        status = check_factor(&l->b, lowrank_b_rows(rank, w->n_out), LOWRANK_TILE, "B in tiles",
                              site, error);
    if (status == GRAFT_OK && !isfinite(l->scale))
        status =
            error_set(error, GRAFT_INVALID_ARGUMENT, "the scale at site %d is not finite", site);
    return status;
}

/* Checks all members and counts their deltas. */
static graft_status check_members(const struct model *model, const struct delta_member *members,
                                  int n_members, int *n_deltas, graft_error *error)
{
    int n_sites = model_n_sites(model);
    size_t n = 0;
    for (int i = 0; i < n_members; i++) {
        if (!isfinite(members[i].weight))
            return error_set(error, GRAFT_INVALID_ARGUMENT, "the weight of member %d is not finite",
                             i);
        for (int site = 0; site < n_sites; site++) {
            const struct lowrank *l = members[i].lowranks[site];
            graft_status status = l ? check_lowrank(model, l, site, error) : GRAFT_OK;
            if (status != GRAFT_OK)
                return status;
            n += l && members[i].weight != 0;
        }
    }
    if (n > INT32_MAX / 2)
        return error_set(error, GRAFT_LIMIT, "a mix of %zu deltas", n);
    *n_deltas = (int)n;
    return GRAFT_OK;
}

/* ---- sets --------------------------------------------------------------------------------- */

/* Deltas by site, members in their order. */
static void lay_out(struct delta_set *set, const struct delta_member *members, int n_members)
{
    int n_sites = model_n_sites(set->model), n = 0;
    for (int site = 0; site < n_sites; site++) {
        set->starts[site] = n;
        for (int i = 0; i < n_members; i++)
            if (members[i].lowranks[site] && members[i].weight != 0)
                set->deltas[n++] = (struct delta){members[i].lowranks[site], members[i].weight};
    }
    set->starts[n_sites] = n;
}

/* What a pass needs room for. */
static void measure(struct delta_set *set)
{
    int n_sites = model_n_sites(set->model);
    for (int first = 0; first < n_sites; first += LINEAR_COUNT) {
        int end = first + LINEAR_COUNT < n_sites ? first + LINEAR_COUNT : n_sites;
        int64_t ranks = 0;
        for (int i = set->starts[first]; i < set->starts[end]; i++)
            ranks += set->deltas[i].lowrank->a.n_out;
        int n = set->starts[end] - set->starts[first];
        set->most_ranks = ranks > set->most_ranks ? ranks : set->most_ranks;
        set->most_deltas = n > set->most_deltas ? n : set->most_deltas;
    }
}

graft_status delta_set_open(const struct model *model, const struct delta_member *members,
                            int n_members, struct delta_set **out, graft_error *error)
{
    int n_deltas = 0;
    graft_status status = check_members(model, members, n_members, &n_deltas, error);
    if (status != GRAFT_OK)
        return status;
    /* One block: the set, its deltas (aligned as pointers are), the starts. */
    size_t deltas = sizeof(struct delta_set);
    size_t starts = deltas + (size_t)n_deltas * sizeof(struct delta);
    size_t bytes = starts + ((size_t)model_n_sites(model) + 1) * sizeof(int);
    struct mem *mem = &model->runtime->mem;
    struct delta_set *set = mem_calloc(mem, 1, bytes);
    if (!set)
        return error_set(error, GRAFT_NO_MEMORY, "no memory for a mix of %d deltas", n_deltas);
    *set = (struct delta_set){.model = model,
                              .mem = mem,
                              .deltas = (struct delta *)(void *)((char *)set + deltas),
                              .starts = (int *)(void *)((char *)set + starts)};
    arena_init(&set->arena, mem, SIZE_MAX);
    lay_out(set, members, n_members);
    measure(set);
    status = module_set_make(set, members, n_members, error);
    if (status != GRAFT_OK)
        delta_set_close(&set);
    else
        *out = set;
    return status;
}

void delta_set_close(struct delta_set **set)
{
    if (*set) {
        arena_free(&(*set)->arena);
        mem_free((*set)->mem, *set);
    }
    *set = NULL;
}
