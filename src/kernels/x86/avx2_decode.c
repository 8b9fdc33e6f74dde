/* avx2_decode.c: the AVX2 tier's decode products of the types whose blocks are 32 values (Q4_0 to
 * Q8_0 and MLX), by integer dot products.
 *
 * Per block and output: 32 products of bytes are added in pairs and then in fours to 8 exact int32
 * lanes, converted, and added with one fused multiply-add by d · dx. The lanes are added at the end.
 * Offsets of the codes (−8, −16) are taken from the pair sums as integers; offsets m of the values
 * are added as m · Σ x in a sum of their own.
 *
 * Pair sums stay within int16: codes below 32 times 127 twice, or |w| ≤ 128 times 127 twice.
 */
#include "avx2_vec.h"

#include "kernels/decode_tiles.h"

enum { Q8_TOKENS = 4 };

/* How far ahead of the block in hand the weights are asked for, in bytes. */
enum { PREFETCH_AHEAD = 4096 };

/* w = d · q + m; d in all lanes, m in the first. */
struct factors {
    __m256 d;
    __m128 m;
};

static inline int64_t block32_bytes(graft_type type)
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
ALWAYS_INLINE __m256i nibbles(const uint8_t *p)
{
    __m256i twice = _mm256_broadcastsi128_si256(_mm_loadu_si128((const __m128i *)p));
    __m256i shift = _mm256_setr_epi64x(0, 0, 4, 4);
    return _mm256_and_si256(_mm256_srlv_epi64(twice, shift), _mm256_set1_epi8(15));
}

/* 16 in each byte whose bit is set in the word. */
ALWAYS_INLINE __m256i fifth_bits_of(const uint8_t *p)
{
    const __m256i spread =
        _mm256_setr_epi64x(0, 0x0101010101010101, 0x0202020202020202, 0x0303030303030303);
    const __m256i bit = _mm256_set1_epi64x((int64_t)0x8040201008040201);
    __m256i bytes = _mm256_shuffle_epi8(_mm256_set1_epi32((int)load_u32(p)), spread);
    __m256i set = _mm256_cmpeq_epi8(_mm256_and_si256(bytes, bit), bit);
    return _mm256_and_si256(set, _mm256_set1_epi8(16));
}

/* Two blocks of MLX4: values 2j and 2j + 1 in byte j. */
ALWAYS_INLINE void nibbles_in_turn(const uint8_t *p, __m256i q[2])
{
    __m256i v = _mm256_loadu_si256((const __m256i *)p), mask = _mm256_set1_epi8(15);
    __m256i low = _mm256_and_si256(v, mask);
    __m256i high = _mm256_and_si256(_mm256_srli_epi16(v, 4), mask);
    __m256i first = _mm256_unpacklo_epi8(low, high); /* 16 values of either block */
    __m256i second = _mm256_unpackhi_epi8(low, high);
    q[0] = _mm256_permute2x128_si256(first, second, 0x20);
    q[1] = _mm256_permute2x128_si256(first, second, 0x31);
}

/* A row of W: where its blocks begin, and for MLX its factors and log2 of the blocks of a group. */
struct row32 {
    const uint8_t *blocks, *scales, *biases;
    graft_type scale_type;
    int group_shift;
};

ALWAYS_INLINE struct row32 row_of(graft_type type, const struct matrix *w, int64_t o)
{
    struct row32 row = {.blocks = (const uint8_t *)w->data + (size_t)o * w->row_bytes};
    if (type == GRAFT_TYPE_MLX4 || type == GRAFT_TYPE_MLX8) {
        int64_t at = o * (w->n_in / w->group) * (w->scale_type == GRAFT_TYPE_F32 ? 4 : 2);
        row.scales = (const uint8_t *)w->scales + at;
        row.biases = (const uint8_t *)w->biases + at;
        row.scale_type = w->scale_type;
        row.group_shift = w->group == 32 ? 0 : w->group == 64 ? 1 : 2;
    }
    return row;
}

