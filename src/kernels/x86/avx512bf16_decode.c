/* avx512bf16_decode.c: the decode product of BF16 weights by vdpbf16ps, which adds the products of two pairs of bf16 to
 * a float in each lane. A weight is taken as it lies, and need not become a float; a value of x is the sum of two bf16,
 * so a product is off by 2^-17. (Numbers that are none stay so; denormal ones count as 0.)
 *
 * Each output is one vector of sums over K, the large parts of 32 values and then the small ones in turn; then their
 * sum, whatever the tile. For a few tokens tiles are tall, so that no sum waits for itself; more tokens share what is
 * loaded of fewer rows.
 */
#include "avx512bf16.h"

#include "avx512_vec.h"
#include "kernels/decode_tiles.h"
#include "kernels/panels.h"

enum { TALL_ROWS = 8, TALL_TOKENS = 2, WIDE_ROWS = 4, WIDE_TOKENS = 5, OUTPUTS = 24 };

/* Tokens that are held split at once: as many bytes as DECODE_PACK rows of two-byte values. Bytes of W that stay in the
 * second cache meanwhile. */
enum { SPLIT_TOKENS = DECODE_PACK / 2, BLOCK_BYTES = 256 << 10 };

/* Rows of W, of tokens and of outputs that a tile begins with. */
struct pair_tile {
    const uint8_t *row;
    const uint16_t *x; /* of a token its large parts and then its small ones, each x_pitch long */
    float *y;
    size_t row_pitch; /* from one row of the tile to the next */
    int64_t n, x_pitch, y_stride, y_pitch;
    size_t ahead; /* from the weights in hand to those to ask for; 0: to these again */
};

/* `columns`: which of 32 there are. */
ALWAYS_INLINE void pair_step(const struct pair_tile *p, int64_t k, __mmask32 columns, int rows,
                             int tokens, vf sum[OUTPUTS])
{
    __m512bh x[2][WIDE_TOKENS];
    TIMES(t, tokens) TIMES(part, 2)
    {
        x[part][t] = (__m512bh)_mm512_load_si512(p->x + (2 * t + part) * p->x_pitch + k);
    }
    TIMES(r, rows)
    {
        const uint8_t *row = p->row + (size_t)r * p->row_pitch + 2 * k;
        prefetch(row + p->ahead);
        __m512bh w = (__m512bh)(columns == UINT32_MAX ? _mm512_loadu_si512(row)
                                                      : _mm512_maskz_loadu_epi16(columns, row));
        TIMES(part, 2) TIMES(t, tokens)
        {
            sum[t * rows + r] = _mm512_dpbf16_ps(sum[t * rows + r], w, x[part][t]);
        }
    }
}

ALWAYS_INLINE void pair_tile(const struct pair_tile *p, int rows, int tokens)
{
    const int n = rows * tokens, eights = (n + 4) / 8;
    int64_t k = 0;
    vf sum[OUTPUTS];
    float out[OUTPUTS];
    TIMES(i, OUTPUTS) sum[i] = v_zero();
    for (; k + BF16_STEP <= p->n; k += BF16_STEP)
        pair_step(p, k, UINT32_MAX, rows, tokens, sum);
    if (k < p->n)
        pair_step(p, k, (1u << (p->n - k)) - 1, rows, tokens, sum);
    TIMES(i, eights) v_sums(sum + 8 * i, out + 8 * i);
    for (int i = 8 * eights; i < n; i++)
        out[i] = v_sum(sum[i]);
    if (p->y_pitch == 1)
        TIMES(t, tokens) memcpy(p->y + t * p->y_stride, out + t * rows, (size_t)rows * sizeof *out);
    else
        TIMES(i, n) p->y[i / rows * p->y_stride + i % rows * p->y_pitch] = out[i];
}

