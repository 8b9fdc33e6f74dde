/* samples.c: what is said of a number of samples: the middle, other percentiles, and how far they lie apart.
 *
 * All of it is of the samples in order, so every function sorts those it is given.
 */
#include "bench/bench.h"

#include <stdlib.h>

static int ascending(const void *a, const void *b)
{
    double x = *(const double *)a, y = *(const double *)b;
    return (x > y) - (x < y);
}

double samples_median(double *values, int n)
{
    qsort(values, (size_t)n, sizeof *values, ascending);
    return n % 2 ? values[n / 2] : (values[n / 2 - 1] + values[n / 2]) / 2;
}

double samples_percentile(double *values, int n, int percent)
{
    qsort(values, (size_t)n, sizeof *values, ascending);
    return values[(n - 1) * percent / 100];
}

/* Of values in order; between two of them in proportion. */
static double quantile(const double *values, int n, double share)
{
    double at = share * (n - 1);
    int below = (int)at, above = below + 1 < n ? below + 1 : below;
    return values[below] + (at - below) * (values[above] - values[below]);
}

double samples_spread(double *values, int n)
{
    double middle = samples_median(values, n);
    double range = quantile(values, n, 0.75) - quantile(values, n, 0.25);
    return range > 0 ? range / middle : 0;
}
