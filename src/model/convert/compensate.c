/* compensate.c: rounding that makes up, in the blocks to come, for what the blocks before erred.
 *
 * Rounding to nearest spreads its error over all directions alike. The adapter speaks through few of them, the
 * span of its basis (A), so the error is steered out of these: with P an orthonormal basis of the span, row by
 * row min ‖e‖² + λ ‖P e‖² over what a type can hold. Blocks are taken from left to right; the part c = Σ P e of
 * the blocks that are done is given to the columns of the block and the WINDOW behind it as
 *   x̃ = x − λ Pᵀ (I + λ P_w P_wᵀ)⁻¹ c,
 * the best that columns not yet rounded could do, and the block rounds x̃ in its own way. This is GPTQ (Frantar
 * et al. 2022, arXiv:2210.17323) by blocks with H = I + λ PᵀP, which needs no data. The matrix before c is the
 * same for all rows.
 */
#include "convert_internal.h"

#include <math.h>
#include <stdlib.h>

static const double LAMBDA = 100;
enum { WINDOW = 3 };

struct compensation {
    struct mem *mem;
    int64_t rank, n_in, block;
    double *p;     /* [rank, n_in] orthonormal */
    double *gains; /* [n_in, rank]: λ P_bᵀ (I + λ P_w P_wᵀ)⁻¹ of each block */
};

/* ---- the span ----------------------------------------------------------------------------- */

static double dot(const double *a, const double *b, int64_t n)
{
    double sum = 0;
    for (int64_t i = 0; i < n; i++)
        sum += a[i] * b[i];
    return sum;
}

/* Gram-Schmidt, each row twice; rows that add nothing are left out. */
static void orthonormalise(struct compensation *c, const float *basis, int64_t rank)
{
    for (int64_t r = 0; r < rank && c->rank < c->n_in; r++) {
        double *row = c->p + c->rank * c->n_in, before, after;
        for (int64_t k = 0; k < c->n_in; k++)
            row[k] = (double)basis[r * c->n_in + k];
        before = dot(row, row, c->n_in);
        for (int pass = 0; pass < 2; pass++)
            for (int64_t s = 0; s < c->rank; s++) {
                const double *other = c->p + s * c->n_in;
                double along = dot(row, other, c->n_in);
                for (int64_t k = 0; k < c->n_in; k++)
                    row[k] -= along * other[k];
            }
        after = dot(row, row, c->n_in);
        if (!(after > 1e-12 * before))
            continue;
        for (int64_t k = 0; k < c->n_in; k++)
            row[k] /= sqrt(after);
        c->rank++;
    }
}

/* ---- the gains ---------------------------------------------------------------------------- */

/* h [n, n] = I + λ P_w P_wᵀ of the columns begin..end, as its Cholesky factor. */
static void factorise(const struct compensation *c, int64_t begin, int64_t end, double *h)
{
    int64_t n = c->rank;
    for (int64_t i = 0; i < n; i++)
        for (int64_t j = 0; j <= i; j++) {
            const double *a = c->p + i * c->n_in + begin, *b = c->p + j * c->n_in + begin;
            h[i * n + j] = LAMBDA * dot(a, b, end - begin) + (i == j);
        }
    for (int64_t i = 0; i < n; i++)
        for (int64_t j = 0; j <= i; j++) {
            double rest = h[i * n + j] - dot(h + i * n, h + j * n, j);
            h[i * n + j] = i == j ? sqrt(rest) : rest / h[j * n + j];
        }
}

/* x = (L Lᵀ)⁻¹ x */
static void solve(const double *l, int64_t n, double *x)
{
    for (int64_t i = 0; i < n; i++)
        x[i] = (x[i] - dot(l + i * n, x, i)) / l[i * n + i];
    for (int64_t i = n - 1; i >= 0; i--) {
        for (int64_t j = i + 1; j < n; j++)
            x[i] -= l[j * n + i] * x[j];
        x[i] /= l[i * n + i];
    }
}

static bool make_gains(struct compensation *c)
{
    double *h = mem_calloc(c->mem, (size_t)(c->rank * c->rank), sizeof *h);
    for (int64_t begin = 0; h && begin < c->n_in; begin += c->block) {
        int64_t end = begin + (1 + WINDOW) * c->block;
        factorise(c, begin, end < c->n_in ? end : c->n_in, h);
        for (int64_t k = begin; k < begin + c->block && k < c->n_in; k++) {
            double *gain = c->gains + k * c->rank;
            for (int64_t r = 0; r < c->rank; r++)
                gain[r] = LAMBDA * c->p[r * c->n_in + k];
            solve(h, c->rank, gain);
        }
    }
    mem_free(c->mem, h);
    return h != NULL;
}

graft_status compensation_open(struct mem *mem, const float *basis, int64_t rank,
                               const struct matrix *to, struct compensation **out,
                               graft_error *error)
{
    struct compensation *c = mem_calloc(mem, 1, sizeof *c);
    bool ok = c != NULL;
    if (ok) {
        size_t cells = (size_t)rank * (size_t)to->n_in + 1;
        *c = (struct compensation){.mem = mem, .n_in = to->n_in};
        c->block = to->group ? to->group : type_traits(to->type)->block_values;
        c->p = mem_calloc(mem, cells, sizeof *c->p);
        c->gains = mem_calloc(mem, cells, sizeof *c->gains);
        ok = c->p && c->gains;
    }
    if (ok) {
        orthonormalise(c, basis, rank);
        ok = c->rank == 0 || make_gains(c);
    }
    if (ok)
        *out = c;
    else
        compensation_close(&c);
    return ok ? GRAFT_OK : error_set(error, GRAFT_NO_MEMORY, "no memory for compensation");
}

void compensation_close(struct compensation **compensation)
{
    struct compensation *c = *compensation;
    *compensation = NULL;
    if (!c)
        return;
    mem_free(c->mem, c->p);
    mem_free(c->mem, c->gains);
    mem_free(c->mem, c);
}

/* ---- rows --------------------------------------------------------------------------------- */

size_t compensation_scratch(const struct compensation *c)
{
    return (size_t)c->rank * sizeof(double) + 2 * (size_t)c->block * sizeof(float);
}

bool compensation_row(const struct compensation *c, const struct kernels *kernels, const float *x,
                      const struct matrix *to, int64_t at, void *scratch)
{
    double *owed = scratch; /* [rank] P e of the blocks that are done */
    float *want = (float *)(void *)(owed + c->rank), *got = want + c->block;
    memset(owed, 0, (size_t)c->rank * sizeof *owed);
    for (int64_t begin = 0; begin < c->n_in; begin += c->block) {
        for (int64_t k = 0; k < c->block; k++)
            want[k] = (float)((double)x[begin + k] -
                              dot(c->gains + (begin + k) * c->rank, owed, c->rank));
        if (!store_part(to, at, begin, c->block, want))
            return false;
        kernels->dequantize[to->type](to, at, begin, c->block, got);
        for (int64_t k = 0; k < c->block; k++)
            want[k] = got[k] - x[begin + k];
        for (int64_t r = 0; r < c->rank; r++)
            for (int64_t k = 0; k < c->block; k++)
                owed[r] += c->p[r * c->n_in + begin + k] * (double)want[k];
    }
    return true;
}
