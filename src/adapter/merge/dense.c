/* dense.c: methods that look at single elements: rows of all changes are made, thinned out and combined as they are asked
 * for, and what comes of it is brought down to a rank. ΔW is never in memory as a whole.
 *
 * The magnitude from which elements are kept is found first, exactly, by counting the upper and then the lower bits of all of
 * them. Counts are integers, so threads share rows as they like.
 */
#include "adapter/merge/merge_internal.h"

#include <math.h>

enum { HIGH_BITS = 16, LOW_BITS = 15, HIGH = 1 << HIGH_BITS, LOW = 1 << LOW_BITS };
enum { TILE_BYTES = 256 << 10, MOST_ROWS = 64 };

struct dense {
    const struct changes *c;
    struct change_rows rows;
    struct mem *mem;
    struct pool *pool;
    size_t n, workers;
    int64_t block;             /* rows that a thread makes at a time */
    struct sparsifier *sparse; /* [n] */
    struct combination together;
    float *tiles;     /* [workers, n, block, n_in] */
    uint8_t *scratch; /* [workers, change_scratch_bytes] */
    uint64_t *orders; /* [workers, 2 n_in]; NULL: not wanted */
    uint64_t *counts; /* [workers, HIGH] */
    /* What is done at the moment: */
    size_t input;
    uint32_t high; /* COUNT_LOW: upper bits of what is counted */
    bool low;
    struct cut *cut;       /* COUNT_EQUALS */
    int64_t first, n_rows; /* rows that are asked for */
    float *out;
};

static graft_status no_memory(graft_error *error)
{
    return error_set(error, GRAFT_NO_MEMORY, "no memory to merge a module element by element");
}

static float *tile_of(const struct dense *d, int worker, size_t i)
{
    return d->tiles + ((size_t)worker * d->n + i) * (size_t)(d->block * d->c->site->n_in);
}

static void read_block(const struct dense *d, int worker, size_t i, int64_t first, int64_t n)
{
    change_rows_read(&d->rows, i, first, n, tile_of(d, worker, i),
                     d->scratch + (size_t)worker * change_scratch_bytes(&d->rows));
}

/* ---- the smallest magnitude that is kept -------------------------------------------------- */

/* How many elements of the input at hand have which upper bits; or, of those with some, which lower bits. */
static void count_share(void *context, int worker, int n_workers)
{
    const struct dense *d = context;
    const struct merge_site *site = d->c->site;
    uint64_t *counts = d->counts + (size_t)worker * HIGH;
    const float *x = tile_of(d, worker, d->input);
    int64_t begin, end;
    memset(counts, 0, HIGH * sizeof *counts);
    pool_split(site->n_out, d->block, worker, n_workers, &begin, &end);
    for (int64_t o = begin; o < end; o += d->block) {
        const int64_t some = end - o < d->block ? end - o : d->block;
        read_block(d, worker, d->input, o, some);
        for (int64_t j = 0; j < some * site->n_in; j++) {
            const uint32_t bits = magnitude(x[j]);
            if (!d->low)
                counts[bits >> LOW_BITS]++;
            else if (bits >> LOW_BITS == d->high)
                counts[bits & (LOW - 1)]++;
        }
    }
}

/* The bin in which the `wanted` largest end; *above: how many lie in those over it. */
static uint32_t find_bin(const struct dense *d, uint32_t bins, uint64_t wanted, uint64_t *above,
                         uint64_t *inside)
{
    uint64_t sum = 0;
    for (uint32_t bin = bins; bin-- > 0;) {
        uint64_t here = 0;
        for (size_t w = 0; w < d->workers; w++)
            here += d->counts[w * HIGH + bin];
        if (sum + here >= wanted) {
            *above = sum;
            *inside = here;
            return bin;
        }
        sum += here;
    }
    *above = sum;
    *inside = 0;
    return 0;
}

static void count_equals(void *context, int worker, int n_workers)
{
    const struct dense *d = context;
    const struct merge_site *site = d->c->site;
    const float *x = tile_of(d, worker, d->input);
    int64_t begin, end;
    pool_split(site->n_out, d->block, worker, n_workers, &begin, &end);
    for (int64_t o = begin; o < end; o += d->block) {
        const int64_t some = end - o < d->block ? end - o : d->block;
        read_block(d, worker, d->input, o, some);
        for (int64_t row = 0; row < some; row++) {
            int64_t equal = 0;
            for (int64_t j = 0; j < site->n_in; j++)
                equal += magnitude(x[row * site->n_in + j]) == d->cut->bits;
            d->cut->starts[o + row] = equal;
        }
    }
}

