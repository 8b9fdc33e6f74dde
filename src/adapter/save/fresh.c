/* fresh.c: new adapters from a recipe: which linears, and values that training can begin with. */
#include "adapter/save/save_internal.h"

#include <math.h>

enum { MAX_RANK = 65536 };

/* ---- targets ------------------------------------------------------------------------------ */

/* What may have factors, and what may be held whole. */
static bool has_factors(int slot)
{
    return slot == SLOT_EMBED || slot == SLOT_HEAD || slot >= SLOT_LINEAR;
}

static bool may_be_whole(int slot)
{
    return slot < SLOT_LINEAR;
}

static bool name_is_slot(const struct model *model, const char *name, int slot)
{
    char word[MODULE_NAME_SIZE];
    return slot_short_name(model, slot, word) && !strcmp(word, name);
}

/* Is there such a module in the model? Some have no norms of q and k. */
static bool slot_is_there(const struct model *model, int slot)
{
    const int norm = slot_norm(model, slot, 0);
    return norm < 0 || model_norm_weight(model, norm);
}

/* The names that a list may have. */
static void list_known(const struct model *model, bool (*allowed)(int slot), char *out, size_t size)
{
    char word[MODULE_NAME_SIZE];
    size_t used = 0;
    for (int slot = 0; slot < SLOT_COUNT; slot++)
        if (allowed(slot) && slot_is_there(model, slot) && slot_short_name(model, slot, word))
            used += (size_t)snprintf(out + used, size - used, "%s%s", used ? ", " : "", word);
}

static graft_status unknown_target(const struct model *model, const char *name, graft_error *error)
{
    char known[256] = "";
    list_known(model, has_factors, known, sizeof known);
    return error_set(error, GRAFT_INVALID_ARGUMENT,
                     "%s has no linear layer \"%.60s\"; it has %s, and all-linear means those of "
                     "the blocks",
                     model->config.architecture, name, known);
}

static graft_status unknown_saved(const struct model *model, const char *name, graft_error *error)
{
    char known[256] = "";
    list_known(model, may_be_whole, known, sizeof known);
    return error_set(error, GRAFT_INVALID_ARGUMENT,
                     "modules_to_save: %s has no module \"%.60s\" that is trained whole beside "
                     "factors; it has %s, and norms means all of those",
                     model->config.architecture, name, known);
}

static graft_status choose_slots(const struct model *model, const struct adapter_recipe *recipe,
                                 bool slots[SLOT_COUNT], graft_error *error)
{
    memset(slots, 0, SLOT_COUNT * sizeof *slots);
    for (size_t i = 0; i < recipe->n_targets; i++) {
        const char *name = recipe->targets[i];
        bool all = !strcmp(name, "all-linear"), found = all;
        for (int slot = 0; slot < SLOT_COUNT; slot++)
            if ((has_factors(slot) && name_is_slot(model, name, slot)) ||
                (all && slot >= SLOT_LINEAR))
                slots[slot] = found = true;
        if (!found)
            return unknown_target(model, name, error);
    }
    if (!recipe->n_targets)
        return error_set(error, GRAFT_INVALID_ARGUMENT, "no linear layers are chosen");
    return GRAFT_OK;
}

static bool is_norm(int slot)
{
    const struct draft_module m = {.slot = slot};
    return module_is_norm(&m);
}

