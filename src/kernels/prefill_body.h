/* prefill_body.h: the prefill product of a vector tier, in the words of its ..._vec.h. Included once
 * per tier, after TIER, PREFILL_TOKENS and PREFILL_VECTORS (the tile that fits its registers).
 *
 * A panel of PREFILL_OUTPUTS rows of W, PREFILL_CHUNK columns wide, is dequantised and turned so
 * that the outputs lie along the lanes; then all tokens pass over it while it is in the first cache.
 * y holds the sums between chunks. Each output is therefore one chain of fused multiply-adds in the
 * order of K, whatever the tiling, the tokens in the call or the split of the outputs.
 */
#define BODY(name) KERNEL_CAT(TIER, name)

enum { PREFILL_OUTPUTS = PREFILL_VECTORS * VF };
_Static_assert((int)PREFILL_OUTPUTS <= (int)PREFILL_PANEL, "the scratch holds PREFILL_PANEL rows");
_Static_assert(PREFILL_CHUNK % VF == 0, "panels are turned VF by VF");

/* to[j, 0..VF) = from[0..VF, j] for j < columns; rows of `from` are that many floats apart. */
static void turn_square(const float *from, int64_t from_pitch, float *to, int64_t columns)
{
    vf r[VF];
    TIMES(i, VF)
    {
        r[i] = v_load_some(from + i * from_pitch, columns);
    }
    v_transpose(r);
    for (int64_t j = 0; j < columns; j++)
        v_store(to + j * PREFILL_OUTPUTS, r[j]);
}

/* Rows o..o+n_row, columns first..first+n of W into turned[n, PREFILL_OUTPUTS]; rows that do not
 * exist are 0. */
static void fill_panel(const struct kernels *k, const struct matrix *w, int64_t o, int64_t n_row,
                       int64_t first, int64_t n, float *rows, float *turned)
{
    const int64_t pitch = PREFILL_CHUNK + 8; /* rows a power of two apart would share cache sets */
    for (int64_t r = 0; r < PREFILL_OUTPUTS; r++) {
        if (r < n_row)
            k->dequantize[w->type](w, o + r, first, n, rows + r * pitch);
        else
            memset(rows + r * pitch, 0, (size_t)n * sizeof *rows);
    }
    for (int64_t r = 0; r < PREFILL_OUTPUTS; r += VF)
        for (int64_t j = 0; j < n; j += VF)
            turn_square(rows + r * pitch + j, pitch, turned + j * PREFILL_OUTPUTS + r,
                        n - j < VF ? n - j : VF);
}

struct prefill_tile {
    const float *x;      /* [tokens, x_stride] */
    const float *turned; /* [n, PREFILL_OUTPUTS] */
    float *y;            /* [tokens, y_stride] */
    int64_t x_stride, y_stride, n;
    int64_t n_row; /* outputs that exist */
    bool fresh;    /* the first chunk: sums begin at 0 */
};

ALWAYS_INLINE void multiply_tile(const struct prefill_tile *p, int64_t token, int tokens)
{
    vf sum[PREFILL_TOKENS][PREFILL_VECTORS];
    const float *x = p->x + token * p->x_stride;
    float *y = p->y + token * p->y_stride;
    TIMES(t, tokens) TIMES(v, PREFILL_VECTORS)
    {
        int64_t left = p->n_row - v * VF;
        float *at = y + t * p->y_stride + v * VF;
        sum[t][v] = v_zero();
        if (!p->fresh && left > 0)
            sum[t][v] = v_load_some(at, left);
    }
    for (int64_t j = 0; j < p->n; j++) {
        vf w[PREFILL_VECTORS];
        TIMES(v, PREFILL_VECTORS) w[v] = v_load(p->turned + j * PREFILL_OUTPUTS + v * VF);
        TIMES(t, tokens)
        {
            vf xj = v_set1(x[t * p->x_stride + j]);
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

static void multiply_panel(const struct prefill_tile *p, int n_tok)
{
    int t = 0;
    for (; t + PREFILL_TOKENS <= n_tok; t += PREFILL_TOKENS)
        multiply_tile(p, t, PREFILL_TOKENS);
    for (; t + 2 <= n_tok; t += 2)
        multiply_tile(p, t, 2);
    if (t < n_tok)
        multiply_tile(p, t, 1);
}

void BODY(_linear_prefill)(const struct kernels *k, const struct matrix *w, const float *x,
                           int n_tok, int64_t o_begin, int64_t o_end, float *y, int64_t y_stride,
                           void *scratch)
{
    float *turned = (float *)(((uintptr_t)scratch + 63) & ~(uintptr_t)63);
    float *rows = turned + PREFILL_OUTPUTS * PREFILL_CHUNK;
    struct prefill_tile p = {.turned = turned, .x_stride = w->n_in, .y_stride = y_stride};
    for (int64_t first = 0; first < w->n_in; first += PREFILL_CHUNK) {
        p.n = w->n_in - first < PREFILL_CHUNK ? w->n_in - first : PREFILL_CHUNK;
        p.x = x + first;
        p.fresh = first == 0;
        for (int64_t o = o_begin; o < o_end; o += PREFILL_OUTPUTS) {
            p.n_row = o_end - o < PREFILL_OUTPUTS ? o_end - o : PREFILL_OUTPUTS;
            p.y = y + o;
            fill_panel(k, w, o, p.n_row, first, p.n, rows, turned);
            multiply_panel(&p, n_tok);
        }
    }
}
