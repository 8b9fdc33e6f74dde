/* avx2.c: the table of the AVX2 tier (with FMA and F16C). */
#include "kernels/kernels_internal.h"

#define AVX2_DEQUANTIZE(TYPE, name) [GRAFT_TYPE_##TYPE] = avx2_dequantize_##name,
#define AVX2_DECODE(TYPE, name) [GRAFT_TYPE_##TYPE] = avx2_linear_decode_##name,

const struct kernels avx2_kernels = KERNEL_TABLE(avx2, AVX2_DEQUANTIZE, AVX2_DECODE);
