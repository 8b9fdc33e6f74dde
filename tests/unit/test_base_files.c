/* Reading files whole and mapped; writing them so that the old one or the new one is there. */
#include "test_support.h"

#include "failing_allocator.h"

#include <fcntl.h>
#include <signal.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/wait.h>

static void put(const char *path, const char *text)
{
    assert_int_equal(file_write_atomic(NULL, path, text, strlen(text), NULL), GRAFT_OK);
}

static void assert_holds(const char *path, const char *text)
{
    char *read;
    size_t size;
    assert_int_equal(file_read(NULL, path, 1 << 20, &read, &size, NULL), GRAFT_OK);
    assert_int_equal(size, strlen(text));
    assert_string_equal(read, text);
    mem_free(NULL, read);
}

static void maps_show_the_bytes_of_a_file(void **state)
{
    (void)state;
    struct scratch s;
    struct mem mem;
    scratch_open(&s);
    mem_init(&mem, NULL);
    const char *path = scratch_path(&s, "file");
    put(path, "some bytes");
    for (int mode = MAP_SHARED_FILE; mode <= MAP_COPY; mode++) {
        struct file_map map;
        assert_int_equal(file_map_open(&map, &mem, path, (enum map_mode)mode, NULL), GRAFT_OK);
        assert_int_equal(map.size, 10);
        assert_memory_equal(map.data, "some bytes", 10);
        assert_int_equal(map.mapped, mode == MAP_SHARED_FILE);
        assert_string_equal(map.path, path);
        file_map_close(&map);
        file_map_close(&map);
    }
    assert_int_equal(atomic_load(&mem.bytes_in_use), 0);
    scratch_close(&s);
}

static void an_empty_file_maps_to_no_bytes(void **state)
{
    (void)state;
    struct scratch s;
    struct file_map map;
    scratch_open(&s);
    put(scratch_path(&s, "empty"), "");
    for (int mode = MAP_SHARED_FILE; mode <= MAP_COPY; mode++) {
        assert_int_equal(file_map_open(&map, NULL, s.path, (enum map_mode)mode, NULL), GRAFT_OK);
        assert_int_equal(map.size, 0);
        assert_non_null(map.data);
        file_map_close(&map);
    }
    scratch_close(&s);
}

static void what_is_no_file_is_refused_by_name(void **state)
{
    (void)state;
    struct scratch s;
    struct file_map map;
    graft_error error;
    char *text;
    size_t size;
    scratch_open(&s);
    const char *absent = scratch_path(&s, "absent");
    assert_int_equal(file_map_open(&map, NULL, absent, MAP_COPY, &error), GRAFT_NOT_FOUND);
    assert_string_equal(error.file, absent);
    assert_non_null(strstr(error.message, "No such file"));
    assert_int_equal(file_read(NULL, absent, 10, &text, &size, &error), GRAFT_NOT_FOUND);
    assert_int_equal(file_map_open(&map, NULL, s.folder, MAP_SHARED_FILE, &error), GRAFT_IO);
    assert_non_null(strstr(error.message, "directory"));
    assert_int_equal(file_read(NULL, s.folder, 10, &text, &size, &error), GRAFT_IO);
    assert_string_equal(error.file, s.folder);
    const char *pipe = scratch_path(&s, "pipe");
    assert_int_equal(mkfifo(pipe, 0600), 0);
    assert_int_equal(file_map_open(&map, NULL, pipe, MAP_SHARED_FILE, &error), GRAFT_IO);
    assert_non_null(strstr(error.message, "no regular file"));
    assert_int_equal(file_read(NULL, pipe, 10, &text, &size, &error), GRAFT_IO); /* at once */
    assert_int_equal(file_write_atomic(NULL, pipe, "x", 1, &error), GRAFT_INVALID_ARGUMENT);
    assert_string_equal(error.file, pipe);
    scratch_close(&s);
}

static void small_files_are_read_up_to_a_limit(void **state)
{
    (void)state;
    struct scratch s;
    graft_error error;
    char *text = NULL;
    size_t size = 0;
    scratch_open(&s);
    const char *path = scratch_path(&s, "file");
    put(path, "12345");
    assert_int_equal(file_read(NULL, path, 5, &text, &size, &error), GRAFT_OK);
    assert_string_equal(text, "12345");
    mem_free(NULL, text);
    assert_int_equal(file_read(NULL, path, 4, &text, &size, &error), GRAFT_LIMIT);
    assert_string_equal(error.file, path);
    assert_int_equal(file_read(NULL, "/proc/self/status", 1 << 20, &text, &size, &error), GRAFT_OK);
    assert_true(size > 100); /* stat says 0 */
    mem_free(NULL, text);
    scratch_close(&s);
}

