/* lowrank_body.h: the low-rank products of a vector tier, in the words of its ..._vec.h. Included once per
 * tier, after decode_float_body.h (for its loads of weights), TIER, LOWRANK_DOWN_RANKS,
 * LOWRANK_DOWN_TOKENS, LOWRANK_UP_TOKENS and LOWRANK_UP_VECTORS (the tiles that fit its registers).
 *
 * Down: each u is, for each LOWRANK_CHUNK columns, two vectors of sums taken in turn; their lanes are added,
 * then the chunks. Up: outputs lie along the lanes; each is one chain of multiply-adds over
 * LOWRANK_UP_RANKS ranks, then added to y. Neither depends on the tile.
 *
 * One token (of B, a few) reads factors of the usual types as they lie in memory. Several tokens, or other
 * types, take a panel dequantised once, in the first cache; a value is the same either way.
 */
#define BODY(name) KERNEL_CAT(TIER, name)

enum {
    LOWRANK_STEP = 32, /* values of a row that a loop takes at once: a block */
    LONG_ROWS = 4      /* that one token takes side by side; no tile has more */
};
_Static_assert(VF <= 16, "a vector that begins at a multiple of 16 lies in one block");

/* Factors in hand: rows `pitch` bytes apart. */
struct lowrank_rows {
    const uint8_t *data;
    size_t pitch;
};

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

/* Values k..k+VF of a row. */
ALWAYS_INLINE vf load_factors(graft_type type, const uint8_t *row, int64_t k, vf scale)
{
    const uint8_t *block = row + factor_bytes(type, k);
    int64_t at = k % Q8_BLOCK;
    if (type == GRAFT_TYPE_Q8_0)
        return v_mul(scale, v_load_i8(block + 2 + at));
    if (type == GRAFT_TYPE_Q4_0)
        return v_load_q4(block + 2 + at % 16, at >= 16, scale);
    return load_weights(type, row, k);
}

/* Calls CASE(TYPE) for the types that one token reads in place. */
#define EACH_FACTOR_TYPE(CASE) CASE(F32) CASE(F16) CASE(BF16) CASE(Q8_0) CASE(Q4_0)

/* ---- down --------------------------------------------------------------------------------- */

/* Factors are read once, and each slice of them begins anywhere in memory: so many bytes are asked for at its
 * beginning, and as many are kept ahead of what is read. */
enum { LOWRANK_AHEAD = 4096 };

/* What lies from `at` to `end`, `bytes` of it at most. */
static void ask_for(const uint8_t *at, size_t bytes, const uint8_t *end)
{
    for (size_t i = 0; i < bytes && at + i < end; i += 64)
        prefetch(at + i);
}

/* `bytes` at `at`, if they begin before `end`. */
ALWAYS_INLINE void ask_for_more(const uint8_t *at, size_t bytes, const uint8_t *end)
{
    if (at < end)
        for (size_t i = 0; i < bytes; i += 64)
            prefetch(at + i);
}

struct down_tile {
    struct lowrank_rows a;
    const uint8_t *end; /* of what is read in place; else NULL */
    const float *x;     /* [tokens, x_stride] */
    float *u;           /* [tokens, u_stride] */
    int64_t x_stride, u_stride, n;
    bool fresh, last; /* the first chunk; the last one */
    float scale;
};

