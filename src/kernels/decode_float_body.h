/* decode_float_body.h: the decode products of F32, F16 and BF16 weights, in the words of a tier's
 * ..._vec.h. Included once per tier, after TIER is defined.
 *
 * Each output is FLOAT_CHAINS vectors of partial sums over K, taken in turn, so that one
 * multiply-add need not wait for the one before; then their sum, whatever the tile. A tile of rows
 * shares the loads of x, which, for many tokens, come from the second cache.
 */
#define BODY(name) KERNEL_CAT(TIER, name)

enum { FLOAT_ROWS = 3, FLOAT_CHAINS = 4 };
enum { FLOAT_PREFETCH = 4096 }; /* bytes ahead of the weights in hand */

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

ALWAYS_INLINE void float_tile(graft_type type, const struct matrix *w, const float *x, int64_t o,
                              float *y, int64_t y_stride, int rows, int tokens)
{
    const uint8_t *row = (const uint8_t *)w->data + (size_t)o * w->row_bytes;
    const int64_t n = w->n_in, size = type == GRAFT_TYPE_F32 ? 4 : 2, step = FLOAT_CHAINS * VF;
    int64_t k = 0;
    vf sum[FLOAT_ROWS][FLOAT_CHAINS];
    (void)tokens; /* always 1 */
    TIMES(r, rows)
    {
        TIMES(c, FLOAT_CHAINS)
        {
            sum[r][c] = v_zero();
        }
    }
    for (; k + step <= n; k += step) {
        for (int64_t c = 0; rows == 1 && c < step * size; c += 64)
            prefetch(row + k * size + FLOAT_PREFETCH + c);
        TIMES(c, FLOAT_CHAINS)
        {
            vf xk = v_load(x + k + c * VF);
            TIMES(r, rows)
            {
                vf wk = load_weights(type, row + (size_t)r * w->row_bytes, k + c * VF);
                sum[r][c] = v_fma(wk, xk, sum[r][c]);
            }
        }
    }
    for (; k < n; k += VF) {
        vf xk = v_load_some(x + k, n - k);
        TIMES(r, rows)
        {
            const uint8_t *at = row + (size_t)r * w->row_bytes;
            vf wk = k + VF <= n ? load_weights(type, at, k) : load_last_weights(type, at, k, n - k);
            sum[r][0] = v_fma(wk, xk, sum[r][0]);
        }
    }
    TIMES(r, rows)
    {
        vf low = v_add(sum[r][0], sum[r][1]), high = v_add(sum[r][2], sum[r][3]);
        y[o + r] = v_sum(v_add(low, high));
    }
    (void)y_stride;
}

#define DECODE_FLOAT(TYPE, name)                                                                   \
    void BODY(_linear_decode_##name)(const struct matrix *w, const void *x, int n_tok,             \
                                     int64_t o_begin, int64_t o_end, float *y, int64_t y_stride,   \
                                     void *scratch)                                                \
    {                                                                                              \
        (void)scratch;                                                                             \
        DECODE_TILES(float_tile, GRAFT_TYPE_##TYPE, FLOAT_ROWS, 1, float, w->n_in)                 \
    }
KERNEL_FLOAT_TYPES(DECODE_FLOAT)