/* The `wanted` largest elements of an input; of equals the first. */
static graft_status find_cut(struct dense *d, size_t input, uint64_t wanted, struct cut *out,
                             graft_error *error)
{
    const struct merge_site *site = d->c->site;
    uint64_t above, inside, low_above;
    *out = (struct cut){.equals = -1};
    if (wanted == 0)
        out->bits = UINT32_MAX; /* beyond all numbers */
    if (wanted == 0 || wanted >= (uint64_t)(site->n_out * site->n_in))
        return GRAFT_OK;
    d->input = input;
    d->low = false;
    pool_run(d->pool, count_share, d);
    d->high = find_bin(d, HIGH, wanted, &above, &inside);
    d->low = true;
    pool_run(d->pool, count_share, d);
    const uint32_t low = find_bin(d, LOW, wanted - above, &low_above, &inside);
    out->bits = d->high << LOW_BITS | low;
    const uint64_t left = wanted - above - low_above;
    if (left == inside)
        return GRAFT_OK; /* no equals beyond the cut */
    out->equals = (int64_t)left;
    out->starts = mem_calloc(d->mem, (size_t)site->n_out, sizeof *out->starts);
    if (!out->starts)
        return no_memory(error);
    d->cut = out;
    pool_run(d->pool, count_equals, d);
    int64_t sum = 0;
    for (int64_t o = 0; o < site->n_out; o++) {
        const int64_t here = out->starts[o];
        out->starts[o] = sum;
        sum += here;
    }
    return GRAFT_OK;
}

/* ---- rows of the result ------------------------------------------------------------------- */

static void merge_share(void *context, int worker, int n_workers)
{
    const struct dense *d = context;
    const int64_t n_in = d->c->site->n_in;
    float *tiles[MERGE_MAX];
    int64_t begin, end;
    for (size_t i = 0; i < d->n; i++)
        tiles[i] = tile_of(d, worker, i);
    pool_split(d->n_rows, d->block, worker, n_workers, &begin, &end);
    for (int64_t o = begin; o < end; o += d->block) {
        const int64_t some = end - o < d->block ? end - o : d->block;
        for (size_t i = 0; i < d->n; i++) {
            read_block(d, worker, i, d->first + o, some);
            sparsify(&d->sparse[i], d->first + o, some, n_in, tiles[i],
                     d->orders ? d->orders + (size_t)worker * 2 * (size_t)n_in : NULL);
        }
        combine(&d->together, tiles, some * n_in, d->out + o * n_in);
    }
}

static graft_status merged_rows(void *user, int64_t first, int64_t n, float *out,
                                graft_error *error)
{
    struct dense *d = user;
    (void)error;
    d->first = first;
    d->n_rows = n;
    d->out = out;
    pool_run(d->pool, merge_share, d);
    return GRAFT_OK;
}

/* ---- methods ------------------------------------------------------------------------------ */

/* Random numbers belong to the content of an adapter and the seed, not to its place among the inputs. */
static void set_key(struct sparsifier *s, const struct merge_plan *plan, const struct changes *c,
                    size_t i)
{
    uint64_t words[2];
    memcpy(words, c->inputs->members[i].digest, sizeof words);
    s->key = plan->seed ^ words[0];
    s->stream = words[1] ^ ((uint64_t)c->site->slot << 32 | (uint64_t)c->site->layer);
}

