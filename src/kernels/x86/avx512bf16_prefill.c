/* avx512bf16_prefill.c: the products through panels by vdpbf16ps, which adds the products of two pairs of
 * bf16 to a float in each lane. The loops around it are those of prefill_bf16_body.h.
 */
#include "avx512bf16.h"

#include "avx512_vec.h"
#include "kernels/panels.h"

#define TIER avx512bf16

/* 12 · 2 sums, 2 vectors of pairs of weights and one of x: 27 of 32 registers. */
enum { TILE_TOKENS = 12 };

enum { BF16_CHUNK = BF16_WIDTH, BF16_PARTS = 2, X_PITCH = BF16_CHUNK + BF16_GAP };

ALWAYS_INLINE __m512bh pair_of(const uint16_t *p)
{
    return (__m512bh)_mm512_set1_epi32((int)load_u32(p));
}

/* y = keep ⊙ y + gain ⊙ sum for one vector of outputs. */
ALWAYS_INLINE void add_scaled(const struct bf16_tile *p, float *y, int v, int tokens,
                              vf sum[TILE_TOKENS][2])
{
    const int64_t left = p->n_row - v * VF;
    const vf keep = p->keep ? v_load_some(p->keep + v * VF, left) : v_set1(1);
    const vf gain = p->gain ? v_load_some(p->gain + v * VF, left) : v_set1(1);
    TIMES(t, tokens)
    {
        float *to = y + t * p->y_stride + v * VF;
        v_store_some(to, v_fma(gain, sum[t][v], v_mul(keep, v_load_some(to, left))), left);
    }
}

ALWAYS_INLINE void multiply_tile(const struct bf16_tile *p, int64_t token, int tokens, int vectors)
{
    vf sum[TILE_TOKENS][2];
    float *y = p->y + token * p->y_stride;
    TIMES(t, tokens) TIMES(v, vectors)
    {
        int64_t left = p->n_row - v * VF;
        sum[t][v] = v_zero();
        if (!p->fresh && left > 0)
            sum[t][v] = v_load_some(y + t * p->y_stride + v * VF, left);
    }
    if (tokens == TILE_TOKENS) /* the sums of the next tile, on their way meanwhile */
        TIMES(t, tokens) TIMES(v, vectors)
        {
            const float *next = y + (TILE_TOKENS + t) * p->y_stride + v * VF;
            _mm_prefetch((const char *)next, _MM_HINT_T0);
        }
    for (int term = 0; term < p->n_terms; term++) {
        const uint16_t *x = p->x[term] + token * X_PITCH;
        for (int64_t j = 0; j < p->n; j += 2) {
            __m512bh w[2];
            TIMES(v, vectors)
            {
                w[v] = (__m512bh)_mm512_loadu_si512(p->panel[term] + j * BF16_OUTPUTS + 2 * v * VF);
            }
            TIMES(t, tokens)
            {
                __m512bh xj = pair_of(x + t * X_PITCH + j);
                TIMES(v, vectors) sum[t][v] = _mm512_dpbf16_ps(sum[t][v], w[v], xj);
            }
        }
    }
    if (p->scaled) {
        TIMES(v, vectors) if (p->n_row > v * VF) add_scaled(p, y, v, tokens, sum);
        return;
    }
    TIMES(t, tokens) TIMES(v, vectors)
    {
        int64_t left = p->n_row - v * VF;
        if (left > 0)
            v_store_some(y + t * p->y_stride + v * VF, sum[t][v], left);
    }
}

ALWAYS_INLINE void multiply_tokens(const struct bf16_tile *p, int vectors)
{
    int t = 0;
    for (; t + TILE_TOKENS <= p->n_tok; t += TILE_TOKENS)
        multiply_tile(p, t, TILE_TOKENS, vectors);
    for (; t + 4 <= p->n_tok; t += 4)
        multiply_tile(p, t, 4, vectors);
    for (; t < p->n_tok; t++)
        multiply_tile(p, t, 1, vectors);
}

static void bf16_multiply(const struct bf16_tile *p)
{
    if (p->n_row > VF)
        multiply_tokens(p, 2);
    else
        multiply_tokens(p, 1);
}

