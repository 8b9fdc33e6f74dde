/* batch_output.c: the file of results: opened by one program at a time, continued, appended to.
 *
 * Each result is one write of one line, so that a program which is killed leaves whole lines and at most the beginning of one.
 * That is dropped when the next one goes on. Nothing of the file is touched before all of it was recognised as results of these
 * very requests, and before somebody can answer them: neither a wrong name nor a missing model must cost anybody a file.
 */
#include "batch.h"

#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <unistd.h>

static const double SYNC_EVERY = 5; /* seconds: what a loss of power may cost */
enum { ATTEMPTS = 100 };            /* to open what others put another file in place of */

static graft_status io_failed(graft_error *error, const char *path)
{
    return error_set(error, GRAFT_IO, "%s: %s", path, strerror(errno));
}

static graft_status no_memory(graft_error *error)
{
    return error_set(error, GRAFT_NO_MEMORY, "no memory for the file of results");
}

/* ---- opening ---- */

static bool is_at(int file, const char *path)
{
    struct stat a, b;
    return fstat(file, &a) == 0 && stat(path, &b) == 0 && a.st_dev == b.st_dev &&
           a.st_ino == b.st_ino;
}

/* o->file is locked then; -1: it was not at its path any more. */
static graft_status try_file(struct batch_output *o, graft_error *error)
{
    const int flags = O_RDWR | O_APPEND | O_CLOEXEC | O_NOCTTY;
    struct stat info;
    o->made = false; /* what an earlier attempt made was replaced */
    o->file = open(o->path, flags);
    if (o->file < 0 && errno == ENOENT) {
        o->file = open(o->path, flags | O_CREAT, 0666);
        o->made = o->file >= 0;
    }
    if (o->file < 0 || fstat(o->file, &info) != 0) {
        return io_failed(error, o->path);
    }
    if (!S_ISREG(info.st_mode)) {
        return error_set(error, GRAFT_IO, "%s: results go to a file, so that one can go on",
                         o->path);
    }
    if (flock(o->file, LOCK_EX | LOCK_NB) != 0) {
        o->made = false; /* as somebody else did at the same moment */
        return errno == EWOULDBLOCK
                   ? error_set(error, GRAFT_BUSY,
                               "%s: another program writes results there: wait for its end, or "
                               "give another file",
                               o->path)
                   : io_failed(error, o->path);
    }
    if (!is_at(o->file, o->path)) { /* somebody put a new one in its place before the lock */
        close(o->file);
        o->file = -1;
    }
    return GRAFT_OK;
}

static graft_status open_file(struct batch_output *o, graft_error *error)
{
    graft_status status = GRAFT_OK;
    o->file = -1;
    for (int i = 0; i < ATTEMPTS && status == GRAFT_OK && o->file < 0; i++) {
        status = try_file(o, error);
    }
    return status == GRAFT_OK && o->file < 0
               ? error_set(error, GRAFT_BUSY, "%s: other programs write results there", o->path)
               : status;
}

/* ---- what is there ---- */

/* The line that a result's id names, if it has the result's custom_id; SIZE_MAX: not so. */
static size_t line_by_id(const struct batch_index *index, const json_t *result,
                         const uint8_t key[BATCH_KEY])
{
    const char *id = json_string_value(json_object_get(result, "id"));
    if (id == NULL || strncmp(id, BATCH_ID, strlen(BATCH_ID)) != 0) {
        return SIZE_MAX;
    }
    char *end;
    unsigned long long number = strtoull(id + strlen(BATCH_ID), &end, 10);
    bool same = *end == '\0' && number >= 1 && number <= index->n &&
                index->lines[number - 1].state != BATCH_BLANK &&
                memcmp(index->lines[number - 1].key, key, BATCH_KEY) == 0;
    return same ? (size_t)number - 1 : SIZE_MAX;
}

/* A line of results. */
struct found {
    bool good, failed;
    bool outdated; /* what was wrong with a line itself says nothing of the one in its place now */
    size_t line;   /* of requests, which may have moved since; SIZE_MAX: none */
};

