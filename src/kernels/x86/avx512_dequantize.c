/* avx512_dequantize.c: the AVX-512 tier's dequantisers and activation quantisers: the shared body,
 * compiled with this tier's instructions.
 */
#include "avx512_vec.h"

#define TIER avx512
#include "kernels/dequantize_body.h"
