/* avx2_decode_k_lanes.c: the AVX2 tier's decode products of the K types, for many rows: eight rows of
 * activations along the lanes, as in avx2_decode_lanes.c. The arithmetic stands in avx2_decode_k.h.
 *
 * The products of a broadcast four codes with eight rows are added in pairs, in 16 bits as long as they
 * fit (narrow_values) and their codes share a scale; then one instruction multiplies by the scale and
 * widens.
 */
#include "avx2_decode_k.h"

enum { LANE_OUTPUTS = 4 };

/* One block of eight rows. */
struct eight {
    int8_t q[64][8][4];
    int16_t sums[8][8][2];
    float scale[8];
};

/* A block of some rows of W. Scales are there twice, and mins (or the scales, where there are none) in
 * neighbouring pairs, so that either can be broadcast as 32 bits. */
struct opened {
    uint8_t q[LANE_OUTPUTS][256];
    int16_t scales[LANE_OUTPUTS][16][2];
    int16_t mins[LANE_OUTPUTS][16];
    float d[LANE_OUTPUTS], dmin[LANE_OUTPUTS];
};

/* ---- activations -------------------------------------------------------------------------- */

/* Columns of 32 bits of 8 rows, from the vectors at p[t] + at, to out[0..8). */
ALWAYS_INLINE void turn(const uint8_t *const p[8], size_t at, void *out)
{
    vf r[8];
    TIMES(t, 8) r[t] = v_load((const float *)(const void *)(p[t] + at));
    v_transpose(r);
    TIMES(t, 8) v_store((float *)out + 8 * t, r[t]);
}

/* Rows of n_block blocks; lanes without a row repeat the last. */
static void lay_out(const struct act_q8k *x, int n_tok, int64_t n_block, struct eight *out)
{
    const uint8_t *row[8];
    for (int t = 0; t < 8; t++)
        row[t] = (const uint8_t *)(x + (t < n_tok ? t : n_tok - 1) * n_block);
    for (int64_t b = 0; b < n_block; b++, out++) {
        for (size_t i = 0; i < 8; i++)
            turn(row, offsetof(struct act_q8k, q) + 32 * i, out->q + 8 * i);
        turn(row, offsetof(struct act_q8k, sums), out->sums);
        for (int t = 0; t < 8; t++) {
            out->scale[t] = load_f32(row[t] + offsetof(struct act_q8k, scale));
            row[t] += sizeof(struct act_q8k);
        }
    }
}

/* ---- weights ------------------------------------------------------------------------------ */

ALWAYS_INLINE void open_block(graft_type type, const uint8_t *p, int r, struct opened *out)
{
    struct block256 b = load_block256(type, p);
    __m256i *scales = (__m256i *)(void *)out->scales[r];
    TIMES(g, 8)
    _mm256_storeu_si256((__m256i *)(void *)(out->q[r] + 32 * g), group_codes(type, &b, g));
    /* unpacking works within the halves of a vector; of Q4_K and Q5_K both hold the eight scales */
    __m256i low = _mm256_unpacklo_epi16(b.scales, b.scales);
    __m256i high = _mm256_unpackhi_epi16(b.scales, b.scales);
    _mm256_storeu_si256(scales, _mm256_permute2x128_si256(low, high, 0x20));
    _mm256_storeu_si256(scales + 1, _mm256_permute2x128_si256(low, high, 0x31));
    _mm256_storeu_si256((__m256i *)(void *)out->mins[r], has_mins(type) ? b.mins : b.scales);
    out->d[r] = b.d;
    out->dmin[r] = has_mins(type) ? b.dmin : 0;
}

ALWAYS_INLINE void open_rows(graft_type type, const struct matrix *w, int64_t o, int rows,
                             struct opened *out)
{
    const int64_t n_block = w->n_in / Q8K_BLOCK, bytes = block256_bytes(type);
    for (int r = 0; r < rows; r++) {
        const uint8_t *p = (const uint8_t *)w->data + (size_t)(o + r) * w->row_bytes;
        for (int64_t b = 0; b < n_block; b++)
            open_block(type, p + b * bytes, r, out + b);
    }
}

/* ---- products ----------------------------------------------------------------------------- */

/* Values whose products share a scale and, four at a time, can be added in pairs in 16 bits. */
ALWAYS_INLINE int narrow_values(graft_type type)
{
    return type == GRAFT_TYPE_Q4_K ? 32 : type == GRAFT_TYPE_Q6_K ? 8 : 16;
}

