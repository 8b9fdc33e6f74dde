/* begin.c: magnitudes, and factors that begin as a part of the weight.
 *
 * PiSSA (Meng, Wang and Zhang 2024): W ≈ U S Vᵀ, A = √(S / s) Vᵀ and B = U √(S / s), so that s B A is the principal part of W.
 * OLoRA (Büyükakyüz 2024): W = Q R, B is the first columns of Q and A the first rows of R. Both are the weight as the file
 * has it, so quantised weights give factors of what the model computes with.
 */
#include "adapter/trainable/begin.h"
#include "adapter/leading.h"

#include <math.h>

enum { GRAIN = 16 };

static graft_status no_memory(graft_error *error)
{
    return error_set(error, GRAFT_NO_MEMORY, "no memory for the values that training begins with");
}

/* ---- rows of a weight --------------------------------------------------------------------- */

struct rows {
    const struct kernels *kernels;
    const struct matrix *w;
    float *out; /* [n_out, n_in] */
};

static void read_share(void *context, int worker, int n_workers)
{
    const struct rows *r = context;
    int64_t begin, end;
    pool_split(r->w->n_out, 1, worker, n_workers, &begin, &end);
    for (int64_t o = begin; o < end; o++)
        r->kernels->dequantize[r->w->type](r->w, o, 0, r->w->n_in, r->out + o * r->w->n_in);
}

/* The caller frees *out. */
static graft_status read_weight(const struct model *model, const struct matrix *w, float **out,
                                graft_error *error)
{
    struct rows r = {model->runtime->kernels, w, NULL};
    r.out = mem_calloc(&model->runtime->mem, (size_t)(w->n_out * w->n_in), sizeof *r.out);
    if (!r.out)
        return no_memory(error);
    pool_run(model->runtime->pool, read_share, &r);
    *out = r.out;
    return GRAFT_OK;
}

struct norms {
    const struct model *model;
    const struct matrix *w;
    float *out;  /* [n_out] */
    float *rows; /* [n_workers, n_in] */
};

static void norm_rows(void *context, int worker, int n_workers)
{
    struct norms *n = context;
    const struct kernels *k = n->model->runtime->kernels;
    int64_t begin, end;
    float *row = n->rows + worker * n->w->n_in;
    pool_split(n->w->n_out, 1, worker, n_workers, &begin, &end);
    for (int64_t o = begin; o < end; o++) {
        k->dequantize[n->w->type](n->w, o, 0, n->w->n_in, row);
        n->out[o] = (float)sqrt(k->sum_squares(row, n->w->n_in));
    }
}

graft_status begin_magnitude(const struct model *model, const struct matrix *weight, float *out,
                             graft_error *error)
{
    struct mem *mem = &model->runtime->mem;
    struct pool *pool = model->runtime->pool;
    struct norms n = {model, weight, out, NULL};
    n.rows = mem_calloc(mem, (size_t)(weight->n_in * pool_threads(pool)), sizeof *n.rows);
    if (!n.rows)
        return no_memory(error);
    pool_run(pool, norm_rows, &n);
    mem_free(mem, n.rows);
    return GRAFT_OK;
}

graft_status begin_embed_magnitude(const struct model *model, float *out, graft_error *error)
{
    const struct matrix *w = &model->embed;
    struct mem *mem = &model->runtime->mem;
    float *row = mem_calloc(mem, (size_t)w->n_in, sizeof *row);
    double *squares = mem_calloc(mem, (size_t)w->n_in, sizeof *squares);
    graft_status status = row && squares ? GRAFT_OK : no_memory(error);
    for (int64_t token = 0; token < w->n_out && status == GRAFT_OK; token++) {
        model->runtime->kernels->dequantize[w->type](w, token, 0, w->n_in, row);
        for (int64_t i = 0; i < w->n_in; i++)
            squares[i] += (double)row[i] * (double)row[i];
    }
    for (int64_t i = 0; i < w->n_in && status == GRAFT_OK; i++)
        out[i] = (float)sqrt(squares[i]);
    mem_free(mem, row);
    mem_free(mem, squares);
    return status;
}

/* ---- gaussian ----------------------------------------------------------------------------- */

static void fill_normal(const struct beginning *p)
{
    static const double TWO_PI = 6.283185307179586;
    struct rng rng;
    rng_init(&rng, p->seed, p->stream);
    for (int64_t i = 0; i < p->rank * p->weight->n_in; i++) {
        double length = sqrt(-2 * log(1 - rng_uniform(&rng)));
        p->a[i] = (float)(length * cos(TWO_PI * rng_uniform(&rng)) / (double)p->rank);
    }
    memset(p->b, 0, (size_t)(p->rank * p->weight->n_out) * sizeof *p->b);
}

/* ---- PiSSA -------------------------------------------------------------------------------- */

