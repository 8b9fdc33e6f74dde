/* fit.c: multinomial logistic regression with an L2 penalty, to its optimum: L-BFGS in doubles.
 *
 * f is convex and smooth, and the penalty makes its minimum one, so the result is a function of the data. Workers split
 * the outputs (examples of the forward half, columns of the gradient), never a sum: the same bits for any number of threads.
 * The step along a direction is found by slopes alone, which rise along it as f is convex: near the optimum values of f
 * differ by less than their rounding, slopes do not. Sources: L-BFGS (Nocedal 1980).
 */
#include "generate/router/router_internal.h"

#include <math.h>

enum { MEMORY = 20, MAX_ITERATIONS = 20000, MAX_STEPS = 60 };
#define LEAST_DERIVATIVE 1e-7

double router_dot(const float *x, const double *y, int n)
{
    double sum[4] = {0};
    int i = 0;
    for (; i + 4 <= n; i += 4)
        for (int lane = 0; lane < 4; lane++)
            sum[lane] += (double)x[i + lane] * y[i + lane];
    for (; i < n; i++)
        sum[0] += (double)x[i] * y[i];
    return (sum[0] + sum[1]) + (sum[2] + sum[3]);
}

/* ---- f and its gradient ------------------------------------------------------------------- */

struct pass {
    const struct router_fit *fit;
    const double *values;
    double *gradient;
    double *residual; /* [n, n_labels] softmax − one-hot, over n */
    double *loss;     /* [n] */
};

static void forward(void *context, int worker, int n_workers)
{
    struct pass *p = context;
    const struct router_fit *f = p->fit;
    const double *bias = p->values + (size_t)f->n_labels * (size_t)f->width;
    int64_t begin, end;
    pool_split(f->n, 1, worker, n_workers, &begin, &end);
    for (int64_t i = begin; i < end; i++) {
        double *r = p->residual + i * f->n_labels, best = -INFINITY;
        for (int c = 0; c < f->n_labels; c++) {
            r[c] = bias[c] + router_dot(f->x + i * f->width,
                                        p->values + (size_t)c * (size_t)f->width, f->width);
            best = r[c] > best ? r[c] : best;
        }
        double sum = exp(r[0] - best);
        for (int c = 1; c < f->n_labels; c++)
            sum += exp(r[c] - best);
        p->loss[i] = best + log(sum) - r[f->y[i]];
        for (int c = 0; c < f->n_labels; c++)
            r[c] = (exp(r[c] - best) / sum - (c == f->y[i])) / (double)f->n;
    }
}

static void backward(void *context, int worker, int n_workers)
{
    struct pass *p = context;
    const struct router_fit *f = p->fit;
    int64_t begin, end;
    pool_split(f->width, 8, worker, n_workers, &begin, &end);
    for (int c = 0; c < f->n_labels; c++) {
        double *g = p->gradient + (size_t)c * (size_t)f->width;
        const double *w = p->values + (size_t)c * (size_t)f->width;
        for (int64_t j = begin; j < end; j++)
            g[j] = f->l2 * w[j];
        for (int64_t i = 0; i < f->n; i++) {
            const float *x = f->x + i * f->width;
            const double r = p->residual[i * f->n_labels + c];
            for (int64_t j = begin; j < end; j++)
                g[j] += r * (double)x[j];
        }
    }
}

static double evaluate(struct pass *p, const double *values, double *gradient)
{
    const struct router_fit *f = p->fit;
    const size_t weights = (size_t)f->n_labels * (size_t)f->width;
    double loss = 0, norm = 0;
    p->values = values;
    p->gradient = gradient;
    pool_run(f->pool, forward, p);
    pool_run(f->pool, backward, p);
    for (int c = 0; c < f->n_labels; c++) {
        gradient[weights + (size_t)c] = 0;
        for (int64_t i = 0; i < f->n; i++)
            gradient[weights + (size_t)c] += p->residual[i * f->n_labels + c];
    }
    for (int64_t i = 0; i < f->n; i++)
        loss += p->loss[i];
    for (size_t k = 0; k < weights; k++)
        norm += values[k] * values[k];
    return loss / (double)f->n + f->l2 / 2 * norm;
}

static bool pass_open(struct pass *p, const struct router_fit *fit)
{
    size_t cells;
    *p = (struct pass){.fit = fit};
    if (size_mul((size_t)fit->n, (size_t)fit->n_labels, &cells)) {
        p->residual = mem_calloc(fit->mem, cells, sizeof *p->residual);
        p->loss = mem_calloc(fit->mem, (size_t)fit->n, sizeof *p->loss);
    }
    return p->residual && p->loss;
}

static void pass_close(struct pass *p)
{
    mem_free(p->fit->mem, p->residual);
    mem_free(p->fit->mem, p->loss);
}

double router_fit_value(const struct router_fit *fit, const double *values, double *gradient)
{
    struct pass p;
    double value = pass_open(&p, fit) ? evaluate(&p, values, gradient) : NAN;
    pass_close(&p);
    return value;
}

/* ---- L-BFGS ------------------------------------------------------------------------------- */

struct descent {
    struct pass pass;
    size_t n;
    double *block; /* what all of the following lie in */
    double *at, *gradient, *next, *next_gradient, *direction;
    double *step[MEMORY], *change[MEMORY]; /* of values and of gradients, in a ring */
    double rho[MEMORY];
    int kept, newest;
    double f, next_f;
};

static double dot(const double *x, const double *y, size_t n)
{
    double sum = 0;
    for (size_t i = 0; i < n; i++)
        sum += x[i] * y[i];
    return sum;
}

/* NaN when one of them is. */
static double largest(const double *x, size_t n)
{
    double most = 0;
    for (size_t i = 0; i < n && !isnan(most); i++)
        most = fabs(x[i]) <= most ? most : fabs(x[i]);
    return most;
}

