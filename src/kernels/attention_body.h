/* attention_body.h: attention of a vector tier, in the words of its ..._vec.h. Included once per
 * tier, after TIER and the conversions of kv_body.h. The method is that of scalar_attention.c.
 *
 * Decode rows, few queries, convert keys and values on their way from memory and add up a score along
 * the lanes. Prefill rows, many queries, convert a block once into floats, and have a query in each
 * lane, so that nothing is added across. Values are mixed in the same way for both. The sums of a
 * query have one order, given by absolute position alone, and what it does not see adds nothing.
 */
#include "kernels/attention_internal.h"

#include <math.h>

#define BODY(name) KERNEL_CAT(TIER, name)

/* Tiles of sums. Each sum is one chain, and it takes eight of them to keep a processor busy, better
 * twelve: that is what 16 registers hold besides the operands; 32 hold 28, with one operand in memory. */
enum {
    MANY_REGISTERS = VF != 8,
    SCORE_QUERIES = MANY_REGISTERS ? 7 : 3,  /* queries that share 4 keys */
    SCORE_KEYS = 8,                          /* keys that a single query takes at once */
    SCORES = MANY_REGISTERS ? 32 : 16,       /* the most sums of a tile, in whole v_sums */
    MIX_QUERIES = MANY_REGISTERS ? 7 : 6,    /* queries that share */
    MIX_VECTORS = MANY_REGISTERS ? 4 : 2,    /* so many vectors of values */
    TURNED_KEYS = 6,                         /* keys that share */
    TURNED_VECTORS = MANY_REGISTERS ? 4 : 2, /* so many vectors of queries */
    PANEL = TURNED_VECTORS * VF,
    WEIGH_STEP = 4 * VF < KV_BLOCK ? 4 * VF : KV_BLOCK /* scores that are weighed at once */
};
_Static_assert(ATTENTION_QUERIES % PANEL == 0, "the scratch holds whole panels");

struct attention_state {
    const struct attention_args *a;
    int64_t n_query;
    int64_t lanes; /* prefill: queries in whole panels */
    int64_t pitch; /* floats between rows of the tile: d_head in whole blocks of 32 */
    float *tile;   /* [KV_BLOCK, pitch] keys or values */
    float *scales; /* [KV_BLOCK, pitch / 32] of KV_Q8 */
    float *
        weights; /* scores, then exp(score − m): decode [n_query, KV_BLOCK], prefill [KV_BLOCK, lanes] */
    float *
        turned; /* the queries; prefill: [lanes / PANEL, d_head, PANEL]; decode: as pairs, if at all */
};

static struct attention_state attention_open(const struct attention_args *a)
{
    struct attention_state s = {.a = a, .n_query = (int64_t)a->n_row * a->n_group};
    s.lanes = blocks_of(s.n_query, PANEL) * PANEL;
    s.pitch = blocks_of(a->d_head, Q8_BLOCK) * Q8_BLOCK;
    s.tile = (float *)(((uintptr_t)a->scratch + 63) & ~(uintptr_t)63);
    s.weights = s.tile + KV_BLOCK * s.pitch;
    s.turned = s.weights + KV_BLOCK * s.lanes;
    attention_start(a);
    return s;
}

/* The rows from `row` on that see the same of a block: the first after them. */
static int same_until(const struct attention_args *a, int64_t block, int row,
                      struct attention_span *span)
{
    *span = attention_visible(a, block, row);
    while (++row < a->n_row) {
        struct attention_span next = attention_visible(a, block, row);
        if (next.begin != span->begin || next.end != span->end)
            break;
    }
    return row;
}

static void scale_row(float *x, int64_t n, float factor)
{
    vf f = v_set1(factor);
    for (int64_t i = 0; i < n; i += VF)
        v_store_some(x + i, v_mul(v_load_some(x + i, n - i), f), n - i);
}

/* ---- keys and values ---------------------------------------------------------------------- */

/* Keys or values of some positions: floats, or halves as they lie in the cache. */
struct kv_rows {
    enum kv_type type; /* KV_F32 or KV_F16 */
    const uint8_t *at;
    size_t stride;       /* bytes from one position to the next */
    const uint8_t *next; /* what is read after these and may be fetched meanwhile, or NULL */
    size_t next_stride;
};

