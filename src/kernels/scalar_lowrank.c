/* scalar_lowrank.c: the scalar tier's low-rank products, the specification of the others.
 *
 * Down: each u is one chain of additions in the order of K. Up: each output is one chain over the ranks,
 * cut at every LOWRANK_UP_RANKS so that no more of B is ever held as floats.
 */
#include "kernels/kernels_internal.h"

static void scalar_down_slice(const struct kernels *k, const struct lowrank_down_args *args,
                              const struct lowrank_slice *slice)
{
    const struct matrix *a = slice->a;
    float panel[LOWRANK_CHUNK];
    for (int64_t r = slice->begin; r < slice->end; r++) {
        float *u = slice->u + r;
        for (int t = 0; t < args->n_tok; t++)
            u[t * args->u_stride] = 0;
        for (int64_t first = 0; first < a->n_in; first += LOWRANK_CHUNK) {
            int64_t left = a->n_in - first, n = left < LOWRANK_CHUNK ? left : LOWRANK_CHUNK;
            k->dequantize[a->type](a, r, first, n, panel);
            for (int t = 0; t < args->n_tok; t++) {
                const float *x = args->x + t * a->n_in + first; /* [n] */
                float sum = u[t * args->u_stride];
                for (int64_t j = 0; j < n; j++)
                    sum += panel[j] * x[j];
                u[t * args->u_stride] = sum;
            }
        }
        for (int t = 0; t < args->n_tok; t++)
            u[t * args->u_stride] *= slice->scale;
    }
}

/* u[t, r] = scale · Σ_k a[r, k] · x[t, k] */
void scalar_lowrank_down(const struct kernels *k, const struct lowrank_down_args *args)
{
    struct lowrank_slice slice;
    int64_t base = 0;
    for (int i = 0; i < args->n_parts; i++) {
        base = lowrank_slice(args, i, base, &slice);
        scalar_down_slice(k, args, &slice);
    }
}

/* Adds ranks first..first+n to outputs o..end of a tile, whose columns panel[n, LOWRANK_TILE] holds. */
static void scalar_up_panel(const struct lowrank_up_args *args, const float *panel, int64_t begin,
                            int64_t end, int64_t first, int64_t n)
{
    for (int t = 0; t < args->n_tok; t++) {
        const float *u = args->u + t * args->u_stride + first; /* [n] */
        float *y = args->y + t * args->y_stride;
        for (int64_t o = begin; o < end; o++) {
            float sum = first == 0 && args->bias ? args->bias_scale * args->bias[o] : 0;
            for (int64_t r = 0; r < n; r++)
                sum += u[r] * panel[r * LOWRANK_TILE + o % LOWRANK_TILE];
            if (first == 0 && args->keep)
                y[o] *= args->keep[o - args->o_begin];
            y[o] += args->gain ? args->gain[o] * sum : sum;
        }
    }
}

/* y[t, o] = keep[o] · y[t, o] + gain[o] · (bias_scale · bias[o] + Σ_r u[t, r] · B[o, r]) */
void scalar_lowrank_up(const struct kernels *k, const struct lowrank_up_args *args)
{
    const struct matrix *b = args->b;
    float panel[LOWRANK_UP_RANKS * LOWRANK_TILE];
    for (int64_t o = args->o_begin, end; o < args->o_end; o = end) {
        int64_t tile = o / LOWRANK_TILE;
        end = (tile + 1) * LOWRANK_TILE < args->o_end ? (tile + 1) * LOWRANK_TILE : args->o_end;
        for (int64_t first = 0; first < args->rank; first += LOWRANK_UP_RANKS) {
            int64_t left = args->rank - first,
                    n = left < LOWRANK_UP_RANKS ? left : LOWRANK_UP_RANKS;
            for (int64_t r = 0; r < n; r++)
                k->dequantize[b->type](b, tile * args->rank + first + r, 0, LOWRANK_TILE,
                                       panel + r * LOWRANK_TILE);
            scalar_up_panel(args, panel, o, end, first, n);
        }
    }
}
