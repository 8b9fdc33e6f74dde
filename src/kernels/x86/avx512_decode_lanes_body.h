/* avx512_decode_lanes_body.h: LANES rows of activations along the lanes of a vector, and the product
 * of some opened rows of W with them. Included by avx512_decode_lanes.c for 16 and for 8 lanes.
 */
#define L(name) KERNEL_CAT(name, LANES)

#if LANES == 16
typedef __m512i li16;
typedef __m512 lf16;
#define LI(op) KERNEL_CAT(_mm512_, op)
#define LI_LOAD(p) _mm512_loadu_si512(p)
#define LI_ZERO() _mm512_setzero_si512()
#else
typedef __m256i li8;
typedef __m256 lf8;
#define LI(op) KERNEL_CAT(_mm256_, op)
#define LI_LOAD(p) _mm256_loadu_si256((const __m256i *)(const void *)(p))
#define LI_ZERO() _mm256_setzero_si256()
#endif

/* One block of LANES rows. */
struct L(lanes) {
    int8_t q[8][LANES][4];
    float scale[LANES];
    union {
        int32_t offset[LANES]; /* −(code offset) · Σ q */
        float sum[LANES];      /* scale · Σ q, for types with minima */
    };
};

/* One block of 8 rows into lanes t..t + 8. */
ALWAYS_INLINE void L(lay_out_eight)(graft_type type, const struct act_q8 *const row[8], int64_t b,
                                    int t, struct L(lanes) * out)
{
    __m256i r[8], a[8], c[8];
    __m128 head[4], scales[2], sums[2];
    TIMES(i, 8)
    {
        r[i] = _mm256_loadu_si256((const __m256i *)row[i][b].q);
        if (type == GRAFT_TYPE_MLX4)
            r[i] = even_then_odd(r[i]);
    }
    TIMES(i, 4)
    {
        a[2 * i] = _mm256_unpacklo_epi32(r[2 * i], r[2 * i + 1]);
        a[2 * i + 1] = _mm256_unpackhi_epi32(r[2 * i], r[2 * i + 1]);
        __m128 first = _mm_castsi128_ps(_mm_loadu_si64(&row[2 * i][b].scale));
        head[i] =
            _mm_unpacklo_ps(first, _mm_castsi128_ps(_mm_loadu_si64(&row[2 * i + 1][b].scale)));
    }
    TIMES(i, 2)
    {
        c[4 * i] = _mm256_unpacklo_epi64(a[4 * i], a[4 * i + 2]);
        c[4 * i + 1] = _mm256_unpackhi_epi64(a[4 * i], a[4 * i + 2]);
        c[4 * i + 2] = _mm256_unpacklo_epi64(a[4 * i + 1], a[4 * i + 3]);
        c[4 * i + 3] = _mm256_unpackhi_epi64(a[4 * i + 1], a[4 * i + 3]);
        scales[i] = _mm_movelh_ps(head[2 * i], head[2 * i + 1]);
        sums[i] = _mm_movehl_ps(head[2 * i + 1], head[2 * i]);
    }
    TIMES(i, 4)
    {
        __m256i low = _mm256_permute2x128_si256(c[i], c[i + 4], 0x20);
        __m256i high = _mm256_permute2x128_si256(c[i], c[i + 4], 0x31);
        _mm256_storeu_si256((__m256i *)(void *)out->q[i][t], low);
        _mm256_storeu_si256((__m256i *)(void *)out->q[i + 4][t], high);
    }
    _mm256_storeu_ps(out->scale + t, _mm256_set_m128(scales[1], scales[0]));
    if (has_minimum(type))
        _mm256_storeu_ps(out->sum + t, _mm256_set_m128(sums[1], sums[0]));
}

/* Rows of n_block blocks; lanes without a row repeat the last. */
static void L(lay_out)(graft_type type, const struct act_q8 *x, int n_tok, int64_t n_block,
                       struct L(lanes) * out)
{
    const L(li) ones = LI(set1_epi8)(1), offset = LI(set1_epi32)(-code_offset(type));
    const struct act_q8 *row[LANES];
    for (int t = 0; t < LANES; t++)
        row[t] = x + (t < n_tok ? t : n_tok - 1) * n_block;
    for (int64_t b = 0; b < n_block; b++, out++) {
        for (int t = 0; t < LANES; t += 8)
            L(lay_out_eight)(type, row + t, b, t, out);
        if (!has_minimum(type)) {
            L(li) sum = LI_ZERO();
            TIMES(j, 8) sum = LI(dpbusd_epi32)(sum, ones, LI_LOAD(out->q[j]));
            sum = LI(mullo_epi32)(sum, offset);
            memcpy(out->offset, &sum, sizeof sum);
        }
    }
}

