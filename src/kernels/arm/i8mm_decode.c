/* i8mm_decode.c: the decode products of quantised weights with SMMLA, which multiplies two rows of
 * eight bytes with two others and adds the four sums to four int32.
 *
 * Two rows of W meet four tokens at a time: their codes are taken apart once, and each instruction
 * does the work of two SDOT. For that the activations of tokens 2i and 2i + 1 are laid side by side,
 * eight bytes of one and eight of the other, once per call. What is left over (fewer than four
 * tokens, an odd row) goes through SDOT. The integers are the same and the floats are added as in
 * decode_body.h, so a token's result does not tell which of the two it was.
 */
#include "dotprod_words.h"

#define TIER i8mm
#include "decode_body.h"

enum { PAIR_ROWS = 2, PAIRS = TILE_TOKENS / 2 };
_Static_assert(DECODE_PACK % TILE_TOKENS == 0, "whole tiles are packed");

/* Bytes k..k+16 of two rows, as two operands of SMMLA. */
struct side_by_side {
    int8x16_t low, high;
};

ALWAYS_INLINE struct side_by_side join(int8x16_t first, int8x16_t second)
{
    int64x2_t a = vreinterpretq_s64_s8(first), b = vreinterpretq_s64_s8(second);
    return (struct side_by_side){vreinterpretq_s8_s64(vzip1q_s64(a, b)),
                                 vreinterpretq_s8_s64(vzip2q_s64(a, b))};
}

/* acc[2i + j] += Σ w of row i · x of token j, over 16 values */
ALWAYS_INLINE int32x4_t multiply_16(int32x4_t acc, struct side_by_side w, const int8_t *packed)
{
    acc = vmmlaq_s32(acc, w.low, vld1q_s8(packed));
    return vmmlaq_s32(acc, w.high, vld1q_s8(packed + 16));
}

/* Lays the codes of 2 · pairs tokens side by side. They stand `at` bytes into blocks of block_bytes,
 * `values` of them in each. */
static void pack_tokens(const uint8_t *x, int pairs, int64_t n_block, size_t block_bytes, size_t at,
                        int values, int8_t *packed)
{
    const size_t row = (size_t)n_block * block_bytes;
    for (int i = 0; i < pairs; i++)
        for (int64_t b = 0; b < n_block; b++) {
            const uint8_t *first = x + 2 * (size_t)i * row + (size_t)b * block_bytes + at;
            for (int k = 0; k < values; k += 16, packed += 32) {
                struct side_by_side both =
                    join(as_signed(vld1q_u8(first + k)), as_signed(vld1q_u8(first + row + k)));
                vst1q_s8(packed, both.low);
                vst1q_s8(packed + 16, both.high);
            }
        }
}

/* ---- blocks of 32 ------------------------------------------------------------------------- */

/* Block by block four sums (row, token); turned, the blocks lie in the lanes of each. */
ALWAYS_INLINE void turn_sums(const int32x4_t blocks[QUAD], int32x4_t sums[4])
{
    vf r[QUAD];
    TIMES(i, QUAD) r[i] = vreinterpretq_f32_s32(blocks[i]);
    v_transpose(r);
    TIMES(i, QUAD) sums[i] = vreinterpretq_s32_f32(r[i]);
}

