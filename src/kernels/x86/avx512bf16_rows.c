/* avx512bf16_rows.c: rows of quantised weights as bf16: dequantised by the steps of dequantize_body.h
 * and then rounded, so a value here is f32_to_bf16 of what the tier dequantises, to the bit. (Where
 * that is denormal it may be 0, which is what the unit takes it for.)
 *
 * The panels of avx512bf16 and amx are made of these, and filling them is what is lost beside the
 * product. Codes of up to 5 bits with one scale give so few values that these are computed and rounded
 * first, and the codes then choose among 32 of them; wider codes are converted one by one.
 */
#include "avx512bf16.h"

#include "avx512_vec.h"
#include "kernels/blocks.h"
#include "kernels/panels.h"

typedef int32_t lanes __attribute__((vector_size(64)));
static const lanes LANE = {0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15};

ALWAYS_INLINE __m512i round_32(vf low, vf high)
{
    return (__m512i)_mm512_cvtne2ps_pbh(high, low);
}

/* A bf16 as the float that it is. */
ALWAYS_INLINE vf floats_of(__m256i halves)
{
    return _mm512_castsi512_ps(_mm512_slli_epi32(_mm512_cvtepu16_epi32(halves), 16));
}

ALWAYS_INLINE void split_32(vf low, vf high, uint16_t *large, uint16_t *small)
{
    const __m512i first = round_32(low, high);
    const vf low_rest = v_sub(low, floats_of(_mm512_castsi512_si256(first)));
    const vf high_rest = v_sub(high, floats_of(_mm512_extracti64x4_epi64(first, 1)));
    _mm512_storeu_si512(large, first);
    _mm512_storeu_si512(small, round_32(low_rest, high_rest));
}

/* The second 16 of fewer than 32 values. */
ALWAYS_INLINE vf load_high(const float *x, int64_t left)
{
    return left > VF ? v_load_n(x + VF, left - VF) : v_zero();
}

void avx512bf16_round(const float *x, int64_t n, uint16_t *out)
{
    int64_t i = 0;
    for (; i + BF16_STEP <= n; i += BF16_STEP)
        _mm512_storeu_si512(out + i, round_32(v_load(x + i), v_load(x + i + VF)));
    if (i < n)
        _mm512_storeu_si512(out + i, round_32(v_load_some(x + i, n - i), load_high(x + i, n - i)));
}

void avx512bf16_split(const float *x, int64_t n, uint16_t *large, uint16_t *small)
{
    int64_t i = 0;
    for (; i + BF16_STEP <= n; i += BF16_STEP)
        split_32(v_load(x + i), v_load(x + i + VF), large + i, small + i);
    if (i < n)
        split_32(v_load_some(x + i, n - i), load_high(x + i, n - i), large + i, small + i);
}

/* ---- codes to values ---------------------------------------------------------------------- */

/* 32 of the 32 values in the table. */
ALWAYS_INLINE void put_chosen(uint16_t *y, __m256i codes, __m512i table)
{
    _mm512_storeu_si512(y, _mm512_permutexvar_epi16(_mm512_cvtepu8_epi16(codes), table));
}

/* 32 values d · q + m, each factor once per 16. */
ALWAYS_INLINE void put_converted(uint16_t *y, __m256i q, bool is_signed, const vf d[2],
                                 const vf m[2])
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
    _mm512_storeu_si512(y, round_32(v[0], v[1]));
}

ALWAYS_INLINE __m256i load_32(const uint8_t *p)
{
    return _mm256_loadu_si256((const __m256i *)p);
}

ALWAYS_INLINE __m256i plus(__m256i codes, int n)
{
    return _mm256_add_epi8(codes, _mm256_set1_epi8((char)n));
}

/* ---- blocks of 32 ------------------------------------------------------------------------- */

