/* count.c: how many parameters an open model has, whatever their packing. */
#include "model/model.h"

static uint64_t matrix_values(const struct matrix *w)
{
    return (uint64_t)w->n_out * (uint64_t)w->n_in;
}

static uint64_t layer_values(const struct config *c, const struct layer *l)
{
    uint64_t n = 2 * (uint64_t)c->d_model; /* the norms */
    for (int i = 0; i < LINEAR_COUNT; i++) {
        n += matrix_values(&l->linear[i]);
        n += l->bias[i] ? (uint64_t)l->linear[i].n_out : 0;
    }
    n += l->q_norm ? (uint64_t)c->d_head : 0;
    n += l->k_norm ? (uint64_t)c->d_head : 0;
    return n;
}

uint64_t model_parameters(const struct model *m)
{
    const struct config *c = &m->config;
    uint64_t n = matrix_values(&m->embed) + (uint64_t)c->d_model;
    n += m->head.data != m->embed.data ? matrix_values(&m->head) : 0;
    for (int i = 0; i < c->n_layer; i++)
        n += layer_values(c, &m->layers[i]);
    return n;
}
