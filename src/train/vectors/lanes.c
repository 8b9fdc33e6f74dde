/* lanes.c: the two loops that vectors spend their time in, written so that a compiler makes vectors of them without being
 * allowed to change the order of additions.
 */
#include "train/vectors/vectors_internal.h"

enum { LANES = 16 };

float lanes_dot(const float *x, const float *y, int64_t n)
{
    float sums[LANES] = {0}, rest = 0;
    const int64_t whole = n - n % LANES;
    for (int64_t i = 0; i < whole; i += LANES)
        for (int k = 0; k < LANES; k++)
            sums[k] += x[i + k] * y[i + k];
    for (int64_t i = whole; i < n; i++)
        rest += x[i] * y[i];
    for (int half = LANES / 2; half; half /= 2)
        for (int k = 0; k < half; k++)
            sums[k] += sums[k + half];
    return sums[0] + rest;
}

void lanes_add(float *restrict y, float k, const float *restrict x, int64_t n)
{
    const int64_t whole = n - n % LANES;
    for (int64_t i = 0; i < whole; i += LANES)
        for (int j = 0; j < LANES; j++)
            y[i + j] += k * x[i + j];
    for (int64_t i = whole; i < n; i++)
        y[i] += k * x[i];
}
