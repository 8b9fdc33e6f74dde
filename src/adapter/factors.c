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

graft_status adapter_retype(struct adapter_options *options, const char *name, graft_error *error)
{
    static const struct {
        const char *name;
        graft_type type;
    } TYPES[] = {{"f32", GRAFT_TYPE_F32},   {"f16", GRAFT_TYPE_F16},   {"bf16", GRAFT_TYPE_BF16},
                 {"int8", GRAFT_TYPE_Q8_0}, {"q8_0", GRAFT_TYPE_Q8_0}, {"q4", GRAFT_TYPE_Q4_0},
                 {"q4_0", GRAFT_TYPE_Q4_0}};
    for (size_t i = 0; name && i < ARRAY_LEN(TYPES); i++)
        if (!strcmp(name, TYPES[i].name)) {
            options->retype = true;
            options->type = TYPES[i].type;
            return GRAFT_OK;
        }
    if (!name)
        return GRAFT_OK;
    return error_set(error, GRAFT_INVALID_ARGUMENT,
                     "factors cannot be held as \"%.40s\": one of bf16, int8, q4, f16, f32", name);
}

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

/* Words of a file, which need not lie where words of memory do. */
typedef uint16_t loose_16 __attribute__((aligned(1), may_alias));
typedef uint32_t loose_32 __attribute__((aligned(1), may_alias));

/* Are all n values of a float type finite? Looked at as they lie: of NaN and infinity the exponent is all ones. */
#define ALL_FINITE(name, word, ones)                                                               \
    static bool name(const void *values, int64_t n)                                                \
    {                                                                                              \
        enum { STEP = 16 }; /* a fixed number, which compilers turn into vectors */                \
        const word *x = values;                                                                    \
        unsigned bad = 0;                                                                          \
        int64_t i = 0;                                                                             \
        for (; i + STEP <= n; i += STEP)                                                           \
            for (int j = 0; j < STEP; j++)                                                         \
                bad |= (x[i + j] & (ones)) == (ones);                                              \
        for (; i < n; i++)                                                                         \
            bad |= (x[i] & (ones)) == (ones);                                                      \
        return !bad;                                                                               \
    }
ALL_FINITE(f32_finite, loose_32, 0x7F800000u)
ALL_FINITE(f16_finite, loose_16, 0x7C00u)
ALL_FINITE(bf16_finite, loose_16, 0x7F80u)

/* Bytes of a value that may be copied as it is, if it is finite; 0: of a type of blocks. */
static size_t plain_bytes(graft_type type)
{
    return type == GRAFT_TYPE_F32 ? 4 : type == GRAFT_TYPE_F16 || type == GRAFT_TYPE_BF16 ? 2 : 0;
}

static bool all_finite(graft_type type, const void *values, int64_t n)
{
    return type == GRAFT_TYPE_F32   ? f32_finite(values, n)
           : type == GRAFT_TYPE_F16 ? f16_finite(values, n)
                                    : bf16_finite(values, n);
}

static float type_limit(graft_type type)
{
    if (type == GRAFT_TYPE_F32)
        return 0x1.fffffep127f;
    return type == GRAFT_TYPE_BF16 ? 0x1.fep127f : 65504.0f;
}

static void refuse(struct mishap *m, const struct tensor_info *t, int64_t row)
{
    if (m->status == GRAFT_OK)
        *m = (struct mishap){GRAFT_NUMERIC, t, row};
}

/* ---- A and whole matrices ----------------------------------------------------------------- */

/* Row r of `to` from its values x, which are row r of `from` unless `from` is NULL. */
static void store_row(const struct matrix *to, const struct matrix *from, int64_t r, const float *x,
                      const struct tensor_info *t, struct mishap *mishap)
{
    uint8_t *out = (uint8_t *)to->data + (size_t)r * to->row_bytes;
    if (!all_within(x, to->n_in, type_limit(to->type)))
        refuse(mishap, t, r);
    else if (from && from->type == to->type)
        memcpy(out, (const uint8_t *)from->data + (size_t)r * from->row_bytes, to->row_bytes);
    else if (!quantize_row(to->type, x, to->n_in, out))
        refuse(mishap, t, r);
}

/* All rows as they are. */
static void copy_plain(const struct matrix *to, const struct matrix *from,
                       const struct tensor_info *t, struct mishap *mishap)
{
    const uint8_t *in = from->data;
    for (int64_t r = 0; r < to->n_out; r++, in += from->row_bytes) {
        if (!all_finite(to->type, in, to->n_in))
            refuse(mishap, t, r);
        memcpy((uint8_t *)to->data + (size_t)r * to->row_bytes, in, to->row_bytes);
    }
}

static void copy_matrix(const struct kernels *k, const struct matrix *to,
                        const struct tensor_info *t, float *scratch, struct mishap *mishap)
{
    const struct matrix from = stored(t);
    if (from.type == to->type && plain_bytes(to->type)) {
        copy_plain(to, &from, t, mishap);
        return;
    }
    for (int64_t r = 0; r < to->n_out; r++) {
        k->dequantize[from.type](&from, r, 0, to->n_in, scratch);
        store_row(to, &from, r, scratch, t, mishap);
    }
}

