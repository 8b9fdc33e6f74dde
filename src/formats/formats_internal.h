/* formats_internal.h: what the readers and writers of this folder share.
 *
 * Little-endian loads, the byte size of a tensor, names and shapes made fit for an error message
 * (file content is hostile: no control characters, no kilobytes), and the recognition of files that
 * are something else. Not for other folders.
 */
#ifndef GRAFT_FORMATS_INTERNAL_H
#define GRAFT_FORMATS_INTERNAL_H

#include "formats/formats.h"

_Static_assert(__BYTE_ORDER__ == __ORDER_LITTLE_ENDIAN__,
               "values are written to files as they lie in memory");

static inline uint16_t load_u16(const uint8_t *p)
{
    return (uint16_t)(p[0] | p[1] << 8);
}

static inline uint32_t load_u32(const uint8_t *p)
{
    uint32_t value;
    memcpy(&value, p, sizeof value);
    return value;
}

static inline uint64_t load_u64(const uint8_t *p)
{
    uint64_t value;
    memcpy(&value, p, sizeof value);
    return value;
}

/* Bytes of a tensor: product(shape) values of the type, rows (the last dimension) in whole blocks.
 * false: a negative dimension, a broken block, overflow; an empty tensor may not overflow either where
 * its zero dimensions are left out, so that whoever multiplies its dimensions is safe. */
bool tensor_byte_size(graft_type type, int n_dims, const int64_t *shape, size_t *out);

/* Valid UTF-8 without NUL, at least one byte. */
bool name_is_valid(const char *text, size_t length);

/* Text from a file as an error message may show it: cut at about 100 bytes, on a character boundary,
 * with '?' for control characters and malformed bytes. */
struct shown {
    char text[112];
};
struct shown show_name(const char *text, size_t length);
struct shown show_shape(int n_dims, const int64_t *shape); /* "[2, 3]" */

/* error_set with `tensor "NAME": ` before the message, and error_at_tensor. */
graft_status tensor_error(graft_error *error, graft_status status, const char *name, size_t length,
                          const char *format, ...) PRINTF_LIKE(5, 6);

/* "a Git-LFS pointer …" when the bytes begin like a file that is often found in the place of
 * weights, else NULL. A safetensors file can begin with any 8 bytes: ask once it has failed. */
const char *foreign_file(const uint8_t *bytes, size_t size);

static inline bool begins_with(const uint8_t *bytes, size_t size, const char *text)
{
    size_t length = strlen(text);
    return size >= length && !memcmp(bytes, text, length);
}

#endif
