/* attention_body.h: attention of a vector tier, in the words of its ..._vec.h. Included once per
 * tier, after TIER is defined. The method is that of scalar_attention.c.
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
static void load_tile(const struct kernels *k, const struct attention_state *s, enum kv_type type,
                      const uint8_t *block, int n, const float *rows[ATTENTION_TILE])
{
    size_t bytes = kv_head_bytes(type, s->a->d_head);
    for (int i = 0; i < ATTENTION_TILE; i++) {
        int at = i < n ? i : n - 1;
        if (type == KV_F32) {
            rows[i] = (const float *)(const void *)(block + (size_t)at * bytes);
            continue;
        }
        rows[i] = s->tile + at * s->pitch;
        if (i < n)
            k->kv_load[type](block + (size_t)i * bytes, s->a->d_head, s->tile + i * s->pitch);
    }
}

/* scores[i] = q · rows[i] · scale */
static void score_tile(const float *q, const float *const rows[ATTENTION_TILE], int64_t d_head,
                       float scale, float *scores)
{
    vf sum[ATTENTION_TILE];
    int64_t i = 0;
    UNROLL for (int r = 0; r < ATTENTION_TILE; r++) sum[r] = v_zero();
    for (; i + VF <= d_head; i += VF) {
        vf qi = v_load(q + i);
        UNROLL for (int r = 0; r < ATTENTION_TILE; r++) sum[r] =
            v_fma(qi, v_load(rows[r] + i), sum[r]);
    }
    if (i < d_head) {
        vf qi = v_load_n(q + i, d_head - i);
        UNROLL for (int r = 0; r < ATTENTION_TILE; r++) sum[r] =
            v_fma(qi, v_load_n(rows[r] + i, d_head - i), sum[r]);
    }
    v_sums(sum, scores);
    for (int r = 0; r < ATTENTION_TILE; r++)
        scores[r] *= scale;
}

/* out += Σ_i weights[i] · rows[i], in the order of i */
static void mix_tile(const float *weights, const float *const rows[ATTENTION_TILE], int64_t d_head,
                     int n, float *out)
{
    int64_t i = 0;
    if (n == ATTENTION_TILE)
        for (; i + VF <= d_head; i += VF) {
            vf sum = v_load(out + i);
            UNROLL for (int r = 0; r < ATTENTION_TILE; r++) sum =
                v_fma(v_set1(weights[r]), v_load(rows[r] + i), sum);
            v_store(out + i, sum);
        }
    for (; i < d_head; i += VF) {
        int64_t left = d_head - i < VF ? d_head - i : VF;
        vf sum = v_load_n(out + i, left);
        for (int r = 0; r < n; r++)
            sum = v_fma(v_set1(weights[r]), v_load_n(rows[r] + i, left), sum);
        v_store_n(out + i, sum, left);
    }
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
static void attend_block(const struct kernels *k, const struct attention_state *s, int64_t begin,
                         int64_t end)
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
        load_tile(k, s, a->k_type, keys + (size_t)j * k_bytes, n, rows);
        for (int h = 0; h < a->n_group; h++) {
            float scores[ATTENTION_TILE];
            score_tile(a->q + h * a->d_head, rows, a->d_head, a->scale, scores);
            memcpy(s->weights + h * KV_BLOCK + j, scores, (size_t)n * sizeof *scores);
        }
    }
    for (int h = 0; h < a->n_group; h++)
        weigh_block(s, h);
    for (int j = first; j < last; j += ATTENTION_TILE) {
        int n = last - j < ATTENTION_TILE ? last - j : ATTENTION_TILE;
        load_tile(k, s, a->v_type, values + (size_t)j * v_bytes, n, rows);
        for (int h = 0; h < a->n_group; h++)
            mix_tile(s->weights + h * KV_BLOCK + j, rows, a->d_head, n, a->out + h * a->d_head);
    }
}

void BODY(_attention)(const struct kernels *k, const struct attention_args *a)
{
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
        attend_block(k, &s, begin, end);
        begin = end;
    }
    for (int h = 0; h < a->n_group; h++)
        for (int i = 0; a->first <= a->last && i < a->d_head; i++)
            a->out[h * a->d_head + i] /= s.l[h];
}
