/* factors.c: factors from their files into an adapter's memory.
 *
 * One block holds all of it. Every value is looked at on the way: an adapter with a NaN or an infinity is
 * refused, not applied. B goes into the tiles of kernels.h and, for q and k between containers, its rows into
 * the other RoPE order. Modules are shared out to workers, each of which hashes what it made while it is in
 * cache.
 */
#include "adapter/adapter_internal.h"

#include <math.h>

struct job {
    struct adapter *adapter;
    atomic_int next;
    size_t scratch_floats; /* of each worker */
    float *scratch;
};

/* ---- values ------------------------------------------------------------------------------- */

static struct matrix stored(const struct tensor_info *t)
{
    struct matrix m = {.type = t->type,
                       .n_out = t->n_dims == 2 ? t->shape[0] : 1,
                       .n_in = t->shape[t->n_dims - 1],
                       .data = t->data};
    (void)type_row_bytes(t->type, m.n_in, &m.row_bytes);
    return m;
}

/* Do all values fit a type that holds no more than `limit`? */
static bool all_within(const float *x, int64_t n, float limit)
{
    bool ok = true;
    for (int64_t i = 0; i < n; i++)
        ok &= fabsf(x[i]) <= limit;
    return ok;
}

static float type_limit(graft_type type)
{
    if (type == GRAFT_TYPE_F32)
        return 0x1.fffffep127f;
    return type == GRAFT_TYPE_BF16 ? 0x1.fep127f : 65504.0f;
}

static void refuse(struct build *b, const struct tensor_info *t, graft_status status, int64_t row)
{
    if (b->status == GRAFT_OK) {
        b->status = status;
        b->bad = t;
        b->bad_row = row;
    }
}

/* ---- A ------------------------------------------------------------------------------------ */

static void store_row(struct build *b, const struct matrix *from, int64_t r, const float *x)
{
    const struct matrix *a = &b->lowrank.a;
    uint8_t *out = (uint8_t *)a->data + (size_t)r * a->row_bytes;
    if (!all_within(x, a->n_in, type_limit(a->type)))
        refuse(b, b->module->parts[PART_A], GRAFT_NUMERIC, r);
    else if (!b->transposed && from->type == a->type)
        memcpy(out, (const uint8_t *)from->data + (size_t)r * from->row_bytes, a->row_bytes);
    else if (!quantize_row(a->type, x, a->n_in, out))
        refuse(b, b->module->parts[PART_A], GRAFT_NUMERIC, r);
}

static void make_a(const struct kernels *k, struct build *b, float *scratch)
{
    const struct matrix from = stored(b->module->parts[PART_A]);
    if (!b->transposed) {
        for (int64_t r = 0; r < b->rank; r++) {
            k->dequantize[from.type](&from, r, 0, from.n_in, scratch);
            store_row(b, &from, r, scratch);
        }
        return;
    }
    float *row = scratch + b->rank * b->n_in;
    for (int64_t i = 0; i < b->n_in; i++) {
        k->dequantize[from.type](&from, i, 0, b->rank, row);
        for (int64_t r = 0; r < b->rank; r++)
            scratch[r * b->n_in + i] = row[r];
    }
    for (int64_t r = 0; r < b->rank; r++)
        store_row(b, &from, r, scratch + r * b->n_in);
}

/* ---- B ------------------------------------------------------------------------------------ */

/* Outputs first..first+n of B as [n, rank]. */
static void gather_b(const struct kernels *k, const struct build *b, const struct matrix *from,
                     int64_t first, int64_t n, float *out)
{
    float column[LOWRANK_TILE];
    if (!b->transposed)
        for (int64_t i = 0; i < n; i++)
            k->dequantize[from->type](from, source_row(b, first + i), 0, b->rank,
                                      out + i * b->rank);
    else if (b->order == ROWS_STAY)
        for (int64_t r = 0; r < b->rank; r++) {
            k->dequantize[from->type](from, r, first, n, column);
            for (int64_t i = 0; i < n; i++)
                out[i * b->rank + r] = column[i];
        }
    else
        for (int64_t i = 0; i < n; i++)
            for (int64_t r = 0; r < b->rank; r++)
                k->dequantize[from->type](from, r, source_row(b, first + i), 1,
                                          out + i * b->rank + r);
}

static void make_b(const struct kernels *k, struct build *b, float *scratch)
{
    const struct matrix from = stored(b->module->parts[PART_B]);
    const struct matrix *to = &b->lowrank.b;
    float limit = type_limit(b->b);
    uint8_t *out = (uint8_t *)to->data;
    for (int64_t o = 0; o < b->n_out; o += LOWRANK_TILE) {
        int64_t n = b->n_out - o < LOWRANK_TILE ? b->n_out - o : LOWRANK_TILE;
        gather_b(k, b, &from, o, n, scratch);
        if (!all_within(scratch, n * b->rank, limit) ||
            !lowrank_pack_b(b->b, scratch, n, b->rank, out))
            refuse(b, b->module->parts[PART_B], GRAFT_NUMERIC, o);
        out += (size_t)b->rank * to->row_bytes;
    }
}

/* ---- vectors ------------------------------------------------------------------------------ */

