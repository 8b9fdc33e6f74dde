/* avx2_decode_lanes.c: the AVX2 tier's decode products of the types whose blocks are 32 values, for many
 * rows. The arithmetic stands in avx2_decode.h.
 *
 * Eight rows of activations lie along the lanes: four consecutive values of each row are one lane of a
 * vector, so that four codes of a weight, broadcast, are multiplied with all of them and no sum has to
 * be taken across lanes. LANE_OUTPUTS rows of W are taken apart at once, into bytes that stay in the
 * first cache, and meet two such eights of rows.
 *
 * Pairs of products of 4-bit codes (15 · 127 · 2) can be added eight times in 16 bits, that is, over a
 * whole block; those of 5-bit codes four times. Codes of 8 bits, made unsigned, are taken as two of
 * 4 bits.
 */
#include "avx2_decode.h"

enum { LANE_OUTPUTS = 4 };

/* One block of eight rows. */
struct eight {
    int8_t q[8][8][4];
    float scale[8];
    union {
        int32_t offset[8]; /* offset · Σ q */
        float sum[8];      /* scale · Σ q, for types with minima */
    };
};

/* Four blocks of some rows of W: the codes, of 8 bits the lower halves first; d and m. */
struct opened {
    uint8_t q[STEP_BLOCKS][LANE_OUTPUTS][2][Q8_BLOCK];
    float d[LANE_OUTPUTS][STEP_BLOCKS], m[LANE_OUTPUTS][STEP_BLOCKS];
};

/* How much larger the codes are than those of the format. */
ALWAYS_INLINE int lanes_offset(graft_type type)
{
    return type == GRAFT_TYPE_Q4_0   ? 8
           : type == GRAFT_TYPE_Q5_0 ? 16
           : type == GRAFT_TYPE_Q8_0 ? 128
                                     : 0;
}

/* ---- activations -------------------------------------------------------------------------- */

ALWAYS_INLINE void turn(__m256i r[8])
{
    vf columns[8];
    TIMES(i, 8) columns[i] = _mm256_castsi256_ps(r[i]);
    v_transpose(columns);
    TIMES(i, 8) r[i] = _mm256_castps_si256(columns[i]);
}

/* Rows of n_block blocks; lanes without a row repeat the last. */
static void lay_out(graft_type type, const struct act_q8 *x, int n_tok, int64_t n_block,
                    struct eight *out)
{
    const struct act_q8 *row[8];
    for (int t = 0; t < 8; t++)
        row[t] = x + (t < n_tok ? t : n_tok - 1) * n_block;
    for (int64_t b = 0; b < n_block; b++, out++) {
        __m256i r[8], sum = _mm256_setzero_si256();
        TIMES(t, 8)
        {
            r[t] = codes_of_x(type, row[t] + b);
            out->scale[t] = row[t][b].scale;
            out->sum[t] = row[t][b].sum;
        }
        turn(r);
        TIMES(i, 8)
        {
            _mm256_storeu_si256((__m256i *)(void *)out->q[i], r[i]);
            sum = _mm256_add_epi32(sum, sums_of_x(lanes_offset(type), r[i]));
        }
        if (!has_minimum(type))
            _mm256_storeu_si256((__m256i *)(void *)out->offset, sum);
    }
}

/* ---- weights ------------------------------------------------------------------------------ */

/* Blocks first..first+blocks of row o, at p, into row r of *out. */
ALWAYS_INLINE void open_step(graft_type type, const struct matrix *w, int64_t o, int64_t first,
                             const uint8_t *p, int blocks, int r, struct opened *out)
{
    struct factors f = load_factors(type, w, o, first, p, blocks);
    _mm_storeu_ps(out->d[r], f.d);
    _mm_storeu_ps(out->m[r], f.m);
    TIMES(i, STEP_BLOCKS)
    {
        if (i >= blocks)
            continue;
        __m256i q = load_codes(type, p + i * block32_bytes(type));
        __m256i *at = (__m256i *)(void *)out->q[i][r];
        if (type == GRAFT_TYPE_Q8_0)
            q = _mm256_xor_si256(q, _mm256_set1_epi8(-128));
        if (is_wide(type)) {
            const __m256i mask = _mm256_set1_epi8(15);
            _mm256_storeu_si256(at + 1, _mm256_and_si256(_mm256_srli_epi16(q, 4), mask));
            q = _mm256_and_si256(q, mask);
        }
        _mm256_storeu_si256(at, q);
    }
}

