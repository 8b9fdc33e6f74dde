/* decode_tiles.h: what the tiles of quantised decode products, and of scores, of every tier need. Included after
 * a tier's ..._vec.h.
 */
#ifndef GRAFT_KERNELS_DECODE_TILES_H
#define GRAFT_KERNELS_DECODE_TILES_H

/* A single row of activations, or a few, needs each weight once, so reading them is all that counts. A
 * processor looks ahead for every stream of addresses that it sees: outputs are taken from so many parts
 * of the range at once, far apart, each part in order. It does not look far enough when others use the memory
 * too, so a stream is also asked for a page before it is needed. */
enum { DECODE_STREAMS = 4, STREAM_AHEAD = 4096 };

/* What a stream needs that much later than the bytes at p. */
ALWAYS_INLINE void stream_ahead(const uint8_t *p, int64_t bytes)
{
    for (int64_t i = 0; i < bytes; i += 64)
        prefetch(p + STREAM_AHEAD + i);
}

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
