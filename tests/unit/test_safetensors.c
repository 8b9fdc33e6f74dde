/* test_safetensors.c: the safetensors reader and writer: what is refused and why, round trips, lack
 * of memory. The fixtures are headers as text; each becomes a seed of the fuzz target.
 */
#include "formats/formats.h"

#include "unit/failing_allocator.h"
#include "unit/failing_json.h"
#include "unit/spec_bytes.h"

#include <time.h>
#include <unistd.h>

/* A header and the size of the data behind it: bytes 0, 1, 2, … */
struct fixture {
    const char *name, *header;
    size_t data;
    graft_status status;
    const char *message; /* a part of it */
    const char *tensor;  /* that graft_error names, NULL: none */
};

#define ENTRY(name, type, shape, begin, end)                                                       \
    "\"" name "\":{\"dtype\":\"" type "\",\"shape\":" shape ",\"data_offsets\":[" #begin "," #end  \
    "]}"
#define ONE(type, shape, begin, end) "{" ENTRY("a", type, shape, begin, end) "}"

static const struct fixture REFUSED[] = {
    {"no_json", "{oops}", 0, GRAFT_FORMAT, "the header: JSON, line 1", NULL},
    {"array", "[1]", 0, GRAFT_FORMAT, "does not begin with '{'", NULL},
    {"twice", "{" ENTRY("a", "U8", "[1]", 0, 1) "," ENTRY("a", "U8", "[1]", 1, 2) "}", 2,
     GRAFT_FORMAT, "duplicate object key", NULL},
    {"nul_in_name", "{" ENTRY("a\\u0000b", "U8", "[1]", 0, 1) "}", 1, GRAFT_FORMAT, "NUL", NULL},
    {"empty_name", "{" ENTRY("", "U8", "[1]", 0, 1) "}", 1, GRAFT_FORMAT, "empty name", NULL},
    {"entry_is_null", "{\"a\":null}", 0, GRAFT_FORMAT, "no object", "a"},
    {"no_dtype", "{\"a\":{\"shape\":[1],\"data_offsets\":[0,1]}}", 1, GRAFT_FORMAT,
     "dtype is missing", "a"},
    {"no_shape", "{\"a\":{\"dtype\":\"U8\",\"data_offsets\":[0,1]}}", 1, GRAFT_FORMAT,
     "shape is missing", "a"},
    {"no_offsets", "{\"a\":{\"dtype\":\"U8\",\"shape\":[1]}}", 1, GRAFT_FORMAT,
     "data_offsets is missing", "a"},
    {"unknown_field", "{\"a\":{\"dtype\":\"U8\",\"shape\":[1],\"data_offsets\":[0,1],\"scale\":2}}",
     1, GRAFT_UNSUPPORTED, "field \"scale\"", "a"},
    {"dtype_number", "{\"a\":{\"dtype\":4}}", 1, GRAFT_FORMAT, "dtype is no string", "a"},
    {"dtype_unknown", ONE("F4", "[1]", 0, 1), 1, GRAFT_UNSUPPORTED, "dtype \"F4\"", "a"},
    {"dtype_of_gguf", ONE("Q8_0", "[32]", 0, 34), 34, GRAFT_UNSUPPORTED, "dtype \"Q8_0\"", "a"},
    {"shape_number", ONE("U8", "1", 0, 1), 1, GRAFT_FORMAT, "shape is no array", "a"},
    {"shape_string", ONE("U8", "[\"1\"]", 0, 1), 1, GRAFT_FORMAT, "dimension 0", "a"},
    {"shape_negative", ONE("U8", "[-1,-1]", 0, 1), 1, GRAFT_FORMAT, "is negative", "a"},
    {"nine_dims", ONE("U8", "[1,1,1,1,1,1,1,1,1]", 0, 1), 1, GRAFT_UNSUPPORTED, "9 dimensions",
     "a"},
    {"shape_wraps", ONE("U8", "[4294967296,4294967296]", 0, 0), 0, GRAFT_FORMAT, "too large", "a"},
    {"bytes_wrap", ONE("F32", "[4611686018427387904]", 0, 0), 0, GRAFT_FORMAT, "too large", "a"},
    {"empty_wraps", ONE("F32", "[4294967296,4294967296,0]", 0, 0), 0, GRAFT_FORMAT, "too large",
     "a"},
    {"long_shape",
     ONE("U8",
         "[9223372036854775807,9223372036854775807,9223372036854775807,9223372036854775807,"
         "9223372036854775807,9223372036854775807]",
         0, 0),
     0, GRAFT_FORMAT, "9223372036854775807, ...] is too large", "a"},
    {"beyond_64_bits", ONE("U8", "[1]", 0, 18446744073709551617), 1, GRAFT_FORMAT, "beyond 64 bits",
     "a"},
    {"three_offsets", "{\"a\":{\"data_offsets\":[0,1,2]}}", 1, GRAFT_FORMAT, "no array of two",
     "a"},
    {"offset_string", "{\"a\":{\"data_offsets\":[0,\"1\"]}}", 1, GRAFT_FORMAT, "no whole number",
     "a"},
    {"offsets_reversed", ONE("U8", "[1]", 1, 0), 1, GRAFT_FORMAT, "no extent", "a"},
    {"offset_negative", ONE("U8", "[1]", -1, 0), 1, GRAFT_FORMAT, "no extent", "a"},
    {"past_the_end", ONE("F32", "[2]", 4, 12), 8, GRAFT_FORMAT,
     "tensor \"a\": bytes 4..12 end past the data (8 bytes)", "a"},
    {"size_differs", ONE("F32", "[2,3]", 0, 8), 8, GRAFT_FORMAT,
     "F32 [2, 3] needs 24 bytes, data_offsets give 8", "a"},
    {"gap", "{" ENTRY("a", "U8", "[2]", 0, 2) "," ENTRY("b", "U8", "[1]", 3, 4) "}", 4,
     GRAFT_FORMAT, "bytes 2..3 before it belong to no tensor", "b"},
    {"overlap", "{" ENTRY("a", "U8", "[3]", 0, 3) "," ENTRY("b", "U8", "[2]", 2, 4) "}", 4,
     GRAFT_FORMAT, "bytes 2..4 overlap tensor \"a\"", "b"},
    {"empty_inside", "{" ENTRY("a", "U8", "[4]", 0, 4) "," ENTRY("b", "U8", "[0]", 2, 2) "}", 4,
     GRAFT_FORMAT, "overlap", "b"},
    {"trailing_data", ONE("U8", "[1]", 0, 1), 3, GRAFT_FORMAT, "bytes 1..3", NULL},
    {"metadata_list", "{\"__metadata__\":[]}", 0, GRAFT_FORMAT, "__metadata__ is no object", NULL},
    {"metadata_number", "{\"__metadata__\":{\"x\":1}}", 0, GRAFT_FORMAT, "\"x\" is no string",
     NULL},
    {"control_characters", "{\"a\\u001b[2J\\n\":0}", 0, GRAFT_FORMAT, "tensor \"a?[2J?\"",
     "a?[2J?"},
};

