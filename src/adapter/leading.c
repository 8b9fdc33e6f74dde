/* leading.c: the leading singular directions of a matrix of floats, by subspace iteration (Halko, Martinsson and Tropp
 * 2011, section 4.5): from random rows V, again and again V = orth(orth(V Lᵀ) L), then the best `rank` directions
 * within V by the eigenvectors of the small matrix (V Lᵀ)(V Lᵀ)ᵀ. Products with L are those of prefill and training,
 * what is small is done in double; threads split outputs.
 *
 * L passes by in slabs of rows. Where one holds all of it, it is asked for once.
 */
#include "adapter/leading.h"
#include "adapter/algebra.h"

#include <math.h>

enum { SPARE = 16, PASSES = 6, GRAIN = 16 };

struct iteration {
    const graft_runtime *runtime;
    struct mem *mem;
    const struct leading_source *l;
    int64_t k;         /* rows of v and y */
    int64_t slab_rows; /* at most */
    float *slab;       /* [slab_rows, n_in], unless L is at hand */
    float *v;          /* [k, n_in] */
    float *y;          /* [k, n_out] */
    float *part;       /* [k, slab_rows] */
    uint8_t *scratch;  /* [n_workers, scratch_bytes] */
    size_t scratch_bytes;
    bool loaded; /* the slab holds all of L */
    /* The slab at hand: */
    struct matrix w;
    int64_t first;
    const float *input;
    float *output;
};

/* ---- L, slab by slab ---------------------------------------------------------------------- */

static graft_status load(struct iteration *it, int64_t first, graft_error *error)
{
    const struct leading_source *l = it->l;
    int64_t n = l->n_out - first < it->slab_rows ? l->n_out - first : it->slab_rows;
    const float *rows = l->at_hand ? l->at_hand + first * l->n_in : it->slab;
    graft_status status = GRAFT_OK;
    if (!l->at_hand && !it->loaded)
        status = l->rows(l->user, first, n, it->slab, error);
    it->loaded = it->slab_rows >= l->n_out;
    it->first = first;
    it->w = (struct matrix){.type = GRAFT_TYPE_F32,
                            .n_out = n,
                            .n_in = l->n_in,
                            .data = rows,
                            .row_bytes = (size_t)l->n_in * sizeof *rows};
    return status;
}

/* y = v Lᵀ for the outputs of the slab. */
static void times_rows(void *context, int worker, int n_workers)
{
    const struct iteration *it = context;
    const struct kernels *k = it->runtime->kernels;
    int64_t begin, end;
    pool_split(it->w.n_out, GRAIN, worker, n_workers, &begin, &end);
    if (begin < end)
        k->linear_prefill(k, &it->w, it->v, (int)it->k, begin, end, it->y + it->first, it->l->n_out,
                          it->scratch + (size_t)worker * it->scratch_bytes);
}

/* v += y L for the outputs of the slab, which are in `part`. */
static void times_columns(void *context, int worker, int n_workers)
{
    const struct iteration *it = context;
    const struct kernels *k = it->runtime->kernels;
    struct transposed_args args = {.w = &it->w,
                                   .dy = it->part,
                                   .n_tok = (int)it->k,
                                   .dx = it->v,
                                   .dx_stride = it->l->n_in,
                                   .accumulate = it->first > 0,
                                   .scratch = it->scratch + (size_t)worker * it->scratch_bytes};
    pool_split(it->w.n_in, transposed_grain(&it->w), worker, n_workers, &args.i_begin, &args.i_end);
    if (args.i_begin < args.i_end)
        k->linear_transposed(k, &args);
}

static graft_status to_outputs(struct iteration *it, graft_error *error)
{
    graft_status status = GRAFT_OK;
    for (int64_t o = 0; o < it->l->n_out && status == GRAFT_OK; o += it->slab_rows) {
        status = load(it, o, error);
        if (status == GRAFT_OK)
            pool_run(it->runtime->pool, times_rows, it);
    }
    return status;
}

static graft_status to_inputs(struct iteration *it, graft_error *error)
{
    graft_status status = GRAFT_OK;
    for (int64_t o = 0; o < it->l->n_out && status == GRAFT_OK; o += it->slab_rows) {
        status = load(it, o, error);
        for (int64_t r = 0; r < it->k && status == GRAFT_OK; r++)
            memcpy(it->part + r * it->w.n_out, it->y + r * it->l->n_out + o,
                   (size_t)it->w.n_out * sizeof *it->part);
        if (status == GRAFT_OK)
            pool_run(it->runtime->pool, times_columns, it);
    }
    return status;
}

static graft_status square_of(struct iteration *it, double *out, graft_error *error)
{
    const struct kernels *k = it->runtime->kernels;
    graft_status status = GRAFT_OK;
    *out = 0;
    for (int64_t o = 0; o < it->l->n_out && status == GRAFT_OK; o += it->slab_rows) {
        status = load(it, o, error);
        for (int64_t row = 0; row < it->w.n_out && status == GRAFT_OK; row++)
            *out += k->sum_squares((const float *)it->w.data + row * it->l->n_in, it->l->n_in);
    }
    return status;
}

/* ---- iteration ---------------------------------------------------------------------------- */

