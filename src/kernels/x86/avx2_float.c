/* avx2_float.c: the AVX2 tier's products in floats: decode of unquantised weights, and prefill. */
#include "avx2_vec.h"

#define TIER avx2
#include "kernels/decode_tiles.h"

#include "kernels/decode_float_body.h"

/* 6 · 2 sums, 2 vectors of weights and one of x: 15 of 16 registers, and 12 independent chains hide
 * the latency of the multiply-adds. */
#define PREFILL_TOKENS 6
#define PREFILL_VECTORS 2
#include "kernels/prefill_body.h"

/* 2 vectors of sums for each of 6 tokens, as above; of A·x one token, whose 8 chains want no more. */
#define LOWRANK_DOWN_TOKENS 1
#define LOWRANK_UP_TOKENS 6
#define LOWRANK_UP_VECTORS 2
#include "kernels/lowrank_body.h"
