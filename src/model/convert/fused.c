/* fused.c: a mix in the weights that are written, and what of it survives the type they are written in.
 *
 * Each row of W' = W + ΔW is computed, encoded and read back at once, beside the same row of W in the same type;
 * five sums of each row are kept and added up in the order of rows. Which quantised matrices get 8 bits is
 * decided before anything is written, by encoding them once for nothing.
 */
#include "convert_internal.h"

#include <math.h>

enum { SUM_NORM, SUM_DELTA, SUM_ERROR, SUM_KEPT, SUM_COUNT };

struct fused {
    struct conversion *c;
    const struct item *item;
    struct bake *bake;
    struct compensation *compensation; /* NULL: rounds as usual */
    double *sums;                      /* [n_out, SUM_COUNT] */
    float *lost;                       /* [n_out, n_in] W' − W'q, or NULL */
    size_t worker_bytes;
    uint8_t *
        scratch; /* [n_workers, worker_bytes]: four rows of floats, then a stored row or the scratch of
                         compensation */
};

static graft_status no_memory(graft_error *error)
{
    return error_set(error, GRAFT_NO_MEMORY, "no memory for a fused matrix");
}

/* ---- configuration ------------------------------------------------------------------------ */

static graft_status refuse_bias(const struct conversion *c, int slot, int layer, graft_error *error)
{
    char module[MODULE_NAME_MAX] = "";
    arch_module(c->model->config.arch, NAMING_HF, slot, layer, module, sizeof module);
    return error_set(error, GRAFT_UNSUPPORTED,
                     "the adapter adds a bias to %s, and a %s of %s has no place for it", module,
                     c->naming == NAMING_GGUF ? "GGUF" : "model", c->model->config.architecture);
}

/* Linears that have no bias in the base and get one, as a set of bits; `layer`: the first with such a one. */
static unsigned new_biases(const struct conversion *c, int *layer)
{
    const struct config *config = &c->model->config;
    unsigned biases = 0;
    for (int i = config->n_layer - 1; i >= 0; i--)
        for (int id = 0; id < LINEAR_COUNT; id++)
            if (!(config->biases & 1u << id) &&
                bake_has_bias(c->fuse->mix, model_site(i, (enum linear_id)id))) {
                biases |= 1u << id;
                *layer = i;
            }
    return biases;
}

static int first_bit(unsigned bits)
{
    int i = 0;
    while (!(bits >> i & 1))
        i++;
    return i;
}

graft_status fused_check_biases(const struct conversion *c, unsigned readable, graft_error *error)
{
    int layer = 0;
    unsigned added = c->fuse && c->fuse->mix ? new_biases(c, &layer) : 0;
    if (readable == c->config.biases || !added)
        return GRAFT_OK;
    unsigned missing = added & ~readable;
    return refuse_bias(c, SLOT_LINEAR + first_bit(missing ? missing : added), layer, error);
}

/* config.json speaks of all of attention, or of all of the MLP; the others get zeros. */
static graft_status add_biases(struct conversion *c, graft_error *error)
{
    struct config *config = &c->config;
    int layer = 0;
    unsigned added = new_biases(c, &layer);
    if (!added)
        return GRAFT_OK;
    config->biases |= added;
    if (c->naming == NAMING_COUNT)
        return GRAFT_OK; /* a model in memory takes any */
    if (c->naming == NAMING_GGUF)
        return strcmp(config->arch->gguf, "llama")
                   ? refuse_bias(c, SLOT_LINEAR + first_bit(added), layer, error)
                   : GRAFT_OK;
    config->biases |= added & BIAS_ATTENTION ? BIAS_ATTENTION : 0;
    config->biases |= added & BIAS_MLP ? BIAS_MLP : 0;
    return GRAFT_OK;
}

graft_status fused_config(struct conversion *c, graft_error *error)
{
    const struct model *m = c->model;
    struct convert_fuse *fuse = c->fuse;
    fuse->n_records = 0;
    if (!fuse->mix)
        return GRAFT_OK;
    fuse->records = mem_calloc(&c->runtime->mem, (size_t)bake_places(m), sizeof *fuse->records);
    if (!fuse->records)
        return no_memory(error);
    if (bake_changes(fuse->mix, bake_embed_place(m)) || bake_changes(fuse->mix, model_head_site(m)))
        c->config.tied = false;
    if (bake_has_bias(fuse->mix, model_head_site(m)))
        return refuse_bias(c, SLOT_HEAD, 0, error);
    return add_biases(c, error);
}

