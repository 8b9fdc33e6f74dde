/* check_transposed.c: the product with the transposed weight against double precision, and the
 * bit-equality that the arithmetic rule promises for it. */
#include "kernels/check.h"

#include <math.h>

/* The smallest normal float: the workers' flushing of denormals may cost that much. */
static const double TINY = 1e-37;

struct transposed {
    const struct matrix *w;
    int n_tok;
    struct fenced dy;               /* [n_tok, n_out] */
    float *before;                  /* [n_tok, n_in]: what the accumulated sums begin with */
    double *want[2], *magnitude[2]; /* [n_tok, n_in]: of exact factors, and of those in bf16 */
};

static void expect_in_double(struct transposed *p, enum panel_format format, double *want,
                             double *magnitude)
{
    const struct matrix *w = p->w;
    const int64_t n = w->n_in;
    const float *dy = p->dy.data;
    float *row = test_malloc((size_t)n * sizeof *row);
    double *largest = test_malloc((size_t)n * sizeof *largest);
    memset(largest, 0, (size_t)n * sizeof *largest);
    memset(want, 0, (size_t)(p->n_tok * n) * sizeof *want);
    for (int64_t o = 0; o < w->n_out; o++) {
        scalar_kernels.dequantize[w->type](w, o, 0, n, row);
        for (int64_t i = 0; i < n; i++) {
            double factor = check_factor(format, row[i]);
            largest[i] = fmax(largest[i], fabs(factor));
            for (int t = 0; t < p->n_tok; t++)
                want[t * n + i] += factor * check_factor(format, dy[t * w->n_out + o]);
        }
    }
    for (int t = 0; t < p->n_tok; t++) {
        double total = 0;
        for (int64_t o = 0; o < w->n_out; o++)
            total += fabs((double)dy[t * w->n_out + o]);
        for (int64_t i = 0; i < n; i++)
            magnitude[t * n + i] = largest[i] * total + TINY / check_panel_tolerance(PANEL_F32);
    }
    test_free(row);
    test_free(largest);
}

static struct transposed transposed_make(const struct matrix *w, int n_tok)
{
    struct transposed p = {.w = w, .n_tok = n_tok};
    size_t n = (size_t)(n_tok * w->n_in);
    p.dy = fenced_alloc((size_t)n_tok * (size_t)w->n_out * sizeof(float), 0);
    check_fill_uniform(p.dy.data, n_tok * w->n_out);
    p.before = test_malloc(n * sizeof *p.before);
    check_fill_uniform(p.before, (int64_t)n);
    for (int rounded = 0; rounded < 2; rounded++) {
        p.want[rounded] = test_malloc(n * sizeof(double));
        p.magnitude[rounded] = test_malloc(n * sizeof(double));
        expect_in_double(&p, rounded ? PANEL_BF16 : PANEL_F32, p.want[rounded],
                         p.magnitude[rounded]);
    }
    return p;
}

static void transposed_free(struct transposed *p)
{
    fenced_free(&p->dy);
    test_free(p->before);
    for (int rounded = 0; rounded < 2; rounded++) {
        test_free(p->want[rounded]);
        test_free(p->magnitude[rounded]);
    }
}

/* Tokens first..first+n, columns i_begin..i_end, into dx[n, stride]. */
static void transposed_run(const struct kernels *k, const struct transposed *p, int first, int n,
                           int64_t i_begin, int64_t i_end, float *dx, int64_t stride,
                           bool accumulate)
{
    const struct transposed_args args = {.w = p->w,
                                         .dy = (const float *)p->dy.data + first * p->w->n_out,
                                         .n_tok = n,
                                         .i_begin = i_begin,
                                         .i_end = i_end,
                                         .dx = dx,
                                         .dx_stride = stride,
                                         .accumulate = accumulate,
                                         .scratch =
                                             check_scratch(prefill_scratch_bytes(p->w->n_in))};
    k->linear_transposed(k, &args);
}

static void compare_with_double(const struct kernels *k, const struct transposed *p,
                                const float *dx, int64_t stride, bool accumulated)
{
    const enum panel_format format = kernels_panel_format(k, p->w->type);
    const int64_t n = p->w->n_in;
    const double *want = p->want[format == PANEL_BF16];
    const double *magnitude = p->magnitude[format == PANEL_BF16];
    for (int t = 0; t < p->n_tok; t++)
        for (int64_t i = 0; i < n; i++) {
            double before = accumulated ? p->before[t * n + i] : 0;
            check_near(dx[t * stride + i], want[t * n + i] + before,
                       magnitude[t * n + i] + fabs(before), check_panel_tolerance(format),
                       graft_type_name(p->w->type), k->tier, i);
        }
}

/* Each token alone, and five at a time, must give the bits of the whole batch. */
static void compare_batches(const struct kernels *k, const struct transposed *p, const float *whole,
                            int64_t stride)
{
    const int64_t n_in = p->w->n_in;
    static const int sizes[] = {1, 5};
    for (size_t s = 0; s < ARRAY_LEN(sizes); s++)
        for (int t = 0; t < p->n_tok; t += sizes[s]) {
            int n = p->n_tok - t < sizes[s] ? p->n_tok - t : sizes[s];
            struct padded dx = padded_alloc(n * n_in);
            transposed_run(k, p, t, n, 0, n_in, dx.data, n_in, false);
            padded_check(&dx);
            for (int j = 0; j < n; j++)
                assert_memory_equal(dx.data + j * n_in, whole + (t + j) * stride,
                                    (size_t)n_in * sizeof(float));
            padded_free(&dx);
        }
}

