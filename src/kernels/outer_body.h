/* outer_body.h: outer products of a vector tier, in floats. Included after prefill_body.h, whose panels and tile it
 * uses: tokens are K, what goes in is a panel as it lies, and ranks stand where tokens do there.
 */
#define BODY(name) KERNEL_CAT(TIER, name)

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

void BODY(_outer)(const struct outer_args *a)
{
    for (int64_t r = 0; r < a->rank; r += FLOAT_TOKENS)
        for (int64_t t = 0; t < a->n_tok; t += TRANSPOSED_ROWS)
            outer_tokens(a, r, a->rank - r < FLOAT_TOKENS ? a->rank - r : FLOAT_TOKENS, t,
                         a->n_tok - t < TRANSPOSED_ROWS ? a->n_tok - t : TRANSPOSED_ROWS);
}
