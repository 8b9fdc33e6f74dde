/* refresh.c: after a change of values: factors into tiles, and the norms of DoRA.
 *
 * ‖w + s b A‖² = ‖w‖² + 2 s (w Aᵀ)·b + s² b (A Aᵀ) bᵀ by row w of W and b of B. W Aᵀ is a product with `rank` rows as any
 * other; ‖w‖² is taken once of a weight that is not trained. Where the terms cancel the row is computed after all.
 * Of the embedding the norm runs over the vocabulary, so tokens take the place of inputs.
 */
#include "training_internal.h"

#include <math.h>

static const double CANCELLED = 1e-3; /* of the terms: products in floats leave too little */

/* ---- tiles -------------------------------------------------------------------------------- */

/* A factor [rank, n] as rows of LOWRANK_TILE columns, tile by tile. */
static void fill_tiles(const struct kernels *k, const struct matrix *factor,
                       const struct matrix *tiles)
{
    const float *values = factor->data;
    uint8_t *row = (uint8_t *)(uintptr_t)tiles->data;
    for (int64_t o = 0; o < factor->n_in; o += LOWRANK_TILE)
        for (int64_t r = 0; r < factor->n_out; r++, row += tiles->row_bytes) {
            int64_t n = factor->n_in - o < LOWRANK_TILE ? factor->n_in - o : LOWRANK_TILE;
            float column[LOWRANK_TILE] = {0};
            memcpy(column, values + r * factor->n_in + o, (size_t)n * sizeof(*column));
            if (tiles->type == GRAFT_TYPE_BF16)
                k->bf16_store(column, LOWRANK_TILE, (uint16_t *)(void *)row);
            else
                memcpy(row, column, sizeof(column));
        }
}

static void tiles_work(void *context, int worker, int n_workers)
{
    (void)worker, (void)n_workers;
    struct train_tape *t = context;
    long long n = model_n_sites(t->model), i;
    while ((i = atomic_fetch_add_explicit(&t->next_item, 1, memory_order_relaxed)) <= n) {
        if (i == n && t->embedding.rank)
            fill_tiles(t->kernels, &t->embedding.b, &t->embedding.b_tiles);
        else if (i < n && t->sites[i].rank) {
            fill_tiles(t->kernels, &t->sites[i].a, &t->sites[i].a_tiles);
            fill_tiles(t->kernels, &t->sites[i].b, &t->sites[i].b_tiles);
        }
    }
}

/* ---- norms of a site ---------------------------------------------------------------------- */

struct norms {
    struct train_tape *tape;
    struct site *site;
    atomic_llong bad_row;
};

static void note_bad_row(struct norms *n, long long row)
{
    long long seen = atomic_load(&n->bad_row);
    while ((seen < 0 || row < seen) && !atomic_compare_exchange_weak(&n->bad_row, &seen, row)) {
    }
}

/* From ‖...‖² and the magnitude. */
static void set_gain(struct norms *n, int64_t i, double square, const float *magnitude,
                     float *inverse, float *gain)
{
    double norm = sqrt(square);
    inverse[i] = (float)(1 / norm);
    gain[i] = (float)((double)magnitude[i] / norm);
    if (!(square > 0) || !isfinite(inverse[i]))
        note_bad_row(n, i);
}

static double dot(const float *a, const float *b, int64_t n)
{
    double sum = 0;
    for (int64_t i = 0; i < n; i++)
        sum += (double)a[i] * (double)b[i];
    return sum;
}

/* W Aᵀ, ‖w‖² where they are not known, and a share of A Aᵀ. */
static void products_work(void *context, int worker, int n_workers)
{
    const struct norms *n = context;
    const struct train_tape *t = n->tape;
    struct site *s = n->site;
    const struct matrix *w = s->weight;
    const struct train_worker *mine = &t->workers[worker];
    const float *a = s->a.data;
    int64_t begin, end, r_begin, r_end;
    pool_split(s->rank, 1, worker, n_workers, &r_begin, &r_end);
    for (int64_t r = r_begin; r < r_end; r++)
        for (int64_t q = 0; q < s->rank; q++)
            t->aa[r * s->rank + q] = dot(a + r * w->n_in, a + q * w->n_in, w->n_in);
    pool_split(w->n_out, OUTPUT_GRAIN, worker, n_workers, &begin, &end);
    if (begin < end)
        t->kernels->linear_prefill(t->kernels, w, a, (int)s->rank, begin, end, t->wa, w->n_out,
                                   mine->scratch);
    for (int64_t row = begin; row < end && !s->have_squares; row++) {
        t->kernels->dequantize[w->type](w, row, 0, w->n_in, mine->row);
        s->squares[row] = t->kernels->sum_squares(mine->row, w->n_in);
    }
}

