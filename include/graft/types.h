/* graft/types.h: the words that every other header uses.
 *
 * Status codes and the caller-owned error record, tensor element types, token ids. Nothing here
 * allocates, blocks or keeps state; every function is safe from any thread.
 */
#ifndef GRAFT_TYPES_H
#define GRAFT_TYPES_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define GRAFT_VERSION_MAJOR 0
#define GRAFT_VERSION_MINOR 1
#define GRAFT_VERSION_PATCH 0
#define GRAFT_VERSION_STRING "0.1.0"

#if defined(GRAFT_STATIC)
#define GRAFT_API
#elif defined(__GNUC__)
#define GRAFT_API __attribute__((visibility("default")))
#else
#define GRAFT_API
#endif

#ifdef __cplusplus
extern "C" {
#endif

/* Every function that can fail returns one of these. X(name, text). New ones are appended only: the
 * numbers are part of the ABI. */
#define GRAFT_STATUS_LIST(X)                                                                       \
    X(OK, "ok")                                                                                    \
    X(INVALID_ARGUMENT, "invalid argument")                                                        \
    X(NO_MEMORY, "out of memory")                                                                  \
    X(IO, "input/output error")                                                                    \
    X(NOT_FOUND, "not found")                                                                      \
    X(FORMAT, "malformed file")                                                                    \
    X(UNSUPPORTED, "not supported")                                                                \
    X(SHAPE, "shapes disagree")                                                                    \
    X(LIMIT, "limit exceeded")                                                                     \
    X(STATE, "wrong state")                                                                        \
    X(CANCELLED, "cancelled")                                                                      \
    X(NUMERIC, "not a number")                                                                     \
    X(FORKED, "runtime used after fork")                                                           \
    X(END, "end of stream")                                                                        \
    X(INTERNAL, "internal error")                                                                  \
    X(BUSY, "busy: try again later")

typedef enum graft_status {
#define GRAFT_STATUS_ENUM(name, text) GRAFT_##name,
    GRAFT_STATUS_LIST(GRAFT_STATUS_ENUM)
#undef GRAFT_STATUS_ENUM
        GRAFT_STATUS_COUNT
} graft_status;

/* The text of a status, e.g. "malformed file"; never NULL. */
GRAFT_API const char *graft_status_text(graft_status status);

/* Why a call failed. The caller owns it (usually on the stack, zeroed or from
 * graft_error_init); every function takes a pointer to one or NULL. It is written only on failure.
 * `message` is one line for a person; `file` and `tensor` are "" where they do not apply; the two
 * shapes are set where shapes disagree (n_dims 0 otherwise). */
typedef struct graft_error {
    graft_status status;
    char message[512];
    char file[256];
    char tensor[160];
    int expected_dims, found_dims;
    int64_t expected[4], found[4];
} graft_error;

GRAFT_API void graft_error_init(graft_error *error);

/* Element types of stored tensors. X(name, text, ggml id or -1, values per block, bytes per block).
 * The MLX types are packed words only; their scales and biases are tensors of their own. The F8
 * types can be stored and listed; nothing computes with them. New ones are appended only. */
#define GRAFT_TYPE_LIST(X)                                                                         \
    X(F32, "F32", 0, 1, 4)                                                                         \
    X(F16, "F16", 1, 1, 2)                                                                         \
    X(BF16, "BF16", 30, 1, 2)                                                                      \
    X(Q4_0, "Q4_0", 2, 32, 18)                                                                     \
    X(Q4_1, "Q4_1", 3, 32, 20)                                                                     \
    X(Q5_0, "Q5_0", 6, 32, 22)                                                                     \
    X(Q5_1, "Q5_1", 7, 32, 24)                                                                     \
    X(Q8_0, "Q8_0", 8, 32, 34)                                                                     \
    X(Q2_K, "Q2_K", 10, 256, 84)                                                                   \
    X(Q3_K, "Q3_K", 11, 256, 110)                                                                  \
    X(Q4_K, "Q4_K", 12, 256, 144)                                                                  \
    X(Q5_K, "Q5_K", 13, 256, 176)                                                                  \
    X(Q6_K, "Q6_K", 14, 256, 210)                                                                  \
    X(MLX4, "MLX4", -1, 8, 4)                                                                      \
    X(MLX8, "MLX8", -1, 4, 4)                                                                      \
    X(F64, "F64", 28, 1, 8)                                                                        \
    X(I8, "I8", 24, 1, 1)                                                                          \
    X(I16, "I16", 25, 1, 2)                                                                        \
    X(I32, "I32", 26, 1, 4)                                                                        \
    X(I64, "I64", 27, 1, 8)                                                                        \
    X(U8, "U8", -1, 1, 1)                                                                          \
    X(U16, "U16", -1, 1, 2)                                                                        \
    X(U32, "U32", -1, 1, 4)                                                                        \
    X(U64, "U64", -1, 1, 8)                                                                        \
    X(BOOL, "BOOL", -1, 1, 1)                                                                      \
    X(F8_E4M3, "F8_E4M3", -1, 1, 1)                                                                \
    X(F8_E5M2, "F8_E5M2", -1, 1, 1)

typedef enum graft_type {
#define GRAFT_TYPE_ENUM(name, text, ggml, block, bytes) GRAFT_TYPE_##name,
    GRAFT_TYPE_LIST(GRAFT_TYPE_ENUM)
#undef GRAFT_TYPE_ENUM
        GRAFT_TYPE_COUNT
} graft_type;

/* "Q8_0"; never NULL. */
GRAFT_API const char *graft_type_name(graft_type type);
/* From a name, letter case ignored; GRAFT_TYPE_COUNT when there is no such type. */
GRAFT_API graft_type graft_type_from_name(const char *name);

typedef int32_t graft_token_id;

/* The version of the library that is loaded, e.g. "0.1.0". */
GRAFT_API const char *graft_version(void);

#ifdef __cplusplus
}
#endif
#endif
