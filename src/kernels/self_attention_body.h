/* self_attention_body.h: attention of training of a vector tier, in the words of its ..._vec.h. Included once per
 * tier, after TIER, SELF_ROWS and SELF_VECTORS (the tile that fits its registers).
 *
 * Forward is attention of prefill rows with all keys and values as floats. Backward takes SELF_QUERIES queries at a
 * time, whatever token and head they are of, and a block of keys: what both need of each other are five small matrix
 * products, and between them the weights of the softmax, one query to a lane. dq collects over the blocks, dk and dv
 * over the queries. Pairs beyond the diagonal or the window are left out by whole blocks, the rest of them by
 * weights of 0.
 */
#include "kernels/attention_internal.h"
#include "kernels/panels.h"

#include <math.h>

#define BODY(name) KERNEL_CAT(TIER, name)

enum { SELF_QUERIES = ATTENTION_QUERIES, SELF_WIDTH = SELF_VECTORS * VF };
_Static_assert((int)SELF_QUERIES % (int)SELF_WIDTH == 0 && (int)Q8_BLOCK % (int)SELF_WIDTH == 0,
               "panels are whole");

/* ---- forward ------------------------------------------------------------------------------ */

/* Keys or values of all tokens, close to each other; returns what is after them. */
static float *pack_rows(const struct self_attention_args *a, const float *rows, float *to,
                        const void **blocks)
{
    for (int t = 0; t < a->n_tok; t++, to += a->d_head) {
        if (t % KV_BLOCK == 0)
            blocks[t / KV_BLOCK] = to;
        memcpy(to, rows + t * a->kv_stride, (size_t)a->d_head * sizeof *to);
    }
    return to;
}

static void store_lse(const struct self_attention_args *a, const struct attention_args *tile)
{
    for (int r = 0; r < tile->n_row; r++)
        for (int h = 0; h < a->n_group; h++) {
            const float m = tile->m[r * a->n_group + h], l = tile->l[r * a->n_group + h];
            a->lse[(tile->pos + r) * a->lse_stride + h] =
                isnan(l) ? l : m + (float)kernel_log((double)l);
        }
}

void BODY(_self_attention)(const struct self_attention_args *a)
{
    const int64_t n_block = blocks_of(a->n_tok, KV_BLOCK);
    const int most = attention_tile_rows(a->n_group);
    const void **keys = align_scratch(a->scratch), **values = keys + n_block;
    float *p = (float *)(void *)(values + n_block);
    p = pack_rows(a, a->k, p, keys);
    p = pack_rows(a, a->v, p, values);
    struct attention_args tile = {.q_stride = a->q_stride,
                                  .out_stride = a->out_stride,
                                  .n_group = a->n_group,
                                  .d_head = a->d_head,
                                  .scale = a->scale,
                                  .window = a->window,
                                  .end = a->n_tok,
                                  .k_type = KV_F32,
                                  .v_type = KV_F32,
                                  .k_blocks = keys,
                                  .v_blocks = values,
                                  .m = p,
                                  .l = p + most * a->n_group,
                                  .scratch = p + 2 * most * a->n_group};
    for (int t = 0; t < a->n_tok; t += most) {
        tile.q = a->q + t * a->q_stride;
        tile.out = a->out + t * a->out_stride;
        tile.n_row = a->n_tok - t < most ? a->n_tok - t : most;
        tile.pos = t;
        BODY(_attention_prefill)(&tile);
        BODY(_attention_finish)(&tile);
        store_lse(a, &tile);
    }
}

/* ---- backward: products ------------------------------------------------------------------- */

/* y[m, o] (+)= Σ_j x[m, j] · panel[j, o] for m < rows, o < width */
struct product {
    const float *x;
    const float *panel; /* [n, pitch], with whole panels of SELF_WIDTH */
    float *y;
    int64_t pitch, y_stride, rows, width, n;
    bool fresh; /* sums begin at 0, not at y */
};

/* `rows` rows from m on, and a panel from o on; x[m, j] lies at m · x_row + j · x_next. */
ALWAYS_INLINE void product_tile(const struct product *p, int64_t x_row, int64_t x_next, int64_t m,
                                int64_t o, int rows)
{
    vf sum[SELF_ROWS][SELF_VECTORS];
    const float *x = p->x + m * x_row, *panel = p->panel + o;
    float *y = p->y + m * p->y_stride + o;
    TIMES(r, rows) TIMES(v, SELF_VECTORS)
    {
        int64_t left = p->width - o - v * VF;
        sum[r][v] = v_zero();
        if (!p->fresh && left > 0)
            sum[r][v] = v_load_some(y + r * p->y_stride + v * VF, left);
    }
    for (int64_t j = 0; j < p->n; j++, x += x_next, panel += p->pitch) {
        vf w[SELF_VECTORS];
        TIMES(v, SELF_VECTORS) w[v] = v_load(panel + v * VF);
        TIMES(r, rows)
        {
            vf xj = v_set1(x[r * x_row]);
            TIMES(v, SELF_VECTORS) sum[r][v] = v_fma(xj, w[v], sum[r][v]);
        }
    }
    TIMES(r, rows) TIMES(v, SELF_VECTORS)
    {
        int64_t left = p->width - o - v * VF;
        if (left > 0)
            v_store_some(y + r * p->y_stride + v * VF, sum[r][v], left);
    }
}

