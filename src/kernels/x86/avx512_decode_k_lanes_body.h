/* avx512_decode_k_lanes_body.h: the product of some opened rows of a K type with LANES rows of
 * activations. Included by avx512_decode_k_lanes.c for 16 and for 8 lanes.
 */
#include "avx512_lanes_words.h"

/* One block of LANES rows. */
struct L(lanes) {
    int8_t q[64][LANES][4];
    int16_t sums[8][LANES][2]; /* sums_for, in pairs */
    float scale[LANES];
};

/* Eight words of 32 bits of 8 rows, turned, into lanes t..t + 8 of out[0..n). */
ALWAYS_INLINE void L(turn)(__m256i r[8], int n, int8_t (*out)[LANES][4], int t)
{
    transpose_8x8(r);
    TIMES(i, n) _mm256_storeu_si256((__m256i *)(void *)out[i][t], r[i]);
}

/* Rows of n_block blocks; lanes without a row repeat the last. */
static void L(lay_out)(graft_type type, const struct act_q8k *x, int n_tok, int64_t n_block,
                       ROWS *out)
{
    const struct act_q8k *row[LANES];
    for (int t = 0; t < LANES; t++)
        row[t] = x + (t < n_tok ? t : n_tok - 1) * n_block;
    for (int64_t b = 0; b < n_block; b++, out++)
        for (int t = 0; t < LANES; t += 8) {
            __m256i r[8];
            for (int j = 0; j < 8; j++) {
                TIMES(i, 8) r[i] = _mm256_loadu_si256((const __m256i *)row[t + i][b].q + j);
                L(turn)(r, 8, out->q + 8 * j, t);
            }
            TIMES(i, 8)
            {
                r[i] = sums_for(type, row[t + i] + b);
                out->scale[t + i] = row[t + i][b].scale;
            }
            L(turn)(r, 8, (int8_t(*)[LANES][4])out->sums, t);
        }
}

/* dot[r] += four codes of row r, at q + r · row, times x */
ALWAYS_INLINE void L(add_four)(const uint8_t *q, size_t row, LI x, LI dot[LANE_OUTPUTS])
{
    TIMES(r, LANE_OUTPUTS)
    {
        LI four = LV(set1_epi32)((int)load_u32(q + (size_t)r * row));
        dot[r] = LV(dpbusd_epi32)(dot[r], four, x);
    }
}

/* dot[r] = Σ scale · code · q of a block, for codes that are not multiplied by their scales yet, of
 * which there is one for so many values. */
ALWAYS_INLINE void L(dots_scaled)(const struct opened_block *w, const ROWS *x, int values,
                                  struct wanted *next, struct wanted *more, LI dot[LANE_OUTPUTS])
{
    TIMES(r, LANE_OUTPUTS) dot[r] = LV_ZERO();
    for (int s = 0; s < 256 / values; s++) {
        want_more(next, (size_t)(256 / values));
        want_evenly(more, AHEAD_PLACES);
        const uint8_t *q = one_pointer(w->q[0] + s * values);
        const int32_t *scale = one_pointer(&w->scales[0][s]);
        LI part[LANE_OUTPUTS];
        TIMES(r, LANE_OUTPUTS) part[r] = LV_ZERO();
        TIMES(i, values / 4)
        L(add_four)(q + 4 * i, sizeof w->q[0], LV_LOAD(x->q[s * values / 4 + i]), part);
        TIMES(r, LANE_OUTPUTS)
        {
            LI scaled = LV(mullo_epi32)(part[r], LV(set1_epi32)(scale[16 * r]));
            dot[r] = LV(add_epi32)(dot[r], scaled);
        }
    }
}

/* The same for codes that are. */
ALWAYS_INLINE void L(dots_plain)(const struct opened_block *w, const ROWS *x, struct wanted *next,
                                 struct wanted *more, LI dot[LANE_OUTPUTS])
{
    TIMES(r, LANE_OUTPUTS) dot[r] = LV_ZERO();
    for (int s = 0; s < 8; s++) {
        want_more(next, 8);
        want_evenly(more, AHEAD_PLACES);
        const uint8_t *q = one_pointer(w->q[0] + s * 32);
        TIMES(i, 8) L(add_four)(q + 4 * i, sizeof w->q[0], LV_LOAD(x->q[8 * s + i]), dot);
    }
}

