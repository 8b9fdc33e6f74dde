/* neon_dequantize.c: the dequantisers and activation quantisers of the aarch64 tiers: the shared
 * body, where the compiler vectorises it.
 */
#include "neon_vec.h"

#define TIER neon
#include "kernels/dequantize_body.h"
