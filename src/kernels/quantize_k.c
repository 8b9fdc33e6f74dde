/* quantize_k.c: 256 floats into the K formats, by search.
 *
 * The aim is the least squared error of what a reader gets back. Three steps: (1) for each sub-block
 * of 16 or 32 values, try a range of scales, round the values to codes, and fit the scale (and
 * offset) to those codes by least squares; (2) store the sub-block scales as small integers times
 * one scale of the block; (3) with that scale fixed, try the integers next to the rounded ones and
 * keep the best, which makes good part of what rounding the scales lost.
 */
#include "kernels/quantize_internal.h"

#include <math.h>

enum { MAX_SUB = 32 }; /* values of a sub-block: 16 or 32 */

/* Sums in lanes, so that the compiler may use vectors without changing the order. */
enum { LANES = 8 };

static float lanes_sum(const float *part)
{
    return ((part[0] + part[4]) + (part[1] + part[5])) +
           ((part[2] + part[6]) + (part[3] + part[7]));
}

static inline float clamp_round(float v, float low, float high)
{
    v = v > low ? v : low;
    v = v < high ? v : high;
    return v + 0x1.8p23f - 0x1.8p23f;
}

/* ---- symmetric: w = s · q, low ≤ q ≤ high ------------------------------------------------- */

/* Codes for the inverse scale, and the sums Σ x·q and Σ q·q. */
static inline void fit_sums(const float *x, int n, float inverse, float low, float high, float *x_q,
                            float *q_q)
{
    float part_xq[LANES] = {0}, part_qq[LANES] = {0};
    for (int j = 0; j < n; j += LANES)
        for (int l = 0; l < LANES; l++) {
            float q = clamp_round(x[j + l] * inverse, low, high);
            part_xq[l] += x[j + l] * q;
            part_qq[l] += q * q;
        }
    *x_q = lanes_sum(part_xq);
    *q_q = lanes_sum(part_qq);
}

/* The scale with the least Σ (x − s·q)² that the search finds. Given the codes the best scale is
 * Σxq / Σqq, and then the error is Σxx − (Σxq)² / Σqq: the largest last term wins. */
static float search_symmetric(const float *x, int n, int half)
{
    float extreme = 0, best = 0, scale = 0;
    for (int j = 0; j < n; j++)
        extreme = fabsf(x[j]) > fabsf(extreme) ? x[j] : extreme;
    if (extreme == 0)
        return 0;
    /* The extreme value gets a code near −half, or near half − 1 for the negative steps. */
    for (int step = -12; step <= 12; step++) {
        float target = step < 0 ? (float)half - 1 + 0.12f * (float)(step + 6)
                                : -((float)half + 0.12f * (float)(step - 6));
        float x_q, q_q;
        fit_sums(x, n, target / extreme, (float)-half, (float)(half - 1), &x_q, &q_q);
        if (q_q > 0 && x_q * x_q > best * q_q) {
            best = x_q * x_q / q_q;
            scale = x_q / q_q;
        }
    }
    return scale;
}

static inline float error_symmetric(const float *x, int n, float scale, float low, float high)
{
    float part[LANES] = {0}, inverse = scale != 0 ? 1.0f / scale : 0;
    for (int j = 0; j < n; j += LANES)
        for (int l = 0; l < LANES; l++) {
            float e = x[j + l] - scale * clamp_round(x[j + l] * inverse, low, high);
            part[l] += e * e;
        }
    return lanes_sum(part);
}

/* Scales of 16 sub-blocks of 16 as integers −top−1..top times *d (stored at d_out), and codes
 * −half..half−1. */
static void quantize_symmetric(const float *x, int half, int top, uint8_t *d_out, int *scales,
                               int *q)
{
    float s[16], extreme = 0;
    for (int i = 0; i < 16; i++) {
        s[i] = search_symmetric(x + 16 * i, 16, half);
        extreme = fabsf(s[i]) > fabsf(extreme) ? s[i] : extreme;
    }
    float d = store_f16(extreme / (float)(-top - 1), d_out);
    float inverse = d != 0 ? 1.0f / d : 0;
    for (int i = 0; i < 16; i++) {
        int centre = round_clamp(s[i] * inverse, -top - 1, top), best = centre;
        float least = INFINITY;
        for (int c = centre - 1; c <= centre + 1; c++) {
            if (c < -top - 1 || c > top)
                continue;
            float e =
                error_symmetric(x + 16 * i, 16, d * (float)c, (float)-half, (float)(half - 1));
            if (e < least) {
                least = e;
                best = c;
            }
        }
        scales[i] = best;
        float scale = d * (float)best, code = scale != 0 ? 1.0f / scale : 0;
        for (int j = 16 * i; j < 16 * i + 16; j++)
            q[j] = round_clamp(x[j] * code, -half, half - 1);
    }
}

