/* dora.c: the gains of DoRA, m / ‖W + s B A‖ by row, for factors as they are held.
 *
 * B A is never made: ‖w + s b A‖² = ‖w‖² + 2 s (w Aᵀ)·b + s² b (A Aᵀ) bᵀ, which is about as much work as
 * `rank` tokens, in double. Where that cancels nearly to nothing the row is computed after all. Rows are shared
 * out in regions short enough that sessions on the same pool hardly notice.
 */
#include "adapter/adapter_internal.h"

#include <math.h>

enum { LANES = 8, REGION_MULTIPLIES = 1 << 25 };
static const double CANCELLED =
    1e-9; /* of the terms: from here on the sum of three is mostly rounding */

struct norms {
    const struct kernels *kernels;
    const struct matrix *w;
    struct lowrank *l;
    int64_t rank, lanes; /* rank rounded up to LANES */
    double *a;           /* [n_in, lanes] */
    double *aa;          /* [rank, rank]: A Aᵀ */
    float *rows;         /* [n_workers, n_in] */
    double *sums;        /* [n_workers, 2 · lanes]: w Aᵀ; b */
    int64_t begin, end;
    float *magnitude; /* [n_out]: becomes the gain */
    atomic_llong bad_row;
};

static void load_a(struct norms *n)
{
    const struct matrix *a = &n->l->a;
    for (int64_t r = 0; r < n->rank; r++) {
        n->kernels->dequantize[a->type](a, r, 0, a->n_in, n->rows);
        for (int64_t i = 0; i < a->n_in; i++)
            n->a[i * n->lanes + r] = (double)n->rows[i];
    }
    for (int64_t i = 0; i < a->n_in; i++)
        for (int64_t r = 0; r < n->rank; r++)
            for (int64_t s = 0; s < n->rank; s++)
                n->aa[r * n->rank + s] += n->a[i * n->lanes + r] * n->a[i * n->lanes + s];
}

/* sums = w Aᵀ; returns ‖w‖². Lanes are independent sums, so the compiler may use vectors. */
static double project(const struct norms *n, const float *w, double *sums)
{
    double square = 0;
    int64_t n_in = n->w->n_in;
    for (int64_t i = 0; i < n_in; i++)
        square += (double)w[i] * (double)w[i];
    for (int64_t lane = 0; lane < n->lanes; lane += LANES) {
        double sum[LANES] = {0};
        const double *a = n->a + lane;
        for (int64_t i = 0; i < n_in; i++, a += n->lanes)
            for (int j = 0; j < LANES; j++)
                sum[j] += (double)w[i] * a[j];
        memcpy(sums + lane, sum, sizeof sum);
    }
    return square;
}

/* ‖w + s b A‖², term by term. */
static double direct(const struct norms *n, const float *w, const double *b)
{
    double total = 0, scale = (double)n->l->scale;
    for (int64_t i = 0; i < n->w->n_in; i++) {
        double sum = 0;
        for (int64_t r = 0; r < n->rank; r++)
            sum += b[r] * n->a[i * n->lanes + r];
        sum = (double)w[i] + scale * sum;
        total += sum * sum;
    }
    return total;
}

static double row_norm(const struct norms *n, int64_t row, float *w, double *sums)
{
    const struct matrix *tiles = &n->l->b;
    double *b = sums + n->lanes, scale = (double)n->l->scale, cross = 0, own = 0;
    n->kernels->dequantize[n->w->type](n->w, row, 0, n->w->n_in, w);
    double square = project(n, w, sums);
    for (int64_t r = 0; r < n->rank; r++) {
        float tile[LOWRANK_TILE];
        n->kernels->dequantize[tiles->type](tiles, row / LOWRANK_TILE * n->rank + r, 0,
                                            LOWRANK_TILE, tile);
        b[r] = (double)tile[row % LOWRANK_TILE];
        cross += sums[r] * b[r];
    }
    for (int64_t r = 0; r < n->rank; r++)
        for (int64_t s = 0; s < n->rank; s++)
            own += b[r] * b[s] * n->aa[r * n->rank + s];
    double norm = square + 2 * scale * cross + scale * scale * own;
    if (!(norm > CANCELLED * (square + scale * scale * own)))
        norm = direct(n, w, b);
    return sqrt(norm);
}

static void note_bad_row(atomic_llong *bad, long long row)
{
    long long seen = atomic_load(bad);
    while ((seen < 0 || row < seen) && !atomic_compare_exchange_weak(bad, &seen, row)) {
    }
}

static void norm_work(void *context, int worker, int n_workers)
{
    struct norms *n = context;
    int64_t begin, end;
    pool_split(n->end - n->begin, 1, worker, n_workers, &begin, &end);
    float *w = n->rows + worker * n->w->n_in;
    double *sums = n->sums + worker * 2 * n->lanes;
    for (int64_t row = n->begin + begin; row < n->begin + end; row++) {
        float gain = (float)((double)n->magnitude[row] / row_norm(n, row, w, sums));
        if (isfinite(gain))
            n->magnitude[row] = gain;
        else
            note_bad_row(&n->bad_row, row);
    }
}

static graft_status make_gain(struct adapter *adapter, struct build *b, graft_error *error)
{
    struct pool *pool = adapter->model->runtime->pool;
    struct mem *mem = adapter->mem;
    size_t workers = (size_t)pool_threads(pool), n_in = (size_t)b->n_in;
    struct norms n = {.kernels = adapter->model->runtime->kernels,
                      .w = model_site_weight(adapter->model, b->site),
                      .l = &b->lowrank,
                      .rank = b->rank,
                      .lanes = (b->rank + LANES - 1) / LANES * LANES,
                      .magnitude = (float *)b->lowrank.gain};
    size_t lanes = (size_t)n.lanes, rank = (size_t)n.rank;
    atomic_store(&n.bad_row, -1);
    n.a = mem_calloc(mem, n_in, lanes * sizeof(double));
    n.aa = mem_calloc(mem, rank * rank, sizeof(double));
    n.rows = mem_calloc(mem, workers * n_in, sizeof(float));
    n.sums = mem_calloc(mem, workers * 2 * lanes, sizeof(double));
    graft_status status = n.a && n.aa && n.rows && n.sums
                              ? GRAFT_OK
                              : error_set(error, GRAFT_NO_MEMORY, "no memory for row norms");
    if (status == GRAFT_OK) {
        int64_t each = REGION_MULTIPLIES / (b->n_in * n.lanes) + 1;
        load_a(&n);
        for (n.begin = 0; n.begin < b->n_out; n.begin = n.end) {
            n.end = n.begin + each < b->n_out ? n.begin + each : b->n_out;
            pool_run(pool, norm_work, &n);
        }
        long long row = atomic_load(&n.bad_row);
        if (row >= 0)
            status = tensor_refused(b->from_magnitude, GRAFT_NUMERIC, error,
                                    "row %lld of W + s B A is zero, so its magnitude has no "
                                    "direction to scale",
                                    row);
    }
    mem_free(mem, n.a);
    mem_free(mem, n.aa);
    mem_free(mem, n.rows);
    mem_free(mem, n.sums);
    return status;
}

graft_status build_gains(struct adapter *adapter, graft_error *error)
{
    graft_status status = GRAFT_OK;
    for (int i = 0; i < adapter->n_builds && status == GRAFT_OK; i++)
        if (adapter->builds[i].from_magnitude)
            status = adapter->builds[i].site == EMBED_SITE
                         ? build_embed_gain(adapter, &adapter->builds[i], error)
                         : make_gain(adapter, &adapter->builds[i], error);
    return status;
}