/* Attributes in /sys say 4096 bytes, hold fewer and cannot be mapped: the one system file with each of the
 * faults that files on broken disks and networks have. */
static void files_that_cannot_be_mapped_or_end_early_are_reported(void **state)
{
    (void)state;
    static const char path[] = "/sys/devices/system/cpu/online";
    struct file_map map;
    struct stat info;
    graft_error error;
    char *text;
    size_t size;
    if (stat(path, &info) != 0 || info.st_size == 0) {
        print_message("skipped: no %s\n", path);
        skip();
    }
    assert_int_equal(file_map_open(&map, NULL, path, MAP_SHARED_FILE, &error), GRAFT_IO);
    assert_non_null(strstr(error.message, "cannot map"));
    assert_string_equal(error.file, path);
    assert_int_equal(file_map_open(&map, NULL, path, MAP_COPY, &error), GRAFT_IO);
    assert_string_equal(error.message, "the file became shorter while it was read");
    assert_int_equal(file_read(NULL, path, 4096, &text, &size, &error), GRAFT_OK);
    assert_int_equal(text[0], '0'); /* "0-1", or "0" */
    mem_free(NULL, text);
}

static void a_read_that_fails_is_reported(void **state)
{
    (void)state;
    static const char path[] = "/proc/self/mem"; /* there is nothing at address 0 */
    graft_error error;
    char *text = NULL;
    size_t size;
    assert_int_equal(file_read(NULL, path, 4096, &text, &size, &error), GRAFT_IO);
    assert_non_null(strstr(error.message, "cannot read"));
    assert_string_equal(error.file, path);
    assert_null(text);
}

static void reading_reports_missing_memory(void **state)
{
    (void)state;
    struct scratch s;
    scratch_open(&s);
    const char *path = scratch_path(&s, "file");
    put(path, "12345");
    for (size_t n = 1; n <= 2; n++) {
        struct failing_allocator failing;
        struct mem mem;
        struct file_map map;
        graft_error error;
        failing_init(&failing, &mem, n);
        assert_int_equal(file_map_open(&map, &mem, path, MAP_COPY, &error), GRAFT_NO_MEMORY);
        assert_string_equal(error.file, path);
        assert_int_equal(atomic_load(&mem.bytes_in_use), 0);
    }
    struct failing_allocator failing;
    struct mem mem;
    char *text;
    size_t size;
    failing_init(&failing, &mem, 1);
    assert_int_equal(file_read(&mem, path, 10, &text, &size, NULL), GRAFT_NO_MEMORY);
    scratch_close(&s);
}

static void a_written_file_appears_whole_at_commit(void **state)
{
    (void)state;
    struct scratch s;
    struct file_writer w;
    graft_error error;
    scratch_open(&s);
    const char *path = scratch_path(&s, "file");
    put(path, "old");
    assert_int_equal(chmod(path, 0640), 0);
    assert_int_equal(file_writer_open(&w, NULL, path, &error), GRAFT_OK);
    assert_int_equal(file_writer_write(&w, "new", 3, &error), GRAFT_OK);
    assert_int_equal(file_writer_pad(&w, 8, &error), GRAFT_OK);
    assert_int_equal(w.written, 8);
    assert_int_equal(file_writer_pad(&w, 8, &error), GRAFT_OK);
    assert_int_equal(file_writer_pad(&w, 4096, &error), GRAFT_OK);
    assert_int_equal(w.written, 4096);
    assert_holds(path, "old");
    assert_int_equal(file_writer_commit(&w, &error), GRAFT_OK);
    file_writer_abort(&w); /* does nothing now */
    struct file_map map;
    struct stat info;
    assert_int_equal(file_map_open(&map, NULL, path, MAP_COPY, &error), GRAFT_OK);
    assert_int_equal(map.size, 4096);
    assert_memory_equal(map.data, "new\0\0\0\0\0", 8);
    file_map_close(&map);
    assert_int_equal(stat(path, &info), 0);
    assert_int_equal(info.st_mode & 07777, 0640);
    assert_int_equal(scratch_close(&s), 1);
}

static void an_aborted_write_leaves_the_old_file_alone(void **state)
{
    (void)state;
    struct scratch s;
    struct file_writer w;
    scratch_open(&s);
    const char *path = scratch_path(&s, "file");
    put(path, "old");
    assert_int_equal(file_writer_open(&w, NULL, path, NULL), GRAFT_OK);
    assert_int_equal(file_writer_write(&w, "new", 3, NULL), GRAFT_OK);
    assert_int_equal(scratch_count(&s), 2);
    file_writer_abort(&w);
    assert_holds(path, "old");
    assert_int_equal(scratch_close(&s), 1);
}

