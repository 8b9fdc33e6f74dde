/* changes.c: the factors of all inputs at one site, stacked, and the angles between what they do. */
#include "adapter/merge/merge_internal.h"

enum { ROWS = 32 }; /* that a thread has at a time, of changes that are made */

static graft_status no_memory(graft_error *error)
{
    return error_set(error, GRAFT_NO_MEMORY, "no memory for the factors of a module");
}

/* B [n_out, rank] into rows of bt. */
static void turn_in(const struct changes *c, size_t i, const float *b)
{
    const int64_t rank = c->begins[i + 1] - c->begins[i], n_out = c->site->n_out;
    for (int64_t r = 0; r < rank; r++) {
        float *out = c->bt + (c->begins[i] + r) * n_out;
        for (int64_t o = 0; o < n_out; o++)
            out[o] = b[o * rank + r] * (c->gains[i] ? c->gains[i][o] : 1);
    }
}

static graft_status load(struct changes *c, float *b, graft_error *error)
{
    graft_status status = GRAFT_OK;
    for (size_t i = 0; i < c->inputs->n && status == GRAFT_OK; i++) {
        const int module = c->site->modules[i];
        const struct merge_member *m = &c->inputs->members[i];
        const struct draft *draft = &m->import.draft;
        c->begins[i + 1] = c->begins[i];
        if (module < 0)
            continue;
        c->begins[i + 1] += draft->modules[module].rank;
        c->scales[i] = draft->modules[module].scale;
        c->gains[i] = m->gains[module];
        status = draft->read(draft, module, PART_A, c->a + c->begins[i] * c->site->n_in, error);
        if (status == GRAFT_OK)
            status = draft->read(draft, module, PART_B, b, error);
        if (status == GRAFT_OK)
            turn_in(c, i, b);
    }
    return status;
}

graft_status changes_open(struct changes *out, const struct merge_inputs *inputs,
                          const struct merge_site *site, graft_error *error)
{
    struct mem *mem = inputs->mem;
    *out = (struct changes){.inputs = inputs, .site = site};
    float *b = mem_alloc(mem, (size_t)(site->most_rank * site->n_out) * sizeof *b);
    out->begins = mem_calloc(mem, inputs->n + 1, sizeof *out->begins);
    out->scales = mem_calloc(mem, inputs->n, sizeof *out->scales);
    out->gains = mem_calloc(mem, inputs->n, sizeof *out->gains);
    out->a = mem_alloc(mem, (size_t)(site->rank * site->n_in) * sizeof *out->a);
    out->bt = mem_alloc(mem, (size_t)(site->rank * site->n_out) * sizeof *out->bt);
    graft_status status = b && out->begins && out->scales && out->gains && out->a && out->bt
                              ? load(out, b, error)
                              : no_memory(error);
    mem_free(mem, b);
    return status;
}

void changes_close(struct changes *c)
{
    if (!c->inputs)
        return;
    struct mem *mem = c->inputs->mem;
    mem_free(mem, c->begins);
    mem_free(mem, c->scales);
    mem_free(mem, c->gains);
    mem_free(mem, c->a);
    mem_free(mem, c->bt);
    *c = (struct changes){0};
}

/* ---- angles ------------------------------------------------------------------------------- */

/* ⟨B A, D C⟩ = Σ over the ranks of (Bᵀ D) ⊙ (A Cᵀ). */
static graft_status inner_of_factors(const struct changes *c, double *out, graft_error *error)
{
    const int64_t rank = c->site->rank;
    const size_t n = c->inputs->n;
    struct mem *mem = c->inputs->mem;
    struct pool *pool = c->inputs->model->runtime->pool;
    double *g = mem_calloc(mem, (size_t)(2 * rank * rank) + 1, sizeof *g);
    if (!g)
        return no_memory(error);
    double *h = g + rank * rank;
    const struct tall a = {c->a, rank, c->site->n_in}, b = {c->bt, rank, c->site->n_out};
    tall_gram(pool, &a, &a, g);
    tall_gram(pool, &b, &b, h);
    for (size_t i = 0; i < n; i++)
        for (size_t j = 0; j < n; j++) {
            double sum = 0;
            for (int64_t r = c->begins[i]; r < c->begins[i + 1]; r++)
                for (int64_t s = c->begins[j]; s < c->begins[j + 1]; s++)
                    sum += g[r * rank + s] * h[r * rank + s];
            out[i * n + j] = sum * c->scales[i] * c->scales[j];
        }
    mem_free(mem, g);
    return GRAFT_OK;
}

struct dots {
    const struct change_rows *rows;
    size_t n;
    double *sums; /* [n_out, n, n]: of each row, so that their order is one */
    float *space; /* [n_workers, n, ROWS, n_in] */
    uint8_t *scratch;
};

static void dot_share(void *context, int worker, int n_workers)
{
    const struct dots *d = context;
    const struct merge_site *site = d->rows->c->site;
    const size_t n = d->n, tile = (size_t)(ROWS * site->n_in);
    float *x = d->space + (size_t)worker * n * tile;
    int64_t begin, end;
    pool_split(site->n_out, ROWS, worker, n_workers, &begin, &end);
    for (int64_t o = begin; o < end; o += ROWS) {
        const int64_t some = end - o < ROWS ? end - o : ROWS;
        for (size_t i = 0; i < n; i++)
            change_rows_read(d->rows, i, o, some, x + i * tile,
                             d->scratch + (size_t)worker * change_scratch_bytes(d->rows));
        for (int64_t row = 0; row < some; row++)
            for (size_t i = 0; i < n; i++)
                for (size_t j = 0; j <= i; j++) {
                    const float *left = x + i * tile + (size_t)(row * site->n_in);
                    const float *right = x + j * tile + (size_t)(row * site->n_in);
                    double sum = 0;
                    for (int64_t k = 0; k < site->n_in; k++)
                        sum += (double)left[k] * (double)right[k];
                    d->sums[((size_t)(o + row) * n + i) * n + j] = sum;
                }
    }
}

static graft_status inner_of_rows(const struct changes *c, double *out, graft_error *error)
{
    struct mem *mem = c->inputs->mem;
    struct pool *pool = c->inputs->model->runtime->pool;
    const size_t n = c->inputs->n, workers = (size_t)pool_threads(pool);
    struct change_rows rows;
    struct dots d = {.rows = &rows, .n = n};
    graft_status status = change_rows_open(&rows, c, error);
    d.sums = mem_calloc(mem, (size_t)c->site->n_out * n * n, sizeof *d.sums);
    d.space = mem_alloc(mem, workers * n * (size_t)(ROWS * c->site->n_in) * sizeof *d.space);
    d.scratch = mem_alloc(mem, workers * change_scratch_bytes(&rows));
    if (status == GRAFT_OK && !(d.sums && d.space && d.scratch))
        status = no_memory(error);
    if (status == GRAFT_OK) {
        pool_run(pool, dot_share, &d);
        for (size_t i = 0; i < n; i++)
            for (size_t j = 0; j <= i; j++) {
                double sum = 0;
                for (int64_t o = 0; o < c->site->n_out; o++)
                    sum += d.sums[((size_t)o * n + i) * n + j];
                out[i * n + j] = out[j * n + i] = sum;
            }
    }
    mem_free(mem, d.sums);
    mem_free(mem, d.space);
    mem_free(mem, d.scratch);
    change_rows_close(&rows);
    return status;
}

graft_status changes_inner(const struct changes *c, double *out, graft_error *error)
{
    return c->site->dora ? inner_of_rows(c, out, error) : inner_of_factors(c, out, error);
}
