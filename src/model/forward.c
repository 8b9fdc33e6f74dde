/* forward.c: one forward pass: rows in, logits and final states out.
 *
 * Checks the rows, puts decode rows before prefill rows and rows of one mix together, makes room in their
 * sequences, and runs embedding, blocks and head. Sequences grow only when all of it succeeded.
 */
#include "model/forward_internal.h"

#include <math.h>

/* ---- rows --------------------------------------------------------------------------------- */

static graft_status check_row(const struct model *m, const struct row *r, int index,
                              graft_error *error)
{
    const struct config *c = &m->config;
    if (r->token < 0 || r->token >= c->n_vocab)
        return error_set(error, GRAFT_INVALID_ARGUMENT, "row %d: token %d is not in 0..%d", index,
                         r->token, c->n_vocab - 1);
    if (!r->seq || r->seq->pool->n_layer != c->n_layer || r->seq->pool->n_kv != c->n_kv ||
        r->seq->pool->d_head != c->d_head)
        return error_set(error, GRAFT_INVALID_ARGUMENT, "row %d: its sequence is of another model",
                         index);
    if (r->role != ROLE_DECODE && r->role != ROLE_PREFILL)
        return error_set(error, GRAFT_INVALID_ARGUMENT, "row %d: no such role", index);
    if (r->deltas && r->deltas->model != m)
        return error_set(error, GRAFT_INVALID_ARGUMENT, "row %d: its mix is of another model",
                         index);
    if (r->pos != r->seq->length + r->seq->pending)
        return error_set(error, GRAFT_INVALID_ARGUMENT, "row %d: position %d, expected %lld", index,
                         r->pos, (long long)(r->seq->length + r->seq->pending));
    return GRAFT_OK;
}

/* Counts each sequence's rows in its `pending`. */
static graft_status check_rows(struct pass *p, const struct row *rows, graft_error *error)
{
    graft_status status = GRAFT_OK;
    p->lone = true;
    for (int i = 0; i < p->n_rows; i++)
        if (rows[i].seq)
            rows[i].seq->pending = 0;
    for (int i = 0; i < p->n_rows; i++) {
        const struct row *r = &rows[i];
        status = check_row(p->model, r, i, error);
        if (status != GRAFT_OK)
            return status;
        p->lone = p->lone && !r->seq->pending;
        r->seq->pending++;
        p->n_decode += r->role == ROLE_DECODE;
    }
    return GRAFT_OK;
}

static bool in_segment(const struct segment *s, const struct row *r)
{
    return s->deltas == r->deltas && s->role == r->role;
}

/* Rows of one role and mix are a segment; returns how many there are. Neighbours mostly share one, and the
 * mixes of a pass are few beside what a row costs, so they are looked for one by one. */
static int find_segments(struct pass *p, const struct row *rows)
{
    struct segment *segments = p->ws->segments;
    int n = 0, s = 0;
    for (int i = 0; i < p->n_rows; i++) {
        if (s == n || !in_segment(&segments[s], &rows[i]))
            for (s = 0; s < n && !in_segment(&segments[s], &rows[i]);)
                s++;
        if (s == n)
            segments[n++] = (struct segment){.deltas = rows[i].deltas, .role = rows[i].role};
        segments[s].end++; /* a count for now */
        p->ws->row_segment[i] = s;
    }
    return n;
}

/* Puts segment beside segment, decode rows first, and keeps those that have deltas. */
static void order_rows(struct pass *p, const struct row *rows)
{
    struct workspace *ws = p->ws;
    int n = find_segments(p, rows), at = 0, kept = 0;
    for (int role = 0; role < ROLE_COUNT; role++)
        for (int s = 0; s < n; s++)
            if ((int)ws->segments[s].role == role) {
                ws->segments[s].begin = at;
                at += ws->segments[s].end;
                ws->segments[s].end = ws->segments[s].begin;
            }
    for (int i = 0; i < p->n_rows; i++)
        ws->rows[ws->segments[ws->row_segment[i]].end++] = (struct pass_row){&rows[i], -1};
    for (int s = 0; s < n; s++)
        if (ws->segments[s].deltas)
            ws->segments[kept++] = ws->segments[s];
    p->all = (struct linear_rows){p->n_rows, p->n_decode, ws->segments, kept};
}

