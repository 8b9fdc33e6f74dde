/* algebra.c: Gram matrices and mixtures of tall factors, Cholesky's and the spectral decomposition of small matrices.
 *
 * Sums over the long side go through chunks that stay in the first cache, each in LANES partial sums that a compiler can
 * keep in vectors; their order is fixed by n alone. Threads share out rows of results, or columns where each is its own sum.
 */
#include "adapter/algebra.h"

#include <float.h>
#include <math.h>

enum { LANES = 8, CHUNK = 512, COLUMNS = 128, MAX_TURNS = 60 };

/* ---- tall --------------------------------------------------------------------------------- */

struct gram {
    const struct tall *x, *y;
    double *out;
    bool symmetric;
};

/* x · y_j for four rows y_j, `stride` apart. */
static void add_dots(const float *x, const float *y, int64_t stride, int64_t n, double out[4])
{
    double sum[4][LANES] = {{0}};
    int64_t i = 0;
    for (; i + LANES <= n; i += LANES)
        for (int lane = 0; lane < LANES; lane++) {
            double value = (double)x[i + lane];
            sum[0][lane] += value * (double)y[i + lane];
            sum[1][lane] += value * (double)y[stride + i + lane];
            sum[2][lane] += value * (double)y[2 * stride + i + lane];
            sum[3][lane] += value * (double)y[3 * stride + i + lane];
        }
    for (; i < n; i++)
        for (int j = 0; j < 4; j++)
            sum[j][0] += (double)x[i] * (double)y[j * stride + i];
    for (int j = 0; j < 4; j++)
        for (int lane = 0; lane < LANES; lane++)
            out[j] += sum[j][lane];
}

static double dot(const float *x, const float *y, int64_t n)
{
    double sum[LANES] = {0}, total = 0;
    int64_t i = 0;
    for (; i + LANES <= n; i += LANES)
        for (int lane = 0; lane < LANES; lane++)
            sum[lane] += (double)x[i + lane] * (double)y[i + lane];
    for (; i < n; i++)
        sum[0] += (double)x[i] * (double)y[i];
    for (int lane = 0; lane < LANES; lane++)
        total += sum[lane];
    return total;
}

/* Every n_workers-th row: where only half of each is computed, shares are as long as each other. */
static void gram_share(void *context, int worker, int n_workers)
{
    const struct gram *g = context;
    const int64_t n = g->x->n, ky = g->y->k;
    for (int64_t r = worker; r < g->x->k; r += n_workers)
        memset(g->out + r * ky, 0, (size_t)ky * sizeof *g->out);
    for (int64_t i = 0; i < n; i += CHUNK) {
        const int64_t some = n - i < CHUNK ? n - i : CHUNK;
        for (int64_t r = worker; r < g->x->k; r += n_workers) {
            const float *x = g->x->x + r * n + i, *y = g->y->x + i;
            const int64_t end = g->symmetric ? r + 1 : ky;
            double *out = g->out + r * ky;
            int64_t s = 0;
            for (; s + 4 <= end; s += 4)
                add_dots(x, y + s * n, n, some, out + s);
            for (; s < end; s++)
                out[s] += dot(x, y + s * n, some);
        }
    }
}

void tall_gram(struct pool *pool, const struct tall *x, const struct tall *y, double *out)
{
    struct gram g = {x, y, out, x->x == y->x && x->k == y->k};
    pool_run(pool, gram_share, &g);
    for (int64_t r = 0; g.symmetric && r < x->k; r++)
        for (int64_t s = 0; s < r; s++)
            out[s * x->k + r] = out[r * x->k + s];
}

struct mixing {
    const double *t; /* [m, k] */
    int64_t m;
    const struct tall *x;
    float *out;
};

static void mix_share(void *context, int worker, int n_workers)
{
    const struct mixing *mix = context;
    const int64_t k = mix->x->k, n = mix->x->n;
    int64_t begin, end;
    pool_split(n, COLUMNS, worker, n_workers, &begin, &end);
    for (int64_t i = begin; i < end; i += COLUMNS) {
        const int64_t some = end - i < COLUMNS ? end - i : COLUMNS;
        for (int64_t j = 0; j < mix->m; j++) {
            double sum[COLUMNS] = {0};
            for (int64_t r = 0; r < k; r++) {
                const double t = mix->t[j * k + r];
                const float *x = mix->x->x + r * n + i;
                for (int64_t c = 0; t != 0 && some == COLUMNS && c < COLUMNS; c++)
                    sum[c] += t * (double)x[c];
                for (int64_t c = 0; t != 0 && some < COLUMNS && c < some; c++)
                    sum[c] += t * (double)x[c];
            }
            for (int64_t c = 0; c < some; c++)
                mix->out[j * n + i + c] = (float)sum[c];
        }
    }
}

void tall_mix(struct pool *pool, const double *t, int64_t m, const struct tall *x, float *out)
{
    struct mixing mix = {t, m, x, out};
    pool_run(pool, mix_share, &mix);
}