static const struct fixture LOADED[] = {
    {"empty", "{}", 0, GRAFT_OK, NULL, NULL},
    {"metadata_null", "{\"__metadata__\":null}", 0, GRAFT_OK, NULL, NULL},
    {"metadata", "{\"__metadata__\":{\"format\":\"pt\"}}   ", 0, GRAFT_OK, NULL, NULL},
    {"scalar", ONE("F32", "[]", 0, 4), 4, GRAFT_OK, NULL, NULL},
    {"eight_dims", ONE("I16", "[1,2,1,2,1,1,1,1]", 0, 8), 8, GRAFT_OK, NULL, NULL},
    {"float8", ONE("F8_E5M2", "[3]", 0, 3), 3, GRAFT_OK, NULL, NULL},
    {"unordered",
     "{" ENTRY("late", "BF16", "[2]", 4, 8) "," ENTRY("none", "F64", "[0,9]", 4,
                                                      4) "," ENTRY("early", "U8", "[4]", 0, 4) "}",
     8, GRAFT_OK, NULL, NULL},
};

static uint8_t *build(const char *name, const char *header, size_t data, size_t *size)
{
    char spec[64];
    struct buf out;
    buf_init(&out, NULL, SIZE_MAX);
    snprintf(spec, sizeof spec, "u64=%zu", strlen(header));
    spec_append(&out, spec);
    buf_puts(&out, header);
    snprintf(spec, sizeof spec, "ramp=%zu", data);
    spec_append(&out, spec);
    uint8_t *bytes = exact_copy(out.data, out.size);
    *size = out.size;
    save_seed("safetensors", name, bytes, *size);
    buf_free(&out);
    return bytes;
}

