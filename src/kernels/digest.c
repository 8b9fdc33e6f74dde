/* digest.c: a tier's arithmetic, told by what it computes.
 *
 * A tier's name does not tell its bits: those of another version of graft, or of another compiler, might be others. So what a
 * forward pass computes is computed of inputs that are always the same, and what comes out is summed up. By the arithmetic
 * rule (kernels.h) an output depends on nothing but its own inputs, so few rows and outputs speak for all; what they sum over is
 * as long as it takes to meet each loop, its last piece, and the places where sums are cut.
 */
#include "kernels/kernels_internal.h"

enum { N_IN = 3 * Q8K_BLOCK, N_OUT = 3, RANK = LOWRANK_UP_RANKS + 4, MLX_GROUP = 64 };
enum { D_HEAD = 72, N_GROUP = 2, POSITIONS = ATTENTION_CHUNK + KV_BLOCK + 3 };
enum { KV_BLOCKS = POSITIONS / KV_BLOCK + 1, OUTPUTS_MAX = 1 << 20 /* bytes */ };

struct probe {
    const struct kernels *k;
    struct buf outputs;
    float values[2 * N_IN], y[N_IN]; /* from which all activations are taken */
    uint16_t
        halves[2 *
               N_IN]; /* f16 from 1/16 to 1/2 in size: as scales, and as anything else in blocks */
    float weights[RANK * N_IN], tiles[RANK * LOWRANK_TILE], split[N_OUT * N_IN];
    float acts[N_IN], cache[KV_BLOCKS][KV_BLOCK * D_HEAD]; /* no format takes more */
    void *scratch;
};

/* (−1, 1): the upper bits of a linear congruential generator (Knuth, MMIX). */
static void fill(float *x, int64_t n, uint64_t state)
{
    for (int64_t i = 0; i < n; i++) {
        state = state * 6364136223846793005U + 1442695040888963407U;
        x[i] = (float)(int32_t)(state >> 32) * 0x1p-31f;
    }
}

static void take(struct probe *p, const float *x, int64_t n)
{
    buf_append(&p->outputs, x, (size_t)n * sizeof *x);
}

/* Some weights of a type in `data`, which has room for floats. No quantiser has a part in them, so that these may change. */
static struct matrix make_matrix(struct probe *p, graft_type type, int64_t n_out, int64_t n_in,
                                 float *data)
{
    struct matrix w = {.type = type, .n_out = n_out, .n_in = n_in, .data = data};
    type_row_bytes(type, n_in, &w.row_bytes);
    if (type == GRAFT_TYPE_MLX4 || type == GRAFT_TYPE_MLX8) {
        w.scales = p->halves;
        w.biases = p->halves + N_IN;
        w.scale_type = GRAFT_TYPE_F16;
        w.group = MLX_GROUP;
    }
    for (int64_t row = 0; row < n_out; row++) {
        uint8_t *out = (uint8_t *)data + (size_t)row * w.row_bytes;
        if (type == GRAFT_TYPE_F32 || type == GRAFT_TYPE_F16 || type == GRAFT_TYPE_BF16)
            quantize_row(type, p->values + 7 * row, n_in, out); /* nothing but rounding */
        else
            memcpy(out, p->halves + 7 * row, w.row_bytes);
    }
    return w;
}

/* Decode products of rows that lie otherwise have the same bits, but are other code. */
static void probe_split(struct probe *p, const struct matrix *w)
{
    struct matrix split = *w;
    split.layout = LAYOUT_SPLIT;
    split.row_bytes = split_row_bytes(w->type, w->n_in);
    split.data = p->split;
    for (int64_t row = 0; row < w->n_out; row++)
        split_row(w, row, (uint8_t *)p->split + (size_t)row * split.row_bytes);
    p->k->linear_decode[w->type](&split, p->acts, 1, 0, N_OUT, p->y, N_OUT, p->scratch);
    take(p, p->y, N_OUT);
}

static void probe_linear(struct probe *p, graft_type type)
{
    const struct kernels *k = p->k;
    const struct matrix w = make_matrix(p, type, N_OUT, N_IN, p->weights);
    k->dequantize[type](&w, N_OUT - 1, 0, N_IN, p->y); /* of an embedding */
    take(p, p->y, N_IN);
    k->act_quantize[act_format_for(type, ROLE_DECODE)](p->values, N_IN, p->acts);
    k->linear_decode[type](&w, p->acts, 1, 0, N_OUT, p->y, N_OUT, p->scratch);
    take(p, p->y, N_OUT);
    k->linear_prefill(k, &w, p->values, 1, 0, N_OUT, p->y, N_OUT, p->scratch);
    take(p, p->y, N_OUT);
    if (k->splits[type])
        probe_split(p, &w);
}

/* y + B u, with the factors of DoRA and without. */
static void probe_up(struct probe *p, const struct lowrank_up_args *args, enum role role)
{
    float y[N_OUT];
    struct lowrank_up_args up = *args;
    up.y = y;
    for (int scaled = 0; scaled < 2; scaled++) {
        up.keep = scaled ? p->values + N_OUT : NULL;
        up.gain = scaled ? p->values + 2 * N_OUT : NULL;
        memcpy(y, p->values + N_IN, sizeof y);
        p->k->lowrank_up[role](p->k, &up);
        take(p, y, N_OUT);
    }
}