ALWAYS_INLINE void product_panels(const struct product *p, int64_t x_row, int64_t x_next)
{
    for (int64_t o = 0; o < p->width; o += SELF_WIDTH) {
        int64_t m = 0;
        for (; m + SELF_ROWS <= p->rows; m += SELF_ROWS)
            product_tile(p, x_row, x_next, m, o, SELF_ROWS);
        for (; m + 4 <= p->rows; m += 4)
            product_tile(p, x_row, x_next, m, o, 4);
        for (; m < p->rows; m++)
            product_tile(p, x_row, x_next, m, o, 1);
    }
}

/* x in rows that are x_row apart. */
static void product_rows(const struct product *p, int64_t x_row)
{
    product_panels(p, x_row, 1);
}

/* x in rows of SELF_QUERIES, one for each m, or one for each j. */
static void product_weights(const struct product *p)
{
    product_panels(p, SELF_QUERIES, 1);
}

static void product_weights_turned(const struct product *p)
{
    product_panels(p, 1, SELF_QUERIES);
}

/* ---- backward: queries -------------------------------------------------------------------- */

/* Some queries, and their part of the scratch; zeros where there is no query. */
struct queries {
    int64_t first, pitch; /* first: as token · n_group + head */
    int n;
    float *rows, *dout;               /* [SELF_QUERIES, pitch] */
    float *rows_turned, *dout_turned; /* [pitch, SELF_QUERIES] */
    float *dq;                        /* [SELF_QUERIES, pitch] */
    float *weights, *dscores;         /* [KV_BLOCK, SELF_QUERIES] */
    float *lse, *along;               /* [SELF_QUERIES]; along: dout · out */
    float *keys;                      /* [n_tok, pitch] */
};

static struct queries queries_layout(const struct self_attention_args *a)
{
    struct queries s = {.pitch = blocks_of(a->d_head, Q8_BLOCK) * Q8_BLOCK};
    const int64_t rows = SELF_QUERIES * s.pitch;
    s.rows = align_scratch(a->scratch);
    s.dout = s.rows + rows;
    s.rows_turned = s.dout + rows;
    s.dout_turned = s.rows_turned + rows;
    s.dq = s.dout_turned + rows;
    s.weights = s.dq + rows;
    s.dscores = s.weights + KV_BLOCK * SELF_QUERIES;
    s.lse = s.dscores + KV_BLOCK * SELF_QUERIES;
    s.along = s.lse + SELF_QUERIES;
    s.keys = s.along + SELF_QUERIES;
    return s;
}

/* A row of d_head floats, and zeros up to the pitch. */
static void pad_row(const float *x, int64_t d_head, int64_t pitch, float *out)
{
    memcpy(out, x, (size_t)d_head * sizeof *x);
    memset(out + d_head, 0, (size_t)(pitch - d_head) * sizeof *x);
}

static void turn_rows(const float *rows, int64_t pitch, float *turned)
{
    for (int64_t q = 0; q < SELF_QUERIES; q += VF)
        for (int64_t i = 0; i < pitch; i += VF) {
            vf r[VF];
            TIMES(j, VF)
            {
                r[j] = v_load(rows + (q + j) * pitch + i);
            }
            v_transpose(r);
            TIMES(j, VF)
            {
                v_store(turned + (i + j) * SELF_QUERIES + q, r[j]);
            }
        }
}

static float product_along(const float *x, const float *y, int64_t n)
{
    vf sum = v_zero();
    for (int64_t i = 0; i < n; i += VF)
        sum = v_fma(v_load_some(x + i, n - i), v_load_some(y + i, n - i), sum);
    return v_sum(sum);
}

static void queries_load(const struct self_attention_args *a, struct queries *s, int64_t first)
{
    const int64_t all = (int64_t)a->n_tok * a->n_group;
    s->first = first;
    s->n = all - first < SELF_QUERIES ? (int)(all - first) : SELF_QUERIES;
    for (int i = 0; i < SELF_QUERIES; i++) {
        const int64_t t = (first + i) / a->n_group, h = (first + i) % a->n_group;
        float *row = s->rows + i * s->pitch, *dout = s->dout + i * s->pitch;
        if (i >= s->n) {
            memset(row, 0, (size_t)s->pitch * sizeof *row);
            memset(dout, 0, (size_t)s->pitch * sizeof *dout);
            s->lse[i] = s->along[i] = 0;
            continue;
        }
        pad_row(a->q + t * a->q_stride + h * a->d_head, a->d_head, s->pitch, row);
        pad_row(a->dout + t * a->out_stride + h * a->d_head, a->d_head, s->pitch, dout);
        s->lse[i] = a->lse[t * a->lse_stride + h];
        s->along[i] = product_along(dout, a->out + t * a->out_stride + h * a->d_head, a->d_head);
    }
    turn_rows(s->rows, s->pitch, s->rows_turned);
    turn_rows(s->dout, s->pitch, s->dout_turned);
}

