/* sparse.c: which elements of a change count, and how those of several changes come together. Arrays in, arrays out.
 *
 * TIES: trim, elect, merge (Yadav et al. 2023, arXiv:2306.01708); DARE: drop and rescale (Yu et al. 2024,
 * arXiv:2311.03099); DELLA: drop by rank of magnitude within a row (Deep et al. 2024, arXiv:2406.11617); model breadcrumbs:
 * both tails go (Davari and Belilovsky 2024, arXiv:2312.06795). Random numbers are a function of key, module and element,
 * so that neither threads nor the order in which rows are made matter.
 */
#include "adapter/merge/merge_internal.h"

#include <math.h>

enum { RADIX_BITS = 11, RADIX = 1 << RADIX_BITS, LANES = 4 };

/* Four elements at a time; comparisons give all bits or none. */
typedef float lanes __attribute__((vector_size(LANES * sizeof(float))));
typedef int32_t masks __attribute__((vector_size(LANES * sizeof(float))));
typedef int64_t wide_masks __attribute__((vector_size(LANES * sizeof(double))));
typedef double doubles __attribute__((vector_size(LANES * sizeof(double))));

static lanes load(const float *x)
{
    lanes v;
    memcpy(&v, x, sizeof v);
    return v;
}

static void store(float *x, lanes v)
{
    memcpy(x, &v, sizeof v);
}

/* v where the mask is set, else 0. */
static lanes only(lanes v, masks where)
{
    return (lanes)((masks)v & where);
}

/* ---- by magnitude ------------------------------------------------------------------------- */

/* Is an element within the cut? *seen: equals before it. */
static bool within(const struct cut *cut, uint32_t bits, int64_t *seen)
{
    if (bits != cut->bits || cut->equals < 0)
        return bits >= cut->bits;
    return (*seen)++ < cut->equals;
}

static void keep_largest(const struct sparsifier *s, int64_t row, int64_t n_in, float *x)
{
    int64_t kept = s->keep.equals >= 0 ? s->keep.starts[row] : 0;
    int64_t out = s->outliers.equals >= 0 && s->has_outliers ? s->outliers.starts[row] : 0;
    int64_t i = 0;
    /* Magnitudes of numbers are positive as integers, so they compare with a sign as they do without. */
    if (s->keep.equals < 0 && !s->has_outliers && s->keep.bits <= INT32_MAX)
        for (; i + LANES <= n_in; i += LANES) {
            const lanes v = load(x + i);
            store(x + i, only(v, ((masks)v & INT32_MAX) >= (int32_t)s->keep.bits));
        }
    for (; i < n_in; i++) {
        const uint32_t bits = magnitude(x[i]);
        const bool in = within(&s->keep, bits, &kept);
        const bool too_large = s->has_outliers && within(&s->outliers, bits, &out);
        x[i] = in && !too_large ? x[i] : 0;
    }
}

/* ---- by chance ---------------------------------------------------------------------------- */

/* The number of an element, uniform over all of 32 bits: four come at a time. */
static uint32_t number_of(const struct sparsifier *s, uint64_t at)
{
    uint32_t words[4];
    rng_block(s->key, s->stream, at / 4, words);
    return words[at % 4];
}

/* Numbers below this are chosen. */
static uint64_t threshold(double probability)
{
    return (uint64_t)(probability * 0x1p32);
}

static void drop(const struct sparsifier *s, int64_t row, int64_t n_in, float *x)
{
    const uint64_t chosen = threshold(s->density), begin = (uint64_t)(row * n_in);
    const float factors[2] = {0, (float)(1 / s->density)};
    int64_t i = 0;
    uint32_t words[4];
    for (; i < n_in && (begin + (uint64_t)i) % 4; i++)
        x[i] *= factors[number_of(s, begin + (uint64_t)i) < chosen];
    for (; i + 4 <= n_in; i += 4) {
        rng_block(s->key, s->stream, (begin + (uint64_t)i) / 4, words);
        for (int j = 0; j < 4; j++)
            x[i + j] *= factors[words[j] < chosen];
    }
    for (; i < n_in; i++)
        x[i] *= factors[number_of(s, begin + (uint64_t)i) < chosen];
}

/* Order of magnitude of x [n], smallest first, equals as they stand: (magnitude << 32 | index), by its digits. Returns
 * where the result is: in either half of order [2 n]. */
