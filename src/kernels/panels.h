/* panels.h: the geometry of panels, which the bodies of the products and the scratch share.
 *
 * Does not own how panels are filled or multiplied: prefill_body.h for floats, prefill_bf16_body.h
 * for bf16.
 */
#ifndef GRAFT_KERNELS_PANELS_H
#define GRAFT_KERNELS_PANELS_H

#include "kernels/kernels_internal.h"

enum {
    /* Distance of rows of PREFILL_CHUNK floats: a power of two would make them share cache sets. */
    FLOAT_PITCH = PREFILL_CHUNK + 16,
    /* Rows that use a panel before it is filled again. */
    FLOAT_TOKENS = 512,
    /* A panel, rows of weights, activations. */
    FLOAT_SCRATCH_BYTES =
        4 * (PREFILL_PANEL * PREFILL_CHUNK + (TRANSPOSED_ROWS + FLOAT_TOKENS) * FLOAT_PITCH)
};

enum {
    BF16_CHUNK = 512,             /* width of a panel along K, a multiple of PREFILL_CHUNK */
    BF16_OUTPUTS = 32,            /* its other side */
    BF16_TOKENS = 512,            /* rows that use it before it is filled again */
    BF16_STEP = 32,               /* what a unit takes at a time: K is padded to it with zeros */
    BF16_PITCH = BF16_CHUNK + 32, /* distance of rows; see FLOAT_PITCH */
    BF16_PANEL = BF16_OUTPUTS * BF16_CHUNK,
    BF16_SPAN = TRANSPOSED_GRAIN / BF16_OUTPUTS, /* panels that linear_transposed fills at once */
    BF16_TERMS = 3                               /* of a product in PANEL_SPLIT */
};

/* Scratch may lie anywhere; it has room for this. */
static inline void *align_scratch(void *scratch)
{
    return (void *)(((uintptr_t)scratch + 63) & ~(uintptr_t)63);
}

/* Some tokens times a panel: y (+)= Σ over the terms of x[term] · panel[term]. */
struct bf16_tile {
    const uint16_t *x[BF16_TERMS];     /* [n_tok, BF16_PITCH], the first n of each row */
    const uint16_t *panel[BF16_TERMS]; /* [n / 2, BF16_OUTPUTS, 2] */
    int n_terms;
    float *y;            /* [n_tok, y_stride] */
    int64_t y_stride, n; /* n: a multiple of BF16_STEP */
    int64_t n_row;       /* outputs that exist */
    int n_tok;
    bool fresh; /* sums begin at 0, not at y */
};

/* Large and small parts of panels, of rows on their way into one, and of activations; floats. */
enum {
    BF16_SCRATCH_BYTES =
        2 * 2 * (BF16_SPAN * BF16_PANEL + (16 + BF16_TOKENS) * BF16_PITCH) + 4 * PREFILL_CHUNK
};

#endif
