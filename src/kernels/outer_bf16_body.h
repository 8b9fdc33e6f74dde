/* outer_bf16_body.h: outer products of a tier whose matrix unit takes bf16. Included after lowrank_bf16_body.h, whose
 * words it uses, OUTER_FORMAT (the most exact format that it multiplies in bf16: where the unit gains too little
 * from three products, sums of two are left to floats), and these words:
 *   bf16_columns(x, x_stride, n_row, n, pitch, large, small)
 *                                 n columns of n_row ≤ 16 rows of floats, rounded (small NULL) or split, as n rows of 16
 *                                 that are `pitch` apart; zeros where there is no row
 *   bf16_round_pairs(a, b, n, out)
 *                                 n values of two rows of floats (b NULL: zeros), rounded, into a row of a panel; zeros
 *                                 up to the whole of it
 *   bf16_few(a)                   a product of few ranks; false: take panels
 *
 * Tokens are K: pairs of them are a row of a panel, and ranks stand where tokens do elsewhere.
 */
#define BODY(name) KERNEL_CAT(TIER, name)

/* Ranks as rows of s->x, zeros up to `end` tokens and to whole BF16_ROWS. */
static void outer_ranks(const struct bf16_space *s, const float *u, int64_t u_stride, int64_t n_tok,
                        int64_t end, int64_t n_rank)
{
    for (int64_t t = 0; t < end; t += 16) {
        int64_t n = n_tok - t < 16 ? n_tok - t : 16;
        bf16_columns(u + t * u_stride, u_stride, n > 0 ? n : 0, n_rank, BF16_PITCH, s->x[0] + t,
                     s->x_parts == 2 ? s->x[1] + t : NULL);
    }
    for (int64_t r = n_rank; r % BF16_ROWS; r++)
        for (int part = 0; part < s->x_parts; part++)
            memset(s->x[part] + r * BF16_PITCH, 0, (size_t)end * sizeof(uint16_t));
}

/* n ≤ BF16_OUTPUTS columns of tokens t and t + 1, those of n_tok that there are, into row t / 2 of the panel; what
 * comes next of them is asked for. */
static void outer_pair(const struct bf16_space *s, const float *x, int64_t x_stride, int64_t t,
                       int64_t n_tok, int64_t n)
{
    const float *row = x + t * x_stride;
    for (int i = 0; i < 2 && t + i < n_tok; i++) {
        __builtin_prefetch(row + i * x_stride + BF16_OUTPUTS, 0, 2);
        __builtin_prefetch(row + i * x_stride + BF16_OUTPUTS + 16, 0, 2);
    }
    if (t < n_tok && s->w_parts == 1) {
        bf16_round_pairs(row, t + 1 < n_tok ? row + x_stride : NULL, n,
                         s->panel[0] + t * BF16_OUTPUTS);
        return;
    }
    for (int i = 0; i < 2; i++) {
        uint16_t *large = s->rows[0] + i * BF16_ROW_PITCH, *small = s->rows[1] + i * BF16_ROW_PITCH;
        if (t + i < n_tok) {
            bf16_split(row + i * x_stride, n, large, small);
        } else {
            memset(large, 0, BF16_OUTPUTS * sizeof *large);
            memset(small, 0, BF16_OUTPUTS * sizeof *small);
        }
    }
    for (int part = 0; part < s->w_parts; part++)
        bf16_pairs(s->rows[part], s->rows[part] + BF16_ROW_PITCH,
                   s->panel[part] + t * BF16_OUTPUTS);
}

/* Up to BF16_TOKENS ranks from r on, up to BF16_CHUNK tokens from t on. */
static void outer_tokens(const struct outer_args *a, const struct bf16_space *s, int64_t r,
                         int64_t n_rank, int64_t t, int64_t n_tok)
{
    const float *x = a->x + t * a->x_stride;
    struct bf16_tile p = {
        .y_stride = a->g_stride, .n_tok = (int)n_rank, .n = blocks_of(n_tok, BF16_K) * BF16_K};
    outer_ranks(s, a->u + t * a->u_stride + r, a->u_stride, n_tok, p.n, n_rank);
    bf16_set_factors(s, &p, 0);
    for (int64_t i = a->i_begin; i < a->i_end; i += BF16_OUTPUTS) {
        p.n_row = a->i_end - i < BF16_OUTPUTS ? a->i_end - i : BF16_OUTPUTS;
        for (int64_t pair = 0; pair < p.n; pair += 2)
            outer_pair(s, x + i, a->x_stride, pair, n_tok, p.n_row);
        p.y = a->g + r * a->g_stride + i;
        bf16_multiply(&p);
    }
}

void BODY(_outer)(const struct outer_args *a)
{
    if (a->format < OUTER_FORMAT) {
        BF16_FLOATS(_outer)(a);
        return;
    }
    if (bf16_few(a))
        return;
    const struct bf16_space s = bf16_layout(a->format == PANEL_SPLIT, false, a->scratch);
    bf16_begin();
    for (int64_t r = 0; r < a->rank; r += BF16_TOKENS)
        for (int64_t t = 0; t < a->n_tok; t += BF16_CHUNK)
            outer_tokens(a, &s, r, a->rank - r < BF16_TOKENS ? a->rank - r : BF16_TOKENS, t,
                         a->n_tok - t < BF16_CHUNK ? a->n_tok - t : BF16_CHUNK);
    bf16_end();
}
