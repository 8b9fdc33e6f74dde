/* decode_float_body.h: the decode products of F32, F16 and BF16 weights, in the words of a tier's
 * ..._vec.h. Included once per tier, after TIER is defined.
 *
 * Each output is one vector of partial sums over K, VF values a step, then v_sum: the same steps
 * whatever the tile. A tile of rows shares the loads of x; a tile of tokens shares the conversion of
 * the weights.
 */
#define BODY(name) KERNEL_CAT(TIER, name)

enum { FLOAT_ROWS = 4, FLOAT_TOKENS = 2 };

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
    int64_t n = w->n_in, k = 0;
    vf sum[FLOAT_ROWS][FLOAT_TOKENS];
    UNROLL for (int r = 0; r < rows; r++) UNROLL for (int t = 0; t < tokens; t++) sum[r][t] =
        v_zero();
    for (; k + VF <= n; k += VF) {
        UNROLL for (int r = 0; r < rows; r++)
        {
            vf wk = load_weights(type, row + (size_t)r * w->row_bytes, k);
            UNROLL for (int t = 0; t < tokens; t++) sum[r][t] =
                v_fma(wk, v_load(x + t * n + k), sum[r][t]);
        }
    }
    if (k < n) {
        UNROLL for (int r = 0; r < rows; r++)
        {
            vf wk = load_last_weights(type, row + (size_t)r * w->row_bytes, k, n - k);
            UNROLL for (int t = 0; t < tokens; t++) sum[r][t] =
                v_fma(wk, v_load_n(x + t * n + k, n - k), sum[r][t]);
        }
    }
    UNROLL for (int r = 0; r < rows; r++) UNROLL for (int t = 0; t < tokens; t++)
        y[t * y_stride + o + r] = v_sum(sum[r][t]);
}

#define DECODE_FLOAT(TYPE, name)                                                                   \
    void BODY(_linear_decode_##name)(const struct matrix *w, const void *x, int n_tok,             \
                                     int64_t o_begin, int64_t o_end, float *y, int64_t y_stride)   \
    {                                                                                              \
        DECODE_TILES(float_tile, GRAFT_TYPE_##TYPE, FLOAT_ROWS, FLOAT_TOKENS, float, w->n_in)      \
    }
KERNEL_FLOAT_TYPES(DECODE_FLOAT)
