/* private.c: an open model with a mix in its weights, in memory of its own.
 *
 * The base stays mapped as it is; matrices, norms and biases that the mix changes are replaced by copies that
 * belong to the model. Types follow the rule of a fused file, with the base's own types for recipe.
 */
#include "convert_internal.h"

enum { BASIC_BLOCK = 32 };

/* The base's own type; of types that are read and never written, 8 bits. */
static graft_type own_type(const struct matrix *w)
{
    bool mlx = w->type == GRAFT_TYPE_MLX4 || w->type == GRAFT_TYPE_MLX8;
    if (!mlx)
        return w->type;
    return w->n_in % BASIC_BLOCK == 0 ? GRAFT_TYPE_Q8_0 : GRAFT_TYPE_F16;
}

static struct matrix *weight_at(struct model *m, int place)
{
    if (place == bake_embed_place(m))
        return &m->embed;
    if (place == model_head_site(m))
        return &m->head;
    return &m->layers[place / LINEAR_COUNT].linear[place % LINEAR_COUNT];
}

/* ---- matrices ----------------------------------------------------------------------------- */

static graft_status list_matrices(struct conversion *c, graft_error *error)
{
    graft_status status = GRAFT_OK;
    for (int place = 0; place < bake_places(c->model) && status == GRAFT_OK; place++) {
        const struct matrix *w = weight_at(c->model, place);
        struct item *item;
        if (!bake_changes(c->fuse->mix, place))
            continue;
        status = plan_add(&c->plan, &item, error);
        if (status != GRAFT_OK)
            break;
        item->matrix = w;
        item->type = own_type(w);
        snprintf(item->name, sizeof item->name, "matrix %d", place);
        c->bytes_total += store_bytes(item->type, w->n_out, w->n_in);
        status = fused_note(c, item, place, error);
    }
    return status;
}

/* Nothing of the model is changed yet: later matrices do not depend on it, and it may fail. */
static graft_status make_copies(struct conversion *c, struct matrix *copies, graft_error *error)
{
    struct model *m = c->model;
    graft_status status = GRAFT_OK;
    for (size_t i = 0; i < c->plan.count && status == GRAFT_OK; i++) {
        const struct item *item = &c->plan.items[i];
        const struct matrix *w = item->matrix;
        size_t bytes = store_bytes(item->type, w->n_out, w->n_in);
        void *memory = mem_alloc(&c->runtime->mem, bytes);
        if (!memory)
            return error_set(error, GRAFT_NO_MEMORY, "no memory for a fused matrix of %zu bytes",
                             bytes);
        m->fused[m->n_fused++] = memory;
        m->fused_bytes += bytes;
        copies[i] = store_at(item->type, w->n_out, w->n_in, memory);
        status = item_make(c, item, memory, error);
    }
    return status;
}

/* ---- vectors ------------------------------------------------------------------------------ */

static float **norm_at(struct model *m, int norm)
{
    if (norm == model_final_norm(m))
        return &m->final_norm;
    struct layer *l = &m->layers[norm / NORM_COUNT];
    float **const norms[] = {&l->attn_norm, &l->mlp_norm, &l->q_norm, &l->k_norm};
    return norms[norm % NORM_COUNT];
}

static graft_status keep(struct model *m, const float *values, int64_t n, float **out,
                         graft_error *error)
{
    size_t bytes = (size_t)n * sizeof **out;
    float *copy = arena_alloc(&m->arena, bytes);
    if (!copy)
        return error_set(error, GRAFT_NO_MEMORY, "no memory for a fused vector");
    memcpy(copy, values, bytes);
    m->fused_bytes += bytes;
    *out = copy;
    return GRAFT_OK;
}

static graft_status make_vectors(struct conversion *c, graft_error *error)
{
    struct model *m = c->model;
    graft_status status = GRAFT_OK;
    for (int norm = 0; norm < model_n_norms(m) && status == GRAFT_OK; norm++) {
        const float *own = bake_norm(c->fuse->mix, norm);
        if (own)
            status = keep(m, own, model_norm_width(m, norm), norm_at(m, norm), error);
    }
    for (int i = 0; i < m->config.n_layer; i++)
        for (int id = 0; id < LINEAR_COUNT && status == GRAFT_OK; id++) {
            struct layer *l = &m->layers[i];
            const float *bias = NULL;
            if (!bake_has_bias(c->fuse->mix, model_site(i, (enum linear_id)id)))
                continue;
            status = fused_bias(c, i, id, &bias, error);
            if (status == GRAFT_OK)
                status = keep(m, bias, l->linear[id].n_out, &l->bias[id], error);
        }
    return status;
}

/* ---- all of it ---------------------------------------------------------------------------- */

static graft_status make_all(struct conversion *c, graft_error *error)
{
    struct model *m = c->model;
    struct mem *mem = &c->runtime->mem;
    graft_status status = fused_config(c, error);
    if (status == GRAFT_OK)
        status = list_matrices(c, error);
    if (status == GRAFT_OK)
        status = fused_choose_types(c, error);
    if (status != GRAFT_OK)
        return status;
    struct matrix *copies = mem_calloc(mem, c->plan.count + 1, sizeof *copies);
    m->fused = mem_calloc(mem, c->plan.count + 1, sizeof *m->fused);
    status = copies && m->fused ? make_copies(c, copies, error)
                                : error_set(error, GRAFT_NO_MEMORY, "no memory for fusing");
    if (status == GRAFT_OK)
        status = make_vectors(c, error);
    for (size_t i = 0; i < c->plan.count && status == GRAFT_OK; i++)
        *weight_at(m, c->plan.items[i].record->place) = copies[i];
    if (status == GRAFT_OK) {
        m->config.tied = c->config.tied;
        m->config.biases = c->config.biases;
    }
    mem_free(mem, copies);
    return status;
}

graft_status model_fuse(struct model *model, const struct delta_set *mix, double fallback,
                        graft_error *error)
{
    const graft_convert_options silent = {.struct_size = sizeof silent};
    struct convert_fuse fuse = {.mix = mix, .fallback = fallback};
    struct conversion c = {.runtime = model->runtime,
                           .model = model,
                           .naming = NAMING_COUNT, /* nothing is written anywhere */
                           .options = &silent,
                           .config = model->config,
                           .fuse = &fuse};
    struct mem *mem = &model->runtime->mem;
    int n_wider = 0;
    c.plan.mem = mem;
    arena_init(&c.arena, mem, SIZE_MAX);
    graft_status status = mix ? make_all(&c, error) : GRAFT_OK;
    for (size_t i = 0; i < fuse.n_records; i++)
        n_wider += fuse.records[i].type != fuse.records[i].planned;
    if (status == GRAFT_OK)
        runtime_log(model->runtime, GRAFT_LOG_INFO,
                    "fused %zu matrices into %llu bytes of memory, %d of them with 8 bits to keep "
                    "the adapters",
                    fuse.n_records, (unsigned long long)model->fused_bytes, n_wider);
    mem_free(mem, fuse.records);
    plan_free(&c.plan);
    arena_free(&c.arena);
    return status;
}
