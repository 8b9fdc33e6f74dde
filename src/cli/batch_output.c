/* batch_output.c: the file of results: opened by one program at a time, continued, appended to.
 *
 * Each result is one write of one line, so that a program which is killed leaves whole lines and at most the beginning of one.
 * That is dropped when the next one goes on. Nothing of the file is touched before all of it was recognised as results of these
 * very requests: a wrong name must not cost anybody a file.
 */
#include "batch.h"

#include <errno.h>
#include <fcntl.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <unistd.h>

static const double SYNC_EVERY = 5; /* seconds: what a loss of power may cost */

static graft_status io_failed(graft_error *error, const char *path)
{
    return error_set(error, GRAFT_IO, "%s: %s", path, strerror(errno));
}

/* ---- opening ---- */

static graft_status open_file(struct batch_output *o, graft_error *error)
{
    struct stat info;
    o->file = open(o->path, O_RDWR | O_CREAT | O_APPEND | O_CLOEXEC | O_NOCTTY, 0666);
    if (o->file < 0 || fstat(o->file, &info) != 0) {
        return io_failed(error, o->path);
    }
    if (!S_ISREG(info.st_mode)) {
        return error_set(error, GRAFT_IO, "%s: results go to a file, so that one can go on",
                         o->path);
    }
    if (flock(o->file, LOCK_EX | LOCK_NB) != 0) {
        return errno == EWOULDBLOCK ? error_set(error, GRAFT_STATE,
                                                "%s: somebody else writes results there", o->path)
                                    : io_failed(error, o->path);
    }
    return GRAFT_OK;
}

/* The line that a result's id names, if it has the result's custom_id; SIZE_MAX: not so. */
static size_t line_by_id(const struct batch_index *index, const json_t *result)
{
    uint8_t key[BATCH_KEY];
    const char *id = json_string_value(json_object_get(result, "id"));
    batch_key_of(result, key);
    if (id == NULL || strncmp(id, BATCH_ID, strlen(BATCH_ID)) != 0) {
        return SIZE_MAX;
    }
    char *end;
    unsigned long long number = strtoull(id + strlen(BATCH_ID), &end, 10);
    bool same = *end == '\0' && number >= 1 && number <= index->n &&
                memcmp(index->lines[number - 1].key, key, BATCH_KEY) == 0;
    return same ? (size_t)number - 1 : SIZE_MAX;
}

/* The line of requests that a result is of, which may have moved since; SIZE_MAX: none. */
static size_t line_of(const struct batch_index *index, const json_t *result)
{
    uint8_t key[BATCH_KEY];
    size_t line = line_by_id(index, result);
    batch_key_of(result, key);
    return line != SIZE_MAX ? line : batch_index_find(index, key);
}

/* What was wrong with a line itself says nothing of the line that is in its place since it was mended. */
static bool is_outdated(const struct batch_index *index, const json_t *result)
{
    const json_t *error = json_object_get(result, "error");
    const char *code = json_string_value(json_object_get(error, "code"));
    bool by_line = code != NULL && (json_is_null(json_object_get(result, "custom_id")) ||
                                    strcmp(code, "duplicate_custom_id") == 0);
    size_t line = line_by_id(index, result);
    return by_line && (line == SIZE_MAX || index->lines[line].state == BATCH_BLANK);
}

static graft_status take_result(const struct batch_lines *lines, const char *path,
                                struct batch_index *index, graft_error *error)
{
    json_t *json = NULL;
    graft_status status = GRAFT_OK;
    if (batch_line_is_blank(lines)) {
        return GRAFT_OK;
    }
    if (!lines->too_long) {
        (void)json_parse(lines->text.data, lines->text.size, &json, NULL);
    }
    bool failed = json_is_object(json_object_get(json, "error"));
    bool good = failed || json_is_object(json_object_get(json, "response"));
    size_t line = good ? line_of(index, json) : SIZE_MAX;
    const char *id = json_string_value(json_object_get(json, "custom_id"));
    if (!good) {
        status = error_set(error, GRAFT_STATE, "%s: line %zu is no result of a batch", path,
                           lines->number);
    } else if (is_outdated(index, json)) {
        status = GRAFT_OK;
    } else if (line == SIZE_MAX || index->lines[line].state == BATCH_BLANK) {
        status =
            error_set(error, GRAFT_STATE,
                      "%s: line %zu is the result of other requests: custom_id %s%.100s%s is not "
                      "among these",
                      path, lines->number, id != NULL ? "\"" : "", id != NULL ? id : "null",
                      id != NULL ? "\"" : "");
    } else if (index->lines[line].state != BATCH_DONE) {
        batch_index_set(index, line, failed ? BATCH_FAILED : BATCH_DONE);
    }
    json_decref(json);
    return status;
}

/* A line without an end: one of ours that was being written, or something else? */
static graft_status check_tail(const struct batch_lines *lines, const char *path,
                               graft_error *error)
{
    static const char begin[] = "{\"id\":\"";
    char ours[sizeof begin + 16];
    int n = snprintf(ours, sizeof ours, "%s%s", begin, BATCH_ID);
    size_t same = lines->text.size < (size_t)n ? lines->text.size : (size_t)n;
    if (memcmp(lines->text.size > 0 ? lines->text.data : "", ours, same) == 0) {
        return GRAFT_OK;
    }
    return error_set(error, GRAFT_STATE, "%s: line %zu is no result of a batch", path,
                     lines->number);
}