/* The products of one chunk, LOWRANK_CHUNK columns at most, added to u[tokens, ranks]. */
ALWAYS_INLINE void multiply_down(graft_type type, const struct down_tile *p, int64_t rank,
                                 int64_t token, int ranks, int tokens)
{
    const uint8_t *a = p->a.data + (size_t)rank * p->a.pitch;
    const float *x = p->x + token * p->x_stride;
    vf sum[2][8];
    TIMES(i, ranks * tokens) sum[0][i] = sum[1][i] = v_zero();
    int64_t k = 0;
    for (; k + LOWRANK_STEP <= p->n; k += LOWRANK_STEP) {
        vf scale[LONG_ROWS];
        TIMES(r, ranks)
        {
            const uint8_t *row = a + (size_t)r * p->a.pitch;
            scale[r] = load_scale(type, row, k);
            ask_for_more(row + (size_t)ranks * p->a.pitch + factor_bytes(type, k),
                         factor_bytes(type, LOWRANK_STEP), p->end);
        }
        TIMES(i, LOWRANK_STEP / VF)
        {
            int64_t j = k + i * VF;
            vf xj[LOWRANK_DOWN_TOKENS];
            TIMES(t, tokens) xj[t] = v_load(x + t * p->x_stride + j);
            TIMES(r, ranks)
            {
                vf w = load_factors(type, a + (size_t)r * p->a.pitch, j, scale[r]);
                TIMES(t, tokens)
                sum[i % 2][t * ranks + r] = v_fma(w, xj[t], sum[i % 2][t * ranks + r]);
            }
        }
    }
    TIMES(i, LOWRANK_STEP / VF) /* what is left of a float type */
    {
        int64_t j = k + i * VF, left = p->n - j;
        if (left > 0)
            TIMES(r, ranks)
            {
                const uint8_t *row = a + (size_t)r * p->a.pitch;
                vf w =
                    left >= VF ? load_weights(type, row, j) : load_last_weights(type, row, j, left);
                TIMES(t, tokens)
                {
                    vf xj = v_load_some(x + t * p->x_stride + j, left);
                    sum[i % 2][t * ranks + r] = v_fma(w, xj, sum[i % 2][t * ranks + r]);
                }
            }
    }
    float sums[8];
    vf both[8];
    TIMES(i, 8) both[i] = i < ranks * tokens ? v_add(sum[0][i], sum[1][i]) : v_zero();
    if (ranks * tokens == 1)
        sums[0] = v_sum(both[0]);
    else
        v_sums(both, sums);
    TIMES(t, tokens) TIMES(r, ranks)
    {
        float *u = p->u + (token + t) * p->u_stride + rank + r;
        float total = p->fresh ? sums[t * ranks + r] : *u + sums[t * ranks + r];
        *u = p->last ? total * p->scale : total;
    }
}
_Static_assert(LOWRANK_DOWN_RANKS *LOWRANK_DOWN_TOKENS <= 8, "the sums of a tile are added as one");

/* All tokens over a panel of n_rank ranks of one chunk. */
static __attribute__((noinline)) void multiply_chunk(const struct down_tile *p, int64_t n_rank,
                                                     int n_tok)
{
    int t = 0;
    for (; t < n_tok; t += t + LOWRANK_DOWN_TOKENS <= n_tok ? LOWRANK_DOWN_TOKENS : 1) {
        bool whole = t + LOWRANK_DOWN_TOKENS <= n_tok;
        int64_t r = 0;
        for (; r + LOWRANK_DOWN_RANKS <= n_rank; r += LOWRANK_DOWN_RANKS)
            if (whole)
                multiply_down(GRAFT_TYPE_F32, p, r, t, LOWRANK_DOWN_RANKS, LOWRANK_DOWN_TOKENS);
            else
                multiply_down(GRAFT_TYPE_F32, p, r, t, LOWRANK_DOWN_RANKS, 1);
        for (; r < n_rank; r++)
            if (whole)
                multiply_down(GRAFT_TYPE_F32, p, r, t, 1, LOWRANK_DOWN_TOKENS);
            else
                multiply_down(GRAFT_TYPE_F32, p, r, t, 1, 1);
    }
}

/* Chunk first..first+n of the rows in hand, where it begins in x and in the sums. */
static void begin_chunk(struct down_tile *p, const float *x, int64_t n_in, int64_t first)
{
    p->n = n_in - first < LOWRANK_CHUNK ? n_in - first : LOWRANK_CHUNK;
    p->x = x + first;
    p->fresh = first == 0;
    p->last = first + p->n == n_in;
}

/* Ranks r..r+ranks, side by side. */
ALWAYS_INLINE void down_rows(graft_type type, const struct lowrank_slice *slice, const float *x,
                             struct down_tile *p, int64_t r, int ranks)
{
    const struct matrix *a = slice->a;
    const uint8_t *row = (const uint8_t *)a->data + (size_t)r * a->row_bytes;
    p->u = slice->u + r;
    for (int64_t first = 0; first < a->n_in; first += LOWRANK_CHUNK) {
        begin_chunk(p, x, a->n_in, first);
        p->a = (struct lowrank_rows){row + factor_bytes(type, first), a->row_bytes};
        multiply_down(type, p, 0, 0, ranks, 1);
    }
}

/* LONG_ROWS side by side, and the next as many asked for meanwhile. */
ALWAYS_INLINE void down_in_place(graft_type type, const struct lowrank_slice *slice, const float *x,
                                 struct down_tile *p)
{
    const uint8_t *data = slice->a->data;
    const size_t pitch = slice->a->row_bytes;
    int64_t r = slice->begin;
    p->end = data + (size_t)slice->end * pitch;
    ask_for(data + (size_t)r * pitch, LONG_ROWS * pitch, p->end);
    for (; r + LONG_ROWS <= slice->end; r += LONG_ROWS)
        down_rows(type, slice, x, p, r, LONG_ROWS);
    for (; r < slice->end; r++)
        down_rows(type, slice, x, p, r, 1);
}