/* A head alone, where it is the embedding, would part the two: readers disagree on what that means. */
static graft_status choose_saved(const struct model *model, const struct adapter_recipe *recipe,
                                 const bool slots[SLOT_COUNT], bool saved[SLOT_COUNT],
                                 graft_error *error)
{
    memset(saved, 0, SLOT_COUNT * sizeof *saved);
    for (size_t i = 0; i < recipe->n_saved; i++) {
        const char *name = recipe->saved[i];
        bool all = !strcmp(name, "norms"), found = false;
        for (int slot = 0; slot < SLOT_COUNT; slot++)
            if (may_be_whole(slot) && slot_is_there(model, slot) &&
                (all ? is_norm(slot) : name_is_slot(model, name, slot)))
                saved[slot] = found = true;
        if (!found)
            return unknown_saved(model, name, error);
        for (int slot = 0; slot < SLOT_COUNT; slot++)
            if (saved[slot] && slots[slot])
                return error_set(error, GRAFT_INVALID_ARGUMENT,
                                 "%s is both in target_modules and in modules_to_save: it has "
                                 "factors or is trained whole",
                                 name);
    }
    if (saved[SLOT_HEAD] && !saved[SLOT_EMBED] && model->config.tied)
        return error_set(error, GRAFT_INVALID_ARGUMENT,
                         "modules_to_save: the base ties its head to the embedding: save "
                         "embed_tokens, too");
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

static void add_module(struct draft *draft, const struct adapter_recipe *recipe, int slot,
                       int layer, bool whole)
{
    const struct model *model = draft->model;
    const double root = recipe->rslora ? sqrt((double)recipe->rank) : (double)recipe->rank;
    struct draft_module m = {.slot = slot, .layer = layer, .whole = whole, .n_in = 1};
    if (module_is_norm(&m)) {
        m.n_out = model_norm_width(model, slot_norm(model, slot, layer));
    } else {
        const struct matrix *w = slot_weight(model, slot, layer);
        const bool table = slot == SLOT_EMBED && !whole; /* from tokens to its width */
        m.n_in = table ? w->n_out : w->n_in;
        m.n_out = table ? w->n_in : w->n_out;
    }
    if (!whole) {
        m.rank = recipe->rank;
        m.scale = recipe->alpha / root;
    }
    draft->modules[draft->n_modules++] = m;
}

static graft_status make_modules(struct draft *draft, const struct adapter_recipe *recipe,
                                 graft_error *error)
{
    const struct model *model = draft->model;
    bool slots[SLOT_COUNT], saved[SLOT_COUNT];
    const int n_layer = model->config.n_layer, wanted = recipe->n_layers;
    const int first = wanted > 0 && wanted < n_layer ? n_layer - wanted : 0;
    graft_status status = recipe_check(recipe, error);
    if (status == GRAFT_OK)
        status = choose_slots(model, recipe, slots, error);
    if (status == GRAFT_OK)
        status = choose_saved(model, recipe, slots, saved, error);
    if (status != GRAFT_OK)
        return status;
    const size_t most = (size_t)n_layer * SLOT_COUNT;
    draft->modules = mem_calloc(&model->runtime->mem, most, sizeof *draft->modules);
    if (!draft->modules)
        return error_set(error, GRAFT_NO_MEMORY, "no memory for %zu modules", most);
    for (int slot = 0; slot < SLOT_COUNT; slot++) {
        const bool in_block = slot >= SLOT_ATTN_NORM;
        for (int layer = in_block ? first : 0; layer < (in_block ? n_layer : 1); layer++)
            if (slots[slot] || saved[slot])
                add_module(draft, recipe, slot, layer, saved[slot]);
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
        n += m->whole ? (uint64_t)(m->n_in * m->n_out)
                      : (uint64_t)m->rank * (uint64_t)(m->n_in + m->n_out);
    }
    if (status == GRAFT_OK) {
        *n_params = n;
        *n_bytes = n * type_traits(recipe->type)->block_bytes;
    }
    mem_free(&model->runtime->mem, draft.modules);
    return status;
}

/* ---- values ------------------------------------------------------------------------------- */

/* The weight of the base, of modules that are held whole. */
static void read_whole(const struct draft *draft, const struct draft_module *m, float *out)
{
    const struct model *model = draft->model;
    if (module_is_norm(m)) {
        memcpy(out, model_norm_weight(model, slot_norm(model, m->slot, m->layer)),
               (size_t)m->n_out * sizeof *out);
        return;
    }
    const struct matrix *w = slot_weight(model, m->slot, m->layer);
    for (int64_t row = 0; row < w->n_out; row++)
        model->runtime->kernels->dequantize[w->type](w, row, 0, w->n_in, out + row * w->n_in);
}

/* N(0, 1) by Box and Muller. */
static void fill_normal(struct rng *rng, float *out, int64_t n)
{
    static const double TWO_PI = 6.283185307179586;
    for (int64_t i = 0; i < n; i++) {
        const double length = sqrt(-2 * log(1 - rng_uniform(rng)));
        out[i] = (float)(length * cos(TWO_PI * rng_uniform(rng)));
    }
}

/* Kaiming-uniform with a = √5 is uniform in ±1/√n_in, and B is 0; of an embedding A is 0 and B normal, as in PEFT: either
 * way the product is 0. Each module has its own stream of numbers. */
static graft_status read_fresh(const struct draft *draft, int i, enum part part, float *out,
                               graft_error *error)
{
    const struct draft_module *m = &draft->modules[i];
    const double bound = 1 / sqrt((double)m->n_in);
    const bool embedding = m->slot == SLOT_EMBED;
    struct rng rng;
    (void)error;
    rng_init(&rng, draft->seed, (uint64_t)m->layer * SLOT_COUNT + (uint64_t)m->slot);
    if (part == PART_WEIGHT)
        read_whole(draft, m, out);
    else if (part == PART_B && embedding)
        fill_normal(&rng, out, m->n_out * m->rank);
    else if (part == PART_B || embedding)
        memset(out, 0,
               (size_t)(part == PART_B ? m->n_out * m->rank : m->n_in * m->rank) * sizeof *out);
    else
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
