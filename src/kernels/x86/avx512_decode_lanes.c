/* avx512_decode_lanes.c: the AVX-512 tier's decode products of the types whose blocks are 32 values,
 * for many rows. The arithmetic stands in avx512_decode.h.
 *
 * Rows of activations lie along the lanes, sixteen or eight at a time: four consecutive values of
 * each row are one lane of a vector, so that four codes of a weight, broadcast, are multiplied with
 * all rows by one vpdpbusd and no sum has to be taken across lanes. LANE_OUTPUTS rows of W are
 * taken apart at once, into bytes that stay in the first cache, and share the loads of activations.
 */
#include "avx512_decode.h"

/* Sixteen blocks of some rows of W, taken apart: codes as codes_of_four has them, the factors of block
 * 4 j + l in place 4 l + j. */
struct opened {
    uint8_t q[4][LANE_OUTPUTS][2][64];
    float d[LANE_OUTPUTS][16], m[LANE_OUTPUTS][16];
};

/* Rows of W whose codes are read where they are: split ones of Q8_0 lie as they are wanted. Opened they
 * have their factors only. */
struct in_place {
    const uint8_t *row;
    size_t row_bytes;
};

enum lanes_kind { LANES_PLAIN, LANES_MINS, LANES_SPLIT };

/* Where the codes of blocks 4 j.. of a step begin, which is the row's step from block `first` on. */
ALWAYS_INLINE void rows_of_codes(enum lanes_kind kind, const struct opened *w,
                                 struct in_place place, int64_t first, int j,
                                 const uint8_t *codes[LANE_OUTPUTS])
{
    const uint8_t *p = kind == LANES_SPLIT
                           ? place.row + split_group_at(GRAFT_TYPE_Q8_0, first + 4 * j)
                           : one_pointer(w->q[j][0][0]);
    TIMES(r, LANE_OUTPUTS)
    {
        codes[r] = p;
        if (kind == LANES_SPLIT)
            codes[r] = one_pointer(p + (size_t)r * place.row_bytes);
        else
            codes[r] = p + r * (int)sizeof w->q[j][r];
    }
}

/* Of the next rows of W, for each block of these: 34 bytes of each at most. */
enum { NEXT_PLACES = 5 };
_Static_assert(NEXT_PLACES * 64 >= LANE_OUTPUTS * 34, "each line of them");

#define LANES 16
#include "avx512_decode_lanes_body.h"
#undef LANES

#define LANES 8
#include "avx512_decode_lanes_body.h"
#undef LANES

/* ---- weights ------------------------------------------------------------------------------ */

/* A step into row r of *out. */
ALWAYS_INLINE void open_step(graft_type type, const struct step *s, int r, struct opened *out)
{
    __m128i four[4];
    TIMES(j, 4)
    {
        __m512i q[2];
        four[j] = _mm_setzero_si128();
        if (4 * j >= s->blocks)
            continue;
        open_four(type, s, j, q, four);
        TIMES(i, 2) _mm512_storeu_si512(out->q[j][r][i], q[i]);
    }
    struct factors f = open_factors(type, s, four);
    _mm512_storeu_ps(out->d[r], f.d);
    if (has_minimum(type))
        _mm512_storeu_ps(out->m[r], f.m);
}

/* Row o of W into row r of the steps at out. */
ALWAYS_INLINE void open_row(graft_type type, enum matrix_layout layout, const struct matrix *w,
                            int64_t o, int r, struct opened *out)
{
    const int64_t n_block = w->n_in / Q8_BLOCK;
    for (int64_t b = 0; b < n_block; b += STEP_BLOCKS) {
        struct step s = step_of(type, layout, w, o, b);
        if (n_block - b >= STEP_BLOCKS) {
            open_step(type, &s, r, out++);
        } else {
            s.blocks = (int)(n_block - b);
            open_step(type, &s, r, out);
        }
    }
}

typedef void open_rows(const struct matrix *w, int64_t o, int rows, struct opened *out);

