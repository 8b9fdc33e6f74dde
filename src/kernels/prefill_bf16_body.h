/* prefill_bf16_body.h: the prefill product of a tier whose matrix unit multiplies pairs of bf16.
 * Included once per tier, after TIER and the words below.
 *
 * Weights and activations are rounded to bf16, products and sums are floats. For each BF16_CHUNK
 * columns of W the rows of x are rounded once; then, BF16_OUTPUTS rows of W at a time, a panel is
 * dequantised, which all tokens use while it is in the first or second cache:
 *   panel[k / 2][output][k % 2]     what a dot product of pairs and a tile of AMX take as they are
 * y holds the sums between chunks. An output is one chain of steps in the order of K, and rows that
 * do not exist are neither read nor stored, so nothing depends on the company. Types that are not
 * quantised take panels of floats.
 *
 * Words:
 *   bf16_row(w, row, first, n, out)    n weights of a row, dequantised and rounded
 *   bf16_round(x, n, out)              n floats, rounded
 *   bf16_turn(rows, n, out)            16 rows, BF16_PITCH apart, into half of a panel
 *   bf16_multiply(p)                   y (+)= x · panel for p->n_tok tokens
 *   bf16_float_prefill                 linear_prefill for panels of floats
 */
#define BODY(name) KERNEL_CAT(TIER, name)

_Static_assert(BF16_OUTPUTS == 32 && BF16_CHUNK % PREFILL_CHUNK == 0, "two halves, whole pieces");

/* Zeros up to a whole number of steps; returns where they end. */
static int64_t pad_step(uint16_t *row, int64_t n)
{
    int64_t end = blocks_of(n, BF16_STEP) * BF16_STEP;
    memset(row + n, 0, (size_t)(end - n) * sizeof *row);
    return end;
}

/* Columns first..first+n of rows o..o+n_row into a panel; where there is no row the last one stands
 * again, and nobody reads the product. */
static void bf16_fill(const struct matrix *w, int64_t o, int64_t n_row, int64_t first, int64_t n,
                      uint16_t *rows, uint16_t *panel)
{
    for (int64_t half = 0; half < BF16_OUTPUTS && half < n_row; half += 16)
        for (int64_t j = 0; j < n; j += PREFILL_CHUNK) {
            int64_t columns = n - j < PREFILL_CHUNK ? n - j : PREFILL_CHUNK, end = 0;
            for (int64_t r = 0; r < 16; r++) {
                int64_t row = half + r < n_row ? half + r : n_row - 1;
                bf16_row(w, o + row, first + j, columns, rows + r * BF16_PITCH);
                end = pad_step(rows + r * BF16_PITCH, columns);
            }
            bf16_turn(rows, end, panel + j * BF16_OUTPUTS + 2 * half);
        }
}

/* Up to BF16_TOKENS rows of x. */
static void bf16_product(const struct matrix *w, const float *x, int n_tok, int64_t o_begin,
                         int64_t o_end, float *y, int64_t y_stride, void *scratch)
{
    uint16_t *panel = (uint16_t *)(((uintptr_t)scratch + 63) & ~(uintptr_t)63);
    uint16_t *rows = panel + BF16_OUTPUTS * BF16_CHUNK; /* [16, BF16_PITCH] */
    uint16_t *rounded = rows + 16 * BF16_PITCH;         /* [BF16_TOKENS, BF16_PITCH] */
    struct bf16_tile p = {.x = rounded, .panel = panel, .y_stride = y_stride, .n_tok = n_tok};
    for (int64_t first = 0; first < w->n_in; first += BF16_CHUNK) {
        int64_t n = w->n_in - first < BF16_CHUNK ? w->n_in - first : BF16_CHUNK;
        for (int t = 0; t < n_tok; t++) {
            bf16_round(x + t * w->n_in + first, n, rounded + t * BF16_PITCH);
            p.n = pad_step(rounded + t * BF16_PITCH, n);
        }
        p.fresh = first == 0;
        for (int64_t o = o_begin; o < o_end; o += BF16_OUTPUTS) {
            p.n_row = o_end - o < BF16_OUTPUTS ? o_end - o : BF16_OUTPUTS;
            p.y = y + o;
            bf16_fill(w, o, p.n_row, first, n, rows, panel);
            bf16_multiply(&p);
        }
    }
}

void BODY(_linear_prefill)(const struct kernels *k, const struct matrix *w, const float *x,
                           int n_tok, int64_t o_begin, int64_t o_end, float *y, int64_t y_stride,
                           void *scratch)
{
    if (!kernels_rounds_panels(k, w->type)) {
        bf16_float_prefill(k, w, x, n_tok, o_begin, o_end, y, y_stride, scratch);
        return;
    }
    for (int t = 0; t < n_tok; t += BF16_TOKENS) {
        int some = n_tok - t < BF16_TOKENS ? n_tok - t : BF16_TOKENS;
        bf16_product(w, x + t * w->n_in, some, o_begin, o_end, y + t * y_stride, y_stride, scratch);
    }
}
