/* check_linear.c: matrix products of both roles against double precision and the scalar tier, and
 * the bit-equality that the arithmetic rule promises. */
#include "kernels/check.h"

#include <math.h>

/* The smallest normal float: the workers' flushing of denormals may cost that much. */
static const double TINY = 1e-37;

enum { MAX_TOKENS = 64 };

struct product {
    const struct matrix *w;
    enum role role;
    int n_tok;
    struct fenced x; /* rows in the format of the role */
    struct expected {
        double *want, *magnitude; /* [n_tok, n_out] by double precision */
    } exact, rounded;             /* rounded: of both factors in bf16 */
};

/* How a tier holds the factors of the product. */
static enum panel_format factor_format(const struct kernels *k, const struct product *p)
{
    if (p->role == ROLE_PREFILL)
        return kernels_panel_format(k, p->w->type);
    return p->w->type == GRAFT_TYPE_BF16 ? k->bf16_rows : PANEL_F32;
}

static size_t row_bytes(const struct product *p)
{
    return act_row_bytes(act_format_for(p->w->type, p->role), p->w->n_in);
}

/* The activations as the product sees them. */
static void read_activations(const struct product *p, int token, double *out)
{
    const uint8_t *row = (const uint8_t *)p->x.data + (size_t)token * row_bytes(p);
    enum act_format format = act_format_for(p->w->type, p->role);
    for (int64_t i = 0; i < p->w->n_in; i++) {
        if (format == ACT_Q8) {
            const struct act_q8 *b = (const struct act_q8 *)row + i / 32;
            out[i] = (double)b->scale * b->q[i % 32];
        } else if (format == ACT_Q8K) {
            const struct act_q8k *b = (const struct act_q8k *)row + i / 256;
            out[i] = (double)b->scale * b->q[i % 256];
        } else {
            out[i] = load_f32(row + 4 * i);
        }
    }
}

static struct expected expect_in_double(const struct product *p, enum panel_format format)
{
    const struct matrix *w = p->w;
    size_t n = (size_t)(p->n_tok * w->n_out);
    struct expected e = {test_malloc(n * sizeof(double)), test_malloc(n * sizeof(double))};
    float *row = test_malloc((size_t)w->n_in * sizeof *row);
    double *x = test_malloc((size_t)w->n_in * sizeof *x);
    for (int t = 0; t < p->n_tok; t++) {
        double total = 0;
        read_activations(p, t, x);
        for (int64_t i = 0; i < w->n_in; i++) {
            x[i] = check_factor(format, x[i]);
            total += fabs(x[i]);
        }
        for (int64_t o = 0; o < w->n_out; o++) {
            double sum = 0, largest = 0;
            scalar_kernels.dequantize[w->type](w, o, 0, w->n_in, row);
            for (int64_t i = 0; i < w->n_in; i++) {
                double factor = check_factor(format, row[i]);
                sum += factor * x[i];
                largest = fmax(largest, fabs(factor));
            }
            e.want[t * w->n_out + o] = sum;
            e.magnitude[t * w->n_out + o] =
                largest * total + TINY / check_panel_tolerance(PANEL_F32);
        }
    }
    test_free(row);
    test_free(x);
    return e;
}

static struct product product_make(const struct matrix *w, enum role role, int n_tok, size_t slack)
{
    struct product p = {.w = w, .role = role, .n_tok = n_tok};
    enum act_format format = act_format_for(w->type, role);
    p.x = fenced_alloc((size_t)n_tok * row_bytes(&p), slack);
    float *x = test_malloc((size_t)w->n_in * sizeof *x);
    for (int t = 0; t < n_tok; t++) {
        check_fill_uniform(x, w->n_in);
        if (t == 2)
            memset(x, 0, (size_t)w->n_in * sizeof *x); /* a zero row gives zeros */
        scalar_kernels.act_quantize[format](x, w->n_in,
                                            (uint8_t *)p.x.data + (size_t)t * row_bytes(&p));
    }
    test_free(x);
    p.exact = expect_in_double(&p, PANEL_F32);
    p.rounded = expect_in_double(&p, PANEL_BF16);
    return p;
}