/* Rows of length 1 first, so that short ones are judged by their direction. */
static void scale_rows(double *g, int64_t k, double *length)
{
    for (int64_t r = 0; r < k; r++)
        length[r] = g[r * k + r] > 0 ? sqrt(g[r * k + r]) : 0;
    for (int64_t r = 0; r < k; r++)
        for (int64_t s = 0; s < k; s++) {
            double both = length[r] * length[s];
            g[r * k + s] = both > 0 ? g[r * k + s] / both : 0;
        }
}

/* t [rank, k] such that T X has orthonormal rows; returns the rank. space: [3 k² + k] */
static int64_t orthonormal_mix(double *g, int64_t k, int64_t *order, double *t, double *space)
{
    double *l = space, *inverse = l + k * k, *length = inverse + k * k;
    scale_rows(g, k, length);
    const int64_t rank = cholesky_pivoted(g, k, order, l);
    invert_lower(l, k, rank, inverse);
    memset(t, 0, (size_t)(k * k) * sizeof *t);
    for (int64_t r = 0; r < rank; r++)
        for (int64_t s = 0; s <= r; s++)
            t[r * k + order[s]] = inverse[r * rank + s] / length[order[s]];
    return rank;
}

static bool is_identity(const double *g, int64_t k)
{
    double off = 0;
    for (int64_t r = 0; r < k; r++)
        for (int64_t s = 0; s < k; s++)
            off = fmax(off, fabs(g[r * k + s] - (r == s)));
    return off < 1e-6;
}

/* Twice where it must be: the square of a small pivot is half rounding, and so is the direction that comes of it; what the
 * first round leaves is far from that (Yamamoto, Nakatsukasa, Yanagisawa and Fukaya 2015). */
graft_status tall_orthonormalise(struct mem *mem, struct pool *pool, float *x, int64_t k, int64_t n,
                                 int64_t *rank, graft_error *error)
{
    const size_t square = (size_t)(k * k);
    double *g = mem_calloc(mem, 4 * square + (size_t)k + 1, sizeof *g);
    int64_t *order = mem_calloc(mem, (size_t)k + 1, sizeof *order);
    float *copy = mem_alloc(mem, (size_t)(k * n) * sizeof *copy);
    graft_status status =
        g && order && copy
            ? GRAFT_OK
            : error_set(error, GRAFT_NO_MEMORY, "no memory for a basis of %lld rows", (long long)k);
    *rank = k;
    for (int round = 0; round < 2 && status == GRAFT_OK; round++) {
        const struct tall rows = {copy, *rank, n};
        memcpy(copy, x, (size_t)(rows.k * n) * sizeof *copy);
        tall_gram(pool, &rows, &rows, g);
        if (is_identity(g, rows.k))
            break;
        *rank = orthonormal_mix(g, rows.k, order, g + square, g + 2 * square);
        tall_mix(pool, g + square, *rank, &rows, x);
    }
    mem_free(mem, g);
    mem_free(mem, order);
    mem_free(mem, copy);
    return status;
}

/* ---- Cholesky ----------------------------------------------------------------------------- */

static void swap_rows(double *g, int64_t n, int64_t a, int64_t b)
{
    for (int64_t i = 0; i < n; i++) {
        double x = g[a * n + i];
        g[a * n + i] = g[b * n + i];
        g[b * n + i] = x;
    }
}

static void swap_both(double *g, int64_t n, int64_t a, int64_t b)
{
    swap_rows(g, n, a, b);
    for (int64_t i = 0; i < n; i++) {
        double x = g[i * n + a];
        g[i * n + a] = g[i * n + b];
        g[i * n + b] = x;
    }
}

int64_t cholesky_pivoted(double *g, int64_t n, int64_t *order, double *l)
{
    double largest = 0;
    memset(l, 0, (size_t)(n * n) * sizeof *l);
    for (int64_t i = 0; i < n; i++) {
        order[i] = i;
        largest = g[i * n + i] > largest ? g[i * n + i] : largest;
    }
    const double noise = 64 * (double)n * DBL_EPSILON * largest;
    for (int64_t m = 0; m < n; m++) {
        int64_t best = m;
        for (int64_t i = m + 1; i < n; i++)
            best = g[i * n + i] > g[best * n + best] ? i : best;
        if (!(g[best * n + best] > noise))
            return m;
        if (best != m) {
            int64_t other = order[m];
            order[m] = order[best];
            order[best] = other;
            swap_both(g, n, m, best);
            swap_rows(l, n, m, best);
        }
        const double pivot = sqrt(g[m * n + m]);
        for (int64_t i = m; i < n; i++)
            l[i * n + m] = g[i * n + m] / pivot;
        for (int64_t i = m + 1; i < n; i++)
            for (int64_t j = m + 1; j < n; j++)
                g[i * n + j] -= l[i * n + m] * l[j * n + m];
    }
    return n;
}

void invert_lower(const double *l, int64_t n, int64_t m, double *t)
{
    memset(t, 0, (size_t)(m * m) * sizeof *t);
    for (int64_t i = 0; i < m; i++) {
        t[i * m + i] = 1;
        for (int64_t j = 0; j < i; j++)
            for (int64_t c = 0; c <= j; c++)
                t[i * m + c] -= l[i * n + j] * t[j * m + c];
        for (int64_t c = 0; c <= i; c++)
            t[i * m + c] /= l[i * n + i];
    }
}

