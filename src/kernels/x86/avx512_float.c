/* avx512_float.c: the AVX-512 tier's products in floats: decode of unquantised weights, and prefill. */
#include "avx512_vec.h"

#define TIER avx512

/* 4 · 3 tiles of 2 chains: 24 sums, 3 vectors of x and one of weights in 32 registers. */
#define DECODE_CHAINS 2
#define DECODE_ROWS 4
#define DECODE_TOKENS 3
#include "kernels/decode_float_body.h"

/* 12 · 2 sums, 2 vectors of weights and one of x: 27 of 32 registers, and each vector of weights is
 * loaded for twelve tokens. */
#define PREFILL_TOKENS 12
#define PREFILL_VECTORS 2
#include "kernels/prefill_body.h"

/* 8 · 2 sums of outer products of a few ranks, 2 vectors of x and one of u. */
#define OUTER_RANKS 8
#define OUTER_VECTORS 2
#include "kernels/outer_body.h"

/* 2 chains of 4 · 2 sums of A·x; 6 · 4 sums of B, 4 vectors of B and one of u. */
#define LOWRANK_DOWN_RANKS 4
#define LOWRANK_DOWN_TOKENS 2
#define LOWRANK_UP_TOKENS 6
#define LOWRANK_UP_VECTORS 4
#include "kernels/lowrank_body.h"
