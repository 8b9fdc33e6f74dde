/* avx2_ops.c: the AVX2 tier's norms, activations, softmax, rotary embedding, cache formats and
 * attention: the shared bodies, and what has no common form.
 */
#include "avx2_vec.h"

#define TIER avx2
#include "kernels/kv_body.h"

#include "kernels/ops_body.h"

#include "kernels/attention_body.h"

/* Four planes (x[2i], x[2i+1]) a step: x·cos ± swapped(x)·sin. */
void avx2_rope_interleaved(float *x, const float *cos, const float *sin, int d_head)
{
    const __m256i twice = _mm256_setr_epi32(0, 0, 1, 1, 2, 2, 3, 3);
    int i = 0, planes = d_head / 2;
    for (; i + 4 <= planes; i += 4) {
        __m256 c = _mm256_castps128_ps256(_mm_loadu_ps(cos + i));
        __m256 s = _mm256_castps128_ps256(_mm_loadu_ps(sin + i));
        c = _mm256_permutevar8x32_ps(c, twice);
        s = _mm256_permutevar8x32_ps(s, twice);
        __m256 v = _mm256_loadu_ps(x + 2 * i), swapped = _mm256_permute_ps(v, 0xB1);
        __m256 out = _mm256_addsub_ps(_mm256_mul_ps(v, c), _mm256_mul_ps(swapped, s));
        _mm256_storeu_ps(x + 2 * i, out);
    }
    for (; i < planes; i++) {
        float a = x[2 * i], b = x[2 * i + 1];
        x[2 * i] = a * cos[i] - b * sin[i];
        x[2 * i + 1] = b * cos[i] + a * sin[i];
    }
}
