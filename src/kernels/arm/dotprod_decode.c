/* dotprod_decode.c: the decode products of quantised weights with SDOT, which adds four products of
 * bytes to an int32. Its results are those of neon, bit by bit.
 */
#include "dotprod_words.h"

#define TIER dotprod
#include "decode_body.h"

KERNEL_Q8_TYPES(DECODE_ENTRY_32)
KERNEL_Q8K_TYPES(DECODE_ENTRY_256)
