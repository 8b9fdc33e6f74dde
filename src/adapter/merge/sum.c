/* sum.c: weighted sums of changes, in factors.
 *
 * Σ w_i s_i B_i A_i is [w_i s_i B_i] times the stacked A_i. With DoRA among the inputs (changes diag(h_i − 1) W +
 * diag(h_i) s_i B_i A_i, h the gains) the sum is one DoRA: g = 1 + Σ w_i (h_i − 1), B = diag(1/g) [w_i h_i s_i B_i] and
 * m = g ‖W + B A‖ by row. A lower rank is the best there is of the low-rank part, found without making it: with
 * A Aᵀ = L Lᵀ (pivoted), Q = L⁻¹ A is orthonormal and the part is M Q with M = B L, whose singular values are in Lᵀ (Bᵀ B) L.
 */
#include "adapter/merge/merge_internal.h"

#include <float.h>
#include <math.h>

static graft_status no_memory(graft_error *error)
{
    return error_set(error, GRAFT_NO_MEMORY, "no memory to merge a module");
}

/* ---- the best of a rank ------------------------------------------------------------------- */

/* Everything small: all [rank, rank] but where said. */
struct core {
    double *ga, *gb;     /* Gram matrices; used up */
    double *l, *inverse; /* of the balanced A Aᵀ */
    double *vectors;     /* of Lᵀ (Bᵀ B) L, by rows */
    double *squares;     /* [rank]: of the singular values */
    double *left,
        *right; /* [rank]: what rows of A and columns of B are multiplied with: balanced, their product w s */
    double *work;   /* [3 rank] */
    int64_t *order; /* [rank] */
    int64_t basis;  /* of the rows of A */
    int64_t found;  /* the rank that there is */
    double *memory;
};

static graft_status core_open(struct core *out, struct mem *mem, int64_t rank, graft_error *error)
{
    const int64_t square = rank * rank;
    *out = (struct core){0};
    double *p = mem_calloc(mem, (size_t)(5 * square + 7 * rank) + 1, sizeof *p);
    if (!p)
        return no_memory(error);
    out->memory = p;
    out->ga = p;
    out->gb = p + square;
    out->l = p + 2 * square;
    out->inverse = p + 3 * square;
    out->vectors = p + 4 * square;
    out->squares = p + 5 * square;
    out->left = out->squares + rank;
    out->right = out->left + rank;
    out->work = out->right + rank;
    out->order = (int64_t *)(void *)(out->work + 3 * rank);
    return GRAFT_OK;
}

/* Rows of A and columns of B of equal length: then what is small in one and large in the other does not drown. */
static void balance(struct core *m, const struct changes *c)
{
    const int64_t rank = c->site->rank;
    for (size_t i = 0; i < c->inputs->n; i++)
        for (int64_t r = c->begins[i]; r < c->begins[i + 1]; r++) {
            const double a = sqrt(fmax(m->ga[r * rank + r], 0));
            const double b = sqrt(fmax(m->gb[r * rank + r], 0));
            const double factor = c->site->factors[i] * c->scales[i];
            const bool none = !(a > 0) || !(b > 0) || factor == 0;
            m->left[r] = none ? 0 : sqrt(fabs(factor) * b / a);
            m->right[r] = none ? 0 : copysign(sqrt(fabs(factor) * a / b), factor);
        }
    for (int64_t r = 0; r < rank; r++)
        for (int64_t s = 0; s < rank; s++) {
            m->ga[r * rank + s] *= m->left[r] * m->left[s];
            m->gb[r * rank + s] *= m->right[r] * m->right[s];
        }
}

/* into [found, found] = Lᵀ G L, G in the order of pivots. */
static void project(const struct core *m, int64_t rank, double *half, double *into)
{
    const int64_t n = m->basis;
    for (int64_t r = 0; r < rank; r++)
        for (int64_t j = 0; j < n; j++) {
            double sum = 0;
            for (int64_t s = j; s < rank; s++)
                sum += m->gb[m->order[r] * rank + m->order[s]] * m->l[s * rank + j];
            half[r * n + j] = sum;
        }
    for (int64_t i = 0; i < n; i++)
        for (int64_t j = 0; j < n; j++) {
            double sum = 0;
            for (int64_t r = i; r < rank; r++)
                sum += m->l[r * rank + i] * half[r * n + j];
            into[i * n + j] = sum;
        }
}

