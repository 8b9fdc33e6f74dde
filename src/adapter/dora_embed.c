/* dora_embed.c: the gains of DoRA on an embedding, m / ‖E + s A B‖ with E [n_vocab, d_model], A [n_vocab, rank].
 *
 * The formats take the norm along different sides. PEFT: over the vocabulary, one for each dimension, by the
 * expansion of dora.c. MLX: over the width, one for each token, row by row.
 */
#include "adapter/adapter_internal.h"

#include <math.h>

enum { DIMENSIONS = 32, REGION_MULTIPLIES = 1 << 25 };
static const double CANCELLED = 1e-9; /* as in dora.c */

struct embedding {
    const struct kernels *kernels;
    const struct matrix *e;
    const struct build *b;
    double *factor_b; /* [d_model, rank] */
    float *rows;      /* [n_workers, d_model + rank] */
    double *sums;     /* [n_workers, rank · (DIMENSIONS + rank)] */
    float *magnitude; /* becomes the gain */
    int64_t begin, end;
    atomic_llong bad;
};

/* Row of A and of E for a token. */
static const float *load_token(const struct embedding *m, int64_t token, float *e)
{
    const struct matrix *a = &m->b->lowrank.a;
    m->kernels->dequantize[m->e->type](m->e, token, 0, m->e->n_in, e);
    m->kernels->dequantize[a->type](a, token, 0, a->n_in, e + m->e->n_in);
    return e + m->e->n_in;
}

static double changed(const struct embedding *m, const float *e, const float *a, int64_t d)
{
    double sum = 0;
    for (int64_t r = 0; r < m->b->rank; r++)
        sum += m->factor_b[d * m->b->rank + r] * (double)a[r];
    return (double)e[d] + (double)m->b->lowrank.scale * sum;
}

static void divide(struct embedding *m, int64_t i, double square)
{
    float gain = (float)((double)m->magnitude[i] / sqrt(square));
    long long seen = atomic_load(&m->bad);
    if (isfinite(gain))
        m->magnitude[i] = gain;
    else
        while ((seen < 0 || i < seen) && !atomic_compare_exchange_weak(&m->bad, &seen, i)) {
        }
}

/* ---- by token ----------------------------------------------------------------------------- */

static void token_work(void *context, int worker, int n_workers)
{
    struct embedding *m = context;
    float *e = m->rows + worker * (m->e->n_in + m->b->rank);
    int64_t begin, end;
    pool_split(m->end - m->begin, 1, worker, n_workers, &begin, &end);
    for (int64_t token = m->begin + begin; token < m->begin + end; token++) {
        const float *a = load_token(m, token, e);
        double square = 0;
        for (int64_t d = 0; d < m->e->n_in; d++) {
            double x = changed(m, e, a, d);
            square += x * x;
        }
        divide(m, token, square);
    }
}

/* ---- by dimension ------------------------------------------------------------------------- */

static double direct(const struct embedding *m, int64_t d, float *e)
{
    double square = 0;
    for (int64_t token = 0; token < m->e->n_out; token++) {
        const float *a = load_token(m, token, e);
        double x = changed(m, e, a, d);
        square += x * x;
    }
    return square;
}

/* Dimensions first..first+n: ‖e_d‖² + 2 s (Eᵀ A)_d · b_d + s² b_d (Aᵀ A) b_dᵀ. */
static void dimensions(struct embedding *m, int64_t first, int64_t n, float *e, double *sums)
{
    int64_t rank = m->b->rank;
    double *aa = sums + DIMENSIONS * rank, squares[DIMENSIONS] = {0};
    double scale = (double)m->b->lowrank.scale;
    memset(sums, 0, (size_t)(rank * (DIMENSIONS + rank)) * sizeof *sums);
    for (int64_t token = 0; token < m->e->n_out; token++) {
        const float *a = load_token(m, token, e);
        for (int64_t i = 0; i < n; i++) {
            double x = (double)e[first + i];
            squares[i] += x * x;
            for (int64_t r = 0; r < rank; r++)
                sums[i * rank + r] += x * (double)a[r];
        }
        for (int64_t r = 0; r < rank; r++)
            for (int64_t s = 0; s < rank; s++)
                aa[r * rank + s] += (double)a[r] * (double)a[s];
    }
    for (int64_t i = 0; i < n; i++) {
        const double *b = m->factor_b + (first + i) * rank;
        double cross = 0, own = 0;
        for (int64_t r = 0; r < rank; r++) {
            cross += sums[i * rank + r] * b[r];
            for (int64_t s = 0; s < rank; s++)
                own += b[r] * b[s] * aa[r * rank + s];
        }
        double square = squares[i] + 2 * scale * cross + scale * scale * own;
        if (!(square > CANCELLED * (squares[i] + scale * scale * own)))
            square = direct(m, first + i, e);
        divide(m, first + i, square);
    }
}