static bool has_whole_heads(const struct delta_set *deltas)
{
    return deltas->modules && deltas->modules->n_heads;
}

graft_status workspace_reserve(struct workspace *ws, const struct delta_set *deltas,
                               graft_error *error)
{
    if (!deltas || (workspace_grow_deltas(ws, deltas->most_ranks, deltas->most_deltas) &&
                    (!has_whole_heads(deltas) || workspace_grow_whole(ws))))
        return GRAFT_OK;
    return error_set(error, GRAFT_NO_MEMORY, "no memory for the deltas of a row");
}

/* Room for what the deltas of any group may need. */
static bool make_delta_room(struct pass *p)
{
    int64_t n_u = 0, n_jobs = 0;
    for (int i = 0; i < p->all.n_segments; i++) {
        const struct segment *s = &p->all.segments[i];
        if (has_whole_heads(s->deltas) && !workspace_grow_whole(p->ws))
            return false;
        n_u += s->deltas->most_ranks * (s->end - s->begin);
        n_jobs += s->deltas->most_deltas;
    }
    return workspace_grow_deltas(p->ws, n_u, n_jobs);
}

/* Undoes make_room. */
static void give_room_back(struct pass *p)
{
    for (int i = 0; i < p->n_rows; i++)
        if (p->ws->rows[i].blocks_before >= 0)
            kv_seq_release(p->ws->rows[i].row->seq, p->ws->rows[i].blocks_before);
}

static graft_status make_room(struct pass *p, graft_error *error)
{
    int64_t most = 0;
    for (int i = 0; i < p->n_rows; i++) {
        struct pass_row *r = &p->ws->rows[i];
        struct kv_seq *seq = r->row->seq;
        if (r->row->pos != seq->length)
            continue; /* not the first of its sequence */
        int64_t before = seq->n_blocks;
        graft_status status = kv_seq_reserve(seq, seq->length + seq->pending, error);
        if (status != GRAFT_OK)
            return status;
        r->blocks_before = before;
        most = seq->n_blocks > most ? seq->n_blocks : most;
    }
    if (!workspace_grow_lists(p->ws, most))
        return error_set(error, GRAFT_NO_MEMORY, "no memory for a list of %lld KV blocks",
                         (long long)most);
    if (!attention_plan(p))
        return error_set(error, GRAFT_NO_MEMORY, "no memory for the attention of %d rows",
                         p->n_rows);
    if (!make_delta_room(p))
        return error_set(error, GRAFT_NO_MEMORY, "no memory for the deltas of %d rows", p->n_rows);
    return GRAFT_OK;
}

/* How many of the wanted rows, which ascend, come before a row. */
static int wanted_before(const struct pass *p, int n, int row)
{
    int low = 0, high = n;
    while (low < high) {
        int middle = low + (high - low) / 2;
        if (p->ws->wanted[middle] < row)
            low = middle + 1;
        else
            high = middle;
    }
    return low;
}

/* The rows with logits, as the head sees them: their segments are those of the pass, thinned out. */
static void find_head_rows(struct pass *p)
{
    struct segment *segments = p->ws->segments + p->ws->max_rows;
    int n = p->n_logits, kept = 0;
    for (int i = 0; i < p->all.n_segments; i++) {
        const struct segment *s = &p->all.segments[i];
        int begin = wanted_before(p, n, s->begin), end = wanted_before(p, n, s->end);
        if (begin < end)
            segments[kept++] =
                (struct segment){.deltas = s->deltas, .role = s->role, .begin = begin, .end = end};
    }
    p->head = (struct linear_rows){n, wanted_before(p, n, p->n_decode), segments, kept};
}

/* The rows whose final state is wanted: decode rows with logits, prefill rows with logits, the rest. */
static void find_wanted(struct pass *p, const struct row *rows)
{
    struct workspace *ws = p->ws;
    int n = 0;
    for (int i = 0; i < p->n_rows; i++)
        if (ws->rows[i].row->want_logits)
            ws->wanted[n++] = i;
    p->n_logits = n;
    find_head_rows(p);
    for (int i = 0; i < p->n_rows; i++)
        if (ws->rows[i].row->want_hidden && !ws->rows[i].row->want_logits)
            ws->wanted[n++] = i;
    p->n_wanted = n;
    for (int i = 0; i < p->n_rows; i++)
        ws->logit_slot[i] = ws->hidden_slot[i] = -1;
    for (int slot = 0; slot < n; slot++) {
        const struct row *r = ws->rows[ws->wanted[slot]].row;
        if (r->want_logits)
            ws->logit_slot[r - rows] = slot;
        if (r->want_hidden)
            ws->hidden_slot[r - rows] = slot;
    }
}

