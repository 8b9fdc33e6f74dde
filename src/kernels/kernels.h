/* kernels.h: the arithmetic, as raw pointers and dimensions.
 *
 * Owns every inner loop: quantised and plain matrix products, attention, norms, rotary embedding,
 * activations, block quantisation. Knows no files, no models, no threads: whoever calls splits the
 * outputs among workers. The scalar tier is the specification; a faster tier overrides entries of
 * the table below and is compared with it by tests/kernels.
 *
 * Dimensions, everywhere in the tree:
 *   n_tok    rows of activations in this call        n_layer  transformer blocks
 *   d_model  width of the residual stream            d_ff     width of the MLP
 *   n_head   query heads    n_kv  key/value heads    d_head   width of one head
 *   n_vocab  rows of the head                        rank     of an adapter
 *   n_out, n_in  rows and columns of a weight [n_out, n_in], row-major
 *
 * Arithmetic rule: the value of one output depends on (weight type, tier, role) and its own inputs,
 * never on n_tok, on which rows share the call, or on how outputs are split among threads. Hence the
 * order of every reduction over K is fixed, and every entry must give bit-equal results for a row
 * alone and in company.
 *
 * Precision of products through panels (prefill, transposed): sums are floats, and so are the factors
 * on most tiers. On a tier whose matrix unit takes bf16 a quantised type has its weights, once
 * dequantised, and the activations rounded to bf16: what that adds is below the error of the
 * quantisation. The float types (F32, F16, BF16) keep the accuracy of floats on every tier, but for 2^-16 where
 * sums of two bf16 stand for floats (PANEL_SPLIT), as the activations of decode rows may, too (bf16_rows).
 */
#ifndef GRAFT_KERNELS_H
#define GRAFT_KERNELS_H

#include "base/base.h"

/* What a row is for. Decode rows (one token per step, and verification of drafts) use integer dot
 * products on quantised weights; prefill rows use dequantised panels. */
enum role { ROLE_DECODE, ROLE_PREFILL, ROLE_COUNT };

/* How the rows of a weight lie: in the blocks of their file, or taken apart for a tier's decode products
 * (split.h). The values are the same, and so are the bits of every product. */
enum matrix_layout { LAYOUT_FILE, LAYOUT_SPLIT };

/* Memory that will be read soon after a product. Products of many decode rows are bound by arithmetic, so they
 * ask memory for it meanwhile, evenly over their outputs. */
struct ahead_piece {
    const void *data;
    size_t bytes;
};
struct ahead {
    const struct ahead_piece *pieces;
    int n;
};

/* A weight matrix [n_out, n_in]. */
struct matrix {
    graft_type type; /* F32 F16 BF16 Q* MLX4 MLX8 */
    enum matrix_layout layout;
    int64_t n_out, n_in;
    const void *data; /* rows of row_bytes */
    size_t row_bytes;
    const void *scales;        /* MLX only: [n_out, n_in / group] of scale_type */
    const void *biases;        /* MLX only: same shape */
    graft_type scale_type;     /* F32 F16 BF16 */
    int group;                 /* MLX only: 32, 64 or 128 */
    const struct ahead *ahead; /* for one linear_decode, which may look at it; else NULL */
};

/* How a row of activations is held for a product. */
enum act_format {
    ACT_F32, /* n_in floats */
    ACT_Q8,  /* blocks of 32: {float scale, sum; int8 q[32]}, the tail block zero-padded */
    ACT_Q8K, /* blocks of 256: {float scale; int16 sums[16] of 16 values each; int8 q[256]} */
    ACT_COUNT
};

struct act_q8 {
    float scale;
    float sum; /* scale · Σ q */
    int8_t q[32];
};
struct act_q8k {
    float scale;
    int16_t sums[16];
    int8_t q[256];
};

/* Bytes of one row in a format, a multiple of 4. */
size_t act_row_bytes(enum act_format format, int64_t n_in);
/* The format that the product of a weight type takes in a role, the same on every tier: ACT_F32 for
 * ROLE_PREFILL and for F32/F16/BF16; else ACT_Q8K for the K types and ACT_Q8 for the others. */
enum act_format act_format_for(graft_type type, enum role role);
/* True when there are products and dequantisers for the type. */
bool kernels_have_type(graft_type type);

/* Rows in LAYOUT_SPLIT: their bytes, a multiple of 64, or 0 where the type has no such layout; and one of them,
 * made of a row of `w`, which lies as in its file. */
