/* rows.c: the data of one tensor, converted a chunk of rows at a time by all workers.
 *
 * A matrix whose type stays is copied byte for byte. Q and K rows are put into the other RoPE order on
 * the way: rotate-half row (h, part, i) is interleaved row (h, i, part), part being 0 or 1.
 */
#include "convert_internal.h"

#include <float.h>
#include <math.h>

enum { CHUNK_BYTES = 8 << 20 };
static const long long NO_ROW = INT64_MAX;

struct chunk {
    const struct conversion *c;
    const struct item *item;
    struct fused *fused; /* NULL: the mix does not change it */
    int64_t first, n_rows;
    float *floats;        /* [n_workers, n_in] */
    struct matrix to;     /* [n_rows, n_in] as written */
    uint8_t *memory;      /* NULL: they go to a file, or nowhere */
    atomic_llong bad_row; /* the first row that holds what the type cannot, or NO_ROW */
};

/* The largest value of a type; a Q type's scales are F16. */
static float type_limit(graft_type type)
{
    if (type_is_mlx(type))
        return 32752.0f; /* so that the widest group still has a scale */
    return type == GRAFT_TYPE_F32 ? FLT_MAX : type == GRAFT_TYPE_BF16 ? 0x1.fep127f : 65504.0f;
}

/* The first value that the type cannot hold, or -1. Infinities and NaN are never converted. */
static int64_t row_misfit(const float *x, int64_t n, graft_type type)
{
    float limit = type_limit(type);
    for (int64_t i = 0; i < n; i++)
        if (!(fabsf(x[i]) <= limit))
            return i;
    return -1;
}

/* ---- encoded rows ------------------------------------------------------------------------- */

/* Of an MLX type: scales, or biases, of a row. */
static size_t group_bytes(graft_type type, int64_t n_in)
{
    return type_is_mlx(type) ? (size_t)(n_in / MLX_GROUP) * sizeof(uint16_t) : 0;
}

size_t store_bytes(graft_type type, int64_t n_rows, int64_t n_in)
{
    size_t row = 0;
    (void)type_row_bytes(type, n_in, &row);
    return (row + 2 * group_bytes(type, n_in)) * (size_t)n_rows;
}

struct matrix store_at(graft_type type, int64_t n_rows, int64_t n_in, void *bytes)
{
    struct matrix to = {.type = type, .n_out = n_rows, .n_in = n_in, .data = bytes};
    (void)type_row_bytes(type, n_in, &to.row_bytes);
    if (!type_is_mlx(type))
        return to;
    to.group = MLX_GROUP;
    to.scale_type = GRAFT_TYPE_F16;
    if (bytes) {
        to.scales = (uint8_t *)bytes + (size_t)n_rows * to.row_bytes;
        to.biases = (const uint8_t *)to.scales + (size_t)n_rows * group_bytes(type, n_in);
    }
    return to;
}

bool store_part(const struct matrix *to, int64_t at, int64_t first, int64_t n, const float *x)
{
    const struct type_traits *traits = type_traits(to->type);
    uint8_t *row = (uint8_t *)(uintptr_t)to->data + (size_t)at * to->row_bytes;
    if (row_misfit(x, n, to->type) >= 0)
        return false;
    if (type_is_mlx(to->type))
        return quantize_mlx(to, at, first, n, x);
    return quantize_row(to->type, x, n,
                        row + (size_t)(first / traits->block_values) * traits->block_bytes);
}

bool store_row(const struct matrix *to, int64_t at, const float *x)
{
    return store_part(to, at, 0, to->n_in, x);
}

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

static graft_status misfit(const struct item *item, int64_t row, float value, graft_error *error)
{
    error_set(error, GRAFT_NUMERIC, "tensor %s: row %lld holds %g, which %s cannot hold",
              item->name, (long long)row, (double)value, graft_type_name(item->type));
    error_at_tensor(error, item->name);
    return GRAFT_NUMERIC;
}

/* The lowest row wins, whichever worker meets one first. */
static void note_bad_row(atomic_llong *bad, long long row)
{
    long long seen = atomic_load(bad);
    while (row < seen && !atomic_compare_exchange_weak(bad, &seen, row))
        ;
}

static bool convert_row(struct chunk *k, int worker, int64_t row, int64_t at)
{
    const struct matrix *w = k->item->matrix;
    if (k->fused)
        return fused_row(k->fused, worker, row, &k->to, at);
    if (w->type == k->to.type && w->layout == LAYOUT_FILE) {
        memcpy((uint8_t *)(uintptr_t)k->to.data + (size_t)at * k->to.row_bytes,
               (const uint8_t *)w->data + (size_t)row * w->row_bytes, k->to.row_bytes);
        return true;
    }
    float *x = k->floats + worker * w->n_in;
    k->c->runtime->kernels->dequantize[w->type](w, row, 0, w->n_in, x);
    return store_row(&k->to, at, x);
}

