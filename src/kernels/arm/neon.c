/* neon.c: the tables of the aarch64 tiers. They differ in the integer products of decode alone, and
 * in those by no bit.
 */
#include "kernels/kernels_internal.h"

#define NEON_DEQUANTIZE(TYPE, name) [GRAFT_TYPE_##TYPE] = neon_dequantize_##name,
#define NEON_DECODE(TYPE, name) [GRAFT_TYPE_##TYPE] = neon_linear_decode_##name,
#define DOTPROD_DECODE(TYPE, name) [GRAFT_TYPE_##TYPE] = dotprod_linear_decode_##name,
#define I8MM_DECODE(TYPE, name) [GRAFT_TYPE_##TYPE] = i8mm_linear_decode_##name,

/* Unquantised weights have no integers. */
#define dotprod_linear_decode_f32 neon_linear_decode_f32
#define dotprod_linear_decode_f16 neon_linear_decode_f16
#define dotprod_linear_decode_bf16 neon_linear_decode_bf16
#define i8mm_linear_decode_f32 neon_linear_decode_f32
#define i8mm_linear_decode_f16 neon_linear_decode_f16
#define i8mm_linear_decode_bf16 neon_linear_decode_bf16

const struct kernels neon_kernels = KERNEL_TABLE(neon, NEON_DEQUANTIZE, NEON_DECODE);
const struct kernels dotprod_kernels = {
    .tier = "dotprod",
    .linear_prefill = neon_linear_prefill,
    .linear_transposed = neon_linear_transposed,
    .outer = neon_outer,
    KERNEL_TABLE_REST(neon, NEON_DEQUANTIZE, DOTPROD_DECODE),
    KERNEL_TABLE_LOWRANK(neon, ROLE_PREFILL),
};
const struct kernels i8mm_kernels = {
    .tier = "i8mm",
    .linear_prefill = neon_linear_prefill,
    .linear_transposed = neon_linear_transposed,
    .outer = neon_outer,
    KERNEL_TABLE_REST(neon, NEON_DEQUANTIZE, I8MM_DECODE),
    KERNEL_TABLE_LOWRANK(neon, ROLE_PREFILL),
};
