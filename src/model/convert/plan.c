/* plan.c: the tensors that a conversion writes: the open model's modules under the output's names.
 *
 * Everything comes from the open (hence validated) model, so a tensor that graft does not use is not
 * written, and a tied head stays tied.
 */
#include "convert_internal.h"

#include <math.h>

graft_status plan_add(struct plan *plan, struct item **out, graft_error *error)
{
    if (plan->count == plan->capacity) {
        size_t capacity = plan->capacity ? 2 * plan->capacity : 64;
        struct item *grown = mem_resize(plan->mem, plan->items, capacity * sizeof *grown);
        if (!grown)
            return error_set(error, GRAFT_NO_MEMORY, "out of memory");
        plan->items = grown;
        plan->capacity = capacity;
    }
    *out = &plan->items[plan->count++];
    **out = (struct item){0};
    return GRAFT_OK;
}

/* "module" + ".weight" or ".bias" in the output's naming. */
static graft_status name_item(const struct conversion *c, int slot, int layer, const char *suffix,
                              struct item *item, graft_error *error)
{
    char module[MODULE_NAME_MAX - 8];
    if (!arch_module(c->model->config.arch, c->naming, slot, layer, module, sizeof module))
        return error_set(error, GRAFT_UNSUPPORTED, "%s has no place for module %d in this format",
                         c->model->config.arch->name, slot);
    snprintf(item->name, sizeof item->name, "%s%s", module, suffix);
    return GRAFT_OK;
}

static bool heads_reorder(const struct conversion *c, int slot)
{
    bool interleaved = c->naming == NAMING_GGUF ? c->model->config.arch->gguf_interleaved : false;
    return (slot == SLOT_LINEAR + LINEAR_Q || slot == SLOT_LINEAR + LINEAR_K) &&
           interleaved != c->model->config.rope.interleaved;
}

static int head_rows(const struct conversion *c, int slot)
{
    const struct config *config = &c->model->config;
    if (!heads_reorder(c, slot))
        return 0;
    return slot == SLOT_LINEAR + LINEAR_Q ? config->n_head : config->n_kv;
}

/* Where a mix finds the matrix of a slot. */
static int place_of(const struct model *m, int slot, int layer)
{
    if (slot == SLOT_EMBED)
        return bake_embed_place(m);
    return slot == SLOT_HEAD ? model_head_site(m)
                             : model_site(layer, (enum linear_id)(slot - SLOT_LINEAR));
}

static graft_status add_matrix(struct conversion *c, int slot, int layer, const struct matrix *w,
                               graft_error *error)
{
    struct item *item;
    graft_status status = plan_add(&c->plan, &item, error);
    if (status != GRAFT_OK)
        return status;
    item->matrix = w;
    item->type = recipe_type(c->recipe, &c->config, slot, layer, w->n_in);
    item->n_head_rows = head_rows(c, slot);
    c->plan.bytes += store_bytes(item->type, w->n_out, w->n_in);
    status = name_item(c, slot, layer, ".weight", item, error);
    if (status == GRAFT_OK && c->fuse)
        status = fused_note(c, item, place_of(c->model, slot, layer), error);
    return status;
}

static graft_status add_vector(struct conversion *c, int slot, int layer, const char *suffix,
                               const float *values, int64_t n, graft_error *error)
{
    struct item *item;
    if (!values)
        return GRAFT_OK;
    graft_status status = plan_add(&c->plan, &item, error);
    if (status != GRAFT_OK)
        return status;
    item->vector = values;
    item->n = n;
    item->n_head_rows = head_rows(c, slot);
    item->type = c->naming == NAMING_GGUF              ? GRAFT_TYPE_F32
                 : type_is_mlx(recipe_base(c->recipe)) ? GRAFT_TYPE_F16
                                                       : recipe_base(c->recipe);
    c->plan.bytes += (uint64_t)n * type_traits(item->type)->block_bytes;
    return name_item(c, slot, layer, suffix, item, error);
}

static graft_status add_norm(struct conversion *c, int slot, int layer, int norm,
                             graft_error *error)
{
    return add_vector(c, slot, layer, ".weight", fused_norm(c, norm),
                      model_norm_width(c->model, norm), error);
}