/* Rows o..o+rows of W. */
ALWAYS_INLINE void open_rows(graft_type type, const struct matrix *w, int64_t o, int rows,
                             struct opened *out)
{
    const int64_t n_block = w->n_in / Q8_BLOCK, bytes = block32_bytes(type);
    for (int r = 0; r < rows; r++) {
        const uint8_t *p = (const uint8_t *)w->data + (size_t)(o + r) * w->row_bytes;
        struct opened *step = out;
        int64_t b = 0;
        for (; b + STEP_BLOCKS <= n_block; b += STEP_BLOCKS, p += STEP_BLOCKS * bytes)
            open_step(type, w, o + r, b, p, STEP_BLOCKS, r, step++);
        if (b < n_block)
            open_step(type, w, o + r, b, p, (int)(n_block - b), r, step);
    }
}

/* ---- products ----------------------------------------------------------------------------- */

/* dot[r][g] = codes of row r, 64 r bytes from q, times a block of eight g; `narrow`: how often pairs of
 * products can be added in 16 bits. */
ALWAYS_INLINE void dots(const uint8_t *q, int narrow, const struct eight *const x[2], int eights,
                        __m256i dot[LANE_OUTPUTS][2])
{
    const __m256i ones = _mm256_set1_epi16(1);
    __m256i part[LANE_OUTPUTS][2];
    TIMES(j, 8)
    {
        const bool begins = j % narrow == 0, ends = j % narrow == narrow - 1;
        __m256i xj[2];
        TIMES(g, eights) xj[g] = _mm256_loadu_si256((const __m256i *)(const void *)x[g]->q[j]);
        TIMES(r, LANE_OUTPUTS)
        {
            __m256i four = _mm256_set1_epi32((int)load_u32(q + 64 * r + 4 * j));
            TIMES(g, eights)
            {
                __m256i pairs = _mm256_maddubs_epi16(four, xj[g]);
                part[r][g] = begins ? pairs : in_order(_mm256_add_epi16(part[r][g], pairs));
                if (!ends)
                    continue;
                __m256i sum = _mm256_madd_epi16(part[r][g], ones);
                dot[r][g] = j < narrow ? sum : in_order(_mm256_add_epi32(dot[r][g], sum));
            }
        }
    }
}

/* sum[r][g] += block i of a step of W's rows times a block of eight g */
ALWAYS_INLINE void add_block(graft_type type, const struct opened *w, int i,
                             const struct eight *const x[2], int eights, float (*sum)[2][8])
{
    const uint8_t *q = one_pointer(w->q[i]);
    const float *d = one_pointer(&w->d[0][i]), *m = one_pointer(&w->m[0][i]);
    __m256i dot[LANE_OUTPUTS][2];
    if (is_wide(type)) {
        __m256i low[LANE_OUTPUTS][2];
        dots(q + 32, 8, x, eights, dot);
        dots(q, 8, x, eights, low);
        TIMES(r, LANE_OUTPUTS)
        TIMES(g, eights) dot[r][g] = _mm256_add_epi32(_mm256_slli_epi32(dot[r][g], 4), low[r][g]);
    } else {
        dots(q, type == GRAFT_TYPE_Q5_0 || type == GRAFT_TYPE_Q5_1 ? 4 : 8, x, eights, dot);
    }
    TIMES(r, LANE_OUTPUTS) TIMES(g, eights)
    {
        if (!has_minimum(type))
            dot[r][g] = _mm256_sub_epi32(
                dot[r][g], _mm256_loadu_si256((const __m256i *)(const void *)x[g]->offset));
        vf v = v_mul(v_set1(d[STEP_BLOCKS * r]), _mm256_cvtepi32_ps(dot[r][g]));
        v = v_fma(v, v_load(x[g]->scale), v_load(sum[r][g]));
        if (has_minimum(type))
            v = v_fma(v_set1(m[STEP_BLOCKS * r]), v_load(x[g]->sum), v);
        v_store(sum[r][g], v);
    }
}

/* y[t, r] of `rows` opened rows of W and one or two eights of rows of activations, of which n_tok
 * exist. */