/* Blocks b..b+n of rows o and o + 1, n ≤ 4, times those blocks of four tokens. */
ALWAYS_INLINE void quad32_pairs(graft_type type, const struct matrix *w, int64_t o, int64_t b,
                                const struct act_q8 *x, const int8_t *packed, int n,
                                vf sum[PAIR_ROWS][TILE_TOKENS])
{
    const int64_t n_block = w->n_in / Q8_BLOCK, bytes = block32_bytes(type);
    const uint8_t *p[PAIR_ROWS];
    int32x4_t blocks[PAIRS][QUAD];
    TIMES(r, PAIR_ROWS)
    p[r] = (const uint8_t *)w->data + (size_t)(o + r) * w->row_bytes + (size_t)(b * bytes);
    TIMES(i, QUAD)
    {
        TIMES(j, PAIRS) blocks[j][i] = vdupq_n_s32(0);
        if (i < n) {
            int8x16_t q[PAIR_ROWS][2];
            TIMES(r, PAIR_ROWS) load_codes32(type, p[r] + i * bytes, q[r]);
            struct side_by_side low = join(q[0][0], q[1][0]), high = join(q[0][1], q[1][1]);
            TIMES(j, PAIRS)
            {
                const int8_t *xb = packed + (j * n_block + b + i) * 2 * Q8_BLOCK;
                blocks[j][i] = multiply_16(multiply_16(blocks[j][i], low, xb), high, xb + 32);
            }
        }
    }
    struct factors32 f[PAIR_ROWS];
    TIMES(r, PAIR_ROWS) f[r] = load_factors32(type, w, o + r, b, p[r], n);
    TIMES(j, PAIRS)
    {
        int32x4_t sums[4];
        turn_sums(blocks[j], sums);
        TIMES(t, 2) TIMES(r, PAIR_ROWS)
        {
            const struct act_q8 *xb = x + (2 * j + t) * n_block + b;
            vf *to = &sum[r][2 * j + t];
            *to = add_quad(type, &f[r], sums[2 * r + t], xb, n, *to);
        }
    }
}

/* Rows o and o + 1 times four tokens, which are packed too. */
ALWAYS_INLINE void tile32_pairs(graft_type type, const struct matrix *w, const struct act_q8 *x,
                                const int8_t *packed, int64_t o, float *y, int64_t y_stride)
{
    const int64_t n_block = w->n_in / Q8_BLOCK;
    vf sum[PAIR_ROWS][TILE_TOKENS];
    int64_t b = 0;
    TIMES(r, PAIR_ROWS) TIMES(t, TILE_TOKENS) sum[r][t] = v_zero();
    for (; b + QUAD <= n_block; b += QUAD)
        quad32_pairs(type, w, o, b, x, packed, QUAD, sum);
    if (b < n_block)
        quad32_pairs(type, w, o, b, x, packed, (int)(n_block - b), sum);
    TIMES(r, PAIR_ROWS) TIMES(t, TILE_TOKENS) y[t * y_stride + o + r] = v_sum(sum[r][t]);
}

/* ---- blocks of 256 ------------------------------------------------------------------------ */

/* 16 codes of both rows in hand, times both tokens of each pair, times a scale per row. */
ALWAYS_INLINE int32x4_t row_scales(const struct factors256 f[PAIR_ROWS], int i)
{
    return vcombine_s32(vdup_n_s32(f[0].scales[i]), vdup_n_s32(f[1].scales[i]));
}

