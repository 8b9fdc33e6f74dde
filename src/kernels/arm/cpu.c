/* cpu.c: what this aarch64 processor can run, and what it is called. The kernel of Linux tells both:
 * the first in the auxiliary vector, the second by letting programs read the register MIDR_EL1 (it
 * says so with HWCAP_CPUID), which names the maker and the part by numbers.
 */
#include "kernels/kernels_internal.h"

#include <stdio.h>
#include <sys/auxv.h>

bool cpu_runs_neon(void)
{
    return (getauxval(AT_HWCAP) & HWCAP_ASIMD) != 0;
}

/* Compilers offer SDOT from ARMv8.2 on, so its file may hold what ARMv8.1 brought. */
bool cpu_runs_dotprod(void)
{
    const unsigned long needed = HWCAP_ASIMDDP | HWCAP_ATOMICS | HWCAP_ASIMDRDM;
    return cpu_runs_neon() && (getauxval(AT_HWCAP) & needed) == needed;
}

bool cpu_runs_i8mm(void)
{
    return cpu_runs_dotprod() && (getauxval(AT_HWCAP2) & HWCAP2_I8MM);
}

struct part {
    unsigned maker, part;
    const char *name;
};

static const struct part parts[] = {
    {0x41, 0xd03, "Arm Cortex-A53"},   {0x41, 0xd05, "Arm Cortex-A55"},
    {0x41, 0xd07, "Arm Cortex-A57"},   {0x41, 0xd08, "Arm Cortex-A72"},
    {0x41, 0xd09, "Arm Cortex-A73"},   {0x41, 0xd0a, "Arm Cortex-A75"},
    {0x41, 0xd0b, "Arm Cortex-A76"},   {0x41, 0xd0c, "Arm Neoverse N1"},
    {0x41, 0xd0d, "Arm Cortex-A77"},   {0x41, 0xd40, "Arm Neoverse V1"},
    {0x41, 0xd41, "Arm Cortex-A78"},   {0x41, 0xd44, "Arm Cortex-X1"},
    {0x41, 0xd46, "Arm Cortex-A510"},  {0x41, 0xd47, "Arm Cortex-A710"},
    {0x41, 0xd48, "Arm Cortex-X2"},    {0x41, 0xd49, "Arm Neoverse N2"},
    {0x41, 0xd4d, "Arm Cortex-A715"},  {0x41, 0xd4e, "Arm Cortex-X3"},
    {0x41, 0xd4f, "Arm Neoverse V2"},  {0x46, 0x001, "Fujitsu A64FX"},
    {0x48, 0xd01, "HiSilicon TSV110"}, {0xc0, 0xac3, "Ampere-1"},
};

void cpu_brand(char out[49])
{
    uint64_t midr;
    out[0] = 0;
    if (!(getauxval(AT_HWCAP) & HWCAP_CPUID))
        return;
    __asm__("mrs %0, midr_el1" : "=r"(midr));
    unsigned maker = midr >> 24 & 0xff, part = midr >> 4 & 0xfff;
    for (size_t i = 0; i < ARRAY_LEN(parts); i++)
        if (parts[i].maker == maker && parts[i].part == part) {
            snprintf(out, 49, "%s", parts[i].name);
            return;
        }
    snprintf(out, 49, "aarch64, maker 0x%02x, part 0x%03x", maker, part);
}
