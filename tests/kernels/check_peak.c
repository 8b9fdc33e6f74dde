/* check_peak.c: what the processor's units do at most, for the benchmark of the kernel check: reading
 * memory, and multiply-adds on registers. */
#include "kernels/check.h"

#if defined(__x86_64__)
#include "kernels/x86/amx_tiles.h"

#include <immintrin.h>
#endif

#if defined(__x86_64__)
#define WIDE __attribute__((target("avx2,fma")))
#if defined(__clang__)
#define TEN_TIMES(j) for (int j = 0; j < 10; j++)
#else
#define TEN_TIMES(j) _Pragma("GCC unroll 10") for (int j = 0; j < 10; j++)
#endif

/* As four streams far apart, which gets more of the memory than one: a processor looks ahead in each. */
WIDE uint64_t check_read_memory(const uint8_t *p, size_t bytes)
{
    const size_t part = bytes / 4 / 64 * 64;
    __m256i sum[4] = {_mm256_setzero_si256()};
    for (size_t i = 0; i < part; i += 64)
        for (size_t j = 0; j < 4; j++) {
            const uint8_t *at = p + j * part + i;
            __m256i a = _mm256_loadu_si256((const __m256i *)at);
            __m256i b = _mm256_loadu_si256((const __m256i *)(at + 32));
            sum[j] = _mm256_xor_si256(sum[j], _mm256_xor_si256(a, b));
        }
    sum[0] = _mm256_xor_si256(_mm256_xor_si256(sum[0], sum[1]), _mm256_xor_si256(sum[2], sum[3]));
    return (uint64_t)_mm256_extract_epi64(sum[0], 0);
}

/* Returns the operations done. Ten chains: more than latency times throughput of any processor. */
WIDE static double multiply_add(int64_t rounds, float *out)
{
    __m256 sum[10], a = _mm256_set1_ps(0.999f), b = _mm256_set1_ps(1e-3f);
    for (int j = 0; j < 10; j++)
        sum[j] = _mm256_set1_ps((float)j);
    for (int64_t i = 0; i < rounds; i++)
        TEN_TIMES(j) sum[j] = _mm256_fmadd_ps(sum[j], a, b);
    for (int j = 1; j < 10; j++)
        sum[0] = _mm256_add_ps(sum[0], sum[j]);
    _mm256_storeu_ps(out, sum[0]);
    return (double)rounds * 10 * 8 * 2;
}
/* The same with vectors of 16, and with pairs of bf16. */
__attribute__((target("avx512f"))) static double multiply_add_512(int64_t rounds, float *out)
{
    __m512 sum[10], a = _mm512_set1_ps(0.999f), b = _mm512_set1_ps(1e-3f);
    for (int j = 0; j < 10; j++)
        sum[j] = _mm512_set1_ps((float)j);
    for (int64_t i = 0; i < rounds; i++)
        TEN_TIMES(j) sum[j] = _mm512_fmadd_ps(sum[j], a, b);
    for (int j = 1; j < 10; j++)
        sum[0] = _mm512_add_ps(sum[0], sum[j]);
    _mm256_storeu_ps(out, _mm512_castps512_ps256(sum[0]));
    return (double)rounds * 10 * 16 * 2;
}

__attribute__((target("avx512f,avx512bf16"))) static double multiply_pairs(int64_t rounds,
                                                                           float *out)
{
    __m512 sum[10];
    __m512bh a = (__m512bh)_mm512_set1_epi32(0x3F803F80), b = a;
    for (int j = 0; j < 10; j++)
        sum[j] = _mm512_set1_ps((float)j);
    for (int64_t i = 0; i < rounds; i++)
        TEN_TIMES(j) sum[j] = _mm512_dpbf16_ps(sum[j], a, b);
    for (int j = 1; j < 10; j++)
        sum[0] = _mm512_add_ps(sum[0], sum[j]);
    _mm256_storeu_ps(out, _mm512_castps512_ps256(sum[0]));
    return (double)rounds * 10 * 16 * 4;
}

/* Four tiles of sums, as the product has them. */
static double multiply_tiles(int64_t rounds, float *out)
{
    static const float zeros[16 * 16];
    tiles_configure();
    TILE_ZERO(0);
    TILE_ZERO(1);
    TILE_ZERO(2);
    TILE_ZERO(3);
    TILE_LOAD(4, zeros, 64);
    TILE_LOAD(5, zeros, 64);
    for (int64_t i = 0; i < rounds; i++) {
        TILE_DOT(0, 4, 5);
        TILE_DOT(1, 4, 5);
        TILE_DOT(2, 4, 5);
        TILE_DOT(3, 4, 5);
    }
    tiles_release();
    memcpy(out, zeros, 8 * sizeof *out);
    return (double)rounds * 4 * 16 * 16 * 32 * 2;
}
#else
uint64_t check_read_memory(const uint8_t *p, size_t bytes)
{
    uint64_t sum = 0, v;
    for (size_t i = 0; i + sizeof v <= bytes; i += sizeof v) {
        memcpy(&v, p + i, sizeof v);
        sum ^= v;
    }
    return sum;
}

static double multiply_add(int64_t rounds, float *out)
{
    float sum[16];
    for (int j = 0; j < 16; j++)
        sum[j] = (float)j;
    for (int64_t i = 0; i < rounds; i++)
        for (int j = 0; j < 16; j++)
            sum[j] = sum[j] * 0.999f + 1e-3f;
    memcpy(out, sum, 8 * sizeof *out);
    return (double)rounds * 16 * 2;
}
#endif

/* What the units of a tier are called, and how to run them. */
struct peak {
    const char *tier;
    double (*floats)(int64_t rounds, float *out);
    double (*matrix)(int64_t rounds, float *out); /* NULL: the same */
};

static const struct peak peaks[] = {
#if defined(__x86_64__)
    {"avx2", multiply_add, NULL},
    {"avx512", multiply_add_512, NULL},
    {"avx512bf16", multiply_add_512, multiply_pairs},
    {"amx", multiply_add_512, multiply_tiles},
#endif
    {"scalar", multiply_add, NULL},
};

double check_multiply(const char *tier, bool matrix, int64_t rounds, float *out)
{
    size_t i = 0;
    while (i + 1 < ARRAY_LEN(peaks) && strcmp(peaks[i].tier, tier) != 0)
        i++;
    return (matrix && peaks[i].matrix ? peaks[i].matrix : peaks[i].floats)(rounds, out);
}
