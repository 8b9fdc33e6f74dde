/* test_tensor_set.c: model files and directories as one set of tensors: what is found, in which order,
 * and each way in which a directory can be wrong. The directories are made here.
 */
#include "formats/formats.h"

#include "unit/failing_allocator.h"
#include "unit/spec_bytes.h"

#include <dirent.h>
#include <sys/stat.h>
#include <unistd.h>

static char directory[64];

static int make_directory(void **state)
{
    (void)state;
    memcpy(directory, "/tmp/graft-test-XXXXXX", sizeof "/tmp/graft-test-XXXXXX");
    return mkdtemp(directory) ? 0 : -1;
}

static int remove_directory(void **state)
{
    (void)state;
    DIR *stream = opendir(directory);
    if (!stream)
        return -1;
    for (struct dirent *entry; (entry = readdir(stream));) {
        char *path = path_join(NULL, directory, entry->d_name);
        unlink(path);
        mem_free(NULL, path);
    }
    closedir(stream);
    return rmdir(directory);
}

static void put_file(const char *name, const void *bytes, size_t size)
{
    char *path = path_join(NULL, directory, name);
    assert_int_equal(file_write_atomic(NULL, path, bytes, size, NULL), GRAFT_OK);
    mem_free(NULL, path);
}

static void put_text(const char *name, const char *text)
{
    put_file(name, text, strlen(text));
}

/* A safetensors file of one-byte tensors; names separated by ' ', values counted from `value`. */
static void put_shard(const char *name, const char *tensors, int value)
{
    struct buf header, data, out;
    buf_init(&header, NULL, SIZE_MAX);
    buf_init(&data, NULL, SIZE_MAX);
    buf_init(&out, NULL, SIZE_MAX);
    buf_putc(&header, '{');
    while (*tensors) {
        size_t length = strcspn(tensors, " ");
        int at = (int)data.size;
        buf_printf(&header, "%s\"%.*s\":{\"dtype\":\"U8\",\"shape\":[1],\"data_offsets\":[%d,%d]}",
                   at ? "," : "", (int)length, tensors, at, at + 1);
        buf_putc(&data, (char)(value + at));
        tensors += length + (tensors[length] == ' ');
    }
    buf_putc(&header, '}');
    uint64_t length = header.size;
    buf_append(&out, &length, sizeof length);
    buf_append(&out, header.data, header.size);
    buf_append(&out, data.data, data.size);
    put_file(name, out.data, out.size);
    buf_free(&header);
    buf_free(&data);
    buf_free(&out);
}

static void put_gguf(const char *name, const char *spec)
{
    struct buf out;
    buf_init(&out, NULL, SIZE_MAX);
    spec_append(&out, spec);
    put_file(name, out.data, out.size);
    buf_free(&out);
}

#define GGUF_ONE "raw=GGUF u32=3 u64=1 u64=0 str=g u32=1 u64=1 u32=0 u64=0 pad=32 f32=1"
#define INDEX(map) "{\"metadata\":{\"total_size\":3},\"weight_map\":{" map "}}"
static const char INDEX_FILE[] = "model.safetensors.index.json";

/* Opens `name` in the directory ("": the directory) and expects the refusal. */
static void refused(const char *name, graft_status expected, const char *message, const char *file)
{
    struct tensor_set set;
    struct failing_allocator none;
    struct mem mem;
    graft_error error;
    char *path = *name ? path_join(NULL, directory, name) : mem_strdup(NULL, directory);
    failing_init(&none, &mem, 0);
    graft_error_init(&error);
    graft_status status = tensor_set_open(&set, &mem, path, MAP_SHARED_FILE, &error);
    if (status != expected || !strstr(error.message, message))
        fail_msg("status %d: %s", status, error.message);
    assert_string_equal(path_base(error.file), file ? file : path_base(directory));
    assert_int_equal(mem.bytes_in_use, 0);
    mem_free(NULL, path);
}

