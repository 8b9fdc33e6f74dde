/* avx512_lanes_words.h: the words in which the products with LANES rows of activations along the lanes
 * are written, for 16 lanes and for 8. Included by each ..._lanes_body.h, which is included once for
 * either width and ends with avx512_lanes_end.h.
 */
#define L(name) KERNEL_CAT(name, LANES)
#define ROWS struct L(lanes)

#if LANES == 16
#define LI __m512i
#define LF __m512
#define LV(op) KERNEL_CAT(_mm512_, op)
#define LV_LOAD(p) _mm512_loadu_si512(p)
#define LV_ZERO() _mm512_setzero_si512()
#else
#define LI __m256i
#define LF __m256
#define LV(op) KERNEL_CAT(_mm256_, op)
#define LV_LOAD(p) _mm256_loadu_si256((const __m256i *)(const void *)(p))
#define LV_ZERO() _mm256_setzero_si256()
#endif
