/* avx512bf16_rows.c: rows of quantised weights as bf16: dequantised by the steps of dequantize_body.h and then
 * rounded, so a value here is f32_to_bf16 of what the tier dequantises, to the bit. (Where that is
 * denormal it may be 0, which is what the unit takes it for.)
 *
 * The panels of avx512bf16 and amx are made of these. A vector of 32 codes becomes two of floats,
 * times d plus m, and one of bf16.
 */
#include "avx512bf16.h"

#include "avx512_vec.h"
#include "kernels/blocks.h"
#include "kernels/panels.h"

/* 32 values d · q + m, each factor once per 16. */
ALWAYS_INLINE void put_32(uint16_t *y, __m256i q, bool is_signed, const vf d[2], const vf m[2])
{
    const __m128i half[2] = {_mm256_castsi256_si128(q), _mm256_extracti128_si256(q, 1)};
    vf v[2];
    TIMES(h, 2)
    {
        __m512i wide = is_signed ? _mm512_cvtepi8_epi32(half[h]) : _mm512_cvtepu8_epi32(half[h]);
        v[h] = v_mul(_mm512_cvtepi32_ps(wide), d[h]);
        if (m)
            v[h] = v_add(v[h], m[h]);
    }
    _mm512_storeu_si512(y, (__m512i)_mm512_cvtne2ps_pbh(v[1], v[0]));
}

void avx512bf16_round(const float *x, int64_t n, uint16_t *y)
{
    int64_t i = 0;
    for (; i + 32 <= n; i += 32) {
        __m512bh pair = _mm512_cvtne2ps_pbh(v_load(x + i + 16), v_load(x + i));
        _mm512_storeu_si512(y + i, (__m512i)pair);
    }
    for (; i < n; i += 16) {
        int64_t left = n - i < 16 ? n - i : 16;
        __m256bh some = _mm512_cvtneps_pbh(v_load_n(x + i, left));
        _mm256_mask_storeu_epi16(y + i, v_mask(left), (__m256i)some);
    }
}

void avx512bf16_split(const float *x, int64_t n, uint16_t *large, uint16_t *small)
{
    for (int64_t i = 0; i < n; i += 16) {
        int64_t left = n - i < 16 ? n - i : 16;
        vf v = v_load_n(x + i, left);
        __m256i first = (__m256i)_mm512_cvtneps_pbh(v);
        vf back = _mm512_castsi512_ps(_mm512_slli_epi32(_mm512_cvtepu16_epi32(first), 16));
        __m256i second = (__m256i)_mm512_cvtneps_pbh(v_sub(v, back));
        _mm256_mask_storeu_epi16(large + i, v_mask(left), first);
        _mm256_mask_storeu_epi16(small + i, v_mask(left), second);
    }
}

/* ---- blocks of 32 ------------------------------------------------------------------------- */

/* The low nibbles of 16 bytes, then the high ones. */
ALWAYS_INLINE __m256i nibbles_of(const uint8_t *p)
{
    __m128i low = _mm_loadu_si128((const __m128i *)p);
    __m256i both = _mm256_set_m128i(_mm_srli_epi16(low, 4), low);
    return _mm256_and_si256(both, _mm256_set1_epi8(15));
}

/* The low and high nibbles of 16 bytes in turn. */
ALWAYS_INLINE __m256i nibbles_in_turn(const uint8_t *p)
{
    __m256i wide = _mm256_cvtepu8_epi16(_mm_loadu_si128((const __m128i *)p));
    __m256i both = _mm256_or_si256(wide, _mm256_slli_epi16(wide, 4));
    return _mm256_and_si256(both, _mm256_set1_epi8(15));
}

/* 16 in each byte whose bit is set in the word. */
ALWAYS_INLINE __m256i fifth_bits_of(const uint8_t *p)
{
    return _mm256_maskz_set1_epi8(load_u32(p), 16);
}

