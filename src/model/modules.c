/* modules.c: what mixes do to modules that are no linears of a block: norms, the embedding, a head held whole.
 *
 * Norms become vectors of the mix when it is made. The embedding of a row is changed as it is looked up, in
 * floats for both roles. A head held whole is one more product beside the base's, whose share shrinks by as
 * much: rows of other mixes never meet it.
 */
#include "model/forward_internal.h"

/* ---- norms -------------------------------------------------------------------------------- */

int model_n_norms(const struct model *model)
{
    return model->config.n_layer * NORM_COUNT + 1;
}

int model_norm(int layer, enum norm_id id)
{
    return layer * NORM_COUNT + (int)id;
}

int model_final_norm(const struct model *model)
{
    return model->config.n_layer * NORM_COUNT;
}

const float *model_norm_weight(const struct model *model, int norm)
{
    if (norm == model_final_norm(model))
        return model->final_norm;
    const struct layer *l = &model->layers[norm / NORM_COUNT];
    const float *const norms[] = {l->attn_norm, l->mlp_norm, l->q_norm, l->k_norm};
    return norms[norm % NORM_COUNT];
}

int64_t model_norm_width(const struct model *model, int norm)
{
    bool head = norm != model_final_norm(model) && norm % NORM_COUNT >= NORM_Q;
    return head ? model->config.d_head : model->config.d_model;
}

/* ---- checks ------------------------------------------------------------------------------- */

static graft_status check_shape(const struct matrix *m, int64_t n_out, int64_t n_in,
                                const char *name, graft_error *error)
{
    const int64_t want[] = {n_out, n_in}, have[] = {m->n_out, m->n_in};
    if (m->n_out == n_out && m->n_in == n_in)
        return GRAFT_OK;
    graft_status status =
        error_set(error, GRAFT_SHAPE, "%s of a mix is [%lld, %lld], expected [%lld, %lld]", name,
                  (long long)m->n_out, (long long)m->n_in, (long long)n_out, (long long)n_in);
    error_shapes(error, 2, want, 2, have);
    return status;
}

/* A matrix held whole, like the base's. Products with float types need no other form of the activations. */
static graft_status check_whole(const struct matrix *m, const struct matrix *base, const char *name,
                                graft_error *error)
{
    if (m->type != GRAFT_TYPE_F32 && m->type != GRAFT_TYPE_F16 && m->type != GRAFT_TYPE_BF16)
        return error_set(error, GRAFT_UNSUPPORTED, "%s of a mix cannot be of type %s", name,
                         graft_type_name(m->type));
    return check_shape(m, base->n_out, base->n_in, name, error);
}

static graft_status check_changes(const struct model *model, const struct module_changes *c,
                                  graft_error *error)
{
    const struct lowrank *l = c->lowrank;
    int64_t width = model->config.d_model;
    graft_status status = GRAFT_OK;
    if (c->embed)
        status = check_whole(c->embed, &model->embed, "the embedding", error);
    if (c->head && status == GRAFT_OK)
        status = check_whole(c->head, &model->head, "the head", error);
    if (!l || status != GRAFT_OK)
        return status;
    if (!kernels_have_factor(l->a.type) || !kernels_have_factor(l->b.type))
        return error_set(error, GRAFT_UNSUPPORTED, "factors of the embedding cannot be of type %s",
                         graft_type_name(kernels_have_factor(l->a.type) ? l->b.type : l->a.type));
    if (l->a.n_in < 1 || l->a.n_in > 2 * width)
        return error_set(error, GRAFT_LIMIT, "an embedding delta of rank %lld",
                         (long long)l->a.n_in);
    status = check_shape(&l->a, model->config.n_vocab, l->a.n_in, "A of the embedding", error);
    if (status != GRAFT_OK)
        return status;
    return check_shape(&l->b, lowrank_b_rows(l->a.n_in, width), LOWRANK_TILE,
                       "B of the embedding in tiles", error);
}