static void malformed_files_are_refused_with_the_reason(void **state)
{
    (void)state;
    for (size_t i = 0; i < ARRAY_LEN(REFUSED); i++) {
        const struct fixture *f = &REFUSED[i];
        struct failing_allocator none;
        struct mem mem;
        struct safetensors st;
        graft_error error;
        size_t size;
        uint8_t *bytes = build(f->name, f->header, f->data, &size);
        failing_init(&none, &mem, 0);
        graft_error_init(&error);
        graft_status status = safetensors_parse(&st, &mem, bytes, size, &error);
        if (status != f->status || !strstr(error.message, f->message) ||
            strcmp(error.tensor, f->tensor ? f->tensor : ""))
            fail_msg("%s: %s (status %d, tensor \"%s\")", f->name, error.message, status,
                     error.tensor);
        assert_int_equal(mem.bytes_in_use, 0);
        free(bytes);
    }
}

static void valid_files_load(void **state)
{
    (void)state;
    for (size_t i = 0; i < ARRAY_LEN(LOADED); i++) {
        const struct fixture *f = &LOADED[i];
        struct safetensors st;
        graft_error error;
        size_t size;
        uint8_t *bytes = build(f->name, f->header, f->data, &size);
        if (safetensors_parse(&st, NULL, bytes, size, &error))
            fail_msg("%s: %s", f->name, error.message);
        safetensors_free(&st);
        free(bytes);
    }
}

static void tensors_come_in_the_order_of_their_data(void **state)
{
    struct safetensors st;
    size_t size;
    const struct fixture *f = &LOADED[ARRAY_LEN(LOADED) - 1];
    (void)state;
    uint8_t *bytes = build(f->name, f->header, f->data, &size);
    assert_int_equal(safetensors_parse(&st, NULL, bytes, size, NULL), GRAFT_OK);
    assert_int_equal(st.n_tensors, 3);
    assert_string_equal(st.tensors[0].name, "early");
    assert_string_equal(st.tensors[1].name, "none");
    assert_string_equal(st.tensors[2].name, "late");
    assert_int_equal(st.tensors[1].size, 0);
    const struct tensor_info *late = safetensors_find(&st, "late");
    assert_ptr_equal(late, &st.tensors[2]);
    assert_ptr_equal(late->data, bytes + size - 4);
    assert_int_equal(late->data[0], 4);
    assert_null(safetensors_find(&st, "lat"));
    assert_null(st.metadata);
    safetensors_free(&st);
    free(bytes);
}

static void cut_short_a_file_is_refused_at_every_length(void **state)
{
    static const char header[] = "{" ENTRY("a", "U8", "[2]", 0, 2) "}";
    size_t size;
    (void)state;
    uint8_t *bytes = build("two_bytes", header, 2, &size);
    for (size_t length = 0; length < size; length++) {
        struct safetensors st;
        uint8_t *cut = exact_copy(bytes, length);
        assert_int_equal(safetensors_parse(&st, NULL, cut, length, NULL), GRAFT_FORMAT);
        free(cut);
    }
    free(bytes);
}

static void header_lengths_that_lie_are_refused(void **state)
{
    static const char *const SPECS[][2] = {
        {"u64=100000001 raw={}", "at most 100000000"},
        {"u64=0xffffffffffffffff raw={}", "at most 100000000"},
        {"u64=0x8000000000000000 raw={}", "at most 100000000"},
        {"u64=3 raw={}", "ends past the file"},
        {"u64=0 raw={}", "does not begin"},
        {"u64=1 raw={}", "does not begin"},
    };
    (void)state;
    for (size_t i = 0; i < ARRAY_LEN(SPECS); i++) {
        struct safetensors st;
        struct buf out;
        graft_error error;
        char name[32];
        buf_init(&out, NULL, SIZE_MAX);
        spec_append(&out, SPECS[i][0]);
        snprintf(name, sizeof name, "length_%zu", i);
        save_seed("safetensors", name, out.data, out.size);
        assert_int_equal(safetensors_parse(&st, NULL, (const uint8_t *)out.data, out.size, &error),
                         GRAFT_FORMAT);
        assert_non_null(strstr(error.message, SPECS[i][1]));
        buf_free(&out);
    }
}

