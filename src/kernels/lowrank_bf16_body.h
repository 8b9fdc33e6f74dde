/* lowrank_bf16_body.h: the low-rank products of prefill rows on a tier whose matrix unit takes bf16. Included
 * after prefill_bf16_body.h, whose words and panels it uses, and BF16_K: what bf16_multiply takes of K at a
 * time.
 *
 * Down: activations are rounded once for all ranks, whatever delta they belong to; 32 ranks are a panel. Up:
 * a panel is 32 outputs of B, with the ranks along K, and the sums go on from y, or are added to it by `keep` and `gain`.
 * Where the weight beside the delta is not rounded, neither are these (PANEL_SPLIT).
 */
#define BODY(name) KERNEL_CAT(TIER, name)

_Static_assert(LOWRANK_TILE % BF16_OUTPUTS == 0, "a panel lies in one tile");

/* Row r of the stacked ranks. */
static const struct matrix *stacked_row(const struct lowrank_down_args *args, int64_t r,
                                        int64_t *row)
{
    int i = 0;
    for (; r >= args->parts[i].a->n_out; i++)
        r -= args->parts[i].a->n_out;
    *row = r;
    return args->parts[i].a;
}

/* Columns first..first+n of ranks r..r+n_rank into a panel; where there is no rank the last one stands
 * again, and nobody reads the product. */
static void fill_ranks(const struct kernels *k, const struct bf16_space *s,
                       const struct lowrank_down_args *args, int64_t r, int64_t n_rank,
                       int64_t first, int64_t n)
{
    for (int64_t half = 0; half < BF16_OUTPUTS; half += 16)
        for (int64_t j = 0; j < n; j += PREFILL_CHUNK) {
            int64_t columns = n - j < PREFILL_CHUNK ? n - j : PREFILL_CHUNK;
            for (int64_t i = 0; i < 16; i++) {
                int64_t at = half + i < n_rank ? half + i : n_rank - 1, row;
                const struct matrix *a = stacked_row(args, r + at, &row);
                bf16_weights(k, s, a, row, first + j, columns, i);
            }
            int64_t end = bf16_steps(columns);
            for (int part = 0; part < s->w_parts; part++)
                bf16_turn(s->rows[part], end, s->panel[part] + j * BF16_OUTPUTS + 2 * half);
        }
}

/* The sums of up to BF16_TOKENS rows, without the scales. */
static void down_tokens(const struct kernels *k, const struct bf16_space *s,
                        const struct lowrank_down_args *args, const float *x, int n_tok, float *u)
{
    const int64_t n_in = args->parts[0].a->n_in;
    struct bf16_tile p = {.y_stride = args->u_stride, .n_tok = n_tok};
    bf16_set_factors(s, &p, 0);
    for (int64_t first = 0; first < n_in; first += BF16_CHUNK) {
        int64_t n = n_in - first < BF16_CHUNK ? n_in - first : BF16_CHUNK;
        p.n = bf16_activations(s, x + first, n_in, n_tok, n);
        p.fresh = first == 0;
        for (int64_t r = args->r_begin; r < args->r_end; r += BF16_OUTPUTS) {
            p.n_row = args->r_end - r < BF16_OUTPUTS ? args->r_end - r : BF16_OUTPUTS;
            p.y = u + r;
            fill_ranks(k, s, args, r, p.n_row, first, n);
            bf16_multiply(&p);
        }
    }
}

static void scale_ranks(const struct lowrank_down_args *args)
{
    struct lowrank_slice slice;
    int64_t base = 0;
    for (int i = 0; i < args->n_parts; i++) {
        base = lowrank_slice(args, i, base, &slice);
        for (int t = 0; t < args->n_tok; t++)
            for (int64_t r = slice.begin; r < slice.end; r++)
                slice.u[t * args->u_stride + r] *= slice.scale;
    }
}

void BODY(_lowrank_down)(const struct kernels *k, const struct lowrank_down_args *args)
{
    bool exact = true;
    for (int i = 0; i < args->n_parts; i++)
        exact = exact && args->parts[i].a->type == GRAFT_TYPE_BF16;
    const struct bf16_space s = bf16_layout(args->format == PANEL_SPLIT, exact, args->scratch);
    bf16_begin();
    for (int t = 0; t < args->n_tok; t += BF16_TOKENS) {
        int some = args->n_tok - t < BF16_TOKENS ? args->n_tok - t : BF16_TOKENS;
        down_tokens(k, &s, args, args->x + t * args->parts[0].a->n_in, some,
                    args->u + t * args->u_stride);
    }
    bf16_end();
    scale_ranks(args);
}

/* ---- up ----------------------------------------------------------------------------------- */

