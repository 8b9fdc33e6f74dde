/* formats.h: containers of tensors: safetensors and GGUF, bytes ↔ descriptors.
 *
 * Readers take untrusted bytes and give descriptors whose extents are inside the file; nothing is
 * interpreted or converted. Writers stream: declare every tensor, then write the data in order. No
 * arithmetic on values here, no knowledge of models.
 *
 * Errors name the file and, where it applies, the tensor. Sources: the safetensors format README
 * (Hugging Face) and the GGUF specification (ggml).
 */
#ifndef GRAFT_FORMATS_H
#define GRAFT_FORMATS_H

#include "base/base.h"

enum { TENSOR_MAX_DIMS = 8 };

/* One stored tensor. shape is outermost first (row-major), so a GGUF ne=[in, out] is {out, in}. */
struct tensor_info {
    const char *name; /* owned by the container, NUL-terminated */
    graft_type type;
    int n_dims; /* 0 for a scalar */
    int64_t shape[TENSOR_MAX_DIMS];
    const uint8_t *data; /* inside the container's bytes */
    size_t size;         /* bytes */
};

/* ---- safetensors -------------------------------------------------------------------------- */

struct safetensors {
    struct mem *mem;
    struct tensor_info *tensors; /* in file order of data_offsets */
    size_t n_tensors;
    json_t *metadata; /* the __metadata__ object of strings, or NULL */
    struct arena names;
    struct str_map index;
};

/* Parses a whole file's bytes, which must outlive the result. Rules: header length ≤ 100 MB and
 * inside the file, one JSON object without duplicate keys, offsets ordered, contiguous, covering the
 * data exactly, each extent equal to product(shape) · size(dtype); unknown dtype: refused. A file
 * that begins like a Git-LFS pointer or a pickle is refused by that name. */
graft_status safetensors_parse(struct safetensors *out, struct mem *mem, const uint8_t *bytes,
                               size_t size, graft_error *error);
const struct tensor_info *safetensors_find(const struct safetensors *st, const char *name);
void safetensors_free(struct safetensors *st); /* a zeroed one is allowed */

/* What a writer will write: data of each tensor follows through safetensors_write_data in order. */
struct tensor_decl {
    const char *name;
    graft_type type;
    int n_dims;
    int64_t shape[TENSOR_MAX_DIMS];
};
/* Writes the header; metadata is an object of strings or NULL. Then write the tensors' bytes in
 * declared order through file_writer_write; sizes are type_row_bytes-exact, no padding between. */
graft_status safetensors_write_header(struct file_writer *w, const struct tensor_decl *tensors,
                                      size_t n_tensors, const json_t *metadata, graft_error *error);

/* ---- GGUF --------------------------------------------------------------------------------- */

enum gguf_type {
    GGUF_U8,
    GGUF_I8,
    GGUF_U16,
    GGUF_I16,
    GGUF_U32,
    GGUF_I32,
    GGUF_F32,
    GGUF_BOOL,
    GGUF_STRING,
    GGUF_ARRAY,
    GGUF_U64,
    GGUF_I64,
    GGUF_F64,
    GGUF_TYPE_COUNT
};

/* One metadata entry. Scalars: `count` is 1 and `data` points at the little-endian value (maybe
 * unaligned) in the file. Arrays: item type, count, first item. Strings and arrays of strings are
 * reached with gguf_string_at. */
struct gguf_value {
    const char *key;     /* NUL-terminated copy */
    enum gguf_type type; /* of the value, or of the items */
    bool is_array;
    uint64_t count;
    const uint8_t *data;
    size_t size; /* bytes of data */
};

struct gguf {
    struct mem *mem;
    uint32_t version;
    struct gguf_value *values;
    size_t n_values;
    struct tensor_info *tensors;
    size_t n_tensors;
    uint64_t alignment;
    size_t data_offset; /* of the tensor data in the file */
    struct arena names;
    struct str_map value_index, tensor_index;
};

/* Parses a whole file (versions 2 and 3, little-endian). Counts are bounded by the bytes that are
 * there, so nothing large is allocated for a small file. Unsupported tensor types (IQ*, TQ*, …) are
 * refused by name. Nested arrays are refused. A vocabulary-only file (no tensors) is fine. */
graft_status gguf_parse(struct gguf *out, struct mem *mem, const uint8_t *bytes, size_t size,
                        graft_error *error);
void gguf_free(struct gguf *g); /* a zeroed one is allowed */
const struct tensor_info *gguf_find_tensor(const struct gguf *g, const char *name);
const struct gguf_value *gguf_find(const struct gguf *g, const char *key);
/* Typed access, as json_get_*: absent leaves *out alone and is OK; any integer width is accepted by
 * _int (negative or above INT64_MAX is FORMAT unless in [min, max]); any float or integer by
 * _number. */
graft_status gguf_get_int(const struct gguf *g, const char *key, int64_t min, int64_t max,
                          int64_t *out, graft_error *error);
graft_status gguf_get_number(const struct gguf *g, const char *key, double *out,
                             graft_error *error);
graft_status gguf_get_bool(const struct gguf *g, const char *key, bool *out, graft_error *error);
/* *out points into the file and is NOT NUL-terminated. Absent: *out NULL. */
graft_status gguf_get_string(const struct gguf *g, const char *key, const char **out,
                             size_t *length, graft_error *error);
/* Arrays: items by index; false when out of range or of another type. Strings must be read in order
 * through the cursor, which makes a pass over n strings O(n). */
struct gguf_cursor {
    const uint8_t *next;
    uint64_t left;
};
bool gguf_strings(const struct gguf_value *v,
                  struct gguf_cursor *cursor); /* false: no string array */
bool gguf_next_string(struct gguf_cursor *cursor, const char **text, size_t *length);
bool gguf_item_number(const struct gguf_value *v, uint64_t i, double *out); /* ints and floats */

/* Writing: gather metadata and tensor declarations, write the head, then each tensor's bytes in
 * declared order with gguf_write_tensor (which pads to the alignment, 32). */
struct gguf_writer {
    struct mem *mem;
    struct buf values;
    uint64_t n_values;
    struct buf infos;
    uint64_t n_tensors, offset;
};
void gguf_writer_init(struct gguf_writer *w, struct mem *mem);
void gguf_put_u32(struct gguf_writer *w, const char *key, uint32_t value);
void gguf_put_f32(struct gguf_writer *w, const char *key, float value);
void gguf_put_bool(struct gguf_writer *w, const char *key, bool value);
void gguf_put_string(struct gguf_writer *w, const char *key, const char *text, size_t length);
/* Arrays of strings, of f32, of i32. */
void gguf_put_strings(struct gguf_writer *w, const char *key, const char *const *texts,
                      const size_t *lengths, uint64_t count);
void gguf_put_f32s(struct gguf_writer *w, const char *key, const float *values, uint64_t count);
void gguf_put_i32s(struct gguf_writer *w, const char *key, const int32_t *values, uint64_t count);
graft_status gguf_declare(struct gguf_writer *w, const struct tensor_decl *tensor,
                          graft_error *error);
graft_status gguf_write_head(struct gguf_writer *w, struct file_writer *file, graft_error *error);
graft_status gguf_write_tensor(struct file_writer *file, const void *bytes, size_t size,
                               graft_error *error);
void gguf_writer_free(struct gguf_writer *w);

#endif
