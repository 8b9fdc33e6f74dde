/* check.c: the kernel check. Without arguments it runs every test, with names those groups; `--tiers` says which tiers it can
 * run here, and `--bench [--threads N] [--tier T] [TYPE | attention | training]` times them (check_bench.c).
 */
#include "kernels/check.h"

#include <math.h>
#include <stdio.h>

static void tiers_are_found_by_index_and_by_name(void **state)
{
    (void)state;
    const struct kernels *last = NULL;
    int n = 0;
    for (; kernels_tier(n); n++) {
        last = kernels_tier(n);
        assert_ptr_equal(kernels_find(last->tier), last);
        assert_true(kernels_is_tier_name(last->tier));
    }
    assert_true(n >= 1);
    assert_string_equal(kernels_tier(0)->tier, "scalar");
    assert_ptr_equal(kernels_find(NULL), last);
    assert_null(kernels_tier(-1));
    assert_null(kernels_find("mmx"));
    assert_false(kernels_is_tier_name("mmx"));
    assert_true(kernels_is_tier_name("avx2"));
    assert_non_null(kernels_processor());
}

static void every_tier_has_every_entry(void **state)
{
    (void)state;
    FOR_EACH_TIER(k)
    for (int type = 0; type < GRAFT_TYPE_COUNT; type++) {
        assert_int_equal(k->dequantize[type] != NULL, kernels_have_type(type));
        assert_int_equal(k->linear_decode[type] != NULL, kernels_have_type(type));
    }
}

static void formats_and_sizes_are_as_documented(void **state)
{
    (void)state;
    assert_int_equal(act_format_for(GRAFT_TYPE_Q4_K, ROLE_DECODE), ACT_Q8K);
    assert_int_equal(act_format_for(GRAFT_TYPE_MLX4, ROLE_DECODE), ACT_Q8);
    assert_int_equal(act_format_for(GRAFT_TYPE_BF16, ROLE_DECODE), ACT_F32);
    assert_int_equal(act_format_for(GRAFT_TYPE_Q4_K, ROLE_PREFILL), ACT_F32);
    assert_int_equal(sizeof(struct act_q8), 40);
    assert_int_equal(sizeof(struct act_q8k), 292);
    assert_int_equal(act_row_bytes(ACT_Q8, 33), 80);
    assert_int_equal(act_row_bytes(ACT_Q8K, 512), 584);
    assert_int_equal(act_row_bytes(ACT_F32, 5), 20);
    assert_int_equal(kv_head_bytes(KV_F32, 20), 80);
    assert_int_equal(kv_head_bytes(KV_F16, 20), 40);
    assert_int_equal(kv_head_bytes(KV_Q8, 40), 68);
    assert_false(kernels_have_type(GRAFT_TYPE_I32));
}

/* Those of aarch64 differ from the scalar tier alone, see check_linear.c. */
static void a_digest_tells_a_tier_by_its_bits(void **state)
{
    (void)state;
    uint8_t seen[16][32], again[32];
    int n = 0;
    FOR_EACH_TIER(k)
    {
        assert_int_equal(kernels_digest(k, NULL, seen[n], NULL), GRAFT_OK);
        assert_int_equal(kernels_digest(k, NULL, again, NULL), GRAFT_OK);
        assert_memory_equal(again, seen[n], sizeof again);
        for (int i = 0; i < n; i++) {
#if defined(__aarch64__)
            assert_true((memcmp(seen[i], seen[n], sizeof again) == 0) == (i > 0));
#else
            assert_memory_not_equal(seen[i], seen[n], sizeof again);
#endif
        }
        n++;
    }
}

/* Of the scalar tier one entry is off in a last bit, or is that of another tier. */
static void (*honest_rope)(float *x, const float *cos, const float *sin, int d_head);
static void rope_off_by_a_bit(float *x, const float *cos, const float *sin, int d_head)
{
    honest_rope(x, cos, sin, d_head);
    x[d_head - 1] = nextafterf(x[d_head - 1], 2);
}

