/* avx2_float.c: the AVX2 tier's products in floats: decode of unquantised weights, and prefill. */
#include "avx2_vec.h"

#define TIER avx2

/* 3 · 2 tiles of 2 chains: 12 sums, 2 vectors of x and one of weights in 16 registers. */
#define DECODE_CHAINS 2
#define DECODE_ROWS 3
#define DECODE_TOKENS 2
#include "kernels/decode_float_body.h"

/* 6 · 2 sums, 2 vectors of weights and one of x: 15 of 16 registers, and 12 independent chains hide
 * the latency of the multiply-adds. */
#define PREFILL_TOKENS 6
#define PREFILL_VECTORS 2
#include "kernels/prefill_body.h"

/* 6 · 2 sums of outer products of a few ranks, 2 vectors of x and one of u. */
#define OUTER_RANKS 6
#define OUTER_VECTORS 2
#include "kernels/outer_body.h"

/* 2 chains of 2 · 3 sums of A·x, 3 vectors of x and one of A; 6 · 2 sums of B, 2 vectors of B, one of u. */
#define LOWRANK_DOWN_RANKS 2
#define LOWRANK_DOWN_TOKENS 3
#define LOWRANK_UP_TOKENS 6
#define LOWRANK_UP_VECTORS 2
#include "kernels/lowrank_body.h"
