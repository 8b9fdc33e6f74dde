/* avx2_decode_k.c: the AVX2 tier's decode products of the K types, by integer dot products.
 *
 * A block of 256 is eight groups of 32 codes, unsigned. Per group: products added in pairs (int16),
 * times the group's integer scales and added in pairs again (int32), and all eight groups added as
 * integers. What the codes are offset by, and the mins, enter through the sums of 16 activations.
 * One conversion and fused multiply-add by d · dx per block; the lanes are added at the end.
 *
 * Bounds: pair sums ≤ 2 · 63 · 127 (int16); a group's lane ≤ 2 · 16002 · 128, eight of them and the
 * offset stay below 2^26.
 */
#include "avx2_vec.h"

#include "kernels/decode_tiles.h"

enum { K_TOKENS = 4 };

/* How far ahead of the block in hand the weights are asked for, in bytes. */
enum { PREFETCH_AHEAD_K = 4096 };

struct block256 {
    const uint8_t *p;
    __m256i scales; /* 16 · int16: one per 16 values; Q4_K, Q5_K: 8, in both halves */
    __m256i mins;   /* 16 · int16, per 16 values; none where a type has no mins */
    __m256i high;   /* Q3_K, Q5_K: the bits above the low ones */
    float d, dmin;
};

static inline int64_t block256_bytes(graft_type type)
{
    switch (type) {
    case GRAFT_TYPE_Q2_K:
        return 84;
    case GRAFT_TYPE_Q3_K:
        return 110;
    case GRAFT_TYPE_Q4_K:
        return 144;
    case GRAFT_TYPE_Q5_K:
        return 176;
    default: /* Q6_K */
        return 210;
    }
}

ALWAYS_INLINE bool has_mins(graft_type type)
{
    return type == GRAFT_TYPE_Q2_K || type == GRAFT_TYPE_Q4_K || type == GRAFT_TYPE_Q5_K;
}

ALWAYS_INLINE bool scale_per_32(graft_type type)
{
    return type == GRAFT_TYPE_Q4_K || type == GRAFT_TYPE_Q5_K;
}

ALWAYS_INLINE __m256i load_256(const uint8_t *p)
{
    return _mm256_loadu_si256((const __m256i *)p);
}

ALWAYS_INLINE __m256i mask8(__m256i v, char mask)
{
    return _mm256_and_si256(v, _mm256_set1_epi8(mask));
}

/* Eight 6-bit scales and eight mins from 12 bytes (layout: scales_k4 in blocks.h). */
ALWAYS_INLINE void load_k4_scales(const uint8_t *p, struct block256 *b)
{
    uint32_t a = load_u32(p), m = load_u32(p + 4), c = load_u32(p + 8);
    uint32_t scale_high = (c & 0x0f0f0f0f) | (a >> 2 & 0x30303030);
    uint32_t min_high = (c >> 4 & 0x0f0f0f0f) | (m >> 2 & 0x30303030);
    __m128i scales = _mm_cvtepu8_epi16(
        _mm_cvtsi64_si128((int64_t)((a & 0x3f3f3f3f) | (uint64_t)scale_high << 32)));
    __m128i mins = _mm_cvtepu8_epi16(
        _mm_cvtsi64_si128((int64_t)((m & 0x3f3f3f3f) | (uint64_t)min_high << 32)));
    b->scales = _mm256_broadcastsi128_si256(scales);
    b->mins = _mm256_set_m128i(_mm_unpackhi_epi16(mins, mins), _mm_unpacklo_epi16(mins, mins));
}

/* Sixteen 6-bit scales from 12 bytes (layout: unpack_q3_k in blocks.h). */
ALWAYS_INLINE __m256i load_q3_scales(const uint8_t *p)
{
    const uint32_t low = 0x0f0f0f0f, high = 0x30303030;
    uint32_t a = load_u32(p), b = load_u32(p + 4), c = load_u32(p + 8);
    __m128i bytes =
        _mm_set_epi32((int)((b >> 4 & low) | (c >> 2 & high)), (int)((a >> 4 & low) | (c & high)),
                      (int)((b & low) | (c << 2 & high)), (int)((a & low) | (c << 4 & high)));
    return _mm256_cvtepi8_epi16(_mm_sub_epi8(bytes, _mm_set1_epi8(32)));
}

ALWAYS_INLINE struct block256 load_block256(graft_type type, const uint8_t *p)
{
    struct block256 b = {.p = p};
    __m128i bytes;
    switch (type) {
    case GRAFT_TYPE_Q2_K:
        bytes = _mm_loadu_si128((const __m128i *)p);
        b.scales = _mm256_cvtepu8_epi16(_mm_and_si128(bytes, _mm_set1_epi8(15)));
        b.mins = _mm256_cvtepu8_epi16(_mm_and_si128(_mm_srli_epi16(bytes, 4), _mm_set1_epi8(15)));
        b.d = LOAD_F16(p + 80);
        b.dmin = LOAD_F16(p + 82);
        break;
    case GRAFT_TYPE_Q3_K:
        b.scales = load_q3_scales(p + 96);
        b.high = load_256(p);
        b.d = LOAD_F16(p + 108);
        break;
    case GRAFT_TYPE_Q6_K:
        b.scales = _mm256_cvtepi8_epi16(_mm_loadu_si128((const __m128i *)(p + 192)));
        b.d = LOAD_F16(p + 208);
        break;
    default: /* Q4_K, Q5_K */
        load_k4_scales(p + 4, &b);
        b.d = LOAD_F16(p);
        b.dmin = LOAD_F16(p + 2);
        if (type == GRAFT_TYPE_Q5_K)
            b.high = load_256(p + 16);
        break;
    }
    return b;
}

