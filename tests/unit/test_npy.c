/* test_npy.c: .npy files: the bytes that NumPy would write, what is read and what is refused. */
#include "conformance/npy.h"

#include "unit/failing_allocator.h"
#include "unit/spec_bytes.h"

#include <unistd.h>

static char path[] = "/tmp/graft-test-XXXXXX";

static int make_file(void **state)
{
    (void)state;
    int fd = mkstemp(path);
    return fd < 0 ? -1 : close(fd);
}

static int remove_file(void **state)
{
    (void)state;
    return unlink(path);
}

static const float VALUES[] = {0.0f, -1.5f, 2.25f, 1e30f, -0.0f, 7.0f};

static void a_matrix_is_written_as_numpy_writes_it(void **state)
{
    static const int64_t shape[] = {2, 3};
    static const char HEAD[] = "\x93NUMPY\1\0\x76\0{'descr': '<f4', 'fortran_order': False, "
                               "'shape': (2, 3), }";
    struct npy_array array;
    char *text;
    size_t size;
    (void)state;
    assert_int_equal(npy_write_f32(NULL, path, VALUES, shape, 2, NULL), GRAFT_OK);
    assert_int_equal(file_read(NULL, path, 1000, &text, &size, NULL), GRAFT_OK);
    assert_int_equal(size, 128 + sizeof VALUES);
    assert_memory_equal(text, HEAD, sizeof HEAD - 1);
    assert_int_equal(text[126], ' ');
    assert_int_equal(text[127], '\n');
    assert_int_equal(npy_parse_f32(&array, (const uint8_t *)text, size, NULL), GRAFT_OK);
    assert_int_equal(array.n_dims, 2);
    assert_int_equal(array.shape[0], 2);
    assert_int_equal(array.shape[1], 3);
    assert_int_equal(array.count, 6);
    assert_memory_equal(array.data, VALUES, sizeof VALUES);
    for (size_t length = 0; length < size; length++) {
        uint8_t *cut = exact_copy(text, length);
        assert_int_not_equal(npy_parse_f32(&array, cut, length, NULL), GRAFT_OK);
        free(cut);
    }
    mem_free(NULL, text);
}

static void every_number_of_dimensions_reads_back(void **state)
{
    static const int64_t shape[] = {1, 2, 1, 3, 1, 1, 1, 1};
    static const int64_t empty[] = {3, 0};
    struct npy_array array;
    char *text;
    size_t size;
    (void)state;
    for (int n_dims = 0; n_dims <= TENSOR_MAX_DIMS; n_dims++) {
        size_t count = n_dims < 2 ? 1 : n_dims < 4 ? 2 : 6;
        assert_int_equal(npy_write_f32(NULL, path, VALUES, shape, n_dims, NULL), GRAFT_OK);
        assert_int_equal(file_read(NULL, path, 1000, &text, &size, NULL), GRAFT_OK);
        assert_int_equal((size - 4 * count) % 64, 0);
        assert_int_equal(npy_parse_f32(&array, (const uint8_t *)text, size, NULL), GRAFT_OK);
        assert_int_equal(array.n_dims, n_dims);
        assert_memory_equal(array.shape, shape, sizeof(int64_t) * (size_t)n_dims);
        assert_int_equal(array.count, count);
        assert_memory_equal(array.data, VALUES, 4 * count);
        mem_free(NULL, text);
    }
    assert_int_equal(npy_write_f32(NULL, path, NULL, empty, 2, NULL), GRAFT_OK);
    assert_int_equal(file_read(NULL, path, 1000, &text, &size, NULL), GRAFT_OK);
    assert_int_equal(npy_parse_f32(&array, (const uint8_t *)text, size, NULL), GRAFT_OK);
    assert_int_equal(array.count, 0);
    mem_free(NULL, text);
}

/* array->data is not valid afterwards. */
static graft_status parse_into(struct npy_array *array, const char *dictionary, int version,
                               size_t data)
{
    struct buf out;
    char spec[64];
    buf_init(&out, NULL, SIZE_MAX);
    snprintf(spec, sizeof spec, "raw=\x93NUMPY u8=%d u8=0 u%d=%zu", version, version == 1 ? 16 : 32,
             strlen(dictionary));
    spec_append(&out, spec);
    buf_puts(&out, dictionary);
    for (size_t i = 0; i < data; i++)
        buf_putc(&out, (char)i);
    uint8_t *bytes = exact_copy(out.data, out.size);
    graft_status status = npy_parse_f32(array, bytes, out.size, NULL);
    free(bytes);
    buf_free(&out);
    return status;
}

static graft_status parse(const char *dictionary, int version, size_t data)
{
    struct npy_array array;
    return parse_into(&array, dictionary, version, data);
}

#define DICT(shape) "{'descr': '<f4', 'fortran_order': False, 'shape': " shape ", }"

