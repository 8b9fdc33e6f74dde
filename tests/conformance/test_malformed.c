/* test_malformed.c: every container of the shared collection of malformed and valid files is refused
 * or loaded as its manifest says.
 *
 * Each file is parsed from a block of exactly its size, so that AddressSanitizer sees a read behind
 * it, and with an allocator that notes the largest request: a small file may not ask for much.
 */
#include "formats/formats.h"

#include "conformance/npy.h"
#include "unit/failing_allocator.h"

#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <unistd.h>

#include <cmocka.h>

enum { SKIPPED = 77, FILE_LIMIT = 1 << 24, REQUEST_FACTOR = 16, REQUEST_FLOOR = 1 << 16 };

static const char DIRECTORY[] = GRAFT_SHARED_DIR "/data/malformed";

/* One file, parsed. */
struct container {
    bool is_gguf;
    struct safetensors st;
    struct gguf gguf;
};

static size_t json_largest; /* jansson's largest request; tests run on one thread */

static void *json_counted(size_t bytes)
{
    json_largest = bytes > json_largest ? bytes : json_largest;
    return malloc(bytes);
}

static graft_status container_parse(struct container *c, struct mem *mem, const uint8_t *bytes,
                                    size_t size, graft_error *error)
{
    return c->is_gguf ? gguf_parse(&c->gguf, mem, bytes, size, error)
                      : safetensors_parse(&c->st, mem, bytes, size, error);
}

static const struct tensor_info *container_find(const struct container *c, const char *name)
{
    return c->is_gguf ? gguf_find_tensor(&c->gguf, name) : safetensors_find(&c->st, name);
}

static double value_at(const struct tensor_info *tensor, size_t i)
{
    uint16_t half;
    float single;
    if (tensor->type == GRAFT_TYPE_F32) {
        memcpy(&single, tensor->data + 4 * i, 4);
        return (double)single;
    }
    memcpy(&half, tensor->data + 2 * i, 2);
    return (double)(tensor->type == GRAFT_TYPE_F16 ? f16_to_f32(half) : bf16_to_f32(half));
}

static void check_values(const struct tensor_info *tensor, const json_t *values)
{
    if (tensor->type != GRAFT_TYPE_F32 && tensor->type != GRAFT_TYPE_F16 &&
        tensor->type != GRAFT_TYPE_BF16)
        return; /* quantised blocks are the kernels' business */
    assert_int_equal(tensor->size,
                     json_array_size(values) * type_traits(tensor->type)->block_bytes);
    for (size_t i = 0; i < json_array_size(values); i++) {
        const json_t *value = json_array_get(values, i);
        const char *text = json_string_value(value);
        double found = value_at(tensor, i);
        double expected = !text                  ? json_number_value(value)
                          : !strcmp(text, "inf") ? (double)INFINITY
                                                 : -(double)INFINITY;
        if (text && !strcmp(text, "nan"))
            assert_true(isnan(found));
        else
            assert_true(found == expected);
    }
}

/* safetensors entries have dtype and shape, GGUF entries type and ne (innermost first). */
static void check_tensor(const struct container *c, const json_t *expected)
{
    const char *name = json_string_value(json_object_get(expected, "name"));
    const json_t *dims = json_object_get(expected, c->is_gguf ? "ne" : "shape");
    const json_t *type = json_object_get(expected, c->is_gguf ? "type" : "dtype");
    const struct tensor_info *tensor = container_find(c, name);
    assert_non_null(tensor);
    assert_string_equal(tensor->name, name);
    assert_string_equal(graft_type_name(tensor->type), json_string_value(type));
    assert_int_equal(tensor->n_dims, json_array_size(dims));
    for (int i = 0; i < tensor->n_dims; i++)
        assert_int_equal(tensor->shape[c->is_gguf ? tensor->n_dims - 1 - i : i],
                         json_integer_value(json_array_get(dims, (size_t)i)));
    if (json_object_get(expected, "values"))
        check_values(tensor, json_object_get(expected, "values"));
}

