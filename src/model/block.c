/* block.c: how the parts of a transformer block are wired.
 *
 * One function per wiring; an architecture's vtable points at the one it uses. Llama, Mistral, Qwen2 and
 * Qwen3 share a wiring and differ in which biases and norms are there.
 */
#include "model/forward_internal.h"

static struct linear linear_of(const struct pass *p, enum linear_id id, float *y)
{
    const struct layer *l = &p->model->layers[p->layer];
    return (struct linear){&l->linear[id], l->bias[id], y, model_site(p->layer, id)};
}

void block_llama(struct pass *p, int layer)
{
    const struct layer *l = &p->model->layers[layer];
    const struct config *c = &p->model->config;
    struct workspace *ws = p->ws;
    p->layer = layer;
    group_run(p, &(struct linear_group){.rows = &p->all,
                                        .x = ws->x,
                                        .norm = l->attn_norm,
                                        .norm_index = model_norm(layer, NORM_ATTN),
                                        .n_in = c->d_model,
                                        .linears = {linear_of(p, LINEAR_Q, ws->q),
                                                    linear_of(p, LINEAR_K, ws->k),
                                                    linear_of(p, LINEAR_V, ws->v)},
                                        .n_linears = 3});
    attention_run(p);
    group_run(p, &(struct linear_group){.rows = &p->all,
                                        .x = ws->att,
                                        .n_in = (int64_t)c->n_head * c->d_head,
                                        .linears = {linear_of(p, LINEAR_O, ws->h)},
                                        .n_linears = 1,
                                        .then_add = ws->x});
    group_run(p, &(struct linear_group){.rows = &p->all,
                                        .x = ws->x,
                                        .norm = l->mlp_norm,
                                        .norm_index = model_norm(layer, NORM_MLP),
                                        .n_in = c->d_model,
                                        .linears = {linear_of(p, LINEAR_GATE, ws->gate),
                                                    linear_of(p, LINEAR_UP, ws->up)},
                                        .n_linears = 2,
                                        .then_silu = true});
    group_run(p, &(struct linear_group){.rows = &p->all,
                                        .x = ws->gate,
                                        .n_in = c->d_ff,
                                        .linears = {linear_of(p, LINEAR_DOWN, ws->h)},
                                        .n_linears = 1,
                                        .then_add = ws->x});
}
