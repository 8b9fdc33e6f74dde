/* split.c: which examples are for training and which for validation, and what there is of each.
 *
 * Records that no file gives a part are ranked by a hash of (seed, number), and the first ones are for validation: the
 * share is met to within one record, and a record keeps its rank whatever the share. All examples of a record
 * go to the same side.
 */
#include "train/data/data_internal.h"

#include <math.h>
#include <stdlib.h>

enum { SPLIT_STREAM = 0x73706c69 };

struct ranked {
    uint64_t hash;
    int64_t record;
};

static int by_hash(const void *a, const void *b)
{
    const struct ranked *x = a, *y = b;
    if (x->hash != y->hash) {
        return x->hash < y->hash ? -1 : 1;
    }
    return (x->record > y->record) - (x->record < y->record);
}

static graft_status out_of_memory(graft_error *error)
{
    return error_set(error, GRAFT_NO_MEMORY, "no memory for training data");
}

/* The open records, in order of their hashes. Examples of a record lie side by side. */
static int64_t rank_records(const struct dataset *d, struct ranked *ranks)
{
    int64_t n = 0;
    for (int64_t i = 0; i < d->n_examples; i++) {
        int64_t record = d->examples[i].record;
        if (d->examples[i].part == PART_OPEN && (n == 0 || ranks[n - 1].record != record)) {
            uint32_t block[4];
            rng_block(d->options.seed, SPLIT_STREAM, (uint64_t)record, block);
            ranks[n++] = (struct ranked){(uint64_t)block[0] << 32 | block[1], record};
        }
    }
    qsort(ranks, (size_t)n, sizeof *ranks, by_hash);
    return n;
}

static int64_t validation_records(double share, int64_t n)
{
    int64_t wanted = (int64_t)floor(share * (double)n + 0.5);
    wanted = share > 0 && n > 1 && wanted == 0 ? 1 : wanted;
    return wanted < n ? wanted : n > 0 ? n - 1 : 0;
}

/* part[example] for all. */
static graft_status assign(const struct dataset *d, uint8_t *part, graft_error *error)
{
    struct ranked *ranks = mem_calloc(d->mem, (size_t)d->n_examples + 1, sizeof *ranks);
    if (ranks == NULL) {
        return out_of_memory(error);
    }
    int64_t n = rank_records(d, ranks);
    int64_t n_valid = validation_records(d->options.valid_share, n);
    struct ranked limit = n_valid > 0 ? ranks[n_valid - 1] : (struct ranked){0, -1};
    for (int64_t i = 0; i < d->n_examples; i++) {
        const struct stored *s = &d->examples[i];
        part[i] = s->part;
        if (s->part == PART_OPEN) {
            uint32_t block[4];
            rng_block(d->options.seed, SPLIT_STREAM, (uint64_t)s->record, block);
            struct ranked own = {(uint64_t)block[0] << 32 | block[1], s->record};
            part[i] = n_valid > 0 && by_hash(&own, &limit) <= 0 ? DATA_VALID : DATA_TRAIN;
        }
    }
    mem_free(d->mem, ranks);
    return GRAFT_OK;
}

graft_status dataset_split(struct dataset *d, graft_error *error)
{
    uint8_t *part = mem_calloc(d->mem, (size_t)d->n_examples + 1, 1);
    graft_status status = part != NULL ? assign(d, part, error) : out_of_memory(error);
    int64_t counts[DATA_PARTS] = {0};
    for (int64_t i = 0; i < d->n_examples && status == GRAFT_OK; i++) {
        counts[part[i]]++;
    }
    for (int p = 0; p < DATA_PARTS && status == GRAFT_OK; p++) {
        d->index[p] = mem_calloc(d->mem, (size_t)counts[p] + 1, sizeof *d->index[p]);
        status = d->index[p] != NULL ? GRAFT_OK : out_of_memory(error);
    }
    for (int64_t i = 0; i < d->n_examples && status == GRAFT_OK; i++) {
        d->index[part[i]][d->count[part[i]]++] = i;
    }
    mem_free(d->mem, part);
    return status;
}
