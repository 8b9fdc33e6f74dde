/* outer_body.h: outer products of a vector tier, in floats. Included after prefill_body.h, TIER, OUTER_RANKS and
 * OUTER_VECTORS (the tile of a few ranks that fits the registers).
 *
 * A weight's gradient goes through the panels of prefill_body.h: tokens are K, what goes in is a panel as it lies, and
 * ranks stand where tokens do there. A factor has so few ranks that copying a panel would take as long as the
 * products: those read x where it lies and ask meanwhile for what comes next. Each sum is one chain of fused
 * multiply-adds in the order of tokens either way.
 */
#define BODY(name) KERNEL_CAT(TIER, name)

/* ---- a weight ----------------------------------------------------------------------------- */

/* Columns r..r+n_rank of n_tok rows of u, as rows in the scratch. */
static void turn_ranks(const struct float_space *s, const float *u, int64_t u_stride, int64_t n_tok,
                       int64_t n_rank)
{
    for (int64_t t = 0; t < n_tok; t += VF)
        for (int64_t r = 0; r < n_rank; r += VF) {
            vf v[VF];
            TIMES(i, VF)
            {
                v[i] = v_zero();
                if (t + i < n_tok)
                    v[i] = v_load_some(u + (t + i) * u_stride + r, n_rank - r);
            }
            v_transpose(v);
            TIMES(i, VF)
            {
                if (r + i < n_rank)
                    v_store(s->x + (r + i) * FLOAT_PITCH + t, v[i]);
            }
        }
}

/* Columns of n_tok rows of x into the scratch; zeros up to whole panels. */
static void copy_columns(const struct float_space *s, const float *x, int64_t x_stride,
                         int64_t n_tok, int64_t n)
{
    const int64_t width = blocks_of(n, PREFILL_OUTPUTS) * PREFILL_OUTPUTS;
    for (int64_t t = 0; t < n_tok; t++) {
        float *row = s->rows + t * ROW_PITCH;
        memcpy(row, x + t * x_stride, (size_t)n * sizeof *row);
        memset(row + n, 0, (size_t)(width - n) * sizeof *row);
    }
}

/* Up to FLOAT_TOKENS ranks, up to TRANSPOSED_ROWS tokens from t on. */
static void outer_tokens(const struct outer_args *a, int64_t r, int64_t n_rank, int64_t t,
                         int64_t n_tok)
{
    const struct float_space s = float_layout(a->scratch);
    struct prefill_tile p = {.x = s.x,
                             .panel_pitch = ROW_PITCH,
                             .y_stride = a->g_stride,
                             .n = n_tok,
                             .n_tok = (int)n_rank};
    turn_ranks(&s, a->u + t * a->u_stride + r, a->u_stride, n_tok, n_rank);
    for (int64_t i = a->i_begin; i < a->i_end; i += TRANSPOSED_SPAN) {
        int64_t n = a->i_end - i < TRANSPOSED_SPAN ? a->i_end - i : TRANSPOSED_SPAN;
        copy_columns(&s, a->x + t * a->x_stride + i, a->x_stride, n_tok, n);
        for (int64_t j = 0; j < n; j += PREFILL_OUTPUTS) {
            p.n_row = n - j < PREFILL_OUTPUTS ? n - j : PREFILL_OUTPUTS;
            p.y = a->g + r * a->g_stride + i + j;
            p.panel = s.rows + j;
            multiply_panel(&p);
        }
    }
}

/* ---- few ranks ---------------------------------------------------------------------------- */

enum { FEW_RANKS = 64, OUTER_WIDTH = OUTER_VECTORS * VF };

/* `ranks` ranks from r on, `left` columns (OUTER_WIDTH at most; `whole`: all of them) from i on. */
ALWAYS_INLINE void few_tile(const struct outer_args *a, int64_t r, int64_t i, int64_t left,
                            int ranks, bool whole)
{
    vf sum[OUTER_RANKS][OUTER_VECTORS];
    const float *x = a->x + i, *u = a->u + r;
    float *g = a->g + r * a->g_stride + i;
    TIMES(k, ranks) TIMES(v, OUTER_VECTORS)
    {
        float *at = g + k * a->g_stride + v * VF;
        sum[k][v] = v_zero();
        if (whole || left > v * VF)
            sum[k][v] = whole ? v_load(at) : v_load_some(at, left - v * VF);
    }
    for (int t = 0; t < a->n_tok; t++, x += a->x_stride, u += a->u_stride) {
        vf w[OUTER_VECTORS];
        TIMES(v, OUTER_VECTORS)
        {
            w[v] = v_zero();
            if (whole || left > v * VF)
                w[v] = whole ? v_load(x + v * VF) : v_load_some(x + v * VF, left - v * VF);
        }
        if (whole && r == 0)
            for (int j = 0; j < OUTER_WIDTH; j += 16)
                prefetch(x + OUTER_WIDTH + j);
        TIMES(k, ranks)
        {
            vf uk = v_set1(u[k]);
            TIMES(v, OUTER_VECTORS) sum[k][v] = v_fma(uk, w[v], sum[k][v]);
        }
    }
    TIMES(k, ranks) TIMES(v, OUTER_VECTORS)
    {
        float *at = g + k * a->g_stride + v * VF;
        if (whole)
            v_store(at, sum[k][v]);
        else if (left > v * VF)
            v_store_some(at, sum[k][v], left - v * VF);
    }
}

ALWAYS_INLINE void few_ranks(const struct outer_args *a, int64_t i, int64_t left, bool whole)
{
    int64_t r = 0;
    for (; r + OUTER_RANKS <= a->rank; r += OUTER_RANKS)
        few_tile(a, r, i, left, OUTER_RANKS, whole);
    for (; r + 4 <= a->rank; r += 4)
        few_tile(a, r, i, left, 4, whole);
    for (; r < a->rank; r++)
        few_tile(a, r, i, left, 1, whole);
}

static void outer_few(const struct outer_args *a)
{
    int64_t i = a->i_begin;
    for (; i + OUTER_WIDTH <= a->i_end; i += OUTER_WIDTH)
        few_ranks(a, i, OUTER_WIDTH, true);
    if (i < a->i_end)
        few_ranks(a, i, a->i_end - i, false);
}

void BODY(_outer)(const struct outer_args *a)
{
    if (a->rank <= FEW_RANKS) {
        outer_few(a);
        return;
    }
    for (int64_t r = 0; r < a->rank; r += FLOAT_TOKENS)
        for (int64_t t = 0; t < a->n_tok; t += TRANSPOSED_ROWS)
            outer_tokens(a, r, a->rank - r < FLOAT_TOKENS ? a->rank - r : FLOAT_TOKENS, t,
                         a->n_tok - t < TRANSPOSED_ROWS ? a->n_tok - t : TRANSPOSED_ROWS);
}
