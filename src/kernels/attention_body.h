/* attention_body.h: attention of a vector tier, in the words of its ..._vec.h. Included once per
 * tier, after kv_body.h. The method is that of scalar_attention.c.
 *
 * Keys (and then values) are taken ATTENTION_TILE positions at a time and converted to floats once
 * for all query heads of the group. Scores of a block stand at their place in the block, −inf where
 * a position is not visible, so every sum has one order, given by absolute position alone.
 */
#include <math.h>

#define BODY(name) KERNEL_CAT(TIER, name)

struct attention_state {
    const struct attention_args *a;
    float *m, *l;   /* [n_group] */
    float *weights; /* [n_group, KV_BLOCK] */
    float *tile;    /* [ATTENTION_TILE, pitch] */
    int64_t pitch;  /* d_head in whole blocks of 32 */
};

/* Makes rows[i] point to position begin + i of the block as floats; past the last visible one they
 * repeat it, and what is computed of those is not used. */
static void load_tile(const struct attention_state *s, enum kv_type type, const uint8_t *block,
                      int n, const float *rows[ATTENTION_TILE])
{
    size_t bytes = kv_head_bytes(type, s->a->d_head);
    for (int i = 0; i < ATTENTION_TILE; i++) {
        const uint8_t *at = block + (size_t)(i < n ? i : n - 1) * bytes;
        float *row = s->tile + (i < n ? i : n - 1) * s->pitch;
        rows[i] = type == KV_F32 ? (const float *)(const void *)at : row;
        if (i < n && type == KV_F16)
            convert_from_f16(at, s->a->d_head, row);
        else if (i < n && type == KV_Q8)
            BODY(_kv_load_q8)(at, s->a->d_head, row);
    }
}

/* Heads and positions that are computed together: their products share loads. */
enum { PAIR = 2, QUARTET = 4 };

/* Elements i..i+left of the products of a quartet of rows with `heads` queries. */
ALWAYS_INLINE void score_step(const float *q, const float *const rows[QUARTET], int64_t d_head,
                              int64_t i, int64_t left, int heads, vf sum[PAIR * QUARTET])
{
    vf qi[PAIR];
    TIMES(h, heads)
    {
        qi[h] = v_load_some(q + h * d_head + i, left);
    }
    TIMES(r, QUARTET)
    {
        vf row = v_load_some(rows[r] + i, left);
        TIMES(h, heads)
        {
            sum[h * QUARTET + r] = v_fma(qi[h], row, sum[h * QUARTET + r]);
        }
    }
}

/* scores[h, i] = q[h] · rows[i] · scale for `heads` heads; a score is one vector of partial sums over
 * d_head, whatever it is computed with. */
ALWAYS_INLINE void score_quartet(const float *q, const float *const rows[QUARTET], int64_t d_head,
                                 float scale, int heads, float scores[PAIR * QUARTET])
{
    vf sum[PAIR * QUARTET];
    int64_t i = 0;
    TIMES(j, PAIR * QUARTET)
    {
        sum[j] = v_zero();
    }
    for (; i + VF <= d_head; i += VF)
        score_step(q, rows, d_head, i, VF, heads, sum);
    if (i < d_head)
        score_step(q, rows, d_head, i, d_head - i, heads, sum);
    v_sums(sum, scores);
    for (int j = 0; j < heads * QUARTET; j++)
        scores[j] *= scale;
}

/* Elements i..i+left of out[h] += Σ_r w[h, r] · rows[r]. */
ALWAYS_INLINE void mix_step(const vf w[PAIR * QUARTET], const float *const rows[QUARTET],
                            int64_t d_head, int64_t i, int64_t left, int heads, int n, float *out)
{
    vf sum[PAIR];
    TIMES(h, heads)
    {
        sum[h] = v_load_some(out + h * d_head + i, left);
    }
    TIMES(r, n)
    {
        vf row = v_load_some(rows[r] + i, left);
        TIMES(h, heads)
        {
            sum[h] = v_fma(w[h * QUARTET + r], row, sum[h]);
        }
    }
    TIMES(h, heads)
    {
        v_store_some(out + h * d_head + i, sum[h], left);
    }
}

/* out[h] += Σ_i weights[h, i] · rows[i] for `heads` heads and i < n, in the order of i. */
ALWAYS_INLINE void mix_quartet(const float *weights, const float *const rows[QUARTET],
                               int64_t d_head, int heads, int n, float *out)
{
    vf w[PAIR * QUARTET];
    int64_t i = 0;
    TIMES(h, heads)
    {
        TIMES(r, n)
        {
            w[h * QUARTET + r] = v_set1(weights[h * KV_BLOCK + r]);
        }
    }
    for (; i + VF <= d_head; i += VF)
        mix_step(w, rows, d_head, i, VF, heads, n, out);
    if (i < d_head)
        mix_step(w, rows, d_head, i, d_head - i, heads, n, out);
}

