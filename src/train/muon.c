/* muon.c: the step of matrices: momentum whose direction is made orthogonal (Muon; Jordan et al. 2024).
 *
 * m = μ m + g;  u = g + μ m;  five steps of Newton and Schulz bring the singular values of u near 1:
 *   X ← 3.4445 X + (−4.7750 A + 2.0315 A²) X with A = X Xᵀ, from u / ‖u‖
 * then w −= rate · decay · w and w −= rate · √max(1, rows / cols) · X. Products round their factors to bf16 where the tier
 * has a unit for that; what they err by is far below how far the singular values stay from 1. A matrix is one worker's as
 * a whole and lies on its longer side, so the number of threads cannot be seen.
 */
#include "train/train_internal.h"

#include <math.h>

enum { STEPS = 5, TURN = 16, LINE = 16 };
static const float LINEAR = 3.4445f, CUBIC = -4.7750f, QUINTIC = 2.0315f, LEAST = 1e-7f;

struct muon {
    struct mem *mem;
    const graft_runtime *runtime;
    struct kernels kernels;
    const struct trainable_part *parts;
    int n_parts;
    int64_t most,
        side;    /* values of the largest matrix, and of a square of the largest shorter side */
    float *room; /* [n_workers, 2 most + 2 side] */
    uint8_t *scratch; /* [n_workers, scratch_bytes] */
    size_t scratch_bytes;
    atomic_llong next;
};

struct step {
    struct muon *muon;
    float *values, *m;
    const float *grads;
    float momentum, scale, rate, decay;
};

/* What a worker has. */
struct room {
    float *x, *y, *a, *b;
    void *scratch;
};

static int64_t shorter(const struct trainable_part *p)
{
    return p->rows < p->cols ? p->rows : p->cols;
}

static size_t room_floats(const struct muon *muon)
{
    return (size_t)(2 * muon->most + 2 * muon->side);
}

graft_status muon_open(struct mem *mem, const graft_runtime *runtime,
                       const struct trainable_part *parts, int n_parts, struct muon **out,
                       graft_error *error)
{
    const size_t workers = (size_t)pool_threads(runtime->pool);
    struct muon *muon = mem_calloc(mem, 1, sizeof *muon);
    if (!muon)
        return error_set(error, GRAFT_NO_MEMORY, "no memory for Muon");
    *muon = (struct muon){.mem = mem, .runtime = runtime, .parts = parts, .n_parts = n_parts};
    kernels_round_floats(runtime->kernels, &muon->kernels);
    for (int i = 0; i < n_parts; i++) {
        const int64_t side = shorter(&parts[i]) * shorter(&parts[i]);
        muon->most = parts[i].rows && parts[i].n > muon->most ? parts[i].n : muon->most;
        muon->side = side > muon->side ? side : muon->side;
    }
    muon->most = (muon->most + LINE - 1) / LINE * LINE;
    muon->side = (muon->side + LINE - 1) / LINE * LINE;
    muon->scratch_bytes = prefill_scratch_bytes(0);
    muon->room = mem_calloc(mem, workers, room_floats(muon) * sizeof(float));
    muon->scratch = mem_calloc(mem, workers, muon->scratch_bytes);
    *out = muon;
    if (muon->room && muon->scratch)
        return GRAFT_OK;
    muon_close(out);
    return error_set(error, GRAFT_NO_MEMORY, "no memory for the products of Muon");
}

size_t muon_bytes(const struct muon *muon)
{
    const size_t workers = muon ? (size_t)pool_threads(muon->runtime->pool) : 0;
    return workers ? workers * (room_floats(muon) * sizeof(float) + muon->scratch_bytes) : 0;
}

void muon_close(struct muon **muon)
{
    struct muon *m = *muon;
    *muon = NULL;
    if (!m)
        return;
    mem_free(m->mem, m->room);
    mem_free(m->mem, m->scratch);
    mem_free(m->mem, m);
}

/* ---- one matrix --------------------------------------------------------------------------- */

static struct matrix over(const float *values, int64_t n_out, int64_t n_in)
{
    return (struct matrix){.type = GRAFT_TYPE_F32,
                           .n_out = n_out,
                           .n_in = n_in,
                           .data = values,
                           .row_bytes = (size_t)n_in * sizeof(float)};
}