ALWAYS_INLINE __m256i less(__m256i q, char offset)
{
    return _mm256_sub_epi8(q, _mm256_set1_epi8(offset));
}

ALWAYS_INLINE vf spread_f16(const uint8_t *p)
{
    return _mm512_cvtph_ps(_mm256_set1_epi16((int16_t)load_u16(p)));
}

/* A row of blocks of BYTES, whose codes are CODES and offsets M; `p` is the block. */
#define ROW_32(name, BYTES, SIGNED, CODES, M)                                                      \
    static void row_##name(const struct matrix *w, int64_t row, int64_t first, int64_t n,          \
                           uint16_t *y)                                                            \
    {                                                                                              \
        const uint8_t *p = block_at(w, row, first / Q8_BLOCK, BYTES);                              \
        for (int64_t i = 0; i < n; i += Q8_BLOCK, p += (BYTES)) {                                  \
            const vf d = spread_f16(p), m = M, ds[2] = {d, d}, ms[2] = {m, m};                     \
            put_32(y + i, CODES, SIGNED, ds, (SIGNED) ? NULL : ms);                                \
        }                                                                                          \
    }
ROW_32(q4_0, 18, true, less(nibbles_of(p + 2), 8), v_zero())
ROW_32(q4_1, 20, false, nibbles_of(p + 4), spread_f16(p + 2))
ROW_32(q5_0, 22, true, less(_mm256_or_si256(nibbles_of(p + 6), fifth_bits_of(p + 2)), 16), v_zero())
ROW_32(q5_1, 24, false, _mm256_or_si256(nibbles_of(p + 8), fifth_bits_of(p + 4)), spread_f16(p + 2))
ROW_32(q8_0, 34, true, _mm256_loadu_si256((const __m256i *)(p + 2)), v_zero())

/* MLX: the factors lie apart. */
#define ROW_MLX(name, BYTES, CODES)                                                                \
    static void row_##name(const struct matrix *w, int64_t row, int64_t first, int64_t n,          \
                           uint16_t *y)                                                            \
    {                                                                                              \
        const uint8_t *p = block_at(w, row, first / Q8_BLOCK, BYTES);                              \
        for (int64_t i = 0; i < n; i += Q8_BLOCK, p += (BYTES)) {                                  \
            const vf d = v_set1(mlx_factor(w, w->scales, row, (first + i) / Q8_BLOCK));            \
            const vf m = v_set1(mlx_factor(w, w->biases, row, (first + i) / Q8_BLOCK));            \
            const vf ds[2] = {d, d}, ms[2] = {m, m};                                               \
            put_32(y + i, CODES, false, ds, ms);                                                   \
        }                                                                                          \
    }
ROW_MLX(mlx4, 16, nibbles_in_turn(p))
ROW_MLX(mlx8, 32, _mm256_loadu_si256((const __m256i *)p))

/* ---- blocks of 256 (layouts: blocks.h) ----------------------------------------------------- */

struct factors256 {
    float d[16], m[16]; /* per 16 values: w = d · q + m */
};

ALWAYS_INLINE vf bytes_to_floats(__m128i bytes)
{
    return _mm512_cvtepi32_ps(_mm512_cvtepi8_epi32(bytes));
}

/* d · scale and −(dmin · min) of 16 scales and mins in bytes. */
ALWAYS_INLINE void set_factors(struct factors256 *f, float d, __m128i scales, float dmin,
                               __m128i mins)
{
    v_store(f->d, v_mul(v_set1(d), bytes_to_floats(scales)));
    v_store(f->m, v_sub(v_zero(), v_mul(v_set1(dmin), bytes_to_floats(mins))));
}