/* The same from the transposed one. */
static void turn_matrix(const struct kernels *k, const struct matrix *to,
                        const struct tensor_info *t, float *scratch, struct mishap *mishap)
{
    const struct matrix from = stored(t);
    float *row = scratch + to->n_out * to->n_in;
    for (int64_t i = 0; i < to->n_in; i++) {
        k->dequantize[from.type](&from, i, 0, to->n_out, row);
        for (int64_t r = 0; r < to->n_out; r++)
            scratch[r * to->n_in + i] = row[r];
    }
    for (int64_t r = 0; r < to->n_out; r++)
        store_row(to, NULL, r, scratch + r * to->n_in, t, mishap);
}

static bool a_is_turned(const struct build *b)
{
    return b->a_rank_first == (b->site == EMBED_SITE);
}

/* ---- B ------------------------------------------------------------------------------------ */

static float value_at(const struct kernels *k, const struct matrix *from, int64_t row, int64_t at)
{
    float block[LOWRANK_TILE];
    int64_t n = type_traits(from->type)->block_values;
    k->dequantize[from->type](from, row, at / n * n, n, block);
    return block[at % n];
}

/* Outputs first..first+n of B as [n, rank]. */
static void gather_b(const struct kernels *k, const struct build *b, const struct matrix *from,
                     int64_t first, int64_t n, float *out)
{
    float column[LOWRANK_TILE];
    if (!b->b_rank_first)
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
                out[i * b->rank + r] = value_at(k, from, r, source_row(b, first + i));
}

/* A tile of B whose values stay as they are: outputs first..first+n, then zeros. */
#define TURN_TILE(name, word)                                                                      \
    static void name(const struct build *b, const struct matrix *from, int64_t first, int64_t n,   \
                     word *out)                                                                    \
    {                                                                                              \
        if (n < LOWRANK_TILE)                                                                      \
            memset(out, 0, (size_t)b->rank *LOWRANK_TILE * sizeof *out);                           \
        for (int64_t i = 0; i < n; i++) {                                                          \
            const word *row = (const word *)from->data + source_row(b, first + i) * b->rank;       \
            for (int64_t r = 0; r < b->rank; r++)                                                  \
                out[r * LOWRANK_TILE + i] = row[r];                                                \
        }                                                                                          \
    }
TURN_TILE(turn_tile_2, loose_16)
TURN_TILE(turn_tile_4, loose_32)

static void turn_plain_b(struct build *b, const struct matrix *from)
{
    const struct matrix *to = &b->lowrank.b;
    uint8_t *out = (uint8_t *)to->data;
    for (int64_t r = 0; r < b->n_out; r++)
        if (!all_finite(from->type, (const uint8_t *)from->data + (size_t)r * from->row_bytes,
                        b->rank))
            refuse(&b->mishap, b->from_b, r);
    for (int64_t o = 0; o < b->n_out; o += LOWRANK_TILE) {
        int64_t n = b->n_out - o < LOWRANK_TILE ? b->n_out - o : LOWRANK_TILE;
        if (plain_bytes(from->type) == 2)
            turn_tile_2(b, from, o, n, (loose_16 *)(void *)out);
        else
            turn_tile_4(b, from, o, n, (loose_32 *)(void *)out);
        out += (size_t)b->rank * to->row_bytes;
    }
}

static void make_b(const struct kernels *k, struct build *b, float *scratch)
{
    const struct matrix from = stored(b->from_b);
    const struct matrix *to = &b->lowrank.b;
    if (from.type == b->b && plain_bytes(b->b) && !b->b_rank_first) {
        turn_plain_b(b, &from);
        return;
    }
    float limit = type_limit(b->b);
    uint8_t *out = (uint8_t *)to->data;
    for (int64_t o = 0; o < b->n_out; o += LOWRANK_TILE) {
        int64_t n = b->n_out - o < LOWRANK_TILE ? b->n_out - o : LOWRANK_TILE;
        gather_b(k, b, &from, o, n, scratch);
        if (!all_within(scratch, n * b->rank, limit) ||
            !lowrank_pack_b(b->b, scratch, n, b->rank, out))
            refuse(&b->mishap, b->from_b, o);
        out += (size_t)b->rank * to->row_bytes;
    }
}

/* ---- vectors ------------------------------------------------------------------------------ */

static void make_vector(const struct kernels *k, struct build *b, const struct tensor_info *t,
                        float *out)
{
    if (!t)
        return;
    const struct matrix from = stored(t);
    for (int64_t o = 0; o < from.n_in; o++)
        k->dequantize[from.type](&from, 0, source_row(b, o), 1, out + o);
    if (!all_within(out, from.n_in, type_limit(GRAFT_TYPE_F32)))
        refuse(&b->mishap, t, 0);
}

/* ---- one module --------------------------------------------------------------------------- */