size_t split_row_bytes(graft_type type, int64_t n_in);
void split_row(const struct matrix *w, int64_t row, void *out);

enum kv_type { KV_F32, KV_F16, KV_Q8, KV_TYPE_COUNT };
enum { KV_BLOCK = 64 }; /* positions in a KV block */

/* Bytes of one position of one head. KV_Q8: blocks of 32 {f16 scale, int8 q[32]}, d_head rounded up
 * to 32 and zero-padded. */
size_t kv_head_bytes(enum kv_type type, int d_head);

/* A tile of rows at consecutive positions of one sequence against its cached keys and values, for the
 * n_group = n_head / n_kv query heads that share one KV head. The row at position p sees those from
 * p − window + 1 (window 0: from 0) to p. Of what it sees, the part that lies in begin..end:
 *   m = max s_p, l = Σ exp(s_p − m), out = Σ exp(s_p − m) · v_p with s_p = q · k_p · scale
 * A row that sees nothing there gets l = 0 and out = 0. Blocks are visited in order of absolute
 * position, each as a whole, so a row's result does not depend on the rows of its tile. */
struct attention_args {
    const float *q; /* [n_row, n_group, d_head], rows q_stride floats apart */
    float *out;     /* [n_row, n_group, d_head], rows out_stride floats apart */
    float *m, *l;   /* [n_row, n_group] */
    int64_t q_stride, out_stride;
    int n_row, n_group, d_head; /* n_row: attention_tile_rows(n_group) at most */
    float scale;                /* positive */
    int64_t pos;                /* of the first row */
    int64_t window, begin, end; /* begin: a multiple of KV_BLOCK */
    enum kv_type k_type, v_type;
    const void *const
        *k_blocks; /* by position / KV_BLOCK: this KV head's [KV_BLOCK, kv_head_bytes] */
    const void *const *v_blocks;
    float *scratch; /* attention_scratch_floats(n_group, d_head) */
};
int attention_tile_rows(int n_group);
int64_t attention_scratch_floats(int n_group, int d_head);

/* The softmax over all that the rows see, into out; m, l, begin and end are not used. */
struct kernels;
void attention_run_tile(const struct kernels *k, enum role role, const struct attention_args *args);

/* Decode rows are computed in parts of this many positions, cut at its multiples and joined in order:
 * several workers that share a tile get the bits of one worker alone. */
enum { ATTENTION_CHUNK = 8 * KV_BLOCK };
/* The first position that a tile sees, and the one after the last. */
void attention_range(const struct attention_args *a, int64_t *begin, int64_t *end);

/* Scratch for one worker, in bytes, at any alignment: of linear_decode; of linear_prefill and
 * linear_transposed. Nothing in it outlives the call. */
size_t decode_scratch_bytes(int64_t n_in);
size_t prefill_scratch_bytes(int64_t n_in);

/* How the factors of a product through panels are held, the most exact first. */
enum panel_format {
    PANEL_F32,   /* floats */
    PANEL_SPLIT, /* sums of two bf16; of their four products the smallest is left out: 2^-16 */
    PANEL_BF16   /* rounded to bf16 (to nearest even, denormals to 0): 2^-8 */
};

/* The two halves of a low-rank delta: y = keep ⊙ y + gain ⊙ (B u + bias), u = scale · A x, with factors of a float type
 * or of blocks of 32. A lies in rows; the A of several deltas that read the same x are taken as one, stacked.
 * B lies in tiles of LOWRANK_TILE outputs, the last one filled up with zeros: row tile · rank + r is column
 * r of B there. So blocks fit any rank and any n_out, and a range of outputs is one piece of memory. u is
 * small, so whoever calls may cut tokens, ranks and outputs as it likes.
 *
 * Decode rows take all of it in floats. Prefill rows follow the panels of the weight beside which the delta
 * stands: `format` is kernels_delta_format of its type. */
