/* avx512_decode.c: the AVX-512 tier's decode products of the types whose blocks are 32 values, for
 * few rows; more of them go to avx512_decode_lanes.c. The arithmetic stands in avx512_decode.h.
 *
 * Sixteen blocks are a step. Four of them at a time are two vectors of codes, of which each 128-bit
 * lane belongs to one block; the integer products of the four vectors are then transposed and added
 * until each lane holds the product of one block. The activations are laid out for that once per
 * call. Rows of W are taken as DECODE_STREAMS streams.
 */
#include "avx512_decode.h"

/* Sixteen blocks of a row of activations. Place 4 l + j of the factors is block 4 j + l, whose codes
 * are bytes 16 l..16 l + 16 of q[j][0] and q[j][1], as codes_of_four has them. */
struct few_step {
    int8_t q[4][2][64];
    float scale[16];
    union {
        int32_t offset[16]; /* code offset · Σ q */
        float sum[16];      /* scale · Σ q, for types with minima */
    };
};

/* ---- activations -------------------------------------------------------------------------- */

static int32_t sum_of_codes(__m256i q)
{
    __m256i s = _mm256_dpbusd_epi32(_mm256_setzero_si256(), _mm256_set1_epi8(1), q);
    __m128i h = _mm_add_epi32(_mm256_castsi256_si128(s), _mm256_extracti128_si256(s, 1));
    h = _mm_add_epi32(h, _mm_unpackhi_epi64(h, h));
    return _mm_cvtsi128_si32(h) + _mm_extract_epi32(h, 1);
}

/* A row of n_block blocks into steps, what is left of the last being 0. */
static void lay_out(graft_type type, const struct act_q8 *x, int64_t n_block, struct few_step *out)
{
    const int offset = code_offset(type);
    for (int64_t first = 0; first < n_block; first += STEP_BLOCKS, out++) {
        int n = (int)(n_block - first < STEP_BLOCKS ? n_block - first : STEP_BLOCKS);
        if (n < STEP_BLOCKS)
            memset(out, 0, sizeof *out);
        for (int b = 0; b < n; b++, x++) {
            int j = b / 4, l = b % 4, place = 4 * l + j;
            __m256i q = _mm256_loadu_si256((const __m256i *)x->q);
            out->scale[place] = x->scale;
            if (offset)
                out->offset[place] = offset * sum_of_codes(q);
            else
                out->sum[place] = x->sum;
            if (type == GRAFT_TYPE_MLX4)
                q = even_then_odd(q);
            _mm_storeu_si128((__m128i *)(out->q[j][0] + 16 * l), _mm256_castsi256_si128(q));
            _mm_storeu_si128((__m128i *)(out->q[j][1] + 16 * l), _mm256_extracti128_si256(q, 1));
        }
    }
}

/* ---- products ----------------------------------------------------------------------------- */

/* Lane 4 l + j: the sum of lanes 4 l..4 l + 3 of v[j]. */
ALWAYS_INLINE __m512i add_quads(const __m512i v[4])
{
    __m512i a =
        _mm512_add_epi32(_mm512_unpacklo_epi32(v[0], v[1]), _mm512_unpackhi_epi32(v[0], v[1]));
    __m512i b =
        _mm512_add_epi32(_mm512_unpacklo_epi32(v[2], v[3]), _mm512_unpackhi_epi32(v[2], v[3]));
    return _mm512_add_epi32(_mm512_unpacklo_epi64(a, b), _mm512_unpackhi_epi64(a, b));
}