static void product_free(struct product *p)
{
    fenced_free(&p->x);
    test_free(p->exact.want);
    test_free(p->exact.magnitude);
    test_free(p->rounded.want);
    test_free(p->rounded.magnitude);
}

/* Every second decode product is told what memory to ask for meanwhile: no bit of it may change. */
static struct matrix asking_every_second_time(const struct matrix *w)
{
    static char memory[5000];
    static const struct ahead_piece pieces[] = {
        {memory + 1, 1}, {memory, 0}, {memory + 64, 4000}, {memory + 4999, 1}, {memory, 130}};
    static const struct ahead ahead = {pieces, ARRAY_LEN(pieces)};
    static bool asks;
    struct matrix asking = *w;
    asks = !asks;
    asking.ahead = asks ? &ahead : NULL;
    return asking;
}

/* Tokens first..first+n of a product, outputs o_begin..o_end, into y[n, stride]. */
static void product_run(const struct kernels *k, const struct product *p, int first, int n,
                        int64_t o_begin, int64_t o_end, float *y, int64_t stride)
{
    const uint8_t *x = (const uint8_t *)p->x.data + (size_t)first * row_bytes(p);
    bool decode = p->role == ROLE_DECODE;
    int64_t n_in = p->w->n_in;
    void *scratch =
        check_scratch(decode ? decode_scratch_bytes(n_in) : prefill_scratch_bytes(n_in));
    const struct matrix w = asking_every_second_time(p->w);
    if (decode)
        k->linear_decode[w.type](&w, x, n, o_begin, o_end, y, stride, scratch);
    else
        k->linear_prefill(k, p->w, (const float *)x, n, o_begin, o_end, y, stride, scratch);
}

static void compare_with_double(const struct kernels *k, const struct product *p, const float *y,
                                int64_t stride)
{
    const enum panel_format format = factor_format(k, p);
    const struct expected *e = format == PANEL_BF16 ? &p->rounded : &p->exact;
    for (int t = 0; t < p->n_tok; t++)
        for (int64_t o = 0; o < p->w->n_out; o++)
            check_near(y[t * stride + o], e->want[t * p->w->n_out + o],
                       e->magnitude[t * p->w->n_out + o], check_panel_tolerance(format),
                       graft_type_name(p->w->type), k->tier, o);
}

/* Each token alone, and batches that fill, half fill and overflow what a tier takes at once, must give
 * the bits of the whole batch. */
static void compare_batches(const struct kernels *k, const struct product *p, const float *whole,
                            int64_t stride)
{
    int64_t n_out = p->w->n_out;
    static const int sizes[] = {1, 2, 3, 4, 5, 7, 8, 12, 15, 16, 17, 33};
    for (size_t i = 0; i < ARRAY_LEN(sizes); i++)
        for (int t = 0; t < p->n_tok && (sizes[i] < p->n_tok || i == 0); t += sizes[i]) {
            int n = p->n_tok - t < sizes[i] ? p->n_tok - t : sizes[i];
            struct padded y = padded_alloc(n * n_out);
            product_run(k, p, t, n, 0, n_out, y.data, n_out);
            padded_check(&y);
            for (int j = 0; j < n; j++)
                assert_memory_equal(y.data + j * n_out, whole + (t + j) * stride,
                                    (size_t)n_out * sizeof(float));
            padded_free(&y);
        }
}

/* Outputs computed in two calls that meet at an odd place, and nothing written outside. */
static void compare_splits(const struct kernels *k, const struct product *p, const float *whole,
                           int64_t stride)
{
    int64_t n_out = p->w->n_out, n = p->n_tok * stride;
    for (int round = 0; round < 3; round++) {
        int64_t at = check_below((int)n_out + 1);
        struct padded y = padded_alloc(n);
        product_run(k, p, 0, p->n_tok, at, n_out, y.data, stride);
        for (int t = 0; t < p->n_tok; t++)
            for (int64_t o = 0; o < stride; o++)
                if (o < at || o >= n_out)
                    assert_true(padded_is_untouched(y.data + t * stride + o));
        product_run(k, p, 0, p->n_tok, 0, at, y.data, stride);
        padded_check(&y);
        for (int t = 0; t < p->n_tok; t++)
            assert_memory_equal(y.data + t * stride, whole + t * stride,
                                (size_t)n_out * sizeof(float));
        padded_free(&y);
    }
}

