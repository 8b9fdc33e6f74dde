/* scalar_dequantize.c: the scalar tier's dequantisers and activation quantisers. The code is the
 * shared body: its results are the same on every tier.
 */
#include "kernels/scalar_convert.h"

#define TIER scalar
#include "kernels/dequantize_body.h"
