/* attention.c: the attention of one layer for the rows of a pass.
 *
 * Work items are (tile, KV head): the query heads of the group, for rows at consecutive positions of one
 * sequence. Storing a key and attending need no region between them when every sequence has a single
 * row; otherwise rows read each other's keys and the storing comes first. Items cost in proportion to
 * their position, so workers take them from a counter, the longest first.
 *
 * When long decode tiles are too few to keep the workers busy, they share them by parts of absolute
 * positions. Whoever ends the last part of an item joins them, in their order: the bits are those of
 * a worker that does all parts.
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
            k->rmsnorm(q + g * d, row_norm(p, row, model_norm(p->layer, NORM_Q), l->q_norm), d,
                       c->norm_eps, q + g * d);
        rotate(p, row, q + g * d);
    }
    if (l->k_norm)
        k->rmsnorm(key, row_norm(p, row, model_norm(p->layer, NORM_K), l->k_norm), d, c->norm_eps,
                   key);
    rotate(p, row, key);
    struct kv_block *block = r->seq->blocks[r->pos / KV_BLOCK];
    size_t at = (size_t)(r->pos % KV_BLOCK);
    k->kv_store[pool->k_type](key, d,
                              kv_block_keys(pool, block, p->layer, head) + at * pool->k_head_bytes);
    k->kv_store[pool->v_type](
        value, d, kv_block_values(pool, block, p->layer, head) + at * pool->v_head_bytes);
}

/* ---- tiles -------------------------------------------------------------------------------- */

static void find_tiles(struct pass *p)
{
    const struct config *c = &p->model->config;
    struct workspace *ws = p->ws;
    int most = attention_tile_rows(c->n_head / c->n_kv);
    ws->n_tiles = 0;
    for (int i = 0; i < p->n_rows; i++) {
        const struct row *row = ws->rows[i].row, *before = i > 0 ? ws->rows[i - 1].row : NULL;
        struct row_tile *last = &ws->tiles[ws->n_tiles - (ws->n_tiles > 0)];
        if (before && before->seq == row->seq && before->pos + 1 == row->pos &&
            before->role == row->role && last->n < most)
            last->n++;
        else
            ws->tiles[ws->n_tiles++] = (struct row_tile){i, 1};
    }
}

bool attention_plan(struct pass *p)
{
    const struct config *c = &p->model->config;
    struct workspace *ws = p->ws;
    int64_t most = 0, n_parts = 1, n_items;
    find_tiles(p);
    for (int i = 0; i < ws->n_tiles; i++) {
        const struct row_tile *tile = &ws->tiles[i];
        const struct row *row = ws->rows[tile->first].row;
        int64_t parts = (row->pos + tile->n - 1) / ATTENTION_CHUNK + 1;
        if (row->role != ROLE_DECODE)
            continue;
        n_parts = parts > n_parts ? parts : n_parts;
        most = tile->n > most ? tile->n : most;
    }
    n_items = (int64_t)ws->n_tiles * c->n_kv;
    p->n_parts = 1;
    if (n_parts == 1 || n_items >= SHARED_TILES * ws->n_workers || n_items % ws->n_workers == 0)
        return true;
    p->n_parts = (int)n_parts;
    p->part_floats = most * (c->n_head / c->n_kv) * (2 + c->d_head);
    return workspace_grow_parts(ws, n_items * n_parts * p->part_floats);
}

