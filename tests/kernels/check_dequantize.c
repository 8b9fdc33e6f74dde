/* check_dequantize.c: block formats against reference values, and the same bits on every tier. */
#include "kernels/check.h"

#include <math.h>
#include <stdio.h>

/* The reference values come from another program in float: one rounding may differ. */
static const double REFERENCE_TOLERANCE = 1e-6; /* of the row's largest value */

enum { REFERENCE_ROWS = 8, REFERENCE_COLUMNS = 512 };

static size_t read_reference(const char *type, const char *suffix, void *out, size_t size)
{
    char path[512];
    snprintf(path, sizeof path, "%s/data/quants/%s%s", GRAFT_SHARED_DIR, type, suffix);
    FILE *file = fopen(path, "rb");
    if (!file)
        return 0;
    size_t got = fread(out, 1, size, file);
    fclose(file);
    return got;
}

static void compare_with_reference(graft_type type)
{
    static uint8_t blocks[REFERENCE_ROWS * REFERENCE_COLUMNS * 2];
    static float want[REFERENCE_ROWS * REFERENCE_COLUMNS];
    size_t row;
    assert_true(type_row_bytes(type, REFERENCE_COLUMNS, &row));
    assert_int_equal(read_reference(graft_type_name(type), ".bin", blocks, sizeof blocks),
                     row * REFERENCE_ROWS);
    assert_int_equal(read_reference(graft_type_name(type), ".f32", want, sizeof want), sizeof want);
    struct matrix w = {.type = type,
                       .n_out = REFERENCE_ROWS,
                       .n_in = REFERENCE_COLUMNS,
                       .data = blocks,
                       .row_bytes = row};
    FOR_EACH_TIER(k)
    {
        for (int r = 0; r < REFERENCE_ROWS; r++) {
            float got[REFERENCE_COLUMNS], largest = 0;
            const float *expected = want + r * REFERENCE_COLUMNS;
            k->dequantize[type](&w, r, 0, REFERENCE_COLUMNS, got);
            for (int i = 0; i < REFERENCE_COLUMNS; i++)
                largest = fmaxf(largest, fabsf(expected[i]));
            for (int i = 0; i < REFERENCE_COLUMNS; i++)
                check_near(got[i], expected[i], largest, REFERENCE_TOLERANCE, graft_type_name(type),
                           k->tier, i);
        }
    }
}

static void every_reference_block_is_read(void **state)
{
    (void)state;
    char byte;
    if (!read_reference("Q8_0", ".bin", &byte, 1)) {
        print_message("no reference blocks under %s\n", GRAFT_SHARED_DIR);
        skip();
    }
#define COMPARE(TYPE, name)                                                                        \
    if (type_traits(GRAFT_TYPE_##TYPE)->ggml_id > 0)                                               \
        compare_with_reference(GRAFT_TYPE_##TYPE);
    KERNEL_TYPES(COMPARE)
}

/* Whole rows, and pieces that begin inside a row. */
static void compare_tiers(graft_type type, int64_t n_in, size_t slack, int group,
                          graft_type scale_type)
{
    enum { ROWS = 3 };
    struct weights w = weights_make(type, ROWS, n_in, slack, group, scale_type);
    float *want = test_malloc((size_t)n_in * sizeof *want);
    int64_t step = type_step(type, group);
    FOR_EACH_TIER(k)
    {
        for (int64_t r = 0; r < ROWS; r++) {
            scalar_kernels.dequantize[type](&w.matrix, r, 0, n_in, want);
            int64_t first = r == 1 && n_in > step ? step : 0, n = n_in - first;
            struct padded got = padded_alloc(n);
            k->dequantize[type](&w.matrix, r, first, n, got.data);
            padded_check(&got);
            check_same(got.data, want + first, n, graft_type_name(type), k->tier);
            padded_free(&got);
        }
    }
    test_free(want);
    weights_free(&w);
}

static void tiers_dequantize_to_the_same_bits(void **state)
{
    (void)state;
    static const int64_t blocks[] = {1, 2, 3, 7, 9};
    for (size_t i = 0; i < ARRAY_LEN(blocks); i++) {
        size_t slack = i % 2;
#define SAME(TYPE, name)                                                                           \
    if (!type_is_mlx(GRAFT_TYPE_##TYPE))                                                           \
        compare_tiers(GRAFT_TYPE_##TYPE, blocks[i] * type_step(GRAFT_TYPE_##TYPE, 0), slack, 0,    \
                      GRAFT_TYPE_F32);
        KERNEL_TYPES(SAME)
        compare_tiers(GRAFT_TYPE_MLX4, blocks[i] * 64, slack, 64, GRAFT_TYPE_F16);
        compare_tiers(GRAFT_TYPE_MLX4, blocks[i] * 128, slack, 128, GRAFT_TYPE_BF16);
        compare_tiers(GRAFT_TYPE_MLX8, blocks[i] * 32, slack, 32, GRAFT_TYPE_F32);
    }
}

static void mlx_words_are_little_endian_codes(void **state)
{
    (void)state;
    uint8_t words[32];
    float scale = 2, bias = -1, y[64];
    for (int i = 0; i < 32; i++)
        words[i] = (uint8_t)(i * 37);
    struct matrix w = {.type = GRAFT_TYPE_MLX4,
                       .n_out = 1,
                       .n_in = 64,
                       .data = words,
                       .row_bytes = 32,
                       .scales = &scale,
                       .biases = &bias,
                       .scale_type = GRAFT_TYPE_F32,
                       .group = 64};
    scalar_kernels.dequantize[GRAFT_TYPE_MLX4](&w, 0, 0, 64, y);
    for (int i = 0; i < 64; i++)
        assert_true(y[i] == 2.0f * (float)(words[i / 2] >> i % 2 * 4 & 15) - 1.0f);
    w.type = GRAFT_TYPE_MLX8;
    w.n_in = w.group = 32;
    scalar_kernels.dequantize[GRAFT_TYPE_MLX8](&w, 0, 0, 32, y);
    for (int i = 0; i < 32; i++)
        assert_true(y[i] == 2.0f * (float)words[i] - 1.0f);
}

const struct CMUnitTest check_dequantize_tests[] = {
    cmocka_unit_test(every_reference_block_is_read),
    cmocka_unit_test(tiers_dequantize_to_the_same_bits),
    cmocka_unit_test(mlx_words_are_little_endian_codes),
    {0},
};
