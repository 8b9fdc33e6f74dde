/* avx512_decode_k.c: the AVX-512 tier's decode products of the K types, for few rows; more of them go
 * to avx512_decode_k_lanes.c. The arithmetic stands in avx512_decode_k.h.
 *
 * A block is four vectors of codes. Each is multiplied with the activations, which are laid out in the
 * same order once per call, to lanes of four products; those fit 16 bits (63 · 127 · 4), so two vectors
 * of them are packed into one and a single instruction multiplies them by the scales and adds.
 */
#include "avx512_decode_k.h"

/* A block of a row of activations. */
struct few_block {
    int8_t q[4][64];
    int16_t sums[16]; /* sums_for */
    float scale;
    float unused[7];
};

static void lay_out(graft_type type, const struct act_q8k *x, int64_t n_block,
                    struct few_block *out)
{
    for (int64_t b = 0; b < n_block; b++, x++, out++) {
        for (int v = 0; v < 4; v++)
            for (int h = 0; h < 2; h++)
                memcpy(out->q[v] + 32 * h, x->q + 32 * group_at(type, v, h), 32);
        _mm256_storeu_si256((__m256i *)(void *)out->sums, sums_for(type, x));
        out->scale = x->scale;
    }
}

/* For two vectors of codes, v and v + 1, packed: which of the scales each 16-bit lane takes. */
ALWAYS_INLINE __m512i scales_of_two(graft_type type, int v, __m256i scales)
{
    int16_t at[4][2]; /* by 128-bit lane, then vector: four 16-bit lanes each */
    TIMES(lane, 4) TIMES(i, 2)
    {
        int group = group_at(type, v + i, lane / 2);
        at[lane][i] = (int16_t)(scale_per_32(type) ? group : 2 * group + lane % 2);
    }
#define FOUR_OF(lane, i) at[lane][i] * 0x0001000100010001
    const __m512i places =
        _mm512_setr_epi64(FOUR_OF(0, 0), FOUR_OF(0, 1), FOUR_OF(1, 0), FOUR_OF(1, 1), FOUR_OF(2, 0),
                          FOUR_OF(2, 1), FOUR_OF(3, 0), FOUR_OF(3, 1));
#undef FOUR_OF
    return _mm512_permutexvar_epi16(places, _mm512_castsi256_si512(scales));
}

/* The sums of the lanes of a and of b in lanes 0 and 1. */
ALWAYS_INLINE __m128i sums_of(__m256i a, __m256i b)
{
    __m256i pairs = _mm256_add_epi32(_mm256_unpacklo_epi32(a, b), _mm256_unpackhi_epi32(a, b));
    __m128i fours =
        _mm_add_epi32(_mm256_castsi256_si128(pairs), _mm256_extracti128_si256(pairs, 1));
    return _mm_add_epi32(fours, _mm_unpackhi_epi64(fours, fours));
}

/* sum + the product of a block with codes q, factors f and scales, and of one of activations. */
ALWAYS_INLINE __m128 add_block(graft_type type, const __m512i q[4], const struct factors256 *f,
                               const __m512i scales[2], const struct few_block *x, __m128 sum)
{
    const __m256i zero = _mm256_setzero_si256();
    __m256i sums = _mm256_loadu_si256((const __m256i *)(const void *)x->sums), low = zero;
    __m512i part[4], dot = _mm512_setzero_si512();
    if (has_mins(type)) {
        low = _mm256_madd_epi16(f->mins, sums);
    } else {
        __m256i offset = _mm256_madd_epi16(f->scales, sums);
        offset = _mm256_slli_epi32(offset, offset_shift(type));
        dot = _mm512_zextsi256_si512(_mm256_sub_epi32(zero, offset));
    }
    TIMES(v, 4)
    part[v] = _mm512_dpbusd_epi32(_mm512_setzero_si512(), q[v], _mm512_loadu_si512(x->q[v]));
    TIMES(i, 2)
    dot = _mm512_dpwssd_epi32(dot, _mm512_packs_epi32(part[2 * i], part[2 * i + 1]), scales[i]);
    __m256i half = _mm256_add_epi32(_mm512_castsi512_si256(dot), _mm512_extracti64x4_epi64(dot, 1));
    __m128 both = _mm_cvtepi32_ps(sums_of(half, low));
    __m128 v = _mm_mul_ps(f->d, both);
    if (has_mins(type))
        v = _mm_fnmadd_ss(_mm_movehdup_ps(f->d), _mm_movehdup_ps(both), v);
    return _mm_fmadd_ss(v, _mm_load_ss(&x->scale), sum);
}

