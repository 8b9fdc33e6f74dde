/* Files of sessions at the command line: which paths are one, which folder is locked while a file is replaced, and that a lock
 * which somebody keeps is not waited for without end. */
#include "cli/kept_file.h"
#include "test_support.h"

#include <fcntl.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <sys/syscall.h>

static struct scratch scratch;
static char folder[160], file[200], link_to_file[200];

/* What the command has of cli/report.c. */
static int ending;
int cli_ending(void)
{
    return ending;
}

int cli_fail(const graft_error *error)
{
    (void)error;
    return CLI_FAILED;
}

/* In place of the C library's: nothing may block in it. */
int flock(int descriptor, int operation)
{
    assert_true((operation & LOCK_NB) != 0);
    return (int)syscall(SYS_flock, descriptor, operation);
}

/* A link in one folder to a file in another. */
static int begin(void **state)
{
    (void)state;
    scratch_open(&scratch);
    snprintf(folder, sizeof folder, "%s/folder", scratch.folder);
    snprintf(file, sizeof file, "%s/session", folder);
    snprintf(link_to_file, sizeof link_to_file, "%s/link", scratch.folder);
    return mkdir(folder, 0777) == 0 && mknod(file, S_IFREG | 0666, 0) == 0 &&
                   symlink("folder/session", link_to_file) == 0
               ? 0
               : -1;
}

static int end(void **state)
{
    (void)state;
    ending = 0;
    unlink(link_to_file);
    unlink(file);
    rmdir(folder);
    return scratch_close(&scratch);
}

/* Whether somebody else could lock the folder now. */
static bool is_free(const char *path)
{
    int other = open(path, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    assert_true(other >= 0);
    bool got = flock(other, LOCK_EX | LOCK_NB) == 0;
    close(other);
    return got;
}

static void the_folder_of_a_file_is_locked(void **state)
{
    (void)state;
    int lock = kept_lock(file);
    assert_true(lock >= 0);
    assert_false(is_free(folder));
    kept_unlock(lock);
    assert_true(is_free(folder));
}

static void behind_a_link_it_is_the_folder_where_the_file_is_replaced(void **state)
{
    (void)state;
    int lock = kept_lock(link_to_file);
    assert_true(lock >= 0);
    assert_false(is_free(folder));
    assert_true(is_free(scratch.folder));
    kept_unlock(lock);
    assert_true(is_free(folder));
}

static void a_lock_that_somebody_keeps_is_gone_on_without(void **state)
{
    (void)state;
    int other = open(folder, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    assert_int_equal(flock(other, LOCK_EX | LOCK_NB), 0);
    ending = 15;
    assert_int_equal(kept_lock(file), -1);
    close(other);
}

static void two_names_of_a_file_are_two_paths_and_a_link_is_none(void **state)
{
    (void)state;
    char second[sizeof folder + 10], around[sizeof folder + 30];
    snprintf(second, sizeof second, "%s/second", folder);
    snprintf(around, sizeof around, "%s/../folder/session", folder);
    assert_int_equal(link(file, second), 0);
    assert_true(kept_one_path(file, file));
    assert_true(kept_one_path(file, around));
    assert_true(kept_one_path(link_to_file, file));
    assert_false(kept_one_path(file, second));
    unlink(second);
    assert_true(kept_one_path(second, second)); /* also where nothing is */
    assert_false(kept_one_path(file, second));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(the_folder_of_a_file_is_locked, begin, end),
        cmocka_unit_test_setup_teardown(behind_a_link_it_is_the_folder_where_the_file_is_replaced,
                                        begin, end),
        cmocka_unit_test_setup_teardown(a_lock_that_somebody_keeps_is_gone_on_without, begin, end),
        cmocka_unit_test_setup_teardown(two_names_of_a_file_are_two_paths_and_a_link_is_none, begin,
                                        end),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