static void make_one(const struct kernels *k, struct build *b, float *scratch)
{
    (a_is_turned(b) ? turn_matrix : copy_matrix)(k, &b->lowrank.a, b->from_a, scratch, &b->mishap);
    make_b(k, b, scratch);
    make_vector(k, b, b->from_magnitude, b->by_token ? b->token_gain : (float *)b->lowrank.gain);
    make_vector(k, b, b->from_bias, (float *)b->lowrank.bias);
}

static void make_work(void *context, int worker, int n_workers)
{
    struct job *job = context;
    struct adapter *adapter = job->adapter;
    const struct kernels *k = adapter->model->runtime->kernels;
    float *scratch = job->scratch + (size_t)worker * job->scratch_floats;
    (void)n_workers;
    for (int i; (i = atomic_fetch_add(&job->next, 1)) < adapter->n_builds + adapter->n_saved;) {
        if (i < adapter->n_builds) {
            make_one(k, &adapter->builds[i], scratch);
            continue;
        }
        struct saved *s = &adapter->saved[i - adapter->n_builds];
        copy_matrix(k, &s->matrix, s->module->parts[PART_WEIGHT], scratch, &s->mishap);
    }
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
    bool embedding = b->site == EMBED_SITE;
    size_t gains = (size_t)(b->by_token ? b->n_in : b->n_out) * sizeof(float);
    l->scale = (float)b->scale;
    l->a = (struct matrix){.type = b->a,
                           .n_out = embedding ? b->n_in : b->rank,
                           .n_in = embedding ? b->rank : b->n_in};
    l->b = (struct matrix){
        .type = b->b, .n_out = lowrank_b_rows(b->rank, b->n_out), .n_in = LOWRANK_TILE};
    (void)type_row_bytes(b->a, l->a.n_in, &l->a.row_bytes);
    (void)type_row_bytes(b->b, LOWRANK_TILE, &l->b.row_bytes);
    l->a.data = give(adapter, used, (size_t)l->a.n_out * l->a.row_bytes);
    l->b.data = give(adapter, used, (size_t)l->b.n_out * l->b.row_bytes);
    float *gain = b->from_magnitude ? give(adapter, used, gains) : NULL;
    l->gain = b->by_token ? NULL : gain;
    b->token_gain = b->by_token ? gain : NULL;
    l->bias = b->from_bias ? give(adapter, used, (size_t)b->n_out * sizeof(float)) : NULL;
}

static size_t lay_out(struct adapter *adapter)
{
    size_t used = 0;
    for (int i = 0; i < adapter->n_builds; i++)
        lay_out_one(adapter, &adapter->builds[i], &used);
    size_t before = used;
    for (int i = 0; i < adapter->n_saved; i++) {
        struct matrix *m = &adapter->saved[i].matrix;
        (void)type_row_bytes(m->type, m->n_in, &m->row_bytes);
        m->data = give(adapter, &used, (size_t)m->n_out * m->row_bytes);
    }
    adapter->info.saved_bytes = used - before;
    return used;
}

/* Of a worker: a row, a tile of B, or all of an A that is stored transposed and a row of that. */
static size_t scratch_floats(const struct adapter *adapter)
{
    int64_t most = 0;
    for (int i = 0; i < adapter->n_builds; i++) {
        const struct build *b = &adapter->builds[i];
        const struct matrix *a = &b->lowrank.a;
        int64_t tile = LOWRANK_TILE * b->rank;
        int64_t rows = a_is_turned(b) ? a->n_out * (a->n_in + 1) : a->n_in;
        most = most > tile ? most : tile;
        most = most > rows ? most : rows;
    }
    for (int i = 0; i < adapter->n_saved; i++)
        most = most > adapter->saved[i].matrix.n_in ? most : adapter->saved[i].matrix.n_in;
    return (size_t)(most + 15) / 16 * 16;
}

static graft_status report_one(const struct mishap *m, graft_type held, graft_error *error)
{
    if (m->status == GRAFT_OK)
        return GRAFT_OK;
    return tensor_refused(m->tensor, m->status, error,
                          "at row %lld it holds a value that is NaN, infinite, or beyond what %s "
                          "can hold",
                          (long long)m->row, graft_type_name(held));
}

/* The first module that went wrong. */
static graft_status report(const struct adapter *adapter, graft_error *error)
{
    graft_status status = GRAFT_OK;
    for (int i = 0; i < adapter->n_builds && status == GRAFT_OK; i++) {
        const struct build *b = &adapter->builds[i];
        status = report_one(&b->mishap, b->mishap.tensor == b->from_b ? b->b : b->a, error);
    }
    for (int i = 0; i < adapter->n_saved && status == GRAFT_OK; i++)
        status = report_one(&adapter->saved[i].mishap, adapter->saved[i].matrix.type, error);
    return status;
}

graft_status build_factors(struct adapter *adapter, graft_error *error)
{
    struct pool *pool = adapter->model->runtime->pool;
    size_t bytes = lay_out(adapter), workers = (size_t)pool_threads(pool);
    struct job job = {.adapter = adapter, .scratch_floats = scratch_floats(adapter)};
    adapter->memory = mem_alloc(adapter->mem, bytes);
    pages_want_large(adapter->memory, adapter->memory ? bytes : 0);
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