/* Outputs o, o + apart, ... of `tokens` rows, n of them; x rows are n_block blocks apart. */
ALWAYS_INLINE void few_outputs(graft_type type, const struct matrix *w, const struct few_block *x,
                               int64_t o, const struct streams *streams, int n, float *y,
                               int64_t y_stride, int tokens)
{
    const int64_t n_block = w->n_in / Q8K_BLOCK, bytes = block256_bytes(type);
    const uint8_t *p = (const uint8_t *)w->data + (size_t)o * w->row_bytes;
    const size_t p_apart = (size_t)streams->apart * w->row_bytes;
    __m128 sum[DECODE_STREAMS][DECODE_FEW];
    for (int s = 0; s < n; s++)
        TIMES(t, tokens) sum[s][t] = _mm_setzero_ps();
    for (int64_t b = 0; b < n_block; b++, p += bytes, x++)
        for (int s = 0; s < n; s++) {
            const uint8_t *at = p + (size_t)s * p_apart;
            __m512i q[4], scales[2];
            stream_ahead(streams, at, bytes);
            codes_of_block(type, at, q);
            struct factors256 f = factors_of_block(type, at);
            TIMES(i, 2) scales[i] = scales_of_two(type, 2 * i, f.scales);
            TIMES(t, tokens)
            sum[s][t] = add_block(type, q, &f, scales, x + t * n_block, sum[s][t]);
        }
    for (int s = 0; s < n; s++)
        TIMES(t, tokens) y[t * y_stride + o + s * streams->apart] = _mm_cvtss_f32(sum[s][t]);
}

/* Outputs o_begin..o_end in tiles of DECODE_STREAMS, and the few that are left one by one. */
ALWAYS_INLINE void few_range(graft_type type, const struct matrix *w, const struct few_block *x,
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
                            int n_tok, int64_t o_begin, int64_t o_end, float *y, int64_t y_stride,
                            void *scratch)
{
    const int64_t n_block = w->n_in / Q8K_BLOCK;
    struct few_block *laid = (struct few_block *)(((uintptr_t)scratch + 63) & ~(uintptr_t)63);
    lay_out(type, x, n_tok * n_block, laid);
#define TOKENS(n)                                                                                  \
    case n:                                                                                        \
        few_range(type, w, laid, o_begin, o_end, y, y_stride, n);                                  \
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
    void avx512_linear_decode_##name(const struct matrix *w, const void *x, int n_tok,             \
                                     int64_t o_begin, int64_t o_end, float *y, int64_t y_stride,   \
                                     void *scratch)                                                \
    {                                                                                              \
        const struct act_q8k *row = x;                                                             \
        while (n_tok > DECODE_FEW) {                                                               \
            int n = n_tok < DECODE_PACK ? n_tok : DECODE_PACK;                                     \
            avx512_decode_k_lanes(w, row, n, o_begin, o_end, y, y_stride, scratch);                \
            n_tok -= n;                                                                            \
            row += n * (w->n_in / Q8K_BLOCK);                                                      \
            y += n * y_stride;                                                                     \
        }                                                                                          \
        if (n_tok)                                                                                 \
            few_rows(GRAFT_TYPE_##TYPE, w, row, n_tok, o_begin, o_end, y, y_stride, scratch);      \
    }
KERNEL_Q8K_TYPES(DECODE_256)