/* Below what floats can say of the terms that make up the sum, which may have cancelled, there is nothing but rounding. */
static double noise_of(const struct core *m, int64_t rank)
{
    double sizes = 0;
    for (int64_t r = 0; r < rank; r++)
        sizes += m->gb[r * rank + r];
    return 4 * DBL_EPSILON * sizes * sizes;
}

graft_status merge_too_large(const struct changes *c, graft_error *error)
{
    char name[MODULE_NAME_SIZE] = "";
    (void)merge_site_name(c->inputs, c->site, name);
    return error_set(error, GRAFT_NUMERIC,
                     "%s: the change is beyond what numbers can hold: take smaller weights", name);
}

static graft_status solve_core(struct core *m, const struct changes *c, graft_error *error)
{
    const int64_t rank = c->site->rank;
    struct pool *pool = c->inputs->model->runtime->pool;
    const struct tall a = {c->a, rank, c->site->n_in}, b = {c->bt, rank, c->site->n_out};
    tall_gram(pool, &a, &a, m->ga);
    tall_gram(pool, &b, &b, m->gb);
    balance(m, c);
    const double noise = noise_of(m, rank);
    if (!isfinite(noise))
        return merge_too_large(c, error);
    m->basis = cholesky_pivoted(m->ga, rank, m->order, m->l);
    invert_lower(m->l, rank, m->basis, m->inverse);
    project(m, rank, m->vectors, m->ga);
    eigen_symmetric(m->ga, m->basis, m->squares, m->vectors, m->work);
    m->found = m->basis;
    while (m->found > 0 && !(m->squares[m->found - 1] > noise))
        m->found--;
    return GRAFT_OK;
}

/* A = √σ vᵀ Q, B = M v / √σ for the first `count` directions, as mixtures of the rows of a and bt. */
static void mix_core(const struct core *m, const struct changes *c, int64_t count, double *ta,
                     double *tb)
{
    const int64_t rank = c->site->rank, n = m->basis;
    for (int64_t j = 0; j < count; j++) {
        const double *v = m->vectors + j * n;
        const double root = pow(m->squares[j], 0.25);
        for (int64_t r = 0; r < rank; r++) {
            const int64_t at = m->order[r];
            double along = 0, back = 0;
            for (int64_t i = 0; i < n && i <= r; i++)
                along += m->l[r * rank + i] * v[i];
            for (int64_t i = r; i < n; i++)
                back += v[i] * m->inverse[i * n + r];
            ta[j * rank + at] = root * back * m->left[at];
            tb[j * rank + at] = along / root * m->right[at];
        }
    }
}

/* Fills a, and B in `rows` [out_rank, n_out]; directions that there are not stay zero. */
static graft_status reduce(const struct changes *c, struct merge_result *out, float *rows,
                           graft_error *error)
{
    const int64_t rank = c->site->rank, wanted = c->site->out_rank;
    struct mem *mem = c->inputs->mem;
    struct pool *pool = c->inputs->model->runtime->pool;
    struct core m;
    double *ta = mem_calloc(mem, (size_t)(2 * wanted * rank) + 1, sizeof *ta);
    graft_status status = core_open(&m, mem, rank, error);
    if (status == GRAFT_OK && !ta)
        status = no_memory(error);
    if (status == GRAFT_OK)
        status = solve_core(&m, c, error);
    if (status == GRAFT_OK) {
        double *tb = ta + wanted * rank;
        const int64_t count = m.found < wanted ? m.found : wanted;
        mix_core(&m, c, count, ta, tb);
        for (int64_t i = 0; i < m.found; i++)
            out->all += m.squares[i];
        for (int64_t i = 0; i < count; i++)
            out->kept += m.squares[i];
        tall_mix(pool, ta, count, &(struct tall){c->a, rank, c->site->n_in}, out->a);
        tall_mix(pool, tb, count, &(struct tall){c->bt, rank, c->site->n_out}, rows);
    }
    mem_free(mem, m.memory);
    mem_free(mem, ta);
    return status;
}