/* Eight 6-bit scales and mins in 12 bytes, each for 32 values. */
ALWAYS_INLINE void set_factors_k4(struct factors256 *f, const uint8_t *p)
{
    uint32_t a = load_u32(p + 4), b = load_u32(p + 8), c = load_u32(p + 12);
    uint32_t scales_high = (c & 0x0f0f0f0f) | (a >> 2 & 0x30303030);
    uint32_t mins_high = (c >> 4 & 0x0f0f0f0f) | (b >> 2 & 0x30303030);
    __m128i scales = _mm_set_epi32(0, 0, (int)scales_high, (int)(a & 0x3f3f3f3f));
    __m128i mins = _mm_set_epi32(0, 0, (int)mins_high, (int)(b & 0x3f3f3f3f));
    set_factors(f, LOAD_F16(p), _mm_unpacklo_epi8(scales, scales), LOAD_F16(p + 2),
                _mm_unpacklo_epi8(mins, mins));
}

/* Sixteen 6-bit scales, less 32, in 12 bytes. */
ALWAYS_INLINE __m128i scales_q3_k(const uint8_t *p)
{
    const uint32_t low = 0x0f0f0f0f, high = 0x30303030;
    uint32_t a = load_u32(p), b = load_u32(p + 4), c = load_u32(p + 8);
    __m128i scales =
        _mm_set_epi32((int)((b >> 4 & low) | (c >> 2 & high)), (int)((a >> 4 & low) | (c & high)),
                      (int)((b & low) | (c << 2 & high)), (int)((a & low) | (c << 4 & high)));
    return _mm_sub_epi8(scales, _mm_set1_epi8(32));
}

ALWAYS_INLINE void load_factors(graft_type type, const uint8_t *p, struct factors256 *f)
{
    const __m128i nibble = _mm_set1_epi8(15), none = _mm_setzero_si128();
    __m128i bytes;
    switch (type) {
    case GRAFT_TYPE_Q2_K:
        bytes = _mm_loadu_si128((const __m128i *)p);
        set_factors(f, LOAD_F16(p + 80), _mm_and_si128(bytes, nibble), LOAD_F16(p + 82),
                    _mm_and_si128(_mm_srli_epi16(bytes, 4), nibble));
        break;
    case GRAFT_TYPE_Q3_K:
        set_factors(f, LOAD_F16(p + 108), scales_q3_k(p + 96), 0, none);
        break;
    case GRAFT_TYPE_Q6_K:
        bytes = _mm_loadu_si128((const __m128i *)(p + 192));
        set_factors(f, LOAD_F16(p + 208), bytes, 0, none);
        break;
    default: /* Q4_K, Q5_K */
        set_factors_k4(f, p);
        break;
    }
}

/* 32 bytes shifted right, and what of each the mask keeps. */
ALWAYS_INLINE __m256i bits_of(const uint8_t *p, int shift, char mask)
{
    __m256i v = _mm256_srli_epi16(_mm256_loadu_si256((const __m256i *)p), shift);
    return _mm256_and_si256(v, _mm256_set1_epi8(mask));
}

/* The 32 codes of group g. */
ALWAYS_INLINE __m256i group_codes(graft_type type, const uint8_t *p, int g)
{
    const __m256i bit = _mm256_set1_epi8((char)(1 << g));
    __m256i q;
    switch (type) {
    case GRAFT_TYPE_Q2_K:
        return bits_of(p + 16 + g / 4 * 32, g % 4 * 2, 3);
    case GRAFT_TYPE_Q3_K: /* 4 lower where the third bit is clear */
        q = bits_of(p + 32 + g / 4 * 32, g % 4 * 2, 3);
        return _mm256_mask_sub_epi8(
            q, _mm256_testn_epi8_mask(_mm256_loadu_si256((const __m256i *)p), bit), q,
            _mm256_set1_epi8(4));
    case GRAFT_TYPE_Q4_K:
        return bits_of(p + 16 + g / 2 * 32, g % 2 * 4, 15);
    case GRAFT_TYPE_Q5_K:
        q = bits_of(p + 48 + g / 2 * 32, g % 2 * 4, 15);
        return _mm256_mask_add_epi8(
            q, _mm256_test_epi8_mask(_mm256_loadu_si256((const __m256i *)(p + 16)), bit), q,
            _mm256_set1_epi8(16));
    default: /* Q6_K */
        q = bits_of(p + g / 4 * 64 + g % 2 * 32, g % 4 / 2 * 4, 15);
        return less(
            _mm256_or_si256(q, _mm256_slli_epi16(bits_of(p + 128 + g / 4 * 32, g % 4 * 2, 3), 4)),
            32);
    }
}

