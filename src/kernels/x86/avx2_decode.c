/* avx2_decode.c: the AVX2 tier's decode products of the types whose blocks are 32 values (Q4_0 to
 * Q8_0 and MLX), by integer dot products.
 *
 * Per block and output: 32 products of bytes are added in pairs and then in fours to 8 exact int32
 * lanes, converted, and added with one fused multiply-add by d · dx. The lanes are added at the end.
 * Offsets of the codes (−8, −16) are taken from the pair sums as integers; offsets m of the values
 * are added as m · Σ x in a scalar sum of their own.
 *
 * Pair sums stay within int16: codes below 32 times 127 twice, or |w| ≤ 128 times 127 twice.
 */
#include "avx2_vec.h"

#include "kernels/decode_tiles.h"

enum { Q8_ROWS = 2, Q8_TOKENS = 4 };

/* How far ahead of the block in hand the weights are asked for, in bytes. */
enum { PREFETCH_AHEAD = 1024 };

/* What a block of a type looks like to the product. */
struct block32 {
    __m256i q; /* 32 codes in the order of the activations */
    float d, m;
};

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

/* MLX nibbles: values 2j and 2j + 1 in byte j. */
ALWAYS_INLINE __m256i nibbles_in_turn(const uint8_t *p)
{
    __m256i wide = _mm256_cvtepu8_epi16(_mm_loadu_si128((const __m128i *)p));
    __m256i both = _mm256_or_si256(wide, _mm256_slli_epi16(wide, 4));
    return _mm256_and_si256(both, _mm256_set1_epi8(15));
}

ALWAYS_INLINE float mlx_factor_at(const void *factors, graft_type type, int64_t at)
{
    const uint8_t *p = factors;
    if (type == GRAFT_TYPE_F32)
        return load_f32(p + 4 * at);
    return type == GRAFT_TYPE_F16 ? LOAD_F16(p + 2 * at) : bf16_to_f32(load_u16(p + 2 * at));
}

/* d and m of an MLX block; codes of 8 bits are used less 128, so that they are signed. */
ALWAYS_INLINE void mlx_factors(const struct matrix *w, int64_t row, int64_t index, int below,
                               struct block32 *b)
{
    int64_t at = row * (w->n_in / w->group) + index * Q8_BLOCK / w->group;
    b->d = mlx_factor_at(w->scales, w->scale_type, at);
    b->m = mlx_factor_at(w->biases, w->scale_type, at) + (float)below * b->d;
}

ALWAYS_INLINE struct block32 load_block32(graft_type type, const struct matrix *w, int64_t row,
                                          const uint8_t *p, int64_t index)
{
    struct block32 b = {.m = 0};
    switch (type) {
    case GRAFT_TYPE_Q4_0:
        b.d = LOAD_F16(p);
        b.q = nibbles(p + 2);
        break;
    case GRAFT_TYPE_Q4_1:
        b.d = LOAD_F16(p);
        b.m = LOAD_F16(p + 2);
        b.q = nibbles(p + 4);
        break;
    case GRAFT_TYPE_Q5_0:
        b.d = LOAD_F16(p);
        b.q = _mm256_or_si256(nibbles(p + 6), fifth_bits_of(p + 2));
        break;
    case GRAFT_TYPE_Q5_1:
        b.d = LOAD_F16(p);
        b.m = LOAD_F16(p + 2);
        b.q = _mm256_or_si256(nibbles(p + 8), fifth_bits_of(p + 4));
        break;
    case GRAFT_TYPE_Q8_0:
        b.d = LOAD_F16(p);
        b.q = _mm256_loadu_si256((const __m256i *)(p + 2));
        break;
    case GRAFT_TYPE_MLX4:
        mlx_factors(w, row, index, 0, &b);
        b.q = nibbles_in_turn(p);
        break;
    default: /* MLX8 */
        mlx_factors(w, row, index, 128, &b);
        b.q = _mm256_xor_si256(_mm256_loadu_si256((const __m256i *)p), _mm256_set1_epi8(-128));
        break;
    }
    return b;
}

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

/* Sums of 2 products each. `less`: the offset times the activations, summed alike. */
ALWAYS_INLINE __m256i pair_sums(graft_type type, __m256i q, __m256i x, __m256i less)
{
    if (codes_are_signed(type))
        return _mm256_maddubs_epi16(_mm256_abs_epi8(q), _mm256_sign_epi8(x, q));
    __m256i pairs = _mm256_maddubs_epi16(q, x);
    return code_offset(type) ? _mm256_sub_epi16(pairs, less) : pairs;
}

ALWAYS_INLINE void tile32(graft_type type, const struct matrix *w, const struct act_q8 *x,
                          int64_t o, float *y, int64_t y_stride, int rows, int tokens)
{
    const int64_t n_block = w->n_in / Q8_BLOCK, bytes = block32_bytes(type);
    const uint8_t *p = (const uint8_t *)w->data + (size_t)o * w->row_bytes;
    const __m256i ones = _mm256_set1_epi16(1);
    const __m256i offset = _mm256_set1_epi8((char)code_offset(type));
    __m256 sum[Q8_ROWS][Q8_TOKENS];
    float low[Q8_ROWS][Q8_TOKENS];
    UNROLL for (int r = 0; r < rows; r++) UNROLL for (int t = 0; t < tokens; t++)
    {
        sum[r][t] = _mm256_setzero_ps();
        low[r][t] = 0;
    }
    for (int64_t b = 0; b < n_block; b++, p += bytes) {
        struct block32 wb[Q8_ROWS];
        UNROLL for (int r = 0; r < rows; r++)
        {
            const uint8_t *at = p + (size_t)r * w->row_bytes;
            prefetch(at + PREFETCH_AHEAD);
            wb[r] = load_block32(type, w, o + r, at, b);
        }
        UNROLL for (int t = 0; t < tokens; t++)
        {
            const struct act_q8 *xb = x + t * n_block + b;
            __m256i xq = _mm256_loadu_si256((const __m256i *)xb->q);
            __m256i less = _mm256_maddubs_epi16(offset, xq);
            float x_sum = has_minimum(type) ? xb->scale * (float)xb->sum : 0;
            UNROLL for (int r = 0; r < rows; r++)
            {
                __m256i dots = _mm256_madd_epi16(pair_sums(type, wb[r].q, xq, less), ones);
                sum[r][t] = _mm256_fmadd_ps(_mm256_cvtepi32_ps(dots),
                                            _mm256_set1_ps(wb[r].d * xb->scale), sum[r][t]);
                if (has_minimum(type))
                    low[r][t] = __builtin_fmaf(wb[r].m, x_sum, low[r][t]);
            }
        }
    }
    UNROLL for (int r = 0; r < rows; r++) UNROLL for (int t = 0; t < tokens; t++)
        y[t * y_stride + o + r] = v_sum(sum[r][t]) + low[r][t];
}

#define DECODE_32(TYPE, name)                                                                      \
    void avx2_linear_decode_##name(const struct matrix *w, const void *x, int n_tok,               \
                                   int64_t o_begin, int64_t o_end, float *y, int64_t y_stride)     \
    {                                                                                              \
        const int64_t n_block = w->n_in / Q8_BLOCK;                                                \
        DECODE_TILES(tile32, GRAFT_TYPE_##TYPE, Q8_ROWS, Q8_TOKENS, struct act_q8, n_block)        \
    }
KERNEL_Q8_TYPES(DECODE_32)
