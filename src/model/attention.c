/* attention.c: the attention of one layer for the rows of a pass.
 *
 * Work items are (row, KV head): the query heads of the group and the row's own key and value. Storing a
 * key and attending need no region between them when every sequence has a single row; otherwise rows
 * read each other's keys and the storing comes first. Items cost in proportion to their position, so
 * workers take them from a counter, the longest first.
 */
#include "model/forward_internal.h"

#include <math.h>

static void rotate(const struct pass *p, int row, float *x)
{
    int d = p->model->config.d_head;
    const float *cos = p->ws->cos + (int64_t)row * (d / 2);
    const float *sin = p->ws->sin + (int64_t)row * (d / 2);
    if (p->model->config.rope.interleaved)
        p->kernels->rope_interleaved(x, cos, sin, d);
    else
        p->kernels->rope(x, cos, sin, d);
}

/* Norm and rotation of the queries and the key of an item; key and value go to the cache. */
static void store_item(const struct pass *p, int row, int head)
{
    const struct kernels *k = p->kernels;
    const struct config *c = &p->model->config;
    const struct layer *l = &p->model->layers[p->layer];
    const struct row *r = p->ws->rows[row].row;
    const struct kv_pool *pool = r->seq->pool;
    int d = c->d_head, n_group = c->n_head / c->n_kv;
    float *q = p->ws->q + ((int64_t)row * c->n_head + (int64_t)head * n_group) * d;
    float *key = p->ws->k + ((int64_t)row * c->n_kv + head) * d;
    const float *value = p->ws->v + ((int64_t)row * c->n_kv + head) * d;
    for (int g = 0; g < n_group; g++) {
        if (l->q_norm)
            k->rmsnorm(q + g * d, l->q_norm, d, c->norm_eps, q + g * d);
        rotate(p, row, q + g * d);
    }
    if (l->k_norm)
        k->rmsnorm(key, l->k_norm, d, c->norm_eps, key);
    rotate(p, row, key);
    struct kv_block *block = r->seq->blocks[r->pos / KV_BLOCK];
    size_t at = (size_t)(r->pos % KV_BLOCK);
    k->kv_store[pool->k_type](key, d,
                              kv_block_keys(pool, block, p->layer, head) + at * pool->k_head_bytes);
    k->kv_store[pool->v_type](
        value, d, kv_block_values(pool, block, p->layer, head) + at * pool->v_head_bytes);
}

static void attend_item(const struct pass *p, struct worker *w, int row, int head)
{
    const struct config *c = &p->model->config;
    const struct row *r = p->ws->rows[row].row;
    const struct kv_pool *pool = r->seq->pool;
    int d = c->d_head, n_group = c->n_head / c->n_kv;
    int64_t at = ((int64_t)row * c->n_head + (int64_t)head * n_group) * d;
    int32_t window = c->windows[p->layer];
    int64_t first = window && r->pos >= window ? r->pos - window + 1 : 0;
    for (int64_t b = first / KV_BLOCK; b <= r->pos / KV_BLOCK; b++) {
        w->k_blocks[b] = kv_block_keys(pool, r->seq->blocks[b], p->layer, head);
        w->v_blocks[b] = kv_block_values(pool, r->seq->blocks[b], p->layer, head);
    }
    const struct attention_args args = {.q = p->ws->q + at,
                                        .out = p->ws->att + at,
                                        .n_group = n_group,
                                        .d_head = d,
                                        .scale = (float)(1.0 / sqrt((double)d)),
                                        .first = first,
                                        .last = r->pos,
                                        .k_type = pool->k_type,
                                        .v_type = pool->v_type,
                                        .k_blocks = w->k_blocks,
                                        .v_blocks = w->v_blocks,
                                        .scratch = w->attention};
    p->kernels->attention(p->kernels, &args);
}

static void store_work(void *context, int worker, int n_workers)
{
    struct pass *p = context;
    int n_kv = p->model->config.n_kv;
    int64_t begin, end;
    pool_split((int64_t)p->n_rows * n_kv, 1, worker, n_workers, &begin, &end);
    for (int64_t i = begin; i < end; i++)
        store_item(p, (int)(i / n_kv), (int)(i % n_kv));
}

static void attend_work(void *context, int worker, int n_workers)
{
    (void)n_workers;
    struct pass *p = context;
    int n_kv = p->model->config.n_kv;
    long long n = (long long)p->n_rows * n_kv, i;
    while ((i = atomic_fetch_add_explicit(&p->next_item, 1, memory_order_relaxed)) < n) {
        int row = (int)((n - 1 - i) / n_kv), head = (int)((n - 1 - i) % n_kv);
        if (p->lone)
            store_item(p, row, head);
        attend_item(p, &p->ws->workers[worker], row, head);
    }
}

void attention_run(struct pass *p)
{
    const struct config *c = &p->model->config;
    int64_t positions = 0;
    for (int i = 0; i < p->n_rows; i++)
        positions += p->ws->rows[i].row->pos + 1;
    atomic_store(&p->next_item, 0);
    if (!p->lone)
        pass_run(p, store_work, (int64_t)p->n_rows * c->n_kv * c->d_head * 2);
    pass_run(p, attend_work, positions * c->n_head * c->d_head * 2);
}
