/* avx512_decode.h: what the two shapes of the AVX-512 tier's decode products share.
 *
 * Few rows (avx512_decode.c): the weights are a few streams from memory, K lies along the lanes. Many
 * rows (avx512_decode_lanes.c): sixteen or eight rows of activations lie along the lanes, and each
 * four codes of a weight serve all of them. The codes are taken apart here, once for both; and the
 * arithmetic of an output is the same in both, operation by operation:
 *
 *   s = fma(d · (float)dot, dx, s)   dot: the exact integer product of a block of 32
 *   s = fma(m, Σ x, s)               where a type has minima
 *
 * for each block in order, s being sum[(block / 4) mod 4],
 * and at the end (sum[0] + sum[1]) + (sum[2] + sum[3]). Codes are unsigned in vpdpbusd: those of Q8_0
 * gain 128, those of Q4_0 and Q5_0 keep their 8 and 16, and offset · Σ q of the activations is
 * taken from the integer product.
 */
#ifndef GRAFT_KERNELS_AVX512_DECODE_H
#define GRAFT_KERNELS_AVX512_DECODE_H

#include "avx512_vec.h"

#include "kernels/decode_tiles.h"
#include "kernels/split.h"

/* Rows up to which the few rows' shape is the faster one, and the most that it takes. */
enum { DECODE_FEW = 4 };

/* Blocks that the few rows' shape takes at once, and how many of them two vectors hold. */
enum { STEP_BLOCKS = 16, GROUP_BLOCKS = 4 };

ALWAYS_INLINE int64_t block32_bytes(graft_type type)
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

ALWAYS_INLINE bool is_mlx(graft_type type)
{
    return type == GRAFT_TYPE_MLX4 || type == GRAFT_TYPE_MLX8;
}

/* How much larger the unsigned codes are than those of the format. */
ALWAYS_INLINE int code_offset(graft_type type)
{
    return type == GRAFT_TYPE_Q4_0   ? 8
           : type == GRAFT_TYPE_Q5_0 ? 16
           : type == GRAFT_TYPE_Q8_0 ? 128
                                     : 0;
}

ALWAYS_INLINE bool has_minimum(graft_type type)
{
    return code_offset(type) == 0;
}

/* Four consecutive blocks of so many bytes lie in two vectors: the one at their beginning and one that
 * begins second_vector bytes later. FOUR: the places there of word w of each block of B bytes. */
ALWAYS_INLINE int64_t second_vector(int64_t bytes)
{
    return bytes == 34 ? 64 : 4 * bytes - 64;
}
#define PLACE(B, w) (int16_t)((w) < 32 ? (w) : (B) == 34 ? (w) : (w) + 64 - 2 * (B))
#define FOUR(B, w)                                                                                 \
    PLACE(B, w), PLACE(B, (w) + (B) / 2), PLACE(B, (w) + (B)), PLACE(B, (w) + (B) / 2 * 3)
#define EIGHT(B, w)                                                                                \
    PLACE(B, w), PLACE(B, (w) + 1), PLACE(B, (w) + 2), PLACE(B, (w) + 3), PLACE(B, (w) + 4),       \
        PLACE(B, (w) + 5), PLACE(B, (w) + 6), PLACE(B, (w) + 7)
/* The 16 bytes from word w on of each block; words v and w of each block. */
#define BYTES_OF_FOUR(B, w)                                                                        \
    {                                                                                              \
        EIGHT(B, w), EIGHT(B, (w) + (B) / 2), EIGHT(B, (w) + (B)), EIGHT(B, (w) + (B) / 2 * 3)     \
    }
#define WORDS_OF_FOUR(B, v, w)                                                                     \
    {                                                                                              \
        FOUR(B, v), FOUR(B, w)                                                                     \
    }

ALWAYS_INLINE __m512i pick_words(const uint8_t *p, int64_t bytes, __m512i places)
{
    __m512i first = _mm512_loadu_si512(p), second = _mm512_loadu_si512(p + second_vector(bytes));
    return _mm512_permutex2var_epi16(first, places, second);
}

ALWAYS_INLINE __m512i pick_bytes_of_four(const uint8_t *p, int64_t bytes, const int16_t places[32])
{
    return pick_words(p, bytes, _mm512_loadu_si512(places));
}

ALWAYS_INLINE __m128i pick_words_of_four(const uint8_t *p, int64_t bytes, const int16_t places[8])
{
    __m512i at = _mm512_castsi128_si512(_mm_loadu_si128((const __m128i *)(const void *)places));
    return _mm512_castsi512_si128(pick_words(p, bytes, at));
}

