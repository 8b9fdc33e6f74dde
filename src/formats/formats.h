/* formats.h: containers of tensors: safetensors and GGUF, bytes ↔ descriptors.
 *
 * Readers take untrusted bytes and give descriptors whose extents are inside the file; nothing is
 * interpreted or converted. Writers stream: declare every tensor, then write the data in order. No
 * arithmetic on values here, no knowledge of models.
 *
 * Errors name the tensor where it applies, in the message and in graft_error.tensor; the pure
 * parsers do not know the file, so their callers add it (error_at_file; tensor_set_open does).
 * Sources: the safetensors format README (Hugging Face), the GGUF specification (ggml).
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
    const uint8_t *data; /* inside the container's bytes; no alignment is promised */
    size_t size;         /* bytes, exactly what type and shape ask for */
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

/* Parses a whole file's bytes, which must outlive the result. *out is written only on success.
 * Rules: header length ≤ 100 MB and inside the file, one JSON object without duplicate keys, extents
 * contiguous and covering the data exactly, each equal to product(shape) · size(dtype); at most
 * TENSOR_MAX_DIMS dimensions; names neither empty nor holding NUL; a dtype without a graft_type and
 * unknown fields are refused by name. A file that begins like a Git-LFS pointer, a pickle, a zip or
 * a GGUF is refused by that name. */
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
/* Writes the header, padded so that the data begins on 64 bytes; metadata is an object of strings or
 * NULL. Then write the tensors' bytes in declared order through file_writer_write; sizes are
 * type_row_bytes-exact, no padding between. INVALID_ARGUMENT: a name that is empty, twice there, not
 * UTF-8 or "__metadata__"; a type safetensors cannot hold; a bad shape. */
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
 * unaligned) in the file. Arrays: item type, count, first item. A string is stored as its 64-bit
 * length and its bytes: use gguf_get_string, and gguf_strings for arrays of them. */
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
    struct tensor_info *tensors; /* in the order of their descriptions */
    size_t n_tensors;
    uint64_t alignment;
    size_t data_offset; /* of the tensor data in the file */
    struct arena names;
    struct str_map value_index, tensor_index;
};

/* Parses a whole file (versions 2 and 3, little-endian), which must outlive the result. *out is
 * written only on success. Counts are bounded by the bytes that are there, so nothing large is
 * allocated for a small file. Unsupported tensor types (IQ*, TQ*, …) are refused by name. Nested
 * arrays, keys and tensor names that are empty, hold NUL or are not UTF-8, booleans other than 0 and
 * 1, overlapping tensors are refused. Gaps, any order of the data and bytes after the last tensor
 * are not. A vocabulary-only file (no tensors) is fine. */
graft_status gguf_parse(struct gguf *out, struct mem *mem, const uint8_t *bytes, size_t size,
                        graft_error *error);
void gguf_free(struct gguf *g); /* a zeroed one is allowed */
const struct tensor_info *gguf_find_tensor(const struct gguf *g, const char *name);
const struct gguf_value *gguf_find(const struct gguf *g, const char *key);
/* Typed access, as json_get_*: absent leaves *out alone and is OK; another type, an array or a value
 * outside [min, max] is FORMAT naming the key. _int takes any integer width; _number any integer or
 * finite float. */
graft_status gguf_get_int(const struct gguf *g, const char *key, int64_t min, int64_t max,
                          int64_t *out, graft_error *error);
graft_status gguf_get_number(const struct gguf *g, const char *key, double *out,
                             graft_error *error);
graft_status gguf_get_bool(const struct gguf *g, const char *key, bool *out, graft_error *error);
/* *out points into the file and is NOT NUL-terminated. Absent: *out NULL, *length 0. */
graft_status gguf_get_string(const struct gguf *g, const char *key, const char **out,
                             size_t *length, graft_error *error);
/* Arrays: numbers by index (integers and floats, as stored: NaN may come); false when out of range or
 * of another type. Strings must be read in order through the cursor, which makes a pass over n
 * strings O(n). */
