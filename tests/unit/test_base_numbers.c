/* Random numbers, hashes and half-precision floats, against published vectors. */
#include "test_support.h"

#include <locale.h>
#include <math.h>

static void random_blocks_equal_the_published_vectors(void **state)
{
    (void)state;
    /* Known answers of the authors' Random123 library for philox4x32-10. */
    static const struct {
        uint64_t seed, stream, counter;
        uint32_t out[4];
    } known[] = {
        {0, 0, 0, {0x6627e8d5, 0xe169c58d, 0xbc57ac4c, 0x9b00dbd8}},
        {UINT64_MAX, UINT64_MAX, UINT64_MAX, {0x408f276d, 0x41c83b0e, 0xa20bc7c6, 0x6d5451fd}},
        {0x299f31d0a4093822,
         0x0370734413198a2e,
         0x85a308d3243f6a88,
         {0xd16cfe09, 0x94fdcceb, 0x5001e420, 0x24126ea1}},
    };
    for (size_t i = 0; i < ARRAY_LEN(known); i++) {
        uint32_t out[4];
        rng_block(known[i].seed, known[i].stream, known[i].counter, out);
        assert_memory_equal(out, known[i].out, sizeof(out));
    }
}

static void a_generator_walks_the_blocks_of_its_stream(void **state)
{
    (void)state;
    struct rng rng;
    rng_init(&rng, 7, 3);
    for (uint64_t counter = 0; counter < 5; counter++) {
        uint32_t block[4];
        rng_block(7, 3, counter, block);
        for (int i = 0; i < 4; i++)
            assert_int_equal(rng_u32(&rng), block[i]);
    }
}

static void uniform_draws_fill_the_unit_interval(void **state)
{
    (void)state;
    enum { N = 100000, BINS = 10 };
    struct rng rng;
    int bins[BINS] = {0};
    rng_init(&rng, 1, 0);
    for (int i = 0; i < N; i++) {
        double x = rng_uniform(&rng);
        assert_true(x >= 0 && x < 1);
        bins[(int)(x * BINS)]++;
    }
    for (int i = 0; i < BINS; i++) /* five standard deviations */
        assert_true(abs(bins[i] - N / BINS) < 480);
}

static void hashes_depend_on_every_byte_the_length_and_the_seed(void **state)
{
    (void)state;
    char text[33] = "0123456789abcdef0123456789abcdef";
    for (size_t size = 0; size <= 32; size++) {
        uint64_t hash = hash_bytes(text, size, 1);
        assert_true(hash == hash_bytes(text, size, 1));
        assert_true(hash != hash_bytes(text, size, 2));
        if (size)
            assert_true(hash != hash_bytes(text, size - 1, 1));
        for (size_t i = 0; i < size; i++) {
            text[i] ^= 1;
            assert_true(hash != hash_bytes(text, size, 1));
            text[i] ^= 1;
        }
    }
}

static void hex_is_written_and_read_back_and_nothing_else_is(void **state)
{
    (void)state;
    static const uint8_t bytes[] = {0x00, 0x9a, 0xff, 0x10};
    static const char *const wrong[] = {"",         "009aff1",  "009aff100",
                                        "009AFF10", "009aff1g", "009aff1 "};
    char text[2 * sizeof(bytes) + 1];
    uint8_t back[sizeof(bytes)];
    hex_write(bytes, sizeof(bytes), text);
    assert_string_equal(text, "009aff10");
    assert_true(hex_read(text, back, sizeof(back)));
    assert_memory_equal(back, bytes, sizeof(bytes));
    for (size_t i = 0; i < ARRAY_LEN(wrong); i++)
        assert_false(hex_read(wrong[i], back, sizeof(back)));
}

static void sha256_equals_the_standard(void **state)
{
    (void)state;
    static const uint8_t empty[4] = {0xe3, 0xb0, 0xc4, 0x42}, abc[4] = {0xba, 0x78, 0x16, 0xbf};
    uint8_t digest[32];
    assert_int_equal(sha256(NULL, 0, digest, NULL), GRAFT_OK);
    assert_memory_equal(digest, empty, 4);
    assert_int_equal(sha256("abc", 3, digest, NULL), GRAFT_OK);
    assert_memory_equal(digest, abc, 4);
    assert_int_equal(digest[31], 0xad);
}

static void every_half_survives_the_way_to_float_and_back(void **state)
{
    (void)state;
    for (uint32_t h = 0; h < 0x10000; h++) {
        float f = f16_to_f32((uint16_t)h);
        int exponent = (int)(h >> 10 & 31), mantissa = (int)(h & 1023);
        if (exponent == 31 && mantissa) {
            assert_true(isnan(f));
            assert_true((f32_to_f16(f) & 0x7FFF) > 0x7C00);
            continue;
        }
        double value = exponent == 31 ? (double)INFINITY
                       : exponent     ? ldexp(1024 + mantissa, exponent - 25)
                                      : ldexp(mantissa, -24);
        assert_true((double)f == (h & 0x8000 ? -value : value));
        assert_int_equal(f32_to_f16(f), h);
    }
}

/* The nearest half by search over all of them, ties to the even one. */
static uint16_t nearest_half(double x)
{
    uint16_t best = 0;
    double best_distance = INFINITY;
    for (uint16_t h = 0; h < 0x7C00; h++) {
        double distance = fabs((double)f16_to_f32(h) - x);
        if (distance < best_distance || (distance == best_distance && !(h & 1))) {
            best = h;
            best_distance = distance;
        }
    }
    return best;
}

