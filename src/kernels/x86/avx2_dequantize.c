/* avx2_dequantize.c: the AVX2 tier's dequantisers and activation quantisers: the shared body,
 * compiled with this tier's instructions.
 */
#include "avx2_vec.h"

#define TIER avx2
#include "kernels/dequantize_body.h"