struct gguf_cursor {
    const uint8_t *next;
    uint64_t left;
};
bool gguf_strings(const struct gguf_value *v,
                  struct gguf_cursor *cursor); /* false: no string array */
bool gguf_next_string(struct gguf_cursor *cursor, const char **text, size_t *length);
bool gguf_item_number(const struct gguf_value *v, uint64_t i, double *out); /* ints and floats */

/* Writing: gather metadata and tensor declarations, write the head, then each tensor's bytes in
 * declared order with gguf_write_tensor (which pads to the alignment, 32). A put that fails (memory,
 * size) makes gguf_write_head fail; keys are the caller's to keep unique. */
enum { GGUF_WRITE_ALIGNMENT = 32, GGUF_WRITE_MAX_NAME = 63, GGUF_MAX_DIMS = 4 };
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
/* Copies an entry of a file that was read, whatever its type, under the same key. */
void gguf_put_value(struct gguf_writer *w, const struct gguf_value *value);
/* INVALID_ARGUMENT: a name that is empty or longer than GGUF_WRITE_MAX_NAME bytes (other readers
 * stop there), a type GGUF cannot hold, more than GGUF_MAX_DIMS dimensions, a dimension below 1, a
 * row that is no whole number of blocks. */
graft_status gguf_declare(struct gguf_writer *w, const struct tensor_decl *tensor,
                          graft_error *error);
graft_status gguf_write_head(struct gguf_writer *w, struct file_writer *file, graft_error *error);
/* The bytes of one tensor, or the last piece of them (earlier pieces: file_writer_write). */
graft_status gguf_write_tensor(struct file_writer *file, const void *bytes, size_t size,
                               graft_error *error);
void gguf_writer_free(struct gguf_writer *w); /* a zeroed one is allowed */

/* ---- sets of tensors: one file, or a directory of shards ---------------------------------- */

/* The tensors of one model, wherever they are stored. Files stay mapped (or copied) until close. */
struct tensor_set {
    struct mem *mem;
    struct file_map *maps; /* [n_maps] */
    size_t n_maps;
    struct safetensors *files; /* [n_maps]; NULL when it is a GGUF */
    struct gguf *gguf;         /* NULL unless it is a GGUF (then n_maps is 1) */
    struct tensor_ref *refs;   /* [n_refs] by index */
    size_t n_refs;
    struct str_map index;
};

/* Opens `path`: a .safetensors or .gguf file (told apart by content, not by name), or a directory
 * with, in this order: model.safetensors; model.safetensors.index.json and its shards; exactly one
 * *.gguf. Refused with the reason: shard names that are no plain file names, shards that are missing
 * (all named in one message), a tensor that is in the index but not in its shard, a tensor that is in
 * two shards, one part of a split GGUF, a directory of pickles, several *.gguf. Errors name the file.
 * What a shard holds beyond the index is part of the set. NOT_FOUND: no such path, or nothing to open
 * there. *out is written only on success. */
graft_status tensor_set_open(struct tensor_set *out, struct mem *mem, const char *path,
                             enum map_mode mode, graft_error *error);
const struct tensor_info *tensor_set_find(const struct tensor_set *set, const char *name);
size_t tensor_set_count(const struct tensor_set *set);
/* By index, file by file (shards in order of their names). NULL, and NULL, when out of range. */
const struct tensor_info *tensor_set_at(const struct tensor_set *set, size_t i);
const char *tensor_set_file(const struct tensor_set *set, size_t i);
/* IO when `out` is one of the files. */
graft_status tensor_set_refuse(const struct tensor_set *set, const char *out, graft_error *error);
void tensor_set_close(struct tensor_set *set); /* a zeroed one is allowed */

/* ---- YAML, as settings use it ------------------------------------------------------------- */

/* One document as JSON; nothing: an empty object. FORMAT: none; UNSUPPORTED: anchors, aliases, tags; LIMIT: more than
 * 16 levels or 10,000 values. */
graft_status yaml_parse(const char *text, size_t size, json_t **out, graft_error *error);
/* What a word without quotes is: null, true, false, a number, else text. NULL: no memory, or no UTF-8. */
json_t *yaml_plain(const char *text, size_t size);

#endif
