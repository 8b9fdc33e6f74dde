/* rope.c: the angles of rotary embedding.
 *
 * pos · freq in double, its sine and cosine by our own polynomials (the C library's differ from one
 * processor to the next), rounded to float once. Accurate to 1e-16 up to a million positions.
 */
#include "model/forward_internal.h"

#include <math.h>

/* π/2 in three pieces; the first two have 33 bits, so that their products with a quadrant number of up
 * to 20 bits are exact (Cody and Waite). */
static const double HALF_PI[3] = {0x1.921fb544p+0, 0x1.0b4611a6p-34, 0x1.3198a2e037073p-69};
static const double TWO_OVER_PI = 0x1.45f306dc9c883p-1;

/* Taylor series on [-π/4, π/4]: the first term left out is below 1e-16. */
static double sine(double r)
{
    double z = r * r, sum = 0;
    for (int n = 15; n >= 3; n -= 2)
        sum = z / (n * (n - 1)) * (1 - sum);
    return r * (1 - sum);
}

static double cosine(double r)
{
    double z = r * r, sum = 0;
    for (int n = 16; n >= 2; n -= 2)
        sum = z / (n * (n - 1)) * (1 - sum);
    return 1 - sum;
}

void rope_angles(const float *freq, int n, int32_t pos, float mscale, float *cos_out,
                 float *sin_out)
{
    for (int i = 0; i < n; i++) {
        double angle = (double)pos * (double)freq[i];
        double turn = floor(angle * TWO_OVER_PI + 0.5);
        double r = ((angle - turn * HALF_PI[0]) - turn * HALF_PI[1]) - turn * HALF_PI[2];
        double s = sine(r), c = cosine(r);
        int quadrant = (int)fmod(turn, 4.0);
        double sin_angle = quadrant & 1 ? c : s, cos_angle = quadrant & 1 ? s : c;
        if (quadrant == 1 || quadrant == 2)
            cos_angle = -cos_angle;
        if (quadrant >= 2)
            sin_angle = -sin_angle;
        cos_out[i] = (float)(cos_angle * (double)mscale);
        sin_out[i] = (float)(sin_angle * (double)mscale);
    }
}