void pass_run(struct pass *p, pool_work work, int64_t multiplies)
{
    runtime_region(p->model->runtime, work, p, multiplies);
}

/* ---- regions ------------------------------------------------------------------------------ */

static void embed_work(void *context, int worker, int n_workers)
{
    struct pass *p = context;
    const struct model *m = p->model;
    int n_planes = m->config.d_head / 2;
    int64_t begin, end, width = m->config.d_model;
    pool_split(p->n_rows, 1, worker, n_workers, &begin, &end);
    for (int64_t i = begin; i < end; i++) {
        const struct row *r = p->ws->rows[i].row;
        p->kernels->dequantize[m->embed.type](&m->embed, r->token, 0, width, p->ws->x + i * width);
        if (r->deltas && r->deltas->modules)
            modules_embed(p, r, worker, p->ws->x + i * width);
        rope_angles(m->rope_freq, n_planes, r->pos, m->rope_mscale, p->ws->cos + i * n_planes,
                    p->ws->sin + i * n_planes);
    }
}

/* The final norm of the wanted rows. */
static void hidden_work(void *context, int worker, int n_workers)
{
    struct pass *p = context;
    const struct model *m = p->model;
    int64_t begin, end, width = m->config.d_model;
    pool_split(p->n_wanted, 1, worker, n_workers, &begin, &end);
    for (int64_t i = begin; i < end; i++) {
        int row = p->ws->wanted[i];
        p->kernels->rmsnorm(p->ws->x + row * width,
                            row_norm(p, row, model_final_norm(m), m->final_norm), width,
                            m->config.norm_eps, p->ws->hidden + i * width);
    }
}

static graft_status run_head(struct pass *p, graft_error *error)
{
    const struct model *m = p->model;
    if (!p->n_wanted)
        return GRAFT_OK;
    pass_run(p, hidden_work, p->n_wanted * (int64_t)m->config.d_model);
    atomic_store(&p->nan_slot, -1);
    if (p->n_logits)
        group_run(p, &(struct linear_group){
                         .rows = &p->head,
                         .x = p->ws->hidden,
                         .n_in = m->config.d_model,
                         .linears = {{&m->head, NULL, p->ws->logits, model_head_site(m)}},
                         .n_linears = 1,
                         .then_check = true});
    int slot = atomic_load(&p->nan_slot);
    if (slot < 0)
        return GRAFT_OK;
    const struct row *r = p->ws->rows[p->ws->wanted[slot]].row;
    return error_set(error, GRAFT_NUMERIC, "the logits at position %d are not numbers", r->pos);
}

graft_status model_forward(const struct model *model, const struct row *rows, int n_rows,
                           struct workspace *ws, graft_error *error)
{
    struct pass p = {.model = model,
                     .kernels = model->runtime->kernels,
                     .pool = model->runtime->pool,
                     .ws = ws,
                     .n_rows = n_rows};
    ws->n_rows = 0;
    if (ws->model != model || n_rows < 0 || n_rows > ws->max_rows)
        return error_set(error, GRAFT_INVALID_ARGUMENT,
                         "%d rows do not fit this workspace of %d rows", n_rows, ws->max_rows);
    graft_status status = check_rows(&p, rows, error);
    if (status != GRAFT_OK || !n_rows)
        return status;
    order_rows(&p, rows);
    status = make_room(&p, error);
    if (status == GRAFT_OK) {
        find_wanted(&p, rows);
        pass_run(&p, embed_work, n_rows * (int64_t)model->config.d_model);
        for (int i = 0; i < model->config.n_layer; i++)
            model->config.arch->block(&p, i);
        status = run_head(&p, error);
    }
    if (status != GRAFT_OK) {
        give_room_back(&p);
        return status;
    }
    for (int i = 0; i < n_rows; i++)
        rows[i].seq->length++;
    ws->n_rows = n_rows;
    return GRAFT_OK;
}