static struct kv_rows rows_from(struct kv_rows rows, int64_t position)
{
    rows.at += (size_t)position * rows.stride;
    if (rows.next)
        rows.next += (size_t)position * rows.next_stride;
    return rows;
}

static struct kv_rows rows_alone(struct kv_rows rows)
{
    rows.next = NULL;
    return rows;
}

/* Fetches what comes after n of these positions. */
ALWAYS_INLINE void fetch_next(const struct kv_rows *rows, int n)
{
    for (size_t i = 0; rows->next && i < (size_t)n * rows->next_stride; i += 64)
        prefetch(rows->next + i);
}

/* A vector from element i of a position; of KV_F32 it may be a part. */
ALWAYS_INLINE vf row_load(enum kv_type type, const uint8_t *at, int64_t i, int64_t left)
{
    return type == KV_F16 ? v_load_f16(at + 2 * i)
                          : v_load_some((const float *)(const void *)at + i, left);
}

/* The bits of kv_load, several vectors at a time. */
static inline void load_f16_row(const uint8_t *in, int64_t d_head, float *out)
{
    int64_t i = 0;
    for (; i + 4 * VF <= d_head; i += 4 * VF) {
        TIMES(j, 4)
        {
            v_store(out + i + j * VF, v_load_f16(in + 2 * (i + j * VF)));
        }
    }
    convert_from_f16(in + 2 * i, d_head - i, out + i);
}

static inline void load_q8_row(const uint8_t *in, int64_t d_head, float *out)
{
    int64_t i = 0;
    for (; i + Q8_BLOCK <= d_head; i += Q8_BLOCK, in += KV_Q8_BYTES) {
        vf scale = v_set1(LOAD_F16(in));
        TIMES(j, Q8_BLOCK / VF)
        {
            v_store(out + i + j * VF, v_mul(scale, v_load_i8(in + 2 + j * VF)));
        }
    }
    if (i < d_head)
        convert_from_i8(in + 2, d_head - i, LOAD_F16(in), out + i);
}

/* Positions begin..end of a block in the tile, and zeros up to a multiple of SCORE_KEYS. */
static struct kv_rows rows_convert(const struct attention_state *s, enum kv_type type,
                                   const void *block, int begin, int end)
{
    size_t bytes = kv_head_bytes(type, s->a->d_head);
    const uint8_t *in = (const uint8_t *)block + (size_t)begin * bytes;
    float *out = s->tile, *last = out + blocks_of(end - begin, SCORE_KEYS) * SCORE_KEYS * s->pitch;
    for (int i = begin; i < end; i++, in += bytes, out += s->pitch) {
        if (type == KV_F32)
            memcpy(out, in, bytes);
        else if (type == KV_F16)
            load_f16_row(in, s->a->d_head, out);
        else
            load_q8_row(in, s->a->d_head, out);
    }
    for (; out < last; out += s->pitch)
        memset(out, 0, (size_t)s->pitch * sizeof *out);
    return (struct kv_rows){
        .type = KV_F32, .at = (const uint8_t *)s->tile, .stride = (size_t)s->pitch * sizeof(float)};
}

/* Positions begin..end of a block: as they are where `type` is read in place, else converted. */
static struct kv_rows rows_open(const struct attention_state *s, enum kv_type type,
                                const void *block, struct attention_span span, bool in_place)
{
    size_t bytes = kv_head_bytes(type, s->a->d_head);
    const uint8_t *at = (const uint8_t *)block + (size_t)span.begin * bytes;
    return in_place ? (struct kv_rows){.type = type, .at = at, .stride = bytes}
                    : rows_convert(s, type, block, span.begin, span.end);
}

/* Halves become floats on their way into a product, if they come in whole vectors: for few queries
 * that is faster than to write floats and to read them. Eight bits take too many steps for it. */
static bool reads_in_place(enum kv_type type, int d_head)
{
    return type == KV_F32 || (type == KV_F16 && d_head % VF == 0);
}

/* ---- values mixed into the output --------------------------------------------------------- */

/* Up to MIX_QUERIES queries, all of which see the n values. */
struct mix {
    struct kv_rows values;
    int n, d_head;
    const float *weights; /* of the first query for the first value */
    int64_t next;         /* floats from the weight of one value to that of the next */
    float *out[MIX_QUERIES];
};