static void put_three_shards(void)
{
    put_shard("b.safetensors", "x y", 10);
    put_shard("a.safetensors", "late", 20);
    put_shard("c.safetensors", "z", 30);
    put_text(INDEX_FILE, INDEX("\"x\":\"b.safetensors\",\"y\":\"b.safetensors\","
                               "\"late\":\"a.safetensors\",\"z\":\"c.safetensors\""));
}

static void shards_become_one_set_in_order_of_their_names(void **state)
{
    static const char *const NAMES[] = {"late", "x", "y", "z"};
    static const char *const FILES[] = {"a.safetensors", "b.safetensors", "b.safetensors",
                                        "c.safetensors"};
    static const int VALUES[] = {20, 10, 11, 30};
    (void)state;
    put_three_shards();
    for (int mode = MAP_SHARED_FILE; mode <= MAP_COPY; mode++) {
        struct tensor_set set;
        assert_int_equal(tensor_set_open(&set, NULL, directory, (enum map_mode)mode, NULL),
                         GRAFT_OK);
        assert_int_equal(tensor_set_count(&set), 4);
        assert_int_equal(set.n_maps, 3);
        assert_null(set.gguf);
        for (size_t i = 0; i < 4; i++) {
            const struct tensor_info *tensor = tensor_set_at(&set, i);
            assert_string_equal(tensor->name, NAMES[i]);
            assert_int_equal(tensor->data[0], VALUES[i]);
            assert_string_equal(path_base(tensor_set_file(&set, i)), FILES[i]);
            assert_ptr_equal(tensor_set_find(&set, NAMES[i]), tensor);
        }
        assert_null(tensor_set_at(&set, 4));
        assert_null(tensor_set_file(&set, 4));
        assert_null(tensor_set_find(&set, "w"));
        tensor_set_close(&set);
        assert_int_equal(tensor_set_count(&set), 0);
        tensor_set_close(&set);
    }
}

static void a_single_file_goes_before_an_index(void **state)
{
    struct tensor_set set;
    (void)state;
    put_three_shards();
    put_shard("model.safetensors", "only", 1);
    assert_int_equal(tensor_set_open(&set, NULL, directory, MAP_SHARED_FILE, NULL), GRAFT_OK);
    assert_int_equal(tensor_set_count(&set), 1);
    assert_non_null(tensor_set_find(&set, "only"));
    tensor_set_close(&set);
}

static void files_are_told_apart_by_content(void **state)
{
    struct tensor_set set;
    (void)state;
    put_gguf("model.safetensors", GGUF_ONE);
    assert_int_equal(tensor_set_open(&set, NULL, directory, MAP_SHARED_FILE, NULL), GRAFT_OK);
    assert_non_null(set.gguf);
    assert_int_equal(tensor_set_find(&set, "g")->size, 4);
    assert_string_equal(path_base(tensor_set_file(&set, 0)), "model.safetensors");
    tensor_set_close(&set);
    put_shard("x.gguf", "only", 1);
    char *path = path_join(NULL, directory, "x.gguf");
    assert_int_equal(tensor_set_open(&set, NULL, path, MAP_COPY, NULL), GRAFT_OK);
    assert_non_null(tensor_set_find(&set, "only"));
    tensor_set_close(&set);
    mem_free(NULL, path);
}

static void a_directory_with_one_gguf_opens_it(void **state)
{
    struct tensor_set set;
    (void)state;
    put_gguf("m.gguf", GGUF_ONE);
    put_text("config.json", "{}");
    assert_int_equal(tensor_set_open(&set, NULL, directory, MAP_SHARED_FILE, NULL), GRAFT_OK);
    assert_int_equal(tensor_set_count(&set), 1);
    tensor_set_close(&set);
    put_gguf("a.gguf", GGUF_ONE);
    refused("", GRAFT_INVALID_ARGUMENT, "2 .gguf files, name one of them: a.gguf, m.gguf", NULL);
}