/* ‖w + s b A‖², value by value. */
static double direct(const struct norms *n, int64_t row, float *w)
{
    const struct train_tape *t = n->tape;
    const struct site *s = n->site;
    const float *a = s->a.data, *b = s->b.data;
    int64_t n_in = s->weight->n_in, n_out = s->weight->n_out;
    double square = 0;
    t->kernels->dequantize[s->weight->type](s->weight, row, 0, n_in, w);
    for (int64_t i = 0; i < n_in; i++) {
        double sum = 0;
        for (int64_t r = 0; r < s->rank; r++)
            sum += (double)b[r * n_out + row] * (double)a[r * n_in + i];
        sum = (double)w[i] + (double)s->set->delta.scale * sum;
        square += sum * sum;
    }
    return square;
}

static void gains_work(void *context, int worker, int n_workers)
{
    struct norms *n = context;
    const struct train_tape *t = n->tape;
    struct site *s = n->site;
    const float *b = s->b.data;
    double scale = (double)s->set->delta.scale;
    int64_t begin, end, n_out = s->weight->n_out;
    pool_split(n_out, OUTPUT_GRAIN, worker, n_workers, &begin, &end);
    for (int64_t row = begin; row < end; row++) {
        double cross = 0, own = 0;
        for (int64_t r = 0; r < s->rank; r++) {
            double sum = 0, br = (double)b[r * n_out + row];
            for (int64_t q = 0; q < s->rank; q++)
                sum += (double)b[q * n_out + row] * t->aa[r * s->rank + q];
            own += br * sum;
            cross += br * (double)t->wa[r * n_out + row];
        }
        double square = s->squares[row] + 2 * scale * cross + scale * scale * own;
        if (!(square > CANCELLED * (s->squares[row] + scale * scale * own)))
            square = direct(n, row, t->workers[worker].row);
        set_gain(n, row, square, s->set->delta.magnitude.value, s->inverse, s->gain);
    }
}

static graft_status refresh_site(struct train_tape *t, int index, graft_error *error)
{
    struct site *s = &t->sites[index];
    struct norms n = {.tape = t, .site = s};
    atomic_store(&n.bad_row, -1);
    tape_region(t, products_work, &n, s->weight->n_out * s->weight->n_in * s->rank);
    tape_region(t, gains_work, &n, s->weight->n_out * s->rank * s->rank);
    s->have_squares = s->weight != &s->own; /* of a trained weight they change */
    long long row = atomic_load(&n.bad_row);
    if (row < 0)
        return GRAFT_OK;
    return error_set(error, GRAFT_NUMERIC,
                     "site %d: row %lld of W + s B A is zero or not finite, so its magnitude has "
                     "no direction to scale",
                     index, row);
}

/* ---- norms of the embedding --------------------------------------------------------------- */

/* Over all tokens, for columns begin..end: A E into wa as doubles [rank, d_model], and the squares. */
static void sum_tokens(const struct train_tape *t, struct embedding *e, int64_t begin, int64_t end,
                       float *row)
{
    const float *a = t->set->embed_delta.a.value;
    const struct config *c = &t->model->config;
    double *ae = (double *)(void *)t->wa;
    int64_t width = c->d_model;
    for (int64_t i = begin; i < end; i++) {
        for (int64_t r = 0; r < e->rank; r++)
            ae[r * width + i] = 0;
        if (!e->have_squares)
            e->squares[i] = 0;
    }
    for (int64_t token = 0; token < c->n_vocab; token++) {
        t->kernels->dequantize[e->weight->type](e->weight, token, 0, width, row);
        for (int64_t r = 0; r < e->rank; r++) {
            double ar = (double)a[r * c->n_vocab + token], *to = ae + r * width;
            for (int64_t i = begin; i < end; i++)
                to[i] += ar * (double)row[i];
        }
        for (int64_t i = begin; i < end && !e->have_squares; i++)
            e->squares[i] += (double)row[i] * (double)row[i];
    }
}