static void dimension_work(void *context, int worker, int n_workers)
{
    struct embedding *m = context;
    float *e = m->rows + worker * (m->e->n_in + m->b->rank);
    double *sums = m->sums + worker * m->b->rank * (DIMENSIONS + m->b->rank);
    int64_t begin, end;
    pool_split(m->end - m->begin, 1, worker, n_workers, &begin, &end);
    for (int64_t d = m->begin + begin; d < m->begin + end; d += DIMENSIONS) {
        int64_t left = m->begin + end - d;
        dimensions(m, d, left < DIMENSIONS ? left : DIMENSIONS, e, sums);
    }
}

/* ---- both --------------------------------------------------------------------------------- */

static void load_b(struct embedding *m)
{
    const struct matrix *tiles = &m->b->lowrank.b;
    int64_t rank = m->b->rank;
    for (int64_t row = 0; row < tiles->n_out; row++) {
        float tile[LOWRANK_TILE];
        m->kernels->dequantize[tiles->type](tiles, row, 0, LOWRANK_TILE, tile);
        int64_t first = row / rank * LOWRANK_TILE;
        for (int64_t i = 0; i < LOWRANK_TILE && first + i < m->b->n_out; i++)
            m->factor_b[(first + i) * rank + row % rank] = (double)tile[i];
    }
}

static void run(struct embedding *m, struct pool *pool)
{
    bool by_token = m->b->by_token;
    int64_t n = by_token ? m->e->n_out : m->e->n_in, workers = pool_threads(pool);
    int64_t each = by_token ? REGION_MULTIPLIES / (m->e->n_in * m->b->rank) + 1
                            : DIMENSIONS * workers; /* one pass over the vocabulary */
    load_b(m);
    for (m->begin = 0; m->begin < n; m->begin = m->end) {
        m->end = m->begin + each < n ? m->begin + each : n;
        pool_run(pool, by_token ? token_work : dimension_work, m);
    }
}

graft_status build_embed_gain(struct adapter *adapter, struct build *b, graft_error *error)
{
    struct mem *mem = adapter->mem;
    struct pool *pool = adapter->model->runtime->pool;
    size_t workers = (size_t)pool_threads(pool), rank = (size_t)b->rank, width = (size_t)b->n_out;
    struct embedding m = {.kernels = adapter->model->runtime->kernels,
                          .e = &adapter->model->embed,
                          .b = b,
                          .magnitude = b->by_token ? b->token_gain : (float *)b->lowrank.gain};
    graft_status status = GRAFT_OK;
    atomic_store(&m.bad, -1);
    m.factor_b = mem_calloc(mem, width * rank, sizeof *m.factor_b);
    m.rows = mem_calloc(mem, workers * (width + rank), sizeof *m.rows);
    m.sums = mem_calloc(mem, workers * rank * (DIMENSIONS + rank), sizeof *m.sums);
    if (m.factor_b && m.rows && m.sums)
        run(&m, pool);
    else
        status = error_set(error, GRAFT_NO_MEMORY, "no memory for the norms of an embedding");
    long long bad = atomic_load(&m.bad);
    if (status == GRAFT_OK && bad >= 0)
        status = tensor_refused(b->from_magnitude, GRAFT_NUMERIC, error,
                                "%s %lld of the changed embedding is zero, so its magnitude has no "
                                "direction to scale",
                                b->by_token ? "row" : "column", bad);
    mem_free(mem, m.factor_b);
    mem_free(mem, m.rows);
    mem_free(mem, m.sums);
    return status;
}