static void queries_store(const struct self_attention_args *a, const struct queries *s)
{
    for (int i = 0; i < s->n; i++) {
        const int64_t t = (s->first + i) / a->n_group, h = (s->first + i) % a->n_group;
        memcpy(a->dq + t * a->q_stride + h * a->d_head, s->dq + i * s->pitch,
               (size_t)a->d_head * sizeof *a->dq);
    }
}

/* −∞ for the queries that do not see key j: those of tokens before it, and those that it is too old for. */
static void mask_scores(const struct self_attention_args *a, const struct queries *s, int64_t j,
                        float *scores)
{
    const int64_t begin = j * a->n_group - s->first;
    const bool windowed = a->window && a->window < a->n_tok;
    const int64_t end = windowed ? (j + a->window) * a->n_group - s->first : SELF_QUERIES;
    for (int64_t q = 0; q < begin && q < SELF_QUERIES; q++)
        scores[q] = -INFINITY;
    for (int64_t q = end > 0 ? end : 0; q < SELF_QUERIES; q++)
        scores[q] = -INFINITY;
}

/* Scores to weights, and what the loss says of weights to what it says of scores, times scale. */
static void weigh_key(const struct queries *s, float scale, float *weights, float *dscores)
{
    const vf factor = v_set1(scale);
    TIMES(v, SELF_QUERIES / VF)
    {
        vf score = v_mul(v_load(weights + v * VF), factor);
        vf weight = v_exp_down(v_sub(score, v_load(s->lse + v * VF)));
        vf d = v_sub(v_load(dscores + v * VF), v_load(s->along + v * VF));
        v_store(weights + v * VF, weight);
        v_store(dscores + v * VF, v_mul(v_mul(weight, factor), d));
    }
}

/* Keys j..j_end with all of the queries; fresh: the first for them. */
static void queries_meet_keys(const struct self_attention_args *a, const struct queries *s,
                              int64_t j, int64_t j_end, bool fresh)
{
    const int64_t n = j_end - j;
    const struct product scores = {.x = s->keys + j * s->pitch,
                                   .panel = s->rows_turned,
                                   .y = s->weights,
                                   .pitch = SELF_QUERIES,
                                   .y_stride = SELF_QUERIES,
                                   .rows = n,
                                   .width = SELF_QUERIES,
                                   .n = a->d_head,
                                   .fresh = true};
    struct product other = scores;
    product_rows(&scores, s->pitch);
    other.x = a->v + j * a->kv_stride;
    other.panel = s->dout_turned;
    other.y = s->dscores;
    product_rows(&other, a->kv_stride);
    for (int64_t i = 0; i < n; i++) {
        mask_scores(a, s, j + i, s->weights + i * SELF_QUERIES);
        weigh_key(s, a->scale, s->weights + i * SELF_QUERIES, s->dscores + i * SELF_QUERIES);
    }
    const struct product dv = {.x = s->weights,
                               .panel = s->dout,
                               .y = a->dv + j * a->kv_stride,
                               .pitch = s->pitch,
                               .y_stride = a->kv_stride,
                               .rows = n,
                               .width = a->d_head,
                               .n = s->n};
    struct product rest = dv;
    product_weights(&dv);
    rest.x = s->dscores;
    rest.panel = s->rows;
    rest.y = a->dk + j * a->kv_stride;
    product_weights(&rest);
    rest.panel = s->keys + j * s->pitch;
    rest.y = s->dq;
    rest.y_stride = s->pitch;
    rest.rows = s->n;
    rest.n = n;
    rest.fresh = fresh;
    product_weights_turned(&rest);
}

void BODY(_self_attention_backward)(const struct self_attention_args *a)
{
    struct queries s = queries_layout(a);
    const int64_t all = (int64_t)a->n_tok * a->n_group;
    for (int t = 0; t < a->n_tok; t++) {
        pad_row(a->k + t * a->kv_stride, a->d_head, s.pitch, s.keys + t * s.pitch);
        memset(a->dk + t * a->kv_stride, 0, (size_t)a->d_head * sizeof *a->dk);
        memset(a->dv + t * a->kv_stride, 0, (size_t)a->d_head * sizeof *a->dv);
    }
    for (int64_t first = 0; first < all; first += SELF_QUERIES) {
        queries_load(a, &s, first);
        const int64_t oldest = first / a->n_group, last = (first + s.n - 1) / a->n_group + 1;
        const int64_t begin = a->window && oldest >= a->window ? oldest - a->window + 1 : 0;
        for (int64_t j = begin; j < last; j += KV_BLOCK)
            queries_meet_keys(a, &s, j, j + KV_BLOCK < last ? j + KV_BLOCK : last, j == begin);
        queries_store(a, &s);
    }
}
