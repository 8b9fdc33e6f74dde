/* avx2_training.c: the AVX2 tier's part of training but for outer products (avx2_float.c): the shared bodies.
 */
#include "avx2_vec.h"

#define TIER avx2
#include "kernels/training_body.h"

/* 6 · 2 sums, 2 vectors of a panel and one of x: 15 of 16 registers. */
#define SELF_ROWS 6
#define SELF_VECTORS 2
#include "kernels/self_attention_body.h"