static const uint64_t *sort_magnitudes(const float *x, int64_t n, uint64_t *order)
{
    uint64_t *from = order, *to = order + n;
    for (int64_t i = 0; i < n; i++)
        from[i] = (uint64_t)magnitude(x[i]) << 32 | (uint64_t)i;
    for (int shift = 32; shift < 64; shift += RADIX_BITS) {
        int64_t starts[RADIX] = {0}, sum = 0;
        for (int64_t i = 0; i < n; i++)
            starts[from[i] >> shift & (RADIX - 1)]++;
        for (int64_t b = 0; b < RADIX; b++) {
            const int64_t count = starts[b];
            starts[b] = sum;
            sum += count;
        }
        for (int64_t i = 0; i < n; i++)
            to[starts[from[i] >> shift & (RADIX - 1)]++] = from[i];
        uint64_t *other = from;
        from = to;
        to = other;
    }
    return from;
}

/* The larger in its row, the likelier it stays: density ± epsilon; what stays is divided by its own probability. */
static void drop_by_rank(const struct sparsifier *s, int64_t row, int64_t n_in, float *x,
                         uint64_t *order)
{
    const uint64_t *sorted = sort_magnitudes(x, n_in, order);
    for (int64_t rank = 0; rank < n_in; rank++) {
        const int64_t i = (int64_t)(sorted[rank] & 0xffffffff);
        const double place = n_in > 1 ? (double)rank / (double)(n_in - 1) : 0.5;
        const double probability = s->density + s->epsilon * (2 * place - 1);
        const bool stays = number_of(s, (uint64_t)(row * n_in + i)) < threshold(probability);
        x[i] = stays ? (float)((double)x[i] / probability) : 0;
    }
}

void sparsify(const struct sparsifier *s, int64_t first, int64_t n_rows, int64_t n_in, float *x,
              uint64_t *order)
{
    for (int64_t row = 0; row < n_rows; row++) {
        float *at = x + row * n_in;
        switch (s->kind) {
        case SPARSE_NONE:
            break;
        case SPARSE_LARGEST:
            keep_largest(s, first + row, n_in, at);
            break;
        case SPARSE_RANDOM:
            drop(s, first + row, n_in, at);
            break;
        case SPARSE_RANKED:
            drop_by_rank(s, first + row, n_in, at, order);
            break;
        }
    }
}

/* ---- together ----------------------------------------------------------------------------- */

/* 1, −1 or 0. */
static lanes signs(lanes v)
{
    return __builtin_convertvector((v < 0) - (v > 0), lanes);
}

static lanes add_up(const struct combination *c, const lanes *x)
{
    doubles sum = {0};
    for (size_t i = 0; i < c->n; i++)
        sum += c->weights[i] * __builtin_convertvector(x[i], doubles);
    return __builtin_convertvector(c->lambda * sum, lanes);
}

/* A sum that is not below 0 elects plus; zeros agree with neither. Votes are summed in double: those that cancel must do so
 * in any order of the inputs. */
static lanes elect(const struct combination *c, const lanes *x)
{
    doubles votes = {0}, parts = {0};
    lanes total = {0};
    double all = 0;
    for (size_t i = 0; i < c->n; i++) {
        const lanes ballot = c->by_weight ? (float)c->weights[i] * x[i] : x[i];
        votes += __builtin_convertvector(c->by_frequency ? signs(ballot) : ballot, doubles);
    }
    const masks plus = __builtin_convertvector(votes >= 0, masks);
    for (size_t i = 0; i < c->n; i++) {
        const float weight = (float)c->weights[i];
        const double part = c->undivided ? 0 : c->by_weight ? c->weights[i] : 1;
        const lanes ballot = c->by_weight ? weight * x[i] : x[i];
        const masks agrees = (plus & (ballot > 0)) | (~plus & (ballot < 0));
        total += only(weight * x[i], agrees);
        parts += part * __builtin_convertvector(only((lanes){0} + 1, agrees), doubles);
        all += fabs(part);
    }
    /* Weights of both signs may cancel, but for rounding: nothing divides then. */
    const wide_masks none = (parts <= 1e-12 * all) & (parts >= -1e-12 * all);
    const doubles ones = {1, 1, 1, 1};
    const doubles divisor = (doubles)(((wide_masks)parts & ~none) | ((wide_masks)ones & none));
    return __builtin_convertvector(c->lambda * __builtin_convertvector(total, doubles) / divisor,
                                   lanes);
}

void combine(const struct combination *c, float *const *x, int64_t count, float *out)
{
    for (int64_t j = 0; j < count; j += LANES) {
        const int64_t some = count - j < LANES ? count - j : LANES;
        lanes at[MERGE_MAX];
        for (size_t i = 0; i < c->n; i++) {
            at[i] = (lanes){0};
            memcpy(&at[i], x[i] + j, (size_t)some * sizeof(float));
        }
        const lanes merged = c->elect ? elect(c, at) : add_up(c, at);
        memcpy(out + j, &merged, (size_t)some * sizeof(float));
    }
}