static bool descent_open(struct descent *d, const struct router_fit *fit)
{
    *d = (struct descent){.n = (size_t)fit->n_labels * ((size_t)fit->width + 1)};
    bool ok = pass_open(&d->pass, fit);
    d->block = mem_calloc(fit->mem, (4 + 2 * MEMORY) * d->n, sizeof *d->block);
    double *block = d->block;
    if (!ok || !block)
        return false;
    d->gradient = block;
    d->next = block + d->n;
    d->next_gradient = block + 2 * d->n;
    d->direction = block + 3 * d->n;
    for (size_t i = 0; i < MEMORY; i++) {
        d->step[i] = block + (4 + 2 * i) * d->n;
        d->change[i] = block + (5 + 2 * i) * d->n;
    }
    return true;
}

static void descent_close(struct descent *d)
{
    mem_free(d->pass.fit->mem, d->block);
    pass_close(&d->pass);
}

/* direction = −H gradient, by what the last steps say of H; the first one goes along the gradient. */
static void choose_direction(struct descent *d)
{
    double alpha[MEMORY] = {0}, *q = d->direction;
    double size = 1 / fmax(1, sqrt(dot(d->gradient, d->gradient, d->n)));
    for (size_t k = 0; k < d->n; k++)
        q[k] = -d->gradient[k];
    for (int i = 0; i < d->kept; i++) {
        int at = (d->newest - i + MEMORY) % MEMORY;
        alpha[at] = d->rho[at] * dot(d->step[at], q, d->n);
        for (size_t k = 0; k < d->n; k++)
            q[k] -= alpha[at] * d->change[at][k];
    }
    if (d->kept)
        size = 1 / (d->rho[d->newest] * dot(d->change[d->newest], d->change[d->newest], d->n));
    for (size_t k = 0; k < d->n; k++)
        q[k] *= size;
    for (int i = d->kept - 1; i >= 0; i--) {
        int at = (d->newest - i + MEMORY) % MEMORY;
        double beta = d->rho[at] * dot(d->change[at], q, d->n);
        for (size_t k = 0; k < d->n; k++)
            q[k] += (alpha[at] - beta) * d->step[at][k];
    }
}

static double slope_at(struct descent *d, double length)
{
    for (size_t k = 0; k < d->n; k++)
        d->next[k] = d->at[k] + length * d->direction[k];
    d->next_f = evaluate(&d->pass, d->next, d->next_gradient);
    return dot(d->next_gradient, d->direction, d->n);
}

/* To where the slope is at most half of what it was, of either sign, and f no larger. false: there is no such place. */
static bool search(struct descent *d)
{
    const double begin = dot(d->gradient, d->direction, d->n), slack = 1e-14 * fabs(d->f);
    double low = 0, low_slope = begin, high = INFINITY, high_slope = 0, length = 1;
    if (!(begin < 0))
        return false;
    for (int i = 0; i < MAX_STEPS; i++) {
        double slope = slope_at(d, length);
        if (!isfinite(slope) || !isfinite(d->next_f) || slope > -begin / 2 ||
            d->next_f > d->f + slack) {
            high = length;
            high_slope = slope;
        } else if (slope < begin / 2) {
            low = length;
            low_slope = slope;
        } else {
            return true;
        }
        if (isinf(high)) {
            length = 4 * low;
        } else { /* where the slope would be 0 if it were straight, but not at an end */
            double share = low_slope / (low_slope - high_slope);
            share = isfinite(share) && share > 0.1 && share < 0.9 ? share : 0.5;
            length = low + share * (high - low);
        }
    }
    return false;
}

/* Takes the step, and remembers it. */
static void advance(struct descent *d)
{
    const int slot = d->kept ? (d->newest + 1) % MEMORY : 0;
    for (size_t k = 0; k < d->n; k++) {
        d->step[slot][k] = d->next[k] - d->at[k];
        d->change[slot][k] = d->next_gradient[k] - d->gradient[k];
    }
    double product = dot(d->step[slot], d->change[slot], d->n);
    memcpy(d->at, d->next, d->n * sizeof *d->at);
    memcpy(d->gradient, d->next_gradient, d->n * sizeof *d->gradient);
    d->f = d->next_f;
    if (product > 0) {
        d->rho[slot] = 1 / product;
        d->newest = slot;
        d->kept += d->kept < MEMORY;
    }
}

graft_status router_fit_run(const struct router_fit *fit, double *values, int64_t *iterations,
                            graft_error *error)
{
    struct descent d;
    graft_status status = GRAFT_OK;
    if (!descent_open(&d, fit)) {
        descent_close(&d);
        return error_set(error, GRAFT_NO_MEMORY, "no memory to fit a router");
    }
    d.at = values;
    d.f = evaluate(&d.pass, d.at, d.gradient);
    int i = 0;
    while (status == GRAFT_OK && !(largest(d.gradient, d.n) <= LEAST_DERIVATIVE)) {
        if (fit->stop && fit->stop(fit->user, i)) {
            status = error_set(error, GRAFT_CANCELLED, "cancelled");
            break;
        }
        choose_direction(&d);
        bool found = i < MAX_ITERATIONS && search(&d);
        if (found) {
            advance(&d);
            i++;
        } else if (d.kept > 0 && i < MAX_ITERATIONS) {
            d.kept = 0; /* what it remembered misled it: along the gradient once more */
        } else {
            status = error_set(error, GRAFT_NUMERIC,
                               "the fit of the router does not come to an end (the largest "
                               "derivative is %.2g): a larger l2 helps",
                               largest(d.gradient, d.n));
        }
    }
    *iterations = i;
    descent_close(&d);
    return status;
}