static void floats_round_to_the_nearest_half_ties_to_even(void **state)
{
    (void)state;
    struct rng rng;
    rng_init(&rng, 5, 0);
    for (int i = 0; i < 300; i++) {
        float x = (float)ldexp(1 + rng_uniform(&rng), (int)(rng_u32(&rng) % 40) - 26);
        if (x < 65504)
            assert_int_equal(f32_to_f16(x), nearest_half((double)x));
    }
    for (uint16_t h = 0; h < 0x7BFF; h = (uint16_t)(h + 13)) { /* exactly between two */
        double middle = ((double)f16_to_f32(h) + (double)f16_to_f32((uint16_t)(h + 1))) / 2;
        assert_int_equal(f32_to_f16((float)middle), h & 1 ? h + 1 : h);
    }
    assert_int_equal(f32_to_f16(65519.f), 0x7BFF);
    assert_int_equal(f32_to_f16(65520.f), 0x7C00);
    assert_int_equal(f32_to_f16(-1e30f), 0xFC00);
    assert_int_equal(f32_to_f16(-0.f), 0x8000);
    assert_int_equal(f32_to_f16(1e-30f), 0);
}

static void floats_round_to_the_nearest_bfloat(void **state)
{
    (void)state;
    for (uint32_t b = 0; b < 0x10000; b++) {
        float f = bf16_to_f32((uint16_t)b);
        if (isnan(f))
            assert_true(isnan(bf16_to_f32(f32_to_bf16(f))));
        else
            assert_int_equal(f32_to_bf16(f), b);
    }
    assert_int_equal(f32_to_bf16(1.00390625f), 0x3F80); /* tie, 1.0 is even */
    assert_int_equal(f32_to_bf16(1.01171875f), 0x3F82); /* tie, up to even */
    assert_int_equal(f32_to_bf16(1.0040f), 0x3F81);
    assert_int_equal(f32_to_bf16(3.4e38f), 0x7F80);
}

static void decimals_are_read_whole_or_not_at_all(void **state)
{
    (void)state;
    static const struct {
        const char *text;
        double value;
    } good[] = {{"0", 0},        {"-1.50", -1.5},  {"+.5", 0.5}, {"3.", 3},
                {"1e-4", 1e-4},  {"2E+3", 2000.0}, {"0.1", 0.1}, {"123456789.125", 123456789.125},
                {"1e308", 1e308}};
    static const char *const bad[] = {"",    ".",   "-",   "1,5",   "1e", "e5", "1.2.3",
                                      "0x1", "nan", "inf", "1e309", "1 ", " 1"};
    for (size_t i = 0; i < ARRAY_LEN(good); i++) {
        double x = -7;
        assert_true(decimal_parse(good[i].text, &x));
        assert_true(x == good[i].value);
    }
    for (size_t i = 0; i < ARRAY_LEN(bad); i++) {
        double x = -7;
        assert_false(decimal_parse(bad[i], &x));
        assert_true(x == -7);
    }
}

static void decimals_come_back_as_they_were(void **state)
{
    (void)state;
    static const double values[] = {0, 1, -2.5, 2e-4, 1.0 / 3, 6.02214076e23, 5e-324, 0.1 + 0.2};
    char text[DECIMAL_SIZE];
    for (size_t i = 0; i < ARRAY_LEN(values); i++) {
        double x;
        decimal_print(values[i], text);
        assert_true(decimal_parse(text, &x));
        assert_true(x == values[i]);
    }
    decimal_print(2e-4, text);
    assert_string_equal(text, "0.0002");
}

/* Where the system has one whose point is a comma. */
static void decimals_have_the_same_point_in_every_locale(void **state)
{
    static const char *const names[] = {"de_DE.UTF-8", "fr_FR.UTF-8", "de_DE"};
    locale_t comma = (locale_t)0;
    for (size_t i = 0; i < ARRAY_LEN(names) && !comma; i++)
        comma = newlocale(LC_ALL_MASK, names[i], (locale_t)0);
    if (!comma)
        skip();
    locale_t before = uselocale(comma);
    decimals_are_read_whole_or_not_at_all(state);
    decimals_come_back_as_they_were(state);
    uselocale(before);
    freelocale(comma);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(random_blocks_equal_the_published_vectors),
        cmocka_unit_test(a_generator_walks_the_blocks_of_its_stream),
        cmocka_unit_test(uniform_draws_fill_the_unit_interval),
        cmocka_unit_test(hashes_depend_on_every_byte_the_length_and_the_seed),
        cmocka_unit_test(sha256_equals_the_standard),
        cmocka_unit_test(hex_is_written_and_read_back_and_nothing_else_is),
        cmocka_unit_test(every_half_survives_the_way_to_float_and_back),
        cmocka_unit_test(floats_round_to_the_nearest_half_ties_to_even),
        cmocka_unit_test(floats_round_to_the_nearest_bfloat),
        cmocka_unit_test(decimals_are_read_whole_or_not_at_all),
        cmocka_unit_test(decimals_come_back_as_they_were),
        cmocka_unit_test(decimals_have_the_same_point_in_every_locale),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
