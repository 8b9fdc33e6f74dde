/* avx512bf16.h: the making of bf16 panels with AVX-512, for the tiers avx512bf16 and amx. What each of
 * them does is said in prefill_bf16_body.h and outer_bf16_body.h.
 */
#ifndef GRAFT_KERNELS_AVX512BF16_H
#define GRAFT_KERNELS_AVX512BF16_H

#include "kernels/kernels_internal.h"

#if defined(__AVX512BF16__)
#include <immintrin.h>

/* 16 values of each of two rows, rounded, in turn. */
static inline __m512i avx512bf16_turn_pair(__m512 even, __m512 odd)
{
    const __m512i turn =
        _mm512_set_epi16(31, 15, 30, 14, 29, 13, 28, 12, 27, 11, 26, 10, 25, 9, 24, 8, 23, 7, 22, 6,
                         21, 5, 20, 4, 19, 3, 18, 2, 17, 1, 16, 0);
    return _mm512_permutexvar_epi16(turn, (__m512i)_mm512_cvtne2ps_pbh(odd, even));
}
#endif

void avx512bf16_row(const struct matrix *w, int64_t row, int64_t first, int64_t n, uint16_t *out);
void avx512bf16_round(const float *x, int64_t n, uint16_t *out);
void avx512bf16_split(const float *x, int64_t n, uint16_t *large, uint16_t *small);
void avx512bf16_turn(const uint16_t *rows, int64_t n, uint16_t *out);
void avx512bf16_pairs(const uint16_t *a, const uint16_t *b, uint16_t *out);

void avx512bf16_columns(const float *x, int64_t x_stride, int64_t n_row, int64_t n, int64_t pitch,
                        uint16_t *large, uint16_t *small);
void avx512bf16_round_pairs(const float *a, const float *b, int64_t n, uint16_t *out);

#endif