/* ---- sets --------------------------------------------------------------------------------- */

/* norm + Σ w (own − norm), where a member has its own. */
static bool mix_norm(struct delta_set *set, const struct delta_member *members, int n_members,
                     int norm)
{
    const float *base = model_norm_weight(set->model, norm);
    int64_t n = model_norm_width(set->model, norm);
    float *out = NULL;
    for (int i = 0; i < n_members; i++) {
        const struct module_changes *c = members[i].modules;
        const float *own = c && c->norms && members[i].weight != 0 ? c->norms[norm] : NULL;
        if (!own || !base)
            continue;
        const float *from = out; /* a lone norm of weight 1 stays as it is, to the bit */
        if (!out) {
            from = members[i].weight == 1 ? own : base;
            out = arena_alloc(&set->arena, (size_t)n * sizeof(*out));
        }
        if (!out)
            return false;
        for (int64_t k = 0; k < n; k++)
            out[k] = from == own ? own[k] : from[k] + members[i].weight * (own[k] - base[k]);
    }
    set->modules->norms[norm] = out;
    return true;
}

static bool mix_norms(struct delta_set *set, const struct delta_member *members, int n_members)
{
    int n = model_n_norms(set->model);
    bool any = false;
    for (int i = 0; i < n_members; i++)
        any = any || (members[i].modules && members[i].modules->norms && members[i].weight != 0);
    if (!any)
        return true;
    set->modules->norms = arena_alloc(&set->arena, (size_t)n * sizeof(float *));
    for (int norm = 0; set->modules->norms && norm < n; norm++)
        if (!mix_norm(set, members, n_members, norm))
            return false;
    return set->modules->norms != NULL;
}

static bool list_matrices(struct delta_set *set, const struct delta_member *members, int n_members)
{
    struct module_set *m = set->modules;
    size_t n = (size_t)n_members;
    m->embeds = arena_alloc(&set->arena, n * sizeof(*m->embeds));
    m->heads = arena_alloc(&set->arena, n * sizeof(*m->heads));
    m->embed_deltas = arena_alloc(&set->arena, n * sizeof(*m->embed_deltas));
    if (!m->embeds || !m->heads || !m->embed_deltas)
        return false;
    for (int i = 0; i < n_members; i++) {
        const struct module_changes *c = members[i].modules;
        float weight = members[i].weight;
        if (!c || weight == 0)
            continue;
        if (c->embed)
            m->embeds[m->n_embeds++] = (struct whole){c->embed, weight};
        if (c->head)
            m->heads[m->n_heads++] = (struct whole){c->head, weight};
        if (c->lowrank)
            m->embed_deltas[m->n_embed_deltas++] =
                (struct embed_delta){c->lowrank, c->token_gain, weight};
    }
    return true;
}

graft_status module_set_make(struct delta_set *set, const struct delta_member *members,
                             int n_members, graft_error *error)
{
    bool any = false;
    for (int i = 0; i < n_members; i++) {
        if (!members[i].modules)
            continue;
        graft_status status = check_changes(set->model, members[i].modules, error);
        if (status != GRAFT_OK)
            return status;
        any = any || members[i].weight != 0;
    }
    if (!any)
        return GRAFT_OK;
    set->modules = arena_alloc(&set->arena, sizeof(*set->modules));
    if (set->modules)
        *set->modules = (struct module_set){0};
    if (!set->modules || !mix_norms(set, members, n_members) ||
        !list_matrices(set, members, n_members))
        return error_set(error, GRAFT_NO_MEMORY, "no memory for the modules of a mix");
    return GRAFT_OK;
}

/* ---- the embedding ------------------------------------------------------------------------ */

static float token_gain(const struct embed_delta *d, graft_token_id token)
{
    return d->token_gain ? d->token_gain[token] : 1;
}

