/* processors.c: the processors that this process may run on, and which of them a thread keeps to.
 *
 * Numbers count within the allowed set, 0 being its first. The kernel's set may be larger than ours, and
 * it refuses to shorten it: grow and ask again.
 */
#include "base_internal.h"

#include <sched.h>
#include <unistd.h>

enum { CPUS_LEAST = 1024, CPUS_MAX = 1 << 16 };

struct cpus {
    cpu_set_t *set;
    size_t n, bytes; /* it has room for n */
};

/* Of the calling thread. False where the system does not tell. */
static bool cpus_read(struct cpus *out)
{
    for (size_t n = CPUS_LEAST; n <= CPUS_MAX; n *= 4) {
        *out = (struct cpus){CPU_ALLOC(n), n, CPU_ALLOC_SIZE(n)};
        if (!out->set)
            return false;
        if (sched_getaffinity(0, out->bytes, out->set) == 0 &&
            CPU_COUNT_S(out->bytes, out->set) > 0)
            return true;
        CPU_FREE(out->set);
    }
    return false;
}

int processors_allowed(void)
{
    struct cpus cpus;
    if (!cpus_read(&cpus)) {
        long online = sysconf(_SC_NPROCESSORS_ONLN);
        return online > 0 ? (int)online : 1;
    }
    int count = CPU_COUNT_S(cpus.bytes, cpus.set);
    CPU_FREE(cpus.set);
    return count;
}

bool processor_bind(pthread_t thread, int number)
{
    struct cpus cpus;
    if (!cpus_read(&cpus))
        return false;
    int left = number + 1;
    for (size_t cpu = 0; cpu < cpus.n; cpu++) {
        left -= CPU_ISSET_S(cpu, cpus.bytes, cpus.set) != 0;
        if (CPU_ISSET_S(cpu, cpus.bytes, cpus.set) && left != 0)
            CPU_CLR_S(cpu, cpus.bytes, cpus.set);
    }
    bool bound = left <= 0 && pthread_setaffinity_np(thread, cpus.bytes, cpus.set) == 0;
    CPU_FREE(cpus.set);
    return bound;
}
