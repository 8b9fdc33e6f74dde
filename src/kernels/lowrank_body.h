/* lowrank_body.h: the low-rank products of a vector tier, in the words of its ..._vec.h. Included once per
 * tier, after decode_float_body.h (for its loads of weights), TIER, LOWRANK_DOWN_TOKENS,
 * LOWRANK_UP_TOKENS and LOWRANK_UP_VECTORS (the tiles that fit its registers).
 *
 * Down: each u is a vector of sums over LOWRANK_CHUNK columns, added up and then added to the chunks
 * before. Up: outputs lie along the lanes; each is one chain of multiply-adds over LOWRANK_UP_RANKS
 * ranks, then added to y. Neither depends on the tile.
 *
 * One token reads factors of a float type as they lie in memory. Several tokens, or blocks, take a
 * panel dequantised once, in the first cache; a value is the same either way.
 */
#define BODY(name) KERNEL_CAT(TIER, name)

/* Factors in hand: rows `pitch` bytes apart, of a float type. */
struct lowrank_rows {
    const uint8_t *data;
    size_t pitch;
};

ALWAYS_INLINE bool is_float_type(graft_type type)
{
    return type == GRAFT_TYPE_F32 || type == GRAFT_TYPE_F16 || type == GRAFT_TYPE_BF16;
}

ALWAYS_INLINE vf load_some_weights(graft_type type, const uint8_t *row, int64_t k, int64_t left)
{
    return left >= VF ? load_weights(type, row, k) : load_last_weights(type, row, k, left);
}

/* ---- down --------------------------------------------------------------------------------- */

struct down_tile {
    struct lowrank_rows a;
    const float *x; /* [tokens, x_stride] */
    float *u;       /* [tokens, u_stride] */
    int64_t x_stride, u_stride, n;
    bool fresh, last; /* the first chunk; the last one */
    float scale;
};

/* Adds the products of one chunk to u[tokens, ranks]. */
ALWAYS_INLINE void multiply_down(graft_type type, const struct down_tile *p, int64_t rank,
                                 int64_t token, int ranks, int tokens)
{
    const uint8_t *a = p->a.data + (size_t)rank * p->a.pitch;
    const float *x = p->x + token * p->x_stride;
    float sums[LOWRANK_RANKS];
    vf sum[LOWRANK_DOWN_TOKENS][LOWRANK_RANKS];
    TIMES(t, tokens) TIMES(r, ranks) sum[t][r] = v_zero();
    int64_t k = 0;
    for (; k + VF <= p->n; k += VF) {
        vf xk[LOWRANK_DOWN_TOKENS];
        TIMES(t, tokens) xk[t] = v_load(x + t * p->x_stride + k);
        TIMES(r, ranks)
        {
            vf w = load_weights(type, a + (size_t)r * p->a.pitch, k);
            TIMES(t, tokens) sum[t][r] = v_fma(w, xk[t], sum[t][r]);
        }
    }
    if (k < p->n)
        TIMES(r, ranks)
        {
            vf w = load_last_weights(type, a + (size_t)r * p->a.pitch, k, p->n - k);
            TIMES(t, tokens)
            sum[t][r] = v_fma(w, v_load_n(x + t * p->x_stride + k, p->n - k), sum[t][r]);
        }
    TIMES(t, tokens)
    {
        float *u = p->u + (token + t) * p->u_stride + rank;
        if (ranks == LOWRANK_RANKS)
            v_sums(sum[t], sums);
        else
            TIMES(r, ranks) sums[r] = v_sum(sum[t][r]);
        TIMES(r, ranks)
        {
            float total = p->fresh ? sums[r] : u[r] + sums[r];
            u[r] = p->last ? total * p->scale : total;
        }
    }
}

ALWAYS_INLINE void multiply_ranks(graft_type type, const struct down_tile *p, int64_t rank,
                                  int ranks, int n_tok)
{
    int t = 0;
    for (; n_tok > 1 && t + LOWRANK_DOWN_TOKENS <= n_tok; t += LOWRANK_DOWN_TOKENS)
        multiply_down(type, p, rank, t, ranks, LOWRANK_DOWN_TOKENS);
    for (; t < n_tok; t++)
        multiply_down(type, p, rank, t, ranks, 1);
}

