/* seam.c: low-rank deltas beside the weights: y += Σ w · gain ⊙ scale · (B (A x) + bias).
 *
 * A group of linears is one parallel region with or without deltas. The products A x of all deltas of the
 * group are cut into items, each a few ranks of one delta for a few rows of one segment; workers take
 * them from a counter when they begin. Then each does its rows of W, and adds the B part of its own
 * outputs when all items are done, which by then they are: nobody waits as at a barrier.
 *
 * The wait cannot last: an item is only ever held by a share that has begun, and finishes without waiting
 * for anything. (A share that nobody has begun holds none; its worker, or the pool's caller after its
 * own share, runs it when the items are gone.)
 *
 * What is computed for an item does not depend on how items are cut or who takes them, so a row's bits
 * depend on its own mix alone.
 */
#include "model/forward_internal.h"

enum { GAIN_SPAN = 4096 };

/* Pieces of u. Decode: so few ranks that workers share a single delta. Prefill: rows that stay in cache
 * while all ranks pass over them, and several pieces for each worker. */
enum {
    DECODE_ROWS = 64,
    DECODE_RANKS = 8,
    PREFILL_MOST = 128,
    PREFILL_LEAST = 32,
    PREFILL_RANKS = 256
};

static int64_t pieces(int64_t n, int64_t each)
{
    return (n + each - 1) / each;
}

/* ---- jobs --------------------------------------------------------------------------------- */

/* Lists the jobs of a segment from *n_jobs on. */
static void list_jobs(const struct pass *p, struct segment *s, int *n_jobs)
{
    const struct linear_group *g = p->group;
    s->jobs = *n_jobs;
    s->n_ranks = 0;
    for (int i = 0; i < g->n_linears; i++) {
        const int *at = s->deltas->starts + g->linears[i].site;
        for (int d = at[0]; d < at[1]; d++) {
            const struct delta *delta = &s->deltas->deltas[d];
            const struct lowrank *l = delta->lowrank;
            p->ws->stack[*n_jobs] = (struct lowrank_part){&l->a, delta->weight * l->scale};
            p->ws->jobs[(*n_jobs)++] = (struct delta_job){l, delta->weight, i, s->n_ranks};
            s->n_ranks += l->a.n_out;
        }
    }
    s->jobs_end = *n_jobs;
}

static int64_t cut_items(const struct pass *p, struct segment *s)
{
    int64_t n = s->end - s->begin;
    s->item_rows = DECODE_ROWS;
    s->item_ranks = DECODE_RANKS;
    if (s->role == ROLE_PREFILL) {
        int64_t each = pieces(pieces(n, 2 * p->ws->n_workers), PREFILL_LEAST) * PREFILL_LEAST;
        s->item_rows = each < PREFILL_MOST ? each : PREFILL_MOST;
        s->item_ranks = PREFILL_RANKS;
    }
    return pieces(n, s->item_rows) * pieces(s->n_ranks, s->item_ranks);
}

/* What the deltas of prefill rows go by: the panels of the weights. Those of a group are alike, unless a
 * file mixes its types; then the most exact count, since A x may be shared. */
static enum panel_format group_format(const struct pass *p)
{
    enum panel_format format = PANEL_BF16;
    for (int i = 0; i < p->group->n_linears; i++) {
        graft_type type = p->group->linears[i].weight->type;
        enum panel_format of_type = kernels_delta_format(p->kernels, type);
        format = of_type < format ? of_type : format;
    }
    return format;
}

static bool is_head(const struct pass *p, int linear)
{
    return p->group->linears[linear].site == model_head_site(p->model);
}

