/* prefill_bf16_body.h: the products through panels of a tier whose matrix unit multiplies pairs of
 * bf16. Included once per tier, after TIER and the words below.
 *
 * For each BF16_CHUNK of K the activations are rounded once; then a panel of weights is dequantised,
 * which all tokens use while it is in the first or second cache:
 *   panel[k / 2][output][k % 2]     what a dot product of pairs and a tile of AMX take as they are
 * y holds the sums between chunks. An output is one chain of steps in the order of K, and what does
 * not exist is neither read nor stored, so nothing depends on the company. In PANEL_SPLIT a float is
 * a large and a small bf16; large · large, small x · large and large x · small follow each other
 * within a chunk.
 *
 * Words:
 *   bf16_row(w, row, first, n, out)    n weights of a row of a quantised type, rounded
 *   bf16_round(x, n, out)              n floats of any alignment, rounded; zeros to the end of a BF16_STEP
 *   bf16_split(x, n, large, small)     large = rounded x, small = rounded (x − large); likewise
 *   bf16_turn(rows, n, out)            n columns of 16 rows, BF16_ROW_PITCH apart, into half of a panel
 *   bf16_pairs(a, b, out)              32 values of two rows into one row of a panel
 *   bf16_multiply(p)                   the product
 *   bf16_begin(), bf16_end()           around every product
 *   BF16_CHUNK, BF16_PARTS             width of a panel; 2 where there is a PANEL_SPLIT, else 1
 *   BF16_ROWS                          tokens that the unit takes at a time: those missing are zeros
 *   BF16_FLOATS(name)                  the entry of the tier for panels of floats
 */
#include "kernels/panels.h"

#define BODY(name) KERNEL_CAT(TIER, name)

_Static_assert(BF16_OUTPUTS == 32 && BF16_CHUNK % PREFILL_CHUNK == 0, "two halves, whole pieces");
_Static_assert(BF16_PARTS <= 2 && (int)BF16_CHUNK <= (int)BF16_WIDTH, "all parts have room");
_Static_assert(BF16_TOKENS % BF16_ROWS == 0, "the missing rows have a place");

enum { BF16_PANEL = BF16_OUTPUTS * BF16_CHUNK, BF16_PITCH = BF16_CHUNK + BF16_GAP };

/* The scratch; [0] of large and [1] of small parts. */
struct bf16_space {
    uint16_t *panel[2]; /* [BF16_SPAN, BF16_CHUNK / 2, BF16_OUTPUTS, 2] */
    uint16_t *rows[2];  /* [16, BF16_ROW_PITCH] */
    uint16_t *x[2];     /* [BF16_TOKENS, BF16_PITCH] */
    float *floats;      /* [PREFILL_CHUNK] */
    int x_parts, w_parts;
};

/* exact_weights: they are bf16 as they stand, and have no small parts. */
static struct bf16_space bf16_layout(bool split, bool exact_weights, void *scratch)
{
    struct bf16_space s = {.x_parts = split ? 2 : 1, .w_parts = split && !exact_weights ? 2 : 1};
    uint16_t *p = align_scratch(scratch);
    s.floats = (float *)(void *)p;
    p += PREFILL_CHUNK * sizeof(float) / sizeof *p;
    for (int part = 0; part < BF16_PARTS; part++) {
        s.panel[part] = p;
        s.rows[part] = s.panel[part] + BF16_SPAN * BF16_PANEL;
        s.x[part] = s.rows[part] + 16 * BF16_ROW_PITCH;
        p = s.x[part] + BF16_TOKENS * BF16_PITCH;
    }
    return s;
}

/* Whole steps that hold n columns. */
static int64_t bf16_steps(int64_t n)
{
    return blocks_of(n, BF16_STEP) * BF16_STEP;
}

/* Columns first..first+n of a row of W into row `at` of s->rows. */
static void bf16_weights(const struct kernels *k, const struct bf16_space *s,
                         const struct matrix *w, int64_t row, int64_t first, int64_t n, int64_t at)
{
    uint16_t *large = s->rows[0] + at * BF16_ROW_PITCH;
    if (s->x_parts == 1 && act_format_for(w->type, ROLE_DECODE) != ACT_F32) {
        bf16_row(w, row, first, n, large);
    } else if (w->type == GRAFT_TYPE_BF16 && s->w_parts == 1) {
        memcpy(large, (const uint8_t *)w->data + (size_t)row * w->row_bytes + 2 * (size_t)first,
               2 * (size_t)n);
        memset(large + n, 0, (size_t)(bf16_steps(n) - n) * sizeof *large);
    } else {
        const float *x = s->floats;
        if (w->type == GRAFT_TYPE_F32) /* as they lie */
            x = (const float *)(const void *)((const uint8_t *)w->data +
                                              (size_t)row * w->row_bytes) +
                first;
        else
            k->dequantize[w->type](w, row, first, n, s->floats);
        if (s->w_parts == 2)
            bf16_split(x, n, large, s->rows[1] + at * BF16_ROW_PITCH);
        else
            bf16_round(x, n, large);
    }
}

