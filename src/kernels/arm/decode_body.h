/* decode_body.h: the integer decode products of an aarch64 tier. Included once per tier, after its
 * three products of codes with activations:
 *   dot_block(type, q[2], x)        four lanes whose sum is Σ q · x over 32 values
 *   add_half(acc, q, x, scale)      acc + scale · (the same over 16)
 *   add_group(acc, q[2], x, scale)  acc + scale · (the same over 32), for codes below 32
 *
 * Every sum within a block is an exact integer, and the floats are added in one order that no tier
 * and no tile changes: of blocks of 32, block b into lane b mod 4, the lanes at the end; of blocks of
 * 256, one after the other. So a row in company equals a row alone, and the tiers equal each other,
 * bit by bit.
 */
#include "codes.h"

enum { TILE_TOKENS = 4, QUAD = 4 };

/* n ≤ 4 floats that lie `step` floats apart; the other lanes are 0. */
ALWAYS_INLINE vf gather(const float *p, int64_t step, int n)
{
    vf v = vld1q_lane_f32(p, v_zero(), 0);
    if (n > 1)
        v = vld1q_lane_f32(p + step, v, 1);
    if (n > 2)
        v = vld1q_lane_f32(p + 2 * step, v, 2);
    return n > 3 ? vld1q_lane_f32(p + 3 * step, v, 3) : v;
}

/* ---- blocks of 32, four at a time --------------------------------------------------------- */

/* n ≤ 4 halves that lie at `at[i]` bytes; the other lanes are 0. */
ALWAYS_INLINE uint16x4_t gather_halves(const uint8_t *p, const int64_t at[QUAD], int n)
{
    uint16x4_t v = vset_lane_u16(load_u16(p + at[0]), vdup_n_u16(0), 0);
    if (n > 1)
        v = vset_lane_u16(load_u16(p + at[1]), v, 1);
    if (n > 2)
        v = vset_lane_u16(load_u16(p + at[2]), v, 2);
    return n > 3 ? vset_lane_u16(load_u16(p + at[3]), v, 3) : v;
}

/* MLX factors by their indices. */
ALWAYS_INLINE vf mlx_factors(graft_type type, const void *factors, const int64_t index[QUAD], int n)
{
    if (type == GRAFT_TYPE_F32) {
        const uint8_t *p = factors;
        float lanes[QUAD] = {0};
        TIMES(i, QUAD) if (i < n) lanes[i] = load_f32(p + 4 * index[i]);
        return v_load(lanes);
    }
    const int64_t at[QUAD] = {2 * index[0], 2 * index[1], 2 * index[2], 2 * index[3]};
    uint16x4_t halves = gather_halves(factors, at, n);
    if (type == GRAFT_TYPE_F16)
        return vcvt_f32_f16(vreinterpret_f16_u16(halves));
    return vreinterpretq_f32_u32(vshll_n_u16(halves, 16));
}

/* d and m of blocks b..b+n of row o, one in each lane; p is where block b begins. */
struct factors32 {
    vf d, m;
};

ALWAYS_INLINE struct factors32 load_factors32(graft_type type, const struct matrix *w, int64_t o,
                                              int64_t b, const uint8_t *p, int n)
{
    struct factors32 f = {.m = v_zero()};
    if (type == GRAFT_TYPE_MLX4 || type == GRAFT_TYPE_MLX8) {
        const int shift = w->group == 32 ? 0 : w->group == 64 ? 1 : 2; /* blocks to groups */
        const int64_t first = o * (w->n_in / w->group);
        const int64_t index[QUAD] = {first + (b >> shift), first + ((b + 1) >> shift),
                                     first + ((b + 2) >> shift), first + ((b + 3) >> shift)};
        f.d = mlx_factors(w->scale_type, w->scales, index, n);
        f.m = mlx_factors(w->scale_type, w->biases, index, n);
        if (type == GRAFT_TYPE_MLX8) /* codes.h takes 128 away */
            f.m = v_fma(v_set1(128), f.d, f.m);
        return f;
    }
    const int64_t bytes = block32_bytes(type), at[QUAD] = {0, bytes, 2 * bytes, 3 * bytes};
    f.d = vcvt_f32_f16(vreinterpret_f16_u16(gather_halves(p, at, n)));
    if (has_minimum(type))
        f.m = vcvt_f32_f16(vreinterpret_f16_u16(gather_halves(p + 2, at, n)));
    return f;
}