static graft_status add_bias(struct conversion *c, int layer, int id, graft_error *error)
{
    const struct layer *l = &c->model->layers[layer];
    const float *bias = NULL;
    graft_status status = fused_bias(c, layer, id, &bias, error);
    if (status != GRAFT_OK)
        return status;
    return add_vector(c, SLOT_LINEAR + id, layer, ".bias", bias, l->linear[id].n_out, error);
}

static graft_status add_layer(struct conversion *c, int i, graft_error *error)
{
    const struct layer *l = &c->model->layers[i];
    static const int SLOTS[NORM_COUNT] = {[NORM_ATTN] = SLOT_ATTN_NORM,
                                          [NORM_MLP] = SLOT_MLP_NORM,
                                          [NORM_Q] = SLOT_Q_NORM,
                                          [NORM_K] = SLOT_K_NORM};
    graft_status status = GRAFT_OK;
    for (int id = 0; id < NORM_COUNT && status == GRAFT_OK; id++)
        status = add_norm(c, SLOTS[id], i, model_norm(i, (enum norm_id)id), error);
    for (int id = 0; id < LINEAR_COUNT && status == GRAFT_OK; id++) {
        status = add_matrix(c, SLOT_LINEAR + id, i, &l->linear[id], error);
        if (status == GRAFT_OK)
            status = add_bias(c, i, id, error);
    }
    return status;
}

/* From the configuration, or as they are stored. */
static graft_status set_rope_factors(struct conversion *c, int n, const struct tensor_info *stored,
                                     graft_error *error)
{
    const struct config *config = &c->model->config;
    struct mem *mem = &c->runtime->mem;
    double mscale, *scaled = mem_calloc(mem, (size_t)n, sizeof *scaled);
    c->rope_factors = mem_calloc(mem, (size_t)n, sizeof *c->rope_factors);
    if (!scaled || !c->rope_factors) {
        mem_free(mem, scaled);
        return error_set(error, GRAFT_NO_MEMORY, "out of memory");
    }
    config_rope_frequencies(config, scaled, &mscale);
    for (int i = 0; i < n; i++)
        c->rope_factors[i] =
            (float)(pow(config->rope.theta, -2.0 * i / config->d_head) / scaled[i]);
    if (stored)
        memcpy(c->rope_factors, stored->data, stored->size);
    mem_free(mem, scaled);
    return GRAFT_OK;
}

/* GGUF holds the llama3 scaling as divisors of the plain frequencies. */
static graft_status add_rope_factors(struct conversion *c, graft_error *error)
{
    const struct config *config = &c->model->config;
    const struct tensor_info *stored =
        c->model->tensors.gguf ? gguf_find_tensor(c->model->tensors.gguf, ROPE_FACTORS) : NULL;
    if (c->naming != NAMING_GGUF || (config->rope.kind != ROPE_LLAMA3 && !stored))
        return GRAFT_OK;
    int half = config->d_head / 2;
    struct item *item;
    graft_status status = plan_add(&c->plan, &item, error);
    if (status != GRAFT_OK)
        return status;
    status = set_rope_factors(c, half, stored, error);
    if (status != GRAFT_OK)
        return status;
    item->vector = c->rope_factors;
    item->n = half;
    item->type = GRAFT_TYPE_F32;
    snprintf(item->name, sizeof item->name, ROPE_FACTORS);
    c->plan.bytes += (uint64_t)half * sizeof(float);
    return GRAFT_OK;
}

graft_status plan_build(struct conversion *c, graft_error *error)
{
    const struct model *m = c->model;
    c->plan.mem = &c->runtime->mem;
    graft_status status = add_matrix(c, SLOT_EMBED, 0, &m->embed, error);
    for (int i = 0; i < m->config.n_layer && status == GRAFT_OK; i++)
        status = add_layer(c, i, error);
    if (status == GRAFT_OK)
        status = add_norm(c, SLOT_FINAL_NORM, 0, model_final_norm(m), error);
    if (status == GRAFT_OK && !c->config.tied)
        status = add_matrix(c, SLOT_HEAD, 0, &m->head, error);
    return status == GRAFT_OK ? add_rope_factors(c, error) : status;
}

void plan_free(struct plan *plan)
{
    mem_free(plan->mem, plan->items);
    *plan = (struct plan){0};
}
