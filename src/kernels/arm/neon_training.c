/* neon_training.c: the aarch64 tiers' part of training but for outer products (neon_float.c): the shared bodies.
 */
#include "neon_vec.h"

#define TIER neon
#include "kernels/training_body.h"

/* 6 · 4 sums, 4 vectors of a panel and one of x: 29 of 32 registers. */
#define SELF_ROWS 6
#define SELF_VECTORS 4
#include "kernels/self_attention_body.h"
