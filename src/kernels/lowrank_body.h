/* lowrank_body.h: the low-rank products of a vector tier, in the words of its ..._vec.h. Included once per
 * tier, after decode_float_body.h (for its loads of weights), TIER, LOWRANK_DOWN_TOKENS,
 * LOWRANK_UP_TOKENS and LOWRANK_UP_VECTORS (the tiles that fit its registers).
 *
 * Down: each u is a vector of sums over LOWRANK_CHUNK columns, added up and then added to the chunks
 * before. Up: outputs lie along the lanes; each is one chain of multiply-adds over LOWRANK_UP_RANKS
 * ranks, then added to y. Neither depends on the tile.
 *
 * One token reads factors of the usual types as they lie in memory. Several tokens, or other types, take
 * a panel dequantised once, in the first cache; a value is the same either way.
 */
#define BODY(name) KERNEL_CAT(TIER, name)

_Static_assert((int)VF <= 16, "a vector that begins at a multiple of 16 lies in one block of 32");

/* Factors in hand: rows `pitch` bytes apart. */
struct lowrank_rows {
    const uint8_t *data;
    size_t pitch;
};

/* Values that share a scale, and so are loaded in one go. */
ALWAYS_INLINE int64_t factor_step(graft_type type)
{
    return type == GRAFT_TYPE_Q8_0 || type == GRAFT_TYPE_Q4_0 ? Q8_BLOCK : VF;
}

ALWAYS_INLINE size_t factor_bytes(graft_type type, int64_t k)
{
    switch (type) {
    case GRAFT_TYPE_Q8_0:
        return (size_t)(k / Q8_BLOCK) * 34;
    case GRAFT_TYPE_Q4_0:
        return (size_t)(k / Q8_BLOCK) * 18;
    case GRAFT_TYPE_F32:
        return (size_t)k * 4;
    default:
        return (size_t)k * 2;
    }
}

/* What the values of the block that holds value k have in common; 0 for a type without. */
ALWAYS_INLINE vf load_scale(graft_type type, const uint8_t *row, int64_t k)
{
    if (type == GRAFT_TYPE_Q4_0)
        return v_q4_scale(LOAD_F16(row + factor_bytes(type, k)));
    return type == GRAFT_TYPE_Q8_0 ? v_set1(LOAD_F16(row + factor_bytes(type, k))) : v_zero();
}

/* Values k..k+VF of a row; what is beyond `left` of a float type is 0. */
ALWAYS_INLINE vf load_factors(graft_type type, const uint8_t *row, int64_t k, int64_t left,
                              vf scale)
{
    const uint8_t *block = row + factor_bytes(type, k);
    int64_t at = k % Q8_BLOCK;
    if (type == GRAFT_TYPE_Q8_0)
        return v_mul(scale, v_load_i8(block + 2 + at));
    if (type == GRAFT_TYPE_Q4_0)
        return v_load_q4(block + 2 + at % 16, at >= 16, scale);
    return left >= VF ? load_weights(type, row, k) : load_last_weights(type, row, k, left);
}