ALWAYS_INLINE void nibbles_of(__m512i v, __m512i q[2])
{
    const __m512i mask = _mm512_set1_epi8(15);
    q[0] = _mm512_and_si512(v, mask);
    q[1] = _mm512_and_si512(_mm512_srli_epi16(v, 4), mask);
}

/* Adds 16 where the fifth bit is set; pairs: the words of fifth bits, low ones first. */
ALWAYS_INLINE void add_fifth_bits(__m128i pairs, __m512i q[2])
{
    const __m512i sixteen = _mm512_set1_epi8(16);
    __mmask64 low = _cvtu64_mask64((uint64_t)_mm_cvtsi128_si64(pairs));
    __mmask64 high = _cvtu64_mask64((uint64_t)_mm_extract_epi64(pairs, 1));
    q[0] = _mm512_mask_add_epi8(q[0], low, q[0], sixteen);
    q[1] = _mm512_mask_add_epi8(q[1], high, q[1], sixteen);
}

/* Two blocks in a vector each: their first halves, then their second halves. */
ALWAYS_INLINE void bytes_of(const uint8_t *p, int64_t bytes, __m512i q[2])
{
    __m512i v[2];
    TIMES(i, 2)
    {
        __m256i a = _mm256_loadu_si256((const __m256i *)(p + (2 * i) * bytes));
        __m256i b = _mm256_loadu_si256((const __m256i *)(p + (2 * i + 1) * bytes));
        v[i] = _mm512_inserti64x4(_mm512_castsi256_si512(a), b, 1);
    }
    q[0] = _mm512_shuffle_i32x4(v[0], v[1], 0x88);
    q[1] = _mm512_shuffle_i32x4(v[0], v[1], 0xDD);
}

/* The unsigned codes of four blocks at p. In 128-bit lane l of q[0] and q[1] are values 0..15 and
 * 16..31 of block l; of MLX4, which keeps neighbours in one byte, the even and the odd values. */
ALWAYS_INLINE void codes_of_four(graft_type type, const uint8_t *p, __m512i q[2])
{
    static const int16_t q4_0[] = BYTES_OF_FOUR(18, 1), q4_1[] = BYTES_OF_FOUR(20, 2);
    static const int16_t q5_0[] = BYTES_OF_FOUR(22, 3), q5_1[] = BYTES_OF_FOUR(24, 4);
    static const int16_t fifth_0[] = WORDS_OF_FOUR(22, 1, 2), fifth_1[] = WORDS_OF_FOUR(24, 2, 3);
    switch (type) {
    case GRAFT_TYPE_Q4_0:
        nibbles_of(pick_bytes_of_four(p, 18, q4_0), q);
        break;
    case GRAFT_TYPE_Q4_1:
        nibbles_of(pick_bytes_of_four(p, 20, q4_1), q);
        break;
    case GRAFT_TYPE_Q5_0:
        nibbles_of(pick_bytes_of_four(p, 22, q5_0), q);
        add_fifth_bits(pick_words_of_four(p, 22, fifth_0), q);
        break;
    case GRAFT_TYPE_Q5_1:
        nibbles_of(pick_bytes_of_four(p, 24, q5_1), q);
        add_fifth_bits(pick_words_of_four(p, 24, fifth_1), q);
        break;
    case GRAFT_TYPE_Q8_0:
        bytes_of(p + 2, 34, q);
        TIMES(i, 2) q[i] = _mm512_xor_si512(q[i], _mm512_set1_epi8(-128));
        break;
    case GRAFT_TYPE_MLX4:
        nibbles_of(_mm512_loadu_si512(p), q);
        break;
    default: /* MLX8 */
        bytes_of(p, 32, q);
        break;
    }
}

/* The half-precision d of four GGUF blocks at p, then what follows each: their m, if they have one. */
ALWAYS_INLINE __m128i factors_of_four(graft_type type, const uint8_t *p)
{
    static const int16_t q4_0[] = WORDS_OF_FOUR(18, 0, 1), q4_1[] = WORDS_OF_FOUR(20, 0, 1);
    static const int16_t q5_0[] = WORDS_OF_FOUR(22, 0, 1), q5_1[] = WORDS_OF_FOUR(24, 0, 1);
    static const int16_t q8_0[] = WORDS_OF_FOUR(34, 0, 1);
    switch (type) {
    case GRAFT_TYPE_Q4_0:
        return pick_words_of_four(p, 18, q4_0);
    case GRAFT_TYPE_Q4_1:
        return pick_words_of_four(p, 20, q4_1);
    case GRAFT_TYPE_Q5_0:
        return pick_words_of_four(p, 22, q5_0);
    case GRAFT_TYPE_Q5_1:
        return pick_words_of_four(p, 24, q5_1);
    default:
        return pick_words_of_four(p, 34, q8_0);
    }
}

