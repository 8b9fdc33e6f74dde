/* avx2_decode.c: the AVX2 tier's decode products of the types whose blocks are 32 values, for few rows;
 * more of them go to avx2_decode_lanes.c. The arithmetic stands in avx2_decode.h.
 *
 * Four blocks are a step. Of each, 32 products of bytes are added in pairs and then in fours to eight
 * lanes; the lanes of the four blocks are then transposed and added until each block has one. Pairs
 * stay within int16: codes below 32 times 127 twice, or |code| ≤ 128 times 127 twice.
 */
#include "avx2_decode.h"

/* Four blocks of a row of activations. */
struct few_step {
    int8_t q[4][32];
    float scale[4];
    float sum[4];      /* scale · Σ q */
    int32_t offset[4]; /* offset · Σ q */
};

/* How much larger the codes are than those of the format. MLX8's are made signed. */
ALWAYS_INLINE int few_offset(graft_type type)
{
    return type == GRAFT_TYPE_Q4_0   ? 8
           : type == GRAFT_TYPE_Q5_0 ? 16
           : type == GRAFT_TYPE_MLX8 ? -128
                                     : 0;
}

/* Lane i: the sum of the lanes of v[i]. */
ALWAYS_INLINE __m128i add_lanes(const __m256i v[4])
{
    __m256i a =
        _mm256_add_epi32(_mm256_unpacklo_epi32(v[0], v[1]), _mm256_unpackhi_epi32(v[0], v[1]));
    __m256i b =
        _mm256_add_epi32(_mm256_unpacklo_epi32(v[2], v[3]), _mm256_unpackhi_epi32(v[2], v[3]));
    __m256i c = _mm256_add_epi32(_mm256_unpacklo_epi64(a, b), _mm256_unpackhi_epi64(a, b));
    return _mm_add_epi32(_mm256_castsi256_si128(c), _mm256_extracti128_si256(c, 1));
}

/* A row of n_block blocks into steps, what is left of the last being 0. */
static void lay_out(graft_type type, const struct act_q8 *x, int64_t n_block, struct few_step *out)
{
    for (int64_t first = 0; first < n_block; first += STEP_BLOCKS, out++) {
        int n = (int)(n_block - first < STEP_BLOCKS ? n_block - first : STEP_BLOCKS);
        __m256i sums[4];
        memset(out, 0, sizeof *out);
        TIMES(i, 4)
        {
            __m256i q = i < n ? codes_of_x(type, x + first + i) : _mm256_setzero_si256();
            sums[i] = sums_of_x(few_offset(type), q);
            _mm256_storeu_si256((__m256i *)out->q[i], q);
        }
        _mm_storeu_si128((__m128i *)(void *)out->offset, add_lanes(sums));
        for (int i = 0; i < n; i++) {
            out->scale[i] = x[first + i].scale;
            out->sum[i] = x[first + i].sum;
        }
    }
}

ALWAYS_INLINE __m256i dot_codes(graft_type type, __m256i q, __m256i x)
{
    if (!is_wide(type))
        return dot_bytes(q, x);
    if (type == GRAFT_TYPE_MLX8)
        q = _mm256_xor_si256(q, _mm256_set1_epi8(-128));
    return dot_bytes(_mm256_abs_epi8(q), _mm256_sign_epi8(x, q));
}

/* sum[t] += a step with `blocks` ≤ 4 blocks of row o of W at p, the first being `first`. */
ALWAYS_INLINE void add_step(graft_type type, const struct streams *streams, const struct matrix *w,
                            int64_t o, int64_t first, const uint8_t *p, const struct few_step *x,
                            int64_t x_step, int tokens, int blocks, __m128 sum[DECODE_FEW])
{
    const __m128i exists = _mm_cmpgt_epi32(_mm_set1_epi32(blocks), _mm_setr_epi32(0, 1, 2, 3));
    stream_ahead(streams, p, blocks * block32_bytes(type));
    struct factors f = load_factors(type, w, o, first, p, blocks);
    __m256i part[DECODE_FEW][4];
    TIMES(i, 4)
    {
        __m256i q =
            i < blocks ? load_codes(type, p + i * block32_bytes(type)) : _mm256_setzero_si256();
        TIMES(t, tokens)
        part[t][i] = dot_codes(type, q, _mm256_loadu_si256((const __m256i *)x[t * x_step].q[i]));
    }
    TIMES(t, tokens)
    {
        const struct few_step *at = x + t * x_step;
        __m128i dot = add_lanes(part[t]);
        if (few_offset(type))
            dot = _mm_sub_epi32(dot, _mm_loadu_si128((const __m128i *)(const void *)at->offset));
        __m128 v = _mm_mul_ps(f.d, _mm_cvtepi32_ps(dot));
        __m128 s = _mm_fmadd_ps(v, _mm_loadu_ps(at->scale), sum[t]);
        if (has_minimum(type))
            s = _mm_fmadd_ps(f.m, _mm_loadu_ps(at->sum), s);
        sum[t] = blocks == STEP_BLOCKS ? s : _mm_blendv_ps(sum[t], s, _mm_castsi128_ps(exists));
    }
}