static void embed_products_work(void *context, int worker, int n_workers)
{
    const struct norms *n = context;
    struct train_tape *t = n->tape;
    struct embedding *e = &t->embedding;
    const float *a = t->set->embed_delta.a.value;
    int64_t begin, end, r_begin, r_end, n_vocab = t->model->config.n_vocab;
    pool_split(e->rank, 1, worker, n_workers, &r_begin, &r_end);
    for (int64_t r = r_begin; r < r_end; r++)
        for (int64_t q = 0; q < e->rank; q++)
            t->aa[r * e->rank + q] = dot(a + r * n_vocab, a + q * n_vocab, n_vocab);
    pool_split(t->model->config.d_model, OUTPUT_GRAIN, worker, n_workers, &begin, &end);
    if (begin < end)
        sum_tokens(t, e, begin, end, t->workers[worker].row);
}

static double direct_dimension(const struct train_tape *t, int64_t i, float *row)
{
    const struct embedding *e = &t->embedding;
    const struct train_delta *d = &t->set->embed_delta;
    int64_t n_vocab = t->model->config.n_vocab, width = t->model->config.d_model;
    double square = 0;
    for (int64_t token = 0; token < n_vocab; token++) {
        double sum = 0;
        t->kernels->dequantize[e->weight->type](e->weight, token, 0, width, row);
        for (int64_t r = 0; r < e->rank; r++)
            sum += (double)d->b.value[r * width + i] * (double)d->a.value[r * n_vocab + token];
        sum = (double)row[i] + (double)d->scale * sum;
        square += sum * sum;
    }
    return square;
}

static void embed_gains_work(void *context, int worker, int n_workers)
{
    struct norms *n = context;
    struct train_tape *t = n->tape;
    struct embedding *e = &t->embedding;
    const struct train_delta *d = &t->set->embed_delta;
    const double *ae = (const double *)(const void *)t->wa;
    double scale = (double)d->scale;
    int64_t begin, end, width = t->model->config.d_model;
    pool_split(width, OUTPUT_GRAIN, worker, n_workers, &begin, &end);
    for (int64_t i = begin; i < end; i++) {
        double cross = 0, own = 0;
        for (int64_t r = 0; r < e->rank; r++) {
            double br = (double)d->b.value[r * width + i];
            cross += br * ae[r * width + i];
            for (int64_t q = 0; q < e->rank; q++)
                own += br * (double)d->b.value[q * width + i] * t->aa[r * e->rank + q];
        }
        double square = e->squares[i] + 2 * scale * cross + scale * scale * own;
        if (!(square > 1e-9 * (e->squares[i] + scale * scale * own))) /* those are doubles */
            square = direct_dimension(t, i, t->workers[worker].row);
        set_gain(n, i, square, d->magnitude.value, e->inverse, e->gain);
    }
}

static graft_status refresh_embedding(struct train_tape *t, graft_error *error)
{
    struct embedding *e = &t->embedding;
    struct norms n = {.tape = t};
    atomic_store(&n.bad_row, -1);
    tape_region(t, embed_products_work, &n, INT64_MAX);
    tape_region(t, embed_gains_work, &n, INT64_MAX);
    e->have_squares = e->weight != &e->own;
    long long row = atomic_load(&n.bad_row);
    if (row < 0)
        return GRAFT_OK;
    return error_set(error, GRAFT_NUMERIC,
                     "dimension %lld of the embedding is zero or not finite, so its magnitude has "
                     "no direction to scale",
                     row);
}

graft_status train_tape_refresh(struct train_tape *t, graft_error *error)
{
    graft_status status = GRAFT_OK;
    atomic_store(&t->next_item, 0);
    tape_region(t, tiles_work, t, INT64_MAX);
    for (int i = 0; i < model_n_sites(t->model) && status == GRAFT_OK; i++)
        if (t->sites[i].gain)
            status = refresh_site(t, i, error);
    if (t->embedding.gain && status == GRAFT_OK)
        status = refresh_embedding(t, error);
    return status;
}