/* A delta with factors of a type, in both roles, beside a weight of another (`beside`). */
static void probe_delta(struct probe *p, const struct matrix *a, const struct matrix *b,
                        graft_type beside)
{
    float u[RANK];
    const struct lowrank_part part = {a, 0.75f};
    enum panel_format format = kernels_delta_format(p->k, beside);
    const struct lowrank_down_args down = {.parts = &part,
                                           .n_parts = 1,
                                           .x = p->values,
                                           .n_tok = 1,
                                           .r_end = RANK,
                                           .u = u,
                                           .u_stride = RANK,
                                           .format = format,
                                           .scratch = p->scratch};
    const struct lowrank_up_args up = {.b = b,
                                       .rank = RANK,
                                       .u = u,
                                       .u_stride = RANK,
                                       .n_tok = 1,
                                       .o_end = N_OUT,
                                       .bias = p->values + 3 * N_OUT,
                                       .bias_scale = 0.5f,
                                       .y_stride = N_OUT,
                                       .format = format,
                                       .scratch = p->scratch};
    for (int role = 0; role < ROLE_COUNT; role++) {
        p->k->lowrank_down[role](p->k, &down);
        take(p, u, RANK);
        probe_up(p, &up, role);
    }
}

static void probe_factors(struct probe *p, graft_type type)
{
    const struct matrix a = make_matrix(p, type, RANK, N_IN, p->weights);
    const struct matrix b =
        make_matrix(p, type, lowrank_b_rows(RANK, N_OUT), LOWRANK_TILE, p->tiles);
    probe_delta(p, &a, &b, GRAFT_TYPE_F32);
    probe_delta(p, &a, &b, GRAFT_TYPE_Q8_0);
}

/* The head at every position is a piece of `values`, as key and as value. */
static void probe_attention(struct probe *p, enum kv_type type)
{
    size_t bytes = kv_head_bytes(type, D_HEAD);
    const void *blocks[KV_BLOCKS];
    float state[2 * N_GROUP];
    for (int i = 0; i < KV_BLOCKS; i++)
        blocks[i] = p->cache[i];
    for (int at = 0; at < POSITIONS; at++)
        p->k->kv_store[type](p->values + at, D_HEAD,
                             (uint8_t *)p->cache[at / KV_BLOCK] + (size_t)(at % KV_BLOCK) * bytes);
    const struct attention_args args = {.q = p->values + N_IN,
                                        .out = p->y,
                                        .m = state,
                                        .l = state + N_GROUP,
                                        .q_stride = (int64_t)N_GROUP * D_HEAD,
                                        .out_stride = (int64_t)N_GROUP * D_HEAD,
                                        .n_row = 1,
                                        .n_group = N_GROUP,
                                        .d_head = D_HEAD,
                                        .scale = 0.125f,
                                        .pos = POSITIONS - 1,
                                        .k_type = type,
                                        .v_type = type,
                                        .k_blocks = blocks,
                                        .v_blocks = blocks,
                                        .scratch = p->scratch};
    for (int role = 0; role < ROLE_COUNT; role++) {
        attention_run_tile(p->k, role, &args);
        take(p, p->y, (int64_t)N_GROUP * D_HEAD);
    }
}

static void probe_rows(struct probe *p)
{
    enum { ODD = N_IN - 3 }; /* there is a last piece */
    const struct kernels *k = p->k;
    const float *x = p->values, *other = p->values + N_IN;
    k->rmsnorm(x, other, ODD, 1e-5f, p->y);
    take(p, p->y, ODD);
    k->silu_mul(x, other, ODD, p->y);
    k->add(p->y, x, ODD);
    k->mul(p->y, other, ODD);
    k->gain_add(p->y, other, 0.3f, ODD);
    k->rope(p->y, other, other + D_HEAD / 2, D_HEAD);
    k->rope_interleaved(p->y + D_HEAD, other, other + D_HEAD / 2, D_HEAD);
    take(p, p->y, ODD);
    double total = k->softmax(p->y, ODD);
    take(p, p->y, ODD);
    buf_append(&p->outputs, &total, sizeof total);
}

static void probe_all(struct probe *p)
{
    fill(p->values, 2 * N_IN, 1);
    for (int i = 0; i < 2 * N_IN; i++) {
        uint32_t bits;
        memcpy(&bits, &p->values[i], sizeof bits);
        p->halves[i] = (uint16_t)(0x2c00 + (bits & 0x8bff));
    }
    for (int type = 0; type < GRAFT_TYPE_COUNT; type++) {
        if (kernels_have_type(type))
            probe_linear(p, type);
        if (kernels_have_factor(type))
            probe_factors(p, type);
    }
    for (int type = 0; type < KV_TYPE_COUNT; type++)
        probe_attention(p, type);
    probe_rows(p);
}

static size_t scratch_bytes(void)
{
    size_t decode = decode_scratch_bytes(N_IN), panels = prefill_scratch_bytes(N_IN);
    size_t attention = (size_t)attention_scratch_floats(N_GROUP, D_HEAD) * sizeof(float);
    size_t products = decode > panels ? decode : panels;
    return products > attention ? products : attention;
}

graft_status kernels_digest(const struct kernels *k, struct mem *mem, uint8_t out[32],
                            graft_error *error)
{
    struct probe *p = mem_calloc(mem, 1, sizeof *p);
    void *scratch = mem_alloc(mem, scratch_bytes());
    graft_status status = GRAFT_NO_MEMORY;
    if (p && scratch) {
        p->k = k;
        p->scratch = scratch;
        buf_init(&p->outputs, mem, OUTPUTS_MAX);
        probe_all(p);
        status = p->outputs.status;
        if (status == GRAFT_OK)
            status = sha256(p->outputs.data, p->outputs.size, out, error);
        buf_free(&p->outputs);
    }
    if (status == GRAFT_NO_MEMORY)
        error_set(error, status, "no memory to see what the kernels compute");
    mem_free(mem, scratch);
    mem_free(mem, p);
    return status;
}