/* Calls CASE(TYPE) for the types that one token reads in place. */
#define EACH_FACTOR_TYPE(CASE) CASE(F32) CASE(F16) CASE(BF16) CASE(Q8_0) CASE(Q4_0)

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
    const int64_t step = factor_step(type);
    float sums[LOWRANK_RANKS];
    vf sum[LOWRANK_DOWN_TOKENS][LOWRANK_RANKS];
    TIMES(t, tokens) TIMES(r, ranks) sum[t][r] = v_zero();
    int64_t k = 0;
    for (; k + step <= p->n; k += step) {
        vf scale[LOWRANK_RANKS];
        TIMES(r, ranks) scale[r] = load_scale(type, a + (size_t)r * p->a.pitch, k);
        TIMES(i, step / VF)
        {
            int64_t j = k + i * VF;
            vf xj[LOWRANK_DOWN_TOKENS];
            TIMES(t, tokens) xj[t] = v_load(x + t * p->x_stride + j);
            TIMES(r, ranks)
            {
                vf w = load_factors(type, a + (size_t)r * p->a.pitch, j, VF, scale[r]);
                TIMES(t, tokens) sum[t][r] = v_fma(w, xj[t], sum[t][r]);
            }
        }
    }
    if (k < p->n)
        TIMES(r, ranks)
        {
            vf w = load_factors(type, a + (size_t)r * p->a.pitch, k, p->n - k, v_zero());
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

/* One chunk of ranks r..r+n_rank, LOWRANK_RANKS at most. */
static void down_chunk(const struct kernels *k, const struct lowrank_down_args *args,
                       struct down_tile *p, int64_t first, int64_t r, int64_t n_rank, float *panel)
{
    const struct matrix *a = args->a;
    const int64_t pitch = LOWRANK_CHUNK + 16; /* rows a power of two apart would share cache sets */
    const uint8_t *row = (const uint8_t *)a->data + (size_t)r * a->row_bytes;
#define DOWN_IN_PLACE(TYPE)                                                                        \
    case GRAFT_TYPE_##TYPE:                                                                        \
        p->a = (struct lowrank_rows){row + factor_bytes(GRAFT_TYPE_##TYPE, first), a->row_bytes};  \
        multiply_chunk(GRAFT_TYPE_##TYPE, p, n_rank, 1);                                           \
        return;
    if (args->n_tok == 1)
        switch (a->type) {
            EACH_FACTOR_TYPE(DOWN_IN_PLACE)
        default:
            break;
        }
    for (int64_t i = 0; i < n_rank; i++)
        k->dequantize[a->type](a, r + i, first, p->n, panel + i * pitch);
    p->a = (struct lowrank_rows){(const uint8_t *)panel, (size_t)pitch * sizeof *panel};
    multiply_chunk(GRAFT_TYPE_F32, p, n_rank, args->n_tok);
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
    vf sum[LOWRANK_UP_TOKENS][LOWRANK_OUTPUTS / VF > 8 ? LOWRANK_OUTPUTS / VF : 8];
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
        vf w[LOWRANK_OUTPUTS / VF > 8 ? LOWRANK_OUTPUTS / VF : 8], scale = v_zero();
        TIMES(v, vectors)
        {
            if (v * VF % factor_step(type) == 0)
                scale = load_scale(type, row, at + v * VF);
            w[v] = load_factors(type, row, at + v * VF, vectors > 1 ? VF : left, scale);
        }
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

/* One token, factors in place. Outputs from a multiple of 16 on, so that no vector leaves its block. */
ALWAYS_INLINE void up_in_place(graft_type type, const struct lowrank_up_args *args)
{
    const struct matrix *bt = args->bt;
    struct up_tile p = {.args = args, .bt = {.pitch = bt->row_bytes}};
    for (; p.first < bt->n_out; p.first += LOWRANK_UP_RANKS) {
        int64_t left = bt->n_out - p.first, o = args->o_begin, end = args->o_end;
        p.n = left < LOWRANK_UP_RANKS ? left : LOWRANK_UP_RANKS;
        p.bt.data = (const uint8_t *)bt->data + (size_t)p.first * bt->row_bytes;
        for (; o < end && o % factor_step(type); o += VF)
            multiply_up(type, &p, 0, o, o, end - o, 1, 1);
        for (; o + 8 * VF <= end; o += 8 * VF)
            multiply_up(type, &p, 0, o, o, 8 * VF, 1, 8);
        for (; o < end; o += VF)
            multiply_up(type, &p, 0, o, o, end - o, 1, 1);
    }
}

/* All tokens over a panel whose columns begin at output `at`. A function of its own: among others the
 * compiler runs out of registers. */
static __attribute__((noinline)) void up_panel(const struct up_tile *p, int64_t at, int64_t begin,
                                               int64_t end)
{
    const int n_tok = p->args->n_tok, step = LOWRANK_UP_VECTORS * VF;
    int t = 0;
    for (; t + LOWRANK_UP_TOKENS <= n_tok; t += LOWRANK_UP_TOKENS)
        for (int64_t o = begin; o < end; o += step)
            multiply_up(GRAFT_TYPE_F32, p, t, o, o - at, end - o, LOWRANK_UP_TOKENS,
                        LOWRANK_UP_VECTORS);
    for (; t < n_tok; t++)
        multiply_up(GRAFT_TYPE_F32, p, t, begin, begin - at, end - begin, 1, LOWRANK_OUTPUTS / VF);
}

/* The panel is twice as wide as its outputs, so that a tile may begin anywhere in it. */
static void up_through_panels(const struct kernels *k, const struct lowrank_up_args *args)
{
    enum { PITCH = 2 * LOWRANK_OUTPUTS };
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
#define UP_IN_PLACE(TYPE)                                                                          \
    case GRAFT_TYPE_##TYPE:                                                                        \
        up_in_place(GRAFT_TYPE_##TYPE, args);                                                      \
        return;
    if (args->n_tok == 1 && args->o_begin % 16 == 0)
        switch (args->bt->type) {
            EACH_FACTOR_TYPE(UP_IN_PLACE)
        default:
            break;
        }
    up_through_panels(k, args);
}
