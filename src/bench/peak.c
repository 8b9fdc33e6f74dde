/* peak.c: loops that do nothing but read memory, or nothing but multiply and add, as fast as the
 * processor can.
 *
 * They are the yardsticks, not part of graft's arithmetic: every tier is measured against the best
 * that its own instructions could do. Instruction sets are switched on by function, and only functions
 * of the tier in use are called. Independent chains hide the latency of the additions.
 */
#include "bench/bench_internal.h"

#if defined(__x86_64__)
#include <immintrin.h>
#elif defined(__aarch64__)
#include <arm_neon.h>
#endif

/* The chains have to be in registers: gcc unrolls such loops when told to, clang without. */
#if defined(__clang__)
#define UNROLL(n)
#else
#define PRAGMA_(x) _Pragma(#x)
#define UNROLL(n) PRAGMA_(GCC unroll n)
#endif

static atomic_uint sink; /* results go here, so that the work cannot be left out */

/* ---- any processor ------------------------------------------------------------------------ */

static double plain_f32(int64_t rounds)
{
    enum { CHAINS = 16 };
    float sum[CHAINS];
    for (int j = 0; j < CHAINS; j++)
        sum[j] = (float)j;
    for (int64_t i = 0; i < rounds; i++)
        for (int j = 0; j < CHAINS; j++)
            sum[j] = sum[j] * 0.999f + 1e-3f;
    for (int j = 1; j < CHAINS; j++)
        sum[0] += sum[j];
    sink = (unsigned)sum[0];
    return (double)rounds * CHAINS * 2;
}

static uint64_t plain_read(const uint8_t *p, size_t bytes)
{
    uint64_t sum[4] = {0}, v[4];
    for (size_t i = 0; i + sizeof v <= bytes; i += sizeof v) {
        memcpy(v, p + i, sizeof v);
        for (int j = 0; j < 4; j++)
            sum[j] ^= v[j];
    }
    return sum[0] ^ sum[1] ^ sum[2] ^ sum[3];
}

/* ---- x86-64 ------------------------------------------------------------------------------- */

#if defined(__x86_64__)

enum { CHAINS = 12, AHEAD = 2048 };

__attribute__((target("avx2"))) static uint64_t avx2_read(const uint8_t *p, size_t bytes)
{
    __m256i sum[4] = {_mm256_setzero_si256(), _mm256_setzero_si256(), _mm256_setzero_si256(),
                      _mm256_setzero_si256()};
    for (size_t i = 0; i + 256 <= bytes; i += 256) {
        UNROLL(4)
        for (int j = 0; j < 4; j++) {
            const uint8_t *at = p + i + 64 * j;
            _mm_prefetch((const char *)at + AHEAD, _MM_HINT_T1);
            __m256i a = _mm256_loadu_si256((const __m256i *)(const void *)at);
            __m256i b = _mm256_loadu_si256((const __m256i *)(const void *)(at + 32));
            sum[j] = _mm256_xor_si256(sum[j], _mm256_xor_si256(a, b));
        }
    }
    sum[0] = _mm256_xor_si256(_mm256_xor_si256(sum[0], sum[1]), _mm256_xor_si256(sum[2], sum[3]));
    return (uint64_t)_mm256_extract_epi64(sum[0], 0);
}

__attribute__((target("avx2,fma"))) static double avx2_f32(int64_t rounds)
{
    __m256 sum[CHAINS], a = _mm256_set1_ps(0.999f), b = _mm256_set1_ps(1e-3f);
    UNROLL(12)
    for (int j = 0; j < CHAINS; j++)
        sum[j] = _mm256_set1_ps((float)j);
    for (int64_t i = 0; i < rounds; i++) {
        UNROLL(12)
        for (int j = 0; j < CHAINS; j++)
            sum[j] = _mm256_fmadd_ps(sum[j], a, b);
    }
    UNROLL(12)
    for (int j = 1; j < CHAINS; j++)
        sum[0] = _mm256_add_ps(sum[0], sum[j]);
    sink = (unsigned)_mm256_cvtss_f32(sum[0]);
    return (double)rounds * CHAINS * 8 * 2;
}