/* sum[r] += block 4 j + l of a step of W's rows times that of the lanes */
ALWAYS_INLINE void L(add_block)(bool mins, const struct opened *w, const struct L(lanes) * x, int j,
                                int l, L(lf) sum[LANE_OUTPUTS])
{
    const uint8_t *q = one_pointer(w->q[j][0][0] + 16 * l);
    const float *m = one_pointer(&w->m[0][4 * l + j]);
    const float *d = one_pointer(&w->d[0][4 * l + j]);
    L(li) dot[LANE_OUTPUTS];
    TIMES(r, LANE_OUTPUTS) dot[r] = mins ? LI_ZERO() : LI_LOAD(x->offset);
    TIMES(i, 8)
    {
        L(li) xi = LI_LOAD(x->q[i]);
        TIMES(r, LANE_OUTPUTS)
        {
            const uint8_t *four = q + 128 * r + i / 4 * 64 + i % 4 * 4;
            dot[r] = LI(dpbusd_epi32)(dot[r], LI(set1_epi32)((int)load_u32(four)), xi);
        }
    }
    L(lf) scale = LI(loadu_ps)(x->scale);
    TIMES(r, LANE_OUTPUTS)
    {
        L(lf) v = LI(mul_ps)(LI(set1_ps)(d[16 * r]), LI(cvtepi32_ps)(dot[r]));
        sum[r] = LI(fmadd_ps)(v, scale, sum[r]);
    }
    if (mins)
        TIMES(r, LANE_OUTPUTS)
        {
            L(lf) mr = LI(set1_ps)(m[16 * r]);
            sum[r] = LI(fmadd_ps)(mr, LI(loadu_ps)(x->sum), sum[r]);
        }
}

/* y[t, r] of `rows` opened rows of W and LANES rows of activations, of which n_tok exist. */
ALWAYS_INLINE void L(outputs)(bool mins, const struct opened *w, const struct L(lanes) * x,
                              int64_t n_block, int n_tok, int rows, struct wanted next, float *y,
                              int64_t y_stride)
{
    float out[4][LANE_OUTPUTS][LANES] __attribute__((aligned(64)));
    for (int j = 0; j < 4; j++) { /* chain j has blocks 4 j..4 j + 3 of each step */
        L(lf) sum[LANE_OUTPUTS];
        TIMES(r, LANE_OUTPUTS) sum[r] = LI(setzero_ps)();
        for (int64_t first = 0; first + 4 * j < n_block; first += STEP_BLOCKS) {
            const struct opened *step = w + first / STEP_BLOCKS;
            for (int l = 0; l < 4 && first + 4 * j + l < n_block; l++) {
                for (size_t i = 0; i < next.step; i += 64)
                    prefetch(next.p + i);
                next.p += next.step;
                L(add_block)(mins, step, x + first + 4 * j + l, j, l, sum);
            }
        }
        TIMES(r, LANE_OUTPUTS) LI(storeu_ps)(out[j][r], sum[r]);
    }
    TIMES(r, LANE_OUTPUTS)
    {
        L(lf) low = LI(add_ps)(LI(loadu_ps)(out[0][r]), LI(loadu_ps)(out[1][r]));
        L(lf) high = LI(add_ps)(LI(loadu_ps)(out[2][r]), LI(loadu_ps)(out[3][r]));
        LI(storeu_ps)(out[0][r], LI(add_ps)(low, high));
    }
    for (int t = 0; t < n_tok && t < LANES; t++)
        for (int r = 0; r < rows; r++)
            y[t * y_stride + r] = out[0][r][t];
}

#define OUTPUTS(name, mins)                                                                        \
    static void L(name)(const struct opened *w, const struct L(lanes) * x, int64_t n_block,        \
                        int n_tok, int rows, struct wanted next, float *y, int64_t y_stride)       \
    {                                                                                              \
        L(outputs)(mins, w, x, n_block, n_tok, rows, next, y, y_stride);                           \
    }
OUTPUTS(outputs_plain, false)
OUTPUTS(outputs_mins, true)

#undef OUTPUTS
#undef L
#undef LI
#undef LI_LOAD
#undef LI_ZERO
