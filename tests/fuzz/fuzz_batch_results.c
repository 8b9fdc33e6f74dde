/* fuzz_batch_results.c: hostile files of results beside any file of requests: what is before the first byte 0xff is the requests, what is
 * behind it the results. Opening changes neither; each line is in one state; what begins keeps whole lines only.
 */
#include "cli/batch.h"

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

/* The bytes of the file that are those of `data`, all of it. */
static size_t check_beginning(int file, const uint8_t *data, size_t size)
{
    uint8_t *found = malloc(size + 1);
    ssize_t n = found != NULL ? pread(file, found, size + 1, 0) : -1;
    require(n >= 0 && (size_t)n <= size && memcmp(found, data, (size_t)n) == 0);
    free(found);
    return (size_t)n;
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

static void open_twice(struct batch_index *index, int file, const char *path, const uint8_t *data,
                       size_t size)
{
    struct batch_output output;
    graft_error error = {0};
    graft_status status = batch_output_open(&output, path, index, BATCH_GO_ON, &error);
    check_index(index);
    require(check_beginning(file, data, size) == size);
    if (status != GRAFT_OK) {
        require(status == GRAFT_STATE && error.status == status && error.message[0] != '\0');
        return;
    }
    require(batch_output_begin(&output, index, &error) == GRAFT_OK);
    require(batch_output_close(&output, &error) == GRAFT_OK);
    size_t left = check_beginning(file, data, size);
    require(left == 0 || data[left - 1] == '\n');
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
    char requests_path[64], results_path[64];
    int requests = make_file(data, n, requests_path);
    int file = make_file(results, n_results, results_path);
    struct batch_index index;
    graft_error error = {0};
    if (batch_index_read(&index, requests, requests_path, &error) == GRAFT_OK) {
        open_twice(&index, file, results_path, results, n_results);
    }
    batch_index_close(&index);
    close(requests);
    close(file);
    return 0;
}