enum { LOWRANK_TILE = 64 };
struct lowrank_part {
    const struct matrix *a; /* [rank, n_in] */
    float scale;
};
struct lowrank_down_args {
    const struct lowrank_part *parts;
    int n_parts;
    const float *x; /* [n_tok, n_in] */
    int n_tok;
    int64_t r_begin, r_end; /* of the stacked ranks */
    float *u;               /* [n_tok, u_stride], by absolute r */
    int64_t u_stride;
    enum panel_format format; /* prefill only, as is scratch: prefill_scratch_bytes */
    void *scratch;
};
struct lowrank_up_args {
    const struct matrix *b; /* [lowrank_b_rows(rank, n_out), LOWRANK_TILE] */
    int64_t rank;
    const float *u; /* [n_tok, u_stride] */
    int64_t u_stride;
    int n_tok;
    int64_t o_begin, o_end;
    const float *keep; /* [o_end - o_begin]; NULL: 1 */
    const float *gain; /* [n_out]; NULL: 1 */
    const float *bias; /* [n_out]; NULL: 0 */
    float bias_scale;
    float *y; /* [n_tok, y_stride], by absolute o */
    int64_t y_stride;
    enum panel_format format; /* as above */
    void *scratch;
};
/* Can matrices of the type be factors? */
bool kernels_have_factor(graft_type type);
int64_t lowrank_b_rows(int64_t rank, int64_t n_out);
/* B [n_out, rank] into tiles of a factor type; false as quantize_row. */
bool lowrank_pack_b(graft_type type, const float *b, int64_t n_out, int64_t rank, void *out);

/* dx[t * dx_stride + i] (+)= Σ_o dy[t, o] · W[o, i] for i in [i_begin, i_end), t < n_tok: what a loss
 * says of the input of a linear, from what it says of its output. i_begin is a multiple of
 * transposed_grain, i_end as well or n_in. */
struct transposed_args {
    const struct matrix *w;
    const float *dy; /* [n_tok, n_out] */
    int n_tok;
    int64_t i_begin, i_end;
    float *dx; /* indexed by absolute i */
    int64_t dx_stride;
    bool accumulate; /* the sums go on from what is in dx (several linears read one input) */
    void *scratch;   /* prefill_scratch_bytes */
};
int64_t transposed_grain(const struct matrix *w);

/* ---- training ----------------------------------------------------------------------------- */

/* g[r * g_stride + i] += Σ_t u[t * u_stride + r] · x[t * x_stride + i] for r < rank, i in [i_begin, i_end), in the
 * order of tokens: the gradient of a weight or of a factor, from what goes into it (x) and what the loss says of what
 * comes out (u), or the other way round. Outputs may be split by r and by i. A product is at least as exact as
 * `format`, which is kernels_delta_format of the weight beside which it stands; sums are floats. */
struct outer_args {
    const float *u; /* [n_tok, rank] */
    const float *x; /* [n_tok, n_in], indexed by absolute i */
    float *g;       /* [rank, n_in], likewise */
    int64_t u_stride, x_stride, g_stride, rank;
    int64_t i_begin, i_end; /* i_begin: a multiple of 16 */
    int n_tok;
    enum panel_format format;
    void *scratch; /* prefill_scratch_bytes */
};

/* Attention of one example, whose tokens stand at positions 0..n_tok − 1, for the n_group query heads that share one
 * KV head, in floats. A token sees those from its position − window + 1 (window 0: from 0) to itself. */
struct self_attention_args {
    const float *q;     /* [n_tok, n_group, d_head], tokens q_stride floats apart */
    const float *k, *v; /* [n_tok, d_head], tokens kv_stride apart */
    float *out;         /* [n_tok, n_group, d_head], tokens out_stride apart; backward reads it */
    float *lse; /* [n_tok, n_group], tokens lse_stride apart: log Σ exp(q · k · scale); likewise */
    const float *dout; /* backward only: as out */
    float *dq;         /* backward only, written: as q, which it is not */
    float *dk, *dv;    /* backward only, written: as k and v, which they are not */
    int64_t q_stride, kv_stride, out_stride, lse_stride, window;
    int n_tok, n_group, d_head;
    float scale;    /* positive */
    float *scratch; /* self_attention_scratch_floats */
};
int64_t self_attention_scratch_floats(int n_tok, int n_group, int d_head);

/* One step of AdamW on n values:
 *   p −= decay · p;  m = beta1 · m + (1 − beta1) · g';  v = beta2 · v + (1 − beta2) · g'²  with g' = scale · g
 *   p −= lr · (m · correct1) / (sqrt(v · correct2) + eps) */
struct adamw_args {
    float *p, *m, *v;
    const float *g;
    int64_t n;
    double beta1, beta2; /* 1 − beta of a float would be off by 1e-5 */
    float lr, eps;
    float decay;              /* lr · weight decay */
    float correct1, correct2; /* 1 / (1 − beta^k) */
    float scale;              /* of the gradient: clipping */
};