/* The arguments of a tile, its blocks listed for the worker. */
static struct attention_args tile_args(const struct pass *p, struct worker *w,
                                       const struct row_tile *tile, int head)
{
    const struct config *c = &p->model->config;
    const struct row *r = p->ws->rows[tile->first].row;
    const struct kv_pool *pool = r->seq->pool;
    int d = c->d_head, n_group = c->n_head / c->n_kv;
    int64_t at = ((int64_t)tile->first * c->n_head + (int64_t)head * n_group) * d;
    int64_t begin, end, stride = (int64_t)c->n_head * d;
    const struct attention_args args = {.q = p->ws->q + at,
                                        .out = p->ws->att + at,
                                        .q_stride = stride,
                                        .out_stride = stride,
                                        .n_row = tile->n,
                                        .n_group = n_group,
                                        .d_head = d,
                                        .scale = (float)(1.0 / sqrt((double)d)),
                                        .pos = r->pos,
                                        .window = c->windows[p->layer],
                                        .k_type = pool->k_type,
                                        .v_type = pool->v_type,
                                        .k_blocks = w->k_blocks,
                                        .v_blocks = w->v_blocks,
                                        .scratch = w->attention};
    attention_range(&args, &begin, &end);
    for (int64_t b = begin / KV_BLOCK; b * KV_BLOCK < end; b++) {
        w->k_blocks[b] = kv_block_keys(pool, r->seq->blocks[b], p->layer, head);
        w->v_blocks[b] = kv_block_values(pool, r->seq->blocks[b], p->layer, head);
    }
    return args;
}

/* ---- tiles that workers share ------------------------------------------------------------- */

/* The state of part `part` of an item; the first one that the tile sees has its output in place. */
static void place_part(const struct pass *p, struct attention_args *a, long long item, int part,
                       bool first)
{
    int64_t n = (int64_t)a->n_row * a->n_group;
    a->m = p->ws->parts + (item * p->n_parts + part) * p->part_floats;
    a->l = a->m + n;
    a->begin = (int64_t)part * ATTENTION_CHUNK;
    a->end = a->begin + ATTENTION_CHUNK;
    if (!first) {
        a->out = a->l + n;
        a->out_stride = (int64_t)a->n_group * a->d_head;
    }
}

static void attend_part(const struct pass *p, const struct attention_args *args, long long item,
                        int part)
{
    const struct kernels *k = p->kernels;
    struct attention_args mine = *args, whole = *args;
    int64_t begin, end;
    attention_range(args, &begin, &end);
    int first = (int)(begin / ATTENTION_CHUNK), last = (int)((end - 1) / ATTENTION_CHUNK);
    if (part < first || part > last)
        return;
    place_part(p, &mine, item, part, part == first);
    k->attention[ROLE_DECODE](&mine);
    if (atomic_fetch_add(&p->ws->parts_done[item], 1) < last - first)
        return;
    atomic_store(&p->ws->parts_done[item], 0);
    place_part(p, &whole, item, first, true);
    for (int i = first + 1; i <= last; i++) {
        struct attention_args next = *args;
        place_part(p, &next, item, i, false);
        k->attention_join(&whole, &next);
    }
    k->attention_finish(&whole);
}

/* ---- regions ------------------------------------------------------------------------------ */

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
    long long n = (long long)p->ws->n_tiles * n_kv * p->n_parts, i;
    while ((i = atomic_fetch_add_explicit(&p->next_item, 1, memory_order_relaxed)) < n) {
        long long item = (n - 1 - i) / p->n_parts;
        int head = (int)(item % n_kv), part = (int)((n - 1 - i) % p->n_parts);
        const struct row_tile *tile = &p->ws->tiles[item / n_kv];
        enum role role = p->ws->rows[tile->first].row->role;
        if (p->lone && p->n_parts == 1)
            store_item(p, tile->first, head);
        struct attention_args args = tile_args(p, &p->ws->workers[worker], tile, head);
        if (p->n_parts > 1 && role == ROLE_DECODE)
            attend_part(p, &args, item, part);
        else if (part == 0)
            attention_run_tile(p->kernels, role, &args);
    }
}

void attention_run(struct pass *p)
{
    const struct config *c = &p->model->config;
    int64_t positions = 0;
    for (int i = 0; i < p->n_rows; i++)
        positions += p->ws->rows[i].row->pos + 1;
    atomic_store(&p->next_item, 0);
    if (!p->lone || p->n_parts > 1)
        pass_run(p, store_work, (int64_t)p->n_rows * c->n_kv * c->d_head * 2);
    pass_run(p, attend_work, positions * c->n_head * c->d_head * 2);
}