/* A half-precision factor in all lanes. */
ALWAYS_INLINE __m256 spread_f16(const uint8_t *p)
{
    return _mm256_cvtph_ps(_mm_set1_epi16((int16_t)load_u16(p)));
}

ALWAYS_INLINE __m256 mlx_factor_at(const uint8_t *factors, graft_type type, int64_t at)
{
    if (type == GRAFT_TYPE_F32)
        return _mm256_set1_ps(load_f32(factors + 4 * at));
    if (type == GRAFT_TYPE_F16)
        return spread_f16(factors + 2 * at);
    return _mm256_set1_ps(bf16_to_f32(load_u16(factors + 2 * at)));
}

/* The factors of a block. Of the offset types m is part of the codes; MLX codes of 8 bits are used
 * less 128, so that they are signed. */
ALWAYS_INLINE struct factors load_factors(graft_type type, const struct row32 *row, int64_t index)
{
    const uint8_t *p = row->blocks + index * block32_bytes(type);
    struct factors f = {.m = _mm_setzero_ps()};
    if (type == GRAFT_TYPE_MLX4 || type == GRAFT_TYPE_MLX8) {
        int64_t at = index >> row->group_shift;
        f.d = mlx_factor_at(row->scales, row->scale_type, at);
        f.m = _mm256_castps256_ps128(mlx_factor_at(row->biases, row->scale_type, at));
        if (type == GRAFT_TYPE_MLX8)
            f.m = _mm_fmadd_ps(_mm_set1_ps(128), _mm256_castps256_ps128(f.d), f.m);
        return f;
    }
    f.d = spread_f16(p);
    if (type == GRAFT_TYPE_Q4_1 || type == GRAFT_TYPE_Q5_1)
        f.m = _mm256_castps256_ps128(spread_f16(p + 2));
    return f;
}

/* The 32 codes of each of one or two blocks at p, in the order of the activations. */
ALWAYS_INLINE void load_codes(graft_type type, const uint8_t *p, int blocks, __m256i q[2])
{
    if (type == GRAFT_TYPE_MLX4 && blocks == 2) {
        nibbles_in_turn(p, q);
        return;
    }
    TIMES(i, blocks)
    {
        const uint8_t *at = p + i * block32_bytes(type);
        uint8_t single[32] = {0};
        __m256i both[2];
        switch (type) {
        case GRAFT_TYPE_Q4_0:
            q[i] = nibbles(at + 2);
            break;
        case GRAFT_TYPE_Q4_1:
            q[i] = nibbles(at + 4);
            break;
        case GRAFT_TYPE_Q5_0:
            q[i] = _mm256_or_si256(nibbles(at + 6), fifth_bits_of(at + 2));
            break;
        case GRAFT_TYPE_Q5_1:
            q[i] = _mm256_or_si256(nibbles(at + 8), fifth_bits_of(at + 4));
            break;
        case GRAFT_TYPE_Q8_0:
            q[i] = _mm256_loadu_si256((const __m256i *)(at + 2));
            break;
        case GRAFT_TYPE_MLX4: /* the last block of a row */
            memcpy(single, at, 16);
            nibbles_in_turn(single, both);
            q[i] = both[0];
            break;
        default: /* MLX8 */
            q[i] = _mm256_loadu_si256((const __m256i *)at);
            q[i] = _mm256_xor_si256(q[i], _mm256_set1_epi8(-128));
            break;
        }
    }
}

/* What is taken from every code. */
ALWAYS_INLINE int code_offset(graft_type type)
{
    return type == GRAFT_TYPE_Q4_0 ? 8 : type == GRAFT_TYPE_Q5_0 ? 16 : 0;
}

ALWAYS_INLINE bool codes_are_signed(graft_type type)
{
    return type == GRAFT_TYPE_Q8_0 || type == GRAFT_TYPE_MLX8;
}

ALWAYS_INLINE bool has_minimum(graft_type type)
{
    return !code_offset(type) && type != GRAFT_TYPE_Q8_0;
}

