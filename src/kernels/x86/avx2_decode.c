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

/* Of two blocks side by side, w = d · q + m: each d in all lanes, the two m in the first two lanes. */
struct factors {
    __m256 d[2];
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

/* A half-precision factor in all lanes. */
ALWAYS_INLINE __m256 spread_f16(const uint8_t *p)
{
    return _mm256_cvtph_ps(_mm_set1_epi16((int16_t)load_u16(p)));
}

/* The factors of one or two GGUF blocks; an offset of the codes themselves is no m. */
ALWAYS_INLINE struct factors load_factors(graft_type type, const uint8_t *p, int blocks)
{
    const int64_t bytes = block32_bytes(type);
    struct factors f = {.m = _mm_setzero_ps()};
    TIMES(i, blocks)
    {
        f.d[i] = spread_f16(p + i * bytes);
    }
    if (type == GRAFT_TYPE_Q4_1 || type == GRAFT_TYPE_Q5_1) {
        __m128i halves = _mm_cvtsi32_si128(load_u16(p + 2));
        if (blocks == 2)
            halves = _mm_insert_epi16(halves, load_u16(p + bytes + 2), 1);
        f.m = _mm_cvtph_ps(halves);
    }
    return f;
}

/* The 32 codes of a block, in the order of the activations. */
ALWAYS_INLINE __m256i load_codes(graft_type type, const uint8_t *p)
{
    switch (type) {
    case GRAFT_TYPE_Q4_0:
        return nibbles(p + 2);
    case GRAFT_TYPE_Q4_1:
        return nibbles(p + 4);
    case GRAFT_TYPE_Q5_0:
        return _mm256_or_si256(nibbles(p + 6), fifth_bits_of(p + 2));
    case GRAFT_TYPE_Q5_1:
        return _mm256_or_si256(nibbles(p + 8), fifth_bits_of(p + 4));
    case GRAFT_TYPE_Q8_0:
        return _mm256_loadu_si256((const __m256i *)(p + 2));
    default: /* MLX8 */
        return _mm256_xor_si256(_mm256_loadu_si256((const __m256i *)p), _mm256_set1_epi8(-128));
    }
}

/* The codes of one or two blocks. Two of MLX4 are taken apart together; the single one at the end of
 * a row is copied, so that nothing past it is read. */
ALWAYS_INLINE void load_blocks(graft_type type, const uint8_t *p, int blocks, __m256i q[2])
{
    uint8_t last[32] = {0};
    if (type != GRAFT_TYPE_MLX4) {
        TIMES(i, blocks)
        {
            q[i] = load_codes(type, p + i * block32_bytes(type));
        }
    } else if (blocks == 2) {
        nibbles_in_turn(p, q);
    } else {
        memcpy(last, p, 16);
        nibbles_in_turn(last, q);
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

/* What a tile adds up: even and odd blocks in turn, so that one multiply-add need not wait for the
 * one before; m · Σ x of the two in lanes of one vector. */
struct sums32 {
    __m256 even[Q8_TOKENS], odd[Q8_TOKENS];
    __m128 low[Q8_TOKENS];
};

ALWAYS_INLINE void sums_clear(struct sums32 *s, int tokens)
{
    TIMES(t, tokens)
    {
        s->even[t] = s->odd[t] = _mm256_setzero_ps();
        s->low[t] = _mm_setzero_ps();
    }
}

ALWAYS_INLINE void sums_store(const struct sums32 *s, int tokens, float *y, int64_t y_stride)
{
    TIMES(t, tokens)
    {
        __m128 low = _mm_add_ss(s->low[t], _mm_movehdup_ps(s->low[t]));
        y[t * y_stride] = v_sum(_mm256_add_ps(s->even[t], s->odd[t])) + _mm_cvtss_f32(low);
    }
}

ALWAYS_INLINE __m256 add_block(graft_type type, __m256i q, __m256 d, const struct act_q8 *x,
                               __m256 sum)
{
    __m256i xq = _mm256_loadu_si256((const __m256i *)x->q);
    __m256i dots = _mm256_madd_epi16(pair_sums(type, q, xq), _mm256_set1_epi16(1));
    __m256 scale = _mm256_mul_ps(d, _mm256_set1_ps(x->scale));
    return _mm256_fmadd_ps(_mm256_cvtepi32_ps(dots), scale, sum);
}

/* One or two blocks with codes q and factors f, times those blocks of each token. */
ALWAYS_INLINE void add_blocks(graft_type type, const __m256i q[2], const struct factors *f,
                              const struct act_q8 *x, int64_t x_step, int tokens, int blocks,
                              struct sums32 *s)
{
    TIMES(t, tokens)
    {
        const struct act_q8 *xb = x + t * x_step;
        s->even[t] = add_block(type, q[0], f->d[0], xb, s->even[t]);
        if (blocks == 2)
            s->odd[t] = add_block(type, q[1], f->d[1], xb + 1, s->odd[t]);
        if (has_minimum(type)) {
            __m128 x_sum = _mm_set_ss(xb->sum);
            if (blocks == 2)
                x_sum = _mm_insert_ps(x_sum, _mm_set_ss(xb[1].sum), 0x10);
            s->low[t] = _mm_fmadd_ps(f->m, x_sum, s->low[t]);
        }
    }
}

/* A row of a GGUF type. */
ALWAYS_INLINE void tile32(graft_type type, const struct matrix *w, const struct act_q8 *x,
                          int64_t o, float *y, int64_t y_stride, int rows, int tokens)
{
    const int64_t n_block = w->n_in / Q8_BLOCK, bytes = block32_bytes(type);
    const uint8_t *p = (const uint8_t *)w->data + (size_t)o * w->row_bytes;
    struct sums32 s;
    __m256i q[2];
    int64_t b = 0;
    (void)rows; /* always 1: the activations of many tokens are smaller than the weights */
    sums_clear(&s, tokens);
    for (; b + 2 <= n_block; b += 2, p += 2 * bytes) {
        struct factors f = load_factors(type, p, 2);
        load_blocks(type, p, 2, q);
        prefetch(p + PREFETCH_AHEAD);
        if (bytes > 32)
            prefetch(p + PREFETCH_AHEAD + 64);
        add_blocks(type, q, &f, x + b, n_block, tokens, 2, &s);
    }
    if (b < n_block) {
        struct factors f = load_factors(type, p, 1);
        load_blocks(type, p, 1, q);
        add_blocks(type, q, &f, x + b, n_block, tokens, 1, &s);
    }
    sums_store(&s, tokens, y + o, y_stride);
}

/* ---- MLX ---------------------------------------------------------------------------------- */

enum { MLX_GROUPS = 32 }; /* groups whose factors are converted at once */

static void mlx_convert(graft_type type, const void *factors, int64_t at, int64_t n, float *out)
{
    const uint8_t *p = factors;
    if (type == GRAFT_TYPE_F32)
        memcpy(out, p + 4 * at, (size_t)n * 4);
    else if (type == GRAFT_TYPE_F16)
        convert_from_f16(p + 2 * at, n, out);
    else
        convert_from_bf16(p + 2 * at, n, out);
}

/* Groups at..at+n of scales and biases; codes of 8 bits are used less 128, so that they are signed. */
static void mlx_factors(const struct matrix *w, int64_t at, int64_t n, float *d, float *m)
{
    mlx_convert(w->scale_type, w->scales, at, n, d);
    mlx_convert(w->scale_type, w->biases, at, n, m);
    for (int64_t i = 0; w->type == GRAFT_TYPE_MLX8 && i < n; i++)
        m[i] = __builtin_fmaf(128, d[i], m[i]);
}

/* The factors of one or two blocks, of groups first and second. */
ALWAYS_INLINE struct factors mlx_blocks(const float *d, const float *m, int64_t first,
                                        int64_t second, int blocks)
{
    struct factors f = {.d = {_mm256_set1_ps(d[first])}, .m = _mm_set_ss(m[first])};
    if (blocks == 2) {
        f.d[1] = _mm256_set1_ps(d[second]);
        f.m = _mm_insert_ps(f.m, _mm_set_ss(m[second]), 0x10);
    }
    return f;
}

/* A row of an MLX type, MLX_GROUPS groups at a time. */
ALWAYS_INLINE void tile_mlx(graft_type type, const struct matrix *w, const struct act_q8 *x,
                            int64_t o, float *y, int64_t y_stride, int rows, int tokens)
{
    const int64_t n_block = w->n_in / Q8_BLOCK, bytes = block32_bytes(type);
    const int shift = w->group == 32 ? 0 : w->group == 64 ? 1 : 2; /* blocks to groups */
    const int64_t groups = n_block >> shift;
    const uint8_t *p = (const uint8_t *)w->data + (size_t)o * w->row_bytes;
    float d[MLX_GROUPS], m[MLX_GROUPS];
    struct sums32 s;
    __m256i q[2];
    (void)rows; /* always 1 */
    sums_clear(&s, tokens);
    for (int64_t g = 0; g < groups; g += MLX_GROUPS) {
        int64_t n = groups - g < MLX_GROUPS ? groups - g : MLX_GROUPS, b = 0, end = n << shift;
        const struct act_q8 *xg = x + (g << shift);
        mlx_factors(w, o * groups + g, n, d, m);
        for (; b + 2 <= end; b += 2, p += 2 * bytes) {
            struct factors f = mlx_blocks(d, m, b >> shift, (b + 1) >> shift, 2);
            load_blocks(type, p, 2, q);
            prefetch(p + PREFETCH_AHEAD);
            add_blocks(type, q, &f, xg + b, n_block, tokens, 2, &s);
        }
        if (b < end) { /* only a row's last group can leave a single block */
            struct factors f = mlx_blocks(d, m, b >> shift, 0, 1);
            load_blocks(type, p, 1, q);
            add_blocks(type, q, &f, xg + b, n_block, tokens, 1, &s);
        }
    }
    sums_store(&s, tokens, y + o, y_stride);
}

#define DECODE_32(TYPE, name, TILE)                                                                \
    void avx2_linear_decode_##name(const struct matrix *w, const void *x, int n_tok,               \
                                   int64_t o_begin, int64_t o_end, float *y, int64_t y_stride,     \
                                   void *scratch)                                                  \
    {                                                                                              \
        (void)scratch;                                                                             \
        const int64_t n_block = w->n_in / Q8_BLOCK;                                                \
        DECODE_TILES(TILE, GRAFT_TYPE_##TYPE, 1, Q8_TOKENS, struct act_q8, n_block)                \
    }
DECODE_32(Q4_0, q4_0, tile32)
DECODE_32(Q4_1, q4_1, tile32)
DECODE_32(Q5_0, q5_0, tile32)
DECODE_32(Q5_1, q5_1, tile32)
DECODE_32(Q8_0, q8_0, tile32)
DECODE_32(MLX4, mlx4, tile_mlx)
DECODE_32(MLX8, mlx8, tile_mlx)
