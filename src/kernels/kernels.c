/* kernels.c: sizes that callers need, and the choice of a tier.
 *
 * The tables are constants; which of them this processor can run is asked of the processor each
 * time, so there is no state here. A tier is offered only when all of its instructions are there and
 * the system keeps the registers that they use.
 */
#include "kernels/kernels_internal.h"
#include "kernels/panels.h"

#include <pthread.h>

size_t act_row_bytes(enum act_format format, int64_t n_in)
{
    switch (format) {
    case ACT_Q8:
        return (size_t)blocks_of(n_in, Q8_BLOCK) * sizeof(struct act_q8);
    case ACT_Q8K:
        return (size_t)blocks_of(n_in, Q8K_BLOCK) * sizeof(struct act_q8k);
    default:
        return (size_t)n_in * sizeof(float);
    }
}

enum act_format act_format_for(graft_type type, enum role role)
{
    if (role == ROLE_PREFILL)
        return ACT_F32;
    switch (type) {
#define CASE(TYPE, name) case GRAFT_TYPE_##TYPE:
        KERNEL_Q8_TYPES(CASE)
        return ACT_Q8;
        KERNEL_Q8K_TYPES(CASE)
        return ACT_Q8K;
    default:
        return ACT_F32;
    }
}

bool kernels_have_type(graft_type type)
{
    switch (type) {
        KERNEL_TYPES(CASE)
        return true;
    default:
        return false;
    }
}

enum panel_format kernels_panel_format(const struct kernels *k, graft_type type)
{
    return act_format_for(type, ROLE_DECODE) == ACT_F32 ? k->float_panels : k->quantised_panels;
}

enum panel_format kernels_delta_format(const struct kernels *k, graft_type type)
{
    return act_format_for(type, ROLE_DECODE) == ACT_F32 ? k->float_deltas : k->quantised_panels;
}

void kernels_round_floats(const struct kernels *k, struct kernels *out)
{
    *out = *k;
    out->float_panels = out->float_deltas = k->quantised_panels;
}

/* Whole blocks, and whole lines of the cache. */
int64_t transposed_grain(const struct matrix *w)
{
    int64_t block = w->group ? w->group : type_traits(w->type)->block_values;
    return block > Q8_BLOCK ? block : Q8_BLOCK;
}

size_t kv_head_bytes(enum kv_type type, int d_head)
{
    switch (type) {
    case KV_F16:
        return (size_t)d_head * 2;
    case KV_Q8:
        return (size_t)blocks_of(d_head, Q8_BLOCK) * KV_Q8_BYTES;
    default:
        return (size_t)d_head * 4;
    }
}

/* DECODE_PACK rows of activations, two bytes a value, with three factors per block of 32; some rows of
 * W taken apart; and the room to align them. */
size_t decode_scratch_bytes(int64_t n_in)
{
    size_t values = (size_t)blocks_of(n_in, Q8K_BLOCK) * Q8K_BLOCK;
    size_t row = values * 2 + values / Q8_BLOCK * 3 * sizeof(float);
    return (DECODE_PACK + 8) * row + 4096;
}

/* What the bodies lay out, and the room to align it. It does not grow with n_in: panels are a chunk
 * wide. */
size_t prefill_scratch_bytes(int64_t n_in)
{
    (void)n_in;
    int bytes = FLOAT_SCRATCH_BYTES;
    return (size_t)(BF16_SCRATCH_BYTES > bytes ? BF16_SCRATCH_BYTES : bytes) + 64;
}

/* log x = e · ln 2 + 2 atanh(f), f = (m − 1) / (m + 1), with m in [√½, √2) so that |f| ≤ 0.172 */
double kernel_log(double x)
{
    uint64_t bits;
    memcpy(&bits, &x, sizeof bits);
    int exponent = (int)(bits >> 52) - 1022;
    bits = (bits & 0xfffffffffffff) | (uint64_t)1022 << 52; /* m in [½, 1) */
    double m;
    memcpy(&m, &bits, sizeof m);
    if (m < 0.70710678118654752) {
        m *= 2;
        exponent--;
    }
    double f = (m - 1) / (m + 1), square = f * f, series = 0;
    for (int i = 21; i >= 1; i -= 2)
        series = series * square + 1.0 / i;
    return exponent * 0.69314718055994531 + 2 * f * series;
}

/* ---- tiers -------------------------------------------------------------------------------- */

static bool runs_always(void)
{
    return true;
}

static const struct tier {
    const struct kernels *kernels;
    bool (*runs)(void);           /* here, once it is permitted; asks the system for nothing */
    const char *(*refused)(void); /* asks for a permission: why it is not given. NULL: takes none */
} tiers[] = {
    /* slowest first */
    {&scalar_kernels, runs_always, NULL},
#if defined(__x86_64__)
    {&avx2_kernels, cpu_runs_avx2, NULL},
    {&avx512_kernels, cpu_runs_avx512, NULL},
    {&avx512bf16_kernels, cpu_runs_avx512bf16, NULL},
    {&amx_kernels, cpu_runs_amx, cpu_amx_refusal},
#elif defined(__aarch64__)
    {&neon_kernels, cpu_runs_neon, NULL},
    {&dotprod_kernels, cpu_runs_dotprod, NULL},
    {&i8mm_kernels, cpu_runs_i8mm, NULL},
#endif
};

static bool is_offered(const struct tier *tier)
{
    return tier->runs() && !(tier->refused && tier->refused());
}

const struct kernels *kernels_tier(int index)
{
    for (size_t i = 0; i < ARRAY_LEN(tiers); i++)
        if (is_offered(&tiers[i]) && index-- == 0)
            return tiers[i].kernels;
    return NULL;
}

const char *kernels_tier_name(int index)
{
    for (size_t i = 0; i < ARRAY_LEN(tiers); i++)
        if (tiers[i].runs() && index-- == 0)
            return tiers[i].kernels->tier;
    return NULL;
}

const struct kernels *kernels_find(const char *name)
{
    for (size_t i = ARRAY_LEN(tiers); i-- > 0;)
        if ((!name || strcmp(name, tiers[i].kernels->tier) == 0) && is_offered(&tiers[i]))
            return tiers[i].kernels;
    return NULL;
}

bool kernels_is_tier_name(const char *name)
{
    static const char *const names[] = {"scalar", "avx2", "avx512",  "avx512bf16",
                                        "amx",    "neon", "dotprod", "i8mm"};
    for (size_t i = 0; i < ARRAY_LEN(names); i++)
        if (strcmp(name, names[i]) == 0)
            return true;
    return false;
}

const char *kernels_refusal(const char *name)
{
    const char *why = NULL;
    for (size_t i = 0; i < ARRAY_LEN(tiers); i++)
        if (tiers[i].refused && (!name || strcmp(name, tiers[i].kernels->tier) == 0))
            why = tiers[i].refused();
    return why;
}

#if defined(__x86_64__) || defined(__aarch64__)
static char brand[49];
static pthread_once_t brand_once = PTHREAD_ONCE_INIT;

static void brand_read(void)
{
    cpu_brand(brand);
}

const char *kernels_processor(void)
{
    pthread_once(&brand_once, brand_read);
    return brand;
}
#else
const char *kernels_processor(void)
{
    return "";
}
#endif
