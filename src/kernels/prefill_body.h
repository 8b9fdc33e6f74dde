/* prefill_body.h: the products through panels of floats of a vector tier, in the words of its
 * ..._vec.h. Included once per tier, after TIER, PREFILL_TOKENS and PREFILL_VECTORS (the tile that
 * fits its registers).
 *
 * The activations of a chunk of K are copied once, so that rows lie close. A panel of W, K along its
 * rows and PREFILL_OUTPUTS outputs along the lanes, is dequantised (W · x: and turned) and all tokens
 * pass over it while it is in the first cache. y holds the sums between chunks. Each output is
 * therefore one chain of fused multiply-adds in the order of K, whatever the tiling, the tokens in
 * the call or the split of the outputs.
 */
#include "kernels/panels.h"

#define BODY(name) KERNEL_CAT(TIER, name)

enum { PREFILL_OUTPUTS = PREFILL_VECTORS * VF };
_Static_assert((int)PREFILL_OUTPUTS <= (int)PREFILL_PANEL, "the scratch holds PREFILL_PANEL rows");
_Static_assert(PREFILL_CHUNK % VF == 0, "panels are turned VF by VF");
_Static_assert((int)TRANSPOSED_ROWS <= (int)FLOAT_CHUNK, "there is room for their activations");

/* The scratch. */
struct float_space {
    float *panel; /* turned: [FLOAT_CHUNK, PREFILL_OUTPUTS] */
    float *rows;  /* as dequantised: [PREFILL_PANEL or TRANSPOSED_ROWS, ROW_PITCH] */
    float *x;     /* [FLOAT_TOKENS, FLOAT_PITCH] */
};

static struct float_space float_layout(void *scratch)
{
    struct float_space s = {.panel = align_scratch(scratch)};
    s.rows = s.panel + PREFILL_PANEL * FLOAT_CHUNK;
    s.x = s.rows + TRANSPOSED_ROWS * ROW_PITCH;
    return s;
}

struct prefill_tile {
    const float *x;     /* [tokens, FLOAT_PITCH] */
    const float *panel; /* [n, panel_pitch] */
    float *y;           /* [tokens, y_stride] */
    int64_t panel_pitch, y_stride, n;
    int64_t n_row; /* outputs that exist */
    int n_tok;
    bool fresh; /* the first chunk: sums begin at 0 */
};

ALWAYS_INLINE void multiply_tile(const struct prefill_tile *p, int64_t token, int tokens)
{
    vf sum[PREFILL_TOKENS][PREFILL_VECTORS];
    const float *x = p->x + token * FLOAT_PITCH, *panel = p->panel;
    float *y = p->y + token * p->y_stride;
    TIMES(t, tokens) TIMES(v, PREFILL_VECTORS)
    {
        int64_t left = p->n_row - v * VF;
        float *at = y + t * p->y_stride + v * VF;
        sum[t][v] = v_zero();
        if (!p->fresh && left > 0)
            sum[t][v] = v_load_some(at, left);
    }
    for (int64_t j = 0; j < p->n; j++, panel += p->panel_pitch) {
        vf w[PREFILL_VECTORS];
        TIMES(v, PREFILL_VECTORS) w[v] = v_load(panel + v * VF);
        TIMES(t, tokens)
        {
            vf xj = v_set1(x[t * FLOAT_PITCH + j]);
            TIMES(v, PREFILL_VECTORS) sum[t][v] = v_fma(xj, w[v], sum[t][v]);
        }
    }
    TIMES(t, tokens) TIMES(v, PREFILL_VECTORS)
    {
        int64_t left = p->n_row - v * VF;
        float *at = y + t * p->y_stride + v * VF;
        if (left > 0)
            v_store_some(at, sum[t][v], left);
    }
}

static void multiply_panel(const struct prefill_tile *p)
{
    int t = 0;
    for (; t + PREFILL_TOKENS <= p->n_tok; t += PREFILL_TOKENS)
        multiply_tile(p, t, PREFILL_TOKENS);
    for (; t + 4 <= p->n_tok; t += 4)
        multiply_tile(p, t, 4);
    for (; t + 2 <= p->n_tok; t += 2)
        multiply_tile(p, t, 2);
    if (t < p->n_tok)
        multiply_tile(p, t, 1);
}

/* n columns of n_tok rows, x_stride apart, into the scratch. */
static void copy_activations(const struct float_space *s, const float *x, int64_t x_stride,
                             int n_tok, int64_t n)
{
    for (int t = 0; t < n_tok; t++)
        memcpy(s->x + t * FLOAT_PITCH, x + t * x_stride, (size_t)n * sizeof *x);
}

/* ---- W · x -------------------------------------------------------------------------------- */

/* to[j, 0..VF) = from[0..VF, j] for j < columns. */
static void turn_square(const float *from, float *to, int64_t columns)
{
    vf r[VF];
    TIMES(i, VF)
    {
        r[i] = v_load_some(from + i * ROW_PITCH, columns);
    }
    v_transpose(r);
    for (int64_t j = 0; j < columns; j++)
        v_store(to + j * PREFILL_OUTPUTS, r[j]);
}

/* Rows o..o+n_row, columns first..first+n ≤ PREFILL_CHUNK of W into a panel; rows that do not exist
 * are 0. */
