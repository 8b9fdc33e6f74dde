/* decode_tiles.h: what the tiles of quantised decode products, and of scores, of every tier need. Included after
 * a tier's ..._vec.h.
 */
#ifndef GRAFT_KERNELS_DECODE_TILES_H
#define GRAFT_KERNELS_DECODE_TILES_H

/* A single row of activations, or a few, needs each weight once, so reading them is all that counts. A tile of
 * outputs is read as so many streams. A processor looks ahead for every stream of addresses that it sees, but
 * not far enough when others use the memory too, so what comes later is also asked for. The rows of a tile lie side by side,
 * and what is asked for are those of the next one; or far apart, each stream in order through its part of the range,
 * which pays where that is long. */
enum { DECODE_STREAMS = 4, STREAM_AHEAD = 4096, STREAM_FAR = 16 << 20 };

struct streams {
    int64_t tiles; /* whole ones */
    int64_t apart; /* outputs of one tile */
    int64_t next;  /* first outputs of two tiles */
    size_t ahead;  /* from the weights in hand to those to ask for */
};

/* Outputs o_begin..o_end in tiles of n, side by side. */
static inline struct streams near_streams(const struct matrix *w, int64_t o_begin, int64_t o_end,
                                          int n)
{
    return (struct streams){(o_end - o_begin) / n, 1, n, (size_t)n * w->row_bytes};
}

/* Or far apart. */
static inline struct streams streams_of(const struct matrix *w, int64_t o_begin, int64_t o_end,
                                        int n)
{
    struct streams s = near_streams(w, o_begin, o_end, n);
    if ((o_end - o_begin) * (int64_t)w->row_bytes >= STREAM_FAR)
        s = (struct streams){s.tiles, s.tiles, 1, STREAM_AHEAD};
    return s;
}

/* One output after the other. */
static inline struct streams single_stream(const struct matrix *w)
{
    return (struct streams){.next = 1, .ahead = w->row_bytes};
}

/* What a stream needs that much later than the bytes at p. */
ALWAYS_INLINE void stream_ahead(const struct streams *s, const uint8_t *p, int64_t bytes)
{
    for (int64_t i = 0; i < bytes; i += 64)
        prefetch(p + s->ahead + i);
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

/* n places of it, `step` bytes apart. Their number is known when compiled: a loop that ends now here, now there, is
 * guessed wrong once in a while, which costs a product more than lines that are asked for twice. */
ALWAYS_INLINE void want_evenly(struct wanted *next, int n)
{
    TIMES(i, n) prefetch(next->p + (size_t)i * next->step);
    next->p += (size_t)n * next->step;
}

/* What is asked for beside that, for what comes after the product (struct ahead): so many places for each 32 values. */
enum { AHEAD_PLACES = 3 };

struct asking {
    const struct ahead_piece *piece;
    size_t at, left; /* bytes: in the piece; of all */
};

static inline struct asking asking_of(const struct matrix *w)
{
    struct asking a = {.piece = w->ahead ? w->ahead->pieces : NULL};
    for (int i = 0; w->ahead && i < w->ahead->n; i++)
        a.left += a.piece[i].bytes;
    return a;
}

/* The share of one of `steps` steps, which asks in so many places: some of one piece, and a little more than its part
 * since pieces end within. When there is nothing left, `idle` again and again. */
static inline struct wanted asking_share(struct asking *a, int64_t steps, int64_t places,
                                         const void *idle)
{
    if (!a->left)
        return (struct wanted){idle, 0};
    const uint8_t *p = (const uint8_t *)a->piece->data + a->at;
    size_t share = a->left / (size_t)steps * 5 / 4 + 64, most = (size_t)places * 64;
    size_t n = a->piece->bytes - a->at;
    share = share < most ? share : most;
    n = n < share ? n : share;
    a->left -= n;
    a->at += n;
    if (a->at == a->piece->bytes) {
        a->piece++;
        a->at = 0;
    }
    return (struct wanted){p, (n + (size_t)places - 1) / (size_t)places};
}

#endif
