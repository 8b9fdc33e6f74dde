/* leading.c: the leading singular directions of a matrix of floats, by subspace iteration (Halko, Martinsson and Tropp
 * 2011, section 4.5): from random columns V, again and again V = orth(Lᵀ orth(L V)), then the best `rank` directions
 * within V by the eigenvectors of the small matrix (L V)ᵀ(L V). All in double; threads split outputs.
 */
#include "adapter/leading.h"

#include <math.h>

enum { SPARE = 8, PASSES = 6, SWEEPS = 60 };

struct product {
    const float *l; /* [n_out, n_in] */
    int64_t n_out, n_in, k;
    double *y; /* [n_out, k] = L V */
    double *v; /* [n_in, k] */
};

static void times_v(void *context, int worker, int n_workers)
{
    struct product *p = context;
    int64_t begin, end;
    pool_split(p->n_out, 1, worker, n_workers, &begin, &end);
    for (int64_t o = begin; o < end; o++) {
        double *y = p->y + o * p->k;
        memset(y, 0, (size_t)p->k * sizeof *y);
        for (int64_t i = 0; i < p->n_in; i++)
            for (int64_t c = 0; c < p->k; c++)
                y[c] += (double)p->l[o * p->n_in + i] * p->v[i * p->k + c];
    }
}

/* v = Lᵀ y; a worker has columns of L, and so rows of v. */
static void times_y(void *context, int worker, int n_workers)
{
    struct product *p = context;
    int64_t begin, end;
    pool_split(p->n_in, 1, worker, n_workers, &begin, &end);
    memset(p->v + begin * p->k, 0, (size_t)((end - begin) * p->k) * sizeof *p->v);
    for (int64_t o = 0; o < p->n_out; o++)
        for (int64_t i = begin; i < end; i++)
            for (int64_t c = 0; c < p->k; c++)
                p->v[i * p->k + c] += (double)p->l[o * p->n_in + i] * p->y[o * p->k + c];
}

/* Columns of x [n, k] by Gram-Schmidt, twice; one that is nothing but the others becomes zero. */
static void orthonormalise(double *x, int64_t n, int64_t k)
{
    for (int64_t c = 0; c < k; c++) {
        double before = 0, after = 0;
        for (int64_t i = 0; i < n; i++)
            before += x[i * k + c] * x[i * k + c];
        for (int pass = 0; pass < 2; pass++)
            for (int64_t d = 0; d < c; d++) {
                double along = 0;
                for (int64_t i = 0; i < n; i++)
                    along += x[i * k + c] * x[i * k + d];
                for (int64_t i = 0; i < n; i++)
                    x[i * k + c] -= along * x[i * k + d];
            }
        for (int64_t i = 0; i < n; i++)
            after += x[i * k + c] * x[i * k + c];
        double scale = after > 1e-24 * before ? 1 / sqrt(after) : 0;
        for (int64_t i = 0; i < n; i++)
            x[i * k + c] *= scale;
    }
}

/* Turns the columns a and b of x [n, k]. */
static void turn(double *x, int64_t n, int64_t k, int64_t a, int64_t b, double c, double s)
{
    for (int64_t i = 0; i < n; i++) {
        double xa = x[i * k + a], xb = x[i * k + b];
        x[i * k + a] = c * xa - s * xb;
        x[i * k + b] = s * xa + c * xb;
    }
}

/* One-sided Jacobi: makes the columns of y orthogonal and turns those of v along. */
static void separate(struct product *p)
{
    for (int sweep = 0; sweep < SWEEPS; sweep++) {
        double worst = 0;
        for (int64_t a = 0; a < p->k; a++)
            for (int64_t b = a + 1; b < p->k; b++) {
                double aa = 0, bb = 0, ab = 0;
                for (int64_t o = 0; o < p->n_out; o++) {
                    double ya = p->y[o * p->k + a], yb = p->y[o * p->k + b];
                    aa += ya * ya;
                    bb += yb * yb;
                    ab += ya * yb;
                }
                double off = aa * bb > 0 ? fabs(ab) / sqrt(aa * bb) : 0;
                worst = off > worst ? off : worst;
                if (off < 1e-12)
                    continue;
                double zeta = (bb - aa) / (2 * ab);
                double t = copysign(1, zeta) / (fabs(zeta) + sqrt(1 + zeta * zeta));
                double c = 1 / sqrt(1 + t * t);
                turn(p->y, p->n_out, p->k, a, b, c, c * t);
                turn(p->v, p->n_in, p->k, a, b, c, c * t);
            }
        if (worst < 1e-10)
            return;
    }
}

static double square(const struct product *p, int64_t column)
{
    double sum = 0;
    for (int64_t o = 0; o < p->n_out; o++)
        sum += p->y[o * p->k + column] * p->y[o * p->k + column];
    return sum;
}

/* The `rank` longest columns of y, and those of v that belong to them. */
static double take(const struct product *p, int64_t rank, float *a, float *b)
{
    double total = 0;
    for (int64_t r = 0; r < rank; r++) {
        int64_t best = 0;
        double most = -1;
        for (int64_t c = 0; c < p->k; c++) {
            double s = square(p, c);
            if (s > most) {
                most = s;
                best = c;
            }
        }
        for (int64_t i = 0; i < p->n_in; i++)
            a[r * p->n_in + i] = (float)p->v[i * p->k + best];
        for (int64_t o = 0; o < p->n_out; o++) {
            b[o * rank + r] = (float)p->y[o * p->k + best];
            p->y[o * p->k + best] = 0;
        }
        total += most;
    }
    return total;
}

graft_status leading_directions(const graft_runtime *runtime, const float *l, int64_t n_out,
                                int64_t n_in, int64_t rank, float *a, float *b, double *energy,
                                graft_error *error)
{
    struct mem *mem = (struct mem *)(uintptr_t)&runtime->mem;
    int64_t least = n_out < n_in ? n_out : n_in;
    struct product p = {.l = l, .n_out = n_out, .n_in = n_in};
    struct rng rng;
    p.k = rank + SPARE < least ? rank + SPARE : least;
    p.y = mem_calloc(mem, (size_t)(n_out * p.k), sizeof *p.y);
    p.v = mem_calloc(mem, (size_t)(n_in * p.k), sizeof *p.v);
    graft_status status =
        p.y && p.v
            ? GRAFT_OK
            : error_set(error, GRAFT_NO_MEMORY, "no memory for the leading directions of a matrix");
    rng_init(&rng, 1, (uint64_t)n_in);
    for (int64_t i = 0; i < n_in * p.k && status == GRAFT_OK; i++)
        p.v[i] = rng_uniform(&rng) - 0.5;
    for (int pass = 0; pass <= PASSES && status == GRAFT_OK; pass++) {
        orthonormalise(p.v, n_in, p.k);
        pool_run(runtime->pool, times_v, &p);
        if (pass == PASSES)
            break;
        orthonormalise(p.y, n_out, p.k);
        pool_run(runtime->pool, times_y, &p);
    }
    if (status == GRAFT_OK) {
        separate(&p);
        *energy = take(&p, rank, a, b);
    }
    mem_free(mem, p.y);
    mem_free(mem, p.v);
    return status;
}
