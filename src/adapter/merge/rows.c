/* rows.c: ΔW by rows: what methods need that look at single elements, and the norms of DoRA.
 *
 * A block of rows is a sum of outer products of columns of B and rows of A, as training has them for gradients: in floats on
 * every tier, and with the same bits each time, however rows are grouped.
 */
#include "adapter/merge/merge_internal.h"

#include <math.h>

enum { ROWS = 32 };

static graft_status no_memory(graft_error *error)
{
    return error_set(error, GRAFT_NO_MEMORY, "no memory for rows of a change");
}

/* out [n_rows, n_in] += B A for rows of B that lie as columns, `stride` apart. */
static void add_product(const struct kernels *k, const float *a, const float *bt, int64_t stride,
                        int64_t rank, int64_t n_in, int64_t n_rows, float *out, void *scratch)
{
    const struct outer_args args = {.u = bt,
                                    .u_stride = stride,
                                    .x = a,
                                    .x_stride = n_in,
                                    .n_tok = (int)rank,
                                    .rank = n_rows,
                                    .i_end = n_in,
                                    .g = out,
                                    .g_stride = n_in,
                                    .format = PANEL_F32,
                                    .scratch = scratch};
    k->outer(&args);
}

graft_status change_rows_open(struct change_rows *out, const struct changes *c, graft_error *error)
{
    const struct merge_site *site = c->site;
    struct mem *mem = c->inputs->mem;
    *out = (struct change_rows){.c = c, .mem = mem};
    if (site->dora)
        out->weight = slot_weight(c->inputs->model, site->slot, site->layer);
    out->bt = mem_alloc(mem, (size_t)(site->n_out * site->rank) * sizeof *out->bt);
    if (!out->bt)
        return no_memory(error);
    for (size_t i = 0; i < c->inputs->n; i++)
        for (int64_t k = c->begins[i] * site->n_out; k < c->begins[i + 1] * site->n_out; k++)
            out->bt[k] = (float)(c->scales[i] * (double)c->bt[k]);
    return GRAFT_OK;
}

void change_rows_close(struct change_rows *r)
{
    mem_free(r->mem, r->bt);
    *r = (struct change_rows){0};
}

/* A row of the base stands behind what the product wants. */
static size_t product_bytes(const struct change_rows *r)
{
    return (prefill_scratch_bytes(r->c->site->n_in) + 63) / 64 * 64;
}

size_t change_scratch_bytes(const struct change_rows *r)
{
    return product_bytes(r) + ((size_t)r->c->site->n_in + 15) / 16 * 16 * sizeof(float);
}

void change_rows_read(const struct change_rows *r, size_t i, int64_t first, int64_t n_rows,
                      float *out, void *scratch)
{
    const struct changes *c = r->c;
    const struct merge_site *site = c->site;
    const struct kernels *k = c->inputs->model->runtime->kernels;
    const int64_t rank = c->begins[i + 1] - c->begins[i], n_in = site->n_in;
    memset(out, 0, (size_t)(n_rows * n_in) * sizeof *out);
    if (rank)
        add_product(k, c->a + c->begins[i] * n_in, r->bt + c->begins[i] * site->n_out + first,
                    site->n_out, rank, n_in, n_rows, out, scratch);
    float *w = (float *)(void *)((uint8_t *)scratch + product_bytes(r));
    for (int64_t row = 0; c->gains[i] && row < n_rows; row++) {
        const float more = c->gains[i][first + row] - 1;
        k->dequantize[r->weight->type](
            r->weight, merge_base_row(c->inputs->model, site, first + row), 0, n_in, w);
        k->scale(w, more, n_in);
        k->add(out + row * n_in, w, n_in);
    }
}

/* ---- norms -------------------------------------------------------------------------------- */

struct norms {
    const struct merge_inputs *inputs;
    const struct merge_site *site;
    const struct matrix *weight;
    const float *a, *bt; /* [rank, n_in], [rank, n_out] */
    int64_t rank;
    float *rows; /* [n_workers, ROWS, n_in] */
    uint8_t *scratch;
    float *out;
};

static void norm_share(void *context, int worker, int n_workers)
{
    const struct norms *n = context;
    const struct kernels *k = n->inputs->model->runtime->kernels;
    const int64_t n_in = n->site->n_in;
    float *x = n->rows + worker * ROWS * n_in;
    int64_t begin, end;
    pool_split(n->site->n_out, ROWS, worker, n_workers, &begin, &end);
    for (int64_t o = begin; o < end; o += ROWS) {
        const int64_t some = end - o < ROWS ? end - o : ROWS;
        for (int64_t row = 0; row < some; row++)
            k->dequantize[n->weight->type](n->weight,
                                           merge_base_row(n->inputs->model, n->site, o + row), 0,
                                           n_in, x + row * n_in);
        add_product(k, n->a, n->bt + o, n->site->n_out, n->rank, n_in, some, x,
                    n->scratch + (size_t)worker * prefill_scratch_bytes(n_in));
        for (int64_t row = 0; row < some; row++)
            n->out[o + row] = (float)sqrt(k->sum_squares(x + row * n_in, n_in));
    }
}

graft_status change_norms(const struct merge_inputs *inputs, const struct merge_site *site,
                          const float *a, const float *bt, int64_t rank, float *out,
                          graft_error *error)
{
    struct mem *mem = inputs->mem;
    struct pool *pool = inputs->model->runtime->pool;
    const size_t workers = (size_t)pool_threads(pool);
    struct norms n = {.inputs = inputs,
                      .site = site,
                      .weight = slot_weight(inputs->model, site->slot, site->layer),
                      .a = a,
                      .bt = bt,
                      .rank = rank,
                      .out = out};
    n.rows = mem_alloc(mem, workers * (size_t)(ROWS * site->n_in) * sizeof *n.rows);
    n.scratch = mem_alloc(mem, workers * prefill_scratch_bytes(site->n_in));
    graft_status status = n.rows && n.scratch ? GRAFT_OK : no_memory(error);
    if (status == GRAFT_OK)
        pool_run(pool, norm_share, &n);
    mem_free(mem, n.rows);
    mem_free(mem, n.scratch);
    return status;
}