/* Columns computed in two calls, and nothing written outside. */
static void compare_splits(const struct kernels *k, const struct transposed *p, const float *whole,
                           int64_t stride)
{
    const int64_t n_in = p->w->n_in;
    const int64_t grain = transposed_grain(p->w);
    for (int round = 0; round < 3; round++) {
        int64_t at = check_below((int)(n_in / grain) + 1) * grain;
        struct padded dx = padded_alloc(p->n_tok * stride);
        transposed_run(k, p, 0, p->n_tok, at, n_in, dx.data, stride, false);
        for (int t = 0; t < p->n_tok; t++)
            for (int64_t i = 0; i < stride; i++)
                if (i < at || i >= n_in)
                    assert_true(padded_is_untouched(dx.data + t * stride + i));
        transposed_run(k, p, 0, p->n_tok, 0, at, dx.data, stride, false);
        padded_check(&dx);
        for (int t = 0; t < p->n_tok; t++)
            assert_memory_equal(dx.data + t * stride, whole + t * stride,
                                (size_t)n_in * sizeof(float));
        padded_free(&dx);
    }
}

static void check_accumulation(const struct kernels *k, const struct transposed *p, int64_t stride)
{
    struct padded dx = padded_alloc(p->n_tok * stride);
    for (int t = 0; t < p->n_tok; t++)
        memcpy(dx.data + t * stride, p->before + t * p->w->n_in,
               (size_t)p->w->n_in * sizeof(float));
    transposed_run(k, p, 0, p->n_tok, 0, p->w->n_in, dx.data, stride, true);
    padded_check(&dx);
    compare_with_double(k, p, dx.data, stride, true);
    padded_free(&dx);
}

static void check_shape(graft_type type, int64_t n_out, int64_t n_in, int n_tok, int group,
                        graft_type scale_type)
{
    for (size_t slack = 0; slack < 2; slack++) {
        struct weights w = weights_make(type, n_out, n_in, slack, group, scale_type);
        struct transposed p = transposed_make(&w.matrix, n_tok);
        int64_t stride = n_in + 3;
        FOR_EACH_PANEL_TIER(k)
        {
            struct padded dx = padded_alloc(n_tok * stride);
            transposed_run(k, &p, 0, n_tok, 0, n_in, dx.data, stride, false);
            padded_check(&dx);
            compare_with_double(k, &p, dx.data, stride, false);
            compare_batches(k, &p, dx.data, stride);
            compare_splits(k, &p, dx.data, stride);
            check_accumulation(k, &p, stride);
            padded_free(&dx);
        }
        transposed_free(&p);
        weights_free(&w);
    }
}

static void transposed_products_are_right_and_independent_of_company(void **state)
{
    (void)state;
    static const struct {
        int64_t n_out, n_in; /* n_in: in blocks of the type */
        int n_tok;
    } floats[] = {{1, 1, 1}, {3, 7, 2}, {31, 33, 7}, {130, 257, 5}, {33, 600, 19}},
      blocks[] = {{1, 1, 1}, {2, 3, 3}, {35, 9, 7}, {129, 17, 3}},
      large[] = {{1, 1, 2}, {37, 3, 5}};
#define FLOATS(TYPE, name)                                                                         \
    for (size_t i = 0; i < ARRAY_LEN(floats); i++)                                                 \
        check_shape(GRAFT_TYPE_##TYPE, floats[i].n_out, floats[i].n_in, floats[i].n_tok, 0,        \
                    GRAFT_TYPE_F32);
    KERNEL_FLOAT_TYPES(FLOATS)
#define BLOCKS(TYPE, name)                                                                         \
    for (size_t i = 0; i < ARRAY_LEN(blocks); i++)                                                 \
        check_shape(GRAFT_TYPE_##TYPE, blocks[i].n_out,                                            \
                    blocks[i].n_in *(type_is_mlx(GRAFT_TYPE_##TYPE) ? 64 : 32), blocks[i].n_tok,   \
                    64, GRAFT_TYPE_F16);
    KERNEL_Q8_TYPES(BLOCKS)
#define LARGE(TYPE, name)                                                                          \
    for (size_t i = 0; i < ARRAY_LEN(large); i++)                                                  \
        check_shape(GRAFT_TYPE_##TYPE, large[i].n_out, large[i].n_in * 256, large[i].n_tok, 0,     \
                    GRAFT_TYPE_F32);
    KERNEL_Q8K_TYPES(LARGE)
}

static void many_rows_and_tokens_go_through_every_chunk(void **state)
{
    (void)state;
    check_shape(GRAFT_TYPE_Q8_0, 1100, 288, 3, 0, GRAFT_TYPE_F32);
    check_shape(GRAFT_TYPE_F16, 600, 40, 3, 0, GRAFT_TYPE_F32);
    check_shape(GRAFT_TYPE_Q4_0, 40, 32, 520, 0, GRAFT_TYPE_F32);
    check_shape(GRAFT_TYPE_F32, 17, 20, 515, 0, GRAFT_TYPE_F32);
}

const struct CMUnitTest check_transposed_tests[] = {
    cmocka_unit_test(transposed_products_are_right_and_independent_of_company),
    cmocka_unit_test(many_rows_and_tokens_go_through_every_chunk),
    {0},
};