static graft_status plan_input(struct dense *d, const struct merge_plan *plan, size_t i,
                               graft_error *error)
{
    const struct merge_site *site = d->c->site;
    const struct merge_input *input = &plan->inputs[i];
    struct sparsifier *s = &d->sparse[i];
    const double all = (double)(site->n_out * site->n_in);
    uint64_t keep = (uint64_t)(input->density * all), top = 0;
    *s = (struct sparsifier){.density = input->density, .epsilon = input->epsilon};
    set_key(s, plan, d->c, i);
    s->keep.equals = s->outliers.equals = -1;
    if (d->c->begins[i] == d->c->begins[i + 1])
        return GRAFT_OK; /* zeros */
    switch (plan->method) {
    case MERGE_BREADCRUMBS:
    case MERGE_BREADCRUMBS_TIES:
        top = (uint64_t)(input->gamma * all);
        top = keep + top > (uint64_t)all ? (uint64_t)all - keep : top;
        s->has_outliers = top > 0;
        s->kind = SPARSE_LARGEST;
        break;
    case MERGE_MAGNITUDE_PRUNE:
    case MERGE_TIES:
        s->kind = SPARSE_LARGEST;
        break;
    case MERGE_DARE_LINEAR:
    case MERGE_DARE_TIES:
        s->kind = SPARSE_RANDOM;
        break;
    case MERGE_DELLA_LINEAR:
    case MERGE_DELLA:
        s->kind = SPARSE_RANKED;
        break;
    default:
        s->kind = SPARSE_NONE;
    }
    graft_status status = GRAFT_OK;
    if (s->kind == SPARSE_LARGEST)
        status = find_cut(d, i, keep + top, &s->keep, error);
    if (status == GRAFT_OK && s->has_outliers)
        status = find_cut(d, i, top, &s->outliers, error);
    return status;
}

static graft_status open_dense(struct dense *d, const struct merge_plan *plan,
                               const struct changes *c, graft_error *error)
{
    const int64_t n_in = c->site->n_in, row = n_in * (int64_t)sizeof(float);
    const bool ranked = plan->method == MERGE_DELLA || plan->method == MERGE_DELLA_LINEAR;
    *d = (struct dense){
        .c = c, .mem = c->inputs->mem, .pool = c->inputs->model->runtime->pool, .n = c->inputs->n};
    d->workers = (size_t)pool_threads(d->pool);
    d->block = TILE_BYTES / row < 1           ? 1
               : TILE_BYTES / row > MOST_ROWS ? MOST_ROWS
                                              : TILE_BYTES / row;
    d->together = (struct combination){
        .elect = plan->method == MERGE_TIES || plan->method == MERGE_DARE_TIES ||
                 plan->method == MERGE_DELLA || plan->method == MERGE_BREADCRUMBS_TIES,
        .by_frequency = plan->by_frequency,
        .by_weight = plan->by_weight,
        .undivided = plan->undivided,
        .weights = c->site->factors,
        .n = d->n,
        .lambda = 1};
    if (d->together.elect)
        d->together.lambda = plan->lambda;
    graft_status status = change_rows_open(&d->rows, c, error);
    d->sparse = mem_calloc(d->mem, d->n, sizeof *d->sparse);
    d->tiles = mem_alloc(d->mem, d->workers * d->n * (size_t)(d->block * row));
    d->scratch = mem_alloc(d->mem, d->workers * change_scratch_bytes(&d->rows));
    d->counts = mem_alloc(d->mem, d->workers * HIGH * sizeof *d->counts);
    if (ranked)
        d->orders = mem_alloc(d->mem, d->workers * 2 * (size_t)n_in * sizeof *d->orders);
    if (status == GRAFT_OK &&
        !(d->sparse && d->tiles && d->scratch && d->counts && (d->orders || !ranked)))
        status = no_memory(error);
    for (size_t i = 0; i < d->n && status == GRAFT_OK; i++)
        status = plan_input(d, plan, i, error);
    return status;
}

static void close_dense(struct dense *d)
{
    for (size_t i = 0; d->sparse && i < d->n; i++) {
        mem_free(d->mem, d->sparse[i].keep.starts);
        mem_free(d->mem, d->sparse[i].outliers.starts);
    }
    change_rows_close(&d->rows);
    mem_free(d->mem, d->sparse);
    mem_free(d->mem, d->tiles);
    mem_free(d->mem, d->scratch);
    mem_free(d->mem, d->counts);
    mem_free(d->mem, d->orders);
}

graft_status merge_dense(const struct merge_plan *plan, const struct changes *c,
                         struct merge_result *out, graft_error *error)
{
    struct dense d;
    graft_status status = open_dense(&d, plan, c, error);
    if (status == GRAFT_OK) {
        const struct leading_source source = {
            .n_out = c->site->n_out, .n_in = c->site->n_in, .rows = merged_rows, .user = &d};
        status = leading_directions(c->inputs->model->runtime, &source, c->site->out_rank, out->a,
                                    out->b, &out->all, &out->kept, error);
        if (status == GRAFT_OK && !isfinite(out->all)) /* of which no direction can be told */
            status = merge_too_large(c, error);
    }
    close_dense(&d);
    return status;
}