/* ---- with offset: w = s · q − m, 0 ≤ q ≤ top, m ≥ 0 --------------------------------------- */

struct line {
    float s, m;
};

static inline float error_line(const float *x, int n, float s, float m, float top)
{
    float part[LANES] = {0}, inverse = s != 0 ? 1.0f / s : 0;
    for (int j = 0; j < n; j += LANES)
        for (int l = 0; l < LANES; l++) {
            float e = x[j + l] + m - s * clamp_round((x[j + l] + m) * inverse, 0, top);
            part[l] += e * e;
        }
    return lanes_sum(part);
}

/* Least squares of x ≈ s·q − m over codes made with a first guess. */
static struct line fit_line(const float *x, int n, float inverse, float low, float top)
{
    float part_q[LANES] = {0}, part_qq[LANES] = {0}, part_xq[LANES] = {0}, part_x[LANES] = {0};
    for (int j = 0; j < n; j += LANES)
        for (int l = 0; l < LANES; l++) {
            float q = clamp_round((x[j + l] - low) * inverse, 0, top);
            part_q[l] += q;
            part_qq[l] += q * q;
            part_xq[l] += x[j + l] * q;
            part_x[l] += x[j + l];
        }
    float count = (float)n, q = lanes_sum(part_q), qq = lanes_sum(part_qq);
    float xq = lanes_sum(part_xq), sx = lanes_sum(part_x);
    float det = count * qq - q * q;
    struct line line = {0, -low};
    if (det > 0) {
        line.s = (count * xq - q * sx) / det;
        line.m = (q * xq - qq * sx) / det;
    } else if (qq > 0) { /* all codes are equal: keep the offset of the first guess */
        line.s = (xq - low * q) / qq;
    }
    if (line.m < 0) { /* an offset above zero cannot be stored */
        line.m = 0;
        line.s = qq > 0 ? xq / qq : 0;
    }
    return line;
}

static struct line search_line(const float *x, int n, int top)
{
    float low = 0, high = x[0], least = INFINITY;
    for (int j = 0; j < n; j++) {
        low = x[j] < low ? x[j] : low;
        high = x[j] > high ? x[j] : high;
    }
    struct line best = {0, -low};
    if (high <= low)
        return best;
    /* From the codes that just reach both ends to ones that clip them, or spread less. */
    for (int step = -6; step <= 10; step++) {
        float spread = ((float)top + 0.15f * (float)step) / (high - low);
        struct line line = fit_line(x, n, spread, low, (float)top);
        float e = error_line(x, n, line.s, line.m, (float)top);
        if (e < least) {
            least = e;
            best = line;
        }
    }
    return best;
}

/* Scales and mins of 256 / n sub-blocks as integers 0..limit times the block's d and dmin, and
 * codes 0..top. */
struct line_block {
    int scales[16], mins[16], q[Q8K_BLOCK];
};

static void quantize_lines(const float *x, int n, int top, int limit, uint8_t *d_out,
                           uint8_t *dmin_out, struct line_block *out)
{
    struct line lines[16];
    float largest_s = 0, largest_m = 0;
    for (int i = 0; i < Q8K_BLOCK / n; i++) {
        lines[i] = search_line(x + n * i, n, top);
        largest_s = lines[i].s > largest_s ? lines[i].s : largest_s;
        largest_m = lines[i].m > largest_m ? lines[i].m : largest_m;
    }
    float d = store_f16(largest_s / (float)limit, d_out);
    float dmin = store_f16(largest_m / (float)limit, dmin_out);
    float per_d = d != 0 ? 1.0f / d : 0, per_dmin = dmin != 0 ? 1.0f / dmin : 0;
    for (int i = 0; i < Q8K_BLOCK / n; i++) {
        int s = round_clamp(lines[i].s * per_d, 0, limit);
        int m = round_clamp(lines[i].m * per_dmin, 0, limit);
        float least = INFINITY; /* no error is less where x is no number */
        out->scales[i] = s;
        out->mins[i] = m;
        for (int cs = s > 0 ? s - 1 : 0; cs <= s + 1 && cs <= limit; cs++)
            for (int cm = m > 0 ? m - 1 : 0; cm <= m + 1 && cm <= limit; cm++) {
                float e = error_line(x + n * i, n, d * (float)cs, dmin * (float)cm, (float)top);
                if (e < least) {
                    least = e;
                    out->scales[i] = cs;
                    out->mins[i] = cm;
                }
            }
        float scale = d * (float)out->scales[i], min = dmin * (float)out->mins[i];
        float inverse = scale != 0 ? 1.0f / scale : 0;
        for (int j = n * i; j < n * i + n; j++)
            out->q[j] = round_clamp((x[j] + min) * inverse, 0, top);
    }
}