/* ---- spectral decomposition --------------------------------------------------------------- */

/* The part of a below and right of (k, k) under the reflection that takes row k's tail v to its first axis:
 * A − v wᵀ − w vᵀ. */
static void reflect(double *a, int64_t n, int64_t k, double beta, double *w)
{
    const double *v = a + k * n;
    double along = 0;
    for (int64_t i = k + 1; i < n; i++) {
        double sum = 0;
        for (int64_t j = k + 1; j < n; j++)
            sum += a[i * n + j] * v[j];
        w[i] = beta * sum;
        along += w[i] * v[i];
    }
    for (int64_t i = k + 1; i < n; i++)
        w[i] -= beta / 2 * along * v[i];
    for (int64_t i = k + 1; i < n; i++)
        for (int64_t j = k + 1; j < n; j++)
            a[i * n + j] -= v[i] * w[j] + w[i] * v[j];
}

/* d: diagonal, e: beside it. Row k of a keeps the reflection's v behind the diagonal and its factor on it. */
static void tridiagonalise(double *a, int64_t n, double *d, double *e, double *w)
{
    for (int64_t k = 0; k < n; k++) {
        double *row = a + k * n, square = 0;
        d[k] = row[k];
        row[k] = e[k] = 0;
        for (int64_t i = k + 1; i < n; i++)
            square += row[i] * row[i];
        if (!(square > 0))
            continue;
        const double length = row[k + 1] > 0 ? -sqrt(square) : sqrt(square);
        e[k] = length;
        row[k] = 1 / (square - row[k + 1] * length); /* 2 / ‖v‖² */
        row[k + 1] -= length;
        reflect(a, n, k, row[k], w);
    }
}

/* q = the reflections one after the other, transposed. */
static void gather_reflections(const double *a, int64_t n, double *q)
{
    memset(q, 0, (size_t)(n * n) * sizeof *q);
    for (int64_t i = 0; i < n; i++)
        q[i * n + i] = 1;
    for (int64_t k = n - 2; k >= 0; k--) {
        const double *v = a + k * n, beta = v[k];
        for (int64_t i = k + 1; beta != 0 && i < n; i++) {
            double sum = 0;
            for (int64_t j = k + 1; j < n; j++)
                sum += q[i * n + j] * v[j];
            for (int64_t j = k + 1; j < n; j++)
                q[i * n + j] -= beta * sum * v[j];
        }
    }
}

static void turn_rows(double *q, int64_t n, int64_t i, double c, double s)
{
    double *low = q + i * n, *high = low + n;
    for (int64_t j = 0; j < n; j++) {
        double x = low[j], y = high[j];
        low[j] = c * x - s * y;
        high[j] = s * x + c * y;
    }
}

/* One implicit step on the block l..m, with a shift from its upper corner. */
static void ql_step(double *d, double *e, int64_t l, int64_t m, double *q, int64_t n)
{
    double g = (d[l + 1] - d[l]) / (2 * e[l]), s = 1, c = 1, p = 0;
    g = d[m] - d[l] + e[l] / (g + copysign(hypot(g, 1), g));
    for (int64_t i = m - 1; i >= l; i--) {
        const double f = s * e[i], b = c * e[i], r = hypot(f, g);
        e[i + 1] = r;
        if (r == 0) { /* it falls apart here */
            d[i + 1] -= p;
            e[m] = 0;
            return;
        }
        s = f / r;
        c = g / r;
        g = d[i + 1] - p;
        const double t = (d[i] - g) * s + 2 * c * b;
        p = s * t;
        d[i + 1] = g + p;
        g = c * t - b;
        turn_rows(q, n, i, c, s);
    }
    d[l] -= p;
    e[l] = g;
    e[m] = 0;
}

static void sort_rows(double *d, double *q, int64_t n)
{
    for (int64_t i = 0; i < n; i++) {
        int64_t best = i;
        for (int64_t j = i + 1; j < n; j++)
            best = d[j] > d[best] ? j : best;
        if (best == i)
            continue;
        const double value = d[i];
        d[i] = d[best];
        d[best] = value;
        swap_rows(q, n, i, best);
    }
}

void eigen_symmetric(double *a, int64_t n, double *values, double *vectors, double *work)
{
    double *d = values, *e = work, scale = 0;
    tridiagonalise(a, n, d, e, work + n);
    gather_reflections(a, n, vectors);
    for (int64_t i = 0; i < n; i++)
        scale = fmax(scale, fabs(d[i]) + fabs(e[i]));
    const double small = DBL_EPSILON * scale;
    for (int64_t l = 0; l < n; l++)
        for (int turn = 0; turn < MAX_TURNS; turn++) {
            int64_t m = l;
            while (m + 1 < n && fabs(e[m]) > small / 16 &&
                   fabs(e[m]) > DBL_EPSILON * (fabs(d[m]) + fabs(d[m + 1])))
                m++;
            if (m == l)
                break;
            ql_step(d, e, l, m, vectors, n);
        }
    sort_rows(values, vectors, n);
}