static void a_digest_sees_one_bit_of_one_entry(void **state)
{
    (void)state;
    const struct kernels *honest = kernels_find("scalar"), *fast = kernels_find(NULL);
    struct kernels k = *honest;
    uint8_t wanted[32], got[32];
    assert_int_equal(kernels_digest(honest, NULL, wanted, NULL), GRAFT_OK);
    honest_rope = honest->rope;
    k.rope = rope_off_by_a_bit;
    assert_int_equal(kernels_digest(&k, NULL, got, NULL), GRAFT_OK);
    assert_memory_not_equal(got, wanted, sizeof got);
    for (int type = 0; type < GRAFT_TYPE_COUNT && fast != honest; type++) {
        if (!kernels_have_type(type))
            continue;
        k = *honest;
        k.linear_decode[type] = fast->linear_decode[type];
        assert_int_equal(kernels_digest(&k, NULL, got, NULL), GRAFT_OK);
        if (memcmp(got, wanted, sizeof got) == 0)
            fail_msg("decode of %s", type_traits(type)->name);
    }
}

const struct CMUnitTest check_tier_tests[] = {
    cmocka_unit_test(tiers_are_found_by_index_and_by_name),
    cmocka_unit_test(every_tier_has_every_entry),
    cmocka_unit_test(formats_and_sizes_are_as_documented),
    cmocka_unit_test(a_digest_tells_a_tier_by_its_bits),
    cmocka_unit_test(a_digest_sees_one_bit_of_one_entry),
    {0},
};

static int run(const char *name, const struct CMUnitTest *tests)
{
    size_t n = 0;
    while (tests[n].test_func)
        n++;
    check_reseed();
    return _cmocka_run_group_tests(name, tests, n, NULL, NULL);
}

/* The tiers that run here, and those that graft has for some processor and that do not. */
static void print_tiers(void)
{
    static const char *const others[] = {"avx2", "avx512", "avx512bf16", "neon", "dotprod", "i8mm"};
#if defined(GRAFT_IN_EMULATOR)
    const char *how = "in an emulator", *emulated = "";
#else
    const char *how = "natively", *emulated = "; on an emulation: amx";
#endif
    printf("processor: %s\nkernels that run %s:", kernels_processor(), how);
    FOR_EACH_TIER(k)
    printf(" %s", k->tier);
    printf("%s; not here:", emulated);
    for (size_t i = 0; i < ARRAY_LEN(others); i++)
        if (kernels_is_tier_name(others[i]) && !kernels_find(others[i]))
            printf(" %s", others[i]);
    printf("%s\n", kernels_find("amx") ? "" : " amx");
    fflush(stdout);
}

/* The groups that are named, all of them when none is. Returns how many tests failed. */
static int run_groups(int argc, char **argv)
{
    static const struct {
        const char *name;
        const struct CMUnitTest *tests;
    } groups[] = {{"tiers", check_tier_tests},
                  {"dequantize", check_dequantize_tests},
                  {"ops", check_ops_tests},
                  {"linear", check_linear_tests},
                  {"transposed", check_transposed_tests},
                  {"split", check_split_tests},
                  {"bf16", check_bf16_tests},
                  {"threads", check_threads_tests},
                  {"lowrank", check_lowrank_tests},
                  {"attention", check_attention_tests},
                  {"training", check_training_tests},
                  {"self-attention", check_self_attention_tests},
                  {"quantize", check_quantize_tests}};
    int failed = 0, n_run = 0;
    for (size_t g = 0; g < ARRAY_LEN(groups); g++) {
        bool named = argc < 2;
        for (int i = 1; i < argc; i++)
            named = named || strcmp(argv[i], groups[g].name) == 0;
        if (!named)
            continue;
        failed += run(groups[g].name, groups[g].tests);
        n_run++;
    }
    return failed || (argc > 1 && n_run != argc - 1);
}

int main(int argc, char **argv)
{
    int threads = 2;
    const char *filter = "", *tier = NULL;
    bool bench = false, tiers = false;
    for (int i = 1; i < argc; i++) {
        if (strcmp(argv[i], "--bench") == 0)
            bench = true;
        else if (strcmp(argv[i], "--tiers") == 0)
            tiers = true;
        else if (strcmp(argv[i], "--threads") == 0 && i + 1 < argc)
            threads = (int)strtol(argv[++i], NULL, 10);
        else if (strcmp(argv[i], "--tier") == 0 && i + 1 < argc)
            tier = argv[++i];
        else
            filter = argv[i];
    }
    if (bench)
        return check_bench(threads < 1 ? 1 : threads > 64 ? 64 : threads, tier, filter);
    print_tiers();
    if (tiers)
        return 0;
    return run_groups(argc, argv);
}