/* low[r] = Σ min · Σ q, of the last `pairs` of 8 pairs of mins */
ALWAYS_INLINE void L(lows)(const struct opened_block *w, const ROWS *x, int pairs,
                           LI low[LANE_OUTPUTS])
{
    const int16_t *mins = one_pointer(w->mins[0] + 2 * (8 - pairs));
    TIMES(r, LANE_OUTPUTS) low[r] = LV_ZERO();
    TIMES(i, pairs)
    {
        LI sums = LV_LOAD(x->sums[8 - pairs + i]);
        TIMES(r, LANE_OUTPUTS)
        {
            LI pair = LV(set1_epi32)((int)load_u32(mins + 16 * r + 2 * i));
            low[r] = LV(dpwssd_epi32)(low[r], pair, sums);
        }
    }
}

/* sum[r] += a block of W's row r times that of the lanes */
ALWAYS_INLINE void L(add_block)(enum block_kind kind, int shift, const struct opened_block *w,
                                const ROWS *x, struct wanted *next, struct wanted *more,
                                LF sum[LANE_OUTPUTS])
{
    LI dot[LANE_OUTPUTS], low[LANE_OUTPUTS];
    LF scale = LV(loadu_ps)(x->scale);
    if (kind == BLOCK_READY)
        L(dots_plain)(w, x, next, more, dot);
    else
        L(dots_scaled)(w, x, kind == BLOCK_PER_32 ? 32 : 16, next, more, dot);
    L(lows)(w, x, kind == BLOCK_PER_32 ? 4 : 8, low);
    TIMES(r, LANE_OUTPUTS)
    {
        if (kind == BLOCK_PER_16)
            dot[r] = LV(sub_epi32)(dot[r], LV(slli_epi32)(low[r], (unsigned)shift));
        LF v = LV(mul_ps)(LV(set1_ps)(w->d[r]), LV(cvtepi32_ps)(dot[r]));
        if (kind != BLOCK_PER_16)
            v = LV(fnmadd_ps)(LV(set1_ps)(w->dmin[r]), LV(cvtepi32_ps)(low[r]), v);
        sum[r] = LV(fmadd_ps)(v, scale, sum[r]);
    }
}

/* y[t, r] of `rows` opened rows of W and LANES rows of activations, of which n_tok exist. */
ALWAYS_INLINE void L(outputs)(enum block_kind kind, int shift, const struct opened_block *w,
                              const ROWS *x, int64_t n_block, int n_tok, int rows,
                              struct wanted next, struct wanted more, float *y, int64_t y_stride)
{
    float out[LANE_OUTPUTS][LANES];
    LF sum[LANE_OUTPUTS];
    TIMES(r, LANE_OUTPUTS) sum[r] = LV(setzero_ps)();
    for (int64_t b = 0; b < n_block; b++) {
        L(add_block)(kind, shift, w + b, x + b, &next, &more, sum);
    }
    TIMES(r, LANE_OUTPUTS) LV(storeu_ps)(out[r], sum[r]);
    for (int t = 0; t < n_tok && t < LANES; t += 8)
        store_eight(out[0] + t, LANES, n_tok - t, rows, y + t * y_stride, y_stride);
}

#define OUTPUTS(name, kind, shift)                                                                 \
    static void L(name)(const struct opened_block *w, const ROWS *x, int64_t n_block, int n_tok,   \
                        int rows, struct wanted next, struct wanted more, float *y,                \
                        int64_t y_stride)                                                          \
    {                                                                                              \
        L(outputs)(kind, shift, w, x, n_block, n_tok, rows, next, more, y, y_stride);              \
    }
OUTPUTS(outputs_q2_k, BLOCK_READY, 0)
OUTPUTS(outputs_q3_k, BLOCK_PER_16, 2)
OUTPUTS(outputs_q6_k, BLOCK_PER_16, 5)
OUTPUTS(outputs_q4_k, BLOCK_PER_32, 0)

#undef OUTPUTS
#include "avx512_lanes_end.h"