void seam_begin(struct pass *p)
{
    const struct linear_rows *rows = p->group->rows;
    int n_jobs = 0;
    float *u = p->ws->u;
    p->n_delta_items = 0;
    p->whole_heads = false;
    p->delta_format = rows->n_segments ? group_format(p) : PANEL_F32;
    for (int i = 0; i < rows->n_segments; i++) {
        struct segment *s = &rows->segments[i];
        list_jobs(p, s, &n_jobs);
        s->u = u;
        u += s->n_ranks * (s->end - s->begin);
        s->first_item = p->n_delta_items;
        p->n_delta_items += cut_items(p, s);
        s->items_end = p->n_delta_items;
        p->whole_heads = p->whole_heads || (is_head(p, 0) && modules_have_head(s));
    }
    atomic_store_explicit(&p->next_delta_item, 0, memory_order_relaxed);
    atomic_store_explicit(&p->delta_items_done, 0, memory_order_relaxed);
}

/* ---- ahead -------------------------------------------------------------------------------- */

/* Factors begin anywhere in memory, and what they take beside a single row is little: waiting for their first
 * lines would be a third of it. */
enum { AHEAD_A = 8192, AHEAD_B = 2048, AHEAD_GAIN = 4096 };

/* What a worker keeps of the factors of B between a product and what is added to it. */
enum { SPAN_FACTORS = 512 << 10 };

static void ask_bytes(const void *at, size_t bytes, size_t most)
{
    for (size_t i = 0; i < (bytes < most ? bytes : most); i += 64)
        __builtin_prefetch((const char *)at + i, 0, 2);
}

static void ask_for(const struct matrix *factor, int64_t row, int64_t n_rows, size_t most)
{
    ask_bytes((const char *)factor->data + (size_t)row * factor->row_bytes,
              (size_t)n_rows * factor->row_bytes, most);
}

/* The ranks of the stack of a segment from `rank` on, of the first delta among them. */
static void ask_for_ranks(const struct pass *p, const struct segment *s, int64_t rank)
{
    for (int j = s->jobs; j < s->jobs_end; j++) {
        const struct matrix *a = &p->ws->jobs[j].lowrank->a;
        int64_t first = rank - p->ws->jobs[j].first_rank;
        if (first >= 0 && first < a->n_out)
            ask_for(a, first, a->n_out - first < s->item_ranks ? a->n_out - first : s->item_ranks,
                    AHEAD_A);
    }
}

void seam_ask(const struct pass *p, int worker, int n_workers)
{
    const struct linear_rows *rows = p->group->rows;
    for (int i = 0; i < rows->n_segments; i++) {
        const struct segment *s = &rows->segments[i];
        if (worker >= s->first_item && worker < s->items_end)
            ask_for_ranks(p, s, (worker - s->first_item) * s->item_ranks);
        for (int j = s->jobs; j < s->jobs_end; j++) {
            const struct delta_job *job = &p->ws->jobs[j];
            const struct matrix *b = &job->lowrank->b;
            int64_t begin, end, rank = job->lowrank->a.n_out;
            pool_split(p->group->linears[job->linear].weight->n_out, OUTPUT_GRAIN, worker,
                       n_workers, &begin, &end);
            if (begin < end)
                ask_for(b, begin / LOWRANK_TILE * rank, rank, AHEAD_B);
            if (begin < end && job->lowrank->gain)
                ask_bytes(job->lowrank->gain + begin, (size_t)(end - begin) * sizeof(float),
                          AHEAD_GAIN);
        }
    }
}

static void list_piece(const struct matrix *factor, int64_t row, int64_t n_rows,
                       struct seam_ahead *out)
{
    if (out->ahead.n < AHEAD_PIECES)
        out->pieces[out->ahead.n++] =
            (struct ahead_piece){(const char *)factor->data + (size_t)row * factor->row_bytes,
                                 (size_t)n_rows * factor->row_bytes};
}

/* The ranks of the stack of a segment from `rank` on that one item has. */
static void list_ranks(const struct pass *p, const struct segment *s, int64_t rank,
                       struct seam_ahead *out)
{
    for (int j = s->jobs; j < s->jobs_end; j++) {
        const struct matrix *a = &p->ws->jobs[j].lowrank->a;
        int64_t first = rank - p->ws->jobs[j].first_rank, last = first + s->item_ranks;
        first = first > 0 ? first : 0;
        last = last < a->n_out ? last : a->n_out;
        if (first < last)
            list_piece(a, first, last - first, out);
    }
}

