/* avx512.c: the tables of the AVX-512 tiers: avx512 (F, BW, DQ, VL and VNNI), and avx512bf16 and amx,
 * which differ by their products through panels and by those of BF16 weights. They have names of their own
 * because what a product gives depends on the tier and not on the processor.
 */
#include "kernels/kernels_internal.h"

#define AVX512_DEQUANTIZE(TYPE, name) [GRAFT_TYPE_##TYPE] = avx512_dequantize_##name,
#define AVX512_DECODE(TYPE, name) [GRAFT_TYPE_##TYPE] = avx512_linear_decode_##name,

/* vdpbf16ps takes weights of BF16 alone. */
#define AVX512BF16_DECODE(TYPE, name)                                                              \
    [GRAFT_TYPE_##TYPE] = GRAFT_TYPE_##TYPE == GRAFT_TYPE_BF16 ? avx512bf16_linear_decode_bf16     \
                                                               : avx512_linear_decode_##name,

/* What the tiers have in common. */
#define AVX512_SPLITS .splits = {[GRAFT_TYPE_Q4_0] = true, [GRAFT_TYPE_Q8_0] = true}

const struct kernels avx512_kernels = {
    KERNEL_TABLE_PANELS(avx512),
    KERNEL_TABLE_REST(avx512, AVX512_DEQUANTIZE, AVX512_DECODE),
    KERNEL_TABLE_LOWRANK(avx512, ROLE_PREFILL),
    AVX512_SPLITS,
};

const struct kernels avx512bf16_kernels = {
    KERNEL_TABLE_BF16(avx512bf16), KERNEL_TABLE_REST(avx512, AVX512_DEQUANTIZE, AVX512BF16_DECODE),
    .bf16_rows = PANEL_SPLIT,      .quantised_panels = PANEL_BF16,
    .float_deltas = PANEL_SPLIT,   AVX512_SPLITS,
};

const struct kernels amx_kernels = {
    KERNEL_TABLE_BF16(amx),
    KERNEL_TABLE_REST(avx512, AVX512_DEQUANTIZE, AVX512BF16_DECODE),
    .bf16_rows = PANEL_SPLIT,
    .float_panels = PANEL_SPLIT,
    .float_deltas = PANEL_SPLIT,
    .quantised_panels = PANEL_BF16,
    AVX512_SPLITS,
};
