/* decode_float_body.h: the decode products of F32, F16 and BF16 weights, in the words of a tier's
 * ..._vec.h. Included once per tier, after TIER is defined, and DECODE_CHAINS, DECODE_ROWS and
 * DECODE_TOKENS where the tier's registers hold more than the default tile.
 *
 * Each output is DECODE_CHAINS vectors of partial sums over K, taken in turn, so that one multiply-add
 * need not wait for the one before; then their sum, whatever the tile. The rows of a tile share the loads
 * of x; for a single token they may be far apart (decode_tiles.h), several tokens take tiles of neighbouring rows and of
 * tokens. Meanwhile the rows that come next are asked for.
 */
#include "kernels/decode_tiles.h"

#define BODY(name) KERNEL_CAT(TIER, name)

#ifndef DECODE_CHAINS
#define DECODE_CHAINS 4
#define DECODE_ROWS 3
#define DECODE_TOKENS 1
#endif
_Static_assert(DECODE_CHAINS == 2 || DECODE_CHAINS == 4, "chains are added in pairs");

ALWAYS_INLINE vf load_weights(graft_type type, const uint8_t *row, int64_t k)
{
    if (type == GRAFT_TYPE_F32)
        return v_load((const float *)(const void *)(row + 4 * k));
    return type == GRAFT_TYPE_F16 ? v_load_f16(row + 2 * k) : v_load_bf16(row + 2 * k);
}

ALWAYS_INLINE vf load_last_weights(graft_type type, const uint8_t *row, int64_t k, int64_t n)
{
    uint8_t last[4 * VF] = {0};
    size_t size = type == GRAFT_TYPE_F32 ? 4 : 2;
    memcpy(last, row + (size_t)k * size, (size_t)n * size);
    return load_weights(type, last, 0);
}

/* Rows of W, of tokens and of outputs that a tile begins with. */
struct float_tile {
    const uint8_t *row;
    const float *x;
    float *y;
    size_t row_pitch; /* from one row of the tile to the next */
    int64_t n, y_stride, y_pitch;
    size_t ahead; /* from the weights in hand to those to ask for; 0: none is left to ask for */
};

ALWAYS_INLINE void float_step(graft_type type, const struct float_tile *p, int64_t k, int64_t n,
                              int chain, int rows, int tokens,
                              vf sum[DECODE_ROWS][DECODE_TOKENS][DECODE_CHAINS])
{
    vf x[DECODE_TOKENS];
    TIMES(t, tokens)
    x[t] = n == VF ? v_load(p->x + t * p->n + k) : v_load_n(p->x + t * p->n + k, n);
    TIMES(r, rows)
    {
        const uint8_t *row = p->row + (size_t)r * p->row_pitch;
        vf w = n == VF ? load_weights(type, row, k) : load_last_weights(type, row, k, n);
        TIMES(t, tokens) sum[r][t][chain] = v_fma(w, x[t], sum[r][t][chain]);
    }
}

/* The chains of all outputs of a tile, then their lanes: of eight outputs at a time, where at least four are left. */
ALWAYS_INLINE void add_up(const struct float_tile *p, int rows, int tokens,
                          vf sum[DECODE_ROWS][DECODE_TOKENS][DECODE_CHAINS])
{
    const int n = rows * tokens, eights = (n + 4) / 8;
    vf total[DECODE_ROWS * DECODE_TOKENS + 8];
    float out[DECODE_ROWS * DECODE_TOKENS + 8];
    TIMES(i, n)
    {
        vf *chain = sum[i / tokens][i % tokens];
        total[i] = v_add(chain[0], chain[1]);
        if (DECODE_CHAINS == 4)
            total[i] = v_add(total[i], v_add(chain[DECODE_CHAINS - 2], chain[DECODE_CHAINS - 1]));
    }
    for (int i = n; i < 8 * eights; i++)
        total[i] = v_zero();
    TIMES(i, eights) v_sums(total + 8 * i, out + 8 * i);
    for (int i = 8 * eights; i < n; i++)
        out[i] = v_sum(total[i]);
    TIMES(i, n) p->y[i % tokens * p->y_stride + i / tokens * p->y_pitch] = out[i];
}

