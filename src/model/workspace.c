/* workspace.c: the memory of a forward pass, allocated once.
 *
 * Everything comes from one arena when the workspace opens, but for what grows with the largest pass so far:
 * the lists of KV blocks, the parts of long attention, and what deltas need. Rows of logits are large (n_vocab
 * floats each) but are touched only where a row asks for them.
 */
#include "model/forward_internal.h"

enum { MAX_ROWS = 1 << 20 };

static int64_t max64(int64_t a, int64_t b)
{
    return a > b ? a : b;
}

static unsigned model_formats(const struct model *m)
{
    unsigned formats = linear_formats(&m->head);
    for (int i = 0; i < m->config.n_layer; i++) {
        const struct layer *l = &m->layers[i];
        for (int j = 0; j < LINEAR_COUNT; j++)
            formats |= linear_formats(&l->linear[j]);
    }
    return formats;
}

/* count · each floats; NULL sticks in *ok. */
static float *floats(struct workspace *ws, int64_t count, int64_t each, bool *ok)
{
    float *p = *ok ? arena_alloc(&ws->arena, (size_t)count * (size_t)each * sizeof(float)) : NULL;
    *ok = p != NULL;
    return p;
}

static void *bytes(struct workspace *ws, size_t count, size_t each, bool *ok)
{
    void *p = *ok ? arena_alloc(&ws->arena, count * each) : NULL;
    *ok = p != NULL;
    return p;
}

static bool alloc_rows(struct workspace *ws)
{
    const struct config *c = &ws->model->config;
    int64_t n = ws->max_rows, d_q = (int64_t)c->n_head * c->d_head;
    int64_t d_kv = (int64_t)c->n_kv * c->d_head;
    bool ok = true;
    ws->rows = bytes(ws, (size_t)n, sizeof(*ws->rows), &ok);
    ws->segments = bytes(ws, (size_t)n, 2 * sizeof(*ws->segments), &ok);
    ws->row_segment = bytes(ws, (size_t)n, sizeof(int), &ok);
    ws->tiles = bytes(ws, (size_t)n, sizeof(*ws->tiles), &ok);
    ws->wanted = bytes(ws, (size_t)n, sizeof(int), &ok);
    ws->logit_slot = bytes(ws, (size_t)n, sizeof(int), &ok);
    ws->hidden_slot = bytes(ws, (size_t)n, sizeof(int), &ok);
    ws->x = floats(ws, n, c->d_model, &ok);
    ws->h = floats(ws, n, c->d_model, &ok);
    ws->q = floats(ws, n, d_q, &ok);
    ws->att = floats(ws, n, d_q, &ok);
    ws->k = floats(ws, n, d_kv, &ok);
    ws->v = floats(ws, n, d_kv, &ok);
    ws->gate = floats(ws, n, c->d_ff, &ok);
    ws->up = floats(ws, n, c->d_ff, &ok);
    ws->cos = floats(ws, n, c->d_head / 2, &ok);
    ws->sin = floats(ws, n, c->d_head / 2, &ok);
    ws->hidden = floats(ws, n, c->d_model, &ok);
    ws->logits = floats(ws, n, model_n_logits(ws->model), &ok);
    return ok;
}

static bool alloc_workers(struct workspace *ws)
{
    const struct config *c = &ws->model->config;
    int64_t widest = max64(max64(c->d_model, c->d_ff), (int64_t)c->n_head * c->d_head);
    size_t n_workers = (size_t)ws->n_workers;
    unsigned formats = model_formats(ws->model);
    bool ok = true;
    ws->workers = bytes(ws, n_workers, sizeof(*ws->workers), &ok);
    if (!ok)
        return false;
    memset(ws->workers, 0, n_workers * sizeof(*ws->workers));
    ws->parts_done = bytes(ws, SHARED_TILES * n_workers, sizeof(*ws->parts_done), &ok);
    for (size_t i = 0; ok && i < SHARED_TILES * n_workers; i++)
        atomic_init(&ws->parts_done[i], 0);
    for (size_t i = 0; i < n_workers; i++) {
        struct worker *w = &ws->workers[i];
        w->scratch = bytes(ws, 1, linear_scratch_bytes(widest), &ok);
        w->attention = floats(ws, 1, attention_scratch_floats(c->n_head / c->n_kv, c->d_head), &ok);
        w->few_x = floats(ws, FEW_ROWS, widest, &ok);
    }
    for (int f = 0; f < ACT_COUNT; f++) {
        if (!(formats & 1u << f))
            continue;
        size_t row = act_row_bytes((enum act_format)f, widest);
        ws->act[f] = bytes(ws, (size_t)ws->max_rows, row, &ok);
        for (size_t i = 0; i < n_workers; i++)
            ws->workers[i].few_act[f] = bytes(ws, FEW_ROWS, row, &ok);
    }
    return ok;
}