ALWAYS_INLINE int64_t bytes_of_32(graft_type type)
{
    switch (type) {
    case GRAFT_TYPE_Q4_0:
        return 18;
    case GRAFT_TYPE_Q4_1:
        return 20;
    case GRAFT_TYPE_Q5_0:
        return 22;
    case GRAFT_TYPE_Q5_1:
        return 24;
    case GRAFT_TYPE_Q8_0:
        return 34;
    case GRAFT_TYPE_MLX4:
        return 16;
    default: /* MLX8 */
        return 32;
    }
}

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

/* The codes of a block, from 0. */
ALWAYS_INLINE __m256i codes_of_32(graft_type type, const uint8_t *p)
{
    switch (type) {
    case GRAFT_TYPE_Q4_0:
        return nibbles_of(p + 2);
    case GRAFT_TYPE_Q4_1:
        return nibbles_of(p + 4);
    case GRAFT_TYPE_Q5_0:
        return _mm256_or_si256(nibbles_of(p + 6), fifth_bits_of(p + 2));
    case GRAFT_TYPE_Q5_1:
        return _mm256_or_si256(nibbles_of(p + 8), fifth_bits_of(p + 4));
    case GRAFT_TYPE_Q8_0:
        return load_32(p + 2);
    case GRAFT_TYPE_MLX4:
        return nibbles_in_turn(p);
    default: /* MLX8 */
        return load_32(p);
    }
}

ALWAYS_INLINE vf spread_f16(const uint8_t *p)
{
    return _mm512_cvtph_ps(_mm256_set1_epi16((int16_t)load_u16(p)));
}

/* w = d · q + m */
struct factors {
    vf d, m;
};

/* A row of blocks. */
struct row_32 {
    const struct matrix *w;
    enum matrix_layout layout; /* that of w, known when compiled */
    int64_t row, first;        /* block */
    const uint8_t *p;          /* LAYOUT_FILE: the first block; LAYOUT_SPLIT: the row */
};

/* The codes of a block of the row in hand, from 0 or signed. */
ALWAYS_INLINE __m256i row_codes(graft_type type, const struct row_32 *r, int64_t index)
{
    if (r->layout == LAYOUT_FILE)
        return codes_of_32(type, r->p + index * bytes_of_32(type));
    const struct split_place at = split_place(type, r->first + index);
    if (type == GRAFT_TYPE_Q4_0)
        return nibbles_of(r->p + at.low);
    const __m256i codes = _mm256_set_m128i(_mm_loadu_si128((const __m128i *)(r->p + at.high)),
                                           _mm_loadu_si128((const __m128i *)(r->p + at.low)));
    return _mm256_xor_si256(codes, _mm256_set1_epi8(-128));
}

/* Of block `index` of the row in hand. */
ALWAYS_INLINE struct factors factors_of_32(graft_type type, const struct row_32 *r, int64_t index)
{
    const uint8_t *p = r->p + index * bytes_of_32(type);
    if (r->layout == LAYOUT_SPLIT)
        p = r->p + split_place(type, r->first + index).factor;
    if (type == GRAFT_TYPE_MLX4 || type == GRAFT_TYPE_MLX8)
        return (struct factors){v_set1(mlx_factor(r->w, r->w->scales, r->row, r->first + index)),
                                v_set1(mlx_factor(r->w, r->w->biases, r->row, r->first + index))};
    if (type == GRAFT_TYPE_Q4_1 || type == GRAFT_TYPE_Q5_1)
        return (struct factors){spread_f16(p), spread_f16(p + 2)};
    return (struct factors){spread_f16(p), v_zero()};
}

/* The values of 16 codes from `code`. */
ALWAYS_INLINE vf levels_of_32(graft_type type, struct factors f, int code)
{
    int offset = type == GRAFT_TYPE_Q4_0 ? 8 : type == GRAFT_TYPE_Q5_0 ? 16 : 0;
    vf v = v_mul(f.d, _mm512_cvtepi32_ps((__m512i)(LANE + (code - offset))));
    return offset ? v : v_add(v, f.m);
}

