/* split.h: rows of packed weights (LAYOUT_SPLIT), and where a block lies in one.
 *
 * A row in its file is blocks of an odd number of bytes, each its factor and then its codes: vectors of codes
 * cross lines of the cache and have to be picked out of two loads. Split, each span of SPLIT_SPAN blocks is one
 * line of factors and then all of its codes, in the order in which AVX-512 products take them:
 *
 *   factors  the half-precision d of each block, and zeros
 *   codes    of each SPLIT_GROUP blocks, zeros for those that the last group lacks:
 *            Q4_0   16 bytes of each block, as in the file
 *            Q8_0   values 0..15 of each block, then values 16..31 of each; 128 is added
 *
 * The last span ends with its last group. So every load of a product is whole and aligned, nothing is read past
 * a row, and a row is read from its first line to its last: all factors at one end of it would break the order
 * in which processors fetch ahead, and be half as fast from memory.
 */
#ifndef GRAFT_KERNELS_SPLIT_H
#define GRAFT_KERNELS_SPLIT_H

#include "kernels/kernels_internal.h"

enum { SPLIT_GROUP = 4, SPLIT_SPAN = 32, SPLIT_LINE = 64 };

/* Bytes of the codes of a block; 0: the type has no such layout. */
static inline int64_t split_code_bytes(graft_type type)
{
    return type == GRAFT_TYPE_Q4_0 ? 16 : type == GRAFT_TYPE_Q8_0 ? 32 : 0;
}

/* From the beginning of a row to the factor of a block; to the codes of one that begins a group. */
static inline int64_t split_factor_at(graft_type type, int64_t index)
{
    return index / SPLIT_SPAN * (SPLIT_LINE + SPLIT_SPAN * split_code_bytes(type)) +
           index % SPLIT_SPAN * 2;
}

static inline int64_t split_group_at(graft_type type, int64_t index)
{
    return (index / SPLIT_SPAN + 1) * SPLIT_LINE + index * split_code_bytes(type);
}

/* Where in a row the parts of a block lie. */
struct split_place {
    int64_t factor;
    int64_t low, high; /* Q4_0: all codes at low; Q8_0: half of them at each */
};

static inline struct split_place split_place(graft_type type, int64_t index)
{
    const int64_t in_group = index % SPLIT_GROUP;
    const int64_t low = split_group_at(type, index - in_group) + in_group * 16;
    return (struct split_place){split_factor_at(type, index), low, low + SPLIT_GROUP * 16};
}

#endif