#define ROW_256(TYPE, name, BYTES, HAS_MINS)                                                       \
    static void row_##name(const struct matrix *w, int64_t row, int64_t first, int64_t n,          \
                           uint16_t *y)                                                            \
    {                                                                                              \
        const uint8_t *p = block_at(w, row, first / Q8K_BLOCK, BYTES);                             \
        for (int64_t i = 0; i < n; i += Q8K_BLOCK, p += (BYTES)) {                                 \
            struct factors256 f;                                                                   \
            load_factors(GRAFT_TYPE_##TYPE, p, &f);                                                \
            TIMES(g, 8)                                                                            \
            {                                                                                      \
                const vf d[2] = {v_set1(f.d[2 * g]), v_set1(f.d[2 * g + 1])};                      \
                const vf m[2] = {v_set1(f.m[2 * g]), v_set1(f.m[2 * g + 1])};                      \
                put_32(y + i + 32 * g, group_codes(GRAFT_TYPE_##TYPE, p, g), true, d,              \
                       (HAS_MINS) ? m : NULL);                                                     \
            }                                                                                      \
        }                                                                                          \
    }
ROW_256(Q2_K, q2_k, 84, true)
ROW_256(Q3_K, q3_k, 110, false)
ROW_256(Q4_K, q4_k, 144, true)
ROW_256(Q5_K, q5_k, 176, true)
ROW_256(Q6_K, q6_k, 210, false)

#define ROW_OF(TYPE, name) [GRAFT_TYPE_##TYPE] = row_##name,
static void (*const rows_of[GRAFT_TYPE_COUNT])(const struct matrix *w, int64_t row, int64_t first,
                                               int64_t n, uint16_t *y) = {
    KERNEL_Q8_TYPES(ROW_OF) KERNEL_Q8K_TYPES(ROW_OF)};

void avx512bf16_row(const struct matrix *w, int64_t row, int64_t first, int64_t n, uint16_t *y)
{
    rows_of[w->type](w, row, first, n, y);
}

/* ---- panels ------------------------------------------------------------------------------- */

void avx512bf16_turn(const uint16_t *rows, int64_t n, uint16_t *out)
{
    for (int64_t j = 0; j < n; j += 32) { /* a pair of values moves like a float */
        vf r[16];
        TIMES(i, 16)
        {
            r[i] = _mm512_castsi512_ps(_mm512_loadu_si512(rows + i * BF16_PITCH + j));
        }
        v_transpose(r);
        TIMES(i, 16)
        {
            _mm512_storeu_ps(out + (j + 2 * i) * BF16_OUTPUTS, r[i]);
        }
    }
}

void avx512bf16_pairs(const uint16_t *a, const uint16_t *b, uint16_t *out)
{
    const __m512i low = _mm512_set_epi16(47, 15, 46, 14, 45, 13, 44, 12, 43, 11, 42, 10, 41, 9, 40,
                                         8, 39, 7, 38, 6, 37, 5, 36, 4, 35, 3, 34, 2, 33, 1, 32, 0);
    const __m512i high = _mm512_add_epi16(low, _mm512_set1_epi16(16));
    __m512i va = _mm512_loadu_si512(a), vb = _mm512_loadu_si512(b);
    _mm512_storeu_si512(out, _mm512_permutex2var_epi16(va, low, vb));
    _mm512_storeu_si512(out + 32, _mm512_permutex2var_epi16(va, high, vb));
}