#define OPEN_ROWS(TYPE, name)                                                                      \
    static void open_##name(const struct matrix *w, int64_t o, int rows, struct opened *out)       \
    {                                                                                              \
        for (int r = 0; r < rows; r++)                                                             \
            if (split_code_bytes(GRAFT_TYPE_##TYPE) && w->layout == LAYOUT_SPLIT)                  \
                open_row(GRAFT_TYPE_##TYPE, LAYOUT_SPLIT, w, o + r, r, out);                       \
            else                                                                                   \
                open_row(GRAFT_TYPE_##TYPE, LAYOUT_FILE, w, o + r, r, out);                        \
    }
KERNEL_Q8_TYPES(OPEN_ROWS)

static open_rows *opener(graft_type type)
{
    switch (type) {
#define OPENER(TYPE, name)                                                                         \
    case GRAFT_TYPE_##TYPE:                                                                        \
        return open_##name;
        KERNEL_Q8_TYPES(OPENER)
    default:
        return NULL;
    }
}

/* The factors of LANE_OUTPUTS rows from o on whose codes are in place. */
static void open_in_place(const struct matrix *w, int64_t o, struct opened *out)
{
    const uint8_t *row = (const uint8_t *)w->data + (size_t)o * w->row_bytes;
    for (int64_t b = 0; b < w->n_in / Q8_BLOCK; b += STEP_BLOCKS, out++) {
        const uint8_t *p = row + split_factor_at(GRAFT_TYPE_Q8_0, b);
        TIMES(r, LANE_OUTPUTS)
        _mm512_storeu_ps(out->d[r], factors_of_step(p + (size_t)r * w->row_bytes).d);
    }
}

/* ---- products ----------------------------------------------------------------------------- */

void avx512_decode_lanes(const struct matrix *w, const struct act_q8 *x, int n_tok, int64_t o_begin,
                         int64_t o_end, float *y, int64_t y_stride, void *scratch)
{
    const int64_t n_block = w->n_in / Q8_BLOCK;
    const bool split = w->layout == LAYOUT_SPLIT && w->type == GRAFT_TYPE_Q8_0;
    open_rows *const open = opener(w->type);
    const int n_wide = n_tok % 16 > 8 ? n_tok / 16 + 1 : n_tok / 16;
    struct lanes16 *wide = (struct lanes16 *)(((uintptr_t)scratch + 63) & ~(uintptr_t)63);
    struct lanes8 *narrow = (struct lanes8 *)(wide + n_wide * n_block);
    struct opened *opened = (struct opened *)(narrow + n_block);
    for (int i = 0; i < n_wide; i++)
        lay_out16(w->type, x + 16 * i * n_block, n_tok - 16 * i, n_block, wide + i * n_block);
    if (n_tok > 16 * n_wide)
        lay_out8(w->type, x + 16 * n_wide * n_block, n_tok - 16 * n_wide, n_block, narrow);
    struct asking asking = asking_of(w);
    for (int64_t o = o_begin; o < o_end; o += LANE_OUTPUTS) {
        const int rows = (int)(o_end - o < LANE_OUTPUTS ? o_end - o : LANE_OUTPUTS);
        const uint8_t *row = (const uint8_t *)w->data + (size_t)o * w->row_bytes;
        const struct in_place place = {row, w->row_bytes};
        enum lanes_kind kind = has_minimum(w->type) ? LANES_MINS : LANES_PLAIN;
        const struct wanted more =
            asking_share(&asking, blocks_of(o_end - o, LANE_OUTPUTS), n_block * AHEAD_PLACES, wide);
        struct wanted next = {row + LANE_OUTPUTS * w->row_bytes,
                              w->row_bytes * LANE_OUTPUTS / (size_t)(n_block * NEXT_PLACES) + 1};
        if (split && rows == LANE_OUTPUTS) {
            kind = LANES_SPLIT;
            open_in_place(w, o, opened);
        } else {
            open(w, o, rows, opened);
        }
        for (int i = 0; i < n_wide; i++) {
            outputs_of16(kind, opened, place, wide + i * n_block, n_block, n_tok - 16 * i, rows,
                         next, more, y + 16 * i * y_stride + o, y_stride);
            next.step = 0;
        }
        if (n_tok > 16 * n_wide)
            outputs_of8(kind, opened, place, narrow, n_block, n_tok - 16 * n_wide, rows, next, more,
                        y + 16 * n_wide * y_stride + o, y_stride);
    }
}