static void long_lists_of_files_are_cut(void **state)
{
    char name[32];
    (void)state;
    for (int i = 0; i < 12; i++) {
        snprintf(name, sizeof name, "%02d.gguf", i);
        put_gguf(name, GGUF_ONE);
    }
    refused("", GRAFT_INVALID_ARGUMENT, "12 .gguf files, name one of them: 00.gguf", NULL);
    refused("", GRAFT_INVALID_ARGUMENT, "05.gguf and 6 more", NULL);
}

static void directories_without_weights_say_what_is_there(void **state)
{
    (void)state;
    refused("", GRAFT_NOT_FOUND, "has no model.safetensors, no model.safetensors.index.json", NULL);
    refused("absent", GRAFT_NOT_FOUND, "no such file", "absent");
    put_text("pytorch_model.bin", "\x80\2");
    refused("", GRAFT_UNSUPPORTED, "pickled weights (pytorch_model.bin)", NULL);
    put_shard("adapter_model.safetensors", "a", 0);
    refused("", GRAFT_NOT_FOUND, "only adapter_model.safetensors: name the file itself", NULL);
    refused("pytorch_model.bin", GRAFT_UNSUPPORTED, "a pickle", "pytorch_model.bin");
}

static void shard_names_that_leave_the_directory_are_refused(void **state)
{
    static const char *const NAMES[] = {
        "../b.safetensors", "/etc/passwd", "sub/b.safetensors", "..", "sub\\\\b.safetensors", "",
        "b\\u0000c"};
    char text[200];
    (void)state;
    for (size_t i = 0; i < ARRAY_LEN(NAMES); i++) {
        snprintf(text, sizeof text, INDEX("\"x\":\"%s\""), NAMES[i]);
        put_text(INDEX_FILE, text);
        refused("", GRAFT_FORMAT, "tensor \"x\": its shard", INDEX_FILE);
    }
    put_text(INDEX_FILE, INDEX("\"x\":7"));
    refused("", GRAFT_FORMAT, "is no plain file name", INDEX_FILE);
}

static void missing_shards_are_named_together(void **state)
{
    (void)state;
    put_three_shards();
    put_text(INDEX_FILE,
             INDEX("\"p\":\"p.safetensors\",\"x\":\"b.safetensors\",\"q\":\"q.safetensors\""));
    refused("", GRAFT_NOT_FOUND, "2 of 3 shards missing: p.safetensors, q.safetensors", INDEX_FILE);
}

static void an_index_that_disagrees_with_its_shards_is_refused(void **state)
{
    (void)state;
    put_three_shards();
    put_text(INDEX_FILE, INDEX("\"x\":\"b.safetensors\",\"late\":\"b.safetensors\""));
    refused("", GRAFT_FORMAT, "tensor \"late\": the index places it in \"b.safetensors\"",
            INDEX_FILE);
    put_shard("c.safetensors", "x", 0);
    put_text(INDEX_FILE, INDEX("\"y\":\"b.safetensors\",\"x\":\"c.safetensors\""));
    refused("", GRAFT_FORMAT, "tensor \"x\": is in \"b.safetensors\" too", "c.safetensors");
}

static void a_broken_shard_is_the_file_that_is_named(void **state)
{
    (void)state;
    put_three_shards();
    put_text("c.safetensors", "version https://git-lfs.github.com/spec/v1\n");
    refused("", GRAFT_UNSUPPORTED, "a Git-LFS pointer", "c.safetensors");
    put_gguf("c.safetensors", GGUF_ONE);
    refused("", GRAFT_UNSUPPORTED, "a GGUF file", "c.safetensors");
}

static void an_index_that_is_no_index_is_refused(void **state)
{
    (void)state;
    put_text(INDEX_FILE, "");
    refused("", GRAFT_FORMAT, "JSON", INDEX_FILE);
    put_text(INDEX_FILE, "{");
    refused("", GRAFT_FORMAT, "JSON", INDEX_FILE);
    put_text(INDEX_FILE, "[]");
    refused("", GRAFT_FORMAT, "weight_map", INDEX_FILE);
    put_text(INDEX_FILE, INDEX(""));
    refused("", GRAFT_FORMAT, "weight_map", INDEX_FILE);
    put_text(INDEX_FILE, "version https://git-lfs.github.com/spec/v1\n");
    refused("", GRAFT_UNSUPPORTED, "a Git-LFS pointer", INDEX_FILE);
}