static void check_on_tier(const struct kernels *k, const struct product *p)
{
    int64_t n_out = p->w->n_out, stride = n_out + 3;
    struct padded y = padded_alloc(p->n_tok * stride);
    product_run(k, p, 0, p->n_tok, 0, n_out, y.data, stride);
    padded_check(&y);
    compare_with_double(k, p, y.data, stride);
    if (p->n_tok > 2)
        for (int64_t o = 0; o < n_out; o++)
            assert_true(y.data[2 * stride + o] == 0);
    compare_batches(k, p, y.data, stride);
    compare_splits(k, p, y.data, stride);
    padded_free(&y);
}

static void check_product(const struct matrix *w, enum role role, int n_tok, size_t slack)
{
    struct product p = product_make(w, role, n_tok, slack);
    if (role == ROLE_DECODE) {
        FOR_EACH_TIER(k)
        check_on_tier(k, &p);
    } else {
        FOR_EACH_PANEL_TIER(k)
        check_on_tier(k, &p);
    }
    product_free(&p);
}

struct shape {
    int64_t n_out, blocks; /* n_in = blocks · step of the type */
    int n_tok;
};

static void check_shape(graft_type type, enum role role, int64_t n_out, int64_t n_in, int n_tok,
                        int group, graft_type scale_type)
{
    /* Weights end at the page, or one odd byte before it: then no row is aligned. */
    for (size_t slack = 0; slack < 2; slack++) {
        struct weights w = weights_make(type, n_out, n_in, slack, group, scale_type);
        check_product(&w.matrix, role, n_tok, 0);
        weights_free(&w);
    }
}