/* n columns of n_tok rows, x_stride apart, into s->x; returns n in whole steps. */
static int64_t bf16_activations(const struct bf16_space *s, const float *x, int64_t x_stride,
                                int n_tok, int64_t n)
{
    const int64_t end = bf16_steps(n);
    for (int t = 0; t < n_tok; t++) {
        if (s->x_parts == 2)
            bf16_split(x + t * x_stride, n, s->x[0] + t * BF16_PITCH, s->x[1] + t * BF16_PITCH);
        else
            bf16_round(x + t * x_stride, n, s->x[0] + t * BF16_PITCH);
    }
    for (int64_t t = n_tok; t % BF16_ROWS; t++)
        for (int part = 0; part < s->x_parts; part++)
            memset(s->x[part] + t * BF16_PITCH, 0, (size_t)end * sizeof(uint16_t));
    return end;
}

/* The factors of all terms: activations, and the panel at `offset`. */
static void bf16_set_factors(const struct bf16_space *s, struct bf16_tile *p, int64_t offset)
{
    static const int x_part[BF16_TERMS] = {0, 1, 0}, w_part[BF16_TERMS] = {0, 0, 1};
    p->n_terms = s->x_parts + s->w_parts - 1;
    for (int term = 0; term < p->n_terms; term++) {
        p->x[term] = s->x[x_part[term]];
        p->panel[term] = s->panel[w_part[term]] + offset;
    }
}

/* ---- W · x -------------------------------------------------------------------------------- */

/* Columns first..first+n of rows o..o+n_row into a panel; where there is no row the last one stands
 * again, and nobody reads the product. */
static void bf16_fill(const struct kernels *k, const struct bf16_space *s, const struct matrix *w,
                      int64_t o, int64_t n_row, int64_t first, int64_t n)
{
    for (int64_t half = 0; half < BF16_OUTPUTS; half += 16)
        for (int64_t j = 0; j < n; j += PREFILL_CHUNK) {
            int64_t columns = n - j < PREFILL_CHUNK ? n - j : PREFILL_CHUNK;
            int64_t end = bf16_steps(columns);
            const struct panel_ahead ahead = panel_ahead(w, first + j, columns);
            for (int64_t r = 0; r < 16; r++) {
                int64_t row = half + r < n_row ? half + r : n_row - 1;
                panel_fetch(&ahead, o + BF16_OUTPUTS + half + r);
                bf16_weights(k, s, w, o + row, first + j, columns, r);
            }
            for (int part = 0; part < s->w_parts; part++)
                bf16_turn(s->rows[part], end, s->panel[part] + j * BF16_OUTPUTS + 2 * half);
        }
}

/* The product of up to BF16_TOKENS rows of x. */
static void bf16_straight(const struct kernels *k, const struct matrix *w, const float *x,
                          int n_tok, int64_t o_begin, int64_t o_end, float *y, int64_t y_stride,
                          void *scratch)
{
    const bool split = kernels_panel_format(k, w->type) == PANEL_SPLIT;
    const struct bf16_space s = bf16_layout(split, w->type == GRAFT_TYPE_BF16, scratch);
    struct bf16_tile p = {.y_stride = y_stride, .n_tok = n_tok};
    bf16_set_factors(&s, &p, 0);
    for (int64_t first = 0; first < w->n_in; first += BF16_CHUNK) {
        int64_t n = w->n_in - first < BF16_CHUNK ? w->n_in - first : BF16_CHUNK;
        p.n = bf16_activations(&s, x + first, w->n_in, n_tok, n);
        p.fresh = first == 0;
        for (int64_t o = o_begin; o < o_end; o += BF16_OUTPUTS) {
            p.n_row = o_end - o < BF16_OUTPUTS ? o_end - o : BF16_OUTPUTS;
            p.y = y + o;
            bf16_fill(k, &s, w, o, p.n_row, first, n);
            bf16_multiply(&p);
        }
    }
}