/* The two files whose many entries the manifest does not list. */
static void check_many(const struct container *c, const char *file)
{
    char name[32];
    if (strstr(file, "ok_3000_tensors")) {
        assert_int_equal(c->st.n_tensors, 3000);
        for (int i = 0; i < 3000; i++) {
            snprintf(name, sizeof name, "t%04d", i);
            const struct tensor_info *tensor = safetensors_find(&c->st, name);
            assert_non_null(tensor);
            assert_int_equal(tensor->size, 1);
            assert_int_equal(tensor->data[0], i % 251);
        }
    } else if (strstr(file, "ok_2000_keys")) {
        for (int i = 0; i < 2000; i++) {
            int64_t value = -1;
            snprintf(name, sizeof name, "k.%d", i);
            assert_int_equal(gguf_get_int(&c->gguf, name, 0, 1999, &value, NULL), GRAFT_OK);
            assert_int_equal(value, i);
        }
    }
}

static void check_loaded(const struct container *c, const char *file, const json_t *tensors)
{
    size_t found = c->is_gguf ? c->gguf.n_tensors : c->st.n_tensors;
    if (tensors)
        assert_int_equal(found, json_array_size(tensors));
    for (size_t i = 0; i < json_array_size(tensors); i++)
        check_tensor(c, json_array_get(tensors, i));
    check_many(c, file);
}

static void check_file(const json_t *entry)
{
    const char *file = json_string_value(json_object_get(entry, "file"));
    const char *outcome = json_string_value(json_object_get(entry, "outcome"));
    struct container c = {.is_gguf = !strncmp(file, "gguf/", 5)};
    struct failing_allocator counts;
    struct mem mem;
    graft_error error;
    char *text, *path = path_join(NULL, DIRECTORY, file);
    size_t size;
    assert_int_equal(file_read(NULL, path, FILE_LIMIT, &text, &size, &error), GRAFT_OK);
    assert_int_equal(size, json_integer_value(json_object_get(entry, "bytes")));
    uint8_t *exact = malloc(size ? size : 1);
    if (size)
        memcpy(exact, text, size);
    failing_init(&counts, &mem, 0);
    graft_error_init(&error);
    json_largest = 0;
    graft_status status = container_parse(&c, &mem, exact, size, &error);
    if (!strcmp(outcome, "refuse") != (status != GRAFT_OK) && strcmp(outcome, "any"))
        fail_msg("%s: %s, and was %s (%s)", file, outcome, status ? "refused" : "loaded",
                 error.message);
    if (status)
        assert_true(error.message[0] != '\0');
    else
        check_loaded(&c, file, json_object_get(entry, "tensors"));
    if (getenv("GRAFT_SHOW_ERRORS"))
        printf("%-52s %s\n", file, status ? error.message : "loaded");
    assert_true(counts.largest <= REQUEST_FACTOR * size + REQUEST_FLOOR);
    assert_true(json_largest <= REQUEST_FACTOR * size + REQUEST_FLOOR);
    gguf_free(&c.gguf);
    safetensors_free(&c.st);
    assert_int_equal(mem.bytes_in_use, 0);
    free(exact);
    mem_free(NULL, text);
    mem_free(NULL, path);
}

static void every_container_is_refused_or_loaded_as_the_manifest_says(void **state)
{
    json_t *manifest;
    graft_error error;
    (void)state;
    char *path = path_join(NULL, DIRECTORY, "manifest.json");
    assert_int_equal(json_read(NULL, path, FILE_LIMIT, &manifest, &error), GRAFT_OK);
    json_set_alloc_funcs(json_counted, free);
    const json_t *files = json_object_get(manifest, "files");
    assert_true(json_array_size(files) > 200);
    for (size_t i = 0; i < json_array_size(files); i++)
        check_file(json_array_get(files, i));
    json_decref(manifest);
    mem_free(NULL, path);
}

static void stand_ins_for_weights_are_refused_by_their_name(void **state)
{
    static const char *const FILES[][2] = {
        {"safetensors/bad_is_lfs_pointer.safetensors", "a Git-LFS pointer"},
        {"safetensors/bad_is_zip_pickle.safetensors", "a zip archive"},
        {"safetensors/bad_is_html.safetensors", "an HTML or XML page"},
        {"safetensors/bad_is_gguf.safetensors", "a GGUF file"},
        {"safetensors/bad_is_json_without_length.safetensors", "JSON text"},
    };
    (void)state;
    for (size_t i = 0; i < ARRAY_LEN(FILES); i++) {
        struct file_map map;
        struct safetensors st;
        graft_error error;
        char *path = path_join(NULL, DIRECTORY, FILES[i][0]);
        assert_int_equal(file_map_open(&map, NULL, path, MAP_SHARED_FILE, &error), GRAFT_OK);
        assert_int_equal(safetensors_parse(&st, NULL, map.data, map.size, &error),
                         GRAFT_UNSUPPORTED);
        assert_non_null(strstr(error.message, FILES[i][1]));
        file_map_close(&map);
        mem_free(NULL, path);
    }
}

