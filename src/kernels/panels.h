/* panels.h: the geometry of panels, which the bodies of the products and the scratch share.
 *
 * Does not own how panels are filled or multiplied: prefill_body.h for floats, prefill_bf16_body.h
 * for bf16.
 */
#ifndef GRAFT_KERNELS_PANELS_H
#define GRAFT_KERNELS_PANELS_H

#include "kernels/kernels_internal.h"

/* Rows a power of two apart would share cache sets: a line more is between them. */
enum { FLOAT_GAP = 16, BF16_GAP = 32 };

/* How many rows ahead those of a transposed weight are asked for. */
enum { ROWS_AHEAD = 16 };

/* A panel of floats. Sums are kept in y from one chunk to the next, which costs more than the loads of
 * longer ones. */
enum {
    FLOAT_CHUNK = 2 * PREFILL_CHUNK,       /* width of a panel along K */
    FLOAT_PITCH = FLOAT_CHUNK + FLOAT_GAP, /* distance of rows of activations */
    ROW_PITCH = PREFILL_CHUNK + FLOAT_GAP, /* distance of rows of weights, PREFILL_CHUNK long */
    FLOAT_TOKENS = 512,                    /* rows that use it before it is filled again */
    FLOAT_SCRATCH_BYTES =
        4 * (PREFILL_PANEL * FLOAT_CHUNK + TRANSPOSED_ROWS * ROW_PITCH + FLOAT_TOKENS * FLOAT_PITCH)
};

/* A panel of bf16. Its width along K, BF16_CHUNK, is the tier's: BF16_WIDTH at most. There is room for large
 * and small parts. */
enum {
    BF16_WIDTH = 1024,
    BF16_OUTPUTS = 32,                          /* the other side of a panel */
    BF16_TOKENS = 512,                          /* rows that use it before it is filled again */
    BF16_STEP = 32,                             /* K is padded with zeros to a multiple */
    BF16_SPAN = TRANSPOSED_SPAN / BF16_OUTPUTS, /* panels that linear_transposed fills at once */
    BF16_ROW_PITCH = PREFILL_CHUNK + BF16_GAP,  /* of rows on their way into a panel */
    BF16_TERMS = 3,                             /* of a product in PANEL_SPLIT */
    BF16_SCRATCH_BYTES = 2 * 2 *
                             (BF16_SPAN * BF16_OUTPUTS * BF16_WIDTH + 16 * BF16_ROW_PITCH +
                              BF16_TOKENS * (BF16_WIDTH + BF16_GAP)) +
                         4 * PREFILL_CHUNK
};

/* Scratch may lie anywhere; it has room for this. */
static inline void *align_scratch(void *scratch)
{
    return (void *)(((uintptr_t)scratch + 63) & ~(uintptr_t)63);
}

/* Some columns of rows, which will be dequantised later: a panel takes so little of a row that the processor does not
 * see what comes next. Where codes and factors lie apart this is roughly where they are. */
struct panel_ahead {
    const struct matrix *w;
    size_t at, bytes;
};

static inline struct panel_ahead panel_ahead(const struct matrix *w, int64_t first, int64_t n)
{
    const size_t row = w->row_bytes, n_in = (size_t)w->n_in;
    return (struct panel_ahead){w, row * (size_t)first / n_in, row * (size_t)n / n_in};
}

/* Asks for those of a row, if there is one, into the second cache. (gcc takes a call for one that does nothing.) */
static inline __attribute__((always_inline)) void panel_fetch(const struct panel_ahead *a,
                                                              int64_t row)
{
    if (row >= a->w->n_out)
        return;
    const char *p = (const char *)a->w->data + (size_t)row * a->w->row_bytes + a->at;
    for (size_t i = 0; i < a->bytes; i += 64)
        __builtin_prefetch(p + i, 0, 2);
}

/* Some tokens times a panel: y (+)= Σ over the terms of x[term] · panel[term]. */
struct bf16_tile {
    const uint16_t *x[BF16_TERMS];     /* [n_tok, BF16_CHUNK + BF16_GAP], n of each row */
    const uint16_t *panel[BF16_TERMS]; /* [n / 2, BF16_OUTPUTS, 2] */
    int n_terms;
    float *y;            /* [n_tok, y_stride] */
    int64_t y_stride, n; /* n: a multiple of BF16_STEP */
    int64_t n_row;       /* outputs that exist */
    int n_tok;
    bool fresh;  /* sums begin at 0, not at y */
    bool scaled; /* and then, if fresh, are added: y = keep ⊙ y + gain ⊙ sums; else y = sums */
    const float *keep, *gain; /* [n_row]; NULL: 1 */
};

#endif
