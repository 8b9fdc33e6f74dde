/* digest.c: which weights a model has, said quickly.
 *
 * Reading all of them would take longer than what asks for it. Whoever trains, quantises or merges a model changes all rows of
 * the matrices that it touches, so one row of each tells. Rows are taken as values, by the scalar tier, so that it does
 * not matter how they lie in memory, nor on which processor.
 */
#include "model/model_internal.h"

/* *sum becomes the sum of itself and of some bytes. */
static graft_status add(uint8_t sum[32], const void *bytes, size_t size, graft_error *error)
{
    uint8_t both[64];
    memcpy(both, sum, 32);
    graft_status status = sha256(bytes, size, both + 32, error);
    return status == GRAFT_OK ? sha256(both, sizeof(both), sum, error) : status;
}

static graft_status add_vector(uint8_t sum[32], const float *x, int64_t n, graft_error *error)
{
    return add(sum, x, x ? (size_t)n * sizeof(*x) : 0, error);
}

/* The type and the row in the middle; `row` has room for it. */
static graft_status add_matrix(uint8_t sum[32], const struct matrix *w, float *row,
                               graft_error *error)
{
    const char *type = type_traits(w->type)->name;
    kernels_find("scalar")->dequantize[w->type](w, w->n_out / 2, 0, w->n_in, row);
    graft_status status = add(sum, type, strlen(type), error);
    return status == GRAFT_OK ? add_vector(sum, row, w->n_in, error) : status;
}

static graft_status add_vectors(const struct model *model, uint8_t sum[32], graft_error *error)
{
    const struct config *c = &model->config;
    graft_status status = add_vector(sum, model->rope_freq, c->d_head / 2, error);
    if (status == GRAFT_OK)
        status = add_vector(sum, &model->rope_mscale, 1, error);
    if (status == GRAFT_OK)
        status = add_vector(sum, &c->norm_eps, 1, error);
    if (status == GRAFT_OK)
        status = add(sum, c->windows, (size_t)c->n_layer * sizeof(*c->windows), error);
    for (int norm = 0; norm < model_n_norms(model) && status == GRAFT_OK; norm++)
        status =
            add_vector(sum, model_norm_weight(model, norm), model_norm_width(model, norm), error);
    for (int i = 0; i < c->n_layer * LINEAR_COUNT && status == GRAFT_OK; i++) {
        const struct layer *layer = &model->layers[i / LINEAR_COUNT];
        status = add_vector(sum, layer->bias[i % LINEAR_COUNT],
                            layer->linear[i % LINEAR_COUNT].n_out, error);
    }
    return status;
}

graft_status model_digest(const struct model *model, uint8_t out[32], graft_error *error)
{
    uint8_t sum[32] = {0};
    int64_t widest = model->embed.n_in;
    for (int site = 0; site < model_n_sites(model); site++) {
        int64_t n_in = model_site_weight(model, site)->n_in;
        widest = n_in > widest ? n_in : widest;
    }
    float *row = mem_calloc(&model->runtime->mem, (size_t)widest, sizeof(*row));
    if (!row)
        return error_set(error, GRAFT_NO_MEMORY, "no memory for the digest of a model");
    graft_status status = add_vectors(model, sum, error);
    if (status == GRAFT_OK)
        status = add_matrix(sum, &model->embed, row, error);
    for (int site = 0; site < model_n_sites(model) && status == GRAFT_OK; site++)
        status = add_matrix(sum, model_site_weight(model, site), row, error);
    if (status == GRAFT_OK)
        memcpy(out, sum, sizeof(sum));
    mem_free(&model->runtime->mem, row);
    return status;
}
