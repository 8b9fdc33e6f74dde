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
            _mm_prefetch((const char *)next, _MM_HINT_T1);
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

/* Three products of pairs take longer than one of floats. */
#define OUTER_FORMAT PANEL_BF16
#include "kernels/outer_bf16_body.h"