ALWAYS_INLINE void fill_row_32(graft_type type, const struct row_32 *r, int64_t n_block,
                               uint16_t *y)
{
    const bool nibbles =
        type == GRAFT_TYPE_Q4_0 || type == GRAFT_TYPE_Q4_1 || type == GRAFT_TYPE_MLX4;
    int64_t b = 0;
    for (; nibbles && b + 2 <= n_block; b += 2, y += 64) { /* one table for two */
        __m512i table = round_32(levels_of_32(type, factors_of_32(type, r, b), 0),
                                 levels_of_32(type, factors_of_32(type, r, b + 1), 0));
        put_chosen(y, row_codes(type, r, b), table);
        put_chosen(y + 32, plus(row_codes(type, r, b + 1), 16), table);
    }
    for (; b < n_block; b++, y += 32) {
        const struct factors f = factors_of_32(type, r, b);
        const vf d[2] = {f.d, f.d}, m[2] = {f.m, f.m};
        if (type == GRAFT_TYPE_Q8_0)
            put_converted(y, row_codes(type, r, b), true, d, NULL);
        else if (type == GRAFT_TYPE_MLX8)
            put_converted(y, row_codes(type, r, b), false, d, m);
        else
            put_chosen(y, row_codes(type, r, b),
                       round_32(levels_of_32(type, f, 0), levels_of_32(type, f, 16)));
    }
}

#define ROW_32(TYPE, name)                                                                         \
    static void row_##name(const struct matrix *w, int64_t row, int64_t first, int64_t n,          \
                           uint16_t *y)                                                            \
    {                                                                                              \
        const graft_type type = GRAFT_TYPE_##TYPE;                                                 \
        const int64_t block = first / Q8_BLOCK;                                                    \
        struct row_32 r = {w, LAYOUT_FILE, row, block,                                             \
                           block_at(w, row, block, bytes_of_32(type))};                            \
        if (split_code_bytes(type) && w->layout == LAYOUT_SPLIT) {                                 \
            r.layout = LAYOUT_SPLIT;                                                               \
            r.p = block_at(w, row, 0, 0);                                                          \
            fill_row_32(type, &r, n / Q8_BLOCK, y);                                                \
        } else {                                                                                   \
            fill_row_32(type, &r, n / Q8_BLOCK, y);                                                \
        }                                                                                          \
    }
KERNEL_Q8_TYPES(ROW_32)

/* ---- blocks of 256 (layouts: blocks.h) ----------------------------------------------------- */

ALWAYS_INLINE vf bytes_to_floats(__m128i bytes)
{
    return _mm512_cvtepi32_ps(_mm512_cvtepi8_epi32(bytes));
}

/* d · scale and −(dmin · min) of 16 scales and mins in bytes, each for 16 values. */
ALWAYS_INLINE struct factors make_factors(float d, __m128i scales, float dmin, __m128i mins)
{
    return (struct factors){v_mul(v_set1(d), bytes_to_floats(scales)),
                            v_sub(v_zero(), v_mul(v_set1(dmin), bytes_to_floats(mins)))};
}