static void convert_rows(void *context, int worker, int n_workers)
{
    struct chunk *k = context;
    int64_t begin, end;
    pool_split(k->n_rows, 1, worker, n_workers, &begin, &end);
    for (int64_t i = begin; i < end; i++) {
        int64_t row = source_row(k->c, k->item, k->first + i);
        if (!convert_row(k, worker, row, i))
            note_bad_row(&k->bad_row, row);
    }
}

static graft_status report(struct conversion *c, size_t bytes, const char *name, graft_error *error)
{
    c->bytes_done += bytes;
    if (c->options->progress &&
        !c->options->progress(c->options->progress_user, c->bytes_done, c->bytes_total, name))
        return error_set(error, GRAFT_CANCELLED, "conversion cancelled");
    return GRAFT_OK;
}

/* What row `bad` holds that its type cannot. */
static graft_status bad_row(struct chunk *k, int64_t bad, graft_error *error)
{
    const struct matrix *w = k->item->matrix;
    const float *x = k->floats;
    if (k->fused)
        x = fused_values(k->fused, bad);
    else
        k->c->runtime->kernels->dequantize[w->type](w, bad, 0, w->n_in, k->floats);
    int64_t i = row_misfit(x, w->n_in, k->item->type);
    return misfit(k->item, bad, x[i < 0 ? 0 : i], error);
}

static graft_status write_chunk(struct conversion *c, struct chunk *k, struct file_writer *file,
                                graft_error *error)
{
    atomic_store(&k->bad_row, NO_ROW);
    pool_run(c->runtime->pool, convert_rows, k);
    long long bad = atomic_load(&k->bad_row);
    if (bad != NO_ROW)
        return bad_row(k, bad, error);
    size_t bytes = store_bytes(k->to.type, k->n_rows, k->to.n_in);
    if (k->memory)
        memcpy(k->memory + (size_t)k->first * k->to.row_bytes, k->to.data, bytes); /* no MLX */
    graft_status status = file ? file_writer_write(file, k->to.data, bytes, error) : GRAFT_OK;
    return status == GRAFT_OK ? report(c, bytes, k->item->name, error) : status;
}

static graft_status write_chunks(struct conversion *c, struct chunk *k, struct file_writer *file,
                                 graft_error *error)
{
    struct mem *mem = &c->runtime->mem;
    const struct item *item = k->item;
    const struct matrix *w = item->matrix;
    int64_t rows = CHUNK_BYTES / (int64_t)store_bytes(item->type, 1, w->n_in) + 1;
    rows =
        rows < w->n_out && !type_is_mlx(item->type) ? rows : w->n_out; /* MLX: all scales follow */
    uint8_t *out = mem_calloc(mem, 1, store_bytes(item->type, rows, w->n_in));
    k->floats = mem_calloc(mem, (size_t)pool_threads(c->runtime->pool) * (size_t)w->n_in,
                           sizeof *k->floats);
    graft_status status =
        k->floats && out ? GRAFT_OK : error_set(error, GRAFT_NO_MEMORY, "out of memory");
    for (k->first = 0; k->first < w->n_out && status == GRAFT_OK; k->first += rows) {
        k->n_rows = w->n_out - k->first < rows ? w->n_out - k->first : rows;
        k->to = store_at(item->type, k->n_rows, w->n_in, out);
        status = write_chunk(c, k, file, error);
    }
    mem_free(mem, k->floats);
    mem_free(mem, out);
    return status;
}

static graft_status write_matrix(struct conversion *c, const struct item *item,
                                 struct file_writer *file, uint8_t *memory, graft_error *error)
{
    struct chunk k = {.c = c, .item = item, .memory = memory};
    graft_status status = item->record ? fused_open(c, item, &k.fused, error) : GRAFT_OK;
    if (status == GRAFT_OK)
        status = write_chunks(c, &k, file, error);
    if (status == GRAFT_OK && k.fused)
        status = fused_finish(k.fused, file != NULL, error);
    fused_close(&k.fused);
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
    int64_t bad = status == GRAFT_OK ? row_misfit(x, item->n, item->type) : -1;
    if (bad >= 0)
        status = misfit(item, source_row(c, item, bad), x[bad], error);
    if (status == GRAFT_OK && !quantize_row(item->type, x, item->n, out))
        status =
            error_set(error, GRAFT_INTERNAL, "%s as %s", item->name, graft_type_name(item->type));
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
    return item->matrix ? write_matrix(c, item, file, NULL, error)
                        : write_vector(c, item, file, error);
}

graft_status item_make(struct conversion *c, const struct item *item, uint8_t *memory,
                       graft_error *error)
{
    return write_matrix(c, item, NULL, memory, error);
}