graft_status merge_spectrum(const struct changes *c, double *squares, int64_t *n,
                            graft_error *error)
{
    struct core m;
    graft_status status = core_open(&m, c->inputs->mem, c->site->rank, error);
    if (status == GRAFT_OK)
        status = solve_core(&m, c, error);
    if (status == GRAFT_OK) {
        memcpy(squares, m.squares, (size_t)m.found * sizeof *squares);
        *n = m.found;
    }
    mem_free(c->inputs->mem, m.memory);
    return status;
}

/* ---- all of it ---------------------------------------------------------------------------- */

/* The stacked factors as they are. */
static void stack(const struct changes *c, struct merge_result *out, float *rows)
{
    const struct merge_site *site = c->site;
    memcpy(out->a, c->a, (size_t)(site->rank * site->n_in) * sizeof *out->a);
    for (size_t i = 0; i < c->inputs->n; i++)
        for (int64_t r = c->begins[i]; r < c->begins[i + 1]; r++)
            for (int64_t o = 0; o < site->n_out; o++)
                rows[r * site->n_out + o] =
                    (float)(site->factors[i] * c->scales[i] * (double)c->bt[r * site->n_out + o]);
}

/* ‖B A‖² of what `stack` made. */
static graft_status weigh(const struct changes *c, struct merge_result *out, const float *rows,
                          graft_error *error)
{
    const int64_t rank = c->site->rank;
    struct mem *mem = c->inputs->mem;
    struct pool *pool = c->inputs->model->runtime->pool;
    double *g = mem_calloc(mem, (size_t)(2 * rank * rank) + 1, sizeof *g);
    if (!g)
        return no_memory(error);
    const struct tall a = {out->a, rank, c->site->n_in}, b = {rows, rank, c->site->n_out};
    tall_gram(pool, &a, &a, g);
    tall_gram(pool, &b, &b, g + rank * rank);
    for (int64_t i = 0; i < rank * rank; i++)
        out->all += g[i] * g[rank * rank + i];
    out->kept = out->all = fmax(out->all, 0);
    mem_free(mem, g);
    return GRAFT_OK;
}

/* g = 1 + Σ w (h − 1). */
static graft_status gain_of(const struct changes *c, int64_t row, double *out, graft_error *error)
{
    double g = 1;
    for (size_t i = 0; i < c->inputs->n; i++)
        if (c->gains[i])
            g += c->site->factors[i] * ((double)c->gains[i][row] - 1);
    *out = g;
    if (fabs(g) > 1e-12)
        return GRAFT_OK;
    char name[MODULE_NAME_SIZE] = "";
    (void)merge_site_name(c->inputs, c->site, name);
    return error_set(error, GRAFT_NUMERIC,
                     "%s: these weights take row %lld of the base away under DoRA: choose others",
                     name, (long long)row);
}

/* From B A that is to be added to gained rows of W to one DoRA; B in `rows` [out_rank, n_out]. */
static graft_status to_dora(const struct changes *c, struct merge_result *out, float *rows,
                            graft_error *error)
{
    const struct merge_site *site = c->site;
    double g;
    graft_status status = GRAFT_OK;
    for (int64_t o = 0; o < site->n_out && status == GRAFT_OK; o++) {
        status = gain_of(c, o, &g, error);
        for (int64_t r = 0; r < site->out_rank && status == GRAFT_OK; r++)
            rows[r * site->n_out + o] = (float)((double)rows[r * site->n_out + o] / g);
    }
    if (status == GRAFT_OK)
        status = change_norms(c->inputs, site, out->a, rows, site->out_rank, out->magnitude, error);
    for (int64_t o = 0; o < site->n_out && status == GRAFT_OK; o++) {
        status = gain_of(c, o, &g, error);
        out->magnitude[o] = (float)(g * (double)out->magnitude[o]);
    }
    return status;
}

graft_status merge_sum(const struct changes *c, struct merge_result *out, graft_error *error)
{
    const struct merge_site *site = c->site;
    const int64_t rank = site->out_rank;
    float *rows = mem_calloc(c->inputs->mem, (size_t)(rank * site->n_out) + 1, sizeof *rows);
    graft_status status = rows ? GRAFT_OK : no_memory(error);
    if (status == GRAFT_OK && rank < site->rank) {
        status = reduce(c, out, rows, error);
    } else if (status == GRAFT_OK) {
        stack(c, out, rows);
        status = site->weighed ? weigh(c, out, rows, error) : GRAFT_OK;
    }
    if (status == GRAFT_OK && out->magnitude)
        status = to_dora(c, out, rows, error);
    for (int64_t r = 0; r < rank && status == GRAFT_OK; r++)
        for (int64_t o = 0; o < site->n_out; o++)
            out->b[o * rank + r] = rows[r * site->n_out + o];
    mem_free(c->inputs->mem, rows);
    return status;
}

