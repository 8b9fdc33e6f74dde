/* avx512_ops.c: the AVX-512 tier's norms, activations, softmax, rotary embedding, cache formats and
 * attention: the shared bodies, and what has no common form.
 */
#include "avx512_vec.h"

#define TIER avx512
#include "kernels/kv_body.h"

#include "kernels/ops_body.h"

#include "kernels/attention_body.h"

/* Eight planes (x[2i], x[2i+1]) a step: x·cos ± swapped(x)·sin. */
void avx512_rope_interleaved(float *x, const float *cos, const float *sin, int d_head)
{
    const __m512i twice = _mm512_setr_epi32(0, 0, 1, 1, 2, 2, 3, 3, 4, 4, 5, 5, 6, 6, 7, 7);
    int planes = d_head / 2;
    for (int i = 0; i < planes; i += 8) {
        int64_t left = planes - i < 8 ? planes - i : 8;
        __m512 c = _mm512_permutexvar_ps(twice, v_load_n(cos + i, left));
        __m512 s = _mm512_permutexvar_ps(twice, v_load_n(sin + i, left));
        __m512 v = v_load_n(x + 2 * i, 2 * left), swapped = _mm512_permute_ps(v, 0xB1);
        v_store_n(x + 2 * i, _mm512_fmaddsub_ps(v, c, _mm512_mul_ps(swapped, s)), 2 * left);
    }
}