static void too_many_shards_are_refused(void **state)
{
    struct buf text;
    (void)state;
    buf_init(&text, NULL, SIZE_MAX);
    buf_puts(&text, "{\"weight_map\":{");
    for (int i = 0; i <= 10000; i++)
        buf_printf(&text, "%s\"t%d\":\"s%d\"", i ? "," : "", i, i);
    buf_puts(&text, "}}");
    put_file(INDEX_FILE, text.data, text.size);
    refused("", GRAFT_LIMIT, "10001 shards", INDEX_FILE);
    buf_free(&text);
}

static void a_part_of_a_split_gguf_is_refused(void **state)
{
    (void)state;
    put_gguf("m-00001-of-00003.gguf", "raw=GGUF u32=3 u64=0 u64=1 str=split.count u32=2 u16=3");
    refused("m-00001-of-00003.gguf", GRAFT_UNSUPPORTED, "one of the 3 parts",
            "m-00001-of-00003.gguf");
    put_gguf("m-00001-of-00003.gguf", "raw=GGUF u32=3 u64=0 u64=1 str=split.count u32=8 str=3");
    refused("", GRAFT_FORMAT, "split.count", "m-00001-of-00003.gguf");
}

static void a_directory_that_cannot_be_read_is_an_error(void **state)
{
    (void)state;
    if (!geteuid())
        skip(); /* root reads everything */
    assert_int_equal(chmod(directory, 0), 0);
    refused("", GRAFT_IO, "cannot be read", NULL);
    assert_int_equal(chmod(directory, 0700), 0);
}

/* Runs tensor_set_open with every allocation failing in turn. */
static void open_without_memory(graft_status expected)
{
    for (size_t n = 1;; n++) {
        struct failing_allocator failing;
        struct mem mem;
        struct tensor_set set;
        failing_init(&failing, &mem, n);
        graft_status status = tensor_set_open(&set, &mem, directory, MAP_COPY, NULL);
        assert_int_equal(status, failing.failed ? GRAFT_NO_MEMORY : expected);
        if (!status)
            tensor_set_close(&set);
        assert_int_equal(mem.bytes_in_use, 0);
        if (!failing.failed)
            break;
    }
}

static void opening_without_memory_fails_cleanly_at_every_allocation(void **state)
{
    (void)state;
    open_without_memory(GRAFT_NOT_FOUND);
    put_text("model.bin", "");
    open_without_memory(GRAFT_UNSUPPORTED);
    put_gguf("m.gguf", GGUF_ONE);
    open_without_memory(GRAFT_OK);
    put_text(INDEX_FILE, INDEX("\"x\":\"b.safetensors\",\"y\":\"c.safetensors\""));
    open_without_memory(GRAFT_NOT_FOUND);
    put_three_shards();
    open_without_memory(GRAFT_OK);
    put_shard("model.safetensors", "only", 1);
    open_without_memory(GRAFT_OK);
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, make_directory, remove_directory)

int main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(shards_become_one_set_in_order_of_their_names),
        TEST(a_single_file_goes_before_an_index),
        TEST(files_are_told_apart_by_content),
        TEST(a_directory_with_one_gguf_opens_it),
        TEST(long_lists_of_files_are_cut),
        TEST(directories_without_weights_say_what_is_there),
        TEST(shard_names_that_leave_the_directory_are_refused),
        TEST(missing_shards_are_named_together),
        TEST(an_index_that_disagrees_with_its_shards_is_refused),
        TEST(a_broken_shard_is_the_file_that_is_named),
        TEST(an_index_that_is_no_index_is_refused),
        TEST(too_many_shards_are_refused),
        TEST(a_part_of_a_split_gguf_is_refused),
        TEST(a_directory_that_cannot_be_read_is_an_error),
        TEST(opening_without_memory_fails_cleanly_at_every_allocation),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
