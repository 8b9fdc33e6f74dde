/* time.c: the clock for durations. */
#include "base_internal.h"

#include <time.h>

double time_seconds(void)
{
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    return (double)now.tv_sec + (double)now.tv_nsec * 1e-9;
}
