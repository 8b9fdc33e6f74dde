/* kernels_internal.h: what the files of src/kernels share.
 *
 * Owns: the list of types a kernel knows, the names under which a tier defines its entries, the
 * initialiser of a tier's table, and small loads. A tier defines every entry as TIER_entry
 * (scalar_add, avx2_add, ...); the macros below turn the type lists into prototypes and tables, so
 * that an entry that is missing is a link error and not a null pointer.
 */
#ifndef GRAFT_KERNELS_INTERNAL_H
#define GRAFT_KERNELS_INTERNAL_H

#include "kernels/kernels.h"

/* X(TYPE, name): the types with products and dequantisers, by the format of activations that their
 * decode product takes. */
#define KERNEL_FLOAT_TYPES(X) X(F32, f32) X(F16, f16) X(BF16, bf16)
#define KERNEL_Q8_TYPES(X)                                                                         \
    X(Q4_0, q4_0)                                                                                  \
    X(Q4_1, q4_1) X(Q5_0, q5_0) X(Q5_1, q5_1) X(Q8_0, q8_0) X(MLX4, mlx4) X(MLX8, mlx8)
#define KERNEL_Q8K_TYPES(X) X(Q2_K, q2_k) X(Q3_K, q3_k) X(Q4_K, q4_k) X(Q5_K, q5_k) X(Q6_K, q6_k)
#define KERNEL_TYPES(X) KERNEL_FLOAT_TYPES(X) KERNEL_Q8_TYPES(X) KERNEL_Q8K_TYPES(X)

#define KERNEL_CAT_(a, b) a##b
#define KERNEL_CAT(a, b) KERNEL_CAT_(a, b)

enum { Q8_BLOCK = 32, Q8K_BLOCK = 256, KV_Q8_BYTES = 34 };

/* Rows of activations that linear_decode may hold packed at once. */
enum { DECODE_PACK = 32 };

/* Longest run of a row that linear_prefill dequantises at once: a multiple of every block. */
enum { PREFILL_CHUNK = 256 };
/* Rows of W that a tier may hold dequantised at once, and of linear_transposed. */
enum { PREFILL_PANEL = 32, TRANSPOSED_ROWS = 256 };
/* Columns of W that linear_transposed dequantises at once: a multiple of every block. */
enum { TRANSPOSED_SPAN = PREFILL_CHUNK };

/* What the low-rank products hold as floats at once, and where their sums are cut: of A, LOWRANK_RANKS
 * rows of LOWRANK_CHUNK columns; of B, LOWRANK_UP_RANKS rows of a tile. */
enum { LOWRANK_RANKS = 8, LOWRANK_CHUNK = 512, LOWRANK_UP_RANKS = 64 };

/* Ranks begin..end of a matrix A that are asked for of stacked ones, whose u begins there. */
struct lowrank_slice {
    const struct matrix *a;
    int64_t begin, end;
    float scale;
    float *u;
};

/* The slice of part i, whose first rank is `base` of all; returns where the next one begins. */
static inline int64_t lowrank_slice(const struct lowrank_down_args *args, int i, int64_t base,
                                    struct lowrank_slice *out)
{
    const struct lowrank_part *part = &args->parts[i];
    int64_t rank = part->a->n_out, begin = args->r_begin - base, end = args->r_end - base;
    *out = (struct lowrank_slice){.a = part->a,
                                  .begin = begin > 0 ? begin : 0,
                                  .end = end < rank ? end : rank,
                                  .scale = part->scale,
                                  .u = args->u + base};
    return base + rank;
}

static inline uint16_t load_u16(const void *p)
{
    uint16_t v;
    memcpy(&v, p, sizeof v);
    return v;
}

static inline uint32_t load_u32(const void *p)
{
    uint32_t v;
    memcpy(&v, p, sizeof v);
    return v;
}

static inline float load_f32(const void *p)
{
    float v;
    memcpy(&v, p, sizeof v);
    return v;
}

static inline int64_t blocks_of(int64_t n, int64_t block)
{
    return (n + block - 1) / block;
}

/* log(x) for finite x > 0, to 2 ulp; libm's differs by processor. */
double kernel_log(double x);

#define KERNEL_PROTO_TYPE(tier, name)                                                              \
    void KERNEL_CAT(tier, _dequantize_##name)(const struct matrix *w, int64_t row, int64_t first,  \
                                              int64_t n, float *y);                                \
    KERNEL_PROTO_DECODE(tier, name)
#define KERNEL_PROTO_DECODE(tier, name)                                                            \
    void KERNEL_CAT(tier, _linear_decode_##name)(const struct matrix *w, const void *x, int n_tok, \
                                                 int64_t o_begin, int64_t o_end, float *y,         \
                                                 int64_t y_stride, void *scratch);

/* The products through panels, and the table: all that a tier has of its own which takes the rest from
 * another. */