static void a_process_killed_before_the_rename_leaves_the_old_file(void **state)
{
    (void)state;
    struct scratch s;
    scratch_open(&s);
    const char *path = scratch_path(&s, "file");
    put(path, "old");
    pid_t child = fork();
    if (!child) {
        struct file_writer w;
        file_writer_open(&w, NULL, path, NULL);
        file_writer_write(&w, "new", 3, NULL);
        fflush(w.file);
        raise(SIGKILL);
    }
    int status;
    assert_int_equal(waitpid(child, &status, 0), child);
    assert_true(WIFSIGNALED(status));
    assert_holds(path, "old");
    assert_int_equal(scratch_close(&s), 2); /* the temporary file was left behind, beside it */
}

static graft_status write_pieces(const char *path, size_t size, graft_error *error)
{
    static const char bytes[64];
    struct file_writer w;
    graft_status status = file_writer_open(&w, NULL, path, error);
    if (status != GRAFT_OK)
        return status;
    for (size_t i = 0; status == GRAFT_OK && i < size; i += sizeof bytes)
        status = file_writer_write(&w, bytes, sizeof bytes, error);
    if (status == GRAFT_OK)
        return file_writer_commit(&w, error);
    file_writer_abort(&w);
    return status;
}

/* A file size limit stands for the full disk: write fails with EFBIG while SIGXFSZ is ignored. */
static void a_full_disk_leaves_the_old_file_and_no_temporary_one(void **state)
{
    (void)state;
    /* Whole: the write fails. In pieces: one of them. Just above: the flush at commit. */
    static const struct {
        size_t size;
        bool in_pieces;
    } cases[] = {{1 << 16, false}, {1 << 16, true}, {4160, true}};
    static const char bytes[1 << 16];
    for (size_t i = 0; i < ARRAY_LEN(cases); i++) {
        struct scratch s;
        struct rlimit before, small;
        graft_error error = {0};
        scratch_open(&s);
        const char *path = scratch_path(&s, "file");
        put(path, "old");
        assert_int_equal(getrlimit(RLIMIT_FSIZE, &before), 0);
        small = (struct rlimit){4096, before.rlim_max};
        signal(SIGXFSZ, SIG_IGN);
        assert_int_equal(setrlimit(RLIMIT_FSIZE, &small), 0);
        graft_status status = cases[i].in_pieces
                                  ? write_pieces(path, cases[i].size, &error)
                                  : file_write_atomic(NULL, path, bytes, cases[i].size, &error);
        assert_int_equal(setrlimit(RLIMIT_FSIZE, &before), 0);
        signal(SIGXFSZ, SIG_DFL);
        assert_int_equal(status, GRAFT_IO);
        assert_string_equal(error.file, path);
        assert_non_null(strstr(error.message, "too large"));
        assert_holds(path, "old");
        assert_int_equal(scratch_close(&s), 1);
    }
}

static void a_folder_that_vanished_fails_the_commit(void **state)
{
    (void)state;
    struct scratch s;
    struct file_writer w;
    graft_error error;
    scratch_open(&s);
    const char *path = scratch_path(&s, "file");
    assert_int_equal(file_writer_open(&w, NULL, path, NULL), GRAFT_OK);
    assert_int_equal(scratch_close(&s), 1);
    assert_int_equal(file_writer_commit(&w, &error), GRAFT_NOT_FOUND);
    assert_non_null(strstr(error.message, "rename"));
    assert_string_equal(error.file, path);
    assert_int_equal(file_write_atomic(NULL, path, "x", 1, &error), GRAFT_NOT_FOUND);
    assert_non_null(strstr(error.message, "create"));
}

static void writing_reports_missing_memory(void **state)
{
    (void)state;
    struct scratch s;
    scratch_open(&s);
    const char *path = scratch_path(&s, "file");
    put(path, "old");
    for (size_t n = 1;; n++) {
        struct failing_allocator failing;
        struct mem mem;
        failing_init(&failing, &mem, n);
        graft_status status = file_write_atomic(&mem, path, "new", 3, NULL);
        assert_int_equal(atomic_load(&mem.bytes_in_use), 0);
        if (!failing.failed) {
            assert_int_equal(status, GRAFT_OK);
            break;
        }
        assert_int_equal(status, GRAFT_NO_MEMORY);
    }
    assert_holds(path, "new");
    assert_int_equal(scratch_close(&s), 1);
}

static void a_link_stays_a_link_and_its_target_is_replaced(void **state)
{
    (void)state;
    struct scratch s;
    struct stat info;
    scratch_open(&s);
    char *target = strdup(scratch_path(&s, "target")), *link = strdup(scratch_path(&s, "link"));
    put(target, "old");
    assert_int_equal(symlink("target", link), 0);
    assert_int_equal(file_write_atomic(NULL, link, "new", 3, NULL), GRAFT_OK);
    assert_int_equal(lstat(link, &info), 0);
    assert_true(S_ISLNK(info.st_mode));
    assert_holds(target, "new");
    free(target);
    free(link);
    scratch_close(&s);
}