/* All tokens and n_rank ranks of one chunk. */
ALWAYS_INLINE void multiply_chunk(graft_type type, const struct down_tile *p, int64_t n_rank,
                                  int n_tok)
{
    int64_t r = 0;
    for (; r + LOWRANK_RANKS <= n_rank; r += LOWRANK_RANKS)
        multiply_ranks(type, p, r, LOWRANK_RANKS, n_tok);
    for (; r + LOWRANK_RANKS / 2 <= n_rank; r += LOWRANK_RANKS / 2)
        multiply_ranks(type, p, r, LOWRANK_RANKS / 2, n_tok);
    for (; r < n_rank; r++)
        multiply_ranks(type, p, r, 1, n_tok);
}

static void multiply_chunk_f32(const struct down_tile *p, int64_t n_rank, int n_tok)
{
    multiply_chunk(GRAFT_TYPE_F32, p, n_rank, n_tok);
}

/* One chunk of ranks r..r+n_rank, LOWRANK_RANKS at most. */
static void down_chunk(const struct kernels *k, const struct lowrank_down_args *args,
                       struct down_tile *p, int64_t first, int64_t r, int64_t n_rank, float *panel)
{
    const struct matrix *a = args->a;
    const int64_t pitch = LOWRANK_CHUNK + 16; /* rows a power of two apart would share cache sets */
    if (args->n_tok == 1 && is_float_type(a->type)) {
        size_t size = a->type == GRAFT_TYPE_F32 ? 4 : 2;
        p->a = (struct lowrank_rows){(const uint8_t *)a->data + (size_t)r * a->row_bytes +
                                         (size_t)first * size,
                                     a->row_bytes};
        if (a->type == GRAFT_TYPE_F16)
            multiply_chunk(GRAFT_TYPE_F16, p, n_rank, 1);
        else if (a->type == GRAFT_TYPE_BF16)
            multiply_chunk(GRAFT_TYPE_BF16, p, n_rank, 1);
        else
            multiply_chunk_f32(p, n_rank, 1);
        return;
    }
    for (int64_t i = 0; i < n_rank; i++)
        k->dequantize[a->type](a, r + i, first, p->n, panel + i * pitch);
    p->a = (struct lowrank_rows){(const uint8_t *)panel, (size_t)pitch * sizeof *panel};
    multiply_chunk_f32(p, n_rank, args->n_tok);
}

void BODY(_lowrank_down)(const struct kernels *k, const struct lowrank_down_args *args)
{
    _Alignas(64) float panel[LOWRANK_RANKS * (LOWRANK_CHUNK + 16)];
    const int64_t n_in = args->a->n_in;
    struct down_tile p = {.x_stride = n_in, .u_stride = args->u_stride, .scale = args->scale};
    for (int64_t r = args->r_begin; r < args->r_end; r += LOWRANK_RANKS) {
        int64_t n_rank = args->r_end - r < LOWRANK_RANKS ? args->r_end - r : LOWRANK_RANKS;
        p.u = args->u + r;
        for (int64_t first = 0; first < n_in; first += LOWRANK_CHUNK) {
            p.n = n_in - first < LOWRANK_CHUNK ? n_in - first : LOWRANK_CHUNK;
            p.x = args->x + first;
            p.fresh = first == 0;
            p.last = first + p.n == n_in;
            down_chunk(k, args, &p, first, r, n_rank, panel);
        }
    }
}

/* ---- up ----------------------------------------------------------------------------------- */

struct up_tile {
    const struct lowrank_up_args *args;
    struct lowrank_rows bt; /* from the first rank and output in hand */
    int64_t first, n;       /* ranks in hand */
};

/* Outputs o..o+left of `tokens` tokens; `at` is the place of o in the rows in hand. */
ALWAYS_INLINE void multiply_up(graft_type type, const struct up_tile *p, int64_t token, int64_t o,
                               int64_t at, int64_t left, int tokens, int vectors)
{
    const struct lowrank_up_args *args = p->args;
    const float *u = args->u + token * args->u_stride + p->first;
    float *y = args->y + token * args->y_stride + o;
    vf sum[LOWRANK_UP_TOKENS][8];
    TIMES(v, vectors)
    {
        vf start = v_zero();
        if (args->bias && p->first == 0 && left > v * VF)
            start = v_mul(v_set1(args->bias_scale),
                          v_load_some(args->bias + o + v * VF, left - v * VF));
        TIMES(t, tokens) sum[t][v] = start;
    }
    for (int64_t r = 0; r < p->n; r++) {
        const uint8_t *row = p->bt.data + (size_t)r * p->bt.pitch;
        vf w[8];
        TIMES(v, vectors)
        w[v] = vectors > 1 ? load_weights(type, row, at + v * VF)
                           : load_some_weights(type, row, at, left);
        TIMES(t, tokens)
        {
            vf ur = v_set1(u[t * args->u_stride + r]);
            TIMES(v, vectors) sum[t][v] = v_fma(ur, w[v], sum[t][v]);
        }
    }
    TIMES(v, vectors) if (left > v * VF)
    {
        int64_t rest = left - v * VF;
        vf gain = args->gain ? v_load_some(args->gain + o + v * VF, rest) : v_set1(1.0f);
        TIMES(t, tokens)
        {
            float *to = y + t * args->y_stride + v * VF;
            v_store_some(to, v_fma(gain, sum[t][v], v_load_some(to, rest)), rest);
        }
    }
}