/* The 32 codes of group g. */
ALWAYS_INLINE __m256i group_codes(graft_type type, const struct block256 *b, int g)
{
    __m256i low, high;
    switch (type) {
    case GRAFT_TYPE_Q2_K:
        return mask8(_mm256_srli_epi16(load_256(b->p + 16 + g / 4 * 32), g % 4 * 2), 3);
    case GRAFT_TYPE_Q3_K:
        low = mask8(_mm256_srli_epi16(load_256(b->p + 32 + g / 4 * 32), g % 4 * 2), 3);
        high = g < 2 ? _mm256_slli_epi16(b->high, 2 - g) : _mm256_srli_epi16(b->high, g - 2);
        return _mm256_or_si256(low, mask8(high, 4));
    case GRAFT_TYPE_Q4_K:
        return mask8(_mm256_srli_epi16(load_256(b->p + 16 + g / 2 * 32), g % 2 * 4), 15);
    case GRAFT_TYPE_Q5_K:
        low = mask8(_mm256_srli_epi16(load_256(b->p + 48 + g / 2 * 32), g % 2 * 4), 15);
        high = g < 4 ? _mm256_slli_epi16(b->high, 4 - g) : _mm256_srli_epi16(b->high, g - 4);
        return _mm256_or_si256(low, mask8(high, 16));
    default: /* Q6_K */
        low = load_256(b->p + g / 4 * 64 + g % 2 * 32);
        low = mask8(_mm256_srli_epi16(low, g % 4 / 2 * 4), 15);
        high = load_256(b->p + 128 + g / 4 * 32);
        high = g % 4 < 2 ? _mm256_slli_epi16(high, 4 - g % 4 * 2)
                         : _mm256_srli_epi16(high, g % 4 * 2 - 4);
        return _mm256_or_si256(low, mask8(high, 48));
    }
}

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

/* log2 of what codes are offset by */
ALWAYS_INLINE int offset_shift(graft_type type)
{
    return type == GRAFT_TYPE_Q6_K ? 5 : 2;
}

ALWAYS_INLINE void tile256(graft_type type, const struct matrix *w, const struct act_q8k *x,
                           int64_t o, float *y, int64_t y_stride, int rows, int tokens)
{
    (void)rows; /* always 1 */
    const int64_t n_block = w->n_in / Q8K_BLOCK, bytes = block256_bytes(type);
    const uint8_t *p = (const uint8_t *)w->data + (size_t)o * w->row_bytes;
    __m256 sum[K_TOKENS];
    TIMES(t, tokens) sum[t] = _mm256_setzero_ps();
    for (int64_t i = 0; i < n_block; i++, p += bytes) {
        struct block256 b = load_block256(type, p);
        __m256i dots[K_TOKENS];
        for (int64_t line = 0; line < bytes; line += 64)
            prefetch(p + PREFETCH_AHEAD_K + line);
        TIMES(t, tokens)
        {
            __m256i sums = load_256((const uint8_t *)x[t * n_block + i].sums);
            if (has_mins(type)) {
                __m256 mins = _mm256_cvtepi32_ps(_mm256_madd_epi16(b.mins, sums));
                __m256 scale = _mm256_set1_ps(b.dmin * x[t * n_block + i].scale);
                sum[t] = _mm256_fnmadd_ps(mins, scale, sum[t]);
                dots[t] = _mm256_setzero_si256();
            } else {
                __m256i offset =
                    _mm256_slli_epi32(_mm256_madd_epi16(b.scales, sums), offset_shift(type));
                dots[t] = _mm256_sub_epi32(_mm256_setzero_si256(), offset);
            }
        }
        TIMES(g, 8)
        {
            __m256i q = group_codes(type, &b, g), scales = group_scales(type, &b, g);
            TIMES(t, tokens)
            {
                __m256i xq = load_256((const uint8_t *)x[t * n_block + i].q + 32 * g);
                __m256i pairs = _mm256_maddubs_epi16(q, xq);
                dots[t] = _mm256_add_epi32(dots[t], _mm256_madd_epi16(pairs, scales));
            }
        }
        TIMES(t, tokens)
        sum[t] = _mm256_fmadd_ps(_mm256_cvtepi32_ps(dots[t]),
                                 _mm256_set1_ps(b.d * x[t * n_block + i].scale), sum[t]);
    }
    TIMES(t, tokens) y[t * y_stride + o] = v_sum(sum[t]);
}

#define DECODE_256(TYPE, name)                                                                     \
    void avx2_linear_decode_##name(const struct matrix *w, const void *x, int n_tok,               \
                                   int64_t o_begin, int64_t o_end, float *y, int64_t y_stride,     \
                                   void *scratch)                                                  \
    {                                                                                              \
        (void)scratch;                                                                             \
        const int64_t n_block = w->n_in / Q8K_BLOCK;                                               \
        DECODE_TILES(tile256, GRAFT_TYPE_##TYPE, 1, K_TOKENS, struct act_q8k, n_block)             \
    }
KERNEL_Q8K_TYPES(DECODE_256)