#define KERNEL_PROTO_PANELS(tier)                                                                  \
    void tier##_linear_prefill(const struct kernels *k, const struct matrix *w, const float *x,    \
                               int n_tok, int64_t o_begin, int64_t o_end, float *y,                \
                               int64_t y_stride, void *scratch);                                   \
    void tier##_linear_transposed(const struct kernels *k, const struct transposed_args *args);    \
    void tier##_outer(const struct outer_args *args);                                              \
    extern const struct kernels tier##_kernels;

/* The same of a tier whose matrix unit takes bf16: low-rank products of prefill rows too. */
#define KERNEL_PROTO_BF16(tier)                                                                    \
    KERNEL_PROTO_PANELS(tier)                                                                      \
    void tier##_lowrank_down(const struct kernels *k, const struct lowrank_down_args *args);       \
    void tier##_lowrank_up(const struct kernels *k, const struct lowrank_up_args *args);

#define KERNEL_PROTO_ENTRIES(tier)                                                                 \
    void tier##_act_f32(const float *x, int64_t n_in, void *out);                                  \
    void tier##_act_q8(const float *x, int64_t n_in, void *out);                                   \
    void tier##_act_q8k(const float *x, int64_t n_in, void *out);                                  \
    KERNEL_PROTO_PANELS(tier)                                                                      \
    void tier##_lowrank_down(const struct kernels *k, const struct lowrank_down_args *args);       \
    void tier##_lowrank_up(const struct kernels *k, const struct lowrank_up_args *args);           \
    void tier##_gain_add(float *factor, const float *gain, float weight, int64_t n);               \
    void tier##_rmsnorm(const float *x, const float *weight, int64_t n, float eps, float *out);    \
    void tier##_rope(float *x, const float *cos, const float *sin, int d_head);                    \
    void tier##_rope_interleaved(float *x, const float *cos, const float *sin, int d_head);        \
    void tier##_silu_mul(const float *gate, const float *up, int64_t n, float *out);               \
    void tier##_add(float *x, const float *y, int64_t n);                                          \
    void tier##_mul(float *x, const float *y, int64_t n);                                          \
    double tier##_softmax(float *x, int64_t n);                                                    \
    void tier##_kv_store_f32(const float *x, int d_head, void *out);                               \
    void tier##_kv_store_f16(const float *x, int d_head, void *out);                               \
    void tier##_kv_store_q8(const float *x, int d_head, void *out);                                \
    void tier##_kv_load_f32(const void *in, int d_head, float *x);                                 \
    void tier##_kv_load_f16(const void *in, int d_head, float *x);                                 \
    void tier##_kv_load_q8(const void *in, int d_head, float *x);                                  \
    void tier##_attention_decode(const struct attention_args *args);                               \
    void tier##_attention_prefill(const struct attention_args *args);                              \
    void tier##_attention_join(const struct attention_args *total,                                 \
                               const struct attention_args *part);                                 \
    void tier##_attention_finish(const struct attention_args *args);                               \
    void tier##_rmsnorm_backward(const float *x, const float *weight, const float *dy, int64_t n,  \
                                 float eps, float *dx, float *dweight);                            \
    void tier##_silu_mul_backward(const float *gate, const float *up, const float *dout,           \
                                  int64_t n, float *dgate, float *dup);                            \
    void tier##_self_attention(const struct self_attention_args *args);                            \
    void tier##_self_attention_backward(const struct self_attention_args *args);                   \
    void tier##_scale(float *x, float s, int64_t n);                                               \
    void tier##_bf16_store(const float *x, int64_t n, uint16_t *out);                              \
    void tier##_bf16_load(const uint16_t *in, int64_t n, float *x);                                \
    double tier##_sum_squares(const float *x, int64_t n);                                          \
    void tier##_adamw(const struct adamw_args *args);

#define SCALAR_PROTO_TYPE(TYPE, name) KERNEL_PROTO_TYPE(scalar, name)
KERNEL_TYPES(SCALAR_PROTO_TYPE)
KERNEL_PROTO_ENTRIES(scalar)

/* The table of a tier: KERNEL_TABLE(scalar, SCALAR_DEQUANTIZE, SCALAR_DECODE), where the last two
 * are X(TYPE, name) macros giving the rows of the per-type families. A tier that takes most entries
 * from another is put together of the two parts. */
#define KERNEL_TABLE(tier_, DEQUANTIZE, DECODE)                                                    \
    {                                                                                              \
        KERNEL_TABLE_PANELS(tier_), KERNEL_TABLE_REST(tier_, DEQUANTIZE, DECODE),                  \
            KERNEL_TABLE_LOWRANK(tier_, ROLE_PREFILL)                                              \
    }
#define KERNEL_TABLE_LOWRANK(tier_, role)                                                          \
    .lowrank_down[role] = tier_##_lowrank_down, .lowrank_up[role] = tier_##_lowrank_up
#define KERNEL_TABLE_PANELS(tier_)                                                                 \
    .tier = #tier_, .linear_prefill = tier_##_linear_prefill,                                      \
    .linear_transposed = tier_##_linear_transposed, .outer = tier_##_outer
