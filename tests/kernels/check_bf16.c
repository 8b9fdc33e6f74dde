/* check_bf16.c: what stands under the bf16 panels: the rows of each type in bf16, and the emulation of
 * AMX tiles, which is checked against numbers worked out by hand, and the instructions against it. */
#include "kernels/check.h"
#include "kernels/panels.h"

#if defined(__x86_64__)
#include "kernels/x86/avx512bf16.h"
#endif

#define AMX_EMULATED
#include "kernels/x86/amx_tiles.h"

/* ---- rows --------------------------------------------------------------------------------- */

#if defined(__x86_64__)
/* Equal as the unit takes them: denormals are zero, zeros have no sign. */
static void check_halves(graft_type type, const uint16_t *got, const float *want, int64_t n)
{
    for (int64_t i = 0; i < n; i++) {
        float expected = tile_flush(bf16_to_f32(f32_to_bf16(want[i])));
        float found = tile_flush(bf16_to_f32(got[i]));
        if (found != expected)
            fail_msg("%s at %lld: %a instead of %a", graft_type_name(type), (long long)i,
                     (double)found, (double)expected);
    }
}

static void check_rows(graft_type type, int64_t blocks, int group, graft_type scale_type)
{
    int64_t step = type_step(type, group), n_in = blocks * step;
    struct weights w = weights_make(type, 3, n_in, (size_t)blocks % 2, group, scale_type);
    float *want = test_malloc((size_t)n_in * sizeof *want);
    for (int64_t row = 0; row < 3; row++) {
        int64_t first = row == 1 && blocks > 1 ? step : 0, n = n_in - first;
        struct padded got = padded_alloc(n_in);
        scalar_kernels.dequantize[type](&w.matrix, row, first, n, want);
        avx512bf16_row(&w.matrix, row, first, n, (uint16_t *)(void *)got.data);
        check_halves(type, (uint16_t *)(void *)got.data, want, n);
        for (int64_t i = blocks_of(n, 2); i < n_in; i++)
            assert_true(padded_is_untouched(got.data + i));
        padded_check(&got);
        padded_free(&got);
    }
    test_free(want);
    weights_free(&w);
}