/* out[i..] += Σ weight · value, in the order of positions, for some vectors; only a single one may be
 * a part. The weights of two queries are `step` apart. */
ALWAYS_INLINE void mix_step(enum kv_type type, const struct mix *x, int64_t i, int queries,
                            int vectors, int64_t step)
{
    struct kv_rows ahead = i == 0 ? x->values : rows_alone(x->values);
    vf sum[MIX_QUERIES][8];
    const uint8_t *value = x->values.at;
    const float *w = x->weights;
    int64_t left = vectors > 1 ? VF : x->d_head - i;
    TIMES(q, queries) TIMES(v, vectors)
    {
        sum[q][v] = v_load_some(x->out[q] + i + v * VF, left);
    }
    for (int p = 0; p < x->n; p++) {
        vf row[8];
        TIMES(v, vectors)
        {
            row[v] = row_load(type, value, i + v * VF, left);
        }
        TIMES(q, queries)
        {
            vf weight = v_set1(w[q * step]);
            TIMES(v, vectors)
            {
                sum[q][v] = v_fma(weight, row[v], sum[q][v]);
            }
        }
        value += x->values.stride;
        w += x->next;
        fetch_next(&ahead, 1);
        ahead = rows_from(ahead, 1);
    }
    TIMES(q, queries) TIMES(v, vectors)
    {
        v_store_some(x->out[q] + i + v * VF, sum[q][v], left);
    }
}

ALWAYS_INLINE void mix_queries(enum kv_type type, const struct mix *x, int queries, int vectors,
                               int64_t step)
{
    int64_t i = 0;
    for (; i + vectors * VF <= x->d_head; i += vectors * VF)
        mix_step(type, x, i, queries, vectors, step);
    if (vectors > 4 && i + 4 * VF <= x->d_head) {
        mix_step(type, x, i, queries, 4, step);
        i += 4 * VF;
    }
    if (vectors > 2 && i + 2 * VF <= x->d_head) {
        mix_step(type, x, i, queries, 2, step);
        i += 2 * VF;
    }
    for (; i < x->d_head; i += VF)
        mix_step(type, x, i, queries, 1, step);
}

/* Values mixed into all queries of rows row..last, all of which see them. x->weights: of the first of
 * the queries. */
ALWAYS_INLINE void mix_rows(enum kv_type type, const struct attention_args *a, struct mix *x,
                            int row, int last, int64_t step)
{
    int head = 0, left = (last - row) * a->n_group;
    while (left > 0) {
        int n = left == 8   ? 4
                : left >= 7 ? MIX_QUERIES
                : left >= 6 ? 6
                : left >= 4 ? 4
                : left >= 2 ? 2
                            : 1;
        for (int q = 0; q < n; q++) {
            x->out[q] = a->out + row * a->out_stride + (int64_t)head * a->d_head;
            head++;
            row += head == a->n_group;
            head = head == a->n_group ? 0 : head;
        }
        if (n == MIX_QUERIES)
            mix_queries(type, x, MIX_QUERIES, MIX_VECTORS, step);
        else if (n == 6)
            mix_queries(type, x, 6, MIX_VECTORS, step);
        else if (n == 4)
            mix_queries(type, x, 4, MIX_VECTORS, step);
        else if (n == 2)
            mix_queries(type, x, 2, 4, step);
        else
            mix_queries(type, x, 1, 8, step);
        x->values.next = NULL;
        x->weights += n * step;
        left -= n;
    }
}

/* The values of `span` mixed into what sees them. The weights of two queries are `step` apart, those of
 * two positions `next`. */
ALWAYS_INLINE void mix_block(enum kv_type type, const struct attention_state *s, int64_t block,
                             struct attention_span span, struct kv_rows values, int64_t step,
                             int64_t next)
{
    const struct attention_args *a = s->a;
    for (int row = 0, after; row < a->n_row; row = after) {
        struct attention_span own;
        after = same_until(a, block, row, &own);
        struct mix x = {
            .values = rows_from(values, own.begin - span.begin),
            .n = own.end - own.begin,
            .d_head = a->d_head,
            .weights = s->weights + (int64_t)row * a->n_group * step + own.begin * next,
            .next = next,
        };
        if (x.n > 0)
            mix_rows(type, a, &x, row, after, step);
    }
}

/* ---- decode: a score is one vector of partial sums ---------------------------------------- */

