/* avx512_training.c: the AVX-512 tier's part of training but for outer products (avx512_float.c): the shared bodies.
 */
#include "avx512_vec.h"

#define TIER avx512
#include "kernels/training_body.h"

/* 12 · 2 sums, 2 vectors of a panel and one of x: 27 of 32 registers. */
#define SELF_ROWS 12
#define SELF_VECTORS 2
#include "kernels/self_attention_body.h"