void BODY(_linear_prefill)(const struct kernels *k, const struct matrix *w, const float *x,
                           int n_tok, int64_t o_begin, int64_t o_end, float *y, int64_t y_stride,
                           void *scratch)
{
    if (kernels_panel_format(k, w->type) == PANEL_F32) {
        BF16_FLOATS(_linear_prefill)(k, w, x, n_tok, o_begin, o_end, y, y_stride, scratch);
        return;
    }
    bf16_begin();
    for (int t = 0; t < n_tok; t += BF16_TOKENS) {
        int some = n_tok - t < BF16_TOKENS ? n_tok - t : BF16_TOKENS;
        bf16_straight(k, w, x + t * w->n_in, some, o_begin, o_end, y + t * y_stride, y_stride,
                      scratch);
    }
    bf16_end();
}

/* ---- dy · W ------------------------------------------------------------------------------- */

/* Columns i..i+n of rows first..first+n_row into BF16_SPAN panels, in which the rows are K. A block of
 * a row is taken apart once for all columns. */
static void bf16_fill_transposed(const struct kernels *k, const struct bf16_space *s,
                                 const struct matrix *w, int64_t first, int64_t n_row, int64_t i,
                                 int64_t n)
{
    const int64_t end = bf16_steps(n_row);
    const int64_t width = blocks_of(n, BF16_OUTPUTS) * BF16_OUTPUTS;
    const struct panel_ahead ahead = panel_ahead(w, i, n);
    for (int64_t r = 0; r < end; r++) {
        panel_fetch(&ahead, first + r + ROWS_AHEAD);
        if (r < n_row)
            bf16_weights(k, s, w, first + r, i, n, r % 2);
        for (int part = 0; part < s->w_parts; part++) {
            uint16_t *even = s->rows[part], *odd = even + BF16_ROW_PITCH;
            if (r >= n_row)
                memset(r % 2 ? odd : even, 0, (size_t)width * sizeof *even);
            for (int64_t j = 0; r % 2 && j < width; j += BF16_OUTPUTS)
                bf16_pairs(even + j, odd + j,
                           s->panel[part] + j * BF16_CHUNK + (r - 1) * BF16_OUTPUTS);
        }
    }
}

/* The product of up to BF16_TOKENS rows of dy. */
static void bf16_transposed(const struct kernels *k, const struct transposed_args *a,
                            const float *dy, int n_tok, float *dx)
{
    const struct matrix *w = a->w;
    const bool split = kernels_panel_format(k, w->type) == PANEL_SPLIT;
    const struct bf16_space s = bf16_layout(split, w->type == GRAFT_TYPE_BF16, a->scratch);
    struct bf16_tile p = {.y_stride = a->dx_stride, .n_tok = n_tok};
    for (int64_t first = 0; first < w->n_out; first += BF16_CHUNK) {
        int64_t n_row = w->n_out - first < BF16_CHUNK ? w->n_out - first : BF16_CHUNK;
        p.n = bf16_activations(&s, dy + first, w->n_out, n_tok, n_row);
        p.fresh = first == 0 && !a->accumulate;
        for (int64_t i = a->i_begin; i < a->i_end; i += TRANSPOSED_SPAN) {
            int64_t n = a->i_end - i < TRANSPOSED_SPAN ? a->i_end - i : TRANSPOSED_SPAN;
            bf16_fill_transposed(k, &s, w, first, n_row, i, n);
            for (int64_t j = 0; j < n; j += BF16_OUTPUTS) {
                p.n_row = n - j < BF16_OUTPUTS ? n - j : BF16_OUTPUTS;
                p.y = dx + i + j;
                bf16_set_factors(&s, &p, j * BF16_CHUNK);
                bf16_multiply(&p);
            }
        }
    }
}

void BODY(_linear_transposed)(const struct kernels *k, const struct transposed_args *a)
{
    if (kernels_panel_format(k, a->w->type) == PANEL_F32) {
        BF16_FLOATS(_linear_transposed)(k, a);
        return;
    }
    bf16_begin();
    for (int t = 0; t < a->n_tok; t += BF16_TOKENS) {
        int some = a->n_tok - t < BF16_TOKENS ? a->n_tok - t : BF16_TOKENS;
        bf16_transposed(k, a, a->dy + t * a->w->n_out, some, a->dx + t * a->dx_stride);
    }
    bf16_end();
}
