/* at_hand.c: an adapter from factors that lie in memory, as a PEFT directory. */
#include "adapter/save/save_internal.h"

/* The factors of the draft's modules, whatever order it has brought them into. */
struct at_hand {
    const struct adapter_factors *items;
    size_t n;
};

static int slot_of(const struct model *model, int site)
{
    return site == model_head_site(model) ? SLOT_HEAD : SLOT_LINEAR + site % LINEAR_COUNT;
}

static const struct adapter_factors *find(const struct draft *draft, const struct draft_module *m)
{
    const struct at_hand *all = draft->source;
    for (size_t i = 0; i < all->n; i++) {
        int site = all->items[i].site;
        bool head = site == model_head_site(draft->model);
        if (slot_of(draft->model, site) == m->slot && (head || site / LINEAR_COUNT == m->layer))
            return &all->items[i];
    }
    return NULL;
}

static graft_status read_at_hand(const struct draft *draft, int i, enum part part, float *out,
                                 graft_error *error)
{
    const struct draft_module *m = &draft->modules[i];
    const struct adapter_factors *f = find(draft, m);
    if (!f)
        return error_set(error, GRAFT_INTERNAL, "no factors of module %d", i);
    if (part == PART_A)
        memcpy(out, f->a, (size_t)(m->rank * m->n_in) * sizeof *out);
    else
        memcpy(out, f->b, (size_t)(m->n_out * m->rank) * sizeof *out);
    return GRAFT_OK;
}

static void list_modules(struct draft *draft, const struct at_hand *all)
{
    for (size_t i = 0; i < all->n; i++) {
        int site = all->items[i].site;
        const struct matrix *w = model_site_weight(draft->model, site);
        draft->modules[draft->n_modules++] =
            (struct draft_module){.slot = slot_of(draft->model, site),
                                  .layer = site / LINEAR_COUNT % draft->model->config.n_layer,
                                  .rank = all->items[i].rank,
                                  .n_in = w->n_in,
                                  .n_out = w->n_out,
                                  .scale = 1};
    }
    draft_sort(draft);
}

graft_status adapter_write_factors(const struct model *model, const char *dir,
                                   const struct adapter_recipe *recipe,
                                   const struct adapter_factors *factors, size_t n,
                                   graft_error *error)
{
    const struct save_options options = {.format = ADAPTER_PEFT};
    const struct at_hand all = {factors, n};
    struct draft draft = {.model = model,
                          .base = recipe->base,
                          .inference = true,
                          .type = GRAFT_TYPE_F32,
                          .read = read_at_hand,
                          .source = &all};
    draft.modules = mem_calloc(&model->runtime->mem, n + 1, sizeof *draft.modules);
    if (!draft.modules)
        return error_set(error, GRAFT_NO_MEMORY, "no memory for %zu modules", n);
    list_modules(&draft, &all);
    graft_status status = card_new(model, recipe, &draft.card, error);
    if (status == GRAFT_OK)
        status = write_peft(&draft, dir, &options, error);
    json_decref(draft.card);
    mem_free(&model->runtime->mem, draft.modules);
    return status;
}
