/* sparse.c: which elements of a change count, and how those of several changes come together. Arrays in, arrays out.
 *
 * TIES: trim, elect, merge (Yadav et al. 2023, arXiv:2306.01708); DARE: drop and rescale (Yu et al. 2024,
 * arXiv:2311.03099); DELLA: drop by rank of magnitude within a row (Deep et al. 2024, arXiv:2406.11617); model breadcrumbs:
 * both tails go (Davari and Belilovsky 2024, arXiv:2312.06795). Random numbers are a function of key, module and element,
 * so that neither threads nor the order in which rows are made matter.
 */
#include "adapter/merge/merge_internal.h"

#include <math.h>

enum { RADIX_BITS = 11, RADIX = 1 << RADIX_BITS, CHUNK = 256 };

static uint32_t magnitude(float x)
{
    uint32_t bits;
    memcpy(&bits, &x, sizeof bits);
    return bits & 0x7fffffff;
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
    if (s->keep.equals < 0 && !s->has_outliers) {
        for (int64_t i = 0; i < n_in; i++)
            x[i] = magnitude(x[i]) >= s->keep.bits ? x[i] : 0;
        return;
    }
    for (int64_t i = 0; i < n_in; i++) {
        const uint32_t bits = magnitude(x[i]);
        const bool in = within(&s->keep, bits, &kept);
        const bool too_large = s->has_outliers && within(&s->outliers, bits, &out);
        x[i] = in && !too_large ? x[i] : 0;
    }
}

/* ---- by chance ---------------------------------------------------------------------------- */

/* Numbers of elements begin..begin + n, uniform over all of 32 bits. */
static void draw(const struct sparsifier *s, uint64_t begin, int64_t n, uint32_t *out)
{
    uint32_t words[4];
    for (int64_t i = 0; i < n; i++) {
        const uint64_t at = begin + (uint64_t)i;
        if (i == 0 || at % 4 == 0)
            rng_block(s->key, s->stream, at / 4, words);
        out[i] = words[at % 4];
    }
}

static bool chosen(uint32_t number, double probability)
{
    return (double)number * 0x1p-32 < probability;
}

static void drop(const struct sparsifier *s, int64_t row, int64_t n_in, float *x)
{
    uint32_t numbers[CHUNK];
    const float more = (float)(1 / s->density);
    for (int64_t i = 0; i < n_in; i += CHUNK) {
        const int64_t some = n_in - i < CHUNK ? n_in - i : CHUNK;
        draw(s, (uint64_t)(row * n_in + i), some, numbers);
        for (int64_t j = 0; j < some; j++)
            x[i + j] = chosen(numbers[j], s->density) ? x[i + j] * more : 0;
    }
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
    uint32_t number;
    const uint64_t *sorted = sort_magnitudes(x, n_in, order);
    for (int64_t rank = 0; rank < n_in; rank++) {
        const int64_t i = (int64_t)(sorted[rank] & 0xffffffff);
        const double place = n_in > 1 ? (double)rank / (double)(n_in - 1) : 0.5;
        const double probability = s->density + s->epsilon * (2 * place - 1);
        draw(s, (uint64_t)(row * n_in + i), 1, &number);
        x[i] = chosen(number, probability) ? (float)((double)x[i] / probability) : 0;
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

static float sign_of(float x)
{
    return (float)((x > 0) - (x < 0));
}

static void add_up(const struct combination *c, float *const *x, int64_t begin, int64_t n,
                   float *out)
{
    double sum[CHUNK] = {0};
    for (size_t i = 0; i < c->n; i++)
        for (int64_t j = 0; j < n; j++)
            sum[j] += c->weights[i] * (double)x[i][begin + j];
    for (int64_t j = 0; j < n; j++)
        out[begin + j] = (float)(c->lambda * sum[j]);
}

/* A sum that is not below 0 elects plus; zeros agree with neither. */
static void elect(const struct combination *c, float *const *x, int64_t begin, int64_t n,
                  float *out)
{
    float votes[CHUNK] = {0}, total[CHUNK] = {0}, parts[CHUNK] = {0};
    for (size_t i = 0; i < c->n; i++) {
        const float weight = c->by_weight ? (float)c->weights[i] : 1;
        for (int64_t j = 0; j < n; j++) {
            const float ballot = weight * x[i][begin + j];
            votes[j] += c->by_frequency ? sign_of(ballot) : ballot;
        }
    }
    for (size_t i = 0; i < c->n; i++) {
        const float weight = (float)c->weights[i], side = c->by_weight ? sign_of(weight) : 1;
        const float part = c->by_weight ? weight : 1;
        for (int64_t j = 0; j < n; j++) {
            const float sign = side * sign_of(x[i][begin + j]);
            const bool agrees = sign == (votes[j] >= 0 ? 1.0f : -1.0f);
            total[j] += agrees ? weight * x[i][begin + j] : 0;
            parts[j] += agrees ? part : 0;
        }
    }
    for (int64_t j = 0; j < n; j++)
        out[begin + j] = (float)c->lambda * total[j] / (parts[j] == 0 ? 1 : parts[j]);
}

void combine(const struct combination *c, float *const *x, int64_t count, float *out)
{
    for (int64_t j = 0; j < count; j += CHUNK) {
        const int64_t some = count - j < CHUNK ? count - j : CHUNK;
        if (c->elect)
            elect(c, x, j, some, out);
        else
            add_up(c, x, j, some, out);
    }
}
