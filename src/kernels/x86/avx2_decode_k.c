/* avx2_decode_k.c: the AVX2 tier's decode products of the K types, for few rows; more of them go to
 * avx2_decode_k_lanes.c. The arithmetic stands in avx2_decode_k.h.
 *
 * A block is eight groups of 32 codes. Per group: products added in pairs (int16: 2 · 63 · 127), times
 * the group's integer scales and added in pairs again; all eight groups and then the lanes are added
 * as integers. What the codes are offset by, and the mins, enter through the sums of 16 activations.
 */
#include "avx2_decode_k.h"

/* The scales of group g, one per int16 of pair sums. */
ALWAYS_INLINE __m256i group_scales(graft_type type, const struct block256 *b, int g)
{
    if (scale_per_32(type))
        return _mm256_shuffle_epi8(b->scales, _mm256_set1_epi16((int16_t)(0x0100 + g * 0x0202)));
    /* Scales 2g and 2g + 1 stand in one half of the vector: bring it to both, then spread. */
    __m256i half = g < 4 ? _mm256_permute4x64_epi64(b->scales, 0x44)
                         : _mm256_permute4x64_epi64(b->scales, 0xEE);
    int16_t first = (int16_t)(0x0100 + g % 4 * 0x0404), second = (int16_t)(first + 0x0202);
    __m256i spread = _mm256_set_m128i(_mm_set1_epi16(second), _mm_set1_epi16(first));
    return _mm256_shuffle_epi8(half, spread);
}

/* The sums of the lanes of a and of b in lanes 0 and 1. */
ALWAYS_INLINE __m128i sums_of(__m256i a, __m256i b)
{
    __m256i pairs = _mm256_add_epi32(_mm256_unpacklo_epi32(a, b), _mm256_unpackhi_epi32(a, b));
    __m128i fours =
        _mm_add_epi32(_mm256_castsi256_si128(pairs), _mm256_extracti128_si256(pairs, 1));
    return _mm_add_epi32(fours, _mm_unpackhi_epi64(fours, fours));
}

/* sum[t] += a block of W times those of the tokens, which are x_step apart. */
ALWAYS_INLINE void add_block(graft_type type, const uint8_t *p, const struct act_q8k *x,
                             int64_t x_step, int tokens, __m128 sum[DECODE_FEW])
{
    struct block256 b = load_block256(type, p);
    __m256i dot[DECODE_FEW], low[DECODE_FEW];
    TIMES(t, tokens)
    {
        __m256i sums = load_256((const uint8_t *)x[t * x_step].sums);
        dot[t] = low[t] = _mm256_setzero_si256();
        if (has_mins(type))
            low[t] = _mm256_madd_epi16(b.mins, sums);
        else
            dot[t] = _mm256_sub_epi32(
                dot[t], _mm256_slli_epi32(_mm256_madd_epi16(b.scales, sums), offset_shift(type)));
    }
    TIMES(g, 8)
    {
        __m256i q = group_codes(type, &b, g), scales = group_scales(type, &b, g);
        TIMES(t, tokens)
        {
            __m256i xq = load_256((const uint8_t *)x[t * x_step].q + 32 * g);
            __m256i pairs = _mm256_maddubs_epi16(q, xq);
            dot[t] = _mm256_add_epi32(dot[t], _mm256_madd_epi16(pairs, scales));
        }
    }
    TIMES(t, tokens)
    {
        __m128 both = _mm_cvtepi32_ps(sums_of(dot[t], low[t]));
        __m128 v = _mm_mul_ss(_mm_set_ss(b.d), both);
        if (has_mins(type))
            v = _mm_fnmadd_ss(_mm_set_ss(b.dmin), _mm_movehdup_ps(both), v);
        sum[t] = _mm_fmadd_ss(v, _mm_load_ss(&x[t * x_step].scale), sum[t]);
    }
}

/* Outputs o, o + apart, ... of `tokens` rows, n of them. */
ALWAYS_INLINE void few_outputs(graft_type type, const struct matrix *w, const struct act_q8k *x,
                               int64_t o, const struct streams *streams, int n, float *y,
                               int64_t y_stride, int tokens)
{
    const int64_t n_block = w->n_in / Q8K_BLOCK, bytes = block256_bytes(type);
    const uint8_t *p = (const uint8_t *)w->data + (size_t)o * w->row_bytes;
    const size_t p_apart = (size_t)streams->apart * w->row_bytes;
    __m128 sum[DECODE_STREAMS][DECODE_FEW];
    for (int s = 0; s < n; s++)
        TIMES(t, tokens) sum[s][t] = _mm_setzero_ps();
    for (int64_t b = 0; b < n_block; b++, p += bytes)
        for (int s = 0; s < n; s++) {
            const uint8_t *at = p + (size_t)s * p_apart;
            stream_ahead(streams, at, bytes);
            add_block(type, at, x + b, n_block, tokens, sum[s]);
        }
    for (int s = 0; s < n; s++)
        TIMES(t, tokens) y[t * y_stride + o + s * streams->apart] = _mm_cvtss_f32(sum[s][t]);
}

/* Outputs o_begin..o_end in tiles of DECODE_STREAMS, and the few that are left one by one. */
ALWAYS_INLINE void few_range(graft_type type, const struct matrix *w, const struct act_q8k *x,
                             int64_t o_begin, int64_t o_end, float *y, int64_t y_stride, int tokens)
{
    const struct streams all = streams_of(w, o_begin, o_end, DECODE_STREAMS),
                         one = single_stream(w);
    int64_t o = o_begin;
    for (int64_t i = 0; i < all.tiles; i++, o += all.next)
        few_outputs(type, w, x, o, &all, DECODE_STREAMS, y, y_stride, tokens);
    for (o = o_begin + DECODE_STREAMS * all.tiles; o < o_end; o++)
        few_outputs(type, w, x, o, &one, 1, y, y_stride, tokens);
}

ALWAYS_INLINE void few_rows(graft_type type, const struct matrix *w, const struct act_q8k *x,
                            int n_tok, int64_t o_begin, int64_t o_end, float *y, int64_t y_stride)
{
#define TOKENS(n)                                                                                  \
    case n:                                                                                        \
        few_range(type, w, x, o_begin, o_end, y, y_stride, n);                                     \
        break
    switch (n_tok) {
        TOKENS(1);
        TOKENS(2);
        TOKENS(3);
        TOKENS(4);
    }
#undef TOKENS
}

#define DECODE_256(TYPE, name)                                                                     \
    void avx2_linear_decode_##name(const struct matrix *w, const void *x, int n_tok,               \
                                   int64_t o_begin, int64_t o_end, float *y, int64_t y_stride,     \
                                   void *scratch)                                                  \
    {                                                                                              \
        const struct act_q8k *row = x;                                                             \
        while (n_tok > DECODE_FEW) {                                                               \
            int n = n_tok < DECODE_PACK ? n_tok : DECODE_PACK;                                     \
            avx2_decode_k_lanes(w, row, n, o_begin, o_end, y, y_stride, scratch);                  \
            n_tok -= n;                                                                            \
            row += n * (w->n_in / Q8K_BLOCK);                                                      \
            y += n * y_stride;                                                                     \
        }                                                                                          \
        if (n_tok)                                                                                 \
            few_rows(GRAFT_TYPE_##TYPE, w, row, n_tok, o_begin, o_end, y, y_stride);               \
    }
KERNEL_Q8K_TYPES(DECODE_256)