static void a_file_without_folder_is_written_here(void **state)
{
    (void)state;
    struct scratch s;
    char here[4096];
    scratch_open(&s);
    assert_non_null(getcwd(here, sizeof(here)));
    assert_int_equal(chdir(s.folder), 0);
    put("plain", "text");
    assert_holds("plain", "text");
    assert_int_equal(chdir(here), 0);
    assert_int_equal(scratch_close(&s), 1);
}

static void a_temporary_folder_goes_with_its_files_and_follows_no_link(void **state)
{
    (void)state;
    struct scratch s;
    char *folder = NULL, *again = NULL;
    graft_error error;
    scratch_open(&s);
    put(scratch_path(&s, "kept"), "outside");
    assert_int_equal(setenv("TMPDIR", s.folder, 1), 0);
    assert_int_equal(folder_temporary(NULL, "some", &folder, &error), GRAFT_OK);
    assert_int_equal(folder_temporary(NULL, "some", &again, &error), GRAFT_OK);
    assert_string_not_equal(folder, again);
    assert_int_equal(strncmp(folder, scratch_path(&s, "some-"), strlen(s.path)), 0);
    char *link = path_join(NULL, folder, "link"), *file = path_join(NULL, folder, "file");
    assert_int_equal(symlink(s.folder, link), 0);
    put(file, "inside");
    folder_remove(AT_FDCWD, folder);
    assert_false(path_exists(folder));
    assert_holds(scratch_path(&s, "kept"), "outside");
    assert_int_equal(symlink(s.folder, folder), 0); /* a link in a folder's place goes alone */
    folder_remove(AT_FDCWD, folder);
    assert_holds(scratch_path(&s, "kept"), "outside");
    folder_remove(AT_FDCWD, again);
    assert_int_equal(setenv("TMPDIR", scratch_path(&s, "absent"), 1), 0);
    mem_free(NULL, folder);
    folder = NULL;
    assert_int_equal(folder_temporary(NULL, "some", &folder, &error), GRAFT_NOT_FOUND);
    assert_null(folder);
    assert_int_equal(unsetenv("TMPDIR"), 0);
    mem_free(NULL, again);
    mem_free(NULL, link);
    mem_free(NULL, file);
    assert_int_equal(scratch_close(&s), 1);
}

static void paths_join_and_split(void **state)
{
    (void)state;
    static const char *const joins[][3] = {
        {"a", "b", "a/b"}, {"a/", "b", "a/b"}, {"", "b", "b"}, {"/", "b", "/b"}};
    for (size_t i = 0; i < ARRAY_LEN(joins); i++) {
        char *joined = path_join(NULL, joins[i][0], joins[i][1]);
        assert_string_equal(joined, joins[i][2]);
        mem_free(NULL, joined);
    }
    assert_string_equal(path_base("a/b/c.gguf"), "c.gguf");
    assert_string_equal(path_base("c.gguf"), "c.gguf");
    assert_true(path_is_dir("/tmp") && path_exists("/tmp"));
    assert_false(path_is_dir("/proc/self/status"));
    assert_true(path_exists("/proc/self/status"));
    assert_false(path_exists("/no/such/path") || path_is_dir("/no/such/path"));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(maps_show_the_bytes_of_a_file),
        cmocka_unit_test(an_empty_file_maps_to_no_bytes),
        cmocka_unit_test(what_is_no_file_is_refused_by_name),
        cmocka_unit_test(small_files_are_read_up_to_a_limit),
        cmocka_unit_test(files_that_cannot_be_mapped_or_end_early_are_reported),
        cmocka_unit_test(a_read_that_fails_is_reported),
        cmocka_unit_test(reading_reports_missing_memory),
        cmocka_unit_test(a_written_file_appears_whole_at_commit),
        cmocka_unit_test(an_aborted_write_leaves_the_old_file_alone),
        cmocka_unit_test(a_process_killed_before_the_rename_leaves_the_old_file),
        cmocka_unit_test(a_full_disk_leaves_the_old_file_and_no_temporary_one),
        cmocka_unit_test(a_folder_that_vanished_fails_the_commit),
        cmocka_unit_test(writing_reports_missing_memory),
        cmocka_unit_test(a_link_stays_a_link_and_its_target_is_replaced),
        cmocka_unit_test(a_file_without_folder_is_written_here),
        cmocka_unit_test(a_temporary_folder_goes_with_its_files_and_follows_no_link),
        cmocka_unit_test(paths_join_and_split),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