static struct found find(const struct batch_index *index, const json_t *result)
{
    uint8_t key[BATCH_KEY];
    const json_t *error = json_object_get(result, "error");
    const char *code = json_string_value(json_object_get(error, "code"));
    struct found f = {.failed = json_is_object(error), .line = SIZE_MAX};
    f.good = f.failed || json_is_object(json_object_get(result, "response"));
    if (!f.good) {
        return f;
    }
    batch_key_of(result, key);
    size_t by_id = line_by_id(index, result, key), first = batch_index_find(index, key);
    if (f.failed && json_is_null(json_object_get(result, "custom_id"))) {
        f.line = by_id;
        f.outdated = by_id == SIZE_MAX;
    } else if (code != NULL && strcmp(code, "duplicate_custom_id") == 0) {
        f.line = by_id != first ? by_id : SIZE_MAX;
        f.outdated = f.line == SIZE_MAX;
    } else { /* only the first line with a custom_id is ever asked */
        f.line = first;
    }
    return f;
}

static struct found find_in(const struct batch_index *index, const struct batch_lines *lines)
{
    json_t *json = NULL;
    if (!lines->too_long) {
        (void)json_parse(lines->text.data, lines->text.size, &json, NULL);
    }
    struct found f = find(index, json);
    json_decref(json);
    return f;
}

static graft_status refuse_other(const struct batch_lines *lines, const char *path,
                                 graft_error *error)
{
    json_t *json = NULL;
    (void)json_parse(lines->text.data, lines->text.size, &json, NULL);
    const char *id = json_string_value(json_object_get(json, "custom_id"));
    const char *quote = id != NULL ? "\"" : "";
    graft_status status =
        error_set(error, GRAFT_STATE,
                  "%s: line %zu is the result of other requests: custom_id %s%.100s%s is not among "
                  "these",
                  path, lines->number, quote, id != NULL ? id : "null", quote);
    json_decref(json);
    return status;
}

static graft_status no_result(const struct batch_lines *lines, const char *path, graft_error *error)
{
    return error_set(error, GRAFT_STATE, "%s: line %zu is no result of a batch", path,
                     lines->number);
}

/* The order of what is in the file, and stays. */
static void note_order(struct batch_output *o, size_t line)
{
    o->ordered = o->ordered && line >= o->last;
    o->last = line;
}

/* When writing begins: what failed and is asked again, and what speaks of no line that there is. */
static bool is_dropped(const struct batch_output *o, const struct found *f)
{
    return f->outdated || (f->failed && o->again == BATCH_RETRY);
}

static graft_status take_result(struct batch_output *o, const struct batch_lines *lines,
                                struct batch_index *index, graft_error *error)
{
    if (batch_line_is_blank(lines)) {
        return GRAFT_OK;
    }
    struct found f = find_in(index, lines);
    if (!f.good) {
        return no_result(lines, o->path, error);
    }
    if (f.line == SIZE_MAX && !f.outdated) {
        return refuse_other(lines, o->path, error);
    }
    if (!f.outdated && index->lines[f.line].state != BATCH_DONE) {
        batch_index_set(index, f.line, f.failed ? BATCH_FAILED : BATCH_DONE);
    }
    if (is_dropped(o, &f)) {
        o->drops = true;
    } else {
        note_order(o, f.line);
    }
    return GRAFT_OK;
}

/* A line without an end: one of ours that was being written, or something else? Where a file system lost what was written last, it
 * may leave zeros. */
static graft_status check_tail(const struct batch_lines *lines, const char *path,
                               graft_error *error)
{
    static const char begin[] = "{\"id\":\"";
    char ours[sizeof begin + 16];
    size_t n = (size_t)snprintf(ours, sizeof ours, "%s%s", begin, BATCH_ID);
    size_t size = lines->text.size;
    while (size > 0 && lines->text.data[size - 1] == '\0') {
        size--;
    }
    size_t same = size < n ? size : n;
    return memcmp(size > 0 ? lines->text.data : "", ours, same) == 0
               ? GRAFT_OK
               : no_result(lines, path, error);
}

