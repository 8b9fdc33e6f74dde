/* avx512_decode_lanes_body.h: LANES rows of activations along the lanes of a vector, and the product
 * of some opened rows of W with them. Included by avx512_decode_lanes.c for 16 and for 8 lanes.
 */
#include "avx512_lanes_words.h"

/* One block of LANES rows. */
struct L(lanes) {
    int8_t q[8][LANES][4];
    float scale[LANES];
    union {
        int32_t offset[LANES]; /* −(code offset) · Σ q */
        float sum[LANES];      /* scale · Σ q, for types with minima */
    };
};

/* One block of 8 rows into lanes t..t + 8. */
ALWAYS_INLINE void L(lay_out_eight)(graft_type type, const struct act_q8 *const row[8], int64_t b,
                                    int t, ROWS *out)
{
    __m256i r[8];
    __m128 head[4], scales[2], sums[2];
    TIMES(i, 8)
    {
        r[i] = _mm256_loadu_si256((const __m256i *)row[i][b].q);
        if (type == GRAFT_TYPE_MLX4)
            r[i] = even_then_odd(r[i]);
    }
    transpose_8x8(r);
    TIMES(i, 8) _mm256_storeu_si256((__m256i *)(void *)out->q[i][t], r[i]);
    TIMES(i, 4)
    {
        __m128 first = _mm_castsi128_ps(_mm_loadu_si64(&row[2 * i][b].scale));
        head[i] =
            _mm_unpacklo_ps(first, _mm_castsi128_ps(_mm_loadu_si64(&row[2 * i + 1][b].scale)));
    }
    TIMES(i, 2)
    {
        scales[i] = _mm_movelh_ps(head[2 * i], head[2 * i + 1]);
        sums[i] = _mm_movehl_ps(head[2 * i + 1], head[2 * i]);
    }
    _mm256_storeu_ps(out->scale + t, _mm256_set_m128(scales[1], scales[0]));
    if (has_minimum(type))
        _mm256_storeu_ps(out->sum + t, _mm256_set_m128(sums[1], sums[0]));
}

/* Rows of n_block blocks; lanes without a row repeat the last. */
static void L(lay_out)(graft_type type, const struct act_q8 *x, int n_tok, int64_t n_block,
                       ROWS *out)
{
    const LI ones = LV(set1_epi8)(1), offset = LV(set1_epi32)(-code_offset(type));
    const struct act_q8 *row[LANES];
    for (int t = 0; t < LANES; t++)
        row[t] = x + (t < n_tok ? t : n_tok - 1) * n_block;
    for (int64_t b = 0; b < n_block; b++, out++) {
        for (int t = 0; t < LANES; t += 8)
            L(lay_out_eight)(type, row + t, b, t, out);
        if (!has_minimum(type)) {
            LI sum = LV_ZERO();
            TIMES(j, 8) sum = LV(dpbusd_epi32)(sum, ones, LV_LOAD(out->q[j]));
            sum = LV(mullo_epi32)(sum, offset);
            memcpy(out->offset, &sum, sizeof sum);
        }
    }
}

/* sum[r] += block 4 j + l of a step of W's rows times that of the lanes; codes[r]: those of row r */
ALWAYS_INLINE void L(add_block)(bool mins, const struct opened *w,
                                const uint8_t *const codes[LANE_OUTPUTS], const ROWS *x, int j,
                                int l, LF sum[LANE_OUTPUTS])
{
    const float *m = one_pointer(&w->m[0][4 * l + j]);
    const float *d = one_pointer(&w->d[0][4 * l + j]);
    LI dot[LANE_OUTPUTS];
    TIMES(r, LANE_OUTPUTS) dot[r] = mins ? LV_ZERO() : LV_LOAD(x->offset);
    TIMES(i, 8)
    {
        LI xi = LV_LOAD(x->q[i]);
        TIMES(r, LANE_OUTPUTS)
        {
            const uint8_t *four = codes[r] + 16 * l + i / 4 * 64 + i % 4 * 4;
            dot[r] = LV(dpbusd_epi32)(dot[r], LV(set1_epi32)((int)load_u32(four)), xi);
        }
    }
    LF scale = LV(loadu_ps)(x->scale);
    TIMES(r, LANE_OUTPUTS)
    {
        LF v = LV(mul_ps)(LV(set1_ps)(d[16 * r]), LV(cvtepi32_ps)(dot[r]));
        sum[r] = LV(fmadd_ps)(v, scale, sum[r]);
    }
    if (mins)
        TIMES(r, LANE_OUTPUTS)
        {
            LF mr = LV(set1_ps)(m[16 * r]);
            sum[r] = LV(fmadd_ps)(mr, LV(loadu_ps)(x->sum), sum[r]);
        }
}