ALWAYS_INLINE void tile256_pairs(graft_type type, const struct matrix *w, const struct act_q8k *x,
                                 const int8_t *packed, int64_t o, float *y, int64_t y_stride)
{
    const int64_t n_block = w->n_in / Q8K_BLOCK, bytes = block256_bytes(type);
    const uint8_t *p = (const uint8_t *)w->data + (size_t)o * w->row_bytes;
    vf sum[PAIR_ROWS] = {v_zero(), v_zero()}; /* tokens in the lanes */
    for (int64_t b = 0; b < n_block; b++, p += bytes) {
        struct factors256 f[PAIR_ROWS];
        int32x4_t dots[PAIRS];
        TIMES(r, PAIR_ROWS) load_factors256(type, p + (size_t)r * w->row_bytes, &f[r]);
        TIMES(j, PAIRS) dots[j] = vdupq_n_s32(0);
        TIMES(g, 8)
        {
            struct side_by_side q[2];
            TIMES(half, 2)
            q[half] =
                join(half_codes(type, p, g, half), half_codes(type, p + w->row_bytes, g, half));
            TIMES(j, PAIRS)
            {
                const int8_t *xq = packed + ((j * n_block + b) * Q8K_BLOCK + 32 * g) * 2;
                int32x4_t first = multiply_16(vdupq_n_s32(0), q[0], xq);
                if (scale_per_32(type)) {
                    first = multiply_16(first, q[1], xq + 32);
                    dots[j] = vmlaq_s32(dots[j], first, row_scales(f, g));
                } else {
                    int32x4_t second = multiply_16(vdupq_n_s32(0), q[1], xq + 32);
                    dots[j] = vmlaq_s32(dots[j], first, row_scales(f, 2 * g));
                    dots[j] = vmlaq_s32(dots[j], second, row_scales(f, 2 * g + 1));
                }
            }
        }
        int64x2_t a = vreinterpretq_s64_s32(dots[0]), c = vreinterpretq_s64_s32(dots[1]);
        int32x4_t row[PAIR_ROWS] = {vreinterpretq_s32_s64(vzip1q_s64(a, c)),
                                    vreinterpretq_s32_s64(vzip2q_s64(a, c))};
        TIMES(r, PAIR_ROWS)
        sum[r] = add_block256(type, &f[r], row[r], x + b, n_block, TILE_TOKENS, sum[r]);
    }
    TIMES(r, PAIR_ROWS)
    {
        float lanes[VF];
        v_store(lanes, sum[r]);
        TIMES(t, TILE_TOKENS) y[t * y_stride + o + r] = lanes[t];
    }
}

/* ---- entries ------------------------------------------------------------------------------ */

/* n ≤ DECODE_PACK tokens; whole fours of them are packed and take the rows by two. */
#define DECODE_PACKED(TYPE, TILE, X, BLOCK)                                                        \
    do {                                                                                           \
        const int packed = n / TILE_TOKENS * TILE_TOKENS;                                          \
        int64_t o = o_begin;                                                                       \
        pack_tokens((const uint8_t *)xs, packed / 2, n_block, sizeof(X), offsetof(X, q), BLOCK,    \
                    scratch);                                                                      \
        for (; o + PAIR_ROWS <= o_end; o++) {                                                      \
            for (int t = 0; t < packed; t += TILE_TOKENS)                                          \
                TILE##_pairs(TYPE, w, xs + t * n_block, (const int8_t *)scratch + t * w->n_in, o,  \
                             ys + t * y_stride, y_stride);                                         \
            DECODE_ROW(TILE, TYPE, packed, n);                                                     \
            o++;                                                                                   \
            DECODE_ROW(TILE, TYPE, packed, n);                                                     \
        }                                                                                          \
        if (o < o_end)                                                                             \
            DECODE_ROW(TILE, TYPE, 0, n);                                                          \
    } while (0)

#define DECODE_PAIRS(TYPE, name, TILE, X, BLOCK)                                                   \
    void i8mm_linear_decode_##name(const struct matrix *w, const void *x, int n_tok,               \
                                   int64_t o_begin, int64_t o_end, float *y, int64_t y_stride,     \
                                   void *scratch)                                                  \
    {                                                                                              \
        for (int first = 0, n; first < n_tok; first += n) {                                        \
            const int64_t n_block = w->n_in / (BLOCK);                                             \
            const X *xs = (const X *)x + first * n_block;                                          \
            float *ys = y + first * y_stride;                                                      \
            n = n_tok - first < DECODE_PACK ? n_tok - first : DECODE_PACK;                         \
            DECODE_PACKED(GRAFT_TYPE_##TYPE, TILE, X, BLOCK);                                      \
        }                                                                                          \
    }
#define DECODE_PAIRS_32(TYPE, name) DECODE_PAIRS(TYPE, name, tile32, struct act_q8, Q8_BLOCK)
#define DECODE_PAIRS_256(TYPE, name) DECODE_PAIRS(TYPE, name, tile256, struct act_q8k, Q8K_BLOCK)
KERNEL_Q8_TYPES(DECODE_PAIRS_32)
KERNEL_Q8K_TYPES(DECODE_PAIRS_256)
