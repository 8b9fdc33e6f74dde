/* bake.c: rows of W + ΔW.
 *
 * In floats, as the forward pass has it: factor · w + Σ coefficient · basis + Σ weight · own, where the basis
 * is A of the linears and B of the embedding. ΔW is summed apart from W, so that a small one keeps its digits.
 */
#include "model/bake/bake.h"
#include "model/delta_internal.h"

enum { SPAN = 256 };

/* Ranks first..first+rank of the basis. */
struct member {
    const struct lowrank *lowrank;
    const float *token_gain; /* of an embedding, or NULL */
    float weight;
    int64_t first, rank;
};

struct bake {
    struct mem *mem;
    const struct kernels *kernels;
    const struct matrix *base;
    bool embed;
    const struct whole *wholes; /* [n_wholes] */
    int n_wholes;
    struct member *members; /* [n_members] */
    int n_members;
    float *basis; /* [rank, n_in] */
    int64_t rank;
    float *columns; /* [n_in] Σ w (gain − 1) of an embedding, or NULL */
};

/* ---- what a mix changes ------------------------------------------------------------------- */

int bake_places(const struct model *model)
{
    return model_n_sites(model) + 1;
}

int bake_embed_place(const struct model *model)
{
    return model_n_sites(model);
}

bool bake_changes(const struct delta_set *mix, int place)
{
    const struct module_set *m = mix->modules;
    if (place == bake_embed_place(mix->model))
        return m && (m->n_embeds || m->n_embed_deltas);
    return mix->starts[place] < mix->starts[place + 1] ||
           (m && m->n_heads && place == model_head_site(mix->model));
}

const float *bake_norm(const struct delta_set *mix, int norm)
{
    return mix->modules && mix->modules->norms ? mix->modules->norms[norm] : NULL;
}

bool bake_has_bias(const struct delta_set *mix, int site)
{
    for (int i = mix->starts[site]; i < mix->starts[site + 1]; i++)
        if (mix->deltas[i].lowrank->bias)
            return true;
    return false;
}

void bake_add_bias(const struct delta_set *mix, int site, float *bias)
{
    int64_t n = model_site_weight(mix->model, site)->n_out;
    for (int i = mix->starts[site]; i < mix->starts[site + 1]; i++) {
        const struct lowrank *l = mix->deltas[i].lowrank;
        float scale = mix->deltas[i].weight * l->scale;
        for (int64_t o = 0; l->bias && o < n; o++)
            bias[o] += scale * (l->gain ? l->gain[o] : 1) * l->bias[o];
    }
}

/* ---- open --------------------------------------------------------------------------------- */

/* Element (row, r) of B, which lies in tiles. */
static float b_value(const struct bake *b, const struct lowrank *l, int64_t rank, int64_t row,
                     int64_t r)
{
    float tile[LOWRANK_TILE];
    b->kernels->dequantize[l->b.type](&l->b, row / LOWRANK_TILE * rank + r, 0, LOWRANK_TILE, tile);
    return tile[row % LOWRANK_TILE];
}

static void load_basis(struct bake *b, const struct member *m)
{
    const struct lowrank *l = m->lowrank;
    int64_t n_in = b->base->n_in;
    for (int64_t r = 0; r < m->rank; r++) {
        float *row = b->basis + (m->first + r) * n_in;
        if (!b->embed) {
            b->kernels->dequantize[l->a.type](&l->a, r, 0, n_in, row);
            continue;
        }
        for (int64_t k = 0; k < n_in; k++)
            row[k] = (l->gain ? l->gain[k] : 1) * b_value(b, l, m->rank, k, r);
    }
}

static void load_columns(struct bake *b)
{
    for (int i = 0; i < b->n_members && b->columns; i++) {
        const struct member *m = &b->members[i];
        for (int64_t k = 0; m->lowrank->gain && k < b->base->n_in; k++)
            b->columns[k] += m->weight * (m->lowrank->gain[k] - 1);
    }
}

/* The members in their order; their ranks stacked. */
static void list_members(struct bake *b, const struct delta_set *mix, int place)
{
    for (int i = 0; i < b->n_members; i++) {
        struct member *m = &b->members[i];
        if (b->embed) {
            const struct embed_delta *d = &mix->modules->embed_deltas[i];
            *m = (struct member){d->lowrank, d->token_gain, d->weight, b->rank, d->lowrank->a.n_in};
        } else {
            const struct delta *d = &mix->deltas[mix->starts[place] + i];
            *m = (struct member){d->lowrank, NULL, d->weight, b->rank, d->lowrank->a.n_out};
        }
        b->rank += m->rank;
    }
}

static void describe(struct bake *b, const struct delta_set *mix, int place)
{
    const struct model *model = mix->model;
    const struct module_set *m = mix->modules;
    b->embed = place == bake_embed_place(model);
    b->base = b->embed ? &model->embed : model_site_weight(model, place);
    if (b->embed) {
        b->n_members = m ? m->n_embed_deltas : 0;
        b->wholes = m ? m->embeds : NULL;
        b->n_wholes = m ? m->n_embeds : 0;
        return;
    }
    b->n_members = mix->starts[place + 1] - mix->starts[place];
    if (m && place == model_head_site(model)) {
        b->wholes = m->heads;
        b->n_wholes = m->n_heads;
    }
}

