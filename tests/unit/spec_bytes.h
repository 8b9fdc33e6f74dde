/* spec_bytes.h: binary fixtures written as text, for tests of containers.
 *
 * A spec is a row of items, separated by single spaces:
 *   u8=7 u16=7 u32=7 u64=7   a little-endian number (0x… allowed; negative ones wrap)
 *   f32=1.5 f64=1.5          a little-endian float
 *   str=abc                  a GGUF string: 64-bit length, then the bytes
 *   raw=abc                  the bytes; '_' stands for a space, "\xNN" is written in C
 *   zeros=16 ramp=16         that many bytes: zeros; 0, 1, 2, …
 *   pad=32                   zeros up to a multiple
 * A test whose spec cannot be read fails there.
 */
#ifndef GRAFT_SPEC_BYTES_H
#define GRAFT_SPEC_BYTES_H

#include "base/base.h"

#include <setjmp.h>
#include <stdarg.h>

#include <cmocka.h>

static inline void spec_string(struct buf *out, const char *text, size_t length)
{
    for (size_t i = 0; i < length; i++)
        buf_putc(out, text[i] == '_' ? ' ' : text[i]);
}

static inline void spec_number(struct buf *out, const char *kind, const char *text)
{
    uint64_t value = text[0] == '-' ? (uint64_t)strtoll(text, NULL, 0) : strtoull(text, NULL, 0);
    float single = strtof(text, NULL);
    double real = strtod(text, NULL);
    if (kind[0] == 'u')
        buf_append(out, &value, strtoull(kind + 1, NULL, 10) / 8);
    else if (!strcmp(kind, "f32"))
        buf_append(out, &single, sizeof single);
    else if (!strcmp(kind, "f64"))
        buf_append(out, &real, sizeof real);
    else if (!strcmp(kind, "pad"))
        while (out->size % value)
            buf_putc(out, 0);
    else if (!strcmp(kind, "zeros") || !strcmp(kind, "ramp"))
        for (uint64_t i = 0; i < value; i++)
            buf_putc(out, kind[0] == 'r' ? (char)i : 0);
    else
        fail_msg("spec: what is \"%s\"?", kind);
}

/* Appends what `spec` describes. */
static inline void spec_append(struct buf *out, const char *spec)
{
    while (*spec) {
        char kind[8] = "", number[32] = "";
        const char *equals = strchr(spec, '='), *end = strchr(spec, ' ');
        if (!end)
            end = spec + strlen(spec);
        assert_non_null(equals);
        assert_true(equals < end && (size_t)(equals - spec) < sizeof kind);
        memcpy(kind, spec, (size_t)(equals - spec));
        size_t length = (size_t)(end - equals - 1);
        uint64_t length64 = length;
        if (!strcmp(kind, "str"))
            buf_append(out, &length64, sizeof length64);
        if (!strcmp(kind, "str") || !strcmp(kind, "raw")) {
            spec_string(out, equals + 1, length);
        } else {
            assert_true(length < sizeof number);
            memcpy(number, equals + 1, length);
            spec_number(out, kind, number);
        }
        spec = *end ? end + 1 : end;
    }
    assert_int_equal(out->status, GRAFT_OK);
}

/* A block of exactly the size, so that AddressSanitizer sees what lies behind; free() it. */
static inline uint8_t *exact_copy(const void *bytes, size_t size)
{
    uint8_t *copy = malloc(size ? size : 1);
    assert_non_null(copy);
    if (size)
        memcpy(copy, bytes, size);
    return copy;
}

/* With GRAFT_CORPUS_DIR set, the fixtures of a test become seeds for its fuzz target:
 * `GRAFT_CORPUS_DIR=tests/fuzz/corpus test_gguf`. */
static inline void save_seed(const char *format, const char *name, const void *bytes, size_t size)
{
    const char *corpus = getenv("GRAFT_CORPUS_DIR");
    if (!corpus)
        return;
    char *dir = path_join(NULL, corpus, format), *path = path_join(NULL, dir, name);
    assert_int_equal(file_write_atomic(NULL, path, bytes, size, NULL), GRAFT_OK);
    mem_free(NULL, path);
    mem_free(NULL, dir);
}

#endif