/* Eight 6-bit scales and mins in 12 bytes, each for 32 values. */
ALWAYS_INLINE struct factors factors_k4(const uint8_t *p)
{
    uint32_t a = load_u32(p + 4), b = load_u32(p + 8), c = load_u32(p + 12);
    uint32_t scales_high = (c & 0x0f0f0f0f) | (a >> 2 & 0x30303030);
    uint32_t mins_high = (c >> 4 & 0x0f0f0f0f) | (b >> 2 & 0x30303030);
    __m128i scales = _mm_set_epi32(0, 0, (int)scales_high, (int)(a & 0x3f3f3f3f));
    __m128i mins = _mm_set_epi32(0, 0, (int)mins_high, (int)(b & 0x3f3f3f3f));
    return make_factors(LOAD_F16(p), _mm_unpacklo_epi8(scales, scales), LOAD_F16(p + 2),
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

ALWAYS_INLINE struct factors factors_of_256(graft_type type, const uint8_t *p)
{
    const __m128i nibble = _mm_set1_epi8(15), none = _mm_setzero_si128();
    __m128i bytes;
    switch (type) {
    case GRAFT_TYPE_Q2_K:
        bytes = _mm_loadu_si128((const __m128i *)p);
        return make_factors(LOAD_F16(p + 80), _mm_and_si128(bytes, nibble), LOAD_F16(p + 82),
                            _mm_and_si128(_mm_srli_epi16(bytes, 4), nibble));
    case GRAFT_TYPE_Q3_K:
        return make_factors(LOAD_F16(p + 108), scales_q3_k(p + 96), 0, none);
    case GRAFT_TYPE_Q6_K:
        bytes = _mm_loadu_si128((const __m128i *)(p + 192));
        return make_factors(LOAD_F16(p + 208), bytes, 0, none);
    default: /* Q4_K, Q5_K */
        return factors_k4(p);
    }
}

/* 32 bytes shifted right, and what of each the mask keeps. */
ALWAYS_INLINE __m256i bits_of(const uint8_t *p, int shift, char mask)
{
    return _mm256_and_si256(_mm256_srli_epi16(load_32(p), shift), _mm256_set1_epi8(mask));
}

/* 2^to in each byte where bit `from` is set. */
ALWAYS_INLINE __m256i moved_bit(const uint8_t *p, int from, int to)
{
    __mmask32 set = _mm256_test_epi8_mask(load_32(p), _mm256_set1_epi8((char)(1 << from)));
    return _mm256_maskz_set1_epi8(set, (char)(1 << to));
}

/* The 32 codes of group g, from 0. */
ALWAYS_INLINE __m256i codes_of_256(graft_type type, const uint8_t *p, int g)
{
    switch (type) {
    case GRAFT_TYPE_Q2_K:
        return bits_of(p + 16 + g / 4 * 32, g % 4 * 2, 3);
    case GRAFT_TYPE_Q3_K:
        return _mm256_or_si256(bits_of(p + 32 + g / 4 * 32, g % 4 * 2, 3), moved_bit(p, g, 2));
    case GRAFT_TYPE_Q4_K:
        return bits_of(p + 16 + g / 2 * 32, g % 2 * 4, 15);
    case GRAFT_TYPE_Q5_K:
        return _mm256_or_si256(bits_of(p + 48 + g / 2 * 32, g % 2 * 4, 15),
                               moved_bit(p + 16, g, 4));
    default: /* Q6_K */
        return _mm256_or_si256(bits_of(p + g / 4 * 64 + g % 2 * 32, g % 4 / 2 * 4, 15),
                               _mm256_slli_epi16(bits_of(p + 128 + g / 4 * 32, g % 4 * 2, 3), 4));
    }
}

/* log2 of the codes that a scale has; the scales of Q4_K and Q5_K stand twice. */
ALWAYS_INLINE int code_bits(graft_type type)
{
    return type == GRAFT_TYPE_Q2_K   ? 2
           : type == GRAFT_TYPE_Q3_K ? 3
           : type == GRAFT_TYPE_Q4_K ? 4
                                     : 5;
}

ALWAYS_INLINE bool scale_per_32(graft_type type)
{
    return type == GRAFT_TYPE_Q4_K || type == GRAFT_TYPE_Q5_K;
}

/* Values 16 · part and on, when those of all codes of the first scale come first, then those of the
 * second, and so on. */
ALWAYS_INLINE vf levels_of_256(graft_type type, const struct factors *f, int part)
{
    const int bits = code_bits(type), offset = type == GRAFT_TYPE_Q3_K ? 4 : 0;
    const lanes at = LANE + 16 * part;
    const __m512i scale = (__m512i)(at >> bits << (int)scale_per_32(type));
    const vf codes = _mm512_cvtepi32_ps((__m512i)((at & ((1 << bits) - 1)) - offset));
    vf v = v_mul(_mm512_permutexvar_ps(scale, f->d), codes);
    return offset ? v : v_add(v, _mm512_permutexvar_ps(scale, f->m));
}

ALWAYS_INLINE void fill_chosen_256(graft_type type, const uint8_t *p, uint16_t *y)
{
    /* Groups that share a table, and where the values of a group's halves begin in it. */
    const int bits = code_bits(type), sharing = scale_per_32(type) ? 32 >> bits : 16 >> bits;
    const struct factors f = factors_of_256(type, p);
    __m512i table = _mm512_setzero_si512();
    TIMES(g, 8)
    {
        const int t = g / sharing, low = g % sharing * (32 / sharing);
        const int high = scale_per_32(type) ? low : low + (1 << bits);
        const __m256i begin = _mm256_set_m128i(_mm_set1_epi8((char)high), _mm_set1_epi8((char)low));
        if (g % sharing == 0)
            table = round_32(levels_of_256(type, &f, 2 * t), levels_of_256(type, &f, 2 * t + 1));
        put_chosen(y + 32 * g, _mm256_add_epi8(codes_of_256(type, p, g), begin), table);
    }
}

ALWAYS_INLINE void fill_q6_k(const uint8_t *p, uint16_t *y)
{
    const struct factors f = factors_of_256(GRAFT_TYPE_Q6_K, p);
    float scale[16];
    v_store(scale, f.d);
    TIMES(g, 8)
    {
        const vf d[2] = {v_set1(scale[2 * g]), v_set1(scale[2 * g + 1])};
        put_converted(y + 32 * g, plus(codes_of_256(GRAFT_TYPE_Q6_K, p, g), -32), true, d, NULL);
    }
}

#define ROW_256(TYPE, name)                                                                        \
    static void row_##name(const struct matrix *w, int64_t row, int64_t first, int64_t n,          \
                           uint16_t *y)                                                            \
    {                                                                                              \
        const int64_t bytes = (int64_t)type_traits(GRAFT_TYPE_##TYPE)->block_bytes;                \
        const uint8_t *p = block_at(w, row, first / Q8K_BLOCK, bytes);                             \
        for (int64_t i = 0; i < n; i += Q8K_BLOCK, p += bytes) {                                   \
            if (GRAFT_TYPE_##TYPE == GRAFT_TYPE_Q6_K)                                              \
                fill_q6_k(p, y + i);                                                               \
            else                                                                                   \
                fill_chosen_256(GRAFT_TYPE_##TYPE, p, y + i);                                      \
        }                                                                                          \
    }
KERNEL_Q8K_TYPES(ROW_256)

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
            r[i] = _mm512_castsi512_ps(_mm512_loadu_si512(rows + i * BF16_ROW_PITCH + j));
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

/* ---- floats for outer products ------------------------------------------------------------ */

void avx512bf16_columns(const float *x, int64_t x_stride, int64_t n_row, int64_t n, int64_t pitch,
                        uint16_t *large, uint16_t *small)
{
    for (int64_t j = 0; j < n; j += 16) {
        vf r[16];
        TIMES(i, 16)
        {
            r[i] = v_zero();
            if (i < n_row)
                r[i] = v_load_some(x + i * x_stride + j, n - j);
        }
        v_transpose(r);
        TIMES(i, 16)
        {
            if (j + i < n) {
                __m256i first = (__m256i)_mm512_cvtneps_pbh(r[i]);
                vf back = _mm512_castsi512_ps(_mm512_slli_epi32(_mm512_cvtepu16_epi32(first), 16));
                _mm256_storeu_si256((__m256i *)(large + (j + i) * pitch), first);
                if (small)
                    _mm256_storeu_si256((__m256i *)(small + (j + i) * pitch),
                                        (__m256i)_mm512_cvtneps_pbh(v_sub(r[i], back)));
            }
        }
    }
}

void avx512bf16_round_pairs(const float *a, const float *b, int64_t n, uint16_t *out)
{
    TIMES(h, 2)
    {
        int64_t left = n - 16 * h;
        vf first = v_zero(), second = v_zero();
        if (left > 0)
            first = v_load_some(a + 16 * h, left);
        if (left > 0 && b)
            second = v_load_some(b + 16 * h, left);
        _mm512_storeu_si512(out + 32 * h, avx512bf16_turn_pair(first, second));
    }
}