/* ---- what has no factors ------------------------------------------------------------------ */

/* y += s (B A x + bias), under DoRA times the gain; the result's scale is 1, and its gain is g. */
static graft_status read_bias(const struct changes *c, size_t i, float *out, graft_error *error)
{
    const struct draft *draft = &c->inputs->members[i].import.draft;
    const int module = c->site->modules[i];
    if (module < 0 || !draft->modules[module].biased)
        return GRAFT_OK;
    graft_status status = draft->read(draft, module, PART_LORA_BIAS, out, error);
    for (int64_t o = 0; o < c->site->n_out && status == GRAFT_OK; o++)
        out[o] =
            (float)(c->scales[i] * (c->gains[i] ? (double)c->gains[i][o] : 1) * (double)out[o]);
    return status;
}

graft_status merge_bias(const struct merge_plan *plan, const struct changes *c,
                        struct merge_result *out, graft_error *error)
{
    const int64_t n_out = c->site->n_out;
    struct combination together = {.weights = c->site->factors, .n = c->inputs->n, .lambda = 1};
    if (plan && merge_elects_signs(plan->method)) {
        together.elect = true;
        together.by_frequency = plan->by_frequency;
        together.by_weight = plan->by_weight;
        together.undivided = plan->undivided;
        together.lambda = plan->lambda;
    }
    float *x[MERGE_MAX];
    float *parts = mem_calloc(c->inputs->mem, c->inputs->n * (size_t)n_out, sizeof *parts);
    graft_status status = parts ? GRAFT_OK : no_memory(error);
    for (size_t i = 0; i < c->inputs->n && status == GRAFT_OK; i++) {
        x[i] = parts + i * (size_t)n_out;
        status = read_bias(c, i, x[i], error);
    }
    if (status == GRAFT_OK)
        combine(&together, x, n_out, out->bias);
    for (int64_t o = 0; o < n_out && out->magnitude && status == GRAFT_OK; o++) {
        double g = 1;
        status = gain_of(c, o, &g, error);
        out->bias[o] = (float)((double)out->bias[o] / g);
    }
    mem_free(c->inputs->mem, parts);
    return status;
}

static void base_values(const struct merge_inputs *inputs, const struct merge_site *site,
                        float *out)
{
    const struct model *model = inputs->model;
    const int norm = slot_norm(model, site->slot, site->layer);
    if (norm >= 0) {
        memcpy(out, model_norm_weight(model, norm), (size_t)site->n_out * sizeof *out);
        return;
    }
    const struct matrix *w = slot_weight(model, site->slot, site->layer);
    for (int64_t row = 0; row < w->n_out; row++)
        model->runtime->kernels->dequantize[w->type](w, row, 0, w->n_in, out + row * w->n_in);
}

graft_status merge_whole(const struct merge_inputs *inputs, const struct merge_site *site,
                         struct merge_result *out, graft_error *error)
{
    const size_t n = (size_t)(site->n_out * site->n_in);
    float *base = mem_alloc(inputs->mem, n * sizeof *base);
    float *part = mem_alloc(inputs->mem, n * sizeof *part);
    graft_status status = base && part ? GRAFT_OK : no_memory(error);
    if (status == GRAFT_OK) {
        base_values(inputs, site, base);
        memcpy(out->weight, base, n * sizeof *base);
    }
    for (size_t i = 0; i < inputs->n && status == GRAFT_OK; i++) {
        const struct draft *draft = &inputs->members[i].import.draft;
        if (site->modules[i] < 0)
            continue;
        status = draft->read(draft, site->modules[i], PART_WEIGHT, part, error);
        for (size_t k = 0; k < n && status == GRAFT_OK; k++)
            out->weight[k] += (float)(site->factors[i] * ((double)part[k] - (double)base[k]));
    }
    mem_free(inputs->mem, base);
    mem_free(inputs->mem, part);
    return status;
}
