/* npy.h: NumPy's .npy files of float32: goldens that are read, arrays that NumPy is to read. For tests
 * only; `graft logits` writes its own.
 */
#ifndef CONFORMANCE_NPY_H
#define CONFORMANCE_NPY_H

#include "formats/formats.h"

/* A parsed array; data is in the bytes given, little-endian, row-major, maybe unaligned. */
struct npy_array {
    int n_dims;
    int64_t shape[TENSOR_MAX_DIMS];
    size_t count;        /* of values */
    const uint8_t *data; /* count · 4 bytes */
};
/* Writes PATH atomically, format version 1.0, '<f4', row-major. */
graft_status npy_write_f32(struct mem *mem, const char *path, const float *data,
                           const int64_t *shape, int n_dims, graft_error *error);
/* Reads '<f4', row-major, versions 1.0 and 2.0; the data must fill the file exactly. */
graft_status npy_parse_f32(struct npy_array *out, const uint8_t *bytes, size_t size,
                           graft_error *error);

#endif
