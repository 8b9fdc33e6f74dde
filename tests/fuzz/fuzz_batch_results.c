/* fuzz_batch_results.c: hostile files of results beside any file of requests: what is before the first byte 0xff is the requests, what is
 * behind it the results. Opening changes neither; each line is in one state; what begins keeps whole lines only.
 */
#include "cli/batch.h"

#include <fcntl.h>
#include <sys/mman.h>
#include <unistd.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void require(bool condition)
{
    if (!condition) {
        abort();
    }
}

/* A file in memory, and a path of it. */
static int make_file(const uint8_t *data, size_t size, char path[64])
{
    int file = memfd_create("fuzz", MFD_CLOEXEC);
    require(file >= 0 && write(file, data, size) == (ssize_t)size);
    snprintf(path, 64, "/proc/self/fd/%d", file);
    return file;
}

/* A file in a folder of our own, since what begins may put another in its place. */
static void make_results(const uint8_t *data, size_t size, char path[64])
{
    char folder[] = "/tmp/fuzz_batch_results.XXXXXX";
    require(mkdtemp(folder) != NULL);
    snprintf(path, 64, "%s/out", folder);
    int file = open(path, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0600);
    require(file >= 0 && write(file, data, size) == (ssize_t)size);
    close(file);
}

static void remove_results(const char *path)
{
    char folder[64];
    snprintf(folder, sizeof folder, "%.*s", (int)(strrchr(path, '/') - path), path);
    require(unlink(path) == 0 && rmdir(folder) == 0);
}

static bool has_line(const uint8_t *data, size_t size, const uint8_t *line, size_t n)
{
    for (const uint8_t *end = data + size, *at = data, *next; at < end; at = next) {
        next = memchr(at, '\n', (size_t)(end - at));
        next = next != NULL ? next + 1 : end;
        if ((size_t)(next - at) == n && memcmp(at, line, n) == 0) {
            return true;
        }
    }
    return false;
}

/* All that is left in the file are whole lines of `data`; `all`: it is as it was. */
static void check_lines(const char *path, const uint8_t *data, size_t size, bool all)
{
    int file = open(path, O_RDONLY | O_CLOEXEC);
    uint8_t *found = malloc(size + 1);
    ssize_t n = found != NULL ? read(file, found, size + 1) : -1;
    require(n >= 0 && (size_t)n <= size);
    require(!all || ((size_t)n == size && memcmp(found, data, size) == 0));
    for (const uint8_t *end = found + n, *at = found, *next; !all && at < end; at = next) {
        next = memchr(at, '\n', (size_t)(end - at));
        require(next != NULL);
        next++;
        require(has_line(data, size, at, (size_t)(next - at)));
    }
    free(found);
    close(file);
}

static void check_index(const struct batch_index *index)
{
    size_t counts[4] = {0};
    for (size_t i = 0; i < index->n; i++) {
        require(index->lines[i].state <= BATCH_FAILED);
        counts[index->lines[i].state]++;
    }
    require(counts[BATCH_OPEN] == index->open && counts[BATCH_DONE] == index->done &&
            counts[BATCH_FAILED] == index->failed);
}

static void open_twice(struct batch_index *index, const char *path, const uint8_t *data,
                       size_t size)
{
    struct batch_output output;
    graft_error error = {0};
    graft_status status = batch_output_open(&output, path, index, BATCH_GO_ON, &error);
    check_index(index);
    check_lines(path, data, size, true);
    if (status != GRAFT_OK) {
        require(status == GRAFT_STATE && error.status == status && error.message[0] != '\0');
        return;
    }
    require(batch_output_begin(&output, index, &error) == GRAFT_OK);
    require(batch_output_close(&output, &error) == GRAFT_OK);
    check_lines(path, data, size, false);
    status = batch_output_open(&output, path, index, BATCH_RETRY, &error);
    require(status == GRAFT_OK && index->failed == 0);
    check_index(index);
    require(batch_output_close(&output, &error) == GRAFT_OK);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    const uint8_t *mark = size > 0 ? memchr(data, 0xff, size) : NULL;
    size_t n = mark != NULL ? (size_t)(mark - data) : size;
    const uint8_t *results = data + n + (mark != NULL ? 1 : 0);
    size_t n_results = size - (size_t)(results - data);
    char requests_path[64], path[64];
    int requests = make_file(data, n, requests_path);
    make_results(results, n_results, path);
    struct batch_index index;
    graft_error error = {0};
    if (batch_index_read(&index, requests, requests_path, &error) == GRAFT_OK) {
        open_twice(&index, path, results, n_results);
    }
    batch_index_close(&index);
    close(requests);
    remove_results(path);
    return 0;
}
