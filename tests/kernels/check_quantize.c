/* check_quantize.c: what quantize_row writes, read back. */
#include "kernels/check.h"

#include <math.h>
#include <stdio.h>

/* Root of the mean square error over that of the values, on normal random numbers: what the
 * search reaches, with about one percent to spare. A worse search must fail here. */
static const struct {
    graft_type type;
    double error;
} error_bounds[] = {
    {GRAFT_TYPE_F32, 0},       {GRAFT_TYPE_F16, 0.00022},  {GRAFT_TYPE_BF16, 0.0017},
    {GRAFT_TYPE_Q4_0, 0.087},  {GRAFT_TYPE_Q4_1, 0.0795},  {GRAFT_TYPE_Q5_0, 0.0434},
    {GRAFT_TYPE_Q5_1, 0.0384}, {GRAFT_TYPE_Q8_0, 0.00545}, {GRAFT_TYPE_Q2_K, 0.2655},
    {GRAFT_TYPE_Q3_K, 0.1455}, {GRAFT_TYPE_Q4_K, 0.071},   {GRAFT_TYPE_Q5_K, 0.0351},
    {GRAFT_TYPE_Q6_K, 0.0172},
};

static float normal(void)
{
    double u = (check_random() + 0.5) / 4294967296.0, v = (check_random() + 0.5) / 4294967296.0;
    return (float)(sqrt(-2 * log(u)) * cos(6.283185307179586 * v));
}

static double relative_error(graft_type type, const float *x, int64_t n)
{
    size_t bytes;
    assert_true(type_row_bytes(type, n, &bytes));
    struct fenced row = fenced_alloc(bytes, 1);
    float *back = test_malloc((size_t)n * sizeof *back);
    assert_true(quantize_row(type, x, n, row.data));
    struct matrix w = {.type = type, .n_out = 1, .n_in = n, .data = row.data, .row_bytes = bytes};
    scalar_kernels.dequantize[type](&w, 0, 0, n, back);
    double error = 0, total = 0;
    for (int64_t i = 0; i < n; i++) {
        error += ((double)back[i] - x[i]) * ((double)back[i] - x[i]);
        total += (double)x[i] * x[i];
    }
    test_free(back);
    fenced_free(&row);
    return sqrt(total > 0 ? error / total : error);
}

static void quantized_rows_keep_their_precision(void **state)
{
    (void)state;
    enum { N = 16384 };
    static const float sizes[] = {1, 0.02f};
    float *x = test_malloc(N * sizeof *x);
    for (size_t s = 0; s < ARRAY_LEN(sizes); s++) {
        for (int i = 0; i < N; i++)
            x[i] = sizes[s] * normal();
        for (size_t i = 0; i < ARRAY_LEN(error_bounds); i++)
            check_near(relative_error(error_bounds[i].type, x, N), 0, 1, error_bounds[i].error,
                       graft_type_name(error_bounds[i].type), "scalar", 0);
    }
    test_free(x);
}

static bool read_floats(const char *type, float *out, size_t n)
{
    char path[512];
    snprintf(path, sizeof path, "%s/data/quants/%s.f32", GRAFT_SHARED_DIR, type);
    FILE *file = fopen(path, "rb");
    if (!file)
        return false;
    size_t got = fread(out, sizeof *out, n, file);
    fclose(file);
    return got == n;
}

/* The F16 blocks hold the matrix that the others were quantised from. */
static void quantized_rows_are_no_worse_than_the_reference(void **state)
{
    (void)state;
    enum { N = 4096 };
    const double room = 1.005; /* the matrix itself is known to half precision only */
    static float source[N], other[N];
    if (!read_floats("F16", source, N)) {
        print_message("no reference blocks under %s\n", GRAFT_SHARED_DIR);
        skip();
    }
    for (size_t i = 0; i < ARRAY_LEN(error_bounds); i++) {
        graft_type type = error_bounds[i].type;
        if (type_traits(type)->block_values == 1)
            continue;
        double error = 0, total = 0;
        assert_true(read_floats(graft_type_name(type), other, N));
        for (int j = 0; j < N; j++) {
            error += ((double)other[j] - source[j]) * ((double)other[j] - source[j]);
            total += (double)source[j] * source[j];
        }
        check_near(relative_error(type, source, N), 0, sqrt(error / total), room,
                   graft_type_name(type), "scalar", 0);
    }
}

static void constant_and_lopsided_blocks_survive(void **state)
{
    (void)state;
    static const float constants[] = {0, 1, -1, 1e-30f, -3e-4f, 65504};
    float x[256];
    for (size_t t = 0; t < ARRAY_LEN(error_bounds); t++)
        for (size_t c = 0; c < ARRAY_LEN(constants); c++) {
            graft_type type = error_bounds[t].type;
            for (int i = 0; i < 256; i++)
                x[i] = constants[c];
            double error = relative_error(type, x, 256);
            /* 1e-30 is below half precision; 3e-4 as a K scale is a denormal half */
            if (constants[c] == 0)
                assert_true(error == 0);
            else if (fabsf(constants[c]) >= 1)
                check_near(error, 0, 1, 0.04, graft_type_name(type), "constant", (int64_t)c);
            for (int i = 0; i < 256; i++)
                x[i] = fabsf(check_uniform()) + 1; /* one sign: no offset above zero */
            check_near(relative_error(type, x, 256), 0, 1, 0.2, graft_type_name(type), "positive",
                       0);
            for (int i = 0; i < 256; i++)
                x[i] = -x[i];
            check_near(relative_error(type, x, 256), 0, 1, 0.2, graft_type_name(type), "negative",
                       0);
        }
}

static void rows_that_cannot_be_quantized_are_refused(void **state)
{
    (void)state;
    float x[256] = {1};
    uint8_t out[1024];
    assert_false(quantize_row(GRAFT_TYPE_MLX4, x, 256, out));
    assert_false(quantize_row(GRAFT_TYPE_MLX8, x, 256, out));
    assert_false(quantize_row(GRAFT_TYPE_I32, x, 256, out));
    for (size_t i = 0; i < ARRAY_LEN(error_bounds); i++) {
        graft_type type = error_bounds[i].type;
        bool blocks = type_traits(type)->block_values > 1;
        assert_int_equal(quantize_row(type, x, 255, out), !blocks);
        static const float bad[] = {NAN, INFINITY, -INFINITY, 1e30f};
        for (size_t b = 0; b < ARRAY_LEN(bad); b++) {
            x[77] = bad[b];
            assert_int_equal(quantize_row(type, x, 256, out), !blocks);
        }
        x[77] = 0;
    }
}

const struct CMUnitTest check_quantize_tests[] = {
    cmocka_unit_test(quantized_rows_keep_their_precision),
    cmocka_unit_test(quantized_rows_are_no_worse_than_the_reference),
    cmocka_unit_test(constant_and_lopsided_blocks_survive),
    cmocka_unit_test(rows_that_cannot_be_quantized_are_refused),
    {0},
};