static void what_is_something_else_is_refused_by_its_name(void **state)
{
    static const char *const SPECS[][2] = {
        {"raw=version_https://git-lfs.github.com/spec/v1\noid_sha256:00", "a Git-LFS pointer"},
        {"raw=PK\3\4 zeros=60", "a zip archive"},
        {"raw=\x80\2}q zeros=60", "a pickle"},
        {"raw=\x80\5\x95 zeros=4", "a pickle"},
        {"raw=GGUF u32=3 u64=0 u64=0", "a GGUF file"},
        {"raw=<!DOCTYPE_html>", "an HTML or XML page"},
        {"raw={\"a\":{}}", "JSON text"},
    };
    (void)state;
    for (size_t i = 0; i < ARRAY_LEN(SPECS); i++) {
        struct safetensors st;
        struct buf out;
        graft_error error;
        buf_init(&out, NULL, SIZE_MAX);
        spec_append(&out, SPECS[i][0]);
        assert_int_equal(safetensors_parse(&st, NULL, (const uint8_t *)out.data, out.size, &error),
                         GRAFT_UNSUPPORTED);
        assert_non_null(strstr(error.message, SPECS[i][1]));
        buf_free(&out);
    }
}

/* 640 = 0x280: the length field of a valid file that begins like a pickle of protocol 2. */
static void a_header_whose_length_looks_like_a_pickle_loads(void **state)
{
    char header[641];
    struct safetensors st;
    size_t size;
    (void)state;
    memset(header, ' ', 640);
    memcpy(header, "{}", 2);
    header[640] = '\0';
    uint8_t *bytes = build("like_a_pickle", header, 0, &size);
    assert_int_equal(bytes[0], 0x80);
    assert_int_equal(bytes[1], 2);
    assert_int_equal(safetensors_parse(&st, NULL, bytes, size, NULL), GRAFT_OK);
    safetensors_free(&st);
    free(bytes);
}

static void many_tensors_take_no_quadratic_time(void **state)
{
    enum { COUNT = 100000 };
    struct safetensors st;
    struct buf header;
    size_t size;
    (void)state;
    buf_init(&header, NULL, SIZE_MAX);
    buf_putc(&header, '{');
    for (int i = COUNT - 1; i >= 0; i--)
        buf_printf(&header, "\"t%d\":{\"dtype\":\"U8\",\"shape\":[1],\"data_offsets\":[%d,%d]}%s",
                   i, i, i + 1, i ? "," : "}");
    char *text = buf_take(&header, NULL);
    struct buf out;
    buf_init(&out, NULL, SIZE_MAX);
    uint64_t length = strlen(text);
    buf_append(&out, &length, sizeof length);
    buf_puts(&out, text);
    spec_append(&out, "zeros=100000");
    clock_t begin = clock(); /* of the processor: others may be busy */
    size = out.size;
    assert_int_equal(safetensors_parse(&st, NULL, (const uint8_t *)out.data, size, NULL), GRAFT_OK);
    assert_true(clock() - begin <
                20 * CLOCKS_PER_SEC); /* 0.1 s; the square of 100,000 takes minutes */
    assert_int_equal(st.n_tensors, COUNT);
    assert_string_equal(st.tensors[77].name, "t77");
    safetensors_free(&st);
    buf_free(&out);
    mem_free(NULL, text);
}

/* ---- writing ------------------------------------------------------------------------------ */

static char *temporary_path(void)
{
    char name[] = "/tmp/graft-test-XXXXXX";
    int fd = mkstemp(name);
    assert_true(fd >= 0);
    close(fd);
    return mem_strdup(NULL, name);
}

static const struct tensor_decl DECLS[] = {
    {"model.embed", GRAFT_TYPE_F32, 2, {2, 3}},    {"scalar", GRAFT_TYPE_I64, 0, {0}},
    {"empty", GRAFT_TYPE_BF16, 2, {0, 5}},         {"quote\"\\\n", GRAFT_TYPE_U8, 1, {3}},
    {"\xc3\xa9t\xc3\xa9", GRAFT_TYPE_F16, 1, {2}}, {"f8", GRAFT_TYPE_F8_E4M3, 1, {5}},
};