/* The dispatch table of a tier. */
struct kernels {
    const char *tier;
    enum panel_format float_panels, quantised_panels; /* see kernels_panel_format */
    enum panel_format float_deltas;                   /* see kernels_delta_format */
    /* Of the activations in linear_decode of BF16: PANEL_F32 or PANEL_SPLIT. For who checks products. */
    enum panel_format bf16_rows;

    /* The types of which linear_decode, and what is made of panels, also take LAYOUT_SPLIT, because its products are
     * the faster ones. `dequantize` of every tier, and all of the scalar tier, take what any tier takes. */
    bool splits[GRAFT_TYPE_COUNT];

    /* y[k] = W[row, first + k] for k < n. `first` and n are multiples of the type's block (32 or 256;
     * MLX: of the group) except that the last block of a row may be met through n. */
    void (*dequantize[GRAFT_TYPE_COUNT])(const struct matrix *w, int64_t row, int64_t first,
                                         int64_t n, float *y);

    /* One row of activations into its format. Rounding: q = round-half-away(x / scale), scale =
     * max|x| / 127; scale 0 gives q 0. */
    void (*act_quantize[ACT_COUNT])(const float *x, int64_t n_in, void *out);

    /* y[t * y_stride + o] = Σ_k W[o, k] · x[t, k] for o in [o_begin, o_end), t < n_tok. x rows are
     * act_row_bytes(act_format_for(type, ROLE_DECODE)) apart. y is indexed by absolute o. */
    void (*linear_decode[GRAFT_TYPE_COUNT])(const struct matrix *w, const void *x, int n_tok,
                                            int64_t o_begin, int64_t o_end, float *y,
                                            int64_t y_stride, void *scratch);

    /* The same with x as floats [n_tok, n_in], through dequantised panels; every type. */
    void (*linear_prefill)(const struct kernels *k, const struct matrix *w, const float *x,
                           int n_tok, int64_t o_begin, int64_t o_end, float *y, int64_t y_stride,
                           void *scratch);

    /* The product with the transposed weight, through panels of the same format; every type. */
    void (*linear_transposed)(const struct kernels *k, const struct transposed_args *args);

    /* u[t, r] = scale · Σ_k a[r, k] · x[t, k] for r in [r_begin, r_end) */
    void (*lowrank_down[ROLE_COUNT])(const struct kernels *k, const struct lowrank_down_args *args);
    /* y[t, o] = keep[o − o_begin] · y[t, o] + gain[o] · (bias_scale · bias[o] + Σ_r u[t, r] · B[o, r]) for o in
     * [o_begin, o_end) */
    void (*lowrank_up[ROLE_COUNT])(const struct kernels *k, const struct lowrank_up_args *args);
    /* factor[i] += weight · (gain[i] − 1): what a weighted member of a mix adds to the factor of W x */
    void (*gain_add)(float *factor, const float *gain, float weight, int64_t n);

    /* out[i] = x[i] / sqrt(mean(x²) + eps) · weight[i] */
    void (*rmsnorm)(const float *x, const float *weight, int64_t n, float eps, float *out);
    /* Rotate-half RoPE in place on one head: plane i is (x[i], x[i + d/2]); cos/sin [d/2]. */
    void (*rope)(float *x, const float *cos, const float *sin, int d_head);
    /* Interleaved RoPE (GGUF order of llama): plane i is (x[2i], x[2i+1]). */
    void (*rope_interleaved)(float *x, const float *cos, const float *sin, int d_head);
    /* out[i] = silu(gate[i]) · up[i] */
    void (*silu_mul)(const float *gate, const float *up, int64_t n, float *out);
    /* x[i] += y[i] */
    void (*add)(float *x, const float *y, int64_t n);
    /* x[i] *= y[i] */
    void (*mul)(float *x, const float *y, int64_t n);
    /* Softmax in place; returns log Σ exp(x) (of the input), NaN if any input is NaN. */
    double (*softmax)(float *x, int64_t n);
    /* One head of one position into its cache format, and back. */
    void (*kv_store[KV_TYPE_COUNT])(const float *x, int d_head, void *out);
    void (*kv_load[KV_TYPE_COUNT])(const void *in, int d_head, float *x);
    /* By role: few queries and many want sums in different orders. */
    void (*attention[ROLE_COUNT])(const struct attention_args *args);
    /* total = the softmax state of total and of a part with later positions, for the same rows. */
    void (*attention_join)(const struct attention_args *total, const struct attention_args *part);
    /* out /= l; a row that saw nothing stays 0. */
    void (*attention_finish)(const struct attention_args *args);