static void fill_piece(const struct kernels *k, const struct float_space *s, const struct matrix *w,
                       int64_t o, int64_t n_row, int64_t first, int64_t n, float *panel)
{
    const struct panel_ahead ahead = panel_ahead(w, first, n);
    for (int64_t r = 0; r < PREFILL_OUTPUTS; r++) {
        panel_fetch(&ahead, o + PREFILL_OUTPUTS + r);
        if (r < n_row)
            k->dequantize[w->type](w, o + r, first, n, s->rows + r * ROW_PITCH);
        else
            memset(s->rows + r * ROW_PITCH, 0, (size_t)n * sizeof *s->rows);
    }
    for (int64_t r = 0; r < PREFILL_OUTPUTS; r += VF)
        for (int64_t j = 0; j < n; j += VF)
            turn_square(s->rows + r * ROW_PITCH + j, panel + j * PREFILL_OUTPUTS + r,
                        n - j < VF ? n - j : VF);
}

static void fill_panel(const struct kernels *k, const struct float_space *s, const struct matrix *w,
                       int64_t o, int64_t n_row, int64_t first, int64_t n)
{
    for (int64_t j = 0; j < n; j += PREFILL_CHUNK)
        fill_piece(k, s, w, o, n_row, first + j, n - j < PREFILL_CHUNK ? n - j : PREFILL_CHUNK,
                   s->panel + j * PREFILL_OUTPUTS);
}

/* The product of up to FLOAT_TOKENS rows of x. */
static void float_straight(const struct kernels *k, const struct matrix *w, const float *x,
                           int n_tok, int64_t o_begin, int64_t o_end, float *y, int64_t y_stride,
                           void *scratch)
{
    const struct float_space s = float_layout(scratch);
    struct prefill_tile p = {.x = s.x,
                             .panel = s.panel,
                             .panel_pitch = PREFILL_OUTPUTS,
                             .y_stride = y_stride,
                             .n_tok = n_tok};
    for (int64_t first = 0; first < w->n_in; first += FLOAT_CHUNK) {
        p.n = w->n_in - first < FLOAT_CHUNK ? w->n_in - first : FLOAT_CHUNK;
        p.fresh = first == 0;
        copy_activations(&s, x + first, w->n_in, n_tok, p.n);
        for (int64_t o = o_begin; o < o_end; o += PREFILL_OUTPUTS) {
            p.n_row = o_end - o < PREFILL_OUTPUTS ? o_end - o : PREFILL_OUTPUTS;
            p.y = y + o;
            fill_panel(k, &s, w, o, p.n_row, first, p.n);
            multiply_panel(&p);
        }
    }
}

void BODY(_linear_prefill)(const struct kernels *k, const struct matrix *w, const float *x,
                           int n_tok, int64_t o_begin, int64_t o_end, float *y, int64_t y_stride,
                           void *scratch)
{
    for (int t = 0; t < n_tok; t += FLOAT_TOKENS) {
        int some = n_tok - t < FLOAT_TOKENS ? n_tok - t : FLOAT_TOKENS;
        float_straight(k, w, x + t * w->n_in, some, o_begin, o_end, y + t * y_stride, y_stride,
                       scratch);
    }
}

/* ---- dy · W ------------------------------------------------------------------------------- */

/* Columns i..i+n of rows first..first+n_row, in which the rows are K: they are panels as they are.
 * Zeros up to whole panels. */
static void fill_transposed(const struct kernels *k, const struct float_space *s,
                            const struct matrix *w, int64_t first, int64_t n_row, int64_t i,
                            int64_t n)
{
    const int64_t width = blocks_of(n, PREFILL_OUTPUTS) * PREFILL_OUTPUTS;
    const struct panel_ahead ahead = panel_ahead(w, i, n);
    for (int64_t r = 0; r < n_row; r++) {
        float *row = s->rows + r * ROW_PITCH;
        panel_fetch(&ahead, first + r + ROWS_AHEAD);
        k->dequantize[w->type](w, first + r, i, n, row);
        memset(row + n, 0, (size_t)(width - n) * sizeof *row);
    }
}

/* The product of up to FLOAT_TOKENS rows of dy. */
static void float_transposed(const struct kernels *k, const struct transposed_args *a,
                             const float *dy, int n_tok, float *dx)
{
    const struct matrix *w = a->w;
    const struct float_space s = float_layout(a->scratch);
    struct prefill_tile p = {
        .x = s.x, .panel_pitch = ROW_PITCH, .y_stride = a->dx_stride, .n_tok = n_tok};
    for (int64_t first = 0; first < w->n_out; first += TRANSPOSED_ROWS) {
        p.n = w->n_out - first < TRANSPOSED_ROWS ? w->n_out - first : TRANSPOSED_ROWS;
        p.fresh = first == 0 && !a->accumulate;
        copy_activations(&s, dy + first, w->n_out, n_tok, p.n);
        for (int64_t i = a->i_begin; i < a->i_end; i += TRANSPOSED_SPAN) {
            int64_t n = a->i_end - i < TRANSPOSED_SPAN ? a->i_end - i : TRANSPOSED_SPAN;
            fill_transposed(k, &s, w, first, p.n, i, n);
            for (int64_t j = 0; j < n; j += PREFILL_OUTPUTS) {
                p.n_row = n - j < PREFILL_OUTPUTS ? n - j : PREFILL_OUTPUTS;
                p.y = dx + i + j;
                p.panel = s.rows + j;
                multiply_panel(&p);
            }
        }
    }
}

void BODY(_linear_transposed)(const struct kernels *k, const struct transposed_args *a)
{
    for (int t = 0; t < a->n_tok; t += FLOAT_TOKENS) {
        int some = a->n_tok - t < FLOAT_TOKENS ? a->n_tok - t : FLOAT_TOKENS;
        float_transposed(k, a, a->dy + t * a->w->n_out, some, a->dx + t * a->dx_stride);
    }
}