/* Elements i..i+left of the products of some queries of a row with some keys. */
ALWAYS_INLINE void score_step(enum kv_type type, const float *q, const struct kv_rows *keys,
                              int64_t d_head, int64_t i, int64_t left, int queries, int n_key,
                              vf sum[SCORES])
{
    TIMES(k, n_key)
    {
        vf key = row_load(type, keys->at + (size_t)k * keys->stride, i, left);
        TIMES(h, queries)
        {
            vf qi = v_load_some(q + h * d_head + i, left);
            sum[h * n_key + k] = v_fma(qi, key, sum[h * n_key + k]);
        }
    }
}

/* weights[query, key] = q · k for some queries of a row and n keys, a multiple of n_key. */
ALWAYS_INLINE void score_keys(enum kv_type type, const float *q, struct kv_rows keys, int n,
                              int64_t d_head, int queries, int n_key, float *weights)
{
    for (int j = 0; j < n; j += n_key, keys = rows_from(keys, n_key)) {
        float scores[SCORES];
        vf sum[SCORES];
        int64_t i = 0;
        TIMES(k, queries * n_key)
        {
            sum[k] = v_zero();
        }
        for (; i + VF <= d_head; i += VF)
            score_step(type, q, &keys, d_head, i, VF, queries, n_key, sum);
        if (i < d_head)
            score_step(type, q, &keys, d_head, i, d_head - i, queries, n_key, sum);
        fetch_next(&keys, n_key);
        TIMES(k, (queries * n_key + 7) / 8)
        {
            vf eight[8];
            TIMES(e, 8)
            {
                eight[e] = 8 * k + e < queries * n_key ? sum[8 * k + e] : v_zero();
            }
            v_sums(eight, scores + 8 * k);
        }
        TIMES(h, queries)
        {
            memcpy(weights + h * KV_BLOCK + j, scores + h * n_key, (size_t)n_key * sizeof *scores);
        }
    }
}

/* The same for all queries. */
ALWAYS_INLINE void score_queries(enum kv_type type, const struct attention_args *a,
                                 struct kv_rows keys, int n, float *weights)
{
    int64_t d = a->d_head;
    for (int r = 0; r < a->n_row; r++) {
        const float *q = a->q + r * a->q_stride;
        int left = a->n_group;
        while (left > 0) {
            int some = left == 8 && MANY_REGISTERS ? 4
                       : left >= SCORE_QUERIES     ? SCORE_QUERIES
                       : left >= 4                 ? 4
                       : left >= 2                 ? 2
                                                   : 1;
            if (some == SCORE_QUERIES)
                score_keys(type, q, keys, n, d, SCORE_QUERIES, 4, weights);
            else if (some == 4)
                score_keys(type, q, keys, n, d, 4, 4, weights);
            else if (some == 2)
                score_keys(type, q, keys, n, d, 2, 4, weights);
            else
                score_keys(type, q, keys, n, d, 1, SCORE_KEYS, weights);
            keys.next = NULL;
            q += some * d;
            weights += some * KV_BLOCK;
            left -= some;
        }
    }
}

#if ATTENTION_PAIRS
#include "kernels/attention_pairs_body.h"
#endif

/* Are the keys halves that are taken in pairs? */
static bool takes_pairs(const struct attention_args *a)
{
    return ATTENTION_PAIRS && a->k_type == KV_F16 && reads_in_place(KV_F16, a->d_head);
}

/* Scores, not yet scaled, of all queries with the positions of `span` and those around it that make
 * whole tiles. */
static void score_decode(const struct attention_state *s, int64_t block, struct attention_span span)
{
    const struct attention_args *a = s->a;
    const void *keys = a->k_blocks[block];
    span.begin = span.begin / SCORE_KEYS * SCORE_KEYS;
    int n = (int)blocks_of(span.end - span.begin, SCORE_KEYS) * SCORE_KEYS;
    float *weights = s->weights + span.begin;
    bool in_place =
        takes_pairs(a) || (reads_in_place(a->k_type, a->d_head) && n == span.end - span.begin);
    struct kv_rows rows = rows_open(s, a->k_type, keys, span, in_place);
    rows.next_stride = kv_head_bytes(a->v_type, a->d_head);
    rows.next = (const uint8_t *)a->v_blocks[block] + (size_t)span.begin * rows.next_stride;
#if ATTENTION_PAIRS
    if (takes_pairs(a)) {
        score_in_pairs(s, rows, span.end - span.begin, weights);
        return;
    }
#endif
    if (rows.type == KV_F16)
        score_queries(KV_F16, a, rows, n, weights);
    else
        score_queries(KV_F32, a, rows, n, weights);
}

