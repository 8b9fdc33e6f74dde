/* optimiser.c: AdamW (Loshchilov and Hutter 2019) over one flat buffer of values, and the norm of its gradients.
 *
 * Sums are taken by pieces of a fixed length and those in order, and values are updated one by one, so that the number of
 * threads cannot be seen.
 */
#include "train/train_internal.h"

#include <math.h>

enum { PIECE = 1 << 16, GRAIN = 16 };

const char *optim_name(enum optim_kind kind)
{
    static const char *const NAMES[] = {
#define OPTIM_NAME(name, text) text,
        OPTIM_LIST(OPTIM_NAME)
#undef OPTIM_NAME
    };
    return kind >= 0 && kind < OPTIM_KINDS ? NAMES[kind] : NULL;
}

bool optim_find(const char *name, enum optim_kind *out)
{
    for (int i = 0; i < OPTIM_KINDS; i++)
        if (!strcmp(name, optim_name((enum optim_kind)i))) {
            *out = (enum optim_kind)i;
            return true;
        }
    return false;
}

graft_status optimiser_open(struct optimiser *o, struct mem *mem, int64_t n_values,
                            const struct optimiser_options *options, graft_error *error)
{
    int64_t n_pieces = (n_values + PIECE - 1) / PIECE;
    *o = (struct optimiser){.mem = mem, .options = *options, .n = n_values};
    o->m = mem_calloc(mem, (size_t)n_values, sizeof *o->m);
    o->v = mem_calloc(mem, (size_t)n_values, sizeof *o->v);
    o->sums = mem_calloc(mem, (size_t)n_pieces, sizeof *o->sums);
    if (o->m && o->v && o->sums)
        return GRAFT_OK;
    optimiser_close(o);
    return error_set(error, GRAFT_NO_MEMORY, "no memory for the moments of %lld values",
                     (long long)n_values);
}

void optimiser_close(struct optimiser *o)
{
    mem_free(o->mem, o->m);
    mem_free(o->mem, o->v);
    mem_free(o->mem, o->sums);
    *o = (struct optimiser){.mem = NULL};
}

void optimiser_reset(struct optimiser *o)
{
    mem_wipe(o->m, (size_t)o->n * sizeof *o->m);
    mem_wipe(o->v, (size_t)o->n * sizeof *o->v);
    mem_wipe(o->sums, (size_t)((o->n + PIECE - 1) / PIECE) * sizeof *o->sums);
    o->steps = 0;
}

/* ---- norm --------------------------------------------------------------------------------- */

struct norm {
    const struct kernels *kernels;
    const float *x;
    int64_t n;
    double *sums;
};

static void sum_pieces(void *context, int worker, int n_workers)
{
    const struct norm *p = context;
    int64_t begin, end;
    pool_split((p->n + PIECE - 1) / PIECE, 1, worker, n_workers, &begin, &end);
    for (int64_t i = begin; i < end; i++) {
        int64_t at = i * PIECE, n = p->n - at < PIECE ? p->n - at : PIECE;
        p->sums[i] = p->kernels->sum_squares(p->x + at, n);
    }
}

double optimiser_norm(struct optimiser *o, const graft_runtime *runtime, const float *grads)
{
    struct norm p = {runtime->kernels, grads, o->n, o->sums};
    double sum = 0;
    pool_run(runtime->pool, sum_pieces, &p);
    for (int64_t i = 0; i < (o->n + PIECE - 1) / PIECE; i++)
        sum += o->sums[i];
    return sqrt(sum);
}

/* ---- step --------------------------------------------------------------------------------- */

struct update {
    const struct optimiser *o;
    const struct kernels *kernels;
    const struct trainable_part *parts;
    int n_parts;
    struct adamw_args args; /* p and g: all of them */
    double rate;
};

static void update_range(const struct update *u, const struct trainable_part *part, int64_t begin,
                         int64_t end)
{
    const struct optimiser_options *how = &u->o->options;
    struct adamw_args a = u->args;
    double rate = u->rate * (part->fast ? how->loraplus : 1);
    a.p += begin;
    a.m += begin;
    a.v += begin;
    a.g += begin;
    a.n = end - begin;
    a.lr = (float)rate;
    a.decay = part->vector ? 0 : (float)(rate * how->weight_decay);
    u->kernels->adamw(&a);
}

static void update_share(void *context, int worker, int n_workers)
{
    const struct update *u = context;
    int64_t begin, end;
    pool_split(u->o->n, GRAIN, worker, n_workers, &begin, &end);
    for (int i = 0; i < u->n_parts; i++) {
        const struct trainable_part *part = &u->parts[i];
        int64_t first = part->at > begin ? part->at : begin, stop = part->at + part->n;
        stop = stop < end ? stop : end;
        if (first < stop && !(part->rows && u->o->options.kind == OPTIM_MUON))
            update_range(u, part, first, stop);
    }
}

void optimiser_step(struct optimiser *o, const graft_runtime *runtime,
                    const struct trainable_part *parts, int n_parts, float *values,
                    const float *grads, double rate, double scale)
{
    const struct optimiser_options *how = &o->options;
    double k = (double)++o->steps;
    struct update u = {.o = o,
                       .kernels = runtime->kernels,
                       .parts = parts,
                       .n_parts = n_parts,
                       .rate = rate,
                       .args = {.p = values,
                                .m = o->m,
                                .v = o->v,
                                .g = grads,
                                .beta1 = how->beta1,
                                .beta2 = how->beta2,
                                .eps = (float)how->eps,
                                .correct1 = (float)(1 / (1 - pow(how->beta1, k))),
                                .correct2 = (float)(1 / (1 - pow(how->beta2, k))),
                                .scale = (float)scale}};
    pool_run(runtime->pool, update_share, &u);
}