/* One token, factors of a float type. */
ALWAYS_INLINE void up_one_token(graft_type type, const struct lowrank_up_args *args)
{
    const struct matrix *bt = args->bt;
    struct up_tile p = {.args = args, .bt = {.pitch = bt->row_bytes}};
    for (; p.first < bt->n_out; p.first += LOWRANK_UP_RANKS) {
        int64_t left = bt->n_out - p.first, o = args->o_begin;
        p.n = left < LOWRANK_UP_RANKS ? left : LOWRANK_UP_RANKS;
        p.bt.data = (const uint8_t *)bt->data + (size_t)p.first * bt->row_bytes;
        for (; o + 8 * VF <= args->o_end; o += 8 * VF)
            multiply_up(type, &p, 0, o, o, 8 * VF, 1, 8);
        for (; o < args->o_end; o += VF)
            multiply_up(type, &p, 0, o, o, args->o_end - o, 1, 1);
    }
}

/* All tokens over a panel whose columns begin at output `at`. */
static void up_panel(const struct up_tile *p, int64_t at, int64_t begin, int64_t end)
{
    const int n_tok = p->args->n_tok, step = LOWRANK_UP_VECTORS * VF;
    int t = 0;
    for (; t + LOWRANK_UP_TOKENS <= n_tok; t += LOWRANK_UP_TOKENS)
        for (int64_t o = begin; o < end; o += step)
            multiply_up(GRAFT_TYPE_F32, p, t, o, o - at, end - o, LOWRANK_UP_TOKENS,
                        LOWRANK_UP_VECTORS);
    for (; t < n_tok; t++)
        for (int64_t o = begin; o < end; o += step)
            multiply_up(GRAFT_TYPE_F32, p, t, o, o - at, end - o, 1, LOWRANK_UP_VECTORS);
}

/* The panel is wider than its outputs, so that a tile may begin anywhere in it. */
static void up_through_panels(const struct kernels *k, const struct lowrank_up_args *args)
{
    enum { PITCH = LOWRANK_OUTPUTS + LOWRANK_UP_VECTORS * VF };
    _Alignas(64) float panel[LOWRANK_UP_RANKS * PITCH];
    const struct matrix *bt = args->bt;
    struct up_tile p = {.args = args, .bt = {(const uint8_t *)panel, PITCH * sizeof *panel}};
    for (int64_t o = args->o_begin, end; o < args->o_end; o = end) {
        int64_t at = o / LOWRANK_OUTPUTS * LOWRANK_OUTPUTS, width = bt->n_in - at;
        width = width < LOWRANK_OUTPUTS ? width : LOWRANK_OUTPUTS;
        end = at + width < args->o_end ? at + width : args->o_end;
        for (p.first = 0; p.first < bt->n_out; p.first += LOWRANK_UP_RANKS) {
            int64_t left = bt->n_out - p.first;
            p.n = left < LOWRANK_UP_RANKS ? left : LOWRANK_UP_RANKS;
            for (int64_t r = 0; r < p.n; r++) {
                k->dequantize[bt->type](bt, p.first + r, at, width, panel + r * PITCH);
                memset(panel + r * PITCH + width, 0, (size_t)(PITCH - width) * sizeof *panel);
            }
            up_panel(&p, at, o, end);
        }
    }
}

void BODY(_lowrank_up)(const struct kernels *k, const struct lowrank_up_args *args)
{
    if (args->n_tok > 1 || !is_float_type(args->bt->type))
        up_through_panels(k, args);
    else if (args->bt->type == GRAFT_TYPE_F16)
        up_one_token(GRAFT_TYPE_F16, args);
    else if (args->bt->type == GRAFT_TYPE_BF16)
        up_one_token(GRAFT_TYPE_BF16, args);
    else
        up_one_token(GRAFT_TYPE_F32, args);
}