/* The blocks at p, of which `blocks` exist; fewer than four are copied to `room`, as nothing past a row
 * may be read. */
ALWAYS_INLINE const uint8_t *four_blocks(const uint8_t *p, int64_t bytes, int blocks, uint8_t *room)
{
    if (blocks >= 4)
        return p;
    memset(room, 0, (size_t)(4 * bytes));
    return memcpy(room, p, (size_t)(blocks * bytes));
}

/* The unsigned codes of four blocks of a split row, as codes_of_four has them. */
ALWAYS_INLINE void codes_of_group(graft_type type, const uint8_t *p, __m512i q[2])
{
    if (type == GRAFT_TYPE_Q4_0) {
        nibbles_of(_mm512_loadu_si512(p), q);
        return;
    }
    TIMES(i, 2) q[i] = _mm512_loadu_si512(p + 64 * i);
}

/* w = d · code + m of sixteen blocks; those of block 4 j + l are in lane 4 l + j. */
struct factors {
    __m512 d, m;
};

#define TURNED _mm512_setr_epi32(0, 4, 8, 12, 1, 5, 9, 13, 2, 6, 10, 14, 3, 7, 11, 15)

/* four[j]: factors_of_four of blocks 4 j..4 j + 3. */
ALWAYS_INLINE struct factors factors_of(graft_type type, const __m128i four[4])
{
    struct factors f = {.m = _mm512_setzero_ps()};
    __m256i d = _mm256_set_m128i(_mm_unpacklo_epi64(four[2], four[3]),
                                 _mm_unpacklo_epi64(four[0], four[1]));
    __m256i m = _mm256_set_m128i(_mm_unpackhi_epi64(four[2], four[3]),
                                 _mm_unpackhi_epi64(four[0], four[1]));
    f.d = _mm512_permutexvar_ps(TURNED, _mm512_cvtph_ps(d));
    if (has_minimum(type))
        f.m = _mm512_permutexvar_ps(TURNED, _mm512_cvtph_ps(m));
    return f;
}

/* Those of a split row, whose d are at p. */
ALWAYS_INLINE struct factors factors_of_step(const uint8_t *p)
{
    __m256i d = _mm256_loadu_si256((const __m256i *)(const void *)p);
    return (struct factors){_mm512_permutexvar_ps(TURNED, _mm512_cvtph_ps(d)), _mm512_setzero_ps()};
}

/* From group `at` on, the factors of `blocks` ≤ 16 blocks, of which 1 << shift are a group. */
ALWAYS_INLINE __m512 mlx_factors(const struct matrix *w, const void *factors, int64_t at, int shift,
                                 int blocks)
{
    const __mmask16 mask = v_mask(blocks >> shift);
    __m512 groups;
    if (w->scale_type == GRAFT_TYPE_F32) {
        groups = _mm512_maskz_loadu_ps(mask, (const float *)factors + at);
    } else {
        __m256i halves = _mm256_maskz_loadu_epi16(mask, (const uint16_t *)factors + at);
        if (w->scale_type == GRAFT_TYPE_F16)
            groups = _mm512_cvtph_ps(halves);
        else
            groups = _mm512_castsi512_ps(_mm512_slli_epi32(_mm512_cvtepu16_epi32(halves), 16));
    }
    return _mm512_permutexvar_ps(_mm512_srl_epi32(TURNED, _mm_cvtsi32_si128(shift)), groups);
}

/* Of blocks first..first+blocks of row o. */
ALWAYS_INLINE struct factors mlx_factors_of(const struct matrix *w, int64_t o, int64_t first,
                                            int blocks)
{
    const int shift = w->group == 32 ? 0 : w->group == 64 ? 1 : 2; /* blocks to groups */
    const int64_t at = (o * (w->n_in / Q8_BLOCK) + first) >> shift;
    return (struct factors){mlx_factors(w, w->scales, at, shift, blocks),
                            mlx_factors(w, w->biases, at, shift, blocks)};
}

/* `blocks` ≤ STEP_BLOCKS blocks of row o of W, the first being `first`. */
struct step {
    const struct matrix *w;
    enum matrix_layout layout; /* that of w, known when compiled */
    int64_t o, first;
    int blocks;
    const uint8_t *p;       /* the first block, or its codes */
    const uint8_t *factors; /* LAYOUT_SPLIT */
};

_Static_assert((int)SPLIT_SPAN % (int)STEP_BLOCKS == 0, "a step is within a span");

