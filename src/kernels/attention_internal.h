/* attention_internal.h: what the attention of every tier asks: which positions a row sees. */
#ifndef GRAFT_KERNELS_ATTENTION_INTERNAL_H
#define GRAFT_KERNELS_ATTENTION_INTERNAL_H

#include "kernels/kernels_internal.h"

/* Queries of a tile: as many whole rows as fill it, or one row of more heads. */
enum { ATTENTION_QUERIES = 64 };

/* The m of a query that has seen nothing: finite, so that m − m is 0. */
#define ATTENTION_NOTHING (-3.4e38f)

/* Positions of a block, counted from its first: none when begin >= end. */
struct attention_span {
    int begin, end;
};

/* What row `row` of the tile sees of block `block`; both ends grow with the row. */
static inline struct attention_span attention_visible(const struct attention_args *a, int64_t block,
                                                      int row)
{
    int64_t pos = a->pos + row, from = block * KV_BLOCK, end = pos + 1;
    int64_t begin = a->window && pos >= a->window ? pos - a->window + 1 : 0;
    begin = (begin > a->begin ? begin : a->begin) - from;
    end = (end < a->end ? end : a->end) - from;
    return (struct attention_span){(int)(begin < 0          ? 0
                                         : begin > KV_BLOCK ? KV_BLOCK
                                                            : begin),
                                   (int)(end < 0          ? 0
                                         : end > KV_BLOCK ? KV_BLOCK
                                                          : end)};
}

/* What the rows of the tile see together of a block. */
static inline struct attention_span attention_union(const struct attention_args *a, int64_t block)
{
    return (struct attention_span){attention_visible(a, block, 0).begin,
                                   attention_visible(a, block, a->n_row - 1).end};
}

/* m, l and out of rows that have seen nothing yet. */
void attention_start(const struct attention_args *a);

/* The blocks of which rows of the tile may see something: from *first to before *last. */
void attention_blocks(const struct attention_args *a, int64_t *first, int64_t *last);

#endif