bool workspace_grow_lists(struct workspace *ws, int64_t n_blocks)
{
    if (n_blocks <= ws->block_capacity)
        return true;
    int64_t capacity = max64(n_blocks, 2 * ws->block_capacity);
    const void **lists =
        mem_calloc(ws->mem, (size_t)capacity * 2 * (size_t)ws->n_workers, sizeof(*lists));
    if (!lists)
        return false;
    mem_free(ws->mem, ws->block_lists);
    ws->block_lists = lists;
    ws->block_capacity = capacity;
    for (int i = 0; i < ws->n_workers; i++) {
        ws->workers[i].k_blocks = lists + 2 * i * capacity;
        ws->workers[i].v_blocks = lists + (2 * i + 1) * capacity;
    }
    return true;
}

/* Nothing in what follows outlives a pass, so it is not copied. */
bool workspace_grow_parts(struct workspace *ws, int64_t n_floats)
{
    if (n_floats <= ws->part_capacity)
        return true;
    int64_t capacity = max64(n_floats, 2 * ws->part_capacity);
    mem_free(ws->mem, ws->parts);
    ws->part_capacity = 0;
    ws->parts = mem_calloc(ws->mem, (size_t)capacity, sizeof(*ws->parts));
    if (!ws->parts)
        return false;
    ws->part_capacity = capacity;
    return true;
}

/* What was there stays where there is no memory for more: a swap that fails changes nothing. */
bool workspace_grow_deltas(struct workspace *ws, int64_t n_u, int64_t n_jobs)
{
    if (n_u > ws->u_capacity) {
        float *u = mem_calloc(ws->mem, (size_t)n_u, sizeof(*u));
        if (!u)
            return false;
        mem_free(ws->mem, ws->u);
        ws->u = u;
        ws->u_capacity = n_u;
    }
    if (n_jobs > ws->job_capacity) {
        void *jobs = mem_calloc(ws->mem, (size_t)n_jobs, sizeof(*ws->jobs));
        void *stack = jobs ? mem_calloc(ws->mem, (size_t)n_jobs, sizeof(*ws->stack)) : NULL;
        if (!stack) {
            mem_free(ws->mem, jobs);
            return false;
        }
        mem_free(ws->mem, ws->jobs);
        mem_free(ws->mem, ws->stack);
        ws->jobs = jobs;
        ws->stack = stack;
        ws->job_capacity = n_jobs;
    }
    return true;
}

bool workspace_grow_whole(struct workspace *ws)
{
    size_t width = (size_t)model_n_logits(ws->model);
    if (!ws->whole_logits)
        ws->whole_logits = mem_calloc(ws->mem, (size_t)ws->max_rows * width, sizeof(float));
    return ws->whole_logits != NULL;
}

graft_status workspace_open(const struct model *model, int max_rows, struct workspace **out,
                            graft_error *error)
{
    if (max_rows < 1 || max_rows > MAX_ROWS)
        return error_set(error, GRAFT_INVALID_ARGUMENT, "a workspace has 1 to %d rows, not %d",
                         MAX_ROWS, max_rows);
    struct mem *mem = &model->runtime->mem;
    struct workspace *ws = mem_calloc(mem, 1, sizeof(*ws));
    if (!ws)
        return error_set(error, GRAFT_NO_MEMORY, "no memory for a workspace");
    ws->model = model;
    ws->mem = mem;
    ws->max_rows = max_rows;
    ws->n_workers = pool_threads(model->runtime->pool);
    arena_init(&ws->arena, mem, SIZE_MAX / 2);
    int64_t usual = (model->config.n_ctx < 8192 ? model->config.n_ctx : 8192) / KV_BLOCK + 1;
    if (!alloc_rows(ws) || !alloc_workers(ws) || !workspace_grow_lists(ws, usual)) {
        workspace_close(&ws);
        return error_set(error, GRAFT_NO_MEMORY, "no memory for a workspace of %d rows", max_rows);
    }
    *out = ws;
    return GRAFT_OK;
}

void workspace_close(struct workspace **ws)
{
    struct workspace *w = *ws;
    if (!w)
        return;
    mem_free(w->mem, w->block_lists);
    mem_free(w->mem, w->stack);
    mem_free(w->mem, w->u);
    mem_free(w->mem, w->whole_logits);
    mem_free(w->mem, w->jobs);
    mem_free(w->mem, w->parts);
    arena_free(&w->arena);
    mem_free(w->mem, w);
    *ws = NULL;
}

int workspace_max_rows(const struct workspace *ws)
{
    return ws->max_rows;
}

const float *workspace_logits(const struct workspace *ws, int row)
{
    if (row < 0 || row >= ws->n_rows || ws->logit_slot[row] < 0)
        return NULL;
    return ws->logits + (int64_t)ws->logit_slot[row] * model_n_logits(ws->model);
}

const float *workspace_hidden(const struct workspace *ws, int row)
{
    if (row < 0 || row >= ws->n_rows || ws->hidden_slot[row] < 0)
        return NULL;
    return ws->hidden + (int64_t)ws->hidden_slot[row] * ws->model->config.d_model;
}

int model_n_logits(const struct model *model)
{
    return model->config.arch->score ? model->config.n_labels : model->config.n_vocab;
}