static void down_through_panels(const struct kernels *k, const struct lowrank_slice *slice,
                                const float *x, int n_tok, struct down_tile *p)
{
    enum { PITCH = LOWRANK_CHUNK + 16 }; /* rows a power of two apart would share cache sets */
    _Alignas(64) float panel[LOWRANK_RANKS * PITCH];
    const struct matrix *a = slice->a;
    p->a = (struct lowrank_rows){(const uint8_t *)panel, PITCH * sizeof *panel};
    for (int64_t r = slice->begin; r < slice->end; r += LOWRANK_RANKS) {
        int64_t n_rank = slice->end - r < LOWRANK_RANKS ? slice->end - r : LOWRANK_RANKS;
        p->u = slice->u + r;
        for (int64_t first = 0; first < a->n_in; first += LOWRANK_CHUNK) {
            begin_chunk(p, x, a->n_in, first);
            for (int64_t i = 0; i < n_rank; i++)
                k->dequantize[a->type](a, r + i, first, p->n, panel + i * PITCH);
            multiply_chunk(p, n_rank, n_tok);
        }
    }
}

static void down_slice(const struct kernels *k, const struct lowrank_down_args *args,
                       const struct lowrank_slice *slice)
{
    struct down_tile p = {
        .x_stride = slice->a->n_in, .u_stride = args->u_stride, .scale = slice->scale};
#define DOWN_IN_PLACE(TYPE)                                                                        \
    case GRAFT_TYPE_##TYPE:                                                                        \
        down_in_place(GRAFT_TYPE_##TYPE, slice, args->x, &p);                                      \
        return;
    if (args->n_tok == 1)
        switch (slice->a->type) {
            EACH_FACTOR_TYPE(DOWN_IN_PLACE)
        default:
            break;
        }
    down_through_panels(k, slice, args->x, args->n_tok, &p);
}

void BODY(_lowrank_down)(const struct kernels *k, const struct lowrank_down_args *args)
{
    struct lowrank_slice slice;
    int64_t base = 0;
    for (int i = 0; i < args->n_parts; i++) {
        base = lowrank_slice(args, i, base, &slice);
        down_slice(k, args, &slice);
    }
}

/* ---- up ----------------------------------------------------------------------------------- */

struct up_tile {
    const struct lowrank_up_args *args;
    struct lowrank_rows b; /* LOWRANK_TILE outputs of the first rank in hand */
    const uint8_t *end;    /* of what is read in place; else NULL */
    int64_t first, n;      /* ranks in hand */
};

/* Outputs o..o+left of `tokens` tokens; `at` is the place of o in the rows in hand. */
ALWAYS_INLINE void multiply_up(graft_type type, const struct up_tile *p, int64_t token, int64_t o,
                               int64_t at, int64_t left, int tokens, int vectors)
{
    const struct lowrank_up_args *args = p->args;
    const float *u = args->u + token * args->u_stride + p->first;
    const float *keep = p->first == 0 && args->keep ? args->keep + (o - args->o_begin) : NULL;
    float *y = args->y + token * args->y_stride + o;
    vf sum[LOWRANK_UP_TOKENS][LOWRANK_TILE / VF];
    TIMES(v, vectors)
    {
        vf start = v_zero();
        if (args->bias && p->first == 0 && left > v * VF)
            start = v_mul(v_set1(args->bias_scale),
                          v_load_some(args->bias + o + v * VF, left - v * VF));
        TIMES(t, tokens) sum[t][v] = start;
    }
    for (int64_t r = 0; r < p->n; r++) {
        const uint8_t *row = p->b.data + (size_t)r * p->b.pitch;
        vf w[LOWRANK_TILE / VF], scale = v_zero();
        if (vectors == LOWRANK_TILE / VF)
            ask_for_more(row + LOWRANK_AHEAD, factor_bytes(type, LOWRANK_TILE), p->end);
        TIMES(v, vectors)
        {
            if (v * VF % Q8_BLOCK == 0)
                scale = load_scale(type, row, at + v * VF);
            w[v] = load_factors(type, row, at + v * VF, scale);
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
            vf before = v_load_some(to, rest);
            if (keep)
                before = v_mul(before, v_load_some(keep + v * VF, rest));
            v_store_some(to, v_fma(gain, sum[t][v], before), rest);
        }
    }
}

/* Few tokens and outputs o..end of a tile, factors in place. They begin at a multiple of 16, so that no
 * vector leaves its block. */
ALWAYS_INLINE void up_in_place(graft_type type, const struct up_tile *p, int64_t o, int64_t end)
{
    for (int t = 0; t < p->args->n_tok; t++) {
        if (end - o == LOWRANK_TILE)
            multiply_up(type, p, t, o, 0, LOWRANK_TILE, 1, LOWRANK_TILE / VF);
        else
            for (int64_t j = o; j < end; j += VF)
                multiply_up(type, p, t, j, j % LOWRANK_TILE, end - j, 1, 1);
    }
}

/* All tokens and outputs o..end of a tile that a panel holds. A function of its own: among others the
 * compiler runs out of registers. */
static __attribute__((noinline)) void up_panel(const struct up_tile *p, int64_t o, int64_t end)
{
    const int n_tok = p->args->n_tok, step = LOWRANK_UP_VECTORS * VF;
    int t = 0;
    for (; t + LOWRANK_UP_TOKENS <= n_tok; t += LOWRANK_UP_TOKENS)
        for (int64_t j = o; j < end; j += step)
            multiply_up(GRAFT_TYPE_F32, p, t, j, j % LOWRANK_TILE, end - j, LOWRANK_UP_TOKENS,
                        LOWRANK_UP_VECTORS);
    for (; t < n_tok; t++)
        multiply_up(GRAFT_TYPE_F32, p, t, o, o % LOWRANK_TILE, end - o, 1, LOWRANK_TILE / VF);
}

/* The panel is twice as wide as a tile, so that a step may begin anywhere in it. */
static void up_through_panel(const struct kernels *k, const struct up_tile *p, int64_t row,
                             int64_t o, int64_t end)
{
    enum { PITCH = 2 * LOWRANK_TILE };
    _Alignas(64) float panel[LOWRANK_UP_RANKS * PITCH];
    const struct matrix *b = p->args->b;
    struct up_tile q = *p;
    q.end = NULL;
    for (int64_t r = 0; r < p->n; r++) {
        k->dequantize[b->type](b, row + r, 0, LOWRANK_TILE, panel + r * PITCH);
        if (o % LOWRANK_TILE)
            memset(panel + r * PITCH + LOWRANK_TILE, 0, LOWRANK_TILE * sizeof *panel);
    }
    q.b = (struct lowrank_rows){(const uint8_t *)panel, PITCH * sizeof *panel};
    up_panel(&q, o, end);
}

void BODY(_lowrank_up)(const struct kernels *k, const struct lowrank_up_args *args)
{
    const struct matrix *b = args->b;
    const bool in_place = args->n_tok < LOWRANK_UP_TOKENS && args->o_begin % 16 == 0;
    struct up_tile p = {.args = args, .b = {.pitch = b->row_bytes}};
    if (in_place) {
        const uint8_t *data = b->data;
        size_t tile_bytes = (size_t)args->rank * b->row_bytes;
        p.end = data + (size_t)blocks_of(args->o_end, LOWRANK_TILE) * tile_bytes;
        ask_for(data + (size_t)(args->o_begin / LOWRANK_TILE) * tile_bytes, LOWRANK_AHEAD, p.end);
    }
    for (int64_t o = args->o_begin, end; o < args->o_end; o = end) {
        int64_t tile = o / LOWRANK_TILE;
        end = (tile + 1) * LOWRANK_TILE < args->o_end ? (tile + 1) * LOWRANK_TILE : args->o_end;
        for (p.first = 0; p.first < args->rank; p.first += LOWRANK_UP_RANKS) {
            int64_t left = args->rank - p.first, row = tile * args->rank + p.first;
            p.n = left < LOWRANK_UP_RANKS ? left : LOWRANK_UP_RANKS;
            p.b.data = (const uint8_t *)b->data + (size_t)row * b->row_bytes;
#define UP_IN_PLACE(TYPE)                                                                          \
    case GRAFT_TYPE_##TYPE:                                                                        \
        up_in_place(GRAFT_TYPE_##TYPE, &p, o, end);                                                \
        continue;
            if (in_place)
                switch (b->type) {
                    EACH_FACTOR_TYPE(UP_IN_PLACE)
                default:
                    break;
                }
            up_through_panel(k, &p, row, o, end);
        }
    }
}