/* Outputs o, o + apart, ... of `tokens` rows, n of them; x rows are x_step steps apart. */
ALWAYS_INLINE void few_outputs(graft_type type, const struct matrix *w, const struct few_step *x,
                               int64_t x_step, int64_t o, const struct streams *streams, int n,
                               float *y, int64_t y_stride, int tokens)
{
    const int64_t n_block = w->n_in / Q8_BLOCK, bytes = block32_bytes(type);
    const uint8_t *p = (const uint8_t *)w->data + (size_t)o * w->row_bytes;
    const size_t p_apart = (size_t)streams->apart * w->row_bytes;
    __m128 sum[DECODE_STREAMS][DECODE_FEW];
    int64_t b = 0;
    for (int s = 0; s < n; s++)
        TIMES(t, tokens) sum[s][t] = _mm_setzero_ps();
    for (; b + STEP_BLOCKS <= n_block; b += STEP_BLOCKS, p += STEP_BLOCKS * bytes, x++)
        for (int s = 0; s < n; s++)
            add_step(type, streams, w, o + s * streams->apart, b, p + (size_t)s * p_apart, x,
                     x_step, tokens, STEP_BLOCKS, sum[s]);
    if (b < n_block)
        for (int s = 0; s < n; s++)
            add_step(type, streams, w, o + s * streams->apart, b, p + (size_t)s * p_apart, x,
                     x_step, tokens, (int)(n_block - b), sum[s]);
    for (int s = 0; s < n; s++)
        TIMES(t, tokens)
        {
            __m128 pairs = _mm_hadd_ps(sum[s][t], sum[s][t]);
            y[t * y_stride + o + s * streams->apart] = _mm_cvtss_f32(_mm_hadd_ps(pairs, pairs));
        }
}

/* Outputs o_begin..o_end in tiles of DECODE_STREAMS, and the few that are left one by one. */
ALWAYS_INLINE void few_range(graft_type type, const struct matrix *w, const struct few_step *x,
                             int64_t x_step, int64_t o_begin, int64_t o_end, float *y,
                             int64_t y_stride, int tokens)
{
    const struct streams all = streams_of(w, o_begin, o_end, DECODE_STREAMS),
                         one = single_stream(w);
    int64_t o = o_begin;
    for (int64_t i = 0; i < all.tiles; i++, o += all.next)
        few_outputs(type, w, x, x_step, o, &all, DECODE_STREAMS, y, y_stride, tokens);
    for (o = o_begin + DECODE_STREAMS * all.tiles; o < o_end; o++)
        few_outputs(type, w, x, x_step, o, &one, 1, y, y_stride, tokens);
}

ALWAYS_INLINE void few_rows(graft_type type, const struct matrix *w, const struct act_q8 *x,
                            int n_tok, int64_t o_begin, int64_t o_end, float *y, int64_t y_stride,
                            void *scratch)
{
    const int64_t n_block = w->n_in / Q8_BLOCK, steps = blocks_of(n_block, STEP_BLOCKS);
    struct few_step *laid = (struct few_step *)(((uintptr_t)scratch + 63) & ~(uintptr_t)63);
    for (int t = 0; t < n_tok; t++)
        lay_out(type, x + t * n_block, n_block, laid + t * steps);
#define TOKENS(n)                                                                                  \
    case n:                                                                                        \
        few_range(type, w, laid, steps, o_begin, o_end, y, y_stride, n);                           \
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
    void avx2_linear_decode_##name(const struct matrix *w, const void *x, int n_tok,               \
                                   int64_t o_begin, int64_t o_end, float *y, int64_t y_stride,     \
                                   void *scratch)                                                  \
    {                                                                                              \
        const struct act_q8 *row = x;                                                              \
        while (n_tok > DECODE_FEW) {                                                               \
            int n = n_tok < DECODE_PACK ? n_tok : DECODE_PACK;                                     \
            avx2_decode_lanes(w, row, n, o_begin, o_end, y, y_stride, scratch);                    \
            n_tok -= n;                                                                            \
            row += n * (w->n_in / Q8_BLOCK);                                                       \
            y += n * y_stride;                                                                     \
        }                                                                                          \
        if (n_tok)                                                                                 \
            few_rows(GRAFT_TYPE_##TYPE, w, row, n_tok, o_begin, o_end, y, y_stride, scratch);      \
    }
KERNEL_Q8_TYPES(DECODE_32)