/* The sum of an output, block b in lane b mod 4, and d · dx · dot + m · Σ x of n more. */
ALWAYS_INLINE vf add_quad(graft_type type, const struct factors32 *f, int32x4_t dots,
                          const struct act_q8 *x, int n, vf sum)
{
    const int64_t step = sizeof *x / sizeof(float);
    sum = v_fma(vcvtq_f32_s32(dots), v_mul(f->d, gather(&x->scale, step, n)), sum);
    return has_minimum(type) ? v_fma(f->m, gather(&x->sum, step, n), sum) : sum;
}

/* Blocks b..b+n of row o, n ≤ 4, times those blocks of each token. */
ALWAYS_INLINE void quad32(graft_type type, const struct matrix *w, int64_t o, int64_t b,
                          const uint8_t *p, const struct act_q8 *x, int64_t x_step, int tokens,
                          int n, vf *sum)
{
    struct factors32 f = load_factors32(type, w, o, b, p, n);
    int8x16_t q[QUAD][2];
    TIMES(i, QUAD)
    {
        q[i][0] = q[i][1] = vdupq_n_s8(0);
        if (i < n)
            load_codes32(type, p + i * block32_bytes(type), q[i]);
    }
    TIMES(t, tokens)
    {
        const struct act_q8 *xb = x + t * x_step + b;
        int32x4_t dots[QUAD];
        TIMES(i, QUAD) dots[i] = i < n ? dot_block(type, q[i], xb[i].q) : vdupq_n_s32(0);
        int32x4_t quad = vpaddq_s32(vpaddq_s32(dots[0], dots[1]), vpaddq_s32(dots[2], dots[3]));
        sum[t] = add_quad(type, &f, quad, xb, n, sum[t]);
    }
}

ALWAYS_INLINE void tile32(graft_type type, const struct matrix *w, const struct act_q8 *x,
                          int64_t o, float *y, int64_t y_stride, int tokens)
{
    const int64_t n_block = w->n_in / Q8_BLOCK, bytes = block32_bytes(type);
    const uint8_t *p = (const uint8_t *)w->data + (size_t)o * w->row_bytes;
    vf sum[TILE_TOKENS];
    int64_t b = 0;
    TIMES(t, tokens) sum[t] = v_zero();
    for (; b + QUAD <= n_block; b += QUAD)
        quad32(type, w, o, b, p + b * bytes, x, n_block, tokens, QUAD, sum);
    if (b < n_block)
        quad32(type, w, o, b, p + b * bytes, x, n_block, tokens, (int)(n_block - b), sum);
    TIMES(t, tokens) y[t * y_stride + o] = v_sum(sum[t]);
}

/* ---- blocks of 256 ------------------------------------------------------------------------ */

/* The sums of lanes of one vector, or of four, side by side. */
ALWAYS_INLINE int32x4_t add_lanes(const int32x4_t *v, int n)
{
    if (n == 4)
        return vpaddq_s32(vpaddq_s32(v[0], v[1]), vpaddq_s32(v[2], v[3]));
    int32x4_t pairs = vpaddq_s32(v[0], v[0]);
    return vpaddq_s32(pairs, pairs);
}

