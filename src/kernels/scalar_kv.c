/* scalar_kv.c: the scalar tier's KV cache formats (the shared body). */
#include "kernels/scalar_convert.h"

#define TIER scalar
#include "kernels/kv_body.h"