/* The first half: m with the scores of a block that a query sees, l and out to match. −∞ for what it
 * does not see. */
static void weigh_most(const struct attention_args *a, struct attention_span span, float *w,
                       float *m, float *l, float *out)
{
    int from = span.begin / WEIGH_STEP * WEIGH_STEP;
    int to = (int)blocks_of(span.end, WEIGH_STEP) * WEIGH_STEP;
    vf top = v_set1(-INFINITY), scale = v_set1(a->scale);
    for (int j = from; j < span.begin; j++)
        w[j] = -INFINITY;
    for (int j = span.end; j < to; j++)
        w[j] = -INFINITY;
    for (int j = from; j < to; j += WEIGH_STEP) {
        TIMES(i, WEIGH_STEP / VF)
        {
            top = v_max(v_mul(v_load(w + j + i * VF), scale), top);
        }
    }
    float most = v_largest(top);
    if (most <= *m) /* as almost always after some blocks; a shrink of 1 would change nothing */
        return;
    float shrink = kernel_expf(*m - most); /* 0 at the first block */
    *m = most;
    *l *= shrink;
    scale_row(out, a->d_head, shrink);
}

/* The second: scores to exp(score − m), and l with them. */
static void weigh_scores(const struct attention_args *a, struct attention_span span, float *w,
                         float m, float *l)
{
    int from = span.begin / WEIGH_STEP * WEIGH_STEP;
    vf most = v_set1(m), scale = v_set1(a->scale), sum = v_zero();
    for (int j = from; j < span.end; j += WEIGH_STEP) {
        vf e[WEIGH_STEP / VF];
        TIMES(i, WEIGH_STEP / VF)
        {
            e[i] = v_exp_down(v_sub(v_mul(v_load(w + j + i * VF), scale), most));
        }
        TIMES(i, WEIGH_STEP / VF)
        {
            v_store(w + j + i * VF, e[i]);
            sum = v_add(sum, e[i]);
        }
    }
    *l += v_sum(sum);
}

/* Two passes over the heads, so that what is long in one head does not wait for another. */
static void weigh_decode(const struct attention_state *s, int64_t block)
{
    const struct attention_args *a = s->a;
    for (int r = 0; r < a->n_row; r++) {
        struct attention_span span = attention_visible(a, block, r);
        int64_t query = (int64_t)r * a->n_group;
        float *w = s->weights + query * KV_BLOCK;
        for (int h = 0; span.begin < span.end && h < a->n_group; h++)
            weigh_most(a, span, w + h * KV_BLOCK, a->m + query + h, a->l + query + h,
                       a->out + r * a->out_stride + (int64_t)h * a->d_head);
        for (int h = 0; span.begin < span.end && h < a->n_group; h++)
            weigh_scores(a, span, w + h * KV_BLOCK, a->m[query + h], a->l + query + h);
    }
}

static void mix_decode(const struct attention_state *s, int64_t block, struct attention_span span)
{
    const struct attention_args *a = s->a;
    bool in_place = reads_in_place(a->v_type, a->d_head);
    struct kv_rows values = rows_open(s, a->v_type, a->v_blocks[block], span, in_place);
    if ((block + 1) * KV_BLOCK < a->pos + a->n_row) { /* of this part or of the next one */
        values.next_stride = kv_head_bytes(a->k_type, a->d_head);
        values.next = a->k_blocks[block + 1];
    }
    if (values.type == KV_F16)
        mix_block(KV_F16, s, block, span, values, KV_BLOCK, 1);
    else
        mix_block(KV_F32, s, block, span, values, KV_BLOCK, 1);
}

void BODY(_attention_decode)(const struct attention_args *a)
{
    struct attention_state s = attention_open(a);
    int64_t block, last;
#if ATTENTION_PAIRS
    if (takes_pairs(a))
        pair_queries(&s);
#endif
    attention_blocks(a, &block, &last);
    for (; block < last; block++) {
        struct attention_span span = attention_union(a, block);
        score_decode(&s, block, span);
        weigh_decode(&s, block);
        mix_decode(&s, block, span);
    }
}

