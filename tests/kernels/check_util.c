/* check_util.c: random input, fenced memory and comparison for the kernel check. */
#include "kernels/check.h"

#include <math.h>
#include <sys/mman.h>
#include <unistd.h>

enum { RANDOM_SEED = 0x9E3779B9 };
static uint64_t random_state = RANDOM_SEED;

void check_reseed(void)
{
    random_state = RANDOM_SEED;
}

uint32_t check_random(void)
{
    random_state = random_state * 6364136223846793005u + 1442695040888963407u;
    return (uint32_t)(random_state >> 32);
}

float check_uniform(void)
{
    return (float)((double)check_random() / 2147483648.0 - 1.0);
}

int check_below(int n)
{
    return (int)(check_random() % (uint32_t)n);
}

void check_fill_uniform(float *x, int64_t n)
{
    for (int64_t i = 0; i < n; i++)
        x[i] = check_uniform();
}

struct fenced fenced_alloc(size_t bytes, size_t slack)
{
    size_t page = (size_t)sysconf(_SC_PAGESIZE);
    size_t usable = (bytes + slack + page - 1) / page * page;
    struct fenced f = {.mapped = usable + page};
    f.base = mmap(NULL, f.mapped, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    assert_true(f.base != MAP_FAILED);
    assert_int_equal(mprotect((uint8_t *)f.base + usable, page, PROT_NONE), 0);
    f.data = (uint8_t *)f.base + usable - slack - bytes;
    return f;
}

void fenced_free(struct fenced *f)
{
    if (f->base)
        munmap(f->base, f->mapped);
    f->base = f->data = NULL;
}

void *check_scratch(size_t bytes)
{
    static struct fenced kept; /* mapping it for every product takes longer than most of them */
    static size_t kept_bytes;
    if (bytes != kept_bytes) {
        fenced_free(&kept);
        kept = fenced_alloc(bytes, 1);
        kept_bytes = bytes;
    }
    return kept.data;
}

enum { PADDING = 64 }; /* floats on either side */
static const uint32_t pattern = 0x5A17C0DE;

struct padded padded_alloc(int64_t n)
{
    struct padded p = {.n = n};
    p.base = test_malloc((size_t)(n + 2 * PADDING) * sizeof(float));
    p.data = p.base + PADDING;
    for (int64_t i = 0; i < n + 2 * PADDING; i++)
        memcpy(p.base + i, &pattern, sizeof pattern);
    return p;
}

bool padded_is_untouched(const float *p)
{
    return load_u32(p) == pattern;
}

void padded_check(const struct padded *p)
{
    for (int i = 0; i < PADDING; i++) {
        assert_true(padded_is_untouched(p->base + i));
        assert_true(padded_is_untouched(p->data + p->n + i));
    }
}

void padded_free(struct padded *p)
{
    test_free(p->base);
}

/* ---- weights ------------------------------------------------------------------------------ */

bool type_is_mlx(graft_type type)
{
    return type == GRAFT_TYPE_MLX4 || type == GRAFT_TYPE_MLX8;
}

int64_t type_step(graft_type type, int group)
{
    return type_is_mlx(type) ? group : type_traits(type)->block_values;
}

static void store_half(uint8_t *p, float f)
{
    uint16_t h = f32_to_f16(f);
    memcpy(p, &h, sizeof h);
}

/* Where the half-precision factors of a block stand; −1 ends the list. */
static const int *factor_offsets(graft_type type)
{
    static const int none[] = {-1}, first[] = {0, -1}, first_two[] = {0, 2, -1};
    static const int q2_k[] = {80, 82, -1}, q3_k[] = {108, -1}, q6_k[] = {208, -1};
    switch (type) {
    case GRAFT_TYPE_Q4_0:
    case GRAFT_TYPE_Q5_0:
    case GRAFT_TYPE_Q8_0:
        return first;
    case GRAFT_TYPE_Q4_1:
    case GRAFT_TYPE_Q5_1:
    case GRAFT_TYPE_Q4_K:
    case GRAFT_TYPE_Q5_K:
        return first_two;
    case GRAFT_TYPE_Q2_K:
        return q2_k;
    case GRAFT_TYPE_Q3_K:
        return q3_k;
    case GRAFT_TYPE_Q6_K:
        return q6_k;
    default:
        return none;
    }
}

static void store_value(uint8_t *p, graft_type type, float f)
{
    uint16_t h = type == GRAFT_TYPE_F16 ? f32_to_f16(f) : f32_to_bf16(f);
    if (type == GRAFT_TYPE_F32)
        memcpy(p, &f, sizeof f);
    else
        memcpy(p, &h, sizeof h);
}

static struct fenced random_factors(graft_type type, int64_t n, float size, size_t slack)
{
    size_t bytes = type_traits(type)->block_bytes;
    struct fenced f = fenced_alloc((size_t)n * bytes, slack);
    for (int64_t i = 0; i < n; i++)
        store_value((uint8_t *)f.data + (size_t)i * bytes, type, size * check_uniform());
    return f;
}

struct weights weights_make(graft_type type, int64_t n_out, int64_t n_in, size_t slack, int group,
                            graft_type scale_type)
{
    const struct type_traits *traits = type_traits(type);
    size_t row = (size_t)(n_in / traits->block_values) * traits->block_bytes;
    struct weights w = {.data = fenced_alloc((size_t)n_out * row, slack)};
    w.matrix = (struct matrix){
        .type = type, .n_out = n_out, .n_in = n_in, .data = w.data.data, .row_bytes = row};
    uint8_t *p = w.data.data, *end = p + (size_t)n_out * row;
    if (type == GRAFT_TYPE_F32 || type == GRAFT_TYPE_F16 || type == GRAFT_TYPE_BF16) {
        for (; p < end; p += traits->block_bytes)
            store_value(p, type, check_uniform());
        return w;
    }
    for (uint8_t *q = p; q < end; q++)
        *q = (uint8_t)check_random();
    for (; p < end; p += traits->block_bytes)
        for (const int *at = factor_offsets(type); *at >= 0; at++)
            store_half(p + *at, 0.01f * check_uniform());
    if (type_is_mlx(type)) {
        w.scales = random_factors(scale_type, n_out * n_in / group, 0.01f, slack);
        w.biases = random_factors(scale_type, n_out * n_in / group, 0.5f, slack);
        w.matrix.scales = w.scales.data;
        w.matrix.biases = w.biases.data;
        w.matrix.scale_type = scale_type;
        w.matrix.group = group;
    }
    return w;
}

struct weights weights_split(const struct matrix *w, size_t slack)
{
    struct weights s = {.matrix = *w};
    s.matrix.layout = LAYOUT_SPLIT;
    s.matrix.row_bytes = split_row_bytes(w->type, w->n_in);
    s.data = fenced_alloc((size_t)w->n_out * s.matrix.row_bytes, slack);
    s.matrix.data = s.data.data;
    for (int64_t row = 0; row < w->n_out; row++)
        split_row(w, row, (uint8_t *)s.data.data + (size_t)row * s.matrix.row_bytes);
    return s;
}

void weights_free(struct weights *w)
{
    fenced_free(&w->data);
    fenced_free(&w->scales);
    fenced_free(&w->biases);
}

/* ---- comparison --------------------------------------------------------------------------- */

void check_near(double got, double want, double magnitude, double tolerance, const char *what,
                const char *tier, int64_t index)
{
    if (fabs(got - want) <= tolerance * magnitude)
        return;
    fail_msg("%s, tier %s, at %lld: %.9g instead of %.9g, off by %.3g of %.3g allowed", what, tier,
             (long long)index, got, want, fabs(got - want), tolerance * magnitude);
}

void check_same(const float *got, const float *want, int64_t n, const char *what, const char *tier)
{
    for (int64_t i = 0; i < n; i++)
        if (memcmp(got + i, want + i, sizeof *got) != 0 && !(isnan(got[i]) && isnan(want[i])))
            fail_msg("%s, tier %s, at %lld: %a instead of %a", what, tier, (long long)i,
                     (double)got[i], (double)want[i]);
}

/* ---- panels ------------------------------------------------------------------------------- */

/* Rounding of a float sum: each of n_in products and additions errs by 2^-24, in either direction. */
static const double FLOAT_SUM_TOLERANCE = 5e-7;
/* Of factors in two parts 2^-17 of each is lost, and the product of the two small parts. */
static const double SPLIT_TOLERANCE = 0x1p-16 + 0x1p-18;

double check_factor(enum panel_format format, double factor)
{
    return format == PANEL_BF16 ? (double)bf16_to_f32(f32_to_bf16((float)factor)) : factor;
}

double check_panel_tolerance(enum panel_format format)
{
    return format == PANEL_SPLIT ? SPLIT_TOLERANCE : FLOAT_SUM_TOLERANCE;
}

/* With the products of floats rounded as well, in a place of its own; NULL where that is the same. */
static const struct kernels *rounded(const struct kernels *k, int place)
{
    static struct kernels copies[8];
    if (k->quantised_panels == k->float_panels)
        return NULL;
    kernels_round_floats(k, &copies[place]);
    return &copies[place];
}

const struct kernels *check_panel_tier(int index)
{
    const struct kernels *before = NULL;
    int place = 0;
    FOR_EACH_TIER(k)
    {
        bool own = !before || k->linear_prefill != before->linear_prefill ||
                   k->linear_transposed != before->linear_transposed;
        before = k;
        if (own && index-- == 0)
            return k;
        const struct kernels *other = rounded(k, ++place);
        if (own && other && index-- == 0)
            return other;
    }
#if !defined(GRAFT_IN_EMULATOR)
    if (index-- == 0)
        return &amx_emulated_kernels;
    if (index == 0)
        return rounded(&amx_emulated_kernels, 0);
#endif
    return NULL;
}
