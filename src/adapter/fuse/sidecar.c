/* sidecar.c: what a fused model lost, W' − W'q, as a low-rank adapter for it: the leading singular directions of each
 * matrix. The embedding, which is no linear, is left out.
 */
#include "adapter/fuse/fuse_internal.h"
#include "adapter/leading.h"

#include "model/bake/bake.h"

#include <math.h>

static graft_status no_memory(graft_error *error)
{
    return error_set(error, GRAFT_NO_MEMORY, "no memory for a sidecar");
}

graft_status sidecar_open(struct sidecar *out, const struct model *model, int rank,
                          graft_error *error)
{
    struct mem *mem = &model->runtime->mem;
    size_t n = (size_t)bake_places(model);
    struct sidecar s = {.model = model, .rank = rank};
    s.items = mem_calloc(mem, n, sizeof *s.items);
    s.left = mem_calloc(mem, n, sizeof *s.left);
    *out = s;
    return s.items && s.left ? GRAFT_OK : no_memory(error);
}

void sidecar_close(struct sidecar *s)
{
    if (!s->model)
        return;
    struct mem *mem = &s->model->runtime->mem;
    for (size_t i = 0; i < s->n; i++) {
        mem_free(mem, s->items[i].a);
        mem_free(mem, s->items[i].b);
    }
    mem_free(mem, s->items);
    mem_free(mem, s->left);
    *s = (struct sidecar){0};
}

/* The row of a Hugging Face model that row `row` of q or k in interleaved order is. */
static int64_t halves_row(int64_t row, int64_t d_head)
{
    int64_t i = row % d_head;
    return row / d_head * d_head + i % 2 * (d_head / 2) + i / 2;
}

/* b's rows into the order of Hugging Face. */
static graft_status reorder(const struct sidecar *s, int site, int64_t rank, float *b,
                            int64_t n_out, graft_error *error)
{
    struct mem *mem = &s->model->runtime->mem;
    int id = site % LINEAR_COUNT;
    bool rotated = site != model_head_site(s->model) && (id == LINEAR_Q || id == LINEAR_K);
    size_t row = (size_t)rank * sizeof *b;
    if (!rotated || !s->model->config.rope.interleaved)
        return GRAFT_OK;
    float *copy = mem_alloc(mem, (size_t)n_out * row);
    if (!copy)
        return no_memory(error);
    memcpy(copy, b, (size_t)n_out * row);
    for (int64_t o = 0; o < n_out; o++)
        memcpy(b + halves_row(o, s->model->config.d_head) * rank, copy + o * rank, row);
    mem_free(mem, copy);
    return GRAFT_OK;
}

static double energy_of(const float *x, int64_t n)
{
    double sum = 0;
    for (int64_t i = 0; i < n; i++)
        sum += (double)x[i] * (double)x[i];
    return sum;
}

graft_status sidecar_add(struct sidecar *s, const struct fuse_record *record, const float *lost,
                         graft_error *error)
{
    struct mem *mem = &s->model->runtime->mem;
    int64_t n_out = record->n_out, n_in = record->n_in, rank = s->rank;
    double kept = 0, all = energy_of(lost, n_out * n_in);
    rank = rank < n_in ? rank : n_in;
    rank = rank < n_out ? rank : n_out;
    if (record->place == bake_embed_place(s->model) || all == 0)
        return GRAFT_OK;
    struct adapter_factors *f = &s->items[s->n];
    f->site = record->place;
    f->rank = rank;
    f->a = mem_calloc(mem, (size_t)(rank * n_in), sizeof *f->a);
    f->b = mem_calloc(mem, (size_t)(n_out * rank), sizeof *f->b);
    s->n++;
    if (!f->a || !f->b)
        return no_memory(error);
    const struct leading_source l = {.n_out = n_out, .n_in = n_in, .at_hand = lost};
    graft_status status =
        leading_directions(s->model->runtime, &l, rank, f->a, f->b, NULL, &kept, error);
    s->left[s->n - 1] = sqrt(kept < all ? all - kept : 0);
    return status == GRAFT_OK ? reorder(s, f->site, rank, f->b, n_out, error) : status;
}

double sidecar_left(const struct sidecar *s, int place)
{
    for (size_t i = 0; i < s->n; i++)
        if (s->items[i].site == place)
            return s->left[i];
    return -1;
}

graft_status sidecar_write(const struct sidecar *s, const char *dir, const char *base,
                           graft_error *error)
{
    const struct adapter_recipe card = {.name = "sidecar",
                                        .version = "1.0.0",
                                        .description = "what fusing and quantising lost",
                                        .base = base,
                                        .type = GRAFT_TYPE_F32,
                                        .rank = s->rank,
                                        .alpha = (double)s->rank};
    if (s->n == 0)
        return error_set(error, GRAFT_UNSUPPORTED,
                         "nothing was lost, so there is nothing for a sidecar");
    return adapter_write_factors(s->model, dir, &card, s->items, s->n, error);
}
