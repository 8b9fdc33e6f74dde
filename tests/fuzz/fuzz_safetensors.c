/* fuzz_safetensors.c: hostile safetensors files. What parses must hold what the header promises: every
 * extent inside the data and readable, every name found again, the data covered exactly.
 */
#include "formats/formats.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void require(bool condition)
{
    if (!condition)
        abort();
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct safetensors st;
    graft_error error;
    size_t covered = 0;
    volatile uint8_t sum = 0;
    graft_error_init(&error);
    if (safetensors_parse(&st, NULL, data, size, &error)) {
        require(error.message[0] != '\0' && !strchr(error.message, '\n'));
        return 0;
    }
    for (size_t i = 0; i < st.n_tensors; i++) {
        const struct tensor_info *tensor = &st.tensors[i];
        require(safetensors_find(&st, tensor->name) == tensor);
        require(tensor->data >= data && tensor->size <= size - (size_t)(tensor->data - data));
        for (size_t b = 0; b < tensor->size; b++)
            sum = (uint8_t)(sum + tensor->data[b]);
        covered += tensor->size;
    }
    require(!st.n_tensors || st.tensors[0].data + covered == data + size);
    safetensors_free(&st);
    return 0;
}
