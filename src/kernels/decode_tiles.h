/* decode_tiles.h: the loop around the decode tiles of every tier.
 *
 * A single token takes the rows of W one after the other, so that memory is read as one stream.
 * Several tokens take ROWS at a time, with the tokens inside while those rows are in the first
 * cache. TILE(type, w, x, o, y, y_stride, rows, tokens) is inlined with constant rows and tokens,
 * for whole tiles and for what remains; it computes each output by the same steps whatever the
 * tile, which is what makes a row's result independent of its company.
 */
#ifndef GRAFT_KERNELS_DECODE_TILES_H
#define GRAFT_KERNELS_DECODE_TILES_H

#define DECODE_TILE_ROWS(TILE, TYPE, ROWS, TOKENS, X, STEP)                                        \
    do {                                                                                           \
        int t = 0;                                                                                 \
        for (; t + (TOKENS) <= n_tok; t += (TOKENS))                                               \
            TILE(TYPE, w, (const X *)x + t * (STEP), o, y + t * y_stride, y_stride, ROWS, TOKENS); \
        for (; t < n_tok; t++)                                                                     \
            TILE(TYPE, w, (const X *)x + t * (STEP), o, y + t * y_stride, y_stride, ROWS, 1);      \
    } while (0)

/* X is the element of x, STEP how many of them a token has. */
#define DECODE_TILES(TILE, TYPE, ROWS, TOKENS, X, STEP)                                            \
    int64_t o = o_begin;                                                                           \
    for (; n_tok > 1 && (ROWS) > 1 && o + (ROWS) <= o_end; o += (ROWS))                            \
        DECODE_TILE_ROWS(TILE, TYPE, ROWS, TOKENS, X, STEP);                                       \
    for (; o < o_end; o++)                                                                         \
        DECODE_TILE_ROWS(TILE, TYPE, 1, TOKENS, X, STEP);

/* ---- for tiles of quantised types ---------------------------------------------------------- */

/* The same pointer, of which the compiler knows nothing: it would give each row of a tile a register
 * of its own, and has too few. */
ALWAYS_INLINE const void *one_pointer(const void *p)
{
    __asm__("" : "+r"(p));
    return p;
}

/* Memory to ask for while a product runs, so many bytes more with each block. */
struct wanted {
    const uint8_t *p;
    size_t step;
};

/* A `parts`-th of a block's share. */
ALWAYS_INLINE void want_more(struct wanted *next, size_t parts)
{
    const uint8_t *end = next->p + next->step / parts;
    for (const uint8_t *p = next->p; p < end; p += 64)
        prefetch(p);
    next->p = end;
}

#endif