/* A whole step of row o, from block `first` on. */
ALWAYS_INLINE struct step step_of(graft_type type, enum matrix_layout layout,
                                  const struct matrix *w, int64_t o, int64_t first)
{
    const uint8_t *row = (const uint8_t *)w->data + (size_t)o * w->row_bytes;
    struct step s = {w, layout, o, first, STEP_BLOCKS, row, row};
    s.p += layout == LAYOUT_SPLIT ? split_group_at(type, first) : first * block32_bytes(type);
    s.factors += layout == LAYOUT_SPLIT ? split_factor_at(type, first) : 0;
    return s;
}

/* The codes of blocks 4 j..4 j + 3 of a step, of which there is one at least; and four[j], if they have their
 * factors beside them. */
ALWAYS_INLINE void open_four(graft_type type, const struct step *s, int j, __m512i q[2],
                             __m128i four[4])
{
    if (s->layout == LAYOUT_SPLIT) {
        codes_of_group(type, s->p + 4 * j * split_code_bytes(type), q);
        return;
    }
    const int64_t bytes = block32_bytes(type);
    uint8_t room[4 * 34];
    const uint8_t *p = four_blocks(s->p + 4 * j * bytes, bytes, s->blocks - 4 * j, room);
    codes_of_four(type, p, q);
    if (!is_mlx(type))
        four[j] = factors_of_four(type, p);
}

ALWAYS_INLINE struct factors open_factors(graft_type type, const struct step *s,
                                          const __m128i four[4])
{
    if (s->layout == LAYOUT_SPLIT)
        return factors_of_step(s->factors);
    return is_mlx(type) ? mlx_factors_of(s->w, s->o, s->first, s->blocks) : factors_of(type, four);
}

/* ---- activations -------------------------------------------------------------------------- */

/* The even bytes of a block, then the odd ones, as the codes of MLX4 lie. */
ALWAYS_INLINE __m256i even_then_odd(__m256i q)
{
    const __m256i in_lane = _mm256_broadcastsi128_si256(
        _mm_setr_epi8(0, 2, 4, 6, 8, 10, 12, 14, 1, 3, 5, 7, 9, 11, 13, 15));
    return _mm256_permute4x64_epi64(_mm256_shuffle_epi8(q, in_lane), 0xD8);
}

/* Rows of 8 words of 32 bits into columns, in place. */
ALWAYS_INLINE void transpose_8x8(__m256i r[8])
{
    __m256i a[8], b[8];
    TIMES(i, 4)
    {
        a[2 * i] = _mm256_unpacklo_epi32(r[2 * i], r[2 * i + 1]);
        a[2 * i + 1] = _mm256_unpackhi_epi32(r[2 * i], r[2 * i + 1]);
    }
    TIMES(i, 2)
    {
        b[4 * i] = _mm256_unpacklo_epi64(a[4 * i], a[4 * i + 2]);
        b[4 * i + 1] = _mm256_unpackhi_epi64(a[4 * i], a[4 * i + 2]);
        b[4 * i + 2] = _mm256_unpacklo_epi64(a[4 * i + 1], a[4 * i + 3]);
        b[4 * i + 3] = _mm256_unpackhi_epi64(a[4 * i + 1], a[4 * i + 3]);
    }
    TIMES(i, 4)
    {
        r[i] = _mm256_permute2x128_si256(b[i], b[i + 4], 0x20);
        r[i + 4] = _mm256_permute2x128_si256(b[i], b[i + 4], 0x31);
    }
}

/* Rows of W that the many rows' shape takes at once. */
enum { LANE_OUTPUTS = 8 };

/* y[t, r] = sum[r * pitch + t] of `rows` rows of W and eight rows of activations, of which n_tok exist. */
ALWAYS_INLINE void store_eight(const float *sum, int pitch, int n_tok, int rows, float *y,
                               int64_t y_stride)
{
    __m256i v[LANE_OUTPUTS];
    TIMES(r, LANE_OUTPUTS) v[r] = _mm256_loadu_si256((const __m256i *)(sum + r * pitch));
    transpose_8x8(v);
    TIMES(t, 8)
    {
        if (t < n_tok)
            _mm256_mask_storeu_epi32(y + t * y_stride, (__mmask8)((1 << rows) - 1), v[t]);
    }
}

/* The many rows' shape of a type with blocks of 32; n_tok ≤ DECODE_PACK. */
void avx512_decode_lanes(const struct matrix *w, const struct act_q8 *x, int n_tok, int64_t o_begin,
                         int64_t o_end, float *y, int64_t y_stride, void *scratch);

#endif
