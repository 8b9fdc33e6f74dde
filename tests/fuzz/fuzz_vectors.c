/* fuzz_vectors.c: hostile files of vectors: what is taken are numbers, and nothing is left behind. */
#include "train/vectors/vectors.h"

#include <math.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void require(bool condition)
{
    if (!condition)
        abort();
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct mem mem;
    struct vectors *v = NULL;
    graft_error error = {0};
    mem_init(&mem, NULL);
    graft_status status = vectors_parse(&mem, (const char *)data, size, &v, &error);
    if (status != GRAFT_OK) {
        require(!v && error.status == status && error.message[0]);
        require(atomic_load(&mem.bytes_in_use) == 0);
        return 0;
    }
    require(vectors_count(v) > 0 && vectors_in(v) > 0 && vectors_out(v) > 0);
    for (int64_t i = 0; i < vectors_count(v); i++) {
        const struct vector_example e = vectors_at(v, i);
        require(e.quality >= 0 && e.quality <= 1);
        for (int k = 0; k < vectors_in(v); k++)
            require(isfinite(e.input[k]));
        for (int k = 0; e.target && k < vectors_out(v); k++)
            require(isfinite(e.target[k]));
    }
    vectors_close(&v);
    require(atomic_load(&mem.bytes_in_use) == 0);
    return 0;
}