static graft_status write_file(struct mem *mem, const char *path, const json_t *metadata,
                               graft_error *error)
{
    struct file_writer w;
    uint8_t ramp[64];
    for (size_t i = 0; i < sizeof ramp; i++)
        ramp[i] = (uint8_t)i;
    graft_status status = file_writer_open(&w, mem, path, error);
    if (status)
        return status;
    status = safetensors_write_header(&w, DECLS, ARRAY_LEN(DECLS), metadata, error);
    if (!status)
        status = file_writer_write(&w, ramp, 24 + 8 + 0 + 3 + 4 + 5, error);
    if (!status)
        status = file_writer_commit(&w, error);
    file_writer_abort(&w);
    return status;
}

static void what_is_written_reads_back(void **state)
{
    struct file_map map;
    struct safetensors st;
    char *path = temporary_path();
    json_t *metadata = json_pack("{s:s, s:s}", "format", "pt", "note", "\xe2\x82\xac");
    (void)state;
    assert_int_equal(write_file(NULL, path, metadata, NULL), GRAFT_OK);
    assert_int_equal(file_map_open(&map, NULL, path, MAP_COPY, NULL), GRAFT_OK);
    save_seed("safetensors", "written", map.data, map.size);
    assert_int_equal(safetensors_parse(&st, NULL, map.data, map.size, NULL), GRAFT_OK);
    assert_int_equal(st.n_tensors, ARRAY_LEN(DECLS));
    assert_int_equal((size_t)(st.tensors[0].data - map.data) % 64, 0);
    assert_true(json_equal(st.metadata, metadata));
    size_t at = 0;
    for (size_t i = 0; i < ARRAY_LEN(DECLS); i++) {
        const struct tensor_info *t = safetensors_find(&st, DECLS[i].name);
        assert_ptr_equal(t, &st.tensors[i]); /* declared order is data order */
        assert_int_equal(t->type, DECLS[i].type);
        assert_int_equal(t->n_dims, DECLS[i].n_dims);
        assert_memory_equal(t->shape, DECLS[i].shape, sizeof(int64_t) * (size_t)t->n_dims);
        for (size_t b = 0; b < t->size; b++)
            assert_int_equal(t->data[b], at + b);
        at += t->size;
    }
    safetensors_free(&st);
    file_map_close(&map);
    json_decref(metadata);
    unlink(path);
    mem_free(NULL, path);
}

static void declarations_that_cannot_be_written_are_refused(void **state)
{
    static const struct tensor_decl BAD[][2] = {
        {{"", GRAFT_TYPE_F32, 1, {1}}, {0}},
        {{"\xff", GRAFT_TYPE_F32, 1, {1}}, {0}},
        {{"__metadata__", GRAFT_TYPE_F32, 1, {1}}, {0}},
        {{"q", GRAFT_TYPE_Q8_0, 1, {32}}, {0}},
        {{"n", GRAFT_TYPE_F32, 9, {1}}, {0}},
        {{"n", GRAFT_TYPE_F32, -1, {1}}, {0}},
        {{"n", GRAFT_TYPE_F32, 1, {-1}}, {0}},
        {{"n", GRAFT_TYPE_F32, 2, {INT64_MAX, INT64_MAX}}, {0}},
        {{"a", GRAFT_TYPE_F32, 1, {1}}, {"a", GRAFT_TYPE_F32, 1, {1}}},
        {{"a", GRAFT_TYPE_U8, 1, {INT64_MAX}}, {"b", GRAFT_TYPE_U8, 1, {1}}},
    };
    struct file_writer w;
    graft_error error;
    char *path = temporary_path();
    (void)state;
    assert_int_equal(file_writer_open(&w, NULL, path, NULL), GRAFT_OK);
    for (size_t i = 0; i < ARRAY_LEN(BAD); i++)
        assert_int_equal(safetensors_write_header(&w, BAD[i], BAD[i][1].name ? 2 : 1, NULL, &error),
                         GRAFT_INVALID_ARGUMENT);
    json_t *metadata = json_pack("{s:i}", "x", 1);
    assert_int_equal(safetensors_write_header(&w, NULL, 0, metadata, &error), GRAFT_FORMAT);
    assert_int_equal(w.written, 0);
    json_decref(metadata);
    file_writer_abort(&w);
    unlink(path);
    mem_free(NULL, path);
}