/* The factors of a step and its integer products. */
ALWAYS_INLINE struct factors open_step(graft_type type, const struct step *s,
                                       const struct few_step *x, int64_t x_step, int tokens,
                                       __m512i dot[DECODE_FEW])
{
    __m512i part[DECODE_FEW][4], q[2];
    __m128i four[4];
    TIMES(j, 4)
    {
        four[j] = _mm_setzero_si128();
        TIMES(t, tokens) part[t][j] = _mm512_setzero_si512();
        if (4 * j >= s->blocks)
            continue;
        open_four(type, s, j, q, four);
        TIMES(t, tokens) TIMES(i, 2)
        {
            __m512i xq = _mm512_loadu_si512(x[t * x_step].q[j][i]);
            part[t][j] = _mm512_dpbusd_epi32(part[t][j], q[i], xq);
        }
    }
    TIMES(t, tokens) dot[t] = add_quads(part[t]);
    return open_factors(type, s, four);
}

/* The four floats of lanes 4 l..4 l + 3. */
ALWAYS_INLINE __m128 quarter(__m512 v, int l)
{
    switch (l) {
    case 0:
        return _mm512_castps512_ps128(v);
    case 1:
        return _mm512_extractf32x4_ps(v, 1);
    case 2:
        return _mm512_extractf32x4_ps(v, 2);
    default:
        return _mm512_extractf32x4_ps(v, 3);
    }
}

/* sum[j] += the products of blocks 4 j..4 j + 3, as far as they are among the `blocks` of the step. */
ALWAYS_INLINE __m128 add_step(graft_type type, const struct factors *f, __m512i dot,
                              const struct few_step *x, int blocks, __m128 sum)
{
    if (!has_minimum(type))
        dot = _mm512_sub_epi32(dot, _mm512_loadu_si512(x->offset));
    __m512 v = _mm512_mul_ps(f->d, _mm512_cvtepi32_ps(dot));
    TIMES(l, 4)
    {
        int n = (blocks - l + 3) / 4; /* of blocks l, 4 + l, 8 + l, 12 + l */
        __mmask8 mask = (__mmask8)((1 << n) - 1);
        sum = _mm_mask3_fmadd_ps(quarter(v, l), _mm_loadu_ps(x->scale + 4 * l), sum, mask);
        if (has_minimum(type))
            sum = _mm_mask3_fmadd_ps(quarter(f->m, l), _mm_loadu_ps(x->sum + 4 * l), sum, mask);
    }
    return sum;
}

/* sum[t] += the products of a step whose `blocks` are known when compiled, or all. */
ALWAYS_INLINE void few_step(graft_type type, const struct streams *streams, const struct step *s,
                            const struct few_step *x, int64_t x_step, int tokens,
                            __m128 sum[DECODE_FEW])
{
    __m512i dot[DECODE_FEW];
    stream_ahead(streams, s->p, s->blocks * block32_bytes(type));
    struct factors f = open_step(type, s, x, x_step, tokens, dot);
    TIMES(t, tokens) sum[t] = add_step(type, &f, dot[t], x + t * x_step, s->blocks, sum[t]);
}

/* Outputs o, o + apart, ... of `tokens` rows, n of them; x rows are x_step steps apart. */
ALWAYS_INLINE void few_outputs(graft_type type, enum matrix_layout layout, const struct matrix *w,
                               const struct few_step *x, int64_t x_step, int64_t o,
                               const struct streams *streams, int n, float *y, int64_t y_stride,
                               int tokens)
{
    const int64_t n_block = w->n_in / Q8_BLOCK;
    const size_t apart_bytes = (size_t)streams->apart * w->row_bytes;
    __m128 sum[DECODE_STREAMS][DECODE_FEW];
    for (int s = 0; s < n; s++)
        TIMES(t, tokens) sum[s][t] = _mm_setzero_ps();
    for (int64_t b = 0; b < n_block; b += STEP_BLOCKS, x++) {
        struct step step = step_of(type, layout, w, o, b);
        for (int s = 0; s < n; s++) {
            if (n_block - b >= STEP_BLOCKS) {
                few_step(type, streams, &step, x, x_step, tokens, sum[s]);
            } else {
                step.blocks = (int)(n_block - b);
                few_step(type, streams, &step, x, x_step, tokens, sum[s]);
            }
            step.o += streams->apart;
            step.p += apart_bytes;
            step.factors += apart_bytes;
        }
    }
    for (int s = 0; s < n; s++)
        TIMES(t, tokens)
        {
            __m128 pairs = _mm_hadd_ps(sum[s][t], sum[s][t]);
            y[t * y_stride + o + s * streams->apart] = _mm_cvtss_f32(_mm_hadd_ps(pairs, pairs));
        }
}