static void fill_random(struct iteration *it)
{
    uint32_t words[4];
    const int64_t n = it->k * it->l->n_in;
    for (int64_t i = 0; i < n; i += 4) {
        rng_block(1, (uint64_t)it->l->n_in, (uint64_t)i, words);
        for (int64_t j = i; j < i + 4 && j < n; j++)
            it->v[j] = (float)(int32_t)words[j - i];
    }
}

/* The directions within v that L says most of, and what it makes of them. */
static graft_status separate(struct iteration *it, int64_t rank, float *a, float *b, double *kept,
                             graft_error *error)
{
    const int64_t k = it->k, n_out = it->l->n_out, n_in = it->l->n_in;
    const int64_t found = rank < k ? rank : k;
    double *g = mem_calloc(it->mem, (size_t)(2 * k * k + 4 * k) + 1, sizeof *g);
    float *rows = mem_alloc(it->mem, (size_t)(rank * n_out) * sizeof *rows);
    graft_status status =
        g && rows ? GRAFT_OK
                  : error_set(error, GRAFT_NO_MEMORY, "no memory for singular directions");
    *kept = 0;
    if (status == GRAFT_OK) {
        const struct tall v = {it->v, k, n_in}, y = {it->y, k, n_out};
        double *vectors = g + k * k, *values = vectors + k * k;
        tall_gram(it->runtime->pool, &y, &y, g);
        eigen_symmetric(g, k, values, vectors, values + k);
        memset(a, 0, (size_t)(rank * n_in) * sizeof *a);
        memset(b, 0, (size_t)(rank * n_out) * sizeof *b);
        tall_mix(it->runtime->pool, vectors, found, &v, a);
        tall_mix(it->runtime->pool, vectors, found, &y, rows);
        for (int64_t r = 0; r < found; r++) {
            *kept += fmax(values[r], 0);
            for (int64_t o = 0; o < n_out; o++)
                b[o * rank + r] = rows[r * n_out + o];
        }
    }
    mem_free(it->mem, rows);
    mem_free(it->mem, g);
    return status;
}

static graft_status iterate(struct iteration *it, graft_error *error)
{
    struct pool *pool = it->runtime->pool;
    fill_random(it);
    graft_status status =
        tall_orthonormalise(it->mem, pool, it->v, it->k, it->l->n_in, &it->k, error);
    for (int pass = 0; pass <= PASSES && status == GRAFT_OK && it->k > 0; pass++) {
        status = to_outputs(it, error);
        if (status != GRAFT_OK || pass == PASSES)
            break;
        status = tall_orthonormalise(it->mem, pool, it->y, it->k, it->l->n_out, &it->k, error);
        if (status == GRAFT_OK)
            status = to_inputs(it, error);
        if (status == GRAFT_OK)
            status = tall_orthonormalise(it->mem, pool, it->v, it->k, it->l->n_in, &it->k, error);
    }
    return status;
}

static graft_status allocate(struct iteration *it, int64_t rank, graft_error *error)
{
    const struct leading_source *l = it->l;
    const int64_t least = l->n_out < l->n_in ? l->n_out : l->n_in;
    const int64_t fits = LEADING_BYTES / (l->n_in * (int64_t)sizeof(float));
    it->k = rank + SPARE < least ? rank + SPARE : least;
    it->slab_rows = l->at_hand || fits > l->n_out ? l->n_out : fits > 0 ? fits : 1;
    it->scratch_bytes = prefill_scratch_bytes(l->n_in > l->n_out ? l->n_in : l->n_out);
    it->scratch = mem_alloc(it->mem, (size_t)pool_threads(it->runtime->pool) * it->scratch_bytes);
    it->v = mem_calloc(it->mem, (size_t)(it->k * l->n_in), sizeof *it->v);
    it->y = mem_calloc(it->mem, (size_t)(it->k * l->n_out), sizeof *it->y);
    it->part = mem_calloc(it->mem, (size_t)(it->k * it->slab_rows), sizeof *it->part);
    if (!l->at_hand)
        it->slab = mem_alloc(it->mem, (size_t)(it->slab_rows * l->n_in) * sizeof *it->slab);
    return it->scratch && it->v && it->y && it->part && (l->at_hand || it->slab)
               ? GRAFT_OK
               : error_set(error, GRAFT_NO_MEMORY,
                           "no memory for the leading directions of a matrix");
}

graft_status leading_directions(const graft_runtime *runtime, const struct leading_source *l,
                                int64_t rank, float *a, float *b, double *all, double *kept,
                                graft_error *error)
{
    struct iteration it = {
        .runtime = runtime, .mem = (struct mem *)(uintptr_t)&runtime->mem, .l = l};
    graft_status status = allocate(&it, rank, error);
    if (status == GRAFT_OK && all)
        status = square_of(&it, all, error);
    if (status == GRAFT_OK)
        status = iterate(&it, error);
    if (status == GRAFT_OK)
        status = separate(&it, rank, a, b, kept, error);
    mem_free(it.mem, it.scratch);
    mem_free(it.mem, it.slab);
    mem_free(it.mem, it.v);
    mem_free(it.mem, it.y);
    mem_free(it.mem, it.part);
    return status;
}
