/* dropout.c: which inputs of A a step leaves out.
 *
 * A value's fate is a function of (seed, step, example, group, position, place in the row), so that it is the same
 * on the way back, when a layer is computed again, on any number of threads, and wherever in a batch the example
 * lies. Probabilities are taken in steps of 2^-16, and what stays is divided by what they are then.
 */
#include "training_internal.h"

enum { LANES = 8 }; /* fates in one block of random bits: 16 bits each */

struct fates {
    uint64_t key, stream, counter;
    uint32_t threshold; /* below: dropped */
    float factor;
};

static struct fates row_fates(const struct group_pass *p, int row)
{
    const struct train_tape *t = p->tape;
    const struct train_batch *batch = t->batch;
    int token = p->tokens ? p->tokens[row] : row, example = t->example[token];
    uint64_t number = batch->examples ? batch->examples[example] : (uint64_t)example;
    uint32_t block[4];
    rng_block(batch->seed, batch->step, number, block);
    uint32_t threshold = (uint32_t)((double)p->group->dropout * 65536 + 0.5);
    threshold = threshold > 65535 ? 65535 : threshold;
    return (struct fates){.key = (uint64_t)block[0] << 32 | block[1],
                          .stream = (uint64_t)p->group->index,
                          .counter = (uint64_t)t->pos[token] << 32,
                          .threshold = threshold,
                          .factor = (float)(65536.0 / (65536.0 - threshold))};
}

static uint8_t next_fates(struct fates *f)
{
    uint32_t block[4];
    unsigned stays = 0;
    rng_block(f->key, f->stream, f->counter++, block);
    for (unsigned i = 0; i < LANES; i++)
        stays |= (unsigned)((block[i / 2] >> 16 * (i % 2) & 0xFFFF) >= f->threshold) << i;
    return (uint8_t)stays;
}

void dropout_row(const struct group_pass *p, int row, const float *x, float *out, uint8_t *mask)
{
    struct fates fates = row_fates(p, row);
    int64_t n = p->group->n_in;
    for (int64_t i = 0; i < n; i += LANES) {
        unsigned stays = next_fates(&fates);
        int64_t end = n - i < LANES ? n - i : LANES;
        if (mask)
            mask[i / LANES] = (uint8_t)stays;
        for (int64_t j = 0; j < end; j++)
            out[i + j] = stays >> j & 1 ? x[i + j] * fates.factor : 0;
    }
}

void dropout_row_backward(const struct group_pass *p, const uint8_t *mask, const float *d,
                          int64_t begin, int64_t end, float *dx)
{
    float factor = row_fates(p, 0).factor;
    for (int64_t i = begin; i < end; i++)
        if (mask[i / LANES] >> (i % LANES) & 1)
            dx[i] += factor * d[i];
}