graft_status fused_bias(struct conversion *c, int layer, int id, const float **out,
                        graft_error *error)
{
    const struct layer *l = &c->model->layers[layer];
    int site = model_site(layer, (enum linear_id)id);
    bool changed = c->fuse && c->fuse->mix && bake_has_bias(c->fuse->mix, site);
    if (!(c->config.biases & 1u << id) || (l->bias[id] && !changed)) {
        *out = l->bias[id];
        return GRAFT_OK;
    }
    size_t bytes = (size_t)l->linear[id].n_out * sizeof(float);
    float *bias = arena_alloc(&c->arena, bytes);
    if (!bias)
        return no_memory(error);
    memset(bias, 0, bytes);
    if (l->bias[id])
        memcpy(bias, l->bias[id], bytes);
    if (changed)
        bake_add_bias(c->fuse->mix, site, bias);
    *out = bias;
    return GRAFT_OK;
}

const float *fused_norm(const struct conversion *c, int norm)
{
    const float *own = c->fuse && c->fuse->mix ? bake_norm(c->fuse->mix, norm) : NULL;
    return own ? own : model_norm_weight(c->model, norm);
}

graft_status fused_note(struct conversion *c, struct item *item, int place, graft_error *error)
{
    struct convert_fuse *fuse = c->fuse;
    (void)error;
    if (!fuse->mix || !bake_changes(fuse->mix, place))
        return GRAFT_OK;
    item->record = &fuse->records[fuse->n_records++];
    *item->record = (struct fuse_record){.place = place,
                                         .planned = item->type,
                                         .type = item->type,
                                         .n_out = item->matrix->n_out,
                                         .n_in = item->matrix->n_in};
    snprintf(item->record->name, sizeof item->record->name, "%s", item->name);
    return GRAFT_OK;
}

/* ---- types -------------------------------------------------------------------------------- */

/* What has fewer than 8 bits, and whose rows 8-bit blocks could hold. */
static graft_type eight_bits(const struct item *item)
{
    switch (item->type) {
    case GRAFT_TYPE_F32:
    case GRAFT_TYPE_F16:
    case GRAFT_TYPE_BF16:
    case GRAFT_TYPE_Q8_0:
    case GRAFT_TYPE_MLX8:
        return item->type;
    case GRAFT_TYPE_MLX4:
        return GRAFT_TYPE_MLX8;
    default:
        return GRAFT_TYPE_Q8_0;
    }
}

static uint64_t item_bytes(const struct item *item)
{
    return (uint64_t)store_bytes(item->type, item->matrix->n_out, item->matrix->n_in);
}

graft_status fused_choose_types(struct conversion *c, graft_error *error)
{
    double fallback = c->fuse->fallback;
    graft_status status = GRAFT_OK;
    for (size_t i = 0; i < c->plan.count; i++) {
        struct item *item = &c->plan.items[i];
        if (item->record && fallback > 0 && eight_bits(item) != item->type)
            c->bytes_total += item_bytes(item);
    }
    for (size_t i = 0; i < c->plan.count && status == GRAFT_OK && fallback > 0; i++) {
        struct item *item = &c->plan.items[i];
        graft_type wider = eight_bits(item);
        if (!item->record || wider == item->type)
            continue;
        status = item_write(c, item, NULL, error);
        if (status != GRAFT_OK || fabs(1 - item->record->kept) <= 1 - fallback)
            continue;
        c->bytes_total -= item_bytes(item);
        item->type = item->record->type = wider;
        c->bytes_total += item_bytes(item);
    }
    return status;
}

/* ---- rows --------------------------------------------------------------------------------- */