static void make_vector(const struct kernels *k, struct build *b, enum part part, float *out)
{
    const struct tensor_info *t = b->module->parts[part];
    if (!t)
        return;
    const struct matrix from = stored(t);
    for (int64_t o = 0; o < b->n_out; o++)
        k->dequantize[from.type](&from, 0, source_row(b, o), 1, out + o);
    if (!all_within(out, b->n_out, type_limit(GRAFT_TYPE_F32)))
        refuse(b, t, GRAFT_NUMERIC, 0);
}

/* ---- one module --------------------------------------------------------------------------- */

static void make_one(const struct kernels *k, struct build *b, float *scratch)
{
    make_a(k, b, scratch);
    make_b(k, b, scratch);
    make_vector(k, b, PART_MAGNITUDE, (float *)b->lowrank.gain);
    make_vector(k, b, PART_LORA_BIAS, (float *)b->lowrank.bias);
}

static void make_work(void *context, int worker, int n_workers)
{
    struct job *job = context;
    struct adapter *adapter = job->adapter;
    float *scratch = job->scratch + (size_t)worker * job->scratch_floats;
    (void)n_workers;
    for (int i; (i = atomic_fetch_add(&job->next, 1)) < adapter->n_builds;)
        make_one(adapter->model->runtime->kernels, &adapter->builds[i], scratch);
}

/* ---- memory ------------------------------------------------------------------------------- */

/* Gives `bytes` of the block, or counts them while there is none. */
static void *give(struct adapter *adapter, size_t *used, size_t bytes)
{
    uint8_t *at = adapter->memory ? adapter->memory + *used : NULL;
    *used += (bytes + 63) / 64 * 64;
    return at;
}

static void lay_out_one(struct adapter *adapter, struct build *b, size_t *used)
{
    struct lowrank *l = &b->lowrank;
    size_t vector = (size_t)b->n_out * sizeof(float);
    l->scale = (float)b->scale;
    l->a = (struct matrix){.type = b->a, .n_out = b->rank, .n_in = b->n_in};
    l->b = (struct matrix){
        .type = b->b, .n_out = lowrank_b_rows(b->rank, b->n_out), .n_in = LOWRANK_TILE};
    (void)type_row_bytes(b->a, b->n_in, &l->a.row_bytes);
    (void)type_row_bytes(b->b, LOWRANK_TILE, &l->b.row_bytes);
    l->a.data = give(adapter, used, (size_t)l->a.n_out * l->a.row_bytes);
    l->b.data = give(adapter, used, (size_t)l->b.n_out * l->b.row_bytes);
    l->gain = b->module->parts[PART_MAGNITUDE] ? give(adapter, used, vector) : NULL;
    l->bias = b->module->parts[PART_LORA_BIAS] ? give(adapter, used, vector) : NULL;
}

static size_t lay_out(struct adapter *adapter)
{
    size_t used = 0;
    for (int i = 0; i < adapter->n_builds; i++)
        lay_out_one(adapter, &adapter->builds[i], &used);
    return used;
}

/* Of a worker: a tile of B, a row of A, or all of an A that is stored transposed. */
static size_t scratch_floats(const struct adapter *adapter)
{
    int64_t most = 0;
    for (int i = 0; i < adapter->n_builds; i++) {
        const struct build *b = &adapter->builds[i];
        int64_t tile = LOWRANK_TILE * b->rank, a = b->n_in;
        if (b->transposed)
            a = b->rank * (b->n_in + 1);
        a = a > tile ? a : tile;
        most = a > most ? a : most;
    }
    return (size_t)(most + 15) / 16 * 16;
}

/* The first module in the order of the file that went wrong. */
static graft_status report(const struct adapter *adapter, graft_error *error)
{
    for (int i = 0; i < adapter->n_builds; i++) {
        const struct build *b = &adapter->builds[i];
        if (b->status != GRAFT_OK)
            return tensor_refused(
                b->bad, b->status, error,
                "at row %lld it holds a value that is NaN, infinite, or beyond "
                "what %s can hold",
                (long long)b->bad_row,
                graft_type_name(b->bad == b->module->parts[PART_B] ? b->b : b->a));
    }
    return GRAFT_OK;
}

graft_status build_factors(struct adapter *adapter, graft_error *error)
{
    struct pool *pool = adapter->model->runtime->pool;
    size_t bytes = lay_out(adapter), workers = (size_t)pool_threads(pool);
    struct job job = {.adapter = adapter, .scratch_floats = scratch_floats(adapter)};
    adapter->memory = mem_alloc(adapter->mem, bytes);
    job.scratch = mem_calloc(adapter->mem, workers * job.scratch_floats, sizeof(float));
    graft_status status =
        adapter->memory && job.scratch
            ? GRAFT_OK
            : error_set(error, GRAFT_NO_MEMORY, "no memory for an adapter of %zu bytes", bytes);
    if (status == GRAFT_OK) {
        (void)lay_out(adapter);
        adapter->info.bytes += bytes;
        pool_run(pool, make_work, &job);
        status = report(adapter, error);
    }
    mem_free(adapter->mem, job.scratch);
    return status;
}