/* ---- prefill: a query in every lane ------------------------------------------------------- */

/* The queries, turned; lanes past the last are 0. */
static void turn_queries(const struct attention_state *s)
{
    const struct attention_args *a = s->a;
    int64_t query = 0;
    memset(s->turned, 0, (size_t)s->lanes * (size_t)a->d_head * sizeof *s->turned);
    for (int r = 0; r < a->n_row; r++)
        for (int h = 0; h < a->n_group; h++, query++) {
            const float *q = a->q + r * a->q_stride + (int64_t)h * a->d_head;
            float *to = s->turned + query / PANEL * PANEL * a->d_head + query % PANEL;
            for (int64_t i = 0; i < a->d_head; i++)
                to[i * PANEL] = q[i];
        }
}

/* What the queries of n lanes see together of a block. */
static struct attention_span lanes_span(const struct attention_args *a, int64_t block, int64_t lane,
                                        int n)
{
    int64_t first = lane / a->n_group, last = (lane + n - 1) / a->n_group, most = a->n_row - 1;
    first = first < most ? first : most;
    last = last < most ? last : most;
    return (struct attention_span){attention_visible(a, block, (int)first).begin,
                                   attention_visible(a, block, (int)last).end};
}

/* Scores of a panel of queries with n of `keys` keys; the last key stands in for those past it. */
ALWAYS_INLINE void score_panel(const struct attention_state *s, const float *panel,
                               struct kv_rows rows, int n, int keys, float *weights)
{
    vf sum[TURNED_KEYS][TURNED_VECTORS], scale = v_set1(s->a->scale);
    const float *key[TURNED_KEYS];
    TIMES(k, keys)
    {
        key[k] = (const float *)(const void *)rows_from(rows, k < n ? k : n - 1).at;
        TIMES(v, TURNED_VECTORS)
        {
            sum[k][v] = v_zero();
        }
    }
    for (int64_t i = 0; i < s->a->d_head; i++, panel += PANEL) {
        vf q[TURNED_VECTORS];
        TIMES(v, TURNED_VECTORS)
        {
            q[v] = v_load(panel + v * VF);
        }
        TIMES(k, keys)
        {
            vf ki = v_set1(key[k][i]);
            TIMES(v, TURNED_VECTORS)
            {
                sum[k][v] = v_fma(ki, q[v], sum[k][v]);
            }
        }
    }
    TIMES(k, keys)
    {
        TIMES(v, TURNED_VECTORS)
        {
            if (k < n)
                v_store(weights + k * s->lanes + v * VF, v_mul(sum[k][v], scale));
        }
    }
}

/* Scores of all queries with what they see, and what others of their panel see, of `span`. */
static void score_prefill(const struct attention_state *s, int64_t block,
                          struct attention_span span, struct kv_rows keys)
{
    const struct attention_args *a = s->a;
    for (int64_t lane = 0; lane < s->lanes; lane += PANEL) {
        struct attention_span own = lanes_span(a, block, lane, PANEL);
        const float *panel = s->turned + lane * a->d_head;
        for (int j = own.begin; j < own.end; j += TURNED_KEYS) {
            struct kv_rows rows = rows_from(keys, j - span.begin);
            float *weights = s->weights + j * s->lanes + lane;
            int n = own.end - j;
            if (n >= TURNED_KEYS)
                score_panel(s, panel, rows, TURNED_KEYS, TURNED_KEYS, weights);
            else if (n > 4)
                score_panel(s, panel, rows, n, TURNED_KEYS, weights);
            else
                score_panel(s, panel, rows, n, 4, weights);
        }
    }
}

/* −∞ for what the query in each of VF lanes does not see of `span`. */
static void mask_lanes(const struct attention_state *s, int64_t block, int64_t lane,
                       struct attention_span span)
{
    for (int64_t q = lane; q < lane + VF && q < s->n_query; q++) {
        struct attention_span own = attention_visible(s->a, block, (int)(q / s->a->n_group));
        for (int j = span.begin; j < span.end; j++)
            if (j < own.begin || j >= own.end)
                s->weights[j * s->lanes + q] = -INFINITY;
    }
}