/* ---- layouts (see blocks.h) --------------------------------------------------------------- */

/* Bits shift..shift+1 of the codes, four groups of 32 to 32 bytes. */
static void pack_pairs(const int *q, int shift, uint8_t *out)
{
    memset(out, 0, 64);
    for (int g = 0; g < 8; g++)
        for (int j = 0; j < 32; j++)
            out[g / 4 * 32 + j] |= (uint8_t)((q[g * 32 + j] >> shift & 3) << g % 4 * 2);
}

/* Bit `shift` of the codes: group g at bit g. */
static void pack_bits(const int *q, int shift, uint8_t *out)
{
    memset(out, 0, 32);
    for (int g = 0; g < 8; g++)
        for (int j = 0; j < 32; j++)
            out[j] |= (uint8_t)((q[g * 32 + j] >> shift & 1) << g);
}

/* Low nibbles, two groups of 32 to 32 bytes. */
static void pack_k4_nibbles(const int *q, uint8_t *out)
{
    for (int g = 0; g < 8; g += 2)
        for (int j = 0; j < 32; j++)
            out[g / 2 * 32 + j] = (uint8_t)((q[g * 32 + j] & 15) | (q[g * 32 + 32 + j] & 15) << 4);
}

static void pack_k4_scales(const struct line_block *b, uint8_t *out)
{
    for (int s = 0; s < 4; s++) {
        out[s] = (uint8_t)(b->scales[s] | b->scales[s + 4] >> 4 << 6);
        out[s + 4] = (uint8_t)(b->mins[s] | b->mins[s + 4] >> 4 << 6);
        out[s + 8] = (uint8_t)((b->scales[s + 4] & 15) | (b->mins[s + 4] & 15) << 4);
    }
}

void quantize_block_q2_k(const float *x, uint8_t *out)
{
    struct line_block b;
    quantize_lines(x, 16, 3, 15, out + 80, out + 82, &b);
    for (int s = 0; s < 16; s++)
        out[s] = (uint8_t)(b.scales[s] | b.mins[s] << 4);
    pack_pairs(b.q, 0, out + 16);
}

void quantize_block_q3_k(const float *x, uint8_t *out)
{
    int scales[16], q[Q8K_BLOCK];
    quantize_symmetric(x, 4, 31, out + 108, scales, q);
    for (int j = 0; j < Q8K_BLOCK; j++)
        q[j] += 4;
    pack_bits(q, 2, out);
    pack_pairs(q, 0, out + 32);
    memset(out + 96, 0, 12);
    for (int s = 0; s < 16; s++) {
        int code = scales[s] + 32;
        out[96 + s % 8] |= (uint8_t)((code & 15) << s / 8 * 4);
        out[104 + s % 4] |= (uint8_t)(code >> 4 << s / 4 * 2);
    }
}

void quantize_block_q4_k(const float *x, uint8_t *out)
{
    struct line_block b;
    quantize_lines(x, 32, 15, 63, out, out + 2, &b);
    pack_k4_scales(&b, out + 4);
    pack_k4_nibbles(b.q, out + 16);
}

void quantize_block_q5_k(const float *x, uint8_t *out)
{
    struct line_block b;
    quantize_lines(x, 32, 31, 63, out, out + 2, &b);
    pack_k4_scales(&b, out + 4);
    pack_bits(b.q, 4, out + 16);
    pack_k4_nibbles(b.q, out + 48);
}

void quantize_block_q6_k(const float *x, uint8_t *out)
{
    int scales[16], q[Q8K_BLOCK];
    quantize_symmetric(x, 32, 127, out + 208, scales, q);
    for (int s = 0; s < 16; s++)
        out[192 + s] = (uint8_t)(int8_t)scales[s];
    for (int j = 0; j < Q8K_BLOCK; j++)
        q[j] += 32;
    pack_pairs(q, 4, out + 128);
    for (int half = 0; half < 2; half++)
        for (int j = 0; j < 64; j++)
            out[half * 64 + j] =
                (uint8_t)((q[half * 128 + j] & 15) | (q[half * 128 + 64 + j] & 15) << 4);
}