/* y[t, r] of `rows` opened rows of W and LANES rows of activations, of which n_tok exist. */
ALWAYS_INLINE void L(outputs)(enum lanes_kind kind, const struct opened *w, struct in_place place,
                              const ROWS *x, int64_t n_block, int n_tok, int rows,
                              struct wanted next, struct wanted more, float *y, int64_t y_stride)
{
    float out[4][LANE_OUTPUTS][LANES];
    for (int j = 0; j < 4; j++) { /* chain j has blocks 4 j..4 j + 3 of each step */
        LF sum[LANE_OUTPUTS];
        TIMES(r, LANE_OUTPUTS) sum[r] = LV(setzero_ps)();
        for (int64_t first = 0; first + 4 * j < n_block; first += STEP_BLOCKS) {
            const struct opened *step = w + first / STEP_BLOCKS;
            const uint8_t *codes[LANE_OUTPUTS];
            rows_of_codes(kind, step, place, first, j, codes);
            const ROWS *xj = x + first + 4 * j;
            if (first + 4 * j + 4 <= n_block) {
                TIMES(l, 4)
                {
                    want_evenly(&next, NEXT_PLACES);
                    want_evenly(&more, AHEAD_PLACES);
                    L(add_block)(kind == LANES_MINS, step, codes, xj + l, j, l, sum);
                }
                continue;
            }
            for (int l = 0; first + 4 * j + l < n_block; l++)
                L(add_block)(kind == LANES_MINS, step, codes, xj + l, j, l, sum);
        }
        TIMES(r, LANE_OUTPUTS) LV(storeu_ps)(out[j][r], sum[r]);
    }
    TIMES(r, LANE_OUTPUTS)
    {
        LF low = LV(add_ps)(LV(loadu_ps)(out[0][r]), LV(loadu_ps)(out[1][r]));
        LF high = LV(add_ps)(LV(loadu_ps)(out[2][r]), LV(loadu_ps)(out[3][r]));
        LV(storeu_ps)(out[0][r], LV(add_ps)(low, high));
    }
    for (int t = 0; t < n_tok && t < LANES; t += 8)
        store_eight(out[0][0] + t, LANES, n_tok - t, rows, y + t * y_stride, y_stride);
}

#define OUTPUTS(name, kind)                                                                        \
    static void L(name)(const struct opened *w, struct in_place place, const ROWS *x,              \
                        int64_t n_block, int n_tok, int rows, struct wanted next,                  \
                        struct wanted more, float *y, int64_t y_stride)                            \
    {                                                                                              \
        L(outputs)(kind, w, place, x, n_block, n_tok, rows, next, more, y, y_stride);              \
    }
OUTPUTS(outputs_plain, LANES_PLAIN)
OUTPUTS(outputs_mins, LANES_MINS)
OUTPUTS(outputs_split, LANES_SPLIT)

static void L(outputs_of)(enum lanes_kind kind, const struct opened *w, struct in_place place,
                          const ROWS *x, int64_t n_block, int n_tok, int rows, struct wanted next,
                          struct wanted more, float *y, int64_t y_stride)
{
    (kind == LANES_SPLIT ? L(outputs_split)
     : kind == LANES_MINS
         ? L(outputs_mins)
         : L(outputs_plain))(w, place, x, n_block, n_tok, rows, next, more, y, y_stride);
}

#undef OUTPUTS
#include "avx512_lanes_end.h"