/* Scores of VF queries with `span` into weights; their m, l and out to match. A query that sees nothing
 * of it keeps all three. */
static void weigh_lanes(const struct attention_state *s, int64_t lane, struct attention_span span)
{
    const struct attention_args *a = s->a;
    int64_t left = s->n_query - lane;
    float shrinks[VF], *w = s->weights + lane;
    vf old = v_load_some(a->m + lane, left), most = old, sum = v_zero();
    for (int j = span.begin; j < span.end; j++)
        most = v_max(v_load(w + j * s->lanes), most);
    for (int j = span.begin; j < span.end; j++) {
        vf e = v_exp_down(v_sub(v_load(w + j * s->lanes), most));
        v_store(w + j * s->lanes, e);
        sum = v_add(sum, e);
    }
    vf shrink = v_exp_down(v_sub(old, most));
    v_store_some(a->m + lane, most, left);
    v_store_some(a->l + lane, v_fma(v_load_some(a->l + lane, left), shrink, sum), left);
    v_store(shrinks, shrink);
    for (int64_t q = lane; q < lane + VF && q < s->n_query; q++)
        if (shrinks[q - lane] != 1.0f)
            scale_row(a->out + q / a->n_group * a->out_stride + q % a->n_group * a->d_head,
                      a->d_head, shrinks[q - lane]);
}

static void weigh_prefill(const struct attention_state *s, int64_t block)
{
    for (int64_t lane = 0; lane < s->n_query; lane += VF) {
        struct attention_span span = lanes_span(s->a, block, lane, VF);
        struct attention_span first = lanes_span(s->a, block, lane, 1);
        struct attention_span last = lanes_span(s->a, block, lane + VF - 1, 1);
        if (first.begin != last.begin || first.end != last.end)
            mask_lanes(s, block, lane, span);
        if (span.begin < span.end)
            weigh_lanes(s, lane, span);
    }
}

void BODY(_attention_prefill)(const struct attention_args *a)
{
    struct attention_state s = attention_open(a);
    int64_t block, last;
    turn_queries(&s);
    attention_blocks(a, &block, &last);
    for (; block < last; block++) {
        struct attention_span span = attention_union(a, block);
        struct kv_rows keys =
            rows_open(&s, a->k_type, a->k_blocks[block], span, a->k_type == KV_F32);
        score_prefill(&s, block, span, keys);
        weigh_prefill(&s, block);
        struct kv_rows values =
            rows_open(&s, a->v_type, a->v_blocks[block], span, a->v_type == KV_F32);
        mix_block(KV_F32, &s, block, span, values, 1, s.lanes);
    }
}

/* ---- parts -------------------------------------------------------------------------------- */

/* out = out · keep + more · take, and m and l likewise. */
static void join_query(int64_t d_head, float *out, float *m, float *l, const float *more, float n,
                       float k)
{
    if (*l == 0) { /* nothing so far: a copy, in bits */
        memcpy(out, more, (size_t)d_head * sizeof *out);
        *m = n;
        *l = k;
        return;
    }
    float most = n > *m ? n : *m, keep = kernel_expf(*m - most), take = kernel_expf(n - most);
    for (int64_t i = 0; i < d_head; i += VF) {
        vf kept = v_mul(v_load_some(out + i, d_head - i), v_set1(keep));
        vf sum = v_fma(v_load_some(more + i, d_head - i), v_set1(take), kept);
        v_store_some(out + i, sum, d_head - i);
    }
    *m = most;
    *l = *l * keep + k * take;
}

void BODY(_attention_join)(const struct attention_args *total, const struct attention_args *part)
{
    int64_t d = total->d_head, query = 0;
    for (int r = 0; r < total->n_row; r++)
        for (int h = 0; h < total->n_group; h++, query++)
            if (part->l[query] != 0)
                join_query(d, total->out + r * total->out_stride + h * d, total->m + query,
                           total->l + query, part->out + r * part->out_stride + h * d,
                           part->m[query], part->l[query]);
}

void BODY(_attention_finish)(const struct attention_args *a)
{
    int64_t d = a->d_head, query = 0;
    for (int r = 0; r < a->n_row; r++)
        for (int h = 0; h < a->n_group; h++, query++)
            if (a->l[query] != 0)
                scale_row(a->out + r * a->out_stride + h * d, d, 1 / a->l[query]);
}