static graft_status fill_principal(const struct beginning *p, const float *w, graft_error *error)
{
    struct mem *mem = &p->model->runtime->mem;
    const int64_t n_in = p->weight->n_in, n_out = p->weight->n_out, rank = p->rank;
    double energy;
    float *b = mem_calloc(mem, (size_t)(n_out * rank), sizeof *b);
    if (!b)
        return no_memory(error);
    const struct leading_source l = {.n_out = n_out, .n_in = n_in, .at_hand = w};
    graft_status status =
        leading_directions(p->model->runtime, &l, rank, p->a, b, NULL, &energy, error);
    for (int64_t r = 0; r < rank && status == GRAFT_OK; r++) {
        double square = 0;
        for (int64_t o = 0; o < n_out; o++)
            square += (double)b[o * rank + r] * (double)b[o * rank + r];
        double root = sqrt(sqrt(square) / p->scale);
        for (int64_t i = 0; i < n_in; i++)
            p->a[r * n_in + i] = (float)(root * (double)p->a[r * n_in + i]);
        for (int64_t o = 0; o < n_out; o++)
            p->b[r * n_out + o] =
                root > 0 ? (float)((double)b[o * rank + r] / (root * p->scale)) : 0;
    }
    mem_free(mem, b);
    return status;
}

/* ---- OLoRA -------------------------------------------------------------------------------- */

struct columns {
    const struct beginning *p;
    const float *w;  /* [n_out, n_in] */
    const double *q; /* [rank, n_out]: columns of Q */
};

/* Column `at` of W, freed from the directions that q has [n, n_out], and of length 1. False: it is nothing but those. */
static bool next_direction(const struct beginning *p, const float *w, int64_t at, int64_t n,
                           double *q)
{
    const int64_t n_in = p->weight->n_in, n_out = p->weight->n_out;
    double *own = q + n * n_out, before = 0, after = 0;
    for (int64_t o = 0; o < n_out; o++) {
        own[o] = (double)w[o * n_in + at];
        before += own[o] * own[o];
    }
    for (int pass = 0; pass < 2; pass++)
        for (int64_t r = 0; r < n; r++) {
            double along = 0;
            for (int64_t o = 0; o < n_out; o++)
                along += own[o] * q[r * n_out + o];
            for (int64_t o = 0; o < n_out; o++)
                own[o] -= along * q[r * n_out + o];
        }
    for (int64_t o = 0; o < n_out; o++)
        after += own[o] * own[o];
    if (!(after > 1e-20 * before))
        return false;
    for (int64_t o = 0; o < n_out; o++)
        own[o] /= sqrt(after);
    return true;
}

/* Columns of R = Qᵀ W. */
static void upper_rows(void *context, int worker, int n_workers)
{
    const struct columns *c = context;
    const struct beginning *p = c->p;
    const int64_t n_in = p->weight->n_in, n_out = p->weight->n_out;
    int64_t begin, end;
    double sums[GRAIN];
    pool_split(n_in, GRAIN, worker, n_workers, &begin, &end);
    for (int64_t i = begin; i < end; i += GRAIN)
        for (int64_t r = 0; r < p->rank; r++) {
            int64_t n = end - i < GRAIN ? end - i : GRAIN;
            memset(sums, 0, sizeof sums);
            for (int64_t o = 0; o < n_out; o++)
                for (int64_t j = 0; j < n; j++)
                    sums[j] += c->q[r * n_out + o] * (double)c->w[o * n_in + i + j];
            for (int64_t j = 0; j < n; j++)
                p->a[r * n_in + i + j] = (float)sums[j];
        }
}

/* Columns that are nothing but those before them give no direction; where W has too few, what is left is 0. */
static graft_status fill_triangular(const struct beginning *p, const float *w, graft_error *error)
{
    struct mem *mem = &p->model->runtime->mem;
    const int64_t n_out = p->weight->n_out;
    double *q = mem_calloc(mem, (size_t)(p->rank * n_out), sizeof *q);
    if (!q)
        return no_memory(error);
    int64_t n = 0;
    for (int64_t i = 0; i < p->weight->n_in && n < p->rank; i++)
        n += next_direction(p, w, i, n, q);
    for (int64_t k = n * n_out; k < p->rank * n_out; k++)
        q[k] = 0;
    struct columns c = {.p = p, .w = w, .q = q};
    pool_run(p->model->runtime->pool, upper_rows, &c);
    for (int64_t k = 0; k < p->rank * n_out; k++)
        p->b[k] = (float)q[k];
    mem_free(mem, q);
    return GRAFT_OK;
}

/* ------------------------------------------------------------------------------------------- */

graft_status begin_factors(const struct beginning *begin, enum adapter_init init,
                           graft_error *error)
{
    float *w = NULL;
    if (init == INIT_GAUSSIAN) {
        fill_normal(begin);
        return GRAFT_OK;
    }
    graft_status status = read_weight(begin->model, begin->weight, &w, error);
    if (status == GRAFT_OK)
        status =
            init == INIT_PISSA ? fill_principal(begin, w, error) : fill_triangular(begin, w, error);
    mem_free(&begin->model->runtime->mem, w);
    return status;
}
