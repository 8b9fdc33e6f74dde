/* rows.c: the data of one tensor, converted a chunk of rows at a time by all workers.
 *
 * A matrix whose type stays is copied byte for byte. Q and K rows are put into the other RoPE order on
 * the way: rotate-half row (h, part, i) is interleaved row (h, i, part), part being 0 or 1.
 */
#include "convert_internal.h"

#include <math.h>

enum { CHUNK_BYTES = 8 << 20 };

struct chunk {
    const struct conversion *c;
    const struct item *item;
    int64_t first, n_rows;
    size_t row_bytes;
    float *floats;        /* [n_workers, n_in] */
    uint8_t *out;         /* [n_rows, row_bytes] */
    atomic_llong bad_row; /* a row that holds what the type cannot, or -1 */
};

/* The source row of output row r. */
static int64_t source_row(const struct conversion *c, const struct item *item, int64_t r)
{
    if (item->n_head_rows == 0)
        return r;
    int64_t d = c->model->config.d_head, head = r / d, i = r % d;
    if (c->naming == NAMING_GGUF) /* output interleaved: i = 2 * plane + part */
        return head * d + (i % 2) * (d / 2) + i / 2;
    return head * d + (i % (d / 2)) * 2 + i / (d / 2);
}

/* Can every value be held? F16 ends at 65504; infinities and NaN are never written. */
static bool row_fits(const float *x, int64_t n, graft_type type)
{
    float limit = type == GRAFT_TYPE_F16 ? 65504.0f : INFINITY;
    for (int64_t i = 0; i < n; i++)
        if (!isfinite(x[i]) || fabsf(x[i]) > limit)
            return false;
    return true;
}

static void convert_rows(void *context, int worker, int n_workers)
{
    struct chunk *k = context;
    const struct matrix *w = k->item->matrix;
    const struct kernels *kernels = k->c->runtime->kernels;
    float *x = k->floats + worker * w->n_in;
    int64_t begin, end;
    pool_split(k->n_rows, 1, worker, n_workers, &begin, &end);
    for (int64_t i = begin; i < end; i++) {
        int64_t row = source_row(k->c, k->item, k->first + i);
        uint8_t *out = k->out + (size_t)i * k->row_bytes;
        if (w->type == k->item->type) {
            memcpy(out, (const uint8_t *)w->data + (size_t)row * w->row_bytes, k->row_bytes);
            continue;
        }
        kernels->dequantize[w->type](w, row, 0, w->n_in, x);
        if (!row_fits(x, w->n_in, k->item->type) || !quantize_row(k->item->type, x, w->n_in, out))
            atomic_store(&k->bad_row, row);
    }
}

static graft_status report(struct conversion *c, size_t bytes, const char *name, graft_error *error)
{
    c->bytes_done += bytes;
    if (c->options->progress &&
        !c->options->progress(c->options->progress_user, c->bytes_done, c->plan.bytes, name))
        return error_set(error, GRAFT_CANCELLED, "conversion cancelled");
    return GRAFT_OK;
}

static graft_status write_chunk(struct conversion *c, struct chunk *k, struct file_writer *file,
                                graft_error *error)
{
    atomic_store(&k->bad_row, -1);
    pool_run(c->runtime->pool, convert_rows, k);
    long long bad = atomic_load(&k->bad_row);
    if (bad >= 0) {
        error_set(error, GRAFT_NUMERIC,
                  "tensor \"%s\": row %lld holds NaN, Inf or a value that %s cannot hold",
                  k->item->name, bad, graft_type_name(k->item->type));
        error_at_tensor(error, k->item->name);
        return GRAFT_NUMERIC;
    }
    size_t bytes = (size_t)k->n_rows * k->row_bytes;
    graft_status status = file_writer_write(file, k->out, bytes, error);
    return status == GRAFT_OK ? report(c, bytes, k->item->name, error) : status;
}

static graft_status write_matrix(struct conversion *c, const struct item *item,
                                 struct file_writer *file, graft_error *error)
{
    struct mem *mem = &c->runtime->mem;
    const struct matrix *w = item->matrix;
    struct chunk k = {.c = c, .item = item};
    if (!type_row_bytes(item->type, w->n_in, &k.row_bytes))
        return error_set(error, GRAFT_INTERNAL, "row size of %s", item->name);
    int64_t rows = CHUNK_BYTES / (int64_t)k.row_bytes + 1;
    rows = rows < w->n_out ? rows : w->n_out;
    k.floats =
        mem_calloc(mem, (size_t)pool_threads(c->runtime->pool) * (size_t)w->n_in, sizeof *k.floats);
    k.out = mem_calloc(mem, (size_t)rows, k.row_bytes);
    graft_status status =
        k.floats && k.out ? GRAFT_OK : error_set(error, GRAFT_NO_MEMORY, "out of memory");
    for (k.first = 0; k.first < w->n_out && status == GRAFT_OK; k.first += rows) {
        k.n_rows = w->n_out - k.first < rows ? w->n_out - k.first : rows;
        status = write_chunk(c, &k, file, error);
    }
    mem_free(mem, k.floats);
    mem_free(mem, k.out);
    return status;
}

static graft_status write_vector(struct conversion *c, const struct item *item,
                                 struct file_writer *file, graft_error *error)
{
    struct mem *mem = &c->runtime->mem;
    size_t bytes = (size_t)item->n * type_traits(item->type)->block_bytes;
    float *x = mem_calloc(mem, (size_t)item->n, sizeof *x);
    uint8_t *out = mem_calloc(mem, 1, bytes);
    graft_status status = x && out ? GRAFT_OK : error_set(error, GRAFT_NO_MEMORY, "out of memory");
    for (int64_t i = 0; i < item->n && status == GRAFT_OK; i++)
        x[i] = item->vector[source_row(c, item, i)];
    if (status == GRAFT_OK &&
        (!row_fits(x, item->n, item->type) || !quantize_row(item->type, x, item->n, out))) {
        status = error_set(error, GRAFT_NUMERIC, "tensor \"%s\" holds what %s cannot", item->name,
                           graft_type_name(item->type));
        error_at_tensor(error, item->name);
    }
    if (status == GRAFT_OK)
        status = file_writer_write(file, out, bytes, error);
    if (status == GRAFT_OK)
        status = report(c, bytes, item->name, error);
    mem_free(mem, x);
    mem_free(mem, out);
    return status;
}

graft_status item_write(struct conversion *c, const struct item *item, struct file_writer *file,
                        graft_error *error)
{
    return item->matrix ? write_matrix(c, item, file, error) : write_vector(c, item, file, error);
}
