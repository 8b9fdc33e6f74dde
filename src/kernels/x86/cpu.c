/* cpu.c: what this x86 processor can run, and what it calls itself. Compiled for the baseline
 * processor, since it decides whether anything else may run.
 */
#include "kernels/kernels_internal.h"

#include <cpuid.h>
#include <errno.h>
#include <sys/syscall.h>
#include <unistd.h>

/* The register states that the system saves: bit 1 SSE, bit 2 AVX, bits 5 to 7 the masks, upper
 * halves and further registers of AVX-512, bits 17 and 18 configuration and data of tiles. Needs
 * OSXSAVE. */
enum { STATES_AVX = 0x6, STATES_AVX512 = 0xE6, STATES_AMX = 0x600E6 };

static uint64_t saved_states(void)
{
    uint32_t low, high;
    __asm__ volatile("xgetbv" : "=a"(low), "=d"(high) : "c"(0));
    return low | (uint64_t)high << 32;
}

bool cpu_runs_avx2(void)
{
    unsigned a, b, c, d;
    const unsigned needed = bit_FMA | bit_OSXSAVE | bit_AVX | bit_F16C;
    if (!__get_cpuid(1, &a, &b, &c, &d) || (c & needed) != needed)
        return false;
    if ((saved_states() & STATES_AVX) != STATES_AVX)
        return false;
    return __get_cpuid_count(7, 0, &a, &b, &c, &d) && (b & bit_AVX2);
}

bool cpu_runs_avx512(void)
{
    unsigned a, b, c, d;
    const unsigned needed = bit_AVX512F | bit_AVX512BW | bit_AVX512DQ | bit_AVX512VL;
    if (!cpu_runs_avx2() || (saved_states() & STATES_AVX512) != STATES_AVX512)
        return false;
    return __get_cpuid_count(7, 0, &a, &b, &c, &d) && (b & needed) == needed &&
           (c & bit_AVX512VNNI);
}

bool cpu_runs_avx512bf16(void)
{
    unsigned a, b, c, d;
    return cpu_runs_avx512() && __get_cpuid_count(7, 1, &a, &b, &c, &d) && (a & bit_AVX512BF16);
}

/* Bits of CPUID leaf 7; gcc's and clang's names for them differ. */
enum { HAS_AMX_BF16 = 1 << 22, HAS_AMX_TILE = 1 << 24 };

static bool has_amx(void)
{
    unsigned a, b, c, d;
    const unsigned needed = HAS_AMX_BF16 | HAS_AMX_TILE;
    if (!cpu_runs_avx512bf16() || !__get_cpuid_count(7, 0, &a, &b, &c, &d) ||
        (d & needed) != needed)
        return false;
    /* Palette 1: eight tiles of 16 rows of 64 bytes. */
    return __get_cpuid_count(0x1D, 1, &a, &b, &c, &d) && (a >> 16) == 1024 && (b & 0xFFFF) == 64 &&
           (b >> 16) >= 8 && (c & 0xFFFF) == 16;
}

/* Linux saves tiles only for a process that has asked; every answer after the first is the same. */
const char *cpu_amx_refusal(void)
{
    enum { REQUEST_PERMISSION = 0x1023, TILE_DATA = 18 };
    if (!has_amx())
        return NULL;
    if ((saved_states() & STATES_AMX) != STATES_AMX)
        return "the system does not keep the registers of AMX";
    if (syscall(SYS_arch_prctl, REQUEST_PERMISSION, TILE_DATA) == 0)
        return NULL;
    return errno == ENOSPC ? "the alternate signal stack of a thread is too small for AMX"
                           : "the system does not permit AMX to this process";
}

bool cpu_runs_amx(void)
{
    return has_amx() && (saved_states() & STATES_AMX) == STATES_AMX;
}

void cpu_brand(char out[49])
{
    unsigned words[12] = {0}, highest = __get_cpuid_max(0x80000000, NULL);
    for (unsigned i = 0; highest >= 0x80000004 && i < 3; i++)
        __get_cpuid(0x80000002 + i, &words[4 * i], &words[4 * i + 1], &words[4 * i + 2],
                    &words[4 * i + 3]);
    char text[49] = {0};
    memcpy(text, words, sizeof words);
    const char *start = text + strspn(text, " "); /* some are padded in front */
    size_t length = strlen(start);
    while (length && start[length - 1] == ' ')
        length--;
    memcpy(out, start, length);
    out[length] = 0;
}