void seam_list_items(const struct pass *p, int worker, int n_workers, struct seam_ahead *out)
{
    const struct linear_rows *rows = p->group->rows;
    for (int i = 0; i < rows->n_segments; i++) {
        const struct segment *s = &rows->segments[i];
        for (int64_t item = s->first_item; item < s->items_end && s->role == ROLE_DECODE; item++)
            if (item % n_workers == worker)
                list_ranks(p, s, (item - s->first_item) * s->item_ranks, out);
    }
}

void seam_list_ahead(const struct pass *p, int linear, int64_t begin, int64_t end,
                     struct seam_ahead *out)
{
    const struct linear_rows *rows = p->group->rows;
    const int64_t first = begin / LOWRANK_TILE, tiles = pieces(end, LOWRANK_TILE) - first;
    for (int i = 0; i < rows->n_segments; i++) {
        const struct segment *s = &rows->segments[i];
        for (int j = s->jobs; j < s->jobs_end && s->role == ROLE_DECODE; j++) {
            const struct lowrank *l = p->ws->jobs[j].lowrank;
            if (p->ws->jobs[j].linear == linear)
                list_piece(&l->b, first * l->a.n_out, tiles * l->a.n_out, out);
        }
    }
}

int64_t seam_span(const struct pass *p, int64_t n)
{
    const struct linear_rows *rows = p->group->rows;
    size_t tile_bytes = 1; /* of LOWRANK_TILE outputs of each linear */
    for (int i = 0; i < rows->n_segments; i++)
        for (int j = rows->segments[i].jobs; j < rows->segments[i].jobs_end; j++) {
            const struct lowrank *l = p->ws->jobs[j].lowrank;
            tile_bytes += (size_t)l->a.n_out * l->b.row_bytes;
        }
    int64_t most = (int64_t)(SPAN_FACTORS / tile_bytes) * LOWRANK_TILE;
    most = most > LOWRANK_TILE ? most : LOWRANK_TILE;
    return n < most ? n : most;
}

/* ---- A x ---------------------------------------------------------------------------------- */

/* Items of a segment go through all ranks before the next rows, which stay in cache meanwhile. */
static void run_item(const struct pass *p, const struct linear_input *in, const struct segment *s,
                     int64_t item, void *scratch)
{
    int64_t n_pieces = pieces(s->n_ranks, s->item_ranks), r = item % n_pieces * s->item_ranks;
    int64_t first = item / n_pieces * s->item_rows, left = s->end - s->begin - first;
    p->kernels->lowrank_down[s->role](
        p->kernels, &(struct lowrank_down_args){
                        .parts = p->ws->stack + s->jobs,
                        .n_parts = s->jobs_end - s->jobs,
                        .x = in->x + (s->begin + first) * in->n_in,
                        .n_tok = (int)(left < s->item_rows ? left : s->item_rows),
                        .r_begin = r,
                        .r_end = r + s->item_ranks < s->n_ranks ? r + s->item_ranks : s->n_ranks,
                        .u = s->u + first * s->n_ranks,
                        .u_stride = s->n_ranks,
                        .format = p->delta_format,
                        .scratch = scratch});
}

void seam_down(struct pass *p, const struct linear_input *in, void *scratch)
{
    const struct segment *s = p->group->rows->segments;
    long long item, done = 0;
    if (!p->n_delta_items)
        return;
    while ((item = atomic_fetch_add_explicit(&p->next_delta_item, 1, memory_order_relaxed)) <
           p->n_delta_items) {
        while (item >= s->items_end)
            s++;
        run_item(p, in, s, item - s->first_item, scratch);
        done++;
    }
    atomic_fetch_add_explicit(&p->delta_items_done, done, memory_order_release);
}

/* ---- outputs ------------------------------------------------------------------------------ */

/* The deltas of a segment beside a linear: jobs first..end. */
struct beside {
    int first, end;
};