/* Marks what has results; o->end: where the last whole line ends. */
static graft_status read_results(struct batch_output *o, struct batch_index *index,
                                 graft_error *error)
{
    struct batch_lines lines;
    graft_status status = batch_lines_open(&lines, o->file, o->path, BATCH_RESULT_BYTES, error);
    while (status == GRAFT_OK && (status = batch_lines_next(&lines, error)) == GRAFT_OK) {
        if (lines.whole) {
            status = take_result(o, &lines, index, error);
            o->end = lines.after;
        } else {
            status = check_tail(&lines, o->path, error);
        }
    }
    batch_lines_close(&lines);
    return status == GRAFT_END ? GRAFT_OK : status;
}

/* What failed is to be asked again. */
static void open_failed(struct batch_index *index)
{
    for (size_t i = 0; i < index->n; i++) {
        if (index->lines[i].state == BATCH_FAILED) {
            batch_index_set(index, i, BATCH_OPEN);
        }
    }
}

/* Made for results which never came. Until it was locked another program may have filled it. */
static bool is_for_nothing(const struct batch_output *o)
{
    struct stat info;
    return o->made && !o->begun && fstat(o->file, &info) == 0 && info.st_size == 0 &&
           is_at(o->file, o->path);
}

static void close_file(struct batch_output *o)
{
    if (o->file >= 0 && is_for_nothing(o)) {
        char *real = realpath(o->path, NULL); /* a link stays */
        (void)unlink(real != NULL ? real : o->path);
        free(real); /* from realpath */
    }
    if (o->file >= 0) {
        close(o->file);
    }
    o->file = -1;
}

graft_status batch_output_open(struct batch_output *o, const char *path, struct batch_index *index,
                               enum batch_again again, graft_error *error)
{
    *o = (struct batch_output){
        .file = -1, .path = path, .again = again, .ordered = true, .synced = time_seconds()};
    graft_status status = open_file(o, error);
    if (status == GRAFT_OK && again != BATCH_OVERWRITE) {
        status = read_results(o, index, error);
    }
    if (status == GRAFT_OK && again == BATCH_RETRY) {
        open_failed(index);
    }
    if (status != GRAFT_OK) {
        close_file(o);
    }
    return status;
}

/* ---- another file in its place ---- */

/* Writes what is to be in it. */
typedef graft_status (*copy_fn)(struct batch_output *o, const struct batch_index *index,
                                struct file_writer *to, graft_error *error);

static graft_status write_line(struct file_writer *to, const struct batch_lines *lines,
                               graft_error *error)
{
    graft_status status = file_writer_write(to, lines->text.data, lines->text.size, error);
    return status == GRAFT_OK ? file_writer_write(to, "\n", 1, error) : status;
}

static graft_status copy_kept(struct batch_output *o, const struct batch_index *index,
                              struct file_writer *to, graft_error *error)
{
    struct batch_lines lines;
    graft_status status = batch_lines_open(&lines, o->file, o->path, BATCH_RESULT_BYTES, error);
    while (status == GRAFT_OK && (status = batch_lines_next(&lines, error)) == GRAFT_OK) {
        struct found f = find_in(index, &lines);
        status = f.good && !is_dropped(o, &f) ? write_line(to, &lines, error) : GRAFT_OK;
    }
    batch_lines_close(&lines);
    return status == GRAFT_END ? GRAFT_OK : status;
}

/* A line of the file of results, and the line of requests that it is of. */
struct place {
    uint64_t begin, after;
    size_t line, number;
};

static int compare_places(const void *left, const void *right)
{
    const struct place *a = left, *b = right;
    if (a->line != b->line) {
        return a->line < b->line ? -1 : 1;
    }
    return a->number < b->number ? -1 : a->number > b->number;
}