/* dot[r][g] += 32 codes of row r, 256 r bytes from q, times scale, times 32 values of an eight g. */
ALWAYS_INLINE void add_group(graft_type type, const uint8_t *q, const int16_t *scale,
                             const int8_t (*const x[2])[8][4], int eights,
                             __m256i dot[LANE_OUTPUTS][2])
{
    const int narrow = narrow_values(type) / 4;
    __m256i part[LANE_OUTPUTS][2];
    TIMES(j, 8)
    {
        const bool begins = j % narrow == 0, ends = j % narrow == narrow - 1;
        const int s = scale_per_32(type) ? 0 : j / 4;
        __m256i xj[2];
        TIMES(g, eights) xj[g] = load_256((const uint8_t *)x[g][j]);
        TIMES(r, LANE_OUTPUTS)
        {
            __m256i four = _mm256_set1_epi32((int)load_u32(q + 256 * r + 4 * j));
            TIMES(g, eights)
            {
                __m256i pairs = _mm256_maddubs_epi16(four, xj[g]);
                part[r][g] = begins ? pairs : in_order(_mm256_add_epi16(part[r][g], pairs));
                if (!ends)
                    continue;
                __m256i by = _mm256_set1_epi32((int)load_u32(scale + 32 * r + 2 * s));
                __m256i sum = _mm256_madd_epi16(part[r][g], by);
                dot[r][g] = in_order(_mm256_add_epi32(dot[r][g], sum));
            }
        }
    }
}

/* sum[r][g] += a block of W's row r times that of an eight g. */
ALWAYS_INLINE void add_block(graft_type type, const struct opened *w,
                             const struct eight *const x[2], int eights, struct wanted *next,
                             float (*sum)[2][8])
{
    const int16_t *mins = one_pointer(w->mins[0]);
    __m256i dot[LANE_OUTPUTS][2], low[LANE_OUTPUTS][2];
    TIMES(r, LANE_OUTPUTS) TIMES(g, eights) dot[r][g] = low[r][g] = _mm256_setzero_si256();
    for (int i = 0; i < 8; i++) {
        const int8_t(*const values[2])[8][4] = {x[0]->q + 8 * i, x[1]->q + 8 * i};
        const uint8_t *q = one_pointer(w->q[0] + 32 * i);
        const int16_t *scale = one_pointer(w->scales[0][scale_per_32(type) ? i : 2 * i]);
        want_more(next, 8);
        add_group(type, q, scale, values, eights, dot);
    }
    TIMES(i, 8) TIMES(r, LANE_OUTPUTS)
    {
        __m256i pair = _mm256_set1_epi32((int)load_u32(mins + 16 * r + 2 * i));
        TIMES(g, eights)
        {
            __m256i sums = load_256((const uint8_t *)x[g]->sums[i]);
            low[r][g] = in_order(_mm256_add_epi32(low[r][g], _mm256_madd_epi16(pair, sums)));
        }
    }
    TIMES(r, LANE_OUTPUTS) TIMES(g, eights)
    {
        if (!has_mins(type))
            dot[r][g] =
                _mm256_sub_epi32(dot[r][g], _mm256_slli_epi32(low[r][g], offset_shift(type)));
        vf v = v_mul(v_set1(w->d[r]), _mm256_cvtepi32_ps(dot[r][g]));
        if (has_mins(type))
            v = _mm256_fnmadd_ps(v_set1(w->dmin[r]), _mm256_cvtepi32_ps(low[r][g]), v);
        v_store(sum[r][g], v_fma(v, v_load(x[g]->scale), v_load(sum[r][g])));
    }
}

/* y[t, r] of `rows` opened rows of W and one or two eights of rows of activations, of which n_tok
 * exist. */
ALWAYS_INLINE void outputs(graft_type type, const struct opened *w, const struct eight *x,
                           int eights, int64_t n_block, int n_tok, int rows, struct wanted next,
                           float *y, int64_t y_stride)
{
    _Alignas(32) float sum[LANE_OUTPUTS][2][8] = {{{0}}};
    const struct eight *both[2] = {x, x + (eights - 1) * n_block};
    for (int64_t b = 0; b < n_block; b++, both[0]++, both[1]++)
        add_block(type, w + b, both, eights, &next, sum);
    for (int t = 0; t < n_tok && t < 8 * eights; t++)
        for (int r = 0; r < rows; r++)
            y[t * y_stride + r] = sum[r][t / 8][t % 8];
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
KERNEL_Q8K_TYPES(OF_TYPE)

static struct of_type functions_of(graft_type type)
{
    switch (type) {
#define FUNCTIONS(TYPE, name)                                                                      \
    case GRAFT_TYPE_##TYPE:                                                                        \
        return (struct of_type){open_##name, {one_##name, two_##name}};
        KERNEL_Q8K_TYPES(FUNCTIONS)
    default:
        return (struct of_type){NULL, {NULL, NULL}};
    }
}

void avx2_decode_k_lanes(const struct matrix *w, const struct act_q8k *x, int n_tok,
                         int64_t o_begin, int64_t o_end, float *y, int64_t y_stride, void *scratch)
{
    const int64_t n_block = w->n_in / Q8K_BLOCK;
    const struct of_type f = functions_of(w->type);
    const int eights = (n_tok + 7) / 8;
    struct eight *laid = (struct eight *)(((uintptr_t)scratch + 63) & ~(uintptr_t)63);
    struct opened *opened = (struct opened *)(laid + eights * n_block);
    for (int i = 0; i < eights; i++)
        lay_out(x + 8 * i * n_block, n_tok - 8 * i, n_block, laid + i * n_block);
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