/* Sums of 2 products each. */
ALWAYS_INLINE __m256i pair_sums(graft_type type, __m256i q, __m256i x)
{
    if (codes_are_signed(type))
        return _mm256_maddubs_epi16(_mm256_abs_epi8(q), _mm256_sign_epi8(x, q));
    __m256i pairs = _mm256_maddubs_epi16(q, x);
    if (!code_offset(type))
        return pairs;
    __m256i offset = _mm256_set1_epi8((char)code_offset(type));
    return _mm256_sub_epi16(pairs, _mm256_maddubs_epi16(offset, x));
}

/* The codes q of block `index`, with its factors f, times that block of each token, into sum and low
 * [tokens]. */
ALWAYS_INLINE void step32(graft_type type, __m256i q, const struct factors *f,
                          const struct act_q8 *x, int64_t x_step, int tokens, __m256 *sum,
                          __m128 *low)
{
    TIMES(t, tokens)
    {
        const struct act_q8 *xb = x + t * x_step;
        __m256i xq = _mm256_loadu_si256((const __m256i *)xb->q);
        __m256i dots = _mm256_madd_epi16(pair_sums(type, q, xq), _mm256_set1_epi16(1));
        __m256 scale = _mm256_mul_ps(f->d, _mm256_set1_ps(xb->scale));
        sum[t] = _mm256_fmadd_ps(_mm256_cvtepi32_ps(dots), scale, sum[t]);
        if (has_minimum(type))
            low[t] = _mm_fmadd_ss(f->m, _mm_set_ss(xb->sum), low[t]);
    }
}

/* Two sums taken in turn, so that one multiply-add need not wait for the one before. */
ALWAYS_INLINE void tile32(graft_type type, const struct matrix *w, const struct act_q8 *x,
                          int64_t o, float *y, int64_t y_stride, int rows, int tokens)
{
    const int64_t n_block = w->n_in / Q8_BLOCK, bytes = block32_bytes(type);
    const struct row32 row = row_of(type, w, o);
    const bool mlx = type == GRAFT_TYPE_MLX4 || type == GRAFT_TYPE_MLX8;
    __m256 even[Q8_TOKENS], odd[Q8_TOKENS];
    __m128 low[Q8_TOKENS];
    __m256i q[2];
    int64_t b = 0;
    (void)rows; /* always 1: the activations of many tokens are smaller than the weights */
    TIMES(t, tokens)
    {
        even[t] = odd[t] = _mm256_setzero_ps();
        low[t] = _mm_setzero_ps();
    }
    for (; b + 2 <= n_block; b += 2) {
        struct factors f = load_factors(type, &row, b);
        load_codes(type, row.blocks + b * bytes, 2, q);
        prefetch(row.blocks + b * bytes + PREFETCH_AHEAD);
        if (bytes >= 32)
            prefetch(row.blocks + b * bytes + PREFETCH_AHEAD + 64);
        step32(type, q[0], &f, x + b, n_block, tokens, even, low);
        if (!mlx || row.group_shift == 0)
            f = load_factors(type, &row, b + 1);
        step32(type, q[1], &f, x + b + 1, n_block, tokens, odd, low);
    }
    if (b < n_block) {
        struct factors f = load_factors(type, &row, b);
        load_codes(type, row.blocks + b * bytes, 1, q);
        step32(type, q[0], &f, x + b, n_block, tokens, even, low);
    }
    TIMES(t, tokens)
    {
        y[t * y_stride + o] = v_sum(_mm256_add_ps(even[t], odd[t])) + _mm_cvtss_f32(low[t]);
    }
}

#define DECODE_32(TYPE, name)                                                                      \
    void avx2_linear_decode_##name(const struct matrix *w, const void *x, int n_tok,               \
                                   int64_t o_begin, int64_t o_end, float *y, int64_t y_stride)     \
    {                                                                                              \
        const int64_t n_block = w->n_in / Q8_BLOCK;                                                \
        DECODE_TILES(tile32, GRAFT_TYPE_##TYPE, 1, Q8_TOKENS, struct act_q8, n_block)              \
    }
KERNEL_Q8_TYPES(DECODE_32)
