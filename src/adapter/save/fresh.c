/* fresh.c: new adapters from a recipe: which linears, and values that training can begin with. */
#include "adapter/save/save_internal.h"

#include <math.h>

enum { MAX_RANK = 65536 };

/* ---- targets ------------------------------------------------------------------------------ */

static graft_status unknown_target(const struct model *model, const char *name, graft_error *error)
{
    char known[256] = "", word[MODULE_NAME_SIZE];
    size_t used = 0;
    for (int slot = 0; slot < SLOT_COUNT; slot++)
        if ((slot == SLOT_HEAD || slot >= SLOT_LINEAR) && slot_short_name(model, slot, word))
            used +=
                (size_t)snprintf(known + used, sizeof known - used, "%s%s", used ? ", " : "", word);
    return error_set(error, GRAFT_INVALID_ARGUMENT,
                     "%s has no linear layer \"%.60s\"; it has %s, and all-linear means those of "
                     "the blocks",
                     model->config.architecture, name, known);
}

static bool name_is_slot(const struct model *model, const char *name, int slot)
{
    char word[MODULE_NAME_SIZE];
    return (slot == SLOT_HEAD || slot >= SLOT_LINEAR) && slot_short_name(model, slot, word) &&
           !strcmp(word, name);
}

static graft_status choose_slots(const struct model *model, const struct adapter_recipe *recipe,
                                 bool slots[SLOT_COUNT], graft_error *error)
{
    memset(slots, 0, SLOT_COUNT * sizeof *slots);
    for (size_t i = 0; i < recipe->n_targets; i++) {
        const char *name = recipe->targets[i];
        bool all = !strcmp(name, "all-linear"), found = all;
        for (int slot = 0; slot < SLOT_COUNT; slot++)
            if (name_is_slot(model, name, slot) || (all && slot >= SLOT_LINEAR))
                slots[slot] = found = true;
        if (!found)
            return unknown_target(model, name, error);
    }
    if (!recipe->n_targets)
        return error_set(error, GRAFT_INVALID_ARGUMENT, "no linear layers are chosen");
    return GRAFT_OK;
}

/* ---- recipes ------------------------------------------------------------------------------ */

graft_status recipe_check(const struct adapter_recipe *r, graft_error *error)
{
    if (r->rank < 1 || r->rank > MAX_RANK)
        return error_set(error, GRAFT_INVALID_ARGUMENT, "the rank is %lld; it must be 1 to %d",
                         (long long)r->rank, MAX_RANK);
    if (!(r->alpha > 0) || !isfinite((float)r->alpha))
        return error_set(error, GRAFT_INVALID_ARGUMENT, "alpha is %g; it must be above 0",
                         r->alpha);
    if (!(r->dropout >= 0 && r->dropout < 1))
        return error_set(error, GRAFT_INVALID_ARGUMENT,
                         "the dropout is %g; it must be at least 0 and below 1", r->dropout);
    if (r->type != GRAFT_TYPE_F32 && r->type != GRAFT_TYPE_F16 && r->type != GRAFT_TYPE_BF16)
        return error_set(error, GRAFT_INVALID_ARGUMENT, "new factors are f32, f16 or bf16, not %s",
                         graft_type_name(r->type));
    return card_check(r, error);
}

static graft_status make_modules(struct draft *draft, const struct adapter_recipe *recipe,
                                 graft_error *error)
{
    const struct model *model = draft->model;
    bool slots[SLOT_COUNT];
    graft_status status = recipe_check(recipe, error);
    if (status == GRAFT_OK)
        status = choose_slots(model, recipe, slots, error);
    if (status != GRAFT_OK)
        return status;
    const size_t most = (size_t)model->config.n_layer * LINEAR_COUNT + 1;
    draft->modules = mem_calloc(&model->runtime->mem, most, sizeof *draft->modules);
    if (!draft->modules)
        return error_set(error, GRAFT_NO_MEMORY, "no memory for %zu modules", most);
    double root = recipe->rslora ? sqrt((double)recipe->rank) : (double)recipe->rank;
    for (int slot = SLOT_HEAD; slot < SLOT_COUNT; slot++)
        for (int layer = 0; slots[slot] && layer < model->config.n_layer; layer++) {
            const struct matrix *w = slot_weight(model, slot, layer);
            if (slot == SLOT_HEAD && layer > 0)
                break;
            draft->modules[draft->n_modules++] =
                (struct draft_module){.slot = slot,
                                      .layer = layer,
                                      .rank = recipe->rank,
                                      .n_in = w->n_in,
                                      .n_out = w->n_out,
                                      .scale = recipe->alpha / root};
        }
    draft_sort(draft);
    return GRAFT_OK;
}

graft_status recipe_estimate(const struct model *model, const struct adapter_recipe *recipe,
                             uint64_t *n_params, uint64_t *n_bytes, graft_error *error)
{
    struct draft draft = {.model = model};
    uint64_t n = 0;
    graft_status status = make_modules(&draft, recipe, error);
    for (int i = 0; i < draft.n_modules; i++) {
        const struct draft_module *m = &draft.modules[i];
        n += (uint64_t)m->rank * (uint64_t)(m->n_in + m->n_out);
    }
    if (status == GRAFT_OK) {
        *n_params = n;
        *n_bytes = n * type_traits(recipe->type)->block_bytes;
    }
    mem_free(&model->runtime->mem, draft.modules);
    return status;
}

/* ---- values ------------------------------------------------------------------------------- */

/* Kaiming-uniform with a = √5 is uniform in ±1/√n_in. Each module has its own stream of numbers. */
static graft_status read_fresh(const struct draft *draft, int i, enum part part, float *out,
                               graft_error *error)
{
    const struct draft_module *m = &draft->modules[i];
    const double bound = 1 / sqrt((double)m->n_in);
    struct rng rng;
    (void)error;
    if (part != PART_A) {
        memset(out, 0, (size_t)(m->n_out * m->rank) * sizeof *out);
        return GRAFT_OK;
    }
    rng_init(&rng, draft->seed, (uint64_t)m->layer * SLOT_COUNT + (uint64_t)m->slot);
    for (int64_t k = 0; k < m->rank * m->n_in; k++)
        out[k] = (float)((2 * rng_uniform(&rng) - 1) * bound);
    return GRAFT_OK;
}

graft_status draft_fresh(struct draft *draft, const struct model *model,
                         const struct adapter_recipe *recipe, graft_error *error)
{
    struct adapter_recipe named = *recipe;
    *draft = (struct draft){.model = model,
                            .dropout = recipe->dropout,
                            .rslora = recipe->rslora,
                            .type = recipe->type,
                            .read = read_fresh,
                            .seed = recipe->seed,
                            .progress = recipe->progress};
    draft_set_base(draft, recipe->base);
    named.base = draft->base;
    graft_status status = make_modules(draft, recipe, error);
    return status == GRAFT_OK ? card_new(model, &named, &draft->card, error) : status;
}

graft_status adapter_create(const struct model *model, const char *dir,
                            const struct adapter_recipe *recipe, graft_error *error)
{
    const struct save_options options = {.format = ADAPTER_PEFT};
    struct draft draft;
    graft_status status = draft_fresh(&draft, model, recipe, error);
    if (status == GRAFT_OK)
        status = write_adapter(&draft, dir, &options, error);
    json_decref(draft.card);
    mem_free(&model->runtime->mem, draft.modules);
    return status;
}