#define KERNEL_TABLE_BF16(tier_)                                                                   \
    KERNEL_TABLE_PANELS(tier_), KERNEL_TABLE_LOWRANK(tier_, ROLE_PREFILL)
#define KERNEL_TABLE_REST(tier_, DEQUANTIZE, DECODE)                                               \
    .dequantize = {KERNEL_TYPES(DEQUANTIZE)},                                                      \
    .act_quantize =                                                                                \
        {[ACT_F32] = tier_##_act_f32, [ACT_Q8] = tier_##_act_q8, [ACT_Q8K] = tier_##_act_q8k},     \
    .linear_decode = {KERNEL_TYPES(DECODE)}, KERNEL_TABLE_LOWRANK(tier_, ROLE_DECODE),             \
    .gain_add = tier_##_gain_add, .rmsnorm = tier_##_rmsnorm, .rope = tier_##_rope,                \
    .rope_interleaved = tier_##_rope_interleaved, .silu_mul = tier_##_silu_mul,                    \
    .add = tier_##_add, .mul = tier_##_mul, .softmax = tier_##_softmax,                            \
    .kv_store = {[KV_F32] = tier_##_kv_store_f32,                                                  \
                 [KV_F16] = tier_##_kv_store_f16,                                                  \
                 [KV_Q8] = tier_##_kv_store_q8},                                                   \
    .kv_load = {[KV_F32] = tier_##_kv_load_f32,                                                    \
                [KV_F16] = tier_##_kv_load_f16,                                                    \
                [KV_Q8] = tier_##_kv_load_q8},                                                     \
    .attention =                                                                                   \
        {[ROLE_DECODE] = tier_##_attention_decode, [ROLE_PREFILL] = tier_##_attention_prefill},    \
    .attention_join = tier_##_attention_join, .attention_finish = tier_##_attention_finish,        \
    KERNEL_TABLE_TRAINING(tier_)
#define KERNEL_TABLE_TRAINING(tier_)                                                               \
    .rmsnorm_backward = tier_##_rmsnorm_backward, .silu_mul_backward = tier_##_silu_mul_backward,  \
    .self_attention = tier_##_self_attention,                                                      \
    .self_attention_backward = tier_##_self_attention_backward, .scale = tier_##_scale,            \
    .bf16_store = tier_##_bf16_store, .bf16_load = tier_##_bf16_load,                              \
    .sum_squares = tier_##_sum_squares, .adamw = tier_##_adamw

#if defined(__x86_64__)
#define AVX2_PROTO_TYPE(TYPE, name) KERNEL_PROTO_TYPE(avx2, name)
KERNEL_TYPES(AVX2_PROTO_TYPE)
KERNEL_PROTO_ENTRIES(avx2)
/* Does the processor have AVX2, FMA and F16C, and does the system keep the wide registers? */
bool cpu_runs_avx2(void);

#define AVX512_PROTO_TYPE(TYPE, name) KERNEL_PROTO_TYPE(avx512, name)
KERNEL_TYPES(AVX512_PROTO_TYPE)
KERNEL_PROTO_ENTRIES(avx512)
/* The same for AVX-512 F, BW, DQ, VL and VNNI. */
bool cpu_runs_avx512(void);

KERNEL_PROTO_BF16(avx512bf16)
KERNEL_PROTO_DECODE(avx512bf16, bf16)
/* As avx512, with AVX512_BF16. */
bool cpu_runs_avx512bf16(void);

KERNEL_PROTO_BF16(amx)
/* As avx512bf16, with AMX_TILE and AMX_BF16, and the system saves the tiles of processes that may use them. */
bool cpu_runs_amx(void);
/* Asks the system to let this process use them, the one thing that graft asks for a whole process: a constant text
 * where the processor could and it does not, or NULL. */
const char *cpu_amx_refusal(void);

/* The processor's brand string into out; "" when it has none. */
void cpu_brand(char out[49]);

#elif defined(__aarch64__)
#define NEON_PROTO_TYPE(TYPE, name) KERNEL_PROTO_TYPE(neon, name)
KERNEL_TYPES(NEON_PROTO_TYPE)
KERNEL_PROTO_ENTRIES(neon)

/* Tiers that have only the integer products of their own. */
#define ARM_PROTO_DECODE(TYPE, name)                                                               \
    KERNEL_PROTO_DECODE(dotprod, name) KERNEL_PROTO_DECODE(i8mm, name)
KERNEL_Q8_TYPES(ARM_PROTO_DECODE)
KERNEL_Q8K_TYPES(ARM_PROTO_DECODE)
extern const struct kernels dotprod_kernels, i8mm_kernels;

/* Does the processor have what the tier uses, and every tier below it? */
bool cpu_runs_neon(void);
bool cpu_runs_dotprod(void);
bool cpu_runs_i8mm(void);

/* What the processor is called into out; "" when that is not known. */
void cpu_brand(char out[49]);
#endif

#endif