/* The factor of the base's embedding: 1 + Σ w (gain − 1) − Σ w of those held whole. */
static void scale_base(const struct pass *p, const struct module_set *m, graft_token_id token,
                       float *factor, float *x)
{
    int64_t width = p->model->config.d_model;
    bool any = m->n_embeds > 0;
    float all = 1;
    for (int i = 0; i < m->n_embeds; i++)
        all -= m->embeds[i].weight;
    for (int i = 0; i < m->n_embed_deltas; i++) {
        all += m->embed_deltas[i].weight * (token_gain(&m->embed_deltas[i], token) - 1);
        any = any || m->embed_deltas[i].token_gain || m->embed_deltas[i].lowrank->gain;
    }
    if (!any)
        return;
    for (int64_t i = 0; i < width; i++)
        factor[i] = all;
    for (int i = 0; i < m->n_embed_deltas; i++)
        if (m->embed_deltas[i].lowrank->gain)
            p->kernels->gain_add(factor, m->embed_deltas[i].lowrank->gain,
                                 m->embed_deltas[i].weight, width);
    p->kernels->mul(x, factor, width);
}

static void add_lowrank(const struct pass *p, const struct embed_delta *d, graft_token_id token,
                        float *u, float *x)
{
    const struct lowrank *l = d->lowrank;
    int64_t rank = l->a.n_in, width = p->model->config.d_model;
    float scale = d->weight * l->scale * token_gain(d, token);
    p->kernels->dequantize[l->a.type](&l->a, token, 0, rank, u);
    for (int64_t r = 0; r < rank; r++)
        u[r] *= scale;
    p->kernels->lowrank_up[ROLE_DECODE](p->kernels, &(struct lowrank_up_args){.b = &l->b,
                                                                              .rank = rank,
                                                                              .u = u,
                                                                              .u_stride = rank,
                                                                              .n_tok = 1,
                                                                              .o_end = width,
                                                                              .gain = l->gain,
                                                                              .y = x,
                                                                              .y_stride = width});
}

void modules_embed(const struct pass *p, const struct row *row, int worker, float *x)
{
    const struct module_set *m = row->deltas->modules;
    int64_t width = p->model->config.d_model;
    float *own = p->ws->workers[worker].few_x, *u = own + width; /* FEW_ROWS rows: enough */
    scale_base(p, m, row->token, own, x);
    for (int i = 0; i < m->n_embed_deltas; i++)
        add_lowrank(p, &m->embed_deltas[i], row->token, u, x);
    for (int i = 0; i < m->n_embeds; i++) {
        const struct whole *w = &m->embeds[i];
        p->kernels->dequantize[w->matrix->type](w->matrix, row->token, 0, width, own);
        for (int64_t k = 0; k < width; k++)
            x[k] += w->weight * own[k];
    }
}

/* ---- the head ----------------------------------------------------------------------------- */

bool modules_have_head(const struct segment *s)
{
    return s->deltas->modules && s->deltas->modules->n_heads;
}

float modules_head_weight(const struct segment *s)
{
    float weight = 0;
    for (int i = 0; i < s->deltas->modules->n_heads; i++)
        weight += s->deltas->modules->heads[i].weight;
    return weight;
}

void modules_head(const struct pass *p, const struct segment *s, const struct linear *l,
                  int64_t begin, int64_t end, void *scratch)
{
    const struct module_set *m = s->deltas->modules;
    int64_t width = l->weight->n_out, first = s->begin * width;
    const float *x = p->group->x + s->begin * p->group->n_in;
    float *own = p->ws->whole_logits + first;
    int n = s->end - s->begin;
    for (int i = 0; i < m->n_heads; i++) {
        const struct matrix *w = m->heads[i].matrix;
        if (s->role == ROLE_DECODE)
            p->kernels->linear_decode[w->type](w, x, n, begin, end, own, width, scratch);
        else
            p->kernels->linear_prefill(p->kernels, w, x, n, begin, end, own, width, scratch);
        for (int row = 0; row < n; row++)
            for (int64_t o = begin; o < end; o++)
                l->y[first + row * width + o] += m->heads[i].weight * own[row * width + o];
    }
}
