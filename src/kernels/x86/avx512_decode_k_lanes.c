/* avx512_decode_k_lanes.c: the AVX-512 tier's decode products of the K types, for many rows: rows of
 * activations along the lanes, as in avx512_decode_lanes.c. The arithmetic stands in
 * avx512_decode_k.h.
 *
 * LANE_OUTPUTS rows of W are opened at once: their codes as bytes in the order of the values, scales
 * and mins as integers that can be broadcast. The products of Q2_K's codes and scales fit a byte
 * (3 · 15), so they are formed there; for the other types a sum of 16 or 32 values is multiplied by its
 * scale.
 */
#include "avx512_decode_k.h"

enum block_kind {
    BLOCK_READY,  /* codes are multiplied by their scales; 16 mins */
    BLOCK_PER_16, /* 16 scales; no mins, but the scales stand there for the offset of the codes */
    BLOCK_PER_32, /* 8 scales, 8 mins */
};

/* A block of some rows of W. */
struct opened_block {
    uint8_t q[LANE_OUTPUTS][256];
    int32_t scales[LANE_OUTPUTS][16];
    int16_t mins[LANE_OUTPUTS][16];
    float d[LANE_OUTPUTS], dmin[LANE_OUTPUTS];
};

#define LANES 16
#include "avx512_decode_k_lanes_body.h"
#undef LANES

#define LANES 8
#include "avx512_decode_k_lanes_body.h"
#undef LANES

/* Codes of Q2_K times their scales: each 128-bit lane has one scale and looks its products up. */
ALWAYS_INLINE void multiply_q2(__m256i scales, __m512i q[4])
{
    const __m512i first =
        _mm512_setr_epi64(0, 0, 0x0001000100010001, 0x0001000100010001, 0x0008000800080008,
                          0x0008000800080008, 0x0009000900090009, 0x0009000900090009);
    const __m512i multiples = _mm512_set1_epi32(0x03020100);
    TIMES(v, 4)
    {
        __m512i places = _mm512_add_epi16(first, _mm512_set1_epi16((int16_t)(2 * v)));
        __m512i scale = _mm512_permutexvar_epi16(places, _mm512_castsi256_si512(scales));
        q[v] = _mm512_shuffle_epi8(_mm512_mullo_epi16(scale, multiples), q[v]);
    }
}

ALWAYS_INLINE void open_row(graft_type type, const struct matrix *w, int64_t o, int r,
                            struct opened_block *out)
{
    const int64_t n_block = w->n_in / Q8K_BLOCK, bytes = block256_bytes(type);
    const uint8_t *p = (const uint8_t *)w->data + (size_t)o * w->row_bytes;
    for (int64_t b = 0; b < n_block; b++, p += bytes, out++) {
        __m512i q[4];
        codes_of_block(type, p, q);
        struct factors256 f = factors_of_block(type, p);
        if (type == GRAFT_TYPE_Q2_K)
            multiply_q2(f.scales, q);
        TIMES(v, 4)
        {
            uint8_t *at = out->q[r];
            _mm256_storeu_si256((__m256i *)(void *)(at + 32 * group_at(type, v, 0)),
                                _mm512_castsi512_si256(q[v]));
            _mm256_storeu_si256((__m256i *)(void *)(at + 32 * group_at(type, v, 1)),
                                _mm512_extracti64x4_epi64(q[v], 1));
        }
        _mm512_storeu_si512(out->scales[r], _mm512_cvtepi16_epi32(f.scales));
        _mm256_storeu_si256((__m256i *)(void *)out->mins[r], has_mins(type) ? f.mins : f.scales);
        _mm_store_ss(&out->d[r], f.d);
        _mm_store_ss(&out->dmin[r], _mm_movehdup_ps(f.d));
    }
}

typedef void open_rows(const struct matrix *w, int64_t o, int rows, struct opened_block *out);
typedef void wide_outputs(const struct opened_block *w, const struct lanes16 *x, int64_t n_block,
                          int n_tok, int rows, struct wanted next, struct wanted more, float *y,
                          int64_t y_stride);
typedef void narrow_outputs(const struct opened_block *w, const struct lanes8 *x, int64_t n_block,
                            int n_tok, int rows, struct wanted next, struct wanted more, float *y,
                            int64_t y_stride);

#define OPEN_ROWS(TYPE, name)                                                                      \
    static void open_##name(const struct matrix *w, int64_t o, int rows, struct opened_block *out) \
    {                                                                                              \
        for (int r = 0; r < rows; r++)                                                             \
            open_row(GRAFT_TYPE_##TYPE, w, o + r, r, out);                                         \
    }
KERNEL_Q8K_TYPES(OPEN_ROWS)
#define outputs_q5_k16 outputs_q4_k16
#define outputs_q5_k8 outputs_q4_k8

struct of_type {
    open_rows *open;
    wide_outputs *wide;
    narrow_outputs *narrow;
};

static struct of_type functions_of(graft_type type)
{
    switch (type) {
#define FUNCTIONS(TYPE, name)                                                                      \
    case GRAFT_TYPE_##TYPE:                                                                        \
        return (struct of_type){open_##name, outputs_##name##16, outputs_##name##8};
        KERNEL_Q8K_TYPES(FUNCTIONS)
    default:
        return (struct of_type){NULL, NULL, NULL};
    }
}

void avx512_decode_k_lanes(const struct matrix *w, const struct act_q8k *x, int n_tok,
                           int64_t o_begin, int64_t o_end, float *y, int64_t y_stride,
                           void *scratch)
{
    const int64_t n_block = w->n_in / Q8K_BLOCK;
    const struct of_type f = functions_of(w->type);
    const int n_wide = n_tok % 16 > 8 ? n_tok / 16 + 1 : n_tok / 16;
    struct lanes16 *wide = (struct lanes16 *)(((uintptr_t)scratch + 63) & ~(uintptr_t)63);
    struct lanes8 *narrow = (struct lanes8 *)(wide + n_wide * n_block);
    struct opened_block *opened = (struct opened_block *)(narrow + n_block);
    for (int i = 0; i < n_wide; i++)
        lay_out16(w->type, x + 16 * i * n_block, n_tok - 16 * i, n_block, wide + i * n_block);
    if (n_tok > 16 * n_wide)
        lay_out8(w->type, x + 16 * n_wide * n_block, n_tok - 16 * n_wide, n_block, narrow);
    struct asking asking = asking_of(w);
    for (int64_t o = o_begin; o < o_end; o += LANE_OUTPUTS) {
        int rows = (int)(o_end - o < LANE_OUTPUTS ? o_end - o : LANE_OUTPUTS);
        const struct wanted more = asking_share(&asking, blocks_of(o_end - o, LANE_OUTPUTS),
                                                n_block * 8 * AHEAD_PLACES, wide);
        struct wanted next = {(const uint8_t *)w->data + (size_t)(o + LANE_OUTPUTS) * w->row_bytes,
                              w->row_bytes * LANE_OUTPUTS / (size_t)n_block};
        f.open(w, o, rows, opened);
        for (int i = 0; i < n_wide; i++) {
            f.wide(opened, wide + i * n_block, n_block, n_tok - 16 * i, rows, next, more,
                   y + 16 * i * y_stride + o, y_stride);
            next.step = 0;
        }
        if (n_tok > 16 * n_wide)
            f.narrow(opened, narrow, n_block, n_tok - 16 * n_wide, rows, next, more,
                     y + 16 * n_wide * y_stride + o, y_stride);
    }
}