graft_status bake_open(const struct delta_set *mix, int place, struct bake **out,
                       graft_error *error)
{
    struct mem *mem = &mix->model->runtime->mem;
    struct bake *b = mem_calloc(mem, 1, sizeof *b);
    if (!b)
        return error_set(error, GRAFT_NO_MEMORY, "no memory for a matrix of a mix");
    b->mem = mem;
    b->kernels = mix->model->runtime->kernels;
    describe(b, mix, place);
    b->members = mem_calloc(mem, (size_t)b->n_members + 1, sizeof *b->members);
    if (b->members)
        list_members(b, mix, place);
    size_t n_in = (size_t)b->base->n_in;
    b->basis = mem_calloc(mem, (size_t)b->rank + 1, n_in * sizeof *b->basis);
    b->columns = b->embed ? mem_calloc(mem, n_in, sizeof *b->columns) : NULL;
    if (!b->members || !b->basis || (b->embed && !b->columns)) {
        bake_close(&b);
        return error_set(error, GRAFT_NO_MEMORY, "no memory for a matrix of a mix");
    }
    for (int i = 0; i < b->n_members; i++)
        load_basis(b, &b->members[i]);
    load_columns(b);
    *out = b;
    return GRAFT_OK;
}

void bake_close(struct bake **bake)
{
    struct bake *b = *bake;
    *bake = NULL;
    if (!b)
        return;
    mem_free(b->mem, b->columns);
    mem_free(b->mem, b->basis);
    mem_free(b->mem, b->members);
    mem_free(b->mem, b);
}

const struct matrix *bake_base(const struct bake *bake)
{
    return bake->base;
}

const float *bake_basis(const struct bake *bake, int64_t *rank)
{
    *rank = bake->rank;
    return bake->basis;
}

/* ---- rows --------------------------------------------------------------------------------- */

/* The gain of a member that holds for a whole row. */
static float row_gain(const struct bake *b, const struct member *m, int64_t row)
{
    const float *gain = b->embed ? m->token_gain : m->lowrank->gain;
    return gain ? gain[row] : 1;
}

static void add_lowrank(const struct bake *b, const struct member *m, int64_t row, float *delta)
{
    const struct lowrank *l = m->lowrank;
    float scale = m->weight * l->scale * row_gain(b, m, row);
    int64_t n_in = b->base->n_in;
    for (int64_t r = 0; r < m->rank; r++) {
        float c;
        if (b->embed) {
            int64_t block = type_traits(l->a.type)->block_values, first = r / block * block;
            float values[LOWRANK_TILE];
            b->kernels->dequantize[l->a.type](&l->a, row, first, block, values);
            c = scale * values[r - first];
        } else {
            c = scale * b_value(b, l, m->rank, row, r);
        }
        const float *basis = b->basis + (m->first + r) * n_in;
        for (int64_t k = 0; k < n_in; k++)
            delta[k] += c * basis[k];
    }
}

/* Of the base's row: Σ w (gain − 1) − Σ w of those held whole. */
static float row_change(const struct bake *b, int64_t row)
{
    float change = 0;
    for (int i = 0; i < b->n_members; i++)
        change += b->members[i].weight * (row_gain(b, &b->members[i], row) - 1);
    for (int i = 0; i < b->n_wholes; i++)
        change -= b->wholes[i].weight;
    return change;
}

/* Σ weight · own of the columns first..first+n. */
static void add_wholes(const struct bake *b, int64_t row, int64_t first, int64_t n, float *delta)
{
    float own[SPAN];
    for (int i = 0; i < b->n_wholes; i++) {
        const struct matrix *m = b->wholes[i].matrix;
        b->kernels->dequantize[m->type](m, row, first, n, own);
        for (int64_t k = 0; k < n; k++)
            delta[first + k] += b->wholes[i].weight * own[k];
    }
}

void bake_row(const struct bake *b, int64_t row, float *w, float *delta)
{
    int64_t n_in = b->base->n_in;
    float change = row_change(b, row);
    memset(delta, 0, (size_t)n_in * sizeof *delta);
    for (int i = 0; i < b->n_members; i++)
        add_lowrank(b, &b->members[i], row, delta);
    for (int64_t first = 0; first < n_in && b->n_wholes; first += SPAN)
        add_wholes(b, row, first, n_in - first < SPAN ? n_in - first : SPAN, delta);
    for (int64_t k = 0; k < n_in; k++) {
        /* The base goes in once: what is held whole with weight 1 comes out to the bit. */
        float c = change + (b->columns ? b->columns[k] : 0), base = w[k];
        w[k] = (1 + c) * base + delta[k];
        delta[k] += c * base;
    }
}