static void other_spellings_of_the_head_are_read(void **state)
{
    struct npy_array array;
    (void)state;
    assert_int_equal(parse_into(&array, DICT("(2,)"), 2, 8), GRAFT_OK);
    assert_int_equal(array.n_dims, 1);
    assert_int_equal(array.shape[0], 2);
    assert_int_equal(
        parse_into(&array, "{'shape':(1,2),'fortran_order':False,'descr':'<f4'}  \n", 1, 8),
        GRAFT_OK);
    assert_int_equal(array.n_dims, 2);
    assert_int_equal(array.shape[1], 2);
    assert_int_equal(parse_into(&array, DICT("()"), 1, 4), GRAFT_OK);
    assert_int_equal(array.n_dims, 0);
    assert_int_equal(array.count, 1);
}

static void other_arrays_are_refused(void **state)
{
    static const struct {
        const char *dictionary;
        size_t data;
        graft_status status;
    } BAD[] = {
        {"{'descr': '<f8', 'fortran_order': False, 'shape': (1,), }", 8, GRAFT_UNSUPPORTED},
        {"{'descr': '>f4', 'fortran_order': False, 'shape': (1,), }", 4, GRAFT_UNSUPPORTED},
        {"{'descr': '<f4', 'fortran_order': True, 'shape': (1,), }", 4, GRAFT_UNSUPPORTED},
        {"{'descr': '<f4', 'fortran_order': False, }", 4, GRAFT_UNSUPPORTED},
        {"{'descr': '<f4', 'fortran_order': False}", 4, GRAFT_UNSUPPORTED},
        {"{'descr': '<f4', 'descr': '<f4', 'fortran_order': False, 'shape': (1,), }", 4,
         GRAFT_UNSUPPORTED},
        {"{'descr': '<f4', 'order': False, 'shape': (1,), }", 4, GRAFT_UNSUPPORTED},
        {"'descr': '<f4'", 4, GRAFT_UNSUPPORTED},
        {DICT("1"), 4, GRAFT_UNSUPPORTED},
        {DICT("(x,)"), 4, GRAFT_UNSUPPORTED},
        {DICT("(1 1"), 4, GRAFT_UNSUPPORTED},
        {DICT("(1,1,1,1,1,1,1,1,1)"), 4, GRAFT_UNSUPPORTED},
        {DICT("(99999999999999999999,)"), 4, GRAFT_UNSUPPORTED},
        {DICT("(1,)") " x", 4, GRAFT_FORMAT},
        {DICT("(4294967296, 4294967296)"), 0, GRAFT_FORMAT},
        {DICT("(2,)"), 7, GRAFT_FORMAT},
        {DICT("(2,)"), 9, GRAFT_FORMAT},
    };
    (void)state;
    for (size_t i = 0; i < ARRAY_LEN(BAD); i++)
        assert_int_equal(parse(BAD[i].dictionary, 1, BAD[i].data), BAD[i].status);
    struct npy_array array;
    assert_int_equal(npy_parse_f32(&array, (const uint8_t *)"GGUF\3\0\0\0\0\0\0\0", 12, NULL),
                     GRAFT_FORMAT);
    assert_int_equal(parse(DICT("(1,)"), 3, 4), GRAFT_UNSUPPORTED);
}

static void shapes_that_cannot_be_are_not_written(void **state)
{
    static const int64_t negative[] = {-1}, wraps[] = {INT64_MAX, 2};
    (void)state;
    assert_int_equal(npy_write_f32(NULL, path, VALUES, negative, 1, NULL), GRAFT_INVALID_ARGUMENT);
    assert_int_equal(npy_write_f32(NULL, path, VALUES, wraps, 2, NULL), GRAFT_INVALID_ARGUMENT);
    assert_int_equal(npy_write_f32(NULL, path, VALUES, negative, 9, NULL), GRAFT_INVALID_ARGUMENT);
    assert_int_equal(npy_write_f32(NULL, path, VALUES, negative, -1, NULL), GRAFT_INVALID_ARGUMENT);
}

static void writing_without_memory_fails_cleanly_at_every_allocation(void **state)
{
    static const int64_t shape[] = {6};
    (void)state;
    for (size_t n = 1;; n++) {
        struct failing_allocator failing;
        struct mem mem;
        failing_init(&failing, &mem, n);
        graft_status status = npy_write_f32(&mem, path, VALUES, shape, 1, NULL);
        assert_int_equal(status, failing.failed ? GRAFT_NO_MEMORY : GRAFT_OK);
        assert_int_equal(mem.bytes_in_use, 0);
        if (!status)
            break;
    }
}

static void a_file_that_cannot_be_made_is_an_error(void **state)
{
    static const int64_t shape[] = {6};
    (void)state;
    assert_int_equal(npy_write_f32(NULL, "/nonexistent/x.npy", VALUES, shape, 1, NULL),
                     GRAFT_NOT_FOUND);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_matrix_is_written_as_numpy_writes_it),
        cmocka_unit_test(every_number_of_dimensions_reads_back),
        cmocka_unit_test(other_spellings_of_the_head_are_read),
        cmocka_unit_test(other_arrays_are_refused),
        cmocka_unit_test(shapes_that_cannot_be_are_not_written),
        cmocka_unit_test(writing_without_memory_fails_cleanly_at_every_allocation),
        cmocka_unit_test(a_file_that_cannot_be_made_is_an_error),
    };
    return cmocka_run_group_tests(tests, make_file, remove_file);
}