    /* Training. The backwards of rope is rope with −sin. */
    void (*outer)(const struct outer_args *args);
    /* dx[i] += what a loss says of x, from what it says of out = rmsnorm(x) · weight (dy); dweight[i] += dy[i] · x[i] /
     * sqrt(mean(x²) + eps), where it is wanted (else NULL). dx may not be dy. */
    void (*rmsnorm_backward)(const float *x, const float *weight, const float *dy, int64_t n,
                             float eps, float *dx, float *dweight);
    /* out = silu(gate) · up: dgate[i] and dup[i], written, from dout[i]. Each may be dout, gate or up. */
    void (*silu_mul_backward)(const float *gate, const float *up, const float *dout, int64_t n,
                              float *dgate, float *dup);
    /* out and lse */
    void (*self_attention)(const struct self_attention_args *args);
    /* dq, dk and dv; the weights of the softmax are computed again from lse */
    void (*self_attention_backward)(const struct self_attention_args *args);
    /* x[i] *= s */
    void (*scale)(float *x, float s, int64_t n);
    /* To nearest even, denormals kept, NaN stays NaN: the bits of f32_to_bf16; and back. */
    void (*bf16_store)(const float *x, int64_t n, uint16_t *out);
    void (*bf16_load)(const uint16_t *in, int64_t n, float *x);
    /* Σ x[i]² in doubles, in an order that depends on the tier alone. */
    double (*sum_squares)(const float *x, int64_t n);
    /* Bits do not depend on how n is split. */
    void (*adamw)(const struct adamw_args *args);
};

/* The format that a tier's products through panels take for a weight type. */
enum panel_format kernels_panel_format(const struct kernels *k, graft_type type);
/* The one for low-rank products of prefill rows beside a weight of that type: as the weight's own, but where
 * that is floats and the tier has sums of two bf16, those. */
enum panel_format kernels_delta_format(const struct kernels *k, graft_type type);
/* Makes a copy of a tier whose products of float types are rounded like those of quantised ones, where it has a unit for
 * that: for training in bf16, twice the speed or more at a precision of 2^-8 for each factor. */
void kernels_round_floats(const struct kernels *k, struct kernels *out);

/* The tiers compiled in and runnable on this processor, slowest first; NULL past the end. Asking for
 * them asks Linux for the tiles of AMX where there are any: the one thing that graft changes for the
 * whole process (it makes signal frames of threads that use tiles larger). */
const struct kernels *kernels_tier(int index);
/* The names of those, with nothing asked: there may be one more, which would be refused. */
const char *kernels_tier_name(int index);
/* By name; NULL when unknown or not runnable here. NULL name: the fastest. Only amx, by name or as the fastest, has the
 * system asked. */
const struct kernels *kernels_find(const char *name);
/* Is it the name of a tier that graft has on some processor? (For "avx2: this processor cannot".) */
bool kernels_is_tier_name(const char *name);
/* Why kernels_find does not give this tier (NULL: one that is faster than what it gives), though the processor could
 * run it; or NULL. Asks the system as that does. */
const char *kernels_refusal(const char *name);
/* The processor's own name, or "". */
const char *kernels_processor(void);
/* A sum over what the entries of a forward pass give for inputs that never change: kernels that have the same compute the same
 * bits, whatever their names, versions and compilers. NO_MEMORY. */
graft_status kernels_digest(const struct kernels *k, struct mem *mem, uint8_t out[32],
                            graft_error *error);

/* ---- block quantisation (scalar; used by `graft quantize`) -------------------------------- */

/* Quantises one row of n values into `type` (F32 F16 BF16 Q*), the same bytes on every tier. Returns
 * false, with *out undefined, when n is no multiple of the block, when the type cannot be written
 * (MLX), or when a value for a Q type is not finite or beyond 65504, the range of its scales. */
bool quantize_row(graft_type type, const float *x, int64_t n, void *out);
/* Writes the columns first..first+n, whole groups, of a row of a matrix of type MLX4 or MLX8 whose scales and biases
 * are F16: into data, scales and biases. False, with those undefined, when a value is not finite or beyond 32752. */
bool quantize_mlx(const struct matrix *to, int64_t row, int64_t first, int64_t n, const float *x);

#endif
