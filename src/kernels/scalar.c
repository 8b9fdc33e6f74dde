/* scalar.c: the table of the scalar tier, the specification of every other. */
#include "kernels/kernels_internal.h"

#define SCALAR_DEQUANTIZE(TYPE, name) [GRAFT_TYPE_##TYPE] = scalar_dequantize_##name,
#define SCALAR_DECODE(TYPE, name) [GRAFT_TYPE_##TYPE] = scalar_linear_decode_##name,

const struct kernels scalar_kernels = KERNEL_TABLE(scalar, SCALAR_DEQUANTIZE, SCALAR_DECODE);