static void check_role(enum role role)
{
    static const struct shape floats[] = {{1, 1, 1},     {2, 3, 3},    {5, 7, 2},    {3, 8, 5},
                                          {4, 17, 4},    {19, 31, 9},  {33, 100, 7}, {7, 257, 13},
                                          {37, 1000, 7}, {35, 40, 520}};
    static const struct shape blocks[] = {{1, 1, 1},    {2, 2, 3},    {3, 3, 5},
                                          {5, 5, 7},    {4, 8, 4},    {18, 9, 9},
                                          {37, 27, 13}, {11, 31, 33}, {21, 16, 17}};
    static const struct shape large[] = {{1, 1, 1}, {3, 2, 3}, {6, 3, 7}, {17, 5, 10}, {11, 6, 33}};
    for (size_t i = 0; i < ARRAY_LEN(floats); i++) {
        const struct shape *s = &floats[i];
#define FLOATS(TYPE, name)                                                                         \
    check_shape(GRAFT_TYPE_##TYPE, role, s->n_out, s->blocks, s->n_tok, 0, GRAFT_TYPE_F32);
        KERNEL_FLOAT_TYPES(FLOATS)
    }
    for (size_t i = 0; i < ARRAY_LEN(blocks); i++) {
        const struct shape *s = &blocks[i];
#define BLOCKS(TYPE, name)                                                                         \
    if (!type_is_mlx(GRAFT_TYPE_##TYPE))                                                           \
        check_shape(GRAFT_TYPE_##TYPE, role, s->n_out, s->blocks * 32, s->n_tok, 0, GRAFT_TYPE_F32);
        KERNEL_Q8_TYPES(BLOCKS)
    }
    for (size_t i = 0; i < ARRAY_LEN(large); i++) {
        const struct shape *s = &large[i];
#define LARGE(TYPE, name)                                                                          \
    check_shape(GRAFT_TYPE_##TYPE, role, s->n_out, s->blocks * 256, s->n_tok, 0, GRAFT_TYPE_F32);
        KERNEL_Q8K_TYPES(LARGE)
        for (int group = 32; group <= 128; group *= 2) {
            static const graft_type factors[] = {GRAFT_TYPE_F32, GRAFT_TYPE_F16, GRAFT_TYPE_BF16};
            graft_type f = factors[(i + (size_t)group / 32) % 3];
            check_shape(GRAFT_TYPE_MLX4, role, s->n_out, s->blocks * group, s->n_tok, group, f);
            check_shape(GRAFT_TYPE_MLX8, role, s->n_out, s->blocks * group, s->n_tok, group, f);
        }
    }
}

static void decode_products_are_right_and_independent_of_company(void **state)
{
    (void)state;
    check_role(ROLE_DECODE);
}

static void prefill_products_are_right_and_independent_of_company(void **state)
{
    (void)state;
    check_role(ROLE_PREFILL);
}

static void large_batches_equal_single_rows(void **state)
{
    (void)state;
#define LARGE_BATCH(TYPE, name)                                                                    \
    check_shape(GRAFT_TYPE_##TYPE, ROLE_DECODE, 9, 512, MAX_TOKENS, 64, GRAFT_TYPE_F16);
    KERNEL_TYPES(LARGE_BATCH)
    check_shape(GRAFT_TYPE_Q8_0, ROLE_PREFILL, 70, 544, MAX_TOKENS + 7, 0, GRAFT_TYPE_F32);
}

/* A long range may be read in another order than a short one. */
static void a_long_range_has_the_bits_of_short_ones(void **state)
{
    (void)state;
    enum { N_IN = 1024, LONG = 17 << 20, PIECE = 1001 };
    static const graft_type types[] = {GRAFT_TYPE_F32, GRAFT_TYPE_F16, GRAFT_TYPE_BF16,
                                       GRAFT_TYPE_Q8_0, GRAFT_TYPE_Q4_K};
    for (size_t i = 0; i < ARRAY_LEN(types); i++) {
        size_t row;
        assert_true(type_row_bytes(types[i], N_IN, &row));
        const int64_t n_out = LONG / (int64_t)row + 5;
        struct weights w = weights_make(types[i], n_out, N_IN, 0, 0, GRAFT_TYPE_F32);
        struct product p = {.w = &w.matrix, .role = ROLE_DECODE, .n_tok = 1};
        float x[N_IN], *whole = test_malloc((size_t)n_out * sizeof *whole);
        float *parts = test_malloc((size_t)n_out * sizeof *parts);
        p.x = fenced_alloc(row_bytes(&p), 0);
        check_fill_uniform(x, N_IN);
        scalar_kernels.act_quantize[act_format_for(types[i], ROLE_DECODE)](x, N_IN, p.x.data);
        FOR_EACH_TIER(k)
        {
            if (k == &scalar_kernels)
                continue;
            product_run(k, &p, 0, 1, 0, n_out, whole, n_out);
            for (int64_t o = 0; o < n_out; o += PIECE)
                product_run(k, &p, 0, 1, o, o + PIECE < n_out ? o + PIECE : n_out, parts, n_out);
            check_same(parts, whole, n_out, "in pieces", k->tier);
        }
        test_free(whole);
        test_free(parts);
        fenced_free(&p.x);
        weights_free(&w);
    }
}

/* NaN and Inf in either factor poison their own output, and nothing crashes. */
static void bad_numbers_stay_in_their_row(const struct kernels *k, graft_type type, enum role role,
                                          float bad)
{
    enum { N_IN = 512, N_OUT = 3, N_TOK = 3 };
    struct weights w = weights_make(type, N_OUT, N_IN, 0, 64, GRAFT_TYPE_F16);
    struct product p = {.w = &w.matrix, .role = role, .n_tok = N_TOK};
    enum act_format format = act_format_for(type, role);
    p.x = fenced_alloc(N_TOK * row_bytes(&p), 0);
    float x[N_IN], y[N_TOK * N_OUT];
    for (int t = 0; t < N_TOK; t++) {
        check_fill_uniform(x, N_IN);
        if (t == 1)
            x[333] = bad;
        k->act_quantize[format](x, N_IN, (uint8_t *)p.x.data + (size_t)t * row_bytes(&p));
    }
    product_run(k, &p, 0, N_TOK, 0, N_OUT, y, N_OUT);
    for (int t = 0; t < N_TOK; t++)
        for (int o = 0; o < N_OUT; o++)
            assert_true(t == 1 ? !isfinite(y[t * N_OUT + o]) : isfinite(y[t * N_OUT + o]));
    fenced_free(&p.x);
    weights_free(&w);
}

/* The same of a weight whose values are floats. */
static void bad_weights_stay_in_their_row(const struct kernels *k, graft_type type, enum role role,
                                          float bad)
{
    enum { N_IN = 515, N_OUT = 35, N_TOK = 6, BAD = 33 };
    static const int at[] = {0, 333, N_IN - 1};
    for (size_t i = 0; i < ARRAY_LEN(at); i++) {
        struct weights w = weights_make(type, N_OUT, N_IN, 1, 0, GRAFT_TYPE_F32);
        struct product p = product_make(&w.matrix, role, N_TOK, 0);
        size_t bytes = type_traits(type)->block_bytes;
        uint8_t row[sizeof(float)];
        float y[N_TOK * N_OUT];
        assert_true(quantize_row(type, &bad, 1, row));
        memcpy((uint8_t *)w.data.data + BAD * w.matrix.row_bytes + (size_t)at[i] * bytes, row,
               bytes);
        product_run(k, &p, 0, N_TOK, 0, N_OUT, y, N_OUT);
        for (int o = 0; o < N_TOK * N_OUT; o++)
            assert_int_equal(isfinite(y[o]) != 0, o % N_OUT != BAD);
        product_free(&p);
        weights_free(&w);
    }
}

static void bad_weights_poison_only_their_own_output(void **state)
{
    (void)state;
#define BAD_WEIGHT(TYPE, name)                                                                     \
    for (int role = 0; role < ROLE_COUNT; role++) {                                                \
        bad_weights_stay_in_their_row(k, GRAFT_TYPE_##TYPE, role, NAN);                            \
        bad_weights_stay_in_their_row(k, GRAFT_TYPE_##TYPE, role, INFINITY);                       \
    }
    FOR_EACH_PANEL_TIER(k)
    {
        KERNEL_FLOAT_TYPES(BAD_WEIGHT)
    }
}

static void bad_numbers_poison_only_their_own_output(void **state)
{
    (void)state;
#define BAD(TYPE, name)                                                                            \
    bad_numbers_stay_in_their_row(k, GRAFT_TYPE_##TYPE, role, NAN);                                \
    bad_numbers_stay_in_their_row(k, GRAFT_TYPE_##TYPE, role, -INFINITY);
    enum role role = ROLE_DECODE;
    FOR_EACH_TIER(k){KERNEL_TYPES(BAD)} role = ROLE_PREFILL;
    FOR_EACH_PANEL_TIER(k)
    {
        KERNEL_TYPES(BAD)
    }
}

#if defined(__aarch64__)
/* The tiers of aarch64 differ in how they come to the same integers, and in nothing else. */
static void tiers_of_aarch64_decode_to_the_same_bits(void **state)
{
    enum { N_IN = 5 * 256, N_OUT = 7, N_TOK = 6, N = N_OUT * N_TOK };
    const struct kernels *neon = kernels_find("neon");
    (void)state;
    for (int type = 0; type < GRAFT_TYPE_COUNT; type++) {
        if (!kernels_have_type(type))
            continue;
        struct weights w = weights_make(type, N_OUT, N_IN, 0, 128, GRAFT_TYPE_F16);
        struct product p = product_make(&w.matrix, ROLE_DECODE, N_TOK, 0);
        float want[N], got[N];
        product_run(neon, &p, 0, N_TOK, 0, N_OUT, want, N_OUT);
        FOR_EACH_TIER(k)
        {
            product_run(k, &p, 0, N_TOK, 0, N_OUT, got, N_OUT);
            if (k != &scalar_kernels)
                check_same(got, want, N, graft_type_name(type), k->tier);
        }
        product_free(&p);
        weights_free(&w);
    }
}
#endif

const struct CMUnitTest check_linear_tests[] = {
    cmocka_unit_test(decode_products_are_right_and_independent_of_company),
    cmocka_unit_test(prefill_products_are_right_and_independent_of_company),
    cmocka_unit_test(large_batches_equal_single_rows),
    cmocka_unit_test(a_long_range_has_the_bits_of_short_ones),
    cmocka_unit_test(bad_numbers_poison_only_their_own_output),
    cmocka_unit_test(bad_weights_poison_only_their_own_output),
#if defined(__aarch64__)
    cmocka_unit_test(tiers_of_aarch64_decode_to_the_same_bits),
#endif
    {0},
};
