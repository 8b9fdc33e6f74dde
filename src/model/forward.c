/* forward.c: one forward pass: rows in, logits and final states out.
 *
 * Checks the rows, makes room in their sequences, puts decode rows before prefill rows, and runs
 * embedding, blocks and head. Sequences grow only when all of it succeeded.
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
    if (r->pos != r->seq->length + r->seq->pending)
        return error_set(error, GRAFT_INVALID_ARGUMENT, "row %d: position %d, expected %lld", index,
                         r->pos, (long long)(r->seq->length + r->seq->pending));
    return GRAFT_OK;
}

/* Counts each sequence's rows in its `pending`. */
static graft_status check_rows(struct pass *p, const struct row *rows, graft_error *error)
{
    struct pass_row *order = p->ws->rows;
    graft_status status = GRAFT_OK;
    int checked = 0;
    p->lone = true;
    for (int i = 0; i < p->n_rows; i++)
        if (rows[i].seq)
            rows[i].seq->pending = 0;
    for (; status == GRAFT_OK && checked < p->n_rows; checked++) {
        const struct row *r = &rows[checked];
        status = check_row(p->model, r, checked, error);
        if (status != GRAFT_OK)
            break;
        p->lone = p->lone && !r->seq->pending;
        r->seq->pending++;
        p->n_decode += r->role == ROLE_DECODE;
    }
    if (status != GRAFT_OK)
        return status;
    int next[ROLE_COUNT] = {[ROLE_DECODE] = 0, [ROLE_PREFILL] = p->n_decode};
    for (int i = 0; i < p->n_rows; i++)
        order[next[rows[i].role]++] = (struct pass_row){&rows[i], -1};
    return GRAFT_OK;
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
    return GRAFT_OK;
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
    if (multiplies < p->model->runtime->small_region)
        pool_run_alone(p->pool, work, p);
    else
        pool_run(p->pool, work, p);
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
        rope_angles(m->rope_freq, n_planes, r->pos, m->rope_mscale, p->ws->cos + i * n_planes,
                    p->ws->sin + i * n_planes);
    }
}

/* The final norm of the wanted rows, and what the head needs of them. */
static void hidden_work(void *context, int worker, int n_workers)
{
    struct pass *p = context;
    const struct model *m = p->model;
    int64_t begin, end, width = m->config.d_model;
    pool_split(p->n_wanted, 1, worker, n_workers, &begin, &end);
    for (int64_t i = begin; i < end; i++) {
        p->kernels->rmsnorm(p->ws->x + p->ws->wanted[i] * width, m->final_norm, width,
                            m->config.norm_eps, p->ws->hidden + i * width);
        linear_prepare(p->kernels, &p->input, linear_formats(&m->head), (int)i);
    }
}

static bool has_nan(const float *x, int64_t n)
{
    int bad = 0;
    for (int64_t i = 0; i < n; i++)
        bad |= x[i] != x[i];
    return bad;
}

/* The first row counts, whichever worker comes first. */
static void note_nan(struct pass *p, int slot)
{
    int seen = atomic_load(&p->nan_slot);
    while ((seen < 0 || slot < seen) && !atomic_compare_exchange_weak(&p->nan_slot, &seen, slot)) {
    }
}

static void head_work(void *context, int worker, int n_workers)
{
    struct pass *p = context;
    const struct matrix *head = &p->model->head;
    const struct linear linear = {head, NULL, p->ws->logits};
    int64_t begin, end;
    pool_split(head->n_out, OUTPUT_GRAIN, worker, n_workers, &begin, &end);
    linear_apply(p->kernels, &linear, &p->input, begin, end, p->ws->workers[worker].scratch);
    for (int slot = 0; slot < p->n_logits; slot++)
        if (has_nan(p->ws->logits + slot * head->n_out + begin, end - begin)) {
            note_nan(p, slot);
            break;
        }
}

static graft_status run_head(struct pass *p, graft_error *error)
{
    if (!p->n_wanted)
        return GRAFT_OK;
    int n_decode = 0;
    while (n_decode < p->n_logits && p->ws->wanted[n_decode] < p->n_decode)
        n_decode++;
    p->input = (struct linear_input){.x = p->ws->hidden,
                                     .n_in = p->model->config.d_model,
                                     .n_rows = p->n_logits,
                                     .n_decode = n_decode};
    memcpy(p->input.act, p->ws->act, sizeof(p->input.act));
    pass_run(p, hidden_work, p->n_wanted * (int64_t)p->model->config.d_model);
    atomic_store(&p->nan_slot, -1);
    if (p->n_logits)
        pass_run(p, head_work, p->n_logits * p->model->head.n_out * p->model->head.n_in);
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