/* Outputs o_begin..o_end in tiles of DECODE_STREAMS, and the few that are left one by one. */
ALWAYS_INLINE void few_range(graft_type type, enum matrix_layout layout, const struct matrix *w,
                             const struct few_step *x, int64_t x_step, int64_t o_begin,
                             int64_t o_end, float *y, int64_t y_stride, int tokens)
{
    const struct streams all = streams_of(w, o_begin, o_end, DECODE_STREAMS),
                         one = single_stream(w);
    int64_t o = o_begin;
    for (int64_t i = 0; i < all.tiles; i++, o += all.next)
        few_outputs(type, layout, w, x, x_step, o, &all, DECODE_STREAMS, y, y_stride, tokens);
    for (o = o_begin + DECODE_STREAMS * all.tiles; o < o_end; o++)
        few_outputs(type, layout, w, x, x_step, o, &one, 1, y, y_stride, tokens);
}

ALWAYS_INLINE void few_rows(graft_type type, enum matrix_layout layout, const struct matrix *w,
                            const struct act_q8 *x, int n_tok, int64_t o_begin, int64_t o_end,
                            float *y, int64_t y_stride, void *scratch)
{
    const int64_t n_block = w->n_in / Q8_BLOCK, steps = blocks_of(n_block, STEP_BLOCKS);
    struct few_step *laid = (struct few_step *)(((uintptr_t)scratch + 63) & ~(uintptr_t)63);
    for (int t = 0; t < n_tok; t++)
        lay_out(type, x + t * n_block, n_block, laid + t * steps);
#define TOKENS(n)                                                                                  \
    case n:                                                                                        \
        few_range(type, layout, w, laid, steps, o_begin, o_end, y, y_stride, n);                   \
        break
    switch (n_tok) {
        TOKENS(1);
        TOKENS(2);
        TOKENS(3);
        TOKENS(4);
    }
#undef TOKENS
}

#define DECODE_32(TYPE, name)                                                                      \
    void avx512_linear_decode_##name(const struct matrix *w, const void *x, int n_tok,             \
                                     int64_t o_begin, int64_t o_end, float *y, int64_t y_stride,   \
                                     void *scratch)                                                \
    {                                                                                              \
        const int64_t n_block = w->n_in / Q8_BLOCK;                                                \
        const struct act_q8 *row = x;                                                              \
        while (n_tok > DECODE_FEW) {                                                               \
            int n = n_tok < DECODE_PACK ? n_tok : DECODE_PACK;                                     \
            avx512_decode_lanes(w, row, n, o_begin, o_end, y, y_stride, scratch);                  \
            n_tok -= n;                                                                            \
            row += n * n_block;                                                                    \
            y += n * y_stride;                                                                     \
        }                                                                                          \
        if (n_tok && split_code_bytes(GRAFT_TYPE_##TYPE) && w->layout == LAYOUT_SPLIT)             \
            few_rows(GRAFT_TYPE_##TYPE, LAYOUT_SPLIT, w, row, n_tok, o_begin, o_end, y, y_stride,  \
                     scratch);                                                                     \
        else if (n_tok)                                                                            \
            few_rows(GRAFT_TYPE_##TYPE, LAYOUT_FILE, w, row, n_tok, o_begin, o_end, y, y_stride,   \
                     scratch);                                                                     \
    }
KERNEL_Q8_TYPES(DECODE_32)