static void a_header_over_the_limit_is_not_written(void **state)
{
    enum { SIZE = 100000001 };
    struct file_writer w;
    graft_error error;
    char *path = temporary_path(), *name = malloc(SIZE);
    (void)state;
    memset(name, 'n', SIZE - 1);
    name[SIZE - 1] = '\0';
    struct tensor_decl decl = {name, GRAFT_TYPE_U8, 1, {1}};
    assert_int_equal(file_writer_open(&w, NULL, path, NULL), GRAFT_OK);
    assert_int_equal(safetensors_write_header(&w, &decl, 1, NULL, &error), GRAFT_LIMIT);
    assert_int_equal(w.written, 0);
    file_writer_abort(&w);
    unlink(path);
    mem_free(NULL, path);
    free(name);
}

/* ---- lack of memory ----------------------------------------------------------------------- */

static void parsing_without_memory_fails_cleanly_at_every_allocation(void **state)
{
    size_t size;
    const struct fixture *f = &LOADED[ARRAY_LEN(LOADED) - 1];
    (void)state;
    uint8_t *bytes = build(f->name, f->header, f->data, &size);
    for (size_t n = 1;; n++) {
        struct failing_allocator failing;
        struct mem mem;
        struct safetensors st;
        failing_init(&failing, &mem, n);
        graft_status status = safetensors_parse(&st, &mem, bytes, size, NULL);
        assert_int_equal(status, failing.failed ? GRAFT_NO_MEMORY : GRAFT_OK);
        if (!status)
            safetensors_free(&st);
        assert_int_equal(mem.bytes_in_use, 0);
        if (!status)
            break;
    }
    free(bytes);
}

static void writing_without_memory_fails_cleanly_at_every_allocation(void **state)
{
    char *path = temporary_path();
    (void)state;
    for (size_t n = 1;; n++) {
        struct failing_allocator failing;
        struct mem mem;
        failing_init(&failing, &mem, n);
        graft_status status = write_file(&mem, path, NULL, NULL);
        assert_int_equal(status, failing.failed ? GRAFT_NO_MEMORY : GRAFT_OK);
        assert_int_equal(mem.bytes_in_use, 0);
        if (!status)
            break;
    }
    unlink(path);
    mem_free(NULL, path);
}

static void lack_of_memory_in_the_json_library_is_no_success(void **state)
{
    size_t size;
    const struct fixture *f = &LOADED[ARRAY_LEN(LOADED) - 1];
    char *path = temporary_path();
    (void)state;
    uint8_t *bytes = build(f->name, f->header, f->data, &size);
    json_t *metadata = json_pack("{s:s}", "format", "pt");
    bool failed = true;
    for (size_t n = 1; failed; n++) {
        struct safetensors st;
        failing_json_begin(n);
        graft_status status = safetensors_parse(&st, NULL, bytes, size, NULL);
        failed = failing_json_end();
        if (!status)
            safetensors_free(&st);
        assert_true(failed == (status != GRAFT_OK));
    }
    failed = true;
    for (size_t n = 1; failed; n++) {
        failing_json_begin(n);
        graft_status status = write_file(NULL, path, metadata, NULL);
        failed = failing_json_end();
        assert_int_equal(status, failed ? GRAFT_NO_MEMORY : GRAFT_OK);
    }
    json_decref(metadata);
    unlink(path);
    mem_free(NULL, path);
    free(bytes);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(malformed_files_are_refused_with_the_reason),
        cmocka_unit_test(valid_files_load),
        cmocka_unit_test(tensors_come_in_the_order_of_their_data),
        cmocka_unit_test(cut_short_a_file_is_refused_at_every_length),
        cmocka_unit_test(header_lengths_that_lie_are_refused),
        cmocka_unit_test(what_is_something_else_is_refused_by_its_name),
        cmocka_unit_test(a_header_whose_length_looks_like_a_pickle_loads),
        cmocka_unit_test(many_tensors_take_no_quadratic_time),
        cmocka_unit_test(what_is_written_reads_back),
        cmocka_unit_test(declarations_that_cannot_be_written_are_refused),
        cmocka_unit_test(a_header_over_the_limit_is_not_written),
        cmocka_unit_test(parsing_without_memory_fails_cleanly_at_every_allocation),
        cmocka_unit_test(writing_without_memory_fails_cleanly_at_every_allocation),
        cmocka_unit_test(lack_of_memory_in_the_json_library_is_no_success),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