static void rows_are_the_dequantised_values_rounded(void **state)
{
    (void)state;
    if (!cpu_runs_avx512bf16())
        skip();
    for (int64_t blocks = 1; blocks < 6; blocks++) {
#define ROWS_32(TYPE, name)                                                                        \
    if (!type_is_mlx(GRAFT_TYPE_##TYPE))                                                           \
        check_rows(GRAFT_TYPE_##TYPE, blocks, 0, GRAFT_TYPE_F32);
        KERNEL_Q8_TYPES(ROWS_32)
        KERNEL_Q8K_TYPES(ROWS_32)
        check_rows(GRAFT_TYPE_MLX4, blocks, 32, GRAFT_TYPE_F32);
        check_rows(GRAFT_TYPE_MLX4, blocks, 128, GRAFT_TYPE_BF16);
        check_rows(GRAFT_TYPE_MLX8, blocks, 64, GRAFT_TYPE_F16);
    }
}

static void floats_are_rounded_and_split_as_in_base(void **state)
{
    (void)state;
    if (!cpu_runs_avx512bf16())
        skip();
    for (int64_t n = 1; n < 100; n++) {
        const int64_t end = blocks_of(n, BF16_STEP) * BF16_STEP; /* zeros up to here */
        struct fenced x = fenced_alloc((size_t)n * sizeof(float), 0);
        struct fenced large = fenced_alloc((size_t)end * 2, 0),
                      small = fenced_alloc((size_t)end * 2, 0);
        float *values = x.data;
        const uint16_t *halves = large.data, *rest = small.data;
        check_fill_uniform(values, n);
        memset(large.data, 0xff, (size_t)end * 2);
        avx512bf16_round(values, n, large.data);
        for (int64_t i = 0; i < end; i++)
            assert_int_equal(halves[i], i < n ? f32_to_bf16(values[i]) : 0);
        memset(large.data, 0xff, (size_t)end * 2);
        memset(small.data, 0xff, (size_t)end * 2);
        avx512bf16_split(values, n, large.data, small.data);
        for (int64_t i = 0; i < end; i++) {
            float left = i < n ? values[i] - bf16_to_f32(halves[i]) : 0;
            assert_int_equal(halves[i], i < n ? f32_to_bf16(values[i]) : 0);
            assert_int_equal(rest[i], f32_to_bf16(left));
        }
        fenced_free(&x);
        fenced_free(&large);
        fenced_free(&small);
    }
}
#endif

/* ---- tiles -------------------------------------------------------------------------------- */

/* One row of a and one column of b, from `sum`: the pairs are a[2 k], a[2 k + 1]. */
static float dot(float sum, const float *a, const float *b, int n)
{
    uint16_t x[TILE_ROWS][TILE_HALVES] = {{0}}, w[TILE_ROWS][TILE_HALVES] = {{0}};
    float sums[TILE_ROWS][TILE_FLOATS] = {{sum}};
    for (int i = 0; i < n; i++) {
        x[0][i] = f32_to_bf16(a[i]);
        w[i / 2][i % 2] = f32_to_bf16(b[i]);
    }
    tiles_configure();
    TILE_LOAD(0, sums, 64);
    TILE_LOAD(1, x, 64);
    TILE_LOAD(2, w, 64);
    TILE_DOT(0, 1, 2);
    TILE_STORE(0, sums, 64);
    tiles_release();
    for (int i = 1; i < TILE_FLOATS; i++)
        assert_true(sums[0][i] == 0 && sums[i][0] == 0);
    return sums[0][0];
}

static void a_tile_product_takes_the_documented_steps(void **state)
{
    (void)state;
    const float ones[32] = {1, 1, 1, 1, 1, 1};
    /* Even and odd values have sums of their own: 2^24 + 1 is lost in one, not between the two. */
    const float apart[4] = {0x1p24f, 1, 0, 1}, together[4] = {0x1p24f, 0, 1, 0};
    assert_true(dot(0, apart, ones, 4) == 0x1p24f + 2);
    assert_true(dot(0, together, ones, 4) == 0x1p24f);
    /* The tile comes last: 1 + 1 is there before it is added to 2^24. */
    const float pair[2] = {1, 1};
    assert_true(dot(0x1p24f, pair, ones, 2) == 0x1p24f + 2);
    /* Ties go to even. */
    const float tie[3] = {0x1p24f + 0x1p17f, 0, 1};
    assert_true(dot(0, tie, ones, 3) == 0x1p24f + 0x1p17f);
    const float odd[5] = {0x1p24f, 0, 2, 0, 1};
    assert_true(dot(0, odd, ones, 5) == 0x1p24f + 4);
    /* Denormals are zero on the way in and out. */
    const float tiny[1] = {0x1p-127f}, large[1] = {0x1p100f}, small[1] = {0x1p-70f};
    assert_true(dot(0, tiny, large, 1) == 0);
    assert_true(dot(0, small, small, 1) == 0);
    assert_true(dot(0x1p-126f, small, small, 1) == 0x1p-126f);
    assert_true(isnan(dot(NAN, ones, ones, 1)));
}

/* The instructions, where there are any, give the bits of the emulation. */
static void tiles_equal_their_emulation(void **state)
{
    (void)state;
    const struct kernels *amx = kernels_find("amx");
    if (!amx) {
        print_message("no AMX here: its kernels ran on the emulation only\n");
        skip();
    }
    for (int type = 0; type < GRAFT_TYPE_COUNT; type++) {
        enum { N_OUT = 40, N_IN = 768, N_TOK = 37 };
        if (!kernels_have_type(type))
            continue;
        struct weights w = weights_make(type, N_OUT, N_IN, 0, 64, GRAFT_TYPE_F16);
        static float x[N_TOK * N_IN], got[N_TOK * N_OUT], want[N_TOK * N_OUT];
        struct fenced scratch = fenced_alloc(prefill_scratch_bytes(N_IN), 0);
        check_fill_uniform(x, N_TOK * N_IN);
        amx->linear_prefill(amx, &w.matrix, x, N_TOK, 0, N_OUT, got, N_OUT, scratch.data);
        amx_emulated_kernels.linear_prefill(&amx_emulated_kernels, &w.matrix, x, N_TOK, 0, N_OUT,
                                            want, N_OUT, scratch.data);
        check_same(got, want, N_TOK * N_OUT, graft_type_name(type), "amx");
        fenced_free(&scratch);
        weights_free(&w);
    }
}

const struct CMUnitTest check_bf16_tests[] = {
#if defined(__x86_64__)
    cmocka_unit_test(rows_are_the_dequantised_values_rounded),
    cmocka_unit_test(floats_are_rounded_and_split_as_in_base),
#endif
    cmocka_unit_test(a_tile_product_takes_the_documented_steps),
    cmocka_unit_test(tiles_equal_their_emulation),
    {0},
};