#define bf16_row avx512bf16_row
#define bf16_round avx512bf16_round
#define bf16_split avx512bf16_split
#define bf16_turn avx512bf16_turn
#define bf16_pairs avx512bf16_pairs
#define bf16_columns avx512bf16_columns
#define bf16_round_pairs avx512bf16_round_pairs
#define bf16_begin() ((void)0)
#define bf16_end() ((void)0)
#define BF16_ROWS 1
#define BF16_FLOATS(name) KERNEL_CAT(avx512, name)
#include "kernels/prefill_bf16_body.h"

#define BF16_K 2 /* vdpbf16ps takes a pair. */
#include "kernels/lowrank_bf16_body.h"

/* ---- outer products of few ranks ---------------------------------------------------------- */

/* 16 sums, one vector of pairs of x, and pairs of u from memory. */
enum { FEW_TILE = 16, FEW_RANKS = 64 };

/* u as pairs of tokens, and what it is multiplied with. */
struct few {
    const struct outer_args *a;
    const uint16_t *u; /* [n_tok / 2, width, 2] */
    int64_t width;
    int64_t t, n_tok; /* tokens t..t + n_tok of all */
};

/* `ranks` ranks from r on, up to VF columns from i on. */
ALWAYS_INLINE void few_tile(const struct few *f, int64_t r, int64_t i, int64_t left, int ranks)
{
    const struct outer_args *a = f->a;
    const float *x = a->x + f->t * a->x_stride + i;
    float *g = a->g + r * a->g_stride + i;
    const uint16_t *u = f->u + 2 * r;
    vf sum[FEW_TILE];
    TIMES(k, ranks)
    {
        sum[k] = v_load_some(g + k * a->g_stride, left);
    }
    for (int64_t t = 0; t < f->n_tok; t += 2, x += 2 * a->x_stride, u += 2 * f->width) {
        vf even = v_load_some(x, left), odd = v_zero();
        if (t + 1 < f->n_tok)
            odd = v_load_some(x + a->x_stride, left);
        if (r == 0) {
            prefetch(x + VF);
            prefetch(x + a->x_stride + VF);
        }
        __m512bh w = (__m512bh)avx512bf16_turn_pair(even, odd);
        TIMES(k, ranks) sum[k] = _mm512_dpbf16_ps(sum[k], w, pair_of(u + 2 * k));
    }
    TIMES(k, ranks)
    {
        v_store_some(g + k * a->g_stride, sum[k], left);
    }
}

/* Straight from x, which a panel of so few ranks would copy for too little. */
static void few_tokens(const struct few *f)
{
    const struct outer_args *a = f->a;
    for (int64_t i = a->i_begin; i < a->i_end; i += VF) {
        int64_t r = 0, left = a->i_end - i < VF ? a->i_end - i : VF;
        for (; r + FEW_TILE <= a->rank; r += FEW_TILE)
            few_tile(f, r, i, left, FEW_TILE);
        for (; r + 4 <= a->rank; r += 4)
            few_tile(f, r, i, left, 4);
        for (; r < a->rank; r++)
            few_tile(f, r, i, left, 1);
    }
}

/* False where panels are better. */
static bool bf16_few(const struct outer_args *a)
{
    if (a->rank > FEW_RANKS || a->format != PANEL_BF16)
        return false;
    uint16_t *pairs = align_scratch(a->scratch);
    struct few f = {.a = a, .u = pairs, .width = blocks_of(a->rank, BF16_OUTPUTS) * BF16_OUTPUTS};
    for (; f.t < a->n_tok; f.t += BF16_CHUNK) {
        const float *u = a->u + f.t * a->u_stride;
        f.n_tok = a->n_tok - f.t < BF16_CHUNK ? a->n_tok - f.t : BF16_CHUNK;
        for (int64_t t = 0; t < f.n_tok; t += 2, u += 2 * a->u_stride)
            for (int64_t r = 0; r < a->rank; r += BF16_OUTPUTS)
                bf16_round_pairs(u + r, t + 1 < f.n_tok ? u + a->u_stride + r : NULL,
                                 a->rank - r < BF16_OUTPUTS ? a->rank - r : BF16_OUTPUTS,
                                 pairs + t * f.width + 2 * r);
        few_tokens(&f);
    }
    return true;
}

/* Three products of pairs take longer than one of floats. */
#define OUTER_FORMAT PANEL_BF16
#include "kernels/outer_bf16_body.h"