static struct beside find_beside(const struct pass *p, const struct segment *s, int linear)
{
    struct beside d = {s->jobs, s->jobs};
    while (d.first < s->jobs_end && p->ws->jobs[d.first].linear != linear)
        d.first++;
    for (d.end = d.first; d.end < s->jobs_end && p->ws->jobs[d.end].linear == linear;)
        d.end++;
    return d;
}

/* What W x is multiplied with at outputs begin..begin+n, GAIN_SPAN at most, of the rows of a segment; false: nothing. */
static bool find_gain(const struct pass *p, const struct segment *s, struct beside d, int64_t begin,
                      int64_t n, float *factor)
{
    bool any = p->whole_heads && modules_have_head(s);
    const float kept = any ? 1 - modules_head_weight(s) : 1;
    for (int j = d.first; j < d.end && !any; j++)
        any = p->ws->jobs[j].lowrank->gain != NULL;
    for (int64_t i = 0; i < n && any; i++)
        factor[i] = kept;
    for (int j = d.first; j < d.end; j++) {
        const struct delta_job *job = &p->ws->jobs[j];
        if (job->lowrank->gain)
            p->kernels->gain_add(factor, job->lowrank->gain + begin, job->weight, n);
    }
    return any;
}

/* Outputs begin..end of a delta; `keep` as in lowrank_up_args. */
static void run_up(const struct pass *p, const struct segment *s, int j, const float *keep,
                   int64_t begin, int64_t end, void *scratch)
{
    const struct delta_job *job = &p->ws->jobs[j];
    const struct linear *l = &p->group->linears[job->linear];
    const struct lowrank *lowrank = job->lowrank;
    int64_t width = l->weight->n_out;
    p->kernels->lowrank_up[s->role](p->kernels,
                                    &(struct lowrank_up_args){.b = &lowrank->b,
                                                              .rank = lowrank->a.n_out,
                                                              .u = s->u + job->first_rank,
                                                              .u_stride = s->n_ranks,
                                                              .n_tok = s->end - s->begin,
                                                              .o_begin = begin,
                                                              .o_end = end,
                                                              .keep = keep,
                                                              .gain = lowrank->gain,
                                                              .bias = lowrank->bias,
                                                              .bias_scale = p->ws->stack[j].scale,
                                                              .y = l->y + s->begin * width,
                                                              .y_stride = width,
                                                              .format = p->delta_format,
                                                              .scratch = scratch});
}

/* The deltas of a segment beside a linear. The first one multiplies W x with the gains on its way. */
static void up_segment(const struct pass *p, const struct segment *s, int linear, int64_t begin,
                       int64_t end, void *scratch)
{
    float gain[GAIN_SPAN];
    const struct linear *l = &p->group->linears[linear];
    const struct beside d = find_beside(p, s, linear);
    for (int64_t o = begin, stop; o < end; o = stop) {
        stop = o + GAIN_SPAN < end ? o + GAIN_SPAN : end;
        bool any = find_gain(p, s, d, o, stop - o, gain);
        if (!any) /* of any outputs */
            stop = end;
        if (any && d.first == d.end)
            for (int64_t row = s->begin; row < s->end; row++)
                p->kernels->mul(l->y + row * l->weight->n_out + o, gain, stop - o);
        for (int j = d.first; j < d.end; j++)
            run_up(p, s, j, any && j == d.first ? gain : NULL, o, stop, scratch);
    }
}

void seam_up(struct pass *p, int linear, int64_t begin, int64_t end, void *scratch)
{
    const struct linear_rows *rows = p->group->rows;
    const struct linear *l = &p->group->linears[linear];
    pool_await(p->pool, &p->delta_items_done, p->n_delta_items);
    for (int i = 0; i < rows->n_segments; i++) {
        const struct segment *s = &rows->segments[i];
        up_segment(p, s, linear, begin, end, scratch);
        if (p->whole_heads && modules_have_head(s))
            modules_head(p, s, l, begin, end, scratch);
    }
}