__attribute__((target("avx512f"))) static double avx512_f32(int64_t rounds)
{
    __m512 sum[CHAINS], a = _mm512_set1_ps(0.999f), b = _mm512_set1_ps(1e-3f);
    UNROLL(12)
    for (int j = 0; j < CHAINS; j++)
        sum[j] = _mm512_set1_ps((float)j);
    for (int64_t i = 0; i < rounds; i++) {
        UNROLL(12)
        for (int j = 0; j < CHAINS; j++)
            sum[j] = _mm512_fmadd_ps(sum[j], a, b);
    }
    UNROLL(12)
    for (int j = 1; j < CHAINS; j++)
        sum[0] = _mm512_add_ps(sum[0], sum[j]);
    sink = (unsigned)_mm512_cvtss_f32(sum[0]);
    return (double)rounds * CHAINS * 16 * 2;
}

__attribute__((target("avx512f,avx512bf16"))) static double avx512_bf16(int64_t rounds)
{
    __m512 sum[CHAINS], small = _mm512_set1_ps(1e-3f);
    __m512bh a = _mm512_cvtne2ps_pbh(small, small);
    UNROLL(12)
    for (int j = 0; j < CHAINS; j++)
        sum[j] = _mm512_set1_ps((float)j);
    for (int64_t i = 0; i < rounds; i++) {
        UNROLL(12)
        for (int j = 0; j < CHAINS; j++)
            sum[j] = _mm512_dpbf16_ps(sum[j], a, a);
    }
    UNROLL(12)
    for (int j = 1; j < CHAINS; j++)
        sum[0] = _mm512_add_ps(sum[0], sum[j]);
    sink = (unsigned)_mm512_cvtss_f32(sum[0]);
    return (double)rounds * CHAINS * 32 * 2;
}

__attribute__((target("avx512f,avx512vnni"))) static double avx512_int8(int64_t rounds)
{
    __m512i sum[CHAINS], a = _mm512_set1_epi8(1);
    UNROLL(12)
    for (int j = 0; j < CHAINS; j++)
        sum[j] = _mm512_set1_epi32(j);
    for (int64_t i = 0; i < rounds; i++) {
        UNROLL(12)
        for (int j = 0; j < CHAINS; j++)
            sum[j] = _mm512_dpbusd_epi32(sum[j], a, a);
    }
    UNROLL(12)
    for (int j = 1; j < CHAINS; j++)
        sum[0] = _mm512_add_epi32(sum[0], sum[j]);
    sink = (unsigned)_mm_cvtsi128_si32(_mm512_castsi512_si128(sum[0]));
    return (double)rounds * CHAINS * 64 * 2;
}

#define AMX __attribute__((target("amx-tile,amx-bf16,amx-int8")))

/* Eight tiles of 16 rows of 64 bytes: the tier has asked the system for them. */
AMX static void tiles_begin(void)
{
    _Alignas(64) struct {
        uint8_t palette, start_row, reserved[14];
        uint16_t bytes[16];
        uint8_t rows[16];
    } config = {.palette = 1};
    for (int i = 0; i < 8; i++) {
        config.bytes[i] = 64;
        config.rows[i] = 16;
    }
    _tile_loadconfig(&config);
    _tile_zero(0);
    _tile_zero(1);
    _tile_zero(2);
    _tile_zero(3);
    _tile_zero(4);
    _tile_zero(5);
    _tile_zero(6);
    _tile_zero(7);
}

AMX static double amx_bf16(int64_t rounds)
{
    tiles_begin();
    for (int64_t i = 0; i < rounds; i++) {
        _tile_dpbf16ps(0, 4, 6);
        _tile_dpbf16ps(1, 4, 7);
        _tile_dpbf16ps(2, 5, 6);
        _tile_dpbf16ps(3, 5, 7);
    }
    _tile_release();
    return (double)rounds * 4 * 16 * 16 * 32 * 2;
}

AMX static double amx_int8(int64_t rounds)
{
    tiles_begin();
    for (int64_t i = 0; i < rounds; i++) {
        _tile_dpbssd(0, 4, 6);
        _tile_dpbssd(1, 4, 7);
        _tile_dpbssd(2, 5, 6);
        _tile_dpbssd(3, 5, 7);
    }
    _tile_release();
    return (double)rounds * 4 * 16 * 16 * 64 * 2;
}

/* ---- aarch64 ------------------------------------------------------------------------------ */

#elif defined(__aarch64__)

enum { CHAINS = 12 };