/* to [cols, rows] = from [rows, cols] turned */
static void turn(const float *from, int64_t rows, int64_t cols, float *to)
{
    for (int64_t i = 0; i < rows; i += TURN)
        for (int64_t j = 0; j < cols; j++)
            for (int64_t k = i; k < i + TURN && k < rows; k++)
                to[j * rows + k] = from[k * cols + j];
}

/* The momentum goes on, and x [shorter, longer] is what it says. */
static void take_momentum(const struct step *s, const struct trainable_part *p, struct room *r)
{
    float *m = s->m + p->at, *to = p->rows > p->cols ? r->y : r->x;
    const float *g = s->grads + p->at;
    for (int64_t i = 0; i < p->n; i++) {
        const float own = g[i] * s->scale;
        m[i] = s->momentum * m[i] + own;
        to[i] = own + s->momentum * m[i];
    }
    if (p->rows > p->cols)
        turn(r->y, p->rows, p->cols, r->x);
}

/* One step of Newton and Schulz from x to y, which change places. */
static void approach(const struct kernels *k, struct room *r, int64_t n, int64_t width)
{
    const struct matrix x = over(r->x, n, width), a = over(r->a, n, n);
    k->linear_prefill(k, &x, r->x, (int)n, 0, n, r->a, n, r->scratch);
    k->linear_prefill(k, &a, r->a, (int)n, 0, n, r->b, n, r->scratch);
    for (int64_t i = 0; i < n * n; i++)
        r->b[i] = CUBIC * r->a[i] + QUINTIC * r->b[i];
    for (int64_t i = 0; i < n * width; i++)
        r->y[i] = LINEAR * r->x[i];
    k->linear_transposed(k, &(struct transposed_args){.w = &x,
                                                      .dy = r->b,
                                                      .n_tok = (int)n,
                                                      .i_end = width,
                                                      .dx = r->y,
                                                      .dx_stride = width,
                                                      .accumulate = true,
                                                      .scratch = r->scratch});
    float *was = r->x;
    r->x = r->y;
    r->y = was;
}

static void step_matrix(const struct step *s, const struct trainable_part *p, struct room r)
{
    const struct kernels *k = &s->muon->kernels;
    const int64_t n = shorter(p), width = p->n / n;
    const bool turned = p->rows > p->cols;
    take_momentum(s, p, &r);
    k->scale(r.x, 1 / ((float)sqrt(k->sum_squares(r.x, p->n)) + LEAST), p->n);
    for (int i = 0; i < STEPS; i++)
        approach(k, &r, n, width);
    if (turned)
        turn(r.x, p->cols, p->rows, r.y);
    const float *u = turned ? r.y : r.x;
    const float rate = s->rate * sqrtf(turned ? (float)p->rows / (float)p->cols : 1);
    float *w = s->values + p->at;
    for (int64_t i = 0; i < p->n; i++)
        w[i] = w[i] - s->decay * w[i] - rate * u[i];
}

/* ---- all ---------------------------------------------------------------------------------- */

static void step_work(void *context, int worker, int n_workers)
{
    const struct step *s = context;
    struct muon *muon = s->muon;
    float *own = muon->room + (size_t)worker * room_floats(muon);
    const struct room room = {.x = own,
                              .y = own + muon->most,
                              .a = own + 2 * muon->most,
                              .b = own + 2 * muon->most + muon->side,
                              .scratch = muon->scratch + (size_t)worker * muon->scratch_bytes};
    long long i;
    (void)n_workers;
    while ((i = atomic_fetch_add_explicit(&muon->next, 1, memory_order_relaxed)) < muon->n_parts)
        if (muon->parts[i].rows)
            step_matrix(s, &muon->parts[i], room);
}

void muon_step(struct muon *muon, const struct optimiser_options *options, float *values, float *m,
               const float *grads, double rate, double scale)
{
    struct step s = {.muon = muon,
                     .values = values,
                     .m = m,
                     .grads = grads,
                     .momentum = (float)options->momentum,
                     .scale = (float)scale,
                     .rate = (float)rate,
                     .decay = (float)(rate * options->weight_decay)};
    atomic_store(&muon->next, 0);
    pool_run(muon->runtime->pool, step_work, &s);
}