/* Marks what has results. *end: where the last whole line ends. */
static graft_status read_results(struct batch_output *o, struct batch_index *index, uint64_t *end,
                                 graft_error *error)
{
    struct batch_lines lines;
    graft_status status = batch_lines_open(&lines, o->file, o->path, BATCH_RESULT_BYTES, error);
    *end = 0;
    while (status == GRAFT_OK && (status = batch_lines_next(&lines, error)) == GRAFT_OK) {
        if (lines.whole) {
            status = take_result(&lines, o->path, index, error);
            *end = lines.after;
        } else {
            status = check_tail(&lines, o->path, error);
        }
    }
    batch_lines_close(&lines);
    return status == GRAFT_END ? GRAFT_OK : status;
}

/* ---- without what failed ---- */

static graft_status copy_done(struct batch_output *o, struct file_writer *to, graft_error *error)
{
    struct batch_lines lines;
    graft_status status = batch_lines_open(&lines, o->file, o->path, BATCH_RESULT_BYTES, error);
    while (status == GRAFT_OK && (status = batch_lines_next(&lines, error)) == GRAFT_OK) {
        json_t *json = NULL;
        if (!batch_line_is_blank(&lines)) {
            status = json_parse(lines.text.data, lines.text.size, &json, error);
        }
        if (status == GRAFT_OK && json_is_object(json_object_get(json, "response"))) {
            status = file_writer_write(to, lines.text.data, lines.text.size, error);
            status = status == GRAFT_OK ? file_writer_write(to, "\n", 1, error) : status;
        }
        json_decref(json);
    }
    batch_lines_close(&lines);
    return status == GRAFT_END ? GRAFT_OK : status;
}

/* A new file takes the place of the old one, which stays locked until the new one is. */
static graft_status drop_failed(struct batch_output *o, struct batch_index *index,
                                graft_error *error)
{
    struct file_writer to = {0};
    int old = o->file;
    graft_status status = file_writer_open(&to, NULL, o->path, error);
    if (status == GRAFT_OK) {
        status = copy_done(o, &to, error);
    }
    if (status == GRAFT_OK) {
        status = file_writer_commit(&to, error);
    }
    file_writer_abort(&to);
    if (status == GRAFT_OK) {
        status = open_file(o, error);
        close(old);
    }
    for (size_t i = 0; i < index->n && status == GRAFT_OK; i++) {
        if (index->lines[i].state == BATCH_FAILED) {
            batch_index_set(index, i, BATCH_OPEN);
        }
    }
    return status;
}

graft_status batch_output_open(struct batch_output *o, const char *path, struct batch_index *index,
                               enum batch_again again, graft_error *error)
{
    uint64_t end = 0;
    *o = (struct batch_output){.file = -1, .path = path, .synced = time_seconds()};
    graft_status status = open_file(o, error);
    if (status == GRAFT_OK && again != BATCH_OVERWRITE) {
        status = read_results(o, index, &end, error);
    }
    if (status == GRAFT_OK && ftruncate(o->file, (off_t)end) != 0) {
        status = io_failed(error, path);
    }
    if (status == GRAFT_OK && again == BATCH_RETRY && index->failed > 0) {
        status = drop_failed(o, index, error);
    }
    if (status != GRAFT_OK && o->file >= 0) {
        close(o->file);
        o->file = -1;
    }
    return status;
}

/* ---- writing ---- */

static graft_status write_all(struct batch_output *o, const char *bytes, size_t size,
                              graft_error *error)
{
    while (size > 0) {
        ssize_t n = write(o->file, bytes, size);
        if (n < 0 && errno != EINTR) {
            return io_failed(error, o->path);
        }
        bytes += n > 0 ? n : 0;
        size -= n > 0 ? (size_t)n : 0;
    }
    return GRAFT_OK;
}

static graft_status sync_file(struct batch_output *o, graft_error *error)
{
    o->synced = time_seconds();
    return fdatasync(o->file) == 0 ? GRAFT_OK : io_failed(error, o->path);
}

static int append_piece(const char *bytes, size_t size, void *line)
{
    return buf_append(line, bytes, size) ? 0 : -1;
}

graft_status batch_output_add(struct batch_output *o, json_t *result, graft_error *error)
{
    struct buf line;
    buf_init(&line, NULL, BATCH_RESULT_BYTES);
    bool whole = result != NULL && json_dump_callback(result, append_piece, &line,
                                                      JSON_COMPACT | JSON_REAL_PRECISION(9)) == 0;
    json_decref(result);
    graft_status status = GRAFT_OK;
    if (!whole || !buf_putc(&line, '\n')) {
        status = error_set(error, GRAFT_NO_MEMORY, "no memory for a result");
    } else {
        status = write_all(o, line.data, line.size, error);
    }
    buf_free(&line);
    if (status == GRAFT_OK && time_seconds() - o->synced > SYNC_EVERY) {
        status = sync_file(o, error);
    }
    return status;
}

graft_status batch_output_close(struct batch_output *o, graft_error *error)
{
    graft_status status = GRAFT_OK;
    if (o->file >= 0) {
        status = sync_file(o, error);
        if (close(o->file) != 0 && status == GRAFT_OK) {
            status = io_failed(error, o->path);
        }
        o->file = -1;
    }
    return status;
}