static double neon_f32(int64_t rounds)
{
    float32x4_t sum[CHAINS], a = vdupq_n_f32(0.999f), b = vdupq_n_f32(1e-3f);
    UNROLL(12)
    for (int j = 0; j < CHAINS; j++)
        sum[j] = vdupq_n_f32((float)j);
    for (int64_t i = 0; i < rounds; i++) {
        UNROLL(12)
        for (int j = 0; j < CHAINS; j++)
            sum[j] = vfmaq_f32(sum[j], a, b);
    }
    UNROLL(12)
    for (int j = 1; j < CHAINS; j++)
        sum[0] = vaddq_f32(sum[0], sum[j]);
    sink = (unsigned)vgetq_lane_f32(sum[0], 0);
    return (double)rounds * CHAINS * 4 * 2;
}

/* Written out: compilers disagree on how a function asks for these instructions. */
#define NEON_ROUND(op)                                                                             \
    __asm__ volatile(".arch armv8.6-a\n\t" op(0) op(1) op(2) op(3) op(4) op(5) op(6) op(7) op(16)  \
                         op(17) op(18) op(19)::                                                    \
                             : "v0", "v1", "v2", "v3", "v4", "v5", "v6", "v7", "v16", "v17",       \
                               "v18", "v19")
#define SDOT(n) "sdot v" #n ".4s, v20.16b, v21.16b\n\t"
#define SMMLA(n) "smmla v" #n ".4s, v20.16b, v21.16b\n\t"

static double neon_dot(int64_t rounds)
{
    __asm__ volatile("movi v20.16b, #0\n\tmovi v21.16b, #0" ::: "v20", "v21");
    for (int64_t i = 0; i < rounds; i++)
        NEON_ROUND(SDOT);
    return (double)rounds * CHAINS * 16 * 2;
}

static double neon_i8mm(int64_t rounds)
{
    __asm__ volatile("movi v20.16b, #0\n\tmovi v21.16b, #0" ::: "v20", "v21");
    for (int64_t i = 0; i < rounds; i++)
        NEON_ROUND(SMMLA);
    return (double)rounds * CHAINS * 32 * 2;
}
#endif

/* ---- by tier ------------------------------------------------------------------------------ */

static const struct peak PEAKS[] = {
    {"scalar", "f32 multiply-add", "GFLOP/s", plain_f32, false},
#if defined(__x86_64__)
    {"avx2", "f32 FMA", "GFLOP/s", avx2_f32, false},
    {"avx512", "f32 FMA", "GFLOP/s", avx512_f32, false},
    {"avx512", "int8 dot products", "GOP/s", avx512_int8, false},
    {"avx512bf16", "f32 FMA", "GFLOP/s", avx512_f32, false},
    {"avx512bf16", "bf16 dot products", "GFLOP/s", avx512_bf16, true},
    {"avx512bf16", "int8 dot products", "GOP/s", avx512_int8, false},
    {"amx", "f32 FMA", "GFLOP/s", avx512_f32, false},
    {"amx", "bf16 tiles", "GFLOP/s", amx_bf16, true},
    {"amx", "int8 tiles", "GOP/s", amx_int8, false},
#elif defined(__aarch64__)
    {"neon", "f32 FMA", "GFLOP/s", neon_f32, false},
    {"dotprod", "f32 FMA", "GFLOP/s", neon_f32, false},
    {"dotprod", "int8 dot products", "GOP/s", neon_dot, false},
    {"i8mm", "f32 FMA", "GFLOP/s", neon_f32, false},
    {"i8mm", "int8 matrix products", "GOP/s", neon_i8mm, false},
#endif
};

const struct peak *peak_at(const char *tier, int i)
{
    bool known = false;
    for (size_t p = 0; p < ARRAY_LEN(PEAKS); p++) {
        bool same = !strcmp(PEAKS[p].tier, tier);
        if (same && i-- == 0)
            return &PEAKS[p];
        known = known || same;
    }
    return known || i != 0 ? NULL : &PEAKS[0]; /* a tier not listed is held to plain arithmetic */
}

uint64_t read_bytes(const uint8_t *p, size_t bytes)
{
#if defined(__x86_64__)
    if (kernels_find("avx2"))
        return avx2_read(p, bytes);
#endif
    return plain_read(p, bytes);
}