ALWAYS_INLINE void float_tile(graft_type type, const struct float_tile *p, int rows, int tokens)
{
    const int64_t n = p->n, size = type == GRAFT_TYPE_F32 ? 4 : 2, step = DECODE_CHAINS * VF;
    int64_t k = 0;
    vf sum[DECODE_ROWS][DECODE_TOKENS][DECODE_CHAINS];
    TIMES(r, rows) TIMES(t, tokens) TIMES(c, DECODE_CHAINS) sum[r][t][c] = v_zero();
    for (; k + step <= n; k += step) {
        for (int r = 0; p->ahead && r < rows; r++)
            for (int64_t at = 0; at < step * size; at += 64)
                prefetch(p->row + (size_t)r * p->row_pitch + p->ahead + k * size + at);
        TIMES(c, DECODE_CHAINS) float_step(type, p, k + c * VF, VF, c, rows, tokens, sum);
    }
    for (; k + VF <= n; k += VF)
        float_step(type, p, k, VF, 0, rows, tokens, sum);
    if (k < n)
        float_step(type, p, k, n - k, 0, rows, tokens, sum);
    add_up(p, rows, tokens, sum);
}

/* `rows` rows of W from o on and all tokens: tiles of DECODE_TOKENS, rather two of one less than one that is much
 * smaller. */
ALWAYS_INLINE void float_rows(graft_type type, const struct matrix *w, const struct streams *s,
                              int64_t o, struct float_tile p, int n_tok, int rows)
{
    p.row = (const uint8_t *)w->data + (size_t)o * w->row_bytes;
    p.row_pitch = (size_t)s->apart * w->row_bytes;
    p.y += o;
    p.y_pitch = s->apart;
    p.ahead = s->ahead;
    for (int left = n_tok, taken; left; left -= taken) {
        if (left >= DECODE_TOKENS && left != DECODE_TOKENS + 1) {
            taken = DECODE_TOKENS;
            float_tile(type, &p, rows, DECODE_TOKENS);
        } else if (DECODE_TOKENS > 2 && left >= DECODE_TOKENS - 1) {
            taken = DECODE_TOKENS - 1;
            float_tile(type, &p, rows, DECODE_TOKENS - 1);
        } else {
            taken = 1;
            float_tile(type, &p, rows, 1);
        }
        p.x += taken * p.n;
        p.y += taken * p.y_stride;
        p.ahead = 0;
    }
}

ALWAYS_INLINE void decode_float(graft_type type, const struct matrix *w, const float *x, int n_tok,
                                int64_t o_begin, int64_t o_end, float *y, int64_t y_stride)
{
    const struct streams one = single_stream(w),
                         all = n_tok == 1 ? streams_of(w, o_begin, o_end, DECODE_ROWS)
                                          : near_streams(w, o_begin, o_end, DECODE_ROWS);
    const struct float_tile p = {.x = x, .y = y, .n = w->n_in, .y_stride = y_stride};
    for (int64_t i = 0; i < all.tiles; i++)
        float_rows(type, w, &all, o_begin + i * all.next, p, n_tok, DECODE_ROWS);
    for (int64_t o = o_begin + all.tiles * DECODE_ROWS; o < o_end; o++)
        float_rows(type, w, &one, o, p, n_tok, 1);
}

#define DECODE_FLOAT(TYPE, name)                                                                   \
    void BODY(_linear_decode_##name)(const struct matrix *w, const void *x, int n_tok,             \
                                     int64_t o_begin, int64_t o_end, float *y, int64_t y_stride,   \
                                     void *scratch)                                                \
    {                                                                                              \
        (void)scratch;                                                                             \
        decode_float(GRAFT_TYPE_##TYPE, w, x, n_tok, o_begin, o_end, y, y_stride);                 \
    }
KERNEL_FLOAT_TYPES(DECODE_FLOAT)
