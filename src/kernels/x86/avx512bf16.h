/* avx512bf16.h: the making of bf16 panels with AVX-512, for the tiers avx512bf16 and amx. What each of
 * them does is said in prefill_bf16_body.h and outer_bf16_body.h.
 */
#ifndef GRAFT_KERNELS_AVX512BF16_H
#define GRAFT_KERNELS_AVX512BF16_H

#include "kernels/kernels_internal.h"

void avx512bf16_row(const struct matrix *w, int64_t row, int64_t first, int64_t n, uint16_t *out);
void avx512bf16_round(const float *x, int64_t n, uint16_t *out);
void avx512bf16_split(const float *x, int64_t n, uint16_t *large, uint16_t *small);
void avx512bf16_turn(const uint16_t *rows, int64_t n, uint16_t *out);
void avx512bf16_pairs(const uint16_t *a, const uint16_t *b, uint16_t *out);

void avx512bf16_columns(const float *x, int64_t x_stride, int64_t n_row, int64_t n, int64_t pitch,
                        uint16_t *large, uint16_t *small);
void avx512bf16_round_pairs(const float *a, const float *b, int64_t n, int64_t pitch,
                            uint16_t *out);

#endif