/* sum + dx · (d · dot − dmin · offset), for the tokens in the lanes; their blocks are x_step apart. */
ALWAYS_INLINE vf add_block256(graft_type type, const struct factors256 *f, int32x4_t dots,
                              const struct act_q8k *x, int64_t x_step, int tokens, vf sum)
{
    vf scale = gather(&x->scale, x_step * (int64_t)(sizeof *x / sizeof(float)), tokens);
    sum = v_fma(vcvtq_f32_s32(dots), v_mul(v_set1(f->d), scale), sum);
    if (!has_mins(type))
        return sum;
    int32x4_t offsets[TILE_TOKENS];
    TIMES(t, tokens) offsets[t] = weigh_mins(type, f, x[t * x_step].sums);
    vf offset = vcvtq_f32_s32(add_lanes(offsets, tokens));
    return vfmsq_f32(sum, offset, v_mul(v_set1(f->dmin), scale));
}

ALWAYS_INLINE void tile256(graft_type type, const struct matrix *w, const struct act_q8k *x,
                           int64_t o, float *y, int64_t y_stride, int tokens)
{
    const int64_t n_block = w->n_in / Q8K_BLOCK, bytes = block256_bytes(type);
    const uint8_t *p = (const uint8_t *)w->data + (size_t)o * w->row_bytes;
    vf sum = v_zero(); /* tokens in the lanes */
    for (int64_t b = 0; b < n_block; b++, p += bytes) {
        struct factors256 f;
        int32x4_t dots[TILE_TOKENS];
        load_factors256(type, p, &f);
        TIMES(t, tokens) dots[t] = vdupq_n_s32(0);
        TIMES(g, 8)
        {
            const int8x16_t q[2] = {half_codes(type, p, g, 0), half_codes(type, p, g, 1)};
            TIMES(t, tokens)
            {
                const int8_t *xq = x[t * n_block + b].q + 32 * g;
                if (scale_per_32(type)) {
                    dots[t] = add_group(dots[t], q, xq, f.scales[g]);
                } else {
                    dots[t] = add_half(dots[t], q[0], xq, f.scales[2 * g]);
                    dots[t] = add_half(dots[t], q[1], xq + 16, f.scales[2 * g + 1]);
                }
            }
        }
        sum = add_block256(type, &f, add_lanes(dots, tokens), x + b, n_block, tokens, sum);
    }
    float lanes[VF];
    v_store(lanes, sum);
    TIMES(t, tokens) y[t * y_stride + o] = lanes[t];
}

/* ---- the entries of a tier without matrix instructions ------------------------------------- */

#define BODY(name) KERNEL_CAT(TIER, name)

/* Tokens first..n of row o: a row is taken apart once for four of them. */
#define DECODE_ROW(TILE, TYPE, first, n)                                                           \
    do {                                                                                           \
        int t = first;                                                                             \
        for (; t + TILE_TOKENS <= (n); t += TILE_TOKENS)                                           \
            TILE(TYPE, w, xs + t * n_block, o, ys + t * y_stride, y_stride, TILE_TOKENS);          \
        for (; t < (n); t++)                                                                       \
            TILE(TYPE, w, xs + t * n_block, o, ys + t * y_stride, y_stride, 1);                    \
    } while (0)

#define DECODE_ENTRY(TYPE, name, TILE, X, BLOCK)                                                   \
    void BODY(_linear_decode_##name)(const struct matrix *w, const void *x, int n_tok,             \
                                     int64_t o_begin, int64_t o_end, float *ys, int64_t y_stride,  \
                                     void *scratch)                                                \
    {                                                                                              \
        const int64_t n_block = w->n_in / (BLOCK);                                                 \
        const X *xs = x;                                                                           \
        (void)scratch;                                                                             \
        for (int64_t o = o_begin; o < o_end; o++)                                                  \
            DECODE_ROW(TILE, GRAFT_TYPE_##TYPE, 0, n_tok);                                         \
    }
#define DECODE_ENTRY_32(TYPE, name) DECODE_ENTRY(TYPE, name, tile32, struct act_q8, Q8_BLOCK)
#define DECODE_ENTRY_256(TYPE, name) DECODE_ENTRY(TYPE, name, tile256, struct act_q8k, Q8K_BLOCK)