ALWAYS_INLINE void outputs(graft_type type, const struct opened *w, const struct eight *x,
                           int eights, int64_t n_block, int n_tok, int rows, struct wanted next,
                           float *y, int64_t y_stride)
{
    _Alignas(32) float sum[STEP_BLOCKS][LANE_OUTPUTS][2][8];
    const struct eight *both[2] = {x, x + (eights - 1) * n_block};
    memset(sum, 0, sizeof sum);
    for (int64_t b = 0; b < n_block; b++, both[0]++, both[1]++) {
        want_more(&next, 1);
        add_block(type, w + b / STEP_BLOCKS, (int)(b % STEP_BLOCKS), both, eights,
                  sum[b % STEP_BLOCKS]);
    }
    TIMES(r, LANE_OUTPUTS) TIMES(g, eights)
    {
        vf low = v_add(v_load(sum[0][r][g]), v_load(sum[1][r][g]));
        vf high = v_add(v_load(sum[2][r][g]), v_load(sum[3][r][g]));
        v_store(sum[0][r][g], v_add(low, high));
    }
    for (int t = 0; t < n_tok && t < 8 * eights; t++)
        for (int r = 0; r < rows; r++)
            y[t * y_stride + r] = sum[0][r][t / 8][t % 8];
}

/* What differs by type. */
struct of_type {
    void (*open)(const struct matrix *w, int64_t o, int rows, struct opened *out);
    void (*outputs[2])(const struct opened *w, const struct eight *x, int64_t n_block, int n_tok,
                       int rows, struct wanted next, float *y, int64_t y_stride);
};

#define OF_TYPE(TYPE, name)                                                                        \
    static void open_##name(const struct matrix *w, int64_t o, int rows, struct opened *out)       \
    {                                                                                              \
        open_rows(GRAFT_TYPE_##TYPE, w, o, rows, out);                                             \
    }                                                                                              \
    static void one_##name(const struct opened *w, const struct eight *x, int64_t n_block,         \
                           int n_tok, int rows, struct wanted next, float *y, int64_t y_stride)    \
    {                                                                                              \
        outputs(GRAFT_TYPE_##TYPE, w, x, 1, n_block, n_tok, rows, next, y, y_stride);              \
    }                                                                                              \
    static void two_##name(const struct opened *w, const struct eight *x, int64_t n_block,         \
                           int n_tok, int rows, struct wanted next, float *y, int64_t y_stride)    \
    {                                                                                              \
        outputs(GRAFT_TYPE_##TYPE, w, x, 2, n_block, n_tok, rows, next, y, y_stride);              \
    }
KERNEL_Q8_TYPES(OF_TYPE)

static struct of_type functions_of(graft_type type)
{
    switch (type) {
#define FUNCTIONS(TYPE, name)                                                                      \
    case GRAFT_TYPE_##TYPE:                                                                        \
        return (struct of_type){open_##name, {one_##name, two_##name}};
        KERNEL_Q8_TYPES(FUNCTIONS)
    default:
        return (struct of_type){NULL, {NULL, NULL}};
    }
}

void avx2_decode_lanes(const struct matrix *w, const struct act_q8 *x, int n_tok, int64_t o_begin,
                       int64_t o_end, float *y, int64_t y_stride, void *scratch)
{
    const int64_t n_block = w->n_in / Q8_BLOCK;
    const struct of_type f = functions_of(w->type);
    const int eights = (n_tok + 7) / 8;
    struct eight *laid = (struct eight *)(((uintptr_t)scratch + 63) & ~(uintptr_t)63);
    struct opened *opened = (struct opened *)(laid + eights * n_block);
    for (int i = 0; i < eights; i++)
        lay_out(w->type, x + 8 * i * n_block, n_tok - 8 * i, n_block, laid + i * n_block);
    for (int64_t o = o_begin; o < o_end; o += LANE_OUTPUTS) {
        int rows = (int)(o_end - o < LANE_OUTPUTS ? o_end - o : LANE_OUTPUTS);
        struct wanted next = {(const uint8_t *)w->data + (size_t)(o + LANE_OUTPUTS) * w->row_bytes,
                              w->row_bytes * LANE_OUTPUTS / (size_t)n_block};
        f.open(w, o, rows, opened);
        for (int i = 0; i < eights; i += 2) {
            f.outputs[eights - i > 1](opened, laid + i * n_block, n_block, n_tok - 8 * i, rows,
                                      next, y + 8 * i * y_stride + o, y_stride);
            next.step = 0;
        }
    }
}