/* All lines, struct place each. */
static graft_status find_places(struct batch_output *o, const struct batch_index *index,
                                struct buf *places, graft_error *error)
{
    struct batch_lines lines;
    graft_status status = batch_lines_open(&lines, o->file, o->path, BATCH_RESULT_BYTES, error);
    while (status == GRAFT_OK && (status = batch_lines_next(&lines, error)) == GRAFT_OK) {
        struct found f = find_in(index, &lines);
        struct place place = {lines.begin, lines.after, f.line, lines.number};
        if (f.good && !buf_append(places, &place, sizeof place)) {
            status = no_memory(error);
        }
    }
    batch_lines_close(&lines);
    return status == GRAFT_END ? GRAFT_OK : status;
}

static graft_status copy_bytes(struct batch_output *o, const struct place *place,
                               struct file_writer *to, graft_error *error)
{
    char bytes[4096];
    graft_status status = GRAFT_OK;
    for (uint64_t at = place->begin; at < place->after && status == GRAFT_OK;) {
        uint64_t left = place->after - at;
        ssize_t n = pread(o->file, bytes, left < sizeof bytes ? left : sizeof bytes, (off_t)at);
        if (n <= 0) {
            return n == 0 ? error_set(error, GRAFT_IO, "%s: it became shorter", o->path)
                          : io_failed(error, o->path);
        }
        status = file_writer_write(to, bytes, (size_t)n, error);
        at += (uint64_t)n;
    }
    return status;
}

static graft_status copy_ordered(struct batch_output *o, const struct batch_index *index,
                                 struct file_writer *to, graft_error *error)
{
    struct buf places;
    buf_init(&places, NULL, SIZE_MAX);
    graft_status status = find_places(o, index, &places, error);
    size_t n = places.size / sizeof(struct place);
    struct place *each = (struct place *)(void *)places.data;
    if (n > 0) {
        qsort(each, n, sizeof *each, compare_places);
    }
    for (size_t i = 0; i < n && status == GRAFT_OK; i++) {
        status = copy_bytes(o, &each[i], to, error);
    }
    buf_free(&places);
    return status;
}

/* The new file takes the place of the old one, which stays locked until the new one is. */
static graft_status replace(struct batch_output *o, const struct batch_index *index, copy_fn copy,
                            graft_error *error)
{
    struct file_writer to = {0};
    int old = o->file;
    graft_status status = file_writer_open(&to, NULL, o->path, error);
    if (status == GRAFT_OK) {
        status = copy(o, index, &to, error);
    }
    if (status == GRAFT_OK) {
        status = file_writer_commit(&to, error);
    }
    file_writer_abort(&to);
    if (status == GRAFT_OK) {
        status = open_file(o, error);
        close(old);
    }
    return status;
}

graft_status batch_output_begin(struct batch_output *o, const struct batch_index *index,
                                graft_error *error)
{
    o->begun = true;
    if (ftruncate(o->file, (off_t)o->end) != 0) {
        return io_failed(error, o->path);
    }
    return o->drops ? replace(o, index, copy_kept, error) : GRAFT_OK;
}

graft_status batch_output_order(struct batch_output *o, const struct batch_index *index,
                                graft_error *error)
{
    graft_status status = o->ordered ? GRAFT_OK : replace(o, index, copy_ordered, error);
    o->ordered = o->ordered || status == GRAFT_OK;
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

graft_status batch_output_add(struct batch_output *o, size_t line, const char *text, size_t size,
                              graft_error *error)
{
    graft_status status = write_all(o, text, size, error);
    note_order(o, line);
    if (status == GRAFT_OK && time_seconds() - o->synced > SYNC_EVERY) {
        status = sync_file(o, error);
    }
    return status;
}

graft_status batch_output_close(struct batch_output *o, graft_error *error)
{
    graft_status status = GRAFT_OK;
    if (o->file >= 0 && o->begun) {
        status = sync_file(o, error);
        if (close(o->file) != 0 && status == GRAFT_OK) {
            status = io_failed(error, o->path);
        }
        o->file = -1;
    }
    close_file(o);
    return status;
}