graft_status fused_open(struct conversion *c, const struct item *item, struct fused **out,
                        graft_error *error)
{
    struct mem *mem = &c->runtime->mem;
    const struct matrix *w = item->matrix;
    size_t workers = (size_t)pool_threads(c->runtime->pool), n_in = (size_t)w->n_in, cells = 0;
    int64_t rank;
    struct fused *f = mem_calloc(mem, 1, sizeof *f);
    if (!f)
        return no_memory(error);
    f->c = c;
    f->item = item;
    graft_status status = bake_open(c->fuse->mix, item->record->place, &f->bake, error);
    if (status == GRAFT_OK && c->fuse->compensate && type_traits(item->type)->block_values > 1) {
        const float *basis = bake_basis(f->bake, &rank);
        const struct matrix to = store_at(item->type, 1, w->n_in, NULL);
        status = compensation_open(mem, basis, rank, &to, &f->compensation, error);
    }
    size_t own = status == GRAFT_OK ? store_bytes(item->type, 1, w->n_in) : 0;
    if (f->compensation && compensation_scratch(f->compensation) > own)
        own = compensation_scratch(f->compensation);
    f->worker_bytes = (4 * n_in * sizeof(float) + own + 63) / 64 * 64;
    f->sums = mem_calloc(mem, (size_t)w->n_out, SUM_COUNT * sizeof *f->sums);
    f->scratch = mem_calloc(mem, workers, f->worker_bytes);
    if (status == GRAFT_OK && c->fuse->lost && size_mul((size_t)w->n_out, n_in, &cells))
        f->lost = mem_calloc(mem, cells, sizeof *f->lost);
    if (status == GRAFT_OK && (!f->sums || !f->scratch || (c->fuse->lost && !f->lost)))
        status = no_memory(error);
    if (status == GRAFT_OK)
        *out = f;
    else
        fused_close(&f);
    return status;
}

void fused_close(struct fused **fused)
{
    struct fused *f = *fused;
    *fused = NULL;
    if (!f)
        return;
    struct mem *mem = &f->c->runtime->mem;
    compensation_close(&f->compensation);
    bake_close(&f->bake);
    mem_free(mem, f->sums);
    mem_free(mem, f->scratch);
    mem_free(mem, f->lost);
    mem_free(mem, f);
}

/* The sums of a row: w W', got W'q, plain Wq. */
static void measure(struct fused *f, int64_t row, const float *w, const float *delta,
                    const float *got, const float *plain)
{
    double *sums = f->sums + row * SUM_COUNT;
    int64_t n_in = f->item->matrix->n_in;
    for (int i = 0; i < SUM_COUNT; i++)
        sums[i] = 0;
    for (int64_t k = 0; k < n_in; k++) {
        double d = (double)delta[k], error = (double)got[k] - (double)w[k];
        sums[SUM_NORM] += (double)w[k] * (double)w[k];
        sums[SUM_DELTA] += d * d;
        sums[SUM_ERROR] += error * error;
        sums[SUM_KEPT] += ((double)got[k] - (double)plain[k]) * d;
        if (f->lost)
            f->lost[row * n_in + k] = (float)-error;
    }
}

bool fused_row(struct fused *f, int worker, int64_t row, const struct matrix *to, int64_t at)
{
    const struct matrix *base = f->item->matrix;
    const struct kernels *kernels = f->c->runtime->kernels;
    int64_t n_in = base->n_in;
    uint8_t *own = f->scratch + (size_t)worker * f->worker_bytes;
    float *w = (float *)(void *)own, *delta = w + n_in, *got = delta + n_in, *plain = got + n_in;
    uint8_t *bytes = (uint8_t *)(plain + n_in);
    const struct matrix one = store_at(f->item->type, 1, n_in, bytes);

    kernels->dequantize[base->type](base, row, 0, n_in, w);
    if (!store_row(&one, 0, w))
        return false;
    kernels->dequantize[one.type](&one, 0, 0, n_in, plain);
    bake_row(f->bake, row, w, delta);
    bool stored = f->compensation ? compensation_row(f->compensation, kernels, w, to, at, bytes)
                                  : store_row(to, at, w);
    if (!stored)
        return false;
    kernels->dequantize[to->type](to, at, 0, n_in, got);
    measure(f, row, w, delta, got, plain);
    return true;
}

const float *fused_values(struct fused *f, int64_t row)
{
    const struct matrix *base = f->item->matrix;
    float *w = (float *)(void *)f->scratch;
    f->c->runtime->kernels->dequantize[base->type](base, row, 0, base->n_in, w);
    bake_row(f->bake, row, w, w + base->n_in);
    return w;
}

graft_status fused_finish(struct fused *f, bool lost, graft_error *error)
{
    struct fuse_record *record = f->item->record;
    double total[SUM_COUNT] = {0};
    for (int64_t row = 0; row < record->n_out; row++)
        for (int i = 0; i < SUM_COUNT; i++)
            total[i] += f->sums[row * SUM_COUNT + i];
    record->norm = sqrt(total[SUM_NORM]);
    record->delta = sqrt(total[SUM_DELTA]);
    record->error = sqrt(total[SUM_ERROR]);
    record->kept = total[SUM_DELTA] > 0 ? total[SUM_KEPT] / total[SUM_DELTA] : 1;
    if (!lost || !f->lost)
        return GRAFT_OK;
    return f->c->fuse->lost(f->c->fuse->user, record, f->lost, error);
}