/* Rank r of the outputs of a panel from o on into row `at` of s->rows; r < 0: zeros. */
static void up_row(const struct kernels *k, const struct bf16_space *s,
                   const struct lowrank_up_args *args, int64_t r, int64_t o, int64_t at)
{
    float *values = s->floats;
    const int64_t skip = o % BF16_OUTPUTS, column = o % LOWRANK_TILE - skip;
    memset(values, 0, 2 * BF16_OUTPUTS * sizeof *values);
    if (r >= 0)
        k->dequantize[args->b->type](args->b, o / LOWRANK_TILE * args->rank + r, column,
                                     BF16_OUTPUTS, values);
    if (s->w_parts == 2)
        bf16_split(values + skip, BF16_OUTPUTS, s->rows[0] + at * BF16_ROW_PITCH,
                   s->rows[1] + at * BF16_ROW_PITCH);
    else
        bf16_round(values + skip, BF16_OUTPUTS, s->rows[0] + at * BF16_ROW_PITCH);
}

/* Ranks first..first+n of the outputs from o on into a panel. Factors in bf16 go there as they lie. */
static void fill_outputs(const struct kernels *k, const struct bf16_space *s,
                         const struct lowrank_up_args *args, int64_t first, int64_t n, int64_t o)
{
    const int64_t end = blocks_of(n, BF16_K) * BF16_K;
    const struct matrix *b = args->b;
    const bool as_they_lie = b->type == GRAFT_TYPE_BF16 && s->w_parts == 1 && o % BF16_OUTPUTS == 0;
    const size_t row = (size_t)(o / LOWRANK_TILE * args->rank + first), column = o % LOWRANK_TILE;
    const uint8_t *p = (const uint8_t *)b->data + row * b->row_bytes + 2 * column;
    for (int64_t r = 0; r < end; r += 2) {
        for (int64_t i = 0; i < 2; i++)
            if (as_they_lie && r + i < n)
                memcpy(s->rows[0] + i * BF16_ROW_PITCH, p + (size_t)(r + i) * b->row_bytes,
                       BF16_OUTPUTS * sizeof(uint16_t));
            else
                up_row(k, s, args, r + i < n ? first + r + i : -1, o, i);
        for (int part = 0; part < s->w_parts; part++)
            bf16_pairs(s->rows[part], s->rows[part] + BF16_ROW_PITCH,
                       s->panel[part] + r * BF16_OUTPUTS);
    }
}

/* Up to BF16_TOKENS rows. */
static void up_tokens(const struct kernels *k, const struct bf16_space *s,
                      const struct lowrank_up_args *args, const float *u, int n_tok, float *y)
{
    struct bf16_tile p = {.y_stride = args->y_stride, .n_tok = n_tok};
    p.fresh = p.scaled = args->keep || args->gain;
    bf16_set_factors(s, &p, 0);
    for (int64_t first = 0; first < args->rank; first += BF16_CHUNK) {
        int64_t n = args->rank - first < BF16_CHUNK ? args->rank - first : BF16_CHUNK, stop;
        bf16_activations(s, u + first, args->u_stride, n_tok, n);
        p.n = blocks_of(n, BF16_K) * BF16_K;
        for (int64_t o = args->o_begin; o < args->o_end; o = stop) {
            stop = (o / BF16_OUTPUTS + 1) * BF16_OUTPUTS;
            stop = stop < args->o_end ? stop : args->o_end;
            p.n_row = stop - o;
            p.y = y + o;
            p.keep = first == 0 && args->keep ? args->keep + (o - args->o_begin) : NULL;
            p.gain = args->gain ? args->gain + o : NULL;
            fill_outputs(k, s, args, first, n, o);
            bf16_multiply(&p);
        }
    }
}

static void add_bias(const struct lowrank_up_args *args)
{
    for (int t = 0; t < args->n_tok; t++) {
        float *y = args->y + t * args->y_stride;
        for (int64_t o = args->o_begin; o < args->o_end; o++)
            y[o] += (args->gain ? args->gain[o] : 1) * (args->bias_scale * args->bias[o]);
    }
}

void BODY(_lowrank_up)(const struct kernels *k, const struct lowrank_up_args *args)
{
    const bool exact = args->b->type == GRAFT_TYPE_BF16;
    const struct bf16_space s = bf16_layout(args->format == PANEL_SPLIT, exact, args->scratch);
    bf16_begin();
    for (int t = 0; t < args->n_tok; t += BF16_TOKENS) {
        int some = args->n_tok - t < BF16_TOKENS ? args->n_tok - t : BF16_TOKENS;
        up_tokens(k, &s, args, args->u + t * args->u_stride, some, args->y + t * args->y_stride);
    }
    bf16_end();
    if (args->bias)
        add_bias(args);
}