/* The same model in both containers: the same number of values under each name. */
static void a_real_model_opens_from_both_containers(void **state)
{
    struct tensor_set set;
    graft_error error;
    (void)state;
    assert_int_equal(
        tensor_set_open(&set, NULL, GRAFT_SHARED_DIR "/data/models/stories260K", MAP_COPY, &error),
        GRAFT_OK);
    const struct tensor_info *hf = tensor_set_find(&set, "model.layers.4.mlp.down_proj.weight");
    assert_non_null(hf);
    assert_int_equal(hf->n_dims, 2);
    assert_int_equal(hf->shape[0], 64);
    assert_int_equal(hf->shape[1], 172);
    struct tensor_set gguf;
    assert_int_equal(tensor_set_open(&gguf, NULL,
                                     GRAFT_SHARED_DIR "/data/models/stories260K/stories260K.gguf",
                                     MAP_SHARED_FILE, &error),
                     GRAFT_OK);
    assert_non_null(gguf.gguf);
    const struct tensor_info *same = tensor_set_find(&gguf, "blk.4.ffn_down.weight");
    assert_non_null(same);
    assert_int_equal(same->shape[0], 64);
    assert_int_equal(same->shape[1], 172);
    assert_int_equal(same->size, hf->size);
    assert_memory_equal(same->data, hf->data, hf->size);
    tensor_set_close(&gguf);
    tensor_set_close(&set);
}

/* A golden that NumPy wrote, read and written again, is the same file. */
static void an_array_of_numpy_reads_and_writes_back_byte_for_byte(void **state)
{
    char path[] = "/tmp/graft-test-XXXXXX", *golden, *written;
    struct npy_array array;
    graft_error error;
    size_t size, written_size;
    (void)state;
    const char *source = GRAFT_SHARED_DIR "/oracle/goldens/forward/llama+dora.npy";
    if (!path_exists(source))
        skip();
    assert_int_equal(file_read(NULL, source, FILE_LIMIT, &golden, &size, &error), GRAFT_OK);
    assert_int_equal(npy_parse_f32(&array, (const uint8_t *)golden, size, &error), GRAFT_OK);
    float *values = malloc(array.count * sizeof *values);
    memcpy(values, array.data, array.count * sizeof *values);
    close(mkstemp(path));
    assert_int_equal(npy_write_f32(NULL, path, values, array.shape, array.n_dims, &error),
                     GRAFT_OK);
    assert_int_equal(file_read(NULL, path, FILE_LIMIT, &written, &written_size, &error), GRAFT_OK);
    assert_int_equal(written_size, size);
    assert_memory_equal(written, golden, size);
    unlink(path);
    free(values);
    mem_free(NULL, written);
    mem_free(NULL, golden);
}

static void a_vocabulary_without_tensors_opens(void **state)
{
    struct tensor_set set;
    struct gguf_cursor cursor;
    graft_error error;
    const char *text;
    size_t length, count = 0;
    (void)state;
    assert_int_equal(tensor_set_open(&set, NULL,
                                     GRAFT_SHARED_DIR "/data/tokenizers/gguf/ggml-vocab-phi-3.gguf",
                                     MAP_SHARED_FILE, &error),
                     GRAFT_OK);
    assert_int_equal(tensor_set_count(&set), 0);
    assert_true(gguf_strings(gguf_find(set.gguf, "tokenizer.ggml.tokens"), &cursor));
    while (gguf_next_string(&cursor, &text, &length))
        count++;
    assert_int_equal(count, 32064);
    tensor_set_close(&set);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(every_container_is_refused_or_loaded_as_the_manifest_says),
        cmocka_unit_test(stand_ins_for_weights_are_refused_by_their_name),
        cmocka_unit_test(a_real_model_opens_from_both_containers),
        cmocka_unit_test(an_array_of_numpy_reads_and_writes_back_byte_for_byte),
        cmocka_unit_test(a_vocabulary_without_tensors_opens),
    };
    if (!path_is_dir(DIRECTORY)) {
        printf("skipped: %s is absent\n", DIRECTORY);
        return SKIPPED;
    }
    return cmocka_run_group_tests(tests, NULL, NULL);
}