/* Scores of a tile of n positions, for all heads, into weights (at the tile's place in the block). */
static void score_tile(const struct attention_state *s, const float *const rows[ATTENTION_TILE],
                       int n, float *weights)
{
    const struct attention_args *a = s->a;
    for (int i = 0; i < n; i += QUARTET) {
        size_t bytes = (size_t)(n - i < QUARTET ? n - i : QUARTET) * sizeof(float);
        float scores[PAIR * QUARTET];
        int h = 0;
        for (; h + PAIR <= a->n_group; h += PAIR) {
            score_quartet(a->q + h * a->d_head, rows + i, a->d_head, a->scale, PAIR, scores);
            memcpy(weights + h * KV_BLOCK + i, scores, bytes);
            memcpy(weights + (h + 1) * KV_BLOCK + i, scores + QUARTET, bytes);
        }
        if (h < a->n_group) {
            score_quartet(a->q + h * a->d_head, rows + i, a->d_head, a->scale, 1, scores);
            memcpy(weights + h * KV_BLOCK + i, scores, bytes);
        }
    }
}

static void mix_tile(const struct attention_state *s, const float *const rows[ATTENTION_TILE],
                     int n, const float *weights)
{
    const struct attention_args *a = s->a;
    int i = 0;
    for (; i + QUARTET <= n; i += QUARTET) {
        int h = 0;
        for (; h + PAIR <= a->n_group; h += PAIR)
            mix_quartet(weights + h * KV_BLOCK + i, rows + i, a->d_head, PAIR, QUARTET,
                        a->out + h * a->d_head);
        if (h < a->n_group)
            mix_quartet(weights + h * KV_BLOCK + i, rows + i, a->d_head, 1, QUARTET,
                        a->out + h * a->d_head);
    }
    for (; i < n; i++)
        for (int h = 0; h < a->n_group; h++)
            mix_quartet(weights + h * KV_BLOCK + i, rows + i, a->d_head, 1, 1,
                        a->out + h * a->d_head);
}

/* Scores of one head for a block into weights, with its m, l and out brought up to date. */
static void weigh_block(const struct attention_state *s, int h)
{
    float *w = s->weights + h * KV_BLOCK, *out = s->a->out + h * s->a->d_head;
    vf top = v_set1(s->m[h]), sum = v_zero();
    for (int j = 0; j < KV_BLOCK; j += VF)
        top = v_max(v_load(w + j), top);
    float m = v_largest(top);
    vf shift = v_set1(m);
    for (int j = 0; j < KV_BLOCK; j += VF) {
        vf e = v_exp(v_sub(v_load(w + j), shift));
        v_store(w + j, e);
        sum = v_add(sum, e);
    }
    float shrink = kernel_expf(s->m[h] - m); /* 0 at the first block: its m was −inf */
    s->m[h] = m;
    s->l[h] = s->l[h] * shrink + v_sum(sum);
    if (shrink != 1.0f)
        for (int i = 0; i < s->a->d_head; i++)
            out[i] *= shrink;
}

/* Positions begin..end, all in one block. */
static void attend_block(const struct attention_state *s, int64_t begin, int64_t end)
{
    const struct attention_args *a = s->a;
    const float *rows[ATTENTION_TILE];
    const uint8_t *keys = a->k_blocks[begin / KV_BLOCK], *values = a->v_blocks[begin / KV_BLOCK];
    int first = (int)(begin % KV_BLOCK), last = first + (int)(end - begin);
    size_t k_bytes = kv_head_bytes(a->k_type, a->d_head);
    size_t v_bytes = kv_head_bytes(a->v_type, a->d_head);
    for (int64_t j = 0; j < (int64_t)a->n_group * KV_BLOCK; j++)
        s->weights[j] = -INFINITY;
    for (int j = first; j < last; j += ATTENTION_TILE) {
        int n = last - j < ATTENTION_TILE ? last - j : ATTENTION_TILE;
        load_tile(s, a->k_type, keys + (size_t)j * k_bytes, n, rows);
        score_tile(s, rows, n, s->weights + j);
    }
    for (int h = 0; h < a->n_group; h++)
        weigh_block(s, h);
    for (int j = first; j < last; j += ATTENTION_TILE) {
        int n = last - j < ATTENTION_TILE ? last - j : ATTENTION_TILE;
        load_tile(s, a->v_type, values + (size_t)j * v_bytes, n, rows);
        mix_tile(s, rows, n, s->weights + j);
    }
}

void BODY(_attention)(const struct kernels *k, const struct attention_args *a)
{
    (void)k; /* this tier's cache formats are called directly */
    struct attention_state s = {.a = a,
                                .m = a->scratch,
                                .l = a->scratch + a->n_group,
                                .weights = a->scratch + 2 * a->n_group,
                                .pitch = blocks_of(a->d_head, Q8_BLOCK) * Q8_BLOCK};
    s.tile = s.weights + (int64_t)a->n_group * KV_BLOCK;
    for (int h = 0; h < a->n_group; h++) {
        s.m[h] = -INFINITY;
        s.l[h] = 0;
    }
    memset(a->out, 0, (size_t)a->n_group * (size_t)a->d_head * sizeof *a->out);
    for (int64_t begin = a->first; begin <= a->last;) {
        int64_t end = (begin / KV_BLOCK + 1) * KV_BLOCK;
        end = end < a->last + 1 ? end : a->last + 1;
        attend_block(&s, begin, end);
        begin = end;
    }
    for (int h = 0; h < a->n_group; h++)
        for (int i = 0; a->first <= a->last && i < a->d_head; i++)
            a->out[h * a->d_head + i] /= s.l[h];
}
