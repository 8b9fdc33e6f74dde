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

/* Loops over lanes are such that compilers turn them into vectors. */
static const uint16_t LANE_BITS[LANES] = {1, 2, 4, 8, 16, 32, 64, 128};

/* A bit for each of the next eight values: does it stay? */
static uint8_t next_fates(struct fates *f)
{
    uint32_t block[4];
    uint16_t lanes[LANES], threshold = (uint16_t)f->threshold, stays = 0;
    rng_block(f->key, f->stream, f->counter++, block);
    memcpy(lanes, block, sizeof(lanes));
    for (int i = 0; i < LANES; i++)
        lanes[i] = lanes[i] >= threshold ? LANE_BITS[i] : 0;
    for (int i = 0; i < LANES; i++)
        stays |= lanes[i];
    return (uint8_t)stays;
}

static void keep_lanes(uint32_t stays, float factor, const float *x, float *out)
{
    for (int j = 0; j < LANES; j++) {
        float value = x[j] * factor;
        out[j] = stays & LANE_BITS[j] ? value : 0;
    }
}

void dropout_row(const struct group_pass *p, int row, const float *x, float *out, uint8_t *mask)
{
    struct fates fates = row_fates(p, row);
    int64_t n = p->group->n_in, i = 0;
    for (; i + LANES <= n; i += LANES) {
        uint8_t stays = next_fates(&fates);
        if (mask)
            mask[i / LANES] = stays;
        keep_lanes(stays, fates.factor, x + i, out + i);
    }
    if (i == n)
        return;
    float last[LANES] = {0};
    uint8_t stays = next_fates(&fates);
    if (mask)
        mask[i / LANES] = stays;
    memcpy(last, x + i, (size_t)(n - i) * sizeof(*x));
    keep_lanes(stays, fates.factor, last, last);
    memcpy(out + i, last, (size_t)(n - i) * sizeof(*out));
}

void dropout_row_backward(const struct group_pass *p, const uint8_t *mask, const float *d,
                          int64_t begin, int64_t end, float *dx)
{
    float factor = row_fates(p, 0).factor, kept[LANES];
    int64_t i = begin;
    for (; i + LANES <= end; i += LANES) {
        keep_lanes(mask[i / LANES], factor, d + i, kept);
        for (int j = 0; j < LANES; j++)
            dx[i + j] += kept[j];
    }
    for (; i < end; i++)
        if (mask[i / LANES] & LANE_BITS[i % LANES])
            dx[i] += d[i] * factor;
}
