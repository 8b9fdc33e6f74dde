/* fuzz_npy.c: hostile .npy files: what parses is a whole array inside the file. */
#include "formats/formats.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct npy_array array;
    if (npy_parse_f32(&array, data, size, NULL))
        return 0;
    if (array.n_dims > TENSOR_MAX_DIMS || array.data + 4 * array.count != data + size)
        abort();
    return 0;
}