/* `rows` rows of W from o on and all tokens, in as few tiles as there can be, as equal as they can be. */
ALWAYS_INLINE void pair_rows(const struct matrix *w, const struct streams *s, int64_t o,
                             struct pair_tile p, int n_tok, int rows)
{
    p.row = (const uint8_t *)w->data + (size_t)o * w->row_bytes;
    p.row_pitch = (size_t)s->apart * w->row_bytes;
    p.y += o;
    p.y_pitch = s->apart;
    p.ahead = s->ahead;
    for (int left = n_tok, taken; left; left -= taken) {
        const int tiles = (left + WIDE_TOKENS - 1) / WIDE_TOKENS;
        taken = (left + tiles - 1) / tiles;
        if (rows == TALL_ROWS && taken == 1) {
            pair_tile(&p, TALL_ROWS, 1);
        } else if (rows == TALL_ROWS) {
            pair_tile(&p, TALL_ROWS, taken = TALL_TOKENS);
        } else if (taken == WIDE_TOKENS) {
            pair_tile(&p, rows, WIDE_TOKENS);
        } else if (taken == 4) {
            pair_tile(&p, rows, 4);
        } else if (taken == 3) {
            pair_tile(&p, rows, 3);
        } else if (taken == 2) {
            pair_tile(&p, rows, 2);
        } else {
            pair_tile(&p, rows, 1);
        }
        p.x += 2 * taken * p.x_pitch;
        p.y += taken * p.y_stride;
        p.ahead = 0;
    }
}

ALWAYS_INLINE void pair_outputs(const struct matrix *w, const struct streams *all, int64_t o_begin,
                                int64_t o_end, const struct pair_tile *p, int n_tok, int rows)
{
    const struct streams one = single_stream(w);
    for (int64_t i = 0; i < all->tiles; i++)
        pair_rows(w, all, o_begin + i * all->next, *p, n_tok, rows);
    for (int64_t o = o_begin + all->tiles * rows; o < o_end; o++)
        pair_rows(w, &one, o, *p, n_tok, 1);
}

/* n tokens, split first. */
static void pair_tokens(const struct matrix *w, const float *x, int n, int64_t o_begin,
                        int64_t o_end, float *y, int64_t y_stride, uint16_t *split)
{
    struct pair_tile p = {.x = split, .y = y, .n = w->n_in, .y_stride = y_stride};
    p.x_pitch = blocks_of(w->n_in, BF16_STEP) * BF16_STEP;
    for (int t = 0; t < n; t++, split += 2 * p.x_pitch)
        avx512bf16_split(x + t * w->n_in, w->n_in, split, split + p.x_pitch);
    if (n <= TALL_TOKENS) {
        const struct streams all = n == 1 ? streams_of(w, o_begin, o_end, TALL_ROWS)
                                          : near_streams(w, o_begin, o_end, TALL_ROWS);
        pair_outputs(w, &all, o_begin, o_end, &p, n, TALL_ROWS);
    } else {
        const struct streams all = near_streams(w, o_begin, o_end, WIDE_ROWS);
        pair_outputs(w, &all, o_begin, o_end, &p, n, WIDE_ROWS);
    }
}

/* More tokens than are held at once take turns with a block of W. */
void avx512bf16_linear_decode_bf16(const struct matrix *w, const void *x, int n_tok,
                                   int64_t o_begin, int64_t o_end, float *y, int64_t y_stride,
                                   void *scratch)
{
    const int turns = (int)blocks_of(n_tok, SPLIT_TOKENS), each = (int)blocks_of(n_tok, turns);
    int64_t block = o_end - o_begin, stop;
    if (turns > 1)
        block = (1 + (int64_t)(BLOCK_BYTES / w->row_bytes) / WIDE_ROWS) * WIDE_ROWS;
    for (int64_t o = o_begin; o < o_end; o = stop) {
        stop = o + block < o_end ? o + block : o_end;
        for (int t = 0; t < n_tok; t += each)
            pair_tokens(w, (const float *)x + t * w->n_in, n_tok - t < each ? n_tok - t : each, o,
                        stop, y + t * y_stride, y_stride, align_scratch(scratch));
    }
}
